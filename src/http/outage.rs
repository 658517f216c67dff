//! Outage: a server that keeps failing.

use std::sync::atomic::{AtomicU32, Ordering};

/// Consecutive requests that must fail, each after all its tries, for a server to count as down.
const MIN_FAILURES: u32 = 2;

/// Counts the consecutive requests to a server that failed after all their tries.
///
/// While the server counts as down, requests to it are tried once.
#[derive(Default)]
pub(super) struct Outage(AtomicU32);

impl Outage {
    /// Counts a request that failed after all its tries.
    pub(super) fn record_failure(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the outage: the server answered, or a token server issued a token.
    pub(super) fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Returns true if the server counts as down.
    pub(super) fn is_ongoing(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= MIN_FAILURES
    }
}
