//! Tests with registries that send invalid or malicious responses. A run rejects them with a
//! reason, within bounded time and memory, and sends no credentials to other hosts.

use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use imglife::model::media_type;
use imglife::model::{Descriptor, Digest};
use serde_json::json;

use super::connections::variable;
use super::{Duration, Flavour, Graph, LAYER_TYPE, Registry, World, client, configuration, image};
use crate::support::fake_server::{FakeServer, ReceivedRequest, absent, endless, tags, typed};
use crate::support::images::{refused_manifests, too_deep};
use crate::support::registry::{PASSWORD, USER};
use crate::support::tokens::TokenRules;
use crate::support::world::Outcome;

/// Time limit for a run.
const RUN_TIMEOUT: Duration = Duration::from_secs(30);

/// Memory limit for a run, in KiB. A debug build needs about a third of it for a small sync.
const MAX_MEMORY: u64 = 96 * 1024;

/// Result of a run and its peak memory, in KiB.
struct MeasuredRun {
    outcome: Outcome,
    peak: u64,
}

/// Runs a sync from `host` to a layout, with credentials for `host` and the most verbose log.
/// Checks that it neither panics nor prints the password.
fn sync_from(host: &str, rest: &str) -> MeasuredRun {
    sync(
        host,
        &configuration(
            &[host.to_owned()],
            &[(format!("{host}/app"), "ocidir://out".to_owned(), rest)],
        ),
    )
}

