use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::error::ItemErrorKind;
use crate::model::media_type;
use crate::model::{Algorithm, Descriptor, Digest, Manifest};
use crate::registry::memory::{MemoryStore, StoreFault, StoreOperation};
use crate::registry::{ImageSource, ImageStore, InMemory};

const BASE: &str = "r.example/bases/alpine:3.21.3-core1.0.0";
const MIRROR: &str = "r.example/mirrors/alpine:3.21.3";
const APP: &str = "r.example/apps/web:1.2.0";

type Texts<'a> = &'a [(&'a str, &'a str)];

/// Labels that `imglife build` writes to a base, and annotations if the engine supports them.
const BASE_LABELS: Texts<'static> = &[
    ("imglife.ref", BASE),
    ("imglife.tier", "base"),
    ("imglife.platforms", "linux/amd64 linux/arm64"),
    ("org.opencontainers.image.base.name", MIRROR),
    ("org.opencontainers.image.revision", "0123abc"),
];

fn image(text: &str) -> ImageReference {
    text.parse().expect("a reference")
}

/// An image as a builder writes it.
struct BuiltImage<'a> {
    name: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    annotations: Vec<(&'a str, &'a str)>,
    layers: &'a [&'a str],
}

impl<'a> BuiltImage<'a> {
    fn new(name: &'a str, layers: &'a [&'a str]) -> BuiltImage<'a> {
        BuiltImage {
            name,
            labels: Vec::new(),
            annotations: Vec::new(),
            layers,
        }
    }

    fn labels(mut self, labels: Texts<'a>) -> BuiltImage<'a> {
        // A later label replaces an earlier one, as an own label replaces an inherited one.
        self.labels
            .retain(|(name, _)| !labels.iter().any(|(other, _)| other == name));
        self.labels.extend(labels);
        self
    }

    fn annotations(mut self, annotations: Texts<'a>) -> BuiltImage<'a> {
        self.annotations
            .retain(|(name, _)| !annotations.iter().any(|(other, _)| other == name));
        self.annotations.extend(annotations);
        self
    }

    async fn manifest(&self, store: &MemoryStore, platform: &str) -> Descriptor {
        let platform: Platform = platform.parse().expect("a platform");
        let object = |texts: &[(&str, &str)]| {
            texts
                .iter()
                .map(|(name, value)| ((*name).to_owned(), json!(value)))
                .collect::<Map<_, _>>()
        };
        let mut config = json!(platform);
        config["config"] = json!({ "Labels": object(&self.labels) });
        config["rootfs"] = json!({ "type": "layers", "diff_ids": self.layers.iter().map(|layer| Digest::sha256(layer.as_bytes())).collect::<Vec<_>>() });
        let config = self
            .blob(store, media_type::OCI_CONFIG, config.to_string())
            .await;
        let mut layers = Vec::new();
        for layer in self.layers {
            layers.push(
                self.blob(store, media_type::OCI_LAYER_GZIP, (*layer).to_owned())
                    .await,
            );
        }
        let manifest = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers, "annotations": object(&self.annotations) });
        Descriptor {
            platform: Some(platform),
            ..self.put(store, &manifest, None).await
        }
    }

    async fn blob(&self, store: &MemoryStore, media_type: &str, content: String) -> Descriptor {
        let descriptor = Descriptor::new(
            media_type,
            Digest::sha256(content.as_bytes()),
            content.len() as u64,
        );
        let content = InMemory(Bytes::from(content));
        store
            .put_blob(&image(self.name).repository, &descriptor, &content, None)
            .await
            .expect("to write");
        descriptor
    }

    async fn put(&self, store: &MemoryStore, manifest: &Value, tag: Option<Tag>) -> Descriptor {
        let manifest = Manifest::parse(Bytes::from(manifest.to_string()), None, Algorithm::Sha256)
            .expect("a manifest");
        let reference = tag.map_or_else(|| manifest.digest.clone().into(), Reference::from);
        store
            .put_manifest(&image(self.name).repository, &reference, &manifest)
            .await
            .expect("to write");
        Descriptor::new(
            manifest.media_type.clone(),
            manifest.digest.clone(),
            manifest.bytes.len() as u64,
        )
    }

    /// Writes it as a single manifest.
    async fn single(self, store: &MemoryStore) -> Digest {
        let descriptor = self.manifest(store, "linux/amd64").await;
        let named = image(self.name);
        let manifest = store
            .manifest(&named.repository, &descriptor.digest.clone().into())
            .await
            .expect("to read")
            .expect("a manifest");
        store
            .put_manifest(
                &named.repository,
                &named.tag.expect("a tag").into(),
                &manifest,
            )
            .await
            .expect("to write");
        descriptor.digest
    }

    /// Writes it as an index of these platforms, each with an attestation, as BuildKit does.
    async fn index(
        self,
        store: &MemoryStore,
        platforms: &[&str],
        annotations: Texts<'_>,
    ) -> Digest {
        let mut children = Vec::new();
        for platform in platforms {
            let child = self.manifest(store, platform).await;
            let attestation = BuiltImage::new(self.name, &["attestation"])
                .manifest(store, "unknown/unknown")
                .await;
            let of = [(
                "vnd.docker.reference.digest".to_owned(),
                child.digest.to_string(),
            )];
            children.push(child);
            children.push(Descriptor {
                annotations: of.into_iter().collect(),
                ..attestation
            });
        }
        let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
        let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children, "annotations": annotations });
        self.put(store, &index, image(self.name).tag).await.digest
    }
}

