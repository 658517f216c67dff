//! Places that images live in: the two traits that everything above speaks, and the places
//! themselves.
//!
//! Owns the rules that hold for every place (absence is `None`, content is verified before it is
//! kept). Knows nothing of configuration, selection or copying.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;

use crate::error::ItemError;
use crate::model::{Descriptor, Digest, Manifest, Reference, Repository, Tag};

mod hub;
pub mod layout;
mod listing;
pub mod memory;
pub mod remote;
mod stores;
mod verify;

pub use stores::ImageStores;
pub use verify::{read_config, verified};

/// A place that images can be read from.
#[async_trait]
pub trait ImageSource: Send + Sync {
    /// Returns the tags of `repository` in no particular order, or `None` when the place says that
    /// there is no such repository. A listing that breaks off is an error, never a shorter list.
    async fn tags(&self, repository: &Repository) -> Result<Option<Vec<TagSeen>>, ItemError>;

    /// Returns the tags of `repository` with the times they were pushed, or `None` when the place
    /// does not tell these. Costs more requests than [`tags`](ImageSource::tags); what it returns
    /// replaces that listing.
    async fn push_dates(
        &self,
        _repository: &Repository,
    ) -> Result<Option<Vec<TagSeen>>, ItemError> {
        Ok(None)
    }

    /// Returns the tags of `repository`, with the times they were pushed where the place tells
    /// them, or `None` when the place says that there is no such repository. Costs more requests
    /// than [`tags`](ImageSource::tags).
    async fn dated_tags(&self, repository: &Repository) -> Result<Option<Vec<TagSeen>>, ItemError> {
        match self.push_dates(repository).await? {
            Some(tags) => Ok(Some(tags)),
            None => self.tags(repository).await,
        }
    }

    /// Returns what a reference names without reading that where the place allows it, or `None`
    /// when there is nothing. On a registry this is a HEAD, which is not counted as a pull.
    async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Resolved>, ItemError>;

    /// Returns a manifest, verified when asked for by digest, or `None` when there is none.
    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Manifest>, ItemError>;

    /// Returns the content of a blob from `from_offset` (in bytes) to its end. The stream is not
    /// verified; who keeps the content does that with [`verified`].
    async fn blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        from_offset: u64,
    ) -> Result<BlobStream, ItemError>;

    /// Returns whether `repository` holds the blob, whole.
    async fn has_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<bool, ItemError>;

    /// Returns the manifests that have `subject` as their subject, as the place lists them by
    /// itself.
    async fn referrers(
        &self,
        _repository: &Repository,
        _subject: &Digest,
    ) -> Result<Referrers, ItemError> {
        Ok(Referrers::NotListed)
    }

    /// Returns the repositories, at any depth and in no particular order, below the path that
    /// `repository` is directly below: for `registry/bases/alpine` all below `registry/bases`,
    /// whether itself is there or not. `None` when the place does not tell.
    async fn repositories_beside(
        &self,
        _repository: &Repository,
    ) -> Result<Option<Vec<Repository>>, ItemError> {
        Ok(None)
    }
}

/// What a reference names. Media types and sizes are not told by every registry that is not read
/// from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub digest: Digest,
}

impl From<Digest> for Resolved {
    fn from(digest: Digest) -> Resolved {
        Resolved { digest }
    }
}

/// What a place tells of the manifests that refer to another as their subject (distribution
/// specification, "Listing Referrers").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Referrers {
    /// All of them.
    Listed(Vec<Descriptor>),
    /// Those that the place came across without keeping such lists: to them those are added that
    /// clients list.
    Partial(Vec<Descriptor>),
    /// The place keeps no such lists. Clients then keep one in an index under the tag that
    /// [`Tag::of_referrers`] gives.
    NotListed,
}

