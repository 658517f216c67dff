//! `WWW-Authenticate`: the authentication that a host asks for.

use http_auth::ChallengeRef;
use http_auth::parser::ChallengeParser;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// Supported way to authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    /// Token from the token server at `realm` (token authentication specification of CNCF
    /// distribution).
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

/// Returns the challenge in the headers of a response; `Bearer` if there is a choice. `None` when
/// no challenge is supported.
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = false;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = value.to_str() else { continue };
        // Challenges before a syntax error still count.
        for challenge in ChallengeParser::new(text).map_while(Result::ok) {
            if challenge.scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = parameter(&challenge, "realm")
            {
                return Some(Challenge::Bearer {
                    realm,
                    service: parameter(&challenge, "service"),
                });
            }
            basic |= challenge.scheme.eq_ignore_ascii_case("basic");
        }
    }
    basic.then_some(Challenge::Basic)
}

fn parameter(challenge: &ChallengeRef<'_>, name: &str) -> Option<String> {
    challenge
        .params
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.to_unescaped())
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn of(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().expect("a header"));
        }
        challenge(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        })
    }

    #[test]
    fn bearer_is_preferred_in_any_order_and_number_of_headers() {
        let token =
            r#"Bearer realm="https://a.example/token",service="s",scope="repository:x:pull""#;
        assert_eq!(of(&[token]), bearer("https://a.example/token", Some("s")));
        assert_eq!(
            of(&[r#"Basic realm="x""#, token]),
            bearer("https://a.example/token", Some("s"))
        );
        assert_eq!(
            of(&[token, r#"Basic realm="x""#]),
            bearer("https://a.example/token", Some("s"))
        );
        assert_eq!(
            of(&[&format!(r#"Basic realm="x", {token}"#)]),
            bearer("https://a.example/token", Some("s"))
        );
        assert_eq!(
            of(&[r#"bearer REALM="https://a.example""#]),
            bearer("https://a.example", None)
        );
        assert_eq!(of(&[r#"BASIC realm="a \"b\"""#]), Some(Challenge::Basic));
    }

    #[test]
    fn unsupported_and_malformed_challenges_are_ignored() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["Negotiate"]), None);
        assert_eq!(
            of(&[r#"Bearer service="s""#, "Basic realm=x"]),
            Some(Challenge::Basic)
        );
        assert_eq!(
            of(&[r#"Bearer realm="https://a.example"#, r#"Basic realm="x""#]),
            Some(Challenge::Basic)
        );
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_a_challenge_or_none(text in "[ -~]{0,120}") {
            of(&[text.as_str()]);
        }
    }

    #[test]
    fn fuzzing_challenges() {
        let seeds = [
            r#"Bearer realm="https://auth.example/token",service="r.example",scope="a:b:pull""#,
            "Basic realm=a, Bearer realm=b",
        ];
        crate::model::fuzz_tests::fuzz("challenges", &seeds, |input| {
            let headers = HeaderValue::from_bytes(input)
                .map(|value| HeaderMap::from_iter([(WWW_AUTHENTICATE, value)]));
            drop(headers.map(|headers| challenge(&headers)));
        });
    }
}
