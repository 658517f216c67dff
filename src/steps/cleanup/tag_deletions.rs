//! Deletion of single tags, with a check that each host deletes nothing else with them.
//!
//! Some registries resolve a tag that they are asked to delete, and delete the manifest with all of
//! its tags. So the first deletion on a host of a tag whose image must stay is watched.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Mutex as AsyncMutex;

use crate::error::{ItemError, chain};
use crate::model::lock::lock;
use crate::model::{Digest, Manifest, Reference, Repository, Tag};
use crate::registry::{Deletion, ImageStores};

/// Deletes tags.
pub(super) struct TagDeletions {
    stores: ImageStores,
    hosts: Mutex<HashMap<String, Arc<AsyncMutex<HostCheck>>>>,
    manifests: Mutex<HashMap<String, Arc<AsyncMutex<ManifestDeletion>>>>,
}

/// Observed effect of deleting a manifest that has tags.
#[derive(Clone, Copy, Default)]
enum ManifestDeletion {
    #[default]
    Untried,
    /// The tags are gone as well.
    RemovesTags,
    /// The tags are still there, or the host refuses to delete a manifest that has tags.
    LeavesTags,
}

/// Result of the check of a host.
#[derive(Clone, Default)]
enum HostCheck {
    #[default]
    Pending,
    /// The host deleted a tag and nothing else.
    Passed,
    /// Reason why nothing more is deleted on the host.
    Failed(ItemError),
}

/// One tag to delete.
pub(super) struct TagToDelete<'a> {
    pub(super) repository: &'a Repository,
    pub(super) tag: &'a Tag,
    pub(super) digest: &'a Digest,
    /// Tags of the same image that stay.
    pub(super) kept: Vec<&'a Tag>,
    /// Tags of the same image that are deleted later.
    pub(super) others: Vec<&'a Tag>,
    /// True if the manifest must stay even if no kept tag names it.
    pub(super) needs_manifest: bool,
}

/// Result of deleting a tag.
pub(super) struct TagDeletionResult {
    pub(super) deletion: Deletion,
    /// Damage that the deletion did.
    pub(super) error: Option<ItemError>,
}

impl TagDeletions {
    pub(super) fn new(stores: ImageStores) -> TagDeletions {
        TagDeletions {
            stores,
            hosts: Mutex::default(),
            manifests: Mutex::default(),
        }
    }

    fn of(&self, repository: &Repository) -> Arc<AsyncMutex<HostCheck>> {
        lock(&self.hosts)
            .entry(host(repository))
            .or_default()
            .clone()
    }

