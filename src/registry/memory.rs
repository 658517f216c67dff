//! A store in memory for tests. It behaves like a strict registry, records its calls, and fails on
//! demand.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::blob::{BlobContent, BlobPut, BlobStream};
use super::store::{
    Deletion, DeletionSupport, ImageSource, ImageStore, ListedTag, ProvedTags, Referrers, Resolved,
    Support, SweepKeep, SweepResult, TagCase, UntaggedManifest, are_siblings,
};
use super::stores::ImageStores;
use super::verify::verified;
use crate::error::{ItemError, ItemErrorKind};
use crate::model::lock::lock;
use crate::model::{
    Descriptor, Digest, Host, Manifest, ManifestContent, Reference, Repository, Tag,
};

/// Size of the chunks of a blob, in bytes.
const CHUNK_SIZE: usize = 16 * 1024;

/// Operation of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreOperation {
    Tags,
    PushDates,
    Untagged,
    TagCase,
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

/// One call of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageStoreCall {
    pub operation: StoreOperation,
    pub repository: Repository,
    /// Tag or digest of the call; empty for a listing.
    pub subject: String,
    /// Offset at which a blob is read, in bytes.
    pub from_offset: u64,
    /// Repository that a blob may be mounted from.
    pub mount_from: Option<Repository>,
}

/// Fault of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// The call fails.
    Error(ItemErrorKind),
    /// The stream of a blob breaks after this number of bytes. No effect on other operations.
    BreakAfter(usize),
}

/// Treatment of an index whose children are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SparseIndexes {
    #[default]
    Refused,
    Allowed,
}

/// Repositories in memory. Blobs can be mounted between any of them.
pub struct MemoryStore {
    sparse_indexes: SparseIndexes,
    deletions: DeletionSupport,
    lists_referrers: bool,
    clock_offsets: Mutex<Vec<(Host, TimeDelta)>>,
    tag_case: TagCase,
    repositories: Mutex<HashMap<Repository, MemoryRepository>>,
    /// Blobs that are reported and cannot be read.
    unreadable: Mutex<BTreeSet<(Repository, Digest)>>,
    /// Tags that exist and are not listed.
    unlisted: Mutex<BTreeSet<(Repository, Tag)>>,
    /// Reason why every listing may be incomplete.
    doubt: Mutex<Option<String>>,
    /// Push date of manifests without a tag; `None` if they are not listed.
    untagged_since: Mutex<Option<DateTime<Utc>>>,
    calls: Mutex<Vec<ImageStoreCall>>,
    hook: Mutex<Option<FaultHook>>,
    delay: Mutex<Option<DelayHook>>,
}

type FaultHook = Box<dyn Fn(&ImageStoreCall) -> Option<StoreFault> + Send + Sync>;

type DelayHook = Box<dyn Fn(&ImageStoreCall) -> BoxFuture<'static, ()> + Send + Sync>;

#[derive(Default)]
struct MemoryRepository {
    blobs: HashMap<Digest, Bytes>,
    manifests: HashMap<Digest, Manifest>,
    tags: BTreeMap<Tag, Digest>,
    pushed: BTreeMap<Tag, DateTime<Utc>>,
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore {
            sparse_indexes: SparseIndexes::default(),
            deletions: DeletionSupport::ALL,
            lists_referrers: false,
            clock_offsets: Mutex::default(),
            tag_case: TagCase::default(),
            repositories: Mutex::default(),
            unreadable: Mutex::default(),
            unlisted: Mutex::default(),
            doubt: Mutex::default(),
            untagged_since: Mutex::default(),
            calls: Mutex::default(),
            hook: Mutex::default(),
            delay: Mutex::default(),
        }
    }
}

impl MemoryStore {
    pub fn new(sparse_indexes: SparseIndexes) -> MemoryStore {
        MemoryStore {
            sparse_indexes,
            ..MemoryStore::default()
        }
    }

    /// Returns stores in which this store holds every repository.
    pub fn stores(self: &Arc<Self>) -> ImageStores {
        ImageStores::single(self.clone())
    }

