//! What a run tells, and how it is narrowed down: the summary, the file, `--only`, `--shard`, the
//! guard.

use std::collections::BTreeSet;

use super::{client, has, set, tags};
use crate::support::images::{Flavour, Graph};
use crate::support::registry::Registry;
use crate::support::world::World;
use crate::sync::{configuration, entry, json};

/// Publishes single images under these tags.
async fn publish(registry: &Registry, path: &str, names: &[&str]) {
    let mut graph = Graph::default();
    for name in names {
        let image = graph.small_image(Flavour::Oci, "linux/amd64", name);
        graph.tag(name, &image);
    }
    graph
        .publish(&client(registry), &registry.repository(path))
        .await;
}

const RULES: &str =
    "retention: { keep_last: 1, grace_days: 0, max_delete_percent: 80, require_records: false }\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_narrowed_by_names_and_by_shards_and_says_what_it_did() {
    let registry = Registry::plain();
    let paths = ["mirrors/a", "mirrors/b", "mirrors/c"];
    let mut entries = String::new();
    for path in paths {
        publish(&registry, path, &["1.0", "2.0", "9.0"]).await;
        entries += &entry(
            "up.example/a",
            &registry.repository(path).to_string(),
            "tag: '9.0'",
        );
    }
    let world = World::new().file(
        "imglife.yaml",
        configuration(&[&registry], &entries) + RULES,
    );
    let listed = |arguments: &[&str]| {
        let outcome = world
            .imglife_with(&[&["cleanup", "--list"], arguments].concat())
            .succeeds();
        outcome
            .stdout
            .lines()
            .filter(|line| line.contains("beyond"))
            .map(str::to_owned)
            .collect::<BTreeSet<_>>()
    };
    let all = listed(&[]);
    assert_eq!(all.len(), 6, "{all:?}");
    let parts = [listed(&["--shard", "1/2"]), listed(&["--shard", "2/2"])];
    assert!(
        parts[0].is_disjoint(&parts[1]) && !parts[1].is_empty(),
        "{parts:?}"
    );
    assert_eq!(parts.into_iter().flatten().collect::<BTreeSet<_>>(), all);

    let only = registry.repository("mirrors/b").to_string();
    let outcome = world.imglife(["cleanup", "--only", &only]).succeeds();
    for path in paths {
        let expected = if path == "mirrors/b" {
            set(&["9.0"])
        } else {
            set(&["1.0", "2.0", "9.0"])
        };
        assert_eq!(
            tags(&client(&registry), &registry.repository(path)).await,
            expected,
            "{path} {}",
            outcome.stdout
        );
    }
    let (_, summary) = outcome.stdout.split_once("Cleanup · ").expect("a summary");
    let rows: Vec<String> = summary
        .lines()
        .skip(2)
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        rows,
        [
            "Tags examined 3",
            "├─ Deleted 2",
            "├─ Archived 0",
            "├─ Kept 1",
            "└─ Errors 0"
        ],
        "{}",
        outcome.stdout
    );
    assert_eq!(
        outcome.stdout.matches("garbage collection").count(),
        1,
        "{}",
        outcome.stdout
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn application_repositories_are_found_by_their_pattern_and_cleaned_up() {
    let registry = Registry::plain();
    let host = registry.host();
    let versions = ["1.0", "1.1", "1.2", "1.3"];
    for path in ["apps/team/api", "apps/web", "other/web"] {
        publish(&registry, path, &versions).await;
    }
    let world = World::new().file(
        "imglife.yaml",
        format!(
            "registry: {{ provider: file, insecure_registries: ['{host}'] }}\n\
             retention: {{ keep_last: 1, grace_days: 0, max_delete_percent: 100, \
             repositories: ['{host}/apps/*'] }}\n"
        ),
    );
    // The second image of one project, and the only one of another.
    for (tag, project, day) in [
        ("1.0", "team/web", "2025-01-01"),
        ("1.1", "team/web", "2025-01-02"),
        ("1.2", "team/other", "2025-01-01"),
    ] {
        let image = format!("{host}/apps/web:{tag}");
        world
            .imglife([
                "register",
                "--image",
                &image,
                "--base",
                "r.example/b:1",
                "--project",
                project,
                "--revision",
                "r",
                "--built-at",
                &format!("{day}T00:00:00Z"),
            ])
            .succeeds();
    }
    world
        .imglife(["cleanup", "--only", &format!("{host}/apps/web"), "--force"])
        .succeeds();
    let left = |path: &str| {
        let repository = registry.repository(path);
        let store = client(&registry);
        async move { tags(&store, &repository).await }
    };
    assert_eq!(left("apps/web").await, set(&["1.1", "1.2", "1.3"]));
    assert_eq!(left("apps/team/api").await, set(&versions));
    // Records must name known bases.
    let stopped = world.imglife(["cleanup"]);
    assert_eq!(stopped.code(), Some(1), "{}", stopped.stderr);
    assert_eq!(left("apps/team/api").await, set(&versions));
    world.imglife(["cleanup", "--force"]).succeeds();
    // The records protect the same images here as well.
    assert_eq!(left("apps/team/api").await, set(&["1.1", "1.2", "1.3"]));
    assert_eq!(left("other/web").await, set(&versions));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_safety_check_keeps_everything_and_is_in_the_report_unless_forced() {
    let registry = Registry::plain();
    let host = registry.host();
    publish(&registry, "mirrors/a", &["9.0"]).await;
    publish(
        &registry,
        "bases/alpine",
        &["7.0-core1.0.0", "8.0-core1.0.0", "9.0-core1.0.0"],
    )
    .await;
    publish(&registry, "bases/forgotten", &["1.0", "2.0", "3.0"]).await;
    let bases = format!(
        "build: {{ registry: '{host}/bases', core_version: 1.0.0, images: [{{ name: alpine, folder: f, type: core, \
         mirror_image: '{host}/mirrors/a', mirror_tag: '9.0' }}] }}\n"
    );
    let text = configuration(
        &[&registry],
        &entry("up.example/a", &format!("{host}/mirrors/a"), "tag: '9.0'"),
    ) + &bases;
    let rules = "retention: { keep_last: 1, grace_days: 0, max_delete_percent: 80 }\n";
    let world = World::new().file("imglife.yaml", text + rules);
    let (store, at) = (client(&registry), registry.repository("bases/alpine"));
    let before = tags(&store, &at).await;
    let outcome = world
        .imglife(["cleanup", "--report", "report.json"])
        .exits(1);
    assert!(
        outcome
            .stdout
            .contains("error: nothing is deleted: there is no record of any application"),
        "{}",
        outcome.stdout
    );
    assert_eq!(tags(&store, &at).await, before);
    let report = || json(&std::fs::read_to_string(world.path("report.json")).expect("a report"));
    let told = report();
    assert_eq!(
        (&told["dryRun"], told["kept"].as_array().map(Vec::len)),
        (&false.into(), Some(4)),
        "{told:#}"
    );
    let guarded = told["kept"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|kept| kept["reason"] == "guarded")
        .count();
    assert_eq!(
        (guarded, &told["deleted"]),
        (2, &serde_json::json!([])),
        "{told:#}"
    );
    // A repository that the configuration does not name is listed and not changed.
    let orphan =
        format!("note: {host}/bases/forgotten is not in the configuration and was not changed");
    assert!(outcome.stdout.contains(&orphan), "{}", outcome.stdout);

    // `--force` does not override a record.
    let listed = world
        .imglife(["cleanup", "--force", "--list", "--max-delete-percent", "80"])
        .succeeds()
        .stdout;
    assert!(
        listed.contains("7.0-core1.0.0") && listed.contains("8.0-core1.0.0"),
        "{listed}"
    );
    let base = format!("{at}:8.0-core1.0.0");
    let register = [
        "register",
        "--image",
        "r.example/apps/a:1",
        "--platform",
        "linux/amd64",
        "--revision",
        "r",
        "--project",
        "p",
        "--base",
    ];
    world
        .imglife_with(&[&register[..], &[&base]].concat())
        .succeeds();
    world
        .imglife(["cleanup", "--force", "--report", "report.json"])
        .succeeds();
    assert_eq!(
        tags(&store, &at).await,
        set(&["8.0-core1.0.0", "9.0-core1.0.0"])
    );
    let told = report();
    for kept in told["kept"].as_array().into_iter().flatten() {
        let digest = kept["digest"]
            .as_str()
            .expect("a digest")
            .parse()
            .expect("a digest");
        let image = kept["image"]
            .as_str()
            .expect("a repository")
            .parse()
            .expect("a repository");
        assert!(
            kept["reason"].is_string()
                && kept["tag"].is_string()
                && has(&store, &image, &digest).await,
            "{kept:#}"
        );
    }
    assert_eq!(told["deleted"][0]["tag"], "7.0-core1.0.0", "{told:#}");
    assert_eq!(
        tags(&store, &registry.repository("bases/forgotten")).await,
        set(&["1.0", "2.0", "3.0"])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_that_stop_a_run_name_the_option_that_lifts_them() {
    let registry = Registry::builder().without_deletes().start();
    publish(&registry, "mirrors/a", &["1.0", "2.0", "3.0", "9.0"]).await;
    let at = registry.repository("mirrors/a");
    let rules = RULES.replace("80", "50");
    let world = World::new().file(
        "imglife.yaml",
        configuration(
            &[&registry],
            &entry("up.example/a", &at.to_string(), "tag: '9.0'"),
        ) + &rules,
    );
    let stopped = world.imglife(["cleanup", "--list"]).exits(1).stdout;
    assert!(
        stopped.contains(
            "3 of 4 tags would be deleted, more than the allowed 50 percent, so none is deleted"
        ),
        "{stopped}"
    );
    assert!(
        stopped.contains("`imglife cleanup --list --max-delete-percent 75`"),
        "{stopped}"
    );
    let listed = world
        .imglife(["cleanup", "--list", "--max-delete-percent", "75"])
        .succeeds()
        .stdout;
    assert_eq!(listed.matches("  to delete  ").count(), 3, "{listed}");
    let outcome = world
        .imglife(["cleanup", "--max-delete-percent", "75"])
        .succeeds()
        .stdout;
    assert!(
        outcome.contains("warning: ")
            && outcome.contains("the registry does not allow deletions, so 3 tags are kept"),
        "{outcome}"
    );
    assert_eq!(tags(&client(&registry), &at).await.len(), 4, "{outcome}");
}
