//! What a sync looks at: the tags of both sides, and dates and digests where an entry asks for
//! them. Reads only.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};

use super::select::{Rejected, Selected, needs_dates, ranks_by_date, select};
use super::variants::{Naming, Namings, may_be_variant, namings};
use super::{Places, Scope, platform_filter};
use crate::config::{SyncConfig, SyncEntry, TagSelection};
use crate::error::{ItemError, ItemErrorKind, Side};
use crate::model::{Digest, Reference, Repository, Tag};
use crate::progress::{Event, Progress};
use crate::registry::{ImageStores, ListedTag};
use crate::transfer::{
    AttachmentCheck, AttachmentState, CompletenessRequest, PlatformFilter, RefreshRequest, absent,
};

/// Listings and look-ups under way at once, over all hosts; each host has its own limit besides.
const PARALLEL_LOOKS: usize = 32;

/// What was seen, by the entries in scope.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub entries: Vec<ObservedEntry>,
}

#[derive(Clone, Debug)]
pub struct ObservedEntry {
    /// The position of the entry in the configuration.
    pub position: usize,
    /// Which tags the entry selects upstream.
    pub selected: Result<Selected, Rejected>,
    /// The upstream tags that hold attachments; none where the entry leaves attachments out.
    pub attachment_tags: Result<BTreeSet<Tag>, ItemError>,
    /// What selected tags that only name an OS variant are stored under, where the entry wants
    /// that.
    pub namings: BTreeMap<Tag, Result<Naming, ItemError>>,
    /// The tags that the target has.
    pub target: Result<Listing, ItemError>,
    /// The digests of selected tags, where the entry compares them.
    pub digests: BTreeMap<Tag, Result<TagDigests, ItemError>>,
    /// What images at the target refer to and the target lacks, by selected tag, where that was
    /// looked for.
    pub missing: BTreeMap<Tag, Result<Vec<Digest>, ItemError>>,
    /// Whether upstream has attachments of an image at the target that the target lacks, by
    /// selected tag.
    pub attachments: BTreeMap<Tag, Result<AttachmentState, ItemError>>,
}

impl ObservedEntry {
    /// Returns the tag that a selected tag is stored under at the target.
    pub fn target_tag<'a>(&'a self, tag: &'a Tag) -> &'a Tag {
        match self.namings.get(tag) {
            Some(Ok(Naming::Version { tag, .. })) => tag,
            _ => tag,
        }
    }

    /// Returns whether the target has the tag that `tag` is stored under.
    fn has(&self, tag: &Tag) -> bool {
        self.target
            .as_ref()
            .is_ok_and(|target| target.has(self.target_tag(tag)))
    }

    /// Returns the digest that a selected tag has upstream, where that was looked at.
    pub(super) fn source_digest(&self, tag: &Tag) -> Option<&Digest> {
        match (self.namings.get(tag), self.digests.get(tag)) {
            (Some(Ok(Naming::Version { source, .. })), _) => Some(source),
            (_, Some(Ok(digests))) => Some(&digests.source),
            _ => None,
        }
    }
}

/// The tags that a target has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// The place knows no such repository: nothing has to be looked for in it.
    NoRepository,
    /// Entries with the same target share the listing.
    Tags(Arc<BTreeSet<Tag>>),
    /// The place does not let this login list. Each tag has to be looked up.
    Refused(ItemError),
}

impl Listing {
    pub fn has(&self, tag: &Tag) -> bool {
        matches!(self, Listing::Tags(tags) if tags.contains(tag))
    }
}

/// The digests of one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagDigests {
    pub source: Digest,
    /// What the target has when it is up to date: another digest than the source's only where
    /// platforms are filtered. Known when the target has the tag.
    pub wanted: Digest,
    pub target: Option<Digest>,
}

