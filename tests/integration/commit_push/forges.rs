//! In jobs of GitLab and Gitea: addresses, branches, tokens, merge requests.

use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;

use super::super::support::fake_server::FakeServer;
use super::super::support::gitea::{self, Gitea};
use super::super::support::gitlab::{self, DEVELOPER, Gitlab, JOB};
use super::super::support::internet::Internet;
use super::*;

/// A `git` in front of the real one that writes down how it is called.
const RECORDER: &str =
    "tr '\\0' ' ' < /proc/$$/cmdline >> $HOME/calls; echo >> $HOME/calls; exec /usr/bin/git \"$@\"";

/// Returns a server of GitLab's that has the repository too, for who presents one of `logins`.
pub(crate) fn gitlab(bare: &Bare, logins: &[&str]) -> Gitlab {
    let (root, logins) = (
        bare.root().to_owned(),
        logins.iter().map(ToString::to_string).collect::<Vec<_>>(),
    );
    Gitlab::start_with(gitlab::Rules::default(), move |received| {
        received
            .path
            .starts_with("/team/")
            .then(|| Bare::answer(&root, &logins, received))
    })
}

/// Returns a world as a job of GitLab's sees it.
pub(crate) fn gitlab_job(url: &str, branch: &str) -> World {
    let host = url
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .split(':')
        .collect::<Vec<_>>();
    World::new()
        .variable("CI", "true")
        .variable("GITLAB_CI", "true")
        .variable("CI_SERVER_URL", url.trim_end_matches('/'))
        .variable("CI_SERVER_HOST", host[0])
        .variable("CI_SERVER_PORT", host[1])
        .variable("CI_PROJECT_PATH", "team/base")
        .variable("CI_PROJECT_ID", "42")
        .variable("CI_COMMIT_BRANCH", branch)
        .variable("CI_DEFAULT_BRANCH", "main")
        .variable("GITLAB_USER_NAME", "Ada Lovelace")
        .variable("GITLAB_USER_EMAIL", "ada@example.org")
}

/// Fails the test when a secret is anywhere that `world` could write to, or in what was said.
fn assert_hidden(world: &World, said: &Outcome, secret: &str) {
    use base64::Engine as _;
    let encoded =
        base64::engine::general_purpose::STANDARD.encode(format!("gitlab-ci-token:{secret}"));
    let encoded = [
        secret.to_owned(),
        encoded,
        base64::engine::general_purpose::STANDARD.encode(format!("oauth2:{secret}")),
    ];
    for secret in &encoded {
        for text in [&said.stdout, &said.stderr] {
            assert!(!text.contains(secret.as_str()), "{text}");
        }
        for (path, content) in files(&world.path(""))
            .into_iter()
            .chain(files(&world.home()))
        {
            assert!(
                !String::from_utf8_lossy(&content).contains(secret.as_str()),
                "{path}"
            );
        }
    }
}

