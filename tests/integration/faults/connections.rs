//! Tests of stalled connections, redirects, rejected mounts, and time limits.

use std::collections::BTreeSet;
use std::sync::Arc;

use imglife::http::{Client, Settings};
use imglife::model::{Clock, Digest, Reference, Tag};
use imglife::registry::ImageStores;
use imglife::registry::remote::RemoteRegistries;
use imglife::transfer::{Attachments, CopyRequest, ExpectedTag, PlatformFilter, Transfer};

use super::{
    ALWAYS, Duration, Fault, Graph, HUGE_LAYER, LAYER, ProxiedRequest, Proxy, RUN_TIMEOUT,
    Registry, Rule, TestRegistries, World, causes, client, configuration, image, report,
};
use crate::registries::Alice;
use crate::support::registry::{PASSWORD, USER};

/// Returns the environment variable of a host setting.
pub(super) fn variable(host: &str, name: &str) -> String {
    format!("IMGLIFE_{}_{name}", host.replace(['.', ':'], "_"))
}

/// Returns a client with short timeouts, for registries that stall.
fn stores_with_short_timeouts(hosts: [&str; 2]) -> ImageStores {
    let settings = Settings {
        insecure: hosts
            .into_iter()
            .map(|host| host.parse().expect("a host"))
            .collect(),
        retry_delay: Duration::from_millis(10),
        stall: Duration::from_millis(500),
        ..Settings::default()
    };
    let clock = Clock::fixed(chrono::DateTime::UNIX_EPOCH);
    let client = Client::new(settings, Arc::new(Alice), clock);
    ImageStores::single(Arc::new(RemoteRegistries::new(Arc::new(client))))
}

#[tokio::test]
async fn stalled_connection_is_closed_and_the_transfer_repeated() {
    let registries = TestRegistries::start(LAYER).await;
    let layer = registries.layer().as_str();
    let (blob, commit) = (format!("/blobs/{layer}"), layer.replace(':', "%3A"));
    let middle = 1_500_000;
    for (at_source, method, path, which, fault, copied) in [
        (true, "GET", "/manifests/1.0", 0..1, Fault::Stall(20), true),
        (true, "GET", blob.as_str(), 0..1, Fault::Stall(0), true),
        (true, "GET", blob.as_str(), 0..1, Fault::Stall(middle), true),
        (true, "GET", blob.as_str(), ALWAYS, Fault::Stall(0), false),
        (
            false,
            "POST",
            "/blobs/uploads/",
            0..1,
            Fault::StallSending(0),
            true,
        ),
        (
            false,
            "PUT",
            commit.as_str(),
            0..1,
            Fault::StallSending(middle),
            true,
        ),
        (
            false,
            "PUT",
            "/manifests/1.0",
            ALWAYS,
            Fault::StallSending(0),
            false,
        ),
    ] {
        let name = format!("{method} {path} {which:?} {fault:?}");
        registries.target.wipe();
        let proxied = if at_source {
            &registries.upstream
        } else {
            &registries.target
        };
        let proxy = Proxy::start(proxied.host(), vec![Rule::new(method, path, which, fault)]);
        let (from, to) = if at_source {
            (proxy.host(), registries.target.host())
        } else {
            (registries.upstream.host(), proxy.host())
        };
        let stores = stores_with_short_timeouts([&from, &to]);
        let transfer = Transfer::new(stores.clone(), stores, imglife::progress::silent());
        let tag: Tag = "1.0".parse().expect("a tag");
        let request = CopyRequest {
            item: "an image",
            from: &format!("{from}/app").parse().expect("a repository"),
            reference: Reference::Tag(tag.clone()),
            to: &format!("{to}/app").parse().expect("a repository"),
            tag: &tag,
            expected: ExpectedTag::Absent,
            filter: &PlatformFilter::All,
            attachments: Attachments::Skip,
        };
        let result = tokio::time::timeout(RUN_TIMEOUT, transfer.copy(request))
            .await
            .unwrap_or_else(|_| panic!("{name}: the copy does not end"));
        assert!(proxy.faults() > 0, "{name}: the proxy injected no fault");
        if copied {
            result.unwrap_or_else(|error| panic!("{name}: {}", imglife::error::chain(&error)));
            registries
                .graph
                .assert_published(
                    &client(&registries.target),
                    &registries.target.repository("app"),
                )
                .await;
        } else {
            let cause = imglife::error::chain(&result.expect_err(&name));
            assert!(cause.contains("no data for"), "{name}: {cause}");
            assert!(registries.target.stored_tags("app").is_empty(), "{name}");
        }
    }
}

