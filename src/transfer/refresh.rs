//! Attachments of images that are at the target already. Signatures are added and changed after an
//! image was copied.

use std::collections::{BTreeSet, HashSet};

use super::attachments::CosignTagState;
use super::context::{ImageCopy, Transfer};
use super::digest_cache::{AttachedImage, attached_key};
use super::error::at;
use super::platform_filter::PlatformFilter;
use super::platforms::KeptChildren;
use super::request::CopiedImage;
use crate::error::{ItemError, Side};
use crate::model::{Digest, Manifest, Reference, Repository, Tag};
use crate::registry::Referrers;

/// An image at the target whose attachments are kept up to date.
pub struct RefreshRequest<'a> {
    /// Name of the item in progress events.
    pub item: &'a str,
    pub from: &'a Repository,
    pub to: &'a Repository,
    /// Tag of the image at the target.
    pub tag: &'a Tag,
    /// Digest of the tag at the target, if known.
    pub digest: Option<&'a Digest>,
    /// Tags of the source that can be attachment tags.
    pub source_tags: &'a BTreeSet<Tag>,
    /// Tags of the target.
    pub target_tags: &'a BTreeSet<Tag>,
    pub check: AttachmentCheck,
}

/// Depth of the check for new attachments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachmentCheck {
    /// Only search the tag listings for new attachment tags of the source. Costs no request if the
    /// source has none, or if the cache has the image.
    TagListings,
    /// Also compare the content of attachment tags and the referrers that the registries list.
    Content,
}

/// State of an image's attachments at the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachmentState {
    /// True if the source has attachments that the target lacks and accepts.
    pub is_outdated: bool,
    /// Attachments that the target lacks and that cannot be copied.
    pub warnings: Vec<String>,
}

impl AttachmentState {
    const OUTDATED: AttachmentState = AttachmentState {
        is_outdated: true,
        warnings: Vec::new(),
    };
}

impl Transfer {
    /// Reports if the source has attachments of the image that the target lacks. Only reads.
    pub async fn attachment_state(
        &self,
        request: &RefreshRequest<'_>,
    ) -> Result<AttachmentState, ItemError> {
        if request.check == AttachmentCheck::TagListings && request.source_tags.is_empty() {
            return Ok(AttachmentState::default());
        }
        if self.has_nothing_to_attach(request).await? {
            return Ok(AttachmentState::default());
        }
        let image = self.cached_image(request).await?;
        let is_new = |tag: &Tag| !image.handled.contains(tag) && !request.target_tags.contains(tag);
        if image.tags_in(request.source_tags).iter().any(is_new) {
            return Ok(AttachmentState::OUTDATED);
        }
        if request.check == AttachmentCheck::TagListings {
            return Ok(AttachmentState::default());
        }
        let mut state = AttachmentState::default();
        for subject in &image.subjects {
            if self
                .is_outdated(request, subject, &mut state.warnings)
                .await?
            {
                return Ok(AttachmentState::OUTDATED);
            }
        }
        Ok(state)
    }

    /// Copies the attachments of the image. The tag of the image does not change.
    pub async fn refresh_attachments(
        &self,
        request: &RefreshRequest<'_>,
    ) -> Result<CopiedImage, ItemError> {
        let filter = PlatformFilter::All;
        let copy = ImageCopy::new(request.item, request.from, request.to, &filter);
        let root = self
            .required_target_manifest(request.to, Reference::Tag(request.tag.clone()))
            .await?;
        let image = self
            .attached_image(request.to, &root, &KeptChildren::default())
            .await?;
        let found = self
            .find_attachments(&copy, &image, None, request.source_tags)
            .await?;
        let attachments = self
            .copy_attachments(&copy, found, request.source_tags)
            .await?;
        self.cache_attachments(
            request.from,
            request.to,
            request.tag,
            image,
            request.source_tags,
        );
        Ok(CopiedImage {
            source_digest: root.digest.clone(),
            digest: root.digest,
            bytes: copy.bytes(),
            attachments,
            warnings: copy.into_warnings(),
        })
    }

    /// Records in the cache that the attachments of an image in `source_tags` were copied.
    pub(super) fn cache_attachments(
        &self,
        from: &Repository,
        to: &Repository,
        tag: &Tag,
        mut image: AttachedImage,
        source_tags: &BTreeSet<Tag>,
    ) {
        image.handled = image.tags_in(source_tags);
        self.cache
            .put(&attached_key(from, to, tag), &image.to_string());
    }

