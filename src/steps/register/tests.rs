use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::error::ItemErrorKind;
use crate::model::media_type;
use crate::model::{Algorithm, Descriptor, Digest, Manifest};
use crate::registry::memory::{Fault, MemoryPlace, Operation};
use crate::registry::{ImageSource, ImageStore, InMemory};

const BASE: &str = "r.example/bases/alpine:3.21.3-core1.0.0";
const MIRROR: &str = "r.example/mirrors/alpine:3.21.3";
const APP: &str = "r.example/apps/web:1.2.0";

type Texts<'a> = &'a [(&'a str, &'a str)];

/// What `imglife build` writes on a base, as labels and where the engine can as annotations.
const OF_BASE: Texts<'static> = &[
    ("imglife.ref", BASE),
    ("imglife.tier", "base"),
    ("imglife.platforms", "linux/amd64 linux/arm64"),
    ("org.opencontainers.image.base.name", MIRROR),
    ("org.opencontainers.image.revision", "0123abc"),
];

fn image(text: &str) -> ImageReference {
    text.parse().expect("a reference")
}

/// An image as a builder leaves it.
struct Built<'a> {
    name: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    annotations: Vec<(&'a str, &'a str)>,
    layers: &'a [&'a str],
}

impl<'a> Built<'a> {
    fn new(name: &'a str, layers: &'a [&'a str]) -> Built<'a> {
        Built {
            name,
            labels: Vec::new(),
            annotations: Vec::new(),
            layers,
        }
    }

    fn labels(mut self, labels: Texts<'a>) -> Built<'a> {
        // A later label replaces an earlier one, as an own one does an inherited.
        self.labels
            .retain(|(name, _)| !labels.iter().any(|(other, _)| other == name));
        self.labels.extend(labels);
        self
    }

    fn annotations(mut self, annotations: Texts<'a>) -> Built<'a> {
        self.annotations
            .retain(|(name, _)| !annotations.iter().any(|(other, _)| other == name));
        self.annotations.extend(annotations);
        self
    }

    async fn manifest(&self, place: &MemoryPlace, platform: &str) -> Descriptor {
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
            .blob(place, media_type::OCI_CONFIG, config.to_string())
            .await;
        let mut layers = Vec::new();
        for layer in self.layers {
            layers.push(
                self.blob(place, media_type::OCI_LAYER_GZIP, (*layer).to_owned())
                    .await,
            );
        }
        let manifest = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers, "annotations": object(&self.annotations) });
        Descriptor {
            platform: Some(platform),
            ..self.put(place, &manifest, None).await
        }
    }

    async fn blob(&self, place: &MemoryPlace, media_type: &str, content: String) -> Descriptor {
        let descriptor = Descriptor::new(
            media_type,
            Digest::sha256(content.as_bytes()),
            content.len() as u64,
        );
        let content = InMemory(Bytes::from(content));
        place
            .put_blob(&image(self.name).repository, &descriptor, &content, None)
            .await
            .expect("to write");
        descriptor
    }

    async fn put(&self, place: &MemoryPlace, manifest: &Value, tag: Option<Tag>) -> Descriptor {
        let manifest = Manifest::parse(Bytes::from(manifest.to_string()), None, Algorithm::Sha256)
            .expect("a manifest");
        let reference = tag.map_or_else(|| manifest.digest.clone().into(), Reference::from);
        place
            .put_manifest(&image(self.name).repository, &reference, &manifest)
            .await
            .expect("to write");
        Descriptor::new(
            manifest.media_type.clone(),
            manifest.digest.clone(),
            manifest.bytes.len() as u64,
        )
    }

    /// Puts it as a single manifest.
    async fn single(self, place: &MemoryPlace) -> Digest {
        let descriptor = self.manifest(place, "linux/amd64").await;
        let named = image(self.name);
        let manifest = place
            .manifest(&named.repository, &descriptor.digest.clone().into())
            .await
            .expect("to read")
            .expect("a manifest");
        place
            .put_manifest(
                &named.repository,
                &named.tag.expect("a tag").into(),
                &manifest,
            )
            .await
            .expect("to write");
        descriptor.digest
    }

    /// Puts it as an index of these platforms, with an attestation each, as BuildKit does.
    async fn index(
        self,
        place: &MemoryPlace,
        platforms: &[&str],
        annotations: Texts<'_>,
    ) -> Digest {
        let mut children = Vec::new();
        for platform in platforms {
            let child = self.manifest(place, platform).await;
            let attestation = Built::new(self.name, &["attestation"])
                .manifest(place, "unknown/unknown")
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
        self.put(place, &index, image(self.name).tag).await.digest
    }
}

fn request() -> Request {
    Request {
        image: image(APP),
        base: None,
        platforms: Vec::new(),
        revision: "4f2a91c".to_owned(),
        project: "team/web".to_owned(),
        fields: BTreeMap::new(),
        built_at: DateTime::UNIX_EPOCH,
    }
}

async fn registered(request: &Request, place: &Arc<MemoryPlace>) -> Result<Plan, RegisterError> {
    plan(request, &observe(request, &place.stores()).await?)
}

/// Returns the base, what named it, and whether its digest is known.
async fn base(place: &Arc<MemoryPlace>) -> (String, String, bool) {
    let Plan { record, origin } = registered(&request(), place).await.expect("a record");
    (
        record.base.expect("a base").to_string(),
        origin.to_string(),
        record.base_digest.is_some(),
    )
}

fn told(base: &str, origin: &str) -> (String, String, bool) {
    (base.to_owned(), origin.to_owned(), true)
}

/// A place with a mirror and a base on it, whose manifest has annotations or not.
async fn place(annotations: Texts<'static>) -> (Arc<MemoryPlace>, Digest) {
    let place = Arc::new(MemoryPlace::default());
    Built::new(MIRROR, &["m"]).single(&place).await;
    let digest = Built::new(BASE, &["m", "b"])
        .labels(OF_BASE)
        .annotations(annotations)
        .single(&place)
        .await;
    (place, digest)
}

fn app() -> Built<'static> {
    Built::new(APP, &["m", "b", "a"]).labels(OF_BASE)
}

#[tokio::test]
async fn the_mirror_below_a_base_that_cannot_be_read_is_not_taken_for_the_base() {
    let place = Arc::new(MemoryPlace::default());
    let inherited = ("BASE_IMAGE_REF", MIRROR);
    app()
        .labels(&[inherited])
        .annotations(OF_BASE)
        .single(&place)
        .await;
    let Plan { record, .. } = registered(&request(), &place).await.expect("a record");
    assert_eq!(record.base, Some(image(BASE)));
    // What both say holds.
    let own = ("org.opencontainers.image.base.name", BASE);
    app().annotations(&[own]).single(&place).await;
    let Plan { record, origin } = registered(&request(), &place).await.expect("a record");
    assert_eq!(
        (record.base, origin.to_string()),
        (
            Some(image(BASE)),
            "annotation org.opencontainers.image.base.name".to_owned()
        )
    );
}

#[tokio::test]
async fn docker_and_buildkit_images_without_own_labels_are_known_by_the_label_they_inherited() {
    let (place, digest) = place(&[]).await;
    app().single(&place).await;
    assert_eq!(base(&place).await, told(BASE, "label imglife.ref"));
    app().index(&place, &["linux/amd64"], &[]).await;
    let plan = registered(&request(), &place).await.expect("a record");
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
async fn own_labels_name_the_base() {
    let (place, _) = place(&[]).await;
    app()
        .labels(&[("BASE_IMAGE_REF", BASE)])
        .single(&place)
        .await;
    assert_eq!(base(&place).await, told(BASE, "label BASE_IMAGE_REF"));
    app()
        .labels(&[("org.opencontainers.image.base.name", BASE)])
        .single(&place)
        .await;
    assert_eq!(base(&place).await, told(BASE, "label imglife.ref"));
}

#[tokio::test]
async fn annotations_name_the_base_those_of_the_index_first() {
    let (place, _) = place(&[]).await;
    let name = "org.opencontainers.image.base.name";
    app()
        .annotations(&[(name, BASE)])
        .index(&place, &["linux/amd64"], &[])
        .await;
    assert_eq!(
        base(&place).await,
        told(BASE, "annotation org.opencontainers.image.base.name")
    );
    app()
        .annotations(&[(name, MIRROR)])
        .index(&place, &["linux/amd64"], &[(name, BASE)])
        .await;
    assert_eq!(base(&place).await.0, BASE);
}

#[tokio::test]
async fn buildah_names_the_base_itself_beside_the_annotations_it_inherits() {
    let (place, digest) = place(OF_BASE).await;
    let written = digest.to_string();
    let own = [
        ("org.opencontainers.image.base.name", BASE),
        ("org.opencontainers.image.base.digest", written.as_str()),
    ];
    let built = app().annotations(OF_BASE);
    Built {
        annotations: [&built.annotations[..3], &own].concat(),
        ..built
    }
    .single(&place)
    .await;
    let plan = registered(&request(), &place).await.expect("a record");
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
async fn annotations_that_were_inherited_whole_are_those_of_the_base() {
    let (place, _) = place(OF_BASE).await;
    app().annotations(OF_BASE).single(&place).await;
    assert_eq!(base(&place).await, told(BASE, "label imglife.ref"));
}

#[tokio::test]
async fn a_label_that_the_template_of_the_base_sets_is_inherited_as_well() {
    let place = Arc::new(MemoryPlace::default());
    let with_reference = Built::new(BASE, &["m", "b"])
        .labels(OF_BASE)
        .labels(&[("BASE_IMAGE_REF", MIRROR)]);
    with_reference.single(&place).await;
    app()
        .labels(&[("BASE_IMAGE_REF", MIRROR)])
        .single(&place)
        .await;
    assert_eq!(base(&place).await, told(BASE, "label imglife.ref"));
}

#[tokio::test]
async fn other_bases_are_known_by_the_standard_label_unless_it_was_inherited() {
    let place = Arc::new(MemoryPlace::default());
    let name = "org.opencontainers.image.base.name";
    Built::new(MIRROR, &["m"]).single(&place).await;
    Built::new(APP, &["m", "a"])
        .labels(&[(name, MIRROR)])
        .single(&place)
        .await;
    assert_eq!(
        base(&place).await,
        told(MIRROR, "label org.opencontainers.image.base.name")
    );
    Built::new(APP, &["m", "a"])
        .labels(&[
            (name, MIRROR),
            ("org.opencontainers.image.revision", "4F2A"),
        ])
        .single(&place)
        .await;
    assert_eq!(base(&place).await.0, MIRROR);
    for inherited in [
        ("org.opencontainers.image.revision", "77aa"),
        ("imglife.tier", "base"),
    ] {
        Built::new(APP, &["m", "x", "a"])
            .labels(&[(name, MIRROR), inherited])
            .single(&place)
            .await;
        let error = registered(&request(), &place)
            .await
            .expect_err("nothing that counts");
        assert!(
            matches!(error, RegisterError::NoBase(_))
                && error.hint().is_some_and(|hint| hint.contains("--base")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_image_that_names_itself_is_told_by_its_own_labels() {
    let (place, _) = place(&[]).await;
    let plan = registered(
        &Request {
            image: image(BASE),
            ..request()
        },
        &place,
    )
    .await
    .expect("a record");
    assert_eq!(
        (plan.record.base, plan.record.platforms.len()),
        (Some(image(MIRROR)), 2)
    );
}

#[tokio::test]
async fn platforms_are_its_own_words_or_those_of_the_index_or_of_the_configuration() {
    let (place, _) = place(&[]).await;
    let platforms = async || {
        let plan = registered(&request(), &place).await.expect("a record");
        plan.record
            .platforms
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    app()
        .labels(&[("imglife.platforms", "linux/s390x,linux/arm/v7")])
        .single(&place)
        .await;
    assert_eq!(platforms().await, "linux/s390x linux/arm/v7");
    app()
        .annotations(&[("imglife.platforms", "linux/ppc64le")])
        .single(&place)
        .await;
    assert_eq!(platforms().await, "linux/ppc64le");
    app()
        .index(&place, &["linux/arm64", "linux/amd64"], &[])
        .await;
    assert_eq!(platforms().await, "linux/arm64 linux/amd64");
    app().single(&place).await;
    assert_eq!(platforms().await, "linux/amd64");
}

#[tokio::test]
async fn a_base_that_moved_since_the_build_is_recorded_without_the_digest_it_has_now() {
    let (place, _) = place(&[]).await;
    app().single(&place).await;
    Built::new(BASE, &["m", "b2"])
        .labels(OF_BASE)
        .single(&place)
        .await;
    assert_eq!(
        base(&place).await,
        (BASE.to_owned(), "label imglife.ref".to_owned(), false)
    );
}

#[tokio::test]
async fn a_base_that_cannot_be_read_is_recorded_all_the_same() {
    let (place, _) = place(&[]).await;
    app().single(&place).await;
    let repository = image(BASE).repository;
    place.fail_when(move |call| {
        (call.repository == repository).then_some(Fault::Error(ItemErrorKind::Forbidden))
    });
    assert_eq!(
        base(&place).await,
        (BASE.to_owned(), "label imglife.ref".to_owned(), false)
    );
}

#[tokio::test]
async fn an_image_that_is_not_there_or_cannot_be_read_is_not_recorded() {
    let place = Arc::new(MemoryPlace::default());
    assert!(matches!(
        registered(&request(), &place).await,
        Err(RegisterError::NoImage(_))
    ));
    place.fail_when(|_| Some(Fault::Error(ItemErrorKind::Unauthorized)));
    assert!(matches!(
        registered(&request(), &place).await,
        Err(RegisterError::Place(_))
    ));
}

#[tokio::test]
async fn nothing_is_asked_when_everything_is_given() {
    let place = Arc::new(MemoryPlace::default());
    let digest = Digest::sha256(b"");
    let base = image(&format!("{BASE}@{digest}"));
    let all = Request {
        base: Some(base),
        platforms: vec!["linux/amd64".parse().expect("a platform")],
        ..request()
    };
    let plan = registered(&all, &place).await.expect("a record");
    assert_eq!(
        (
            plan.record.base,
            plan.record.base_digest,
            plan.record.digest
        ),
        (Some(image(BASE)), Some(digest), None)
    );
    assert_eq!(place.count(Operation::Manifest), 0);
}

#[tokio::test]
async fn hostile_names_are_passed_over() {
    let (place, _) = place(&[]).await;
    app()
        .annotations(&[
            ("org.opencontainers.image.base.name", "$(id):x"),
            ("imglife.ref", "::error::"),
        ])
        .labels(&[("BASE_IMAGE_REF", "a b\n"), ("imglife.platforms", "x; rm")])
        .single(&place)
        .await;
    assert_eq!(base(&place).await.0, BASE);
}
