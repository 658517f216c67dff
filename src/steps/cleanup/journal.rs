//! The journal of a run: every change is written to it before it is made, so that a run that is
//! stopped at any moment can be undone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::error::{ItemError, ItemErrorKind};
use crate::model::lock::lock;
use crate::model::{
    Clock, Digest, JournalBatch, JournalChange, JournalManifest, Manifest, Reference, Repository,
};
use crate::registry::ImageStores;

/// Number of changes in one batch.
const MAX_CHANGES: usize = 64;

/// Size of the manifests in one batch, in bytes.
const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// Maximum size of the manifests that stay in memory until the end of the run, in bytes.
const MAX_RETAINED_BYTES: usize = 32 * 1024 * 1024;

/// Manifests that are read concurrently; each host has its own limit as well.
const CONCURRENT_READS: usize = 8;

/// Store of the batches of a journal.
#[async_trait]
pub trait JournalStore: Send + Sync {
    /// Stores a batch durably.
    async fn write(&self, batch: &JournalBatch) -> Result<(), ItemError>;

    /// Returns the batches of earlier runs that were written since `since`, as far as the journal
    /// can be read during a run.
    async fn recent(&self, _since: DateTime<Utc>) -> Result<Vec<JournalBatch>, ItemError> {
        Ok(Vec::new())
    }
}

/// Manifests that are deleted by digest; `None` if the content was not read yet.
pub(super) type DeletedManifests = BTreeMap<Digest, Option<Manifest>>;

/// The journal of one run.
pub struct Journal {
    store: Arc<dyn JournalStore>,
    clock: Clock,
    run: String,
    batches: AtomicU32,
    retained: Mutex<RetainedManifests>,
    /// Content of the manifests that this run wrote to the journal, by repository.
    content: Mutex<BTreeMap<Repository, BTreeSet<Digest>>>,
}

/// Manifests that were written to the journal, as many as fit into memory.
#[derive(Default)]
struct RetainedManifests {
    manifests: HashMap<(Repository, Digest), JournalManifest>,
    bytes: usize,
}

impl Journal {
    /// Returns an empty journal that is kept in `store`.
    pub fn new(store: Arc<dyn JournalStore>, clock: Clock) -> Journal {
        let run = run_name(clock.now());
        Journal {
            store,
            clock,
            run,
            batches: AtomicU32::new(0),
            retained: Mutex::default(),
            content: Mutex::default(),
        }
    }

    /// Returns the name of the run, by which it can be undone.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Returns true if something was written.
    pub fn is_used(&self) -> bool {
        self.batches.load(Ordering::Relaxed) > 0
    }

    /// Returns a manifest that was written to the journal, if it is still in memory.
    pub(super) fn retained(&self, repository: &Repository, digest: &Digest) -> Option<Manifest> {
        let key = (repository.clone(), digest.clone());
        let retained = lock(&self.retained);
        let found = retained.manifests.get(&key)?;
        let content = Bytes::from(found.content.clone().into_bytes());
        Manifest::parse(content, Some(&found.media_type), digest.algorithm()).ok()
    }

    fn retain(&self, repository: &Repository, manifests: &[JournalManifest]) {
        let mut retained = lock(&self.retained);
        for manifest in manifests {
            retained.bytes += manifest.content.len();
            if retained.bytes > MAX_RETAINED_BYTES {
                return;
            }
            let key = (repository.clone(), manifest.digest.clone());
            retained.manifests.insert(key, manifest.clone());
        }
    }

