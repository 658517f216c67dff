//! Token servers that fail, and credentials that they reject.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use futures_util::future::join_all;

use super::{challenge, fail, get, registry_with_tokens, send, unauthorized};
use crate::credentials::Credential;
use crate::http::testing::{
    Fake, ReceivedRequest, SECRET, basic, client, client_with, limited, quick, shown,
};
use crate::http::{AuthMode, Client, Error, RequestAccess, Settings};
use crate::model::{Host, Secret};

async fn with_scope(client: &Client, host: &Host, scope: usize) -> Result<(), Error> {
    let mut request = get(host, "/a");
    request.access.scopes = vec![format!("repository:{scope}:pull")];
    client.send(request).await.map(drop)
}

/// Returns a registry whose token server answers with this status while it is down.
async fn registry_without_tokens(status: u16, is_down: Arc<AtomicBool>) -> Fake {
    Fake::start_slow(Duration::from_millis(5), move |seen| {
        match seen.path.starts_with("/token") {
            true if is_down.load(Ordering::SeqCst) => StatusCode::from_u16(status)
                .expect("a status")
                .into_response(),
            true => r#"{"token":"t"}"#.into_response(),
            false if seen.authorization().is_some() => "ok".into_response(),
            false => challenge(seen),
        }
    })
    .await
}

