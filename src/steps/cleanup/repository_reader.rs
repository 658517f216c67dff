//! Reads tags, images and dates of one repository.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::dependency_reader::check_lists;
use super::desired_tags::check_upstreams;
use super::manifest_cache::RememberedImages;
use super::manifest_tree::{self, CONCURRENT_MANIFESTS, DateSource, ManifestTree};
use super::observer::Observer;
use super::protections::RecordProtections;
use super::required_facts::{MissingDates, needs_deletions, undecided_tags};
use super::tag_spellings::read_tag_case;
use super::world::{
    ObservedRepository, ObservedTag, ReadingProgress, RepositoryRole, TagReadError, UntaggedImage,
};
use crate::error::{ItemError, ItemErrorKind, chain};
use crate::model::{Digest, Repository, Tag};
use crate::progress::Event;
use crate::registry::{DeletionSupport, ListedTag, ProvedTags, UntaggedManifest};

/// Maximum number of recorded tags of a repository that are looked up because they are not listed.
const MAX_RECORDED_LOOKUPS: usize = 100;

/// Returns the error of a listing without a tag that exists.
pub(super) fn listing_lacks(tag: &Tag, reason: &str) -> ItemError {
    ItemError::other(format!(
        "the listing lacks the tag {tag}, which {reason} and which exists: the listing is incomplete"
    ))
    .with_hint(
        "check that the registry, and any proxy in front of it, lists all tags, then run `imglife \
         cleanup` again",
    )
}

pub(super) struct RepositoryReader<'a> {
    pub(super) observer: Observer<'a>,
    pub(super) protections: &'a RecordProtections,
}

