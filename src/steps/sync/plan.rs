//! Plan of a sync, computed from the observed state. Pure: no requests and no clock.

use std::collections::{BTreeMap, BTreeSet};

use super::observe::{ObservedEntry, TagDigests, World};
use super::select::LeftOutCounts;
use super::target_listing::TargetListing;
use super::variants::VariantName;
use crate::config::{SyncConfig, SyncEntry};
use crate::error::ItemError;
use crate::model::{Digest, Repository, Tag};

/// Actions of a sync, by entry, in the order of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub entries: Vec<SyncEntryPlan>,
}

/// Actions for one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncEntryPlan {
    /// Position of the entry in the configuration.
    pub position: usize,
    pub left_out: LeftOutCounts,
    /// Selected tags, newest first.
    pub items: Vec<SyncItem>,
    /// Error that prevents any action for the entry.
    pub error: Option<ItemError>,
    /// Upstream tags that hold attachments, or the error of listing them. Empty if the entry does
    /// not copy attachments.
    pub attachment_tags: Result<BTreeSet<Tag>, ItemError>,
    /// True if the target store reported that the repository does not exist.
    pub target_is_new: bool,
}

/// A selected tag with its action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncItem {
    /// Tag at the source.
    pub tag: Tag,
    /// Tag at the target. It differs from `tag` for tags that name an OS variant, and for tags in
    /// upper case if the target stores tags in lower case.
    pub target_tag: Tag,
    pub action: SyncAction,
    pub warnings: Vec<String>,
}

/// Action for one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncAction {
    UpToDate,
    Copy(CopyReason),
    /// Report the error and copy nothing.
    Fail(ItemError),
}

/// Reason for copying a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyReason {
    /// The tag does not exist at the target.
    Missing {
        /// Digest to copy. If `None`, the copy resolves the tag when it starts, which saves a
        /// request.
        source: Option<Digest>,
    },
    /// The tag moved upstream.
    Changed {
        /// Digest to copy.
        source: Digest,
        /// Digest that the tag must still have at the target when it is overwritten.
        replaces: Digest,
        /// Digest of the tag at the target after the copy.
        wanted: Digest,
    },
    /// The tag is at the target, but parts of its image are missing.
    Incomplete { missing: Vec<Digest> },
    /// The image is complete, but upstream has attachments that the target lacks.
    Attachments,
}

/// Computes the plan for `world`.
pub fn plan(sync: &SyncConfig, world: &World) -> Plan {
    let overlaps = overlaps(sync, world);
    let entries = world
        .entries
        .iter()
        .map(|observed| plan_entry(&sync.entries[observed.position], observed, &overlaps))
        .collect();
    Plan { entries }
}

/// Returns the target tags that several entries select, with the positions of these entries.
fn overlaps<'a>(
    sync: &'a SyncConfig,
    world: &'a World,
) -> BTreeMap<(&'a Repository, &'a Tag), BTreeSet<usize>> {
    let mut writers: BTreeMap<(&Repository, &Tag), BTreeSet<usize>> = BTreeMap::new();
    for observed in &world.entries {
        for tag in observed.selected.iter().flat_map(|selected| &selected.tags) {
            writers
                .entry((
                    &sync.entries[observed.position].target,
                    observed.target_tag(tag),
                ))
                .or_default()
                .insert(observed.position);
        }
    }
    writers.retain(|_, entries| entries.len() > 1);
    writers
}

/// Computes the plan for one entry.
fn plan_entry(
    entry: &SyncEntry,
    observed: &ObservedEntry,
    overlaps: &BTreeMap<(&Repository, &Tag), BTreeSet<usize>>,
) -> SyncEntryPlan {
    let mut planned = SyncEntryPlan {
        position: observed.position,
        left_out: LeftOutCounts::default(),
        items: Vec::new(),
        error: None,
        attachment_tags: observed.attachment_tags.clone(),
        target_is_new: matches!(observed.target, Ok(TargetListing::NoRepository)),
    };
    let selected = match &observed.selected {
        Ok(selected) => selected,
        Err(rejected) => {
            planned.error = Some((*rejected.error).clone());
            planned.left_out = rejected.left_out;
            return planned;
        }
    };
    planned.left_out = selected.left_out;
    let target = match &observed.target {
        Ok(target) => target,
        Err(error) => {
            planned.error = Some(error.clone());
            return planned;
        }
    };
    planned.items = selected
        .tags
        .iter()
        .map(|tag| {
            let target_tag = observed.target_tag(tag);
            let action = match overlaps.get(&(&entry.target, target_tag)) {
                Some(writers) => {
                    SyncAction::Fail(several_writers(&entry.target, target_tag, writers))
                }
                None => match (
                    tag_action(entry, observed, target, tag),
                    &observed.attachment_tags,
                ) {
                    // A new image must not be published without its attachments.
                    (
                        SyncAction::Copy(CopyReason::Missing { .. } | CopyReason::Changed { .. }),
                        Err(error),
                    ) => SyncAction::Fail(error.clone()),
                    (action, _) => action,
                },
            };
            let mut warnings = Vec::new();
            if let Some(Ok(VariantName::Unchanged { warning })) = observed.variant_names.get(tag) {
                warnings.push(warning.clone());
            }
            match (&action, observed.attachments.get(tag)) {
                (SyncAction::UpToDate, Some(Err(error))) => {
                    warnings.push(format!("cannot check for new signatures: {error}"));
                }
                (SyncAction::UpToDate, Some(Ok(state))) => {
                    warnings.extend(state.warnings.iter().cloned());
                }
                _ => {}
            }
            SyncItem {
                tag: tag.clone(),
                target_tag: target_tag.clone(),
                action,
                warnings,
            }
        })
        .collect();
    merge_duplicates(entry, observed, &mut planned.items);
    planned
}

