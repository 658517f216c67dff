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

/// Maximum size of the content of one package that is cached, in bytes. Further files are read
/// again.
const MAX_PACKAGE_BYTES: usize = 16 * 1024 * 1024;

/// Maximum size of the content that is kept in memory, in bytes. Further packages are read from the
/// user's cache, or again.
const MAX_MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// Content by file name.
type PackageFiles = BTreeMap<String, String>;

/// Content of the files that this run has read, by package.
#[derive(Default)]
pub(super) struct RecordMemory(Mutex<BTreeMap<PackageName, PackageFiles>>);

impl RecordMemory {
    fn packages(&self) -> MutexGuard<'_, BTreeMap<PackageName, PackageFiles>> {
        lock(&self.0)
    }

    /// Replaces the files of a package, unless that exceeds the limit.
    fn insert(&self, package: &PackageName, files: PackageFiles) {
        let mut packages = self.packages();
        packages.remove(package);
        let used: usize = packages.values().map(size_of_files).sum();
        if used + size_of_files(&files) <= MAX_MEMORY_BYTES {
            packages.insert(package.clone(), files);
        }
    }
}

fn size_of_files(files: &PackageFiles) -> usize {
    files.values().map(String::len).sum()
}

/// Cached content of the files of one package.
pub(super) struct CachedPackage<'a> {
    cache: &'a Cache,
    memory: &'a RecordMemory,
    package: &'a PackageName,
    key: String,
    /// Content by file name from earlier reads.
    cached: PackageFiles,
    /// Content by file name that [`close`](CachedPackage::close) will store.
    current: PackageFiles,
    /// Size of `current`, in bytes.
    size: usize,
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
            size: 0,
        }
    }

    /// Returns the cached content of a file; `None` if it is not cached or its hash does not match.
    pub(super) fn get(&self, file: &FileKey) -> Option<&str> {
        self.cached
            .get(&file.to_string())
            .map(String::as_str)
            .filter(|text| file.matches(text.as_bytes()))
    }

    /// Adds the content of a file, up to the limit of a package. Content that does not match its hash, or is not UTF-8, is
    /// ignored.
    pub(super) fn add(&mut self, file: &FileKey, content: &[u8]) {
        if self.size + content.len() > MAX_PACKAGE_BYTES {
            return;
        }
        if let (true, Ok(text)) = (file.matches(content), std::str::from_utf8(content)) {
            self.size += text.len();
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
        self.memory.insert(self.package, self.current);
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
