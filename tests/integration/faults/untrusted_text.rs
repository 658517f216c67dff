//! Tests that untrusted text is escaped in everything that a run prints or writes.
//!
//! The text comes from records, end-of-life data, labels and annotations of images, tags, and error
//! messages of registries and forges. The output formats are terminals, CI logs, Markdown with
//! Mermaid diagrams, JSON, JUnit, OpenMetrics, dotenv and CSV.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use imglife::cache::Cache;
use imglife::model::media_type;
use imglife::model::{BuildRecord, Clock, Digest, Repository, Variables};
use imglife::packages::Records;
use imglife::packages::directory::DirectoryFiles;
use imglife::registry::layout::Layouts;
use serde_json::{Value, json};

use super::secrets::{Output, files};
use super::{Graph, LAYER_TYPE, RUN_TIMEOUT, World};
use crate::packages::prefix;
use crate::status::small_world;
use crate::support::endoflife::EndOfLife;
use crate::support::fake_server::{FakeServer, tags, typed};

/// Texts with a special meaning for GitLab, Actions, terminals, Markdown, Mermaid, HTML, YAML or
/// spreadsheets.
const ACTIVE: [&str; 14] = [
    "\n::set-output name=image::evil\n",
    "\n::error file=a,line=1::evil\r\n",
    "##[error]evil\n##[group]evil",
    "\r\u{1b}[0Ksection_start:1700000000:evil\r\u{1b}[0Kevil\n",
    "\u{1b}]8;;https://evil.example\u{7}evil\u{1b}]8;;\u{7}\u{1b}[2J\u{9b}31m",
    "\u{202e}live\u{2066}\u{200b}\u{feff}",
    "|evil|`evil`|\n| a | b |\n",
    "\n<!-- imglife:end -->\n# evil\n",
    "<script>alert('evil')</script><img src=x onerror=evil>&lt;",
    "[evil](javascript:evil) ![evil](https://evil.example/x.png) @evil #1 !1",
    "\n```\n\n```mermaid\nflowchart LR\n",
    "\nclick f0 \"javascript:evil\"\n%%{init: {'securityLevel': 'loose'}}%%\n\"]; evil[\"",
    "\"}\nimglife_evil 1\n# EOF\nIMGLIFE_RESULT=evil\n",
    "=cmd|' /C evil'!A0$(touch evil)`touch evil`",
];

/// Returns all of these texts in one, followed by a very long harmless text.
fn evil() -> String {
    format!("{}{}", ACTIVE.concat(), "evil ".repeat(2_000))
}

/// Fails the test if an output contains active text.
fn assert_harmless(output: &Output) {
    for (origin, text) in output {
        let fail = |problem: &str| {
            panic!(
                "{origin} has {problem}:\n{}",
                text.escape_debug().to_string().replace("\\n", "\n")
            )
        };
        let invisible = |character: char| matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        let is_control =
            |character: char| character.is_control() && !matches!(character, '\n' | '\r');
        if text
            .chars()
            .any(|character| is_control(character) || invisible(character))
            || text.replace("\r\n", "\n").contains('\r')
        {
            fail("a control or invisible character");
        }
        for line in text.lines().map(str::trim_start) {
            let is_command = [
                "::",
                "##[",
                "section_start:",
                "section_end:",
                "IMGLIFE_RESULT=evil",
                "imglife_evil",
                "click ",
            ];
            if is_command.iter().any(|start| line.starts_with(start)) {
                fail("a command");
            }
        }
        // The origin of a file is its absolute path; other origins are commands.
        let kind = Path::new(origin)
            .extension()
            .filter(|_| origin.starts_with('/'))
            .and_then(OsStr::to_str)
            .unwrap_or_default();
        if kind == "md" {
            assert_page(text, fail);
        } else if kind == "json" || origin.starts_with("json of ") {
            if serde_json::from_str::<Value>(text).is_err() {
                fail("invalid JSON");
            }
        } else if kind == "xml"
            && (text.contains("<script")
                || text.contains("<img")
                || text.matches("<testsuites>").count() != 1)
        {
            fail("injected elements");
        } else if kind == "metrics"
            && text
                .lines()
                .any(|line| !line.starts_with("# ") && !line.starts_with("imglife_"))
        {
            fail("injected lines");
        } else if kind == "env" && text.lines().any(|line| !line.starts_with("IMGLIFE_")) {
            fail("injected variables");
        } else if origin.starts_with("csv of ")
            && text
                .lines()
                .any(|line| !line.starts_with('"') || line.contains(",\"="))
        {
            fail("a formula or an injected row");
        }
    }
}

