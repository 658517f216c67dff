//! Tests of broken uploads, with a fake registry that keeps sessions and gives wrong responses.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::net::TcpListener;

use super::registries::RemoteRegistries;
use super::tests::{descriptor, repository, shown_as};
use crate::credentials::Credential;
use crate::error::{ItemError, ItemErrorKind};
use crate::http::Settings;
use crate::http::testing::{basic, client_with, quick, shown};
use crate::model::{Digest, Host};
use crate::registry::InMemory;
use crate::registry::blob::{BlobContent, BlobPut, BlobStream};
use crate::registry::store::ImageStore;

const CONTENT: &[u8] = b"some content of a layer that is sent in parts";
const PART_SIZE: u64 = 10;

/// Fault of a request.
#[derive(Clone, Copy)]
enum UploadFault {
    /// The connection breaks after this number of bytes, which are kept.
    Cut(usize),
    /// The connection breaks within the body; nothing of it is kept.
    CutAndDropped,
    /// The connection breaks before the response.
    ResponseLost,
    Status(u16),
    /// The body is kept with a wrong byte.
    Garbled,
    /// The token is rejected from now on.
    TokenExpired,
    /// There is no response.
    Stall,
}

#[derive(Clone, Copy)]
enum ReportedRange {
    Right,
    Is(&'static str),
}

/// Behaviour of a registry.
#[derive(Clone)]
struct Behaviour {
    /// Faults of requests with a method, in order.
    faults: VecDeque<(&'static str, UploadFault)>,
    range: ReportedRange,
    minimum: Option<u64>,
    /// True if a location is only valid at the offset that it was returned for, as with
    /// docker-registry 2.8.
    strict_locations: bool,
    absolute_locations: bool,
    part_status: u16,
    requires_tokens: bool,
}

struct ServerState {
    behaviour: Behaviour,
    sessions: Vec<Option<Vec<u8>>>,
    stored: Option<Vec<u8>>,
    lines: Vec<String>,
    token: usize,
}

struct UploadServer {
    host: Host,
    state: Arc<Mutex<ServerState>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for UploadServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn behaviour(faults: &[(&'static str, UploadFault)]) -> Behaviour {
    Behaviour {
        faults: faults.iter().copied().collect(),
        range: ReportedRange::Right,
        minimum: None,
        strict_locations: false,
        absolute_locations: false,
        part_status: 202,
        requires_tokens: false,
    }
}

impl UploadServer {
    async fn start(behaviour: Behaviour) -> UploadServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let host: Host = listener
            .local_addr()
            .expect("an address")
            .to_string()
            .parse()
            .expect("a host");
        let state = ServerState {
            behaviour,
            sessions: Vec::new(),
            stored: None,
            lines: Vec::new(),
            token: 1,
        };
        let state = Arc::new(Mutex::new(state));
        let (shared, name) = (Arc::clone(&state), host.clone());
        let service = axum::Router::new().fallback(move |request: Request| {
            let (state, name) = (Arc::clone(&shared), name.clone());
            async move { respond(request, &state, &name).await }
        });
        let task =
            tokio::spawn(async move { axum::serve(listener, service).await.expect("it serves") });
        UploadServer { host, state, task }
    }

    fn lines(&self) -> Vec<String> {
        self.state.lock().expect("the lock").lines.clone()
    }

    fn stored(&self) -> Option<Vec<u8>> {
        self.state.lock().expect("the lock").stored.clone()
    }

    /// Returns the number of sessions that were neither finished nor cancelled.
    fn open_sessions(&self) -> usize {
        self.state
            .lock()
            .expect("the lock")
            .sessions
            .iter()
            .flatten()
            .count()
    }

    async fn put(&self, content: &dyn BlobContent) -> Result<BlobPut, ItemError> {
        let credential = if self
            .state
            .lock()
            .expect("the lock")
            .behaviour
            .requires_tokens
        {
            basic()
        } else {
            Credential::Anonymous
        };
        let settings = Settings {
            stall: Duration::from_millis(100),
            ..quick()
        };
        let client = Arc::new(client_with(settings, [&self.host], credential));
        let mut registry = RemoteRegistries::new(client);
        registry.part = PART_SIZE;
        registry
            .put_blob(
                &repository(&self.host, "a"),
                &descriptor(CONTENT),
                content,
                None,
            )
            .await
    }
}

/// Closes the connection without a response.
fn break_connection() -> ! {
    std::panic::resume_unwind(Box::new(()))
}

async fn read_body(body: Body, max: usize) -> Vec<u8> {
    let mut content = Vec::new();
    let mut stream = body.into_data_stream();
    while content.len() < max
        && let Some(Ok(chunk)) = stream.next().await
    {
        content.extend(chunk);
    }
    content.truncate(max);
    content
}

async fn respond(request: Request, state: &Mutex<ServerState>, host: &Host) -> Response {
    let (parts, body) = request.into_parts();
    let header = |name: &str| {
        parts
            .headers
            .get(name)
            .map(|value| value.to_str().expect("text").to_owned())
    };
    let method = parts.method.as_str();
    let path = parts.uri.path();
    let (fault, challenge) = {
        let mut state = state.lock().expect("the lock");
        if path == "/token" {
            return format!(r#"{{"token":"t{}"}}"#, state.token).into_response();
        }
        let fault = match state.behaviour.faults.front() {
            Some((wanted, fault)) if *wanted == method => Some(*fault),
            _ => None,
        };
        if fault.is_some() {
            state.behaviour.faults.pop_front();
        }
        if matches!(fault, Some(UploadFault::TokenExpired)) {
            state.token += 1;
        }
        let right = header("authorization") == Some(format!("Bearer t{}", state.token));
        let challenge = state.behaviour.requires_tokens && !right;
        if !challenge || fault.is_some() {
            let range = header("content-range")
                .map(|range| format!(" {range}"))
                .unwrap_or_default();
            let session = path.strip_prefix("/u/").unwrap_or_default();
            state
                .lines
                .push(format!("{method} {session}{range}").trim().to_owned());
        }
        (fault, challenge)
    };
    if challenge {
        return (
            StatusCode::UNAUTHORIZED,
            [(
                "www-authenticate",
                format!(r#"Bearer realm="http://{host}/token""#),
            )],
        )
            .into_response();
    }
    let mut content = match fault {
        Some(UploadFault::Cut(length)) => read_body(body, length).await,
        Some(UploadFault::CutAndDropped) => {
            read_body(body, 1).await;
            break_connection();
        }
        Some(UploadFault::Status(status)) => {
            read_body(body, usize::MAX).await;
            if status == 404 {
                state
                    .lock()
                    .expect("the lock")
                    .sessions
                    .last_mut()
                    .map(Option::take);
            }
            return StatusCode::from_u16(status)
                .expect("a status")
                .into_response();
        }
        Some(UploadFault::Stall) => std::future::pending().await,
        _ => read_body(body, usize::MAX).await,
    };
    if matches!(fault, Some(UploadFault::Garbled)) {
        content[0] ^= 1;
    }
    let answer = state.lock().expect("the lock").act(
        method,
        &parts.uri,
        header("content-range"),
        content,
        host,
        fault,
    );
    if matches!(fault, Some(UploadFault::Cut(_) | UploadFault::ResponseLost)) {
        break_connection();
    }
    answer
}

impl ServerState {
    fn act(
        &mut self,
        method: &str,
        uri: &axum::http::Uri,
        range: Option<String>,
        content: Vec<u8>,
        host: &Host,
        fault: Option<UploadFault>,
    ) -> Response {
        let behaviour = self.behaviour.clone();
        let location = |index: usize, length: usize| {
            let base = if behaviour.absolute_locations {
                format!("http://{host}")
            } else {
                String::new()
            };
            ("location", format!("{base}/u/{index}?at={length}&x=a%2Bb"))
        };
        if method == "POST" {
            self.sessions.push(Some(Vec::new()));
            let mut answer =
                (StatusCode::ACCEPTED, [location(self.sessions.len() - 1, 0)]).into_response();
            if let Some(minimum) = behaviour.minimum {
                answer
                    .headers_mut()
                    .insert("oci-chunk-min-length", minimum.into());
            }
            return answer;
        }
        if method == "HEAD" {
            return self.stored.clone().map_or(
                StatusCode::NOT_FOUND.into_response(),
                IntoResponse::into_response,
            );
        }
        let index: usize = uri.path()["/u/".len()..].parse().expect("a session");
        let query = uri.query().unwrap_or_default().to_owned();
        let Some(session) = &mut self.sessions[index] else {
            return StatusCode::NOT_FOUND.into_response();
        };
        assert!(query.contains("&x=a%2Bb"), "the query was changed: {query}");
        if behaviour.strict_locations && !query.starts_with(&format!("at={}&", session.len())) {
            self.sessions[index] = None;
            return StatusCode::NOT_FOUND.into_response();
        }
        match method {
            "GET" | "PATCH" => {
                if let Some(range) = range {
                    let first: usize = range
                        .split('-')
                        .next()
                        .and_then(|first| first.parse().ok())
                        .expect("a range");
                    if first != session.len() {
                        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
                    }
                    assert!(
                        fault.is_some()
                            || range == format!("{first}-{}", first + content.len() - 1)
                    );
                }
                session.extend(content);
                let range = match behaviour.range {
                    ReportedRange::Right => format!("0-{}", session.len().saturating_sub(1)),
                    ReportedRange::Is(text) => text.to_owned(),
                };
                let status = if method == "GET" {
                    204
                } else {
                    behaviour.part_status
                };
                let status = StatusCode::from_u16(status).expect("a status");
                (status, [location(index, session.len()), ("range", range)]).into_response()
            }
            "PUT" => {
                session.extend(content);
                if matches!(fault, Some(UploadFault::Cut(_))) {
                    return StatusCode::OK.into_response();
                }
                let Some(content) = self.sessions[index].take() else {
                    return StatusCode::NOT_FOUND.into_response();
                };
                if !query.ends_with(&format!(
                    "&digest=sha256%3A{}",
                    Digest::sha256(&content).hex()
                )) {
                    return (
                        StatusCode::BAD_REQUEST,
                        r#"{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}"#,
                    )
                        .into_response();
                }
                self.stored = Some(content);
                StatusCode::CREATED.into_response()
            }
            "DELETE" => {
                self.sessions[index] = None;
                StatusCode::NO_CONTENT.into_response()
            }
            _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        }
    }
}

/// Content in small chunks that records the offsets at which it was opened.
#[derive(Default)]
struct ChunkedContent {
    opened: Mutex<Vec<u64>>,
}

#[async_trait]
impl BlobContent for ChunkedContent {
    async fn open(&self, from_offset: u64) -> Result<BlobStream, ItemError> {
        self.opened.lock().expect("the lock").push(from_offset);
        let rest = &CONTENT[usize::try_from(from_offset).expect("an offset")..];
        Ok(
            futures_util::stream::iter(rest.chunks(7).map(|chunk| Ok(Bytes::from_static(chunk))))
                .boxed(),
        )
    }
}

/// Uploads to a registry with this behaviour, checks the result, and returns the requests and the
/// offsets at which the content was opened.
async fn uploaded(behaviour: Behaviour) -> (Vec<String>, Vec<u64>) {
    let server = UploadServer::start(behaviour).await;
    let content = ChunkedContent::default();
    let put = tokio::time::timeout(Duration::from_secs(30), server.put(&content))
        .await
        .expect("it ends");
    assert_eq!(
        put.map_err(|error| shown(&error)),
        Ok(BlobPut::Uploaded),
        "{:?}",
        server.lines()
    );
    assert_eq!(server.stored().as_deref(), Some(CONTENT));
    assert_eq!(server.open_sessions(), 0, "{:?}", server.lines());
    (
        server.lines(),
        content.opened.into_inner().expect("the lock"),
    )
}

fn lines(text: &str) -> Vec<String> {
    text.split(", ").map(str::to_owned).collect()
}

#[tokio::test]
async fn broken_upload_continues_in_parts_at_the_offset_of_the_registry() {
    for absolute_locations in [false, true] {
        let behaviour = Behaviour {
            absolute_locations,
            ..behaviour(&[("PUT", UploadFault::Cut(23))])
        };
        let (requests, opened) = uploaded(behaviour).await;
        assert_eq!(
            requests,
            lines("POST, PUT 0, GET 0, PATCH 0 23-32, PATCH 0 33-42, PATCH 0 43-44, PUT 0")
        );
        assert_eq!(opened, [0, 20], "at most one part is read again");
    }
}

#[tokio::test]
async fn upload_continues_in_parts_after_temporary_errors() {
    for fault in [
        UploadFault::CutAndDropped,
        UploadFault::Status(500),
        UploadFault::Status(503),
        UploadFault::Status(429),
        UploadFault::Stall,
    ] {
        let (requests, _) = uploaded(behaviour(&[("PUT", fault)])).await;
        assert_eq!(requests[..4], lines("POST, PUT 0, GET 0, PATCH 0 0-9"));
    }
}

#[tokio::test]
async fn broken_part_is_sent_again_from_its_offset() {
    let (requests, opened) = uploaded(behaviour(&[
        ("PUT", UploadFault::Cut(3)),
        ("PATCH", UploadFault::Cut(6)),
        ("PATCH", UploadFault::CutAndDropped),
    ]))
    .await;
    assert_eq!(
        requests,
        lines(
            "POST, PUT 0, GET 0, PATCH 0 3-12, GET 0, PATCH 0 9-18, GET 0, PATCH 0 9-18, PATCH 0 19-28, PATCH 0 29-38, PATCH 0 39-44, PUT 0"
        )
    );
    assert_eq!(opened, [0, 0, 0, 0]);
}

#[tokio::test]
async fn upload_status_is_retried() {
    let (requests, _) = uploaded(behaviour(&[
        ("PUT", UploadFault::Cut(40)),
        ("GET", UploadFault::Status(503)),
    ]))
    .await;
    assert_eq!(
        requests,
        lines("POST, PUT 0, GET 0, GET 0, PATCH 0 40-44, PUT 0")
    );
}

#[tokio::test]
async fn parts_have_the_minimum_size_of_the_registry() {
    let behaviour = Behaviour {
        minimum: Some(17),
        ..behaviour(&[("PUT", UploadFault::Cut(5))])
    };
    assert_eq!(
        uploaded(behaviour).await.0,
        lines("POST, PUT 0, GET 0, PATCH 0 5-21, PATCH 0 22-38, PATCH 0 39-44, PUT 0")
    );
}

#[tokio::test]
async fn parts_are_accepted_with_several_statuses() {
    for part_status in [200, 201, 202, 204] {
        let behaviour = Behaviour {
            part_status,
            ..behaviour(&[("PUT", UploadFault::Cut(30))])
        };
        assert_eq!(
            uploaded(behaviour).await.0,
            lines("POST, PUT 0, GET 0, PATCH 0 30-39, PATCH 0 40-44, PUT 0")
        );
    }
}

#[tokio::test]
async fn lost_session_is_started_again_in_parts_and_then_in_one_request() {
    let behaviour = |faults| Behaviour {
        strict_locations: true,
        ..behaviour(faults)
    };
    let (requests, _) = uploaded(behaviour(&[("PUT", UploadFault::Cut(23))])).await;
    assert_eq!(
        requests[..6],
        lines("POST, PUT 0, GET 0, HEAD, POST, PATCH 1 0-9")
    );
    let (requests, _) = uploaded(behaviour(&[
        ("PUT", UploadFault::Cut(23)),
        ("PATCH", UploadFault::Cut(3)),
    ]))
    .await;
    assert_eq!(
        requests,
        lines("POST, PUT 0, GET 0, HEAD, POST, PATCH 1 0-9, GET 1, HEAD, POST, PUT 2")
    );
    // The session is lost between two parts, or before the content is sent.
    let (requests, _) = uploaded(behaviour(&[
        ("PUT", UploadFault::Cut(23)),
        ("PATCH", UploadFault::Status(404)),
    ]))
    .await;
    assert_eq!(requests[5..], lines("PATCH 1 0-9, POST, PUT 2"));
    assert_eq!(
        uploaded(behaviour(&[("PUT", UploadFault::Status(404))]))
            .await
            .0,
        lines("POST, PUT 0, POST, PUT 1")
    );
}

#[tokio::test]
async fn lost_response_does_not_cause_another_upload() {
    assert_eq!(
        uploaded(behaviour(&[("PUT", UploadFault::ResponseLost)]))
            .await
            .0,
        lines("POST, PUT 0, GET 0, HEAD")
    );
    let (requests, opened) = uploaded(behaviour(&[
        ("PUT", UploadFault::Cut(44)),
        ("PATCH", UploadFault::ResponseLost),
    ]))
    .await;
    assert_eq!(
        requests,
        lines("POST, PUT 0, GET 0, PATCH 0 44-44, GET 0, PUT 0")
    );
    assert_eq!(opened, [0, 40], "everything was sent and verified");
}

#[tokio::test]
async fn wrong_ranges_lead_to_an_upload_in_one_request() {
    // Bytes that were not sent completely, too many bytes, invalid text, and a constant range.
    let (requests, _) = uploaded(Behaviour {
        range: ReportedRange::Is("0-44"),
        ..behaviour(&[("PUT", UploadFault::Cut(23))])
    })
    .await;
    assert_eq!(
        requests,
        lines("POST, PUT 0, GET 0, PUT 0, DELETE 0, POST, PUT 1")
    );
    for range in ["0-99999", "0-18446744073709551615", "7-9", "", "nonsense"] {
        let behaviour = Behaviour {
            range: ReportedRange::Is(range),
            ..behaviour(&[("PUT", UploadFault::Cut(23))])
        };
        let (requests, _) = uploaded(behaviour).await;
        assert_eq!(
            requests[..6],
            lines("POST, PUT 0, GET 0, DELETE 0, HEAD, POST"),
            "{range}"
        );
    }
    for range in ["0-9", "bytes=0-9", "0-0"] {
        let behaviour = Behaviour {
            range: ReportedRange::Is(range),
            ..behaviour(&[("PUT", UploadFault::Cut(23))])
        };
        let (requests, _) = uploaded(behaviour).await;
        assert_eq!(requests.len(), 9, "{requests:?}");
        assert_eq!(
            requests[4..],
            lines("GET 0, DELETE 0, HEAD, POST, PUT 1"),
            "{range}"
        );
    }
}

#[tokio::test]
async fn rejected_parts_lead_to_an_upload_in_one_request() {
    for status in [400, 405, 413, 422, 501] {
        let (requests, _) = uploaded(behaviour(&[
            ("PUT", UploadFault::Cut(23)),
            ("PATCH", UploadFault::Status(status)),
        ]))
        .await;
        assert_eq!(
            requests,
            lines("POST, PUT 0, GET 0, PATCH 0 23-32, DELETE 0, POST, PUT 1"),
            "{status}"
        );
    }
}

#[tokio::test]
async fn wrongly_joined_parts_lead_to_an_upload_in_one_request() {
    let (requests, _) = uploaded(behaviour(&[
        ("PUT", UploadFault::Cut(23)),
        ("PATCH", UploadFault::Garbled),
    ]))
    .await;
    assert_eq!(requests[6..], lines("PUT 0, DELETE 0, POST, PUT 1"));
}

#[tokio::test]
async fn request_that_is_too_large_is_sent_in_parts() {
    let (requests, _) = uploaded(behaviour(&[("PUT", UploadFault::Status(413))])).await;
    assert_eq!(
        requests[..5],
        lines("POST, PUT 0, DELETE 0, POST, PATCH 1 0-9")
    );
    let server = UploadServer::start(behaviour(&[
        ("PUT", UploadFault::Status(413)),
        ("PATCH", UploadFault::Status(413)),
        ("PUT", UploadFault::Status(413)),
    ]))
    .await;
    shown_as(
        ItemErrorKind::Refused,
        &server
            .put(&ChunkedContent::default())
            .await
            .expect_err("it is always rejected"),
    );
    assert_eq!(server.open_sessions(), 0);
}

#[tokio::test]
async fn expired_token_does_not_end_the_session() {
    let behaviour = |faults| Behaviour {
        requires_tokens: true,
        ..behaviour(faults)
    };
    assert_eq!(
        uploaded(behaviour(&[("PUT", UploadFault::TokenExpired)]))
            .await
            .0,
        lines("POST, PUT 0, PUT 0")
    );
    let (requests, opened) = uploaded(behaviour(&[
        ("PUT", UploadFault::Cut(23)),
        ("PATCH", UploadFault::TokenExpired),
    ]))
    .await;
    assert_eq!(
        requests,
        lines(
            "POST, PUT 0, GET 0, PATCH 0 23-32, GET 0, PATCH 0 23-32, PATCH 0 33-42, PATCH 0 43-44, PUT 0"
        )
    );
    assert_eq!(opened, [0, 20, 20]);
    let server = UploadServer::start(behaviour(&[
        ("PUT", UploadFault::TokenExpired),
        ("PUT", UploadFault::TokenExpired),
    ]))
    .await;
    let error = server
        .put(&ChunkedContent::default())
        .await
        .expect_err("it is rejected twice");
    shown_as(ItemErrorKind::Unauthorized, &error);
    assert_eq!(server.open_sessions(), 0);
}

#[tokio::test]
async fn upload_is_attempted_five_times_and_then_cancelled() {
    let faults: Vec<_> = std::iter::once(("PUT", UploadFault::Cut(1)))
        .chain([("PATCH", UploadFault::Cut(1)); 9])
        .collect();
    let server = UploadServer::start(behaviour(&faults)).await;
    let error = shown(
        &server
            .put(&ChunkedContent::default())
            .await
            .expect_err("it always breaks"),
    );
    assert!(
        error.contains("(PATCH ") && error.ends_with(", tried 5 times)"),
        "{error}"
    );
    let requests = server.lines();
    assert_eq!(
        requests
            .iter()
            .filter(|line| line.starts_with("PUT") || line.starts_with("PATCH"))
            .count(),
        5,
        "{requests:?}"
    );
    assert_eq!(
        (requests.last().map(String::as_str), server.open_sessions()),
        (Some("DELETE 0"), 0)
    );
    let server = UploadServer::start(behaviour(&[("PUT", UploadFault::Status(404)); 9])).await;
    server
        .put(&ChunkedContent::default())
        .await
        .expect_err("the session is always lost");
    assert_eq!(server.lines().len(), 10);
}

/// Content that changes when it is opened again.
struct ChangingContent(Mutex<Vec<Vec<u8>>>);

#[async_trait]
impl BlobContent for ChangingContent {
    async fn open(&self, from_offset: u64) -> Result<BlobStream, ItemError> {
        let content = self.0.lock().expect("the lock").remove(0);
        InMemory(content.into()).open(from_offset).await
    }
}

#[tokio::test]
async fn content_that_changes_is_never_committed() {
    let mut other = CONTENT.to_vec();
    other[30] ^= 1;
    let server = UploadServer::start(behaviour(&[("PUT", UploadFault::Cut(23))])).await;
    let content = ChangingContent(Mutex::new(vec![CONTENT.to_vec(), other]));
    let error = server.put(&content).await.expect_err("it changed");
    shown_as(ItemErrorKind::Corrupt, &error);
    let requests = server.lines();
    assert_eq!(
        (
            requests.last().map(String::as_str),
            server.open_sessions(),
            server.stored()
        ),
        (Some("DELETE 0"), 0, None)
    );
    assert_eq!(
        requests
            .iter()
            .filter(|line| line.starts_with("PUT"))
            .count(),
        1
    );
}

#[tokio::test]
async fn dropped_upload_is_cancelled() {
    for faults in [
        &[("PUT", UploadFault::Stall)][..],
        &[("PUT", UploadFault::Cut(5)), ("PATCH", UploadFault::Stall)],
    ] {
        let server = UploadServer::start(behaviour(faults)).await;
        let wanted = faults.len() * 2;
        {
            let content = ChunkedContent::default();
            let mut put = std::pin::pin!(server.put(&content));
            while server.lines().len() < wanted {
                drop(tokio::time::timeout(Duration::from_millis(5), &mut put).await);
            }
        }
        tokio::time::timeout(Duration::from_secs(5), async {
            while server.open_sessions() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("it is cancelled");
        assert_eq!(server.lines().last().map(String::as_str), Some("DELETE 0"));
    }
}
