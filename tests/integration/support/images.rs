//! Images of every kind, built in memory: valid ones to copy, and invalid ones to reject.

use bytes::Bytes;
use futures_util::TryStreamExt;
use imglife::model::manifest::{MAX_INDEX_ENTRIES, MAX_INDEX_NESTING, MAX_MANIFEST_BYTES};
use imglife::model::media_type;
use imglife::model::{
    Algorithm, Descriptor, Digest, Manifest, Platform, Reference, Repository, Tag,
};
use imglife::registry::{ImageSource, ImageStore, InMemory};
use serde_json::{Value, json};

const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const OCI_FOREIGN_LAYER: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// URL prefix of foreign layers. Registries reject such layers unless they are configured to allow
/// the URL.
pub(crate) const FOREIGN: &str = "https://layers.invalid/";
const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

/// Blobs and manifests of images. Each comes before the manifests that refer to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    pub(crate) blobs: Vec<Content>,
    pub(crate) manifests: Vec<Content>,
    pub(crate) tags: Vec<(Tag, Descriptor)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Bytes,
}

impl Content {
    fn new(media_type: &str, algorithm: Algorithm, bytes: impl Into<Bytes>) -> Content {
        let bytes = bytes.into();
        Content {
            descriptor: Descriptor::new(
                media_type,
                Digest::of(algorithm, &bytes),
                bytes.len() as u64,
            ),
            bytes,
        }
    }

    pub(crate) fn manifest(&self) -> Manifest {
        let Descriptor {
            media_type, digest, ..
        } = &self.descriptor;
        Manifest::parse(self.bytes.clone(), Some(media_type), digest.algorithm())
            .expect("a manifest that can be copied")
    }
}

/// Family of media types of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    Docker,
    Oci,
}

impl Flavour {
    /// Returns the media types of index, manifest, configuration and layer.
    fn media_types(self) -> [&'static str; 4] {
        match self {
            Flavour::Docker => [
                media_type::DOCKER_LIST,
                media_type::DOCKER_MANIFEST,
                media_type::DOCKER_CONFIG,
                DOCKER_LAYER,
            ],
            Flavour::Oci => [
                media_type::OCI_INDEX,
                media_type::OCI_MANIFEST,
                media_type::OCI_CONFIG,
                media_type::OCI_LAYER_GZIP,
            ],
        }
    }
}

impl Graph {
    /// Adds a blob and returns its descriptor.
    pub(crate) fn blob(&mut self, media_type: &str, bytes: impl Into<Bytes>) -> Descriptor {
        self.add_blob(Content::new(media_type, Algorithm::Sha256, bytes))
    }

    fn add_blob(&mut self, content: Content) -> Descriptor {
        let descriptor = content.descriptor.clone();
        if !self
            .blobs
            .iter()
            .any(|blob| blob.descriptor.digest == descriptor.digest)
        {
            self.blobs.push(content);
        }
        descriptor
    }

    /// Adds a manifest and returns its descriptor.
    pub(crate) fn manifest(&mut self, media_type: &str, manifest: &Value) -> Descriptor {
        // Unusual white space: a copy that serialises the manifest again has another digest.
        let bytes = serde_json::to_string_pretty(manifest).expect("JSON") + "\n ";
        let content = Content::new(media_type, Algorithm::Sha256, bytes);
        let descriptor = content.descriptor.clone();
        self.manifests.push(content);
        descriptor
    }

    /// Adds an image with `layers` for a platform such as `linux/arm64`. Returns its descriptor
    /// with the platform.
    pub(crate) fn image(
        &mut self,
        flavour: Flavour,
        platform: &str,
        layers: &[Descriptor],
    ) -> Descriptor {
        let [_, manifest_type, config_type, _] = flavour.media_types();
        let platform: Platform = platform.parse().expect("a platform");
        let mut config = json!(platform);
        config["rootfs"] = json!({ "type": "layers", "diff_ids": layers.iter().map(|layer| &layer.digest).collect::<Vec<_>>() });
        let config = self.blob(config_type, config.to_string());
        let manifest = json!({ "schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": layers });
        Descriptor {
            platform: Some(platform),
            ..self.manifest(manifest_type, &manifest)
        }
    }

    /// Adds an image with one layer of `text`.
    pub(crate) fn small_image(
        &mut self,
        flavour: Flavour,
        platform: &str,
        text: &str,
    ) -> Descriptor {
        let layer = self.blob(flavour.media_types()[3], text.to_owned());
        self.image(flavour, platform, &[layer])
    }

