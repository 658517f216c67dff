//! Stores that fail, and runs that meet.

use std::fs;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse as _;

use super::{World, files, json_of, recorded};
use crate::support::gitlab::{Gitlab, MAINTAINER, Rules};
use crate::support::world::Running;

/// Everything given, so that only the records matter.
pub(crate) fn arguments(image: &str) -> [&str; 10] {
    [
        "register",
        "--image",
        image,
        "--base",
        "r.example/bases/alpine:3.21.3-core1.0.0",
        "--platform",
        "linux/amd64",
        "--revision",
        "4f2a",
        "--project=team/web",
    ]
}

fn world() -> World {
    World::new().variable("IMGLIFE_REGISTRY_PROVIDER", "file")
}

#[test]
fn purge_with_keep_0_is_an_error_and_removes_nothing() {
    let world = world();
    world.imglife(arguments("r.example/apps/web:1")).succeeds();
    for arguments in [
        &["app", "purge", "--keep", "0"][..],
        &["app", "purge", "--keep=0", "--dry-run"],
        &["app", "purge", "--keep=0", "--orphans", "--project", "p"],
    ] {
        let outcome = world.imglife_with(arguments).exits(2);
        assert!(
            outcome
                .stderr
                .contains("`--keep 0` would delete every record")
                && outcome.stderr.contains("pass `--keep 1`"),
            "{}",
            outcome.stderr
        );
        assert_eq!(recorded(&world), ["r.example/apps/web:1"]);
    }
}

#[test]
fn register_names_the_project_of_the_record_that_it_replaces_and_strict_refuses() {
    let world = world();
    let image = "r.example/apps/web:1";
    world.imglife(arguments(image)).succeeds();
    let mut other = arguments(image).to_vec();
    other[9] = "--project=team/other";
    other.push("--output=json");
    let refused = world
        .imglife_with(&[&other[..], &["--strict"]].concat())
        .exits(1);
    assert!(
        refused
            .stderr
            .contains("the image is registered by project team/web, not by team/other"),
        "{}",
        refused.stderr
    );
    let projects = || {
        let list = json_of(
            &world
                .imglife(["app", "list", "--output", "json"])
                .succeeds(),
        );
        list["records"][0].clone()
    };
    assert_eq!(projects()["project"], "team/web");
    let replaced = world.imglife_with(&other).succeeds();
    for text in ["team/web", "team/other", "30 days"] {
        assert!(replaced.stderr.contains(text), "{}", replaced.stderr);
    }
    assert_eq!(json_of(&replaced)["replacedProject"], "team/web");
    let record = projects();
    assert_eq!(
        (&record["project"], &record["replaced"][0]["project"]),
        (&"team/other".into(), &"team/web".into()),
        "{record}"
    );
    let own = world
        .imglife_with(&[&other[..], &["--strict"]].concat())
        .succeeds();
    assert!(!own.stderr.contains("team/web"), "{}", own.stderr);
}

#[test]
fn a_store_that_is_down_or_forbids_fails_with_the_cause() {
    let refused = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("an address");
    let down = World::new()
        .variable("IMGLIFE_REGISTRY_URL", format!("http://{refused}"))
        .variable("IMGLIFE_REGISTRY_PROJECT_ID", "42")
        .variable("GITLAB_TOKEN", MAINTAINER);
    let forbidding = Gitlab::start_with(Rules::default(), |_| {
        Some(StatusCode::FORBIDDEN.into_response())
    });
    let forbidden = World::new()
        .variable("IMGLIFE_REGISTRY_URL", forbidding.url().as_str())
        .variable("IMGLIFE_REGISTRY_PROJECT_ID", "42")
        .variable("GITLAB_TOKEN", MAINTAINER);
    for world in [down, forbidden] {
        let runs = [
            world.start_imglife(arguments("r.example/apps/web:1")),
            world.start_imglife(["app", "list"]),
            world.start_imglife(["app", "purge", "--keep=1"]),
            world.start_imglife(["check", "--base=r.example/bases/alpine:1"]),
        ];
        for outcome in runs.map(Running::wait) {
            let outcome = outcome.exits(1);
            assert!(
                outcome.stdout.is_empty() && outcome.stderr.contains("error: "),
                "{outcome:?}"
            );
            assert!(!outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
        }
    }
}

#[test]
fn a_store_that_is_slow_or_fails_now_and_then_is_waited_for() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let gitlab = Gitlab::start_with(Rules::default(), move |_| {
        std::thread::sleep(Duration::from_millis(100));
        let is_third = count
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
            .is_multiple_of(3);
        is_third.then(|| StatusCode::SERVICE_UNAVAILABLE.into_response())
    });
    let world = World::new()
        .variable("IMGLIFE_REGISTRY_URL", gitlab.url().as_str())
        .variable("IMGLIFE_REGISTRY_PROJECT_ID", "42")
        .variable("GITLAB_TOKEN", MAINTAINER);
    world.imglife(arguments("r.example/apps/web:1")).succeeds();
    assert_eq!(recorded(&world), ["r.example/apps/web:1"]);
}

#[test]
fn junk_among_the_records_is_named_and_harms_nothing() {
    let world = world();
    for image in ["r.example/apps/web:0", "r.example/apps/web:1"] {
        world.imglife(arguments(image)).succeeds();
    }
    let record = files(&world).pop().expect("a record");
    let directory = std::path::Path::new(&record)
        .parent()
        .expect("a directory")
        .to_owned();
    fs::write(
        directory.join("1.1+20990101t000000.000000z+0000000000000000.json"),
        "junk",
    )
    .expect("to write");
    fs::write(directory.join("notes.txt"), "junk").expect("to write");
    let outcome = world
        .imglife(["app", "list", "--output", "json"])
        .succeeds();
    let list = json_of(&outcome);
    assert_eq!(
        (
            list["records"].as_array().map(Vec::len),
            list["unreadable"].as_array().map(Vec::len)
        ),
        (Some(2), Some(2)),
        "{list}"
    );
    assert!(
        outcome.stderr.contains("is not a record and is ignored"),
        "{}",
        outcome.stderr
    );
    let report = json_of(
        &world
            .imglife(["app", "purge", "--keep=1", "--output=json"])
            .succeeds(),
    );
    assert_eq!(
        (
            report["removed"].as_array().map(Vec::len),
            files(&world).len()
        ),
        (Some(1), 3)
    );
}

#[test]
fn two_registrations_at_once_leave_one_record() {
    for _ in 0..5 {
        let world = world();
        let runs = [(); 4].map(|()| world.start_imglife(arguments("r.example/apps/web:1")));
        let others = ["2", "3"].map(|tag| format!("r.example/apps/web:{tag}"));
        let others = others
            .each_ref()
            .map(|image| world.start_imglife(arguments(image)));
        for run in runs.into_iter().chain(others) {
            run.wait().succeeds();
        }
        assert_eq!(
            recorded(&world),
            ["1", "2", "3"].map(|tag| format!("r.example/apps/web:{tag}"))
        );
        world.imglife(arguments("r.example/apps/web:1")).succeeds();
        assert_eq!(files(&world).len(), 3, "{:?}", files(&world));
    }
}
