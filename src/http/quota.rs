//! Quotas: how many requests a host says that it still answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::header::HeaderMap;

use super::host::Pace;
use crate::model::lock::lock;

/// Which share of a quota counts as little, as a divisor.
const LITTLE: u64 = 10;

/// How many requests count as few, whatever the quota.
const FEW: u64 = 5;

/// The longest time between two counted requests. Docker Hub's own rate, one in minutes, would seem
/// like a standstill.
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);

/// The time between two counted requests when a host does not say which span of time its quota is
/// for.
const USUAL_INTERVAL: Duration = Duration::from_secs(1);

/// What is left of a host's quota, as the last answer told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub remaining: u64,
    pub limit: u64,
    window: Option<Duration>,
}

impl Standing {
    /// Returns what `ratelimit-limit` and `ratelimit-remaining` tell (`100;w=21600`: a hundred in
    /// six hours). `None` when they are missing, which means that there is no quota, or tell
    /// nothing.
    pub fn read(headers: &HeaderMap) -> Option<Standing> {
        let text = |name| headers.get(name)?.to_str().ok();
        let (remaining, _) = parse(text("ratelimit-remaining")?)?;
        let (limit, window) = parse(text("ratelimit-limit")?)?;
        Some(Standing {
            remaining,
            limit,
            window,
        })
    }

    /// Returns whether little of it is left.
    pub fn is_low(&self) -> bool {
        self.remaining <= FEW.max(self.limit / LITTLE)
    }

    /// Returns the time between requests that makes them last, within bounds.
    fn interval(&self) -> Duration {
        let rate = |window: Duration| {
            Duration::from_secs_f64(window.as_secs_f64() / self.limit.max(1) as f64)
        };
        self.window
            .map_or(USUAL_INTERVAL, rate)
            .min(LONGEST_INTERVAL)
    }
}

/// Returns the number at the beginning of a value, and the window in seconds that follows it.
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

/// How a host's quota is kept.
#[derive(Default)]
pub(super) struct Quota {
    /// There while little is left.
    pace: Mutex<Option<Arc<Pace>>>,
    said: AtomicBool,
}

impl Quota {
    /// Takes in how the quota stands. Returns whether little is left for the first time.
    pub(super) fn note(&self, standing: Standing) -> bool {
        let mut pace = lock(&self.pace);
        if !standing.is_low() {
            *pace = None;
            return false;
        }
        pace.get_or_insert_with(|| Arc::new(Pace::every(standing.interval())));
        !self.said.swap(true, Ordering::Relaxed)
    }

    /// Returns what counted requests are slowed down by, while little is left.
    pub(super) fn pace(&self) -> Option<Arc<Pace>> {
        lock(&self.pace).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(remaining: &str, limit: &str) -> Option<Standing> {
        let header = |text: &str| text.parse().expect("a header");
        let names = ["ratelimit-remaining", "ratelimit-limit"]
            .map(reqwest::header::HeaderName::from_static);
        Standing::read(
            &names
                .into_iter()
                .zip([header(remaining), header(limit)])
                .collect(),
        )
    }

    #[test]
    fn quotas_are_read_with_their_window_or_not_at_all() {
        let six_hours = Some(Duration::from_secs(21_600));
        assert_eq!(
            standing("76;w=21600", "100;w=21600"),
            Some(Standing {
                remaining: 76,
                limit: 100,
                window: six_hours
            })
        );
        assert_eq!(
            standing("76", "100, 100;w=60"),
            Some(Standing {
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
            assert_eq!(standing(remaining, limit), None, "{remaining} of {limit}");
        }
        assert_eq!(Standing::read(&HeaderMap::new()), None);
    }

    #[test]
    fn little_is_a_tenth_or_five_and_is_said_once() {
        let quota = Quota::default();
        let note = |remaining: &str, limit: &str| {
            let first = quota.note(standing(remaining, limit).expect("a quota"));
            (first, quota.pace().map(|pace| pace.interval()))
        };
        let slow = |seconds| Some(Duration::from_secs_f64(seconds));
        assert_eq!(note("11;w=21600", "100;w=21600"), (false, None));
        assert_eq!(note("10;w=21600", "100;w=21600"), (true, slow(10.0)));
        assert_eq!(note("0;w=21600", "100;w=21600"), (false, slow(10.0)));
        assert_eq!(note("100;w=21600", "100;w=21600"), (false, None));
        assert_eq!(note("5;w=60", "20;w=60"), (false, slow(3.0)));
        assert_eq!(note("6;w=60", "20;w=60"), (false, None));
        assert_eq!(note("200", "2000"), (false, slow(1.0)));
        assert_eq!(note("20", "0;w=0"), (false, None));
        assert_eq!(note("0", "0;w=0"), (false, slow(0.0)));
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
                for standing in [standing(&text, "100;w=21600"), standing("3;w=21600", &text)]
                    .into_iter()
                    .flatten()
                {
                    standing.is_low();
                    standing.interval();
                }
            }
        });
    }
}
