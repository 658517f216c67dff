//! Tests of reports that are killed while they write the page and publish the inventory.

use std::fs;

use super::{RUN_TIMEOUT, kill, rounds};
use crate::status::small_world;

const OLD: &str = "# Ours\n\n<!-- imglife:begin -->\nold\n<!-- imglife:end -->\n";

#[test]
fn killed_report_leaves_the_old_or_the_new_page_and_no_other_file() {
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
            world.start_imglife(arguments).within(RUN_TIMEOUT),
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
