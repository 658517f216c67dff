//! One operation on one layout directory: paths of files, reading files, errors.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::index::LayoutIndex;
use crate::error::{ItemError, ItemErrorKind};
use crate::model::{Descriptor, Digest, Repository};

/// Directory inside a layout that only imglife uses, for locks and incomplete files.
pub(super) const WORK_DIRECTORY: &str = ".imglife";

/// Maximum size of `index.json`, in bytes.
pub(super) const MAX_INDEX_BYTES: usize = 64 * 1024 * 1024;

/// Maximum size of `oci-layout`, in bytes.
const MAX_MARKER_BYTES: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutMarker {
    image_layout_version: String,
}

/// One operation on one layout directory.
#[derive(Clone, Debug)]
pub(super) struct LayoutOperation {
    repository: Repository,
    pub(super) directory: PathBuf,
    action: String,
}

impl LayoutOperation {
    pub(super) fn new(
        repository: &Repository,
        action: impl Into<String>,
    ) -> Result<LayoutOperation, ItemError> {
        let action = action.into();
        match repository {
            Repository::Layout { directory } => Ok(LayoutOperation {
                repository: repository.clone(),
                directory: directory.clone(),
                action,
            }),
            Repository::Remote { .. } => Err(ItemError::at(
                repository,
                action,
                ItemErrorKind::Unsupported,
                "it is not an OCI image layout directory",
            )),
        }
    }

    /// Runs `work` on a thread that may block.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&LayoutOperation) -> Result<T, ItemError> + Send + 'static,
    ) -> Result<T, ItemError> {
        let operation = self.clone();
        match tokio::task::spawn_blocking(move || work(&operation)).await {
            Ok(result) => result,
            Err(error) => Err(self
                .error(ItemErrorKind::Storage, "the task was aborted")
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

    /// Returns true if the directory is a layout, and false if it does not exist or is empty. Fails
    /// if it has other content.
    pub(super) fn is_layout(&self) -> Result<bool, ItemError> {
        if self.has_marker()? {
            return Ok(true);
        }
        if !self.has_other_content()? {
            return Ok(false);
        }
        // Another writer may have created the layout between the two checks.
        if self.has_marker()? {
            return Ok(true);
        }
        let detail = "the directory has other content and no `oci-layout` file: it is not an OCI image layout";
        Err(self.error(ItemErrorKind::Malformed, detail))
    }

    fn has_marker(&self) -> Result<bool, ItemError> {
        let Some(text) = self.read(&self.marker_path(), MAX_MARKER_BYTES)? else {
            return Ok(false);
        };
        let marker: LayoutMarker = serde_json::from_slice(&text).map_err(|error| {
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

    /// Returns true if the directory has content that imglife does not create before the marker.
    fn has_other_content(&self) -> Result<bool, ItemError> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            entries => entries.map_err(|error| self.storage(&self.directory, error))?,
        };
        for entry in entries {
            if entry
                .map_err(|error| self.storage(&self.directory, error))?
                .file_name()
                != WORK_DIRECTORY
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns `index.json`, or `None` if the directory is not a layout yet.
    ///
    /// A layout without `index.json` has no tags: its first writer may have been stopped early.
    pub(super) fn index(&self) -> Result<Option<LayoutIndex>, ItemError> {
        if !self.is_layout()? {
            return Ok(None);
        }
        let Some(text) = self.read(&self.index_path(), MAX_INDEX_BYTES)? else {
            return Ok(Some(LayoutIndex::empty()));
        };
        let index = LayoutIndex::parse(&text).map_err(|error| {
            self.error(ItemErrorKind::Malformed, "its `index.json` cannot be read")
                .caused_by(error)
        })?;
        Ok(Some(index))
    }

    /// Opens the file at `path` and returns it with its size in bytes, or `None` if it does not
    /// exist.
    ///
    /// Only opens regular files, because opening a pipe would block forever.
    fn open(&self, path: &Path) -> Result<Option<(File, u64)>, ItemError> {
        let found = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found.map_err(|error| self.storage(path, error))?,
        };
        if !found.is_file() {
            return Err(self.error(
                ItemErrorKind::Malformed,
                format!("{} is not a regular file", path.display()),
            ));
        }
        let file = File::open(path).map_err(|error| self.storage(path, error))?;
        Ok(Some((file, found.len())))
    }

    /// Returns the content of the file at `path`, or `None` if it does not exist. Fails if it has
    /// more than `limit` bytes.
    pub(super) fn read(&self, path: &Path, limit: usize) -> Result<Option<Vec<u8>>, ItemError> {
        let Some((file, size)) = self.open(path)? else {
            return Ok(None);
        };
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(limit).min(limit) + 1);
        file.take(limit as u64 + 1)
            .read_to_end(&mut content)
            .map_err(|error| self.storage(path, error))?;
        if content.len() > limit {
            let detail = format!("{} has more than {limit} bytes", path.display());
            return Err(self.error(ItemErrorKind::Malformed, detail));
        }
        Ok(Some(content))
    }

    /// Opens the file of a blob, or returns `None` if it does not exist. Fails if its size differs
    /// from the descriptor.
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

    /// Fails if `bytes` do not have `digest`.
    pub(super) fn check_digest(&self, digest: &Digest, bytes: &[u8]) -> Result<(), ItemError> {
        let found = Digest::of(digest.algorithm(), bytes);
        if found == *digest {
            return Ok(());
        }
        Err(self.error(
            ItemErrorKind::Corrupt,
            format!("its content has the digest {found} instead of {digest}"),
        ))
    }

    /// Returns true if the blob exists with the right size.
    pub(super) fn has(&self, descriptor: &Descriptor) -> Result<bool, ItemError> {
        let path = self.blob_path(&descriptor.digest);
        match fs::metadata(&path) {
            Ok(found) => Ok(found.is_file() && found.len() == descriptor.size),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.storage(&path, error)),
        }
    }
}
