//! The user's cache: files that save work in later runs.
//!
//! Entries may vanish at any time, and no result depends on them. Owns where they are stored, and
//! that they are read and written whole. A failure to read or write an entry is never an error.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::model::env;
use crate::model::{Digest, Variables};

/// Maximum size of a text entry, in bytes.
const MAX_TEXT_ENTRY: u64 = 8 * 1024 * 1024;

/// Maximum size of a binary entry, in bytes.
const MAX_BINARY_ENTRY: u64 = 32 * 1024 * 1024;

/// The cache of one user: entries by kind and key.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Directory of the entries; `None` if nothing is cached.
    directory: Option<PathBuf>,
    writes: bool,
}

impl Cache {
    /// Returns the cache in `$XDG_CACHE_HOME/imglife` or `~/.cache/imglife`. If neither variable is
    /// an absolute path, nothing is cached.
    ///
    /// If `writes` is false, entries are only read; dry runs pass false.
    pub fn user(variables: &Variables, writes: bool) -> Cache {
        let absolute = |name: &str| {
            variables
                .get_filled(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let base = absolute(env::XDG_CACHE_HOME)
            .or_else(|| absolute(env::HOME).map(|home| home.join(".cache")));
        Cache {
            directory: base.map(|base| base.join("imglife")),
            writes,
        }
    }

    /// Returns the text stored under `key`. `kind` is a word of letters and dashes.
    pub fn get(&self, kind: &'static str, key: &str) -> Option<String> {
        String::from_utf8(self.read(kind, key, MAX_TEXT_ENTRY)?).ok()
    }

    /// Returns the bytes stored under `key` by [`put_bytes`](Cache::put_bytes).
    pub fn get_bytes(&self, kind: &'static str, key: &str) -> Option<Vec<u8>> {
        self.read(kind, key, MAX_BINARY_ENTRY)
    }

    /// Stores bytes under `key`, up to 32 MiB. Larger entries are ignored.
    pub fn put_bytes(&self, kind: &'static str, key: &str, bytes: &[u8]) {
        self.write(kind, key, bytes, MAX_BINARY_ENTRY);
    }

    fn read(&self, kind: &'static str, key: &str, limit: u64) -> Option<Vec<u8>> {
        let path = self.path(kind, key)?;
        match read(&path, limit) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::debug!(path = %path.display(), %error, "a cached file cannot be read");
                }
                None
            }
        }
    }

    /// Stores `text` under `key`, up to 8 MiB. Larger entries are ignored.
    pub fn put(&self, kind: &'static str, key: &str, text: &str) {
        self.write(kind, key, text.as_bytes(), MAX_TEXT_ENTRY);
    }

    fn write(&self, kind: &'static str, key: &str, bytes: &[u8], limit: u64) {
        if bytes.len() as u64 > limit {
            return;
        }
        if let Some(path) = self.path(kind, key).filter(|_| self.writes)
            && let Err(error) = write(&path, bytes)
        {
            tracing::debug!(path = %path.display(), %error, "a file cannot be cached");
        }
    }

    fn path(&self, kind: &'static str, key: &str) -> Option<PathBuf> {
        // A key can hold any characters; its digest is a valid file name.
        Some(
            self.directory
                .as_ref()?
                .join(kind)
                .join(Digest::sha256(key.as_bytes()).hex()),
        )
    }
}

fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    fs::create_dir_all(parent)?;
    let mut file = tempfile::NamedTempFile::new_in(parent)?;
    file.write_all(bytes)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
pub(crate) mod testing {
    use std::path::Path;

    use super::Cache;

    /// Returns the cache below the home directory `home`.
    pub(crate) fn cache_in(home: &Path, writes: bool) -> Cache {
        Cache::user(
            &[("HOME", home.to_string_lossy())].into_iter().collect(),
            writes,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::testing::cache_in as cache;
    use super::*;

    #[test]
    fn entries_are_found_by_kind_and_key() {
        let home = tempfile::tempdir().expect("a directory");
        cache(home.path(), true).put("words", "../key", "value");
        let later = cache(home.path(), false);
        assert_eq!(later.get("words", "../key").as_deref(), Some("value"));
        assert_eq!(
            (later.get("words", "key"), later.get("numbers", "../key")),
            (None, None)
        );
    }

    #[test]
    fn put_bytes_stores_larger_entries_than_put() {
        let home = tempfile::tempdir().expect("a directory");
        let (cache, bytes) = (cache(home.path(), true), vec![255; 9 * 1024 * 1024]);
        cache.put("words", "key", &"x".repeat(bytes.len()));
        assert!(cache.get("words", "key").is_none());
        cache.put_bytes("words", "key", &bytes);
        assert!(
            cache
                .get_bytes("words", "key")
                .is_some_and(|found| found == bytes)
        );
    }

    #[test]
    fn read_only_cache_writes_nothing() {
        let home = tempfile::tempdir().expect("a directory");
        cache(home.path(), false).put("words", "key", "value");
        assert_eq!(fs::read_dir(home.path()).expect("a directory").count(), 0);
    }

    #[test]
    fn missing_or_unwritable_home_caches_nothing_and_does_not_fail() {
        for cache in [
            Cache::user(&Variables::default(), true),
            cache(Path::new("/proc/none"), true),
        ] {
            cache.put("words", "key", "value");
            assert_eq!(cache.get("words", "key"), None);
        }
    }
}
