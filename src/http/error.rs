//! Errors of requests, without secrets.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::fault::{Fault, FaultKind, unreachable};
use crate::credentials::{CredentialError, variable_prefix};
use crate::model::Host;
use crate::model::text::{Masker, excerpt, printable};

/// Failure of a request. No variant shows a credential, a header or a query value that could be a
/// secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host answered with a status other than success.
    #[error("{0}")]
    Refused(Box<ErrorResponse>),
    #[error("{method} {url}: the connection failed{}", after(*tries))]
    Connection {
        method: Method,
        url: SafeUrl,
        tries: u32,
        source: Fault,
    },
    #[error("{method} {url}: no data for {} seconds{}", limit.as_secs(), after(*tries))]
    Stalled {
        method: Method,
        url: SafeUrl,
        limit: Duration,
        tries: u32,
    },
    /// The host rejected the request's credential, or needs one and none is configured.
    #[error("{host} denied access: {detail}")]
    Unauthorized {
        host: Host,
        detail: String,
        /// Source of the credential (variables, file, helper); `None` if there is none.
        credential_source: Option<String>,
    },
    /// The host redirects a request whose body is a stream. The caller can send the content to `to`.
    #[error("{url}: the upload was redirected more often than is followed")]
    Moved { url: SafeUrl, to: Box<Url> },
    /// The host rejected a token during an upload. The caller can send the content again, with a
    /// new token. If that is rejected too, `rejection` ([`Error::Unauthorized`]) is the failure.
    #[error("{rejection}")]
    StaleToken { rejection: Box<Error> },
    /// The token server failed after all tries. Its response concerns the token, not the request
    /// that needed it. All requests that waited for the token fail with the same error.
    #[error(transparent)]
    TokenServer(Arc<Error>),
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error("{host} refers to {url}, which is not followed: {reason}")]
    Misled {
        host: Host,
        url: SafeUrl,
        reason: &'static str,
    },
    #[error("{url}: the response has more than {limit} bytes")]
    TooLarge { url: SafeUrl, limit: usize },
    /// The response arrives too slowly. Another try would take as long, so the failure is
    /// permanent.
    #[error("{url}: the response was not complete after {} seconds ({received} bytes arrived)", limit.as_secs())]
    TooSlow {
        url: SafeUrl,
        limit: Duration,
        received: usize,
    },
    #[error("{url}: {problem}")]
    Malformed { url: SafeUrl, problem: String },
    #[error("the configured address of {host} is not an http or https URL")]
    Address { host: Host },
    #[error("cannot set up TLS for {host}")]
    Setup {
        host: Host,
        source: Box<dyn StdError + Send + Sync>,
    },
    #[error("cannot read the certificates in {} (configured for {host})", .file.display())]
    Certificate {
        host: Host,
        file: PathBuf,
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl Error {
    /// Returns the response status, `None` when no response with an error status arrived.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Error::Refused(response) => Some(response.status),
            _ => None,
        }
    }

    /// Returns true if the failure can pass by itself, so that another try is worthwhile: certain
    /// statuses, and connections that failed, stalled or broke. A misconfigured connection (unknown
    /// host, no TLS, untrusted certificate) is permanent.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Refused(response) => is_transient_status(response.status),
            Error::Connection { source, .. } => match source.kind() {
                FaultKind::NoSuchName
                | FaultKind::NoTls
                | FaultKind::Certificate
                | FaultKind::Request => false,
                FaultKind::NoNames | FaultKind::Other => true,
            },
            Error::Stalled { .. } => true,
            _ => false,
        }
    }

    /// Returns true if no response arrived.
    pub(super) fn is_without_response(&self) -> bool {
        matches!(self, Error::Connection { .. } | Error::Stalled { .. })
    }

    /// Returns true if the host reported `code` (error codes of the OCI distribution
    /// specification).
    pub fn has_code(&self, code: &str) -> bool {
        matches!(self, Error::Refused(response) if response.errors.iter().any(|error| error.code == code))
    }

    /// Returns the reasons that the host gave, escaped for display; empty when it gave none.
    pub(super) fn reasons(&self) -> String {
        match self {
            Error::Refused(response) => response.reasons(),
            _ => String::new(),
        }
    }

    /// Returns what the user can do about it, `None` when nothing can be suggested.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Unauthorized { host, credential_source: Some(source), .. } => {
                Some(format!("check the credentials for {host} from {source}: they may be wrong, expired, or lack permission"))
            }
            Error::Unauthorized { host, credential_source: None, .. } => {
                Some(set_credential(host))
            }
            Error::StaleToken { rejection } => rejection.hint(),
            Error::Credential(error) => error.hint.clone(),
            Error::TokenServer(error) => error.hint(),
            Error::Connection { url, source, .. } => Some(source.hint(&url.authority())),
            Error::Stalled { url, .. } | Error::TooSlow { url, .. } => {
                Some(unreachable(&url.authority()))
            }
            Error::Refused(response) if response.exceeds_limit => Some(format!(
                "run the command again after {} seconds: longer waits than {} seconds are not made",
                response.retry_after.unwrap_or_default().as_secs(),
                MAX_RETRY_AFTER.as_secs(),
            )),
            Error::Certificate { host, .. } => Some(format!("check `hosts.\"{host}\"`: the file must exist and hold certificates, or a key, in PEM format")),
            Error::Refused(response) if response.status == StatusCode::FORBIDDEN && response.credential != CredentialUse::Unknown => {
                response.credential.hint(&response.url.authority())
            }
            Error::Refused(response) if response.excerpt.contains(TO_TLS_PORT) => Some(format!(
                "{0} uses TLS: remove it from `registry.insecure_registries`, or write `https:` in its URL",
                response.url.authority()
            )),
            Error::Misled { reason: PLAIN_HTTP, url, .. } => {
                Some(format!("if plain HTTP is acceptable for {0}, add {0} to `registry.insecure_registries`", url.authority()))
            }
            Error::Setup { .. } => Some("install the package ca-certificates, or set SSL_CERT_FILE to a file of certificates".to_owned()),
            _ => None,
        }
    }

    /// Sets the number of tries that the message shows.
    pub(super) fn set_tries(&mut self, count: u32) {
        match self {
            Error::Refused(response) => response.tries = count,
            Error::Connection { tries, .. } | Error::Stalled { tries, .. } => *tries = count,
            _ => {}
        }
    }
}

