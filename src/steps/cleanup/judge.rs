//! Which tags of a repository go, and why each of the others stays. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use serde::Serialize;

use super::observe::{Role, Seen, TagImage, Unseen};
use crate::config::{CondemnedBy, Retention, TagExclusion};
use crate::model::{BuildRecord, Digest, ImageReference, Repository, Tag, TagVersion};
use crate::registry::Ability;

/// No image is older than Docker, so an earlier date is none.
const FIRST_YEAR: i32 = 2013;

/// The first day of that year.
const FIRST_DAY: Option<DateTime<Utc>> = DateTime::from_timestamp(1_356_998_400, 0);

/// What is younger is not deleted.
const GRACE: TimeDelta = TimeDelta::hours(24);

/// What becomes of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep(Kept),
    Condemn(Condemned),
}

/// Why a tag stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "reason", content = "detail")]
pub enum Kept {
    Excluded,
    Latest,
    /// It is among the newest `min_keep`.
    MinKeep,
    /// `build` would produce it now, as a tag or as an alias.
    Built,
    /// What `build` would produce now cannot be told, for this reason.
    BuildUnknown(String),
    /// The record of this image names it as its base.
    BaseOf(ImageReference),
    /// It is the image of a record.
    Recorded(ImageReference),
    /// A configured image is built on it.
    UsedByBuild,
    /// `sync` would select it.
    Selected,
    /// What `sync` would select cannot be told, for this reason.
    UpstreamUnknown(String),
    /// It is younger than 24 hours.
    Young,
    /// It is among the newest `keep_last`.
    KeepLast,
    /// It is the image that this tag had before, and the tag stays.
    ReplacedBy(Tag),
    /// It is not older than `max_age_days`.
    NotOldEnough,
    /// How old it is cannot be told.
    AgeUnknown,
    /// The registry cannot delete it without this tag, which stays.
    SharesDigest(Tag),
    /// The registry cannot delete it without what an index that stays leads to.
    PartOfKept,
    /// It is attached to an image that stays.
    AttachedToKept,
    /// What it is attached to is there without a tag, or cannot be told.
    SubjectUnknown,
    /// It is listed, and names nothing.
    Absent,
    /// What it names cannot be read, for this reason.
    Unreadable(String),
    /// The registry deletes by digest only, and another tag cannot be read that may share it.
    NeighbourUnreadable,
    /// The registry deletes nothing.
    NotDeletable,
    /// In an archive: it is none of the tags that cleanup writes.
    NotArchived,
    /// In an archive: its time is not over.
    ArchivedUntil(NaiveDate),
    /// More tags of the repository would go than `max_delete_percent` allows.
    TooMany,
    /// The guard: who uses what is not known.
    Guarded,
    /// The repository cannot be cleaned up, for this reason.
    RepositoryFailed(String),
}

impl Kept {
    fn unseen(unseen: &Unseen) -> Kept {
        match unseen {
            Unseen::Absent => Kept::Absent,
            Unseen::Unread(trouble) => Kept::Unreadable(trouble.cause.clone()),
        }
    }

    /// Returns the reason in words.
    pub fn words(&self) -> String {
        let text = match self {
            Kept::Excluded => "excluded by `exclude_tags`",
            Kept::Latest => "`latest` is always kept",
            Kept::MinKeep => "among the newest `min_keep`",
            Kept::Built => "`build` produces it",
            Kept::BuildUnknown(cause) => {
                return format!("what `build` produces is not known: {cause}");
            }
            Kept::BaseOf(image) => return format!("base of {image}"),
            Kept::Recorded(image) => return format!("recorded as {image}"),
            Kept::UsedByBuild => "a configured image is built on it",
            Kept::Selected => "`sync` selects it",
            Kept::UpstreamUnknown(cause) => {
                return format!("what `sync` selects is not known: {cause}");
            }
            Kept::Young => "younger than 24 hours",
            Kept::KeepLast => "among the newest `keep_last`",
            Kept::ReplacedBy(tag) => {
                return format!("the image that {tag} had before, which stays");
            }
            Kept::NotOldEnough => "not older than `max_age_days`",
            Kept::AgeUnknown => "its age is not known",
            Kept::SharesDigest(tag) => {
                return format!(
                    "shares its digest with {tag}, and the registry deletes by digest only"
                );
            }
            Kept::PartOfKept => {
                "part of an image that is kept, and the registry deletes by digest only"
            }
            Kept::AttachedToKept => "attached to an image that is kept",
            Kept::SubjectUnknown => "what it is attached to is not known to be gone",
            Kept::Absent => "it is listed, and not there",
            Kept::Unreadable(cause) => return format!("cannot be read: {cause}"),
            Kept::NeighbourUnreadable => "another tag that may share its digest cannot be read",
            Kept::NotDeletable => "the registry deletes nothing",
            Kept::NotArchived => "not archived by cleanup",
            Kept::ArchivedUntil(date) => return format!("archived until {date}"),
            Kept::TooMany => "more than `max_delete_percent` would go",
            Kept::Guarded => "who uses what is not known",
            Kept::RepositoryFailed(cause) => return cause.clone(),
        };
        text.to_owned()
    }
}

