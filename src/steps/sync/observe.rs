//! Observation of the stores: the tags of sources and targets, and push dates, digests and
//! attachments where an entry needs them. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};

use super::select::{SelectedTags, SelectionError};
use super::source_listings::{
    MAX_PARALLEL_REQUESTS, SourceListings, entry_variant_names, list_each_once,
};
use super::tag_case::{stored_names, tag_case};
use super::target_listing::{TargetListing, list_target_tags};
use super::variants::{VariantName, VariantNames};
use super::{SyncScope, SyncStores, platform_filter};
use crate::config::{CheckDigest, SyncConfig, SyncEntry, TagSelection};
use crate::error::{ItemError, ItemErrorKind, Side};
use crate::model::{Digest, Reference, Repository, Tag, TagList, TagVersion};
use crate::progress::Progress;
use crate::registry::{ListedTag, TagCase};
use crate::transfer::{
    AttachmentCheck, AttachmentState, CompletenessRequest, PlatformFilter, RefreshRequest, absent,
};

/// Minimum number of release numbers of a tag that does not move, if the tags upstream are unknown.
const MIN_EXACT_NUMBERS: usize = 3;

/// State of the stores, for the entries in scope.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub entries: Vec<ObservedEntry>,
}

/// State of the stores, for one entry.
#[derive(Clone, Debug)]
pub struct ObservedEntry {
    /// Position of the entry in the configuration.
    pub position: usize,
    /// Upstream tags that the entry selects.
    pub selected: Result<SelectedTags, SelectionError>,
    /// Digest to copy under a fixed tag; `None` for the digest of the tag upstream.
    pub pinned: Option<Digest>,
    /// Tag at the target of a fixed tag, if it differs.
    pub renamed: Option<Tag>,
    /// Selected tags that follow upstream: their digests are compared if the target has them.
    pub followed: BTreeSet<Tag>,
    /// Upstream tags that hold attachments. Empty if the entry does not copy attachments.
    pub attachment_tags: Result<BTreeSet<Tag>, ItemError>,
    /// Names at the target of selected tags that name only an OS variant. Empty unless the entry
    /// has `os_normalize`.
    pub variant_names: BTreeMap<Tag, Result<VariantName, ItemError>>,
    /// Names at the target of tags in upper case, if the target stores tags in lower case.
    pub stored_names: BTreeMap<Tag, Tag>,
    /// Tags of the target.
    pub target: Result<TargetListing, ItemError>,
    /// Digests of those selected tags whose digests the plan needs.
    pub digests: BTreeMap<Tag, Result<TagDigests, ItemError>>,
    /// Digests that images at the target refer to and that the target lacks, by selected tag.
    /// Filled only with `SyncScope::verify`.
    pub missing: BTreeMap<Tag, Result<Vec<Digest>, ItemError>>,
    /// States of the attachments of images at the target, by selected tag.
    pub attachments: BTreeMap<Tag, Result<AttachmentState, ItemError>>,
}

impl ObservedEntry {
    /// Returns the tag at the target for a selected tag.
    pub fn target_tag<'a>(&'a self, tag: &'a Tag) -> &'a Tag {
        let name = self.target_name(tag);
        self.stored_names.get(name).unwrap_or(name)
    }

    /// Like [`target_tag`](ObservedEntry::target_tag), before the target changes upper to lower
    /// case.
    pub(super) fn target_name<'a>(&'a self, tag: &'a Tag) -> &'a Tag {
        match (&self.renamed, self.variant_names.get(tag)) {
            (Some(renamed), _) => renamed,
            (None, Some(Ok(VariantName::Version { tag, .. }))) => tag,
            _ => tag,
        }
    }

    /// Returns [`target_name`](ObservedEntry::target_name) of each selected tag.
    fn target_names(&self) -> impl Iterator<Item = &Tag> {
        let selected = self.selected.iter().flat_map(|selected| &selected.tags);
        selected.map(|tag| self.target_name(tag))
    }

    /// Returns true if the target has the target tag of the selected tag `tag`.
    fn has(&self, tag: &Tag) -> bool {
        self.target
            .as_ref()
            .is_ok_and(|target| target.has(self.target_tag(tag)))
    }

