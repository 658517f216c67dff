//! `WWW-Authenticate`: the authentication that a host asks for.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// Maximum number of scopes of a challenge that are used.
const MAX_SCOPES: usize = 8;

/// Supported way to authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    /// Token from the token server at `realm` (token authentication specification of CNCF
    /// distribution).
    Bearer {
        realm: String,
        service: Option<String>,
        /// Scopes that the token needs, such as `repository:team/app:pull`.
        scopes: Vec<String>,
    },
}

/// Returns the challenge in the headers of a response; `Bearer` if there is a choice. `None` when
/// no challenge is supported.
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = false;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        for challenge in parse(value.as_bytes()) {
            if challenge.scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = challenge.parameter("realm")
            {
                let scopes = challenge.parameter("scope").unwrap_or_default();
                return Some(Challenge::Bearer {
                    realm,
                    service: challenge.parameter("service"),
                    scopes: scopes
                        .split_ascii_whitespace()
                        .take(MAX_SCOPES)
                        .map(str::to_owned)
                        .collect(),
                });
            }
            basic |= challenge.scheme.eq_ignore_ascii_case("basic");
        }
    }
    basic.then_some(Challenge::Basic)
}

/// One challenge of a header.
struct ParsedChallenge {
    scheme: String,
    /// Names and values of the parameters.
    parameters: Vec<(String, String)>,
}

impl ParsedChallenge {
    fn parameter(&self, name: &str) -> Option<String> {
        self.parameters
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.clone())
    }
}

/// Returns the challenges of a header value (RFC 9110, section 11.6.1).
///
/// Reads every valid spelling: several challenges in one value, empty list elements, spaces around
/// `=`, `token68`, quoted pairs and bytes above ASCII. Also reads values that should be quoted and
/// are not, such as URLs. Parts that are no challenge are skipped.
fn parse(value: &[u8]) -> Vec<ParsedChallenge> {
    let mut input = Input { rest: value };
    let mut challenges: Vec<ParsedChallenge> = Vec::new();
    loop {
        input.take_while(|byte| is_space(byte) || byte == b',');
        if input.rest.is_empty() {
            return challenges;
        }
        let token = input.take_while(is_token).to_vec();
        if token.is_empty() {
            input.take_while(|byte| byte != b',');
            continue;
        }
        let name = text(&token);
        input.take_while(is_space);
        match challenges.last_mut() {
            Some(challenge) if input.rest.first() == Some(&b'=') => {
                input.rest = &input.rest[1..];
                input.take_while(is_space);
                if let Some(value) = input.parameter_value() {
                    challenge.parameters.push((name, value));
                }
            }
            _ => {
                input.skip_token68();
                challenges.push(ParsedChallenge {
                    scheme: name,
                    parameters: Vec::new(),
                });
            }
        }
    }
}

