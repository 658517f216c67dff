//! `imglife status` and `eol notify`: planner worlds in files, and the binary over directories and
//! a webhook.
//!
//! `tests/status/<case>/` holds a configuration, the world it meets, and the page that is expected.
//! `UPDATE_PLANS=1 cargo test status` writes the pages anew; the change is then read in review.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use axum::response::IntoResponse as _;
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, NaiveTime};
use futures_util::{StreamExt as _, stream};
use imglife::cache::Cache;
use imglife::config;
use imglife::eol::EolTable;
use imglife::model::eol::Calendar;
use imglife::model::{
    Algorithm, BuildRecord, Clock, Descriptor, Digest, Manifest, Reference, Repository, Variables,
};
use imglife::packages::directory::DirectoryFiles;
use imglife::packages::{Prefix, RecordSet, Records};
use imglife::registry::memory::{MemoryStore, StoreOperation};
use imglife::registry::{ImageStore, InMemory};
use imglife::steps::cleanup::{Observer, PreviewInput, ReadingLimits, preview};
use imglife::steps::eol::EolAssessor;
use imglife::steps::status::{observe, page, plan};
use serde::Deserialize;

use crate::registries::client;
use crate::support::fake_server::{FakeServer, typed};
use crate::support::images::{Flavour, Graph};
use crate::support::proxy::{ALWAYS, Fault, Proxy, Rule};
use crate::support::registry::{Mark, Registry};
use crate::support::servers::Server;
use crate::support::world::World;
use crate::sync::json;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    today: NaiveDate,
    #[serde(default)]
    offline: bool,
    /// End-of-life data, as in the data file.
    #[serde(default)]
    data: String,
    /// Repository, tag, name of a content.
    tags: BTreeMap<String, BTreeMap<String, String>>,
    /// Contents that are tagged and not there.
    #[serde(default)]
    lost: BTreeSet<String>,
    #[serde(default)]
    records: Vec<GivenRecord>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenRecord {
    image: String,
    project: String,
    base: Option<String>,
    /// The content whose digest the base is named by.
    pinned: Option<String>,
}

fn manifest(content: &str) -> (Manifest, Descriptor) {
    let config = Descriptor::new(
        "application/vnd.oci.image.config.v1+json",
        Digest::sha256(content.as_bytes()),
        content.len() as u64,
    );
    let text =
        serde_json::json!({ "schemaVersion": 2, "config": config, "layers": [] }).to_string();
    (
        Manifest::parse(Bytes::from(text), None, Algorithm::Sha256).expect("a manifest"),
        config,
    )
}

async fn place(
    tags: &BTreeMap<String, BTreeMap<String, String>>,
    lost: &BTreeSet<String>,
) -> Arc<MemoryStore> {
    let place = Arc::new(MemoryStore::default());
    for (repository, tags) in tags {
        let at: Repository = repository.parse().expect("a repository");
        for (tag, content) in tags {
            let (manifest, config) = manifest(content);
            place
                .put_blob(&at, &config, &InMemory(Bytes::from(content.clone())), None)
                .await
                .expect("a blob");
            place
                .put_manifest(&at, &Reference::Tag(tag.parse().expect("a tag")), &manifest)
                .await
                .expect("a manifest");
            if lost.contains(content) {
                place.lose_manifest(&at, &manifest.digest);
            }
        }
    }
    place.clear_calls();
    place
}

