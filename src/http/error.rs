//! How requests fail, told without secrets.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::fault::{Fault, unreachable};
use super::retry::{Verdict, classify};
use crate::credentials::{CredentialError, variable_prefix};
use crate::error::chain;
use crate::model::Host;
use crate::model::text::{Masker, excerpt, printable};

/// Why a request did not succeed. No variant shows a credential, a header or the value of a query
/// that could be a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host answered, with a status other than success.
    #[error("{0}")]
    Refused(Box<Refusal>),
    #[error("{method} {url}: the connection failed{}", after(*tries))]
    Connection {
        method: Method,
        url: SafeUrl,
        tries: u32,
        source: Fault,
    },
    #[error("{method} {url}: nothing happened for {} seconds{}", limit.as_secs(), after(*tries))]
    Stalled {
        method: Method,
        url: SafeUrl,
        limit: Duration,
        tries: u32,
    },
    /// `origin` tells where the login is from that was refused; `None` when there was none.
    #[error("{host} refused access: {detail}")]
    Unauthorized {
        host: Host,
        detail: String,
        origin: Option<String>,
    },
    /// A token was refused when content was being sent with it; another may be taken.
    #[error("{host} refused a token that it had taken before")]
    StaleToken { host: Host },
    /// The token server failed, after its own tries: what it answered says nothing of the request
    /// that needed the token. All who waited for the token have the same failure.
    #[error(transparent)]
    TokenServer(Arc<Error>),
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error("{host} leads to {url}, which is not followed: {reason}")]
    Misled {
        host: Host,
        url: SafeUrl,
        reason: &'static str,
    },
    #[error("{url}: the answer has more than {limit} bytes")]
    TooLarge { url: SafeUrl, limit: usize },
    #[error("{url}: {problem}")]
    Malformed { url: SafeUrl, problem: String },
    #[error("the address of {host} is no http or https address")]
    Address { host: Host },
    #[error("cannot set up TLS for {host}")]
    Setup { host: Host, source: reqwest::Error },
    #[error("cannot read {}, which is set for {host}", .file.display())]
    Certificate {
        host: Host,
        file: PathBuf,
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl Error {
    /// Returns the status that the host answered with.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Error::Refused(refusal) => Some(refusal.status),
            _ => None,
        }
    }

    /// Returns whether the failure can pass by itself, so that another try is worth it.
    pub fn can_pass(&self) -> bool {
        classify(self) == Verdict::Retry
    }

    /// Returns whether no answer came at all.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Error::Connection { .. } | Error::Stalled { .. })
    }

    /// Returns whether the host named `code` as a reason (error codes of the distribution
    /// specification).
    pub fn has_code(&self, code: &str) -> bool {
        matches!(self, Error::Refused(refusal) if refusal.problems.iter().any(|problem| problem.code == code))
    }

    /// Returns the reasons that the host gave, safe to show; empty when it gave none.
    pub(super) fn reasons(&self) -> String {
        match self {
            Error::Refused(refusal) => refusal.reasons(),
            _ => String::new(),
        }
    }

    /// Returns what the user can do, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Unauthorized { host, origin: Some(origin), .. } => {
                Some(format!("check the login for {host}, which is from {origin}: is it right, has it run out, may it do this?"))
            }
            Error::Unauthorized { host, origin: None, .. } => {
                let prefix = variable_prefix(host);
                Some(format!(
                    "set {prefix}_USERNAME and {prefix}_PASSWORD (or {prefix}_TOKEN) to a login that may do this, or use `docker login {host}`"
                ))
            }
            Error::Credential(error) => error.hint.clone(),
            Error::TokenServer(error) => error.hint(),
            Error::Connection { url, source, .. } => Some(source.hint(&url.authority())),
            Error::Stalled { url, .. } => Some(unreachable(&url.authority())),
            Error::Certificate { host, .. } => Some(format!("`hosts.\"{host}\"` names it; it holds certificates, or a key, as PEM")),
            Error::Refused(refusal) if refusal.excerpt.contains(TO_TLS_PORT) => Some(format!(
                "{0} speaks TLS: take it out of `registry.insecure_registries`, or write `https:` in its address",
                refusal.url.authority()
            )),
            Error::Misled { reason: PLAIN_HTTP, url, .. } => {
                Some(format!("name {} in `registry.insecure_registries` if it may be spoken to over plain HTTP", url.authority()))
            }
            Error::Setup { .. } => Some("install the package ca-certificates, or set SSL_CERT_FILE to a file of certificates".to_owned()),
            _ => None,
        }
    }

    /// Returns what failed without what it failed for, when it would have failed so for anything at
    /// the host.
    pub fn of_host(&self) -> Option<String> {
        match self {
            Error::Connection { url, source, .. } => Some(format!(
                "{}: the connection failed: {source}",
                url.authority()
            )),
            Error::Stalled { url, limit, .. } => Some(format!(
                "{}: nothing happened for {} seconds",
                url.authority(),
                limit.as_secs()
            )),
            Error::TokenServer(error) => error.of_host(),
            Error::Unauthorized { .. }
            | Error::Credential(_)
            | Error::Setup { .. }
            | Error::Certificate { .. } => Some(chain(self)),
            _ => None,
        }
    }

    pub(super) fn set_tries(&mut self, count: u32) {
        match self {
            Error::Refused(refusal) => refusal.tries = count,
            Error::Connection { tries, .. } | Error::Stalled { tries, .. } => *tries = count,
            _ => {}
        }
    }
}

