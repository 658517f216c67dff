//! `imglife` against a real Gitea: images in its container registry, records in its packages.
//!
//! The other tests of Gitea use a fake that can fail on request (`support/gitea.rs`). This one shows
//! that the fake behaves as Gitea does.

use std::io::Write as _;

use serde_json::json;

use crate::lineage::{json_of, recorded};
use crate::registries::client;
use crate::support::gitea_server::{GiteaServer, OWNER};
use crate::support::images::{Flavour, Graph};
use crate::support::registry::Registry;
use crate::support::world::World;
use crate::sync::entry;

/// Returns an image for two platforms under the tags `1.0` and `1.1`.
fn image() -> Graph {
    let mut graph = Graph::default();
    for tag in ["1.0", "1.1"] {
        let children = ["linux/amd64", "linux/arm64"].map(|platform| {
            let layer = graph.blob(
                "application/vnd.oci.image.layer.v1.tar+gzip",
                format!("layer of {tag} for {platform}"),
            );
            graph.image(Flavour::Oci, platform, &[layer])
        });
        let index = graph.index(Flavour::Oci, &children);
        graph.tag(tag, &index);
    }
    graph
}

fn variable(gitea: &GiteaServer, name: &str) -> String {
    format!("IMGLIFE_{}_{name}", gitea.host().replace(['.', ':'], "_"))
}

#[tokio::test]
async fn sync_and_records_work_with_a_real_gitea() {
    if !GiteaServer::is_installed() {
        // Not by a macro: what those print is only shown of tests that fail.
        writeln!(
            std::io::stderr(),
            "a real Gitea: not tried, since this machine lacks it (`sh tests/setup.sh all`)"
        )
        .expect("standard error");
        return;
    }
    let gitea = GiteaServer::start();
    gitea.create_repository("bases");
    let upstream = Registry::plain();
    let (source, graph) = (upstream.repository("library/app"), image());
    graph.publish(&client(&upstream), &source).await;

    let target = format!("{}/{OWNER}/mirrors/app", gitea.host());
    let configuration = format!(
        "registry:\n  provider: gitea\n  url: {}\n  owner: {OWNER}\n  repo: bases\n  insecure_registries: [{:?}, {:?}]\nsync:\n  entries:\n{}",
        gitea.url(),
        gitea.host(),
        upstream.host(),
        entry(&source.to_string(), &target, "tag_regex: '.*'"),
    );
    let world = World::new()
        .file("imglife.yaml", configuration)
        .variable("GITEA_TOKEN", gitea.token())
        .variable(&variable(&gitea, "USERNAME"), OWNER)
        .variable(&variable(&gitea, "PASSWORD"), gitea.token());

    // The container registry.
    for (copied, up_to_date) in [(2, 0), (0, 2)] {
        let report = json_of(&world.imglife(["sync", "--output", "json"]).succeeds());
        assert_eq!(
            (&report["totals"]["copied"], &report["totals"]["upToDate"]),
            (&json!(copied), &json!(up_to_date)),
            "{report}"
        );
    }
    for (tag, descriptor) in &graph.tags {
        let digest = world
            .shell(&format!(
                "skopeo inspect --raw --tls-verify=false --creds {OWNER}:{} docker://{target}:{tag} | sha256sum",
                gitea.token()
            ))
            .succeeds()
            .stdout;
        assert!(
            descriptor.digest.to_string().ends_with(&digest[..64]),
            "{tag}: {digest}"
        );
    }

    // The packages.
    let base = format!("{source}:1.0");
    let images = ["1.0", "1.1"].map(|tag| format!("{target}:{tag}"));
    for (image, revision) in [
        (&images[0], "older"),
        (&images[1], "older"),
        (&images[0], "newer"),
    ] {
        world
            .imglife([
                "register",
                "--image",
                image,
                "--base",
                &base,
                "--project",
                "team/app",
                "--revision",
                revision,
            ])
            .succeeds();
    }
    assert_eq!(recorded(&world), images);
    let list = json_of(
        &world
            .imglife(["app", "list", "--output", "json"])
            .succeeds(),
    );
    let revisions = ["/records/0/revision", "/records/1/revision"].map(|path| list.pointer(path));
    assert_eq!(
        revisions,
        [Some(&json!("newer")), Some(&json!("older"))],
        "{list}"
    );
    assert!(
        gitea
            .packages()
            .iter()
            .any(|package| package.starts_with("generic imglife.")),
        "{:?}",
        gitea.packages()
    );
    world.imglife(["app", "purge", "--keep", "0"]).exits(2);
    assert_eq!(recorded(&world), images);
    world.imglife(["app", "purge", "--keep", "1"]).succeeds();
    assert_eq!(recorded(&world).len(), 1);
}
