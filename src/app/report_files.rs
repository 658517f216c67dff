//! Report files: known to be writable before anything is done, and written whole or not at all.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use thiserror::Error;

use crate::error::Failure;

/// A report file to be.
pub(super) struct ReportFile {
    path: PathBuf,
    file: NamedTempFile,
}

#[derive(Debug, Error)]
#[error("the report file {} cannot be written", .path.display())]
struct ReportFileError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl ReportFile {
    /// Returns the file at `path`, relative to `directory`. Fails when it could not be written at the end.
    pub(super) fn prepare(path: &Path, directory: &Path) -> Result<ReportFile, Failure> {
        let path = directory.join(path);
        let failed = |source| Failure::usage(ReportFileError { path: path.clone(), source });
        if path.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let parent = path.parent().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let file = NamedTempFile::new_in(parent).map_err(failed)?;
        Ok(ReportFile { path, file })
    }

    /// Writes `text` and gives the file its name.
    pub(super) fn write(mut self, text: &str) -> Result<(), Failure> {
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.as_file().sync_all());
        let written = written.and_then(|()| self.file.persist(&self.path).map(drop).map_err(|error| error.error));
        written.map_err(|source| Failure::failed(ReportFileError { path: self.path, source }))
    }
}
