//! Tests of `retention` and archives.

use insta::assert_snapshot;

use super::tests::{entry, findings_of, loaded};

#[test]
fn archives_shared_by_two_repositories_are_reported() {
    let text = "sync:
  entries:
    - { source: a.example.com/alpine, target: r1.example.com/mirror/alpine, tag: '3' }
    - { source: b.example.com/alpine, target: r1.example.com/mirror/alpine, tag: '4' }
    - { source: c.example.com/alpine, target: r2.example.com/mirror/alpine, tag: '3' }
retention:
  archive: { enabled: true, registry: archive.example.com }
";
    assert_snapshot!(findings_of(text), @r#"
    imglife.yaml:7:39: retention.archive.registry: `r1.example.com/mirror/alpine` and `r2.example.com/mirror/alpine` would share the archive `archive.example.com/mirror/alpine`
      set a different `retention.archive.registry` for one of them
    "#);
    loaded(
        &text.replace("r2.example.com/mirror", "r2.example.com/mirrors"),
        &[],
    );
}

#[test]
fn archives_are_compared_by_canonical_name() {
    let entry = |host: &str, tag: &str, archive: &str| {
        format!(
            "    - {{ source: a.example.com/alpine, target: {host}/m/alpine, tag: '{tag}', retention: {{ archive: {{ enabled: true, registry: '{archive}' }} }} }}\n"
        )
    };
    let text = |one: &str, other: &str| {
        format!(
            "hosts:\n  alias.example.com: {{ endpoint: 'https://cold.example.com' }}\n  one.example.com: {{ endpoint: 'https://proxy.example.com/cold/' }}\n  \
             two.example.com: {{ endpoint: 'https://proxy.example.com:443/cold' }}\n  three.example.com: {{ endpoint: 'https://proxy.example.com/warm' }}\n\
             sync:\n  entries:\n{}{}retention: {{}}\n",
            entry("r1.example.com", "3", one),
            entry("r2.example.com", "3", other)
        )
    };
    for (one, other) in [
        ("cold.example.com", "alias.example.com"),
        ("cold.example.com:443/x", "alias.example.com/x"),
        ("one.example.com", "two.example.com"),
    ] {
        let findings = findings_of(&text(one, other));
        assert!(
            findings.contains(&format!("would share the archive `{other}/")),
            "{one} {other}: {findings}"
        );
    }
    for (one, other) in [
        ("one.example.com", "three.example.com"),
        ("one.example.com", "proxy.example.com/cold"),
    ] {
        loaded(&text(one, other), &[]);
    }
    // Two names of the same repository may share an archive.
    loaded(
        &text("cold.example.com", "alias.example.com")
            .replace("r2.example.com", "r1.example.com:443"),
        &[],
    );
    // An archive in a configured repository is recognised under another name of it.
    let findings = findings_of(&text("r2.example.com:443", "cold.example.com/x"));
    assert!(
        findings.contains(
            "the archive would be in the configured repository `r2.example.com/m/alpine`"
        ),
        "{findings}"
    );
}

#[test]
fn archives_in_a_configured_repository_are_reported() {
    let rules = |registry: &str| {
        format!(
            "{}retention:\n  archive:\n    enabled: true\n    registry: {registry}\n",
            entry("tag: '3'")
        )
    };
    let config = loaded(&rules("registry.example.com/archive"), &[]);
    assert_eq!(
        config
            .retention
            .and_then(|rules| rules.archive)
            .map(|archive| archive.keep_days),
        Some(90)
    );
    assert_snapshot!(findings_of(&rules("registry.example.com")), @r#"
    imglife.yaml:9:15: retention.archive.registry: the archive would be in the configured repository `registry.example.com/mirrors/alpine`
      set a different base path
    "#);
    assert_snapshot!(findings_of(&rules("registry.example.com/mirrors/alpine")), @r#"
    imglife.yaml:9:15: retention.archive.registry: the archive would be in the configured repository `registry.example.com/mirrors/alpine`
      set a different base path
    "#);
    assert_snapshot!(findings_of("retention:\n  archive: { enabled: true }\n  max_delete_percent: 101\n  exclude_tags: ['/a', 'b c']\n"), @r#"
    imglife.yaml:1:1: retention: the archive is enabled but has no `registry`
      add `archive.registry:` with a base path
    imglife.yaml:3:23: retention.max_delete_percent: expected a number from 0 to 100, found `101`
    imglife.yaml:4:18: retention.exclude_tags[0]: expected a tag or a `/regex/`, found `/a`
      add a `/` at the end of the regular expression
    imglife.yaml:4:24: retention.exclude_tags[1]: `b c` is not a tag: a tag consists of letters, digits, `_`, `.` and `-`, and does not start with `.` or `-`
    "#);
}

#[test]
fn keys_of_the_whole_cleanup_are_checked_and_general_only() {
    let own = "retention: { repositories: [a/*], foreign_bases: [a/*], hold: ['a:1'], keep_from: ['-'], sources: [x], keep_deployed: { environments: [a] } }";
    let findings = findings_of(&entry(&format!("tag: 3.21.3\n{own}\n")));
    for key in [
        "repositories",
        "foreign_bases",
        "hold",
        "keep_from",
        "sources",
        "keep_deployed",
    ] {
        let finding = format!("retention.{key}: `{key}` applies to the whole cleanup");
        assert!(findings.contains(&finding), "{key}: {findings}");
    }
    for (rules, finding) in [
        ("foreign_bases: ['a[']", "is not a pattern"),
        ("foreign_bases: ['a b']", "expected a repository"),
        ("hold: [r.example.com/a]", "has no tag and no digest"),
        ("hold: ['r.example.com/A:1']", "must be lower case"),
        (
            "keep_from: ['https://user:pw@inventory.example.com/x']",
            "contains a user name or a password",
        ),
        ("keep_from: ['-', '-']", "it is in the list twice"),
        ("keep_deployed: {}", "environments"),
        (
            "keep_deployed: { environments: [] }",
            "the list has no environment",
        ),
        (
            "keep_deployed: { environments: ['a['] }",
            "is not a pattern",
        ),
        (
            "keep_deployed: { environments: [a], per_environment: 0 }",
            "expected a number from 1 to 100",
        ),
        (
            "keep_deployed: { environments: [a] }",
            "`keep_deployed` needs the deployments of a GitLab server",
        ),
    ] {
        let findings = findings_of(&format!("retention: {{ {rules} }}\n"));
        assert!(findings.contains(finding), "{rules}: {findings}");
    }
    let config = loaded(
        "retention: { foreign_bases: ['ocidir://bases/*'], keep_from: [used.txt, '-'], hold: ['ocidir://bases/a:1'] }\n",
        &[],
    );
    let keepers = config.retention.and_then(|rules| rules.keepers);
    let keepers = keepers.expect("keys of the whole cleanup");
    let layout = "ocidir:///project/bases/a".parse().expect("a repository");
    assert!(keepers.foreign_bases[0].matches(&layout));
    assert_eq!(
        keepers.keep_from[0].to_string(),
        "/project/used.txt",
        "files are relative to the configuration"
    );
    assert_eq!(keepers.hold[0].to_string(), "ocidir:///project/bases/a:1");
}

#[test]
fn keep_deployed_needs_gitlab() {
    let with = |registry: &str| {
        format!(
            "registry: {{ {registry} }}\nretention: {{ keep_deployed: {{ environments: [production, 'eu/*'] }} }}\n"
        )
    };
    let config = loaded(
        &with("provider: gitlab, url: 'https://gitlab.example.com', project_id: 7"),
        &[],
    );
    let keepers = config.retention.and_then(|rules| rules.keepers);
    let deployed = keepers.and_then(|keepers| keepers.keep_deployed);
    let deployed = deployed.expect("deployments to keep");
    let (name, pattern) = (&deployed.environments[0], &deployed.environments[1]);
    assert!(name.is_name() && name.matches("production") && !name.matches("production/eu"));
    assert!(!pattern.is_name() && pattern.matches("eu/west/1") && !pattern.matches("us/west"));
    assert_eq!(deployed.per_environment, 3);
    for registry in [
        "provider: gitea, url: 'https://gitea.example.com', owner: team",
        "provider: s3, bucket: records",
        "provider: file, path: records",
    ] {
        let findings = findings_of(&with(registry));
        assert!(
            findings.contains("`keep_deployed` needs the deployments of a GitLab server"),
            "{registry}: {findings}"
        );
    }
}
