//! Selection of the upstream tags of an entry, with the number of tags that each rule leaves out.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::former_order::FormerVersion;
use crate::config::{CountBy, PatternSelection, SortBy, SyncGroup};
use crate::error::{ItemError, Side};
use crate::model::tag::OrderBasis;
use crate::model::{Tag, TagList, TagVersion};
use crate::registry::ListedTag;

/// Selected tags of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectedTags {
    /// Tags, newest first.
    pub tags: Vec<Tag>,
    pub left_out: LeftOutCounts,
    pub warnings: Vec<String>,
}

/// Error of a selection, with the counts up to the rule that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectionError {
    pub error: Box<ItemError>,
    pub left_out: LeftOutCounts,
}

impl From<ItemError> for SelectionError {
    fn from(error: ItemError) -> SelectionError {
        SelectionError {
            error: Box::new(error),
            left_out: LeftOutCounts::default(),
        }
    }
}

/// Number of tags that each rule left out. The rules apply in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOutCounts {
    /// Tags of signatures and other attachments (`sha256-…`), which are never selected.
    pub attachments: usize,
    /// Tags under which `sync` and `cleanup` keep former images, which are never selected.
    pub former: usize,
    /// Tags that `tag_regex` or `semver` does not match.
    pub not_matching: usize,
    pub excluded: usize,
    pub too_young: usize,
    pub pre_releases: usize,
    pub beyond_keep_groups: usize,
    pub beyond_keep_last: usize,
}

/// Returns the tags of `listing` that `pattern` selects at the time `now`.
///
/// Fails if fewer than `min_tags` are selected, or if the selection needs the push date of a tag
/// that has none.
pub fn select(
    pattern: &PatternSelection,
    listing: &[ListedTag],
    now: DateTime<Utc>,
) -> Result<SelectedTags, SelectionError> {
    select_by(TagOrder::Current, pattern, listing, now)
}

/// Returns the tags that `pattern` selects now, and those that it selected before pre-releases were
/// left out and before the present order of tags. `cleanup` keeps all of them, so that an update of
/// imglife deletes nothing.
pub(super) fn select_with_former(
    pattern: &PatternSelection,
    listing: &[ListedTag],
    now: DateTime<Utc>,
) -> Result<SelectedTags, SelectionError> {
    let mut selected = select(pattern, listing, now)?;
    let former = PatternSelection {
        prereleases: pattern.prereleases.or(Some(true)),
        ..pattern.clone()
    };
    let known: HashSet<Tag> = selected.tags.iter().cloned().collect();
    let mut add = |order| {
        if let Ok(other) = select_by(order, &former, listing, now) {
            let new = other.tags.into_iter().filter(|tag| !known.contains(tag));
            selected.tags.extend(new);
        }
    };
    add(TagOrder::Current);
    add(TagOrder::Former);
    Ok(selected)
}

/// Order that decides which tags are the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TagOrder {
    Current,
    /// The order before `model::tag`.
    Former,
}

fn select_by(
    order: TagOrder,
    pattern: &PatternSelection,
    listing: &[ListedTag],
    now: DateTime<Utc>,
) -> Result<SelectedTags, SelectionError> {
    let (mut wanted, mut left_out) = matching(pattern, listing);
    if needs_dates(pattern)
        && let Some(undated) = wanted.iter().find(|listed| listed.pushed_at.is_none())
    {
        return Err(SelectionError {
            error: Box::new(no_dates(pattern, &undated.tag)),
            left_out,
        });
    }
    if let Some(min_age) = pattern.min_age {
        let before = wanted.len();
        wanted.retain(|listed| {
            listed
                .pushed_at
                .is_some_and(|pushed| (now - pushed).to_std().is_ok_and(|age| age >= min_age))
        });
        left_out.too_young = before - wanted.len();
    }
    let list = TagList::of(listing.iter().map(|listed| listed.tag.as_str()));
    if pattern.leaves_pre_releases_out() {
        let before = wanted.len();
        let pre_releases = PreReleases::of(&list, listing);
        wanted.retain(|listed| !pre_releases.contains(listed));
        left_out.pre_releases = before - wanted.len();
    }
    sort_newest_first(&mut wanted, order, pattern.sort);
    let warnings = cut(pattern, &list, &mut wanted, &mut left_out);
    let mut tags: Vec<Tag> = wanted.iter().map(|listed| listed.tag.clone()).collect();
    let selected: HashSet<Tag> = tags.iter().cloned().collect();
    let included = pattern.include.iter();
    tags.extend(included.filter(|tag| !selected.contains(tag)).cloned());
    if tags.len() < pattern.min_tags {
        return Err(SelectionError {
            error: Box::new(too_few(pattern, tags.len(), listing.len(), left_out)),
            left_out,
        });
    }
    Ok(SelectedTags {
        tags,
        left_out,
        warnings,
    })
}

