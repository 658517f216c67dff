use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;

use super::registries::RemoteRegistries;
use crate::credentials::Credential;
use crate::error::ItemErrorKind;
use crate::http::testing::{Fake, ReceivedRequest, basic, client, shown};
use crate::model::{Digest, Repository, Tag};
use crate::registry::store::{Deletion, DeletionSupport, ImageSource, ImageStore, Support};

const UNUSED_TAG: &str = "imglife-asks-whether-tags-can-be-deleted";

fn registries(fake: &Fake, credential: Credential) -> RemoteRegistries {
    RemoteRegistries::new(Arc::new(client([&fake.host()], credential)))
}

fn at(fake: &Fake, path: &str) -> Repository {
    format!("{}/{path}", fake.host())
        .parse()
        .expect("a repository")
}

fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

fn status(code: u16) -> Response {
    StatusCode::from_u16(code)
        .expect("a status")
        .into_response()
}

fn refusal(code: u16, reason: &str) -> Response {
    let status = StatusCode::from_u16(code).expect("a status");
    (
        status,
        format!(r#"{{"errors":[{{"code":"{reason}","message":"m"}}]}}"#),
    )
        .into_response()
}

fn unknown_path() -> Response {
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

/// Response to a HEAD of a manifest that exists.
fn found() -> Response {
    let digest = Digest::sha256(b"x").to_string();
    ([
        ("docker-content-digest", digest),
        ("content-length", "1".to_owned()),
        ("content-type", "x".to_owned()),
    ])
    .into_response()
}

/// Deletes `tags` of `team/app` in order.
async fn delete_tags(
    registries: &RemoteRegistries,
    fake: &Fake,
    tags: &[&str],
) -> Vec<Result<Deletion, ItemErrorKind>> {
    let mut deletions = Vec::new();
    for name in tags {
        deletions.push(
            registries
                .delete_tag(&at(fake, "team/app"), &tag(name))
                .await
                .map_err(|error| error.kind),
        );
    }
    deletions
}

#[tokio::test]
async fn deletion_of_a_tag_or_manifest_is_one_request() {
    let digest = Digest::sha256(b"x");
    let gone = Digest::sha256(b"gone");
    let missing = gone.to_string();
    let fake = Fake::start(move |seen| match seen.method.as_str() {
        "DELETE" if seen.path.ends_with("/gone") || seen.path.ends_with(&missing) => {
            refusal(404, "MANIFEST_UNKNOWN")
        }
        "DELETE" if seen.path.ends_with("/200") => status(200),
        "DELETE" if seen.path.ends_with("/204") => status(204),
        "DELETE" => status(202),
        _ => refusal(404, "MANIFEST_UNKNOWN"),
    })
    .await;
    let registries = registries(&fake, Credential::Anonymous);
    let deleted = delete_tags(&registries, &fake, &["1", "200", "204", "gone"]).await;
    assert_eq!(
        deleted,
        [
            Ok(Deletion::Deleted),
            Ok(Deletion::Deleted),
            Ok(Deletion::Deleted),
            Ok(Deletion::NotFound)
        ]
    );
    let repository = at(&fake, "team/app");
    assert_eq!(
        registries
            .delete_manifest(&repository, &digest)
            .await
            .expect("an answer"),
        Deletion::Deleted
    );
    assert_eq!(
        registries
            .delete_manifest(&repository, &gone)
            .await
            .expect("an answer"),
        Deletion::NotFound
    );
    let path = "/v2/team/app/manifests";
    assert_eq!(
        fake.lines(),
        [
            format!("DELETE {path}/1"),
            format!("DELETE {path}/200"),
            format!("DELETE {path}/204"),
            format!("DELETE {path}/gone"),
            // Some hosts report "not found" for deletions that they do not support.
            format!("HEAD {path}/gone"),
            format!("DELETE {path}/{digest}"),
            format!("DELETE {path}/{gone}"),
            format!("HEAD {path}/{gone}"),
        ]
    );
}

#[tokio::test]
async fn unsupported_deletions_are_tried_once_per_host() {
    for answer in [
        || refusal(405, "UNSUPPORTED"),
        || refusal(400, "UNSUPPORTED"),
        || status(405),
        || status(400),
        || status(501),
        || refusal(405, "METHOD_NOT_ALLOWED"),
    ] {
        let fake = Fake::start(move |seen| {
            if seen.path.starts_with("/v2/") {
                answer()
            } else {
                unknown_path()
            }
        })
        .await;
        let registries = registries(&fake, basic());
        let repositories: Vec<Repository> = (0..6)
            .map(|number| at(&fake, &format!("team/app{number}")))
            .collect();
        let (one, digest) = (tag("1"), Digest::sha256(b"x"));
        for deletion in join_all(
            repositories
                .iter()
                .map(|repository| registries.delete_tag(repository, &one)),
        )
        .await
        {
            assert_eq!(deletion.expect("an answer"), Deletion::Unsupported);
        }
        for deletion in join_all(
            repositories
                .iter()
                .map(|repository| registries.delete_manifest(repository, &digest)),
        )
        .await
        {
            assert_eq!(deletion.expect("an answer"), Deletion::Unsupported);
        }
        let deletions = registries
            .deletions(&repositories[0])
            .await
            .expect("an answer");
        assert_eq!(
            deletions,
            DeletionSupport {
                tags: Support::Unsupported,
                manifests: Support::Unsupported
            }
        );
        // Three methods to delete a tag, and one to delete a manifest.
        assert_eq!(fake.seen().len(), 4, "{:?}", fake.lines());
        assert_eq!(
            (
                fake.count("/v2/team/app0/manifests/"),
                fake.count("/api/v2.0/")
            ),
            (2, 1)
        );
    }
}

#[tokio::test]
async fn tag_is_never_deleted_by_its_digest() {
    // Responses of Debian's registry.
    let fake = Fake::start(|seen| match seen.method.as_str() {
        "DELETE" if seen.path.starts_with("/v2/team/app/manifests/sha256:") => status(202),
        "DELETE" if seen.path.starts_with("/v2/team/app/manifests/") => {
            refusal(400, "DIGEST_INVALID")
        }
        "HEAD" => found(),
        _ => unknown_path(),
    })
    .await;
    let registries = registries(&fake, Credential::Anonymous);
    assert_eq!(
        delete_tags(&registries, &fake, &["1", "2"]).await,
        [Ok(Deletion::Unsupported); 2]
    );
    assert_eq!(fake.count("/v2/team/app/manifests/sha256:"), 0);
    let deletion = registries
        .delete_manifest(&at(&fake, "team/app"), &Digest::sha256(b"x"))
        .await
        .expect("an answer");
    assert_eq!(deletion, Deletion::Deleted);
}

#[tokio::test]
async fn deletion_support_is_found_with_content_that_cannot_exist() {
    let fake = Fake::start(|seen| match seen.method.as_str() {
        "DELETE" if seen.path.contains("sha256:") => refusal(405, "UNSUPPORTED"),
        _ => refusal(404, "MANIFEST_UNKNOWN"),
    })
    .await;
    let registries = registries(&fake, Credential::Anonymous);
    let expected = DeletionSupport {
        tags: Support::Supported,
        manifests: Support::Unsupported,
    };
    for path in ["team/app", "team/app", "another"] {
        assert_eq!(
            registries
                .deletions(&at(&fake, path))
                .await
                .expect("an answer"),
            expected
        );
    }
    let unused = Digest::sha256(UNUSED_TAG.as_bytes());
    let path = "/v2/team/app/manifests";
    assert_eq!(
        fake.lines(),
        [
            format!("DELETE {path}/{UNUSED_TAG}"),
            format!("HEAD {path}/{UNUSED_TAG}"),
            format!("DELETE {path}/{unused}")
        ]
    );
    let deletion = registries
        .delete_manifest(&at(&fake, "another"), &Digest::sha256(b"x"))
        .await
        .expect("an answer");
    assert_eq!((deletion, fake.seen().len()), (Deletion::Unsupported, 3));
}

#[tokio::test]
async fn not_found_is_checked_with_a_head() {
    let unused = Digest::sha256(UNUSED_TAG.as_bytes()).to_string();
    let fake = Fake::start(move |seen| match seen.method.as_str() {
        // A host that responds to everything unknown with 404.
        "DELETE" => refusal(404, "NOT_FOUND"),
        "HEAD" if seen.path.ends_with(UNUSED_TAG) || seen.path.ends_with(&unused) => status(404),
        "HEAD" => found(),
        _ => unknown_path(),
    })
    .await;
    let registries = registries(&fake, basic());
    let repository = at(&fake, "team/app");
    // The host seems to support deletions.
    assert_eq!(
        registries
            .deletions(&repository)
            .await
            .expect("an answer")
            .tags,
        Support::Supported
    );
    assert_eq!(
        delete_tags(&registries, &fake, &["1"]).await,
        [Ok(Deletion::Unsupported)]
    );
    let before = fake.seen().len();
    assert_eq!(
        delete_tags(&registries, &fake, &["1", "2"]).await,
        [Ok(Deletion::Unsupported); 2]
    );
    assert_eq!(
        registries
            .deletions(&repository)
            .await
            .expect("an answer")
            .tags,
        Support::Unsupported
    );
    let digest = Digest::sha256(b"x");
    assert_eq!(
        registries
            .delete_manifest(&repository, &digest)
            .await
            .expect("an answer"),
        Deletion::Unsupported
    );
    let after = fake.seen().len();
    assert_eq!(
        registries
            .delete_manifest(&repository, &digest)
            .await
            .expect("an answer"),
        Deletion::Unsupported
    );
    assert_eq!((before + 2, fake.seen().len()), (after, after));
}

#[tokio::test]
async fn denied_deletion_is_an_error_and_not_missing_support() {
    for (code, reason, kind) in [
        (401, "UNAUTHORIZED", ItemErrorKind::Unauthorized),
        (403, "DENIED", ItemErrorKind::Forbidden),
        (405, "DENIED", ItemErrorKind::Refused),
        (409, "CONFLICT", ItemErrorKind::Refused),
        (412, "PRECONDITION", ItemErrorKind::Refused),
        (429, "TOOMANYREQUESTS", ItemErrorKind::RateLimited),
        (503, "UNAVAILABLE", ItemErrorKind::ServerError),
    ] {
        let fake = Fake::start(move |seen| {
            if seen.path.contains("/kept/") {
                refusal(code, reason)
            } else {
                status(202)
            }
        })
        .await;
        let registries = registries(&fake, basic());
        let (kept, one, digest) = (at(&fake, "kept/app"), tag("1"), Digest::sha256(b"x"));
        for _ in 0..2 {
            let error = registries
                .delete_tag(&kept, &one)
                .await
                .expect_err("a denied deletion");
            let text = shown(&error);
            assert!(
                error.kind == kind && text.contains("cannot delete kept/app:1"),
                "{text}"
            );
            let error = registries
                .delete_manifest(&kept, &digest)
                .await
                .expect_err("a denied deletion");
            assert_eq!(error.kind, kind, "{}", shown(&error));
        }
        assert_eq!(
            delete_tags(&registries, &fake, &["1"]).await,
            [Ok(Deletion::Deleted)]
        );
        assert_eq!(
            registries
                .delete_manifest(&at(&fake, "team/app"), &digest)
                .await
                .expect("an answer"),
            Deletion::Deleted
        );
    }
}

#[tokio::test]
async fn deletion_with_a_lost_response_is_retried() {
    let fake = Fake::start(|seen| match (seen.method.as_str(), seen.index) {
        ("DELETE", 0) => status(502),
        _ => refusal(404, "MANIFEST_UNKNOWN"),
    })
    .await;
    assert_eq!(
        delete_tags(&registries(&fake, Credential::Anonymous), &fake, &["1"]).await,
        [Ok(Deletion::NotFound)]
    );
}

#[tokio::test]
async fn deletion_requests_a_token_with_the_delete_action() {
    let fake = Fake::start(|seen| {
        if seen.path.starts_with("/token") {
            return r#"{"token":"t"}"#.into_response();
        }
        if let Some("Bearer t") = seen.authorization() {
            status(202)
        } else {
            let challenge = format!(
                r#"Bearer realm="http://{}/token",service="s""#,
                seen.server()
            );
            (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response()
        }
    })
    .await;
    assert_eq!(
        delete_tags(&registries(&fake, basic()), &fake, &["1"]).await,
        [Ok(Deletion::Deleted)]
    );
    let token = fake
        .seen()
        .into_iter()
        .find(|seen| seen.path.starts_with("/token"))
        .expect("a token request");
    assert_eq!(
        token.path,
        "/token?service=s&scope=repository%3Ateam%2Fapp%3Apull%2Cdelete"
    );
}

/// A Harbor whose registry does not delete tags, but whose API does.
fn harbor(seen: &ReceivedRequest) -> Response {
    let is_alice = seen.authorization() == Some("Basic YWxpY2U6aHVudGVyMg==");
    match (seen.method.as_str(), seen.path.as_str()) {
        ("DELETE", path) if path.starts_with("/v2/") && path.contains("/sha256:") => {
            refusal(404, "NOT_FOUND")
        }
        ("DELETE", path) if path.starts_with("/v2/") => refusal(405, "UNSUPPORTED"),
        ("DELETE", path) if path.starts_with("/api/v2.0/projects/") && !is_alice => {
            refusal(401, "UNAUTHORIZED")
        }
        ("DELETE", path) if path.starts_with("/api/v2.0/projects/closed/") => {
            refusal(403, "FORBIDDEN")
        }
        (
            "DELETE",
            "/api/v2.0/projects/team/repositories/nested%252Fapp/artifacts/1.0/tags/1.0",
        ) => status(200),
        ("DELETE", "/api/v2.0/projects/team/repositories/app/artifacts/fixed/tags/fixed") => {
            refusal(412, "PRECONDITION")
        }
        ("DELETE", path) if path.starts_with("/api/v2.0/projects/") => refusal(404, "NOT_FOUND"),
        ("HEAD", _) => status(404),
        _ => status(418),
    }
}

#[tokio::test]
async fn harbor_tags_are_deleted_by_its_api() {
    let fake = Fake::start(harbor).await;
    let registries = registries(&fake, basic());
    let nested = at(&fake, "team/nested/app");
    assert_eq!(
        registries
            .delete_tag(&nested, &tag("1.0"))
            .await
            .expect("an answer"),
        Deletion::Deleted
    );
    assert_eq!(
        registries
            .delete_tag(&nested, &tag("1.1"))
            .await
            .expect("an answer"),
        Deletion::NotFound
    );
    let error = registries
        .delete_tag(&at(&fake, "team/app"), &tag("fixed"))
        .await
        .expect_err("it is immutable");
    assert!(
        error.kind == ItemErrorKind::Refused && shown(&error).contains("PRECONDITION"),
        "{}",
        shown(&error)
    );
    let error = registries
        .delete_tag(&at(&fake, "closed/app"), &tag("1"))
        .await
        .expect_err("it is closed");
    assert_eq!(error.kind, ItemErrorKind::Forbidden);
    // The recorded support stays after such a response.
    assert_eq!(
        registries.deletions(&nested).await.expect("an answer").tags,
        Support::Supported
    );
    assert_eq!(fake.count("/v2/team/nested/app/manifests/1.0"), 1);
    assert_eq!(
        fake.seen()
            .iter()
            .filter(|seen| seen.method == "DELETE" && seen.path.starts_with("/v2/"))
            .count(),
        2,
        "the method was tried again"
    );
}

#[tokio::test]
async fn harbor_api_that_denies_access_counts_as_unsupported() {
    let fake = Fake::start(harbor).await;
    for credential in [Credential::Anonymous, basic()] {
        let registries = registries(&fake, credential);
        let closed = at(&fake, "closed/app");
        assert_eq!(
            registries
                .delete_tag(&closed, &tag("1"))
                .await
                .expect("an answer"),
            Deletion::Unsupported
        );
    }
}

#[tokio::test]
async fn older_gitlab_registries_delete_tags_by_their_own_api() {
    let fake = Fake::start(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("DELETE", path) if path.starts_with("/v2/group/app/manifests/") => {
            refusal(405, "UNSUPPORTED")
        }
        ("OPTIONS", path) if path.starts_with("/v2/group/app/tags/reference/") => {
            [("allow", "DELETE,OPTIONS")].into_response()
        }
        ("DELETE", "/v2/group/app/tags/reference/1.0") => status(202),
        ("DELETE", "/v2/group/app/tags/reference/kept") => refusal(403, "DENIED"),
        ("DELETE", path) if path.starts_with("/v2/group/app/tags/reference/") => {
            refusal(404, "MANIFEST_UNKNOWN")
        }
        ("HEAD", _) => status(404),
        _ => unknown_path(),
    })
    .await;
    let registries = registries(&fake, basic());
    let repository = at(&fake, "group/app");
    assert_eq!(
        registries
            .deletions(&repository)
            .await
            .expect("an answer")
            .tags,
        Support::Supported
    );
    assert_eq!(
        registries
            .delete_tag(&repository, &tag("1.0"))
            .await
            .expect("an answer"),
        Deletion::Deleted
    );
    assert_eq!(
        registries
            .delete_tag(&repository, &tag("1.1"))
            .await
            .expect("an answer"),
        Deletion::NotFound
    );
    let error = registries
        .delete_tag(&repository, &tag("kept"))
        .await
        .expect_err("it is protected");
    assert_eq!(error.kind, ItemErrorKind::Forbidden);
    assert_eq!(
        (fake.count("/api/"), fake.count("/v2/group/app/manifests/")),
        (1, 4),
        "{:?}",
        fake.lines()
    );
}

#[tokio::test]
async fn sibling_repositories_are_listed_page_by_page() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/v2/_catalog?n=1000" => (
            [("link", r#"</v2/_catalog?last=b&n=1000>; rel="next""#)],
            r#"{"repositories":["bases/alpine","bases/lang/go","Not A Name","based/x","bases"]}"#,
        )
            .into_response(),
        "/v2/_catalog?last=b&n=1000" => {
            r#"{"repositories":["bases/zlib","bases/alpine","other/y"]}"#.into_response()
        }
        _ => status(418),
    })
    .await;
    let registries = registries(&fake, Credential::Anonymous);
    let listed = registries
        .sibling_repositories(&at(&fake, "bases/any"))
        .await
        .expect("an answer")
        .expect("a list");
    assert_eq!(
        listed,
        ["bases/alpine", "bases/lang/go", "bases/zlib"].map(|path| at(&fake, path))
    );
    let listed = registries
        .sibling_repositories(&at(&fake, "any"))
        .await
        .expect("an answer")
        .expect("a list");
    assert_eq!(listed.len(), 6);
}

