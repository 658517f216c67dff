//! Limits that stop a cleanup: `max_delete_percent`, the safety check, errors.

use super::*;

#[tokio::test]
async fn max_delete_percent_limits_the_deleted_share() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "3.0", "4.0"]).await;
    // Attachments do not count.
    let newest = sample
        .store
        .resolve(&sample.at, &tag("4.0").into())
        .await
        .expect("to resolve")
        .expect("an image")
        .digest;
    for attachment in Tag::of_cosign(&newest) {
        sample
            .tag(
                attachment.as_str(),
                &sample.image(attachment.as_str(), json!({})).await,
                365,
            )
            .await;
    }
    let by = |max_delete_percent| CleanupPolicy {
        max_delete_percent,
        ..policy()
    };
    let config = mirror("keep_last: 1");
    let report = sample
        .run_by(&config, ObservedRecords::NotConfigured, &by(None))
        .await;
    assert_eq!((report.exit(), report.totals.deleted), (Exit::Failed, 0));
    assert!(
        report
            .kept
            .iter()
            .any(|kept| kept.reason == KeepReason::TooMany)
    );
    let report = sample
        .run_by(&config, ObservedRecords::NotConfigured, &by(Some(74)))
        .await;
    assert_eq!(report.totals.deleted, 0);
    let report = sample
        .run_by(&config, ObservedRecords::NotConfigured, &by(Some(75)))
        .await;
    assert_eq!((report.exit(), report.totals.deleted), (Exit::Done, 3));
    // The smallest limit of several rules applies.
    let sample = SampleRepository::mirror(&["1.0", "2.0", "3.0", "4.0"]).await;
    let config = two_rules(
        "keep_last: 1, max_delete_percent: 74",
        "keep_last: 1, max_delete_percent: 100",
    );
    let report = sample
        .run_by(&config, ObservedRecords::NotConfigured, &by(None))
        .await;
    assert_eq!((report.exit(), report.totals.deleted), (Exit::Failed, 0));
}

#[tokio::test]
async fn nothing_is_deleted_if_deletion_support_cannot_be_read() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    sample.store.fail_when(|call| {
        (call.operation == StoreOperation::Deletions)
            .then_some(StoreFault::Error(ItemErrorKind::ServerError))
    });
    let report = sample
        .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
        .await;
    assert_eq!(
        (report.exit(), report.totals.deleted),
        (Exit::Failed, 0),
        "{report:?}"
    );
    assert!(
        report
            .kept
            .iter()
            .any(|kept| matches!(kept.reason, KeepReason::RepositoryFailed(_)))
    );
    assert_eq!(sample.tags().await, names(&["1.0", "2.0"]));
}

