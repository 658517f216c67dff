//! Property tests with random worlds: no combination of rules deletes an image that is needed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A world as a few numbers, so that failing cases shrink well.
#[derive(Clone, Debug)]
struct RandomWorld {
    /// Images in each index, as bits.
    indexes: Vec<u8>,
    /// Image and age in days of each tag `1.<position>`. Images are numbered before indexes.
    tags: Vec<(usize, i64)>,
    /// Images with a signature, a referrers list or a referrer that has a tag.
    signed: Vec<usize>,
    /// Images that records name by digest.
    pinned: Vec<usize>,
    /// Tags that records name.
    recorded: Vec<usize>,
    excluded: Vec<usize>,
    /// Tag that a configured image is built on.
    used: usize,
    keep_last: usize,
    per: &'static str,
    min_keep: usize,
    max_age_days: Option<u32>,
    any: bool,
    deletes_tags: bool,
    deletes_manifests: bool,
}

const LEAVES: usize = 4;
const INDEXES: usize = 3;
const SELECTED: &str = "1.2";
/// Beginning of the tags of referrers.
const ATTACHED: &str = "attached-";

fn worlds() -> impl Strategy<Value = RandomWorld> {
    let image = 0..LEAVES + INDEXES;
    let world = (
        prop::collection::vec(1_u8..16, INDEXES),
        prop::collection::vec(
            (image.clone(), prop::sample::select(vec![0_i64, 5, 40, 400])),
            1..9,
        ),
        prop::collection::vec(image.clone(), 0..7),
        prop::collection::vec(image, 0..2),
        prop::collection::vec(0_usize..9, 0..2),
    );
    let kept = (prop::collection::vec(0_usize..9, 1..3), 0_usize..9);
    let rules = (
        kept,
        0_usize..5,
        0_usize..3,
        prop::option::of(prop::sample::select(vec![1_u32, 30, 100])),
        any::<bool>(),
    );
    (world, rules, any::<bool>(), any::<bool>()).prop_map(
        |(world, rules, deletes_tags, deletes_manifests)| {
            let (indexes, tags, signed, pinned, recorded) = world;
            let ((excluded, used), keep_last, min_keep, max_age_days, any) = rules;
            RandomWorld {
                indexes,
                tags,
                signed,
                pinned,
                recorded,
                excluded,
                used,
                keep_last,
                per: "repository",
                min_keep,
                max_age_days,
                any,
                deletes_tags,
                deletes_manifests,
            }
        },
    )
}

impl RandomWorld {
    fn config(&self) -> Config {
        let age = self
            .max_age_days
            .map_or_else(String::new, |days| format!("max_age_days: {days}, "));
        let any = if self.any { "match: any, " } else { "" };
        let excluded: Vec<String> = self
            .excluded
            .iter()
            .map(|position| format!("'1.{position}'"))
            .collect();
        config(&format!(
            "sync: {{ entries: [{{ source: up.example/a, target: r.example/m/a, tag: '{SELECTED}' }}] }}\n\
             build: {{ registry: r.example/bases, core_version: 1.0.0, images: [{{ name: a, folder: a, type: core, \
             mirror_image: r.example/m/a, mirror_tag: '1.{}' }}] }}\n\
             retention: {{ {age}{any}keep_last: {}, per: {}, min_keep: {}, exclude_tags: [{}], require_records: false }}",
            self.used,
            self.keep_last,
            self.per,
            self.min_keep,
            excluded.join(", ")
        ))
    }

