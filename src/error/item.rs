//! The error of one item of a run, from the failed request up to the line in the report.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::model::Repository;
use crate::model::text::printable;

/// An error of one item: which operation failed, on which host, and why.
///
/// Everything between the protocol clients and the report uses this type, so that a failure is
/// described once. An error that would occur for every item on the host carries that text in
/// [`shared`](ItemError::shared), and a report shows it once for all of them.
#[derive(Clone, Debug)]
pub struct ItemError {
    /// Registry host, `ocidir://` directory or record store; empty if there is none.
    pub host: String,
    /// Operation that failed: `read manifest library/alpine:3.21`.
    pub operation: String,
    pub kind: ItemErrorKind,
    /// Reason given by the server or the system, in a few words; may be empty.
    pub cause: String,
    hint: Option<String>,
    shared: Option<String>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// Kinds of failure that callers and hints distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ItemErrorKind {
    /// The object does not exist but must. Forges report this as well if permission is missing.
    Absent,
    /// No valid credential (401), or a credential that must not be sent to the host.
    Unauthorized,
    /// The credential lacks permission (403).
    Forbidden,
    /// Too many requests (429), also after waiting.
    RateLimited,
    /// The host does not support the operation (405, `UNSUPPORTED`).
    Unsupported,
    /// The host did not respond or the connection broke, and all retries are used up.
    Unreachable,
    /// The host responded with a server error (5xx), and all retries are used up.
    ServerError,
    /// The host rejected the request (any other 4xx).
    Refused,
    /// Content does not match its digest or size.
    Corrupt,
    /// A response or a file is malformed.
    Malformed,
    /// A listing changed faster than it could be read.
    Unsettled,
    /// Reading or writing files failed.
    Storage,
    /// A read-only run tried to write.
    ReadOnly,
}

impl ItemError {
    /// Returns the error of `operation` on `host`.
    pub fn new(
        host: impl Into<String>,
        operation: impl Into<String>,
        kind: ItemErrorKind,
        cause: impl Into<String>,
    ) -> ItemError {
        ItemError {
            host: host.into(),
            operation: operation.into(),
            kind,
            cause: cause.into(),
            hint: None,
            shared: None,
            source: None,
        }
    }

    /// Returns the error of `operation` on the registry or layout of `repository`.
    pub fn at(
        repository: &Repository,
        operation: impl Into<String>,
        kind: ItemErrorKind,
        cause: impl Into<String>,
    ) -> ItemError {
        let host = repository
            .host()
            .map_or_else(|| repository.to_string(), ToString::to_string);
        ItemError::new(host, operation, kind, cause)
    }

    /// Sets a hint that is more specific than the one of the kind.
    #[must_use]
    pub fn hinting(mut self, hint: Option<String>) -> ItemError {
        self.hint = hint;
        self
    }

    /// Sets the text for reports that show this failure once for all items on the host.
    #[must_use]
    pub fn sharing(mut self, shared: Option<String>) -> ItemError {
        self.shared = shared;
        self
    }

    /// Sets the error that caused this one.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> ItemError {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Returns the failure without its operation if it would fail any operation on the host.
    pub fn shared(&self) -> Option<String> {
        self.shared.clone()
    }

    /// Returns what the user can do, or `None` if nothing is known to help.
    pub fn hint(&self) -> Option<String> {
        if self.hint.is_some() {
            return self.hint.clone();
        }
        let variable = || {
            self.host
                .to_ascii_uppercase()
                .replace(|character: char| !character.is_ascii_alphanumeric(), "_")
        };
        match self.kind {
            ItemErrorKind::Unauthorized => Some(format!(
                "set IMGLIFE_{0}_USERNAME and IMGLIFE_{0}_PASSWORD (or IMGLIFE_{0}_TOKEN), or log in with `docker login {1}`",
                variable(),
                self.host
            )),
            ItemErrorKind::Forbidden => Some(format!(
                "the credential for {} is known but not allowed to do this; check its scopes and the name of the repository",
                self.host
            )),
            ItemErrorKind::RateLimited => Some(format!(
                "log in to {0} (IMGLIFE_{1}_USERNAME, IMGLIFE_{1}_PASSWORD) for a higher limit, or run less often",
                self.host,
                variable()
            )),
            ItemErrorKind::Storage => {
                Some("`imglife doctor` tells whether the directory can be written, and how much room its disk has".to_owned())
            }
            _ => None,
        }
    }
}

impl fmt::Display for ItemError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}: cannot {}",
            printable(&self.host),
            printable(&self.operation)
        )?;
        if !self.cause.is_empty() {
            write!(formatter, ": {}", printable(&self.cause))?;
        }
        Ok(())
    }
}

impl Error for ItemError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| &**source as &(dyn Error + 'static))
    }
}
