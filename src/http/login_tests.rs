//! Token servers that fail, and logins that are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;

use super::testing::{Fake, basic, client, client_with, limited, quick, shown};
use super::tests::{challenge, fail, get, registry_with_tokens, send, unauthorized};
use super::{Client, Error, LogIn, Settings};
use crate::credentials::Credential;
use crate::model::Host;

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
async fn all_who_wait_for_a_token_have_the_same_failure() {
    let fake = registry_without_tokens(503, Arc::new(AtomicBool::new(true))).await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    for error in join_all((0..6).map(|_| fail(&client, &host, "/a"))).await {
        assert!(
            shown(&error).contains("was answered with 503 Service Unavailable (tried 5 times)"),
            "{}",
            shown(&error)
        );
    }
    assert_eq!(fake.count("/token"), 5);
}

#[tokio::test]
async fn a_token_server_that_is_down_is_tried_once_until_it_gives_a_token() {
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
async fn many_repositories_do_not_each_wait_for_a_token_server_that_is_down() {
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
async fn no_more_tokens_are_asked_for_at_once_than_the_limit() {
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
        answer.expect("an answer");
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_token_that_is_said_to_end_at_once_is_used_all_the_same() {
    let fake = registry_with_tokens(0).await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    for _ in 0..3 {
        send(&client, &host, "/a").await.expect("an answer");
    }
    assert_eq!(fake.count("/token"), 1);
}

/// Asks for many repositories, at once and then one after the other. Returns how often the password
/// was sent.
async fn passwords_sent(
    answer: impl Fn(&super::testing::Seen) -> Response + Send + Sync + 'static,
) -> usize {
    let fake = Fake::start_slow(Duration::from_millis(2), answer).await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    let mut answers = join_all((0..20).map(|scope| with_scope(&client, &host, scope))).await;
    for scope in 20..40 {
        answers.push(with_scope(&client, &host, scope).await);
        let mut request = get(&host, "/a");
        request.log_in = LogIn::Basic;
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
                .contains("which is from the test: is it right"),
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
async fn a_wrong_password_is_sent_three_times_and_not_for_each_repository() {
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
async fn a_login_that_is_refused_for_some_repositories_only_goes_on_for_others() {
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