/// Rule that left a tag out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LeftOutReason {
    Attachment,
    Former,
    NotMatching,
    Excluded,
    TooYoung,
    PreRelease,
    BeyondCut,
}

impl LeftOutReason {
    /// All reasons, in the order of the rules.
    pub const ALL: [LeftOutReason; 7] = [
        LeftOutReason::Attachment,
        LeftOutReason::Former,
        LeftOutReason::NotMatching,
        LeftOutReason::Excluded,
        LeftOutReason::TooYoung,
        LeftOutReason::PreRelease,
        LeftOutReason::BeyondCut,
    ];

    /// Returns the reason as text.
    pub fn text(self) -> &'static str {
        match self {
            LeftOutReason::Attachment => "attachment",
            LeftOutReason::Former => "former image",
            LeftOutReason::NotMatching => "not matching",
            LeftOutReason::Excluded => "excluded",
            LeftOutReason::TooYoung => "too young",
            LeftOutReason::PreRelease => "pre-release",
            LeftOutReason::BeyondCut => "beyond keep_last",
        }
    }
}

/// A listed tag, and whether it is selected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TagDecision {
    pub tag: Tag,
    pub selected: bool,
    /// Rule that left the tag out; `None` for a selected tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOutReason>,
}

/// Decisions about all listed tags.
#[derive(Clone, Debug, Default)]
pub struct ExplainedSelection {
    /// Selected tags, newest first, then the others in the order of the listing.
    pub tags: Vec<TagDecision>,
    pub warnings: Vec<String>,
    /// Error of the selection.
    pub error: Option<ItemError>,
}

/// Returns the decision about each tag of `listing`.
pub fn explain(
    pattern: &PatternSelection,
    listing: &[ListedTag],
    now: DateTime<Utc>,
) -> ExplainedSelection {
    let (selected, error) = match select(pattern, listing, now) {
        Ok(selected) => (selected, None),
        Err(rejected) => (SelectedTags::default(), Some(*rejected.error)),
    };
    let list = TagList::of(listing.iter().map(|listed| listed.tag.as_str()));
    let pre_releases = PreReleases::of(&list, listing);
    let reason = |listed: &ListedTag| {
        let text = listed.tag.as_str();
        let is_old_enough = pattern.min_age.is_none_or(|min_age| {
            listed
                .pushed_at
                .is_some_and(|pushed| (now - pushed).to_std().is_ok_and(|age| age >= min_age))
        });
        if listed.tag.is_attachment() {
            LeftOutReason::Attachment
        } else if listed.tag.is_former_image() {
            LeftOutReason::Former
        } else if !pattern.matches_rule(text) {
            LeftOutReason::NotMatching
        } else if !pattern.matches(text) {
            LeftOutReason::Excluded
        } else if !is_old_enough {
            LeftOutReason::TooYoung
        } else if pattern.leaves_pre_releases_out() && pre_releases.contains(listed) {
            LeftOutReason::PreRelease
        } else {
            LeftOutReason::BeyondCut
        }
    };
    let known: HashSet<&Tag> = selected.tags.iter().collect();
    let others = listing
        .iter()
        .filter(|listed| !known.contains(&listed.tag))
        .map(|listed| TagDecision {
            tag: listed.tag.clone(),
            selected: false,
            left_out: Some(reason(listed)),
        });
    let tags = selected.tags.iter().map(|tag| TagDecision {
        tag: tag.clone(),
        selected: true,
        left_out: None,
    });
    ExplainedSelection {
        tags: tags.chain(others).collect(),
        warnings: selected.warnings.clone(),
        error,
    }
}

