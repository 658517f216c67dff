//! Execution: carries out a plan. An image that changed since the plan was made is kept, and an
//! error with one image does not stop the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::archive::{ArchiveResult, Archiver};
use super::deletion_progress::{DeletionProgress, NeededBy, deletes_manifest, deletes_manifests};
use super::final_check::FinalCheck;
use super::journal::Journal;
use super::outcome::{
    CleanupOutcome, DeletionResult, GroupOutcome, RepositoryOutcome, RetirementOutcome,
    RetirementResult,
};
use super::plan::{DeletionGroup, DeletionMethod, Plan, RepositoryPlan, Retirement};
use super::reasons::{KeepReason, PendingDeletion};
use super::recheck::{CurrentState, ExpectedListing, Recheck};
use super::record_watch::RecordWatch;
use super::tag_deletions::{TagDeletions, TagToDelete};
use crate::error::{ItemError, chain};
use crate::model::{Digest, JournalChange, Reference, Repository, Tag};
use crate::progress::{Event, ItemOutcome, Progress};
use crate::registry::{Deletion, ImageStores, SweepKeep, SweepResult};
use crate::steps::Mode;
use crate::transfer::Transfer;

/// Maximum number of repositories that are cleaned up concurrently.
const CONCURRENT_REPOSITORIES: usize = 4;

/// Maximum number of images of a repository that are deleted concurrently. Each host has its own
/// limit as well.
const CONCURRENT_IMAGES: usize = 8;

/// Minimum number of images that are deleted before the repository is read again. The number grows
/// with the remaining tags, so that a deleted image costs at most about two requests.
const MIN_BATCH: usize = 64;

/// Mode and resources of an execution.
pub struct CleanupExecution<'a> {
    pub mode: Mode,
    pub stores: ImageStores,
    pub records: &'a RecordWatch<'a>,
    /// Journal that every change is written to before it is made.
    pub journal: &'a Journal,
    pub progress: Arc<dyn Progress>,
    /// Number of requests after which no new work starts; `None` for no limit.
    pub max_requests: Option<u64>,
    /// After cancellation no new work starts; work in flight is completed.
    pub cancel: CancellationToken,
}

/// Carries out `plan` and returns what happened to each tag.
pub async fn execute(plan: &Plan, execution: &CleanupExecution<'_>) -> CleanupOutcome {
    let stores = execution.stores.clone();
    let executor = Executor {
        plan,
        execution,
        recheck: Recheck {
            stores: stores.clone(),
            records: execution.records,
            pinned: &plan.pinned,
            unplanned: Mutex::default(),
        },
        tag_deletions: TagDeletions::new(stores.clone()),
        archiver: Archiver {
            stores: stores.clone(),
            transfer: Transfer::new(stores.clone(), stores, execution.progress.clone()),
            cancel: execution.cancel.clone(),
        },
    };
    if execution.mode == Mode::Apply {
        let items = plan
            .repositories
            .iter()
            .map(|planned| planned.groups.len())
            .sum();
        execution.progress.event(Event::Planned { items });
    }
    let repositories = stream::iter(&plan.repositories)
        .map(|planned| executor.repository(planned))
        .buffered(CONCURRENT_REPOSITORIES)
        .collect()
        .await;
    let is_interrupted = executor.is_stopped();
    if is_interrupted {
        execution.stores.settle().await;
    }
    CleanupOutcome {
        mode: execution.mode,
        is_interrupted,
        spent_requests: executor.spent_requests(),
        repositories,
    }
}

struct Executor<'a> {
    plan: &'a Plan,
    execution: &'a CleanupExecution<'a>,
    recheck: Recheck<'a>,
    tag_deletions: TagDeletions,
    archiver: Archiver,
}

/// Result of deleting an image.
struct GroupDeletion {
    outcome: GroupOutcome,
    /// Referrers of the image and its parts, each with its subject.
    referrers: BTreeMap<Digest, Digest>,
    /// True if names that are not tags keep the manifest.
    is_still_named: bool,
}

