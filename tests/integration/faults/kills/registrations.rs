//! Tests of registrations and record deletions that are killed.

use imglife::packages::{PackageScope, RecordStore as _};
use serde_json::Value;

use super::{RUN_TIMEOUT, assert_killed, kill, rounds};
use crate::lineage::faults::arguments;
use crate::lineage::{Site, files, json_of, recorded};
use crate::packages::{prefix, s3};
use crate::support::seaweed::{ACCESS_KEY, SECRET_KEY, Seaweed};
use crate::support::world::World;

/// Returns the only record in the store. Fails the test if there are more or none.
fn only_record(world: &World, round: u64) -> Value {
    let list = json_of(
        &world
            .imglife(["app", "list", "--output", "json"])
            .succeeds(),
    );
    let records = list["records"].as_array().expect("records");
    assert_eq!(
        (records.len(), list["unreadable"].as_array().map(Vec::len)),
        (1, Some(0)),
        "round {round}: {list}"
    );
    records[0].clone()
}

/// Kills registrations of an image that already has a record. `count` returns the number of files
/// in the record store.
async fn kill_registrations(site: &Site, world: &World, count: impl AsyncFn() -> usize) {
    site.put_app("apps/web", "1.0").await;
    let image = site.image("apps/web:1.0");
    // The first one takes longer.
    world
        .imglife(["register", "--image", &image, "--revision=first"])
        .succeeds();
    let length = world
        .imglife(["register", "--image", &image, "--revision=0"])
        .succeeds()
        .elapsed;
    let mut killed = 0;
    for round in 0..rounds() {
        let (old, new) = (round.to_string(), (round + 1).to_string());
        let revision = format!("--revision={new}");
        let running = world
            .start_imglife(["register", "--image", &image, &revision])
            .within(RUN_TIMEOUT);
        let was_killed = kill(running, round, length);
        let found = only_record(world, round)["revision"].clone();
        assert!(
            found == new || (was_killed && found == old),
            "round {round}: {found}"
        );
        world
            .imglife(["register", "--image", &image, &revision])
            .succeeds();
        assert_eq!(
            (only_record(world, round)["revision"].clone(), count().await),
            (new.into(), 1),
            "round {round}"
        );
        killed += u64::from(was_killed);
    }
    assert_killed(killed);
}

#[tokio::test]
async fn killed_registration_leaves_one_record_and_the_next_one_completes() {
    let site = Site::new().await;
    let world = site.world();
    kill_registrations(&site, &world, async || files(&world).len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_registration_in_s3_leaves_one_record_and_the_next_one_completes() {
    let (site, seaweed) = (Site::new().await, Seaweed::start());
    seaweed.make_bucket("records");
    let configuration = format!(
        "registry: {{ provider: s3, url: '{}', bucket: records, prefix: imglife, insecure_registries: [{:?}] }}\n",
        seaweed.url(),
        site.registry.host()
    );
    let world = site
        .world()
        .file("imglife.yaml", configuration)
        .variable("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .variable("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    let bucket = s3::store(&seaweed.url(), "records", ACCESS_KEY, SECRET_KEY);
    kill_registrations(&site, &world, async || {
        let listing = bucket
            .list(&PackageScope::AllRecords(prefix()))
            .await
            .expect("a listing");
        assert_eq!(listing.foreign, Vec::<String>::new());
        listing.files.len()
    })
    .await;
}

#[test]
fn killed_deletion_of_records_is_completed_by_the_next() {
    const IMAGES: usize = 12;
    let world = World::new().variable("IMGLIFE_REGISTRY_PROVIDER", "file");
    let fill = || {
        for tag in 0..IMAGES {
            world
                .imglife(arguments(&format!("r.example/apps/web:{tag}")))
                .succeeds();
        }
    };
    fill();
    let length = world
        .imglife(["app", "purge", "--keep=2"])
        .succeeds()
        .elapsed;
    let undisturbed = recorded(&world);
    assert_eq!(undisturbed.len(), 2);
    for round in 0..rounds() {
        fill();
        kill(
            world
                .start_imglife(["app", "purge", "--keep=2"])
                .within(RUN_TIMEOUT),
            round,
            length,
        );
        let left = recorded(&world);
        assert!(
            undisturbed.iter().all(|kept| left.contains(kept)),
            "round {round}: {left:?}"
        );
        world.imglife(["app", "purge", "--keep=2"]).succeeds();
        assert_eq!(
            (recorded(&world), files(&world).len()),
            (undisturbed.clone(), 2),
            "round {round}"
        );
    }
}
