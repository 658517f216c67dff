//! `imglife eol` by its binary, with an API that moves products, is busy, breaks and lies.

use std::fs;
use std::path::Path;

use crate::support::endoflife::{EndOfLife, Trouble};
use crate::support::world::World;
use crate::sync::json;

/// Returns a configuration with an entry for each product, its images having the tag.
pub(crate) fn configuration(api: &EndOfLife, products: &[(&str, &str)]) -> String {
    let mut text = format!(
        "lifecycle: {{ api_url: {:?} }}\nsync:\n  entries:\n",
        api.address()
    );
    for (product, tag) in products {
        text += &format!(
            "    - {{ source: docker.io/library/{product}, target: r.example/mirrors/{product}, tag: {tag:?}, lifecycle: {{ product: {product} }} }}\n"
        );
    }
    text
}

pub(crate) fn data(world: &World) -> String {
    fs::read_to_string(world.path("eol-data.yaml")).expect("a data file")
}

/// Returns an API that knows thirty products, and their names.
pub(crate) fn thirty() -> (EndOfLife, Vec<String>) {
    let api = EndOfLife::start();
    let names: Vec<String> = (1..=30).map(|number| format!("product-{number}")).collect();
    for name in &names {
        api.product(
            name,
            &[
                ("2", None),
                ("1.10", Some("2099-12-31")),
                ("1.9", Some("2020-01-31")),
            ],
        );
    }
    (api, names)
}

