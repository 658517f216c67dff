//! `doctor` against real registries and stand-ins for forges, through the binary.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::endoflife::EndOfLife;
use crate::support::fake_server::{FakeServer, ReceivedRequest, typed};
use crate::support::gitea::{self, Gitea};
use crate::support::gitlab::{self, Gitlab};
use crate::support::registry::{PASSWORD, Registry, USER};
use crate::support::seaweed::{ACCESS_KEY, SECRET_KEY, Seaweed};
use crate::support::servers::Server;
use crate::support::tokens::TokenRules;
use crate::support::world::World;

/// A report, with the exit code it came with.
struct Report {
    code: Option<i32>,
    checks: Vec<Value>,
    text: String,
}

impl Report {
    fn of(world: &World) -> Report {
        let outcome = world.imglife(["doctor", "--output", "json"]);
        let value: Value = serde_json::from_str(&outcome.stdout)
            .unwrap_or_else(|error| panic!("{error}: {outcome:?}"));
        assert_eq!(value["schema"], "imglife/doctor/v1");
        let groups = value["groups"].as_array().expect("groups").clone();
        let checks: Vec<Value> = groups
            .iter()
            .flat_map(|group| group["checks"].as_array().expect("checks").clone())
            .collect();
        let is_problem = |check: &&Value| {
            check["needed"] == true && (check["state"] == "missing" || check["state"] == "wrong")
        };
        let problems = checks.iter().filter(is_problem).count();
        assert_eq!(value["problems"], problems);
        assert_eq!(outcome.code(), Some(i32::from(problems > 0)), "{outcome:?}");
        for secret in [PASSWORD, "hunter2", SECRET_KEY] {
            assert!(
                !outcome.stdout.contains(secret) && !outcome.stderr.contains(secret),
                "a secret is shown: {outcome:?}"
            );
        }
        Report {
            code: outcome.code(),
            checks,
            text: outcome.stdout,
        }
    }

    fn find(&self, check: &str, about: &str) -> &Value {
        let found = self
            .checks
            .iter()
            .find(|found| found["check"] == check && found["about"] == about);
        found.unwrap_or_else(|| panic!("no {check} of `{about}` in {}", self.text))
    }

    fn state(&self, check: &str, about: &str) -> &str {
        self.find(check, about)["state"].as_str().expect("a state")
    }

    /// Fails unless the check is in this state and its fix has this in it.
    fn says(&self, check: &str, about: &str, state: &str, fix: &str) {
        let found = self.find(check, about);
        let shown = found["fix"].as_str().unwrap_or_default();
        assert!(
            found["state"] == state && shown.contains(fix),
            "{check} should be {state} with `{fix}`: {found}"
        );
    }
}

fn sync(host: &str, more: &str) -> String {
    format!(
        "{{ sync: {{ entries: [{{ source: {host}/up/a, target: {host}/mirror/a, tag: '1', referrers: true }}] }}, {more} }}"
    )
}

fn insecure(host: &str) -> String {
    format!("registry: {{ provider: file, insecure_registries: ['{host}'] }}")
}

fn variable(host: &str, kind: &str) -> String {
    format!("IMGLIFE_{}_{kind}", host.replace(['.', ':'], "_"))
}

/// Returns a world that mirrors within a registry, which `alice` may be let into by a password.
fn world(registry: &Registry, password: Option<&str>) -> World {
    let host = registry.host();
    let world = World::new().file("imglife.yaml", sync(&host, &insecure(&host)));
    match password {
        Some(password) => world
            .variable(&variable(&host, "USERNAME"), USER)
            .variable(&variable(&host, "PASSWORD"), password),
        None => world,
    }
}

/// Returns all paths below a directory.
fn tree(directory: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        paths.push(entry.path().display().to_string());
        if entry.path().is_dir() {
            paths.extend(tree(&entry.path()));
        }
    }
    paths.sort();
    paths
}

