//! Writing into a layout directory such that a reader, another writer or a crash at any moment
//! never meets half a file.
//!
//! A writer holds a shared lock for as long as it has files that are not whole. Who gets that lock
//! alone knows that what still lies there was left by a process that was killed, and removes it.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
use tempfile::NamedTempFile;

use super::index::Index;
use super::operation::{LARGEST_INDEX, Operation, WORKSHOP};
use crate::error::{ItemError, ItemErrorKind};
use crate::model::Digest;

const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const TEMPORARY: &str = "incoming-";

/// The right to write into a layout directory, which exists from then on.
pub(super) struct Writer {
    operation: Operation,
    workshop: PathBuf,
    /// Held, not read: the lock, shared by all writers, that keeps what they are writing from being
    /// swept away.
    _writers: File,
}

impl Writer {
    /// Returns a writer for the directory of `operation`; makes a layout of it when it is missing
    /// or empty.
    pub(super) fn open(operation: &Operation) -> Result<Writer, ItemError> {
        let is_layout = operation.is_layout()?;
        let (workshop, writers) = enter(operation)?;
        if writers.try_lock().is_ok() {
            sweep(&workshop);
            writers
                .unlock()
                .map_err(|error| operation.storage(&workshop, error))?;
        }
        writers
            .lock_shared()
            .map_err(|error| operation.storage(&workshop, error))?;
        let writer = Writer {
            operation: operation.clone(),
            workshop,
            _writers: writers,
        };
        if !is_layout {
            writer.create()?;
        }
        Ok(writer)
    }

    /// Returns the only writer for the layout of `operation`: others wait for it. `None` when there
    /// is another at this moment.
    pub(super) fn alone(operation: &Operation) -> Result<Option<Writer>, ItemError> {
        let (workshop, writers) = enter(operation)?;
        match writers.try_lock() {
            Ok(()) => sweep(&workshop),
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(operation.storage(&workshop, error)),
        }
        Ok(Some(Writer {
            operation: operation.clone(),
            workshop,
            _writers: writers,
        }))
    }

    /// Writes what makes a directory a layout. The marker comes first: without it the rest would be
    /// taken for foreign content.
    fn create(&self) -> Result<(), ItemError> {
        let _alone = self.lock_index()?;
        if self.operation.is_layout()? {
            return Ok(());
        }
        self.write(&self.operation.marker_path(), MARKER)?;
        self.write(&self.operation.index_path(), &Index::empty().into_bytes())?;
        let blobs = self.operation.blobs_path();
        fs::create_dir_all(&blobs).map_err(|error| self.operation.storage(&blobs, error))
    }

    /// Returns a new file that vanishes when it is dropped before it was installed.
    pub(super) fn temporary(&self) -> Result<NamedTempFile, ItemError> {
        tempfile::Builder::new()
            .prefix(TEMPORARY)
            .rand_bytes(16)
            // Less what the umask takes: the content is as public as the directory.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(&self.workshop)
            .map_err(|error| self.operation.storage(&self.workshop, error))
    }

    /// Returns the time by the clock that the times of files are by.
    pub(super) fn now(&self) -> Result<SystemTime, ItemError> {
        let file = self.temporary()?;
        let modified = file.as_file().metadata().and_then(|found| found.modified());
        modified.map_err(|error| self.operation.storage(file.path(), error))
    }

