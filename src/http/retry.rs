//! Retries: the number of tries of a request and the waits between them.
//!
//! A transient failure (see [`Error::is_transient`]) is tried up to [`MAX_TRIES`] times, with
//! exponential back-off and full jitter on top of the wait that the host asks for. Fewer tries are
//! made when the host's name cannot be resolved or the server counts as down. No wait goes beyond
//! the run's time limit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use chrono::{DateTime, NaiveDateTime, Utc};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};

use super::error::{Error, MAX_RETRY_AFTER};
use super::fault::FaultKind;
use super::host::HostState;
use super::outage::Outage;
use super::request::RequestKind;

/// Maximum number of tries of a request, including the first.
const MAX_TRIES: usize = 5;

/// Maximum number of tries if name resolution fails: a resolver with a short problem recovers soon,
/// a misconfigured one never.
const MAX_RESOLUTION_TRIES: u32 = 3;

/// Maximum delay between tries, without the wait that the host asks for.
const MAX_DELAY: Duration = Duration::from_secs(30);

/// Returns the wait that a response asks for: in `Retry-After`, or at Docker Hub the time in
/// `X-Retry-After`. `None` when there is neither.
pub(super) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let wait = text(RETRY_AFTER.as_str()).and_then(|text| parse_retry_after(text, now));
    wait.or_else(|| text("x-retry-after").and_then(|text| parse_retry_time(text, now)))
}

/// Parses a `Retry-After`: seconds, or a date in one of the three forms of RFC 9110 section 5.6.7.
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
    Some(until(now, date.ok()?))
}

/// Parses an `X-Retry-After`: a time in seconds since 1970. Numbers too small for such a time are
/// seconds to wait.
fn parse_retry_time(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    match text.trim().parse::<i64>() {
        Ok(time @ 1_000_000_000..) => {
            DateTime::from_timestamp(time, 0).map(|time| until(now, time))
        }
        _ => parse_retry_after(text, now),
    }
}

/// Returns the time from `now` until `time`; zero for a time in the past.
fn until(now: DateTime<Utc>, time: DateTime<Utc>) -> Duration {
    (time - now).to_std().unwrap_or(Duration::ZERO)
}

/// Server that a request is sent to.
#[derive(Clone, Copy)]
enum RetriedServer {
    /// The host itself. It is down when no response arrives: a request may fail while
    /// others succeed.
    Host,
    /// The host's token server. It serves one purpose, so it is down on any transient failure.
    Tokens,
}

/// Waits of at least this many seconds are logged as warnings.
const LONG_WAIT: u64 = 10;

/// Counts the tries of one request or blob and waits between them.
pub struct Retries {
    host: Arc<HostState>,
    kind: RequestKind,
    server: RetriedServer,
    delays: ExponentialBackoff,
    deadline: Option<Instant>,
    /// Tries so far, the current one included.
    tries: u32,
}

impl Retries {
    /// Returns the state of the first try. `first_delay` is the longest delay before the second
    /// try.
    pub(super) fn new(
        host: Arc<HostState>,
        kind: RequestKind,
        first_delay: Duration,
        deadline: Option<Instant>,
    ) -> Retries {
        let delays = ExponentialBuilder::new()
            .with_min_delay(first_delay)
            .with_max_delay(MAX_DELAY)
            .with_max_times(MAX_TRIES - 1)
            .build();
        Retries {
            host,
            kind,
            server: RetriedServer::Host,
            delays,
            deadline,
            tries: 1,
        }
    }

    /// Returns the same for a request to the host's token server.
    pub(super) fn for_tokens(self) -> Retries {
        Retries {
            server: RetriedServer::Tokens,
            ..self
        }
    }

    /// Waits for the next try. Returns `error` when it is permanent, when this was the last try, or
    /// when the wait would go beyond the run's time limit.
    ///
    /// When the host asks to wait, all requests of the same kind to it wait.
    pub async fn after(&mut self, mut error: Error) -> Result<(), Error> {
        let (retry_after, is_rate_limited) = match &error {
            Error::Refused(response) => (
                response.retry_after,
                response.status == StatusCode::TOO_MANY_REQUESTS,
            ),
            _ => (None, false),
        };
        let next = if error.is_transient() && !self.is_hopeless(&error) {
            self.next(retry_after.unwrap_or_default())
        } else {
            None
        };
        let Some(next) = next else {
            if let Some(outage) = self.outage(&error).filter(|_| error.is_transient()) {
                outage.record_failure();
            }
            error.set_tries(self.tries);
            if let Error::Refused(response) = &mut error {
                let end = retry_after.and_then(|wait| Instant::now().checked_add(wait));
                response.beyond_deadline = end
                    .zip(self.deadline)
                    .is_some_and(|(end, deadline)| end > deadline);
                response.exceeds_limit = retry_after.is_some_and(|wait| wait > MAX_RETRY_AFTER);
            }
            return Err(error);
        };
        if is_rate_limited || retry_after.is_some() {
            self.host.pause(self.kind, next);
        }
        let host = &self.host.origin.name;
        let seconds = next.saturating_duration_since(Instant::now()).as_secs();
        if seconds >= LONG_WAIT {
            // Without a message the run would seem to hang.
            tracing::warn!(%host, seconds, %error, "waiting before the next try");
        } else {
            tracing::debug!(%host, kind = self.kind.0, tries = self.tries, %error, "retrying");
        }
        self.wait_until(next).await;
        Ok(())
    }

