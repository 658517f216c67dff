//! Remote repositories, their credentials, and the identity of commits.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::stderr::OutputRedaction;
use crate::model::Secret;

/// Remote repository to fetch from and push to.
#[derive(Clone)]
pub struct PushRemote {
    address: String,
    credential: Option<GitCredential>,
    ca_file: Option<String>,
}

/// HTTP credential for one address. Sent with the first request.
#[derive(Clone)]
pub struct GitCredential {
    pub user: String,
    pub password: Secret,
}

impl GitCredential {
    fn basic(&self) -> String {
        STANDARD.encode(format!("{}:{}", self.user, self.password.expose()))
    }
}

impl PushRemote {
    /// Returns the repository at `address`.
    ///
    /// A credential in the address is removed from it, so that it never reaches a command line. It
    /// is used if `credential` is `None`. Without any credential, git's configuration decides.
    pub fn new(address: &str, credential: Option<GitCredential>) -> PushRemote {
        let mut remote = PushRemote {
            address: address.to_owned(),
            credential,
            ca_file: None,
        };
        if let Ok(mut url) = Url::parse(address)
            && matches!(url.scheme(), "http" | "https")
            && let Some(password) = url.password()
        {
            let stored = GitCredential {
                user: percent_decoded(url.username()),
                password: Secret::new(percent_decoded(password)),
            };
            // Always succeeds for http and https URLs.
            if url.set_username("").is_ok() && url.set_password(None).is_ok() {
                remote.address = url.into();
                remote.credential = remote.credential.or(Some(stored));
            }
        }
        remote
    }

    /// Verifies the server's certificate against a PEM file instead of the system's store.
    #[must_use]
    pub fn trusting(mut self, ca_file: Option<String>) -> PushRemote {
        self.ca_file = ca_file;
        self
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn has_credential(&self) -> bool {
        self.credential.is_some()
    }

    /// Returns the git settings for calls to this remote.
    ///
    /// The credential is sent to this address only. It replaces stored headers for the host, and
    /// redirects are not followed.
    pub(super) fn settings(&self) -> Vec<(String, String)> {
        let at = |name: &str| format!("http.{}.{name}", self.address);
        let mut settings = Vec::new();
        if let Some(credential) = &self.credential {
            settings.extend([
                // An empty value clears earlier ones.
                (at("extraHeader"), String::new()),
                (
                    at("extraHeader"),
                    format!("Authorization: Basic {}", credential.basic()),
                ),
                (at("followRedirects"), "false".to_owned()),
                ("credential.helper".to_owned(), String::new()),
            ]);
        }
        settings.extend(
            self.ca_file
                .iter()
                .map(|file| (at("sslCAInfo"), file.clone())),
        );
        settings
    }

    pub(super) fn redaction(&self) -> OutputRedaction {
        OutputRedaction::new(
            self.credential.iter().flat_map(|credential| {
                [credential.basic(), credential.password.expose().to_owned()]
            }),
        )
    }
}

/// Decodes percent-encoding; malformed escapes stay as they are.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        let byte = escaped
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl fmt::Display for PushRemote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.redaction().apply(&self.address))
    }
}

/// Author or committer of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitIdentity {
    name: String,
    email: String,
}

impl CommitIdentity {
    /// Returns an identity; `None` if name or address is empty, longer than 200 characters, or
    /// contains characters that a commit header cannot hold.
    pub fn new(name: &str, email: &str) -> Option<CommitIdentity> {
        let is_valid = |text: &str| {
            !text.is_empty()
                && text.chars().count() <= 200
                && text.chars().any(char::is_alphanumeric)
                && !text.chars().any(|character| {
                    character.is_control()
                        || matches!(character, '<' | '>' | '\u{2028}' | '\u{2029}')
                })
        };
        let (name, email) = (name.trim(), email.trim());
        let are_valid = is_valid(name) && is_valid(email) && !email.contains(char::is_whitespace);
        are_valid.then(|| CommitIdentity {
            name: name.to_owned(),
            email: email.to_owned(),
        })
    }

    /// Parses `Name <address>`.
    pub fn parse(text: &str) -> Option<CommitIdentity> {
        let text = text.trim();
        if text.chars().any(char::is_control) {
            return None;
        }
        let (name, rest) = text.split_once('<')?;
        CommitIdentity::new(name, rest.strip_suffix('>')?)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn email(&self) -> &str {
        &self.email
    }
}

impl fmt::Display for CommitIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} <{}>", self.name, self.email)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_rejects_malformed_text() {
        let parsed = CommitIdentity::parse(" CI Bot <ci@g.example> ").expect("an identity");
        assert_eq!(
            (parsed.name(), parsed.email(), parsed.to_string().as_str()),
            ("CI Bot", "ci@g.example", "CI Bot <ci@g.example>")
        );
        for text in [
            "",
            "A",
            "A <>",
            "<a@b>",
            "A <a@b> x",
            "A\nSigned-off-by: B <a@b>",
            "A <a@b\n>",
            "A <<a@b>",
            "A <a@b>>",
            "A <a b@c>",
            ". <a@b>",
        ] {
            assert_eq!(CommitIdentity::parse(text), None, "{text:?}");
        }
        assert_eq!(CommitIdentity::new(&"x".repeat(201), "a@b"), None);
    }

    #[test]
    fn credential_is_bound_to_its_address_and_redacted() {
        let credential = GitCredential {
            user: "oauth2".to_owned(),
            password: Secret::new("hunter2"),
        };
        let remote = PushRemote::new("https://a:b@g.example/t/b.git", Some(credential));
        assert_eq!(
            (remote.address(), remote.to_string().as_str()),
            ("https://g.example/t/b.git", "https://g.example/t/b.git")
        );
        let settings = remote.settings();
        let headers: Vec<&str> = settings
            .iter()
            .filter(|(key, _)| key.ends_with(".extraHeader"))
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(headers, ["", "Authorization: Basic b2F1dGgyOmh1bnRlcjI="]);
        assert!(
            settings
                .iter()
                .all(|(key, _)| key == "credential.helper" || key.starts_with("http.https://"))
        );
        assert!(
            PushRemote::new("git@g.example:t/b", None)
                .settings()
                .is_empty()
        );
        let stored = PushRemote::new(
            "https://gitlab-ci-token:a%2Bb%26c=d@g.example/t/b.git",
            None,
        );
        assert!(
            stored.address() == "https://g.example/t/b.git"
                && stored.settings()[1]
                    .1
                    .ends_with(&STANDARD.encode("gitlab-ci-token:a+b&c=d"))
        );
    }
}
