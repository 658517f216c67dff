//! Copies to an archive before deletion.

use super::*;

#[tokio::test]
async fn images_are_archived_before_deletion_and_expire_by_the_day_in_their_tag() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let child = sample.image("child", json!({})).await;
    let index = sample.index(&[&child]).await;
    sample.tag("0.9", &index, 365).await;
    sample
        .tag(
            Tag::of_cosign(&index)[0].as_str(),
            &sample.image("signature", json!({})).await,
            365,
        )
        .await;
    let config =
        mirror("keep_last: 1, archive: { enabled: true, registry: cold.example/x, keep_days: 10 }");
    let archive = repository("cold.example/x/m/a");
    let report = sample.run(&config, ObservedRecords::NotConfigured).await;
    assert_eq!(
        (report.exit(), report.totals.deleted, report.totals.archived),
        (Exit::Done, 3, 2),
        "{report:?}"
    );
    let signature = Tag::of_cosign(&index)[0].to_string();
    assert_eq!(
        sample.tags_of(&archive).await,
        names(&["0.9-archived.20260301", "1.0-archived.20260301", &signature])
    );
    let archived = sample
        .store
        .resolve(&archive, &tag("0.9-archived.20260301").into())
        .await
        .expect("to resolve")
        .expect("an image");
    assert_eq!(archived.digest, index);
    // Tags of another form are never deleted.
    let other = SampleRepository {
        store: sample.store.clone(),
        at: archive.clone(),
    };
    other.old("mine").await;
    other.old("1.0-archived.2020101").await;
    let later = |days| CleanupPolicy {
        now: now() + TimeDelta::days(days),
        ..policy()
    };
    sample
        .run_by(&config, ObservedRecords::NotConfigured, &later(10))
        .await;
    assert_eq!(other.tags().await.len(), 5);
    let world = sample.world(&config, ObservedRecords::NotConfigured).await;
    assert_eq!(
        reason(&plan(&world, &later(10)), &archive, "mine"),
        Some(KeepReason::NotArchived)
    );
    assert!(matches!(
        reason(&plan(&world, &later(10)), &archive, "1.0-archived.20260301"),
        Some(KeepReason::ArchivedUntil(_))
    ));
    let on_archived = record(
        "r.example/apps/a:1",
        Some("cold.example/x/m/a:1.0-archived.20260301"),
        None,
    );
    let recorded = sample.world(&config, records(vec![on_archived])).await;
    assert!(matches!(
        reason(
            &plan(&recorded, &later(11)),
            &archive,
            "1.0-archived.20260301"
        ),
        Some(KeepReason::BaseOf(_))
    ));
    // `max_delete_percent` does not apply to archives.
    let report = sample
        .execute(
            &plan(
                &world,
                &CleanupPolicy {
                    max_delete_percent: Some(10),
                    ..later(11)
                },
            ),
            Mode::Apply,
        )
        .await;
    assert_eq!(
        (report.exit(), other.tags().await),
        (Exit::Done, names(&["1.0-archived.2020101", "mine"])),
        "{report:?}"
    );
}

#[tokio::test]
async fn images_that_could_not_be_archived_are_kept() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let long = format!("0.{}", "1".repeat(120));
    sample.old(&long).await;
    let config = mirror("keep_last: 1, archive: { enabled: true, registry: cold.example/x }");
    // Attachments are kept as well, at any depth.
    let digest = sample.old("1.0").await;
    let signature = sample.image("signature", json!({})).await;
    sample
        .tag(Tag::of_cosign(&digest)[0].as_str(), &signature, 365)
        .await;
    sample
        .tag(
            Tag::of_cosign(&signature)[1].as_str(),
            &sample.image("attestation", json!({})).await,
            365,
        )
        .await;
    sample.store.fail_when(|call| {
        let fails = call.operation == StoreOperation::PutManifest
            && call.repository.to_string() == "cold.example/x/m/a";
        fails.then_some(StoreFault::Error(ItemErrorKind::Forbidden))
    });
    let report = sample.run(&config, ObservedRecords::NotConfigured).await;
    assert_eq!(
        (report.exit(), report.totals.deleted, report.totals.errors),
        (Exit::Failed, 0, 2)
    );
    assert_eq!(
        (
            sample.tags().await.len(),
            report.totals.kept,
            report.totals.examined
        ),
        (5, 3, 5)
    );
    assert!(
        report
            .kept
            .iter()
            .filter(|kept| kept.tag.is_attachment())
            .all(|kept| kept.reason == KeepReason::AttachedToKept)
    );
    sample.store.fail_when(|_| None);
    sample.run(&config, ObservedRecords::NotConfigured).await;
    assert_eq!(sample.tags().await, names(&[&long, "2.0"]));
}

