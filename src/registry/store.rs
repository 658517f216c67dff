//! The traits of image stores, and the values that they exchange.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;

use super::blob::{BlobContent, BlobPut, BlobStream};
use crate::error::{ItemError, ItemErrorKind};
use crate::model::{Descriptor, Digest, Host, Manifest, Reference, Repository, Tag};

/// A store that images can be read from.
///
/// Content that is absent is `None`; an error means that the store could not answer.
#[async_trait]
pub trait ImageSource: Send + Sync {
    /// Returns the tags of `repository` in no particular order, or `None` if there is no such
    /// repository.
    ///
    /// A listing that breaks off is an error, never a shorter list.
    async fn tags(&self, repository: &Repository) -> Result<Option<Vec<ListedTag>>, ItemError>;

    /// Returns the tags of `repository` like [`tags`](ImageSource::tags), and proves that these are
    /// all.
    ///
    /// Costs one more request. Call it before deletions that would also affect tags that are not
    /// listed.
    async fn proved_tags(&self, repository: &Repository) -> Result<Option<ProvedTags>, ItemError> {
        let tags = self.tags(repository).await?;
        Ok(tags.map(|tags| ProvedTags { tags, doubt: None }))
    }

    /// Returns the tags of `repository` with their push dates, or `None` if the store does not
    /// report these.
    ///
    /// Costs more requests than [`tags`](ImageSource::tags), and replaces that listing.
    async fn push_dates(
        &self,
        _repository: &Repository,
    ) -> Result<Option<Vec<ListedTag>>, ItemError> {
        Ok(None)
    }

    /// Returns the tags of `repository`, with push dates if the store reports them, or `None` if
    /// there is no such repository.
    ///
    /// Costs more requests than [`tags`](ImageSource::tags).
    async fn dated_tags(
        &self,
        repository: &Repository,
    ) -> Result<Option<Vec<ListedTag>>, ItemError> {
        match self.push_dates(repository).await? {
            Some(tags) => Ok(Some(tags)),
            None => self.tags(repository).await,
        }
    }

    /// Returns the time at which a manifest was stored last, or `None` if the store does not report
    /// it.
    async fn stored_at(
        &self,
        _repository: &Repository,
        _digest: &Digest,
    ) -> Result<Option<DateTime<Utc>>, ItemError> {
        Ok(None)
    }

    /// Returns the manifests without a tag that the store lists, also those that an index lists;
    /// `None` if it does not list such manifests.
    async fn untagged_manifests(
        &self,
        _repository: &Repository,
    ) -> Result<Option<Vec<UntaggedManifest>>, ItemError> {
        Ok(None)
    }

    /// Returns the number of requests that this run has sent.
    fn requests(&self) -> u64 {
        0
    }

    /// Returns how far the clock of each host is ahead of this machine's, by the last response of
    /// the host.
    fn clock_offsets(&self) -> Vec<(Host, TimeDelta)> {
        Vec::new()
    }

    /// Returns whether the store distinguishes upper and lower case in tags.
    ///
    /// `listed` are the tags of `repository` as the store lists them; none if it does not list
    /// them. Costs at most two requests, once for each host.
    async fn tag_case(
        &self,
        _repository: &Repository,
        _listed: &BTreeSet<Tag>,
    ) -> Result<TagCase, ItemError> {
        Ok(TagCase::Sensitive)
    }

    /// Returns the digest that a reference names, or `None` if it is absent.
    ///
    /// Avoids reading the manifest: on a registry this is a HEAD, which does not count as a pull.
    async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Resolved>, ItemError>;

    /// Returns a manifest, or `None` if it is absent. A manifest that is read by digest is
    /// verified.
    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Manifest>, ItemError>;

    /// Returns the content of a blob from `from_offset` (in bytes) to its end.
    ///
    /// The stream is not verified. Callers that keep the content verify it with
    /// [`verified`](super::verified).
    async fn blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        from_offset: u64,
    ) -> Result<BlobStream, ItemError>;

    /// Returns true if `repository` has the blob, with the size of `descriptor`.
    async fn has_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<bool, ItemError>;

    /// Returns true if the first byte of the blob can be read, and its size is that of
    /// `descriptor` as far as the store reports it.
    ///
    /// Unlike [`has_blob`](ImageSource::has_blob), the answer never comes from a cache of
    /// descriptors. Reads one byte only, also from stores that do not support ranges.
    async fn can_read_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<bool, ItemError> {
        if !self.has_blob(repository, descriptor).await? {
            return Ok(false);
        }
        let mut content = match self.blob(repository, descriptor, 0).await {
            Ok(content) => content,
            Err(error) if error.kind == ItemErrorKind::Absent => return Ok(false),
            Err(error) => return Err(error),
        };
        while let Some(chunk) = content.next().await {
            if !chunk?.is_empty() {
                return Ok(true);
            }
        }
        Ok(descriptor.size == 0)
    }

    /// Returns the manifests that have `subject` as their subject, as far as the store lists them.
    async fn referrers(
        &self,
        _repository: &Repository,
        _subject: &Digest,
    ) -> Result<Referrers, ItemError> {
        Ok(Referrers::NotListed)
    }

    /// Returns the repositories below the parent path of `repository`, at any depth and in no
    /// particular order, or `None` if the store does not list repositories.
    ///
    /// For `registry/bases/alpine` these are all repositories below `registry/bases`, even if
    /// `alpine` itself does not exist.
    async fn sibling_repositories(
        &self,
        _repository: &Repository,
    ) -> Result<Option<Vec<Repository>>, ItemError> {
        Ok(None)
    }
}

