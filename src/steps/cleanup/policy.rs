//! The deletion policy: decides for every tag of a repository whether it is deleted, and why. Pure.
//!
//! No other module decides. Observation and preview get the facts to read from `required_facts`,
//! and `plan` groups the deletions.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeDelta, Utc};

use super::attachments::{
    AttachmentIndex, is_attached, is_attached_by_name, is_unchecked_list, lost_its_subject,
};
use super::grace::{first_seen, is_waiting, retired_verdict, waiting_tags};
use super::protections::{RecordProtections, by_record, protection};
use super::reasons::{DeleteReason, KeepReason, TagVerdict};
use super::world::{FIRST_YEAR, ObservedRepository, ObservedTag, RepositoryRole};
use crate::config::{RetentionConfig, RetentionGroup, RetentionMatch};
use crate::error::ItemError;
use crate::model::{Digest, Tag, TagVersion};
use crate::registry::Support;
use crate::steps::sync::FormerVersion;

/// First day of [`FIRST_YEAR`].
pub(super) const FIRST_DAY: Option<DateTime<Utc>> = DateTime::from_timestamp(1_356_998_400, 0);

/// Minimum age of a tag that is deleted.
const MIN_AGE: TimeDelta = TimeDelta::hours(24);

/// Options of a run that override the configuration.
#[derive(Clone, Debug)]
pub struct CleanupPolicy {
    pub now: DateTime<Utc>,
    /// Replaces the configured `max_delete_percent`.
    pub max_delete_percent: Option<u8>,
    /// True if a failed safety check does not stop the run. Records that could be read still
    /// protect tags.
    pub is_forced: bool,
    /// True if nothing can keep the journal, so that nothing may be deleted.
    pub is_journal_missing: bool,
}

/// Decision on all tags of a repository.
pub(super) struct RepositoryDecision<'a> {
    pub(super) verdicts: BTreeMap<Tag, TagVerdict>,
    /// Tags that the rules select, whether they wait or not. Empty if too many are selected.
    pub(super) selected: BTreeSet<Tag>,
    /// Error of the repository, or the reason why too many tags would be deleted.
    pub(super) error: Option<ItemError>,
    /// Digests that must stay: the images of kept tags, and images that records name.
    pub(super) live: BTreeSet<&'a Digest>,
}

/// Decides on every tag of a repository. With `is_blocked` (the safety check failed) nothing is
/// deleted.
pub(super) fn decide<'a>(
    repository: &'a ObservedRepository,
    protections: &RecordProtections,
    policy: &CleanupPolicy,
    is_blocked: bool,
) -> RepositoryDecision<'a> {
    let mut verdicts = verdicts(repository, protections, policy.now);
    let mut error = repository
        .error
        .clone()
        .or_else(|| repository.listing.as_ref().err().cloned());
    let share = DeletionShare::of(repository, &verdicts, policy.max_delete_percent);
    let keep = |verdicts: &mut BTreeMap<Tag, TagVerdict>, tags: Vec<(Tag, KeepReason)>| {
        let is_changed = !tags.is_empty();
        verdicts.extend(
            tags.into_iter()
                .map(|(tag, reason)| (tag, TagVerdict::Keep(reason))),
        );
        if is_changed {
            keep_dependents(repository, verdicts);
        }
    };
    let deleted = |verdicts: &BTreeMap<Tag, TagVerdict>, reason: &KeepReason| {
        repository
            .tags()
            .filter(|tag| verdicts.get(&tag.tag).is_some_and(TagVerdict::is_delete))
            .filter(|tag| *reason != KeepReason::TooMany || !is_waiting(repository, tag))
            .map(|tag| (tag.tag.clone(), reason.clone()))
            .collect::<Vec<_>>()
    };
    let override_reason = match &error {
        _ if is_blocked => Some(KeepReason::SafetyCheckFailed),
        Some(error) => Some(KeepReason::RepositoryFailed(error.to_string())),
        None if share.is_too_large() => {
            error = Some(share.error());
            Some(KeepReason::TooMany)
        }
        None => None,
    };
    let mut selected = selected_tags(&verdicts);
    if let Some(reason) = override_reason {
        let tags = deleted(&verdicts, &reason);
        keep(&mut verdicts, tags);
        if reason == KeepReason::TooMany {
            selected = selected_tags(&verdicts);
        }
    }
    let waiting = waiting_tags(repository, &verdicts, policy.now);
    keep(&mut verdicts, waiting);
    let live = live(repository, &verdicts);
    RepositoryDecision {
        verdicts,
        selected,
        error,
        live,
    }
}

