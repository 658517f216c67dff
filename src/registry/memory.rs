//! A place in memory: what a strict registry does, without one. For tests; it counts what it is
//! asked, and fails on demand.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    Ability, BlobPut, BlobStream, Deletion, Deletions, ImageSource, ImageStore, ImageStores,
    Referrers, Reopen, Resolved, Swept, TagSeen, beside, verified,
};
use crate::error::{ItemError, ItemErrorKind};
use crate::model::lock::lock;
use crate::model::{Descriptor, Digest, Manifest, ManifestContent, Reference, Repository, Tag};

/// How much of a blob is handed out at a time, in bytes.
const PIECE: usize = 16 * 1024;

/// What a place can be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Tags,
    PushDates,
    Resolve,
    Manifest,
    Blob,
    Referrers,
    HasBlob,
    PutBlob,
    PutManifest,
    Repositories,
    Deletions,
    DeleteTag,
    DeleteManifest,
    Sweep,
}

/// One request to the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub operation: Operation,
    pub repository: Repository,
    /// The tag or digest that was named; empty for a listing.
    pub subject: String,
    /// Where reading a blob begins, in bytes.
    pub from_offset: u64,
    /// The repository that a blob may be shared from.
    pub mount_from: Option<Repository>,
}

/// How a call is made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails at once.
    Error(ItemErrorKind),
    /// The stream of a blob breaks after so many bytes of it. No fault for other operations.
    BreakAfter(usize),
}

/// Whether an index may be put whose children are not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SparseIndexes {
    #[default]
    Refused,
    Allowed,
}

/// Repositories in memory. All of them share blobs when asked to.
pub struct MemoryPlace {
    sparse_indexes: SparseIndexes,
    deletions: Deletions,
    lists_referrers: bool,
    repositories: Mutex<HashMap<Repository, Contents>>,
    calls: Mutex<Vec<Call>>,
    hook: Mutex<Option<Hook>>,
    delay: Mutex<Option<Delay>>,
}

type Hook = Box<dyn Fn(&Call) -> Option<Fault> + Send + Sync>;

type Delay = Box<dyn Fn(&Call) -> BoxFuture<'static, ()> + Send + Sync>;

#[derive(Default)]
struct Contents {
    blobs: HashMap<Digest, Bytes>,
    manifests: HashMap<Digest, Manifest>,
    tags: BTreeMap<Tag, Digest>,
    pushed: BTreeMap<Tag, DateTime<Utc>>,
}

impl Default for MemoryPlace {
    fn default() -> MemoryPlace {
        MemoryPlace {
            sparse_indexes: SparseIndexes::default(),
            deletions: Deletions::ALL,
            lists_referrers: false,
            repositories: Mutex::default(),
            calls: Mutex::default(),
            hook: Mutex::default(),
            delay: Mutex::default(),
        }
    }
}

impl MemoryPlace {
    pub fn new(sparse_indexes: SparseIndexes) -> MemoryPlace {
        MemoryPlace {
            sparse_indexes,
            ..MemoryPlace::default()
        }
    }

    /// Returns stores in which this store holds every repository.
    pub fn stores(self: &Arc<Self>) -> ImageStores {
        ImageStores::single(self.clone())
    }

    /// Returns the place as one that deletes only this.
    #[must_use]
    pub fn deleting(self, deletions: Deletions) -> MemoryPlace {
        MemoryPlace { deletions, ..self }
    }

    /// Returns the place as one that lists what refers to a manifest.
    #[must_use]
    pub fn listing_referrers(self) -> MemoryPlace {
        MemoryPlace {
            lists_referrers: true,
            ..self
        }
    }

    /// Asks `hook` before each call whether it is to fail. Replaces an earlier hook.
    pub fn fail_when(&self, hook: impl Fn(&Call) -> Option<Fault> + Send + Sync + 'static) {
        *lock(&self.hook) = Some(Box::new(hook));
    }

    /// Waits before each call for the future that `delay` returns. Replaces an earlier delay.
    pub fn delay_by(
        &self,
        delay: impl Fn(&Call) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) {
        *lock(&self.delay) = Some(Box::new(delay));
    }

    /// Returns the calls so far, those that failed included, in their order.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }

    /// Returns how many calls of a kind there were so far.
    pub fn count(&self, operation: Operation) -> usize {
        lock(&self.calls)
            .iter()
            .filter(|call| call.operation == operation)
            .count()
    }

