//! Applications that are registered while a cleanup runs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const DELETION_KINDS: [DeletionSupport; 2] = [DeletionSupport::ALL, DIGEST_ONLY];

/// A record store whose first readings are empty.
struct LateRecords {
    empty: usize,
    records: Mutex<ObservedRecords>,
    read: AtomicUsize,
}

impl LateRecords {
    fn after(empty: usize, records: ObservedRecords) -> LateRecords {
        LateRecords {
            empty,
            records: Mutex::new(records),
            read: AtomicUsize::new(0),
        }
    }

    /// Returns a store that has the record from the first reading on.
    fn now(record: BuildRecord) -> LateRecords {
        LateRecords::after(0, records(vec![record]))
    }
}

#[async_trait::async_trait]
impl RecordsSource for LateRecords {
    async fn read(&self) -> ObservedRecords {
        let is_empty = self.read.fetch_add(1, Ordering::SeqCst) < self.empty;
        if is_empty {
            records(Vec::new())
        } else {
            self.records.lock().expect("the records").clone()
        }
    }
}

/// Returns a record for each way to name an image: as the base by tag, by digest, by the digest of
/// a part or in another repository, and as the image of the record.
fn records_naming(name: &str, digest: &Digest, part: &Digest) -> Vec<BuildRecord> {
    let (app, at) = ("r.example/apps/a:1", "r.example:443/m/a");
    vec![
        record(app, Some(&format!("{at}:{name}")), None),
        record(app, Some(&format!("{at}@{digest}")), None),
        record(app, Some(&format!("{at}:gone")), Some(part)),
        record(app, Some("r.example/elsewhere:1"), Some(digest)),
        record(&format!("{at}:{name}"), None, None),
    ]
}

#[tokio::test]
async fn image_registered_during_observation_is_kept() {
    let config = mirror("keep_last: 1");
    let sample = SampleRepository::mirror(&["2.0"]).await;
    let part = sample.image("part", json!({})).await;
    let index = sample.index(&[&part]).await;
    sample.tag("1.0", &index, 365).await;
    let (cache, progress) = (crate::transfer::no_cache(), crate::progress::silent());
    let stores = sample.store.stores();
    let observer = Observer {
        limits: ReadingLimits::default(),
        stores: &stores,
        cache: &*cache,
        progress: &*progress,
        now: now(),
    };
    for named in records_naming("1.0", &index, &part) {
        for (first, second) in [(vec![], vec![named.clone()]), (vec![named.clone()], vec![])] {
            let world = sample.world(&config, records(first)).await;
            let world = observe_records(world, &config, records(second), observer).await;
            let kept = reason(&plan(&world, &policy()), &sample.at, "1.0");
            assert!(
                matches!(kept, Some(KeepReason::BaseOf(_) | KeepReason::Recorded(_))),
                "{kept:?} {named:?}"
            );
        }
    }
    // An image without a tag is read, so that its parts are kept.
    let untagged = sample
        .index(&[&part, &sample.image("own", json!({})).await])
        .await;
    let named = record(
        "r.example/apps/a:1",
        Some("r.example/m/a:0"),
        Some(&untagged),
    );
    let world = sample.world(&config, records(Vec::new())).await;
    let world = observe_records(world, &config, records(vec![named]), observer).await;
    assert!(plan(&world, &policy()).repositories[0].live.contains(&part));
    // A failed second reading stops the cleanup.
    let world = sample.world(&config, records(Vec::new())).await;
    let world = observe_records(
        world,
        &config,
        ObservedRecords::Failed(ItemError::other("the host is down")),
        observer,
    )
    .await;
    let plan = plan(&world, &policy());
    assert_eq!(
        (
            reason(&plan, &sample.at, "1.0"),
            plan.safety_error.is_some()
        ),
        (Some(KeepReason::SafetyCheckFailed), true)
    );
}

#[tokio::test]
async fn image_registered_after_the_plan_is_kept() {
    for deletions in DELETION_KINDS {
        for way in 0..5 {
            let sample = SampleRepository::new("r.example/m/a", deletions);
            let part = sample.old("1.0-amd64").await;
            let index = sample.index(&[&part]).await;
            sample.tag("1.0", &index, 365).await;
            let signature = Tag::of_cosign(&index)[0].to_string();
            sample
                .tag(&signature, &sample.image("signature", json!({})).await, 365)
                .await;
            for name in ["0.9", "2.0"] {
                sample.old(name).await;
            }
            let plan = sample
                .plan(&mirror("keep_last: 1"), records(Vec::new()))
                .await;
            assert_eq!(plan.deletions().count(), 4);
            let named = records_naming("1.0", &index, &part).swap_remove(way);
            let report = sample
                .execute_with_records(&plan, Mode::Apply, &LateRecords::now(named))
                .await;
            assert_eq!(report.exit(), Exit::Done, "{deletions:?} {way} {report:?}");
            let left = sample.tags().await;
            assert!(
                left.is_superset(&names(&["1.0", "2.0", &signature])) && !left.contains("0.9"),
                "{deletions:?} {way} {left:?}"
            );
            assert!(
                sample.has(&index).await && sample.has(&part).await,
                "{deletions:?} {way}"
            );
            let reason = report
                .kept
                .iter()
                .find(|kept| kept.tag.as_str() == "1.0")
                .map(|kept| &kept.reason);
            assert!(
                matches!(
                    reason,
                    Some(KeepReason::BaseOf(_) | KeepReason::Recorded(_))
                ),
                "{reason:?}"
            );
        }
    }
}

