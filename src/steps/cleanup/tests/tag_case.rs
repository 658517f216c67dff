//! Registries that store tags in lower case.

use super::*;

const NEEDED: &str = "sync: { entries: [{ source: up.example/a, target: r.example/m/a, tag: RELEASE.9 }] }
build:
  registry: r.example/bases
  core_version: 1.0.0
  images: [{ name: b, folder: b, type: core, mirror_image: r.example/m/a, mirror_tag: 'RELEASE.5' }]
retention: { keep_last: 0, min_keep: 0, require_records: false, exclude_tags: [KEEP.1, '/PATTERN-[0-9]+/'] }
";

async fn sample(is_lowering: bool) -> SampleRepository {
    let mut sample = SampleRepository::new("r.example/m/a", DeletionSupport::ALL);
    if is_lowering {
        sample.store = Arc::new(MemoryStore::default().lowering_tags());
    }
    for name in [
        "release.1",
        "release.5",
        "release.9",
        "keep.1",
        "pattern-1",
        "recorded.1",
        "own.1",
        "replaced.1",
        "1.0",
    ] {
        sample.old(name).await;
    }
    sample
}

fn upper_case_records() -> ObservedRecords {
    let mut replacing = record("r.example/apps/c:1", Some("r.example/m/a:1.1"), None);
    replacing.replaced.clear();
    records(vec![
        record("r.example/apps/b:1", Some("r.example/m/a:Recorded.1"), None),
        record("r.example/m/a:OWN.1", Some("r.example/m/a:1.1"), None),
        replacing,
    ])
}

#[tokio::test]
async fn tags_are_compared_without_case_where_the_registry_lowers_them() {
    let config = config(NEEDED);
    for is_lowering in [true, false] {
        let sample = sample(is_lowering).await;
        let report = sample.run(&config, upper_case_records()).await;
        assert_eq!(report.exit(), Exit::Done, "{report:?}");
        let needed = [
            "release.5",
            "release.9",
            "keep.1",
            "pattern-1",
            "recorded.1",
            "own.1",
        ];
        let expected: &[&str] = if is_lowering { &needed } else { &[] };
        assert_eq!(sample.tags().await, names(expected), "{is_lowering}");
    }
}

#[tokio::test]
async fn record_of_another_spelling_keeps_a_tag_when_it_is_written_after_the_plan() {
    for is_lowering in [true, false] {
        let sample = sample(is_lowering).await;
        let plan = sample.plan(&config(NEEDED), records(Vec::new())).await;
        let report = sample
            .execute_with_records(&plan, Mode::Apply, &upper_case_records())
            .await;
        assert_eq!(
            sample.tags().await.contains("recorded.1"),
            is_lowering,
            "{report:?}"
        );
        assert!(!sample.tags().await.contains("1.0"), "{report:?}");
    }
}

#[tokio::test]
async fn unknown_treatment_of_case_keeps_other_spellings() {
    let sample = sample(false).await;
    let config = mirror("keep_last: 0, min_keep: 0, exclude_tags: [KEEP.1]");
    assert_eq!(sample.reason(&config, "keep.1").await, None);
    sample.store.fail_when(|call| {
        (call.operation == StoreOperation::TagCase)
            .then_some(StoreFault::Error(ItemErrorKind::ServerError))
    });
    assert_eq!(
        sample.reason(&config, "keep.1").await,
        Some(KeepReason::Excluded)
    );
    assert_eq!(sample.reason(&config, "1.0").await, None);
}

#[tokio::test]
async fn treatment_of_case_is_read_only_if_a_needed_tag_has_another_spelling() {
    let sample = sample(true).await;
    sample
        .run(
            &mirror("keep_last: 0, min_keep: 0"),
            ObservedRecords::NotConfigured,
        )
        .await;
    assert_eq!(sample.store.count(StoreOperation::TagCase), 0);
}