impl Executor<'_> {
    /// Returns true if no new work starts: the run was cancelled, or has sent all of its requests.
    fn is_stopped(&self) -> bool {
        self.execution.cancel.is_cancelled() || self.spent_requests().is_some()
    }

    /// Returns the limit of requests if all of them were sent.
    fn spent_requests(&self) -> Option<u64> {
        self.execution
            .max_requests
            .filter(|limit| self.execution.stores.requests() >= *limit)
    }

    async fn repository(&self, planned: &RepositoryPlan) -> RepositoryOutcome {
        let mut outcome = RepositoryOutcome::new(planned);
        if self.execution.mode != Mode::Apply {
            outcome.groups = planned
                .groups
                .iter()
                .map(|group| GroupOutcome::new(group, DeletionResult::Planned))
                .collect();
            outcome.retirements = planned
                .retirements
                .iter()
                .map(|retirement| RetirementOutcome {
                    retirement: retirement.clone(),
                    result: RetirementResult::Planned,
                })
                .collect();
            return outcome;
        }
        if !planned.retirements.is_empty() {
            self.retire(planned, &mut outcome).await;
        }
        if !planned.groups.is_empty() {
            self.delete(planned, &mut outcome).await;
        }
        if !(planned.retirements.is_empty() && planned.groups.is_empty()) {
            if let Err(error) = self.tag_deletions.check(&planned.repository).await {
                outcome.error.get_or_insert(error);
            }
            if !self.execution.cancel.is_cancelled() {
                let (stores, journal) = (&self.execution.stores, self.execution.journal);
                FinalCheck { stores, journal }.check(&mut outcome).await;
            }
        }
        let is_known = self.plan.safety_error.is_none()
            && planned.error.is_none()
            && !planned.listed.is_empty();
        if planned.is_layout && is_known && !self.is_stopped() {
            match self.sweep(planned).await {
                Ok(SweepResult::Swept { files, bytes }) => {
                    (outcome.freed_files, outcome.freed_bytes) = (files, bytes);
                }
                Ok(SweepResult::Busy) => {
                    outcome.warnings.push(
                        "another process is writing to it; unreferenced files were left for the \
                         next run"
                            .to_owned(),
                    );
                }
                Ok(SweepResult::LeftToRegistry) => {}
                Err(error) => outcome.error = Some(error),
            }
        }
        outcome
    }

    /// Removes files of an OCI layout that neither its index nor a record refers to.
    async fn sweep(&self, planned: &RepositoryPlan) -> Result<SweepResult, ItemError> {
        let records = self.execution.records.fresh().await?;
        let manifests = self
            .plan
            .pinned
            .iter()
            .cloned()
            .chain(records.pinned().iter().cloned())
            .collect();
        let files = match planned.undo_window {
            Some(window) => {
                let journal = self.execution.journal;
                journal.content_since(&planned.repository, window).await?
            }
            None => BTreeSet::new(),
        };
        let keep = SweepKeep { manifests, files };
        let store = self.execution.stores.writable(&planned.repository);
        store?.sweep(&planned.repository, &keep).await
    }

    async fn delete(&self, planned: &RepositoryPlan, outcome: &mut RepositoryOutcome) {
        let mut progress = DeletionProgress::default();
        let (attachments, images): (Vec<&DeletionGroup>, Vec<&DeletionGroup>) = planned
            .groups
            .iter()
            .partition(|group| group.is_attachment());
        // Attachments are deleted after all images and parts, because each of those may stay.
        let attached = attachments
            .iter()
            .flat_map(|group| group.parts.iter().chain([&group.digest]))
            .collect();
        for (mut groups, later) in [(images, attached), (attachments, BTreeSet::new())] {
            while !groups.is_empty() {
                if self.is_stopped() {
                    for group in std::mem::take(&mut groups) {
                        let digests = group.below.iter().chain([&group.digest]);
                        progress.needed.extend(digests.cloned());
                        let result = DeletionResult::NotStarted;
                        outcome.groups.push(GroupOutcome::new(group, result));
                    }
                    break;
                }
                groups = self
                    .delete_batch(planned, groups, &mut progress, outcome)
                    .await;
            }
            self.delete_parts(planned, &mut progress, &later, outcome)
                .await;
        }
    }

    /// Returns the groups without attachments of images that stay, which are reported as kept.
    fn without_needed_attachments<'a>(
        &self,
        groups: Vec<&'a DeletionGroup>,
        progress: &mut DeletionProgress,
        outcome: &mut RepositoryOutcome,
    ) -> Vec<&'a DeletionGroup> {
        let mut left = groups;
        loop {
            let subjects: BTreeSet<Tag> = progress.needed.iter().map(Tag::of_referrers).collect();
            let is_needed = |group: &&DeletionGroup| !group.subjects.is_disjoint(&subjects);
            let (kept, deleted): (Vec<&DeletionGroup>, Vec<&DeletionGroup>) =
                left.into_iter().partition(is_needed);
            left = deleted;
            if kept.is_empty() {
                return left;
            }
            for group in kept {
                // Attachments of an attachment stay with it.
                progress
                    .needed
                    .extend(group.parts.iter().chain([&group.digest]).cloned());
                let result = if self.is_stopped() {
                    DeletionResult::NotStarted
                } else {
                    DeletionResult::Kept(KeepReason::AttachedToKept)
                };
                outcome.groups.push(GroupOutcome::new(group, result));
            }
        }
    }

    /// Reads the repository again, deletes the first images, and returns the remaining groups.
    async fn delete_batch<'a>(
        &self,
        planned: &RepositoryPlan,
        groups: Vec<&'a DeletionGroup>,
        progress: &mut DeletionProgress,
        outcome: &mut RepositoryOutcome,
    ) -> Vec<&'a DeletionGroup> {
        let expected = if progress.has_begun {
            ExpectedListing::Any
        } else {
            ExpectedListing::Tags
        };
        let state = self
            .recheck
            .read(planned, deletes_manifests(&groups), expected)
            .await;
        if let Ok(state) = &state {
            progress.add_state(state);
            outcome.listing_doubt = outcome.listing_doubt.take().or(state.listing_doubt.clone());
        }
        let groups = self.without_needed_attachments(groups, progress, outcome);
        // Parts of other groups wait: if the image that lists them stays, they stay as well.
        let parts: BTreeSet<&Digest> = groups.iter().flat_map(|group| &group.parts).collect();
        let (waiting, ready): (Vec<&DeletionGroup>, Vec<&DeletionGroup>) = groups
            .into_iter()
            .partition(|group| parts.contains(&group.digest));
        // An image cannot list itself, so there is always a group that can be deleted.
        let (mut batch, mut left) = if ready.is_empty() {
            (waiting, ready)
        } else {
            (ready, waiting)
        };
        let remaining = planned.kept.len() + planned.groups.len() - outcome.groups.len();
        left.extend(batch.split_off(MIN_BATCH.max(remaining / 2).min(batch.len())));
        let (state, archived) = self.archive(planned, &batch, state, expected).await;
        if let Ok(state) = &state {
            progress.add_state(state);
        }
        let prepared = self
            .prepare(planned, &batch, &archived, &state, progress)
            .await;
        let deletions =
            batch
                .iter()
                .zip(archived)
                .zip(prepared)
                .map(|((group, archived), referrers)| {
                    let needed_by = progress.needed_by(&group.digest);
                    let state = match (&state, &referrers) {
                        (Err(error), _) | (Ok(_), Err(error)) => Err(error.clone()),
                        (Ok(state), Ok(_)) => Ok(state),
                    };
                    let referrers = referrers.unwrap_or_default();
                    self.delete_group(planned, group, archived, state, needed_by, referrers)
                });
        let deletions: Vec<GroupDeletion> = stream::iter(deletions.collect::<Vec<_>>())
            .buffered(CONCURRENT_IMAGES)
            .collect()
            .await;
        for (group, deletion) in batch.iter().zip(deletions) {
            let digests = group.below.iter().chain([&group.digest]);
            match deletion.outcome.result {
                DeletionResult::Deleted if !deletion.is_still_named => {
                    progress
                        .parts
                        .extend(deletion.outcome.parts.iter().cloned());
                    progress.referrers.extend(deletion.referrers);
                }
                DeletionResult::Kept(_) => {
                    progress.recorded.extend(digests.clone().cloned());
                    progress.needed.extend(digests.cloned());
                }
                _ => progress.needed.extend(digests.cloned()),
            }
            outcome.groups.push(deletion.outcome);
        }
        progress.has_begun = true;
        left
    }

    /// Writes the images that are about to be deleted to the journal. Returns the referrers of each
    /// image, with their subjects.
    async fn prepare(
        &self,
        planned: &RepositoryPlan,
        batch: &[&DeletionGroup],
        archived: &[ArchiveResult],
        state: &Result<CurrentState, ItemError>,
        progress: &DeletionProgress,
    ) -> Vec<Result<BTreeMap<Digest, Digest>, ItemError>> {
        let Ok(state) = state else {
            return vec![Ok(BTreeMap::new()); batch.len()];
        };
        let is_changed = |group: &DeletionGroup, archived: &ArchiveResult| {
            archived.error.is_none() && state.keep_reason(planned, group).is_none()
        };
        let deletes = |group: &DeletionGroup| {
            deletes_manifest(group, progress.needed_by(&group.digest), state)
        };
        let lookups = batch
            .iter()
            .zip(archived)
            .map(|(group, archived)| async move {
                if is_changed(group, archived) && deletes(group) {
                    self.recheck.referrers(&planned.repository, group).await
                } else {
                    Ok(BTreeMap::new())
                }
            });
        let mut referrers: Vec<Result<BTreeMap<Digest, Digest>, ItemError>> =
            stream::iter(lookups.collect::<Vec<_>>())
                .buffered(CONCURRENT_IMAGES)
                .collect()
                .await;
        let (mut changes, mut manifests) = (Vec::new(), BTreeSet::new());
        for ((group, archived), found) in batch.iter().zip(archived).zip(&referrers) {
            let Ok(found) = found else { continue };
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
                manifests.insert(group.digest.clone());
                manifests.extend(group.parts.iter().chain(found.keys()).cloned());
            }
        }
        let manifests = manifests.into_iter().collect();
        let (stores, repository) = (&self.execution.stores, &planned.repository);
        let journal = self.execution.journal;
        if !self.is_stopped()
            && let Err(error) = journal.write(stores, repository, changes, manifests).await
        {
            referrers.fill_with(|| Err(error.clone()));
        }
        referrers
    }

    /// Moves images to their retired tags.
    async fn retire(&self, planned: &RepositoryPlan, outcome: &mut RepositoryOutcome) {
        for batch in planned.retirements.chunks(MIN_BATCH) {
            let state = self
                .recheck
                .read(planned, false, ExpectedListing::Tags)
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
            let is_cancelled = self.is_stopped();
            let state = match state {
                Ok(state) if !is_cancelled => {
                    let (stores, repository) = (&self.execution.stores, &planned.repository);
                    let journal = self.execution.journal;
                    let written = journal
                        .write(stores, repository, changes.collect(), Vec::new())
                        .await;
                    written.map(|()| state)
                }
                state => state,
            };
            let moves = batch.iter().map(|retirement| {
                let state = state.as_ref().map_err(ItemError::clone);
                async move {
                    let result = match state {
                        _ if self.is_stopped() => RetirementResult::NotStarted,
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
            let stores = &self.execution.stores;
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

    /// Archives those of the images that have an archive. Returns the state afterwards, because
    /// copying takes time, and the result for each image.
    async fn archive(
        &self,
        planned: &RepositoryPlan,
        groups: &[&DeletionGroup],
        state: Result<CurrentState, ItemError>,
        expected: ExpectedListing,
    ) -> (Result<CurrentState, ItemError>, Vec<ArchiveResult>) {
        let state = match state {
            Ok(state)
                if !self.is_stopped() && groups.iter().any(|group| !group.archive.is_empty()) =>
            {
                state
            }
            state => return (state, vec![ArchiveResult::default(); groups.len()]),
        };
        let work: Vec<_> = groups
            .iter()
            .map(|group| {
                self.archiver
                    .archive_group(planned, group, &self.recheck, &state)
            })
            .collect();
        let archived = stream::iter(work)
            .buffered(CONCURRENT_IMAGES)
            .collect()
            .await;
        let state = self
            .recheck
            .read(planned, deletes_manifests(groups), expected)
            .await;
        (state, archived)
    }

    /// Deletes the untagged manifests of deleted images that nothing else needs, except those that
    /// are deleted `later`.
    async fn delete_parts(
        &self,
        planned: &RepositoryPlan,
        progress: &mut DeletionProgress,
        later: &BTreeSet<&Digest>,
        outcome: &mut RepositoryOutcome,
    ) {
        let leftovers = progress.leftovers(&planned.live, later);
        if leftovers.is_empty() {
            return;
        }
        if self.is_stopped() {
            progress.needed.extend(leftovers);
            return;
        }
        let state = match self.recheck.read(planned, true, ExpectedListing::Any).await {
            Ok(state) => state,
            Err(error) => {
                outcome.warnings.push(format!(
                    "{} untagged manifests were not deleted: {}",
                    leftovers.len(),
                    error
                ));
                progress.needed.extend(leftovers);
                return;
            }
        };
        progress.add_state(&state);
        let leftovers = progress.leftovers(&planned.live, later);
        if state.listing_doubt.is_some() {
            progress.needed.extend(leftovers);
            return;
        }
        let deletions: Vec<_> = leftovers
            .iter()
            .map(|part| async move { (part, self.delete_part(&planned.repository, part).await) })
            .collect();
        for (part, result) in stream::iter(deletions)
            .buffered(CONCURRENT_IMAGES)
            .collect::<Vec<_>>()
            .await
        {
            match result {
                Ok(Some(Deletion::Deleted)) => outcome.parts += 1,
                Ok(Some(_)) => {}
                Ok(None) => drop(progress.needed.insert(part.clone())),
                // The part is unreferenced now, so it only occupies disk space.
                Err(error) => {
                    outcome.warnings.push(format!(
                        "the untagged manifest {} was not deleted: {}",
                        part.short(),
                        chain(&error)
                    ));
                    progress.needed.insert(part.clone());
                }
            }
        }
        progress.parts.retain(|part| !leftovers.contains(part));
        progress
            .referrers
            .retain(|referrer, _| !leftovers.contains(referrer));
    }

    /// Deletes a manifest; `None` if the run was stopped.
    async fn delete_part(
        &self,
        repository: &Repository,
        part: &Digest,
    ) -> Result<Option<Deletion>, ItemError> {
        if self.is_stopped() {
            return Ok(None);
        }
        self.tag_deletions.check(repository).await?;
        self.execution
            .stores
            .writable(repository)?
            .delete_manifest(repository, part)
            .await
            .map(Some)
    }

    async fn delete_group(
        &self,
        planned: &RepositoryPlan,
        group: &DeletionGroup,
        archived: ArchiveResult,
        state: Result<&CurrentState, ItemError>,
        needed_by: NeededBy,
        referrers: BTreeMap<Digest, Digest>,
    ) -> GroupDeletion {
        let item = format!("{}@{}", planned.repository, group.digest.short());
        let mut deletion = GroupDeletion {
            outcome: GroupOutcome::new(group, DeletionResult::NotStarted),
            referrers: BTreeMap::new(),
            is_still_named: false,
        };
        deletion.outcome.archived = archived.tags;
        if self.is_stopped() && archived.error.is_none() {
            return deletion;
        }
        let progress = &self.execution.progress;
        progress.event(Event::Started { item: &item });
        let result = match (archived.error, state) {
            (Some(error), _) | (None, Err(error)) => Err(error),
            (None, Ok(state)) => {
                deletion.referrers = referrers;
                self.try_delete(planned, group, state, needed_by, &mut deletion)
                    .await
            }
        };
        deletion.outcome.result = match result {
            Ok(None) => {
                progress.event(Event::Finished {
                    item: &item,
                    outcome: ItemOutcome::Done { detail: "deleted" },
                });
                DeletionResult::Deleted
            }
            Ok(Some(reason)) => {
                progress.event(Event::Finished {
                    item: &item,
                    outcome: ItemOutcome::Done { detail: "kept" },
                });
                DeletionResult::Kept(reason)
            }
            Err(error) => {
                progress.event(Event::Finished {
                    item: &item,
                    outcome: ItemOutcome::Failed {
                        cause: &error.line(),
                    },
                });
                DeletionResult::Failed(error)
            }
        };
        deletion
    }

    /// Deletes an image. Returns the reason if it is kept instead.
    async fn try_delete(
        &self,
        planned: &RepositoryPlan,
        group: &DeletionGroup,
        state: &CurrentState,
        needed_by: NeededBy,
        deletion: &mut GroupDeletion,
    ) -> Result<Option<KeepReason>, ItemError> {
        let repository = &planned.repository;
        if let Some(reason) = state.keep_reason(planned, group) {
            return Ok(Some(reason));
        }
        if let Some(doubt) = &state.listing_doubt
            && group.method == DeletionMethod::Manifest
        {
            return Ok(Some(KeepReason::ListingNotProved(doubt.clone())));
        }
        match needed_by {
            NeededBy::Record if group.method == DeletionMethod::Manifest => {
                return Ok(Some(KeepReason::PartOfKept));
            }
            NeededBy::Image if group.method == DeletionMethod::Manifest => {
                return Err(ItemError::other(
                    "another tag names the image since the plan was made",
                )
                .with_hint("run `imglife cleanup` again"));
            }
            NeededBy::Nothing | NeededBy::Image | NeededBy::Record => {}
        }
        let tags = self.recheck.existing_tags(planned, group, state).await?;
        let is_archived = |tag: &Tag| {
            !group.archive.contains_key(tag)
                || deletion
                    .outcome
                    .archived
                    .iter()
                    .any(|(archived, _)| archived == tag)
        };
        if let Some(tag) = tags.iter().find(|tag| !is_archived(tag)) {
            return Err(ItemError::other(format!(
                "the tag {tag} did not exist when the image was archived; the image was not deleted"
            )));
        }
        let deletes_manifest = deletes_manifest(group, needed_by, state);
        let store = self.execution.stores.writable(repository);
        let store = store?;
        if group.method != DeletionMethod::Manifest {
            let kept: Vec<&Tag> = state.kept_tags(&group.digest).iter().collect();
            for (position, tag) in tags.iter().enumerate() {
                let deleted = self
                    .tag_deletions
                    .delete(&TagToDelete {
                        repository,
                        tag,
                        digest: &group.digest,
                        kept: kept.clone(),
                        others: tags[position + 1..].to_vec(),
                        needs_manifest: planned.live.contains(&group.digest),
                    })
                    .await?;
                if deleted.deletion == Deletion::Unsupported {
                    return Err(ItemError::other(format!(
                        "the registry does not support deleting the tag {tag}"
                    )));
                }
                deletion.outcome.deleted_tags.insert((*tag).clone());
                if let Some(error) = deleted.error {
                    return Err(error);
                }
            }
        }
        if deletes_manifest {
            self.tag_deletions.check(repository).await?;
            let result = store.delete_manifest(repository, &group.digest).await?;
            if result == Deletion::Unsupported && group.method == DeletionMethod::Manifest {
                return Err(ItemError::other(
                    "the registry does not support deleting manifests",
                ));
            }
            deletion.is_still_named = result == Deletion::StillNamed;
        } else {
            deletion.outcome.parts.clear();
        }
        Ok(None)
    }
}
