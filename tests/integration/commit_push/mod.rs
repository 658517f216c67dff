//! `imglife git commit-push` on real bare repositories.

use std::collections::BTreeMap;
use std::path::Path;

use super::support::git::Bare;
use super::support::world::{Outcome, World};

pub(crate) mod forges;
mod races;

pub(crate) const REPORT: &str = "<!-- imglife:begin -->\nnew\n<!-- imglife:end -->\n";

pub(crate) fn push(world: &World, paths: &[&str]) -> Outcome {
    world.imglife_with(&[&["git", "commit-push", "-m", "update the report"], paths].concat())
}

/// Returns every file below a directory with its content.
pub(crate) fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.insert(
                path.display().to_string(),
                std::fs::read(&path).expect("a file"),
            );
        }
    }
    files
}

#[test]
fn named_files_alone_become_a_commit_on_the_tip_and_the_checkout_stays_as_it_is() {
    let bare = Bare::with(&[("README.md", "old\n"), ("other", "kept\n")]);
    let world = bare.checkout("");
    let git = "git -c user.name=Ada -c user.email=ada@example.org";
    world
        .shell(&format!(
            "echo local > local && git add local && {git} commit -qm 'not pushed'"
        ))
        .succeeds();
    world
        .shell("echo staged > other && git add other && echo dirty > other && echo stray > stray")
        .succeeds();
    world.shell("echo new > README.md && mkdir -p d/e && echo 1 > d/e/run && chmod +x d/e/run && ln -s ../README.md d/link").succeeds();
    world
        .shell("echo d/ignored > .gitignore && echo 2 > d/ignored")
        .succeeds();
    let before = files(&world.path(""));
    let tip = bare.run(&["rev-parse", "main"]);
    let said = push(
        &world,
        &[
            "README.md",
            "d",
            "--author",
            "Grace <grace@example.org>",
            "--sign-off",
            "--skip-ci",
        ],
    )
    .succeeds();
    assert_eq!(
        said.stdout,
        format!(
            "pushed {} to main\n",
            &bare.run(&["rev-parse", "main"])[..8]
        )
    );
    assert_eq!(
        bare.run(&["log", "--format=%P%n%an <%ae>%n%B", "-1", "main"])
            .lines()
            .collect::<Vec<_>>()[..4],
        [
            tip.trim(),
            "Grace <grace@example.org>",
            "update the report [skip ci]",
            ""
        ]
    );
    assert!(
        bare.run(&[
            "log",
            "--format=%(trailers:key=Signed-off-by)",
            "-1",
            "main"
        ])
        .contains("Signed-off-by: ")
    );
    let changed = bare.run(&["diff-tree", "-r", "--no-commit-id", "main"]);
    let changed: Vec<(&str, &str)> = changed
        .lines()
        .map(|line| (&line[8..14], line.split_once('\t').expect("a path").1))
        .collect();
    assert_eq!(
        changed,
        [
            ("100644", "README.md"),
            ("100755", "d/e/run"),
            ("120000", "d/link")
        ]
    );
    assert_eq!(
        (
            bare.file("other"),
            bare.file("README.md"),
            bare.file("d/link")
        ),
        ("kept\n".into(), "new\n".into(), "../README.md".into())
    );
    assert_eq!(files(&world.path("")), before);
    assert_eq!(
        push(&world, &["README.md", "d"]).succeeds().stdout,
        "nothing to commit\n"
    );
    assert_eq!(bare.commits(), 2);
    // A file that only lost a permission.
    world
        .shell("git fetch -q && git checkout -q --force --detach origin/main && chmod -x d/e/run")
        .succeeds();
    assert!(
        push(&world, &["d/e/run", "--branch", "main"])
            .succeeds()
            .stdout
            .starts_with("pushed ")
    );
    assert!(
        bare.run(&["ls-tree", "main", "d/e/run"])
            .starts_with("100644")
    );
    // Where permissions mean nothing, they stay as they are.
    world.shell("git fetch -q && git checkout -q --force --detach origin/main && chmod +x d/e/run && echo 3 >> d/e/run && git config core.fileMode false").succeeds();
    assert!(
        push(&world, &["d/e/run", "--branch", "main"])
            .succeeds()
            .stdout
            .starts_with("pushed ")
    );
    assert!(
        bare.run(&["ls-tree", "main", "d/e/run"])
            .starts_with("100644")
    );
}

