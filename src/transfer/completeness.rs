//! Whether everything that an image at the target refers to is really there, and bringing what is not.
//!
//! A registry can lose parts of an image whose tag still resolves: by a clean-up gone wrong, or a proxy that never had them.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::error::{CopyError, at};
use super::platforms::{self, Kept, PlatformFilter};
use super::{Copied, Copy, PARALLEL_PARTS, Tally, Transfer, may_be_blob, may_be_left_out};
use crate::error::Side;
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

impl Transfer {
    /// Returns the digests of what the image refers to, directly or not, and the target does not have. Reads only the target.
    pub async fn missing(&self, request: &CompletenessRequest<'_>) -> Result<Vec<Digest>, CopyError> {
        self.walk(request, OnMissing::Note).await.map(|(_, _, missing)| missing)
    }

    /// Brings what the image refers to and the target does not have from the source, by digest. The tag is not touched.
    pub async fn repair(&self, request: &CompletenessRequest<'_>) -> Result<Copied, CopyError> {
        let (digest, tally, missing) = self.walk(request, OnMissing::Bring).await?;
        let warnings = missing.first().map(|first| format!("missing parts: {}, the first is {}", missing.len(), first.short()));
        Ok(Copied { source_digest: digest.clone(), digest, tally, attachments: 0, warnings: warnings.into_iter().collect() })
    }

    async fn walk(&self, request: &CompletenessRequest<'_>, then: OnMissing) -> Result<(Digest, Tally, Vec<Digest>), CopyError> {
        let reference = Reference::Tag(request.tag.clone());
        let root = self.target.manifest(request.to, &reference).await.map_err(at(Side::Target))?;
        let root = root.ok_or_else(|| CopyError::Absent { side: Side::Target, repository: request.to.clone(), reference })?;
        let digest = root.digest.clone();
        let copy = Copy::new(request.item, request.from, request.to, request.filter);
        // A rewritten index has only what is wanted. One that was left sparse has more, and what that is can be read at the source.
        let kept = match request.filter {
            PlatformFilter::Only { .. } if !request.filter.trusts_an_index() => {
                platforms::apply(&*self.source, request.from, root.clone(), request.filter).await?.kept
            }
            _ => Kept::default(),
        };
        let missing = self.look_into(&copy, &root, &kept, then).await?;
        Ok((digest, copy.tally(), missing))
    }

    fn look_into<'a>(
        &'a self,
        copy: &'a Copy<'a>,
        manifest: &'a Manifest,
        kept: &'a Kept,
        then: OnMissing,
    ) -> BoxFuture<'a, Result<Vec<Digest>, CopyError>> {
        async move {
            let parts: Vec<_> = match &manifest.content {
                ManifestContent::Index { children } => {
                    let children = children.iter().filter(|child| kept.keeps(&child.digest));
                    children.map(|child| self.look_at_child(copy, child, kept, then).boxed()).collect()
                }
                ManifestContent::Image { .. } => {
                    manifest.blobs().into_iter().map(|blob| self.look_at_blob(copy, blob, then).boxed()).collect()
                }
            };
            let missing: Vec<Vec<Digest>> = stream::iter(parts).buffered(PARALLEL_PARTS).try_collect().await?;
            Ok(missing.concat())
        }
        .boxed()
    }

    async fn look_at_child(&self, copy: &Copy<'_>, child: &Descriptor, kept: &Kept, then: OnMissing) -> Result<Vec<Digest>, CopyError> {
        let reference = Reference::Digest(child.digest.clone());
        match self.target.manifest(copy.to, &reference).await.map_err(at(Side::Target))? {
            Some(manifest) => self.look_into(copy, &manifest, kept, then).await,
            None if may_be_blob(child) => self.look_at_blob(copy, child, then).await,
            None => {
                if then == OnMissing::Bring {
                    self.bring_child(copy, child, kept, 1).await?;
                }
                Ok(vec![child.digest.clone()])
            }
        }
    }

    async fn look_at_blob(&self, copy: &Copy<'_>, blob: &Descriptor, then: OnMissing) -> Result<Vec<Digest>, CopyError> {
        if may_be_left_out(blob) || self.target.has_blob(copy.to, blob).await.map_err(at(Side::Target))? {
            return Ok(Vec::new());
        }
        if then == OnMissing::Bring {
            self.copy_blob(copy, blob).await?;
        }
        Ok(vec![blob.digest.clone()])
    }
}
