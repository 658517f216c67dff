//! Signatures, SBOMs and attestations by `imglife sync`, between registries that list what refers
//! to an image and such that leave that to clients.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use imglife::model::media_type;
use imglife::model::{Digest, Reference, Repository, Tag};
use imglife::registry::layout::Layouts;
use imglife::registry::{ImageSource, Referrers};
use reqwest::Client;
use reqwest::header::ACCEPT;
use serde_json::{Value, json};

use crate::registries::client;
use crate::support::attachments::Attached;
use crate::support::images::{Flavour, Graph};
use crate::support::registry::Registry;
use crate::support::servers::Server;
use crate::support::world::World;
use crate::sync::{configuration, entry, json as parsed};

const IMAGE: &str = "library/app";

/// Returns a registry that holds the image with its attachments, listed by itself or by its
/// clients.
async fn source(server: Server, attached: &Attached) -> Registry {
    let registry = Registry::of(server);
    attached
        .graph
        .publish(&client(&registry), &registry.repository(IMAGE))
        .await;
    if !server.lists_referrers() {
        attached
            .lists()
            .publish(&client(&registry), &registry.repository(IMAGE))
            .await;
    }
    registry
}

/// Returns what somebody attached to the image at the target, before the image is there: an image
/// and the list that names it.
fn of_the_target(subject: &Digest) -> (Graph, Value) {
    let mut graph = Graph::default();
    let own = graph.small_image(Flavour::Oci, "linux/amd64", "the target's own");
    let mut entry = json!(own);
    entry["annotations"] = json!({ "by": "the target" });
    entry["data"] = json!("e30=");
    let list = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry], "annotations": { "kept": "yes" } });
    let list = graph.manifest(media_type::OCI_INDEX, &list);
    graph.tag(Tag::of_referrers(subject).as_str(), &list);
    (graph, entry)
}

/// Returns the index that is answered to a request by hand.
async fn asked(registry: &Registry, path: &str, rest: &str) -> Value {
    let client = Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
        .expect("a client");
    let url = format!("{}/v2/{path}/{rest}", registry.url());
    let answer = client
        .get(&url)
        .header(ACCEPT, media_type::OCI_INDEX)
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200, "{url}");
    parsed(&String::from_utf8_lossy(
        &answer.bytes().await.expect("a body"),
    ))
}

fn by_digest(entries: &Value) -> BTreeMap<String, Value> {
    let entries = entries.as_array().expect("a list").iter();
    let found: BTreeMap<String, Value> = entries
        .clone()
        .map(|entry| {
            (
                entry["digest"].as_str().expect("a digest").to_owned(),
                entry.clone(),
            )
        })
        .collect();
    assert_eq!(found.len(), entries.count(), "each is listed once");
    found
}

/// Fails unless `path` has the image and all attachments, each listed where it belongs, with what
/// the target listed before.
async fn has_everything(
    attached: &Attached,
    registry: &Registry,
    path: &str,
    own: &BTreeMap<Digest, Value>,
) {
    let (store, repository) = (client(registry), registry.repository(path));
    attached.graph.assert_published(&store, &repository).await;
    for (subject, referrers) in &attached.referrers {
        let listed = store
            .referrers(&repository, subject)
            .await
            .expect("an answer");
        let (list, mut expected) = if registry.server().lists_referrers() {
            assert!(
                matches!(&listed, Referrers::Listed(listed) if listed.len() == referrers.len()),
                "{listed:?}"
            );
            (
                asked(registry, path, &format!("referrers/{subject}")).await,
                Vec::new(),
            )
        } else {
            assert_eq!(listed, Referrers::NotListed);
            let list = asked(
                registry,
                path,
                &format!("manifests/{}", Tag::of_referrers(subject)),
            )
            .await;
            let own = own.get(subject);
            assert_eq!(
                list["annotations"] == json!({ "kept": "yes" }),
                own.is_some(),
                "{list}"
            );
            (list, own.into_iter().cloned().collect())
        };
        expected.extend(referrers.iter().cloned());
        assert_eq!(
            by_digest(&list["manifests"]),
            by_digest(&expected.into()),
            "{repository}@{subject}"
        );
    }
}

