//! `check`, `latest` and `base-args`.

use axum::http::StatusCode;
use axum::response::IntoResponse as _;

use super::{BASE_TAG, Site, World, json, json_of};
use crate::support::gitlab::{Gitlab, MAINTAINER, Rules};

const CONFIGURATION: &str = "\
build:
  core_version: 1.0.0
  registry: $CI_REGISTRY_IMAGE/bases
  images:
    - { name: alpine, folder: a, type: core, mirror_image: $CI_REGISTRY_IMAGE/mirrors/alpine, mirror_tag: 3.21.3, lifecycle: { product: alpine } }
";

const EOL_DATA: &str =
    "alpine:\n  - { cycle: '3.21', eol: 2040-01-01 }\n  - { cycle: '3.20', eol: 2020-01-01 }\n";

/// Returns a GitLab with the repository of the bases.
fn gitlab() -> Gitlab {
    Gitlab::start_with(Rules::default(), |received| {
        let path = received.path.strip_prefix("/api/v4/projects/42")?;
        match path {
            "" => Some(r#"{"path_with_namespace":"org/base","container_registry_image_prefix":"r.example"}"#.into_response()),
            "/repository/files/imglife.yaml/raw?ref=main" => Some(CONFIGURATION.into_response()),
            "/repository/files/eol-data.yaml/raw?ref=main" => Some(EOL_DATA.into_response()),
            _ if path.starts_with("/repository/") => Some(StatusCode::NOT_FOUND.into_response()),
            _ => None,
        }
    })
}

/// Returns a world that knows the place of the records by variables alone, as an application's
/// repository does.
fn application(gitlab: &Gitlab) -> World {
    World::new()
        .variable("IMGLIFE_REGISTRY_URL", gitlab.url().as_str())
        .variable("IMGLIFE_REGISTRY_PROJECT_ID", "42")
        .variable("GITLAB_TOKEN", MAINTAINER)
        // What a configuration of another repository never sees.
        .variable("CI_REGISTRY_IMAGE", "attacker.example")
}

#[test]
fn the_base_of_a_dockerfile_is_checked_by_the_base_repository() {
    let gitlab = gitlab();
    let world = application(&gitlab).file(
        "Dockerfile",
        "ARG TAG=3.20.1-core1.0.0\nFROM r.example/bases/alpine:$TAG AS a\nFROM a\n",
    );
    let report = json_of(&world.imglife(["check", "--output", "json"]).succeeds());
    let expected = json!({
        "schema": "imglife/check/v1",
        "base": "r.example/bases/alpine:3.20.1-core1.0.0",
        "latest": "r.example/bases/alpine:3.21.3-core1.0.0",
        "up_to_date": false,
        "rebuilt": null,
        "eol_date": "2020-01-01",
        "eol_status": "expired",
        "days_left": report["days_left"],
        "warnings": [],
    });
    assert_eq!(report, expected);
    world.imglife(["check", "--strict"]).exits(3);
    world.imglife(["check", "--strict", "--warn"]).succeeds();
    world
        .imglife(["check", "--strict", "--build-arg", "TAG=3.21.3-core1.0.0"])
        .succeeds();
    world
        .imglife([
            "check",
            "--strict",
            "--build-arg",
            "TAG=3.21.3-core1.0.0",
            "--max-days",
            "100000",
        ])
        .exits(3);

    let outcome = world
        .imglife([
            "check",
            "--output",
            "gitlab",
            "--report-codequality",
            "quality.json",
            "--report-dotenv",
            "check.env",
        ])
        .succeeds();
    let issues = json_of(&outcome);
    assert_eq!(
        (&issues[0]["check_name"], &issues[0]["location"]),
        (
            &json!("imglife/outdated-base"),
            &json!({ "path": "Dockerfile", "lines": { "begin": 2 } })
        )
    );
    assert_eq!(
        std::fs::read_to_string(world.path("quality.json")).expect("a file"),
        outcome.stdout
    );
    let variables = std::fs::read_to_string(world.path("check.env")).expect("a file");
    assert!(
        variables.contains(
            "IMGLIFE_LATEST=r.example/bases/alpine:3.21.3-core1.0.0\nIMGLIFE_UP_TO_DATE=false\n"
        ),
        "{variables}"
    );
    let outcome = world.imglife(["check", "--output", "github"]).succeeds();
    assert!(
        outcome
            .stdout
            .contains("\n::warning file=Dockerfile,line=2,title=Outdated base::"),
        "{}",
        outcome.stdout
    );
    assert!(!format!("{outcome:?}").contains("hunter2"));

    assert_eq!(
        world.imglife(["latest", "alpine"]).succeeds().stdout,
        "r.example/bases/alpine:3.21.3-core1.0.0\n"
    );
    let outcome = world.imglife(["latest", "golang"]).exits(1);
    assert!(
        outcome.stderr.contains("use one of r.example/bases/alpine"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn what_cannot_be_checked_fails_unless_only_warnings_are_wanted() {
    let gitlab = Gitlab::start_with(Rules::default(), |received| {
        received
            .path
            .contains("/repository/")
            .then(|| StatusCode::FORBIDDEN.into_response())
    });
    let world = application(&gitlab)
        .file("Dockerfile", "FROM r.example/bases/alpine:1\n")
        .file("broken", "FROM a\nFRUM b\n");
    let outcome = world.imglife(["check"]).exits(1);
    assert!(
        outcome
            .stderr
            .contains("cannot read imglife.yaml at main of project 42")
            && outcome.stderr.contains("read_api"),
        "{}",
        outcome.stderr
    );
    world.imglife(["check", "--warn", "--strict"]).succeeds();
    let outcome = world.imglife(["check", "--dockerfile", "broken"]).exits(1);
    assert!(
        outcome.stderr.contains("broken:2: unknown instruction"),
        "{}",
        outcome.stderr
    );
    let outcome = world.imglife(["check", "--dockerfile", "missing"]).exits(2);
    assert!(
        outcome.stderr.contains("cannot read missing"),
        "{}",
        outcome.stderr
    );
    let outcome = world
        .imglife(["check", "--dockerfile", "missing", "--warn"])
        .succeeds();
    assert!(
        outcome.stderr.contains("cannot read missing"),
        "{}",
        outcome.stderr
    );
    world
        .imglife(["check", "--build-arg", "X", "--warn"])
        .exits(2);
}

#[tokio::test]
async fn a_registry_that_may_be_asked_tells_newer_tags_and_rebuilt_ones() {
    let site = Site::new().await;
    site.put_app("apps/web", "1.0").await;
    let world = site.world();
    world
        .imglife(["register", "--image", &site.image("apps/web:1.0")])
        .succeeds();
    let base = site.base();
    let check = |base: &str| {
        json_of(
            &world
                .imglife(["check", "--probe", "--base", base, "--output", "json"])
                .succeeds(),
        )
    };
    let report = check(&base);
    assert_eq!(
        (
            &report["up_to_date"],
            &report["rebuilt"],
            &report["eol_status"]
        ),
        (&json!(true), &json!(false), &json!("unknown"))
    );

    site.put(
        "bases/alpine",
        BASE_TAG,
        &["m", "b2"],
        site.base_labels(),
        json!({}),
    )
    .await;
    assert_eq!(check(&base)["rebuilt"], json!(true));
    site.put(
        "bases/alpine",
        "3.21.4-core1.0.0",
        &["m", "b3"],
        site.base_labels(),
        json!({}),
    )
    .await;
    let newest = site.image("bases/alpine:3.21.4-core1.0.0");
    assert_eq!(
        (&check(&base)["up_to_date"], &check(&base)["latest"]),
        (&json!(false), &json!(newest))
    );
    assert_eq!(
        world
            .imglife(["latest", &site.image("bases/alpine"), "--probe"])
            .succeeds()
            .stdout,
        format!("{newest}\n")
    );

    let flags = world
        .shell(&format!(
            "for flag in $({} base-args --probe {newest}); do echo \"$flag\"; done",
            env!("CARGO_BIN_EXE_imglife")
        ))
        .succeeds()
        .stdout;
    let flags: Vec<&str> = flags.lines().collect();
    assert_eq!(
        (flags.len(), flags[0], flags[4]),
        (8, "--label", "--annotation"),
        "{flags:?}"
    );
    assert_eq!(
        flags[3],
        format!("org.opencontainers.image.base.name={newest}")
    );
    assert!(
        flags[1].starts_with("org.opencontainers.image.base.digest=sha256:"),
        "{flags:?}"
    );
}

#[test]
fn a_named_configuration_needs_no_place_of_records() {
    let world = World::new()
        .file(
            "theirs.yaml",
            CONFIGURATION.replace("$CI_REGISTRY_IMAGE", "r.example"),
        )
        .file("eol.yaml", EOL_DATA)
        .file(
            "Dockerfile",
            "FROM r.example/bases/alpine:3.21.3-core1.0.0\n",
        );
    let report = json_of(
        &world
            .imglife([
                "check",
                "--config-url",
                "theirs.yaml",
                "--eol-data-url",
                "eol.yaml",
                "--output",
                "json",
            ])
            .succeeds(),
    );
    assert_eq!(
        (&report["up_to_date"], &report["eol_date"]),
        (&json!(true), &json!("2040-01-01"))
    );
    world.imglife(["check"]).exits(2);
    let outcome = world
        .imglife(["check", "--config-url", "http://127.0.0.1:1/x"])
        .exits(2);
    assert!(outcome.stderr.contains("plain HTTP"), "{}", outcome.stderr);
}
