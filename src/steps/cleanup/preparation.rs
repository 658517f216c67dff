//! Preparation of a batch of deletions: reads the images a last time, finds their referrers, and writes
//! both to the journal.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};

use super::archive::ArchiveResult;
use super::deletion_progress::{DeletionProgress, deletes_manifest};
use super::journal::{DeletedManifests, Journal};
use super::manifest_tree;
use super::plan::{DeletionGroup, RepositoryPlan};
use super::recheck::{CurrentState, CurrentTags, Recheck};
use crate::error::ItemError;
use crate::model::{Digest, JournalChange, Manifest, Reference, Tag};
use crate::registry::ImageStores;

/// Maximum number of images that are read concurrently. Each host has its own limit as well.
const CONCURRENT_IMAGES: usize = 8;

/// Reads images before they are deleted.
pub(super) struct Preparation<'a> {
    pub(super) stores: &'a ImageStores,
    pub(super) recheck: &'a Recheck<'a>,
    pub(super) journal: &'a Journal,
    pub(super) planned: &'a RepositoryPlan,
}

/// An image immediately before it is deleted.
#[derive(Default)]
pub(super) struct PreparedImage<'g> {
    /// Tags that exist and name the image, if its manifest is deleted; otherwise each tag is looked
    /// up immediately before it is deleted.
    pub(super) tags: Option<Vec<&'g Tag>>,
    /// Referrers of the image and its parts, each with its subject.
    pub(super) referrers: BTreeMap<Digest, Digest>,
    /// The manifest, if it is deleted and still exists under one of the tags.
    manifest: Option<Manifest>,
}

/// The images of a batch, immediately before they are deleted.
pub(super) struct PreparedBatch<'g> {
    /// Each image; an error if it must not be deleted.
    pub(super) images: Vec<Result<PreparedImage<'g>, ItemError>>,
    /// Digests below images that tags of the batch name since the plan was made.
    pub(super) claimed: BTreeSet<Digest>,
}

impl Preparation<'_> {
    /// Reads the images of a batch. Unless `is_stopped` returns true by then, writes those that are
    /// about to be deleted to the journal.
    pub(super) async fn batch<'g>(
        &self,
        batch: &[&'g DeletionGroup],
        archived: &[ArchiveResult],
        state: &CurrentState,
        progress: &DeletionProgress,
        is_stopped: impl Fn() -> bool,
    ) -> PreparedBatch<'g> {
        let is_changed = |group: &DeletionGroup, archived: &ArchiveResult| {
            archived.error.is_none() && state.keep_reason(self.planned, group).is_none()
        };
        let deletes = |group: &DeletionGroup| {
            deletes_manifest(group, progress.needed_by(&group.digest), state)
        };
        let reads = batch
            .iter()
            .zip(archived)
            .map(|(group, archived)| async move {
                if is_changed(group, archived) && deletes(group) {
                    self.image(group, state).await
                } else {
                    Ok(Ok(PreparedImage::default()))
                }
            });
        let read: Vec<Result<Result<PreparedImage<'g>, RetaggedImage>, ItemError>> =
            stream::iter(reads.collect::<Vec<_>>())
                .buffered(CONCURRENT_IMAGES)
                .collect()
                .await;
        let mut prepared = PreparedBatch {
            images: Vec::with_capacity(batch.len()),
            claimed: BTreeSet::new(),
        };
        for image in read {
            let image = match image {
                Ok(Ok(image)) => Ok(image),
                Ok(Err(moved)) => match self.below(&moved.to).await {
                    Ok(digests) => {
                        prepared.claimed.extend(digests);
                        Err(moved.error)
                    }
                    // It is unknown which images the tag needs now.
                    Err(error) => {
                        prepared.images = batch.iter().map(|_| Err(error.clone())).collect();
                        return prepared;
                    }
                },
                Err(error) => Err(error),
            };
            prepared.images.push(image);
        }
        let (mut changes, mut manifests) = (Vec::new(), DeletedManifests::new());
        for ((group, archived), image) in batch.iter().zip(archived).zip(&mut prepared.images) {
            let Ok(image) = image else { continue };
            if !is_changed(group, archived) {
                continue;
            }
            changes.extend(group.tags.iter().map(|(tag, reason)| {
                let archive = archived.tags.iter().find(|(name, _)| name == tag);
                JournalChange {
                    tag: tag.clone(),
                    digest: group.digest.clone(),
                    reason: reason.key(),
                    retired_to: None,
                    archive: archive.map(|(_, image)| image.clone()),
                }
            }));
            if deletes(group) {
                manifests.insert(group.digest.clone(), image.manifest.take());
                for digest in group.parts.iter().chain(image.referrers.keys()) {
                    manifests.entry(digest.clone()).or_default();
                }
            }
        }
        let repository = &self.planned.repository;
        if !is_stopped()
            && let Err(error) = self
                .journal
                .write(self.stores, repository, changes, manifests)
                .await
        {
            prepared.images.fill_with(|| Err(error.clone()));
        }
        prepared
    }

    async fn image<'g>(
        &self,
        group: &'g DeletionGroup,
        state: &CurrentState,
    ) -> Result<Result<PreparedImage<'g>, RetaggedImage>, ItemError> {
        let current = self
            .recheck
            .current_tags(self.planned, group, state)
            .await?;
        let (tags, manifest) = match current {
            CurrentTags::Unchanged { tags, manifest } => (tags, manifest.map(|found| *found)),
            CurrentTags::Moved { tag, to } => {
                let error = Recheck::moved(tag);
                return Ok(Err(RetaggedImage { to, error }));
            }
        };
        let referrers = self
            .recheck
            .referrers(&self.planned.repository, group)
            .await?;
        Ok(Ok(PreparedImage {
            tags: Some(tags),
            referrers,
            manifest,
        }))
    }

    /// Returns the digests of an image and everything below it.
    async fn below(&self, digest: &Digest) -> Result<BTreeSet<Digest>, ItemError> {
        let repository = &self.planned.repository;
        let reference = Reference::Digest(digest.clone());
        let store = self.stores.of(repository);
        let read = manifest_tree::all_digests(store, repository, &reference).await?;
        Ok(read.into_iter().flatten().collect())
    }
}

/// A tag that names another image than in the plan.
struct RetaggedImage {
    to: Digest,
    error: ItemError,
}
