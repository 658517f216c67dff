//! Every place behind one: a repository is looked after by the place of its kind.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use super::{
    BlobPut, BlobStream, Deletion, Deletions, ImageSource, ImageStore, Referrers, Reopen, Resolved,
    Swept, TagSeen,
};
use crate::error::ItemError;
use crate::model::{Descriptor, Digest, Manifest, Reference, Repository, Tag};

/// The places that a run speaks to.
#[derive(Clone)]
pub struct Places {
    pub remote: Arc<dyn ImageStore>,
    pub layouts: Arc<dyn ImageStore>,
}

impl Places {
    fn of(&self, repository: &Repository) -> &dyn ImageStore {
        match repository {
            Repository::Remote { .. } => &*self.remote,
            Repository::Layout { .. } => &*self.layouts,
        }
    }
}

#[async_trait]
impl ImageSource for Places {
    async fn tags(&self, repository: &Repository) -> Result<Option<Vec<TagSeen>>, ItemError> {
        self.of(repository).tags(repository).await
    }

    async fn push_dates(&self, repository: &Repository) -> Result<Option<Vec<TagSeen>>, ItemError> {
        self.of(repository).push_dates(repository).await
    }

    async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Resolved>, ItemError> {
        self.of(repository).resolve(repository, reference).await
    }

    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Manifest>, ItemError> {
        self.of(repository).manifest(repository, reference).await
    }

    async fn blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        from_offset: u64,
    ) -> Result<BlobStream, ItemError> {
        self.of(repository)
            .blob(repository, descriptor, from_offset)
            .await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Referrers, ItemError> {
        self.of(repository).referrers(repository, subject).await
    }

    async fn repositories_beside(
        &self,
        repository: &Repository,
    ) -> Result<Option<Vec<Repository>>, ItemError> {
        self.of(repository).repositories_beside(repository).await
    }
}

#[async_trait]
impl ImageStore for Places {
    async fn has_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<bool, ItemError> {
        self.of(repository).has_blob(repository, descriptor).await
    }

    async fn claim_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<bool, ItemError> {
        self.of(repository).claim_blob(repository, descriptor).await
    }

    async fn put_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        content: &dyn Reopen,
        mount_from: Option<&Repository>,
    ) -> Result<BlobPut, ItemError> {
        let mount_from = mount_from.filter(|from| repository.shares_blobs_with(from));
        self.of(repository)
            .put_blob(repository, descriptor, content, mount_from)
            .await
    }

    async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<(), ItemError> {
        self.of(repository)
            .put_manifest(repository, reference, manifest)
            .await
    }

    async fn claim_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, ItemError> {
        self.of(repository).claim_manifest(repository, digest).await
    }

    async fn deletions(&self, repository: &Repository) -> Result<Deletions, ItemError> {
        self.of(repository).deletions(repository).await
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<Deletion, ItemError> {
        self.of(repository).delete_tag(repository, tag).await
    }

    async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Deletion, ItemError> {
        self.of(repository)
            .delete_manifest(repository, digest)
            .await
    }

    async fn sweep(
        &self,
        repository: &Repository,
        keep: &BTreeSet<Digest>,
    ) -> Result<Swept, ItemError> {
        self.of(repository).sweep(repository, keep).await
    }

    async fn settle(&self) {
        self.remote.settle().await;
        self.layouts.settle().await;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::registry::InMemory;
    use crate::registry::memory::{MemoryPlace, Operation};

    #[tokio::test]
    async fn a_repository_goes_to_the_place_of_its_kind_and_mounts_stay_within_one() {
        let (remote, layouts) = (
            Arc::new(MemoryPlace::default()),
            Arc::new(MemoryPlace::default()),
        );
        let places = Places {
            remote: remote.clone(),
            layouts: layouts.clone(),
        };
        let name = |text: &str| text.parse::<Repository>().expect("a repository");
        let (one, sibling, elsewhere, directory) = (
            name("registry/one"),
            name("registry/sibling"),
            name("other.example/one"),
            name("ocidir:///one"),
        );
        let content = Bytes::from_static(b"content");
        let blob = Descriptor::new("x", Digest::sha256(&content), content.len() as u64);

        for (target, from, mounted) in [
            (&one, &sibling, true),
            (&one, &elsewhere, false),
            (&one, &directory, false),
            (&directory, &one, false),
        ] {
            places
                .put_blob(target, &blob, &InMemory(content.clone()), Some(from))
                .await
                .expect("to write");
            let place = if target == &directory {
                &layouts
            } else {
                &remote
            };
            let call = place.calls().pop().expect("a call");
            assert_eq!(
                (call.operation, &call.repository, call.mount_from.is_some()),
                (Operation::PutBlob, target, mounted)
            );
        }
        assert_eq!(
            (
                remote.count(Operation::PutBlob),
                layouts.count(Operation::PutBlob)
            ),
            (3, 1)
        );

        places.dated_tags(&directory).await.expect("to list");
        assert_eq!(
            (
                remote.count(Operation::PushDates),
                layouts.count(Operation::PushDates)
            ),
            (0, 1)
        );

        for (repository, place, other) in
            [(&one, &remote, &layouts), (&directory, &layouts, &remote)]
        {
            place.clear_calls();
            other.clear_calls();
            let tag = "1".parse().expect("a tag");
            assert_eq!(
                places
                    .delete_tag(repository, &tag)
                    .await
                    .expect("an answer"),
                Deletion::WasAbsent
            );
            assert_eq!(
                places
                    .delete_manifest(repository, &blob.digest)
                    .await
                    .expect("an answer"),
                Deletion::WasAbsent
            );
            assert_eq!(
                places.deletions(repository).await.expect("an answer"),
                Deletions::ALL
            );
            places
                .repositories_beside(repository)
                .await
                .expect("an answer");
            places
                .sweep(repository, &BTreeSet::new())
                .await
                .expect("an answer");
            let operations: Vec<Operation> = place
                .calls()
                .into_iter()
                .map(|call| call.operation)
                .collect();
            let expected = [
                Operation::DeleteTag,
                Operation::DeleteManifest,
                Operation::Deletions,
                Operation::Repositories,
                Operation::Sweep,
            ];
            assert_eq!(
                (operations.as_slice(), other.calls().len()),
                (&expected[..], 0)
            );
        }
    }
}
