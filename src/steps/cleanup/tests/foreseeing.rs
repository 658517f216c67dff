//! What a clean-up would do, told by few requests: the same that it does, and no more looked at
//! than that takes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::registry::TagSeen;
use crate::steps::build;

const BASES: &str = "sync: { entries: [{ source: up.example/a, target: r.example/m/a, tag: '3.20' }] }
build: { registry: r.example/bases, core_version: 1.0.0, images: [{ name: a, folder: a, type: core, mirror_image: r.example/m/a, aliases: [stable] }] }
";

async fn listings(sample: &Sample, config: &Config) -> BTreeMap<Repository, Vec<TagSeen>> {
    let mut listings = BTreeMap::new();
    for target in targets(config) {
        let listing = sample
            .store
            .tags(&target.repository)
            .await
            .expect("to list")
            .unwrap_or_default();
        listings.insert(target.repository, listing);
    }
    listings
}

/// Returns what is preview_of, and leaves the calls that it took.
async fn preview_of(sample: &Sample, config: &Config, records: &ObservedRecords) -> CleanupPreview {
    let (cache, progress) = (crate::transfer::no_cache(), crate::progress::silent());
    let stores = sample.store.stores();
    let observer = Observer {
        stores: &stores,
        cache: &*cache,
        progress: &*progress,
        now: now(),
    };
    let listings = listings(sample, config).await;
    let mirror_tags = BTreeMap::from([(0, Ok(tag("3.20")))]);
    let identities = config
        .build
        .as_ref()
        .map(|build| build::identities(build, &mirror_tags))
        .unwrap_or_default();
    let records = if let ObservedRecords::Read(reading) = records {
        Some(reading)
    } else {
        None
    };
    sample.store.clear_calls();
    preview(
        config,
        PreviewInput {
            listings: &listings,
            identities: &identities,
            records,
        },
        observer,
    )
    .await
}

/// Returns what a clean-up that only reads would delete.
async fn condemned(
    sample: &Sample,
    config: &Config,
    records: &ObservedRecords,
) -> BTreeSet<(Repository, Tag)> {
    let (cache, progress) = (crate::transfer::no_cache(), crate::progress::silent());
    let stores = sample.store.stores().read_only();
    let observer = Observer {
        stores: &stores,
        cache: &*cache,
        progress: &*progress,
        now: now(),
    };
    let world = observe(config, &CleanupScope::default(), records.clone(), observer).await;
    let plan = plan(
        &world,
        &CleanupPolicy {
            max_delete_percent: None,
            ..policy()
        },
    );
    let images = plan.deletions().filter(|(_, tag, _)| !tag.is_attachment());
    images
        .map(|(repository, tag, _)| (repository.clone(), tag.clone()))
        .collect()
}

#[tokio::test]
async fn nothing_is_asked_where_names_tell_enough() {
    let sample = Sample::mirror(&["1.0", "2.0", "9", "latest"]).await;
    let none = ObservedRecords::NotConfigured;
    for rules in [
        "keep_last: 3",
        "keep_last: 0, exclude_tags: ['/[12].0/']",
        "keep_last: 0, min_keep: 3",
    ] {
        assert_eq!(
            preview_of(&sample, &mirror(rules), &none).await,
            CleanupPreview::default(),
            "{rules}"
        );
        assert_eq!(sample.store.calls(), [], "{rules}");
    }
    assert_eq!(
        preview_of(&sample, &config(MIRROR), &none).await,
        CleanupPreview::default()
    );
    assert_eq!(sample.store.calls(), [], "without `retention`");
    let named = record("r.example/apps/a:1", Some("r.example/m/a:1.0"), None);
    let found = preview_of(&sample, &mirror("keep_last: 2"), &records(vec![named])).await;
    assert_eq!(
        (found, sample.store.calls().len()),
        (CleanupPreview::default(), 0),
        "by the name of a record"
    );
    // Only the tag that goes is read, and it is looked whether those before it are there.
    let found = preview_of(
        &sample,
        &mirror("keep_last: 2, max_delete_percent: 100"),
        &none,
    )
    .await;
    assert_eq!(
        found.deletions,
        BTreeSet::from([(sample.at.clone(), tag("1.0"))])
    );
    let mut calls: Vec<_> = sample
        .store
        .calls()
        .into_iter()
        .map(|call| (call.operation, call.subject))
        .collect();
    calls[2..].sort_by_key(|(_, subject)| subject.clone());
    let expected = [
        (Operation::PushDates, ""),
        (Operation::Manifest, "1.0"),
        (Operation::Resolve, "2.0"),
        (Operation::Resolve, "9"),
    ];
    assert_eq!(
        calls,
        expected.map(|(operation, subject)| (operation, subject.to_owned()))
    );
}

