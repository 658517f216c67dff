//! Finding and reading blobs.

use futures_util::StreamExt as _;

use super::*;
use crate::http::testing::{SECRET, basic};

#[tokio::test]
async fn blob_is_read_from_an_offset_with_and_without_range_support() {
    let fake = Fake::start(
        |seen| match (seen.header("range"), seen.path.contains("/ranges/")) {
            (Some("bytes=4-"), true) => (
                StatusCode::PARTIAL_CONTENT,
                [("content-range", "bytes 4-9/10")],
                "456789",
            )
                .into_response(),
            (Some("bytes=5-"), true) => (
                StatusCode::PARTIAL_CONTENT,
                [("content-range", "bytes 0-9/10")],
                "0123456789",
            )
                .into_response(),
            _ => "0123456789".into_response(),
        },
    )
    .await;
    let (registry, _) = registry(&fake);
    let blob = descriptor(b"0123456789");
    for path in ["ranges", "no-ranges"] {
        let repository = repository(&fake.host(), path);
        assert_eq!(
            read(&registry, &repository, &blob, 0)
                .await
                .expect("content"),
            b"0123456789"
        );
        assert_eq!(
            read(&registry, &repository, &blob, 4)
                .await
                .expect("content"),
            b"456789"
        );
        assert_eq!(
            read(&registry, &repository, &blob, 10)
                .await
                .expect("content"),
            b""
        );
    }
    let error = read(&registry, &repository(&fake.host(), "ranges"), &blob, 5)
        .await
        .expect_err("a wrong range");
    shown_as(ItemErrorKind::Malformed, &error);
}

#[tokio::test]
async fn redirect_to_storage_gets_no_credentials() {
    let storage = Fake::start(|_| "content").await;
    let address = storage.address;
    let fake = Fake::start(move |seen| match seen.authorization() {
        None => (
            StatusCode::UNAUTHORIZED,
            [("www-authenticate", r#"Basic realm="x""#)],
        )
            .into_response(),
        Some(_) => (
            StatusCode::TEMPORARY_REDIRECT,
            [("location", format!("http://{address}/b?sig={SECRET}"))],
        )
            .into_response(),
    })
    .await;
    let registry =
        RemoteRegistries::new(Arc::new(client([&fake.host(), &storage.host()], basic())));
    let content = read(
        &registry,
        &repository(&fake.host(), "a"),
        &descriptor(b"content"),
        0,
    )
    .await
    .expect("content");
    assert_eq!(content, b"content");
    assert!(storage.seen()[0].authorization().is_none());
}

#[tokio::test]
async fn has_blob_compares_the_size() {
    let fake = Fake::start(|seen| {
        if seen.path.starts_with("/v2/no/") {
            StatusCode::FORBIDDEN.into_response()
        } else {
            "abc".into_response()
        }
    })
    .await;
    let (registry, repository) = registry(&fake);
    assert!(
        registry
            .has_blob(&repository, &descriptor(b"abc"))
            .await
            .expect("an answer")
    );
    assert!(
        !registry
            .has_blob(
                &repository,
                &Descriptor::new("x", Digest::sha256(b"abc"), 4)
            )
            .await
            .expect("an answer")
    );
    let forbidden: Repository = format!("{}/no", fake.host()).parse().expect("a repository");
    shown_as(
        ItemErrorKind::Forbidden,
        &registry
            .has_blob(&forbidden, &descriptor(b"abc"))
            .await
            .expect_err("forbidden"),
    );
}

#[tokio::test]
async fn readable_blob_sends_its_first_byte() {
    let part = |range: &'static str, body: &'static str| {
        (
            StatusCode::PARTIAL_CONTENT,
            [("content-range", range)],
            body,
        )
            .into_response()
    };
    for (name, response, expected) in [
        ("range", part("bytes 0-0/10", "0"), Some(true)),
        ("unknown size", part("bytes 0-0/*", "0"), Some(true)),
        ("another size", part("bytes 0-0/9", "0"), Some(false)),
        ("no content", part("bytes 0-0/10", ""), Some(false)),
        ("no range support", "0123456789".into_response(), Some(true)),
        ("short content", "012345678".into_response(), Some(false)),
        ("empty content", "".into_response(), Some(false)),
        ("absent", not_found("BLOB_UNKNOWN"), Some(false)),
        ("denied", StatusCode::FORBIDDEN.into_response(), None),
        (
            "outage",
            StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            None,
        ),
    ] {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = axum::body::to_bytes(response.into_body(), 1_000).await;
        let body = body.expect("a body");
        let fake = Fake::start(
            move |seen| match (seen.method.as_str(), seen.header("range")) {
                // The answer of a cache of descriptors.
                ("HEAD", _) => StatusCode::OK.into_response(),
                ("GET", Some("bytes=0-0")) => {
                    (status, headers.clone(), body.clone()).into_response()
                }
                _ => StatusCode::IM_A_TEAPOT.into_response(),
            },
        )
        .await;
        let (registry, repository) = registry(&fake);
        let found = registry
            .can_read_blob(&repository, &descriptor(b"0123456789"))
            .await;
        assert_eq!(found.ok(), expected, "{name}");
    }
}

#[tokio::test]
async fn empty_blob_is_readable_without_content() {
    let fake = Fake::start(|seen| match seen.header("range") {
        None => "".into_response(),
        Some(_) => StatusCode::RANGE_NOT_SATISFIABLE.into_response(),
    })
    .await;
    let (registry, repository) = registry(&fake);
    let found = registry.can_read_blob(&repository, &descriptor(b"")).await;
    assert!(found.expect("an answer"));
}

#[tokio::test]
async fn content_of_a_readable_blob_is_not_downloaded() {
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = sent.clone();
    const CHUNK: usize = 64 * 1024;
    const SIZE: usize = 16_384 * CHUNK;
    let fake = Fake::start(move |_| {
        let counter = counter.clone();
        let chunks = futures_util::stream::iter(0..SIZE / CHUNK).map(move |_| {
            counter.fetch_add(CHUNK, std::sync::atomic::Ordering::Relaxed);
            Ok::<_, std::io::Error>(bytes::Bytes::from(vec![0; CHUNK]))
        });
        let body = axum::body::Body::from_stream(chunks);
        ([("content-length", SIZE.to_string())], body).into_response()
    })
    .await;
    let (registry, repository) = registry(&fake);
    let large = Descriptor::new("x", Digest::sha256(b"large"), SIZE as u64);
    let found = registry.can_read_blob(&repository, &large).await;
    assert!(found.expect("an answer"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let sent = sent.load(std::sync::atomic::Ordering::Relaxed);
    assert!(sent < SIZE / 8, "{sent} bytes were sent");
}
