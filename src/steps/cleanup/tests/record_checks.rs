//! Records that are missing, belong to another configuration, or were replaced.

use super::*;
use crate::model::record::ReplacedRecord;

/// Returns the record of an application of `project`, built on this day of 2026.
fn record_of(project: &str, base: &str, day: u32) -> BuildRecord {
    let text = json!({
        "image": format!("r.example/apps/{project}:{day}"),
        "base": base,
        "project": project,
        "built_at": format!("2026-01-{day:02}T00:00:00Z"),
    });
    BuildRecord::parse(text.to_string().as_bytes()).expect("a record")
}

/// Returns records that were written at this time.
fn written(records: Vec<BuildRecord>, days_ago: i64) -> ObservedRecords {
    ObservedRecords::Read(RecordSet {
        records,
        reduced: Vec::new(),
        unreadable: Vec::new(),
        first_written: Some(now() - TimeDelta::days(days_ago)),
    })
}

/// A base repository with old versions, and its mirror.
async fn base_tags() -> SampleRepository {
    let sample = SampleRepository::new("r.example/bases/alpine", DeletionSupport::ALL);
    for version in ["3.10", "3.11", "3.12", "3.13"] {
        sample.old(&format!("{version}-core1.0.0")).await;
    }
    sample
}

#[tokio::test]
async fn record_with_another_host_protects_the_same_path_and_is_named() {
    let sample = base_tags().await;
    let config = bases("keep_last: 1, foreign_bases: ['old.example/*']");
    let other = "old.example/bases/alpine";
    let renamed = record_of("one", &format!("{other}:3.10-core1.0.0"), 1);
    let elsewhere = record_of("three", "old.example/other/alpine:3.12-core1.0.0", 1);
    let current = record_of("two", "r.example/bases/alpine:3.13-core1.0.0", 1);
    let plan = sample
        .plan(&config, records(vec![renamed.clone(), elsewhere, current]))
        .await;
    assert_eq!(plan.safety_error, None);
    assert_eq!(
        reason(&plan, &sample.at, "3.10-core1.0.0"),
        Some(KeepReason::BaseUnderOtherHost(renamed.image.clone()))
    );
    for gone in ["3.11-core1.0.0", "3.12-core1.0.0"] {
        assert_eq!(reason(&plan, &sample.at, gone), None, "{gone}");
    }
    let named: Vec<&String> = plan
        .warnings
        .iter()
        .filter(|warning| warning.contains(other) && warning.contains(&sample.at.to_string()))
        .collect();
    assert!(
        matches!(&named[..], [one] if one.contains(&renamed.image.to_string())),
        "{:?}",
        plan.warnings
    );
    // Registered after the plan was made.
    let plan = sample
        .plan(
            &bases("keep_last: 1, require_records: false"),
            records(Vec::new()),
        )
        .await;
    let late = records(vec![renamed]);
    let report = sample.execute_with_records(&plan, Mode::Apply, &late).await;
    assert_eq!(report.exit(), Exit::Done, "{report:?}");
    assert_eq!(
        sample.tags().await,
        names(&["3.10-core1.0.0", "3.13-core1.0.0"])
    );
}