fn record(given: &GivenRecord) -> BuildRecord {
    let base = given.base.as_ref().map(|base| match &given.pinned {
        Some(content) => format!("{base}@{}", manifest(content).0.digest),
        None => base.clone(),
    });
    let json = serde_json::json!({
        "image": given.image, "project": given.project, "base": base, "revision": "4f2a9c", "platforms": [], "built_at": "2026-11-01T12:00:00Z",
    });
    BuildRecord::parse(json.to_string().as_bytes()).expect("a record")
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "who runs the tests says by a variable that the pages are to be written anew"
)]
async fn every_world_is_reported_as_expected() {
    let update = std::env::var_os("UPDATE_PLANS").is_some();
    let mut pages = String::new();
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/status");
    for case in std::fs::read_dir(&cases)
        .expect("the worlds")
        .map(|case| case.expect("a case").path())
    {
        let read = |name: &str| std::fs::read_to_string(case.join(name)).unwrap_or_default();
        let source = config::SourceText {
            name: "config.yaml".to_owned(),
            text: read("config.yaml"),
        };
        let config = config::load(&source, Path::new("/"), &Variables::default())
            .unwrap_or_else(|errors| panic!("{}: {errors}", case.display()));
        let given: Given = serde_saphyr::from_str(&read("world.yaml"))
            .unwrap_or_else(|error| panic!("{}: {error}", case.display()));
        let images = place(&given.tags, &given.lost).await;
        let directory = tempfile::tempdir().expect("a directory");
        let files = Arc::new(DirectoryFiles::new(directory.path().to_owned()));
        let cache = Cache::user(&Variables::default(), false);
        let records = Records::new(
            files,
            Prefix::none(),
            cache,
            Clock::fixed(DateTime::UNIX_EPOCH),
        );
        for given in &given.records {
            records.put(&record(given)).await.expect("a record");
        }
        let stores = images.stores();
        let source = (!given.offline).then_some(&stores);
        let world = observe(
            &config,
            source,
            Some(&records),
            &*imglife::progress::silent(),
        )
        .await
        .expect("a world");
        // One listing per repository, one HEAD per current base that is there, and nothing else.
        let calls = images.calls();
        assert!(
            calls.iter().all(|call| matches!(
                call.operation,
                StoreOperation::Tags | StoreOperation::Resolve
            )),
            "{calls:?}"
        );
        assert!(!given.offline || calls.is_empty(), "{calls:?}");
        let table = EolTable::read(given.data.as_bytes()).unwrap_or_default();
        let calendar = Calendar {
            today: given.today,
            warn_days: config.lifecycle.warn_days,
        };
        let assessor = EolAssessor {
            table: &table,
            phase: config.lifecycle.phase,
            calendar,
        };
        images.clear_calls();
        let (cache, progress) = (imglife::transfer::no_cache(), imglife::progress::silent());
        let now = given.today.and_time(NaiveTime::MIN).and_utc();
        let observer = Observer {
            limits: ReadingLimits::default(),
            stores: &stores,
            cache: &*cache,
            progress: &*progress,
            now,
        };
        let reading = RecordSet {
            records: world.records.clone(),
            reduced: Vec::new(),
            unreadable: world.unreadable.clone(),
            first_written: None,
        };
        let input = PreviewInput {
            documents: None,
            listings: &world.listings,
            identities: &world.identities,
            records: Some(&reading),
        };
        let deletions = preview(&config, input, observer).await.deletions;
        // What names tell is not asked for.
        let looked_at = images
            .calls()
            .iter()
            .filter(|call| call.operation == StoreOperation::Manifest)
            .count();
        assert!(
            looked_at <= 2 * deletions.len(),
            "{deletions:?} {:?}",
            images.calls()
        );
        let deletions = deletions.into_iter().map(|image| (image, None)).collect();
        let text = page(
            &plan(&config, &world, &assessor, &deletions),
            &config.status,
        )
        .expect("a page");
        assert_eq!(
            text,
            page(
                &plan(&config, &world, &assessor, &deletions),
                &config.status
            )
            .expect("a page")
        );
        if update {
            std::fs::write(case.join("page.md"), &text).expect("to write the page");
        }
        assert_eq!(text, read("page.md"), "the page of {}", case.display());
        pages += &text;
    }
    for status in [
        "✅ OK",
        "⚠️ < 30 days",
        "❌ EOL",
        "❌ Expired",
        "⬆️ Outdated",
        "🧹 Expiring",
        "🤝 Accepted until 2027-06-30",
        "❔ Untracked",
        "👻 Orphan",
        "🚫 Missing",
    ] {
        assert!(
            pages.contains(&format!(" {status} |")),
            "nothing is {status}"
        );
    }
}

