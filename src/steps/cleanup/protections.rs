//! Protections: records and settings that keep a tag, independent of its age and rank. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::applications::Applications;
use super::manifest_tree::ManifestTree;
use super::needed_images::{ImageNeed, NeededImages};
use super::reasons::KeepReason;
use super::world::{ObservedRecords, ObservedRepository, ObservedTag, RepositoryRole, World};
use crate::config::TagExclusion;
use crate::model::record::ReplacedRecord;
use crate::model::reference::RepositoryPath;
use crate::model::{BuildRecord, Digest, ImageReference, Repository, Tag};
use crate::registry::TagCase;

/// Time after the first record of an installation for which a base is kept that no record names.
const UNNAMED_LIMIT: TimeDelta = TimeDelta::days(30);

/// Tags and digests that build records protect.
///
/// A digest is protected in every repository, a tag only in the repository that the record names.
/// Building this index costs one pass over the records, so it is built once for each reading.
#[derive(Clone, Debug, Default)]
pub struct RecordProtections {
    readings: Vec<Arc<ObservedRecords>>,
    needed: Arc<NeededImages>,
    base_tags: ProtectedTags,
    base_digests: HashMap<Digest, RecordPosition>,
    own_tags: ProtectedTags,
    own_digests: HashMap<Digest, RecordPosition>,
    /// Repositories in which only the newest records of a project protect their own images.
    applications: Arc<Applications>,
    newest_tags: ProtectedTags,
    newest_digests: HashMap<Digest, RecordPosition>,
    /// Repositories of bases that records name.
    named: HashSet<Repository>,
    /// The same repositories by their path, for records that name another host.
    named_paths: HashMap<RepositoryPath, BTreeSet<Repository>>,
    replaced_tags: HashMap<(Repository, Tag), KeepReason>,
    replaced_digests: HashMap<Digest, KeepReason>,
    /// Stored spellings of tags in upper case that records name, for registries that store tags in
    /// lower case.
    other_spellings: HashMap<(Repository, Tag), KeepReason>,
    /// Time until which a base is kept that no record names.
    unnamed_until: Option<DateTime<Utc>>,
    /// Digests that records name, by the repository that the record names with them.
    pub(super) digests_in: BTreeMap<Repository, BTreeSet<Digest>>,
}

/// Position of the record that protects each tag.
type ProtectedTags = HashMap<Repository, HashMap<Tag, RecordPosition>>;

/// Position of a reading, and of a record in it.
type RecordPosition = (u32, u32);

impl RecordProtections {
    /// Returns the protections of all readings of a world, and of other images that are needed.
    pub(super) fn of_world(world: &World) -> RecordProtections {
        let mut protections = RecordProtections::of(&world.records, &world.applications);
        for (repository, digests) in &world.needed.digests_in {
            for digest in digests {
                protections.add_digest_in(repository, digest);
            }
        }
        protections.needed = world.needed.clone();
        protections
    }

    /// Returns the protections of the records of all `readings`.
    pub fn of(
        readings: &[Arc<ObservedRecords>],
        applications: &Arc<Applications>,
    ) -> RecordProtections {
        let first = readings
            .iter()
            .filter_map(|records| records.first_record())
            .min();
        let mut protections = RecordProtections {
            readings: readings.to_vec(),
            unnamed_until: first.and_then(|first| first.checked_add_signed(UNNAMED_LIMIT)),
            applications: applications.clone(),
            ..RecordProtections::default()
        };
        for (reading, records) in (0..).zip(readings) {
            #[cfg(test)]
            count_indexed(records.records().len());
            for (position, record) in (0..).zip(records.records()) {
                protections.add(record, (reading, position));
            }
            if !applications.is_empty() {
                let newest = applications.protecting(records.records());
                let protecting = (0..).zip(records.records()).zip(newest);
                for ((position, record), _) in protecting.filter(|(_, newest)| *newest) {
                    protections.add_newest(record, (reading, position));
                }
            }
        }
        protections
    }

