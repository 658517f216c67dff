//! Reads and stores the state of tags between cleanups.

use chrono::TimeDelta;
use futures_util::{StreamExt, stream};

use super::attachments::{AttachmentIndex, subjects};
use super::dependency_reader::read_missing_subjects;
use super::journal::JournalStore;
use super::observer::Observer;
use super::plan::Plan;
use super::world::{ObservedRepository, RepositoryRole, World};
use crate::config::Config;
use crate::error::{ItemError, chain};
use crate::model::cleanup_journal::relative_to;
use crate::model::{Repository, TagHistory};
use crate::packages::{Documents, StoredDocument};

/// Age of the oldest journals that are read for deleted images.
const MAX_JOURNAL_AGE: TimeDelta = TimeDelta::days(90);

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

/// Adds the images that earlier cleanups deleted and that are still missing, so that the attachments
/// that they left behind can be deleted.
///
/// Reads the journal only if an attachment has no image. If it cannot be read, such attachments stay.
pub async fn read_deleted_subjects(
    world: &mut World,
    store: &dyn JournalStore,
    observer: Observer<'_>,
) {
    let is_needed = |repository: &ObservedRepository| {
        let known = AttachmentIndex::of(repository).known;
        let mut named = repository.tags().flat_map(|tag| subjects(repository, tag));
        named.any(|subject| !known.contains(&subject))
    };
    if !world.repositories.iter().any(is_needed) {
        return;
    }
    let batches = match store.recent(observer.now - MAX_JOURNAL_AGE).await {
        Ok(batches) => batches,
        Err(error) => {
            world.warnings.push(format!(
                "attachments without an image are kept: the journals of earlier runs cannot be read: \
                 {}",
                chain(&error)
            ));
            return;
        }
    };
    for repository in &mut world.repositories {
        let own = batches
            .iter()
            .filter(|batch| batch.repository == repository.repository);
        repository.deleted_subjects = own
            .flat_map(|batch| {
                batch
                    .manifests
                    .iter()
                    .map(|manifest| manifest.digest.clone())
            })
            .collect();
        read_missing_subjects(observer, repository).await;
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