#[tokio::test]
async fn tags_that_name_nothing_displace_no_other() {
    let none = ObservedRecords::NotConfigured;
    let sample = Sample::mirror(&["1.0", "2.0", "3.0", "4.0"]).await;
    let goes = |names: &[&str]| {
        names
            .iter()
            .map(|name| (sample.at.clone(), tag(name)))
            .collect::<BTreeSet<_>>()
    };
    let rules = mirror("keep_last: 2, max_delete_percent: 100");
    assert_eq!(
        preview_of(&sample, &rules, &none).await.deletions,
        goes(&["1.0", "2.0"])
    );
    let ghost = sample.old("4.0").await;
    sample.store.lose_manifest(&sample.at, &ghost);
    assert_eq!(
        preview_of(&sample, &rules, &none).await.deletions,
        goes(&["1.0"])
    );
    let ghost = sample.old("3.0").await;
    sample.store.lose_manifest(&sample.at, &ghost);
    assert_eq!(
        preview_of(&sample, &rules, &none).await.deletions,
        goes(&[])
    );
    // Nor do they count for the share that goes.
    let sample = Sample::mirror(&["1.0", "2.0", "latest"]).await;
    let rules = mirror("keep_last: 1, max_delete_percent: 34");
    assert_eq!(preview_of(&sample, &rules, &none).await.deletions.len(), 1);
    let ghost = sample.old("latest").await;
    sample.store.lose_manifest(&sample.at, &ghost);
    assert_eq!(
        preview_of(&sample, &rules, &none).await.deletions,
        BTreeSet::new()
    );
}

#[tokio::test]
async fn what_goes_goes_by_every_name_of_its_place() {
    let sample = Sample::mirror(&["1.0", "2.0"]).await;
    let entry = |host: &str| format!("{{ source: up.example/a, target: '{host}/m/a', tag: '9' }}");
    let hosts = "hosts: { cache.example: { endpoint: 'https://r.example' } }";
    let entries = [
        entry("r.example"),
        entry("cache.example"),
        entry("r.example:443"),
    ]
    .join(", ");
    let config = config(&format!(
        "{hosts}\nsync: {{ entries: [{entries}] }}\nretention: {{ keep_last: 1 }}"
    ));
    let found = preview_of(&sample, &config, &ObservedRecords::NotConfigured).await;
    let names = ["r.example/m/a", "cache.example/m/a", "r.example:443/m/a"];
    assert_eq!(
        found.deletions,
        names.map(|name| (repository(name), tag("1.0"))).into()
    );
}

#[tokio::test]
async fn nothing_is_foreseen_while_the_guard_holds_or_too_much_would_go() {
    let sample = Sample::new("r.example/bases/a", Deletions::ALL);
    for name in ["3.10-core1.0.0", "3.11-core1.0.0", "3.12-core1.0.0"] {
        sample.old(name).await;
    }
    let config = config(&format!("{BASES}retention: {{ keep_last: 1 }}"));
    let unreadable = vec![Unreadable {
        file: "f".to_owned(),
        problem: "it is no record".to_owned(),
    }];
    let on_base = record(
        "r.example/apps/a:1",
        Some("r.example/bases/a:3.13-core1.0.0"),
        None,
    );
    let partly = ObservedRecords::Read(Reading {
        records: vec![on_base.clone()],
        unreadable,
    });
    for guarded in [ObservedRecords::NotConfigured, records(Vec::new()), partly] {
        assert_eq!(
            preview_of(&sample, &config, &guarded).await,
            CleanupPreview::default(),
            "{guarded:?}"
        );
        assert_eq!(sample.store.calls(), []);
    }
    assert_eq!(
        preview_of(&sample, &config, &records(vec![on_base]))
            .await
            .deletions,
        BTreeSet::new(),
        "two of three are too many"
    );
}

#[tokio::test]
async fn what_cannot_be_seen_is_not_foreseen_to_go() {
    let sample = Sample::mirror(&["1.0", "2.0", "3.0"]).await;
    let open = config(
        "sync: { entries: [{ source: up.example/a, target: r.example/m/a, tag_regex: '[0-9.]+', keep_last: 1 }] }\nretention: { keep_last: 2 }",
    );
    let found = preview_of(&sample, &open, &ObservedRecords::NotConfigured).await;
    assert!(
        found.deletions.is_empty()
            && found.warnings[0].contains("there is no repository up.example/a"),
        "{found:?}"
    );
    let up = Sample {
        store: sample.store.clone(),
        at: repository("up.example/a"),
    };
    up.old("3.0").await;
    let goes = BTreeSet::from([(sample.at.clone(), tag("1.0"))]);
    assert_eq!(
        preview_of(&sample, &open, &ObservedRecords::NotConfigured)
            .await
            .deletions,
        goes
    );
    assert_eq!(
        sample.store.count(Operation::Tags),
        1,
        "of the upstream, and the target is not listed again"
    );
    for failing in [Operation::Manifest, Operation::PushDates] {
        sample.store.fail_when(move |call| {
            (call.operation == failing).then_some(Fault::Error(ItemErrorKind::ServerError))
        });
        assert_eq!(
            preview_of(&sample, &open, &ObservedRecords::NotConfigured)
                .await
                .deletions,
            BTreeSet::new(),
            "{failing:?}"
        );
    }
}

