//! Access to the outside that an observation needs.

use chrono::{DateTime, Utc};

use crate::progress::Progress;
use crate::registry::ImageStore;
use crate::transfer::Memory;

/// Store, cache, progress and time of an observation.
#[derive(Clone, Copy)]
pub struct Observer<'a> {
    pub store: &'a dyn ImageStore,
    /// Creation dates that earlier runs read.
    pub memory: &'a dyn Memory,
    pub progress: &'a dyn Progress,
    pub now: DateTime<Utc>,
}
