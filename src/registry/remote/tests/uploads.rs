//! Uploads of blobs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::http::testing::{SECRET, basic, limited};

#[tokio::test]
async fn blob_is_uploaded_in_two_requests() {
    for bytes in [CONTENT, b""] {
        let fake = Fake::start(plain_registry).await;
        let blob = descriptor(bytes);
        assert_eq!(
            put(&fake, &InMemory(bytes.into()), &blob, None)
                .await
                .expect("it is stored"),
            BlobPut::Uploaded
        );
        let seen = fake.seen();
        assert_eq!(
            fake.lines(),
            ["POST /v2/a/blobs/uploads/".to_owned(), put_line(&blob)]
        );
        let lengths: Vec<_> = seen
            .iter()
            .map(|seen| seen.header("content-length").map(str::to_owned))
            .collect();
        assert_eq!(
            lengths,
            [Some("0".to_owned()), Some(bytes.len().to_string())]
        );
        assert_eq!(seen[1].body, bytes);
    }
}

/// Content with the chunks of each attempt.
struct AttemptContent {
    opened: AtomicUsize,
    streams: Vec<Vec<Result<&'static [u8], ItemErrorKind>>>,
}

#[async_trait]
impl BlobContent for AttemptContent {
    async fn open(&self, from_offset: u64) -> Result<BlobStream, ItemError> {
        assert_eq!(from_offset, 0);
        let chunks = self.streams[self.opened.fetch_add(1, Ordering::SeqCst)].clone();
        let chunks = chunks.into_iter().map(|chunk| {
            chunk
                .map(Into::into)
                .map_err(|kind| ItemError::new("source.example", "read", kind, "broke"))
        });
        Ok(futures_util::stream::iter(chunks).boxed())
    }
}

fn attempts(streams: Vec<Vec<Result<&'static [u8], ItemErrorKind>>>) -> AttemptContent {
    AttemptContent {
        opened: AtomicUsize::new(0),
        streams,
    }
}

#[tokio::test]
async fn wrong_content_is_never_sent_completely_and_the_upload_is_cancelled() {
    let blob = descriptor(CONTENT);
    for stream in [
        vec![Ok(&b"some content of a lAyer"[..])],
        vec![Ok(&b"some"[..])],
        vec![Ok(CONTENT), Ok(b"more")],
        vec![],
    ] {
        let fake = Fake::start(plain_registry).await;
        let content = attempts(vec![stream]);
        let error = put(&fake, &content, &blob, None)
            .await
            .expect_err("it is wrong");
        shown_as(ItemErrorKind::Corrupt, &error);
        assert_eq!(fake.lines().last().map(String::as_str), Some(CANCELLED));
        assert!(
            fake.seen()
                .iter()
                .all(|seen| seen.body.len() < CONTENT.len())
        );
        assert_eq!(content.opened.load(Ordering::SeqCst), 1);
    }
    let fake = Fake::start(plain_registry).await;
    let error = put(
        &fake,
        &attempts(vec![vec![Ok(b"x")]]),
        &descriptor(b""),
        None,
    )
    .await
    .expect_err("it is wrong");
    shown_as(ItemErrorKind::Corrupt, &error);
}

#[tokio::test]
async fn broken_source_fails_the_upload_without_a_retry() {
    // The source has its own retries.
    let fake = Fake::start(plain_registry).await;
    let content = attempts(vec![vec![
        Ok(&CONTENT[..4]),
        Err(ItemErrorKind::Unreachable),
    ]]);
    let error = put(&fake, &content, &descriptor(CONTENT), None)
        .await
        .expect_err("it is incomplete");
    assert_eq!(
        (error.host.as_str(), error.kind),
        ("source.example", ItemErrorKind::Unreachable)
    );
    assert_eq!(fake.lines().last().map(String::as_str), Some(CANCELLED));
}

#[tokio::test]
async fn temporary_failures_of_an_upload_are_retried() {
    for status in [500, 503, 429] {
        let fails = AtomicUsize::new(2);
        let fake = Fake::start(move |seen| {
            let failing = seen.method == "PUT"
                && fails
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                        left.checked_sub(1)
                    })
                    .is_ok();
            if failing {
                StatusCode::from_u16(status)
                    .expect("a status")
                    .into_response()
            } else {
                plain_registry(seen)
            }
        })
        .await;
        let content = attempts(vec![vec![Ok(CONTENT)]; 3]);
        assert_eq!(
            put(&fake, &content, &descriptor(CONTENT), None)
                .await
                .expect("it is stored"),
            BlobPut::Uploaded
        );
        assert_eq!(
            fake.lines()
                .iter()
                .filter(|line| line.as_str() == CANCELLED)
                .count(),
            2
        );
    }
}

