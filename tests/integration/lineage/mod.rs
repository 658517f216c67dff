//! Build records by the binary: `register`, `check`, `latest`, `base-args`, `app`, over a
//! directory, a GitLab and real registries.
//!
//! The images are made here, with exactly the labels and annotations that docker 20.10 (both
//! builders), buildx 0.29 and buildah 1.28 were seen to leave on what they built from a base with
//! those of `imglife build`.

use std::fs;

use imglife::model::media_type;
use imglife::model::{Descriptor, Digest};
use serde_json::{Value, json};

use crate::registries::client;
use crate::support::images::Graph;
use crate::support::registry::Registry;
use crate::support::world::{Outcome, World};

mod checks;
pub(crate) mod faults;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const BASE_TAG: &str = "3.21.3-core1.0.0";

/// A registry with a base, and applications built from it.
pub(crate) struct Site {
    pub(crate) registry: Registry,
}

impl Site {
    pub(crate) async fn new() -> Site {
        let site = Site {
            registry: Registry::plain(),
        };
        site.put(
            "bases/alpine",
            BASE_TAG,
            &["m", "b"],
            site.base_labels(),
            json!({}),
        )
        .await;
        site
    }

    pub(crate) fn base(&self) -> String {
        format!("{}/bases/alpine:{BASE_TAG}", self.registry.host())
    }

    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.host())
    }

    /// Returns what `imglife build` writes on a base.
    fn base_labels(&self) -> Value {
        json!({
            "imglife.ref": self.base(),
            "imglife.tier": "base",
            "imglife.platforms": "linux/amd64 linux/arm64",
            "org.opencontainers.image.base.name": format!("{}/mirrors/alpine:3.21.3", self.registry.host()),
            "org.opencontainers.image.revision": "0123abc",
        })
    }

    /// Puts an image with these layers, labels and annotations, and returns its digest.
    async fn put(
        &self,
        path: &str,
        tag: &str,
        layers: &[&str],
        labels: Value,
        annotations: Value,
    ) -> Digest {
        let mut graph = Graph::default();
        let layers: Vec<Descriptor> = layers
            .iter()
            .map(|layer| graph.blob(LAYER, (*layer).to_owned()))
            .collect();
        let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.digest).collect();
        let config = json!({
            "os": "linux", "architecture": "amd64", "config": { "Labels": labels }, "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = graph.blob(media_type::OCI_CONFIG, config.to_string());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers, "annotations": annotations,
        });
        let descriptor = graph.manifest(media_type::OCI_MANIFEST, &manifest);
        graph.tag(tag, &descriptor);
        graph
            .publish(&client(&self.registry), &self.registry.repository(path))
            .await;
        descriptor.digest
    }

    /// Puts an application as docker leaves it: with the labels of its base.
    pub(crate) async fn put_app(&self, path: &str, tag: &str) -> Digest {
        self.put(
            path,
            tag,
            &["m", "b", &format!("{path}:{tag}")],
            self.base_labels(),
            json!({}),
        )
        .await
    }

    /// Returns a world in which records are in a directory.
    pub(crate) fn world(&self) -> World {
        let configuration = format!(
            "registry: {{ provider: file, insecure_registries: [{:?}] }}\n",
            self.registry.host()
        );
        World::new()
            .file("imglife.yaml", configuration)
            .variable("CI_COMMIT_SHA", "4f2a91c")
            .variable("CI_PROJECT_PATH", "team/web")
    }
}

pub(crate) fn json_of(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|error| panic!("{error} in {}", outcome.stdout))
}

/// Returns the images that have a record.
pub(crate) fn recorded(world: &World) -> Vec<String> {
    let list = json_of(
        &world
            .imglife(["app", "list", "--output", "json"])
            .succeeds(),
    );
    assert_eq!(list["schema"], "imglife/app-list/v1");
    let records = list["records"].as_array().expect("records");
    records
        .iter()
        .map(|record| record["image"].as_str().expect("a reference").to_owned())
        .collect()
}

/// Returns the files of all records.
pub(crate) fn files(world: &World) -> Vec<String> {
    let mut files = Vec::new();
    let mut left = vec![world.path(".imglife")];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(path).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
            } else {
                files.push(path.display().to_string());
            }
        }
    }
    files
}