#[tokio::test]
async fn token_server_that_rejects_is_asked_once() {
    let fake = Fake::start(|seen| {
        if seen.path.starts_with("/token") {
            StatusCode::UNAUTHORIZED.into_response()
        } else {
            challenge(seen)
        }
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    for error in join_all((0..5).map(|_| fail(&client, &host, "/a"))).await {
        assert!(
            matches!(error, Error::Unauthorized { .. }),
            "{}",
            shown(&error)
        );
    }
    assert_eq!(fake.count("/token"), 1);
}

#[tokio::test]
async fn failing_token_server_is_named_and_is_no_rejection() {
    let fake = Fake::start(|seen| {
        if seen.path.starts_with("/token") {
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        } else {
            challenge(seen)
        }
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    let error = fail(&client, &host, "/a").await;
    assert!(
        shown(&error).contains("/token?service=s&scope=repository:a:pull failed with 503"),
        "{}",
        shown(&error)
    );
    assert!(
        shown(&error).contains("(tried 5 times)"),
        "{}",
        shown(&error)
    );
    assert_eq!((error.status(), fake.count("/token")), (None, 5));
}

#[tokio::test]
async fn token_server_is_retried() {
    let failures = AtomicUsize::new(2);
    let fake = Fake::start(move |seen| match seen.path.starts_with("/token") {
        true if failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            })
            .is_ok() =>
        {
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        true => r#"{"token":"t"}"#.into_response(),
        false if seen.authorization() == Some("Bearer t") => "ok".into_response(),
        false => challenge(seen),
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    send(&client, &host, "/a").await.expect("a response");
    assert_eq!((fake.count("/token"), fake.count("/a")), (3, 2));
}

#[tokio::test]
async fn refresh_token_is_exchanged_by_post() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/token" if seen.method == "POST" => r#"{"access_token":"t"}"#.into_response(),
        _ if seen.authorization() == Some("Bearer t") => "ok".into_response(),
        _ => challenge(seen),
    })
    .await;
    let (host, client) = (
        fake.host(),
        client(
            [&fake.host()],
            Credential::RefreshToken {
                token: Secret::new(SECRET),
            },
        ),
    );
    send(&client, &host, "/a").await.expect("a response");
    let post = fake
        .seen()
        .into_iter()
        .find(|seen| seen.method == "POST")
        .expect("a token request");
    assert_eq!(
        post.body,
        format!(
            "grant_type=refresh_token&service=s&client_id=imglife&scope=repository%3Aa%3Apull&refresh_token={SECRET}"
        )
    );
    assert_eq!(
        post.header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
}

#[tokio::test]
async fn token_of_unknown_kind_is_a_password_when_the_exchange_fails() {
    for status in [400, 401, 404, 405] {
        let fake = Fake::start(move |seen| {
            if seen.method == "POST" {
                StatusCode::from_u16(status)
                    .expect("a status")
                    .into_response()
            } else if seen.authorization() == Some("Basic dG9rZW46aHVudGVyMg==") {
                r#"{"token":"t"}"#.into_response()
            } else if seen.authorization() == Some("Bearer t") {
                "ok".into_response()
            } else {
                challenge(seen)
            }
        })
        .await;
        let token = Credential::RefreshTokenOrPassword {
            username: "token".to_owned(),
            token: Secret::new(SECRET),
        };
        let (host, client) = (fake.host(), client([&fake.host()], token));
        for scope in ["x", "y"] {
            let mut request = get(&host, "/a");
            request.access.scopes = vec![scope.to_owned()];
            client.send(request).await.expect("a response");
        }
        assert_eq!(
            fake.seen()
                .iter()
                .filter(|seen| seen.method == "POST")
                .count(),
            1,
            "{status}"
        );
    }
}

#[tokio::test]
async fn second_token_server_gets_no_credential() {
    let other = Fake::start(|_| r#"{"token":"t"}"#).await;
    let address = other.address;
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/second" => unauthorized(&format!(r#"Bearer realm="http://{address}/token""#)),
        path if path.starts_with("/token") => r#"{"token":"t"}"#.into_response(),
        _ if seen.authorization().is_some() => "ok".into_response(),
        _ => challenge(seen),
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host(), &other.host()], basic()));
    send(&client, &host, "/first").await.expect("a response");
    let error = fail(&client, &host, "/second").await;
    assert!(
        shown(&error).contains("it is not the token server that the host named first"),
        "{}",
        shown(&error)
    );
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn plain_http_token_server_is_for_plain_http_registries_only() {
    let secure: Host = "r.example".parse().expect("a host");
    let plain: Host = "p.example".parse().expect("a host");
    let client = client([&plain], basic());
    let headers = |realm: &str| {
        let value = format!(r#"Bearer realm="{realm}""#)
            .parse()
            .expect("a header");
        [(reqwest::header::WWW_AUTHENTICATE, value)]
            .into_iter()
            .collect()
    };
    let learn = |host: &Host, realm: &str| {
        let state = client.host(host).expect("a host");
        state.auth.learn(
            &headers(realm),
            &state.origin,
            &RequestAccess::default(),
            None,
        )
    };
    assert!(learn(&plain, "http://auth.example/token").is_ok());
    assert!(learn(&secure, "http://auth.example/token").is_err());
    assert!(learn(&secure, "file:///etc/passwd").is_err());
    assert!(learn(&secure, "no address").is_err());
    assert!(learn(&secure, "https://auth.example/token").is_ok());
    assert!(learn(&secure, "https://auth.example.evil/token").is_err());
}

#[tokio::test]
async fn requests_waiting_for_a_token_share_its_failure() {
    let fake = registry_without_tokens(503, Arc::new(AtomicBool::new(true))).await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    for error in join_all((0..6).map(|_| fail(&client, &host, "/a"))).await {
        assert!(
            shown(&error).contains("failed with 503 Service Unavailable (tried 5 times)"),
            "{}",
            shown(&error)
        );
    }
    assert_eq!(fake.count("/token"), 5);
}

#[tokio::test]
async fn token_server_that_is_down_is_tried_once_until_it_issues_a_token() {
    let is_down = Arc::new(AtomicBool::new(true));
    let fake = registry_without_tokens(503, Arc::clone(&is_down)).await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    let asked = async |scope| {
        let before = fake.count("/token");
        let answer = with_scope(&client, &host, scope).await;
        (answer.is_ok(), fake.count("/token") - before)
    };
    assert_eq!(
        [
            asked(1).await,
            asked(2).await,
            asked(3).await,
            asked(1).await
        ],
        [(false, 5), (false, 5), (false, 1), (false, 1)]
    );
    is_down.store(false, Ordering::SeqCst);
    assert_eq!(asked(3).await, (true, 1));
    is_down.store(true, Ordering::SeqCst);
    assert_eq!(asked(4).await, (false, 5));
}

#[tokio::test]
async fn outage_limits_the_tries_of_a_token_server() {
    let fake = registry_without_tokens(500, Arc::new(AtomicBool::new(true))).await;
    let settings = Settings {
        retry_delay: Duration::from_millis(200),
        ..quick()
    };
    let (host, client) = (fake.host(), client_with(settings, [&fake.host()], basic()));
    join_all((0..40).map(|scope| with_scope(&client, &host, scope))).await;
    assert!(fake.count("/token") < 200, "{}", fake.count("/token"));
}

#[tokio::test]
async fn connection_limit_bounds_parallel_token_requests() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&now), Arc::clone(&most));
    let service = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let (now, most) = (Arc::clone(&counts.0), Arc::clone(&counts.1));
        async move {
            if request.uri().path() != "/token" {
                let server = request.headers()["host"]
                    .to_str()
                    .expect("a host")
                    .to_owned();
                return if request.headers().contains_key("authorization") {
                    "ok".into_response()
                } else {
                    unauthorized(&format!(
                        r#"Bearer realm="http://{server}/token",service="s""#
                    ))
                };
            }
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            r#"{"token":"t"}"#.into_response()
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let host: Host = listener
        .local_addr()
        .expect("an address")
        .to_string()
        .parse()
        .expect("a host");
    tokio::spawn(async move { axum::serve(listener, service).await });
    let client = client_with(limited(&host, 3), [&host], Credential::Anonymous);
    for answer in join_all((0..20).map(|scope| with_scope(&client, &host, scope))).await {
        answer.expect("a response");
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn token_that_expires_at_once_is_cached() {
    let fake = registry_with_tokens(0).await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    for _ in 0..3 {
        send(&client, &host, "/a").await.expect("a response");
    }
    assert_eq!(fake.count("/token"), 1);
}

/// Requests many repositories, in parallel and then one after the other. Returns how often the
/// password was sent.
async fn passwords_sent(
    answer: impl Fn(&ReceivedRequest) -> Response + Send + Sync + 'static,
) -> usize {
    let fake = Fake::start_slow(Duration::from_millis(2), answer).await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    let mut answers = join_all((0..20).map(|scope| with_scope(&client, &host, scope))).await;
    for scope in 20..40 {
        answers.push(with_scope(&client, &host, scope).await);
        let mut request = get(&host, "/a");
        request.auth_mode = AuthMode::Basic;
        answers.push(client.send(request).await.map(drop));
    }
    for answer in answers {
        let error = answer.expect_err("the password is wrong");
        assert!(
            matches!(&error, Error::Unauthorized { detail, .. } if detail.contains("(bad password)")),
            "{}",
            shown(&error)
        );
        assert!(
            error
                .hint()
                .expect("a hint")
                .contains("from the test: they may be wrong"),
            "{error:?}"
        );
    }
    fake.seen()
        .iter()
        .filter(|seen| {
            seen.authorization()
                .is_some_and(|value| value.starts_with("Basic "))
        })
        .count()
}

#[tokio::test]
async fn wrong_password_is_sent_three_times() {
    let refused = || {
        (
            StatusCode::UNAUTHORIZED,
            [("www-authenticate", r#"Basic realm="x""#)],
            "bad password",
        )
            .into_response()
    };
    assert_eq!(passwords_sent(move |_| refused()).await, 3);
    let refused = || (StatusCode::UNAUTHORIZED, "bad password").into_response();
    assert_eq!(
        passwords_sent(move |seen| if seen.path.starts_with("/token") {
            refused()
        } else {
            challenge(seen)
        })
        .await,
        3
    );
}

#[tokio::test]
async fn credential_rejected_for_some_repositories_works_for_others() {
    let fake = Fake::start(|seen| {
        let is_refused = seen.path.starts_with("/token")
            && !seen.path.contains("%3A0%3A")
            && !seen.path.contains("%3A9%3A");
        match seen.path.starts_with("/token") {
            _ if is_refused => StatusCode::UNAUTHORIZED.into_response(),
            true => r#"{"token":"t"}"#.into_response(),
            false if seen.authorization().is_some() => "ok".into_response(),
            false => challenge(seen),
        }
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    let mut worked = Vec::new();
    for scope in 0..10 {
        worked.push(with_scope(&client, &host, scope).await.is_ok());
    }
    assert_eq!(
        worked,
        [
            true, false, false, false, false, false, false, false, false, true
        ]
    );
}
