//! Tags that the configuration wants in each repository: those that `build` would produce and
//! `sync` would select now.

use std::collections::BTreeSet;

use super::observer::Observer;
use super::targets::CleanupTarget;
use super::world::{DesiredTags, ObservedRepository, UpstreamTags};
use crate::config::{Config, SyncEntry, TagSelection};
use crate::error::ItemError;
use crate::model::{Repository, Tag};
use crate::steps::build::{Identity, identify};
use crate::steps::sync::{self, UpstreamSelection};

/// Position of a sync entry, with the tags that it selects or the reason why they are unknown.
pub(super) type EntrySelection = (usize, Result<UpstreamSelection, String>);

/// Returns the desired tags of each target, with warnings about what is unknown.
///
/// `identities` are those of the images of the configuration, by position.
pub(super) fn desired_tags(
    config: &Config,
    targets: &[CleanupTarget],
    identities: &[Result<Identity, ItemError>],
    selections: &[EntrySelection],
) -> (Vec<DesiredTags>, Vec<String>) {
    let mut warnings = Vec::new();
    let mut all = Vec::with_capacity(targets.len());
    for target in targets {
        let mut desired = DesiredTags::default();
        add_builds(&mut desired, config, target, identities);
        for (entry, selected) in selections
            .iter()
            .filter(|(position, _)| target.entries.contains(position))
        {
            match selected {
                Ok(selection) => {
                    desired.selected.extend(selection.tags.iter().cloned());
                    desired
                        .upstreams
                        .extend(upstream(config, *entry, selection));
                }
                Err(cause) => {
                    warnings.push(format!(
                        "all tags of {} are kept: sync.entries[{entry}]: {cause}",
                        target.repository
                    ));
                    desired.upstream_unknown = Some(cause.clone());
                }
            }
        }
        if let Some(cause) = &desired.build_unknown {
            warnings.push(format!(
                "all tags of {} are kept: {cause}",
                target.repository
            ));
        }
        all.push(desired);
    }
    (all, warnings)
}

/// Returns the upstream of an entry that selects by a pattern.
fn upstream(config: &Config, entry: usize, selection: &UpstreamSelection) -> Option<UpstreamTags> {
    let listing = selection.listing?;
    let settings = config.sync.as_ref()?.entries.get(entry)?;
    match &settings.selection {
        TagSelection::Fixed(_) => None,
        TagSelection::Pattern(pattern) => Some(UpstreamTags {
            entry,
            source: settings.source.clone(),
            pattern: (**pattern).clone(),
            matching: listing.matching,
        }),
    }
}

/// Treats the upstream of a listed mirror as unknown if it lists less than half of what the mirror
/// has of it: its listing is probably incomplete. Returns a warning.
pub(super) fn check_upstreams(repository: &mut ObservedRepository) -> Option<String> {
    let is_copied = |tag: &Tag| tag.parse_replaced().is_none();
    let cause = repository.desired.upstreams.iter().find_map(|upstream| {
        let mirrored = repository
            .tags()
            .filter(|tag| is_copied(&tag.tag) && sync::matches(&upstream.pattern, &tag.tag))
            .count();
        let (source, listed) = (&upstream.source, upstream.matching);
        (listed * 2 < mirrored).then(|| {
            let cause = format!(
                "{source} lists {listed} of the tags that the entry selects from, less than half of \
                 the {mirrored} that the mirror has"
            );
            (upstream.entry, cause)
        })
    });
    let (entry, cause) = cause?;
    let warning = format!(
        "all tags of {} are kept: sync.entries[{entry}]: {cause}",
        repository.repository
    );
    repository.desired.upstream_unknown.get_or_insert(cause);
    Some(warning)
}

/// Adds the tags that images are published as, and those that they are built on.
fn add_builds(
    desired: &mut DesiredTags,
    config: &Config,
    target: &CleanupTarget,
    identities: &[Result<Identity, ItemError>],
) {
    let canonical = config.canonical(&target.repository);
    let is_target = |repository: &Repository| config.canonical(repository) == canonical;
    let images = config
        .build
        .iter()
        .flat_map(|build| build.images.iter().enumerate());
    for (position, image) in images {
        let identity = identities.get(position);
        if target.images.contains(&position) {
            desired.aliases.extend(image.aliases.iter().cloned());
            match identity {
                Some(Ok(identity)) => drop(desired.built.insert(identity.tag.clone())),
                Some(Err(error)) => desired.build_unknown = Some(error.to_string()),
                None => desired.build_unknown = Some("the image was not inspected".to_owned()),
            }
        }
        match identity {
            Some(Ok(identity)) if is_target(&identity.base) => {
                desired.used.insert(identity.base_tag.clone());
            }
            Some(Err(error)) if is_target(&image.mirror_image) => match &image.mirror_tag {
                Some(tag) => drop(desired.used.insert(tag.clone())),
                None => desired.build_unknown = Some(error.to_string()),
            },
            _ => {}
        }
    }
}

/// Returns the identity of each image of the configuration, by position.
pub(super) async fn identities(
    config: &Config,
    observer: Observer<'_>,
) -> Vec<Result<Identity, ItemError>> {
    match &config.build {
        Some(build) => {
            identify(
                config,
                build,
                &(0..build.images.len()).collect(),
                observer.stores,
                observer.progress,
            )
            .await
        }
        None => Vec::new(),
    }
}

/// Returns the tags that the sync entries at `positions` select.
pub(super) async fn selections(
    config: &Config,
    positions: BTreeSet<usize>,
    observer: Observer<'_>,
) -> Vec<EntrySelection> {
    let Some(sync) = &config.sync else {
        return Vec::new();
    };
    let entries: Vec<&SyncEntry> = positions
        .iter()
        .map(|&position| &sync.entries[position])
        .collect();
    let selected =
        sync::selections(&entries, observer.stores, observer.progress, observer.now).await;
    positions
        .into_iter()
        .zip(
            selected
                .into_iter()
                .zip(&entries)
                .map(|(selection, entry)| match selection {
                    Ok(selection) if selection.listing.is_some_and(|listing| listing.tags == 0) => {
                        Err(format!("{} lists no tags", entry.source))
                    }
                    selection => selection.map_err(|error| error.to_string()),
                }),
        )
        .collect()
}
