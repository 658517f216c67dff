//! Docker Hub's tag service, which tells when tags were pushed; its registry does not.
//!
//! Owns the service's paths, pages and errors. It is asked without a login and by its own name,
//! wherever the traffic to the registry is sent. Whether dates are needed is known to who asks.

use serde::Deserialize;

use super::TagSeen;
use super::listing::{LARGEST_PAGE, Listing, time};
use crate::error::{ItemError, ItemErrorKind};
use crate::http::{
    self, AuthMode, Client, Method, Request, RequestAccess, RequestKind, RequestTarget,
};
use crate::model::{Host, RepositoryPath};

/// The service's host, and the key of its settings.
const HOST: &str = "hub.docker.com";

/// Tags asked for at once, the most that are given (Docker Hub's API reference, "List repository
/// tags").
const PAGE: usize = 100;

const LISTING: RequestKind = RequestKind("tag service");

/// A page of tags, as in Docker Hub's API reference, "List repository tags".
#[derive(Deserialize)]
struct Page {
    next: Option<String>,
    results: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    tag_last_pushed: Option<String>,
    last_updated: Option<String>,
    /// Not in the reference, but there in practice; `null` for tags of old.
    digest: Option<String>,
}

/// Returns the tags of a repository on Docker Hub with the times they were pushed. What the service
/// does not know is an error: it answers 404 for private repositories and at times for others.
pub(super) async fn tags(http: &Client, path: &RepositoryPath) -> Result<Vec<TagSeen>, ItemError> {
    let action = format!("list the tags of {path} with their dates");
    let wrong = |detail: String| ItemError::new(HOST, &action, ItemErrorKind::Malformed, detail);
    let host: Host = HOST
        .parse()
        .map_err(|error| wrong(String::new()).caused_by(error))?;
    let (namespace, name) = path
        .as_str()
        .split_once('/')
        .unwrap_or(("library", path.as_str()));
    let name = name.replace('/', "%2F");
    let mut listing = Listing::default();
    for number in 1_usize.. {
        // The pages are counted, since `next` leads past an endpoint that is set.
        let target = RequestTarget::Path(format!(
            "/v2/namespaces/{namespace}/repositories/{name}/tags?page_size={PAGE}&page={number}"
        ));
        let mut request = Request::new(
            Method::GET,
            &host,
            target,
            LISTING,
            RequestAccess::default(),
        );
        request.limit = LARGEST_PAGE;
        request.auth_mode = AuthMode::Never;
        let answer = http
            .send(request)
            .await
            .map_err(|error| failed(&action, error))?;
        listing.begin_page(&answer).map_err(&wrong)?;
        let page: Page = serde_json::from_slice(&answer.body)
            .map_err(|error| wrong("the answer is no list of tags".to_owned()).caused_by(error))?;
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
            "the tag service is asked without a login, so it tells dates of public repositories only"
        }
        ItemErrorKind::Forbidden if is_beyond_limit => {
            "Docker Hub lists only the first 1,000 tags or fewer without a login, and its tag service is asked without one; for a \
             repository with more tags use `sort: version` without `min_age`, and a `tag_regex` that matches versions"
        }
        ItemErrorKind::RateLimited => {
            "Docker Hub limits how often its tag service is asked; run less often"
        }
        _ => return failed,
    };
    failed.with_hint(hint)
}

/// Returns whether a page was refused because it is further than those without a login may read.
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
    use crate::registry::ImageSource;
    use crate::registry::remote::RemoteRegistries;

    const ALPINE: &str = "/v2/namespaces/library/repositories/alpine/tags?page_size=100&page=";

    /// Asks for the tags of `alpine` where Docker Hub's registry is sent to `cache` and its tag
    /// service to `service`.
    async fn ask(service: &Fake, cache: &Fake) -> Result<Vec<TagSeen>, ItemError> {
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
            .expect("the service knows it"))
    }

    async fn tags_by(
        answer: impl Fn(&ReceivedRequest) -> Response + Send + Sync + 'static,
    ) -> (Result<Vec<TagSeen>, ItemError>, Fake) {
        let (service, cache) = (
            Fake::start(answer).await,
            Fake::start(|_| StatusCode::IM_A_TEAPOT).await,
        );
        let tags = ask(&service, &cache).await;
        assert!(cache.seen().is_empty(), "the registry was asked too");
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
    async fn pages_are_read_to_the_end_at_the_services_own_address() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let first = format!(
            r#"{{"name":"3.21","tag_last_pushed":"2026-10-01T02:03:04.567891Z","last_updated":"2026-10-09T00:00:00Z","digest":"{digest}",
                "images":[{{"architecture":"amd64","digest":null,"last_pushed":"2020-01-01T00:00:00Z"}}],"tag_status":"active"}},
               {{"name":"edge","tag_last_pushed":null,"last_updated":"2026-09-01T00:00:00Z","digest":null}}"#
        );
        let (tags, service) = tags_by(move |seen| match seen.path.strip_prefix(ALPINE) {
            Some("1") => page(&first, true),
            // A tag that was pushed meanwhile shifts the pages.
            Some("2") => page(
                r#"{"name":"edge","last_updated":"2026-09-01T00:00:00Z"},{"name":"2.6","last_updated":null,"digest":""},{"name":"-"}"#,
                false,
            ),
            _ => StatusCode::IM_A_TEAPOT.into_response(),
        })
        .await;
        let tags = tags.expect("tags");
        let seen: Vec<_> = tags
            .iter()
            .map(|seen| {
                (
                    seen.tag.as_str(),
                    seen.pushed_at.map(|time| time.to_rfc3339()),
                )
            })
            .collect();
        let time = |text: &str| Some(text.to_owned());
        let expected = [
            ("3.21", time("2026-10-01T02:03:04.567891+00:00")),
            ("edge", time("2026-09-01T00:00:00+00:00")),
            ("2.6", None),
        ];
        assert_eq!(seen, expected);
        assert_eq!(
            tags[0].digest.as_ref().map(|digest| digest.as_str()),
            Some(digest.as_str())
        );
        assert_eq!((&tags[1].digest, &tags[2].digest), (&None, &None));
        assert_eq!(service.seen().len(), 2);
    }

    #[tokio::test]
    async fn no_password_is_ever_sent() {
        let challenge = || {
            (
                StatusCode::UNAUTHORIZED,
                [("www-authenticate", r#"Basic realm="x""#)],
            )
                .into_response()
        };
        let (tags, service) = tags_by(move |_| challenge()).await;
        let error = tags.expect_err("it wants a login");
        assert_eq!(error.kind, ItemErrorKind::Unauthorized);
        assert_eq!(
            error.hint().as_deref(),
            Some(
                "the tag service is asked without a login, so it tells dates of public repositories only"
            )
        );
        assert_eq!(
            (service.seen().len(), service.seen()[0].authorization()),
            (1, None)
        );
    }

    #[tokio::test]
    async fn a_limit_is_waited_for_in_both_of_its_forms() {
        // One second after the time of the tests' clock.
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
    async fn a_failure_of_the_service_is_an_error_that_says_why() {
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
    async fn a_page_without_end_is_not_read_to_it() {
        let (tags, _) = tags_by(|_| " ".repeat(LARGEST_PAGE + 1).into_response()).await;
        assert!(shown(&tags.expect_err("it is too large")).contains("more than 8388608 bytes"));
    }
}
