//! Clean-ups that are killed, and two at once.

use std::collections::BTreeSet;

use imglife::model::Repository;
use imglife::registry::layout::Layouts;
use imglife::registry::{ImageSource, ImageStore};

use super::{
    Flavour, Graph, PATIENCE, Registry, SETTLING, World, assert_whole, client, moment, rounds,
};
use crate::support::world::Running;

const TAGS: usize = 16;

/// Returns indexes that share a part and have one of their own, and the two of them that stay.
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
    // The shared part, and what the last two have of their own.
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
         retention: {{ keep_last: 2, max_delete_percent: 100{archive} }}\n"
    )
}

async fn tags(source: &dyn ImageSource, at: &Repository) -> BTreeSet<String> {
    source
        .tags(at)
        .await
        .expect("an answer")
        .unwrap_or_default()
        .into_iter()
        .map(|seen| seen.tag.to_string())
        .collect()
}

fn left() -> BTreeSet<String> {
    BTreeSet::from([format!("1.{}", TAGS - 2), format!("1.{}", TAGS - 1)])
}

async fn killed_on_a_registry(archives: bool) {
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
    let (mut killed, mut seen) = (0, BTreeSet::new());
    for round in 0..rounds() {
        let (text, at) = prepare(format!("round-{round}")).await;
        let world = World::new()
            .file("slow.yaml", format!("{text}{slow}"))
            .file("imglife.yaml", text);
        let running = world
            .start_imglife(["-c", "slow.yaml", "cleanup"])
            .within(PATIENCE);
        std::thread::sleep(moment(round, length));
        running.signal("KILL");
        killed += u64::from(running.wait().code().is_none());
        std::thread::sleep(SETTLING);
        // What has a tag is whole, and what has none any more is in the archive.
        let cold = registry.repository(&format!("cold/round-{round}/a"));
        seen.insert((
            assert_whole(&store, &at).await,
            tags(&store, &cold).await.len(),
        ));
        let lost = || async {
            let (now, archived) = (tags(&store, &at).await, tags(&store, &cold).await);
            let is_there = |tag: &str| {
                now.contains(tag)
                    || archived
                        .iter()
                        .any(|archived| archived.starts_with(&format!("{tag}-archived.")))
            };
            graph
                .tags
                .iter()
                .map(|(tag, _)| tag.to_string())
                .filter(|tag| archives && !is_there(tag))
                .collect::<Vec<_>>()
        };
        assert_eq!(lost().await, Vec::<String>::new(), "round {round}");
        world.imglife(["cleanup"]).succeeds();
        assert_eq!(tags(&store, &at).await, left(), "round {round}");
        kept.assert_published(&store, &at).await;
        assert_eq!(lost().await, Vec::<String>::new(), "round {round}");
        if archives {
            assert_eq!(assert_whole(&store, &cold).await, TAGS - 2, "round {round}");
        }
    }
    assert!(
        2 * killed >= rounds() && seen.len() > 1,
        "{killed} of {} were killed on the way, with {seen:?} tags here and in the archive",
        rounds()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_up_that_is_killed_loses_nothing_that_stays_and_is_continued_by_the_next() {
    killed_on_a_registry(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_up_that_archives_and_is_killed_has_every_image_here_or_there() {
    killed_on_a_registry(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_up_of_a_layout_that_is_killed_is_continued_by_the_next() {
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
        let running = world.start_imglife(["cleanup"]).within(PATIENCE);
        std::thread::sleep(moment(round, length));
        running.signal("KILL");
        running.wait();
        assert_whole(&store, &at).await;
        world.imglife(["cleanup"]).succeeds();
        assert_eq!(tags(&store, &at).await, left(), "round {round}");
        kept.assert_published(&store, &at).await;
    }
}

async fn two_at_once(world: &World, store: &dyn ImageStore, at: &Repository, kept: &Graph) {
    let runs = [(); 2].map(|()| world.start_imglife(["cleanup"]).within(PATIENCE));
    for outcome in runs.map(Running::wait) {
        // One may find a tag gone that it was about to read, and leave the rest to the other.
        assert!(matches!(outcome.code(), Some(0 | 1)), "{outcome:?}");
    }
    assert_whole(store, at).await;
    kept.assert_published(store, at).await;
    world.imglife(["cleanup"]).succeeds();
    assert_eq!(tags(store, at).await, left());
    kept.assert_published(store, at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clean_ups_at_once_lose_nothing_that_stays() {
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
