//! Tests of the selection.

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
            "8.15.0 8.16.0-SNAPSHOT-5f2c1ab 8.16.0-5f2c1ab7-SNAPSHOT",
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