    /// Returns the store with support for only these deletions.
    #[must_use]
    pub fn deleting(self, deletions: DeletionSupport) -> MemoryStore {
        MemoryStore { deletions, ..self }
    }

    /// Returns the store with a listing of referrers.
    #[must_use]
    pub fn listing_referrers(self) -> MemoryStore {
        MemoryStore {
            lists_referrers: true,
            ..self
        }
    }

    /// Lists manifests without a tag, as pushed at this time.
    pub fn list_untagged(&self, pushed_at: DateTime<Utc>) {
        *lock(&self.untagged_since) = Some(pushed_at);
    }

    /// Sets how far the clock of a host is ahead of this machine's.
    pub fn set_clock_offset(&self, host: Host, ahead: TimeDelta) {
        lock(&self.clock_offsets).push((host, ahead));
    }

    /// Returns the store with tags in lower case that are found in any case, as in Gitea.
    #[must_use]
    pub fn lowering_tags(self) -> MemoryStore {
        MemoryStore {
            tag_case: TagCase::Insensitive,
            ..self
        }
    }

    /// Returns a reference as it is stored.
    fn stored(&self, reference: &Reference) -> Reference {
        match reference {
            Reference::Tag(tag) => Reference::Tag(self.tag_case.stored(tag)),
            Reference::Digest(_) => reference.clone(),
        }
    }

    /// Makes calls fail for which `hook` returns a fault. Replaces an earlier hook.
    pub fn fail_when(
        &self,
        hook: impl Fn(&ImageStoreCall) -> Option<StoreFault> + Send + Sync + 'static,
    ) {
        *lock(&self.hook) = Some(Box::new(hook));
    }

    /// Waits before each call for the future that `delay` returns. Replaces an earlier delay.
    pub fn delay_by(
        &self,
        delay: impl Fn(&ImageStoreCall) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) {
        *lock(&self.delay) = Some(Box::new(delay));
    }

    /// Returns all calls so far in order, including failed ones.
    pub fn calls(&self) -> Vec<ImageStoreCall> {
        lock(&self.calls).clone()
    }

    /// Returns the number of calls of an operation so far.
    pub fn count(&self, operation: StoreOperation) -> usize {
        lock(&self.calls)
            .iter()
            .filter(|call| call.operation == operation)
            .count()
    }

    /// Forgets the calls so far.
    pub fn clear_calls(&self) {
        lock(&self.calls).clear();
    }

    /// Removes a blob. Returns true if it existed.
    pub fn lose_blob(&self, repository: &Repository, digest: &Digest) -> bool {
        lock(&self.repositories)
            .get_mut(repository)
            .is_some_and(|contents| contents.blobs.remove(digest).is_some())
    }

    /// Removes the content of a blob, which is still reported, until it is uploaded again.
    pub fn lose_content(&self, repository: &Repository, digest: &Digest) {
        lock(&self.unreadable).insert((repository.clone(), digest.clone()));
    }

    /// Sets the push date of a tag. The store reports push dates of repositories with at least one.
    pub fn date_tag(&self, repository: &Repository, tag: &Tag, pushed_at: DateTime<Utc>) {
        lock(&self.repositories)
            .entry(repository.clone())
            .or_default()
            .pushed
            .insert(tag.clone(), pushed_at);
    }

    /// Leaves a tag out of listings, like a registry that truncates them.
    pub fn hide_tag(&self, repository: &Repository, tag: &Tag) {
        lock(&self.unlisted).insert((repository.clone(), tag.clone()));
    }

    /// Sets the reason why every listing may be incomplete.
    pub fn doubt_listings(&self, doubt: Option<&str>) {
        *lock(&self.doubt) = doubt.map(str::to_owned);
    }

    /// Moves a tag to a manifest, like another client between two calls.
    pub fn move_tag(&self, repository: &Repository, tag: &Tag, digest: &Digest) {
        lock(&self.repositories)
            .entry(repository.clone())
            .or_default()
            .tags
            .insert(tag.clone(), digest.clone());
    }

