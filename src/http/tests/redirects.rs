//! Redirects and URL schemes.

use std::net::SocketAddr;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use futures_util::StreamExt;
use reqwest::Method;

use super::{fail, send, unauthorized};
use crate::credentials::Credential;
use crate::http::testing::{Fake, SECRET, basic, client, shown};
use crate::http::{AuthMode, Body, Error, Request};
use crate::model::{Host, Secret};

#[tokio::test]
async fn redirect_to_another_host_carries_no_credential() {
    let storage = Fake::start(|_| "content").await;
    let address = storage.address;
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        _ if seen.authorization().is_none() => unauthorized(r#"Basic realm="x""#),
        "/away" => (
            StatusCode::TEMPORARY_REDIRECT,
            [(
                "location",
                format!("http://{address}/blob?signature={SECRET}"),
            )],
            "moved",
        )
            .into_response(),
        "/here" => (StatusCode::FOUND, [("location", "b")], "").into_response(),
        _ => "here".into_response(),
    })
    .await;
    let (host, client) = (
        fake.host(),
        client([&fake.host(), &storage.host()], basic()),
    );
    assert_eq!(
        send(&client, &host, "/away")
            .await
            .expect("a response")
            .body,
        "content"
    );
    assert!(storage.seen()[0].authorization().is_none());
    assert_eq!(
        send(&client, &host, "/here")
            .await
            .expect("a response")
            .body,
        "here"
    );
    assert_eq!(fake.lines().last().map(String::as_str), Some("GET /b"));
}

#[tokio::test]
async fn looping_and_plain_http_redirects_are_rejected() {
    let storage = Fake::start(|_| "content").await;
    let address = storage.address;
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/away" => (
            StatusCode::TEMPORARY_REDIRECT,
            [("location", format!("http://{address}/?x={SECRET}"))],
        )
            .into_response(),
        "/file" => (
            StatusCode::TEMPORARY_REDIRECT,
            [("location", "file:///etc/passwd")],
        )
            .into_response(),
        _ => (StatusCode::TEMPORARY_REDIRECT, [("location", "/loop")]).into_response(),
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    let error = fail(&client, &host, "/away").await;
    assert!(
        shown(&error).ends_with("which is not followed: it is plain HTTP"),
        "{}",
        shown(&error)
    );
    assert!(
        error
            .hint()
            .expect("a hint")
            .contains(&format!("add {address} to `registry.insecure_registries`"))
    );
    assert_eq!(storage.seen().len(), 0);
    assert!(shown(&fail(&client, &host, "/file").await).contains("neither http nor https"));
    assert!(shown(&fail(&client, &host, "/loop").await).contains("too many redirects"));
    assert_eq!(fake.count("/loop"), 6);
    // Redirects to an insecure host are followed from plain HTTP, not from https.
    let state = client.host(&host).expect("a host");
    let url = |text: String| text.parse().expect("a URL");
    let (plain, listed) = (
        url(format!("http://{address}/")),
        url(format!("http://{host}/")),
    );
    assert!(client.check_redirect(&state, &plain, &listed).is_ok());
    assert!(
        client
            .check_redirect(&state, &url("https://r.example/".to_owned()), &listed)
            .is_err()
    );
}

#[tokio::test]
async fn tls_to_a_plain_http_server_gives_a_hint() {
    let fake = Fake::start(|_| "ok").await;
    let client = client([], Credential::Anonymous);
    let error = fail(&client, &fake.host(), "/a").await;
    assert!(!shown(&error).contains("tried"), "{}", shown(&error));
    assert!(
        error
            .hint()
            .expect("a hint")
            .contains("`registry.insecure_registries`")
    );
}

