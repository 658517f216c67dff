//! Files that save work in a later run. They may vanish at any time, and nothing depends on them.
//!
//! Owns where they are and that they are read and written whole. Failing to read or write one is
//! never an error.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::model::env;
use crate::model::{Digest, Variables};

/// The largest entry that is read or written, in bytes.
const LARGEST_ENTRY: u64 = 8 * 1024 * 1024;

/// The largest entry of the kinds that are kept as bytes, in bytes.
const LARGEST_LARGE_ENTRY: u64 = 32 * 1024 * 1024;

/// The user's cache.
#[derive(Clone, Debug)]
pub struct Cache {
    /// `None`: nothing is kept.
    directory: Option<PathBuf>,
    writes: bool,
}

impl Cache {
    /// Returns the cache in `$XDG_CACHE_HOME/imglife`, or `~/.cache/imglife`; without either
    /// nothing is kept. Unless it `writes`, it is only read, as a run that changes nothing wants
    /// it.
    pub fn of_user(variables: &Variables, writes: bool) -> Cache {
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

    /// Returns what was kept under `key` of a `kind`, a word of letters and dashes.
    pub fn get(&self, kind: &'static str, key: &str) -> Option<String> {
        String::from_utf8(self.read(kind, key, LARGEST_ENTRY)?).ok()
    }

    /// Returns the bytes that were kept under `key` of a `kind` that
    /// [`put_large`](Cache::put_large) keeps.
    pub fn get_large(&self, kind: &'static str, key: &str) -> Option<Vec<u8>> {
        self.read(kind, key, LARGEST_LARGE_ENTRY)
    }

    /// Keeps bytes under `key`, more of them than [`put`](Cache::put) does.
    pub fn put_large(&self, kind: &'static str, key: &str, bytes: &[u8]) {
        self.write(kind, key, bytes, LARGEST_LARGE_ENTRY);
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

    /// Keeps `text` under `key`.
    pub fn put(&self, kind: &'static str, key: &str, text: &str) {
        self.write(kind, key, text.as_bytes(), LARGEST_ENTRY);
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
        // A key can be anything; its digest is a file name.
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
mod tests {
    use super::*;

    fn cache(home: &Path, writes: bool) -> Cache {
        Cache::of_user(
            &[("HOME", home.to_string_lossy())].into_iter().collect(),
            writes,
        )
    }

    #[test]
    fn what_was_kept_is_found_by_kind_and_key() {
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
    fn large_entries_are_kept_as_bytes() {
        let home = tempfile::tempdir().expect("a directory");
        let (cache, bytes) = (cache(home.path(), true), vec![255; 9 * 1024 * 1024]);
        cache.put("words", "key", &"x".repeat(bytes.len()));
        assert!(cache.get("words", "key").is_none());
        cache.put_large("words", "key", &bytes);
        assert!(
            cache
                .get_large("words", "key")
                .is_some_and(|kept| kept == bytes)
        );
    }

    #[test]
    fn a_cache_that_only_reads_writes_nothing() {
        let home = tempfile::tempdir().expect("a directory");
        cache(home.path(), false).put("words", "key", "value");
        assert_eq!(fs::read_dir(home.path()).expect("a directory").count(), 0);
    }

    #[test]
    fn without_a_home_or_with_one_that_cannot_be_written_nothing_is_kept_and_nothing_fails() {
        for cache in [
            Cache::of_user(&Variables::default(), true),
            cache(Path::new("/proc/none"), true),
        ] {
            cache.put("words", "key", "value");
            assert_eq!(cache.get("words", "key"), None);
        }
    }
}
