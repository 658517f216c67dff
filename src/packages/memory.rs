//! A place in memory, for tests of what stands on records.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;

use super::{FileName, FileSeen, Listing, PackageFiles, PackageName, Scope};
use crate::error::{ItemError, ItemErrorKind};
use crate::model::lock::lock;
use crate::probe::{ProbeCredential, ProbeReport};

/// A call of the trait, for what shall fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Put,
    Get,
    List,
    Delete,
}

/// Files in memory. Calls can be made to fail, and foreign files put between the others.
#[derive(Default)]
pub struct MemoryFiles(Mutex<State>);

#[derive(Default)]
struct State {
    /// By package and name of the file, so that names of others fit as well.
    files: BTreeMap<(PackageName, String), Bytes>,
    failing: Vec<(Call, ItemErrorKind)>,
    calls: Vec<Call>,
}

impl MemoryFiles {
    /// Lets every call of this kind fail from now on.
    pub fn fail(&self, call: Call, kind: ItemErrorKind) {
        self.state().failing.push((call, kind));
    }

    /// Lets all calls succeed again.
    pub fn recover(&self) {
        self.state().failing.clear();
    }

    /// Puts a file of any name and content into a package.
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

    /// Returns how often a call was made.
    pub fn count(&self, call: Call) -> usize {
        self.state()
            .calls
            .iter()
            .filter(|made| **made == call)
            .count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    fn called(
        &self,
        call: Call,
        action: impl FnOnce() -> String,
    ) -> Result<MutexGuard<'_, State>, ItemError> {
        let mut state = self.state();
        state.calls.push(call);
        match state.failing.iter().find(|(failing, _)| *failing == call) {
            Some((_, kind)) => Err(ItemError::new(
                self.place(),
                action(),
                *kind,
                "it was told to fail",
            )),
            None => Ok(state),
        }
    }
}

#[async_trait]
impl PackageFiles for MemoryFiles {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    async fn put(&self, file: &FileName, content: Bytes) -> Result<(), ItemError> {
        let mut state = self.called(Call::Put, || format!("write {file}"))?;
        state
            .files
            .insert((file.package.clone(), file.file.to_string()), content);
        Ok(())
    }

    async fn get(&self, file: &FileName) -> Result<Option<Bytes>, ItemError> {
        let state = self.called(Call::Get, || format!("read {file}"))?;
        Ok(state
            .files
            .get(&(file.package.clone(), file.file.to_string()))
            .cloned())
    }

    async fn list(&self, scope: &Scope) -> Result<Listing, ItemError> {
        let state = self.called(Call::List, || "list the files".to_owned())?;
        let mut listing = Listing::default();
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

    async fn delete(&self, file: &FileSeen) -> Result<(), ItemError> {
        let mut state = self.called(Call::Delete, || format!("delete {}", file.name))?;
        state
            .files
            .remove(&(file.name.package.clone(), file.name.file.to_string()));
        Ok(())
    }
}