/// Looks at everything that the entries in scope need. What cannot be seen is part of the result,
/// not a failure.
pub async fn observe(
    sync: &SyncConfig,
    scope: &Scope,
    places: &Places,
    progress: &dyn Progress,
    now: DateTime<Utc>,
) -> World {
    let positions = scope.entries(sync);
    let entries: Vec<&SyncEntry> = positions
        .iter()
        .map(|&position| &sync.entries[position])
        .collect();
    let targets = list(entries.iter().map(|entry| &entry.target), |repository| {
        list_target(places, progress, repository)
    });
    let (sources, targets) =
        futures_util::join!(Sources::list(&places.source, progress, &entries), targets);
    let mut observed: Vec<ObservedEntry> = Vec::with_capacity(entries.len());
    for (&position, entry) in positions.iter().zip(&entries) {
        let selected = sources.select(entry, now);
        let attachment_tags = if entry.referrers {
            sources.of(entry).map(attachment_tags).map_err(unlisted)
        } else {
            Ok(BTreeSet::new())
        };
        let target = targets[&entry.target].clone();
        observed.push(ObservedEntry {
            position,
            selected,
            attachment_tags,
            namings: BTreeMap::new(),
            target,
            digests: BTreeMap::new(),
            missing: BTreeMap::new(),
            attachments: BTreeMap::new(),
        });
    }
    let named: Vec<(usize, Namings)> = stream::iter(0..observed.len())
        .filter(|&at| std::future::ready(entries[at].os_normalize))
        .map(|at| {
            let (entry, sources, selected) = (entries[at], &sources, &observed[at].selected);
            async move { (at, name(&places.source, sources, entry, selected).await) }
        })
        .buffer_unordered(PARALLEL_LOOKS)
        .collect()
        .await;
    for (at, namings) in named {
        observed[at].namings = namings;
    }
    for (seen, entry) in observed.iter_mut().zip(&entries) {
        if let Ok(Listing::Refused(refusal)) = &seen.target {
            seen.target = look_up_tags(places, entry, seen, refusal).await;
        }
    }
    let comparisons: Vec<(usize, Tag)> = observed
        .iter()
        .enumerate()
        .flat_map(|(at, seen)| {
            seen.selected
                .iter()
                .flat_map(|selected| &selected.tags)
                .map(move |tag| (at, tag.clone()))
        })
        .filter(|(at, tag)| {
            let (entry, seen) = (entries[*at], &observed[*at]);
            match seen.namings.get(tag) {
                Some(Err(_)) => false,
                _ if seen.has(tag) => entry.check_digest,
                Some(Ok(Naming::Version { .. })) => false,
                // A fixed tag was not listed: whether there is one upstream must be seen before it
                // is planned.
                _ => matches!(entry.selection, TagSelection::Fixed(_)),
            }
        })
        .collect();
    let digests: Vec<(usize, Tag, Result<TagDigests, ItemError>)> = stream::iter(comparisons)
        .map(|(at, tag)| {
            let (entry, seen) = (entries[at], &observed[at]);
            async move { (at, tag.clone(), compare(places, entry, seen, &tag).await) }
        })
        .buffer_unordered(PARALLEL_LOOKS)
        .collect()
        .await;
    for (at, tag, result) in digests {
        observed[at].digests.insert(tag, result);
    }
    if scope.verify {
        look_into_images(&mut observed, &entries, places).await;
    }
    look_at_attachments(&mut observed, &entries, places).await;
    World { entries: observed }
}

/// Returns the tags at the target that each of `entries` selects, or why that cannot be told.
/// Targets are not looked at.
pub async fn selections(
    entries: &[&SyncEntry],
    source: &ImageStores,
    progress: &dyn Progress,
    now: DateTime<Utc>,
) -> Vec<Result<BTreeSet<Tag>, ItemError>> {
    // Attachments are not asked for.
    let entries: Vec<SyncEntry> = entries
        .iter()
        .map(|entry| SyncEntry {
            referrers: false,
            ..(*entry).clone()
        })
        .collect();
    let entries: Vec<&SyncEntry> = entries.iter().collect();
    let sources = &Sources::list(source, progress, &entries).await;
    let looks = entries.iter().map(|entry| async move {
        let selected = sources.select(entry, now);
        let namings = if entry.os_normalize {
            name(source, sources, entry, &selected).await
        } else {
            Namings::new()
        };
        let stored_under = |tag: Tag| match namings.get(&tag) {
            Some(Ok(Naming::Version { tag, .. })) => Ok(tag.clone()),
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(Naming::Own { .. })) | None => Ok(tag),
        };
        selected
            .map_err(|rejected| *rejected.error)?
            .tags
            .into_iter()
            .map(stored_under)
            .collect()
    });
    stream::iter(looks.collect::<Vec<_>>())
        .buffered(PARALLEL_LOOKS)
        .collect()
        .await
}

/// Looks for missing parts of the images that the target has.
async fn look_into_images(observed: &mut [ObservedEntry], entries: &[&SyncEntry], places: &Places) {
    let transfer = places.transfer(crate::progress::silent());
    let present: Vec<(usize, Tag, Tag)> = observed
        .iter()
        .enumerate()
        .flat_map(|(at, seen)| {
            seen.selected
                .iter()
                .flat_map(|selected| &selected.tags)
                .map(move |tag| (at, seen, tag))
        })
        .filter(|(_, seen, tag)| seen.has(tag))
        .map(|(at, seen, tag)| (at, tag.clone(), seen.target_tag(tag).clone()))
        .collect();
    let looks = stream::iter(present).map(|(at, tag, target_tag)| {
        let (entry, transfer) = (entries[at], &transfer);
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
            (at, tag, missing)
        }
    });
    let found: Vec<_> = looks.buffer_unordered(PARALLEL_LOOKS).collect().await;
    for (at, tag, missing) in found {
        observed[at].missing.insert(tag, missing);
    }
}

