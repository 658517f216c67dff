//! Retention rules: rank and age.

use super::*;

#[tokio::test]
async fn keep_last_keeps_the_newest_versions() {
    let sample = SampleRepository::mirror(&["10.0", "1.0", "2.0", "1.10", "1.9"]).await;
    let report = sample
        .run(&mirror("keep_last: 3"), ObservedRecords::NotConfigured)
        .await;
    assert_eq!(report.exit(), Exit::Done, "{report:?}");
    assert_eq!(sample.tags().await, names(&["10.0", "2.0", "1.10"]));
    assert_eq!(
        (
            report.totals.examined,
            report.totals.deleted,
            report.totals.kept
        ),
        (5, 2, 3)
    );
}

#[tokio::test]
async fn tags_without_version_are_ranked_by_date() {
    let sample = SampleRepository::new("r.example/m/a", DeletionSupport::ALL);
    for (name, days) in [("zebra", 400), ("apple", 300), ("mango", 200)] {
        sample
            .tag(name, &sample.image(name, json!({})).await, days)
            .await;
    }
    // Attachments have no rank.
    let newest = sample.old("1.0").await;
    sample
        .tag(
            Tag::of_cosign(&newest)[0].as_str(),
            &sample.image("signature", json!({})).await,
            100,
        )
        .await;
    sample
        .run(&mirror("keep_last: 3"), ObservedRecords::NotConfigured)
        .await;
    assert_eq!(
        sample.tags().await,
        names(&["1.0", "apple", "mango", Tag::of_cosign(&newest)[0].as_str()])
    );
}

#[tokio::test]
async fn min_keep_keeps_the_newest_tags() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "3.0"]).await;
    let config = mirror("keep_last: 0, min_keep: 2");
    assert_eq!(
        sample.reason(&config, "2.0").await,
        Some(KeepReason::MinKeep)
    );
    assert_eq!(sample.reason(&config, "1.0").await, None);
    // The largest `min_keep` of several rules applies.
    let config = two_rules("keep_last: 0, min_keep: 2", "keep_last: 0, min_keep: 1");
    assert_eq!(
        sample.reason(&config, "2.0").await,
        Some(KeepReason::MinKeep)
    );
    assert_eq!(sample.reason(&config, "1.0").await, None);
}

#[tokio::test]
async fn latest_has_no_rank() {
    let sample = SampleRepository::mirror(&["1.0", "latest", "abc"]).await;
    let config = mirror("keep_last: 1, min_keep: 0");
    assert_eq!(
        sample.reason(&config, "1.0").await,
        Some(KeepReason::KeepLast)
    );
    assert_eq!(sample.reason(&config, "abc").await, None);
    sample.tag("latest", &sample.old("latest").await, 10).await;
    assert_eq!(
        sample
            .reason(&mirror("keep_last: 2, min_keep: 0"), "abc")
            .await,
        Some(KeepReason::KeepLast)
    );
}

#[tokio::test]
async fn tags_younger_than_a_day_are_kept() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    sample
        .store
        .date_tag(&sample.at, &tag("1.0"), now() - TimeDelta::hours(23));
    assert_eq!(
        sample.reason(&mirror("keep_last: 1"), "1.0").await,
        Some(KeepReason::Young)
    );
    sample
        .store
        .date_tag(&sample.at, &tag("1.0"), now() + TimeDelta::hours(5));
    assert_eq!(
        sample.reason(&mirror("keep_last: 1"), "1.0").await,
        Some(KeepReason::Young)
    );
    sample
        .store
        .date_tag(&sample.at, &tag("1.0"), now() - TimeDelta::hours(24));
    assert_eq!(sample.reason(&mirror("keep_last: 1"), "1.0").await, None);
}

