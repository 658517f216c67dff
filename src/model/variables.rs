//! The environment variables of a run, passed as a value.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::env;
use super::text::{Masker, names_a_secret};

/// Environment variables by name.
///
/// `Debug` prints only the names, because values can be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Returns the value of `name`, or `None` if it is not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns the value of `name`, or `None` if it is not set or empty.
    pub fn get_filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Sets `name` to `value`.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// Returns all names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns a masker for the secrets in these variables.
    ///
    /// Masks the values of variables that are named like secrets or webhooks, passwords in URLs
    /// (such as the URL of a proxy), and the credentials in `DOCKER_AUTH_CONFIG`.
    pub fn masker(&self) -> Masker {
        // The URL of a webhook is a secret: it is all that is needed to post to the webhook.
        let is_secret =
            |name: &str| names_a_secret(name) || name.to_ascii_uppercase().contains("WEBHOOK");
        let named = self
            .iter()
            .filter(|(name, _)| is_secret(name))
            .map(|(_, value)| value.to_owned());
        let in_urls = self.iter().filter_map(|(_, value)| password_in(value));
        Masker::new(
            named.chain(in_urls).chain(
                self.get(env::DOCKER_AUTH_CONFIG)
                    .map(docker_secrets)
                    .unwrap_or_default(),
            ),
        )
    }
}

/// Returns the password in a URL as it is written there, without decoding it.
fn password_in(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("://")?;
    let (user_info, _) = rest.split(['/', '?', '#']).next()?.rsplit_once('@')?;
    user_info
        .split_once(':')
        .map(|(_, password)| password.to_owned())
}

/// Returns the secrets in a docker `config.json`, or its whole text if it is not JSON.
fn docker_secrets(text: &str) -> Vec<String> {
    let Ok(file) = serde_json::from_str::<serde_json::Value>(text) else {
        return vec![text.to_owned()];
    };
    let entries = file["auths"]
        .as_object()
        .into_iter()
        .flat_map(|auths| auths.values());
    let secret = |entry: &serde_json::Value, key: &str| entry[key].as_str().map(str::to_owned);
    let mut secrets = Vec::new();
    for entry in entries {
        secrets.extend(
            ["auth", "password", "identitytoken", "registrytoken"]
                .iter()
                .filter_map(|key| secret(entry, key)),
        );
        let pair = secret(entry, "auth")
            .and_then(|auth| STANDARD.decode(auth.trim()).ok())
            .and_then(|pair| String::from_utf8(pair).ok());
        secrets.extend(pair.and_then(|pair| {
            pair.split_once(':')
                .map(|(_, password)| password.to_owned())
        }));
    }
    secrets
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Variables {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Variables {
        Variables(
            pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_only_names() {
        let variables: Variables = [("GITLAB_TOKEN", "hunter2")].into_iter().collect();
        assert_eq!(format!("{variables:?}"), r#"{"GITLAB_TOKEN"}"#);
    }

    #[test]
    fn masker_hides_only_variables_named_like_secrets() {
        let variables: Variables = [("GITLAB_TOKEN", "hunter2"), ("USER", "alice")]
            .into_iter()
            .collect();
        assert_eq!(
            variables.masker().mask("alice has hunter2"),
            "alice has ***"
        );
    }

    #[test]
    fn masker_hides_passwords_in_urls() {
        let variables: Variables = [
            ("HTTPS_PROXY", "http://user:hunter2@proxy.example:3128/x"),
            ("CHAT_WEBHOOK", "https://chat.example/T00/B00"),
        ]
        .into_iter()
        .collect();
        assert_eq!(
            variables
                .masker()
                .mask("user:hunter2@ and https://chat.example/T00/B00"),
            "user:***@ and ***"
        );
        assert_eq!(
            [("A", "https://proxy.example/x@y:zzzz")]
                .into_iter()
                .collect::<Variables>()
                .masker()
                .mask("zzzz"),
            "zzzz"
        );
    }

    #[test]
    fn masker_hides_docker_credentials() {
        let masked = |config: &str, text: &str| {
            [("DOCKER_AUTH_CONFIG", config)]
                .into_iter()
                .collect::<Variables>()
                .masker()
                .mask(text)
        };
        let config = r#"{"auths":{"r.example":{"auth":"YWxpY2U6aHVudGVyMg=="},"s.example":{"username":"bob","identitytoken":"s3cret"}}}"#;
        assert_eq!(
            masked(config, config),
            r#"{"auths":{"r.example":{"auth":"***"},"s.example":{"username":"bob","identitytoken":"***"}}}"#
        );
        assert_eq!(
            masked(config, "alice has hunter2, bob has s3cret"),
            "alice has ***, bob has ***"
        );
        assert_eq!(masked("{hunter2", "it is {hunter2"), "it is ***");
        assert_eq!(masked(r#"{"auths":[]}"#, "nothing"), "nothing");
    }
}
