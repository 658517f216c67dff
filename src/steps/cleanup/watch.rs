//! The records as they are while a clean-up runs: others register images meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::observe::RecordsSeen;
use super::plan::unread;
use crate::config::Config;
use crate::steps::Trouble;

/// How old a reading may be before something is deleted; where reading takes long, twice as long as
/// it took.
const FRESH: Duration = Duration::from_secs(5);

/// Reads the records.
#[async_trait]
pub trait RecordsSource: Send + Sync {
    /// Returns the records as they are now, with the places that they name as they are written.
    async fn read(&self) -> RecordsSeen;
}

/// What the records say, as often as that matters. Repositories that are cleaned up at once share
/// readings.
pub struct Watch<'a> {
    config: &'a Config,
    source: &'a dyn RecordsSource,
    is_forced: bool,
    pub(super) fresh_for: Duration,
    last: Mutex<Option<Last>>,
}

struct Last {
    began: Instant,
    took: Duration,
    /// With the places that they name as the configuration has them.
    records: Arc<RecordsSeen>,
}

impl<'a> Watch<'a> {
    /// Returns a watch over what `source` reads. Where it is forced, records that cannot be read
    /// stop nothing.
    pub fn new(config: &'a Config, source: &'a dyn RecordsSource, is_forced: bool) -> Watch<'a> {
        Watch {
            config,
            source,
            is_forced,
            fresh_for: FRESH,
            last: Mutex::default(),
        }
    }

    /// Returns the records as they are now, with the places that they name as they are written.
    pub async fn read(&self) -> RecordsSeen {
        let began = Instant::now();
        let seen = self.source.read().await;
        let records = Arc::new(seen.clone().resolved(self.config));
        *self.last.lock().await = Some(Last {
            began,
            took: began.elapsed(),
            records,
        });
        seen
    }

    /// Returns the records as they were some seconds ago at the most. Fails when some of them could
    /// not be read, then and ever after: what the others name is not all.
    pub(super) async fn fresh(&self) -> Result<Arc<RecordsSeen>, Trouble> {
        let mut last = self.last.lock().await;
        let is_fresh = |last: &Last| last.began.elapsed() < self.fresh_for.max(last.took * 2);
        let is_refused = |records: &RecordsSeen| !self.is_forced && unread(records).is_some();
        let records = match &*last {
            Some(known) if is_fresh(known) || is_refused(&known.records) => known.records.clone(),
            _ => {
                let began = Instant::now();
                let records = Arc::new(self.source.read().await.resolved(self.config));
                *last = Some(Last {
                    began,
                    took: began.elapsed(),
                    records: records.clone(),
                });
                records
            }
        };
        match unread(&records) {
            Some(trouble) if !self.is_forced => Err(trouble),
            _ => Ok(records),
        }
    }
}
