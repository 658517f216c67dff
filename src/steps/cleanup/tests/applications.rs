//! Application repositories.

use super::*;

const APPLICATIONS: &str = "
sync: { entries: [ { source: up.example/a, target: r.example/apps/mirror, tag: '1.0' } ] }
retention:
  keep_last: 2
  min_keep: 0
  max_delete_percent: 100
  repositories: [r.example/apps/*, r.example/single]
";

/// Returns a record of `project` for the tag `name` of the application repository, built on the day
/// `day` of 2025.
fn built(project: &str, name: &str, day: u32, base: Option<&str>) -> BuildRecord {
    let text = json!({
        "image": format!("r.example/apps/web:{name}"),
        "base": base,
        "project": project,
        "built_at": format!("2025-01-{day:02}T00:00:00Z"),
    });
    BuildRecord::parse(text.to_string().as_bytes()).expect("a record")
}

/// Returns the tags of a report that stay, with their reasons.
fn reasons(report: &CleanupReport) -> Vec<(String, String)> {
    report
        .kept
        .iter()
        .map(|kept| (kept.tag.to_string(), format!("{:?}", kept.reason)))
        .collect()
}

#[tokio::test]
async fn record_protects_its_image_while_it_is_among_the_newest_of_its_project() {
    for deletions in [DeletionSupport::ALL, DIGEST_ONLY] {
        let sample = SampleRepository::new("r.example/apps/web", deletions);
        for name in ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6"] {
            sample.old(name).await;
        }
        let config = config(APPLICATIONS);
        let mut all: Vec<BuildRecord> = (0..5)
            .map(|minor| built("team/web", &format!("1.{minor}"), 1 + minor, None))
            .collect();
        // The only record of another project, and an application that is built on an old image.
        all.push(built("team/old", "1.0", 1, None));
        all.push(built(
            "team/on-top",
            "2.0",
            1,
            Some("r.example/apps/web:1.1"),
        ));
        let read = records(all);
        let plan = sample.plan(&config, read.clone()).await;
        let watch = RecordWatch::new(&config, &read, false, now());
        let journal = Journal::new(Arc::<MemoryJournal>::default(), Clock::new(now));
        let execution = CleanupExecution {
            mode: Mode::Apply,
            stores: sample.store.stores(),
            records: &watch,
            journal: &journal,
            progress: crate::progress::silent(),
            max_requests: None,
            cancel: CancellationToken::new(),
        };
        let report = CleanupReport::new(&plan, execute(&plan, &execution).await);
        // 1.3 and 1.4 by their records, 1.5 and 1.6 are the newest two tags.
        assert_eq!(
            sample.tags().await,
            names(&["1.0", "1.1", "1.3", "1.4", "1.5", "1.6"]),
            "{report:?}"
        );
        let kept = reasons(&report);
        for (tag, reason) in [
            ("1.0", "Recorded"),
            ("1.1", "BaseOf"),
            ("1.3", "Recorded"),
            ("1.6", "KeepLast"),
        ] {
            assert!(
                kept.iter()
                    .any(|(kept, why)| kept == tag && why.starts_with(reason)),
                "{tag} {kept:?}"
            );
        }
        assert_eq!(report.exit(), Exit::Done);
    }
}

#[tokio::test]
async fn repositories_are_listed_or_named_by_records() {
    let config = config(APPLICATIONS);
    let sample = SampleRepository::new("r.example/apps/web", DeletionSupport::ALL);
    sample.old("1.0").await;
    for at in [
        "r.example/apps/api",
        "r.example/single",
        "r.example/other/x",
        "r.example/apps/mirror",
    ] {
        let other = SampleRepository {
            store: sample.store.clone(),
            at: repository(at),
        };
        other.old("1.0").await;
    }
    let observed = |world: &World| -> Vec<(String, RepositoryRole)> {
        world
            .repositories
            .iter()
            .map(|found| (found.repository.to_string(), found.role))
            .collect()
    };
    let read = records(vec![built("p", "1.0", 1, None)]);
    let all = [
        ("r.example/apps/mirror", RepositoryRole::Mirror),
        ("r.example/apps/api", RepositoryRole::Application),
        ("r.example/apps/web", RepositoryRole::Application),
        ("r.example/single", RepositoryRole::Application),
    ];
    let named = |expected: &[(&str, RepositoryRole)]| -> Vec<(String, RepositoryRole)> {
        expected
            .iter()
            .map(|(name, role)| ((*name).to_owned(), *role))
            .collect()
    };
    let world = sample.world(&config, read.clone()).await;
    assert_eq!(observed(&world), named(&all));
    assert!(world.warnings.is_empty(), "{:?}", world.warnings);
    sample.store.fail_when(|call| {
        let fails = call.operation == StoreOperation::Repositories;
        fails.then_some(StoreFault::Error(ItemErrorKind::Forbidden))
    });
    let world = sample.world(&config, read).await;
    assert_eq!(observed(&world), named(&[all[0], all[2], all[3]]));
    assert!(
        world.warnings[0].contains("only repositories that build records name"),
        "{:?}",
        world.warnings
    );
}

#[tokio::test]
async fn nothing_is_deleted_without_records() {
    let sample = SampleRepository::new("r.example/apps/web", DeletionSupport::ALL);
    for name in ["1.0", "1.1", "1.2"] {
        sample.old(name).await;
    }
    let report = sample.run(&config(APPLICATIONS), records(Vec::new())).await;
    assert!(
        report.safety_error.is_some() && report.totals.deleted == 0,
        "{report:?}"
    );
    assert_eq!(sample.tags().await, names(&["1.0", "1.1", "1.2"]));
}
