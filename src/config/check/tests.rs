//! Tests of complete files and of rules that apply to all sections. The tests of a single section
//! are in the file named after it.

use std::path::Path;
use std::time::Duration;

use insta::assert_snapshot;
use proptest::prelude::*;

use super::reader::CheckContext;
use super::{check, load};
use crate::config::table::SECTIONS;
use crate::config::{
    Config, ConfigErrors, Extract, HookCommand, ProvenanceMode, RegistryProvider, SourceText,
    TagExclusion, TagSelection, raw, readiness, show,
};
use crate::model::Variables;

pub(super) fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let variables: Variables = variables.iter().copied().collect();
    load(
        &SourceText {
            name: "imglife.yaml".to_owned(),
            text: text.to_owned(),
        },
        Path::new("/project"),
        &variables,
    )
}

pub(super) fn loaded(text: &str, variables: &[(&str, &str)]) -> Config {
    read(text, variables).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

pub(super) fn errors(text: &str) -> ConfigErrors {
    read(text, &[]).expect_err("invalid")
}

/// Returns the findings in a file, each with its hint.
pub(super) fn findings_of(text: &str) -> String {
    let errors = errors(text);
    let lines = errors.to_string();
    let with_hint =
        lines
            .lines()
            .zip(&errors.findings)
            .map(|(line, finding)| match &finding.hint {
                Some(hint) => format!("{line}\n  {hint}"),
                None => line.to_owned(),
            });
    with_hint.collect::<Vec<_>>().join("\n")
}

/// Returns a file with one valid entry that also has the keys in `more`.
pub(super) fn entry(more: &str) -> String {
    format!(
        "sync:\n  entries:\n    - source: docker.io/library/alpine\n      target: registry.example.com/mirrors/alpine\n{}",
        indented(more, 6)
    )
}

/// Returns a file with a mirror and one valid image that also has the keys in `more`.
pub(super) fn image(more: &str) -> String {
    let mirror = entry("tag: 3.21.3");
    let build = "build:\n  core_version: 1.0.0\n  registry: registry.example.com/bases\n  images:\n    - name: alpine\n      folder: images/alpine\n      type: core\n      mirror_image: registry.example.com/mirrors/alpine\n";
    format!("{mirror}{build}{}", indented(more, 6))
}

pub(super) fn indented(text: &str, by: usize) -> String {
    text.lines()
        .map(|line| format!("{}{line}\n", " ".repeat(by)))
        .collect()
}

pub(super) const EVERYTHING: &str = include_str!("everything.yaml");

pub(super) const EVERYTHING_VARIABLES: [(&str, &str); 4] = [
    ("CI_REGISTRY", "registry.example.com/team"),
    ("CI_PROJECT_ID", "42"),
    ("KEEP", "3"),
    ("UPSTREAM", "docker.io"),
];

#[test]
fn load_reports_each_kind_of_error() {
    assert_snapshot!(findings_of(&entry("tag_regx: '3'")), @r#"
    imglife.yaml:5:7: sync.entries[0].tag_regx: unknown key
      did you mean `tag_regex`?
    "#);
    assert_snapshot!(findings_of("sync:\n  entries:\n    - target: registry.example.com/mirrors/alpine\n      tag: 3.21.3\n"), @r#"
    imglife.yaml:3:7: sync.entries[0]: `source` is missing
      add `source:` with a repository
    "#);
    assert_snapshot!(findings_of(&entry("tag_regex: '3'\nkeep_last: five")), @r#"
    imglife.yaml:6:18: sync.entries[0].keep_last: expected a whole number, found `five`
      write digits only, without a unit
    "#);
    assert_snapshot!(findings_of(&entry("tag: 3.21.3\ntag: 3.21.4")), @r#"
    imglife.yaml:6:7: sync.entries[0].tag: duplicate key, first set in line 5
      remove one of the two
    "#);
    assert_snapshot!(findings_of(&entry("tag: 3.21.3\nkeep_last: 3")), @r#"
    imglife.yaml:6:7: sync.entries[0].keep_last: `keep_last` has no effect with `tag`
      remove it, or select tags with `tag_regex` instead of `tag`
    "#);
    assert_snapshot!(findings_of(&entry("tag_regex: '3\\.(\\d+'")), @r#"
    imglife.yaml:5:18: sync.entries[0].tag_regex: `3\.(\d+` is not a valid regular expression: unclosed group
      see https://docs.rs/regex for the syntax; look-around and back-references are not supported
    "#);
    assert_snapshot!(findings_of("registry:\n  project_id: $CI_PROJECT_ID\n"), @r#"
    imglife.yaml:2:15: registry.project_id: the environment variable `CI_PROJECT_ID` is not set
      set it, add a default with `${CI_PROJECT_ID:-default}`, or write `$$` for a dollar sign
    "#);
    assert_snapshot!(findings_of("hosts:\n  docker.io:\n    endpoint: $CACHE_TOKEN\n"), @r#"
    imglife.yaml:3:15: hosts."docker.io".endpoint: the environment variable `CACHE_TOKEN` is named like a secret
      remove the reference: imglife reads credentials from the environment itself
    "#);
    assert_snapshot!(findings_of(&entry("tag_regex: '3'\nmin_age: 7")), @r#"
    imglife.yaml:6:16: sync.entries[0].min_age: expected a duration, found `7`
      add a unit, for example `7s`, `7m`, `7h` or `7d`
    "#);
    assert_snapshot!(findings_of("sync:\n  entries:\n  - source: a\n   target: b\n"), @r#"
    imglife.yaml:4:4: not valid YAML: while parsing a block mapping, did not find expected key
      check the indentation of this line and of the lines above it
    "#);
}

#[test]
fn render_draws_every_error() {
    let text = "registry:\n  provider: gitlb\nsync:\n  entries:\n    - source: docker.io/library/alpine:3.21\n      target: registry.example.com/mirrors/alpine\n      tag: 3.21.3\n      check_digest: yes\n";
    assert_snapshot!(errors(text).render(false), @r#"
    error: expected `gitlab`, `gitea`, `s3` or `file`, found `gitlb`
     --> imglife.yaml:2:13
      |
    2 |   provider: gitlb
      |             ^^^^^ registry.provider
      |
      = help: did you mean `gitlab`?

    error: `docker.io/library/alpine:3.21` is not a repository: a repository must not include a tag
     --> imglife.yaml:5:15
      |
    5 |     - source: docker.io/library/alpine:3.21
      |               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ sync.entries[0].source
      |
      = help: write `docker.io/library/alpine` here, and the tag in a separate key

    error: expected `auto`, `true` or `false`, found `yes`
     --> imglife.yaml:8:21
      |
    8 |       check_digest: yes
      |                     ^^^ sync.entries[0].check_digest
      |
      = help: write `true`

    3 errors in imglife.yaml
    "#);
}

#[test]
fn render_escapes_and_shortens_lines() {
    let text = format!(
        "status:\n  \"x\u{202e}\": \"{}\\e[31m\"\n  graph: \"\u{202e}\\e[31m\"\t \n",
        "x".repeat(3000)
    );
    let drawn_errors = errors(&text);
    assert_eq!(drawn_errors.findings.len(), 2);
    let broken = errors("status: \u{1b}[31m\u{7}\n\u{1b}[31m");
    for drawn in [
        drawn_errors.render(false),
        drawn_errors.to_string(),
        broken.render(false),
        broken.to_string(),
    ] {
        assert!(
            drawn
                .chars()
                .all(|character| character == '\n' || !character.is_control()),
            "{drawn:?}"
        );
        assert!(!drawn.contains('\u{202e}'), "{drawn:?}");
        assert!(
            drawn.lines().all(|line| line.chars().count() < 250),
            "{drawn}"
        );
    }
    assert!(drawn_errors.render(true).contains("\u{1b}["));
    let text = format!(
        "{{ status: {{ title: {}, graph: maybe }} }}",
        "y".repeat(500)
    );
    assert_snapshot!(errors(&text).render(false), @r#"
    error: expected `true` or `false`, found `maybe`
     --> imglife.yaml:1:529
      |
     ::: 
    1 | …yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy, graph: maybe } }
      |                                                              ^^^^^ status.graph
    "#);
}

#[test]
fn load_reports_values_of_the_wrong_type() {
    assert_snapshot!(findings_of("sync: [a]\nretention: 5\nlifecycle:\n  notify: { at_days: 7, webhook_env: $HOOK_URL }\n  warn_days: [1]\n  phase: eool\nstatus:\n  graph: no\n  title: {a: b}\nbuild:\n"), @r#"
    imglife.yaml:1:7: sync: expected a mapping, found a list
    imglife.yaml:2:12: retention: expected a mapping, found `5`
    imglife.yaml:4:22: lifecycle.notify.at_days: expected a list, found `7`
      write `[7]`
    imglife.yaml:4:38: lifecycle.notify.webhook_env: expected the name of an environment variable
      write `HOOK_URL`, without `$`
    imglife.yaml:5:14: lifecycle.warn_days: expected a whole number, found a list
    imglife.yaml:6:10: lifecycle.phase: expected `eoas`, `eol` or `eoes`, found `eool`
      did you mean `eol`?
    imglife.yaml:8:10: status.graph: expected `true` or `false`, found `no`
      write `false`
    imglife.yaml:9:11: status.title: expected a string, found a mapping
    "#);
}

#[test]
fn unknown_key_hint_names_the_right_section() {
    assert_snapshot!(findings_of("entries: []\ncolour: red\nkeep_dayz: 3\nsync:\n  enteries: []\nstatus:\n  bucket: x\n\"a\\e[0mb\": 1\n"), @r#"
    imglife.yaml:1:1: entries: unknown key
      `entries` belongs to `sync`
    imglife.yaml:2:1: colour: unknown key
      valid keys are `registry`, `hosts`, `sync`, `build`, `retention`, `lifecycle` and `status`
    imglife.yaml:3:1: keep_dayz: unknown key
      valid keys are `registry`, `hosts`, `sync`, `build`, `retention`, `lifecycle` and `status`
    imglife.yaml:5:3: sync.enteries: unknown key
      did you mean `entries`?
    imglife.yaml:7:3: status.bucket: unknown key
      `bucket` belongs to `registry`
    imglife.yaml:8:1: "a\u{1b}[0mb": unknown key
      valid keys are `registry`, `hosts`, `sync`, `build`, `retention`, `lifecycle` and `status`
    "#);
}

#[test]
fn empty_keys_count_as_not_set() {
    let config = loaded(
        "registry:\nsync:\nhosts:\nretention: ~\nlifecycle: null\nstatus:\n  title:\n",
        &[],
    );
    assert!(
        config.registry.is_none()
            && config.sync.is_none()
            && config.retention.is_none()
            && config.status.title.is_none()
    );
    assert_snapshot!(findings_of("sync:\n  entries:\n    - source:\n      target: ''\n      tag: ~\n    -\n"), @r#"
    imglife.yaml:3:7: sync.entries[0]: neither `tag` nor `tag_regex` is set
      add `tag:` for one tag or `tag_regex:` for several tags
    imglife.yaml:3:7: sync.entries[0].source: expected a repository, found no value
      add a value after the colon
    imglife.yaml:4:15: sync.entries[0].target: expected a repository, found an empty string
    imglife.yaml:6:6: sync.entries[1]: `source` is missing
      add `source:` with a repository
    imglife.yaml:6:6: sync.entries[1]: `target` is missing
      add `target:` with a repository
    imglife.yaml:6:6: sync.entries[1]: neither `tag` nor `tag_regex` is set
      add `tag:` for one tag or `tag_regex:` for several tags
    "#);
}

#[test]
fn unquoted_versions_and_keywords_stay_strings() {
    let config = loaded(&entry("tag: 3.10\nlifecycle: { product: no }"), &[]);
    let sync = config.sync.expect("a section");
    assert!(
        matches!(&sync.entries[0].selection, TagSelection::Fixed(tag) if tag.as_str() == "3.10")
    );
    assert_eq!(sync.entries[0].lifecycle[0].product.to_string(), "no");
}

#[test]
fn references_are_expanded_in_every_scalar() {
    let text = "registry: { project_id: $ID, provider: '${PROVIDER:-gitlab}', url: '$URL' }\nhosts:\n  $HOST: { insecure_skip_verify: $FLAG, requests_per_second: $RATE }\nretention: { keep_last: $ID, match: $ANY }\n";
    let variables = [
        ("ID", "7"),
        ("URL", "http://gitlab.example.com:8080"),
        ("HOST", "registry:5000"),
        ("FLAG", "true"),
        ("RATE", "0.5"),
        ("ANY", "any"),
    ];
    let config = loaded(text, &variables);
    let Some(RegistryProvider::Gitlab { project_id, .. }) =
        config.registry.map(|registry| registry.provider)
    else {
        panic!("unexpected provider")
    };
    assert_eq!(project_id, Some(7));
    let (host, settings) = config.hosts.first_key_value().expect("a host");
    assert_eq!(
        (
            host.as_str(),
            settings.insecure_skip_verify,
            settings.requests_per_second
        ),
        ("registry:5000", true, Some(0.5))
    );
    assert_eq!(config.retention.map(|rules| rules.keep_last), Some(7));
    let insecure: Vec<&str> = config
        .insecure_registries
        .iter()
        .map(|host| host.as_str())
        .collect();
    assert_eq!(insecure, ["gitlab.example.com:8080"]);
}

#[test]
fn patterns_commands_and_markdown_are_not_expanded() {
    let text = format!(
        "{}status: {{ client_zone: 'costs $5 $HOME' }}\nretention: {{ exclude_tags: ['/a$/'] }}\n",
        entry(
            "tag_regex: '3$'\nexclude_regex: 'x$HOME'\nlifecycle: { product: alpine, extract: '(3)$' }\nhooks: { post_sync: [{ cmd: 'echo $HOME $CI_JOB_TOKEN' }] }"
        )
    );
    let config = loaded(&text, &[("HOME", "/root")]);
    assert_eq!(config.status.client_zone.as_deref(), Some("costs $5 $HOME"));
    let entry = &config.sync.expect("a section").entries[0];
    assert_eq!(
        entry.post_sync[0].command,
        HookCommand::Shell("echo $HOME $CI_JOB_TOKEN".to_owned())
    );
    assert!(
        matches!(&entry.selection, TagSelection::Pattern(pattern) if pattern.tag_regex.as_ref().is_some_and(|regex| regex.text == "3$"))
    );
    assert!(
        matches!(&entry.lifecycle[0].extract, Extract::Pattern(pattern) if pattern.text == "(3)$")
    );
    assert!(
        matches!(&config.retention.expect("rules").exclude_tags[0], TagExclusion::Pattern(pattern) if pattern.regex.is_match("a"))
    );
}

#[test]
fn expanded_values_are_neither_expanded_again_nor_parsed_as_yaml() {
    let config = loaded(
        "status: { title: $TITLE }",
        &[("TITLE", "[$HOME, {a: b}]"), ("HOME", "/root")],
    );
    assert_eq!(config.status.title.as_deref(), Some("[$HOME, {a: b}]"));
}

#[test]
fn expansion_is_limited_for_the_whole_file() {
    let arguments: String = (0..900)
        .map(|number| format!("  a{number}: $A$A$A$A$A$A\n"))
        .collect();
    let text = image(&format!("args:\n{arguments}"));
    let errors = read(&text, &[("A", &"x".repeat(10_000))]).expect_err("too much");
    assert!(errors.findings.iter().any(
        |finding| finding.message == "the environment variables in this file add too much text"
    ));
}

#[test]
fn lists_of_platforms_and_patterns_are_limited() {
    let platforms: String = (0..60_000)
        .map(|number| format!("linux/x{number}, "))
        .collect();
    let errors = errors(&format!(
        "sync:\n  platforms: [{platforms}]\n  entries: []\n"
    ));
    assert_eq!(
        errors.findings[0].message,
        "the list has more than 64 platforms"
    );
    let exclusions = "/a/, ".repeat(2001);
    let errors = read(
        &format!("retention: {{ exclude_tags: [{exclusions}] }}"),
        &[],
    )
    .expect_err("too many");
    assert_eq!(
        errors.findings[0].message,
        "the file has more than 2000 regular expressions"
    );
    loaded(
        &format!(
            "retention: {{ exclude_tags: [{}] }}",
            "latest, ".repeat(2001)
        ),
        &[],
    );
}

#[test]
fn findings_above_the_limit_are_counted() {
    let text: String = (0..150)
        .map(|number| format!("unknown_{number}: 1\n"))
        .collect();
    let errors = errors(&text);
    assert_eq!((errors.findings.len(), errors.omitted), (100, 50));
    assert!(
        errors
            .render(false)
            .ends_with("150 errors in imglife.yaml, the first 100 of which are shown\n")
    );
}

#[test]
fn every_key_of_the_table_is_read() {
    let variables: Variables = EVERYTHING_VARIABLES.into_iter().collect();
    let context = CheckContext::new(&variables, Path::new("/project"));
    let config = check(&context, &raw::read(EVERYTHING).expect("YAML"));
    let keys_read = context.keys_read.borrow().clone();
    let (findings, _) = context.into_findings();
    assert_eq!(findings, []);
    assert!(config.is_some());
    for section in SECTIONS {
        for key in section.keys {
            assert!(
                keys_read.contains(&(section.name, key.name)),
                "`{}` of `{}` is never read",
                key.name,
                section.name
            );
            assert!(
                EVERYTHING.contains(&format!("{}:", key.name)),
                "`{}` of `{}` is not in the example",
                key.name,
                section.name
            );
        }
    }
}

#[test]
fn shown_configuration_loads_as_the_same_configuration() {
    for text in [
        EVERYTHING,
        "registry: { provider: s3, bucket: b, url: 'http://garage:3900' }",
        "",
    ] {
        let shown = show(&loaded(text, &EVERYTHING_VARIABLES));
        assert_eq!(show(&loaded(&shown, &[])), shown);
    }
    let shown = show(&loaded(
        "status: { title: 'a $$HOME', client_zone: 'b $HOME' }\nbuild:\n  core_version: 1\n  registry: r.example.com\n  images: []\n",
        &[],
    ));
    assert!(
        shown.contains("a $$HOME") && shown.contains("b $HOME"),
        "{shown}"
    );
}

#[test]
fn inherited_settings_are_filled_in() {
    let config = loaded(EVERYTHING, &EVERYTHING_VARIABLES);
    let sync = config.sync.expect("mirrors");
    assert_eq!(sync.entries[0].platforms.as_ref().map(Vec::len), Some(2));
    let rules = |rules: &Option<crate::config::RetentionConfig>| rules.clone().expect("rules");
    assert_eq!(
        (
            rules(&sync.entries[0].retention).keep_last,
            rules(&sync.entries[1].retention).keep_last
        ),
        (7, 12)
    );
    assert_eq!(rules(&sync.entries[1].retention).max_age_days, Some(90));
    let build = config.build.expect("images");
    let [alpine, own] = build.images.as_slice() else {
        panic!("two images")
    };
    assert_eq!(
        (
            alpine.core_version.as_str(),
            alpine.provenance,
            alpine.platforms.len()
        ),
        ("1.0.0", ProvenanceMode::Min, 2)
    );
    assert_eq!(
        (&alpine.lifecycle, alpine.post_image_build.len()),
        (&None, 1)
    );
    assert_eq!(
        alpine.repository.to_string(),
        "registry.example.com/team/bases/alpine"
    );
    assert_eq!(
        (own.core_version.as_str(), own.provenance, own.sbom),
        ("2.0.0", ProvenanceMode::Off, false)
    );
    assert_eq!(
        own.lifecycle.as_ref().expect("its own")[0]
            .product
            .to_string(),
        "go"
    );
    assert_eq!(own.post_image_build[0].timeout, Duration::from_secs(90));
    assert_eq!(alpine.folder, Path::new("/project/images/alpine"));
}

#[test]
fn entry_retention_works_without_general_retention() {
    let config = loaded(&entry("tag: '3'\nretention: { keep_last: 2 }"), &[]);
    let entry = &config.sync.expect("mirrors").entries[0];
    assert_eq!(
        entry.retention.as_ref().map(|rules| (
            rules.keep_last,
            rules.min_keep,
            rules.max_delete_percent
        )),
        Some((2, 1, 50))
    );
    assert!(config.retention.is_none());
    assert!(
        loaded(&self::entry("tag: '3'"), &[])
            .sync
            .expect("mirrors")
            .entries[0]
            .retention
            .is_none()
    );
}

#[test]
fn full_configuration_is_complete_for_every_command() {
    let config = loaded(EVERYTHING, &EVERYTHING_VARIABLES);
    for (command, result) in readiness(&config) {
        assert_eq!(result, Ok(()), "{command}");
    }
}

/// Configuration of a typical base image repository in GitLab: mirrors, two base images, cleanup
/// and a report.
const BASE_IMAGES: &str = r##"
registry: { url: "https://gitlab.example.com", project_id: 42 }
sync:
  entries:
    - source: docker.io/library/alpine
      target: $CI_REGISTRY/mirrors/alpine
      tag_regex: '^3\.\d+\.\d+$'
      keep_last: 3
      lifecycle: { product: alpine, extract: minor }
    - source: docker.io/library/golang
      target: $CI_REGISTRY/mirrors/golang
      tag_regex: '^1\.\d+\.\d+-alpine3\.\d+$'
      keep_last: 2
      lifecycle: { product: go, extract: minor }
build:
  core_version: "1.0.0"
  registry: $CI_REGISTRY/bases
  platforms: [linux/amd64, linux/arm64]
  images:
    - { name: alpine, folder: images/alpine, type: core, mirror_image: $CI_REGISTRY/mirrors/alpine, mirror_tag: "3.21.3", version: "3.21.3" }
    - { name: golang, folder: images/golang, type: core, mirror_image: $CI_REGISTRY/mirrors/golang, mirror_tag: 1.22.3-alpine3.21 }
retention: { keep_last: 5, max_age_days: 90 }
lifecycle: { eol_provider: endoflife, eol_target: git, eol_data_file: eol-data.yaml }
status:
  client_zone: |
    Runs daily. Ask in `#platform-images`.
"##;

#[test]
fn typical_base_image_configuration_loads() {
    let config = loaded(
        BASE_IMAGES,
        &[(
            "CI_REGISTRY",
            "registry.gitlab.example.com:5050/team/base-images",
        )],
    );
    let sync = config.sync.expect("mirrors");
    assert_eq!(
        sync.entries[1].target.to_string(),
        "registry.gitlab.example.com:5050/team/base-images/mirrors/golang"
    );
    assert!(
        matches!(&sync.entries[0].selection, TagSelection::Pattern(pattern) if pattern.matches("3.21.3"))
    );
    let images = config.build.expect("bases").images;
    assert_eq!(
        images[1]
            .retention
            .as_ref()
            .map(|rules| (rules.keep_last, rules.max_age_days)),
        Some((5, Some(90)))
    );
}

#[test]
fn demo_configuration_loads() {
    loaded(include_str!("../../demo/world/imglife.yaml"), &[]);
}

fn yaml_like() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        proptest::sample::select(
            SECTIONS
                .iter()
                .flat_map(|section| section.keys)
                .map(|key| format!("{}:", key.name))
                .collect::<Vec<_>>()
        ),
        proptest::sample::select(
            [
                "- ",
                "\n",
                "\n  ",
                "\n    ",
                "\n      ",
                "{",
                "}",
                "[",
                "]",
                ",",
                ": ",
                "&a ",
                "*a",
                "<<: ",
                "$X",
                "${X",
                "}",
                "'",
                "\"",
                "|\n",
                "# ",
                "---",
                "!x ",
                "3.10",
                "a",
                "ü",
                "\t",
                "{{ tag }}"
            ]
            .map(str::to_owned)
            .to_vec()
        ),
        ".{0,4}",
    ];
    proptest::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn load_never_panics_on_yaml_like_text(text in yaml_like()) {
        if let Err(errors) = read(&text, &[("X", "x")]) {
            prop_assert!(!errors.findings.is_empty());
            prop_assert!(!errors.render(true).is_empty());
            for span in errors.findings.iter().filter_map(|finding| finding.span) {
                prop_assert!(span.start <= span.end && span.end <= text.len());
            }
        }
    }
}
