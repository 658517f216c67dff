//! Tests that no secret appears in the output of a run, in the files that it writes, or in the
//! arguments of the programs that it starts.
//!
//! They cover runs that succeed, runs with rejected credentials, and servers that echo requests.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::connections::variable;
use super::{Proxy, Registry, World, client};
use crate::commit_push::forges::{gitlab, gitlab_job};
use crate::native::images::base;
use crate::support::endoflife::EndOfLife;
use crate::support::fake_server::{FakeServer, ReceivedRequest, typed};
use crate::support::git::Bare;
use crate::support::gitlab::{JOB, MAINTAINER};
use crate::support::registry::{PASSWORD, USER};
use crate::support::seaweed::ACCESS_KEY;
use crate::support::tokens::TokenRules;

/// Output of a run by its origin: a stream of a command, or the path of a file.
pub(super) type Output = BTreeMap<String, String>;

/// Returns all encodings of a secret to search for: unchanged, in a URL, in JSON, and in Basic
/// credentials with several user names.
fn encodings(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    forms.push(url::form_urlencoded::byte_serialize(secret.as_bytes()).collect());
    forms.push(forms[1].replace('+', "%20"));
    forms.push(
        serde_json::to_string(secret)
            .expect("text")
            .trim_matches('"')
            .to_owned(),
    );
    for user in [
        "",
        ":",
        "alice:",
        "oauth2:",
        "gitlab-ci-token:",
        "token:",
        "imglife:",
    ] {
        let credentials = format!("{user}{secret}");
        // The padding depends on the text that follows.
        forms.push(
            STANDARD
                .encode(&credentials)
                .trim_end_matches('=')
                .to_owned(),
        );
        forms.push(
            URL_SAFE
                .encode(&credentials)
                .trim_end_matches('=')
                .to_owned(),
        );
    }
    forms.sort();
    forms.dedup();
    forms
}

/// Fails the test if one of the secrets appears in the output.
fn assert_no_secrets(output: &Output, secrets: &[String]) {
    for secret in secrets {
        for form in encodings(secret) {
            for (origin, text) in output {
                let line = text.lines().find(|line| line.contains(&form));
                assert!(
                    line.is_none(),
                    "{secret:?} is in {origin}: {}",
                    line.unwrap_or_default()
                );
            }
        }
    }
}

/// Adds every file below a directory.
pub(super) fn files(directory: &Path, output: &mut Output) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if entry.file_type().expect("a kind").is_dir() {
            files(&path, output);
        } else if let Ok(content) = fs::read(&path) {
            output.insert(
                path.display().to_string(),
                String::from_utf8_lossy(&content).into_owned(),
            );
        }
    }
}

/// Returns the arguments of all processes that run in a world.
fn arguments_in(world: &World) -> Vec<String> {
    let mark = format!("HOME={}\0", world.home().display());
    let processes = fs::read_dir("/proc")
        .expect("the list of processes")
        .flatten();
    processes
        .filter(|process| {
            fs::read(process.path().join("environ"))
                .is_ok_and(|all| String::from_utf8_lossy(&all).contains(&mark))
        })
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .collect()
}

/// Runs all commands in a world. Returns the output and the exit code of each command.
fn run_all_commands(
    world: &World,
    image: &str,
    base: &str,
) -> (Output, Vec<(String, Option<i32>)>) {
    let lines = [
        "config check",
        "config show",
        "doctor",
        "doctor --output json",
        "sync --list",
        "sync --dry-run --output json",
        "sync --report-junit junit.xml --report-metrics metrics.txt",
        "build --output json --report-junit build.xml",
        "--config engine.yaml build",
        "eol update",
        "eol list --output json",
        "register --image IMAGE --base BASE --field note=x",
        "status --publish --output README.md --overwrite --report-junit status.xml --report-metrics status.txt",
        "eol notify",
        "app list --detailed --output json",
        "check --base BASE --probe --report-codequality quality.json --report-dotenv check.env",
        "latest app --probe",
        "base-args BASE",
        "app purge --orphans",
        "cleanup --dry-run --output json",
        "cleanup --output json",
        "git commit-push -m update README.md",
        "run --push always --reports reports --event schedule",
    ];
    let mut output = Output::new();
    let mut ends = Vec::new();
    let arguments = Mutex::new(Output::new());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for line in arguments_in(world) {
                    arguments
                        .lock()
                        .expect("no panic")
                        .insert(format!("the arguments `{line}`"), line);
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        });
        for line in lines {
            for format in ["text", "json"] {
                let text = line.replace("IMAGE", image).replace("BASE", base);
                let words: Vec<&str> = ["--log-level", "trace", "--log-format", format]
                    .into_iter()
                    .chain(text.split(' '))
                    .collect();
                let outcome = world.imglife_with(&words);
                ends.push((line.to_owned(), outcome.code()));
                output.insert(format!("stdout of {line} ({format})"), outcome.stdout);
                output.insert(format!("stderr of {line} ({format})"), outcome.stderr);
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    output.extend(arguments.into_inner().expect("no panic"));
    for directory in [
        world.path(""),
        world.home(),
        world.home().with_file_name("tmp"),
    ] {
        files(&directory, &mut output);
    }
    (output, ends)
}

/// Addresses of the servers that a world uses.
struct Servers<'a> {
    upstream: String,
    target: String,
    forge: &'a str,
    calendar: String,
    hooks: String,
}

