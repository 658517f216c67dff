//! A place that can only be read: what runs that must change nothing are given, so that a forgotten
//! branch is an error.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{FileName, FileSeen, Listing, PackageFiles, Scope};
use crate::error::{ItemError, ItemErrorKind};
use crate::probe::{ProbeCredential, ProbeReport};

/// The place inside, without its writes.
pub struct ReadOnlyFiles(Arc<dyn PackageFiles>);

impl ReadOnlyFiles {
    pub fn new(place: Arc<dyn PackageFiles>) -> ReadOnlyFiles {
        ReadOnlyFiles(place)
    }

    fn refused(&self, action: String) -> ItemError {
        ItemError::new(
            self.place(),
            action,
            ItemErrorKind::ReadOnly,
            "this run only reads",
        )
    }
}

#[async_trait]
impl PackageFiles for ReadOnlyFiles {
    fn place(&self) -> String {
        self.0.place()
    }

    async fn put(&self, file: &FileName, _: Bytes) -> Result<(), ItemError> {
        Err(self.refused(format!("write {file}")))
    }

    async fn get(&self, file: &FileName) -> Result<Option<Bytes>, ItemError> {
        self.0.get(file).await
    }

    async fn list(&self, scope: &Scope) -> Result<Listing, ItemError> {
        self.0.list(scope).await
    }

    async fn probe(&self, login: ProbeCredential) -> ProbeReport {
        self.0.probe(login).await
    }

    async fn delete(&self, file: &FileSeen) -> Result<(), ItemError> {
        Err(self.refused(format!("delete {}", file.name)))
    }
}
