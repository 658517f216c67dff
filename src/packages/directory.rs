//! A record store in a local directory: `<prefix>/records/<repository>/<file>`.
//!
//! A file appears under its name complete and synced to disk, or not at all. Readers take no lock.
//! Only writes create directories.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use tokio_util::io::ReaderStream;

use super::consistent_read::{ListingRead, read_consistently};
use super::probe;
use super::{
    FileListing, FileName, FileStream, ListedFile, MAX_FILE_SIZE, PackageScope, RecordStore,
};
use crate::error::{ItemError, ItemErrorKind};
use crate::files;
use crate::probe::{ProbeCredential, ProbeFinding, ProbeReport, check_writable_directory};

/// Record store with a directory for each package.
#[derive(Clone, Debug)]
pub struct DirectoryFiles {
    directory: PathBuf,
}

impl DirectoryFiles {
    /// Returns the store in `directory`, which need not exist.
    pub fn new(directory: PathBuf) -> DirectoryFiles {
        DirectoryFiles { directory }
    }

    fn failed(&self, action: impl Into<String>, path: &Path, error: io::Error) -> ItemError {
        let detail = format!("at {}", path.display());
        ItemError::new(self.name(), action, ItemErrorKind::Storage, detail).caused_by(error)
    }

    /// Runs blocking `work` on a separate thread.
    async fn blocking<T: Send + 'static>(
        &self,
        action: &str,
        work: impl FnOnce(&DirectoryFiles) -> Result<T, ItemError> + Send + 'static,
    ) -> Result<T, ItemError> {
        let store = self.clone();
        let result = tokio::task::spawn_blocking(move || work(&store)).await;
        result.map_err(|error| {
            ItemError::new(self.name(), action, ItemErrorKind::Storage, "").caused_by(error)
        })?
    }

    fn write(&self, name: &FileName, content: &[u8]) -> Result<(), ItemError> {
        let path = self.directory.join(name.path());
        let failed = |path: &Path, error| self.failed(format!("write {name}"), path, error);
        let parent = path.parent().unwrap_or(&self.directory);
        create_directories(parent).map_err(|error| failed(parent, error))?;
        // The permissions of the directory decide who may read.
        files::replace(&path, 0o666, content).map_err(|error| failed(&path, error))?;
        // The new name must be on disk before older files are deleted.
        sync(parent).map_err(|error| failed(parent, error))
    }

    fn read(&self, name: &FileName) -> Result<Option<Bytes>, ItemError> {
        let path = self.directory.join(name.path());
        let mut content = Vec::new();
        match File::open(&path).and_then(|file| {
            file.take(MAX_FILE_SIZE as u64 + 1)
                .read_to_end(&mut content)
        }) {
            Ok(_) if content.len() > MAX_FILE_SIZE => {
                let detail = format!("it is larger than {MAX_FILE_SIZE} bytes");
                Err(ItemError::new(
                    self.name(),
                    format!("read {name}"),
                    ItemErrorKind::Malformed,
                    detail,
                ))
            }
            Ok(_) => Ok(Some(content.into())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.failed(format!("read {name}"), &path, error)),
        }
    }

    fn read_listing(&self, scope: &PackageScope) -> Result<FileListing, ItemError> {
        let base = self.directory.join(scope.directory());
        let mut listing = FileListing::default();
        match scope {
            PackageScope::Package(_) => self.read_directory(scope, &base, "", &mut listing)?,
            PackageScope::AllRecords(_) => {
                for (name, is_directory) in self.entries(&base)? {
                    if is_directory {
                        self.read_directory(scope, &base, &format!("{name}/"), &mut listing)?;
                    } else {
                        listing.foreign.push(format!("{}{name}", scope.directory()));
                    }
                }
            }
        }
        listing.sort();
        Ok(listing)
    }

    fn read_directory(
        &self,
        scope: &PackageScope,
        base: &Path,
        below: &str,
        listing: &mut FileListing,
    ) -> Result<(), ItemError> {
        for (name, is_directory) in self.entries(&base.join(below))? {
            match scope.file(&format!("{below}{name}")) {
                Some(Ok((package, file))) if !is_directory => listing.add(&package, file, None),
                _ => listing
                    .foreign
                    .push(format!("{}{below}{name}", scope.directory())),
            }
        }
        Ok(())
    }

    /// Returns the entries of a directory: each name, and true for directories. Empty if the
    /// directory does not exist.
    fn entries(&self, directory: &Path) -> Result<Vec<(String, bool)>, ItemError> {
        let failed = |error| self.failed("list the files", directory, error);
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(files::TEMPORARY_PREFIX) {
                continue;
            }
            match entry.file_type() {
                Ok(kind) => names.push((name, kind.is_dir())),
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(names)
    }

    fn remove(&self, name: &FileName) -> Result<(), ItemError> {
        let path = self.directory.join(name.path());
        match fs::remove_file(&path) {
            Err(error) if !is_absent(&error) => {
                Err(self.failed(format!("delete {name}"), &path, error))
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl RecordStore for DirectoryFiles {
    fn name(&self) -> String {
        self.directory.display().to_string()
    }

    async fn put(&self, file: &FileName, content: Bytes) -> Result<(), ItemError> {
        let name = file.clone();
        self.blocking("write a file", move |store| store.write(&name, &content))
            .await
    }

    async fn get(&self, file: &FileName) -> Result<Option<Bytes>, ItemError> {
        let name = file.clone();
        self.blocking("read a file", move |store| store.read(&name))
            .await
    }

    async fn open(&self, file: &FileName) -> Result<Option<FileStream>, ItemError> {
        let path = self.directory.join(file.path());
        let (store, action) = (self.clone(), format!("read {file}"));
        match tokio::fs::File::open(&path).await {
            Ok(file) => Ok(Some(
                ReaderStream::new(file)
                    .map_err(move |error| store.failed(action.clone(), &path, error))
                    .boxed(),
            )),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.failed(action, &path, error)),
        }
    }

    async fn list(&self, scope: &PackageScope) -> Result<FileListing, ItemError> {
        let read = || async {
            let scope = scope.clone();
            let content = self
                .blocking("list the files", move |store| store.read_listing(&scope))
                .await?;
            Ok(ListingRead {
                content,
                is_atomic: false,
            })
        };
        read_consistently(read).await?.ok_or_else(|| {
            ItemError::new(
                self.name(),
                "list the files",
                ItemErrorKind::Unsettled,
                "they change faster than they can be listed",
            )
        })
    }

    async fn probe(&self, _: ProbeCredential) -> ProbeReport {
        let store = self.clone();
        let probed = tokio::task::spawn_blocking(move || {
            let read = match store.directory.read_dir() {
                Err(error) if !is_absent(&error) => {
                    let detail = format!("cannot read {}: {error}", store.directory.display());
                    ProbeFinding::wrong(probe::READ, "", detail)
                        .fix("give this user permission to read it, or correct `registry.path`")
                }
                Err(_) => {
                    ProbeFinding::ok(probe::READ, "", "does not exist yet: no record was written")
                }
                Ok(_) => ProbeFinding::ok(probe::READ, "", "allowed"),
            };
            vec![
                read,
                check_writable_directory(probe::WRITE, "", &store.directory),
            ]
        });
        probed.await.unwrap_or_default().into()
    }

    async fn delete(&self, file: &ListedFile) -> Result<(), ItemError> {
        let name = file.name.clone();
        self.blocking("delete a file", move |store| store.remove(&name))
            .await
    }
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Creates a directory and its parents, and syncs their names to disk.
fn create_directories(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        create_directories(parent)?;
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => return sync(parent),
        }
    }
    fs::create_dir_all(directory)
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::{EncodedName, FileKey, PackageContents, PackageName, Prefix};

    fn name(tag: &str) -> FileName {
        let package = PackageName {
            prefix: "imglife".parse().expect("a prefix"),
            contents: PackageContents::RecordsOf(EncodedName::of("r.example/a")),
        };
        let now = chrono::DateTime::from_timestamp(1_794_000_000, 0).expect("a time");
        FileName {
            package,
            file: FileKey::new(EncodedName::of(tag), b"content", now, None),
        }
    }

    #[tokio::test]
    async fn reading_creates_no_directory() {
        let parent = tempfile::tempdir().expect("a directory");
        let store = DirectoryFiles::new(parent.path().join("a/b"));
        let all = PackageScope::AllRecords("imglife".parse().expect("a prefix"));
        assert_eq!(
            store.list(&all).await.expect("a listing"),
            FileListing::default()
        );
        assert_eq!(store.get(&name("1")).await.expect("an answer"), None);
        store
            .delete(&ListedFile {
                name: name("1"),
                ids: None,
            })
            .await
            .expect("nothing to delete");
        assert_eq!(fs::read_dir(parent.path()).expect("a directory").count(), 0);
        store
            .put(&name("1"), Bytes::from_static(b"content"))
            .await
            .expect("written");
        let path = "a/b/imglife/records/r.example__a";
        assert_eq!(
            fs::read_dir(parent.path().join(path))
                .expect("a directory")
                .count(),
            1
        );
    }

    #[tokio::test]
    async fn list_reports_foreign_entries_but_no_temporary_files() {
        let parent = tempfile::tempdir().expect("a directory");
        let store = DirectoryFiles::new(parent.path().to_owned());
        store
            .put(&name("1"), Bytes::from_static(b"content"))
            .await
            .expect("written");
        let records = parent.path().join("imglife/records");
        fs::create_dir_all(records.join("UPPER")).expect("a directory");
        fs::create_dir_all(records.join("r.example__a/directory")).expect("a directory");
        for file in [
            "stray",
            "UPPER/x",
            "r.example__a/notes.txt",
            "r.example__a/.incoming-abc",
        ] {
            fs::write(records.join(file), "").expect("a file");
        }
        let listing = store
            .list(&PackageScope::AllRecords(
                "imglife".parse().expect("a prefix"),
            ))
            .await
            .expect("a listing");
        assert_eq!(
            listing.files,
            [ListedFile {
                name: name("1"),
                ids: None
            }]
        );
        let foreign = [
            "UPPER/x",
            "r.example__a/directory",
            "r.example__a/notes.txt",
            "stray",
        ]
        .map(|path| format!("imglife/records/{path}"));
        assert_eq!(listing.foreign, foreign);
        let none = store
            .list(&PackageScope::AllRecords(Prefix::none()))
            .await
            .expect("a listing");
        assert_eq!(none, FileListing::default());
    }

    #[tokio::test]
    async fn unreadable_directory_is_an_error() {
        let parent = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(parent.path().join("imglife/records")).expect("a directory");
        // A loop of links cannot be read, not even by root.
        std::os::unix::fs::symlink("loop", parent.path().join("imglife/records/loop"))
            .expect("a link");
        let store = DirectoryFiles::new(parent.path().join("imglife/records/loop"));
        let error = store
            .list(&PackageScope::AllRecords(Prefix::none()))
            .await
            .expect_err("no listing");
        assert_eq!(error.kind, ItemErrorKind::Storage);
    }
}
