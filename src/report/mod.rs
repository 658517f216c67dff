//! Reports as documents, and the formats they are written in.
//!
//! A step converts its result into a [`Document`], which `text` renders for people. `json`
//! serialises the report of the step itself under a versioned schema name. `junit`, `openmetrics`,
//! `dotenv` and `codequality` are formats that CI servers read. Nothing here writes to a stream.

use std::time::Duration;

pub mod codequality;
pub mod csv;
pub mod dotenv;
pub mod json;
pub mod junit;
pub mod markdown;
pub mod openmetrics;
pub mod text;

/// A report for people: blocks separated by blank lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    pub blocks: Vec<Block>,
}

impl Document {
    /// Applies `change` to every text of tables, lines and summaries. Titles and labels stay the
    /// same.
    pub fn map_texts(mut self, change: impl Fn(&str) -> String) -> Document {
        let apply = |text: &mut String| *text = change(text);
        for block in &mut self.blocks {
            match block {
                Block::Table(table) => table
                    .rows
                    .iter_mut()
                    .flatten()
                    .for_each(|cell| apply(&mut cell.text)),
                Block::Lines(lines) => lines.iter_mut().for_each(apply),
                Block::Summary(summary) => summary
                    .rows
                    .iter_mut()
                    .for_each(|row| apply(&mut row.value)),
            }
        }
        self
    }
}

/// Part of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    Table(Table),
    Lines(Vec<String>),
    Summary(Summary),
}

/// A table with aligned columns. Cells hold untrusted text, which is escaped when it is rendered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub title: Option<String>,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

/// A cell of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub text: String,
    pub tone: Tone,
}

impl Cell {
    /// Returns a cell without a colour.
    pub fn plain(text: impl Into<String>) -> Cell {
        Cell {
            text: text.into(),
            tone: Tone::Plain,
        }
    }

    /// Returns a cell with the colour of `tone`.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Cell {
        Cell {
            text: text.into(),
            tone,
        }
    }
}

/// Meaning of a text, which may be shown as a colour. The text must be understandable without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    Plain,
    Quiet,
    Good,
    Warning,
    Bad,
}

/// Summary at the end of a command that changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Title such as `Sync`. `[dry-run]` and the duration are added when it is rendered.
    pub title: String,
    pub dry_run: bool,
    pub duration: Option<Duration>,
    pub rows: Vec<SummaryRow>,
}

/// A line of a summary, with the lines below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryRow {
    pub label: String,
    pub value: String,
    /// Detail after the value, such as a number of bytes.
    pub extra: Option<String>,
    pub tone: Tone,
    pub children: Vec<SummaryRow>,
}

impl SummaryRow {
    /// Returns a row without extra, tone and children.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers pass counts and texts without a reference"
    )]
    pub fn new(label: impl Into<String>, value: impl ToString) -> SummaryRow {
        SummaryRow {
            label: label.into(),
            value: value.to_string(),
            extra: None,
            tone: Tone::Plain,
            children: Vec::new(),
        }
    }
}
