//! Listings that lack tags.

use super::*;

const DOUBT: &str = "the registry repeats tags instead of listing those after `2.0`";

/// Writes `1.0` and `2.0`, and `zz` with the image of `1.0`, which is not listed.
async fn cut_listing(deletions: DeletionSupport) -> (SampleRepository, Digest) {
    let sample = SampleRepository::new("r.example/m/a", deletions);
    let old = sample.old("1.0").await;
    sample.tag("zz", &old, 365).await;
    sample.old("2.0").await;
    sample.store.hide_tag(&sample.at, &tag("zz"));
    (sample, old)
}

async fn resolves(sample: &SampleRepository, name: &str) -> bool {
    let found = sample.store.resolve(&sample.at, &tag(name).into()).await;
    found.expect("to resolve").is_some()
}

#[tokio::test]
async fn nothing_is_deleted_by_digest_while_a_listing_is_in_doubt() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        let (sample, old) = cut_listing(deletions).await;
        let index = sample.index(&[&old]).await;
        sample.tag("1.1", &index, 365).await;
        sample.store.doubt_listings(Some(DOUBT));
        let report = sample
            .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
            .await;
        assert!(
            resolves(&sample, "zz").await && sample.has(&index).await,
            "{deletions:?}"
        );
        let by_tag = deletions.tags == Support::Supported;
        assert_eq!(resolves(&sample, "1.0").await, !by_tag, "{deletions:?}");
        assert_eq!(report.exit(), Exit::Done, "{report:?}");
        let reasons = report
            .kept
            .iter()
            .filter(|kept| kept.reason == KeepReason::ListingNotProved(DOUBT.to_owned()));
        assert_eq!(reasons.count(), if by_tag { 0 } else { 2 }, "{report:?}");
        assert!(
            report.warnings.len() == 1
                && report.warnings[0].contains("nothing is deleted by digest")
                && report.warnings[0].contains(DOUBT),
            "{report:?}"
        );
        // Without the doubt and the hidden tag, the same images go.
        sample.store.doubt_listings(None);
        sample.store.forget_tag(&sample.at, &tag("zz"));
        let report = sample
            .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
            .await;
        assert_eq!(report.warnings, Vec::<String>::new());
        assert_eq!(sample.tags().await, names(&["2.0"]), "{deletions:?}");
        assert_eq!(sample.has(&old).await, by_tag, "{deletions:?}");
    }
}

#[tokio::test]
async fn plan_deletes_no_image_by_digest_while_the_listing_is_in_doubt() {
    for (doubt, method) in [
        (None, DeletionMethod::TagsThenManifest),
        (Some(DOUBT), DeletionMethod::Tags),
    ] {
        // Listings of bases are proved when they are read.
        let sample = SampleRepository::new("r.example/bases/alpine", DeletionSupport::ALL);
        for name in ["1.0.0-alpine3.1", "1.0.0-alpine3.2"] {
            sample.old(name).await;
        }
        sample.store.doubt_listings(doubt);
        let config = bases("keep_last: 1, require_records: false");
        let plan = sample.plan(&config, ObservedRecords::NotConfigured).await;
        let planned = plan
            .repositories
            .iter()
            .find(|planned| planned.repository == sample.at)
            .expect("the repository");
        assert_eq!(planned.groups.len(), 1);
        assert_eq!(planned.groups[0].method, method, "{doubt:?}");
    }
}

#[tokio::test]
async fn recorded_tag_that_is_not_listed_stops_the_repository() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        for (named, is_stopped) in [
            ("r.example/m/a:zz", true),
            ("r.example/m/a:gone", false),
            ("r.example/m/b:zz", false),
            // Some registries list tags in lower case.
            ("r.example/m/a:2.0-RC", false),
        ] {
            let (sample, old) = cut_listing(deletions).await;
            let other = sample.old("2.0-rc").await;
            sample.store.move_tag(&sample.at, &tag("2.0-RC"), &other);
            sample.store.hide_tag(&sample.at, &tag("2.0-RC"));
            let on = record("r.example/apps/a:1", Some(named), None);
            let report = sample.run(&mirror("keep_last: 2"), records(vec![on])).await;
            assert_eq!(sample.has(&old).await, is_stopped, "{deletions:?} {named}");
            if is_stopped {
                assert_eq!(report.exit(), Exit::Failed, "{report:?}");
                assert_eq!(report.totals.deleted, 0, "{report:?}");
                assert!(
                    report.errors[0].error.cause.starts_with(
                        "the listing lacks the tag zz, which a record names and which exists"
                    ),
                    "{report:?}"
                );
            } else {
                assert_eq!(report.totals.deleted, 1, "{report:?}");
            }
        }
    }
}

#[tokio::test]
async fn lookups_of_recorded_tags_are_limited() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let gone = (0..1_000).map(|number| {
        let base = format!("r.example/m/a:gone-{number}");
        record(&format!("r.example/apps/a:{number}"), Some(&base), None)
    });
    let gone = records(gone.collect());
    sample.store.clear_calls();
    sample.world(&mirror("keep_last: 1"), gone.clone()).await;
    assert_eq!(sample.store.count(StoreOperation::Resolve), 100);
    // Without a tag to delete, nothing is looked up.
    sample.store.clear_calls();
    sample.world(&mirror("keep_last: 2"), gone).await;
    assert_eq!(sample.store.count(StoreOperation::Resolve), 0);
}

#[tokio::test]
async fn kept_tag_that_a_later_listing_lacks_stops_deletions_by_digest() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        for is_moved in [true, false] {
            let sample = SampleRepository::new("r.example/m/a", deletions);
            let old = sample.old("1.0").await;
            sample.old("2.0").await;
            sample.old("2.1").await;
            let plan = sample
                .plan(&mirror("keep_last: 2"), ObservedRecords::NotConfigured)
                .await;
            if is_moved {
                // The kept tag names the old image now, and the listing ends before it.
                sample.tag("2.1", &old, 0).await;
                sample.store.hide_tag(&sample.at, &tag("2.1"));
            } else {
                sample.store.forget_tag(&sample.at, &tag("2.1"));
            }
            let report = sample.execute(&plan, Mode::Apply).await;
            assert_eq!(sample.has(&old).await, is_moved, "{deletions:?}");
            assert_eq!(report.exit(), Exit::Failed, "{deletions:?} {report:?}");
            let cause = if is_moved {
                "the listing lacks the tag 2.1"
            } else {
                "it was kept, and is gone after the run"
            };
            assert!(
                report.failed[0].error.cause.contains(cause),
                "{deletions:?} {report:?}"
            );
        }
    }
}
