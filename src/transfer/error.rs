//! Errors of copies, each with the side that it occurred on.

use std::error::Error;

use crate::error::{ItemError, ItemErrorKind, Side};
use crate::model::manifest::MAX_INDEX_NESTING;
use crate::model::{Digest, Reference, Repository, Tag};

/// Maximum number of levels on which attachments have attachments themselves.
pub(super) const MAX_ATTACHMENT_NESTING: usize = 16;

/// Returns a function that sets the side of an error.
pub(super) fn at(side: Side) -> impl Fn(ItemError) -> ItemError {
    move |error| error.on(side)
}

/// Returns the error for an image that does not exist on `side`.
pub fn absent(side: Side, repository: &Repository, reference: &Reference) -> ItemError {
    let error = ItemError::absent(repository, reference, "not found").on(side);
    match side {
        Side::Source => error.with_hint(
            "check the name and the tag; registries also report images as not found that the credentials may not read",
        ),
        Side::Target => error,
    }
}

/// Returns the error of an index at the source that refers to a manifest that does not exist.
pub(super) fn child_missing(repository: &Repository, digest: &Digest) -> ItemError {
    let reference = Reference::Digest(digest.clone());
    ItemError::absent(
        repository,
        &reference,
        "not found, although an index refers to it",
    )
    .on(Side::Source)
}

/// Returns the error of a blob that the target does not have after it was uploaded.
pub(super) fn unreadable(repository: &Repository, digest: &Digest) -> ItemError {
    ItemError::at(
        repository,
        format!("read blob {digest}"),
        ItemErrorKind::Absent,
        "it was uploaded, and its content still cannot be read",
    )
    .on(Side::Target)
    .with_hint("check the storage of the registry: it reports content that it does not have")
}

/// Returns the error of an index whose indexes are nested too deep.
pub(super) fn too_deep(side: Side, repository: &Repository, digest: &Digest) -> ItemError {
    ItemError::at(
        repository,
        format!("read index {digest}"),
        ItemErrorKind::TooDeep,
        format!("indexes are nested deeper than {MAX_INDEX_NESTING} levels"),
    )
    .on(side)
}

/// Returns the error of attachments whose own attachments are nested too deep.
pub(super) fn attachments_too_deep(repository: &Repository, digest: &Digest) -> ItemError {
    ItemError::at(
        repository,
        format!("read the attachments of {digest}"),
        ItemErrorKind::TooDeep,
        format!("attachments have attachments on more than {MAX_ATTACHMENT_NESTING} levels"),
    )
    .on(Side::Source)
}

/// Returns the error for an image whose platforms, `found`, are all excluded by the filter.
pub(super) fn platforms_missing(repository: &Repository, missing: &str) -> ItemError {
    ItemError::at(
        repository,
        "select platforms",
        ItemErrorKind::NoPlatform,
        format!("the image lacks {missing}"),
    )
    .on(Side::Source)
}

/// Returns the error of an image without any of the platforms.
pub(super) fn no_platform(repository: &Repository, wanted: &str, found: &str) -> ItemError {
    ItemError::at(
        repository,
        "select platforms",
        ItemErrorKind::NoPlatform,
        format!("the image has none of {wanted}, only {found}"),
    )
    .on(Side::Source)
}

/// Returns the error of a tag that names `to` instead of `from`, which it named when it was
/// compared; `None` if the tag did not exist then.
pub(super) fn tag_moved(
    repository: &Repository,
    tag: &Tag,
    from: Option<&Digest>,
    to: &Digest,
) -> ItemError {
    let from = from.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    ItemError::at(
        repository,
        format!("overwrite tag {tag}"),
        ItemErrorKind::TagMoved,
        format!("the tag changed from {from} to {to} in the meantime"),
    )
    .on(Side::Target)
}

/// Returns the error of attachments that cannot be listed at the target, in an index under a tag.
pub(super) fn unlistable(
    repository: &Repository,
    subject: &Digest,
    error: impl Error + 'static,
) -> ItemError {
    ItemError::at(
        repository,
        format!("list the attachments of {subject}"),
        ItemErrorKind::Other,
        "the list would be too large",
    )
    .caused_by(error)
    .on(Side::Source)
}

/// Returns the error of an index that cannot be reduced to the wanted platforms.
pub(super) fn not_rewritable(
    repository: &Repository,
    digest: &Digest,
    error: impl Error + 'static,
) -> ItemError {
    ItemError::at(
        repository,
        format!("rewrite index {digest}"),
        ItemErrorKind::Malformed,
        "",
    )
    .caused_by(error)
    .on(Side::Source)
}
