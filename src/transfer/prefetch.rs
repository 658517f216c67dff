//! Prefetched manifests of images that are copied next, so that their copies need not wait.

use std::collections::HashMap;
use std::sync::Mutex;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use crate::model::lock::lock;
use crate::model::{Manifest, Reference, Repository};
use crate::registry::ImageStores;

/// A manifest that was requested early. `None` if it is absent or cannot be read; the copy then
/// requests it again and reports the error.
type PrefetchedManifest = Shared<BoxFuture<'static, Option<Manifest>>>;

type ManifestKey = (Repository, Reference);

/// Manifests of the source that were requested before their copy began.
#[derive(Default)]
pub(super) struct Prefetch(Mutex<HashMap<ManifestKey, PrefetchedManifest>>);

impl Prefetch {
    /// Reads a manifest from `source` once, and keeps it until it is used.
    pub(super) async fn read(
        &self,
        source: &ImageStores,
        repository: &Repository,
        reference: &Reference,
    ) -> Option<Manifest> {
        let key = (repository.clone(), reference.clone());
        let (source, (repository, reference)) = (source.clone(), key.clone());
        let read = async move {
            let manifest = source.of(&repository).manifest(&repository, &reference);
            manifest.await.ok().flatten()
        };
        let prefetched = lock(&self.0)
            .entry(key)
            .or_insert_with(|| read.boxed().shared())
            .clone();
        prefetched.await
    }

    /// Removes and returns a prefetched manifest, so that memory does not grow during the run.
    pub(super) async fn take(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Option<Manifest> {
        let key = (repository.clone(), reference.clone());
        let prefetched = lock(&self.0).remove(&key);
        prefetched?.await
    }
}
