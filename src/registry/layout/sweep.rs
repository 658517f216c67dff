//! Removing unreferenced content.
//!
//! Keeps everything that is reachable from:
//!
//! - `index.json`
//! - manifests that the caller names
//! - new files, which a writer may be about to reference
//!
//! Among unreferenced content, a manifest is removed before the content that it references. If the
//! removal is interrupted, every remaining manifest is still complete.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::index::LayoutIndex;
use super::operation::{LayoutOperation, MAX_INDEX_BYTES};
use super::writer::LayoutWriter;
use crate::error::{ItemError, ItemErrorKind};
use crate::model::manifest::{MAX_MANIFEST_BYTES, ManifestError};
use crate::model::media_type;
use crate::model::{Algorithm, Descriptor, Digest, Manifest};
use crate::registry::store::{SweepKeep, SweepResult};

/// Time for which a file is kept after it was written or claimed.
const GRACE_PERIOD: Duration = Duration::from_secs(3_600);

/// A content file.
struct StoredFile {
    path: PathBuf,
    size: u64,
    /// Later one of the file's modification time and attribute change time (`st_mtime`,
    /// `st_ctime`).
    ///
    /// Tools such as `rsync -a`, `tar -x` and `cp -a` set the modification time to that of the
    /// original; programs cannot set the attribute change time.
    changed: SystemTime,
}

/// Removes the content that is reachable neither from `index.json` nor from `keep`.
pub(super) fn sweep(
    operation: &LayoutOperation,
    keep: &SweepKeep,
) -> Result<SweepResult, ItemError> {
    // A layout without an index is being created, or has lost its index.
    if !operation.is_layout()?
        || operation
            .read(&operation.index_path(), MAX_INDEX_BYTES)?
            .is_none()
    {
        return Ok(SweepResult::Swept { files: 0, bytes: 0 });
    }
    let Some(writer) = LayoutWriter::exclusive(operation)? else {
        return Ok(SweepResult::Busy);
    };
    let index = operation.index()?.unwrap_or_else(LayoutIndex::empty);
    let entries = index
        .descriptors()
        .map_err(|error| unreadable(operation, "`index.json`").caused_by(error))?;
    let now = writer.now()?;
    let mut stored = stored_files(operation)?;
    let mut reachable = ReachableContent {
        operation,
        content: HashSet::new(),
        manifests: HashSet::new(),
    };
    for entry in &entries {
        reachable.add(entry, ReadMode::Strict)?;
    }
    for digest in stored
        .keys()
        .filter(|digest| keep.manifests.contains(*digest))
    {
        reachable.add(&bare_descriptor(digest), ReadMode::Strict)?;
    }
    // A file time in the future comes from a wrong clock; the file counts as new.
    let is_new = |file: &StoredFile| {
        now.duration_since(file.changed)
            .map_or(true, |age| age < GRACE_PERIOD)
    };
    for (digest, _) in stored.iter().filter(|(_, file)| is_new(file)) {
        reachable.add(&bare_descriptor(digest), ReadMode::Lenient)?;
    }
    let mut kept = reachable.content;
    kept.extend(keep.files.iter().cloned());
    stored.retain(|digest, _| !kept.contains(digest));
    remove(operation, &stored)
}

/// Returns the content files, by digest. Other files are not content.
fn stored_files(operation: &LayoutOperation) -> Result<HashMap<Digest, StoredFile>, ItemError> {
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
            let metadata =
                fs::symlink_metadata(&path).map_err(|error| operation.storage(&path, error))?;
            let modified = metadata
                .modified()
                .map_err(|error| operation.storage(&path, error))?;
            let changed = modified.max(attributes_changed(&metadata));
            if metadata.is_file() {
                found.insert(
                    digest,
                    StoredFile {
                        path,
                        size: metadata.len(),
                        changed,
                    },
                );
            }
        }
    }
    Ok(found)
}

/// Returns the time at which the attributes of a file, its link count or its content changed last
/// (`st_ctime`).
pub(super) fn attributes_changed(metadata: &fs::Metadata) -> SystemTime {
    let seconds = u64::try_from(metadata.ctime()).unwrap_or_default();
    let nanoseconds = u32::try_from(metadata.ctime_nsec()).unwrap_or_default();
    let changed = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
    #[cfg(test)]
    let changed = aged_files::shown(metadata, changed);
    changed
}

/// Files that look older to a sweep, since no program can set the time of a file's attributes.
#[cfg(test)]
pub(crate) mod aged_files {
    use std::collections::HashMap;
    use std::path::Path;
    use std::sync::Mutex;

    use super::*;
    use crate::model::lock::lock;

    /// Real time of each file when its time was changed, and the time that is shown until the real
    /// one changes.
    type Shown = HashMap<(u64, u64), (SystemTime, SystemTime)>;

    static SHOWN: Mutex<Option<Shown>> = Mutex::new(None);

    pub(super) fn shown(metadata: &fs::Metadata, changed: SystemTime) -> SystemTime {
        let shown = lock(&SHOWN);
        let entry = shown
            .as_ref()
            .and_then(|shown| shown.get(&(metadata.dev(), metadata.ino())));
        match entry {
            Some((real, shown)) if *real == changed => *shown,
            _ => changed,
        }
    }

