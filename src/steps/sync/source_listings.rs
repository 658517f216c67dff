//! Listings of sources, and the tags that entries select from them. Reads the sources only.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};

use super::select::{
    SelectedTags, SelectionError, matches, needs_dates, ranks_by_date, select, select_with_former,
};
use super::variants::{VariantName, VariantNames, may_be_variant, variant_names};
use crate::config::{SyncEntry, TagSelection};
use crate::error::{ItemError, Side};
use crate::model::{Repository, Tag};
use crate::progress::{Event, Progress};
use crate::registry::{ImageStores, ListedTag};

/// Maximum number of parallel operations over all hosts. Each host also has its own limit.
pub(super) const MAX_PARALLEL_REQUESTS: usize = 32;

/// Tags that an entry selects, and the size of the listing that it selects from.
#[derive(Clone, Debug, Default)]
pub struct UpstreamSelection {
    /// Tags of the target.
    pub tags: BTreeSet<Tag>,
    /// `None` for a fixed tag, which is not listed.
    pub listing: Option<UpstreamListing>,
}

/// Size of the listing of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamListing {
    pub tags: usize,
    /// Number of tags that match the patterns of the entry.
    pub matching: usize,
}

/// Returns the target tags that each of `entries` selects, or the error of the selection. Reads the
/// sources only.
///
/// The tags include those that an entry selected by the rules and the order of former releases, so
/// that `cleanup` keeps them.
pub async fn selections(
    entries: &[&SyncEntry],
    source: &ImageStores,
    progress: &dyn Progress,
    now: DateTime<Utc>,
) -> Vec<Result<UpstreamSelection, ItemError>> {
    // A selection does not depend on attachments, and without them fixed tags need no listing.
    let entries: Vec<SyncEntry> = entries
        .iter()
        .map(|entry| SyncEntry {
            referrers: false,
            ..(*entry).clone()
        })
        .collect();
    let entries: Vec<&SyncEntry> = entries.iter().collect();
    let sources = &SourceListings::read(source, progress, &entries).await;
    let requests = entries.iter().map(|entry| async move {
        let selected = sources.select_with_former(entry, now);
        let variant_names = if entry.os_normalize {
            entry_variant_names(source, sources, entry, &selected).await
        } else {
            VariantNames::new()
        };
        let target_tag = |tag: Tag| match variant_names.get(&tag) {
            Some(Ok(VariantName::Version { tag, .. })) => Ok(tag.clone()),
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(VariantName::Unchanged { .. })) | None => Ok(tag),
        };
        let tags = selected
            .map_err(|rejected| *rejected.error)?
            .tags
            .into_iter()
            .map(target_tag)
            .collect::<Result<BTreeSet<Tag>, ItemError>>()?;
        let listing = match &entry.selection {
            TagSelection::Fixed(_) => None,
            TagSelection::Pattern(pattern) => {
                let listed = sources.of(entry)?;
                Some(UpstreamListing {
                    tags: listed.len(),
                    matching: listed
                        .iter()
                        .filter(|listed| matches(pattern, &listed.tag))
                        .count(),
                })
            }
        };
        Ok(UpstreamSelection { tags, listing })
    });
    stream::iter(requests.collect::<Vec<_>>())
        .buffered(MAX_PARALLEL_REQUESTS)
        .collect()
        .await
}

/// Returns the tags of the source of an entry that selects by a pattern, with push dates if the
/// selection needs them.
pub async fn listing(
    entry: &SyncEntry,
    source: &ImageStores,
    progress: &dyn Progress,
) -> Result<Vec<ListedTag>, ItemError> {
    let entry = SyncEntry {
        referrers: false,
        ..entry.clone()
    };
    let entries = [&entry];
    let listings = SourceListings::read(source, progress, &entries).await;
    listings.of(&entry).map(<[ListedTag]>::to_vec)
}

/// Calls `request` once for each distinct repository and returns the results.
pub(super) async fn list_each_once<'a, T, F>(
    repositories: impl Iterator<Item = &'a Repository>,
    request: impl Fn(&'a Repository) -> F,
) -> HashMap<&'a Repository, T>
where
    F: Future<Output = T>,
{
    let unique: BTreeSet<&Repository> = repositories.collect();
    let requests: Vec<_> = unique
        .into_iter()
        .map(|repository| {
            let request = request(repository);
            async move { (repository, request.await) }
        })
        .collect();
    stream::iter(requests)
        .buffer_unordered(MAX_PARALLEL_REQUESTS)
        .collect()
        .await
}