#[test]
fn a_registry_that_is_as_it_must_be_is_only_read() {
    let registry = Registry::plain();
    let world = world(&registry, None);
    let before = (
        tree(&world.path("")),
        tree(&world.home()),
        tree(
            registry
                .storage()
                .ancestors()
                .nth(3)
                .expect("a directory above"),
        ),
    );
    let report = Report::of(&world);
    assert_eq!(
        (
            report.state("oci.reachable", ""),
            report.state("oci.login", "")
        ),
        ("ok", "ok")
    );
    report.says("oci.pull", "up/a", "missing", "correct its name");
    assert_eq!(
        (
            report.state("oci.pull", "mirror/a"),
            report.state("oci.push", "mirror/a")
        ),
        ("ok", "unknown")
    );
    assert_eq!(
        (
            report.state("packages.read", ""),
            report.state("packages.write", "")
        ),
        ("ok", "ok")
    );
    assert_eq!(report.state("machine.clock", ""), "ok");
    let requests = registry.requests();
    assert!(
        requests.len() > 2
            && requests
                .iter()
                .all(|request| matches!(request.method.as_str(), "GET" | "HEAD")),
        "{requests:?}"
    );
    let unlogged = |paths: Vec<String>| {
        paths
            .into_iter()
            .filter(|path| !path.ends_with(".log"))
            .collect::<Vec<_>>()
    };
    let after = (
        tree(&world.path("")),
        tree(&world.home()),
        tree(
            registry
                .storage()
                .ancestors()
                .nth(3)
                .expect("a directory above"),
        ),
    );
    assert_eq!(
        (before.0, before.1, unlogged(before.2)),
        (after.0, after.1, unlogged(after.2))
    );
}

#[test]
fn a_password_is_right_wrong_or_missing() {
    let registry = Registry::builder().htpasswd().start();
    let right = Report::of(&world(&registry, Some(PASSWORD)));
    assert_eq!(
        (
            right.state("oci.login", ""),
            right.state("oci.push", "mirror/a")
        ),
        ("ok", "unknown")
    );
    let host = registry.host();
    let origin = format!(
        "from {} and {}",
        variable(&host, "USERNAME"),
        variable(&host, "PASSWORD")
    );
    assert_eq!(right.find("oci.credential", "")["detail"], origin);
    let wrong = Report::of(&world(&registry, Some("hunter2")));
    wrong.says("oci.login", "", "wrong", &variable(&host, "USERNAME"));
    assert!(
        !wrong.text.contains("oci.pull"),
        "what a wrong login cannot do is no news: {}",
        wrong.text
    );
    let missing = Report::of(&world(&registry, None));
    missing.says("oci.login", "", "missing", &variable(&host, "PASSWORD"));
    let half = world(&registry, None).variable(&variable(&host, "USERNAME"), USER);
    Report::of(&half).says("oci.credential", "", "wrong", "empty in jobs");
    let file =
        format!(r#"{{"auths":{{"{host}":{{"username":"{USER}","password":"{PASSWORD}"}}}}}}"#);
    let from_file = Report::of(&world(&registry, None).variable("DOCKER_AUTH_CONFIG", file));
    assert_eq!(
        (
            from_file.find("oci.credential", "")["detail"].as_str(),
            from_file.state("oci.login", "")
        ),
        (Some("from $DOCKER_AUTH_CONFIG"), "ok")
    );
}

#[test]
fn what_a_token_allows_is_known_without_a_push() {
    let registry = Registry::builder().tokens(TokenRules::default()).start();
    let more = format!(
        "retention: {{ keep_last: 2 }}, {}",
        insecure(&registry.host())
    );
    let world =
        |password| world(&registry, password).file("imglife.yaml", sync(&registry.host(), &more));
    let right = Report::of(&world(Some(PASSWORD)));
    for check in ["oci.push", "oci.delete", "oci.pull"] {
        assert_eq!(right.state(check, "mirror/a"), "ok", "{}", right.text);
    }
    let stranger = Report::of(&world(None));
    assert_eq!(
        (
            stranger.state("oci.login", ""),
            stranger.state("oci.pull", "mirror/a")
        ),
        ("ok", "ok")
    );
    stranger.says(
        "oci.push",
        "mirror/a",
        "missing",
        &variable(&registry.host(), "TOKEN"),
    );
    stranger.says(
        "oci.delete",
        "mirror/a",
        "missing",
        "a credential that may delete",
    );
    Report::of(&world(Some("hunter2"))).says("oci.login", "", "wrong", "check the credentials for");
    assert!(
        registry
            .requests()
            .iter()
            .all(|request| matches!(request.method.as_str(), "GET" | "HEAD"))
    );
}

/// Starts a registry whose tokens allow some actions, and answers otherwise by `answer`.
fn granting(
    actions: &'static [&'static str],
    answer: impl Fn(&ReceivedRequest) -> Response + Send + Sync + 'static,
) -> FakeServer {
    let claims = json!({ "access": [{ "type": "repository", "name": "mirror/a", "actions": actions }, { "type": "repository", "name": "up/a", "actions": ["pull"] }] });
    let token = format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims.to_string()));
    FakeServer::start(move |received| {
        let host = received.headers[header::HOST].to_str().expect("text");
        if received.path.starts_with("/token") {
            return typed("application/json", json!({ "token": token }).to_string());
        }
        if !received.headers.contains_key(header::AUTHORIZATION) {
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
            return (
                StatusCode::UNAUTHORIZED,
                [(header::WWW_AUTHENTICATE, challenge)],
            )
                .into_response();
        }
        answer(received)
    })
}

