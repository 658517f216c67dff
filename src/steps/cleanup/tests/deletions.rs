//! Deletion of images, parts, referrers and attachments.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[tokio::test]
async fn dry_run_changes_nothing() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let plan = sample
        .plan(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
        .await;
    for mode in [Mode::List, Mode::DryRun] {
        let report = sample.execute(&plan, mode).await;
        assert_eq!((report.totals.deleted, report.dry_run), (1, true));
    }
    assert_eq!(sample.tags().await, names(&["1.0", "2.0"]));
}

#[tokio::test]
async fn parts_are_deleted_last_and_only_if_no_kept_index_needs_them() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
        let own = sample.image("own", json!({})).await;
        let shared = sample.image("shared", json!({})).await;
        let pinned = sample.image("pinned", json!({})).await;
        let old = sample.index(&[&own, &shared, &pinned]).await;
        sample.tag("1.0", &old, 365).await;
        sample.tag("1.1", &sample.index(&[&own]).await, 365).await;
        sample
            .tag("2.0", &sample.index(&[&shared]).await, 365)
            .await;
        // A record names an index without a tag.
        let untagged = sample.index(&[&pinned]).await;
        let named = record(
            "r.example/apps/a:1",
            Some("r.example/m/a:0.9"),
            Some(&untagged),
        );
        let plan = sample
            .plan(&mirror("keep_last: 1"), records(vec![named.clone()]))
            .await;
        assert!(
            plan.repositories[0]
                .groups
                .iter()
                .all(|group| group.parts == BTreeSet::from([own.clone()])),
            "{plan:?}"
        );
        let report = sample
            .run(&mirror("keep_last: 1"), records(vec![named]))
            .await;
        assert_eq!(report.exit(), Exit::Done, "{report:?}");
        assert_eq!(sample.tags().await, names(&["2.0"]));
        assert!(
            !sample.has(&own).await && !sample.has(&old).await,
            "{deletions:?}"
        );
        assert!(
            sample.has(&shared).await && sample.has(&pinned).await && sample.has(&untagged).await,
            "{deletions:?}"
        );
        let deleted: Vec<ImageStoreCall> = sample
            .store
            .calls()
            .into_iter()
            .filter(|call| call.operation == StoreOperation::DeleteManifest)
            .collect();
        assert_eq!(
            deleted.last().map(|call| call.subject.clone()),
            Some(own.to_string())
        );
    }
}

#[tokio::test]
async fn parts_are_kept_when_an_index_could_not_be_deleted() {
    let sample = SampleRepository::new("r.example/m/a", DeletionSupport::ALL);
    let shared = sample.image("shared", json!({})).await;
    let mut last = shared.clone();
    for (name, other) in [("1.0", "a"), ("1.1", "b")] {
        let other = sample.image(other, json!({})).await;
        last = sample.index(&[&shared, &other]).await;
        sample.tag(name, &last, 365).await;
    }
    sample.old("2.0").await;
    sample.fail_deletion(&["1.1", last.as_str()], ItemErrorKind::ServerError);
    let config = mirror("keep_last: 1");
    let report = sample.run(&config, ObservedRecords::NotConfigured).await;
    assert_eq!(
        (report.exit(), report.totals.deleted, report.totals.errors),
        (Exit::Failed, 1, 1)
    );
    assert!(sample.has(&shared).await);
    sample.store.fail_when(|_| None);
    assert_eq!(
        sample
            .run(&config, ObservedRecords::NotConfigured)
            .await
            .exit(),
        Exit::Done
    );
    assert!(!sample.has(&shared).await);
}