/// Returns the hint to configure a credential for `host`.
fn set_credential(host: &Host) -> String {
    let prefix = variable_prefix(host);
    format!(
        "set {prefix}_USERNAME and {prefix}_PASSWORD (or {prefix}_TOKEN), or run `docker login {host}`"
    )
}

impl CredentialUse {
    /// Returns a hint for a request to `server` that the host answered with 403.
    fn hint(&self, server: &str) -> Option<String> {
        match self {
            // The kind of the error has the hint.
            CredentialUse::Unknown => None,
            CredentialUse::Sent(source) => Some(format!(
                "the credentials for {server} from {source} are known but not allowed to do this: check their scopes and roles"
            )),
            CredentialUse::NotSent(source) => Some(format!(
                "the credentials from {source} were not sent, because {server} asks for none: check the address and the path of the repository, and whether {server} allows access from this network"
            )),
            CredentialUse::NotConfigured(host) => Some(format!(
                "no credentials are configured for {host}: {}",
                set_credential(host)
            )),
        }
    }
}

pub(super) const PLAIN_HTTP: &str = "it is plain HTTP";

/// Answer of servers written in Go to plain HTTP on a TLS port.
const TO_TLS_PORT: &str = "HTTP request to an HTTPS server";

/// Returns true if a response with this status is worth another try.
pub(super) fn is_transient_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// Response with a status other than success.
#[derive(Debug)]
pub struct ErrorResponse {
    pub method: Method,
    pub url: SafeUrl,
    pub status: StatusCode,
    /// Errors in the form of the OCI distribution specification; empty when the body has another
    /// form.
    pub errors: Vec<ReportedError>,
    /// Beginning of a body of another form, escaped for display.
    pub excerpt: String,
    /// Time that the host asks to wait.
    pub retry_after: Option<Duration>,
    /// True if `retry_after` ends after the run's time limit, so that no try followed.
    pub beyond_deadline: bool,
    /// True if `retry_after` is longer than the longest wait, so that no try followed.
    pub exceeds_limit: bool,
    pub credential: CredentialUse,
    pub tries: u32,
}

/// Use of a credential for a request that the host answered with an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialUse {
    /// Unknown, or not relevant for the error.
    Unknown,
    /// The credential of this source was sent, or a token for it.
    Sent(String),
    /// A credential of this source is configured. It was not sent, because the host did not ask for
    /// it.
    NotSent(String),
    /// None is configured for this host.
    NotConfigured(Host),
}

/// Error that a host reported, with secrets masked. The texts are untrusted: escape them for
/// display.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ReportedError {
    pub code: String,
    pub message: String,
}

/// Reported errors that a message shows.
const MAX_REASONS: usize = 3;

/// Longest requested wait that is honoured. A longer one fails the request.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

impl ErrorResponse {
    /// Returns the limit that `retry_after` exceeds, as the end of a sentence; empty if there is
    /// none.
    pub(super) fn excess(&self) -> &'static str {
        if self.beyond_deadline {
            ", which exceeds the time limit of the run"
        } else if self.exceeds_limit {
            ", which exceeds the longest wait of one hour"
        } else {
            ""
        }
    }

    /// Returns the host's reasons, escaped for display; empty when there are none.
    pub fn reasons(&self) -> String {
        if self.errors.is_empty() {
            return self.excerpt.clone();
        }
        let texts: Vec<String> = self
            .errors
            .iter()
            .take(MAX_REASONS)
            .map(ReportedError::to_string)
            .collect();
        texts.join("; ")
    }
}

