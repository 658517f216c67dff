//! Why an image could not be copied, and on which side.

use thiserror::Error;

use crate::error::{ItemError, Side};
use crate::model::manifest::ManifestError;
use crate::model::{Digest, Reference, Repository, Tag};

/// A failed copy. `Display` names the side; the cause is the source.
#[derive(Debug, Error)]
pub enum CopyError {
    #[error("{side} failed")]
    Place {
        side: Side,
        #[source]
        error: ItemError,
    },
    #[error("{side} has no {repository}{}", .reference.suffix())]
    Absent {
        side: Side,
        repository: Repository,
        reference: Reference,
    },
    #[error(
        "source is incomplete: an index of {repository} refers to {digest}, which is not there"
    )]
    ChildMissing {
        repository: Repository,
        digest: Digest,
    },
    #[error("source has none of the platforms {wanted}; it has {found}")]
    NoPlatform { wanted: String, found: String },
    #[error(
        "indexes are nested deeper than {} at {digest}",
        crate::model::manifest::MAX_INDEX_NESTING
    )]
    TooDeep { digest: Digest },
    #[error(
        "{repository}:{tag} changed since it was looked at, {} to {to}; it was left alone",
        .from.as_ref().map_or_else(|| "from nothing".to_owned(), |digest| format!("from {digest}"))
    )]
    Moved {
        repository: Repository,
        tag: Tag,
        from: Option<Digest>,
        to: Digest,
    },
    #[error("too much is attached to {subject} to list it at the target")]
    Unlistable {
        subject: Digest,
        #[source]
        error: ManifestError,
    },
    #[error("source has an index that cannot be rewritten: {digest}")]
    NotRewritable {
        digest: Digest,
        #[source]
        error: serde_json::Error,
    },
}

impl CopyError {
    /// Returns the side the failure is on.
    pub fn side(&self) -> Side {
        match self {
            CopyError::Place { side, .. } | CopyError::Absent { side, .. } => *side,
            CopyError::Moved { .. } => Side::Target,
            _ => Side::Source,
        }
    }

    /// Returns what failed without what it failed for, when it would have failed so for anything at
    /// the place.
    pub fn of_place(&self) -> Option<String> {
        match self {
            CopyError::Place { error, .. } => error.shared(),
            _ => None,
        }
    }

    /// Returns what the user can do, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            CopyError::Place { error, .. } => error.hint(),
            CopyError::Absent { side: Side::Source, .. } => {
                Some("check the name and the tag; some registries say the same of what a login may not read".to_owned())
            }
            CopyError::NoPlatform { .. } => Some("change `platforms` of the entry, or exclude the tag by `exclude_regex`".to_owned()),
            _ => None,
        }
    }
}

pub(super) fn at(side: Side) -> impl Fn(ItemError) -> CopyError {
    move |error| CopyError::Place { side, error }
}