#[tokio::test]
async fn safety_check_requires_complete_and_matching_records() {
    let sample = SampleRepository::new("r.example/bases/alpine", DeletionSupport::ALL);
    for name in ["3.10-core1.0.0", "3.11-core1.0.0"] {
        sample.old(name).await;
    }
    let config = bases("keep_last: 0, min_keep: 0");
    let on_base = record(
        "r.example/apps/a:1",
        Some("r.example/bases/alpine:3.10-core1.0.0"),
        None,
    );
    let baseless = record("r.example/apps/a:1", None, None);
    let unreadable = RecordSet {
        records: vec![on_base.clone()],
        reduced: Vec::new(),
        unreadable: vec![UnreadableFile {
            file: "f".to_owned(),
            problem: "it is no record".to_owned(),
        }],
        first_written: None,
    };
    for (observed, cause) in [
        (
            ObservedRecords::Failed(ItemError::other("the host is down")),
            "the host is down",
        ),
        (ObservedRecords::Read(unreadable), "it is no record"),
        (
            ObservedRecords::NotConfigured,
            "no record of any application",
        ),
        (records(Vec::new()), "no record of any application"),
        (records(vec![baseless]), "no record names a base"),
    ] {
        let report = sample.run(&config, observed.clone()).await;
        assert_eq!(
            (report.exit(), report.totals.deleted),
            (Exit::Failed, 0),
            "{cause}"
        );
        assert!(
            report
                .safety_error
                .as_ref()
                .is_some_and(|error| error.cause.contains(cause)),
            "{report:?}"
        );
        assert!(
            report
                .kept
                .iter()
                .any(|kept| kept.reason == KeepReason::SafetyCheckFailed)
        );
        // `--force` does not override known records.
        let forced = plan(
            &sample.world(&config, observed.clone()).await,
            &CleanupPolicy {
                is_forced: true,
                ..policy()
            },
        );
        let is_recorded = observed
            .records()
            .iter()
            .any(|record| record.base.is_some());
        assert_eq!(
            reason(&forced, &sample.at, "3.10-core1.0.0").is_some(),
            is_recorded,
            "{cause}"
        );
        assert_eq!(
            reason(&forced, &sample.at, "3.11-core1.0.0"),
            None,
            "{cause}"
        );
    }
    assert_eq!(
        sample
            .plan(
                &bases("keep_last: 0, require_records: false"),
                records(Vec::new())
            )
            .await
            .safety_error,
        None
    );
    assert_eq!(
        sample
            .plan(&config, records(vec![on_base]))
            .await
            .safety_error,
        None
    );
    // After the registry was renamed, records have the old names, and digests of the bases.
    let by_name = |digest: Option<&Digest>| {
        record(
            "old.example/apps/a:1",
            Some("old.example/bases/alpine:3.10-core1.0.0"),
            digest,
        )
    };
    let error = sample
        .plan(&config, records(vec![by_name(None)]))
        .await
        .safety_error
        .expect("a safety error");
    assert!(
        error.cause.contains("the registry may have been renamed"),
        "{error:?}"
    );
    let digest = sample.old("3.12-core1.0.0").await;
    let named_by_digest = sample
        .plan(&config, records(vec![by_name(Some(&digest))]))
        .await;
    assert_eq!(named_by_digest.safety_error, None);
    assert_eq!(reason(&named_by_digest, &sample.at, "3.11-core1.0.0"), None);
    assert!(reason(&named_by_digest, &sample.at, "3.12-core1.0.0").is_some());
}

#[tokio::test]
async fn longest_keep_days_of_an_archive_applies() {
    let sample = SampleRepository::mirror(&["9"]).await;
    let archive = SampleRepository {
        store: sample.store.clone(),
        at: repository("cold.example/m/a"),
    };
    archive.old("1.0-archived.20260201").await;
    let rules =
        |days| format!("archive: {{ enabled: true, registry: cold.example, keep_days: {days} }}");
    let by = async |config: Config| archive.reason(&config, "1.0-archived.20260201").await;
    assert!(matches!(
        by(two_rules(&rules(30), &rules(10))).await,
        Some(KeepReason::ArchivedUntil(_))
    ));
    assert_eq!(by(two_rules(&rules(20), &rules(10))).await, None);
}

#[tokio::test]
async fn records_are_indexed_once_for_each_reading() {
    let sample = SampleRepository::new("r.example/m/a", DeletionSupport::ALL);
    for number in 0..200 {
        sample.old(&format!("1.0.{number}")).await;
    }
    let records = records(
        (0..50)
            .map(|number| {
                record(
                    &format!("r.example/app:{number}"),
                    Some("r.example/m/a:1.0.199"),
                    None,
                )
            })
            .collect(),
    );
    let config = mirror("keep_last: 1, max_delete_percent: 100");
    let world = sample.world(&config, records.clone()).await;
    let plan = plan(&world, &policy());
    let before = super::super::protections::indexed_records();
    let report = sample
        .execute_with_records(&plan, Mode::Apply, &records)
        .await;
    assert_eq!(report.totals.deleted, 199);
    let indexed = super::super::protections::indexed_records() - before;
    assert_eq!(indexed, 50, "the records of all readings are the same");
}

#[tokio::test]
async fn world_keeps_equal_readings_of_the_records_once() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let config = mirror("keep_last: 1");
    let named = |base| records(vec![record("r.example/app:1", Some(base), None)]);
    let mut world = sample.world(&config, named("r.example/m/a:1.0")).await;
    // The second reading spells the same repository in another way.
    for (second, kept) in [("r.example:443/m/a:1.0", 1), ("r.example/m/a:2.0", 2)] {
        world.add_records(&config, Arc::new(named(second)), now());
        assert_eq!(world.records.len(), kept, "{second}");
    }
}
