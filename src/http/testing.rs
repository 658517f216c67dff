//! A server on loopback that answers as a test says and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chrono::DateTime;
use reqwest::header::{AUTHORIZATION, HOST, HeaderMap};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Client, HostRules, Settings};
use crate::credentials::{Credential, CredentialError, Credentials};
use crate::model::lock::lock;
use crate::model::{Clock, Host, RepositoryPath, Secret};

/// What every secret in these tests contains, and no error may.
pub(crate) const SECRET: &str = "hunter2";

/// A request as a server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// How many requests came before it.
    pub(crate) index: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|value| value.to_str().expect("text"))
    }

    pub(crate) fn authorization(&self) -> Option<&str> {
        self.header(AUTHORIZATION.as_str())
    }

    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub(crate) fn server(&self) -> &str {
        self.header(HOST.as_str()).expect("a host")
    }
}

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn start<R: IntoResponse>(
        answer: impl Fn(&Seen) -> R + Send + Sync + 'static,
    ) -> Fake {
        Fake::start_slow(Duration::ZERO, answer).await
    }

    /// Starts a server that takes `delay` for each answer.
    pub(crate) async fn start_slow<R: IntoResponse>(
        delay: Duration,
        answer: impl Fn(&Seen) -> R + Send + Sync + 'static,
    ) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        Fake::serve(listener, address, delay, answer)
    }

    /// Starts a server on `listener`, which listens at `address`.
    pub(crate) fn serve<L, R>(
        listener: L,
        address: SocketAddr,
        delay: Duration,
        answer: impl Fn(&Seen) -> R + Send + Sync + 'static,
    ) -> Fake
    where
        L: axum::serve::Listener,
        L::Addr: std::fmt::Debug,
        R: IntoResponse,
    {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (answer, known) = (Arc::new(answer), Arc::clone(&seen));
        let service = axum::Router::new().fallback(move |request: Request| {
            let (answer, known) = (Arc::clone(&answer), Arc::clone(&known));
            async move { respond(request, &*answer, &known, delay).await }
        });
        let task =
            tokio::spawn(async move { axum::serve(listener, service).await.expect("it serves") });
        Fake {
            address,
            seen,
            task,
        }
    }

    pub(crate) fn host(&self) -> Host {
        self.address.to_string().parse().expect("a host")
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }

    /// Returns how many requests had a path that begins like this.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.seen()
            .iter()
            .filter(|seen| seen.path.starts_with(path))
            .count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn respond<R: IntoResponse>(
    request: Request,
    answer: &impl Fn(&Seen) -> R,
    known: &Mutex<Vec<Seen>>,
    delay: Duration,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let seen = {
        let mut known = lock(known);
        let path = parts
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default();
        let seen = Seen {
            method: parts.method.to_string(),
            path,
            headers: parts.headers,
            body,
            index: known.len(),
        };
        known.push(seen.clone());
        seen
    };
    tokio::time::sleep(delay).await;
    answer(&seen).into_response()
}

/// Starts a server that reads the beginning of a request, writes `answer` as it is, and closes.
/// Counts nothing, checks nothing.
pub(crate) async fn raw_server(answer: &'static [u8], open_for: Duration) -> Host {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                drop(socket.read(&mut buffer).await);
                drop(socket.write_all(answer).await);
                tokio::time::sleep(open_for).await;
            });
        }
    });
    address.to_string().parse().expect("a host")
}

/// The same credential for every host.
pub(crate) struct Always(pub(crate) Credential);

#[async_trait]
impl Credentials for Always {
    async fn credential(
        &self,
        _: &Host,
        _: Option<&RepositoryPath>,
    ) -> Result<Credential, CredentialError> {
        Ok(self.0.clone())
    }

    async fn origin(
        &self,
        _: &Host,
        _: Option<&RepositoryPath>,
    ) -> Result<Option<String>, CredentialError> {
        Ok(Some("the test".to_owned()))
    }
}

pub(crate) fn basic() -> Credential {
    Credential::Basic {
        username: "alice".to_owned(),
        password: Secret::new(SECRET),
    }
}

pub(crate) fn quick() -> Settings {
    Settings {
        retry_delay: Duration::from_millis(1),
        ..Settings::default()
    }
}

/// Returns a client that speaks to `hosts` over plain HTTP.
pub(crate) fn client<'a>(
    hosts: impl IntoIterator<Item = &'a Host>,
    credential: Credential,
) -> Client {
    client_with(quick(), hosts, credential)
}

pub(crate) fn client_with<'a>(
    mut settings: Settings,
    hosts: impl IntoIterator<Item = &'a Host>,
    credential: Credential,
) -> Client {
    settings.insecure.extend(hosts.into_iter().cloned());
    let now = DateTime::parse_from_rfc3339("2026-11-06T08:49:37Z").expect("a time");
    Client::new(
        settings,
        Arc::new(Always(credential)),
        Clock::fixed(now.to_utc()),
    )
}

pub(crate) fn limited(host: &Host, max_connections: usize) -> Settings {
    let rules = HostRules {
        max_connections: Some(max_connections),
        ..HostRules::default()
    };
    Settings {
        hosts: [(host.clone(), rules)].into(),
        ..quick()
    }
}

/// Returns all that can be shown of an error, after checking that no secret is in it.
pub(crate) fn shown(error: &(dyn std::error::Error + 'static)) -> String {
    let text = crate::error::chain(error);
    for text in [&text, &format!("{error:?}"), &format!("{error:#?}")] {
        assert!(!text.contains(SECRET), "a secret is shown: {text}");
        // "alice:hunter2" as Basic has it
        assert!(
            !text.contains("YWxpY2U6aHVudGVyMg"),
            "a secret is shown: {text}"
        );
    }
    text
}
