//! What a run does, and what it leaves alone.

use super::*;
use crate::registry::memory::Call;

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let sample = Sample::mirror(&["1.0", "2.0"]).await;
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
async fn parts_go_after_all_indexes_and_only_when_no_kept_index_needs_them() {
    for deletions in [Deletions::ALL, DIGEST_ONLY] {
        let sample = Sample::new("r.example/m/a", deletions);
        let own = sample.image("own", json!({})).await;
        let shared = sample.image("shared", json!({})).await;
        let pinned = sample.image("pinned", json!({})).await;
        let old = sample.index(&[&own, &shared, &pinned]).await;
        sample.tag("1.0", &old, 365).await;
        sample.tag("1.1", &sample.index(&[&own]).await, 365).await;
        sample
            .tag("2.0", &sample.index(&[&shared]).await, 365)
            .await;
        // A record names an index that lost its tag.
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
        let deleted: Vec<Call> = sample
            .store
            .calls()
            .into_iter()
            .filter(|call| call.operation == Operation::DeleteManifest)
            .collect();
        assert_eq!(
            deleted.last().map(|call| call.subject.clone()),
            Some(own.to_string())
        );
    }
}

#[tokio::test]
async fn parts_stay_when_an_index_could_not_be_deleted() {
    let sample = Sample::new("r.example/m/a", Deletions::ALL);
    let shared = sample.image("shared", json!({})).await;
    for (name, other) in [("1.0", "a"), ("1.1", "b")] {
        let other = sample.image(other, json!({})).await;
        let index = sample.index(&[&shared, &other]).await;
        sample.tag(name, &index, 365).await;
    }
    sample.old("2.0").await;
    sample.store.fail_when(|call| {
        let fails = call.operation == Operation::DeleteTag && call.subject == "1.1";
        fails.then_some(Fault::Error(ItemErrorKind::ServerError))
    });
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
async fn what_was_deleted_before_something_failed_is_reported_as_deleted() {
    let sample = Sample::mirror(&["1.0", "2.0"]).await;
    let digest = sample.old("1.0").await;
    sample.tag("1.1", &digest, 365).await;
    sample.store.fail_when(|call| {
        let fails = call.operation == Operation::DeleteTag && call.subject == "1.1";
        fails.then_some(Fault::Error(ItemErrorKind::Forbidden))
    });
    let report = sample
        .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
        .await;
    let told = |tags: Vec<&Tag>| tags.into_iter().map(Tag::to_string).collect::<Vec<_>>();
    assert_eq!(
        told(report.deleted.iter().map(|deleted| &deleted.tag).collect()),
        ["1.0"]
    );
    assert_eq!(
        told(report.failed.iter().map(|failed| &failed.tag).collect()),
        ["1.1"]
    );
    assert!(sample.has(&digest).await);
}

#[tokio::test]
async fn what_refers_to_an_image_goes_with_it() {
    let sample = Sample {
        store: Arc::new(MemoryPlace::default().listing_referrers()),
        at: repository("r.example/m/a"),
    };
    let (old, new) = (sample.old("1.0").await, sample.old("2.0").await);
    let mut put = Vec::new();
    for subject in [&old, &new] {
        put.push(sample.referrer(subject).await);
    }
    // One that has a tag of its own is an image like others.
    let named = sample.put(
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [],
        "subject": { "mediaType": media_type::OCI_MANIFEST, "digest": old, "size": 1 } }),
    );
    let named = named.await;
    sample.tag("3.0", &named, 365).await;
    sample
        .run(&mirror("keep_last: 2"), ObservedRecords::NotConfigured)
        .await;
    assert!(!sample.has(&put[0]).await && sample.has(&put[1]).await && sample.has(&named).await);
}

