//! The parts of a release, and the pipelines that call them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::runner::copy;
use crate::support::fake_server::{FakeServer, ReceivedRequest, typed};
use crate::support::kit::{follows_schema, project};
use crate::support::world::World;
use crate::sync::json as parsed;

/// Returns a world with the script and what it reads, with notes about version 1.2.3.
fn workshop() -> World {
    let world = World::new()
        .file(
            "CHANGELOG.md",
            "# Changelog\n\n## Unreleased\n\n- later\n\n## 1.2.3 - 2026-11-21\n\n### Added\n\n- a \"thing\"\n\n## 1.2.2\n\n- old\n",
        )
        .file("Cargo.toml", "[package]\nname = \"imglife\"\nversion = \"1.2.3\"\n")
        .file("dist/imglife-linux-amd64", "a program")
        .file("dist/imglife-1.2.3.cdx.json", "{}");
    copy(&project(".ci"), &world.path(".ci"), |text| text);
    world
}

#[test]
fn pipelines_follow_the_published_schemas() {
    follows_schema(
        &["vendor.gitlab-ci", "--data-transform", "gitlab-ci"],
        &[project(".gitlab-ci.yml")],
    );
    for file in [".gitlab-ci.yml", ".gitea/workflows/release.yml"] {
        let text = fs::read_to_string(project(file)).expect("a pipeline");
        for part in ["check", "build amd64 arm64", "sbom", "checksums", "image"] {
            assert!(
                text.contains(&format!(".ci/release {part}")),
                "{file}: {part}"
            );
        }
    }
}

#[test]
fn a_tag_is_released_when_everything_agrees_on_its_version() {
    let world = workshop();
    assert_eq!(
        world.shell(".ci/release check v1.2.3").succeeds().stdout,
        "1.2.3\n"
    );
    assert_eq!(
        world.shell(".ci/release notes 1.2.3").succeeds().stdout,
        "### Added\n\n- a \"thing\"\n"
    );
    for (arguments, said) in [
        (
            "check v1.2.2",
            "the tag is v1.2.2, but the version in Cargo.toml is 1.2.3",
        ),
        ("check 1.2.3", "the tag is `1.2.3`, expected `v1.2.3`"),
        ("check 'v1.2.3;touch HOSTILE'", "is not a version"),
        ("notes 9.9.9", "CHANGELOG.md has no section for 9.9.9"),
        ("notes", "takes one argument"),
        ("deploy", "unknown part"),
    ] {
        let outcome = world.shell(&format!(".ci/release {arguments}"));
        assert!(
            outcome.code() != Some(0) && outcome.stderr.contains(said),
            "{arguments}: {}",
            outcome.stderr
        );
    }
    assert!(!world.path("HOSTILE").exists());

    world
        .shell(".ci/release checksums && .ci/release checksums")
        .succeeds();
    world
        .shell("cd dist && sha256sum --check --strict SHA256SUMS")
        .succeeds();
    assert_eq!(
        fs::read_to_string(world.path("dist/SHA256SUMS"))
            .expect("a file")
            .lines()
            .count(),
        2
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "cargo's registry is where cargo has put it"
)]
fn cargo_home() -> PathBuf {
    std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cargo"),
        PathBuf::from,
    )
}

#[test]
fn the_bill_of_materials_lists_what_becomes_part_of_the_binary() {
    let cargo = Path::new(env!("CARGO"));
    let tools = cargo.parent().expect("a directory");
    let world = workshop()
        .variable("CARGO", cargo)
        .variable("CARGO_HOME", cargo_home())
        .variable("CARGO_NET_OFFLINE", "true")
        .variable("PATH", format!("{}:/usr/bin:/bin", tools.display()))
        .file("src/lib.rs", "")
        .file("src/main.rs", "")
        .file("tests/integration/main.rs", "");
    for file in ["Cargo.toml", "Cargo.lock"] {
        fs::copy(project(file), world.path(file)).expect("a copied file");
    }
    world.shell(".ci/release sbom 1.2.3").succeeds();
    let bill =
        parsed(&fs::read_to_string(world.path("dist/imglife-1.2.3.cdx.json")).expect("a file"));
    assert_eq!(
        (&bill["bomFormat"], &bill["specVersion"]),
        (&"CycloneDX".into(), &"1.5".into())
    );
    assert_eq!(bill["metadata"]["component"]["version"], "1.2.3");
    let components = bill["components"].as_array().expect("components");
    let lock = fs::read_to_string(project("Cargo.lock")).expect("a lock file");
    for component in components {
        let text = |key: &str| component[key].as_str().expect("text");
        assert_eq!(
            text("purl"),
            format!("pkg:cargo/{}@{}", text("name"), text("version"))
        );
        let sum = component["hashes"][0]["content"]
            .as_str()
            .expect("a checksum");
        let locked = format!(
            "name = \"{}\"\nversion = \"{}\"\n",
            text("name"),
            text("version")
        );
        let entry = lock
            .split_once(&locked)
            .unwrap_or_else(|| panic!("{locked}"))
            .1
            .lines()
            .take(2)
            .collect::<String>();
        assert!(entry.contains(sum), "{component}");
        assert!(
            component["licenses"][0]["expression"].is_string(),
            "{component}"
        );
    }
    let names: BTreeSet<&str> = components
        .iter()
        .filter_map(|component| component["name"].as_str())
        .collect();
    assert!(
        names.contains("tokio") && names.contains("aws-sdk-s3"),
        "{names:?}"
    );
    for absent in [
        "imglife",
        "insta",
        "axum",
        "cc",
        "serde_derive",
        "windows-sys",
    ] {
        assert!(!names.contains(absent), "{absent} is not in the binary");
    }
}

