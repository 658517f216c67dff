//! Listing the referrers of a manifest.

use std::collections::HashSet;

use serde::Deserialize;

use super::repository::RemoteRepository;
use crate::error::{ItemError, ItemErrorKind};
use crate::http::header::CONTENT_TYPE;
use crate::http::{self, Method, RequestKind, RequestTarget, Response, link};
use crate::model::manifest::MAX_MANIFEST_BYTES;
use crate::model::media_type;
use crate::model::{Descriptor, Digest};
use crate::registry::listing::PageLimits;
use crate::registry::store::Referrers;

const REFERRERS: RequestKind = RequestKind("referrers");

/// Maximum number of referrers of one manifest.
const MAX_REFERRERS: usize = 10_000;

/// An index of referrers. Unlike an image index, it may have any number of entries.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReferrersPage {
    media_type: Option<String>,
    /// `null` if the subject has no referrers.
    manifests: Option<Vec<Descriptor>>,
}

impl RemoteRepository<'_> {
    /// Returns the referrers of `subject`, page by page, or [`Referrers::NotListed`] (distribution
    /// specification, "Listing Referrers").
    pub(super) async fn referrers(&self, subject: &Digest) -> Result<Referrers, ItemError> {
        let operation = || format!("list referrers of {}@{subject}", self.path);
        let malformed = |cause: &str| self.error(operation(), ItemErrorKind::Malformed, cause);
        let mut limits = PageLimits::new();
        let mut listed: Vec<Descriptor> = Vec::new();
        let mut unique = HashSet::new();
        let mut visited = HashSet::new();
        let mut request = self.request(
            Method::GET,
            &format!("referrers/{subject}"),
            REFERRERS,
            "pull",
        );
        loop {
            request.limit = MAX_MANIFEST_BYTES;
            let response = match self.http.send(request).await {
                Ok(response) => response,
                // A repository that does not exist yet has no referrers; the registry may still
                // list them.
                Err(error) if visited.is_empty() && error.has_code("NAME_UNKNOWN") => {
                    return Ok(Referrers::Listed(Vec::new()));
                }
                Err(error) if visited.is_empty() && lacks_listing(&error) => {
                    return Ok(Referrers::NotListed);
                }
                Err(error) => return Err(self.http_error(operation(), error)),
            };
            limits.begin(&response).map_err(|cause| malformed(&cause))?;
            let is_index = has_index_type(&response);
            let page = match serde_json::from_slice::<ReferrersPage>(&response.body) {
                Ok(page)
                    if is_index
                        || page.manifests.is_some()
                        || page.media_type.as_deref() == Some(media_type::OCI_INDEX) =>
                {
                    page
                }
                // Some registries respond to unknown paths with an HTML page.
                _ if visited.is_empty() && !is_index => return Ok(Referrers::NotListed),
                Ok(_) => return Err(malformed("the response is not an index")),
                Err(error) => {
                    return Err(malformed("the response is not an index").caused_by(error));
                }
            };
            let page = page.manifests.unwrap_or_default();
            let is_empty = page.is_empty();
            for referrer in page {
                if unique.insert(referrer.digest.clone()) {
                    limits.count_new();
                    listed.push(referrer);
                }
            }
            if listed.len() > MAX_REFERRERS {
                return Err(malformed(&format!(
                    "there are more than {MAX_REFERRERS} referrers"
                )));
            }
            visited.insert(response.url.clone());
            let next = if is_empty {
                None
            } else {
                link::next_page(&response, &visited).map_err(|cause| malformed(&cause))?
            };
            let Some(url) = next else {
                return Ok(Referrers::Listed(listed));
            };
            limits.check_next().map_err(|cause| malformed(&cause))?;
            request = http::Request::new(
                Method::GET,
                self.host,
                RequestTarget::Url(url),
                REFERRERS,
                self.access("pull"),
            );
        }
    }
}

fn has_index_type(response: &Response) -> bool {
    let content_type = response.header(CONTENT_TYPE.as_str()).unwrap_or_default();
    content_type
        .split(';')
        .next()
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case(media_type::OCI_INDEX))
}

