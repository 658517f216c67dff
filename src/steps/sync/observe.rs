//! What a sync looks at: the tags of both sides, and digests where an entry asks for them. Reads only.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};

use super::select::{Selected, select};
use super::{Places, Scope, platform_filter};
use crate::config::{Entry, Selection, Sync};
use crate::error::Side;
use crate::model::{Digest, Reference, Repository, Tag};
use crate::progress::{Event, Progress};
use crate::registry::{PlaceError, PlaceErrorKind, TagSeen};
use crate::steps::Trouble;
use crate::transfer::{CopyError, PlatformFilter, Transfer};

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
    pub selected: Result<Selected, Trouble>,
    /// The tags that the target has.
    pub target: Result<Listing, Trouble>,
    /// The digests of selected tags, where the entry compares them.
    pub digests: BTreeMap<Tag, Result<TagDigests, Trouble>>,
}

/// The tags that a target has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// The place knows no such repository: nothing has to be looked for in it.
    NoRepository,
    Tags(BTreeSet<Tag>),
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
    /// What the target has when it is up to date: another digest than the source's only where platforms are filtered. Known
    /// when the target has the tag.
    pub wanted: Digest,
    pub target: Option<Digest>,
}

/// Looks at everything that the entries in scope need. What cannot be seen is part of the result, not a failure.
pub async fn observe(sync: &Sync, scope: &Scope, places: &Places, progress: &dyn Progress, now: DateTime<Utc>) -> World {
    let positions = scope.entries(sync);
    let entries: Vec<&Entry> = positions.iter().map(|&position| &sync.entries[position]).collect();
    let sources = list(entries.iter().filter(|entry| matches!(entry.selection, Selection::Pattern(_))).map(|entry| &entry.source), |repository| {
        list_source(places, progress, repository)
    });
    let targets = list(entries.iter().map(|entry| &entry.target), |repository| list_target(places, progress, repository));
    let (sources, targets) = futures_util::join!(sources, targets);
    let mut observed: Vec<ObservedEntry> = Vec::with_capacity(entries.len());
    for (&position, entry) in positions.iter().zip(&entries) {
        let selected = match &entry.selection {
            Selection::Fixed(tag) => Ok(Selected { tags: vec![tag.clone()], ..Selected::default() }),
            Selection::Pattern(pattern) => sources[&entry.source].clone().and_then(|listing| select(pattern, &listing, now)),
        };
        observed.push(ObservedEntry { position, selected, target: targets[&entry.target].clone(), digests: BTreeMap::new() });
    }
    let comparisons: Vec<(usize, Tag)> = observed
        .iter()
        .enumerate()
        .flat_map(|(at, seen)| seen.selected.iter().flat_map(|selected| &selected.tags).map(move |tag| (at, tag.clone())))
        .filter(|(at, tag)| {
            let at_target = observed[*at].target.as_ref().is_ok_and(|target| target.has(tag));
            // A fixed tag was not listed: whether there is one upstream must be seen before it is planned.
            if at_target { entries[*at].check_digest } else { matches!(entries[*at].selection, Selection::Fixed(_)) }
        })
        .collect();
    let digests: Vec<(usize, Tag, Result<TagDigests, Trouble>)> = stream::iter(comparisons)
        .map(|(at, tag)| {
            let entry = entries[at];
            let at_target = observed[at].target.as_ref().is_ok_and(|target| target.has(&tag));
            async move { (at, tag.clone(), compare(places, entry, &tag, at_target).await) }
        })
        .buffer_unordered(PARALLEL_LOOKS)
        .collect()
        .await;
    for (at, tag, result) in digests {
        observed[at].digests.insert(tag, result);
    }
    World { entries: observed }
}

/// Lists each repository once, however many entries name it.
async fn list<'a, T, F>(repositories: impl Iterator<Item = &'a Repository>, look: impl Fn(&'a Repository) -> F) -> HashMap<&'a Repository, T>
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
    stream::iter(looks).buffer_unordered(PARALLEL_LOOKS).collect().await
}

async fn list_source(places: &Places, progress: &dyn Progress, repository: &Repository) -> Result<Vec<TagSeen>, Trouble> {
    progress.event(Event::Observing { what: &format!("tags of {repository}") });
    match places.source.tags(repository).await {
        Ok(Some(tags)) => Ok(tags),
        Ok(None) => Err(Trouble { side: Some(Side::Source), cause: format!("there is no repository {repository}"), hint: None }),
        Err(error) => Err(trouble(Side::Source, &error)),
    }
}

async fn list_target(places: &Places, progress: &dyn Progress, repository: &Repository) -> Result<Listing, Trouble> {
    progress.event(Event::Observing { what: &format!("tags of {repository}") });
    match places.target.tags(repository).await {
        Ok(Some(tags)) => Ok(Listing::Tags(tags.into_iter().map(|seen| seen.tag).collect())),
        Ok(None) => Ok(Listing::NoRepository),
        // Some registries refuse to list a repository that nobody pushed to yet, although pushing is allowed. Whether it is,
        // shows at the first upload; until then nothing is taken for absent, so that nothing is sent twice.
        Err(error) if matches!(error.kind, PlaceErrorKind::Unauthorized | PlaceErrorKind::Forbidden) => {
            tracing::warn!("{error}; going on as if it had no tags");
            Ok(Listing::Tags(BTreeSet::new()))
        }
        Err(error) => Err(trouble(Side::Target, &error)),
    }
}

async fn compare(places: &Places, entry: &Entry, tag: &Tag, at_target: bool) -> Result<TagDigests, Trouble> {
    let reference = Reference::Tag(tag.clone());
    let look_at_target = async {
        if !at_target {
            return Ok(None);
        }
        let found = places.target.resolve(&entry.target, &reference).await.map_err(|error| trouble(Side::Target, &error))?;
        Ok(found.map(|descriptor| descriptor.digest))
    };
    let (source, target) = futures_util::join!(places.source.resolve(&entry.source, &reference), look_at_target);
    let source = source.map_err(|error| trouble(Side::Source, &error))?.ok_or_else(|| {
        let error = CopyError::Absent { side: Side::Source, repository: entry.source.clone(), reference: reference.clone() };
        Trouble::at(Side::Source, &error, None)
    })?;
    let target: Option<Digest> = target?;
    let wanted = match target {
        Some(_) => expected_digest(places, entry, &source.digest, &platform_filter(entry)).await?,
        None => source.digest.clone(),
    };
    Ok(TagDigests { source: source.digest, wanted, target })
}

async fn expected_digest(places: &Places, entry: &Entry, source: &Digest, filter: &PlatformFilter) -> Result<Digest, Trouble> {
    let transfer = Transfer::new(places.source.clone(), places.target.clone(), crate::progress::silent());
    transfer.expected_digest(&entry.source, source, filter).await.map_err(|error| Trouble::at(error.side(), &error, error.hint()))
}

fn trouble(side: Side, error: &PlaceError) -> Trouble {
    Trouble::at(side, error, error.hint())
}
