//! What a run may remember of earlier ones.

use std::sync::Arc;

use super::platforms::{PlatformFilter, PlatformFilterMode};
use crate::model::Digest;

/// Remembers digests that follow from others, so that they need not be derived again. May forget at any time.
pub trait DigestMemory: Send + Sync {
    fn recall(&self, key: &str) -> Option<Digest>;

    fn remember(&self, key: &str, digest: &Digest);
}

/// Returns a memory that forgets everything at once.
pub fn forgetful() -> Arc<dyn DigestMemory> {
    struct Forgetful;

    impl DigestMemory for Forgetful {
        fn recall(&self, _: &str) -> Option<Digest> {
            None
        }

        fn remember(&self, _: &str, _: &Digest) {}
    }

    Arc::new(Forgetful)
}

/// Returns the key of what `filter` makes of the index `source`, or `None` where that is the index itself. The number stands
/// for the way in which indexes are rewritten.
pub(super) fn rewritten(source: &Digest, filter: &PlatformFilter) -> Option<String> {
    let PlatformFilter::Only { platforms, mode: PlatformFilterMode::Rewrite } = filter else { return None };
    let mut platforms: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    platforms.sort_unstable();
    Some(format!("rewritten 1 {source} {}", platforms.join(" ")))
}
