//! Docker Hub's tag service, which reports push dates; its registry does not.
//!
//! Owns the paths, pages and errors of the service. Requests are anonymous and go to the service's
//! own host, even if an endpoint is configured for the registry.

use serde::Deserialize;

use crate::error::{ItemError, ItemErrorKind};
use crate::http::{
    self, AuthMode, Client, Method, Request, RequestAccess, RequestKind, RequestTarget,
};
use crate::model::{Host, RepositoryPath};
use crate::registry::listing::{MAX_PAGE_BYTES, TagListing, time};
use crate::registry::store::ListedTag;

/// Host of the service, and the key of its settings.
const HOST: &str = "hub.docker.com";

/// Number of tags per page, the maximum (Docker Hub's API reference, "List repository tags").
const PAGE_SIZE: usize = 100;

const LISTING: RequestKind = RequestKind("tag service");

/// A page of tags, as in Docker Hub's API reference, "List repository tags".
#[derive(Deserialize)]
struct HubPage {
    next: Option<String>,
    results: Vec<HubTag>,
}

#[derive(Deserialize)]
struct HubTag {
    name: String,
    tag_last_pushed: Option<String>,
    last_updated: Option<String>,
    /// Not documented, but present in practice; `null` for old tags.
    digest: Option<String>,
}

/// Returns the tags of a repository on Docker Hub with their push dates.
///
/// Fails for repositories that the service does not report: it responds with 404 for private ones,
/// and sometimes for others.
pub(super) async fn tags(
    http: &Client,
    path: &RepositoryPath,
) -> Result<Vec<ListedTag>, ItemError> {
    let operation = format!("list the tags of {path} with their dates");
    let wrong = |cause: String| ItemError::new(HOST, &operation, ItemErrorKind::Malformed, cause);
    let host: Host = HOST
        .parse()
        .map_err(|error| wrong(String::new()).caused_by(error))?;
    let (namespace, name) = path
        .as_str()
        .split_once('/')
        .unwrap_or(("library", path.as_str()));
    let name = name.replace('/', "%2F");
    let mut listing = TagListing::default();
    for number in 1_usize.. {
        // `next` is ignored, since it would bypass a configured endpoint.
        let target = RequestTarget::Path(format!(
            "/v2/namespaces/{namespace}/repositories/{name}/tags?page_size={PAGE_SIZE}&page={number}"
        ));
        let mut request = Request::new(
            Method::GET,
            &host,
            target,
            LISTING,
            RequestAccess::default(),
        );
        request.limit = MAX_PAGE_BYTES;
        request.auth_mode = AuthMode::Never;
        let response = http
            .send(request)
            .await
            .map_err(|error| failed(&operation, error))?;
        listing.begin_page(&response).map_err(&wrong)?;
        let page: HubPage = serde_json::from_slice(&response.body).map_err(|error| {
            wrong("the response is not a list of tags".to_owned()).caused_by(error)
        })?;
        let (length, more) = (
            page.results.len(),
            page.next.is_some_and(|next| !next.is_empty()),
        );
        for entry in page.results {
            let pushed_at = entry.tag_last_pushed.or(entry.last_updated);
            listing.add(
                &entry.name,
                pushed_at.as_deref().and_then(time),
                entry.digest.as_deref(),
            );
        }
        if !listing.end_page(length, more).map_err(&wrong)? {
            break;
        }
    }
    Ok(listing.into_tags(&format_args!("{HOST}: {path}")))
}

fn failed(operation: &str, error: http::Error) -> ItemError {
    let is_beyond_limit = is_beyond_limit(&error);
    let failed = error.into_item(HOST, operation);
    let hint = match failed.kind {
        ItemErrorKind::Absent | ItemErrorKind::Unauthorized => {
            "Docker Hub reports push dates of public repositories only"
        }
        ItemErrorKind::Forbidden if is_beyond_limit => {
            "Docker Hub lists at most the first 1,000 tags for anonymous requests; for a repository with more tags use \
             `sort: version` without `min_age`, and a `tag_regex` that matches versions"
        }
        ItemErrorKind::RateLimited => {
            "Docker Hub limits requests to its tag service; run less often"
        }
        _ => return failed,
    };
    failed.with_hint(hint)
}

