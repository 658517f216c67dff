//! Rate limit: requests to a host at even intervals.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::model::lock::lock;

/// Spreads requests evenly, one per interval.
pub(super) struct RateLimiter {
    interval: Duration,
    /// Time of the next free slot; `None` before the first request.
    next: Mutex<Option<Instant>>,
}

impl RateLimiter {
    /// Returns a limiter for a number of requests per second. `None` when the number is no rate,
    /// such as zero or a negative one.
    pub(super) fn per_second(rate: f64) -> Option<RateLimiter> {
        Duration::try_from_secs_f64(1.0 / rate)
            .ok()
            .map(RateLimiter::every)
    }

    /// Returns a limiter for one request per `interval`.
    pub(super) fn every(interval: Duration) -> RateLimiter {
        RateLimiter {
            interval,
            next: Mutex::new(None),
        }
    }

    #[cfg(test)]
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Reserves the next free slot and waits for it.
    pub(super) async fn wait(&self) {
        let slot = {
            let mut next = lock(&self.next);
            let now = Instant::now();
            let slot = next.map_or(now, |next| next.max(now));
            *next = Some(slot + self.interval);
            slot
        };
        tokio::time::sleep_until(slot.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rate_limiter_spreads_requests() {
        let limiter = RateLimiter::per_second(100.0).expect("a rate");
        let began = Instant::now();
        for _ in 0..6 {
            limiter.wait().await;
        }
        assert!(began.elapsed() >= Duration::from_millis(50));
    }
}
