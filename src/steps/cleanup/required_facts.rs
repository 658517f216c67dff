//! Facts that the policy needs before it can decide, so that nothing else is requested. Pure.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::attachments::is_attached;
use super::policy::{
    DeletionShare, FIRST_DAY, TagFacts, TagRank, ranks, retention_verdict, verdicts,
};
use super::protections::RecordProtections;
use super::reasons::TagVerdict;
use super::world::{ObservedRepository, ObservedTag, RepositoryRole};
use crate::model::{Tag, TagVersion};
use crate::steps::sync::FormerVersion;

/// Meaning of a missing date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MissingDates {
    /// The date is unknown and stays unknown.
    Unknown,
    /// The date has not been read yet and can be any.
    Unread,
}

/// Returns the tags of a mirror or base that may be deleted, and those whose dates are needed to
/// rank them. All other tags are kept, whatever their images and dates are.
pub(super) fn undecided_tags<'a>(
    repository: &'a ObservedRepository,
    protections: &RecordProtections,
    missing: MissingDates,
    now: DateTime<Utc>,
) -> BTreeSet<&'a Tag> {
    let ranks = ranks(repository, protections, now);
    let is_dated = |tag: &ObservedTag| {
        missing == MissingDates::Unknown
            || match repository.role {
                RepositoryRole::Mirror => tag.pushed_at.is_some(),
                RepositoryRole::Base
                | RepositoryRole::Application
                | RepositoryRole::Archive { .. } => tag.created.is_some(),
            }
    };
    let has_version = |tag: &ObservedTag| {
        TagVersion::of(tag.tag.as_str()).is_version()
            && FormerVersion::of(tag.tag.as_str()).is_version()
    };
    let may_be_deleted = |tag: &&ObservedTag| {
        // A rule that deletes a tag also deletes an older one of lower rank, so the worst case
        // decides.
        let facts = TagFacts {
            rank: ranks
                .get(&tag.tag)
                .copied()
                .filter(|_| is_dated(tag) || has_version(tag))
                .unwrap_or(TagRank::LAST),
            // Another date can only make a base younger.
            date: if is_dated(tag) {
                repository.date(tag)
            } else {
                repository.date(tag).or(FIRST_DAY)
            },
            current: None,
        };
        !tag.is_absent()
            && !is_attached(repository, tag)
            && retention_verdict(repository, tag, &facts, protections, now).is_delete()
    };
    let open: Vec<&ObservedTag> = repository.tags().filter(may_be_deleted).collect();
    let is_ranked_by_date = open
        .iter()
        .any(|tag| ranks.contains_key(&tag.tag) && !is_dated(tag) && !has_version(tag));
    let ranked_by_date = repository
        .tags()
        .filter(|tag| is_ranked_by_date && !has_version(tag) && ranks.contains_key(&tag.tag));
    ranked_by_date.chain(open).map(|tag| &tag.tag).collect()
}

/// Returns the tags, without those that were `inspected`, whose existence must be known before a
/// tag can be deleted.
///
/// A tag without a manifest has no rank among the newest and does not count for
/// `max_delete_percent`.
pub(super) fn doubtful_tags(
    repository: &ObservedRepository,
    protections: &RecordProtections,
    inspected: &BTreeSet<Tag>,
    now: DateTime<Utc>,
) -> BTreeSet<Tag> {
    let verdicts = verdicts(repository, protections, now);
    let share = DeletionShare::of(repository, &verdicts, None);
    if share.deleted == 0 {
        return BTreeSet::new();
    }
    let ranks = ranks(repository, protections, now);
    let is_among_newest = |rank: &TagRank| {
        repository
            .rules
            .iter()
            .any(|rules| rank.in_repository < rules.min_keep || rank.is_among_last(rules))
    };
    let open: Vec<&Tag> = repository
        .tags()
        .filter(|tag| !inspected.contains(&tag.tag) && !is_attached(repository, tag))
        .map(|tag| &tag.tag)
        .collect();
    let among_newest: BTreeSet<Tag> = open
        .iter()
        .filter(|tag| ranks.get(**tag).is_some_and(is_among_newest))
        .map(|tag| (*tag).clone())
        .collect();
    let smallest = DeletionShare {
        total: share.total.saturating_sub(open.len()),
        ..share
    };
    if among_newest.is_empty() && !share.is_too_large() && smallest.is_too_large() {
        open.into_iter().cloned().collect()
    } else {
        among_newest
    }
}

/// Returns true if a tag may be deleted, so that it matters how the registry deletes.
pub(super) fn needs_deletions(
    repository: &ObservedRepository,
    protections: &RecordProtections,
    now: DateTime<Utc>,
) -> bool {
    repository.error.is_none()
        && verdicts(repository, protections, now)
            .values()
            .any(TagVerdict::is_delete)
}
