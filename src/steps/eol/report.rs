//! What became of each product, for people and for machines.

use std::time::Duration;

use serde::Serialize;

use super::update::Plan;
use crate::error::Exit;
use crate::report::{Block, Cell, Document, Summary, SummaryRow, Table, Tone};
use crate::steps::problems::{self, Problem};
use crate::steps::{Mode, Trouble, seconds};

/// How many changes of a product people are told; machines are told all.
const TOLD_CHANGES: usize = 4;

/// The result of an update.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateReport {
    pub dry_run: bool,
    /// The run was stopped before anything was known.
    pub interrupted: bool,
    #[serde(rename = "durationSeconds", serialize_with = "seconds")]
    pub duration: Duration,
    /// Where the data are kept.
    pub file: String,
    pub file_outcome: FileOutcome,
    pub totals: Totals,
    pub products: Vec<ProductReport>,
    /// Products that are in the file and not in the configuration.
    pub others: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
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
    /// To be written, in a run that changes nothing.
    Planned,
    Written,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProductReport {
    /// What it is kept under.
    pub product: String,
    pub outcome: ProductOutcome,
    /// How many cycles are known of it now.
    pub cycles: usize,
    pub changes: Vec<String>,
    #[serde(flatten)]
    pub trouble: Option<Trouble>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ProductOutcome {
    Added,
    Updated,
    Unchanged,
    /// No product was found for an image whose configuration names none.
    Untracked,
    /// What was known of it is kept.
    Failed,
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
        let mut totals = Totals {
            products: plan.products.len(),
            ..Totals::default()
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
            products: plan.products,
            others: plan.others,
        }
    }

    /// Returns the report of a run that was stopped before anything was known.
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

    /// Returns how the command ends on this report.
    pub fn exit(&self) -> Exit {
        if self.totals.failed > 0 {
            Exit::Failed
        } else {
            Exit::Done
        }
    }

    /// Returns the report for people: the products that have news, what went wrong, and the
    /// numbers.
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
                Cell::plain(product.told_changes()),
            ]);
            if let Some(trouble) = &product.trouble {
                let severity = if product.outcome == ProductOutcome::Failed {
                    "error"
                } else {
                    "warning"
                };
                problems.push(Problem {
                    severity,
                    ..Problem::error("products", &product.product, trouble)
                });
            }
        }
        let mut blocks = Vec::new();
        if !table.rows.is_empty() {
            blocks.push(Block::Table(table));
        }
        if !problems.is_empty() {
            blocks.push(Block::Lines(problems::lines(problems)));
        }
        blocks.push(Block::Summary(self.summary()));
        Document { blocks }
    }

    fn summary(&self) -> Summary {
        let Totals {
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

impl ProductReport {
    fn told_changes(&self) -> String {
        match (self.outcome, self.changes.len()) {
            (ProductOutcome::Added, _) => format!(
                "{} {}",
                self.cycles,
                if self.cycles == 1 { "cycle" } else { "cycles" }
            ),
            (ProductOutcome::Failed, _) if self.cycles > 0 => "what is known is kept".to_owned(),
            (_, ..=TOLD_CHANGES) => self.changes.join("; "),
            (_, count) => format!(
                "{}; and {} more",
                self.changes[..TOLD_CHANGES].join("; "),
                count - TOLD_CHANGES
            ),
        }
    }
}
