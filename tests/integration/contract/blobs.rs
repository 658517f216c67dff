//! Blobs.

use std::time::Duration;

use bytes::Bytes;
use imglife::error::ItemErrorKind;
use imglife::registry::BlobPut;

use super::*;

pub(super) async fn blobs_are_read_exactly_from_any_offset(tested: &TestedStore<'_>) {
    let repository = tested.repository("offsets");
    // Longer than a piece of any tested, and of no round length.
    let long: Vec<u8> = (0..700_001_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for content in [&b""[..], b"x", &long] {
        let descriptor = put(tested, &repository, content).await;
        assert!(
            tested
                .store
                .has_blob(&repository, &descriptor)
                .await
                .expect("an answer")
        );
        let inside = [content.len() / 2, content.len().saturating_sub(1)];
        for offset in [0]
            .into_iter()
            .chain(inside.into_iter().filter(|_| tested.ranges))
        {
            let found = read(tested, &repository, &descriptor, offset as u64)
                .await
                .expect("the blob");
            assert!(
                found == content[offset..],
                "{} of {} bytes from {offset} on",
                found.len(),
                content.len()
            );
        }
    }
}

pub(super) async fn wrong_content_is_rejected_and_not_kept(tested: &TestedStore<'_>) {
    let repository = tested.repository("wrong");
    let wanted = blob(b"the right content");
    for wrong in [
        &b"the wrong content"[..],
        b"the right conten",
        b"the right content.",
        b"",
    ] {
        let put = tested
            .store
            .put_blob(&repository, &wanted, &in_memory(wrong), None)
            .await;
        assert_eq!(
            put.map_err(|error| error.kind),
            Err(ItemErrorKind::Corrupt),
            "{wrong:?}"
        );
        assert!(
            !tested
                .store
                .has_blob(&repository, &wanted)
                .await
                .expect("an answer"),
            "{wrong:?}"
        );
    }
    put(tested, &repository, b"the right content").await;
    assert!(
        tested
            .store
            .has_blob(&repository, &wanted)
            .await
            .expect("an answer")
    );
}

pub(super) async fn incomplete_content_is_not_kept(tested: &TestedStore<'_>) {
    let repository = tested.repository("broken");
    let content = vec![7; 300_000];
    let wanted = blob(&content);
    let put = tested
        .store
        .put_blob(
            &repository,
            &wanted,
            &BrokenContent {
                content: Bytes::from(content.clone()),
                after: 250_000,
            },
            None,
        )
        .await;
    assert!(put.is_err());
    assert!(
        !tested
            .store
            .has_blob(&repository, &wanted)
            .await
            .expect("an answer")
    );
    self::put(tested, &repository, &content).await;
}

pub(super) async fn content_of_a_dropped_upload_is_not_kept(tested: &TestedStore<'_>) {
    let repository = tested.repository("dropped");
    let wanted = blob(b"first half, second half");
    let content = StalledContent(Bytes::from_static(b"first half, "));
    let put = tested.store.put_blob(&repository, &wanted, &content, None);
    assert!(
        tokio::time::timeout(Duration::from_millis(100), put)
            .await
            .is_err()
    );
    assert!(
        !tested
            .store
            .has_blob(&repository, &wanted)
            .await
            .expect("an answer")
    );
    self::put(tested, &repository, b"first half, second half").await;
}

pub(super) async fn a_blob_may_be_stored_again_and_concurrently(tested: &TestedStore<'_>) {
    let repository = tested.repository("again");
    let (one, other, third) = tokio::join!(
        put(tested, &repository, b"the same"),
        put(tested, &repository, b"the same"),
        put(tested, &repository, b"the same"),
    );
    assert!(one == other && other == third);
    put(tested, &repository, b"the same").await;
    assert_eq!(
        read(tested, &repository, &one, 0).await.expect("the blob"),
        b"the same"
    );
}

pub(super) async fn a_blob_is_mounted_between_repositories(tested: &TestedStore<'_>) {
    let (from, to) = (
        tested.repository("mount-from"),
        tested.repository("mount-to"),
    );
    let shared = put(tested, &from, b"shared").await;
    let put = tested
        .store
        .put_blob(&to, &shared, &UnneededContent, Some(&from))
        .await
        .expect("to mount");
    assert_eq!(put, BlobPut::Mounted);
    assert!(
        tested
            .store
            .has_blob(&to, &shared)
            .await
            .expect("an answer")
    );
    assert_eq!(
        read(tested, &to, &shared, 0).await.expect("the blob"),
        b"shared"
    );
}

pub(super) async fn a_blob_that_cannot_be_mounted_is_uploaded(tested: &TestedStore<'_>) {
    let (from, to) = (
        tested.repository("empty-from"),
        tested.repository("sent-to"),
    );
    let wanted = blob(b"not over there");
    let put = tested
        .store
        .put_blob(&to, &wanted, &in_memory(b"not over there"), Some(&from))
        .await
        .expect("to write");
    assert_eq!(put, BlobPut::Uploaded);
    assert!(
        tested
            .store
            .has_blob(&to, &wanted)
            .await
            .expect("an answer")
    );
}
