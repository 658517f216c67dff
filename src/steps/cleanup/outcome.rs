//! Result of carrying out a plan.

use std::collections::BTreeSet;

use super::plan::{DeletionGroup, RepositoryPlan, Retirement};
use super::reasons::{DeleteReason, KeepReason};
use crate::error::ItemError;
use crate::model::{Digest, ImageReference, Repository, Tag};
use crate::steps::Mode;

/// Result of a run, from which the report is made.
pub struct CleanupOutcome {
    pub(super) mode: Mode,
    /// True if the run was stopped before its end.
    pub(super) is_interrupted: bool,
    /// Limit of requests, if the run stopped because it sent all of them.
    pub(super) spent_requests: Option<u64>,
    /// In the order of the plan.
    pub(super) repositories: Vec<RepositoryOutcome>,
}

/// Result for one repository.
pub(super) struct RepositoryOutcome {
    pub(super) repository: Repository,
    pub(super) error: Option<ItemError>,
    pub(super) kept: Vec<(Tag, Option<Digest>, KeepReason)>,
    pub(super) groups: Vec<GroupOutcome>,
    pub(super) retirements: Vec<RetirementOutcome>,
    /// Kept tags that were gone at the end of the run.
    pub(super) lost: Vec<LostTag>,
    pub(super) warnings: Vec<String>,
    /// Reason why nothing was deleted by digest: there may be tags that were not listed.
    pub(super) listing_doubt: Option<String>,
    /// Files and bytes that were removed from an OCI layout.
    pub(super) freed_files: usize,
    pub(super) freed_bytes: u64,
    /// Number of untagged manifests that were deleted with their images.
    pub(super) parts: usize,
}

impl RepositoryOutcome {
    pub(super) fn new(planned: &RepositoryPlan) -> RepositoryOutcome {
        RepositoryOutcome {
            repository: planned.repository.clone(),
            error: planned.error.clone(),
            kept: planned.kept.clone(),
            groups: Vec::new(),
            retirements: Vec::new(),
            lost: Vec::new(),
            warnings: Vec::new(),
            listing_doubt: planned.listing_doubt.clone(),
            freed_files: 0,
            freed_bytes: 0,
            parts: 0,
        }
    }
}

/// A kept tag that was gone at the end of the run.
pub(super) struct LostTag {
    pub(super) tag: Tag,
    pub(super) digest: Option<Digest>,
    /// Error to report, which tells if the tag was restored.
    pub(super) error: ItemError,
}

/// Result for the tags of one image that the plan deletes.
pub(super) struct GroupOutcome {
    pub(super) digest: Digest,
    pub(super) tags: Vec<(Tag, DeleteReason)>,
    pub(super) result: DeletionResult,
    pub(super) archived: Vec<(Tag, ImageReference)>,
    /// Parts that are to be deleted after all images.
    pub(super) parts: BTreeSet<Digest>,
    /// Tags that were deleted before an error.
    pub(super) deleted_tags: BTreeSet<Tag>,
}

/// Result for an image that the plan moves to a retired tag.
pub(super) struct RetirementOutcome {
    pub(super) retirement: Retirement,
    pub(super) result: RetirementResult,
}

/// Result of moving an image to a retired tag.
pub(super) enum RetirementResult {
    /// The run changes nothing.
    Planned,
    Retired,
    /// The image was found to be needed after the plan was made, or waits under its own tag.
    Kept(KeepReason),
    Failed(ItemError),
    /// The run was stopped before it reached the tag.
    NotStarted,
}

/// Result of deleting an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DeletionResult {
    /// The run changes nothing.
    Planned,
    Deleted,
    Failed(ItemError),
    /// The image is needed according to facts that are newer than the plan.
    Kept(KeepReason),
    /// The run was stopped before the deletion.
    NotStarted,
}

impl GroupOutcome {
    pub(super) fn new(group: &DeletionGroup, result: DeletionResult) -> GroupOutcome {
        let is_planned = result == DeletionResult::Planned;
        let archived = group
            .archive
            .iter()
            .filter(|_| is_planned)
            .map(|(tag, image)| (tag.clone(), image.clone()))
            .collect();
        GroupOutcome {
            digest: group.digest.clone(),
            tags: group.tags.clone(),
            result,
            archived,
            parts: group.parts.clone(),
            deleted_tags: BTreeSet::new(),
        }
    }
}