    /// Removes a tag but not its manifest, like another client between two calls.
    pub fn forget_tag(&self, repository: &Repository, tag: &Tag) {
        lock(&self.repositories)
            .entry(repository.clone())
            .or_default()
            .tags
            .remove(tag);
    }

    /// Removes the manifest of a tag and all of its tags, like a registry that deletes the whole
    /// image when one tag is deleted.
    pub fn lose_image(&self, repository: &Repository, tag: &Tag) {
        let mut repositories = lock(&self.repositories);
        let contents = repositories.entry(repository.clone()).or_default();
        if let Some(digest) = contents.tags.get(tag).cloned() {
            contents
                .tags
                .retain(|other, named| *named != digest || other == tag);
            contents.manifests.remove(&digest);
        }
    }

    /// Removes a manifest but not its tags and parent indexes. Returns true if it existed.
    pub fn lose_manifest(&self, repository: &Repository, digest: &Digest) -> bool {
        lock(&self.repositories)
            .get_mut(repository)
            .is_some_and(|contents| contents.manifests.remove(digest).is_some())
    }

    /// Records a call. Returns the number of bytes after which its stream breaks, if the test set
    /// such a fault. Fails if the test set an error.
    async fn called(&self, call: ImageStoreCall) -> Result<Option<usize>, ItemError> {
        let delay = lock(&self.delay).as_ref().map(|delay| delay(&call));
        if let Some(delay) = delay {
            delay.await;
        }
        let fault = lock(&self.hook).as_ref().and_then(|hook| hook(&call));
        let result = match fault {
            Some(StoreFault::Error(kind)) => Err(failure(&call, kind, "as the test wants")),
            Some(StoreFault::BreakAfter(bytes)) => Ok(Some(bytes)),
            None => Ok(None),
        };
        lock(&self.calls).push(call);
        result
    }

    /// Deletes an object by calling `delete`, if `support` permits that. `delete` returns true if
    /// the object existed.
    fn delete(
        &self,
        support: Support,
        repository: &Repository,
        delete: impl FnOnce(&mut MemoryRepository) -> bool,
    ) -> Deletion {
        if support != Support::Supported {
            return Deletion::Unsupported;
        }
        if lock(&self.repositories)
            .get_mut(repository)
            .is_some_and(delete)
        {
            Deletion::Deleted
        } else {
            Deletion::NotFound
        }
    }

    /// Returns the tags without those that are not listed.
    fn listed(&self, repository: &Repository, tags: Vec<ListedTag>) -> Vec<ListedTag> {
        let unlisted = lock(&self.unlisted);
        let is_listed =
            |listed: &ListedTag| !unlisted.contains(&(repository.clone(), listed.tag.clone()));
        tags.into_iter().filter(is_listed).collect()
    }

    fn read<T>(
        &self,
        repository: &Repository,
        read: impl FnOnce(&MemoryRepository) -> Option<T>,
    ) -> Option<T> {
        lock(&self.repositories).get(repository).and_then(read)
    }
}

impl ImageStoreCall {
    fn new(
        operation: StoreOperation,
        repository: &Repository,
        subject: &impl ToString,
    ) -> ImageStoreCall {
        ImageStoreCall {
            operation,
            repository: repository.clone(),
            subject: subject.to_string(),
            from_offset: 0,
            mount_from: None,
        }
    }
}

fn failure(call: &ImageStoreCall, kind: ItemErrorKind, detail: impl Into<String>) -> ItemError {
    let action = match call.operation {
        StoreOperation::Tags => "list tags",
        StoreOperation::PushDates => "list tags with their dates",
        StoreOperation::Untagged => "list untagged manifests",
        StoreOperation::TagCase => "find out how tags are compared in",
        StoreOperation::Resolve => "resolve",
        StoreOperation::Manifest => "read manifest",
        StoreOperation::Blob => "read blob",
        StoreOperation::Referrers => "list referrers of",
        StoreOperation::HasBlob => "find blob",
        StoreOperation::PutBlob => "write blob",
        StoreOperation::PutManifest => "write manifest",
        StoreOperation::Repositories => "list repositories",
        StoreOperation::Deletions => "find out what can be deleted",
        StoreOperation::DeleteTag => "delete tag",
        StoreOperation::DeleteManifest => "delete manifest",
        StoreOperation::Sweep => "remove unreferenced content",
    };
    ItemError::at(
        &call.repository,
        format!("{action} {}", call.subject).trim_end(),
        kind,
        detail,
    )
}

