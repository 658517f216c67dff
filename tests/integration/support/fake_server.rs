//! A fake HTTP server whose responses are set by the test. It records the requests.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;

use super::loopback_server::LoopbackServer;

/// A request that the server received.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A running fake server. It stops when it is dropped.
pub(crate) struct FakeServer {
    server: LoopbackServer,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
}

impl FakeServer {
    /// Starts a server that responds with `answer`.
    pub(crate) fn start(
        answer: impl Fn(&ReceivedRequest) -> Response + Send + Sync + 'static,
    ) -> FakeServer {
        let received: Arc<Mutex<Vec<ReceivedRequest>>> = Arc::default();
        let (recorded, answer) = (Arc::clone(&received), Arc::new(answer));
        let router = Router::new().fallback(move |request: Request| {
            let (recorded, answer) = (Arc::clone(&recorded), Arc::clone(&answer));
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
                let received = ReceivedRequest {
                    method: head.method.to_string(),
                    path: head.uri.to_string(),
                    headers: head.headers,
                    body,
                };
                recorded
                    .lock()
                    .expect("no thread has panicked")
                    .push(received.clone());
                answer(&received)
            }
        });
        FakeServer {
            server: LoopbackServer::start_http(router),
            received,
        }
    }

    /// Returns host and port, as in image references.
    pub(crate) fn host(&self) -> String {
        self.server.address().to_string()
    }

    /// Returns the requests received so far.
    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        self.received
            .lock()
            .expect("no thread has panicked")
            .clone()
    }
}

/// Returns a response with this media type.
pub(crate) fn typed(media_type: &str, body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, media_type.to_owned())], body.into()).into_response()
}

/// Returns a page of a tag listing.
pub(crate) fn tags(names: &[&str]) -> Response {
    typed(
        "application/json",
        serde_json::json!({ "name": "app", "tags": names }).to_string(),
    )
}

/// Returns the response of a registry for a manifest that does not exist.
pub(crate) fn absent() -> Response {
    let body = serde_json::json!({ "errors": [{ "code": "MANIFEST_UNKNOWN" }] }).to_string();
    (StatusCode::NOT_FOUND, typed("application/json", body)).into_response()
}

/// Returns a body without an end.
pub(crate) fn endless() -> Body {
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    Body::from_stream(stream::repeat_with(move || {
        Ok::<_, std::io::Error>(piece.clone())
    }))
}
