//! Random repositories on real registries and in layouts: runs that are killed at any moment delete
//! nothing that is needed, and everything that they deleted can be restored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use imglife::model::{Descriptor, Digest, ManifestContent, Repository};
use imglife::registry::ImageStore;
use imglife::registry::layout::Layouts;

use crate::registries::client;
use crate::support::images::{Flavour, Graph};
use crate::support::registry::Registry;
use crate::support::servers::Server;
use crate::support::world::World;
use crate::sync::{configuration, entry};

/// Number of worlds; `make worlds` tries more.
const DEFAULT_WORLDS: u64 = 40;

/// Tag of the entry, which is kept as long as the configuration selects it.
const SELECTED: &str = "1.0";

/// A random repository with everything that needs parts of it.
struct RandomRepository {
    graph: Graph,
    keep_last: usize,
    /// Tags that records name as a base, with or without the digest.
    recorded: Vec<(String, bool)>,
    held: Option<String>,
}

impl RandomRepository {
    fn new(random: &mut Rng) -> RandomRepository {
        let mut graph = Graph::default();
        let leaves: Vec<Descriptor> = (0..4)
            .map(|leaf| {
                let platform = ["linux/amd64", "linux/arm64"][leaf % 2];
                let text = format!("leaf {leaf} {}", random.u64(..));
                graph.small_image(Flavour::Oci, platform, &text)
            })
            .collect();
        let mut images = leaves.clone();
        for _ in 0..3 {
            let mut entries = leaves.clone();
            random.shuffle(&mut entries);
            entries.truncate(random.usize(1..=3));
            let index = graph.index(Flavour::Oci, &entries);
            if !images.iter().any(|image| image.digest == index.digest) {
                images.push(index);
            }
        }
        let names: Vec<String> = (0..random.usize(4..9))
            .map(|minor| format!("1.{minor}"))
            .collect();
        for name in &names {
            let image = random.choice(&images).expect("an image").clone();
            graph.tag(name, &image);
        }
        // A signature by cosign of any image.
        if random.bool() {
            let subject = random.choice(&images).expect("an image").digest.clone();
            let signature = graph.small_image(
                Flavour::Oci,
                "linux/amd64",
                &format!("signature of {subject}"),
            );
            graph.tag(&format!("sha256-{}.sig", subject.hex()), &signature);
        }
        let recorded = (0..random.usize(0..3))
            .map(|_| (random.choice(&names).expect("a tag").clone(), random.bool()))
            .collect();
        let held = random
            .bool()
            .then(|| random.choice(&names).expect("a tag").clone());
        RandomRepository {
            graph,
            keep_last: random.usize(1..=3),
            recorded,
            held,
        }
    }

    fn configuration(&self, registry: Option<&Registry>, at: &str) -> String {
        let registries: Vec<&Registry> = registry.into_iter().collect();
        let held = self
            .held
            .iter()
            .map(|tag| format!("'{at}:{tag}'"))
            .collect::<String>();
        let rules = format!(
            "retention: {{ keep_last: {}, grace_days: 0, max_delete_percent: 100, require_records: false, hold: [{held}] }}\n",
            self.keep_last
        );
        configuration(
            &registries,
            &entry("up.example/a", at, &format!("tag: '{SELECTED}'")),
        ) + &rules
    }

    /// Returns the tags that must stay. Held tags take no place among the newest.
    fn needed(&self) -> BTreeSet<String> {
        let mut versions: Vec<String> = self
            .graph
            .tags
            .iter()
            .map(|(tag, _)| tag.to_string())
            .filter(|tag| tag.starts_with("1."))
            .collect();
        versions.reverse();
        let newest = versions
            .into_iter()
            .filter(|tag| Some(tag) != self.held.as_ref())
            .take(self.keep_last);
        newest
            .chain(self.recorded.iter().map(|(tag, _)| tag.clone()))
            .chain(self.held.clone())
            .chain([SELECTED.to_owned()])
            .collect()
    }
}

/// Returns the digests of the manifests of each tag that exists, its own first. Fails if anything below
/// a tag is missing.
async fn pull(store: &dyn ImageStore, at: &Repository) -> BTreeMap<String, Vec<Digest>> {
    let mut pulled = BTreeMap::new();
    for listed in store.tags(at).await.expect("a listing").unwrap_or_default() {
        let found = store.resolve(at, &listed.tag.clone().into()).await;
        // A registry may be about to remove the tags of a manifest that it deleted.
        let Some(found) = found.expect("an answer") else {
            continue;
        };
        let (mut open, mut digests) = (vec![found.digest], Vec::new());
        while let Some(digest) = open.pop() {
            let manifest = store
                .manifest(at, &digest.clone().into())
                .await
                .expect("an answer")
                .unwrap_or_else(|| panic!("{at}:{} lost {digest}", listed.tag));
            if let ManifestContent::Index { children } = &manifest.content {
                open.extend(children.iter().map(|child| child.digest.clone()));
            }
            digests.push(digest);
            for blob in manifest.blobs() {
                let has = store.can_read_blob(at, blob).await.expect("an answer");
                assert!(has, "{at}:{} lost {}", listed.tag, blob.digest);
            }
        }
        pulled.insert(listed.tag.to_string(), digests);
    }
    pulled
}

