//! The client against servers on loopback.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use reqwest::Method;

use super::testing::{Fake, ReceivedRequest, SECRET};
use super::{Client, Error, Request, RequestAccess, RequestKind, RequestTarget, Response};
use crate::model::Host;

mod authentication;
mod challenges;
mod limits;
mod redirects;
mod retries;
mod tls;
mod token_servers;
mod transfers;

const KIND: RequestKind = RequestKind("test");

fn get(host: &Host, path: &str) -> Request {
    let access = RequestAccess {
        path: None,
        scopes: vec!["repository:a:pull".to_owned()],
        challenge_path: None,
    };
    Request::new(
        Method::GET,
        host,
        RequestTarget::Path(path.to_owned()),
        KIND,
        access,
    )
}

async fn send(client: &Client, host: &Host, path: &str) -> Result<Response, Error> {
    client.send(get(host, path)).await
}

async fn fail(client: &Client, host: &Host, path: &str) -> Error {
    send(client, host, path).await.expect_err("it fails")
}

fn unauthorized(challenge: &str) -> axum::response::Response {
    (
        StatusCode::UNAUTHORIZED,
        [("www-authenticate", challenge.to_owned())],
        r#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#,
    )
        .into_response()
}

fn challenge(seen: &ReceivedRequest) -> axum::response::Response {
    unauthorized(&format!(
        r#"Bearer realm="http://{}/token",service="s""#,
        seen.server()
    ))
}

/// Returns a registry with its own token server, which accepts the last token that it issued.
async fn registry_with_tokens(expires_in: u64) -> Fake {
    let issued = AtomicUsize::new(0);
    Fake::start_slow(Duration::from_millis(10), move |seen| {
        if seen.path.starts_with("/token") {
            let count = issued.fetch_add(1, Ordering::SeqCst) + 1;
            return format!(r#"{{"token":"{SECRET}-{count}","expires_in":{expires_in}}}"#)
                .into_response();
        }
        let current = format!("Bearer {SECRET}-{}", issued.load(Ordering::SeqCst));
        if seen.path == "/revoke" {
            issued.fetch_add(1, Ordering::SeqCst);
        }
        if seen.authorization() == Some(current.as_str()) {
            "ok".into_response()
        } else {
            challenge(seen)
        }
    })
    .await
}
