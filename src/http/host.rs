//! State of one host during a run: its authentication, its limits, its pauses.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use reqwest::Url;
use reqwest::header::{AGE, DATE, HeaderMap};

use super::auth::Auth;
use super::error::Error;
use super::origin::HostOrigin;
use super::outage::Outage;
use super::permits::{ConnectionPermit, ConnectionPermits, ConnectionUse};
use super::quota::{Quota, QuotaStatus};
use super::rate_limit::RateLimiter;
use super::request::{RequestKind, RequestTarget};
use super::settings::{HostRules, Settings};
use crate::credentials::variable_prefix;
use crate::model::Host;
use crate::model::lock::lock;

/// Maximum random delay after a pause, so that the requests that waited do not arrive at once.
const MAX_SPREAD: Duration = Duration::from_secs(1);

/// State of a host during a run.
pub(super) struct HostState {
    pub(super) origin: HostOrigin,
    pub(super) rules: HostRules,
    pub(super) auth: Auth,
    permits: ConnectionPermits,
    limiter: Option<RateLimiter>,
    quota: Quota,
    /// Ends of the pauses that the host asked for, by kind of request.
    pauses: Mutex<HashMap<RequestKind, Instant>>,
    /// Seconds by which the host's clock is ahead of this machine's, by its last response.
    clock_offset: Mutex<Option<i64>>,
    /// Counts the requests without a response after all tries.
    pub(super) outage: Outage,
}

impl HostState {
    /// Returns the state of a host before the first request. Fails when the host's endpoint is not
    /// an `http` or `https` URL.
    pub(super) fn new(name: &Host, settings: &Settings) -> Result<HostState, Error> {
        let rules = settings.hosts.get(name).cloned().unwrap_or_default();
        let origin = HostOrigin::new(name, &rules, settings)?;
        if rules.tls.insecure_skip_verify {
            tracing::warn!(host = %name, "certificates are not verified (insecure_skip_verify): anyone on the network can read and change the traffic");
        }
        let connections = rules.max_connections.unwrap_or(settings.connections);
        Ok(HostState {
            permits: ConnectionPermits::new(connections),
            limiter: rules.requests_per_second.and_then(RateLimiter::per_second),
            quota: Quota::default(),
            origin,
            rules,
            auth: Auth::new(connections),
            pauses: Mutex::default(),
            clock_offset: Mutex::default(),
            outage: Outage::default(),
        })
    }

    /// Returns the URL of a target.
    pub(super) fn url(&self, target: &RequestTarget) -> Result<Url, Error> {
        match target {
            RequestTarget::Url(url) => Ok(url.clone()),
            RequestTarget::Path(path) => {
                let base = &self.origin.base;
                let text = format!("{}{path}", base.as_str().trim_end_matches('/'));
                Url::parse(&text).map_err(|error| Error::Malformed {
                    url: base.into(),
                    problem: error.to_string(),
                })
            }
        }
    }

    /// Pauses requests of `kind` until `end`.
    pub(super) fn pause(&self, kind: RequestKind, end: Instant) {
        let mut pauses = lock(&self.pauses);
        let latest = pauses.entry(kind).or_insert(end);
        *latest = (*latest).max(end);
    }

    /// Waits for pause and rate limit, for a request of `kind` that has a connection permit or
    /// needs none.
    pub(super) async fn wait_to_send(&self, kind: RequestKind) {
        self.wait_for_pause(kind).await;
        if let Some(limiter) = &self.limiter {
            limiter.wait().await;
        }
    }

    /// Waits until a request of `kind` may be sent, and for a connection permit.
    ///
    /// No permit is held during a pause, since requests of other kinds need it. The rate limit is
    /// waited for with a permit: slots reserved while waiting for a permit would be used all at
    /// once.
    pub(super) async fn acquire(
        &self,
        kind: RequestKind,
        connection_use: ConnectionUse,
    ) -> ConnectionPermit {
        loop {
            self.wait_for_pause(kind).await;
            let permit = self.permits.acquire(connection_use).await;
            if self.pause_end(kind).is_none() {
                if let Some(limiter) = &self.limiter {
                    limiter.wait().await;
                }
                return permit;
            }
        }
    }

    /// Waits until the pause of `kind` is over, and a random time longer, up to [`MAX_SPREAD`].
    async fn wait_for_pause(&self, kind: RequestKind) {
        while let Some(end) = self.pause_end(kind) {
            tokio::time::sleep_until((end + MAX_SPREAD.mul_f64(fastrand::f64())).into()).await;
        }
    }

