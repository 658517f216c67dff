//! Result of a sync: the outcome of each tag, as JSON and as a text report.

use std::time::Duration;

use serde::Serialize;

use super::plan::SyncItem;
use super::select::LeftOutCounts;
use crate::error::{Exit, ItemError};
use crate::model::{Digest, Repository, Tag};
use crate::report::text::human_bytes;
use crate::report::{Block, Cell, Document, Summary, SummaryRow, Table, Tone};
use crate::steps::diagnostics::{self, Diagnostic};
use crate::steps::hooks::HookReport;
use crate::steps::{Mode, seconds};
use crate::transfer::CopiedBytes;

/// The result of a sync.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncReport {
    #[serde(skip)]
    pub mode: Mode,
    /// True if a tag that the target refuses to move is a failure.
    #[serde(skip)]
    pub fails_on_drift: bool,
    pub dry_run: bool,
    /// True if the run was interrupted.
    pub interrupted: bool,
    #[serde(rename = "durationSeconds", serialize_with = "seconds")]
    pub duration: Duration,
    pub totals: SyncTotals,
    pub entries: Vec<SyncEntryReport>,
    /// Hooks that ran after all entries.
    pub hooks: Vec<HookReport>,
}

/// Counts over all entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncTotals {
    pub selected: usize,
    /// Tags that were copied, or that would be copied in a run that changes nothing.
    pub copied: usize,
    pub up_to_date: usize,
    pub failed: usize,
    /// Tags whose images cannot be copied, in entries that allow to skip them.
    pub skipped: usize,
    /// Tags that moved upstream, at targets that refuse to move them.
    pub drifted: usize,
    /// Tags that were not copied because the run was interrupted.
    pub not_done: usize,
    /// Entries that failed as a whole.
    pub failed_entries: usize,
    /// Attachments (signatures, for example) that were copied.
    pub attachments: usize,
    #[serde(flatten)]
    pub bytes: SyncBytes,
}

/// Amounts of content, in bytes: transferred, mounted within the target, and already present at the
/// target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncBytes {
    pub bytes_moved: u64,
    pub bytes_mounted: u64,
    pub bytes_skipped: u64,
}

impl SyncBytes {
    /// Returns the transferred and mounted amounts as text.
    pub(super) fn summary(&self) -> String {
        match (self.bytes_moved, self.bytes_mounted) {
            (0, 0) => "already present".to_owned(),
            (0, mounted) => format!("{} mounted", human_bytes(mounted)),
            (moved, 0) => human_bytes(moved),
            (moved, mounted) => format!("{}, {} mounted", human_bytes(moved), human_bytes(mounted)),
        }
    }
}

impl From<CopiedBytes> for SyncBytes {
    fn from(copied: CopiedBytes) -> SyncBytes {
        SyncBytes {
            bytes_moved: copied.moved,
            bytes_mounted: copied.mounted,
            bytes_skipped: copied.skipped,
        }
    }
}

/// Result of one entry.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncEntryReport {
    pub source: Repository,
    pub target: Repository,
    /// Short description of the tag selection.
    pub selection: String,
    pub left_out: LeftOutCounts,
    /// Number of selected tags that another entry copies from the same image.
    pub merged: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Error that made the entry fail as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ItemError>,
    #[serde(rename = "tags")]
    pub items: Vec<SyncItemReport>,
    pub hooks: Vec<HookReport>,
}

impl SyncEntryReport {
    /// Returns the tags that were copied.
    pub fn copied(&self) -> impl Iterator<Item = &SyncItemReport> {
        self.items
            .iter()
            .filter(|item| item.outcome == SyncOutcome::Copied)
    }
}

/// Result of one tag.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncItemReport {
    /// Tag at the source.
    pub tag: Tag,
    /// Tag at the target, if it differs from the tag at the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_tag: Option<Tag>,
    #[serde(flatten)]
    pub outcome: SyncOutcome,
    /// Digest at the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_digest: Option<Digest>,
    #[serde(flatten)]
    pub bytes: SyncBytes,
    /// Number of attachments (signatures, for example) that were copied.
    pub attachments: usize,
    #[serde(rename = "durationSeconds", serialize_with = "seconds")]
    pub duration: Duration,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl SyncItemReport {
    pub(super) fn new(item: &SyncItem, outcome: SyncOutcome) -> SyncItemReport {
        SyncItemReport {
            tag: item.tag.clone(),
            target_tag: (item.target_tag != item.tag).then(|| item.target_tag.clone()),
            outcome,
            digest: None,
            source_digest: None,
            bytes: SyncBytes::default(),
            attachments: 0,
            duration: Duration::ZERO,
            warnings: item.warnings.clone(),
        }
    }

    /// Returns the tag at the target.
    pub fn stored_as(&self) -> &Tag {
        self.target_tag.as_ref().unwrap_or(&self.tag)
    }
}

/// Outcome of one tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "outcome", content = "error")]
pub enum SyncOutcome {
    UpToDate,
    /// Would be copied, in a run that changes nothing.
    Planned,
    Copied,
    Failed(ItemError),
    /// The image cannot be copied, and the entry allows to skip it.
    Skipped(ItemError),
    /// The tag moved upstream, and the target refuses to move it.
    Drifted(ItemError),
    /// The run was interrupted during the copy. The tag was not changed.
    Interrupted,
    /// The run was interrupted before the copy started.
    NotStarted,
}

