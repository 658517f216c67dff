//! Authentication: challenges, credentials, cached tokens.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use futures_util::future::join_all;

use super::{challenge, fail, get, registry_with_tokens, send, unauthorized};
use crate::credentials::Credential;
use crate::http::auth::{AuthScheme, TokenKey, TokenSlot};
use crate::http::testing::{Fake, SECRET, basic, client, shown};
use crate::http::{AuthMode, Request, RequestTarget};
use crate::model::Secret;

#[tokio::test]
async fn parallel_requests_share_one_challenge_and_one_token() {
    let fake = registry_with_tokens(300).await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    let answers = join_all(
        (0..20).map(|index| send(&client, &host, if index % 2 == 0 { "/a" } else { "/b" })),
    )
    .await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!((fake.count("/token"), fake.seen().len()), (1, 22));
    let token = fake
        .seen()
        .into_iter()
        .find(|seen| seen.path.starts_with("/token"))
        .expect("a token request");
    assert_eq!(token.path, "/token?service=s&scope=repository%3Aa%3Apull");
    assert_eq!(token.authorization(), Some("Basic YWxpY2U6aHVudGVyMg=="));
}

#[tokio::test]
async fn token_is_cached_per_scopes() {
    let fake = Fake::start(|seen| {
        if seen.path.starts_with("/token") {
            r#"{"access_token":"t"}"#.into_response()
        } else if seen.authorization().is_some() {
            "ok".into_response()
        } else {
            challenge(seen)
        }
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], Credential::Anonymous));
    for scopes in [&["x"][..], &["x", "y"], &["x"]] {
        let mut request = get(&host, "/a");
        request.access.scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        client.send(request).await.expect("a response");
    }
    let tokens: Vec<String> = fake
        .lines()
        .into_iter()
        .filter(|line| line.contains("/token"))
        .collect();
    assert_eq!(
        tokens,
        [
            "GET /token?service=s&scope=x",
            "GET /token?service=s&scope=x&scope=y"
        ]
    );
}

#[tokio::test]
async fn token_is_replaced_before_it_expires() {
    let fake = registry_with_tokens(100).await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    send(&client, &host, "/a").await.expect("a response");
    let auth = &client.host(&host).expect("a host").auth;
    let access = get(&host, "/a").access;
    let AuthScheme::Bearer(realm) = auth.scheme(&access) else {
        panic!("there is no token server");
    };
    let slot = auth.slot(&TokenKey::new(&realm, &access));
    match &mut *slot.lock().await {
        TokenSlot::Token(token) => token.obtained -= Duration::from_secs(76),
        _ => panic!("there is no token"),
    }
    send(&client, &host, "/b").await.expect("a response");
    assert_eq!(
        (fake.count("/token"), fake.count("/b")),
        (2, 1),
        "no request is sent with the old token"
    );
}

#[tokio::test]
async fn revoked_token_is_replaced_once() {
    let fake = registry_with_tokens(300).await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    send(&client, &host, "/revoke").await.expect("a response");
    send(&client, &host, "/b").await.expect("a response");
    assert_eq!(fake.count("/b"), 2);
}

