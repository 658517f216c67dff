//! Several at once.

use super::*;

#[test]
fn of_two_that_push_at_the_same_time_neither_loses_anything() {
    let old = REPORT.replace("new", "old");
    let bare = Bare::with(&[("README.md", &old), ("eol-data.yaml", "old\n")]);
    let worlds = [bare.checkout("--depth=1"), bare.checkout("")];
    for round in 1..=10 {
        let texts = [
            ("README.md", REPORT.replace("new", &round.to_string())),
            ("eol-data.yaml", format!("{round}\n")),
        ];
        let running: Vec<_> = worlds
            .iter()
            .zip(&texts)
            .map(|(world, (path, text))| {
                std::fs::write(world.path(path), text).expect("a file");
                world.start_imglife([
                    "git",
                    "commit-push",
                    "-m",
                    "update",
                    "--branch",
                    "main",
                    path,
                ])
            })
            .collect();
        for running in running {
            assert!(
                running.wait().succeeds().stdout.contains("pushed "),
                "round {round}"
            );
        }
        for (path, text) in &texts {
            assert_eq!(bare.file(path), *text, "round {round}");
        }
        assert_eq!(bare.commits(), 1 + 2 * round);
        for world in &worlds {
            world.shell("git checkout -q --force --detach && git fetch -q origin main && git checkout -q --detach FETCH_HEAD").succeeds();
        }
    }
    // One parent each: nobody's commit was merged or dropped.
    assert_eq!(bare.run(&["rev-list", "--min-parents=2", "main"]), "");
    bare.run(&["fsck", "--strict"]);
}

#[test]
fn who_is_always_overtaken_gives_up() {
    let bare = Bare::with(&[("README.md", "old\n")]);
    let world = bare.checkout("").file("README.md", "new\n");
    // The branch moves whenever somebody is about to push to it.
    bare.hook(
        "pre-receive",
        "unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES; export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b\n\
         git update-ref refs/heads/main $(git commit-tree -p main -m meanwhile 'main^{tree}')",
    );
    let said = push(&world, &["README.md"]).exits(1);
    assert!(
        said.stderr
            .contains("the push to `main` failed 5 times because another push came first"),
        "{}",
        said.stderr
    );
    assert_eq!(
        (bare.file("README.md").as_str(), bare.commits()),
        ("old\n", 6)
    );
}