#[tokio::test]
async fn tags_deleted_before_an_error_are_reported_as_deleted() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let digest = sample.old("1.0").await;
    sample.tag("1.1", &digest, 365).await;
    sample.fail_deletion(&["1.1", digest.as_str()], ItemErrorKind::Forbidden);
    let report = sample
        .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
        .await;
    let names_of = |tags: Vec<&Tag>| tags.into_iter().map(Tag::to_string).collect::<Vec<_>>();
    assert_eq!(
        names_of(report.deleted.iter().map(|deleted| &deleted.tag).collect()),
        ["1.0"]
    );
    assert_eq!(
        names_of(report.failed.iter().map(|failed| &failed.tag).collect()),
        ["1.1"]
    );
    assert!(sample.has(&digest).await);
}

#[tokio::test]
async fn referrers_are_deleted_with_their_subject() {
    let sample = SampleRepository {
        store: Arc::new(MemoryStore::default().listing_referrers()),
        at: repository("r.example/m/a"),
    };
    let (old, new) = (sample.old("1.0").await, sample.old("2.0").await);
    let mut put = Vec::new();
    for subject in [&old, &new] {
        put.push(sample.referrer(subject).await);
    }
    // A referrer with its own tag goes with its subject, too.
    let named = sample.put(
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [],
        "subject": { "mediaType": media_type::OCI_MANIFEST, "digest": old, "size": 1 } }),
    );
    let named = named.await;
    sample.tag("3.0", &named, 365).await;
    sample
        .run(&mirror("keep_last: 2"), ObservedRecords::NotConfigured)
        .await;
    assert!(sample.has(&put[0]).await && sample.has(&put[1]).await && sample.has(&named).await);
    sample
        .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
        .await;
    assert!(!sample.has(&put[0]).await && sample.has(&put[1]).await && !sample.has(&named).await);
}

#[tokio::test]
async fn report_is_ordered_by_version() {
    let sample = SampleRepository::mirror(&["1.10", "1.2", "1.9", "2.0", "3.0"]).await;
    let report = sample
        .run(&mirror("keep_last: 2"), ObservedRecords::NotConfigured)
        .await;
    let deleted: Vec<String> = report
        .deleted
        .iter()
        .map(|deleted| deleted.tag.to_string())
        .collect();
    assert_eq!(deleted, ["1.10", "1.9", "1.2"]);
}

#[tokio::test]
async fn failed_or_empty_listing_deletes_nothing() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let config = mirror("keep_last: 1");
    let plan = sample.plan(&config, ObservedRecords::NotConfigured).await;
    sample.store.fail_when(|call| {
        let fails = matches!(
            call.operation,
            StoreOperation::Tags | StoreOperation::PushDates
        ) && call.repository.to_string() == "r.example/m/a";
        fails.then_some(StoreFault::Error(ItemErrorKind::ServerError))
    });
    let report = sample.execute(&plan, Mode::Apply).await;
    assert_eq!((report.exit(), report.totals.deleted), (Exit::Failed, 0));
    let report = sample.run(&config, ObservedRecords::NotConfigured).await;
    assert_eq!((report.exit(), report.totals.examined), (Exit::Failed, 0));
    sample.store.fail_when(|_| None);
    assert_eq!(sample.tags().await, names(&["1.0", "2.0"]));
    let empty = SampleRepository::new("r.example/m/a", DeletionSupport::ALL);
    let report = empty.execute(&plan, Mode::Apply).await;
    assert_eq!((report.exit(), report.totals.deleted), (Exit::Failed, 0));
    let report = empty.run(&config, ObservedRecords::NotConfigured).await;
    assert_eq!((report.exit(), report.totals.examined), (Exit::Done, 0));
}

