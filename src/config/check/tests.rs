use std::path::Path;
use std::time::Duration;

use insta::assert_snapshot;
use proptest::prelude::*;

use super::reader::Context;
use super::{check, load};
use crate::config::table::SECTIONS;
use crate::config::{
    Config, ConfigErrors, EngineChoice, Extract, HookCommand, Provenance, Provider, Selection, SourceText, TagExclusion, raw, show,
    suffices,
};
use crate::model::Variables;

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let variables: Variables = variables.iter().copied().collect();
    load(&SourceText { name: "imglife.yaml".to_owned(), text: text.to_owned() }, Path::new("/project"), &variables)
}

fn loaded(text: &str, variables: &[(&str, &str)]) -> Config {
    read(text, variables).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

fn errors(text: &str) -> ConfigErrors {
    read(text, &[]).expect_err("it is wrong")
}

/// Returns the findings, each with its hint.
fn told(text: &str) -> String {
    let errors = errors(text);
    let lines = errors.to_string();
    let with_hint = lines.lines().zip(&errors.findings).map(|(line, finding)| match &finding.hint {
        Some(hint) => format!("{line}\n  {hint}"),
        None => line.to_owned(),
    });
    with_hint.collect::<Vec<_>>().join("\n")
}

/// Returns a file with one good entry and the keys of `more` in it.
fn entry(more: &str) -> String {
    format!(
        "sync:\n  entries:\n    - source: docker.io/library/alpine\n      target: registry.example.com/mirrors/alpine\n{}",
        indented(more, 6)
    )
}

/// Returns a file with a mirror and one good image with the keys of `more` in it.
fn image(more: &str) -> String {
    let mirror = entry("tag: 3.21.3");
    let build = "build:\n  core_version: 1.0.0\n  registry: registry.example.com/bases\n  images:\n    - name: alpine\n      folder: images/alpine\n      type: core\n      mirror_image: registry.example.com/mirrors/alpine\n";
    format!("{mirror}{build}{}", indented(more, 6))
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

const EVERYTHING: &str = include_str!("everything.yaml");

const EVERYTHING_VARIABLES: [(&str, &str); 4] =
    [("CI_REGISTRY", "registry.example.com/team"), ("CI_PROJECT_ID", "42"), ("KEEP", "3"), ("UPSTREAM", "docker.io")];

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
      give a unit, as in `7s`, `7m`, `7h` or `7d`
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

    error: `docker.io/library/alpine:3.21` is not a repository: a repository is named without a tag
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
    let text = format!("status:\n  \"x\u{202e}\": \"{}\\e[31m\"\n  graph: \"\u{202e}\\e[31m\"\t \n", "x".repeat(3000));
    let drawn_errors = errors(&text);
    assert_eq!(drawn_errors.findings.len(), 2);
    let broken = errors("status: \u{1b}[31m\u{7}\n\u{1b}[31m");
    for drawn in [drawn_errors.render(false), drawn_errors.to_string(), broken.render(false), broken.to_string()] {
        assert!(drawn.chars().all(|character| character == '\n' || !character.is_control()), "{drawn:?}");
        assert!(!drawn.contains('\u{202e}'), "{drawn:?}");
        assert!(drawn.lines().all(|line| line.chars().count() < 250), "{drawn}");
    }
    assert!(drawn_errors.render(true).contains("\u{1b}["));
    let text = format!("{{ status: {{ title: {}, graph: maybe }} }}", "y".repeat(500));
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
    let config = loaded("registry:\nsync:\nhosts:\nretention: ~\nlifecycle: null\nstatus:\n  title:\n", &[]);
    assert!(config.registry.is_none() && config.sync.is_none() && config.retention.is_none() && config.status.title.is_none());
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
    let Some(Provider::Gitlab { project_id, .. }) = config.registry.map(|registry| registry.provider) else { panic!("another provider") };
    assert_eq!(project_id, Some(7));
    let (host, settings) = config.hosts.first_key_value().expect("a host");
    assert_eq!((host.as_str(), settings.insecure_skip_verify, settings.requests_per_second), ("registry:5000", true, Some(0.5)));
    assert_eq!(config.retention.map(|rules| rules.keep_last), Some(7));
    let insecure: Vec<&str> = config.insecure_registries.iter().map(|host| host.as_str()).collect();
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
    assert_eq!(entry.post_sync[0].command, HookCommand::Shell("echo $HOME $CI_JOB_TOKEN".to_owned()));
    assert!(matches!(&entry.selection, Selection::Pattern(pattern) if pattern.tag_regex.text == "3$"));
    assert!(matches!(&entry.lifecycle[0].extract, Extract::Pattern(pattern) if pattern.text == "(3)$"));
    assert!(matches!(&config.retention.expect("rules").exclude_tags[0], TagExclusion::Pattern(pattern) if pattern.regex.is_match("a")));
}

#[test]
fn a_value_from_a_variable_is_not_expanded_again_and_never_a_structure() {
    let config = loaded("status: { title: $TITLE }", &[("TITLE", "[$HOME, {a: b}]"), ("HOME", "/root")]);
    assert_eq!(config.status.title.as_deref(), Some("[$HOME, {a: b}]"));
}

#[test]
fn variables_cannot_blow_up_the_file() {
    let arguments: String = (0..900).map(|number| format!("  a{number}: $A$A$A$A$A$A\n")).collect();
    let text = image(&format!("args:\n{arguments}"));
    let errors = read(&text, &[("A", &"x".repeat(10_000))]).expect_err("too much");
    assert!(errors.findings.iter().any(|finding| finding.message == "the variables of this file add too much text"));
}

#[test]
fn lists_that_would_take_long_to_check_are_bounded() {
    let platforms: String = (0..60_000).map(|number| format!("linux/x{number}, ")).collect();
    let errors = errors(&format!("sync:\n  platforms: [{platforms}]\n  entries: []\n"));
    assert_eq!(errors.findings[0].message, "more than 64 platforms");
    let exclusions = "/a/, ".repeat(2001);
    let errors = read(&format!("retention: {{ exclude_tags: [{exclusions}] }}"), &[]).expect_err("too many");
    assert_eq!(errors.findings[0].message, "more than 2000 patterns in one file");
    loaded(&format!("retention: {{ exclude_tags: [{}] }}", "latest, ".repeat(2001)), &[]);
}

#[test]
fn findings_beyond_a_hundred_are_counted() {
    let text: String = (0..150).map(|number| format!("unknown_{number}: 1\n")).collect();
    let errors = errors(&text);
    assert_eq!((errors.findings.len(), errors.omitted), (100, 50));
    assert!(errors.render(false).ends_with("150 errors in imglife.yaml, of which the first 100 are shown\n"));
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
            assert!(asked.contains(&(section.name, key.name)), "`{}` of `{}` is never read", key.name, section.name);
            assert!(EVERYTHING.contains(&format!("{}:", key.name)), "`{}` of `{}` is not in the example", key.name, section.name);
        }
    }
}