impl SyncOutcome {
    /// Returns the label of the outcome in the text report, with its tone.
    fn label(&self) -> (&'static str, Tone) {
        match self {
            SyncOutcome::UpToDate => ("up to date", Tone::Quiet),
            SyncOutcome::Planned => ("to copy", Tone::Plain),
            SyncOutcome::Copied => ("copied", Tone::Good),
            SyncOutcome::Failed(_) => ("failed", Tone::Bad),
            SyncOutcome::Skipped(_) => ("skipped", Tone::Quiet),
            SyncOutcome::Drifted(_) => ("drifted", Tone::Warning),
            SyncOutcome::Interrupted => ("interrupted", Tone::Warning),
            SyncOutcome::NotStarted => ("not started", Tone::Warning),
        }
    }
}

impl SyncReport {
    pub(super) fn new(mode: Mode, entries: Vec<SyncEntryReport>) -> SyncReport {
        let mut totals = SyncTotals::default();
        for entry in &entries {
            totals.failed_entries += usize::from(entry.error.is_some());
            for item in &entry.items {
                totals.selected += 1;
                match item.outcome {
                    SyncOutcome::UpToDate => totals.up_to_date += 1,
                    SyncOutcome::Planned | SyncOutcome::Copied => totals.copied += 1,
                    SyncOutcome::Failed(_) => totals.failed += 1,
                    SyncOutcome::Skipped(_) => totals.skipped += 1,
                    SyncOutcome::Drifted(_) => totals.drifted += 1,
                    SyncOutcome::Interrupted | SyncOutcome::NotStarted => totals.not_done += 1,
                }
                totals.attachments += item.attachments;
                totals.bytes.bytes_moved += item.bytes.bytes_moved;
                totals.bytes.bytes_mounted += item.bytes.bytes_mounted;
                totals.bytes.bytes_skipped += item.bytes.bytes_skipped;
            }
        }
        SyncReport {
            mode,
            fails_on_drift: false,
            dry_run: mode != Mode::Apply,
            interrupted: false,
            duration: Duration::ZERO,
            totals,
            entries,
            hooks: Vec::new(),
        }
    }

    /// Returns the report of a run that was interrupted before the plan was made.
    pub fn stopped(mode: Mode, duration: Duration) -> SyncReport {
        SyncReport {
            interrupted: true,
            duration,
            ..SyncReport::new(mode, Vec::new())
        }
    }

    /// Returns the exit status of the command: `Exit::Failed` if a tag, an entry or a hook failed.
    pub fn exit(&self) -> Exit {
        let hook_failed = |hooks: &[HookReport]| hooks.iter().any(HookReport::failed);
        let failed = self.totals.failed > 0
            || (self.fails_on_drift && self.totals.drifted > 0)
            || self.totals.failed_entries > 0
            || hook_failed(&self.hooks)
            || self.entries.iter().any(|entry| hook_failed(&entry.hooks));
        if failed { Exit::Failed } else { Exit::Done }
    }

    /// Returns the text report.
    pub fn document(&self) -> Document {
        if self.mode == Mode::List {
            return self.listing();
        }
        let mut blocks = Vec::new();
        if let Some(table) = self.table() {
            blocks.push(Block::Table(table));
        }
        let problems = self.problems();
        if !problems.is_empty() {
            blocks.push(Block::Lines(problems));
        }
        blocks.push(Block::Summary(self.summary()));
        Document { blocks }
    }

    /// Returns the report of `--list`: a row for each selected tag, and for each entry the number
    /// of tags that each rule left out.
    fn listing(&self) -> Document {
        let mut tags = Table {
            title: None,
            columns: Vec::new(),
            rows: Vec::new(),
        };
        let mut counts = Table {
            title: None,
            columns: [
                "Source",
                "Selected",
                "Not matching",
                "Excluded",
                "Too young",
                "Pre-releases",
                "Beyond keep_last",
                "Attachments",
            ]
            .map(str::to_owned)
            .to_vec(),
            rows: Vec::new(),
        };
        for entry in &self.entries {
            for item in &entry.items {
                let (label, tone) = item.outcome.label();
                tags.rows.push(vec![
                    Cell::plain(format!("{}:{}", entry.source, item.tag)),
                    Cell::plain(format!("{}:{}", entry.target, item.stored_as())),
                    Cell::toned(label, tone),
                ]);
            }
            let left_out = &entry.left_out;
            let numbers = [
                entry.items.len(),
                left_out.not_matching,
                left_out.excluded + left_out.former,
                left_out.too_young,
                left_out.pre_releases,
                left_out.beyond_keep_last + left_out.beyond_keep_groups,
                left_out.attachments,
            ];
            let mut row = vec![Cell::plain(format!(
                "{} ({})",
                entry.source, entry.selection
            ))];
            row.extend(numbers.map(|number| Cell::plain(number.to_string())));
            counts.rows.push(row);
        }
        let problems = self.problems();
        let mut blocks = Vec::new();
        if !tags.rows.is_empty() {
            blocks.push(Block::Table(tags));
        }
        blocks.push(Block::Table(counts));
        if !problems.is_empty() {
            blocks.push(Block::Lines(problems));
        }
        Document { blocks }
    }

