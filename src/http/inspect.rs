//! Inspection of a host: reachability, URL scheme, clock, and the actions that its token server
//! grants.
//!
//! Each inspection sends one GET, without retries.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::auth::AuthScheme;
use super::client::{Client, OutgoingRequest, RedirectRule};
use super::error::Error;
use super::fault::FaultKind;
use super::host::{HostState, clock_offset};
use super::request::{Body, RequestAccess, RequestTarget, Response};
use crate::model::Host;

/// Maximum size of a response body, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// Actions that a host grants, according to its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenGrants {
    /// The host sent no challenge.
    NoChallenge,
    /// The host's tokens do not list actions, or it has no tokens.
    Unknown,
    /// Actions on the requested repository that a token of the host lists.
    Actions(Vec<String>),
}

impl TokenGrants {
    /// Returns true if an action is granted; `None` when that is unknown.
    pub fn allow(&self, action: &str) -> Option<bool> {
        match self {
            TokenGrants::NoChallenge | TokenGrants::Unknown => None,
            TokenGrants::Actions(actions) => Some(
                actions
                    .iter()
                    .any(|granted| granted == action || granted == "*"),
            ),
        }
    }
}

impl Client {
    /// Returns the base URL of requests to `host`.
    pub fn address(&self, host: &Host) -> Result<Url, Error> {
        Ok(self.host(host)?.origin.base.clone())
    }

    /// Returns the response to a GET of `path`, of any status. Sends no credential.
    pub async fn inspect(&self, host: &Host, path: &str) -> Result<Response, Error> {
        let state = self.host(host)?;
        let url = state.url(&RequestTarget::Path(path.to_owned()))?;
        let response = self.get(&state, url).await?;
        self.read_response(&Method::GET, response, MAX_BODY).await
    }

    /// Returns true if the host answers over HTTPS although plain HTTP is configured, or the other
    /// way round.
    pub async fn answers_on_other_scheme(&self, host: &Host, path: &str) -> Result<bool, Error> {
        let state = self.host(host)?;
        let mut url = state.url(&RequestTarget::Path(path.to_owned()))?;
        let other = if url.scheme() == "http" {
            "https"
        } else {
            "http"
        };
        if url.set_scheme(other).is_err() {
            return Ok(false);
        }
        Ok(match self.get(&state, url).await {
            // TLS servers answer 400 to plain HTTP.
            Ok(response) => response.status() != StatusCode::BAD_REQUEST,
            Err(Error::Connection { source, .. }) => {
                other == "https" && source.kind() == FaultKind::Certificate
            }
            Err(_) => false,
        })
    }

    pub(super) async fn get(&self, host: &HostState, url: Url) -> Result<reqwest::Response, Error> {
        let headers = HeaderMap::new();
        self.follow(
            host,
            OutgoingRequest {
                method: &Method::GET,
                url,
                headers: &headers,
                body: Body::Empty,
                authorization: None,
                redirects: RedirectRule::BodyToSameOrigin,
            },
        )
        .await
    }

    /// Returns the actions that a token for `access` grants on the repository of its first scope.
    /// Requires an earlier request to `host`: its response shows if the host uses tokens.
    pub async fn grants(&self, host: &Host, access: &RequestAccess) -> Result<TokenGrants, Error> {
        let state = self.host(host)?;
        match state.auth.scheme(access) {
            AuthScheme::Unknown | AuthScheme::None => return Ok(TokenGrants::NoChallenge),
            AuthScheme::Basic => return Ok(TokenGrants::Unknown),
            AuthScheme::Bearer(_) => {}
        }
        let authorization = self.authorization(&state, access).await?;
        let header = authorization
            .header()
            .and_then(|(_, value)| value.to_str().ok());
        let token = header
            .and_then(|value| value.strip_prefix("Bearer "))
            .unwrap_or_default();
        let repository = access
            .scopes
            .first()
            .map(String::as_str)
            .and_then(repository_of)
            .unwrap_or_default();
        Ok(actions(token, repository).map_or(TokenGrants::Unknown, TokenGrants::Actions))
    }

    /// Returns the current time of this machine.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Returns the seconds by which the host's clock is ahead of this machine's; `None` when the
    /// response has no valid `Date`.
    pub fn clock_offset(&self, response: &Response) -> Option<i64> {
        clock_offset(&response.headers, self.clock.now())
    }
}

/// Returns the path in a scope such as `repository:team/app:pull,push`.
fn repository_of(scope: &str) -> Option<&str> {
    scope
        .strip_prefix("repository:")?
        .rsplit_once(':')
        .map(|(path, _)| path)
}

/// Returns the actions that a token grants on a repository (token specification of CNCF
/// distribution, claim `access`); `None` when the token has another form. Only the registry can
/// verify the signature.
fn actions(token: &str, repository: &str) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Claims {
        access: Option<Vec<GrantClaim>>,
    }
    #[derive(Deserialize)]
    struct GrantClaim {
        #[serde(rename = "type", default)]
        kind: String,
        #[serde(default)]
        name: String,
        actions: Option<Vec<String>>,
    }
    let claims = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&claims).ok()?;
    if !object.contains_key("access") {
        return None;
    }
    let claims: Claims = serde_json::from_value(object.into()).ok()?;
    let grants = claims.access.unwrap_or_default();
    Some(
        grants
            .into_iter()
            .filter(|grant| grant.kind == "repository" && grant.name == repository)
            .flat_map(|grant| grant.actions.unwrap_or_default())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn grants_are_read_from_the_claims_of_a_token() {
        let claims = r#"{"access":[{"type":"repository","name":"a/b","actions":["pull","push"]},{"type":"repository","name":"c","actions":["*"]}]}"#;
        let of = |repository: &str| {
            TokenGrants::Actions(actions(&token(claims), repository).expect("actions"))
        };
        assert_eq!(
            (of("a/b").allow("push"), of("a/b").allow("delete")),
            (Some(true), Some(false))
        );
        assert_eq!(
            (of("c").allow("delete"), of("d").allow("pull")),
            (Some(true), Some(false))
        );
        assert_eq!(actions(&token(r#"{"access":null}"#), "a"), Some(Vec::new()));
        for other in [
            "opaque",
            "a.b.c",
            &token("{}"),
            &token("[]"),
            &token(r#"{"access":7}"#),
            "",
        ] {
            assert_eq!(actions(other, "a"), None, "{other}");
        }
        assert_eq!(
            repository_of("repository:host:5000/a:pull,push"),
            Some("host:5000/a")
        );
    }

    #[test]
    fn fuzzing_token_claims() {
        let seeds = [
            r#"{"access":[{"type":"repository","name":"a/b","actions":["pull","push"]}],"exp":1}"#,
        ];
        crate::model::fuzz_tests::fuzz("token claims", &seeds, |input| {
            drop((
                actions(&token(&crate::model::fuzz_tests::text(input)), "a/b"),
                actions(&crate::model::fuzz_tests::text(input), "a/b"),
            ));
        });
    }
}
