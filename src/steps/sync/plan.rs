//! What a sync will do, decided from what was seen. Pure: no place, no clock, no waiting.

use std::collections::{BTreeMap, BTreeSet};

use super::observe::{Listing, ObservedEntry, TagDigests, World};
use super::select::LeftOut;
use super::variants::Naming;
use crate::config::{SyncConfig, SyncEntry};
use crate::error::ItemError;
use crate::model::{Digest, Repository, Tag};

/// What is done with each selected tag, by entry, in the order of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub entries: Vec<EntryPlan>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPlan {
    /// The position of the entry in the configuration.
    pub position: usize,
    pub left_out: LeftOut,
    /// Newest first.
    pub items: Vec<Item>,
    /// Why nothing can be done for the entry at all.
    pub error: Option<ItemError>,
    /// The upstream tags that hold attachments; `None` where upstream was not listed.
    pub attachment_tags: Result<BTreeSet<Tag>, ItemError>,
    /// The target said that it has no such repository.
    pub target_is_new: bool,
}

/// One tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The tag upstream.
    pub tag: Tag,
    /// The tag at the target; another one only for tags that name an OS variant alone.
    pub target_tag: Tag,
    pub action: Action,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    UpToDate,
    Copy(CopyReason),
    /// Decided to fail before anything is copied.
    Fail(ItemError),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyReason {
    /// The target has no such tag.
    Missing {
        /// What to copy. `None`: what the tag names when the copy begins, which costs no request of
        /// its own.
        source: Option<Digest>,
    },
    /// The tag moved upstream.
    Changed {
        /// What to copy.
        source: Digest,
        /// What the tag must still be at the target when it is overwritten.
        replaces: Digest,
        /// What the tag is at the target afterwards.
        wanted: Digest,
    },
    /// The target has the tag, and not all that its image refers to.
    Incomplete { missing: Vec<Digest> },
    /// The image is there; upstream has attachments of it that the target lacks.
    Attachments,
}

/// Returns the plan for `world`.
pub fn plan(sync: &SyncConfig, world: &World) -> Plan {
    let contested = contested(sync, world);
    let entries = world
        .entries
        .iter()
        .map(|seen| plan_entry(&sync.entries[seen.position], seen, &contested))
        .collect();
    Plan { entries }
}

/// Returns the tags of targets that more than one entry would write, with these entries.
fn contested<'a>(
    sync: &'a SyncConfig,
    world: &'a World,
) -> BTreeMap<(&'a Repository, &'a Tag), BTreeSet<usize>> {
    let mut writers: BTreeMap<(&Repository, &Tag), BTreeSet<usize>> = BTreeMap::new();
    for seen in &world.entries {
        for tag in seen.selected.iter().flat_map(|selected| &selected.tags) {
            writers
                .entry((&sync.entries[seen.position].target, seen.target_tag(tag)))
                .or_default()
                .insert(seen.position);
        }
    }
    writers.retain(|_, entries| entries.len() > 1);
    writers
}

fn plan_entry(
    entry: &SyncEntry,
    seen: &ObservedEntry,
    contested: &BTreeMap<(&Repository, &Tag), BTreeSet<usize>>,
) -> EntryPlan {
    let mut planned = EntryPlan {
        position: seen.position,
        left_out: LeftOut::default(),
        items: Vec::new(),
        error: None,
        attachment_tags: seen.attachment_tags.clone(),
        target_is_new: matches!(seen.target, Ok(Listing::NoRepository)),
    };
    let selected = match &seen.selected {
        Ok(selected) => selected,
        Err(rejected) => {
            planned.error = Some((*rejected.error).clone());
            planned.left_out = rejected.left_out;
            return planned;
        }
    };
    planned.left_out = selected.left_out;
    let target = match &seen.target {
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
            let target_tag = seen.target_tag(tag);
            let action = match contested.get(&(&entry.target, target_tag)) {
                Some(writers) => Action::Fail(several_writers(&entry.target, target_tag, writers)),
                None => match (action(entry, seen, target, tag), &seen.attachment_tags) {
                    // What belongs to a new image could not be found.
                    (
                        Action::Copy(CopyReason::Missing { .. } | CopyReason::Changed { .. }),
                        Err(error),
                    ) => Action::Fail(error.clone()),
                    (action, _) => action,
                },
            };
            let mut warnings = Vec::new();
            if let Some(Ok(Naming::Own { warning })) = seen.namings.get(tag) {
                warnings.push(warning.clone());
            }
            match (&action, seen.attachments.get(tag)) {
                (Action::UpToDate, Some(Err(error))) => {
                    warnings.push(format!("new signatures were not looked for: {error}"));
                }
                (Action::UpToDate, Some(Ok(lag))) => warnings.extend(lag.warnings.iter().cloned()),
                _ => {}
            }
            Item {
                tag: tag.clone(),
                target_tag: target_tag.clone(),
                action,
                warnings,
            }
        })
        .collect();
    unite(entry, seen, &mut planned.items);
    planned
}

