//! Reports as documents: what is said, apart from how it is drawn.
//!
//! A step turns its result into a [`Document`]; `text` draws it for people. The JSON form is the
//! step's own serialised report under a versioned name (`json`). `junit` and `openmetrics` are the
//! forms that CI servers read. Nothing here prints.

use std::time::Duration;

pub mod codequality;
pub mod csv;
pub mod dotenv;
pub mod json;
pub mod junit;
pub mod markdown;
pub mod openmetrics;
pub mod text;

/// A report for people: blocks, drawn one below the other with a blank line between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    pub blocks: Vec<Block>,
}

impl Document {
    /// Returns the document with every text of its tables, lines and summaries as `change` makes
    /// it. Titles and labels stay.
    pub fn with_texts(mut self, change: impl Fn(&str) -> String) -> Document {
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    Table(Table),
    Lines(Vec<String>),
    Summary(Summary),
}

/// A table with aligned columns. Cells are text from outside as it came; drawing makes it safe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub title: Option<String>,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub text: String,
    pub tone: Tone,
}

impl Cell {
    pub fn plain(text: impl Into<String>) -> Cell {
        Cell {
            text: text.into(),
            tone: Tone::Plain,
        }
    }

    pub fn toned(text: impl Into<String>, tone: Tone) -> Cell {
        Cell {
            text: text.into(),
            tone,
        }
    }
}

/// What a colour would say; never the only carrier of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    Plain,
    Quiet,
    Good,
    Warning,
    Bad,
}

/// The closing summary of a command that acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// `Sync`, drawn with `[dry-run]` and the duration where they apply.
    pub title: String,
    pub dry_run: bool,
    pub duration: Option<Duration>,
    pub rows: Vec<SummaryRow>,
}

/// A line of a summary and the lines that belong below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryRow {
    pub label: String,
    pub value: String,
    /// What stands behind the value, such as an amount of bytes.
    pub extra: Option<String>,
    pub tone: Tone,
    pub children: Vec<SummaryRow>,
}

impl SummaryRow {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "counts and texts alike are given as they are"
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
