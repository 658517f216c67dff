//! What `--version` says, and the build script that finds it out.

use std::path::Path;

use super::support::world::World;

#[test]
fn the_version_is_short_or_tells_the_commit_and_its_date() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        World::new().imglife(["-V"]).succeeds().stdout,
        format!("imglife {version}\n")
    );
    let long = World::new().imglife(["--version"]).succeeds().stdout;
    assert!(
        long.starts_with(&format!("imglife {version}")) && long.lines().count() == 1,
        "{long}"
    );
}

/// Returns a world with the build script as a program.
fn world() -> World {
    let world = World::new()
        .variable("CARGO_PKG_VERSION", "1.2.3")
        .variable("PROFILE", "release")
        .variable("GIT_CONFIG_NOSYSTEM", "1");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs");
    let compiler = Path::new(env!("CARGO")).with_file_name("rustc");
    let line = format!(
        "'{}' --edition 2024 -o build '{}'",
        compiler.display(),
        script.display()
    );
    world.shell(&line).succeeds();
    let directory = world.path("source");
    world.variable("CARGO_MANIFEST_DIR", directory)
}

/// Returns the version that the build script hands to the program, and the files after whose change
/// it runs again.
fn told(world: &World) -> (String, Vec<String>) {
    let said = world.shell("./build").succeeds().stdout;
    let of = |key: &str| {
        said.lines()
            .filter_map(|line| line.strip_prefix(key).map(str::to_owned))
            .collect::<Vec<_>>()
    };
    (
        of("cargo::rustc-env=IMGLIFE_VERSION=").join(" and "),
        of("cargo::rerun-if-changed="),
    )
}

#[test]
fn the_commit_is_that_of_the_checkout_or_of_who_builds_or_none() {
    let world = world();
    world.shell("mkdir source").succeeds();
    assert_eq!(
        told(&world),
        ("1.2.3".to_owned(), vec!["build.rs".to_owned()]),
        "a source archive"
    );

    let commit = "cd source && git init -q -b main && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m one";
    let world = world.variable("GIT_COMMITTER_DATE", "2026-02-28T23:30:00Z");
    world.shell(commit).succeeds();
    let head = world
        .shell("git -C source rev-parse --short=12 HEAD")
        .succeeds()
        .stdout;
    let (version, watched) = told(&world);
    assert_eq!(version, format!("1.2.3 ({} 2026-02-28)", head.trim()));
    assert!(
        watched
            .iter()
            .all(|path| world.path("").join(path).exists() || path == "build.rs"),
        "what is missing makes each build dirty"
    );
    assert!(
        watched.iter().any(|path| path.ends_with("refs/heads/main")),
        "{watched:?}"
    );

    world
        .shell("git -C source worktree add -q ../other -b other")
        .succeeds();
    let beside = world.path("other");
    let world = world.variable("CARGO_MANIFEST_DIR", beside);
    let (version, watched) = told(&world);
    assert_eq!(version, format!("1.2.3 ({} 2026-02-28)", head.trim()));
    assert!(
        watched
            .iter()
            .any(|path| path.ends_with("source/.git/refs/heads/other")),
        "{watched:?}"
    );

    let world = world.variable("PROFILE", "debug");
    assert_eq!(
        told(&world),
        ("1.2.3".to_owned(), vec!["build.rs".to_owned()]),
        "a build for tests"
    );
    let world = world
        .variable("IMGLIFE_COMMIT", "0123456789abcdef0123456789abcdef01234567")
        .variable("SOURCE_DATE_EPOCH", "1709164800");
    assert_eq!(told(&world).0, "1.2.3 (0123456789ab 2024-02-29)");
    let world = world
        .variable("IMGLIFE_COMMIT", "$(id)")
        .variable("SOURCE_DATE_EPOCH", "soon");
    assert_eq!(told(&world).0, "1.2.3");
}
