//! Copies between two stores in memory.

mod attachments;
mod completeness;
mod nesting;
mod platforms;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::*;
use crate::error::{ItemError, ItemErrorKind, Side};
use crate::model::Algorithm;
use crate::model::media_type;
use crate::model::{Descriptor, Digest, Manifest, Reference, Repository, Tag};
use crate::registry::memory::{MemoryStore, SparseIndexes, StoreFault, StoreOperation};
use crate::registry::{ImageSource, ImageStore, InMemory};

/// Two stores in memory and a transfer between them.
struct World {
    source: Arc<MemoryStore>,
    target: Arc<MemoryStore>,
    transfer: Transfer,
}

fn world() -> World {
    world_with(SparseIndexes::Refused)
}

fn world_with(sparse_indexes: SparseIndexes) -> World {
    let (source, target) = (
        Arc::new(MemoryStore::new(SparseIndexes::Allowed)),
        Arc::new(MemoryStore::new(sparse_indexes)),
    );
    let transfer = Transfer::new(source.stores(), target.stores(), crate::progress::silent());
    World {
        source,
        target,
        transfer,
    }
}

fn repository(text: &str) -> Repository {
    text.parse().expect("a repository")
}

fn upstream() -> Repository {
    repository("docker.io/library/app")
}

fn mirror() -> Repository {
    repository("registry.example.com/mirrors/app")
}

fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

fn only(platforms: &[&str], mode: PlatformFilterMode) -> PlatformFilter {
    PlatformFilter::Only {
        platforms: platforms
            .iter()
            .map(|text| text.parse().expect("a platform"))
            .collect(),
        mode,
        requires_all: false,
    }
}

impl World {
    /// Puts a blob at the source and returns its descriptor.
    async fn blob(&self, media_type: &str, content: &str) -> Value {
        let bytes = Bytes::copy_from_slice(content.as_bytes());
        let descriptor = Descriptor::new(media_type, Digest::sha256(&bytes), bytes.len() as u64);
        self.source
            .put_blob(&upstream(), &descriptor, &InMemory(bytes), None)
            .await
            .expect("the source accepts the blob");
        serde_json::to_value(descriptor).expect("a descriptor")
    }

    /// Puts a manifest at the source, by digest or by the tag `name`, and returns its descriptor.
    async fn manifest(&self, content: Value, name: Option<&str>) -> Value {
        let manifest = Manifest::parse(Bytes::from(content.to_string()), None, Algorithm::Sha256)
            .expect("a manifest");
        let reference = name.map_or_else(
            || Reference::Digest(manifest.digest.clone()),
            |name| Reference::Tag(tag(name)),
        );
        self.source
            .put_manifest(&upstream(), &reference, &manifest)
            .await
            .expect("the source accepts the manifest");
        serde_json::to_value(manifest.descriptor()).expect("a descriptor")
    }

    /// Puts an image of a platform at the source.
    async fn image(&self, platform: &str, layers: &[&str], name: Option<&str>) -> Value {
        let parsed: crate::model::Platform = platform.parse().expect("a platform");
        let config = self
            .blob(
                media_type::OCI_CONFIG,
                &serde_json::to_string(&parsed).expect("a configuration"),
            )
            .await;
        let mut described = Vec::new();
        for layer in layers {
            described.push(self.blob(media_type::OCI_LAYER_GZIP, layer).await);
        }
        let content = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": described });
        let mut descriptor = self.manifest(content, name).await;
        descriptor["platform"] = serde_json::to_value(parsed).expect("a platform");
        descriptor
    }

