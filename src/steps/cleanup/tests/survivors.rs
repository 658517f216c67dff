//! Kept tags whose images a registry deletes all the same.

use super::report::FailedTag;
use super::*;

/// Makes the deletion of a tag delete the manifest with all of its tags.
fn delete_images_with_tags(sample: &SampleRepository) {
    let store = sample.store.clone();
    sample.store.fail_when(move |call| {
        if call.operation == StoreOperation::DeleteTag {
            store.lose_image(&call.repository, &tag(&call.subject));
        }
        None
    });
}

/// Writes three images, each under an old and a new tag.
async fn shared() -> (SampleRepository, Vec<Digest>) {
    let sample = SampleRepository::mirror(&[]).await;
    let mut digests = Vec::new();
    for number in 1..=3 {
        let digest = sample.old(&format!("1.{number}")).await;
        sample.tag(&format!("2.{number}"), &digest, 365).await;
        digests.push(digest);
    }
    (sample, digests)
}

fn cause(report: &CleanupReport) -> &str {
    &report.errors[0].error.cause
}

#[tokio::test]
async fn registry_that_deletes_an_image_with_its_tag_is_stopped_and_the_image_is_restored() {
    let (sample, digests) = shared().await;
    delete_images_with_tags(&sample);
    let report = sample
        .run(&mirror("keep_last: 3"), ObservedRecords::NotConfigured)
        .await;
    assert_eq!(report.exit(), Exit::Failed, "{report:?}");
    assert!(
        sample
            .tags()
            .await
            .is_superset(&names(&["2.1", "2.2", "2.3"])),
        "{:?}",
        sample.tags().await
    );
    for digest in &digests {
        assert!(sample.has(digest).await);
    }
    assert_eq!(sample.store.count(StoreOperation::DeleteTag), 1);
    assert_eq!((report.totals.deleted, report.totals.kept), (1, 3));
    assert!(
        cause(&report).contains("when it was asked to delete only its tag 1.")
            && cause(&report).contains("restored: 2."),
        "{report:?}"
    );
    // A registry that deletes tags only deletes all three.
    let (sample, _) = shared().await;
    sample.store.clear_calls();
    let report = sample
        .run(&mirror("keep_last: 3"), ObservedRecords::NotConfigured)
        .await;
    assert_eq!((report.exit(), report.totals.deleted), (Exit::Done, 3));
    assert_eq!(sample.tags().await, names(&["2.1", "2.2", "2.3"]));
    // 6 manifests to plan, 1 to be able to restore.
    assert_eq!(sample.store.count(StoreOperation::Manifest), 6 + 1);
    // Each deleted tag before its deletion, and one kept tag after the first one.
    assert_eq!(sample.store.count(StoreOperation::Resolve), 3 + 1);
}

#[tokio::test]
async fn part_of_a_kept_index_is_restored_if_its_tag_takes_it_along() {
    let sample = SampleRepository::mirror(&[]).await;
    let child = sample.old("1.0").await;
    let index = sample.index(&[&child]).await;
    sample.tag("2.0", &index, 365).await;
    delete_images_with_tags(&sample);
    let report = sample
        .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
        .await;
    assert_eq!(report.exit(), Exit::Failed, "{report:?}");
    assert!(sample.has(&child).await && sample.has(&index).await);
}

#[tokio::test]
async fn tags_that_cannot_be_restored_are_named() {
    let (sample, _) = shared().await;
    let store = sample.store.clone();
    sample.store.fail_when(move |call| match call.operation {
        StoreOperation::DeleteTag => {
            store.lose_image(&call.repository, &tag(&call.subject));
            None
        }
        StoreOperation::PutManifest => Some(StoreFault::Error(ItemErrorKind::Forbidden)),
        _ => None,
    });
    let report = sample
        .run(&mirror("keep_last: 3"), ObservedRecords::NotConfigured)
        .await;
    assert_eq!(report.exit(), Exit::Failed, "{report:?}");
    assert_eq!(sample.store.count(StoreOperation::DeleteTag), 1);
    assert!(cause(&report).contains("not restored: 2."), "{report:?}");
    let lost: Vec<&FailedTag> = report
        .failed
        .iter()
        .filter(|failed| failed.tag.as_str().starts_with("2."))
        .collect();
    assert_eq!(lost.len(), 1, "{report:?}");
    assert!(
        lost[0]
            .error
            .cause
            .contains("the tag could not be restored"),
        "{report:?}"
    );
    assert!(report.kept.iter().all(|kept| kept.tag != lost[0].tag));
    assert_eq!(report.totals.kept, 2);
}

#[tokio::test]
async fn deletions_stop_if_the_kept_tag_cannot_be_looked_up() {
    let (sample, _) = shared().await;
    let was_deleted = std::sync::atomic::AtomicBool::new(false);
    sample.store.fail_when(move |call| {
        if call.operation == StoreOperation::DeleteTag {
            was_deleted.store(true, std::sync::atomic::Ordering::SeqCst);
        }
        let fails = call.operation == StoreOperation::Resolve
            && call.subject.starts_with("2.")
            && was_deleted.load(std::sync::atomic::Ordering::SeqCst);
        fails.then_some(StoreFault::Error(ItemErrorKind::ServerError))
    });
    let report = sample
        .run(&mirror("keep_last: 3"), ObservedRecords::NotConfigured)
        .await;
    assert_eq!(report.exit(), Exit::Failed, "{report:?}");
    assert_eq!(sample.store.count(StoreOperation::DeleteTag), 1);
}