#[test]
fn the_first_commit_of_a_repository_can_be_made() {
    let bare = Bare::empty();
    let world = World::new().file("README.md", REPORT);
    world
        .shell(&format!(
            "git init -q -b main . && git remote add origin {}",
            bare.path().display()
        ))
        .succeeds();
    assert!(
        push(&world, &["README.md"])
            .succeeds()
            .stdout
            .starts_with("pushed ")
    );
    assert_eq!(
        (bare.commits(), bare.file("README.md").as_str()),
        (1, REPORT)
    );
    assert_eq!(
        push(&world, &["README.md"]).succeeds().stdout,
        "nothing to commit\n"
    );
    let said = push(&world, &["--branch", "other", "README.md"]).exits(1);
    assert!(
        said.stderr.contains("the remote has no branch `other`"),
        "{}",
        said.stderr
    );
}

#[test]
fn line_ends_are_stored_as_the_attributes_say() {
    let bare = Bare::with(&[
        (".gitattributes", "*.md text eol=crlf\n"),
        ("README.md", "a\n"),
    ]);
    let world = bare.checkout("").file("README.md", "a\r\nb\r\n");
    assert!(
        push(&world, &["README.md"])
            .succeeds()
            .stdout
            .starts_with("pushed ")
    );
    assert_eq!(bare.file("README.md"), "a\nb\n");
}

#[test]
fn what_cannot_be_committed_is_told_before_anything_is_done() {
    let bare = Bare::with(&[
        ("README.md", "old\n"),
        ("gone", "x\n"),
        (".gitattributes", "*.bin filter=lfs\n"),
    ]);
    let world = bare
        .checkout("")
        .file("a.bin", "x")
        .file("README.md", "new\n");
    world.shell("rm gone; ln -s /etc/passwd link; ln -s ../.. d; mkfifo pipe; mkdir sub && cd sub && git init -q && echo 1 > x").succeeds();
    for (path, words) in [
        ("gone", "`gone` does not exist"),
        ("none/at/all", "does not exist"),
        ("/etc/passwd", "is outside the work tree"),
        ("../x", "is outside the work tree"),
        ("d/x", "is outside the work tree"),
        ("link", "is a symbolic link to a path outside the work tree"),
        ("d", "is a symbolic link to a path outside the work tree"),
        (".git/config", "is inside the .git directory"),
        (".GIT/config", "does not exist"),
        ("pipe", "is not a file, directory or symbolic link"),
        ("sub", "is another git repository"),
        ("a.bin", "uses the filter `lfs`"),
    ] {
        let said = push(&world, &["README.md", path]).exits(2);
        assert!(
            said.stderr.contains(words) && said.stdout.is_empty(),
            "{path}: {}",
            said.stderr
        );
    }
    for (arguments, words) in [
        (["-m", "", "README.md"], "the message is empty"),
        (["-m", "a\u{7}b", "README.md"], "control characters"),
        (
            ["-mx", "--author=A\nB <a@b>", "README.md"],
            "is not an author",
        ),
        (
            ["-mx", "--branch=a..b", "README.md"],
            "is not a valid branch name",
        ),
        (
            ["-mx", "--remote=--upload-pack=touch pwned", "README.md"],
            "is not the URL of a repository",
        ),
        (["-mx", "--merge-request", "README.md"], "works in jobs"),
    ] {
        let said = world
            .imglife_with(&[&["git", "commit-push"], &arguments[..]].concat())
            .exits(2);
        assert!(
            said.stderr.contains(words),
            "{arguments:?}: {}",
            said.stderr
        );
    }
    let said = World::new()
        .file("x", "")
        .imglife(["git", "commit-push", "-m", "x", "x"])
        .exits(1);
    assert!(
        said.stderr.contains("not a git repository"),
        "{}",
        said.stderr
    );
    let nowhere = World::new().file("x", "");
    nowhere.shell("git init -q .").succeeds();
    assert!(
        push(&nowhere, &["x"])
            .exits(2)
            .stderr
            .contains("has no remote `origin`")
    );
    assert_eq!(bare.commits(), 1);
}