/// Returns a world with a mirror, a base that is built from it, and an application on that.
pub(crate) fn small_world() -> World {
    let config = "registry: { provider: file }\nstatus: { graph: true, timeline: true }\n\
         sync:\n  entries:\n    - { source: 'ocidir://upstream', target: 'ocidir://mirror', tag: 3.21.3, lifecycle: { product: alpine } }\n\
         build:\n  core_version: 1.0.0\n  registry: 'ocidir://bases'\n  engine: native\n  images:\n\
         \x20   - { name: alpine, folder: images/alpine, type: core, mirror_image: 'ocidir://mirror', mirror_tag: 3.21.3 }\n";
    let world = World::new()
        .file("imglife.yaml", config)
        .file(
            "images/alpine/Dockerfile.tmpl",
            "FROM {{ base }}\nLABEL a=b\n",
        )
        .file(
            "eol-data.yaml",
            "alpine:\n- { cycle: '3.21', eol: 2020-01-01 }\n",
        );
    let upstream = world.path("upstream");
    world.imglife(["demo", "sample"]).succeeds();
    std::fs::rename(world.path("sample/upstream/alpine"), upstream).expect("to move the sample");
    world.imglife(["sync"]).succeeds();
    world.imglife(["build"]).succeeds();
    let base = format!(
        "ocidir://{}:3.21.3-core1.0.0",
        world.path("bases/alpine").display()
    );
    world
        .imglife_with(&[
            "register",
            "--image",
            "r.example/apps/web:1",
            "--revision",
            "a",
            "--project",
            "team/web",
            "--base",
            &base,
            "--platform",
            "linux/amd64",
        ])
        .succeeds();
    world
}

#[test]
fn the_report_goes_to_stdout_or_between_the_markers_of_a_file_and_stays_when_nothing_changed() {
    let world = small_world();
    let printed = world.imglife(["status"]).succeeds().stdout;
    assert!(
        printed.starts_with("<!-- imglife:begin -->\n## Container images\n")
            && printed.ends_with("\n<!-- imglife:end -->\n")
    );
    assert!(
        printed.contains(
            "| `ocidir://bases/alpine` | `3.21.3-core1.0.0` | `amd64` | ❌ EOL | ❌ Expired |"
        ),
        "{printed}"
    );
    assert!(
        printed.contains(
            "| `r.example/apps/web` | `1` | `team/web` | `ocidir://bases/alpine:3.21.3-core1.0.0` |"
        ),
        "{printed}"
    );
    assert!(
        !printed.contains(&world.path("").display().to_string()),
        "no path of this machine is in it"
    );

    let world = world.file(
        "README.md",
        "# Ours\n\n<!-- imglife:begin -->\nold\n<!-- imglife:end -->\nfoot\n",
    );
    let first = world
        .imglife(["status", "--output", "README.md"])
        .succeeds();
    assert!(
        first.stdout.starts_with("Status · ") && first.stdout.contains("README.md   written\n"),
        "{}",
        first.stdout
    );
    let readme = || std::fs::read_to_string(world.path("README.md")).expect("a file");
    assert_eq!(readme(), format!("# Ours\n\n{printed}foot\n"));
    let modified = || {
        std::fs::metadata(world.path("README.md"))
            .and_then(|file| file.modified())
            .expect("a time")
    };
    let before = modified();
    let second = world
        .imglife(["status", "--output", "README.md"])
        .succeeds();
    assert!(
        second.stdout.contains("README.md   unchanged\n"),
        "{}",
        second.stdout
    );
    assert_eq!(modified(), before, "written again");
    world
        .imglife(["status", "--output", "README.md", "--overwrite"])
        .succeeds();
    assert_eq!(readme(), printed);

    let world = world.file("README.md", "a\n<!-- imglife:begin -->\n");
    let refused = world.imglife(["status", "--output", "README.md"]).exits(1);
    assert!(
        refused
            .stderr
            .contains("cannot insert the report into README.md")
            && refused.stderr.contains("is not followed by"),
        "{}",
        refused.stderr
    );
    assert_eq!(
        std::fs::read_to_string(world.path("README.md")).expect("a file"),
        "a\n<!-- imglife:begin -->\n"
    );
}

