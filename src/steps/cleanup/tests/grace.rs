//! Grace period, journal and undo.

use super::*;
use crate::cache::Cache;
use crate::packages::memory::MemoryFiles;
use crate::packages::{Documents, Records};

/// Returns a new run's view of the documents in `files`.
fn documents(files: &Arc<MemoryFiles>) -> Documents {
    Documents::new(Records::new(
        files.clone(),
        "imglife".parse().expect("a prefix"),
        Cache::user(&Variables::default(), false),
        Clock::new(now),
    ))
}

/// A repository that is cleaned up on several days.
struct Installation {
    sample: SampleRepository,
    config: Config,
    files: Arc<MemoryFiles>,
    journal: Arc<MemoryJournal>,
    max_delete_percent: u8,
}

impl Installation {
    fn new(sample: SampleRepository, rules: &str) -> Installation {
        Installation {
            sample,
            config: mirror(rules),
            files: Arc::default(),
            journal: Arc::default(),
            max_delete_percent: 100,
        }
    }

    async fn plan(&self, day: i64, records: ObservedRecords) -> Plan {
        let mut world = self.sample.world(&self.config, records).await;
        read_histories(&mut world, &self.config, &documents(&self.files)).await;
        let policy = CleanupPolicy {
            now: now() + TimeDelta::days(day),
            max_delete_percent: Some(self.max_delete_percent),
            ..policy()
        };
        plan(&world, &policy)
    }

    /// Runs a cleanup on the day with this number.
    async fn run(&self, day: i64) -> CleanupReport {
        let plan = self.plan(day, ObservedRecords::NotConfigured).await;
        let unstored = store_histories(&plan, &self.config, &documents(&self.files)).await;
        assert!(unstored.is_empty(), "{unstored:?}");
        self.sample
            .execute_with_journal(
                &plan,
                Mode::Apply,
                &ObservedRecords::NotConfigured,
                self.journal.clone(),
            )
            .await
    }

    async fn undo(&self, day: i64, arguments: &[&str]) -> UndoReport {
        let batches = self.journal.batches.lock().expect("the journal").clone();
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let documents = documents(&self.files);
        let work = Undo {
            config: &self.config,
            mode: Mode::Apply,
            stores: self.sample.store.stores(),
            progress: crate::progress::silent(),
            documents: Some(&documents),
            now: now() + TimeDelta::days(day),
        };
        undo(
            &batches,
            &UndoSelection::of(&arguments, Path::new("/here")),
            &work,
        )
        .await
    }

    async fn digest(&self, name: &str) -> Digest {
        let found = self
            .sample
            .store
            .resolve(&self.sample.at, &tag(name).into())
            .await;
        found.expect("to resolve").expect("an image").digest
    }
}

fn waits(report: &CleanupReport) -> Vec<String> {
    report
        .kept
        .iter()
        .filter_map(|kept| match &kept.reason {
            KeepReason::Waiting(pending) => Some(format!("{} {}", kept.tag, pending.until)),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_selected_tag_waits_before_it_is_deleted() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "3.0"]).await;
    let installation = Installation::new(sample, "keep_last: 1, grace_days: 7");
    let report = installation.run(0).await;
    assert_eq!(waits(&report), ["2.0 2026-03-08", "1.0 2026-03-08"]);
    assert_eq!(report.totals.waiting, 2);
    assert_eq!(waits(&installation.run(6).await).len(), 2);
    let report = installation.run(7).await;
    assert_eq!((report.totals.deleted, report.exit()), (2, Exit::Done));
    assert_eq!(installation.sample.tags().await, names(&["3.0"]));
}