/// A place that images can also be written to.
#[async_trait]
pub trait ImageStore: ImageSource {
    /// Makes the blob part of `repository`: shared from the repository `mount_from` of the same
    /// place where that works, else by reading `content`. Nothing is kept when size or digest
    /// differ from the descriptor's, or when the future is dropped.
    async fn put_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        content: &dyn Reopen,
        mount_from: Option<&Repository>,
    ) -> Result<BlobPut, ItemError>;

    /// Returns what [`has_blob`](ImageSource::has_blob) does, for who is about to store a manifest
    /// that refers to the blob: where clients remove what nothing refers to, it stays for an hour.
    async fn claim_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<bool, ItemError> {
        self.has_blob(repository, descriptor).await
    }

    /// Stores the manifest's exact bytes under `reference`. What it refers to must be there
    /// already; a tag is moved at once.
    async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<(), ItemError>;

    /// Returns whether the manifest is there, for who is about to store an index that refers to it,
    /// or to give it a tag: where clients remove what nothing refers to, it stays for an hour with
    /// all that it refers to.
    async fn claim_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, ItemError> {
        Ok(self
            .resolve(repository, &Reference::Digest(digest.clone()))
            .await?
            .is_some())
    }

    /// Returns what the place deletes. A registry is asked, at most once in a run, by deleting what
    /// cannot be there; in a run that only reads it is not asked.
    async fn deletions(&self, repository: &Repository) -> Result<Deletions, ItemError>;

    /// Deletes a tag, and neither the manifest that it names nor another tag of that.
    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<Deletion, ItemError>;

    /// Deletes a manifest. With it goes every tag that names it on a registry; in a layout what has
    /// a name keeps it. What it refers to stays, and so does what refers to it.
    async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Deletion, ItemError>;

    /// Removes the content that nothing refers to any more and that nobody has claimed or stored
    /// within an hour. The manifests in `keep` stay as those do that have a tag, with all that they
    /// lead to.
    async fn sweep(
        &self,
        _repository: &Repository,
        _keep: &BTreeSet<Digest>,
    ) -> Result<Swept, ItemError> {
        Ok(Swept::ByItself)
    }

    /// Waits, for a short time, until what was given up is tidied up. Called when a run ends early.
    async fn settle(&self) {}
}

/// What a place deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletions {
    pub tags: Ability,
    pub manifests: Ability,
}

impl Deletions {
    pub const ALL: Deletions = Deletions {
        tags: Ability::Present,
        manifests: Ability::Present,
    };
    pub const UNKNOWN: Deletions = Deletions {
        tags: Ability::Unknown,
        manifests: Ability::Unknown,
    };
}

/// Whether a place can do something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ability {
    Present,
    Missing,
    /// It was not asked.
    #[default]
    Unknown,
}

/// What came of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Deletion {
    Done,
    /// It was not there.
    WasAbsent,
    /// It is a manifest of a layout, and something there names it. It stays.
    StillNamed,
    /// The place does not delete this kind of thing; nothing changed. Once learnt, it is not asked
    /// again.
    Unsupported,
}

/// What came of removing content that nothing refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    Freed {
        files: usize,
        bytes: u64,
    },
    /// Somebody is writing to the repository at this moment; nothing was removed.
    Postponed,
    /// The place collects its garbage itself, when its operator lets it.
    ByItself,
}

/// A tag in a listing, with what the place tells of it at no further cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagSeen {
    pub tag: Tag,
    /// When the tag was pushed, where the place tells it. Never the time an image was created.
    pub pushed_at: Option<DateTime<Utc>>,
    pub digest: Option<Digest>,
}

impl TagSeen {
    /// Returns a tag of which only the name is known.
    pub fn named(tag: Tag) -> TagSeen {
        TagSeen {
            tag,
            pushed_at: None,
            digest: None,
        }
    }
}

/// The bytes of a blob as they arrive.
pub type BlobStream = BoxStream<'static, Result<Bytes, ItemError>>;

/// Content that can be opened again at an offset, so that a broken upload goes on without starting
/// over.
#[async_trait]
pub trait Reopen: Send + Sync {
    async fn open(&self, from_offset: u64) -> Result<BlobStream, ItemError>;
}

/// Content that is in memory already, such as a configuration or a generated layer.
pub struct InMemory(pub Bytes);

#[async_trait]
impl Reopen for InMemory {
    async fn open(&self, from_offset: u64) -> Result<BlobStream, ItemError> {
        let start = usize::try_from(from_offset)
            .unwrap_or(usize::MAX)
            .min(self.0.len());
        let rest = self.0.slice(start..);
        Ok(Box::pin(futures_util::stream::once(std::future::ready(
            Ok(rest),
        ))))
    }
}

/// How a blob came to be at its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobPut {
    /// Shared with another repository of the same place; nothing was sent.
    Mounted,
    /// Its content was sent.
    Uploaded,
}

/// Returns whether `other` is below what `repository` is directly below.
fn beside(repository: &Repository, other: &Repository) -> bool {
    match (repository, other) {
        (
            Repository::Remote { host, path },
            Repository::Remote {
                host: other_host,
                path: other_path,
            },
        ) => {
            let parent = path.as_str().rsplit_once('/').map(|(parent, _)| parent);
            host == other_host
                && parent.is_none_or(|parent| {
                    other_path
                        .as_str()
                        .strip_prefix(parent)
                        .is_some_and(|rest| rest.starts_with('/'))
                })
        }
        (Repository::Layout { directory }, Repository::Layout { directory: other }) => directory
            .parent()
            .is_some_and(|parent| other != parent && other.starts_with(parent)),
        _ => false,
    }
}
