//! Archives: images go there whole before they are deleted, and from there when their time is over.

use imglife::model::{Reference, Repository};
use imglife::registry::ImageStore;
use imglife::registry::layout::Layouts;

use super::{client, set, tags};
use crate::faults::kills::assert_complete;
use crate::support::attachments::Attached;
use crate::support::images::{Flavour, Graph};
use crate::support::registry::Registry;
use crate::support::servers::Server;
use crate::support::world::World;
use crate::sync::{configuration, entry, json};

fn date(days: &str) -> String {
    let said = std::process::Command::new("date")
        .args(["-u", "+%Y%m%d", "-d", days])
        .output()
        .expect("a date")
        .stdout;
    String::from_utf8_lossy(&said).trim().to_owned()
}

/// Publishes an image with everything that can be attached to one, and what is kept.
async fn publish(registry: &Registry, at: &Repository) -> Attached {
    let (store, attached) = (client(registry), Attached::new());
    attached.graph.publish(&store, at).await;
    if !registry.server().lists_referrers() {
        attached.lists().publish(&store, at).await;
    }
    let mut graph = Graph::default();
    let newest = graph.small_image(Flavour::Docker, "linux/amd64", "newest");
    graph.tag("9.0", &newest);
    graph.publish(&store, at).await;
    attached
}

