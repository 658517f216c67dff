//! `imglife sync` by its binary: between real registries and OCI image layouts, in every way to log
//! in.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use imglife::model::{Digest, Repository};
use imglife::registry::ImageSource;
use imglife::registry::layout::Layouts;
use serde_json::Value;

use crate::registries::client;
use crate::support::images::{Flavour, Graph, copied_kinds, too_deep};
use crate::support::registry::{PASSWORD, Registry, USER};
use crate::support::rootfs::debian_image;
use crate::support::tokens::TokenRules;
use crate::support::world::World;

/// Returns the variable that holds something for a registry's host.
fn variable(registry: &Registry, name: &str) -> String {
    format!(
        "IMGLIFE_{}_{name}",
        registry.host().replace(['.', ':'], "_")
    )
}

/// Returns a configuration that may speak plain HTTP to `insecure`, with these entries.
pub(crate) fn configuration(insecure: &[&Registry], entries: &str) -> String {
    let hosts: Vec<String> = insecure
        .iter()
        .map(|registry| format!("{:?}", registry.host()))
        .collect();
    format!(
        "registry: {{ provider: file, insecure_registries: [{}] }}\nsync:\n  entries:\n{entries}",
        hosts.join(", ")
    )
}

pub(crate) fn entry(source: &str, target: &str, rest: &str) -> String {
    format!("    - {{ source: {source:?}, target: {target:?}, {rest} }}\n")
}

fn layout(world: &World, path: &str) -> Repository {
    Repository::Layout {
        directory: world.path(path),
    }
}

/// Returns an image with `versions` tags that share a layer and have one of their own.
fn versions(count: usize) -> Graph {
    let mut graph = Graph::default();
    let base = graph.blob(
        "application/vnd.oci.image.layer.v1.tar+gzip",
        vec![7_u8; 300_000],
    );
    for version in 0..count {
        let own = graph.blob(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            format!("layer of {version}"),
        );
        let image = graph.image(Flavour::Oci, "linux/amd64", &[base.clone(), own]);
        let index = graph.index(Flavour::Oci, &[image]);
        graph.tag(&format!("1.{version}"), &index);
    }
    graph
}

pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// Returns method and path of the requests, without digests, counted.
fn counted(registry: &Registry, since: crate::support::registry::Mark) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in registry.requests_since(since) {
        let path = request.path.split('?').next().unwrap_or_default();
        let kind = ["tags/list", "manifests", "uploads", "blobs", "referrers"]
            .into_iter()
            .find(|part| path.contains(part))
            .unwrap_or(path);
        *counts
            .entry(format!("{} {kind}", request.method))
            .or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn images_of_every_kind_arrive_bit_for_bit_at_a_registry_and_in_a_layout() {
    let (upstream, registry) = (Registry::plain(), Registry::plain());
    let from = upstream.repository("library/odd");
    let kinds = copied_kinds();
    for graph in &kinds {
        graph.publish(&client(&upstream), &from).await;
    }
    let to = registry.repository("mirrors/odd");
    // Tags without a version would be compared.
    let selection = "tag_regex: '.*', check_digest: false";
    let entries = entry(&from.to_string(), &to.to_string(), selection)
        + &entry(&to.to_string(), "ocidir://air/gap", selection);
    let world = World::new().file(
        "imglife.yaml",
        configuration(&[&upstream, &registry], &entries),
    );
    // The second entry reads what the first one writes: its turn comes in the second run.
    world.imglife(["sync", "--only", "mirrors/odd"]).exits(2);
    world.imglife(["sync", "--only", &to.to_string()]).exits(1);
    world.imglife(["sync"]).succeeds();
    for graph in &kinds {
        graph.assert_published(&client(&registry), &to).await;
        graph
            .assert_published(&Layouts::default(), &layout(&world, "air/gap"))
            .await;
    }
    let (up, down) = (upstream.mark(), registry.mark());
    let report = json(
        &world
            .imglife(["sync", "--output", "json"])
            .succeeds()
            .stdout,
    );
    assert_eq!(
        (&report["schema"], &report["totals"]["copied"]),
        (&"imglife/sync/v1".into(), &0.into())
    );
    assert_eq!(report["totals"]["upToDate"], 2 * kinds.len());
    assert_eq!(
        counted(&upstream, up),
        BTreeMap::from([("GET tags/list".to_owned(), 1)])
    );
    assert_eq!(
        counted(&registry, down),
        BTreeMap::from([("GET tags/list".to_owned(), 2)]),
        "one as a target, one as a source"
    );
}

#[tokio::test]
async fn what_arrives_is_what_another_program_reads() {
    let (upstream, registry) = (Registry::plain(), Registry::plain());
    let debian = debian_image();
    let from = upstream.repository("library/debian");
    debian.publish(&client(&upstream), &from).await;
    let (tag, descriptor) = &debian.tags[0];
    let to = registry.repository("mirrors/debian");
    let entries = entry(&from.to_string(), &to.to_string(), &format!("tag: {tag}"))
        + &entry(&from.to_string(), "ocidir://debian", &format!("tag: {tag}"));
    let world = World::new().file(
        "imglife.yaml",
        configuration(&[&upstream, &registry], &entries),
    );
    world.imglife(["sync"]).succeeds();
    for read in [
        format!("docker://{to}:{tag} --tls-verify=false"),
        format!("oci:debian:{tag}"),
    ] {
        let raw = world
            .shell(&format!("skopeo inspect --raw {read}"))
            .succeeds()
            .stdout;
        assert_eq!(Digest::sha256(raw.as_bytes()), descriptor.digest, "{read}");
    }
    debian.assert_published(&client(&registry), &to).await;
    debian
        .assert_published(&Layouts::default(), &layout(&world, "debian"))
        .await;
}

#[tokio::test]
async fn every_way_to_log_in_works_and_no_secret_is_shown() {
    let upstream = Registry::plain();
    let graph = versions(2);
    let from = upstream.repository("library/app");
    graph.publish(&client(&upstream), &from).await;
    for registry in [
        Registry::builder().htpasswd().start(),
        Registry::builder().htpasswd().tls().start(),
        Registry::builder().tokens(TokenRules::default()).start(),
        Registry::builder()
            .tokens(TokenRules {
                oauth2: true,
                ..TokenRules::default()
            })
            .start(),
    ] {
        let to = registry.repository("mirrors/app");
        let entries = entry(&from.to_string(), &to.to_string(), "tag_regex: '1\\..*'");
        let is_tls = registry.url().starts_with("https");
        let insecure = if is_tls {
            vec![&upstream]
        } else {
            vec![&upstream, &registry]
        };
        let mut text = configuration(&insecure, &entries);
        if is_tls {
            text += &format!(
                "hosts: {{ {:?}: {{ ca_file: {:?} }} }}\n",
                registry.host(),
                registry.ca_file()
            );
        }
        let anonymous = World::new().file("imglife.yaml", &text);
        let refused = anonymous.imglife(["sync"]).exits(1);
        assert!(
            refused.stdout.contains(&variable(&registry, "USERNAME")),
            "the hint names the variable: {}",
            refused.stdout
        );

        let wrong = World::new()
            .variable(&variable(&registry, "USERNAME"), USER)
            .variable(&variable(&registry, "PASSWORD"), "wr0ng-secret");
        let wrong = wrong
            .file("imglife.yaml", &text)
            .imglife(["--log-level", "trace", "sync"])
            .exits(1);
        assert!(!wrong.stdout.contains("wr0ng-secret") && !wrong.stderr.contains("wr0ng-secret"));

        let world = World::new()
            .variable(&variable(&registry, "USERNAME"), USER)
            .variable(&variable(&registry, "PASSWORD"), PASSWORD);
        let world = world.file("imglife.yaml", &text);
        let synced = world.imglife(["--log-level", "trace", "sync"]).succeeds();
        for secret in [PASSWORD, "YWxpY2U6"] {
            assert!(
                !synced.stdout.contains(secret) && !synced.stderr.contains(secret),
                "a secret was shown: {}",
                synced.stderr
            );
        }
        assert_eq!(registry.stored_tags("mirrors/app").len(), 2);
        graph.assert_published(&client(&registry), &to).await;
    }
}

#[tokio::test]
async fn logins_are_found_in_dockers_configuration_and_its_helpers() {
    let registry = Registry::builder().htpasswd().start();
    let upstream = Registry::plain();
    versions(1)
        .publish(&client(&upstream), &upstream.repository("app"))
        .await;
    let entries = entry(
        &format!("{}/app", upstream.host()),
        &format!("{}/app", registry.host()),
        "tag: '1.0'",
    );
    let text = configuration(&[&upstream, &registry], &entries);
    let helper = format!(
        "test \"$1\" = get && grep -q {} && echo '{{\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'",
        registry.host()
    );
    let docker = format!("{{\"credHelpers\": {{\"{}\": \"fake\"}}}}", registry.host());
    let world = World::new()
        .file("imglife.yaml", text)
        .program("docker-credential-fake", &helper);
    std::fs::create_dir(world.home().join(".docker")).expect("a directory");
    std::fs::write(world.home().join(".docker/config.json"), docker).expect("a file");
    world.imglife(["sync"]).succeeds();
    assert_eq!(registry.stored_tags("app").len(), 1);
}

#[tokio::test]
async fn each_blob_crosses_the_wire_once_and_is_mounted_between_mirrors() {
    let (upstream, registry) = (Registry::plain(), Registry::plain());
    let graph = versions(3);
    let from = upstream.repository("library/app");
    graph.publish(&client(&upstream), &from).await;
    let entries: String = ["a", "b", "c"]
        .map(|team| {
            entry(
                &from.to_string(),
                &format!("{}/{team}/app", registry.host()),
                "tag_regex: '1\\..*'",
            )
        })
        .concat();
    let world = World::new().file(
        "imglife.yaml",
        configuration(&[&upstream, &registry], &entries),
    );
    let mark = upstream.mark();
    let report = json(
        &world
            .imglife(["sync", "--output", "json"])
            .succeeds()
            .stdout,
    );
    let reads: Vec<String> = upstream
        .requests_since(mark)
        .into_iter()
        .filter(|request| request.path.contains("/blobs/"))
        .map(|request| request.path)
        .collect();
    let unique: std::collections::BTreeSet<&String> = reads.iter().collect();
    assert_eq!(
        (reads.len(), unique.len()),
        (graph.blobs.len(), graph.blobs.len()),
        "{reads:?}"
    );
    let size: usize = graph.blobs.iter().map(|blob| blob.bytes.len()).sum();
    assert_eq!(report["totals"]["bytesMoved"], size);
    let mounted = registry
        .requests()
        .into_iter()
        .filter(|request| request.path.contains("mount=") && request.status == 201)
        .count();
    assert_eq!(mounted, 2 * graph.blobs.len());
}

#[tokio::test]
async fn a_dry_run_names_what_a_real_one_does_and_sends_nothing() {
    let (upstream, registry) = (Registry::plain(), Registry::plain());
    versions(4)
        .publish(&client(&upstream), &upstream.repository("app"))
        .await;
    let entries = entry(
        &format!("{}/app", upstream.host()),
        &format!("{}/app", registry.host()),
        "tag_regex: '1\\..*', exclude_regex: '1.3', keep_last: 2",
    );
    let world = World::new().file(
        "imglife.yaml",
        configuration(&[&upstream, &registry], &entries),
    );
    let tags = |report: &Value| {
        report["entries"][0]["tags"]
            .as_array()
            .expect("tags")
            .iter()
            .map(|tag| tag["tag"].clone())
            .collect::<Vec<_>>()
    };
    let dry = json(
        &world
            .imglife(["sync", "--dry-run", "--output", "json"])
            .succeeds()
            .stdout,
    );
    let listed = world.imglife(["sync", "--list"]).succeeds().stdout;
    assert!(
        registry
            .requests()
            .iter()
            .all(|request| matches!(request.method.as_str(), "GET" | "HEAD")),
        "{:?}",
        registry.requests()
    );
    assert_eq!(
        listed
            .lines()
            .filter(|line| line.contains("to copy"))
            .count(),
        2,
        "{listed}"
    );
    let real = json(
        &world
            .imglife(["sync", "--output", "json"])
            .succeeds()
            .stdout,
    );
    assert_eq!(
        (tags(&dry), tags(&dry)),
        (tags(&real), vec!["1.2".into(), "1.1".into()])
    );
    assert_eq!(
        (&dry["dryRun"], &real["dryRun"]),
        (&true.into(), &false.into())
    );
    let text = world.imglife(["sync", "--dry-run"]).succeeds().stdout;
    assert!(text.contains("Sync [dry-run] ·"), "{text}");
}

#[tokio::test]
async fn a_stopped_run_leaves_only_whole_images_and_the_next_one_completes() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let (upstream, registry) = (Registry::plain(), Registry::plain());
        let graph = versions(12);
        graph
            .publish(&client(&upstream), &upstream.repository("app"))
            .await;
        let entries = entry(
            &format!("{}/app", upstream.host()),
            &format!("{}/app", registry.host()),
            "tag_regex: '1\\..*'",
        );
        let text = configuration(&[&upstream, &registry], &entries);
        let slow = format!(
            "{text}hosts: {{ {:?}: {{ requests_per_second: 20 }} }}\n",
            registry.host()
        );
        let world = World::new()
            .file("imglife.yaml", &text)
            .file("slow.yaml", slow);
        let running = world
            .start_imglife(["-c", "slow.yaml", "sync"])
            .within(Duration::from_secs(60));
        while registry.stored_tags("app").is_empty() {
            std::thread::sleep(Duration::from_millis(20));
        }
        running.signal(signal);
        let stopped = running.wait().exits(code);
        assert!(stopped.stdout.contains("Not done"), "{}", stopped.stdout);
        let done = registry.stored_tags("app");
        assert!(
            !done.is_empty() && done.len() < 12,
            "{} of 12 tags",
            done.len()
        );
        let whole = client(&registry);
        for (tag, descriptor) in graph
            .tags
            .iter()
            .filter(|(tag, _)| done.contains_key(tag.as_str()))
        {
            assert_eq!(done[tag.as_str()], descriptor.digest.to_string());
            let manifest = whole
                .manifest(&registry.repository("app"), &tag.clone().into())
                .await
                .expect("an answer")
                .expect("the image");
            for child in manifest.children().expect("an index") {
                assert!(
                    whole
                        .manifest(&registry.repository("app"), &child.digest.clone().into())
                        .await
                        .expect("an answer")
                        .is_some()
                );
            }
        }
        world.imglife(["sync"]).succeeds();
        graph
            .assert_published(&whole, &registry.repository("app"))
            .await;
    }
}

