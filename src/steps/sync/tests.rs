mod moving_tags;
mod planning;
mod tag_case;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeZone, Utc};
use futures_util::FutureExt;
use regex::Regex;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::command::{
    CapturedOutput, CommandError, ProgramCommand, ProgramOutput, ProgramStatus, RefusingRunner,
    Runner,
};
use crate::config::{CheckDigest, MissingPlatforms, PatternSelection, TagPattern};
use crate::error::{Exit, ItemErrorKind};
use crate::hooks::HookRunner;
use crate::model::hook::{Hook, HookCommand};
use crate::model::{
    Algorithm, Descriptor, Digest, Manifest, Reference, Repository, Tag, Variables,
};
use crate::registry::memory::{ImageStoreCall, MemoryStore, StoreFault, StoreOperation};
use crate::registry::{ImageSource, ImageStore, InMemory};
use crate::steps::Mode;
use crate::transfer::no_cache;

/// A runner that records commands and does not run them.
#[derive(Default)]
struct RecordingRunner {
    commands: Mutex<Vec<ProgramCommand>>,
    /// True if every command fails.
    fails: bool,
}

#[async_trait]
impl Runner for RecordingRunner {
    async fn run(&self, command: ProgramCommand) -> Result<ProgramOutput, CommandError> {
        self.commands.lock().expect("the commands").push(command);
        let status = if self.fails {
            ProgramStatus::Exited(7)
        } else {
            ProgramStatus::Exited(0)
        };
        Ok(ProgramOutput {
            status,
            stdout: CapturedOutput::default(),
            stderr: CapturedOutput::default(),
        })
    }
}

/// Stores, hooks and configuration of a sync.
struct TestSync {
    source: Arc<MemoryStore>,
    target: Arc<MemoryStore>,
    runner: Arc<RecordingRunner>,
    cancel: CancellationToken,
    sync: SyncConfig,
}

fn repository(text: &str) -> Repository {
    text.parse().expect("a repository")
}

fn upstream() -> Repository {
    repository("docker.io/library/app")
}

fn mirror() -> Repository {
    repository("registry.example.com/mirrors/app")
}

fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 1, 0, 0, 0)
        .single()
        .expect("a time")
}

fn entry(pattern: &str) -> SyncEntry {
    let pattern = TagPattern {
        text: pattern.to_owned(),
        regex: Regex::new(&format!("^(?:{pattern})$")).expect("a pattern"),
    };
    SyncEntry {
        source: upstream(),
        target: mirror(),
        selection: TagSelection::Pattern(Box::new(PatternSelection::by_pattern(pattern))),
        digest: None,
        target_tag: None,
        check_digest: CheckDigest::Never,
        keep_replaced: false,
        platforms: None,
        platform_mode: PlatformMode::Rewrite,
        platforms_missing: MissingPlatforms::Warn,
        skip_unsupported: false,
        referrers: true,
        os_normalize: false,
        lifecycle: Vec::new(),
        retention: None,
        post_sync: Vec::new(),
    }
}

fn hook(words: &[&str]) -> Hook {
    let command = HookCommand::Program(words.iter().map(ToString::to_string).collect());
    Hook {
        command,
        timeout: Duration::from_secs(5),
        continue_on_error: false,
    }
}

fn fixture(entries: Vec<SyncEntry>) -> TestSync {
    TestSync {
        source: Arc::default(),
        target: Arc::default(),
        runner: Arc::default(),
        cancel: CancellationToken::new(),
        sync: SyncConfig {
            parallelism: 3,
            entries,
            post_sync: Vec::new(),
        },
    }
}

async fn put(store: &MemoryStore, repository: &Repository, name: &str, content: &str) -> Digest {
    let config = Descriptor::new(
        "application/vnd.oci.image.config.v1+json",
        Digest::sha256(content.as_bytes()),
        content.len() as u64,
    );
    let text =
        serde_json::json!({ "schemaVersion": 2, "config": config, "layers": [] }).to_string();
    let manifest = Manifest::parse(Bytes::from(text), None, Algorithm::Sha256).expect("a manifest");
    store
        .put_blob(
            repository,
            &config,
            &InMemory(Bytes::copy_from_slice(content.as_bytes())),
            None,
        )
        .await
        .expect("a blob");
    store
        .put_manifest(repository, &Reference::Tag(tag(name)), &manifest)
        .await
        .expect("a manifest");
    manifest.digest
}

