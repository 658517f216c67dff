//! Writing into a layout directory. Readers, other writers and a crash at any moment never leave or
//! find a partial file.
//!
//! A writer holds a shared lock while it has incomplete files. A process that gets the lock
//! exclusively removes all incomplete files, because they are from killed processes.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
use tempfile::NamedTempFile;

use super::index::LayoutIndex;
use super::operation::{LayoutOperation, MAX_INDEX_BYTES, WORK_DIRECTORY};
use crate::error::{ItemError, ItemErrorKind};
use crate::model::Digest;

const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const TEMPORARY: &str = "incoming-";

/// The right to write into a layout directory. Creates the directory.
pub(super) struct LayoutWriter {
    operation: LayoutOperation,
    work_directory: PathBuf,
    /// Lock that all writers share, and that protects their incomplete files. Held until drop,
    /// otherwise unused.
    _lock: File,
}

impl LayoutWriter {
    /// Returns a writer for the directory of `operation`. Creates a layout if the directory is
    /// missing or empty.
    pub(super) fn open(operation: &LayoutOperation) -> Result<LayoutWriter, ItemError> {
        let is_layout = operation.is_layout()?;
        let (work_directory, lock) = create_work_directory(operation)?;
        if lock.try_lock().is_ok() {
            remove_incomplete(&work_directory);
            lock.unlock()
                .map_err(|error| operation.storage(&work_directory, error))?;
        }
        lock.lock_shared()
            .map_err(|error| operation.storage(&work_directory, error))?;
        let writer = LayoutWriter {
            operation: operation.clone(),
            work_directory,
            _lock: lock,
        };
        if !is_layout {
            writer.create()?;
        }
        Ok(writer)
    }

    /// Returns an exclusive writer for the layout of `operation`, or `None` if there is another
    /// writer. Other writers wait for it.
    pub(super) fn exclusive(
        operation: &LayoutOperation,
    ) -> Result<Option<LayoutWriter>, ItemError> {
        let (work_directory, lock) = create_work_directory(operation)?;
        match lock.try_lock() {
            Ok(()) => remove_incomplete(&work_directory),
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => {
                return Err(operation.storage(&work_directory, error));
            }
        }
        Ok(Some(LayoutWriter {
            operation: operation.clone(),
            work_directory,
            _lock: lock,
        }))
    }

    /// Creates the files of an empty layout. The marker comes first: without it the other files
    /// would count as foreign content.
    fn create(&self) -> Result<(), ItemError> {
        let _locked = self.lock_index()?;
        if self.operation.is_layout()? {
            return Ok(());
        }
        self.write(&self.operation.marker_path(), MARKER)?;
        self.write(
            &self.operation.index_path(),
            &LayoutIndex::empty().into_bytes(),
        )?;
        let blobs = self.operation.blobs_path();
        fs::create_dir_all(&blobs).map_err(|error| self.operation.storage(&blobs, error))
    }

    /// Returns a new file that is deleted on drop unless it was installed.
    pub(super) fn temporary(&self) -> Result<NamedTempFile, ItemError> {
        tempfile::Builder::new()
            .prefix(TEMPORARY)
            .rand_bytes(16)
            // The umask applies: the content is as public as the directory.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(&self.work_directory)
            .map_err(|error| self.operation.storage(&self.work_directory, error))
    }

    /// Returns the current time of the clock that sets file times.
    pub(super) fn now(&self) -> Result<SystemTime, ItemError> {
        let file = self.temporary()?;
        let modified = file.as_file().metadata().and_then(|found| found.modified());
        modified.map_err(|error| self.operation.storage(file.path(), error))
    }

    /// Sets the file time of a blob to now. Returns true if that worked.
    pub(super) fn renew(&self, digest: &Digest) -> bool {
        let path = self.operation.blob_path(digest);
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let renewed = utimensat(
            CWD,
            &path,
            &Timestamps {
                last_access: now,
                last_modification: now,
            },
            AtFlags::SYMLINK_NOFOLLOW,
        );
        renewed
            .inspect_err(
                |error| tracing::debug!(path = %path.display(), %error, "the time of a file could not be set"),
            )
            .is_ok()
    }

