//! Looking at a host: whether it answers, in which scheme, what time it has, and what its token
//! server would let one do.
//!
//! Everything is asked for once, by GET.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use reqwest::header::{DATE, HeaderMap};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::auth::Login;
use super::client::{Client, Sending};
use super::error::Error;
use super::fault::FaultKind;
use super::host::HostState;
use super::request::{Access, Answer, Body, Target};
use crate::model::Host;

/// The largest answer that is read, in bytes.
const LARGEST: usize = 1024 * 1024;

/// What a host lets one do, as far as its tokens tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grants {
    /// It has not asked for a login.
    NotAsked,
    /// It takes passwords and tells nothing beforehand.
    Untold,
    /// A token that it gave says so: the actions on the repository that was asked about.
    Actions(Vec<String>),
}

impl Grants {
    /// Returns whether an action is allowed; `None` where nothing tells.
    pub fn allow(&self, action: &str) -> Option<bool> {
        match self {
            Grants::NotAsked | Grants::Untold => None,
            Grants::Actions(actions) => Some(
                actions
                    .iter()
                    .any(|granted| granted == action || granted == "*"),
            ),
        }
    }
}

impl Client {
    /// Returns the address that requests to `host` go to.
    pub fn address(&self, host: &Host) -> Result<Url, Error> {
        Ok(self.host(host)?.base.clone())
    }

    /// Returns the answer to a GET of `path`, whatever its status. Nobody logs in for it.
    pub async fn look(&self, host: &Host, path: &str) -> Result<Answer, Error> {
        let state = self.host(host)?;
        let url = state.url(&Target::Path(path.to_owned()))?;
        let response = self.sent_bare(&state, url).await?;
        self.collect(&Method::GET, response, LARGEST).await
    }

    /// Returns whether the host speaks HTTPS where it is set up for plain HTTP, or the other way
    /// round.
    pub async fn speaks_the_other_scheme(&self, host: &Host, path: &str) -> Result<bool, Error> {
        let state = self.host(host)?;
        let mut url = state.url(&Target::Path(path.to_owned()))?;
        let other = if url.scheme() == "http" {
            "https"
        } else {
            "http"
        };
        if url.set_scheme(other).is_err() {
            return Ok(false);
        }
        Ok(match self.sent_bare(&state, url).await {
            // What servers with TLS answer to plain HTTP.
            Ok(response) => response.status() != StatusCode::BAD_REQUEST,
            Err(Error::Connection { source, .. }) => {
                other == "https" && source.kind() == FaultKind::Certificate
            }
            Err(_) => false,
        })
    }

    async fn sent_bare(&self, host: &HostState, url: Url) -> Result<reqwest::Response, Error> {
        let headers = HeaderMap::new();
        self.follow(
            host,
            Sending {
                method: &Method::GET,
                url,
                headers: &headers,
                body: Body::Empty,
                authorization: None,
            },
        )
        .await
    }

    /// Returns what a token for `access` allows on the repository of its first scope. `host` must
    /// have been sent a request before: it tells by that whether it wants tokens at all.
    pub async fn grants(&self, host: &Host, access: &Access) -> Result<Grants, Error> {
        let state = self.host(host)?;
        match state.auth.login() {
            Login::None => return Ok(Grants::NotAsked),
            Login::Basic => return Ok(Grants::Untold),
            Login::Bearer(_) => {}
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
        Ok(actions(token, repository).map_or(Grants::Untold, Grants::Actions))
    }

    /// Returns the time of this machine.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Returns by how many seconds the clock of who answered is ahead of this machine's, where the
    /// answer tells.
    pub fn ahead(&self, answer: &Answer) -> Option<i64> {
        let date = DateTime::parse_from_rfc2822(answer.header(DATE.as_str())?).ok()?;
        Some((date.to_utc() - self.clock.now()).num_seconds())
    }
}

/// Returns the path in a scope such as `repository:team/app:pull,push`.
fn repository_of(scope: &str) -> Option<&str> {
    scope
        .strip_prefix("repository:")?
        .rsplit_once(':')
        .map(|(path, _)| path)
}

/// Returns the actions that a token allows on a repository (token specification of CNCF
/// distribution, claim `access`); `None` where the token is of another kind. Its signature is the
/// registry's matter.
fn actions(token: &str, repository: &str) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Claims {
        access: Option<Vec<Entry>>,
    }
    #[derive(Deserialize)]
    struct Entry {
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
    let entries = claims.access.unwrap_or_default();
    let of_repository = entries
        .into_iter()
        .filter(|entry| entry.kind == "repository" && entry.name == repository);
    Some(
        of_repository
            .flat_map(|entry| entry.actions.unwrap_or_default())
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
    fn what_a_token_allows_is_read_from_it() {
        let claims = r#"{"access":[{"type":"repository","name":"a/b","actions":["pull","push"]},{"type":"repository","name":"c","actions":["*"]}]}"#;
        let of = |repository: &str| {
            Grants::Actions(actions(&token(claims), repository).expect("actions"))
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
    fn fuzzing_what_tokens_allow() {
        let seeds = [
            r#"{"access":[{"type":"repository","name":"a/b","actions":["pull","push"]}],"exp":1}"#,
        ];
        crate::model::fuzz_tests::fuzz("what tokens allow", &seeds, |input| {
            drop((
                actions(&token(&crate::model::fuzz_tests::text(input)), "a/b"),
                actions(&crate::model::fuzz_tests::text(input), "a/b"),
            ));
        });
    }
}
