//! One operation on one layout directory: where files are, how they are read, how a failure is
//! told.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::index::Index;
use crate::error::{ItemError, ItemErrorKind};
use crate::model::{Descriptor, Digest, Repository};

/// The directory inside a layout in which only imglife works: locks and files that are not whole
/// yet.
pub(super) const WORKSHOP: &str = ".imglife";

/// The largest `index.json` that is read or written, in bytes.
pub(super) const LARGEST_INDEX: usize = 64 * 1024 * 1024;

const LARGEST_MARKER: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

/// What is done, and to which directory.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    repository: Repository,
    pub(super) directory: PathBuf,
    action: String,
}

impl Operation {
    pub(super) fn new(
        repository: &Repository,
        action: impl Into<String>,
    ) -> Result<Operation, ItemError> {
        let action = action.into();
        match repository {
            Repository::Layout { directory } => Ok(Operation {
                repository: repository.clone(),
                directory: directory.clone(),
                action,
            }),
            Repository::Remote { .. } => Err(ItemError::at(
                repository,
                action,
                ItemErrorKind::Unsupported,
                "it is no OCI image layout directory",
            )),
        }
    }

    /// Runs `work` on a thread where it may block.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Operation) -> Result<T, ItemError> + Send + 'static,
    ) -> Result<T, ItemError> {
        let operation = self.clone();
        match tokio::task::spawn_blocking(move || work(&operation)).await {
            Ok(result) => result,
            Err(error) => Err(self
                .error(ItemErrorKind::Storage, "the work was broken off")
                .caused_by(error)),
        }
    }

    pub(super) fn error(&self, kind: ItemErrorKind, detail: impl Into<String>) -> ItemError {
        ItemError::at(&self.repository, &self.action, kind, detail)
    }

    pub(super) fn storage(&self, path: &Path, error: io::Error) -> ItemError {
        self.error(ItemErrorKind::Storage, path.display().to_string())
            .caused_by(error)
    }

    pub(super) fn marker_path(&self) -> PathBuf {
        self.directory.join("oci-layout")
    }

    pub(super) fn index_path(&self) -> PathBuf {
        self.directory.join("index.json")
    }

    pub(super) fn blobs_path(&self) -> PathBuf {
        self.directory.join("blobs")
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs_path()
            .join(digest.algorithm().name())
            .join(digest.hex())
    }

    /// Returns whether the directory is a layout; not, when it does not exist or is empty. Anything
    /// else in it is an error.
    pub(super) fn is_layout(&self) -> Result<bool, ItemError> {
        if self.has_marker()? {
            return Ok(true);
        }
        if !self.has_other_content()? {
            return Ok(false);
        }
        // Another writer may have made a layout of it between the two looks: then there is a marker
        // now.
        if self.has_marker()? {
            return Ok(true);
        }
        let detail =
            "the directory has other content and no `oci-layout` file: it is no OCI image layout";
        Err(self.error(ItemErrorKind::Malformed, detail))
    }

    fn has_marker(&self) -> Result<bool, ItemError> {
        let Some(text) = self.read(&self.marker_path(), LARGEST_MARKER)? else {
            return Ok(false);
        };
        let marker: Marker = serde_json::from_slice(&text).map_err(|error| {
            self.error(
                ItemErrorKind::Malformed,
                "its `oci-layout` file cannot be read",
            )
            .caused_by(error)
        })?;
        let version = marker.image_layout_version;
        if version.split('.').next() != Some("1") {
            let detail = format!("its image layout version is {version}; only 1.x is understood");
            return Err(self.error(ItemErrorKind::Unsupported, detail));
        }
        Ok(true)
    }

    /// Returns whether something is in the directory that imglife does not put there before the
    /// marker.
    fn has_other_content(&self) -> Result<bool, ItemError> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            entries => entries.map_err(|error| self.storage(&self.directory, error))?,
        };
        for entry in entries {
            if entry
                .map_err(|error| self.storage(&self.directory, error))?
                .file_name()
                != WORKSHOP
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns `index.json`, or `None` when the directory is no layout yet. A layout without one
    /// has no tags: its first writer may have been stopped before it got there.
    pub(super) fn index(&self) -> Result<Option<Index>, ItemError> {
        if !self.is_layout()? {
            return Ok(None);
        }
        let Some(text) = self.read(&self.index_path(), LARGEST_INDEX)? else {
            return Ok(Some(Index::empty()));
        };
        let index = Index::parse(&text).map_err(|error| {
            self.error(ItemErrorKind::Malformed, "its `index.json` cannot be read")
                .caused_by(error)
        })?;
        Ok(Some(index))
    }

    /// Returns the file at `path`, opened, and its size in bytes, or `None` when there is none.
    /// Only regular files are opened: a pipe of that name would block for ever.
    fn open(&self, path: &Path) -> Result<Option<(File, u64)>, ItemError> {
        let found = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found.map_err(|error| self.storage(path, error))?,
        };
        if !found.is_file() {
            return Err(self.error(
                ItemErrorKind::Malformed,
                format!("{} is no regular file", path.display()),
            ));
        }
        let file = File::open(path).map_err(|error| self.storage(path, error))?;
        Ok(Some((file, found.len())))
    }

    /// Returns the content of the file at `path`, or `None` when there is none. More than `limit`
    /// bytes are an error.
    pub(super) fn read(&self, path: &Path, limit: usize) -> Result<Option<Vec<u8>>, ItemError> {
        let Some((file, size)) = self.open(path)? else {
            return Ok(None);
        };
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(limit).min(limit) + 1);
        file.take(limit as u64 + 1)
            .read_to_end(&mut content)
            .map_err(|error| self.storage(path, error))?;
        if content.len() > limit {
            let detail = format!(
                "{} has more than the {limit} bytes that are read",
                path.display()
            );
            return Err(self.error(ItemErrorKind::Malformed, detail));
        }
        Ok(Some(content))
    }

    /// Returns the file of a blob, opened, or `None` when there is none. Another size than the
    /// descriptor's is an error.
    pub(super) fn open_blob(&self, descriptor: &Descriptor) -> Result<Option<File>, ItemError> {
        match self.open(&self.blob_path(&descriptor.digest))? {
            Some((_, size)) if size != descriptor.size => {
                let detail = format!(
                    "the file of {} has {size} bytes instead of {}",
                    descriptor.digest, descriptor.size
                );
                Err(self.error(ItemErrorKind::Corrupt, detail))
            }
            found => Ok(found.map(|(file, _)| file)),
        }
    }

    /// Returns whether the blob is there, with its size.
    pub(super) fn has(&self, descriptor: &Descriptor) -> Result<bool, ItemError> {
        let path = self.blob_path(&descriptor.digest);
        match fs::metadata(&path) {
            Ok(found) => Ok(found.is_file() && found.len() == descriptor.size),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.storage(&path, error)),
        }
    }
}