/// Rest of a header value.
struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// Removes and returns the leading bytes that match.
    fn take_while(&mut self, matches: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| !matches(*byte));
        let (taken, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Removes the value of a parameter, and returns it. `None` when the quotation has no end.
    fn parameter_value(&mut self) -> Option<String> {
        let Some(quoted) = self.rest.strip_prefix(b"\"") else {
            return Some(text(
                self.take_while(|byte| !is_space(byte) && byte != b','),
            ));
        };
        self.rest = &[];
        let mut value = Vec::new();
        let mut bytes = quoted.iter().enumerate();
        while let Some((index, byte)) = bytes.next() {
            match byte {
                b'"' => {
                    self.rest = &quoted[index + 1..];
                    return Some(text(&value));
                }
                b'\\' => value.push(*bytes.next()?.1),
                byte => value.push(*byte),
            }
        }
        None
    }

    /// Removes a `token68`, which some schemes have instead of parameters.
    fn skip_token68(&mut self) {
        let mut after = Input { rest: self.rest };
        after.take_while(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
        after.take_while(|byte| byte == b'=');
        after.take_while(is_space);
        if matches!(after.rest.first(), None | Some(b',')) {
            self.rest = after.rest;
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Returns true for the bytes of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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
            scopes: Vec::new(),
        })
    }

    /// Returns the challenge without its scopes.
    fn server(values: &[&str]) -> Option<Challenge> {
        of(values).map(|challenge| match challenge {
            Challenge::Bearer { realm, service, .. } => Challenge::Bearer {
                realm,
                service,
                scopes: Vec::new(),
            },
            Challenge::Basic => Challenge::Basic,
        })
    }

    #[test]
    fn bearer_is_preferred_in_any_order_and_number_of_headers() {
        let token =
            r#"Bearer realm="https://a.example/token",service="s",scope="repository:x:pull""#;
        assert_eq!(
            server(&[token]),
            bearer("https://a.example/token", Some("s"))
        );
        assert_eq!(
            server(&[r#"Basic realm="x""#, token]),
            bearer("https://a.example/token", Some("s"))
        );
        assert_eq!(
            server(&[token, r#"Basic realm="x""#]),
            bearer("https://a.example/token", Some("s"))
        );
        assert_eq!(
            server(&[&format!(r#"Basic realm="x", {token}"#)]),
            bearer("https://a.example/token", Some("s"))
        );
        assert_eq!(
            server(&[r#"bearer REALM="https://a.example""#]),
            bearer("https://a.example", None)
        );
        assert_eq!(
            server(&[r#"BASIC realm="a \"b\"""#]),
            Some(Challenge::Basic)
        );
    }

    #[test]
    fn scopes_of_a_challenge_are_separated_by_spaces() {
        for (scope, expected) in [
            ("", &[][..]),
            ("repository:a:pull", &["repository:a:pull"]),
            (
                "repository:a:pull,push  registry:catalog:*",
                &["repository:a:pull,push", "registry:catalog:*"],
            ),
        ] {
            let header = format!(r#"Bearer realm="https://a.example",scope="{scope}""#);
            let Some(Challenge::Bearer { scopes, .. }) = of(&[&header]) else {
                panic!("{header}");
            };
            assert_eq!(scopes, expected);
        }
    }

    #[test]
    fn every_spelling_of_rfc_9110_is_read() {
        let expected = bearer("https://a.example/t", Some("s"));
        for spelling in [
            r#"Bearer realm="https://a.example/t",service="s""#,
            r#"Bearer realm="https://a.example/t", service=s"#,
            r#"Bearer realm = "https://a.example/t" , service = "s""#,
            "Bearer\trealm=\t\"https://a.example/t\",\tservice=\"s\"",
            r#"Bearer   realm="https://a.example/t",service="s""#,
            r#"BEARER REALM="https://a.example/t",Service="s""#,
            r#", ,Bearer realm="https://a.example/t",,service="s",, "#,
            r#"Bearer service="s",realm="https://a.example/t""#,
            r#"Bearer realm="https:\/\/a.example/t",service="\s""#,
            r#"Bearer realm=https://a.example/t,service="s""#,
            r#"Negotiate, Bearer realm="https://a.example/t",service="s""#,
            r#"Negotiate YIIabc/+==, Bearer realm="https://a.example/t",service="s""#,
            r#"NTLM TlRMTVNTUAAC, Basic realm="x", Bearer realm="https://a.example/t",service="s""#,
            r#"Basic, Bearer realm="https://a.example/t",service="s""#,
            r#"Basic realm="a, Bearer realm=\"no\"", charset="UTF-8", Bearer realm="https://a.example/t",service="s""#,
            r#"Digest realm="x", qop="auth, auth-int", Bearer realm="https://a.example/t",service="s""#,
            r#"Bearer realm="https://a.example/t",service="s",error="insufficient_scope",error_description="\"no\"""#,
            r#"Bearer error=, realm="https://a.example/t",service="s""#,
            r#"Bearer realm="https://a.example/t" service="s""#,
        ] {
            assert_eq!(of(&[spelling]), expected, "{spelling}");
        }
        let mut headers = HeaderMap::new();
        let latin = b"Basic realm=\"Zutritt f\xfcr Gast\", Bearer realm=\"https://a.example/t\",service=\"s\"";
        headers.insert(
            WWW_AUTHENTICATE,
            HeaderValue::from_bytes(latin).expect("a header"),
        );
        assert_eq!(challenge(&headers), expected);
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
