//! Tests of the conversion: every converted file is a valid configuration.

use std::path::Path;

use super::*;
use crate::config::{Config, load};
use crate::model::Variables;

fn converted(text: &str) -> ImportedFile {
    let source = SourceText {
        name: "file.yaml".to_owned(),
        text: text.to_owned(),
    };
    import(&source, DEFAULT_TARGET_PREFIX).unwrap_or_else(|error| panic!("{error}"))
}

fn loaded(text: &str) -> Config {
    let source = SourceText {
        name: "imglife.yaml".to_owned(),
        text: text.to_owned(),
    };
    let variables: Variables = [("ORG", "team")].into_iter().collect();
    load(&source, Path::new("/project"), &variables)
        .unwrap_or_else(|errors| panic!("{}\n{text}", errors.render(false)))
}

/// Returns the entries of the converted file, a line each.
fn entries(file: &ImportedFile) -> Vec<String> {
    let sync = loaded(&file.text).sync.expect("entries");
    assert_eq!(sync.entries.len(), file.entries);
    sync.entries
        .iter()
        .map(|entry| {
            let selection = match &entry.selection {
                crate::config::TagSelection::Fixed(tag) => format!("tag: {tag}"),
                crate::config::TagSelection::Pattern(pattern) => {
                    let exclude = pattern
                        .exclude_regex
                        .as_ref()
                        .map(|exclude| format!(", not {}", exclude.text))
                        .unwrap_or_default();
                    let keep = pattern
                        .keep_last
                        .map(|keep| format!(", newest {keep}"))
                        .unwrap_or_default();
                    format!("{}{exclude}{keep}", pattern.describe())
                }
            };
            format!("{} -> {}: {selection}", entry.source, entry.target)
        })
        .collect()
}

#[test]
fn regsync_steps_become_entries() {
    let file = converted(
        r#"
version: 1
x-tags: &tags { allow: ["v1.*", "latest|edge"], deny: [".*-rc.*"] }
creds:
  - { registry: "localhost:5000", tls: disabled, reqPerSec: 5, reqConcurrent: 2 }
  - { registry: docker.io, user: "{{env \"HUB_USER\"}}", pass: "secret" }
defaults: { parallel: 2, interval: 60m, backup: "old-{{.Ref.Tag}}" }
sync:
  - { source: "busybox:1.36", target: "localhost:5000/library/busybox:1.36", type: image }
  - { source: "busybox:1.37", target: "localhost:5000/library/busybox:1.37", type: image }
  - { source: "busybox:1.37", target: "localhost:5000/library/busybox:stable", type: image }
  - { source: alpine, target: "localhost:5000/library/alpine", type: repository, tags: *tags, platforms: [linux/amd64] }
  - { source: "docker.io/{{ env \"ORG\" }}/app", target: "localhost:5000/app", type: repository, tags: { semverRange: [">=1.2 <2", "3.x"] }, mediaTypes: [a] }
  - { source: debian, target: "localhost:5000/debian", type: repository }
  - { source: "registry.example.org", target: "localhost:5000/all", type: registry }
"#,
    );
    assert_eq!(file.tool, ImportedTool::Regsync);
    assert_eq!(
        entries(&file),
        [
            "docker.io/library/busybox -> localhost:5000/library/busybox: include: 1.36, 1.37",
            "docker.io/library/alpine -> localhost:5000/library/alpine: tag_regex: v1.*|(?:latest|edge), not .*-rc.*",
            "docker.io/team/app -> localhost:5000/app: semver: >=1.2 <2 || 3.x",
            "docker.io/library/debian -> localhost:5000/debian: tag_regex: .*",
        ]
    );
    assert!(!file.text.contains("secret"), "{}", file.text);
    for remark in [
        "imglife copy busybox:1.37 localhost:5000/library/busybox:stable",
        "credentials of docker.io",
        "`defaults.interval`",
        "`type: registry`",
        "`mediaTypes`",
    ] {
        assert!(
            file.remarks.iter().any(|text| text.contains(remark)),
            "{remark}: {:?}",
            file.remarks
        );
    }
    let config = loaded(&file.text);
    let sync = config.sync.as_ref().expect("entries");
    assert_eq!(sync.parallelism, 2);
    assert!(sync.entries.iter().all(|entry| entry.keep_replaced));
}

#[test]
fn regsync_file_with_thousands_of_images_becomes_an_entry_for_each_repository() {
    let mut text = "version: 1\nsync:\n".to_owned();
    for number in 0..7_241 {
        let image = number % 193;
        text += &format!(
            "  - {{ source: 'docker.io/organisation/component-{image}:1.{number}.0', target: 'r.example.com/mirrored-component-{image}:1.{number}.0', type: image }}\n"
        );
    }
    let file = converted(&text);
    assert_eq!(file.entries, 193);
    assert_eq!(entries(&file).len(), 193);
}

