//! What was read of a package before, in the user's cache: one small file per package, so that thousands of records are few files,
//! and what a package no longer has is forgotten with the next one that is read.

use std::collections::BTreeMap;

use super::{FileKey, PackageName};
use crate::cache::Cache;

const KIND: &str = "records";

/// The contents of a package's files, by name.
pub(super) struct Kept<'a> {
    cache: &'a Cache,
    key: String,
    before: BTreeMap<String, String>,
    now: BTreeMap<String, String>,
}

impl<'a> Kept<'a> {
    /// Returns what was kept of `package` at `place`.
    pub(super) fn open(cache: &'a Cache, place: &str, package: &PackageName) -> Kept<'a> {
        let key = format!("{place}\n{}", package.directory());
        let before = cache.get_large(KIND, &key).and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Kept { cache, key, before, now: BTreeMap::new() }
    }

    /// Returns the content of a file, when it was kept and is what was written.
    pub(super) fn get(&self, file: &FileKey) -> Option<&str> {
        self.before.get(&file.to_string()).map(String::as_str).filter(|text| file.is_of(text.as_bytes()))
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
            self.cache.put_large(KIND, &self.key, &bytes);
        }
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
        let cache = Cache::of_user(&[("HOME", home.path().to_string_lossy())].into_iter().collect(), true);
        let package = PackageName { prefix: "imglife".parse().expect("a prefix"), contents: Contents::RecordsOf(Encoded::of("a/b")) };
        let content = "x".repeat(9 * 1024 * 1024);
        let file = FileKey::new(Encoded::of("a/b:1"), content.as_bytes(), DateTime::UNIX_EPOCH, None);
        let mut kept = Kept::open(&cache, "place", &package);
        kept.add(&file, content.as_bytes());
        kept.close();
        assert!(Kept::open(&cache, "place", &package).get(&file).is_some());
    }
}
