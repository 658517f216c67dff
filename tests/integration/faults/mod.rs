//! What registries and networks do wrong, one fault at a time, and what a sync makes of it.
//!
//! A run ends right, with everything bit for bit at the target, or fails with the cause named; then
//! nothing at the target has changed. The table in `docs/reliability.md` is what these cases say,
//! and a test keeps it so.

use std::collections::BTreeSet;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use imglife::model::Digest;
use regex::Regex;
use serde_json::Value;

use crate::registries::client;
use crate::support::images::{Flavour, Graph};
use crate::support::proxy::{ALWAYS, Fault, ProxiedRequest, Proxy, Rule};
use crate::support::registry::Registry;
use crate::support::world::{Outcome, World};

mod connections;
mod hostile;
pub(crate) mod kills;
mod lies;
mod logins;
mod pairs;
mod races;
mod secrets;
mod table;

/// No run of these tests may take longer, whatever is done to it: five tries wait for 15 seconds at
/// the most.
const PATIENCE: Duration = Duration::from_secs(60);

/// Cases that run at once. They mostly wait.
const AT_ONCE: usize = 16;

/// The size of the large layer, in bytes.
const LAYER: usize = 3_000_000;

/// The size of a layer that goes on in parts when its upload breaks, in bytes.
const HUGE_LAYER: usize = 24 * 1024 * 1024;

const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Returns `size` bytes that no two seeds share.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; size];
    random.fill(&mut bytes);
    bytes
}

/// Returns an index, tagged, of one image of a layer of `size` bytes and a small one.
fn image(tag: &str, size: usize) -> Graph {
    let mut graph = Graph::default();
    let layers = [
        graph.blob(LAYER_TYPE, noise(size as u64, size)),
        graph.blob(LAYER_TYPE, format!("small layer of {tag}")),
    ];
    let child = graph.image(Flavour::Oci, "linux/amd64", &layers);
    let index = graph.index(Flavour::Oci, &[child]);
    graph.tag(tag, &index);
    graph
}

/// Returns a configuration that may speak plain HTTP to `insecure`, with entries of source, target
/// and more.
fn configuration(insecure: &[String], entries: &[(String, String, &str)]) -> String {
    let hosts: Vec<String> = insecure.iter().map(|host| format!("{host:?}")).collect();
    let entries: String = entries
        .iter()
        .map(|(source, target, rest)| {
            format!("    - {{ source: {source:?}, target: {target:?}, {rest} }}\n")
        })
        .collect();
    format!(
        "registry: {{ provider: file, insecure_registries: [{}] }}\nsync:\n  entries:\n{entries}",
        hosts.join(", ")
    )
}

fn report(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| {
        panic!(
            "{error}\n--- stdout\n{}--- stderr\n{}",
            outcome.stdout, outcome.stderr
        )
    })
}

/// Returns everything that a report says went wrong.
fn causes(report: &Value) -> String {
    let entries = report["entries"].as_array().expect("entries");
    let tags = entries
        .iter()
        .flat_map(|entry| entry["tags"].as_array().expect("tags"));
    let errors = entries
        .iter()
        .map(|entry| &entry["error"])
        .chain(tags.map(|tag| &tag["error"]));
    let errors: Vec<String> = errors
        .filter(|error| !error.is_null())
        .map(Value::to_string)
        .collect();
    errors.join("\n")
}

/// The side that is faulty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Source,
    Target,
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Side::Source => "source",
            Side::Target => "target",
        }
    }
}

enum Expected {
    Copied,
    /// Copied, and not before this time has passed.
    CopiedAfter(Duration),
    /// The part of the message that names the cause.
    Fails(&'static str),
}

/// A fault, and how a run ends that meets it.
struct Case {
    side: Side,
    /// What is done to which request, in words.
    name: &'static str,
    rules: Vec<Rule>,
    expected: Expected,
}

impl Case {
    /// Returns the case as a row of the table in the documentation.
    fn row(&self) -> String {
        let outcome = match self.expected {
            Expected::Copied => "copied".to_owned(),
            Expected::CopiedAfter(_) => "copied, after the wait that was asked for".to_owned(),
            Expected::Fails(cause) => format!("fails: `{cause}`"),
        };
        format!("| {} | {} | {outcome} |", self.side.word(), self.name)
    }
}

/// The registries that all cases share, each with a repository of its own at the target.
struct Scene {
    upstream: Registry,
    target: Registry,
    graph: Graph,
    /// What every target holds before.
    earlier: Graph,
}

impl Scene {
    /// Returns a scene whose large layer has `size` bytes.
    async fn set(size: usize) -> Scene {
        let scene = Scene {
            upstream: Registry::plain(),
            target: Registry::plain(),
            graph: image("1.0", size),
            earlier: image("0.9", 1_000),
        };
        scene
            .graph
            .publish(&client(&scene.upstream), &scene.upstream.repository("app"))
            .await;
        scene
    }

