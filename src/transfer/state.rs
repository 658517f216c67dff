//! Shared state of a run: content that is at the target already or is being copied there.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use tokio::sync::OnceCell;

use crate::model::lock::lock;
use crate::model::{Digest, Host, Repository, Tag};

/// Work that is done once: the first caller does it and the others wait. If it fails, the next
/// caller tries again.
pub(super) type OncePerRun = Arc<OnceCell<()>>;

/// Lock on a resource that only one copy at a time may change.
pub(super) type ExclusiveLock = Arc<tokio::sync::Mutex<()>>;

/// Tags of a repository at the target as they were listed once; `None` if listing them failed.
pub(super) type OnceListed = Arc<OnceCell<Option<BTreeSet<Tag>>>>;

#[derive(Default)]
pub(super) struct TransferState {
    absent: Mutex<HashSet<Repository>>,
    manifests: Mutex<HashMap<(Repository, Digest), OncePerRun>>,
    blobs: Mutex<HashMap<(Repository, Digest), OncePerRun>>,
    /// Manifests and blobs whose content was read at the target.
    readable: Mutex<HashMap<(Repository, Digest), OncePerRun>>,
    locations: Mutex<HashMap<(MountScope, Digest), Arc<BlobLocation>>>,
    referrer_lists: Mutex<HashMap<(Repository, Digest), ExclusiveLock>>,
    target_listings: Mutex<HashMap<Repository, OnceListed>>,
    /// Repositories of the source that refuse to list referrers.
    without_referrers: Mutex<HashSet<Repository>>,
}

/// Repositories between which a blob can be shared without an upload.
#[derive(Clone, PartialEq, Eq, Hash)]
enum MountScope {
    Host(Host),
    Layouts,
}

/// A repository of a mount scope that has a certain blob.
#[derive(Default)]
pub(super) struct BlobLocation {
    repository: Mutex<Option<Repository>>,
    /// Locked during the first upload of the blob to this scope.
    pub(super) first_upload: tokio::sync::Mutex<()>,
}

impl BlobLocation {
    pub(super) fn get(&self) -> Option<Repository> {
        lock(&self.repository).clone()
    }

    /// Records a repository, unless one is recorded already.
    pub(super) fn set(&self, repository: &Repository) {
        lock(&self.repository).get_or_insert_with(|| repository.clone());
    }
}

impl TransferState {
    pub(super) fn record_absent(&self, repository: &Repository) {
        lock(&self.absent).insert(repository.clone());
    }

    /// Returns true if the repository did not exist when the run began. Everything in it now was
    /// copied by this run.
    pub(super) fn is_absent(&self, repository: &Repository) -> bool {
        lock(&self.absent).contains(repository)
    }

    /// Records that a repository of the source refuses to list referrers.
    pub(super) fn record_refused_referrers(&self, repository: &Repository) {
        lock(&self.without_referrers).insert(repository.clone());
    }

    /// Returns true if a repository of the source refused to list referrers.
    pub(super) fn refuses_referrers(&self, repository: &Repository) -> bool {
        lock(&self.without_referrers).contains(repository)
    }

    /// Returns the tags that a repository at the target had when they were first needed.
    pub(super) fn target_listing(&self, repository: &Repository) -> OnceListed {
        entry(&self.target_listings, repository.clone())
    }

    pub(super) fn manifest(&self, repository: &Repository, digest: &Digest) -> OncePerRun {
        entry(&self.manifests, (repository.clone(), digest.clone()))
    }

    /// Returns true if the manifest is known to be at the target.
    pub(super) fn has_manifest(&self, repository: &Repository, digest: &Digest) -> bool {
        lock(&self.manifests)
            .get(&(repository.clone(), digest.clone()))
            .is_some_and(|once| once.initialized())
    }

    /// Returns true if a copy of the manifest has started or is done.
    pub(super) fn has_started(&self, repository: &Repository, digest: &Digest) -> bool {
        lock(&self.manifests).contains_key(&(repository.clone(), digest.clone()))
    }

    pub(super) fn record_manifest(&self, repository: &Repository, digest: &Digest) {
        // Another copy of the same image may have recorded it first.
        let _already_recorded = self.manifest(repository, digest).set(());
    }

    pub(super) fn blob(&self, repository: &Repository, digest: &Digest) -> OncePerRun {
        entry(&self.blobs, (repository.clone(), digest.clone()))
    }

    /// Returns the check that a manifest or blob can be read at the target.
    pub(super) fn readable(&self, repository: &Repository, digest: &Digest) -> OncePerRun {
        entry(&self.readable, (repository.clone(), digest.clone()))
    }

    /// Returns the lock of the referrers index of `subject`. One copy at a time reads, extends and
    /// writes it.
    pub(super) fn referrers_lock(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> ExclusiveLock {
        entry(&self.referrer_lists, (repository.clone(), subject.clone()))
    }

    /// Returns the location of a blob in the mount scope of `repository`.
    pub(super) fn location(&self, repository: &Repository, digest: &Digest) -> Arc<BlobLocation> {
        let scope = match repository {
            Repository::Remote { host, .. } => MountScope::Host(host.clone()),
            Repository::Layout { .. } => MountScope::Layouts,
        };
        entry(&self.locations, (scope, digest.clone()))
    }
}

fn entry<K: Eq + Hash, V: Clone + Default>(map: &Mutex<HashMap<K, V>>, key: K) -> V {
    lock(map).entry(key).or_default().clone()
}
