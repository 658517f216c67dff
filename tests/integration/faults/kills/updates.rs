//! Updates of end-of-life data that are killed.

use super::{PATIENCE, assert_some, kill, rounds};
use crate::eol::{configuration, count, data, thirty};
use crate::support::endoflife::EndOfLife;
use crate::support::world::World;

/// What the file says before: by hand, and older.
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
fn an_update_that_is_killed_leaves_the_old_data_or_the_new_and_the_next_one_completes() {
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
            world.start_imglife(["eol", "update"]).within(PATIENCE),
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
    assert_some(killed);
}

#[test]
fn an_update_in_the_package_registry_that_is_killed_leaves_what_is_read_as_it_was_or_new() {
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
        // Something is new in every round.
        api.product(
            "product-7",
            &[("1.10", Some(&format!("2031-01-{:02}", round % 28 + 1)))],
        );
        kill(
            world.start_imglife(["eol", "update"]).within(PATIENCE),
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
        // One that was replaced and not removed any more goes when something new is written; until
        // then nobody reads it.
        assert!(count(&world.path("records")) <= 2, "round {round}");
        before = after;
    }
    api.product("product-7", &[("1.10", Some("2032-02-02"))]);
    world.imglife(["eol", "update"]).succeeds();
    assert_eq!(count(&world.path("records")), 1);
}
