use std::sync::atomic::AtomicUsize;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::own_variables::{check_collisions, is_access_token};
use super::*;
use crate::command::{
    CapturedOutput, CommandError, ProgramCommand, ProgramOutput, ProgramStatus, RefusingRunner,
};

type HelperOutput = fn(&ProgramCommand) -> (i32, &'static str, &'static str);

struct FakeHelpers {
    output: HelperOutput,
    runs: AtomicUsize,
}

#[async_trait]
impl Runner for FakeHelpers {
    async fn run(&self, command: ProgramCommand) -> Result<ProgramOutput, CommandError> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let (code, stdout, stderr) = (self.output)(&command);
        let captured = |text: &str| CapturedOutput {
            bytes: text.as_bytes().to_vec(),
            omitted: 0,
        };
        Ok(ProgramOutput {
            status: ProgramStatus::Exited(code),
            stdout: captured(stdout),
            stderr: captured(stderr),
        })
    }
}

fn host(text: &str) -> Host {
    text.parse().expect("a host")
}

fn variables(pairs: &[(&str, &str)]) -> Variables {
    pairs.iter().copied().collect()
}

fn credentials(pairs: &[(&str, &str)]) -> StandardCredentials {
    StandardCredentials::new(variables(pairs), Arc::new(RefusingRunner))
}

async fn find(pairs: &[(&str, &str)], on: &str) -> Result<Credential, String> {
    credentials(pairs)
        .credential(&host(on), None)
        .await
        .map_err(|error| format!("{error} {error:?}"))
}

async fn found(pairs: &[(&str, &str)], on: &str) -> Credential {
    find(pairs, on).await.expect("a credential")
}

fn basic(username: &str, password: &str) -> Credential {
    Credential::Basic {
        username: username.to_owned(),
        password: Secret::new(password),
    }
}

#[tokio::test]
async fn own_variables_come_first_and_in_order() {
    let user = ("IMGLIFE_REGISTRY_5000_USERNAME", "alice");
    let password = ("IMGLIFE_REGISTRY_5000_PASSWORD", "s3cret");
    let token = ("IMGLIFE_REGISTRY_5000_TOKEN", "glpat-1");
    let job = [
        ("GITLAB_CI", "true"),
        ("CI_REGISTRY", "registry:5000"),
        ("CI_JOB_TOKEN", "job"),
    ];
    let with_job = |own: &[(&'static str, &'static str)]| [own, &job].concat();
    assert_eq!(
        found(&with_job(&[user, password, token]), "registry:5000").await,
        basic("alice", "s3cret")
    );
    let unknown_kind = |username: &str| Credential::RefreshTokenOrPassword {
        username: username.to_owned(),
        token: Secret::new("glpat-1"),
    };
    assert_eq!(
        found(&with_job(&[user, token]), "registry:5000").await,
        unknown_kind("alice")
    );
    assert_eq!(
        found(&with_job(&[token]), "registry:5000").await,
        unknown_kind("token")
    );
    assert_eq!(
        found(&with_job(&[]), "registry:5000").await,
        basic("gitlab-ci-token", "job")
    );
    assert_eq!(
        found(&[user, password], "registry").await,
        Credential::Anonymous
    );
}