/// Returns true if anonymous requests may not read this page.
fn is_beyond_limit(error: &http::Error) -> bool {
    matches!(error, http::Error::Refused(refusal) if refusal.excerpt.contains("pagination"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use axum::http::StatusCode;
    use axum::response::{IntoResponse, Response};

    use super::*;
    use crate::http::testing::{Fake, ReceivedRequest, basic, client_with, quick, shown};
    use crate::http::{HostRules, Settings};
    use crate::model::Repository;
    use crate::registry::remote::RemoteRegistries;
    use crate::registry::store::ImageSource;

    const ALPINE: &str = "/v2/namespaces/library/repositories/alpine/tags?page_size=100&page=";

    /// Lists the tags of `alpine`, with `cache` as the endpoint of Docker Hub's registry and
    /// `service` as the endpoint of its tag service.
    async fn list(service: &Fake, cache: &Fake) -> Result<Vec<ListedTag>, ItemError> {
        let rules = |fake: &Fake| {
            let endpoint = format!("http://{}", fake.address).parse().expect("a URL");
            HostRules {
                endpoint: Some(endpoint),
                ..HostRules::default()
            }
        };
        let hosts = [("hub.docker.com", service), ("docker.io", cache)];
        let hosts = hosts.map(|(host, fake)| (host.parse().expect("a host"), rules(fake)));
        let client = client_with(
            Settings {
                hosts: hosts.into(),
                ..quick()
            },
            [],
            basic(),
        );
        let alpine: Repository = "alpine".parse().expect("a repository");
        Ok(RemoteRegistries::new(Arc::new(client))
            .dated_tags(&alpine)
            .await?
            .expect("a listing"))
    }

    async fn tags_by(
        answer: impl Fn(&ReceivedRequest) -> Response + Send + Sync + 'static,
    ) -> (Result<Vec<ListedTag>, ItemError>, Fake) {
        let (service, cache) = (
            Fake::start(answer).await,
            Fake::start(|_| StatusCode::IM_A_TEAPOT).await,
        );
        let tags = list(&service, &cache).await;
        assert!(cache.seen().is_empty(), "the registry got a request");
        (tags, service)
    }

    fn page(results: &str, next: bool) -> Response {
        let next = if next {
            r#""https://hub.docker.com/v2/elsewhere?page=2""#
        } else {
            "null"
        };
        format!(r#"{{"count":5,"next":{next},"previous":null,"results":[{results}]}}"#)
            .into_response()
    }

    #[tokio::test]
    async fn all_pages_are_read_from_the_endpoint_of_the_service() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let first = format!(
            r#"{{"name":"3.21","tag_last_pushed":"2026-10-01T02:03:04.567891Z","last_updated":"2026-10-09T00:00:00Z","digest":"{digest}",
                "images":[{{"architecture":"amd64","digest":null,"last_pushed":"2020-01-01T00:00:00Z"}}],"tag_status":"active"}},
               {{"name":"edge","tag_last_pushed":null,"last_updated":"2026-09-01T00:00:00Z","digest":null}}"#
        );
        let (tags, service) = tags_by(move |seen| match seen.path.strip_prefix(ALPINE) {
            Some("1") => page(&first, true),
            // A tag that is pushed at the same time moves the others to later pages.
            Some("2") => page(
                r#"{"name":"edge","last_updated":"2026-09-01T00:00:00Z"},{"name":"2.6","last_updated":null,"digest":""},{"name":"-"}"#,
                false,
            ),
            _ => StatusCode::IM_A_TEAPOT.into_response(),
        })
        .await;
        let tags = tags.expect("tags");
        let listed: Vec<_> = tags
            .iter()
            .map(|listed| {
                (
                    listed.tag.as_str(),
                    listed.pushed_at.map(|time| time.to_rfc3339()),
                )
            })
            .collect();
        let time = |text: &str| Some(text.to_owned());
        let expected = [
            ("3.21", time("2026-10-01T02:03:04.567891+00:00")),
            ("edge", time("2026-09-01T00:00:00+00:00")),
            ("2.6", None),
        ];
        assert_eq!(listed, expected);
        assert_eq!(
            tags[0].digest.as_ref().map(|digest| digest.as_str()),
            Some(digest.as_str())
        );
        assert_eq!((&tags[1].digest, &tags[2].digest), (&None, &None));
        assert_eq!(service.seen().len(), 2);
    }

    #[tokio::test]
    async fn no_credentials_are_sent() {
        let challenge = || {
            (
                StatusCode::UNAUTHORIZED,
                [("www-authenticate", r#"Basic realm="x""#)],
            )
                .into_response()
        };
        let (tags, service) = tags_by(move |_| challenge()).await;
        let error = tags.expect_err("it wants credentials");
        assert_eq!(error.kind, ItemErrorKind::Unauthorized);
        assert_eq!(
            error.hint().as_deref(),
            Some("Docker Hub reports push dates of public repositories only")
        );
        assert_eq!(
            (service.seen().len(), service.seen()[0].authorization()),
            (1, None)
        );
    }

    #[tokio::test]
    async fn both_retry_after_headers_are_honoured() {
        // One second after the time of the test clock.
        for (header, value) in [("x-retry-after", "1793954978"), ("retry-after", "1")] {
            let began = Instant::now();
            let (tags, service) = tags_by(move |seen| match seen.index {
                0 => (
                    StatusCode::TOO_MANY_REQUESTS,
                    [(header, value)],
                    "slow\ndown",
                )
                    .into_response(),
                _ => page(r#"{"name":"1"}"#, false),
            })
            .await;
            assert_eq!((tags.expect("tags").len(), service.seen().len()), (1, 2));
            assert!(
                began.elapsed() >= Duration::from_secs(1)
                    && began.elapsed() < Duration::from_secs(30),
                "{header}"
            );
        }
    }

    #[tokio::test]
    async fn errors_of_the_service_have_a_cause_and_a_hint() {
        let html = "<html><title>\u{1b}[31mSorry</title>";
        let offset = r#"{"message":"pagination offset too large for anonymous requests; sign in to page further","errinfo":{}}"#;
        for (status, body, kind, hint) in [
            (503, html, ItemErrorKind::ServerError, None),
            (200, html, ItemErrorKind::Malformed, None),
            (200, r#"{"message":"odd"}"#, ItemErrorKind::Malformed, None),
            (
                200,
                r#"{"next":"x","results":[]}"#,
                ItemErrorKind::Malformed,
                None,
            ),
            (
                404,
                html,
                ItemErrorKind::Absent,
                Some("public repositories only"),
            ),
            (
                403,
                offset,
                ItemErrorKind::Forbidden,
                Some("the first 1,000 tags"),
            ),
            (429, "", ItemErrorKind::RateLimited, Some("run less often")),
        ] {
            let (tags, _) = tags_by(move |_| {
                (StatusCode::from_u16(status).expect("a status"), body).into_response()
            })
            .await;
            let error = tags.expect_err("it fails");
            let text = shown(&error);
            assert_eq!(error.kind, kind, "{text}");
            assert!(
                text.starts_with(
                    "hub.docker.com: cannot list the tags of library/alpine with their dates"
                ),
                "{text}"
            );
            assert!(!text.contains('\u{1b}'));
            let shown_hint = error.hint();
            assert!(
                hint.is_none_or(|hint| shown_hint
                    .as_ref()
                    .is_some_and(|shown| shown.contains(hint))),
                "{shown_hint:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_page_that_is_too_large_is_not_read() {
        let (tags, _) = tags_by(|_| " ".repeat(MAX_PAGE_BYTES + 1).into_response()).await;
        assert!(shown(&tags.expect_err("it is too large")).contains("more than 8388608 bytes"));
    }
}
