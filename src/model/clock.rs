//! The clock, passed as a value instead of being read from the system.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};

/// Source of the wall-clock time.
///
/// The room `process` creates the real clock; tests create fixed ones.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>);

impl Clock {
    /// Returns a clock that calls `now` for each reading.
    pub fn new(now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(now))
    }

    /// Returns a clock that always returns `time`.
    pub fn fixed(time: DateTime<Utc>) -> Clock {
        Clock::new(move || time)
    }

    /// Returns the current time in UTC.
    pub fn now(&self) -> DateTime<Utc> {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Clock")
    }
}