#[test]
fn a_persons_edit_stays_around_a_report_between_markers() {
    let old = REPORT.replace("new", "old");
    let bare = Bare::with(&[("README.md", &format!("# Images\n\n{old}"))]);
    let world = bare
        .checkout("")
        .file("README.md", format!("# Images\n\n{REPORT}"));
    bare.edit(&[("README.md", &format!("# Our images\n\n{old}\nAsk us.\n"))]);
    let said = push(&world, &["README.md"]).succeeds();
    assert!(
        said.stdout.starts_with("README.md: changed on the branch in the meantime; only the report between the markers was replaced\npushed ")
    );
    assert_eq!(
        bare.file("README.md"),
        format!("# Our images\n\n{REPORT}\nAsk us.\n")
    );
    assert_eq!(
        push(&world, &["README.md"]).succeeds().stdout,
        "nothing to commit\n"
    );
}

#[test]
fn a_report_goes_into_a_file_that_came_into_being_meanwhile() {
    let bare = Bare::with(&[("other", "x\n")]);
    let world = bare.checkout("").file("README.md", REPORT);
    bare.edit(&[("README.md", "# By hand\n")]);
    push(&world, &["README.md"]).succeeds();
    assert_eq!(bare.file("README.md"), format!("# By hand\n\n{REPORT}"));
}

#[test]
fn a_persons_edit_of_a_whole_file_is_not_overwritten() {
    let bare = Bare::with(&[("eol-data.yaml", "old\n"), ("README.md", "x\n")]);
    let world = bare
        .checkout("")
        .file("eol-data.yaml", "ours\n")
        .file("README.md", "ours\n");
    bare.edit(&[("eol-data.yaml", "theirs\n")]);
    let said = push(&world, &["README.md", "eol-data.yaml"]).exits(1);
    assert!(
        said.stderr
            .contains("eol-data.yaml changed on main since the checkout, so nothing was pushed"),
        "{}",
        said.stderr
    );
    assert_eq!(
        (
            bare.file("eol-data.yaml").as_str(),
            bare.file("README.md").as_str(),
            bare.commits()
        ),
        ("theirs\n", "x\n", 2)
    );
    // Removed by somebody: neither restored nor taken for nothing.
    let person = bare.checkout("");
    person.shell("git rm -q eol-data.yaml && git -c user.name=P -c user.email=p@q commit -qm rm && git push -q").succeeds();
    push(&world, &["eol-data.yaml"]).exits(1);
    // What would have to take the place of a directory.
    bare.edit(&[("d/x", "1\n")]);
    let world = world.file("d", "a file\n");
    assert!(
        push(&world, &["d"])
            .exits(1)
            .stderr
            .contains("d changed on main")
    );
    assert_eq!(bare.file("d/x"), "1\n");
}

#[test]
fn what_was_not_changed_here_does_not_undo_what_others_did() {
    let bare = Bare::with(&[("eol-data.yaml", "old\n"), ("README.md", "old\n")]);
    let world = bare.checkout("--depth=1").file("README.md", "new\n");
    bare.edit(&[("eol-data.yaml", "newer\n")]);
    let said = push(&world, &["eol-data.yaml", "README.md"]).succeeds();
    assert!(
        said.stdout.starts_with(
            "eol-data.yaml: not changed here; the branch has a newer version\npushed "
        ),
        "{}",
        said.stdout
    );
    assert_eq!(
        (
            bare.file("eol-data.yaml").as_str(),
            bare.file("README.md").as_str()
        ),
        ("newer\n", "new\n")
    );
}

