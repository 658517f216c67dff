//! Protections by records and by the configuration.

use super::*;

#[tokio::test]
async fn excluded_tags_and_latest_are_kept() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "2.0-lts", "3.0", "latest"]).await;
    let config = mirror("keep_last: 0, min_keep: 0, exclude_tags: ['1.0', '/.*-lts/']");
    assert_eq!(
        sample.reason(&config, "1.0").await,
        Some(KeepReason::Excluded)
    );
    assert_eq!(
        sample.reason(&config, "2.0-lts").await,
        Some(KeepReason::Excluded)
    );
    assert_eq!(
        sample.reason(&config, "latest").await,
        Some(KeepReason::Latest)
    );
    assert_eq!(sample.reason(&config, "2.0").await, None);
    // A pattern must match the whole tag.
    let config = mirror("keep_last: 0, min_keep: 0, exclude_tags: ['/2/']");
    assert_eq!(sample.reason(&config, "2.0").await, None);
}

#[tokio::test]
async fn selected_tags_are_kept_and_all_tags_if_the_selection_is_unknown() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "3.0", "4.0"]).await;
    let yaml = "sync: { entries: [{ source: up.example/a, target: r.example/m/a, tag_regex: '[0-9.]+', keep_last: 1 }, \
                { source: up.example/b, target: r.example/m/a, tag: '2.0' }] }\nretention: { keep_last: 1 }";
    let config = config(yaml);
    // The upstream repository does not exist.
    assert!(
        matches!(sample.reason(&config, "1.0").await, Some(KeepReason::UpstreamUnknown(cause)) if cause.contains("up.example/a"))
    );
    let up = SampleRepository {
        store: sample.store.clone(),
        at: repository("up.example/a"),
    };
    // At least half of what the mirror has.
    up.old("0.9").await;
    up.old("1.0").await;
    assert_eq!(
        sample.reason(&config, "1.0").await,
        Some(KeepReason::Selected)
    );
    assert_eq!(
        sample.reason(&config, "2.0").await,
        Some(KeepReason::Selected)
    );
    assert_eq!(sample.reason(&config, "3.0").await, None);
    sample.store.fail_when(|call| {
        let fails =
            call.operation == StoreOperation::Tags && call.repository.to_string() == "up.example/a";
        fails.then_some(StoreFault::Error(ItemErrorKind::ServerError))
    });
    assert!(matches!(
        sample.reason(&config, "3.0").await,
        Some(KeepReason::UpstreamUnknown(_))
    ));
}

#[tokio::test]
async fn built_tags_and_their_bases_are_kept() {
    let sample = SampleRepository::new("r.example/bases/alpine", DeletionSupport::ALL);
    let mirror = SampleRepository {
        store: sample.store.clone(),
        at: repository("r.example/m/alpine"),
    };
    for name in [
        "3.20-core1.0.0",
        "3.19-core1.0.0",
        "3.20-core0.9.0",
        "3.20",
        "stable",
        "3.18-core1.0.0",
    ] {
        sample.old(name).await;
    }
    for name in ["3.20", "3.19", "3.18", "3.17"] {
        mirror.old(name).await;
    }
    let config = bases("keep_last: 0, min_keep: 0, require_records: false");
    for name in ["3.20-core1.0.0", "3.19-core1.0.0", "3.20", "stable"] {
        assert_eq!(
            sample.reason(&config, name).await,
            Some(KeepReason::Built),
            "{name}"
        );
    }
    assert_eq!(sample.reason(&config, "3.20-core0.9.0").await, None);
    assert_eq!(
        mirror.reason(&config, "3.19").await,
        Some(KeepReason::UsedByBuild)
    );
    assert_eq!(mirror.reason(&config, "3.18").await, None);
    // Aliases have no rank.
    let config = bases("keep_last: 3, min_keep: 0, require_records: false");
    assert_eq!(
        sample.reason(&config, "3.20-core0.9.0").await,
        Some(KeepReason::KeepLast)
    );
    assert_eq!(sample.reason(&config, "3.18-core1.0.0").await, None);
    let config = bases("keep_last: 4, min_keep: 0, require_records: false");
    assert_eq!(
        sample.reason(&config, "3.18-core1.0.0").await,
        Some(KeepReason::KeepLast)
    );
}