#[tokio::test]
async fn layouts_are_not_checked() {
    let sample = SampleRepository::new("ocidir:///m/a", DeletionSupport::ALL);
    let digest = sample.old("1.0").await;
    sample.tag("2.0", &digest, 365).await;
    let config = config(
        "sync: { entries: [{ source: up.example/a, target: 'ocidir:///m/a', tag: '9' }] }
retention: { keep_last: 1 }",
    );
    sample.store.clear_calls();
    let report = sample.run(&config, ObservedRecords::NotConfigured).await;
    assert_eq!(report.totals.deleted, 1, "{report:?}");
    assert_eq!(sample.store.count(StoreOperation::Manifest), 2);
}

/// Makes the deletion of a manifest or tag of the image `trigger` delete the kept tag `lost`.
fn lose_with(
    sample: &SampleRepository,
    operation: StoreOperation,
    lost: &'static str,
    takes_image: bool,
) {
    let (store, at) = (sample.store.clone(), sample.at.clone());
    sample.store.fail_when(move |call| {
        if call.operation == operation {
            if takes_image {
                store.lose_image(&at, &tag(lost));
            }
            store.forget_tag(&at, &tag(lost));
        }
        None
    });
}

#[tokio::test]
async fn kept_tag_that_is_gone_at_the_end_is_an_error() {
    // Another image than those that the run deletes.
    for takes_image in [true, false] {
        let sample = SampleRepository::mirror(&["1.0", "2.0", "2.1"]).await;
        lose_with(&sample, StoreOperation::DeleteManifest, "2.0", takes_image);
        let report = sample
            .run(&mirror("keep_last: 2"), ObservedRecords::NotConfigured)
            .await;
        assert_eq!(report.exit(), Exit::Failed, "{report:?}");
        assert_eq!((report.totals.deleted, report.totals.kept), (1, 1));
        assert_eq!(report.failed.len(), 1, "{report:?}");
        assert_eq!(report.failed[0].tag.as_str(), "2.0");
        assert!(
            report.failed[0]
                .error
                .cause
                .contains("is gone after the run"),
            "{report:?}"
        );
    }
}

#[tokio::test]
async fn kept_tag_of_a_deleted_image_is_restored_at_the_end() {
    // The first deletion of the run on the host passes the check, a later one loses a kept tag.
    for takes_image in [false, true] {
        let sample = SampleRepository::mirror(&[]).await;
        for number in 1..=2 {
            let digest = sample.old(&format!("1.{number}")).await;
            sample.tag(&format!("2.{number}"), &digest, 365).await;
        }
        let (store, at) = (sample.store.clone(), sample.at.clone());
        let deleted = std::sync::atomic::AtomicUsize::new(0);
        sample.store.fail_when(move |call| {
            if call.operation == StoreOperation::DeleteTag
                && deleted.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 1
            {
                let kept = tag(&call.subject.replace("1.", "2."));
                if takes_image {
                    store.lose_image(&at, &kept);
                }
                store.forget_tag(&at, &kept);
            }
            None
        });
        let report = sample
            .run(&mirror("keep_last: 2"), ObservedRecords::NotConfigured)
            .await;
        assert_eq!(report.exit(), Exit::Failed, "{report:?}");
        assert_eq!(report.failed.len(), 1, "{report:?}");
        let cause = &report.failed[0].error.cause;
        if takes_image {
            assert!(cause.contains("could not be restored"), "{cause}");
        } else {
            assert!(cause.ends_with("the tag was restored"), "{cause}");
            assert_eq!(sample.tags().await, names(&["2.1", "2.2"]));
        }
    }
}

#[tokio::test]
async fn kept_tag_that_is_not_listed_and_exists_is_no_error() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "2.1"]).await;
    let (store, at) = (sample.store.clone(), sample.at.clone());
    sample.store.fail_when(move |call| {
        if call.operation == StoreOperation::DeleteManifest {
            store.hide_tag(&at, &tag("2.0"));
        }
        None
    });
    let report = sample
        .run(&mirror("keep_last: 2"), ObservedRecords::NotConfigured)
        .await;
    assert_eq!(
        (report.exit(), report.totals.kept),
        (Exit::Done, 2),
        "{report:?}"
    );
}

#[tokio::test]
async fn repository_is_listed_at_the_end_only_if_it_was_changed() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    for (keep_last, listings) in [(2, 0), (1, 2)] {
        let config = mirror(&format!("keep_last: {keep_last}"));
        let plan = sample.plan(&config, ObservedRecords::NotConfigured).await;
        sample.store.clear_calls();
        sample.execute(&plan, Mode::Apply).await;
        assert_eq!(sample.store.count(StoreOperation::Tags), listings);
    }
}

#[tokio::test]
async fn failed_listing_at_the_end_is_an_error() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let was_deleted = std::sync::atomic::AtomicBool::new(false);
    sample.store.fail_when(move |call| {
        if call.operation == StoreOperation::DeleteManifest {
            was_deleted.store(true, std::sync::atomic::Ordering::SeqCst);
        }
        let fails = call.operation == StoreOperation::Tags
            && was_deleted.load(std::sync::atomic::Ordering::SeqCst);
        fails.then_some(StoreFault::Error(ItemErrorKind::ServerError))
    });
    let report = sample
        .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
        .await;
    assert_eq!((report.exit(), report.totals.deleted), (Exit::Failed, 1));
    assert!(
        cause(&report).contains("it is unknown if the kept tags still exist"),
        "{report:?}"
    );
}
