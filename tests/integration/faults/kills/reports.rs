//! Reports that are being written, and the inventory that is published with them.

use std::fs;

use super::{PATIENCE, kill, rounds};
use crate::status::small_world;

const OLD: &str = "# Ours\n\n<!-- imglife:begin -->\nold\n<!-- imglife:end -->\n";

#[test]
fn a_report_that_is_killed_leaves_the_old_page_or_the_new_one_and_nothing_beside_it() {
    let arguments = [
        "status",
        "--publish",
        "--output",
        "README.md",
        "--report-junit",
        "junit.xml",
    ];
    let world = small_world().file("README.md", OLD);
    let readme = || fs::read_to_string(world.path("README.md")).expect("a file");
    let names = || {
        let entries = fs::read_dir(world.path("")).expect("a directory");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        names
    };
    let length = world.imglife(arguments).succeeds().elapsed;
    let (undisturbed, expected) = (readme(), names());
    for round in 0..rounds() {
        fs::write(world.path("README.md"), OLD).expect("a written file");
        kill(
            world.start_imglife(arguments).within(PATIENCE),
            round,
            length,
        );
        assert!(
            [OLD, &undisturbed].contains(&readme().as_str()),
            "round {round}: {}",
            readme()
        );
        world.imglife(["latest", "alpine"]).succeeds();
        world.imglife(arguments).succeeds();
        assert_eq!(
            (readme(), names()),
            (undisturbed.clone(), expected.clone()),
            "round {round}"
        );
    }
}
