//! Copying the parts of an image: blobs and children first, each manifest after its parts.

use std::cmp::Reverse;
use std::collections::HashSet;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::context::{ImageCopy, PARALLEL_PARTS, Transfer};
use super::descriptors::{is_index_type, may_be_blob, may_be_left_out};
use super::error::{at, child_missing, too_deep};
use super::platforms::KeptChildren;
use crate::error::{ItemError, ItemErrorKind, Side};
use crate::model::manifest::MAX_INDEX_NESTING;
use crate::model::{Descriptor, Manifest, ManifestContent, Reference};
use crate::progress::Event;

impl Transfer {
    /// Returns true if the target has the manifest. It then has all its parts too, because parts
    /// are stored first.
    pub(super) async fn is_whole_at_target(
        &self,
        copy: &ImageCopy<'_>,
        manifest: &Descriptor,
    ) -> Result<bool, ItemError> {
        if is_index_type(&manifest.media_type) && !copy.filter.trusts_an_index() {
            return Ok(false);
        }
        if self.state.has_manifest(copy.to, &manifest.digest) {
            return Ok(true);
        }
        if self.state.is_absent(copy.to) {
            return Ok(false);
        }
        let claimed = self
            .writable_target(copy.to)?
            .claim_manifest(copy.to, &manifest.digest)
            .await;
        match claimed {
            // Artifactory answers so for what does not exist. The write shows if it is allowed.
            Err(error) if error.kind == ItemErrorKind::Forbidden => Ok(false),
            claimed => claimed.map_err(at(Side::Target)),
        }
    }

    /// Copies the content that `manifest` refers to. Of an index, only the children in `kept`.
    pub(super) fn copy_parts<'a>(
        &'a self,
        copy: &'a ImageCopy<'a>,
        manifest: &'a Manifest,
        kept: &'a KeptChildren,
        depth: usize,
    ) -> BoxFuture<'a, Result<(), ItemError>> {
        async move {
            match &manifest.content {
                ManifestContent::Index { children } => {
                    if depth >= MAX_INDEX_NESTING {
                        return Err(too_deep(Side::Source, copy.from, &manifest.digest));
                    }
                    let mut visited = HashSet::new();
                    let children = children.iter().filter(|child| {
                        kept.contains(&child.digest) && visited.insert(&child.digest)
                    });
                    let copies: Vec<_> = children
                        .map(|child| self.copy_child(copy, child, kept, depth).boxed())
                        .collect();
                    stream::iter(copies)
                        .buffer_unordered(PARALLEL_PARTS)
                        .try_collect::<()>()
                        .await
                }
                ManifestContent::Image { .. } => {
                    let mut blobs = manifest.blobs();
                    // Large blobs first, so that the copy does not end with a long one.
                    blobs.sort_by_key(|blob| Reverse(blob.size));
                    let bytes = blobs.iter().map(|blob| blob.size).sum();
                    self.progress.event(Event::Expected {
                        item: copy.item,
                        bytes,
                    });
                    let copies: Vec<_> = blobs
                        .into_iter()
                        .map(|blob| self.copy_blob(copy, blob).boxed())
                        .collect();
                    stream::iter(copies)
                        .buffer_unordered(PARALLEL_PARTS)
                        .try_collect::<()>()
                        .await
                }
            }
        }
        .boxed()
    }

    /// Copies a child of an index, unless the target has it or another copy handles it.
    pub(super) async fn copy_child(
        &self,
        copy: &ImageCopy<'_>,
        child: &Descriptor,
        kept: &KeptChildren,
        depth: usize,
    ) -> Result<(), ItemError> {
        if is_index_type(&child.media_type) && !copy.filter.trusts_an_index() {
            let once = copy.index(&child.digest);
            return once
                .get_or_try_init(|| self.copy_missing_child(copy, child, kept, depth))
                .await
                .copied();
        }
        let once = self.state.manifest(copy.to, &child.digest);
        once.get_or_try_init(|| async {
            if self.is_whole_at_target(copy, child).await? {
                return Ok(());
            }
            self.copy_missing_child(copy, child, kept, depth).await
        })
        .await
        .copied()
    }

    /// Copies a child of an index that the target lacks.
    pub(super) async fn copy_missing_child(
        &self,
        copy: &ImageCopy<'_>,
        child: &Descriptor,
        kept: &KeptChildren,
        depth: usize,
    ) -> Result<(), ItemError> {
        if let Some(rewritten) = kept.rewritten(&child.digest) {
            self.copy_parts(copy, rewritten, kept, depth + 1).await?;
            return self.put_child(copy, rewritten).await;
        }
        let reference = Reference::Digest(child.digest.clone());
        match self.source_manifest(copy.from, &reference).await {
            Ok(Some(manifest)) => {
                self.copy_parts(copy, &manifest, kept, depth + 1).await?;
                self.put_child(copy, &manifest).await
            }
            Ok(None) if may_be_blob(child) => self.copy_blob(copy, child).await,
            Err(error) if may_be_blob(child) && error.kind == ItemErrorKind::Malformed => {
                self.copy_blob(copy, child).await
            }
            Ok(None) => Err(child_missing(copy.from, &child.digest)),
            Err(error) => Err(at(Side::Source)(error)),
        }
    }

    /// Stores a manifest at the target by its digest.
    pub(super) async fn put_child(
        &self,
        copy: &ImageCopy<'_>,
        manifest: &Manifest,
    ) -> Result<(), ItemError> {
        let reference = Reference::Digest(manifest.digest.clone());
        self.put_manifest(copy.to, &reference, manifest).await
    }

    /// Copies a blob. A foreign layer may be missing at the source.
    pub(super) async fn copy_blob(
        &self,
        copy: &ImageCopy<'_>,
        blob: &Descriptor,
    ) -> Result<(), ItemError> {
        match self.deliver(copy, blob).await {
            Err(error)
                if error.side == Some(Side::Source)
                    && error.kind == ItemErrorKind::Absent
                    && may_be_left_out(blob) =>
            {
                copy.warn(format!(
                    "foreign layer {} is not at the source; its descriptor was kept",
                    blob.digest.short()
                ));
                self.progress.event(Event::Moved {
                    item: copy.item,
                    bytes: blob.size,
                });
                Ok(())
            }
            result => result,
        }
    }
}
