//! The data file: YAML, from product to a list of cycles in the form of the API's version 0.

use std::collections::BTreeMap;

use serde_saphyr::{budget, options};
use thiserror::Error;

use super::entry::{Entry, fields, quoted};
use super::table::Table;
use crate::model::eol::Cycle;
use crate::model::text::excerpt;

/// The largest file that is read, in bytes. All of endoflife.date is less than half of that.
pub(super) const LARGEST_FILE: usize = 8 << 20;

/// The longest name of a product, in bytes as it is written: YAML readers take no longer key.
const LONGEST_KEY: usize = 1_000;

const HEADER: &str = "\
# When the release cycles of products end; `imglife eol update` keeps this up to date. Products that the configuration does not name
# stay as they are, comments do not.
";

/// What is wrong with a data file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DataError {
    #[error("line {line}, column {column}: {message}")]
    At {
        line: u64,
        column: u64,
        message: String,
    },
    #[error("{0}")]
    Whole(String),
}

impl Table {
    /// Returns what a file says. JSON is YAML too.
    pub fn read(bytes: &[u8]) -> Result<Table, DataError> {
        let whole = |message: &str| DataError::Whole(message.to_owned());
        if bytes.len() > LARGEST_FILE {
            return Err(DataError::Whole(format!(
                "it is longer than {} MiB",
                LARGEST_FILE >> 20
            )));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| whole("it is not UTF-8 text"))?;
        let options = options! {
            budget: budget! { max_depth: 8, max_documents: 1, max_anchors: 100, max_aliases: 1000 },
            strict_booleans: true,
            with_snippet: false,
        };
        let products: Option<BTreeMap<String, Vec<Entry>>> =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| located(&error))?;
        let mut table = Table::default();
        for (name, entries) in products.unwrap_or_default() {
            if key(&name).len() > LONGEST_KEY {
                return Err(DataError::Whole(format!(
                    "the name of a product is too long: {}",
                    excerpt(&name, 100)
                )));
            }
            table.insert(name, entries.into_iter().map(Cycle::from).collect());
        }
        Ok(table)
    }

    /// Returns the file that says this: the same for the same data.
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

/// Returns the name of a product as it is written.
fn key(name: &str) -> String {
    if is_plain(name) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

/// Returns whether a name needs no quotes: it cannot be taken for anything but text, by any reader.
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
    // What is quoted in a message may come from anywhere.
    let message = excerpt(&error.to_string(), 300);
    let Some(at) = error.location() else {
        return DataError::Whole(message);
    };
    let (line, column) = (at.line(), at.column());
    let message = message
        .strip_suffix(&format!(" at line {line}, column {column}"))
        .unwrap_or(&message);
    // What follows is for programmers.
    let message = message
        .split_once(", set DuplicateKeyPolicy")
        .map_or(message, |(message, _)| message);
    DataError::At {
        line,
        column,
        message: message.to_owned(),
    }
}
