//! No secret that a run is given is in anything that it prints, in a file that it writes, or in the
//! arguments of a program that it starts; whether it ends well, is refused, or meets servers that
//! repeat what they were told.

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

/// What is told of a run, by where it was found.
pub(super) type Told = BTreeMap<String, String>;

/// Returns the forms that a secret may not be shown in: as it is, as part of a URL or of JSON, and
/// as a login of `users`.
fn forms(secret: &str) -> Vec<String> {
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
        let login = format!("{user}{secret}");
        // The last characters depend on what follows.
        forms.push(STANDARD.encode(&login).trim_end_matches('=').to_owned());
        forms.push(URL_SAFE.encode(&login).trim_end_matches('=').to_owned());
    }
    forms.sort();
    forms.dedup();
    forms
}

/// Fails the test when one of the secrets is told anywhere.
fn assert_untold(told: &Told, secrets: &[String]) {
    for secret in secrets {
        for form in forms(secret) {
            for (place, text) in told {
                let line = text.lines().find(|line| line.contains(&form));
                assert!(
                    line.is_none(),
                    "{secret:?} is in {place}: {}",
                    line.unwrap_or_default()
                );
            }
        }
    }
}

/// Adds every file below a directory.
pub(super) fn files(directory: &Path, told: &mut Told) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if entry.file_type().expect("a kind").is_dir() {
            files(&path, told);
        } else if let Ok(content) = fs::read(&path) {
            told.insert(
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

/// Runs all commands in a world and returns everything that is told of it, and how each ended.
fn everything(world: &World, image: &str, base: &str) -> (Told, Vec<(String, Option<i32>)>) {
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
    let mut told = Told::new();
    let mut ends = Vec::new();
    let arguments = Mutex::new(Told::new());
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
                told.insert(format!("stdout of {line} ({format})"), outcome.stdout);
                told.insert(format!("stderr of {line} ({format})"), outcome.stderr);
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    told.extend(arguments.into_inner().expect("no panic"));
    for directory in [
        world.path(""),
        world.home(),
        world.home().with_file_name("tmp"),
    ] {
        files(&directory, &mut told);
    }
    (told, ends)
}

/// Where a world of all kinds of places finds them.
struct Places<'a> {
    upstream: String,
    target: String,
    forge: &'a str,
    calendar: String,
    hooks: String,
}

impl Places<'_> {
    fn configuration(&self, engine: &str) -> String {
        let Places {
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
retention: {{ keep_last: 1, max_delete_percent: 100, require_records: false }}
"
        )
    }

    /// Returns the world, in a checkout of `bare`, with every kind of login that there is.
    fn world(&self, bare: &Bare, secrets: &Secrets) -> World {
        let helper = format!(
            "cat > /dev/null; echo 'asked for {0}' >&2; echo '{{\"Username\":\"{USER}\",\"Secret\":\"{0}\"}}'",
            secrets.password
        );
        // An engine that shows all it has, and fails.
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

/// What must not be told.
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

    /// Returns secrets that nobody takes, with characters that are written otherwise in URLs,
    /// shells and JSON.
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
async fn nothing_that_runs_print_write_or_start_holds_a_secret() {
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
    let places = Places {
        upstream: upstream.host(),
        target: proxy.host(),
        forge: address.as_str(),
        calendar: api.address(),
        hooks: hooks.host(),
    };
    let world = places.world(&bare, &secrets);
    let (image, on) = (
        format!("{}/mirrors/app:1.0", places.target),
        format!("{}/bases/app:1.0-core1.0.0", places.target),
    );
    let (told, ends) = everything(&world, &image, &on);
    // The engine fails, and the forge knows nothing of its project.
    let is_to_fail = |line: &str| line.contains("engine.yaml") || line.starts_with("doctor");
    let failed: Vec<_> = ends
        .iter()
        .filter(|(line, code)| *code != Some(0) && !is_to_fail(line))
        .collect();
    assert!(
        failed.is_empty(),
        "{failed:?}: {}",
        told.iter()
            .filter(|(place, _)| failed.iter().any(|(line, _)| place.contains(line)))
            .map(|(place, text)| format!("--- {place}\n{text}\n"))
            .collect::<String>()
    );
    let tokens: Vec<String> = proxy
        .seen()
        .iter()
        .filter_map(|seen| {
            seen.header("authorization")?
                .split(' ')
                .nth(1)
                .map(str::to_owned)
        })
        .collect();
    assert!(
        !tokens.is_empty() && !hooks.requests().is_empty(),
        "the registry was logged in to, and the message sent"
    );
    assert_untold(&told, &[secrets.all(), tokens].concat());
    // Nor is it in an address, but that of the webhooks, which is one.
    let addresses = forge
        .server
        .requests()
        .into_iter()
        .chain(api.requests())
        .map(|received| received.path)
        .chain(proxy.seen().into_iter().map(|seen| seen.path));
    assert_untold(
        &Told::from([(
            "an address".to_owned(),
            addresses.collect::<Vec<_>>().join("\n"),
        )]),
        &secrets.all(),
    );
}

/// Answers with all that it was told, as proxies do that somebody debugs, in the forms that errors
/// have.
fn repeating(received: &ReceivedRequest) -> axum::response::Response {
    let mut told: Vec<String> = received
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let logins = received
        .headers
        .get_all(header::AUTHORIZATION)
        .iter()
        .filter_map(|value| {
            STANDARD
                .decode(value.to_str().ok()?.strip_prefix("Basic ")?)
                .ok()
        });
    told.extend(logins.map(|login| String::from_utf8_lossy(&login).into_owned()));
    told.push(format!("{} {}", received.method, received.path));
    told.push(String::from_utf8_lossy(&received.body).into_owned());
    let told = told.join("; ");
    let status = if received.headers.contains_key(header::AUTHORIZATION) {
        StatusCode::FORBIDDEN
    } else {
        StatusCode::UNAUTHORIZED
    };
    let body = serde_json::json!({ "errors": [{ "code": "DENIED", "message": told, "detail": told }], "message": told, "error": told });
    let challenge = format!("Basic realm={:?}", "the realm");
    (
        status,
        [(header::WWW_AUTHENTICATE, challenge)],
        typed("application/json", body.to_string()),
    )
        .into_response()
}

#[test]
fn servers_that_repeat_secrets_do_not_bring_them_into_what_runs_print_or_write() {
    let server = FakeServer::start(repeating);
    let (host, address) = (server.host(), format!("http://{}", server.host()));
    let bare = Bare::with(&[("README.md", "old\n")]);
    let places = Places {
        upstream: host.clone(),
        target: host.clone(),
        forge: &address,
        calendar: format!("{address}/api"),
        hooks: host.clone(),
    };
    let secrets = Secrets::wrong();
    let world = places
        .world(&bare, &secrets)
        .file("README.md", "new\n")
        .file(
            "eol-data.yaml",
            format!("app: [{{ cycle: '1', eol: {} }}]\n", today()),
        );
    let (told, ends) = everything(
        &world,
        &format!("{host}/mirrors/app:1.0"),
        &format!("{host}/bases/app:1.0-core1.0.0"),
    );
    assert!(
        ends.iter().filter(|(_, code)| *code == Some(1)).count() > 20,
        "{ends:?}"
    );
    assert_untold(&told, &secrets.all());
    let received = server.requests();
    let told_to = |name: &str| {
        received
            .iter()
            .any(|received| received.headers.contains_key(name))
    };
    assert!(
        told_to("authorization") && told_to("private-token"),
        "it was told something"
    );

    // The same of a bucket, whose requests are signed.
    let storage = format!(
        "registry: {{ provider: s3, url: {address:?}, bucket: records, insecure_registries: [{host:?}] }}\n"
    );
    let world = world.file("imglife.yaml", storage);
    let mut told = Told::new();
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
        told.insert(format!("stdout of {words:?}"), outcome.stdout);
        told.insert(format!("stderr of {words:?}"), outcome.stderr);
    }
    assert_untold(&told, &secrets.all());
}
