//! Every reason for which a tag stays.

use super::*;

#[tokio::test]
async fn the_newest_by_version_are_kept() {
    let sample = Sample::mirror(&["10.0", "1.0", "2.0", "1.10", "1.9"]).await;
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
async fn what_has_no_version_is_ordered_by_date() {
    let sample = Sample::new("r.example/m/a", Deletions::ALL);
    for (name, days) in [("zebra", 400), ("apple", 300), ("mango", 200)] {
        sample
            .tag(name, &sample.image(name, json!({})).await, days)
            .await;
    }
    // What is attached to one takes no place.
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
async fn exclusions_and_latest_are_kept() {
    let sample = Sample::mirror(&["1.0", "2.0", "2.0-lts", "3.0", "latest"]).await;
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
    // A pattern matches whole tags.
    let config = mirror("keep_last: 0, min_keep: 0, exclude_tags: ['/2/']");
    assert_eq!(sample.reason(&config, "2.0").await, None);
}

#[tokio::test]
async fn never_fewer_than_min_keep_are_left() {
    let sample = Sample::mirror(&["1.0", "2.0", "3.0"]).await;
    let config = mirror("keep_last: 0, min_keep: 2");
    assert_eq!(
        sample.reason(&config, "2.0").await,
        Some(KeepReason::MinKeep)
    );
    assert_eq!(sample.reason(&config, "1.0").await, None);
    // Of several rules the kindest holds.
    let config = two_rules("keep_last: 0, min_keep: 2", "keep_last: 0, min_keep: 1");
    assert_eq!(
        sample.reason(&config, "2.0").await,
        Some(KeepReason::MinKeep)
    );
    assert_eq!(sample.reason(&config, "1.0").await, None);
}

/// Two entries of one mirror, each with rules of its own.
fn two_rules(one: &str, other: &str) -> Config {
    let entry = |tag, rules| {
        format!(
            "{{ source: up.example/a, target: r.example/m/a, tag: '{tag}', retention: {{ {rules} }} }}"
        )
    };
    config(&format!(
        "sync: {{ entries: [{}, {}] }}\nretention: {{}}",
        entry("8", one),
        entry("9", other)
    ))
}

#[tokio::test]
async fn latest_takes_no_place_among_the_newest() {
    let sample = Sample::mirror(&["1.0", "latest", "abc"]).await;
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
async fn what_is_younger_than_a_day_is_kept() {
    let sample = Sample::mirror(&["1.0", "2.0"]).await;
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
async fn rules_are_joined_by_match() {
    let sample = Sample::mirror(&["1.0", "2.0", "3.0"]).await;
    sample
        .store
        .date_tag(&sample.at, &tag("1.0"), now() - TimeDelta::days(10));
    let all = mirror("keep_last: 1, max_age_days: 30");
    assert_eq!(
        sample.reason(&all, "1.0").await,
        Some(KeepReason::NotOldEnough)
    );
    assert_eq!(sample.reason(&all, "2.0").await, None);
    // What is as old as that is not older.
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
async fn an_age_that_is_not_known_or_cannot_be_is_no_age() {
    let sample = Sample::new("r.example/m/a", Deletions::ALL);
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
async fn what_sync_selects_is_kept_and_all_when_that_is_not_known() {
    let sample = Sample::mirror(&["1.0", "2.0", "3.0", "4.0"]).await;
    let yaml = "sync: { entries: [{ source: up.example/a, target: r.example/m/a, tag_regex: '[0-9.]+', keep_last: 1 }, \
                { source: up.example/b, target: r.example/m/a, tag: '2.0' }] }\nretention: { keep_last: 1 }";
    let config = config(yaml);
    // There is no upstream.
    assert!(
        matches!(sample.reason(&config, "1.0").await, Some(KeepReason::UpstreamUnknown(cause)) if cause.contains("up.example/a"))
    );
    let up = Sample {
        store: sample.store.clone(),
        at: repository("up.example/a"),
    };
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
            call.operation == Operation::Tags && call.repository.to_string() == "up.example/a";
        fails.then_some(Fault::Error(ItemErrorKind::ServerError))
    });
    assert!(matches!(
        sample.reason(&config, "3.0").await,
        Some(KeepReason::UpstreamUnknown(_))
    ));
}

const BASES: &str = "sync: { entries: [{ source: up.example/alpine, target: r.example/m/alpine, tag: '3.20' }] }
build:
  registry: r.example/bases
  core_version: 1.0.0
  images:
    - { name: alpine, folder: alpine, type: core, mirror_image: r.example/m/alpine, mirror_tag: '3.20', aliases: ['3.20', stable] }
    - { name: alpine, folder: alpine, type: core, mirror_image: r.example/m/alpine, mirror_tag: '3.19' }
";

fn bases(rules: &str) -> Config {
    config(&format!("{BASES}retention: {{ {rules} }}"))
}

#[tokio::test]
async fn what_build_produces_and_stands_on_is_kept() {
    let sample = Sample::new("r.example/bases/alpine", Deletions::ALL);
    let mirror = Sample {
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
    // Aliases take no place.
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
async fn everything_is_kept_when_what_build_produces_is_not_known() {
    let sample = Sample::new("r.example/bases/alpine", Deletions::ALL);
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
async fn the_age_of_a_base_is_in_its_labels() {
    let sample = Sample::new("r.example/bases/alpine", Deletions::ALL);
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
        sample.tag(name, &index, 365).await;
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
async fn a_word_that_a_record_keeps_takes_its_place_by_its_age() {
    let sample = Sample::new("r.example/bases/alpine", Deletions::ALL);
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
async fn ages_are_asked_for_where_they_matter_and_once_for_the_same_content() {
    let sample = Sample::new("r.example/bases/alpine", Deletions::ALL);
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
    let notes = Notes::default();
    let progress = crate::progress::silent();
    let stores = sample.store.stores();
    let observer = Observer {
        stores: &stores,
        cache: &notes,
        progress: &*progress,
        now: now(),
    };
    let config = bases("keep_last: 5, max_age_days: 30, require_records: false");
    // The index of each tag, then the image and the configuration that they share; the second run
    // remembers these.
    for expected in [(11, 1), (10, 0)] {
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
                sample.store.count(Operation::Manifest),
                sample.store.count(Operation::Blob)
            ),
            expected
        );
    }
}

#[tokio::test]
async fn what_a_record_names_is_kept_wherever_it_is() {
    let sample = Sample::mirror(&["1.0", "2.0", "5.0", "6.0"]).await;
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
async fn a_layout_that_a_record_names_relative_to_the_configuration_is_that_of_the_configuration() {
    let sample = Sample::new("ocidir:///m/a", Deletions::ALL);
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
async fn a_place_of_two_names_is_cleaned_up_once_and_records_protect_by_each() {
    let config = config(
        "sync:
  entries:
    - { source: up.example/a, target: r.example/m/a, tag: '9' }
    - { source: up.example/a, target: 'r.example:443/m/a', tag: '9', retention: { keep_last: 3 } }
    - { source: up.example/a, target: cache.example/m/a, tag: '9' }
    - { source: up.example/a, target: plain.example:80/m/a, tag: '9' }
    - { source: up.example/a, target: plain.example/m/a, tag: '9' }
    - { source: up.example/a, target: 'r.example:5000/m/a', tag: '9' }
hosts: { cache.example: { endpoint: 'https://r.example' } }
registry: { insecure_registries: [plain.example, 'plain.example:80'] }
retention: { keep_last: 1 }
",
    );
    let targets = targets(&config);
    assert_eq!(
        targets
            .iter()
            .map(|target| target.entries.clone())
            .collect::<Vec<_>>(),
        [vec![0, 1, 2], vec![3, 4], vec![5]]
    );
    let sample = Sample::mirror(&["1.0", "2.0", "3.0", "4.0", "5.0", "6.0"]).await;
    let base = record("r.example/apps/one:1", Some("r.example:443/m/a:1.0"), None);
    let own = record("cache.example/m/a:2.0", None, None);
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
    // It goes by the rules of each name.
    assert_eq!(reason(&plan, &sample.at, "4.0"), Some(KeepReason::KeepLast));
}

#[tokio::test]
async fn hosts_whose_traffic_goes_below_one_path_are_one_place() {
    let entry = |host: &str| format!("{{ source: up.example/a, target: {host}/m/a, tag: '9' }}");
    let hosts = "hosts: { one.example: { endpoint: 'https://r.example/below/it' }, two.example: { endpoint: 'https://r.example:443/below/it/' }, \
                 three.example: { endpoint: 'https://r.example/below' } }";
    let entries = ["two.example", "one.example", "three.example", "r.example"]
        .map(entry)
        .join(", ");
    let config = config(&format!(
        "{hosts}\nsync: {{ entries: [{entries}] }}\nretention: {{ keep_last: 1 }}"
    ));
    let targets = targets(&config);
    assert_eq!(
        targets
            .iter()
            .map(|target| target.entries.clone())
            .collect::<Vec<_>>(),
        [vec![0, 1], vec![2], vec![3]]
    );
    let sample = Sample::new("two.example/m/a", Deletions::ALL);
    for name in ["1.0", "2.0", "3.0"] {
        sample.old(name).await;
    }
    let plan = sample
        .plan(
            &config,
            records(vec![record(
                "r.example/apps/one:1",
                Some("one.example/m/a:1.0"),
                None,
            )]),
        )
        .await;
    assert!(matches!(
        reason(&plan, &sample.at, "1.0"),
        Some(KeepReason::BaseOf(_))
    ));
    assert_eq!(reason(&plan, &sample.at, "2.0"), None);
}

#[cfg(unix)]
#[tokio::test]
async fn a_layout_that_links_lead_to_is_one_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().canonicalize().expect("a path");
    std::fs::create_dir(root.join("m")).expect("a directory");
    std::os::unix::fs::symlink("m", root.join("alias")).expect("a link");
    let layout = |name: &str| format!("ocidir://{}/{name}/x", root.display());
    let entry = |name: &str| {
        format!(
            "    - {{ source: up.example/a, target: '{}', tag: '9' }}\n",
            layout(name)
        )
    };
    let config = config(&format!(
        "sync:\n  entries:\n{}{}retention: {{ keep_last: 1 }}\n",
        entry("alias"),
        entry("m")
    ));
    let targets = targets(&config);
    assert_eq!(
        targets
            .iter()
            .map(|target| target.entries.clone())
            .collect::<Vec<_>>(),
        [vec![0, 1]]
    );
    let sample = Sample::new(&layout("alias"), Deletions::ALL);
    for name in ["1.0", "2.0", "3.0"] {
        sample.old(name).await;
    }
    let plan = sample
        .plan(
            &config,
            records(vec![record(
                "r.example/apps/one:1",
                Some(&format!("{}:1.0", layout("m"))),
                None,
            )]),
        )
        .await;
    assert!(matches!(
        reason(&plan, &sample.at, "1.0"),
        Some(KeepReason::BaseOf(_))
    ));
    assert_eq!(reason(&plan, &sample.at, "2.0"), None);
}

#[tokio::test]
async fn what_cannot_be_read_is_kept() {
    let sample = Sample::mirror(&["1.0", "2.0", "3.0"]).await;
    let fault = |call: &Call| {
        let fails = call.operation == Operation::Manifest && call.subject == "1.0";
        fails.then_some(Fault::Error(ItemErrorKind::ServerError))
    };
    sample.store.fail_when(fault);
    let config = mirror("keep_last: 1");
    let going = sample.old("2.0").await;
    let signature = Tag::of_cosign(&going)[0].to_string();
    sample
        .tag(&signature, &sample.image("signature", json!({})).await, 365)
        .await;
    assert!(matches!(
        sample.reason(&config, "1.0").await,
        Some(KeepReason::Unreadable(_))
    ));
    assert_eq!(
        sample.reason(&config, &signature).await,
        Some(KeepReason::SubjectUnknown)
    );
    assert_eq!(sample.reason(&config, "2.0").await, None);
    // Its image stays: what cannot be read may lead to it.
    let image = sample
        .store
        .resolve(&sample.at, &tag("2.0").into())
        .await
        .expect("to look")
        .expect("an image")
        .digest;
    sample.run(&config, ObservedRecords::NotConfigured).await;
    assert!(!sample.tags().await.contains("2.0") && sample.has(&image).await);
    // By digest, what cannot be read might go along.
    let strict = Sample::new("r.example/m/a", DIGEST_ONLY);
    for name in ["1.0", "2.0", "3.0"] {
        strict.old(name).await;
    }
    strict.store.fail_when(fault);
    assert_eq!(
        strict.reason(&config, "2.0").await,
        Some(KeepReason::NeighbourUnreadable)
    );
}

#[tokio::test]
async fn tags_that_name_nothing_take_no_place_and_stop_nothing() {
    for deletions in [Deletions::ALL, DIGEST_ONLY] {
        let sample = Sample::new("r.example/m/a", deletions);
        for name in ["1.0", "1.1", "1.2", "1.3"] {
            sample.old(name).await;
        }
        for name in ["2.0", "2.1", "2.2"] {
            let ghost = sample.old(name).await;
            sample.store.lose_manifest(&sample.at, &ghost);
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
        // One of four goes, and not one of seven.
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
async fn replaced_images_take_no_place_and_go_by_their_day_or_with_their_tag() {
    // They are of January 31st, so that their age counts from February: 28 days.
    let pins = [
        "3.0-replaced.20260131",
        "3.0-replaced.20260131.2",
        "0.9-replaced.20260131",
    ];
    let sample = Sample::mirror(&[
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
        // Its tag is gone.
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
    let young = Sample::mirror(&["3.0", "0.9-replaced.20260228"]).await;
    assert_eq!(
        young
            .reason(&mirror("keep_last: 1"), "0.9-replaced.20260228")
            .await,
        Some(KeepReason::Young)
    );
    // It goes with its tag.
    let sample = Sample::mirror(&["3.0", "2.0", "2.0-replaced.20260131"]).await;
    sample
        .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
        .await;
    assert_eq!(sample.tags().await, names(&["3.0"]));
}

#[tokio::test]
async fn what_nested_indexes_lead_to_stays() {
    for deletions in [Deletions::ALL, DIGEST_ONLY] {
        let sample = Sample::new("r.example/m/a", deletions);
        let unnamed = sample.old("0.8").await;
        let inner = sample.index(&[&unnamed]).await;
        let outer = sample.index_of("", &inner).await;
        sample.tag("3.0", &outer, 365).await;
        let config = mirror("keep_last: 1");
        // Where the registry deletes by digest only, what a kept index leads to keeps its tags.
        let plan = sample.plan(&config, ObservedRecords::NotConfigured).await;
        let expected = (deletions == DIGEST_ONLY).then_some(KeepReason::PartOfKept);
        assert_eq!(reason(&plan, &sample.at, "0.8"), expected, "{deletions:?}");
        sample.run(&config, ObservedRecords::NotConfigured).await;
        assert!(
            sample.has(&unnamed).await && sample.has(&inner).await,
            "{deletions:?}"
        );
        // What is nested deeper than anything is read cannot be told.
        let deep = sample.old("0.9").await;
        let mut nested = deep.clone();
        for _ in 0..5 {
            nested = sample.index_of(media_type::OCI_INDEX, &nested).await;
        }
        sample.tag("4.0", &nested, 365).await;
        let reason = sample.reason(&config, "4.0").await;
        assert!(
            matches!(&reason, Some(KeepReason::Unreadable(cause)) if cause.contains("nested deeper")),
            "{reason:?}"
        );
        sample.run(&config, ObservedRecords::NotConfigured).await;
        assert!(
            sample.has(&deep).await && sample.has(&unnamed).await,
            "{deletions:?}"
        );
    }
}

#[tokio::test]
async fn tags_that_share_a_digest_with_a_kept_one_go_only_where_tags_can_be_deleted() {
    for (deletions, expected) in [
        (Deletions::ALL, None),
        (TAGS_ONLY, None),
        (DIGEST_ONLY, Some(KeepReason::SharesDigest(tag("2.0")))),
        (NOTHING, Some(KeepReason::NotDeletable)),
    ] {
        let sample = Sample::new("r.example/m/a", deletions);
        let digest = sample.old("2.0").await;
        sample.tag("1.0", &digest, 365).await;
        let config = mirror("keep_last: 1");
        sample.old("0.9").await;
        let plan = sample.plan(&config, ObservedRecords::NotConfigured).await;
        assert_eq!(reason(&plan, &sample.at, "1.0"), expected, "{deletions:?}");
        let ways: BTreeSet<DeletionMethod> = plan.repositories[0]
            .groups
            .iter()
            .map(|group| group.method)
            .collect();
        let expected_ways = match deletions {
            Deletions::ALL => {
                BTreeSet::from([DeletionMethod::Tags, DeletionMethod::TagsThenManifest])
            }
            TAGS_ONLY => BTreeSet::from([DeletionMethod::Tags]),
            DIGEST_ONLY => BTreeSet::from([DeletionMethod::Manifest]),
            _ => BTreeSet::new(),
        };
        assert_eq!(ways, expected_ways, "{deletions:?}");
        sample.run(&config, ObservedRecords::NotConfigured).await;
        assert!(
            sample.has(&digest).await && sample.tags().await.contains("2.0"),
            "{deletions:?}"
        );
        assert_eq!(
            sample.tags().await.contains("1.0"),
            expected.is_some(),
            "{deletions:?}"
        );
    }
}

#[tokio::test]
async fn a_tag_of_a_part_of_a_kept_index_goes_only_where_tags_can_be_deleted() {
    for (deletions, expected) in [
        (Deletions::ALL, None),
        (DIGEST_ONLY, Some(KeepReason::PartOfKept)),
    ] {
        let sample = Sample::new("r.example/m/a", deletions);
        let child = sample.old("1.0-amd64").await;
        let index = sample.index(&[&child]).await;
        sample.tag("2.0", &index, 365).await;
        let config = mirror("keep_last: 1");
        assert_eq!(
            sample.reason(&config, "1.0-amd64").await,
            expected,
            "{deletions:?}"
        );
        sample.run(&config, ObservedRecords::NotConfigured).await;
        assert!(
            sample.has(&child).await && sample.has(&index).await,
            "{deletions:?}"
        );
    }
}

#[tokio::test]
async fn attachments_live_and_die_with_their_image() {
    for deletions in [Deletions::ALL, DIGEST_ONLY] {
        let sample = Sample::new("r.example/m/a", deletions);
        let (old, new) = (sample.old("1.0").await, sample.old("2.0").await);
        let (sbom, signature) = (
            sample.image("sbom", json!({})).await,
            sample.image("signature of sbom", json!({})).await,
        );
        let listed = sample.index(&[&sbom]).await;
        for subject in [&old, &new] {
            let kept = sample
                .image(&format!("signature of {subject}"), json!({}))
                .await;
            sample
                .tag(Tag::of_cosign(subject)[0].as_str(), &kept, 365)
                .await;
            let countersignature = sample
                .image(&format!("signature of {kept}"), json!({}))
                .await;
            sample
                .tag(Tag::of_cosign(&kept)[0].as_str(), &countersignature, 365)
                .await;
        }
        let kept = sample
            .image(&format!("signature of {new}"), json!({}))
            .await;
        sample
            .tag(Tag::of_referrers(&old).as_str(), &listed, 365)
            .await;
        // What is attached to an attachment.
        sample
            .tag(Tag::of_cosign(&sbom)[0].as_str(), &signature, 365)
            .await;
        // Of an image that is gone, and of one that is there without a tag.
        let (gone, untagged) = (
            Digest::sha256(b"gone"),
            sample.image("untagged", json!({})).await,
        );
        for (subject, content) in [(&gone, "a"), (&untagged, "b")] {
            sample
                .tag(
                    Tag::of_cosign(subject)[1].as_str(),
                    &sample.image(content, json!({})).await,
                    365,
                )
                .await;
        }
        let report = sample
            .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
            .await;
        let left = [
            Tag::of_cosign(&new)[0].clone(),
            Tag::of_cosign(&kept)[0].clone(),
            Tag::of_cosign(&untagged)[1].clone(),
            tag("2.0"),
        ];
        assert_eq!(
            sample.tags().await,
            left.iter().map(Tag::to_string).collect(),
            "{deletions:?} {report:?}"
        );
        assert!(
            !sample.has(&sbom).await && !sample.has(&signature).await && !sample.has(&old).await,
            "{deletions:?}"
        );
    }
}

#[tokio::test]
async fn no_more_than_the_allowed_share_is_deleted() {
    let sample = Sample::mirror(&["1.0", "2.0", "3.0", "4.0"]).await;
    // Attachments are no part of the share.
    let newest = sample
        .store
        .resolve(&sample.at, &tag("4.0").into())
        .await
        .expect("to look")
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
    // Of several rules the smallest share holds.
    let sample = Sample::mirror(&["1.0", "2.0", "3.0", "4.0"]).await;
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
async fn nothing_goes_where_it_cannot_be_told_how() {
    let sample = Sample::mirror(&["1.0", "2.0"]).await;
    sample.store.fail_when(|call| {
        (call.operation == Operation::Deletions).then_some(Fault::Error(ItemErrorKind::ServerError))
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
async fn of_several_rules_for_one_repository_all_have_to_condemn() {
    let sample = Sample::mirror(&["1.0", "2.0", "3.0"]).await;
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
async fn the_guard_holds_unless_it_is_known_who_uses_what() {
    let sample = Sample::new("r.example/bases/alpine", Deletions::ALL);
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
    let unreadable = Reading {
        records: vec![on_base.clone()],
        unreadable: vec![Unreadable {
            file: "f".to_owned(),
            problem: "it is no record".to_owned(),
        }],
    };
    for (seen, cause) in [
        (
            ObservedRecords::Failed(Trouble::new("the host is down")),
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
        let report = sample.run(&config, seen.clone()).await;
        assert_eq!(
            (report.exit(), report.totals.deleted),
            (Exit::Failed, 0),
            "{cause}"
        );
        assert!(
            report
                .safety_error
                .as_ref()
                .is_some_and(|guard| guard.cause.contains(cause)),
            "{report:?}"
        );
        assert!(
            report
                .kept
                .iter()
                .any(|kept| kept.reason == KeepReason::SafetyCheckFailed)
        );
        // By force, but not against what is known.
        let forced = plan(
            &sample.world(&config, seen.clone()).await,
            &CleanupPolicy {
                is_forced: true,
                ..policy()
            },
        );
        let knows = seen.records().iter().any(|record| record.base.is_some());
        assert_eq!(
            reason(&forced, &sample.at, "3.10-core1.0.0").is_some(),
            knows,
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
    // The registry was renamed: records name its bases by the former name, or by what they were.
    let by_name = |digest: Option<&Digest>| {
        record(
            "old.example/apps/a:1",
            Some("old.example/bases/alpine:3.10-core1.0.0"),
            digest,
        )
    };
    let guard = sample
        .plan(&config, records(vec![by_name(None)]))
        .await
        .safety_error
        .expect("nothing is known of these bases");
    assert!(
        guard.cause.contains("the registry may have been renamed"),
        "{guard:?}"
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
async fn what_a_record_names_and_cannot_be_read_may_lead_to_anything() {
    for deletions in [Deletions::ALL, DIGEST_ONLY] {
        let sample = Sample::new("r.example/m/a", deletions);
        let child = sample.old("1.0").await;
        sample.old("2.0").await;
        let pinned = sample.index(&[&child]).await;
        let unreadable = pinned.to_string();
        sample.store.fail_when(move |call| {
            let fails = call.operation == Operation::Manifest && call.subject == unreadable;
            fails.then_some(Fault::Error(ItemErrorKind::ServerError))
        });
        let named = record("r.example/apps/a:1", Some("r.example/m/a:0"), Some(&pinned));
        sample
            .run(&mirror("keep_last: 1"), records(vec![named]))
            .await;
        assert!(sample.has(&child).await, "{deletions:?}");
    }
}

#[tokio::test]
async fn that_the_age_of_what_goes_is_not_told_is_said_once() {
    let dated = Sample::mirror(&["1.0", "1.1", "2.0"]).await;
    let sample = Sample::new("r.example/m/a", Deletions::ALL);
    for name in ["1.0", "1.1", "1.1-replaced.20200101", "2.0"] {
        let digest = sample.image(name, json!({})).await;
        sample.store.move_tag(&sample.at, &tag(name), &digest);
    }
    for (sample, told) in [(sample, 1), (dated, 0)] {
        let report = sample
            .run(&mirror("keep_last: 1"), ObservedRecords::NotConfigured)
            .await;
        let said = "r.example/m/a: the age of 2 of the tags to delete is unknown, so the 24-hour protection does not apply to them";
        assert_eq!(report.notes, vec![said; told]);
    }
}

#[tokio::test]
async fn attachments_stay_while_it_is_not_known_whether_their_image_is_there() {
    let sample = Sample::mirror(&["1.0", "2.0"]).await;
    let untagged = sample.image("untagged", json!({})).await;
    let signature = Tag::of_cosign(&untagged)[0].to_string();
    sample
        .tag(&signature, &sample.image("signature", json!({})).await, 365)
        .await;
    let failing = untagged.to_string();
    sample.store.fail_when(move |call| {
        let fails = call.operation == Operation::Resolve && call.subject == failing;
        fails.then_some(Fault::Error(ItemErrorKind::ServerError))
    });
    assert_eq!(
        sample.reason(&mirror("keep_last: 1"), &signature).await,
        Some(KeepReason::SubjectUnknown)
    );
}

#[tokio::test]
async fn a_mirrored_tag_is_used_by_whatever_name_its_mirror_has() {
    let sample = Sample::mirror(&["1.0", "2.0", "3.0"]).await;
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

#[tokio::test]
async fn of_several_rules_the_longest_time_in_the_archive_holds() {
    let sample = Sample::mirror(&["9"]).await;
    let archive = Sample {
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