#[tokio::test]
async fn repositories_that_are_not_configured_are_listed_and_not_changed() {
    let sample = SampleRepository::new("r.example/bases/forgotten", DeletionSupport::ALL);
    sample.old("1.0").await;
    let yaml = "build: { registry: r.example/bases, core_version: 1.0.0, images: [{ name: alpine, folder: alpine, type: core, \
                mirror_image: r.example/m/alpine, mirror_tag: '3.20' }] }\nretention: { keep_last: 0, min_keep: 0 }";
    let report = sample
        .run(&config(yaml), ObservedRecords::NotConfigured)
        .await;
    assert_eq!(report.orphans, std::slice::from_ref(&sample.at));
    assert_eq!(sample.tags().await, names(&["1.0"]));
    // Under any name in the configuration.
    let named = format!(
        "sync: {{ entries: [{{ source: up.example/a, target: 'r.example:443/bases/forgotten', tag: '1' }}] }}\n{yaml}"
    );
    let report = sample
        .run(&config(&named), ObservedRecords::NotConfigured)
        .await;
    assert_eq!(
        (report.orphans, sample.tags().await),
        (Vec::new(), names(&["1.0"]))
    );
}

#[tokio::test]
async fn cancelled_run_starts_no_deletion() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let plan = sample
        .plan(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
        .await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let (config, progress) = (config(MIRROR), crate::progress::silent());
    let watch = RecordWatch::new(&config, &ObservedRecords::NotConfigured, false, now());
    let journal = Journal::new(Arc::new(MemoryJournal::default()), Clock::new(now));
    let execution = CleanupExecution {
        mode: Mode::Apply,
        stores: sample.store.stores(),
        records: &watch,
        journal: &journal,
        progress,
        max_requests: None,
        cancel,
    };
    let report = CleanupReport::new(&plan, execute(&plan, &execution).await);
    assert_eq!((report.interrupted, report.totals.not_done), (true, 1));
    assert_eq!(sample.tags().await, names(&["1.0", "2.0"]));
}

#[tokio::test]
async fn observation_takes_at_most_two_requests_for_each_tag() {
    let sample = SampleRepository::new("r.example/bases/alpine", DeletionSupport::ALL);
    for version in 0..2000 {
        let name = format!("3.{version}-core1.0.0");
        let labels = json!({ "org.opencontainers.image.created": "2025-01-01T00:00:00Z", "n": version.to_string() });
        sample
            .tag(&name, &sample.image(&name, labels).await, 365)
            .await;
    }
    let yaml = "build: { registry: r.example/bases, core_version: 1.0.0, images: [{ name: alpine, folder: alpine, type: core, \
                mirror_image: r.example/m/alpine, mirror_tag: '3.20' }] }\nretention: { require_records: false, exclude_tags: ['/3\\.1...-.*/'] }";
    sample.store.clear_calls();
    let plan = sample
        .plan(&config(yaml), ObservedRecords::NotConfigured)
        .await;
    assert_eq!(plan.deletions().count(), 2000 - 1000 - 1);
    assert_eq!(sample.store.count(StoreOperation::Manifest), 2000);
    // The dates of excluded tags are not read.
    assert_eq!(sample.store.count(StoreOperation::Blob), 999);
    assert!(
        sample.store.calls().len() <= 2 * 2000,
        "{}",
        sample.store.calls().len()
    );
}

#[tokio::test]
async fn attachments_are_kept_with_a_part_that_could_not_be_deleted() {
    let sample = SampleRepository::new("r.example/m/a", DeletionSupport::ALL);
    let child = sample.image("child", json!({})).await;
    sample.tag("1.0", &sample.index(&[&child]).await, 365).await;
    sample.old("2.0").await;
    let signature = Tag::of_cosign(&child)[0].to_string();
    sample
        .tag(&signature, &sample.image("signature", json!({})).await, 365)
        .await;
    let part = child.to_string();
    sample.store.fail_when(move |call| {
        let fails = call.operation == StoreOperation::DeleteManifest && call.subject == part;
        fails.then_some(StoreFault::Error(ItemErrorKind::ServerError))
    });
    sample
        .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
        .await;
    assert_eq!(sample.tags().await, names(&["2.0", &signature]));
    assert!(sample.has(&child).await);
}

