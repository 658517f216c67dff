//! `Link` headers (RFC 8288): the next page of a listing.

use std::collections::HashSet;

use reqwest::Url;
use reqwest::header::{HeaderMap, LINK};

use super::request::Response;
use crate::model::text::excerpt;

/// Returns the URL of the page that follows `response`; `None` when it is the last one.
///
/// `visited` are the URLs of the pages so far. Fails with the reason when the URL is invalid, of
/// another origin, or was visited.
pub fn next_page(response: &Response, visited: &HashSet<Url>) -> Result<Option<Url>, String> {
    let Some(link) = next(&response.headers) else {
        return Ok(None);
    };
    let url = response
        .url
        .join(link)
        .map_err(|error| format!("the URL of the next page is invalid ({error})"))?;
    if url.origin() != response.url.origin() {
        let host = url
            .host_str()
            .map(|host| excerpt(host, 100))
            .unwrap_or_default();
        return Err(format!(
            "the next page is on another host ({}://{host})",
            url.scheme()
        ));
    }
    if visited.contains(&url) {
        return Err("the next page was read already".to_owned());
    }
    Ok(Some(url))
}

/// Returns the target of the first link to the next page, unresolved.
pub fn next(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(LINK)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(next_in)
}

fn next_in(mut text: &str) -> Option<&str> {
    loop {
        let (_, rest) = text.split_once('<')?;
        let (target, rest) = rest.split_once('>')?;
        let (mut parameters, rest) = split_unquoted(rest, ',');
        while !parameters.is_empty() {
            let (parameter, others) = split_unquoted(parameters, ';');
            if is_next(parameter) {
                return Some(target);
            }
            parameters = others;
        }
        text = rest;
    }
}

fn is_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else {
        return false;
    };
    name.trim().eq_ignore_ascii_case("rel")
        && value
            .trim()
            .trim_matches('"')
            .split(' ')
            .any(|relation| relation.eq_ignore_ascii_case("next"))
}

/// Returns the text before and after the first `separator` outside quotes.
fn split_unquoted(text: &str, separator: char) -> (&str, &str) {
    let mut quoted = false;
    let end = text.find(|character| {
        quoted ^= character == '"';
        character == separator && !quoted
    });
    end.map_or((text, ""), |end| {
        (&text[..end], &text[end + separator.len_utf8()..])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(LINK, value.parse().expect("a header"));
        }
        next(&headers).map(str::to_owned)
    }

    #[test]
    fn next_page_is_found_among_other_links() {
        let page = Some("/v2/a/tags/list?last=b&n=2".to_owned());
        assert_eq!(of(&[r#"</v2/a/tags/list?last=b&n=2>; rel="next""#]), page);
        assert_eq!(of(&["</v2/a/tags/list?last=b&n=2>;rel=next"]), page);
        assert_eq!(
            of(&[
                r#"</first>; title="a, <b>; rel=next"; rel="first", </v2/a/tags/list?last=b&n=2>; REL="last Next""#
            ]),
            page
        );
        assert_eq!(
            of(&[
                r#"</first>; rel="first""#,
                r#"</v2/a/tags/list?last=b&n=2>; rel="next""#
            ]),
            page
        );
        for other in [
            "",
            "next",
            r#"</a>; rel="nextish""#,
            r#"</a>; rev="next""#,
            "<",
            "<a",
            "</a>",
        ] {
            assert_eq!(of(&[other]), None, "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_a_link_or_none(text in "[ -~]{0,120}") {
            of(&[text.as_str()]);
        }
    }

    #[test]
    fn fuzzing_links() {
        let seeds = [
            r#"</v2/a/tags/list?n=1&last=b>; rel="next""#,
            r#"<https://a.example/x>; title="a,;b"; rel="first", <y>; rel=next"#,
        ];
        crate::model::fuzz_tests::fuzz("links", &seeds, |input| {
            let Ok(value) = reqwest::header::HeaderValue::from_bytes(input) else {
                return;
            };
            let headers = HeaderMap::from_iter([(LINK, value)]);
            if let Some(target) = next(&headers) {
                drop(Url::parse("https://r.example/v2/").and_then(|base| base.join(target)));
            }
        });
    }
}
