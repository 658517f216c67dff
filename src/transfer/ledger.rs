//! What a run knows to be at the target, and who is bringing what right now.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use tokio::sync::OnceCell;

use crate::model::lock::lock;
use crate::model::{Digest, Host, Repository};

/// Something that is done once: the first who asks does it, the others wait for it; when it fails,
/// the next one tries.
pub(super) type Once = Arc<OnceCell<()>>;

/// A lock on something that one copy at a time may change.
pub(super) type Alone = Arc<tokio::sync::Mutex<()>>;

#[derive(Default)]
pub(super) struct Ledger {
    absent: Mutex<HashSet<Repository>>,
    manifests: Mutex<HashMap<(Repository, Digest), Once>>,
    blobs: Mutex<HashMap<(Repository, Digest), Once>>,
    holders: Mutex<HashMap<(SharingPlace, Digest), Arc<Holder>>>,
    referrer_lists: Mutex<HashMap<(Repository, Digest), Alone>>,
}

/// Within one of these, a blob of one repository becomes part of another without being sent.
#[derive(Clone, PartialEq, Eq, Hash)]
enum SharingPlace {
    Host(Host),
    Directories,
}

/// Which repository of a place has a certain blob.
#[derive(Default)]
pub(super) struct Holder {
    repository: Mutex<Option<Repository>>,
    /// Held while the blob is brought to the place for the first time.
    pub(super) first: tokio::sync::Mutex<()>,
}

impl Holder {
    pub(super) fn get(&self) -> Option<Repository> {
        lock(&self.repository).clone()
    }

    pub(super) fn set(&self, repository: &Repository) {
        lock(&self.repository).get_or_insert_with(|| repository.clone());
    }
}

impl Ledger {
    pub(super) fn note_absent(&self, repository: &Repository) {
        lock(&self.absent).insert(repository.clone());
    }

    /// Returns whether the place said that the repository did not exist when the run began; then
    /// what it has now is what this run brought.
    pub(super) fn is_absent(&self, repository: &Repository) -> bool {
        lock(&self.absent).contains(repository)
    }

    pub(super) fn manifest(&self, repository: &Repository, digest: &Digest) -> Once {
        entry(&self.manifests, (repository.clone(), digest.clone()))
    }

    pub(super) fn has_manifest(&self, repository: &Repository, digest: &Digest) -> bool {
        lock(&self.manifests)
            .get(&(repository.clone(), digest.clone()))
            .is_some_and(|once| once.initialized())
    }

    /// Returns whether a copy of the manifest has begun, or is done.
    pub(super) fn is_met(&self, repository: &Repository, digest: &Digest) -> bool {
        lock(&self.manifests).contains_key(&(repository.clone(), digest.clone()))
    }

    pub(super) fn note_manifest(&self, repository: &Repository, digest: &Digest) {
        // Another copy of the same image may have noted it first.
        let _already_noted = self.manifest(repository, digest).set(());
    }

    pub(super) fn blob(&self, repository: &Repository, digest: &Digest) -> Once {
        entry(&self.blobs, (repository.clone(), digest.clone()))
    }

    /// Returns the lock of the list of what refers to `subject`: it is read, added to and written
    /// by one copy at a time.
    pub(super) fn alone_with(&self, repository: &Repository, subject: &Digest) -> Alone {
        entry(&self.referrer_lists, (repository.clone(), subject.clone()))
    }

    pub(super) fn holder(&self, repository: &Repository, digest: &Digest) -> Arc<Holder> {
        let place = match repository {
            Repository::Remote { host, .. } => SharingPlace::Host(host.clone()),
            Repository::Layout { .. } => SharingPlace::Directories,
        };
        entry(&self.holders, (place, digest.clone()))
    }
}

fn entry<K: Eq + Hash, V: Clone + Default>(map: &Mutex<HashMap<K, V>>, key: K) -> V {
    lock(map).entry(key).or_default().clone()
}
