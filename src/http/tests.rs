use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::future::join_all;
use reqwest::Method;

use super::auth::Slot;
use super::testing::{
    Fake, SECRET, Seen, basic, client, client_with, limited, quick, raw_server, shown,
};
use super::{
    Access, Answer, Body, Client, Download, Error, HostRules, Kind, LogIn, Relayed, Request,
    Settings, Target,
};
use crate::credentials::Credential;
use crate::model::{Host, Secret};

const KIND: Kind = Kind("test");

pub(super) fn get(host: &Host, path: &str) -> Request {
    let access = Access {
        path: None,
        scopes: vec!["repository:a:pull".to_owned()],
    };
    Request::new(
        Method::GET,
        host,
        Target::Path(path.to_owned()),
        KIND,
        access,
    )
}

pub(super) async fn send(client: &Client, host: &Host, path: &str) -> Result<Answer, Error> {
    client.send(get(host, path)).await
}

pub(super) async fn fail(client: &Client, host: &Host, path: &str) -> Error {
    send(client, host, path).await.expect_err("it fails")
}

pub(super) fn unauthorized(challenge: &str) -> Response {
    (
        StatusCode::UNAUTHORIZED,
        [("www-authenticate", challenge.to_owned())],
        r#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#,
    )
        .into_response()
}

pub(super) fn challenge(seen: &Seen) -> Response {
    unauthorized(&format!(
        r#"Bearer realm="http://{}/token",service="s""#,
        seen.server()
    ))
}

