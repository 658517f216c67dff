//! Random worlds: whatever the rules, nothing goes that anything needs.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A world in a few numbers, so that it shrinks well.
#[derive(Clone, Debug)]
struct Dice {
    /// Of each index the leaves it is made of, as bits.
    indexes: Vec<u8>,
    /// The image and the age in days of each tag `1.<position>`: leaves first, then indexes.
    tags: Vec<(usize, i64)>,
    /// Images with a signature, and images with a list of referrers.
    signed: Vec<usize>,
    /// Images that records name by digest, and tags that they name.
    pinned: Vec<usize>,
    recorded: Vec<usize>,
    excluded: Vec<usize>,
    /// The tag that a configured image is built on.
    used: usize,
    keep_last: usize,
    min_keep: usize,
    max_age_days: Option<u32>,
    any: bool,
    deletes_tags: bool,
    deletes_manifests: bool,
}

const LEAVES: usize = 4;
const INDEXES: usize = 3;
const SELECTED: &str = "1.2";

fn dice() -> impl Strategy<Value = Dice> {
    let image = 0..LEAVES + INDEXES;
    let world = (
        prop::collection::vec(1_u8..16, INDEXES),
        prop::collection::vec(
            (image.clone(), prop::sample::select(vec![0_i64, 5, 40, 400])),
            1..9,
        ),
        prop::collection::vec(image.clone(), 0..4),
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
            Dice {
                indexes,
                tags,
                signed,
                pinned,
                recorded,
                excluded,
                used,
                keep_last,
                min_keep,
                max_age_days,
                any,
                deletes_tags,
                deletes_manifests,
            }
        },
    )
}

impl Dice {
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
             retention: {{ {age}{any}keep_last: {}, min_keep: {}, exclude_tags: [{}], require_records: false }}",
            self.used,
            self.keep_last,
            self.min_keep,
            excluded.join(", ")
        ))
    }

    async fn sample(&self) -> (Sample, Vec<Digest>) {
        let ability = |has| {
            if has {
                Ability::Present
            } else {
                Ability::Missing
            }
        };
        let deletions = Deletions {
            tags: ability(self.deletes_tags),
            manifests: ability(self.deletes_manifests),
        };
        let sample = Sample::new("r.example/m/a", deletions);
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
            let signature = sample
                .image(&format!("signature {position}"), json!({}))
                .await;
            let subject = &images[*image];
            if position % 2 == 0 {
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

/// Returns what each tag names.
async fn named(sample: &Sample) -> BTreeMap<String, Digest> {
    let mut named = BTreeMap::new();
    for name in sample.tags().await {
        let found = sample
            .store
            .resolve(&sample.at, &tag(&name).into())
            .await
            .expect("to look");
        named.insert(name, found.expect("an image").digest);
    }
    named
}

/// Returns a digest with all that it leads to; panics when something of it is missing.
async fn whole(sample: &Sample, digest: &Digest) -> BTreeSet<Digest> {
    let manifest = sample
        .store
        .manifest(&sample.at, &digest.clone().into())
        .await
        .expect("to read");
    let manifest = manifest.unwrap_or_else(|| panic!("{digest} is gone"));
    let mut all = BTreeSet::from([digest.clone()]);
    for child in manifest.children().unwrap_or_default() {
        assert!(
            sample.has(&child.digest).await,
            "{} of {digest} is gone",
            child.digest
        );
        all.insert(child.digest.clone());
    }
    all
}

async fn check(dice: Dice) {
    let (sample, images) = dice.sample().await;
    let before = named(&sample).await;
    let mut leads_to = BTreeMap::new();
    for (name, digest) in &before {
        leads_to.insert(name.clone(), whole(&sample, digest).await);
    }
    let records = dice.records(&images);
    let report = sample.run(&dice.config(), records.clone()).await;
    assert_eq!(report.exit(), Exit::Done, "{report:?}");
    let after = named(&sample).await;
    // What somebody needs is there, and names what it named.
    let mut versions: Vec<usize> = (0..dice.tags.len()).collect();
    versions.sort_unstable_by(|one, other| other.cmp(one));
    let pinned: BTreeSet<&Digest> = dice.pinned.iter().map(|image| &images[*image]).collect();
    for (position, (_, days)) in dice.tags.iter().enumerate() {
        let name = format!("1.{position}");
        let is_old = dice.max_age_days.map(|limit| *days > i64::from(limit));
        let is_beyond = versions
            .iter()
            .position(|version| *version == position)
            .expect("a rank")
            >= dice.keep_last;
        let rules_keep = if dice.any {
            !is_beyond && is_old != Some(true)
        } else {
            !is_beyond || is_old == Some(false)
        };
        let needed = rules_keep
            || name == SELECTED
            || dice.excluded.contains(&position)
            || position == dice.used
            || dice.recorded.contains(&position)
            || *days == 0
            || versions
                .iter()
                .take(dice.min_keep)
                .any(|kept| *kept == position)
            || leads_to[&name].iter().any(|digest| pinned.contains(digest));
        if needed {
            assert_eq!(after.get(&name), before.get(&name), "{name} {report:?}");
        } else if dice.deletes_tags {
            assert_eq!(after.get(&name), None, "{name} {report:?}");
        }
    }
    // Whatever is left is whole, with its attachments.
    let mut alive = BTreeSet::new();
    for (name, digest) in &after {
        assert_eq!(before.get(name), Some(digest));
        alive.extend(whole(&sample, digest).await);
    }
    for image in &dice.pinned {
        alive.extend(whole(&sample, &images[*image]).await);
    }
    for (name, digest) in before.iter().filter(|(name, _)| tag(name).is_attachment()) {
        let subject = alive
            .iter()
            .find(|digest| name.starts_with(Tag::of_referrers(digest).as_str()));
        if subject.is_some() {
            assert_eq!(
                after.get(name),
                Some(digest),
                "an attachment of {subject:?} is gone"
            );
        }
    }
    // What is reported is what happened.
    let gone: BTreeSet<&String> = before
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
        gone
    );
    // The second run has nothing to do.
    sample.store.clear_calls();
    let again = sample.run(&dice.config(), records.clone()).await;
    let reads = [
        Operation::Deletions,
        Operation::Tags,
        Operation::PushDates,
        Operation::Resolve,
        Operation::Manifest,
        Operation::Repositories,
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
    assert_eq!(named(&sample).await, after);
    // Kinder rules delete nothing that these keep.
    for kinder in [
        Dice {
            keep_last: dice.keep_last + 1,
            ..dice.clone()
        },
        Dice {
            min_keep: dice.min_keep + 1,
            ..dice.clone()
        },
        Dice {
            max_age_days: dice.max_age_days.map(|days| days * 2),
            ..dice.clone()
        },
        Dice {
            any: false,
            ..dice.clone()
        },
        Dice {
            max_age_days: dice.max_age_days.filter(|_| !dice.any),
            ..dice.clone()
        },
        Dice {
            excluded: [dice.excluded.clone(), vec![1]].concat(),
            ..dice.clone()
        },
        Dice {
            recorded: [dice.recorded.clone(), vec![0]].concat(),
            ..dice.clone()
        },
        Dice {
            pinned: [dice.pinned.clone(), vec![LEAVES]].concat(),
            ..dice.clone()
        },
    ] {
        let (other, _) = kinder.sample().await;
        other.run(&kinder.config(), kinder.records(&images)).await;
        let left = named(&other).await;
        assert!(
            after.keys().all(|name| left.contains_key(name)),
            "{kinder:?} deletes what {dice:?} keeps"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_goes_that_anything_needs(dice in dice()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(check(dice));
    }
}
