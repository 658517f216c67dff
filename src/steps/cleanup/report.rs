//! The report: what happened to each tag, as text and as JSON.

use std::cmp::Reverse;
use std::time::Duration;

use serde::Serialize;

use super::outcome::{
    CleanupOutcome, DeletionResult, LostTag, RepositoryOutcome, RetirementOutcome, RetirementResult,
};
use super::plan::{Plan, RepositoryPlan};
use super::reasons::{DeleteReason, KeepReason, PendingRetirement};
use super::world::UnreadRepository;
use crate::error::{Exit, ItemError};
use crate::model::{Digest, ImageReference, Repository, Tag, TagVersion};
use crate::report::text::human_bytes;
use crate::report::{Block, Cell, Document, Summary, SummaryRow, Table, Tone};
use crate::steps::diagnostics::{self, Diagnostic};
use crate::steps::{Mode, seconds};

/// Report of a cleanup.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CleanupReport {
    #[serde(skip)]
    pub mode: Mode,
    pub dry_run: bool,
    /// True if the run was stopped before its end.
    pub interrupted: bool,
    #[serde(rename = "durationSeconds", serialize_with = "seconds")]
    pub duration: Duration,
    pub totals: CleanupTotals,
    /// Reason why nothing at all was deleted.
    #[serde(rename = "guard", skip_serializing_if = "Option::is_none")]
    pub safety_error: Option<ItemError>,
    pub kept: Vec<KeptTag>,
    /// Tags that were moved to a retired tag; in the dry modes, tags to move.
    pub retired: Vec<MovedTag>,
    /// Name of the run in the journal; `None` if nothing was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Deleted tags; in the dry modes, tags to delete.
    pub deleted: Vec<DeletedTag>,
    /// Deleted tags that were copied to an archive; in the dry modes, tags to copy.
    pub archived: Vec<ArchivedTag>,
    pub failed: Vec<FailedTag>,
    /// Errors of whole repositories.
    pub errors: Vec<FailedRepository>,
    /// Repositories next to the bases that the configuration does not name.
    pub orphans: Vec<Repository>,
    pub warnings: Vec<String>,
    /// Protections that could not apply, at most one for each repository.
    pub notes: Vec<String>,
    /// Bytes that were removed from OCI layouts.
    pub freed_bytes: u64,
    /// Number of untagged manifests that were deleted with their images.
    pub parts: usize,
}

