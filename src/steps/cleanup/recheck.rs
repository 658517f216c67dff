//! State of a repository immediately before something is deleted from it: changes since the plan
//! keep an image.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use futures_util::{StreamExt, stream};

use super::manifest_tree;
use super::plan::{DeletionGroup, RepositoryPlan};
use super::reasons::KeepReason;
use super::record_watch::{RecordReading, RecordWatch};
use super::repository_reader::listing_lacks;
use crate::error::ItemError;
use crate::model::lock::lock;
use crate::model::manifest::MAX_INDEX_NESTING;
use crate::model::{Digest, Manifest, Reference, Repository, Tag};
use crate::registry::{ImageStores, ProvedTags, Referrers};

/// Maximum number of parallel tag lookups. Each host has its own limit as well.
const MAX_PARALLEL_LOOKUPS: usize = 8;

/// Compares a repository and the records with the plan.
pub(super) struct Recheck<'a> {
    pub(super) stores: ImageStores,
    pub(super) records: &'a RecordWatch<'a>,
    /// Digests that records named when the plan was made.
    pub(super) pinned: &'a BTreeSet<Digest>,
    /// Digests in the last reading that are not in the plan.
    pub(super) unplanned: Mutex<Option<UnplannedDigests>>,
}

/// A reading, and its digests that are not in the plan.
pub(super) type UnplannedDigests = (Arc<RecordReading>, Arc<BTreeSet<Digest>>);

/// Changes of a repository and of the records since the plan was made.
pub(super) struct CurrentState {
    /// Digests below tags that are new or were moved.
    pub(super) claimed: BTreeSet<Digest>,
    /// Digests below images that new records name by digest.
    pub(super) recorded: BTreeSet<Digest>,
    /// Tags that are listed now.
    pub(super) tags: BTreeSet<Tag>,
    /// Kept tags that are listed now, by their planned image.
    kept: HashMap<Digest, Vec<Tag>>,
    /// Reason why there may be tags that are not listed. Nothing is deleted by digest then.
    pub(super) listing_doubt: Option<String>,
    records: Arc<RecordReading>,
}

impl CurrentState {
    /// Returns the kept tags of an image that still exist.
    pub(super) fn kept_tags(&self, digest: &Digest) -> &[Tag] {
        self.kept.get(digest).map_or(&[], Vec::as_slice)
    }

    /// Returns the reason why current records keep an image or a part of it.
    pub(super) fn keep_reason(
        &self,
        planned: &RepositoryPlan,
        group: &DeletionGroup,
    ) -> Option<KeepReason> {
        let protections = self.records.protections();
        group.tags.iter().find_map(|(tag, _)| {
            let by_spelling = || {
                planned
                    .may_lower_case
                    .then(|| protections.of_other_spelling(&planned.canonical, tag))
                    .flatten()
            };
            protections
                .of_digests(&planned.canonical, tag, || {
                    group.below.iter().chain([&group.digest])
                })
                .or_else(by_spelling)
        })
    }
}

/// Tags of an image that is about to be deleted.
pub(super) enum CurrentTags<'g> {
    Unchanged {
        /// Tags that exist; they all name the image.
        tags: Vec<&'g Tag>,
        /// Manifest of the image; `None` if none of its tags exists.
        manifest: Option<Box<Manifest>>,
    },
    /// A tag names another image than in the plan.
    Moved { tag: &'g Tag, to: Digest },
}

/// Requirement on a listing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ExpectedListing {
    /// At least one tag: nothing was deleted yet.
    Tags,
    /// Any, because all tags may have been deleted.
    Any,
}

