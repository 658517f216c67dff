//! The error of one item of a run, from the failed request up to the line in the report.

use std::error::Error;
use std::fmt;

use serde::{Serialize, Serializer};

use super::{Side, chain};
use crate::model::text::printable;
use crate::model::{Reference, Repository};

/// An error of one item: which operation failed, on which host, and why.
///
/// Protocol clients convert their errors to this type once, and everything up to the report uses
/// it. The message is `{host}: cannot {operation}: {cause} ({request})`, without the parts that are
/// empty. It names the host once; a cause names other hosts only.
///
/// In JSON it is an object with `cause`, which is the whole message, and with `side` and `hint` if
/// there are any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemError {
    /// Side of a copy that the error occurred on; `None` outside copies and for errors that concern
    /// both sides.
    pub side: Option<Side>,
    /// Registry host, `ocidir://` directory or record store; empty if there is none.
    pub host: String,
    /// Operation that failed: `read manifest library/alpine:3.21`. Empty if there is none.
    pub operation: String,
    pub kind: ItemErrorKind,
    /// Reason given by the server or the system; may be empty.
    pub cause: String,
    /// HTTP request that failed and the number of tries: `GET /v2/, tried 5 times`. Empty if the
    /// error is not about a request.
    pub request: String,
    pub scope: ErrorScope,
    hint: Option<String>,
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
    /// The source has none of the platforms that are copied.
    NoPlatform,
    /// Indexes are nested deeper than is read.
    TooDeep,
    /// A tag changed after it was compared, so that it was not overwritten.
    TagMoved,
    /// No known product has the images of a repository. This is not a failure.
    Untracked,
    /// Any other failure, described by its cause alone.
    Other,
}

/// Extent of an error. A report shows an error of several items in one line if it would
/// recur for each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorScope {
    /// This item only.
    Item,
    /// Every item of a repository, such as a missing permission.
    Repository(String),
    /// Every item of the host, such as a failed connection.
    Host,
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
            side: None,
            host: host.into(),
            operation: operation.into(),
            kind,
            cause: cause.into(),
            request: String::new(),
            scope: ErrorScope::Item,
            hint: None,
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

    /// Returns an error without host and operation, such as two entries that write the same tag.
    pub fn other(cause: impl Into<String>) -> ItemError {
        ItemError::new("", "", ItemErrorKind::Other, cause)
    }

    /// Returns an error with the messages of `error` and its causes.
    pub fn of(error: &(dyn Error + 'static), hint: Option<String>) -> ItemError {
        ItemError::other(chain(error)).with_optional_hint(hint)
    }

    /// Returns the error of a manifest that does not exist but must.
    pub fn absent(
        repository: &Repository,
        reference: &Reference,
        cause: impl Into<String>,
    ) -> ItemError {
        let operation = match repository {
            Repository::Remote { path, .. } => {
                format!("read manifest {path}{}", reference.suffix())
            }
            Repository::Layout { .. } => format!("read manifest {reference}"),
        };
        ItemError::at(repository, operation, ItemErrorKind::Absent, cause)
    }

    /// Sets the side of the copy that the error occurred on.
    #[must_use]
    pub fn on(mut self, side: Side) -> ItemError {
        self.side = Some(side);
        self
    }

    /// Sets a hint that is more specific than the one of the kind.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> ItemError {
        self.with_optional_hint(Some(hint.into()))
    }

    /// Sets the hint, or restores the one of the kind if `hint` is `None`.
    #[must_use]
    pub fn with_optional_hint(mut self, hint: Option<String>) -> ItemError {
        self.hint = hint;
        self
    }

    /// Sets the extent of the error.
    #[must_use]
    pub fn with_scope(mut self, scope: ErrorScope) -> ItemError {
        self.scope = scope;
        self
    }

    /// Sets the HTTP request that failed.
    #[must_use]
    pub fn with_request(mut self, request: impl Into<String>) -> ItemError {
        self.request = request.into();
        self
    }

    /// Adds the messages of `error` and its causes to the cause.
    #[must_use]
    pub fn caused_by(mut self, error: impl Error + 'static) -> ItemError {
        if !self.cause.is_empty() {
            self.cause.push_str(": ");
        }
        self.cause.push_str(&chain(&error));
        self
    }

    /// Returns the message after the side of the copy, as reports and progress show it.
    pub fn line(&self) -> String {
        self.with_side(self.to_string())
    }

    /// Returns [`line`](ItemError::line) without the part that differs between items with the same
    /// error.
    pub fn shared_line(&self) -> String {
        let scope = match &self.scope {
            ErrorScope::Item => return self.line(),
            ErrorScope::Repository(name) => name.as_str(),
            ErrorScope::Host => "",
        };
        self.with_side(joined([&self.host, scope, &self.cause]))
    }

    fn with_side(&self, text: String) -> String {
        match self.side {
            Some(side) => format!("{side}: {text}"),
            None => text,
        }
    }

    /// Returns what the user can do, or `None` if there is no advice.
    pub fn hint(&self) -> Option<String> {
        self.hint.clone().or_else(|| self.kind.hint(&self.host))
    }
}

