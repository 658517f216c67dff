//! What can go wrong at a place, told so that the reader knows which place, what was tried, and
//! what to do.

use std::error::Error;
use std::fmt;

use crate::model::text::printable;

/// A failure at a place that holds records.
#[derive(Debug)]
pub struct PackageError {
    /// The place as [`place`](super::PackageFiles::place) names it.
    pub place: String,
    /// What was tried: `list the records`.
    pub action: String,
    pub kind: PackageErrorKind,
    /// What the place or the system said, in a few words; may be empty.
    pub detail: String,
    hint: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The kinds of failure that callers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PackageErrorKind {
    /// What was named is not there, although it had to be. Forges say so too where permission is
    /// missing.
    Absent,
    /// No valid credential (401), or one that may not go to the place.
    Unauthorized,
    /// The credential does not allow this (403).
    Forbidden,
    /// The place refused the request (other 4xx).
    Refused,
    /// The place did not answer, or the connection broke, more often than is retried.
    Unreachable,
    /// The place answered with a server error (5xx) or "too many requests" (429) more often than is
    /// retried.
    ServerError,
    /// An answer, or what was to be written, is not of the form it must have.
    Malformed,
    /// What was listed changed faster than it could be read.
    Unsettled,
    /// Reading or writing files failed.
    Storage,
    /// A write was tried in a run that only reads.
    ReadOnly,
}

impl PackageError {
    pub fn new(
        place: impl Into<String>,
        action: impl Into<String>,
        kind: PackageErrorKind,
        detail: impl Into<String>,
    ) -> PackageError {
        PackageError {
            place: place.into(),
            action: action.into(),
            kind,
            detail: detail.into(),
            hint: None,
            source: None,
        }
    }

    /// Returns the error with what the user can do.
    #[must_use]
    pub fn hinting(mut self, hint: Option<String>) -> PackageError {
        self.hint = hint;
        self
    }

    /// Returns the error with its cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> PackageError {
        self.source = Some(source.into());
        self
    }

    /// Returns what the user can do, where there is something.
    pub fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl fmt::Display for PackageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}: cannot {}",
            printable(&self.place),
            printable(&self.action)
        )?;
        if !self.detail.is_empty() {
            write!(formatter, ": {}", printable(&self.detail))?;
        }
        Ok(())
    }
}

impl Error for PackageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| &**source as &(dyn Error + 'static))
    }
}