#[tokio::test]
async fn match_combines_rank_and_age() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "3.0"]).await;
    sample
        .store
        .date_tag(&sample.at, &tag("1.0"), now() - TimeDelta::days(10));
    let all = mirror("keep_last: 1, max_age_days: 30");
    assert_eq!(
        sample.reason(&all, "1.0").await,
        Some(KeepReason::NotOldEnough)
    );
    assert_eq!(sample.reason(&all, "2.0").await, None);
    // A tag of exactly that age is not older.
    sample
        .store
        .date_tag(&sample.at, &tag("1.0"), now() - TimeDelta::days(30));
    assert_eq!(
        sample.reason(&all, "1.0").await,
        Some(KeepReason::NotOldEnough)
    );
    sample.store.date_tag(
        &sample.at,
        &tag("1.0"),
        now() - TimeDelta::days(30) - TimeDelta::seconds(1),
    );
    assert_eq!(sample.reason(&all, "1.0").await, None);
    sample
        .store
        .date_tag(&sample.at, &tag("1.0"), now() - TimeDelta::days(10));
    let any = mirror("keep_last: 2, max_age_days: 30, match: any");
    assert_eq!(sample.reason(&any, "1.0").await, None);
    assert_eq!(sample.reason(&any, "2.0").await, None);
    assert_eq!(sample.reason(&any, "3.0").await, Some(KeepReason::MinKeep));
    let any = mirror("keep_last: 3, max_age_days: 30, match: any");
    assert_eq!(sample.reason(&any, "1.0").await, Some(KeepReason::KeepLast));
}

#[tokio::test]
async fn unknown_or_impossible_dates_are_no_age() {
    let sample = SampleRepository::new("r.example/m/a", DeletionSupport::ALL);
    for name in ["1.0", "2.0", "3.0"] {
        sample.old(name).await;
    }
    sample
        .store
        .date_tag(&sample.at, &tag("1.0"), DateTime::UNIX_EPOCH);
    let config = mirror("keep_last: 1, max_age_days: 30");
    assert_eq!(
        sample.reason(&config, "1.0").await,
        Some(KeepReason::AgeUnknown)
    );
    assert_eq!(
        sample
            .reason(&mirror("keep_last: 1, max_age_days: 30, match: any"), "1.0")
            .await,
        None
    );
    assert_eq!(
        sample
            .reason(&mirror("keep_last: 3, max_age_days: 30, match: any"), "1.0")
            .await,
        Some(KeepReason::KeepLast)
    );
}

#[tokio::test]
async fn base_age_is_read_from_labels() {
    let sample = SampleRepository::new("r.example/bases/alpine", DeletionSupport::ALL);
    let made = |time: &str| json!({ "org.opencontainers.image.created": time });
    for (name, labels) in [
        ("3.10-core1.0.0", made("2025-01-01T00:00:00Z")),
        ("3.11-core1.0.0", made("2026-02-20T00:00:00Z")),
        ("3.12-core1.0.0", made("1970-01-01T00:00:00Z")),
        ("3.13-core1.0.0", json!({})),
        ("3.14-core1.0.0", made("2026-02-28T12:00:00Z")),
    ] {
        let digest = sample.image(name, labels).await;
        let index = sample.index(&[&digest]).await;
        sample.tag_undated(name, &index).await;
    }
    let all = bases("keep_last: 0, min_keep: 0, max_age_days: 30, require_records: false");
    assert_eq!(sample.reason(&all, "3.10-core1.0.0").await, None);
    assert_eq!(
        sample.reason(&all, "3.11-core1.0.0").await,
        Some(KeepReason::NotOldEnough)
    );
    assert_eq!(
        sample.reason(&all, "3.12-core1.0.0").await,
        Some(KeepReason::AgeUnknown)
    );
    assert_eq!(
        sample.reason(&all, "3.13-core1.0.0").await,
        Some(KeepReason::AgeUnknown)
    );
    assert_eq!(
        sample.reason(&all, "3.14-core1.0.0").await,
        Some(KeepReason::Young)
    );
}

#[tokio::test]
async fn base_is_as_young_as_the_latest_of_its_dates() {
    const OLD: i64 = 400;
    let rules = "keep_last: 0, min_keep: 0, max_age_days: 30, require_records: false";
    for (created, pushed, expected) in [
        (Some(OLD), Some(OLD), None),
        (Some(OLD), None, None),
        (None, Some(OLD), None),
        (None, None, Some(KeepReason::AgeUnknown)),
        // `SOURCE_DATE_EPOCH`, or a tag that was put on an older image.
        (Some(OLD), Some(0), Some(KeepReason::Young)),
        (Some(OLD), Some(10), Some(KeepReason::NotOldEnough)),
        (Some(0), Some(OLD), Some(KeepReason::Young)),
        (Some(10), Some(OLD), Some(KeepReason::NotOldEnough)),
    ] {
        let sample = SampleRepository::new("r.example/bases/alpine", DeletionSupport::ALL);
        let labels = created.map_or(json!({}), |days| {
            let created = (now() - TimeDelta::days(days)).to_rfc3339();
            json!({ "org.opencontainers.image.created": created })
        });
        let image = sample.image("1", labels).await;
        match pushed {
            Some(days) => sample.tag("3.10-core1.0.0", &image, days).await,
            None => sample.tag_undated("3.10-core1.0.0", &image).await,
        }
        let found = sample.reason(&bases(rules), "3.10-core1.0.0").await;
        assert_eq!(found, expected, "created {created:?}, pushed {pushed:?}");
    }
}

