//! Finding and repairing missing parts of images at the target.
//!
//! A registry can lack parts of an image whose tag still resolves: after a faulty cleanup, or behind
//! a proxy that never had them.

use std::collections::HashSet;
use std::sync::Mutex;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::context::{ImageCopy, PARALLEL_PARTS, Transfer};
use super::descriptors::{may_be_blob, may_be_left_out};
use super::error::{at, too_deep};
use super::platform_filter::PlatformFilter;
use super::platforms::{self, KeptChildren};
use super::request::{CopiedBytes, CopiedImage};
use crate::error::{ItemError, Side};
use crate::model::lock::lock;
use crate::model::manifest::MAX_INDEX_NESTING;
use crate::model::{Descriptor, Digest, Manifest, ManifestContent, Reference, Repository, Tag};

/// An image at the target to check.
pub struct CompletenessRequest<'a> {
    /// Name of the item in progress events.
    pub item: &'a str,
    /// Repository that missing parts are copied from.
    pub from: &'a Repository,
    pub to: &'a Repository,
    pub tag: &'a Tag,
    pub filter: &'a PlatformFilter,
}

/// Action for a missing part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnMissing {
    Report,
    Repair,
}

/// A walk through one image. Indexes may list the same content any number of times; each digest is
/// checked once.
struct CompletenessWalk<'a> {
    copy: ImageCopy<'a>,
    kept: KeptChildren,
    on_missing: OnMissing,
    manifests: Mutex<HashSet<Digest>>,
    blobs: Mutex<HashSet<Digest>>,
}

impl Transfer {
    /// Returns the digests that the image refers to, directly or not, and that the target lacks.
    /// Only reads the target.
    pub async fn missing_parts(
        &self,
        request: &CompletenessRequest<'_>,
    ) -> Result<Vec<Digest>, ItemError> {
        self.walk(request, OnMissing::Report)
            .await
            .map(|(_, _, missing)| missing)
    }

    /// Copies missing parts of the image from the source, by digest. The tag does not change.
    pub async fn repair(
        &self,
        request: &CompletenessRequest<'_>,
    ) -> Result<CopiedImage, ItemError> {
        let (digest, bytes, missing) = self.walk(request, OnMissing::Repair).await?;
        let warnings = missing.first().map(|first| {
            format!(
                "missing parts: {}, the first is {}",
                missing.len(),
                first.short()
            )
        });
        Ok(CopiedImage {
            source_digest: digest.clone(),
            digest,
            bytes,
            attachments: 0,
            warnings: warnings.into_iter().collect(),
        })
    }

    async fn walk(
        &self,
        request: &CompletenessRequest<'_>,
        on_missing: OnMissing,
    ) -> Result<(Digest, CopiedBytes, Vec<Digest>), ItemError> {
        let root = self
            .required_target_manifest(request.to, Reference::Tag(request.tag.clone()))
            .await?;
        let digest = root.digest.clone();
        let copy = ImageCopy::new(request.item, request.from, request.to, request.filter);
        // A rewritten index has only the wanted platforms. A sparse one lists more; reading the
        // source shows which of them are wanted.
        let kept = match request.filter {
            PlatformFilter::Only { .. } if !request.filter.trusts_an_index() => {
                platforms::apply(self, request.from, root.clone(), request.filter)
                    .await?
                    .kept
            }
            _ => KeptChildren::default(),
        };
        let walk = CompletenessWalk {
            copy,
            kept,
            on_missing,
            manifests: Mutex::default(),
            blobs: Mutex::default(),
        };
        let missing = self.check_manifest(&walk, &root, 0).await?;
        Ok((digest, walk.copy.bytes(), missing))
    }

    fn check_manifest<'a>(
        &'a self,
        walk: &'a CompletenessWalk<'a>,
        manifest: &'a Manifest,
        depth: usize,
    ) -> BoxFuture<'a, Result<Vec<Digest>, ItemError>> {
        async move {
            let parts: Vec<_> = match &manifest.content {
                ManifestContent::Index { .. } if depth >= MAX_INDEX_NESTING => {
                    return Err(too_deep(Side::Target, walk.copy.to, &manifest.digest));
                }
                ManifestContent::Index { children } => {
                    let children = children
                        .iter()
                        .filter(|child| walk.kept.contains(&child.digest));
                    children
                        .map(|child| self.check_child(walk, child, depth).boxed())
                        .collect()
                }
                ManifestContent::Image { .. } => manifest
                    .blobs()
                    .into_iter()
                    .map(|blob| self.check_blob(walk, blob).boxed())
                    .collect(),
            };
            let missing: Vec<Vec<Digest>> = stream::iter(parts)
                .buffered(PARALLEL_PARTS)
                .try_collect()
                .await?;
            Ok(missing.concat())
        }
        .boxed()
    }

    async fn check_child(
        &self,
        walk: &CompletenessWalk<'_>,
        child: &Descriptor,
        depth: usize,
    ) -> Result<Vec<Digest>, ItemError> {
        if !first_time(&walk.manifests, &child.digest) {
            return Ok(Vec::new());
        }
        let reference = Reference::Digest(child.digest.clone());
        match self.target_manifest(walk.copy.to, &reference).await? {
            Some(manifest) => self.check_manifest(walk, &manifest, depth + 1).await,
            None if may_be_blob(child) => self.check_blob(walk, child).await,
            None => {
                if walk.on_missing == OnMissing::Repair {
                    self.copy_missing_child(&walk.copy, child, &walk.kept, depth)
                        .await?;
                }
                Ok(vec![child.digest.clone()])
            }
        }
    }

    async fn check_blob(
        &self,
        walk: &CompletenessWalk<'_>,
        blob: &Descriptor,
    ) -> Result<Vec<Digest>, ItemError> {
        if may_be_left_out(blob) || !first_time(&walk.blobs, &blob.digest) {
            return Ok(Vec::new());
        }
        if self
            .target
            .of(walk.copy.to)
            .has_blob(walk.copy.to, blob)
            .await
            .map_err(at(Side::Target))?
        {
            return Ok(Vec::new());
        }
        if walk.on_missing == OnMissing::Repair {
            self.copy_blob(&walk.copy, blob).await?;
        }
        Ok(vec![blob.digest.clone()])
    }
}

/// Records a digest. Returns true if it was not recorded before.
fn first_time(visited: &Mutex<HashSet<Digest>>, digest: &Digest) -> bool {
    lock(visited).insert(digest.clone())
}