    /// Returns true if a selected tag follows upstream.
    pub(super) fn follows(&self, tag: &Tag) -> bool {
        self.followed.contains(tag)
    }

    /// Returns the upstream digest of a selected tag, or `None` if it was not resolved.
    pub(super) fn source_digest(&self, tag: &Tag) -> Option<&Digest> {
        if self.pinned.is_some() {
            return self.pinned.as_ref();
        }
        match (self.variant_names.get(tag), self.digests.get(tag)) {
            (Some(Ok(VariantName::Version { source, .. })), _) => Some(source),
            (_, Some(Ok(digests))) => Some(&digests.source),
            _ => None,
        }
    }
}

/// Digests of one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagDigests {
    /// Digest upstream.
    pub source: Digest,
    /// Digest at the target once the tag is up to date. It differs from `source` only if platforms
    /// are filtered, and is computed only if the target has the tag; otherwise it equals `source`.
    pub wanted: Digest,
    /// Digest at the target, or `None` if the target does not have the tag.
    pub target: Option<Digest>,
}

/// Reads everything that the entries in scope need. Errors are part of the result.
pub async fn observe(
    sync: &SyncConfig,
    scope: &SyncScope,
    stores: &SyncStores,
    progress: &dyn Progress,
    now: DateTime<Utc>,
) -> World {
    let positions = scope.entries(sync);
    let entries: Vec<&SyncEntry> = positions
        .iter()
        .map(|&position| &sync.entries[position])
        .collect();
    let targets = list_each_once(entries.iter().map(|entry| &entry.target), |repository| {
        list_target_tags(stores, progress, repository)
    });
    let (sources, targets) = futures_util::join!(
        SourceListings::read(&stores.source, progress, &entries),
        targets
    );
    let mut observed_entries: Vec<ObservedEntry> = Vec::with_capacity(entries.len());
    for (&position, entry) in positions.iter().zip(&entries) {
        let selected = sources.select(entry, now);
        let attachment_tags = if entry.referrers {
            sources
                .of(entry)
                .map(attachment_tags)
                .map_err(attachment_listing_error)
        } else {
            Ok(BTreeSet::new())
        };
        let target = targets[&entry.target].clone();
        let followed = followed_tags(entry, &selected, sources.if_listed(entry));
        observed_entries.push(ObservedEntry {
            position,
            selected,
            pinned: entry.digest.clone(),
            renamed: entry.target_tag.clone(),
            followed,
            attachment_tags,
            variant_names: BTreeMap::new(),
            stored_names: BTreeMap::new(),
            target,
            digests: BTreeMap::new(),
            missing: BTreeMap::new(),
            attachments: BTreeMap::new(),
        });
    }
    let named: Vec<(usize, VariantNames)> = stream::iter(0..observed_entries.len())
        .filter(|&index| std::future::ready(entries[index].os_normalize))
        .map(|index| {
            let (entry, sources, selected) =
                (entries[index], &sources, &observed_entries[index].selected);
            async move {
                (
                    index,
                    entry_variant_names(&stores.source, sources, entry, selected).await,
                )
            }
        })
        .buffer_unordered(MAX_PARALLEL_REQUESTS)
        .collect()
        .await;
    for (index, variant_names) in named {
        observed_entries[index].variant_names = variant_names;
    }
    read_stored_names(&mut observed_entries, &entries, stores).await;
    for (observed, entry) in observed_entries.iter_mut().zip(&entries) {
        if let Ok(TargetListing::Denied(denial)) = &observed.target {
            observed.target = resolve_target_tags(stores, entry, observed, denial).await;
        }
    }
    let shared = shared_tags(&observed_entries, &entries);
    let comparisons: Vec<(usize, Tag)> = observed_entries
        .iter()
        .enumerate()
        .flat_map(|(index, observed)| {
            observed
                .selected
                .iter()
                .flat_map(|selected| &selected.tags)
                .map(move |tag| (index, tag.clone()))
        })
        .filter(|(index, tag)| {
            let (entry, observed) = (entries[*index], &observed_entries[*index]);
            match observed.variant_names.get(tag) {
                Some(Err(_)) => false,
                _ if shared.contains(&(&entry.target, observed.target_tag(tag))) => true,
                _ if observed.has(tag) => observed.follows(tag),
                Some(Ok(VariantName::Version { .. })) => false,
                // A fixed tag was not selected from a listing, so check that it exists upstream.
                _ => match &entry.selection {
                    TagSelection::Fixed(_) => true,
                    TagSelection::Pattern(pattern) => pattern.include.contains(tag),
                },
            }
        })
        .collect();
    let digests: Vec<(usize, Tag, Result<TagDigests, ItemError>)> = stream::iter(comparisons)
        .map(|(index, tag)| {
            let (entry, observed) = (entries[index], &observed_entries[index]);
            async move {
                (
                    index,
                    tag.clone(),
                    compare_digests(stores, entry, observed, &tag).await,
                )
            }
        })
        .buffer_unordered(MAX_PARALLEL_REQUESTS)
        .collect()
        .await;
    for (index, tag, result) in digests {
        observed_entries[index].digests.insert(tag, result);
    }
    if scope.verify {
        find_missing_parts(&mut observed_entries, &entries, stores).await;
    }
    check_attachments(&mut observed_entries, &entries, stores).await;
    World {
        entries: observed_entries,
    }
}

