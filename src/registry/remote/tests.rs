use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::credentials::Credential;
use crate::http::Settings;
use crate::http::testing::{
    Fake, ReceivedRequest, SECRET, basic, client, client_with, limited, quick, shown,
};
use crate::model::Algorithm;
use crate::model::media_type;
use crate::registry::InMemory;

pub(super) fn repository(host: &Host, path: &str) -> Repository {
    format!("{host}/{path}").parse().expect("a repository")
}

fn tag(text: &str) -> Reference {
    Reference::Tag(text.parse().expect("a tag"))
}

pub(super) fn descriptor(content: &[u8]) -> Descriptor {
    Descriptor::new(
        "application/octet-stream",
        Digest::sha256(content),
        content.len() as u64,
    )
}

/// Returns registries that speak to `fake`, and its repository `a`.
fn registry(fake: &Fake) -> (RemoteRegistries, Repository) {
    (
        RemoteRegistries::new(Arc::new(client([&fake.host()], Credential::Anonymous))),
        repository(&fake.host(), "a"),
    )
}

pub(super) fn registry_at(host: &Host) -> (RemoteRegistries, Repository) {
    let settings = Settings {
        stall: Duration::from_millis(500),
        ..quick()
    };
    (
        RemoteRegistries::new(Arc::new(client_with(
            settings,
            [host],
            Credential::Anonymous,
        ))),
        repository(host, "a"),
    )
}