impl ItemErrorKind {
    /// Returns what the user can do about any error of this kind on `host`. Errors with a more
    /// precise hint carry it themselves.
    fn hint(self, host: &str) -> Option<String> {
        let hint = match self {
            ItemErrorKind::Forbidden if !host.is_empty() => {
                return Some(format!(
                    "check that the credentials for {} have permission for this, and the name of the repository",
                    printable(host)
                ));
            }
            ItemErrorKind::RateLimited => {
                "run less often, or set credentials: many registries allow more requests with them"
            }
            ItemErrorKind::Storage => {
                "run `imglife doctor` to check that the directory is writable and its disk has space"
            }
            ItemErrorKind::NoPlatform => {
                "change `platforms` of the entry, or exclude the tag with `exclude_regex`"
            }
            ItemErrorKind::TagMoved => "run the command again",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// Returns the parts that are not empty, joined by colons and escaped for display.
fn joined<const N: usize>(parts: [&str; N]) -> String {
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    printable(&parts.collect::<Vec<_>>().join(": ")).into_owned()
}

impl fmt::Display for ItemError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = match self.operation.as_str() {
            "" => String::new(),
            operation => format!("cannot {operation}"),
        };
        formatter.write_str(&joined([&self.host, &operation, &self.cause]))?;
        if !self.request.is_empty() {
            write!(formatter, " ({})", printable(&self.request))?;
        }
        Ok(())
    }
}

impl Error for ItemError {}

impl Serialize for ItemError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Document {
            #[serde(skip_serializing_if = "Option::is_none")]
            side: Option<Side>,
            cause: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            hint: Option<String>,
        }
        Document {
            side: self.side,
            cause: self.to_string(),
            hint: self.hint(),
        }
        .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_hint_belongs_to_one_kind() {
        let hints = [
            (ItemErrorKind::Absent, None),
            (ItemErrorKind::Unauthorized, None),
            (
                ItemErrorKind::Forbidden,
                Some("check that the credentials for r.test have permission"),
            ),
            (ItemErrorKind::RateLimited, Some("run less often")),
            (ItemErrorKind::Unsupported, None),
            (ItemErrorKind::Unreachable, None),
            (ItemErrorKind::ServerError, None),
            (ItemErrorKind::Refused, None),
            (ItemErrorKind::Corrupt, None),
            (ItemErrorKind::Malformed, None),
            (ItemErrorKind::Unsettled, None),
            (ItemErrorKind::Storage, Some("run `imglife doctor`")),
            (ItemErrorKind::ReadOnly, None),
            (ItemErrorKind::NoPlatform, Some("change `platforms`")),
            (ItemErrorKind::TooDeep, None),
            (ItemErrorKind::TagMoved, Some("run the command again")),
            (ItemErrorKind::Untracked, None),
            (ItemErrorKind::Other, None),
        ];
        let mut distinct = BTreeSet::new();
        for (kind, expected) in hints {
            let error = ItemError::new("r.test", "read manifest a:1", kind, "no");
            let hint = error.hint();
            assert_eq!(
                hint.as_deref()
                    .map(|hint| hint.starts_with(expected.unwrap_or("none"))),
                expected.map(|_| true),
                "{kind:?}: {hint:?}"
            );
            assert!(hint.is_none_or(|hint| distinct.insert(hint)), "{kind:?}");
            let hint = error.with_hint("set X").hint();
            assert_eq!(hint.as_deref(), Some("set X"), "{kind:?}");
        }
    }

    #[test]
    fn line_leaves_out_empty_parts() {
        let error = ItemError::other("no platform");
        assert_eq!(error.line(), "no platform");
        assert_eq!(error.on(Side::Source).line(), "source: no platform");
        let error = ItemError::new("r.test", "list tags of a", ItemErrorKind::Malformed, "");
        assert_eq!(error.line(), "r.test: cannot list tags of a");
        let error = error.with_request("GET /v2/a/tags/list").on(Side::Target);
        assert_eq!(
            error.line(),
            "target: r.test: cannot list tags of a (GET /v2/a/tags/list)"
        );
    }

    #[test]
    fn shared_line_names_the_scope_only() {
        let error = |scope| {
            ItemError::new(
                "r.test",
                "write manifest a/b:1",
                ItemErrorKind::Forbidden,
                "403",
            )
            .with_request("PUT /v2/a/b/manifests/1")
            .with_scope(scope)
            .on(Side::Target)
        };
        let item = "target: r.test: cannot write manifest a/b:1: 403 (PUT /v2/a/b/manifests/1)";
        for (scope, expected) in [
            (ErrorScope::Item, item),
            (
                ErrorScope::Repository("a/b".to_owned()),
                "target: r.test: a/b: 403",
            ),
            (ErrorScope::Host, "target: r.test: 403"),
        ] {
            let error = error(scope);
            assert_eq!(
                (error.line().as_str(), error.shared_line().as_str()),
                (item, expected)
            );
        }
    }

    #[test]
    fn json_has_the_whole_message_as_cause() {
        let error = ItemError::new("r.test", "read a", ItemErrorKind::TagMoved, "it\u{1b}moved");
        let document = serde_json::to_value(error.on(Side::Source)).expect("JSON");
        assert_eq!(
            document,
            serde_json::json!({
                "side": "source",
                "cause": "r.test: cannot read a: it\\u{1b}moved",
                "hint": "run the command again",
            })
        );
        let document = serde_json::to_value(ItemError::other("no")).expect("JSON");
        assert_eq!(document, serde_json::json!({ "cause": "no" }));
    }
}
