//! Changes by others between the plan and the deletions.

use super::*;

#[tokio::test]
async fn images_that_changed_since_the_plan_are_kept() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
        let mut digests = Vec::new();
        for name in ["1.0", "1.1", "1.2", "2.0"] {
            digests.push(sample.old(name).await);
        }
        let plan = sample
            .plan(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
            .await;
        // One tag is moved, and another image gets a second tag.
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
async fn kept_tag_moved_to_a_planned_image_keeps_it() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
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
        // A release is taken back, in the last case to one of its platforms.
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
        let sample = SampleRepository::new("r.example/m/a", deletions);
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
async fn long_run_reads_the_repository_again() {
    let sample = SampleRepository::new("r.example/m/a", DeletionSupport::ALL);
    for version in 0..131 {
        sample.old(&format!("1.{version}")).await;
    }
    let plan = sample
        .plan(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
        .await;
    sample.store.clear_calls();
    let report = sample.execute(&plan, Mode::Apply).await;
    assert_eq!(
        (
            report.totals.deleted,
            sample.store.count(StoreOperation::Tags)
        ),
        // One before each 64 deletions, and one at the end.
        (130, 3 + 1)
    );
    // Reads, asks for referrers and deletes each image once. Looks up the kept tag, and the first
    // deleted one.
    let operations = [
        StoreOperation::Manifest,
        StoreOperation::Referrers,
        StoreOperation::DeleteManifest,
        StoreOperation::DeleteTag,
        StoreOperation::Resolve,
    ];
    assert_eq!(
        operations.map(|operation| sample.store.count(operation)),
        [130, 130, 130, 0, 2]
    );
}

#[tokio::test]
async fn planned_tag_that_was_moved_keeps_its_new_image() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
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

        let sample = SampleRepository::new("r.example/m/a", deletions);
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
async fn referrers_of_a_kept_part_are_kept() {
    for is_taken in [true, false] {
        let sample = SampleRepository {
            store: Arc::new(MemoryStore::default().listing_referrers()),
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
        let deleted = sample.referrer(&own).await;
        let plan = sample
            .plan(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
            .await;
        if is_taken {
            let another = sample.image("another", json!({})).await;
            sample
                .tag("8.0", &sample.index(&[&shared, &another]).await, 0)
                .await;
        } else {
            sample.fail_deletion(&["1.1", other.as_str()], ItemErrorKind::ServerError);
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
            !sample.has(&own).await && !sample.has(&deleted).await,
            "{is_taken}"
        );
    }
}

#[tokio::test]
async fn attachments_are_kept_with_a_part_that_is_tagged_meanwhile() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
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
        // The child gets a tag while the index is deleted.
        let (store, at, claimed) = (sample.store.clone(), sample.at.clone(), child.clone());
        sample.store.fail_when(move |call| {
            if call.operation == StoreOperation::DeleteManifest && call.subject == index.as_str() {
                store.move_tag(&at, &tag("mine"), &claimed);
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
async fn attachments_are_kept_with_an_image_that_is_pushed_again() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
        sample.old("1.0").await;
        sample.old("2.0").await;
        let again = SampleRepository::new("r.example/m/a", deletions)
            .image("again", json!({}))
            .await;
        let signature = Tag::of_cosign(&again)[0].to_string();
        sample
            .tag(&signature, &sample.image("signature", json!({})).await, 365)
            .await;
        let mut world = sample
            .world(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
            .await;
        // An earlier cleanup deleted the image.
        world.repositories[0].missing_subjects = BTreeSet::from([Tag::of_referrers(&again)]);
        let plan = plan(&world, &policy());
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
