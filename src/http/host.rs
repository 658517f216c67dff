//! What the client keeps of one host during a run: its address, its limits, its pauses.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Url;
use reqwest::header::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::auth::Auth;
use super::error::Error;
use super::quota::{Quota, Standing};
use super::request::{Kind, Target};
use super::retry::Outage;
use super::settings::{HostRules, Settings};
use crate::credentials::variable_prefix;
use crate::model::Host;
use crate::model::lock::lock;

/// Where Docker Hub's registry is; its name is that of the web site.
const DOCKER_HUB_API: &str = "https://registry-1.docker.io";

/// Within how much time those come back that a host asked to wait.
const LONGEST_MOMENT: Duration = Duration::from_secs(1);

/// A host as this run came to know it.
pub(super) struct HostState {
    /// The host as references name it.
    pub(super) name: Host,
    /// The host that credentials are looked up for: that of the endpoint, where one is set.
    pub(super) credential_host: Host,
    pub(super) base: Url,
    pub(super) rules: HostRules,
    pub(super) auth: Auth,
    permits: Permits,
    pace: Option<Pace>,
    quota: Quota,
    /// Until when no request of a kind is sent, since the host asked for that.
    holds: Mutex<HashMap<Kind, Instant>>,
    /// Counts the requests that spent all their tries without an answer. Until it answers, requests
    /// are tried once.
    pub(super) silence: Outage,
}

impl HostState {
    pub(super) fn new(name: &Host, settings: &Settings) -> Result<HostState, Error> {
        let rules = settings.hosts.get(name).cloned().unwrap_or_default();
        let address = match &rules.endpoint {
            Some(endpoint) => endpoint.to_string(),
            None if name.is_docker_hub() => DOCKER_HUB_API.to_owned(),
            None if settings.insecure.contains(name) => format!("http://{name}"),
            None => format!("https://{name}"),
        };
        let base = Url::parse(&address)
            .ok()
            .filter(|base| matches!(base.scheme(), "http" | "https"));
        let base = base.ok_or_else(|| Error::Address { host: name.clone() })?;
        if rules.tls.insecure_skip_verify {
            tracing::warn!(host = %name, "certificates are not verified (insecure_skip_verify): anybody in between can read and change what is sent");
        }
        let connections = rules.max_connections.unwrap_or(settings.connections);
        Ok(HostState {
            permits: Permits::new(connections),
            pace: rules.requests_per_second.and_then(Pace::new),
            quota: Quota::default(),
            name: name.clone(),
            credential_host: rules.login_host(name),
            base,
            rules,
            auth: Auth::new(connections),
            holds: Mutex::default(),
            silence: Outage::default(),
        })
    }

    /// Returns the address of a target.
    pub(super) fn url(&self, target: &Target) -> Result<Url, Error> {
        match target {
            Target::Url(url) => Ok(url.clone()),
            Target::Path(path) => {
                let text = format!("{}{path}", self.base.as_str().trim_end_matches('/'));
                Url::parse(&text).map_err(|error| Error::Malformed {
                    url: (&self.base).into(),
                    problem: error.to_string(),
                })
            }
        }
    }

    /// Returns whether an address is of the origin (scheme, host, port) that the host's credential
    /// may go to.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Lets requests of `kind` wait until `until`.
    pub(super) fn hold(&self, kind: Kind, until: Instant) {
        let mut holds = lock(&self.holds);
        let held = holds.entry(kind).or_insert(until);
        *held = (*held).max(until);
    }

    /// Waits until a request of `kind` may be sent, for one that has a place among the connections
    /// already or needs none.
    pub(super) async fn turn(&self, kind: Kind) {
        self.release(kind).await;
        if let Some(pace) = &self.pace {
            pace.turn().await;
        }
    }