    async fn attestation(&self, of: &Value) -> Value {
        let mut descriptor = self.image("unknown/unknown", &["statement"], None).await;
        descriptor["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": of["digest"],
        });
        descriptor
    }

    async fn index(&self, children: &[Value], name: Option<&str>) -> Value {
        self.manifest(json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children }), name).await
    }

    async fn copy(&self, name: &str, filter: &PlatformFilter) -> Result<CopiedImage, ItemError> {
        self.copy_to(&mirror(), name, filter).await
    }

    async fn copy_to(
        &self,
        to: &Repository,
        name: &str,
        filter: &PlatformFilter,
    ) -> Result<CopiedImage, ItemError> {
        let (from, tag) = (upstream(), tag(name));
        let reference = Reference::Tag(tag.clone());
        self.transfer
            .copy(CopyRequest {
                item: name,
                from: &from,
                reference,
                to,
                tag: &tag,
                expected: ExpectedTag::Absent,
                filter,
                attachments: Attachments::Skip,
            })
            .await
    }

    async fn at_target(&self, reference: impl Into<Reference>) -> Option<Manifest> {
        self.target
            .manifest(&mirror(), &reference.into())
            .await
            .expect("a response of the target")
    }

    /// Returns the number of reads of each blob from the source.
    fn reads(&self) -> HashMap<String, usize> {
        let mut reads = HashMap::new();
        for call in self
            .source
            .calls()
            .into_iter()
            .filter(|call| call.operation == StoreOperation::Blob)
        {
            *reads.entry(call.subject).or_default() += 1;
        }
        reads
    }
}

fn digest(descriptor: &Value) -> Digest {
    descriptor["digest"]
        .as_str()
        .expect("a digest")
        .parse()
        .expect("a digest")
}

#[tokio::test]
async fn copy_transfers_exact_bytes_parts_first_and_tag_last() {
    let world = world();
    let (amd64, arm64) = (
        world.image("linux/amd64", &["base", "a"], None).await,
        world
            .image("linux/arm64", &["base-arm", "b", "b"], None)
            .await,
    );
    let attestation = world.attestation(&amd64).await;
    let index = world.index(&[amd64, arm64, attestation], Some("1.0")).await;
    let copied = world
        .copy("1.0", &PlatformFilter::All)
        .await
        .expect("a copy");
    assert_eq!(
        (&copied.digest, &copied.source_digest),
        (&digest(&index), &digest(&index))
    );
    let (source, target) = (
        world.source.manifest(&upstream(), &tag("1.0").into()).await,
        world.at_target(tag("1.0")).await,
    );
    assert_eq!(source.expect("a response of the source"), target);
    // The store in memory rejects manifests with missing parts. In addition, the tag must be last.
    let calls = world.target.calls();
    let tagged: Vec<usize> = calls
        .iter()
        .enumerate()
        .filter(|(_, call)| call.subject == "1.0")
        .map(|(at, _)| at)
        .collect();
    assert_eq!(
        calls[*tagged.first().expect("the tag was written")].operation,
        StoreOperation::PutManifest
    );
    assert!(
        calls[tagged[0]..]
            .iter()
            .all(|call| !matches!(call.operation, StoreOperation::PutBlob))
    );
}

#[tokio::test]
async fn prefetched_manifests_are_used_once() {
    let world = world();
    let (amd64, arm64) = (
        world.image("linux/amd64", &["a"], None).await,
        world.image("linux/arm64", &["b"], None).await,
    );
    world.index(&[amd64, arm64], Some("1.0")).await;
    let (from, to, reference, filter) = (
        upstream(),
        mirror(),
        tag("1.0").into(),
        only(&["linux/amd64"], PlatformFilterMode::Rewrite),
    );
    let upcoming = UpcomingCopy {
        from: &from,
        reference: &reference,
        to: &to,
        filter: &filter,
    };
    // A target that exists may have the children.
    assert!(world.transfer.prefetch(&upcoming).await);
    assert_eq!(world.source.count(StoreOperation::Manifest), 1);
    world.transfer.record_absent_target(&to);
    assert!(world.transfer.prefetch(&upcoming).await);
    assert_eq!(
        world.source.count(StoreOperation::Manifest),
        2,
        "the index was prefetched, and one platform is wanted"
    );
    world.copy("1.0", &filter).await.expect("a copy");
    assert_eq!(world.source.count(StoreOperation::Manifest), 2);
    // Each is used once: memory does not grow with the run.
    world
        .copy_to(&repository("registry.example.com/other"), "1.0", &filter)
        .await
        .expect("a copy");
    assert_eq!(world.source.count(StoreOperation::Manifest), 4);
}