#[tokio::test]
async fn one_failed_image_is_named_with_its_side_and_the_rest_goes_on() {
    let (upstream, registry) = (Registry::plain(), Registry::plain());
    let graph = versions(3);
    graph
        .publish(&client(&upstream), &upstream.repository("app"))
        .await;
    let deep = too_deep();
    deep.publish(&client(&upstream), &upstream.repository("app"))
        .await;
    let lost = Digest::sha256(b"layer of 1");
    std::fs::remove_file(upstream.stored(&lost)).expect("a stored blob");
    std::fs::write(
        upstream.stored(&Digest::sha256(b"layer of 2")),
        "layer of X",
    )
    .expect("a stored blob");
    let entries = entry(
        &format!("{}/app", upstream.host()),
        &format!("{}/app", registry.host()),
        "tag_regex: '.*'",
    );
    let world = World::new().file(
        "imglife.yaml",
        configuration(&[&upstream, &registry], &entries),
    );
    let report = json(&world.imglife(["sync", "--output", "json"]).exits(1).stdout);
    let tags = report["entries"][0]["tags"].as_array().expect("tags");
    let outcomes: BTreeMap<&str, &str> = tags
        .iter()
        .map(|tag| {
            (
                tag["tag"].as_str().expect("a tag"),
                tag["outcome"].as_str().expect("an outcome"),
            )
        })
        .collect();
    assert_eq!(
        (outcomes["1.0"], outcomes["1.1"], outcomes["1.2"]),
        ("copied", "failed", "failed")
    );
    assert_eq!(outcomes[deep.tags[0].0.as_str()], "failed");
    for tag in tags.iter().filter(|tag| tag["outcome"] == "failed") {
        assert_eq!(tag["error"]["side"], "source", "{tag}");
    }
    assert_eq!(
        registry.stored_tags("app").into_keys().collect::<Vec<_>>(),
        ["1.0"]
    );
    let text = world.imglife(["sync"]).exits(1).stdout;
    assert!(
        text.contains("Failed       3") || text.contains("Failed          3"),
        "{text}"
    );
}