    async fn sample(&self) -> (SampleRepository, Vec<Digest>) {
        let ability = |has| {
            if has {
                Support::Supported
            } else {
                Support::Unsupported
            }
        };
        let deletions = DeletionSupport {
            tags: ability(self.deletes_tags),
            manifests: ability(self.deletes_manifests),
        };
        let sample = SampleRepository::new("r.example/m/a", deletions);
        let mut images = Vec::new();
        for leaf in 0..LEAVES {
            images.push(sample.image(&format!("leaf {leaf}"), json!({})).await);
        }
        for bits in &self.indexes {
            let children: Vec<&Digest> = (0..LEAVES)
                .filter(|leaf| bits >> leaf & 1 == 1)
                .map(|leaf| &images[leaf])
                .collect();
            images.push(sample.index(&children).await);
        }
        for (position, (image, days)) in self.tags.iter().enumerate() {
            sample
                .tag(&format!("1.{position}"), &images[*image], *days)
                .await;
        }
        for (position, image) in self.signed.iter().enumerate() {
            let subject = &images[*image];
            let signature = match position % 3 {
                0 => {
                    sample
                        .image(&format!("signature {position}"), json!({}))
                        .await
                }
                _ => sample.referrer(subject).await,
            };
            if position % 3 == 2 {
                let name = format!("{ATTACHED}{position}");
                sample.tag(&name, &signature, 400).await;
            } else if position % 3 == 0 {
                sample
                    .tag(Tag::of_cosign(subject)[0].as_str(), &signature, 400)
                    .await;
            } else {
                sample
                    .tag(
                        Tag::of_referrers(subject).as_str(),
                        &sample.index(&[&signature]).await,
                        400,
                    )
                    .await;
            }
        }
        (sample, images)
    }

    fn records(&self, images: &[Digest]) -> ObservedRecords {
        let by_digest = self.pinned.iter().map(|image| {
            record(
                "r.example/apps/d:1",
                Some("r.example/m/a:0"),
                Some(&images[*image]),
            )
        });
        let by_tag = self.recorded.iter().map(|tag| {
            record(
                "r.example/apps/t:1",
                Some(&format!("r.example/m/a:1.{tag}")),
                None,
            )
        });
        records(by_digest.chain(by_tag).collect())
    }
}

/// Returns the digest of each tag.
async fn digests_by_tag(sample: &SampleRepository) -> BTreeMap<String, Digest> {
    let mut named = BTreeMap::new();
    for name in sample.tags().await {
        let found = sample
            .store
            .resolve(&sample.at, &tag(&name).into())
            .await
            .expect("to resolve");
        named.insert(name, found.expect("an image").digest);
    }
    named
}

/// Returns a digest with those below it. Panics if a manifest is missing.
async fn complete_tree(sample: &SampleRepository, digest: &Digest) -> BTreeSet<Digest> {
    let manifest = sample
        .store
        .manifest(&sample.at, &digest.clone().into())
        .await
        .expect("to read");
    let manifest = manifest.unwrap_or_else(|| panic!("{digest} is missing"));
    let mut all = BTreeSet::from([digest.clone()]);
    for child in manifest.children().unwrap_or_default() {
        assert!(
            sample.has(&child.digest).await,
            "{} of {digest} is missing",
            child.digest
        );
        all.insert(child.digest.clone());
    }
    all
}

