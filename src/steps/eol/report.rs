//! The report of `eol update`: the outcome of each product, as text and as JSON.

use std::time::Duration;

use serde::Serialize;

use super::plan::{Plan, ProductChange, ProductOutcome};
use crate::error::{Exit, ItemError};
use crate::report::{Block, Cell, Document, Summary, SummaryRow, Table, Tone};
use crate::steps::diagnostics::{self, Diagnostic};
use crate::steps::{Mode, seconds};

/// Maximum number of changes of a product in the text. The JSON has all.
const MAX_SHOWN_CHANGES: usize = 4;

/// Report of an update.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateReport {
    pub dry_run: bool,
    /// True if the run was stopped before the data was read.
    pub interrupted: bool,
    #[serde(rename = "durationSeconds", serialize_with = "seconds")]
    pub duration: Duration,
    /// Name of the data file.
    pub file: String,
    pub file_outcome: FileOutcome,
    pub totals: UpdateTotals,
    pub products: Vec<ProductReport>,
    /// Products that are in the file and not in the configuration.
    pub others: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateTotals {
    pub products: usize,
    pub added: usize,
    pub updated: usize,
    pub unchanged: usize,
    pub untracked: usize,
    pub failed: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FileOutcome {
    Unchanged,
    /// It would be written; the run changes nothing.
    Planned,
    Written,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProductReport {
    /// Name in the data.
    pub product: String,
    pub outcome: ProductOutcome,
    /// Number of cycles in the new data.
    pub cycles: usize,
    pub changes: Vec<String>,
    #[serde(flatten)]
    pub error: Option<ItemError>,
}

impl ProductOutcome {
    fn words(self) -> (&'static str, Tone) {
        match self {
            ProductOutcome::Added => ("added", Tone::Good),
            ProductOutcome::Updated => ("updated", Tone::Good),
            ProductOutcome::Unchanged => ("unchanged", Tone::Quiet),
            ProductOutcome::Untracked => ("untracked", Tone::Warning),
            ProductOutcome::Failed => ("failed", Tone::Bad),
        }
    }
}

impl UpdateReport {
    pub(super) fn new(
        plan: Plan,
        mode: Mode,
        file: String,
        file_outcome: FileOutcome,
    ) -> UpdateReport {
        let mut totals = UpdateTotals {
            products: plan.products.len(),
            ..UpdateTotals::default()
        };
        for product in &plan.products {
            *match product.outcome {
                ProductOutcome::Added => &mut totals.added,
                ProductOutcome::Updated => &mut totals.updated,
                ProductOutcome::Unchanged => &mut totals.unchanged,
                ProductOutcome::Untracked => &mut totals.untracked,
                ProductOutcome::Failed => &mut totals.failed,
            } += 1;
        }
        UpdateReport {
            dry_run: mode != Mode::Apply,
            interrupted: false,
            duration: Duration::ZERO,
            file,
            file_outcome,
            totals,
            products: plan.products.into_iter().map(ProductReport::from).collect(),
            others: plan.others,
        }
    }

    /// Returns the report of a run that was stopped before the data was read.
    pub fn stopped(mode: Mode, file: String, duration: Duration) -> UpdateReport {
        let plan = Plan {
            products: Vec::new(),
            others: Vec::new(),
            table: None,
        };
        UpdateReport {
            interrupted: true,
            duration,
            ..UpdateReport::new(plan, mode, file, FileOutcome::Unchanged)
        }
    }

    /// Returns the exit code.
    pub fn exit(&self) -> Exit {
        if self.totals.failed > 0 {
            Exit::Failed
        } else {
            Exit::Done
        }
    }

    /// Returns the report as text: changed products, errors and totals.
    pub fn document(&self) -> Document {
        let mut table = Table {
            title: None,
            columns: ["Product", "Result", "Changes"].map(str::to_owned).to_vec(),
            rows: Vec::new(),
        };
        let mut problems = Vec::new();
        for product in self
            .products
            .iter()
            .filter(|product| product.outcome != ProductOutcome::Unchanged)
        {
            let (words, tone) = product.outcome.words();
            table.rows.push(vec![
                Cell::plain(&product.product),
                Cell::toned(words, tone),
                Cell::plain(product.shown_changes()),
            ]);
            if let Some(error) = &product.error {
                let severity = if product.outcome == ProductOutcome::Failed {
                    "error"
                } else {
                    "warning"
                };
                problems.push(Diagnostic {
                    severity,
                    ..Diagnostic::error("products", &product.product, error)
                });
            }
        }
        let mut blocks = Vec::new();
        if !table.rows.is_empty() {
            blocks.push(Block::Table(table));
        }
        if !problems.is_empty() {
            blocks.push(Block::Lines(diagnostics::lines(problems)));
        }
        blocks.push(Block::Summary(self.summary()));
        Document { blocks }
    }

    fn summary(&self) -> Summary {
        let UpdateTotals {
            products,
            added,
            updated,
            unchanged,
            untracked,
            failed,
        } = self.totals;
        let mut rows = SummaryRow::new("Products", products);
        let toned = |tone, label: &str, count: usize| SummaryRow {
            tone: if count > 0 { tone } else { Tone::Plain },
            ..SummaryRow::new(label, count)
        };
        rows.children = vec![
            SummaryRow::new("Added", added),
            SummaryRow::new("Updated", updated),
            SummaryRow::new("Unchanged", unchanged),
        ];
        if untracked > 0 {
            rows.children
                .push(toned(Tone::Warning, "Untracked", untracked));
        }
        rows.children.push(toned(Tone::Bad, "Failed", failed));
        let outcome = match self.file_outcome {
            FileOutcome::Unchanged => "unchanged",
            FileOutcome::Planned => "to be written",
            FileOutcome::Written => "written",
        };
        let file = SummaryRow {
            extra: Some(outcome.to_owned()),
            ..SummaryRow::new("File", &self.file)
        };
        Summary {
            title: "End-of-life data".to_owned(),
            dry_run: self.dry_run,
            duration: Some(self.duration),
            rows: vec![rows, file],
        }
    }
}

impl From<ProductChange> for ProductReport {
    fn from(change: ProductChange) -> ProductReport {
        ProductReport {
            product: change.product,
            outcome: change.outcome,
            cycles: change.cycles,
            changes: change.changes,
            error: change.error,
        }
    }
}

impl ProductReport {
    fn shown_changes(&self) -> String {
        match (self.outcome, self.changes.len()) {
            (ProductOutcome::Added, _) => format!(
                "{} {}",
                self.cycles,
                if self.cycles == 1 { "cycle" } else { "cycles" }
            ),
            (ProductOutcome::Failed, _) if self.cycles > 0 => "existing data is kept".to_owned(),
            (_, ..=MAX_SHOWN_CHANGES) => self.changes.join("; "),
            (_, count) => format!(
                "{}; and {} more",
                self.changes[..MAX_SHOWN_CHANGES].join("; "),
                count - MAX_SHOWN_CHANGES
            ),
        }
    }
}
