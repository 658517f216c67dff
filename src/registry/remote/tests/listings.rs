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