    /// Makes the file of a blob as young as one that was just written, and returns whether that
    /// worked.
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
                |error| tracing::debug!(path = %path.display(), %error, "a file keeps its age"),
            )
            .is_ok()
    }

    /// Gives a whole file its name, once its content is on the disk.
    pub(super) fn install(&self, file: NamedTempFile, path: &Path) -> Result<(), ItemError> {
        self.make_parent(path)?;
        file.as_file()
            .sync_all()
            .map_err(|error| self.operation.storage(file.path(), error))?;
        file.persist(path)
            .map_err(|error| self.operation.storage(path, error.error))?;
        Ok(())
    }

    /// Writes a small file as a whole.
    pub(super) fn write(&self, path: &Path, content: &[u8]) -> Result<(), ItemError> {
        let mut file = self.temporary()?;
        file.write_all(content)
            .map_err(|error| self.operation.storage(file.path(), error))?;
        self.install(file, path)
    }

    /// Creates the directory that `path` is in.
    pub(super) fn make_parent(&self, path: &Path) -> Result<(), ItemError> {
        match path.parent() {
            Some(parent) => {
                fs::create_dir_all(parent).map_err(|error| self.operation.storage(parent, error))
            }
            None => Ok(()),
        }
    }

    /// Changes `index.json` as the only one who does so at this time. `change` returns whether
    /// there is something to write.
    pub(super) fn update_index(
        &self,
        change: impl FnOnce(&mut Index) -> bool,
    ) -> Result<(), ItemError> {
        let _alone = self.lock_index()?;
        let mut index = self.operation.index()?.unwrap_or_else(Index::empty);
        if !change(&mut index) {
            return Ok(());
        }
        let text = index.into_bytes();
        if text.len() > LARGEST_INDEX {
            let detail = format!("`index.json` would have more than {LARGEST_INDEX} bytes");
            return Err(self.operation.error(ItemErrorKind::Refused, detail));
        }
        // What the entry refers to must outlive a power failure if the entry does.
        let blobs = self.operation.blobs_path();
        for directory in [blobs.join("sha256"), blobs.join("sha512"), blobs] {
            self.sync(&directory)?;
        }
        self.write(&self.operation.index_path(), &text)?;
        self.sync(&self.operation.directory)
    }

    fn lock_index(&self) -> Result<File, ItemError> {
        let path = self.workshop.join("index.lock");
        let file = lock_file(&self.operation, &path)?;
        file.lock()
            .map_err(|error| self.operation.storage(&path, error))?;
        Ok(file)
    }

    /// Brings the names in a directory to the disk; nothing to do when there is no such directory.
    fn sync(&self, directory: &Path) -> Result<(), ItemError> {
        match File::open(directory).and_then(|directory| directory.sync_all()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.operation.storage(directory, error))
            }
            _ => Ok(()),
        }
    }
}

/// Returns the workshop of a directory, which exists from then on, and the file by which writers
/// are told apart.
fn enter(operation: &Operation) -> Result<(PathBuf, File), ItemError> {
    let workshop = operation.directory.join(WORKSHOP);
    let blobs = operation.blobs_path();
    for path in [
        &workshop,
        &blobs,
        &blobs.join("sha256"),
        &blobs.join("sha512"),
    ] {
        refuse_unless(operation, path, fs::Metadata::is_dir)?;
    }
    fs::create_dir_all(&workshop).map_err(|error| operation.storage(&workshop, error))?;
    let writers = lock_file(operation, &workshop.join("writers.lock"))?;
    Ok((workshop, writers))
}

fn lock_file(operation: &Operation, path: &Path) -> Result<File, ItemError> {
    refuse_unless(operation, path, fs::Metadata::is_file)?;
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| operation.storage(path, error))
}

/// Refuses to go on when something is at `path` that is not as expected, above all a symbolic link:
/// whoever made the layout could lead writes out of it.
fn refuse_unless(
    operation: &Operation,
    path: &Path,
    expected: impl FnOnce(&fs::Metadata) -> bool,
) -> Result<(), ItemError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !expected(&found) => {
            let detail = format!(
                "nothing is written through {}: it is a symbolic link or not of its kind",
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

/// Removes what killed processes left. Failing to is no reason to stop: the files only take space.
fn sweep(workshop: &Path) {
    for entry in fs::read_dir(workshop).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY)
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::debug!(path = %entry.path().display(), %error, "a file that a stopped run left could not be removed");
        }
    }
}