#[tokio::test]
async fn mirror_is_as_old_as_its_push() {
    let sample = SampleRepository::mirror(&["2.0"]).await;
    let created = json!({ "org.opencontainers.image.created": now().to_rfc3339() });
    for (name, pushed) in [("1.0", Some(400)), ("1.1", None), ("1.2", Some(0))] {
        let image = sample.image(name, created.clone()).await;
        match pushed {
            Some(days) => sample.tag(name, &image, days).await,
            None => sample.tag_undated(name, &image).await,
        }
    }
    let config = mirror("keep_last: 1, max_age_days: 30");
    for (name, expected) in [
        ("1.0", None),
        ("1.1", Some(KeepReason::AgeUnknown)),
        ("1.2", Some(KeepReason::Young)),
    ] {
        assert_eq!(sample.reason(&config, name).await, expected, "{name}");
    }
}

#[tokio::test]
async fn refused_push_dates_of_a_base_leave_its_creation_date() {
    let rules = "keep_last: 0, min_keep: 0, max_age_days: 30, require_records: false";
    let sample = SampleRepository::new("r.example/bases/alpine", DeletionSupport::ALL);
    let created = json!({ "org.opencontainers.image.created": "2025-01-01T00:00:00Z" });
    let image = sample.image("1", created).await;
    sample.tag("3.10-core1.0.0", &image, 0).await;
    for (kind, is_deleted) in [
        (ItemErrorKind::Absent, true),
        (ItemErrorKind::Unauthorized, true),
        (ItemErrorKind::Forbidden, true),
        // The dates exist, so that the tag may be young.
        (ItemErrorKind::Unreachable, false),
        (ItemErrorKind::RateLimited, false),
    ] {
        sample.store.fail_when(move |call| {
            (call.operation == StoreOperation::PushDates).then_some(StoreFault::Error(kind))
        });
        let plan = sample
            .plan(&bases(rules), ObservedRecords::NotConfigured)
            .await;
        assert_eq!(plan.deletions().count() == 1, is_deleted, "{kind:?}");
    }
}

#[tokio::test]
async fn nothing_is_deleted_while_a_clock_is_wrong() {
    let config = mirror("keep_last: 1, max_delete_percent: 100");
    for (host, seconds, deleted) in [
        ("r.example", 299, 1),
        ("r.example", -299, 1),
        ("r.example", 301, 0),
        ("r.example", -34_560_000, 0),
        ("up.example", 34_560_000, 0),
    ] {
        let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
        sample
            .store
            .set_clock_offset(host.parse().expect("a host"), TimeDelta::seconds(seconds));
        let report = sample.run(&config, ObservedRecords::NotConfigured).await;
        let exit = if deleted == 1 {
            Exit::Done
        } else {
            Exit::Failed
        };
        assert_eq!(
            (report.totals.deleted, report.exit()),
            (deleted, exit),
            "{host} {seconds}"
        );
        if deleted == 0 {
            let reason = &report
                .kept
                .iter()
                .find(|kept| kept.tag == tag("1.0"))
                .expect("the tag")
                .reason;
            assert!(
                matches!(reason, KeepReason::RepositoryFailed(cause) if cause.starts_with("this machine's clock is ")),
                "{reason:?}"
            );
        }
    }
}