impl TestSync {
    async fn run(&self, mode: Mode) -> SyncReport {
        let target = self.target.stores();
        let target = match mode {
            Mode::Apply => target,
            Mode::List | Mode::DryRun => target.read_only(),
        };
        let stores = SyncStores {
            source: self.source.stores(),
            target,
            digest_cache: no_cache(),
        };
        let world = observe(
            &self.sync,
            &SyncScope::default(),
            &stores,
            &*crate::progress::silent(),
            now(),
        )
        .await;
        let plan = plan(&self.sync, &world);
        self.execute(&plan, stores, mode).await
    }

    async fn execute(&self, plan: &Plan, stores: SyncStores, mode: Mode) -> SyncReport {
        let runner: Arc<dyn Runner> = if mode == Mode::Apply {
            self.runner.clone()
        } else {
            Arc::new(RefusingRunner)
        };
        let hooks = HookRunner::new(runner, Variables::default(), "/".into());
        let execution = SyncExecution {
            mode,
            stores,
            progress: crate::progress::silent(),
            hooks,
            cancel: self.cancel.clone(),
            now: now(),
        };
        execute(&self.sync, plan, &execution).await
    }

    async fn at_target(&self, name: &str) -> Option<Digest> {
        self.target
            .resolve(&mirror(), &Reference::Tag(tag(name)))
            .await
            .expect("the target answers")
            .map(|found| found.digest)
    }

    fn writes(&self) -> usize {
        self.target.count(StoreOperation::PutBlob) + self.target.count(StoreOperation::PutManifest)
    }

    /// Returns the command lines of the hooks that ran.
    fn hooks(&self) -> Vec<String> {
        let commands = self.runner.commands.lock().expect("the commands");
        commands
            .iter()
            .map(|command| format!("{} {}", command.program, command.arguments.join(" ")))
            .collect()
    }
}

fn items(report: &SyncReport) -> Vec<String> {
    report
        .entries
        .iter()
        .flat_map(|entry| {
            entry
                .items
                .iter()
                .map(|item| format!("{}:{}", entry.target, item.tag))
        })
        .collect()
}

fn outcomes(report: &SyncReport) -> Vec<(&str, &SyncOutcome)> {
    report
        .entries
        .iter()
        .flat_map(|entry| {
            entry
                .items
                .iter()
                .map(|item| (item.tag.as_str(), &item.outcome))
        })
        .collect()
}

#[tokio::test]
async fn all_modes_report_the_same_items_and_a_second_run_copies_nothing() {
    let fixture = fixture(vec![
        entry(r"1\..*"),
        SyncEntry {
            target: repository("registry.example.com/mirrors/two"),
            ..entry(r"2\..*")
        },
    ]);
    for name in ["1.0", "1.1", "1.2", "2.0", "other"] {
        put(&fixture.source, &upstream(), name, name).await;
    }
    put(&fixture.target, &mirror(), "1.0", "1.0").await;
    fixture.target.clear_calls();
    let listed = fixture.run(Mode::List).await;
    let dry = fixture.run(Mode::DryRun).await;
    assert_eq!(fixture.writes(), 0, "the dry modes write nothing");
    let real = fixture.run(Mode::Apply).await;
    assert_eq!(items(&dry), items(&real));
    assert_eq!(items(&listed), items(&real));
    let planned = |report: &SyncReport| {
        outcomes(report)
            .iter()
            .filter(|(_, outcome)| **outcome == SyncOutcome::Planned)
            .count()
    };
    assert_eq!(
        (planned(&listed), planned(&dry), real.totals.copied),
        (3, 3, 3)
    );
    assert_eq!((real.totals.up_to_date, real.exit()), (1, Exit::Done));
    fixture.target.clear_calls();
    fixture.source.clear_calls();
    let again = fixture.run(Mode::Apply).await;
    assert_eq!(
        (
            again.totals.copied,
            again.totals.up_to_date,
            fixture.writes()
        ),
        (0, 4, 0)
    );
    assert_eq!(
        (fixture.source.calls().len(), fixture.target.calls().len()),
        (1, 2),
        "one listing of each repository"
    );
}

