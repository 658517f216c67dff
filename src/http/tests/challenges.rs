//! Challenges that differ between requests, and hosts that deny without a challenge.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;

use super::{KIND, fail, get, send, unauthorized};
use crate::credentials::{Credential, CredentialError, Credentials};
use crate::http::testing::{Fake, ReceivedRequest, SECRET, basic, client, quick, shown};
use crate::http::{Client, Error, Request, RequestAccess, RequestTarget, Settings};
use crate::model::{Clock, Host, RepositoryPath, Secret};

/// Returns the scopes of a token request.
fn scopes(path: &str) -> Vec<String> {
    let (_, query) = path.split_once('?').unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == "scope")
        .map(|(_, value)| value.into_owned())
        .collect()
}

fn bearer(seen: &ReceivedRequest, rest: &str) -> Response {
    unauthorized(&format!(
        r#"Bearer realm="http://{}/token"{rest}"#,
        seen.server()
    ))
}

fn token(text: &str) -> Response {
    format!(r#"{{"token":"{text}"}}"#).into_response()
}

/// Returns a gateway whose repository has the name `backing` behind it. `tokens` answers requests
/// for tokens with these scopes.
async fn gateway(tokens: impl Fn(&[&str]) -> Response + Send + Sync + 'static) -> Fake {
    Fake::start(move |seen| {
        if seen.path.starts_with("/token") {
            let scopes = scopes(&seen.path);
            tokens(&scopes.iter().map(String::as_str).collect::<Vec<_>>())
        } else if seen.authorization() == Some("Bearer good") {
            "ok".into_response()
        } else {
            bearer(seen, r#",service="s",scope="repository:backing:pull""#)
        }
    })
    .await
}

#[tokio::test]
async fn scopes_of_the_challenge_are_requested_too() {
    const OWN: &str = "repository:a:pull";
    const BACKING: &str = "repository:backing:pull";
    // The token server ignores scopes that it does not know, rejects them, or reads one only.
    let ignoring = gateway(|scopes| {
        token(if scopes.contains(&BACKING) {
            "good"
        } else {
            "useless"
        })
    });
    let rejecting = gateway(|scopes| {
        if scopes.contains(&OWN) {
            StatusCode::BAD_REQUEST.into_response()
        } else {
            token("good")
        }
    });
    let denying = gateway(|scopes| {
        if scopes.contains(&OWN) {
            StatusCode::FORBIDDEN.into_response()
        } else {
            token("good")
        }
    });
    let reading_one = gateway(|scopes| {
        token(if scopes[0] == BACKING {
            "good"
        } else {
            "useless"
        })
    });
    for (fake, requests) in [
        (ignoring.await, 1),
        (rejecting.await, 2),
        (denying.await, 2),
        (reading_one.await, 2),
    ] {
        let (host, client) = (fake.host(), client([&fake.host()], Credential::Anonymous));
        for _ in 0..3 {
            send(&client, &host, "/a").await.expect("a response");
        }
        assert_eq!(fake.count("/token"), requests, "{:?}", fake.lines());
        let first = scopes(&fake.seen()[1].path);
        assert_eq!(first, [OWN, BACKING]);
    }
}

#[tokio::test]
async fn further_actions_are_requested_after_a_rejection_only() {
    let fake = Fake::start(|seen| {
        if seen.path.starts_with("/token") {
            let all = scopes(&seen.path).join(" ");
            token(if all.contains("push") { "good" } else { "weak" })
        } else if seen.authorization() == Some("Bearer good") || seen.path == "/weak" {
            "ok".into_response()
        } else {
            bearer(seen, r#",scope="repository:a:pull,push""#)
        }
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    send(&client, &host, "/a").await.expect("a response");
    let requested: Vec<Vec<String>> = fake
        .seen()
        .iter()
        .filter(|seen| seen.path.starts_with("/token"))
        .map(|seen| scopes(&seen.path))
        .collect();
    assert_eq!(
        requested,
        [
            vec!["repository:a:pull"],
            vec!["repository:a:pull", "repository:a:pull,push"]
        ]
    );
}

fn of_repository(host: &Host, name: &str) -> Request {
    let path: RepositoryPath = name.parse().expect("a path");
    let access = RequestAccess {
        scopes: vec![format!("repository:{path}:pull")],
        path: Some(path),
        challenge_path: Some("/v2/"),
    };
    let target = RequestTarget::Path(format!("/v2/{name}/tags/list"));
    Request::new(reqwest::Method::GET, host, target, KIND, access)
}

/// Returns a host with a token server for each repository. `strict` token servers reject the scopes
/// of other repositories.
async fn token_server_per_repository(strict: bool) -> Fake {
    Fake::start(move |seen| {
        let name = seen.path.trim_start_matches("/v2/").split('/').next();
        let name = name.unwrap_or_default().to_owned();
        if let Some(rest) = seen.path.strip_prefix("/token-") {
            let name = rest.split('?').next().unwrap_or_default();
            let is_own = scopes(&seen.path) == [format!("repository:{name}:pull")];
            return if strict && !is_own {
                StatusCode::UNAUTHORIZED.into_response()
            } else {
                token(name)
            };
        }
        if seen.authorization() == Some(&format!("Bearer {name}")) {
            "ok".into_response()
        } else {
            unauthorized(&format!(
                r#"Bearer realm="http://{}/token-{name}",service="{name}""#,
                seen.server()
            ))
        }
    })
    .await
}

#[tokio::test]
async fn each_repository_may_have_its_own_token_server() {
    for strict in [false, true] {
        let fake = token_server_per_repository(strict).await;
        let (host, client) = (fake.host(), client([&fake.host()], basic()));
        for round in 0..2 {
            for name in ["one", "two", "three"] {
                let sent = client.send(of_repository(&host, name)).await;
                sent.unwrap_or_else(|error| panic!("{round} {name}: {}", shown(&error)));
            }
        }
        let before = fake.seen().len();
        for name in ["one", "two", "three"] {
            client
                .send(of_repository(&host, name))
                .await
                .expect("a response");
        }
        assert_eq!(fake.seen().len(), before + 3, "tokens are cached");
    }
}

#[tokio::test]
async fn challenges_that_never_end_are_followed_a_few_times() {
    let count = AtomicUsize::new(0);
    let fake = Fake::start(move |seen| {
        if seen.path.starts_with("/token") {
            return token("t");
        }
        let count = count.fetch_add(1, Ordering::SeqCst);
        bearer(seen, &format!(r#",service="{count}""#))
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    let error = fail(&client, &host, "/a").await;
    assert!(
        matches!(error, Error::Unauthorized { .. }),
        "{}",
        shown(&error)
    );
    assert!(fake.count("/a") <= 6, "{:?}", fake.lines());
}

#[tokio::test]
async fn basic_is_tried_when_a_new_token_is_answered_with_it() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        path if path.starts_with("/token") => token("t"),
        "/catalog" if seen.authorization() == Some("Basic YWxpY2U6aHVudGVyMg==") => {
            "ok".into_response()
        }
        "/catalog" => unauthorized(r#"Basic realm="x""#),
        _ if seen.authorization() == Some("Bearer t") => "ok".into_response(),
        _ => bearer(seen, ""),
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    send(&client, &host, "/a").await.expect("a response");
    let mut request = get(&host, "/catalog");
    request.access.scopes = vec!["registry:catalog:*".to_owned()];
    client.send(request).await.expect("a response");
    send(&client, &host, "/a").await.expect("a response");
}

/// Returns a host that denies anonymous requests with this status and answers `/v2/` with a
/// challenge.
async fn hiding(status: u16) -> Fake {
    Fake::start(move |seen| {
        if seen.authorization() == Some("Basic YWxpY2U6aHVudGVyMg==") {
            if seen.path.contains("secret") {
                StatusCode::FORBIDDEN.into_response()
            } else {
                "ok".into_response()
            }
        } else if seen.path == "/v2/" {
            unauthorized(r#"Basic realm="x""#)
        } else {
            StatusCode::from_u16(status)
                .expect("a status")
                .into_response()
        }
    })
    .await
}

#[tokio::test]
async fn credential_is_tried_when_an_anonymous_request_is_denied() {
    for status in [401, 403, 404] {
        let fake = hiding(status).await;
        let (host, client) = (fake.host(), client([&fake.host()], basic()));
        let sent = join_all(["a", "b", "c"].map(|name| client.send(of_repository(&host, name))));
        for answer in sent.await {
            answer.unwrap_or_else(|error| panic!("{status}: {}", shown(&error)));
        }
        assert_eq!(
            fake.lines()
                .iter()
                .filter(|line| *line == "GET /v2/")
                .count(),
            1
        );
        let error = client
            .send(of_repository(&host, "secret"))
            .await
            .expect_err("denied");
        assert!(
            error
                .hint()
                .expect("a hint")
                .contains("from the test are known but not allowed"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn denied_request_is_final_without_credential_or_challenge() {
    let fake = hiding(404).await;
    let (host, anonymous) = (fake.host(), anonymous([&fake.host()]));
    let error = anonymous
        .send(of_repository(&host, "a"))
        .await
        .expect_err("denied");
    assert_eq!(error.status(), Some(StatusCode::NOT_FOUND));
    assert_eq!(fake.seen().len(), 1);
    let fake = hiding(403).await;
    let error = anonymous_client(&fake)
        .send(of_repository(&fake.host(), "a"))
        .await
        .expect_err("denied");
    let hint = error.hint().expect("a hint");
    assert!(
        hint.starts_with("no credentials are configured for 127.0.0.1"),
        "{hint}"
    );
    // The host asks for no credential at all.
    let open = Fake::start(|seen| match seen.path.as_str() {
        "/v2/" => "ok".into_response(),
        _ => StatusCode::FORBIDDEN.into_response(),
    })
    .await;
    let (host, client) = (open.host(), client([&open.host()], basic()));
    for _ in 0..3 {
        let error = client
            .send(of_repository(&host, "a"))
            .await
            .expect_err("denied");
        let hint = error.hint().expect("a hint");
        assert!(
            hint.contains("credentials from the test were not sent"),
            "{hint}"
        );
    }
    assert_eq!(open.seen().len(), 4);
    assert!(
        open.seen()
            .iter()
            .all(|seen| seen.authorization().is_none())
    );
}

/// Credentials without any.
struct Nothing;

#[async_trait]
impl Credentials for Nothing {
    async fn credential(
        &self,
        _: &Host,
        _: Option<&RepositoryPath>,
    ) -> Result<Credential, CredentialError> {
        Ok(Credential::Anonymous)
    }

    async fn source(
        &self,
        _: &Host,
        _: Option<&RepositoryPath>,
    ) -> Result<Option<String>, CredentialError> {
        Ok(None)
    }
}

fn with_credentials<'a>(
    hosts: impl IntoIterator<Item = &'a Host>,
    credentials: Arc<dyn Credentials>,
) -> Client {
    let settings = Settings {
        insecure: hosts.into_iter().cloned().collect(),
        ..quick()
    };
    Client::new(
        settings,
        credentials,
        Clock::fixed(chrono::DateTime::UNIX_EPOCH),
    )
}

fn anonymous<'a>(hosts: impl IntoIterator<Item = &'a Host>) -> Client {
    with_credentials(hosts, Arc::new(Nothing))
}

fn anonymous_client(fake: &Fake) -> Client {
    anonymous([&fake.host()])
}

/// Credentials whose password is replaced when it is rejected.
struct Expiring(AtomicUsize);

#[async_trait]
impl Credentials for Expiring {
    async fn credential(
        &self,
        _: &Host,
        _: Option<&RepositoryPath>,
    ) -> Result<Credential, CredentialError> {
        Ok(Credential::Basic {
            username: "alice".to_owned(),
            password: Secret::new(format!("{SECRET}{}", self.0.load(Ordering::SeqCst))),
        })
    }

    async fn source(
        &self,
        _: &Host,
        _: Option<&RepositoryPath>,
    ) -> Result<Option<String>, CredentialError> {
        Ok(Some("the test".to_owned()))
    }

    async fn renew(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
        rejected: &Credential,
    ) -> Result<bool, CredentialError> {
        if self.credential(host, path).await? == *rejected {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        Ok(true)
    }
}

/// Header of the passwords `hunter20`, `hunter21` and `hunter22` of alice.
const PASSWORDS: [&str; 3] = [
    "Basic YWxpY2U6aHVudGVyMjA=",
    "Basic YWxpY2U6aHVudGVyMjE=",
    "Basic YWxpY2U6aHVudGVyMjI=",
];

#[tokio::test]
async fn expired_password_is_replaced_by_a_new_one() {
    for (status, with_tokens) in [(401, false), (403, false), (401, true)] {
        let age = Arc::new(AtomicUsize::new(0));
        let valid = Arc::clone(&age);
        let fake = Fake::start(move |seen| {
            let password = PASSWORDS[valid.load(Ordering::SeqCst)];
            let is_valid = seen.authorization() == Some(password);
            match (with_tokens, seen.path.starts_with("/token")) {
                (true, true) if is_valid => token(&format!("t{}", valid.load(Ordering::SeqCst))),
                (true, true) => StatusCode::UNAUTHORIZED.into_response(),
                (true, false) => {
                    let wanted = format!("Bearer t{}", valid.load(Ordering::SeqCst));
                    if seen.authorization() == Some(&wanted) {
                        "ok".into_response()
                    } else {
                        bearer(seen, "")
                    }
                }
                (false, _) if is_valid => "ok".into_response(),
                (false, _) if status == 403 && seen.authorization().is_some() => {
                    StatusCode::FORBIDDEN.into_response()
                }
                (false, _) => unauthorized(r#"Basic realm="x""#),
            }
        })
        .await;
        let host = fake.host();
        let client = with_credentials([&host], Arc::new(Expiring(AtomicUsize::new(0))));
        for round in 0..3 {
            age.store(round, Ordering::SeqCst);
            let answers = join_all((0..4).map(|_| send(&client, &host, "/a"))).await;
            for answer in answers {
                answer.unwrap_or_else(|error| panic!("{status} {round}: {}", shown(&error)));
            }
        }
    }
}
