//! Preview of a cleanup with as few requests as possible, for the report of `status`.
//!
//! A tag is read only if its name, the rules and the records do not keep it already. The cleanup
//! itself reads all tags.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::NaiveDate;
use futures_util::{StreamExt, stream};

use super::desired_tags::{EntrySelection, check_upstreams, desired_tags, selections};
use super::histories::read_histories;
use super::manifest_cache::RememberedImages;
use super::manifest_tree::{CONCURRENT_MANIFESTS, DateSource};
use super::needed_images::OutsideFacts;
use super::observe::{CONCURRENT_REPOSITORIES, check_clocks};
use super::observer::Observer;
use super::plan::plan;
use super::policy::CleanupPolicy;
use super::protections::RecordProtections;
use super::repository_reader::RepositoryReader;
use super::required_facts::{MissingDates, doubtful_tags, undecided_tags};
use super::safety_check::safety_check;
use super::tag_spellings::read_tag_case;
use super::targets::{CleanupTarget, targets};
use super::world::{
    ObservedRecords, ObservedRepository, ObservedTag, RepositoryRole, TagReadError, World,
};
use crate::config::Config;
use crate::error::ItemError;
use crate::model::{Repository, Tag};
use crate::packages::{Documents, RecordSet};
use crate::registry::ListedTag;
use crate::steps::build::Identity;

/// Data that the caller has already read.
#[derive(Clone, Copy)]
pub struct PreviewInput<'a> {
    /// Tags of each repository, including attachments.
    pub listings: &'a BTreeMap<Repository, Vec<ListedTag>>,
    /// Identity of each base, by the position of the image.
    pub identities: &'a [Result<Identity, ItemError>],
    /// `None` if the configuration names no record store.
    pub records: Option<&'a RecordSet>,
    /// State that earlier cleanups left; `None` without a record store, so that no tag waits.
    pub documents: Option<&'a Documents>,
}

/// Tags that a cleanup would delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanupPreview {
    pub deletions: BTreeSet<(Repository, Tag)>,
    /// Selected tags that wait, each with the day on which a cleanup deletes it.
    pub waiting: BTreeMap<(Repository, Tag), NaiveDate>,
    pub warnings: Vec<String>,
}

/// Returns the tags that a cleanup would delete; none without `retention`.
///
/// If anything about a tag is unknown, it is kept, as in a cleanup. A registry that cannot delete
/// tags by name may keep more of them.
pub async fn preview(
    config: &Config,
    input: PreviewInput<'_>,
    observer: Observer<'_>,
) -> CleanupPreview {
    let records = input
        .records
        .map_or(ObservedRecords::NotConfigured, |reading| {
            ObservedRecords::Read(reading.clone())
        });
    let mut world = World::new(
        config,
        Arc::new(records),
        OutsideFacts::default(),
        observer.now,
    );
    let keepers = config
        .retention
        .as_ref()
        .and_then(|rules| rules.keepers.as_ref());
    let unread = keepers.and_then(|keepers| {
        if !keepers.keep_from.is_empty() {
            Some("the lists of `retention.keep_from` are not read here")
        } else if keepers.keep_deployed.is_some() {
            Some("the deployments of `retention.keep_deployed` are not read here")
        } else {
            None
        }
    });
    if let Some(unread) = unread {
        // They are read by the cleanup only, and without them any tag may be in use.
        return CleanupPreview {
            warnings: vec![unread.to_owned()],
            ..CleanupPreview::default()
        };
    }
    if config.retention.is_none() || safety_check(&world).is_some() {
        return CleanupPreview::default();
    }
    let protections = RecordProtections::of_world(&world);
    let targets = targets(config);
    let (listed, _) = listed_repositories(config, &targets, input, &[]);
    // Upstreams matter only if a tag may be deleted.
    let may_delete = |repository: &ObservedRepository| {
        !undecided_tags(repository, &protections, MissingDates::Unread, observer.now).is_empty()
    };
    let positions: BTreeSet<usize> = targets
        .iter()
        .zip(&listed)
        .filter(|(_, repository)| may_delete(repository))
        .flat_map(|(target, _)| target.entries.iter().copied())
        .collect();
    let selections = selections(config, positions, observer).await;
    let (listed, warnings) = listed_repositories(config, &targets, input, &selections);
    world.warnings = warnings;
    let reader = &RepositoryReader {
        observer,
        protections: &protections,
    };
    let reads = listed
        .into_iter()
        .map(|repository| async move { read_undecided(reader, repository).await });
    world.repositories = stream::iter(reads.collect::<Vec<_>>())
        .buffered(CONCURRENT_REPOSITORIES)
        .collect()
        .await;
    check_clocks(&mut world.repositories, observer);
    if let Some(documents) = input.documents {
        read_histories(&mut world, config, documents).await;
    }
    let policy = CleanupPolicy {
        now: observer.now,
        max_delete_percent: None,
        is_forced: false,
        is_journal_missing: false,
    };
    let plan = plan(&world, &policy);
    // The caller may know a repository by any of its names.
    let names: BTreeMap<&Repository, BTreeSet<Repository>> = targets
        .iter()
        .map(|target| (&target.repository, target.repositories(config)))
        .collect();
    let by_every_name = |repository: &Repository, tag: &Tag| {
        let names = names.get(repository).into_iter().flatten();
        names
            .map(|name| (name.clone(), tag.clone()))
            .collect::<Vec<_>>()
    };
    let deletions = plan
        .deletions()
        .flat_map(|(repository, tag, _)| by_every_name(repository, tag))
        .collect();
    let waiting = plan
        .waiting()
        .flat_map(|(repository, tag, until)| {
            let names = by_every_name(repository, tag);
            names.into_iter().map(move |name| (name, until))
        })
        .collect();
    CleanupPreview {
        deletions,
        waiting,
        warnings: world.warnings,
    }
}