#[tokio::test]
async fn archived_image_is_not_overwritten() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let first = sample.old("1.0").await;
    let config = mirror("keep_last: 1, archive: { enabled: true, registry: cold.example/x }");
    let archived = async || {
        let found = sample
            .store
            .resolve(
                &repository("cold.example/x/m/a"),
                &tag("1.0-archived.20260301").into(),
            )
            .await;
        found.expect("to resolve").expect("an image").digest
    };
    assert_eq!(
        sample
            .run(&config, ObservedRecords::NotConfigured)
            .await
            .exit(),
        Exit::Done
    );
    assert_eq!(archived().await, first);
    // The same image is already archived.
    sample.old("1.0").await;
    assert_eq!(
        sample
            .run(&config, ObservedRecords::NotConfigured)
            .await
            .exit(),
        Exit::Done
    );
    assert_eq!(sample.tags().await, names(&["2.0"]));
    let second = sample.image("another", json!({})).await;
    sample.tag("1.0", &second, 365).await;
    let report = sample.run(&config, ObservedRecords::NotConfigured).await;
    assert_eq!(
        (report.exit(), report.totals.deleted, report.totals.archived),
        (Exit::Failed, 0, 0),
        "{report:?}"
    );
    assert!(
        report.failed[0]
            .error
            .cause
            .contains("already names another image"),
        "{report:?}"
    );
    assert_eq!(archived().await, first);
    assert!(sample.tags().await.contains("1.0") && sample.has(&second).await);
}

const ARCHIVING: &str = "keep_last: 1, archive: { enabled: true, registry: cold.example/x }";

/// Calls `act` when a manifest is written to the archive.
fn while_archiving(sample: &SampleRepository, act: impl Fn() + Send + Sync + 'static) {
    sample.store.fail_when(move |call| {
        if call.operation == StoreOperation::PutManifest
            && call.repository.to_string() == "cold.example/x/m/a"
        {
            act();
        }
        None
    });
}

#[tokio::test]
async fn image_tagged_while_it_is_archived_is_kept() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
        let old = sample.old("1.0").await;
        sample.old("2.0").await;
        let (store, at, claimed) = (sample.store.clone(), sample.at.clone(), old.clone());
        while_archiving(&sample, move || store.move_tag(&at, &tag("mine"), &claimed));
        sample
            .run(&mirror(ARCHIVING), ObservedRecords::NotConfigured)
            .await;
        assert!(
            sample.tags().await.contains("mine") && sample.has(&old).await,
            "{deletions:?}"
        );
    }
}

#[tokio::test]
async fn tag_that_reappears_after_archiving_keeps_its_image() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
        let old = sample.old("1.0").await;
        sample.tag("1.1", &old, 365).await;
        sample.old("2.0").await;
        let plan = sample
            .plan(&mirror(ARCHIVING), ObservedRecords::NotConfigured)
            .await;
        sample.store.forget_tag(&sample.at, &tag("1.0"));
        let (store, at, back) = (sample.store.clone(), sample.at.clone(), old.clone());
        while_archiving(&sample, move || store.move_tag(&at, &tag("1.0"), &back));
        let report = sample.execute(&plan, Mode::Apply).await;
        assert_eq!(
            (report.exit(), report.totals.deleted),
            (Exit::Failed, 0),
            "{deletions:?} {report:?}"
        );
        assert!(
            report.failed[0]
                .error
                .cause
                .contains("the tag 1.0 did not exist when the image was archived"),
            "{report:?}"
        );
        assert!(
            sample.tags().await.is_superset(&names(&["1.0", "1.1"])) && sample.has(&old).await,
            "{deletions:?}"
        );
    }
}

#[tokio::test]
async fn nothing_is_deleted_if_the_archive_names_another_image_after_the_copy() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let cold = SampleRepository {
        store: sample.store.clone(),
        at: repository("cold.example/x/m/a"),
    };
    for other in [
        cold.image("other", json!({})).await,
        Digest::sha256(b"nothing"),
    ] {
        let was_put = std::sync::atomic::AtomicBool::new(false);
        let (store, at, archived) = (
            sample.store.clone(),
            cold.at.clone(),
            tag("1.0-archived.20260301"),
        );
        sample.store.fail_when(move |call| {
            let is_tag = call.repository == at && call.subject == archived.as_str();
            if is_tag && call.operation == StoreOperation::PutManifest {
                was_put.store(true, std::sync::atomic::Ordering::SeqCst);
            } else if is_tag && was_put.load(std::sync::atomic::Ordering::SeqCst) {
                store.move_tag(&at, &archived, &other);
            }
            None
        });
        let report = sample
            .run(&mirror(ARCHIVING), ObservedRecords::NotConfigured)
            .await;
        assert_eq!(
            (report.exit(), report.totals.deleted),
            (Exit::Failed, 0),
            "{report:?}"
        );
        assert_eq!(sample.tags().await, names(&["1.0", "2.0"]));
        sample.store.fail_when(|_| None);
        sample
            .store
            .forget_tag(&cold.at, &tag("1.0-archived.20260301"));
    }
}