#[tokio::test]
async fn reports_for_machines_and_hooks_tell_what_happened() {
    let (upstream, registry) = (Registry::plain(), Registry::plain());
    versions(2)
        .publish(&client(&upstream), &upstream.repository("app"))
        .await;
    let hooks =
        "hooks: { post_sync: [{ cmd: \"echo {{ image }} {{ digest }} >> changed.txt\" }, [env]] }";
    let hooks = hooks.replace(
        "[env]",
        "{ cmd: [sh, -c, 'echo once $IMGLIFE_TARGET >> changed.txt'] }",
    );
    let target = format!("{}/app", registry.host());
    let entries = entry(
        &format!("{}/app", upstream.host()),
        &target,
        &format!("tag_regex: '1\\..*', {hooks}"),
    );
    let world = World::new().file(
        "imglife.yaml",
        configuration(&[&upstream, &registry], &entries),
    );
    world
        .imglife(["sync", "--report-junit", "missing/junit.xml"])
        .exits(2);
    assert!(
        registry.stored_tags("app").is_empty(),
        "nothing is done when a report cannot be written"
    );
    world
        .imglife([
            "sync",
            "--report-junit",
            "junit.xml",
            "--report-metrics",
            "metrics.txt",
        ])
        .succeeds();
    let junit = std::fs::read_to_string(world.path("junit.xml")).expect("the report");
    assert!(
        junit.contains("tests=\"5\" failures=\"0\"") && junit.contains("name=\"1.1\""),
        "{junit}"
    );
    let metrics = std::fs::read_to_string(world.path("metrics.txt")).expect("the report");
    assert!(
        metrics.contains("imglife_sync_success 1") && metrics.ends_with("# EOF\n"),
        "{metrics}"
    );
    let changed = std::fs::read_to_string(world.path("changed.txt")).expect("the hooks wrote");
    let stored = registry.stored_tags("app");
    let expected = format!(
        "{target}:1.1 {}\n{target}:1.0 {}\nonce {target}\n",
        stored["1.1"], stored["1.0"]
    );
    assert_eq!(changed, expected);
    world.imglife(["sync"]).succeeds();
    assert_eq!(
        std::fs::read_to_string(world.path("changed.txt")).expect("the file"),
        expected,
        "nothing changed, nothing ran"
    );
}