/// Returns the tags that `verdicts` deletes.
fn selected_tags(verdicts: &BTreeMap<Tag, TagVerdict>) -> BTreeSet<Tag> {
    verdicts
        .iter()
        .filter(|(_, verdict)| verdict.is_delete())
        .map(|(tag, _)| tag.clone())
        .collect()
}

/// Share of a repository's tags that would be deleted.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeletionShare {
    pub(super) deleted: usize,
    /// Number of tags that count: without retired tags, tags that have no manifest, and attachments,
    /// unless an earlier cleanup deleted their image.
    pub(super) total: usize,
    /// Allowed share in percent; `None` for all.
    pub(super) allowed: Option<u8>,
}

impl DeletionShare {
    /// Returns the share by `verdicts`. `max_delete_percent` replaces the configured limit.
    pub(super) fn of(
        repository: &ObservedRepository,
        verdicts: &BTreeMap<Tag, TagVerdict>,
        max_delete_percent: Option<u8>,
    ) -> DeletionShare {
        let counts = |tag: &&ObservedTag| {
            !tag.is_absent()
                && repository.retirement(tag).is_none()
                && (!is_attached(repository, tag) || lost_its_subject(repository, tag))
        };
        let is_deleted = |tag: &&ObservedTag| {
            verdicts.get(&tag.tag).is_some_and(TagVerdict::is_delete)
                && !is_waiting(repository, tag)
        };
        let allowed = max_delete_percent.or_else(|| {
            repository
                .rules
                .iter()
                .map(|rules| rules.max_delete_percent)
                .min()
        });
        DeletionShare {
            deleted: repository.tags().filter(counts).filter(is_deleted).count(),
            total: repository.tags().filter(counts).count(),
            // Everything in an archive is meant to expire.
            allowed: allowed.filter(|_| !matches!(repository.role, RepositoryRole::Archive { .. })),
        }
    }

    pub(super) fn is_too_large(self) -> bool {
        self.allowed
            .is_some_and(|allowed| self.deleted * 100 > usize::from(allowed) * self.total)
    }

    fn error(self) -> ItemError {
        let (deleted, total) = (self.deleted, self.total);
        let allowed = self.allowed.unwrap_or_default();
        let percent = (deleted * 100).div_ceil(total.max(1));
        ItemError::other(format!(
            "{deleted} of {total} tags would be deleted, more than the allowed {allowed} percent, \
             so none is deleted"
        ))
        .with_hint(format!(
            "run `imglife cleanup --list --max-delete-percent {percent}` to see them, and without \
             `--list` to delete them"
        ))
    }
}

/// Returns the verdict on each tag of a repository, without the safety check and the limit on the
/// deleted share.
pub(super) fn verdicts(
    repository: &ObservedRepository,
    protections: &RecordProtections,
    now: DateTime<Utc>,
) -> BTreeMap<Tag, TagVerdict> {
    let mut verdicts = unchecked_verdicts(repository, protections, now);
    let is_deleted = |verdict: &TagVerdict| verdict.is_delete();
    let unchecked: Vec<&ObservedTag> =
        unchecked_lists_with(repository, &verdicts, is_deleted).collect();
    if !unchecked.is_empty() {
        for tag in unchecked {
            let verdict = TagVerdict::Keep(KeepReason::SubjectUnknown);
            verdicts.insert(tag.tag.clone(), verdict);
        }
        keep_dependents(repository, &mut verdicts);
    }
    verdicts
}