#[tokio::test]
async fn attachments_come_along_between_all_kinds_of_registries_and_into_layouts() {
    let servers = Server::found("attachments");
    let attached = Attached::new();
    let index = &attached.graph.tags[0].1.digest;
    let (theirs, entry_of_theirs) = of_the_target(index);
    let own = BTreeMap::from([(index.clone(), entry_of_theirs)]);
    let (mut sources, mut targets) = (Vec::new(), Vec::new());
    for server in servers {
        sources.push(source(server, &attached).await);
        targets.push(Registry::of(server));
    }
    let mut entries = String::new();
    for from in &sources {
        let (name, upstream) = (from.server().name(), from.repository(IMAGE).to_string());
        for to in &targets {
            let repository = to.repository(&format!("from/{name}"));
            if !to.server().lists_referrers() {
                theirs.publish(&client(to), &repository).await;
            }
            entries += &entry(&upstream, &repository.to_string(), "tag_regex: '1\\..*'");
        }
        entries += &entry(&upstream, &format!("ocidir://{name}"), "tag: '1.0'");
    }
    let all: Vec<&Registry> = sources.iter().chain(&targets).collect();
    let world = World::new().file("imglife.yaml", configuration(&all, &entries));
    let report = parsed(
        &world
            .imglife(["sync", "--output", "json"])
            .succeeds()
            .stdout,
    );
    for entry in report["entries"].as_array().expect("entries") {
        let tag = &entry["tags"][0];
        assert_eq!(
            (&tag["outcome"], &tag["attachments"], &tag["warnings"]),
            (&json!("copied"), &json!(attached.count()), &Value::Null),
            "{entry}"
        );
    }
    for from in &sources {
        let name = from.server().name();
        for to in &targets {
            has_everything(&attached, to, &format!("from/{name}"), &own).await;
        }
        let layout = Repository::Layout {
            directory: world.path(name),
        };
        attached
            .graph
            .assert_published(&Layouts::default(), &layout)
            .await;
        for (subject, referrers) in &attached.referrers {
            let list = Layouts::default()
                .manifest(&layout, &Reference::Tag(Tag::of_referrers(subject)))
                .await
                .expect("an answer");
            let list = parsed(&String::from_utf8_lossy(&list.expect("the list").bytes));
            assert_eq!(
                by_digest(&list["manifests"]),
                by_digest(&json!(referrers)),
                "{name}@{subject}"
            );
        }
    }
    // What is there already is not attached again.
    let again = parsed(
        &world
            .imglife(["sync", "--output", "json"])
            .succeeds()
            .stdout,
    );
    assert_eq!(again["totals"]["copied"], 0);
}