#[tokio::test]
async fn recorded_tag_without_version_is_ranked_by_date() {
    let sample = SampleRepository::new("r.example/bases/alpine", DeletionSupport::ALL);
    for (name, month) in [("apple", 1), ("mango", 2), ("zebra", 3)] {
        let labels =
            json!({ "org.opencontainers.image.created": format!("2025-0{month}-01T00:00:00Z") });
        sample
            .tag(name, &sample.image(name, labels).await, 365)
            .await;
    }
    let named = record(
        "r.example/apps/a:1",
        Some("r.example/bases/alpine:zebra"),
        None,
    );
    let plan = sample
        .plan(&bases("keep_last: 2, min_keep: 0"), records(vec![named]))
        .await;
    assert_eq!(
        reason(&plan, &sample.at, "mango"),
        Some(KeepReason::KeepLast)
    );
    assert_eq!(reason(&plan, &sample.at, "apple"), None);
}

#[tokio::test]
async fn dates_are_read_only_where_needed_and_once_for_shared_content() {
    let sample = SampleRepository::new("r.example/bases/alpine", DeletionSupport::ALL);
    let image = sample
        .image(
            "shared",
            json!({ "org.opencontainers.image.created": "2025-01-01T00:00:00Z" }),
        )
        .await;
    for version in 0..10 {
        let other = sample.image(&format!("other {version}"), json!({})).await;
        let name = format!("3.{version}-core1.0.0");
        sample
            .tag(&name, &sample.index(&[&image, &other]).await, 365)
            .await;
    }
    let cache = SharedCache::default();
    let stores = sample.store.stores();
    let progress = crate::progress::silent();
    let observer = Observer {
        limits: ReadingLimits::default(),
        stores: &stores,
        cache: &cache,
        progress: &*progress,
        now: now(),
    };
    let config = bases("keep_last: 5, max_age_days: 30, require_records: false");
    // The index of each tag, then the shared image and configuration. The second run has all of them
    // in the cache.
    for expected in [(11, 1), (0, 0)] {
        sample.store.clear_calls();
        let world = observe(
            &config,
            &CleanupScope::default(),
            ObservedRecords::NotConfigured,
            observer,
        )
        .await;
        assert_eq!(plan(&world, &policy()).deletions().count(), 5);
        assert_eq!(
            (
                sample.store.count(StoreOperation::Manifest),
                sample.store.count(StoreOperation::Blob)
            ),
            expected
        );
    }
}

#[tokio::test]
async fn tags_without_manifest_have_no_rank_and_block_nothing() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
        for name in ["1.0", "1.1", "1.2", "1.3"] {
            sample.old(name).await;
        }
        for name in ["2.0", "2.1", "2.2"] {
            let missing = sample.old(name).await;
            sample.store.lose_manifest(&sample.at, &missing);
        }
        let config = mirror("keep_last: 3");
        assert_eq!(
            sample.reason(&config, "2.0").await,
            Some(KeepReason::Absent)
        );
        assert_eq!(
            sample.reason(&config, "1.1").await,
            Some(KeepReason::KeepLast),
            "{deletions:?}"
        );
        assert_eq!(sample.reason(&config, "1.0").await, None, "{deletions:?}");
        // One of four is deleted, not one of seven.
        let plan = plan(
            &sample.world(&config, ObservedRecords::NotConfigured).await,
            &CleanupPolicy {
                max_delete_percent: Some(24),
                ..policy()
            },
        );
        assert_eq!(
            reason(&plan, &sample.at, "1.0"),
            Some(KeepReason::TooMany),
            "{deletions:?}"
        );
        let report = sample.run(&config, ObservedRecords::NotConfigured).await;
        assert_eq!(
            (report.exit(), report.totals.deleted),
            (Exit::Done, 1),
            "{report:?}"
        );
    }
}