/// Numbers of tags in all repositories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CleanupTotals {
    pub examined: usize,
    pub deleted: usize,
    pub archived: usize,
    pub kept: usize,
    /// Number of kept tags that wait for their deletion.
    pub waiting: usize,
    pub retired: usize,
    pub errors: usize,
    /// Tags that were not processed because the run was stopped.
    pub not_done: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptTag {
    pub image: Repository,
    pub tag: Tag,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    #[serde(flatten)]
    pub reason: KeepReason,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeletedTag {
    pub image: Repository,
    pub tag: Tag,
    pub digest: Digest,
    pub reason: DeleteReason,
}

/// A tag whose image was moved to a retired tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MovedTag {
    pub image: Repository,
    pub tag: Tag,
    pub digest: Digest,
    #[serde(flatten)]
    pub pending: PendingRetirement,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArchivedTag {
    pub image: Repository,
    pub tag: Tag,
    pub digest: Digest,
    pub archive: ImageReference,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedTag {
    pub image: Repository,
    pub tag: Tag,
    pub digest: Digest,
    pub error: ItemError,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedRepository {
    pub image: Repository,
    pub error: ItemError,
}

/// Returns the note on a repository with tags to delete whose age is unknown.
fn undated(planned: &RepositoryPlan) -> Option<String> {
    let (repository, count) = (&planned.repository, planned.undated);
    (count > 0).then(|| {
        format!(
            "{repository}: the age of {count} of the tags to delete is unknown, so the 24-hour \
             protection does not apply to them"
        )
    })
}

impl CleanupReport {
    /// Returns the report on the `outcome` of `plan`.
    pub fn new(plan: &Plan, outcome: CleanupOutcome) -> CleanupReport {
        let mut report = CleanupReport {
            interrupted: outcome.is_interrupted || !plan.unread.is_empty(),
            safety_error: plan.safety_error.clone(),
            orphans: plan.orphans.clone(),
            warnings: plan.warnings.clone(),
            notes: plan.repositories.iter().filter_map(undated).collect(),
            ..CleanupReport::stopped(outcome.mode, Duration::ZERO)
        };
        for repository in outcome.repositories {
            report.add(repository);
        }
        report
            .warnings
            .extend(plan.unread.iter().map(UnreadRepository::warning));
        if let Some(limit) = outcome
            .spent_requests
            .filter(|_| report.totals.not_done > 0)
        {
            report.warnings.push(format!(
                "the run stopped after {limit} requests (`--max-requests`), {} tags before its \
                 end; the next run goes on",
                report.totals.not_done
            ));
        }
        let is_waiting = |kept: &&KeptTag| matches!(kept.reason, KeepReason::Waiting(_));
        report.totals.waiting = report.kept.iter().filter(is_waiting).count();
        // In the order of versions, newest first.
        let order =
            |image: &Repository, tag: &Tag| (image.clone(), Reverse(TagVersion::of(tag.as_str())));
        report
            .kept
            .sort_by_cached_key(|kept| order(&kept.image, &kept.tag));
        report
            .deleted
            .sort_by_cached_key(|deleted| order(&deleted.image, &deleted.tag));
        report
            .archived
            .sort_by_cached_key(|archived| order(&archived.image, &archived.tag));
        report
            .failed
            .sort_by_cached_key(|failed| order(&failed.image, &failed.tag));
        report
    }

    /// Returns the report of a run that was stopped before the plan was made.
    pub fn stopped(mode: Mode, duration: Duration) -> CleanupReport {
        CleanupReport {
            mode,
            dry_run: mode != Mode::Apply,
            interrupted: true,
            duration,
            totals: CleanupTotals::default(),
            safety_error: None,
            kept: Vec::new(),
            retired: Vec::new(),
            run: None,
            deleted: Vec::new(),
            archived: Vec::new(),
            failed: Vec::new(),
            errors: Vec::new(),
            orphans: Vec::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
            freed_bytes: 0,
            parts: 0,
        }
    }

    fn add(&mut self, repository: RepositoryOutcome) {
        let image = repository.repository;
        let lost = repository.lost;
        self.totals.kept += repository.kept.len();
        self.totals.examined += repository.kept.len();
        self.kept.extend(
            repository
                .kept
                .into_iter()
                .map(|(tag, digest, reason)| KeptTag {
                    image: image.clone(),
                    tag,
                    digest,
                    reason,
                }),
        );
        let undeletable = self
            .kept
            .iter()
            .filter(|kept| kept.image == image && kept.reason == KeepReason::NotDeletable)
            .count();
        if undeletable > 0 {
            self.warnings.push(format!(
                "{image}: the registry does not allow deletions, so {undeletable} tags are kept; \
                 a setting of the registry may allow them"
            ));
        }
        let is_affected = !repository.groups.is_empty()
            || self.kept.iter().any(|kept| {
                kept.image == image && matches!(kept.reason, KeepReason::ListingNotProved(_))
            });
        if let Some(doubt) = repository.listing_doubt.as_ref().filter(|_| is_affected) {
            self.warnings.push(format!(
                "{image}: nothing is deleted by digest, because the registry may have tags that it \
                 did not list: {doubt}"
            ));
        }
        if let Some(error) = repository.error {
            self.totals.errors += 1;
            self.errors.push(FailedRepository {
                image: image.clone(),
                error,
            });
        }
        self.warnings.extend(
            repository
                .warnings
                .into_iter()
                .map(|warning| format!("{image}: {warning}")),
        );
        if repository.freed_files > 0 {
            tracing::info!(
                "{image}: removed {} unreferenced files",
                repository.freed_files
            );
        }
        self.freed_bytes += repository.freed_bytes;
        self.parts += repository.parts;
        for retirement in repository.retirements {
            self.add_retirement(&image, retirement);
        }
        let mut untagged = 0;
        for group in repository.groups {
            let digest = group.digest;
            if group.tags.is_empty() {
                match group.result {
                    DeletionResult::Deleted => self.parts += 1,
                    DeletionResult::Planned => untagged += 1,
                    DeletionResult::Failed(error) => {
                        self.totals.errors += 1;
                        self.errors.push(FailedRepository {
                            image: image.clone(),
                            error: ItemError::other(format!(
                                "the untagged manifest {} was not deleted",
                                digest.short()
                            ))
                            .caused_by(error),
                        });
                    }
                    DeletionResult::Kept(_) | DeletionResult::NotStarted => {}
                }
                continue;
            }
            self.totals.archived += group.archived.len();
            self.archived.extend(
                group
                    .archived
                    .into_iter()
                    .map(|(tag, archive)| ArchivedTag {
                        image: image.clone(),
                        tag,
                        digest: digest.clone(),
                        archive,
                    }),
            );
            for (tag, reason) in group.tags {
                self.totals.examined += 1;
                let (image, digest) = (image.clone(), digest.clone());
                match &group.result {
                    DeletionResult::Failed(error) if !group.deleted_tags.contains(&tag) => {
                        self.totals.errors += 1;
                        self.failed.push(FailedTag {
                            image,
                            tag,
                            digest,
                            error: error.clone(),
                        });
                    }
                    DeletionResult::NotStarted => self.totals.not_done += 1,
                    DeletionResult::Kept(reason) => {
                        self.totals.kept += 1;
                        self.kept.push(KeptTag {
                            image,
                            tag,
                            digest: Some(digest),
                            reason: reason.clone(),
                        });
                    }
                    DeletionResult::Planned
                    | DeletionResult::Deleted
                    | DeletionResult::Failed(_) => {
                        self.totals.deleted += 1;
                        self.deleted.push(DeletedTag {
                            image,
                            tag,
                            digest,
                            reason,
                        });
                    }
                }
            }
        }
        if untagged > 0 {
            self.notes.push(format!(
                "{image}: {untagged} manifests without a tag that nothing needs would be deleted"
            ));
        }
        self.add_lost(&image, lost);
    }

    /// Moves kept tags that are gone to the failed ones.
    fn add_lost(&mut self, image: &Repository, lost: Vec<LostTag>) {
        for LostTag { tag, digest, error } in lost {
            let before = self.kept.len();
            self.kept
                .retain(|kept| kept.image != *image || kept.tag != tag);
            self.totals.kept -= before - self.kept.len();
            self.totals.errors += 1;
            let image = image.clone();
            if let Some(digest) = digest {
                self.failed.push(FailedTag {
                    image,
                    tag,
                    digest,
                    error,
                });
            } else {
                let mut error = error;
                error.cause = format!("the tag {tag}: {}", error.cause);
                self.errors.push(FailedRepository { image, error });
            }
        }
    }

    /// Adds the repositories whose state could not be stored, so that their tags wait longer.
    pub fn add_unstored(&mut self, unstored: Vec<(Repository, ItemError)>) {
        self.totals.errors += unstored.len();
        self.errors
            .extend(unstored.into_iter().map(|(image, error)| {
                let cause = format!("its state cannot be stored, so tags wait longer: {error}");
                FailedRepository {
                    image,
                    error: ItemError::other(cause),
                }
            }));
    }

    /// Returns true if the rules select any tag.
    pub fn selects_tags(&self) -> bool {
        self.totals.deleted + self.totals.waiting + self.totals.retired > 0
    }

    fn add_retirement(&mut self, image: &Repository, outcome: RetirementOutcome) {
        let RetirementOutcome { retirement, result } = outcome;
        let (digest, pending) = (retirement.group.digest, retirement.pending);
        for (tag, _) in retirement.group.tags {
            self.totals.examined += 1;
            let (image, digest, pending) = (image.clone(), digest.clone(), pending.clone());
            match &result {
                RetirementResult::Planned | RetirementResult::Retired => {
                    self.totals.retired += 1;
                    self.retired.push(MovedTag {
                        image,
                        tag,
                        digest,
                        pending,
                    });
                }
                RetirementResult::Kept(reason) => {
                    self.totals.kept += 1;
                    self.kept.push(KeptTag {
                        image,
                        tag,
                        digest: Some(digest),
                        reason: reason.clone(),
                    });
                }
                RetirementResult::Failed(error) => {
                    self.totals.errors += 1;
                    self.failed.push(FailedTag {
                        image,
                        tag,
                        digest,
                        error: error.clone(),
                    });
                }
                RetirementResult::NotStarted => self.totals.not_done += 1,
            }
        }
    }

    /// Returns the exit code.
    pub fn exit(&self) -> Exit {
        if self.totals.errors > 0 || self.safety_error.is_some() {
            Exit::Failed
        } else {
            Exit::Done
        }
    }

    /// Returns the report as text.
    pub fn document(&self) -> Document {
        let mut blocks = Vec::new();
        let rows = self.rows();
        if !rows.is_empty() {
            let columns: &[&str] = if self.mode == Mode::List {
                &[]
            } else {
                &["Image", "Result", "Reason"]
            };
            blocks.push(Block::Table(Table {
                title: None,
                columns: columns.iter().map(|column| (*column).to_owned()).collect(),
                rows,
            }));
        }
        let lines = self.lines();
        if !lines.is_empty() {
            blocks.push(Block::Lines(lines));
        }
        if self.mode != Mode::List {
            blocks.push(Block::Summary(self.summary()));
        }
        Document { blocks }
    }

    fn rows(&self) -> Vec<Vec<Cell>> {
        let row = |image: &Repository, tag: &Tag, result: Cell, reason: String| {
            vec![
                Cell::plain(format!("{image}:{tag}")),
                result,
                Cell::plain(reason),
            ]
        };
        let word = if self.dry_run {
            Cell::plain("to delete")
        } else {
            Cell::toned("deleted", Tone::Good)
        };
        let deleted = self.deleted.iter().map(|deleted| {
            row(
                &deleted.image,
                &deleted.tag,
                word.clone(),
                deleted.reason.words().to_owned(),
            )
        });
        let failed = self.failed.iter().map(|failed| {
            row(
                &failed.image,
                &failed.tag,
                Cell::toned("failed", Tone::Bad),
                failed.error.to_string(),
            )
        });
        let word = if self.dry_run {
            Cell::plain("to retire")
        } else {
            Cell::toned("retired", Tone::Good)
        };
        let retired = self.retired.iter().map(|retired| {
            let pending = &retired.pending;
            let (to, until) = (&pending.to, pending.until);
            row(
                &retired.image,
                &retired.tag,
                word.clone(),
                format!("{}; now {to}, until {until}", pending.because.words()),
            )
        });
        let is_waiting = |kept: &&KeptTag| matches!(kept.reason, KeepReason::Waiting(_));
        let kept_row = |kept: &KeptTag| {
            let cell = if is_waiting(&kept) {
                Cell::toned("waiting", Tone::Warning)
            } else {
                Cell::toned("kept", Tone::Quiet)
            };
            row(&kept.image, &kept.tag, cell, kept.reason.words())
        };
        let waiting = self.kept.iter().filter(is_waiting).map(kept_row);
        let kept = self
            .kept
            .iter()
            .filter(|kept| !is_waiting(kept))
            .map(kept_row);
        let selected = deleted.chain(retired).chain(failed).chain(waiting);
        match self.mode {
            Mode::List => selected.collect(),
            Mode::DryRun | Mode::Apply => selected.chain(kept).collect(),
        }
    }

    fn lines(&self) -> Vec<String> {
        let safety = self
            .safety_error
            .iter()
            .map(|error| Diagnostic::error("safety checks", "nothing is deleted", error));
        let repositories = self.errors.iter().map(|failed| {
            Diagnostic::error("repositories", failed.image.to_string(), &failed.error)
        });
        let tags = self.failed.iter().map(|failed| {
            Diagnostic::error(
                "tags",
                format!("{}:{}", failed.image, failed.tag),
                &failed.error,
            )
        });
        let mut lines = diagnostics::lines(safety.chain(repositories).chain(tags));
        lines.extend(
            self.warnings
                .iter()
                .map(|warning| format!("warning: {warning}")),
        );
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        lines.extend(self.orphans.iter().map(|orphan| {
            format!("note: {orphan} is not in the configuration and was not changed")
        }));
        if let Some(run) = self.run.iter().find(|_| self.mode == Mode::Apply) {
            lines.push(format!(
                "note: `imglife cleanup --undo {run}` restores the tags"
            ));
        }
        let is_remote = |deleted: &DeletedTag| matches!(deleted.image, Repository::Remote { .. });
        if self.mode == Mode::Apply && self.deleted.iter().any(is_remote) {
            lines.push(
                "note: registries free the disk space in their own garbage collection".to_owned(),
            );
        }
        if self.mode != Mode::Apply && self.deleted.iter().any(is_remote) {
            lines.push(
                "note: this assumes that the registry can delete tags; only a run without \
                 `--dry-run` and `--list` finds out"
                    .to_owned(),
            );
        }
        lines
    }

    fn summary(&self) -> Summary {
        let totals = &self.totals;
        let mut examined = SummaryRow::new("Tags examined", totals.examined);
        let deleted = SummaryRow::new(
            if self.dry_run { "To delete" } else { "Deleted" },
            totals.deleted,
        );
        let freed = (self.freed_bytes > 0).then(|| human_bytes(self.freed_bytes));
        examined.children = vec![
            SummaryRow {
                extra: freed,
                ..deleted
            },
            SummaryRow::new(
                if self.dry_run {
                    "To archive"
                } else {
                    "Archived"
                },
                totals.archived,
            ),
            SummaryRow::new("Kept", totals.kept),
        ];
        if totals.waiting > 0 {
            let row = SummaryRow::new("Waiting (part of kept)", totals.waiting);
            examined.children.push(row);
        }
        if totals.retired > 0 {
            let word = if self.dry_run { "To retire" } else { "Retired" };
            examined
                .children
                .push(SummaryRow::new(word, totals.retired));
        }
        examined.children.extend([SummaryRow {
            tone: if totals.errors > 0 {
                Tone::Bad
            } else {
                Tone::Plain
            },
            ..SummaryRow::new("Errors", totals.errors)
        }]);
        if totals.not_done > 0 {
            examined.children.push(SummaryRow {
                tone: Tone::Warning,
                ..SummaryRow::new("Not done", totals.not_done)
            });
        }
        Summary {
            title: "Cleanup".to_owned(),
            dry_run: self.dry_run,
            duration: Some(self.duration),
            rows: vec![examined],
        }
    }
}
