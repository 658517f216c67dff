//! A fake server that responds as a test wants and records the requests.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::oneshot;

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
    address: SocketAddr,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeServer {
    /// Starts a server that responds with `answer`.
    pub(crate) fn start(
        answer: impl Fn(&ReceivedRequest) -> Response + Send + Sync + 'static,
    ) -> FakeServer {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener
            .set_nonblocking(true)
            .expect("a listener that does not block");
        let address = listener.local_addr().expect("an address");
        let received: Arc<Mutex<Vec<ReceivedRequest>>> = Arc::default();
        let (remembered, answer) = (Arc::clone(&received), Arc::new(answer));
        let router = Router::new().fallback(move |request: Request| {
            let (remembered, answer) = (Arc::clone(&remembered), Arc::clone(&answer));
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
                let received = ReceivedRequest {
                    method: head.method.to_string(),
                    path: head.uri.to_string(),
                    headers: head.headers,
                    body,
                };
                remembered
                    .lock()
                    .expect("no thread has panicked")
                    .push(received.clone());
                answer(&received)
            }
        });
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                // Does not wait for connections that clients keep open.
                tokio::select! { result = axum::serve(listener, router).into_future() => result.expect("a server"), _ = stopped => {} }
            });
        });
        FakeServer {
            address,
            received,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Returns host and port, as in image references.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns the requests received so far.
    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        self.received
            .lock()
            .expect("no thread has panicked")
            .clone()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a thread that ends");
        }
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
