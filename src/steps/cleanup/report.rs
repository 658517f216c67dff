//! What became of each tag, for people and for machines.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::judge::{Condemned, Kept};
use super::plan::{Group, Plan, RepositoryPlan};
use crate::error::Exit;
use crate::model::{Digest, ImageReference, Repository, Tag, TagVersion};
use crate::report::text::human_bytes;
use crate::report::{Block, Cell, Document, Summary, SummaryRow, Table, Tone};
use crate::steps::problems::{self, Problem};
use crate::steps::{Mode, Trouble, seconds};

/// The result of a clean-up.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CleanupReport {
    #[serde(skip)]
    pub mode: Mode,
    pub dry_run: bool,
    /// The run was stopped before its end.
    pub interrupted: bool,
    #[serde(rename = "durationSeconds", serialize_with = "seconds")]
    pub duration: Duration,
    pub totals: Totals,
    /// Why nothing was deleted at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<Trouble>,
    pub kept: Vec<KeptTag>,
    /// Deleted, or in the dry modes to be deleted.
    pub deleted: Vec<DeletedTag>,
    /// Those that were copied to an archive first, or are to be.
    pub archived: Vec<ArchivedTag>,
    pub failed: Vec<FailedTag>,
    /// What went wrong with whole repositories.
    pub errors: Vec<FailedRepository>,
    /// Repositories beside the bases that the configuration does not name.
    pub orphans: Vec<Repository>,
    pub warnings: Vec<String>,
    /// What the rules could not be held to, once for each repository.
    pub notes: Vec<String>,
    /// Removed from OCI layouts.
    pub freed_bytes: u64,
    /// Manifests without a tag that went with their images.
    pub parts: usize,
}