/// Checks a Markdown page for injected markup.
fn assert_page(text: &str, fail: impl Fn(&str)) {
    let prose: String = text.split("```").step_by(2).collect();
    let unescaped = |line: &str| line.replace("\\|", "").matches('|').count();
    let mut columns = None;
    for line in prose.lines() {
        columns = match (line.starts_with('|'), columns) {
            (false, _) => None,
            (true, Some(count)) if count != unescaped(line) => {
                return fail("a row with a different number of columns");
            }
            (true, _) => Some(unescaped(line)),
        };
        let code = line.split('`').step_by(2).collect::<String>();
        if ["<script", "<img", "](javascript", "![", "@evil", "$("]
            .iter()
            .any(|active| code.contains(active))
            || line.starts_with("# evil")
        {
            return fail("injected markup");
        }
    }
    if text.matches("<!-- imglife:end -->").count() != 1
        || text.matches("```").count() != 2 * text.matches("```mermaid").count()
    {
        return fail("injected markers");
    }
    for diagram in text
        .split("```mermaid")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
    {
        if ["click", "%%{", "javascript:", "<script", "&lt;"]
            .iter()
            .any(|active| diagram.contains(active))
        {
            return fail("a diagram with active content");
        }
        if diagram
            .lines()
            .any(|line| line.matches('"').count() % 2 == 1)
        {
            return fail("a label that ends early");
        }
    }
}

/// Runs commands and adds their output.
fn run(world: &World, lines: &[&str], output: &mut Output) {
    for line in lines {
        let words: Vec<&str> = ["--log-level", "trace"]
            .into_iter()
            .chain(line.split(' '))
            .collect();
        let outcome = world.start_with(&words).within(RUN_TIMEOUT).wait();
        assert!(matches!(outcome.code(), Some(0..=3)), "{line}: {outcome:?}");
        let form = if line.contains("json") {
            "json of "
        } else if line.contains("csv") {
            "csv of "
        } else {
            ""
        };
        let is_complete = form.is_empty() || !outcome.stdout.is_empty();
        output.insert(
            if is_complete {
                format!("{form}{line}")
            } else {
                (*line).to_owned()
            },
            outcome.stdout,
        );
        output.insert(format!("stderr of {line}"), outcome.stderr);
    }
    assert!(
        !world.path("evil").exists() && !world.home().join("evil").exists(),
        "untrusted text was executed"
    );
}

/// Adds the files that a run has written to `directory`, relative to the working directory.
fn add_files(world: &World, directory: &str, output: &mut Output) {
    files(&world.path(directory), output);
}