    /// Adds an index and returns its descriptor.
    pub(crate) fn index(&mut self, flavour: Flavour, children: &[Descriptor]) -> Descriptor {
        let index_type = flavour.media_types()[0];
        self.manifest(
            index_type,
            &json!({ "schemaVersion": 2, "mediaType": index_type, "manifests": children }),
        )
    }

    /// Tags the manifest of `descriptor`.
    pub(crate) fn tag(&mut self, tag: &str, descriptor: &Descriptor) {
        self.tags
            .push((tag.parse().expect("a tag"), descriptor.clone()));
    }

    fn manifest_of(&self, descriptor: &Descriptor) -> Manifest {
        self.manifests
            .iter()
            .find(|content| content.descriptor.digest == descriptor.digest)
            .expect("a manifest of the graph")
            .manifest()
    }

    /// Writes everything into `repository`, tags last.
    pub(crate) async fn publish(&self, store: &dyn ImageStore, repository: &Repository) {
        for blob in &self.blobs {
            let content = InMemory(blob.bytes.clone());
            store
                .put_blob(repository, &blob.descriptor, &content, None)
                .await
                .expect("a blob that can be put");
        }
        for content in &self.manifests {
            let digest = content.descriptor.digest.clone().into();
            store
                .put_manifest(repository, &digest, &content.manifest())
                .await
                .expect("a manifest that can be put");
        }
        for (tag, descriptor) in &self.tags {
            let manifest = self.manifest_of(descriptor);
            store
                .put_manifest(repository, &tag.clone().into(), &manifest)
                .await
                .expect("a tag that can be put");
        }
    }

    /// Fails the test unless `repository` contains the same bytes under the same tags.
    pub(crate) async fn assert_published(&self, source: &dyn ImageSource, repository: &Repository) {
        for (tag, descriptor) in &self.tags {
            let resolved = source
                .resolve(repository, &tag.clone().into())
                .await
                .expect("an answer");
            assert_eq!(
                resolved.map(|found| found.digest).as_ref(),
                Some(&descriptor.digest),
                "{repository}:{tag}"
            );
        }
        for content in &self.manifests {
            let digest: Reference = content.descriptor.digest.clone().into();
            let found = source
                .manifest(repository, &digest)
                .await
                .expect("an answer");
            let found = found.unwrap_or_else(|| panic!("{repository} has no manifest {digest}"));
            assert!(
                found.bytes == content.bytes,
                "{repository}@{digest} has other bytes"
            );
        }
        for blob in &self.blobs {
            let digest = &blob.descriptor.digest;
            let stream = source.blob(repository, &blob.descriptor, 0).await;
            let stream =
                stream.unwrap_or_else(|error| panic!("{repository} has no blob {digest}: {error}"));
            let pieces: Vec<Bytes> = stream.try_collect().await.expect("a whole blob");
            assert!(
                pieces.concat() == blob.bytes,
                "{repository} has other bytes in blob {digest}"
            );
        }
    }
}

/// Returns one image of every kind that is copied unchanged. Each has its own graph and its kind as
/// tag.
pub(crate) fn copied_kinds() -> Vec<Graph> {
    type Build = fn(&mut Graph) -> Descriptor;
    let kinds: [(&str, Build); 16] = [
        ("docker-image", |graph| {
            graph.small_image(Flavour::Docker, "linux/amd64", "docker")
        }),
        ("docker-list", |graph| two_platforms(graph, Flavour::Docker)),
        ("oci-image", |graph| {
            graph.small_image(Flavour::Oci, "linux/amd64", "oci")
        }),
        ("oci-index", |graph| two_platforms(graph, Flavour::Oci)),
        ("mixed-index", |graph| {
            let children = [
                graph.small_image(Flavour::Docker, "linux/amd64", "docker in oci"),
                graph.small_image(Flavour::Oci, "linux/arm64", "oci in oci"),
            ];
            graph.index(Flavour::Oci, &children)
        }),
        ("nested-index", |graph| nested(graph, MAX_INDEX_NESTING)),
        ("empty-index", |graph| graph.index(Flavour::Oci, &[])),
        ("artifact", |graph| {
            artifact(
                graph,
                "application/x-unknown.config+json",
                "{\"anything\": [1, 2]}",
            )
        }),
        ("empty-config", |graph| artifact(graph, OCI_EMPTY, "{}")),
        ("zstd-layer", |graph| {
            let layer = graph.blob(
                OCI_LAYER_ZSTD,
                &b"\x28\xb5\x2f\xfd and whatever follows"[..],
            );
            graph.image(Flavour::Oci, "linux/amd64", &[layer])
        }),
        ("duplicate-layers", |graph| {
            let layer = graph.blob(media_type::OCI_LAYER_GZIP, "the same again");
            graph.image(
                Flavour::Oci,
                "linux/amd64",
                &[layer.clone(), layer.clone(), layer],
            )
        }),
        ("zero-byte-layer", |graph| {
            let layer = graph.blob(media_type::OCI_LAYER_GZIP, "");
            graph.image(Flavour::Oci, "linux/amd64", &[layer])
        }),
        ("entry-without-platform", |graph| {
            let child = graph.small_image(Flavour::Oci, "linux/amd64", "anywhere");
            graph.index(
                Flavour::Oci,
                &[Descriptor {
                    platform: None,
                    ..child
                }],
            )
        }),
        ("attestations", attested),
        ("foreign-layer-kept", |graph| {
            let foreign = graph.blob(DOCKER_FOREIGN_LAYER, "handed out after all");
            graph.image(Flavour::Docker, "windows/amd64", &[with_url(foreign)])
        }),
        ("foreign-layer-elsewhere", |graph| {
            let elsewhere =
                Content::new(OCI_FOREIGN_LAYER, Algorithm::Sha256, "not here").descriptor;
            let here = graph.blob(media_type::OCI_LAYER_GZIP, "here");
            graph.image(Flavour::Oci, "windows/amd64", &[with_url(elsewhere), here])
        }),
    ];
    kinds
        .into_iter()
        .map(|(kind, build)| {
            let mut graph = Graph::default();
            let descriptor = build(&mut graph);
            graph.tag(kind, &descriptor);
            graph
        })
        .collect()
}

