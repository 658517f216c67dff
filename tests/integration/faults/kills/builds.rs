//! Tests of builds with the native engine that are killed.

use imglife::model::Repository;
use imglife::registry::layout::Layouts;

use super::{
    RUN_TIMEOUT, Registry, SETTLE_TIME, assert_complete, assert_killed, client, kill, layout_files,
    rounds,
};
use crate::build::{configuration, mirror, world};
use crate::native::images::base;
use crate::support::world::World;

#[tokio::test]
async fn killed_build_leaves_complete_images_and_the_next_one_completes() {
    let registry = Registry::plain();
    let slow = format!(
        "hosts: {{ {:?}: {{ requests_per_second: 80 }} }}\n",
        registry.host()
    );
    let prepare = || async {
        // The published image contains the name of its repository, so every round uses the same.
        registry.wipe();
        mirror(&registry).await;
        world(&registry, "bases").file("slow.yaml", configuration(&registry, "bases") + &slow)
    };
    let tags = || ["app", "tools"].map(|name| registry.stored_tags(&format!("bases/{name}")));
    let length = prepare()
        .await
        .imglife(["-c", "slow.yaml", "build"])
        .succeeds()
        .elapsed;
    let undisturbed = tags();
    assert_eq!(
        undisturbed[0].keys().collect::<Vec<_>>(),
        ["1-core1.0.0", "latest"]
    );
    let mut killed = 0;
    for round in 0..rounds() {
        let world = prepare().await;
        killed += u64::from(kill(
            world
                .start_imglife(["-c", "slow.yaml", "build"])
                .within(RUN_TIMEOUT),
            round,
            length,
        ));
        std::thread::sleep(SETTLE_TIME);
        for name in ["app", "tools"] {
            assert_complete(
                &client(&registry),
                &registry.repository(&format!("bases/{name}")),
            )
            .await;
        }
        world.imglife(["build"]).succeeds();
        assert_eq!(tags(), undisturbed, "round {round}");
    }
    assert_killed(killed);
}

#[tokio::test]
async fn killed_build_into_a_layout_is_completed_by_the_next_without_leftovers() {
    let text = "registry: { provider: file }\n\
        build:\n  core_version: 1.0.0\n  registry: 'ocidir://bases'\n  platforms: [linux/amd64, linux/arm64]\n  engine: native\n  images:\n\
        \x20   - { name: app, folder: images/app, type: core, mirror_image: 'ocidir://mirror', mirror_tag: '1', aliases: [latest] }\n";
    // The published image contains the name of its directory, so every round uses the same.
    let world = World::new()
        .file("imglife.yaml", text)
        .file(
            "images/app/Dockerfile.tmpl",
            "FROM {{ base }}\nCOPY one /srv/\nLABEL by=me\n",
        )
        .file("images/app/one", "one".repeat(1_000_000))
        .variable("SOURCE_DATE_EPOCH", "1767225600");
    let mirror = Repository::Layout {
        directory: world.path("mirror"),
    };
    base(&["linux/amd64", "linux/arm64"])
        .publish(&Layouts::default(), &mirror)
        .await;
    let built = Repository::Layout {
        directory: world.path("bases/app"),
    };
    let length = world.imglife(["build"]).succeeds().elapsed;
    let undisturbed = layout_files(&world.path("bases/app"));
    for round in 0..rounds() {
        std::fs::remove_dir_all(world.path("bases")).expect("a directory of built images");
        kill(
            world.start_imglife(["build"]).within(RUN_TIMEOUT),
            round,
            length,
        );
        assert_complete(&Layouts::default(), &built).await;
        world.imglife(["build"]).succeeds();
        assert_eq!(
            layout_files(&world.path("bases/app")),
            undisturbed,
            "round {round}"
        );
    }
}
