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
use super::plan::{DeletionGroup, DeletionMethod, Plan, RepositoryPlan};
use super::preparation::{Preparation, PreparedImage};
use super::reasons::KeepReason;
use super::recheck::{CurrentState, ExpectedListing, Recheck};
use super::record_watch::RecordWatch;
use super::retirements::Retirements;
use super::tag_deletions::{TagDeletions, TagToDelete};
use crate::error::{ItemError, chain};
use crate::model::{Digest, Repository, Tag};
use crate::progress::{Event, ItemOutcome, Progress};
use crate::registry::{Deletion, ImageStores, SweepKeep, SweepResult};
use crate::steps::Mode;
use crate::transfer::Transfer;

/// Maximum number of repositories that are cleaned up concurrently.
const CONCURRENT_REPOSITORIES: usize = 4;

/// Maximum number of images of a repository that are deleted concurrently. Each host has its own
/// limit as well.
const CONCURRENT_IMAGES: usize = 8;

/// Number of images with an archive that are deleted before all tags are read again.
const MAX_ARCHIVED: usize = 64;

/// Minimum number of images that are deleted before all tags are read again. The number grows with
/// the remaining tags, so that reading again costs at most about one request for an image.
const MIN_DELETIONS: usize = 1024;

/// Minimum number of images that are deleted before the tags are listed and the records are read
/// again. The number grows with the listing.
const MIN_CHUNK: usize = 64;

/// Number of tags in a listing for each image that is deleted before the listing is read again, so
/// that this costs a small part of a request for an image.
const LISTED_TAGS_PER_IMAGE: usize = 16;

/// Estimated number of requests that deleting an image takes, in a run with a limit of requests.
const REQUESTS_PER_IMAGE: usize = 3;

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
            let retirements = Retirements {
                stores: &self.execution.stores,
                recheck: &self.recheck,
                tag_deletions: &self.tag_deletions,
                journal: self.execution.journal,
            };
            retirements
                .retire(planned, &mut outcome, || self.is_stopped())
                .await;
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

    /// Returns how many of the images are deleted before the repository is read again.
    ///
    /// `remaining` is the number of images in the repository that are kept or not yet deleted.
    fn batch_size(&self, groups: &[&DeletionGroup], remaining: usize) -> usize {
        let size = if groups.iter().any(|group| !group.archive.is_empty()) {
            MAX_ARCHIVED
        } else {
            MIN_DELETIONS.max(remaining / 2)
        };
        // What was prepared must be deleted within the limit of requests.
        let affordable = self.execution.max_requests.map_or(usize::MAX, |limit| {
            let left = limit.saturating_sub(self.execution.stores.requests());
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            left.saturating_sub(remaining) / REQUESTS_PER_IMAGE
        });
        size.min(affordable.max(1)).min(groups.len())
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
        left.extend(batch.split_off(self.batch_size(&batch, remaining)));
        let state = self
            .recheck
            .read(
                planned,
                deletes_manifests(batch.iter().chain(&left)),
                &left,
                expected,
            )
            .await;
        if let Ok(state) = &state {
            progress.add_state(state);
            outcome.listing_doubt = outcome.listing_doubt.take().or(state.listing_doubt.clone());
        }
        let batch = self.without_needed_attachments(batch, progress, outcome);
        let (state, archived) = self.archive(planned, &batch, &left, state, expected).await;
        if let Ok(state) = &state {
            progress.add_state(state);
        }
        let prepared = match &state {
            Ok(state) => {
                let preparation = Preparation {
                    stores: &self.execution.stores,
                    recheck: &self.recheck,
                    journal: self.execution.journal,
                    planned,
                };
                let prepared = preparation
                    .batch(&batch, &archived, state, progress, || self.is_stopped())
                    .await;
                progress.needed.extend(prepared.claimed);
                prepared.images
            }
            Err(error) => batch.iter().map(|_| Err(error.clone())).collect(),
        };
        let deletions = self
            .delete_prepared(planned, &batch, archived, prepared, state, progress)
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

    /// Deletes images of a batch that was prepared. Reads the listing and the records again now and
    /// then.
    async fn delete_prepared(
        &self,
        planned: &RepositoryPlan,
        batch: &[&DeletionGroup],
        archived: Vec<ArchiveResult>,
        prepared: Vec<Result<PreparedImage<'_>, ItemError>>,
        mut state: Result<CurrentState, ItemError>,
        progress: &mut DeletionProgress,
    ) -> Vec<GroupDeletion> {
        let chunk = MIN_CHUNK.max(planned.listed.len() / LISTED_TAGS_PER_IMAGE);
        let mut deletions = Vec::with_capacity(batch.len());
        let mut images = archived.into_iter().zip(prepared);
        for (position, groups) in batch.chunks(chunk).enumerate() {
            if position > 0 && !self.is_stopped() {
                state = match state {
                    Ok(state) => self.recheck.refresh(planned, state).await,
                    Err(error) => Err(error),
                };
                if let Ok(state) = &state {
                    progress.add_state(state);
                }
            }
            let work = groups
                .iter()
                .zip(&mut images)
                .map(|(group, (archived, prepared))| {
                    let needed_by = progress.needed_by(&group.digest);
                    let image = match (&state, prepared) {
                        (Err(error), _) => Err(error.clone()),
                        (Ok(_), Err(error)) => Err(error),
                        (Ok(state), Ok(image)) => Ok((state, image)),
                    };
                    self.delete_group(planned, group, archived, image, needed_by)
                });
            let mut done: Vec<GroupDeletion> = stream::iter(work.collect::<Vec<_>>())
                .buffered(CONCURRENT_IMAGES)
                .collect()
                .await;
            deletions.append(&mut done);
        }
        deletions
    }

    /// Archives those of the images that have an archive. Returns the state afterwards, because
    /// copying takes time, and the result for each image.
    async fn archive(
        &self,
        planned: &RepositoryPlan,
        groups: &[&DeletionGroup],
        left: &[&DeletionGroup],
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
            .read(
                planned,
                deletes_manifests(groups.iter().chain(left)),
                left,
                expected,
            )
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
        let left: Vec<&DeletionGroup> = planned.groups.iter().collect();
        let state = match self
            .recheck
            .read(planned, true, &left, ExpectedListing::Any)
            .await
        {
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
        image: Result<(&CurrentState, PreparedImage<'_>), ItemError>,
        needed_by: NeededBy,
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
        let result = match (archived.error, image) {
            (Some(error), _) | (None, Err(error)) => Err(error),
            (None, Ok((state, image))) => {
                deletion.referrers = image.referrers;
                self.try_delete(planned, group, state, image.tags, needed_by, &mut deletion)
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
                let outcome = ItemOutcome::Failed {
                    cause: &error.line(),
                };
                progress.event(Event::Finished {
                    item: &item,
                    outcome,
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
        prepared: Option<Vec<&Tag>>,
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
        let deletes_manifest = deletes_manifest(group, needed_by, state);
        let tags = match prepared.filter(|_| deletes_manifest) {
            Some(tags) => tags,
            None => self.recheck.existing_tags(planned, group, state).await?,
        };
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
        if deletes_manifest
            && group.method == DeletionMethod::TagsThenManifest
            && self
                .tag_deletions
                .delete_manifest(repository, &group.digest, &tags)
                .await?
        {
            return Ok(None);
        }
        let store = self.execution.stores.writable(repository)?;
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
