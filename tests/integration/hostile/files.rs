//! Symbolic links and paths of a checkout that lead out of it.

use std::fs;
use std::os::unix::fs::symlink;

use super::JOB;
use crate::support::world::World;

const CONFIGURATION: &str = "
registry: { provider: file, path: records }
build:
  core_version: 1.0.0
  registry: ocidir://bases
  images:
    - { name: a, folder: a, type: core, mirror_image: 'ocidir://up', mirror_tag: '1', lifecycle: { product: alpine } }
lifecycle: { api_url: 'http://127.0.0.1:9' }
";

/// Returns a checkout with links to a directory outside.
fn world() -> World {
    let world = World::new()
        .file(".git/HEAD", "ref: refs/heads/main\n")
        .file("imglife.yaml", CONFIGURATION)
        .file("a/Dockerfile.tmpl", "FROM {{ base }}\n");
    let outside = world.home();
    fs::create_dir(outside.join("contexts")).expect("a directory");
    fs::write(outside.join("profile"), "kept").expect("a file");
    for (link, target) in [
        ("README.md", "profile"),
        ("eol-data.yaml", "profile"),
        ("contexts", "contexts"),
        ("reports", "contexts"),
        ("dangling.md", "new"),
    ] {
        symlink(outside.join(target), world.path(link)).expect("a link");
    }
    world
}

#[test]
fn nothing_is_written_through_a_link_that_leads_out_of_the_checkout() {
    let world = world();
    for arguments in [
        &["status", "--offline", "--output", "README.md"][..],
        &["status", "--offline", "--output", "dangling.md"],
        &[
            "status",
            "--offline",
            "--report-junit",
            "reports/status.xml",
        ],
        &["build", "--output-dir", "contexts"],
        &["build", "--output-dir", "contexts/new"],
        &["run", "--reports", "reports", "status"],
        &["eol", "update", "--data-file", "README.md"],
    ] {
        let outcome = world.imglife_with(arguments);
        assert_eq!(outcome.code(), Some(2), "{outcome:?}");
        assert!(
            outcome
                .stderr
                .contains("is a symbolic link that leads out of the checkout"),
            "{outcome:?}"
        );
    }
    let text = fs::read_to_string(world.home().join("profile")).expect("text");
    assert_eq!(text, "kept");
    assert!(!world.home().join("new").exists());
    let written = fs::read_dir(world.home().join("contexts")).expect("a directory");
    assert_eq!(written.count(), 0);
}

#[test]
fn the_data_file_of_the_configuration_is_no_link_out_of_the_checkout() {
    let outcome = world().imglife(["eol", "update"]);
    assert_eq!(outcome.code(), Some(2), "{outcome:?}");
    assert!(
        outcome
            .stderr
            .contains("eol-data.yaml leads out of the repository of the configuration"),
        "{outcome:?}"
    );
}

#[test]
fn a_folder_outside_is_used_only_with_permission() {
    let world = World::new()
        .file("project/.git/HEAD", "ref: refs/heads/main\n")
        .file("project.tmp/KUBECONFIG", "hunter2")
        .file(
            "project/imglife.yaml",
            CONFIGURATION.replace("folder: a", "folder: .., tmpl: project/a/Dockerfile.tmpl"),
        )
        .file(
            "project/a/Dockerfile.tmpl",
            "FROM {{ base }}\nCOPY project.tmp/KUBECONFIG /\n",
        );
    let config = ["--config", "project/imglife.yaml", "config", "check"];
    let outcome = world.imglife(config);
    assert_eq!(outcome.code(), Some(2), "{outcome:?}");
    let allowed = world.imglife_with(&[&config[..], &["--allow-outside"]].concat());
    assert_eq!(allowed.code(), Some(0), "{allowed:?}");
}

#[test]
fn a_command_line_may_name_any_path() {
    let world = World::new().file(
        "imglife.yaml",
        "sync: { entries: [{ source: 'ocidir://up', target: 'ocidir://m', tag: '1' }] }",
    );
    let file = world.home().join("report.md");
    let outcome = world.imglife([
        "status",
        "--offline",
        "--output",
        file.to_str().expect("UTF-8"),
    ]);
    assert_ne!(outcome.code(), Some(2), "{outcome:?}");
    assert!(file.exists(), "{outcome:?}");
}

#[test]
fn a_store_outside_is_for_trusted_jobs() {
    let text = CONFIGURATION.replace("ocidir://up", "ocidir:///srv/up");
    let mut world = World::new()
        .file("imglife.yaml", text)
        .file("a/Dockerfile.tmpl", "FROM {{ base }}\n");
    assert_eq!(world.imglife(["config", "check"]).code(), Some(0));
    for (name, value) in JOB {
        world = world.variable(name, value);
    }
    let outcome = world.imglife(["config", "check"]);
    assert_eq!(outcome.code(), Some(2), "{outcome:?}");
}