    /// Makes both times of a file older by `age`.
    pub(crate) fn make_older(path: &Path, age: Duration) {
        let before = fs::metadata(path).expect("a file");
        let changed = attributes_changed(&before) - age;
        let modified = before.modified().expect("a time") - age;
        fs::File::options()
            .write(true)
            .open(path)
            .and_then(|file| file.set_modified(modified))
            .expect("to change the time");
        let after = fs::metadata(path).expect("a file");
        let real = UNIX_EPOCH
            + Duration::new(
                after.ctime().unsigned_abs(),
                u32::try_from(after.ctime_nsec()).expect("nanoseconds"),
            );
        lock(&SHOWN)
            .get_or_insert_default()
            .insert((after.dev(), after.ino()), (real, changed));
    }
}

/// Content that is kept.
struct ReachableContent<'a> {
    operation: &'a LayoutOperation,
    content: HashSet<Digest>,
    /// Manifests whose references were followed.
    manifests: HashSet<Digest>,
}

/// Treatment of content that is not a valid manifest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadMode {
    /// Fail. The content is referenced as a manifest and its references are unknown, so nothing may
    /// be removed.
    Strict,
    /// Ignore it. The content may be of any kind.
    Lenient,
}

impl ReachableContent<'_> {
    /// Adds `root` and everything that it references.
    fn add(&mut self, root: &Descriptor, mode: ReadMode) -> Result<(), ItemError> {
        let mut pending = vec![root.clone()];
        while let Some(descriptor) = pending.pop() {
            self.content.insert(descriptor.digest.clone());
            if !self.manifests.insert(descriptor.digest.clone()) {
                continue;
            }
            let Some(manifest) = read(self.operation, &descriptor, mode)? else {
                continue;
            };
            self.content
                .extend(manifest.blobs().into_iter().map(|blob| blob.digest.clone()));
            pending.extend(manifest.children().unwrap_or_default().iter().cloned());
        }
        Ok(())
    }
}

/// Returns a manifest, or `None` if it does not exist or is not a manifest.
fn read(
    operation: &LayoutOperation,
    named: &Descriptor,
    mode: ReadMode,
) -> Result<Option<Manifest>, ItemError> {
    let is_manifest = media_type::ACCEPTED_MANIFESTS.contains(&named.media_type.as_str());
    let unknown = || unreadable(operation, &format!("the content of {}", named.digest));
    let path = operation.blob_path(&named.digest);
    match fs::metadata(&path) {
        Ok(found) if found.len() <= MAX_MANIFEST_BYTES as u64 => {}
        Ok(_) if is_manifest && mode == ReadMode::Strict => return Err(unknown()),
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(operation.storage(&path, error)),
    }
    let Some(bytes) = operation.read(&path, MAX_MANIFEST_BYTES)? else {
        return Ok(None);
    };
    if mode == ReadMode::Strict {
        operation.check_digest(&named.digest, &bytes)?;
    }
    let content_type = Some(named.media_type.as_str()).filter(|text| !text.is_empty());
    match Manifest::parse(Bytes::from(bytes), content_type, named.digest.algorithm()) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(_) if mode == ReadMode::Lenient => Ok(None),
        // Old build caches list plain blobs.
        Err(ManifestError::Malformed(error)) if !is_manifest && !error.is_data() => Ok(None),
        Err(error) => Err(unknown().caused_by(error)),
    }
}

/// Returns a descriptor with nothing but a digest.
fn bare_descriptor(digest: &Digest) -> Descriptor {
    Descriptor::new("", digest.clone(), 0)
}

/// Removes files, each manifest before the content that it references.
fn remove(
    operation: &LayoutOperation,
    files: &HashMap<Digest, StoredFile>,
) -> Result<SweepResult, ItemError> {
    let mut references = HashMap::new();
    for digest in files.keys() {
        let manifest = read(operation, &bare_descriptor(digest), ReadMode::Lenient)?;
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
    Ok(SweepResult::Swept {
        files: count,
        bytes,
    })
}

/// Returns the keys of `references` in an order in which each comes before its references. Leaves
/// out keys that are part of a cycle.
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

fn unreadable(operation: &LayoutOperation, what: &str) -> ItemError {
    operation.error(
        ItemErrorKind::Malformed,
        format!("nothing was removed, because {what} cannot be parsed"),
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
        fn parents_first_orders_each_key_before_its_references(edges in proptest::collection::vec((0_usize..12, 0_usize..16), 0..40)) {
            let mut references: HashMap<Digest, HashSet<Digest>> = (0..12).map(|number| (digest(number), HashSet::new())).collect();
            for (from, to) in edges.into_iter().filter(|(from, to)| from < to) {
                references.get_mut(&digest(from)).expect("it is there").insert(digest(to));
            }
            let order = parents_first(references.clone());
            proptest::prop_assert_eq!(order.len(), 12);
            let position = |digest: &Digest| order.iter().position(|found| found == digest);
            for (from, parts) in &references {
                for part in parts.iter().filter_map(position) {
                    proptest::prop_assert!(position(from) < Some(part));
                }
            }
        }
    }
}