#[tokio::test]
async fn what_changed_since_the_plan_is_left_alone() {
    for deletions in [Deletions::ALL, DIGEST_ONLY] {
        let sample = Sample::new("r.example/m/a", deletions);
        let mut digests = Vec::new();
        for name in ["1.0", "1.1", "1.2", "2.0"] {
            digests.push(sample.old(name).await);
        }
        let plan = sample
            .plan(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
            .await;
        // One tag moved, and another image got a tag.
        sample.tag("1.0", &digests[3], 0).await;
        sample.tag("mine", &digests[1], 0).await;
        let report = sample.execute(&plan, Mode::Apply).await;
        assert_eq!(report.exit(), Exit::Failed);
        let left = sample.tags().await;
        assert!(
            left.contains("1.0") && left.contains("mine") && !left.contains("1.2"),
            "{deletions:?} {left:?}"
        );
        assert!(
            sample.has(&digests[1]).await && sample.has(&digests[3]).await,
            "{deletions:?}"
        );
    }
}

#[tokio::test]
async fn a_kept_tag_that_moved_onto_what_was_to_go_keeps_it() {
    for deletions in [Deletions::ALL, DIGEST_ONLY] {
        let sample = Sample::new("r.example/m/a", deletions);
        let child = sample.image("child", json!({})).await;
        let (index, single) = (sample.index(&[&child]).await, sample.old("1.1").await);
        sample.tag("1.0", &index, 365).await;
        let signature = Tag::of_cosign(&index)[0].to_string();
        sample
            .tag(&signature, &sample.image("signature", json!({})).await, 365)
            .await;
        for name in ["2.0", "2.1", "2.2"] {
            sample.old(name).await;
        }
        let plan = sample
            .plan(&mirror("keep_last: 3"), ObservedRecords::NotConfigured)
            .await;
        // As one does who takes a release back, in the last case to one of its platforms.
        sample.tag("2.0", &index, 0).await;
        sample.tag("2.1", &single, 0).await;
        sample.execute(&plan, Mode::Apply).await;
        assert!(
            sample.has(&index).await && sample.has(&child).await && sample.has(&single).await,
            "{deletions:?}"
        );
        assert!(
            sample
                .tags()
                .await
                .is_superset(&names(&["2.0", "2.1", "2.2", &signature])),
            "{deletions:?}"
        );
        let sample = Sample::new("r.example/m/a", deletions);
        let child = sample.image("child", json!({})).await;
        sample.tag("1.0", &sample.index(&[&child]).await, 365).await;
        sample.old("2.0").await;
        let plan = sample
            .plan(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
            .await;
        sample.tag("2.0", &child, 0).await;
        let report = sample.execute(&plan, Mode::Apply).await;
        assert_eq!(
            (report.exit(), sample.tags().await),
            (Exit::Done, names(&["2.0"])),
            "{deletions:?}"
        );
        assert!(sample.has(&child).await);
    }
}

#[tokio::test]
async fn a_long_run_looks_again_on_the_way() {
    let sample = Sample::new("r.example/m/a", Deletions::ALL);
    for version in 0..131 {
        sample.old(&format!("1.{version}")).await;
    }
    let plan = sample
        .plan(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
        .await;
    sample.store.clear_calls();
    let report = sample.execute(&plan, Mode::Apply).await;
    assert_eq!(
        (report.totals.deleted, sample.store.count(Operation::Tags)),
        (130, 3)
    );
    // Those that go just before they do, and those that are left each time.
    assert_eq!(sample.store.count(Operation::Resolve), 130 + (131 + 66 + 2));
}

#[tokio::test]
async fn what_is_reported_is_in_the_order_of_versions() {
    let sample = Sample::mirror(&["1.10", "1.2", "1.9", "2.0", "3.0"]).await;
    let report = sample
        .run(&mirror("keep_last: 2"), ObservedRecords::NotConfigured)
        .await;
    let told: Vec<String> = report
        .deleted
        .iter()
        .map(|deleted| deleted.tag.to_string())
        .collect();
    assert_eq!(told, ["1.10", "1.9", "1.2"]);
}

#[tokio::test]
async fn a_listing_that_fails_or_turns_empty_deletes_nothing() {
    let sample = Sample::mirror(&["1.0", "2.0"]).await;
    let config = mirror("keep_last: 1");
    let plan = sample.plan(&config, ObservedRecords::NotConfigured).await;
    sample.store.fail_when(|call| {
        let fails = matches!(call.operation, Operation::Tags | Operation::PushDates)
            && call.repository.to_string() == "r.example/m/a";
        fails.then_some(Fault::Error(ItemErrorKind::ServerError))
    });
    let report = sample.execute(&plan, Mode::Apply).await;
    assert_eq!((report.exit(), report.totals.deleted), (Exit::Failed, 0));
    let report = sample.run(&config, ObservedRecords::NotConfigured).await;
    assert_eq!((report.exit(), report.totals.examined), (Exit::Failed, 0));
    sample.store.fail_when(|_| None);
    assert_eq!(sample.tags().await, names(&["1.0", "2.0"]));
    let empty = Sample::new("r.example/m/a", Deletions::ALL);
    let report = empty.execute(&plan, Mode::Apply).await;
    assert_eq!((report.exit(), report.totals.deleted), (Exit::Failed, 0));
    let report = empty.run(&config, ObservedRecords::NotConfigured).await;
    assert_eq!((report.exit(), report.totals.examined), (Exit::Done, 0));
}

#[tokio::test]
async fn images_are_archived_whole_before_they_are_deleted_and_expire_by_the_date_in_their_tag() {
    let sample = Sample::mirror(&["1.0", "2.0"]).await;
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
        .expect("to look")
        .expect("an image");
    assert_eq!(archived.digest, index);
    // Tags of another shape stay for good.
    let other = Sample {
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
    // The allowed share is one of what is in use.
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
async fn what_could_not_be_archived_is_not_deleted() {
    let sample = Sample::mirror(&["1.0", "2.0"]).await;
    let long = format!("0.{}", "1".repeat(120));
    sample.old(&long).await;
    let config = mirror("keep_last: 1, archive: { enabled: true, registry: cold.example/x }");
    // Nor is what is attached to it, at any depth.
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
        let fails = call.operation == Operation::PutManifest
            && call.repository.to_string() == "cold.example/x/m/a";
        fails.then_some(Fault::Error(ItemErrorKind::Forbidden))
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
async fn an_archived_image_is_not_overwritten() {
    let sample = Sample::mirror(&["1.0", "2.0"]).await;
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
        found.expect("to look").expect("an image").digest
    };
    assert_eq!(
        sample
            .run(&config, ObservedRecords::NotConfigured)
            .await
            .exit(),
        Exit::Done
    );
    assert_eq!(archived().await, first);
    // The same image once more is archived already.
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

#[tokio::test]
async fn repositories_that_are_not_configured_are_listed_and_left_alone() {
    let sample = Sample::new("r.example/bases/forgotten", Deletions::ALL);
    sample.old("1.0").await;
    let yaml = "build: { registry: r.example/bases, core_version: 1.0.0, images: [{ name: alpine, folder: alpine, type: core, \
                mirror_image: r.example/m/alpine, mirror_tag: '3.20' }] }\nretention: { keep_last: 0, min_keep: 0 }";
    let report = sample
        .run(&config(yaml), ObservedRecords::NotConfigured)
        .await;
    assert_eq!(report.orphans, std::slice::from_ref(&sample.at));
    assert_eq!(sample.tags().await, names(&["1.0"]));
    // By whatever name the configuration has it.
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
async fn nothing_new_is_deleted_once_the_run_is_stopped() {
    let sample = Sample::mirror(&["1.0", "2.0"]).await;
    let plan = sample
        .plan(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
        .await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let (config, progress) = (config(MIRROR), crate::progress::silent());
    let watch = RecordWatch::new(&config, &ObservedRecords::NotConfigured, false);
    let execution = CleanupExecution {
        mode: Mode::Apply,
        stores: sample.store.stores(),
        records: &watch,
        progress,
        cancel,
    };
    let report = CleanupReport::new(&plan, execute(&plan, &execution).await);
    assert_eq!((report.interrupted, report.totals.not_done), (true, 1));
    assert_eq!(sample.tags().await, names(&["1.0", "2.0"]));
}

#[tokio::test]
async fn two_thousand_tags_take_at_most_two_requests_each() {
    let sample = Sample::new("r.example/bases/alpine", Deletions::ALL);
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
    assert_eq!(sample.store.count(Operation::Manifest), 2000);
    // The age of what is excluded anyway is of no use.
    assert_eq!(sample.store.count(Operation::Blob), 999);
    assert!(
        sample.store.calls().len() <= 2 * 2000,
        "{}",
        sample.store.calls().len()
    );
}

#[tokio::test]
async fn a_condemned_tag_that_moved_keeps_what_it_names_now() {
    for deletions in [Deletions::ALL, DIGEST_ONLY] {
        let sample = Sample::new("r.example/m/a", deletions);
        let (first, second) = (sample.old("1.148").await, sample.old("1.149").await);
        sample.old("2.0").await;
        let plan = sample
            .plan(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
            .await;
        sample.tag("1.148", &second, 0).await;
        let report = sample.execute(&plan, Mode::Apply).await;
        assert!(
            sample.tags().await.is_superset(&names(&["1.148", "2.0"])) && sample.has(&second).await,
            "{deletions:?}"
        );
        assert!(
            report
                .deleted
                .iter()
                .all(|deleted| deleted.tag.as_str() != "1.148"),
            "{deletions:?} {report:?}"
        );
        assert!(sample.has(&first).await);

        let sample = Sample::new("r.example/m/a", deletions);
        let (shared, own) = (
            sample.image("shared", json!({})).await,
            sample.image("own", json!({})).await,
        );
        let old = sample.old("1.0").await;
        sample
            .tag("1.1", &sample.index(&[&shared]).await, 365)
            .await;
        sample.old("2.0").await;
        let plan = sample
            .plan(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
            .await;
        let moved = sample.index(&[&shared, &own]).await;
        sample.tag("1.0", &moved, 0).await;
        sample.execute(&plan, Mode::Apply).await;
        assert_eq!(sample.tags().await, names(&["1.0", "2.0"]), "{deletions:?}");
        assert!(
            sample.has(&shared).await && sample.has(&own).await && sample.has(&old).await,
            "{deletions:?}"
        );
    }
}

#[tokio::test]
async fn what_refers_to_a_part_that_stays_stays() {
    for is_taken in [true, false] {
        let sample = Sample {
            store: Arc::new(MemoryPlace::default().listing_referrers()),
            at: repository("r.example/m/a"),
        };
        let (shared, own) = (
            sample.image("shared", json!({})).await,
            sample.image("own", json!({})).await,
        );
        let (one, other) = (
            sample.index(&[&shared, &own]).await,
            sample.index(&[&shared]).await,
        );
        sample.tag("1.0", &one, 365).await;
        sample.tag("1.1", &other, 365).await;
        sample.old("2.0").await;
        let signature = sample.referrer(&shared).await;
        let countersignature = sample.referrer(&signature).await;
        let gone = sample.referrer(&own).await;
        let plan = sample
            .plan(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
            .await;
        if is_taken {
            let another = sample.image("another", json!({})).await;
            sample
                .tag("8.0", &sample.index(&[&shared, &another]).await, 0)
                .await;
        } else {
            sample.store.fail_when(|call| {
                let fails = call.operation == Operation::DeleteTag && call.subject == "1.1";
                fails.then_some(Fault::Error(ItemErrorKind::ServerError))
            });
        }
        sample.execute(&plan, Mode::Apply).await;
        assert!(
            !sample.has(&one).await && sample.has(&shared).await,
            "{is_taken}"
        );
        assert!(
            sample.has(&signature).await && sample.has(&countersignature).await,
            "{is_taken}"
        );
        assert!(
            !sample.has(&own).await && !sample.has(&gone).await,
            "{is_taken}"
        );
    }
}

#[tokio::test]
async fn attachments_stay_with_what_is_taken_after_the_images_went() {
    for deletions in [Deletions::ALL, DIGEST_ONLY] {
        let sample = Sample::new("r.example/m/a", deletions);
        let child = sample.image("child", json!({})).await;
        let index = sample.index(&[&child]).await;
        sample.tag("1.0", &index, 365).await;
        sample.old("2.0").await;
        let (signature, countersignature) = (
            sample.image("signature", json!({})).await,
            sample.image("countersignature", json!({})).await,
        );
        let tags = [
            Tag::of_cosign(&child)[0].to_string(),
            Tag::of_cosign(&signature)[0].to_string(),
        ];
        sample.tag(&tags[0], &signature, 365).await;
        sample.tag(&tags[1], &countersignature, 365).await;
        // Somebody gives the child a tag while the index goes.
        let (store, at, taken) = (sample.store.clone(), sample.at.clone(), child.clone());
        sample.store.fail_when(move |call| {
            if call.operation == Operation::DeleteManifest && call.subject == index.as_str() {
                store.move_tag(&at, &tag("mine"), &taken);
            }
            None
        });
        let report = sample
            .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
            .await;
        assert_eq!(
            sample.tags().await,
            names(&["2.0", "mine", &tags[0], &tags[1]]),
            "{deletions:?} {report:?}"
        );
        assert!(sample.has(&child).await, "{deletions:?}");
        assert_eq!(
            report
                .kept
                .iter()
                .filter(|kept| kept.reason == KeepReason::AttachedToKept)
                .count(),
            2,
            "{deletions:?} {report:?}"
        );
    }
}

#[tokio::test]
async fn attachments_stay_with_what_is_pushed_again() {
    for deletions in [Deletions::ALL, DIGEST_ONLY] {
        let sample = Sample::new("r.example/m/a", deletions);
        sample.old("1.0").await;
        sample.old("2.0").await;
        let again = Sample::new("r.example/m/a", deletions)
            .image("again", json!({}))
            .await;
        let signature = Tag::of_cosign(&again)[0].to_string();
        sample
            .tag(&signature, &sample.image("signature", json!({})).await, 365)
            .await;
        let plan = sample
            .plan(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
            .await;
        assert_eq!(reason(&plan, &sample.at, &signature), None, "{deletions:?}");
        sample
            .tag("3.0", &sample.image("again", json!({})).await, 0)
            .await;
        sample.execute(&plan, Mode::Apply).await;
        assert_eq!(
            sample.tags().await,
            names(&["2.0", "3.0", &signature]),
            "{deletions:?}"
        );
    }
}

#[tokio::test]
async fn attachments_stay_with_a_part_that_could_not_be_deleted() {
    let sample = Sample::new("r.example/m/a", Deletions::ALL);
    let child = sample.image("child", json!({})).await;
    sample.tag("1.0", &sample.index(&[&child]).await, 365).await;
    sample.old("2.0").await;
    let signature = Tag::of_cosign(&child)[0].to_string();
    sample
        .tag(&signature, &sample.image("signature", json!({})).await, 365)
        .await;
    let part = child.to_string();
    sample.store.fail_when(move |call| {
        let fails = call.operation == Operation::DeleteManifest && call.subject == part;
        fails.then_some(Fault::Error(ItemErrorKind::ServerError))
    });
    sample
        .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
        .await;
    assert_eq!(sample.tags().await, names(&["2.0", &signature]));
    assert!(sample.has(&child).await);
}

const ARCHIVING: &str = "keep_last: 1, archive: { enabled: true, registry: cold.example/x }";

/// Does something once an image is being archived.
fn while_archiving(sample: &Sample, act: impl Fn() + Send + Sync + 'static) {
    sample.store.fail_when(move |call| {
        if call.operation == Operation::PutManifest
            && call.repository.to_string() == "cold.example/x/m/a"
        {
            act();
        }
        None
    });
}

#[tokio::test]
async fn what_is_taken_while_it_is_archived_stays() {
    for deletions in [Deletions::ALL, DIGEST_ONLY] {
        let sample = Sample::new("r.example/m/a", deletions);
        let old = sample.old("1.0").await;
        sample.old("2.0").await;
        let (store, at, taken) = (sample.store.clone(), sample.at.clone(), old.clone());
        while_archiving(&sample, move || store.move_tag(&at, &tag("mine"), &taken));
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
async fn a_tag_that_came_back_without_being_archived_stays_with_its_image() {
    for deletions in [Deletions::ALL, DIGEST_ONLY] {
        let sample = Sample::new("r.example/m/a", deletions);
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
async fn nothing_is_deleted_when_the_archive_names_something_else_after_the_copy() {
    let sample = Sample::mirror(&["1.0", "2.0"]).await;
    let cold = Sample {
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
            if is_tag && call.operation == Operation::PutManifest {
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

#[tokio::test]
async fn an_image_stays_when_its_tag_turns_out_to_be_undeletable() {
    let sample = Sample::new(
        "r.example/m/a",
        Deletions {
            tags: Ability::Unknown,
            manifests: Ability::Present,
        },
    );
    let old = sample.old("1.0").await;
    sample.old("2.0").await;
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
async fn a_part_with_a_tag_of_its_own_stays_when_its_index_could_not_be_deleted() {
    for deletions in [Deletions::ALL, DIGEST_ONLY] {
        let sample = Sample::new("r.example/m/a", deletions);
        let child = sample.old("1.0-amd64").await;
        let index = sample.index(&[&child]).await;
        sample.tag("1.0", &index, 365).await;
        sample.old("2.0").await;
        let of_index = index.to_string();
        sample.store.fail_when(move |call| {
            let fails = matches!(
                call.operation,
                Operation::DeleteTag | Operation::DeleteManifest
            );
            let fails = fails && (call.subject == "1.0" || call.subject == of_index);
            fails.then_some(Fault::Error(ItemErrorKind::ServerError))
        });
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
async fn what_an_attachment_leads_to_goes_after_it() {
    let sample = Sample::mirror(&["2.0"]).await;
    let (shared, own) = (
        sample.image("shared", json!({})).await,
        sample.image("own", json!({})).await,
    );
    let index = sample.index(&[&shared, &own]).await;
    sample.tag("1.0", &index, 365).await;
    let list = Tag::of_referrers(&index).to_string();
    sample
        .tag(&list, &sample.index(&[&shared]).await, 365)
        .await;
    let failing = list.clone();
    sample.store.fail_when(move |call| {
        let fails = call.operation == Operation::DeleteTag && call.subject == failing;
        fails.then_some(Fault::Error(ItemErrorKind::ServerError))
    });
    let config = mirror("keep_last: 1");
    sample.run(&config, ObservedRecords::NotConfigured).await;
    assert_eq!(sample.tags().await, names(&["2.0", &list]));
    assert!(sample.has(&shared).await && !sample.has(&own).await);
    sample.store.fail_when(|_| None);
    sample.run(&config, ObservedRecords::NotConfigured).await;
    assert_eq!(sample.tags().await, names(&["2.0"]));
    assert!(!sample.has(&shared).await);
}
