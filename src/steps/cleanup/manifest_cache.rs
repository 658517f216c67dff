//! Images that earlier runs read: a tag that still names one of them costs a HEAD.
//!
//! Harbor, Amazon's registry and zot take each GET of a manifest for a pull, by which their own
//! rules keep an image.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::manifest_tree::{self, DateSource, ManifestTree};
use super::world::ObservedTag;
use crate::error::ItemError;
use crate::model::{Digest, Reference, Repository, Tag};
use crate::registry::ImageSource;
use crate::transfer::DigestCache;

/// Images of a repository that are in the cache. Layouts are read directly.
pub(super) struct RememberedImages<'a> {
    cache: &'a dyn DigestCache,
    repository: &'a Repository,
    /// Digest that each tag named in an earlier run.
    digests: HashMap<Tag, Digest>,
    /// Tags that earlier parts of the current reading read.
    current: HashSet<Tag>,
    /// Start of the current reading.
    started: DateTime<Utc>,
}

/// Time after which a reading that was stopped starts again.
const MAX_READING_TIME: TimeDelta = TimeDelta::hours(24);

/// Facts about an image, which never change.
#[derive(Deserialize, Serialize)]
struct CachedImage {
    tree: ManifestTree,
    date_source: DateSource,
}

/// Entries of the cache that hold the digests of a repository's tags, so that each of them stays
/// small. The first digit of a tag's digest tells which one has it.
const SHARDS: [char; 16] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
];

