//! The plan: tags to delete, grouped by image, and how each image is deleted. Pure.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{NaiveDate, TimeDelta};

use super::attachments::{is_attached, is_attached_by_name, subjects};
use super::grace::{grace_period, next_history};
use super::policy::{CleanupPolicy, archive_tag, decide};
use super::protections::{RecordProtections, pinned};
use super::reasons::{DeleteReason, KeepReason, PendingRetirement, TagVerdict};
use super::safety_check::safety_check;
use super::untagged::{UntaggedDecision, untagged_decision};
use super::world::{ObservedRepository, ObservedTag, RepositoryRole, UnreadRepository, World};
use crate::error::ItemError;
use crate::model::{Digest, ImageReference, Repository, Tag, TagHistory};
use crate::packages::StoredDocument;
use crate::registry::{Support, TagCase};

#[derive(Clone, Debug)]
pub struct Plan {
    pub repositories: Vec<RepositoryPlan>,
    /// Digests that records name. They are kept in every repository, even without a tag.
    pub pinned: BTreeSet<Digest>,
    /// Reason why nothing at all is deleted.
    pub safety_error: Option<ItemError>,
    pub orphans: Vec<Repository>,
    /// Repositories of which too little is known to plan anything.
    pub unread: Vec<UnreadRepository>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct RepositoryPlan {
    pub repository: Repository,
    /// Canonical name, by which records are compared.
    pub canonical: Repository,
    /// True for an OCI layout, which is swept at the end.
    pub is_layout: bool,
    pub error: Option<ItemError>,
    pub kept: Vec<(Tag, Option<Digest>, KeepReason)>,
    /// Images to delete; indexes come before images that they list.
    pub groups: Vec<DeletionGroup>,
    /// Reason why there may be tags that were not listed.
    pub listing_doubt: Option<String>,
    /// Tags that were listed.
    pub listed: BTreeSet<Tag>,
    /// True if a record may mean a listed tag by another spelling, in upper case.
    pub may_lower_case: bool,
    /// Digests that must stay.
    pub live: BTreeSet<Digest>,
    /// Images to move to a retired tag.
    pub retirements: Vec<Retirement>,
    /// State to store for the next cleanup; `None` if there is none.
    pub next_history: Option<TagHistory>,
    /// State that was read; `None` without a record store.
    pub history: Option<StoredDocument<TagHistory>>,
    /// Time for which the content of deleted images stays in a layout, so that they can be restored;
    /// `None` if it is removed at once.
    pub undo_window: Option<TimeDelta>,
    /// Number of tags to delete whose age is unknown, so that the minimum age does not apply.
    pub undated: usize,
}

/// Tags to delete that name the same image.
#[derive(Clone, Debug)]
pub struct DeletionGroup {
    pub digest: Digest,
    pub tags: Vec<(Tag, DeleteReason)>,
    /// Images that it is attached to, as the tag that [`Tag::of_referrers`] returns.
    pub subjects: BTreeSet<Tag>,
    pub method: DeletionMethod,
    /// Digests of all manifests below the image.
    pub below: BTreeSet<Digest>,
    /// Part of `below` that nothing else needs, which is deleted after all images.
    pub parts: BTreeSet<Digest>,
    /// Image that each tag is copied to first.
    pub archive: BTreeMap<Tag, ImageReference>,
}

/// Image that moves to a retired tag.
#[derive(Clone, Debug)]
pub struct Retirement {
    /// The image with the one tag that it loses.
    pub group: DeletionGroup,
    pub pending: PendingRetirement,
}

/// Way to delete an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeletionMethod {
    /// Delete only the tags, because the manifest is needed or the store cannot delete manifests.
    Tags,
    /// Delete the tags, then the manifest.
    TagsThenManifest,
    /// Delete the manifest, which also deletes all of its tags.
    Manifest,
}

impl DeletionGroup {
    /// Returns true if it is attached to another image.
    pub(super) fn is_attachment(&self) -> bool {
        !self.subjects.is_empty()
    }
}

impl Plan {
    /// Returns true if the plan deletes or moves a tag.
    fn changes_tags(&self) -> bool {
        self.repositories
            .iter()
            .any(|planned| !planned.groups.is_empty() || !planned.retirements.is_empty())
    }

    /// Returns the selected tags that wait under their own or a retired tag, and the day on which
    /// each is deleted.
    pub fn waiting(&self) -> impl Iterator<Item = (&Repository, &Tag, NaiveDate)> {
        self.repositories.iter().flat_map(|planned| {
            let kept = planned
                .kept
                .iter()
                .filter_map(|(tag, _, reason)| match reason {
                    KeepReason::Waiting(pending) => Some((tag, pending.until)),
                    KeepReason::RetiredUntil(until) => Some((tag, *until)),
                    _ => None,
                });
            let retiring = planned.retirements.iter().flat_map(|retirement| {
                let until = retirement.pending.until;
                retirement
                    .group
                    .tags
                    .iter()
                    .map(move |(tag, _)| (tag, until))
            });
            kept.chain(retiring)
                .map(|(tag, until)| (&planned.repository, tag, until))
        })
    }