#[tokio::test]
async fn an_image_is_registered_listed_and_purged() {
    let site = Site::new().await;
    let digest = site.put_app("apps/web", "1.0").await;
    site.put_app("apps/web", "1.1").await;
    let world = site
        .world()
        .variable("CI_PIPELINE_URL", "https://gitlab.example/p/7");
    let (one, two) = (site.image("apps/web:1.0"), site.image("apps/web:1.1"));

    let outcome = world
        .imglife([
            "register",
            "--image",
            &one,
            "--field",
            "team=web",
            "--built-at",
            "2026-11-01T10:00:00+02:00",
        ])
        .succeeds();
    let (title, rest) = outcome.stdout.split_once('\n').expect("lines");
    assert!(
        title.starts_with("Register · ") && title.ends_with('s'),
        "{title}"
    );
    let expected = format!(
        "{}\nProject    team/web\nRevision   4f2a91c\nImage      {one}\n",
        "─".repeat(35)
    );
    assert_eq!(rest, expected);

    let list = json_of(
        &world
            .imglife(["app", "list", "--output", "json"])
            .succeeds(),
    );
    let record = &list["records"][0];
    assert_eq!(
        (&record["base"], &record["digest"]),
        (&json!(site.base()), &json!(digest))
    );
    assert!(
        record["base_digest"]
            .as_str()
            .is_some_and(|digest| digest.starts_with("sha256:")),
        "{record}"
    );
    assert_eq!(
        (&record["platforms"], &record["built_at"]),
        (&json!(["linux/amd64"]), &json!("2026-11-01T08:00:00Z"))
    );
    assert_eq!(
        record["custom_fields"],
        json!({ "ci_pipeline_url": "https://gitlab.example/p/7", "team": "web" })
    );

    world.imglife(["register", "--image", &two]).succeeds();
    world
        .imglife(["register", "--image", &two, "--revision", "newer"])
        .succeeds();
    assert_eq!(
        (recorded(&world), files(&world).len()),
        (vec![one.clone(), two.clone()], 2)
    );
    let text = world
        .imglife(["app", "list", "--base", "alpine:3.21*", "--detailed"])
        .succeeds()
        .stdout;
    assert!(
        text.contains("newer") && text.lines().count() == 3,
        "{text}"
    );
    assert_eq!(
        world
            .imglife(["app", "list", "--project", "other"])
            .succeeds()
            .stdout,
        "no records\n"
    );

    // Gone is what the registry does not have any more.
    fs::remove_dir_all(
        site.registry
            .storage()
            .join("repositories/apps/web/_manifests/tags/1.0"),
    )
    .expect("a stored tag");
    let dry = world
        .imglife(["app", "purge", "--orphans", "--dry-run"])
        .succeeds()
        .stdout;
    assert!(
        dry.contains("App purge [dry-run]")
            && dry.contains("to be removed  the image does not exist"),
        "{dry}"
    );
    assert_eq!(recorded(&world).len(), 2);
    let report = json_of(
        &world
            .imglife(["app", "purge", "--orphans", "--output", "json"])
            .succeeds(),
    );
    assert_eq!(
        report["removed"],
        json!([{ "image": one, "reason": "orphan" }])
    );
    assert_eq!((recorded(&world), files(&world).len()), (vec![two], 1));
}