impl Servers<'_> {
    fn configuration(&self, engine: &str) -> String {
        let Servers {
            upstream,
            target,
            forge,
            calendar,
            hooks,
        } = self;
        format!(
            "registry: {{ url: {forge:?}, project_id: 42, insecure_registries: [{upstream:?}, {target:?}, {hooks:?}] }}
lifecycle: {{ api_url: {calendar:?}, notify: {{ slack_webhook_env: CHAT_WEBHOOK, webhook_env: OUR_WEBHOOK, at_days: [0] }} }}
sync:
  entries:
    - {{ source: '{upstream}/app', target: '{target}/mirrors/app', tag_regex: '1\\..*', lifecycle: {{ product: app }} }}
build:
  core_version: 1.0.0
  registry: '{target}/bases'
  engine: {engine}
  platforms: [linux/amd64]
  hooks: {{ post_image_build: [{{ cmd: 'env; echo {{{{ image }}}} $OUR_WEBHOOK >&2' }}] }}
  images:
    - {{ name: app, folder: images/app, type: core, mirror_image: '{target}/mirrors/app', mirror_tag: '1.0', args: {{ A: b }} }}
retention: {{ keep_last: 1, grace_days: 0, max_delete_percent: 100, require_records: false }}
"
        )
    }

    /// Returns a world in a checkout of `bare`, with every supported kind of credentials.
    fn world(&self, bare: &Bare, secrets: &Secrets) -> World {
        let helper = format!(
            "cat > /dev/null; echo 'asked for {0}' >&2; echo '{{\"Username\":\"{USER}\",\"Secret\":\"{0}\"}}'",
            secrets.password
        );
        // A build engine that prints its arguments, credentials and environment, and fails.
        let engine = "case $1 in --version) echo buildah version 1.28.2; exit 0;; esac; tr '\\0' ' ' < /proc/$$/cmdline; \
                      cat $REGISTRY_AUTH_FILE >&2; base64 -d < $REGISTRY_AUTH_FILE 2>&1; env | grep -v ^PATH; exit 125";
        let job = gitlab_job(self.forge, "main")
            .program("docker-credential-fake", &helper)
            .program("buildah", engine)
            .variable("GITLAB_TOKEN", &secrets.token)
            .variable("CI_JOB_TOKEN", &secrets.job)
            .variable("CI_COMMIT_SHA", "4f2a91c")
            .variable("CI_PIPELINE_SOURCE", "schedule")
            .variable(
                "CI_REPOSITORY_URL",
                format!(
                    "https://gitlab-ci-token:{}@gitlab.example/team/base.git",
                    secrets.job
                ),
            )
            .variable(
                "HTTPS_PROXY",
                format!("http://proxy-user:{}@127.0.0.1:9", secrets.proxy),
            )
            .variable("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .variable("AWS_SECRET_ACCESS_KEY", &secrets.storage)
            .variable(
                "CHAT_WEBHOOK",
                format!("http://{}/services/{}", self.hooks, secrets.webhook),
            )
            .variable(
                "OUR_WEBHOOK",
                format!("http://{}/hook?key={}", self.hooks, secrets.webhook),
            )
            .variable(&variable(&self.upstream, "USERNAME"), USER)
            .variable(&variable(&self.upstream, "PASSWORD"), &secrets.password);
        let world = bare
            .checkout_in(job, "")
            .file("imglife.yaml", self.configuration("native"))
            .file(
                "engine.yaml",
                self.configuration("buildah").replace("1.0.0", "2.0.0"),
            )
            .file(
                "images/app/Dockerfile.tmpl",
                "FROM {{ base }}\nCOPY one /srv/\n",
            )
            .file("images/app/one", "one");
        let docker = format!("{{\"credHelpers\": {{{:?}: \"fake\"}}}}", self.target);
        fs::create_dir(world.home().join(".docker")).expect("a directory");
        fs::write(world.home().join(".docker/config.json"), docker).expect("a file");
        world
    }
}

