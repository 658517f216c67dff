//! Reads and stores the state of tags between cleanups.

use futures_util::{StreamExt, stream};

use super::plan::Plan;
use super::world::{RepositoryRole, World};
use crate::config::Config;
use crate::error::ItemError;
use crate::model::cleanup_journal::relative_to;
use crate::model::{Repository, TagHistory};
use crate::packages::{Documents, StoredDocument};

/// Documents that are read or written concurrently.
const CONCURRENT_DOCUMENTS: usize = 8;

/// Reads the state that earlier cleanups left of each base and mirror in `world`.
///
/// If it cannot be read, nothing of the repository is deleted.
pub async fn read_histories(world: &mut World, config: &Config, documents: &Documents) {
    let reads = world.repositories.iter().map(|repository| {
        let name = history_name(config, &repository.canonical);
        let is_needed = !matches!(repository.role, RepositoryRole::Archive { .. });
        async move {
            if is_needed {
                Some(documents.read::<TagHistory>(&name).await)
            } else {
                None
            }
        }
    });
    let read: Vec<Option<Result<StoredDocument<TagHistory>, ItemError>>> =
        stream::iter(reads.collect::<Vec<_>>())
            .buffered(CONCURRENT_DOCUMENTS)
            .collect()
            .await;
    for (repository, result) in world.repositories.iter_mut().zip(read) {
        match result {
            Some(Ok(stored)) => repository.history = Some(stored),
            Some(Err(error)) => drop(repository.error.get_or_insert(error)),
            None => {}
        }
    }
}

/// Stores the state of tags for the next cleanup. Returns the repositories whose state could not be
/// stored.
pub async fn store_histories(
    plan: &Plan,
    config: &Config,
    documents: &Documents,
) -> Vec<(Repository, ItemError)> {
    let writes = plan.repositories.iter().filter_map(|planned| {
        let (history, next) = (planned.history.as_ref()?, planned.next_history.as_ref()?);
        let name = history_name(config, &planned.canonical);
        Some(async move {
            let written = documents.write(&name, history, next).await;
            written
                .err()
                .map(|error| (planned.repository.clone(), error))
        })
    });
    stream::iter(writes.collect::<Vec<_>>())
        .buffered(CONCURRENT_DOCUMENTS)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// Returns the name of the document about a repository. The path of a layout is relative to the
/// configuration, so that every checkout has the same name.
pub(super) fn history_name(config: &Config, repository: &Repository) -> String {
    relative_to(repository, &config.directory).to_string()
}