#[tokio::test]
async fn redirected_download_sends_no_credentials_and_needs_tls_unless_allowed() {
    let (upstream, elsewhere) = (Registry::builder().htpasswd().start(), Registry::plain());
    let graph = image("1.0", 200_000);
    for registry in [&upstream, &elsewhere] {
        graph
            .publish(&client(registry), &registry.repository("app"))
            .await;
    }
    let storage = Proxy::start(elsewhere.host(), Vec::new());
    let layer = &graph.blobs[0].descriptor.digest;
    let location = format!(
        "http://{}/v2/app/blobs/{layer}?signature=of-a-storage-address",
        storage.host()
    );
    let redirect = Fault::Answer {
        status: 307,
        headers: vec![("location", location)],
        body: "",
    };
    let proxy = Proxy::start(
        upstream.host(),
        vec![Rule::new(
            "GET",
            format!("/blobs/{layer}"),
            ALWAYS,
            redirect,
        )],
    );
    let entries = [(
        format!("{}/app", proxy.host()),
        "ocidir://out".to_owned(),
        "tag_regex: '.*'",
    )];
    let world = World::new()
        .variable(&variable(&proxy.host(), "USERNAME"), USER)
        .variable(&variable(&proxy.host(), "PASSWORD"), PASSWORD)
        .file("strict.yaml", configuration(&[proxy.host()], &entries))
        .file(
            "imglife.yaml",
            configuration(&[proxy.host(), storage.host()], &entries),
        );
    let refused = world
        .imglife(["-c", "strict.yaml", "--log-level", "trace", "sync"])
        .exits(1);
    assert!(
        refused.stdout.contains("is not followed: it is plain HTTP"),
        "{}",
        refused.stdout
    );
    assert!(
        refused.stdout.contains("insecure_registries"),
        "{}",
        refused.stdout
    );
    assert!(storage.requests().is_empty());
    let copied = world.imglife(["--log-level", "trace", "sync"]).succeeds();
    let layout = imglife::model::Repository::Layout {
        directory: world.path("out"),
    };
    graph
        .assert_published(&imglife::registry::layout::Layouts::default(), &layout)
        .await;
    assert!(
        proxy
            .requests()
            .iter()
            .any(|request| request.header("authorization").is_some()),
        "no request had credentials"
    );
    assert!(
        !storage.requests().is_empty()
            && storage
                .requests()
                .iter()
                .all(|request| request.header("authorization").is_none())
    );
    for text in [refused.stdout, refused.stderr, copied.stdout, copied.stderr] {
        assert!(
            !text.contains(PASSWORD) && !text.contains("of-a-storage-address"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn rejected_mount_becomes_an_upload_and_leaves_none_open() {
    let (upstream, target) = (Registry::plain(), Registry::plain());
    let graph = image("1.0", 100_000);
    graph
        .publish(&client(&upstream), &upstream.repository("app"))
        .await;
    let faults = [
        Fault::WithoutQuery,
        Fault::status(400, &[]),
        Fault::status(403, &[]),
        Fault::status(404, &[]),
        Fault::status(405, &[]),
    ];
    let once = [Fault::status(503, &[]), Fault::Reset, Fault::LoseAnswer];
    let rules = faults
        .into_iter()
        .map(|fault| (fault, ALWAYS))
        .chain(once.into_iter().map(|fault| (fault, 0..1)));
    let runs = rules.enumerate().map(|(number, (fault, which))| {
        let (name, upstream, graph, target) = (format!("{fault:?}"), &upstream, &graph, &target);
        async move {
            let proxy = Proxy::start(
                target.host(),
                vec![Rule::new("POST", "mount=", which, fault)],
            );
            let paths = ["a", "b", "c"].map(|team| format!("{team}-{number}/app"));
            let source = format!("{}/app", upstream.host());
            let entries = paths.clone().map(|path| {
                (
                    source.clone(),
                    format!("{}/{path}", proxy.host()),
                    "tag_regex: '.*'",
                )
            });
            let world = World::new().file(
                "imglife.yaml",
                configuration(&[upstream.host(), proxy.host()], &entries),
            );
            let sync = tokio::task::spawn_blocking(move || {
                world
                    .start_imglife(["sync"])
                    .within(RUN_TIMEOUT)
                    .wait()
                    .succeeds()
            });
            sync.await.unwrap_or_else(|_| panic!("{name}"));
            assert!(proxy.faults() > 0, "{name}: the proxy injected no fault");
            for path in &paths {
                graph
                    .assert_published(&client(target), &target.repository(path))
                    .await;
                assert_eq!(
                    open_uploads(target, path),
                    BTreeSet::new(),
                    "{name} leaves uploads open"
                );
            }
        }
    });
    futures_util::future::join_all(runs).await;
}

/// Returns the uploads of a repository that were neither committed nor cancelled.
fn open_uploads(registry: &Registry, path: &str) -> BTreeSet<String> {
    let uploads = registry
        .storage()
        .join("repositories")
        .join(path)
        .join("_uploads");
    let entries = std::fs::read_dir(uploads).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[tokio::test]
async fn rate_limited_head_never_becomes_a_get() {
    let (upstream, target) = (Registry::plain(), Registry::plain());
    let (old, new) = (image("1.0", 1_000), image("1.0", 2_000));
    new.publish(&client(&upstream), &upstream.repository("app"))
        .await;
    old.publish(&client(&target), &target.repository("app"))
        .await;
    let proxy = Proxy::start(
        upstream.host(),
        vec![Rule::new(
            "HEAD",
            "/manifests/",
            ALWAYS,
            Fault::status(429, &[]),
        )],
    );
    let entries = [(
        format!("{}/app", proxy.host()),
        format!("{}/app", target.host()),
        "tag: '1.0', check_digest: true",
    )];
    let world = World::new().file(
        "imglife.yaml",
        configuration(&[proxy.host(), target.host()], &entries),
    );
    let failed = world.imglife(["sync"]).exits(1);
    assert!(
        failed.stdout.contains("429 Too Many Requests"),
        "{}",
        failed.stdout
    );
    let requests = proxy.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.method == "HEAD" || request.path.contains("/tags/list")),
        "{requests:?}"
    );
    old.assert_published(&client(&target), &target.repository("app"))
        .await;
}

#[tokio::test]
async fn tag_moved_during_a_copy_is_one_complete_image() {
    let (upstream, target) = (Registry::plain(), Registry::plain());
    let (old, new) = (image("1.0", 500_000), image("1.0", 600_000));
    for graph in [&new, &old] {
        graph
            .publish(&client(&upstream), &upstream.repository("app"))
            .await;
    }
    let layer: &Digest = &old.blobs[0].descriptor.digest;
    let slow = Fault::Drip(50_000, Duration::from_millis(50));
    let proxy = Proxy::start(
        upstream.host(),
        vec![Rule::new("GET", format!("/blobs/{layer}"), ALWAYS, slow)],
    );
    let entries = [(
        format!("{}/app", proxy.host()),
        format!("{}/app", target.host()),
        "tag: '1.0', check_digest: true",
    )];
    let world = World::new().file(
        "imglife.yaml",
        configuration(&[proxy.host(), target.host()], &entries),
    );
    let running = world.start_imglife(["sync"]).within(RUN_TIMEOUT);
    while proxy.faults() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let moved: &Graph = &new;
    moved
        .publish(&client(&upstream), &upstream.repository("app"))
        .await;
    running.wait().succeeds();
    old.assert_published(&client(&target), &target.repository("app"))
        .await;
    world.imglife(["sync"]).succeeds();
    new.assert_published(&client(&target), &target.repository("app"))
        .await;
}

#[tokio::test]
async fn broken_transfers_continue_at_the_offset() {
    let registries = TestRegistries::start(HUGE_LAYER).await;
    let layer = registries.layer().as_str();
    let (half, part) = (HUGE_LAYER as u64 / 2, 20 * 1024 * 1024);
    let from = Proxy::start(
        registries.upstream.host(),
        vec![Rule::new(
            "GET",
            format!("/blobs/{layer}"),
            0..1,
            Fault::ResetAnswer(half),
        )],
    );
    let commit = format!("digest={}", layer.replace(':', "%3A"));
    let uploads = "/blobs/uploads/";
    let to = Proxy::start(
        registries.target.host(),
        vec![
            Rule::new("PUT", commit, 0..1, Fault::ResetSending(half)),
            Rule::new(
                "POST",
                uploads,
                ALWAYS,
                Fault::Header("oci-chunk-min-length", Some(part.to_string())),
            ),
            // The reset comes before the content: Debian's registry drops an upload that has more
            // bytes than it last reported.
            Rule::new("PATCH", uploads, 1..2, Fault::Reset),
        ],
    );
    let entries = [(
        format!("{}/app", from.host()),
        format!("{}/app", to.host()),
        "tag_regex: '.*'",
    )];
    let world = World::new().file(
        "imglife.yaml",
        configuration(&[from.host(), to.host()], &entries),
    );
    tokio::task::spawn_blocking(move || {
        world
            .start_imglife(["sync"])
            .within(RUN_TIMEOUT)
            .wait()
            .succeeds()
    })
    .await
    .expect("a run");
    registries
        .graph
        .assert_published(
            &client(&registries.target),
            &registries.target.repository("app"),
        )
        .await;
    let sent: Vec<u64> = to
        .requests()
        .iter()
        .filter(|request| request.method == "PATCH")
        .map(ProxiedRequest::forwarded)
        .collect();
    assert_eq!(
        sent,
        [part, 0, HUGE_LAYER as u64 - part],
        "expected a chunk of the requested size, a broken one, and the rest"
    );
    let offsets: Vec<u64> = from
        .requests()
        .iter()
        .filter(|request| request.path.contains(layer))
        .filter_map(|request| {
            request
                .header("range")?
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        })
        .collect();
    assert!(
        !offsets.is_empty() && offsets.iter().all(|offset| *offset > 0),
        "the download must continue at the offset: {offsets:?}"
    );
}

#[tokio::test]
async fn upload_starts_only_when_its_content_is_available() {
    let registries = TestRegistries::start(LAYER).await;
    let from = Proxy::start(
        registries.upstream.host(),
        vec![Rule::new("GET", "/blobs/", ALWAYS, Fault::status(404, &[]))],
    );
    let entries = [(
        format!("{}/app", from.host()),
        format!("{}/app", registries.target.host()),
        "tag_regex: '.*'",
    )];
    let world = World::new().file(
        "imglife.yaml",
        configuration(&[from.host(), registries.target.host()], &entries),
    );
    world.imglife(["sync"]).exits(1);
    let requests = registries.target.requests();
    assert!(
        from.faults() > 0
            && requests
                .iter()
                .all(|request| matches!(request.method.as_str(), "GET" | "HEAD")),
        "{requests:?}"
    );
}

#[tokio::test]
async fn time_limit_cancels_uploads_and_rejects_long_waits() {
    let (upstream, target) = (Registry::plain(), Registry::plain());
    for name in ["drips", "limited"] {
        image("1.0", LAYER)
            .publish(&client(&upstream), &upstream.repository(name))
            .await;
    }
    let whole = image("2.0", 1_000);
    whole
        .publish(&client(&upstream), &upstream.repository("whole"))
        .await;
    // One byte per second is not a stall: without a time limit the download would last a month.
    let drip = Rule::new(
        "GET",
        "/v2/drips/blobs/",
        ALWAYS,
        Fault::Drip(1, Duration::from_secs(1)),
    );
    let limited = Rule::new(
        "GET",
        "/v2/limited/manifests/",
        ALWAYS,
        Fault::status(429, &[("retry-after", "3600")]),
    );
    let proxy = Proxy::start(upstream.host(), vec![drip, limited]);
    let entry = |name: &str| {
        (
            format!("{}/{name}", proxy.host()),
            format!("{}/{name}", target.host()),
            "tag_regex: '.*'",
        )
    };
    let world = World::new().file(
        "imglife.yaml",
        configuration(
            &[proxy.host(), target.host()],
            &["drips", "limited", "whole"].map(entry),
        ),
    );
    let ended = world
        .start_imglife(["--time-limit", "4s", "sync", "--output", "json"])
        .within(RUN_TIMEOUT)
        .wait();
    let ended = ended.exits(1);
    let found = report(&ended);
    let outcomes: Vec<&str> = found["entries"]
        .as_array()
        .expect("entries")
        .iter()
        .filter_map(|entry| entry["tags"][0]["outcome"].as_str())
        .collect();
    assert_eq!(
        outcomes,
        ["interrupted", "failed", "copied"],
        "{}",
        ended.stdout
    );
    assert!(
        causes(&found).contains("retry after 3600 s, which exceeds the time limit of the run"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stderr.contains("the time limit is reached"),
        "{}",
        ended.stderr
    );
    assert!(target.stored_tags("drips").is_empty() && target.stored_tags("limited").is_empty());
    whole
        .assert_published(&client(&target), &target.repository("whole"))
        .await;
    let requests = target.requests();
    let of_uploads = |method: &str| {
        let uploads = requests.iter().filter(|request| {
            request.path.contains("/drips/blobs/uploads/") && !request.path.contains("mount=")
        });
        uploads
            .filter(|request| request.method == method)
            .map(|request| request.status)
            .collect::<Vec<_>>()
    };
    // The status depends on whether the registry has already detected the broken upload.
    assert!(!of_uploads("POST").is_empty());
    assert_eq!(
        of_uploads("POST").len(),
        of_uploads("DELETE").len(),
        "started uploads must be cancelled"
    );
}
