//! Repositories that the configuration and records spell in several ways.

use super::*;

#[tokio::test]
async fn repository_with_two_names_is_one_target_and_protected_under_each() {
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
    let sample = SampleRepository::mirror(&["1.0", "2.0", "3.0", "4.0", "5.0", "6.0"]).await;
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
    // The rules of every name apply.
    assert_eq!(reason(&plan, &sample.at, "4.0"), Some(KeepReason::KeepLast));
}

#[tokio::test]
async fn hosts_with_the_same_endpoint_path_are_one_target() {
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
    let sample = SampleRepository::new("two.example/m/a", DeletionSupport::ALL);
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
async fn layout_behind_a_symlink_is_one_target() {
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
    let sample = SampleRepository::new(&layout("alias"), DeletionSupport::ALL);
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