#[test]
fn a_release_at_gitea_has_each_file_once_also_when_it_is_repeated() {
    #[derive(Default)]
    struct Kept {
        release: Option<Value>,
        files: Vec<String>,
    }
    let kept = Arc::new(Mutex::new(Kept::default()));
    let answering = Arc::clone(&kept);
    let server = FakeServer::start(move |received: &ReceivedRequest| -> Response {
        if received
            .headers
            .get("authorization")
            .is_none_or(|token| token != "token hunter2")
        {
            return (StatusCode::UNAUTHORIZED, "log in").into_response();
        }
        let mut kept = answering.lock().expect("no panic");
        let answer = |value: Value| typed("application/json", value.to_string());
        match (received.method.as_str(), received.path.as_str()) {
            ("GET", "/api/v1/repos/team/imglife/releases/tags/v1.2.3") => match &kept.release {
                Some(_) => answer(json!({ "id": 7 })),
                None => (StatusCode::NOT_FOUND, "{}").into_response(),
            },
            ("POST", "/api/v1/repos/team/imglife/releases") => {
                kept.release = Some(serde_json::from_slice(&received.body).expect("JSON"));
                answer(json!({ "id": 7 }))
            }
            ("GET", "/api/v1/repos/team/imglife/releases/7/assets") => answer(
                kept.files
                    .iter()
                    .map(|name| json!({ "name": name }))
                    .collect(),
            ),
            ("POST", path) => {
                let name = path
                    .strip_prefix("/api/v1/repos/team/imglife/releases/7/assets?name=")
                    .expect("a file");
                kept.files.push(name.to_owned());
                answer(json!({}))
            }
            _ => (StatusCode::NOT_FOUND, "").into_response(),
        }
    });
    let world = workshop()
        .variable("GITHUB_API_URL", format!("http://{}/api/v1", server.host()))
        .variable("GITHUB_REPOSITORY", "team/imglife")
        .variable("GITEA_TOKEN", "hunter2");
    let first = world.shell(".ci/release publish-gitea v1.2.3").succeeds();
    assert_eq!(
        first.stdout,
        "attached imglife-1.2.3.cdx.json\nattached imglife-linux-amd64\n"
    );
    world.shell(".ci/release checksums").succeeds();
    assert_eq!(
        world
            .shell(".ci/release publish-gitea v1.2.3")
            .succeeds()
            .stdout,
        "attached SHA256SUMS\n"
    );
    let kept = kept.lock().expect("no panic");
    let release = kept.release.as_ref().expect("a release");
    assert_eq!(
        (&release["tag_name"], &release["prerelease"]),
        (&"v1.2.3".into(), &false.into())
    );
    assert_eq!(release["body"], "### Added\n\n- a \"thing\"");
    assert_eq!(kept.files.len(), 3);
}

#[test]
fn components_are_pushed_to_a_project_of_their_own_when_they_name_the_image_of_their_version() {
    let world = workshop();
    let git = "git -c user.name=a -c user.email=a@example.com";
    world
        .shell(&format!(
            "cp -r '{}' . && git init --quiet && git add --all && {git} commit --quiet --message one && \
             git init --quiet --bare --initial-branch=main server/platform/imglife-components.git",
            project("ci-components").display()
        ))
        .succeeds();
    let publish = |version: &str, project: &str| {
        let server = format!(
            "CI_SERVER_URL=file://{} COMPONENTS_TOKEN=hunter2",
            world.path("server").display()
        );
        world.shell(&format!(
            "{server} .ci/release publish-components {version} '{project}'"
        ))
    };
    let version = env!("CARGO_PKG_VERSION");
    for _ in 0..2 {
        publish(version, "platform/imglife-components").succeeds();
    }
    let pushed = world
        .shell(&format!(
            "git -C server/platform/imglife-components.git ls-tree --name-only {version}"
        ))
        .succeeds()
        .stdout;
    assert!(
        pushed.contains("templates\n")
            && pushed.contains(".gitlab-ci.yml\n")
            && !pushed.contains("Cargo.toml"),
        "{pushed}"
    );
    assert!(
        publish("9.9.9", "platform/imglife-components")
            .stderr
            .contains("set-version.sh 9.9.9")
    );
    assert!(
        publish(version, "platform/$(touch HOSTILE)")
            .stderr
            .contains("is not a path of a project")
    );
    assert!(!world.path("HOSTILE").exists());
}

#[test]
fn files_of_a_release_at_gitlab_are_generic_packages() {
    let server = FakeServer::start(|_| StatusCode::CREATED.into_response());
    let world = workshop()
        .variable("CI_API_V4_URL", format!("http://{}/api/v4", server.host()))
        .variable("CI_PROJECT_ID", "7")
        .variable("CI_JOB_TOKEN", "hunter2");
    world.shell(".ci/release upload-gitlab 1.2.3").succeeds();
    let received = server.requests();
    let paths: Vec<&str> = received
        .iter()
        .map(|received| received.path.as_str())
        .collect();
    let at = |name: &str| format!("/api/v4/projects/7/packages/generic/imglife/1.2.3/{name}");
    assert_eq!(
        paths,
        [at("imglife-1.2.3.cdx.json"), at("imglife-linux-amd64")]
    );
    assert!(
        received
            .iter()
            .all(|received| received.method == "PUT" && received.headers["job-token"] == "hunter2")
    );
    assert_eq!(&received[1].body[..], b"a program");
}
