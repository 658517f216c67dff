//! What is deleted, and how. Pure.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::judge::{Condemned, Kept, Protections, Share, Verdict, alive, archive_tag, judge};
use super::observe::{RecordsSeen, Role, Seen, TagImage, World, all};
use crate::model::{BuildRecord, Digest, ImageReference, Repository, Tag};
use crate::registry::Ability;
use crate::steps::Trouble;

/// What a run is asked for beside the configuration.
#[derive(Clone, Debug)]
pub struct Policy {
    pub now: DateTime<Utc>,
    /// Instead of what the configuration allows.
    pub max_delete_percent: Option<u8>,
    /// Whether the guard is lifted. What records protect stays protected.
    pub is_forced: bool,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub repositories: Vec<RepositoryPlan>,
    /// Digests that records name. They stay wherever they are, also without a tag.
    pub pinned: BTreeSet<Digest>,
    /// Why nothing is deleted at all.
    pub guard: Option<Trouble>,
    pub orphans: Vec<Repository>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct RepositoryPlan {
    pub repository: Repository,
    /// The one name of it by which records are compared.
    pub place: Repository,
    /// Whether it is swept at the end.
    pub is_layout: bool,
    pub trouble: Option<Trouble>,
    pub kept: Vec<(Tag, Option<Digest>, Kept)>,
    /// What goes, those that lead to others first.
    pub groups: Vec<Group>,
    /// The tags that were seen.
    pub seen: BTreeSet<Tag>,
    /// Digests that have to stay.
    pub alive: BTreeSet<Digest>,
    /// How many of the tags that go nobody tells the age of, so that it keeps none of them.
    pub undated: usize,
}

/// The condemned tags of one image.
#[derive(Clone, Debug)]
pub struct Group {
    pub digest: Digest,
    pub tags: Vec<(Tag, Condemned)>,
    pub how: How,
    /// All that it leads to.
    pub below: BTreeSet<Digest>,
    /// What of that nothing leads to that stays. Deleted after all images.
    pub parts: BTreeSet<Digest>,
    /// Where each tag is copied to first.
    pub archive: BTreeMap<Tag, ImageReference>,
}

/// How an image is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// Its tags; other tags of it stay, or the place deletes no manifests.
    Tags,
    /// Its tags, then what they named.
    TagsThenManifest,
    /// The manifest, with which all of its tags go.
    Manifest,
}

impl Plan {
    /// Returns the tags that go.
    pub fn condemned(&self) -> impl Iterator<Item = (&Repository, &Tag, Condemned)> {
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
pub fn plan(world: &World, policy: &Policy) -> Plan {
    let guard = guard(world).filter(|_| !policy.is_forced);
    let protections = Protections::of(all(&world.records));
    let mut repositories: Vec<RepositoryPlan> = world
        .repositories
        .iter()
        .map(|seen| repository(seen, &protections, policy, guard.is_some()))
        .collect();
    repositories.sort_by(|one, other| one.repository.cmp(&other.repository));
    let pinned = pinned(all(&world.records));
    Plan {
        repositories,
        pinned,
        guard,
        orphans: world.orphans.clone(),
        warnings: world.warnings.clone(),
    }
}

/// Returns the digests that records name.
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

const FORCE: &str = "`--force` goes on with the records that are there";

/// Returns why it is not known who uses what.
pub(super) fn guard(world: &World) -> Option<Trouble> {
    world
        .records
        .iter()
        .find_map(|records| unread(records).or_else(|| too_few(world, records)))
}

/// Returns why not all records are known.
pub(super) fn unread(records: &RecordsSeen) -> Option<Trouble> {
    match records {
        RecordsSeen::Failed(trouble) => Some(
            Trouble {
                cause: format!("the records cannot be read: {}", trouble.cause),
                ..trouble.clone()
            }
            .hint(FORCE),
        ),
        RecordsSeen::Read(reading) => reading.unreadable.first().map(|first| {
            let (count, file, problem) = (reading.unreadable.len(), &first.file, &first.problem);
            Trouble::new(format!(
                "{count} of the records cannot be read, the first is {file}: {problem}"
            ))
            .hint(FORCE)
        }),
        RecordsSeen::NotConfigured => None,
    }
}

/// Returns why it is not to be believed that these are all records.
fn too_few(world: &World, records: &RecordsSeen) -> Option<Trouble> {
    match records.records() {
        _ if !world.has_bases => None,
        [] => world.require_records.then(|| {
            Trouble::new("there is no record of any application")
                .hint("`imglife register` writes them; `require_records: false` or `--force` goes on without")
        }),
        records if !name_a_base(records, world) => Some(
            Trouble::new("no record names a base of this configuration: was the registry renamed, or are these another's records?")
                .hint(format!("`imglife app list` shows what they name; {FORCE}")),
        ),
        _ => None,
    }
}

/// Returns whether any of the records names a repository of the configuration as its base, or an
/// image that is in one that was looked at.
fn name_a_base<'a>(records: &'a [BuildRecord], world: &World) -> bool {
    let is_configured = |record: &BuildRecord| {
        record
            .base
            .as_ref()
            .is_some_and(|base| world.configured.contains(&base.repository))
    };
    let digests = |record: &'a BuildRecord| {
        record
            .base
            .iter()
            .filter_map(|base| base.digest.as_ref())
            .chain(&record.base_digest)
    };
    let named: BTreeSet<&Digest> = records.iter().flat_map(digests).collect();
    let mut images = world
        .repositories
        .iter()
        .flat_map(Seen::tags)
        .filter_map(|tag| tag.image.as_ref().ok());
    let is_named = |digest: &Digest| named.contains(digest);
    records.iter().any(is_configured)
        || images.any(|tree| is_named(&tree.digest) || tree.below.iter().any(is_named))
}