fn sync(host: &str, text: &str) -> MeasuredRun {
    let world = World::new()
        .variable(&variable(host, "USERNAME"), USER)
        .variable(&variable(host, "PASSWORD"), PASSWORD)
        .file("imglife.yaml", text);
    let running = world
        .start_imglife(["--log-level", "trace", "sync"])
        .within(RUN_TIMEOUT);
    let status = format!("/proc/{}/status", running.id());
    let mut peak = 0;
    // The peak is only available while the process runs.
    while let Ok(text) = std::fs::read_to_string(&status) {
        // Before `exec`, the child still has the name and memory of the test process.
        if !text.starts_with("Name:\timglife\n") {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
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
    let outcome = running.wait();
    for text in [&outcome.stdout, &outcome.stderr] {
        assert!(
            !text.contains(PASSWORD) && !text.contains("panicked"),
            "{text}"
        );
        assert!(
            !text.contains('\u{1b}')
                && !text.lines().any(|line| line.trim_start().starts_with("::")),
            "{text}"
        );
    }
    assert!(
        !world.path("out/index.json").exists()
            || !std::fs::read_to_string(world.path("out/index.json"))
                .expect("text")
                .contains("1.0")
    );
    MeasuredRun { outcome, peak }
}

/// Fails the test unless the run failed with `cause` in its output and stayed below the memory
/// limit.
fn fails(measured: MeasuredRun, cause: &str) {
    let MeasuredRun { outcome, peak } = measured;
    let outcome = outcome.exits(1);
    assert!(
        outcome.stdout.contains(cause),
        "{cause:?} is not in {}",
        outcome.stdout
    );
    assert!(peak < MAX_MEMORY, "{cause}: {peak} KiB");
}

fn with_header(response: Response, name: HeaderName, value: &str) -> Response {
    ([(name, value.to_owned())], response).into_response()
}

fn is_listing(received: &ReceivedRequest) -> bool {
    received.path.contains("/tags/list")
}

/// Starts a fake server that lists the tag `1.0` and responds to manifest requests with `answer`.
fn with_manifest(
    answer: impl Fn(&ReceivedRequest) -> Response + Send + Sync + 'static,
) -> FakeServer {
    FakeServer::start(move |received| match received.path.as_str() {
        _ if is_listing(received) => tags(&["1.0"]),
        path if path.contains("/manifests/") => answer(received),
        _ => absent(),
    })
}

#[test]
fn endless_tag_listing_is_aborted() {
    let names = |page: usize| {
        (0..1000)
            .map(|number| format!("1.{page}.{number}"))
            .collect::<Vec<_>>()
    };
    let page_of = |received: &ReceivedRequest| {
        received
            .path
            .split("page=")
            .nth(1)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0_usize)
    };
    let fake = FakeServer::start(move |received| {
        let page = page_of(received);
        let names = names(page);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        with_header(
            tags(&names),
            header::LINK,
            &format!("</v2/app/tags/list?page={}>; rel=\"next\"", page + 1),
        )
    });
    let MeasuredRun { outcome, peak } = sync_from(&fake.host(), "tag_regex: '.*'");
    let outcome = outcome.exits(1);
    assert!(
        outcome.stdout.contains("there are more than 1000000 tags"),
        "{}",
        outcome.stdout
    );
    assert!(peak < 400 * 1024, "{peak} KiB for a million tags");
}

#[test]
fn invalid_tag_listings_are_rejected_with_a_reason() {
    let other = FakeServer::start(|_| tags(&["1.0"]));
    let away = format!(
        "<http://{}/v2/app/tags/list?last=1.0>; rel=\"next\"",
        other.host()
    );
    type Answer = Box<dyn Fn(&ReceivedRequest) -> Response + Send + Sync>;
    let next = |link: String| -> Answer {
        Box::new(move |_| with_header(tags(&["1.0"]), header::LINK, &link))
    };
    let body =
        |text: &'static str| -> Answer { Box::new(move |_| typed("application/json", text)) };
    let html = "<html><body>\u{1b}[31m\n::set-output name=x::y\nPlease log in</body></html>";
    let cases: [(&str, Answer, &str); 10] = [
        (
            "a loop",
            next("</v2/app/tags/list?n=1000>; rel=\"next\"".to_owned()),
            "the next page was read already",
        ),
        (
            "another host",
            next(away),
            "the next page is on another host",
        ),
        (
            "another scheme",
            next("<file:///etc/passwd>; rel=\"next\"".to_owned()),
            "the next page is on another host",
        ),
        (
            "no address",
            next("<http://[>; rel=\"next\"".to_owned()),
            "the URL of the next page is invalid",
        ),
        (
            "a page without an end",
            Box::new(|_| typed("application/json", endless())),
            "the response has more than 8388608 bytes",
        ),
        (
            "HTML",
            Box::new(move |_| typed("text/html", html)),
            "the response is not a list of tags",
        ),
        (
            "an error in HTML",
            Box::new(move |_| (StatusCode::NOT_IMPLEMENTED, html).into_response()),
            "501 Not Implemented",
        ),
        (
            "a number",
            body(r#"{"tags": 7}"#),
            "the response is not a list of tags",
        ),
        (
            "`null`",
            body(r#"{"tags": null}"#),
            "none of 0 upstream tags",
        ),
        (
            "hostile names",
            body(r#"{"tags": ["../../x", "$(id)", "\u001b[31m", "\n::set-output"]}"#),
            "none of 0 upstream tags",
        ),
    ];
    for (name, answer, cause) in cases {
        let fake = FakeServer::start(answer);
        println!("{name}");
        fails(sync_from(&fake.host(), "tag_regex: '.*'"), cause);
        assert!(
            fake.requests().len() < 10,
            "{name}: {} requests",
            fake.requests().len()
        );
    }
    assert!(
        other.requests().is_empty(),
        "pages must not be read from another host"
    );
}

#[test]
fn invalid_manifests_are_rejected_with_a_reason() {
    for (content, cause) in refused_manifests() {
        // Reading stops at the limit for responses.
        let cause = if cause.contains("limit of 4194304") {
            "the response has more than 4194304 bytes"
        } else {
            cause
        };
        let fake =
            with_manifest(move |_| typed(&content.descriptor.media_type, content.bytes.clone()));
        fails(sync_from(&fake.host(), "tag_regex: '.*'"), cause);
    }
    let index = |text: &'static str| with_manifest(move |_| typed(media_type::OCI_INDEX, text));
    let wrong = Digest::sha256(b"something else");
    let stated = move || {
        with_header(
            typed(media_type::OCI_INDEX, "{}"),
            HeaderName::from_static("docker-content-digest"),
            wrong.as_str(),
        )
    };
    for (fake, cause) in [
        (
            with_manifest(move |_| stated()),
            "its bytes have the digest",
        ),
        (
            with_manifest(|_| typed("text/html", "<html>Please log in</html>")),
            "cannot read manifest app:1.0",
        ),
        (
            with_manifest(|_| typed(media_type::OCI_INDEX, endless())),
            "the response has more than 4194304 bytes",
        ),
        (index("null"), "cannot read manifest app:1.0"),
        (
            index(
                r#"{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"sha256:../../x","size":1}]}"#,
            ),
            "cannot read manifest app:1.0",
        ),
        (
            index(
                r#"{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"md5:00","size":-1}]}"#,
            ),
            "cannot read manifest app:1.0",
        ),
        (
            with_manifest(|_| typed(media_type::OCI_INDEX, "[".repeat(1_000_000))),
            "cannot read manifest app:1.0",
        ),
    ] {
        fails(sync_from(&fake.host(), "tag_regex: '.*'"), cause);
    }
}

/// Starts a fake server for a graph that responds to blob requests with `blob`.
fn serving(graph: Graph, blob: impl Fn(&Digest) -> Response + Send + Sync + 'static) -> FakeServer {
    FakeServer::start(move |received| {
        let last = received.path.rsplit('/').next().unwrap_or_default();
        let tag = graph
            .tags
            .iter()
            .find(|(tag, _)| tag.as_str() == last)
            .map(|(_, descriptor)| &descriptor.digest);
        let digest = last.parse().ok();
        let manifest = graph
            .manifests
            .iter()
            .find(|content| Some(&content.descriptor.digest) == tag.or(digest.as_ref()));
        match (is_listing(received), manifest, digest) {
            (true, _, _) => tags(&["1.0"]),
            (_, Some(content), _) if received.path.contains("/manifests/") => {
                typed(&content.descriptor.media_type, content.bytes.clone())
            }
            (_, _, Some(digest)) if received.path.contains("/blobs/") => blob(&digest),
            _ => absent(),
        }
    })
}

#[test]
fn endless_indexes_are_rejected_after_few_requests() {
    let mut deep = too_deep();
    deep.tags[0].0 = "1.0".parse().expect("a tag");
    let fake = serving(deep, |_| absent());
    fails(
        sync_from(&fake.host(), "tag_regex: '.*'"),
        "indexes are nested deeper than 4",
    );
    assert!(fake.requests().len() < 20);
    // No index can contain its own digest, so one that claims to do so has a wrong digest.
    let itself = Descriptor::new(media_type::OCI_INDEX, Digest::sha256(b"itself"), 400);
    let index =
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [itself] })
            .to_string();
    let fake = with_manifest(move |_| typed(media_type::OCI_INDEX, index.clone()));
    fails(
        sync_from(&fake.host(), "tag_regex: '.*'"),
        "its bytes have the digest",
    );
    assert!(fake.requests().len() < 20);
}

#[test]
fn endless_blob_is_read_up_to_the_size_in_its_descriptor() {
    let serving_endless_layer = |size: u64| {
        let mut graph = Graph::default();
        let layer = Descriptor::new(LAYER_TYPE, Digest::sha256(b"claimed"), size);
        let child = graph.image(Flavour::Oci, "linux/amd64", &[layer]);
        let index = graph.index(Flavour::Oci, &[child]);
        graph.tag("1.0", &index);
        let config = graph.blobs[0].clone();
        serving(graph, move |digest| {
            if *digest == config.descriptor.digest {
                typed("application/octet-stream", config.bytes.clone())
            } else {
                typed("application/octet-stream", endless())
            }
        })
    };
    for size in [1_000_000, (1 << 30) - 1] {
        let fake = serving_endless_layer(size);
        fails(
            sync_from(&fake.host(), "tag_regex: '.*'"),
            &format!("it has more than the {size} bytes that its descriptor states"),
        );
    }
}

#[test]
fn truncated_blob_fails_the_copy() {
    let graph = image("1.0", 100_000);
    let layers = graph.blobs.clone();
    let short = serving(graph, move |digest| {
        let blob = layers
            .iter()
            .find(|blob| blob.descriptor.digest == *digest)
            .expect("a blob of the graph");
        typed(
            "application/octet-stream",
            blob.bytes.slice(..blob.bytes.len() / 2),
        )
    });
    fails(
        sync_from(&short.host(), "tag_regex: '.*'"),
        "it ended after",
    );
}

#[test]
fn oversized_header_is_an_error_in_bounded_time() {
    let challenges = [
        format!("Bearer {}", "a=\"b\",".repeat(10_000)),
        "Basic ".repeat(10_000),
        "\"".repeat(60_000),
        format!("Bearer realm=\"{}\"", "\\\"".repeat(30_000)),
        "x".repeat(300_000),
        format!("Bearer realm=\"http://{}\"", "a".repeat(60_000)),
    ];
    std::thread::scope(|threads| {
        for challenge in challenges {
            threads.spawn(move || {
                let fake = FakeServer::start(move |_| {
                    with_header(
                        StatusCode::UNAUTHORIZED.into_response(),
                        header::WWW_AUTHENTICATE,
                        &challenge,
                    )
                });
                fails(
                    sync_from(&fake.host(), "tag_regex: '.*'"),
                    "cannot list the tags of app",
                );
            });
        }
    });
    let fake = FakeServer::start(|_| {
        with_header(
            tags(&["1.0"]),
            header::LINK,
            &"</a>; rel=x, ".repeat(10_000),
        )
    });
    sync_from(&fake.host(), "tag_regex: '.*'").outcome.exits(1);
}

#[tokio::test]
async fn registry_with_tls_cannot_send_a_password_over_plain_http() {
    let registry = Registry::builder()
        .tls()
        .tokens(TokenRules::default())
        .start();
    let host = registry.host();
    let text = configuration(
        &[],
        &[(
            format!("{host}/app"),
            "ocidir://out".to_owned(),
            "tag_regex: '.*'",
        )],
    );
    let text = format!(
        "{text}hosts: {{ {host:?}: {{ ca_file: {:?} }} }}\n",
        registry.ca_file()
    );
    let measured = tokio::task::spawn_blocking(move || sync(&host, &text))
        .await
        .expect("a run");
    fails(measured, "a token server must use https");
    assert!(
        registry.tokens().requests().is_empty(),
        "{:?}",
        registry.tokens().requests()
    );
}

#[test]
fn registry_cannot_send_a_password_to_a_second_token_server() {
    let thief = FakeServer::start(|_| typed("application/json", r#"{"token":"stolen"}"#));
    let honest = FakeServer::start(|_| typed("application/json", r#"{"token":"first"}"#));
    let (first, second) = [&honest, &thief]
        .map(|server| {
            format!(
                "Bearer realm=\"http://{}/token\",service=\"s\"",
                server.host()
            )
        })
        .into();
    let fake = FakeServer::start(move |received| {
        let realm = if is_listing(received) {
            &first
        } else {
            &second
        };
        if received.headers.contains_key(header::AUTHORIZATION) && is_listing(received) {
            tags(&["1.0"])
        } else {
            with_header(
                StatusCode::UNAUTHORIZED.into_response(),
                header::WWW_AUTHENTICATE,
                realm,
            )
        }
    });
    fails(
        sync_from(&fake.host(), "tag_regex: '.*'"),
        "it is not the token server that the host named first",
    );
    assert!(
        honest
            .requests()
            .iter()
            .any(|received| received.headers.contains_key(header::AUTHORIZATION))
    );
    assert!(thief.requests().is_empty(), "{:?}", thief.requests());
}

#[test]
fn invalid_token_response_is_an_error_without_secrets() {
    type Answer = fn() -> Response;
    let cases: [(Answer, &str); 5] = [
        (
            || typed("text/html", "<html>Please log in</html>"),
            "the token server's response is invalid",
        ),
        (
            || typed("application/json", r#"{"token":"a\nb: c"}"#),
            "the token server's token has characters that cannot be sent",
        ),
        (
            || typed("application/json", "{}"),
            "the token server's response has no token",
        ),
        (
            || typed("application/json", endless()),
            "has more than 1048576 bytes",
        ),
        (
            || {
                (
                    StatusCode::FOUND,
                    [(header::LOCATION, "file:///etc/passwd")],
                )
                    .into_response()
            },
            "it is neither http nor https",
        ),
    ];
    for (answer, cause) in cases {
        let server = FakeServer::start(move |_| answer());
        let challenge = format!("Bearer realm=\"http://{}/token\"", server.host());
        let fake = FakeServer::start(move |_| {
            with_header(
                StatusCode::UNAUTHORIZED.into_response(),
                header::WWW_AUTHENTICATE,
                &challenge,
            )
        });
        fails(sync_from(&fake.host(), "tag_regex: '.*'"), cause);
    }
}

#[tokio::test]
async fn upload_redirected_to_another_host_sends_no_credentials() {
    let upstream = Registry::plain();
    let graph = image("1.0", 10_000);
    graph
        .publish(&client(&upstream), &upstream.repository("app"))
        .await;
    let other = FakeServer::start(|_| StatusCode::CREATED.into_response());
    let location = format!("http://{}/upload", other.host());
    let target = FakeServer::start(move |received| match received.method.as_str() {
        _ if !received.headers.contains_key(header::AUTHORIZATION) => with_header(
            StatusCode::UNAUTHORIZED.into_response(),
            header::WWW_AUTHENTICATE,
            "Basic realm=\"x\"",
        ),
        "POST" => (StatusCode::ACCEPTED, [(header::LOCATION, location.clone())]).into_response(),
        "PUT" => StatusCode::CREATED.into_response(),
        _ => absent(),
    });
    let hosts = [upstream.host(), target.host(), other.host()];
    let host = target.host();
    let entry = (
        format!("{}/app", upstream.host()),
        format!("{host}/app"),
        "tag_regex: '.*'",
    );
    let (strict, text) = (
        configuration(&hosts[..2], std::slice::from_ref(&entry)),
        configuration(&hosts, &[entry]),
    );
    let run = |text: String| {
        let host = host.clone();
        tokio::task::spawn_blocking(move || sync(&host, &text))
    };
    fails(
        run(strict).await.expect("a run"),
        "is not followed: it is plain HTTP",
    );
    assert!(other.requests().is_empty());
    run(text).await.expect("a run").outcome.succeeds();
    assert!(
        !other.requests().is_empty()
            && other
                .requests()
                .iter()
                .all(|received| !received.headers.contains_key(header::AUTHORIZATION))
    );
}

#[tokio::test]
async fn blobs_are_copied_without_content_decoding() {
    let mut graph = image("1.0", 10_000);
    // A client that decompresses responses would store the wrong bytes for this layer.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut packed, b"unpacked").expect("memory");
    let layer = graph.blob(LAYER_TYPE, packed.finish().expect("memory"));
    graph.tags.clear();
    let child = graph.image(Flavour::Oci, "linux/amd64", &[layer]);
    graph.tag("1.0", &child);
    let blobs = graph.blobs.clone();
    let fake = serving(graph.clone(), move |digest| {
        let blob = blobs
            .iter()
            .find(|blob| blob.descriptor.digest == *digest)
            .expect("a blob of the graph");
        with_header(
            typed("application/octet-stream", blob.bytes.clone()),
            header::CONTENT_ENCODING,
            "gzip",
        )
    });
    let target = Registry::plain();
    let entry = (
        format!("{}/app", fake.host()),
        format!("{}/app", target.host()),
        "tag_regex: '.*'",
    );
    let text = configuration(&[fake.host(), target.host()], &[entry]);
    let host = fake.host();
    let measured = tokio::task::spawn_blocking(move || sync(&host, &text))
        .await
        .expect("a run");
    measured.outcome.succeeds();
    graph
        .manifests
        .retain(|content| content.descriptor.digest == child.digest);
    graph
        .blobs
        .retain(|blob| target.stored(&blob.descriptor.digest).exists());
    assert_eq!(graph.blobs.len(), 2);
    graph
        .assert_published(&client(&target), &target.repository("app"))
        .await;
    for received in fake.requests() {
        assert_eq!(
            received
                .headers
                .get(header::ACCEPT_ENCODING)
                .and_then(|value| value.to_str().ok()),
            Some("identity"),
            "{received:?}"
        );
    }
}
