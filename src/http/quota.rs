//! Request quotas: the number of requests that a host still answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::header::HeaderMap;

use super::rate_limit::RateLimiter;
use crate::model::lock::lock;

/// A quota is low if at most this fraction of its requests is left: one tenth.
const LOW_DIVISOR: u64 = 10;

/// A quota is also low when at most this many requests are left.
const LOW_REQUESTS: u64 = 5;

/// Maximum interval between requests of a low quota. Docker Hub's quota allows one request in
/// several minutes: a run would seem to hang.
const MAX_INTERVAL: Duration = Duration::from_secs(10);

/// Interval between requests of a low quota when the host does not report the quota's window.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);

/// State of a host's quota, as reported by its last response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaStatus {
    pub remaining: u64,
    pub limit: u64,
    window: Option<Duration>,
}

impl QuotaStatus {
    /// Reads `ratelimit-limit` and `ratelimit-remaining` (`100;w=21600` is a hundred in six hours).
    /// Returns `None` when one of them is missing, which means that there is no quota, or invalid.
    pub fn read(headers: &HeaderMap) -> Option<QuotaStatus> {
        let text = |name| headers.get(name)?.to_str().ok();
        let (remaining, _) = parse(text("ratelimit-remaining")?)?;
        let (limit, window) = parse(text("ratelimit-limit")?)?;
        Some(QuotaStatus {
            remaining,
            limit,
            window,
        })
    }

    /// Returns true if few requests are left.
    pub fn is_low(&self) -> bool {
        self.remaining <= LOW_REQUESTS.max(self.limit / LOW_DIVISOR)
    }

    /// Returns the interval that never uses up the quota, at most [`MAX_INTERVAL`].
    fn interval(&self) -> Duration {
        let rate = |window: Duration| {
            Duration::from_secs_f64(window.as_secs_f64() / self.limit.max(1) as f64)
        };
        self.window.map_or(DEFAULT_INTERVAL, rate).min(MAX_INTERVAL)
    }
}

/// Returns the number at the beginning of a header value, and the window that follows it.
fn parse(text: &str) -> Option<(u64, Option<Duration>)> {
    let first = text.split(',').next()?;
    let mut parts = first.split(';').map(str::trim);
    let number = parts.next()?.parse().ok()?;
    let window = parts.find_map(|part| part.strip_prefix("w=")?.parse::<u32>().ok());
    Some((
        number,
        window.map(|seconds| Duration::from_secs(seconds.into())),
    ))
}

/// Slows down requests to a host while its quota is low.
#[derive(Default)]
pub(super) struct Quota {
    /// Set while the quota is low.
    limiter: Mutex<Option<Arc<RateLimiter>>>,
    /// True once a low quota was reported to the user.
    is_reported: AtomicBool,
}

impl Quota {
    /// Updates the state of the quota. Returns true if it is low for the first time.
    pub(super) fn update(&self, status: QuotaStatus) -> bool {
        let mut limiter = lock(&self.limiter);
        if !status.is_low() {
            *limiter = None;
            return false;
        }
        limiter.get_or_insert_with(|| Arc::new(RateLimiter::every(status.interval())));
        !self.is_reported.swap(true, Ordering::Relaxed)
    }

    /// Returns the rate limit for requests that use the quota; `None` unless it is low.
    pub(super) fn limiter(&self) -> Option<Arc<RateLimiter>> {
        lock(&self.limiter).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(remaining: &str, limit: &str) -> Option<QuotaStatus> {
        let header = |text: &str| text.parse().expect("a header");
        let names = ["ratelimit-remaining", "ratelimit-limit"]
            .map(reqwest::header::HeaderName::from_static);
        QuotaStatus::read(
            &names
                .into_iter()
                .zip([header(remaining), header(limit)])
                .collect(),
        )
    }

    #[test]
    fn quota_status_reads_number_and_window_or_nothing() {
        let six_hours = Some(Duration::from_secs(21_600));
        assert_eq!(
            status("76;w=21600", "100;w=21600"),
            Some(QuotaStatus {
                remaining: 76,
                limit: 100,
                window: six_hours
            })
        );
        assert_eq!(
            status("76", "100, 100;w=60"),
            Some(QuotaStatus {
                remaining: 76,
                limit: 100,
                window: None
            })
        );
        for (remaining, limit) in [
            ("", "100"),
            ("-1", "100"),
            ("x", "100"),
            ("1", "lots"),
            ("99999999999999999999", "1"),
        ] {
            assert_eq!(status(remaining, limit), None, "{remaining} of {limit}");
        }
        assert_eq!(QuotaStatus::read(&HeaderMap::new()), None);
    }

    #[test]
    fn quota_is_low_at_a_tenth_or_five_and_reported_once() {
        let quota = Quota::default();
        let update = |remaining: &str, limit: &str| {
            let first = quota.update(status(remaining, limit).expect("a quota"));
            (first, quota.limiter().map(|limiter| limiter.interval()))
        };
        let slow = |seconds| Some(Duration::from_secs_f64(seconds));
        assert_eq!(update("11;w=21600", "100;w=21600"), (false, None));
        assert_eq!(update("10;w=21600", "100;w=21600"), (true, slow(10.0)));
        assert_eq!(update("0;w=21600", "100;w=21600"), (false, slow(10.0)));
        assert_eq!(update("100;w=21600", "100;w=21600"), (false, None));
        assert_eq!(update("5;w=60", "20;w=60"), (false, slow(3.0)));
        assert_eq!(update("6;w=60", "20;w=60"), (false, None));
        assert_eq!(update("200", "2000"), (false, slow(1.0)));
        assert_eq!(update("20", "0;w=0"), (false, None));
        assert_eq!(update("0", "0;w=0"), (false, slow(0.0)));
    }

    #[test]
    fn fuzzing_quotas() {
        let seeds = [
            "100;w=21600",
            "76, 100;w=21600;comment=\"a\"",
            "18446744073709551615;w=4294967295",
        ];
        crate::model::fuzz_tests::fuzz("quotas", &seeds, |input| {
            let text = crate::model::fuzz_tests::text(input);
            parse(&text);
            if reqwest::header::HeaderValue::from_str(&text).is_ok() {
                for status in [status(&text, "100;w=21600"), status("3;w=21600", &text)]
                    .into_iter()
                    .flatten()
                {
                    status.is_low();
                    status.interval();
                }
            }
        });
    }
}