async fn archives(
    registry: &Registry,
    world: &World,
    cold: &str,
    archive: (&dyn ImageStore, Repository),
) {
    let (store, at) = (client(registry), registry.repository("mirrors/a"));
    let attached = publish(registry, &at).await;
    let (archive, archived_at) = archive;
    // Archived long ago, and a tag of somebody else.
    let mut earlier = Graph::default();
    for name in ["0.9-archived.20200101", "0.9-mine.20200101"] {
        let image = earlier.small_image(Flavour::Oci, "linux/amd64", name);
        earlier.tag(name, &image);
    }
    earlier.publish(archive, &archived_at).await;
    let rules = format!(
        "retention: {{ keep_last: 1, grace_days: 0, require_records: false, max_delete_percent: 80, archive: {{ enabled: true, registry: {cold:?}, keep_days: 30 }} }}\n"
    );
    let text =
        std::fs::read_to_string(world.path("imglife.yaml")).expect("a configuration") + &rules;
    std::fs::write(world.path("imglife.yaml"), text).expect("to write the configuration");

    let report = json(
        &world
            .imglife(["cleanup", "--output", "json"])
            .succeeds()
            .stdout,
    );
    assert_eq!(report["totals"]["archived"], 1, "{report:#}");
    assert_eq!(tags(&store, &at).await, set(&["9.0"]));
    let today = format!("1.0-archived.{}", date("today"));
    let left = tags(archive, &archived_at).await;
    assert!(
        left.contains(&today)
            && left.contains("0.9-mine.20200101")
            && !left.contains("0.9-archived.20200101"),
        "{left:?}"
    );
    let found = archive
        .resolve(&archived_at, &Reference::Tag(today.parse().expect("a tag")))
        .await
        .expect("an answer");
    assert_eq!(
        found.map(|found| found.digest).as_ref(),
        Some(&attached.graph.tags[0].1.digest)
    );
    // With its attachments: those of cosign by their tags, the others by their digests.
    for (tag, descriptor) in attached
        .graph
        .tags
        .iter()
        .filter(|(tag, _)| tag.is_attachment())
    {
        let found = archive
            .resolve(&archived_at, &Reference::Tag(tag.clone()))
            .await
            .expect("an answer");
        assert_eq!(
            found.map(|found| found.digest).as_ref(),
            Some(&descriptor.digest),
            "{tag}"
        );
    }
    for content in &attached.graph.manifests {
        let digest = content.manifest().digest;
        assert!(
            archive
                .manifest(&archived_at, &digest.clone().into())
                .await
                .expect("an answer")
                .is_some(),
            "{digest} is not archived"
        );
    }
    assert_complete(archive, &archived_at).await;

    // Its time is over after the last of thirty days.
    let listed = |day: &str| {
        world
            .imglife(["cleanup", "--list", "--now", day])
            .succeeds()
            .stdout
    };
    let day = |days: &str| {
        chrono::NaiveDate::parse_from_str(&date(days), "%Y%m%d")
            .expect("a date")
            .to_string()
    };
    assert!(!listed(&day("30 days")).contains(&today));
    assert!(
        listed(&day("31 days")).contains(&today),
        "{}",
        listed(&day("31 days"))
    );
    let again = json(
        &world
            .imglife(["cleanup", "--output", "json"])
            .succeeds()
            .stdout,
    );
    assert_eq!(
        (&again["totals"]["deleted"], &again["totals"]["archived"]),
        (&0.into(), &0.into())
    );
    assert_eq!(tags(archive, &archived_at).await, left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_are_archived_to_another_registry_with_all_that_is_attached() {
    let registry = Registry::plain();
    for server in Server::found("archives")
        .into_iter()
        .filter(|server| *server != Server::Crane)
    {
        let cold = Registry::of(server);
        let entries = entry(
            "up.example/a",
            &registry.repository("mirrors/a").to_string(),
            "tag: '9.0'",
        );
        let world = World::new().file("imglife.yaml", configuration(&[&registry, &cold], &entries));
        let place = client(&cold);
        let at = cold.repository("cold/mirrors/a");
        archives(
            &registry,
            &world,
            &format!("{}/cold", cold.host()),
            (&place, at),
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_are_archived_to_layouts() {
    let registry = Registry::plain();
    let entries = entry(
        "up.example/a",
        &registry.repository("mirrors/a").to_string(),
        "tag: '9.0'",
    );
    let world = World::new().file("imglife.yaml", configuration(&[&registry], &entries));
    let at = Repository::Layout {
        directory: world.path("cold/mirrors/a"),
    };
    archives(
        &registry,
        &world,
        "ocidir://cold",
        (&Layouts::default(), at),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_archive_does_not_take_is_not_deleted() {
    let registry = Registry::plain();
    let at = registry.repository("mirrors/a");
    publish(&registry, &at).await;
    let before = registry.stored_tags("mirrors/a");
    // It is gone, and nobody listens there.
    let gone = Registry::plain().host();
    let rules = format!(
        "retention: {{ keep_last: 1, grace_days: 0, require_records: false, archive: {{ enabled: true, registry: '{gone}/cold' }} }}\nhosts: {{ '{gone}': {{ max_connections: 1 }} }}\n"
    );
    let text = configuration(
        &[&registry],
        &entry("up.example/a", &at.to_string(), "tag: '9.0'"),
    )
    .replace(
        "insecure_registries: [",
        &format!("insecure_registries: ['{gone}', "),
    );
    let world = World::new().file("imglife.yaml", text + &rules);
    let outcome = world.imglife(["cleanup"]).exits(1);
    assert_eq!(
        registry.stored_tags("mirrors/a"),
        before,
        "{}",
        outcome.stdout
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layout_is_not_archived_and_nothing_of_it_goes() {
    let rules = "retention: { keep_last: 1, grace_days: 0, require_records: false, archive: { enabled: true, registry: 'ocidir://cold' } }\n";
    let world = World::new().file(
        "imglife.yaml",
        configuration(
            &[],
            &entry("up.example/a", "ocidir://mirrors/a", "tag: '9.0'"),
        ) + rules,
    );
    let (store, at) = (
        Layouts::default(),
        Repository::Layout {
            directory: world.path("mirrors/a"),
        },
    );
    super::mirror().graph.publish(&store, &at).await;
    let before = tags(&store, &at).await;
    let outcome = world.imglife(["cleanup"]).exits(1);
    assert!(
        outcome.stdout.contains("an OCI layout cannot be archived"),
        "{}",
        outcome.stdout
    );
    assert_eq!(tags(&store, &at).await, before);
}