#[test]
fn what_is_shown_reads_as_the_same_configuration() {
    for text in [EVERYTHING, "registry: { provider: s3, bucket: b, url: 'http://garage:3900' }", ""] {
        let shown = show(&loaded(text, &EVERYTHING_VARIABLES));
        assert_eq!(show(&loaded(&shown, &[])), shown);
    }
    let shown = show(&loaded(
        "status: { title: 'a $$HOME', client_zone: 'b $HOME' }\nbuild:\n  core_version: 1\n  registry: r.example.com\n  images: []\n",
        &[],
    ));
    assert!(shown.contains("a $$HOME") && shown.contains("b $HOME"), "{shown}");
}

#[test]
fn what_is_inherited_is_filled_in() {
    let config = loaded(EVERYTHING, &EVERYTHING_VARIABLES);
    let sync = config.sync.expect("mirrors");
    assert_eq!(sync.entries[0].platforms.as_ref().map(Vec::len), Some(2));
    let rules = |rules: &Option<crate::config::Retention>| rules.clone().expect("rules");
    assert_eq!((rules(&sync.entries[0].retention).keep_last, rules(&sync.entries[1].retention).keep_last), (7, 12));
    assert_eq!(rules(&sync.entries[1].retention).max_age_days, Some(90));
    let build = config.build.expect("images");
    let [alpine, own] = build.images.as_slice() else { panic!("two images") };
    assert_eq!((alpine.core_version.as_str(), alpine.provenance, alpine.platforms.len()), ("1.0.0", Provenance::Min, 2));
    assert_eq!((alpine.lifecycle[0].product.to_string().as_str(), alpine.post_image_build.len()), ("alpine", 1));
    assert_eq!(alpine.repository.to_string(), "registry.example.com/team/bases/alpine");
    assert_eq!((own.core_version.as_str(), own.provenance, own.sbom), ("2.0.0", Provenance::Off, false));
    assert_eq!(own.lifecycle[0].product.to_string(), "go");
    assert_eq!(own.post_image_build[0].timeout, Duration::from_secs(90));
    assert_eq!(alpine.folder, Path::new("/project/images/alpine"));
}