/// Listings of sources, each made once for all entries that need it.
pub(super) struct SourceListings<'a> {
    /// Listings without push dates.
    plain: HashMap<&'a Repository, Result<Vec<ListedTag>, ItemError>>,
    /// Listings for entries that need push dates.
    dated: HashMap<&'a Repository, Result<Vec<ListedTag>, ItemError>>,
    /// Listings for entries that use push dates if the store reports them. `None` if it does not.
    ranking: HashMap<&'a Repository, Result<Option<Vec<ListedTag>>, ItemError>>,
}

impl<'a> SourceListings<'a> {
    /// Lists the sources of `entries`.
    pub(super) async fn read(
        source: &ImageStores,
        progress: &dyn Progress,
        entries: &[&'a SyncEntry],
    ) -> SourceListings<'a> {
        let plain = entries.iter().filter(|entry| match &entry.selection {
            // The listing is needed to find attachment tags and version tags.
            TagSelection::Fixed(tag) => {
                entry.referrers || (entry.os_normalize && may_be_variant(tag))
            }
            TagSelection::Pattern(pattern) => !needs_dates(pattern),
        });
        let dated = entries.iter().filter(
            |entry| matches!(&entry.selection, TagSelection::Pattern(pattern) if needs_dates(pattern)),
        );
        let plain = list_each_once(plain.map(|entry| &entry.source), |repository| async move {
            progress.event(Event::Observing {
                what: &format!("tags of {repository}"),
            });
            require_repository(repository, source.of(repository).tags(repository).await)
        });
        let dated = list_each_once(dated.map(|entry| &entry.source), |repository| async move {
            progress.event(Event::Observing {
                what: &format!("push dates of {repository}"),
            });
            let tags = source.of(repository).dated_tags(repository);
            require_repository(repository, tags.await)
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
        let ranking = list_each_once(ranked.map(|entry| &entry.source), |repository| async move {
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
        SourceListings {
            plain,
            dated,
            ranking,
        }
    }

    /// Returns the tags that an entry selects.
    pub(super) fn select(
        &self,
        entry: &SyncEntry,
        now: DateTime<Utc>,
    ) -> Result<SelectedTags, SelectionError> {
        match &entry.selection {
            TagSelection::Fixed(tag) => Ok(SelectedTags {
                tags: vec![tag.clone()],
                ..SelectedTags::default()
            }),
            TagSelection::Pattern(pattern) => self
                .of(entry)
                .map_err(SelectionError::from)
                .and_then(|listing| select(pattern, listing, now)),
        }
    }

    /// Returns the tags that an entry selects or selected by former rules.
    fn select_with_former(
        &self,
        entry: &SyncEntry,
        now: DateTime<Utc>,
    ) -> Result<SelectedTags, SelectionError> {
        match &entry.selection {
            TagSelection::Fixed(_) => self.select(entry, now),
            TagSelection::Pattern(pattern) => self
                .of(entry)
                .map_err(SelectionError::from)
                .and_then(|listing| select_with_former(pattern, listing, now)),
        }
    }

    /// Returns the listing of the source of an entry, if it was read.
    pub(super) fn if_listed(&self, entry: &SyncEntry) -> Option<&[ListedTag]> {
        [self.plain.get(&entry.source), self.dated.get(&entry.source)]
            .into_iter()
            .flatten()
            .find_map(|listing| listing.as_deref().ok())
    }

    /// Returns the listing that an entry's tags are selected from.
    pub(super) fn of(&self, entry: &SyncEntry) -> Result<&[ListedTag], ItemError> {
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

/// Returns the tags of a source, or an error if the repository does not exist.
fn require_repository(
    repository: &Repository,
    tags: Result<Option<Vec<ListedTag>>, ItemError>,
) -> Result<Vec<ListedTag>, ItemError> {
    match tags {
        Ok(Some(tags)) => Ok(tags),
        Ok(None) => {
            let hint = match repository {
                Repository::Remote { host, .. } => {
                    format!(
                        "check the name; {host} may also hide a repository that the credentials cannot read"
                    )
                }
                Repository::Layout { .. } => {
                    "check the path; a relative path starts at the directory of the configuration"
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

/// Returns the target names of those selected tags of an entry that name only an OS variant.
pub(super) async fn entry_variant_names(
    source: &ImageStores,
    sources: &SourceListings<'_>,
    entry: &SyncEntry,
    selected: &Result<SelectedTags, SelectionError>,
) -> VariantNames {
    let Ok(selected) = selected else {
        return VariantNames::new();
    };
    if !selected.tags.iter().any(may_be_variant) {
        return VariantNames::new();
    }
    match sources.of(entry) {
        Ok(listing) => {
            let source = source.of(&entry.source);
            variant_names(source, &entry.source, listing, &selected.tags).await
        }
        // Only a fixed tag can be selected although its source cannot be listed.
        Err(error) => selected
            .tags
            .iter()
            .map(|tag| (tag.clone(), Err(error.clone())))
            .collect(),
    }
}