fn request() -> RegisterRequest {
    RegisterRequest {
        image: image(APP),
        base: None,
        platforms: Vec::new(),
        revision: "4f2a91c".to_owned(),
        project: "team/web".to_owned(),
        fields: BTreeMap::new(),
        built_at: DateTime::UNIX_EPOCH,
        is_strict: false,
    }
}

async fn registered(
    request: &RegisterRequest,
    store: &Arc<MemoryStore>,
) -> Result<Plan, RegisterError> {
    plan(request, &observe(request, &store.stores()).await?)
}

/// Returns the base, the origin of its name, and true if its digest is known.
async fn base(store: &Arc<MemoryStore>) -> (String, String, bool) {
    let Plan { record, origin, .. } = registered(&request(), store).await.expect("a record");
    (
        record.base.expect("a base").to_string(),
        origin.to_string(),
        record.base_digest.is_some(),
    )
}

fn detected(base: &str, origin: &str) -> (String, String, bool) {
    (base.to_owned(), origin.to_owned(), true)
}

/// Returns a store with a mirror and a base with these annotations.
async fn store_with_base(annotations: Texts<'static>) -> (Arc<MemoryStore>, Digest) {
    let store = Arc::new(MemoryStore::default());
    BuiltImage::new(MIRROR, &["m"]).single(&store).await;
    let digest = BuiltImage::new(BASE, &["m", "b"])
        .labels(BASE_LABELS)
        .annotations(annotations)
        .single(&store)
        .await;
    (store, digest)
}

fn app() -> BuiltImage<'static> {
    BuiltImage::new(APP, &["m", "b", "a"]).labels(BASE_LABELS)
}

#[tokio::test]
async fn mirror_below_an_unreadable_base_is_not_detected_as_the_base() {
    let store = Arc::new(MemoryStore::default());
    let inherited = ("BASE_IMAGE_REF", MIRROR);
    app()
        .labels(&[inherited])
        .annotations(BASE_LABELS)
        .single(&store)
        .await;
    let Plan { record, .. } = registered(&request(), &store).await.expect("a record");
    assert_eq!(record.base, Some(image(BASE)));
    // An own annotation that agrees with the inherited label counts.
    let own = ("org.opencontainers.image.base.name", BASE);
    app().annotations(&[own]).single(&store).await;
    let Plan { record, origin, .. } = registered(&request(), &store).await.expect("a record");
    assert_eq!(
        (record.base, origin.to_string()),
        (
            Some(image(BASE)),
            "annotation org.opencontainers.image.base.name".to_owned()
        )
    );
}