/// Returns the tags whose verdict depends on whether they are lists of referrers, each with the
/// entries of its index, which have not been read. Lists of kept images are not among them.
pub(super) fn unchecked_lists(
    repository: &ObservedRepository,
    protections: &RecordProtections,
    now: DateTime<Utc>,
) -> BTreeMap<Tag, BTreeSet<Digest>> {
    let verdicts = unchecked_verdicts(repository, protections, now);
    let is_open = |verdict: &TagVerdict| {
        verdict.is_delete() || *verdict == TagVerdict::Keep(KeepReason::SubjectUnknown)
    };
    unchecked_lists_with(repository, &verdicts, is_open)
        .filter_map(|tag| Some((tag.tag.clone(), tag.image.as_ref().ok()?.list.clone()?)))
        .collect()
}

fn unchecked_lists_with<'a>(
    repository: &'a ObservedRepository,
    verdicts: &BTreeMap<Tag, TagVerdict>,
    is_meant: impl Fn(&TagVerdict) -> bool,
) -> impl Iterator<Item = &'a ObservedTag> {
    repository.tags().filter(move |tag| {
        verdicts.get(&tag.tag).is_some_and(&is_meant) && is_unchecked_list(repository, tag)
    })
}

/// Returns the verdicts if each tag that may be a list of referrers is one.
fn unchecked_verdicts(
    repository: &ObservedRepository,
    protections: &RecordProtections,
    now: DateTime<Utc>,
) -> BTreeMap<Tag, TagVerdict> {
    let mut verdicts: BTreeMap<Tag, TagVerdict> = match &repository.role {
        RepositoryRole::Base | RepositoryRole::Mirror | RepositoryRole::Application => {
            retention_verdicts(repository, protections, now)
        }
        RepositoryRole::Archive { keep_days } => {
            archive_verdicts(repository, protections, *keep_days, now)
        }
    };
    if !repository.is_known() {
        for tag in repository
            .tags()
            .filter(|tag| tag.image.is_ok() && is_attached(repository, tag))
        {
            verdicts.insert(
                tag.tag.clone(),
                TagVerdict::Keep(KeepReason::SubjectUnknown),
            );
        }
    }
    keep_dependents(repository, &mut verdicts);
    verdicts
}

/// Keeps the tags that must stay because of other tags that stay.
fn keep_dependents(repository: &ObservedRepository, verdicts: &mut BTreeMap<Tag, TagVerdict>) {
    let tags: Vec<&ObservedTag> = repository.tags().collect();
    let attachments = AttachmentIndex::of(repository);
    // A kept tag can keep other tags. Each round keeps at least one more, so this ends.
    for _ in 0..=tags.len() {
        let dependents = dependents(repository, &tags, &attachments, verdicts);
        if dependents.is_empty() {
            break;
        }
        verdicts.extend(
            dependents
                .into_iter()
                .map(|(tag, reason)| (tag, TagVerdict::Keep(reason))),
        );
    }
}

/// Returns the digests of kept tags with everything below them, and of images that records name.
fn live<'a>(
    repository: &'a ObservedRepository,
    verdicts: &BTreeMap<Tag, TagVerdict>,
) -> BTreeSet<&'a Digest> {
    let is_kept = |tag: &&ObservedTag| verdicts.get(&tag.tag).is_some_and(TagVerdict::is_keep);
    let kept = repository
        .tags()
        .filter(is_kept)
        .flat_map(|tag| &tag.image)
        .flat_map(|tree| tree.digests());
    kept.chain(repository.pinned.iter().flat_map(|tree| tree.digests()))
        .collect()
}

