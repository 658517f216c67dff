//! Whether everything that an image at the target refers to is really there, and bringing what is
//! not.
//!
//! A registry can lose parts of an image whose tag still resolves: by a clean-up gone wrong, or a
//! proxy that never had them.

use std::collections::HashSet;
use std::sync::Mutex;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::error::{CopyError, at};
use super::platforms::{self, Kept, PlatformFilter};
use super::{Copied, Copy, PARALLEL_PARTS, Tally, Transfer, may_be_blob, may_be_left_out};
use crate::error::Side;
use crate::model::lock::lock;
use crate::model::manifest::MAX_INDEX_NESTING;
use crate::model::{Descriptor, Digest, Manifest, ManifestContent, Reference, Repository, Tag};

/// An image at the target that is looked into.
pub struct CompletenessRequest<'a> {
    /// How progress names it.
    pub item: &'a str,
    /// Where what is missing is brought from.
    pub from: &'a Repository,
    pub to: &'a Repository,
    pub tag: &'a Tag,
    pub filter: &'a PlatformFilter,
}

/// What the walk does with something that is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnMissing {
    Note,
    Bring,
}

/// A walk through one image. Indexes may name the same things any number of times: each is looked
/// at once.
struct Walk<'a> {
    copy: Copy<'a>,
    kept: Kept,
    then: OnMissing,
    manifests: Mutex<HashSet<Digest>>,
    blobs: Mutex<HashSet<Digest>>,
}

impl Transfer {
    /// Returns the digests of what the image refers to, directly or not, and the target does not
    /// have. Reads only the target.
    pub async fn missing(
        &self,
        request: &CompletenessRequest<'_>,
    ) -> Result<Vec<Digest>, CopyError> {
        self.walk(request, OnMissing::Note)
            .await
            .map(|(_, _, missing)| missing)
    }

    /// Brings what the image refers to and the target does not have from the source, by digest. The
    /// tag is not touched.
    pub async fn repair(&self, request: &CompletenessRequest<'_>) -> Result<Copied, CopyError> {
        let (digest, tally, missing) = self.walk(request, OnMissing::Bring).await?;
        let warnings = missing.first().map(|first| {
            format!(
                "missing parts: {}, the first is {}",
                missing.len(),
                first.short()
            )
        });
        Ok(Copied {
            source_digest: digest.clone(),
            digest,
            tally,
            attachments: 0,
            warnings: warnings.into_iter().collect(),
        })
    }

    async fn walk(
        &self,
        request: &CompletenessRequest<'_>,
        then: OnMissing,
    ) -> Result<(Digest, Tally, Vec<Digest>), CopyError> {
        let root = self.root_at_target(request.to, request.tag).await?;
        let digest = root.digest.clone();
        let copy = Copy::new(request.item, request.from, request.to, request.filter);
        // A rewritten index has only what is wanted. One that was left sparse has more, and what
        // that is can be read at the source.
        let kept = match request.filter {
            PlatformFilter::Only { .. } if !request.filter.trusts_an_index() => {
                platforms::apply(&*self.source, request.from, root.clone(), request.filter)
                    .await?
                    .kept
            }
            _ => Kept::default(),
        };
        let walk = Walk {
            copy,
            kept,
            then,
            manifests: Mutex::default(),
            blobs: Mutex::default(),
        };
        let missing = self.look_into(&walk, &root, 0).await?;
        Ok((digest, walk.copy.tally(), missing))
    }

    fn look_into<'a>(
        &'a self,
        walk: &'a Walk<'a>,
        manifest: &'a Manifest,
        depth: usize,
    ) -> BoxFuture<'a, Result<Vec<Digest>, CopyError>> {
        async move {
            let parts: Vec<_> = match &manifest.content {
                ManifestContent::Index { .. } if depth >= MAX_INDEX_NESTING => {
                    return Err(CopyError::TooDeep {
                        digest: manifest.digest.clone(),
                    });
                }
                ManifestContent::Index { children } => {
                    let children = children
                        .iter()
                        .filter(|child| walk.kept.keeps(&child.digest));
                    children
                        .map(|child| self.look_at_child(walk, child, depth).boxed())
                        .collect()
                }
                ManifestContent::Image { .. } => manifest
                    .blobs()
                    .into_iter()
                    .map(|blob| self.look_at_blob(walk, blob).boxed())
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

    async fn look_at_child(
        &self,
        walk: &Walk<'_>,
        child: &Descriptor,
        depth: usize,
    ) -> Result<Vec<Digest>, CopyError> {
        if !first_time(&walk.manifests, &child.digest) {
            return Ok(Vec::new());
        }
        let reference = Reference::Digest(child.digest.clone());
        match self
            .target
            .manifest(walk.copy.to, &reference)
            .await
            .map_err(at(Side::Target))?
        {
            Some(manifest) => self.look_into(walk, &manifest, depth + 1).await,
            None if may_be_blob(child) => self.look_at_blob(walk, child).await,
            None => {
                if walk.then == OnMissing::Bring {
                    self.bring_child(&walk.copy, child, &walk.kept, depth)
                        .await?;
                }
                Ok(vec![child.digest.clone()])
            }
        }
    }

    async fn look_at_blob(
        &self,
        walk: &Walk<'_>,
        blob: &Descriptor,
    ) -> Result<Vec<Digest>, CopyError> {
        if may_be_left_out(blob) || !first_time(&walk.blobs, &blob.digest) {
            return Ok(Vec::new());
        }
        if self
            .target
            .has_blob(walk.copy.to, blob)
            .await
            .map_err(at(Side::Target))?
        {
            return Ok(Vec::new());
        }
        if walk.then == OnMissing::Bring {
            self.copy_blob(&walk.copy, blob).await?;
        }
        Ok(vec![blob.digest.clone()])
    }
}

fn first_time(looked_at: &Mutex<HashSet<Digest>>, digest: &Digest) -> bool {
    lock(looked_at).insert(digest.clone())
}
