//! Where the data file is kept.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use async_trait::async_trait;

use super::file::LARGEST_FILE;
use crate::files;

/// A place that keeps the bytes of the data file.
#[async_trait]
pub trait DataPlace: Send + Sync {
    /// Returns the place's name, for messages.
    fn name(&self) -> String;

    /// Returns the file, `None` when there is none. A file that is too large is read just far
    /// enough to be seen to be.
    async fn read(&self) -> Result<Option<Vec<u8>>, PlaceError>;

    /// Puts a file in the place of the last one, at once and whole: who reads sees the one or the
    /// other.
    async fn write(&self, bytes: &[u8]) -> Result<(), PlaceError>;
}

/// Why a place cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {place}")]
pub struct PlaceError {
    pub place: String,
    /// `read` or `write`.
    pub action: &'static str,
    pub source: Box<dyn Error + Send + Sync>,
}

/// A file of the file system.
#[derive(Clone, Debug)]
pub struct DataFile {
    /// What it is called in messages.
    pub name: String,
    pub path: PathBuf,
}

impl DataFile {
    fn error(&self, action: &'static str, source: io::Error) -> PlaceError {
        PlaceError {
            place: self.name.clone(),
            action,
            source: source.into(),
        }
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        // The file that a symbolic link leads to is replaced, not the link.
        let path = self
            .path
            .canonicalize()
            .unwrap_or_else(|_| self.path.clone());
        files::replace(&path, 0o666, bytes)
    }
}

#[async_trait]
impl DataPlace for DataFile {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn read(&self) -> Result<Option<Vec<u8>>, PlaceError> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(LARGEST_FILE)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        match File::open(&self.path).and_then(|file| file.take(limit).read_to_end(&mut bytes)) {
            Ok(_) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error("read", error)),
        }
    }

    async fn write(&self, bytes: &[u8]) -> Result<(), PlaceError> {
        self.replace(bytes)
            .map_err(|error| self.error("write", error))
    }
}