#[tokio::test]
async fn records_of_too_many_projects_on_unknown_bases_stop_the_run() {
    let sample = base_tags().await;
    let own = |number: u32| {
        record_of(
            &format!("own{number}"),
            "r.example/bases/alpine:3.13-core1.0.0",
            1,
        )
    };
    let foreign = |project: &str, day| record_of(project, "old.example/bases/alpine:3.10", day);
    let mut nine: Vec<BuildRecord> = (0..9).map(own).collect();
    nine.push(foreign("foreign", 1));
    let mut eight: Vec<BuildRecord> = (0..8).map(own).collect();
    eight.push(foreign("foreign", 1));
    // Only the newest record of a project counts.
    let older = vec![
        own(1),
        foreign("own1", 1),
        record_of("own1", "r.example/bases/alpine:3.13-core1.0.0", 2),
    ];
    let newer = vec![own(1), foreign("own1", 2), own(2)];
    let at_the_same_time = vec![own(1), foreign("own1", 1), own(2)];
    let child = sample.old("3.9-core1.0.0").await;
    let mut copied = record(
        "r.example/apps/copied:1",
        Some("copy.example/x:1"),
        Some(&child),
    );
    copied.project = "copied".to_owned();
    for (name, given, list, stops) in [
        ("10 percent", nine.clone(), "", false),
        ("11 percent", eight.clone(), "", true),
        ("declared", eight.clone(), "old.example/bases/alpine", false),
        ("a pattern", eight, "'*/bases/alpine'", false),
        ("an older record", older, "", false),
        ("a newer record", newer, "", true),
        ("equal times", at_the_same_time, "", true),
        ("copied elsewhere", vec![own(1), copied], "", false),
        (
            "mirrors and bases",
            vec![own(1), record_of("m", "r.example/m/alpine:3.20", 1)],
            "",
            false,
        ),
    ] {
        let config = bases(&format!("keep_last: 1, foreign_bases: [{list}]"));
        let plan = sample.plan(&config, records(given)).await;
        let Some(error) = &plan.safety_error else {
            assert!(!stops, "{name}");
            assert_eq!(reason(&plan, &sample.at, "3.11-core1.0.0"), None, "{name}");
            continue;
        };
        assert!(stops, "{name}: {error}");
        let hint = error.hint().unwrap_or_default();
        assert!(
            error.to_string().contains("r.example/apps/")
                && hint.contains("`foreign_bases: [\"old.example/bases/alpine\"]`"),
            "{error} {hint}"
        );
        assert_eq!(
            reason(&plan, &sample.at, "3.11-core1.0.0"),
            Some(KeepReason::SafetyCheckFailed),
            "{name}"
        );
    }
    // The line to add is complete, also for many bases.
    let many = (0..40).map(|number| {
        record_of(
            &format!("p{number}"),
            &format!("old.example/team{}/b{number}:1", number % 2),
            1,
        )
    });
    let given: Vec<BuildRecord> = many.chain([own(1)]).collect();
    let plan = sample
        .plan(&bases("keep_last: 1"), records(given.clone()))
        .await;
    let hint = plan
        .safety_error
        .expect("an error")
        .hint()
        .unwrap_or_default();
    let line = hint
        .split('`')
        .find(|part| part.starts_with("foreign_bases: "))
        .expect("the line")
        .to_owned();
    let plan = sample
        .plan(&bases(&format!("keep_last: 1, {line}")), records(given))
        .await;
    assert_eq!(plan.safety_error, None, "{line}");
}

#[tokio::test]
async fn configured_record_store_without_records_stops_also_for_mirrors() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
    let store = "registry: { provider: file, path: recs }\n";
    for (text, stops) in [
        (store, true),
        (
            "registry: { url: 'https://gitlab.example', project_id: 1 }\n",
            true,
        ),
        ("registry: { provider: s3, bucket: b }\n", true),
        ("registry: { insecure_registries: [r.example] }\n", false),
        ("", false),
    ] {
        let config = |rules: &str| config(&format!("{text}{MIRROR}retention: {{ {rules} }}"));
        let empty = || {
            if stops {
                records(Vec::new())
            } else {
                ObservedRecords::NotConfigured
            }
        };
        let plan = sample.plan(&config("keep_last: 1"), empty()).await;
        assert_eq!(plan.safety_error.is_some(), stops, "{text}");
        let expected = stops.then_some(KeepReason::SafetyCheckFailed);
        assert_eq!(reason(&plan, &sample.at, "1.0"), expected, "{text}");
        let plan = sample
            .plan(&config("keep_last: 1, require_records: false"), empty())
            .await;
        assert_eq!(reason(&plan, &sample.at, "1.0"), None, "{text}");
    }
    let config = config(&format!("{store}{MIRROR}retention: {{ keep_last: 1 }}"));
    let known = records(vec![record_of("p", "r.example/m/a:2.0", 1)]);
    let plan = sample.plan(&config, known).await;
    assert_eq!(reason(&plan, &sample.at, "1.0"), None);
}

