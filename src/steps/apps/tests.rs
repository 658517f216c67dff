use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::cache::Cache;
use crate::error::ItemErrorKind;
use crate::model::{Algorithm, BuildRecord, Clock, ImageReference, Manifest, Variables};
use crate::packages::memory::{MemoryFiles, StoreCall};
use crate::packages::{Prefix, ReadOnlyFiles, RecordSet, RecordStore, Records, UnreadableFile};
use crate::registry::ImageStore;
use crate::registry::memory::{MemoryStore, StoreFault, StoreOperation};
use crate::steps::Mode;
use crate::steps::shard::Only;

fn image(text: &str) -> ImageReference {
    text.parse().expect("a reference")
}

fn record(name: &str, base: &str, project: &str, day: u32) -> BuildRecord {
    let text = format!(
        r#"{{"image":"r.example/{name}","base":"r.example/bases/{base}","project":"{project}","built_at":"2026-11-{day:02}T10:00:00Z","custom_fields":{{"team":"=1+1"}}}}"#
    );
    BuildRecord::parse(text.as_bytes()).expect("a record")
}

fn reading() -> RecordSet {
    let records = vec![
        record("apps/shop:2.0", "golang:1.22.3-core1", "team/shop", 3),
        record("apps/web:1.0", "alpine:3.19.1-core1", "team/web", 1),
        record("apps/web:1.1", "alpine:3.21.3-core1", "team/web", 2),
        record("apps/web:1.2", "alpine:3.21.3-core1", "team/web", 2),
    ];
    RecordSet {
        first_written: None,
        records,
        reduced: Vec::new(),
        unreadable: vec![UnreadableFile {
            file: "x".to_owned(),
            problem: "it is no JSON".to_owned(),
        }],
    }
}

fn listed(project: Option<&str>, base: &[&str]) -> Vec<String> {
    let base: Vec<String> = base.iter().map(|base| (*base).to_owned()).collect();
    let filter = ListFilter {
        project: project.map(str::to_owned),
        base: Only::new(&base).expect("a pattern"),
    };
    list(reading(), &filter)
        .records
        .iter()
        .map(|record| record.image.to_string())
        .collect()
}

#[test]
fn list_filters_by_project_and_by_every_name_of_the_base() {
    assert_eq!(listed(None, &[]).len(), 4);
    assert_eq!(listed(Some("team/shop"), &[]), ["r.example/apps/shop:2.0"]);
    for base in [
        "r.example/bases/alpine:3.21.3-core1",
        "alpine:3.21*",
        "*/alpine:3.21.3-core?",
    ] {
        assert_eq!(
            listed(None, &[base]),
            ["r.example/apps/web:1.1", "r.example/apps/web:1.2"],
            "{base}"
        );
    }
    for base in ["r.example/bases/alpine", "alpine", "*alpine*"] {
        assert_eq!(listed(None, &[base]).len(), 3, "{base}");
    }
    assert_eq!(listed(Some("team/shop"), &["alpine"]).len(), 0);
}

#[test]
fn list_is_rendered_as_a_table_and_as_csv_without_formulas() {
    let report = list(reading(), &ListFilter::default());
    let text = crate::report::text::draw(
        &report.document(false),
        crate::report::text::Style::default(),
    );
    assert!(
        text.starts_with("Application ")
            && text.contains(
                "r.example/apps/web:1.0   team/web   r.example/bases/alpine:3.19.1-core1"
            ),
        "{text}"
    );
    let csv = report.csv(true);
    assert!(
        csv.starts_with("\"application\",\"project\",\"base\",\"built\",\"revision\",")
            && csv.contains(",\"team==1+1\"\r\n"),
        "{csv}"
    );
    assert_eq!(report.unreadable.len(), 1);
}

/// Returns the images whose records the plan deletes, with the reasons.
fn removals(
    world: &World,
    keep: Option<usize>,
    project: Option<&str>,
) -> Vec<(String, PurgeReason)> {
    plan(world, keep, project, DateTime::UNIX_EPOCH)
        .removals
        .into_iter()
        .map(|(record, reason)| (record.image.to_string(), reason))
        .collect()
}

#[test]
fn keep_keeps_the_newest_records_by_time_then_version() {
    let world = World {
        reading: reading(),
        ..World::default()
    };
    assert_eq!(
        removals(&world, Some(2), None),
        [("r.example/apps/web:1.0".to_owned(), PurgeReason::Older)]
    );
    let older = ["r.example/apps/web:1.0", "r.example/apps/web:1.1"]
        .map(|image| (image.to_owned(), PurgeReason::Older));
    assert_eq!(removals(&world, Some(1), None), older);
    assert_eq!(
        removals(&world, Some(0), Some("team/shop")),
        [("r.example/apps/shop:2.0".to_owned(), PurgeReason::Older)]
    );
    assert_eq!(removals(&world, None, None), []);
}

/// Returns a registry with these images.
async fn registry(images: &[&str]) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::default());
    for name in images {
        let named = image(&format!("r.example/{name}"));
        let manifest = Bytes::from(r#"{"schemaVersion":2,"manifests":[]}"#);
        let manifest = Manifest::parse(manifest, None, Algorithm::Sha256).expect("a manifest");
        store
            .put_manifest(
                &named.repository,
                &named.tag.expect("a tag").into(),
                &manifest,
            )
            .await
            .expect("to write");
    }
    store
}