#[tokio::test]
async fn image_is_kept_if_its_tag_cannot_be_deleted() {
    let sample = SampleRepository::new(
        "r.example/m/a",
        DeletionSupport {
            tags: Support::Unknown,
            manifests: Support::Supported,
        },
    );
    let old = sample.old("1.0").await;
    sample.old("2.0").await;
    sample.fail_deletion(&[old.as_str()], ItemErrorKind::Forbidden);
    let report = sample
        .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
        .await;
    assert_eq!(
        (report.exit(), report.totals.deleted, report.totals.errors),
        (Exit::Failed, 0, 1),
        "{report:?}"
    );
    assert!(sample.tags().await.contains("1.0") && sample.has(&old).await);
}

#[tokio::test]
async fn tagged_part_is_kept_when_its_index_could_not_be_deleted() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
        let child = sample.old("1.0-amd64").await;
        let index = sample.index(&[&child]).await;
        sample.tag("1.0", &index, 365).await;
        sample.old("2.0").await;
        sample.fail_deletion(&["1.0", index.as_str()], ItemErrorKind::ServerError);
        sample
            .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
            .await;
        assert!(
            sample.has(&index).await && sample.has(&child).await,
            "{deletions:?}"
        );
    }
}

#[tokio::test]
async fn parts_of_an_attachment_are_deleted_after_it() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let subject = sample.old("1.0").await;
    let (shared, own) = (
        sample.referrer(&subject).await,
        sample.image("own", json!({})).await,
    );
    let index = sample.index(&[&shared, &own]).await;
    sample.tag("1.1", &index, 365).await;
    let list = Tag::of_referrers(&subject).to_string();
    let listing = sample.index(&[&shared]).await;
    sample.tag(&list, &listing, 365).await;
    sample.fail_deletion(&[&list, listing.as_str()], ItemErrorKind::ServerError);
    let config = mirror("keep_last: 1");
    sample.run(&config, ObservedRecords::NotConfigured).await;
    assert_eq!(sample.tags().await, names(&["2.0", &list]));
    assert!(sample.has(&shared).await && !sample.has(&own).await);
    sample.store.fail_when(|_| None);
    // The list is deleted once it is known that cleanup deleted its image.
    let mut world = sample.world(&config, ObservedRecords::NotConfigured).await;
    assert_eq!(plan(&world, &policy()).deletions().count(), 0);
    world.repositories[0].missing_subjects = BTreeSet::from([tag(&list)]);
    sample.execute(&plan(&world, &policy()), Mode::Apply).await;
    assert_eq!(sample.tags().await, names(&["2.0"]));
    assert!(!sample.has(&shared).await);
}

#[tokio::test]
async fn tags_are_deleted_singly_where_a_manifest_with_tags_is_refused() {
    for is_refused in [false, true] {
        let sample = SampleRepository::mirror(&["3.0"]).await;
        for name in ["1.0", "1.1"] {
            sample.old(name).await;
        }
        let digest = sample.old("1.2").await;
        sample.tag("1.2-alias", &digest, 365).await;
        let is_first = AtomicBool::new(true);
        sample.store.fail_when(move |call| {
            let fails = is_refused
                && call.operation == StoreOperation::DeleteManifest
                && is_first.swap(false, Ordering::SeqCst);
            fails.then_some(StoreFault::Error(ItemErrorKind::Forbidden))
        });
        let report = sample
            .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
            .await;
        assert_eq!(sample.tags().await, names(&["3.0"]), "{is_refused}");
        assert_eq!(
            (report.exit(), report.totals.deleted),
            (Exit::Done, 4),
            "{is_refused} {report:?}"
        );
        let (tags, manifests) = (
            sample.store.count(StoreOperation::DeleteTag),
            sample.store.count(StoreOperation::DeleteManifest),
        );
        let expected = if is_refused { (4, 1 + 3) } else { (0, 3) };
        assert_eq!((tags, manifests), expected);
    }
}
