//! Tags at registries that store them in lower case: the configuration and the records as such a
//! registry lists them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::config::{Config, SyncEntry, TagPattern, TagSelection};
use crate::error::ItemError;
use crate::model::{BuildRecord, Repository, Tag};
use crate::registry::{ImageStores, ListedTag, TagCase};
use crate::steps::build::Identity;

/// Maximum number of repositories that are asked concurrently.
const MAX_CONCURRENT_REPOSITORIES: usize = 8;

/// Returns the repositories whose registry stores tags in lower case, of those for which that
/// changes the meaning of the configuration.
pub(super) async fn lowered_repositories(
    config: &Config,
    listings: &BTreeMap<Repository, Vec<ListedTag>>,
    identities: &[Result<Identity, ItemError>],
    stores: &ImageStores,
) -> Result<BTreeSet<Repository>, ItemError> {
    let requests = listings
        .iter()
        .filter(|(repository, listing)| {
            !listing.is_empty()
                && !listing.iter().any(|listed| listed.tag.has_upper_case())
                && has_upper_case(config, repository, identities)
        })
        .map(|(repository, listing)| async move {
            let listed = listing.iter().map(|listed| listed.tag.clone()).collect();
            let case = stores.of(repository).tag_case(repository, &listed).await?;
            Ok::<_, ItemError>((case == TagCase::Insensitive).then(|| repository.clone()))
        });
    let lowered: Vec<Option<Repository>> = stream::iter(requests.collect::<Vec<_>>())
        .buffer_unordered(MAX_CONCURRENT_REPOSITORIES)
        .try_collect()
        .await?;
    Ok(lowered.into_iter().flatten().collect())
}

/// Returns true if the configuration has letters in upper case for tags of a repository.
fn has_upper_case(
    config: &Config,
    repository: &Repository,
    identities: &[Result<Identity, ItemError>],
) -> bool {
    let by_entry = |entry: &SyncEntry| {
        entry.target == *repository
            && match &entry.selection {
                TagSelection::Fixed(tag) => tag.has_upper_case(),
                TagSelection::Pattern(pattern) => {
                    let mut patterns = pattern.exclude_regex.iter().chain(&pattern.tag_regex);
                    patterns.any(|pattern| pattern.without_case().is_some())
                        || pattern.include.iter().any(Tag::has_upper_case)
                }
            }
    };
    let entries = config.sync.iter().flat_map(|sync| &sync.entries);
    let images = config.build.iter().flat_map(|build| &build.images);
    entries.into_iter().any(by_entry)
        || images.zip(identities).any(|(image, identity)| {
            let own = image
                .aliases
                .iter()
                .chain(identity.iter().map(|identity| &identity.tag));
            let mut own = own.filter(|_| image.repository == *repository);
            let mut base = image
                .mirror_tag
                .iter()
                .filter(|_| image.mirror_image == *repository);
            own.any(Tag::has_upper_case) || base.any(Tag::has_upper_case)
        })
}

/// Returns the configuration with tags as the registries list them, of which `repositories` store
/// tags in lower case.
pub fn lowered<'a>(config: &'a Config, repositories: &BTreeSet<Repository>) -> Cow<'a, Config> {
    if repositories.is_empty() {
        return Cow::Borrowed(config);
    }
    let mut config = config.clone();
    let without_case = |pattern: &mut TagPattern| {
        if let Some(other) = pattern.without_case() {
            *pattern = other;
        }
    };
    for entry in config.sync.iter_mut().flat_map(|sync| &mut sync.entries) {
        if repositories.contains(&entry.target) {
            match &mut entry.selection {
                TagSelection::Fixed(tag) => *tag = tag.lower_case(),
                TagSelection::Pattern(pattern) => {
                    for tag in &mut pattern.include {
                        *tag = tag.lower_case();
                    }
                    pattern.tag_regex.iter_mut().for_each(without_case);
                    pattern.exclude_regex.iter_mut().for_each(without_case);
                }
            }
        }
    }
    for image in config.build.iter_mut().flat_map(|build| &mut build.images) {
        if repositories.contains(&image.repository) {
            for alias in &mut image.aliases {
                *alias = alias.lower_case();
            }
        }
        if repositories.contains(&image.mirror_image)
            && let Some(tag) = &mut image.mirror_tag
        {
            *tag = tag.lower_case();
        }
    }
    Cow::Owned(config)
}

/// Changes the tags of current images to those that the registries list.
pub(super) fn lower_identities(
    config: &Config,
    repositories: &BTreeSet<Repository>,
    identities: &mut [Result<Identity, ItemError>],
) {
    let images = config.build.iter().flat_map(|build| &build.images);
    for (image, identity) in images.zip(identities) {
        if let Ok(identity) = identity
            && repositories.contains(&image.repository)
        {
            identity.tag = identity.tag.lower_case();
        }
    }
}

/// Changes the tags of recorded bases to those that the registries list.
pub(super) fn lower_records(repositories: &BTreeSet<Repository>, records: &mut [BuildRecord]) {
    for base in records.iter_mut().filter_map(|record| record.base.as_mut()) {
        if repositories.contains(&base.repository)
            && let Some(tag) = &mut base.tag
        {
            *tag = tag.lower_case();
        }
    }
}