#[test]
fn skopeo_images_become_entries() {
    let file = converted(
        r#"
registry.example.org:
  images:
    busybox: []
    redis: ["1.0", "2.0", "sha256:111111"]
  images-by-tag-regex:
    nginx: ^1\.13\.[12]-alpine-perl$
    other: alpine
  images-by-semver:
    alpine: ">= 3.12.0"
  credentials: { username: john, password: hidden }
  tls-verify: false
quay.io:
  images: { coreos/etcd: [latest] }
"#,
    );
    assert_eq!(file.tool, ImportedTool::Skopeo);
    assert_eq!(
        entries(&file),
        [
            r"registry.example.org/busybox -> registry.example.com/mirrors/busybox: tag_regex: .*",
            r"registry.example.org/redis -> registry.example.com/mirrors/redis: include: 1.0, 2.0",
            r"registry.example.org/nginx -> registry.example.com/mirrors/nginx: tag_regex: 1\.13\.[12]-alpine-perl",
            r"registry.example.org/other -> registry.example.com/mirrors/other: tag_regex: .*(?:alpine).*",
            r"registry.example.org/alpine -> registry.example.com/mirrors/alpine: semver: >= 3.12.0",
            r"quay.io/coreos/etcd -> registry.example.com/mirrors/coreos/etcd: tag: latest",
        ]
    );
    assert!(!file.text.contains("hidden"), "{}", file.text);
}

#[test]
fn dregsy_mappings_become_entries() {
    let file = converted(
        r#"
relay: skopeo
tasks:
  - name: base
    interval: 60
    source: { registry: registry.example.org, auth: c2VjcmV0 }
    target: { registry: r.example.com, skip-tls-verify: true }
    mappings:
      - { from: library/busybox, to: mirrors/busybox, tags: ["1.36", "semver: >=1.30", "keep: latest 3"] }
      - { from: library/alpine, tags: ["regex: ^3\\.2.*$", "regex: !rc"] }
      - { from: library/golang, platform: linux/arm64 }
      - { from: "regex:library/.*" }
"#,
    );
    assert_eq!(file.tool, ImportedTool::Dregsy);
    assert_eq!(
        entries(&file),
        [
            r"registry.example.org/library/busybox -> r.example.com/mirrors/busybox: semver: >=1.30; include: 1.36, newest 3",
            r"registry.example.org/library/alpine -> r.example.com/library/alpine: tag_regex: 3\.2.*, not .*(?:rc).*",
            r"registry.example.org/library/golang -> r.example.com/library/golang: tag_regex: .*",
        ]
    );
    assert!(!file.text.contains("c2VjcmV0"), "{}", file.text);
    assert!(
        file.remarks
            .iter()
            .any(|remark| remark.contains("regex:library/.*"))
    );
}

#[test]
fn image_syncer_pairs_become_entries() {
    let file = converted(
        r#"
quay.io/coreos/kube-rbac-proxy: quay.io/ruohe/kube-rbac-proxy
quay.io/coreos/other:v1.0: quay.io/ruohe/other
quay.io/coreos/several:v1.0,v2.0: [quay.io/ruohe/several, r.example.com/several]
quay.io/coreos/pattern:/^v1.*/: quay.io/ruohe/pattern
quay.io/coreos/renamed:v1: quay.io/ruohe/renamed:v2
"#,
    );
    assert_eq!(file.tool, ImportedTool::ImageSyncer);
    assert_eq!(
        entries(&file),
        [
            "quay.io/coreos/kube-rbac-proxy -> quay.io/ruohe/kube-rbac-proxy: tag_regex: .*",
            "quay.io/coreos/other -> quay.io/ruohe/other: tag: v1.0",
            "quay.io/coreos/several -> quay.io/ruohe/several: include: v1.0, v2.0",
            "quay.io/coreos/several -> r.example.com/several: include: v1.0, v2.0",
            "quay.io/coreos/pattern -> quay.io/ruohe/pattern: tag_regex: .*(?:^v1.*).*",
        ]
    );
}

#[test]
fn other_files_are_rejected() {
    for text in ["a: 1", "[]", "sync: { entries: [] }", ""] {
        let source = SourceText {
            name: "file.yaml".to_owned(),
            text: text.to_owned(),
        };
        let error = import(&source, DEFAULT_TARGET_PREFIX).expect_err(text);
        assert!(matches!(error, ImportError::UnknownFormat { .. }), "{text}");
    }
}