fn repository(
    seen: &Seen,
    protections: &Protections<'_>,
    policy: &Policy,
    is_guarded: bool,
) -> RepositoryPlan {
    let mut verdicts = judge(seen, protections, policy.now);
    let mut trouble = seen
        .trouble
        .clone()
        .or_else(|| seen.listing.as_ref().err().cloned());
    let is_condemned = |verdict: &Verdict| matches!(verdict, Verdict::Condemn(_));
    let share = Share::of(seen, &verdicts, policy.max_delete_percent);
    let stop = match &trouble {
        _ if is_guarded => Some(Kept::Guarded),
        Some(trouble) => Some(Kept::RepositoryFailed(trouble.cause.clone())),
        None if share.is_too_large() => {
            let (Share { going, images, .. }, allowed) = (share, share.allowed.unwrap_or_default());
            let cause = format!(
                "{going} of {images} tags would go, more than {allowed} percent, so none of them does"
            );
            let percent = (going * 100).div_ceil(images.max(1));
            let hint = format!(
                "`--list --max-delete-percent {percent}` shows which; without `--list` they go"
            );
            trouble = Some(Trouble::new(cause).hint(hint));
            Some(Kept::TooMany)
        }
        None => None,
    };
    if let Some(kept) = stop {
        verdicts
            .values_mut()
            .filter(|verdict| is_condemned(verdict))
            .for_each(|verdict| *verdict = Verdict::Keep(kept.clone()));
    }
    let alive: BTreeSet<Digest> = alive(seen, &verdicts).into_iter().cloned().collect();
    let (mut kept, mut undated) = (Vec::new(), 0);
    let mut groups: BTreeMap<&Digest, Group> = BTreeMap::new();
    for tag in seen.tags() {
        match (verdicts.get(&tag.tag), &tag.image) {
            (Some(Verdict::Condemn(reason)), Ok(tree)) => {
                let group = groups.entry(&tree.digest).or_insert_with(|| {
                    let how = how(seen, &alive, &tree.digest);
                    let parts = if how == How::Tags {
                        BTreeSet::new()
                    } else {
                        tree.below.difference(&alive).cloned().collect()
                    };
                    let below = tree.below.clone();
                    Group {
                        digest: tree.digest.clone(),
                        tags: Vec::new(),
                        how,
                        below,
                        parts,
                        archive: BTreeMap::new(),
                    }
                });
                group.tags.push((tag.tag.clone(), *reason));
                undated += usize::from(is_undated(seen, tag));
                if let Some(archive) = seen.archive.as_ref().filter(|_| !tag.tag.is_attachment()) {
                    let archived = archive_tag(&tag.tag, policy.now);
                    let image = ImageReference {
                        repository: archive.clone(),
                        tag: archived,
                        digest: None,
                    };
                    group.archive.insert(tag.tag.clone(), image);
                }
            }
            (Some(Verdict::Keep(reason)), image) => {
                kept.push((
                    tag.tag.clone(),
                    image.as_ref().ok().map(|tree| tree.digest.clone()),
                    reason.clone(),
                ));
            }
            (Some(Verdict::Condemn(_)) | None, _) => {}
        }
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
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
    RepositoryPlan {
        repository: seen.repository.clone(),
        place: seen.place.clone(),
        is_layout: matches!(seen.repository, Repository::Layout { .. }),
        trouble,
        kept,
        groups,
        seen: seen.tags().map(|tag| tag.tag.clone()).collect(),
        alive,
        undated,
    }
}

/// Returns whether nobody tells how old a tag is. The names of archived and replaced images do.
fn is_undated(seen: &Seen, tag: &TagImage) -> bool {
    let is_named_by_day = matches!(seen.role, Role::Archive { .. }) || tag.tag.replaced().is_some();
    tag.date.is_none() && !is_named_by_day && !tag.tag.is_attachment()
}

/// Returns how the image is deleted whose tags `judge` condemned.
fn how(seen: &Seen, alive: &BTreeSet<Digest>, digest: &Digest) -> How {
    match seen.deletions.tags {
        Ability::Missing => How::Manifest,
        _ if alive.contains(digest)
            || !seen.is_known()
            || seen.deletions.manifests == Ability::Missing =>
        {
            How::Tags
        }
        _ => How::TagsThenManifest,
    }
}
