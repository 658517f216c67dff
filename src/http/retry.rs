//! What is tried again, when, and how often.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use chrono::{DateTime, Utc};
use reqwest::StatusCode;

use super::error::{Error, tls_problem};
use super::host::HostState;
use super::request::Kind;

/// How often a request is tried in all.
const TRIES: usize = 5;

const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// Whether a failure can pass by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Retry,
    Final,
}

/// Returns whether an answer with this status is worth another try.
pub(super) fn classify_status(status: StatusCode) -> Verdict {
    match status.as_u16() {
        408 | 429 | 500 | 502 | 503 | 504 => Verdict::Retry,
        _ => Verdict::Final,
    }
}

/// Returns whether a failure is worth another try: the states above, and connections that could not be made or broke, unless
/// the other side cannot be spoken to as it is set up.
pub(super) fn classify(error: &Error) -> Verdict {
    match error {
        Error::Refused(refusal) => classify_status(refusal.status),
        Error::Connection { source, .. } if source.is_builder() || tls_problem(source).is_some() => Verdict::Final,
        Error::Connection { .. } | Error::Stalled { .. } => Verdict::Retry,
        _ => Verdict::Final,
    }
}

/// Returns how long a `Retry-After` asks to wait: seconds, or a date of RFC 9110 section 5.6.7. `None` when it is neither.
pub(super) fn parse_retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    Some((date.with_timezone(&Utc) - now).to_std().unwrap_or(Duration::ZERO))
}

/// Returns how long it is until a time in seconds since 1970, or `None` when `text` is none.
pub(super) fn parse_unix_time(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let time = DateTime::from_timestamp(text.trim().parse().ok()?, 0)?;
    Some((time - now).to_std().unwrap_or(Duration::ZERO))
}

/// Counts the tries of one request or blob and waits between them, with full jitter.
pub struct Tries {
    host: Arc<HostState>,
    kind: Kind,
    delays: ExponentialBackoff,
    deadline: Option<Instant>,
    made: u32,
}

impl Tries {
    pub(super) fn new(host: Arc<HostState>, kind: Kind, first_delay: Duration, deadline: Option<Instant>) -> Tries {
        let delays = ExponentialBuilder::new().with_min_delay(first_delay).with_max_delay(LONGEST_DELAY).with_max_times(TRIES - 1).build();
        Tries { host, kind, delays, deadline, made: 1 }
    }

    /// Waits for the next try, or returns `error` when it cannot pass by itself, was the last try's, or the wait would go beyond
    /// the run's deadline. When the host itself asks to wait, all requests of the same kind to it do.
    pub async fn after(&mut self, mut error: Error) -> Result<(), Error> {
        let (asked, limited) = match &error {
            Error::Refused(refusal) => (refusal.retry_after, refusal.status == StatusCode::TOO_MANY_REQUESTS),
            _ => (None, false),
        };
        let until = match classify(&error) {
            Verdict::Retry => self.next(asked.unwrap_or_default()),
            Verdict::Final => None,
        };
        let Some(until) = until else {
            error.set_tries(self.made);
            return Err(error);
        };
        if limited || asked.is_some() {
            self.host.hold(self.kind, until);
        }
        tracing::debug!(host = %self.host.name, kind = self.kind.0, tries = self.made, %error, "trying again");
        self.wait_until(until).await;
        Ok(())
    }

    /// Waits for the next try after something failed that is not the host's fault. Returns whether there is one.
    pub async fn pause(&mut self) -> bool {
        match self.next(Duration::ZERO) {
            Some(until) => {
                self.wait_until(until).await;
                true
            }
            None => false,
        }
    }

    fn next(&mut self, at_least: Duration) -> Option<Instant> {
        let delay = self.delays.next()?.mul_f64(fastrand::f64()).max(at_least);
        let until = Instant::now().checked_add(delay)?;
        self.deadline.is_none_or(|deadline| until <= deadline).then_some(until)
    }

    async fn wait_until(&mut self, until: Instant) {
        tokio::time::sleep_until(until.into()).await;
        self.made += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_statuses_six_are_tried_again() {
        let retried: Vec<u16> =
            (100..1000).filter(|code| classify_status(StatusCode::from_u16(*code).expect("a status")) == Verdict::Retry).collect();
        assert_eq!(retried, [408, 429, 500, 502, 503, 504]);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = DateTime::parse_from_rfc3339("2026-11-06T08:49:37Z").expect("a time").with_timezone(&Utc);
        let parse = |text| parse_retry_after(text, now);
        assert_eq!(parse("120"), Some(Duration::from_secs(120)));
        assert_eq!(parse("Fri, 06 Nov 2026 08:50:07 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(parse("Fri, 06 Nov 2026 08:00:00 GMT"), Some(Duration::ZERO), "a date that is over");
        assert_eq!(parse("-5"), None);
        assert_eq!(parse("soon"), None);
        assert_eq!(parse("18446744073709551615"), Some(Duration::from_secs(u64::MAX)));
    }

    #[test]
    fn a_time_since_1970_is_waited_for() {
        let now = DateTime::parse_from_rfc3339("2026-11-06T08:49:37Z").expect("a time").with_timezone(&Utc);
        let parse = |text: &str| parse_unix_time(text, now);
        assert_eq!(parse(&(now.timestamp() + 90).to_string()), Some(Duration::from_secs(90)));
        assert_eq!(parse("5"), Some(Duration::ZERO), "a time that is over");
        for other in ["", "soon", "1.5", "9223372036854775807"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