/// Why a tag goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Condemned {
    /// It is not among the newest `keep_last`.
    BeyondKeepLast,
    /// It is older than `max_age_days`.
    TooOld,
    /// Both.
    BeyondKeepLastAndTooOld,
    /// It is the image that a tag had before, which goes or is gone.
    WithTag,
    /// It is attached to an image that goes or is gone.
    WithImage,
    /// In an archive: its time is over.
    Expired,
}

impl Condemned {
    /// Returns the reason in words.
    pub fn words(self) -> &'static str {
        match self {
            Condemned::BeyondKeepLast => "beyond `keep_last`",
            Condemned::TooOld => "older than `max_age_days`",
            Condemned::BeyondKeepLastAndTooOld => {
                "beyond `keep_last` and older than `max_age_days`"
            }
            Condemned::WithTag => "its tag goes or is gone",
            Condemned::WithImage => "its image goes",
            Condemned::Expired => "its time in the archive is over",
        }
    }
}

/// What records protect.
#[derive(Clone, Debug, Default)]
pub struct Protections<'a> {
    base_tags: HashMap<(&'a Repository, &'a Tag), &'a ImageReference>,
    base_digests: HashMap<&'a Digest, &'a ImageReference>,
    own_tags: HashMap<(&'a Repository, &'a Tag), &'a ImageReference>,
    own_digests: HashMap<&'a Digest, &'a ImageReference>,
    /// Digests that records name, by the repositories that they name them in.
    pub(super) digests_in: BTreeMap<&'a Repository, BTreeSet<&'a Digest>>,
}

impl<'a> Protections<'a> {
    /// Returns what `records` protect. A digest is protected wherever it is.
    pub fn of(records: impl IntoIterator<Item = &'a BuildRecord>) -> Protections<'a> {
        let mut protections = Protections::default();
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

    fn reason(&self, repository: &Repository, tag: &TagImage) -> Option<Kept> {
        self.of_image(repository, &tag.tag, || {
            tag.image.iter().flat_map(|tree| tree.digests())
        })
    }

    /// Returns why a tag stays that leads to these digests.
    pub(super) fn of_image<'d, I: Iterator<Item = &'d Digest>>(
        &self,
        repository: &Repository,
        tag: &Tag,
        digests: impl Fn() -> I,
    ) -> Option<Kept> {
        let by_digest = |known: &HashMap<&Digest, &'a ImageReference>| {
            digests().find_map(|digest| known.get(digest).map(|image| (*image).clone()))
        };
        let by_tag = |known: &HashMap<(&Repository, &Tag), &'a ImageReference>| {
            known.get(&(repository, tag)).map(|image| (*image).clone())
        };
        by_tag(&self.base_tags)
            .or_else(|| by_digest(&self.base_digests))
            .map(Kept::BaseOf)
            .or_else(|| {
                by_tag(&self.own_tags)
                    .or_else(|| by_digest(&self.own_digests))
                    .map(Kept::Recorded)
            })
    }
}

/// Returns why a tag of a mirror or a base stays whatever the rules say, as far as that does not
/// depend on its age or its neighbours.
fn standing(seen: &Seen, tag: &TagImage, protections: &Protections<'_>) -> Option<Kept> {
    if let Err(unseen) = &tag.image {
        return Some(Kept::unseen(unseen));
    }
    protections
        .reason(&seen.place, tag)
        .or_else(|| wanted(seen, &tag.tag))
}