impl RepositoryReader<'_> {
    /// Reads a repository completely.
    ///
    /// Dates of bases are read only for tags that may be deleted, and the ways in which the
    /// registry deletes only if a tag may be deleted.
    pub(super) async fn read_repository(
        &self,
        mut repository: ObservedRepository,
    ) -> ObservedRepository {
        let name = repository.repository.clone();
        if self.observer.is_stopped() {
            repository.cut = Some(ReadingProgress { read: 0, listed: 0 });
            return repository;
        }
        self.observer.progress.event(Event::Observing {
            what: &format!("tags of {name}"),
        });
        let listing = match self.list(&repository).await {
            Ok(listing) => listing,
            Err(error) => {
                repository.listing = Err(error);
                return repository;
            }
        };
        repository.listing_doubt = listing.doubt;
        self.observer.progress.event(Event::Observing {
            what: &format!("images of {name}"),
        });
        let listed = listing.tags.iter().map(|listed| listed.tag.clone());
        read_tag_case(
            self.observer,
            self.protections,
            &mut repository,
            listed.collect(),
        )
        .await;
        let role = repository.role;
        let remembered = RememberedImages::load(self.observer.cache, &name, self.observer.now);
        // Full references in a layout are names that keep their content, but no tags of it.
        let tags = listing.tags.into_iter().filter(|tag| !tag.is_reference);
        let remembered_tags = &remembered;
        let reads = tags.map(|listed| async move {
            if self.observer.is_stopped() && !remembered_tags.is_current(&listed.tag) {
                return None;
            }
            Some(self.read_tag(remembered_tags, listed, role).await)
        });
        let read: Vec<Option<(ObservedTag, DateSource)>> = stream::iter(reads)
            .buffered(CONCURRENT_MANIFESTS)
            .collect()
            .await;
        let listed = read.len();
        let read: Vec<(ObservedTag, DateSource)> = read.into_iter().flatten().collect();
        if read.len() < listed {
            remembered.store_part(read.iter().map(|(tag, _)| tag));
            repository.cut = Some(ReadingProgress {
                read: read.len(),
                listed,
            });
            return repository;
        }
        let (tags, date_sources): (Vec<ObservedTag>, Vec<(Tag, DateSource)>) = read
            .into_iter()
            .map(|(tag, date_source)| (tag.clone(), (tag.tag, date_source)))
            .unzip();
        remembered.store(tags.iter(), true);
        repository.listing = Ok(tags);
        repository.compare_origins();
        repository.desired.upstream_warning = check_upstreams(&mut repository);
        self.read_pinned(&mut repository).await;
        let date_sources: BTreeMap<Tag, DateSource> = date_sources.into_iter().collect();
        // A list of referrers that turns out to be an image is dated and ranked like one, which can
        // change the verdicts on others.
        loop {
            if repository.role.has_build_dates() {
                self.read_dates(&mut repository, date_sources.clone()).await;
            }
            let images = check_lists(self.observer, self.protections, &mut repository).await;
            if images.is_empty() {
                break;
            }
        }
        self.read_origins(&mut repository, &date_sources).await;
        if needs_deletions(&repository, self.protections, self.observer.now) {
            if let Err(error) = self.check_recorded_tags(&repository).await {
                repository.error = Some(error);
                return repository;
            }
            match self.observer.stores.deletions(&name).await {
                Ok(deletions) => repository.deletions = deletions,
                Err(error) => repository.error = Some(error),
            }
        }
        self.read_untagged(&mut repository).await;
        repository
    }

    /// Reads the manifests without a tag that no tag leads to. If one of them cannot be read, none is
    /// known.
    async fn read_untagged(&self, repository: &mut ObservedRepository) {
        if matches!(repository.role, RepositoryRole::Archive { .. }) || repository.error.is_some() {
            return;
        }
        let name = repository.repository.clone();
        let store = self.observer.stores.of(&name);
        let listed = match store.untagged_manifests(&name).await {
            Ok(listed) => listed.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(
                    "{name}: manifests without a tag are kept: {}",
                    chain(&error)
                );
                return;
            }
        };
        let known: BTreeSet<&Digest> = repository
            .tags()
            .flat_map(|tag| &tag.image)
            .chain(&repository.pinned)
            .flat_map(ManifestTree::digests)
            .collect();
        let unknown: Vec<UntaggedManifest> = listed
            .into_iter()
            .filter(|manifest| !known.contains(&manifest.digest))
            .collect();
        if unknown.is_empty() {
            return;
        }
        let remembered = &RememberedImages::load(self.observer.cache, &name, self.observer.now);
        let reads = unknown.into_iter().map(|manifest| async move {
            let read = remembered.read_digest(store, &manifest.digest).await?;
            Ok(read.map(|(tree, _)| UntaggedImage {
                tree,
                pushed_at: manifest.pushed_at,
            }))
        });
        let read: Result<Vec<Option<UntaggedImage>>, ItemError> =
            stream::iter(reads.collect::<Vec<_>>())
                .buffered(CONCURRENT_MANIFESTS)
                .try_collect()
                .await;
        match read {
            Ok(images) => repository.untagged = images.into_iter().flatten().collect(),
            Err(error) => {
                tracing::warn!(
                    "{name}: manifests without a tag are kept: {}",
                    chain(&error)
                );
            }
        }
        // The methods of deletion are read only if a tag may be deleted.
        if !repository.untagged.is_empty() && repository.deletions == DeletionSupport::UNKNOWN {
            match self.observer.stores.deletions(&name).await {
                Ok(deletions) => repository.deletions = deletions,
                Err(_) => repository.untagged.clear(),
            }
        }
    }

    /// Lists the tags of a repository.
    ///
    /// A listing with push dates has no proof of its end; execution lists the tags again.
    async fn list(&self, repository: &ObservedRepository) -> Result<ProvedTags, ItemError> {
        let name = &repository.repository;
        let dated = self.push_dates(name, repository.role).await?;
        if let (Some(tags), RepositoryRole::Mirror) = (&dated, repository.role) {
            return Ok(ProvedTags {
                tags: tags.clone(),
                doubt: None,
            });
        }
        let store = self.observer.stores.of(name);
        let mut listing = store.proved_tags(name).await?.unwrap_or_default();
        let dates: HashMap<Tag, _> = dated
            .into_iter()
            .flatten()
            .map(|listed| (listed.tag, listed.pushed_at))
            .collect();
        for listed in &mut listing.tags {
            listed.pushed_at = dates.get(&listed.tag).copied().flatten();
        }
        Ok(listing)
    }

    /// Looks up tags that records name and the listing lacks. Fails if one of them exists: the
    /// listing is incomplete.
    ///
    /// The records were read before the listing. Listings are mostly cut at their end, so the last
    /// tags in alphabetical order are looked up, at most [`MAX_RECORDED_LOOKUPS`].
    async fn check_recorded_tags(&self, repository: &ObservedRepository) -> Result<(), ItemError> {
        // Some registries list tags in lower case and find them in any case.
        let listed: BTreeSet<String> = repository
            .tags()
            .map(|tag| tag.tag.as_str().to_ascii_lowercase())
            .collect();
        let unlisted = self
            .protections
            .tags_in(&repository.canonical)
            .into_iter()
            .rev()
            .filter(|tag| !listed.contains(&tag.as_str().to_ascii_lowercase()))
            .take(MAX_RECORDED_LOOKUPS);
        let name = &repository.repository;
        let store = self.observer.stores.of(name);
        let lookups = unlisted.map(|tag| async move {
            let found = store.resolve(name, &tag.clone().into()).await?;
            Ok(found.map(|_| tag))
        });
        let found: Vec<Option<&Tag>> = stream::iter(lookups.collect::<Vec<_>>())
            .buffered(CONCURRENT_MANIFESTS)
            .try_collect()
            .await?;
        match found.into_iter().flatten().next() {
            Some(tag) => Err(listing_lacks(tag, "a record names")),
            None => Ok(()),
        }
    }

    /// Reads the image of a tag.
    pub(super) async fn read_tag(
        &self,
        remembered: &RememberedImages<'_>,
        listed: ListedTag,
        role: RepositoryRole,
    ) -> (ObservedTag, DateSource) {
        let source = self.observer.stores.of(remembered.repository());
        let read = remembered.read_tag(source, &listed.tag).await;
        let (image, date_source) = match read {
            Ok(Some((tree, date_source))) => (Ok(tree), date_source),
            Ok(None) => (Err(TagReadError::NotFound), DateSource::None),
            Err(error) => (Err(TagReadError::Failed(error)), DateSource::None),
        };
        (ObservedTag::listed(listed, role, image), date_source)
    }

    /// Returns the tags of a repository with their push dates; `None` if the store does not report
    /// these, or they do not matter.
    ///
    /// The names of archived tags have their dates. A base has other dates, so a refusal to report
    /// push dates is no error there: Docker Hub reports those of public repositories only.
    pub(super) async fn push_dates(
        &self,
        repository: &Repository,
        role: RepositoryRole,
    ) -> Result<Option<Vec<ListedTag>>, ItemError> {
        if matches!(role, RepositoryRole::Archive { .. }) {
            return Ok(None);
        }
        let dates = self.observer.stores.of(repository).push_dates(repository);
        match dates.await {
            Err(error)
                if role.has_build_dates()
                    && matches!(
                        error.kind,
                        ItemErrorKind::Absent
                            | ItemErrorKind::Unauthorized
                            | ItemErrorKind::Forbidden
                    ) =>
            {
                tracing::info!(%repository, %error, "push dates are not reported");
                Ok(None)
            }
            dates => dates,
        }
    }

    /// Reads images that records name by digest and that no tag leads to.
    pub(super) async fn read_pinned(&self, repository: &mut ObservedRepository) {
        let Some(named) = self.protections.digests_in.get(&repository.canonical) else {
            return;
        };
        let trees = repository
            .tags()
            .flat_map(|tag| &tag.image)
            .chain(&repository.pinned);
        let known: BTreeSet<&Digest> = trees.flat_map(ManifestTree::digests).collect();
        let unknown: Vec<Digest> = named
            .iter()
            .filter(|digest| !known.contains(*digest))
            .map(|digest| (*digest).clone())
            .collect();
        let name = &repository.repository;
        let store = self.observer.stores.of(name);
        let remembered = &RememberedImages::load(self.observer.cache, name, self.observer.now);
        let reads = unknown
            .into_iter()
            .map(|digest| async move { remembered.read_digest(store, &digest).await });
        let read: Vec<_> = stream::iter(reads.collect::<Vec<_>>())
            .buffer_unordered(CONCURRENT_MANIFESTS)
            .collect()
            .await;
        for result in read {
            match result {
                Ok(found) => repository.pinned.extend(found.map(|(tree, _)| tree)),
                Err(_) => repository.is_pinned_known = false,
            }
        }
    }

    /// Reads the projects that built bases where only labels name them, of tags that would be
    /// deleted. A tag whose labels cannot be read is kept.
    async fn read_origins(
        &self,
        repository: &mut ObservedRepository,
        date_sources: &BTreeMap<Tag, DateSource>,
    ) {
        if repository.role != RepositoryRole::Base || !self.protections.is_own_source_known() {
            return;
        }
        let (observer, name) = (self.observer, &repository.repository);
        let store = observer.stores.of(name);
        let undecided = undecided_tags(
            repository,
            self.protections,
            MissingDates::Unknown,
            observer.now,
        );
        let reads: Vec<_> = undecided
            .into_iter()
            .filter_map(|tag| Some((tag.clone(), date_sources.get(tag)?)))
            .map(|(tag, date_source)| async move {
                let origin = manifest_tree::origin(store, name, date_source, observer.cache).await;
                (tag, origin)
            })
            .collect();
        let origins: BTreeMap<Tag, _> = stream::iter(reads)
            .buffer_unordered(CONCURRENT_MANIFESTS)
            .collect()
            .await;
        for tag in repository.listing.iter_mut().flatten() {
            match (origins.get(&tag.tag), &mut tag.image) {
                (Some(Ok(origin)), Ok(tree)) if tree.origin.is_none() => {
                    tree.origin.clone_from(origin);
                }
                (Some(Err(error)), image) => *image = Err(TagReadError::Failed(error.clone())),
                _ => {}
            }
        }
    }

    /// Reads the dates of a base's images where they matter, and content that several images share
    /// only once.
    pub(super) async fn read_dates(
        &self,
        repository: &mut ObservedRepository,
        date_sources: BTreeMap<Tag, DateSource>,
    ) {
        self.add_known_dates(repository).await;
        let undecided = undecided_tags(
            repository,
            self.protections,
            MissingDates::Unread,
            self.observer.now,
        );
        let date_sources: BTreeMap<Tag, DateSource> = date_sources
            .into_iter()
            .filter(|(tag, _)| undecided.contains(tag))
            .collect();
        let distinct: BTreeMap<&Digest, &DateSource> = date_sources
            .values()
            .filter_map(|date_source| Some((date_source.digest()?, date_source)))
            .collect();
        let (observer, name) = (self.observer, &repository.repository);
        let store = observer.stores.of(name);
        let reads = distinct
            .into_iter()
            .map(|(digest, date_source)| async move {
                // An image whose date cannot be read has no age, so rules by age keep it.
                let created =
                    manifest_tree::created(store, name, date_source, observer.cache).await;
                (digest, created.ok().flatten())
            });
        let dates: BTreeMap<&Digest, Option<DateTime<Utc>>> =
            stream::iter(reads.collect::<Vec<_>>())
                .buffer_unordered(CONCURRENT_MANIFESTS)
                .collect()
                .await;
        for tag in repository
            .listing
            .iter_mut()
            .flatten()
            .filter(|tag| tag.created.is_none())
        {
            tag.created = match date_sources.get(&tag.tag) {
                Some(DateSource::Annotation(created)) => Some(*created),
                Some(date_source) => date_source
                    .digest()
                    .and_then(|digest| dates.get(digest).copied().flatten()),
                None => None,
            };
        }
    }

    /// Adds the dates of a base's tags that the records have, and those of files of an OCI layout.
    async fn add_known_dates(&self, repository: &mut ObservedRepository) {
        let (name, canonical) = (&repository.repository, &repository.canonical);
        let store = self.observer.stores.of(name);
        for tag in repository.listing.iter_mut().flatten() {
            tag.recorded_at = self.protections.built_at(canonical, tag);
            if let (None, Ok(tree)) = (tag.pushed_at, &tag.image) {
                // An unreadable time is unknown; other dates still count.
                tag.pushed_at = store.stored_at(name, &tree.digest).await.ok().flatten();
            }
        }
    }
}
