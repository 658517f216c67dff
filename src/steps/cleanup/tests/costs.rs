//! Requests of a cleanup.

use super::*;

/// Reads the repository, and returns how many manifests were read and how many were looked up.
async fn requests(
    sample: &SampleRepository,
    config: &Config,
    cache: &SharedCache,
) -> (usize, usize) {
    let (stores, progress) = (sample.store.stores(), crate::progress::silent());
    let observer = Observer {
        limits: ReadingLimits::default(),
        stores: &stores,
        cache,
        progress: &*progress,
        now: now(),
    };
    sample.store.clear_calls();
    let scope = CleanupScope::default();
    let world = observe(config, &scope, ObservedRecords::NotConfigured, observer).await;
    let uncached = sample.world(config, ObservedRecords::NotConfigured);
    let counts = (
        sample.store.count(StoreOperation::Manifest),
        sample.store.count(StoreOperation::Resolve),
    );
    let shown = |world: &World| {
        let tags = world.repositories.iter().flat_map(ObservedRepository::tags);
        tags.map(|tag| format!("{} {:?}", tag.tag, tag.image))
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(&world), shown(&uncached.await));
    counts
}

#[tokio::test]
async fn known_images_are_looked_up_and_not_pulled() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "3.0"]).await;
    let part = sample.image("part", json!({})).await;
    let index = sample.index(&[&part]).await;
    sample.tag("4.0", &index, 365).await;
    let (config, cache) = (mirror("keep_last: 1"), SharedCache::default());
    assert_eq!(requests(&sample, &config, &cache).await, (4, 0));
    assert_eq!(requests(&sample, &config, &cache).await, (0, 4));
    sample.store.move_tag(&sample.at, &tag("1.0"), &index);
    assert_eq!(
        requests(&sample, &config, &cache).await,
        (0, 4),
        "a moved tag of a known image"
    );
    let new = sample.image("new", json!({})).await;
    sample.store.move_tag(&sample.at, &tag("1.0"), &new);
    assert_eq!(
        requests(&sample, &config, &cache).await,
        (1, 4),
        "a moved tag of a new image"
    );
    sample.tag("5.0", &new, 365).await;
    assert_eq!(
        requests(&sample, &config, &cache).await,
        (1, 4),
        "a new tag"
    );
    sample.store.forget_tag(&sample.at, &tag("5.0"));
    assert_eq!(requests(&sample, &config, &cache).await, (0, 4));
    // The manifest of a listed tag is gone.
    sample.store.lose_manifest(&sample.at, &new);
    assert_eq!(requests(&sample, &config, &cache).await, (0, 4));
}

#[tokio::test]
async fn image_without_one_of_its_indexes_is_read_again() {
    let sample = SampleRepository::mirror(&["2.0"]).await;
    let inner = sample
        .index(&[&sample.image("part", json!({})).await])
        .await;
    let outer = sample.index_of(media_type::OCI_INDEX, &inner).await;
    sample.tag("1.0", &outer, 365).await;
    let (config, cache) = (mirror("keep_last: 1"), SharedCache::default());
    sample.store.lose_manifest(&sample.at, &inner);
    for _ in 0..2 {
        let (manifests, _) = requests(&sample, &config, &cache).await;
        assert!(manifests >= 2, "{manifests}");
    }
    sample
        .index(&[&sample.image("part", json!({})).await])
        .await;
    assert_eq!(requests(&sample, &config, &cache).await, (2, 1));
    assert_eq!(requests(&sample, &config, &cache).await, (0, 2));
}

/// Returns a mirror with 200 tags, and a plan that deletes all but one.
async fn many() -> (SampleRepository, Plan) {
    let sample = SampleRepository::new("r.example/m/a", DeletionSupport::ALL);
    for number in 0..200 {
        sample.old(&format!("1.0.{number}")).await;
    }
    let config = mirror("keep_last: 1, max_delete_percent: 100");
    let plan = sample.plan(&config, ObservedRecords::NotConfigured).await;
    sample.store.clear_calls();
    (sample, plan)
}