#[tokio::test]
async fn inherited_reference_label_is_the_base_of_docker_and_buildkit_images() {
    let (store, digest) = store_with_base(&[]).await;
    app().single(&store).await;
    assert_eq!(base(&store).await, detected(BASE, "label imglife.ref"));
    app().index(&store, &["linux/amd64"], &[]).await;
    let plan = registered(&request(), &store).await.expect("a record");
    assert_eq!(
        plan.record.base_digest,
        Some(digest),
        "proved by the layers"
    );
    assert_eq!(
        plan.record.platforms,
        ["linux/amd64".parse().expect("a platform")],
        "not those of the base, nor of attestations"
    );
}

#[tokio::test]
async fn own_label_names_the_base() {
    let (store, _) = store_with_base(&[]).await;
    app()
        .labels(&[("BASE_IMAGE_REF", BASE)])
        .single(&store)
        .await;
    assert_eq!(base(&store).await, detected(BASE, "label BASE_IMAGE_REF"));
    app()
        .labels(&[("org.opencontainers.image.base.name", BASE)])
        .single(&store)
        .await;
    assert_eq!(base(&store).await, detected(BASE, "label imglife.ref"));
}

#[tokio::test]
async fn index_annotation_names_the_base_before_manifest_annotation() {
    let (store, _) = store_with_base(&[]).await;
    let name = "org.opencontainers.image.base.name";
    app()
        .annotations(&[(name, BASE)])
        .index(&store, &["linux/amd64"], &[])
        .await;
    assert_eq!(
        base(&store).await,
        detected(BASE, "annotation org.opencontainers.image.base.name")
    );
    app()
        .annotations(&[(name, MIRROR)])
        .index(&store, &["linux/amd64"], &[(name, BASE)])
        .await;
    assert_eq!(base(&store).await.0, BASE);
}

#[tokio::test]
async fn buildah_annotations_name_the_base_among_inherited_ones() {
    let (store, digest) = store_with_base(BASE_LABELS).await;
    let written = digest.to_string();
    let own = [
        ("org.opencontainers.image.base.name", BASE),
        ("org.opencontainers.image.base.digest", written.as_str()),
    ];
    let built = app().annotations(BASE_LABELS);
    BuiltImage {
        annotations: [&built.annotations[..3], &own].concat(),
        ..built
    }
    .single(&store)
    .await;
    let plan = registered(&request(), &store).await.expect("a record");
    assert_eq!(
        (plan.record.base, plan.record.base_digest),
        (Some(image(BASE)), Some(digest))
    );
    assert_eq!(
        plan.record.platforms.len(),
        1,
        "the platforms of the base were inherited"
    );
}

#[tokio::test]
async fn inherited_annotations_do_not_count() {
    let (store, _) = store_with_base(BASE_LABELS).await;
    app().annotations(BASE_LABELS).single(&store).await;
    assert_eq!(base(&store).await, detected(BASE, "label imglife.ref"));
}

#[tokio::test]
async fn label_set_by_the_template_of_the_base_does_not_count() {
    let store = Arc::new(MemoryStore::default());
    let with_reference = BuiltImage::new(BASE, &["m", "b"])
        .labels(BASE_LABELS)
        .labels(&[("BASE_IMAGE_REF", MIRROR)]);
    with_reference.single(&store).await;
    app()
        .labels(&[("BASE_IMAGE_REF", MIRROR)])
        .single(&store)
        .await;
    assert_eq!(base(&store).await, detected(BASE, "label imglife.ref"));
}

