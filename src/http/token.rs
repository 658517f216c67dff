//! Bearer tokens: the token server's response, and the lifetime of a token.

use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;
use serde::Deserialize;

/// Lifetime in seconds of a token whose response has no `expires_in` (token authentication
/// specification of CNCF distribution), and minimum lifetime that is used. With a server that
/// reports 0, each request would otherwise need a new token. A token that expires earlier
/// is replaced once it is rejected.
const MIN_LIFETIME: u64 = 60;

/// Maximum time before its expiry at which a token is replaced; less for a short-lived token.
const MAX_MARGIN: Duration = Duration::from_secs(30);

/// Token with the header that sends it.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) header: HeaderValue,
    pub(super) obtained: Instant,
    usable_for: Duration,
}

#[derive(Deserialize)]
struct TokenResponse {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Token {
    /// Returns the token in a token server's response. The error quotes no part of it.
    pub(super) fn parse(body: &[u8], obtained: Instant) -> Result<Token, &'static str> {
        let response: TokenResponse =
            serde_json::from_slice(body).map_err(|_| "the token server's response is invalid")?;
        let token = response
            .token
            .or(response.access_token)
            .filter(|token| !token.is_empty())
            .ok_or("the token server's response has no token")?;
        let header =
            bearer(&token).ok_or("the token server's token has characters that cannot be sent")?;
        let lifetime =
            Duration::from_secs(response.expires_in.unwrap_or_default().max(MIN_LIFETIME));
        Ok(Token {
            header,
            obtained,
            usable_for: lifetime.saturating_sub(MAX_MARGIN.min(lifetime / 4)),
        })
    }

    /// Returns true if the token does not expire soon.
    pub(super) fn is_usable(&self) -> bool {
        self.obtained.elapsed() < self.usable_for
    }
}

/// Returns the `Authorization` header for a token. `None` when the token has characters that a
/// header cannot have.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(format!("Bearer {token}"))
}

/// Returns `text` as a header value whose debug output is redacted. `None` when the text has
/// characters that a header cannot have.
pub(super) fn sensitive(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable_for(body: &str) -> Result<Duration, &'static str> {
        Token::parse(body.as_bytes(), Instant::now()).map(|token| token.usable_for)
    }

    #[test]
    fn token_is_usable_until_shortly_before_its_expiry() {
        assert_eq!(
            usable_for(r#"{"token":"t","expires_in":300}"#),
            Ok(Duration::from_secs(270))
        );
        assert_eq!(
            usable_for(r#"{"access_token":"t"}"#),
            Ok(Duration::from_secs(45))
        );
        for too_short in [0, 1, 59] {
            assert_eq!(
                usable_for(&format!(r#"{{"token":"t","expires_in":{too_short}}}"#)),
                Ok(Duration::from_secs(45))
            );
        }
    }

    #[test]
    fn response_without_a_token_is_an_error_that_quotes_nothing() {
        for body in [
            "",
            "[]",
            "{}",
            r#"{"token":""}"#,
            r#"{"token":"hunter2\n"}"#,
            r#"{"token":["hunter2"]}"#,
        ] {
            assert!(!usable_for(body).expect_err(body).contains("hunter2"));
        }
    }

    #[test]
    fn headers_with_tokens_are_sensitive() {
        assert!(!format!("{:?}", bearer("hunter2")).contains("hunter2"));
    }

    #[test]
    fn fuzzing_tokens() {
        let seeds = [
            r#"{"token":"abc","access_token":"def","expires_in":300,"issued_at":"2026-01-01T00:00:00Z"}"#,
        ];
        crate::model::fuzz_tests::fuzz("tokens", &seeds, |input| {
            if let Ok(token) = Token::parse(input, Instant::now()) {
                assert!(token.header.is_sensitive());
                token.is_usable();
            }
        });
    }
}