#[test]
fn policies_files_and_the_other_forms() {
    let world = small_world();
    world
        .imglife([
            "status",
            "--fail-on",
            "expired",
            "--report-junit",
            "j.xml",
            "--report-metrics",
            "m.txt",
        ])
        .exits(3);
    let junit = std::fs::read_to_string(world.path("j.xml")).expect("a file");
    assert!(
        junit.contains("tests=\"3\" failures=\"3\" errors=\"0\" skipped=\"0\""),
        "{junit}"
    );
    let metrics = std::fs::read_to_string(world.path("m.txt")).expect("a file");
    assert!(
        metrics.contains("imglife_status_images{table=\"bases\",status=\"expired\"} 1\n"),
        "{metrics}"
    );
    world.imglife(["status", "--fail-on", "warning"]).exits(3);
    for (days, on_warning) in [("10 days", 3), ("60 days", 0)] {
        let day = std::process::Command::new("date")
            .args(["-u", "+%F", "-d", days])
            .output()
            .expect("a date")
            .stdout;
        let data = format!(
            "alpine:\n- {{ cycle: '3.21', eol: {} }}\n",
            String::from_utf8_lossy(&day).trim()
        );
        std::fs::write(world.path("eol-data.yaml"), data).expect("to write the data");
        world.imglife(["status", "--fail-on", "expired"]).succeeds();
        world
            .imglife(["status", "--fail-on", "warning"])
            .exits(on_warning);
    }
    std::fs::write(
        world.path("eol-data.yaml"),
        "alpine:\n- { cycle: '3.21', eol: 2020-01-01 }\n",
    )
    .expect("to write the data");
    let report = json(
        &world
            .imglife(["status", "--format", "json", "--offline"])
            .succeeds()
            .stdout,
    );
    assert_eq!(
        (&report["schema"], &report["bases"][0]["status"]),
        (&"imglife/status/v1".into(), &"expired".into())
    );
    assert_eq!(report["applications"][0]["eolDate"], "2020-01-01");

    // Offline nothing of the registries is needed; else a listing that fails leaves no file.
    std::fs::write(world.path("mirror/index.json"), "{").expect("a broken layout");
    world
        .imglife(["status", "--offline", "--output", "out.md"])
        .succeeds();
    let failed = world.imglife(["status", "--output", "none.md"]).exits(1);
    assert!(
        failed.stdout.is_empty() && failed.stderr.starts_with("error: "),
        "{}",
        failed.stderr
    );
    assert!(!world.path("none.md").exists());
    let left: Vec<_> = std::fs::read_dir(world.path(""))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().starts_with(".tmp")),
        "{left:?}"
    );
    world.imglife(["status", "--offline", "--publish"]).exits(2);
}

#[test]
fn what_is_published_is_what_check_knows() {
    let world = small_world();
    world
        .imglife(["status", "--publish", "--output", "README.md"])
        .succeeds();
    let base = format!(
        "ocidir://{}:3.21.3-core1.0.0",
        world.path("bases/alpine").display()
    );
    let checked = json(
        &world
            .imglife_with(&["check", "--base", &base, "--output", "json"])
            .succeeds()
            .stdout,
    );
    assert_eq!(
        (&checked["up_to_date"], &checked["eol_status"]),
        (&true.into(), &"expired".into()),
        "{checked}"
    );
    let older = base.replace("3.21.3", "3.20.7");
    let checked = json(
        &world
            .imglife_with(&["check", "--base", &older, "--output", "json"])
            .succeeds()
            .stdout,
    );
    assert_eq!(checked["up_to_date"], false, "{checked}");
    assert!(
        world
            .imglife(["latest", "alpine"])
            .succeeds()
            .stdout
            .ends_with("bases/alpine:3.21.3-core1.0.0\n")
    );
}

