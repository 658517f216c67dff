//! Test server on loopback: answers as the test defines and records the requests.

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

/// Part of every secret in these tests. No error may contain it.
pub(crate) const SECRET: &str = "hunter2";

/// Request that the server received.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Number of earlier requests.
    pub(crate) index: usize,
}

impl ReceivedRequest {
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

/// Fake server on loopback.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<ReceivedRequest>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn start<R: IntoResponse>(
        answer: impl Fn(&ReceivedRequest) -> R + Send + Sync + 'static,
    ) -> Fake {
        Fake::start_slow(Duration::ZERO, answer).await
    }

    /// Starts a server that answers each request after `delay`.
    pub(crate) async fn start_slow<R: IntoResponse>(
        delay: Duration,
        answer: impl Fn(&ReceivedRequest) -> R + Send + Sync + 'static,
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
        answer: impl Fn(&ReceivedRequest) -> R + Send + Sync + 'static,
    ) -> Fake
    where
        L: axum::serve::Listener,
        L::Addr: std::fmt::Debug,
        R: IntoResponse,
    {
        let requests: Arc<Mutex<Vec<ReceivedRequest>>> = Arc::default();
        let (answer, received) = (Arc::new(answer), Arc::clone(&requests));
        let service = axum::Router::new().fallback(move |request: Request| {
            let (answer, received) = (Arc::clone(&answer), Arc::clone(&received));
            async move { respond(request, &*answer, &received, delay).await }
        });
        let task =
            tokio::spawn(async move { axum::serve(listener, service).await.expect("it serves") });
        Fake {
            address,
            requests,
            task,
        }
    }

    pub(crate) fn host(&self) -> Host {
        self.address.to_string().parse().expect("a host")
    }

    /// Returns the requests so far.
    pub(crate) fn seen(&self) -> Vec<ReceivedRequest> {
        lock(&self.requests).clone()
    }

    /// Returns method and path of each request so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(ReceivedRequest::line).collect()
    }

    /// Returns the number of requests whose path begins with `path`.
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
    answer: &impl Fn(&ReceivedRequest) -> R,
    received: &Mutex<Vec<ReceivedRequest>>,
    delay: Duration,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let seen = {
        let mut received = lock(received);
        let path = parts
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default();
        let seen = ReceivedRequest {
            method: parts.method.to_string(),
            path,
            headers: parts.headers,
            body,
            index: received.len(),
        };
        received.push(seen.clone());
        seen
    };
    tokio::time::sleep(delay).await;
    answer(&seen).into_response()
}

/// Starts a server that reads the beginning of a request, writes `answer`, and closes the
/// connection after `open_for`.
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

/// Same credential for every host.
pub(crate) struct FixedCredential(pub(crate) Credential);

#[async_trait]
impl Credentials for FixedCredential {
    async fn credential(
        &self,
        _: &Host,
        _: Option<&RepositoryPath>,
    ) -> Result<Credential, CredentialError> {
        Ok(self.0.clone())
    }

    async fn source(
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

/// Returns a client that reaches `hosts` over plain HTTP.
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
        Arc::new(FixedCredential(credential)),
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

/// Returns the text of an error, after checking that it contains no secret in any form.
pub(crate) fn shown(error: &(dyn std::error::Error + 'static)) -> String {
    let text = crate::error::chain(error);
    for text in [&text, &format!("{error:?}"), &format!("{error:#?}")] {
        assert!(!text.contains(SECRET), "contains a secret: {text}");
        // "alice:hunter2" in base64
        assert!(
            !text.contains("YWxpY2U6aHVudGVyMg"),
            "contains a secret: {text}"
        );
    }
    text
}
