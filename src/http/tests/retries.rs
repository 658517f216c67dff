//! Retries, pauses and outages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::IntoResponse;
use futures_util::future::join_all;

use super::{KIND, fail, get, send};
use crate::credentials::Credential;
use crate::http::testing::{Fake, client, client_with, quick, raw_server, shown};
use crate::http::{Error, RequestKind, Settings};
use crate::model::Host;

#[tokio::test]
async fn transient_statuses_are_tried_five_times_and_others_once() {
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
async fn requests_after_a_pause_are_spread() {
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
async fn retry_after_pauses_requests_of_the_same_kind_only() {
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
                client.send(request).await.expect("a response");
                began.elapsed()
            }
        };
        let (first, same, other) = tokio::join!(
            timed("/a", KIND, 0),
            timed("/b", KIND, 300),
            timed("/c", RequestKind("other"), 300)
        );
        assert!(
            first >= Duration::from_secs(1) && same >= Duration::from_secs(1),
            "{first:?} {same:?} with {wait}"
        );
        assert!(other < Duration::from_millis(900), "{other:?}");
    }
}

#[tokio::test]
async fn past_or_endless_retry_after_is_not_waited_for() {
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
    send(&client, &host, "/a").await.expect("a response");
    assert!(began.elapsed() < Duration::from_secs(1));
    for wait in [
        "3601",
        "31536000",
        "18446744073709551615",
        "9223372036854775807",
        "99999999999",
        "Fri, 31 Dec 9999 23:59:59 GMT",
    ] {
        let fake =
            Fake::start(move |_| (StatusCode::TOO_MANY_REQUESTS, [("retry-after", wait)])).await;
        let (host, client) = (
            fake.host(),
            crate::http::testing::client([&fake.host()], Credential::Anonymous),
        );
        let error = fail(&client, &host, "/a").await;
        assert!(
            shown(&error).contains("429")
                && shown(&error).contains("s, which exceeds the longest wait of one hour)"),
            "{}",
            shown(&error)
        );
        assert_eq!(fake.seen().len(), 1, "{wait}");
    }
}

#[tokio::test]
async fn wait_beyond_the_deadline_fails_at_once() {
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
        shown(&error).ends_with("429 Too Many Requests: slow down (retry after 3600 s, which exceeds the time limit of the run)"),
        "{}",
        shown(&error)
    );
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn host_that_is_down_is_tried_once_until_it_answers() {
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
    send(&client, &host, "/a").await.expect("a response");
    answering.await.expect("a server that ends");
    assert_eq!([tries().await, tries().await, tries().await], [5, 5, 1]);
}

#[tokio::test]
async fn outage_limits_the_tries_of_parallel_requests() {
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
async fn broken_and_stalled_connections_are_retried_and_reported() {
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
        (silent, "no data for"),
        (slow, "no data for"),
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