#[tokio::test]
async fn a_failed_tag_does_not_stop_the_others_and_fails_the_command() {
    let fixture = fixture(vec![entry(r"1\..*")]);
    for name in ["1.0", "1.1", "1.2"] {
        put(&fixture.source, &upstream(), name, name).await;
    }
    let lost = Digest::sha256(b"1.1").to_string();
    fixture.source.fail_when(move |call| {
        (call.subject == lost).then_some(StoreFault::Error(ItemErrorKind::ServerError))
    });
    let report = fixture.run(Mode::Apply).await;
    assert_eq!(
        (report.totals.copied, report.totals.failed, report.exit()),
        (2, 1, Exit::Failed)
    );
    assert_eq!(fixture.at_target("1.1").await, None);
    let SyncOutcome::Failed(error) = &report.entries[0].items[1].outcome else {
        panic!("{:?}", outcomes(&report))
    };
    assert_eq!(error.side, Some(crate::error::Side::Source));
    let text = crate::report::text::draw(
        &report.document(),
        crate::report::text::Style { color: false },
    );
    assert!(
        text.contains(
            "error: registry.example.com/mirrors/app:1.1: source: docker.io: cannot read blob"
        ),
        "{text}"
    );
}

#[tokio::test]
async fn a_moved_tag_is_copied_and_its_old_image_kept_with_keep_replaced() {
    let followed = SyncEntry {
        check_digest: CheckDigest::Always,
        keep_replaced: true,
        ..entry("stable")
    };
    let fixture = fixture(vec![followed]);
    let new = put(&fixture.source, &upstream(), "stable", "new").await;
    let old = put(&fixture.target, &mirror(), "stable", "old").await;
    let report = fixture.run(Mode::Apply).await;
    assert_eq!(outcomes(&report), [("stable", &SyncOutcome::Copied)]);
    assert_eq!(report.entries[0].items[0].digest, Some(new.clone()));
    assert_eq!(fixture.at_target("stable").await, Some(new));
    assert_eq!(
        fixture.at_target("stable-replaced.20260301").await,
        Some(old)
    );
}

#[tokio::test]
async fn keep_replaced_keeps_every_image_of_one_day() {
    let fixture = fixture(vec![SyncEntry {
        check_digest: CheckDigest::Always,
        keep_replaced: true,
        ..entry("stable")
    }]);
    let mut pushed = Vec::new();
    for content in ["first", "second", "third", "fourth"] {
        pushed.push(put(&fixture.source, &upstream(), "stable", content).await);
        assert_eq!(fixture.run(Mode::Apply).await.exit(), Exit::Done);
    }
    for (name, digest) in [
        "stable-replaced.20260301",
        "stable-replaced.20260301.2",
        "stable-replaced.20260301.3",
        "stable",
    ]
    .iter()
    .zip(pushed)
    {
        assert_eq!(fixture.at_target(name).await, Some(digest), "{name}");
    }
}

#[tokio::test]
async fn a_target_tag_that_moved_since_the_plan_is_not_overwritten() {
    let fixture = fixture(vec![SyncEntry {
        check_digest: CheckDigest::Always,
        ..entry("stable")
    }]);
    put(&fixture.source, &upstream(), "stable", "new").await;
    put(&fixture.target, &mirror(), "stable", "old").await;
    let stores = SyncStores {
        source: fixture.source.stores(),
        target: fixture.target.stores(),
        digest_cache: no_cache(),
    };
    let world = observe(
        &fixture.sync,
        &SyncScope::default(),
        &stores,
        &*crate::progress::silent(),
        now(),
    )
    .await;
    let plan = plan(&fixture.sync, &world);
    let theirs = put(&fixture.target, &mirror(), "stable", "theirs").await;
    let report = fixture.execute(&plan, stores, Mode::Apply).await;
    assert_eq!(report.totals.failed, 1);
    assert_eq!(fixture.at_target("stable").await, Some(theirs));
}