#[tokio::test]
async fn host_that_does_not_list_repositories_is_no_error() {
    for answer in [
        || unknown_path(),
        || refusal(401, "UNAUTHORIZED"),
        || refusal(403, "DENIED"),
        || refusal(405, "UNSUPPORTED"),
        || status(501),
        || "<html>".into_response(),
    ] {
        let fake = Fake::start(move |_| answer()).await;
        let listed = registries(&fake, basic())
            .sibling_repositories(&at(&fake, "bases/any"))
            .await;
        assert_eq!(listed.expect("an answer"), None);
    }
    for (answer, kind) in [
        (
            |seen: &ReceivedRequest| {
                if seen.index == 0 {
                    [("link", "</p>; rel=next")].into_response()
                } else {
                    "x".into_response()
                }
            },
            None,
        ),
        (
            |seen: &ReceivedRequest| match seen.index {
                0 => ([("link", "</p>; rel=next")], r#"{"repositories":["a"]}"#).into_response(),
                _ => unknown_path(),
            },
            Some(ItemErrorKind::Absent),
        ),
        (
            |_: &ReceivedRequest| {
                (
                    [("link", "<http://elsewhere.example/p>; rel=next")],
                    r#"{"repositories":["a"]}"#,
                )
                    .into_response()
            },
            Some(ItemErrorKind::Malformed),
        ),
        (
            |_: &ReceivedRequest| status(503),
            Some(ItemErrorKind::ServerError),
        ),
    ] as [(fn(&ReceivedRequest) -> Response, _); 4]
    {
        let fake = Fake::start(answer).await;
        let listed = registries(&fake, Credential::Anonymous)
            .sibling_repositories(&at(&fake, "bases/any"))
            .await;
        assert_eq!(
            listed.map_err(|error| error.kind),
            kind.map_or(Ok(None), Err)
        );
    }
}
