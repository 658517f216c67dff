//! The errors that a newcomer meets in the first hour, provoked through the binary.
//! `tests/errors/<page>.md` holds what is printed.
//!
//! `UPDATE_ERRORS=1 cargo test errors` writes the pages anew; the change is then read in review, as
//! somebody who sees it for the first time. `docs/troubleshooting.md` quotes what stands there.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use axum::http::StatusCode;
use axum::response::IntoResponse as _;

use regex::Regex;

use super::support::endoflife::EndOfLife;
use super::support::fake_server::{FakeServer, typed};
use super::support::gitlab::{self, Gitlab};
use super::support::registry::{PASSWORD, Registry, USER};
use super::support::tokens::TokenRules;
use super::support::world::{Outcome, World};

/// A page of the tour: what was typed, and all that was printed.
struct Page {
    name: &'static str,
    text: String,
    /// What differs from run to run, and what stands for it.
    replaced: Vec<(String, String)>,
    ports: usize,
}

impl Page {
    fn new(name: &'static str, about: &str) -> Page {
        let text = format!(
            "# {about}\n\nWhat imglife prints, whole. `tests/integration/errors.rs` provokes it and keeps this page.\n"
        );
        Page {
            name,
            text,
            replaced: Vec::new(),
            ports: 50_000,
        }
    }

    /// Has a host of this machine stand there under a port that is always the same.
    fn host(&mut self, host: &str) {
        let (_, port) = host.rsplit_once(':').expect("a port");
        self.ports += 1;
        for before in ["127.0.0.1:", "localhost:", "127_0_0_1_", "LOCALHOST_"] {
            self.replaced
                .push((format!("{before}{port}"), format!("{before}{}", self.ports)));
        }
    }

    /// Runs imglife and writes down what it prints.
    fn visit(&mut self, title: &str, world: &World, arguments: &[&str]) {
        self.write(title, world, arguments, &world.imglife_with(arguments));
    }

    /// Runs imglife as somebody who may not do everything, as root may.
    fn visit_unprivileged(&mut self, title: &str, world: &World, arguments: &[&str]) {
        let line = format!("{} {}", env!("CARGO_BIN_EXE_imglife"), arguments.join(" "));
        let line = if rustix::process::geteuid().is_root() {
            format!("setpriv --bounding-set=-all {line}")
        } else {
            line
        };
        self.write(title, world, arguments, &world.shell(&line));
    }

    fn write(&mut self, title: &str, world: &World, arguments: &[&str], outcome: &Outcome) {
        let code = outcome.code().expect("an end of its own");
        let quoted: Vec<String> = arguments
            .iter()
            .map(|argument| {
                if argument.contains([' ', '*']) {
                    format!("'{argument}'")
                } else {
                    (*argument).to_owned()
                }
            })
            .collect();
        let line = std::iter::once("imglife".to_owned())
            .chain(quoted)
            .collect::<Vec<_>>()
            .join(" ");
        let _ = write!(
            self.text,
            "\n## {title}\n\n```console\n$ {}\n",
            self.normal(&line, world)
        );
        for (stream, text) in [("", &outcome.stdout), ("--- stderr\n", &outcome.stderr)] {
            if !text.is_empty() {
                // What stands on stderr is told apart only where there is both.
                let label = if outcome.stdout.is_empty() {
                    ""
                } else {
                    stream
                };
                let _ = write!(self.text, "{label}{}", self.normal(text, world));
            }
        }
        let _ = write!(self.text, "--- exit code {code}\n```\n");
    }

    fn normal(&self, text: &str, world: &World) -> String {
        let directory = world
            .path("")
            .parent()
            .expect("a directory above")
            .display()
            .to_string();
        let mut text = text
            .replace(&format!("{directory}/work"), "/home/me/images")
            .replace(&directory, "/home/me");
        for (from, to) in &self.replaced {
            text = text.replace(from, to);
        }
        for (pattern, to) in [
            (r"· \d[\dmh .]*s\b", "· 0.1s"),
            (r"sha256:[0-9a-f]{64}", "sha256:0123…"),
            (r"\d+ GB free", "48 GB free"),
            (
                r"the inventory of [-0-9]+ [0-9:]+ UTC",
                "the inventory of 2026-11-21 14:29 UTC",
            ),
            (r"git version( +)\d[\d.]*", "git version${1}2.39.5"),
        ] {
            text = Regex::new(pattern)
                .expect("a pattern")
                .replace_all(&text, to)
                .into_owned();
        }
        text
    }