/// Pre-releases among the listed tags.
struct PreReleases<'a> {
    list: &'a TagList,
    /// Listed pre-releases by digest.
    by_digest: HashMap<&'a str, Vec<TagVersion>>,
}

impl<'a> PreReleases<'a> {
    fn of(list: &'a TagList, listing: &'a [ListedTag]) -> PreReleases<'a> {
        let mut by_digest: HashMap<&str, Vec<TagVersion>> = HashMap::new();
        for listed in listing {
            let version = TagVersion::of(listed.tag.as_str());
            if let Some(digest) = &listed.digest
                && version.has_release()
                && version.is_pre_release()
            {
                by_digest.entry(digest.as_str()).or_default().push(version);
            }
        }
        PreReleases { list, by_digest }
    }

    /// Returns true if a tag is a pre-release or an alias of one: `6.0` with the digest of
    /// `6.0-alpha2`.
    fn contains(&self, listed: &ListedTag) -> bool {
        let version = TagVersion::of(listed.tag.as_str());
        let is_alias = || {
            listed
                .digest
                .as_ref()
                .and_then(|digest| self.by_digest.get(digest.as_str()))
                .is_some_and(|others| others.iter().any(|other| other.is_on_line(&version)))
        };
        self.list.is_pre_release(&version) || is_alias()
    }
}

/// Applies `per`, `keep_groups` and `keep_last` to tags that are sorted, newest first. Returns
/// warnings about a choice by name only.
fn cut(
    pattern: &PatternSelection,
    list: &TagList,
    wanted: &mut Vec<&ListedTag>,
    left_out: &mut LeftOutCounts,
) -> Vec<String> {
    if !pattern.cuts() {
        return Vec::new();
    }
    if pattern.count == CountBy::Versions {
        bring_versions_together(list, wanted);
    }
    let mut groups: HashMap<String, (usize, HashSet<String>)> = HashMap::new();
    let mut last_kept: HashMap<usize, &ListedTag> = HashMap::new();
    let mut warnings = Vec::new();
    let mut kept = Vec::new();
    for (position, listed) in wanted.iter().copied().enumerate() {
        let version = TagVersion::of(listed.tag.as_str());
        let next = groups.len();
        let (group, counted) = groups
            .entry(group(pattern.per, &version))
            .or_insert_with(|| (next, HashSet::new()));
        if pattern.keep_groups.is_some_and(|groups| *group >= groups) {
            left_out.beyond_keep_groups += 1;
            continue;
        }
        let unit = match pattern.count {
            CountBy::Tags => position.to_string(),
            CountBy::Versions => list.exact(&version).version_key(),
        };
        let is_within = counted.contains(&unit)
            || pattern
                .keep_last
                .is_none_or(|keep_last| counted.len() < keep_last);
        if is_within {
            counted.insert(unit);
            last_kept.insert(*group, listed);
            kept.push(listed);
            continue;
        }
        left_out.beyond_keep_last += 1;
        if let Some(last) = last_kept.remove(group)
            && pattern.sort == SortBy::Version
            && compare(last, listed).1 == OrderBasis::Name
        {
            warnings.push(format!(
                "`{}` is selected and `{}` is not, only by their names: they have no version, and the source reports no push dates",
                last.tag, listed.tag
            ));
        }
    }
    *wanted = kept;
    warnings
}

/// Returns the name of the group that a tag counts in. Tags without a version are one group.
fn group(per: Option<SyncGroup>, version: &TagVersion) -> String {
    let line = |numbers: usize| {
        let line = version.release_line().unwrap_or_default();
        let line: Vec<&str> = line
            .iter()
            .take(numbers)
            .map(|number| number.as_str().trim_start_matches('0'))
            .collect();
        line.join(".")
    };
    match per {
        None => String::new(),
        Some(SyncGroup::Variant) => version.variant().to_string(),
        Some(SyncGroup::Minor) => line(2),
        Some(SyncGroup::Major) => line(1),
    }
}

