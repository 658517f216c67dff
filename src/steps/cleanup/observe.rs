//! Observation: reads everything that the policy needs about the repositories in scope. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::application_reader::applications;
use super::clock_check::clock_error;
use super::dependency_reader::complete_trees;
use super::desired_tags::{desired_tags, identities, selections};
use super::needed_images::OutsideFacts;
use super::observer::Observer;
use super::protections::RecordProtections;
use super::repository_reader::RepositoryReader;
use super::tag_spellings::read_tag_case;
use super::targets::{CleanupScope, CleanupTarget, targets};
use super::world::{
    DesiredTags, ObservedRecords, ObservedRepository, RepositoryRole, UnreadRepository, World,
};
use crate::config::Config;
use crate::error::{ItemError, chain};
use crate::model::Repository;
use crate::progress::Event;

/// Maximum number of repositories that are read concurrently.
pub(super) const CONCURRENT_REPOSITORIES: usize = 4;

/// Reads everything that the repositories in scope need. Errors are part of the result.
pub async fn observe(
    config: &Config,
    scope: &CleanupScope,
    records: impl Into<Arc<ObservedRecords>>,
    observer: Observer<'_>,
) -> World {
    observe_with(config, scope, records, OutsideFacts::default(), observer).await
}

/// Like [`observe`], with facts from outside of the registries and the record store.
pub async fn observe_with(
    config: &Config,
    scope: &CleanupScope,
    records: impl Into<Arc<ObservedRecords>>,
    outside: OutsideFacts<'_>,
    observer: Observer<'_>,
) -> World {
    let mut world = World::new(config, records.into(), outside, observer.now);
    let targets = scope.targets(config);
    let applications = applications(config, scope, &world, observer).await;
    let desired = async {
        let positions = targets
            .iter()
            .flat_map(|target| target.entries.iter().copied())
            .collect();
        let (identities, selections) = futures_util::join!(
            identities(config, observer),
            selections(config, positions, observer)
        );
        desired_tags(config, &targets, &identities, &selections)
    };
    let ((desired, mut warnings), (orphans, orphan_warnings)) =
        futures_util::join!(desired, orphans(config, observer));
    warnings.extend(orphan_warnings);
    warnings.extend(applications.warnings);
    let protections = RecordProtections::of_world(&world);
    let reader = &RepositoryReader {
        observer,
        protections: &protections,
    };
    let application_facts = applications.targets.iter().map(|_| DesiredTags::default());
    let desired: Vec<DesiredTags> = desired.into_iter().chain(application_facts).collect();
    let targets: Vec<CleanupTarget> = targets.into_iter().chain(applications.targets).collect();
    let reads = unread_repositories(config, &targets, desired)
        .into_iter()
        .map(|repository| async move { reader.read_repository(repository).await });
    let repositories: Vec<ObservedRepository> = stream::iter(reads.collect::<Vec<_>>())
        .buffered(CONCURRENT_REPOSITORIES)
        .collect()
        .await;
    let upstream_warnings = repositories
        .iter()
        .filter_map(|repository| repository.desired.upstream_warning.clone());
    warnings.extend(upstream_warnings);
    let (cut, read) = repositories
        .into_iter()
        .partition(|repository| repository.cut.is_some());
    world.repositories = read;
    let unread = |repository: ObservedRepository| UnreadRepository {
        repository: repository.repository,
        progress: repository.cut.filter(|progress| progress.listed > 0),
    };
    world.unread = Vec::into_iter(cut).map(unread).collect();
    check_clocks(&mut world.repositories, observer);
    world.orphans = orphans;
    world.warnings = warnings;
    world
}

/// Adds the error of a wrong clock to the repositories that it concerns. Call it after they were
/// read, since responses have the time.
pub(super) fn check_clocks(repositories: &mut [ObservedRepository], observer: Observer<'_>) {
    let offsets = observer.stores.clock_offsets();
    for repository in repositories
        .iter_mut()
        .filter(|repository| repository.error.is_none())
    {
        repository.error = clock_error(&repository.repository, &offsets);
    }
}