#[tokio::test]
async fn copy_uploads_each_blob_once_in_a_run() {
    let world = world();
    let filter = PlatformFilter::All;
    let mut names = Vec::new();
    for version in 0..6 {
        let own = format!("layer of {version}");
        let image = world
            .image("linux/amd64", &["base", "tools", &own], None)
            .await;
        names.push(format!("1.{version}"));
        world
            .index(&[image], names.last().map(String::as_str))
            .await;
    }
    let mirrors: Vec<Repository> = (0..3)
        .map(|number| repository(&format!("registry.example.com/team{number}/app")))
        .collect();
    let copies = mirrors.iter().flat_map(|to| {
        names
            .iter()
            .map(|name| world.copy_to(to, name, &filter))
            .collect::<Vec<_>>()
    });
    let copied: Vec<CopiedImage> = join_all(copies)
        .await
        .into_iter()
        .map(|copied| copied.expect("a copy"))
        .collect();
    assert!(
        world.reads().values().all(|&reads| reads == 1),
        "{:?}",
        world.reads()
    );
    let mounts = world
        .target
        .calls()
        .into_iter()
        .filter(|call| call.mount_from.is_some())
        .count();
    assert!(mounts > 0);
    let unique: u64 = copied.iter().map(|copied| copied.bytes.moved).sum();
    let sizes = "base".len()
        + "tools".len()
        + 6 * "layer of 0".len()
        + r#"{"os":"linux","architecture":"amd64"}"#.len();
    assert_eq!(unique, sizes as u64);
    assert!(
        copied.iter().any(|copied| copied.bytes.mounted > 0)
            && copied.iter().any(|copied| copied.bytes.skipped > 0)
    );
}

#[tokio::test]
async fn copy_to_an_absent_repository_sends_no_lookups() {
    let world = world();
    let image = world.image("linux/amd64", &["base"], None).await;
    world.index(&[image], Some("1.0")).await;
    world.transfer.record_absent_target(&mirror());
    world
        .copy("1.0", &PlatformFilter::All)
        .await
        .expect("a copy");
    assert_eq!(
        (
            world.target.count(StoreOperation::HasBlob),
            world.target.count(StoreOperation::Resolve)
        ),
        (0, 0)
    );
}

#[tokio::test]
async fn copy_of_a_second_tag_of_the_same_image_sends_two_requests() {
    let world = world();
    let image = world.image("linux/amd64", &["base"], None).await;
    world.index(std::slice::from_ref(&image), Some("1.0")).await;
    world.index(&[image], Some("latest")).await;
    world
        .copy("1.0", &PlatformFilter::All)
        .await
        .expect("a copy");
    world.source.clear_calls();
    world.target.clear_calls();
    let copied = world
        .copy("latest", &PlatformFilter::All)
        .await
        .expect("a copy");
    assert_eq!(
        (world.source.calls().len(), world.target.calls().len()),
        (1, 1)
    );
    assert_eq!(copied.bytes, CopiedBytes::default());
}

#[tokio::test]
async fn copy_does_not_read_content_that_the_target_has() {
    let world = world();
    let shared = world.image("linux/amd64", &["base"], None).await;
    world
        .index(std::slice::from_ref(&shared), Some("1.0"))
        .await;
    world
        .copy("1.0", &PlatformFilter::All)
        .await
        .expect("a copy");
    world.source.clear_calls();
    // A later run without a cache.
    let later = World {
        transfer: Transfer::new(
            world.source.stores(),
            world.target.stores(),
            crate::progress::silent(),
        ),
        ..world
    };
    let new = later.image("linux/arm64", &["base", "more"], None).await;
    later.index(&[shared, new], Some("1.1")).await;
    later.source.clear_calls();
    later
        .copy("1.1", &PlatformFilter::All)
        .await
        .expect("a copy");
    let read: Vec<String> = later.reads().into_keys().collect();
    assert_eq!(
        read.len(),
        2,
        "the new configuration and the new layer: {read:?}"
    );
}

