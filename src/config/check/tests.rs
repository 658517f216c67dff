//! Files as a whole, and what stands anywhere in them. What belongs to one section is in the tests
//! named after it.

use std::path::Path;
use std::time::Duration;

use insta::assert_snapshot;
use proptest::prelude::*;

use super::reader::Context;
use super::{check, load};
use crate::config::table::SECTIONS;
use crate::config::{
    Config, ConfigErrors, Extract, HookCommand, Provenance, Provider, Selection, SourceText,
    TagExclusion, raw, show, suffices,
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
    read(text, &[]).expect_err("it is wrong")
}

/// Returns the findings, each with its hint.
pub(super) fn told(text: &str) -> String {
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

/// Returns a file with one good entry and the keys of `more` in it.
pub(super) fn entry(more: &str) -> String {
    format!(
        "sync:\n  entries:\n    - source: docker.io/library/alpine\n      target: registry.example.com/mirrors/alpine\n{}",
        indented(more, 6)
    )
}

/// Returns a file with a mirror and one good image with the keys of `more` in it.
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
fn ten_files_broken_in_ten_ways_give_ten_errors() {
    assert_snapshot!(told(&entry("tag_regx: '3'")), @r#"
    imglife.yaml:5:7: sync.entries[0].tag_regx: unknown key
      did you mean `tag_regex`?
    "#);
    assert_snapshot!(told("sync:\n  entries:\n    - target: registry.example.com/mirrors/alpine\n      tag: 3.21.3\n"), @r#"
    imglife.yaml:3:7: sync.entries[0]: `source` is missing
      add `source:` with a repository
    "#);
    assert_snapshot!(told(&entry("tag_regex: '3'\nkeep_last: five")), @r#"
    imglife.yaml:6:18: sync.entries[0].keep_last: expected a whole number, found `five`
      write it in digits, without a unit
    "#);
    assert_snapshot!(told(&entry("tag: 3.21.3\ntag: 3.21.4")), @r#"
    imglife.yaml:6:7: sync.entries[0].tag: duplicate key, first given in line 5
      remove one of the two
    "#);
    assert_snapshot!(told(&entry("tag: 3.21.3\nkeep_last: 3")), @r#"
    imglife.yaml:6:7: sync.entries[0].keep_last: `keep_last` means nothing for one fixed tag
      remove it, or select tags by `tag_regex` instead of `tag`
    "#);
    assert_snapshot!(told(&entry("tag_regex: '3\\.(\\d+'")), @r#"
    imglife.yaml:5:18: sync.entries[0].tag_regex: `3\.(\d+` is no regular expression: unclosed group
      the syntax is that of https://docs.rs/regex, without look-around and back-references
    "#);
    assert_snapshot!(told("registry:\n  project_id: $CI_PROJECT_ID\n"), @r#"
    imglife.yaml:2:15: registry.project_id: the variable `CI_PROJECT_ID` is not set
      set it, give a default with `${CI_PROJECT_ID:-default}`, or write `$$` for a dollar
    "#);
    assert_snapshot!(told("hosts:\n  docker.io:\n    endpoint: $CACHE_TOKEN\n"), @r#"
    imglife.yaml:3:15: hosts."docker.io".endpoint: refers to `CACHE_TOKEN`, which is named like a secret
      secrets are not configured here: imglife looks for credentials in the environment by itself
    "#);
    assert_snapshot!(told(&entry("tag_regex: '3'\nmin_age: 7")), @r#"
    imglife.yaml:6:16: sync.entries[0].min_age: expected a duration, found `7`
      add a unit, for example `7s`, `7m`, `7h` or `7d`
    "#);
    assert_snapshot!(told("sync:\n  entries:\n  - source: a\n   target: b\n"), @r#"
    imglife.yaml:4:4: not valid YAML: while parsing a block mapping, did not find expected key
      look at the indentation of this line and of those above it
    "#);
}

#[test]
fn a_file_broken_in_three_ways_gives_all_three_drawn() {
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
      = help: write `docker.io/library/alpine` here; tags have keys of their own

    error: expected `true` or `false`, found `yes`
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
fn drawn_lines_cannot_hurt_the_terminal_and_long_ones_are_cut() {
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
fn what_has_the_wrong_type_is_told_as_it_is_written() {
    assert_snapshot!(told("sync: [a]\nretention: 5\nlifecycle:\n  notify: { at_days: 7, webhook_env: $HOOK_URL }\n  warn_days: [1]\n  phase: eool\nstatus:\n  graph: no\n  title: {a: b}\nbuild:\n"), @r#"
    imglife.yaml:1:7: sync: expected a mapping, found a list
    imglife.yaml:2:12: retention: expected a mapping, found `5`
    imglife.yaml:4:22: lifecycle.notify.at_days: expected a list, found `7`
      write `[7]`
    imglife.yaml:4:38: lifecycle.notify.webhook_env: expected the name of a variable
      write `HOOK_URL`, without `$`
    imglife.yaml:5:14: lifecycle.warn_days: expected a whole number, found a list
    imglife.yaml:6:10: lifecycle.phase: expected `eoas`, `eol` or `eoes`, found `eool`
      did you mean `eol`?
    imglife.yaml:8:10: status.graph: expected `true` or `false`, found `no`
      write `false`
    imglife.yaml:9:11: status.title: expected text, found a mapping
    "#);
}

#[test]
fn unknown_keys_say_where_they_belong() {
    assert_snapshot!(told("entries: []\ncolour: red\nkeep_dayz: 3\nsync:\n  enteries: []\nstatus:\n  bucket: x\n\"a\\e[0mb\": 1\n"), @r#"
    imglife.yaml:1:1: entries: unknown key
      `entries` belongs to `sync`
    imglife.yaml:2:1: colour: unknown key
      known here: `registry`, `hosts`, `sync`, `build`, `retention`, `lifecycle`, `status`
    imglife.yaml:3:1: keep_dayz: unknown key
      known here: `registry`, `hosts`, `sync`, `build`, `retention`, `lifecycle`, `status`
    imglife.yaml:5:3: sync.enteries: unknown key
      did you mean `entries`?
    imglife.yaml:7:3: status.bucket: unknown key
      `bucket` belongs to `registry`
    imglife.yaml:8:1: "a\u{1b}[0mb": unknown key
      known here: `registry`, `hosts`, `sync`, `build`, `retention`, `lifecycle`, `status`
    "#);
}

#[test]
fn keys_that_are_left_empty_are_left_out_unless_they_are_needed() {
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
    assert_snapshot!(told("sync:\n  entries:\n    - source:\n      target: ''\n      tag: ~\n    -\n"), @r#"
    imglife.yaml:3:7: sync.entries[0]: neither `tag` nor `tag_regex` is given
      add `tag:` for one tag or `tag_regex:` for many
    imglife.yaml:3:7: sync.entries[0].source: expected a repository, found nothing
      write a value behind the colon
    imglife.yaml:4:15: sync.entries[0].target: expected a repository, found an empty text
    imglife.yaml:6:6: sync.entries[1]: `source` is missing
      add `source:` with a repository
    imglife.yaml:6:6: sync.entries[1]: `target` is missing
      add `target:` with a repository
    imglife.yaml:6:6: sync.entries[1]: neither `tag` nor `tag_regex` is given
      add `tag:` for one tag or `tag_regex:` for many
    "#);
}

#[test]
fn unquoted_versions_and_words_stay_text() {
    let config = loaded(&entry("tag: 3.10\nlifecycle: { product: no }"), &[]);
    let sync = config.sync.expect("a section");
    assert!(matches!(&sync.entries[0].selection, Selection::Fixed(tag) if tag.as_str() == "3.10"));
    assert_eq!(sync.entries[0].lifecycle[0].product.to_string(), "no");
}

#[test]
fn every_scalar_may_be_a_variable() {
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
    let Some(Provider::Gitlab { project_id, .. }) =
        config.registry.map(|registry| registry.provider)
    else {
        panic!("another provider")
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
fn what_is_not_text_of_the_user_is_not_expanded() {
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
        matches!(&entry.selection, Selection::Pattern(pattern) if pattern.tag_regex.text == "3$")
    );
    assert!(
        matches!(&entry.lifecycle[0].extract, Extract::Pattern(pattern) if pattern.text == "(3)$")
    );
    assert!(
        matches!(&config.retention.expect("rules").exclude_tags[0], TagExclusion::Pattern(pattern) if pattern.regex.is_match("a"))
    );
}

#[test]
fn a_value_from_a_variable_is_not_expanded_again_and_never_a_structure() {
    let config = loaded(
        "status: { title: $TITLE }",
        &[("TITLE", "[$HOME, {a: b}]"), ("HOME", "/root")],
    );
    assert_eq!(config.status.title.as_deref(), Some("[$HOME, {a: b}]"));
}

#[test]
fn variables_cannot_blow_up_the_file() {
    let arguments: String = (0..900)
        .map(|number| format!("  a{number}: $A$A$A$A$A$A\n"))
        .collect();
    let text = image(&format!("args:\n{arguments}"));
    let errors = read(&text, &[("A", &"x".repeat(10_000))]).expect_err("too much");
    assert!(
        errors
            .findings
            .iter()
            .any(|finding| finding.message == "the variables of this file add too much text")
    );
}

#[test]
fn lists_that_would_take_long_to_check_are_bounded() {
    let platforms: String = (0..60_000)
        .map(|number| format!("linux/x{number}, "))
        .collect();
    let errors = errors(&format!(
        "sync:\n  platforms: [{platforms}]\n  entries: []\n"
    ));
    assert_eq!(errors.findings[0].message, "more than 64 platforms");
    let exclusions = "/a/, ".repeat(2001);
    let errors = read(
        &format!("retention: {{ exclude_tags: [{exclusions}] }}"),
        &[],
    )
    .expect_err("too many");
    assert_eq!(
        errors.findings[0].message,
        "more than 2000 patterns in one file"
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
fn findings_beyond_a_hundred_are_counted() {
    let text: String = (0..150)
        .map(|number| format!("unknown_{number}: 1\n"))
        .collect();
    let errors = errors(&text);
    assert_eq!((errors.findings.len(), errors.omitted), (100, 50));
    assert!(
        errors
            .render(false)
            .ends_with("150 errors in imglife.yaml, of which the first 100 are shown\n")
    );
}

#[test]
fn a_file_with_everything_loads_and_reads_every_key_of_the_table() {
    let variables: Variables = EVERYTHING_VARIABLES.into_iter().collect();
    let context = Context::new(&variables, Path::new("/project"));
    let config = check(&context, &raw::read(EVERYTHING).expect("YAML"));
    let asked = context.asked.borrow().clone();
    let (findings, _) = context.into_findings();
    assert_eq!(findings, []);
    assert!(config.is_some());
    for section in SECTIONS {
        for key in section.keys {
            assert!(
                asked.contains(&(section.name, key.name)),
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
fn what_is_shown_reads_as_the_same_configuration() {
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
fn what_is_inherited_is_filled_in() {
    let config = loaded(EVERYTHING, &EVERYTHING_VARIABLES);
    let sync = config.sync.expect("mirrors");
    assert_eq!(sync.entries[0].platforms.as_ref().map(Vec::len), Some(2));
    let rules = |rules: &Option<crate::config::Retention>| rules.clone().expect("rules");
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
        ("1.0.0", Provenance::Min, 2)
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
        ("2.0.0", Provenance::Off, false)
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
fn without_a_general_section_an_own_one_is_enough_for_cleanup() {
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
fn a_full_configuration_is_enough_for_every_command() {
    let config = loaded(EVERYTHING, &EVERYTHING_VARIABLES);
    for (command, result) in suffices(&config) {
        assert_eq!(result, Ok(()), "{command}");
    }
}

/// A base-images repository as it is found in GitLab: mirrors, two bases on them, cleanup, a
/// report.
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
fn a_usual_base_images_repository_loads() {
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
        matches!(&sync.entries[0].selection, Selection::Pattern(pattern) if pattern.tag_regex.regex.is_match("3.21.3"))
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
fn the_configuration_of_the_sample_world_loads() {
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
    fn nothing_that_looks_like_yaml_panics(text in yaml_like()) {
        if let Err(errors) = read(&text, &[("X", "x")]) {
            prop_assert!(!errors.findings.is_empty());
            prop_assert!(!errors.render(true).is_empty());
            for span in errors.findings.iter().filter_map(|finding| finding.span) {
                prop_assert!(span.start <= span.end && span.end <= text.len());
            }
        }
    }
}