/// Returns the selected tags of an entry that follow upstream.
///
/// Without a listing, a fixed tag with fewer than three numbers may move.
fn followed_tags(
    entry: &SyncEntry,
    selected: &Result<SelectedTags, SelectionError>,
    listing: Option<&[ListedTag]>,
) -> BTreeSet<Tag> {
    let Ok(selected) = selected else {
        return BTreeSet::new();
    };
    let list = TagList::of(
        listing
            .unwrap_or_default()
            .iter()
            .map(|listed| listed.tag.as_str()),
    );
    let is_followed = |tag: &&Tag| match entry.check_digest {
        _ if entry.digest.is_some() => true,
        CheckDigest::Always => true,
        CheckDigest::Never => false,
        CheckDigest::Auto => {
            let version = TagVersion::of(tag.as_str());
            let may_be_general = listing.is_none()
                && version.has_release()
                && version.release().len() < MIN_EXACT_NUMBERS
                && version.build().is_empty();
            may_be_general || list.is_moving(&version)
        }
    };
    selected.tags.iter().filter(is_followed).cloned().collect()
}

/// Returns the target tags that several entries select from different source tags. Their digests
/// decide whether the entries agree.
fn shared_tags<'a>(
    observed_entries: &'a [ObservedEntry],
    entries: &[&'a SyncEntry],
) -> BTreeSet<(&'a Repository, &'a Tag)> {
    let mut wishes: BTreeMap<_, BTreeMap<usize, (&Repository, &Tag)>> = BTreeMap::new();
    for (observed, entry) in observed_entries.iter().zip(entries) {
        for tag in observed.selected.iter().flat_map(|selected| &selected.tags) {
            wishes
                .entry((&entry.target, observed.target_tag(tag)))
                .or_default()
                .insert(observed.position, (&entry.source, tag));
        }
    }
    wishes
        .into_iter()
        .filter(|(_, wishes)| wishes.values().collect::<BTreeSet<_>>().len() > 1)
        .map(|(target, _)| target)
        .collect()
}

/// Fills `stored_names` of the entries whose targets store tags in lower case.
async fn read_stored_names(
    observed_entries: &mut [ObservedEntry],
    entries: &[&SyncEntry],
    stores: &SyncStores,
) {
    let mut names: BTreeMap<&Repository, BTreeSet<Tag>> = BTreeMap::new();
    for (observed, entry) in observed_entries.iter().zip(entries) {
        let names = names.entry(&entry.target).or_default();
        names.extend(observed.target_names().cloned());
    }
    let none = Arc::default();
    let requests = observed_entries
        .iter()
        .zip(entries)
        .map(|(observed, entry)| match &observed.target {
            Ok(TargetListing::Tags(listed)) => (entry, listed),
            _ => (entry, &none),
        })
        .map(|(entry, listed)| {
            tag_case(&stores.target, &entry.target, &names[&entry.target], listed)
        });
    let cases: Vec<Result<TagCase, ItemError>> = stream::iter(requests.collect::<Vec<_>>())
        .buffered(MAX_PARALLEL_REQUESTS)
        .collect()
        .await;
    for (observed, case) in observed_entries.iter_mut().zip(cases) {
        match case {
            Ok(case) => observed.stored_names = stored_names(case, observed.target_names()),
            Err(error) => observed.target = Err(error),
        }
    }
}

