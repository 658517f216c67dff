//! The preview has the same deletions as a cleanup, with as few requests as possible.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::registry::ListedTag;
use crate::steps::build;

const PREVIEW_CONFIG: &str = "sync: { entries: [{ source: up.example/a, target: r.example/m/a, tag: '3.20' }] }
build: { registry: r.example/bases, core_version: 1.0.0, images: [{ name: a, folder: a, type: core, mirror_image: r.example/m/a, aliases: [stable] }] }
";

async fn listings(
    sample: &SampleRepository,
    config: &Config,
) -> BTreeMap<Repository, Vec<ListedTag>> {
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

/// Returns the preview. The store has the calls that it took.
async fn preview_of(
    sample: &SampleRepository,
    config: &Config,
    records: &ObservedRecords,
) -> CleanupPreview {
    let (cache, progress) = (crate::transfer::no_cache(), crate::progress::silent());
    let stores = sample.store.stores();
    let observer = Observer {
        limits: ReadingLimits::default(),
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
            documents: None,
            listings: &listings,
            identities: &identities,
            records,
        },
        observer,
    )
    .await
}

/// Returns the deletions of a real plan on a read-only store.
async fn planned_deletions(
    sample: &SampleRepository,
    config: &Config,
    records: &ObservedRecords,
) -> BTreeSet<(Repository, Tag)> {
    let (cache, progress) = (crate::transfer::no_cache(), crate::progress::silent());
    let stores = sample.store.stores().read_only();
    let observer = Observer {
        limits: ReadingLimits::default(),
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
async fn preview_sends_no_request_if_names_decide() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "9", "latest"]).await;
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
    // Only the tag to delete is read, and the existence of the newer tags is checked.
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
        (StoreOperation::PushDates, ""),
        (StoreOperation::Manifest, "1.0"),
        (StoreOperation::Resolve, "2.0"),
        (StoreOperation::Resolve, "9"),
    ];
    assert_eq!(
        calls,
        expected.map(|(operation, subject)| (operation, subject.to_owned()))
    );
}

#[tokio::test]
async fn preview_ignores_tags_without_manifest() {
    let none = ObservedRecords::NotConfigured;
    let sample = SampleRepository::mirror(&["1.0", "2.0", "3.0", "4.0"]).await;
    let expected = |names: &[&str]| {
        names
            .iter()
            .map(|name| (sample.at.clone(), tag(name)))
            .collect::<BTreeSet<_>>()
    };
    let rules = mirror("keep_last: 2, max_delete_percent: 100");
    assert_eq!(
        preview_of(&sample, &rules, &none).await.deletions,
        expected(&["1.0", "2.0"])
    );
    let missing = sample.old("4.0").await;
    sample.store.lose_manifest(&sample.at, &missing);
    assert_eq!(
        preview_of(&sample, &rules, &none).await.deletions,
        expected(&["1.0"])
    );
    let missing = sample.old("3.0").await;
    sample.store.lose_manifest(&sample.at, &missing);
    assert_eq!(
        preview_of(&sample, &rules, &none).await.deletions,
        expected(&[])
    );
    // They do not count for the deleted share either.
    let sample = SampleRepository::mirror(&["1.0", "2.0", "latest"]).await;
    let rules = mirror("keep_last: 1, max_delete_percent: 34");
    assert_eq!(preview_of(&sample, &rules, &none).await.deletions.len(), 1);
    let missing = sample.old("latest").await;
    sample.store.lose_manifest(&sample.at, &missing);
    assert_eq!(
        preview_of(&sample, &rules, &none).await.deletions,
        BTreeSet::new()
    );
}

