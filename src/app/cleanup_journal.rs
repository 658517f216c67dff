//! Stores of the journal of `cleanup`: the record store, or a file next to the report.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::error::{Failure, ItemError};
use crate::files::refuse_link_out;
use crate::model::lock::lock;
use crate::model::{JournalBatch, Tag};
use crate::packages::{Documents, StoredDocument};
use crate::steps::cleanup::{JournalStore, UndoSelection};

/// Number of days for which the journals of a run are kept.
const JOURNAL_DAYS: i64 = 90;

/// Format of the time in the name of a run.
const RUN_TIME_FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// Maximum size of a journal file that is read, in bytes.
const MAX_JOURNAL_FILE: u64 = 256 * 1024 * 1024;

/// Batches that are read concurrently.
const CONCURRENT_BATCHES: usize = 8;

/// Journal in the record store. Directories of layouts are kept relative to the configuration.
pub(super) struct DocumentJournal {
    pub(super) documents: Arc<Documents>,
    /// Directory of the configuration.
    pub(super) directory: PathBuf,
}

#[async_trait]
impl JournalStore for DocumentJournal {
    async fn write(&self, batch: &JournalBatch) -> Result<(), ItemError> {
        let batch = batch.clone().relative_to(&self.directory);
        self.documents
            .write(&batch.name(), &StoredDocument::absent(), &batch)
            .await
    }

    async fn recent(&self, since: DateTime<Utc>) -> Result<Vec<JournalBatch>, ItemError> {
        let since = since.format(RUN_TIME_FORMAT).to_string();
        let names = self.documents.names::<JournalBatch>().await?;
        let recent = names.into_iter().filter(|name| *name >= since).collect();
        read_batches(&self.documents, recent, &self.directory).await
    }
}

/// Journal in a file, one line of JSON for each batch.
pub(super) struct FileJournal {
    path: PathBuf,
    /// Directory of the configuration, as in [`DocumentJournal`].
    directory: PathBuf,
    file: Mutex<File>,
}

impl FileJournal {
    /// Returns the journal next to the report file `report`. Fails with a usage error when it cannot
    /// be written.
    pub(super) fn open(report: &Path, directory: &Path) -> Result<FileJournal, Failure> {
        let path = journal_path(report);
        let opened = refuse_link_out(directory, &path)
            .and_then(|()| OpenOptions::new().create(true).append(true).open(&path));
        let file = opened.map_err(|error| {
            Failure::usage(format!(
                "cannot write the journal {}: {error}",
                path.display()
            ))
        })?;
        Ok(FileJournal {
            path,
            directory: directory.to_owned(),
            file: Mutex::new(file),
        })
    }
}

#[async_trait]
impl JournalStore for FileJournal {
    async fn write(&self, batch: &JournalBatch) -> Result<(), ItemError> {
        let failed = |error: String| {
            ItemError::other(format!("cannot write {}: {error}", self.path.display()))
        };
        let batch = batch.clone().relative_to(&self.directory);
        let mut line = serde_json::to_vec(&batch).map_err(|error| failed(error.to_string()))?;
        line.push(b'\n');
        let mut file = lock(&self.file);
        file.write_all(&line)
            .and_then(|()| file.sync_data())
            .map_err(|error| failed(error.to_string()))
    }
}

/// Returns the path of the journal next to the report file `report`.
pub(super) fn journal_path(report: &Path) -> PathBuf {
    let mut path = report.as_os_str().to_owned();
    path.push(".journal");
    PathBuf::from(path)
}

/// Reads the journal next to the report file `report`. A last line that a killed run left
/// incomplete is ignored, because nothing of it was changed.
pub(super) fn read_file_journal(
    report: &Path,
    directory: &Path,
) -> Result<Vec<JournalBatch>, Failure> {
    let path = journal_path(report);
    let failed = |error: &dyn std::fmt::Display| {
        Failure::usage(format!(
            "cannot read the journal {}: {error}",
            path.display()
        ))
        .hint("pass the `--report` of the cleanup to undo, or configure `registry`")
    };
    let mut text = String::new();
    File::open(&path)
        .map(|file| file.take(MAX_JOURNAL_FILE + 1))
        .and_then(|mut file| file.read_to_string(&mut text))
        .and_then(|size| match u64::try_from(size) {
            Ok(size) if size <= MAX_JOURNAL_FILE => Ok(()),
            _ => Err(io::Error::other("it is too large")),
        })
        .map_err(|error| failed(&error))?;
    let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
    complete
        .lines()
        .map(|line| {
            serde_json::from_str::<JournalBatch>(line)
                .map(|batch| batch.resolved_below(directory))
                .map_err(|error| failed(&error))
        })
        .collect()
}

/// Reads the batches that `selection` may need: those of one run, or of all runs for tags.
pub(super) async fn read_journal(
    documents: &Documents,
    selection: &UndoSelection,
    directory: &Path,
) -> Result<Vec<JournalBatch>, ItemError> {
    let names = documents.names::<JournalBatch>().await?;
    let run_of = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
    let latest = names.iter().map(|name| run_of(name)).max();
    let run = match (&selection.run, selection.tags.is_empty()) {
        (Some(run), _) => Some(run.clone()),
        (None, true) => latest,
        (None, false) => None,
    };
    let wanted: Vec<String> = names
        .into_iter()
        .filter(|name| run.as_ref().is_none_or(|run| run_of(name) == *run))
        .collect();
    read_batches(documents, wanted, directory).await
}

async fn read_batches(
    documents: &Documents,
    names: Vec<String>,
    directory: &Path,
) -> Result<Vec<JournalBatch>, ItemError> {
    stream::iter(names)
        .map(|name| async move {
            let stored = documents.read::<JournalBatch>(&name).await?;
            Ok(stored.content.map(|batch| batch.resolved_below(directory)))
        })
        .buffered(CONCURRENT_BATCHES)
        .try_filter_map(|content| std::future::ready(Ok(content)))
        .try_collect()
        .await
}

/// Deletes the journals of runs that are older than [`JOURNAL_DAYS`].
pub(super) async fn delete_old_journals(
    documents: &Documents,
    now: DateTime<Utc>,
) -> Result<(), ItemError> {
    let oldest = (now - TimeDelta::days(JOURNAL_DAYS))
        .format(RUN_TIME_FORMAT)
        .to_string();
    for name in documents.names::<JournalBatch>().await? {
        if name < oldest {
            documents.delete::<JournalBatch>(&name).await?;
        }
    }
    Ok(())
}

/// Returns an error for an argument of `--undo` or `--release` that is neither a run nor a tag.
pub(super) fn check_arguments(arguments: &[String]) -> Result<(), Failure> {
    let is_tag = |text: &str| {
        let tag = text.rsplit(':').next().unwrap_or(text);
        tag.parse::<Tag>().is_ok()
    };
    match arguments.iter().find(|text| !is_tag(text)) {
        Some(text) => Err(Failure::usage(format!(
            "`{}` is neither a run nor a tag",
            crate::model::text::printable(text)
        ))
        .hint("a run is named in the report of a cleanup, a tag is `3.20` or `repository:3.20`")),
        None => Ok(()),
    }
}
