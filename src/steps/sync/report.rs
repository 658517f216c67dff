//! What became of each tag, for people and for machines.

use std::time::Duration;

use serde::Serialize;

use super::plan::Item;
use super::select::LeftOut;
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
    pub dry_run: bool,
    /// The run was stopped before its end.
    pub interrupted: bool,
    #[serde(rename = "durationSeconds", serialize_with = "seconds")]
    pub duration: Duration,
    pub totals: Totals,
    pub entries: Vec<EntryReport>,
    /// The hooks after all entries.
    pub hooks: Vec<HookReport>,
}

/// Counts over all entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    pub selected: usize,
    /// Copied, or in the dry modes to be copied.
    pub copied: usize,
    pub up_to_date: usize,
    pub failed: usize,
    /// Left alone because the run was stopped.
    pub not_done: usize,
    /// Entries of which nothing could be done at all.
    pub failed_entries: usize,
    /// Signatures and the like that came with what was copied.
    pub attachments: usize,
    #[serde(flatten)]
    pub bytes: Bytes,
}

/// Amounts of content, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bytes {
    pub bytes_moved: u64,
    pub bytes_mounted: u64,
    pub bytes_skipped: u64,
}

impl Bytes {
    /// Returns what moved and what was mounted, in words.
    pub(super) fn words(&self) -> String {
        match (self.bytes_moved, self.bytes_mounted) {
            (0, 0) => "all there".to_owned(),
            (0, mounted) => format!("{} mounted", human_bytes(mounted)),
            (moved, 0) => human_bytes(moved),
            (moved, mounted) => format!("{}, {} mounted", human_bytes(moved), human_bytes(mounted)),
        }
    }
}

