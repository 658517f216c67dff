//! Where is pushed to, with what login, and as whom commits are made.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::words::Redaction;
use crate::model::Secret;

/// A repository that is fetched from and pushed to.
#[derive(Clone)]
pub struct Remote {
    address: String,
    login: Option<Login>,
    ca_file: Option<String>,
}

/// What is presented over HTTP at once, at this address only.
#[derive(Clone)]
pub struct Login {
    pub user: String,
    pub password: Secret,
}

impl Login {
    fn basic(&self) -> String {
        STANDARD.encode(format!("{}:{}", self.user, self.password.expose()))
    }
}

impl Remote {
    /// Returns the repository at `address`. A login that stands in there is taken out, so that it
    /// is in no command line, and counts where there is no other. Without any it is up to git's own
    /// configuration.
    pub fn new(address: &str, login: Option<Login>) -> Remote {
        let mut remote = Remote {
            address: address.to_owned(),
            login,
            ca_file: None,
        };
        if let Ok(mut url) = Url::parse(address)
            && matches!(url.scheme(), "http" | "https")
            && let Some(password) = url.password()
        {
            let stored = Login {
                user: percent_decoded(url.username()),
                password: Secret::new(percent_decoded(password)),
            };
            // Web addresses have room for a login.
            if url.set_username("").is_ok() && url.set_password(None).is_ok() {
                remote.address = url.into();
                remote.login = remote.login.or(Some(stored));
            }
        }
        remote
    }

    /// Returns the same, its certificate checked by those of a PEM file instead of the system's.
    #[must_use]
    pub fn trusting(mut self, ca_file: Option<String>) -> Remote {
        self.ca_file = ca_file;
        self
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn has_login(&self) -> bool {
        self.login.is_some()
    }

    /// Returns git's settings for conversations with it. The login goes to this very address: it
    /// stands above headers that are stored for the host, takes their place, and follows no
    /// redirect.
    pub(super) fn settings(&self) -> Vec<(String, String)> {
        let at = |name: &str| format!("http.{}.{name}", self.address);
        let mut settings = Vec::new();
        if let Some(login) = &self.login {
            settings.extend([
                // An empty one takes away those before it.
                (at("extraHeader"), String::new()),
                (
                    at("extraHeader"),
                    format!("Authorization: Basic {}", login.basic()),
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

    pub(super) fn redaction(&self) -> Redaction {
        Redaction::new(
            self.login
                .iter()
                .flat_map(|login| [login.basic(), login.password.expose().to_owned()]),
        )
    }
}

/// Returns `text` with what is escaped in addresses as it was.
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

impl fmt::Display for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.redaction().apply(&self.address))
    }
}

/// A name and an address that commits are made under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: String,
    email: String,
}

impl Identity {
    /// Returns the identity of `name` and `email`; `None` when one of them is empty, too long, or
    /// has characters that commits cannot hold.
    pub fn new(name: &str, email: &str) -> Option<Identity> {
        let fits = |text: &str| {
            !text.is_empty()
                && text.chars().count() <= 200
                && text.chars().any(char::is_alphanumeric)
                && !text.chars().any(|character| {
                    character.is_control()
                        || matches!(character, '<' | '>' | '\u{2028}' | '\u{2029}')
                })
        };
        let (name, email) = (name.trim(), email.trim());
        let is_fit = fits(name) && fits(email) && !email.contains(char::is_whitespace);
        is_fit.then(|| Identity {
            name: name.to_owned(),
            email: email.to_owned(),
        })
    }

    /// Returns what `Name <address>` names.
    pub fn parse(text: &str) -> Option<Identity> {
        let text = text.trim();
        if text.chars().any(char::is_control) {
            return None;
        }
        let (name, rest) = text.split_once('<')?;
        Identity::new(name, rest.strip_suffix('>')?)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn email(&self) -> &str {
        &self.email
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} <{}>", self.name, self.email)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_read_strictly() {
        let parsed = Identity::parse(" CI Bot <ci@g.example> ").expect("an identity");
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
            assert_eq!(Identity::parse(text), None, "{text:?}");
        }
        assert_eq!(Identity::new(&"x".repeat(201), "a@b"), None);
    }

    #[test]
    fn a_login_is_for_its_address_only_and_is_not_shown() {
        let login = Login {
            user: "oauth2".to_owned(),
            password: Secret::new("hunter2"),
        };
        let remote = Remote::new("https://a:b@g.example/t/b.git", Some(login));
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
        assert!(Remote::new("git@g.example:t/b", None).settings().is_empty());
        let stored = Remote::new(
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
