//! Mounts of blobs.

use super::*;
use crate::registry::remote::repository::CONTENT_DIGEST;

#[tokio::test]
async fn blob_is_mounted_or_uploaded_by_the_response_of_the_registry() {
    let blob = descriptor(CONTENT);
    let mount = format!(
        "POST /v2/a/blobs/uploads/?mount={}&from=team%2Fb",
        blob.digest
    );
    for (status, result, requests) in [
        (201, BlobPut::Mounted, 1),
        (202, BlobPut::Uploaded, 2),
        (400, BlobPut::Uploaded, 3),
        (405, BlobPut::Uploaded, 3),
    ] {
        let fake = Fake::start(move |seen| {
            let mut response = plain_registry(seen);
            if seen.path.contains("mount=") {
                *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            }
            response
        })
        .await;
        assert_eq!(
            put(&fake, &content(), &blob, Some("team/b"))
                .await
                .expect("it is stored"),
            result,
            "{status}"
        );
        assert_eq!(
            (fake.lines()[0].as_str(), fake.seen().len()),
            (mount.as_str(), requests),
            "{status}"
        );
    }
    let fake = Fake::start(plain_registry).await;
    put(&fake, &content(), &blob, Some("a"))
        .await
        .expect("it is stored");
    assert_eq!(
        fake.lines()[0],
        "POST /v2/a/blobs/uploads/",
        "a repository is not mounted from itself"
    );
}

#[tokio::test]
async fn failed_mounts_are_replaced_by_uploads_and_soon_not_tried_any_more() {
    for is_token_server in [false, true] {
        let fake = Fake::start(move |seen| match seen.path.as_str() {
            path if path.starts_with("/token") && path.contains("%3Ab%3A") => {
                StatusCode::SERVICE_UNAVAILABLE.into_response()
            }
            path if path.starts_with("/token") => r#"{"token":"t"}"#.into_response(),
            _ if is_token_server && seen.authorization().is_none() => (
                StatusCode::UNAUTHORIZED,
                [(
                    "www-authenticate",
                    format!(r#"Bearer realm="http://{}/token""#, seen.server()),
                )],
            )
                .into_response(),
            path if path.contains("mount=") => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            _ => plain_registry(seen),
        })
        .await;
        let (registry, target) = registry(&fake);
        let from = repository(&fake.host(), "b");
        for _ in 0..4 {
            let stored = registry
                .put_blob(&target, &descriptor(CONTENT), &content(), Some(&from))
                .await;
            assert_eq!(stored.expect("it is stored"), BlobPut::Uploaded);
        }
        let mounts = fake
            .lines()
            .iter()
            .filter(|line| line.contains("mount="))
            .count();
        assert_eq!(
            mounts,
            if is_token_server { 1 } else { 2 },
            "{:?}",
            fake.lines()
        );
    }
}

#[tokio::test]
async fn rate_limited_mount_is_retried() {
    let fake = Fake::start(|seen| match seen.index {
        0 => StatusCode::TOO_MANY_REQUESTS.into_response(),
        _ => StatusCode::CREATED.into_response(),
    })
    .await;
    assert_eq!(
        put(&fake, &content(), &descriptor(CONTENT), Some("b"))
            .await
            .expect("it is mounted"),
        BlobPut::Mounted
    );
}

#[tokio::test]
async fn mount_requests_a_token_for_both_repositories() {
    let fake = Fake::start(|seen| {
        if seen.path.starts_with("/token") {
            r#"{"token":"t"}"#.into_response()
        } else if seen.authorization().is_none() {
            (
                StatusCode::UNAUTHORIZED,
                [(
                    "www-authenticate",
                    format!(r#"Bearer realm="http://{}/token""#, seen.server()),
                )],
            )
                .into_response()
        } else {
            StatusCode::CREATED.into_response()
        }
    })
    .await;
    put(&fake, &content(), &descriptor(CONTENT), Some("b"))
        .await
        .expect("it is mounted");
    assert_eq!(
        fake.lines()[1],
        "GET /token?scope=repository%3Aa%3Apull%2Cpush&scope=repository%3Ab%3Apull"
    );
}

#[tokio::test]
async fn mount_of_other_content_is_detected() {
    let wrong = Digest::sha256(b"other").to_string();
    let fake = Fake::start(move |_| (StatusCode::CREATED, [(CONTENT_DIGEST, wrong.clone())])).await;
    shown_as(
        ItemErrorKind::Corrupt,
        &put(&fake, &content(), &descriptor(CONTENT), Some("b"))
            .await
            .expect_err("other content"),
    );
}

#[tokio::test]
async fn blobs_are_not_mounted_from_other_hosts_or_layouts() {
    for from in ["other.example/b", "ocidir:///b"] {
        let fake = Fake::start(plain_registry).await;
        let (registry, target) = registry(&fake);
        let from: Repository = from.parse().expect("a repository");
        let put = registry
            .put_blob(&target, &descriptor(CONTENT), &content(), Some(&from))
            .await;
        assert_eq!(put.expect("it is stored"), BlobPut::Uploaded);
        assert_eq!(fake.lines()[0], "POST /v2/a/blobs/uploads/", "{from}");
    }
}
