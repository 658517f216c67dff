//! Tests of environment variables that override keys, and of configurations without a file.

use std::path::Path;

use insta::assert_snapshot;

use super::tests::{entry, image, loaded, read};
use crate::config::{Config, RegistryProvider, readiness};
use crate::model::Variables;

#[test]
fn variables_override_the_file() {
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
    let Some(RegistryProvider::Gitlab {
        project_id, url, ..
    }) = config.registry.map(|registry| registry.provider)
    else {
        panic!("unexpected provider")
    };
    assert_eq!(
        (project_id, url.map(|url| url.to_string()).as_deref()),
        (Some(9), Some("https://a.example.com/"))
    );
    assert_eq!(config.sync.map(|sync| sync.parallelism), Some(8));
    assert_eq!(config.lifecycle.warn_days, 45);
    assert_eq!(config.build.map(|build| build.builder), Some(None));
}

#[test]
fn provider_variable_replaces_the_section() {
    let config = loaded(
        "registry: { url: 'https://gitlab.example.com', project_id: 4, prefix: mine }",
        &[
            ("IMGLIFE_REGISTRY_PROVIDER", "s3"),
            ("IMGLIFE_REGISTRY_BUCKET", "packages"),
        ],
    );
    let registry = config.registry.expect("a registry");
    assert_eq!(registry.prefix.as_deref(), Some("mine"));
    assert!(
        matches!(registry.provider, RegistryProvider::S3 { endpoint: None, bucket, .. } if bucket == "packages")
    );
}

#[test]
fn errors_in_variables_are_reported_with_those_in_the_file() {
    let variables = [
        ("IMGLIFE_REGISTRY_PROJECT_ID", "x"),
        ("IMGLIFE_REGISTRY_BUCKET", "b"),
        ("IMGLIFE_SYNC_PARALLELISM", "0"),
    ];
    let errors =
        read(&format!("colour: red\n{}", entry("tag: '3'")), &variables).expect_err("invalid");
    assert_snapshot!(errors.render(false), @r#"
    error: unknown key
     --> imglife.yaml:1:1
      |
    1 | colour: red
      | ^^^^^^ colour
      |
      = help: valid keys are `registry`, `hosts`, `sync`, `build`, `retention`, `lifecycle` and `status`

    error: IMGLIFE_REGISTRY_BUCKET: `bucket` has no effect with provider `gitlab`
     |
     = help: remove it, or set `provider: s3`

    error: IMGLIFE_REGISTRY_PROJECT_ID: expected a whole number, found `x`
     |
     = help: write digits only, without a unit

    error: IMGLIFE_SYNC_PARALLELISM: expected a number from 1 to 256, found `0`

    4 errors in imglife.yaml
    "#);
}

#[test]
fn variables_alone_configure_a_package_registry() {
    let variables: Variables = [
        ("IMGLIFE_REGISTRY_URL", "https://gitlab.example.com"),
        ("IMGLIFE_REGISTRY_PROJECT_ID", "4"),
    ]
    .into_iter()
    .collect();
    let config = Config::from_variables(&variables, Path::new("/project")).expect("valid");
    let lacking: Vec<String> = readiness(&config)
        .into_iter()
        .filter_map(|(name, result)| result.err().map(|reason| format!("{name}: {reason}")))
        .collect();
    assert_snapshot!(lacking.join("\n"), @r#"
    sync: `sync.entries` lists no mirror
    build: `build.images` lists no image
    eol update: no image has a `lifecycle`
    eol list: no image has a `lifecycle`
    eol notify: no image has a `lifecycle`
    status: neither `sync.entries` nor `build.images` lists anything
    cleanup: there is no `retention`
    "#);
    let config =
        Config::from_variables(&Variables::default(), Path::new("/project")).expect("valid");
    assert!(config.registry.is_none() && config.file.is_none());
    let variables: Variables = [("IMGLIFE_REGISTRY_PROVIDER", "gitea")]
        .into_iter()
        .collect();
    assert_snapshot!(Config::from_variables(&variables, Path::new("/project")).expect_err("no owner").render(false), @r#"
    error: registry: `owner` is missing
     |
     = help: add `owner:` with a string
    "#);
}
