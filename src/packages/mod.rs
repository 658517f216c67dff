//! Places that hold build records and data files: package registries, object stores, directories.
//!
//! Owns how files are named, written, replaced and read back ([`Records`]), and the places
//! themselves. A place knows four calls and nothing of records; what a record says belongs to
//! `model`, what follows from it to the steps.

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::ItemError;
use crate::probe::{ProbeCredential, ProbeReport};

pub mod directory;

pub mod gitea;
pub mod gitlab;
mod interface;
mod kept;
mod keys;
pub mod memory;
mod probe;
mod read_only;
mod records;
#[cfg(test)]
mod records_tests;
#[cfg(feature = "s3")]
pub mod s3;
mod settled;

pub use keys::{Contents, Encoded, FileKey, FileName, PackageName, Prefix, Scope};
pub use read_only::ReadOnlyFiles;
pub use records::{Data, DataFile, Deletion, Put, Reading, Records, Unreadable, tell_of_leftovers};

/// The largest file that is read, in bytes: data files are larger than records.
pub const LARGEST_FILE: usize = 16 * 1024 * 1024;

/// A place that holds files in packages. Files never change: they are written once under their
/// name, read, deleted.
#[async_trait]
pub trait PackageFiles: Send + Sync {
    /// Returns the place's name, for messages and to keep apart what was read from different
    /// places. Shows no credential.
    fn place(&self) -> String;

    /// Writes a file. When it is there already with the same content, that is a success: an answer
    /// may have been lost.
    async fn put(&self, file: &FileName, content: Bytes) -> Result<(), ItemError>;

    /// Returns a file's content, or `None` when it is not there (any more).
    async fn get(&self, file: &FileName) -> Result<Option<Bytes>, ItemError>;

    /// Returns the files in `scope`: all of them, or an error. What was there before and after the
    /// call is in it.
    async fn list(&self, scope: &Scope) -> Result<Listing, ItemError>;

    /// Returns what a look at the place finds: whether it answers, and lets one read, write and
    /// delete, as far as that can be known without doing so.
    async fn probe(&self, login: ProbeCredential) -> ProbeReport;

    /// Deletes a file that a listing had. One that is gone by now is no error.
    async fn delete(&self, file: &FileSeen) -> Result<(), ItemError>;
}

/// What a place has in a scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub files: Vec<FileSeen>,
    /// What stands where files stand and has a name that none of them can have.
    pub foreign: Vec<String>,
}

impl Listing {
    /// Adds what has this name in a package.
    fn add(&mut self, package: &PackageName, file: &str, ids: Option<Ids>) {
        match file.parse() {
            Ok(file) => self.files.push(FileSeen {
                name: FileName {
                    package: package.clone(),
                    file,
                },
                ids,
            }),
            Err(_) => self.foreign.push(format!("{}{file}", package.directory())),
        }
    }

    /// Brings the listing into one order, whatever order the place had.
    fn sort(&mut self) {
        self.files.sort();
        self.files.dedup();
        self.foreign.sort();
        self.foreign.dedup();
    }
}

/// A file as a listing has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileSeen {
    pub name: FileName,
    /// What the place deletes it by, where that is not its name.
    pub ids: Option<Ids>,
}

/// The numbers by which GitLab knows a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ids {
    pub package: u64,
    pub file: u64,
}
