//! Manifests without a tag, where the registry lists them.

use super::*;
use crate::packages::StoredDocument;

/// Returns a repository with a moved index, its former image, and images that something needs.
struct Moved {
    sample: SampleRepository,
    /// The former index and its part.
    former: [Digest; 2],
    /// What stays, with the reason.
    needed: Vec<(&'static str, Digest)>,
    read: ObservedRecords,
}

async fn moved(deletions: DeletionSupport) -> Moved {
    let sample = SampleRepository::new("r.example/m/a", deletions);
    let (shared, own) = (
        sample.image("shared", json!({})).await,
        sample.image("own", json!({})).await,
    );
    let former = sample.index(&[&shared, &own]).await;
    sample
        .tag("1.0", &sample.index(&[&shared]).await, 365)
        .await;
    let recorded = sample.image("recorded", json!({})).await;
    let part_of_recorded = sample.image("part of recorded", json!({})).await;
    let recorded_index = sample.index(&[&part_of_recorded]).await;
    let attached = sample.image("subject", json!({})).await;
    sample.tag("2.0", &attached, 365).await;
    let signature = sample.referrer(&attached).await;
    let read = records(vec![
        record(
            "r.example/apps/a:1",
            Some("r.example/m/a:1.0"),
            Some(&recorded),
        ),
        record(
            "r.example/apps/b:1",
            Some("r.example/m/a:1.0"),
            Some(&recorded_index),
        ),
    ]);
    Moved {
        former: [former, own],
        needed: vec![
            ("part of a tag", shared),
            ("base of a record", recorded),
            ("index in a record", recorded_index),
            ("part of an index in a record", part_of_recorded),
            ("tag", attached),
            ("attachment", signature),
        ],
        sample,
        read,
    }
}

#[tokio::test]
async fn manifests_that_moved_tags_left_behind_are_deleted() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY, TAGS_ONLY] {
        for days in [0, 2] {
            let Moved {
                sample,
                former,
                needed,
                read,
            } = moved(deletions).await;
            sample.store.list_untagged(now() - TimeDelta::days(days));
            let config = mirror("keep_last: 5");
            let world = sample.world(&config, read.clone()).await;
            let report = sample
                .execute_with_records(&plan(&world, &policy()), Mode::Apply, &read)
                .await;
            assert_eq!(
                (report.exit(), report.totals.deleted),
                (Exit::Done, 0),
                "{report:?}"
            );
            let goes = days > 0 && deletions != TAGS_ONLY;
            assert_eq!(
                report.parts,
                if goes { 2 } else { 0 },
                "{deletions:?} {days}"
            );
            for digest in &former {
                assert_eq!(sample.has(digest).await, !goes, "{deletions:?} {days}");
            }
            for (reason, digest) in &needed {
                assert!(sample.has(digest).await, "{reason}");
            }
        }
    }
}

/// Makes a fact about a repository unknown.
type Change = fn(&mut ObservedRepository);

#[tokio::test]
async fn untagged_manifests_stay_where_anything_is_unknown_and_wait_like_tags() {
    let changes: [(&str, Change); 5] = [
        ("listing", |repository| {
            repository.listing_doubt = Some("no proof".to_owned());
        }),
        ("entries", |repository| repository.are_entries_known = false),
        ("image in a record", |repository| {
            repository.is_pinned_known = false;
        }),
        ("age", |repository| {
            for image in &mut repository.untagged {
                image.pushed_at = None;
            }
        }),
        ("error", |repository| {
            repository.error = Some(ItemError::other("it is down"));
        }),
    ];
    let Moved {
        sample,
        read,
        former,
        ..
    } = moved(DeletionSupport::ALL).await;
    sample.store.list_untagged(now() - TimeDelta::days(2));
    let config = mirror("keep_last: 5");
    let world = sample.world(&config, read.clone()).await;
    let digests = |plan: &Plan| -> BTreeSet<Digest> {
        let groups = plan.repositories.iter().flat_map(|planned| &planned.groups);
        groups.map(|group| group.digest.clone()).collect()
    };
    assert_eq!(
        digests(&plan(&world, &policy())),
        BTreeSet::from(former.clone())
    );
    for (name, change) in changes {
        let mut world = world.clone();
        change(&mut world.repositories[0]);
        assert_eq!(digests(&plan(&world, &policy())), BTreeSet::new(), "{name}");
    }
    // With a record store, they wait.
    let config = mirror("keep_last: 5, grace_days: 7");
    let mut world = sample.world(&config, read).await;
    world.repositories[0].history = Some(StoredDocument::absent());
    let mut history = None;
    for (day, expected) in [(0, 0), (6, 0), (7, 2)] {
        world.repositories[0].history = Some(match history {
            Some(history) => StoredDocument::of(history),
            None => StoredDocument::absent(),
        });
        let later = CleanupPolicy {
            now: now() + TimeDelta::days(day),
            ..policy()
        };
        let plan = plan(&world, &later);
        assert_eq!(digests(&plan).len(), expected, "day {day}");
        history = plan.repositories[0].next_history.clone();
        assert_eq!(history.as_ref().map(|next| next.untagged.len()), Some(2));
    }
}

#[tokio::test]
async fn untagged_manifest_that_is_recorded_later_is_kept() {
    let Moved {
        sample,
        former,
        read,
        ..
    } = moved(DeletionSupport::ALL).await;
    sample.store.list_untagged(now() - TimeDelta::days(2));
    let plan = sample.plan(&mirror("keep_last: 5"), read).await;
    let late = record(
        "r.example/apps/c:1",
        Some("r.example/m/a:1.0"),
        Some(&former[0]),
    );
    let report = sample
        .execute_with_records(&plan, Mode::Apply, &records(vec![late]))
        .await;
    assert_eq!(report.parts, 0, "{report:?}");
    assert!(sample.has(&former[0]).await && sample.has(&former[1]).await);
}