#[tokio::test]
async fn failed_copy_names_its_side_and_does_not_set_the_tag() {
    let cases: [(StoreOperation, ItemErrorKind, Side, bool); 6] = [
        (
            StoreOperation::Blob,
            ItemErrorKind::Unreachable,
            Side::Source,
            true,
        ),
        (
            StoreOperation::Manifest,
            ItemErrorKind::Forbidden,
            Side::Source,
            true,
        ),
        (
            StoreOperation::PutBlob,
            ItemErrorKind::Refused,
            Side::Target,
            false,
        ),
        (
            StoreOperation::PutBlob,
            ItemErrorKind::Corrupt,
            Side::Target,
            false,
        ),
        (
            StoreOperation::PutManifest,
            ItemErrorKind::ServerError,
            Side::Target,
            false,
        ),
        (
            StoreOperation::HasBlob,
            ItemErrorKind::Unauthorized,
            Side::Target,
            false,
        ),
    ];
    for (operation, kind, side, at_source) in cases {
        let world = world();
        let image = world.image("linux/amd64", &["base"], None).await;
        world.index(&[image], Some("1.0")).await;
        let store = if at_source {
            &world.source
        } else {
            &world.target
        };
        store.fail_when(move |call| {
            (call.operation == operation).then_some(StoreFault::Error(kind))
        });
        let error = world
            .copy("1.0", &PlatformFilter::All)
            .await
            .expect_err("the copy fails");
        assert_eq!(
            (error.side, error.kind),
            (Some(side), kind),
            "{operation:?}: {error:?}"
        );
        store.fail_when(|_| None);
        assert_eq!(world.at_target(tag("1.0")).await, None, "{operation:?}");
    }
}

#[tokio::test]
async fn truncated_content_is_an_error_of_the_source() {
    let world = world();
    let image = world
        .image("linux/amd64", &["a layer of some length"], None)
        .await;
    world.index(&[image], Some("1.0")).await;
    world.source.fail_when(|call| {
        (call.operation == StoreOperation::Blob).then_some(StoreFault::BreakAfter(4))
    });
    let error = world
        .copy("1.0", &PlatformFilter::All)
        .await
        .expect_err("the copy fails");
    assert_eq!(error.side, Some(Side::Source));
    assert_eq!(world.at_target(tag("1.0")).await, None);
}

#[tokio::test]
async fn failed_copy_does_not_fail_other_copies() {
    let world = world();
    let good = world.image("linux/amd64", &["shared"], None).await;
    world.index(&[good], Some("good")).await;
    let bad = world.image("linux/arm64", &["shared", "lost"], None).await;
    let lost = Digest::sha256(b"lost");
    world.source.lose_blob(&upstream(), &lost);
    world.index(&[bad], Some("bad")).await;
    let filter = PlatformFilter::All;
    let results = join_all([
        world.copy("bad", &filter),
        world.copy("good", &filter),
        world.copy("bad", &filter),
    ])
    .await;
    let outcomes: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(outcomes, [false, true, false]);
    let error = results[0].as_ref().expect_err("the blob is missing");
    assert_eq!(
        (error.side, error.kind),
        (Some(Side::Source), ItemErrorKind::Absent)
    );
    assert!(world.at_target(tag("good")).await.is_some());
}

#[tokio::test]
async fn missing_foreign_layer_is_left_out_with_a_warning() {
    let world = world();
    let config = world.blob(media_type::OCI_CONFIG, "{}").await;
    let mut foreign = world
        .blob(
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "windows",
        )
        .await;
    foreign["urls"] = json!(["https://example.com/windows"]);
    let image = json!({ "schemaVersion": 2, "mediaType": media_type::DOCKER_MANIFEST, "config": config, "layers": [foreign] });
    world.manifest(image, Some("1.0")).await;
    let blob = Digest::sha256(b"windows");
    assert_eq!(
        world
            .copy("1.0", &PlatformFilter::All)
            .await
            .expect("a copy")
            .warnings,
        [""; 0]
    );
    assert!(
        world
            .target
            .has_blob(&mirror(), &Descriptor::new("x", blob.clone(), 7))
            .await
            .expect("a response of the target")
    );

    world.source.lose_blob(&upstream(), &blob);
    let elsewhere = repository("other.example.com/app");
    let copied = world
        .copy_to(&elsewhere, "1.0", &PlatformFilter::All)
        .await
        .expect("a copy");
    assert_eq!(
        copied.warnings,
        [format!(
            "foreign layer {} is not at the source; its descriptor was kept",
            blob.short()
        )]
    );
    assert!(
        world
            .target
            .manifest(&elsewhere, &tag("1.0").into())
            .await
            .expect("a response of the target")
            .is_some()
    );
}

