//! `cleanup`: deletes tags that nothing uses any more.
//!
//! Each file uses only the files above it in this list:
//!
//! - `targets`: repositories of the configuration, with the rules that apply to them.
//! - `applications`: repositories of applications, and the records that count in them.
//! - `keep_list`, `needed_images`: images that something other than records needs.
//! - `manifest_tree`, `world`: what was read from registries and records, without any judgement.
//! - `attachments`: tags that belong to another image.
//! - `reasons`: why a tag is kept or deleted.
//! - `clock_check`: finds out that ages are uncertain, because a clock is wrong.
//! - `protections`: what records and the configuration protect.
//! - `safety_check`: stops the run when the records are incomplete.
//! - `grace`: lets selected tags wait before they are deleted.
//! - `policy`: decides on every tag, once. If anything about a tag is unknown, the tag is kept.
//! - `required_facts`: the facts that the policy needs, so that nothing else is requested.
//! - `manifest_cache`: images that earlier runs read.
//! - `observer`, `desired_tags`, `tag_spellings`, `dependency_reader`, `repository_reader`,
//!   `application_reader`, `observe`: read the world.
//! - `untagged`: decides on manifests without a tag.
//! - `plan`: groups the tags to delete by image and orders the deletions.
//! - `preview`: predicts the plan with as few requests as possible.
//! - `journal`: writes down every change before it is made.
//! - `record_watch`, `recheck`, `archive`, `deletion_progress`, `preparation`, `tag_deletions`,
//!   `retirements`, `final_check`, `execute`: carry out the plan, and check that nothing else was deleted. An image that a record
//!   refers to by then is kept.
//! - `histories`: the state of tags that outlives a run.
//! - `undo`: restores tags from the journal.
//! - `outcome`, `report`: what happened to each tag.
//!
//! Repositories that the configuration does not name are listed and never changed.

mod application_reader;
mod applications;
mod archive;
mod attachments;
mod clock_check;
mod deletion_progress;
mod dependency_reader;
mod desired_tags;
mod execute;
mod final_check;
mod grace;
mod histories;
mod journal;
mod keep_list;
mod manifest_cache;
mod manifest_tree;
mod needed_images;
mod observe;
mod observer;
mod outcome;
mod plan;
mod policy;
mod preparation;
mod preview;
mod protections;
mod reasons;
mod recheck;
mod record_watch;
mod report;
mod repository_reader;
mod required_facts;
mod retirements;
mod safety_check;
mod tag_deletions;
mod tag_spellings;
mod targets;
mod undo;
mod untagged;
mod world;

pub use applications::Applications;
pub use execute::{CleanupExecution, execute};
pub use histories::{read_deleted_subjects, read_histories, store_histories};
pub use journal::{Journal, JournalStore};
pub use keep_list::{KeepList, KeptName};
pub use manifest_tree::ManifestTree;
pub use needed_images::{ImageNeed, NeededImages, OutsideFacts, ProjectDeployments};
pub use observe::{observe, observe_entries, observe_records, observe_with};
pub use observer::{Observer, ReadingLimits};
pub use plan::{DeletionGroup, DeletionMethod, Plan, RepositoryPlan, Retirement, plan};
pub use policy::CleanupPolicy;
pub use preview::{CleanupPreview, PreviewInput, preview};
pub use protections::RecordProtections;
pub use reasons::{DeleteReason, KeepReason, PendingDeletion, PendingRetirement, TagVerdict};
pub use record_watch::{RecordWatch, RecordsSource};
pub use report::{CleanupReport, CleanupTotals};
pub use targets::{CleanupScope, CleanupTarget, targets};
pub use undo::{
    HOLD_DAYS, RestoredFrom, RestoredTag, Undo, UndoReport, UndoSelection, UnrestoredTag, release,
    undo,
};
pub use world::{
    DesiredTags, ObservedRecords, ObservedRepository, ObservedTag, ReadingProgress, RepositoryRole,
    TagReadError, UnreadRepository, UntaggedImage, World,
};

#[cfg(test)]
mod tests;
