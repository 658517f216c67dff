//! `imglife init`, and what it writes at work.

use std::fs;

use serde_json::json;

use super::runner::{Event, Stage, steps};
use crate::support::kit::{files_below, follows_schema};
use crate::support::world::World;

#[test]
fn what_is_written_is_valid_for_both_forges_and_nothing_is_overwritten() {
    for (forge, pipeline, schema) in [
        (
            "gitlab",
            ".gitlab-ci.yml",
            &["vendor.gitlab-ci", "--data-transform", "gitlab-ci"][..],
        ),
        (
            "gitea",
            ".gitea/workflows/lifecycle.yml",
            &["vendor.github-workflows"][..],
        ),
    ] {
        let world = World::new();
        let outcome = world
            .imglife(["init", "--forge", forge, "--dir", "new/bases"])
            .succeeds();
        let mut expected = [
            ".gitignore",
            pipeline,
            "images/alpine/Dockerfile.tmpl",
            "imglife.yaml",
            "renovate-bases.json",
        ];
        let root = world.path("new/bases");
        let mut files: Vec<_> = files_below(&root)
            .iter()
            .map(|file| {
                file.strip_prefix(&root)
                    .expect("a path")
                    .display()
                    .to_string()
            })
            .collect();
        files.sort();
        expected.sort_unstable();
        assert_eq!(files, expected);
        assert!(
            outcome.stdout.contains("Written to new/bases:")
                && outcome.stdout.contains("Next steps:"),
            "{}",
            outcome.stdout
        );
        world
            .imglife(["--check", "--config", "new/bases/imglife.yaml"])
            .succeeds();
        follows_schema(schema, &[root.join(pipeline)]);

        let again = world
            .imglife(["init", "--forge", forge, "--dir", "new/bases"])
            .exits(2);
        assert!(
            again.stderr.contains("imglife.yaml") && again.stderr.contains(pipeline),
            "{}",
            again.stderr
        );
        assert!(
            again.stderr.contains("nothing was written"),
            "{}",
            again.stderr
        );
    }
    let world = World::new();
    let outcome = world.imglife(["init"]).exits(2);
    assert!(
        outcome.stderr.contains("--forge gitea"),
        "{}",
        outcome.stderr
    );
    assert_eq!(
        fs::read_dir(world.path("")).expect("a directory").count(),
        0
    );
}

/// From nothing but a clone to a report: no file is edited.
#[test]
fn at_gitea_what_is_written_runs_as_it_is() {
    const BASES: &str = "platform/base-images";
    let stage = Stage::new();
    let world = &stage.world;
    stage.site.repository(BASES);
    let address = format!("{}/{BASES}.git", stage.site.url());
    world
        .shell(&format!("mkdir bases && cd bases && git init --quiet --initial-branch=main && git remote add origin {address}"))
        .succeeds();
    world
        .shell("cd bases && imglife init --forge gitea")
        .succeeds();
    // The runner of these tests knows no addresses of actions.
    let workflow = world.path("bases/.gitea/workflows/lifecycle.yml");
    let text = fs::read_to_string(&workflow).expect("a workflow");
    let actions = format!("uses: {}/platform/imglife/", stage.site.url());
    assert_eq!(text.matches(&actions).count(), 7, "{text}");
    fs::write(workflow, text.replace(&actions, "uses: platform/imglife/")).expect("a written file");
    stage.create(BASES, &world.path("bases"));

    let first = stage
        .run(
            BASES,
            "lifecycle.yml",
            &Event::dispatch(json!({ "cleanup": "false" })),
        )
        .succeeds();
    assert!(
        stage
            .file(BASES, "README.md")
            .contains("`3.22.1-core1.0.0`"),
        "{}",
        first.stdout
    );
    assert!(
        stage.file(BASES, "eol-data.yaml").contains("3.22"),
        "{}",
        first.stdout
    );
    assert_eq!(stage.subjects(BASES).len(), 3);

    let second = stage
        .run(BASES, "lifecycle.yml", &Event::schedule())
        .succeeds();
    assert_eq!(stage.subjects(BASES).len(), 3, "{}", second.stdout);
    // Nothing is deleted before there are records, and the rest is done all the same.
    let cleanup = stage
        .run(
            BASES,
            "lifecycle.yml",
            &Event::dispatch(json!({ "cleanup": "true" })),
        )
        .exits(1);
    assert_eq!(steps(&first), ["build", "eol-update", "status", "sync"]);
    assert_eq!(steps(&second), steps(&first));
    assert_eq!(
        steps(&cleanup),
        ["build", "cleanup", "eol-update", "status", "sync"],
        "{}",
        cleanup.stdout
    );
    assert_eq!(
        stage
            .site
            .registry
            .stored_tags("platform/bases/alpine")
            .len(),
        2
    );
}