#[test]
fn ends_are_listed_with_the_applications_they_concern() {
    let world = small_world();
    let text = world.imglife(["eol", "list", "--apps"]).succeeds().stdout;
    assert!(
        text.lines()
            .next()
            .is_some_and(|line| line.ends_with("Applications"))
            && text.contains("  r.example/apps/web:1"),
        "{text}"
    );
    let plain = world.imglife(["eol", "list"]).succeeds().stdout;
    assert!(!plain.contains("r.example/apps/web"), "{plain}");
}

#[test]
fn people_are_told_on_the_day_and_the_address_is_never_shown() {
    let hook = FakeServer::start(|received| {
        if received.path.contains("broken") {
            axum::http::StatusCode::NOT_FOUND.into_response()
        } else {
            typed("text/plain", Bytes::from("ok"))
        }
    });
    let world = small_world();
    let config = std::fs::read_to_string(world.path("imglife.yaml")).expect("a configuration");
    let config = config.replace(
        "provider: file",
        &format!("provider: file, insecure_registries: [{:?}]", hook.host()),
    ) + "lifecycle: { notify: { slack_webhook_env: OUR_CHAT, webhook_env: OUR_HOOK, at_days: [30, 0] } }\n";
    // It ends today.
    let today = std::process::Command::new("date")
        .args(["-u", "+%F"])
        .output()
        .expect("a date")
        .stdout;
    let data = format!(
        "alpine:\n- {{ cycle: '3.21', eol: {} }}\n",
        String::from_utf8_lossy(&today).trim()
    );
    let world = world
        .file("imglife.yaml", config)
        .file("eol-data.yaml", data)
        .variable(
            "OUR_CHAT",
            format!("http://{}/services/hunter2", hook.host()),
        )
        .variable(
            "OUR_HOOK",
            format!("http://{}/hook?key=hunter22", hook.host()),
        );
    let dry = world.imglife(["eol", "notify", "--dry-run"]).succeeds();
    assert!(
        dry.stdout.contains("[dry-run]")
            && dry.stdout.contains("not sent")
            && hook.requests().is_empty(),
        "{}",
        dry.stdout
    );

    let sent = world
        .imglife(["eol", "notify", "--log-level", "trace"])
        .succeeds();
    let received = hook.requests();
    // A message for the mirror and one for the base, each to both.
    assert_eq!(received.len(), 4, "{}", sent.stdout);
    let bodies: Vec<_> = received
        .iter()
        .map(|received| json(&String::from_utf8_lossy(&received.body)))
        .collect();
    let base = bodies
        .iter()
        .find(|body| body["applications"][0]["image"] == "r.example/apps/web:1")
        .expect("a notice of the base");
    assert_eq!(
        (&base["schema"], &base["ends"][0]["daysLeft"]),
        (&"imglife/eol-notice/v1".into(), &0.into())
    );
    let chat = bodies
        .iter()
        .filter_map(|body| body["text"].as_str())
        .find(|text| text.contains("`r.example/apps/web:1` (`team/web`)"));
    assert!(
        chat.is_some_and(|text| text.contains("`alpine 3.21` ends today")),
        "{bodies:?}"
    );
    assert!(received.iter().all(
        |received| received.method == "POST" && !received.headers.contains_key("authorization")
    ));

    let broken = world.variable(
        "OUR_HOOK",
        format!("http://{}/broken/hunter22", hook.host()),
    );
    let failed = broken
        .imglife(["eol", "notify", "--log-level", "trace"])
        .exits(1);
    assert!(
        failed
            .stdout
            .contains("failed: the webhook responded with status 404"),
        "{}",
        failed.stdout
    );
    for outcome in [dry, sent, failed] {
        assert!(
            !outcome.stdout.contains("hunter2") && !outcome.stderr.contains("hunter2"),
            "{}",
            outcome.stderr
        );
    }
    let unset = broken
        .variable("OUR_CHAT", "")
        .imglife(["eol", "notify"])
        .exits(2);
    assert!(
        unset
            .stderr
            .contains("the variable OUR_CHAT of `lifecycle.notify` is not set"),
        "{}",
        unset.stderr
    );
}