#[tokio::test]
async fn the_wait_starts_again_for_another_digest_or_after_a_day_without_selection() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "3.0"]).await;
    let installation = Installation::new(sample, "keep_last: 1, grace_days: 7");
    installation.run(0).await;
    // `1.0` is moved, and `2.0` is needed for a day.
    let other = installation.sample.image("another image", json!({})).await;
    installation.sample.tag("1.0", &other, 365).await;
    let on_two = records(vec![record(
        "r.example/x:1",
        Some("r.example/m/a:2.0"),
        None,
    )]);
    let plan = installation.plan(3, on_two).await;
    store_histories(&plan, &installation.config, &documents(&installation.files)).await;
    let report = installation.run(7).await;
    assert_eq!(waits(&report), ["2.0 2026-03-15", "1.0 2026-03-11"]);
    // A lost document delays.
    let report = Installation {
        files: Arc::default(),
        ..installation
    }
    .run(30)
    .await;
    assert_eq!(waits(&report), ["2.0 2026-04-07", "1.0 2026-04-07"]);
}

#[tokio::test]
async fn without_grace_or_without_stored_state_nothing_waits() {
    for rules in ["keep_last: 1, grace_days: 0", "keep_last: 1"] {
        let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
        let installation = Installation::new(sample, rules);
        let report = if rules.contains("grace_days") {
            installation.run(0).await
        } else {
            let config = &installation.config;
            installation
                .sample
                .run(config, ObservedRecords::NotConfigured)
                .await
        };
        assert_eq!(report.totals.deleted, 1, "{rules}");
    }
}

#[tokio::test]
async fn a_history_that_cannot_be_read_stops_the_repository() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let installation = Installation::new(sample, "keep_last: 1");
    installation.files.fail(
        crate::packages::memory::StoreCall::List,
        ItemErrorKind::ServerError,
    );
    let plan = installation.plan(0, ObservedRecords::NotConfigured).await;
    assert!(plan.repositories[0].error.is_some());
    assert_eq!(plan.deletions().count(), 0);
}

#[tokio::test]
async fn max_delete_percent_counts_a_tag_once() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "3.0", "4.0"]).await;
    let mut installation = Installation::new(sample, "keep_last: 1, grace_days: 2");
    installation.max_delete_percent = 75;
    assert_eq!(installation.run(0).await.totals.waiting, 3);
    // Waiting tags do not count again, and one new tag is below the limit.
    installation.sample.old("5.0").await;
    installation.max_delete_percent = 20;
    let report = installation.run(2).await;
    assert_eq!((report.totals.deleted, report.totals.waiting), (3, 1));
    assert_eq!(report.exit(), Exit::Done);
    // Too many new ones do not begin to wait, and those that waited still go.
    for name in ["6.0", "7.0", "8.0"] {
        installation.sample.old(name).await;
    }
    let report = installation.run(4).await;
    assert_eq!((report.totals.deleted, report.totals.waiting), (1, 0));
    assert_eq!(report.exit(), Exit::Failed);
    let report = installation.run(8).await;
    assert_eq!((report.totals.deleted, report.totals.waiting), (0, 0));
}

#[tokio::test]
async fn an_attachment_goes_with_its_image_also_when_it_came_later() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let installation = Installation::new(sample, "keep_last: 1, grace_days: 2");
    installation.run(0).await;
    let digest = installation.digest("1.0").await;
    let signature = installation.sample.image("signature", json!({})).await;
    let name = Tag::of_cosign(&digest)[0].to_string();
    installation.sample.tag(&name, &signature, 365).await;
    let report = installation.run(1).await;
    assert!(
        report
            .kept
            .iter()
            .any(|kept| kept.tag.as_str() == name && kept.reason == KeepReason::AttachedToKept)
    );
    installation.run(2).await;
    assert_eq!(installation.sample.tags().await, names(&["2.0"]));
}

#[tokio::test]
async fn retired_tags_keep_the_image_until_their_day() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let installation = Installation::new(sample, "keep_last: 1, grace_days: 7, grace: retire");
    let digest = installation.digest("1.0").await;
    let report = installation.run(0).await;
    assert_eq!((report.totals.retired, report.totals.deleted), (1, 0));
    let retired = "1.0-retired.20260301";
    assert_eq!(installation.sample.tags().await, names(&["2.0", retired]));
    assert_eq!(installation.digest(retired).await, digest);
    // It takes no place among the newest, and is not retired again.
    let report = installation.run(6).await;
    assert_eq!((report.totals.retired, report.totals.kept), (0, 2));
    // A record that names the old tag keeps it.
    let on_one = records(vec![record(
        "r.example/x:1",
        Some("r.example/m/a:1.0"),
        None,
    )]);
    let plan = installation.plan(7, on_one).await;
    assert_eq!(plan.deletions().count(), 0);
    let report = installation.run(7).await;
    assert_eq!(report.totals.deleted, 1);
    assert!(!installation.sample.has(&digest).await);
}