/// Writes a record to the record directory of a world.
async fn put(world: &World, record: Value) {
    let record = BuildRecord::parse(record.to_string().as_bytes()).expect("a record");
    let time = record.built_at;
    let files = DirectoryFiles::new(world.path(".imglife/packages"));
    let records = Records::new(
        Arc::new(files),
        prefix(),
        Cache::user(&Variables::default(), true),
        Clock::fixed(time),
    );
    records.put(&record).await.expect("a written record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn untrusted_records_and_data_are_harmless_in_all_output() {
    let world = tokio::task::spawn_blocking(small_world)
        .await
        .expect("a world");
    let base = format!(
        "ocidir://{}:3.21.3-core1.0.0",
        world.path("bases/alpine").display()
    );
    let fields: BTreeMap<String, Value> = ACTIVE
        .iter()
        .map(|active| ((*active).to_owned(), json!(active)))
        .chain([("all".to_owned(), json!([evil()]))])
        .collect();
    for (number, active) in ACTIVE.iter().enumerate() {
        put(
            &world,
            json!({
                "image": format!("r.example/apps/evil:{number}"), "base": base, "revision": format!("{active}{}", evil()), "project": format!("x{active}"),
                "platforms": ["linux/amd64"], "built_at": "2026-11-01T10:00:00Z", "custom_fields": fields, "unknown": evil(),
            }),
        )
        .await;
    }
    let package = Path::new(&crate::lineage::files(&world)[0])
        .parent()
        .expect("a directory")
        .to_owned();
    fs::write(package.join("evil\u{1b}[31m\n::error::"), "x").expect("junk");
    // YAML needs more escapes than JSON.
    let escaped = |character: char| {
        if character.is_ascii() {
            character.to_string()
        } else {
            format!("\\u{:04x}", u32::from(character))
        }
    };
    let quoted = |text: &str| {
        serde_json::to_string(text)
            .expect("text")
            .chars()
            .map(escaped)
            .collect::<String>()
    };
    let cycles: Vec<String> = ACTIVE
        .iter()
        .chain([&"3.21"])
        .map(|cycle| {
            format!(
                "- {{ cycle: {}, eol: 2020-01-01, latest: {}, lts: 2020-01-01 }}\n",
                quoted(cycle),
                quoted(&evil()[..900])
            )
        })
        .collect();
    let world = world
        .file(
            "eol-data.yaml",
            format!("alpine:\n{}{}: []\n", cycles.concat(), quoted(ACTIVE[0])),
        )
        .file("out/x", "");
    let mut output = Output::new();
    run(
        &world,
        &[
            "app list --detailed",
            "app list --detailed --output json",
            "app list --detailed --output csv",
            "app purge --keep 2 --dry-run",
            "app purge --keep 2 --dry-run --output json",
            "eol list --apps",
            "eol list --apps --output json",
            "status --publish --output out/README.md --report-junit out/status.xml --report-metrics out/status.metrics",
            "status --format json",
            "latest alpine",
            "cleanup --list",
            "cleanup --dry-run --output json",
            "build --dry-run --report-junit out/build.xml",
            "run status eol-update cleanup --reports out/reports",
        ],
        &mut output,
    );
    let project = format!("x{}", ACTIVE[0]);
    for words in [
        vec!["check", "--base", &base, "--project", &project],
        vec![
            "check",
            "--base",
            &base,
            "--output",
            "json",
            "--project",
            &project,
        ],
    ] {
        let more = [
            "--report-codequality",
            "out/quality.json",
            "--report-dotenv",
            "out/check.env",
        ];
        let outcome = world.imglife_with(&[&words[..], &more].concat());
        output.insert(
            format!("{}check", if words.len() > 5 { "json of " } else { "" }),
            outcome.stdout,
        );
        output.insert("stderr of check".to_owned(), outcome.stderr);
    }
    add_files(&world, "out", &mut output);
    assert!(
        output.values().any(|text| text.contains("set-output")),
        "no output contains the untrusted text"
    );
    assert!(
        output.keys().any(|name| name.ends_with("README.md"))
            && output.keys().any(|name| name.ends_with("check.env")),
        "{:?}",
        output.keys()
    );
    assert_harmless(&output);
}

/// Publishes an image with these labels and annotations to `at`.
async fn image(at: &Repository, tag: &str, labels: &Value) {
    let mut graph = Graph::default();
    let layer = graph.blob(LAYER_TYPE, "layer");
    let config = json!({
        "os": "linux", "architecture": "amd64", "author": evil(), "config": { "Labels": labels, "Env": ["A=\n::error::"], "User": evil() },
        "rootfs": { "type": "layers", "diff_ids": [Digest::sha256(b"layer")] }, "history": [{ "created_by": evil() }],
    });
    let config = graph.blob(media_type::OCI_CONFIG, config.to_string());
    let manifest = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [layer], "annotations": labels });
    let descriptor = graph.manifest(media_type::OCI_MANIFEST, &manifest);
    graph.tag(tag, &descriptor);
    graph.publish(&Layouts::default(), at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn untrusted_labels_and_annotations_are_harmless_in_all_output() {
    let config = "registry: { provider: file }\n\
        sync: { entries: [{ source: 'ocidir://upstream', target: 'ocidir://mirror', tag: '1.0', lifecycle: { product: alpine } }] }\n\
        build:\n  core_version: 1.0.0\n  registry: 'ocidir://bases'\n  engine: native\n  platforms: [linux/amd64]\n  images:\n\
        \x20   - { name: app, folder: images/app, type: core, mirror_image: 'ocidir://mirror', mirror_tag: '1.0' }\n\
        retention: { keep_last: 1, require_records: false, grace_days: 0, max_delete_percent: 100 }\n";
    let world = World::new()
        .file("imglife.yaml", config)
        .file("images/app/Dockerfile.tmpl", "FROM {{ base }}\nLABEL a=b\n")
        .file(
            "eol-data.yaml",
            "alpine: [{ cycle: '1.0', eol: 2020-01-01 }]\n",
        )
        .file("out/x", "");
    let mut labels: serde_json::Map<String, Value> = ACTIVE
        .iter()
        .map(|active| ((*active).to_owned(), json!(evil())))
        .collect();
    for name in [
        "imglife.ref",
        "imglife.tier",
        "imglife.inputs",
        "imglife.platforms",
        "BASE_IMAGE_REF",
        "org.opencontainers.image.base.name",
        "org.opencontainers.image.base.digest",
        "org.opencontainers.image.revision",
        "org.opencontainers.image.version",
        "org.opencontainers.image.created",
    ] {
        labels.insert(name.to_owned(), json!(evil()));
    }
    let labels = Value::Object(labels);
    for (directory, tag) in [
        ("upstream", "1.0"),
        ("app", "2.0"),
        ("bases/app", "1.0-core0.9.0"),
    ] {
        image(
            &Repository::Layout {
                directory: world.path(directory),
            },
            tag,
            &labels,
        )
        .await;
    }
    let mut output = Output::new();
    let register = "register --image ocidir://app:2.0 --project p --revision r";
    run(
        &world,
        &[
            "sync --report-junit out/sync.xml --report-metrics out/sync.metrics",
            "build --dry-run",
            "build --report-junit out/build.xml",
            "build --dry-run --output json",
            register,
            &format!("{register} --output json"),
            "check --base ocidir://bases/app:1.0-core0.9.0 --probe",
            "latest app --probe",
            "base-args ocidir://bases/app:1.0-core0.9.0",
            "status --output out/README.md --report-metrics out/status.metrics",
            "cleanup --list",
            "cleanup --dry-run --output json",
            "doctor",
        ],
        &mut output,
    );
    add_files(&world, "out", &mut output);
    assert_harmless(&output);
}

/// Starts a server that responds to every request with `status` and untrusted error messages.
fn refusing(status: u16) -> FakeServer {
    FakeServer::start(move |received| {
        if received.path == "/v2/" {
            return typed("application/json", "{}");
        }
        let code = StatusCode::from_u16(status).expect("a status");
        let body =
            json!({ "errors": [{ "code": evil(), "message": evil(), "detail": evil() }], "message": evil(), "error": evil() }).to_string();
        (code, typed("application/json", body)).into_response()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn untrusted_errors_and_tags_are_harmless_in_all_output() {
    let mut output = Output::new();
    let names: Vec<String> = ACTIVE
        .iter()
        .map(|active| (*active).to_owned())
        .chain([evil()])
        .collect();
    let listing = FakeServer::start(move |received| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if received.path.contains("/tags/list") {
            tags(&names)
        } else {
            refused()
        }
    });
    for (number, server) in [
        refusing(400),
        refusing(403),
        refusing(404),
        refusing(418),
        listing,
    ]
    .iter()
    .enumerate()
    {
        let host = server.host();
        let config = format!(
            "registry: {{ url: 'http://{host}', project_id: 42, insecure_registries: [{host:?}] }}
lifecycle: {{ api_url: 'http://{host}/api' }}
sync: {{ entries: [{{ source: '{host}/up/app', target: '{host}/mirrors/app', tag_regex: '.*', lifecycle: {{ product: app }} }}] }}
build:
  core_version: 1.0.0
  registry: '{host}/bases'
  engine: native
  images: [{{ name: app, folder: images/app, type: core, mirror_image: '{host}/mirrors/app', mirror_tag: '1.0' }}]
retention: {{ keep_last: 1, require_records: false, grace_days: 0, max_delete_percent: 100 }}
"
        );
        let world = World::new()
            .file("imglife.yaml", config)
            .file("images/app/Dockerfile.tmpl", "FROM {{ base }}\nLABEL a=b\n")
            .file(
                "eol-data.yaml",
                "app: [{ cycle: '1.0', eol: 2020-01-01 }]\n",
            )
            .file("out/x", "")
            .variable("GITLAB_TOKEN", "glpat-0123456789");
        run(
            &world,
            &[
                "sync --report-junit out/sync.xml --report-metrics out/sync.metrics",
                "sync --output json",
                "sync --list",
                "build --report-junit out/build.xml",
                "build --list",
                "eol update",
                "eol update --output json",
                "status --output out/README.md",
                "cleanup --output json",
                "cleanup --list",
                "app list",
                "app purge --keep 1",
                &format!("register --image {host}/apps/a:1 --project p --revision r"),
                &format!("check --base {host}/bases/app:1 --probe"),
                "latest app --probe",
                "doctor",
                "doctor --output json",
                &format!("run sync build status --reports out/reports-{number}"),
            ],
            &mut output,
        );
        add_files(&world, "out", &mut output);
        assert_harmless(&std::mem::take(&mut output));
    }
}

/// Returns a 404 with an untrusted error message.
fn refused() -> Response {
    (
        StatusCode::NOT_FOUND,
        typed(
            "application/json",
            json!({ "errors": [{ "code": "MANIFEST_UNKNOWN", "message": evil() }] }).to_string(),
        ),
    )
        .into_response()
}

#[test]
fn untrusted_api_data_are_harmless_in_all_output() {
    let api = EndOfLife::start();
    let releases: Vec<Value> = ACTIVE
        .iter()
        .chain([&"1.0"])
        .map(|cycle| json!({ "name": cycle, "label": evil(), "codename": evil(), "isEol": true, "eolFrom": "2020-01-01", "latest": { "name": evil(), "date": "2026-01-02", "link": evil() } }))
        .collect();
    let body = json!({ "schema_version": evil(), "result": { "name": "app", "label": evil(), "releases": releases } });
    api.document("/v1/products/app", &body.to_string());
    api.document(
        "/v1/products/other",
        &json!({ "result": { "name": evil(), "releases": [{ "name": evil(), "eolFrom": evil() }] } }).to_string(),
    );
    let config = format!(
        "registry: {{ provider: file }}\nlifecycle: {{ api_url: {:?} }}\nsync:\n  entries:\n\
         \x20   - {{ source: a.example/app, target: r.example/app, tag: '1.0', lifecycle: {{ product: app }} }}\n\
         \x20   - {{ source: a.example/other, target: r.example/other, tag: '1.0', lifecycle: {{ product: other }} }}\n",
        api.address()
    );
    let world = World::new().file("imglife.yaml", config).file("out/x", "");
    let mut output = Output::new();
    run(
        &world,
        &[
            "eol update",
            "eol update --dry-run --output json",
            "eol list",
            "eol list --output json",
            "status --offline --output out/README.md --report-metrics out/status.metrics --report-junit out/status.xml",
            "run eol-update --reports out/reports",
        ],
        &mut output,
    );
    add_files(&world, "out", &mut output);
    output.insert(
        "the data file".to_owned(),
        fs::read_to_string(world.path("eol-data.yaml")).expect("data"),
    );
    assert_harmless(&output);
}