    /// Compares the page with the one that is kept, or keeps it.
    #[expect(
        clippy::disallowed_methods,
        reason = "who runs the tests says by a variable that the pages are to be written anew"
    )]
    fn end(self) {
        let path = directory().join(format!("{}.md", self.name));
        if std::env::var_os("UPDATE_ERRORS").is_some() {
            std::fs::write(&path, &self.text).expect("a written page");
            return;
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let differing = self
            .text
            .lines()
            .zip(kept.lines())
            .find(|(now, before)| now != before);
        assert!(
            self.text == kept,
            "{} differs, first in {differing:#?}\n`UPDATE_ERRORS=1 cargo test errors` writes it anew; now it is\n{}",
            path.display(),
            self.text
        );
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/errors")
}

fn mirror(host: &str, tag: &str, more: &str) -> String {
    format!(
        "sync:\n  entries:\n    - source: ocidir://upstream/alpine\n      target: {host}/mirrors/alpine\n      {tag}\n{more}"
    )
}

fn insecure(host: &str) -> String {
    format!("registry: {{ provider: file, insecure_registries: ['{host}'] }}\n")
}

fn variable(host: &str, kind: &str) -> String {
    format!("IMGLIFE_{}_{kind}", host.replace(['.', ':'], "_"))
}

/// Where the images of the sample world are.
static UPSTREAM: LazyLock<World> = LazyLock::new(|| {
    let world = World::new();
    world.imglife(["demo", "sample"]).succeeds();
    world
});

/// Returns a world with the images of the sample world as `upstream/`.
fn world() -> World {
    let world = World::new();
    world
        .shell(&format!(
            "cp -r '{}' upstream",
            UPSTREAM.path("sample/upstream").display()
        ))
        .succeeds();
    world
}

/// Returns a port on which nobody listens.
fn closed() -> String {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .to_string()
}

#[test]
fn wrong_usage() {
    let mut page = Page::new("usage", "Wrong usage");
    let world = World::new().file(
        "imglife.yaml",
        mirror("registry.example.com", "tag: 3.22.1", ""),
    );
    page.visit("A command that is misspelt", &world, &["snyc"]);
    page.visit("A command that there is not", &world, &["deploy"]);
    page.visit("An option that is misspelt", &world, &["sync", "--dryrun"]);
    page.visit("An option that there is not", &world, &["sync", "--fast"]);
    page.visit("An option without its value", &world, &["sync", "--only"]);
    page.visit("A part of a command is missing", &world, &["eol"]);
    page.visit(
        "A date that is none",
        &world,
        &["cleanup", "--dry-run", "--now", "yesterday"],
    );
    page.visit(
        "Another date, and not only to look",
        &world,
        &["cleanup", "--now", "2030-01-01"],
    );
    page.visit("A share that is none", &world, &["sync", "--shard", "3/2"]);
    page.visit(
        "A time that is none",
        &world,
        &["--time-limit", "soon", "sync"],
    );
    page.visit(
        "A name that fits nothing",
        &world,
        &["sync", "--only", "debian"],
    );
    page.visit(
        "All images are to be built again",
        &world,
        &["build", "--force"],
    );
    page.visit("No base, no Dockerfile", &world, &["check"]);
    page.visit(
        "A reference that is none",
        &world,
        &["check", "--base", "Alpine:3.22"],
    );
    page.visit("A step that there is not", &world, &["run", "deploy"]);
    page.visit(
        "A page of the manual that there is not",
        &world,
        &["man", "snyc"],
    );
    let world = world.variable("IMGLIFE_LOG_LEVEL", "loud");
    page.visit("A variable with a wrong value", &world, &["sync"]);
    let text = "build:\n  core_version: '1'\n  registry: registry.example.com/bases\n  images: [{ name: app, folder: app, type: core, mirror_image: registry.example.com/mirrors/alpine, mirror_tag: '3' }]\n";
    let job = World::new().file("imglife.yaml", text);
    let mode = job.variable("IMGLIFE_CHILD_MODE", "dind");
    page.visit(
        "A child pipeline whose jobs would need a service",
        &mode,
        &["build", "--list", "--format", "gitlab-child"],
    );
    let text = mirror(
        "registry.example.com",
        "tag: 3.22.1\n      lifecycle: { product: alpine }",
        "",
    );
    let handed_on = World::new()
        .file("imglife.yaml", text)
        .variable("IMGLIFE_EOL_ARTIFACT", "life/eol-data.yaml");
    page.visit(
        "A job that hands on another file",
        &handed_on,
        &["run", "eol-update"],
    );
    page.end();
}

#[test]
fn wrong_configurations() {
    let mut page = Page::new("configuration", "Wrong configurations");
    let world = World::new();
    page.visit("No configuration", &world, &["sync"]);
    page.visit(
        "Another file, which is not there",
        &world,
        &["-c", "images.yaml", "sync"],
    );
    page.visit(
        "A directory in the place of the file",
        &world,
        &["-c", ".", "sync"],
    );
    let of = |text: &str| World::new().file("imglife.yaml", text);
    page.visit("An empty file", &of(""), &["sync"]);
    page.visit(
        "A slip: an indentation",
        &of("sync:\n  entries:\n    - source: docker.io/library/alpine\n     target: r.example/alpine\n"),
        &["sync"],
    );
    page.visit(
        "A slip: a quote that is not closed",
        &of("sync:\n  entries:\n    - source: 'docker.io/library/alpine\n      target: r.example/alpine\n"),
        &["sync"],
    );
    page.visit("A slip: a tab", &of("sync:\n\tentries: []\n"), &["sync"]);
    page.visit(
        "A slip: no blank after a colon",
        &of("sync:\n  entries:\n    - source:docker.io/library/alpine\n      target: r.example/alpine\n"),
        &["sync"],
    );
    page.visit(
        "A key that is misspelt",
        &of(&mirror("r.example", "tagregex: '3.*'", "")),
        &["sync"],
    );
    page.visit(
        "A key that is missing",
        &of("sync:\n  entries:\n    - source: docker.io/library/alpine\n      tag: 3.22.1\n"),
        &["sync"],
    );
    page.visit(
        "A key that is in the wrong section",
        &of(&mirror("r.example", "tag: 3.22.1", "keep_last: 3\n")),
        &["sync"],
    );
    page.visit(
        "A key twice",
        &of(&mirror("r.example", "tag: 3.22.1\n      tag: 3.22.0", "")),
        &["sync"],
    );
    page.visit(
        "A value of another kind",
        &of(&mirror(
            "r.example",
            "tag_regex: '3.*'\n      keep_last: three\n      check_digest: yes",
            "",
        )),
        &["sync"],
    );
    page.visit(
        "A pattern that is none",
        &of(&mirror("r.example", "tag_regex: '3.(\\d+'", "")),
        &["sync"],
    );
    page.visit(
        "A tag within a repository",
        &of("sync:\n  entries:\n    - { source: 'docker.io/library/alpine:3.22.1', target: r.example/alpine, tag: 3.22.1 }\n"),
        &["sync"],
    );
    page.visit(
        "No tag is asked for",
        &of(&mirror("r.example", "referrers: false", "")),
        &["sync"],
    );
    page.visit(
        "A variable that is not set",
        &of(&mirror("$CI_REGISTRY_IMAGE", "tag: 3.22.1", "")),
        &["sync"],
    );
    page.visit(
        "A variable named like a secret",
        &of(&mirror(
            "r.example",
            "tag: 3.22.1",
            "registry: { provider: file, path: $REGISTRY_PASSWORD }\n",
        )),
        &["sync"],
    );
    page.visit(
        "A variable that an untrusted job does not expand",
        &of(&mirror("$TEAM_REGISTRY", "tag: 3.22.1", "")).variable("TEAM_REGISTRY", "r.example"),
        &["sync", "--untrusted"],
    );
    page.visit(
        "A path out of the repository",
        &of("build:\n  core_version: 1.0.0\n  registry: r.example/bases\n  images:\n    - { name: alpine, folder: .., type: core, mirror_image: r.example/alpine, mirror_tag: 3.22.1 }\n"),
        &["build"],
    );
    page.visit(
        "A command without its section",
        &of(&mirror("r.example", "tag: 3.22.1", "")),
        &["build"],
    );
    page.visit(
        "All that a file suffices for",
        &of(&mirror("r.example", "tag: 3.22.1", "")),
        &["--check"],
    );
    page.visit("Several mistakes at once", &of("sync:\n  entries:\n    - { source: docker.io/library/alpine, tag: 3.22.1 }\nbuild:\n  engine: kaniko\n  images: []\nregsitry: {}\n"), &["--check"]);
    page.end();
}

#[test]
fn logins_that_are_refused() {
    let mut page = Page::new("logins", "Logins that are refused");
    let password = Registry::builder().htpasswd().start();
    let host = password.host();
    page.host(&host);
    let of =
        |host: &str| world().file("imglife.yaml", mirror(host, "tag: 3.22.1", &insecure(host)));
    let with = |world: World, host: &str, user: &str, password: &str| {
        world
            .variable(&variable(host, "USERNAME"), user)
            .variable(&variable(host, "PASSWORD"), password)
    };
    page.visit("No login is set", &of(&host), &["sync"]);
    page.visit(
        "A password is wrong",
        &with(of(&host), &host, USER, "hunter2"),
        &["sync"],
    );
    page.visit(
        "A user without a password",
        &of(&host).variable(&variable(&host, "USERNAME"), USER),
        &["sync"],
    );
    page.visit(
        "A token is wrong",
        &of(&host).variable(&variable(&host, "TOKEN"), "hunter2"),
        &["sync"],
    );
    let login =
        r#"{ "auths": { "HOST": { "auth": "YWxpY2U6aHVudGVyMg==" } } }"#.replace("HOST", &host);
    let docker = of(&host).file("../home/.docker/config.json", login);
    page.visit("A password of docker login is wrong", &docker, &["sync"]);
    let helper = of(&host).file("../home/.docker/config.json", r#"{ "credsStore": "none" }"#);
    page.visit("The helper of docker login is missing", &helper, &["sync"]);
    page.visit(
        "What the doctor says of a wrong password",
        &with(of(&host), &host, USER, "hunter2"),
        &["doctor", "--no-progress"],
    );
    page.visit(
        "What the doctor says without a login",
        &of(&host),
        &["doctor", "--no-progress"],
    );

    let tokens = Registry::builder().tokens(TokenRules::default()).start();
    let host = tokens.host();
    page.host(&host);
    page.host(
        tokens
            .tokens()
            .realm()
            .trim_start_matches("http://")
            .trim_end_matches("/token"),
    );
    let three = world().file(
        "imglife.yaml",
        mirror(&host, "tag_regex: '3\\.2[12].*'", &insecure(&host)),
    );
    page.visit(
        "Everybody may pull, and nobody set a login to push",
        &three,
        &["--no-progress", "sync"],
    );
    page.visit(
        "A token server takes no such password",
        &with(of(&host), &host, USER, "hunter2"),
        &["sync"],
    );
    page.visit(
        "What the doctor says of that",
        &with(of(&host), &host, USER, "hunter2"),
        &["doctor", "--no-progress"],
    );
    with(of(&host), &host, USER, PASSWORD)
        .imglife(["sync"])
        .succeeds();

    let refusing = FakeServer::start(|received| {
        match received.method.as_str() {
        _ if !received.headers.contains_key("authorization") => (
            StatusCode::UNAUTHORIZED,
            [("www-authenticate", r#"Basic realm="registry""#)],
        )
            .into_response(),
        "GET" | "HEAD" if received.path == "/v2/" => typed("application/json", "{}"),
        "GET" | "HEAD" => (
            StatusCode::NOT_FOUND,
            typed("application/json", r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#),
        )
            .into_response(),
        _ => (
            StatusCode::FORBIDDEN,
            typed("application/json", r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#),
        )
            .into_response(),
    }
    });
    let host = refusing.host();
    page.host(&host);
    page.visit(
        "A login may not push",
        &with(of(&host), &host, USER, PASSWORD),
        &["sync"],
    );
    page.end();
}

#[test]
fn hosts_that_are_not_as_they_were_thought() {
    let mut page = Page::new("hosts", "Hosts that are not as they were thought");
    let (plain, tls, down) = (
        Registry::plain(),
        Registry::builder().tls().start(),
        closed(),
    );
    for host in [&plain.host(), &tls.host(), &down] {
        page.host(host);
    }
    let of =
        |host: &str, more: &str| world().file("imglife.yaml", mirror(host, "tag: 3.22.1", more));
    let several = |host: &str| {
        world().file(
            "imglife.yaml",
            format!(
                "{}lifecycle: {{ api_url: 'http://{host}' }}\n{}",
                insecure(host),
                mirror(
                    host,
                    "tag_regex: '.*'",
                    &format!("    - source: ocidir://upstream/debian\n      target: {host}/mirrors/debian\n      tag_regex: '.*'\n")
                )
            ),
        )
    };
    page.visit("Nobody listens at the target", &several(&down), &["sync"]);
    let from = |host: &str| {
        format!(
            "sync:\n  entries:\n    - {{ source: {host}/library/alpine, target: ocidir://mirrors/alpine, tag: 3.22.1 }}\n{}",
            insecure(host)
        )
    };
    page.visit(
        "Nobody listens at the source",
        &World::new().file("imglife.yaml", from(&down)),
        &["sync"],
    );
    page.visit(
        "What the doctor says of that",
        &World::new().file("imglife.yaml", from(&down)),
        &["doctor", "--no-progress"],
    );
    page.visit(
        "A name that is no host's",
        &of("registry_.example.com", ""),
        &["sync"],
    );
    page.visit(
        "Plain HTTP is spoken where TLS is asked for",
        &of(&plain.host(), ""),
        &["sync"],
    );
    page.visit(
        "What the doctor says of plain HTTP",
        &of(&plain.host(), ""),
        &["doctor", "--no-progress"],
    );
    page.visit(
        "TLS is spoken where plain HTTP is asked for",
        &of(&tls.host(), &insecure(&tls.host())),
        &["sync"],
    );
    page.visit(
        "What the doctor says of TLS",
        &of(&tls.host(), &insecure(&tls.host())),
        &["doctor", "--no-progress"],
    );
    page.visit(
        "A certificate that nobody here trusts",
        &of(&tls.host(), ""),
        &["sync"],
    );
    page.visit(
        "What the doctor says of a certificate",
        &of(&tls.host(), ""),
        &["doctor", "--no-progress"],
    );
    let missing = format!("hosts: {{ '{}': {{ ca_file: ca.pem }} }}\n", tls.host());
    page.visit(
        "A file of certificates that is not there",
        &of(&tls.host(), &missing),
        &["sync"],
    );
    page.visit(
        "A file of certificates that holds none",
        &of(&tls.host(), &missing).file("ca.pem", "none"),
        &["sync"],
    );
    page.end();
}

#[test]
fn images_that_are_not_there() {
    let mut page = Page::new("images", "Images that are not there");
    let registry = Registry::plain();
    let host = registry.host();
    page.host(&host);
    let of = |entry: &str| {
        world().file(
            "imglife.yaml",
            format!(
                "sync:\n  entries:\n    - {{ {entry} }}\n{}",
                insecure(&host)
            ),
        )
    };
    of(&format!(
        "source: 'ocidir://upstream/alpine', target: {host}/library/alpine, tag_regex: '.*'"
    ))
    .imglife(["sync"])
    .succeeds();
    page.visit(
        "A tag is not there",
        &of(&format!(
            "source: {host}/library/alpine, target: 'ocidir://mirrors/alpine', tag: 3.99.0"
        )),
        &["sync"],
    );
    page.visit(
        "No tag fits the pattern",
        &of(&format!(
            "source: {host}/library/alpine, target: 'ocidir://mirrors/alpine', tag_regex: 'v3.*'"
        )),
        &["sync"],
    );
    page.visit(
        "Why none does",
        &of(&format!(
            "source: {host}/library/alpine, target: 'ocidir://mirrors/alpine', tag_regex: 'v3.*'"
        )),
        &["sync", "--list"],
    );
    page.visit(
        "Fewer tags than there must be",
        &of(&format!("source: {host}/library/alpine, target: 'ocidir://mirrors/alpine', tag_regex: '3.22.*', min_tags: 5")),
        &["sync"],
    );
    page.visit(
        "A repository is not there",
        &of(&format!(
            "source: {host}/library/alpina, target: 'ocidir://mirrors/alpine', tag: 3.22.1"
        )),
        &["sync"],
    );
    page.visit(
        "A platform is not there",
        &of(&format!("source: {host}/library/alpine, target: 'ocidir://mirrors/alpine', tag: 3.22.1, platforms: [linux/s390x]")),
        &["sync"],
    );
    page.visit(
        "A directory is not there",
        &of(&format!(
            "source: 'ocidir://upstream/alpina', target: {host}/mirrors/alpine, tag: 3.22.1"
        )),
        &["sync"],
    );
    let locked = of(&format!(
        "source: {host}/library/alpine, target: 'ocidir://mirrors/alpine', tag: 3.22.1"
    ));
    locked
        .shell("mkdir mirrors && chmod 555 mirrors")
        .succeeds();
    page.visit_unprivileged("A directory may not be written to", &locked, &["sync"]);
    page.visit_unprivileged(
        "What the doctor says of it",
        &locked,
        &["doctor", "--no-progress"],
    );
    page.visit(
        "A directory cannot be there",
        &of(&format!(
            "source: {host}/library/alpine, target: 'ocidir://imglife.yaml/alpine', tag: 3.22.1"
        )),
        &["sync"],
    );
    page.visit(
        "What the doctor says of that",
        &of(&format!(
            "source: {host}/library/alpine, target: 'ocidir://imglife.yaml/alpine', tag: 3.22.1"
        )),
        &["doctor", "--no-progress"],
    );
    page.end();
}

#[test]
fn builds_that_cannot_be() {
    let mut page = Page::new("builds", "Builds that cannot be");
    let yaml = |more: &str| {
        format!(
            "build:\n  core_version: 1.0.0\n  registry: ocidir://bases\n{more}  images:\n    - {{ name: alpine, folder: images/alpine, type: core, \
             mirror_image: 'ocidir://upstream/alpine', mirror_tag: 3.22.1 }}\n"
        )
    };
    let of = |more: &str, template: &str| {
        let world = world()
            .file("imglife.yaml", yaml(more))
            .file("images/alpine/Dockerfile.tmpl", template);
        // Whatever this machine has to build with.
        let path = world
            .path("")
            .parent()
            .expect("a directory above")
            .join("bin");
        world.variable("PATH", path)
    };
    page.visit(
        "No template",
        &world().file("imglife.yaml", yaml("")),
        &["build"],
    );
    page.visit(
        "A template that names what there is not",
        &of("", "FROM {{ bse }}\n"),
        &["build"],
    );
    page.visit(
        "A template that is not closed",
        &of("", "FROM {{ base }\n"),
        &["build"],
    );
    page.visit(
        "A template without a FROM",
        &of("", "# FROM {{ base }}\n"),
        &["build"],
    );
    page.visit(
        "An instruction that there is not",
        &of("", "FROM {{ base }}\nCOYP a /a\n"),
        &["build"],
    );
    page.visit(
        "A file to copy is missing",
        &of("", "FROM {{ base }}\nCOPY motd /etc/motd\n"),
        &["build"],
    );
    page.visit(
        "No engine for RUN",
        &of("", "FROM {{ base }}\nRUN apk upgrade\n"),
        &["build"],
    );
    page.visit(
        "What the doctor says of that",
        &of("", "FROM {{ base }}\nRUN apk upgrade\n"),
        &["doctor", "--no-progress"],
    );
    page.visit(
        "An engine is named that is not there",
        &of("  engine: buildah\n", "FROM {{ base }}\n"),
        &["build"],
    );
    page.visit(
        "The native engine runs nothing",
        &of("  engine: native\n", "FROM {{ base }}\nRUN apk upgrade\n"),
        &["build"],
    );
    let registry = Registry::plain();
    page.host(&registry.host());
    let early = yaml("").replace(
        "ocidir://upstream/alpine",
        &format!("{}/mirrors/alpine", registry.host()),
    ) + &insecure(&registry.host());
    page.visit(
        "Nothing was mirrored yet",
        &of("", "FROM {{ base }}\n").file("imglife.yaml", early),
        &["build"],
    );
    let world = of("", "FROM {{ base }}\n");
    world.imglife(["build"]).succeeds();
    let world = world.file(
        "images/alpine/Dockerfile.tmpl",
        "FROM {{ base }}\nENV LANG=C.UTF-8\n",
    );
    page.visit(
        "A template changed under a published tag",
        &world,
        &["build"],
    );
    page.end();
}

#[test]
fn records_and_dates_that_are_missing() {
    let mut page = Page::new("records", "Records and dates that are missing");
    let bases = "build:\n  core_version: 1.0.0\n  registry: ocidir://bases\n  images:\n    - { name: alpine, folder: images/alpine, type: core, \
                 mirror_image: 'ocidir://upstream/alpine', mirror_tag: 3.22.1, lifecycle: { product: alpine-linux } }\n";
    let of_product = |more: &str| {
        let text = format!("{bases}{more}").replace("alpine-linux", "alpin");
        world().file("imglife.yaml", text)
    };
    let of = |more: &str| {
        world()
            .file("imglife.yaml", format!("{bases}{more}"))
            .file("images/alpine/Dockerfile.tmpl", "FROM {{ base }}\n")
    };
    page.visit("No place for records", &World::new(), &["app", "list"]);
    let register = [
        "register",
        "--image",
        "ocidir://upstream/alpine:3.22.1",
        "--revision",
        "4f2a9c1",
        "--project",
        "shop/web",
    ];
    page.visit("No place to record in", &World::new(), &register);
    page.visit(
        "Nothing is known of the commit",
        &of("registry: { provider: file }\n"),
        &["register", "--image", "r.example/apps/web:1.2.0"],
    );
    page.visit(
        "The base cannot be told",
        &of("registry: { provider: file }\n"),
        &register,
    );
    let gone = [
        "register",
        "--image",
        "ocidir://apps/web:1.2.0",
        "--revision",
        "4f2a9c1",
        "--project",
        "shop/web",
    ];
    page.visit(
        "The image is not there",
        &of("registry: { provider: file }\n"),
        &gone,
    );
    page.visit(
        "Nothing is recorded",
        &of("registry: { provider: file }\n"),
        &["app", "list"],
    );
    page.visit(
        "Nobody published what is newest",
        &of("registry: { provider: file }\n"),
        &["check", "--base", "r.example/bases/alpine:3.22.1-core1.0.0"],
    );
    let published = of("registry: { provider: file }\n");
    published.imglife(["build"]).succeeds();
    published.imglife(["status", "--publish"]).succeeds();
    page.visit("A base that there is not", &published, &["latest", "alpin"]);
    page.visit(
        "A base that nobody publishes",
        &published,
        &["check", "--base", "docker.io/library/alpine:3.22.1"],
    );
    page.visit(
        "No base is published yet",
        &of("registry: { provider: file }\n"),
        &["latest", "alpine", "--probe"],
    );
    let condemning = of("registry: { provider: file }\nretention: { keep_last: 0 }\n");
    condemning.imglife(["build"]).succeeds();
    page.visit(
        "No record, and bases to clean up",
        &condemning,
        &["cleanup"],
    );
    condemning
        .imglife([
            "register",
            "--image",
            "r.example/apps/web:1.0",
            "--base",
            "old.example/bases/alpine:3.22.1",
            "--platform",
            "linux/amd64",
            "--project",
            "team/web",
            "--revision",
            "0123abc",
        ])
        .succeeds();
    page.visit(
        "Records of another configuration",
        &condemning,
        &["cleanup"],
    );
    page.visit(
        "No policy",
        &of("registry: { provider: file }\n"),
        &["cleanup"],
    );
    page.visit(
        "No dates yet",
        &of("registry: { provider: file }\n"),
        &["eol", "list"],
    );
    page.visit(
        "No dates yet, and none are fetched",
        &of("lifecycle: { eol_provider: local }\n"),
        &["eol", "update"],
    );
    let dates = EndOfLife::start();
    page.host(
        dates
            .address()
            .trim_start_matches("http://")
            .trim_end_matches("/api"),
    );
    page.visit(
        "A product that there is not",
        &of_product(&format!(
            "lifecycle: {{ api_url: '{}' }}\n",
            dates.address()
        )),
        &["eol", "update"],
    );
    let down = closed();
    page.host(&down);
    let several: String = ["alpine", "debian", "go", "nodejs", "postgresql", "redis", "ubuntu"]
        .map(|product| {
            format!("    - {{ source: '{product}', target: r.example/{product}, tag: '1', lifecycle: {{ product: {product} }} }}\n")
        })
        .concat();
    let nobody = of(&format!(
        "sync:\n  entries:\n{several}lifecycle: {{ api_url: 'http://{down}/api' }}\n"
    ));
    page.visit("Nobody answers for dates", &nobody, &["eol", "update"]);
    let gitlab = Gitlab::start(gitlab::Rules::default());
    page.host(&format!(
        "127.0.0.1:{}",
        gitlab.url().port().expect("a port")
    ));
    let at = |project: u32| {
        of(&format!(
            "registry: {{ provider: gitlab, url: '{}', project_id: {project} }}\n",
            gitlab.url()
        ))
    };
    page.visit("No token for GitLab", &at(42), &["app", "list"]);
    page.visit(
        "A token that GitLab does not take",
        &at(42).variable("GITLAB_TOKEN", "hunter2"),
        &["app", "list"],
    );
    page.visit(
        "A project that there is not",
        &at(43).variable("GITLAB_TOKEN", gitlab::MAINTAINER),
        &["app", "list"],
    );
    page.end();
}

/// Returns all files below a directory that end so.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                files(&path, extension)
            } else {
                vec![path]
            }
        })
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

#[test]
fn what_the_guide_to_errors_quotes_is_what_is_printed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: PathBuf| {
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let printed: Vec<String> = files(&directory(), "md").into_iter().map(read).collect();
    // Some cannot be provoked in an hour without a forge or a foreign machine: tests of their own
    // print those.
    let sources: Vec<String> = files(&root.join("src"), "rs")
        .into_iter()
        .chain(files(&root.join("tests/integration/faults"), "rs"))
        .map(read)
        .collect();
    let guide = read(root.join("docs/troubleshooting.md"));
    let rows = guide.lines().filter(|line| line.starts_with("| `"));
    let (mut provoked, mut others) = (0, Vec::new());
    for row in rows {
        let quoted = row
            .trim_start_matches("| ")
            .split(" | ")
            .next()
            .expect("a cell")
            .trim_matches('`')
            .trim();
        let parts: Vec<String> = quoted.split('…').map(regex::escape).collect();
        let pattern = Regex::new(&parts.join(".*")).expect("a pattern");
        let stands_in = |texts: &[String]| {
            texts
                .iter()
                .any(|text| text.lines().any(|line| pattern.is_match(line)))
        };
        if stands_in(&printed) {
            provoked += 1;
        } else {
            assert!(stands_in(&sources), "nothing prints `{quoted}`");
            others.push(quoted);
        }
    }
    assert!(
        provoked >= 30 && others.len() <= 8,
        "{provoked} are provoked, and not {others:#?}"
    );
}