#[tokio::test]
async fn a_tag_that_only_looks_retired_is_an_ordinary_tag() {
    let name = "1.0-retired.20200101";
    let sample = SampleRepository::mirror(&[name, "2.0"]).await;
    let installation = Installation::new(sample, "keep_last: 2, grace_days: 7, grace: retire");
    let report = installation.run(0).await;
    assert_eq!((report.totals.kept, report.totals.retired), (2, 0));
}

#[tokio::test]
async fn tags_wait_under_their_own_name_where_they_cannot_be_retired() {
    let long = format!("0.{}", "1".repeat(115));
    for (deletions, name) in [(DIGEST_ONLY, "1.0"), (DeletionSupport::ALL, long.as_str())] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
        for name in [name, "2.0"] {
            sample.old(name).await;
        }
        let installation = Installation::new(sample, "keep_last: 1, grace_days: 7, grace: retire");
        let report = installation.run(0).await;
        assert_eq!((report.totals.retired, report.totals.waiting), (0, 1));
        assert_eq!(installation.run(7).await.totals.deleted, 1);
    }
}

#[tokio::test]
async fn nothing_is_deleted_without_a_journal() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let installation = Installation::new(sample, "keep_last: 1, grace_days: 0");
    installation
        .journal
        .is_broken
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let report = installation.run(0).await;
    assert_eq!((report.exit(), report.totals.deleted), (Exit::Failed, 0));
    assert_eq!(installation.sample.tags().await, names(&["1.0", "2.0"]));
    let world = installation
        .sample
        .world(&installation.config, ObservedRecords::NotConfigured)
        .await;
    let plan = plan(
        &world,
        &CleanupPolicy {
            is_journal_missing: true,
            is_forced: true,
            ..policy()
        },
    );
    assert!(plan.safety_error.is_some());
    assert_eq!(plan.deletions().count(), 0);
}

#[tokio::test]
async fn undo_restores_indexes_referrers_and_tags_and_holds_them() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY, TAGS_ONLY] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
        let children = [
            sample.image("amd64", json!({})).await,
            sample.image("arm64", json!({})).await,
        ];
        let index = sample.index(&[&children[0], &children[1]]).await;
        sample.tag("1.0", &index, 365).await;
        sample.tag("one", &index, 365).await;
        let referrer = sample.referrer(&index).await;
        let below = sample.referrer(&children[0]).await;
        sample.old("2.0").await;
        let installation = Installation::new(sample, "keep_last: 1, grace_days: 0");
        let report = installation.run(0).await;
        assert_eq!(report.totals.deleted, 2, "{report:?}");
        assert_eq!(installation.sample.tags().await, names(&["2.0"]));
        let report = installation.undo(1, &[]).await;
        assert_eq!(report.exit(), Exit::Done, "{report:?}");
        assert_eq!(
            installation.sample.tags().await,
            names(&["1.0", "2.0", "one"])
        );
        for digest in [&index, &children[0], &children[1], &referrer, &below] {
            assert!(installation.sample.has(digest).await);
        }
        // Both are held for 30 days, and then go again.
        assert_eq!(installation.run(30).await.totals.deleted, 0);
        assert_eq!(installation.run(31).await.totals.deleted, 2);
    }
}

#[tokio::test]
async fn a_released_tag_is_deleted_again() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let installation = Installation::new(sample, "keep_last: 1, grace_days: 0");
    installation.run(0).await;
    installation.undo(0, &["1.0"]).await;
    assert_eq!(installation.run(1).await.totals.deleted, 0);
    let documents = documents(&installation.files);
    let later = now() + TimeDelta::days(1);
    let all = UndoSelection::default();
    let released = release(&all, &installation.config, &documents, later).await;
    assert_eq!(released.expect("to release").len(), 1);
    assert_eq!(installation.run(2).await.totals.deleted, 1);
}

