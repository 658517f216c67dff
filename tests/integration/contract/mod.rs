//! The contract of image stores, and a test of it for the stores without a server.
//!
//! A new kind of store adds a test at the end of this file, or calls [`holds_for`] where its server
//! is started.

mod blobs;
mod deletions;
mod listings;
mod manifests;

use std::future::Future;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use imglife::error::{ItemError, ItemErrorKind};
use imglife::model::media_type;
use imglife::model::{Algorithm, Descriptor, Digest, Manifest, Reference, Repository, Tag};
use imglife::registry::layout::Layouts;
use imglife::registry::memory::{MemoryStore, SparseIndexes};
use imglife::registry::{BlobContent, BlobStream, DeletionSupport, ImageStore, InMemory, Support};
use serde_json::{Value, json};

use blobs::*;
use deletions::*;
use listings::*;
use manifests::*;

/// A store under test.
pub(crate) struct TestedStore<'a> {
    pub(crate) store: &'a dyn ImageStore,
    /// Returns an empty repository of this name.
    pub(crate) fresh: &'a (dyn Fn(&str) -> Repository + Sync),
    /// True if the store accepts SHA-512 digests.
    pub(crate) sha512: bool,
    /// True if blobs can be mounted from another repository.
    pub(crate) mounts: bool,
    /// True if a blob is not returned as a manifest.
    pub(crate) separates_blobs: bool,
    /// True if a missing repository differs from one without tags.
    pub(crate) reports_missing_repositories: bool,
    /// True if a blob can be read from an offset.
    pub(crate) ranges: bool,
    /// True if manifests with missing blobs or with a wrong digest are rejected.
    pub(crate) checks_manifests: bool,
    pub(crate) deletes: DeletionSupport,
    /// Effect of the deletion of a manifest.
    pub(crate) deletion_effect: DeletionEffect,
    /// True if the store lists repositories.
    pub(crate) lists_repositories: bool,
}

/// Effect of the deletion of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeletionEffect {
    /// The manifest and its tags are deleted.
    Everything,
    /// A manifest with a tag stays. The content of others stays until it is swept.
    Unnamed,
    /// The manifest is not available by digest any more; its tags stay.
    Digest,
}

impl<'a> TestedStore<'a> {
    /// Returns a store that supports everything.
    pub(crate) fn new(
        store: &'a dyn ImageStore,
        fresh: &'a (dyn Fn(&str) -> Repository + Sync),
    ) -> TestedStore<'a> {
        TestedStore {
            store,
            fresh,
            sha512: true,
            mounts: true,
            separates_blobs: true,
            reports_missing_repositories: true,
            ranges: true,
            checks_manifests: true,
            deletes: DeletionSupport::ALL,
            deletion_effect: DeletionEffect::Everything,
            lists_repositories: true,
        }
    }

    fn repository(&self, name: &str) -> Repository {
        (self.fresh)(name)
    }
}

/// Checks the contract. Panics in the function of the broken rule.
pub(crate) async fn holds_for(tested: &TestedStore<'_>) {
    missing_content_is_none(tested).await;
    blobs_are_read_exactly_from_any_offset(tested).await;
    wrong_content_is_rejected_and_not_kept(tested).await;
    incomplete_content_is_not_kept(tested).await;
    content_of_a_dropped_upload_is_not_kept(tested).await;
    a_blob_may_be_stored_again_and_concurrently(tested).await;
    manifests_keep_their_exact_bytes(tested).await;
    a_tag_moves_and_its_old_manifest_stays(tested).await;
    if tested.checks_manifests {
        an_image_without_its_blobs_is_rejected(tested).await;
        a_manifest_is_only_stored_under_its_own_digest(tested).await;
    }
    if tested.separates_blobs {
        a_blob_is_not_returned_as_a_manifest(tested).await;
    }
    indexes_may_be_nested(tested).await;
    artifacts_are_stored_like_images(tested).await;
    a_listing_has_each_tag_once(tested).await;
    if tested.sha512 {
        other_digest_algorithms_are_kept(tested).await;
    }
    if tested.mounts {
        a_blob_is_mounted_between_repositories(tested).await;
    }
    a_blob_that_cannot_be_mounted_is_uploaded(tested).await;
    the_supported_deletions_are_reported(tested).await;
    a_tag_is_deleted_without_its_manifest(tested).await;
    a_manifest_is_deleted_with_its_tags_only(tested).await;
    existing_content_can_be_claimed(tested).await;
    sibling_repositories_are_listed(tested).await;
}

fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

fn blob(content: &[u8]) -> Descriptor {
    Descriptor::new(
        media_type::OCI_LAYER_GZIP,
        Digest::sha256(content),
        content.len() as u64,
    )
}

fn in_memory(content: &[u8]) -> InMemory {
    InMemory(Bytes::copy_from_slice(content))
}

fn parse(text: impl Into<Bytes>) -> Manifest {
    Manifest::parse(text.into(), None, Algorithm::Sha256).expect("a manifest")
}