    /// Syncs a complete file to the disk and gives it its name.
    pub(super) fn install(&self, file: NamedTempFile, path: &Path) -> Result<(), ItemError> {
        self.make_parent(path)?;
        file.as_file()
            .sync_all()
            .map_err(|error| self.operation.storage(file.path(), error))?;
        file.persist(path)
            .map_err(|error| self.operation.storage(path, error.error))?;
        Ok(())
    }

    /// Writes a small file in one step.
    pub(super) fn write(&self, path: &Path, content: &[u8]) -> Result<(), ItemError> {
        let mut file = self.temporary()?;
        file.write_all(content)
            .map_err(|error| self.operation.storage(file.path(), error))?;
        self.install(file, path)
    }

    /// Creates the parent directory of `path`.
    pub(super) fn make_parent(&self, path: &Path) -> Result<(), ItemError> {
        match path.parent() {
            Some(parent) => {
                fs::create_dir_all(parent).map_err(|error| self.operation.storage(parent, error))
            }
            None => Ok(()),
        }
    }

    /// Changes `index.json` under an exclusive lock. `change` returns true if the index must be
    /// written.
    pub(super) fn update_index(
        &self,
        change: impl FnOnce(&mut LayoutIndex) -> bool,
    ) -> Result<(), ItemError> {
        let _locked = self.lock_index()?;
        let mut index = self.operation.index()?.unwrap_or_else(LayoutIndex::empty);
        if !change(&mut index) {
            return Ok(());
        }
        let text = index.into_bytes();
        if text.len() > MAX_INDEX_BYTES {
            let detail = format!("`index.json` would have more than {MAX_INDEX_BYTES} bytes");
            return Err(self.operation.error(ItemErrorKind::Refused, detail));
        }
        // Content must survive a power failure if its entry does.
        let blobs = self.operation.blobs_path();
        for directory in [blobs.join("sha256"), blobs.join("sha512"), blobs] {
            self.sync(&directory)?;
        }
        self.write(&self.operation.index_path(), &text)?;
        self.sync(&self.operation.directory)
    }

    fn lock_index(&self) -> Result<File, ItemError> {
        let path = self.work_directory.join("index.lock");
        let file = lock_file(&self.operation, &path)?;
        file.lock()
            .map_err(|error| self.operation.storage(&path, error))?;
        Ok(file)
    }

    /// Syncs the file names in a directory to the disk, if the directory exists.
    fn sync(&self, directory: &Path) -> Result<(), ItemError> {
        match File::open(directory).and_then(|directory| directory.sync_all()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.operation.storage(directory, error))
            }
            _ => Ok(()),
        }
    }
}

/// Creates the work directory of a layout. Returns its path and the lock file of the writers.
fn create_work_directory(operation: &LayoutOperation) -> Result<(PathBuf, File), ItemError> {
    let work_directory = operation.directory.join(WORK_DIRECTORY);
    let blobs = operation.blobs_path();
    for path in [
        &work_directory,
        &blobs,
        &blobs.join("sha256"),
        &blobs.join("sha512"),
    ] {
        refuse_unless(operation, path, fs::Metadata::is_dir)?;
    }
    fs::create_dir_all(&work_directory)
        .map_err(|error| operation.storage(&work_directory, error))?;
    let lock = lock_file(operation, &work_directory.join("writers.lock"))?;
    Ok((work_directory, lock))
}

fn lock_file(operation: &LayoutOperation, path: &Path) -> Result<File, ItemError> {
    refuse_unless(operation, path, fs::Metadata::is_file)?;
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| operation.storage(path, error))
}

/// Fails if `path` exists and is not as expected, such as a symbolic link. The creator of a layout
/// could redirect writes out of it with a link.
fn refuse_unless(
    operation: &LayoutOperation,
    path: &Path,
    expected: impl FnOnce(&fs::Metadata) -> bool,
) -> Result<(), ItemError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !expected(&found) => {
            let detail = format!(
                "{} is a symbolic link or has the wrong file type; nothing was written",
                path.display()
            );
            Err(operation.error(ItemErrorKind::Refused, detail))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(operation.storage(path, error))
        }
        _ => Ok(()),
    }
}

/// Removes incomplete files of killed processes. Errors are only logged, because the files only
/// waste space.
fn remove_incomplete(work_directory: &Path) {
    for entry in fs::read_dir(work_directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY)
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::debug!(path = %entry.path().display(), %error, "an incomplete file of a killed run could not be removed");
        }
    }
}
