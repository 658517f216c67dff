//! Listings of tags and repositories.

use super::*;

async fn tags_of(fake: &Fake) -> Result<Option<Vec<String>>, ItemError> {
    let (registry, repository) = registry(fake);
    let tags = registry.tags(&repository).await?;
    Ok(tags.map(|tags| {
        tags.into_iter()
            .map(|listed| listed.tag.to_string())
            .collect()
    }))
}

#[tokio::test]
async fn tag_listing_follows_links_with_one_request_per_page() {
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
async fn missing_repository_differs_from_a_repository_without_tags() {
    for (body, expected) in [
        (r#"{"tags":null}"#, Some(Vec::new())),
        (r#"{"tags":[],"errors":null}"#, Some(Vec::new())),
        (r#"{"tags":[],"errors":[]}"#, Some(Vec::new())),
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
async fn incomplete_tag_listing_is_an_error() {
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
        let error = shown(&tags_of(&fake).await.expect_err("it is incomplete"));
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(other.seen().len(), 0);
    let fake = Fake::start(|_| "<html>").await;
    shown_as(
        ItemErrorKind::Malformed,
        &tags_of(&fake).await.expect_err("no listing"),
    );
}

/// Responds with `body` and a link to another page.
fn endless_page(seen: &ReceivedRequest, body: String) -> Response {
    (
        [("link", format!("<?page={}>; rel=\"next\"", seen.index))],
        body,
    )
        .into_response()
}

#[tokio::test]
async fn listing_that_repeats_a_page_is_an_error() {
    const NOTHING_NEW: &str = "a page without new entries announces another page";
    let fake =
        Fake::start(|seen| endless_page(seen, r#"{"tags":["1"],"repositories":["a"]}"#.to_owned()))
            .await;
    let error = shown(&tags_of(&fake).await.expect_err("it is endless"));
    assert!(error.contains(NOTHING_NEW), "{error}");
    assert_eq!(fake.seen().len(), 2);
    let (registries, repository) = registry(&fake);
    let error = shown(
        &registries
            .sibling_repositories(&repository)
            .await
            .expect_err("it is endless"),
    );
    assert!(error.contains(NOTHING_NEW), "{error}");
    assert_eq!(fake.seen().len(), 4);
}

#[tokio::test]
async fn listing_is_limited_in_bytes() {
    let fake = Fake::start(|seen| {
        let name = format!("{}{}", seen.index, "A".repeat(2_000_000));
        endless_page(
            seen,
            format!(r#"{{"tags":["{name}"],"repositories":["{name}"]}}"#),
        )
    })
    .await;
    let error = shown(&tags_of(&fake).await.expect_err("it is endless"));
    assert!(error.contains("it has more than 67108864 bytes"), "{error}");
    assert_eq!(fake.seen().len(), 17);
    let (registries, repository) = registry(&fake);
    let error = shown(
        &registries
            .sibling_repositories(&repository)
            .await
            .expect_err("it is endless"),
    );
    assert!(error.contains("it has more than 67108864 bytes"), "{error}");
}

#[tokio::test]
async fn full_page_without_a_link_is_continued_after_its_last_tag() {
    let page = |from: usize, to: usize| {
        let names: Vec<String> = (from..to)
            .map(|index| format!(r#""t{index:04}""#))
            .collect();
        format!(r#"{{"tags":[{}]}}"#, names.join(","))
    };
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/v2/a/tags/list?n=1000" => page(0, 1000),
        "/v2/a/tags/list?n=1000&last=t0999" => page(1000, 1010),
        path => panic!("unexpected request for {path}"),
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

const ERRORS: &str = r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#;

#[tokio::test]
async fn page_without_tags_is_an_error_on_every_page() {
    for body in [
        "{}",
        ERRORS,
        r#"{"name":"a"}"#,
        r#"{"tags":["2"],"errors":[{"code":"UNKNOWN"}]}"#,
        r#"{"tags":null,"errors":[{"code":"UNKNOWN"}]}"#,
        r#"{"tags":{"1":{}}}"#,
        "[]",
        "null",
    ] {
        let first = Fake::start(move |_| body).await;
        let second = Fake::start(move |seen| match seen.path.as_str() {
            "/v2/a/tags/list?n=1000" => (
                [("link", r#"<list?last=1>; rel="next""#)],
                r#"{"tags":["1"]}"#,
            )
                .into_response(),
            _ => body.into_response(),
        })
        .await;
        let after_last = Fake::start(move |seen| match seen.path.as_str() {
            "/v2/a/tags/list?n=1000" => r#"{"tags":["1"]}"#,
            _ => body,
        })
        .await;
        for (fake, requests) in [(&first, 1), (&second, 2), (&after_last, 2)] {
            let (registry, repository) = registry(fake);
            let error = registry
                .proved_tags(&repository)
                .await
                .expect_err("no listing");
            let text = shown_as(ItemErrorKind::Malformed, &error);
            assert!(
                text.contains("cannot list the tags of a: the response "),
                "{text}"
            );
            assert_eq!(fake.seen().len(), requests, "{body}");
        }
    }
}

#[tokio::test]
async fn page_of_the_catalog_without_repositories_is_an_error() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/v2/_catalog?n=1000" => (
            [("link", r#"<_catalog?last=a>; rel="next""#)],
            r#"{"repositories":["a"]}"#,
        )
            .into_response(),
        _ => ERRORS.into_response(),
    })
    .await;
    let (registries, repository) = registry(&fake);
    let error = registries.sibling_repositories(&repository).await;
    shown_as(ItemErrorKind::Malformed, &error.expect_err("no listing"));
}

/// Returns the tags that are listed and the doubt about them, with the number of requests.
async fn proved(
    answer: impl Fn(&ReceivedRequest) -> Response + Send + Sync + 'static,
) -> (Vec<String>, Option<String>, usize) {
    let fake = Fake::start(answer).await;
    let (registry, repository) = registry(&fake);
    let found = registry.proved_tags(&repository).await.expect("a listing");
    let found = found.expect("a repository");
    let tags = found.tags.iter().map(|listed| listed.tag.to_string());
    (tags.collect(), found.doubt, fake.seen().len())
}

/// A registry with the tags `a` to `f`.
#[derive(Clone, Copy)]
struct Lister {
    tags: &'static [&'static str],
    page: usize,
    has_links: bool,
    has_last: bool,
    has_size: bool,
    version: &'static str,
}

const LISTER: Lister = Lister {
    tags: &["a", "b", "c", "d", "e", "f"],
    page: usize::MAX,
    has_links: false,
    has_last: true,
    has_size: true,
    version: "",
};

impl Lister {
    fn answer(self, seen: &ReceivedRequest) -> Response {
        let query: Vec<(String, String)> = url::form_urlencoded::parse(
            seen.path
                .split_once('?')
                .map_or("", |(_, query)| query)
                .as_bytes(),
        )
        .into_owned()
        .collect();
        let value = |key: &str| {
            query
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value.clone())
        };
        // Links have a token of their own, which is always honoured.
        let last = value("token").or_else(|| value("last").filter(|_| self.has_last));
        let size = value("n").and_then(|size| size.parse().ok());
        let size = size.filter(|_| self.has_size).unwrap_or(usize::MAX);
        let rest: Vec<&str> = self
            .tags
            .iter()
            .copied()
            .filter(|tag| last.as_ref().is_none_or(|last| *tag > last.as_str()))
            .collect();
        let page = &rest[..rest.len().min(size).min(self.page)];
        let body = serde_json::json!({ "name": "a", "tags": page }).to_string();
        let version = ("docker-distribution-api-version", self.version);
        match page.last() {
            Some(end) if self.has_links && page.len() < rest.len() => {
                let link = format!(r#"<list?n={size}&token={end}>; rel="next""#);
                ([version, ("link", link.as_str())], body).into_response()
            }
            _ => ([version], body).into_response(),
        }
    }
}

#[tokio::test]
async fn listing_is_proved_by_the_tags_after_the_last_one() {
    let ignored = Some("the registry repeats tags instead of listing those after `f`");
    let distribution = Lister {
        has_last: false,
        has_size: false,
        version: "registry/2.0",
        ..LISTER
    };
    for (name, lister, doubt, count, requests) in [
        ("whole", LISTER, None, 6, 2),
        (
            "short pages without links",
            Lister { page: 2, ..LISTER },
            None,
            6,
            4,
        ),
        (
            "links",
            Lister {
                page: 2,
                has_links: true,
                ..LISTER
            },
            None,
            6,
            4,
        ),
        (
            "one tag",
            Lister {
                tags: &["a"],
                ..LISTER
            },
            None,
            1,
            2,
        ),
        (
            "no tag",
            Lister {
                tags: &[],
                ..LISTER
            },
            None,
            0,
            1,
        ),
        (
            "ignores last",
            Lister {
                has_last: false,
                ..LISTER
            },
            ignored,
            6,
            3,
        ),
        (
            "ignores last and has links",
            Lister {
                page: 2,
                has_links: true,
                has_last: false,
                ..LISTER
            },
            ignored,
            6,
            5,
        ),
        (
            "ignores last and size, and is not of the distribution project",
            Lister {
                version: "",
                ..distribution
            },
            ignored,
            6,
            3,
        ),
        ("version 2 of distribution", distribution, None, 6, 3),
        (
            "version 2 of distribution with one tag",
            Lister {
                tags: &["f"],
                ..distribution
            },
            None,
            1,
            3,
        ),
        (
            "a proxy that keeps only the header",
            Lister {
                has_size: true,
                ..distribution
            },
            ignored,
            6,
            3,
        ),
    ] {
        let (tags, found, sent) = proved(move |seen| lister.answer(seen)).await;
        assert_eq!(
            (tags.len(), found.as_deref(), sent),
            (count, doubt, requests),
            "{name}"
        );
    }
    let cut = Lister {
        page: 2,
        has_last: false,
        ..LISTER
    };
    let (tags, doubt, _) = proved(move |seen| cut.answer(seen)).await;
    assert_eq!(tags, ["a", "b"]);
    assert!(doubt.is_some(), "the listing is cut short");
}

#[tokio::test]
async fn listing_is_in_doubt_if_the_registry_refuses_to_continue_it() {
    for status in [400, 403, 404, 405] {
        let (tags, doubt, requests) = proved(move |seen| match seen.path.as_str() {
            "/v2/a/tags/list?n=1000" => r#"{"tags":["1"]}"#.into_response(),
            _ => StatusCode::from_u16(status)
                .expect("a status")
                .into_response(),
        })
        .await;
        assert_eq!((tags.len(), requests), (1, 2), "{status}");
        let doubt = doubt.expect("a doubt");
        assert!(
            doubt.contains("refuses to list the tags after `1`"),
            "{doubt}"
        );
    }
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/v2/a/tags/list?n=1000" => r#"{"tags":["1"]}"#.into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    })
    .await;
    let (registry, repository) = registry(&fake);
    let error = registry.proved_tags(&repository).await;
    shown_as(ItemErrorKind::ServerError, &error.expect_err("an outage"));
}

#[tokio::test]
async fn listing_is_proved_if_the_registry_continues_with_the_tag_itself() {
    let (tags, doubt, requests) = proved(|seen| match seen.path.as_str() {
        "/v2/a/tags/list?n=1000" => r#"{"tags":["1","2"]}"#.into_response(),
        _ => r#"{"tags":["2"]}"#.into_response(),
    })
    .await;
    assert_eq!((tags.len(), doubt, requests), (2, None, 2));
}
