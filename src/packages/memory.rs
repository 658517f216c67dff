//! A record store in memory, for tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;

use super::{FileListing, FileName, ListedFile, PackageName, PackageScope, RecordStore};
use crate::error::{ItemError, ItemErrorKind};
use crate::model::lock::lock;
use crate::probe::{ProbeCredential, ProbeReport};

/// A method of [`RecordStore`], to count calls and to make them fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreCall {
    Put,
    Get,
    List,
    Delete,
}

/// Files in memory. Tests can make calls fail and insert foreign files.
#[derive(Default)]
pub struct MemoryFiles(Mutex<MemoryFilesState>);

#[derive(Default)]
struct MemoryFilesState {
    /// Content by package and file name. Names that imglife does not write are allowed.
    files: BTreeMap<(PackageName, String), Bytes>,
    failing: Vec<(StoreCall, ItemErrorKind)>,
    /// Calls that fail after a number of calls of the same kind.
    failing_after: Vec<(StoreCall, usize, ItemErrorKind)>,
    calls: Vec<StoreCall>,
}

impl MemoryFiles {
    /// Makes every further call of this kind fail.
    pub fn fail(&self, call: StoreCall, kind: ItemErrorKind) {
        self.state().failing.push((call, kind));
    }

    /// Makes every call of this kind fail after `calls` more of them.
    pub fn fail_after(&self, call: StoreCall, calls: usize, kind: ItemErrorKind) {
        let mut state = self.state();
        let made = state.calls.iter().filter(|made| **made == call).count();
        state.failing_after.push((call, made + calls, kind));
    }

    /// Makes all calls succeed again.
    pub fn recover(&self) {
        let mut state = self.state();
        state.failing.clear();
        state.failing_after.clear();
    }

    /// Inserts a file with any name and content into a package.
    pub fn insert(&self, package: &PackageName, file: &str, content: impl Into<Bytes>) {
        self.state()
            .files
            .insert((package.clone(), file.to_owned()), content.into());
    }

    /// Returns the paths of all files.
    pub fn paths(&self) -> Vec<String> {
        self.state()
            .files
            .keys()
            .map(|(package, file)| format!("{}{file}", package.directory()))
            .collect()
    }

    /// Returns the number of calls of this kind.
    pub fn count(&self, call: StoreCall) -> usize {
        self.state()
            .calls
            .iter()
            .filter(|made| **made == call)
            .count()
    }

    fn state(&self) -> MutexGuard<'_, MemoryFilesState> {
        lock(&self.0)
    }

    fn called(
        &self,
        call: StoreCall,
        action: impl FnOnce() -> String,
    ) -> Result<MutexGuard<'_, MemoryFilesState>, ItemError> {
        let mut state = self.state();
        state.calls.push(call);
        let made = state.calls.iter().filter(|made| **made == call).count();
        let at_once = state
            .failing
            .iter()
            .copied()
            .find(|(failing, _)| *failing == call);
        let later = state
            .failing_after
            .iter()
            .find(|(failing, calls, _)| *failing == call && made > *calls)
            .map(|(failing, _, kind)| (*failing, *kind));
        match at_once.or(later) {
            Some((_, kind)) => Err(ItemError::new(
                self.name(),
                action(),
                kind,
                "the test made it fail",
            )),
            None => Ok(state),
        }
    }
}

#[async_trait]
impl RecordStore for MemoryFiles {
    fn name(&self) -> String {
        "memory".to_owned()
    }

    async fn put(&self, file: &FileName, content: Bytes) -> Result<(), ItemError> {
        let mut state = self.called(StoreCall::Put, || format!("write {file}"))?;
        state
            .files
            .insert((file.package.clone(), file.file.to_string()), content);
        Ok(())
    }

    async fn get(&self, file: &FileName) -> Result<Option<Bytes>, ItemError> {
        let state = self.called(StoreCall::Get, || format!("read {file}"))?;
        Ok(state
            .files
            .get(&(file.package.clone(), file.file.to_string()))
            .cloned())
    }

    async fn list(&self, scope: &PackageScope) -> Result<FileListing, ItemError> {
        let state = self.called(StoreCall::List, || "list the files".to_owned())?;
        let mut listing = FileListing::default();
        for (package, file) in state.files.keys() {
            if scope.contains(package) {
                listing.add(package, file, None);
            }
        }
        listing.sort();
        Ok(listing)
    }

    async fn probe(&self, _: ProbeCredential) -> ProbeReport {
        ProbeReport::default()
    }

    async fn delete(&self, file: &ListedFile) -> Result<(), ItemError> {
        let mut state = self.called(StoreCall::Delete, || format!("delete {}", file.name))?;
        state
            .files
            .remove(&(file.name.package.clone(), file.name.file.to_string()));
        Ok(())
    }
}