impl MemoryRepository {
    /// Returns the tags with push dates, or `None` if there are none.
    fn dated(&self) -> Option<Vec<ListedTag>> {
        let listed = |(tag, digest): (&Tag, &Digest)| ListedTag {
            pushed_at: self.pushed.get(tag).copied(),
            digest: Some(digest.clone()),
            ..ListedTag::named(tag.clone())
        };
        (!self.pushed.is_empty()).then(|| self.tags.iter().map(listed).collect())
    }

    fn manifest(&self, reference: &Reference) -> Option<Manifest> {
        let digest = match reference {
            Reference::Tag(tag) => self.tags.get(tag)?,
            Reference::Digest(digest) => digest,
        };
        self.manifests.get(digest).cloned()
    }

    /// Returns a digest that `manifest` references and that does not exist.
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
impl ImageSource for MemoryStore {
    async fn tags(&self, repository: &Repository) -> Result<Option<Vec<ListedTag>>, ItemError> {
        self.called(ImageStoreCall::new(StoreOperation::Tags, repository, &""))
            .await?;
        let tags = self.read(repository, |contents| {
            let tags = contents.tags.keys().cloned().map(ListedTag::named);
            Some(tags.collect::<Vec<ListedTag>>())
        });
        Ok(tags.map(|tags| self.listed(repository, tags)))
    }

    async fn proved_tags(&self, repository: &Repository) -> Result<Option<ProvedTags>, ItemError> {
        let tags = self.tags(repository).await?;
        let doubt = lock(&self.doubt).clone();
        Ok(tags.map(|tags| ProvedTags { tags, doubt }))
    }

    async fn push_dates(
        &self,
        repository: &Repository,
    ) -> Result<Option<Vec<ListedTag>>, ItemError> {
        self.called(ImageStoreCall::new(
            StoreOperation::PushDates,
            repository,
            &"",
        ))
        .await?;
        let tags = self.read(repository, MemoryRepository::dated);
        Ok(tags.map(|tags| self.listed(repository, tags)))
    }

    async fn untagged_manifests(
        &self,
        repository: &Repository,
    ) -> Result<Option<Vec<UntaggedManifest>>, ItemError> {
        let Some(pushed_at) = *lock(&self.untagged_since) else {
            return Ok(None);
        };
        self.called(ImageStoreCall::new(
            StoreOperation::Untagged,
            repository,
            &"",
        ))
        .await?;
        Ok(self.read(repository, |contents| {
            let tagged: BTreeSet<&Digest> = contents.tags.values().collect();
            let untagged = contents
                .manifests
                .keys()
                .filter(|digest| !tagged.contains(digest));
            let listed = untagged.map(|digest| UntaggedManifest {
                digest: digest.clone(),
                pushed_at: Some(pushed_at),
            });
            Some(listed.collect())
        }))
    }

    fn requests(&self) -> u64 {
        lock(&self.calls).len() as u64
    }

    fn clock_offsets(&self) -> Vec<(Host, TimeDelta)> {
        lock(&self.clock_offsets).clone()
    }

    async fn tag_case(
        &self,
        repository: &Repository,
        _listed: &BTreeSet<Tag>,
    ) -> Result<TagCase, ItemError> {
        self.called(ImageStoreCall::new(
            StoreOperation::TagCase,
            repository,
            &"",
        ))
        .await?;
        Ok(self.tag_case)
    }

    async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Resolved>, ItemError> {
        self.called(ImageStoreCall::new(
            StoreOperation::Resolve,
            repository,
            reference,
        ))
        .await?;
        Ok(self
            .read(repository, |contents| {
                contents.manifest(&self.stored(reference))
            })
            .map(|manifest| manifest.digest.into()))
    }

    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Manifest>, ItemError> {
        self.called(ImageStoreCall::new(
            StoreOperation::Manifest,
            repository,
            reference,
        ))
        .await?;
        Ok(self.read(repository, |contents| {
            contents.manifest(&self.stored(reference))
        }))
    }