/// A store that images can also be written to.
#[async_trait]
pub trait ImageStore: ImageSource {
    /// Makes the blob part of `repository`.
    ///
    /// The blob is mounted from the repository `mount_from` of the same store if that works, else
    /// it is read from `content`. Nothing is stored if size or digest differ from the descriptor,
    /// or if the future is dropped.
    async fn put_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        content: &dyn BlobContent,
        mount_from: Option<&Repository>,
    ) -> Result<BlobPut, ItemError>;

    /// Like [`has_blob`](ImageSource::has_blob), but also protects the blob from
    /// [`sweep`](ImageStore::sweep) for one hour.
    ///
    /// Call it before storing a manifest that references the blob.
    async fn claim_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<bool, ItemError> {
        self.has_blob(repository, descriptor).await
    }

    /// Stores the exact bytes of a manifest under `reference`. Everything it references must be
    /// there already. A tag moves in one step.
    async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<(), ItemError>;

    /// Returns true if the manifest is there, and protects it and everything it references from
    /// [`sweep`](ImageStore::sweep) for one hour.
    ///
    /// Call it before storing an index that references the manifest, or tagging it.
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

    /// Returns what the store can delete.
    ///
    /// To find out, a registry is sent the deletion of something that cannot exist, at most once in
    /// a run.
    async fn deletions(&self, repository: &Repository) -> Result<DeletionSupport, ItemError>;

    /// Deletes a tag, but not its manifest nor other tags of that manifest.
    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<Deletion, ItemError>;

    /// Deletes a manifest.
    ///
    /// A registry deletes all tags of the manifest with it; a layout keeps a manifest that has a
    /// name. Content that the manifest references stays, and so do manifests that reference it.
    async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Deletion, ItemError>;

    /// Removes content that nothing references and that was not stored or claimed within the last
    /// hour.
    ///
    /// The content in `keep` stays.
    async fn sweep(
        &self,
        _repository: &Repository,
        _keep: &SweepKeep,
    ) -> Result<SweepResult, ItemError> {
        Ok(SweepResult::LeftToRegistry)
    }

    /// Waits for a short time until the store has cleaned up after aborted writes. Called when a
    /// run ends early.
    async fn settle(&self) {}
}

/// Content that [`ImageStore::sweep`] does not remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepKeep {
    /// Manifests that stay like manifests with a tag, with everything that they reference.
    pub manifests: BTreeSet<Digest>,
    /// Single files that stay.
    pub files: BTreeSet<Digest>,
}

/// Target of a reference. It has no media type or size, because not every registry reports these
/// without a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub digest: Digest,
}

impl From<Digest> for Resolved {
    fn from(digest: Digest) -> Resolved {
        Resolved { digest }
    }
}

/// A tag in a listing, with the facts that the listing has about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTag {
    pub tag: Tag,
    /// Time of the push, if the store reports it. Never the creation time of the image.
    pub pushed_at: Option<DateTime<Utc>>,
    pub digest: Option<Digest>,
    /// True if only a full reference has the tag: an OCI layout can name an image
    /// `docker.io/library/alpine:3.20`. The image can be read by the tag, but the name is not a tag
    /// of this repository and is not deleted as one.
    pub is_reference: bool,
}

impl ListedTag {
    /// Returns a tag of which only the name is known.
    pub fn named(tag: Tag) -> ListedTag {
        ListedTag {
            tag,
            pushed_at: None,
            digest: None,
            is_reference: false,
        }
    }
}

/// A tag listing whose end was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProvedTags {
    pub tags: Vec<ListedTag>,
    /// Reason why there may be more tags; `None` if these are all.
    pub doubt: Option<String>,
}

/// Treatment of upper and lower case in tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TagCase {
    #[default]
    Sensitive,
    /// Tags are stored in lower case and found in any case.
    Insensitive,
}

impl TagCase {
    /// Returns a tag as the store lists it.
    #[must_use]
    pub fn stored(self, tag: &Tag) -> Tag {
        match self {
            TagCase::Sensitive => tag.clone(),
            TagCase::Insensitive => tag.lower_case(),
        }
    }
}

/// Manifests that have a certain subject (distribution specification, "Listing Referrers").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Referrers {
    /// The complete list.
    Listed(Vec<Descriptor>),
    /// Referrers that a store without lists has found. Clients may list more, under a tag.
    Partial(Vec<Descriptor>),
    /// The store keeps no lists. Clients then list referrers in an index under the tag that
    /// [`Tag::of_referrers`] returns.
    NotListed,
}

/// Kinds of deletion that a store supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletionSupport {
    pub tags: Support,
    pub manifests: Support,
}

impl DeletionSupport {
    pub const ALL: DeletionSupport = DeletionSupport {
        tags: Support::Supported,
        manifests: Support::Supported,
    };
    pub const UNKNOWN: DeletionSupport = DeletionSupport {
        tags: Support::Unknown,
        manifests: Support::Unknown,
    };
}

/// Support of a store for one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Support {
    Supported,
    Unsupported,
    /// Not tried yet.
    #[default]
    Unknown,
}

/// A manifest that has no tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UntaggedManifest {
    pub digest: Digest,
    /// Time of its last push; `None` if it is unknown.
    pub pushed_at: Option<DateTime<Utc>>,
}

/// Result of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Deletion {
    Deleted,
    NotFound,
    /// The manifest still has a name in its layout and was not deleted.
    StillNamed,
    /// The store does not support this kind of deletion; nothing changed. Later deletions of this
    /// kind send no request.
    Unsupported,
}

/// Result of removing content that nothing references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepResult {
    Swept {
        files: usize,
        bytes: u64,
    },
    /// Another process is writing to the repository; nothing was removed.
    Busy,
    /// Registries collect their garbage themselves, if their operator enables it.
    LeftToRegistry,
}

/// Returns true if `other` is below the parent path of `repository`.
pub(super) fn are_siblings(repository: &Repository, other: &Repository) -> bool {
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