#[tokio::test]
async fn standard_label_names_other_bases_unless_inherited() {
    let store = Arc::new(MemoryStore::default());
    let name = "org.opencontainers.image.base.name";
    BuiltImage::new(MIRROR, &["m"]).single(&store).await;
    BuiltImage::new(APP, &["m", "a"])
        .labels(&[(name, MIRROR)])
        .single(&store)
        .await;
    assert_eq!(
        base(&store).await,
        detected(MIRROR, "label org.opencontainers.image.base.name")
    );
    BuiltImage::new(APP, &["m", "a"])
        .labels(&[
            (name, MIRROR),
            ("org.opencontainers.image.revision", "4F2A"),
        ])
        .single(&store)
        .await;
    assert_eq!(base(&store).await.0, MIRROR);
    for inherited in [
        ("org.opencontainers.image.revision", "77aa"),
        ("imglife.tier", "base"),
    ] {
        BuiltImage::new(APP, &["m", "x", "a"])
            .labels(&[(name, MIRROR), inherited])
            .single(&store)
            .await;
        let error = registered(&request(), &store).await.expect_err("an error");
        assert!(
            matches!(error, RegisterError::NoBase(_))
                && error.hint().is_some_and(|hint| hint.contains("--base")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn own_labels_of_an_image_with_its_own_reference_count() {
    let (store, _) = store_with_base(&[]).await;
    let plan = registered(
        &RegisterRequest {
            image: image(BASE),
            ..request()
        },
        &store,
    )
    .await
    .expect("a record");
    assert_eq!(
        (plan.record.base, plan.record.platforms.len()),
        (Some(image(MIRROR)), 2)
    );
}

#[tokio::test]
async fn platforms_come_from_label_then_index_then_configuration() {
    let (store, _) = store_with_base(&[]).await;
    let platforms = async || {
        let plan = registered(&request(), &store).await.expect("a record");
        plan.record
            .platforms
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    app()
        .labels(&[("imglife.platforms", "linux/s390x,linux/arm/v7")])
        .single(&store)
        .await;
    assert_eq!(platforms().await, "linux/s390x linux/arm/v7");
    app()
        .annotations(&[("imglife.platforms", "linux/ppc64le")])
        .single(&store)
        .await;
    assert_eq!(platforms().await, "linux/ppc64le");
    app()
        .index(&store, &["linux/arm64", "linux/amd64"], &[])
        .await;
    assert_eq!(platforms().await, "linux/arm64 linux/amd64");
    app().single(&store).await;
    assert_eq!(platforms().await, "linux/amd64");
}

#[tokio::test]
async fn base_that_was_moved_is_recorded_without_its_current_digest() {
    let (store, _) = store_with_base(&[]).await;
    app().single(&store).await;
    BuiltImage::new(BASE, &["m", "b2"])
        .labels(BASE_LABELS)
        .single(&store)
        .await;
    assert_eq!(
        base(&store).await,
        (BASE.to_owned(), "label imglife.ref".to_owned(), false)
    );
}

#[tokio::test]
async fn unreadable_base_is_recorded_without_digest() {
    let (store, _) = store_with_base(&[]).await;
    app().single(&store).await;
    let repository = image(BASE).repository;
    store.fail_when(move |call| {
        (call.repository == repository).then_some(StoreFault::Error(ItemErrorKind::Forbidden))
    });
    assert_eq!(
        base(&store).await,
        (BASE.to_owned(), "label imglife.ref".to_owned(), false)
    );
}

#[tokio::test]
async fn missing_or_unreadable_image_is_not_recorded() {
    let store = Arc::new(MemoryStore::default());
    assert!(matches!(
        registered(&request(), &store).await,
        Err(RegisterError::NoImage(_))
    ));
    store.fail_when(|_| Some(StoreFault::Error(ItemErrorKind::Unauthorized)));
    assert!(matches!(
        registered(&request(), &store).await,
        Err(RegisterError::Item(_))
    ));
}

#[tokio::test]
async fn no_request_is_sent_if_base_and_platforms_are_given() {
    let store = Arc::new(MemoryStore::default());
    let digest = Digest::sha256(b"");
    let base = image(&format!("{BASE}@{digest}"));
    let all = RegisterRequest {
        base: Some(base),
        platforms: vec!["linux/amd64".parse().expect("a platform")],
        ..request()
    };
    let plan = registered(&all, &store).await.expect("a record");
    assert_eq!(
        (
            plan.record.base,
            plan.record.base_digest,
            plan.record.digest
        ),
        (Some(image(BASE)), Some(digest), None)
    );
    assert_eq!(store.count(StoreOperation::Manifest), 0);
}

#[tokio::test]
async fn invalid_names_are_ignored() {
    let (store, _) = store_with_base(&[]).await;
    app()
        .annotations(&[
            ("org.opencontainers.image.base.name", "$(id):x"),
            ("imglife.ref", "::error::"),
        ])
        .labels(&[("BASE_IMAGE_REF", "a b\n"), ("imglife.platforms", "x; rm")])
        .single(&store)
        .await;
    assert_eq!(base(&store).await.0, BASE);
}