/// Returns why the configuration keeps a tag.
fn wanted(seen: &Seen, name: &Tag) -> Option<Kept> {
    let wanted = &seen.wanted;
    let excludes = |exclusion: &TagExclusion| match exclusion {
        TagExclusion::Exact(text) => text == name.as_str(),
        TagExclusion::Pattern(pattern) => pattern.regex.is_match(name.as_str()),
    };
    let is_excluded = seen
        .rules
        .iter()
        .flat_map(|rules| &rules.exclude_tags)
        .any(excludes);
    [
        (is_excluded, Kept::Excluded),
        (*name == Tag::latest(), Kept::Latest),
        (
            wanted.built.contains(name) || wanted.aliases.contains(name),
            Kept::Built,
        ),
        (wanted.used.contains(name), Kept::UsedByBuild),
        (wanted.selected.contains(name), Kept::Selected),
    ]
    .into_iter()
    .find_map(|(holds, kept)| holds.then_some(kept))
    .or_else(|| wanted.upstream_unknown.clone().map(Kept::UpstreamUnknown))
    .or_else(|| wanted.build_unknown.clone().map(Kept::BuildUnknown))
}

/// What may still come to be known of the ages of a repository's tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ages {
    Told,
    /// Those that are not known may turn out to be any.
    Open,
}

/// Returns the tags of a mirror or a base that may go as far as is known, and those that have to be
/// dated to tell their order. All others stay, whatever their images and their ages turn out to be.
pub(super) fn undecided<'a>(
    seen: &'a Seen,
    protections: &Protections<'_>,
    ages: Ages,
    now: DateTime<Utc>,
) -> BTreeSet<&'a Tag> {
    let ranks = ranks(seen);
    let is_dated = |tag: &TagImage| ages == Ages::Told || tag.date.is_some();
    let has_version = |tag: &TagImage| TagVersion::of(tag.tag.as_str()).is_version();
    let may_go = |tag: &&TagImage| {
        let rank = ranks
            .get(&tag.tag)
            .copied()
            .filter(|_| is_dated(tag) || has_version(tag))
            .unwrap_or(usize::MAX);
        // Whatever condemns a tag condemns an older one.
        let date = if is_dated(tag) { tag.date } else { FIRST_DAY };
        let is_kept =
            protections.reason(&seen.place, tag).is_some() || wanted(seen, &tag.tag).is_some();
        let verdict = || match replaced(&tag.tag) {
            Some((_, day)) => by_replacement(&seen.rules, None, day, now),
            None => by_age_and_rank(seen, rank, date, now),
        };
        !tag.tag.is_attachment()
            && !tag.is_absent()
            && !is_kept
            && matches!(verdict(), Verdict::Condemn(_))
    };
    let open: Vec<&TagImage> = seen.tags().filter(may_go).collect();
    let is_ordered_by_date = open
        .iter()
        .any(|tag| ranks.contains_key(&tag.tag) && !is_dated(tag) && !has_version(tag));
    let ordered = seen
        .tags()
        .filter(|tag| is_ordered_by_date && !has_version(tag) && ranks.contains_key(&tag.tag));
    ordered.chain(open).map(|tag| &tag.tag).collect()
}

/// Returns the tags, none of which is in `looked_at`, of which it has to be known whether they name
/// anything, to tell that what goes by what is known so far does go: those before it that name
/// nothing take no place among the newest, and do not count for `max_delete_percent`.
pub(super) fn doubtful(
    seen: &Seen,
    protections: &Protections<'_>,
    looked_at: &BTreeSet<Tag>,
    now: DateTime<Utc>,
) -> BTreeSet<Tag> {
    let share = Share::of(seen, &judge(seen, protections, now), None);
    if share.going == 0 {
        return BTreeSet::new();
    }
    let ranks = ranks(seen);
    let places = seen
        .rules
        .iter()
        .map(|rules| rules.keep_last.max(rules.min_keep))
        .max()
        .unwrap_or_default();
    let open: Vec<&Tag> = seen
        .tags()
        .map(|tag| &tag.tag)
        .filter(|tag| !tag.is_attachment() && !looked_at.contains(tag))
        .collect();
    let before: BTreeSet<Tag> = open
        .iter()
        .filter(|tag| ranks.get(**tag).is_some_and(|rank| *rank < places))
        .map(|tag| (*tag).clone())
        .collect();
    let least = Share {
        images: share.images.saturating_sub(open.len()),
        ..share
    };
    if before.is_empty() && !share.is_too_large() && least.is_too_large() {
        open.into_iter().cloned().collect()
    } else {
        before
    }
}