/// Secrets that must not appear in the output.
struct Secrets {
    password: String,
    token: String,
    job: String,
    webhook: String,
    proxy: String,
    storage: String,
}

impl Secrets {
    fn all(&self) -> Vec<String> {
        [
            &self.password,
            &self.token,
            &self.job,
            &self.webhook,
            &self.proxy,
            &self.storage,
        ]
        .map(Clone::clone)
        .to_vec()
    }

    /// Returns invalid secrets with characters that are escaped in URLs, shells and JSON.
    fn wrong() -> Secrets {
        let odd = |kind: &str| format!("{kind}-%hunter2+/\"=&'{kind}");
        Secrets {
            password: "wr0ng-hunter2+/=&".to_owned(),
            token: "glpat-hunter2-w%r+o/n=g".to_owned(),
            job: "glcbt-hunter2-w%r+o/n=g".to_owned(),
            webhook: "T00-hunter2-wrong".to_owned(),
            proxy: "hunter2-proxy-wrong".to_owned(),
            storage: odd("storage"),
        }
    }
}

fn today() -> String {
    let today = std::process::Command::new("date")
        .args(["-u", "+%F"])
        .output()
        .expect("a date")
        .stdout;
    String::from_utf8_lossy(&today).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_files_and_arguments_contain_no_secret() {
    let secrets = Secrets {
        password: PASSWORD.to_owned(),
        token: MAINTAINER.to_owned(),
        job: JOB.to_owned(),
        webhook: "T00-hunter2-B00".to_owned(),
        proxy: "hunter2-of-the-proxy".to_owned(),
        storage: "hunter2/of+the=storage".to_owned(),
    };
    let (upstream, target) = (
        Registry::builder().htpasswd().start(),
        Registry::builder().tokens(TokenRules::default()).start(),
    );
    let proxy = Proxy::start(target.host(), Vec::new());
    let mut graph = base(&["linux/amd64"]);
    let image = graph.tags[0].clone();
    graph.tags = vec![
        ("1.0".parse().expect("a tag"), image.1.clone()),
        ("1.1".parse().expect("a tag"), image.1),
    ];
    graph
        .publish(&client(&upstream), &upstream.repository("app"))
        .await;
    let api = EndOfLife::start();
    api.product("app", &[("1", Some(&today()))]);
    let hooks = FakeServer::start(|_| typed("text/plain", "ok"));
    let bare = Bare::with(&[("README.md", "old\n")]);
    let forge = gitlab(&bare, &[&format!("oauth2:{MAINTAINER}")]);
    let address = forge.url();
    let servers = Servers {
        upstream: upstream.host(),
        target: proxy.host(),
        forge: address.as_str(),
        calendar: api.address(),
        hooks: hooks.host(),
    };
    let world = servers.world(&bare, &secrets);
    let (image, on) = (
        format!("{}/mirrors/app:1.0", servers.target),
        format!("{}/bases/app:1.0-core1.0.0", servers.target),
    );
    let (output, ends) = run_all_commands(&world, &image, &on);
    // The engine fails, and the forge does not know the project.
    let must_fail = |line: &str| line.contains("engine.yaml") || line.starts_with("doctor");
    let failed: Vec<_> = ends
        .iter()
        .filter(|(line, code)| *code != Some(0) && !must_fail(line))
        .collect();
    assert!(
        failed.is_empty(),
        "{failed:?}: {}",
        output
            .iter()
            .filter(|(origin, _)| failed.iter().any(|(line, _)| origin.contains(line)))
            .map(|(origin, text)| format!("--- {origin}\n{text}\n"))
            .collect::<String>()
    );
    let tokens: Vec<String> = proxy
        .requests()
        .iter()
        .filter_map(|request| {
            request
                .header("authorization")?
                .split(' ')
                .nth(1)
                .map(str::to_owned)
        })
        .collect();
    assert!(
        !tokens.is_empty() && !hooks.requests().is_empty(),
        "no credentials or no notification were sent"
    );
    assert_no_secrets(&output, &[secrets.all(), tokens].concat());
    // Request URLs contain no secret either, except the webhook URLs, which are secrets themselves.
    let addresses = forge
        .server
        .requests()
        .into_iter()
        .chain(api.requests())
        .map(|received| received.path)
        .chain(proxy.requests().into_iter().map(|request| request.path));
    assert_no_secrets(
        &Output::from([(
            "an address".to_owned(),
            addresses.collect::<Vec<_>>().join("\n"),
        )]),
        &secrets.all(),
    );
}

/// Responds with an error that echoes the whole request, like a proxy in debug mode.
fn echo(received: &ReceivedRequest) -> axum::response::Response {
    let mut echoed: Vec<String> = received
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let credentials = received
        .headers
        .get_all(header::AUTHORIZATION)
        .iter()
        .filter_map(|value| {
            STANDARD
                .decode(value.to_str().ok()?.strip_prefix("Basic ")?)
                .ok()
        });
    echoed.extend(credentials.map(|decoded| String::from_utf8_lossy(&decoded).into_owned()));
    echoed.push(format!("{} {}", received.method, received.path));
    echoed.push(String::from_utf8_lossy(&received.body).into_owned());
    let echoed = echoed.join("; ");
    let status = if received.headers.contains_key(header::AUTHORIZATION) {
        StatusCode::FORBIDDEN
    } else {
        StatusCode::UNAUTHORIZED
    };
    let body = serde_json::json!({ "errors": [{ "code": "DENIED", "message": echoed, "detail": echoed }], "message": echoed, "error": echoed });
    let challenge = format!("Basic realm={:?}", "the realm");
    (
        status,
        [(header::WWW_AUTHENTICATE, challenge)],
        typed("application/json", body.to_string()),
    )
        .into_response()
}

#[test]
fn secrets_echoed_by_servers_are_redacted() {
    let server = FakeServer::start(echo);
    let (host, address) = (server.host(), format!("http://{}", server.host()));
    let bare = Bare::with(&[("README.md", "old\n")]);
    let servers = Servers {
        upstream: host.clone(),
        target: host.clone(),
        forge: &address,
        calendar: format!("{address}/api"),
        hooks: host.clone(),
    };
    let secrets = Secrets::wrong();
    let world = servers
        .world(&bare, &secrets)
        .file("README.md", "new\n")
        .file(
            "eol-data.yaml",
            format!("app: [{{ cycle: '1', eol: {} }}]\n", today()),
        );
    let (output, ends) = run_all_commands(
        &world,
        &format!("{host}/mirrors/app:1.0"),
        &format!("{host}/bases/app:1.0-core1.0.0"),
    );
    assert!(
        ends.iter().filter(|(_, code)| *code == Some(1)).count() > 20,
        "{ends:?}"
    );
    assert_no_secrets(&output, &secrets.all());
    let received = server.requests();
    let received_header = |name: &str| {
        received
            .iter()
            .any(|received| received.headers.contains_key(name))
    };
    assert!(
        received_header("authorization") && received_header("private-token"),
        "the server received no credentials"
    );

    // The same for S3, where requests are signed.
    let storage = format!(
        "registry: {{ provider: s3, url: {address:?}, bucket: records, insecure_registries: [{host:?}] }}\n"
    );
    let world = world.file("imglife.yaml", storage);
    let mut output = Output::new();
    for words in [
        &["app", "list"][..],
        &["doctor"],
        &[
            "register",
            "--image",
            "r.example/a:1",
            "--base",
            "r.example/b:1",
            "--project",
            "p",
            "--revision",
            "r",
            "--platform",
            "linux/amd64",
        ],
    ] {
        let outcome = world
            .imglife_with(&[&["--log-level", "trace"], words].concat())
            .exits(1);
        output.insert(format!("stdout of {words:?}"), outcome.stdout);
        output.insert(format!("stderr of {words:?}"), outcome.stderr);
    }
    assert_no_secrets(&output, &secrets.all());
}