    /// Returns the tags to delete.
    pub fn deletions(&self) -> impl Iterator<Item = (&Repository, &Tag, DeleteReason)> {
        self.repositories.iter().flat_map(|planned| {
            planned
                .groups
                .iter()
                .flat_map(|group| &group.tags)
                .map(|(tag, reason)| (&planned.repository, tag, *reason))
        })
    }
}

/// Returns the plan for `world`.
pub fn plan(world: &World, policy: &CleanupPolicy) -> Plan {
    let unknown = world.needed.error.clone();
    let safety_error = unknown.or_else(|| safety_check(world).filter(|_| !policy.is_forced));
    let plan = plan_with(world, policy, safety_error);
    if policy.is_journal_missing && plan.changes_tags() {
        plan_with(world, policy, Some(journal_error()))
    } else {
        plan
    }
}

/// Returns the plan for `world`. With a `safety_error` it deletes nothing.
fn plan_with(world: &World, policy: &CleanupPolicy, safety_error: Option<ItemError>) -> Plan {
    let protections = RecordProtections::of_world(world);
    let mut repositories: Vec<RepositoryPlan> = world
        .repositories
        .iter()
        .map(|observed| repository(observed, &protections, policy, safety_error.is_some()))
        .collect();
    repositories.sort_by(|one, other| one.repository.cmp(&other.repository));
    Plan {
        repositories,
        pinned: pinned(world.all_records())
            .into_iter()
            .chain(world.needed.digests().cloned())
            .collect(),
        safety_error,
        orphans: world.orphans.clone(),
        unread: world.unread.clone(),
        warnings: world
            .warnings
            .iter()
            .cloned()
            .chain(other_hosts(world, &protections))
            .chain(unknown_sources(world))
            .collect(),
    }
}

/// Returns a warning for each repository with bases of several projects, if it is unknown which of
/// them is this one.
fn unknown_sources(world: &World) -> Vec<String> {
    let is_unknown = |observed: &&ObservedRepository| {
        observed.role == RepositoryRole::Base
            && observed.do_origins_disagree
            && !world.needed.is_own_source_known()
    };
    let warning = |observed: &ObservedRepository| {
        format!(
            "{}: several projects built bases in it, and the address of this project is unknown, \
             so all of them are kept; add it to `retention.sources`",
            observed.repository
        )
    };
    let unknown = world.repositories.iter().filter(is_unknown);
    unknown.map(warning).collect()
}

/// Returns a warning for each repository that records name under another host.
fn other_hosts(world: &World, protections: &RecordProtections) -> Vec<String> {
    let mut found: BTreeMap<(&Repository, Repository), (usize, ImageReference)> = BTreeMap::new();
    for observed in &world.repositories {
        for tag in observed.tags() {
            let named = protections.under_other_host(&observed.canonical, &tag.tag);
            if let Some((named, image)) = named {
                let entry = found.entry((&observed.repository, named));
                entry.or_insert((0, image)).0 += 1;
            }
        }
    }
    let warning = |((repository, named), (count, image))| {
        format!(
            "{repository}: records name {count} of its tags as {named}, which is another host, for \
             example the record of {image}; the tags are kept"
        )
    };
    found.into_iter().map(warning).collect()
}

/// Returns the error of a run that has nowhere to keep its journal. `--force` does not lift it.
fn journal_error() -> ItemError {
    ItemError::other("the journal cannot be kept, and without it nothing can be undone").with_hint(
        "pass `--report FILE`, which is kept with the journal `FILE.journal`, or configure \
                 `registry`",
    )
}

