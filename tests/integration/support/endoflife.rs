//! A fake endoflife.date API: invented products that are renamed and changed, and responses with an
//! ETag.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use imglife::model::Digest;
use imglife::model::lock::lock;
use serde_json::json;

use super::fake_server::{FakeServer, ReceivedRequest};

/// The fake API. Its data can be changed while it runs.
pub(crate) struct EndOfLife {
    fake: FakeServer,
    data: Arc<Mutex<ApiData>>,
}

#[derive(Default)]
struct ApiData {
    /// Bodies by path.
    documents: BTreeMap<String, String>,
    /// Redirects: target by path.
    moved: BTreeMap<String, String>,
    /// Failures that replace the next responses, by path.
    troubles: BTreeMap<String, Vec<Trouble>>,
}

/// Failure of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// 429 with a `Retry-After` in seconds.
    Busy(u32),
    /// 502 with an HTML page.
    Gateway,
    /// The connection closes in the middle of the body.
    Cut,
    /// A body without an end.
    Endless,
    /// JSON nested a hundred thousand levels deep.
    Deep,
}

impl EndOfLife {
    pub(crate) fn start() -> EndOfLife {
        let data: Arc<Mutex<ApiData>> = Arc::default();
        let answering = Arc::clone(&data);
        let fake = FakeServer::start(move |received| answer(&mut lock(&answering), received));
        EndOfLife { fake, data }
    }

    /// Returns the URL for `lifecycle.api_url`.
    pub(crate) fn address(&self) -> String {
        format!("http://{}/api", self.fake.host())
    }

    fn change(&self, change: impl FnOnce(&mut ApiData)) {
        change(&mut lock(&self.data));
    }

    /// Adds a product to version 1 of the API, with its cycles and their end-of-life dates.
    pub(crate) fn product(&self, name: &str, cycles: &[(&str, Option<&str>)]) {
        // The flags of the real API date from its last build; here they are always wrong.
        let releases: Vec<_> = cycles
            .iter()
            .map(|(cycle, end)| json!({ "name": cycle, "isEol": end.is_some(), "eolFrom": end, "isMaintained": true, "latest": { "name": format!("{cycle}.1"), "date": "2026-01-02" } }))
            .collect();
        let body = json!({ "schema_version": "1.2.1", "generated_at": "now", "result": { "name": name, "releases": releases } });
        self.document(&format!("/v1/products/{name}"), &body.to_string());
    }

    /// Adds a document with `body` at a path below the API.
    pub(crate) fn document(&self, path: &str, body: &str) {
        self.change(|data| {
            drop(
                data.documents
                    .insert(format!("/api{path}"), body.to_owned()),
            );
        });
    }

    /// Redirects from one product name to another.
    pub(crate) fn moved(&self, from: &str, to: &str) {
        let path = |name: &str| format!("/api/v1/products/{name}");
        self.change(|data| drop(data.moved.insert(path(from), path(to))));
    }

    /// Makes the next requests for a product fail in these ways.
    pub(crate) fn troubles(&self, product: &str, troubles: &[Trouble]) {
        let mut troubles = troubles.to_vec();
        troubles.reverse();
        self.change(|data| {
            drop(
                data.troubles
                    .insert(format!("/api/v1/products/{product}"), troubles),
            );
        });
    }

    /// Returns the requests received so far.
    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        self.fake.requests()
    }
}

fn answer(data: &mut ApiData, received: &ReceivedRequest) -> Response {
    if let Some(trouble) = data.troubles.get_mut(&received.path).and_then(Vec::pop) {
        return failure(trouble);
    }
    if let Some(to) = data.moved.get(&received.path) {
        return (
            StatusCode::MOVED_PERMANENTLY,
            [(header::LOCATION, to.clone())],
            "moved",
        )
            .into_response();
    }
    let Some(body) = data.documents.get(&received.path) else {
        return (
            StatusCode::NOT_FOUND,
            [(header::CONTENT_TYPE, "text/html")],
            "<!DOCTYPE html><title>Not here</title>",
        )
            .into_response();
    };
    let tag = format!("\"{}\"", &Digest::sha256(body.as_bytes()).hex()[..16]);
    let is_known = received
        .headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let tag = [(header::ETAG, tag)];
    if is_known {
        (StatusCode::NOT_MODIFIED, tag).into_response()
    } else {
        (tag, body.clone()).into_response()
    }
}

fn failure(trouble: Trouble) -> Response {
    match trouble {
        Trouble::Busy(seconds) => (
            StatusCode::TOO_MANY_REQUESTS,
            [(header::RETRY_AFTER, seconds.to_string())],
            "slow down",
        )
            .into_response(),
        Trouble::Gateway => (
            StatusCode::BAD_GATEWAY,
            [(header::CONTENT_TYPE, "text/html")],
            "<html><h1>oh no</h1></html>",
        )
            .into_response(),
        Trouble::Cut => {
            let pieces = [
                Ok(Bytes::from_static(b"{\"result\": {")),
                Err(std::io::Error::other("cut")),
            ];
            (
                [(header::CONTENT_LENGTH, "5000")],
                Body::from_stream(stream::iter(pieces)),
            )
                .into_response()
        }
        Trouble::Endless => super::fake_server::endless().into_response(),
        Trouble::Deep => format!("{{\"news\": {}", "[".repeat(100_000)).into_response(),
    }
}