async fn execute_with_limit(
    sample: &SampleRepository,
    plan: &Plan,
    max_requests: u64,
) -> CleanupReport {
    let records = ObservedRecords::NotConfigured;
    let config = config(MIRROR);
    let watch = RecordWatch::new(&config, &records, false, now());
    let journal = Journal::new(Arc::<MemoryJournal>::default(), Clock::new(now));
    let execution = CleanupExecution {
        mode: Mode::Apply,
        stores: sample.store.stores(),
        records: &watch,
        journal: &journal,
        progress: crate::progress::silent(),
        max_requests: Some(max_requests),
        cancel: CancellationToken::new(),
    };
    CleanupReport::new(plan, execute(plan, &execution).await)
}

#[tokio::test]
async fn run_stops_at_its_limit_of_requests_and_the_next_goes_on() {
    let (sample, mut plan) = many().await;
    let config = mirror("keep_last: 1, max_delete_percent: 100");
    let mut left = 199;
    for runs in 1.. {
        sample.store.clear_calls();
        let report = execute_with_limit(&sample, &plan, 600).await;
        let requests = sample.store.calls().len();
        assert!(requests < 700, "{requests} requests");
        assert!(
            report.totals.deleted > 0 && report.exit() == Exit::Done,
            "{report:?}"
        );
        left -= report.totals.deleted;
        assert_eq!(report.totals.not_done, left);
        assert_eq!(report.interrupted, left > 0);
        if left == 0 {
            assert!(runs > 1 && report.warnings.is_empty());
            break;
        }
        assert!(
            report.warnings[0].contains("600 requests"),
            "{:?}",
            report.warnings
        );
        plan = sample.plan(&config, ObservedRecords::NotConfigured).await;
    }
    assert_eq!(sample.tags().await, names(&["1.0.199"]));
}

/// Reads the world with a limit of requests.
async fn world_with_limit(
    sample: &SampleRepository,
    config: &Config,
    cache: &SharedCache,
    max_requests: u64,
    now: DateTime<Utc>,
) -> World {
    let (stores, progress) = (sample.store.stores(), crate::progress::silent());
    let observer = Observer {
        limits: ReadingLimits {
            max_requests: Some(max_requests),
            cancel: None,
        },
        stores: &stores,
        cache,
        progress: &*progress,
        now,
    };
    sample.store.clear_calls();
    let scope = CleanupScope::default();
    observe(config, &scope, ObservedRecords::NotConfigured, observer).await
}

#[tokio::test]
async fn reading_stops_at_its_limit_of_requests_and_the_next_run_goes_on() {
    let (sample, _) = many().await;
    let config = mirror("keep_last: 1, max_delete_percent: 100");
    let cache = SharedCache::default();
    let mut read = 0;
    let mut requests = 0;
    for run in 1.. {
        let world = world_with_limit(&sample, &config, &cache, 60, now()).await;
        requests += sample.store.calls().len();
        assert!(sample.store.calls().len() < 60 + 20);
        let Some(unread) = world.unread.first() else {
            assert_eq!((run, world.repositories[0].tags().count()), (4, 200));
            break;
        };
        let progress = unread.progress.expect("a listing");
        assert!(progress.read > read && progress.listed == 200, "{unread:?}");
        read = progress.read;
        // Nothing is planned, and the report says so.
        let plan = plan(&world, &policy());
        assert_eq!(plan.deletions().count(), 0);
        let report = sample.execute(&plan, Mode::Apply).await;
        assert!(
            report.interrupted && report.exit() == Exit::Done,
            "{report:?}"
        );
        let warning = format!("{read} of its 200 tags are read");
        assert!(report.warnings[0].contains(&warning), "{report:?}");
    }
    // Each tag was read once.
    assert!((200..250).contains(&requests), "{requests}");
    // After a complete reading, or after a day, everything is read again.
    for hours in [0, 25] {
        let later = now() + TimeDelta::hours(hours);
        let world = world_with_limit(&sample, &config, &cache, 60, later).await;
        let read = world.unread[0].progress.expect("a listing").read;
        assert!(read < 80, "{read}");
    }
    let world = world_with_limit(&sample, &config, &cache, 0, now()).await;
    assert!(world.unread[0].progress.is_none());
    assert!(plan(&world, &policy()).unread[0].progress.is_none());
}