    fn add(&mut self, record: &BuildRecord, position: RecordPosition) {
        let image = &record.image;
        for replaced in &record.replaced {
            self.add_replaced(image, replaced);
        }
        if let Some(base) = &record.base {
            self.add_named(&base.repository);
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
        if let Some((repository, tag)) = record
            .base
            .as_ref()
            .and_then(|base| Some((&base.repository, base.tag.as_ref()?)))
        {
            self.add_spelling(repository, tag, || KeepReason::BaseOf(image.clone()));
        }
        if let Some(tag) = &image.tag {
            self.add_spelling(&image.repository, tag, || {
                KeepReason::Recorded(image.clone())
            });
            add_tag(&mut self.own_tags, &image.repository, tag, position);
        }
        for digest in image.digest.iter().chain(&record.digest) {
            self.own_digests.insert(digest.clone(), position);
            self.add_digest_in(&image.repository, digest);
        }
    }

    fn add_newest(&mut self, record: &BuildRecord, position: RecordPosition) {
        let image = &record.image;
        if let Some(tag) = &image.tag {
            add_tag(&mut self.newest_tags, &image.repository, tag, position);
        }
        for digest in image.digest.iter().chain(&record.digest) {
            self.newest_digests.insert(digest.clone(), position);
        }
    }

    fn add_named(&mut self, repository: &Repository) {
        if self.named.contains(repository) {
            return;
        }
        self.named.insert(repository.clone());
        if let Repository::Remote { path, .. } = repository {
            let named = self.named_paths.entry(path.clone()).or_default();
            named.insert(repository.clone());
        }
    }

    fn add_replaced(&mut self, image: &ImageReference, replaced: &ReplacedRecord) {
        let reason = KeepReason::BaseOfReplaced {
            image: image.clone(),
            project: replaced.project.clone(),
            until: replaced.protects_until(),
        };
        if let Some(base) = &replaced.base {
            if let Some(tag) = &base.tag {
                self.add_spelling(&base.repository, tag, || reason.clone());
                let key = (base.repository.clone(), tag.clone());
                self.replaced_tags.insert(key, reason.clone());
            }
            for digest in replaced.digests() {
                self.add_digest_in(&base.repository, digest);
            }
        }
        for digest in replaced.digests() {
            self.replaced_digests.insert(digest.clone(), reason.clone());
        }
    }

    /// Returns the repository under another host that a record names as the base instead of the
    /// tag, and the image of the record; `None` if records name the tag itself or no such base.
    pub(super) fn under_other_host(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Option<(Repository, ImageReference)> {
        let Repository::Remote { path, .. } = repository else {
            return None;
        };
        let named = self.named_paths.get(path)?;
        let of = |named: &Repository| self.base_tags.get(named)?.get(tag).copied();
        if of(repository).is_some() {
            return None;
        }
        let (named, position) = named.iter().find_map(|named| Some((named, of(named)?)))?;
        Some((named.clone(), self.image(position)?))
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

    fn add_spelling(
        &mut self,
        repository: &Repository,
        tag: &Tag,
        reason: impl FnOnce() -> KeepReason,
    ) {
        if tag.has_upper_case() {
            self.other_spellings
                .entry((repository.clone(), tag.lower_case()))
                .or_insert_with(reason);
        }
    }

    /// Returns the reason why records keep a tag if the registry stores tags in lower case: they
    /// name it in upper case.
    pub(super) fn of_other_spelling(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Option<KeepReason> {
        if self.other_spellings.is_empty() {
            return None;
        }
        let key = (repository.clone(), tag.clone());
        self.other_spellings.get(&key).cloned()
    }

    /// Returns the tags of `repository` that records name.
    pub(super) fn tags_in(&self, repository: &Repository) -> BTreeSet<&Tag> {
        [&self.base_tags, &self.own_tags]
            .into_iter()
            .filter_map(|protected| protected.get(repository))
            .flat_map(HashMap::keys)
            .collect()
    }

    fn record(&self, (reading, record): RecordPosition) -> Option<&BuildRecord> {
        let reading = self.readings.get(reading as usize)?;
        reading.records().get(record as usize)
    }

    /// Returns the image of the record at a position.
    fn image(&self, position: RecordPosition) -> Option<ImageReference> {
        Some(self.record(position)?.image.clone())
    }

    /// Returns the time of a build that has a tag of a base, or its digest, as its base or image.
    pub(super) fn built_at(
        &self,
        repository: &Repository,
        tag: &ObservedTag,
    ) -> Option<DateTime<Utc>> {
        let by_tag = |tags: &ProtectedTags| tags.get(repository)?.get(&tag.tag).copied();
        let digest = tag.image.as_ref().ok().map(|tree| &tree.digest);
        let by_digest = |digests: &HashMap<Digest, RecordPosition>| digests.get(digest?).copied();
        let positions = [
            by_tag(&self.base_tags),
            by_tag(&self.own_tags),
            by_digest(&self.base_digests),
            by_digest(&self.own_digests),
        ];
        let records = positions.into_iter().flatten();
        records
            .filter_map(|position| Some(self.record(position)?.built_at))
            .max()
    }

    /// Returns true if the address of the project of this configuration is known.
    pub(super) fn is_own_source_known(&self) -> bool {
        self.needed.is_own_source_known()
    }

    /// Returns true if another project built a base.
    pub(super) fn is_built_elsewhere(
        &self,
        repository: &ObservedRepository,
        tree: &ManifestTree,
    ) -> bool {
        repository.role == RepositoryRole::Base
            && tree.origin.as_ref().is_some_and(|origin| {
                self.needed
                    .is_of_another_project(origin, repository.do_origins_disagree)
            })
    }

    /// Returns true if anything needs a manifest without a tag that consists of `digests`.
    pub(super) fn keeps_untagged<'d, I: Iterator<Item = &'d Digest>>(
        &self,
        repository: &Repository,
        digests: impl Fn() -> I,
    ) -> bool {
        digests().any(|digest| {
            self.base_digests.contains_key(digest)
                || self.own_digests.contains_key(digest)
                || self.replaced_digests.contains_key(digest)
        }) || self.needed.need_of_digests(repository, digests()).is_some()
    }

    /// Returns true if the configuration holds a tag (`retention.hold`).
    pub(super) fn is_held(&self, repository: &ObservedRepository, tag: &ObservedTag) -> bool {
        let digests = tag.image.iter().flat_map(|tree| tree.digests());
        let need = self.needed.need(&repository.canonical, &tag.tag, digests);
        need == Some(&ImageNeed::Held)
    }

    /// Returns the reason why records keep a tag, or a part of its image.
    fn of_tag(&self, repository: &Repository, tag: &ObservedTag) -> Option<KeepReason> {
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
                let (tags, digests) = if self.applications.contains(repository) {
                    (&self.newest_tags, &self.newest_digests)
                } else {
                    (&self.own_tags, &self.own_digests)
                };
                by_tag(tags)
                    .or_else(|| by_digest(digests))
                    .map(KeepReason::Recorded)
            })
            .or_else(|| {
                let (_, image) = self.under_other_host(repository, tag)?;
                Some(KeepReason::BaseUnderOtherHost(image))
            })
            .or_else(|| {
                if self.replaced_tags.is_empty() && self.replaced_digests.is_empty() {
                    return None;
                }
                let by_tag = self.replaced_tags.get(&(repository.clone(), tag.clone()));
                let by_digest = || digests().find_map(|digest| self.replaced_digests.get(digest));
                by_tag.or_else(by_digest).cloned()
            })
            .or_else(|| {
                let need = self.needed.need(repository, tag, digests())?;
                Some(match need.clone() {
                    ImageNeed::Held => KeepReason::Held,
                    ImageNeed::InUse(source) => KeepReason::InUse(source),
                    ImageNeed::Deployed {
                        project,
                        environment,
                    } => KeepReason::Deployed {
                        project,
                        environment,
                    },
                    ImageNeed::DeployedWithoutRecord {
                        project,
                        environment,
                    } => KeepReason::DeployedWithoutRecord {
                        project,
                        environment,
                    },
                })
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
    now: DateTime<Utc>,
) -> Option<KeepReason> {
    let unnamed = || {
        let until = records.unnamed_until.filter(|until| now < *until)?;
        let is_unnamed = repository.role == RepositoryRole::Base
            && !records.named.contains(&repository.canonical);
        is_unnamed.then_some(KeepReason::BaseUnnamedUntil(until))
    };
    let of_retired = || {
        let retired = repository.retirement(tag)?;
        records
            .of_digests(&repository.canonical, &retired.tag, std::iter::empty)
            .or_else(|| of_other_spelling(repository, &retired.tag, records))
    };
    by_record(repository, tag, records)
        .or_else(of_retired)
        .or_else(|| configured(repository, &tag.tag))
        .or_else(|| of_another_project(repository, tag, records))
        .or_else(unnamed)
}

/// Returns the reason to keep a base that another project built.
fn of_another_project(
    repository: &ObservedRepository,
    tag: &ObservedTag,
    records: &RecordProtections,
) -> Option<KeepReason> {
    let tree = tag.image.as_ref().ok()?;
    let origin = tree.origin.as_ref()?;
    records
        .is_built_elsewhere(repository, tree)
        .then(|| KeepReason::BuiltElsewhere(origin.clone()))
}

/// Returns the reason why records keep a tag, or a part of its image.
pub(super) fn by_record(
    repository: &ObservedRepository,
    tag: &ObservedTag,
    records: &RecordProtections,
) -> Option<KeepReason> {
    records
        .of_tag(&repository.canonical, tag)
        .or_else(|| of_other_spelling(repository, &tag.tag, records))
}

/// Returns the reason why records keep a tag that the registry stores in lower case.
fn of_other_spelling(
    repository: &ObservedRepository,
    tag: &Tag,
    records: &RecordProtections,
) -> Option<KeepReason> {
    (repository.tag_case == Some(TagCase::Insensitive))
        .then(|| records.of_other_spelling(&repository.canonical, tag))
        .flatten()
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
            .chain(
                record
                    .replaced
                    .iter()
                    .flat_map(ReplacedRecord::digests)
                    .cloned(),
            )
            .collect::<Vec<_>>()
    };
    records.flat_map(named).collect()
}