pub(super) const PLAIN_HTTP: &str = "it is plain HTTP";

/// What servers written in Go say to plain HTTP on a port for TLS.
const TO_TLS_PORT: &str = "HTTP request to an HTTPS server";

/// An answer other than success.
#[derive(Debug)]
pub struct Refusal {
    pub method: Method,
    pub url: SafeUrl,
    pub status: StatusCode,
    /// What the host gives as reasons; empty when it gives none in the form of the distribution
    /// specification.
    pub problems: Vec<Problem>,
    /// The beginning of an answer of another form, safe to show.
    pub excerpt: String,
    /// How long the host asks to wait.
    pub retry_after: Option<Duration>,
    /// Whether that is longer than the run may take, so that it was not waited for.
    pub beyond_deadline: bool,
    pub tries: u32,
}

/// A reason in a host's own words, less the secrets that it repeats. Its text is as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Problem {
    pub code: String,
    pub message: String,
}

impl Refusal {
    /// Returns the reasons in words, safe to show; empty when there are none.
    pub fn reasons(&self) -> String {
        if self.problems.is_empty() {
            return self.excerpt.clone();
        }
        let texts: Vec<String> = self
            .problems
            .iter()
            .take(3)
            .map(Problem::to_string)
            .collect();
        texts.join("; ")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} {} was answered with {}",
            self.method, self.url, self.status
        )?;
        let reasons = self.reasons();
        if !reasons.is_empty() {
            write!(formatter, ": {reasons}")?;
        }
        if let Some(wait) = self.retry_after {
            let beyond = if self.beyond_deadline {
                ", which is beyond the run's time limit"
            } else {
                ""
            };
            write!(formatter, " (try again in {} s{beyond})", wait.as_secs())?;
        }
        formatter.write_str(&after(self.tries))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, message) = (excerpt(&self.code, 60), excerpt(&self.message, 300));
        match (code.is_empty(), message.is_empty()) {
            (false, false) => write!(formatter, "{code}: {message}"),
            (true, _) => formatter.write_str(&message),
            (_, true) => formatter.write_str(&code),
        }
    }
}

/// Returns the reasons in the body of an error answer, or the beginning of the body when it is of
/// another form, masked.
pub(super) fn read_reasons(body: &[u8], masker: &Masker) -> (Vec<Problem>, String) {
    #[derive(Deserialize)]
    struct Envelope {
        errors: Vec<Problem>,
    }
    match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) if !envelope.errors.is_empty() => {
            let masked = |problem: Problem| Problem {
                code: masker.mask(&problem.code),
                message: masker.mask(&problem.message),
            };
            (
                envelope.errors.into_iter().map(masked).collect(),
                String::new(),
            )
        }
        // The pages that balancers and web sites answer with say less than their status.
        _ if body.trim_ascii_start().starts_with(b"<") => (Vec::new(), String::new()),
        _ => (
            Vec::new(),
            excerpt(&masker.mask(&String::from_utf8_lossy(body)), 200),
        ),
    }
}