impl From<CopiedBytes> for Bytes {
    fn from(copied: CopiedBytes) -> Bytes {
        Bytes {
            bytes_moved: copied.moved,
            bytes_mounted: copied.mounted,
            bytes_skipped: copied.skipped,
        }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryReport {
    pub source: Repository,
    pub target: Repository,
    /// What the entry asks for.
    pub selection: String,
    pub left_out: LeftOut,
    /// Why nothing could be done for the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ItemError>,
    #[serde(rename = "tags")]
    pub items: Vec<ItemReport>,
    pub hooks: Vec<HookReport>,
}

impl EntryReport {
    /// Returns the tags that were copied.
    pub fn changed(&self) -> impl Iterator<Item = &ItemReport> {
        self.items
            .iter()
            .filter(|item| item.outcome == Outcome::Copied)
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemReport {
    /// The tag upstream.
    pub tag: Tag,
    /// The tag at the target, where it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_tag: Option<Tag>,
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The digest at the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_digest: Option<Digest>,
    #[serde(flatten)]
    pub bytes: Bytes,
    /// Signatures and the like that came with it.
    pub attachments: usize,
    #[serde(rename = "durationSeconds", serialize_with = "seconds")]
    pub duration: Duration,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl ItemReport {
    pub(super) fn new(item: &Item, outcome: Outcome) -> ItemReport {
        ItemReport {
            tag: item.tag.clone(),
            target_tag: (item.target_tag != item.tag).then(|| item.target_tag.clone()),
            outcome,
            digest: None,
            source_digest: None,
            bytes: Bytes::default(),
            attachments: 0,
            duration: Duration::ZERO,
            warnings: item.warnings.clone(),
        }
    }

    /// Returns the tag that it has at the target.
    pub fn stored_as(&self) -> &Tag {
        self.target_tag.as_ref().unwrap_or(&self.tag)
    }
}

/// What became of a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "outcome", content = "error")]
pub enum Outcome {
    UpToDate,
    /// To be copied, in a run that changes nothing.
    Planned,
    Copied,
    Failed(ItemError),
    /// Stopped while it was being copied; the tag was not touched.
    Interrupted,
    /// The run was stopped before its turn.
    NotStarted,
}

impl Outcome {
    fn words(&self) -> (&'static str, Tone) {
        match self {
            Outcome::UpToDate => ("up to date", Tone::Quiet),
            Outcome::Planned => ("to copy", Tone::Plain),
            Outcome::Copied => ("copied", Tone::Good),
            Outcome::Failed(_) => ("failed", Tone::Bad),
            Outcome::Interrupted => ("interrupted", Tone::Warning),
            Outcome::NotStarted => ("not started", Tone::Warning),
        }
    }
}

impl SyncReport {
    pub(super) fn new(mode: Mode, entries: Vec<EntryReport>) -> SyncReport {
        let mut totals = Totals::default();
        for entry in &entries {
            totals.failed_entries += usize::from(entry.error.is_some());
            for item in &entry.items {
                totals.selected += 1;
                match item.outcome {
                    Outcome::UpToDate => totals.up_to_date += 1,
                    Outcome::Planned | Outcome::Copied => totals.copied += 1,
                    Outcome::Failed(_) => totals.failed += 1,
                    Outcome::Interrupted | Outcome::NotStarted => totals.not_done += 1,
                }
                totals.attachments += item.attachments;
                totals.bytes.bytes_moved += item.bytes.bytes_moved;
                totals.bytes.bytes_mounted += item.bytes.bytes_mounted;
                totals.bytes.bytes_skipped += item.bytes.bytes_skipped;
            }
        }
        SyncReport {
            mode,
            dry_run: mode != Mode::Apply,
            interrupted: false,
            duration: Duration::ZERO,
            totals,
            entries,
            hooks: Vec::new(),
        }
    }

    /// Returns the report of a run that was stopped before anything was planned.
    pub fn stopped(mode: Mode, duration: Duration) -> SyncReport {
        SyncReport {
            interrupted: true,
            duration,
            ..SyncReport::new(mode, Vec::new())
        }
    }

    /// Returns how the command ends on this report.
    pub fn exit(&self) -> Exit {
        let hook_failed = |hooks: &[HookReport]| hooks.iter().any(HookReport::failed);
        let failed = self.totals.failed > 0
            || self.totals.failed_entries > 0
            || hook_failed(&self.hooks)
            || self.entries.iter().any(|entry| hook_failed(&entry.hooks));
        if failed { Exit::Failed } else { Exit::Done }
    }

    /// Returns the report for people.
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

    /// Returns one line for each selected tag, and how many others each rule left out.
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
                "Beyond keep_last",
                "Attachments",
            ]
            .map(str::to_owned)
            .to_vec(),
            rows: Vec::new(),
        };
        for entry in &self.entries {
            for item in &entry.items {
                let (words, tone) = item.outcome.words();
                tags.rows.push(vec![
                    Cell::plain(format!("{}:{}", entry.source, item.tag)),
                    Cell::plain(format!("{}:{}", entry.target, item.stored_as())),
                    Cell::toned(words, tone),
                ]);
            }
            let left_out = &entry.left_out;
            let numbers = [
                entry.items.len(),
                left_out.not_matching,
                left_out.excluded,
                left_out.too_young,
                left_out.beyond_keep_last,
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

    /// Returns a row for each tag that is not simply up to date; those that are share a row.
    fn table(&self) -> Option<Table> {
        let mut rows = Vec::new();
        for entry in &self.entries {
            for item in entry
                .items
                .iter()
                .filter(|item| item.outcome != Outcome::UpToDate)
            {
                let (words, tone) = item.outcome.words();
                let mut row = vec![
                    Cell::plain(format!("{}:{}", entry.target, item.stored_as())),
                    Cell::toned(words, tone),
                ];
                if item.outcome == Outcome::Copied {
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
                .filter(|item| item.outcome == Outcome::UpToDate)
                .count();
            if up_to_date > 0 {
                // Several entries may have one target.
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

    /// Returns what went wrong and what to know, a line each, with hints below.
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
            for item in &entry.items {
                let name = format!("{}:{}", entry.target, item.stored_as());
                warnings.extend(
                    item.warnings
                        .iter()
                        .map(|warning| format!("warning: {name}: {warning}")),
                );
                if let Outcome::Failed(error) = &item.outcome {
                    problems.push(Diagnostic::error("tags", name, error));
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

    fn summary(&self) -> Summary {
        let mut selected = SummaryRow::new("Tags selected", self.totals.selected);
        let mut copied = SummaryRow::new(
            if self.dry_run { "To copy" } else { "Copied" },
            self.totals.copied,
        );
        if self.totals.copied > 0 && !self.dry_run {
            copied.extra = Some(self.totals.bytes.words());
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
