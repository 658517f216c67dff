//! Targets that store tags in lower case.

use super::*;

#[tokio::test]
async fn tags_in_upper_case_are_copied_once_to_a_target_that_lowers_them() {
    let mut sync = fixture(vec![entry("RELEASE.*|edge|Edge")]);
    sync.target = Arc::new(MemoryStore::default().lowering_tags());
    for name in ["RELEASE.1", "RELEASE.2"] {
        put(&sync.source, &upstream(), name, name).await;
    }
    let report = sync.run(Mode::Apply).await;
    assert_eq!(report.exit(), Exit::Done, "{report:?}");
    sync.target.clear_calls();
    let report = sync.run(Mode::Apply).await;
    assert_eq!(
        outcomes(&report),
        [
            ("RELEASE.2", &SyncOutcome::UpToDate),
            ("RELEASE.1", &SyncOutcome::UpToDate)
        ]
    );
    assert_eq!(sync.writes(), 0);
    // Two tags that differ only in case would overwrite each other.
    let edge = put(&sync.source, &upstream(), "edge", "edge").await;
    put(&sync.source, &upstream(), "Edge", "Edge").await;
    put(&sync.source, &upstream(), "RELEASE.3", "RELEASE.3").await;
    let report = sync.run(Mode::Apply).await;
    assert_eq!(report.exit(), Exit::Failed);
    for (name, outcome) in outcomes(&report) {
        match (name, outcome) {
            ("edge" | "Edge", SyncOutcome::Failed(error)) => assert!(
                error
                    .to_string()
                    .contains("Edge and edge would all be stored as"),
                "{error}"
            ),
            ("edge" | "Edge", other) => panic!("{name}: {other:?}"),
            _ => {}
        }
    }
    assert!(sync.at_target("RELEASE.3").await.is_some());
    assert_eq!(sync.at_target("edge").await, None);
    // Other targets keep both.
    let mut sensitive = fixture(vec![entry("edge|Edge")]);
    sensitive.source = sync.source.clone();
    assert_eq!(sensitive.run(Mode::Apply).await.exit(), Exit::Done);
    assert_eq!(sensitive.at_target("edge").await, Some(edge.clone()));
    assert_ne!(sensitive.at_target("Edge").await, Some(edge));
}