/// Returns a mirror of three tags, a base of two, and a mirror of so many that a listing has two
/// pages.
async fn published(registry: &Registry) {
    let store = client(registry);
    let mut mirror = Graph::default();
    for name in ["3.22.1", "3.22.0", "3.21.0"] {
        let image = mirror.small_image(Flavour::Oci, "linux/amd64", name);
        mirror.tag(name, &image);
    }
    mirror
        .publish(&store, &registry.repository("mirrors/alpine"))
        .await;
    let mut base = Graph::default();
    for name in ["3.22.1-core1.0.0", "3.22.0-core1.0.0"] {
        let image = base.small_image(Flavour::Oci, "linux/amd64", name);
        base.tag(name, &image);
    }
    base.publish(&store, &registry.repository("bases/alpine"))
        .await;
    let (many, at) = (many(), registry.repository("mirrors/many"));
    Graph {
        tags: Vec::new(),
        ..many.clone()
    }
    .publish(&store, &at)
    .await;
    let manifest = many.manifests[0].manifest();
    let puts = many.tags.iter().map(|(tag, _)| {
        let reference = Reference::Tag(tag.clone());
        let (store, at, manifest) = (&store, &at, &manifest);
        async move {
            store
                .put_manifest(at, &reference, manifest)
                .await
                .expect("a tag");
        }
    });
    stream::iter(puts.collect::<Vec<_>>())
        .buffer_unordered(16)
        .collect::<()>()
        .await;
}

fn many() -> Graph {
    let mut graph = Graph::default();
    let image = graph.small_image(Flavour::Oci, "linux/amd64", "many");
    for version in 0..1_100 {
        graph.tag(&format!("1.{version}"), &image);
    }
    graph
}

fn real_configuration(host: &str, more: &str) -> String {
    format!(
        "registry: {{ provider: file, insecure_registries: [{host:?}] }}\n\
         sync:\n  entries:\n\
         \x20   - {{ source: up.example/alpine, target: '{host}/mirrors/alpine', tag: 3.22.1 }}\n\
         \x20   - {{ source: up.example/many, target: '{host}/mirrors/many', tag: '1.1099' }}\n\
         build:\n  core_version: 1.0.0\n  registry: '{host}/bases'\n  images:\n\
         \x20   - {{ name: alpine, folder: f, type: core, mirror_image: '{host}/mirrors/alpine', mirror_tag: 3.22.1 }}\n{more}"
    )
}

