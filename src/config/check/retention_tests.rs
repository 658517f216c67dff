//! What is deleted, and archives.

use insta::assert_snapshot;

use super::tests::{entry, loaded, told};

#[test]
fn two_repositories_do_not_share_an_archive() {
    let text = "sync:
  entries:
    - { source: a.example.com/alpine, target: r1.example.com/mirror/alpine, tag: '3' }
    - { source: b.example.com/alpine, target: r1.example.com/mirror/alpine, tag: '4' }
    - { source: c.example.com/alpine, target: r2.example.com/mirror/alpine, tag: '3' }
retention:
  archive: { enabled: true, registry: archive.example.com }
";
    assert_snapshot!(told(text), @r#"
    imglife.yaml:7:39: retention.archive.registry: `r1.example.com/mirror/alpine` and `r2.example.com/mirror/alpine` would share the archive `archive.example.com/mirror/alpine`
      give one of them a `retention.archive.registry` of its own
    "#);
    loaded(&text.replace("r2.example.com/mirror", "r2.example.com/mirrors"), &[]);
}

#[test]
fn an_archive_does_not_lie_in_a_configured_repository() {
    let rules = |registry: &str| format!("{}retention:\n  archive:\n    enabled: true\n    registry: {registry}\n", entry("tag: '3'"));
    let config = loaded(&rules("registry.example.com/archive"), &[]);
    assert_eq!(config.retention.and_then(|rules| rules.archive).map(|archive| archive.keep_days), Some(90));
    assert_snapshot!(told(&rules("registry.example.com")), @r#"
    imglife.yaml:9:15: retention.archive.registry: the archive would lie in the configured repository `registry.example.com/mirrors/alpine`
      choose another base path
    "#);
    assert_snapshot!(told(&rules("registry.example.com/mirrors/alpine")), @r#"
    imglife.yaml:9:15: retention.archive.registry: the archive would lie in the configured repository `registry.example.com/mirrors/alpine`
      choose another base path
    "#);
    assert_snapshot!(told("retention:\n  archive: { enabled: true }\n  max_delete_percent: 101\n  exclude_tags: ['/a', 'b c']\n"), @r#"
    imglife.yaml:1:1: retention: the archive is enabled and has no `registry`
      add `archive.registry:` with a base path
    imglife.yaml:3:23: retention.max_delete_percent: expected a number from 0 to 100, found `101`
    imglife.yaml:4:18: retention.exclude_tags[0]: expected a tag or a `/regex/`, found `/a`
      end the regular expression with `/`
    imglife.yaml:4:24: retention.exclude_tags[1]: `b c` is not a tag: tags consist of letters, digits, `_`, `.` and `-`, and start with none of the last two
    "#);
}
