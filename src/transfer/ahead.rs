//! Reading manifests of images whose copy begins soon, so that it need not wait for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use futures_util::future::{BoxFuture, Shared};
use futures_util::{FutureExt, StreamExt, stream};

use super::{PARALLEL_PARTS, PlatformFilter, Transfer};
use crate::error::ItemError;
use crate::model::lock::lock;
use crate::model::{Descriptor, Digest, Manifest, Reference, Repository};
use crate::registry::{BlobStream, ImageSource, Referrers, Resolved, TagSeen};

/// A manifest on its way. What is not there or cannot be read is asked for again by who needs it.
type Held = Shared<BoxFuture<'static, Option<Manifest>>>;

/// An image that is going to be copied.
pub struct Upcoming<'a> {
    pub from: &'a Repository,
    pub reference: &'a Reference,
    pub to: &'a Repository,
    pub filter: &'a PlatformFilter,
}

/// A source from which manifests can be read ahead; each is handed out once.
pub(super) struct Ahead {
    source: Arc<dyn ImageSource>,
    held: Mutex<HashMap<(Repository, Reference), Held>>,
}

impl Ahead {
    pub(super) fn of(source: Arc<dyn ImageSource>) -> Ahead {
        Ahead {
            source,
            held: Mutex::default(),
        }
    }

    async fn read(&self, repository: &Repository, reference: &Reference) -> Option<Manifest> {
        let (source, at) = (self.source.clone(), (repository.clone(), reference.clone()));
        let key = at.clone();
        let read = async move { source.manifest(&at.0, &at.1).await.ok().flatten() };
        let held = self
            .held()
            .entry(key)
            .or_insert_with(|| read.boxed().shared())
            .clone();
        held.await
    }

    fn held(&self) -> MutexGuard<'_, HashMap<(Repository, Reference), Held>> {
        lock(&self.held)
    }
}

#[async_trait]
impl ImageSource for Ahead {
    async fn tags(&self, repository: &Repository) -> Result<Option<Vec<TagSeen>>, ItemError> {
        self.source.tags(repository).await
    }

    async fn push_dates(&self, repository: &Repository) -> Result<Option<Vec<TagSeen>>, ItemError> {
        self.source.push_dates(repository).await
    }

    async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Resolved>, ItemError> {
        self.source.resolve(repository, reference).await
    }

    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Manifest>, ItemError> {
        let held = self.held().remove(&(repository.clone(), reference.clone()));
        if let Some(held) = held
            && let Some(manifest) = held.await
        {
            return Ok(Some(manifest));
        }
        self.source.manifest(repository, reference).await
    }

    async fn blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        from_offset: u64,
    ) -> Result<BlobStream, ItemError> {
        self.source.blob(repository, descriptor, from_offset).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Referrers, ItemError> {
        self.source.referrers(repository, subject).await
    }

    async fn repositories_beside(
        &self,
        repository: &Repository,
    ) -> Result<Option<Vec<Repository>>, ItemError> {
        self.source.repositories_beside(repository).await
    }
}

impl Transfer {
    /// Reads what the copy of an image begins with: its manifest, and those of its platforms where
    /// it is known that the target lacks them. Returns whether the image could be read; the copy
    /// finds out why not.
    pub async fn look_ahead(&self, upcoming: &Upcoming<'_>) -> bool {
        let Upcoming {
            from,
            reference,
            to,
            filter,
        } = upcoming;
        let Some(root) = self.ahead.read(from, reference).await else {
            return false;
        };
        if self.ledger.is_absent(to) {
            let wanted = |child: &&Descriptor| match filter {
                PlatformFilter::All => true,
                PlatformFilter::Only { platforms, .. } => {
                    child.platform.as_ref().is_some_and(|platform| {
                        platforms.iter().any(|wanted| wanted.matches(platform))
                    })
                }
            };
            let children = root.children().unwrap_or_default().iter().filter(wanted);
            let children = children
                .filter(|child| !self.ledger.is_met(to, &child.digest))
                .map(|child| child.digest.clone().into());
            let children: Vec<Reference> = children.collect();
            stream::iter(&children)
                .for_each_concurrent(PARALLEL_PARTS, |child| async move {
                    self.ahead.read(from, child).await;
                })
                .await;
        }
        true
    }
}