#[tokio::test]
async fn replaced_images_have_no_rank_and_are_deleted_by_age_or_with_their_tag() {
    // Replaced on January 31, so their age counts from February 1: 28 days.
    let pins = [
        "3.0-replaced.20260131",
        "3.0-replaced.20260131.2",
        "0.9-replaced.20260131",
    ];
    let sample = SampleRepository::mirror(&[
        "3.0",
        "2.1",
        "2.0",
        pins[0],
        pins[1],
        pins[2],
        "3.0-replaced.20260227",
    ])
    .await;
    let reasons = async |rules: &str, name: &str| sample.reason(&mirror(rules), name).await;
    for (rules, name, expected) in [
        ("keep_last: 2", "2.1", Some(KeepReason::KeepLast)),
        ("keep_last: 2", "2.0", None),
        (
            "keep_last: 0, min_keep: 2",
            "2.1",
            Some(KeepReason::MinKeep),
        ),
        (
            "keep_last: 2",
            pins[0],
            Some(KeepReason::ReplacedBy(tag("3.0"))),
        ),
        (
            "keep_last: 2",
            pins[1],
            Some(KeepReason::ReplacedBy(tag("3.0"))),
        ),
        // Its tag does not exist.
        ("keep_last: 2", pins[2], None),
        (
            "keep_last: 2, max_age_days: 28",
            pins[0],
            Some(KeepReason::NotOldEnough),
        ),
        (
            "keep_last: 2, max_age_days: 28, match: any",
            pins[2],
            Some(KeepReason::NotOldEnough),
        ),
        ("keep_last: 2, max_age_days: 27", pins[0], None),
        ("keep_last: 2, max_age_days: 27", pins[1], None),
        (
            "keep_last: 2, max_age_days: 0",
            "3.0-replaced.20260227",
            None,
        ),
    ] {
        assert_eq!(reasons(rules, name).await, expected, "{rules}: {name}");
    }
    let young = SampleRepository::mirror(&["3.0", "0.9-replaced.20260228"]).await;
    assert_eq!(
        young
            .reason(&mirror("keep_last: 1"), "0.9-replaced.20260228")
            .await,
        Some(KeepReason::Young)
    );
    // It is deleted with its tag.
    let sample = SampleRepository::mirror(&["3.0", "2.0", "2.0-replaced.20260131"]).await;
    sample
        .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
        .await;
    assert_eq!(sample.tags().await, names(&["3.0"]));
}

#[tokio::test]
async fn tag_is_deleted_only_if_all_rules_delete_it() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "3.0"]).await;
    let yaml = "sync: { entries: [{ source: up.example/a, target: r.example/m/a, tag: '8', retention: { keep_last: 2 } }, \
                { source: up.example/a, target: r.example/m/a, tag: '9' }] }\nretention: { keep_last: 1 }";
    let config = config(yaml);
    assert_eq!(
        sample.reason(&config, "2.0").await,
        Some(KeepReason::KeepLast)
    );
    assert_eq!(sample.reason(&config, "1.0").await, None);
}

#[tokio::test]
async fn unknown_ages_are_noted_once_for_each_repository() {
    let dated = SampleRepository::mirror(&["1.0", "1.1", "2.0"]).await;
    let sample = SampleRepository::new("r.example/m/a", DeletionSupport::ALL);
    for name in ["1.0", "1.1", "1.1-replaced.20200101", "2.0"] {
        let digest = sample.image(name, json!({})).await;
        sample.store.move_tag(&sample.at, &tag(name), &digest);
    }
    for (sample, count) in [(sample, 1), (dated, 0)] {
        let report = sample
            .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
            .await;
        let note = "r.example/m/a: the age of 2 of the tags to delete is unknown, so the 24-hour protection does not apply to them";
        assert_eq!(report.notes, vec![note; count]);
    }
}

#[tokio::test]
async fn a_push_date_before_2013_does_not_hide_the_creation_date() {
    let sample = SampleRepository::new("r.example/bases/alpine", DeletionSupport::ALL);
    for (name, created) in [("1.0", 400), ("2.0", 5)] {
        let created = (now() - TimeDelta::days(created)).to_rfc3339();
        let labels = json!({ "org.opencontainers.image.created": created });
        let image = sample.image(name, labels).await;
        sample.tag(name, &image, 20_000).await;
    }
    let config =
        bases("keep_last: 9, min_keep: 0, max_age_days: 100, match: any, require_records: false");
    assert_eq!(sample.reason(&config, "1.0").await, None);
    let kept = sample.reason(&config, "2.0").await;
    assert_eq!(kept, Some(KeepReason::KeepLast));
}

