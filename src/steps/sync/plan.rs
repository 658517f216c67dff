//! Plan of a sync, computed from the observed state. Pure: no requests and no clock.

use std::collections::{BTreeMap, BTreeSet};

use super::observe::{ObservedEntry, TagDigests, World};
use super::select::LeftOutCounts;
use super::target_listing::TargetListing;
use super::variants::VariantName;
use crate::config::{CheckDigest, SyncConfig, SyncEntry};
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
    /// Number of selected tags that another entry copies from the same image.
    pub merged: usize,
    pub warnings: Vec<String>,
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
    let overlaps = Overlaps::of(sync, world);
    let entries = world
        .entries
        .iter()
        .map(|observed| plan_entry(&sync.entries[observed.position], observed, &overlaps))
        .collect();
    Plan { entries }
}

/// Target tags that several entries select.
struct Overlaps<'a> {
    tags: BTreeMap<(&'a Repository, &'a Tag), Overlap>,
}

/// Entries that select one target tag.
struct Overlap {
    writers: BTreeSet<usize>,
    /// Entry that copies the tag, if all entries select the same image with the same settings.
    writer: Option<usize>,
}

/// The entry that copies a target tag, seen from one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TagWriter<'a> {
    This,
    /// Another entry copies the same image.
    Other,
    /// The entries select different images, or with different settings.
    Disputed(&'a BTreeSet<usize>),
}

impl<'a> Overlaps<'a> {
    fn of(sync: &'a SyncConfig, world: &'a World) -> Overlaps<'a> {
        let mut wishes: BTreeMap<(&Repository, &Tag), Vec<(&ObservedEntry, &Tag)>> =
            BTreeMap::new();
        for observed in &world.entries {
            for tag in observed.selected.iter().flat_map(|selected| &selected.tags) {
                let target = &sync.entries[observed.position].target;
                wishes
                    .entry((target, observed.target_tag(tag)))
                    .or_default()
                    .push((observed, tag));
            }
        }
        let tags = wishes.into_iter().filter_map(|(target, wishes)| {
            let writers: BTreeSet<usize> = wishes
                .iter()
                .map(|(observed, _)| observed.position)
                .collect();
            let overlap = Overlap {
                writer: agreed_writer(sync, &wishes),
                writers,
            };
            (overlap.writers.len() > 1).then_some((target, overlap))
        });
        Overlaps {
            tags: tags.collect(),
        }
    }

    fn writer(&'a self, target: &'a Repository, tag: &'a Tag, position: usize) -> TagWriter<'a> {
        match self.tags.get(&(target, tag)) {
            None => TagWriter::This,
            Some(overlap) => match overlap.writer {
                Some(writer) if writer == position => TagWriter::This,
                Some(_) => TagWriter::Other,
                None => TagWriter::Disputed(&overlap.writers),
            },
        }
    }
}

/// Returns the entry that copies a target tag for all entries that select it. `None` if they select
/// different images, or copy them differently.
fn agreed_writer(sync: &SyncConfig, wishes: &[(&ObservedEntry, &Tag)]) -> Option<usize> {
    let ((first, first_tag), others) = wishes.split_first()?;
    let entry = |observed: &ObservedEntry| &sync.entries[observed.position];
    let agrees = |(observed, tag): &(&ObservedEntry, &Tag)| {
        let (one, other) = (entry(first), entry(observed));
        let is_same_image = (one.source == other.source && first_tag == tag)
            || first
                .source_digest(first_tag)
                .is_some_and(|digest| observed.source_digest(tag) == Some(digest));
        is_same_image
            && one.platforms == other.platforms
            && one.platform_mode == other.platform_mode
            && one.platforms_missing == other.platforms_missing
            && one.referrers == other.referrers
    };
    if !others.iter().all(agrees) {
        return None;
    }
    // An entry that follows digests does more than one that does not.
    let follows = wishes
        .iter()
        .find(|(observed, tag)| observed.follows(tag))
        .map(|(observed, _)| observed.position);
    Some(follows.unwrap_or(first.position))
}

/// Computes the plan for one entry.
fn plan_entry(
    entry: &SyncEntry,
    observed: &ObservedEntry,
    overlaps: &Overlaps<'_>,
) -> SyncEntryPlan {
    let mut planned = SyncEntryPlan {
        position: observed.position,
        left_out: LeftOutCounts::default(),
        items: Vec::new(),
        merged: 0,
        warnings: Vec::new(),
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
    planned.warnings.clone_from(&selected.warnings);
    let target = match &observed.target {
        Ok(target) => target,
        Err(error) => {
            planned.error = Some(error.clone());
            return planned;
        }
    };
    let is_copied_here = |tag: &&Tag| {
        let target_tag = observed.target_tag(tag);
        overlaps.writer(&entry.target, target_tag, observed.position) != TagWriter::Other
    };
    planned.items = selected
        .tags
        .iter()
        .filter(is_copied_here)
        .map(|tag| {
            let target_tag = observed.target_tag(tag);
            let action = match overlaps.writer(&entry.target, target_tag, observed.position) {
                TagWriter::Disputed(writers) => {
                    SyncAction::Fail(several_writers(&entry.target, target_tag, writers))
                }
                TagWriter::This | TagWriter::Other => {
                    match (
                        tag_action(entry, observed, target, tag),
                        &observed.attachment_tags,
                    ) {
                        // A new image must not be published without its attachments.
                        (
                            SyncAction::Copy(
                                CopyReason::Missing { .. } | CopyReason::Changed { .. },
                            ),
                            Err(error),
                        ) => SyncAction::Fail(error.clone()),
                        (action, _) => action,
                    }
                }
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
    planned.merged = selected.tags.len() - planned.items.len();
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
        (true, _) if !observed.follows(tag) => completion_action(entry, observed, tag),
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
            Some(Err(error))
                if entry.check_digest == CheckDigest::Always
                    || observed.attachment_tags.is_ok() =>
            {
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