fn image(config: &Descriptor, layers: &[Descriptor]) -> Manifest {
    let mut config: Value = serde_json::to_value(config).expect("JSON");
    config["mediaType"] = json!(media_type::OCI_CONFIG);
    parse(json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": layers }).to_string())
}

fn index(media_type: &str, children: &[Descriptor]) -> Manifest {
    parse(json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": children }).to_string())
}

async fn put(tested: &TestedStore<'_>, repository: &Repository, content: &[u8]) -> Descriptor {
    let descriptor = blob(content);
    tested
        .store
        .put_blob(repository, &descriptor, &in_memory(content), None)
        .await
        .expect("to write the blob");
    descriptor
}

async fn put_manifest(
    tested: &TestedStore<'_>,
    repository: &Repository,
    reference: &Reference,
    manifest: &Manifest,
) {
    tested
        .store
        .put_manifest(repository, reference, manifest)
        .await
        .expect("to write the manifest");
}

/// Stores the blobs of an image, and returns its manifest, which is not stored.
async fn image_of(tested: &TestedStore<'_>, repository: &Repository, content: &[u8]) -> Manifest {
    let config = put(tested, repository, b"{}").await;
    let layer = put(tested, repository, content).await;
    image(&config, &[layer])
}

async fn put_image(
    tested: &TestedStore<'_>,
    repository: &Repository,
    tag: &Tag,
    content: &[u8],
) -> Manifest {
    let image = image_of(tested, repository, content).await;
    put_manifest(tested, repository, &tag.clone().into(), &image).await;
    image
}

async fn read(
    tested: &TestedStore<'_>,
    repository: &Repository,
    descriptor: &Descriptor,
    offset: u64,
) -> Result<Vec<u8>, ItemError> {
    let pieces: Vec<Bytes> = tested
        .store
        .blob(repository, descriptor, offset)
        .await?
        .try_collect()
        .await?;
    Ok(pieces.concat())
}

async fn listed(tested: &TestedStore<'_>, repository: &Repository) -> Vec<String> {
    let tags = tested
        .store
        .tags(repository)
        .await
        .expect("a listing")
        .expect("the repository");
    let mut names: Vec<String> = tags
        .into_iter()
        .map(|listed| listed.tag.to_string())
        .collect();
    names.sort();
    names
}

/// Content whose stream always ends with an error.
pub(super) struct BrokenContent {
    pub(super) content: Bytes,
    pub(super) after: usize,
}

#[async_trait::async_trait]
impl BlobContent for BrokenContent {
    async fn open(&self, from_offset: u64) -> Result<BlobStream, ItemError> {
        let start = usize::try_from(from_offset)
            .expect("an offset")
            .min(self.after);
        let broken = ItemError::new(
            "source",
            "read",
            ItemErrorKind::Unreachable,
            "the connection broke",
        );
        Ok(stream::iter([Ok(self.content.slice(start..self.after)), Err(broken)]).boxed())
    }
}

/// Content whose stream stalls.
pub(super) struct StalledContent(pub(super) Bytes);

#[async_trait::async_trait]
impl BlobContent for StalledContent {
    async fn open(&self, _: u64) -> Result<BlobStream, ItemError> {
        Ok(stream::iter([Ok(self.0.clone())])
            .chain(stream::pending())
            .boxed())
    }
}

/// Content that must not be opened.
pub(super) struct UnneededContent;

#[async_trait::async_trait]
impl BlobContent for UnneededContent {
    async fn open(&self, _: u64) -> Result<BlobStream, ItemError> {
        Err(ItemError::new(
            "source",
            "read",
            ItemErrorKind::Refused,
            "the content was opened",
        ))
    }
}

/// Runs the suite for a store without a server.
fn run(suite: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(suite);
}

#[test]
fn the_contract_holds_in_memory() {
    for sparse_indexes in [SparseIndexes::Refused, SparseIndexes::Allowed] {
        let store = MemoryStore::new(sparse_indexes);
        run(holds_for(&TestedStore::new(&store, &|name| {
            format!("registry/{name}").parse().expect("a repository")
        })));
    }
    for (tags, manifests) in [
        (Support::Unsupported, Support::Supported),
        (Support::Supported, Support::Unsupported),
    ] {
        let deletes = DeletionSupport { tags, manifests };
        let store = MemoryStore::default().deleting(deletes);
        let fresh = |name: &str| format!("registry/{name}").parse().expect("a repository");
        run(holds_for(&TestedStore {
            deletes,
            ..TestedStore::new(&store, &fresh)
        }));
    }
}

#[test]
fn the_contract_holds_for_layouts() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Layouts::default();
    let fresh = |name: &str| Repository::Layout {
        directory: directory.path().join(name),
    };
    let tested = TestedStore::new(&store, &fresh);
    run(holds_for(&TestedStore {
        deletion_effect: DeletionEffect::Unnamed,
        ..tested
    }));
}