    /// Waits until a request of `kind` may be sent, and for a place among the host's connections.
    /// While the host holds up the kind no place is taken, since other kinds need it; the pace is
    /// waited for with a place, since turns that were had while waiting for one would be taken all
    /// at once.
    pub(super) async fn place_and_turn(&self, kind: Kind, class: Class) -> Permit {
        loop {
            self.release(kind).await;
            let permit = self.permits.acquire(class).await;
            if self.held_until(kind).is_none() {
                if let Some(pace) = &self.pace {
                    pace.turn().await;
                }
                return permit;
            }
        }
    }

    /// Waits until the host no longer holds up requests of `kind`, and a moment longer: all that
    /// wait would come at once.
    async fn release(&self, kind: Kind) {
        while let Some(until) = self.held_until(kind) {
            tokio::time::sleep_until((until + LONGEST_MOMENT.mul_f64(fastrand::f64())).into())
                .await;
        }
    }

    fn held_until(&self, kind: Kind) -> Option<Instant> {
        let until = lock(&self.holds).get(&kind).copied();
        until.filter(|until| *until > Instant::now())
    }

    /// Waits until a request that the host counts against a quota may be sent.
    pub(super) async fn counted_turn(&self) {
        if let Some(pace) = self.quota.pace() {
            pace.turn().await;
        }
    }

    /// Takes in what an answer tells of the host's quota.
    pub(super) fn note_quota(&self, headers: &HeaderMap) {
        let Some(standing) = Standing::read(headers) else {
            return;
        };
        if self.quota.note(standing) {
            let prefix = variable_prefix(&self.credential_host);
            tracing::warn!(
                host = %self.name,
                remaining = standing.remaining,
                limit = standing.limit,
                "the host lets few more manifests be read, so that is done slowly from here on; log in ({prefix}_USERNAME, {prefix}_PASSWORD) for a higher limit, or run less often",
            );
        }
    }
}

/// What a connection is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A request that ends by itself: everything read whole, and uploads.
    Exchange,
    /// Content that is read as fast as somebody else, usually an upload, takes it.
    Download,
}

/// Bounds the connections to one host, such that copies cannot block each other.
///
/// A copy holds a download while its upload waits for a connection, so downloads that took all of a
/// host's connections would wait for ever: for uploads to the same host, or, in copies both ways
/// between two hosts, for each other. Therefore downloads leave one connection free, which only
/// goes to requests that end without taking another. (An upload's content must be open before the
/// upload is sent. When it is opened again within the upload, since its connection broke, it keeps
/// the place that it has: it never waits for one, so to everybody else it looks like a download
/// that is slow.) Who has a connection waits for the host's pace and for one request that finds out
/// whether a login is right, and whoever they wait for has what it needs. Tokens are got before a
/// connection is taken, over others. A limit of 1 counts as 2.
struct Permits {
    all: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
}

/// A place among a host's connections, free again when its last clone is dropped.
#[derive(Clone)]
pub(super) struct Permit {
    _held: Arc<Held>,
}

struct Held {
    _connection: Option<OwnedSemaphorePermit>,
    _download: Option<OwnedSemaphorePermit>,
}

impl Permits {
    fn new(limit: usize) -> Permits {
        let limit = limit.clamp(2, 1024);
        Permits {
            all: Arc::new(Semaphore::new(limit)),
            downloads: Arc::new(Semaphore::new(limit - 1)),
        }
    }

    async fn acquire(&self, class: Class) -> Permit {
        // The semaphores are never closed, so there is always a permit in the end.
        let download = match class {
            Class::Download => Arc::clone(&self.downloads).acquire_owned().await.ok(),
            Class::Exchange => None,
        };
        let connection = Arc::clone(&self.all).acquire_owned().await.ok();
        Permit {
            _held: Arc::new(Held {
                _connection: connection,
                _download: download,
            }),
        }
    }
}

/// Spreads requests evenly.
pub(super) struct Pace {
    interval: Duration,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    fn new(per_second: f64) -> Option<Pace> {
        Duration::try_from_secs_f64(1.0 / per_second)
            .ok()
            .map(Pace::every)
    }