    /// Returns true if another try is not worthwhile although the failure is transient.
    fn is_hopeless(&self, error: &Error) -> bool {
        let is_resolution = matches!(error, Error::Connection { source, .. } if source.kind() == FaultKind::NoNames);
        (is_resolution && self.tries >= MAX_RESOLUTION_TRIES)
            || self.outage(error).is_some_and(Outage::is_ongoing)
    }

    /// Returns the outage that a failure counts for, if any.
    fn outage(&self, error: &Error) -> Option<&Outage> {
        match self.server {
            RetriedServer::Host => error.is_without_response().then_some(&self.host.outage),
            RetriedServer::Tokens => {
                let failed = error.is_without_response()
                    || error
                        .status()
                        .is_some_and(|status| status.is_server_error());
                failed.then_some(&self.host.auth.outage)
            }
        }
    }

    /// Waits for the next try after a failure that is not the host's fault. Returns false if this
    /// was the last try.
    pub async fn pause(&mut self) -> bool {
        match self.next(Duration::ZERO) {
            Some(next) => {
                self.wait_until(next).await;
                true
            }
            None => false,
        }
    }

    /// Returns the time of the next try, at least `min_wait` from now; `None` if there is none.
    fn next(&mut self, min_wait: Duration) -> Option<Instant> {
        if min_wait > MAX_RETRY_AFTER {
            return None;
        }
        // Added to the host's wait, so that requests that wait for the same time are not repeated
        // at the same moment.
        let delay = min_wait.checked_add(self.delays.next()?.mul_f64(fastrand::f64()))?;
        let next = Instant::now().checked_add(delay)?;
        self.deadline
            .is_none_or(|deadline| next <= deadline)
            .then_some(next)
    }

    async fn wait_until(&mut self, time: Instant) {
        tokio::time::sleep_until(time.into()).await;
        self.tries += 1;
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderName;

    use super::*;
    use crate::http::Settings;
    use crate::http::fault::Fault;
    use crate::model::Host;

    /// Resolver that fails with this reason.
    struct FailingResolver(&'static str);

    impl reqwest::dns::Resolve for FailingResolver {
        fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
            let reason = format!("failed to lookup address information: {}", self.0);
            Box::pin(async move { Err(reason.into()) })
        }
    }

    #[tokio::test]
    async fn unknown_host_is_tried_once_and_failed_name_resolution_three_times() {
        for (reason, expected) in [
            ("Name or service not known", 1),
            ("Temporary failure in name resolution", 3),
        ] {
            let client = reqwest::Client::builder()
                .no_proxy()
                .tls_certs_only([])
                .dns_resolver(Arc::new(FailingResolver(reason)));
            let client = client.build().expect("a client");
            let url: reqwest::Url = "http://registry.example/".parse().expect("a URL");
            let host: Host = "registry.example".parse().expect("a host");
            let state = Arc::new(HostState::new(&host, &Settings::default()).expect("a host"));
            let mut retries =
                Retries::new(state, RequestKind("test"), Duration::from_millis(1), None);
            let error = loop {
                let sent = client.get(url.clone()).send().await;
                let error = Error::Connection {
                    method: reqwest::Method::GET,
                    url: (&url).into(),
                    tries: 1,
                    source: Fault::new(sent.expect_err("no address")),
                };
                if let Err(error) = retries.after(error).await {
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
            "a date in the past"
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
    fn x_retry_after_is_a_time_or_seconds() {
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
    fn fuzzing_retry_after() {
        let now = DateTime::from_timestamp(1_794_000_000, 0).expect("a time");
        let seeds = [
            "120",
            "Fri, 31 Dec 1999 23:59:59 GMT",
            "Friday, 31-Dec-99 23:59:59 GMT",
            "Fri Dec 31 23:59:59 1999",
            "1794000060",
        ];
        crate::model::fuzz_tests::fuzz("retry after", &seeds, |input| {
            let Ok(value) = HeaderValue::from_bytes(input) else {
                return;
            };
            for name in [RETRY_AFTER, HeaderName::from_static("x-retry-after")] {
                retry_after(&HeaderMap::from_iter([(name, value.clone())]), now);
            }
        });
    }
}