    fn pause_end(&self, kind: RequestKind) -> Option<Instant> {
        let end = lock(&self.pauses).get(&kind).copied();
        end.filter(|end| *end > Instant::now())
    }

    /// Records the difference of the clocks from the headers of a response that arrived at `now`.
    ///
    /// A response from a cache has the time at which the cache got it, and its age since then (RFC
    /// 9111, section 4.2.3).
    pub(super) fn update_clock(&self, headers: &HeaderMap, now: DateTime<Utc>) {
        if let Some(offset) = clock_offset(headers, now) {
            *lock(&self.clock_offset) = Some(offset);
        }
    }

    /// Returns the seconds by which the host's clock is ahead of this machine's; `None` if no
    /// response had a valid `Date`.
    pub(super) fn clock_offset(&self) -> Option<i64> {
        *lock(&self.clock_offset)
    }

    /// Waits until a request that uses the host's quota may be sent.
    pub(super) async fn wait_for_quota(&self) {
        if let Some(limiter) = self.quota.limiter() {
            limiter.wait().await;
        }
    }

    /// Updates the host's quota from the headers of a response.
    pub(super) fn update_quota(&self, headers: &HeaderMap) {
        let Some(status) = QuotaStatus::read(headers) else {
            return;
        };
        if self.quota.update(status) {
            let prefix = variable_prefix(&self.origin.credential_host);
            tracing::warn!(
                host = %self.origin.name,
                remaining = status.remaining,
                limit = status.limit,
                "the host's quota is low, so manifests are read slowly from now on; set {prefix}_USERNAME and {prefix}_PASSWORD for a higher quota, or run less often",
            );
        }
    }
}

/// Returns the seconds by which the clock of the sender is ahead of `now`.
pub(super) fn clock_offset(headers: &HeaderMap, now: DateTime<Utc>) -> Option<i64> {
    let text = |name| headers.get(name)?.to_str().ok();
    let date = DateTime::parse_from_rfc2822(text(DATE)?).ok()?.to_utc();
    let age: i64 = text(AGE)
        .and_then(|age| age.trim().parse::<u32>().ok())
        .unwrap_or_default()
        .into();
    Some((date - now).num_seconds() + age)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(name: &str, endpoint: Option<&str>, path: &str) -> String {
        let name: Host = name.parse().expect("a host");
        let rules = HostRules {
            endpoint: endpoint.map(|text| text.parse().expect("a URL")),
            ..HostRules::default()
        };
        let settings = Settings {
            hosts: [(name.clone(), rules)].into(),
            ..Settings::default()
        };
        let state = HostState::new(&name, &settings).expect("a host");
        let target = RequestTarget::Path(path.to_owned());
        state.url(&target).expect("a URL").to_string()
    }

    #[test]
    fn clock_offset_counts_the_age_of_cached_responses() {
        let now = DateTime::UNIX_EPOCH + chrono::TimeDelta::hours(1);
        for (date, age, expected) in [
            (Some("Thu, 01 Jan 1970 01:00:00 GMT"), None, Some(0)),
            (Some("Thu, 01 Jan 1970 00:00:00 GMT"), None, Some(-3600)),
            (
                Some("Thu, 01 Jan 1970 00:00:00 GMT"),
                Some("3599"),
                Some(-1),
            ),
            (
                Some("Thu, 01 Jan 1970 02:00:00 GMT"),
                Some("old"),
                Some(3600),
            ),
            (Some("yesterday"), None, None),
            (None, Some("5"), None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [(DATE, date), (AGE, age)] {
                if let Some(value) = value {
                    headers.insert(name, value.parse().expect("a value"));
                }
            }
            assert_eq!(clock_offset(&headers, now), expected, "{date:?} {age:?}");
        }
    }

    #[test]
    fn url_is_below_the_base_url() {
        assert_eq!(url("r.example", None, "/v2/a"), "https://r.example/v2/a");
        assert_eq!(
            url("docker.io", None, "/v2/a"),
            "https://registry-1.docker.io/v2/a"
        );
        assert_eq!(
            url("docker.io", Some("http://cache:5000/hub/"), "/v2/a"),
            "http://cache:5000/hub/v2/a"
        );
    }
}