/// Fills `missing` for the selected images that the target has.
async fn find_missing_parts(
    observed_entries: &mut [ObservedEntry],
    entries: &[&SyncEntry],
    stores: &SyncStores,
) {
    let transfer = stores.transfer(crate::progress::silent());
    let present: Vec<(usize, Tag, Tag)> = observed_entries
        .iter()
        .enumerate()
        .flat_map(|(index, observed)| {
            observed
                .selected
                .iter()
                .flat_map(|selected| &selected.tags)
                .map(move |tag| (index, observed, tag))
        })
        .filter(|(_, observed, tag)| observed.has(tag))
        .map(|(index, observed, tag)| (index, tag.clone(), observed.target_tag(tag).clone()))
        .collect();
    let requests = stream::iter(present).map(|(index, tag, target_tag)| {
        let (entry, transfer) = (entries[index], &transfer);
        async move {
            let filter = platform_filter(entry);
            let request = CompletenessRequest {
                item: tag.as_str(),
                from: &entry.source,
                to: &entry.target,
                tag: &target_tag,
                filter: &filter,
            };
            let missing = transfer.missing_parts(&request).await;
            (index, tag, missing)
        }
    });
    let found: Vec<_> = requests
        .buffer_unordered(MAX_PARALLEL_REQUESTS)
        .collect()
        .await;
    for (index, tag, missing) in found {
        observed_entries[index].missing.insert(tag, missing);
    }
}

/// Fills `attachments` for the selected images that the target has, except those whose digests
/// differ.
async fn check_attachments(
    observed_entries: &mut [ObservedEntry],
    entries: &[&SyncEntry],
    stores: &SyncStores,
) {
    let transfer = stores.transfer(crate::progress::silent());
    let (mut requests, mut unlisted_sources) = (Vec::new(), Vec::new());
    for (index, (observed, entry)) in observed_entries
        .iter()
        .zip(entries)
        .enumerate()
        .filter(|(_, (_, entry))| entry.referrers)
    {
        let (Ok(selected), Ok(TargetListing::Tags(target_tags))) =
            (&observed.selected, &observed.target)
        else {
            continue;
        };
        let source_tags = match &observed.attachment_tags {
            Ok(source_tags) => source_tags,
            Err(error) => {
                let tags = selected.tags.iter().filter(|tag| observed.has(tag));
                unlisted_sources.extend(tags.map(|tag| (index, tag.clone(), error.clone())));
                continue;
            }
        };
        for tag in selected.tags.iter().filter(|tag| observed.has(tag)) {
            let digest = match (observed.follows(tag), observed.digests.get(tag)) {
                (false, _) => None,
                (
                    true,
                    Some(Ok(TagDigests {
                        wanted,
                        target: Some(target),
                        ..
                    })),
                ) if wanted == target => Some(target),
                // The image will be copied with its attachments, or its item fails.
                (true, _) => continue,
            };
            let request = RefreshRequest {
                item: tag.as_str(),
                from: &entry.source,
                to: &entry.target,
                tag: observed.target_tag(tag),
                digest,
                source_tags,
                target_tags,
                check: if observed.follows(tag) {
                    AttachmentCheck::Content
                } else {
                    AttachmentCheck::TagListings
                },
            };
            let transfer = &transfer;
            requests.push(async move {
                (
                    index,
                    tag.clone(),
                    transfer.attachment_state(&request).await,
                )
            });
        }
    }
    let found: Vec<_> = stream::iter(requests)
        .buffer_unordered(MAX_PARALLEL_REQUESTS)
        .collect()
        .await;
    for (index, tag, state) in found {
        observed_entries[index].attachments.insert(tag, state);
    }
    for (index, tag, error) in unlisted_sources {
        observed_entries[index].attachments.insert(tag, Err(error));
    }
}

