//! Tests of runs that are killed at a random moment: the remaining state is valid, and the next run
//! completes the work.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use imglife::model::{ManifestContent, Reference, Repository};
use imglife::registry::ImageSource;
use imglife::registry::layout::Layouts;

use super::{
    Duration, Flavour, Graph, LAYER_TYPE, RUN_TIMEOUT, Registry, World, client, configuration,
    noise,
};
use crate::support::world::Running;

mod builds;
mod cleanups;
mod commits;
mod registrations;
mod reports;
mod updates;

/// Time that a registry or git needs to finish the requests of a killed run.
const SETTLE_TIME: Duration = Duration::from_millis(200);

/// Returns the number of runs to kill in each test: `IMGLIFE_SOAK`, by default five.
#[expect(
    clippy::disallowed_methods,
    reason = "a setting for the person who runs the tests"
)]
fn rounds() -> u64 {
    std::env::var("IMGLIFE_SOAK").ok().map_or(5, |text| {
        text.parse().expect("IMGLIFE_SOAK is a number of rounds")
    })
}

/// Returns `count` tagged images for two platforms that share a layer.
fn versions(count: u64) -> Graph {
    let mut graph = Graph::default();
    let base = graph.blob(LAYER_TYPE, noise(0, 400_000));
    for version in 0..count {
        let children: Vec<_> = ["linux/amd64", "linux/arm64"]
            .into_iter()
            .zip([2 * version + 1, 2 * version + 2])
            .map(|(platform, seed)| {
                let own = graph.blob(LAYER_TYPE, noise(seed, 100_000));
                graph.image(Flavour::Oci, platform, &[base.clone(), own])
            })
            .collect();
        let index = graph.index(Flavour::Oci, &children);
        graph.tag(&format!("1.{version}"), &index);
    }
    graph
}

/// Fails the test if a tag of `repository` refers to an image with missing or wrong content.
/// Returns the number of tags.
pub(crate) async fn assert_complete(source: &dyn ImageSource, repository: &Repository) -> usize {
    let tags = source
        .tags(repository)
        .await
        .expect("an answer")
        .unwrap_or_default();
    for listed in &tags {
        let mut left = vec![Reference::Tag(listed.tag.clone())];
        while let Some(reference) = left.pop() {
            let manifest = source.manifest(repository, &reference).await;
            let manifest = manifest.unwrap_or_else(|error| {
                panic!(
                    "{repository}:{}: {}",
                    listed.tag,
                    imglife::error::chain(&error)
                )
            });
            let manifest = manifest
                .unwrap_or_else(|| panic!("{}:{} lacks {reference}", repository, listed.tag));
            match &manifest.content {
                ManifestContent::Index { children } => {
                    left.extend(children.iter().map(|child| child.digest.clone().into()));
                }
                ManifestContent::Image { .. } => {
                    for blob in manifest.blobs() {
                        let stream = source.blob(repository, blob, 0).await;
                        let stream = stream.unwrap_or_else(|error| {
                            panic!(
                                "{}:{} lacks {}: {error}",
                                repository, listed.tag, blob.digest
                            )
                        });
                        let stream = imglife::registry::verified(stream, blob, "the target");
                        let read: Result<Vec<Bytes>, _> = stream.try_collect().await;
                        read.unwrap_or_else(|error| {
                            panic!("{}:{}: {error}", repository, listed.tag)
                        });
                    }
                }
            }
        }
    }
    tags.len()
}

/// Returns the digests of all files of a layout, without locks. An index is represented by the set
/// of its entries.
pub(super) fn layout_files(directory: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut files = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        for entry in std::fs::read_dir(&path).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let name = path
                .strip_prefix(directory)
                .expect("a file below it")
                .display()
                .to_string();
            let content = std::fs::read(&path).expect("a file");
            let content = if name == "index.json" {
                let index: serde_json::Value = serde_json::from_slice(&content).expect("JSON");
                index["manifests"]
                    .as_array()
                    .expect("manifests")
                    .iter()
                    .map(ToString::to_string)
                    .collect()
            } else {
                BTreeSet::from([imglife::model::Digest::sha256(&content).to_string()])
            };
            if !(name.starts_with(".imglife/") && name.ends_with(".lock")) {
                files.insert(name, content);
            }
        }
    }
    files
}

/// Runs a slow sync and kills it after `moment`. Returns true if it had not ended before.
fn kill_after(world: &World, moment: Duration) -> bool {
    let running = world
        .start_imglife(["-c", "slow.yaml", "sync"])
        .within(RUN_TIMEOUT);
    std::thread::sleep(moment);
    running.signal("KILL");
    running.wait().code().is_none()
}

