//! Registries that store tags in lower case.

use std::collections::BTreeSet;

use super::*;
use crate::registry::remote::repository::CONTENT_DIGEST;
use crate::registry::store::TagCase;

fn listed(names: &[&str]) -> BTreeSet<crate::model::Tag> {
    names
        .iter()
        .map(|name| name.parse().expect("a tag"))
        .collect()
}

fn found(content: &str) -> Response {
    let digest = Digest::sha256(content.as_bytes()).to_string();
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_DIGEST, digest.parse().expect("a header"));
    response
}

#[tokio::test]
async fn listed_tag_is_looked_up_in_upper_case_once_for_each_host() {
    for (upper, expected) in [
        (Some("same"), TagCase::Insensitive),
        (Some("other"), TagCase::Sensitive),
        (None, TagCase::Sensitive),
    ] {
        let fake = Fake::start(move |seen| match seen.path.as_str() {
            "/v2/a/manifests/release.1" => found("same"),
            "/v2/a/manifests/RELEASE.1" => {
                upper.map_or_else(|| StatusCode::NOT_FOUND.into_response(), found)
            }
            _ => StatusCode::IM_A_TEAPOT.into_response(),
        })
        .await;
        let (registry, repository) = registry(&fake);
        for _ in 0..2 {
            let case = registry
                .tag_case(&repository, &listed(&["1.0", "release.1"]))
                .await;
            assert_eq!(case, Ok(expected), "{upper:?}");
        }
        assert_eq!(fake.seen().len(), 1 + usize::from(upper.is_some()));
        // A tag in upper case is proof enough.
        let case = registry
            .tag_case(&repository, &listed(&["RELEASE.1", "release.1"]))
            .await;
        assert_eq!(case, Ok(TagCase::Sensitive));
        assert_eq!(fake.seen().len(), 1 + usize::from(upper.is_some()));
    }
}

#[tokio::test]
async fn gitea_is_known_by_its_api_before_a_tag_is_listed() {
    for (status, body, expected) in [
        (
            StatusCode::OK,
            r#"{"version":"1.26.0"}"#,
            TagCase::Insensitive,
        ),
        (
            StatusCode::FORBIDDEN,
            r#"{"message":"Only signed in user is allowed to call APIs.","url":"http://x/api/swagger"}"#,
            TagCase::Insensitive,
        ),
        (StatusCode::FORBIDDEN, "{}", TagCase::Sensitive),
        (StatusCode::OK, "<html>", TagCase::Sensitive),
        (
            StatusCode::NOT_FOUND,
            "404 page not found",
            TagCase::Sensitive,
        ),
    ] {
        let fake = Fake::start(move |seen| match seen.path.as_str() {
            "/api/v1/version" => (status, body).into_response(),
            _ => StatusCode::IM_A_TEAPOT.into_response(),
        })
        .await;
        let (registry, repository) = registry(&fake);
        let case = registry.tag_case(&repository, &BTreeSet::new()).await;
        assert_eq!(case, Ok(expected), "{body}");
    }
}
