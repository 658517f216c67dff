//! Access to the outside that an observation needs.

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::progress::Progress;
use crate::registry::ImageStores;
use crate::transfer::DigestCache;

/// Stores, cache, progress and time of an observation.
#[derive(Clone, Copy)]
pub struct Observer<'a> {
    pub stores: &'a ImageStores,
    /// Creation dates that earlier runs read.
    pub cache: &'a dyn DigestCache,
    pub progress: &'a dyn Progress,
    pub now: DateTime<Utc>,
    pub limits: ReadingLimits<'a>,
}

/// Limits of an observation; unlimited by default.
#[derive(Clone, Copy, Default)]
pub struct ReadingLimits<'a> {
    /// Number of requests to registries after which no more tags are read.
    pub max_requests: Option<u64>,
    /// After cancellation no more tags are read.
    pub cancel: Option<&'a CancellationToken>,
}

impl Observer<'_> {
    /// Returns true if no more tags are read.
    pub(super) fn is_stopped(&self) -> bool {
        let ReadingLimits {
            max_requests,
            cancel,
        } = self.limits;
        cancel.is_some_and(CancellationToken::is_cancelled)
            || max_requests.is_some_and(|limit| self.stores.requests() >= limit)
    }
}