async fn check(world: RandomWorld) {
    let (sample, images) = world.sample().await;
    let before = digests_by_tag(&sample).await;
    let mut leads_to = BTreeMap::new();
    for (name, digest) in &before {
        leads_to.insert(name.clone(), complete_tree(&sample, digest).await);
    }
    let records = world.records(&images);
    let report = sample.run(&world.config(), records.clone()).await;
    assert_eq!(report.exit(), Exit::Done, "{report:?}");
    let after = digests_by_tag(&sample).await;
    // Needed tags exist with the same digest.
    let mut versions: Vec<usize> = (0..world.tags.len()).collect();
    versions.sort_unstable_by(|one, other| other.cmp(one));
    let pinned: BTreeSet<&Digest> = world.pinned.iter().map(|image| &images[*image]).collect();
    for (position, (_, days)) in world.tags.iter().enumerate() {
        let name = format!("1.{position}");
        let is_old = world.max_age_days.map(|limit| *days > i64::from(limit));
        let is_beyond = versions
            .iter()
            .position(|version| *version == position)
            .expect("a rank")
            >= world.keep_last;
        let rules_keep = if world.any {
            !is_beyond && is_old != Some(true)
        } else {
            !is_beyond || is_old == Some(false)
        };
        let needed = rules_keep
            || name == SELECTED
            || world.excluded.contains(&position)
            || position == world.used
            || world.recorded.contains(&position)
            || *days == 0
            || versions
                .iter()
                .take(world.min_keep)
                .any(|kept| *kept == position)
            || leads_to[&name].iter().any(|digest| pinned.contains(digest));
        if needed {
            assert_eq!(after.get(&name), before.get(&name), "{name} {report:?}");
        } else if world.deletes_tags {
            assert_eq!(after.get(&name), None, "{name} {report:?}");
        }
    }
    // Remaining images are complete, with their attachments.
    let mut live = BTreeSet::new();
    for (name, digest) in &after {
        assert_eq!(before.get(name), Some(digest));
        live.extend(complete_tree(&sample, digest).await);
    }
    for image in &world.pinned {
        live.extend(complete_tree(&sample, &images[*image]).await);
    }
    for (position, image) in world
        .signed
        .iter()
        .enumerate()
        .filter(|(position, _)| position % 3 == 2)
    {
        let name = format!("{ATTACHED}{position}");
        if live.contains(&images[*image]) {
            assert_eq!(after.get(&name), before.get(&name), "{name} is missing");
        }
    }
    for (name, digest) in before.iter().filter(|(name, _)| tag(name).is_attachment()) {
        let subject = live
            .iter()
            .find(|digest| name.starts_with(Tag::of_referrers(digest).as_str()));
        if subject.is_some() {
            assert_eq!(
                after.get(name),
                Some(digest),
                "an attachment of {subject:?} is missing"
            );
        }
    }
    // The report has exactly the deleted tags.
    let deleted: BTreeSet<&String> = before
        .keys()
        .filter(|name| !after.contains_key(*name))
        .collect();
    assert_eq!(
        report
            .deleted
            .iter()
            .map(|deleted| deleted.tag.to_string())
            .collect::<BTreeSet<_>>()
            .iter()
            .collect::<BTreeSet<_>>(),
        deleted
    );
    // A second run changes nothing.
    sample.store.clear_calls();
    let again = sample.run(&world.config(), records.clone()).await;
    let reads = [
        StoreOperation::Deletions,
        StoreOperation::Tags,
        StoreOperation::PushDates,
        StoreOperation::TagCase,
        StoreOperation::Resolve,
        StoreOperation::Manifest,
        StoreOperation::Repositories,
    ];
    let others: Vec<_> = sample
        .store
        .calls()
        .into_iter()
        .filter(|call| !reads.contains(&call.operation))
        .collect();
    assert_eq!(
        (again.exit(), again.totals.deleted, others),
        (Exit::Done, 0, Vec::new()),
        "{again:?}"
    );
    assert_eq!(digests_by_tag(&sample).await, after);
    // Rules that keep more delete nothing that these rules keep.
    for lenient in [
        RandomWorld {
            keep_last: world.keep_last + 1,
            ..world.clone()
        },
        RandomWorld {
            per: "minor",
            ..world.clone()
        },
        RandomWorld {
            min_keep: world.min_keep + 1,
            ..world.clone()
        },
        RandomWorld {
            max_age_days: world.max_age_days.map(|days| days * 2),
            ..world.clone()
        },
        RandomWorld {
            any: false,
            ..world.clone()
        },
        RandomWorld {
            max_age_days: world.max_age_days.filter(|_| !world.any),
            ..world.clone()
        },
        RandomWorld {
            excluded: [world.excluded.clone(), vec![1]].concat(),
            ..world.clone()
        },
        RandomWorld {
            recorded: [world.recorded.clone(), vec![0]].concat(),
            ..world.clone()
        },
        RandomWorld {
            pinned: [world.pinned.clone(), vec![LEAVES]].concat(),
            ..world.clone()
        },
    ] {
        let (other, _) = lenient.sample().await;
        other.run(&lenient.config(), lenient.records(&images)).await;
        let left = digests_by_tag(&other).await;
        assert!(
            after.keys().all(|name| left.contains_key(name)),
            "{lenient:?} deletes a tag that {world:?} keeps"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn needed_images_are_never_deleted(world in worlds()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(check(world));
    }
}