/// How much of a repository goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) going: usize,
    /// The tags that count: no attachments, and none that name nothing.
    pub(super) images: usize,
    /// In percent; `None` for all.
    pub(super) allowed: Option<u8>,
}

impl Share {
    /// Returns the share by `verdicts`; `allowed` goes before what the rules say.
    pub(super) fn of(seen: &Seen, verdicts: &BTreeMap<Tag, Verdict>, allowed: Option<u8>) -> Share {
        let goes = |(tag, verdict): &(&Tag, &Verdict)| {
            !tag.is_attachment() && matches!(verdict, Verdict::Condemn(_))
        };
        let allowed = allowed.or_else(|| {
            seen.rules
                .iter()
                .map(|rules| rules.max_delete_percent)
                .min()
        });
        Share {
            going: verdicts.iter().filter(goes).count(),
            images: seen
                .tags()
                .filter(|tag| !tag.tag.is_attachment() && !tag.is_absent())
                .count(),
            // All that was archived is to expire.
            allowed: allowed.filter(|_| !matches!(seen.role, Role::Archive { .. })),
        }
    }

    pub(super) fn is_too_large(self) -> bool {
        self.allowed
            .is_some_and(|allowed| self.going * 100 > usize::from(allowed) * self.images)
    }
}

/// Returns what becomes of each tag of a repository at the time `now`. A tag that is condemned here
/// still stays when the guard holds, or when more would go than `max_delete_percent` allows; `plan`
/// sees to both.
pub fn judge(
    seen: &Seen,
    protections: &Protections<'_>,
    now: DateTime<Utc>,
) -> BTreeMap<Tag, Verdict> {
    let mut verdicts: BTreeMap<Tag, Verdict> = match &seen.role {
        Role::Base | Role::Mirror => by_rules(seen, protections, now),
        Role::Archive { keep_days } => by_archive_date(seen, protections, *keep_days, now),
    };
    let tags: Vec<&TagImage> = seen.tags().collect();
    if !seen.is_known() {
        for tag in tags
            .iter()
            .filter(|tag| tag.tag.is_attachment() && tag.image.is_ok())
        {
            verdicts.insert(tag.tag.clone(), Verdict::Keep(Kept::SubjectUnknown));
        }
    }
    // What stays makes other tags stay; each round finds at least one.
    for _ in 0..=tags.len() {
        let found = dependents(seen, &tags, &verdicts);
        if found.is_empty() {
            break;
        }
        verdicts.extend(
            found
                .into_iter()
                .map(|(tag, kept)| (tag, Verdict::Keep(kept))),
        );
    }
    verdicts
}

/// Returns the digests that tags which stay lead to, and those that records name.
pub(super) fn alive<'a>(seen: &'a Seen, verdicts: &BTreeMap<Tag, Verdict>) -> BTreeSet<&'a Digest> {
    let stays = |tag: &&TagImage| matches!(verdicts.get(&tag.tag), Some(Verdict::Keep(_)));
    let kept = seen
        .tags()
        .filter(stays)
        .flat_map(|tag| &tag.image)
        .flat_map(|tree| tree.digests());
    kept.chain(seen.pinned.iter().flat_map(|tree| tree.digests()))
        .collect()
}

fn by_rules(
    seen: &Seen,
    protections: &Protections<'_>,
    now: DateTime<Utc>,
) -> BTreeMap<Tag, Verdict> {
    let ranks = ranks(seen);
    let verdict = |tag: &TagImage, verdicts: &BTreeMap<Tag, Verdict>| match standing(
        seen,
        tag,
        protections,
    ) {
        Some(kept) => Verdict::Keep(kept),
        None if tag.tag.is_attachment() => Verdict::Condemn(Condemned::WithImage),
        None => match replaced(&tag.tag) {
            Some((of, day)) => by_replacement(
                &seen.rules,
                verdicts.get(&of).map(|verdict| (&of, verdict)),
                day,
                now,
            ),
            None => by_age_and_rank(
                seen,
                ranks.get(&tag.tag).copied().unwrap_or_default(),
                tag.date,
                now,
            ),
        },
    };
    // What a tag had before is judged after it; the name of the tag is the shorter.
    let mut tags: Vec<&TagImage> = seen.tags().collect();
    tags.sort_by_key(|tag| tag.tag.as_str().len());
    let mut verdicts = BTreeMap::new();
    for tag in tags {
        let verdict = verdict(tag, &verdicts);
        verdicts.insert(tag.tag.clone(), verdict);
    }
    verdicts
}