    /// Forgets the calls so far.
    pub fn clear_calls(&self) {
        lock(&self.calls).clear();
    }

    /// Removes a blob, as a registry loses one. Returns whether it was there.
    pub fn lose_blob(&self, repository: &Repository, digest: &Digest) -> bool {
        lock(&self.repositories)
            .get_mut(repository)
            .is_some_and(|contents| contents.blobs.remove(digest).is_some())
    }

    /// Sets when a tag was pushed. A place tells push dates of the repositories that have one.
    pub fn date_tag(&self, repository: &Repository, tag: &Tag, pushed_at: DateTime<Utc>) {
        lock(&self.repositories)
            .entry(repository.clone())
            .or_default()
            .pushed
            .insert(tag.clone(), pushed_at);
    }

    /// Lets a tag name a manifest, as somebody else does between two calls.
    pub fn move_tag(&self, repository: &Repository, tag: &Tag, digest: &Digest) {
        lock(&self.repositories)
            .entry(repository.clone())
            .or_default()
            .tags
            .insert(tag.clone(), digest.clone());
    }

    /// Removes a tag and leaves what it named, as somebody else does between two calls.
    pub fn forget_tag(&self, repository: &Repository, tag: &Tag) {
        lock(&self.repositories)
            .entry(repository.clone())
            .or_default()
            .tags
            .remove(tag);
    }

    /// Removes a manifest and leaves tags and indexes that name it. Returns whether it was there.
    pub fn lose_manifest(&self, repository: &Repository, digest: &Digest) -> bool {
        lock(&self.repositories)
            .get_mut(repository)
            .is_some_and(|contents| contents.manifests.remove(digest).is_some())
    }

    /// Takes down a call, and returns the fault that is wanted for it, if it is not an error at
    /// once.
    async fn called(&self, call: Call) -> Result<Option<usize>, ItemError> {
        let delay = lock(&self.delay).as_ref().map(|delay| delay(&call));
        if let Some(delay) = delay {
            delay.await;
        }
        let fault = lock(&self.hook).as_ref().and_then(|hook| hook(&call));
        let result = match fault {
            Some(Fault::Error(kind)) => Err(failure(&call, kind, "as the test wants")),
            Some(Fault::BreakAfter(bytes)) => Ok(Some(bytes)),
            None => Ok(None),
        };
        lock(&self.calls).push(call);
        result
    }

    /// Deletes by `delete`, which returns whether there was something to delete, if the place has
    /// that ability.
    fn delete(
        &self,
        ability: Ability,
        repository: &Repository,
        delete: impl FnOnce(&mut Contents) -> bool,
    ) -> Deletion {
        if ability != Ability::Present {
            return Deletion::Unsupported;
        }
        if lock(&self.repositories)
            .get_mut(repository)
            .is_some_and(delete)
        {
            Deletion::Done
        } else {
            Deletion::WasAbsent
        }
    }

    fn read<T>(
        &self,
        repository: &Repository,
        read: impl FnOnce(&Contents) -> Option<T>,
    ) -> Option<T> {
        lock(&self.repositories).get(repository).and_then(read)
    }
}

impl Call {
    fn new(operation: Operation, repository: &Repository, subject: &impl ToString) -> Call {
        Call {
            operation,
            repository: repository.clone(),
            subject: subject.to_string(),
            from_offset: 0,
            mount_from: None,
        }
    }
}

fn failure(call: &Call, kind: ItemErrorKind, detail: impl Into<String>) -> ItemError {
    let action = match call.operation {
        Operation::Tags => "list tags",
        Operation::PushDates => "list tags with their dates",
        Operation::Resolve => "resolve",
        Operation::Manifest => "read manifest",
        Operation::Blob => "read blob",
        Operation::Referrers => "list referrers of",
        Operation::HasBlob => "look for blob",
        Operation::PutBlob => "write blob",
        Operation::PutManifest => "write manifest",
        Operation::Repositories => "list repositories",
        Operation::Deletions => "ask what is deleted",
        Operation::DeleteTag => "delete tag",
        Operation::DeleteManifest => "delete manifest",
        Operation::Sweep => "remove what nothing refers to",
    };
    ItemError::at(
        &call.repository,
        format!("{action} {}", call.subject).trim_end(),
        kind,
        detail,
    )
}