    pub(super) fn every(interval: Duration) -> Pace {
        Pace {
            interval,
            next: Mutex::new(None),
        }
    }

    #[cfg(test)]
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    async fn turn(&self) {
        let turn = {
            let mut next = lock(&self.next);
            let now = Instant::now();
            let turn = next.map_or(now, |next| next.max(now));
            *next = Some(turn + self.interval);
            turn
        };
        tokio::time::sleep_until(turn.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(host: &str, rules: HostRules) -> (Host, Settings) {
        let host: Host = host.parse().expect("a host");
        (
            host.clone(),
            Settings {
                hosts: [(host, rules)].into(),
                ..Settings::default()
            },
        )
    }

    fn address(host: &str, endpoint: Option<&str>, insecure: bool) -> (String, String) {
        let endpoint = endpoint.map(|text| text.parse().expect("a URL"));
        let (host, mut settings) = settings(
            host,
            HostRules {
                endpoint,
                ..HostRules::default()
            },
        );
        if insecure {
            settings.insecure.insert(host.clone());
        }
        let state = HostState::new(&host, &settings).expect("a host");
        (
            state
                .url(&Target::Path("/v2/a".to_owned()))
                .expect("a URL")
                .to_string(),
            state.credential_host.to_string(),
        )
    }

    #[test]
    fn requests_go_where_the_host_is() {
        let pair = |url: &str, host: &str| (url.to_owned(), host.to_owned());
        assert_eq!(
            address("r.example", None, false),
            pair("https://r.example/v2/a", "r.example")
        );
        assert_eq!(
            address("localhost:5000", None, false),
            pair("https://localhost:5000/v2/a", "localhost:5000")
        );
        assert_eq!(
            address("localhost:5000", None, true),
            pair("http://localhost:5000/v2/a", "localhost:5000")
        );
        assert_eq!(
            address("docker.io", None, false),
            pair("https://registry-1.docker.io/v2/a", "docker.io")
        );
        assert_eq!(
            address("docker.io", Some("http://cache:5000/hub/"), false),
            pair("http://cache:5000/hub/v2/a", "cache:5000")
        );
        assert_eq!(
            address("docker.io", Some("https://registry-1.docker.io:443"), false).1,
            "docker.io"
        );
    }

    #[test]
    fn an_endpoint_that_is_no_web_address_is_an_error() {
        let (host, settings) = settings(
            "r.example",
            HostRules {
                endpoint: Some("ftp://x".parse().expect("a URL")),
                ..HostRules::default()
            },
        );
        assert!(HostState::new(&host, &settings).is_err());
    }

    #[tokio::test]
    async fn downloads_leave_a_connection_for_an_upload() {
        for limit in [1, 2, 5] {
            let permits = Permits::new(limit);
            let mut held = Vec::new();
            for _ in 0..(limit.max(2) - 1) {
                held.push(permits.acquire(Class::Download).await);
            }
            let waits =
                tokio::time::timeout(Duration::from_millis(20), permits.acquire(Class::Download))
                    .await;
            assert!(
                waits.is_err(),
                "one download too many with a limit of {limit}"
            );
            let upload =
                tokio::time::timeout(Duration::from_secs(5), permits.acquire(Class::Exchange))
                    .await;
            assert!(upload.is_ok(), "no upload with a limit of {limit}");
            let second =
                tokio::time::timeout(Duration::from_millis(20), permits.acquire(Class::Exchange))
                    .await;
            assert!(second.is_err(), "more connections than {limit}");
        }
    }

    #[tokio::test]
    async fn a_pace_spreads_requests() {
        let pace = Pace::new(100.0).expect("a pace");
        let began = Instant::now();
        for _ in 0..6 {
            pace.turn().await;
        }
        assert!(began.elapsed() >= Duration::from_millis(50));
    }
}
