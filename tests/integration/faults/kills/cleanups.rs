//! Tests of cleanups that are killed, and of two at once.

use std::collections::BTreeSet;

use imglife::model::Repository;
use imglife::registry::layout::Layouts;
use imglife::registry::{ImageSource, ImageStore};

use super::{
    Flavour, Graph, RUN_TIMEOUT, Registry, SETTLE_TIME, World, assert_complete, client, moment,
    rounds,
};
use crate::support::world::Running;

const TAGS: usize = 16;

/// Returns all images, and those that a cleanup keeps: the last two. Each is an index of one shared
/// and one unique image.
fn versions() -> (Graph, Graph) {
    let mut graph = Graph::default();
    let shared = graph.small_image(Flavour::Oci, "linux/amd64", "shared");
    for version in 0..TAGS {
        let own = graph.small_image(Flavour::Oci, "linux/arm64", &format!("own {version}"));
        let index = graph.index(Flavour::Oci, &[shared.clone(), own]);
        graph.tag(&format!("1.{version}"), &index);
    }
    let mut kept = Graph {
        tags: graph.tags[TAGS - 2..].to_vec(),
        ..Graph::default()
    };
    // The shared image, and the unique images and indexes of the last two.
    kept.manifests = [
        vec![graph.manifests[0].clone()],
        graph.manifests[graph.manifests.len() - 4..].to_vec(),
    ]
    .concat();
    (graph, kept)
}

fn configuration(insecure: Option<&Registry>, target: &str, archive: Option<&str>) -> String {
    let insecure = insecure
        .map(|registry| format!("{:?}", registry.host()))
        .unwrap_or_default();
    let archive = archive
        .map(|archive| format!(", archive: {{ enabled: true, registry: {archive:?} }}"))
        .unwrap_or_default();
    format!(
        "registry: {{ provider: file, insecure_registries: [{insecure}] }}\n\
         sync: {{ entries: [{{ source: up.example/a, target: {target:?}, tag: '9' }}] }}\n\
         retention: {{ keep_last: 2, grace_days: 0, max_delete_percent: 100, require_records: false{archive} }}\n"
    )
}

async fn tags(source: &dyn ImageSource, at: &Repository) -> BTreeSet<String> {
    source
        .tags(at)
        .await
        .expect("an answer")
        .unwrap_or_default()
        .into_iter()
        .map(|listed| listed.tag.to_string())
        .collect()
}

/// Returns the tags that a cleanup keeps.
fn kept_tags() -> BTreeSet<String> {
    BTreeSet::from([format!("1.{}", TAGS - 2), format!("1.{}", TAGS - 1)])
}

