//! Tests of `--output-dir`: build contexts for other builders.

use super::*;

#[tokio::test]
async fn contexts_are_written_for_other_builders() {
    let world = World::new().await;
    world.write(
        "images/app/Dockerfile.tmpl",
        "FROM {{ base }}\nLABEL at={{ created }} of={{ revision }} on={{ mirror_digest }}\n",
    );
    std::os::unix::fs::symlink("motd", world.directory.path().join("images/alpine/link"))
        .expect("a link");
    let config = world.config(CHAIN);
    let (plan, seen) = world.plan(&config, false).await;
    let directory = world.directory.path().join("out");
    let contexts = ContextOptions {
        directory: directory.clone(),
        run_metadata: world.run_metadata(),
        eol_dates: HashMap::new(),
    };
    let build = config.build.as_ref().expect("the section");
    for _ in 0..2 {
        let report = write_contexts(build, &plan, &seen, &contexts);
        assert_eq!(
            (report.totals.built, report.exit()),
            (2, Exit::Done),
            "{:?}",
            outcomes(&report)
        );
    }
    let read = |path: &str| fs::read_to_string(directory.join(path)).expect(path);
    assert!(read("alpine/Dockerfile").starts_with("FROM r.example/mirrors/alpine:3.21.3@sha256:"));
    assert_eq!(
        (read("alpine/motd"), read("alpine/link")),
        ("hello\n".to_owned(), "hello\n".to_owned())
    );
    let app = "FROM r.example/bases/alpine:3.21.3-core1.0.0\nLABEL at=2023-11-14T22:13:20Z of=commit1700000000 on=\n";
    assert_eq!(read("app/Dockerfile"), app);
    let dry = world.run(&config, Mode::DryRun, false).await;
    assert_eq!(dry.images[1].dockerfile.as_deref(), Some(app));
    let description: serde_json::Value =
        serde_json::from_str(&read("alpine/build.json")).expect("JSON");
    assert_eq!(
        description["tag"],
        "r.example/bases/alpine:3.21.3-core1.0.0"
    );
    let bake: serde_json::Value = serde_json::from_str(&read("docker-bake.json")).expect("JSON");
    assert_eq!(
        bake["target"]["app"]["contexts"]["r.example/bases/alpine:3.21.3-core1.0.0"],
        "target:alpine"
    );
    // A directory without `build.json` is not replaced, and links are copied unresolved.
    std::os::unix::fs::symlink(
        "/etc/passwd",
        world.directory.path().join("images/alpine/absolute"),
    )
    .expect("a link");
    fs::remove_file(directory.join("app/build.json")).expect("to remove");
    let report = write_contexts(build, &plan, &seen, &contexts);
    assert!(
        outcomes(&report)[1].contains("was not written by `imglife build --output-dir`"),
        "{:?}",
        outcomes(&report)
    );
    assert_eq!(
        fs::read_link(directory.join("alpine/absolute")).expect("a link"),
        Path::new("/etc/passwd")
    );
}

/// Writes the contexts of `config` into `directory`.
async fn write_to(world: &World, config: &Config, directory: &Path) -> BuildReport {
    let (plan, seen) = world.plan(config, false).await;
    let contexts = ContextOptions {
        directory: directory.to_owned(),
        run_metadata: world.run_metadata(),
        eol_dates: HashMap::new(),
    };
    write_contexts(
        config.build.as_ref().expect("the section"),
        &plan,
        &seen,
        &contexts,
    )
}

