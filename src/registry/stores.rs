//! The image stores of a run: which store holds a repository, and whether it may be written to.

use std::sync::Arc;

use chrono::TimeDelta;

use super::store::{DeletionSupport, ImageSource, ImageStore};
use crate::error::{ItemError, ItemErrorKind};
use crate::model::{Host, Repository};

/// All image stores that a run uses.
///
/// Hands out the store that holds a repository. Write access exists only through
/// [`writable`](ImageStores::writable), which fails in a dry run: code that forgets about the mode
/// gets an error instead of writing.
#[derive(Clone)]
pub struct ImageStores {
    registries: Arc<dyn ImageStore>,
    layouts: Arc<dyn ImageStore>,
    access: StoreAccess,
}

/// Permission of a run to change images.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StoreAccess {
    ReadWrite,
    ReadOnly,
}

impl ImageStores {
    /// Returns stores that may be read and written: one for repositories on registries, one for OCI
    /// image layout directories.
    pub fn new(registries: Arc<dyn ImageStore>, layouts: Arc<dyn ImageStore>) -> ImageStores {
        ImageStores {
            registries,
            layouts,
            access: StoreAccess::ReadWrite,
        }
    }

    /// Returns stores in which `store` holds every repository.
    pub fn single(store: Arc<dyn ImageStore>) -> ImageStores {
        ImageStores::new(store.clone(), store)
    }

    /// Returns the same stores without write access.
    #[must_use]
    pub fn read_only(self) -> ImageStores {
        ImageStores {
            access: StoreAccess::ReadOnly,
            ..self
        }
    }

    /// Returns the store that holds `repository`, for reading.
    pub fn of(&self, repository: &Repository) -> &dyn ImageSource {
        self.store(repository)
    }

    /// Returns the store that holds `repository`, for writing. Fails if the stores are read-only.
    pub fn writable(&self, repository: &Repository) -> Result<&dyn ImageStore, ItemError> {
        match self.access {
            StoreAccess::ReadWrite => Ok(self.store(repository)),
            StoreAccess::ReadOnly => Err(ItemError::at(
                repository,
                format!("change {repository}"),
                ItemErrorKind::ReadOnly,
                "this run only reads",
            )),
        }
    }

    /// Returns what the store of `repository` can delete.
    ///
    /// A registry shows this only in its response to a deletion, so read-only stores return
    /// [`DeletionSupport::UNKNOWN`] for registries without a request.
    pub async fn deletions(&self, repository: &Repository) -> Result<DeletionSupport, ItemError> {
        match (self.access, repository) {
            (StoreAccess::ReadOnly, Repository::Remote { .. }) => Ok(DeletionSupport::UNKNOWN),
            _ => self.store(repository).deletions(repository).await,
        }
    }

    /// Returns the number of requests that this run has sent to registries.
    pub fn requests(&self) -> u64 {
        self.registries.requests()
    }

    /// Returns how far the clock of each host is ahead of this machine's, by its last response.
    pub fn clock_offsets(&self) -> Vec<(Host, TimeDelta)> {
        self.registries.clock_offsets()
    }

    /// Waits for a short time until the stores have cleaned up after aborted writes. Call it when a
    /// run ends early.
    pub async fn settle(&self) {
        self.registries.settle().await;
        self.layouts.settle().await;
    }

    fn store(&self, repository: &Repository) -> &dyn ImageStore {
        match repository {
            Repository::Remote { .. } => &*self.registries,
            Repository::Layout { .. } => &*self.layouts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::memory::{MemoryStore, StoreOperation};

    fn repository(text: &str) -> Repository {
        text.parse().expect("a repository")
    }

    fn two_stores() -> (ImageStores, Arc<MemoryStore>, Arc<MemoryStore>) {
        let (registries, layouts) = (
            Arc::new(MemoryStore::default()),
            Arc::new(MemoryStore::default()),
        );
        (
            ImageStores::new(registries.clone(), layouts.clone()),
            registries,
            layouts,
        )
    }

    #[tokio::test]
    async fn stores_are_chosen_by_the_kind_of_repository() {
        let (stores, registries, layouts) = two_stores();
        let (remote, directory) = (repository("registry/one"), repository("ocidir:///one"));
        for (repository, chosen, other) in [
            (&remote, &registries, &layouts),
            (&directory, &layouts, &registries),
        ] {
            let tag = "1".parse().expect("a tag");
            stores
                .of(repository)
                .tags(repository)
                .await
                .expect("an answer");
            stores.deletions(repository).await.expect("an answer");
            let writable = stores.writable(repository).expect("write access");
            let _absent = writable
                .delete_tag(repository, &tag)
                .await
                .expect("an answer");
            let operations: Vec<StoreOperation> =
                chosen.calls().iter().map(|call| call.operation).collect();
            assert_eq!(
                (operations, other.calls().len()),
                (
                    vec![
                        StoreOperation::Tags,
                        StoreOperation::Deletions,
                        StoreOperation::DeleteTag
                    ],
                    0
                )
            );
            chosen.clear_calls();
        }
    }

    #[tokio::test]
    async fn read_only_stores_read_and_hand_out_no_write_access() {
        let (stores, registries, layouts) = two_stores();
        let stores = stores.read_only();
        let (remote, directory) = (repository("registry/one"), repository("ocidir:///one"));
        for repository in [&remote, &directory] {
            let refused = stores.writable(repository).err().expect("no write access");
            assert_eq!(refused.kind, ItemErrorKind::ReadOnly);
            stores
                .of(repository)
                .tags(repository)
                .await
                .expect("an answer");
        }
        assert_eq!(
            stores.deletions(&remote).await.expect("an answer"),
            DeletionSupport::UNKNOWN
        );
        assert_eq!(
            registries.count(StoreOperation::Deletions),
            0,
            "a registry would get a deletion"
        );
        assert_eq!(
            stores.deletions(&directory).await.expect("an answer"),
            DeletionSupport::ALL
        );
        assert_eq!(layouts.count(StoreOperation::Deletions), 1);
    }
}
