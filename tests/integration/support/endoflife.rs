//! A stand-in for endoflife.date: products that tests make up, which move, change, and are told
//! with an ETag.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use imglife::model::Digest;
use serde_json::json;

use super::liar::{Asked, Liar};

/// The API. What it knows can be changed while it runs.
pub(crate) struct EndOfLife {
    liar: Liar,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    /// Bodies by path.
    documents: BTreeMap<String, String>,
    /// Where paths lead instead.
    moved: BTreeMap<String, String>,
    /// What is answered instead, each once, by path.
    troubles: BTreeMap<String, Vec<Trouble>>,
}

/// How a request goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// 429, and how many seconds to wait.
    Busy(u32),
    /// 502 with a page in HTML.
    Gateway,
    /// The connection ends in the middle of the body.
    Cut,
    /// A body without an end.
    Endless,
    /// JSON that is nested a hundred thousand times.
    Deep,
}

impl EndOfLife {
    pub(crate) fn start() -> EndOfLife {
        let known: Arc<Mutex<Known>> = Arc::default();
        let answering = Arc::clone(&known);
        let liar = Liar::start(move |asked| {
            answer(
                &mut answering.lock().unwrap_or_else(PoisonError::into_inner),
                asked,
            )
        });
        EndOfLife { liar, known }
    }

    /// Returns the address for `lifecycle.api_url`.
    pub(crate) fn address(&self) -> String {
        format!("http://{}/api", self.liar.host())
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Knows a product in version 1: its cycles and their last days.
    pub(crate) fn product(&self, name: &str, cycles: &[(&str, Option<&str>)]) {
        // What the API says itself is that of the day it was built on, here always wrong.
        let releases: Vec<_> = cycles
            .iter()
            .map(|(cycle, end)| json!({ "name": cycle, "isEol": end.is_some(), "eolFrom": end, "isMaintained": true, "latest": { "name": format!("{cycle}.1"), "date": "2026-01-02" } }))
            .collect();
        let body = json!({ "schema_version": "1.2.1", "generated_at": "now", "result": { "name": name, "releases": releases } });
        self.document(&format!("/v1/products/{name}"), &body.to_string());
    }

    /// Answers with `body` at a path below the API.
    pub(crate) fn document(&self, path: &str, body: &str) {
        self.change(|known| {
            drop(
                known
                    .documents
                    .insert(format!("/api{path}"), body.to_owned()),
            );
        });
    }

    /// Leads from a product's name to another.
    pub(crate) fn moved(&self, from: &str, to: &str) {
        let path = |name: &str| format!("/api/v1/products/{name}");
        self.change(|known| drop(known.moved.insert(path(from), path(to))));
    }

    /// Lets requests for a product fail in these ways first.
    pub(crate) fn troubles(&self, product: &str, troubles: &[Trouble]) {
        let mut troubles = troubles.to_vec();
        troubles.reverse();
        self.change(|known| {
            drop(
                known
                    .troubles
                    .insert(format!("/api/v1/products/{product}"), troubles),
            );
        });
    }

    /// Returns the requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.liar.asked()
    }
}

fn answer(known: &mut Known, asked: &Asked) -> Response {
    if let Some(trouble) = known.troubles.get_mut(&asked.path).and_then(Vec::pop) {
        return go_wrong(trouble);
    }
    if let Some(to) = known.moved.get(&asked.path) {
        return (
            StatusCode::MOVED_PERMANENTLY,
            [(header::LOCATION, to.clone())],
            "moved",
        )
            .into_response();
    }
    let Some(body) = known.documents.get(&asked.path) else {
        return (
            StatusCode::NOT_FOUND,
            [(header::CONTENT_TYPE, "text/html")],
            "<!DOCTYPE html><title>Not here</title>",
        )
            .into_response();
    };
    let tag = format!("\"{}\"", &Digest::sha256(body.as_bytes()).hex()[..16]);
    let is_known = asked
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

fn go_wrong(trouble: Trouble) -> Response {
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
        Trouble::Endless => super::liar::endless().into_response(),
        Trouble::Deep => format!("{{\"news\": {}", "[".repeat(100_000)).into_response(),
    }
}
