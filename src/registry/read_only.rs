//! A place that can only be read: every write fails, optional ones such as mounts included. What
//! runs that must change nothing are given, so that a forgotten branch is an error and not a push.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use super::{
    BlobPut, BlobStream, Deletion, Deletions, ImageSource, ImageStore, Referrers, Reopen, Resolved,
    Swept, TagSeen,
};
use crate::error::{ItemError, ItemErrorKind};
use crate::model::{Descriptor, Digest, Manifest, Reference, Repository, Tag};

/// The place inside, without its writes.
pub struct ReadOnly(Arc<dyn ImageStore>);

impl ReadOnly {
    pub fn new(place: Arc<dyn ImageStore>) -> ReadOnly {
        ReadOnly(place)
    }
}

#[async_trait]
impl ImageSource for ReadOnly {
    async fn tags(&self, repository: &Repository) -> Result<Option<Vec<TagSeen>>, ItemError> {
        self.0.tags(repository).await
    }

    async fn push_dates(&self, repository: &Repository) -> Result<Option<Vec<TagSeen>>, ItemError> {
        self.0.push_dates(repository).await
    }

    async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Resolved>, ItemError> {
        self.0.resolve(repository, reference).await
    }

    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Manifest>, ItemError> {
        self.0.manifest(repository, reference).await
    }

    async fn blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        from_offset: u64,
    ) -> Result<BlobStream, ItemError> {
        self.0.blob(repository, descriptor, from_offset).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Referrers, ItemError> {
        self.0.referrers(repository, subject).await
    }

    async fn repositories_beside(
        &self,
        repository: &Repository,
    ) -> Result<Option<Vec<Repository>>, ItemError> {
        self.0.repositories_beside(repository).await
    }
}

#[async_trait]
impl ImageStore for ReadOnly {
    async fn has_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<bool, ItemError> {
        self.0.has_blob(repository, descriptor).await
    }

    async fn put_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        _: &dyn Reopen,
        _: Option<&Repository>,
    ) -> Result<BlobPut, ItemError> {
        Err(refused(
            repository,
            format!("write blob {}", descriptor.digest),
        ))
    }

    async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        _: &Manifest,
    ) -> Result<(), ItemError> {
        Err(refused(repository, format!("write manifest {reference}")))
    }

    /// A registry is not asked: that would be a deletion, if only of what is not there.
    async fn deletions(&self, repository: &Repository) -> Result<Deletions, ItemError> {
        match repository {
            Repository::Remote { .. } => Ok(Deletions::UNKNOWN),
            Repository::Layout { .. } => self.0.deletions(repository).await,
        }
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<Deletion, ItemError> {
        Err(refused(repository, format!("delete tag {tag}")))
    }

    async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Deletion, ItemError> {
        Err(refused(repository, format!("delete manifest {digest}")))
    }

    async fn sweep(
        &self,
        repository: &Repository,
        _: &BTreeSet<Digest>,
    ) -> Result<Swept, ItemError> {
        Err(refused(
            repository,
            "remove what nothing refers to".to_owned(),
        ))
    }
}

fn refused(repository: &Repository, action: String) -> ItemError {
    ItemError::at(
        repository,
        action,
        ItemErrorKind::ReadOnly,
        "this run only reads",
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::Algorithm;
    use crate::registry::InMemory;
    use crate::registry::memory::{MemoryPlace, Operation};

    #[tokio::test]
    async fn reads_pass_and_writes_never_arrive() {
        let inside = Arc::new(MemoryPlace::default());
        let place = ReadOnly::new(inside.clone());
        let repository: Repository = "registry/a".parse().expect("a repository");
        let content = Bytes::from_static(b"content");
        let blob = Descriptor::new("x", Digest::sha256(&content), content.len() as u64);
        let manifest = Manifest::parse(
            Bytes::from_static(br#"{"schemaVersion":2,"manifests":[]}"#),
            None,
            Algorithm::Sha256,
        )
        .expect("an index");
        inside
            .put_blob(&repository, &blob, &InMemory(content.clone()), None)
            .await
            .expect("to write beneath");
        inside.clear_calls();

        assert!(place.has_blob(&repository, &blob).await.expect("to look"));
        place.dated_tags(&repository).await.expect("to list");
        assert_eq!(inside.count(Operation::PushDates), 1);
        let put = place
            .put_blob(&repository, &blob, &InMemory(content), Some(&repository))
            .await;
        assert_eq!(
            put.map_err(|error| error.kind),
            Err(ItemErrorKind::ReadOnly)
        );
        let put = place
            .put_manifest(&repository, &manifest.digest.clone().into(), &manifest)
            .await;
        assert_eq!(
            put.map_err(|error| error.kind),
            Err(ItemErrorKind::ReadOnly)
        );
        assert_eq!(
            (
                inside.count(Operation::PutBlob),
                inside.count(Operation::PutManifest)
            ),
            (0, 0)
        );

        inside.clear_calls();
        let deleted = place
            .delete_tag(&repository, &"1".parse().expect("a tag"))
            .await;
        assert_eq!(
            deleted.map_err(|error| error.kind),
            Err(ItemErrorKind::ReadOnly)
        );
        let deleted = place.delete_manifest(&repository, &manifest.digest).await;
        assert_eq!(
            deleted.map_err(|error| error.kind),
            Err(ItemErrorKind::ReadOnly)
        );
        assert_eq!(
            place
                .sweep(&repository, &BTreeSet::new())
                .await
                .map_err(|error| error.kind),
            Err(ItemErrorKind::ReadOnly)
        );
        assert_eq!(
            place.deletions(&repository).await.expect("an answer"),
            Deletions::UNKNOWN
        );
        assert!(inside.calls().is_empty());
        place
            .repositories_beside(&repository)
            .await
            .expect("an answer");
        let directory: Repository = "ocidir:///a".parse().expect("a repository");
        assert_eq!(
            place.deletions(&directory).await.expect("an answer"),
            Deletions::ALL
        );
        // To claim is only to look then.
        assert!(place.claim_blob(&repository, &blob).await.expect("to look"));
        assert!(
            !place
                .claim_manifest(&repository, &manifest.digest)
                .await
                .expect("to look")
        );
        let operations: Vec<Operation> = inside
            .calls()
            .into_iter()
            .map(|call| call.operation)
            .collect();
        assert_eq!(
            operations,
            [
                Operation::Repositories,
                Operation::Deletions,
                Operation::HasBlob,
                Operation::Resolve
            ]
        );
    }
}
