//! All registries as one store.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::TimeDelta;
use tokio::sync::OnceCell;

use super::dates::HostInterfaces;
use super::delete::DeletionMethods;
use super::repository::RemoteRepository;
use super::tag_case::TagCases;
use super::upload::{self, FailedMounts, MountSource};
use crate::error::{ItemError, ItemErrorKind};
use crate::http::Client;
use crate::model::lock::lock;
use crate::model::{Algorithm, Descriptor, Digest, Host, Manifest, Reference, Repository, Tag};
use crate::registry::blob::{BlobContent, BlobPut, BlobStream};
use crate::registry::store::{
    Deletion, DeletionSupport, ImageSource, ImageStore, ListedTag, ProvedTags, Referrers, Resolved,
    TagCase, UntaggedManifest, are_siblings,
};

/// All registries. The name of a repository contains the host.
pub struct RemoteRegistries {
    pub(super) http: Arc<Client>,
    /// True for hosts that list referrers. Others get no further referrers requests.
    lists_referrers: Mutex<HashMap<Host, Arc<OnceCell<bool>>>>,
    interfaces: HostInterfaces,
    tag_cases: TagCases,
    deletion_methods: DeletionMethods,
    failed_mounts: FailedMounts,
    /// Size of the parts of a chunked upload, in bytes.
    pub(super) part: u64,
}

impl RemoteRegistries {
    pub fn new(http: Arc<Client>) -> RemoteRegistries {
        RemoteRegistries {
            http,
            lists_referrers: Mutex::default(),
            interfaces: HostInterfaces::default(),
            tag_cases: TagCases::default(),
            deletion_methods: DeletionMethods::default(),
            failed_mounts: FailedMounts::default(),
            part: upload::PART_SIZE,
        }
    }

    fn at<'a>(&'a self, repository: &'a Repository) -> Result<RemoteRepository<'a>, ItemError> {
        match repository {
            Repository::Remote { host, path } => Ok(RemoteRepository {
                http: &self.http,
                host,
                path,
            }),
            Repository::Layout { .. } => Err(ItemError::new(
                repository.to_string(),
                "use it as a registry",
                ItemErrorKind::Unsupported,
                "it is a directory",
            )),
        }
    }
}

#[async_trait]
impl ImageSource for RemoteRegistries {
    async fn tags(&self, repository: &Repository) -> Result<Option<Vec<ListedTag>>, ItemError> {
        self.at(repository)?.tags().await
    }

    async fn proved_tags(&self, repository: &Repository) -> Result<Option<ProvedTags>, ItemError> {
        self.at(repository)?.proved_tags().await
    }

    async fn push_dates(
        &self,
        repository: &Repository,
    ) -> Result<Option<Vec<ListedTag>>, ItemError> {
        self.at(repository)?.push_dates(&self.interfaces).await
    }

    async fn untagged_manifests(
        &self,
        repository: &Repository,
    ) -> Result<Option<Vec<UntaggedManifest>>, ItemError> {
        self.at(repository)?
            .untagged_manifests(&self.interfaces)
            .await
    }

    fn requests(&self) -> u64 {
        self.http.requests()
    }

    fn clock_offsets(&self) -> Vec<(Host, TimeDelta)> {
        self.http.clock_offsets()
    }

    async fn tag_case(
        &self,
        repository: &Repository,
        listed: &BTreeSet<Tag>,
    ) -> Result<TagCase, ItemError> {
        self.at(repository)?.tag_case(&self.tag_cases, listed).await
    }

    async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Resolved>, ItemError> {
        self.at(repository)?.resolve(reference).await
    }

    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Manifest>, ItemError> {
        self.at(repository)?.manifest(reference).await
    }

    async fn blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        from_offset: u64,
    ) -> Result<BlobStream, ItemError> {
        self.at(repository)?.blob(descriptor, from_offset).await
    }

    async fn has_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<bool, ItemError> {
        self.at(repository)?.has_blob(descriptor).await
    }

    async fn can_read_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<bool, ItemError> {
        self.at(repository)?.can_read_blob(descriptor).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Referrers, ItemError> {
        let at = self.at(repository)?;
        if subject.algorithm() != Algorithm::Sha256 {
            // The response for an unusual digest algorithm shows nothing about other digests.
            return at.referrers(subject).await;
        }
        let listing = lock(&self.lists_referrers)
            .entry(at.host.clone())
            .or_default()
            .clone();
        // The first request to a host shows if it lists referrers; others wait for it.
        let mut first = None;
        let is_listed = listing
            .get_or_try_init(|| async {
                let found = at.referrers(subject).await?;
                let is_listed = found != Referrers::NotListed;
                first = Some(found);
                Ok::<bool, ItemError>(is_listed)
            })
            .await?;
        match (first, is_listed) {
            (Some(found), _) => Ok(found),
            (None, true) => at.referrers(subject).await,
            (None, false) => Ok(Referrers::NotListed),
        }
    }

    async fn sibling_repositories(
        &self,
        repository: &Repository,
    ) -> Result<Option<Vec<Repository>>, ItemError> {
        let all = self.at(repository)?.catalog().await?;
        Ok(all.map(|all| {
            all.into_iter()
                .filter(|other| are_siblings(repository, other))
                .collect()
        }))
    }
}

#[async_trait]
impl ImageStore for RemoteRegistries {
    async fn put_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        content: &dyn BlobContent,
        mount_from: Option<&Repository>,
    ) -> Result<BlobPut, ItemError> {
        let mount_from = match mount_from {
            Some(from) if from.shares_blobs_with(repository) && from != repository => {
                Some(MountSource {
                    path: self.at(from)?.path,
                    failed: &self.failed_mounts,
                })
            }
            _ => None,
        };
        self.at(repository)?
            .put_blob(descriptor, content, mount_from, self.part)
            .await
    }

    async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<(), ItemError> {
        self.at(repository)?.put_manifest(reference, manifest).await
    }

    async fn deletions(&self, repository: &Repository) -> Result<DeletionSupport, ItemError> {
        self.at(repository)?.deletions(&self.deletion_methods).await
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<Deletion, ItemError> {
        self.at(repository)?
            .delete_tag(&self.deletion_methods, tag)
            .await
    }

    async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Deletion, ItemError> {
        self.at(repository)?
            .delete_manifest(&self.deletion_methods, digest)
            .await
    }

    async fn settle(&self) {
        self.http.finish_cleanup().await;
    }
}
