//! Protections: records and settings that keep a tag, independent of its age and rank. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::reasons::KeepReason;
use super::world::{ObservedRepository, ObservedTag};
use crate::config::TagExclusion;
use crate::model::{BuildRecord, Digest, ImageReference, Repository, Tag};

/// Tags and digests that build records protect.
///
/// A digest is protected in every repository, a tag only in the repository that the record names.
#[derive(Clone, Debug, Default)]
pub struct RecordProtections<'a> {
    base_tags: HashMap<(&'a Repository, &'a Tag), &'a ImageReference>,
    base_digests: HashMap<&'a Digest, &'a ImageReference>,
    own_tags: HashMap<(&'a Repository, &'a Tag), &'a ImageReference>,
    own_digests: HashMap<&'a Digest, &'a ImageReference>,
    /// Digests that records name, by the repository that the record names with them.
    pub(super) digests_in: BTreeMap<&'a Repository, BTreeSet<&'a Digest>>,
}

impl<'a> RecordProtections<'a> {
    /// Returns the protections of `records`.
    pub fn of(records: impl IntoIterator<Item = &'a BuildRecord>) -> RecordProtections<'a> {
        let mut protections = RecordProtections::default();
        for record in records {
            let image = &record.image;
            if let Some(base) = &record.base {
                protections
                    .base_tags
                    .extend(base.tag.iter().map(|tag| ((&base.repository, tag), image)));
                for digest in base.digest.iter().chain(&record.base_digest) {
                    protections.base_digests.insert(digest, image);
                    protections
                        .digests_in
                        .entry(&base.repository)
                        .or_default()
                        .insert(digest);
                }
            }
            protections
                .base_digests
                .extend(record.base_digest.iter().map(|digest| (digest, image)));
            protections.own_tags.extend(
                image
                    .tag
                    .iter()
                    .map(|tag| ((&image.repository, tag), image)),
            );
            for digest in image.digest.iter().chain(&record.digest) {
                protections.own_digests.insert(digest, image);
                protections
                    .digests_in
                    .entry(&image.repository)
                    .or_default()
                    .insert(digest);
            }
        }
        protections
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
        let by_digest = |protected: &HashMap<&Digest, &'a ImageReference>| {
            digests().find_map(|digest| protected.get(digest).map(|image| (*image).clone()))
        };
        let by_tag = |protected: &HashMap<(&Repository, &Tag), &'a ImageReference>| {
            protected
                .get(&(repository, tag))
                .map(|image| (*image).clone())
        };
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

/// Returns the reason why records or the configuration keep a tag of a mirror or a base.
pub(super) fn protection(
    repository: &ObservedRepository,
    tag: &ObservedTag,
    records: &RecordProtections<'_>,
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
