//! A directory on this machine as a place: `<prefix>/records/<repository>/<file>`.
//!
//! A file appears under its name whole and on the disk, or not at all. Readers take no lock. Only
//! writing makes directories.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;

use super::probe;
use super::settled::{Seen, settled};
use super::{FileName, FileSeen, LARGEST_FILE, Listing, PackageFiles, Scope};
use crate::error::{ItemError, ItemErrorKind};
use crate::files;
use crate::probe::{ProbeCredential, ProbeFinding, ProbeReport, check_writable_directory};

/// Packages as directories.
#[derive(Clone, Debug)]
pub struct DirectoryFiles {
    directory: PathBuf,
}

impl DirectoryFiles {
    /// Returns the place in `directory`, which need not exist.
    pub fn new(directory: PathBuf) -> DirectoryFiles {
        DirectoryFiles { directory }
    }

    fn failed(&self, action: impl Into<String>, path: &Path, error: io::Error) -> ItemError {
        let detail = format!("at {}", path.display());
        ItemError::new(self.place(), action, ItemErrorKind::Storage, detail).caused_by(error)
    }

    /// Runs `work` where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        action: &str,
        work: impl FnOnce(&DirectoryFiles) -> Result<T, ItemError> + Send + 'static,
    ) -> Result<T, ItemError> {
        let place = self.clone();
        let result = tokio::task::spawn_blocking(move || work(&place)).await;
        result.map_err(|error| {
            ItemError::new(self.place(), action, ItemErrorKind::Storage, "").caused_by(error)
        })?
    }

    fn write(&self, name: &FileName, content: &[u8]) -> Result<(), ItemError> {
        let path = self.directory.join(name.path());
        let failed = |path: &Path, error| self.failed(format!("write {name}"), path, error);
        let parent = path.parent().unwrap_or(&self.directory);
        make_directories(parent).map_err(|error| failed(parent, error))?;
        // The content is as public as the directory.
        files::replace(&path, 0o666, content).map_err(|error| failed(&path, error))?;
        // The new name must be on the disk before an older file's is gone from it.
        sync(parent).map_err(|error| failed(parent, error))
    }

    fn read(&self, name: &FileName) -> Result<Option<Bytes>, ItemError> {
        let path = self.directory.join(name.path());
        let mut content = Vec::new();
        match File::open(&path)
            .and_then(|file| file.take(LARGEST_FILE as u64 + 1).read_to_end(&mut content))
        {
            Ok(_) if content.len() > LARGEST_FILE => {
                let detail = format!("it has more than {LARGEST_FILE} bytes");
                Err(ItemError::new(
                    self.place(),
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

    fn read_listing(&self, scope: &Scope) -> Result<Listing, ItemError> {
        let base = self.directory.join(scope.directory());
        let mut listing = Listing::default();
        match scope {
            Scope::Package(_) => self.read_directory(scope, &base, "", &mut listing)?,
            Scope::AllRecords(_) => {
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
        scope: &Scope,
        base: &Path,
        below: &str,
        listing: &mut Listing,
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

    /// Returns the names in a directory with whether they are directories; none when it does not
    /// exist.
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
impl PackageFiles for DirectoryFiles {
    fn place(&self) -> String {
        self.directory.display().to_string()
    }

    async fn put(&self, file: &FileName, content: Bytes) -> Result<(), ItemError> {
        let name = file.clone();
        self.blocking("write a file", move |place| place.write(&name, &content))
            .await
    }

    async fn get(&self, file: &FileName) -> Result<Option<Bytes>, ItemError> {
        let name = file.clone();
        self.blocking("read a file", move |place| place.read(&name))
            .await
    }

    async fn list(&self, scope: &Scope) -> Result<Listing, ItemError> {
        let read = || async {
            let scope = scope.clone();
            let what = self
                .blocking("list the files", move |place| place.read_listing(&scope))
                .await?;
            Ok(Seen {
                what,
                at_once: false,
            })
        };
        settled(read).await?.ok_or_else(|| {
            ItemError::new(
                self.place(),
                "list the files",
                ItemErrorKind::Unsettled,
                "they change faster than they can be listed",
            )
        })
    }

    async fn probe(&self, _: ProbeCredential) -> ProbeReport {
        let place = self.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let read = match place.directory.read_dir() {
                Err(error) if !is_absent(&error) => {
                    let detail = format!("{} cannot be read: {error}", place.directory.display());
                    ProbeFinding::wrong(probe::READ, "", detail)
                        .fix("give this user the right to read it, or correct `registry.path`")
                }
                Err(_) => ProbeFinding::ok(probe::READ, "", "not there yet: nothing was recorded"),
                Ok(_) => ProbeFinding::ok(probe::READ, "", "allowed"),
            };
            vec![
                read,
                check_writable_directory(probe::WRITE, "", &place.directory),
            ]
        });
        looked.await.unwrap_or_default().into()
    }

    async fn delete(&self, file: &FileSeen) -> Result<(), ItemError> {
        let name = file.name.clone();
        self.blocking("delete a file", move |place| place.remove(&name))
            .await
    }
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Makes a directory and those above it, and brings their names to the disk.
fn make_directories(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        make_directories(parent)?;
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
    use crate::packages::{Contents, Encoded, FileKey, PackageName, Prefix};

    fn name(tag: &str) -> FileName {
        let package = PackageName {
            prefix: "imglife".parse().expect("a prefix"),
            contents: Contents::RecordsOf(Encoded::of("r.example/a")),
        };
        let now = chrono::DateTime::from_timestamp(1_794_000_000, 0).expect("a time");
        FileName {
            package,
            file: FileKey::new(Encoded::of(tag), b"content", now, None),
        }
    }

    #[tokio::test]
    async fn reading_makes_no_directory() {
        let parent = tempfile::tempdir().expect("a directory");
        let place = DirectoryFiles::new(parent.path().join("a/b"));
        let all = Scope::AllRecords("imglife".parse().expect("a prefix"));
        assert_eq!(
            place.list(&all).await.expect("a listing"),
            Listing::default()
        );
        assert_eq!(place.get(&name("1")).await.expect("an answer"), None);
        place
            .delete(&FileSeen {
                name: name("1"),
                ids: None,
            })
            .await
            .expect("nothing to delete");
        assert_eq!(fs::read_dir(parent.path()).expect("a directory").count(), 0);
        place
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
    async fn what_others_put_there_is_told_and_what_is_being_written_is_not() {
        let parent = tempfile::tempdir().expect("a directory");
        let place = DirectoryFiles::new(parent.path().to_owned());
        place
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
        let listing = place
            .list(&Scope::AllRecords("imglife".parse().expect("a prefix")))
            .await
            .expect("a listing");
        assert_eq!(
            listing.files,
            [FileSeen {
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
        let none = place
            .list(&Scope::AllRecords(Prefix::none()))
            .await
            .expect("a listing");
        assert_eq!(none, Listing::default());
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_read_is_an_error_and_not_empty() {
        let parent = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(parent.path().join("imglife/records")).expect("a directory");
        // A loop of links: neither missing nor a directory, for root as well.
        std::os::unix::fs::symlink("loop", parent.path().join("imglife/records/loop"))
            .expect("a link");
        let place = DirectoryFiles::new(parent.path().join("imglife/records/loop"));
        let error = place
            .list(&Scope::AllRecords(Prefix::none()))
            .await
            .expect_err("no listing");
        assert_eq!(error.kind, ItemErrorKind::Storage);
    }
}
