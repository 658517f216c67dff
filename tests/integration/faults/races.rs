//! Tests of changes by other clients during a run. The run must detect and respect them.

use imglife::model::{Digest, Tag};
use imglife::registry::ImageSource as _;

use super::{
    Duration, Fault, Flavour, Graph, Proxy, RUN_TIMEOUT, Registry, Rule, World, client,
    configuration, noise,
};
use crate::support::proxy::ALWAYS;

/// Waits until the proxy has received a request with this method and `part` in its path.
async fn wait_for_request(proxy: &Proxy, method: &str, part: &str) {
    let received = async {
        while !proxy
            .requests()
            .iter()
            .any(|request| request.method == method && request.path.contains(part))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(RUN_TIMEOUT, received)
        .await
        .unwrap_or_else(|_| panic!("the proxy received no {method} {part}"));
}

/// Returns small images with these tags.
fn small(names: &[&str]) -> Graph {
    let mut graph = Graph::default();
    for name in names {
        let image = graph.small_image(Flavour::Oci, "linux/amd64", name);
        graph.tag(name, &image);
    }
    graph
}

/// Returns the digest of a tag in the registry.
async fn tag_digest(registry: &Registry, path: &str, tag: &str) -> Option<Digest> {
    let tag: Tag = tag.parse().expect("a tag");
    client(registry)
        .resolve(&registry.repository(path), &tag.into())
        .await
        .expect("an answer")
        .map(|found| found.digest)
}

const REGISTER: [&str; 9] = [
    "register",
    "--image",
    "r.example/apps/a:1",
    "--platform",
    "linux/amd64",
    "--revision",
    "r",
    "--project",
    "p",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn base_registered_during_cleanup_is_kept() {
    let registry = Registry::plain();
    small(&["1.0", "2.0", "3.0", "9.0"])
        .publish(&client(&registry), &registry.repository("app"))
        .await;
    let slow = Fault::Drip(64, Duration::from_millis(200));
    let proxy = Proxy::start(
        registry.host(),
        vec![Rule::new("GET", "/manifests/3.0", ALWAYS, slow)],
    );
    let at = format!("{}/app", proxy.host());
    let text = configuration(
        &[proxy.host()],
        &[("up.example/a".to_owned(), at.clone(), "tag: '9.0'")],
    );
    let rules = "retention: { keep_last: 1, grace_days: 0, max_delete_percent: 90, require_records: false }\n";
    let world = World::new().file("imglife.yaml", text + rules);
    let cleanup = world.start_imglife(["cleanup"]);
    wait_for_request(&proxy, "GET", "/manifests/3.0").await;
    world
        .imglife_with(&[&REGISTER[..], &["--base", &format!("{at}:2.0")]].concat())
        .succeeds();
    let outcome = cleanup.wait().succeeds();
    assert!(
        outcome.stdout.contains("base of r.example/apps/a:1"),
        "{}",
        outcome.stdout
    );
    assert_eq!(
        (
            tag_digest(&registry, "app", "1.0").await,
            tag_digest(&registry, "app", "3.0").await
        ),
        (None, None),
        "{}",
        outcome.stdout
    );
    assert!(tag_digest(&registry, "app", "2.0").await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tag_moved_by_another_client_during_a_copy_is_not_overwritten() {
    let (upstream, target) = (Registry::plain(), Registry::plain());
    let mut new = Graph::default();
    for name in ["moved", "missing"] {
        let layer = new.blob(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            noise(name.len() as u64, 60_000),
        );
        let image = new.image(Flavour::Oci, "linux/amd64", &[layer]);
        new.tag(name, &image);
    }
    new.publish(&client(&upstream), &upstream.repository("app"))
        .await;
    let (store, at) = (client(&target), target.repository("app"));
    let mut old = small(&["old", "theirs"]);
    old.tags = vec![("moved".parse().expect("a tag"), old.tags[0].1.clone())];
    old.publish(&store, &at).await;
    let slow = Fault::Drip(10_000, Duration::from_millis(1_000));
    let proxy = Proxy::start(
        upstream.host(),
        vec![Rule::new("GET", "/blobs/", ALWAYS, slow)],
    );
    let entries = [(
        format!("{}/app", proxy.host()),
        at.to_string(),
        "tag_regex: 'm.*', check_digest: true",
    )];
    let world = World::new().file(
        "imglife.yaml",
        configuration(&[proxy.host(), target.host()], &entries),
    );
    let sync = world.start_imglife(["sync"]);
    wait_for_request(&proxy, "GET", "/blobs/").await;
    let mut theirs = small(&["old", "theirs"]);
    let own = theirs.tags[1].1.clone();
    theirs.tags = ["moved", "missing"]
        .map(|name| (name.parse().expect("a tag"), own.clone()))
        .to_vec();
    theirs.publish(&store, &at).await;
    let outcome = sync.wait().exits(1);
    for name in ["moved", "missing"] {
        assert_eq!(
            tag_digest(&target, "app", name).await.as_ref(),
            Some(&own.digest),
            "{}",
            outcome.stdout
        );
    }
    assert!(
        outcome
            .stdout
            .contains("cannot overwrite tag moved: the tag changed from sha256:"),
        "{}",
        outcome.stdout
    );
    assert!(
        outcome
            .stdout
            .contains("cannot overwrite tag missing: the tag changed from nothing"),
        "{}",
        outcome.stdout
    );
    assert!(
        outcome.stdout.contains("run the command again"),
        "{}",
        outcome.stdout
    );
}
