//! Downloads that break.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::registries::RemoteRegistries;
use super::tests::{OtherRepository, descriptor, read, registry_at, repository, shown_as};
use crate::credentials::Credential;
use crate::error::{ItemError, ItemErrorKind};
use crate::http::Settings;
use crate::http::testing::{Fake, ReceivedRequest, client_with, limited, raw_server};
use crate::registry::store::{ImageSource, ImageStore};

const CONTENT: &[u8] = b"some content of a layer";

/// End of an incomplete response.
#[derive(Clone, Copy)]
enum DownloadEnd {
    Cut,
    Stall,
}

/// Returns a response for the content from `offset` on that ends after `length` bytes.
fn broken(content: &[u8], offset: usize, length: usize, end: DownloadEnd) -> Response {
    let sent = Bytes::copy_from_slice(&content[offset..][..length]);
    let rest = stream::once(async move {
        if matches!(end, DownloadEnd::Stall) {
            std::future::pending::<()>().await;
        }
        // Leaves time for the sent bytes: a reset may discard them.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(std::io::Error::other("cut"))
    });
    let body = Body::from_stream(stream::iter([Ok(sent)]).chain(rest));
    let mut answer = Response::new(body);
    answer
        .headers_mut()
        .insert("content-length", (content.len() - offset).into());
    if offset > 0 {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {offset}-{}/{}", content.len() - 1, content.len());
        answer
            .headers_mut()
            .insert("content-range", range.parse().expect("a header"));
    }
    answer
}

fn offset(seen: &ReceivedRequest) -> usize {
    let range = seen
        .header("range")
        .map(|range| range["bytes=".len()..].trim_end_matches('-').to_owned());
    range.map_or(0, |text| text.parse().expect("an offset"))
}

fn ranges(fake: &Fake) -> Vec<usize> {
    fake.seen().iter().map(offset).collect()
}

async fn content_of(fake: &Fake, from: u64) -> Result<Vec<u8>, ItemError> {
    let (registry, repository) = registry_at(&fake.host());
    read(&registry, &repository, &descriptor(CONTENT), from).await
}

#[tokio::test]
async fn broken_download_continues_at_its_position() {
    for end in [DownloadEnd::Cut, DownloadEnd::Stall] {
        let fake = Fake::start(move |seen| match offset(seen) {
            at @ 0..12 => broken(CONTENT, at, 6, end),
            at => broken(CONTENT, at, CONTENT.len() - at, end),
        })
        .await;
        assert_eq!(content_of(&fake, 0).await.expect("content"), CONTENT);
        assert_eq!(ranges(&fake), [0, 6, 12]);
        assert_eq!(content_of(&fake, 3).await.expect("content"), &CONTENT[3..]);
        assert_eq!(ranges(&fake)[3..], [3, 9, 15]);
    }
}

#[tokio::test]
async fn broken_download_starts_again_without_range_support() {
    let fake = Fake::start(|seen| match seen.index {
        0 => broken(CONTENT, 0, 9, DownloadEnd::Cut),
        1 => broken(CONTENT, 0, 5, DownloadEnd::Cut),
        _ => CONTENT.into_response(),
    })
    .await;
    assert_eq!(content_of(&fake, 0).await.expect("content"), CONTENT);
    assert_eq!(ranges(&fake), [0, 9, 9]);
}

#[tokio::test]
async fn download_is_attempted_five_times() {
    let fake = Fake::start(|seen| broken(CONTENT, offset(seen), 1, DownloadEnd::Cut)).await;
    let error = content_of(&fake, 0).await.expect_err("it always breaks");
    let text = shown_as(ItemErrorKind::Unreachable, &error);
    assert!(
        text.contains("the connection broke") && text.ends_with(", tried 5 times)"),
        "{text}"
    );
    assert_eq!(ranges(&fake), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn permanent_error_ends_a_broken_download() {
    for (status, kind, requests) in [
        (404, ItemErrorKind::Absent, 2),
        (503, ItemErrorKind::ServerError, 5),
    ] {
        let fake = Fake::start(move |seen| match seen.index {
            0 => broken(CONTENT, 0, 9, DownloadEnd::Cut),
            _ => StatusCode::from_u16(status)
                .expect("a status")
                .into_response(),
        })
        .await;
        shown_as(kind, &content_of(&fake, 0).await.expect_err("it ends"));
        assert_eq!(fake.seen().len(), requests);
    }
}

#[tokio::test]
async fn blob_that_is_too_short_is_not_read_again() {
    let fake = Fake::start(|_| "short").await;
    assert_eq!(content_of(&fake, 0).await.expect("what there is"), b"short");
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn connection_that_ends_early_without_a_length_is_broken() {
    let host = raw_server(b"HTTP/1.1 200 OK\r\n\r\nsome content", Duration::ZERO).await;
    let (registry, repository) = registry_at(&host);
    let error = read(&registry, &repository, &descriptor(CONTENT), 0)
        .await
        .expect_err("it is never complete");
    let text = shown_as(ItemErrorKind::Unreachable, &error);
    assert!(
        text.contains("the connection broke after 12 of 23 bytes"),
        "{text}"
    );
    let error = registry
        .blob(&repository, &descriptor(b"some content"), 0)
        .await
        .expect("a stream")
        .collect::<Vec<_>>()
        .await;
    assert!(error.iter().all(Result::is_ok), "it is complete");
}

#[tokio::test]
async fn broken_downloads_within_uploads_to_the_same_host_do_not_deadlock() {
    let content: &'static [u8] = &[b'x'; 64 * 1024];
    let cuts = Mutex::new(12);
    let fake = Fake::start_slow(Duration::from_millis(5), move |seen| {
        match seen.method.as_str() {
            "GET" => {
                let at = offset(seen);
                let mut left = cuts.lock().expect("the lock");
                if at == 0 && *left > 0 {
                    *left -= 1;
                    broken(content, 0, 30_000, DownloadEnd::Cut)
                } else {
                    broken(content, at, content.len() - at, DownloadEnd::Cut)
                }
            }
            "POST" => (
                StatusCode::ACCEPTED,
                [("location", "/v2/a/blobs/uploads/1")],
            )
                .into_response(),
            _ => StatusCode::CREATED.into_response(),
        }
    })
    .await;
    for limit in [1, 2, 3] {
        let settings = Settings {
            retry_delay: Duration::from_millis(100),
            ..limited(&fake.host(), limit)
        };
        let registry = RemoteRegistries::new(Arc::new(client_with(
            settings,
            [&fake.host()],
            Credential::Anonymous,
        )));
        let target = repository(&fake.host(), "a");
        let blob = descriptor(content);
        let source = OtherRepository {
            registry: &registry,
            repository: repository(&fake.host(), "b"),
            descriptor: blob.clone(),
        };
        let copies = futures_util::future::join_all(
            (0..6).map(|_| registry.put_blob(&target, &blob, &source, None)),
        );
        let results = tokio::time::timeout(Duration::from_secs(20), copies)
            .await
            .expect("they end");
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
}
