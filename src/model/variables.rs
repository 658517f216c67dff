//! The environment variables of a run and its permissions, passed as a value.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::env;
use super::job_trust::Permissions;
use super::text::Masker;
use super::variable_rules::{
    SecretName, is_ci_variable, is_system_variable, looks_like_a_token, names_a_secret, secret_name,
};

/// Minimum length of a secret that is recognised inside the value of another variable, in bytes.
const MIN_CONTAINED_SECRET: usize = 8;

/// Environment variables by name, and the permissions of the run that they belong to.
///
/// `Debug` prints only the names, because values can be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables {
    values: BTreeMap<String, String>,
    permissions: Permissions,
}

/// Reason why a variable is not expanded in a configuration or a Dockerfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpansionRefusal {
    /// The name is that of a secret.
    SecretName,
    /// The value is that of a secret.
    SecretValue,
    /// The job is untrusted, and the variable is not one that it may expand.
    NotListed,
}

impl Variables {
    /// Returns the value of `name`, or `None` if it is not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Returns the permissions of the run.
    pub fn permissions(&self) -> Permissions {
        self.permissions
    }

    /// Returns the same variables for a run with `permissions`.
    #[must_use]
    pub fn with_permissions(self, permissions: Permissions) -> Variables {
        Variables {
            permissions,
            ..self
        }
    }

    /// Returns the value of `name` for text of a configuration or a Dockerfile; `None` if it is not
    /// set.
    ///
    /// Secrets are refused. An untrusted job expands only the variables of the CI server that hold
    /// no secrets, and those that `IMGLIFE_VARIABLES` lists.
    pub fn expandable(&self, name: &str) -> Result<Option<&str>, ExpansionRefusal> {
        if names_a_secret(name) {
            return Err(ExpansionRefusal::SecretName);
        }
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        if self.permissions.is_untrusted() && !is_ci_variable(name) && !self.lists(name) {
            return Err(ExpansionRefusal::NotListed);
        }
        if self.holds_a_secret(value) {
            return Err(ExpansionRefusal::SecretValue);
        }
        Ok(Some(value))
    }

    /// Returns true if `value` has the form of a token or contains the value of a secret variable.
    pub fn holds_a_secret(&self, value: &str) -> bool {
        // Ordinary words can be part of any value.
        let is_random = |secret: &str| {
            secret.len() >= MIN_CONTAINED_SECRET && secret.bytes().any(|byte| byte.is_ascii_digit())
        };
        looks_like_a_token(value)
            || self.iter().any(|(name, secret)| {
                secret_name(name) == Some(SecretName::Certain)
                    && (value == secret && secret.len() >= 4
                        || is_random(secret) && value.contains(secret))
            })
    }

    /// Returns true if `IMGLIFE_VARIABLES` lists the name.
    pub fn lists(&self, name: &str) -> bool {
        self.get(env::IMGLIFE_VARIABLES).is_some_and(|list| {
            list.split(|character: char| character == ',' || character.is_whitespace())
                .any(|listed| listed == name)
        })
    }

    /// Returns the variables for commands of the configuration: in an untrusted job, those that it
    /// may expand and those that programs need to run.
    #[must_use]
    pub fn for_commands(&self) -> Variables {
        if !self.permissions.is_untrusted() {
            return self.clone();
        }
        let is_passed = |name: &str, value: &str| {
            if is_system_variable(name) {
                !looks_like_a_token(value)
            } else {
                matches!(self.expandable(name), Ok(Some(_)))
            }
        };
        Variables {
            values: self
                .values
                .iter()
                .filter(|(name, value)| is_passed(name, value))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            permissions: self.permissions,
        }
    }