#[tokio::test]
async fn token_that_expires_before_the_content_is_sent_is_replaced_once() {
    for renewals in [1, 9] {
        let revoked = Mutex::new(renewals);
        let fake = Fake::start(move |seen| {
            let challenge = || {
                (
                    StatusCode::UNAUTHORIZED,
                    [(
                        "www-authenticate",
                        format!(r#"Bearer realm="http://{}/token""#, seen.server()),
                    )],
                )
                    .into_response()
            };
            if seen.path.starts_with("/token") {
                return format!(r#"{{"token":"{SECRET}"}}"#).into_response();
            }
            let mut revoked = revoked.lock().expect("the lock");
            match seen.method.as_str() {
                _ if seen.authorization().is_none() => challenge(),
                "PUT" if *revoked > 0 => {
                    *revoked -= 1;
                    challenge()
                }
                _ => plain_registry(seen),
            }
        })
        .await;
        let content = attempts(vec![vec![Ok(CONTENT)]; 9]);
        let result = put(&fake, &content, &descriptor(CONTENT), None).await;
        if renewals == 1 {
            result.expect("it is stored");
        } else {
            shown_as(
                ItemErrorKind::Unauthorized,
                &result.expect_err("it is rejected again"),
            );
        }
        assert_eq!(content.opened.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn response_before_the_end_of_the_content_is_read() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let host: Host = listener
        .local_addr()
        .expect("an address")
        .to_string()
        .parse()
        .expect("a host");
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            tokio::spawn(async move {
                let mut buffer = vec![0; 1024];
                while let Ok(read @ 1..) = socket.read(&mut buffer).await {
                    let request = String::from_utf8_lossy(&buffer[..read]).into_owned();
                    let answer = if request.starts_with("POST") {
                        "HTTP/1.1 202 Accepted\r\nLocation: /u\r\nContent-Length: 0\r\n\r\n"
                    } else if request.starts_with("PUT") {
                        "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 9\r\n\r\ntoo large"
                    } else {
                        continue;
                    };
                    drop(socket.write_all(answer.as_bytes()).await);
                    if request.starts_with("PUT") {
                        // Leaves time to read the response before the rest of the content causes a
                        // reset.
                        tokio::time::sleep(Duration::from_millis(200)).await;
                        return;
                    }
                }
            });
        }
    });
    let (registry, repository) = registry_at(&host);
    let large = vec![b'x'; 8 * 1024 * 1024];
    let blob = descriptor(&large);
    let error = registry
        .put_blob(&repository, &blob, &InMemory(large.into()), None)
        .await
        .expect_err("it is rejected");
    assert!(
        shown_as(ItemErrorKind::Refused, &error).contains("413 Payload Too Large: too large"),
        "{}",
        shown(&error)
    );
}

#[tokio::test]
async fn rejected_uploads_have_a_cause() {
    let fake = Fake::start(|_| not_found("NAME_UNKNOWN")).await;
    let error = put(&fake, &content(), &descriptor(CONTENT), None)
        .await
        .expect_err("it is rejected");
    shown_as(ItemErrorKind::Absent, &error);
    assert!(
        error
            .hint()
            .expect("a hint")
            .contains("require that the repository a is created")
    );
    let fake = Fake::start(|seen| match seen.method.as_str() {
        "PUT" => (
            StatusCode::BAD_REQUEST,
            r#"{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}"#,
        )
            .into_response(),
        _ => plain_registry(seen),
    })
    .await;
    let error = put(&fake, &content(), &descriptor(CONTENT), None)
        .await
        .expect_err("it is rejected");
    assert!(shown_as(ItemErrorKind::Corrupt, &error).contains("?_state=***&x=***&digest=sha256:"));
    let fake = Fake::start(|seen| {
        if seen.method == "PUT" {
            StatusCode::ACCEPTED.into_response()
        } else {
            plain_registry(seen)
        }
    })
    .await;
    shown_as(
        ItemErrorKind::Malformed,
        &put(&fake, &content(), &descriptor(CONTENT), None)
            .await
            .expect_err("it was not stored"),
    );
    let fake = Fake::start(|_| StatusCode::ACCEPTED).await;
    shown_as(
        ItemErrorKind::Malformed,
        &put(&fake, &content(), &descriptor(CONTENT), None)
            .await
            .expect_err("there is no location"),
    );
}

#[tokio::test]
async fn upload_location_on_another_host_gets_no_credentials() {
    let storage = Fake::start(|_| StatusCode::CREATED).await;
    let address = storage.address;
    let fake = Fake::start(move |seen| match seen.authorization() {
        None => (
            StatusCode::UNAUTHORIZED,
            [("www-authenticate", r#"Basic realm="x""#)],
        )
            .into_response(),
        Some(_) => (
            StatusCode::ACCEPTED,
            [("location", format!("http://{address}/upload"))],
        )
            .into_response(),
    })
    .await;
    let registry =
        RemoteRegistries::new(Arc::new(client([&fake.host(), &storage.host()], basic())));
    registry
        .put_blob(
            &repository(&fake.host(), "a"),
            &descriptor(CONTENT),
            &content(),
            None,
        )
        .await
        .expect("it is stored");
    assert!(storage.seen()[0].authorization().is_none());
    assert_eq!(storage.seen()[0].body, CONTENT);
    let registry = RemoteRegistries::new(Arc::new(client([&fake.host()], basic())));
    let error = registry
        .put_blob(
            &repository(&fake.host(), "a"),
            &descriptor(CONTENT),
            &content(),
            None,
        )
        .await
        .expect_err("plain HTTP is not allowed");
    assert!(shown(&error).contains("it is plain HTTP"));
    assert_eq!(storage.seen().len(), 1);
}

#[tokio::test]
async fn concurrent_copies_within_one_host_do_not_deadlock() {
    let content = vec![b'x'; 256 * 1024];
    let answer = content.clone();
    let fake = Fake::start_slow(Duration::from_millis(5), move |seen| {
        if seen.method == "GET" {
            answer.clone().into_response()
        } else {
            plain_registry(seen)
        }
    })
    .await;
    for limit in [1, 2, 3] {
        let registry = RemoteRegistries::new(Arc::new(client_with(
            limited(&fake.host(), limit),
            [&fake.host()],
            Credential::Anonymous,
        )));
        let target = repository(&fake.host(), "a");
        let blob = descriptor(&content);
        let source = OtherRepository {
            registry: &registry,
            repository: repository(&fake.host(), "b"),
            descriptor: blob.clone(),
        };
        let copies = futures_util::future::join_all(
            (0..12).map(|_| registry.put_blob(&target, &blob, &source, None)),
        );
        let results = tokio::time::timeout(Duration::from_secs(20), copies)
            .await
            .expect("they end");
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
}

#[tokio::test]
async fn content_follows_redirects_of_the_upload() {
    let storage = Fake::start(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("PUT", path) if path.starts_with("/stored/") => StatusCode::CREATED,
        _ => StatusCode::NOT_FOUND,
    })
    .await;
    let address = storage.address;
    let fake = Fake::start(move |seen| {
        let to = |to: String| (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response();
        let elsewhere = seen.path.replace("/v2/a/", "/v2/real/a/");
        match seen.method.as_str() {
            "POST" if seen.path.starts_with("/v2/a/") => to(elsewhere),
            "POST" => {
                let session = [("location", "/v2/a/blobs/uploads/1?_state=x")];
                (StatusCode::ACCEPTED, session).into_response()
            }
            "PUT" if seen.path.starts_with("/v2/a/") => to(elsewhere),
            _ => to(format!("http://{address}/stored{}", seen.path)),
        }
    })
    .await;
    let client = client([&fake.host(), &storage.host()], basic());
    let registry = RemoteRegistries::new(Arc::new(client));
    let blob = descriptor(CONTENT);
    let stored = registry
        .put_blob(&repository(&fake.host(), "a"), &blob, &content(), None)
        .await
        .unwrap_or_else(|error| panic!("{}", error.line()));
    assert_eq!(stored, BlobPut::Uploaded);
    let seen = storage.seen();
    assert_eq!(seen.len(), 1, "{:?}", storage.lines());
    assert_eq!(seen[0].body, CONTENT);
    assert!(seen[0].authorization().is_none());
    assert_eq!(
        seen[0].path.matches("digest=").count(),
        1,
        "{}",
        seen[0].path
    );
}

#[tokio::test]
async fn endless_redirects_of_content_are_an_error() {
    let fake = Fake::start(|seen| match seen.method.as_str() {
        "POST" => {
            let session = [("location", "/v2/a/blobs/uploads/1")];
            (StatusCode::ACCEPTED, session).into_response()
        }
        _ => (
            StatusCode::TEMPORARY_REDIRECT,
            [("location", seen.path.clone())],
        )
            .into_response(),
    })
    .await;
    let error = put(&fake, &content(), &descriptor(CONTENT), None)
        .await
        .expect_err("a loop");
    assert!(
        error
            .line()
            .contains("redirected more often than is followed"),
        "{}",
        error.line()
    );
}
