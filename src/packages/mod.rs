//! Record stores: package registries, object stores and directories that hold build records and
//! data files.
//!
//! Owns how files are named, written, replaced and read ([`Records`], [`Documents`]), and the
//! stores themselves. A [`RecordStore`] only puts, gets, lists and deletes files. The content of
//! records belongs to `model`, the decisions based on them to the steps.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use crate::error::ItemError;
use crate::probe::{ProbeCredential, ProbeReport};

mod consistent_read;
pub mod directory;
mod documents;
#[cfg(test)]
mod documents_tests;
mod forge_api;
pub mod gitea;
pub mod gitlab;
mod keys;
mod large_record;
pub mod memory;
mod probe;
mod read_only;
mod record_cache;
mod records;
#[cfg(test)]
mod records_tests;
#[cfg(feature = "s3")]
pub mod s3;

pub use documents::{Documents, StateDocument, StoredDocument};
pub use keys::{
    EncodedName, FileKey, FileName, PackageContents, PackageName, PackageScope, Prefix,
};
pub use read_only::ReadOnlyFiles;
pub use records::{
    DataFileContent, DataFileKind, RecordDeletion, RecordSet, Records, UnreadableFile,
    WrittenRecord, log_leftover_files,
};

/// Maximum size of a file, in bytes. Data files are larger than records.
pub const MAX_FILE_SIZE: usize = 16 * 1024 * 1024;

/// Content of a file, in parts.
pub type FileStream = BoxStream<'static, Result<Bytes, ItemError>>;

/// A store of files in packages. Files never change: a name is written once, read and deleted.
#[async_trait]
pub trait RecordStore: Send + Sync {
    /// Returns the name of the store, without credentials. It appears in messages and separates the
    /// cached content of different stores.
    fn name(&self) -> String;

    /// Writes a file. Succeeds if the file exists with the same content, because the response to an
    /// earlier attempt may have been lost.
    async fn put(&self, file: &FileName, content: Bytes) -> Result<(), ItemError>;

    /// Returns the content of a file; `None` if it does not exist.
    async fn get(&self, file: &FileName) -> Result<Option<Bytes>, ItemError>;

    /// Returns the content of a file in parts; `None` if it does not exist. Unlike with
    /// [`get`](RecordStore::get), the file may have any size.
    async fn open(&self, file: &FileName) -> Result<Option<FileStream>, ItemError> {
        let content = self.get(file).await?;
        Ok(content.map(|content| stream::once(async { Ok(content) }).boxed()))
    }

    /// Returns all files in `scope`, or an error. A file that exists before and after the call is
    /// always included.
    async fn list(&self, scope: &PackageScope) -> Result<FileListing, ItemError>;

    /// Checks that the store responds and that the credential may read, write and delete, as far as
    /// that can be found out without changing anything.
    async fn probe(&self, login: ProbeCredential) -> ProbeReport;

    /// Deletes a listed file. Succeeds if the file no longer exists.
    async fn delete(&self, file: &ListedFile) -> Result<(), ItemError>;
}

/// Files of a store in a scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileListing {
    pub files: Vec<ListedFile>,
    /// Names of entries that imglife cannot have written.
    pub foreign: Vec<String>,
}

impl FileListing {
    /// Adds the file `file` of a package; as foreign, if the name is not valid.
    fn add(&mut self, package: &PackageName, file: &str, ids: Option<GitlabFileIds>) {
        match file.parse() {
            Ok(file) => self.files.push(ListedFile {
                name: FileName {
                    package: package.clone(),
                    file,
                },
                ids,
            }),
            Err(_) => self.foreign.push(format!("{}{file}", package.directory())),
        }
    }

    /// Sorts the listing and removes duplicates.
    fn sort(&mut self) {
        self.files.sort();
        self.files.dedup();
        self.foreign.sort();
        self.foreign.dedup();
    }
}

/// A file in a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedFile {
    pub name: FileName,
    /// IDs by which GitLab deletes the file; `None` for other stores, which use the name.
    pub ids: Option<GitlabFileIds>,
}

/// IDs of a file and its package in GitLab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GitlabFileIds {
    pub package: u64,
    pub file: u64,
}