fn two_platforms(graph: &mut Graph, flavour: Flavour) -> Descriptor {
    let children = [
        graph.small_image(flavour, "linux/amd64", "two platforms, amd64"),
        graph.small_image(flavour, "linux/arm64/v8", "two platforms, arm64"),
    ];
    graph.index(flavour, &children)
}

/// Adds an image below a number of nested indexes.
fn nested(graph: &mut Graph, indexes: usize) -> Descriptor {
    let image = graph.small_image(Flavour::Oci, "linux/amd64", "deep below");
    (0..indexes).fold(image, |child, _| graph.index(Flavour::Oci, &[child]))
}

fn artifact(graph: &mut Graph, config_type: &str, config: &'static str) -> Descriptor {
    let config = graph.blob(config_type, config);
    let layer = graph.blob("application/x-unknown.content", "any content");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": "application/x-unknown.artifact",
        "config": config, "layers": [layer], "annotations": { "a": "ö\u{1f980}" }, "unknownField": { "kept": true },
    });
    graph.manifest(media_type::OCI_MANIFEST, &manifest)
}

/// Adds an index with two images, each with an attestation in BuildKit's format.
pub(crate) fn attested(graph: &mut Graph) -> Descriptor {
    let mut children = vec![
        graph.small_image(Flavour::Oci, "linux/amd64", "attested, amd64"),
        graph.small_image(Flavour::Oci, "linux/arm64", "attested, arm64"),
    ];
    for subject in children.clone() {
        let statement = json!({ "subject": [{ "digest": subject.digest }] });
        let layer = graph.blob("application/vnd.in-toto+json", statement.to_string());
        let mut attestation = graph.image(Flavour::Oci, "unknown/unknown", &[layer]);
        attestation.annotations.insert(
            "vnd.docker.reference.type".to_owned(),
            "attestation-manifest".to_owned(),
        );
        attestation.annotations.insert(
            "vnd.docker.reference.digest".to_owned(),
            subject.digest.to_string(),
        );
        children.push(attestation);
    }
    graph.index(Flavour::Oci, &children)
}

fn with_url(layer: Descriptor) -> Descriptor {
    Descriptor {
        urls: vec![format!("{FOREIGN}1")],
        ..layer
    }
}

/// Returns an image with SHA-512 digests for manifest, configuration and layer. Not every registry
/// accepts it.
pub(crate) fn sha512_image() -> Graph {
    let mut graph = Graph::default();
    let config = graph.add_blob(Content::new(
        media_type::OCI_CONFIG,
        Algorithm::Sha512,
        "{}",
    ));
    let layer = graph.add_blob(Content::new(
        media_type::OCI_LAYER_GZIP,
        Algorithm::Sha512,
        "longer digests",
    ));
    let manifest = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [layer] });
    let content = Content::new(
        media_type::OCI_MANIFEST,
        Algorithm::Sha512,
        manifest.to_string(),
    );
    graph.tag("sha512", &content.descriptor);
    graph.manifests.push(content);
    graph
}