#[test]
fn a_login_that_may_only_read_is_told_what_it_lacks() {
    let registry = granting(&["pull"], |_| {
        typed("application/json", r#"{"tags":["1"]}"#)
    });
    let host = registry.host();
    let world = World::new()
        .file("imglife.yaml", sync(&host, &insecure(&host)))
        .variable(&variable(&host, "USERNAME"), USER)
        .variable(&variable(&host, "PASSWORD"), PASSWORD);
    let report = Report::of(&world);
    assert_eq!(
        (
            report.state("oci.login", ""),
            report.state("oci.pull", "up/a")
        ),
        ("ok", "ok")
    );
    report.says("oci.push", "mirror/a", "wrong", "`write_registry`");
    assert!(
        registry
            .requests()
            .iter()
            .all(|received| matches!(received.method.as_str(), "GET" | "HEAD"))
    );
}

#[test]
fn what_is_left_of_a_quota_is_told_and_is_no_failure() {
    let registry = FakeServer::start(|received| {
        let body = typed("application/json", r#"{"tags":["1"]}"#);
        let quota = [
            ("ratelimit-limit", "100;w=21600"),
            ("ratelimit-remaining", "3;w=21600"),
        ];
        if received.method == "HEAD" {
            (quota, body).into_response()
        } else {
            body
        }
    });
    let host = registry.host();
    let report = Report::of(&World::new().file("imglife.yaml", sync(&host, &insecure(&host))));
    report.says("oci.quota", "", "wrong", "for a higher limit");
    assert_eq!(
        (report.find("oci.quota", "")["detail"].as_str(), report.code),
        (Some("3 of 100 pulls left"), Some(0))
    );
}

#[test]
fn plain_http_and_https_are_told_apart_in_both_directions() {
    let (plain, tls) = (Registry::plain(), Registry::builder().tls().start());
    let report = Report::of(&World::new().file("imglife.yaml", sync(&plain.host(), "status: {}")));
    report.says(
        "oci.reachable",
        "",
        "wrong",
        &format!(
            "the host speaks plain HTTP: if that is intended, add {}",
            plain.host()
        ),
    );
    let report =
        Report::of(&World::new().file("imglife.yaml", sync(&tls.host(), &insecure(&tls.host()))));
    report.says(
        "oci.reachable",
        "",
        "wrong",
        &format!("the host speaks HTTPS: remove {} from", tls.host()),
    );
    let report = Report::of(&World::new().file("imglife.yaml", sync(&tls.host(), "status: {}")));
    report.says("oci.reachable", "", "wrong", "ca_file");
    let trusted = format!(
        "hosts: {{ '{}': {{ ca_file: '{}' }} }}",
        tls.host(),
        tls.ca_file().display()
    );
    let report = Report::of(&World::new().file("imglife.yaml", sync(&tls.host(), &trusted)));
    assert_eq!(
        report.find("oci.reachable", "")["detail"],
        "responds over https"
    );
}

#[test]
fn a_host_that_says_nothing_does_not_hold_up_the_others() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (registry, silent) = (
        Registry::plain(),
        (silent.local_addr().expect("an address").to_string(), silent),
    );
    let yaml = format!(
        "{{ registry: {{ provider: file, insecure_registries: ['{0}', '{1}'] }}, \
            sync: {{ entries: [{{ source: {0}/a, target: {1}/b, tag: '1' }}] }} }}",
        silent.0,
        registry.host(),
    );
    let world = World::new().file("imglife.yaml", &yaml);
    let outcome = world.imglife(["doctor"]).exits(1);
    assert!(
        outcome.elapsed < Duration::from_secs(20),
        "{:?}",
        outcome.elapsed
    );
    assert!(
        outcome.stdout.contains("no data for 5 seconds")
            && outcome.stdout.contains("responds over http"),
        "{}",
        outcome.stdout
    );
    assert!(
        outcome.stderr.contains(&format!("{}  1 problem", silent.0)),
        "{}",
        outcome.stderr
    );
    // What is known when it is stopped is still told.
    let running = world.start_imglife(["doctor"]);
    std::thread::sleep(Duration::from_secs(2));
    running.signal("INT");
    let stopped = running.wait().exits(130);
    assert!(
        stopped.elapsed < Duration::from_secs(5),
        "{:?}",
        stopped.elapsed
    );
    assert!(
        stopped.stdout.contains("the run was stopped")
            && stopped.stdout.contains("responds over http"),
        "{}",
        stopped.stdout
    );
    let limited = world.imglife(["--time-limit", "1s", "doctor"]).exits(1);
    assert!(
        limited.elapsed < Duration::from_secs(4) && limited.stdout.contains("the run was stopped"),
        "{limited:?}"
    );
}

#[test]
fn a_clock_that_is_wrong_is_told_of() {
    let registry = FakeServer::start(|_| {
        (
            [(header::DATE, "Thu, 01 Jan 2015 00:00:00 GMT")],
            typed("application/json", r#"{"tags":null}"#),
        )
            .into_response()
    });
    let host = registry.host();
    let report = Report::of(&World::new().file("imglife.yaml", sync(&host, &insecure(&host))));
    report.says("machine.clock", "", "wrong", "NTP");
    assert!(
        report.find("machine.clock", "")["detail"]
            .as_str()
            .expect("text")
            .contains(&format!("ahead of {host}"))
    );
}

#[test]
fn what_servers_say_moves_no_cursor_and_has_an_end() {
    let registry = FakeServer::start(|received| match received.path.as_str() {
        "/v2/" => typed("application/json", "{}"),
        _ => (
            StatusCode::FORBIDDEN,
            format!("\u{1b}[2J\n::error::x{}", "y".repeat(60_000)),
        )
            .into_response(),
    });
    let host = registry.host();
    let outcome = World::new()
        .file("imglife.yaml", sync(&host, &insecure(&host)))
        .imglife(["doctor"])
        .exits(1);
    assert!(
        !outcome.stdout.contains('\u{1b}') && !outcome.stdout.contains("\n::error"),
        "{}",
        outcome.stdout
    );
    assert!(
        outcome.stdout.contains(r"\u{1b}[2J") && outcome.stdout.len() < 10_000,
        "{}",
        outcome.stdout
    );
}

#[test]
fn a_registry_that_lists_what_refers_to_images_is_known_by_that() {
    for server in Server::found("doctor")
        .into_iter()
        .filter(|server| matches!(server, Server::Olareg | Server::DockerRegistry))
    {
        let registry = Registry::of(server);
        let host = registry.host();
        let source = format!(
            "{{ sync: {{ entries: [{{ source: 'ocidir://layout', target: {host}/a, tag: '1' }}] }}, {} }}",
            insecure(&host)
        );
        let world = World::new().file("imglife.yaml", source);
        let report = Report::of(&world);
        assert_eq!(
            (
                report.state("oci.reachable", ""),
                report.state("oci.pull", "a")
            ),
            ("ok", "ok"),
            "{}",
            server.name()
        );
        let layout = format!("ocidir://{}", world.path("layout").display());
        report.says("layout.read", &layout, "missing", "correct the path");
        assert!(!world.path("layout").exists());
    }
}

/// Starts a GitLab that tells of tokens.
fn gitlab_that_tells(scopes: &'static [&'static str], level: u32) -> Gitlab {
    Gitlab::start_with(gitlab::Rules::default(), move |received| {
        let token = received
            .headers
            .get("private-token")
            .map(|value| value.to_str().expect("text"));
        let is_known = matches!(token, Some(gitlab::MAINTAINER | gitlab::DEVELOPER));
        let job = received
            .headers
            .get("job-token")
            .map(|value| value.to_str().expect("text"));
        Some(match received.path.as_str() {
            "/api/v4/version" => StatusCode::UNAUTHORIZED.into_response(),
            "/api/v4/personal_access_tokens/self" if is_known => {
                typed("application/json", json!({ "id": 1, "scopes": scopes, "expires_at": "2099-01-01", "active": true }).to_string())
            }
            "/api/v4/job" if matches!(job, Some(gitlab::JOB | gitlab::OTHER_JOB)) => typed("application/json", "{}"),
            "/api/v4/personal_access_tokens/self" | "/api/v4/job" => StatusCode::UNAUTHORIZED.into_response(),
            "/api/v4/projects/42" if is_known => typed(
                "application/json",
                json!({ "path_with_namespace": "team/base", "permissions": { "project_access": { "access_level": level }, "group_access": null } })
                    .to_string(),
            ),
            _ => return None,
        })
    })
}

fn gitlab_world(server: &Gitlab, project: u64) -> World {
    World::new().file(
        "imglife.yaml",
        format!(
            "registry: {{ url: '{}', project_id: {project} }}",
            server.url()
        ),
    )
}

#[test]
fn the_tokens_of_gitlab_are_judged_by_scope_and_role() {
    let right = gitlab_that_tells(&["api"], 40);
    let report = Report::of(&gitlab_world(&right, 42).variable("GITLAB_TOKEN", gitlab::MAINTAINER));
    assert_eq!(
        report.find("packages.credential", "")["detail"],
        "from GITLAB_TOKEN"
    );
    for check in ["token", "project", "read", "write", "delete"] {
        assert_eq!(
            report.state(&format!("packages.{check}"), ""),
            "ok",
            "{}",
            report.text
        );
    }
    Report::of(&gitlab_world(&right, 42).variable("GITLAB_TOKEN", "glpat-wrong-hunter2")).says(
        "packages.token",
        "",
        "wrong",
        "the scope `api`",
    );
    Report::of(&gitlab_world(&right, 42)).says(
        "packages.project",
        "",
        "wrong",
        "registry.project_id",
    );
    Report::of(&gitlab_world(&right, 43).variable("GITLAB_TOKEN", gitlab::MAINTAINER)).says(
        "packages.project",
        "",
        "wrong",
        "registry.project_id",
    );
    let narrow = gitlab_that_tells(&["read_api"], 40);
    let report = Report::of(&gitlab_world(&narrow, 42).variable("GITLAB_TOKEN", gitlab::DEVELOPER));
    report.says("packages.write", "", "wrong", "no scope for packages only");
    let reporter = gitlab_that_tells(&["api"], 20);
    let report =
        Report::of(&gitlab_world(&reporter, 42).variable("GITLAB_TOKEN", gitlab::DEVELOPER));
    report.says(
        "packages.write",
        "",
        "wrong",
        "the role Developer in project 42",
    );
    for server in [&right, &narrow, &reporter] {
        assert!(
            server
                .server
                .requests()
                .iter()
                .all(|received| received.method == "GET")
        );
    }
}

#[test]
fn a_job_of_gitlab_has_its_token_and_the_allowlist() {
    let server = gitlab_that_tells(&[], 0);
    let url = server.url();
    let job = |token: &str| {
        gitlab_world(&server, 42)
            .variable("GITLAB_CI", "true")
            .variable("CI_SERVER_HOST", url.host_str().expect("a host"))
            .variable("CI_SERVER_PORT", url.port().expect("a port").to_string())
            .variable("CI_JOB_TOKEN", token)
    };
    let report = Report::of(&job(gitlab::JOB));
    assert_eq!(
        (
            report.state("packages.token", ""),
            report.state("packages.read", ""),
            report.state("packages.write", "")
        ),
        ("ok", "ok", "unknown")
    );
    Report::of(&job(gitlab::OTHER_JOB)).says("packages.read", "", "wrong", "job token allowlist");
    let elsewhere = World::new()
        .file(
            "imglife.yaml",
            format!("registry: {{ url: '{url}', project_id: 42 }}"),
        )
        .variable("GITLAB_CI", "true")
        .variable("CI_SERVER_HOST", "gitlab.example")
        .variable("CI_JOB_TOKEN", gitlab::JOB);
    assert!(
        Report::of(&elsewhere)
            .text
            .contains("CI_JOB_TOKEN is not sent to this host")
    );
}

#[test]
fn the_tokens_of_gitea_are_judged_by_what_the_server_tells() {
    let server = Gitea::start_with(gitea::Rules::default(), |received| {
        let token = received
            .headers
            .get(header::AUTHORIZATION)
            .map(|value| value.to_str().expect("text").to_owned())
            .unwrap_or_default();
        let told = |scope: &str| {
            let text = format!(
                "token does not have at least one of required scope(s), required=[read:user], token scope={scope}"
            );
            (
                StatusCode::FORBIDDEN,
                typed(
                    "application/json",
                    json!({ "message": text, "url": "x" }).to_string(),
                ),
            )
                .into_response()
        };
        Some(
            match (received.path.as_str(), token.trim_start_matches("token ")) {
                ("/api/v1/version", _) => typed("application/json", "{}"),
                ("/api/v1/user", gitea::TOKEN) => told("write:package,read:repository"),
                ("/api/v1/user", gitea::JOB) => told("read:package"),
                ("/api/v1/user", "hunter2-open") => typed("application/json", r#"{"login":"bot"}"#),
                ("/api/v1/user", "hunter2-actions") => {
                    typed("application/json", r#"{"login":"gitea-actions"}"#)
                }
                (path, "hunter2-open") if path.starts_with("/api/v1/packages/") => {
                    typed("application/json", "[]")
                }
                _ => return None,
            },
        )
    });
    let of = |owner: &str, token: Option<&str>| {
        let yaml = format!(
            "registry: {{ provider: gitea, url: '{}', owner: {owner} }}",
            server.url()
        );
        let world = World::new().file("imglife.yaml", yaml);
        Report::of(&match token {
            Some(token) => world.variable("GITEA_TOKEN", token),
            None => world,
        })
    };
    let right = of(gitea::OWNER, Some(gitea::TOKEN));
    assert_eq!(
        (
            right.state("packages.read", ""),
            right.state("packages.write", "")
        ),
        ("ok", "ok")
    );
    of(gitea::OWNER, Some(gitea::JOB)).says("packages.write", "", "wrong", "`write:package`");
    assert_eq!(
        of(gitea::OWNER, Some("hunter2-open")).state("packages.write", ""),
        "unknown"
    );
    of(gitea::OWNER, Some("hunter2-actions")).says(
        "packages.token",
        "",
        "wrong",
        "cannot publish packages",
    );
    of(gitea::OWNER, Some("hunter2-wrong")).says("packages.token", "", "wrong", "set GITEA_TOKEN");
    of("nobody", Some(gitea::TOKEN)).says("packages.project", "", "wrong", "registry.owner");
    of(gitea::OWNER, None).says("packages.read", "", "missing", "set GITEA_TOKEN");
    assert!(
        server
            .server
            .requests()
            .iter()
            .all(|received| received.method == "GET")
    );
}

#[test]
fn a_bucket_is_reached_with_the_right_keys_only() {
    let server = Seaweed::start();
    server.make_bucket("records");
    let of = |bucket: &str, secret: &str| {
        let yaml = format!(
            "registry: {{ provider: s3, url: '{}', bucket: {bucket} }}",
            server.url()
        );
        let world = World::new().file("imglife.yaml", yaml);
        Report::of(
            &world
                .variable("AWS_ACCESS_KEY_ID", ACCESS_KEY)
                .variable("AWS_SECRET_ACCESS_KEY", secret),
        )
    };
    let right = of("records", SECRET_KEY);
    assert_eq!(
        (
            right.state("packages.read", ""),
            right.state("packages.write", "")
        ),
        ("ok", "unknown")
    );
    of("records", "hunter2-wrong").says("packages.read", "", "wrong", "AWS_SECRET_ACCESS_KEY");
    of("nothing", SECRET_KEY).says("packages.read", "", "wrong", "create the bucket nothing");
}

#[test]
fn without_a_configuration_the_machine_is_looked_at() {
    let world = World::new();
    let before = tree(&world.home());
    let report = Report::of(&world);
    assert_eq!(report.code, Some(0), "{}", report.text);
    report.says("configuration.file", "", "missing", "--config PATH");
    assert_eq!(
        (
            report.state("engine.available", "native"),
            report.state("git.version", "")
        ),
        ("ok", "ok")
    );
    assert_eq!(tree(&world.home()), before);
    world.imglife(["--config", "none.yaml", "doctor"]).exits(2);
}

#[test]
fn what_is_wrong_with_the_configuration_is_told_with_its_place() {
    let world = World::new().file(
        "imglife.yaml",
        "sync:\n  entries:\n    - { source: $UPSTREAM/a, target: r.example/a, tag: '1' }\n",
    );
    let report = Report::of(&world);
    let found = report
        .checks
        .iter()
        .find(|check| check["check"] == "configuration.file")
        .expect("a finding");
    assert!(
        found["about"]
            .as_str()
            .expect("text")
            .starts_with("imglife.yaml:3:"),
        "{found}"
    );
    assert!(
        found["state"] == "wrong" && found["detail"].as_str().expect("text").contains("UPSTREAM"),
        "{found}"
    );
    assert_eq!(report.state("configuration.places", ""), "unknown");
}

#[test]
fn engines_templates_hooks_and_webhooks_are_looked_at() {
    let registry = Registry::plain();
    let host = registry.host();
    let yaml = format!(
        "registry: {{ provider: file, insecure_registries: ['{host}'] }}\n\
         build:\n  registry: {host}/bases\n  core_version: '1'\n  engine: buildah\n  images:\n\
         \x20   - {{ name: run, folder: run, type: core, mirror_image: {host}/m, mirror_tag: '1' }}\n\
         \x20   - {{ name: gone, folder: gone, type: core, mirror_image: {host}/m, mirror_tag: '1' }}\n\
         \x20 hooks: {{ post_image_build: [{{ cmd: 'no-such-program {{{{ image }}}}' }}, {{ cmd: [true] }}] }}\n\
         lifecycle: {{ notify: {{ slack_webhook_env: HOOK, webhook_env: OTHER }} }}\n"
    );
    let world = World::new()
        .file("imglife.yaml", yaml)
        .file("run/Dockerfile.tmpl", "FROM {{ base }}\nRUN true\n")
        .program("buildah", "echo 'no storage' >&2; exit 1")
        .variable("HOOK", "https://hooks.example/services/hunter2");
    let report = Report::of(&world);
    report.says(
        "engine.available",
        "buildah",
        "missing",
        "or choose another engine",
    );
    report.says("build.template", "gone", "missing", "`folder`");
    report.says("hook.program", "no-such-program", "missing", "install it");
    assert_eq!(report.state("hook.program", "true"), "ok");
    assert!(
        report.find("webhook.address", "HOOK")["detail"]
            .as_str()
            .expect("text")
            .ends_with("not called")
    );
    report.says("webhook.address", "OTHER", "missing", "masked variable");
    report.says("oci.pull", "m", "missing", "correct its name");
    assert_eq!(report.state("packages.inventory", ""), "missing");
}

#[test]
fn end_of_life_data_are_asked_for_and_read() {
    let dates = EndOfLife::start();
    dates.product("alpine-linux", &[("3.22", Some("2099-01-01"))]);
    let yaml = |lifecycle: &str| {
        format!(
            "sync:\n  entries:\n    - {{ source: 'ocidir://a', target: 'ocidir://b', tag: '1', lifecycle: [{{ product: alpine-linux }}, {{ product: \
             alpin }}] }}\nlifecycle: {{ {lifecycle} }}\n"
        )
    };
    let of = |lifecycle: &str, file: Option<&str>| {
        let world = World::new().file("imglife.yaml", yaml(lifecycle));
        Report::of(&match file {
            Some(text) => world.file("eol-data.yaml", text),
            None => world,
        })
    };
    let address = dates.address();
    let host = address
        .trim_start_matches("http://")
        .trim_end_matches("/api");
    let asking = format!("api_url: '{address}'");
    let report = of(&asking, None);
    assert_eq!(
        (
            report.state("eol.api", host),
            report.state("eol.product", "alpine-linux")
        ),
        ("ok", "ok")
    );
    report.says("eol.product", "alpin", "wrong", "the name of their page");
    report.says("eol.file", "", "missing", "run `imglife eol update`");
    assert_eq!(
        of(
            &asking,
            Some("alpine-linux: [{ cycle: '3.22', eol: 2099-01-01 }]\n")
        )
        .state("eol.file", ""),
        "ok"
    );
    of(&asking, Some("alpine-linux: 3\n")).says("eol.file", "", "wrong", "repair it");
    let closed = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port");
    of(&format!("api_url: 'http://{closed}/api'"), None).says(
        "eol.api",
        &closed.to_string(),
        "wrong",
        "lifecycle.api_url",
    );
    of("eol_provider: local", None).says("eol.file", "", "missing", "create it by hand");
}

#[test]
fn git_is_looked_at_as_commits_of_a_pipeline_need_it() {
    let yaml = "registry: { provider: file }\n";
    let world = World::new().file("imglife.yaml", yaml);
    Report::of(&world).says("git.repository", "", "missing", "safe.directory");
    world.shell("git init -q -b main .").succeeds();
    let report = Report::of(&world);
    assert_eq!(
        (
            report.state("git.repository", ""),
            report.state("git.token", "")
        ),
        ("ok", "ok")
    );
    report.says("git.identity", "", "missing", "user.email");
    report.says("git.remote", "", "missing", "git remote add origin");
    let set_up = "git config user.name me && git config user.email me@example.com && git remote add origin https://me:hunter2@git.example/a.git";
    world.shell(set_up).succeeds();
    let report = Report::of(&world);
    assert_eq!(
        report.find("git.identity", "")["detail"],
        "me <me@example.com>"
    );
    assert_eq!(
        report.find("git.remote", "")["detail"],
        "origin is https://git.example/a.git"
    );
    // What is set and not used is not praised.
    let report = Report::of(&world.variable("GITLAB_TOKEN", "hunter2"));
    assert!(
        report.find("git.token", "")["detail"]
            .as_str()
            .expect("text")
            .starts_with("no token is used outside CI"),
        "{}",
        report.text
    );
}

#[test]
fn git_in_a_job_is_told_as_commits_are_made_there_and_a_token_that_was_not_tried_is_unknown() {
    let checkout = || {
        let world = World::new().file("imglife.yaml", "registry: { provider: file }\n");
        world.shell("git init -q -b main . && git config user.name me && git config user.email me@example.com").succeeds();
        world
    };
    let gitlab = |token: Option<&str>| {
        let job = checkout()
            .variable("GITLAB_CI", "true")
            .variable("CI", "true")
            .variable("CI_SERVER_HOST", "gitlab.example");
        let job = job
            .variable("CI_PROJECT_PATH", "team/a")
            .variable("GITLAB_USER_NAME", "Ada")
            .variable("GITLAB_USER_EMAIL", "ada@x.example");
        Report::of(&match token {
            Some(name) => job.variable(name, "hunter2"),
            None => job,
        })
    };
    let report = gitlab(None);
    report.says("git.token", "", "missing", "GITLAB_TOKEN");
    assert_eq!(
        report.find("git.identity", "")["detail"],
        "Ada <ada@x.example>, of the job"
    );
    assert_eq!(
        report.find("git.remote", "")["detail"],
        "https://gitlab.example/team/a.git, of the job"
    );
    gitlab(Some("CI_JOB_TOKEN")).says("git.token", "", "unknown", "Job token permissions");
    gitlab(Some("GITLAB_TOKEN")).says("git.token", "", "unknown", "`write_repository`");
    // The token of another kind of server is none.
    gitlab(Some("GITEA_TOKEN")).says("git.token", "", "missing", "GITLAB_TOKEN");
    let gitea = |token: &str| {
        let job = checkout()
            .variable("GITEA_ACTIONS", "true")
            .variable("GITHUB_SERVER_URL", "https://gitea.example");
        let job = job
            .variable("GITHUB_REPOSITORY", "team/a")
            .variable("GITHUB_ACTOR", "ada")
            .variable(token, "hunter2");
        Report::of(&job)
    };
    gitea("GITLAB_TOKEN").says("git.token", "", "missing", "GITEA_TOKEN");
    gitea("GITEA_TOKEN").says("git.token", "", "unknown", "`write:repository`");
    gitea("GITHUB_TOKEN").says("git.token", "", "unknown", "GITEA_TOKEN");
    assert_eq!(
        gitea("GITEA_TOKEN").find("git.identity", "")["detail"],
        "ada <ada@noreply.gitea.example>, of the job"
    );
}

#[test]
fn a_place_for_records_that_cannot_be_reached_is_told_with_what_to_do() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port");
    for provider in [
        "gitlab, project_id: 42",
        "gitea, owner: team",
        "s3, bucket: records",
    ] {
        let yaml = format!("registry: {{ provider: {provider}, url: 'http://{closed}' }}");
        let world = World::new().file("imglife.yaml", yaml);
        let world = world
            .variable("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .variable("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        Report::of(&world).says("packages.reachable", "", "wrong", "registry.url");
    }
    let file = World::new()
        .file(
            "imglife.yaml",
            "registry: { provider: file, path: records }",
        )
        .file("records", "");
    Report::of(&file).says("packages.write", "", "wrong", "name a directory");
}

#[test]
fn the_configuration_of_the_base_repository_is_looked_for_at_its_forge() {
    let server = gitlab_that_tells(&["api"], 40);
    let url = server.url();
    let yaml = format!("registry: {{ url: '{url}', project_id: 42, config_ref: nowhere }}");
    let report = Report::of(
        &World::new()
            .file("imglife.yaml", yaml)
            .variable("GITLAB_TOKEN", gitlab::MAINTAINER),
    );
    let found = report
        .checks
        .iter()
        .find(|check| check["check"] == "forge.file")
        .expect("a finding");
    assert!(
        found["state"] != "ok" && found["needed"] == false,
        "{found}"
    );
    assert!(
        found["about"].as_str().expect("text").contains("nowhere") && found["fix"].is_string(),
        "{found}"
    );
}