    /// Returns the digest of the large layer.
    fn layer(&self) -> &Digest {
        &self.graph.blobs[0].descriptor.digest
    }

    fn child(&self) -> &Digest {
        &self.graph.manifests[0].descriptor.digest
    }

    /// Runs a case and returns what happened, for the reader of the test.
    async fn play(&self, number: usize, case: &Case) -> String {
        let path = format!("case-{number}/app");
        let repository = self.target.repository(&path);
        self.earlier
            .publish(&client(&self.target), &repository)
            .await;
        let before = self.target.stored_tags(&path);
        let proxied = if case.side == Side::Source {
            &self.upstream
        } else {
            &self.target
        };
        let proxy = Proxy::start(proxied.host(), case.rules.clone());
        let (from, to) = match case.side {
            Side::Source => (proxy.host(), self.target.host()),
            Side::Target => (self.upstream.host(), proxy.host()),
        };
        let entries = [(
            format!("{from}/app"),
            format!("{to}/{path}"),
            "tag_regex: '1\\..*'",
        )];
        let world = World::new().file("imglife.yaml", configuration(&[from, to], &entries));
        let sync = tokio::task::spawn_blocking(move || {
            world
                .start_imglife(["sync", "--output", "json"])
                .within(PATIENCE)
                .wait()
        });
        let outcome = sync.await.expect("a run");
        assert!(
            proxy.faults() > 0,
            "the fault never happened: {:?}",
            proxy.seen()
        );
        let seen = proxy.seen();
        let deleted = seen
            .iter()
            .find(|seen| seen.method == "DELETE" && !seen.path.contains("/blobs/uploads/"));
        assert!(
            deleted.is_none(),
            "a sync deletes nothing but its own uploads: {deleted:?}"
        );
        let pulled = seen.iter().find(|seen| {
            case.side == Side::Target
                && seen.method == "GET"
                && seen.path.contains("/manifests/1.0")
        });
        assert!(pulled.is_none(), "a target is not pulled from: {pulled:?}");
        let causes = causes(&report(&outcome));
        match &case.expected {
            Expected::Fails(cause) => {
                let outcome = outcome.exits(1);
                assert!(
                    quoted(cause).is_match(&without_requests(&causes)),
                    "{cause:?} is not in {causes}"
                );
                let side = format!("\"side\":\"{}\"", case.side.word());
                assert!(causes.contains(&side), "{causes} names the other side");
                assert_eq!(self.target.stored_tags(&path), before, "nothing is tagged");
                self.earlier
                    .assert_published(&client(&self.target), &repository)
                    .await;
                format!("{:>5.1} s  {causes}", outcome.elapsed.as_secs_f64())
            }
            Expected::Copied | Expected::CopiedAfter(_) => {
                let outcome = outcome.succeeds();
                if let Expected::CopiedAfter(wait) = case.expected {
                    assert!(outcome.elapsed >= wait, "{:?}", outcome.elapsed);
                }
                self.earlier
                    .assert_published(&client(&self.target), &repository)
                    .await;
                self.graph
                    .assert_published(&client(&self.target), &repository)
                    .await;
                format!("{:>5.1} s  copied", outcome.elapsed.as_secs_f64())
            }
        }
    }

