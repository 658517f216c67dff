//! Tags that move upstream: which ones are followed, pins, drift and skipped images.

use super::*;

fn auto(pattern: &str) -> SyncEntry {
    SyncEntry {
        check_digest: CheckDigest::Auto,
        keep_replaced: true,
        ..entry(pattern)
    }
}

fn fixed(tag: &str) -> SyncEntry {
    SyncEntry {
        selection: TagSelection::Fixed(tag.parse().expect("a tag")),
        ..auto(".*")
    }
}

#[tokio::test]
async fn auto_follows_tags_without_a_version_and_tags_that_another_refines() {
    let fixture = fixture(vec![auto(".*")]);
    let moving = ["3", "3.21", "latest", "3.21.3-alpine"];
    let exact = ["3.21.3", "3.21.3-alpine3.24", "20260805"];
    for name in moving.iter().chain(&exact) {
        put(&fixture.source, &upstream(), name, "before").await;
    }
    assert_eq!(fixture.run(Mode::Apply).await.exit(), Exit::Done);
    for name in moving.iter().chain(&exact) {
        put(&fixture.source, &upstream(), name, "after").await;
    }
    let report = fixture.run(Mode::Apply).await;
    let copied: Vec<&str> = outcomes(&report)
        .into_iter()
        .filter(|(_, outcome)| **outcome == SyncOutcome::Copied)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(copied, ["3.21.3-alpine", "3.21", "3", "latest"]);
    for name in moving {
        let kept = fixture
            .at_target(&format!("{name}-replaced.20260301"))
            .await;
        assert!(kept.is_some(), "the former image of {name} is kept");
    }
}

#[tokio::test]
async fn fixed_tag_is_followed_unless_it_is_an_exact_version() {
    for (name, is_followed) in [
        ("latest", true),
        ("bookworm-slim", true),
        ("3.13", true),
        ("3.13.2", false),
        ("bookworm-20260803", false),
        ("21.0.5_11-jre", false),
    ] {
        for referrers in [true, false] {
            let fixture = fixture(vec![SyncEntry {
                referrers,
                ..fixed(name)
            }]);
            put(&fixture.source, &upstream(), name, "before").await;
            put(&fixture.source, &upstream(), "3.13.2", "exact").await;
            fixture.run(Mode::Apply).await;
            let after = put(&fixture.source, &upstream(), name, "after").await;
            fixture.run(Mode::Apply).await;
            assert_eq!(
                fixture.at_target(name).await == Some(after),
                is_followed,
                "{name}, referrers: {referrers}"
            );
        }
    }
}

#[tokio::test]
async fn pinned_digest_is_copied_whatever_the_tag_is_upstream() {
    let source = fixture(vec![]);
    let pinned = put(&source.source, &upstream(), "3.21.3", "pinned").await;
    put(&source.source, &upstream(), "3.21.3", "moved").await;
    let mut sync = fixture(vec![SyncEntry {
        digest: Some(pinned.clone()),
        ..fixed("3.21.3")
    }]);
    sync.source = source.source.clone();
    put(&sync.target, &mirror(), "3.21.3", "before").await;
    for expected in [SyncOutcome::Copied, SyncOutcome::UpToDate] {
        let report = sync.run(Mode::Apply).await;
        assert_eq!(outcomes(&report), [("3.21.3", &expected)]);
        assert_eq!(sync.at_target("3.21.3").await, Some(pinned.clone()));
    }
}

#[tokio::test]
async fn target_that_refuses_to_move_a_tag_is_a_warning() {
    for (check_digest, expected) in [
        (CheckDigest::Auto, Exit::Done),
        (CheckDigest::Always, Exit::Failed),
    ] {
        let fixture = fixture(vec![SyncEntry {
            check_digest,
            keep_replaced: false,
            ..auto("latest")
        }]);
        put(&fixture.source, &upstream(), "latest", "before").await;
        fixture.run(Mode::Apply).await;
        put(&fixture.source, &upstream(), "latest", "after").await;
        fixture.target.fail_when(|call| {
            (call.operation == StoreOperation::PutManifest && call.subject == "latest")
                .then_some(StoreFault::Error(ItemErrorKind::Refused))
        });
        let mut report = fixture.run(Mode::Apply).await;
        assert_eq!(report.exit(), expected, "{check_digest:?}");
        if check_digest == CheckDigest::Auto {
            assert_eq!(report.totals.drifted, 1);
            report.fails_on_drift = true;
            assert_eq!(report.exit(), Exit::Failed);
        }
    }
}