impl Recheck<'_> {
    /// Reads the current state.
    ///
    /// Before manifests are deleted, which deletes all of their tags, the listing is proved to be
    /// complete, and every tag that is kept or belongs to an image in `later` is looked up: it may
    /// name another image by now. The caller looks up the other tags. The records are read last.
    pub(super) async fn read(
        &self,
        planned: &RepositoryPlan,
        deletes_manifests: bool,
        later: &[&DeletionGroup],
        expected: ExpectedListing,
    ) -> Result<CurrentState, ItemError> {
        let repository = &planned.repository;
        let store = self.stores.of(repository);
        let listing = if deletes_manifests && planned.listing_doubt.is_none() {
            store.proved_tags(repository).await?.unwrap_or_default()
        } else {
            ProvedTags {
                tags: store.tags(repository).await?.unwrap_or_default(),
                doubt: planned.listing_doubt.clone(),
            }
        };
        let tags: BTreeSet<Tag> = listing.tags.into_iter().map(|listed| listed.tag).collect();
        if tags.is_empty() && (expected == ExpectedListing::Tags || !planned.kept.is_empty()) {
            return Err(ItemError::other(
                "the repository listed tags before, and lists none now",
            ));
        }
        let mut changed: Vec<&Tag> = tags.difference(&planned.listed).collect();
        if deletes_manifests {
            changed.extend(self.moved_tags(planned, later, &tags).await?);
        }
        let changed = changed.into_iter().cloned().collect();
        self.state(planned, tags, changed, listing.doubt).await
    }

    /// Reads the listing and the records again, a short time after `state` was read.
    pub(super) async fn refresh(
        &self,
        planned: &RepositoryPlan,
        state: CurrentState,
    ) -> Result<CurrentState, ItemError> {
        let repository = &planned.repository;
        let listed = self.stores.of(repository).tags(repository).await?;
        let tags: BTreeSet<Tag> = listed
            .unwrap_or_default()
            .into_iter()
            .map(|listed| listed.tag)
            .collect();
        if tags.is_empty() && !planned.kept.is_empty() {
            return Err(ItemError::other(
                "the repository listed tags before, and lists none now",
            ));
        }
        let new = tags
            .iter()
            .filter(|tag| !planned.listed.contains(*tag) && !state.tags.contains(*tag))
            .cloned()
            .collect();
        self.state(planned, tags, new, state.listing_doubt).await
    }

    /// Returns the state after reading the `changed` tags and the records.
    async fn state(
        &self,
        planned: &RepositoryPlan,
        tags: BTreeSet<Tag>,
        changed: Vec<Tag>,
        listing_doubt: Option<String>,
    ) -> Result<CurrentState, ItemError> {
        let store = self.stores.of(&planned.repository);
        let mut claimed = BTreeSet::new();
        for tag in changed {
            let read = manifest_tree::all_digests(store, &planned.repository, &Reference::Tag(tag))
                .await?;
            claimed.extend(read.into_iter().flatten());
        }
        let records = self.records.fresh().await?;
        let recorded = self.recorded(planned, &records).await?;
        let mut kept: HashMap<Digest, Vec<Tag>> = HashMap::new();
        for (tag, digest, _) in planned.kept.iter().filter(|(tag, ..)| tags.contains(tag)) {
            if let Some(digest) = digest {
                kept.entry(digest.clone()).or_default().push(tag.clone());
            }
        }
        Ok(CurrentState {
            kept,
            claimed,
            recorded,
            tags,
            listing_doubt,
            records,
        })
    }

    /// Returns the kept tags and those of `later` that are in `tags` and name another image than in the plan.
    ///
    /// Fails if a kept tag exists that `tags` lacks: the listing is incomplete.
    async fn moved_tags<'p>(
        &self,
        planned: &'p RepositoryPlan,
        later: &[&'p DeletionGroup],
        tags: &BTreeSet<Tag>,
    ) -> Result<Vec<&'p Tag>, ItemError> {
        let kept = planned
            .kept
            .iter()
            .map(|(tag, digest, _)| (tag, digest.as_ref(), true));
        let deleted = later.iter().flat_map(|group| {
            group
                .tags
                .iter()
                .map(|(tag, _)| (tag, Some(&group.digest), false))
        });
        let lookups = kept
            .chain(deleted)
            .filter(|(tag, _, is_kept)| *is_kept || tags.contains(*tag))
            .map(|(tag, digest, _)| async move {
                let found = self
                    .stores
                    .of(&planned.repository)
                    .resolve(&planned.repository, &Reference::Tag(tag.clone()))
                    .await?;
                if found.is_some() && !tags.contains(tag) {
                    return Err(listing_lacks(tag, "is kept"));
                }
                let is_moved = found.is_some_and(|found| Some(&found.digest) != digest);
                Ok((tag, is_moved))
            });
        let lookups: Vec<Result<(&Tag, bool), ItemError>> =
            stream::iter(lookups.collect::<Vec<_>>())
                .buffer_unordered(MAX_PARALLEL_LOOKUPS)
                .collect()
                .await;
        let mut moved = Vec::new();
        for lookup in lookups {
            let (tag, is_moved) = lookup?;
            moved.extend(is_moved.then_some(tag));
        }
        Ok(moved)
    }

    /// Returns the digests in `records` that are not in the plan, with everything below those that
    /// are in the repository.
    async fn recorded(
        &self,
        planned: &RepositoryPlan,
        records: &Arc<RecordReading>,
    ) -> Result<BTreeSet<Digest>, ItemError> {
        let unplanned = self.unplanned(records);
        let mut recorded = BTreeSet::new();
        if unplanned.is_empty() {
            return Ok(recorded);
        }
        let here = records.protections().digests_in.get(&planned.canonical);
        for digest in here
            .into_iter()
            .flatten()
            .filter(|digest| unplanned.contains(*digest))
        {
            let reference = Reference::Digest(digest.clone());
            let store = self.stores.of(&planned.repository);
            let read = manifest_tree::all_digests(store, &planned.repository, &reference).await?;
            recorded.extend(read.into_iter().flatten());
        }
        recorded.extend(unplanned.iter().cloned());
        Ok(recorded)
    }

    /// Returns the digests in `records` that are not in the plan.
    fn unplanned(&self, records: &Arc<RecordReading>) -> Arc<BTreeSet<Digest>> {
        let mut last = lock(&self.unplanned);
        match &*last {
            Some((reading, unplanned)) if Arc::ptr_eq(reading, records) => unplanned.clone(),
            _ => {
                let named = records.pinned().difference(self.pinned);
                let unplanned = Arc::new(named.cloned().collect());
                *last = Some((records.clone(), Arc::clone(&unplanned)));
                unplanned
            }
        }
    }

    /// Returns the tags of an image that still exist. Fails if one of them names another image.
    pub(super) async fn existing_tags<'g>(
        &self,
        planned: &RepositoryPlan,
        group: &'g DeletionGroup,
        state: &CurrentState,
    ) -> Result<Vec<&'g Tag>, ItemError> {
        let mut existing = Vec::new();
        for (tag, _) in group
            .tags
            .iter()
            .filter(|(tag, _)| state.tags.contains(tag))
        {
            let found = self
                .stores
                .of(&planned.repository)
                .resolve(&planned.repository, &Reference::Tag(tag.clone()))
                .await;
            match found? {
                Some(found) if found.digest == group.digest => existing.push(tag),
                Some(_) => return Err(Recheck::moved(tag)),
                None => {}
            }
        }
        Ok(existing)
    }

    /// Returns the tags of an image that still exist, with its manifest, by one request for each
    /// tag.
    pub(super) async fn current_tags<'g>(
        &self,
        planned: &RepositoryPlan,
        group: &'g DeletionGroup,
        state: &CurrentState,
    ) -> Result<CurrentTags<'g>, ItemError> {
        let repository = &planned.repository;
        let store = self.stores.of(repository);
        let (mut existing, mut manifest) = (Vec::new(), None);
        let listed = group.tags.iter().map(|(tag, _)| tag);
        for tag in listed.filter(|tag| state.tags.contains(*tag)) {
            let reference = Reference::Tag(tag.clone());
            let found = if manifest.is_none() {
                manifest = store.manifest(repository, &reference).await?;
                manifest
                    .as_ref()
                    .map(|found: &Manifest| found.digest.clone())
            } else {
                let found = store.resolve(repository, &reference).await?;
                found.map(|found| found.digest)
            };
            match found {
                Some(digest) if digest == group.digest => existing.push(tag),
                Some(to) => return Ok(CurrentTags::Moved { tag, to }),
                None => {}
            }
        }
        Ok(CurrentTags::Unchanged {
            tags: existing,
            manifest: manifest.map(Box::new),
        })
    }

    /// Returns the error for a tag that names another image than in the plan.
    pub(super) fn moved(tag: &Tag) -> ItemError {
        let cause = format!("the tag {tag} was moved since it was read; the image was not deleted");
        ItemError::other(cause).with_hint("run `imglife cleanup` again")
    }

    /// Returns the referrers of the image and of its parts that the store lists, each with its
    /// subject, and their own referrers.
    pub(super) async fn referrers(
        &self,
        repository: &Repository,
        group: &DeletionGroup,
    ) -> Result<BTreeMap<Digest, Digest>, ItemError> {
        let store = self.stores.of(repository);
        let mut found = BTreeMap::new();
        let mut open: Vec<Digest> = group.parts.iter().chain([&group.digest]).cloned().collect();
        for _ in 0..MAX_INDEX_NESTING {
            let mut next = Vec::new();
            for subject in open {
                let listed = match store.referrers(repository, &subject).await? {
                    Referrers::Listed(listed) | Referrers::Partial(listed) => listed,
                    Referrers::NotListed => Vec::new(),
                };
                let referrers = listed.into_iter().map(|referrer| referrer.digest);
                next.extend(
                    referrers
                        .filter(|digest| found.insert(digest.clone(), subject.clone()).is_none()),
                );
            }
            open = next;
        }
        Ok(found)
    }
}
