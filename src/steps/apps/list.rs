//! `app list`: the list of records.

use serde::Serialize;
use serde_json::Value;

use crate::model::{BuildRecord, ImageReference, Platform};
use crate::packages::{RecordSet, UnreadableFile};
use crate::report::{Block, Cell, Document, Table};
use crate::steps::shard::Only;

/// Filter of the listed records.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    pub project: Option<String>,
    /// Patterns for the base.
    pub base: Only,
}

/// Report of `app list`.
#[derive(Clone, Debug, Serialize)]
pub struct AppListReport {
    pub records: Vec<BuildRecord>,
    /// Files that are not valid records.
    pub unreadable: Vec<InvalidRecordFile>,
}

/// A file in the record store that is not a valid record.

#[derive(Clone, Debug, Serialize)]
pub struct InvalidRecordFile {
    pub file: String,
    pub problem: String,
}

impl From<UnreadableFile> for InvalidRecordFile {
    fn from(unreadable: UnreadableFile) -> InvalidRecordFile {
        InvalidRecordFile {
            file: unreadable.file,
            problem: unreadable.problem,
        }
    }
}

/// Returns the records that match `filter`.
pub fn list(reading: RecordSet, filter: &ListFilter) -> AppListReport {
    let mut records = reading.records;
    records.retain(|record| {
        let names = record.base.as_ref().map(names).unwrap_or_default();
        filter
            .project
            .as_ref()
            .is_none_or(|project| record.project == *project)
            && filter.base.selects(&names)
    });
    AppListReport {
        records,
        unreadable: reading
            .unreadable
            .into_iter()
            .map(InvalidRecordFile::from)
            .collect(),
    }
}

/// Returns the names of a base that patterns match: with and without tag, complete and by the last
/// path component.
fn names(base: &ImageReference) -> Vec<String> {
    let repository = base.repository.to_string();
    let with_tag = base.tag.as_ref().map(|tag| format!("{repository}:{tag}"));
    let whole: Vec<String> = [Some(repository), with_tag, Some(base.to_string())]
        .into_iter()
        .flatten()
        .collect();
    let last = |name: &String| name.rsplit('/').next().map(str::to_owned);
    whole
        .iter()
        .filter_map(last)
        .chain(whole.iter().cloned())
        .collect()
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

impl AppListReport {
    fn columns(is_detailed: bool) -> Vec<&'static str> {
        let mut columns = vec!["Application", "Project", "Base", "Built"];
        if is_detailed {
            columns.extend(["Revision", "Platforms", "Digest", "Base digest", "Fields"]);
        }
        columns
    }

    fn rows(&self, is_detailed: bool) -> impl Iterator<Item = Vec<String>> {
        self.records.iter().map(move |record| {
            let shown = |value: Option<String>| value.unwrap_or_default();
            let mut row = vec![
                record.image.to_string(),
                record.project.clone(),
                shown(record.base.as_ref().map(ToString::to_string)),
                record.built_at.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
            ];
            if is_detailed {
                let fields = record
                    .custom_fields
                    .iter()
                    .map(|(name, value)| format!("{name}={}", text(value)));
                row.extend([
                    record.revision.clone(),
                    record
                        .platforms
                        .iter()
                        .map(Platform::to_string)
                        .collect::<Vec<_>>()
                        .join(" "),
                    shown(record.digest.as_ref().map(ToString::to_string)),
                    shown(record.base_digest.as_ref().map(ToString::to_string)),
                    fields.collect::<Vec<_>>().join(" "),
                ]);
            }
            row
        })
    }

    /// Returns the list as text.
    pub fn document(&self, is_detailed: bool) -> Document {
        if self.records.is_empty() {
            return Document {
                blocks: vec![Block::Lines(vec!["no records".to_owned()])],
            };
        }
        let columns = AppListReport::columns(is_detailed)
            .into_iter()
            .map(str::to_owned)
            .collect();
        let rows = self
            .rows(is_detailed)
            .map(|row| row.into_iter().map(Cell::plain).collect())
            .collect();
        Document {
            blocks: vec![Block::Table(Table {
                title: None,
                columns,
                rows,
            })],
        }
    }

    /// Returns the list as CSV for spreadsheets.
    pub fn csv(&self, is_detailed: bool) -> String {
        let columns = AppListReport::columns(is_detailed)
            .into_iter()
            .map(|column| column.to_lowercase().replace(' ', "_"))
            .collect();
        crate::report::csv::draw(std::iter::once(columns).chain(self.rows(is_detailed)))
    }
}