    /// Plays all cases, and fails with the names of those that do not end as expected.
    async fn play_all(&self, cases: &[Case]) {
        let mut cases: Vec<&Case> = cases.iter().collect();
        // Those that are tried to the end wait longest.
        cases.sort_by_key(|case| !matches!(case.expected, Expected::Fails(_)));
        let played = cases.iter().enumerate().map(|(number, case)| async move {
            let played = AssertUnwindSafe(self.play(number, case))
                .catch_unwind()
                .await;
            println!(
                "{:60} {}",
                case.row(),
                played.as_deref().unwrap_or("WRONG, see above")
            );
            played.is_err().then(|| case.row())
        });
        let wrong: Vec<Option<String>> = stream::iter(played)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let wrong: Vec<String> = wrong.into_iter().flatten().collect();
        assert!(
            wrong.is_empty(),
            "{} of {} cases end otherwise:\n{}",
            wrong.len(),
            cases.len(),
            wrong.join("\n")
        );
    }
}

#[test]
fn the_faults_that_are_documented_are_those_that_are_tested() {
    let page = include_str!("../../../docs/reliability.md");
    let cases: Vec<Case> = [
        table::of_source("L", "C"),
        table::of_target("L", "C"),
        table::of_huge_uploads("L"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let documented: BTreeSet<&str> = page
        .lines()
        .filter(|line| line.starts_with("| source |") || line.starts_with("| target |"))
        .collect();
    let missing: Vec<String> = cases
        .iter()
        .map(Case::row)
        .filter(|row| !documented.contains(row.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "missing in docs/reliability.md:\n{}",
        missing.join("\n")
    );
    assert_eq!(
        documented.len(),
        cases.len(),
        "docs/reliability.md has rows that no case stands for"
    );
}

/// Returns the text of all sources.
fn sources() -> String {
    let mut sources = String::new();
    let mut left: Vec<PathBuf> = ["src", "tests"]
        .iter()
        .map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join(name))
        .collect();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(
                fs::read_dir(&path)
                    .expect("a directory")
                    .map(|entry| entry.expect("an entry").path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources += &fs::read_to_string(&path).expect("a source");
        }
    }
    sources
}

#[test]
fn the_tests_that_are_documented_exist() {
    let page = include_str!("../../../docs/reliability.md");
    let sources = sources();
    let traps = page.split("## Traps").nth(1).expect("the section");
    let names: Vec<&str> = traps
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.len() > 20 && name.contains('_'))
        .collect();
    let missing: Vec<&&str> = names
        .iter()
        .filter(|name| !sources.contains(&format!("fn {name}(")))
        .collect();
    assert!(
        names.len() > 60 && missing.is_empty(),
        "of {} tests these are not there: {missing:?}",
        names.len()
    );
}

#[test]
fn the_readers_that_are_documented_are_those_that_are_fuzzed() {
    let page = include_str!("../../../docs/reliability.md");
    let readers = page.split("<!-- readers").nth(1).expect("the table");
    let documented: BTreeSet<&str> = readers
        .split('`')
        .filter(|name| name.starts_with("fuzzing_"))
        .collect();
    let sources = sources();
    let fuzzed = sources
        .split("\n")
        .filter_map(|line| line.trim_start().strip_prefix("fn ")?.strip_suffix("() {"));
    assert_eq!(
        documented,
        fuzzed
            .filter(|name| name.starts_with("fuzzing_"))
            .collect::<BTreeSet<&str>>()
    );
}

#[tokio::test]
async fn faults_of_the_source_are_overcome_or_named() {
    let scene = Scene::set(LAYER).await;
    scene
        .play_all(&table::of_source(
            scene.layer().as_str(),
            scene.child().as_str(),
        ))
        .await;
}

#[tokio::test]
async fn faults_of_the_target_are_overcome_or_named() {
    let scene = Scene::set(LAYER).await;
    scene
        .play_all(&table::of_target(
            scene.layer().as_str(),
            scene.child().as_str(),
        ))
        .await;
}

#[tokio::test]
async fn uploads_in_parts_survive_what_registries_say_of_them() {
    let scene = Scene::set(HUGE_LAYER).await;
    scene
        .play_all(&table::of_huge_uploads(scene.layer().as_str()))
        .await;
}

/// Returns `causes` without the requests that failed, since each case has another path.
fn without_requests(causes: &str) -> String {
    let request =
        Regex::new(r" \((?:GET|HEAD|POST|PUT|PATCH|DELETE) [^ ()]*(, |\))").expect("a pattern");
    request
        .replace_all(causes, |found: &regex::Captures<'_>| match &found[1] {
            ")" => "",
            _ => " (",
        })
        .into_owned()
}

/// Returns the pattern of a quoted message, in which `…` stands for any text.
fn quoted(message: &str) -> Regex {
    let parts: Vec<String> = message.split('…').map(regex::escape).collect();
    Regex::new(&parts.join(".*")).expect("a pattern")
}
