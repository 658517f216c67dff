//! Copying an image by digest so that all of its content can be read at the target.
//!
//! A registry can report content that it lost: garbage collection removes children of tagged
//! indexes, and a HEAD may be answered from a cache. Before the only other copy is deleted, every
//! manifest is read, and the first byte of every blob.

use std::collections::HashSet;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::context::{ImageCopy, PARALLEL_PARTS, Transfer};
use super::descriptors::{may_be_blob, may_be_left_out};
use super::error::{at, child_missing, too_deep, unreadable};
use super::platforms::KeptChildren;
use super::request::ReadableCopyRequest;
use crate::error::{ItemError, ItemErrorKind, Side};
use crate::model::manifest::MAX_INDEX_NESTING;
use crate::model::{Descriptor, Manifest, ManifestContent, Reference, Repository};

impl Transfer {
    /// Copies the image and its attachments by digest, as far as they cannot be read at the target.
    ///
    /// Each manifest is read at the target, and the first byte of each blob, once in a run. Missing
    /// blobs are uploaded again even if the registry reports them, and then read. Sets no tag and no
    /// list of referrers; [`copy`](Transfer::copy) does that. Fails if any content cannot be read in
    /// the end.
    pub async fn copy_readable(&self, request: &ReadableCopyRequest<'_>) -> Result<(), ItemError> {
        let filter = super::PlatformFilter::All;
        let copy = ImageCopy::new(request.item, request.from, request.to, &filter);
        let reference = Reference::Digest(request.digest.clone());
        let root = self
            .required_source_manifest(request.from, &reference)
            .await?;
        self.make_readable(&copy, &root.descriptor(), 0).await?;
        let image = self
            .attached_image(request.to, &root, &KeptChildren::default())
            .await?;
        let mut visited = HashSet::new();
        let mut subjects = image.subjects;
        for _ in 0..MAX_INDEX_NESTING {
            let mut attachments = Vec::new();
            for subject in subjects
                .iter()
                .filter(|subject| visited.insert((*subject).clone()))
            {
                let found = self
                    .attachments_at_source(&copy, subject, request.source_tags)
                    .await?;
                attachments.extend(found.referrers);
                for tag in found.cosign_tags {
                    let reference = Reference::Tag(tag);
                    let manifest = self
                        .required_source_manifest(request.from, &reference)
                        .await?;
                    attachments.push(manifest.descriptor());
                }
            }
            subjects = Vec::new();
            for attachment in attachments {
                match self.make_readable(&copy, &attachment, 0).await {
                    Ok(()) => subjects.push(attachment.digest),
                    // A list that clients keep may name deleted manifests.
                    Err(error) if error == child_missing(request.from, &attachment.digest) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Makes sure that a manifest and everything below it can be read at the target.
    fn make_readable<'a>(
        &'a self,
        copy: &'a ImageCopy<'a>,
        entry: &'a Descriptor,
        depth: usize,
    ) -> BoxFuture<'a, Result<(), ItemError>> {
        async move {
            let once = self.state.readable(copy.to, &entry.digest);
            once.get_or_try_init(|| self.read_or_copy(copy, entry, depth))
                .await
                .copied()
        }
        .boxed()
    }

    async fn read_or_copy(
        &self,
        copy: &ImageCopy<'_>,
        entry: &Descriptor,
        depth: usize,
    ) -> Result<(), ItemError> {
        if depth > MAX_INDEX_NESTING {
            return Err(too_deep(Side::Source, copy.from, &entry.digest));
        }
        let reference = Reference::Digest(entry.digest.clone());
        match self.target_manifest(copy.to, &reference).await {
            Ok(Some(manifest)) => return self.make_parts_readable(copy, &manifest, depth).await,
            Ok(None) => {}
            Err(error) if may_be_blob(entry) && error.kind == ItemErrorKind::Malformed => {
                return self.make_blob_readable(copy, entry).await;
            }
            Err(error) => return Err(error),
        }
        match self.source_manifest(copy.from, &reference).await {
            Ok(Some(manifest)) => {
                self.make_parts_readable(copy, &manifest, depth).await?;
                self.put_child(copy, &manifest).await?;
                self.required_target_manifest(copy.to, reference)
                    .await
                    .map(drop)
            }
            Ok(None) if may_be_blob(entry) => self.make_blob_readable(copy, entry).await,
            Err(error) if may_be_blob(entry) && error.kind == ItemErrorKind::Malformed => {
                self.make_blob_readable(copy, entry).await
            }
            Ok(None) => Err(child_missing(copy.from, &entry.digest)),
            Err(error) => Err(at(Side::Source)(error)),
        }
    }

    async fn make_parts_readable(
        &self,
        copy: &ImageCopy<'_>,
        manifest: &Manifest,
        depth: usize,
    ) -> Result<(), ItemError> {
        let parts: Vec<_> = match &manifest.content {
            ManifestContent::Index { children } => children
                .iter()
                .map(|child| self.make_readable(copy, child, depth + 1))
                .collect(),
            ManifestContent::Image { .. } => manifest
                .blobs()
                .into_iter()
                .map(|blob| {
                    async move {
                        let once = self.state.readable(copy.to, &blob.digest);
                        once.get_or_try_init(|| self.make_blob_readable(copy, blob))
                            .await
                            .copied()
                    }
                    .boxed()
                })
                .collect(),
        };
        stream::iter(parts)
            .buffer_unordered(PARALLEL_PARTS)
            .try_collect::<()>()
            .await
    }

    async fn make_blob_readable(
        &self,
        copy: &ImageCopy<'_>,
        blob: &Descriptor,
    ) -> Result<(), ItemError> {
        if self.can_read(copy.to, blob).await? {
            return Ok(());
        }
        let shared = copy
            .from
            .shares_blobs_with(copy.to)
            .then_some(copy.from)
            .filter(|from| *from != copy.to);
        // A registry can mount a blob that it lost, so a blob that cannot be read after that is
        // uploaded.
        for mount_from in shared.map(Some).into_iter().chain([None]) {
            match self.put(copy, blob, mount_from).await {
                Err(error)
                    if may_be_left_out(blob)
                        && error.side == Some(Side::Source)
                        && error.kind == ItemErrorKind::Absent =>
                {
                    return Ok(());
                }
                put => put?,
            }
            if self.can_read(copy.to, blob).await? {
                return Ok(());
            }
        }
        Err(unreadable(copy.to, &blob.digest))
    }

    async fn can_read(&self, to: &Repository, blob: &Descriptor) -> Result<bool, ItemError> {
        let store = self.writable_target(to)?;
        if matches!(to, Repository::Layout { .. })
            && !store.claim_blob(to, blob).await.map_err(at(Side::Target))?
        {
            return Ok(false);
        }
        store
            .can_read_blob(to, blob)
            .await
            .map_err(at(Side::Target))
    }
}
