//! Tests of end-of-life data updates that are killed.

use super::{RUN_TIMEOUT, assert_killed, kill, rounds};
use crate::eol::{configuration, count, data, thirty};
use crate::support::endoflife::EndOfLife;
use crate::support::world::World;

/// Content of the data file before the update: an older entry, written by hand.
const OLD: &str = "product-1:\n  - { cycle: \"1.9\", eol: 2019-01-31 }\n";

fn text(api: &EndOfLife, names: &[String]) -> String {
    configuration(
        api,
        &names
            .iter()
            .map(|name| (name.as_str(), "1.10.4"))
            .collect::<Vec<_>>(),
    )
}

#[test]
fn killed_update_leaves_the_old_or_the_new_data_and_the_next_one_completes() {
    let (api, names) = thirty();
    let config = text(&api, &names);
    let prepare = || {
        World::new()
            .file("imglife.yaml", &config)
            .file("eol-data.yaml", OLD)
    };
    let undisturbed = prepare();
    let length = undisturbed.imglife(["eol", "update"]).succeeds().elapsed;
    let mut killed = 0;
    for round in 0..rounds() {
        let world = prepare();
        killed += u64::from(kill(
            world.start_imglife(["eol", "update"]).within(RUN_TIMEOUT),
            round,
            length,
        ));
        let found = data(&world);
        assert!(
            found == OLD || found == data(&undisturbed),
            "round {round}: {found}"
        );
        world.imglife(["eol", "update"]).succeeds();
        assert_eq!(data(&world), data(&undisturbed), "round {round}");
    }
    assert_killed(killed);
}

#[test]
fn killed_update_of_a_package_leaves_the_old_or_the_new_data() {
    let (api, names) = thirty();
    let config =
        text(&api, &names).replacen("lifecycle: {", "lifecycle: { eol_target: pkgregistry,", 1);
    let world = World::new().file(
        "imglife.yaml",
        format!("registry: {{ provider: file, path: records }}\n{config}"),
    );
    let list = || world.imglife(["eol", "list"]).succeeds().stdout;
    let length = world.imglife(["eol", "update"]).succeeds().elapsed;
    let mut before = list();
    for round in 0..rounds() {
        // The data changes in every round.
        api.product(
            "product-7",
            &[("1.10", Some(&format!("2031-01-{:02}", round % 28 + 1)))],
        );
        kill(
            world.start_imglife(["eol", "update"]).within(RUN_TIMEOUT),
            round,
            length,
        );
        let found = list();
        world.imglife(["eol", "update"]).succeeds();
        let after = list();
        assert!(found == before || found == after, "round {round}: {found}");
        assert!(
            after.contains(&format!("2031-01-{:02}", round % 28 + 1)),
            "round {round}: {after}"
        );
        // A replaced file may remain until the next write. It is not read.
        assert!(count(&world.path("records")) <= 2, "round {round}");
        before = after;
    }
    api.product("product-7", &[("1.10", Some("2032-02-02"))]);
    world.imglife(["eol", "update"]).succeeds();
    assert_eq!(count(&world.path("records")), 1);
}
