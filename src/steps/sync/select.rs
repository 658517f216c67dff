//! Selection of the upstream tags of an entry, with the number of tags that each rule leaves out.

use std::cmp::Ordering;
use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::config::{PatternSelection, SortBy};
use crate::error::{ItemError, Side};
use crate::model::{Tag, TagVersion};
use crate::registry::ListedTag;

/// Selected tags of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectedTags {
    /// Tags, newest first.
    pub tags: Vec<Tag>,
    pub left_out: LeftOutCounts,
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
    pub not_matching: usize,
    pub excluded: usize,
    pub too_young: usize,
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
    sort_newest_first(&mut wanted, pattern.sort);
    if let Some(keep_last) = pattern.keep_last {
        left_out.beyond_keep_last = wanted.len().saturating_sub(keep_last);
        wanted.truncate(keep_last);
    }
    if wanted.len() < pattern.min_tags {
        return Err(SelectionError {
            error: Box::new(too_few(pattern, wanted.len(), listing.len())),
            left_out,
        });
    }
    Ok(SelectedTags {
        tags: wanted
            .into_iter()
            .map(|listed| listed.tag.clone())
            .collect(),
        left_out,
    })
}

/// Returns the newest tag of a mirror that `pattern` matches, or `None` if there is none.
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
                .any(|(at, _)| pattern.tag_regex.regex.is_match(&text[at + 1..]))
        };
        let matched: HashSet<&Tag> = wanted.iter().map(|listed| &listed.tag).collect();
        let others: Vec<&ListedTag> = mirror
            .iter()
            .filter(|listed| !matched.contains(&listed.tag))
            .filter(ends_in_variant)
            .collect();
        wanted.extend(others);
    }
    sort_newest_first(&mut wanted, pattern.sort);
    wanted.first().map(|listed| &listed.tag)
}

/// Returns true if the patterns select the tag, without regard to its age and rank.
pub fn matches(pattern: &PatternSelection, tag: &Tag) -> bool {
    let text = tag.as_str();
    !tag.is_attachment()
        && pattern.tag_regex.regex.is_match(text)
        && !pattern
            .exclude_regex
            .as_ref()
            .is_some_and(|exclude| exclude.regex.is_match(text))
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
        if listed.tag.is_attachment() {
            left_out.attachments += 1;
        } else if listed.tag.is_former_image() {
            left_out.former += 1;
        } else if !pattern.tag_regex.regex.is_match(text) {
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
        return false;
    };
    let (wanted, _) = matching(pattern, listing);
    let versions = wanted
        .iter()
        .filter(|listed| TagVersion::of(listed.tag.as_str()).is_version())
        .count();
    versions < keep_last && keep_last < wanted.len()
}

/// Sorts the newest tag first.
///
/// By version, tags with a version come first; the others follow by date, then by name.
fn sort_newest_first(tags: &mut Vec<&ListedTag>, by: SortBy) {
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
fn too_few(pattern: &PatternSelection, selected: usize, listed: usize) -> ItemError {
    let tags = if listed == 1 { "tag" } else { "tags" };
    let cause = if selected == 0 {
        format!(
            "none of {listed} upstream {tags} is selected by `tag_regex: {}`",
            pattern.tag_regex.text
        )
    } else {
        format!(
            "only {selected} of {listed} upstream {tags} are selected, fewer than `min_tags: {}`",
            pattern.min_tags
        )
    };
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
        PatternSelection {
            tag_regex: tag_pattern(tag_regex),
            exclude_regex: None,
            min_age: None,
            sort: SortBy::Version,
            keep_last: None,
            min_tags: 1,
        }
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
            beyond_keep_last: 1,
        };
        assert_eq!(selected.left_out, counts);
        assert_eq!(
            selected.tags.len() + 5,
            listing.len(),
            "every tag is selected or counted"
        );
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