/// Ranks of a tag among the newest tags of its groups, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TagRank {
    pub(super) in_repository: usize,
    in_line: usize,
    in_variant: usize,
}

impl TagRank {
    /// The oldest tag of every group.
    pub(super) const LAST: TagRank = TagRank {
        in_repository: usize::MAX,
        in_line: usize::MAX,
        in_variant: usize::MAX,
    };

    /// Returns the higher rank of both in each group.
    fn higher(self, other: TagRank) -> TagRank {
        TagRank {
            in_repository: self.in_repository.min(other.in_repository),
            in_line: self.in_line.min(other.in_line),
            in_variant: self.in_variant.min(other.in_variant),
        }
    }

    /// Returns true if the tag is among the newest `keep_last` of the group that `rules` count in.
    pub(super) fn is_among_last(self, rules: &RetentionConfig) -> bool {
        let rank = match rules.per {
            RetentionGroup::Repository => self.in_repository,
            RetentionGroup::Minor => self.in_line,
            RetentionGroup::Variant => self.in_variant,
        };
        rank < rules.keep_last
    }
}

/// Facts about a tag that the retention rules compare.
pub(super) struct TagFacts<'a> {
    pub(super) rank: TagRank,
    pub(super) date: Option<DateTime<Utc>>,
    /// For an earlier image of a tag: that tag and its verdict; `None` if it does not exist.
    pub(super) current: Option<(&'a Tag, &'a TagVerdict)>,
}

/// Returns the verdicts on the tags of a base or mirror.
fn retention_verdicts(
    repository: &ObservedRepository,
    protections: &RecordProtections,
    now: DateTime<Utc>,
) -> BTreeMap<Tag, TagVerdict> {
    let ranks = ranks(repository, protections, now);
    // The name of an earlier image is longer than that of its tag, so the tag is decided first.
    let mut tags: Vec<&ObservedTag> = repository.tags().collect();
    tags.sort_by_key(|tag| tag.tag.as_str().len());
    let mut verdicts = BTreeMap::new();
    for tag in tags {
        let current = replaced(&tag.tag).map(|(current, _)| current);
        let facts = TagFacts {
            rank: ranks.get(&tag.tag).copied().unwrap_or_default(),
            date: repository.date(tag),
            current: current
                .as_ref()
                .and_then(|current| Some((current, verdicts.get(current)?))),
        };
        let verdict = match &tag.image {
            Err(error) => TagVerdict::Keep(KeepReason::of_read_error(error)),
            Ok(_) => retention_verdict(repository, tag, &facts, protections, now),
        };
        verdicts.insert(tag.tag.clone(), verdict);
    }
    verdicts
}

/// Returns the verdict on a tag of a base or mirror by its protections and `facts`, ignoring
/// dependencies between tags.
pub(super) fn retention_verdict(
    repository: &ObservedRepository,
    tag: &ObservedTag,
    facts: &TagFacts<'_>,
    protections: &RecordProtections,
    now: DateTime<Utc>,
) -> TagVerdict {
    if let Some(reason) = protection(repository, tag, protections, now) {
        return TagVerdict::Keep(reason);
    }
    if let Some(until) = repository.held_until(&tag.tag, now) {
        return TagVerdict::Keep(KeepReason::RestoredUntil(until.date_naive()));
    }
    match retired_verdict(repository, tag, now) {
        Some(verdict) => verdict,
        None if is_attached(repository, tag) => TagVerdict::Delete(DeleteReason::WithImage),
        None => {
            if let Some((_, day)) = replaced(&tag.tag) {
                return by_replacement(&repository.rules, facts.current, day, now);
            }
            let first_seen = first_seen(repository, tag, now);
            by_age_and_rank(repository, facts.rank, facts.date, first_seen, now)
        }
    }
}

