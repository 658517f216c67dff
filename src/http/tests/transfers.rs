//! Bodies: uploads, downloads, signed requests.

use std::io::Write as _;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use futures_util::StreamExt;
use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{KIND, get};
use crate::credentials::Credential;
use crate::http::testing::{Fake, basic, client, client_with, limited, quick, shown};
use crate::http::{Body, Download, Error, Settings, SignedRequest};
use crate::model::Host;

#[tokio::test]
async fn signed_request_is_sent_unchanged_and_retried() {
    let fake = Fake::start(|seen| match (seen.path.as_str(), seen.index) {
        (_, 0) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        ("/moved", _) => (StatusCode::FOUND, [("location", "/other")]).into_response(),
        ("/down", _) => StatusCode::BAD_GATEWAY.into_response(),
        _ => (StatusCode::NOT_FOUND, "<Code>NoSuchKey</Code>").into_response(),
    })
    .await;
    let client = client([], basic());
    let send = |path: &str| {
        let headers = [("authorization", "AWS4-HMAC-SHA256 x")].map(|(name, value)| {
            (
                axum::http::HeaderName::from_static(name),
                axum::http::HeaderValue::from_static(value),
            )
        });
        let url = format!("http://{}{path}", fake.address)
            .parse()
            .expect("a URL");
        client.send_signed(SignedRequest {
            method: Method::PUT,
            url,
            headers: headers.into_iter().collect(),
            body: "abc".into(),
            kind: KIND,
            limit: 100,
        })
    };
    let answer = send("/key?list-type=2").await.expect("a response");
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (404, &b"<Code>NoSuchKey</Code>"[..])
    );
    assert_eq!(
        send("/moved").await.expect("a response").status.as_u16(),
        302
    );
    assert!(matches!(send("/down").await, Err(Error::Refused(refusal)) if refusal.tries == 5));
    assert_eq!(fake.count("/key?list-type=2"), 2);
    assert!(
        fake.seen()
            .iter()
            .all(|seen| &seen.body[..] == b"abc"
                && seen.authorization() == Some("AWS4-HMAC-SHA256 x"))
    );
}

#[tokio::test]
async fn response_beyond_the_limit_is_an_error() {
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

/// Starts a server that sends headers at once, and a byte of the body each `pause`.
async fn dripping(pause: Duration) -> Host {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                drop(socket.read(&mut buffer).await);
                let mut part: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
                while socket.write_all(part).await.is_ok() {
                    tokio::time::sleep(pause).await;
                    part = b" ";
                }
            });
        }
    });
    address.to_string().parse().expect("a host")
}

#[tokio::test]
async fn body_that_drips_is_given_up_and_not_requested_again() {
    let host = dripping(Duration::from_millis(20)).await;
    let settings = Settings {
        stall: Duration::from_millis(200),
        ..quick()
    };
    let client = client_with(settings, [&host], Credential::Anonymous);
    let error = tokio::time::timeout(Duration::from_secs(10), client.send(get(&host, "/a")))
        .await
        .expect("an end")
        .expect_err("it is too slow");
    assert!(
        shown(&error).contains("the response was not complete after 0 seconds"),
        "{}",
        shown(&error)
    );
    assert_eq!(client.requests(), 1);
    // A fast body may take as long as metadata may take at most.
    let settings = Settings {
        metadata: Duration::from_millis(100),
        ..quick()
    };
    let client = client_with(settings, [&host], Credential::Anonymous);
    client
        .send(get(&host, "/a"))
        .await
        .expect_err("it is too slow");
}

#[tokio::test]
async fn compressed_responses_are_decoded_within_the_limit() {
    let packed = |content: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).expect("to write");
        encoder.finish().expect("compressed")
    };
    let bomb = packed(&vec![0; 2_000_000]);
    let fake = Fake::start(move |seen| {
        let (encoding, body) = match seen.path.as_str() {
            "/gzip" => ("gzip", packed(b"content")),
            "/wrong" => ("x-gzip", b"content".to_vec()),
            "/identity" => ("identity", b"content".to_vec()),
            "/broken" => ("gzip", packed(b"content")[..12].to_vec()),
            "/bomb" => ("gzip", bomb.clone()),
            _ => ("br", b"x".to_vec()),
        };
        ([("content-encoding", encoding)], body)
    })
    .await;
    let (host, client) = (fake.host(), client([&fake.host()], Credential::Anonymous));
    for path in ["/gzip", "/wrong", "/identity"] {
        let answer = client.send(get(&host, path)).await.expect("a response");
        assert_eq!(answer.body, "content", "{path}");
    }
    for (path, expected) in [
        ("/broken", "is not valid gzip"),
        ("/bomb", "more than 1048576 bytes"),
        ("/br", "`Content-Encoding: br`"),
    ] {
        let error = client.send(get(&host, path)).await.expect_err("an error");
        assert!(shown(&error).contains(expected), "{}", shown(&error));
    }
}

#[tokio::test]
async fn reopened_download_keeps_its_permit() {
    let fake = Fake::start(|_| vec![b'x'; 10]).await;
    let (host, client) = (
        fake.host(),
        client_with(
            limited(&fake.host(), 2),
            [&fake.host()],
            Credential::Anonymous,
        ),
    );
    let Download {
        content, permit, ..
    } = client.open(get(&host, "/a")).await.expect("a download");
    drop(content);
    let waits =
        tokio::time::timeout(Duration::from_millis(100), client.open(get(&host, "/b"))).await;
    assert!(waits.is_err(), "the permit is held");
    let again = tokio::time::timeout(
        Duration::from_secs(5),
        client.reopen(get(&host, "/c"), &permit),
    )
    .await;
    let again = again.expect("it does not wait").expect("a download");
    drop((again, permit));
    client
        .open(get(&host, "/d"))
        .await
        .expect("the permit is free");
}

#[tokio::test]
async fn unread_download_holds_its_permit_until_dropped() {
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
async fn streamed_body_is_sent_with_its_length_and_once() {
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