#[tokio::test]
async fn what_is_wrong_with_the_connection_is_told_with_what_to_do() {
    let upstream = Registry::plain();
    versions(1)
        .publish(&client(&upstream), &upstream.repository("app"))
        .await;
    let secure = Registry::builder().tls().start();
    versions(1)
        .publish(&client(&secure), &secure.repository("app"))
        .await;
    let synced = |source: &str, insecure: &[&Registry]| {
        let world = World::new().file(
            "imglife.yaml",
            configuration(insecure, &entry(source, "ocidir://out", "tag: '1.0'")),
        );
        world.imglife(["sync"]).exits(1).stdout
    };
    let plain = synced(&format!("{}/app", upstream.host()), &[]);
    assert!(plain.contains("insecure_registries"), "{plain}");
    let unknown_authority = synced(&format!("{}/app", secure.host()), &[]);
    assert!(unknown_authority.contains("ca_file"), "{unknown_authority}");
    let absent = synced(&format!("{}/none", upstream.host()), &[&upstream]);
    assert!(
        absent.contains("source: ") && absent.contains(": not found"),
        "{absent}"
    );
}

#[tokio::test]
async fn an_endpoint_takes_the_traffic_of_a_host_and_names_stay() {
    let (upstream, graph) = (Registry::plain(), versions(2));
    graph
        .publish(&client(&upstream), &upstream.repository("library/app"))
        .await;
    let entries = entry(
        "docker.io/library/app",
        "ocidir://out",
        "tag_regex: '1\\..*'",
    );
    let text = format!(
        "{}hosts: {{ docker.io: {{ endpoint: {:?} }} }}\n",
        configuration(&[], &entries),
        upstream.url()
    );
    let world = World::new().file("imglife.yaml", text);
    let synced = world.imglife(["sync", "--dry-run"]).succeeds();
    assert!(
        !synced.stdout.contains(&upstream.host()),
        "{}",
        synced.stdout
    );
    world.imglife(["sync"]).succeeds();
    graph
        .assert_published(&Layouts::default(), &layout(&world, "out"))
        .await;
}