/// Returns each target with its listed tags, none of which has been read, and warnings.
fn listed_repositories(
    config: &Config,
    targets: &[CleanupTarget],
    input: PreviewInput<'_>,
    selections: &[EntrySelection],
) -> (Vec<ObservedRepository>, Vec<String>) {
    let (desired, mut warnings) = desired_tags(config, targets, input.identities, selections);
    let repositories = targets.iter().zip(desired).map(|(target, desired)| {
        let unread = ObservedRepository::of_target(config, target, desired);
        let listing = input
            .listings
            .get(&target.repository)
            .map_or(&[][..], Vec::as_slice);
        ObservedRepository {
            listing: Ok(listing
                .iter()
                .filter(|listed| !listed.is_reference)
                .map(|listed| unread_tag(unread.role, listed.clone()))
                .collect()),
            ..unread
        }
    });
    let mut repositories: Vec<ObservedRepository> = repositories.collect();
    warnings.extend(repositories.iter_mut().filter_map(check_upstreams));
    (repositories, warnings)
}

/// Returns a tag that was listed and not read.
fn unread_tag(role: RepositoryRole, listed: ListedTag) -> ObservedTag {
    let unread = TagReadError::Failed(ItemError::other("it was not read"));
    ObservedTag::listed(listed, role, Err(unread))
}

/// Reads the tags that may be deleted, and no others.
async fn read_undecided(
    reader: &RepositoryReader<'_>,
    mut repository: ObservedRepository,
) -> ObservedRepository {
    let (protections, now) = (reader.protections, reader.observer.now);
    let listed = repository.tags().map(|tag| tag.tag.clone()).collect();
    read_tag_case(reader.observer, protections, &mut repository, listed).await;
    if undecided_tags(&repository, protections, MissingDates::Unread, now).is_empty() {
        return repository;
    }
    let name = repository.repository.clone();
    match reader.push_dates(&name, repository.role).await {
        Ok(dates) => {
            let dates: BTreeMap<Tag, _> = dates
                .into_iter()
                .flatten()
                .map(|tag| (tag.tag, tag.pushed_at))
                .collect();
            for tag in repository
                .listing
                .iter_mut()
                .flatten()
                .filter(|tag| tag.pushed_at.is_none())
            {
                tag.pushed_at = dates.get(&tag.tag).copied().flatten();
            }
        }
        Err(error) => {
            repository.error = Some(error);
            return repository;
        }
    }
    let missing = match repository.role {
        RepositoryRole::Base | RepositoryRole::Application | RepositoryRole::Archive { .. } => {
            MissingDates::Unread
        }
        RepositoryRole::Mirror => MissingDates::Unknown,
    };
    let undecided: BTreeSet<Tag> = undecided_tags(&repository, protections, missing, now)
        .into_iter()
        .cloned()
        .collect();
    let remembered = &RememberedImages::load(reader.observer.cache, &name, reader.observer.now);
    let reads = undecided
        .into_iter()
        .map(|tag| reader.read_tag(remembered, ListedTag::named(tag), repository.role));
    let read: Vec<(ObservedTag, DateSource)> = stream::iter(reads)
        .buffer_unordered(CONCURRENT_MANIFESTS)
        .collect()
        .await;
    remembered.store(read.iter().map(|(tag, _)| tag), false);
    let (mut images, mut date_sources) = (BTreeMap::new(), BTreeMap::new());
    for (tag, date_source) in read {
        date_sources.insert(tag.tag.clone(), date_source);
        images.insert(tag.tag, tag.image);
    }
    for tag in repository.listing.iter_mut().flatten() {
        if let Some(image) = images.remove(&tag.tag) {
            tag.image = image;
        }
    }
    repository.compare_origins();
    let mut inspected: BTreeSet<Tag> = date_sources.keys().cloned().collect();
    if repository.role.has_build_dates() {
        reader.read_dates(&mut repository, date_sources).await;
    }
    loop {
        let doubtful = doubtful_tags(&repository, protections, &inspected, now);
        if doubtful.is_empty() {
            return repository;
        }
        let absent = absent(reader, &name, &doubtful).await;
        for tag in repository
            .listing
            .iter_mut()
            .flatten()
            .filter(|tag| absent.contains(&tag.tag))
        {
            tag.image = Err(TagReadError::NotFound);
        }
        inspected.extend(doubtful);
    }
}

/// Returns those of the tags that have no manifest.
async fn absent(
    reader: &RepositoryReader<'_>,
    repository: &Repository,
    tags: &BTreeSet<Tag>,
) -> BTreeSet<Tag> {
    let store = reader.observer.stores.of(repository);
    let lookups = tags.iter().map(|tag| async move {
        let found = store.resolve(repository, &tag.clone().into()).await;
        (tag, found)
    });
    let found: Vec<_> = stream::iter(lookups.collect::<Vec<_>>())
        .buffer_unordered(CONCURRENT_MANIFESTS)
        .collect()
        .await;
    found
        .into_iter()
        .filter(|(_, found)| matches!(found, Ok(None)))
        .map(|(tag, _)| tag.clone())
        .collect()
}
