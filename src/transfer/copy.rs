//! Copying an image and setting its tag.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use super::context::{ImageCopy, PARALLEL_PARTS, Transfer};
use super::digest_cache::rewritten_key;
use super::error::{at, tag_moved};
use super::platform_filter::PlatformFilter;
use super::platforms;
use super::request::{
    Attachments, COPIED_BY_ANOTHER_RUN, CopiedImage, CopyRequest, ExpectedTag, UpcomingCopy,
};
use crate::error::{ItemError, ItemErrorKind, Side};
use crate::model::{Descriptor, Digest, Manifest, Reference, Repository, Tag};

/// Duration of a run after which every copy checks its tag again before setting it.
const LONG_RUN: Duration = Duration::from_secs(300);

impl Transfer {
    /// Copies one image and sets the tag, as the last step.
    ///
    /// Deletes nothing at the target. Until the last step, no tag at the target changes. The last
    /// step fails if the tag is not as expected any more. Dropping the future leaves at most blobs
    /// and manifests without a tag.
    pub async fn copy(&self, request: CopyRequest<'_>) -> Result<CopiedImage, ItemError> {
        let began = Instant::now();
        let copy = ImageCopy::new(request.item, request.from, request.to, request.filter);
        let root = self
            .required_source_manifest(request.from, &request.reference)
            .await?;
        let source_digest = root.digest.clone();
        let filtered = platforms::apply(self, request.from, root, request.filter).await?;
        for warning in filtered.warnings {
            copy.warn(warning);
        }
        let digest = filtered.root.digest.clone();
        if let Some(key) = rewritten_key(&source_digest, request.filter) {
            self.cache.put(&key, digest.as_str());
        }
        // If another tag of the same image was copied already, only this tag is missing.
        if !self
            .is_whole_at_target(&copy, &filtered.root.descriptor())
            .await?
        {
            self.copy_parts(&copy, &filtered.root, &filtered.kept, 0)
                .await?;
        }
        let mut attached = None;
        let attachments = match request.attachments {
            Attachments::Skip => 0,
            Attachments::Copy { source_tags } => {
                let rewritten = (digest != source_digest).then_some(&digest);
                let image = self
                    .attached_image(request.to, &filtered.root, &filtered.kept)
                    .await?;
                let found = self
                    .find_attachments(&copy, &image, rewritten, source_tags)
                    .await?;
                if !found.is_empty() {
                    // Attachments need their subject at the target.
                    self.put_child(&copy, &filtered.root).await?;
                }
                let attachments = self.copy_attachments(&copy, found, source_tags).await?;
                attached = Some((image, source_tags));
                attachments
            }
        };
        let is_late = began.elapsed() >= self.long_copy || self.began.elapsed() >= LONG_RUN;
        let checks_tag = is_late || request.expected != ExpectedTag::Absent;
        if checks_tag
            && self
                .is_tagged(request.to, request.tag, request.expected, &digest)
                .await?
        {
            copy.warn(COPIED_BY_ANOTHER_RUN.to_owned());
        } else {
            self.put_tag(&request, &filtered.root).await?;
        }
        self.state.record_manifest(request.to, &digest);
        if let Some((image, source_tags)) = attached {
            self.cache_attachments(request.from, request.to, request.tag, image, source_tags);
        }
        let bytes = copy.bytes();
        Ok(CopiedImage {
            source_digest,
            digest,
            bytes,
            attachments,
            warnings: copy.into_warnings(),
        })
    }

    /// Returns true if a tag at the target names the `wanted` digest already.
    ///
    /// Fails if it names another digest than the expected one.
    pub async fn is_tagged(
        &self,
        repository: &Repository,
        tag: &Tag,
        expected: ExpectedTag<'_>,
        wanted: &Digest,
    ) -> Result<bool, ItemError> {
        let found = self
            .target_digest(repository, &Reference::Tag(tag.clone()))
            .await?;
        match (found, expected) {
            (None, _) => Ok(false),
            (Some(found), _) if found.digest == *wanted => Ok(true),
            (Some(found), ExpectedTag::Image(digest)) if found.digest == *digest => Ok(false),
            (Some(found), expected) => {
                let from = match expected {
                    ExpectedTag::Image(digest) => Some(digest),
                    _ => None,
                };
                Err(tag_moved(repository, tag, from, &found.digest))
            }
        }
    }

