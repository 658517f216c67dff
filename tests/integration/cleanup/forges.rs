//! Registries that delete tags by interfaces of their own, as Harbor and GitLab's older registries
//! do: what goes, and that nothing else of the same image does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use imglife::model::{Digest, Manifest};

use super::set;
use crate::support::fake_server::{FakeServer, ReceivedRequest, absent, tags, typed};
use crate::support::images::{Content, Flavour, Graph};
use crate::support::registry::{PASSWORD, USER};
use crate::support::world::World;
use crate::sync::json;

/// `USER` and `PASSWORD` as a Basic login.
const LOGIN: &str = "Basic YWxpY2U6czNjcmV0";

/// When a tag was pushed, and how the interface is called that tells it.
const OLD: &str = "2025-01-01T00:00:00.000Z";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Harbor,
    Gitlab,
}

/// A repository and what the tags name.
struct Store {
    kind: Kind,
    /// Below the host; two slashes deep, so that Harbor's encoding shows.
    path: &'static str,
    tags: Mutex<BTreeMap<String, Digest>>,
    manifests: Mutex<BTreeMap<Digest, Manifest>>,
}

impl Store {
    fn of(kind: Kind, graph: &Graph) -> Arc<Store> {
        let tags = graph
            .tags
            .iter()
            .map(|(tag, descriptor)| (tag.to_string(), descriptor.digest.clone()))
            .collect();
        let manifests = graph
            .manifests
            .iter()
            .map(Content::manifest)
            .map(|manifest| (manifest.digest.clone(), manifest))
            .collect();
        Arc::new(Store {
            kind,
            path: "team/mirrors/a",
            tags: Mutex::new(tags),
            manifests: Mutex::new(manifests),
        })
    }

    fn left(&self) -> BTreeSet<String> {
        self.tags
            .lock()
            .expect("no thread has panicked")
            .keys()
            .cloned()
            .collect()
    }

    fn has(&self, digest: &Digest) -> bool {
        self.manifests
            .lock()
            .expect("no thread has panicked")
            .contains_key(digest)
    }

