//! Listing what refers to a manifest.

use std::collections::HashSet;

use serde::Deserialize;

use super::{RemoteRepository, link};
use crate::error::{ItemError, ItemErrorKind};
use crate::http::header::CONTENT_TYPE;
use crate::http::{self, Method, RequestKind, RequestTarget, Response};
use crate::model::manifest::MAX_MANIFEST_BYTES;
use crate::model::media_type;
use crate::model::{Descriptor, Digest};
use crate::registry::Referrers;
use crate::registry::listing::Pages;

const REFERRERS: RequestKind = RequestKind("referrers");

/// The most referrers of one manifest that are read.
const MOST_REFERRERS: usize = 10_000;

/// An index, of any number of entries: other than images, lists may be long.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    media_type: Option<String>,
    /// `null` where nothing refers to the subject.
    manifests: Option<Vec<Descriptor>>,
}

impl RemoteRepository<'_> {
    /// Returns what refers to `subject`, page by page, or that the registry has no such listing
    /// (distribution specification, "Listing Referrers").
    pub(super) async fn referrers(&self, subject: &Digest) -> Result<Referrers, ItemError> {
        let action = || format!("list what refers to {}@{subject}", self.path);
        let broken = |detail: &str| self.wrong(action(), ItemErrorKind::Malformed, detail);
        let mut pages = Pages::new();
        let mut listed: Vec<Descriptor> = Vec::new();
        let mut known = HashSet::new();
        let mut visited = HashSet::new();
        let mut request = self.request(
            Method::GET,
            &format!("referrers/{subject}"),
            REFERRERS,
            "pull",
        );
        loop {
            request.limit = MAX_MANIFEST_BYTES;
            let answer = match self.http.send(request).await {
                Ok(answer) => answer,
                // A repository that does not exist yet has nothing that refers to anything; the
                // registry may still list.
                Err(error) if visited.is_empty() && error.has_code("NAME_UNKNOWN") => {
                    return Ok(Referrers::Listed(Vec::new()));
                }
                Err(error) if visited.is_empty() && lacks_the_listing(&error) => {
                    return Ok(Referrers::NotListed);
                }
                Err(error) => return Err(self.failed(action(), error)),
            };
            pages.begin(&answer).map_err(|detail| broken(&detail))?;
            let says_index = says_index(&answer);
            let page = match serde_json::from_slice::<Page>(&answer.body) {
                Ok(page)
                    if says_index
                        || page.manifests.is_some()
                        || page.media_type.as_deref() == Some(media_type::OCI_INDEX) =>
                {
                    page
                }
                // Some registries answer everything they do not know with a page of their web site.
                _ if visited.is_empty() && !says_index => return Ok(Referrers::NotListed),
                Ok(_) => return Err(broken("the answer is no index")),
                Err(error) => return Err(broken("the answer is no index").caused_by(error)),
            };
            let page = page.manifests.unwrap_or_default();
            let is_empty = page.is_empty();
            for referrer in page {
                if known.insert(referrer.digest.clone()) {
                    pages.found();
                    listed.push(referrer);
                }
            }
            if listed.len() > MOST_REFERRERS {
                return Err(broken(&format!("there are more than {MOST_REFERRERS}")));
            }
            visited.insert(answer.url.clone());
            let next = if is_empty {
                None
            } else {
                link::next_page(&answer, &visited).map_err(|detail| broken(&detail))?
            };
            let Some(url) = next else {
                return Ok(Referrers::Listed(listed));
            };
            pages.check_next().map_err(|detail| broken(&detail))?;
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

fn says_index(answer: &Response) -> bool {
    let content_type = answer.header(CONTENT_TYPE.as_str()).unwrap_or_default();
    content_type
        .split(';')
        .next()
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case(media_type::OCI_INDEX))
}

fn lacks_the_listing(error: &http::Error) -> bool {
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

    use super::super::RemoteRegistries;
    use super::*;
    use crate::credentials::Credential;
    use crate::http::testing::{Fake, basic, client, shown};
    use crate::model::Repository;
    use crate::registry::ImageSource;

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

    async fn asked(fake: &Fake) -> Result<Referrers, ItemError> {
        let registries =
            RemoteRegistries::new(Arc::new(client([&fake.host()], Credential::Anonymous)));
        registries.referrers(&at(fake, "a"), &subject()).await
    }

    /// Returns the numbers of the referrers that are listed, or `None` when the registry has no
    /// listing.
    async fn numbers(fake: &Fake) -> Option<Vec<usize>> {
        match asked(fake).await.expect("an answer") {
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
    async fn a_page_may_hold_more_entries_than_an_image() {
        let fake = Fake::start(|_| page(0..1_500)).await;
        assert_eq!(
            numbers(&fake).await.map(|numbers| numbers.len()),
            Some(1_500)
        );
    }

    #[tokio::test]
    async fn an_empty_list_is_a_list_however_it_is_written() {
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
            "a repository that is not there yet"
        );
    }

    #[tokio::test]
    async fn a_registry_without_the_listing_is_asked_once() {
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
    async fn a_registry_that_lists_is_asked_each_time() {
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
    async fn an_answer_that_is_something_else_is_no_listing() {
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
    async fn a_listing_that_cannot_be_whole_is_an_error() {
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
            ("/html".to_owned(), "no index"),
        ] {
            let fake = Fake::start(move |seen| match seen.path.as_str() {
                "/gone" => refused(404, "NAME_UNKNOWN"),
                "/html" => "<html>".into_response(),
                _ => linked(&next, page([1])),
            })
            .await;
            let error = asked(&fake).await.expect_err("it breaks off");
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
            let error = asked(&fake).await.expect_err("it is broken");
            assert_eq!(error.kind, ItemErrorKind::Malformed, "{body}");
        }
    }

    #[tokio::test]
    async fn a_list_without_an_end_is_given_up() {
        let fake = Fake::start(|seen| {
            let from = seen.index * 4_000;
            linked(&format!("?page={}", seen.index), page(from..from + 4_000))
        })
        .await;
        let error = asked(&fake).await.expect_err("too many");
        assert!(
            shown(&error).contains("more than 10000"),
            "{}",
            shown(&error)
        );
        assert_eq!(fake.seen().len(), 3);
        let same = Fake::start(|seen| linked(&format!("?page={}", seen.index), page([1]))).await;
        let error = asked(&same).await.expect_err("the same again");
        assert!(
            shown(&error).contains("a page with nothing new"),
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
        let error = asked(&fat).await.expect_err("too much");
        assert!(
            shown(&error).contains("more than 67108864 bytes"),
            "{}",
            shown(&error)
        );
        let long = " ".repeat(MAX_MANIFEST_BYTES + 1);
        let fake = Fake::start(move |_| long.clone()).await;
        assert_eq!(
            asked(&fake).await.expect_err("too large").kind,
            ItemErrorKind::Malformed
        );
    }

    #[tokio::test]
    async fn a_refusal_is_not_taken_for_a_registry_without_the_listing() {
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
                .expect_err("it is refused");
            assert_eq!(error.kind, kind, "{}", shown(&error));
        }
    }
}