/// Keeps one item for each tag at the target.
///
/// Source tags with the same target tag are normally the same image. If one of them moved during
/// the observation, so that their digests differ, all of them fail.
fn merge_duplicates(entry: &SyncEntry, observed: &ObservedEntry, items: &mut Vec<SyncItem>) {
    let mut sources: BTreeMap<Tag, Vec<Tag>> = BTreeMap::new();
    for item in items.iter() {
        sources
            .entry(item.target_tag.clone())
            .or_default()
            .push(item.tag.clone());
    }
    sources.retain(|_, tags| tags.len() > 1);
    items.retain_mut(|item| {
        let Some(tags) = sources.get(&item.target_tag) else {
            return true;
        };
        let names: BTreeSet<&Tag> = tags.iter().map(|tag| observed.target_name(tag)).collect();
        if names.len() > 1 {
            item.action = SyncAction::Fail(several_spellings(entry, &item.target_tag, &names));
            return true;
        }
        let digests: BTreeSet<&Digest> = tags
            .iter()
            .filter_map(|tag| observed.source_digest(tag))
            .collect();
        if digests.len() > 1 {
            item.action = SyncAction::Fail(several_sources(entry, &item.target_tag, tags));
            return true;
        }
        // The source tag with the same name, or else the first one.
        let kept = tags
            .iter()
            .find(|tag| **tag == item.target_tag)
            .or(tags.first());
        kept == Some(&item.tag)
    });
}

/// Returns the action for one selected tag.
fn tag_action(
    entry: &SyncEntry,
    observed: &ObservedEntry,
    target: &TargetListing,
    tag: &Tag,
) -> SyncAction {
    if let Some(Err(error)) = observed.variant_names.get(tag) {
        return SyncAction::Fail(error.clone());
    }
    let digests = match observed.digests.get(tag) {
        Some(Err(error)) => return SyncAction::Fail(error.clone()),
        Some(Ok(digests)) => Some(digests),
        None => None,
    };
    let source = observed.source_digest(tag).cloned();
    match (target.has(observed.target_tag(tag)), digests) {
        (false, _) => SyncAction::Copy(CopyReason::Missing { source }),
        (true, _) if !entry.check_digest => completion_action(entry, observed, tag),
        (
            true,
            Some(TagDigests {
                source,
                wanted,
                target: Some(found),
            }),
        ) if found != wanted => SyncAction::Copy(CopyReason::Changed {
            source: source.clone(),
            replaces: found.clone(),
            wanted: wanted.clone(),
        }),
        (
            true,
            Some(TagDigests {
                target: Some(_), ..
            }),
        ) => completion_action(entry, observed, tag),
        // The tag was deleted after the listing.
        (true, _) => SyncAction::Copy(CopyReason::Missing { source }),
    }
}

/// Returns the action for a tag that points to the right image: copy missing parts or new
/// attachments, or do nothing.
fn completion_action(entry: &SyncEntry, observed: &ObservedEntry, tag: &Tag) -> SyncAction {
    match observed.missing.get(tag) {
        Some(Ok(missing)) if !missing.is_empty() => SyncAction::Copy(CopyReason::Incomplete {
            missing: missing.clone(),
        }),
        Some(Err(error)) => SyncAction::Fail(error.clone()),
        _ => match observed.attachments.get(tag) {
            Some(Ok(state)) if state.is_outdated => SyncAction::Copy(CopyReason::Attachments),
            Some(Err(error)) if entry.check_digest || observed.attachment_tags.is_ok() => {
                SyncAction::Fail(error.clone())
            }
            // A fixed tag is up to date even if its upstream repository cannot be listed.
            _ => SyncAction::UpToDate,
        },
    }
}

/// Returns the error of a target tag that several entries select.
fn several_writers(target: &Repository, tag: &Tag, writers: &BTreeSet<usize>) -> ItemError {
    let entries: Vec<String> = writers
        .iter()
        .map(|position| format!("sync.entries[{position}]"))
        .collect();
    let all = if entries.len() == 2 { "both" } else { "all" };
    ItemError::other(format!(
        "{} {all} select {target}:{tag}",
        entries.join(" and ")
    ))
    .with_hint(
        "narrow their `tag_regex` or add `exclude_regex`, so that only one entry selects each tag",
    )
}

/// Returns the error of tags that differ only in case, at a target that stores tags in lower case.
fn several_spellings(entry: &SyncEntry, target_tag: &Tag, names: &BTreeSet<&Tag>) -> ItemError {
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    ItemError::other(format!(
        "{} would all be stored as {}:{target_tag}, because the registry stores tags in lower case",
        names.join(" and "),
        entry.target
    ))
    .with_hint("exclude all but one of them with `exclude_regex`, or narrow `tag_regex`")
}

/// Returns the error of different images that would be stored under one target tag.
fn several_sources(entry: &SyncEntry, target_tag: &Tag, tags: &[Tag]) -> ItemError {
    let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    ItemError::other(format!(
        "{} would all be stored as {}:{target_tag}, but are different images",
        tags.join(" and "),
        entry.target
    ))
    .with_hint("run sync again; a tag moved upstream during the run")
}