/// Leaves one item for each tag at the target. Tags that are stored under the same one are the same
/// image; when that changed while they were looked at, all of them fail.
fn unite(entry: &SyncEntry, seen: &ObservedEntry, items: &mut Vec<Item>) {
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
        let digests: BTreeSet<&Digest> = tags
            .iter()
            .filter_map(|tag| seen.source_digest(tag))
            .collect();
        if digests.len() > 1 {
            item.action = Action::Fail(several_sources(entry, &item.target_tag, tags));
            return true;
        }
        // The tag that has the name already, else the first.
        let kept = tags
            .iter()
            .find(|tag| **tag == item.target_tag)
            .or(tags.first());
        kept == Some(&item.tag)
    });
}

fn action(entry: &SyncEntry, seen: &ObservedEntry, target: &Listing, tag: &Tag) -> Action {
    if let Some(Err(error)) = seen.namings.get(tag) {
        return Action::Fail(error.clone());
    }
    let digests = match seen.digests.get(tag) {
        Some(Err(error)) => return Action::Fail(error.clone()),
        Some(Ok(digests)) => Some(digests),
        None => None,
    };
    let source = seen.source_digest(tag).cloned();
    match (target.has(seen.target_tag(tag)), digests) {
        (false, _) => Action::Copy(CopyReason::Missing { source }),
        (true, _) if !entry.check_digest => unless_incomplete(entry, seen, tag),
        (
            true,
            Some(TagDigests {
                source,
                wanted,
                target: Some(found),
            }),
        ) if found != wanted => Action::Copy(CopyReason::Changed {
            source: source.clone(),
            replaces: found.clone(),
            wanted: wanted.clone(),
        }),
        (
            true,
            Some(TagDigests {
                target: Some(_), ..
            }),
        ) => unless_incomplete(entry, seen, tag),
        // Gone since the listing.
        (true, _) => Action::Copy(CopyReason::Missing { source }),
    }
}

/// Returns what is done with a tag that is as it should be, as far as the tag goes.
fn unless_incomplete(entry: &SyncEntry, seen: &ObservedEntry, tag: &Tag) -> Action {
    match seen.missing.get(tag) {
        Some(Ok(missing)) if !missing.is_empty() => Action::Copy(CopyReason::Incomplete {
            missing: missing.clone(),
        }),
        Some(Err(error)) => Action::Fail(error.clone()),
        _ => match seen.attachments.get(tag) {
            Some(Ok(lag)) if lag.is_outdated => Action::Copy(CopyReason::Attachments),
            Some(Err(error)) if entry.check_digest || seen.attachment_tags.is_ok() => {
                Action::Fail(error.clone())
            }
            // A fixed tag is there, whether upstream can be listed just now or not.
            _ => Action::UpToDate,
        },
    }
}

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
    .with_hint("narrow their `tag_regex` or add `exclude_regex`, so that one entry writes each tag")
}

fn several_sources(entry: &SyncEntry, target_tag: &Tag, tags: &[Tag]) -> ItemError {
    let tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    ItemError::other(format!(
        "{} would all be stored as {}:{target_tag}, and are not the same image",
        tags.join(" and "),
        entry.target
    ))
    .with_hint("a tag moved upstream while it was looked at; run sync again")
}