/// Looks for attachments that upstream has and the target lacks, of images that are up to date
/// themselves.
async fn look_at_attachments(
    observed: &mut [ObservedEntry],
    entries: &[&SyncEntry],
    places: &Places,
) {
    let transfer = places.transfer(crate::progress::silent());
    let (mut looks, mut unlisted_sources) = (Vec::new(), Vec::new());
    for (at, (seen, entry)) in observed
        .iter()
        .zip(entries)
        .enumerate()
        .filter(|(_, (_, entry))| entry.referrers)
    {
        let (Ok(selected), Ok(Listing::Tags(target_tags))) = (&seen.selected, &seen.target) else {
            continue;
        };
        let source_tags = match &seen.attachment_tags {
            Ok(source_tags) => source_tags,
            Err(error) => {
                let tags = selected.tags.iter().filter(|tag| seen.has(tag));
                unlisted_sources.extend(tags.map(|tag| (at, tag.clone(), error.clone())));
                continue;
            }
        };
        for tag in selected.tags.iter().filter(|tag| seen.has(tag)) {
            let digest = match (entry.check_digest, seen.digests.get(tag)) {
                (false, _) => None,
                (
                    true,
                    Some(Ok(TagDigests {
                        wanted,
                        target: Some(target),
                        ..
                    })),
                ) if wanted == target => Some(target),
                // It is going to be copied, or to fail.
                (true, _) => continue,
            };
            let request = RefreshRequest {
                item: tag.as_str(),
                from: &entry.source,
                to: &entry.target,
                tag: seen.target_tag(tag),
                digest,
                source_tags,
                target_tags,
                check: if entry.check_digest {
                    AttachmentCheck::Content
                } else {
                    AttachmentCheck::TagListings
                },
            };
            let transfer = &transfer;
            looks.push(async move { (at, tag.clone(), transfer.attachment_state(&request).await) });
        }
    }
    let found: Vec<_> = stream::iter(looks)
        .buffer_unordered(PARALLEL_LOOKS)
        .collect()
        .await;
    for (at, tag, lag) in found {
        observed[at].attachments.insert(tag, lag);
    }
    for (at, tag, error) in unlisted_sources {
        observed[at].attachments.insert(tag, Err(error));
    }
}

/// Returns the error of listing the tags that attachments have.
fn unlisted(error: ItemError) -> ItemError {
    let hint = error.hint();
    error.with_hint(hint.unwrap_or_else(|| {
        "its tags are listed to find signatures; `referrers: false` copies without them".to_owned()
    }))
}

/// Returns the tags of a listing that hold attachments.
fn attachment_tags(listing: &[ListedTag]) -> BTreeSet<Tag> {
    listing
        .iter()
        .map(|seen| &seen.tag)
        .filter(|tag| tag.is_attachment())
        .cloned()
        .collect()
}

/// Lists each repository once, however many entries name it.
async fn list<'a, T, F>(
    repositories: impl Iterator<Item = &'a Repository>,
    look: impl Fn(&'a Repository) -> F,
) -> HashMap<&'a Repository, T>
where
    F: Future<Output = T>,
{
    let unique: BTreeSet<&Repository> = repositories.collect();
    let looks: Vec<_> = unique
        .into_iter()
        .map(|repository| {
            let look = look(repository);
            async move { (repository, look.await) }
        })
        .collect();
    stream::iter(looks)
        .buffer_unordered(PARALLEL_LOOKS)
        .collect()
        .await
}

/// The listings of sources, each made once for all entries that need it.
struct Sources<'a> {
    plain: HashMap<&'a Repository, Result<Vec<ListedTag>, ItemError>>,
    /// For entries that need dates.
    dated: HashMap<&'a Repository, Result<Vec<ListedTag>, ItemError>>,
    /// For entries whose order depends on dates where the place tells them. `None`: it does not.
    ranking: HashMap<&'a Repository, Result<Option<Vec<ListedTag>>, ItemError>>,
}