#[tokio::test]
async fn incomplete_pair_of_variables_is_an_error() {
    for pairs in [
        &[("IMGLIFE_R_EXAMPLE_USERNAME", "alice")][..],
        &[
            ("IMGLIFE_R_EXAMPLE_USERNAME", "alice"),
            ("IMGLIFE_R_EXAMPLE_PASSWORD", ""),
        ],
        &[("IMGLIFE_R_EXAMPLE_PASSWORD", "s3cret")],
        &[
            ("IMGLIFE_R_EXAMPLE_PASSWORD", "s3cret"),
            ("IMGLIFE_R_EXAMPLE_TOKEN", "s3cret"),
        ],
    ] {
        let error = find(pairs, "r.example")
            .await
            .expect_err("an incomplete pair");
        assert!(
            error.contains("IMGLIFE_R_EXAMPLE_") && !error.contains("s3cret"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn access_token_is_recognised_by_its_claims() {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let token = |claims: &str| {
        format!(
            "{}.{}.{}",
            encode(r#"{"alg":"RS256"}"#),
            encode(claims),
            encode("signature")
        )
    };
    assert!(is_access_token(&token(r#"{"access":[]}"#)));
    assert!(!is_access_token(&token(
        r#"{"grant_type":"refresh_token"}"#
    )));
    assert!(!is_access_token("a.b.c") && !is_access_token("glpat-x") && !is_access_token(""));
    let access = token(r#"{"access":[]}"#);
    assert_eq!(
        found(&[("IMGLIFE_R_EXAMPLE_TOKEN", &access)], "r.example").await,
        Credential::Bearer {
            token: Secret::new(access)
        }
    );
}

#[tokio::test]
async fn gitlab_job_credential_is_sent_only_to_its_registry() {
    let ci = [
        ("GITLAB_CI", "true"),
        ("CI_REGISTRY", "registry.example"),
        ("CI_REGISTRY_USER", "robot"),
        ("CI_REGISTRY_PASSWORD", "s3cret"),
        ("CI_JOB_TOKEN", "job"),
    ];
    assert_eq!(
        found(&ci, "registry.example").await,
        basic("robot", "s3cret")
    );
    assert_eq!(found(&ci, "evil.example").await, Credential::Anonymous);
    assert_eq!(
        found(&ci[1..], "registry.example").await,
        Credential::Anonymous,
        "outside of GitLab CI"
    );
}

#[tokio::test]
async fn gitea_job_token_is_sent_only_to_its_server() {
    let ci = [
        ("CI", "true"),
        ("GITEA_ACTIONS", "true"),
        ("GITHUB_SERVER_URL", "https://gitea.example:3000"),
        ("GITEA_TOKEN", "pat"),
    ];
    assert_eq!(
        found(&ci, "gitea.example:3000").await,
        basic("token", "pat")
    );
    for other in ["gitea.example", "evil.example", "docker.io"] {
        assert_eq!(found(&ci, other).await, Credential::Anonymous, "{other}");
    }
    let file = r#"{"auths":{"gitea.example:3000":{"username":"robot","password":"p"}}}"#;
    assert_eq!(
        found(
            &[&ci[..], &[("DOCKER_AUTH_CONFIG", file)]].concat(),
            "gitea.example:3000"
        )
        .await,
        basic("robot", "p")
    );
    // A pull request of a fork has no secret, but a token of its own.
    let own = [
        ci[0],
        ci[1],
        ci[2],
        ("GITEA_TOKEN", ""),
        ("GITHUB_TOKEN", "own"),
    ];
    assert_eq!(
        found(&own, "gitea.example:3000").await,
        basic("token", "own")
    );
    assert_eq!(found(&own, "evil.example").await, Credential::Anonymous);
    assert_eq!(
        found(&[ci[0], ci[2], ci[3]], "gitea.example:3000").await,
        Credential::Anonymous,
        "another CI"
    );
    // A person names the host of the token.
    let named = [
        ("GITEA_TOKEN", "pat"),
        ("IMGLIFE_TOKEN_HOST", "gitea.example:3000"),
    ];
    assert_eq!(
        found(&named, "gitea.example:3000").await,
        basic("token", "pat")
    );
    for other in ["gitea.example", "evil.example", "docker.io"] {
        assert_eq!(found(&named, other).await, Credential::Anonymous, "{other}");
    }
    assert_eq!(
        found(&named[..1], "gitea.example:3000").await,
        Credential::Anonymous
    );
}

#[tokio::test]
async fn files_are_read_in_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let entry = |user: &str| {
        format!(
            r#"{{"auths":{{"{user}.example":{{"username":"{user}","password":"p"}},"all.example":{{"username":"{user}","password":"p"}}}}}}"#
        )
    };
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    };
    write(".docker/config.json", &entry("home"));
    write("docker/config.json", &entry("docker"));
    write(".config/containers/auth.json", &entry("podman"));
    write("run/containers/auth.json", &entry("run"));
    write("named.json", &entry("named"));
    let path = |name: &str| {
        directory
            .path()
            .join(name)
            .to_str()
            .expect("UTF-8")
            .to_owned()
    };
    let (home, docker, run, named) = (path(""), path("docker"), path("run"), path("named.json"));
    let mut pairs = vec![("HOME", home.as_str())];
    assert_eq!(found(&pairs, "all.example").await, basic("home", "p"));
    assert_eq!(found(&pairs, "podman.example").await, basic("podman", "p"));
    pairs.push(("XDG_RUNTIME_DIR", &run));
    assert_eq!(found(&pairs, "run.example").await, basic("run", "p"));
    pairs.push(("REGISTRY_AUTH_FILE", &named));
    assert_eq!(found(&pairs, "named.example").await, basic("named", "p"));
    assert_eq!(found(&pairs, "podman.example").await, Credential::Anonymous);
    pairs.push(("DOCKER_CONFIG", &docker));
    assert_eq!(found(&pairs, "all.example").await, basic("docker", "p"));
    let inline = entry("inline");
    pairs.push(("DOCKER_AUTH_CONFIG", &inline));
    assert_eq!(found(&pairs, "all.example").await, basic("inline", "p"));
}

#[tokio::test]
async fn invalid_file_is_named_and_not_quoted() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("config.json");
    std::fs::write(&file, r#"{"auths": {"r.example": hunter2"#).expect("a file");
    let error = find(
        &[("DOCKER_CONFIG", directory.path().to_str().expect("UTF-8"))],
        "r.example",
    )
    .await
    .expect_err("an invalid file");
    assert!(
        error.contains("config.json") && !error.contains("hunter2"),
        "{error}"
    );
    let error = find(&[("DOCKER_AUTH_CONFIG", "hunter2")], "r.example")
        .await
        .expect_err("an invalid file");
    assert!(
        error.contains("$DOCKER_AUTH_CONFIG") && !error.contains("hunter2"),
        "{error}"
    );
}

async fn from_helper(
    config: &str,
    on: &str,
    output: HelperOutput,
) -> (Result<Credential, String>, usize) {
    let helpers = Arc::new(FakeHelpers {
        output,
        runs: AtomicUsize::new(0),
    });
    let pairs = [("DOCKER_AUTH_CONFIG", config), ("MY_TOKEN", "hunter2")];
    let credentials =
        StandardCredentials::new(variables(&pairs), Arc::clone(&helpers) as Arc<dyn Runner>);
    let first = credentials
        .credential(&host(on), None)
        .await
        .map_err(|error| format!("{error} {error:?}"));
    let second = credentials
        .credential(&host(on), None)
        .await
        .map_err(|error| format!("{error} {error:?}"));
    assert_eq!(first, second);
    (first, helpers.runs.load(Ordering::Relaxed))
}

#[tokio::test]
async fn helper_is_called_once_by_dockers_protocol() {
    let (found, runs) = from_helper(r#"{"credsStore":"desk-top"}"#, "docker.io", |command| {
        assert_eq!(
            (command.program.as_str(), command.arguments.as_slice()),
            ("docker-credential-desk-top", &["get".to_owned()][..])
        );
        assert_eq!(
            command.stdin,
            Some(Secret::new("https://index.docker.io/v1/"))
        );
        (
            0,
            r#"{"ServerURL":"x","Username":"alice","Secret":"s3cret"}"#,
            "",
        )
    })
    .await;
    assert_eq!((found, runs), (Ok(basic("alice", "s3cret")), 1));
    let (found, _) = from_helper(r#"{"credHelpers":{"r.example":"x"}}"#, "r.example", |_| {
        (0, r#"{"Username":"<token>","Secret":"id"}"#, "")
    })
    .await;
    assert_eq!(
        found,
        Ok(Credential::RefreshToken {
            token: Secret::new("id")
        })
    );
    let (found, runs) = from_helper(
        r#"{"credHelpers":{"r.example":"x"}}"#,
        "other.example",
        |_| (1, "", ""),
    )
    .await;
    assert_eq!((found, runs), (Ok(Credential::Anonymous), 0));
}

#[tokio::test]
async fn helper_without_credential_is_anonymous_and_its_failures_are_errors() {
    let config = r#"{"credsStore":"x"}"#;
    let (found, _) = from_helper(config, "r.example", |_| {
        (1, "credentials not found in native keychain\n", "")
    })
    .await;
    assert_eq!(found, Ok(Credential::Anonymous));
    let (error, _) = from_helper(config, "r.example", |_| {
        (1, "s3cret", "locked\u{1b}[0m hunter2")
    })
    .await;
    let error = error.expect_err("it failed");
    assert!(
        error.contains(r"`docker-credential-x` failed with exit code 1: locked\u{1b}[0m ***"),
        "{error}"
    );
    assert!(
        !error.contains("s3cret") && !error.contains("hunter2"),
        "{error}"
    );
    let (error, _) = from_helper(config, "r.example", |_| (0, "s3cret", "")).await;
    assert!(!error.expect_err("no answer").contains("s3cret"));
    let (error, runs) = from_helper(r#"{"credsStore":"../../bin/sh"}"#, "r.example", |_| {
        (0, "", "")
    })
    .await;
    assert!(error.is_err() && runs == 0);
}

#[test]
fn hosts_with_the_same_variables_are_an_error_only_when_one_is_set() {
    let hosts = [host("a-b.example"), host("a.b.example"), host("c.example")];
    assert!(check_collisions(&hosts, &variables(&[("IMGLIFE_C_EXAMPLE_TOKEN", "t")])).is_ok());
    let error = check_collisions(&hosts, &variables(&[("IMGLIFE_A_B_EXAMPLE_TOKEN", "t")]))
        .expect_err("the same variable");
    assert_eq!(
        error.to_string(),
        "credentials for a.b.example: IMGLIFE_A_B_EXAMPLE_TOKEN also applies to a-b.example"
    );
    assert!(
        check_collisions(
            [&hosts[0], &hosts[0]],
            &variables(&[("IMGLIFE_A_B_EXAMPLE_TOKEN", "t")])
        )
        .is_ok()
    );
}

async fn found_at(pairs: &[(&str, &str)], on: &str, path: &str) -> Credential {
    let path: RepositoryPath = path.parse().expect("a path");
    credentials(pairs)
        .credential(&host(on), Some(&path))
        .await
        .expect("a credential")
}

#[tokio::test]
async fn gitlab_job_credential_is_first_for_its_project_and_last_elsewhere() {
    let job = [
        ("GITLAB_CI", "true"),
        ("CI_REGISTRY", "registry:5000"),
        ("CI_REGISTRY_IMAGE", "registry:5000/team/app"),
        ("CI_REGISTRY_USER", "gitlab-ci-token"),
        ("CI_REGISTRY_PASSWORD", "job"),
    ];
    let whole = r#"{"auths":{"registry:5000":{"username":"robot","password":"p"}}}"#;
    let group = r#"{"auths":{"registry:5000/platform":{"username":"deploy","password":"p"}}}"#;
    let broken = r#"{"auths":{"registry:5000":{"auth":"x"}}}"#;
    let job_credential = ("gitlab-ci-token", "job");
    for (file, path, (username, password)) in [
        (whole, "team/app", job_credential),
        (whole, "team/app/web", job_credential),
        (whole, "team/application", ("robot", "p")),
        (whole, "team", ("robot", "p")),
        (whole, "platform/mirrors/a", ("robot", "p")),
        (group, "platform/mirrors/a", ("deploy", "p")),
        (group, "platforms/a", job_credential),
        (group, "other/a", job_credential),
        (broken, "other/a", job_credential),
        ("{}", "other/a", job_credential),
    ] {
        let pairs = [&job[..], &[("DOCKER_AUTH_CONFIG", file)]].concat();
        assert_eq!(
            found_at(&pairs, "registry:5000", path).await,
            basic(username, password),
            "{path} with {file}"
        );
    }
    // The job's credential is for the registry of its server only.
    let pairs = [&job[..], &[("CI_REGISTRY_IMAGE", "evil.example/team/app")]].concat();
    assert_eq!(
        found_at(&pairs, "evil.example", "team/app").await,
        Credential::Anonymous
    );
    let pairs = [&pairs[..], &[("DOCKER_AUTH_CONFIG", whole)]].concat();
    assert_eq!(
        found_at(&pairs, "registry:5000", "team/app").await,
        basic("robot", "p")
    );
}

/// Helper that returns another secret with each call, up to `p3`.
struct Rotating(AtomicUsize);

#[async_trait]
impl Runner for Rotating {
    async fn run(&self, _: ProgramCommand) -> Result<ProgramOutput, CommandError> {
        let number = (self.0.fetch_add(1, Ordering::Relaxed) + 1).min(3);
        let captured = |text: String| CapturedOutput {
            bytes: text.into_bytes(),
            omitted: 0,
        };
        Ok(ProgramOutput {
            status: ProgramStatus::Exited(0),
            stdout: captured(format!(r#"{{"Username":"alice","Secret":"p{number}"}}"#)),
            stderr: captured(String::new()),
        })
    }
}

#[tokio::test]
async fn helper_is_called_again_when_its_answer_is_rejected_or_old() {
    let helper = Arc::new(Rotating(AtomicUsize::new(0)));
    let pairs = [("DOCKER_AUTH_CONFIG", r#"{"credsStore":"x"}"#)];
    let credentials =
        StandardCredentials::new(variables(&pairs), Arc::clone(&helper) as Arc<dyn Runner>);
    let on = host("r.example");
    let current = async || {
        credentials
            .credential(&on, None)
            .await
            .expect("a credential")
    };
    let renew = async |password: &str| {
        credentials
            .renew(&on, None, &basic("alice", password))
            .await
            .expect("an answer")
    };
    let calls = || helper.0.load(Ordering::Relaxed);
    assert_eq!(current().await, basic("alice", "p1"));
    assert!(renew("p1").await);
    assert_eq!((current().await, calls()), (basic("alice", "p2"), 2));
    // Another request was rejected before the renewal.
    assert!(renew("p1").await);
    assert_eq!((current().await, calls()), (basic("alice", "p2"), 2));
    assert!(renew("p2").await);
    // The helper has no other secret, so it is not called for each rejection.
    assert!(!renew("p3").await);
    assert!(!renew("p3").await);
    assert_eq!((current().await, calls()), (basic("alice", "p3"), 4));
    let slot = lock(&credentials.helpers)
        .values()
        .next()
        .cloned()
        .expect("a slot");
    if let Some(answer) = &mut *slot.lock().await {
        answer.asked -= HELPER_LIFETIME;
    }
    assert_eq!((current().await, calls()), (basic("alice", "p3"), 5));
}