#[tokio::test]
async fn the_parts_of_a_sharded_run_are_the_whole() {
    let (upstream, graph) = (Registry::plain(), versions(1));
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        graph
            .publish(&client(&upstream), &upstream.repository(name))
            .await;
    }
    let entries: String = names
        .map(|name| {
            entry(
                &format!("{}/{name}", upstream.host()),
                &format!("ocidir://out/{name}"),
                "tag: '1.0'",
            )
        })
        .concat();
    let world = World::new().file("imglife.yaml", configuration(&[&upstream], &entries));
    world.imglife(["sync", "--shard", "auto"]).exits(2);
    world.imglife(["sync", "--shard", "1/2"]).succeeds();
    let there = |name: &str| world.path(&format!("out/{name}/index.json")).exists();
    assert_eq!(names.iter().filter(|name| there(name)).count(), 3);
    world.imglife(["sync", "--shard", "2/2"]).succeeds();
    assert!(names.iter().all(|name| there(name)));
}

#[tokio::test]
async fn two_runs_into_one_layout_lose_nothing() {
    let (upstream, graph) = (Registry::plain(), versions(20));
    graph
        .publish(&client(&upstream), &upstream.repository("app"))
        .await;
    let source = format!("{}/app", upstream.host());
    let [odd, even] = ["1.\\d*[13579]", "1.\\d*[02468]"].map(|regex| {
        configuration(
            &[&upstream],
            &entry(&source, "ocidir://out", &format!("tag_regex: '{regex}'")),
        )
    });
    let world = World::new().file("odd.yaml", odd).file("even.yaml", even);
    let runs = ["odd.yaml", "even.yaml"].map(|file| world.start_imglife(["-c", file, "sync"]));
    for run in runs {
        run.wait().succeeds();
    }
    graph
        .assert_published(&Layouts::default(), &layout(&world, "out"))
        .await;
}