/// Returns `world` with another reading of the records, and the images that they name in addition.
///
/// Observation can last minutes, and applications may be registered during that time.
pub async fn observe_records(
    mut world: World,
    config: &Config,
    records: impl Into<Arc<ObservedRecords>>,
    observer: Observer<'_>,
) -> World {
    if !world.add_records(config, records.into(), observer.now) {
        return world;
    }
    let repositories = std::mem::take(&mut world.repositories);
    let protections = RecordProtections::of_world(&world);
    let reader = &RepositoryReader {
        observer,
        protections: &protections,
    };
    let reads = repositories.into_iter().map(|mut repository| async move {
        let listed = repository.tags().map(|tag| tag.tag.clone()).collect();
        read_tag_case(observer, reader.protections, &mut repository, listed).await;
        reader.read_pinned(&mut repository).await;
        repository
    });
    let repositories = stream::iter(reads.collect::<Vec<_>>())
        .buffered(CONCURRENT_REPOSITORIES)
        .collect()
        .await;
    world.repositories = repositories;
    world
}

/// Returns `world` with every manifest below the images of repositories where manifests are deleted
/// by digest.
///
/// Called last, before something is deleted: it sends a request for each entry of an index.
pub async fn observe_entries(mut world: World, observer: Observer<'_>) -> World {
    let repositories = std::mem::take(&mut world.repositories);
    let protections = &RecordProtections::of(&world.records, &world.applications);
    let reads = repositories.into_iter().map(|mut repository| async move {
        complete_trees(observer, protections, &mut repository).await;
        repository
    });
    world.repositories = stream::iter(reads.collect::<Vec<_>>())
        .buffered(CONCURRENT_REPOSITORIES)
        .collect()
        .await;
    world
}

/// Returns the repositories to read: the targets, then their archives.
fn unread_repositories(
    config: &Config,
    targets: &[CleanupTarget],
    desired: Vec<DesiredTags>,
) -> Vec<ObservedRepository> {
    let mut archives: BTreeMap<Repository, (Repository, u32)> = BTreeMap::new();
    let mut repositories = Vec::with_capacity(targets.len());
    for (target, desired) in targets.iter().zip(desired) {
        let mut unread = ObservedRepository::of_target(config, target, desired);
        for (archive, repository) in target.archive_settings() {
            match repository {
                Ok(repository) => {
                    let (_, keep_days) = archives
                        .entry(config.canonical(&repository))
                        .or_insert_with(|| (repository.clone(), 0));
                    *keep_days = archive.keep_days.max(*keep_days);
                    unread.archive.get_or_insert(repository);
                }
                Err(cause) => {
                    unread.error = Some(
                        ItemError::other(cause)
                            .with_hint("set `retention.archive.enabled: false` for it"),
                    );
                }
            }
        }
        repositories.push(unread);
    }
    let archives = archives.into_values().map(|(repository, keep_days)| {
        ObservedRepository::unread(config, repository, RepositoryRole::Archive { keep_days })
    });
    repositories.extend(archives);
    repositories
}

/// Returns repositories next to the bases that the configuration does not name, with warnings.
async fn orphans(config: &Config, observer: Observer<'_>) -> (Vec<Repository>, Vec<String>) {
    let (mut orphans, mut warnings) = (BTreeSet::new(), Vec::new());
    let Some(build) = &config.build else {
        return (Vec::new(), warnings);
    };
    let targets = targets(config);
    let mut known: BTreeSet<Repository> =
        targets.iter().flat_map(CleanupTarget::archives).collect();
    known.extend(targets.iter().map(|target| target.repository.clone()));
    known.extend(build.images.iter().map(|image| image.mirror_image.clone()));
    let known: BTreeSet<Repository> = known
        .iter()
        .map(|repository| config.canonical(repository))
        .collect();
    let mut listed_parents: BTreeSet<String> = BTreeSet::new();
    for image in &build.images {
        let repository = &image.repository;
        let name = repository.to_string();
        let parent = name
            .rsplit_once('/')
            .map_or_else(String::new, |(parent, _)| parent.to_owned());
        if !listed_parents.insert(parent) {
            continue;
        }
        observer.progress.event(Event::Observing {
            what: &format!("repositories next to {repository}"),
        });
        let store = observer.stores.of(repository);
        match store.sibling_repositories(repository).await {
            Ok(found) => orphans.extend(
                found
                    .into_iter()
                    .flatten()
                    .filter(|found| !known.contains(&config.canonical(found))),
            ),
            Err(error) => warnings.push(format!(
                "repositories that are not configured cannot be listed: {}",
                chain(&error)
            )),
        }
    }
    (orphans.into_iter().collect(), warnings)
}
