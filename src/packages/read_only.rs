//! A read-only record store for dry runs. A write is an error, even if a step forgets to check for
//! the dry run.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{FileListing, FileName, FileStream, ListedFile, PackageScope, RecordStore};
use crate::error::{ItemError, ItemErrorKind};
use crate::probe::{ProbeCredential, ProbeReport};

/// Wrapper of a store that rejects writes and deletions.
pub struct ReadOnlyFiles(Arc<dyn RecordStore>);

impl ReadOnlyFiles {
    /// Returns a read-only view of `store`.
    pub fn new(store: Arc<dyn RecordStore>) -> ReadOnlyFiles {
        ReadOnlyFiles(store)
    }

    fn refused(&self, action: String) -> ItemError {
        ItemError::new(
            self.name(),
            action,
            ItemErrorKind::ReadOnly,
            "this run is read-only",
        )
    }
}

#[async_trait]
impl RecordStore for ReadOnlyFiles {
    fn name(&self) -> String {
        self.0.name()
    }

    async fn put(&self, file: &FileName, _: Bytes) -> Result<(), ItemError> {
        Err(self.refused(format!("write {file}")))
    }

    async fn get(&self, file: &FileName) -> Result<Option<Bytes>, ItemError> {
        self.0.get(file).await
    }

    async fn open(&self, file: &FileName) -> Result<Option<FileStream>, ItemError> {
        self.0.open(file).await
    }

    async fn list(&self, scope: &PackageScope) -> Result<FileListing, ItemError> {
        self.0.list(scope).await
    }

    async fn probe(&self, login: ProbeCredential) -> ProbeReport {
        self.0.probe(login).await
    }

    async fn delete(&self, file: &ListedFile) -> Result<(), ItemError> {
        Err(self.refused(format!("delete {}", file.name)))
    }
}
