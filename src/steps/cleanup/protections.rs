//! Protections: records and settings that keep a tag, independent of its age and rank. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::reasons::KeepReason;
use super::world::{ObservedRecords, ObservedRepository, ObservedTag};
use crate::config::TagExclusion;
use crate::model::{BuildRecord, Digest, ImageReference, Repository, Tag};

/// Tags and digests that build records protect.
///
/// A digest is protected in every repository, a tag only in the repository that the record names.
/// Building this index costs one pass over the records, so it is built once for each reading.
#[derive(Clone, Debug, Default)]
pub struct RecordProtections {
    readings: Vec<Arc<ObservedRecords>>,
    base_tags: ProtectedTags,
    base_digests: HashMap<Digest, RecordPosition>,
    own_tags: ProtectedTags,
    own_digests: HashMap<Digest, RecordPosition>,
    /// Digests that records name, by the repository that the record names with them.
    pub(super) digests_in: BTreeMap<Repository, BTreeSet<Digest>>,
}

/// Position of the record that protects each tag.
type ProtectedTags = HashMap<Repository, HashMap<Tag, RecordPosition>>;

/// Position of a reading, and of a record in it.
type RecordPosition = (u32, u32);

impl RecordProtections {
    /// Returns the protections of the records of all `readings`.
    pub fn of(readings: &[Arc<ObservedRecords>]) -> RecordProtections {
        let mut protections = RecordProtections {
            readings: readings.to_vec(),
            ..RecordProtections::default()
        };
        for (reading, records) in (0..).zip(readings) {
            #[cfg(test)]
            count_indexed(records.records().len());
            for (position, record) in (0..).zip(records.records()) {
                protections.add(record, (reading, position));
            }
        }
        protections
    }

    fn add(&mut self, record: &BuildRecord, position: RecordPosition) {
        let image = &record.image;
        if let Some(base) = &record.base {
            if let Some(tag) = &base.tag {
                add_tag(&mut self.base_tags, &base.repository, tag, position);
            }
            for digest in base.digest.iter().chain(&record.base_digest) {
                self.base_digests.insert(digest.clone(), position);
                self.add_digest_in(&base.repository, digest);
            }
        }
        if let Some(digest) = &record.base_digest {
            self.base_digests.insert(digest.clone(), position);
        }
        if let Some(tag) = &image.tag {
            add_tag(&mut self.own_tags, &image.repository, tag, position);
        }
        for digest in image.digest.iter().chain(&record.digest) {
            self.own_digests.insert(digest.clone(), position);
            self.add_digest_in(&image.repository, digest);
        }
    }

    fn add_digest_in(&mut self, repository: &Repository, digest: &Digest) {
        match self.digests_in.get_mut(repository) {
            Some(digests) => drop(digests.insert(digest.clone())),
            None => drop(
                self.digests_in
                    .insert(repository.clone(), BTreeSet::from([digest.clone()])),
            ),
        }
    }

    /// Returns the tags of `repository` that records name.
    pub(super) fn tags_in(&self, repository: &Repository) -> BTreeSet<&Tag> {
        [&self.base_tags, &self.own_tags]
            .into_iter()
            .filter_map(|protected| protected.get(repository))
            .flat_map(HashMap::keys)
            .collect()
    }

    /// Returns the image of the record at a position.
    fn image(&self, (reading, record): RecordPosition) -> Option<ImageReference> {
        let reading = self.readings.get(reading as usize)?;
        let record = reading.records().get(record as usize)?;
        Some(record.image.clone())
    }

    /// Returns the reason why records keep a tag, or a part of its image.
    pub(super) fn of_tag(&self, repository: &Repository, tag: &ObservedTag) -> Option<KeepReason> {
        self.of_digests(repository, &tag.tag, || {
            tag.image.iter().flat_map(|tree| tree.digests())
        })
    }

    /// Returns the reason why records keep a tag whose image consists of `digests`.
    pub(super) fn of_digests<'d, I: Iterator<Item = &'d Digest>>(
        &self,
        repository: &Repository,
        tag: &Tag,
        digests: impl Fn() -> I,
    ) -> Option<KeepReason> {
        let by_digest = |protected: &HashMap<Digest, RecordPosition>| {
            digests().find_map(|digest| self.image(*protected.get(digest)?))
        };
        let by_tag = |protected: &ProtectedTags| self.image(*protected.get(repository)?.get(tag)?);
        by_tag(&self.base_tags)
            .or_else(|| by_digest(&self.base_digests))
            .map(KeepReason::BaseOf)
            .or_else(|| {
                by_tag(&self.own_tags)
                    .or_else(|| by_digest(&self.own_digests))
                    .map(KeepReason::Recorded)
            })
    }
}

fn add_tag(
    protected: &mut ProtectedTags,
    repository: &Repository,
    tag: &Tag,
    position: RecordPosition,
) {
    if !protected.contains_key(repository) {
        protected.insert(repository.clone(), HashMap::new());
    }
    if let Some(tags) = protected.get_mut(repository) {
        tags.insert(tag.clone(), position);
    }
}

#[cfg(test)]
thread_local! {
    static INDEXED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
fn count_indexed(records: usize) {
    INDEXED.set(INDEXED.get() + records);
}

/// Returns the number of records that this thread has indexed; a record counts each time.
#[cfg(test)]
pub(super) fn indexed_records() -> usize {
    INDEXED.get()
}

/// Returns the reason why records or the configuration keep a tag of a mirror or a base.
pub(super) fn protection(
    repository: &ObservedRepository,
    tag: &ObservedTag,
    records: &RecordProtections,
) -> Option<KeepReason> {
    records
        .of_tag(&repository.canonical, tag)
        .or_else(|| configured(repository, &tag.tag))
}

/// Returns the reason why the configuration keeps a tag.
fn configured(repository: &ObservedRepository, tag: &Tag) -> Option<KeepReason> {
    let desired = &repository.desired;
    let excludes = |exclusion: &TagExclusion| match exclusion {
        TagExclusion::Exact(text) => text == tag.as_str(),
        TagExclusion::Pattern(pattern) => pattern.regex.is_match(tag.as_str()),
    };
    let is_excluded = repository
        .rules
        .iter()
        .flat_map(|rules| &rules.exclude_tags)
        .any(excludes);
    [
        (is_excluded, KeepReason::Excluded),
        (*tag == Tag::latest(), KeepReason::Latest),
        (
            desired.built.contains(tag) || desired.aliases.contains(tag),
            KeepReason::Built,
        ),
        (desired.used.contains(tag), KeepReason::UsedByBuild),
        (desired.selected.contains(tag), KeepReason::Selected),
    ]
    .into_iter()
    .find_map(|(holds, reason)| holds.then_some(reason))
    .or_else(|| {
        desired
            .upstream_unknown
            .clone()
            .map(KeepReason::UpstreamUnknown)
    })
    .or_else(|| desired.build_unknown.clone().map(KeepReason::BuildUnknown))
}

/// Returns the digests that records name. They are kept in every repository, even without a tag.
pub(super) fn pinned<'a>(records: impl Iterator<Item = &'a BuildRecord>) -> BTreeSet<Digest> {
    let named = |record: &BuildRecord| {
        let references = record
            .base
            .iter()
            .chain([&record.image])
            .filter_map(|image| image.digest.clone());
        references
            .chain(record.base_digest.clone())
            .chain(record.digest.clone())
            .collect::<Vec<_>>()
    };
    records.flat_map(named).collect()
}
