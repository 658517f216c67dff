//! Copies images to the archive before they are deleted.

use std::collections::BTreeSet;

use tokio_util::sync::CancellationToken;

use super::plan::{DeletionGroup, RepositoryPlan};
use super::recheck::{CurrentState, Recheck};
use crate::error::ItemError;
use crate::model::{Digest, ImageReference, Reference, Repository, Tag};
use crate::registry::ImageStores;
use crate::transfer::{
    Attachments, CopyRequest, ExpectedTag, PlatformFilter, ReadableCopyRequest, Transfer,
};

/// Copies images to their archive.
pub(super) struct Archiver {
    pub(super) stores: ImageStores,
    pub(super) transfer: Transfer,
    pub(super) cancel: CancellationToken,
}

/// Result of archiving an image.
#[derive(Clone, Default)]
pub(super) struct ArchiveResult {
    /// Tags that were archived.
    pub(super) tags: Vec<(Tag, ImageReference)>,
    /// Reason why the image must not be deleted: not all of its tags were archived.
    pub(super) error: Option<ItemError>,
}

impl Archiver {
    /// Archives the tags of an image.
    pub(super) async fn archive_group(
        &self,
        planned: &RepositoryPlan,
        group: &DeletionGroup,
        recheck: &Recheck<'_>,
        state: &CurrentState,
    ) -> ArchiveResult {
        let mut result = ArchiveResult::default();
        if group.archive.is_empty() || self.cancel.is_cancelled() {
            return result;
        }
        let work = async {
            for tag in recheck.existing_tags(planned, group, state).await? {
                if let Some(target) = group.archive.get(tag) {
                    self.archive_tag(&planned.repository, group, tag, target, state)
                        .await?;
                    result.tags.push((tag.clone(), target.clone()));
                }
            }
            Ok(())
        };
        let done = tokio::select! {
            done = work => done,
            () = self.cancel.cancelled() => {
                Err(ItemError::other("interrupted while it was archived; it was not deleted"))
            }
        };
        ArchiveResult {
            error: done.err(),
            ..result
        }
    }

    /// Copies the image with its attachments, and checks that the archive has all of its content.
    async fn archive_tag(
        &self,
        repository: &Repository,
        group: &DeletionGroup,
        tag: &Tag,
        target: &ImageReference,
        state: &CurrentState,
    ) -> Result<(), ItemError> {
        let Some(target_tag) = &target.tag else {
            return Err(
                ItemError::other(format!("the tag {tag} is too long to be archived"))
                    .with_hint("exclude it with `exclude_tags`, or rename it"),
            );
        };
        let existing = self.digest_of(&target.repository, target_tag).await?;
        if let Some(other) = existing.as_ref().filter(|digest| **digest != group.digest) {
            let cause =
                format!("{target} already names another image, {other}; the image was not deleted");
            return Err(ItemError::other(cause).with_hint(
                "run `imglife cleanup` on another day, or give the archived image another tag",
            ));
        }
        let attachment_tags: BTreeSet<Tag> = state
            .tags
            .iter()
            .filter(|tag| tag.is_attachment())
            .cloned()
            .collect();
        let item = &format!("{repository}:{tag} -> {target}");
        // The archive may have lost content that it still reports.
        let content = ReadableCopyRequest {
            item,
            from: repository,
            digest: &group.digest,
            to: &target.repository,
            source_tags: &attachment_tags,
        };
        self.transfer.copy_readable(&content).await?;
        let request = CopyRequest {
            item,
            from: repository,
            reference: Reference::Digest(group.digest.clone()),
            to: &target.repository,
            tag: target_tag,
            expected: existing
                .as_ref()
                .map_or(ExpectedTag::Absent, ExpectedTag::Image),
            filter: &PlatformFilter::All,
            attachments: Attachments::Copy {
                source_tags: &attachment_tags,
            },
        };
        self.transfer.copy(request).await?;
        match self.digest_of(&target.repository, target_tag).await? {
            Some(found) if found == group.digest => Ok(()),
            found => {
                let found = found.map_or_else(|| "no image".to_owned(), |found| found.to_string());
                Err(ItemError::other(format!(
                    "{target} names {found} instead of {}; the image was not deleted",
                    group.digest
                )))
            }
        }
    }

    /// Returns the digest that a tag of the archive names.
    async fn digest_of(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Option<Digest>, ItemError> {
        let found = self
            .stores
            .of(repository)
            .resolve(repository, &Reference::Tag(tag.clone()))
            .await;
        Ok(found?.map(|found| found.digest))
    }
}