    fn answer(&self, received: &ReceivedRequest) -> Response {
        let (method, path) = (received.method.as_str(), received.path.as_str());
        let rest = path.strip_prefix(&format!("/v2/{}/", self.path));
        if let Some(reference) = rest.and_then(|rest| rest.strip_prefix("manifests/")) {
            return self.manifest(method, reference);
        }
        if let Some(rest) = rest.filter(|rest| rest.starts_with("tags/list")) {
            assert!(!rest.is_empty() && method == "GET");
            let last = rest
                .split_once("last=")
                .map_or("", |(_, rest)| rest.split('&').next().unwrap_or(rest));
            let mut names = self.left();
            names.retain(|name| name.as_str() > last);
            return tags(&names.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let own = match (self.kind, rest) {
            (Kind::Gitlab, Some(rest)) => rest
                .strip_prefix("tags/reference/")
                .map(|tag| self.gitlab(method, tag)),
            (Kind::Gitlab, None) => path
                .starts_with("/gitlab/v1/repositories/team/mirrors/a/tags/list/")
                .then(|| self.gitlabs_dates()),
            (Kind::Harbor, _) => path
                .strip_prefix("/api/v2.0/projects/team/repositories/mirrors%252Fa/artifacts")
                .map(|rest| {
                    self.harbor(
                        method,
                        rest,
                        received
                            .headers
                            .get("authorization")
                            .is_some_and(|login| login == LOGIN),
                    )
                }),
        };
        own.unwrap_or_else(|| (StatusCode::NOT_FOUND, "404 page not found\n").into_response())
    }

    fn manifest(&self, method: &str, reference: &str) -> Response {
        let digest = match reference.parse::<Digest>() {
            Ok(digest) => Some(digest),
            Err(_) if method == "DELETE" => {
                return refusal(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED");
            }
            Err(_) => self
                .tags
                .lock()
                .expect("no thread has panicked")
                .get(reference)
                .cloned(),
        };
        let mut manifests = self.manifests.lock().expect("no thread has panicked");
        let Some((digest, manifest)) = digest.and_then(|digest| {
            manifests
                .get(&digest)
                .cloned()
                .map(|manifest| (digest, manifest))
        }) else {
            return absent();
        };
        if method == "DELETE" {
            manifests.remove(&digest);
            self.tags
                .lock()
                .expect("no thread has panicked")
                .retain(|_, named| *named != digest);
            return StatusCode::ACCEPTED.into_response();
        }
        let headers = [("docker-content-digest", digest.to_string())];
        (headers, typed(&manifest.media_type, manifest.bytes.clone())).into_response()
    }

    fn delete(&self, tag: &str) -> StatusCode {
        let gone = self
            .tags
            .lock()
            .expect("no thread has panicked")
            .remove(tag);
        if gone.is_some() {
            StatusCode::OK
        } else {
            StatusCode::NOT_FOUND
        }
    }

    fn harbor(&self, method: &str, rest: &str, is_alice: bool) -> Response {
        if !is_alice {
            return refusal(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
        }
        if method == "GET" {
            let artifact = |(tag, digest): (&String, &Digest)| {
                format!(
                    r#"{{"digest":"{digest}","tags":[{{"name":"{tag}","push_time":"{OLD}"}}]}}"#
                )
            };
            let artifacts: Vec<String> = self
                .tags
                .lock()
                .expect("no thread has panicked")
                .iter()
                .map(artifact)
                .collect();
            return typed("application/json", format!("[{}]", artifacts.join(","))).into_response();
        }
        let names: Vec<&str> = rest.split('/').collect();
        match names[..] {
            ["", one, "tags", other] if method == "DELETE" && one == other => {
                match self.delete(one) {
                    StatusCode::OK => StatusCode::OK.into_response(),
                    _ => refusal(StatusCode::NOT_FOUND, "NOT_FOUND"),
                }
            }
            _ => StatusCode::IM_A_TEAPOT.into_response(),
        }
    }

    fn gitlab(&self, method: &str, tag: &str) -> Response {
        match method {
            "OPTIONS" => [("allow", "DELETE,OPTIONS")].into_response(),
            "DELETE" if self.delete(tag) == StatusCode::OK => StatusCode::ACCEPTED.into_response(),
            _ => refusal(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
        }
    }

    fn gitlabs_dates(&self) -> Response {
        let tag = |(tag, digest): (&String, &Digest)| {
            format!(r#"{{"name":"{tag}","digest":"{digest}","published_at":"{OLD}"}}"#)
        };
        let tags: Vec<String> = self
            .tags
            .lock()
            .expect("no thread has panicked")
            .iter()
            .map(tag)
            .collect();
        typed("application/json", format!("[{}]", tags.join(",")))
    }
}

fn refusal(status: StatusCode, code: &str) -> Response {
    (
        status,
        typed(
            "application/json",
            format!(r#"{{"errors":[{{"code":"{code}","message":"m"}}]}}"#),
        ),
    )
        .into_response()
}

#[test]
fn tags_are_deleted_by_the_interfaces_of_harbor_and_gitlab() {
    for kind in [Kind::Harbor, Kind::Gitlab] {
        let mut graph = Graph::default();
        let (shared, own) = (
            graph.small_image(Flavour::Oci, "linux/amd64", "shared"),
            graph.small_image(Flavour::Oci, "linux/arm64", "own"),
        );
        let old = graph.index(Flavour::Oci, &[shared.clone(), own.clone()]);
        let kept = graph.index(Flavour::Oci, std::slice::from_ref(&shared));
        for (tag, image) in [("1.0", &old), ("1.1", &kept), ("2.0", &kept)] {
            graph.tag(tag, image);
        }
        let store = Store::of(kind, &graph);
        let serving = Arc::clone(&store);
        let registry = FakeServer::start(move |received| serving.answer(received));
        let host = registry.host();
        let variable = |name: &str| format!("IMGLIFE_{}_{name}", host.replace(['.', ':'], "_"));
        // Ages are asked for too: what the registry's own interface tells is old enough.
        let text = format!(
            "registry: {{ provider: file, insecure_registries: ['{host}'] }}\n\
             sync: {{ entries: [{{ source: up.example/a, target: '{host}/team/mirrors/a', tag: '9' }}] }}\n\
             retention: {{ keep_last: 1, grace_days: 0, max_age_days: 30, max_delete_percent: 80, require_records: false }}\n"
        );
        let world = World::new()
            .file("imglife.yaml", text)
            .variable(&variable("USERNAME"), USER)
            .variable(&variable("PASSWORD"), PASSWORD);
        let report = json(
            &world
                .imglife(["cleanup", "--output", "json"])
                .succeeds()
                .stdout,
        );
        assert_eq!(
            (&report["totals"]["deleted"], &report["totals"]["kept"]),
            (&2.into(), &1.into()),
            "{report:#}"
        );
        // The tag that shared its image with a kept one is gone, and the image is there; what only
        // the other led to is gone.
        assert_eq!(store.left(), set(&["2.0"]));
        assert!(
            store.has(&kept.digest)
                && store.has(&shared.digest)
                && !store.has(&old.digest)
                && !store.has(&own.digest)
        );
        let received = registry.requests();
        let own_way = if kind == Kind::Harbor {
            "/artifacts/1.1/tags/1.1"
        } else {
            "/tags/reference/1.1"
        };
        assert!(
            received
                .iter()
                .any(|received| received.method == "DELETE" && received.path.ends_with(own_way)),
            "{own_way}"
        );
        // What the host can do is learnt once, by what nobody has: no real tag is deleted the
        // standard's way.
        let standard: Vec<&String> = received
            .iter()
            .filter(|received| received.method == "DELETE")
            .map(|received| &received.path)
            .filter(|path| path.contains("/manifests/"))
            .collect();
        let by_tag: Vec<_> = standard
            .iter()
            .filter(|path| !path.contains("sha256:"))
            .collect();
        assert!(by_tag.len() == 1 && !by_tag[0].contains("1."), "{by_tag:?}");
        let again = json(
            &world
                .imglife(["cleanup", "--output", "json"])
                .succeeds()
                .stdout,
        );
        assert_eq!(again["totals"]["deleted"], 0);
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the program compares this date with the real clock"
)]
fn wrong_clock_deletes_nothing() {
    let mut graph = Graph::default();
    let image = graph.small_image(Flavour::Oci, "linux/amd64", "old");
    let newest = graph.small_image(Flavour::Oci, "linux/amd64", "newest");
    graph.tag("1.0", &image);
    graph.tag("2.0", &newest);
    for (hours, expected) in [(-24 * 400, None), (1, None), (0, Some(set(&["2.0"])))] {
        let store = Store::of(Kind::Gitlab, &graph);
        let serving = Arc::clone(&store);
        let registry = FakeServer::start(move |received| {
            let mut response = serving.answer(received);
            let date = chrono::Utc::now() + chrono::TimeDelta::hours(hours);
            let date = date.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            let date = date.parse().expect("a header value");
            response.headers_mut().insert("date", date);
            response
        });
        let host = registry.host();
        let text = format!(
            "registry: {{ provider: file, insecure_registries: ['{host}'] }}\n\
             sync: {{ entries: [{{ source: up.example/a, target: '{host}/team/mirrors/a', tag: '9' }}] }}\n\
             retention: {{ keep_last: 1, max_age_days: 30, grace_days: 0, require_records: false }}\n"
        );
        let world = World::new().file("imglife.yaml", text);
        // A wanted date is not compared.
        let now = ["cleanup", "--list", "--now", "2040-01-01"];
        let outcome = world.imglife(["cleanup"]);
        if let Some(expected) = expected {
            outcome.succeeds();
            assert_eq!(store.left(), expected);
            world.imglife(now).succeeds();
        } else {
            let text = outcome.exits(1);
            let text = text.stdout + &text.stderr;
            assert!(text.contains("this machine's clock is "), "{text}");
            assert_eq!(store.left(), set(&["1.0", "2.0"]));
            world.imglife(now).exits(1);
        }
    }
}
