use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;

use crate::credentials::Credential;
use crate::error::{ItemError, ItemErrorKind};
use crate::http::testing::{Fake, ReceivedRequest, basic, client, shown};
use crate::model::{Host, Repository};
use crate::registry::remote::RemoteRegistries;
use crate::registry::store::{ImageSource, ListedTag, UntaggedManifest};

const HARBOR: &str = "/api/v2.0/";
const GITLAB: &str = "/gitlab/v1/";
const QUAY: &str = "/api/v1/repository/";
const GITEA: &str = "/api/v1/packages/";

fn repository(host: &Host, path: &str) -> Repository {
    format!("{host}/{path}").parse().expect("a repository")
}

fn registries(fake: &Fake, credential: Credential) -> RemoteRegistries {
    RemoteRegistries::new(Arc::new(client([&fake.host()], credential)))
}

async fn dates_of(
    registries: &RemoteRegistries,
    fake: &Fake,
    path: &str,
) -> Result<Option<Vec<ListedTag>>, ItemError> {
    registries.push_dates(&repository(&fake.host(), path)).await
}

/// Returns each tag with the day of its push and the first digit of its digest, or `-` if unknown.
fn drawn(tags: &[ListedTag]) -> Vec<String> {
    let draw = |listed: &ListedTag| {
        let day = listed.pushed_at.map_or_else(
            || "-".to_owned(),
            |time| time.format("%Y-%m-%d").to_string(),
        );
        format!(
            "{} {day} {}",
            listed.tag,
            listed
                .digest
                .as_ref()
                .map_or("-", |digest| &digest.hex()[..1])
        )
    };
    tags.iter().map(draw).collect()
}

