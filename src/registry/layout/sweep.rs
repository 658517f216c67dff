//! Removing the content that nothing refers to.
//!
//! What is kept: everything that `index.json` leads to, what the caller names, and everything that
//! young files lead to, which somebody is about to name there. Of what goes, a manifest goes before
//! what it refers to: whoever meets a manifest finds the rest of it as well, also when this is
//! broken off.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::check_digest;
use super::index::Index;
use super::operation::{LARGEST_INDEX, Operation};
use super::writer::Writer;
use crate::error::{ItemError, ItemErrorKind};
use crate::model::manifest::{MAX_MANIFEST_BYTES, ManifestError};
use crate::model::media_type;
use crate::model::{Algorithm, Descriptor, Digest, Manifest};
use crate::registry::Swept;

/// How long a file is kept after it was written or claimed.
const GRACE: Duration = Duration::from_secs(3_600);

/// A file with content.
struct Stored {
    path: PathBuf,
    size: u64,
    modified: SystemTime,
}

/// Removes what neither `index.json` nor a manifest in `keep` leads to.
pub(super) fn sweep(operation: &Operation, keep: &BTreeSet<Digest>) -> Result<Swept, ItemError> {
    // Without an index it may be one that is being made, or one that lost it.
    if !operation.is_layout()?
        || operation
            .read(&operation.index_path(), LARGEST_INDEX)?
            .is_none()
    {
        return Ok(Swept::Freed { files: 0, bytes: 0 });
    }
    let Some(writer) = Writer::alone(operation)? else {
        return Ok(Swept::Postponed);
    };
    let index = operation.index()?.unwrap_or_else(Index::empty);
    let entries = index
        .descriptors()
        .map_err(|error| not_understood(operation, "`index.json`").caused_by(error))?;
    let now = writer.now()?;
    let mut stored = stored(operation)?;
    let mut reached = Reached {
        operation,
        content: HashSet::new(),
        manifests: HashSet::new(),
    };
    for entry in &entries {
        reached.follow(entry, Reading::Strict)?;
    }
    for digest in keep {
        reached.follow(&unnamed(digest), Reading::Strict)?;
    }
    // A file from the future is of a clock that goes wrong, and young.
    let is_young = |file: &Stored| {
        now.duration_since(file.modified)
            .map_or(true, |age| age < GRACE)
    };
    for (digest, _) in stored.iter().filter(|(_, file)| is_young(file)) {
        reached.follow(&unnamed(digest), Reading::Lenient)?;
    }
    let kept = reached.content;
    stored.retain(|digest, _| !kept.contains(digest));
    remove(operation, &stored)
}

/// Returns the files that are named as content is. Others are not known to be content.
fn stored(operation: &Operation) -> Result<HashMap<Digest, Stored>, ItemError> {
    let mut found = HashMap::new();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let directory = operation.blobs_path().join(algorithm.name());
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(|error| operation.storage(&directory, error))?,
        };
        for entry in entries {
            let entry = entry.map_err(|error| operation.storage(&directory, error))?;
            let Some(digest) = entry
                .file_name()
                .to_str()
                .and_then(|hex| format!("{}:{hex}", algorithm.name()).parse().ok())
            else {
                continue;
            };
            let path = entry.path();
            let about =
                fs::symlink_metadata(&path).map_err(|error| operation.storage(&path, error))?;
            let modified = about
                .modified()
                .map_err(|error| operation.storage(&path, error))?;
            if about.is_file() {
                found.insert(
                    digest,
                    Stored {
                        path,
                        size: about.len(),
                        modified,
                    },
                );
            }
        }
    }
    Ok(found)
}

/// What is to be kept.
struct Reached<'a> {
    operation: &'a Operation,
    content: HashSet<Digest>,
    /// Those whose references were followed.
    manifests: HashSet<Digest>,
}

/// What is made of content that is no manifest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// It was named as one: what it refers to is not known, so nothing may be removed.
    Strict,
    /// Any content can be that.
    Lenient,
}

impl Reached<'_> {
    /// Keeps what `root` names and all that it leads to.
    fn follow(&mut self, root: &Descriptor, reading: Reading) -> Result<(), ItemError> {
        let mut ahead = vec![root.clone()];
        while let Some(descriptor) = ahead.pop() {
            self.content.insert(descriptor.digest.clone());
            if !self.manifests.insert(descriptor.digest.clone()) {
                continue;
            }
            let Some(manifest) = read(self.operation, &descriptor, reading)? else {
                continue;
            };
            self.content
                .extend(manifest.blobs().into_iter().map(|blob| blob.digest.clone()));
            ahead.extend(manifest.children().unwrap_or_default().iter().cloned());
        }
        Ok(())
    }
}