#[tokio::test]
async fn hostile_tags_and_names_neither_run_nor_escape() {
    let world = World::new().file(
        "imglife.yaml",
        configuration(
            &[],
            &entry("ocidir://evil", "ocidir://out", "tag_regex: '.*'"),
        ),
    );
    let entries = ["$(touch pwned)", "../../../etc/passwd", "\u{1b}[31mred", "a\n::set-output"].map(|name| {
        let annotations = serde_json::json!({ "org.opencontainers.image.ref.name": name });
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        serde_json::json!({ "mediaType": media_type, "digest": Digest::sha256(b"x"), "size": 1, "annotations": annotations })
    });
    let evil = serde_json::json!({ "schemaVersion": 2, "manifests": entries });
    let world = world
        .file("evil/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)
        .file("evil/index.json", evil.to_string());
    let synced = world.imglife(["--log-level", "trace", "sync"]).exits(1);
    assert!(
        synced.stdout.contains("none of 0 upstream tags"),
        "{}",
        synced.stdout
    );
    for text in [&synced.stdout, &synced.stderr] {
        assert!(
            !text.contains('\u{1b}') && !text.lines().any(|line| line.starts_with("::")),
            "{text}"
        );
    }
    assert!(!world.path("pwned").exists());
}

#[tokio::test]
async fn a_large_layer_streams_through_little_memory() {
    let upstream = Registry::plain();
    let mut graph = Graph::default();
    let layer = graph.blob(
        "application/vnd.oci.image.layer.v1.tar",
        Bytes::from(vec![42_u8; 200 * 1024 * 1024]),
    );
    let image = graph.image(Flavour::Docker, "linux/amd64", &[layer]);
    graph.tag("1.0", &image);
    graph
        .publish(&client(&upstream), &upstream.repository("large"))
        .await;
    let registry = Registry::plain();
    let entries = entry(
        &format!("{}/large", upstream.host()),
        &format!("{}/large", registry.host()),
        "tag: '1.0'",
    );
    let world = World::new().file(
        "imglife.yaml",
        configuration(&[&upstream, &registry], &entries),
    );
    let running = world.start_imglife(["sync"]);
    let status = format!("/proc/{}/status", running.id());
    let mut peak = 0;
    // The high-water mark is gone with the process, so it is read while that runs.
    while let Ok(text) = std::fs::read_to_string(&status) {
        let Some(line) = text.lines().find(|line| line.starts_with("VmHWM:")) else {
            break;
        };
        peak = line
            .split_whitespace()
            .nth(1)
            .and_then(|kilobytes| kilobytes.parse::<u64>().ok())
            .unwrap_or(peak)
            .max(peak);
        std::thread::sleep(Duration::from_millis(2));
    }
    running.wait().succeeds();
    assert!((1..64 * 1024).contains(&peak), "{peak} KiB at the most");
    assert_eq!(registry.stored_tags("large").len(), 1);
}

#[tokio::test]
async fn an_unchanged_run_that_compares_costs_two_heads_a_tag_even_with_a_platform_filter() {
    let (upstream, registry) = (Registry::plain(), Registry::plain());
    let mut graph = Graph::default();
    for version in 0..3 {
        let children = ["linux/amd64", "linux/arm64"].map(|platform| {
            graph.small_image(Flavour::Oci, platform, &format!("{platform} {version}"))
        });
        let index = graph.index(Flavour::Oci, &children);
        graph.tag(&format!("1.{version}"), &index);
    }
    graph
        .publish(&client(&upstream), &upstream.repository("app"))
        .await;
    let rest =
        "tag_regex: '1\\..*', check_digest: true, referrers: false, platforms: [linux/amd64]";
    let entries = entry(
        &format!("{}/app", upstream.host()),
        &format!("{}/app", registry.host()),
        rest,
    );
    let world = World::new().file(
        "imglife.yaml",
        configuration(&[&upstream, &registry], &entries),
    );
    let copied = json(
        &world
            .imglife(["sync", "--output", "json"])
            .succeeds()
            .stdout,
    );
    let tag = &copied["entries"][0]["tags"][0];
    assert_ne!(
        tag["digest"], tag["sourceDigest"],
        "the index was rewritten"
    );
    let heads = BTreeMap::from([
        ("GET tags/list".to_owned(), 1),
        ("HEAD manifests".to_owned(), 3),
    ]);
    for forgotten in [false, true] {
        if forgotten {
            std::fs::remove_dir_all(world.home().join(".cache/imglife")).expect("the cache");
        }
        let (up, down) = (upstream.mark(), registry.mark());
        let report = json(
            &world
                .imglife(["sync", "--output", "json"])
                .succeeds()
                .stdout,
        );
        assert_eq!(report["totals"]["upToDate"], 3);
        assert_eq!(counted(&registry, down), heads);
        let mut expected = heads.clone();
        if forgotten {
            expected.insert("GET manifests".to_owned(), 3);
        }
        assert_eq!(counted(&upstream, up), expected, "forgotten: {forgotten}");
    }
}

#[tokio::test]
async fn verify_finds_what_a_registry_lost_and_repairs_it() {
    let (upstream, registry) = (Registry::plain(), Registry::plain());
    let graph = versions(3);
    graph
        .publish(&client(&upstream), &upstream.repository("app"))
        .await;
    let entries = entry(
        &format!("{}/app", upstream.host()),
        &format!("{}/app", registry.host()),
        "tag_regex: '1\\..*'",
    ) + &entry(
        &format!("{}/app", upstream.host()),
        "ocidir://out",
        "tag_regex: '1\\..*'",
    );
    let world = World::new().file(
        "imglife.yaml",
        configuration(&[&upstream, &registry], &entries),
    );
    world.imglife(["sync"]).succeeds();
    let lost = Digest::sha256(b"layer of 1");
    std::fs::remove_file(registry.stored(&lost)).expect("a stored blob");
    std::fs::remove_file(world.path(&format!("out/blobs/sha256/{}", lost.hex())))
        .expect("a stored blob");
    let blind = json(
        &world
            .imglife(["sync", "--output", "json"])
            .succeeds()
            .stdout,
    );
    assert_eq!(
        blind["totals"]["upToDate"], 6,
        "without --verify nobody looks"
    );
    let found = json(
        &world
            .imglife(["sync", "--verify", "--dry-run", "--output", "json"])
            .succeeds()
            .stdout,
    );
    assert_eq!(
        (&found["totals"]["copied"], &found["totals"]["upToDate"]),
        (&2.into(), &4.into())
    );
    let repaired = world.imglife(["sync", "--verify"]).succeeds().stdout;
    assert!(
        repaired.contains(&format!("missing parts: 1, the first is {}", lost.short())),
        "{repaired}"
    );
    graph
        .assert_published(&client(&registry), &registry.repository("app"))
        .await;
    graph
        .assert_published(&Layouts::default(), &layout(&world, "out"))
        .await;
    let again = json(
        &world
            .imglife(["sync", "--verify", "--output", "json"])
            .succeeds()
            .stdout,
    );
    assert_eq!(again["totals"]["upToDate"], 6);
}

#[test]
fn a_working_directory_that_is_gone_only_matters_where_one_is_needed() {
    let world = World::new();
    let gone = |arguments: &str| {
        let line = format!(
            "mkdir gone && cd gone && rmdir ../gone && '{}' {arguments}",
            env!("CARGO_BIN_EXE_imglife")
        );
        world.shell(&line)
    };
    assert!(gone("--version").succeeds().stdout.starts_with("imglife "));
    let outcome = gone("sync").exits(2);
    assert!(
        outcome
            .stderr
            .starts_with("error: there is no imglife.yaml in ."),
        "{}",
        outcome.stderr
    );
}

#[tokio::test]
async fn an_upload_that_a_stopped_run_gave_up_is_cancelled() {
    let (upstream, registry) = (Registry::plain(), Registry::plain());
    let mut graph = Graph::default();
    let layer = graph.blob(
        "application/vnd.oci.image.layer.v1.tar",
        Bytes::from(vec![7_u8; 300 * 1024 * 1024]),
    );
    let image = graph.image(Flavour::Docker, "linux/amd64", &[layer]);
    graph.tag("1.0", &image);
    graph
        .publish(&client(&upstream), &upstream.repository("large"))
        .await;
    let entries = entry(
        &format!("{}/large", upstream.host()),
        &format!("{}/large", registry.host()),
        "tag: '1.0'",
    );
    let world = World::new().file(
        "imglife.yaml",
        configuration(&[&upstream, &registry], &entries),
    );
    let running = world.start_imglife(["sync"]);
    let large = |session: std::fs::DirEntry| {
        session
            .path()
            .join("data")
            .metadata()
            .is_ok_and(|data| data.len() > 1_000_000)
    };
    let in_the_middle = || {
        let uploads = std::fs::read_dir(registry.storage().join("repositories/large/_uploads"));
        uploads.is_ok_and(|uploads| uploads.flatten().any(large))
    };
    while !in_the_middle() {
        std::thread::sleep(Duration::from_millis(1));
    }
    running.signal("INT");
    running.wait().exits(130);
    let cancels = |request: &crate::support::registry::Request| {
        request.method == "DELETE" && request.path.contains("/blobs/uploads/")
    };
    assert!(
        registry.requests().iter().any(cancels),
        "the upload is cancelled"
    );
    assert!(registry.stored_tags("large").is_empty());
}
