//! What refers to a manifest, by the manifests that `index.json` names.
//!
//! Other tools write a signature into a layout as an entry without a name, and keep no list of it
//! anywhere.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use bytes::Bytes;

use super::check_digest;
use super::operation::Operation;
use crate::error::ItemError;
use crate::model::lock::lock;
use crate::model::manifest::MAX_MANIFEST_BYTES;
use crate::model::{Descriptor, Digest, Manifest};

/// What the manifests that were read so far refer to as their subject. They cannot change, so each
/// is read once.
#[derive(Debug, Default)]
pub(super) struct Subjects(Mutex<HashMap<Digest, Option<Referrer>>>);

#[derive(Clone, Debug)]
struct Referrer {
    subject: Digest,
    descriptor: Descriptor,
}

impl Subjects {
    /// Returns what refers to `subject`, each once, in the order of the index.
    pub(super) fn referrers(
        &self,
        operation: &Operation,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, ItemError> {
        let Some(index) = operation.index()? else {
            return Ok(Vec::new());
        };
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for entry in index
            .readable()
            .filter(|entry| seen.insert(entry.digest.clone()))
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
        operation: &Operation,
        entry: &Descriptor,
    ) -> Result<Option<Referrer>, ItemError> {
        if let Some(known) = lock(&self.0).get(&entry.digest) {
            return Ok(known.clone());
        }
        if entry.size > MAX_MANIFEST_BYTES as u64 {
            return Ok(None);
        }
        let path = operation.blob_path(&entry.digest);
        let Some(bytes) = operation.read(&path, MAX_MANIFEST_BYTES)? else {
            return Ok(None);
        };
        if let Err(error) = check_digest(operation, &entry.digest, &bytes) {
            tracing::warn!(%error, "a damaged manifest is left out");
            return Ok(None);
        }
        let media_type = Some(entry.media_type.as_str()).filter(|text| !text.is_empty());
        let manifest =
            Manifest::parse(Bytes::from(bytes), media_type, entry.digest.algorithm()).ok();
        let referrer = manifest.and_then(|manifest| {
            let descriptor = manifest.referrer();
            manifest.subject.map(|subject| Referrer {
                subject: subject.digest,
                descriptor,
            })
        });
        lock(&self.0).insert(entry.digest.clone(), referrer.clone());
        Ok(referrer)
    }
}