#[tokio::test]
async fn undo_moves_a_retired_tag_back() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let installation = Installation::new(sample, "keep_last: 1, grace_days: 7, grace: retire");
    installation.run(0).await;
    let report = installation.undo(1, &["r.example/m/a:1.0"]).await;
    assert_eq!(report.exit(), Exit::Done, "{report:?}");
    assert_eq!(report.restored[0].from, Some(RestoredFrom::RetiredTag));
    assert_eq!(installation.sample.tags().await, names(&["1.0", "2.0"]));
}

#[tokio::test]
async fn undo_says_what_it_cannot_restore() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "3.0"]).await;
    let installation = Installation::new(sample, "keep_last: 1, grace_days: 0");
    installation.run(0).await;
    // `1.0` names another image by now, and the journal of `2.0` is damaged.
    let other = installation.sample.image("another image", json!({})).await;
    installation.sample.tag("1.0", &other, 0).await;
    for batch in installation.journal.batches.lock().expect("it").iter_mut() {
        for manifest in &mut batch.manifests {
            manifest.content.push(' ');
        }
    }
    let report = installation.undo(1, &["1.0", "2.0", "9.9"]).await;
    assert_eq!(report.exit(), Exit::Failed);
    assert_eq!(report.unknown, ["9.9"]);
    let errors: Vec<String> = report
        .failed
        .iter()
        .map(|failed| failed.error.to_string())
        .collect();
    assert!(
        errors[0].contains("names another image by now"),
        "{errors:?}"
    );
    assert!(errors[1].contains("the journal is damaged"), "{errors:?}");
}

#[tokio::test]
async fn every_deleted_manifest_is_in_the_journal_in_small_batches() {
    let sample = SampleRepository::new("r.example/m/a", DeletionSupport::ALL);
    for number in 0..150 {
        sample.old(&format!("1.{number}")).await;
    }
    sample.old("2.0").await;
    let installation = Installation::new(sample, "keep_last: 1, grace_days: 0");
    assert_eq!(installation.run(0).await.totals.deleted, 150);
    let batches = installation.journal.batches.lock().expect("it").clone();
    assert!(batches.iter().all(|batch| batch.changes.len() <= 64));
    let count = |of: fn(&JournalBatch) -> usize| batches.iter().map(of).sum::<usize>();
    assert_eq!(count(|batch| batch.changes.len()), 150);
    assert_eq!(count(|batch| batch.manifests.len()), 150);
}

#[test]
fn arguments_of_undo_are_runs_or_tags() {
    let arguments = [
        "20260301T000000Z-0a1b2c",
        "1.0",
        "20260301T000000Z",
        "ocidir://mirrors/a:1.0",
    ]
    .map(str::to_owned);
    let selection = UndoSelection::of(&arguments, Path::new("/here"));
    assert_eq!(selection.run.as_deref(), Some("20260301T000000Z-0a1b2c"));
    assert_eq!(
        selection.tags,
        ["1.0", "20260301T000000Z", "ocidir:///here/mirrors/a:1.0"]
    );
}

#[tokio::test]
async fn a_preview_names_the_day_on_which_a_waiting_tag_is_deleted() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let installation = Installation::new(sample, "keep_last: 1, grace_days: 7");
    installation.run(0).await;
    for (day, deleted, waiting) in [(3, 0, 1), (7, 1, 0)] {
        let cache = crate::transfer::no_cache();
        let progress = crate::progress::silent();
        let stores = installation.sample.store.stores();
        let at = &installation.sample.at;
        let listed = installation.sample.store.dated_tags(at).await;
        let listings = [(at.clone(), listed.expect("to list").expect("tags"))].into();
        let documents = documents(&installation.files);
        let input = PreviewInput {
            listings: &listings,
            identities: &[],
            records: None,
            documents: Some(&documents),
        };
        let observer = Observer {
            limits: ReadingLimits::default(),
            stores: &stores,
            cache: &*cache,
            progress: &*progress,
            now: now() + TimeDelta::days(day),
        };
        let found = preview(&installation.config, input, observer).await;
        assert_eq!(
            (found.deletions.len(), found.waiting.len()),
            (deleted, waiting)
        );
        let days: Vec<String> = found.waiting.values().map(ToString::to_string).collect();
        assert!(days.iter().all(|day| day == "2026-03-08"), "{days:?}");
    }
}

