//! Bearer tokens: what a token server answers, and how long that holds.

use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;
use serde::Deserialize;

/// How long a token holds that does not say (token authentication specification of CNCF
/// distribution), and one that says less: those who say 0 would be asked for a token for each
/// request. One that ends sooner is replaced once it is refused.
const USUAL_LIFE: u64 = 60;

/// How long before its end a token is no longer used, at most; shorter for short-lived ones.
const LONGEST_MARGIN: Duration = Duration::from_secs(30);

/// A token as it is sent.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) header: HeaderValue,
    pub(super) obtained: Instant,
    usable_for: Duration,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Token {
    /// Returns the token in a token server's answer. The error quotes nothing of it.
    pub(super) fn parse(body: &[u8], obtained: Instant) -> Result<Token, &'static str> {
        let answer: Answer = serde_json::from_slice(body)
            .map_err(|_| "the token server's answer is not of the known form")?;
        let token = answer
            .token
            .or(answer.access_token)
            .filter(|token| !token.is_empty())
            .ok_or("the token server's answer has no token")?;
        let header = bearer(&token).ok_or("the token server's token cannot be sent")?;
        let life = Duration::from_secs(answer.expires_in.unwrap_or_default().max(USUAL_LIFE));
        Ok(Token {
            header,
            obtained,
            usable_for: life.saturating_sub(LONGEST_MARGIN.min(life / 4)),
        })
    }

    /// Returns whether the token can still be sent.
    pub(super) fn is_usable(&self) -> bool {
        self.obtained.elapsed() < self.usable_for
    }
}

/// Returns the value of an `Authorization` header with a token, or `None` when the token has
/// characters that headers cannot have.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(format!("Bearer {token}"))
}

/// Returns `text` as a header that is shown nowhere.
pub(super) fn sensitive(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(body: &str) -> Result<Duration, &'static str> {
        Token::parse(body.as_bytes(), Instant::now()).map(|token| token.usable_for)
    }

    #[test]
    fn a_token_is_used_until_shortly_before_its_end() {
        assert_eq!(
            life(r#"{"token":"t","expires_in":300}"#),
            Ok(Duration::from_secs(270))
        );
        assert_eq!(life(r#"{"access_token":"t"}"#), Ok(Duration::from_secs(45)));
        for too_short in [0, 1, 59] {
            assert_eq!(
                life(&format!(r#"{{"token":"t","expires_in":{too_short}}}"#)),
                Ok(Duration::from_secs(45))
            );
        }
    }

    #[test]
    fn an_answer_without_a_token_is_an_error_that_quotes_nothing() {
        for body in [
            "",
            "[]",
            "{}",
            r#"{"token":""}"#,
            r#"{"token":"hunter2\n"}"#,
            r#"{"token":["hunter2"]}"#,
        ] {
            assert!(!life(body).expect_err(body).contains("hunter2"));
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
