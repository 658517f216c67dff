//! `imglife build` by its binary, with the native engine against a real registry: what is
//! published, also when runs meet. What programs build is tested in `engines`, what layers hold in
//! `native`, what is left by runs that are killed in `faults`.

use std::time::Duration;

use crate::faults::kills::assert_complete;
use crate::native::images::base;
use crate::registries::client;
use crate::support::registry::Registry;
use crate::support::world::World;
use crate::sync::json;

const PATIENCE: Duration = Duration::from_secs(60);

/// Puts a mirror of two platforms at `mirrors/app:1`.
pub(crate) async fn mirror(registry: &Registry) {
    base(&["linux/amd64", "linux/arm64"])
        .publish(&client(registry), &registry.repository("mirrors/app"))
        .await;
}

/// Returns a configuration of a base and of an image on it, below `path`.
pub(crate) fn configuration(registry: &Registry, path: &str) -> String {
    let host = registry.host();
    format!(
        "registry: {{ provider: file, insecure_registries: [{host:?}] }}
build:
  core_version: 1.0.0
  registry: {host}/{path}
  platforms: [linux/amd64, linux/arm64]
  images:
    - {{ name: app, folder: images/app, type: core, mirror_image: {host}/mirrors/app, mirror_tag: '1', aliases: [latest] }}
    - {{ name: tools, folder: images/tools, type: spe, mirror_image: {host}/{path}/app }}
"
    )
}

/// Returns a world with templates, whose runs are all of one time.
pub(crate) fn world(registry: &Registry, path: &str) -> World {
    World::new()
        .file("imglife.yaml", configuration(registry, path))
        .file(
            "images/app/Dockerfile.tmpl",
            "FROM {{ base }}\nCOPY files/ /srv/\nLABEL by={{ revision }}\n",
        )
        .file("images/app/files/one", "one".repeat(50_000))
        .file("images/app/files/two", "two".repeat(90_000))
        .file(
            "images/tools/Dockerfile.tmpl",
            "FROM {{ base }}\nCOPY tool /usr/bin/\n",
        )
        .file("images/tools/tool", "#!/bin/sh\n")
        .variable("SOURCE_DATE_EPOCH", "1767225600")
}

#[tokio::test]
async fn what_is_published_stays_whatever_the_commit_and_what_would_differ_is_refused() {
    let registry = Registry::plain();
    mirror(&registry).await;
    let world = world(&registry, "bases");
    let listed = world.imglife(["build", "--list"]).succeeds().stdout;
    assert_eq!(
        listed
            .lines()
            .filter(|line| line.ends_with("to build"))
            .count(),
        2,
        "{listed}"
    );
    let dry = world.imglife(["build", "--dry-run"]).succeeds().stdout;
    assert!(
        dry.contains("[dry-run]")
            && dry.contains(&format!("FROM {}/mirrors/app:1@sha256:", registry.host())),
        "{dry}"
    );
    assert!(registry.stored_tags("bases/app").is_empty());
    let report = json(
        &world
            .imglife(["build", "--output", "json"])
            .succeeds()
            .stdout,
    );
    assert_eq!(
        (&report["schema"], &report["totals"]["built"]),
        (&"imglife/build/v1".into(), &2.into()),
        "{report}"
    );
    let tags = registry.stored_tags("bases/app");
    assert_eq!(tags.keys().collect::<Vec<_>>(), ["1-core1.0.0", "latest"]);
    assert_eq!(tags["latest"], tags["1-core1.0.0"]);
    // Another commit on another day.
    let later = world
        .variable("CI_COMMIT_SHA", "4f2a")
        .variable("SOURCE_DATE_EPOCH", "1775001600");
    let again = json(
        &later
            .imglife(["build", "--output", "json"])
            .succeeds()
            .stdout,
    );
    assert_eq!(again["totals"]["upToDate"], 2, "{again}");
    let changed = later.file("images/app/files/one", "other");
    let refused = changed.imglife(["build"]).exits(1);
    assert!(
        refused
            .stdout
            .contains("a published tag is not overwritten")
            && refused.stdout.contains("raise `core_version`"),
        "{}",
        refused.stdout
    );
    assert_eq!(registry.stored_tags("bases/app"), tags);
    changed.imglife(["build", "--force"]).exits(2);
    changed
        .imglife(["build", "--force", "--only", "app"])
        .succeeds();
    assert_ne!(registry.stored_tags("bases/app"), tags);
    // The base moved under what is built on it.
    let moved = changed.imglife(["build"]).succeeds();
    assert!(moved.stdout.contains("base moved"), "{}", moved.stdout);
}

#[tokio::test]
async fn hooks_run_after_each_push_and_are_told_what_was_built() {
    let registry = Registry::plain();
    mirror(&registry).await;
    let world = world(&registry, "bases");
    let hooks = "  hooks: { post_image_build: [{ cmd: 'echo {{ image }} {{ digest }} {{ tag }} >> built.txt' }] }\n";
    let text = configuration(&registry, "bases").replacen(
        "  platforms",
        &format!("{hooks}  platforms"),
        1,
    );
    let world = world.file("imglife.yaml", &text);
    world.imglife(["build", "--dry-run"]).succeeds();
    assert!(
        !world.path("built.txt").exists(),
        "hooks do not run in a dry run"
    );
    world.imglife(["build"]).succeeds();
    let told = std::fs::read_to_string(world.path("built.txt")).expect("what the hook wrote");
    let host = registry.host();
    for (line, name) in told.lines().zip(["app", "tools"]) {
        let digest = &registry.stored_tags(&format!("bases/{name}"))["1-core1.0.0"];
        assert_eq!(
            line,
            format!("{host}/bases/{name}:1-core1.0.0 {digest} 1-core1.0.0")
        );
    }
    assert_eq!(told.lines().count(), 2);
    world.imglife(["build"]).succeeds();
    assert_eq!(
        std::fs::read_to_string(world.path("built.txt")).expect("a file"),
        told,
        "nothing was built"
    );
    // One that fails is told, and the image stays built.
    let failing = world.file(
        "imglife.yaml",
        text.replace("cmd: 'echo", "cmd: 'exit 7; echo")
            .replace("core_version: 1.0.0", "core_version: 1.0.1"),
    );
    let failed = failing.imglife(["build"]).exits(1);
    assert!(
        failed.stdout.contains("error: hook `") && failed.stdout.contains("exit code 7"),
        "{}",
        failed.stdout
    );
    assert!(
        registry
            .stored_tags("bases/app")
            .contains_key("1-core1.0.1")
    );
}

#[tokio::test]
async fn builds_at_once_publish_one_image() {
    let registry = Registry::plain();
    mirror(&registry).await;
    let worlds = [
        world(&registry, "shared"),
        world(&registry, "shared"),
        world(&registry, "shared"),
    ];
    let running: Vec<_> = worlds
        .iter()
        .map(|world| {
            world
                .start_imglife(["build", "--output", "json"])
                .within(PATIENCE)
        })
        .collect();
    for run in running {
        run.wait().succeeds();
    }
    let tags = registry.stored_tags("shared/app");
    assert_eq!(tags["latest"], tags["1-core1.0.0"]);
    assert_complete(&client(&registry), &registry.repository("shared/app")).await;
    let again = json(
        &worlds[0]
            .imglife(["build", "--output", "json"])
            .succeeds()
            .stdout,
    );
    assert_eq!(again["totals"]["upToDate"], 2, "{again}");
}
