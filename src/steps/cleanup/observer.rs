//! Access to the outside that an observation needs.

use chrono::{DateTime, Utc};

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
}