    async fn blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        from_offset: u64,
    ) -> Result<BlobStream, ItemError> {
        let call = ImageStoreCall {
            from_offset,
            ..ImageStoreCall::new(StoreOperation::Blob, repository, &descriptor.digest)
        };
        let broken = failure(
            &call,
            ItemErrorKind::Unreachable,
            "the connection broke, as the test wants",
        );
        let absent = failure(&call, ItemErrorKind::Absent, "it does not exist");
        let break_after = self.called(call).await?;
        let lost = (repository.clone(), descriptor.digest.clone());
        let content = self
            .read(repository, |contents| {
                contents.blobs.get(&descriptor.digest).cloned()
            })
            .filter(|_| !lock(&self.unreadable).contains(&lost))
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
            pieces.push(Ok(rest.split_to(CHUNK_SIZE.min(rest.len()))));
        }
        pieces.extend(break_after.map(|_| Err(broken)));
        Ok(stream::iter(pieces).boxed())
    }

    async fn has_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<bool, ItemError> {
        self.called(ImageStoreCall::new(
            StoreOperation::HasBlob,
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
        self.called(ImageStoreCall::new(
            StoreOperation::Referrers,
            repository,
            subject,
        ))
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

    async fn sibling_repositories(
        &self,
        repository: &Repository,
    ) -> Result<Option<Vec<Repository>>, ItemError> {
        self.called(ImageStoreCall::new(
            StoreOperation::Repositories,
            repository,
            &"",
        ))
        .await?;
        let mut found: Vec<Repository> = lock(&self.repositories)
            .keys()
            .filter(|other| are_siblings(repository, other))
            .cloned()
            .collect();
        found.sort();
        Ok(Some(found))
    }
}

#[async_trait]
impl ImageStore for MemoryStore {
    async fn put_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        content: &dyn BlobContent,
        mount_from: Option<&Repository>,
    ) -> Result<BlobPut, ItemError> {
        let call = ImageStoreCall {
            mount_from: mount_from.cloned(),
            ..ImageStoreCall::new(StoreOperation::PutBlob, repository, &descriptor.digest)
        };
        self.called(call).await?;
        let mounted = mount_from.and_then(|from| {
            self.read(from, |contents| {
                contents.blobs.get(&descriptor.digest).cloned()
            })
        });
        let (content, put) = if let Some(content) = mounted {
            (content, BlobPut::Mounted)
        } else {
            let content = verified(content.open(0).await?, descriptor, repository.to_string());
            let content: BytesMut = content.try_collect().await?;
            lock(&self.unreadable).remove(&(repository.clone(), descriptor.digest.clone()));
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
        let call = ImageStoreCall::new(StoreOperation::PutManifest, repository, reference);
        let reference = &self.stored(reference);
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
        let empty = MemoryRepository::default();
        if let Some(digest) = repositories
            .get(repository)
            .unwrap_or(&empty)
            .missing(manifest, self.sparse_indexes)
        {
            return Err(refused(format!("the referenced {digest} does not exist")));
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

    async fn deletions(&self, repository: &Repository) -> Result<DeletionSupport, ItemError> {
        self.called(ImageStoreCall::new(
            StoreOperation::Deletions,
            repository,
            &"",
        ))
        .await?;
        Ok(self.deletions)
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<Deletion, ItemError> {
        self.called(ImageStoreCall::new(
            StoreOperation::DeleteTag,
            repository,
            tag,
        ))
        .await?;
        let tag = &self.tag_case.stored(tag);
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
        self.called(ImageStoreCall::new(
            StoreOperation::DeleteManifest,
            repository,
            digest,
        ))
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
        _: &SweepKeep,
    ) -> Result<SweepResult, ItemError> {
        self.called(ImageStoreCall::new(StoreOperation::Sweep, repository, &""))
            .await?;
        Ok(SweepResult::LeftToRegistry)
    }
}