#[test]
fn a_job_pushes_from_its_shallow_detached_checkout_of_another_owner_and_shows_its_token_nowhere() {
    for (variable, token, user) in [
        ("CI_JOB_TOKEN", JOB, "gitlab-ci-token"),
        ("GITLAB_TOKEN", DEVELOPER, "oauth2"),
    ] {
        let bare = Bare::with(&[("README.md", "old\n")]);
        bare.edit(&[("more", "x\n")]);
        let gitlab = gitlab(&bare, &[&format!("{user}:{token}")]);
        let world = gitlab_job(gitlab.url().as_str(), "main");
        let world = world
            .variable(variable, token)
            .program("git", RECORDER)
            .variable("GIT_TRACE_CURL", "1")
            .variable("GIT_TRACE", "1");
        let world = bare
            .checkout_in(world, "--depth=1")
            .file("README.md", "new\n");
        // As `actions/checkout` and runners leave it.
        let stored = format!("http.{}.extraheader", gitlab.url());
        world.shell(&format!("git checkout -q --detach; git config '{stored}' 'Authorization: Basic c3RvcmVkOng='")).succeeds();
        world
            .shell("git remote set-url origin https://nowhere.invalid/x.git; git config --global credential.helper '!touch asked;:'")
            .succeeds();
        let before = files(&world.path(""));
        let world = world
            .variable("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
            .variable("GIT_DIR", "/nowhere")
            .variable("GIT_INDEX_FILE", "/nowhere");
        let said = world
            .imglife([
                "--log-level",
                "trace",
                "git",
                "commit-push",
                "-m",
                "update",
                "README.md",
            ])
            .succeeds();
        assert_eq!(
            said.stdout,
            format!(
                "pushed {} to main\n",
                &bare.run(&["rev-parse", "main"])[..8]
            )
        );
        assert_eq!(
            bare.run(&["log", "--format=%an <%ae>, %cn", "-1", "main"]),
            "Ada Lovelace <ada@example.org>, Ada Lovelace\n"
        );
        assert_eq!(
            (bare.file("README.md").as_str(), bare.file("more").as_str()),
            ("new\n", "x\n")
        );
        assert!(
            std::fs::read_to_string(world.home().join("calls"))
                .expect("calls")
                .contains(" push --porcelain")
        );
        assert_hidden(&world, &said, token);
        assert_eq!(files(&world.path("")), before);
    }
}

#[test]
fn an_address_that_the_runner_rewrites_brings_no_login_into_the_list_of_processes() {
    let bare = Bare::with(&[("README.md", "old\n")]);
    let gitlab = gitlab(&bare, &[&format!("oauth2:{DEVELOPER}")]);
    let world = gitlab_job(gitlab.url().as_str(), "main").variable("GITLAB_TOKEN", DEVELOPER);
    let trace = world.home().join("trace");
    let tracing = format!("GIT_TRACE='{}' exec /usr/bin/git \"$@\"", trace.display());
    let world = bare
        .checkout_in(world, "")
        .file("README.md", "new\n")
        .program("git", &tracing);
    // As GitLab's runner leaves it.
    let address = gitlab
        .url()
        .as_str()
        .replace("http://", "http://gitlab-ci-token:runners-own@");
    world
        .shell(&format!(
            "git config 'url.{address}.insteadOf' '{}'",
            gitlab.url()
        ))
        .succeeds();
    push(&world, &["README.md"]).succeeds();
    let traced = std::fs::read_to_string(trace).expect("what git traced");
    let helpers: Vec<&str> = traced
        .lines()
        .filter(|line| line.contains("run_command: ") && line.contains("remote-http"))
        .collect();
    assert!(
        !helpers.is_empty() && helpers.iter().all(|line| !line.contains("runners-own")),
        "{traced}"
    );
}

#[test]
fn a_token_that_is_refused_is_not_shown_and_told_how_to_mend() {
    let bare = Bare::with(&[("README.md", "old\n")]);
    let gitlab = gitlab(&bare, &["oauth2:another"]);
    for (variable, words) in [
        ("CI_JOB_TOKEN", "Allow Git push requests"),
        ("GITLAB_TOKEN", "mistyped, expired or revoked"),
        ("X", "set GITLAB_TOKEN"),
    ] {
        let world = bare
            .checkout_in(
                gitlab_job(gitlab.url().as_str(), "main").variable(variable, "hunter2"),
                "",
            )
            .file("README.md", "new\n");
        let said = push(&world, &["README.md"]).exits(1);
        assert!(
            said.stderr.contains(words) && !said.stderr.contains("hunter2"),
            "{}",
            said.stderr
        );
    }
    // A job's token may fetch where it may not push.
    let root = bare.root().to_owned();
    let gitlab = Gitlab::start_with(gitlab::Rules::default(), move |received| {
        if received.path.contains("receive-pack") {
            return Some(
                (StatusCode::FORBIDDEN, "You are not allowed to upload code.").into_response(),
            );
        }
        received
            .path
            .starts_with("/team/")
            .then(|| Bare::answer(&root, &[format!("gitlab-ci-token:{JOB}")], received))
    });
    let world = bare
        .checkout_in(
            gitlab_job(gitlab.url().as_str(), "main").variable("CI_JOB_TOKEN", JOB),
            "",
        )
        .file("README.md", "new\n");
    let said = push(&world, &["README.md"]).exits(1);
    assert!(
        said.stderr.contains("You are not allowed to upload code.")
            && said.stderr.contains("GitLab 18.4"),
        "{}",
        said.stderr
    );
}

#[test]
fn a_token_goes_neither_to_another_host_nor_after_a_redirect() {
    let other = FakeServer::start(|_| StatusCode::NOT_FOUND.into_response());
    let elsewhere = other.host();
    let leading = FakeServer::start(move |received| {
        (
            StatusCode::FOUND,
            [(
                header::LOCATION,
                format!("http://{elsewhere}{}", received.path),
            )],
        )
            .into_response()
    });
    let bare = Bare::with(&[("README.md", "old\n")]);
    let url = format!("http://{}", leading.host());
    let world = bare
        .checkout_in(
            gitlab_job(&url, "main").variable("GITLAB_TOKEN", DEVELOPER),
            "",
        )
        .file("README.md", "new\n");
    push(&world, &["README.md"]).exits(1);
    assert!(
        leading.requests()[0].headers.contains_key("authorization") && other.requests().is_empty()
    );
    push(
        &world,
        &[
            "README.md",
            "--remote",
            &format!("http://{}/team/base.git", other.host()),
        ],
    )
    .exits(1);
    assert!(
        !other.requests().is_empty()
            && other
                .requests()
                .iter()
                .all(|received| !received.headers.contains_key("authorization"))
    );
}

/// A server whose certificate is of an authority that only the company knows.
#[test]
fn over_https_the_authority_that_is_named_is_trusted_and_no_other_is_needed() {
    let bare = Bare::with(&[("README.md", "old\n")]);
    let gitlab = gitlab(&bare, &[&format!("oauth2:{DEVELOPER}")]);
    let internet = Internet::start(vec![("git.example.com", gitlab.server.host())]);
    let job = |text: &str| {
        let world = internet
            .reach(gitlab_job("http://git.example.com:443", "main"))
            .variable("GITLAB_TOKEN", DEVELOPER);
        let world = world
            .variable("CI_SERVER_URL", "https://git.example.com")
            .variable("CI_SERVER_PROTOCOL", "https");
        bare.checkout_in(world, "--depth=1").file("README.md", text)
    };
    let refused = push(&job("nobody's\n"), &["README.md"]).exits(1);
    assert!(
        refused.stderr.contains("certificate") && !refused.stderr.contains(DEVELOPER),
        "{}",
        refused.stderr
    );
    // As GitLab's runner names it, and as the configuration does, for a merge request too.
    let by_the_job = job("the job's\n").variable("CI_SERVER_TLS_CA_FILE", internet.ca_file());
    push(&by_the_job, &["README.md"]).succeeds();
    assert_eq!(bare.file("README.md"), "the job's\n");
    let hosts = format!(
        "hosts: {{ git.example.com: {{ ca_file: '{}' }} }}\n",
        internet.ca_file().display()
    );
    let configured = job("the configuration's\n").file("imglife.yaml", hosts);
    push(&configured, &["README.md"]).succeeds();
    assert_eq!(bare.file("README.md"), "the configuration's\n");
    let proposed = push(
        &configured.file("README.md", "proposed\n"),
        &["--merge-request", "README.md"],
    )
    .succeeds();
    assert!(
        proposed.stdout.contains("opened a merge request: "),
        "{}",
        proposed.stdout
    );
}

/// Ssh is git's own affair: its program is asked for the two services, and for nothing that a
/// person would have to type.
#[test]
fn over_ssh_git_pushes_by_the_program_and_the_keys_that_the_user_has() {
    let bare = Bare::with(&[("README.md", "old\n")]);
    // What a server would run.
    let line = "echo \"$@\" >> $HOME/asked; for last; do :; done; eval \"exec $last\"";
    let world = World::new()
        .program("ssh", line)
        .variable("GIT_SSH_VARIANT", "ssh");
    let world = bare
        .checkout_in(world, "--depth=1")
        .file("README.md", "new\n");
    let path = bare.path().display().to_string();
    world
        .shell(&format!(
            "git remote set-url origin 'ssh://git@git.example.com:2222{path}'"
        ))
        .succeeds();
    push(&world, &["README.md"]).succeeds();
    assert_eq!(bare.file("README.md"), "new\n");
    let received =
        std::fs::read_to_string(world.home().join("asked")).expect("what ssh was asked for");
    let mut services: Vec<&str> = received
        .lines()
        .filter_map(|line| line.split("git@git.example.com ").nth(1))
        .collect();
    services.dedup();
    assert_eq!(
        services,
        [
            format!("git-upload-pack '{path}'"),
            format!("git-receive-pack '{path}'")
        ],
        "{received}"
    );
    assert!(
        received.lines().all(|line| line.contains("-p 2222")),
        "{received}"
    );
}

#[test]
fn a_login_within_the_address_is_used_and_not_shown() {
    let bare = Bare::with(&[("README.md", "old\n")]);
    let gitlab = gitlab(&bare, &["oauth2:s3cret-w0rd"]);
    let world = bare
        .checkout_in(World::new().program("git", RECORDER), "")
        .file("README.md", "new\n");
    let address = gitlab
        .url()
        .as_str()
        .replace("http://", "http://oauth2:s3cret-w0rd@");
    let said = world.imglife_with(&[
        "--log-level",
        "trace",
        "git",
        "commit-push",
        "-mx",
        "--remote",
        &format!("{address}team/base.git"),
        "README.md",
    ]);
    assert_hidden(&world, &said.succeeds(), "s3cret-w0rd");
    assert_eq!(bare.file("README.md"), "new\n");
}

#[test]
fn the_default_branch_is_not_pushed_to_from_other_pipelines() {
    let bare = Bare::with(&[("README.md", "old\n")]);
    bare.run(&["branch", "feature", "main"]);
    let url = format!("file://{}", bare.root().display());
    let job = |branch: &str| {
        let world = World::new()
            .variable("CI_SERVER_URL", url.as_str())
            .variable("CI_PROJECT_PATH", "team/base");
        bare.checkout_in(world.variable("CI_COMMIT_BRANCH", branch), "")
            .file("README.md", "new\n")
    };
    assert!(
        push(&job(""), &["README.md"])
            .exits(2)
            .stderr
            .contains("this pipeline does not run for a branch")
    );
    for branch in ["feature", ""] {
        let said = push(&job(branch), &["--branch", "main", "README.md"]).exits(2);
        assert!(
            said.stderr.contains(
                "this pipeline does not run for the default branch `main`, so it must not push to that branch"
            ),
            "{}",
            said.stderr
        );
    }
    assert!(
        push(&job("feature"), &["README.md"])
            .succeeds()
            .stdout
            .ends_with("to feature\n")
    );
    assert_eq!(bare.commits(), 1);
    push(&job("main"), &["README.md"]).succeeds();
    assert_eq!(bare.commits(), 2);
}

#[test]
fn a_merge_request_is_opened_once_and_kept_up_to_date() {
    let bare = Bare::with(&[("README.md", "old\n")]);
    bare.hook(
        "update",
        "test \"$1\" != refs/heads/main || { echo 'GitLab: protected branch' >&2; exit 1; }",
    );
    let gitlab = gitlab(
        &bare,
        &[
            &format!("oauth2:{DEVELOPER}"),
            &format!("gitlab-ci-token:{JOB}"),
        ],
    );
    let job = || gitlab_job(gitlab.url().as_str(), "main");
    let world = bare
        .checkout_in(job().variable("GITLAB_TOKEN", DEVELOPER), "--depth=1")
        .file("README.md", "new\n");
    let said = push(&world, &["--merge-request", "--skip-ci", "README.md"]).succeeds();
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert!(
        lines[0].starts_with("pushed ") && lines[0].contains(" to imglife/main-readme-md-"),
        "{}",
        said.stdout
    );
    assert_eq!(
        lines[1],
        "opened a merge request: https://gitlab.example/team/base/-/merge_requests/1"
    );
    let open = gitlab.merge_requests();
    assert_eq!(
        (open[0]["title"].as_str(), open[0]["target_branch"].as_str()),
        (Some("update the report"), Some("main"))
    );
    let side = open[0]["source_branch"]
        .as_str()
        .expect("a branch")
        .to_owned();
    let again = push(&world, &["--merge-request", "README.md"])
        .succeeds()
        .stdout;
    assert_eq!(
        again,
        format!(
            "{side} is up to date\nthe merge request is already open: https://gitlab.example/team/base/-/merge_requests/1\n"
        )
    );
    let world = world.file("README.md", "newer\n");
    push(&world, &["--merge-request", "README.md"]).succeeds();
    assert_eq!(bare.run(&["show", &format!("{side}:README.md")]), "newer\n");
    assert_eq!(bare.run(&["rev-list", "--count", &side]).trim(), "2");
    assert_eq!((gitlab.merge_requests().len(), bare.commits()), (1, 1));
    // Somebody helped: that is not thrown away.
    let person = bare.checkout(&format!("--branch {side}"));
    person.shell("echo z > z && git add z && git -c user.name=P -c user.email=p@q commit -qm help && git push -q").succeeds();
    let said = push(
        &world.file("README.md", "newest\n"),
        &["--merge-request", "README.md"],
    )
    .exits(1);
    assert!(
        said.stderr.contains("contains commits by other authors"),
        "{}",
        said.stderr
    );
    let world = bare
        .checkout_in(job().variable("CI_JOB_TOKEN", JOB), "")
        .file("README.md", "new\n");
    assert!(
        push(&world, &["--merge-request", "README.md"])
            .exits(2)
            .stderr
            .contains("cannot open merge requests")
    );
}

#[test]
fn a_job_of_gitea_pushes_and_opens_a_pull_request() {
    let bare = Bare::with(&[("README.md", "old\n")]);
    let (root, logins) = (
        bare.root().to_owned(),
        vec![format!("x-access-token:{}", gitea::TOKEN)],
    );
    let gitea = Gitea::start_with(gitea::Rules::default(), move |received| {
        let path =
            received
                .path
                .strip_prefix(&format!("/{}/{}.git", gitea::OWNER, gitea::REPOSITORY))?;
        let received = super::super::support::fake_server::ReceivedRequest {
            path: format!("/team/base.git{path}"),
            ..received.clone()
        };
        Some(Bare::answer(&root, &logins, &received))
    });
    let job = |variable: &str, reference: &str| {
        let world = World::new()
            .variable("CI", "true")
            .variable("GITEA_ACTIONS", "true")
            .variable("GITHUB_ACTIONS", "true")
            .variable(
                "GITHUB_SERVER_URL",
                gitea.url().as_str().trim_end_matches('/'),
            )
            .variable(
                "GITHUB_REPOSITORY",
                format!("{}/{}", gitea::OWNER, gitea::REPOSITORY),
            )
            .variable("GITHUB_REF", reference)
            .variable("GITHUB_ACTOR", "ada")
            .variable(variable, gitea::TOKEN);
        bare.checkout_in(world, "--depth=1")
    };
    let world = job("GITEA_TOKEN", "refs/heads/main").file("README.md", "new\n");
    push(&world, &["README.md"]).succeeds();
    assert_eq!(
        bare.run(&["log", "--format=%an <%ae>", "-1", "main"]),
        "ada <ada@noreply.127.0.0.1>\n"
    );
    let world = job("GITHUB_TOKEN", "refs/heads/main").file("README.md", "newer\n");
    for said in [
        "opened a merge request: https://gitea.example/platform/base-images/pulls/1",
        "the merge request is already open: https://gitea.example/platform/base-images/pulls/1",
    ] {
        assert_eq!(
            push(&world, &["--merge-request", "README.md"])
                .succeeds()
                .stdout
                .lines()
                .last(),
            Some(said)
        );
    }
    assert_eq!(
        (gitea.pull_requests().len(), bare.file("README.md").as_str()),
        (1, "new\n")
    );
    let world = job("GITEA_TOKEN", "refs/pull/7/merge").file("README.md", "newest\n");
    push(&world, &["--branch", "main", "README.md"]).exits(2);
    push(&world, &["README.md"]).exits(2);
}
