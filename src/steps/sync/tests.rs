mod naming;

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
use crate::config::{PatternSelection, SortBy, TagPattern};
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

/// A runner that notes what it is asked to run.
#[derive(Default)]
struct Noting {
    commands: Mutex<Vec<ProgramCommand>>,
    fails: bool,
}

#[async_trait]
impl Runner for Noting {
    async fn run(&self, command: ProgramCommand) -> Result<ProgramOutput, CommandError> {
        self.commands.lock().expect("the notes").push(command);
        let ending = if self.fails {
            ProgramStatus::Exited(7)
        } else {
            ProgramStatus::Exited(0)
        };
        Ok(ProgramOutput {
            status: ending,
            stdout: CapturedOutput::default(),
            stderr: CapturedOutput::default(),
        })
    }
}

struct World {
    source: Arc<MemoryStore>,
    target: Arc<MemoryStore>,
    runner: Arc<Noting>,
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
        selection: TagSelection::Pattern(Box::new(PatternSelection {
            tag_regex: pattern,
            exclude_regex: None,
            min_age: None,
            sort: SortBy::Version,
            keep_last: None,
            min_tags: 1,
        })),
        check_digest: false,
        keep_replaced: false,
        platforms: None,
        platform_mode: PlatformMode::Rewrite,
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

fn world(entries: Vec<SyncEntry>) -> World {
    World {
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

async fn put(place: &MemoryStore, repository: &Repository, name: &str, content: &str) -> Digest {
    let config = Descriptor::new(
        "application/vnd.oci.image.config.v1+json",
        Digest::sha256(content.as_bytes()),
        content.len() as u64,
    );
    let text =
        serde_json::json!({ "schemaVersion": 2, "config": config, "layers": [] }).to_string();
    let manifest = Manifest::parse(Bytes::from(text), None, Algorithm::Sha256).expect("a manifest");
    place
        .put_blob(
            repository,
            &config,
            &InMemory(Bytes::copy_from_slice(content.as_bytes())),
            None,
        )
        .await
        .expect("a blob");
    place
        .put_manifest(repository, &Reference::Tag(tag(name)), &manifest)
        .await
        .expect("a manifest");
    manifest.digest
}

impl World {
    async fn run(&self, mode: Mode) -> SyncReport {
        let target = self.target.stores();
        let target = match mode {
            Mode::Apply => target,
            Mode::List | Mode::DryRun => target.read_only(),
        };
        let places = Places {
            source: self.source.stores(),
            target,
            memory: no_cache(),
        };
        let seen = observe(
            &self.sync,
            &Scope::default(),
            &places,
            &*crate::progress::silent(),
            now(),
        )
        .await;
        let plan = plan(&self.sync, &seen);
        self.execute(&plan, places, mode).await
    }

    async fn execute(&self, plan: &Plan, places: Places, mode: Mode) -> SyncReport {
        let runner: Arc<dyn Runner> = if mode == Mode::Apply {
            self.runner.clone()
        } else {
            Arc::new(RefusingRunner)
        };
        let hooks = HookRunner::new(runner, Variables::default(), "/".into());
        let execution = Execution {
            mode,
            places,
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

    /// Returns the hooks that ran, as their words.
    fn hooks(&self) -> Vec<String> {
        let commands = self.runner.commands.lock().expect("the notes");
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

fn outcomes(report: &SyncReport) -> Vec<(&str, &Outcome)> {
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
async fn dry_and_real_runs_name_the_same_items_and_a_second_run_has_nothing_to_do() {
    let world = world(vec![
        entry(r"1\..*"),
        SyncEntry {
            target: repository("registry.example.com/mirrors/two"),
            ..entry(r"2\..*")
        },
    ]);
    for name in ["1.0", "1.1", "1.2", "2.0", "other"] {
        put(&world.source, &upstream(), name, name).await;
    }
    put(&world.target, &mirror(), "1.0", "1.0").await;
    world.target.clear_calls();
    let listed = world.run(Mode::List).await;
    let dry = world.run(Mode::DryRun).await;
    assert_eq!(world.writes(), 0, "the dry modes write nothing");
    let real = world.run(Mode::Apply).await;
    assert_eq!(items(&dry), items(&real));
    assert_eq!(items(&listed), items(&real));
    let planned = |report: &SyncReport| {
        outcomes(report)
            .iter()
            .filter(|(_, outcome)| **outcome == Outcome::Planned)
            .count()
    };
    assert_eq!(
        (planned(&listed), planned(&dry), real.totals.copied),
        (3, 3, 3)
    );
    assert_eq!((real.totals.up_to_date, real.exit()), (1, Exit::Done));
    world.target.clear_calls();
    world.source.clear_calls();
    let again = world.run(Mode::Apply).await;
    assert_eq!(
        (again.totals.copied, again.totals.up_to_date, world.writes()),
        (0, 4, 0)
    );
    assert_eq!(
        (world.source.calls().len(), world.target.calls().len()),
        (1, 2),
        "one listing of each repository"
    );
}

#[tokio::test]
async fn a_tag_that_fails_does_not_stop_the_others_and_the_exit_tells() {
    let world = world(vec![entry(r"1\..*")]);
    for name in ["1.0", "1.1", "1.2"] {
        put(&world.source, &upstream(), name, name).await;
    }
    let lost = Digest::sha256(b"1.1").to_string();
    world.source.fail_when(move |call| {
        (call.subject == lost).then_some(StoreFault::Error(ItemErrorKind::ServerError))
    });
    let report = world.run(Mode::Apply).await;
    assert_eq!(
        (report.totals.copied, report.totals.failed, report.exit()),
        (2, 1, Exit::Failed)
    );
    assert_eq!(world.at_target("1.1").await, None);
    let Outcome::Failed(error) = &report.entries[0].items[1].outcome else {
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
async fn a_moved_tag_is_followed_and_its_old_image_kept_when_asked() {
    let followed = SyncEntry {
        check_digest: true,
        keep_replaced: true,
        ..entry("stable")
    };
    let world = world(vec![followed]);
    let new = put(&world.source, &upstream(), "stable", "new").await;
    let old = put(&world.target, &mirror(), "stable", "old").await;
    let report = world.run(Mode::Apply).await;
    assert_eq!(outcomes(&report), [("stable", &Outcome::Copied)]);
    assert_eq!(report.entries[0].items[0].digest, Some(new.clone()));
    assert_eq!(world.at_target("stable").await, Some(new));
    assert_eq!(world.at_target("stable-replaced.20260301").await, Some(old));
}

#[tokio::test]
async fn every_image_that_a_tag_loses_on_one_day_is_kept() {
    let world = world(vec![SyncEntry {
        check_digest: true,
        keep_replaced: true,
        ..entry("stable")
    }]);
    let mut lost = Vec::new();
    for content in ["first", "second", "third", "fourth"] {
        lost.push(put(&world.source, &upstream(), "stable", content).await);
        assert_eq!(world.run(Mode::Apply).await.exit(), Exit::Done);
    }
    for (name, digest) in [
        "stable-replaced.20260301",
        "stable-replaced.20260301.2",
        "stable-replaced.20260301.3",
        "stable",
    ]
    .iter()
    .zip(lost)
    {
        assert_eq!(world.at_target(name).await, Some(digest), "{name}");
    }
}

#[tokio::test]
async fn a_tag_that_somebody_else_moved_meanwhile_is_left_alone() {
    let world = world(vec![SyncEntry {
        check_digest: true,
        ..entry("stable")
    }]);
    put(&world.source, &upstream(), "stable", "new").await;
    put(&world.target, &mirror(), "stable", "old").await;
    let places = Places {
        source: world.source.stores(),
        target: world.target.stores(),
        memory: no_cache(),
    };
    let seen = observe(
        &world.sync,
        &Scope::default(),
        &places,
        &*crate::progress::silent(),
        now(),
    )
    .await;
    let plan = plan(&world.sync, &seen);
    let theirs = put(&world.target, &mirror(), "stable", "theirs").await;
    let report = world.execute(&plan, places, Mode::Apply).await;
    assert_eq!(report.totals.failed, 1);
    assert_eq!(world.at_target("stable").await, Some(theirs));
}

#[tokio::test]
async fn a_tag_that_somebody_else_moves_while_its_image_is_copied_is_left_alone() {
    for (keep_replaced, theirs, failed) in
        [(false, "theirs", 1), (true, "theirs", 1), (false, "new", 0)]
    {
        let world = world(vec![SyncEntry {
            check_digest: true,
            keep_replaced,
            ..entry("stable")
        }]);
        put(&world.source, &upstream(), "stable", "new").await;
        let old = put(&world.target, &mirror(), "stable", "old").await;
        let theirs = put(&world.target, &mirror(), "other", theirs).await;
        let (target, moved) = (world.target.clone(), theirs.clone());
        let parts = [
            StoreOperation::HasBlob,
            StoreOperation::PutBlob,
            StoreOperation::Manifest,
        ];
        world.target.fail_when(move |call| {
            // The first of these belongs to the copy.
            if parts.contains(&call.operation)
                || call.operation == StoreOperation::Resolve && call.subject.starts_with("sha256:")
            {
                target.move_tag(&mirror(), &tag("stable"), &moved);
            }
            None
        });
        let report = world.run(Mode::Apply).await;
        world.target.fail_when(|_| None);
        assert_eq!(
            (report.totals.failed, world.at_target("stable").await),
            (failed, Some(theirs)),
            "{report:?}"
        );
        assert!(!keep_replaced || world.at_target("stable-replaced.20260301").await == Some(old));
        let Outcome::Failed(error) = &report.entries[0].items[0].outcome else {
            assert_eq!(
                report.entries[0].items[0].warnings,
                ["another run copied it meanwhile"]
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
async fn a_tag_that_another_run_moved_to_where_it_is_wanted_is_done() {
    let world = world(vec![SyncEntry {
        check_digest: true,
        ..entry("stable")
    }]);
    put(&world.source, &upstream(), "stable", "new").await;
    put(&world.target, &mirror(), "stable", "old").await;
    let places = Places {
        source: world.source.stores(),
        target: world.target.stores(),
        memory: no_cache(),
    };
    let seen = observe(
        &world.sync,
        &Scope::default(),
        &places,
        &*crate::progress::silent(),
        now(),
    )
    .await;
    let plan = plan(&world.sync, &seen);
    put(&world.target, &mirror(), "stable", "new").await;
    let report = world.execute(&plan, places, Mode::Apply).await;
    assert_eq!(outcomes(&report), [("stable", &Outcome::Copied)]);
    assert_eq!(
        report.entries[0].items[0].warnings,
        ["another run copied it meanwhile"]
    );
}

#[tokio::test]
async fn what_a_stopped_run_did_not_do_is_told() {
    let world = world(vec![entry(r"1\..*")]);
    for name in ["1.0", "1.1", "1.2", "1.3", "1.4"] {
        put(&world.source, &upstream(), name, name).await;
    }
    let cancel = world.cancel.clone();
    world.target.fail_when(move |call| {
        if call.operation == StoreOperation::PutBlob {
            cancel.cancel();
        }
        None
    });
    let report = world.run(Mode::Apply).await;
    assert!(report.interrupted);
    assert_eq!(report.totals.copied + report.totals.not_done, 5);
    assert!(report.totals.not_done >= 2, "{:?}", report.totals);
    for (name, outcome) in outcomes(&report) {
        assert_eq!(
            world.at_target(name).await.is_some(),
            *outcome == Outcome::Copied,
            "{name}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn hooks_run_for_each_changed_tag_or_once_as_they_ask_and_only_after_changes() {
    let hooked = |target: &str, pattern: &str| SyncEntry {
        target: repository(target),
        post_sync: vec![
            hook(&["scan", "{{ image }}@{{ digest }}"]),
            hook(&["tell", "{{ source }}", "{{ target }}"]),
        ],
        ..entry(pattern)
    };
    let mut world = world(vec![
        hooked("registry.example.com/a", r"1\..*"),
        hooked("registry.example.com/b", "2.0"),
    ]);
    world.sync.post_sync = vec![hook(&["done"])];
    let mut digests = Vec::new();
    for name in ["1.0", "1.1", "2.0"] {
        digests.push(put(&world.source, &upstream(), name, name).await);
    }
    put(
        &world.target,
        &repository("registry.example.com/b"),
        "2.0",
        "2.0",
    )
    .await;
    world.run(Mode::DryRun).await;
    assert_eq!(world.hooks(), [""; 0], "no hooks in a dry run");
    let report = world.run(Mode::Apply).await;
    assert_eq!(report.exit(), Exit::Done);
    assert_eq!(
        world.hooks(),
        [
            format!("scan registry.example.com/a:1.1@{}", digests[1]),
            format!("scan registry.example.com/a:1.0@{}", digests[0]),
            "tell docker.io/library/app registry.example.com/a".to_owned(),
            "done ".to_owned(),
        ]
    );
}

#[tokio::test]
async fn a_failed_hook_counts_unless_it_is_tolerated() {
    for (tolerated, exit, runs) in [(false, Exit::Failed, 1), (true, Exit::Done, 2)] {
        let failing = Hook {
            continue_on_error: tolerated,
            ..hook(&["first"])
        };
        let mut world = world(vec![SyncEntry {
            post_sync: vec![
                failing,
                Hook {
                    continue_on_error: true,
                    ..hook(&["second"])
                },
            ],
            ..entry("1.0")
        }]);
        world.runner = Arc::new(Noting {
            fails: true,
            ..Noting::default()
        });
        put(&world.source, &upstream(), "1.0", "1.0").await;
        let report = world.run(Mode::Apply).await;
        assert_eq!(
            (report.exit(), world.hooks().len()),
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
    let world = world(vec![
        target("r.example.com/a"),
        target("r.example.com/b"),
        target("r.example.com/a"),
        target("r.example.com/c"),
    ]);
    let shard = |index| {
        Scope {
            shard: Shard::new(index, 2),
            ..Scope::default()
        }
        .entries(&world.sync)
    };
    assert_eq!((shard(1), shard(2)), (vec![0, 2, 3], vec![1]));
    let only = Scope {
        only: Only::new(&["b".to_owned()]).expect("a pattern"),
        ..Scope::default()
    };
    assert_eq!(only.entries(&world.sync), [1]);
}

#[tokio::test]
async fn a_target_that_may_not_be_listed_is_looked_at_tag_by_tag() {
    let world = world(vec![entry(r"1\..*")]);
    for name in ["1.0", "1.1"] {
        put(&world.source, &upstream(), name, name).await;
    }
    let theirs = put(&world.target, &mirror(), "1.0", "somebody else's").await;
    world.target.fail_when(|call| {
        (call.operation == StoreOperation::Tags)
            .then_some(StoreFault::Error(ItemErrorKind::Forbidden))
    });
    let report = world.run(Mode::Apply).await;
    assert_eq!(
        outcomes(&report),
        [("1.1", &Outcome::Copied), ("1.0", &Outcome::UpToDate)]
    );
    assert_eq!(
        world.at_target("1.0").await,
        Some(theirs),
        "a tag that is there is left alone"
    );
}

#[tokio::test]
async fn a_login_that_is_not_accepted_fails_the_entry_before_anything_is_planned() {
    let world = world(vec![entry("1.0")]);
    put(&world.source, &upstream(), "1.0", "1.0").await;
    let refused = [StoreOperation::Tags, StoreOperation::Resolve];
    world.target.fail_when(move |call| {
        refused
            .contains(&call.operation)
            .then_some(StoreFault::Error(ItemErrorKind::Unauthorized))
    });
    let report = world.run(Mode::DryRun).await;
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
async fn a_pattern_that_selects_nothing_still_shows_what_each_rule_left_out() {
    let world = world(vec![entry(r"9\..*")]);
    for name in ["1.0", "1.1", "latest"] {
        put(&world.source, &upstream(), name, name).await;
    }
    let report = world.run(Mode::List).await;
    assert_eq!(
        (report.entries[0].left_out.not_matching, report.exit()),
        (3, Exit::Failed)
    );
}

/// Makes `source` return no blob before it read the manifest of the next of `images` images.
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

/// Copies ten images one after the other from a source that waits for what is read ahead.
async fn copy_ten(prepare: impl Fn(&MemoryStore)) -> (World, SyncReport) {
    let mut world = world(vec![entry(r"1\..*")]);
    world.sync.parallelism = 1;
    for number in 0..10 {
        put(
            &world.source,
            &upstream(),
            &format!("1.{number}"),
            &number.to_string(),
        )
        .await;
    }
    let places = Places {
        source: world.source.stores(),
        target: world.target.stores(),
        memory: no_cache(),
    };
    let seen = observe(
        &world.sync,
        &Scope::default(),
        &places,
        &*crate::progress::silent(),
        now(),
    )
    .await;
    let plan = plan(&world.sync, &seen);
    world.source.clear_calls();
    require_prefetch(&world.source, 10);
    prepare(&world.source);
    let report = world.execute(&plan, places, Mode::Apply).await;
    (world, report)
}

#[tokio::test]
async fn manifests_are_read_while_the_images_before_are_copied_each_once() {
    let (world, report) = copy_ten(|_| {}).await;
    assert_eq!(
        (
            report.totals.copied,
            world.source.count(StoreOperation::Manifest)
        ),
        (10, 10)
    );
}

#[tokio::test]
async fn what_cannot_be_read_ends_reading_ahead() {
    let fails = |call: &ImageStoreCall| {
        (call.operation == StoreOperation::Manifest)
            .then_some(StoreFault::Error(ItemErrorKind::ServerError))
    };
    let (world, report) = copy_ten(|source| source.fail_when(fails)).await;
    let asked = world.source.count(StoreOperation::Manifest);
    assert!(
        report.totals.failed == 10 && (10..=12).contains(&asked),
        "{asked} for {} failures",
        report.totals.failed
    );
}