#[tokio::test]
async fn plain_blob_in_an_index_is_copied_as_a_blob() {
    let world = world_with(SparseIndexes::Allowed);
    let cache = world
        .blob("application/vnd.buildkit.cacheconfig.v0", "cache")
        .await;
    let layer = world.blob(media_type::OCI_LAYER_GZIP, "layer").await;
    world.index(&[cache, layer], Some("cache")).await;
    world
        .copy("cache", &PlatformFilter::All)
        .await
        .expect("a copy");
    for content in ["cache", "layer"] {
        let blob = Descriptor::new(
            "x",
            Digest::sha256(content.as_bytes()),
            content.len() as u64,
        );
        assert!(
            world
                .target
                .has_blob(&mirror(), &blob)
                .await
                .expect("a response of the target"),
            "{content}"
        );
    }
}

#[tokio::test]
async fn missing_child_at_the_source_is_an_error() {
    let world = world();
    let absent = json!({ "mediaType": media_type::OCI_MANIFEST, "digest": Digest::sha256(b"absent"), "size": 6 });
    world.index(&[absent], Some("1.0")).await;
    for (name, cause) in [
        ("1.0", "not found, although an index refers to it"),
        ("2.0", "not found"),
    ] {
        let error = world
            .copy(name, &PlatformFilter::All)
            .await
            .expect_err("a manifest is missing");
        assert_eq!(
            (error.side, error.kind, error.cause.as_str()),
            (Some(Side::Source), ItemErrorKind::Absent, cause)
        );
    }
}

impl World {
    /// Returns the world with the transfer of a later run, without a cache.
    fn later(self) -> World {
        World {
            transfer: Transfer::new(
                self.source.stores(),
                self.target.stores(),
                crate::progress::silent(),
            ),
            ..self
        }
    }
}

#[tokio::test]
async fn immutable_tag_that_names_the_image_is_no_error() {
    let world = world();
    world.image("linux/amd64", &["a"], Some("1.0")).await;
    world
        .copy("1.0", &PlatformFilter::All)
        .await
        .expect("a copy");
    world.target.fail_when(|call| {
        (call.subject == "1.0" && call.operation == StoreOperation::PutManifest)
            .then_some(StoreFault::Error(ItemErrorKind::Refused))
    });
    let world = world.later();
    world
        .copy("1.0", &PlatformFilter::All)
        .await
        .expect("the same image");
    world.image("linux/amd64", &["b"], Some("1.0")).await;
    assert_eq!(
        world
            .copy("1.0", &PlatformFilter::All)
            .await
            .expect_err("another image")
            .side,
        Some(Side::Target)
    );
}

#[tokio::test]
async fn tag_that_appears_during_a_long_copy_is_not_overwritten() {
    for (name, is_long, theirs) in [
        ("2.0", true, true),
        ("1.0", true, false),
        ("1.0", false, false),
    ] {
        let mut world = world();
        world.transfer.long_copy = if is_long {
            Duration::ZERO
        } else {
            context::LONG_COPY
        };
        let (wanted, other) = (
            world.image("linux/amd64", &["a"], Some("1.0")).await,
            world.image("linux/amd64", &["b"], Some("2.0")).await,
        );
        world
            .copy(name, &PlatformFilter::All)
            .await
            .expect("an image at the target");
        let (target, found) = (
            world.target.clone(),
            digest(if theirs { &other } else { &wanted }),
        );
        // The plan of the copy does not know this tag.
        target.move_tag(&mirror(), &tag("1.0"), &found);
        target.clear_calls();
        let copied = world.copy("1.0", &PlatformFilter::All).await;
        let lookups = target
            .calls()
            .iter()
            .filter(|call| call.subject == "1.0" && call.operation == StoreOperation::Resolve)
            .count();
        assert_eq!(lookups, usize::from(is_long), "{name}");
        assert_eq!(
            world.at_target(tag("1.0")).await.map(|found| found.digest),
            Some(found)
        );
        match copied {
            Ok(copied) => assert!(!theirs && copied.warnings.len() == lookups, "{copied:?}"),
            Err(error) if error.kind == ItemErrorKind::TagMoved => {
                let change = format!("from nothing to {}", digest(&other));
                assert!(theirs && error.cause.contains(&change), "{error}");
            }
            Err(error) => panic!("{}", crate::error::chain(&error)),
        }
    }
}
