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
mod tests {
    use std::time::Duration;

    use chrono::TimeZone;
    use regex::Regex;

    use super::*;
    use crate::config::TagPattern;

    fn tag_pattern(text: &str) -> TagPattern {
        TagPattern {
            text: text.to_owned(),
            regex: Regex::new(&format!("^(?:{text})$")).expect("a pattern"),
        }
    }

    fn pattern(tag_regex: &str) -> PatternSelection {
        PatternSelection::by_pattern(tag_pattern(tag_regex))
    }

    fn now() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0)
            .single()
            .expect("a time")
    }

    /// Returns a listing of `tags`, separated by spaces. `TAG~DAYS` was pushed that many days ago.
    fn listing(tags: &str) -> Vec<ListedTag> {
        let listed = |text: &str| {
            let (tag, days) = text
                .split_once('~')
                .map_or((text, None), |(tag, days)| (tag, days.parse::<i64>().ok()));
            ListedTag {
                pushed_at: days.map(|days| now() - chrono::Duration::days(days)),
                ..ListedTag::named(tag.parse().expect("a tag"))
            }
        };
        tags.split_whitespace().map(listed).collect()
    }

    fn selected(pattern: &PatternSelection, tags: &str) -> String {
        match select(pattern, &listing(tags), now()) {
            Ok(selected) => selected
                .tags
                .iter()
                .map(Tag::as_str)
                .collect::<Vec<_>>()
                .join(" "),
            Err(rejected) => format!("error: {}", rejected.error),
        }
    }

    #[test]
    fn selection_keeps_the_newest_versions_and_counts_the_others_by_rule() {
        let pattern = PatternSelection {
            exclude_regex: Some(tag_pattern(r".*-rc\d+")),
            keep_last: Some(2),
            ..pattern(r"3\.\d+\.\d+(-rc\d+)?")
        };
        let attachment = format!("sha256-{}.sig", "a".repeat(64));
        let listing = listing(&format!(
            "3.9.0 3.10.0 3.10.1 3.11.0-rc1 latest edge {attachment}"
        ));
        let selected = select(&pattern, &listing, now()).expect("a selection");
        assert_eq!(
            selected.tags.iter().map(Tag::as_str).collect::<Vec<_>>(),
            ["3.10.1", "3.10.0"]
        );
        let counts = LeftOutCounts {
            attachments: 1,
            former: 0,
            not_matching: 2,
            excluded: 1,
            too_young: 0,
            pre_releases: 0,
            beyond_keep_groups: 0,
            beyond_keep_last: 1,
        };
        assert_eq!(selected.left_out, counts);
        assert_eq!(
            selected.tags.len() + 5,
            listing.len(),
            "every tag is selected or counted"
        );
    }

    /// Returns the selected tags, and the numbers of pre-releases and of tags beyond the cuts.
    fn cut(pattern: &PatternSelection, tags: &str) -> (String, usize, usize) {
        let left_out = match select(pattern, &listing(tags), now()) {
            Ok(selected) => selected.left_out,
            Err(rejected) => rejected.left_out,
        };
        (
            selected(pattern, tags),
            left_out.pre_releases,
            left_out.beyond_keep_last + left_out.beyond_keep_groups,
        )
    }

    #[test]
    fn pre_releases_are_left_out_of_a_cut() {
        let newest = PatternSelection {
            keep_last: Some(1),
            ..pattern(".*")
        };
        for (tags, expected) in [
            ("v3.11.0 v3.11.0-0.dev-44-gb88dacb v3.10.9", "v3.11.0"),
            ("v3.11.0-0.dev-57-g0507726 v3.10.9", "v3.10.9"),
            (
                "slim-2.10.2-python3.12 slim-2.10.3rc1-python3.12",
                "slim-2.10.2-python3.12",
            ),
            (
                "8.15.0 8.16.0-SNAPSHOT-5f2c1ab 8.16.0-5f2c1abd-SNAPSHOT",
                "8.15.0",
            ),
            ("13.0.1-ubi 13.0.2-ubi-rc", "13.0.1-ubi"),
            (
                "4.1.2-apache 5.0.0-beta.5-apache 5.0-apache",
                "4.1.2-apache",
            ),
            ("3.15.0rc1 3.15-rc 3.14.7", "3.14.7"),
        ] {
            assert_eq!(selected(&newest, tags), expected, "{tags}");
        }
        let all = pattern(".*");
        assert_eq!(selected(&all, "1.0 1.1-rc1"), "1.1-rc1 1.0", "no cut");
        let with = |prereleases, tag_regex| PatternSelection {
            prereleases,
            keep_last: Some(1),
            ..pattern(tag_regex)
        };
        for (pattern, expected) in [
            (with(Some(true), ".*"), "1.1-rc1"),
            (
                with(Some(false), r".*-rc\d"),
                "error: none of 2 upstream tags is selected by `tag_regex: .*-rc\\d`; 1 that match are pre-releases",
            ),
            (with(None, r".*(-rc\d)?"), "1.1-rc1"),
            (with(None, ".*"), "1.0"),
        ] {
            assert_eq!(selected(&pattern, "1.0 1.1-rc1"), expected);
        }
        let without = PatternSelection {
            prereleases: Some(false),
            ..pattern(".*")
        };
        assert_eq!(cut(&without, "1.0 1.1-rc1 edge"), ("1.0".to_owned(), 2, 0));
    }

    #[test]
    fn alias_with_the_digest_of_a_pre_release_is_a_pre_release() {
        let mut listing = listing("6.0 6.0-alpha2 5.0.9");
        for listed in &mut listing[..2] {
            listed.digest = Some(crate::model::Digest::sha256(b"alpha"));
        }
        let newest = PatternSelection {
            keep_last: Some(1),
            ..pattern(".*")
        };
        let selected = select(&newest, &listing, now()).expect("a selection");
        assert_eq!(
            selected.tags.iter().map(Tag::as_str).collect::<Vec<_>>(),
            ["5.0.9"]
        );
    }

    #[test]
    fn semver_selects_by_release_numbers_beside_the_pattern() {
        let range = |semver: &str, tag_regex: Option<&str>| PatternSelection {
            semver: Some(semver.parse().expect("a range")),
            tag_regex: tag_regex.map(tag_pattern),
            ..pattern("")
        };
        let tags = "3.19.9 3.20.1 3.21.3 3.21.3-slim 4.0 latest";
        for (pattern, expected) in [
            (range(">=3.20, <4", None), "3.21.3 3.21.3-slim 3.20.1"),
            (range(">=3.20, <4", Some(r"\d+\.\d+\.\d+")), "3.21.3 3.20.1"),
            (
                range("3.x || 4", Some(r"[\d.]+")),
                "4.0 3.21.3 3.20.1 3.19.9",
            ),
        ] {
            assert_eq!(selected(&pattern, tags), expected);
        }
    }

    #[test]
    fn included_tags_are_selected_whatever_the_rules_say() {
        let newest = PatternSelection {
            include: vec![
                "3.19".parse().expect("a tag"),
                "gone".parse().expect("a tag"),
            ],
            keep_last: Some(2),
            exclude_regex: Some(tag_pattern("3.19")),
            ..pattern(r"3\.\d+")
        };
        assert_eq!(
            cut(&newest, "3.19 3.20 3.21 3.22"),
            ("3.22 3.21 3.19 gone".to_owned(), 0, 1)
        );
        let listed = PatternSelection {
            tag_regex: None,
            include: vec!["latest".parse().expect("a tag")],
            ..pattern("")
        };
        assert_eq!(selected(&listed, "latest 1.0"), "latest");
    }

    #[test]
    fn keep_last_counts_in_groups() {
        let per = |per, keep_last, keep_groups| PatternSelection {
            per: Some(per),
            keep_last,
            keep_groups,
            ..pattern(".*")
        };
        let tags = "3.22.0 3.21.3 3.21.2 3.21.1 3.20.6 3.20.5 2.9.1 3.22.1-rc1";
        for (pattern, expected) in [
            (
                per(SyncGroup::Minor, Some(2), Some(3)),
                ("3.22.0 3.21.3 3.21.2 3.20.6 3.20.5", 1, 2),
            ),
            (
                per(SyncGroup::Minor, Some(1), None),
                ("3.22.0 3.21.3 3.20.6 2.9.1", 1, 3),
            ),
            (per(SyncGroup::Major, Some(1), None), ("3.22.0 2.9.1", 1, 5)),
            (per(SyncGroup::Minor, None, Some(1)), ("3.22.0", 1, 6)),
        ] {
            assert_eq!(
                cut(&pattern, tags),
                (expected.0.to_owned(), expected.1, expected.2)
            );
        }
        assert_eq!(
            selected(
                &per(SyncGroup::Variant, Some(1), None),
                "9.7.1-jdk25 9.7.1-jdk21 9.7.0-jdk25 9.7.0 9.6.0-jdk17"
            ),
            "9.7.1-jdk25 9.7.1-jdk21 9.7.0 9.6.0-jdk17"
        );
    }

    #[test]
    fn spellings_of_a_version_count_once() {
        let newest = |count| PatternSelection {
            count,
            keep_last: Some(2),
            ..pattern(".*-alpine.*")
        };
        let tags = "26-alpine 26.7-alpine 26.7.0-alpine 26.7.0-alpine3.24 24-alpine 24.19-alpine \
                    24.19.0-alpine 24.18.0-alpine 22.1.0-alpine 26.7.0-slim";
        assert_eq!(
            selected(&newest(CountBy::Tags), tags),
            "26.7.0-alpine 26.7-alpine"
        );
        assert_eq!(
            selected(&newest(CountBy::Versions), tags),
            "26.7.0-alpine 26.7-alpine 26.7.0-alpine3.24 26-alpine 24.19.0-alpine 24.19-alpine 24-alpine"
        );
    }

    #[test]
    fn choice_by_name_only_is_a_warning() {
        let newest = PatternSelection {
            keep_last: Some(1),
            ..pattern(".*")
        };
        let warnings = |tags: &str| {
            select(&newest, &listing(tags), now())
                .expect("a selection")
                .warnings
        };
        assert_eq!(
            warnings("blue green"),
            [
                "`green` is selected and `blue` is not, only by their names: they have no version, and the source reports no push dates"
            ]
        );
        for tags in ["blue~3 green~1", "bookworm trixie", "1.0 blue", "1.0 1.1"] {
            assert!(warnings(tags).is_empty(), "{tags}");
        }
    }

    #[test]
    fn cleanup_keeps_what_former_rules_selected() {
        let newest = PatternSelection {
            keep_last: Some(1),
            ..pattern(".*")
        };
        let kept = |tags: &str| {
            let selected = select_with_former(&newest, &listing(tags), now());
            let mut tags: Vec<String> = selected
                .expect("a selection")
                .tags
                .iter()
                .map(ToString::to_string)
                .collect();
            tags.sort();
            tags.dedup();
            tags.join(" ")
        };
        assert_eq!(kept("1.0 1.1-rc1 0.9"), "1.0 1.1-rc1");
        assert_eq!(
            kept("1.0 1.0-0.dev-57-g0507726"),
            "1.0 1.0-0.dev-57-g0507726"
        );
        assert_eq!(kept("2.0 20240501 1.9"), "2.0 20240501");
    }

    #[test]
    fn an_alternation_matches_whole_tags_only() {
        assert_eq!(
            selected(&pattern(r"1\.2|latest"), "1.2 1.2.3 my-latest latest"),
            "1.2 latest"
        );
    }

    #[test]
    fn attachments_are_never_selected() {
        let attachment = format!("sha256-{}", "b".repeat(64));
        assert_eq!(
            selected(&pattern(".*"), &format!("1 {attachment} {attachment}.att")),
            "1"
        );
    }

    #[test]
    fn former_images_are_never_selected() {
        let listing = listing("1 1-replaced.20260101 1-archived.20260101 1-retired.20260101");
        let selected = select(&pattern(".*"), &listing, now()).expect("a selection");
        assert_eq!((selected.tags.len(), selected.left_out.former), (1, 3));
    }

    #[test]
    fn tags_without_a_version_come_last_by_date_or_name() {
        let newest_two = PatternSelection {
            keep_last: Some(2),
            ..pattern(".*")
        };
        assert_eq!(selected(&newest_two, "latest 1.0 current"), "1.0 latest");
        assert_eq!(
            selected(&newest_two, "latest~9 current~3 1.0~100"),
            "1.0 current"
        );
    }

    #[test]
    fn dates_rank_only_if_keep_last_drops_tags_without_a_version() {
        let newest = |count| PatternSelection {
            keep_last: Some(count),
            ..pattern("[^x].*")
        };
        for (pattern, tags, expected) in [
            (newest(2), "1.0 edge latest", true),
            (newest(2), "1.0 1.1 latest edge", false),
            (newest(3), "1.0 latest edge", false),
            (newest(1), "1.0 1.1", false),
            (newest(1), "1.0 x latest", false),
            (newest(1), "latest x", false),
            (newest(1), "latest edge", true),
            (pattern(".*"), "latest edge", false),
        ] {
            assert_eq!(ranks_by_date(&pattern, &listing(tags)), expected, "{tags}");
        }
    }

    #[test]
    fn sort_by_date_ignores_versions() {
        let newest = PatternSelection {
            sort: SortBy::Date,
            keep_last: Some(2),
            ..pattern(".*")
        };
        assert_eq!(selected(&newest, "2.0~5 1.9~1 1.8~2"), "1.9 1.8");
    }

    #[test]
    fn min_age_applies_before_keep_last() {
        let old_enough = PatternSelection {
            min_age: Some(Duration::from_secs(7 * 86_400)),
            keep_last: Some(1),
            ..pattern(".*")
        };
        assert_eq!(selected(&old_enough, "2.0~3 1.9~7 1.8~30"), "1.9");
    }

    #[test]
    fn min_age_fails_for_a_tag_without_a_push_date() {
        let old_enough = PatternSelection {
            min_age: Some(Duration::from_secs(60)),
            ..pattern("2.*")
        };
        assert_eq!(
            selected(&old_enough, "2.0~3 2.1 other"),
            "error: `min_age` needs the push dates of tags, but the source does not report that of 2.1"
        );
    }

    #[test]
    fn fewer_tags_than_min_tags_are_an_error() {
        assert_eq!(
            selected(&pattern("9.*"), "1 2"),
            "error: none of 2 upstream tags is selected by `tag_regex: 9.*`"
        );
        let at_least = |min_tags| PatternSelection {
            min_tags,
            ..pattern("1.*")
        };
        assert_eq!(
            selected(&at_least(3), "1.1 1.2 2"),
            "error: only 2 of 3 upstream tags are selected, fewer than `min_tags: 3`"
        );
        assert_eq!(selected(&at_least(0), "2"), "");
    }
}