#[tokio::test]
async fn contexts_stay_below_the_output_directory_for_any_image_name() {
    for name in ["..", ".", "../../esc", "/abs", "docker-bake.json"] {
        let world = World::new().await;
        let mut config = world.config(ALPINE);
        // The configuration check rejects most of these names; this is the second line of defence.
        config.build.as_mut().expect("the section").images[0].name = name.to_owned();
        let inner = world.directory.path().join("inner");
        fs::create_dir(&inner).expect("a directory");
        fs::write(inner.join("build.json"), "{}").expect("a file");
        let report = write_to(&world, &config, &inner.join("out")).await;
        if name.contains('/') {
            assert_eq!(
                outcomes(&report),
                ["bases/alpine:3.21.3-core1.0.0 Written"],
                "{name}"
            );
        } else {
            assert!(
                outcomes(&report)[0].contains("is not a valid folder name"),
                "{name}: {:?}",
                outcomes(&report)
            );
        }
        let below = |directory: &Path| {
            let entries = fs::read_dir(directory).expect("a directory");
            let mut names: Vec<_> = entries
                .map(|entry| {
                    entry
                        .expect("an entry")
                        .file_name()
                        .into_string()
                        .expect("text")
                })
                .collect();
            names.sort();
            names
        };
        assert_eq!(
            below(world.directory.path()),
            ["images", "imglife.yaml", "inner"],
            "{name}"
        );
        assert!(inner.join("build.json").is_file(), "{name}");
    }
}

#[tokio::test]
async fn contexts_are_not_written_through_links_of_the_folder() {
    let world = World::new().await;
    world.write("mine.txt", "mine");
    for name in ["Dockerfile", "build.json"] {
        let link = world.directory.path().join("images/alpine").join(name);
        std::os::unix::fs::symlink(world.directory.path().join("mine.txt"), link).expect("a link");
    }
    let out = world.directory.path().join("out");
    let report = write_to(&world, &world.config(ALPINE), &out).await;
    assert_eq!(report.exit(), Exit::Done, "{:?}", outcomes(&report));
    assert_eq!(
        fs::read_to_string(world.directory.path().join("mine.txt")).expect("a file"),
        "mine"
    );
    assert!(
        fs::symlink_metadata(out.join("alpine/Dockerfile"))
            .expect("a file")
            .is_file()
    );
    // A link in place of the context folder is not replaced.
    fs::rename(out.join("alpine"), world.directory.path().join("elsewhere")).expect("to move");
    std::os::unix::fs::symlink(world.directory.path().join("elsewhere"), out.join("alpine"))
        .expect("a link");
    let report = write_to(&world, &world.config(ALPINE), &out).await;
    assert!(
        outcomes(&report)[0].contains("was not written by"),
        "{:?}",
        outcomes(&report)
    );
}

#[tokio::test]
async fn contexts_of_images_with_nested_names_are_siblings() {
    let world = World::new().await;
    let nested = ALPINE
        .replace("name: alpine", "name: alpine/dev")
        .replace(", aliases: [latest]", "")
        .replace("  images:\n", "");
    let out = world.directory.path().join("out");
    let config = world.config(&format!("{ALPINE}{nested}"));
    for _ in 0..2 {
        let report = write_to(&world, &config, &out).await;
        assert_eq!(report.exit(), Exit::Done, "{:?}", outcomes(&report));
    }
    assert!(
        out.join("alpine/build.json").is_file() && out.join("alpine__dev/build.json").is_file()
    );
    let same = nested.replace("alpine/dev", "alpine__dev");
    let report = write_to(
        &world,
        &world.config(&format!("{ALPINE}{nested}{same}")),
        &out,
    )
    .await;
    let clash = "`alpine/dev` and `alpine__dev` (build.images[2]) would both be the target `alpine__dev` of docker-bake.json";
    assert_eq!(
        outcomes(&report)[1],
        format!("bases/alpine/dev:3.21.3-core1.0.0 failed: {clash}")
    );
}

#[tokio::test]
async fn output_directory_inside_a_build_folder_is_not_copied() {
    let world = World::new().await;
    let folder = world.directory.path().join("images/alpine");
    let out = folder.join("deep/out");
    for _ in 0..2 {
        let report = write_to(&world, &world.config(ALPINE), &out).await;
        assert_eq!(report.exit(), Exit::Done, "{:?}", outcomes(&report));
    }
    assert!(
        out.join("alpine/motd").is_file()
            && out.join("alpine/deep").is_dir()
            && !out.join("alpine/deep/out").exists()
    );
    let report = write_to(&world, &world.config(ALPINE), &folder).await;
    assert!(
        outcomes(&report)[0].ends_with("is the build folder of an image"),
        "{:?}",
        outcomes(&report)
    );
}
