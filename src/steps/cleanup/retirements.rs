//! Moves images to their retired tags, from which they are deleted later.

use futures_util::{StreamExt, stream};

use super::journal::{DeletedManifests, Journal};
use super::outcome::{RepositoryOutcome, RetirementOutcome, RetirementResult};
use super::plan::{RepositoryPlan, Retirement};
use super::reasons::{KeepReason, PendingDeletion};
use super::recheck::{CurrentState, ExpectedListing, Recheck};
use super::tag_deletions::{TagDeletions, TagToDelete};
use crate::error::ItemError;
use crate::model::{JournalChange, Reference};
use crate::registry::{Deletion, ImageStores};

/// Number of images that are retired before the repository is read again.
const MAX_RETIREMENTS: usize = 64;

/// Maximum number of images that are retired concurrently. Each host has its own limit as well.
const CONCURRENT_IMAGES: usize = 8;

/// Retires images.
pub(super) struct Retirements<'a> {
    pub(super) stores: &'a ImageStores,
    pub(super) recheck: &'a Recheck<'a>,
    pub(super) tag_deletions: &'a TagDeletions,
    pub(super) journal: &'a Journal,
}

impl Retirements<'_> {
    /// Moves images to their retired tags.
    pub(super) async fn retire(
        &self,
        planned: &RepositoryPlan,
        outcome: &mut RepositoryOutcome,
        is_stopped: impl Fn() -> bool,
    ) {
        let is_stopped = &is_stopped;
        for batch in planned.retirements.chunks(MAX_RETIREMENTS) {
            let state = self
                .recheck
                .read(planned, false, &[], ExpectedListing::Tags)
                .await;
            let changes = batch.iter().flat_map(|retirement| {
                retirement
                    .group
                    .tags
                    .iter()
                    .map(|(tag, reason)| JournalChange {
                        tag: tag.clone(),
                        digest: retirement.group.digest.clone(),
                        reason: reason.key(),
                        retired_to: Some(retirement.pending.to.clone()),
                        archive: None,
                    })
            });
            let is_cancelled = is_stopped();
            let state = match state {
                Ok(state) if !is_cancelled => {
                    let (stores, repository) = (self.stores, &planned.repository);
                    let journal = self.journal;
                    let written = journal
                        .write(
                            stores,
                            repository,
                            changes.collect(),
                            DeletedManifests::new(),
                        )
                        .await;
                    written.map(|()| state)
                }
                state => state,
            };
            let moves = batch.iter().map(|retirement| {
                let state = state.as_ref().map_err(ItemError::clone);
                async move {
                    let result = match state {
                        _ if is_stopped() => RetirementResult::NotStarted,
                        Ok(state) => self.retire_image(planned, retirement, state).await,
                        Err(error) => RetirementResult::Failed(error),
                    };
                    RetirementOutcome {
                        retirement: retirement.clone(),
                        result,
                    }
                }
            });
            let moved: Vec<RetirementOutcome> = stream::iter(moves.collect::<Vec<_>>())
                .buffered(CONCURRENT_IMAGES)
                .collect()
                .await;
            outcome.retirements.extend(moved);
        }
    }

    /// Moves an image to its retired tag. If the registry refuses the new tag, the image waits under
    /// its own tag instead.
    async fn retire_image(
        &self,
        planned: &RepositoryPlan,
        retirement: &Retirement,
        state: &CurrentState,
    ) -> RetirementResult {
        let (repository, group) = (&planned.repository, &retirement.group);
        if let Some(reason) = state.keep_reason(planned, group) {
            return RetirementResult::Kept(reason);
        }
        let pending = &retirement.pending;
        let waits = || {
            RetirementResult::Kept(KeepReason::Waiting(PendingDeletion {
                because: pending.because,
                until: pending.until,
            }))
        };
        let work = async {
            let existing = self.recheck.existing_tags(planned, group, state).await?;
            let Some(tag) = existing.first() else {
                return Ok(RetirementResult::Kept(KeepReason::Absent));
            };
            let reference = Reference::Digest(group.digest.clone());
            let stores = self.stores;
            let Some(manifest) = stores
                .of(repository)
                .manifest(repository, &reference)
                .await?
            else {
                return Ok(RetirementResult::Kept(KeepReason::Absent));
            };
            let store = stores.writable(repository)?;
            let to = Reference::Tag(pending.to.clone());
            if let Err(error) = store.put_manifest(repository, &to, &manifest).await {
                tracing::warn!("{repository}:{tag} waits under its own tag: {error}");
                return Ok(waits());
            }
            // The old tag goes only if the new one is really there.
            let found = stores.of(repository).resolve(repository, &to).await?;
            if found.is_none_or(|found| found.digest != group.digest) {
                return Ok(waits());
            }
            let deleted = self
                .tag_deletions
                .delete(&TagToDelete {
                    repository,
                    tag,
                    digest: &group.digest,
                    kept: vec![&pending.to],
                    others: Vec::new(),
                    needs_manifest: true,
                })
                .await?;
            Ok(match (deleted.error, deleted.deletion) {
                (Some(error), _) => RetirementResult::Failed(error),
                (None, Deletion::Unsupported) => waits(),
                (None, _) => RetirementResult::Retired,
            })
        };
        work.await.unwrap_or_else(RetirementResult::Failed)
    }
}