#[tokio::test]
async fn all_tags_are_kept_if_built_tags_are_unknown() {
    let sample = SampleRepository::new("r.example/bases/alpine", DeletionSupport::ALL);
    for name in ["3.20-core1.0.0", "3.18-core1.0.0"] {
        sample.old(name).await;
    }
    let open = "sync: { entries: [{ source: up.example/alpine, target: r.example/m/alpine, tag_regex: '.*' }] }
build: { registry: r.example/bases, core_version: 1.0.0, images: [{ name: alpine, folder: alpine, type: core, mirror_image: r.example/m/alpine }] }
retention: { keep_last: 0, min_keep: 0, require_records: false }";
    assert!(matches!(
        sample.reason(&config(open), "3.18-core1.0.0").await,
        Some(KeepReason::BuildUnknown(_))
    ));
}

#[tokio::test]
async fn recorded_digests_are_kept_in_every_repository() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "5.0", "6.0"]).await;
    let child = sample.image("child", json!({})).await;
    let index = sample.index(&[&child]).await;
    sample.tag("3.0", &index, 365).await;
    let config = mirror("keep_last: 1, min_keep: 0");
    let by_tag = record("r.example/apps/one:1", Some("r.example/m/a:1.0"), None);
    let by_digest = record(
        "r.example/apps/two:1",
        Some("elsewhere.example/x:1"),
        Some(&child),
    );
    let own = record("r.example/m/a:2.0", None, None);
    let copied = record(
        &format!("elsewhere.example/y:1@{}", sample.old("4.0").await),
        None,
        None,
    );
    let plan = sample
        .plan(
            &config,
            records(vec![
                by_tag.clone(),
                by_digest.clone(),
                own.clone(),
                copied.clone(),
            ]),
        )
        .await;
    assert_eq!(
        reason(&plan, &sample.at, "4.0"),
        Some(KeepReason::Recorded(copied.image))
    );
    assert_eq!(
        reason(&plan, &sample.at, "1.0"),
        Some(KeepReason::BaseOf(by_tag.image))
    );
    assert_eq!(
        reason(&plan, &sample.at, "3.0"),
        Some(KeepReason::BaseOf(by_digest.image))
    );
    assert_eq!(
        reason(&plan, &sample.at, "2.0"),
        Some(KeepReason::Recorded(own.image))
    );
    assert_eq!(reason(&plan, &sample.at, "5.0"), None);
}

#[tokio::test]
async fn relative_layout_in_a_record_is_resolved_below_the_configuration() {
    let sample = SampleRepository::new("ocidir:///m/a", DeletionSupport::ALL);
    for name in ["1.0", "2.0", "3.0", "4.0"] {
        sample.old(name).await;
    }
    let config = config(
        "sync: { entries: [{ source: up.example/a, target: 'ocidir://m/a', tag: '9' }] }\nretention: { keep_last: 1 }",
    );
    let (base, own) = (
        record("r.example/apps/one:1", Some("ocidir://m/a:1.0"), None),
        record("ocidir://m/a:2.0", None, None),
    );
    let plan = sample.plan(&config, records(vec![base, own])).await;
    assert!(matches!(
        reason(&plan, &sample.at, "1.0"),
        Some(KeepReason::BaseOf(_))
    ));
    assert!(matches!(
        reason(&plan, &sample.at, "2.0"),
        Some(KeepReason::Recorded(_))
    ));
    assert_eq!(reason(&plan, &sample.at, "3.0"), None);
}

#[tokio::test]
async fn unreadable_recorded_image_keeps_possible_parts() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        let sample = SampleRepository::new("r.example/m/a", deletions);
        let child = sample.old("1.0").await;
        sample.old("2.0").await;
        let pinned = sample.index(&[&child]).await;
        let unreadable = pinned.to_string();
        sample.store.fail_when(move |call| {
            let fails = call.operation == StoreOperation::Manifest && call.subject == unreadable;
            fails.then_some(StoreFault::Error(ItemErrorKind::ServerError))
        });
        let named = record("r.example/apps/a:1", Some("r.example/m/a:0"), Some(&pinned));
        sample
            .run(&mirror("keep_last: 1"), records(vec![named]))
            .await;
        assert!(sample.has(&child).await, "{deletions:?}");
    }
}

#[tokio::test]
async fn mirrored_tag_is_used_under_every_name_of_its_mirror() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "3.0"]).await;
    let build = "build: { registry: r.example/bases, core_version: 1.0.0, images: [{ name: a, folder: a, type: core, \
                 mirror_image: 'r.example:443/m/a', mirror_tag: '1.0' }] }\n";
    let config = config(&format!(
        "{MIRROR}{build}retention: {{ keep_last: 1, require_records: false }}"
    ));
    assert_eq!(
        sample.reason(&config, "1.0").await,
        Some(KeepReason::UsedByBuild)
    );
    assert_eq!(sample.reason(&config, "2.0").await, None);
}
