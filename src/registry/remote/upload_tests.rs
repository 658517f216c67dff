//! Uploads that break, against a registry that keeps sessions as real ones do, and lies as some do.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::net::TcpListener;

use super::tests::{descriptor, repository, shown_as};
use super::*;
use crate::credentials::Credential;
use crate::http::Settings;
use crate::http::testing::{basic, client_with, quick, shown};
use crate::registry::InMemory;

const CONTENT: &[u8] = b"some content of a layer that is sent in parts";
const PART: u64 = 10;

/// What goes wrong with a request.
#[derive(Clone, Copy)]
enum Fault {
    /// The connection breaks when so much of the body has arrived; that is kept.
    Cut(usize),
    /// The connection breaks in mid-body; nothing of it is kept.
    CutAndDropped,
    /// The connection breaks when everything is done.
    AnswerLost,
    Status(u16),
    /// All is kept, with a byte that is wrong.
    Garbled,
    /// The token is not taken any longer.
    TokenExpired,
    /// There is never an answer.
    Silence,
}

#[derive(Clone, Copy)]
enum RangeSaid {
    True,
    Is(&'static str),
}

/// How a registry behaves.
#[derive(Clone)]
struct Ways {
    /// For requests with a method, in their order.
    faults: VecDeque<(&'static str, Fault)>,
    range: RangeSaid,
    minimum: Option<u64>,
    /// Whether an address is only good while the session is where it was when it was given, as with
    /// docker-registry 2.8.
    strict_addresses: bool,
    absolute_addresses: bool,
    part_status: u16,
    asks_for_tokens: bool,
}

struct State {
    ways: Ways,
    sessions: Vec<Option<Vec<u8>>>,
    stored: Option<Vec<u8>>,
    lines: Vec<String>,
    token: usize,
}

struct Server {
    host: Host,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn ways(faults: &[(&'static str, Fault)]) -> Ways {
    Ways {
        faults: faults.iter().copied().collect(),
        range: RangeSaid::True,
        minimum: None,
        strict_addresses: false,
        absolute_addresses: false,
        part_status: 202,
        asks_for_tokens: false,
    }
}

impl Server {
    async fn start(ways: Ways) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let host: Host = listener
            .local_addr()
            .expect("an address")
            .to_string()
            .parse()
            .expect("a host");
        let state = State {
            ways,
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
        Server { host, state, task }
    }

    fn lines(&self) -> Vec<String> {
        self.state.lock().expect("the lock").lines.clone()
    }

    fn stored(&self) -> Option<Vec<u8>> {
        self.state.lock().expect("the lock").stored.clone()
    }

    /// Returns how many sessions were neither finished nor cancelled.
    fn open_sessions(&self) -> usize {
        self.state
            .lock()
            .expect("the lock")
            .sessions
            .iter()
            .flatten()
            .count()
    }

    async fn put(&self, content: &dyn Reopen) -> Result<BlobPut, ItemError> {
        let credential = if self.state.lock().expect("the lock").ways.asks_for_tokens {
            basic()
        } else {
            Credential::Anonymous
        };
        let settings = Settings {
            stall: Duration::from_millis(100),
            ..quick()
        };
        let registry = RemoteRegistries {
            part: PART,
            ..RemoteRegistries::new(Arc::new(client_with(settings, [&self.host], credential)))
        };
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

/// Ends the connection without a word.
fn break_connection() -> ! {
    std::panic::resume_unwind(Box::new(()))
}

async fn read_body(body: Body, most: usize) -> Vec<u8> {
    let mut content = Vec::new();
    let mut stream = body.into_data_stream();
    while content.len() < most
        && let Some(Ok(chunk)) = stream.next().await
    {
        content.extend(chunk);
    }
    content.truncate(most);
    content
}

async fn respond(request: Request, state: &Mutex<State>, host: &Host) -> Response {
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
        let fault = match state.ways.faults.front() {
            Some((wanted, fault)) if *wanted == method => Some(*fault),
            _ => None,
        };
        if fault.is_some() {
            state.ways.faults.pop_front();
        }
        if matches!(fault, Some(Fault::TokenExpired)) {
            state.token += 1;
        }
        let right = header("authorization") == Some(format!("Bearer t{}", state.token));
        let challenge = state.ways.asks_for_tokens && !right;
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
        Some(Fault::Cut(length)) => read_body(body, length).await,
        Some(Fault::CutAndDropped) => {
            read_body(body, 1).await;
            break_connection();
        }
        Some(Fault::Status(status)) => {
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
        Some(Fault::Silence) => std::future::pending().await,
        _ => read_body(body, usize::MAX).await,
    };
    if matches!(fault, Some(Fault::Garbled)) {
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
    if matches!(fault, Some(Fault::Cut(_) | Fault::AnswerLost)) {
        break_connection();
    }
    answer
}

impl State {
    fn act(
        &mut self,
        method: &str,
        uri: &axum::http::Uri,
        range: Option<String>,
        content: Vec<u8>,
        host: &Host,
        fault: Option<Fault>,
    ) -> Response {
        let ways = self.ways.clone();
        let location = |index: usize, length: usize| {
            let base = if ways.absolute_addresses {
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
            if let Some(minimum) = ways.minimum {
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
        if ways.strict_addresses && !query.starts_with(&format!("at={}&", session.len())) {
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
                let range = match ways.range {
                    RangeSaid::True => format!("0-{}", session.len().saturating_sub(1)),
                    RangeSaid::Is(text) => text.to_owned(),
                };
                let status = if method == "GET" {
                    204
                } else {
                    ways.part_status
                };
                let status = StatusCode::from_u16(status).expect("a status");
                (status, [location(index, session.len()), ("range", range)]).into_response()
            }
            "PUT" => {
                session.extend(content);
                if matches!(fault, Some(Fault::Cut(_))) {
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

/// Content in small pieces that notes where it was opened.
#[derive(Default)]
struct Pieces {
    opened: Mutex<Vec<u64>>,
}

#[async_trait]
impl Reopen for Pieces {
    async fn open(&self, from_offset: u64) -> Result<BlobStream, ItemError> {
        self.opened.lock().expect("the lock").push(from_offset);
        let rest = &CONTENT[usize::try_from(from_offset).expect("an offset")..];
        Ok(
            futures_util::stream::iter(rest.chunks(7).map(|chunk| Ok(Bytes::from_static(chunk))))
                .boxed(),
        )
    }
}

/// Uploads to a registry with these ways, checks that it ends right, and returns the requests.
async fn uploaded(ways: Ways) -> (Vec<String>, Vec<u64>) {
    let server = Server::start(ways).await;
    let content = Pieces::default();
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
async fn a_broken_upload_goes_on_in_parts_where_the_registry_got_to() {
    for absolute_addresses in [false, true] {
        let ways = Ways {
            absolute_addresses,
            ..ways(&[("PUT", Fault::Cut(23))])
        };
        let (requests, opened) = uploaded(ways).await;
        assert_eq!(
            requests,
            lines("POST, PUT 0, GET 0, PATCH 0 23-32, PATCH 0 33-42, PATCH 0 43-44, PUT 0")
        );
        assert_eq!(opened, [0, 20], "no more than a part is read again");
    }
}

#[tokio::test]
async fn everything_that_can_pass_goes_on_in_parts() {
    for fault in [
        Fault::CutAndDropped,
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(429),
        Fault::Silence,
    ] {
        let (requests, _) = uploaded(ways(&[("PUT", fault)])).await;
        assert_eq!(requests[..4], lines("POST, PUT 0, GET 0, PATCH 0 0-9"));
    }
}

#[tokio::test]
async fn a_broken_part_is_sent_again_from_where_it_got_to() {
    let (requests, opened) = uploaded(ways(&[
        ("PUT", Fault::Cut(3)),
        ("PATCH", Fault::Cut(6)),
        ("PATCH", Fault::CutAndDropped),
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
async fn a_status_that_cannot_be_told_now_is_asked_for_again() {
    let (requests, _) = uploaded(ways(&[
        ("PUT", Fault::Cut(40)),
        ("GET", Fault::Status(503)),
    ]))
    .await;
    assert_eq!(
        requests,
        lines("POST, PUT 0, GET 0, GET 0, PATCH 0 40-44, PUT 0")
    );
}

#[tokio::test]
async fn parts_have_the_least_size_that_the_registry_wants() {
    let ways = Ways {
        minimum: Some(17),
        ..ways(&[("PUT", Fault::Cut(5))])
    };
    assert_eq!(
        uploaded(ways).await.0,
        lines("POST, PUT 0, GET 0, PATCH 0 5-21, PATCH 0 22-38, PATCH 0 39-44, PUT 0")
    );
}

#[tokio::test]
async fn parts_are_acknowledged_in_several_ways() {
    for part_status in [200, 201, 202, 204] {
        let ways = Ways {
            part_status,
            ..ways(&[("PUT", Fault::Cut(30))])
        };
        assert_eq!(
            uploaded(ways).await.0,
            lines("POST, PUT 0, GET 0, PATCH 0 30-39, PATCH 0 40-44, PUT 0")
        );
    }
}

#[tokio::test]
async fn a_session_that_is_gone_is_begun_anew_in_parts_and_then_only_whole() {
    let ways = |faults| Ways {
        strict_addresses: true,
        ..ways(faults)
    };
    let (requests, _) = uploaded(ways(&[("PUT", Fault::Cut(23))])).await;
    assert_eq!(
        requests[..6],
        lines("POST, PUT 0, GET 0, HEAD, POST, PATCH 1 0-9")
    );
    let (requests, _) = uploaded(ways(&[("PUT", Fault::Cut(23)), ("PATCH", Fault::Cut(3))])).await;
    assert_eq!(
        requests,
        lines("POST, PUT 0, GET 0, HEAD, POST, PATCH 1 0-9, GET 1, HEAD, POST, PUT 2")
    );
    // It vanishes between two parts, or before the content is sent at all.
    let (requests, _) = uploaded(ways(&[
        ("PUT", Fault::Cut(23)),
        ("PATCH", Fault::Status(404)),
    ]))
    .await;
    assert_eq!(requests[5..], lines("PATCH 1 0-9, POST, PUT 2"));
    assert_eq!(
        uploaded(ways(&[("PUT", Fault::Status(404))])).await.0,
        lines("POST, PUT 0, POST, PUT 1")
    );
}

#[tokio::test]
async fn a_lost_answer_does_not_cost_another_upload() {
    assert_eq!(
        uploaded(ways(&[("PUT", Fault::AnswerLost)])).await.0,
        lines("POST, PUT 0, GET 0, HEAD")
    );
    let (requests, opened) = uploaded(ways(&[
        ("PUT", Fault::Cut(44)),
        ("PATCH", Fault::AnswerLost),
    ]))
    .await;
    assert_eq!(
        requests,
        lines("POST, PUT 0, GET 0, PATCH 0 44-44, GET 0, PUT 0")
    );
    assert_eq!(opened, [0, 40], "everything was sent and verified");
}

#[tokio::test]
async fn ranges_that_lie_end_in_one_request() {
    // What was not sent entirely, more than there is, nothing that can be read, and a value that
    // stands still.
    let (requests, _) = uploaded(Ways {
        range: RangeSaid::Is("0-44"),
        ..ways(&[("PUT", Fault::Cut(23))])
    })
    .await;
    assert_eq!(
        requests,
        lines("POST, PUT 0, GET 0, PUT 0, DELETE 0, POST, PUT 1")
    );
    for range in ["0-99999", "0-18446744073709551615", "7-9", "", "nonsense"] {
        let ways = Ways {
            range: RangeSaid::Is(range),
            ..ways(&[("PUT", Fault::Cut(23))])
        };
        let (requests, _) = uploaded(ways).await;
        assert_eq!(
            requests[..6],
            lines("POST, PUT 0, GET 0, DELETE 0, HEAD, POST"),
            "{range}"
        );
    }
    for range in ["0-9", "bytes=0-9", "0-0"] {
        let ways = Ways {
            range: RangeSaid::Is(range),
            ..ways(&[("PUT", Fault::Cut(23))])
        };
        let (requests, _) = uploaded(ways).await;
        assert_eq!(requests.len(), 9, "{requests:?}");
        assert_eq!(
            requests[4..],
            lines("GET 0, DELETE 0, HEAD, POST, PUT 1"),
            "{range}"
        );
    }
}

#[tokio::test]
async fn a_registry_that_refuses_parts_gets_the_whole() {
    for status in [400, 405, 413, 422, 501] {
        let (requests, _) = uploaded(ways(&[
            ("PUT", Fault::Cut(23)),
            ("PATCH", Fault::Status(status)),
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
async fn parts_that_were_put_together_wrong_are_sent_as_a_whole() {
    let (requests, _) = uploaded(ways(&[("PUT", Fault::Cut(23)), ("PATCH", Fault::Garbled)])).await;
    assert_eq!(requests[6..], lines("PUT 0, DELETE 0, POST, PUT 1"));
}

#[tokio::test]
async fn a_request_that_is_too_large_is_sent_in_parts() {
    let (requests, _) = uploaded(ways(&[("PUT", Fault::Status(413))])).await;
    assert_eq!(
        requests[..5],
        lines("POST, PUT 0, DELETE 0, POST, PATCH 1 0-9")
    );
    let server = Server::start(ways(&[
        ("PUT", Fault::Status(413)),
        ("PATCH", Fault::Status(413)),
        ("PUT", Fault::Status(413)),
    ]))
    .await;
    shown_as(
        ItemErrorKind::Refused,
        &server
            .put(&Pieces::default())
            .await
            .expect_err("nothing helps"),
    );
    assert_eq!(server.open_sessions(), 0);
}

#[tokio::test]
async fn a_token_that_expires_within_an_upload_costs_no_session() {
    let ways = |faults| Ways {
        asks_for_tokens: true,
        ..ways(faults)
    };
    assert_eq!(
        uploaded(ways(&[("PUT", Fault::TokenExpired)])).await.0,
        lines("POST, PUT 0, PUT 0")
    );
    let (requests, opened) = uploaded(ways(&[
        ("PUT", Fault::Cut(23)),
        ("PATCH", Fault::TokenExpired),
    ]))
    .await;
    assert_eq!(
        requests,
        lines(
            "POST, PUT 0, GET 0, PATCH 0 23-32, GET 0, PATCH 0 23-32, PATCH 0 33-42, PATCH 0 43-44, PUT 0"
        )
    );
    assert_eq!(opened, [0, 20, 20]);
    let server = Server::start(ways(&[
        ("PUT", Fault::TokenExpired),
        ("PUT", Fault::TokenExpired),
    ]))
    .await;
    let error = server
        .put(&Pieces::default())
        .await
        .expect_err("it is refused twice");
    shown_as(ItemErrorKind::Unauthorized, &error);
    assert_eq!(server.open_sessions(), 0);
}

#[tokio::test]
async fn a_blob_is_tried_five_times_in_all_and_then_cancelled() {
    let faults: Vec<_> = std::iter::once(("PUT", Fault::Cut(1)))
        .chain([("PATCH", Fault::Cut(1)); 9])
        .collect();
    let server = Server::start(ways(&faults)).await;
    let error = shown(
        &server
            .put(&Pieces::default())
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
    let server = Server::start(ways(&[("PUT", Fault::Status(404)); 9])).await;
    server
        .put(&Pieces::default())
        .await
        .expect_err("it always vanishes");
    assert_eq!(server.lines().len(), 10);
}

/// Content that is another one when it is opened again.
struct Changing(Mutex<Vec<Vec<u8>>>);

#[async_trait]
impl Reopen for Changing {
    async fn open(&self, from_offset: u64) -> Result<BlobStream, ItemError> {
        let content = self.0.lock().expect("the lock").remove(0);
        InMemory(content.into()).open(from_offset).await
    }
}

#[tokio::test]
async fn content_that_changes_is_never_committed() {
    let mut other = CONTENT.to_vec();
    other[30] ^= 1;
    let server = Server::start(ways(&[("PUT", Fault::Cut(23))])).await;
    let content = Changing(Mutex::new(vec![CONTENT.to_vec(), other]));
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
async fn an_upload_whose_run_is_stopped_is_cancelled() {
    for faults in [
        &[("PUT", Fault::Silence)][..],
        &[("PUT", Fault::Cut(5)), ("PATCH", Fault::Silence)],
    ] {
        let server = Server::start(ways(faults)).await;
        let wanted = faults.len() * 2;
        {
            let content = Pieces::default();
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
