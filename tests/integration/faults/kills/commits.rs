//! Tests of `git commit-push` that is killed before or during the push.

use super::{RUN_TIMEOUT, SETTLE_TIME, assert_killed, kill, rounds};
use crate::commit_push::{files, push};
use crate::support::git::Bare;

#[test]
fn killed_commit_leaves_a_valid_repository_and_the_next_one_completes() {
    let length = {
        let bare = Bare::with(&[("README.md", "old\n")]);
        push(
            &bare.checkout("").file("README.md", "new\n"),
            &["README.md"],
        )
        .succeeds()
        .elapsed
    };
    let mut killed = 0;
    for round in 0..rounds() {
        let bare = Bare::with(&[("README.md", "old\n")]);
        let world = bare.checkout("--depth=1").file("README.md", "new\n");
        let before = files(&world.path(""));
        let running = world
            .start_imglife(["git", "commit-push", "-m", "update", "README.md"])
            .within(RUN_TIMEOUT);
        killed += u64::from(kill(running, round, length));
        // Git processes of the killed run may still be running.
        std::thread::sleep(SETTLE_TIME);
        assert_eq!(files(&world.path("")), before, "round {round}");
        push(&world, &["README.md"]).succeeds();
        assert_eq!(
            (bare.file("README.md").as_str(), bare.commits()),
            ("new\n", 2),
            "round {round}"
        );
        bare.run(&["fsck", "--strict"]);
    }
    assert_killed(killed);
}