/// Returns the manifest that has a digest, or `None` when it is not there or its content is none.
fn read(
    operation: &Operation,
    named: &Descriptor,
    reading: Reading,
) -> Result<Option<Manifest>, ItemError> {
    let is_manifest = media_type::ACCEPTED_MANIFESTS.contains(&named.media_type.as_str());
    let unknown = || not_understood(operation, &format!("the content of {}", named.digest));
    let path = operation.blob_path(&named.digest);
    match fs::metadata(&path) {
        Ok(found) if found.len() <= MAX_MANIFEST_BYTES as u64 => {}
        Ok(_) if is_manifest && reading == Reading::Strict => return Err(unknown()),
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(operation.storage(&path, error)),
    }
    let Some(bytes) = operation.read(&path, MAX_MANIFEST_BYTES)? else {
        return Ok(None);
    };
    if reading == Reading::Strict {
        check_digest(operation, &named.digest, &bytes)?;
    }
    let content_type = Some(named.media_type.as_str()).filter(|text| !text.is_empty());
    match Manifest::parse(Bytes::from(bytes), content_type, named.digest.algorithm()) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(_) if reading == Reading::Lenient => Ok(None),
        // Old build caches list plain content.
        Err(ManifestError::Malformed(error)) if !is_manifest && !error.is_data() => Ok(None),
        Err(error) => Err(unknown().caused_by(error)),
    }
}

/// Returns the descriptor of a file of which only the digest is known.
fn unnamed(digest: &Digest) -> Descriptor {
    Descriptor::new("", digest.clone(), 0)
}

/// Removes files, each manifest before what it refers to.
fn remove(operation: &Operation, files: &HashMap<Digest, Stored>) -> Result<Swept, ItemError> {
    let mut references = HashMap::new();
    for digest in files.keys() {
        let manifest = read(operation, &unnamed(digest), Reading::Lenient)?;
        let parts = manifest.iter().flat_map(|manifest| {
            manifest
                .blobs()
                .into_iter()
                .chain(manifest.children().unwrap_or_default())
        });
        references.insert(
            digest.clone(),
            parts.map(|part| part.digest.clone()).collect(),
        );
    }
    let (mut count, mut bytes) = (0, 0);
    for digest in parents_first(references) {
        let Some(file) = files.get(&digest) else {
            continue;
        };
        match fs::remove_file(&file.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(operation.storage(&file.path, error));
            }
            _ => {}
        }
        count += 1;
        bytes += file.size;
    }
    Ok(Swept::Freed {
        files: count,
        bytes,
    })
}

/// Returns the keys of `references` such that each stands before those that it refers to. What
/// refers to itself is left out.
fn parents_first(mut references: HashMap<Digest, HashSet<Digest>>) -> Vec<Digest> {
    let mut referring: HashMap<Digest, usize> = HashMap::new();
    for part in references.values().flatten() {
        *referring.entry(part.clone()).or_default() += 1;
    }
    let mut order = Vec::new();
    let mut free: Vec<Digest> = references
        .keys()
        .filter(|digest| !referring.contains_key(digest))
        .cloned()
        .collect();
    while let Some(digest) = free.pop() {
        let Some(parts) = references.remove(&digest) else {
            continue;
        };
        for part in parts {
            if let Some(left) = referring.get_mut(&part) {
                *left -= 1;
                if *left == 0 {
                    free.push(part);
                }
            }
        }
        order.push(digest);
    }
    order
}

fn not_understood(operation: &Operation, what: &str) -> ItemError {
    operation.error(
        ItemErrorKind::Malformed,
        format!("nothing was removed, since {what} is not understood"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> Digest {
        Digest::sha256(&number.to_be_bytes())
    }

    proptest::proptest! {
        #[test]
        fn nothing_goes_before_what_refers_to_it(edges in proptest::collection::vec((0_usize..12, 0_usize..16), 0..40)) {
            let mut references: HashMap<Digest, HashSet<Digest>> = (0..12).map(|number| (digest(number), HashSet::new())).collect();
            for (from, to) in edges.into_iter().filter(|(from, to)| from < to) {
                references.get_mut(&digest(from)).expect("it is there").insert(digest(to));
            }
            let order = parents_first(references.clone());
            proptest::prop_assert_eq!(order.len(), 12);
            let place = |digest: &Digest| order.iter().position(|found| found == digest);
            for (from, parts) in &references {
                for part in parts.iter().filter_map(place) {
                    proptest::prop_assert!(place(from) < Some(part));
                }
            }
        }
    }
}