/// Returns the tag that an image had, and when it lost it at the latest: at the end of the day in
/// this one.
fn replaced(tag: &Tag) -> Option<(Tag, DateTime<Utc>)> {
    let (of, day) = tag.replaced().filter(|(_, day)| day.year() >= FIRST_YEAR)?;
    Some((of, day.succ_opt()?.and_time(NaiveTime::MIN).and_utc()))
}

/// Returns the verdict on an image that was replaced: by its age, where rules have one, and
/// otherwise by what becomes of its tag; `None` when that is gone.
fn by_replacement(
    rules: &[Retention],
    tag: Option<(&Tag, &Verdict)>,
    day: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Verdict {
    if now - day < GRACE {
        return Verdict::Keep(Kept::Young);
    }
    let mut last = Verdict::Keep(Kept::KeepLast);
    for rules in rules {
        last = match (rules.max_age_days, tag) {
            (Some(days), _) if now - day > TimeDelta::days(days.into()) => {
                Verdict::Condemn(Condemned::TooOld)
            }
            (Some(_), _) => return Verdict::Keep(Kept::NotOldEnough),
            (None, Some((tag, Verdict::Keep(_)))) => {
                return Verdict::Keep(Kept::ReplacedBy(tag.clone()));
            }
            (None, _) => Verdict::Condemn(Condemned::WithTag),
        };
    }
    last
}

/// Returns the places of tags among the newest, from 0 on. Aliases, `latest`, attachments, images
/// that were replaced and tags that name nothing have none.
fn ranks(seen: &Seen) -> HashMap<&Tag, usize> {
    let mut images: Vec<(TagVersion, &TagImage)> = seen
        .tags()
        .filter(|tag| !tag.tag.is_attachment() && !tag.is_absent())
        .filter(|tag| {
            replaced(&tag.tag).is_none()
                && tag.tag != Tag::latest()
                && !seen.wanted.aliases.contains(&tag.tag)
        })
        .map(|tag| (TagVersion::of(tag.tag.as_str()), tag))
        .collect();
    // Tags without a version are all alike as versions, so that their dates decide.
    let key = |(version, tag): &(TagVersion, &TagImage)| {
        (
            version.is_version().then(|| version.clone()),
            tag.date,
            version.clone(),
        )
    };
    images.sort_by_cached_key(|image| Reverse(key(image)));
    images
        .iter()
        .enumerate()
        .map(|(rank, (_, tag))| (&tag.tag, rank))
        .collect()
}

fn by_age_and_rank(
    seen: &Seen,
    rank: usize,
    date: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Verdict {
    let min_keep = seen
        .rules
        .iter()
        .map(|rules| rules.min_keep)
        .max()
        .unwrap_or(usize::MAX);
    if rank < min_keep {
        Verdict::Keep(Kept::MinKeep)
    } else if date.is_some_and(|date| now - date < GRACE) {
        Verdict::Keep(Kept::Young)
    } else {
        by_all_rules(&seen.rules, rank, date, now)
    }
}

/// Returns the verdict of all rules: a tag goes when it goes by each of them.
fn by_all_rules(
    rules: &[Retention],
    rank: usize,
    date: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Verdict {
    let mut last = Verdict::Keep(Kept::KeepLast);
    for rules in rules {
        last = by_one(rules, rank, date, now);
        if matches!(last, Verdict::Keep(_)) {
            break;
        }
    }
    last
}

fn by_one(
    rules: &Retention,
    rank: usize,
    date: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Verdict {
    let is_beyond = rank >= rules.keep_last;
    let age = rules.max_age_days.map(|days| {
        let date = date.filter(|date| date.year() >= FIRST_YEAR)?;
        Some(now - date > TimeDelta::days(days.into()))
    });
    let is_old = age == Some(Some(true));
    match rules.condemned_by {
        _ if is_beyond && is_old => Verdict::Condemn(Condemned::BeyondKeepLastAndTooOld),
        CondemnedBy::Any if is_beyond => Verdict::Condemn(Condemned::BeyondKeepLast),
        CondemnedBy::Any if is_old => Verdict::Condemn(Condemned::TooOld),
        CondemnedBy::All if is_beyond && age.is_none() => {
            Verdict::Condemn(Condemned::BeyondKeepLast)
        }
        _ if !is_beyond => Verdict::Keep(Kept::KeepLast),
        _ if age == Some(None) => Verdict::Keep(Kept::AgeUnknown),
        _ => Verdict::Keep(Kept::NotOldEnough),
    }
}

fn by_archive_date(
    seen: &Seen,
    protections: &Protections<'_>,
    keep_days: u32,
    now: DateTime<Utc>,
) -> BTreeMap<Tag, Verdict> {
    let verdict = |tag: &TagImage| {
        if let Err(unseen) = &tag.image {
            return Verdict::Keep(Kept::unseen(unseen));
        }
        if let Some(kept) = protections.reason(&seen.place, tag) {
            return Verdict::Keep(kept);
        }
        if tag.tag.is_attachment() {
            return Verdict::Condemn(Condemned::WithImage);
        }
        match archived_on(&tag.tag)
            .and_then(|date| date.checked_add_days(Days::new(keep_days.into())))
        {
            None => Verdict::Keep(Kept::NotArchived),
            Some(until) if now.date_naive() <= until => Verdict::Keep(Kept::ArchivedUntil(until)),
            Some(_) => Verdict::Condemn(Condemned::Expired),
        }
    };
    seen.tags()
        .map(|tag| (tag.tag.clone(), verdict(tag)))
        .collect()
}

/// Returns the day in a tag of the shape `<tag>-archived.<YYYYMMDD>`.
fn archived_on(tag: &Tag) -> Option<NaiveDate> {
    let (_, date) = tag.as_str().rsplit_once("-archived.")?;
    let is_whole = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
    is_whole
        .then(|| NaiveDate::parse_from_str(date, "%Y%m%d").ok())
        .flatten()
}

/// Returns the tag that an image is archived under on the day of `now`; `None` when it is too long
/// for a tag.
pub(super) fn archive_tag(tag: &Tag, now: DateTime<Utc>) -> Option<Tag> {
    format!("{tag}-archived.{}", now.format("%Y%m%d"))
        .parse()
        .ok()
}

/// Returns the condemned tags that have to stay since others do.
fn dependents(
    seen: &Seen,
    tags: &[&TagImage],
    verdicts: &BTreeMap<Tag, Verdict>,
) -> Vec<(Tag, Kept)> {
    let alive = alive(seen, verdicts);
    let subjects: BTreeSet<Tag> = alive
        .iter()
        .map(|digest| Tag::of_referrers(digest))
        .collect();
    let known: BTreeSet<Tag> = tags
        .iter()
        .flat_map(|tag| &tag.image)
        .flat_map(|tree| tree.digests())
        .map(Tag::of_referrers)
        .collect();
    let is_kept = |tag: &TagImage| matches!(verdicts.get(&tag.tag), Some(Verdict::Keep(_)));
    let mut kept_digests: HashMap<&Digest, &Tag> = HashMap::new();
    for tag in tags.iter().filter(|tag| is_kept(tag)) {
        kept_digests.extend(tag.image.iter().map(|tree| (&tree.digest, &tag.tag)));
    }
    let reason = |tag: &TagImage| {
        if let Some(subject) = subject(&tag.tag) {
            if subjects.contains(&subject) {
                return Some(Kept::AttachedToKept);
            }
            if !known.contains(&subject) && !seen.gone.contains(&subject) {
                return Some(Kept::SubjectUnknown);
            }
        }
        if seen.deletions.tags != Ability::Missing {
            return None;
        }
        let digest = &tag.image.as_ref().ok()?.digest;
        match kept_digests.get(digest) {
            _ if seen.deletions.manifests == Ability::Missing => Some(Kept::NotDeletable),
            _ if !seen.is_known() => Some(Kept::NeighbourUnreadable),
            Some(other) => Some(Kept::SharesDigest((*other).clone())),
            None => alive.contains(digest).then_some(Kept::PartOfKept),
        }
    };
    tags.iter()
        .filter(|tag| !is_kept(tag))
        .filter_map(|tag| Some((tag.tag.clone(), reason(tag)?)))
        .collect()
}

/// Returns the tag that clients keep the list of attachments under, of what a tag is attached to:
/// the same for all kinds of these.
pub(super) fn subject(tag: &Tag) -> Option<Tag> {
    let text = tag.is_attachment().then(|| tag.as_str())?;
    text.split('.').next()?.parse().ok()
}
