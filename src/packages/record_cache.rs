//! Cache of the files of record packages: in memory for this run, and in the user's cache for later
//! runs.
//!
//! The user's cache has one entry for each package, so that thousands of records are few files.
//! Files that a package no longer has are dropped when the package is next read.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use super::{FileKey, PackageName};
use crate::cache::Cache;
use crate::model::lock::lock;

/// Kind of the entries in the user's cache.
const KIND: &str = "records";

/// Content of the files that this run has read, by package and file name.
#[derive(Default)]
pub(super) struct RecordMemory(Mutex<BTreeMap<PackageName, BTreeMap<String, String>>>);

impl RecordMemory {
    fn packages(&self) -> MutexGuard<'_, BTreeMap<PackageName, BTreeMap<String, String>>> {
        lock(&self.0)
    }
}

/// Cached content of the files of one package.
pub(super) struct CachedPackage<'a> {
    cache: &'a Cache,
    memory: &'a RecordMemory,
    package: &'a PackageName,
    key: String,
    /// Content by file name from earlier reads.
    cached: BTreeMap<String, String>,
    /// Content by file name that [`close`](CachedPackage::close) will store.
    current: BTreeMap<String, String>,
}

impl<'a> CachedPackage<'a> {
    /// Opens the cached files of `package` in the store named `store`.
    pub(super) fn open(
        cache: &'a Cache,
        memory: &'a RecordMemory,
        store: &str,
        package: &'a PackageName,
    ) -> CachedPackage<'a> {
        let key = format!("{store}\n{}", package.directory());
        let in_memory = memory.packages().get(package).cloned();
        let in_cache = || {
            cache
                .get_bytes(KIND, &key)
                .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        };
        let cached = in_memory.or_else(in_cache).unwrap_or_default();
        CachedPackage {
            cache,
            memory,
            package,
            key,
            cached,
            current: BTreeMap::new(),
        }
    }

    /// Returns the cached content of a file; `None` if it is not cached or its hash does not match.
    pub(super) fn get(&self, file: &FileKey) -> Option<&str> {
        self.cached
            .get(&file.to_string())
            .map(String::as_str)
            .filter(|text| file.matches(text.as_bytes()))
    }

    /// Adds the content of a file. Content that does not match its hash, or is not UTF-8, is
    /// ignored.
    pub(super) fn add(&mut self, file: &FileKey, content: &[u8]) {
        if let (true, Ok(text)) = (file.matches(content), std::str::from_utf8(content)) {
            self.current.insert(file.to_string(), text.to_owned());
        }
    }

    /// Stores the added files and drops all others.
    pub(super) fn close(self) {
        if self.current != self.cached
            && let Ok(bytes) = serde_json::to_vec(&self.current)
        {
            self.cache.put_bytes(KIND, &self.key, &bytes);
        }
        self.memory
            .packages()
            .insert(self.package.clone(), self.current);
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::cache::testing::cache_in;
    use crate::packages::{EncodedName, PackageContents};

    #[test]
    fn large_packages_are_cached() {
        let home = tempfile::tempdir().expect("a directory");
        let cache = cache_in(home.path(), true);
        let package = PackageName {
            prefix: "imglife".parse().expect("a prefix"),
            contents: PackageContents::RecordsOf(EncodedName::of("a/b")),
        };
        let content = "x".repeat(9 * 1024 * 1024);
        let file = FileKey::new(
            EncodedName::of("a/b:1"),
            content.as_bytes(),
            DateTime::UNIX_EPOCH,
            None,
        );
        let memory = RecordMemory::default();
        let mut cached = CachedPackage::open(&cache, &memory, "store", &package);
        cached.add(&file, content.as_bytes());
        cached.close();
        assert!(
            CachedPackage::open(&cache, &RecordMemory::default(), "store", &package)
                .get(&file)
                .is_some()
        );
    }
}