    /// Returns true if the source has no attachment tags and lists no referrers, so that no image of
    /// it has attachments.
    ///
    /// It saves reading the image at the target, which registries take for a pull. The answer is
    /// that of the host. A source that lists referrers is asked for those of the image once more
    /// later, so an image in the cache needs no answer here.
    async fn has_nothing_to_attach(&self, request: &RefreshRequest<'_>) -> Result<bool, ItemError> {
        let (true, Some(digest)) = (request.source_tags.is_empty(), request.digest) else {
            return Ok(false);
        };
        if self.in_cache(request).is_some() {
            return Ok(false);
        }
        let (referrers, _) = self.source_referrers(request.from, digest).await?;
        Ok(referrers == Referrers::NotListed)
    }

    /// Returns the image of the request, if the cache has it.
    fn in_cache(&self, request: &RefreshRequest<'_>) -> Option<AttachedImage> {
        let key = attached_key(request.from, request.to, request.tag);
        let image: AttachedImage = self.cache.get(&key)?.parse().ok()?;
        let is_current = request.digest.is_none_or(|digest| image.root == *digest);
        is_current.then_some(image)
    }

    async fn cached_image(&self, request: &RefreshRequest<'_>) -> Result<AttachedImage, ItemError> {
        let key = attached_key(request.from, request.to, request.tag);
        if let Some(image) = self.in_cache(request) {
            return Ok(image);
        }
        let root = self
            .required_target_manifest(request.to, Reference::Tag(request.tag.clone()))
            .await?;
        let mut image = self
            .attached_image(request.to, &root, &KeptChildren::default())
            .await?;
        // Attachment tags at the target were copied. Those that it lacks are new.
        image.handled = image
            .tags_in(request.source_tags)
            .into_iter()
            .filter(|tag| request.target_tags.contains(tag))
            .collect();
        self.cache.put(&key, &image.to_string());
        Ok(image)
    }

    async fn is_outdated(
        &self,
        request: &RefreshRequest<'_>,
        subject: &Digest,
        warnings: &mut Vec<String>,
    ) -> Result<bool, ItemError> {
        let filter = PlatformFilter::All;
        let copy = ImageCopy::new(request.item, request.from, request.to, &filter);
        let attached = self
            .attachments_at_source(&copy, subject, request.source_tags)
            .await?;
        if !attached.referrers.is_empty() {
            let present = self.referrers_at_target(request.to, subject).await?;
            if attached
                .referrers
                .iter()
                .any(|referrer| !present.contains(&referrer.digest))
            {
                return Ok(true);
            }
        }
        for tag in attached.cosign_tags {
            let reference = Reference::Tag(tag.clone());
            let (source, target) = futures_util::join!(
                self.source
                    .of(request.from)
                    .resolve(request.from, &reference),
                self.target_digest(request.to, &reference)
            );
            let (source, target) = (source.map_err(at(Side::Source))?, target?);
            // A tag that upstream has deleted since is not outdated.
            let Some(source) = source.filter(|source| {
                target
                    .as_ref()
                    .is_none_or(|target| target.digest != source.digest)
            }) else {
                continue;
            };
            let theirs = self
                .required_source_manifest(request.from, &Reference::Digest(source.digest))
                .await?;
            match self
                .cosign_tag_state(request.from, request.to, &tag, &theirs)
                .await?
            {
                CosignTagState::Outdated => return Ok(true),
                CosignTagState::Same | CosignTagState::Superset => {}
                CosignTagState::Diverged { warning } => warnings.push(warning),
            }
        }
        Ok(false)
    }

    async fn referrers_at_target(
        &self,
        to: &Repository,
        subject: &Digest,
    ) -> Result<HashSet<Digest>, ItemError> {
        let mut listed = match self
            .target
            .of(to)
            .referrers(to, subject)
            .await
            .map_err(at(Side::Target))?
        {
            Referrers::Listed(referrers) => {
                return Ok(referrers
                    .into_iter()
                    .map(|referrer| referrer.digest)
                    .collect());
            }
            Referrers::Partial(referrers) => referrers,
            Referrers::NotListed => Vec::new(),
        };
        let reference = Reference::Tag(Tag::of_referrers(subject));
        let list = self.target_manifest(to, &reference).await?;
        listed.extend(
            list.as_ref()
                .and_then(Manifest::children)
                .unwrap_or_default()
                .iter()
                .cloned(),
        );
        Ok(listed.into_iter().map(|referrer| referrer.digest).collect())
    }
}