/// Moves all tags of a version next to the newest of them: `3` and `3.21` next to `3.21.3`.
fn bring_versions_together(list: &TagList, tags: &mut [&ListedTag]) {
    let exact = |listed: &&ListedTag| {
        let version = TagVersion::of(listed.tag.as_str());
        list.exact(&version).clone()
    };
    let mut ranks: HashMap<String, usize> = HashMap::new();
    let mut versions: Vec<TagVersion> = tags.iter().map(exact).collect();
    versions.sort_by(|one, other| other.cmp(one));
    for version in &versions {
        let next = ranks.len();
        ranks.entry(version.version_key()).or_insert(next);
    }
    tags.sort_by_cached_key(|listed| ranks.get(&exact(listed).version_key()).copied());
}

/// Returns the newest tag of a mirror that `pattern` matches, or `None` if there is none.
///
/// A pre-release is the newest only if the entry asks for pre-releases, or if there is no release.
///
/// With `os_normalize`, tags that name an OS variant are stored under version tags. A tag then also
/// counts if `pattern` matches its ending after a hyphen.
pub fn newest<'a>(
    pattern: &PatternSelection,
    os_normalize: bool,
    mirror: &'a [ListedTag],
) -> Option<&'a Tag> {
    let mut wanted = matching(pattern, mirror).0;
    if os_normalize {
        let ends_in_variant = |listed: &&ListedTag| {
            let text = listed.tag.as_str();
            text.match_indices('-')
                .any(|(at, _)| pattern.matches_rule(&text[at + 1..]))
        };
        let matched: HashSet<&Tag> = wanted.iter().map(|listed| &listed.tag).collect();
        let others: Vec<&ListedTag> = mirror
            .iter()
            .filter(|listed| !matched.contains(&listed.tag))
            .filter(ends_in_variant)
            .collect();
        wanted.extend(others);
    }
    let included = mirror
        .iter()
        .filter(|listed| pattern.include.contains(&listed.tag));
    wanted.extend(included);
    let list = TagList::of(mirror.iter().map(|listed| listed.tag.as_str()));
    let pre_releases = PreReleases::of(&list, mirror);
    let is_release = |listed: &&ListedTag| !pre_releases.contains(listed);
    if !pattern.expects_pre_releases() && wanted.iter().any(is_release) {
        wanted.retain(is_release);
    }
    sort_newest_first(&mut wanted, TagOrder::Current, pattern.sort);
    wanted.first().map(|listed| &listed.tag)
}

/// Returns true if the patterns select the tag, without regard to its age and rank.
pub fn matches(pattern: &PatternSelection, tag: &Tag) -> bool {
    !tag.is_attachment() && pattern.matches(tag.as_str())
}

/// Returns the tags that match `tag_regex` but not `exclude_regex`, and the counts of the others.
fn matching<'a>(
    pattern: &PatternSelection,
    listing: &'a [ListedTag],
) -> (Vec<&'a ListedTag>, LeftOutCounts) {
    let mut left_out = LeftOutCounts::default();
    let mut wanted = Vec::new();
    for listed in listing {
        let text = listed.tag.as_str();
        if pattern.include.contains(&listed.tag) {
            // Selected whatever the rules say.
        } else if listed.tag.is_attachment() {
            left_out.attachments += 1;
        } else if listed.tag.is_former_image() {
            left_out.former += 1;
        } else if !pattern.matches_rule(text) {
            left_out.not_matching += 1;
        } else if pattern
            .exclude_regex
            .as_ref()
            .is_some_and(|exclude| exclude.regex.is_match(text))
        {
            left_out.excluded += 1;
        } else {
            wanted.push(listed);
        }
    }
    (wanted, left_out)
}

/// Returns true if `pattern` can select tags only when their push dates are available.
pub(super) fn needs_dates(pattern: &PatternSelection) -> bool {
    pattern.min_age.is_some() || pattern.sort == SortBy::Date
}

