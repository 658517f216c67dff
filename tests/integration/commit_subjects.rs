//! The check of commit subjects, `.ci/check-commit-subjects`, on histories of its own.

use crate::support::kit::project;
use crate::support::world::{Outcome, World};

/// Returns a repository with one commit that is older than the rules.
fn repository() -> World {
    let world = World::new();
    let identity = "git config user.name Person && git config user.email person@example.org";
    world
        .shell(&format!(
            "git init --quiet --initial-branch=main . && {identity}"
        ))
        .succeeds();
    commit(&world, "Older Than The Rules.");
    world.shell("git tag start").succeeds();
    world
}

fn commit(world: &World, subject: &str) {
    let world = world.shell(&format!(
        "git commit --quiet --allow-empty --message \"{subject}\""
    ));
    world.succeeds();
}

fn check(world: &World, arguments: &str) -> Outcome {
    let script = project(".ci/check-commit-subjects");
    world.shell(&format!("'{}' {arguments}", script.display()))
}

#[test]
fn commit_subjects_are_an_area_and_an_imperative_summary() {
    let world = repository();
    for subject in [
        "http: limit retries per host",
        "docs, tests: rewrite the guides",
        "kit/gitea: process addresses of actions",
        "transfer: merge referrer lists at the target",
        "steps: need no inventory; speed up status",
    ] {
        commit(&world, subject);
    }
    let outcome = check(&world, "start").succeeds();
    assert_eq!(outcome.stdout, "checked 5 commits\n");
}

#[test]
fn bad_commit_subjects_fail_and_are_listed() {
    let too_long = format!("http: {}", "y".repeat(67));
    for (subject, fault) in [
        (too_long.as_str(), "longer than 72 characters"),
        ("limit retries per host", "begin with an area"),
        ("Http: limit retries", "begin with an area"),
        ("http:limit retries", "begin with an area"),
        ("merge what limits retries", "begin with an area"),
        ("http: merge what limits retries", "describes a merge"),
        ("http: adds a limit", "uses `adds`"),
        ("http: added a limit", "uses `added`"),
        ("http: adding a limit", "uses `adding`"),
        ("http: what nobody waits for", "begin with a verb"),
        ("http: Limit retries", "verb in lower case"),
        ("http: limit retries.", "full stop"),
    ] {
        let world = repository();
        commit(&world, subject);
        commit(&world, "docs: describe the limit");
        let outcome = check(&world, "start").exits(1);
        assert!(
            outcome.stdout.contains(subject) && outcome.stdout.contains(fault),
            "{subject}: {}",
            outcome.stdout
        );
        assert!(
            outcome.stderr.contains("1 of 2 commits"),
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn merge_commits_fail() {
    let world = repository();
    world
        .shell("git checkout --quiet -b topic && git commit --quiet --allow-empty -m 'docs: add a page' && git checkout --quiet main")
        .succeeds();
    commit(&world, "http: limit retries");
    world
        .shell("git merge --quiet -m 'docs: combine both' topic")
        .succeeds();
    let outcome = check(&world, "start").exits(1);
    assert!(outcome.stdout.contains("is a merge"), "{}", outcome.stdout);
}

#[test]
fn shallow_clones_are_checked_as_far_as_they_go() {
    let world = repository();
    for subject in [
        "http: added a limit",
        "docs: add a page",
        "docs: add an index",
    ] {
        commit(&world, subject);
    }
    let start = world.shell("git rev-parse start").succeeds().stdout;
    let start = start.trim();
    for (depth, code, message) in [(2, 0, "checked 2 commits\n"), (3, 1, "uses `added`")] {
        world
            .shell(&format!(
                "git clone --quiet --depth {depth} \"file://$PWD\" ../clone{depth}"
            ))
            .succeeds();
        let script = project(".ci/check-commit-subjects");
        let outcome = world
            .shell(&format!(
                "cd ../clone{depth} && '{}' {start}",
                script.display()
            ))
            .exits(code);
        assert!(outcome.stdout.contains(message), "{}", outcome.stdout);
    }
    // In a complete clone, an unknown start is a mistake and not a reason to check nothing.
    check(&world, &"0".repeat(40)).exits(2);
}
