//! Commits that are killed before they are pushed, or while they are.

use super::{PATIENCE, SETTLING, assert_some, kill, rounds};
use crate::commit_push::{files, push};
use crate::support::git::Bare;

#[test]
fn a_commit_that_is_killed_leaves_a_whole_repository_and_the_next_one_completes() {
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
            .within(PATIENCE);
        killed += u64::from(kill(running, round, length));
        // Git may still be at it: the process group of a killed run is not killed with it.
        std::thread::sleep(SETTLING);
        assert_eq!(files(&world.path("")), before, "round {round}");
        push(&world, &["README.md"]).succeeds();
        assert_eq!(
            (bare.file("README.md").as_str(), bare.commits()),
            ("new\n", 2),
            "round {round}"
        );
        bare.run(&["fsck", "--strict"]);
    }
    assert_some(killed);
}
