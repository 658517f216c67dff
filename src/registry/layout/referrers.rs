//! Referrers of a manifest among the manifests that `index.json` lists.
//!
//! Other tools write a signature into a layout as an entry without a name, and keep no list of
//! referrers.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use bytes::Bytes;

use super::operation::LayoutOperation;
use crate::error::ItemError;
use crate::model::lock::lock;
use crate::model::manifest::MAX_MANIFEST_BYTES;
use crate::model::{Descriptor, Digest, Manifest};

/// Subjects of manifests that were read. Manifests cannot change, so each is read once.
#[derive(Debug, Default)]
pub(super) struct SubjectCache(Mutex<HashMap<Digest, Option<CachedReferrer>>>);

#[derive(Clone, Debug)]
struct CachedReferrer {
    subject: Digest,
    descriptor: Descriptor,
}

impl SubjectCache {
    /// Returns the referrers of `subject`, each once, in the order of the index.
    pub(super) fn referrers(
        &self,
        operation: &LayoutOperation,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, ItemError> {
        let Some(index) = operation.index()? else {
            return Ok(Vec::new());
        };
        let mut visited = HashSet::new();
        let mut found = Vec::new();
        for entry in index
            .readable()
            .filter(|entry| visited.insert(entry.digest.clone()))
        {
            if let Some(referrer) = self.referrer(operation, &entry)?
                && referrer.subject == *subject
            {
                found.push(referrer.descriptor);
            }
        }
        Ok(found)
    }

    fn referrer(
        &self,
        operation: &LayoutOperation,
        entry: &Descriptor,
    ) -> Result<Option<CachedReferrer>, ItemError> {
        if let Some(cached) = lock(&self.0).get(&entry.digest) {
            return Ok(cached.clone());
        }
        if entry.size > MAX_MANIFEST_BYTES as u64 {
            return Ok(None);
        }
        let path = operation.blob_path(&entry.digest);
        let Some(bytes) = operation.read(&path, MAX_MANIFEST_BYTES)? else {
            return Ok(None);
        };
        if let Err(error) = operation.check_digest(&entry.digest, &bytes) {
            tracing::warn!(%error, "a corrupt manifest was skipped");
            return Ok(None);
        }
        let media_type = Some(entry.media_type.as_str()).filter(|text| !text.is_empty());
        let manifest =
            Manifest::parse(Bytes::from(bytes), media_type, entry.digest.algorithm()).ok();
        let referrer = manifest.and_then(|manifest| {
            let descriptor = manifest.referrer();
            manifest.subject.map(|subject| CachedReferrer {
                subject: subject.digest,
                descriptor,
            })
        });
        lock(&self.0).insert(entry.digest.clone(), referrer.clone());
        Ok(referrer)
    }
}