#[tokio::test]
async fn a_tag_that_was_put_on_an_old_image_is_young_where_the_registry_has_no_push_dates() {
    let sample = SampleRepository::new("r.example/m/a", DeletionSupport::ALL);
    let undated = async |name: &str, digest: &Digest| {
        let manifest = sample
            .store
            .manifest(&sample.at, &digest.clone().into())
            .await
            .expect("to read")
            .expect("a manifest");
        sample
            .store
            .put_manifest(&sample.at, &Reference::Tag(tag(name)), &manifest)
            .await
            .expect("a tag");
    };
    let old = sample.image("old", json!({})).await;
    let new = sample.image("new", json!({})).await;
    for (name, digest) in [("1.0", &old), ("stable", &old), ("9.0", &new)] {
        undated(name, digest).await;
    }
    let installation = Installation::new(
        SampleRepository {
            store: sample.store.clone(),
            at: sample.at.clone(),
        },
        "keep_last: 1, grace_days: 0",
    );
    // In the first cleanup a version is as old as its image, and `stable` may have been moved.
    installation.run(0).await;
    assert_eq!(sample.tags().await, names(&["9.0", "stable"]));
    // Later every tag that appears is new, and so is one that was moved.
    undated("0.5", &old).await;
    undated("stable", &new).await;
    installation.run(10).await;
    assert_eq!(sample.tags().await, names(&["0.5", "9.0", "stable"]));
    installation.run(11).await;
    assert_eq!(sample.tags().await, names(&["9.0"]));
}

#[tokio::test]
async fn a_journal_cannot_choose_where_images_are_written() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let installation = Installation::new(sample, "keep_last: 1, grace_days: 0");
    installation.run(0).await;
    let foreign = |batch: &mut JournalBatch| batch.repository = repository("r.example/other");
    let archived = |batch: &mut JournalBatch| {
        for change in &mut batch.changes {
            let image = "r.example/secret:1".parse().expect("an image");
            change.archive = Some(image);
        }
    };
    let changes: [&dyn Fn(&mut JournalBatch); 2] = [&foreign, &archived];
    let original = installation.journal.batches.lock().expect("it").clone();
    for change in changes {
        let mut batches = original.clone();
        batches.iter_mut().for_each(change);
        *installation.journal.batches.lock().expect("it") = batches;
        let report = installation.undo(1, &[]).await;
        assert_eq!((report.restored.len(), report.failed.len()), (0, 1));
        assert!(
            report.failed[0]
                .error
                .cause
                .contains("not in this configuration"),
            "{report:?}"
        );
    }
    assert_eq!(installation.sample.tags().await, names(&["2.0"]));
    *installation.journal.batches.lock().expect("it") = original;
    assert_eq!(installation.undo(1, &[]).await.restored.len(), 1);
}

#[tokio::test]
async fn retired_tags_do_not_count_for_max_delete_percent() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "3.0"]).await;
    let mut installation = Installation::new(sample, "keep_last: 1, grace_days: 7, grace: retire");
    assert_eq!(installation.run(0).await.totals.retired, 2);
    installation.sample.old("4.0").await;
    // One of two tags would go: the two retired ones do not make that a smaller share.
    installation.max_delete_percent = 49;
    let report = installation.run(1).await;
    assert_eq!((report.exit(), report.totals.retired), (Exit::Failed, 0));
    installation.max_delete_percent = 50;
    assert_eq!(installation.run(1).await.totals.retired, 1);
}