/// Returns true if push dates, where the store reports them, can change the tags that `pattern`
/// selects. This is so if `keep_last` keeps some of the tags without a version and drops others.
pub(super) fn ranks_by_date(pattern: &PatternSelection, listing: &[ListedTag]) -> bool {
    let Some(keep_last) = pattern.keep_last else {
        return pattern.keep_groups.is_some();
    };
    let (wanted, _) = matching(pattern, listing);
    let versions = wanted
        .iter()
        .filter(|listed| TagVersion::of(listed.tag.as_str()).is_version())
        .count();
    match pattern.per {
        None => versions < keep_last && keep_last < wanted.len(),
        Some(_) => wanted.len() - versions > keep_last,
    }
}

/// Sorts the newest tag first.
///
/// By version, tags with a version come first; the others follow by date, then by name.
fn sort_newest_first(tags: &mut Vec<&ListedTag>, order: TagOrder, by: SortBy) {
    if order == TagOrder::Former {
        tags.sort_by_cached_key(|listed| {
            let version = FormerVersion::of(listed.tag.as_str());
            let is_version = version.is_version();
            let date = listed
                .pushed_at
                .filter(|_| by == SortBy::Date || !is_version);
            std::cmp::Reverse(match by {
                SortBy::Version => (
                    is_version,
                    None,
                    is_version.then(|| version.clone()),
                    date,
                    version,
                ),
                SortBy::Date => (true, date, None, None, version),
            })
        });
        return;
    }
    let mut versions: Vec<(TagVersion, &ListedTag)> = tags
        .iter()
        .map(|listed| (TagVersion::of(listed.tag.as_str()), *listed))
        .collect();
    versions.sort_by(|(one, listed), (other, other_listed)| {
        let by_date = match by {
            SortBy::Version => Ordering::Equal,
            SortBy::Date => other_listed.pushed_at.cmp(&listed.pushed_at),
        };
        by_date.then_with(|| {
            other
                .compare_pushed(other_listed.pushed_at, one, listed.pushed_at)
                .0
        })
    });
    *tags = versions.into_iter().map(|(_, listed)| listed).collect();
}

/// Compares two listed tags by version and push date.
fn compare(one: &ListedTag, other: &ListedTag) -> (Ordering, OrderBasis) {
    TagVersion::of(one.tag.as_str()).compare_pushed(
        one.pushed_at,
        &TagVersion::of(other.tag.as_str()),
        other.pushed_at,
    )
}

/// Returns the error of a selection that needs the push date of `example`, which has none.
fn no_dates(pattern: &PatternSelection, example: &Tag) -> ItemError {
    let setting = if pattern.min_age.is_some() {
        "min_age"
    } else {
        "sort: date"
    };
    let cause = format!(
        "`{setting}` needs the push dates of tags, but the source does not report that of {example}"
    );
    let hint = if pattern.min_age.is_some() {
        "remove `min_age` from this entry; the creation date of an image is not used as its push date"
    } else {
        "set `sort: version`; the creation date of an image is not used as its push date"
    };
    ItemError::other(cause).with_hint(hint).on(Side::Source)
}

/// Returns the error of a selection with fewer tags than `min_tags`.
fn too_few(
    pattern: &PatternSelection,
    selected: usize,
    listed: usize,
    left_out: LeftOutCounts,
) -> ItemError {
    let tags = if listed == 1 { "tag" } else { "tags" };
    let cause = if selected == 0 {
        format!(
            "none of {listed} upstream {tags} is selected by `{}`",
            pattern.describe()
        )
    } else {
        format!(
            "only {selected} of {listed} upstream {tags} are selected, fewer than `min_tags: {}`",
            pattern.min_tags
        )
    };
    if left_out.pre_releases > 0 {
        let cause = format!(
            "{cause}; {} that match are pre-releases",
            left_out.pre_releases
        );
        return ItemError::other(cause).with_hint(
            "set `prereleases: true` to select pre-releases, or `min_tags: 0` to allow an empty selection",
        );
    }
    ItemError::other(cause).with_hint("run `imglife sync --list` to see how many tags each rule leaves out, or set `min_tags: 0` to allow an empty selection")
}

#[cfg(test)]
mod tests;