/// Returns the tag that an image had, and the latest time at which it lost it: the end of the day
/// in the name `<tag>-replaced.<YYYYMMDD>`.
fn replaced(tag: &Tag) -> Option<(Tag, DateTime<Utc>)> {
    let (current, day) = tag
        .parse_replaced()
        .filter(|(_, day)| day.year() >= FIRST_YEAR)?;
    Some((current, day.succ_opt()?.and_time(NaiveTime::MIN).and_utc()))
}

/// Returns the verdict on an earlier image of a tag: by its age if a rule has `max_age_days`, and
/// otherwise by the verdict on the tag.
fn by_replacement(
    rules: &[RetentionConfig],
    current: Option<(&Tag, &TagVerdict)>,
    day: DateTime<Utc>,
    now: DateTime<Utc>,
) -> TagVerdict {
    if now - day < MIN_AGE {
        return TagVerdict::Keep(KeepReason::Young);
    }
    let mut last = TagVerdict::Keep(KeepReason::KeepLast);
    for rules in rules {
        last = match (rules.max_age_days, current) {
            (Some(days), _) if now - day > TimeDelta::days(days.into()) => {
                TagVerdict::Delete(DeleteReason::TooOld)
            }
            (Some(_), _) => return TagVerdict::Keep(KeepReason::NotOldEnough),
            (None, Some((tag, TagVerdict::Keep(_)))) => {
                return TagVerdict::Keep(KeepReason::ReplacedBy(tag.clone()));
            }
            (None, _) => TagVerdict::Delete(DeleteReason::WithTag),
        };
    }
    last
}

/// Returns the ranks of each tag among the newest.
///
/// A tag that the former order of tags ranks higher keeps that rank, so that an update of imglife
/// deletes no tag only because the order has changed.
///
/// Tags without a version are one group. Aliases, `latest`, attachments, earlier images of tags and
/// tags without a manifest have no rank.
pub(super) fn ranks<'a>(
    repository: &'a ObservedRepository,
    protections: &RecordProtections,
    now: DateTime<Utc>,
) -> HashMap<&'a Tag, TagRank> {
    let images: Vec<&ObservedTag> = repository
        .tags()
        .filter(|tag| !tag.is_absent() && !is_attached(repository, tag))
        .filter(|tag| {
            replaced(&tag.tag).is_none()
                && repository.retirement(tag).is_none()
                && repository.held_until(&tag.tag, now).is_none()
                && !protections.is_held(repository, tag)
                && tag.tag != Tag::latest()
                && !repository.desired.aliases.contains(&tag.tag)
        })
        .collect();
    let mut ranks: HashMap<&Tag, TagRank> = HashMap::new();
    for ordered in [
        newest_first(repository, &images),
        former_order(repository, &images),
    ] {
        let (mut lines, mut variants) = (HashMap::new(), HashMap::new());
        for (in_repository, tag) in ordered.into_iter().enumerate() {
            let version = TagVersion::of(tag.as_str());
            let variant = version.is_version().then(|| version.variant().family());
            let rank = TagRank {
                in_repository,
                in_line: next_rank(&mut lines, version.release_line()),
                in_variant: next_rank(&mut variants, variant),
            };
            ranks
                .entry(tag)
                .and_modify(|best| *best = best.higher(rank))
                .or_insert(rank);
        }
    }
    ranks
}

/// Returns tags in the order of `model::tag`, newest first.
fn newest_first<'a>(repository: &ObservedRepository, images: &[&'a ObservedTag]) -> Vec<&'a Tag> {
    let mut images: Vec<(TagVersion, &ObservedTag)> = images
        .iter()
        .map(|tag| (TagVersion::of(tag.tag.as_str()), *tag))
        .collect();
    images.sort_by(|(one, tag), (other, other_tag)| {
        let (dates, other_dates) = (repository.date(tag), repository.date(other_tag));
        other.compare_pushed(other_dates, one, dates).0
    });
    images.into_iter().map(|(_, tag)| &tag.tag).collect()
}

