//! What is tried again, when, and how often.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use chrono::{DateTime, NaiveDateTime, Utc};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};

use super::error::Error;
use super::fault::FaultKind;
use super::host::HostState;
use super::request::Kind;

/// How often a request is tried in all.
const TRIES: usize = 5;

/// How often a request is tried in all when the host's name cannot be looked up: a resolver that
/// hiccups answers soon, one that is set up wrong never does.
const LOOK_UPS: u32 = 3;

/// How many requests in a row must have spent all their tries for a server to be taken to be down.
const PATIENCE: u32 = 2;

const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// What nobody waits for, whatever the deadline: who asks for more says never.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

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

/// Returns whether a failure is worth another try: the states above, and connections that could not
/// be made or broke, unless the other side cannot be spoken to as it is set up.
pub(super) fn classify(error: &Error) -> Verdict {
    match error {
        Error::Refused(refusal) => classify_status(refusal.status),
        Error::Connection { source, .. } => match source.kind() {
            FaultKind::NoSuchName
            | FaultKind::NoTls
            | FaultKind::Certificate
            | FaultKind::Request => Verdict::Final,
            FaultKind::NoNames | FaultKind::Other => Verdict::Retry,
        },
        Error::Stalled { .. } => Verdict::Retry,
        _ => Verdict::Final,
    }
}

/// Returns how long an answer asks to wait, by `Retry-After` or, as Docker Hub has it, the time in
/// `X-Retry-After`.
pub(super) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let asked = text(RETRY_AFTER.as_str()).and_then(|text| parse_retry_after(text, now));
    asked.or_else(|| text("x-retry-after").and_then(|text| parse_retry_time(text, now)))
}

/// Returns how long a `Retry-After` asks to wait: seconds, or a date in one of the three forms of
/// RFC 9110 section 5.6.7. `None` when it is none of these.
fn parse_retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let obsolete = |form| NaiveDateTime::parse_from_str(text, form).map(|date| date.and_utc());
    let date = DateTime::parse_from_rfc2822(text)
        .map(|date| date.to_utc())
        .or_else(|_| obsolete("%A, %d-%b-%y %H:%M:%S GMT"))
        .or_else(|_| obsolete("%a %b %e %H:%M:%S %Y"));
    Some(from(now, date.ok()?))
}

/// Returns how long it is until a time in seconds since 1970. Smaller numbers than such a time can
/// be are seconds to wait.
fn parse_retry_time(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    match text.trim().parse::<i64>() {
        Ok(time @ 1_000_000_000..) => DateTime::from_timestamp(time, 0).map(|time| from(now, time)),
        _ => parse_retry_after(text, now),
    }
}

fn from(now: DateTime<Utc>, time: DateTime<Utc>) -> Duration {
    (time - now).to_std().unwrap_or(Duration::ZERO)
}

/// Counts the requests to a server that failed in a row, each after all its tries.
#[derive(Default)]
pub(super) struct Outage(AtomicU32);

