//! Resolving, reading and writing manifests.

use super::*;
use crate::http;
use crate::model::{Algorithm, Manifest, media_type};
use crate::registry::remote::repository::CONTENT_DIGEST;

const MANIFEST: &str = r#"{ "schemaVersion": 2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[] }"#;

fn manifest_answer(digest: Option<String>) -> impl Fn(&ReceivedRequest) -> Response {
    move |_| {
        let mut response = (
            [(
                "content-type",
                "application/vnd.oci.image.index.v1+json; charset=utf-8",
            )],
            MANIFEST,
        )
            .into_response();
        if let Some(digest) = &digest {
            response
                .headers_mut()
                .insert(CONTENT_DIGEST, digest.parse().expect("a header"));
        }
        response
    }
}

fn methods(fake: &Fake) -> Vec<String> {
    fake.seen().into_iter().map(|seen| seen.method).collect()
}

#[tokio::test]
async fn resolve_sends_a_head_that_accepts_all_media_types() {
    let fake = Fake::start(manifest_answer(Some(
        Digest::sha256(MANIFEST.as_bytes()).to_string(),
    )))
    .await;
    let (registry, repository) = registry(&fake);
    let found = registry
        .resolve(&repository, &tag("1"))
        .await
        .expect("an answer");
    assert_eq!(found, Some(Digest::sha256(MANIFEST.as_bytes()).into()));
    registry
        .manifest(&repository, &tag("1"))
        .await
        .expect("an answer");
    let seen = fake.seen();
    assert_eq!(
        fake.lines(),
        ["HEAD /v2/a/manifests/1", "GET /v2/a/manifests/1"]
    );
    for seen in &seen {
        let accepted: Vec<&str> = seen
            .headers
            .get_all("accept")
            .iter()
            .map(|value| value.to_str().expect("text"))
            .collect();
        assert_eq!(accepted, media_type::ACCEPTED_MANIFESTS);
    }
}

#[tokio::test]
async fn resolve_without_a_valid_digest_reads_the_manifest() {
    for digest in [None, Some("nonsense".to_owned())] {
        let fake = Fake::start(manifest_answer(digest)).await;
        let (registry, repository) = registry(&fake);
        let found = registry
            .resolve(&repository, &tag("1"))
            .await
            .expect("an answer")
            .expect("a manifest");
        assert_eq!(found.digest, Digest::sha256(MANIFEST.as_bytes()));
        assert_eq!(methods(&fake), ["HEAD", "GET"]);
    }
}

#[tokio::test]
async fn resolve_without_a_length_does_not_read_the_body() {
    let digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let answer =
        b"HTTP/1.1 200 OK\r\nDocker-Content-Digest: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n";
    let (registry, repository) =
        registry_at(&http::testing::raw_server(answer, Duration::from_millis(10)).await);
    let found = registry
        .resolve(&repository, &tag("1"))
        .await
        .expect("the body is not read, which would fail");
    assert_eq!(found.expect("a manifest").digest.as_str(), digest);
}

#[tokio::test]
async fn rate_limited_resolve_does_not_read_the_manifest() {
    let fake = Fake::start(|_| StatusCode::TOO_MANY_REQUESTS).await;
    let (registry, repository) = registry(&fake);
    let error = registry
        .resolve(&repository, &tag("1"))
        .await
        .expect_err("a rate limit");
    shown_as(ItemErrorKind::RateLimited, &error);
    assert_eq!(methods(&fake), ["HEAD"; 5]);
}

#[tokio::test]
async fn resolve_reads_the_manifest_if_head_is_not_supported() {
    for status in [405, 501] {
        let answer = manifest_answer(None);
        let fake = Fake::start(move |seen| match seen.method.as_str() {
            "HEAD" => StatusCode::from_u16(status)
                .expect("a status")
                .into_response(),
            _ => answer(seen),
        })
        .await;
        let (registry, repository) = registry(&fake);
        let found = registry
            .resolve(&repository, &tag("1"))
            .await
            .expect("an answer")
            .expect("a manifest");
        assert_eq!(found, Digest::sha256(MANIFEST.as_bytes()).into());
        assert_eq!(methods(&fake), ["HEAD", "GET"]);
    }
    for status in [400, 403, 418, 500] {
        let fake = Fake::start(move |_| StatusCode::from_u16(status).expect("a status")).await;
        let (registry, repository) = registry(&fake);
        registry
            .resolve(&repository, &tag("1"))
            .await
            .expect_err("it fails");
        assert!(
            methods(&fake).iter().all(|method| method == "HEAD"),
            "{status}"
        );
    }
}