/// Returns tags in the former order, newest first.
fn former_order<'a>(repository: &ObservedRepository, images: &[&'a ObservedTag]) -> Vec<&'a Tag> {
    let mut images = images.to_vec();
    // Tags without a version compare equal as versions, so their dates decide.
    images.sort_by_cached_key(|tag| {
        let version = FormerVersion::of(tag.tag.as_str());
        let numbers = version.is_version().then(|| version.clone());
        Reverse((numbers, repository.date(tag), version))
    });
    images.into_iter().map(|tag| &tag.tag).collect()
}

/// Returns the number of earlier calls for `group`.
fn next_rank<G: Eq + Hash>(ranks: &mut HashMap<G, usize>, group: G) -> usize {
    let next = ranks.entry(group).or_default();
    *next += 1;
    *next - 1
}

/// Returns the verdict by all rules. No image is older than its first sighting under the tag; a date
/// that is unknown stays unknown.
fn by_age_and_rank(
    repository: &ObservedRepository,
    rank: TagRank,
    date: Option<DateTime<Utc>>,
    first_seen: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> TagVerdict {
    let date = date.map(|date| first_seen.map_or(date, |seen| seen.max(date)));
    let min_keep = repository
        .rules
        .iter()
        .map(|rules| rules.min_keep)
        .max()
        .unwrap_or(usize::MAX);
    if rank.in_repository < min_keep {
        TagVerdict::Keep(KeepReason::MinKeep)
    } else if date
        .max(first_seen)
        .is_some_and(|date| now - date < MIN_AGE)
    {
        TagVerdict::Keep(KeepReason::Young)
    } else {
        by_all_rules(&repository.rules, rank, date, now)
    }
}

/// Returns the verdict by all rules: a tag is deleted only if each of them deletes it.
fn by_all_rules(
    rules: &[RetentionConfig],
    rank: TagRank,
    date: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> TagVerdict {
    let mut last = TagVerdict::Keep(KeepReason::KeepLast);
    for rules in rules {
        last = by_rule(rules, rank, date, now);
        if last.is_keep() {
            break;
        }
    }
    last
}

fn by_rule(
    rules: &RetentionConfig,
    rank: TagRank,
    date: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> TagVerdict {
    let is_beyond = !rank.is_among_last(rules);
    // `None` without `max_age_days`, `Some(None)` if the age is unknown.
    let age = rules
        .max_age_days
        .map(|days| Some(now - date? > TimeDelta::days(days.into())));
    let is_old = age == Some(Some(true));
    match rules.match_mode {
        _ if is_beyond && is_old => TagVerdict::Delete(DeleteReason::BeyondKeepLastAndTooOld),
        RetentionMatch::Any if is_beyond => TagVerdict::Delete(DeleteReason::BeyondKeepLast),
        RetentionMatch::Any if is_old => TagVerdict::Delete(DeleteReason::TooOld),
        RetentionMatch::All if is_beyond && age.is_none() => {
            TagVerdict::Delete(DeleteReason::BeyondKeepLast)
        }
        _ if !is_beyond => TagVerdict::Keep(KeepReason::KeepLast),
        _ if age == Some(None) => TagVerdict::Keep(KeepReason::AgeUnknown),
        _ => TagVerdict::Keep(KeepReason::NotOldEnough),
    }
}

/// Returns the verdicts on the tags of an archive repository.
fn archive_verdicts(
    repository: &ObservedRepository,
    protections: &RecordProtections,
    keep_days: u32,
    now: DateTime<Utc>,
) -> BTreeMap<Tag, TagVerdict> {
    let verdict = |tag: &ObservedTag| {
        if let Err(error) = &tag.image {
            return TagVerdict::Keep(KeepReason::of_read_error(error));
        }
        if let Some(reason) = by_record(repository, tag, protections) {
            return TagVerdict::Keep(reason);
        }
        if is_attached_by_name(repository, tag) {
            return TagVerdict::Delete(DeleteReason::WithImage);
        }
        match archived_on(&tag.tag)
            .and_then(|date| date.checked_add_days(Days::new(keep_days.into())))
        {
            None => TagVerdict::Keep(KeepReason::NotArchived),
            Some(until) if now.date_naive() <= until => {
                TagVerdict::Keep(KeepReason::ArchivedUntil(until))
            }
            Some(_) => TagVerdict::Delete(DeleteReason::Expired),
        }
    };
    repository
        .tags()
        .map(|tag| (tag.tag.clone(), verdict(tag)))
        .collect()
}

/// Returns the day in a tag of the form `<tag>-archived.<YYYYMMDD>`.
fn archived_on(tag: &Tag) -> Option<NaiveDate> {
    let (_, date) = tag.as_str().rsplit_once("-archived.")?;
    let is_date = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
    is_date
        .then(|| NaiveDate::parse_from_str(date, "%Y%m%d").ok())
        .flatten()
}

/// Returns the tag under which an image is archived on the day of `now`; `None` if it would be too
/// long for a tag.
pub(super) fn archive_tag(tag: &Tag, now: DateTime<Utc>) -> Option<Tag> {
    format!("{tag}-archived.{}", now.format("%Y%m%d"))
        .parse()
        .ok()
}

/// Returns the tags that `verdicts` deletes and that must stay because of other tags that stay.
fn dependents(
    repository: &ObservedRepository,
    tags: &[&ObservedTag],
    attachments: &AttachmentIndex<'_>,
    verdicts: &BTreeMap<Tag, TagVerdict>,
) -> Vec<(Tag, KeepReason)> {
    let live = live(repository, verdicts);
    let live_subjects: HashSet<Tag> = live
        .iter()
        .filter(|_| attachments.exist())
        .map(|digest| Tag::of_referrers(digest))
        .collect();
    let is_kept = |tag: &ObservedTag| verdicts.get(&tag.tag).is_some_and(TagVerdict::is_keep);
    let mut kept_digests: HashMap<&Digest, &Tag> = HashMap::new();
    for tag in tags.iter().filter(|tag| is_kept(tag)) {
        kept_digests.extend(tag.image.iter().map(|tree| (&tree.digest, &tag.tag)));
    }
    let is_missing = |subject: &Tag| {
        !attachments.known.contains(subject) && !repository.missing_subjects.contains(subject)
    };
    let reason = |tag: &ObservedTag| {
        if let Some(subjects) = attachments.subjects.get(&tag.tag) {
            if subjects
                .iter()
                .any(|subject| live_subjects.contains(subject))
            {
                return Some(KeepReason::AttachedToKept);
            }
            // In an archive, a tag with a day expires also without its subject.
            let goes_with_image =
                verdicts.get(&tag.tag) == Some(&TagVerdict::Delete(DeleteReason::WithImage));
            if goes_with_image && subjects.iter().any(is_missing) {
                return Some(KeepReason::SubjectUnknown);
            }
        }
        if repository.deletions.tags != Support::Unsupported {
            return None;
        }
        let digest = &tag.image.as_ref().ok()?.digest;
        match kept_digests.get(digest) {
            _ if repository.deletions.manifests == Support::Unsupported => {
                Some(KeepReason::NotDeletable)
            }
            _ if !repository.is_known() => Some(KeepReason::NeighbourUnreadable),
            _ if repository.listing_doubt.is_some() => repository
                .listing_doubt
                .clone()
                .map(KeepReason::ListingNotProved),
            Some(other) => Some(KeepReason::SharesDigest((*other).clone())),
            None => live.contains(digest).then_some(KeepReason::PartOfKept),
        }
    };
    tags.iter()
        .filter(|tag| !is_kept(tag))
        .filter_map(|tag| Some((tag.tag.clone(), reason(tag)?)))
        .collect()
}