impl Contents {
    /// Returns the tags with what is known of them, when push dates are.
    fn dated(&self) -> Option<Vec<TagSeen>> {
        let seen = |(tag, digest): (&Tag, &Digest)| TagSeen {
            tag: tag.clone(),
            pushed_at: self.pushed.get(tag).copied(),
            digest: Some(digest.clone()),
        };
        (!self.pushed.is_empty()).then(|| self.tags.iter().map(seen).collect())
    }

    fn manifest(&self, reference: &Reference) -> Option<Manifest> {
        let digest = match reference {
            Reference::Tag(tag) => self.tags.get(tag)?,
            Reference::Digest(digest) => digest,
        };
        self.manifests.get(digest).cloned()
    }

    /// Returns what `manifest` refers to and is not here.
    fn missing<'a>(
        &self,
        manifest: &'a Manifest,
        sparse_indexes: SparseIndexes,
    ) -> Option<&'a Digest> {
        match &manifest.content {
            ManifestContent::Index { .. } if sparse_indexes == SparseIndexes::Allowed => None,
            ManifestContent::Index { children } => children
                .iter()
                .map(|child| &child.digest)
                .find(|digest| !self.manifests.contains_key(digest)),
            ManifestContent::Image { .. } => manifest
                .blobs()
                .into_iter()
                .filter(|blob| !blob.is_foreign_layer() && blob.urls.is_empty())
                .map(|blob| &blob.digest)
                .find(|digest| !self.blobs.contains_key(digest)),
        }
    }
}

#[async_trait]
impl ImageSource for MemoryPlace {
    async fn tags(&self, repository: &Repository) -> Result<Option<Vec<TagSeen>>, ItemError> {
        self.called(Call::new(Operation::Tags, repository, &""))
            .await?;
        Ok(self.read(repository, |contents| {
            Some(contents.tags.keys().cloned().map(TagSeen::named).collect())
        }))
    }

    async fn push_dates(&self, repository: &Repository) -> Result<Option<Vec<TagSeen>>, ItemError> {
        self.called(Call::new(Operation::PushDates, repository, &""))
            .await?;
        Ok(self.read(repository, Contents::dated))
    }

    async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Resolved>, ItemError> {
        self.called(Call::new(Operation::Resolve, repository, reference))
            .await?;
        Ok(self
            .read(repository, |contents| contents.manifest(reference))
            .map(|manifest| manifest.digest.into()))
    }

    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Manifest>, ItemError> {
        self.called(Call::new(Operation::Manifest, repository, reference))
            .await?;
        Ok(self.read(repository, |contents| contents.manifest(reference)))
    }

    async fn blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        from_offset: u64,
    ) -> Result<BlobStream, ItemError> {
        let call = Call {
            from_offset,
            ..Call::new(Operation::Blob, repository, &descriptor.digest)
        };
        let broken = failure(
            &call,
            ItemErrorKind::Unreachable,
            "the connection broke, as the test wants",
        );
        let absent = failure(&call, ItemErrorKind::Absent, "it is not there");
        let break_after = self.called(call).await?;
        let content = self
            .read(repository, |contents| {
                contents.blobs.get(&descriptor.digest).cloned()
            })
            .ok_or(absent)?;
        let start = usize::try_from(from_offset)
            .unwrap_or(usize::MAX)
            .min(content.len());
        let mut rest = content.slice(start..);
        if let Some(length) = break_after {
            rest.truncate(length);
        }
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            pieces.push(Ok(rest.split_to(PIECE.min(rest.len()))));
        }
        pieces.extend(break_after.map(|_| Err(broken)));
        Ok(stream::iter(pieces).boxed())
    }

    async fn has_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<bool, ItemError> {
        self.called(Call::new(
            Operation::HasBlob,
            repository,
            &descriptor.digest,
        ))
        .await?;
        Ok(self
            .read(repository, |contents| {
                contents.blobs.get(&descriptor.digest).map(Bytes::len)
            })
            .map(|size| size as u64)
            == Some(descriptor.size))
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Referrers, ItemError> {
        self.called(Call::new(Operation::Referrers, repository, subject))
            .await?;
        if !self.lists_referrers {
            return Ok(Referrers::NotListed);
        }
        let listed = self.read(repository, |contents| {
            let refers = |manifest: &&Manifest| {
                manifest
                    .subject
                    .as_ref()
                    .is_some_and(|found| found.digest == *subject)
            };
            let mut listed: Vec<Descriptor> = contents
                .manifests
                .values()
                .filter(refers)
                .map(Manifest::referrer)
                .collect();
            listed.sort_by(|one, other| one.digest.cmp(&other.digest));
            Some(listed)
        });
        Ok(Referrers::Listed(listed.unwrap_or_default()))
    }

    async fn repositories_beside(
        &self,
        repository: &Repository,
    ) -> Result<Option<Vec<Repository>>, ItemError> {
        self.called(Call::new(Operation::Repositories, repository, &""))
            .await?;
        let mut found: Vec<Repository> = lock(&self.repositories)
            .keys()
            .filter(|other| beside(repository, other))
            .cloned()
            .collect();
        found.sort();
        Ok(Some(found))
    }
}