fn lacks_listing(error: &http::Error) -> bool {
    matches!(
        error.status().map(|status| status.as_u16()),
        Some(400 | 404 | 405 | 406 | 501)
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::http::StatusCode;
    use axum::response::{IntoResponse, Response};
    use serde_json::{Value, json};

    use super::super::registries::RemoteRegistries;
    use super::*;
    use crate::credentials::Credential;
    use crate::http::testing::{Fake, basic, client, shown};
    use crate::model::Repository;
    use crate::registry::store::ImageSource;

    fn subject() -> Digest {
        Digest::sha256(b"an image")
    }

    fn referrer(number: usize) -> Value {
        json!({
            "mediaType": media_type::OCI_MANIFEST, "digest": Digest::sha256(number.to_string().as_bytes()), "size": 2,
            "artifactType": "application/vnd.example", "annotations": { "number": number.to_string() },
        })
    }

    fn page(numbers: impl IntoIterator<Item = usize>) -> String {
        let manifests: Vec<Value> = numbers.into_iter().map(referrer).collect();
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests })
            .to_string()
    }

    fn linked(next: &str, body: String) -> Response {
        (
            [
                ("link", format!("<{next}>; rel=\"next\"")),
                ("content-type", media_type::OCI_INDEX.to_owned()),
            ],
            body,
        )
            .into_response()
    }

    fn refused(status: u16, code: &str) -> Response {
        let status = StatusCode::from_u16(status).expect("a status");
        (status, format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#)).into_response()
    }

    fn at(fake: &Fake, path: &str) -> Repository {
        format!("{}/{path}", fake.host())
            .parse()
            .expect("a repository")
    }

    async fn list(fake: &Fake) -> Result<Referrers, ItemError> {
        let registries =
            RemoteRegistries::new(Arc::new(client([&fake.host()], Credential::Anonymous)));
        registries.referrers(&at(fake, "a"), &subject()).await
    }

    /// Returns the numbers of the listed referrers, or `None` if the registry has no listing.
    async fn numbers(fake: &Fake) -> Option<Vec<usize>> {
        match list(fake).await.expect("an answer") {
            Referrers::NotListed | Referrers::Partial(_) => None,
            Referrers::Listed(listed) => {
                assert!(
                    listed
                        .iter()
                        .all(|referrer| referrer.artifact_type.as_deref()
                            == Some("application/vnd.example"))
                );
                Some(
                    listed
                        .iter()
                        .map(|referrer| referrer.annotations["number"].parse().expect("a number"))
                        .collect(),
                )
            }
        }
    }

    #[tokio::test]
    async fn referrers_are_listed_page_by_page_and_each_once() {
        let fake = Fake::start(|seen| {
            let first = format!("/v2/a/referrers/{}", subject());
            match seen.path.strip_prefix(&first) {
                Some("") => linked(&format!("{first}?page=2"), page([1, 2])),
                Some("?page=2") => linked("?page=3", page([2, 3])),
                Some("?page=3") => linked("?page=4", page([])),
                _ => StatusCode::IM_A_TEAPOT.into_response(),
            }
        })
        .await;
        assert_eq!(numbers(&fake).await, Some(vec![1, 2, 3]));
        assert_eq!(fake.seen().len(), 3, "an empty page is the last one");
    }

    #[tokio::test]
    async fn a_page_may_have_more_entries_than_an_image() {
        let fake = Fake::start(|_| page(0..1_500)).await;
        assert_eq!(
            numbers(&fake).await.map(|numbers| numbers.len()),
            Some(1_500)
        );
    }

    #[tokio::test]
    async fn an_empty_list_is_accepted_in_any_notation() {
        for body in [
            page([]),
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","manifests":null}}"#,
                media_type::OCI_INDEX
            ),
            format!(r#"{{"mediaType":"{}"}}"#, media_type::OCI_INDEX),
            r#"{"schemaVersion":2,"manifests":[]}"#.to_owned(),
        ] {
            let fake = Fake::start(move |_| body.clone()).await;
            assert_eq!(numbers(&fake).await, Some(Vec::new()));
        }
        let typed = [(
            "content-type",
            format!("{}; charset=utf-8", media_type::OCI_INDEX),
        )];
        let fake =
            Fake::start(move |_| (typed.clone(), r#"{"schemaVersion":2,"manifests":null}"#)).await;
        assert_eq!(numbers(&fake).await, Some(Vec::new()));
        let unknown = Fake::start(|_| refused(404, "NAME_UNKNOWN")).await;
        assert_eq!(
            numbers(&unknown).await,
            Some(Vec::new()),
            "a repository that does not exist yet"
        );
    }

    #[tokio::test]
    async fn a_registry_without_a_listing_gets_one_request() {
        for (status, code) in [
            (404, "PAGE_UNKNOWN"),
            (400, "UNSUPPORTED"),
            (405, "UNSUPPORTED"),
            (406, "X"),
            (501, "X"),
        ] {
            let fake = Fake::start(move |_| refused(status, code)).await;
            let registries =
                RemoteRegistries::new(Arc::new(client([&fake.host()], Credential::Anonymous)));
            for path in ["a", "a", "another"] {
                let found = registries
                    .referrers(&at(&fake, path), &subject())
                    .await
                    .expect("an answer");
                assert_eq!(found, Referrers::NotListed, "{status}");
            }
            assert_eq!(fake.seen().len(), 1, "{status}");
        }
    }

    #[tokio::test]
    async fn a_registry_with_a_listing_gets_each_request() {
        let fake = Fake::start(|_| page([1])).await;
        let registries =
            RemoteRegistries::new(Arc::new(client([&fake.host()], Credential::Anonymous)));
        for _ in 0..2 {
            let found = registries
                .referrers(&at(&fake, "a"), &subject())
                .await
                .expect("an answer");
            assert!(matches!(found, Referrers::Listed(listed) if listed.len() == 1));
        }
        assert_eq!(fake.seen().len(), 2);
    }

    #[tokio::test]
    async fn a_response_that_is_no_index_means_no_listing() {
        for body in [
            "<!DOCTYPE html><html>",
            "",
            "{}",
            "[]",
            r#"{"status":"ok"}"#,
            "404 page not found",
        ] {
            let fake = Fake::start(move |_| ([("content-type", "text/html")], body)).await;
            assert_eq!(numbers(&fake).await, None, "{body}");
        }
    }

    #[tokio::test]
    async fn an_incomplete_listing_is_an_error() {
        let other = Fake::start(|_| page([2])).await;
        for (next, reason) in [
            (
                format!("http://{}/v2/a/referrers/x", other.address),
                "on another host",
            ),
            (
                format!("//{}/v2/a/referrers/x", other.address),
                "on another host",
            ),
            (
                format!("/v2/a/referrers/{}", subject()),
                "the next page was read already",
            ),
            ("http://[".to_owned(), "the URL of the next page is invalid"),
            ("/gone".to_owned(), "404"),
            ("/html".to_owned(), "not an index"),
        ] {
            let fake = Fake::start(move |seen| match seen.path.as_str() {
                "/gone" => refused(404, "NAME_UNKNOWN"),
                "/html" => "<html>".into_response(),
                _ => linked(&next, page([1])),
            })
            .await;
            let error = list(&fake).await.expect_err("it is incomplete");
            assert!(shown(&error).contains(reason), "{}", shown(&error));
        }
        assert_eq!(other.seen().len(), 0);
        for body in [
            "<html>",
            r#"{"manifests":[{"digest":"sha256:x","size":1}]}"#,
            r#"{"manifests":"#,
        ] {
            let fake =
                Fake::start(move |_| ([("content-type", media_type::OCI_INDEX)], body)).await;
            let error = list(&fake).await.expect_err("it is malformed");
            assert_eq!(error.kind, ItemErrorKind::Malformed, "{body}");
        }
    }

    #[tokio::test]
    async fn an_endless_listing_is_aborted() {
        let fake = Fake::start(|seen| {
            let from = seen.index * 4_000;
            linked(&format!("?page={}", seen.index), page(from..from + 4_000))
        })
        .await;
        let error = list(&fake).await.expect_err("too many");
        assert!(
            shown(&error).contains("more than 10000"),
            "{}",
            shown(&error)
        );
        assert_eq!(fake.seen().len(), 3);
        let same = Fake::start(|seen| linked(&format!("?page={}", seen.index), page([1]))).await;
        let error = list(&same).await.expect_err("the same again");
        assert!(
            shown(&error).contains("a page without new entries"),
            "{}",
            shown(&error)
        );
        assert_eq!(same.seen().len(), 2);
        let fat = Fake::start(|seen| {
            let body = page([seen.index]).replace(
                "\"number\":",
                &format!("\"more\":\"{}\",\"number\":", "x".repeat(4_000_000)),
            );
            linked(&format!("?page={}", seen.index), body)
        })
        .await;
        let error = list(&fat).await.expect_err("too much");
        assert!(
            shown(&error).contains("more than 67108864 bytes"),
            "{}",
            shown(&error)
        );
        let long = " ".repeat(MAX_MANIFEST_BYTES + 1);
        let fake = Fake::start(move |_| long.clone()).await;
        assert_eq!(
            list(&fake).await.expect_err("too large").kind,
            ItemErrorKind::Malformed
        );
    }

    #[tokio::test]
    async fn a_denied_request_does_not_mean_no_listing() {
        for (status, kind) in [
            (401, ItemErrorKind::Unauthorized),
            (403, ItemErrorKind::Forbidden),
            (500, ItemErrorKind::ServerError),
        ] {
            let fake = Fake::start(move |_| refused(status, "X")).await;
            let registries = RemoteRegistries::new(Arc::new(client([&fake.host()], basic())));
            let error = registries
                .referrers(&at(&fake, "a"), &subject())
                .await
                .expect_err("it is denied");
            assert_eq!(error.kind, kind, "{}", shown(&error));
        }
    }
}
