//! `demo`: the tour through the sample world.

use std::fs;
use std::time::{Duration, Instant};

use super::support::world::World;

fn entries(directory: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn tour_runs_every_command_and_leaves_a_working_world() {
    // Variables of a CI server and of the user's configuration do not affect the sample world.
    let world = World::new()
        .variable("IMGLIFE_REGISTRY_PROVIDER", "gitea")
        .variable("CI_PROJECT_PATH", "somebody/else")
        .variable("SOURCE_DATE_EPOCH", "0");
    let began = Instant::now();
    let shown = world.imglife(["demo", "./sample"]).succeeds().stdout;
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    let commands: Vec<&str> = shown
        .lines()
        .filter_map(|line| line.strip_prefix("$ imglife ")?.split(' ').next())
        .collect();
    assert_eq!(
        commands,
        [
            "sync", "sync", "build", "register", "eol", "status", "check", "cleanup", "status"
        ]
    );
    for line in [
        "ocidir://bases/alpine:3.20.7-core0.9.0     deleted  beyond `keep_last`",
        "ocidir://bases/alpine:3.20.6-core0.9.0     kept     base of ocidir://apps/billing:2.1.0",
        "Version      outdated: use ocidir://bases/debian:13.0-core1.0.0",
        "  cd sample",
    ] {
        assert!(
            shown.lines().any(|shown| shown == line),
            "{line} is not in\n{shown}"
        );
    }
    for status in [
        "✅ OK",
        "⚠️ < 30 days",
        "❌ Expired",
        "⬆️ Outdated",
        "❔ Untracked",
        "👻 Orphan",
    ] {
        assert!(
            shown.contains(&format!("| {status} |")),
            "nothing is {status}"
        );
    }
    assert!(
        !shown.contains("ocidir:///"),
        "layouts are named from where the commands are typed"
    );

    // The commands that it suggests work, and the report is up to date.
    let directory = world.path("sample");
    let report = fs::read_to_string(directory.join("README.md")).expect("the report");
    assert!(report.contains("```mermaid"), "{report}");
    for line in [
        "sync --list",
        "build --dry-run",
        "cleanup --dry-run",
        "eol list --apps",
        "status --output README.md",
    ] {
        let outcome = world
            .shell(&format!(
                "cd sample && unset IMGLIFE_REGISTRY_PROVIDER && {} {line}",
                env!("CARGO_BIN_EXE_imglife")
            ))
            .succeeds();
        assert!(!outcome.stdout.is_empty(), "{line}");
    }
    assert_eq!(
        fs::read_to_string(directory.join("README.md")).expect("the report"),
        report
    );
    let here = world
        .shell(&format!(
            "cd sample && {} demo .",
            env!("CARGO_BIN_EXE_imglife")
        ))
        .succeeds()
        .stdout;
    assert!(here.contains("Next steps:\n  less README.md"), "{here}");

    // A second tour in the same directory copies, builds and deletes nothing.
    let again = world.imglife(["demo", "sample"]).succeeds().stdout;
    assert!(
        again.contains("├─ Copied        0\n") && again.contains("├─ Built        0\n"),
        "{again}"
    );
    assert!(
        again.contains("├─ Deleted       0\n") && again.contains("README.md   unchanged\n"),
        "{again}"
    );
}

#[test]
fn temporary_world_is_removed_unless_keep_is_passed() {
    let world = World::new();
    let temporary = world.home().with_file_name("tmp");
    let shown = world.imglife(["demo"]).succeeds().stdout;
    assert!(
        shown.ends_with("writes it to ./world and keeps it.\n"),
        "{shown}"
    );
    assert_eq!(entries(&temporary), Vec::<String>::new());
    assert_eq!(entries(&world.path("")), Vec::<String>::new());

    let shown = world.imglife(["demo", "--keep"]).succeeds().stdout;
    let kept = entries(&temporary);
    assert!(
        kept.len() == 1 && shown.contains(&kept[0]),
        "{kept:?} {shown}"
    );
}

#[test]
fn configuration_of_the_user_is_not_overwritten() {
    let world = World::new().file("imglife.yaml", "mine");
    let refused = world.imglife(["demo", "."]).exits(2);
    assert!(
        refused.stderr.contains("was not written by the demo") && refused.stderr.contains("hint: "),
        "{}",
        refused.stderr
    );
    assert_eq!(entries(&world.path("")), ["imglife.yaml"]);
}