#[tokio::test]
async fn a_target_tag_that_moves_during_the_copy_is_not_overwritten() {
    for (keep_replaced, theirs, failed) in
        [(false, "theirs", 1), (true, "theirs", 1), (false, "new", 0)]
    {
        let fixture = fixture(vec![SyncEntry {
            check_digest: CheckDigest::Always,
            keep_replaced,
            ..entry("stable")
        }]);
        put(&fixture.source, &upstream(), "stable", "new").await;
        let old = put(&fixture.target, &mirror(), "stable", "old").await;
        let theirs = put(&fixture.target, &mirror(), "other", theirs).await;
        let (target, moved) = (fixture.target.clone(), theirs.clone());
        let parts = [
            StoreOperation::HasBlob,
            StoreOperation::PutBlob,
            StoreOperation::Manifest,
        ];
        fixture.target.fail_when(move |call| {
            // The first of these calls belongs to the copy.
            if parts.contains(&call.operation)
                || call.operation == StoreOperation::Resolve && call.subject.starts_with("sha256:")
            {
                target.move_tag(&mirror(), &tag("stable"), &moved);
            }
            None
        });
        let report = fixture.run(Mode::Apply).await;
        fixture.target.fail_when(|_| None);
        assert_eq!(
            (report.totals.failed, fixture.at_target("stable").await),
            (failed, Some(theirs)),
            "{report:?}"
        );
        assert!(!keep_replaced || fixture.at_target("stable-replaced.20260301").await == Some(old));
        let SyncOutcome::Failed(error) = &report.entries[0].items[0].outcome else {
            assert_eq!(
                report.entries[0].items[0].warnings,
                ["another run copied the image in the meantime"]
            );
            continue;
        };
        assert_eq!(
            (error.side, error.hint().as_deref()),
            (
                Some(crate::error::Side::Target),
                Some("run the command again")
            )
        );
        assert!(
            error.cause.contains("the tag changed from sha256:"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_tag_that_another_run_copied_is_done() {
    let fixture = fixture(vec![SyncEntry {
        check_digest: CheckDigest::Always,
        ..entry("stable")
    }]);
    put(&fixture.source, &upstream(), "stable", "new").await;
    put(&fixture.target, &mirror(), "stable", "old").await;
    let stores = SyncStores {
        source: fixture.source.stores(),
        target: fixture.target.stores(),
        digest_cache: no_cache(),
    };
    let world = observe(
        &fixture.sync,
        &SyncScope::default(),
        &stores,
        &*crate::progress::silent(),
        now(),
    )
    .await;
    let plan = plan(&fixture.sync, &world);
    put(&fixture.target, &mirror(), "stable", "new").await;
    let report = fixture.execute(&plan, stores, Mode::Apply).await;
    assert_eq!(outcomes(&report), [("stable", &SyncOutcome::Copied)]);
    assert_eq!(
        report.entries[0].items[0].warnings,
        ["another run copied the image in the meantime"]
    );
}

#[tokio::test]
async fn interrupted_run_reports_the_tags_that_were_not_done() {
    let fixture = fixture(vec![entry(r"1\..*")]);
    for name in ["1.0", "1.1", "1.2", "1.3", "1.4"] {
        put(&fixture.source, &upstream(), name, name).await;
    }
    let cancel = fixture.cancel.clone();
    fixture.target.fail_when(move |call| {
        if call.operation == StoreOperation::PutBlob {
            cancel.cancel();
        }
        None
    });
    let report = fixture.run(Mode::Apply).await;
    assert!(report.interrupted);
    assert_eq!(report.totals.copied + report.totals.not_done, 5);
    assert!(report.totals.not_done >= 2, "{:?}", report.totals);
    for (name, outcome) in outcomes(&report) {
        assert_eq!(
            fixture.at_target(name).await.is_some(),
            *outcome == SyncOutcome::Copied,
            "{name}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn hooks_run_once_or_for_each_copied_tag_and_only_after_copies() {
    let hooked = |target: &str, pattern: &str| SyncEntry {
        target: repository(target),
        post_sync: vec![
            hook(&["scan", "{{ image }}@{{ digest }}"]),
            hook(&["notify", "{{ source }}", "{{ target }}"]),
        ],
        ..entry(pattern)
    };
    let mut fixture = fixture(vec![
        hooked("registry.example.com/a", r"1\..*"),
        hooked("registry.example.com/b", "2.0"),
    ]);
    fixture.sync.post_sync = vec![hook(&["done"])];
    let mut digests = Vec::new();
    for name in ["1.0", "1.1", "2.0"] {
        digests.push(put(&fixture.source, &upstream(), name, name).await);
    }
    put(
        &fixture.target,
        &repository("registry.example.com/b"),
        "2.0",
        "2.0",
    )
    .await;
    fixture.run(Mode::DryRun).await;
    assert_eq!(fixture.hooks(), [""; 0], "no hooks in a dry run");
    let report = fixture.run(Mode::Apply).await;
    assert_eq!(report.exit(), Exit::Done);
    assert_eq!(
        fixture.hooks(),
        [
            format!("scan registry.example.com/a:1.1@{}", digests[1]),
            format!("scan registry.example.com/a:1.0@{}", digests[0]),
            "notify docker.io/library/app registry.example.com/a".to_owned(),
            "done ".to_owned(),
        ]
    );
}

#[tokio::test]
async fn a_failed_hook_fails_the_command_unless_continue_on_error_is_set() {
    for (tolerated, exit, runs) in [(false, Exit::Failed, 1), (true, Exit::Done, 2)] {
        let failing = Hook {
            continue_on_error: tolerated,
            ..hook(&["first"])
        };
        let mut fixture = fixture(vec![SyncEntry {
            post_sync: vec![
                failing,
                Hook {
                    continue_on_error: true,
                    ..hook(&["second"])
                },
            ],
            ..entry("1.0")
        }]);
        fixture.runner = Arc::new(RecordingRunner {
            fails: true,
            ..RecordingRunner::default()
        });
        put(&fixture.source, &upstream(), "1.0", "1.0").await;
        let report = fixture.run(Mode::Apply).await;
        assert_eq!(
            (report.exit(), fixture.hooks().len()),
            (exit, runs),
            "tolerated: {tolerated}"
        );
    }
}

#[tokio::test]
async fn entries_with_one_target_stay_in_one_shard() {
    let target = |name: &str| SyncEntry {
        target: repository(name),
        ..entry("1.0")
    };
    let fixture = fixture(vec![
        target("r.example.com/a"),
        target("r.example.com/b"),
        target("r.example.com/a"),
        target("r.example.com/c"),
    ]);
    let shard = |index| {
        SyncScope {
            shard: Shard::new(index, 2),
            ..SyncScope::default()
        }
        .entries(&fixture.sync)
    };
    assert_eq!((shard(1), shard(2)), (vec![0, 2, 3], vec![1]));
    let only = SyncScope {
        only: Only::new(&["b".to_owned()]).expect("a pattern"),
        ..SyncScope::default()
    };
    assert_eq!(only.entries(&fixture.sync), [1]);
}

#[tokio::test]
async fn tags_are_resolved_one_by_one_if_the_target_denies_listing() {
    let fixture = fixture(vec![entry(r"1\..*")]);
    for name in ["1.0", "1.1"] {
        put(&fixture.source, &upstream(), name, name).await;
    }
    let theirs = put(&fixture.target, &mirror(), "1.0", "another image").await;
    fixture.target.fail_when(|call| {
        (call.operation == StoreOperation::Tags)
            .then_some(StoreFault::Error(ItemErrorKind::Forbidden))
    });
    let report = fixture.run(Mode::Apply).await;
    assert_eq!(
        outcomes(&report),
        [
            ("1.1", &SyncOutcome::Copied),
            ("1.0", &SyncOutcome::UpToDate)
        ]
    );
    assert_eq!(
        fixture.at_target("1.0").await,
        Some(theirs),
        "an existing tag is not overwritten"
    );
}

#[tokio::test]
async fn rejected_credentials_fail_the_entry_before_the_plan() {
    let fixture = fixture(vec![entry("1.0")]);
    put(&fixture.source, &upstream(), "1.0", "1.0").await;
    let refused = [StoreOperation::Tags, StoreOperation::Resolve];
    fixture.target.fail_when(move |call| {
        refused
            .contains(&call.operation)
            .then_some(StoreFault::Error(ItemErrorKind::Unauthorized))
    });
    let report = fixture.run(Mode::DryRun).await;
    assert_eq!(
        (
            report.totals.failed_entries,
            report.totals.selected,
            report.exit()
        ),
        (1, 0, Exit::Failed)
    );
    let text = crate::report::text::draw(
        &report.document(),
        crate::report::text::Style { color: false },
    );
    assert!(
        text.contains("error: docker.io/library/app -> registry.example.com/mirrors/app: target: "),
        "{text}"
    );
}

#[tokio::test]
async fn a_selection_without_tags_reports_the_counts_of_each_rule() {
    let fixture = fixture(vec![entry(r"9\..*")]);
    for name in ["1.0", "1.1", "latest"] {
        put(&fixture.source, &upstream(), name, name).await;
    }
    let report = fixture.run(Mode::List).await;
    assert_eq!(
        (report.entries[0].left_out.not_matching, report.exit()),
        (3, Exit::Failed)
    );
}

/// Makes `source` delay each blob until the manifest of the next image was read. `images` is the
/// number of images.
fn require_prefetch(source: &MemoryStore, images: usize) {
    let (manifests, blobs) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    source.delay_by(move |call| {
        let manifests = Arc::clone(&manifests);
        match call.operation {
            StoreOperation::Manifest => async move {
                tokio::task::yield_now().await;
                manifests.fetch_add(1, Ordering::Relaxed);
            }
            .boxed(),
            StoreOperation::Blob => {
                let needed = images.min(blobs.fetch_add(1, Ordering::Relaxed) + 2);
                let read = async move {
                    while manifests.load(Ordering::Relaxed) < needed {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                };
                async move {
                    tokio::time::timeout(Duration::from_secs(20), read)
                        .await
                        .expect("the next manifest is read");
                }
                .boxed()
            }
            _ => async {}.boxed(),
        }
    });
}

/// Copies ten images, one at a time, from a source that delays blobs until the next manifest was
/// prefetched.
async fn copy_ten(prepare: impl Fn(&MemoryStore)) -> (TestSync, SyncReport) {
    let mut fixture = fixture(vec![entry(r"1\..*")]);
    fixture.sync.parallelism = 1;
    for number in 0..10 {
        put(
            &fixture.source,
            &upstream(),
            &format!("1.{number}"),
            &number.to_string(),
        )
        .await;
    }
    let stores = SyncStores {
        source: fixture.source.stores(),
        target: fixture.target.stores(),
        digest_cache: no_cache(),
    };
    let world = observe(
        &fixture.sync,
        &SyncScope::default(),
        &stores,
        &*crate::progress::silent(),
        now(),
    )
    .await;
    let plan = plan(&fixture.sync, &world);
    fixture.source.clear_calls();
    require_prefetch(&fixture.source, 10);
    prepare(&fixture.source);
    let report = fixture.execute(&plan, stores, Mode::Apply).await;
    (fixture, report)
}

#[tokio::test]
async fn prefetch_reads_each_manifest_once_while_earlier_images_are_copied() {
    let (fixture, report) = copy_ten(|_| {}).await;
    assert_eq!(
        (
            report.totals.copied,
            fixture.source.count(StoreOperation::Manifest)
        ),
        (10, 10)
    );
}

#[tokio::test]
async fn prefetch_stops_at_the_first_manifest_that_cannot_be_read() {
    let fails = |call: &ImageStoreCall| {
        (call.operation == StoreOperation::Manifest)
            .then_some(StoreFault::Error(ItemErrorKind::ServerError))
    };
    let (fixture, report) = copy_ten(|source| source.fail_when(fails)).await;
    let requests = fixture.source.count(StoreOperation::Manifest);
    assert!(
        report.totals.failed == 10 && (10..=12).contains(&requests),
        "{requests} requests for {} failures",
        report.totals.failed
    );
}