/// Kills cleanups of a registry, with or without an archive.
async fn kill_on_a_registry(archives: bool) {
    let registry = Registry::plain();
    let store = client(&registry);
    let (graph, kept) = versions();
    let prepare = |name: String| {
        let (registry, store, graph) = (&registry, &store, &graph);
        async move {
            let at = registry.repository(&format!("{name}/a"));
            graph.publish(store, &at).await;
            let archive = archives.then(|| format!("{}/cold", registry.host()));
            (
                configuration(Some(registry), &at.to_string(), archive.as_deref()),
                at,
            )
        }
    };
    let (text, _) = prepare("undisturbed".to_owned()).await;
    let mark = registry.mark();
    World::new()
        .file("imglife.yaml", text)
        .imglife(["cleanup"])
        .succeeds();
    let slow = format!(
        "hosts: {{ {:?}: {{ requests_per_second: {} }} }}\n",
        registry.host(),
        registry.requests_since(mark).len()
    );
    let (text, _) = prepare("slow".to_owned()).await;
    let length = World::new()
        .file("imglife.yaml", text + &slow)
        .imglife(["cleanup"])
        .succeeds()
        .elapsed;
    let (mut killed, mut states) = (0, BTreeSet::new());
    for round in 0..rounds() {
        let (text, at) = prepare(format!("round-{round}")).await;
        let world = World::new()
            .file("slow.yaml", format!("{text}{slow}"))
            .file("imglife.yaml", text);
        let running = world
            .start_imglife(["-c", "slow.yaml", "cleanup"])
            .within(RUN_TIMEOUT);
        // The first half of a run only reads.
        std::thread::sleep(length / 2 + moment(round, length / 2));
        running.signal("KILL");
        killed += u64::from(running.wait().code().is_none());
        std::thread::sleep(SETTLE_TIME);
        // Tagged images are complete, and images without a tag are in the archive.
        let cold = registry.repository(&format!("cold/round-{round}/a"));
        states.insert((
            assert_complete(&store, &at).await,
            tags(&store, &cold).await.len(),
        ));
        let lost = || async {
            let (now, archived) = (tags(&store, &at).await, tags(&store, &cold).await);
            let exists = |tag: &str| {
                now.contains(tag)
                    || archived
                        .iter()
                        .any(|archived| archived.starts_with(&format!("{tag}-archived.")))
            };
            graph
                .tags
                .iter()
                .map(|(tag, _)| tag.to_string())
                .filter(|tag| archives && !exists(tag))
                .collect::<Vec<_>>()
        };
        assert_eq!(lost().await, Vec::<String>::new(), "round {round}");
        world.imglife(["cleanup"]).succeeds();
        assert_eq!(tags(&store, &at).await, kept_tags(), "round {round}");
        kept.assert_published(&store, &at).await;
        assert_eq!(lost().await, Vec::<String>::new(), "round {round}");
        if archives {
            assert_eq!(
                assert_complete(&store, &cold).await,
                TAGS - 2,
                "round {round}"
            );
        }
    }
    assert!(
        2 * killed >= rounds() && states.len() > 1,
        "{killed} of {} were killed before they ended, with {states:?} tags in the repository and the archive",
        rounds()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_cleanup_loses_no_kept_image_and_the_next_one_continues() {
    kill_on_a_registry(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_cleanup_with_an_archive_loses_no_image() {
    kill_on_a_registry(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_cleanup_of_a_layout_is_continued_by_the_next() {
    let (graph, kept) = versions();
    let store = Layouts::default();
    let prepare = || async {
        let world = World::new().file("imglife.yaml", configuration(None, "ocidir://a", None));
        let at = Repository::Layout {
            directory: world.path("a"),
        };
        graph.publish(&store, &at).await;
        (world, at)
    };
    let length = prepare().await.0.imglife(["cleanup"]).succeeds().elapsed;
    for round in 0..rounds() {
        let (world, at) = prepare().await;
        let running = world.start_imglife(["cleanup"]).within(RUN_TIMEOUT);
        std::thread::sleep(moment(round, length));
        running.signal("KILL");
        running.wait();
        assert_complete(&store, &at).await;
        world.imglife(["cleanup"]).succeeds();
        assert_eq!(tags(&store, &at).await, kept_tags(), "round {round}");
        kept.assert_published(&store, &at).await;
    }
}

/// Runs two cleanups at once and checks that the kept images are complete.
async fn two_at_once(world: &World, store: &dyn ImageStore, at: &Repository, kept: &Graph) {
    let runs = [(); 2].map(|()| world.start_imglife(["cleanup"]).within(RUN_TIMEOUT));
    for outcome in runs.map(Running::wait) {
        // One run may fail because the other has deleted a tag that it was about to read.
        assert!(matches!(outcome.code(), Some(0 | 1)), "{outcome:?}");
    }
    assert_complete(store, at).await;
    kept.assert_published(store, at).await;
    world.imglife(["cleanup"]).succeeds();
    assert_eq!(tags(store, at).await, kept_tags());
    kept.assert_published(store, at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_cleanups_at_once_lose_no_kept_image() {
    let (graph, kept) = versions();
    let registry = Registry::plain();
    for round in 0..3 {
        let at = registry.repository(&format!("round-{round}/a"));
        graph.publish(&client(&registry), &at).await;
        let world = World::new().file(
            "imglife.yaml",
            configuration(Some(&registry), &at.to_string(), None),
        );
        two_at_once(&world, &client(&registry), &at, &kept).await;
        let world = World::new().file("imglife.yaml", configuration(None, "ocidir://a", None));
        let at = Repository::Layout {
            directory: world.path("a"),
        };
        graph.publish(&Layouts::default(), &at).await;
        two_at_once(&world, &Layouts::default(), &at, &kept).await;
    }
}