    async fn put_tag(&self, request: &CopyRequest<'_>, root: &Manifest) -> Result<(), ItemError> {
        let reference = Reference::Tag(request.tag.clone());
        let put = self
            .writable_target(request.to)?
            .put_manifest(request.to, &reference, root)
            .await;
        let Err(error) = put else {
            return Ok(());
        };
        // An immutable tag that names this image already is not a failure.
        let refused = matches!(
            error.kind,
            ItemErrorKind::Refused | ItemErrorKind::Forbidden | ItemErrorKind::Unsupported
        );
        let found = if refused {
            let target = self.target.of(request.to);
            target.resolve(request.to, &reference).await.ok().flatten()
        } else {
            None
        };
        match found {
            Some(found) if found.digest == root.digest => Ok(()),
            _ => Err(at(Side::Target)(explained(error, root, request.filter))),
        }
    }

    /// Sets another tag for the image `digest` in a repository of the target.
    pub async fn retag(
        &self,
        repository: &Repository,
        digest: &Digest,
        tag: &Tag,
    ) -> Result<(), ItemError> {
        let manifest = self
            .required_target_manifest(repository, Reference::Digest(digest.clone()))
            .await?;
        self.put_manifest(repository, &Reference::Tag(tag.clone()), &manifest)
            .await
    }

    /// Returns the digest that a tag has at a target that is up to date: the digest that `filter`
    /// gives the image `source`. Copies nothing.
    pub async fn expected_digest(
        &self,
        from: &Repository,
        source: &Digest,
        filter: &PlatformFilter,
    ) -> Result<Digest, ItemError> {
        let Some(key) = rewritten_key(source, filter) else {
            return Ok(source.clone());
        };
        if let Some(digest) = self.cache.get(&key).and_then(|text| text.parse().ok()) {
            return Ok(digest);
        }
        let root = self
            .required_source_manifest(from, &Reference::Digest(source.clone()))
            .await?;
        let digest = platforms::apply(self, from, root, filter)
            .await?
            .root
            .digest;
        self.cache.put(&key, digest.as_str());
        Ok(digest)
    }

    /// Reads the manifests that the copy of an image begins with: the image itself, and the wanted
    /// platforms if the target repository did not exist when the run began.
    ///
    /// Returns true if the image could be read. If not, the copy reports the reason.
    pub async fn prefetch(&self, upcoming: &UpcomingCopy<'_>) -> bool {
        let UpcomingCopy {
            from,
            reference,
            to,
            filter,
        } = upcoming;
        let Some(root) = self.prefetch.read(&self.source, from, reference).await else {
            return false;
        };
        if self.state.is_absent(to) {
            let wanted = |child: &&Descriptor| match filter {
                PlatformFilter::All => true,
                PlatformFilter::Only { platforms, .. } => {
                    child.platform.as_ref().is_some_and(|platform| {
                        platforms.iter().any(|wanted| wanted.matches(platform))
                    })
                }
            };
            let children = root.children().unwrap_or_default().iter().filter(wanted);
            let children = children
                .filter(|child| !self.state.has_started(to, &child.digest))
                .map(|child| child.digest.clone().into());
            let children: Vec<Reference> = children.collect();
            stream::iter(&children)
                .for_each_concurrent(PARALLEL_PARTS, |child| async move {
                    self.prefetch.read(&self.source, from, child).await;
                })
                .await;
        }
        true
    }
}

/// Returns the error of storing an image, with a hint if the filter asked for an index that some
/// registries reject.
fn explained(error: ItemError, root: &Manifest, filter: &PlatformFilter) -> ItemError {
    let refused = matches!(error.kind, ItemErrorKind::Refused | ItemErrorKind::Absent);
    if refused && root.children().is_some() && !filter.trusts_an_index() {
        let hint = "some registries refuse an index without all of its platforms; use `platform_mode: rewrite`";
        return error.with_optional_hint(Some(hint.to_owned()));
    }
    error
}