    /// Returns a row for each tag that is not up to date, and one row for each entry with the
    /// number of tags that are. `None` if there are no rows.
    fn table(&self) -> Option<Table> {
        let mut rows = Vec::new();
        for entry in &self.entries {
            for item in entry
                .items
                .iter()
                .filter(|item| item.outcome != SyncOutcome::UpToDate)
            {
                let (label, tone) = item.outcome.label();
                let mut row = vec![
                    Cell::plain(format!("{}:{}", entry.target, item.stored_as())),
                    Cell::toned(label, tone),
                ];
                if item.outcome == SyncOutcome::Copied {
                    let amounts = [
                        item.bytes.bytes_moved,
                        item.bytes.bytes_mounted,
                        item.bytes.bytes_skipped,
                    ];
                    row.extend(amounts.map(|bytes| Cell::plain(human_bytes(bytes))));
                }
                rows.push(row);
            }
            let up_to_date = entry
                .items
                .iter()
                .filter(|item| item.outcome == SyncOutcome::UpToDate)
                .count();
            if up_to_date > 0 {
                // If several entries have this target, the row also names the selection.
                let shared = self
                    .entries
                    .iter()
                    .filter(|other| other.target == entry.target)
                    .count()
                    > 1;
                let name = if shared {
                    format!("{} ({})", entry.target, entry.selection)
                } else {
                    entry.target.to_string()
                };
                rows.push(vec![
                    Cell::plain(name),
                    Cell::toned(format!("{up_to_date} up to date"), Tone::Quiet),
                ]);
            }
        }
        let columns = if self.totals.copied > 0 && self.mode == Mode::Apply {
            ["Image", "Result", "Moved", "Mounted", "Present"]
                .map(str::to_owned)
                .to_vec()
        } else {
            ["Image", "Result"].map(str::to_owned).to_vec()
        };
        (!rows.is_empty()).then_some(Table {
            title: None,
            columns,
            rows,
        })
    }

    /// Returns errors and warnings, one line each, with hints below.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut warnings = Vec::new();
        for entry in &self.entries {
            if let Some(error) = &entry.error {
                problems.push(Diagnostic::error(
                    "mirrors",
                    format!("{} -> {}", entry.source, entry.target),
                    error,
                ));
            }
            warnings.extend(
                entry
                    .warnings
                    .iter()
                    .map(|warning| format!("warning: {}: {warning}", entry.source)),
            );
            for item in &entry.items {
                let name = format!("{}:{}", entry.target, item.stored_as());
                warnings.extend(
                    item.warnings
                        .iter()
                        .map(|warning| format!("warning: {name}: {warning}")),
                );
                match &item.outcome {
                    SyncOutcome::Failed(error) => {
                        problems.push(Diagnostic::error("tags", name, error));
                    }
                    SyncOutcome::Skipped(error) => {
                        warnings.push(format!("skipped: {name}: {}", error.line()));
                    }
                    SyncOutcome::Drifted(error) => warnings.push(format!(
                        "warning: {name}: the tag moved upstream, and the target refuses to move it: {}",
                        error.line()
                    )),
                    _ => {}
                }
            }
        }
        let mut lines = diagnostics::lines(problems);
        lines.append(&mut warnings);
        let hooks = self
            .entries
            .iter()
            .flat_map(|entry| &entry.hooks)
            .chain(&self.hooks);
        lines.extend(hooks.filter_map(HookReport::problem));
        lines
    }

    /// Returns the totals of the run.
    fn summary(&self) -> Summary {
        let mut selected = SummaryRow::new("Tags selected", self.totals.selected);
        let mut copied = SummaryRow::new(
            if self.dry_run { "To copy" } else { "Copied" },
            self.totals.copied,
        );
        if self.totals.copied > 0 && !self.dry_run {
            copied.extra = Some(self.totals.bytes.summary());
        }
        let mut failed = SummaryRow::new("Failed", self.totals.failed);
        if self.totals.failed > 0 {
            failed.tone = Tone::Bad;
        }
        selected.children = vec![
            copied,
            SummaryRow::new("Up to date", self.totals.up_to_date),
            failed,
        ];
        if self.totals.not_done > 0 {
            selected.children.push(SummaryRow {
                tone: Tone::Warning,
                ..SummaryRow::new("Not done", self.totals.not_done)
            });
        }
        let mut rows = vec![selected];
        if self.totals.attachments > 0 {
            rows.push(SummaryRow::new("Attachments", self.totals.attachments));
        }
        if self.totals.failed_entries > 0 {
            rows.push(SummaryRow {
                tone: Tone::Bad,
                ..SummaryRow::new("Entries failed", self.totals.failed_entries)
            });
        }
        Summary {
            title: "Sync".to_owned(),
            dry_run: self.dry_run,
            duration: Some(self.duration),
            rows,
        }
    }
}