#[tokio::test]
async fn second_rejection_is_final_and_names_host_and_source() {
    let fake = Fake::start(|seen| {
        if seen.path.starts_with("/token") {
            format!(r#"{{"token":"{SECRET}"}}"#).into_response()
        } else {
            challenge(seen)
        }
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    let error = fail(&client, &host, "/a").await;
    assert_eq!(
        shown(&error),
        format!(
            "{host} denied access: the configured credentials were rejected, or they lack permission (UNAUTHORIZED: no)"
        )
    );
    assert!(
        error
            .hint()
            .expect("a hint")
            .contains("from the test: they may be wrong"),
        "{error:?}"
    );
    assert_eq!((fake.count("/a"), fake.count("/token")), (2, 1));
}

#[tokio::test]
async fn basic_is_sent_at_once_after_the_first_challenge() {
    let fake = Fake::start(|seen| match seen.authorization() {
        Some("Basic YWxpY2U6aHVudGVyMg==") => "ok".into_response(),
        _ => unauthorized(r#"Basic realm="x""#),
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    for _ in 0..3 {
        send(&client, &host, "/a").await.expect("a response");
    }
    assert_eq!(fake.seen().len(), 4);
}

#[tokio::test]
async fn basic_challenge_without_credential_is_an_error() {
    let fake = Fake::start(|_| unauthorized(r#"Basic realm="x""#)).await;
    let (host, client) = (fake.host(), client([&fake.host()], Credential::Anonymous));
    let error = fail(&client, &host, "/a").await;
    assert!(
        shown(&error).contains("credentials are required, and none are configured"),
        "{}",
        shown(&error)
    );
    assert!(fake.seen().len() <= 2);
}

#[tokio::test]
async fn bearer_credential_is_sent_unchanged() {
    let fake = registry_with_tokens(300).await;
    let (host, client) = (
        fake.host(),
        client(
            [&fake.host()],
            Credential::Bearer {
                token: Secret::new(format!("{SECRET}-0")),
            },
        ),
    );
    send(&client, &host, "/a").await.expect("a response");
    assert_eq!((fake.count("/token"), fake.count("/a")), (0, 2));
}

#[tokio::test]
async fn host_without_challenge_gets_no_credential() {
    let fake = Fake::start(|_| "ok").await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    join_all((0..5).map(|_| send(&client, &host, "/a"))).await;
    let seen = fake.seen();
    assert_eq!(seen.len(), 5);
    assert!(seen.iter().all(|seen| seen.authorization().is_none()));
    assert_eq!(
        (
            seen[0].header("accept-encoding"),
            seen[0].header("user-agent")
        ),
        (
            Some("identity"),
            Some(concat!("imglife/", env!("CARGO_PKG_VERSION")))
        )
    );
}

#[tokio::test]
async fn header_credential_is_sent_at_once_and_only_to_its_host() {
    let storage = Fake::start(|_| "content").await;
    let elsewhere = format!("http://{}/object?sig=1", storage.address);
    let server = Fake::start(move |seen| match seen.path.as_str() {
        "/elsewhere" => (StatusCode::FOUND, [("location", elsewhere.clone())]).into_response(),
        "/here" => (StatusCode::FOUND, [("location", "/file")]).into_response(),
        _ => "content".into_response(),
    })
    .await;
    let credential = Credential::Header {
        name: "private-token",
        value: Secret::new(SECRET),
    };
    let client = client([&server.host(), &storage.host()], credential.clone());
    for path in ["/elsewhere", "/here", "/never"] {
        let auth_mode = if path == "/never" {
            AuthMode::OnChallenge
        } else {
            AuthMode::Header
        };
        let answer = client
            .send(Request {
                auth_mode,
                ..get(&server.host(), path)
            })
            .await
            .expect("a response");
        assert_eq!(&answer.body[..], b"content");
    }
    let sent: Vec<(String, bool)> = server
        .seen()
        .iter()
        .map(|seen| {
            (
                seen.path.clone(),
                seen.header("private-token") == Some(SECRET),
            )
        })
        .collect();
    let expected = [
        ("/elsewhere", true),
        ("/here", true),
        ("/file", true),
        ("/never", false),
    ];
    assert_eq!(sent, expected.map(|(path, with)| (path.to_owned(), with)));
    assert!(
        storage
            .seen()
            .iter()
            .all(|seen| !format!("{:?}", seen.headers).contains(SECRET))
    );
    // A URL from the server on another host gets no credential.
    let target = RequestTarget::Url(
        format!("http://{}/page", storage.address)
            .parse()
            .expect("a URL"),
    );
    client
        .send(Request {
            auth_mode: AuthMode::Header,
            target,
            ..get(&server.host(), "/")
        })
        .await
        .expect("a response");
    assert!(
        storage
            .seen()
            .iter()
            .all(|seen| seen.header("private-token").is_none())
    );
    let unsendable = Credential::Header {
        name: "private-token",
        value: Secret::new(format!("{SECRET}\n")),
    };
    let client = crate::http::testing::client([&server.host()], unsendable);
    let error = client
        .send(Request {
            auth_mode: AuthMode::Header,
            ..get(&server.host(), "/")
        })
        .await
        .expect_err("it cannot be sent");
    assert!(shown(&error).contains("have characters that cannot be sent"));
}