#[test]
fn what_is_committed_again_from_the_same_checkout_is_committed() {
    let bare = Bare::with(&[("README.md", "old\n")]);
    let world = bare.checkout("");
    for text in ["one\n", "two\n"] {
        let world = &world;
        std::fs::write(world.path("data.yaml"), text).expect("a written file");
        let said = push(world, &["data.yaml"]).succeeds().stdout;
        assert!(said.starts_with("pushed "), "{said}");
        assert_eq!(bare.file("data.yaml"), text);
    }
}

#[test]
fn a_newer_commit_of_imglife_supersedes_an_older_run() {
    let old = REPORT.replace("new", "old");
    let bare = Bare::with(&[("eol-data.yaml", "old\n"), ("README.md", &old)]);
    let late = bare
        .checkout("")
        .file("eol-data.yaml", "late\n")
        .file("README.md", REPORT.replace("new", "late"));
    let same = bare
        .checkout("")
        .file("README.md", REPORT.replace("new", "same"));
    bare.edit(&[("imglife.yaml", "changed\n")]);
    let newer = bare
        .checkout("")
        .file("eol-data.yaml", "newer\n")
        .file("README.md", REPORT.replace("new", "newer"));
    push(&newer, &["README.md", "eol-data.yaml"]).succeeds();
    let said = push(&late, &["eol-data.yaml", "README.md"]).succeeds();
    assert_eq!(
        said.stdout,
        "README.md: superseded by a newer imglife commit\neol-data.yaml: superseded by a newer imglife commit\nsuperseded, nothing to commit\n"
    );
    assert_eq!(
        (bare.file("eol-data.yaml").as_str(), bare.file("README.md")),
        ("newer\n", REPORT.replace("new", "newer"))
    );
    // Also when a person edited around it after that.
    bare.edit(&[(
        "README.md",
        &format!("# Title\n{}", REPORT.replace("new", "newer")),
    )]);
    assert_eq!(
        push(&same, &["README.md"]).succeeds().stdout.lines().last(),
        Some("superseded, nothing to commit")
    );
    // But one made from the same commit is only older.
    let first = bare
        .checkout("")
        .file("README.md", REPORT.replace("new", "first"));
    let second = bare
        .checkout("")
        .file("README.md", REPORT.replace("new", "second"));
    push(&first, &["README.md"]).succeeds();
    push(&second, &["README.md"]).succeeds();
    assert_eq!(bare.file("README.md"), REPORT.replace("new", "second"));
}

#[test]
fn a_refusal_says_why_and_what_to_allow() {
    let bare = Bare::with(&[("README.md", "old\n")]);
    let world = bare.checkout("").file("README.md", "new\n");
    bare.hook(
        "pre-receive",
        "printf 'ticket\\033[31m missing\\n::error::x\\n' >&2; exit 1",
    );
    let said = push(&world, &["README.md"]).exits(1);
    assert!(
        said.stderr
            .contains(r"team/base.git: ticket\u{1b}[31m missing; ::error::x"),
        "{}",
        said.stderr
    );
    assert!(
        said.stderr
            .contains("check the push rules, hooks and branch protection of the server")
            && !said.stderr.contains('\u{1b}'),
        "{}",
        said.stderr
    );
    bare.hook("pre-receive", "echo 'GitLab: You are not allowed to push code to protected branches on this project.' >&2; exit 1");
    let said = push(&world, &["README.md"]).exits(1);
    assert!(
        said.stderr
            .contains("not allowed to push code to protected branches")
            && said.stderr.contains("--merge-request"),
        "{}",
        said.stderr
    );
    assert_eq!((bare.commits(), said.stdout.as_str()), (1, ""));
}

#[test]
fn hooks_of_the_machine_are_not_run() {
    let bare = Bare::with(&[("README.md", "old\n")]);
    let world = bare
        .checkout("")
        .file("README.md", "new\n")
        .file("hooks/pre-push", "#!/bin/sh\ntouch ran\nexit 1\n");
    world.shell("chmod +x hooks/pre-push; git config --global core.hooksPath $PWD/hooks; git config core.hooksPath $PWD/hooks").succeeds();
    push(&world, &["README.md"]).succeeds();
    assert!(!world.path("ran").exists());
}
