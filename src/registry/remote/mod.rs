//! Registries that are spoken to by the OCI distribution API.
//!
//! Owns its paths, headers and errors, and that bytes are hashed rather than headers believed.
//! Connections, logins and retries of single requests are `http`'s.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::OnceCell;

use super::{
    BlobPut, BlobStream, Deletion, Deletions, ImageSource, ImageStore, Referrers, Reopen, Resolved,
    TagSeen, beside,
};
use crate::error::{ErrorScope, ItemError, ItemErrorKind};
use crate::http::{
    self, Client, Method, Request, RequestAccess, RequestKind, RequestTarget, StatusCode, link,
};
use crate::model::lock::lock;
use crate::model::{
    Algorithm, Descriptor, Digest, Host, Manifest, Reference, Repository, RepositoryPath, Tag,
};

mod blob;
#[cfg(test)]
mod blob_tests;
mod catalog;
mod dates;
mod delete;
#[cfg(test)]
mod delete_tests;
mod manifest;
mod probe;
mod referrers;
mod session;
mod source;
mod tags;
#[cfg(test)]
mod tests;
mod upload;
#[cfg(test)]
mod upload_tests;

/// The header by which a registry states the digest of what it sends or stored.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// All registries: which one is meant is part of a repository's name.
pub struct RemoteRegistries {
    http: Arc<Client>,
    /// Which hosts keep lists of referrers, as far as they were asked. Those that do not are not
    /// asked again.
    referrers_listing: Mutex<HashMap<Host, Arc<OnceCell<bool>>>>,
    interfaces: dates::Interfaces,
    deletes: delete::Hosts,
    failed_mounts: upload::FailedMounts,
    /// The size of the parts that a large blob is sent in once sending it whole broke, in bytes.
    part: u64,
}

impl RemoteRegistries {
    pub fn new(http: Arc<Client>) -> RemoteRegistries {
        RemoteRegistries {
            http,
            referrers_listing: Mutex::default(),
            interfaces: dates::Interfaces::default(),
            deletes: delete::Hosts::default(),
            failed_mounts: upload::FailedMounts::default(),
            part: upload::PART,
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
                "speak to it as a registry",
                ItemErrorKind::Unsupported,
                "it is a directory",
            )),
        }
    }
}

#[async_trait]
impl ImageSource for RemoteRegistries {
    async fn tags(&self, repository: &Repository) -> Result<Option<Vec<TagSeen>>, ItemError> {
        self.at(repository)?.tags().await
    }

    async fn push_dates(&self, repository: &Repository) -> Result<Option<Vec<TagSeen>>, ItemError> {
        self.at(repository)?.push_dates(&self.interfaces).await
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

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Referrers, ItemError> {
        let at = self.at(repository)?;
        if subject.algorithm() != Algorithm::Sha256 {
            // What a registry says of a rare kind of digest does not tell what it can do for the
            // others.
            return at.referrers(subject).await;
        }
        let listing = lock(&self.referrers_listing)
            .entry(at.host.clone())
            .or_default()
            .clone();
        // The first question to a host goes alone: its answer tells whether there is anything to
        // ask.
        let mut first = None;
        let is_kept = listing
            .get_or_try_init(|| async {
                let found = at.referrers(subject).await?;
                let is_kept = found != Referrers::NotListed;
                first = Some(found);
                Ok::<bool, ItemError>(is_kept)
            })
            .await?;
        match (first, is_kept) {
            (Some(found), _) => Ok(found),
            (None, true) => at.referrers(subject).await,
            (None, false) => Ok(Referrers::NotListed),
        }
    }

    async fn repositories_beside(
        &self,
        repository: &Repository,
    ) -> Result<Option<Vec<Repository>>, ItemError> {
        let all = self.at(repository)?.catalog().await?;
        Ok(all.map(|all| {
            all.into_iter()
                .filter(|other| beside(repository, other))
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
        content: &dyn Reopen,
        mount_from: Option<&Repository>,
    ) -> Result<BlobPut, ItemError> {
        let mount_from = match mount_from {
            Some(from) if from.shares_blobs_with(repository) && from != repository => {
                Some(upload::MountFrom {
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

    async fn deletions(&self, repository: &Repository) -> Result<Deletions, ItemError> {
        self.at(repository)?.deletions(&self.deletes).await
    }

    async fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<Deletion, ItemError> {
        self.at(repository)?.delete_tag(&self.deletes, tag).await
    }

    async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Deletion, ItemError> {
        self.at(repository)?
            .delete_manifest(&self.deletes, digest)
            .await
    }

    async fn settle(&self) {
        self.http.finish_cleanup().await;
    }
}

/// One repository on a registry.
#[derive(Clone, Copy)]
struct RemoteRepository<'a> {
    http: &'a Arc<Client>,
    host: &'a Host,
    path: &'a RepositoryPath,
}

impl RemoteRepository<'_> {
    /// Returns a request for `rest` below the repository.
    fn request(&self, method: Method, rest: &str, kind: RequestKind, actions: &str) -> Request {
        let target = RequestTarget::Path(format!("/v2/{}/{rest}", self.path));
        Request::new(method, self.host, target, kind, self.access(actions))
    }

    fn access(&self, actions: &str) -> RequestAccess {
        RequestAccess {
            path: Some(self.path.clone()),
            scopes: vec![scope(self.path, actions)],
        }
    }

    /// Returns the repository with `reference`, without the host: errors name that anyhow.
    fn name(&self, reference: &Reference) -> String {
        format!("{}{}", self.path, reference.suffix())
    }

    fn failed(&self, action: impl Into<String>, error: http::Error) -> ItemError {
        self.failed_in(action, error, "")
    }

    fn failed_in(&self, action: impl Into<String>, error: http::Error, detail: &str) -> ItemError {
        let mut failed = error.into_item(self.host.as_str(), action);
        if failed.kind == ItemErrorKind::Forbidden {
            failed.scope = ErrorScope::Repository(self.path.to_string());
        }
        if !detail.is_empty() {
            failed.cause = format!("{detail}: {}", failed.cause);
        }
        failed
    }

    fn wrong(
        &self,
        action: impl Into<String>,
        kind: ItemErrorKind,
        detail: impl Into<String>,
    ) -> ItemError {
        ItemError::new(self.host.as_str(), action, kind, detail)
    }

    /// Returns an error when an answer states a digest for what was sent that is not its digest.
    fn check_stored(
        &self,
        action: &str,
        answer: &http::Response,
        digest: &Digest,
    ) -> Result<(), ItemError> {
        match stated_digest(answer) {
            Some(stated) if stated.algorithm() == digest.algorithm() && stated != *digest => {
                Err(self.wrong(
                    action,
                    ItemErrorKind::Corrupt,
                    format!("the registry stored {stated} instead of {digest}"),
                ))
            }
            _ => Ok(()),
        }
    }
}

fn scope(path: &RepositoryPath, actions: &str) -> String {
    format!("repository:{path}:{actions}")
}

/// Returns the digest that an answer states, or `None` when it states none that can be one.
fn stated_digest(answer: &http::Response) -> Option<Digest> {
    answer.header(CONTENT_DIGEST)?.trim().parse().ok()
}

fn is_not_found(error: &http::Error) -> bool {
    error.status() == Some(StatusCode::NOT_FOUND)
}
