//! Storage of the data file.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use async_trait::async_trait;

use super::file::MAX_FILE_SIZE;
use crate::error::{ItemError, ItemErrorKind};
use crate::files;

/// Storage that holds the data file.
#[async_trait]
pub trait EolDataStore: Send + Sync {
    /// Returns the name of the file for messages.
    fn name(&self) -> String;

    /// Returns the content of the file, or `None` if it does not exist. A file that is too large is
    /// read only up to one byte over the limit.
    async fn read(&self) -> Result<Option<Vec<u8>>, ItemError>;

    /// Replaces the file atomically.
    async fn write(&self, bytes: &[u8]) -> Result<(), ItemError>;
}

/// Data file in the file system.
#[derive(Clone, Debug)]
pub struct EolDataFile {
    /// Name for messages.
    pub name: String,
    pub path: PathBuf,
}

impl EolDataFile {
    fn error(&self, operation: &str, error: io::Error) -> ItemError {
        ItemError::new(
            "",
            format!("{operation} {}", self.name),
            ItemErrorKind::Storage,
            "",
        )
        .caused_by(error)
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        // A symbolic link is kept, and its target is replaced.
        let path = self
            .path
            .canonicalize()
            .unwrap_or_else(|_| self.path.clone());
        files::replace(&path, 0o666, bytes)
    }
}

#[async_trait]
impl EolDataStore for EolDataFile {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn read(&self) -> Result<Option<Vec<u8>>, ItemError> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(MAX_FILE_SIZE)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        match File::open(&self.path).and_then(|file| file.take(limit).read_to_end(&mut bytes)) {
            Ok(_) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error("read", error)),
        }
    }

    async fn write(&self, bytes: &[u8]) -> Result<(), ItemError> {
        self.replace(bytes)
            .map_err(|error| self.error("write", error))
    }
}
