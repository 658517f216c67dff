//! Build records that stay current during a cleanup, because applications may be registered while
//! it runs.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::Mutex;

use super::applications::Applications;
use super::protections::{RecordProtections, pinned};
use super::safety_check::records_error;
use super::world::ObservedRecords;
use crate::config::Config;
use crate::error::ItemError;
use crate::model::Digest;

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
    now: DateTime<Utc>,
    applications: Arc<Applications>,
    pub(super) max_age: Duration,
    last: Mutex<Option<LastReading>>,
}

struct LastReading {
    began: Instant,
    took: Duration,
    reading: Arc<RecordReading>,
}

/// A reading of the records, with the indexes that are built from it when they are needed first.
pub(super) struct RecordReading {
    /// Records with canonical repository names.
    records: Arc<ObservedRecords>,
    applications: Arc<Applications>,
    protections: OnceLock<RecordProtections>,
    pinned: OnceLock<BTreeSet<Digest>>,
}

impl RecordReading {
    fn new(records: Arc<ObservedRecords>, applications: Arc<Applications>) -> RecordReading {
        RecordReading {
            records,
            applications,
            protections: OnceLock::new(),
            pinned: OnceLock::new(),
        }
    }

    /// Returns what the records protect.
    pub(super) fn protections(&self) -> &RecordProtections {
        self.protections.get_or_init(|| {
            RecordProtections::of(std::slice::from_ref(&self.records), &self.applications)
        })
    }

    /// Returns the digests that the records name.
    pub(super) fn pinned(&self) -> &BTreeSet<Digest> {
        self.pinned
            .get_or_init(|| pinned(self.records.records().iter()))
    }
}

impl<'a> RecordWatch<'a> {
    /// Returns a watch on the records of `source`. With `is_forced`, records that cannot be read do
    /// not stop deletions. `now` is the time at which the rules are applied.
    pub fn new(
        config: &'a Config,
        source: &'a dyn RecordsSource,
        is_forced: bool,
        now: DateTime<Utc>,
    ) -> RecordWatch<'a> {
        RecordWatch {
            config,
            source,
            is_forced,
            now,
            applications: Arc::new(Applications::of(config)),
            max_age: MAX_READING_AGE,
            last: Mutex::default(),
        }
    }

    /// Returns the current records, with canonical repository names.
    pub async fn read(&self) -> Arc<ObservedRecords> {
        let mut last = self.last.lock().await;
        self.read_again(&mut last).await.records.clone()
    }

    /// Reads the records. A reading that equals the last one replaces only its time, so that nothing
    /// is indexed again.
    async fn read_again(&self, last: &mut Option<LastReading>) -> Arc<RecordReading> {
        let began = Instant::now();
        let records = Arc::new(self.source.read().await);
        let records = ObservedRecords::resolved(records, self.config, self.now);
        let reading = match last {
            Some(last) if *last.reading.records == *records => last.reading.clone(),
            _ => Arc::new(RecordReading::new(records, self.applications.clone())),
        };
        *last = Some(LastReading {
            began,
            took: began.elapsed(),
            reading: reading.clone(),
        });
        reading
    }

    /// Returns the records of at most some seconds ago.
    ///
    /// Fails if some of them could not be read, because a missing record may protect an image. After
    /// that, every further call fails.
    pub(super) async fn fresh(&self) -> Result<Arc<RecordReading>, ItemError> {
        let mut last = self.last.lock().await;
        let is_fresh = |last: &LastReading| last.began.elapsed() < self.max_age.max(last.took * 2);
        let is_refused =
            |reading: &RecordReading| !self.is_forced && records_error(&reading.records).is_some();
        let reading = match &*last {
            Some(last) if is_fresh(last) || is_refused(&last.reading) => last.reading.clone(),
            _ => self.read_again(&mut last).await,
        };
        match records_error(&reading.records) {
            Some(error) if !self.is_forced => Err(error),
            _ => Ok(reading),
        }
    }
}