#[tokio::test]
async fn preview_has_deletions_under_every_name_of_a_repository() {
    let sample = SampleRepository::mirror(&["1.0", "2.0"]).await;
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
async fn preview_is_empty_after_a_failed_safety_check_or_above_max_delete_percent() {
    let sample = SampleRepository::new("r.example/bases/a", DeletionSupport::ALL);
    for name in ["3.10-core1.0.0", "3.11-core1.0.0", "3.12-core1.0.0"] {
        sample.old(name).await;
    }
    let config = config(&format!("{PREVIEW_CONFIG}retention: {{ keep_last: 1 }}"));
    let unreadable = vec![UnreadableFile {
        file: "f".to_owned(),
        problem: "it is no record".to_owned(),
    }];
    let on_base = record(
        "r.example/apps/a:1",
        Some("r.example/bases/a:3.13-core1.0.0"),
        None,
    );
    let partly = ObservedRecords::Read(RecordSet {
        records: vec![on_base.clone()],
        reduced: Vec::new(),
        unreadable,
        first_written: None,
    });
    for records in [ObservedRecords::NotConfigured, records(Vec::new()), partly] {
        assert_eq!(
            preview_of(&sample, &config, &records).await,
            CleanupPreview::default(),
            "{records:?}"
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
async fn preview_keeps_tags_that_cannot_be_read() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "3.0"]).await;
    let open = config(
        "sync: { entries: [{ source: up.example/a, target: r.example/m/a, tag_regex: '[0-9.]+', keep_last: 1 }] }\nretention: { keep_last: 2 }",
    );
    let found = preview_of(&sample, &open, &ObservedRecords::NotConfigured).await;
    assert!(
        found.deletions.is_empty()
            && found.warnings[0].contains("there is no repository up.example/a"),
        "{found:?}"
    );
    let up = SampleRepository {
        store: sample.store.clone(),
        at: repository("up.example/a"),
    };
    // At least half of what the mirror has.
    up.old("2.0").await;
    up.old("3.0").await;
    let expected = BTreeSet::from([(sample.at.clone(), tag("1.0"))]);
    assert_eq!(
        preview_of(&sample, &open, &ObservedRecords::NotConfigured)
            .await
            .deletions,
        expected
    );
    assert_eq!(
        sample.store.count(StoreOperation::Tags),
        1,
        "of the upstream, and the target is not listed again"
    );
    for failing in [StoreOperation::Manifest, StoreOperation::PushDates] {
        sample.store.fail_when(move |call| {
            (call.operation == failing).then_some(StoreFault::Error(ItemErrorKind::ServerError))
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
struct PreviewWorld {
    is_base: bool,
    /// Name, age of the created label in days, true if it is in an index, age of the push in days.
    tags: Vec<(&'static str, Option<i64>, bool, Option<i64>)>,
    /// Positions of tags without a manifest.
    lost: Vec<usize>,
    keep_last: usize,
    min_keep: usize,
    max_age_days: Option<u32>,
    any: bool,
    percent: u8,
    /// Positions of tags that records name, and true if by digest.
    recorded: Vec<(usize, bool)>,
}

fn worlds() -> impl Strategy<Value = PreviewWorld> {
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
            )| PreviewWorld {
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

async fn check(world: PreviewWorld) {
    let sample = SampleRepository::new(
        if world.is_base {
            "r.example/bases/a"
        } else {
            "r.example/m/a"
        },
        DeletionSupport::ALL,
    );
    let mut digests = Vec::new();
    for (name, age, in_index, pushed) in &world.tags {
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
    for position in &world.lost {
        sample
            .store
            .lose_manifest(&sample.at, &digests[position % digests.len()]);
    }
    let age = world
        .max_age_days
        .map_or_else(String::new, |days| format!("max_age_days: {days}, "));
    let any = if world.any { "match: any, " } else { "" };
    let config = config(&format!(
        "{PREVIEW_CONFIG}retention: {{ {age}{any}keep_last: {}, min_keep: {}, max_delete_percent: {} }}",
        world.keep_last, world.min_keep, world.percent
    ));
    let named = world.recorded.iter().map(|(position, by_digest)| {
        let at = position % digests.len();
        let base = format!(
            "{}:{}",
            sample.at,
            if *by_digest { "gone" } else { world.tags[at].0 }
        );
        record(
            "r.example/apps/a:1",
            Some(&base),
            by_digest.then_some(&digests[at]),
        )
    });
    let records = records(named.collect());
    let expected = planned_deletions(&sample, &config, &records).await;
    let found = preview_of(&sample, &config, &records).await;
    assert_eq!(found.deletions, expected, "{world:?}");
    assert!(
        sample.store.count(StoreOperation::Tags) == 0
            && sample.store.count(StoreOperation::PushDates) <= 1
    );
    // At most an index, an image and its configuration for each tag.
    assert!(
        sample.store.count(StoreOperation::Manifest) + sample.store.count(StoreOperation::Blob)
            <= 3 * world.tags.len()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn preview_equals_the_plan_of_a_cleanup(world in worlds()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(check(world));
    }
}