impl Outage {
    fn failed(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that the server did what it is there for.
    pub(super) fn is_over(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Returns whether the server is taken to be down: until it does what it is there for, requests
    /// are tried once.
    fn lasts(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= PATIENCE
    }
}

/// Which server of a host is tried.
#[derive(Clone, Copy)]
enum Server {
    /// It is down when it does not answer. It fails for one thing and does another.
    Registry,
    /// It does one thing, so it is down when it fails in any way that passes.
    Tokens,
}

/// A wait that is told of, in seconds.
const LONG_WAIT: u64 = 10;

/// Counts the tries of one request or blob and waits between them, with full jitter.
pub struct Tries {
    host: Arc<HostState>,
    kind: Kind,
    server: Server,
    delays: ExponentialBackoff,
    deadline: Option<Instant>,
    made: u32,
}

impl Tries {
    pub(super) fn new(
        host: Arc<HostState>,
        kind: Kind,
        first_delay: Duration,
        deadline: Option<Instant>,
    ) -> Tries {
        let delays = ExponentialBuilder::new()
            .with_min_delay(first_delay)
            .with_max_delay(LONGEST_DELAY)
            .with_max_times(TRIES - 1)
            .build();
        Tries {
            host,
            kind,
            server: Server::Registry,
            delays,
            deadline,
            made: 1,
        }
    }

    /// Returns the same for a request to the host's token server.
    pub(super) fn for_tokens(self) -> Tries {
        Tries {
            server: Server::Tokens,
            ..self
        }
    }

    /// Waits for the next try, or returns `error` when it cannot pass by itself, was the last
    /// try's, or the wait would go beyond the run's deadline. When the host itself asks to wait,
    /// all requests of the same kind to it do.
    pub async fn after(&mut self, mut error: Error) -> Result<(), Error> {
        let (asked, limited) = match &error {
            Error::Refused(refusal) => (
                refusal.retry_after,
                refusal.status == StatusCode::TOO_MANY_REQUESTS,
            ),
            _ => (None, false),
        };
        let until = match classify(&error) {
            Verdict::Retry if self.is_in_vain(&error) => None,
            Verdict::Retry => self.next(asked.unwrap_or_default()),
            Verdict::Final => None,
        };
        let Some(until) = until else {
            if let Some(outage) = self
                .outage(&error)
                .filter(|_| classify(&error) == Verdict::Retry)
            {
                outage.failed();
            }
            error.set_tries(self.made);
            if let Error::Refused(refusal) = &mut error {
                let until = asked.and_then(|asked| Instant::now().checked_add(asked));
                refusal.beyond_deadline = until
                    .zip(self.deadline)
                    .is_some_and(|(until, deadline)| until > deadline);
            }
            return Err(error);
        };
        if limited || asked.is_some() {
            self.host.hold(self.kind, until);
        }
        let seconds = until.saturating_duration_since(Instant::now()).as_secs();
        if seconds >= LONG_WAIT {
            // Without a word it would look as if the run hung.
            tracing::warn!(host = %self.host.name, seconds, %error, "waiting, as the host asks");
        } else {
            tracing::debug!(host = %self.host.name, kind = self.kind.0, tries = self.made, %error, "trying again");
        }
        self.wait_until(until).await;
        Ok(())
    }

    /// Returns whether another try would be in vain, although what failed can pass.
    fn is_in_vain(&self, error: &Error) -> bool {
        let is_lookup = matches!(error, Error::Connection { source, .. } if source.kind() == FaultKind::NoNames);
        (is_lookup && self.made >= LOOK_UPS) || self.outage(error).is_some_and(Outage::lasts)
    }

    /// Returns the outage that a failure is part of, if it may be one.
    fn outage(&self, error: &Error) -> Option<&Outage> {
        match self.server {
            Server::Registry => error.is_silence().then_some(&self.host.silence),
            Server::Tokens => {
                let failed = error.is_silence()
                    || error
                        .status()
                        .is_some_and(|status| status.is_server_error());
                failed.then_some(&self.host.auth.outage)
            }
        }
    }

    /// Waits for the next try after something failed that is not the host's fault. Returns whether
    /// there is one.
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
        if at_least > LONGEST_WAIT {
            return None;
        }
        // On top of what the host asks for, or all that it asked at once would come back at once.
        let delay = at_least.checked_add(self.delays.next()?.mul_f64(fastrand::f64()))?;
        let until = Instant::now().checked_add(delay)?;
        self.deadline
            .is_none_or(|deadline| until <= deadline)
            .then_some(until)
    }

    async fn wait_until(&mut self, until: Instant) {
        tokio::time::sleep_until(until.into()).await;
        self.made += 1;
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderName;

    use super::*;
    use crate::http::Settings;
    use crate::http::fault::Fault;
    use crate::model::Host;

    /// A resolver that gives this as its reason.
    struct NoAnswer(&'static str);

    impl reqwest::dns::Resolve for NoAnswer {
        fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
            let reason = format!("failed to lookup address information: {}", self.0);
            Box::pin(async move { Err(reason.into()) })
        }
    }

    #[tokio::test]
    async fn a_name_that_no_host_has_is_asked_for_once_and_one_that_cannot_be_looked_up_three_times()
     {
        for (reason, expected) in [
            ("Name or service not known", 1),
            ("Temporary failure in name resolution", 3),
        ] {
            let client = reqwest::Client::builder()
                .no_proxy()
                .tls_certs_only([])
                .dns_resolver(Arc::new(NoAnswer(reason)));
            let client = client.build().expect("a client");
            let url: reqwest::Url = "http://registry.example/".parse().expect("a URL");
            let host: Host = "registry.example".parse().expect("a host");
            let state = Arc::new(HostState::new(&host, &Settings::default()).expect("a host"));
            let mut tries = Tries::new(state, Kind("test"), Duration::from_millis(1), None);
            let error = loop {
                let source = Fault::new(
                    client
                        .get(url.clone())
                        .send()
                        .await
                        .expect_err("nobody answers"),
                );
                let error = Error::Connection {
                    method: reqwest::Method::GET,
                    url: (&url).into(),
                    tries: 1,
                    source,
                };
                if let Err(error) = tries.after(error).await {
                    break error;
                }
            };
            assert!(
                matches!(error, Error::Connection { tries, .. } if tries == expected),
                "{error}"
            );
            assert!(
                crate::error::chain(&error).contains(reason),
                "{}",
                crate::error::chain(&error)
            );
        }
    }

    #[test]
    fn of_all_statuses_six_are_tried_again() {
        let retried: Vec<u16> = (100..1000)
            .filter(|code| {
                classify_status(StatusCode::from_u16(*code).expect("a status")) == Verdict::Retry
            })
            .collect();
        assert_eq!(retried, [408, 429, 500, 502, 503, 504]);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = DateTime::parse_from_rfc3339("2026-11-06T08:49:37Z")
            .expect("a time")
            .with_timezone(&Utc);
        let parse = |text| parse_retry_after(text, now);
        assert_eq!(parse("120"), Some(Duration::from_secs(120)));
        assert_eq!(
            parse("Fri, 06 Nov 2026 08:50:07 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            parse("Fri, 06 Nov 2026 08:00:00 GMT"),
            Some(Duration::ZERO),
            "a date that is over"
        );
        assert_eq!(
            parse("Friday, 06-Nov-26 08:50:07 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            parse("Fri Nov  6 08:50:07 2026"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(parse("-5"), None);
        assert_eq!(parse("soon"), None);
        assert_eq!(
            parse("18446744073709551615"),
            Some(Duration::from_secs(u64::MAX))
        );
        assert_eq!(parse("18446744073709551616"), None);
    }

    #[test]
    fn docker_hub_says_at_what_time_to_come_back() {
        let now = DateTime::from_timestamp(1_794_000_000, 0).expect("a time");
        let wait = |headers: &[(&'static str, &str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| {
                    (
                        HeaderName::from_static(name),
                        value.parse().expect("a header"),
                    )
                })
                .collect();
            retry_after(&headers, now)
        };
        assert_eq!(
            wait(&[("x-retry-after", "1794000090")]),
            Some(Duration::from_secs(90))
        );
        assert_eq!(
            wait(&[("x-retry-after", "1793999999")]),
            Some(Duration::ZERO)
        );
        assert_eq!(
            wait(&[("x-retry-after", "15")]),
            Some(Duration::from_secs(15))
        );
        assert_eq!(
            wait(&[("x-retry-after", "1794000090"), ("retry-after", "7")]),
            Some(Duration::from_secs(7))
        );
        assert_eq!(wait(&[("x-retry-after", "9223372036854775807")]), None);
        assert_eq!(wait(&[("x-retry-after", "soon")]), None);
        assert_eq!(wait(&[]), None);
    }

    #[test]
    fn fuzzing_times_to_come_back_at() {
        let now = DateTime::from_timestamp(1_794_000_000, 0).expect("a time");
        let seeds = [
            "120",
            "Fri, 31 Dec 1999 23:59:59 GMT",
            "Friday, 31-Dec-99 23:59:59 GMT",
            "Fri Dec 31 23:59:59 1999",
            "1794000060",
        ];
        crate::model::fuzz_tests::fuzz("times to come back at", &seeds, |input| {
            let Ok(value) = HeaderValue::from_bytes(input) else {
                return;
            };
            for name in [RETRY_AFTER, HeaderName::from_static("x-retry-after")] {
                retry_after(&HeaderMap::from_iter([(name, value.clone())]), now);
            }
        });
    }
}