impl<'a> Sources<'a> {
    async fn list(
        source: &ImageStores,
        progress: &dyn Progress,
        entries: &[&'a SyncEntry],
    ) -> Sources<'a> {
        let plain = entries.iter().filter(|entry| match &entry.selection {
            // Its signatures are found by the listing, and so are names for it.
            TagSelection::Fixed(tag) => {
                entry.referrers || (entry.os_normalize && may_be_variant(tag))
            }
            TagSelection::Pattern(pattern) => !needs_dates(pattern),
        });
        let dated = entries.iter().filter(
            |entry| matches!(&entry.selection, TagSelection::Pattern(pattern) if needs_dates(pattern)),
        );
        let plain = list(plain.map(|entry| &entry.source), |repository| async move {
            progress.event(Event::Observing {
                what: &format!("tags of {repository}"),
            });
            listed(repository, source.of(repository).tags(repository).await)
        });
        let dated = list(dated.map(|entry| &entry.source), |repository| async move {
            progress.event(Event::Observing {
                what: &format!("push dates of {repository}"),
            });
            let tags = source.of(repository).dated_tags(repository);
            listed(repository, tags.await)
        });
        let (plain, dated) = futures_util::join!(plain, dated);
        let ranked =
            entries
                .iter()
                .filter(|entry| match (&entry.selection, plain.get(&entry.source)) {
                    (TagSelection::Pattern(pattern), Some(Ok(listing))) => {
                        !needs_dates(pattern)
                            && !dated.contains_key(&entry.source)
                            && ranks_by_date(pattern, listing)
                    }
                    _ => false,
                });
        let ranking = list(ranked.map(|entry| &entry.source), |repository| async move {
            progress.event(Event::Observing {
                what: &format!("push dates of {repository}"),
            });
            source
                .of(repository)
                .push_dates(repository)
                .await
                .map_err(|error| error.on(Side::Source))
        });
        let ranking = ranking.await;
        Sources {
            plain,
            dated,
            ranking,
        }
    }

    /// Returns what an entry selects.
    fn select(&self, entry: &SyncEntry, now: DateTime<Utc>) -> Result<Selected, Rejected> {
        match &entry.selection {
            TagSelection::Fixed(tag) => Ok(Selected {
                tags: vec![tag.clone()],
                ..Selected::default()
            }),
            TagSelection::Pattern(pattern) => self
                .of(entry)
                .map_err(Rejected::from)
                .and_then(|listing| select(pattern, listing, now)),
        }
    }

    /// Returns the listing that an entry's tags are selected from.
    fn of(&self, entry: &SyncEntry) -> Result<&[ListedTag], ItemError> {
        let pattern = match &entry.selection {
            TagSelection::Fixed(_) => {
                return self.plain[&entry.source]
                    .as_deref()
                    .map_err(ItemError::clone);
            }
            TagSelection::Pattern(pattern) if needs_dates(pattern) => {
                return self.dated[&entry.source]
                    .as_deref()
                    .map_err(ItemError::clone);
            }
            TagSelection::Pattern(pattern) => pattern,
        };
        let plain = self.plain[&entry.source]
            .as_deref()
            .map_err(ItemError::clone)?;
        if !ranks_by_date(pattern, plain) {
            return Ok(plain);
        }
        match (
            self.dated.get(&entry.source),
            self.ranking.get(&entry.source),
        ) {
            (Some(dated), _) => dated.as_deref().map_err(ItemError::clone),
            (None, Some(ranking)) => Ok(ranking
                .as_ref()
                .map_err(ItemError::clone)?
                .as_deref()
                .unwrap_or(plain)),
            (None, None) => Ok(plain),
        }
    }
}

fn listed(
    repository: &Repository,
    tags: Result<Option<Vec<ListedTag>>, ItemError>,
) -> Result<Vec<ListedTag>, ItemError> {
    match tags {
        Ok(Some(tags)) => Ok(tags),
        Ok(None) => {
            let hint = match repository {
                Repository::Remote { host, .. } => {
                    format!(
                        "is the name right? {host} may also say so of a repository that the login may not read"
                    )
                }
                Repository::Layout { .. } => {
                    "is the name right? Relative directories begin at the configuration's"
                        .to_owned()
                }
            };
            Err(
                ItemError::other(format!("there is no repository {repository}"))
                    .with_hint(hint)
                    .on(Side::Source),
            )
        }
        Err(error) => Err(error.on(Side::Source)),
    }
}

