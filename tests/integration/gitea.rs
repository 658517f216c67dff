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
        .variable("IMGLIFE_TOKEN_HOST", gitea.host());

    // The container registry, which takes the same token.
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

    // A pull request of a fork has no secret, and Gitea lists packages for nobody without a token.
    let fork = World::new()
        .file(
            "imglife.yaml",
            format!(
                "registry:\n  provider: gitea\n  url: {}\n  owner: {OWNER}\n  repo: bases\n  insecure_registries: [{:?}]\n",
                gitea.url(),
                gitea.host(),
            ),
        )
        .variable("CI", "true")
        .variable("GITEA_ACTIONS", "true")
        .variable("GITHUB_SERVER_URL", gitea.url())
        .variable("GITHUB_REPOSITORY", "other/web")
        .variable("GITHUB_EVENT_NAME", "pull_request")
        .variable("GITEA_TOKEN", "");
    let probed = fork
        .imglife(["check", "--base", &images[1], "--probe"])
        .succeeds();
    assert!(
        probed.stdout.contains("the records may not be read"),
        "{}",
        probed.stdout
    );
    fork.imglife(["check", "--base", &images[1]]).exits(1);

    world.imglife(["app", "purge", "--keep", "0"]).exits(2);
    assert_eq!(recorded(&world), images);
    world.imglife(["app", "purge", "--keep", "1"]).succeeds();
    assert_eq!(recorded(&world).len(), 1);
}

/// Returns images with these tags.
fn images(tags: &[&str]) -> Graph {
    let mut graph = Graph::default();
    for tag in tags {
        let layer = graph.blob(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            format!("layer of {tag}"),
        );
        let image = graph.image(Flavour::Oci, "linux/amd64", &[layer]);
        graph.tag(tag, &image);
    }
    graph
}

#[tokio::test]
async fn tags_in_upper_case_work_with_a_real_gitea_that_lowers_them() {
    if !GiteaServer::is_installed() {
        writeln!(
            std::io::stderr(),
            "a real Gitea: not tried, since this machine lacks it (`sh tests/setup.sh all`)"
        )
        .expect("standard error");
        return;
    }
    let gitea = GiteaServer::start();
    let upstream = Registry::plain();
    let source = upstream.repository("minio/minio");
    let client = client(&upstream);
    images(&["RELEASE.1", "RELEASE.2", "RELEASE.3", "Edge", "edge"])
        .publish(&client, &source)
        .await;
    let target = format!("{}/{OWNER}/mirrors/minio", gitea.host());
    let configuration = |rules: &str, retention: &str| {
        format!(
            "registry:\n  insecure_registries: [{:?}, {:?}]\nretention: {{ {retention} }}\nsync:\n  entries:\n{}",
            gitea.host(),
            upstream.host(),
            entry(&source.to_string(), &target, rules),
        )
    };
    let world = World::new()
        .file(
            "imglife.yaml",
            configuration("tag_regex: 'RELEASE.*|Edge|edge'", "keep_last: 9"),
        )
        .variable(&variable(&gitea, "USERNAME"), OWNER)
        .variable(&variable(&gitea, "PASSWORD"), gitea.token());

    // The first run already refuses the tags that differ only in case.
    for (copied, up_to_date) in [(3, 0), (0, 3)] {
        let output = world.imglife(["sync", "--output", "json"]).exits(1);
        let report = json_of(&output);
        assert_eq!(
            ["copied", "upToDate", "failed"].map(|total| &report["totals"][total]),
            [&json!(copied), &json!(up_to_date), &json!(2)],
            "{report}"
        );
    }

    let world = world.file(
        "imglife.yaml",
        configuration(
            "tag_regex: 'RELEASE.[13]'",
            "keep_last: 0, min_keep: 0, max_delete_percent: 100, grace_days: 0",
        ),
    );
    let status = json_of(&world.imglife(["status", "--format", "json"]).succeeds());
    assert!(!status.to_string().contains(r#""missing""#), "{status}");
    // The server reports push dates, and today's tags are too young to go.
    let later = ["cleanup", "--dry-run", "--now", "2100-01-01"];
    let report = json_of(
        &world
            .imglife_with(&[&later[..], &["--output", "json"]].concat())
            .succeeds(),
    );
    let deleted: Vec<&str> = report["deleted"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|deleted| deleted["tag"].as_str())
        .collect();
    assert_eq!(deleted, ["release.2"], "{report}");
}