/// Kills a run that normally takes `length`, at the moment of this round. Returns true if it had
/// not ended before.
fn kill(running: Running, round: u64, length: Duration) -> bool {
    std::thread::sleep(moment(round, length));
    running.signal("KILL");
    running.wait().code().is_none()
}

/// Fails the test if less than a fifth of the runs were killed before they ended. The duration of
/// short runs varies.
fn assert_killed(killed: u64) {
    assert!(
        5 * killed >= rounds(),
        "{killed} of {} were killed before they ended",
        rounds()
    );
}

/// Returns a pseudo-random moment within a run that takes `length`.
fn moment(round: u64, length: Duration) -> Duration {
    length.mul_f64(fastrand::Rng::with_seed(round).f64())
}

#[tokio::test]
async fn killed_sync_to_a_registry_leaves_complete_images_and_the_next_one_completes() {
    let (upstream, target) = (Registry::plain(), Registry::plain());
    let graph = versions(12);
    graph
        .publish(&client(&upstream), &upstream.repository("app"))
        .await;
    let hosts = [upstream.host(), target.host()];
    let world_for = |path: &str, slowness: &str| {
        let entries = [(
            format!("{}/app", upstream.host()),
            format!("{}/{path}", target.host()),
            "tag_regex: '.*'",
        )];
        let text = configuration(&hosts, &entries);
        World::new()
            .file("slow.yaml", format!("{text}{slowness}"))
            .file("imglife.yaml", text)
    };
    world_for("undisturbed/app", "")
        .imglife(["sync"])
        .succeeds();
    let undisturbed = target.stored_tags("undisturbed/app");
    assert_eq!(undisturbed.len(), 12);
    let requests = target.requests().len();
    let slowness = format!(
        "hosts: {{ {:?}: {{ requests_per_second: {requests} }} }}\n",
        target.host()
    );
    let length = world_for("slow/app", &slowness)
        .imglife(["-c", "slow.yaml", "sync"])
        .succeeds()
        .elapsed;
    let (mut killed, mut left) = (0, BTreeSet::new());
    for round in 0..rounds() {
        let path = format!("round-{round}/app");
        let world = world_for(&path, &slowness);
        killed += u64::from(kill_after(&world, moment(round, length)));
        std::thread::sleep(SETTLE_TIME);
        left.insert(assert_complete(&client(&target), &target.repository(&path)).await);
        world.imglife(["sync"]).succeeds();
        assert_eq!(target.stored_tags(&path), undisturbed, "round {round}");
        graph
            .assert_published(&client(&target), &target.repository(&path))
            .await;
    }
    assert!(
        2 * killed >= rounds() && left.len() > 1,
        "{killed} of {} were killed before they ended, with {left:?} tags",
        rounds()
    );
}

#[tokio::test]
async fn killed_sync_to_a_layout_is_completed_by_the_next_without_leftovers() {
    let upstream = Registry::plain();
    let graph = versions(20);
    graph
        .publish(&client(&upstream), &upstream.repository("app"))
        .await;
    let mark = upstream.mark();
    let text = configuration(
        &[upstream.host()],
        &[(
            format!("{}/app", upstream.host()),
            "ocidir://out".to_owned(),
            "tag_regex: '.*'",
        )],
    );
    let undisturbed = World::new().file("imglife.yaml", &text);
    undisturbed.imglife(["sync"]).succeeds();
    let expected = layout_files(&undisturbed.path("out"));
    let requests = upstream.requests_since(mark).len();
    let slow = format!(
        "{text}hosts: {{ {:?}: {{ requests_per_second: {requests} }} }}\n",
        upstream.host()
    );
    let length = World::new()
        .file("imglife.yaml", &slow)
        .imglife(["sync"])
        .succeeds()
        .elapsed;
    let (mut killed, mut left) = (0, BTreeSet::new());
    for round in 0..rounds() {
        let world = World::new()
            .file("slow.yaml", &slow)
            .file("imglife.yaml", &text);
        killed += u64::from(kill_after(&world, moment(round, length)));
        let layout = Repository::Layout {
            directory: world.path("out"),
        };
        left.insert(assert_complete(&Layouts::default(), &layout).await);
        world.imglife(["sync"]).succeeds();
        assert_eq!(layout_files(&world.path("out")), expected, "round {round}");
        graph.assert_published(&Layouts::default(), &layout).await;
    }
    assert!(
        2 * killed >= rounds() && left.len() > 1,
        "{killed} of {} were killed before they ended, with {left:?} tags",
        rounds()
    );
}