impl fmt::Display for ErrorResponse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} {} failed with {}",
            self.method, self.url, self.status
        )?;
        let reasons = self.reasons();
        if !reasons.is_empty() {
            write!(formatter, ": {reasons}")?;
        }
        if let Some(wait) = self.retry_after {
            let beyond = self.excess();
            write!(formatter, " (retry after {} s{beyond})", wait.as_secs())?;
        }
        formatter.write_str(&after(self.tries))
    }
}

impl fmt::Display for ReportedError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, message) = (excerpt(&self.code, 60), excerpt(&self.message, 300));
        match (code.is_empty(), message.is_empty()) {
            (false, false) => write!(formatter, "{code}: {message}"),
            (true, _) => formatter.write_str(&message),
            (_, true) => formatter.write_str(&code),
        }
    }
}

/// Returns the errors in the body of an error response, or the beginning of a body of another form,
/// with secrets masked.
pub(super) fn read_reasons(body: &[u8], masker: &Masker) -> (Vec<ReportedError>, String) {
    #[derive(Deserialize)]
    struct Envelope {
        errors: Vec<ReportedError>,
    }
    match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) if !envelope.errors.is_empty() => {
            let masked = |error: ReportedError| ReportedError {
                code: masker.mask(&error.code),
                message: masker.mask(&error.message),
            };
            (
                envelope.errors.into_iter().map(masked).collect(),
                String::new(),
            )
        }
        // HTML pages of load balancers and web sites add nothing to the status.
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

/// Redacted URL: without user information, and without query values except those of
/// `HARMLESS_PARAMETERS`. The queries of storage URLs carry signatures, those of upload URLs
/// their state.
#[derive(Clone)]
pub struct SafeUrl(Box<Url>);

/// Query parameters whose values are shown.
const HARMLESS_PARAMETERS: [&str; 15] = [
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
    /// Returns host and port, the port only when it is not the scheme's own.
    pub(super) fn authority(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Returns the path and the redacted query.
    pub(super) fn path(&self) -> String {
        let path = excerpt(self.0.path(), MAX_URL_LENGTH);
        format!("{path}{}", self.query())
    }

    /// Returns the redacted query with its question mark; empty if there is none.
    fn query(&self) -> String {
        let mut query = String::new();
        for (name, value) in self.0.query_pairs() {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(&printable(&name));
            query.push('=');
            if HARMLESS_PARAMETERS.contains(&&*name) {
                query.push_str(&printable(&value));
            } else {
                query.push_str("***");
            }
        }
        query
    }
}

/// Maximum length of a displayed host and path, in characters.
const MAX_URL_LENGTH: usize = 300;

impl From<&Url> for SafeUrl {
    fn from(url: &Url) -> SafeUrl {
        SafeUrl(Box::new(url.clone()))
    }
}

impl fmt::Display for SafeUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An untrusted host or path can have any length.
        let address = format!("{}{}", self.authority(), self.0.path());
        let (scheme, address) = (self.0.scheme(), excerpt(&address, MAX_URL_LENGTH));
        write!(formatter, "{scheme}://{address}{}", self.query())
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
    fn safe_url_hides_user_information_and_query_values() {
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
    fn reasons_are_read_from_json_errors_or_plain_text() {
        let (errors, excerpt) = read_reasons(
            br#"{"errors":[{"code":"NAME_UNKNOWN","message":"no\u001b[2J","detail":{"x":1}},{"message":"m"}]}"#,
            &Masker::default(),
        );
        let shown: Vec<String> = errors.iter().map(ReportedError::to_string).collect();
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
    fn six_statuses_are_transient() {
        let transient: Vec<u16> = (100..1000)
            .filter(|code| is_transient_status(StatusCode::from_u16(*code).expect("a status")))
            .collect();
        assert_eq!(transient, [408, 429, 500, 502, 503, 504]);
    }

    #[test]
    fn fuzzing_reasons() {
        let seeds = [
            r#"{"errors":[{"code":"DENIED","message":"requested access","detail":{"a":[1]}},{"code":null}]}"#,
            r#"{"message":"404 Project Not Found"}"#,
            "<html><h1>502 Bad Gateway</h1>",
        ];
        crate::model::fuzz_tests::fuzz("reasons", &seeds, |input| {
            let (errors, text) = read_reasons(input, &Masker::default());
            for shown in errors.iter().map(ToString::to_string).chain([text]) {
                assert_eq!(printable(&shown), shown, "it is escaped");
            }
        });
    }
}
