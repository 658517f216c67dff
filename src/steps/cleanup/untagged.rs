//! Manifests without a tag, which tags that were moved leave behind. Pure.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::grace::grace_period;
use super::manifest_tree::ManifestTree;
use super::protections::RecordProtections;
use super::world::{ObservedRepository, UntaggedImage};
use crate::model::Digest;
use crate::registry::Support;

/// Minimum age of a manifest that is deleted. The parts of an image are pushed before its tag.
const MIN_AGE: TimeDelta = TimeDelta::hours(24);

/// Decision on the manifests without a tag of a repository.
#[derive(Default)]
pub(super) struct UntaggedDecision<'a> {
    pub(super) deleted: Vec<&'a ManifestTree>,
    /// Manifests that nothing needs, with the time since which they wait.
    pub(super) unneeded: BTreeMap<Digest, DateTime<Utc>>,
}

/// Decides on the manifests without a tag. `live` are the digests that tags and records need.
///
/// Everything that is uncertain keeps them: a manifest of unknown age, an attachment, a repository
/// that was not read completely. They wait like tags.
pub(super) fn untagged_decision<'a>(
    repository: &'a ObservedRepository,
    protections: &RecordProtections,
    live: &BTreeSet<Digest>,
    now: DateTime<Utc>,
) -> UntaggedDecision<'a> {
    let mut decision = UntaggedDecision::default();
    let is_certain = repository.error.is_none()
        && repository.listing.is_ok()
        && repository.is_known()
        && repository.listing_doubt.is_none()
        && repository.are_entries_known
        && repository.deletions.manifests != Support::Unsupported;
    if !is_certain {
        return decision;
    }
    let is_needed = |image: &UntaggedImage| {
        let is_young = image.pushed_at.is_none_or(|pushed| now - pushed < MIN_AGE);
        is_young
            || image.tree.subject.is_some()
            || !image.tree.has_all_indexes
            || protections.is_built_elsewhere(repository, &image.tree)
            || protections.keeps_untagged(&repository.canonical, || image.tree.digests())
    };
    let (needed, others): (Vec<&UntaggedImage>, Vec<&UntaggedImage>) = repository
        .untagged
        .iter()
        .partition(|image| is_needed(image));
    let below_needed: BTreeSet<&Digest> = needed
        .iter()
        .flat_map(|image| image.tree.digests().chain(&image.tree.subject))
        .collect();
    let wait = grace_period(repository);
    let known = repository.known_history();
    for image in others {
        let digest = &image.tree.digest;
        if live.contains(digest) || below_needed.contains(digest) {
            continue;
        }
        let since = known
            .and_then(|known| known.untagged.get(digest).copied())
            .unwrap_or(now);
        decision.unneeded.insert(digest.clone(), since);
        if wait.is_none_or(|wait| now - since >= wait) {
            decision.deleted.push(&image.tree);
        }
    }
    decision
}