#[test]
fn thirty_products_arrive_past_whatever_happens_and_a_second_update_changes_nothing() {
    let (api, names) = thirty();
    // Two moved, one by two steps; four fail in passing; one is in version 0 only.
    api.product("moved-here", &[("7", Some("2030-07-07"))]);
    api.moved("product-1", "product-30");
    api.moved("product-2", "on-the-way");
    api.moved("on-the-way", "moved-here");
    api.troubles("product-3", &[Trouble::Busy(1)]);
    api.troubles("product-4", &[Trouble::Gateway]);
    api.troubles("product-5", &[Trouble::Cut]);
    api.document("/only-v0.json", r#"[{"cycle": "3.10", "eol": true, "support": false, "lts": "2020-01-01", "latest": "3.10.9"}]"#);
    let mut products: Vec<(&str, &str)> =
        names.iter().map(|name| (name.as_str(), "1.10.4")).collect();
    products.push(("only-v0", "3.10"));
    let world = World::new().file("imglife.yaml", configuration(&api, &products));

    let first = world.imglife(["eol", "update"]).succeeds();
    assert!(
        first.stdout.contains("├─ Added       31\n"),
        "{}",
        first.stdout
    );
    let written = data(&world);
    assert!(
        written.contains("\nproduct-2:\n  - { cycle: \"7\", eol: 2030-07-07, latest: \"7.1\", latestReleaseDate: 2026-01-02 }\n"),
        "{written}"
    );
    assert!(
        written.contains("\nonly-v0:\n  - { cycle: \"3.10\", eol: true, latest: \"3.10.9\", lts: 2020-01-01, support: false }\n"),
        "{written}"
    );
    let order: Vec<&str> = written
        .lines()
        .filter_map(|line| line.strip_suffix(':'))
        .collect();
    assert!(order.is_sorted(), "{order:?}");
    let received = api.requests().len();
    // A request for each product; one more for each step of a move, each failure, and the missing
    // version 1.
    assert_eq!(
        received,
        31 + 3 + 3 + 1,
        "{:?}",
        api.requests()
            .iter()
            .map(|received| &received.path)
            .collect::<Vec<_>>()
    );

    let modified = fs::metadata(world.path("eol-data.yaml"))
        .and_then(|file| file.modified())
        .expect("a time");
    let second = world.imglife(["eol", "update"]).succeeds();
    assert!(
        second.stdout.contains("├─ Unchanged   31\n") && second.stdout.contains("   unchanged\n"),
        "{}",
        second.stdout
    );
    assert_eq!(data(&world), written);
    assert_eq!(
        fs::metadata(world.path("eol-data.yaml"))
            .and_then(|file| file.modified())
            .expect("a time"),
        modified,
        "written again"
    );
    let received = api.requests().split_off(received);
    assert!(
        received
            .iter()
            .all(|received| received.headers.contains_key("user-agent")
                && !received.headers.contains_key("authorization"))
    );
    let known = received
        .iter()
        .filter(|received| received.headers.contains_key("if-none-match"))
        .count();
    assert!(
        known >= 31,
        "of {} requests, {known} said what is known",
        received.len()
    );
}

#[test]
fn a_product_that_fails_keeps_its_old_data_and_is_named() {
    let api = EndOfLife::start();
    api.product("alpine", &[("3.21", Some("2026-11-01"))]);
    api.product("go", &[("1.26", None)]);
    let config = configuration(
        &api,
        &[("alpine", "3.21.3"), ("go", "1.26"), ("rust", "1.90")],
    );
    let by_hand = "# by hand\nhouse: [{ cycle: 2025, eol: 2027-12-31 }]\nrust: [{ cycle: '1.90', eol: false }]\n";
    let world = World::new()
        .file("imglife.yaml", config)
        .file("eol-data.yaml", by_hand);
    let outcome = world
        .imglife(["eol", "update", "--output", "json"])
        .exits(1);
    let report = json(&outcome.stdout);
    assert_eq!(
        (report["schema"].as_str(), report["fileOutcome"].as_str()),
        (Some("imglife/eol-update/v1"), Some("written"))
    );
    let products: Vec<String> = report["products"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|product| format!("{} {}", product["product"], product["outcome"]))
        .collect();
    assert_eq!(
        products,
        [
            "\"alpine\" \"added\"",
            "\"go\" \"added\"",
            "\"rust\" \"failed\""
        ]
    );
    assert!(
        report["products"][2]["cause"].as_str().is_some_and(
            |cause| cause.ends_with("cannot read product rust: no product has this name")
        ),
        "{report}"
    );
    assert!(
        report["products"][2]["hint"].is_string()
            && report["others"] == serde_json::json!(["house"]),
        "{report}"
    );
    let text = data(&world);
    assert!(text.contains("\nhouse:\n  - { cycle: \"2025\", eol: 2027-12-31 }\nrust:\n  - { cycle: \"1.90\", eol: false }\n"), "{text}");

    // Nothing but failures leaves the file as it is.
    for (name, trouble) in [("alpine", Trouble::Deep), ("go", Trouble::Endless)] {
        api.troubles(name, &[trouble]);
    }
    let outcome = world.imglife(["eol", "update"]).exits(1);
    assert!(
        outcome.stdout.contains("└─ Failed      3\n")
            && outcome.stdout.contains("the response is malformed"),
        "{}",
        outcome.stdout
    );
    assert_eq!(data(&world), text);
}

#[test]
fn a_dry_run_says_what_a_run_does_and_writes_nothing() {
    let api = EndOfLife::start();
    api.product("alpine", &[("3.21", Some("2026-11-01"))]);
    let world = World::new().file("imglife.yaml", configuration(&api, &[("alpine", "3.21.3")]));
    let dry = world
        .imglife(["eol", "update", "--dry-run"])
        .succeeds()
        .stdout;
    assert!(!world.path("eol-data.yaml").exists() && !world.home().join(".cache").exists());
    let real = world.imglife(["eol", "update"]).succeeds().stdout;
    let rows = |text: &str| {
        text.lines()
            .filter(|line| !line.contains('·') && !line.starts_with("File"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(rows(&dry), rows(&real));
    assert!(
        dry.contains("[dry-run]") && dry.contains("eol-data.yaml   to be written"),
        "{dry}"
    );
    // Elsewhere, from the directory the command runs in.
    world
        .imglife(["eol", "update", "--data-file", "other.yaml"])
        .succeeds();
    assert_eq!(
        fs::read_to_string(world.path("other.yaml")).expect("a file"),
        data(&world)
    );
}

#[test]
fn a_local_file_is_checked_and_nobody_asked() {
    let config = "lifecycle: { eol_provider: local, api_url: 'http://127.0.0.1:1' }\nsync:\n  entries:\n    - { source: a.example/x, target: r.example/x, tag: '2025', lifecycle: [{ product: house }, { product: alpine }] }\n";
    let world = World::new().file("imglife.yaml", config);
    let outcome = world.imglife(["eol", "update"]).exits(1);
    assert!(
        outcome.stderr.contains("there is no eol-data.yaml"),
        "{}",
        outcome.stderr
    );
    let world = world.file(
        "eol-data.yaml",
        "house: [{ cycle: 2025, eol: 2027-12-31 }]\n",
    );
    let outcome = world.imglife(["eol", "update"]).exits(1);
    assert!(
        outcome
            .stdout
            .contains("error: alpine: eol-data.yaml has no `alpine`"),
        "{}",
        outcome.stdout
    );
    let world = world.file(
        "eol-data.yaml",
        "house: [{ cycle: 2025, eol: 2027-12-31 }]\nalpine:\n  - { cycle: '3.21', eol: soon }\n",
    );
    let outcome = world.imglife(["eol", "update"]).exits(1);
    assert!(
        outcome.stderr.contains("cannot parse eol-data.yaml")
            && outcome.stderr.contains("line 3, column 27: "),
        "{}",
        outcome.stderr
    );
    let right = "{\"house\": [{\"cycle\": \"2025\", \"eol\": \"2027-12-31\"}], \"alpine\": []}";
    let world = world.file("eol-data.yaml", right);
    world.imglife(["eol", "update"]).succeeds();
    assert_eq!(data(&world), right);
}

#[test]
fn the_list_is_read_from_the_file_alone() {
    let api = EndOfLife::start();
    api.product(
        "alpine",
        &[("3.21", Some("2020-11-01")), ("3.30", Some("2099-05-01"))],
    );
    api.product("go", &[("1.26", None)]);
    let mut config = configuration(&api, &[("alpine", "3.21.3"), ("go", "1.26")]);
    config += "    - { source: docker.io/library/alpine, target: r.example/mirrors/edge, tag: edge, lifecycle: {} }\n";
    let world = World::new().file("imglife.yaml", config);
    let outcome = world.imglife(["eol", "list"]).exits(1);
    assert!(
        outcome.stderr.contains("there is no eol-data.yaml")
            && outcome
                .stderr
                .contains("run `imglife eol update` to create it"),
        "{}",
        outcome.stderr
    );
    // By its name, since the API has no identifiers.
    world.imglife(["eol", "update"]).succeeds();
    drop(api);
    let listed = json(
        &world
            .imglife(["eol", "list", "--output", "json"])
            .succeeds()
            .stdout,
    );
    let cycles: Vec<String> = listed["cycles"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|cycle| {
            format!(
                "{} {} {}",
                cycle["product"], cycle["cycle"], cycle["status"]
            )
        })
        .collect();
    assert_eq!(
        cycles,
        [
            "\"alpine\" \"3.21\" \"expired\"",
            "\"go\" \"1.26\" \"ok\"",
            "\"docker.io/library/alpine\" null \"unknown\""
        ]
    );
    let soon = world
        .imglife(["eol", "list", "--within", "12w"])
        .succeeds()
        .stdout;
    assert!(soon.contains("alpine") && !soon.contains("1.26"), "{soon}");
    world.imglife(["eol", "list", "--within", "soon"]).exits(2);
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_asked() {
    let world = World::new().file(
        "imglife.yaml",
        "sync: { entries: [{ source: a.example/x, target: r.example/x, tag: '1' }] }",
    );
    for command in ["update", "list"] {
        let outcome = world.imglife(["eol", command]).exits(2);
        assert!(
            outcome.stderr.contains("has a `lifecycle`") && outcome.stderr.contains("hint: add"),
            "{}",
            outcome.stderr
        );
    }
    let upload = "lifecycle: { eol_target: pkgregistry }\nsync: { entries: [{ source: a.example/x, target: r.example/x, tag: '1', lifecycle: {} }] }";
    let world = World::new().file("imglife.yaml", upload);
    let outcome = world.imglife(["eol", "update"]).exits(2);
    assert!(outcome.stderr.contains("registry"), "{}", outcome.stderr);
}

#[test]
fn the_data_can_be_kept_in_the_package_registry() {
    let (api, names) = thirty();
    let products: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1.10.4")).collect();
    let text = configuration(&api, &products).replacen(
        "lifecycle: {",
        "lifecycle: { eol_target: pkgregistry,",
        1,
    );
    let world = World::new().file(
        "imglife.yaml",
        format!("registry: {{ provider: file, path: records }}\n{text}"),
    );
    let files = || count(&world.path("records"));

    let dry = world.imglife(["eol", "update", "--dry-run"]).succeeds();
    assert!(dry.stdout.contains("├─ Added       30\n"), "{}", dry.stdout);
    assert!(
        !world.path("records").exists() && !world.path("eol-data.yaml").exists(),
        "a dry run writes nothing"
    );
    let first = world.imglife(["eol", "update"]).succeeds();
    assert!(first.stdout.contains("   written\n"), "{}", first.stdout);
    let written = files();
    let second = world.imglife(["eol", "update"]).succeeds();
    assert!(
        second.stdout.contains("├─ Unchanged   30\n") && second.stdout.contains("   unchanged\n"),
        "{}",
        second.stdout
    );
    assert_eq!(
        (written, files(), world.path("eol-data.yaml").exists()),
        (1, 1, false)
    );
    api.product("product-7", &[("1.10", Some("2031-01-31"))]);
    let third = world.imglife(["eol", "update"]).succeeds();
    assert!(
        third.stdout.contains("├─ Updated     1\n"),
        "{}",
        third.stdout
    );
    let list = world.imglife(["eol", "list"]).succeeds().stdout;
    assert!(
        list.lines()
            .any(|line| line.starts_with("product-7 ") && line.contains("2031-01-31")),
        "{list}"
    );
}

/// Returns how many files are below `directory`.
pub(crate) fn count(directory: &Path) -> usize {
    let entries = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path());
    entries
        .map(|path| if path.is_dir() { count(&path) } else { 1 })
        .sum()
}