/// Adds a hint to the error of listing the tags of a source for attachments, unless it has one.
fn attachment_listing_error(error: ItemError) -> ItemError {
    let hint = error.hint();
    error.with_hint(hint.unwrap_or_else(|| {
        "set `referrers: false` to copy without signatures; finding them requires a listing of the tags".to_owned()
    }))
}

/// Returns the tags of a listing that hold attachments.
fn attachment_tags(listing: &[ListedTag]) -> BTreeSet<Tag> {
    listing
        .iter()
        .map(|listed| &listed.tag)
        .filter(|tag| tag.is_attachment())
        .cloned()
        .collect()
}

/// Resolves the selected tags of an entry at a target that denies listing them, and returns those
/// that exist.
///
/// A tag for which the store answers "forbidden" counts as absent, because Artifactory answers so
/// for tags that do not exist. If the store rejects the credentials, the entry fails with `denial`.
async fn resolve_target_tags(
    stores: &SyncStores,
    entry: &SyncEntry,
    observed: &ObservedEntry,
    denial: &ItemError,
) -> Result<TargetListing, ItemError> {
    let tags = observed
        .selected
        .iter()
        .flat_map(|selected| &selected.tags)
        .map(|tag| observed.target_tag(tag).clone());
    let requests = stream::iter(tags.collect::<BTreeSet<Tag>>()).map(|tag| async move {
        let found = stores
            .target
            .of(&entry.target)
            .resolve(&entry.target, &Reference::Tag(tag.clone()))
            .await;
        (tag, found)
    });
    let mut existing = BTreeSet::new();
    for (tag, found) in requests
        .buffer_unordered(MAX_PARALLEL_REQUESTS)
        .collect::<Vec<_>>()
        .await
    {
        match found {
            Ok(Some(_)) => drop(existing.insert(tag)),
            Ok(None) => {}
            Err(error) if error.kind == ItemErrorKind::Forbidden => {}
            Err(error) if error.kind == ItemErrorKind::Unauthorized => return Err(denial.clone()),
            Err(error) => return Err(error.on(Side::Target)),
        }
    }
    Ok(TargetListing::Tags(Arc::new(existing)))
}

/// Returns the digests of a selected tag. Fails if the tag does not exist upstream.
async fn compare_digests(
    stores: &SyncStores,
    entry: &SyncEntry,
    observed: &ObservedEntry,
    tag: &Tag,
) -> Result<TagDigests, ItemError> {
    let source_digest = async {
        if let Some(digest) = observed.source_digest(tag) {
            return Ok(digest.clone());
        }
        let reference = Reference::Tag(tag.clone());
        let found = stores
            .source
            .of(&entry.source)
            .resolve(&entry.source, &reference)
            .await
            .map_err(|error| error.on(Side::Source))?;
        found
            .map(|descriptor| descriptor.digest)
            .ok_or_else(|| absent(Side::Source, &entry.source, &reference))
    };
    let target_digest = async {
        if !observed.has(tag) {
            return Ok(None);
        }
        let reference = Reference::Tag(observed.target_tag(tag).clone());
        let found = stores
            .target
            .of(&entry.target)
            .resolve(&entry.target, &reference)
            .await
            .map_err(|error| error.on(Side::Target))?;
        Ok(found.map(|descriptor| descriptor.digest))
    };
    let (source, target): (Result<Digest, ItemError>, Result<Option<Digest>, ItemError>) =
        futures_util::join!(source_digest, target_digest);
    let (source, target) = (source?, target?);
    let wanted = match target {
        Some(_) => expected_digest(stores, entry, &source, &platform_filter(entry)).await?,
        None => source.clone(),
    };
    Ok(TagDigests {
        source,
        wanted,
        target,
    })
}

/// Returns the digest that the image `source` has at the target, after the filter.
async fn expected_digest(
    stores: &SyncStores,
    entry: &SyncEntry,
    source: &Digest,
    filter: &PlatformFilter,
) -> Result<Digest, ItemError> {
    let transfer = stores.transfer(crate::progress::silent());
    transfer
        .expected_digest(&entry.source, source, filter)
        .await
}