/// A registry with a token server of its own: it takes the token that was handed out last.
pub(super) async fn registry_with_tokens(expires_in: u64) -> Fake {
    let handed_out = AtomicUsize::new(0);
    Fake::start_slow(Duration::from_millis(10), move |seen| {
        if seen.path.starts_with("/token") {
            let count = handed_out.fetch_add(1, Ordering::SeqCst) + 1;
            return format!(r#"{{"token":"{SECRET}-{count}","expires_in":{expires_in}}}"#)
                .into_response();
        }
        let current = format!("Bearer {SECRET}-{}", handed_out.load(Ordering::SeqCst));
        if seen.path == "/revoke" {
            handed_out.fetch_add(1, Ordering::SeqCst);
        }
        if seen.authorization() == Some(current.as_str()) {
            "ok".into_response()
        } else {
            challenge(seen)
        }
    })
    .await
}

#[tokio::test]
async fn many_requests_at_once_cost_one_refusal_and_one_token() {
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
async fn another_scope_gets_a_token_of_its_own() {
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
        client.send(request).await.expect("an answer");
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
async fn a_token_is_fetched_again_before_it_expires() {
    let fake = registry_with_tokens(100).await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    send(&client, &host, "/a").await.expect("an answer");
    let slot = client
        .host(&host)
        .expect("a host")
        .auth
        .slot(&["repository:a:pull".to_owned()]);
    match &mut *slot.lock().await {
        Slot::Token(token) => token.obtained -= Duration::from_secs(76),
        _ => panic!("there is no token"),
    }
    send(&client, &host, "/b").await.expect("an answer");
    assert_eq!(
        (fake.count("/token"), fake.count("/b")),
        (2, 1),
        "no request is sent with the old token"
    );
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once() {
    let fake = registry_with_tokens(300).await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    send(&client, &host, "/revoke").await.expect("an answer");
    send(&client, &host, "/b").await.expect("an answer");
    assert_eq!(fake.count("/b"), 2);
}

#[tokio::test]
async fn a_second_refusal_is_final_and_names_host_and_variable() {
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
            "{host} refused access: it does not take the login that is set, or not for this (UNAUTHORIZED: no)"
        )
    );
    assert!(
        error
            .hint()
            .expect("a hint")
            .contains("which is from the test: is it right"),
        "{error:?}"
    );
    assert_eq!((fake.count("/a"), fake.count("/token")), (2, 1));
}

#[tokio::test]
async fn a_token_server_that_refuses_is_asked_once() {
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
async fn a_failing_token_server_is_named_and_not_taken_for_a_refusal() {
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
        shown(&error).contains("/token?service=s&scope=repository:a:pull was answered with 503"),
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
async fn a_token_server_that_fails_in_passing_is_asked_again() {
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
    send(&client, &host, "/a").await.expect("an answer");
    assert_eq!((fake.count("/token"), fake.count("/a")), (3, 2));
}

#[tokio::test]
async fn basic_is_brought_along_from_the_second_request_on() {
    let fake = Fake::start(|seen| match seen.authorization() {
        Some("Basic YWxpY2U6aHVudGVyMg==") => "ok".into_response(),
        _ => unauthorized(r#"Basic realm="x""#),
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], basic()));
    for _ in 0..3 {
        send(&client, &host, "/a").await.expect("an answer");
    }
    assert_eq!(fake.seen().len(), 4);
}

#[tokio::test]
async fn without_a_login_basic_is_an_error_after_one_request() {
    let fake = Fake::start(|_| unauthorized(r#"Basic realm="x""#)).await;
    let (host, client) = (fake.host(), client([&fake.host()], Credential::Anonymous));
    let error = fail(&client, &host, "/a").await;
    assert!(
        shown(&error).contains("it asks for a login, and none is set"),
        "{}",
        shown(&error)
    );
    assert!(fake.seen().len() <= 2);
}

#[tokio::test]
async fn a_ready_bearer_token_is_sent_as_it_is() {
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
    send(&client, &host, "/a").await.expect("an answer");
    assert_eq!((fake.count("/token"), fake.count("/a")), (0, 2));
}

#[tokio::test]
async fn a_host_that_asks_for_nothing_gets_nothing() {
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
async fn a_refresh_token_is_exchanged_by_post() {
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
    send(&client, &host, "/a").await.expect("an answer");
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
async fn a_token_of_unknown_kind_becomes_a_password_where_it_is_no_refresh_token() {
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
            client.send(request).await.expect("an answer");
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
async fn a_token_server_that_changes_its_place_gets_no_credential() {
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
    send(&client, &host, "/first").await.expect("an answer");
    let error = fail(&client, &host, "/second").await;
    assert!(
        shown(&error).contains("it is not the token server that the host named before"),
        "{}",
        shown(&error)
    );
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn a_token_server_over_plain_http_is_for_plain_registries_only() {
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
        state.auth.learn(&headers(realm), &state)
    };
    assert!(learn(&plain, "http://auth.example/token").is_ok());
    assert!(learn(&secure, "http://auth.example/token").is_err());
    assert!(learn(&secure, "file:///etc/passwd").is_err());
    assert!(learn(&secure, "no address").is_err());
    assert!(learn(&secure, "https://auth.example/token").is_ok());
    assert!(learn(&secure, "https://auth.example.evil/token").is_err());
}

#[tokio::test]
async fn the_named_statuses_are_tried_five_times_and_others_once() {
    let fake = Fake::start(|seen| {
        StatusCode::from_u16(seen.path[1..].parse().expect("a number")).expect("a status")
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], Credential::Anonymous));
    let statuses =
        (300..=599).filter(|status| ![301, 302, 303, 304, 307, 308, 401].contains(status));
    let failed = join_all(statuses.map(|status| {
        let (client, host) = (&client, &host);
        async move {
            let error = fail(client, host, &format!("/{status}")).await;
            assert_eq!(error.status().map(|status| status.as_u16()), Some(status));
            (status, shown(&error).contains("(tried 5 times)"))
        }
    }))
    .await;
    for (status, retried) in failed {
        let expected = [408, 429, 500, 502, 503, 504].contains(&status);
        assert_eq!(
            (retried, fake.count(&format!("/{status}"))),
            (expected, if expected { 5 } else { 1 }),
            "{status}"
        );
    }
}

#[tokio::test]
async fn requests_that_wait_for_a_place_keep_the_pace() {
    let times: Arc<std::sync::Mutex<Vec<Instant>>> = Arc::default();
    let seen = Arc::clone(&times);
    let fake = Fake::start_slow(Duration::from_millis(300), move |_| {
        seen.lock().expect("times").push(Instant::now());
    })
    .await;
    let rules = HostRules {
        max_connections: Some(2),
        requests_per_second: Some(20.0),
        ..HostRules::default()
    };
    let settings = Settings {
        hosts: [(fake.host(), rules)].into(),
        ..quick()
    };
    let (host, client) = (
        fake.host(),
        client_with(settings, [&fake.host()], Credential::Anonymous),
    );
    send(&client, &host, "/a").await.expect("an answer");
    join_all((0..8).map(|_| send(&client, &host, "/a"))).await;
    let times = times.lock().expect("times").clone();
    let closest = times
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .min()
        .expect("times");
    assert!(
        closest >= Duration::from_millis(35),
        "{closest:?} between two of them"
    );
}

#[tokio::test]
async fn those_who_were_asked_to_wait_do_not_come_back_all_at_once() {
    let times: Arc<std::sync::Mutex<Vec<Instant>>> = Arc::default();
    let seen = Arc::clone(&times);
    let fake = Fake::start(move |request| {
        if request.index == 0 {
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response()
        } else {
            seen.lock().expect("times").push(Instant::now());
            "ok".into_response()
        }
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], Credential::Anonymous));
    let others = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        join_all((0..20).map(|_| send(&client, &host, "/b"))).await;
    };
    tokio::join!(async { drop(send(&client, &host, "/a").await) }, others);
    let times = times.lock().expect("times").clone();
    let spread = *times.last().expect("times") - times[0];
    assert!(spread > Duration::from_millis(300), "all within {spread:?}");
}

#[tokio::test]
async fn retry_after_holds_up_requests_of_the_same_kind_only() {
    for wait in ["1", "Fri, 06 Nov 2026 08:49:38 GMT"] {
        let fake = Fake::start(move |seen| match seen.index {
            0 => (
                StatusCode::TOO_MANY_REQUESTS,
                [("retry-after", wait)],
                "slow down",
            )
                .into_response(),
            _ => "ok".into_response(),
        })
        .await;
        let (host, client) = (fake.host(), client([&fake.host()], Credential::Anonymous));
        let began = Instant::now();
        let timed = |path: &'static str, kind, after| {
            let (client, host) = (&client, &host);
            async move {
                tokio::time::sleep(Duration::from_millis(after)).await;
                let mut request = get(host, path);
                request.kind = kind;
                client.send(request).await.expect("an answer");
                began.elapsed()
            }
        };
        let (first, same, other) = tokio::join!(
            timed("/a", KIND, 0),
            timed("/b", KIND, 300),
            timed("/c", Kind("other"), 300)
        );
        assert!(
            first >= Duration::from_secs(1) && same >= Duration::from_secs(1),
            "{first:?} {same:?} with {wait}"
        );
        assert!(other < Duration::from_millis(900), "{other:?}");
    }
}

#[tokio::test]
async fn a_wait_that_is_over_or_never_ends_is_not_waited() {
    let fake = Fake::start(|seen| match seen.index {
        0 => (
            StatusCode::SERVICE_UNAVAILABLE,
            [("retry-after", "Fri, 06 Nov 1998 08:49:38 GMT")],
        )
            .into_response(),
        _ => "ok".into_response(),
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], Credential::Anonymous));
    let began = Instant::now();
    send(&client, &host, "/a").await.expect("an answer");
    assert!(began.elapsed() < Duration::from_secs(1));
    for wait in [
        "18446744073709551615",
        "9223372036854775807",
        "99999999999",
        "Fri, 31 Dec 9999 23:59:59 GMT",
    ] {
        let fake =
            Fake::start(move |_| (StatusCode::TOO_MANY_REQUESTS, [("retry-after", wait)])).await;
        let (host, client) = (
            fake.host(),
            self::client([&fake.host()], Credential::Anonymous),
        );
        assert!(shown(&fail(&client, &host, "/a").await).contains("429"));
        assert_eq!(fake.seen().len(), 1, "{wait}");
    }
}

#[tokio::test]
async fn counted_requests_are_slowed_down_when_few_are_left() {
    let fake = Fake::start(|seen| {
        let left = if seen.path == "/plenty" {
            "11;w=10"
        } else {
            "10;w=10"
        };
        [
            ("ratelimit-limit", "100;w=10"),
            ("ratelimit-remaining", left),
        ]
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], Credential::Anonymous));
    let timed = async |path: &str, counted| {
        let began = Instant::now();
        for _ in 0..4 {
            let mut request = get(&host, path);
            request.counted = counted;
            client.send(request).await.expect("an answer");
        }
        began.elapsed()
    };
    let (pause, no_pause) = (Duration::from_millis(200), Duration::from_millis(190));
    assert!(timed("/plenty", true).await < no_pause);
    assert!(
        timed("/few", false).await < no_pause,
        "others are not counted"
    );
    assert!(timed("/few", true).await >= pause);
    timed("/plenty", false).await;
    assert!(
        timed("/plenty", true).await < no_pause,
        "there are enough again"
    );
}

#[tokio::test]
async fn a_wait_beyond_the_deadline_is_not_begun() {
    let fake = Fake::start(|_| {
        (
            StatusCode::TOO_MANY_REQUESTS,
            [("retry-after", "3600")],
            "slow down",
        )
    })
    .await;
    let settings = Settings {
        deadline: Some(Instant::now() + Duration::from_secs(60)),
        ..quick()
    };
    let (host, client) = (
        fake.host(),
        client_with(settings, [&fake.host()], Credential::Anonymous),
    );
    let error = fail(&client, &host, "/a").await;
    assert!(
        shown(&error).ends_with("429 Too Many Requests: slow down (try again in 3600 s, which is beyond the run's time limit)"),
        "{}",
        shown(&error)
    );
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn a_host_that_is_down_is_tried_once_until_it_answers() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let host: Host = listener
        .local_addr()
        .expect("an address")
        .to_string()
        .parse()
        .expect("a host");
    drop(listener);
    let client = client([&host], Credential::Anonymous);
    let tries = async || match fail(&client, &host, "/a").await {
        Error::Connection { tries, .. } => tries,
        other => panic!("{other}"),
    };
    assert_eq!(
        [tries().await, tries().await, tries().await, tries().await],
        [5, 5, 1, 1]
    );
    let up = tokio::net::TcpListener::bind(host.as_str())
        .await
        .expect("the same port");
    let answering = tokio::spawn(async move {
        let (mut socket, _) = up.accept().await.expect("a connection");
        drop(tokio::io::AsyncReadExt::read(&mut socket, &mut [0; 4096]).await);
        let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
        drop(tokio::io::AsyncWriteExt::write_all(&mut socket, answer).await);
    });
    send(&client, &host, "/a").await.expect("an answer");
    answering.await.expect("a server that ends");
    assert_eq!([tries().await, tries().await, tries().await], [5, 5, 1]);
}

#[tokio::test]
async fn many_requests_to_a_host_that_is_down_do_not_each_wait_for_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let host: Host = listener
        .local_addr()
        .expect("an address")
        .to_string()
        .parse()
        .expect("a host");
    drop(listener);
    let client = client_with(
        Settings {
            retry_delay: Duration::from_millis(20),
            ..quick()
        },
        [&host],
        Credential::Anonymous,
    );
    let failed = join_all((0..40).map(|_| fail(&client, &host, "/a"))).await;
    let all: u32 = failed
        .iter()
        .map(|error| {
            if let Error::Connection { tries, .. } = error {
                *tries
            } else {
                0
            }
        })
        .sum();
    assert!((50..200).contains(&all), "{all} tries");
}

#[tokio::test]
async fn broken_and_stalled_connections_are_tried_again_and_then_named() {
    let cut = raw_server(
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
        Duration::ZERO,
    )
    .await;
    let silent = raw_server(b"", Duration::from_secs(30)).await;
    let slow = raw_server(
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
        Duration::from_secs(30),
    )
    .await;
    let closed: Host = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener
            .local_addr()
            .expect("an address")
            .to_string()
            .parse()
            .expect("a host")
    };
    let settings = Settings {
        stall: Duration::from_millis(100),
        ..quick()
    };
    let client = client_with(
        settings,
        [&cut, &silent, &slow, &closed],
        Credential::Anonymous,
    );
    for (host, text) in [
        (cut, "the connection failed"),
        (silent, "nothing happened"),
        (slow, "nothing happened"),
        (closed, "the connection failed"),
    ] {
        let error = shown(&fail(&client, &host, "/a?secret=hunter2").await);
        assert!(
            error.contains(text)
                && error.contains("(tried 5 times)")
                && error.contains("/a?secret=***"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_redirect_to_another_host_is_followed_without_the_credential() {
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
        send(&client, &host, "/away").await.expect("an answer").body,
        "content"
    );
    assert!(storage.seen()[0].authorization().is_none());
    assert_eq!(
        send(&client, &host, "/here").await.expect("an answer").body,
        "here"
    );
    assert_eq!(fake.lines().last().map(String::as_str), Some("GET /b"));
}

#[tokio::test]
async fn a_header_that_is_the_credential_goes_along_at_once_and_stays_with_its_host() {
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
        let log_in = if path == "/never" {
            LogIn::AsAsked
        } else {
            LogIn::Header
        };
        let answer = client
            .send(Request {
                log_in,
                ..get(&server.host(), path)
            })
            .await
            .expect("an answer");
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
    // An address that the server gave is no other: a page on another host gets nothing.
    let target = Target::Url(
        format!("http://{}/page", storage.address)
            .parse()
            .expect("a URL"),
    );
    client
        .send(Request {
            log_in: LogIn::Header,
            target,
            ..get(&server.host(), "/")
        })
        .await
        .expect("an answer");
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
    let client = super::testing::client([&server.host()], unsendable);
    let error = client
        .send(Request {
            log_in: LogIn::Header,
            ..get(&server.host(), "/")
        })
        .await
        .expect_err("it cannot be sent");
    assert!(shown(&error).contains("has characters that cannot be sent"));
}

#[tokio::test]
async fn a_relayed_request_is_sent_as_it_is_and_tried_again() {
    let fake = Fake::start(|seen| match (seen.path.as_str(), seen.index) {
        (_, 0) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        ("/moved", _) => (StatusCode::FOUND, [("location", "/other")]).into_response(),
        ("/down", _) => StatusCode::BAD_GATEWAY.into_response(),
        _ => (StatusCode::NOT_FOUND, "<Code>NoSuchKey</Code>").into_response(),
    })
    .await;
    let client = client([], basic());
    let relay = |path: &str| {
        let headers = [("authorization", "AWS4-HMAC-SHA256 x")].map(|(name, value)| {
            (
                axum::http::HeaderName::from_static(name),
                axum::http::HeaderValue::from_static(value),
            )
        });
        let url = format!("http://{}{path}", fake.address)
            .parse()
            .expect("a URL");
        client.relay(Relayed {
            method: Method::PUT,
            url,
            headers: headers.into_iter().collect(),
            body: "abc".into(),
            kind: KIND,
            limit: 100,
        })
    };
    let answer = relay("/key?list-type=2").await.expect("an answer");
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (404, &b"<Code>NoSuchKey</Code>"[..])
    );
    assert_eq!(
        relay("/moved").await.expect("an answer").status.as_u16(),
        302
    );
    assert!(matches!(relay("/down").await, Err(Error::Refused(refusal)) if refusal.tries == 5));
    assert_eq!(fake.count("/key?list-type=2"), 2);
    assert!(
        fake.seen()
            .iter()
            .all(|seen| &seen.body[..] == b"abc"
                && seen.authorization() == Some("AWS4-HMAC-SHA256 x"))
    );
}

#[tokio::test]
async fn redirects_that_loop_or_lead_to_plain_http_are_refused() {
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
            .starts_with(&format!("name {address} in `registry.insecure_registries`"))
    );
    assert_eq!(storage.seen().len(), 0);
    assert!(shown(&fail(&client, &host, "/file").await).contains("neither http nor https"));
    assert!(shown(&fail(&client, &host, "/loop").await).contains("too many redirects"));
    assert_eq!(fake.count("/loop"), 6);
    // What is listed as insecure may be reached from plain HTTP, and not from https.
    let state = client.host(&host).expect("a host");
    let url = |text: String| text.parse().expect("a URL");
    let (plain, listed) = (
        url(format!("http://{address}/")),
        url(format!("http://{host}/")),
    );
    assert!(client.check_step(&state, &plain, &listed).is_ok());
    assert!(
        client
            .check_step(&state, &url("https://r.example/".to_owned()), &listed)
            .is_err()
    );
}

#[tokio::test]
async fn a_plain_server_spoken_to_with_tls_gives_a_hint() {
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

#[tokio::test]
async fn a_large_answer_is_not_read_to_its_end() {
    let fake = Fake::start(|seen| {
        if seen.path == "/ok" {
            vec![b'x'; 1000]
        } else {
            vec![b'x'; 1001]
        }
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], Credential::Anonymous));
    for (path, fits) in [("/ok", true), ("/large", false)] {
        let mut request = get(&host, path);
        request.limit = 1000;
        assert_eq!(client.send(request).await.is_ok(), fits);
    }
}

#[tokio::test]
async fn no_more_requests_run_at_once_than_the_limit() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&now), Arc::clone(&most));
    let service = axum::Router::new().fallback(move || {
        let (now, most) = (Arc::clone(&counts.0), Arc::clone(&counts.1));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            now.fetch_sub(1, Ordering::SeqCst);
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
    join_all((0..20).map(|_| send(&client, &host, "/a"))).await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn requests_are_spread_as_the_host_is_set_up() {
    let fake = Fake::start(|_| "ok").await;
    let rules = HostRules {
        requests_per_second: Some(20.0),
        ..HostRules::default()
    };
    let settings = Settings {
        hosts: [(fake.host(), rules)].into(),
        ..quick()
    };
    let (host, client) = (
        fake.host(),
        client_with(settings, [&fake.host()], Credential::Anonymous),
    );
    let began = Instant::now();
    join_all((0..6).map(|_| send(&client, &host, "/a"))).await;
    assert!(
        began.elapsed() >= Duration::from_millis(250),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_download_begun_again_takes_no_other_place() {
    let fake = Fake::start(|_| vec![b'x'; 10]).await;
    let (host, client) = (
        fake.host(),
        client_with(
            limited(&fake.host(), 2),
            [&fake.host()],
            Credential::Anonymous,
        ),
    );
    let Download { content, place, .. } = client.open(get(&host, "/a")).await.expect("a download");
    drop(content);
    let waits =
        tokio::time::timeout(Duration::from_millis(100), client.open(get(&host, "/b"))).await;
    assert!(waits.is_err(), "the place is kept");
    let again = tokio::time::timeout(
        Duration::from_secs(5),
        client.open_again(get(&host, "/c"), &place),
    )
    .await;
    let again = again.expect("it does not wait").expect("a download");
    drop((again, place));
    client
        .open(get(&host, "/d"))
        .await
        .expect("the place is free");
}

#[tokio::test]
async fn an_unread_download_keeps_its_place_until_it_is_dropped() {
    let fake = Fake::start(|_| vec![b'x'; 10]).await;
    let (host, client) = (
        fake.host(),
        client_with(
            limited(&fake.host(), 2),
            [&fake.host()],
            Credential::Anonymous,
        ),
    );
    let first = client.open(get(&host, "/a")).await.expect("a download");
    assert!(
        tokio::time::timeout(Duration::from_millis(100), client.open(get(&host, "/b")))
            .await
            .is_err()
    );
    drop(first);
    let mut second = client.open(get(&host, "/c")).await.expect("a download");
    while second.content.next().await.is_some() {}
}

#[tokio::test]
async fn a_streamed_body_is_sent_with_its_length_and_once() {
    let fake = Fake::start(|seen| {
        if seen.path == "/bad" {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::CREATED
        }
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], Credential::Anonymous));
    for path in ["/good", "/bad"] {
        let mut request = get(&host, path);
        request.method = Method::PUT;
        let chunks = [Ok("abc".into()), Ok("de".into())];
        request.body = Body::Stream {
            length: 5,
            content: futures_util::stream::iter(chunks).boxed(),
        };
        assert_eq!(client.send(request).await.is_ok(), path == "/good");
    }
    let seen = fake.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(
        (
            seen[0].header("content-length"),
            seen[0].header("transfer-encoding"),
            &seen[0].body[..]
        ),
        (Some("5"), None, &b"abcde"[..])
    );
}