/// Returns a host that redirects everything below `/away` to `address` and below `/here` to itself.
async fn redirecting(status: u16, address: SocketAddr) -> Fake {
    Fake::start(move |seen| {
        let status = StatusCode::from_u16(status).expect("a status");
        if seen.authorization().is_none() {
            unauthorized(r#"Basic realm="x""#)
        } else if let Some(rest) = seen.path.strip_prefix("/away") {
            (status, [("location", format!("http://{address}{rest}"))]).into_response()
        } else if let Some(rest) = seen.path.strip_prefix("/here") {
            (status, [("location", rest.to_owned())]).into_response()
        } else {
            "here".into_response()
        }
    })
    .await
}

fn with_body(host: &Host, method: Method, path: &str, body: Body) -> Request {
    Request {
        method,
        body,
        ..super::get(host, path)
    }
}

#[tokio::test]
async fn body_is_sent_again_after_307_and_308() {
    for status in [307, 308] {
        let other = Fake::start(|_| "there").await;
        let fake = redirecting(status, other.address).await;
        let (host, client) = (fake.host(), client([&fake.host(), &other.host()], basic()));
        for method in [Method::POST, Method::PUT, Method::PATCH] {
            let request = |path: &str, body| with_body(&host, method.clone(), path, body);
            let bytes = || Body::Bytes("content".into());
            let answer = client.send(request("/away/x?a=b", bytes())).await;
            assert_eq!(answer.expect("a response").body, "there");
            let answer = client.send(request("/here/y", bytes())).await;
            assert_eq!(answer.expect("a response").body, "here");
            let answer = client.send(request("/away/z", Body::Empty)).await;
            assert_eq!(answer.expect("a response").body, "there");
            let seen = other.seen();
            let [first, second] = &seen[seen.len() - 2..] else {
                panic!("two requests");
            };
            assert_eq!(first.line(), format!("{method} /x?a=b"));
            assert_eq!((&first.body[..], second.body.len()), (&b"content"[..], 0));
            assert!(first.authorization().is_none() && second.authorization().is_none());
            let last = fake.seen().into_iter().rfind(|seen| seen.path == "/y");
            let last = last.expect("a request");
            assert_eq!(last.body, "content");
            assert!(last.authorization().is_some());
        }
    }
}

#[tokio::test]
async fn redirects_that_would_change_the_request_are_not_followed() {
    let other = Fake::start(|_| "there").await;
    for status in [301, 302, 303] {
        let fake = redirecting(status, other.address).await;
        let (host, client) = (fake.host(), client([&fake.host(), &other.host()], basic()));
        for path in ["/away/x", "/here/x"] {
            let request = with_body(&host, Method::POST, path, Body::Empty);
            let error = client.send(request).await.expect_err("not followed");
            assert_eq!(error.status().map(|status| status.as_u16()), Some(status));
        }
    }
    let fake = redirecting(307, other.address).await;
    let (host, client) = (fake.host(), client([&fake.host(), &other.host()], basic()));
    // Another host may not make this one delete something, nor receive messages of other APIs.
    let request = with_body(&host, Method::DELETE, "/away/x", Body::Empty);
    client.send(request).await.expect_err("not followed");
    let request = with_body(&host, Method::DELETE, "/here/x", Body::Empty);
    client.send(request).await.expect("a response");
    let mut request = with_body(&host, Method::POST, "/away/x", Body::Bytes("m".into()));
    request.auth_mode = AuthMode::Basic;
    client.send(request).await.expect_err("not followed");
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn refresh_token_is_not_redirected_to_another_host() {
    let other = Fake::start(|_| r#"{"token":"t"}"#).await;
    let address = other.address;
    let fake = Fake::start(move |seen| {
        if seen.path == "/token" {
            let to = format!("http://{address}/token");
            (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response()
        } else {
            super::challenge(seen)
        }
    })
    .await;
    let credential = Credential::RefreshToken {
        token: Secret::new(SECRET),
    };
    let client = client([&fake.host(), &other.host()], credential);
    fail(&client, &fake.host(), "/a").await;
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn redirect_of_a_stream_is_left_to_the_caller() {
    let fake = redirecting(307, "127.0.0.1:9".parse().expect("an address")).await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    send(&client, &host, "/a").await.expect("a response");
    let content = futures_util::stream::once(async { Ok("content".into()) });
    let body = Body::Stream {
        length: 7,
        content: content.boxed(),
    };
    let error = client
        .send(with_body(&host, Method::PUT, "/here/x", body))
        .await
        .expect_err("moved");
    assert!(
        matches!(&error, Error::Moved { to, .. } if to.path() == "/x"),
        "{}",
        shown(&error)
    );
    assert_eq!(fake.count("/x"), 0);
}