    /// Writes `changes`, and the manifests `deleted` that are deleted by digest. Those without
    /// content are read from `repository` first, and left out if they do not exist any more.
    ///
    /// Fails if a manifest cannot be read or a batch cannot be stored; then nothing may be changed.
    pub(super) async fn write(
        &self,
        stores: &ImageStores,
        repository: &Repository,
        changes: Vec<JournalChange>,
        deleted: DeletedManifests,
    ) -> Result<(), ItemError> {
        let mut manifests: Vec<JournalManifest> = stream::iter(deleted)
            .map(|(digest, known)| manifest(stores, repository, digest, known))
            .buffered(CONCURRENT_READS)
            .try_filter_map(|found| std::future::ready(Ok(found)))
            .try_collect()
            .await?;
        self.retain(repository, &manifests);
        lock(&self.content)
            .entry(repository.clone())
            .or_default()
            .extend(manifests.iter().flat_map(blobs));
        let mut changes = changes;
        while !changes.is_empty() || !manifests.is_empty() {
            let later_changes = changes.split_off(MAX_CHANGES.min(changes.len()));
            let later_manifests = manifests.split_off(fitting(&manifests));
            let batch = JournalBatch {
                run: self.run.clone(),
                batch: self.batches.fetch_add(1, Ordering::Relaxed) + 1,
                written_at: self.clock.now(),
                repository: repository.clone(),
                changes,
                manifests,
            };
            self.store.write(&batch).await.map_err(|error| {
                ItemError::other(format!(
                    "the journal cannot be written, so nothing is changed: {error}"
                ))
            })?;
            (changes, manifests) = (later_changes, later_manifests);
        }
        Ok(())
    }
}

impl Journal {
    /// Returns the content that is needed to restore what was deleted from `repository` within the
    /// last `window`, by this run and earlier ones.
    pub(super) async fn content_since(
        &self,
        repository: &Repository,
        window: TimeDelta,
    ) -> Result<BTreeSet<Digest>, ItemError> {
        let recent = self.store.recent(self.clock.now() - window).await?;
        let earlier = recent
            .iter()
            .filter(|batch| batch.repository == *repository)
            .flat_map(|batch| &batch.manifests)
            .flat_map(blobs);
        let mut content: BTreeSet<Digest> = earlier.collect();
        content.extend(
            lock(&self.content)
                .get(repository)
                .into_iter()
                .flatten()
                .cloned(),
        );
        Ok(content)
    }
}

/// Returns the digests of the configuration and the layers of an image; none for an index.
fn blobs(journalled: &JournalManifest) -> Vec<Digest> {
    let bytes = Bytes::from(journalled.content.clone());
    let media_type = Some(journalled.media_type.as_str());
    Manifest::parse(bytes, media_type, journalled.digest.algorithm())
        .map(|manifest| {
            let blobs = manifest.blobs().into_iter();
            blobs.map(|blob| blob.digest.clone()).collect()
        })
        .unwrap_or_default()
}

/// Returns the number of manifests that fit into one batch, at least one.
fn fitting(manifests: &[JournalManifest]) -> usize {
    let mut bytes = 0;
    let count = manifests
        .iter()
        .take(MAX_CHANGES)
        .take_while(|manifest| {
            bytes += manifest.content.len();
            bytes <= MAX_MANIFEST_BYTES
        })
        .count();
    count.max(1).min(manifests.len())
}

async fn manifest(
    stores: &ImageStores,
    repository: &Repository,
    digest: Digest,
    known: Option<Manifest>,
) -> Result<Option<JournalManifest>, ItemError> {
    let found = if known.is_some() {
        known
    } else {
        let reference = Reference::Digest(digest.clone());
        let store = stores.of(repository);
        store.manifest(repository, &reference).await?
    };
    let Some(found) = found else {
        return Ok(None);
    };
    let content = String::from_utf8(found.bytes.to_vec()).map_err(|_| {
        let action = format!("write {digest} to the journal");
        ItemError::at(
            repository,
            action,
            ItemErrorKind::Malformed,
            "it is not valid UTF-8".to_owned(),
        )
    })?;
    Ok(Some(JournalManifest {
        digest,
        media_type: found.media_type.clone(),
        content,
    }))
}

/// Returns a name for a run that starts at `now`. It has a random part, because several runs may
/// start in the same second.
fn run_name(now: DateTime<Utc>) -> String {
    let random = Digest::sha256(format!("{now:?} {:p} {}", &now, std::process::id()).as_bytes());
    format!("{}-{}", now.format("%Y%m%dT%H%M%SZ"), &random.hex()[..6])
}