#[derive(Clone, Debug)]
struct Dice {
    is_base: bool,
    /// Name, age in days of its label, whether it is within an index; the age in days of its push.
    tags: Vec<(&'static str, Option<i64>, bool, Option<i64>)>,
    /// Tags that name nothing.
    lost: Vec<usize>,
    keep_last: usize,
    min_keep: usize,
    max_age_days: Option<u32>,
    any: bool,
    percent: u8,
    /// Tags that records name, by the tag or by the digest.
    recorded: Vec<(usize, bool)>,
}

fn dice() -> impl Strategy<Value = Dice> {
    let names = vec![
        "3.20",
        "3.20-core1.0.0",
        "3.19",
        "3.18-core1.0.0",
        "3.2",
        "3.1",
        "1",
        "word",
        "apple",
        "mango",
        "stable",
        "latest",
        "2026.01",
    ];
    let age = prop::option::weighted(0.8, prop::sample::select(vec![0_i64, 5, 40, 400, 20_000]));
    let tags = prop::sample::subsequence(names, 1..10).prop_flat_map(move |names| {
        let age = age.clone();
        names
            .into_iter()
            .map(|name| (Just(name), age.clone(), any::<bool>(), age.clone()))
            .collect::<Vec<_>>()
    });
    let rules = (
        0_usize..5,
        0_usize..3,
        prop::option::of(prop::sample::select(vec![1_u32, 30, 100])),
        any::<bool>(),
    );
    let recorded = prop::collection::vec((0_usize..10, any::<bool>()), 1..3);
    let lost = prop::collection::vec(0_usize..10, 0..3);
    (
        any::<bool>(),
        (tags, lost),
        rules,
        prop::sample::select(vec![40_u8, 100]),
        recorded,
    )
        .prop_map(
            |(
                is_base,
                (tags, lost),
                (keep_last, min_keep, max_age_days, any),
                percent,
                recorded,
            )| Dice {
                is_base,
                tags,
                lost,
                keep_last,
                min_keep,
                max_age_days,
                any,
                percent,
                recorded,
            },
        )
}

async fn check(dice: Dice) {
    let sample = Sample::new(
        if dice.is_base {
            "r.example/bases/a"
        } else {
            "r.example/m/a"
        },
        Deletions::ALL,
    );
    let mut digests = Vec::new();
    for (name, age, in_index, pushed) in &dice.tags {
        let created = age.map(|days| (now() - TimeDelta::days(days)).to_rfc3339());
        let labels = created.map_or(
            json!({}),
            |created| json!({ "org.opencontainers.image.created": created }),
        );
        let image = sample.image(name, labels).await;
        let digest = if *in_index {
            sample.index(&[&image]).await
        } else {
            image
        };
        let manifest = sample
            .store
            .manifest(&sample.at, &digest.clone().into())
            .await
            .expect("to read")
            .expect("a manifest");
        sample
            .store
            .put_manifest(&sample.at, &Reference::Tag(tag(name)), &manifest)
            .await
            .expect("a tag");
        if let Some(days) = pushed {
            sample
                .store
                .date_tag(&sample.at, &tag(name), now() - TimeDelta::days(*days));
        }
        digests.push(digest);
    }
    for position in &dice.lost {
        sample
            .store
            .lose_manifest(&sample.at, &digests[position % digests.len()]);
    }
    let age = dice
        .max_age_days
        .map_or_else(String::new, |days| format!("max_age_days: {days}, "));
    let any = if dice.any { "match: any, " } else { "" };
    let config = config(&format!(
        "{BASES}retention: {{ {age}{any}keep_last: {}, min_keep: {}, max_delete_percent: {} }}",
        dice.keep_last, dice.min_keep, dice.percent
    ));
    let named = dice.recorded.iter().map(|(position, by_digest)| {
        let at = position % digests.len();
        let base = format!(
            "{}:{}",
            sample.at,
            if *by_digest { "gone" } else { dice.tags[at].0 }
        );
        record(
            "r.example/apps/a:1",
            Some(&base),
            by_digest.then_some(&digests[at]),
        )
    });
    let records = records(named.collect());
    let expected = condemned(&sample, &config, &records).await;
    let found = preview_of(&sample, &config, &records).await;
    assert_eq!(found.deletions, expected, "{dice:?}");
    assert!(
        sample.store.count(Operation::Tags) == 0 && sample.store.count(Operation::PushDates) <= 1
    );
    // Of an image within an index the index, the image and its configuration.
    assert!(
        sample.store.count(Operation::Manifest) + sample.store.count(Operation::Blob)
            <= 3 * dice.tags.len()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_foreseen_is_what_a_clean_up_does(dice in dice()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(check(dice));
    }
}