#[tokio::test]
async fn attachments_that_come_or_change_after_the_image_are_noticed_as_the_entry_asks() {
    let attached = Attached::new();
    let mut image = attached.graph.clone();
    image.tags.retain(|(tag, _)| tag.as_str() == "1.0");
    let [signature, ..] = Tag::of_cosign(&image.tags[0].1.digest);
    let mut renewed = Graph::default();
    let changed = renewed.small_image(
        Flavour::Oci,
        "unknown/unknown",
        "cosign's signature, renewed",
    );
    renewed.tag(signature.as_str(), &changed);
    let target = Registry::plain();
    for server in Server::found("later attachments") {
        let upstream = Registry::of(server);
        let (store, repository) = (client(&upstream), upstream.repository(IMAGE));
        image.publish(&store, &repository).await;
        let selections = [
            "tag: '1.0'",
            "tag_regex: '1\\..*'",
            "tag: '1.0', check_digest: true",
            "tag_regex: '1\\..*', check_digest: true",
        ];
        let targets: Vec<String> = (0..4)
            .map(|number| {
                target
                    .repository(&format!("{}/{number}", server.name()))
                    .to_string()
            })
            .collect();
        let entries: String = selections
            .iter()
            .zip(&targets)
            .map(|(selection, target)| entry(&repository.to_string(), target, selection))
            .collect();
        let world = World::new().file(
            "imglife.yaml",
            configuration(&[&upstream, &target], &entries),
        );
        let outcomes = || {
            let report = parsed(
                &world
                    .imglife(["sync", "--output", "json"])
                    .succeeds()
                    .stdout,
            );
            let entries = report["entries"].as_array().expect("entries").iter();
            entries
                .map(|entry| {
                    entry["tags"][0]["outcome"]
                        .as_str()
                        .expect("an outcome")
                        .to_owned()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(outcomes(), ["copied"; 4], "{}", server.name());
        assert_eq!(outcomes(), ["upToDate"; 4], "{}", server.name());
        // All of it is in the listing: by cosign's tags.
        attached.graph.publish(&store, &repository).await;
        if !server.lists_referrers() {
            attached.lists().publish(&store, &repository).await;
        }
        assert_eq!(outcomes(), ["copied"; 4], "{}", server.name());
        assert_eq!(outcomes(), ["upToDate"; 4], "{}", server.name());
        // The same tags, another signature.
        renewed.publish(&store, &repository).await;
        assert_eq!(
            outcomes(),
            ["upToDate", "upToDate", "copied", "copied"],
            "{}",
            server.name()
        );
        assert_eq!(outcomes(), ["upToDate"; 4], "{}", server.name());
        for path in &targets[2..] {
            renewed
                .assert_published(&client(&target), &path.parse().expect("a repository"))
                .await;
        }
    }
}

/// Writes the image and its attachments into `layout` as other tools do: what refers to something
/// has an entry in `index.json` and is in no list.
async fn as_others_write(attached: &Attached, directory: &Path) {
    let layout = Repository::Layout {
        directory: directory.to_owned(),
    };
    attached.graph.publish(&Layouts::default(), &layout).await;
    let file = directory.join("index.json");
    let mut index = parsed(&fs::read_to_string(&file).expect("index.json"));
    let entries = index["manifests"].as_array_mut().expect("a list");
    for referrer in attached.referrers.values().flatten() {
        let mut entry = referrer.clone();
        entry["annotations"] =
            json!({ "org.opencontainers.image.created": "2026-01-01T00:00:00Z" });
        entries.push(entry);
    }
    fs::write(&file, index.to_string()).expect("to write");
}

#[tokio::test]
async fn attachments_that_only_the_index_of_a_layout_names_come_along_to_registries_and_layouts() {
    let targets: Vec<Registry> = Server::found("attachments in layouts")
        .into_iter()
        .map(Registry::of)
        .collect();
    let attached = Attached::new();
    let mut entries = String::new();
    for to in &targets {
        entries += &entry(
            "ocidir://theirs",
            &to.repository(IMAGE).to_string(),
            "tag_regex: '1\\..*', check_digest: true",
        );
    }
    entries += &entry(
        "ocidir://theirs",
        "ocidir://ours",
        "tag: '1.0', check_digest: true",
    );
    let all: Vec<&Registry> = targets.iter().collect();
    let world = World::new().file("imglife.yaml", configuration(&all, &entries));
    as_others_write(&attached, &world.path("theirs")).await;

    let report = parsed(
        &world
            .imglife(["sync", "--output", "json"])
            .succeeds()
            .stdout,
    );
    for entry in report["entries"].as_array().expect("entries") {
        let tag = &entry["tags"][0];
        assert_eq!(
            (&tag["outcome"], &tag["attachments"]),
            (&json!("copied"), &json!(attached.count())),
            "{entry}"
        );
    }
    for to in &targets {
        has_everything(&attached, to, IMAGE, &BTreeMap::new()).await;
    }
    let ours = Repository::Layout {
        directory: world.path("ours"),
    };
    attached
        .graph
        .assert_published(&Layouts::default(), &ours)
        .await;
    for (subject, referrers) in &attached.referrers {
        let list = Layouts::default()
            .manifest(&ours, &Reference::Tag(Tag::of_referrers(subject)))
            .await
            .expect("an answer");
        let list = parsed(&String::from_utf8_lossy(&list.expect("the list").bytes));
        assert_eq!(
            by_digest(&list["manifests"]),
            by_digest(&json!(referrers)),
            "{subject}"
        );
    }
    let again = parsed(
        &world
            .imglife(["sync", "--output", "json"])
            .succeeds()
            .stdout,
    );
    assert_eq!(again["totals"]["copied"], 0, "{again}");

    // One that is added later is noticed.
    let mut more = Attached::new();
    more.add_signature("another signature");
    as_others_write(&more, &world.path("theirs")).await;
    let later = parsed(
        &world
            .imglife(["sync", "--output", "json"])
            .succeeds()
            .stdout,
    );
    for entry in later["entries"].as_array().expect("entries") {
        assert_eq!(entry["tags"][0]["outcome"], json!("copied"), "{entry}");
    }
    for to in &targets {
        has_everything(&more, to, IMAGE, &BTreeMap::new()).await;
    }
}