#[tokio::test]
async fn keep_last_counts_per_release_line_or_variant() {
    let tags = [
        "3.20.1",
        "3.20.2",
        "3.20",
        "3.20.1-alpine3.19",
        "3.20.1-alpine3.20",
        "3.19.4",
        "v3.19.5",
        "1.2.3-slim-bookworm",
        "1.2.4-slim-bookworm",
        "1.2.3-rc1-slim-bookworm",
        "v1.2.3",
        "2024.05.1",
        "2024.5.2",
        "2024.06.1",
        "12-core1.0.0",
        "12-core1.1.0",
        "20240501",
        "edge",
        "nightly",
    ];
    let sample = SampleRepository::new("r.example/m/a", DeletionSupport::ALL);
    for name in tags {
        sample.old(name).await;
    }
    sample
        .tag("nightly", &sample.old("nightly").await, 10)
        .await;
    for (rules, kept) in [
        // `20240501` was the newest in the former order, which keeps it.
        ("keep_last: 1", &["2024.06.1", "20240501"][..]),
        ("keep_last: 1, per: repository", &["2024.06.1", "20240501"]),
        (
            "keep_last: 1, per: minor",
            &[
                "3.20.2",
                "v3.19.5",
                "1.2.4-slim-bookworm",
                "2024.5.2",
                "2024.06.1",
                "12-core1.1.0",
                "20240501",
                "nightly",
            ],
        ),
        (
            "keep_last: 2, per: minor",
            &[
                "3.20.2",
                "3.20.1",
                "3.20.1-alpine3.20",
                "3.19.4",
                "v3.19.5",
                "1.2.4-slim-bookworm",
                "1.2.3-slim-bookworm",
                "v1.2.3",
                "2024.05.1",
                "2024.5.2",
                "2024.06.1",
                "12-core1.0.0",
                "12-core1.1.0",
                "20240501",
                "edge",
                "nightly",
            ],
        ),
        (
            "keep_last: 1, per: variant",
            &[
                "20240501",
                "2024.06.1",
                "3.20.1-alpine3.20",
                "1.2.4-slim-bookworm",
                "12-core1.1.0",
                "nightly",
            ],
        ),
        (
            "keep_last: 2, per: variant",
            &[
                "20240501",
                "2024.06.1",
                "2024.5.2",
                "3.20.1-alpine3.19",
                "3.20.1-alpine3.20",
                "1.2.3-slim-bookworm",
                "1.2.4-slim-bookworm",
                "12-core1.0.0",
                "12-core1.1.0",
                "edge",
                "nightly",
            ],
        ),
        // The smallest number that remains counts in the whole repository.
        (
            "keep_last: 0, min_keep: 3, per: minor",
            &["20240501", "2024.06.1", "2024.5.2", "2024.05.1"],
        ),
    ] {
        let plan = sample
            .plan(&mirror(rules), ObservedRecords::NotConfigured)
            .await;
        let deleted: BTreeSet<String> = plan
            .deletions()
            .map(|(_, tag, _)| tag.to_string())
            .collect();
        assert_eq!(&names(&tags) - &deleted, names(kept), "{rules}");
    }
}

#[tokio::test]
async fn each_rule_counts_in_its_own_groups() {
    let sample =
        SampleRepository::mirror(&["1.0", "1.1.1-slim", "1.1.0", "2.0.1-slim", "2.0.0", "2.1"])
            .await;
    let config = two_rules("keep_last: 1, per: minor", "keep_last: 1, per: variant");
    for (name, expected) in [
        ("2.1", Some(KeepReason::MinKeep)),
        ("2.0.1-slim", Some(KeepReason::KeepLast)),
        ("2.0.0", None),
        ("1.1.0", None),
        ("1.1.1-slim", Some(KeepReason::KeepLast)),
        ("1.0", Some(KeepReason::KeepLast)),
    ] {
        assert_eq!(sample.reason(&config, name).await, expected, "{name}");
    }
}

#[tokio::test]
async fn tag_without_manifest_takes_no_place_in_its_release_line() {
    let sample = SampleRepository::mirror(&["1.0.0", "1.0.1", "2.0.0", "2.0.1"]).await;
    let missing = sample.old("1.0.2").await;
    sample.store.lose_manifest(&sample.at, &missing);
    let config = mirror("keep_last: 1, min_keep: 0, per: minor");
    assert_eq!(
        sample.reason(&config, "1.0.1").await,
        Some(KeepReason::KeepLast)
    );
    assert_eq!(sample.reason(&config, "1.0.0").await, None);
    assert_eq!(sample.reason(&config, "2.0.0").await, None);
}