#[tokio::test]
async fn images_of_every_builder_name_the_base_and_not_the_mirror() {
    let site = Site::new().await;
    let world = site.world();
    let base_digest = site
        .put(
            "bases/alpine",
            BASE_TAG,
            &["m", "b"],
            site.base_labels(),
            json!({}),
        )
        .await;
    let name = "org.opencontainers.image.base.name";
    let own = |labels: Value, more: Value| {
        let mut labels = labels;
        labels
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        labels
    };
    let layers = ["m", "b", "a"];
    let labels = || site.base_labels();
    let buildah = json!({ name: site.base(), "org.opencontainers.image.base.digest": base_digest });
    for (tag, labels, annotations) in [
        ("docker", labels(), json!({})),
        (
            "docker-own",
            own(
                labels(),
                json!({ name: site.base(), "BASE_IMAGE_REF": site.base() }),
            ),
            json!({}),
        ),
        ("buildx-annotated", labels(), json!({ name: site.base() })),
        (
            "buildah",
            own(labels(), json!({ "io.buildah.version": "1.28.2" })),
            buildah.clone(),
        ),
        // buildah and older kaniko inherit annotations as well.
        ("buildah-inherited", labels(), own(labels(), buildah)),
        ("kaniko-inherited", labels(), labels()),
        ("without-labels", json!({}), json!({ name: site.base() })),
    ] {
        let image = site.image(&format!("apps/{tag}:1"));
        site.put(&format!("apps/{tag}"), "1", &layers, labels, annotations)
            .await;
        let report = json_of(
            &world
                .imglife(["register", "--image", &image, "--output", "json"])
                .succeeds(),
        );
        assert_eq!(report["record"]["base"], json!(site.base()), "{tag}");
        assert_eq!(report["record"]["base_digest"], json!(base_digest), "{tag}");
        assert_eq!(
            report["record"]["platforms"],
            json!(["linux/amd64"]),
            "{tag}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_is_refused_and_nothing_is_written() {
    let site = Site::new().await;
    site.put("apps/plain", "1", &["x"], json!({}), json!({}))
        .await;
    let world = site.world();
    let plain = site.image("apps/plain:1");
    let untagged = site.image("apps/plain");
    for (arguments, message) in [
        (vec!["--image", untagged.as_str()], "has no tag"),
        (
            vec!["--image", &plain, "--project", " "],
            "`--project` is empty",
        ),
        (
            vec!["--image", &plain, "--revision", ""],
            "`--revision` is empty",
        ),
        (
            vec!["--image", &plain, "--field", "team"],
            "`--field team` is not a field",
        ),
        (vec!["--image", &plain, "--field", "=x"], "is not a field"),
        (
            vec!["--image", &plain, "--field", "a=1", "--field", "a=2"],
            "is set twice",
        ),
        (
            vec!["--image", &plain, "--platform", "pdp11"],
            "is not a list of platforms",
        ),
        (vec!["--image", "A:b:c"], "invalid value"),
    ] {
        let outcome = world
            .imglife_with(&[&["register"], arguments.as_slice()].concat())
            .exits(2);
        assert!(
            outcome.stderr.contains(message) && outcome.stdout.is_empty(),
            "{arguments:?}: {}",
            outcome.stderr
        );
    }
    let outcome = world.imglife(["register", "--image", &plain]).exits(1);
    assert!(
        outcome
            .stderr
            .contains("has no label or annotation that names its base")
            && outcome.stderr.contains("--base REF"),
        "{}",
        outcome.stderr
    );
    let outcome = world
        .imglife(["register", "--image", &site.image("apps/none:1")])
        .exits(1);
    assert!(
        outcome.stderr.contains("there is no image") && outcome.stdout.is_empty(),
        "{}",
        outcome.stderr
    );
    assert_eq!(files(&world), Vec::<String>::new());

    let elsewhere = World::new();
    let outcome = elsewhere
        .imglife([
            "register",
            "--image",
            &plain,
            "--revision",
            "a",
            "--project",
            "b",
        ])
        .exits(2);
    assert!(
        outcome.stderr.contains("IMGLIFE_REGISTRY_PROVIDER"),
        "{}",
        outcome.stderr
    );
    for arguments in [
        ["app", "list"],
        ["app", "purge"],
        ["latest", "alpine"],
        ["check", "--base=r.example/a:1"],
    ] {
        elsewhere.imglife(arguments).exits(2);
    }
}

#[tokio::test]
async fn with_everything_given_no_registry_is_asked() {
    let site = Site::new().await;
    let world = site.world();
    let mark = site.registry.mark();
    let image = site.image("apps/web:1.0");
    world
        .imglife([
            "register",
            "--image",
            &image,
            "--base",
            &site.base(),
            "--platform",
            "linux/amd64, linux/arm64",
        ])
        .succeeds();
    assert_eq!(site.registry.requests_since(mark).len(), 0);
    assert_eq!(recorded(&world), [image]);
}