    /// Returns the value of `name`, or `None` if it is not set or empty.
    pub fn get_filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Sets `name` to `value`.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.values.insert(name.into(), value.into());
    }

    /// Returns all names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns a masker for the secrets in these variables.
    ///
    /// Masks the values of variables that are named like secrets or webhooks or have the form of a
    /// token, passwords in URLs (such as the URL of a proxy), and the credentials in
    /// `DOCKER_AUTH_CONFIG`.
    pub fn masker(&self) -> Masker {
        // A variable such as `CACHE_KEY` can hold an ordinary word.
        let is_word = |value: &str| value.bytes().all(|byte| byte.is_ascii_alphabetic());
        let is_secret = |name: &str, value: &str| match secret_name(name) {
            Some(SecretName::Certain) => true,
            Some(SecretName::Ambiguous) => !is_word(value),
            None => !value.contains("://") && looks_like_a_token(value),
        };
        let named = self
            .iter()
            // Only parts of this variable are secrets.
            .filter(|(name, _)| *name != env::DOCKER_AUTH_CONFIG)
            .filter(|(name, value)| is_secret(name, value))
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
        Variables {
            values: pairs
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            permissions: Permissions::default(),
        }
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.values.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::job_trust::{JobTrust, UntrustedReason};
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

    fn untrusted(pairs: &[(&str, &str)]) -> Variables {
        pairs
            .iter()
            .copied()
            .collect::<Variables>()
            .with_permissions(Permissions {
                trust: JobTrust::Untrusted(UntrustedReason::MergeRequest),
                ..Permissions::default()
            })
    }

    #[test]
    fn secrets_are_never_expanded() {
        let variables: Variables = [
            ("DB_PASS", "hunter2"),
            ("ALIAS", "hunter2"),
            ("GITLAB_PAT", "longhunter2"),
            ("URL", "https://r.example/longhunter2"),
            ("HARMLESS", "glpat-hunter2"),
            ("HOST", "r.example"),
        ]
        .into_iter()
        .collect();
        for (name, refusal) in [
            ("DB_PASS", ExpansionRefusal::SecretName),
            ("GITLAB_PAT", ExpansionRefusal::SecretName),
            ("MY_PAT", ExpansionRefusal::SecretName),
            ("ALIAS", ExpansionRefusal::SecretValue),
            ("URL", ExpansionRefusal::SecretValue),
            ("HARMLESS", ExpansionRefusal::SecretValue),
        ] {
            assert_eq!(variables.expandable(name), Err(refusal), "{name}");
        }
        assert_eq!(variables.expandable("HOST"), Ok(Some("r.example")));
        assert_eq!(variables.expandable("NONE"), Ok(None));
    }

    #[test]
    fn an_untrusted_job_expands_listed_variables_only() {
        let variables = untrusted(&[
            ("CI_REGISTRY", "r.example"),
            ("TEAM", "platform"),
            ("MIRROR", "m.example"),
            ("IMGLIFE_VARIABLES", "MIRROR, TEAM_NAME"),
        ]);
        assert_eq!(variables.expandable("CI_REGISTRY"), Ok(Some("r.example")));
        assert_eq!(variables.expandable("MIRROR"), Ok(Some("m.example")));
        assert_eq!(variables.expandable("NONE"), Ok(None));
        assert_eq!(
            variables.expandable("TEAM"),
            Err(ExpansionRefusal::NotListed)
        );
    }

    #[test]
    fn commands_of_an_untrusted_job_get_no_secrets() {
        let variables = untrusted(&[
            ("PATH", "/bin"),
            ("HTTPS_PROXY", "http://user:hunter2@proxy.example"),
            ("GITLAB_TOKEN", "hunter2"),
            ("CI_REGISTRY", "r.example"),
            ("TEAM", "platform"),
        ])
        .for_commands();
        let names: Vec<&str> = variables.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["CI_REGISTRY", "PATH"]);
    }

    #[test]
    fn masker_hides_tokens_in_variables_with_any_name() {
        let variables: Variables = [
            ("HARMLESS", "glpat-hunter2"),
            ("CACHE_KEY", "main"),
            ("NPM_AUTH", "hunter2"),
        ]
        .into_iter()
        .collect();
        assert_eq!(
            variables.masker().mask("main: glpat-hunter2 hunter2"),
            "main: *** ***"
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