/// Counts over all tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    pub examined: usize,
    pub deleted: usize,
    pub archived: usize,
    pub kept: usize,
    pub errors: usize,
    /// Left alone because the run was stopped.
    pub not_done: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptTag {
    pub image: Repository,
    pub tag: Tag,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    #[serde(flatten)]
    pub reason: Kept,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeletedTag {
    pub image: Repository,
    pub tag: Tag,
    pub digest: Digest,
    pub reason: Condemned,
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
    pub error: Trouble,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedRepository {
    pub image: Repository,
    pub error: Trouble,
}

/// How it went with an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Planned,
    Deleted,
    Failed(Trouble),
    /// It turned out that it has to stay.
    Stays(Kept),
    /// The run was stopped before its turn.
    NotStarted,
}

/// What became of the condemned tags of one image.
pub(super) struct GroupReport {
    pub(super) digest: Digest,
    pub(super) tags: Vec<(Tag, Condemned)>,
    pub(super) outcome: Outcome,
    pub(super) archived: Vec<(Tag, ImageReference)>,
    pub(super) parts: BTreeSet<Digest>,
    /// The tags that were deleted before something failed.
    pub(super) gone: BTreeSet<Tag>,
}

impl GroupReport {
    pub(super) fn new(group: &Group, outcome: Outcome) -> GroupReport {
        let planned = outcome == Outcome::Planned;
        let archived = group
            .archive
            .iter()
            .filter(|_| planned)
            .map(|(tag, image)| (tag.clone(), image.clone()))
            .collect();
        GroupReport {
            digest: group.digest.clone(),
            tags: group.tags.clone(),
            outcome,
            archived,
            parts: group.parts.clone(),
            gone: BTreeSet::new(),
        }
    }
}

/// What became of one repository.
pub(super) struct RepositoryReport {
    pub(super) repository: Repository,
    pub(super) trouble: Option<Trouble>,
    pub(super) kept: Vec<(Tag, Option<Digest>, Kept)>,
    pub(super) groups: Vec<GroupReport>,
    pub(super) warnings: Vec<String>,
    pub(super) freed_files: usize,
    pub(super) freed_bytes: u64,
    pub(super) parts: usize,
}

impl RepositoryReport {
    pub(super) fn new(planned: &RepositoryPlan) -> RepositoryReport {
        RepositoryReport {
            repository: planned.repository.clone(),
            trouble: planned.trouble.clone(),
            kept: planned.kept.clone(),
            groups: Vec::new(),
            warnings: Vec::new(),
            freed_files: 0,
            freed_bytes: 0,
            parts: 0,
        }
    }
}

/// Returns what is said of a repository of which tags go whose age nobody tells.
fn undated(planned: &RepositoryPlan) -> Option<String> {
    let (repository, count) = (&planned.repository, planned.undated);
    let text = "are not told, so none of them is kept for being younger than 24 hours";
    (count > 0).then(|| format!("{repository}: the ages of {count} of the tags that go {text}"))
}

impl CleanupReport {
    pub(super) fn new(
        mode: Mode,
        plan: &Plan,
        repositories: Vec<RepositoryReport>,
    ) -> CleanupReport {
        let mut report = CleanupReport {
            guard: plan.guard.clone(),
            orphans: plan.orphans.clone(),
            warnings: plan.warnings.clone(),
            notes: plan.repositories.iter().filter_map(undated).collect(),
            ..CleanupReport::stopped(mode, Duration::ZERO)
        };
        report.interrupted = false;
        for repository in repositories {
            report.add(repository);
        }
        // As people read versions, the newest first.
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

    /// Returns the report of a run that was stopped before anything was planned.
    pub fn stopped(mode: Mode, duration: Duration) -> CleanupReport {
        CleanupReport {
            mode,
            dry_run: mode != Mode::Apply,
            interrupted: true,
            duration,
            totals: Totals::default(),
            guard: None,
            kept: Vec::new(),
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

    fn add(&mut self, repository: RepositoryReport) {
        let image = repository.repository;
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
        let stuck = self
            .kept
            .iter()
            .filter(|kept| kept.image == image && kept.reason == Kept::NotDeletable)
            .count();
        if stuck > 0 {
            self.warnings
                .push(format!("{image}: the registry deletes nothing, so {stuck} tags stay that would go; its settings may allow it"));
        }
        if let Some(error) = repository.trouble {
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
                "{image}: removed {} files that nothing refers to",
                repository.freed_files
            );
        }
        self.freed_bytes += repository.freed_bytes;
        self.parts += repository.parts;
        for group in repository.groups {
            let digest = group.digest;
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
                match &group.outcome {
                    Outcome::Failed(trouble) if !group.gone.contains(&tag) => {
                        self.totals.errors += 1;
                        self.failed.push(FailedTag {
                            image,
                            tag,
                            digest,
                            error: trouble.clone(),
                        });
                    }
                    Outcome::NotStarted => self.totals.not_done += 1,
                    Outcome::Stays(reason) => {
                        self.totals.kept += 1;
                        self.kept.push(KeptTag {
                            image,
                            tag,
                            digest: Some(digest),
                            reason: reason.clone(),
                        });
                    }
                    Outcome::Planned | Outcome::Deleted | Outcome::Failed(_) => {
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
    }

    /// Returns how the command ends on this report.
    pub fn exit(&self) -> Exit {
        if self.totals.errors > 0 || self.guard.is_some() {
            Exit::Failed
        } else {
            Exit::Done
        }
    }

    /// Returns the report for people.
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
                failed.error.cause.clone(),
            )
        });
        let kept = self.kept.iter().map(|kept| {
            row(
                &kept.image,
                &kept.tag,
                Cell::toned("kept", Tone::Quiet),
                kept.reason.words(),
            )
        });
        match self.mode {
            Mode::List => deleted.collect(),
            Mode::DryRun | Mode::Apply => deleted.chain(failed).chain(kept).collect(),
        }
    }

    fn lines(&self) -> Vec<String> {
        let guard = self
            .guard
            .iter()
            .map(|guard| Problem::error("guard", "nothing is deleted", guard));
        let repositories = self
            .errors
            .iter()
            .map(|failed| Problem::error("repositories", failed.image.to_string(), &failed.error));
        let tags = self.failed.iter().map(|failed| {
            Problem::error(
                "tags",
                format!("{}:{}", failed.image, failed.tag),
                &failed.error,
            )
        });
        let mut lines = problems::lines(guard.chain(repositories).chain(tags));
        lines.extend(
            self.warnings
                .iter()
                .map(|warning| format!("warning: {warning}")),
        );
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        lines.extend(
            self.orphans.iter().map(|orphan| {
                format!("note: {orphan} is not in the configuration; it is left alone")
            }),
        );
        let is_remote = |deleted: &DeletedTag| matches!(deleted.image, Repository::Remote { .. });
        if self.mode == Mode::Apply && self.deleted.iter().any(is_remote) {
            lines
                .push("note: registries free the space by their own garbage collection".to_owned());
        }
        if self.mode != Mode::Apply && self.deleted.iter().any(is_remote) {
            lines.push("note: what a registry deletes is asked by the real run only; this assumes that it deletes by tag".to_owned());
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
            SummaryRow {
                tone: if totals.errors > 0 {
                    Tone::Bad
                } else {
                    Tone::Plain
                },
                ..SummaryRow::new("Errors", totals.errors)
            },
        ];
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