    /// Deletes a manifest together with all of its `tags`, by a single request where the host removes
    /// the tags of a deleted manifest. Nothing else may need the manifest.
    ///
    /// Returns false if tags are left, which must be deleted one by one: in layouts, and on hosts
    /// that keep the tags or refuse the request. The first deletion on a host shows which it is.
    pub(super) async fn delete_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        tags: &[&Tag],
    ) -> Result<bool, ItemError> {
        let Some(tag) = tags
            .first()
            .filter(|_| matches!(repository, Repository::Remote { .. }))
        else {
            return Ok(false);
        };
        self.check(repository).await?;
        let store = self.stores.writable(repository)?;
        let observed = lock(&self.manifests)
            .entry(host(repository))
            .or_default()
            .clone();
        let mut observed = observed.lock().await;
        match *observed {
            ManifestDeletion::LeavesTags => Ok(false),
            ManifestDeletion::RemovesTags => {
                drop(observed);
                let deletion = store.delete_manifest(repository, digest).await?;
                Ok(matches!(deletion, Deletion::Deleted | Deletion::NotFound))
            }
            ManifestDeletion::Untried => {
                let deletion = store.delete_manifest(repository, digest).await;
                if matches!(deletion, Ok(Deletion::Deleted)) {
                    let reference = Reference::Tag((*tag).clone());
                    let source = self.stores.of(repository);
                    let found = source.resolve(repository, &reference).await;
                    if matches!(found, Ok(None)) {
                        *observed = ManifestDeletion::RemovesTags;
                        return Ok(true);
                    }
                }
                *observed = ManifestDeletion::LeavesTags;
                Ok(false)
            }
        }
    }

    /// Fails if nothing more may be deleted on the host of `repository`.
    pub(super) async fn check(&self, repository: &Repository) -> Result<(), ItemError> {
        match &*self.of(repository).lock().await {
            HostCheck::Failed(error) => Err(error.clone()),
            HostCheck::Pending | HostCheck::Passed => Ok(()),
        }
    }

    /// Deletes a tag.
    ///
    /// The first time on a host that the image of the tag must stay, its manifest is read before
    /// the deletion and looked up after it. If it is gone, its tags are restored, and nothing more
    /// is deleted on the host. Other deletions on the host wait for the result.
    pub(super) async fn delete(
        &self,
        request: &TagToDelete<'_>,
    ) -> Result<TagDeletionResult, ItemError> {
        let TagToDelete {
            repository, tag, ..
        } = *request;
        let store = self.stores.writable(repository)?;
        let check = self.of(repository);
        let mut check = check.lock().await;
        if let HostCheck::Failed(error) = &*check {
            return Err(error.clone());
        }
        let survivor = match request.kept.first() {
            Some(kept) => Some(Reference::Tag((*kept).clone())),
            None => request
                .needs_manifest
                .then(|| Reference::Digest(request.digest.clone())),
        };
        let is_layout = matches!(repository, Repository::Layout { .. });
        let Some(survivor) =
            survivor.filter(|_| matches!(*check, HostCheck::Pending) && !is_layout)
        else {
            drop(check);
            return Ok(TagDeletionResult {
                deletion: store.delete_tag(repository, tag).await?,
                error: None,
            });
        };
        let reference = Reference::Digest(request.digest.clone());
        let source = self.stores.of(repository);
        let manifest = source.manifest(repository, &reference).await?;
        let deletion = store.delete_tag(repository, tag).await?;
        if deletion != Deletion::Deleted {
            return Ok(TagDeletionResult {
                deletion,
                error: None,
            });
        }
        let damage = match source.resolve(repository, &survivor).await {
            Ok(Some(found)) if found.digest == *request.digest => {
                *check = HostCheck::Passed;
                None
            }
            // The kept tag was moved meanwhile, so it shows nothing.
            Ok(Some(_)) => None,
            Ok(None) => Some(self.repair(request, manifest.as_ref()).await),
            Err(error) => Some(ItemError::other(format!(
                "after the tag {tag} was deleted, it is unknown if its image is still there, so \
                 nothing more is deleted on this registry: {error}"
            ))),
        };
        if let Some(error) = &damage {
            *check = HostCheck::Failed(error.clone());
        }
        Ok(TagDeletionResult {
            deletion,
            error: damage,
        })
    }

    /// Restores the tags that a deletion took, and returns the error to report.
    async fn repair(&self, request: &TagToDelete<'_>, manifest: Option<&Manifest>) -> ItemError {
        let repository = request.repository;
        let (mut restored, mut lost) = (Vec::new(), Vec::new());
        for tag in request.kept.iter().chain(&request.others) {
            match restore(&self.stores, repository, tag, manifest).await {
                Ok(false) => {}
                Ok(true) => restored.push(tag.as_str()),
                Err(error) => lost.push(format!("{tag} ({})", chain(&error))),
            }
        }
        if let (true, Some(manifest)) = (request.kept.is_empty(), manifest) {
            let reference = Reference::Digest(manifest.digest.clone());
            let put = async {
                let store = self.stores.writable(repository)?;
                store.put_manifest(repository, &reference, manifest).await
            };
            match put.await {
                Ok(()) => restored.push(manifest.digest.as_str()),
                Err(error) => lost.push(format!("{} ({})", manifest.digest, chain(&error))),
            }
        }
        let listed = |what: &str, names: &[String]| {
            if names.is_empty() {
                String::new()
            } else {
                format!("; {what}: {}", names.join(", "))
            }
        };
        let restored: Vec<String> = restored.into_iter().map(str::to_owned).collect();
        ItemError::other(format!(
            "the registry deleted the image {} when it was asked to delete only its tag {}, so \
             nothing more is deleted on this registry{}{}",
            request.digest.short(),
            request.tag,
            listed("restored", &restored),
            listed("not restored", &lost),
        ))
        .with_hint(
            "do not clean up this registry by tag; `imglife cleanup --undo` restores deleted tags",
        )
    }
}

/// Returns the host of a repository; empty for layouts.
fn host(repository: &Repository) -> String {
    match repository {
        Repository::Remote { host, .. } => host.to_string(),
        Repository::Layout { .. } => String::new(),
    }
}

/// Writes `manifest` under a tag that is gone. Returns false if the tag exists.
///
/// Fails if the tag cannot be restored.
pub(super) async fn restore(
    stores: &ImageStores,
    repository: &Repository,
    tag: &Tag,
    manifest: Option<&Manifest>,
) -> Result<bool, ItemError> {
    let reference = Reference::Tag(tag.clone());
    let source = stores.of(repository);
    if source.resolve(repository, &reference).await?.is_some() {
        return Ok(false);
    }
    let Some(manifest) = manifest else {
        return Err(ItemError::other("its manifest is gone"));
    };
    let store = stores.writable(repository)?;
    store.put_manifest(repository, &reference, manifest).await?;
    match source.resolve(repository, &reference).await? {
        Some(found) if found.digest == manifest.digest => Ok(true),
        _ => Err(ItemError::other(
            "it was written, and still cannot be found",
        )),
    }
}
