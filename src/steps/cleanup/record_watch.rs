//! Build records that stay current during a cleanup, because applications may be registered while
//! it runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::safety_check::records_error;
use super::world::ObservedRecords;
use crate::config::Config;
use crate::error::ItemError;

/// Maximum age of a reading before something is deleted, or twice the duration of the reading if
/// that is longer.
const MAX_READING_AGE: Duration = Duration::from_secs(5);

/// Reads the build records.
#[async_trait]
pub trait RecordsSource: Send + Sync {
    /// Returns the current records, with repositories as they are written.
    async fn read(&self) -> ObservedRecords;
}

/// Reads records again when the last reading is too old. Repositories that are cleaned up
/// concurrently share readings.
pub struct RecordWatch<'a> {
    config: &'a Config,
    source: &'a dyn RecordsSource,
    is_forced: bool,
    pub(super) max_age: Duration,
    last: Mutex<Option<LastReading>>,
}

struct LastReading {
    began: Instant,
    took: Duration,
    /// Records with canonical repository names.
    records: Arc<ObservedRecords>,
}

impl<'a> RecordWatch<'a> {
    /// Returns a watch on the records of `source`. With `is_forced`, records that cannot be read do
    /// not stop deletions.
    pub fn new(
        config: &'a Config,
        source: &'a dyn RecordsSource,
        is_forced: bool,
    ) -> RecordWatch<'a> {
        RecordWatch {
            config,
            source,
            is_forced,
            max_age: MAX_READING_AGE,
            last: Mutex::default(),
        }
    }

    /// Returns the current records, with repositories as they are written.
    pub async fn read(&self) -> ObservedRecords {
        let began = Instant::now();
        let observed = self.source.read().await;
        let records = Arc::new(observed.clone().resolved(self.config));
        *self.last.lock().await = Some(LastReading {
            began,
            took: began.elapsed(),
            records,
        });
        observed
    }

    /// Returns the records of at most some seconds ago.
    ///
    /// Fails when some of them could not be read, and from then on always: a record that is missing
    /// may protect an image.
    pub(super) async fn fresh(&self) -> Result<Arc<ObservedRecords>, ItemError> {
        let mut last = self.last.lock().await;
        let is_fresh = |last: &LastReading| last.began.elapsed() < self.max_age.max(last.took * 2);
        let is_refused =
            |records: &ObservedRecords| !self.is_forced && records_error(records).is_some();
        let records = match &*last {
            Some(last) if is_fresh(last) || is_refused(&last.records) => last.records.clone(),
            _ => {
                let began = Instant::now();
                let records = Arc::new(self.source.read().await.resolved(self.config));
                *last = Some(LastReading {
                    began,
                    took: began.elapsed(),
                    records: records.clone(),
                });
                records
            }
        };
        match records_error(&records) {
            Some(error) if !self.is_forced => Err(error),
            _ => Ok(records),
        }
    }
}