#[tokio::test]
async fn base_that_no_record_names_is_kept_for_thirty_days_after_the_first_record() {
    let named = base_tags().await;
    let unnamed = SampleRepository {
        store: named.store.clone(),
        at: repository("r.example/bases/other"),
    };
    for name in ["1.0", "2.0", "3.0"] {
        unnamed.old(name).await;
    }
    let other = BASES.replace(
        "  images:\n",
        "  images:\n    - { name: other, folder: o, type: core, mirror_image: r.example/m/alpine, mirror_tag: '3.20' }\n",
    );
    let config = config(&format!("{other}retention: {{ keep_last: 1 }}"));
    let known = || vec![record_of("p", "r.example/bases/alpine:3.10-core1.0.0", 1)];
    let until = |days: i64| now() + TimeDelta::days(days);
    for (records, kept) in [
        (
            written(known(), 29),
            Some(KeepReason::BaseUnnamedUntil(until(1))),
        ),
        (written(known(), 30), None),
        // Built long before: the file is younger than the image.
        (
            written(known(), 0),
            Some(KeepReason::BaseUnnamedUntil(until(30))),
        ),
        // Unknown when it was written: built 59 days ago.
        (records(known()), None),
        // Named by now.
        (
            written(vec![record_of("p", "r.example/bases/other:3.0", 1)], 1),
            None,
        ),
    ] {
        let plan = named.plan(&config, records).await;
        assert_eq!(plan.safety_error, None);
        assert_eq!(reason(&plan, &unnamed.at, "1.0"), kept);
        if kept.is_some() {
            assert_eq!(
                reason(&plan, &named.at, "3.11-core1.0.0"),
                None,
                "a base that a record names is cleaned up"
            );
        }
    }
    // The first record of all readings counts.
    let (cache, progress) = (crate::transfer::no_cache(), crate::progress::silent());
    let stores = named.store.stores();
    let observer = Observer {
        limits: ReadingLimits::default(),
        stores: &stores,
        cache: &*cache,
        progress: &*progress,
        now: now(),
    };
    let world = named.world(&config, written(known(), 31)).await;
    let world = observe_records(world, &config, written(known(), 1), observer).await;
    assert_eq!(reason(&plan(&world, &policy()), &unnamed.at, "1.0"), None);
}

#[tokio::test]
async fn base_of_a_replaced_record_is_kept_for_thirty_days() {
    for days in [29, 30] {
        let sample = SampleRepository::mirror(&["1.0", "2.0", "3.0", "4.0"]).await;
        let digest = sample.old("0.9").await;
        let replaced = |base: Option<&str>, base_digest: Option<&Digest>| ReplacedRecord {
            project: "team/first".to_owned(),
            base: base.map(|base| base.parse().expect("a base")),
            base_digest: base_digest.cloned(),
            replaced_at: now() - TimeDelta::days(days),
        };
        let mut record = record_of("second", "r.example/m/a:3.0", 1);
        record.replaced = vec![
            replaced(Some("r.example:443/m/a:1.0"), None),
            replaced(Some("elsewhere.example/x:1"), Some(&digest)),
        ];
        let plan = sample
            .plan(&mirror("keep_last: 1"), records(vec![record.clone()]))
            .await;
        let expected = (days == 29).then(|| KeepReason::BaseOfReplaced {
            image: record.image.clone(),
            project: "team/first".to_owned(),
            until: now() + TimeDelta::days(1),
        });
        assert_eq!(reason(&plan, &sample.at, "1.0"), expected);
        assert_eq!(reason(&plan, &sample.at, "0.9"), expected);
        assert_eq!(reason(&plan, &sample.at, "2.0"), None);
        assert_eq!(plan.pinned.contains(&digest), days == 29);
        // The record was replaced after the plan was made.
        let plan = sample
            .plan(&mirror("keep_last: 1"), records(Vec::new()))
            .await;
        let late = records(vec![record]);
        let report = sample.execute_with_records(&plan, Mode::Apply, &late).await;
        assert_eq!(report.exit(), Exit::Done, "{report:?}");
        let expected = if days == 29 {
            names(&["0.9", "1.0", "3.0", "4.0"])
        } else {
            names(&["3.0", "4.0"])
        };
        assert_eq!(sample.tags().await, expected);
    }
}
