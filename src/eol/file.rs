//! The data file: a YAML map from product to a list of cycles in the format of API version 0.

use std::collections::BTreeMap;

use serde_saphyr::{budget, options};
use thiserror::Error;

use super::entry::{CycleEntry, fields, quoted};
use super::table::EolTable;
use crate::model::eol::Cycle;
use crate::model::text::excerpt;

/// Size limit of the file, in bytes. All data of endoflife.date is less than half of that.
pub(super) const MAX_FILE_SIZE: usize = 8 << 20;

/// Length limit of a product name in the file, in bytes: YAML parsers reject longer keys.
const MAX_KEY_LENGTH: usize = 1_000;

const HEADER: &str = "\
# Release cycles of products and their end-of-life dates, written by `imglife eol update`. Products that the configuration does not name
# are kept, comments are not.
";

/// Error in a data file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DataError {
    #[error("line {line}, column {column}: {message}")]
    At {
        line: u64,
        column: u64,
        message: String,
    },
    #[error("{0}")]
    /// Error of the file as a whole.
    Whole(String),
}

impl EolTable {
    /// Parses a data file. JSON is accepted as well, because it is YAML.
    pub fn read(bytes: &[u8]) -> Result<EolTable, DataError> {
        let whole = |message: &str| DataError::Whole(message.to_owned());
        if bytes.len() > MAX_FILE_SIZE {
            return Err(DataError::Whole(format!(
                "the file is larger than {} MiB",
                MAX_FILE_SIZE >> 20
            )));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| whole("the file is not UTF-8 text"))?;
        let options = options! {
            budget: budget! { max_depth: 8, max_documents: 1, max_anchors: 100, max_aliases: 1000 },
            strict_booleans: true,
            with_snippet: false,
        };
        let products: Option<BTreeMap<String, Vec<CycleEntry>>> =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| located(&error))?;
        let mut table = EolTable::default();
        for (name, entries) in products.unwrap_or_default() {
            if key(&name).len() > MAX_KEY_LENGTH {
                return Err(DataError::Whole(format!(
                    "the name of a product is too long: {}",
                    excerpt(&name, 100)
                )));
            }
            table.insert(name, entries.into_iter().map(Cycle::from).collect());
        }
        Ok(table)
    }

    /// Returns the text of the data file; the same for the same data.
    pub fn write(&self) -> String {
        let mut text = HEADER.to_owned();
        for (name, cycles) in self.products() {
            text += &format!(
                "{}:{}\n",
                key(name),
                if cycles.is_empty() { " []" } else { "" }
            );
            for cycle in cycles {
                let fields: Vec<String> = fields(cycle)
                    .into_iter()
                    .map(|(name, value)| format!("{name}: {value}"))
                    .collect();
                text += &format!("  - {{ {} }}\n", fields.join(", "));
            }
        }
        text
    }
}

/// Returns the name of a product as a YAML key.
fn key(name: &str) -> String {
    if is_plain(name) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

/// Returns true if a name needs no quotes, because every YAML parser reads it as text.
fn is_plain(name: &str) -> bool {
    let is_word = matches!(
        name,
        "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    let is_fit = |byte: u8| {
        byte.is_ascii_lowercase()
            || byte.is_ascii_digit()
            || matches!(byte, b'-' | b'_' | b'.' | b'/')
    };
    !is_word
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(is_fit)
}

fn located(error: &serde_saphyr::Error) -> DataError {
    // Messages of the parser quote the file, which is untrusted text.
    let message = excerpt(&error.to_string(), 300);
    let Some(at) = error.location() else {
        return DataError::Whole(message);
    };
    let (line, column) = (at.line(), at.column());
    let message = message
        .strip_suffix(&format!(" at line {line}, column {column}"))
        .unwrap_or(&message);
    // The rest of the message is advice to programmers.
    let message = message
        .split_once(", set DuplicateKeyPolicy")
        .map_or(message, |(message, _)| message);
    DataError::At {
        line,
        column,
        message: message.to_owned(),
    }
}