/// Returns what the selected tags of an entry that only name an OS variant are stored under.
async fn name(
    source: &ImageStores,
    sources: &Sources<'_>,
    entry: &SyncEntry,
    selected: &Result<Selected, Rejected>,
) -> Namings {
    let Ok(selected) = selected else {
        return Namings::new();
    };
    if !selected.tags.iter().any(may_be_variant) {
        return Namings::new();
    }
    match sources.of(entry) {
        Ok(listing) => {
            let source = source.of(&entry.source);
            namings(source, &entry.source, listing, &selected.tags).await
        }
        // Only a fixed tag is selected without its listing.
        Err(error) => selected
            .tags
            .iter()
            .map(|tag| (tag.clone(), Err(error.clone())))
            .collect(),
    }
}

/// Returns which of an entry's selected tags the target has, where it does not let its tags be
/// listed. A tag that may not be looked at either is not there, as far as this login can tell
/// (Artifactory says so of what is absent); when no login was accepted at all, the entry fails with
/// `refusal`.
async fn look_up_tags(
    places: &Places,
    entry: &SyncEntry,
    seen: &ObservedEntry,
    refusal: &ItemError,
) -> Result<Listing, ItemError> {
    let tags = seen
        .selected
        .iter()
        .flat_map(|selected| &selected.tags)
        .map(|tag| seen.target_tag(tag).clone());
    let looks = stream::iter(tags.collect::<BTreeSet<Tag>>()).map(|tag| async move {
        let found = places
            .target
            .of(&entry.target)
            .resolve(&entry.target, &Reference::Tag(tag.clone()))
            .await;
        (tag, found)
    });
    let mut there = BTreeSet::new();
    for (tag, found) in looks
        .buffer_unordered(PARALLEL_LOOKS)
        .collect::<Vec<_>>()
        .await
    {
        match found {
            Ok(Some(_)) => drop(there.insert(tag)),
            Ok(None) => {}
            Err(error) if error.kind == ItemErrorKind::Forbidden => {}
            Err(error) if error.kind == ItemErrorKind::Unauthorized => return Err(refusal.clone()),
            Err(error) => return Err(error.on(Side::Target)),
        }
    }
    Ok(Listing::Tags(Arc::new(there)))
}

async fn list_target(
    places: &Places,
    progress: &dyn Progress,
    repository: &Repository,
) -> Result<Listing, ItemError> {
    progress.event(Event::Observing {
        what: &format!("tags of {repository}"),
    });
    match places.target.of(repository).tags(repository).await {
        Ok(Some(tags)) => {
            let tags = tags.into_iter().map(|seen| seen.tag).collect();
            Ok(Listing::Tags(Arc::new(tags)))
        }
        Ok(None) => Ok(Listing::NoRepository),
        // Some registries refuse to list what nobody pushed to yet, and some logins may push
        // without listing.
        Err(error)
            if matches!(
                error.kind,
                ItemErrorKind::Unauthorized | ItemErrorKind::Forbidden
            ) =>
        {
            Ok(Listing::Refused(error.on(Side::Target)))
        }
        Err(error) => Err(error.on(Side::Target)),
    }
}

async fn compare(
    places: &Places,
    entry: &SyncEntry,
    seen: &ObservedEntry,
    tag: &Tag,
) -> Result<TagDigests, ItemError> {
    let look_at_source = async {
        if let Some(known) = seen.source_digest(tag) {
            return Ok(known.clone());
        }
        let reference = Reference::Tag(tag.clone());
        let found = places
            .source
            .of(&entry.source)
            .resolve(&entry.source, &reference)
            .await
            .map_err(|error| error.on(Side::Source))?;
        found
            .map(|descriptor| descriptor.digest)
            .ok_or_else(|| absent(Side::Source, &entry.source, &reference))
    };
    let look_at_target = async {
        if !seen.has(tag) {
            return Ok(None);
        }
        let reference = Reference::Tag(seen.target_tag(tag).clone());
        let found = places
            .target
            .of(&entry.target)
            .resolve(&entry.target, &reference)
            .await
            .map_err(|error| error.on(Side::Target))?;
        Ok(found.map(|descriptor| descriptor.digest))
    };
    let (source, target): (Result<Digest, ItemError>, Result<Option<Digest>, ItemError>) =
        futures_util::join!(look_at_source, look_at_target);
    let (source, target) = (source?, target?);
    let wanted = match target {
        Some(_) => expected_digest(places, entry, &source, &platform_filter(entry)).await?,
        None => source.clone(),
    };
    Ok(TagDigests {
        source,
        wanted,
        target,
    })
}

async fn expected_digest(
    places: &Places,
    entry: &SyncEntry,
    source: &Digest,
    filter: &PlatformFilter,
) -> Result<Digest, ItemError> {
    let transfer = places.transfer(crate::progress::silent());
    transfer
        .expected_digest(&entry.source, source, filter)
        .await
}
