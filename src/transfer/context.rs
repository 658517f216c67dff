//! The transfer of a run and the copies that are in progress, which all other files work on.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::digest_cache::{DigestCache, no_cache};
use super::error::{absent, at};
use super::platform_filter::PlatformFilter;
use super::prefetch::Prefetch;
use super::request::CopiedBytes;
use super::state::{OncePerRun, TransferState};
use crate::error::{ItemError, ItemErrorKind, Side};
use crate::model::lock::{into_inner, lock};
use crate::model::{Digest, Manifest, Reference, Repository, Tag};
use crate::progress::Progress;
use crate::registry::{ImageStore, ImageStores, Resolved};

/// Number of blobs and children of one image that are copied at once. Hosts have their own limits.
pub(super) const PARALLEL_PARTS: usize = 4;

/// Duration of a copy after which a tag that was absent is checked again before it is set. Shorter
/// copies save the request.
pub(super) const LONG_COPY: Duration = Duration::from_secs(5);

/// Copies images between stores.
///
/// One transfer serves a whole run: it keeps track of the content that is at the target already.
pub struct Transfer {
    pub(super) source: ImageStores,
    pub(super) target: ImageStores,
    pub(super) prefetch: Prefetch,
    pub(super) state: TransferState,
    pub(super) cache: Arc<dyn DigestCache>,
    pub(super) progress: Arc<dyn Progress>,
    pub(super) began: Instant,
    pub(super) long_copy: Duration,
}

impl Transfer {
    /// Returns a transfer without a cache from earlier runs.
    pub fn new(source: ImageStores, target: ImageStores, progress: Arc<dyn Progress>) -> Transfer {
        Transfer {
            source,
            target,
            prefetch: Prefetch::default(),
            state: TransferState::default(),
            cache: no_cache(),
            progress,
            began: Instant::now(),
            long_copy: LONG_COPY,
        }
    }

    /// Returns the transfer with a cache from earlier runs.
    #[must_use]
    pub fn with_cache(self, cache: Arc<dyn DigestCache>) -> Transfer {
        Transfer { cache, ..self }
    }

    /// Records that the repository does not exist at the target, so that content is not searched
    /// for in it.
    pub fn record_absent_target(&self, repository: &Repository) {
        self.state.record_absent(repository);
    }

    /// Returns a manifest of the source, from the prefetched ones if it is there.
    pub(super) async fn source_manifest(
        &self,
        from: &Repository,
        reference: &Reference,
    ) -> Result<Option<Manifest>, ItemError> {
        if let Some(manifest) = self.prefetch.take(from, reference).await {
            return Ok(Some(manifest));
        }
        self.source.of(from).manifest(from, reference).await
    }

    /// Returns a manifest of the source. Fails if it is absent.
    pub(super) async fn required_source_manifest(
        &self,
        from: &Repository,
        reference: &Reference,
    ) -> Result<Manifest, ItemError> {
        self.source_manifest(from, reference)
            .await
            .map_err(at(Side::Source))?
            .ok_or_else(|| absent(Side::Source, from, reference))
    }

    /// Returns the manifest of `reference` at the target, or `None` if it is absent.
    pub(super) async fn target_manifest(
        &self,
        to: &Repository,
        reference: &Reference,
    ) -> Result<Option<Manifest>, ItemError> {
        match self.target.of(to).manifest(to, reference).await {
            Err(error) if self.is_absent_at_target(to, reference, &error).await => Ok(None),
            found => found.map_err(at(Side::Target)),
        }
    }

    /// Returns the digest of a tag at the target, or `None` if it is absent.
    pub(super) async fn target_digest(
        &self,
        to: &Repository,
        reference: &Reference,
    ) -> Result<Option<Resolved>, ItemError> {
        match self.target.of(to).resolve(to, reference).await {
            Err(error) if self.is_absent_at_target(to, reference, &error).await => Ok(None),
            found => found.map_err(at(Side::Target)),
        }
    }

    /// Returns true if the target's answer to a look-up means that the content is absent, although
    /// it says "forbidden".
    ///
    /// Artifactory answers so for what does not exist. Whether the credentials may write is shown by
    /// the write. A tag counts as absent only if the tags of the repository are listed without it:
    /// it could be a signature that was made at the target.
    async fn is_absent_at_target(
        &self,
        to: &Repository,
        reference: &Reference,
        error: &ItemError,
    ) -> bool {
        if error.kind != ItemErrorKind::Forbidden {
            return false;
        }
        let Reference::Tag(tag) = reference else {
            return true;
        };
        let listing = self.state.target_listing(to);
        let listed = listing.get_or_init(|| async {
            let tags = self.target.of(to).tags(to).await.ok()?;
            let tags = tags.unwrap_or_default().into_iter();
            Some(tags.map(|listed| listed.tag).collect())
        });
        let listed: &Option<BTreeSet<Tag>> = listed.await;
        listed.as_ref().is_some_and(|tags| !tags.contains(tag))
    }

    /// Returns the manifest of `reference` at the target. Fails if it is absent.
    pub(super) async fn required_target_manifest(
        &self,
        to: &Repository,
        reference: Reference,
    ) -> Result<Manifest, ItemError> {
        let manifest = self.target_manifest(to, &reference).await?;
        manifest.ok_or_else(|| absent(Side::Target, to, &reference))
    }

    /// Returns the store of a target repository, for writing.
    pub(super) fn writable_target(&self, to: &Repository) -> Result<&dyn ImageStore, ItemError> {
        self.target.writable(to).map_err(at(Side::Target))
    }

    /// Stores a manifest at the target.
    pub(super) async fn put_manifest(
        &self,
        to: &Repository,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<(), ItemError> {
        self.writable_target(to)?
            .put_manifest(to, reference, manifest)
            .await
            .map_err(at(Side::Target))
    }
}

/// A copy in progress, with the amounts that all its parts have counted so far.
pub(super) struct ImageCopy<'a> {
    pub(super) item: &'a str,
    pub(super) from: &'a Repository,
    pub(super) to: &'a Repository,
    pub(super) filter: &'a PlatformFilter,
    pub(super) moved: AtomicU64,
    pub(super) mounted: AtomicU64,
    pub(super) skipped: AtomicU64,
    /// Indexes that the target may have without all of their children, so that their presence does
    /// not prove that they were copied.
    indexes: Mutex<HashMap<Digest, OncePerRun>>,
    warnings: Mutex<Vec<String>>,
}

impl<'a> ImageCopy<'a> {
    pub(super) fn new(
        item: &'a str,
        from: &'a Repository,
        to: &'a Repository,
        filter: &'a PlatformFilter,
    ) -> ImageCopy<'a> {
        ImageCopy {
            item,
            from,
            to,
            filter,
            moved: AtomicU64::new(0),
            mounted: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            indexes: Mutex::default(),
            warnings: Mutex::default(),
        }
    }

    pub(super) fn index(&self, digest: &Digest) -> OncePerRun {
        lock(&self.indexes)
            .entry(digest.clone())
            .or_default()
            .clone()
    }

    pub(super) fn warn(&self, warning: String) {
        lock(&self.warnings).push(warning);
    }

    pub(super) fn into_warnings(self) -> Vec<String> {
        into_inner(self.warnings)
    }

    pub(super) fn bytes(&self) -> CopiedBytes {
        CopiedBytes {
            moved: self.moved.load(Ordering::Relaxed),
            mounted: self.mounted.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
        }
    }
}
