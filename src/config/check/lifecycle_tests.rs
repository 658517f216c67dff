//! Tests of the lifecycles of images, and fuzzing of the configuration.

use std::path::Path;

use insta::assert_snapshot;

use super::tests::{entry, findings_of, loaded};
use crate::config::{Config, ConfigErrors, Extract, ImageLifecycle, SourceText, load, show};
use crate::model::fuzz_tests::{fuzz, text};

fn read(text: &str) -> Result<Config, ConfigErrors> {
    let source = SourceText {
        name: "imglife.yaml".to_owned(),
        text: text.to_owned(),
    };
    let variables = [("HOME", "/home")].into_iter().collect();
    load(&source, Path::new("/project"), &variables)
}

#[test]
fn lifecycles_with_errors_are_reported() {
    let products = "tag: '3'\nlifecycle:\n  - { product: alpine, extract: minor, track: major }\n  - { extract: minro }\n  - { product: go/1, accept: { until: 2027-02-30 } }\n";
    assert_snapshot!(findings_of(&entry(products)), @"
    imglife.yaml:7:46: sync.entries[0].lifecycle[0].track: `track` is an alias of `extract`, which is also set
      remove one of the two
    imglife.yaml:8:22: sync.entries[0].lifecycle[1].extract: expected `major`, `minor`, `patch`, `full`, or a regular expression with one capture group, found `minro`
      did you mean `minor`?
    imglife.yaml:9:22: sync.entries[0].lifecycle[2].product: `go/1` is not a product name: only letters, digits, `-`, `_`, `.` and `+` are allowed
    imglife.yaml:9:28: sync.entries[0].lifecycle[2].accept: `reason` is missing
      add `reason:` with a string
    imglife.yaml:9:45: sync.entries[0].lifecycle[2].accept.until: expected a date, found `2027-02-30`
      write year, month and day, for example `2027-06-30`
    ");
    let config = loaded(
        &entry("tag: '3'\nlifecycle: { product: alpine, track: major, phase: eoas }"),
        &[],
    );
    assert!(matches!(
        config.sync.expect("mirrors").entries[0].lifecycle[0].extract,
        Extract::Major
    ));
}

#[test]
fn product_defaults_to_that_of_the_source_repository() {
    let text = "
sync:
  entries:
    - { source: golang, target: r.example/mirrors/go, tag: '1.22', lifecycle: {} }
build:
  core_version: 1.0.0
  registry: r.example/bases
  images:
    - { name: inherits, folder: a, type: core, mirror_image: r.example/mirrors/go }
    - { name: own, folder: a, type: core, mirror_image: r.example/mirrors/go, lifecycle: [{ extract: minor }, { product: alpine }] }
    - { name: other, folder: a, type: core, mirror_image: quay.io/team/app, mirror_tag: '1', lifecycle: {} }
";
    let config = read(text).expect("valid");
    let products = |lifecycle: &[ImageLifecycle]| {
        lifecycle
            .iter()
            .map(|one| one.product.to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let images: Vec<String> = config
        .build
        .iter()
        .flat_map(|build| &build.images)
        .map(|image| products(image.lifecycle.as_deref().unwrap_or_default()))
        .collect();
    assert_eq!(
        products(&config.sync.as_ref().expect("mirrors").entries[0].lifecycle),
        "docker.io/library/golang"
    );
    assert_eq!(
        images,
        ["", "docker.io/library/golang alpine", "quay.io/team/app"]
    );
    let again = read(&show(&config)).expect("valid");
    assert_eq!(show(&again), show(&config));
}

#[test]
fn fuzzing_configurations() {
    let seeds = [
        include_str!("everything.yaml"),
        "sync: { entries: [{ source: a, target: b/c, tag_regex: '3\\.(1|2)', min_age: 7d }] }",
    ];
    fuzz("configurations", &seeds, |input| match read(&text(input)) {
        Ok(config) => drop(show(&config)),
        Err(errors) => assert!(!errors.to_string().is_empty() && !errors.render(false).is_empty()),
    });
}
