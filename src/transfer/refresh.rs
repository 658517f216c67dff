//! Attachments of images that are at the target already: signatures are added, and change, after
//! the image was copied.

use std::collections::{BTreeSet, HashSet};

use super::attachments::Standing;
use super::error::{CopyError, at};
use super::memory::{AttachedImage, attached_image};
use super::platforms::{Kept, PlatformFilter};
use super::{Copied, Copy, Transfer};
use crate::error::Side;
use crate::model::{Digest, Manifest, Reference, Repository, Tag};
use crate::registry::Referrers;

/// An image at the target whose attachments are looked after.
pub struct RefreshRequest<'a> {
    /// How progress names it.
    pub item: &'a str,
    pub from: &'a Repository,
    pub to: &'a Repository,
    /// Its tag at the target.
    pub tag: &'a Tag,
    /// The digest that the tag has there, where that is known.
    pub digest: Option<&'a Digest>,
    /// The tags of the source that attachments can have.
    pub source_tags: &'a BTreeSet<Tag>,
    /// The tags that the target has.
    pub target_tags: &'a BTreeSet<Tag>,
    pub looks: Looks,
}

/// How closely attachments are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// Only whether the source's listing has tags for attachments that were not there before. Costs
    /// nothing where it has none, or where an earlier run is remembered.
    AtListings,
    /// Also whether attachments changed, and at those that the registry lists.
    AtEach,
}

/// What was found of an image's attachments at the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Whether the source has some that the target lacks and takes.
    pub is_behind: bool,
    /// What the target lacks, and does not take.
    pub warnings: Vec<String>,
}

impl Lag {
    const BEHIND: Lag = Lag {
        is_behind: true,
        warnings: Vec::new(),
    };
}

impl Transfer {
    /// Returns whether the source has attachments of the image that the target lacks. Writes
    /// nothing.
    pub async fn attachments_lag(&self, request: &RefreshRequest<'_>) -> Result<Lag, CopyError> {
        if request.looks == Looks::AtListings && request.source_tags.is_empty() {
            return Ok(Lag::default());
        }
        let image = self.attached_image(request).await?;
        let unseen = |tag: &Tag| !image.handled.contains(tag) && !request.target_tags.contains(tag);
        if image.tags_in(request.source_tags).iter().any(unseen) {
            return Ok(Lag::BEHIND);
        }
        if request.looks == Looks::AtListings {
            return Ok(Lag::default());
        }
        let mut lag = Lag::default();
        for subject in &image.subjects {
            if self
                .subject_is_behind(request, subject, &mut lag.warnings)
                .await?
            {
                return Ok(Lag::BEHIND);
            }
        }
        Ok(lag)
    }

    /// Copies what is attached to the image. Its tag is not touched.
    pub async fn refresh_attachments(
        &self,
        request: &RefreshRequest<'_>,
    ) -> Result<Copied, CopyError> {
        let filter = PlatformFilter::All;
        let copy = Copy::new(request.item, request.from, request.to, &filter);
        let root = self.root_at_target(request.to, request.tag).await?;
        let image = self
            .attached_to(request.to, &root, &Kept::default())
            .await?;
        let found = self
            .find_attachments(&copy, &image, None, request.source_tags)
            .await?;
        let attachments = self.copy_found(&copy, found, request.source_tags).await?;
        self.remember_attachments(
            request.from,
            request.to,
            request.tag,
            image,
            request.source_tags,
        );
        Ok(Copied {
            source_digest: root.digest.clone(),
            digest: root.digest,
            tally: copy.tally(),
            attachments,
            warnings: copy.into_warnings(),
        })
    }

    /// Notes for later runs that the attachments of an image were copied as far as `source_tags`
    /// tells of them.
    pub(super) fn remember_attachments(
        &self,
        from: &Repository,
        to: &Repository,
        tag: &Tag,
        mut image: AttachedImage,
        source_tags: &BTreeSet<Tag>,
    ) {
        image.handled = image.tags_in(source_tags);
        self.memory
            .remember(&attached_image(from, to, tag), &image.to_string());
    }

    async fn attached_image(
        &self,
        request: &RefreshRequest<'_>,
    ) -> Result<AttachedImage, CopyError> {
        let key = attached_image(request.from, request.to, request.tag);
        let remembered = self
            .memory
            .recall(&key)
            .and_then(|text| text.parse::<AttachedImage>().ok());
        if let Some(image) =
            remembered.filter(|image| request.digest.is_none_or(|digest| image.root == *digest))
        {
            return Ok(image);
        }
        let root = self.root_at_target(request.to, request.tag).await?;
        let mut image = self
            .attached_to(request.to, &root, &Kept::default())
            .await?;
        // What the target has by now was handled; what it lacks is found by that.
        image.handled = image
            .tags_in(request.source_tags)
            .into_iter()
            .filter(|tag| request.target_tags.contains(tag))
            .collect();
        self.memory.remember(&key, &image.to_string());
        Ok(image)
    }

    async fn subject_is_behind(
        &self,
        request: &RefreshRequest<'_>,
        subject: &Digest,
        warnings: &mut Vec<String>,
    ) -> Result<bool, CopyError> {
        let filter = PlatformFilter::All;
        let copy = Copy::new(request.item, request.from, request.to, &filter);
        let attached = self
            .attached_at_source(&copy, subject, request.source_tags)
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
                self.source.resolve(request.from, &reference),
                self.target.resolve(request.to, &reference)
            );
            let (source, target) = (
                source.map_err(at(Side::Source))?,
                target.map_err(at(Side::Target))?,
            );
            // One that upstream took back meanwhile is not behind.
            let Some(source) = source.filter(|source| {
                target
                    .as_ref()
                    .is_none_or(|target| target.digest != source.digest)
            }) else {
                continue;
            };
            let theirs = self
                .read(request.from, &Reference::Digest(source.digest))
                .await?;
            match self
                .standing(request.from, request.to, &tag, &theirs)
                .await?
            {
                Standing::Behind => return Ok(true),
                Standing::Same | Standing::More => {}
                Standing::Own { warning } => warnings.push(warning),
            }
        }
        Ok(false)
    }

    async fn referrers_at_target(
        &self,
        to: &Repository,
        subject: &Digest,
    ) -> Result<HashSet<Digest>, CopyError> {
        let mut listed = match self
            .target
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
            Referrers::Noticed(referrers) => referrers,
            Referrers::NotListed => Vec::new(),
        };
        let reference = Reference::Tag(Tag::of_referrers(subject));
        let list = self
            .target
            .manifest(to, &reference)
            .await
            .map_err(at(Side::Target))?;
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