async fn check(seed: u64, registry: Option<&Registry>) {
    let mut random = Rng::with_seed(seed);
    let repository = RandomRepository::new(&mut random);
    let world = World::new();
    let (store, at, name): (Box<dyn ImageStore>, Repository, String) =
        if let Some(registry) = registry {
            let at = registry.repository(&format!("mirrors/world-{seed}"));
            (Box::new(client(registry)), at.clone(), at.to_string())
        } else {
            let directory = world.path("mirrors/a");
            let at = Repository::Layout { directory };
            let name = "ocidir://mirrors/a".to_owned();
            (Box::new(Layouts::default()), at, name)
        };
    let store = &*store;
    repository.graph.publish(store, &at).await;
    let world = world.file("imglife.yaml", repository.configuration(registry, &name));
    let before = pull(store, &at).await;
    for (position, (tag, has_digest)) in repository.recorded.iter().enumerate() {
        let digest = if *has_digest {
            format!("@{}", before[tag][0])
        } else {
            String::new()
        };
        world
            .imglife([
                "register",
                "--image",
                &format!("r.example/apps/a{position}:1"),
                "--base",
                &format!("{name}:{tag}{digest}"),
                "--platform",
                "linux/amd64",
                "--project",
                &format!("team/a{position}"),
                "--revision",
                "r",
            ])
            .succeeds();
    }
    let needed = repository.needed();
    let kept = |pulled: &BTreeMap<String, Vec<Digest>>, when: &str| {
        for tag in &needed {
            assert_eq!(
                pulled.get(tag),
                before.get(tag),
                "seed {seed}: {tag} {when}"
            );
        }
    };
    for _ in 0..random.usize(0..3) {
        let running = world.start_imglife(["cleanup"]);
        tokio::time::sleep(Duration::from_millis(random.u64(20..400))).await;
        running.signal("KILL");
        running.wait();
        kept(&pull(store, &at).await, "after a killed run");
    }
    let outcome = world.imglife(["cleanup"]).succeeds();
    let left = pull(store, &at).await;
    kept(&left, "after the run");
    // A version goes if nothing that is needed has a part of its image.
    let parts: BTreeSet<&Digest> = needed.iter().flat_map(|tag| &before[tag]).collect();
    for (tag, digests) in before.iter().filter(|(tag, _)| tag.starts_with("1.")) {
        let may_stay = needed.contains(tag) || digests.iter().any(|digest| parts.contains(digest));
        let is_left = left.contains_key(tag);
        assert!(
            may_stay || !is_left,
            "seed {seed}: {tag} {}",
            outcome.stdout
        );
    }
    let lost: Vec<&str> = before
        .keys()
        .filter(|tag| !left.contains_key(*tag))
        .map(String::as_str)
        .collect();
    if !lost.is_empty() {
        let restored = world
            .imglife_with(&[&["cleanup", "--undo"], &lost[..]].concat())
            .succeeds();
        assert_eq!(
            pull(store, &at).await,
            before,
            "seed {seed}: {}",
            restored.stdout
        );
    }
}

/// Returns the number of worlds: `IMGLIFE_TEST_WORLDS`, by default 40.
#[expect(
    clippy::disallowed_methods,
    reason = "a setting for the person who runs the tests"
)]
fn worlds() -> u64 {
    std::env::var("IMGLIFE_TEST_WORLDS").map_or(DEFAULT_WORLDS, |text| {
        text.parse()
            .expect("IMGLIFE_TEST_WORLDS is a number of worlds")
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_worlds_lose_nothing_that_is_needed_and_are_restored() {
    let worlds = worlds();
    let servers: Vec<Server> = Server::found("random worlds")
        .into_iter()
        .filter(|server| *server != Server::Crane)
        .collect();
    let mut stores: Vec<Option<Registry>> = servers
        .into_iter()
        .map(|server| Some(Registry::of(server)))
        .collect();
    stores.push(None);
    let stores_count = stores.len() as u64;
    for (position, registry) in (0..).zip(&stores) {
        for seed in (0..worlds).filter(|seed| seed % stores_count == position) {
            check(seed, registry.as_ref()).await;
        }
    }
}

/// A loss that the checks of a world must find.
#[tokio::test]
#[should_panic(expected = "lost")]
async fn lost_part_of_an_image_is_found() {
    let world = World::new();
    let at = Repository::Layout {
        directory: world.path("mirrors/a"),
    };
    let mut graph = Graph::default();
    let image = graph.small_image(Flavour::Oci, "linux/amd64", "one");
    let index = graph.index(Flavour::Oci, std::slice::from_ref(&image));
    graph.tag("1.0", &index);
    let store = Layouts::default();
    graph.publish(&store, &at).await;
    let blob = world.path(&format!("mirrors/a/blobs/sha256/{}", image.digest.hex()));
    std::fs::remove_file(blob).expect("a file that can be removed");
    pull(&store, &at).await;
}