#[tokio::test]
async fn missing_token_server_does_not_mean_missing_content() {
    let fake = Fake::start(|seen| {
        if seen.path.starts_with("/token") {
            StatusCode::NOT_FOUND.into_response()
        } else {
            (
                StatusCode::UNAUTHORIZED,
                [(
                    "www-authenticate",
                    format!(r#"Bearer realm="http://{}/token""#, seen.server()),
                )],
            )
                .into_response()
        }
    })
    .await;
    let (registry, repository) = registry(&fake);
    shown_as(
        ItemErrorKind::Refused,
        &registry
            .resolve(&repository, &tag("1"))
            .await
            .expect_err("no token"),
    );
    shown_as(
        ItemErrorKind::Refused,
        &registry.tags(&repository).await.expect_err("no token"),
    );
}

#[tokio::test]
async fn missing_content_is_none() {
    let fake = Fake::start(|_| not_found("MANIFEST_UNKNOWN")).await;
    let (registry, repository) = registry(&fake);
    assert_eq!(
        registry
            .resolve(&repository, &tag("1"))
            .await
            .expect("an answer"),
        None
    );
    assert_eq!(
        registry
            .manifest(&repository, &tag("1"))
            .await
            .expect("an answer"),
        None
    );
    assert!(
        !registry
            .has_blob(&repository, &descriptor(b"x"))
            .await
            .expect("an answer")
    );
    assert_eq!(
        registry
            .blob(&repository, &descriptor(b"x"), 0)
            .await
            .err()
            .expect("an error")
            .kind,
        ItemErrorKind::Absent
    );
}

#[tokio::test]
async fn wrong_digests_are_detected() {
    let (right, wrong) = (
        Digest::sha256(MANIFEST.as_bytes()),
        Digest::sha256(b"other"),
    );
    // A wrong header, and bytes of another manifest than requested.
    for (header, requested) in [
        (Some(&wrong), None),
        (Some(&wrong), Some(&right)),
        (None, Some(&wrong)),
        (Some(&wrong), Some(&wrong)),
    ] {
        let fake = Fake::start(manifest_answer(header.map(ToString::to_string))).await;
        let (registry, repository) = registry(&fake);
        let reference =
            requested.map_or_else(|| tag("1"), |digest| Reference::Digest(digest.clone()));
        let error = registry
            .manifest(&repository, &reference)
            .await
            .expect_err("a wrong digest");
        assert!(
            shown_as(ItemErrorKind::Corrupt, &error)
                .contains(&format!("its bytes have the digest {right}, not {wrong}"))
        );
    }
    let fake = Fake::start(manifest_answer(Some(wrong.to_string()))).await;
    let (registry, repository) = registry(&fake);
    let error = registry
        .resolve(&repository, &Reference::Digest(right))
        .await
        .expect_err("a wrong digest");
    shown_as(ItemErrorKind::Corrupt, &error);
}

#[tokio::test]
async fn other_digest_algorithms_are_verified() {
    let digest = Digest::of(Algorithm::Sha512, MANIFEST.as_bytes());
    for header in [
        None,
        Some(digest.to_string()),
        Some(Digest::sha256(MANIFEST.as_bytes()).to_string()),
    ] {
        let fake = Fake::start(manifest_answer(header)).await;
        let (registry, repository) = registry(&fake);
        let manifest = registry
            .manifest(&repository, &Reference::Digest(digest.clone()))
            .await
            .expect("an answer");
        assert_eq!(manifest.expect("a manifest").digest, digest);
    }
    let fake = Fake::start(manifest_answer(Some(digest.to_string()))).await;
    let (registry, repository) = registry(&fake);
    assert_eq!(
        registry
            .manifest(&repository, &tag("1"))
            .await
            .expect("an answer")
            .expect("a manifest")
            .digest,
        digest
    );
}

#[tokio::test]
async fn unsupported_manifests_are_errors() {
    for (body, kind, reason) in [
        (
            r#"{"schemaVersion":1}"#.to_owned(),
            ItemErrorKind::Unsupported,
            "schema 1",
        ),
        (
            " ".repeat(4 * 1024 * 1024 + 1),
            ItemErrorKind::Malformed,
            "more than 4194304 bytes",
        ),
        (
            "<html>".to_owned(),
            ItemErrorKind::Malformed,
            "the content is not a manifest",
        ),
    ] {
        let fake = Fake::start(move |_| body.clone()).await;
        let (registry, repository) = registry(&fake);
        let error = registry
            .manifest(&repository, &tag("1"))
            .await
            .expect_err("an unsupported manifest");
        assert!(shown_as(kind, &error).contains(reason), "{}", shown(&error));
    }
}

#[tokio::test]
async fn put_manifest_sends_exact_bytes_and_media_type() {
    let wrong = Digest::sha256(b"other").to_string();
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/v2/a/manifests/other" => {
            (StatusCode::CREATED, [(CONTENT_DIGEST, wrong.clone())]).into_response()
        }
        "/v2/a/manifests/fixed" => (
            StatusCode::BAD_REQUEST,
            r#"{"errors":[{"code":"TAG_INVALID","message":"tag is immutable"}]}"#,
        )
            .into_response(),
        _ => StatusCode::CREATED.into_response(),
    })
    .await;
    let (registry, repository) = registry(&fake);
    let manifest = Manifest::parse(MANIFEST.into(), None, Algorithm::Sha256).expect("a manifest");
    registry
        .put_manifest(&repository, &tag("1"), &manifest)
        .await
        .expect("it is stored");
    registry
        .put_manifest(&repository, &manifest.digest.clone().into(), &manifest)
        .await
        .expect("it is stored");
    let error = registry
        .put_manifest(&repository, &tag("other"), &manifest)
        .await
        .expect_err("another digest was stored");
    shown_as(ItemErrorKind::Corrupt, &error);
    let error = registry
        .put_manifest(&repository, &tag("fixed"), &manifest)
        .await
        .expect_err("it was rejected");
    assert!(shown_as(ItemErrorKind::Refused, &error).contains("TAG_INVALID: tag is immutable"));
    let seen = fake.seen();
    assert_eq!(
        (seen[0].line(), seen[1].line()),
        (
            "PUT /v2/a/manifests/1".into(),
            format!("PUT /v2/a/manifests/{}", manifest.digest)
        )
    );
    assert_eq!(
        (&seen[0].body[..], seen[0].header("content-type")),
        (MANIFEST.as_bytes(), Some(media_type::OCI_INDEX))
    );
}
