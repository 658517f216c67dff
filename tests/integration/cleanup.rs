//! `imglife cleanup` by its binary, on real registries: what goes in each way to delete, and what
//! stays whole.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use imglife::model::{Descriptor, Digest, Manifest, Repository, Tag};
use imglife::registry::layout::Layouts;
use imglife::registry::{ImageStore, Support};

use crate::registries::client;
use crate::support::attachments::Attached;
use crate::support::images::{Flavour, Graph};
use crate::support::registry::Registry;
use crate::support::servers::Server;
use crate::support::world::World;
use crate::sync::{configuration, entry, json};

mod archives;
mod deployments;
mod forges;
mod random_worlds;
mod runs;
mod worlds;

async fn tags(store: &dyn ImageStore, repository: &Repository) -> BTreeSet<String> {
    store
        .tags(repository)
        .await
        .expect("a listing")
        .unwrap_or_default()
        .into_iter()
        .map(|seen| seen.tag.to_string())
        .collect()
}

async fn has(store: &dyn ImageStore, repository: &Repository, digest: &Digest) -> bool {
    store
        .resolve(repository, &digest.clone().into())
        .await
        .expect("an answer")
        .is_some()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Indexes with a child of their own and one that they share, `1.2` and `2.0` the same image, and
/// single images.
struct Mirror {
    graph: Graph,
    own: Digest,
    shared: Digest,
    kept: Digest,
}

fn mirror() -> Mirror {
    let mut graph = Graph::default();
    let shared = graph.small_image(Flavour::Oci, "linux/amd64", "shared");
    let own = graph.small_image(Flavour::Oci, "linux/arm64", "own");
    let other = graph.small_image(Flavour::Oci, "linux/arm64", "other");
    let old = graph.index(Flavour::Oci, &[shared.clone(), own.clone()]);
    let kept = graph.index(Flavour::Oci, &[shared.clone(), other]);
    let newest = graph.small_image(Flavour::Docker, "linux/amd64", "newest");
    let used = graph.small_image(Flavour::Docker, "linux/amd64", "used");
    for (tag, image) in [
        ("0.9", &used),
        ("1.1", &old),
        ("1.2", &kept),
        ("2.0", &kept),
        ("9.0", &newest),
    ] {
        graph.tag(tag, image);
    }
    Mirror {
        graph,
        own: own.digest,
        shared: shared.digest,
        kept: kept.digest,
    }
}

const RULES: &str =
    "retention: { keep_last: 2, grace_days: 0, max_delete_percent: 80, require_records: false }\n";

fn rules(insecure: &[&Registry], target: &str) -> String {
    configuration(insecure, &entry("up.example/a", target, "tag: '9.0'")) + RULES
}

async fn cleans_up(registry: Registry) {
    let store = client(&registry);
    let at = registry.repository("mirrors/a");
    let attached = Attached::new();
    attached.graph.publish(&store, &at).await;
    if !registry.server().lists_referrers() {
        attached.lists().publish(&store, &at).await;
    }
    let mirror = mirror();
    mirror.graph.publish(&store, &at).await;
    let before = tags(&store, &at).await;
    let world = World::new().file("imglife.yaml", rules(&[&registry], &at.to_string()));
    let base = format!("{at}:0.9");
    world
        .imglife_with(&[
            "register",
            "--image",
            "r.example/apps/a:1",
            "--base",
            &base,
            "--platform",
            "linux/amd64",
            "--revision",
            "r",
            "--project",
            "p",
        ])
        .succeeds();

    let listed = world.imglife(["cleanup", "--list"]).succeeds();
    for gone in ["1.0", "1.1", "1.2"] {
        assert!(
            listed.stdout.contains(&format!("{at}:{gone} ")),
            "{}",
            listed.stdout
        );
    }
    world.imglife(["cleanup", "--dry-run"]).succeeds();
    assert_eq!(tags(&store, &at).await, before, "a dry run changes nothing");

    world
        .imglife(["cleanup", "--report", "report.json"])
        .succeeds();
    let report = json(&std::fs::read_to_string(world.path("report.json")).expect("a report"));
    assert_eq!(report["schema"], "imglife/cleanup/v1");
    let deletes = registry.deletes();
    let left = tags(&store, &at).await;
    match (deletes.tags, deletes.manifests) {
        (Support::Unsupported, Support::Unsupported) => assert_eq!(left, before),
        (Support::Unsupported, _) => assert_eq!(left, set(&["0.9", "1.2", "2.0", "9.0"])),
        _ => assert_eq!(left, set(&["0.9", "2.0", "9.0"])),
    }
    assert!(has(&store, &at, &mirror.kept).await && has(&store, &at, &mirror.shared).await);
    if deletes.manifests == Support::Supported {
        assert!(
            !has(&store, &at, &mirror.own).await,
            "what only the deleted index led to"
        );
        for manifest in &attached.graph.manifests {
            assert!(
                !has(&store, &at, &manifest.manifest().digest).await,
                "{:?} of an image that is gone",
                manifest.manifest()
            );
        }
    }
    let again = json(
        &world
            .imglife(["cleanup", "--output", "json"])
            .succeeds()
            .stdout,
    );
    assert_eq!(again["totals"]["deleted"], 0);
    assert_eq!(tags(&store, &at).await, left);
    if left != before {
        is_undone(&world, &store, &at, &before).await;
        let graphs = [&mirror.graph, &attached.graph];
        for manifest in graphs.into_iter().flat_map(|graph| &graph.manifests) {
            let digest = &manifest.manifest().digest;
            assert!(has(&store, &at, digest).await, "{digest} is restored");
        }
    }
}

/// Undoes the last cleanup and checks that the tags `before` are back, that they are held, and that
/// they are deleted again after their release.
async fn is_undone(
    world: &World,
    store: &dyn ImageStore,
    at: &Repository,
    before: &BTreeSet<String>,
) {
    let left = tags(store, at).await;
    let digests = async || {
        let mut digests = Vec::new();
        for name in tags(store, at).await {
            let tag: Tag = name.parse().expect("a tag");
            let found = store.resolve(at, &tag.into()).await.expect("an answer");
            digests.push((name, found.map(|found| found.digest)));
        }
        digests
    };
    let dry = world.imglife(["cleanup", "--undo", "--dry-run"]).succeeds();
    assert!(dry.stdout.contains("to restore"), "{}", dry.stdout);
    assert_eq!(tags(store, at).await, left, "a dry run restores nothing");
    let undone = world.imglife(["cleanup", "--undo"]).succeeds();
    assert_eq!(tags(store, at).await, *before, "{}", undone.stdout);
    let restored = digests().await;
    let held = json(
        &world
            .imglife(["cleanup", "--output", "json"])
            .succeeds()
            .stdout,
    );
    assert_eq!(held["totals"]["deleted"], 0, "{held:#}");
    world.imglife(["cleanup", "--release"]).succeeds();
    world.imglife(["cleanup"]).succeeds();
    assert_eq!(tags(store, at).await, left, "they are deleted again");
    world.imglife(["cleanup", "--undo"]).succeeds();
    assert_eq!(digests().await, restored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_registry_is_cleaned_up_as_far_as_it_can_be() {
    for server in Server::found("cleaning up")
        .into_iter()
        .filter(|server| *server != Server::Crane)
    {
        cleans_up(Registry::of(server)).await;
    }
    cleans_up(Registry::builder().without_deletes().start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layout_is_cleaned_up() {
    let world = World::new().file("imglife.yaml", rules(&[], "ocidir://mirrors/a"));
    let at = Repository::Layout {
        directory: world.path("mirrors/a"),
    };
    let store = Layouts::default();
    let mirror = mirror();
    mirror.graph.publish(&store, &at).await;
    world.imglife(["cleanup"]).succeeds();
    assert_eq!(tags(&store, &at).await, set(&["2.0", "9.0"]));
    assert!(has(&store, &at, &mirror.shared).await && has(&store, &at, &mirror.kept).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_killed_is_continued_by_the_next() {
    let registry = Registry::plain();
    let (store, at) = (client(&registry), registry.repository("mirrors/a"));
    let mut graph = Graph::default();
    let shared = graph.small_image(Flavour::Oci, "linux/amd64", "shared");
    for version in 0..60 {
        let own = graph.small_image(Flavour::Oci, "linux/arm64", &format!("own {version}"));
        let index = graph.index(Flavour::Oci, &[shared.clone(), own]);
        graph.tag(&format!("1.{version}"), &index);
    }
    graph.publish(&store, &at).await;
    let world = World::new().file("imglife.yaml", rules(&[&registry], &at.to_string()));
    for wait in [30, 90, 150] {
        let running = world.start_imglife(["cleanup", "--max-delete-percent", "100"]);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        running.signal("KILL");
        running.wait();
        for name in tags(&store, &at).await {
            let manifest = store_manifest(&store, &at, &name).await;
            for child in manifest.children().expect("an index") {
                assert!(has(&store, &at, &child.digest).await, "{name} lost a child");
            }
        }
    }
    world
        .imglife(["cleanup", "--max-delete-percent", "100"])
        .succeeds();
    assert_eq!(tags(&store, &at).await, set(&["1.58", "1.59"]));
    // Every deletion of the killed runs is in a journal.
    let lost: Vec<String> = (0..58).map(|version| format!("1.{version}")).collect();
    let names: Vec<&str> = lost.iter().map(String::as_str).collect();
    world
        .imglife_with(&[&["cleanup", "--undo"], &names[..]].concat())
        .succeeds();
    for name in tags(&store, &at).await {
        let manifest = store_manifest(&store, &at, &name).await;
        for child in manifest.children().expect("an index") {
            assert!(has(&store, &at, &child.digest).await, "{name} lost a child");
        }
    }
    assert_eq!(tags(&store, &at).await.len(), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_wait_by_default_and_without_a_record_store_the_journal_is_beside_the_report() {
    let registry = Registry::plain();
    let (store, at) = (client(&registry), registry.repository("mirrors/a"));
    let mirror = mirror();
    mirror.graph.publish(&store, &at).await;
    let before = tags(&store, &at).await;
    let text = configuration(
        &[&registry],
        &entry("up.example/a", &at.to_string(), "tag: '9.0'"),
    );
    let rules = "retention: { keep_last: 2, max_delete_percent: 80, require_records: false }\n";
    let world = World::new().file("imglife.yaml", text.clone() + rules);
    let report = json(
        &world
            .imglife(["cleanup", "--output", "json"])
            .succeeds()
            .stdout,
    );
    assert_eq!(
        (&report["totals"]["deleted"], &report["totals"]["waiting"]),
        (&0.into(), &2.into()),
        "{report:#}"
    );
    assert_eq!(tags(&store, &at).await, before);
    let state = "cleanup-tags";
    let records = world.path(".");
    let files = files_below(&records);
    assert!(
        files.iter().any(|file| file.contains(state)),
        "{files:?} have the state"
    );

    let store_section = text
        .lines()
        .filter(|line| !line.starts_with("registry:"))
        .collect::<Vec<_>>()
        .join("\n");
    let insecure = format!(
        "registry: {{ insecure_registries: ['{}'] }}\n",
        registry.host()
    );
    let world = World::new().file("imglife.yaml", insecure + &store_section + "\n" + rules);
    let refused = world.imglife(["cleanup"]).exits(1);
    assert!(
        refused.stdout.contains("the journal cannot be kept"),
        "{}",
        refused.stdout
    );
    assert_eq!(tags(&store, &at).await, before);
    world
        .imglife(["cleanup", "--report", "report.json"])
        .succeeds();
    // `1.2` shares its image with `2.0`, and this registry deletes by digest only.
    assert_eq!(tags(&store, &at).await, set(&["1.2", "2.0", "9.0"]));
    world
        .imglife(["cleanup", "--undo", "--report", "report.json"])
        .succeeds();
    assert_eq!(tags(&store, &at).await, before);
    assert!(has(&store, &at, &mirror.own).await);
}

/// Returns the paths of all files below a directory.
fn files_below(directory: &std::path::Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(directory) = open.pop() {
        for found in std::fs::read_dir(&directory).into_iter().flatten() {
            let path = found.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.push(path.display().to_string());
            }
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_tags_are_planned_with_one_request_each() {
    let registry = Registry::plain();
    let (store, at) = (client(&registry), registry.repository("mirrors/a"));
    let mut graph = Graph::default();
    let image = graph.small_image(Flavour::Oci, "linux/amd64", "shared");
    graph.publish(&store, &at).await;
    graph.manifests.clear();
    for version in 0..2000 {
        let named = Descriptor {
            annotations: [("n".to_owned(), version.to_string())].into(),
            ..image.clone()
        };
        graph.index(Flavour::Oci, &[named]);
    }
    let puts = graph
        .manifests
        .iter()
        .enumerate()
        .map(|(version, content)| {
            let (store, at) = (&store, &at);
            async move {
                let tag: Tag = format!("1.{version}").parse().expect("a tag");
                store
                    .put_manifest(at, &tag.into(), &content.manifest())
                    .await
                    .expect("a tag that can be put");
            }
        });
    stream::iter(puts)
        .buffer_unordered(16)
        .collect::<()>()
        .await;
    let world = World::new().file("imglife.yaml", rules(&[&registry], &at.to_string()));
    let mark = registry.mark();
    let outcome = world
        .imglife(["cleanup", "--list", "--max-delete-percent", "100"])
        .succeeds();
    assert_eq!(
        outcome
            .stdout
            .lines()
            .filter(|line| line.contains("beyond `keep_last`"))
            .count(),
        1998
    );
    let requests = registry.requests_since(mark).len();
    writeln!(
        std::io::stderr(),
        "2,000 tags planned in {:.1} s by {requests} requests",
        outcome.elapsed.as_secs_f64()
    )
    .expect("standard error");
    assert!((2000..2100).contains(&requests), "{requests} requests");
}

/// Plans with one request for each tag, and deletes with three: the manifest for the journal, its
/// referrers where the registry lists them, and the deletion.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_takes_at_most_three_requests_for_each_tag() {
    const TAGS: usize = 90;
    const KEPT: usize = 10;
    let mut measured = Vec::new();
    for server in Server::found("requests of a cleanup") {
        if !server.is_distribution() {
            continue;
        }
        let registry = Registry::builder().server(server).start();
        let (store, at) = (client(&registry), registry.repository("mirrors/a"));
        let mut graph = Graph::default();
        for version in 0..TAGS {
            let name = format!("1.{version}");
            let image = graph.small_image(Flavour::Oci, "linux/amd64", &name);
            graph.tag(&name, &image);
        }
        graph.publish(&store, &at).await;
        let entry = entry("up.example/a", &at.to_string(), "tag: '1.0'");
        let rules = format!(
            "retention: {{ keep_last: {KEPT}, grace_days: 0, max_delete_percent: 100, \
             require_records: false }}\n"
        );
        let world = World::new().file("imglife.yaml", configuration(&[&registry], &entry) + &rules);
        let mark = registry.mark();
        world
            .imglife(["cleanup", "--report", "report.json"])
            .succeeds();
        // The first tag is selected by the configuration.
        assert_eq!(tags(&store, &at).await.len(), KEPT + 1, "{server:?}");
        let requests = registry.requests_since(mark);
        let deleted = TAGS - KEPT - 1;
        let of_tags = requests
            .iter()
            .filter(|request| {
                request.path.contains("/manifests/") || request.path.contains("/referrers/")
            })
            .count();
        // The kept tags are looked up again before the first deletion, and the host's kind of
        // deletion is detected.
        let limit = TAGS + 3 * deleted + (KEPT + 1) + 3;
        assert!(
            of_tags <= limit,
            "{server:?}: {of_tags} requests for {deleted} tags"
        );
        assert!(
            requests.len() <= limit + TAGS + 12,
            "{server:?}: {} requests",
            requests.len()
        );
        measured.push((server, requests.len()));
    }
    assert!(!measured.is_empty());
}

async fn store_manifest(store: &dyn ImageStore, at: &Repository, tag: &str) -> Manifest {
    let tag: Tag = tag.parse().expect("a tag");
    store
        .manifest(at, &tag.into())
        .await
        .expect("an answer")
        .expect("a manifest")
}

#[test]
fn wrong_usage_deletes_nothing() {
    let world = World::new().file(
        "imglife.yaml",
        configuration(&[], &entry("up.example/a", "r.example/a", "tag: '1'")),
    );
    let outcome = world.imglife(["cleanup"]).exits(2);
    assert!(
        outcome.stderr.contains("has no `retention`"),
        "{}",
        outcome.stderr
    );
    let world = World::new().file("imglife.yaml", rules(&[], "ocidir://a"));
    let outcome = world.imglife(["cleanup", "--now", "2030-01-01"]).exits(2);
    assert!(
        outcome.stderr.contains("add `--list` or `--dry-run`"),
        "{}",
        outcome.stderr
    );
    world
        .imglife(["cleanup", "--list", "--now", "2030-01-01"])
        .succeeds();
    world
        .imglife(["cleanup", "--list", "--now", "soon"])
        .exits(2);
    world.imglife(["cleanup", "--only", "nothing"]).exits(2);
    let outcome = world
        .imglife(["cleanup", "--report", "no/such/directory.json"])
        .exits(2);
    assert!(
        outcome.stderr.contains("cannot write the report file"),
        "{}",
        outcome.stderr
    );
}
