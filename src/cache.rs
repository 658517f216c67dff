//! Small files that save work in a later run. They may vanish at any time, and nothing depends on them.
//!
//! Owns where they are and that they are read and written whole. Failing to read or write one is never an error.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::model::{Digest, Variables};

/// The largest entry that is read or written, in bytes.
const LARGEST_ENTRY: u64 = 8 * 1024 * 1024;

/// The user's cache.
#[derive(Clone, Debug)]
pub struct Cache {
    /// `None`: nothing is kept.
    directory: Option<PathBuf>,
    writes: bool,
}

impl Cache {
    /// Returns the cache in `$XDG_CACHE_HOME/imglife`, or `~/.cache/imglife`; without either nothing is kept. Unless it `writes`,
    /// it is only read, as a run that changes nothing wants it.
    pub fn of_user(variables: &Variables, writes: bool) -> Cache {
        let absolute = |name: &str| variables.get_filled(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        Cache { directory: base.map(|base| base.join("imglife")), writes }
    }

    /// Returns what was kept under `key` of a `kind`, a word of letters and dashes.
    pub fn get(&self, kind: &'static str, key: &str) -> Option<String> {
        let path = self.path(kind, key)?;
        match read(&path) {
            Ok(text) => Some(text),
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
        if let Some(path) = self.path(kind, key).filter(|_| self.writes)
            && let Err(error) = write(&path, text)
        {
            tracing::debug!(path = %path.display(), %error, "a file cannot be cached");
        }
    }

    fn path(&self, kind: &'static str, key: &str) -> Option<PathBuf> {
        // A key can be anything; its digest is a file name.
        Some(self.directory.as_ref()?.join(kind).join(Digest::sha256(key.as_bytes()).hex()))
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(LARGEST_ENTRY).read_to_string(&mut text)?;
    Ok(text)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let Some(parent) = path.parent().filter(|_| text.len() as u64 <= LARGEST_ENTRY) else { return Ok(()) };
    fs::create_dir_all(parent)?;
    let mut file = tempfile::NamedTempFile::new_in(parent)?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(home: &Path, writes: bool) -> Cache {
        Cache::of_user(&[("HOME", home.to_string_lossy())].into_iter().collect(), writes)
    }

    #[test]
    fn what_was_kept_is_found_by_kind_and_key() {
        let home = tempfile::tempdir().expect("a directory");
        cache(home.path(), true).put("words", "../key", "value");
        let later = cache(home.path(), false);
        assert_eq!(later.get("words", "../key").as_deref(), Some("value"));
        assert_eq!((later.get("words", "key"), later.get("numbers", "../key")), (None, None));
    }

    #[test]
    fn a_cache_that_only_reads_writes_nothing() {
        let home = tempfile::tempdir().expect("a directory");
        cache(home.path(), false).put("words", "key", "value");
        assert_eq!(fs::read_dir(home.path()).expect("a directory").count(), 0);
    }

    #[test]
    fn without_a_home_or_with_one_that_cannot_be_written_nothing_is_kept_and_nothing_fails() {
        for cache in [Cache::of_user(&Variables::default(), true), cache(Path::new("/proc/none"), true)] {
            cache.put("words", "key", "value");
            assert_eq!(cache.get("words", "key"), None);
        }
    }
}