#[tokio::test]
async fn image_is_missing_only_if_its_repository_is_listed() {
    // The repository of the shop is not listed.
    let store = registry(&["apps/web:1.1"]).await;
    let world = observe(reading(), None, Some(&store.stores())).await;
    let gone = ["r.example/apps/web:1.0", "r.example/apps/web:1.2"]
        .map(|image| (image.to_owned(), PurgeReason::Orphan));
    assert_eq!(removals(&world, None, None), gone);
    assert_eq!(
        removals(&world, Some(1), None),
        gone,
        "records of missing images do not count among the newest"
    );
    assert!(
        plan(&world, None, None, DateTime::UNIX_EPOCH)
            .unknown
            .is_empty()
    );

    for operation in [StoreOperation::Tags, StoreOperation::Resolve] {
        for kind in [
            ItemErrorKind::Unauthorized,
            ItemErrorKind::Forbidden,
            ItemErrorKind::Unreachable,
            ItemErrorKind::ServerError,
        ] {
            let store = registry(&["apps/web:1.1"]).await;
            store.fail_when(move |call| {
                (call.operation == operation).then_some(StoreFault::Error(kind))
            });
            let world = observe(reading(), Some("team/web"), Some(&store.stores())).await;
            assert_eq!(removals(&world, None, None), [], "{operation:?} {kind:?}");
            assert!(
                !plan(&world, None, Some("team/web"), DateTime::UNIX_EPOCH)
                    .unknown
                    .is_empty()
            );
        }
    }
}

#[tokio::test]
async fn existence_is_not_read_without_orphans() {
    assert!(observe(reading(), None, None).await.existence.is_empty());
}

async fn records_in(files: Arc<dyn RecordStore>) -> Records {
    let cache = Cache::user(&Variables::default(), false);
    Records::new(
        files,
        "imglife".parse::<Prefix>().expect("a prefix"),
        cache,
        Clock::fixed(DateTime::<Utc>::UNIX_EPOCH),
    )
}

#[tokio::test]
async fn failed_deletion_does_not_stop_the_others_and_dry_run_deletes_nothing() {
    let files = Arc::new(MemoryFiles::default());
    let records = records_in(files.clone()).await;
    for record in reading().records {
        records.put(&record).await.expect("to write");
    }
    let world = World {
        reading: records.all_with_custom_fields().await.expect("to read"),
        ..World::default()
    };
    let planned = plan(&world, Some(0), None, DateTime::UNIX_EPOCH);
    let (never, images) = (CancellationToken::new(), Arc::new(MemoryStore::default()));
    let purge = PurgeExecution {
        records: &records,
        stores: &images.stores(),
        mode: Mode::Apply,
        cancel: &never,
    };

    let read_only = records_in(Arc::new(ReadOnlyFiles::new(files.clone()))).await;
    let dry = execute(
        planned.clone(),
        &PurgeExecution {
            records: &read_only,
            mode: Mode::DryRun,
            ..purge
        },
    )
    .await;
    assert_eq!(
        (dry.removed.len(), dry.failed.len(), files.paths().len()),
        (4, 0, 4)
    );

    let stopped = CancellationToken::new();
    stopped.cancel();
    let report = execute(
        planned.clone(),
        &PurgeExecution {
            cancel: &stopped,
            ..purge
        },
    )
    .await;
    assert_eq!((report.removed.len(), files.paths().len()), (0, 4));

    files.fail(StoreCall::Delete, ItemErrorKind::Forbidden);
    let report = execute(planned.clone(), &purge).await;
    assert_eq!(
        (
            report.removed.len(),
            report.failed.len(),
            report.exit().code()
        ),
        (0, 4, 1)
    );
    files.recover();
    let report = execute(planned, &purge).await;
    assert_eq!((report.removed, files.paths().len()), (dry.removed, 0));
}

#[tokio::test]
async fn records_of_images_that_were_registered_or_pushed_again_are_kept() {
    let records = records_in(Arc::new(MemoryFiles::default())).await;
    let (pushed, gone, registered) = (
        record("apps/web:1.0", "a:1", "p", 1),
        record("apps/web:1.1", "a:1", "p", 1),
        record("apps/web:1.2", "a:1", "p", 1),
    );
    for record in [&pushed, &gone, &registered] {
        records.put(record).await.expect("to write");
    }
    let world = observe(
        records.all_with_custom_fields().await.expect("to read"),
        None,
        Some(&registry(&["apps/web:9"]).await.stores()),
    )
    .await;
    let planned = plan(&world, None, None, DateTime::UNIX_EPOCH);
    assert_eq!(planned.removals.len(), 3);
    let newer = record("apps/web:1.2", "a:2", "p", 2);
    records.put(&newer).await.expect("to write");
    let (never, images) = (CancellationToken::new(), registry(&["apps/web:1.0"]).await);
    let report = execute(
        planned,
        &PurgeExecution {
            records: &records,
            stores: &images.stores(),
            mode: Mode::Apply,
            cancel: &never,
        },
    )
    .await;
    assert_eq!(
        (report.removed, report.failed),
        (
            vec![RecordRemoval {
                image: gone.image,
                reason: PurgeReason::Orphan
            }],
            Vec::new()
        )
    );
    assert_eq!(
        records
            .all_with_custom_fields()
            .await
            .expect("to read")
            .records,
        [pushed, newer]
    );
}
