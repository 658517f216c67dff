//! What earlier runs found out, in the user's cache.

use super::Mode;
use crate::cache::Cache;
use crate::process::Process;
use crate::transfer::Memory;

/// The notes of one kind.
pub(super) struct Remembered {
    cache: Cache,
    kind: &'static str,
}

impl Remembered {
    /// Returns the notes of a `kind`, a word. In a mode that changes nothing they are only read.
    pub(super) fn of(kind: &'static str, process: &Process, mode: Mode) -> Remembered {
        Remembered {
            cache: Cache::user(&process.variables, mode == Mode::Apply),
            kind,
        }
    }
}

impl Memory for Remembered {
    fn recall(&self, key: &str) -> Option<String> {
        self.cache.get(self.kind, key)
    }

    fn remember(&self, key: &str, text: &str) {
        self.cache.put(self.kind, key, text);
    }
}
