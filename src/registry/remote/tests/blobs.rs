//! Finding and reading blobs.

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