/// Returns how often what was asked of a registry since `mark`: listings with their pages, HEADs,
/// manifests, the rest.
fn asked(registry: &Registry, mark: Mark) -> [usize; 4] {
    let requests = registry.requests_since(mark);
    let count = |method: &str, part: &str| {
        requests
            .iter()
            .filter(|seen| seen.method == method && seen.path.contains(part))
            .count()
    };
    let told = [
        count("GET", "/tags/list?"),
        count("HEAD", "/manifests/"),
        count("GET", "/manifests/"),
    ];
    [
        told[0],
        told[1],
        told[2],
        requests.len() - told.iter().sum::<usize>(),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_registries_are_asked_for_listings_and_current_bases_and_for_what_may_go() {
    for server in Server::found("the report")
        .into_iter()
        .filter(|server| *server != Server::Crane)
    {
        let registry = Registry::of(server);
        published(&registry).await;
        let host = registry.host();
        let retention = "retention: { keep_last: 1098, require_records: false, grace_days: 0, max_delete_percent: 100 }\n";
        let of_alpine = retention.replace("1098", "1");
        let page = |more: &str| {
            let world = World::new().file("imglife.yaml", real_configuration(&host, more));
            let mark = server.is_distribution().then(|| registry.mark());
            (
                world.imglife(["status"]).succeeds().stdout,
                mark.map(|mark| asked(&registry, mark)),
            )
        };
        let expiring = |page: &str| {
            page.lines()
                .filter(|line| line.ends_with("| 🧹 Expiring |"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let (text, requests) = page("");
        assert_eq!(
            text.lines()
                .filter(|line| line.contains("mirrors/many` |"))
                .count(),
            1_100
        );
        assert_eq!(expiring(&text), Vec::<String>::new());
        if let Some([listings, heads, manifests, rest]) = requests {
            // Of the large one there may be two pages, as the registry likes.
            assert!(
                (3..=4).contains(&listings) && (heads, manifests) == (1, 0) && rest <= 1,
                "{requests:?}"
            );
        }
        // Two tags of the many are beyond `keep_last`, nothing of the others.
        let (text, requests) = page(retention);
        let going = expiring(&text);
        assert!(
            going.len() == 2
                && going
                    .iter()
                    .all(|line| line.contains("mirrors/many` | `1.1`")
                        || line.contains("mirrors/many` | `1.0`")),
            "{going:?}"
        );
        if let Some([listings, heads, manifests, rest]) = requests {
            // What tells push dates elsewhere is looked for once. Whether those are there that take
            // the places before takes a HEAD each.
            assert!(
                (3..=4).contains(&listings) && (heads, manifests) == (1 + 1_098, 2) && rest <= 4,
                "{requests:?}"
            );
        }
        let (text, requests) = page(&of_alpine);
        assert_eq!(expiring(&text).len(), 1_099 + 2 + 1);
        if let Some([listings, heads, manifests, rest]) = requests {
            // The age of the one base takes its configuration.
            assert!(
                (3..=4).contains(&listings)
                    && (heads, manifests) == (1 + 3, 1_099 + 2 + 1)
                    && rest <= 5,
                "{requests:?}"
            );
        }
        // The same is what a clean-up lists.
        let world = World::new().file("imglife.yaml", real_configuration(&host, &of_alpine));
        let listed = json(
            &world
                .imglife(["cleanup", "--list", "--output", "json"])
                .succeeds()
                .stdout,
        );
        assert_eq!(listed["totals"]["deleted"], 1_099 + 2 + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_that_a_registry_refuses_or_breaks_off_leaves_no_report() {
    let registry = Registry::plain();
    published(&registry).await;
    let refusal = Fault::status(403, &[]);
    for (path, fault) in [
        ("/v2/mirrors/alpine/tags/list", refusal.clone()),
        ("/v2/bases/alpine/tags/list", Fault::Cut(10)),
        ("/v2/bases/alpine/manifests/3.22.1", refusal),
    ] {
        let proxy = Proxy::start(
            registry.host(),
            ["GET", "HEAD"]
                .map(|method| Rule::new(method, path, ALWAYS, fault.clone()))
                .into(),
        );
        let world = World::new()
            .file("imglife.yaml", real_configuration(&proxy.host(), ""))
            .file("README.md", "# Ours\n");
        let outcome = world.imglife(["status", "--output", "README.md"]).exits(1);
        assert!(
            proxy.faults() > 0 && outcome.stderr.contains("error: "),
            "{path}: {}",
            outcome.stderr
        );
        assert_eq!(
            std::fs::read_to_string(world.path("README.md")).expect("a file"),
            "# Ours\n",
            "{path}"
        );
        world
            .imglife(["status", "--offline", "--output", "README.md"])
            .succeeds();
    }
}

#[test]
fn what_nothing_is_known_of_is_skipped_in_the_report_for_ci_servers() {
    let world = World::new().file(
        "imglife.yaml",
        real_configuration("r.example", "status: { graph: false, timeline: false }\n"),
    );
    let page = world
        .imglife(["status", "--offline", "--report-junit", "j.xml"])
        .succeeds()
        .stdout;
    assert!(!page.contains("```mermaid"), "{page}");
    let junit = std::fs::read_to_string(world.path("j.xml")).expect("a file");
    assert!(
        junit.contains("tests=\"3\" failures=\"0\" errors=\"0\" skipped=\"3\"")
            && junit.contains("<skipped message=\"❔ Untracked\"/>"),
        "{junit}"
    );
}
