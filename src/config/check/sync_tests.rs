//! Tests of `sync`: tag selections and conflicts between entries.

use insta::assert_snapshot;

use super::tests::{entry, findings_of, loaded};

#[test]
fn conflicting_selection_keys_are_reported() {
    assert_snapshot!(findings_of(&entry("tag: '3'\ntag_regex: '3'")), @r#"
    imglife.yaml:6:7: sync.entries[0].tag_regex: `tag` and `tag_regex` are both set
      remove one of the two
    "#);
    assert_snapshot!(findings_of(&entry("check_digest: true")), @r#"
    imglife.yaml:3:7: sync.entries[0]: neither `tag` nor `tag_regex` is set
      add `tag:` for one tag or `tag_regex:` for several tags
    "#);
    assert_snapshot!(findings_of(&entry("tag: '3'\nexclude_regex: x\nmin_age: 1d\nsort: date\nmin_tags: 2")), @r#"
    imglife.yaml:6:7: sync.entries[0].exclude_regex: `exclude_regex` has no effect with `tag`
      remove it, or select tags with `tag_regex` instead of `tag`
    imglife.yaml:7:7: sync.entries[0].min_age: `min_age` has no effect with `tag`
      remove it, or select tags with `tag_regex` instead of `tag`
    imglife.yaml:8:7: sync.entries[0].sort: `sort` has no effect with `tag`
      remove it, or select tags with `tag_regex` instead of `tag`
    imglife.yaml:9:7: sync.entries[0].min_tags: `min_tags` has no effect with `tag`
      remove it, or select tags with `tag_regex` instead of `tag`
    "#);
    assert_snapshot!(findings_of(&entry("tag: 'a b'\nplatforms: [linux/amd64, linux/x86_64, linux]\nreferrers: maybe")), @r#"
    imglife.yaml:5:12: sync.entries[0].tag: `a b` is not a tag: a tag consists of letters, digits, `_`, `.` and `-`, and does not start with `.` or `-`
    imglife.yaml:6:32: sync.entries[0].platforms[1]: the platform `linux/x86_64` is listed twice
      remove one of the two
    imglife.yaml:6:46: sync.entries[0].platforms[2]: `linux` is not a platform: expected `os/architecture` or `os/architecture/variant`, for example `linux/amd64` or `linux/arm/v7`
    imglife.yaml:7:18: sync.entries[0].referrers: expected `true` or `false`, found `maybe`
    "#);
    assert_snapshot!(findings_of(&entry("tag: '3'\nplatforms: []")), @r#"
    imglife.yaml:6:7: sync.entries[0].platforms: the list contains no platform
      remove `platforms` to use the default
    "#);
}

#[test]
fn selection_keys_without_effect_are_reported() {
    assert_snapshot!(findings_of(&entry("include: [latest]\nkeep_last: 2\nper: minor")), @r#"
    imglife.yaml:6:7: sync.entries[0].keep_last: `keep_last` has no effect without `tag_regex` or `semver`
      remove it, or add `tag_regex`; the tags in `include` are always copied
    imglife.yaml:7:7: sync.entries[0].per: `per` has no effect without `tag_regex` or `semver`
      remove it, or add `tag_regex`; the tags in `include` are always copied
    "#);
    assert_snapshot!(findings_of(&entry("tag_regex: '3.*'\nper: minor\nkeep_groups: 2\ncount: versions")), @r#"
    imglife.yaml:8:7: sync.entries[0].count: `count` has no effect without `keep_last`
      add `keep_last`, the number of newest versions
    "#);
    assert_snapshot!(findings_of(&entry("tag_regex: '3.*'\nkeep_groups: 2")), @r#"
    imglife.yaml:6:7: sync.entries[0].keep_groups: `keep_groups` has no effect without `per`
      add `per: variant`, `per: minor` or `per: major`
    "#);
    assert_snapshot!(findings_of(&entry("semver: '>=3.x.1'\nkeep_last: 2")), @r#"
    imglife.yaml:5:15: sync.entries[0].semver: `3.x.1` is not a version
      write conditions such as `>=3.20, <4`, `~3.21` or `3.x`, and `||` between alternatives
    "#);
    for valid in [
        "semver: '>=3.20, <4'",
        "include: [latest, edge]",
        "tag_regex: '3.*'\ninclude: [latest]\nkeep_last: 2\nper: variant\nkeep_groups: 3\ncount: versions",
        "tag_regex: '3.*'\nper: major\nkeep_groups: 2",
        "tag: 3.21.3@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "tag: latest\ncheck_digest: auto",
        "tag_regex: '3.*'\nprereleases: true",
    ] {
        assert!(loaded(&entry(valid), &[]).sync.is_some(), "{valid}");
    }
}

#[test]
fn entries_that_write_the_same_tag_are_reported() {
    let text = "sync:\n  entries:\n    - { source: alpine, target: r.example.com/a, tag: '3' }\n    - { source: busybox, target: r.example.com/a, tag: 3 }\n    - { source: 'ocidir://x/../y', target: 'ocidir://y', tag: '3' }\n";
    assert_snapshot!(findings_of(text), @r#"
    imglife.yaml:4:56: sync.entries[1].tag: another entry already writes `r.example.com/a:3` (line 3)
      change the target or the tag of one of the entries
    imglife.yaml:5:44: sync.entries[2].target: the source and the target are the same repository, `ocidir:///project/y`
      set a different target
    "#);
}