impl<'a> RememberedImages<'a> {
    /// Returns what the cache has about a repository.
    pub(super) fn load(
        cache: &'a dyn DigestCache,
        repository: &'a Repository,
        now: DateTime<Utc>,
    ) -> RememberedImages<'a> {
        let started = cache
            .get(&reading_key(repository))
            .and_then(|text| text.parse::<DateTime<Utc>>().ok())
            .filter(|started| (TimeDelta::zero()..MAX_READING_TIME).contains(&(now - *started)));
        let mut remembered = RememberedImages {
            cache,
            repository,
            digests: HashMap::new(),
            current: HashSet::new(),
            started: started.unwrap_or(now),
        };
        let mark = remembered.mark();
        let shards = SHARDS.iter().filter(|_| is_cached(repository));
        for text in shards.filter_map(|shard| cache.get(&shard_key(repository, *shard))) {
            for line in text.lines() {
                let mut words = line.split(' ');
                let (Some(Ok(tag)), Some(Ok(digest))) = (
                    words.next().map(str::parse::<Tag>),
                    words.next().map(str::parse),
                ) else {
                    continue;
                };
                if words.next() == Some(&mark) {
                    remembered.current.insert(tag.clone());
                }
                remembered.digests.insert(tag, digest);
            }
        }
        remembered
    }

    /// Returns the mark of tags that the current reading read.
    fn mark(&self) -> String {
        self.started.timestamp().to_string()
    }

    /// Returns true if a tag was read by an earlier part of the current reading, so that it needs no
    /// request.
    pub(super) fn is_current(&self, tag: &Tag) -> bool {
        self.current.contains(tag)
    }

    pub(super) fn repository(&self) -> &Repository {
        self.repository
    }

    /// Returns the image that a tag names and the source of its date; `None` if it does not exist.
    ///
    /// Sends one request for an image that is known and for an image without nested indexes.
    pub(super) async fn read_tag(
        &self,
        source: &dyn ImageSource,
        tag: &Tag,
    ) -> Result<Option<(ManifestTree, DateSource)>, ItemError> {
        let reference = Reference::Tag(tag.clone());
        let last = self.digests.get(tag);
        let is_known = |digest| self.image(digest, &reference);
        let Some((last, image)) = last.and_then(|last| Some((last, is_known(last)?))) else {
            return self.read(source, &reference).await;
        };
        if self.is_current(tag) {
            return Ok(Some(image));
        }
        match source.resolve(self.repository, &reference).await? {
            None => Ok(None),
            Some(found) if found.digest == *last => Ok(Some(image)),
            Some(found) => match is_known(&found.digest) {
                Some(image) => Ok(Some(image)),
                None => self.read(source, &reference).await,
            },
        }
    }

    /// Returns the image with a digest and the source of its date; `None` if it does not exist.
    pub(super) async fn read_digest(
        &self,
        source: &dyn ImageSource,
        digest: &Digest,
    ) -> Result<Option<(ManifestTree, DateSource)>, ItemError> {
        let reference = Reference::Digest(digest.clone());
        match self.image(digest, &reference) {
            Some(image) => {
                let found = source.resolve(self.repository, &reference).await?;
                Ok(found.map(|_| image))
            }
            None => self.read(source, &reference).await,
        }
    }

    /// Writes the digests of tags to the cache, for the next run. With `replaces`, tags that are not
    /// among them are forgotten.
    pub(super) fn store<'t>(&self, tags: impl Iterator<Item = &'t ObservedTag>, replaces: bool) {
        let mut digests = if replaces {
            BTreeMap::new()
        } else {
            self.known()
        };
        digests.extend(
            tags.filter_map(|tag| Some((&tag.tag, (&tag.image.as_ref().ok()?.digest, false)))),
        );
        self.write(&digests);
    }

    /// Writes the tags that a stopped reading has read, so that the next run goes on with the others.
    pub(super) fn store_part<'t>(&self, tags: impl Iterator<Item = &'t ObservedTag>) {
        if !is_cached(self.repository) {
            return;
        }
        let mut digests = self.known();
        digests.extend(
            tags.filter_map(|tag| Some((&tag.tag, (&tag.image.as_ref().ok()?.digest, true)))),
        );
        self.write(&digests);
        self.cache
            .put(&reading_key(self.repository), &self.started.to_rfc3339());
    }

    /// Returns the digests of the cache, and whether the current reading read them.
    fn known(&self) -> BTreeMap<&Tag, (&Digest, bool)> {
        let entry = |(tag, digest)| (tag, (digest, self.is_current(tag)));
        self.digests.iter().map(entry).collect()
    }

    fn write(&self, digests: &BTreeMap<&Tag, (&Digest, bool)>) {
        if !is_cached(self.repository) {
            return;
        }
        let known = self.known();
        let added = digests
            .iter()
            .filter(|(tag, entry)| known.get(**tag) != Some(*entry))
            .map(|(tag, _)| shard(tag));
        let removed = known
            .keys()
            .filter(|tag| !digests.contains_key(**tag))
            .map(|tag| shard(tag));
        let mut texts: BTreeMap<char, String> = added
            .chain(removed)
            .map(|shard| (shard, String::new()))
            .collect();
        let current = self.mark();
        for (tag, (digest, is_current)) in digests {
            if let Some(text) = texts.get_mut(&shard(tag)) {
                let mark = if *is_current { &current } else { "" };
                // Writing to a string does not fail.
                let _written = writeln!(text, "{}", format!("{tag} {digest} {mark}").trim_end());
            }
        }
        for (shard, text) in texts {
            self.cache.put(&shard_key(self.repository, shard), &text);
        }
    }

    async fn read(
        &self,
        source: &dyn ImageSource,
        reference: &Reference,
    ) -> Result<Option<(ManifestTree, DateSource)>, ItemError> {
        let found = manifest_tree::read(source, self.repository, reference).await?;
        // An index that is missing now may be pushed later.
        if let Some((tree, date_source)) = &found
            && tree.has_all_indexes
            && is_cached(self.repository)
        {
            let image = CachedImage {
                tree: tree.clone(),
                date_source: date_source.clone(),
            };
            if let Ok(text) = serde_json::to_string(&image) {
                self.cache.put(&image_key(&tree.digest, reference), &text);
            }
        }
        Ok(found)
    }

    fn image(&self, digest: &Digest, reference: &Reference) -> Option<(ManifestTree, DateSource)> {
        let text = self.cache.get(&image_key(digest, reference))?;
        let image: CachedImage = serde_json::from_str(&text).ok()?;
        (image.tree.digest == *digest).then_some((image.tree, image.date_source))
    }
}

fn is_cached(repository: &Repository) -> bool {
    matches!(repository, Repository::Remote { .. })
}

/// Returns the cache key of an image that is read by `reference`. The number is the version of
/// [`CachedImage`].
fn image_key(digest: &Digest, reference: &Reference) -> String {
    let kind = if manifest_tree::may_be_list(reference) {
        "list"
    } else {
        "image"
    };
    format!("{kind} 1 {digest}")
}

fn shard_key(repository: &Repository, shard: char) -> String {
    format!("tags 1 {repository} {shard}")
}

/// Returns the cache key of the start of a reading that was stopped.
fn reading_key(repository: &Repository) -> String {
    format!("reading 1 {repository}")
}

fn shard(tag: &Tag) -> char {
    Digest::sha256(tag.as_str().as_bytes())
        .hex()
        .chars()
        .next()
        .unwrap_or('0')
}
