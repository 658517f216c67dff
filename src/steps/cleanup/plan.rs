//! The plan: tags to delete, grouped by image, and how each image is deleted. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::policy::{CleanupPolicy, archive_tag, decide};
use super::protections::{RecordProtections, pinned};
use super::reasons::{DeleteReason, KeepReason, TagVerdict};
use super::safety_check::safety_check;
use super::world::{ObservedRepository, ObservedTag, RepositoryRole, World};
use crate::error::ItemError;
use crate::model::{Digest, ImageReference, Repository, Tag};
use crate::registry::Support;

#[derive(Clone, Debug)]
pub struct Plan {
    pub repositories: Vec<RepositoryPlan>,
    /// Digests that records name. They are kept in every repository, even without a tag.
    pub pinned: BTreeSet<Digest>,
    /// Reason why nothing at all is deleted.
    pub safety_error: Option<ItemError>,
    pub orphans: Vec<Repository>,
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
    /// Digests that must stay.
    pub live: BTreeSet<Digest>,
    /// Number of tags to delete whose age is unknown, so that the minimum age does not apply.
    pub undated: usize,
}

/// Tags to delete that name the same image.
#[derive(Clone, Debug)]
pub struct DeletionGroup {
    pub digest: Digest,
    pub tags: Vec<(Tag, DeleteReason)>,
    pub method: DeletionMethod,
    /// Digests of all manifests below the image.
    pub below: BTreeSet<Digest>,
    /// Part of `below` that nothing else needs, which is deleted after all images.
    pub parts: BTreeSet<Digest>,
    /// Image that each tag is copied to first.
    pub archive: BTreeMap<Tag, ImageReference>,
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

impl Plan {
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
    let safety_error = safety_check(world).filter(|_| !policy.is_forced);
    let protections = RecordProtections::of(&world.records);
    let mut repositories: Vec<RepositoryPlan> = world
        .repositories
        .iter()
        .map(|observed| repository(observed, &protections, policy, safety_error.is_some()))
        .collect();
    repositories.sort_by(|one, other| one.repository.cmp(&other.repository));
    Plan {
        repositories,
        pinned: pinned(world.all_records()),
        safety_error,
        orphans: world.orphans.clone(),
        warnings: world
            .warnings
            .iter()
            .cloned()
            .chain(other_hosts(world, &protections))
            .collect(),
    }
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

fn repository(
    observed: &ObservedRepository,
    protections: &RecordProtections,
    policy: &CleanupPolicy,
    is_blocked: bool,
) -> RepositoryPlan {
    let decision = decide(observed, protections, policy, is_blocked);
    let live: BTreeSet<Digest> = decision.live.into_iter().cloned().collect();
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
                        method,
                        below: tree.below.clone(),
                        parts,
                        archive: BTreeMap::new(),
                    }
                });
                group.tags.push((tag.tag.clone(), *reason));
                undated += usize::from(is_undated(observed, tag));
                if let Some(archive) = observed
                    .archive
                    .as_ref()
                    .filter(|_| !tag.tag.is_attachment())
                {
                    let image = ImageReference {
                        repository: archive.clone(),
                        tag: archive_tag(&tag.tag, policy.now),
                        digest: None,
                    };
                    group.archive.insert(tag.tag.clone(), image);
                }
            }
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
    RepositoryPlan {
        repository: observed.repository.clone(),
        canonical: observed.canonical.clone(),
        is_layout: matches!(observed.repository, Repository::Layout { .. }),
        error: decision.error,
        kept,
        groups: ordered(groups.into_values().collect()),
        listing_doubt: observed.listing_doubt.clone(),
        listed: observed.tags().map(|tag| tag.tag.clone()).collect(),
        live,
        undated,
    }
}

/// Returns the groups in the order of deletion: indexes before their parts, then attachments.
fn ordered(mut groups: Vec<DeletionGroup>) -> Vec<DeletionGroup> {
    let parts: BTreeSet<Digest> = groups
        .iter()
        .flat_map(|group| group.parts.iter().cloned())
        .collect();
    groups.sort_by_key(|group| {
        (
            parts.contains(&group.digest),
            group.tags.iter().any(|(tag, _)| tag.is_attachment()),
        )
    });
    groups
}

/// Returns true if the age of a tag is unknown. The names of archived and earlier images have it.
fn is_undated(repository: &ObservedRepository, tag: &ObservedTag) -> bool {
    let has_day_in_name = matches!(repository.role, RepositoryRole::Archive { .. })
        || tag.tag.parse_replaced().is_some();
    tag.date.is_none() && !has_day_in_name && !tag.tag.is_attachment()
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