fn not_found(code: &str) -> Response {
    (
        StatusCode::NOT_FOUND,
        format!(r#"{{"errors":[{{"code":"{code}","message":"unknown"}}]}}"#),
    )
        .into_response()
}

/// Returns what is shown of an error, once its kind was checked.
pub(super) fn shown_as(kind: ItemErrorKind, error: &ItemError) -> String {
    let text = shown(error);
    assert_eq!(error.kind, kind, "{text}");
    text
}

// Tags

async fn tags_of(fake: &Fake) -> Result<Option<Vec<String>>, ItemError> {
    let (registry, repository) = registry(fake);
    let tags = registry.tags(&repository).await?;
    Ok(tags.map(|tags| tags.into_iter().map(|seen| seen.tag.to_string()).collect()))
}

#[tokio::test]
async fn listings_follow_links_and_cost_a_request_a_page() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/v2/a/tags/list?n=1000" => (
            [("link", r#"</v2/a/tags/list?last=2&token=x>; rel="next""#)],
            r#"{"tags":["1","2"]}"#,
        )
            .into_response(),
        "/v2/a/tags/list?last=2&token=x" => (
            [("link", r#"<list?last=3>; rel="next""#)],
            r#"{"tags":["3","2","no tag","-x"]}"#,
        )
            .into_response(),
        "/v2/a/tags/list?last=3" => (
            [("link", r#"<list?last=4>; rel="next""#)],
            r#"{"name":"a","tags":null}"#,
        )
            .into_response(),
        _ => StatusCode::IM_A_TEAPOT.into_response(),
    })
    .await;
    assert_eq!(
        tags_of(&fake).await.expect("tags"),
        Some(vec!["1".to_owned(), "2".to_owned(), "3".to_owned()])
    );
    assert_eq!(fake.seen().len(), 3);
}

#[tokio::test]
async fn no_repository_and_no_tags_are_told_apart() {
    for (body, expected) in [
        (r#"{"tags":null}"#, Some(Vec::new())),
        ("{}", Some(Vec::new())),
        (r#"{"tags":[]}"#, Some(Vec::new())),
    ] {
        let fake = Fake::start(move |_| body).await;
        assert_eq!(tags_of(&fake).await.expect("an answer"), expected);
    }
    let fake = Fake::start(|_| not_found("NAME_UNKNOWN")).await;
    assert_eq!(tags_of(&fake).await.expect("an answer"), None);
    for (status, kind) in [
        (401, ItemErrorKind::Unauthorized),
        (403, ItemErrorKind::Forbidden),
        (400, ItemErrorKind::Refused),
    ] {
        let fake = Fake::start(move |_| StatusCode::from_u16(status).expect("a status")).await;
        shown_as(kind, &tags_of(&fake).await.expect_err("it fails"));
    }
}

#[tokio::test]
async fn a_listing_that_cannot_be_whole_is_an_error() {
    let other = Fake::start(|_| r#"{"tags":["2"]}"#).await;
    let elsewhere = format!(
        r#"<http://{}/v2/a/tags/list?last=1>; rel="next""#,
        other.address
    );
    for (link, reason) in [
        (elsewhere.as_str(), "on another host (http://127.0.0.1)"),
        (
            r#"</v2/a/tags/list?n=1000>; rel="next""#,
            "the next page was read already",
        ),
        (r#"</gone>; rel="next""#, "404"),
    ] {
        let header = link.to_owned();
        let fake = Fake::start(move |seen| match seen.path.as_str() {
            "/gone" => not_found("NAME_UNKNOWN"),
            _ => ([("link", header.clone())], r#"{"tags":["1"]}"#).into_response(),
        })
        .await;
        let error = shown(&tags_of(&fake).await.expect_err("it breaks off"));
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(other.seen().len(), 0);
    let fake = Fake::start(|_| "<html>").await;
    shown_as(
        ItemErrorKind::Malformed,
        &tags_of(&fake).await.expect_err("no listing"),
    );
}

/// Answers with `body` and a link to another page each time.
fn and_more(seen: &ReceivedRequest, body: String) -> Response {
    (
        [("link", format!("<?page={}>; rel=\"next\"", seen.index))],
        body,
    )
        .into_response()
}

#[tokio::test]
async fn a_listing_of_the_same_on_each_page_ends_as_an_error() {
    const NOTHING_NEW: &str = "a page with nothing new says that another follows";
    let fake =
        Fake::start(|seen| and_more(seen, r#"{"tags":["1"],"repositories":["a"]}"#.to_owned()))
            .await;
    let error = shown(&tags_of(&fake).await.expect_err("no end"));
    assert!(error.contains(NOTHING_NEW), "{error}");
    assert_eq!(fake.seen().len(), 2);
    let (registries, repository) = registry(&fake);
    let error = shown(
        &registries
            .repositories_beside(&repository)
            .await
            .expect_err("no end"),
    );
    assert!(error.contains(NOTHING_NEW), "{error}");
    assert_eq!(fake.seen().len(), 4);
}

#[tokio::test]
async fn a_listing_of_anything_is_bounded_by_its_text() {
    let fake = Fake::start(|seen| {
        let name = format!("{}{}", seen.index, "A".repeat(2_000_000));
        and_more(
            seen,
            format!(r#"{{"tags":["{name}"],"repositories":["{name}"]}}"#),
        )
    })
    .await;
    let error = shown(&tags_of(&fake).await.expect_err("no end"));
    assert!(error.contains("it has more than 67108864 bytes"), "{error}");
    assert_eq!(fake.seen().len(), 17);
    let (registries, repository) = registry(&fake);
    let error = shown(
        &registries
            .repositories_beside(&repository)
            .await
            .expect_err("no end"),
    );
    assert!(error.contains("it has more than 67108864 bytes"), "{error}");
}

#[tokio::test]
async fn a_full_page_without_a_link_is_asked_on_from() {
    let page = |from: usize, to: usize| {
        let names: Vec<String> = (from..to)
            .map(|index| format!(r#""t{index:04}""#))
            .collect();
        format!(r#"{{"tags":[{}]}}"#, names.join(","))
    };
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/v2/a/tags/list?n=1000" => page(0, 1000),
        "/v2/a/tags/list?n=1000&last=t0999" => page(1000, 1010),
        path => panic!("asked for {path}"),
    })
    .await;
    assert_eq!(
        tags_of(&fake).await.expect("tags").map(|tags| tags.len()),
        Some(1010)
    );
    let ignores_last = Fake::start(move |_| page(0, 1000)).await;
    assert_eq!(
        tags_of(&ignores_last)
            .await
            .expect("tags")
            .map(|tags| tags.len()),
        Some(1000)
    );
    assert_eq!(ignores_last.seen().len(), 2);
}

// Manifests

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
async fn a_lookup_is_a_head_with_all_types_accepted() {
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
async fn a_lookup_without_a_usable_digest_reads_and_hashes() {
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
async fn a_lookup_that_tells_the_digest_and_no_length_reads_nothing() {
    let digest = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let answer =
        b"HTTP/1.1 200 OK\r\nDocker-Content-Digest: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n";
    let (registry, repository) =
        registry_at(&http::testing::raw_server(answer, Duration::from_millis(10)).await);
    let found = registry
        .resolve(&repository, &tag("1"))
        .await
        .expect("nothing is read, which would fail");
    assert_eq!(found.expect("a manifest").digest.as_str(), digest);
}

#[tokio::test]
async fn a_limited_lookup_never_becomes_a_read() {
    let fake = Fake::start(|_| StatusCode::TOO_MANY_REQUESTS).await;
    let (registry, repository) = registry(&fake);
    let error = registry
        .resolve(&repository, &tag("1"))
        .await
        .expect_err("limited");
    shown_as(ItemErrorKind::RateLimited, &error);
    assert_eq!(methods(&fake), ["HEAD"; 5]);
}

#[tokio::test]
async fn where_lookups_are_unknown_manifests_are_read() {
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
async fn a_token_server_that_is_not_there_does_not_mean_that_nothing_is() {
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
async fn what_is_not_there_is_none() {
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
async fn digests_that_lie_are_found_out() {
    let (right, wrong) = (
        Digest::sha256(MANIFEST.as_bytes()),
        Digest::sha256(b"other"),
    );
    // A header that lies, and bytes that are not what was asked for.
    for (header, asked) in [
        (Some(&wrong), None),
        (Some(&wrong), Some(&right)),
        (None, Some(&wrong)),
        (Some(&wrong), Some(&wrong)),
    ] {
        let fake = Fake::start(manifest_answer(header.map(ToString::to_string))).await;
        let (registry, repository) = registry(&fake);
        let reference = asked.map_or_else(|| tag("1"), |digest| Reference::Digest(digest.clone()));
        let error = registry
            .manifest(&repository, &reference)
            .await
            .expect_err("it lies");
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
        .expect_err("it lies");
    shown_as(ItemErrorKind::Corrupt, &error);
}

#[tokio::test]
async fn other_digest_algorithms_are_hashed_too() {
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
async fn manifests_that_cannot_be_copied_are_named() {
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
            .expect_err("it cannot be copied");
        assert!(shown_as(kind, &error).contains(reason), "{}", shown(&error));
    }
}

#[tokio::test]
async fn a_manifest_is_written_in_its_exact_bytes_and_type() {
    let wrong = Digest::sha256(b"other").to_string();
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/v2/a/manifests/lied" => {
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
        .put_manifest(&repository, &tag("lied"), &manifest)
        .await
        .expect_err("another was stored");
    shown_as(ItemErrorKind::Corrupt, &error);
    let error = registry
        .put_manifest(&repository, &tag("fixed"), &manifest)
        .await
        .expect_err("it was refused");
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

// Blobs

pub(super) async fn read(
    registry: &RemoteRegistries,
    repository: &Repository,
    descriptor: &Descriptor,
    offset: u64,
) -> Result<Vec<u8>, ItemError> {
    let chunks: Vec<_> = registry
        .blob(repository, descriptor, offset)
        .await?
        .try_collect()
        .await?;
    Ok(chunks.concat())
}

#[tokio::test]
async fn a_blob_is_read_from_an_offset_whether_the_registry_can_or_not() {
    let fake = Fake::start(
        |seen| match (seen.header("range"), seen.path.contains("/able/")) {
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
    for path in ["able", "unable"] {
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
    let error = read(&registry, &repository(&fake.host(), "able"), &blob, 5)
        .await
        .expect_err("the range lies");
    shown_as(ItemErrorKind::Malformed, &error);
}

#[tokio::test]
async fn a_blob_is_read_from_storage_without_the_credential() {
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
async fn a_blob_of_another_size_is_not_the_blob() {
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

// Uploads

const CONTENT: &[u8] = b"some content of a layer";

/// Answers as a registry does: opens uploads at a relative address with state in its query, and
/// takes what is put there.
fn plain_registry(seen: &ReceivedRequest) -> Response {
    match seen.method.as_str() {
        "POST" => (
            StatusCode::ACCEPTED,
            [("location", "/v2/a/blobs/uploads/1?_state=a%2Bb%3D&x")],
        )
            .into_response(),
        "PUT" => StatusCode::CREATED.into_response(),
        "DELETE" => StatusCode::NO_CONTENT.into_response(),
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

async fn put(
    fake: &Fake,
    content: &dyn Reopen,
    descriptor: &Descriptor,
    mount_from: Option<&str>,
) -> Result<BlobPut, ItemError> {
    let (registry, target) = registry(fake);
    let from = mount_from.map(|path| repository(&fake.host(), path));
    registry
        .put_blob(&target, descriptor, content, from.as_ref())
        .await
}

fn content() -> InMemory {
    InMemory(CONTENT.into())
}

const CANCELLED: &str = "DELETE /v2/a/blobs/uploads/1?_state=a%2Bb%3D&x";

fn put_line(descriptor: &Descriptor) -> String {
    format!(
        "PUT /v2/a/blobs/uploads/1?_state=a%2Bb%3D&x&digest=sha256%3A{}",
        descriptor.digest.hex()
    )
}

#[tokio::test]
async fn a_blob_is_uploaded_in_two_requests() {
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

#[tokio::test]
async fn a_blob_is_mounted_or_uploaded_as_the_registry_likes() {
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
        "nothing is mounted from the repository itself"
    );
}

#[tokio::test]
async fn a_registry_that_fails_to_mount_gets_the_content_and_is_soon_not_asked_any_more() {
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
async fn a_mount_that_came_too_soon_is_asked_for_again() {
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
async fn mounting_asks_for_a_token_for_both_repositories() {
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
async fn a_mount_of_something_else_is_found_out() {
    let wrong = Digest::sha256(b"other").to_string();
    let fake = Fake::start(move |_| (StatusCode::CREATED, [(CONTENT_DIGEST, wrong.clone())])).await;
    shown_as(
        ItemErrorKind::Corrupt,
        &put(&fake, &content(), &descriptor(CONTENT), Some("b"))
            .await
            .expect_err("it lies"),
    );
}

/// Content that is opened again with each try: a list of what each try gets.
struct Tries {
    opened: AtomicUsize,
    streams: Vec<Vec<Result<&'static [u8], ItemErrorKind>>>,
}

#[async_trait]
impl Reopen for Tries {
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

fn tries(streams: Vec<Vec<Result<&'static [u8], ItemErrorKind>>>) -> Tries {
    Tries {
        opened: AtomicUsize::new(0),
        streams,
    }
}

#[tokio::test]
async fn wrong_content_is_never_sent_whole_and_the_upload_is_cancelled() {
    let blob = descriptor(CONTENT);
    for stream in [
        vec![Ok(&b"some content of a lAyer"[..])],
        vec![Ok(&b"some"[..])],
        vec![Ok(CONTENT), Ok(b"more")],
        vec![],
    ] {
        let fake = Fake::start(plain_registry).await;
        let content = tries(vec![stream]);
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
    let error = put(&fake, &tries(vec![vec![Ok(b"x")]]), &descriptor(b""), None)
        .await
        .expect_err("it is wrong");
    shown_as(ItemErrorKind::Corrupt, &error);
}

#[tokio::test]
async fn a_source_that_breaks_off_fails_the_upload_at_once() {
    // The source itself tried often enough.
    let fake = Fake::start(plain_registry).await;
    let content = tries(vec![vec![
        Ok(&CONTENT[..4]),
        Err(ItemErrorKind::Unreachable),
    ]]);
    let error = put(&fake, &content, &descriptor(CONTENT), None)
        .await
        .expect_err("it never comes whole");
    assert_eq!(
        (error.host.as_str(), error.kind),
        ("source.example", ItemErrorKind::Unreachable)
    );
    assert_eq!(fake.lines().last().map(String::as_str), Some(CANCELLED));
}

#[tokio::test]
async fn an_upload_that_fails_in_passing_is_done_again() {
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
        let content = tries(vec![vec![Ok(CONTENT)]; 3]);
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
async fn a_token_that_expires_before_the_content_is_taken_is_replaced_once() {
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
        let content = tries(vec![vec![Ok(CONTENT)]; 9]);
        let result = put(&fake, &content, &descriptor(CONTENT), None).await;
        if renewals == 1 {
            result.expect("it is stored");
        } else {
            shown_as(
                ItemErrorKind::Unauthorized,
                &result.expect_err("it is refused for good"),
            );
        }
        assert_eq!(content.opened.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn an_answer_before_the_content_was_sent_is_read() {
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
                        // Leaves time to see the answer before the connection is reset under the
                        // rest of the content.
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
        .expect_err("it is refused");
    assert!(
        shown_as(ItemErrorKind::Refused, &error).contains("413 Payload Too Large: too large"),
        "{}",
        shown(&error)
    );
}

#[tokio::test]
async fn refusals_of_uploads_say_why() {
    let fake = Fake::start(|_| not_found("NAME_UNKNOWN")).await;
    let error = put(&fake, &content(), &descriptor(CONTENT), None)
        .await
        .expect_err("it is refused");
    shown_as(ItemErrorKind::Absent, &error);
    assert!(
        error
            .hint()
            .expect("a hint")
            .contains("need the repository a to be created")
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
        .expect_err("it is refused");
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
            .expect_err("there is no address"),
    );
}

#[tokio::test]
async fn an_upload_address_on_another_host_gets_no_credential() {
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
        .expect_err("not listed");
    assert!(shown(&error).contains("it is plain HTTP"));
    assert_eq!(storage.seen().len(), 1);
}

/// Content of a blob in another repository.
pub(super) struct Elsewhere<'a> {
    pub(super) registry: &'a RemoteRegistries,
    pub(super) repository: Repository,
    pub(super) descriptor: Descriptor,
}

#[async_trait]
impl Reopen for Elsewhere<'_> {
    async fn open(&self, from_offset: u64) -> Result<BlobStream, ItemError> {
        self.registry
            .blob(&self.repository, &self.descriptor, from_offset)
            .await
    }
}

#[tokio::test]
async fn many_copies_within_one_host_do_not_block_each_other() {
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
        let source = Elsewhere {
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
async fn a_directory_is_no_registry() {
    let fake = Fake::start(plain_registry).await;
    let (registry, _) = registry(&fake);
    let directory: Repository = "ocidir://x".parse().expect("a repository");
    shown_as(
        ItemErrorKind::Unsupported,
        &registry.tags(&directory).await.expect_err("a directory"),
    );
}
