//! The clock that is handed around instead of being read.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};

/// Tells the wall-clock time. `process` makes the real one; tests make fixed ones.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>);

impl Clock {
    /// Returns a clock that asks `now` each time.
    pub fn new(now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(now))
    }

    /// Returns a clock that stands still at `time`.
    pub fn fixed(time: DateTime<Utc>) -> Clock {
        Clock::new(move || time)
    }

    /// Returns the time in UTC.
    pub fn now(&self) -> DateTime<Utc> {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Clock")
    }
}