#[async_trait]
impl ImageStore for MemoryPlace {
    async fn put_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        content: &dyn Reopen,
        mount_from: Option<&Repository>,
    ) -> Result<BlobPut, ItemError> {
        let call = Call {
            mount_from: mount_from.cloned(),
            ..Call::new(Operation::PutBlob, repository, &descriptor.digest)
        };
        self.called(call).await?;
        let shared = mount_from.and_then(|from| {
            self.read(from, |contents| {
                contents.blobs.get(&descriptor.digest).cloned()
            })
        });
        let (content, put) = if let Some(content) = shared {
            (content, BlobPut::Mounted)
        } else {
            let content = verified(content.open(0).await?, descriptor, repository.to_string());
            let content: BytesMut = content.try_collect().await?;
            (content.freeze(), BlobPut::Uploaded)
        };
        lock(&self.repositories)
            .entry(repository.clone())
            .or_default()
            .blobs
            .insert(descriptor.digest.clone(), content);
        Ok(put)
    }

    async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<(), ItemError> {
        let call = Call::new(Operation::PutManifest, repository, reference);
        let refused = |detail: String| failure(&call, ItemErrorKind::Refused, detail);
        self.called(call.clone()).await?;
        if Digest::of(manifest.digest.algorithm(), &manifest.bytes) != manifest.digest {
            return Err(failure(
                &call,
                ItemErrorKind::Corrupt,
                "its content has another digest",
            ));
        }
        if let Reference::Digest(digest) = reference
            && *digest != manifest.digest
        {
            return Err(refused(format!(
                "the manifest has the digest {}",
                manifest.digest
            )));
        }
        let mut repositories = lock(&self.repositories);
        let nothing = Contents::default();
        if let Some(digest) = repositories
            .get(repository)
            .unwrap_or(&nothing)
            .missing(manifest, self.sparse_indexes)
        {
            return Err(refused(format!(
                "{digest}, which it refers to, is not there"
            )));
        }
        let contents = repositories.entry(repository.clone()).or_default();
        contents
            .manifests
            .insert(manifest.digest.clone(), manifest.clone());
        if let Reference::Tag(tag) = reference {
            contents.tags.insert(tag.clone(), manifest.digest.clone());
        }
        Ok(())
    }

    async fn deletions(&self, repository: &Repository) -> Result<Deletions, ItemError> {
        self.called(Call::new(Operation::Deletions, repository, &""))
            .await?;
        Ok(self.deletions)
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<Deletion, ItemError> {
        self.called(Call::new(Operation::DeleteTag, repository, tag))
            .await?;
        Ok(self.delete(self.deletions.tags, repository, |contents| {
            contents.pushed.remove(tag);
            contents.tags.remove(tag).is_some()
        }))
    }

    async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Deletion, ItemError> {
        self.called(Call::new(Operation::DeleteManifest, repository, digest))
            .await?;
        Ok(
            self.delete(self.deletions.manifests, repository, |contents| {
                contents.tags.retain(|_, named| named != digest);
                contents
                    .pushed
                    .retain(|tag, _| contents.tags.contains_key(tag));
                contents.manifests.remove(digest).is_some()
            }),
        )
    }

    async fn sweep(
        &self,
        repository: &Repository,
        _: &BTreeSet<Digest>,
    ) -> Result<Swept, ItemError> {
        self.called(Call::new(Operation::Sweep, repository, &""))
            .await?;
        Ok(Swept::ByItself)
    }
}
