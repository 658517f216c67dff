//! What was read of a package before, by this run or by others: in memory, and in the user's cache
//! as one small file per package, so that thousands of records are few files. What a package no
//! longer has is forgotten with the next one that is read.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use super::{FileKey, PackageName};
use crate::cache::Cache;
use crate::model::lock::lock;

const KIND: &str = "records";

/// The contents of files that this run has read, by package and name.
#[derive(Default)]
pub(super) struct Known(Mutex<BTreeMap<PackageName, BTreeMap<String, String>>>);

impl Known {
    fn packages(&self) -> MutexGuard<'_, BTreeMap<PackageName, BTreeMap<String, String>>> {
        lock(&self.0)
    }
}

/// The contents of a package's files, by name.
pub(super) struct Kept<'a> {
    cache: &'a Cache,
    known: &'a Known,
    package: &'a PackageName,
    key: String,
    before: BTreeMap<String, String>,
    now: BTreeMap<String, String>,
}

impl<'a> Kept<'a> {
    /// Returns what was kept of `package` at `place`.
    pub(super) fn open(
        cache: &'a Cache,
        known: &'a Known,
        place: &str,
        package: &'a PackageName,
    ) -> Kept<'a> {
        let key = format!("{place}\n{}", package.directory());
        let in_memory = known.packages().get(package).cloned();
        let in_cache = || {
            cache
                .get_bytes(KIND, &key)
                .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        };
        let before = in_memory.or_else(in_cache).unwrap_or_default();
        Kept {
            cache,
            known,
            package,
            key,
            before,
            now: BTreeMap::new(),
        }
    }

    /// Returns the content of a file, when it was kept and is what was written.
    pub(super) fn get(&self, file: &FileKey) -> Option<&str> {
        self.before
            .get(&file.to_string())
            .map(String::as_str)
            .filter(|text| file.is_of(text.as_bytes()))
    }

    /// Adds the content of a file to what will be kept.
    pub(super) fn add(&mut self, file: &FileKey, content: &[u8]) {
        if let (true, Ok(text)) = (file.is_of(content), std::str::from_utf8(content)) {
            self.now.insert(file.to_string(), text.to_owned());
        }
    }

    /// Keeps what was added, and nothing else.
    pub(super) fn close(self) {
        if self.now != self.before
            && let Ok(bytes) = serde_json::to_vec(&self.now)
        {
            self.cache.put_bytes(KIND, &self.key, &bytes);
        }
        self.known.packages().insert(self.package.clone(), self.now);
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::packages::{Contents, Encoded};

    #[test]
    fn a_package_with_many_records_is_kept_too() {
        let home = tempfile::tempdir().expect("a directory");
        let cache = Cache::user(
            &[("HOME", home.path().to_string_lossy())]
                .into_iter()
                .collect(),
            true,
        );
        let package = PackageName {
            prefix: "imglife".parse().expect("a prefix"),
            contents: Contents::RecordsOf(Encoded::of("a/b")),
        };
        let content = "x".repeat(9 * 1024 * 1024);
        let file = FileKey::new(
            Encoded::of("a/b:1"),
            content.as_bytes(),
            DateTime::UNIX_EPOCH,
            None,
        );
        let known = Known::default();
        let mut kept = Kept::open(&cache, &known, "place", &package);
        kept.add(&file, content.as_bytes());
        kept.close();
        assert!(
            Kept::open(&cache, &Known::default(), "place", &package)
                .get(&file)
                .is_some()
        );
    }
}
