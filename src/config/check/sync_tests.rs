//! Mirrors: which selections there are, and entries that get in each other's way.

use insta::assert_snapshot;

use super::tests::{entry, told};

#[test]
fn impossible_selections_are_refused() {
    assert_snapshot!(told(&entry("tag: '3'\ntag_regex: '3'")), @r#"
    imglife.yaml:6:7: sync.entries[0].tag_regex: `tag` and `tag_regex` are both given
      keep the one that says which tags are wanted
    "#);
    assert_snapshot!(told(&entry("check_digest: true")), @r#"
    imglife.yaml:3:7: sync.entries[0]: neither `tag` nor `tag_regex` is given
      add `tag:` for one tag or `tag_regex:` for many
    "#);
    assert_snapshot!(told(&entry("tag: '3'\nexclude_regex: x\nmin_age: 1d\nsort: date\nmin_tags: 2")), @r#"
    imglife.yaml:6:7: sync.entries[0].exclude_regex: `exclude_regex` means nothing for one fixed tag
      remove it, or select tags by `tag_regex` instead of `tag`
    imglife.yaml:7:7: sync.entries[0].min_age: `min_age` means nothing for one fixed tag
      remove it, or select tags by `tag_regex` instead of `tag`
    imglife.yaml:8:7: sync.entries[0].sort: `sort` means nothing for one fixed tag
      remove it, or select tags by `tag_regex` instead of `tag`
    imglife.yaml:9:7: sync.entries[0].min_tags: `min_tags` means nothing for one fixed tag
      remove it, or select tags by `tag_regex` instead of `tag`
    "#);
    assert_snapshot!(told(&entry("tag: 'a b'\nplatforms: [linux/amd64, linux/x86_64, linux]\nreferrers: maybe")), @r#"
    imglife.yaml:5:12: sync.entries[0].tag: `a b` is not a tag: a tag consists of letters, digits, `_`, `.` and `-`, and does not start with `.` or `-`
    imglife.yaml:6:32: sync.entries[0].platforms[1]: the platform `linux/x86_64` is listed twice
      remove one of the two
    imglife.yaml:6:46: sync.entries[0].platforms[2]: `linux` is not a platform: expected `os/architecture` or `os/architecture/variant`, for example `linux/amd64` or `linux/arm/v7`
    imglife.yaml:7:18: sync.entries[0].referrers: expected `true` or `false`, found `maybe`
    "#);
    assert_snapshot!(told(&entry("tag: '3'\nplatforms: []")), @r#"
    imglife.yaml:6:7: sync.entries[0].platforms: the list names no platform
      leave `platforms` out to get the default
    "#);
}

#[test]
fn entries_that_collide_are_refused() {
    let text = "sync:\n  entries:\n    - { source: alpine, target: r.example.com/a, tag: '3' }\n    - { source: busybox, target: r.example.com/a, tag: 3 }\n    - { source: 'ocidir://x/../y', target: 'ocidir://y', tag: '3' }\n";
    assert_snapshot!(told(text), @r#"
    imglife.yaml:4:56: sync.entries[1].tag: `r.example.com/a:3` is already written by another entry (line 3)
      two entries may not write the same tag; change the target or the tag of one
    imglife.yaml:5:44: sync.entries[2].target: source and target are the same repository, `ocidir:///project/y`
      mirror it to another place
    "#);
}