fn after(tries: u32) -> String {
    if tries > 1 {
        format!(" (tried {tries} times)")
    } else {
        String::new()
    }
}

/// An address that is safe to show: without user information, and without the values of queries
/// that are not known to be harmless. Storage addresses carry signatures there, upload addresses
/// their state.
#[derive(Clone)]
pub struct SafeUrl(Box<Url>);

const HARMLESS: [&str; 15] = [
    "scope",
    "service",
    "n",
    "last",
    "mount",
    "from",
    "digest",
    "page",
    "page_size",
    "per_page",
    "limit",
    "type",
    "package_type",
    "package_name",
    "q",
];

impl SafeUrl {
    pub(super) fn authority(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

/// How much of an address is shown, in characters.
const LONGEST_ADDRESS: usize = 300;

impl From<&Url> for SafeUrl {
    fn from(url: &Url) -> SafeUrl {
        SafeUrl(Box::new(url.clone()))
    }
}

impl fmt::Display for SafeUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A host or path from outside can be of any length.
        let address = format!("{}{}", self.authority(), self.0.path());
        write!(
            formatter,
            "{}://{}",
            self.0.scheme(),
            excerpt(&address, LONGEST_ADDRESS)
        )?;
        for (index, (name, value)) in self.0.query_pairs().enumerate() {
            let value = if HARMLESS.contains(&&*name) {
                printable(&value).into_owned()
            } else {
                "***".to_owned()
            };
            write!(
                formatter,
                "{}{}={value}",
                if index == 0 { '?' } else { '&' },
                printable(&name)
            )?;
        }
        Ok(())
    }
}

impl fmt::Debug for SafeUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_their_secrets() {
        let url =
            Url::parse("https://alice:hunter2@r.example:5000/v2/a?X-Amz-Signature=hunter2&n=10&_state=hunter2#hunter2").expect("a URL");
        let safe = SafeUrl::from(&url);
        assert_eq!(
            safe.to_string(),
            "https://r.example:5000/v2/a?X-Amz-Signature=***&n=10&_state=***"
        );
        assert_eq!(format!("{safe:?}"), safe.to_string());
    }

    #[test]
    fn reasons_are_read_in_the_registries_form_or_as_text() {
        let (problems, excerpt) = read_reasons(
            br#"{"errors":[{"code":"NAME_UNKNOWN","message":"no\u001b[2J","detail":{"x":1}},{"message":"m"}]}"#,
            &Masker::default(),
        );
        let shown: Vec<String> = problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            (shown, excerpt),
            (
                vec![r"NAME_UNKNOWN: no\u{1b}[2J".to_owned(), "m".to_owned()],
                String::new()
            )
        );
        assert_eq!(
            read_reasons(b"too many\nrequests", &Masker::default()),
            (Vec::new(), r"too many\u{a}requests".to_owned())
        );
        for nothing in [&b""[..], b"\n<!DOCTYPE html><title>404</title>"] {
            assert_eq!(
                read_reasons(nothing, &Masker::default()),
                (Vec::new(), String::new())
            );
        }
    }

    #[test]
    fn fuzzing_reasons() {
        let seeds = [
            r#"{"errors":[{"code":"DENIED","message":"requested access","detail":{"a":[1]}},{"code":null}]}"#,
            r#"{"message":"404 Project Not Found"}"#,
            "<html><h1>502 Bad Gateway</h1>",
        ];
        crate::model::fuzz_tests::fuzz("reasons", &seeds, |input| {
            let (problems, text) = read_reasons(input, &Masker::default());
            for shown in problems.iter().map(ToString::to_string).chain([text]) {
                assert_eq!(printable(&shown), shown, "it can be shown as it is");
            }
        });
    }
}
