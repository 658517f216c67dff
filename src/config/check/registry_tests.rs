//! Tests of `registry` and `hosts`.

use insta::assert_snapshot;

use super::tests::{findings_of, loaded};
use crate::config::{readiness, show};

#[test]
fn registry_rejects_keys_of_other_providers() {
    assert_snapshot!(findings_of("registry:\n  provider: s3\n  project_id: 4\n  api_url: https://a\n"), @r#"
    imglife.yaml:1:1: registry: `bucket` is missing
      add `bucket:` with a string
    imglife.yaml:3:3: registry.project_id: `project_id` has no effect with provider `s3`
      remove it, or set `provider: gitlab`
    imglife.yaml:4:3: registry.api_url: `api_url` has no effect with provider `s3`
      remove it, or set `provider: gitlab` or `provider: gitea`
    "#);
    assert_snapshot!(findings_of("registry:\n  url: gitlab.example.com\n  project_id: 0\n  prefix: ../x\n  insecure_registries: ['http://x', 'y:99999']\n"), @r#"
    imglife.yaml:2:8: registry.url: expected a URL that starts with `https://` or `http://`, found `gitlab.example.com`
      write `https://gitlab.example.com`
    imglife.yaml:3:15: registry.project_id: expected a number of at least 1, found `0`
    imglife.yaml:4:11: registry.prefix: a prefix consists of parts separated by `/`, each with letters, digits, `.`, `_` and `-`
      remove slashes at the start and the end, and parts named `.` or `..`
    imglife.yaml:5:25: registry.insecure_registries[0]: `http://x` is not a registry host: remove the scheme; list hosts that use plain HTTP in `registry.insecure_registries`
    imglife.yaml:5:37: registry.insecure_registries[1]: `y:99999` is not a registry host: the port must be a number from 1 to 65535
    "#);
    assert_snapshot!(findings_of("registry:\n  url: https://bot:hunter2@gitlab.example.com\n"), @r#"
    imglife.yaml:2:8: registry.url: the URL contains a user name or a password
      remove it: imglife reads credentials from the environment itself
    "#);
}

#[test]
fn hosts_with_errors_are_reported() {
    let text = "hosts:\n  hub.docker.com: { endpoint: 'http://127.0.0.1:5000' }\n  docker.io: { client_cert: a.pem }\n  index.docker.io: { max_connections: 0, requests_per_second: 0 }\n  'https://x': {}\n  a.example.com: { client_key: k.pem, endpoint: 'ftp://x' }\n";
    assert_snapshot!(findings_of(text), @r#"
    imglife.yaml:3:16: hosts."docker.io".client_cert: `client_cert` without `client_key`
      add `client_key:` with the path of a PEM file
    imglife.yaml:4:3: hosts."index.docker.io": the host `docker.io` is already configured in line 3
      write all settings of a host under one key
    imglife.yaml:4:39: hosts."index.docker.io".max_connections: expected a number from 1 to 1000, found `0`
    imglife.yaml:4:63: hosts."index.docker.io".requests_per_second: expected a number above 0, such as `10` or `0.5`, found `0`
    imglife.yaml:5:3: hosts."https://x": `https://x` is not a registry host: remove the scheme; list hosts that use plain HTTP in `registry.insecure_registries`
      write the host as in image references, for example `docker.io` or `registry:5000`
    imglife.yaml:6:20: hosts."a.example.com".client_key: `client_key` without `client_cert`
      add `client_cert:` with the path of a PEM file
    imglife.yaml:6:49: hosts."a.example.com".endpoint: expected a URL that starts with `https://` or `http://`, found `ftp://x`
    "#);
}

#[test]
fn insecure_registries_alone_configure_no_package_registry() {
    let text = "sync: { entries: [{ source: a.test/x, target: b.test/x, tag: '1' }] }\nretention: { keep_last: 3 }\n\
                registry: { insecure_registries: [b.test, a.test] }\n";
    let config = loaded(text, &[]);
    assert!(config.registry.is_none());
    assert_eq!(
        config
            .insecure_registries
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["a.test", "b.test"]
    );
    let lacks = |name: &str| {
        readiness(&config)
            .into_iter()
            .find(|(command, _)| *command == name)
            .expect("the command")
            .1
    };
    assert_eq!(
        (lacks("cleanup"), lacks("register")),
        (Ok(()), Err("there is no `registry`".to_owned()))
    );
    assert_eq!(show(&loaded(&show(&config), &[])), show(&config));
    assert!(
        loaded(text, &[("IMGLIFE_REGISTRY_PROJECT_ID", "4")])
            .registry
            .is_some()
    );
}