/// Returns an image below more nested indexes than are allowed. Each manifest in it is valid.
pub(crate) fn too_deep() -> Graph {
    let mut graph = Graph::default();
    let descriptor = nested(&mut graph, MAX_INDEX_NESTING + 2);
    graph.tag("too-deep", &descriptor);
    graph
}

/// Returns manifests that are rejected when they are read, each with a part of the message. They
/// are for fake servers.
pub(crate) fn refused_manifests() -> Vec<(Content, &'static str)> {
    let signed = json!({
        "schemaVersion": 1, "name": "library/old", "tag": "1", "architecture": "amd64",
        "fsLayers": [{ "blobSum": Digest::sha256(b"") }], "history": [{ "v1Compatibility": "{}" }], "signatures": [],
    });
    let child = Content::new(media_type::OCI_MANIFEST, Algorithm::Sha256, "{}").descriptor;
    let index = |children: &[Descriptor], note: String| {
        let index_type = media_type::OCI_INDEX;
        json!({ "schemaVersion": 2, "mediaType": index_type, "manifests": children, "annotations": { "note": note } })
    };
    let large = index(&[], "x".repeat(MAX_MANIFEST_BYTES));
    let wide = index(&vec![child; MAX_INDEX_ENTRIES + 1], String::new());
    let content = |media_type, manifest: &Value| {
        Content::new(media_type, Algorithm::Sha256, manifest.to_string())
    };
    vec![
        (
            content(media_type::DOCKER_SCHEMA_1_SIGNED, &signed),
            "schema 1",
        ),
        (
            content(media_type::OCI_INDEX, &large),
            "more than the limit of 4194304",
        ),
        (
            content(media_type::OCI_INDEX, &wide),
            "more than the limit of 1000",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use imglife::model::ManifestContent;
    use imglife::registry::layout::Layouts;
    use imglife::registry::memory::MemoryStore;

    use super::*;
    use crate::support::world::World;

    #[tokio::test]
    async fn every_kind_can_be_published_and_read_back() {
        let world = World::new();
        let layout: Repository = format!("ocidir://{}", world.path("layout").display())
            .parse()
            .expect("a layout's name");
        let memory = MemoryStore::default();
        let remote: Repository = "registry.test/odd".parse().expect("a repository's name");
        for graph in copied_kinds()
            .into_iter()
            .chain([sha512_image(), too_deep()])
        {
            let layouts = Layouts::default();
            let stores: [(&dyn ImageStore, &Repository); 2] =
                [(&layouts, &layout), (&memory, &remote)];
            for (store, repository) in stores {
                graph.publish(store, repository).await;
                graph.assert_published(store, repository).await;
            }
        }
    }

    #[tokio::test]
    #[should_panic(expected = "has no blob")]
    async fn assert_published_detects_a_lost_blob() {
        let memory = MemoryStore::default();
        let remote: Repository = "registry.test/odd".parse().expect("a repository's name");
        let graph = sha512_image();
        graph.publish(&memory, &remote).await;
        assert!(memory.lose_blob(&remote, &graph.blobs[1].descriptor.digest));
        graph.assert_published(&memory, &remote).await;
    }

    #[test]
    fn kinds_are_unique_and_refer_to_earlier_content() {
        let mut names = HashSet::new();
        for graph in copied_kinds() {
            let (tag, top) = &graph.tags[0];
            assert!(names.insert(tag.clone()), "{tag} is there twice");
            assert_eq!(
                top.digest,
                graph
                    .manifests
                    .last()
                    .expect("a manifest")
                    .descriptor
                    .digest,
                "{tag}"
            );
            let mut known: HashSet<Digest> = graph
                .blobs
                .iter()
                .map(|blob| blob.descriptor.digest.clone())
                .collect();
            for content in &graph.manifests {
                let manifest = content.manifest();
                let named: Vec<&Descriptor> = match &manifest.content {
                    ManifestContent::Index { children } => children.iter().collect(),
                    ManifestContent::Image { .. } => manifest.blobs(),
                };
                let missing = named.into_iter().find(|descriptor| {
                    descriptor.urls.is_empty() && !known.contains(&descriptor.digest)
                });
                assert_eq!(missing, None, "{tag}");
                known.insert(manifest.digest);
            }
        }
    }

    #[test]
    fn refused_manifests_are_rejected_with_their_reason() {
        for (content, reason) in refused_manifests() {
            let Descriptor {
                media_type, digest, ..
            } = &content.descriptor;
            let refused =
                Manifest::parse(content.bytes.clone(), Some(media_type), digest.algorithm());
            let message = refused.expect_err("a refusal").to_string();
            assert!(message.contains(reason), "{message}");
        }
    }
}
