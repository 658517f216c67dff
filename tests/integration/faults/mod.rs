//! Tests of a sync with faulty registries and networks, one fault at a time.
//!
//! A run either succeeds, with exactly the source's bytes at the target, or it fails with the cause
//! in its report and leaves the target unchanged. A test checks that the table in
//! `docs/reliability.md` lists the same cases.

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

mod concurrent_runs;
mod connections;
mod invalid_responses;
pub(crate) mod kills;
mod races;
mod secrets;
mod table;
mod token_expiry;
mod untrusted_text;

/// Time limit for each run, whatever the fault. The waits between five tries add up to 15 seconds
/// at most.
const RUN_TIMEOUT: Duration = Duration::from_secs(60);

/// Number of cases that run in parallel. Most of their time is spent waiting.
const MAX_PARALLEL_CASES: usize = 16;

/// Size of the large layer, in bytes.
const LAYER: usize = 3_000_000;

/// Size of a layer that is large enough to be uploaded in chunks after a broken upload, in bytes.
const HUGE_LAYER: usize = 24 * 1024 * 1024;

const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Returns `size` random bytes that depend only on `seed`.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; size];
    random.fill(&mut bytes);
    bytes
}

/// Returns a tagged index of one image, which has a layer of `size` bytes and a small one.
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

/// Returns a configuration with `insecure` as registries over plain HTTP. Each entry consists of
/// source, target and further keys.
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

/// Returns all errors in a report.
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

/// Side that has the fault.
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
    /// Copied, but not before this time has passed.
    CopiedAfter(Duration),
    /// Fails with this text in the message; `…` stands for any text.
    Fails(&'static str),
}

/// A fault and the expected result of a run.
struct Case {
    side: Side,
    /// Description of the fault and the request.
    name: &'static str,
    rules: Vec<Rule>,
    expected: Expected,
}

impl Case {
    /// Returns the case as a row of the table in the documentation.
    fn row(&self) -> String {
        let outcome = match self.expected {
            Expected::Copied => "copied".to_owned(),
            Expected::CopiedAfter(_) => "copied after the requested wait".to_owned(),
            Expected::Fails(cause) => format!("fails: `{cause}`"),
        };
        format!("| {} | {} | {outcome} |", self.side.word(), self.name)
    }
}

/// Registries shared by all cases. Each case has its own repository at the target.
struct TestRegistries {
    upstream: Registry,
    target: Registry,
    graph: Graph,
    /// Content of each target repository before the run.
    earlier: Graph,
}

impl TestRegistries {
    /// Starts the registries. The large layer of the source image has `size` bytes.
    async fn start(size: usize) -> TestRegistries {
        let registries = TestRegistries {
            upstream: Registry::plain(),
            target: Registry::plain(),
            graph: image("1.0", size),
            earlier: image("0.9", 1_000),
        };
        registries
            .graph
            .publish(
                &client(&registries.upstream),
                &registries.upstream.repository("app"),
            )
            .await;
        registries
    }

    /// Returns the digest of the large layer.
    fn layer(&self) -> &Digest {
        &self.graph.blobs[0].descriptor.digest
    }

    fn child(&self) -> &Digest {
        &self.graph.manifests[0].descriptor.digest
    }

    /// Runs a case and returns its duration and result for the output of the test.
    async fn run_case(&self, number: usize, case: &Case) -> String {
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
                .within(RUN_TIMEOUT)
                .wait()
        });
        let outcome = sync.await.expect("a run");
        assert!(
            proxy.faults() > 0,
            "the proxy injected no fault: {:?}",
            proxy.requests()
        );
        let requests = proxy.requests();
        let deleted = requests.iter().find(|request| {
            request.method == "DELETE" && !request.path.contains("/blobs/uploads/")
        });
        assert!(
            deleted.is_none(),
            "a sync must only delete its own uploads: {deleted:?}"
        );
        let pulled = requests.iter().find(|request| {
            case.side == Side::Target
                && request.method == "GET"
                && request.path.contains("/manifests/1.0")
        });
        assert!(
            pulled.is_none(),
            "a sync must not pull from the target: {pulled:?}"
        );
        let causes = causes(&report(&outcome));
        match &case.expected {
            Expected::Fails(cause) => {
                let outcome = outcome.exits(1);
                assert!(
                    message_pattern(cause).is_match(&without_requests(&causes)),
                    "{cause:?} is not in {causes}"
                );
                let side = format!("\"side\":\"{}\"", case.side.word());
                assert!(causes.contains(&side), "{causes} has the wrong side");
                assert_eq!(self.target.stored_tags(&path), before, "no tag may change");
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

    /// Runs all cases. Fails with the names of those that do not end as expected.
    async fn run_all(&self, cases: &[Case]) {
        let mut cases: Vec<&Case> = cases.iter().collect();
        // Cases that fail wait for all retries, so they start first.
        cases.sort_by_key(|case| !matches!(case.expected, Expected::Fails(_)));
        let results = cases.iter().enumerate().map(|(number, case)| async move {
            let result = AssertUnwindSafe(self.run_case(number, case))
                .catch_unwind()
                .await;
            println!(
                "{:60} {}",
                case.row(),
                result.as_deref().unwrap_or("FAILED, see above")
            );
            result.is_err().then(|| case.row())
        });
        let wrong: Vec<Option<String>> = stream::iter(results)
            .buffer_unordered(MAX_PARALLEL_CASES)
            .collect()
            .await;
        let wrong: Vec<String> = wrong.into_iter().flatten().collect();
        assert!(
            wrong.is_empty(),
            "{} of {} cases did not end as expected:\n{}",
            wrong.len(),
            cases.len(),
            wrong.join("\n")
        );
    }
}

#[test]
fn documented_faults_are_the_tested_faults() {
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
        "docs/reliability.md has rows without a case"
    );
}

/// Returns the text of all Rust files of the project.
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
fn documented_tests_exist() {
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
        "of {} documented tests these do not exist: {missing:?}",
        names.len()
    );
}

#[test]
fn documented_readers_are_the_fuzzed_readers() {
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
async fn faults_of_the_source_are_retried_or_reported() {
    let registries = TestRegistries::start(LAYER).await;
    registries
        .run_all(&table::of_source(
            registries.layer().as_str(),
            registries.child().as_str(),
        ))
        .await;
}

#[tokio::test]
async fn faults_of_the_target_are_retried_or_reported() {
    let registries = TestRegistries::start(LAYER).await;
    registries
        .run_all(&table::of_target(
            registries.layer().as_str(),
            registries.child().as_str(),
        ))
        .await;
}

#[tokio::test]
async fn chunked_uploads_survive_faulty_upload_status() {
    let registries = TestRegistries::start(HUGE_LAYER).await;
    registries
        .run_all(&table::of_huge_uploads(registries.layer().as_str()))
        .await;
}

/// Removes the failed requests from `causes`, because each case has a different path.
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

/// Returns the pattern of an expected message, in which `…` stands for any text.
fn message_pattern(message: &str) -> Regex {
    let parts: Vec<String> = message.split('…').map(regex::escape).collect();
    Regex::new(&parts.join(".*")).expect("a pattern")
}
