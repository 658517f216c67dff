//! A server on every address that the configuration can name: no credential arrives.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use imglife::config::{self, SourceText};
use serde_json::{Value, json};

use super::schema::{Key, keys};
use super::{CREDENTIALS, JOB, SECRET, variables};
use crate::support::fake_server::{FakeServer, ReceivedRequest};
use crate::support::world::World;

/// Addresses that a merge request can write: another host, and those of the job over plain HTTP.
const ADDRESSES: [&str; 7] = [
    "http://evil.example/x",
    "http://gitlab.example",
    "http://registry.gitlab.example/x",
    "evil.example/x",
    "evil.example",
    "registry.gitlab.example/x",
    "gitlab.example",
];

/// Commands that contact servers.
const COMMANDS: [&[&str]; 7] = [
    &["sync", "--list"],
    &["build", "--list"],
    &["eol", "update", "--dry-run"],
    &["app", "list"],
    &["status"],
    &["cleanup", "--list"],
    &["doctor"],
];

/// Number of programs that run at the same time.
const WORKERS: usize = 4;

/// Returns a configuration in which each section is complete, and hosts of the job and of others are
/// reached over plain HTTP without a check of certificates.
fn base() -> Value {
    let hostile = json!({ "insecure_skip_verify": true });
    json!({
        "registry": {
            "url": "https://gitlab.example",
            "project_id": 42,
            "insecure_registries": ["registry.gitlab.example", "gitlab.example", "evil.example", "quay.example"],
        },
        "hosts": { "registry.gitlab.example": hostile, "gitlab.example": hostile, "name.example": {} },
        "sync": { "entries": [
            { "source": "evil.example/up", "target": "registry.gitlab.example/team/m", "tag": "1", "lifecycle": { "product": "alpine" } },
            { "source": "quay.example/team/up", "target": "name.example/team/m", "tag": "1" },
        ] },
        "build": {
            "core_version": "1.0.0",
            "registry": "registry.gitlab.example/bases",
            "images": [{ "name": "a", "folder": "a", "type": "core", "mirror_image": "evil.example/a", "mirror_tag": "1" }],
        },
        "retention": { "keep_last": 1 },
        "lifecycle": { "api_url": "http://evil.example/api" },
    })
}

/// Returns the configurations of a merge request that are valid: the base, and the base with one
/// changed key.
fn configurations() -> Vec<(String, String)> {
    let mut found = vec![("the base".to_owned(), base().to_string())];
    let providers = [
        json!({ "provider": "gitea", "owner": "team", "url": "http://evil.example" }),
        json!({ "provider": "gitea", "owner": "team", "url": "http://gitlab.example" }),
        json!({ "provider": "s3", "bucket": "b", "url": "http://evil.example" }),
        json!({ "provider": "s3", "bucket": "b", "url": "http://gitlab.example" }),
        json!({ "project_id": 42, "url": "http://gitlab.example" }),
        json!({ "project_id": 42, "url": "http://evil.example" }),
        json!({ "project_id": 42, "url": "https://gitlab.example", "api_url": "http://gitlab.example" }),
    ];
    for registry in providers {
        let mut document = base();
        document["registry"] = registry;
        found.push((document["registry"].to_string(), document.to_string()));
    }
    let texts: Vec<Key> = keys().into_iter().filter(|key| key.is_text).collect();
    for key in texts {
        for address in ADDRESSES {
            let mut document = base();
            key.set(&mut document, &json!(address));
            let source = SourceText {
                name: "imglife.yaml".to_owned(),
                text: document.to_string(),
            };
            // Free text can hold a URL, and no other address.
            if !key.is_name && !address.starts_with("http://evil.example") {
                continue;
            }
            let is_valid = config::load(&source, Path::new("/project"), &variables()).is_ok();
            if is_valid && names_a_server(&key) {
                found.push((format!("{}: {address}", key.name()), document.to_string()));
            }
        }
    }
    found
}

/// Returns false for keys with free text, whose values are never contacted. A key that is not listed
/// is tested.
fn names_a_server(key: &Key) -> bool {
    let last = key.path.last().map_or("", String::as_str);
    !matches!(
        last,
        "title"
            | "client_zone"
            | "cmd"
            | "reason"
            | "builder"
            | "path"
            | "owner"
            | "repo"
            | "bucket"
            | "folder"
            | "eol_data_file"
            | "ca_file"
    ) && !key.path.iter().any(|part| part == "args")
}

/// Returns true if a request has part of a secret in any form.
fn carries_a_secret(request: &ReceivedRequest) -> bool {
    let mut texts = vec![
        request.path.clone(),
        String::from_utf8_lossy(&request.body).into_owned(),
    ];
    for value in request.headers.values() {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let basic = text
            .split_once(' ')
            .and_then(|(_, encoded)| STANDARD.decode(encoded).ok());
        texts.extend(basic.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
        texts.push(text);
    }
    texts.iter().any(|text| text.contains(SECRET))
        || request.headers.contains_key("x-amz-security-token")
}

#[test]
fn no_credential_reaches_a_server_that_a_key_names() {
    // Every plain request to any host arrives here, because it is the proxy.
    let server = FakeServer::start(|request| {
        let response = Response::builder();
        let response = if request.headers.contains_key("authorization") {
            response.status(StatusCode::NOT_FOUND)
        } else {
            response
                .status(StatusCode::UNAUTHORIZED)
                .header("www-authenticate", "Basic realm=\"x\"")
        };
        response.body(Body::empty()).expect("a response")
    });
    let proxy = format!("http://{}", server.host());
    let configurations = configurations();
    assert!(
        configurations.len() > 20,
        "only {} configurations are valid",
        configurations.len()
    );
    let (next, printed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((name, text)) =
                    configurations.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let mut world = World::new()
                        .file("imglife.yaml", text)
                        .file("a/Dockerfile.tmpl", "FROM {{ base }}\n")
                        .variable("HTTP_PROXY", &proxy)
                        .variable("AWS_EC2_METADATA_DISABLED", "true");
                    for (name, value) in JOB.into_iter().chain(CREDENTIALS) {
                        world = world.variable(name, value);
                    }
                    for command in COMMANDS {
                        let arguments = [command, &["--time-limit", "5s"]].concat();
                        let outcome = world.imglife_with(&arguments);
                        if outcome.stdout.contains(SECRET) || outcome.stderr.contains(SECRET) {
                            printed
                                .lock()
                                .expect("no panic")
                                .push(format!("{name}: {outcome:?}"));
                        }
                    }
                }
            });
        }
    });
    assert_eq!(
        printed.into_inner().expect("no panic"),
        Vec::<String>::new()
    );
    let requests = server.requests();
    assert!(
        requests
            .iter()
            .any(|request| request.path.contains("evil.example")),
        "the server was contacted"
    );
    let carried: Vec<String> = requests
        .iter()
        .filter(|request| carries_a_secret(request))
        .map(|request| format!("{} {}: {:?}", request.method, request.path, request.headers))
        .collect();
    assert_eq!(carried, Vec::<String>::new());
}