fn digest(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

fn unknown_path() -> Response {
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

fn refusal(status: u16, code: &str) -> Response {
    (
        StatusCode::from_u16(status).expect("a status"),
        format!(r#"{{"errors":[{{"code":"{code}","message":"m"}}]}}"#),
    )
        .into_response()
}

/// A Harbor whose project `open` is public.
fn harbor(seen: &ReceivedRequest) -> Response {
    if !seen.path.starts_with(HARBOR) {
        return unknown_path();
    }
    if !seen.path.contains("/projects/open/")
        && seen.authorization() != Some("Basic YWxpY2U6aHVudGVyMg==")
    {
        return refusal(401, "UNAUTHORIZED");
    }
    let (artifact, last) = (
        format!(
            r#"{{"digest":"{}","push_time":"2020-01-01T00:00:00.000Z","extra_attrs":{{"created":"2019-01-01T00:00:00Z"}},"tags":[
                {{"id":1,"name":"1.0","push_time":"2025-03-01T12:00:00.123Z","pull_time":"0001-01-01T00:00:00.000Z"}},
                {{"id":2,"name":"latest","push_time":"0001-01-01T00:00:00.000Z"}}]}}"#,
            digest('a')
        ),
        format!(r#"{{"digest":"{}","tags":null}}"#, digest('b')),
    );
    match seen.path.rsplit_once("&page=").map(|(_, page)| page) {
        Some("1") => format!("[{artifact}{}]", format!(",{last}").repeat(99)).into_response(),
        Some("2") => format!(
            r#"[{{"digest":"{}","tags":[{{"name":"0.9"}}]}}]"#,
            digest('c')
        )
        .into_response(),
        _ => StatusCode::IM_A_TEAPOT.into_response(),
    }
}

#[tokio::test]
async fn harbor_reports_push_dates_and_not_creation_dates() {
    let fake = Fake::start(harbor).await;
    let tags = dates_of(&registries(&fake, basic()), &fake, "open/team/app")
        .await
        .expect("an answer")
        .expect("tags");
    assert_eq!(drawn(&tags), ["1.0 2025-03-01 a", "latest - a", "0.9 - c"]);
    let path = "/api/v2.0/projects/open/repositories/team%252Fapp/artifacts?with_tag=true&q=tags%3D*&page_size=100&page=";
    assert_eq!(
        fake.lines(),
        [format!("GET {path}1"), format!("GET {path}2")]
    );
    assert!(
        fake.seen()
            .iter()
            .all(|seen| seen.authorization().is_none()),
        "a password was sent without a challenge"
    );
}

#[tokio::test]
async fn private_harbor_projects_are_listed_with_the_password_of_the_host() {
    let fake = Fake::start(harbor).await;
    let tags = dates_of(&registries(&fake, basic()), &fake, "team/app")
        .await
        .expect("an answer")
        .expect("tags");
    assert_eq!((tags.len(), fake.seen().len()), (3, 3));
    // Without credentials or permission, no dates are reported.
    assert_eq!(
        dates_of(&registries(&fake, Credential::Anonymous), &fake, "team/app")
            .await
            .expect("an answer"),
        None
    );
    let forbidden = Fake::start(|seen| match seen.authorization() {
        None => refusal(401, "UNAUTHORIZED"),
        Some(_) => refusal(403, "FORBIDDEN"),
    })
    .await;
    assert_eq!(
        dates_of(&registries(&forbidden, basic()), &forbidden, "team/app")
            .await
            .expect("an answer"),
        None
    );
}

/// GitLab's registry with its token server.
fn gitlab(seen: &ReceivedRequest) -> Response {
    if seen.path.starts_with("/jwt/auth") {
        return r#"{"token":"t"}"#.into_response();
    }
    if !seen.path.starts_with(GITLAB) {
        return unknown_path();
    }
    if seen.authorization() != Some("Bearer t") {
        let challenge = format!(
            r#"Bearer realm="http://{}/jwt/auth",service="container_registry""#,
            seen.server()
        );
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response();
    }
    let tag = |name: &str, times: &str| {
        format!(
            r#"{{"name":"{name}","digest":"{}","size_bytes":1,{times}}}"#,
            digest('a')
        )
    };
    match seen.path.as_str() {
        "/gitlab/v1/repositories/group/app/tags/list/?n=1000" => (
            [("link", r#"</gitlab/v1/repositories/group/app/tags/list/?last=2&n=1000>; rel="next""#)],
            format!(
                "[{},{}]",
                tag("1", r#""created_at":"2025-01-01T00:00:00.000+00:00","published_at":"2025-02-02T00:00:00.000Z""#),
                tag("2", r#""created_at":"2025-01-01T00:00:00.000Z","updated_at":"2025-03-03T00:00:00.000Z""#)
            ),
        )
            .into_response(),
        "/gitlab/v1/repositories/group/app/tags/list/?n=1000&last=2" => {
            format!("[{}]", tag("3", r#""created_at":"2025-04-04T00:00:00.000Z","published_at":null"#)).into_response()
        }
        _ => refusal(404, "NAME_UNKNOWN"),
    }
}

#[tokio::test]
async fn gitlab_reports_dates_with_a_pull_token() {
    let fake = Fake::start(gitlab).await;
    let registries = registries(&fake, basic());
    let tags = dates_of(&registries, &fake, "group/app")
        .await
        .expect("an answer")
        .expect("tags");
    assert_eq!(
        drawn(&tags),
        ["1 2025-02-02 a", "2 2025-03-03 a", "3 2025-04-04 a"]
    );
    let token = fake
        .seen()
        .into_iter()
        .find(|seen| seen.path.starts_with("/jwt"))
        .expect("a token request");
    assert_eq!(
        token.path,
        "/jwt/auth?service=container_registry&scope=repository%3Agroup%2Fapp%3Apull"
    );
    assert_eq!(
        dates_of(&registries, &fake, "group/other")
            .await
            .expect("an answer"),
        None
    );
}

fn quay(seen: &ReceivedRequest) -> Response {
    let entry = |name: &str, start: &str| {
        format!(
            r#"{{"name":"{name}","reversion":false,{start}"manifest_digest":"{}","is_manifest_list":true}}"#,
            digest('a')
        )
    };
    match seen.path.as_str() {
        "/api/v1/repository/team/app/tag/?onlyActiveTags=true&limit=100&page=1" => {
            format!(r#"{{"tags":[{}],"page":1,"has_additional":true}}"#, entry("v1", r#""start_ts":1717680780,"#)).into_response()
        }
        "/api/v1/repository/team/app/tag/?onlyActiveTags=true&limit=100&page=2" => {
            format!(r#"{{"tags":[{}],"page":2,"has_additional":false}}"#, entry("v0", "")).into_response()
        }
        path if path.starts_with("/api/v1/repository/private/") => (
            StatusCode::UNAUTHORIZED,
            r#"{"detail": "Requires authentication", "error_message": "Requires authentication", "error_type": "invalid_token", "status": 401}"#,
        )
            .into_response(),
        // Response of its web page to unknown paths.
        _ => "<!doctype html>".into_response(),
    }
}

#[tokio::test]
async fn quay_reports_dates_of_public_repositories() {
    let fake = Fake::start(quay).await;
    let registries = registries(&fake, basic());
    let tags = dates_of(&registries, &fake, "team/app")
        .await
        .expect("an answer")
        .expect("tags");
    assert_eq!(drawn(&tags), ["v1 2024-06-06 a", "v0 - a"]);
    assert_eq!(
        dates_of(&registries, &fake, "private/app")
            .await
            .expect("an answer"),
        None
    );
    assert!(
        fake.seen()
            .iter()
            .all(|seen| seen.authorization().is_none())
    );
    // Two other interfaces, two pages, and one request for the private repository.
    assert_eq!(fake.seen().len(), 5);
}

#[tokio::test]
async fn host_without_an_interface_gets_one_request_for_each() {
    for answer in [
        || unknown_path(),
        || "<html>".into_response(),
        || StatusCode::METHOD_NOT_ALLOWED.into_response(),
        || StatusCode::NOT_IMPLEMENTED.into_response(),
        || (StatusCode::UNAUTHORIZED, "<html>").into_response(),
        || refusal(404, "METHOD_UNKNOWN"),
        || (StatusCode::FOUND, [("location", "ftp://elsewhere")]).into_response(),
    ] {
        let fake = Fake::start(move |seen| match seen.path.starts_with("/v2/") {
            true => r#"{"tags":["1"]}"#.into_response(),
            // A 401 with an unknown challenge is a rejected credential, which GitLab's interface
            // returns too.
            false if seen.path.starts_with(GITLAB) => unknown_path(),
            false => answer(),
        })
        .await;
        let registries = registries(&fake, basic());
        let repositories: Vec<Repository> = (0..8)
            .map(|index| repository(&fake.host(), &format!("team/app{index}")))
            .collect();
        for tags in join_all(
            repositories
                .iter()
                .map(|repository| registries.dated_tags(repository)),
        )
        .await
        {
            assert_eq!(drawn(&tags.expect("an answer").expect("tags")), ["1 - -"]);
        }
        let counts = [HARBOR, GITLAB, QUAY, GITEA, "/v2/"].map(|path| fake.count(path));
        assert_eq!(counts, [1, 1, 1, 1, 8], "{:?}", fake.lines());
    }
}

#[tokio::test]
async fn denied_access_to_one_repository_does_not_rule_out_the_interface() {
    // The order of repositories must not decide if their dates are known.
    let fake = Fake::start(|seen| match seen.path.contains("/projects/open/") {
        true => harbor(seen),
        false if seen.path.starts_with(HARBOR) => refusal(404, "NOT_FOUND"),
        false => unknown_path(),
    })
    .await;
    let registries = registries(&fake, Credential::Anonymous);
    assert_eq!(
        dates_of(&registries, &fake, "mistyped/app")
            .await
            .expect("an answer"),
        None
    );
    assert_eq!(
        dates_of(&registries, &fake, "single")
            .await
            .expect("an answer"),
        None
    );
    assert!(
        dates_of(&registries, &fake, "open/app")
            .await
            .expect("an answer")
            .is_some()
    );
    assert_eq!((fake.count(GITLAB), fake.count(QUAY)), (1, 1));
}

#[tokio::test]
async fn error_of_a_known_interface_is_an_error() {
    let broken = Arc::new(AtomicBool::new(false));
    let is_broken = Arc::clone(&broken);
    let fake = Fake::start(move |seen| {
        if is_broken.load(Ordering::SeqCst) {
            "<html>".into_response()
        } else {
            harbor(seen)
        }
    })
    .await;
    let registries = registries(&fake, Credential::Anonymous);
    dates_of(&registries, &fake, "open/app")
        .await
        .expect("an answer")
        .expect("tags");
    broken.store(true, Ordering::SeqCst);
    let error = dates_of(&registries, &fake, "open/app")
        .await
        .expect_err("it fails");
    assert_eq!(error.kind, ItemErrorKind::Malformed);
    assert!(
        shown(&error).contains(
            "cannot list the tags of open/app with their dates: the response is not a list of tags"
        ),
        "{}",
        shown(&error)
    );
}

#[tokio::test]
async fn temporary_error_is_an_error() {
    for (status, kind) in [
        (429, ItemErrorKind::RateLimited),
        (503, ItemErrorKind::ServerError),
    ] {
        let fake = Fake::start(move |_| StatusCode::from_u16(status).expect("a status")).await;
        let registries = registries(&fake, Credential::Anonymous);
        assert_eq!(
            dates_of(&registries, &fake, "team/app")
                .await
                .expect_err("it fails")
                .kind,
            kind
        );
    }
}

#[tokio::test]
async fn incomplete_listing_is_an_error() {
    for (answer, kind) in [
        (
            r#"{"tags":[],"has_additional":true}"#,
            ItemErrorKind::Malformed,
        ),
        (r#"{"message":"error"}"#, ItemErrorKind::Malformed),
        ("", ItemErrorKind::Absent),
    ] {
        let fake = Fake::start(move |seen| match seen.path.as_str() {
            path if !path.starts_with(QUAY) => unknown_path(),
            path if path.ends_with("page=1") => {
                r#"{"tags":[{"name":"1"}],"has_additional":true}"#.into_response()
            }
            _ if answer.is_empty() => unknown_path(),
            _ => answer.into_response(),
        })
        .await;
        let registries = registries(&fake, Credential::Anonymous);
        assert_eq!(
            dates_of(&registries, &fake, "team/app")
                .await
                .expect_err("it is incomplete")
                .kind,
            kind,
            "{answer}"
        );
    }
}

/// A Gitea whose owner `open` is public.
fn gitea(seen: &ReceivedRequest) -> Response {
    if seen.path.starts_with("/v2/") && seen.path.contains("/tags/list") {
        return r#"{"tags":["1.0","2.0","edge"]}"#.into_response();
    }
    let Some(query) = seen.path.strip_prefix(GITEA) else {
        let body = r#"{"message":"Not Found","url":"http://x/api/swagger"}"#;
        return (StatusCode::NOT_FOUND, body).into_response();
    };
    if !query.starts_with("open?") && seen.authorization().is_none() {
        let body = r#"{"message":"token is required","url":"http://x/api/swagger"}"#;
        return (StatusCode::UNAUTHORIZED, body).into_response();
    }
    let entry = |name: &str, version: &str, day: u32| {
        format!(
            r#"{{"type":"container","name":"{name}","version":"{version}","created_at":"2025-03-0{day}T12:00:00+01:00"}}"#
        )
    };
    let total = [("x-total-count", "5")];
    if query.ends_with("&page=1") {
        let entries = [
            entry("app", "2.0", 4),
            entry("app", &digest('a'), 4),
            entry("myapp", "edge", 1),
        ];
        let next = (
            "link",
            r#"<http://x/api/v1/packages/open?page=2>; rel="next",<http://x/z>; rel="last""#,
        );
        (total, [next], format!("[{}]", entries.join(","))).into_response()
    } else {
        let entries = [entry("App", "1.0", 2), entry("app/other", "1.0", 9)];
        (total, format!("[{}]", entries.join(","))).into_response()
    }
}

#[tokio::test]
async fn gitea_reports_push_dates_of_the_tags_that_its_registry_lists() {
    for (credential, owner, expected) in [
        (
            Credential::Anonymous,
            "open",
            Some(["1.0 2025-03-02 -", "2.0 2025-03-04 -", "edge - -"]),
        ),
        (
            basic(),
            "team",
            Some(["1.0 2025-03-02 -", "2.0 2025-03-04 -", "edge - -"]),
        ),
        (Credential::Anonymous, "team", None),
    ] {
        let fake = Fake::start(gitea).await;
        let tags = dates_of(
            &registries(&fake, credential),
            &fake,
            &format!("{owner}/app"),
        )
        .await
        .expect("an answer");
        let found = tags.as_deref().map(drawn);
        assert_eq!(
            found,
            expected.map(|tags| tags.map(str::to_owned).to_vec()),
            "{owner}"
        );
    }
}

#[tokio::test]
async fn empty_list_of_another_server_is_no_listing_of_gitea() {
    let fake = Fake::start(|seen| {
        if seen.path.starts_with(GITEA) {
            "[]".into_response()
        } else {
            unknown_path()
        }
    })
    .await;
    let dates = dates_of(&registries(&fake, basic()), &fake, "team/app").await;
    assert_eq!(dates.expect("an answer"), None);
}

#[tokio::test]
async fn gitea_and_harbor_list_manifests_without_a_tag() {
    let untagged = |listed: Option<Vec<UntaggedManifest>>| -> Option<Vec<String>> {
        let shown = |manifest: UntaggedManifest| {
            let day = manifest
                .pushed_at
                .map(|pushed| pushed.format("%F").to_string());
            format!("{} {}", manifest.digest, day.unwrap_or_default())
        };
        listed.map(|listed| listed.into_iter().map(shown).collect())
    };
    let expected = Some(vec![format!("{} 2025-03-04", digest('a'))]);
    let fake = Fake::start(gitea).await;
    let registries = registries(&fake, basic());
    let at = repository(&fake.host(), "team/app");
    // The interface is not known before the dates are read.
    let listed = registries.untagged_manifests(&at).await.expect("an answer");
    assert_eq!(untagged(listed), None);
    registries.push_dates(&at).await.expect("an answer");
    let listed = registries.untagged_manifests(&at).await.expect("an answer");
    assert_eq!(untagged(listed), expected);

    let fake = Fake::start(|seen| {
        let Some(query) = seen
            .path
            .strip_prefix("/api/v2.0/projects/team/repositories/app/artifacts?")
        else {
            return unknown_path();
        };
        let artifact = |tags: &str| {
            format!(
                r#"[{{"digest":"{}","push_time":"2025-03-04T10:00:00Z","tags":{tags}}}]"#,
                digest('a')
            )
        };
        if query.contains("q=tags%3Dnil&") {
            artifact("null").into_response()
        } else {
            artifact(r#"[{"name":"1.0","push_time":"2025-03-04T10:00:00Z"}]"#).into_response()
        }
    })
    .await;
    let registries = self::registries(&fake, basic());
    let at = repository(&fake.host(), "team/app");
    registries.push_dates(&at).await.expect("an answer");
    let listed = registries.untagged_manifests(&at).await.expect("an answer");
    assert_eq!(untagged(listed), expected);
}