#[test]
fn without_a_general_section_an_own_one_is_enough_for_cleanup() {
    let config = loaded(&entry("tag: '3'\nretention: { keep_last: 2 }"), &[]);
    let entry = &config.sync.expect("mirrors").entries[0];
    assert_eq!(entry.retention.as_ref().map(|rules| (rules.keep_last, rules.min_keep, rules.max_delete_percent)), Some((2, 1, 50)));
    assert!(config.retention.is_none());
    assert!(loaded(&self::entry("tag: '3'"), &[]).sync.expect("mirrors").entries[0].retention.is_none());
}

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
    imglife.yaml:5:12: sync.entries[0].tag: `a b` is not a tag: tags consist of letters, digits, `_`, `.` and `-`, and start with none of the last two
    imglife.yaml:6:32: sync.entries[0].platforms[1]: the platform `linux/x86_64` is listed twice
      remove one of the two
    imglife.yaml:6:46: sync.entries[0].platforms[2]: `linux` is not a platform: expected `os/architecture` or `os/architecture/variant`, as in `linux/amd64` or `linux/arm/v7`
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

#[test]
fn registries_have_only_the_keys_of_their_provider() {
    assert_snapshot!(told("registry:\n  provider: s3\n  project_id: 4\n  api_url: https://a\n"), @r#"
    imglife.yaml:1:1: registry: `bucket` is missing
      add `bucket:` with text
    imglife.yaml:3:3: registry.project_id: `project_id` means nothing with provider `s3`
      it goes with `provider: gitlab`
    imglife.yaml:4:3: registry.api_url: `api_url` means nothing with provider `s3`
      it goes with `provider: gitlab` and `provider: gitea`
    "#);
    assert_snapshot!(told("registry:\n  url: gitlab.example.com\n  project_id: 0\n  prefix: ../x\n  insecure_registries: ['http://x', 'y:99999']\n"), @r#"
    imglife.yaml:2:8: registry.url: expected a URL that starts with `https://` or `http://`, found `gitlab.example.com`
      write `https://gitlab.example.com`
    imglife.yaml:3:15: registry.project_id: expected a number of at least 1, found `0`
    imglife.yaml:4:11: registry.prefix: a prefix consists of letters, digits, `.`, `_` and `-`, in parts between `/`
      leave out slashes at its start and end
    imglife.yaml:5:25: registry.insecure_registries[0]: `http://x` is not a registry host: leave out the scheme; name hosts that speak plain HTTP in `registry.insecure_registries`
    imglife.yaml:5:37: registry.insecure_registries[1]: `y:99999` is not a registry host: the port must be a number from 1 to 65535
    "#);
    assert_snapshot!(told("registry:\n  url: https://bot:hunter2@gitlab.example.com\n"), @r#"
    imglife.yaml:2:8: registry.url: the URL has a user name or password in it
      leave it out: imglife looks for credentials in the environment by itself
    "#);
}

#[test]
fn hosts_are_checked() {
    let text = "hosts:\n  hub.docker.com: { endpoint: 'http://127.0.0.1:5000' }\n  docker.io: { client_cert: a.pem }\n  index.docker.io: { max_connections: 0, requests_per_second: 0 }\n  'https://x': {}\n  a.example.com: { client_key: k.pem, endpoint: 'ftp://x' }\n";
    assert_snapshot!(told(text), @r#"
    imglife.yaml:3:16: hosts."docker.io".client_cert: `client_cert` without `client_key`
      add `client_key:` with the path of a PEM file
    imglife.yaml:4:3: hosts."index.docker.io": `docker.io` is the host of line 3 again
      put all settings of a host under one key
    imglife.yaml:4:39: hosts."index.docker.io".max_connections: expected a number from 1 to 1000, found `0`
    imglife.yaml:4:63: hosts."index.docker.io".requests_per_second: expected a number above 0, such as `10` or `0.5`, found `0`
    imglife.yaml:5:3: hosts."https://x": `https://x` is not a registry host: leave out the scheme; name hosts that speak plain HTTP in `registry.insecure_registries`
      name the host as references do, as in `docker.io` or `registry:5000`
    imglife.yaml:6:20: hosts."a.example.com".client_key: `client_key` without `client_cert`
      add `client_cert:` with the path of a PEM file
    imglife.yaml:6:49: hosts."a.example.com".endpoint: expected a URL that starts with `https://` or `http://`, found `ftp://x`
    "#);
}

#[test]
fn hooks_are_checked() {
    let hooks = |hooks: &str| entry(&format!("tag: '3'\nhooks:\n  post_sync:\n{}", indented(hooks, 4)));
    loaded(&hooks("- cmd: scan \"{{ image }}\" 'it''s' {{tag}}\n- cmd: [notify, '{{ target }}', 1.10]\n  timeout: 2m\n"), &[]);
    assert_snapshot!(told(&hooks("- cmd: notify '{{ tag }}' {{ tagg }} {{ .Names }} {{ image\n  timeout: 0\n- timeout: 5\n- cmd: []\n- cmd: ''\n- cmd: {a: b}\n- cmd: [x, [y]]\n")), @r#"
    imglife.yaml:8:18: sync.entries[0].hooks.post_sync[0].cmd: unknown placeholder `{{ tagg }}`
      did you mean `{{ tag }}`?
    imglife.yaml:8:18: sync.entries[0].hooks.post_sync[0].cmd: unknown placeholder `{{ .Names }}`
      there are `image`, `digest`, `source`, `target` and `tag`
    imglife.yaml:8:18: sync.entries[0].hooks.post_sync[0].cmd: `{{` without `}}`
      write a placeholder as `{{ image }}`
    imglife.yaml:8:18: sync.entries[0].hooks.post_sync[0].cmd: the placeholder `{{ tag }}` stands in single quotes, where the shell would not replace it
      use double quotes around it
    imglife.yaml:9:13: sync.entries[0].hooks.post_sync[0].timeout: a hook needs time to run
      leave `timeout` out for 60 seconds
    imglife.yaml:10:13: sync.entries[0].hooks.post_sync[1]: `cmd` is missing
      add `cmd:` with a shell line or a list
    imglife.yaml:10:22: sync.entries[0].hooks.post_sync[1].timeout: expected a duration, found `5`
      give a unit, as in `5s`, `5m`, `5h` or `5d`
    imglife.yaml:11:18: sync.entries[0].hooks.post_sync[2].cmd: the list names no program
      put the program's name first
    imglife.yaml:12:18: sync.entries[0].hooks.post_sync[3].cmd: expected a shell line, found an empty text
    imglife.yaml:13:19: sync.entries[0].hooks.post_sync[4].cmd: expected a shell line or a list, found a mapping
    imglife.yaml:14:22: sync.entries[0].hooks.post_sync[5].cmd[1]: expected text, found a list
    "#);
}

#[test]
fn images_are_checked() {
    assert_snapshot!(told(&image("type: base\nversion: a b\naliases: [latest, '-x']\ntmpl: ../x\nargs: [a]\nplatform: x")), @r#"
    imglife.yaml:14:7: build.images[0].type: duplicate key, first given in line 12
      remove one of the two
    imglife.yaml:15:16: build.images[0].version: `a b` is not a tag: tags consist of letters, digits, `_`, `.` and `-`, and start with none of the last two
    imglife.yaml:16:25: build.images[0].aliases[1]: `-x` is not a tag: tags consist of letters, digits, `_`, `.` and `-`, and start with none of the last two
    imglife.yaml:17:7: build.images[0].tmpl: the template lies outside of `folder`
      name a file below `folder`
    imglife.yaml:18:13: build.images[0].args: expected a mapping, found a list
    imglife.yaml:19:7: build.images[0].platform: unknown key
      did you mean `platforms`?
    "#);
    assert_snapshot!(told("build:\n  core_version: ''\n  registry: Registry/x\n  tag_format: ''\n  images:\n    - name: a\n"), @r#"
    imglife.yaml:2:17: build.core_version: expected a tag, found an empty text
    imglife.yaml:3:13: build.registry: `Registry/x` is not a base path: repository names are lower case
    imglife.yaml:4:15: build.tag_format: expected text, found an empty text
    imglife.yaml:6:7: build.images[0]: `folder` is missing
      add `folder:` with a path
    imglife.yaml:6:7: build.images[0]: `type` is missing
      add `type:` with `core`, `spe` or `spe-dev`
    imglife.yaml:6:7: build.images[0]: `mirror_image` is missing
      add `mirror_image:` with a repository
    "#);
}

#[test]
fn the_name_of_an_image_leads_nowhere_else() {
    for registry in ["ocidir://bases/sub", "registry.example.com/bases"] {
        for name in ["..", "../../esc", "a/../b", "/abs", "a//b", "./a", "a/"] {
            let text = image("").replace("registry: registry.example.com/bases", &format!("registry: {registry}"));
            let found = told(&text.replace("name: alpine", &format!("name: '{name}'")));
            assert!(found.contains("is no name of an image: a part of it is empty, `.` or `..`"), "{registry} {name}: {found}");
        }
    }
}

#[test]
fn the_docker_engine_builds_one_platform() {
    let text =
        |engine: &str| image("platforms: [linux/amd64, linux/arm64]").replace("  images:", &format!("  engine: {engine}\n  images:"));
    assert_eq!(loaded(&text("buildx"), &[]).build.map(|build| build.engine), Some(EngineChoice::Buildx));
    assert_snapshot!(told(&text("docker")), @r#"
    imglife.yaml:15:7: build.images[0].platforms: the engine `docker` builds for one platform only
      keep one platform, or set `build.engine` to `buildx`, `buildah` or `auto`
    "#);
}

#[test]
fn what_an_image_is_built_on_must_be_known() {
    loaded(&image(""), &[]);
    let unknown = image("")
        .replace("      mirror_image: registry.example.com/mirrors/alpine", "      mirror_image: registry.example.com/mirrors/debian");
    assert_snapshot!(told(&unknown), @r#"
    imglife.yaml:13:21: build.images[0].mirror_image: no sync entry has the target `registry.example.com/mirrors/debian`, and `mirror_tag` is not given
      add `mirror_tag:`, or name the target of a sync entry or another image of this list
    "#);
    loaded(&format!("{unknown}      mirror_tag: '12'\n"), &[]);
    let several =
        image("").replace("build:\n", "    - { source: alpine, target: registry.example.com/mirrors/alpine, tag: '3.20' }\nbuild:\n");
    assert_snapshot!(told(&several), @r#"
    imglife.yaml:14:21: build.images[0].mirror_image: several sync entries have the target `registry.example.com/mirrors/alpine` (lines 4, 6), and `mirror_tag` is not given
      add `mirror_tag:` to say which tag to build on
    "#);
}

#[test]
fn images_built_in_a_circle_or_twice_are_refused() {
    let one = |name: &str, on: &str, more: &str| {
        format!("    - {{ name: {name}, folder: f, type: core, mirror_image: 'r.example.com/{on}'{more} }}\n")
    };
    let build = |images: &[String]| format!("build:\n  core_version: 1\n  registry: r.example.com/\n  images:\n{}", images.concat());
    loaded(&build(&[one("a", "b", ""), one("b", "x", ", mirror_tag: 1"), one("c", "b", ""), one("b", "x", ", mirror_tag: 2")]), &[]);
    assert_snapshot!(told(&build(&[one("a", "b", ""), one("b", "c", ""), one("c", "a", ""), one("d", "a", ""), one("e", "e", "")])), @r#"
    imglife.yaml:7:55: build.images[2].mirror_image: images are built on one another in a circle: `r.example.com/a` on `r.example.com/b` on `r.example.com/c` on `r.example.com/a`
      build one of them on a mirror
    imglife.yaml:9:55: build.images[4].mirror_image: images are built on one another in a circle: `r.example.com/e` on `r.example.com/e`
      build one of them on a mirror
    "#);
    assert_snapshot!(told(&build(&[one("a", "x", ", mirror_tag: 1"), one("a", "x", ", mirror_tag: 2, version: '1'")])), @r#"
    imglife.yaml:6:15: build.images[1].name: the image `a` in version `1` is already listed in line 5
      give the two different values of `version`
    "#);
}

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
fn an_archive_is_one_place_by_all_of_its_names() {
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
        let told = told(&text(one, other));
        assert!(told.contains(&format!("would share the archive `{other}/")), "{one} {other}: {told}");
    }
    for (one, other) in [("one.example.com", "three.example.com"), ("one.example.com", "proxy.example.com/cold")] {
        loaded(&text(one, other), &[]);
    }
    // Two names of one repository may share one.
    loaded(&text("cold.example.com", "alias.example.com").replace("r2.example.com", "r1.example.com:443"), &[]);
    // Nor does it lie in a configured repository by another name of that.
    let told = told(&text("r2.example.com:443", "cold.example.com/x"));
    assert!(told.contains("the archive would lie in the configured repository `r2.example.com/m/alpine`"), "{told}");
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

#[test]
fn lifecycles_are_checked() {
    let products = "tag: '3'\nlifecycle:\n  - { product: alpine, extract: minor, track: major }\n  - { extract: minro }\n  - { product: go/1, accept: { until: 2027-02-30 } }\n";
    assert_snapshot!(told(&entry(products)), @"
    imglife.yaml:7:46: sync.entries[0].lifecycle[0].track: `track` is another name of `extract`, which is given too
      remove one of the two
    imglife.yaml:8:22: sync.entries[0].lifecycle[1].extract: expected `major`, `minor`, `patch`, `full`, or a regular expression with one capture group, found `minro`
      did you mean `minor`?
    imglife.yaml:9:22: sync.entries[0].lifecycle[2].product: `go/1` is not the name of a product: only letters, digits, `-`, `_`, `.` and `+` are allowed
    imglife.yaml:9:28: sync.entries[0].lifecycle[2].accept: `reason` is missing
      add `reason:` with text
    imglife.yaml:9:45: sync.entries[0].lifecycle[2].accept.until: expected a date, found `2027-02-30`
      write year, month and day, as in `2027-06-30`
    ");
    let config = loaded(&entry("tag: '3'\nlifecycle: { product: alpine, track: major, phase: eoas }"), &[]);
    assert!(matches!(config.sync.expect("mirrors").entries[0].lifecycle[0].extract, Extract::Major));
}

#[test]
fn variables_go_before_the_file() {
    let text = format!(
        "registry: {{ url: 'https://a.example.com', project_id: $UNSET }}\nlifecycle: {{ warn_days: 3 }}\n{}",
        image("").replace("build:\n", "build:\n  builder: mine\n")
    );
    let config = loaded(
        &text,
        &[
            ("IMGLIFE_REGISTRY_PROJECT_ID", "9"),
            ("IMGLIFE_REGISTRY_URL", ""),
            ("IMGLIFE_SYNC_PARALLELISM", "8"),
            ("IMGLIFE_ALERT_CRITICAL_DAYS", "45"),
            ("IMGLIFE_BUILDER", ""),
        ],
    );
    let Some(Provider::Gitlab { project_id, url, .. }) = config.registry.map(|registry| registry.provider) else {
        panic!("another provider")
    };
    assert_eq!((project_id, url.map(|url| url.to_string()).as_deref()), (Some(9), Some("https://a.example.com/")));
    assert_eq!(config.sync.map(|sync| sync.parallelism), Some(8));
    assert_eq!(config.lifecycle.warn_days, 45);
    assert_eq!(config.build.map(|build| build.builder), Some(None));
}

#[test]
fn another_provider_by_variable_replaces_the_section() {
    let config = loaded(
        "registry: { url: 'https://gitlab.example.com', project_id: 4, prefix: mine }",
        &[("IMGLIFE_REGISTRY_PROVIDER", "s3"), ("IMGLIFE_REGISTRY_BUCKET", "packages")],
    );
    let registry = config.registry.expect("a registry");
    assert_eq!(registry.prefix.as_deref(), Some("mine"));
    assert!(matches!(registry.provider, Provider::S3 { endpoint: None, bucket, .. } if bucket == "packages"));
}

#[test]
fn wrong_variables_are_named_beside_what_is_wrong_in_the_file() {
    let variables = [("IMGLIFE_REGISTRY_PROJECT_ID", "x"), ("IMGLIFE_REGISTRY_BUCKET", "b"), ("IMGLIFE_SYNC_PARALLELISM", "0")];
    let errors = read(&format!("colour: red\n{}", entry("tag: '3'")), &variables).expect_err("it is wrong");
    assert_snapshot!(errors.render(false), @r#"
    error: unknown key
     --> imglife.yaml:1:1
      |
    1 | colour: red
      | ^^^^^^ colour
      |
      = help: known here: `registry`, `hosts`, `sync`, `build`, `retention`, `lifecycle`, `status`

    error: IMGLIFE_REGISTRY_BUCKET: `bucket` means nothing with provider `gitlab`
     |
     = help: it goes with `provider: s3`

    error: IMGLIFE_REGISTRY_PROJECT_ID: expected a whole number, found `x`
     |
     = help: write it in digits, without a unit

    error: IMGLIFE_SYNC_PARALLELISM: expected a number from 1 to 256, found `0`

    4 errors in imglife.yaml
    "#);
}

#[test]
fn variables_alone_are_enough_for_records() {
    let variables: Variables =
        [("IMGLIFE_REGISTRY_URL", "https://gitlab.example.com"), ("IMGLIFE_REGISTRY_PROJECT_ID", "4")].into_iter().collect();
    let config = Config::from_variables(&variables, Path::new("/project")).expect("valid");
    let lacking: Vec<String> =
        suffices(&config).into_iter().filter_map(|(name, result)| result.err().map(|reason| format!("{name}: {reason}"))).collect();
    assert_snapshot!(lacking.join("\n"), @r#"
    sync: `sync.entries` lists no mirror
    build: `build.images` lists no image
    eol update: no image has a `lifecycle`
    eol list: no image has a `lifecycle`
    eol notify: no image has a `lifecycle`
    status: neither `sync.entries` nor `build.images` lists anything
    cleanup: there is no `retention`
    "#);
    let config = Config::from_variables(&Variables::default(), Path::new("/project")).expect("valid");
    assert!(config.registry.is_none() && config.file.is_none());
    let variables: Variables = [("IMGLIFE_REGISTRY_PROVIDER", "gitea")].into_iter().collect();
    assert_snapshot!(Config::from_variables(&variables, Path::new("/project")).expect_err("no owner").render(false), @r#"
    error: registry: `owner` is missing
     |
     = help: add `owner:` with text
    "#);
}

#[test]
fn a_full_configuration_is_enough_for_every_command() {
    let config = loaded(EVERYTHING, &EVERYTHING_VARIABLES);
    for (command, result) in suffices(&config) {
        assert_eq!(result, Ok(()), "{command}");
    }
}

/// A base-images repository as it is found in GitLab: mirrors, two bases on them, cleanup, a report.
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
    let config = loaded(BASE_IMAGES, &[("CI_REGISTRY", "registry.gitlab.example.com:5050/team/base-images")]);
    let sync = config.sync.expect("mirrors");
    assert_eq!(sync.entries[1].target.to_string(), "registry.gitlab.example.com:5050/team/base-images/mirrors/golang");
    assert!(matches!(&sync.entries[0].selection, Selection::Pattern(pattern) if pattern.tag_regex.regex.is_match("3.21.3")));
    let images = config.build.expect("bases").images;
    assert_eq!(images[1].lifecycle[0].product.to_string(), "go");
    assert_eq!(images[1].retention.as_ref().map(|rules| (rules.keep_last, rules.max_age_days)), Some((5, Some(90))));
}

#[test]
fn the_configuration_of_the_sample_world_loads() {
    loaded(include_str!("../../demo/world/imglife.yaml"), &[]);
}

fn yaml_like() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        proptest::sample::select(SECTIONS.iter().flat_map(|section| section.keys).map(|key| format!("{}:", key.name)).collect::<Vec<_>>()),
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