#[tokio::test]
async fn parts_of_an_untagged_image_are_kept_when_it_is_registered() {
    for deletions in DELETION_KINDS {
        let sample = SampleRepository::new("r.example/m/a", deletions);
        let (shared, own) = (
            sample.old("1.0").await,
            sample.image("own", json!({})).await,
        );
        sample
            .tag("1.1", &sample.index(&[&shared, &own]).await, 365)
            .await;
        sample.old("2.0").await;
        let untagged = sample.index(&[&shared]).await;
        let plan = sample
            .plan(&mirror("keep_last: 1"), records(Vec::new()))
            .await;
        let named = record(
            "r.example/apps/a:1",
            Some("r.example/m/a:0"),
            Some(&untagged),
        );
        let report = sample
            .execute_with_records(&plan, Mode::Apply, &LateRecords::now(named))
            .await;
        assert_eq!(report.exit(), Exit::Done, "{deletions:?} {report:?}");
        assert!(
            sample.has(&shared).await && sample.has(&untagged).await && !sample.has(&own).await,
            "{deletions:?}"
        );
    }
}

#[tokio::test]
async fn long_run_reads_the_records_again() {
    let sample = SampleRepository::new("r.example/m/a", DeletionSupport::ALL);
    for version in 0..131 {
        sample.old(&format!("1.{version}")).await;
    }
    let plan = sample
        .plan(&mirror("keep_last: 1"), records(Vec::new()))
        .await;
    let last = plan.repositories[0].groups.last().expect("a group").tags[0]
        .0
        .clone();
    let named = record(
        "r.example/apps/a:1",
        Some(&format!("r.example/m/a:{last}")),
        None,
    );
    let late = LateRecords::after(1, records(vec![named]));
    let report = sample.execute_with_records(&plan, Mode::Apply, &late).await;
    assert_eq!((report.exit(), report.totals.deleted), (Exit::Done, 129));
    assert!(sample.tags().await.contains(last.as_str()));
    // A recent reading is reused.
    let late = LateRecords::after(0, records(Vec::new()));
    let config = config(MIRROR);
    let watch = RecordWatch::new(&config, &late, false, now());
    watch.read().await;
    for _ in 0..3 {
        watch.fresh().await.expect("the records");
    }
    assert_eq!(late.read.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn deletions_stop_when_the_records_become_unreadable() {
    let unreadable = vec![UnreadableFile {
        file: "f".to_owned(),
        problem: "it is no record".to_owned(),
    }];
    let partly = ObservedRecords::Read(RecordSet {
        records: Vec::new(),
        reduced: Vec::new(),
        unreadable,
        first_written: None,
    });
    for (lost, cause) in [
        (
            ObservedRecords::Failed(ItemError::other("the host is down")),
            "the host is down",
        ),
        (partly, "it is no record"),
    ] {
        let sample = SampleRepository::new("r.example/m/a", DeletionSupport::ALL);
        for version in 0..131 {
            sample.old(&format!("1.{version}")).await;
        }
        let plan = sample
            .plan(&mirror("keep_last: 1"), records(Vec::new()))
            .await;
        // The reading before the second batch fails, later ones succeed.
        let late = LateRecords::after(1, lost);
        let report = sample.execute_with_records(&plan, Mode::Apply, &late).await;
        assert_eq!(
            (report.exit(), report.totals.deleted, report.totals.errors),
            (Exit::Failed, 64, 66),
            "{cause}"
        );
        assert!(
            report
                .failed
                .iter()
                .all(|failed| failed.error.cause.contains(cause)),
            "{report:?}"
        );
        assert_eq!(
            (sample.tags().await.len(), late.read.load(Ordering::SeqCst)),
            (67, 2)
        );
        // A forced run goes on with the records that could be read.
        let config = config(MIRROR);
        let watch = RecordWatch::new(&config, &late, true, now());
        let (progress, cancel) = (crate::progress::silent(), CancellationToken::new());
        let journal = Journal::new(Arc::new(MemoryJournal::default()), Clock::new(now));
        let execution = CleanupExecution {
            journal: &journal,
            mode: Mode::Apply,
            stores: sample.store.stores(),
            records: &watch,
            progress,
            max_requests: None,
            cancel,
        };
        let plan = sample
            .plan(&mirror("keep_last: 1"), records(Vec::new()))
            .await;
        let report = CleanupReport::new(&plan, execute(&plan, &execution).await);
        assert_eq!(report.totals.deleted, 66);
    }
}
