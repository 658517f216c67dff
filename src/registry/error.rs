//! What can go wrong at a place, told so that the reader knows which place, what was tried, and
//! what to do.

use std::error::Error;
use std::fmt;

use super::BoxError;
use crate::http;
use crate::model::Repository;
use crate::model::text::printable;

/// A failure at a place. The side of a copy it happened on is added by who knows it.
#[derive(Debug)]
pub struct PlaceError {
    /// The registry host or `ocidir://` directory.
    pub place: String,
    /// What was tried: `read manifest library/alpine:3.21`.
    pub action: String,
    pub kind: PlaceErrorKind,
    /// What the place or the system said, in a few words; may be empty.
    pub detail: String,
    hint: Option<String>,
    source: Option<BoxError>,
}

/// The kinds of failure that callers or hints tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlaceErrorKind {
    /// What was named is not there, although it had to be.
    Absent,
    /// No valid credential (401).
    Unauthorized,
    /// The credential does not allow this (403).
    Forbidden,
    /// Too many requests (429), and waiting did not help.
    RateLimited,
    /// The place cannot do this (405, UNSUPPORTED).
    Unsupported,
    /// The place did not answer, or the connection broke, more often than is retried.
    Unreachable,
    /// The place answered with a server error (5xx) more often than is retried.
    ServerError,
    /// The place refused the request (other 4xx).
    Refused,
    /// Content does not have the digest or size that it should have.
    Corrupt,
    /// An answer or a file is not of the form it must have.
    Malformed,
    /// Reading or writing files failed.
    Storage,
    /// A write was tried in a run that only reads.
    ReadOnly,
}

impl PlaceError {
    pub fn new(
        place: impl Into<String>,
        action: impl Into<String>,
        kind: PlaceErrorKind,
        detail: impl Into<String>,
    ) -> PlaceError {
        PlaceError {
            place: place.into(),
            action: action.into(),
            kind,
            detail: detail.into(),
            hint: None,
            source: None,
        }
    }

    /// Returns the error with a hint that says more than its kind does.
    #[must_use]
    pub fn hinting(mut self, hint: Option<String>) -> PlaceError {
        self.hint = hint;
        self
    }

    /// Returns an error at the place that `repository` is in.
    pub fn at(
        repository: &Repository,
        action: impl Into<String>,
        kind: PlaceErrorKind,
        detail: impl Into<String>,
    ) -> PlaceError {
        let place = repository
            .host()
            .map_or_else(|| repository.to_string(), ToString::to_string);
        PlaceError::new(place, action, kind, detail)
    }

    /// Returns the error with its cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<BoxError>) -> PlaceError {
        self.source = Some(source.into());
        self
    }

    /// Returns what failed without what it failed for, when it would have failed so for anything at
    /// the place.
    pub fn of_place(&self) -> Option<String> {
        self.source
            .as_ref()?
            .downcast_ref::<http::Error>()?
            .of_host()
    }

    /// Returns what the user can do, where there is something.
    pub fn hint(&self) -> Option<String> {
        if self.hint.is_some() {
            return self.hint.clone();
        }
        let variable = || {
            self.place
                .to_ascii_uppercase()
                .replace(|character: char| !character.is_ascii_alphanumeric(), "_")
        };
        match self.kind {
            PlaceErrorKind::Unauthorized => Some(format!(
                "set IMGLIFE_{0}_USERNAME and IMGLIFE_{0}_PASSWORD (or IMGLIFE_{0}_TOKEN), or log in with `docker login {1}`",
                variable(),
                self.place
            )),
            PlaceErrorKind::Forbidden => Some(format!(
                "the credential for {} is known but not allowed to do this; check its scopes and the name of the repository",
                self.place
            )),
            PlaceErrorKind::RateLimited => Some(format!(
                "log in to {0} (IMGLIFE_{1}_USERNAME, IMGLIFE_{1}_PASSWORD) for a higher limit, or run less often",
                self.place,
                variable()
            )),
            PlaceErrorKind::Storage => {
                Some("`imglife doctor` tells whether the directory can be written, and how much room its disk has".to_owned())
            }
            _ => None,
        }
    }
}

impl fmt::Display for PlaceError {
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

impl Error for PlaceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| &**source as &(dyn Error + 'static))
    }
}