fn repository(
    observed: &ObservedRepository,
    protections: &RecordProtections,
    policy: &CleanupPolicy,
    is_blocked: bool,
) -> RepositoryPlan {
    let decision = decide(observed, protections, policy, is_blocked);
    let is_blocked = is_blocked || observed.error.is_some();
    let retirements = retirements(observed, &decision.verdicts);
    let retired = retirements
        .iter()
        .flat_map(|retirement| {
            let to = &retirement.pending.to;
            let digest = &retirement.group.digest;
            let tags = retirement.group.tags.iter();
            tags.map(move |(tag, _)| (to.clone(), (tag.clone(), digest.clone())))
        })
        .collect();
    let selected = decision.selected.iter().collect();
    let mut next_history = next_history(observed, &selected, &retired, is_blocked, policy.now);
    let live: BTreeSet<Digest> = decision.live.into_iter().cloned().collect();
    let untagged = if is_blocked || decision.error.is_some() {
        UntaggedDecision::default()
    } else {
        untagged_decision(observed, protections, &live, policy.now)
    };
    if let Some(next) = &mut next_history {
        next.untagged = untagged.unneeded;
    }
    let (mut kept, mut undated) = (Vec::new(), 0);
    let mut groups: BTreeMap<&Digest, DeletionGroup> = BTreeMap::new();
    for tag in observed.tags() {
        match (decision.verdicts.get(&tag.tag), &tag.image) {
            (Some(TagVerdict::Delete(reason)), Ok(tree)) => {
                let group = groups.entry(&tree.digest).or_insert_with(|| {
                    let method = method(observed, &live, &tree.digest);
                    let parts = if method == DeletionMethod::Tags {
                        BTreeSet::new()
                    } else {
                        tree.below.difference(&live).cloned().collect()
                    };
                    DeletionGroup {
                        digest: tree.digest.clone(),
                        tags: Vec::new(),
                        subjects: BTreeSet::new(),
                        method,
                        below: tree.below.clone(),
                        parts,
                        archive: BTreeMap::new(),
                    }
                });
                group.tags.push((tag.tag.clone(), *reason));
                group.subjects.extend(subjects(observed, tag));
                undated += usize::from(is_undated(observed, tag));
                if let Some(archive) = observed
                    .archive
                    .as_ref()
                    .filter(|_| !is_attached_by_name(observed, tag))
                {
                    let image = ImageReference {
                        repository: archive.clone(),
                        tag: archive_tag(&tag.tag, policy.now),
                        digest: None,
                    };
                    group.archive.insert(tag.tag.clone(), image);
                }
            }
            (Some(TagVerdict::Keep(KeepReason::Retiring(_))), _) => {}
            (Some(TagVerdict::Keep(reason)), image) => {
                kept.push((
                    tag.tag.clone(),
                    image.as_ref().ok().map(|tree| tree.digest.clone()),
                    reason.clone(),
                ));
            }
            (Some(TagVerdict::Delete(_)) | None, _) => {}
        }
    }
    for tree in untagged.deleted {
        // An image of a tag that is deleted is there already.
        groups.entry(&tree.digest).or_insert_with(|| DeletionGroup {
            digest: tree.digest.clone(),
            tags: Vec::new(),
            subjects: BTreeSet::new(),
            method: DeletionMethod::Manifest,
            below: tree.below.clone(),
            parts: BTreeSet::new(),
            archive: BTreeMap::new(),
        });
    }
    RepositoryPlan {
        repository: observed.repository.clone(),
        canonical: observed.canonical.clone(),
        is_layout: matches!(observed.repository, Repository::Layout { .. }),
        error: decision.error,
        kept,
        groups: ordered(groups.into_values().collect()),
        listing_doubt: observed.listing_doubt.clone(),
        listed: observed.tags().map(|tag| tag.tag.clone()).collect(),
        may_lower_case: observed.tag_case != Some(TagCase::Sensitive)
            && !observed.tags().any(|tag| tag.tag.has_upper_case()),
        live,
        retirements,
        next_history,
        history: observed.history.clone(),
        undo_window: grace_period(observed),
        undated,
    }
}

/// Returns the images that move to a retired tag.
fn retirements(
    observed: &ObservedRepository,
    verdicts: &BTreeMap<Tag, TagVerdict>,
) -> Vec<Retirement> {
    let retirement = |tag: &ObservedTag| {
        let Some(TagVerdict::Keep(KeepReason::Retiring(pending))) = verdicts.get(&tag.tag) else {
            return None;
        };
        let tree = tag.image.as_ref().ok()?;
        Some(Retirement {
            group: DeletionGroup {
                digest: tree.digest.clone(),
                tags: vec![(tag.tag.clone(), pending.because)],
                subjects: BTreeSet::new(),
                method: DeletionMethod::Tags,
                below: tree.below.clone(),
                parts: BTreeSet::new(),
                archive: BTreeMap::new(),
            },
            pending: pending.clone(),
        })
    };
    observed.tags().filter_map(retirement).collect()
}

/// Returns the groups in the order of deletion: indexes before their parts, then attachments.
fn ordered(mut groups: Vec<DeletionGroup>) -> Vec<DeletionGroup> {
    let parts: BTreeSet<Digest> = groups
        .iter()
        .flat_map(|group| group.parts.iter().cloned())
        .collect();
    groups.sort_by_key(|group| (parts.contains(&group.digest), group.is_attachment()));
    groups
}

/// Returns true if the age of a tag is unknown. The names of archived and earlier images have it.
fn is_undated(repository: &ObservedRepository, tag: &ObservedTag) -> bool {
    let has_day_in_name = matches!(repository.role, RepositoryRole::Archive { .. })
        || tag.tag.parse_replaced().is_some();
    repository.date(tag).is_none() && !has_day_in_name && !is_attached(repository, tag)
}

/// Returns how an image is deleted.
fn method(
    repository: &ObservedRepository,
    live: &BTreeSet<Digest>,
    digest: &Digest,
) -> DeletionMethod {
    match repository.deletions.tags {
        Support::Unsupported => DeletionMethod::Manifest,
        _ if live.contains(digest)
            || !repository.is_known()
            || repository.listing_doubt.is_some()
            || repository.deletions.manifests == Support::Unsupported =>
        {
            DeletionMethod::Tags
        }
        _ => DeletionMethod::TagsThenManifest,
    }
}
