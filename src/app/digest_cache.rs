//! The digest cache of a command, in the user's cache directory.

use super::Mode;
use crate::cache::Cache;
use crate::process::Process;
use crate::transfer::DigestCache;

/// Digest cache of one command.
pub(super) struct UserDigestCache {
    cache: Cache,
    kind: &'static str,
}

impl UserDigestCache {
    /// Returns the cache of `kind`, a single word. In a dry run it is only read.
    pub(super) fn of(kind: &'static str, process: &Process, mode: Mode) -> UserDigestCache {
        UserDigestCache {
            cache: Cache::user(&process.variables, mode == Mode::Apply),
            kind,
        }
    }
}

impl DigestCache for UserDigestCache {
    fn get(&self, key: &str) -> Option<String> {
        self.cache.get(self.kind, key)
    }

    fn put(&self, key: &str, text: &str) {
        self.cache.put(self.kind, key, text);
    }
}
