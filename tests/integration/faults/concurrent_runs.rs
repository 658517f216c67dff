//! Tests of two runs at once with the same target, data file or report. The tests of builds,
//! records, branches and cleanups have further ones.

use imglife::model::Repository;
use imglife::registry::layout::Layouts;

use super::kills::{assert_complete, layout_files};
use super::{
    Flavour, Graph, LAYER_TYPE, RUN_TIMEOUT, Registry, World, client, configuration, image, noise,
};
use crate::eol::{configuration as tracking, count, data, thirty};
use crate::status::small_world;
use crate::support::world::Running;

/// Returns small images with tags that begin with `name`. All share a layer, also across names.
fn tags(name: &str, count: u64) -> Graph {
    let mut graph = Graph::default();
    let base = graph.blob(LAYER_TYPE, noise(0, 200_000));
    for number in 0..count {
        let own = graph.blob(LAYER_TYPE, format!("layer {number} of {name}"));
        let child = graph.image(Flavour::Oci, "linux/amd64", &[base.clone(), own]);
        let index = graph.index(Flavour::Oci, &[child]);
        graph.tag(&format!("{name}-{number}"), &index);
    }
    graph
}

#[tokio::test]
async fn two_runs_of_the_same_entries_lose_no_tag() {
    let (upstream, target) = (Registry::plain(), Registry::plain());
    let graph = tags("a", 12);
    graph
        .publish(&client(&upstream), &upstream.repository("app"))
        .await;
    for round in 0..3 {
        let path = format!("round-{round}/app");
        let entries = [(
            format!("{}/app", upstream.host()),
            format!("{}/{path}", target.host()),
            "tag_regex: '.*'",
        )];
        let world = World::new().file(
            "imglife.yaml",
            configuration(&[upstream.host(), target.host()], &entries),
        );
        let runs = [(); 2].map(|()| world.start_imglife(["sync"]).within(RUN_TIMEOUT));
        for outcome in runs.map(Running::wait) {
            assert_eq!(outcome.code(), Some(0), "{outcome:?}");
        }
        world.imglife(["sync"]).succeeds();
        graph
            .assert_published(&client(&target), &target.repository(&path))
            .await;
        assert_eq!(target.stored_tags(&path).len(), 12);
    }
}

#[tokio::test]
async fn two_runs_that_replace_the_same_tag_leave_the_new_image() {
    let (upstream, target) = (Registry::plain(), Registry::plain());
    let (old, new) = (image("1.0", 1_000), image("1.0", 300_000));
    new.publish(&client(&upstream), &upstream.repository("app"))
        .await;
    for round in 0..3 {
        let path = format!("round-{round}/app");
        old.publish(&client(&target), &target.repository(&path))
            .await;
        let entries = [(
            format!("{}/app", upstream.host()),
            format!("{}/{path}", target.host()),
            "tag: '1.0', check_digest: true",
        )];
        let world = World::new().file(
            "imglife.yaml",
            configuration(&[upstream.host(), target.host()], &entries),
        );
        let runs = [(); 2].map(|()| world.start_imglife(["sync"]).within(RUN_TIMEOUT));
        for outcome in runs.map(Running::wait) {
            assert_eq!(outcome.code(), Some(0), "{outcome:?}");
        }
        world.imglife(["sync"]).succeeds();
        new.assert_published(&client(&target), &target.repository(&path))
            .await;
    }
}

#[tokio::test]
async fn two_runs_from_two_registries_into_one_layout_lose_nothing() {
    let (one, other) = (Registry::plain(), Registry::plain());
    let (a, b) = (tags("a", 15), tags("b", 15));
    a.publish(&client(&one), &one.repository("app")).await;
    b.publish(&client(&other), &other.repository("app")).await;
    let text = |upstream: &Registry, target: &str| {
        let entries = [(
            format!("{}/app", upstream.host()),
            target.to_owned(),
            "tag_regex: '.*'",
        )];
        configuration(&[upstream.host()], &entries)
    };
    let world = World::new()
        .file("one.yaml", text(&one, "ocidir://out"))
        .file("other.yaml", text(&other, "ocidir://out"))
        .file("one-after.yaml", text(&one, "ocidir://after"))
        .file("other-after.yaml", text(&other, "ocidir://after"));
    let runs = ["one.yaml", "other.yaml"].map(|file| {
        world
            .start_imglife(["-c", file, "sync"])
            .within(RUN_TIMEOUT)
    });
    for run in runs {
        run.wait().succeeds();
    }
    let layout = Repository::Layout {
        directory: world.path("out"),
    };
    for graph in [&a, &b] {
        graph.assert_published(&Layouts::default(), &layout).await;
    }
    assert_eq!(assert_complete(&Layouts::default(), &layout).await, 30);
    for file in ["one-after.yaml", "other-after.yaml"] {
        world.imglife(["-c", file, "sync"]).succeeds();
    }
    assert_eq!(
        layout_files(&world.path("out")),
        layout_files(&world.path("after")),
        "concurrent runs must give the same result as consecutive ones"
    );
}

#[tokio::test]
async fn killed_run_does_not_harm_a_concurrent_run() {
    let (one, other) = (Registry::plain(), Registry::plain());
    let (a, b) = (tags("a", 15), tags("b", 15));
    a.publish(&client(&one), &one.repository("app")).await;
    b.publish(&client(&other), &other.repository("app")).await;
    let text = |upstream: &Registry| {
        let entries = [(
            format!("{}/app", upstream.host()),
            "ocidir://out".to_owned(),
            "tag_regex: '.*'",
        )];
        let text = configuration(&[upstream.host()], &entries);
        format!(
            "{text}hosts: {{ {:?}: {{ requests_per_second: 150 }} }}\n",
            upstream.host()
        )
    };
    let world = World::new()
        .file("one.yaml", text(&one))
        .file("other.yaml", text(&other));
    let [first, second] = ["one.yaml", "other.yaml"].map(|file| {
        world
            .start_imglife(["-c", file, "sync"])
            .within(RUN_TIMEOUT)
    });
    std::thread::sleep(super::Duration::from_millis(250));
    first.signal("KILL");
    first.wait();
    second.wait().succeeds();
    let layout = Repository::Layout {
        directory: world.path("out"),
    };
    b.assert_published(&Layouts::default(), &layout).await;
    assert_complete(&Layouts::default(), &layout).await;
    world.imglife(["-c", "one.yaml", "sync"]).succeeds();
    a.assert_published(&Layouts::default(), &layout).await;
    assert!(
        layout_files(&world.path("out"))
            .keys()
            .all(|name| !name.starts_with(".imglife")),
        "temporary files are left"
    );
}

#[test]
fn concurrent_updates_leave_a_complete_file_or_one_package() {
    let (api, names) = thirty();
    let config = tracking(
        &api,
        &names
            .iter()
            .map(|name| (name.as_str(), "1.10.4"))
            .collect::<Vec<_>>(),
    );
    let world = World::new().file("imglife.yaml", &config);
    let at_once = |world: &World, arguments: &[&str]| {
        let runs = [(); 3].map(|()| world.start_with(arguments).within(RUN_TIMEOUT));
        for run in runs {
            run.wait().succeeds();
        }
    };
    at_once(&world, &["eol", "update"]);
    let whole = data(&world);
    world.imglife(["eol", "update"]).succeeds();
    assert_eq!(data(&world), whole);
    assert_eq!(whole.lines().filter(|line| line.ends_with(':')).count(), 30);

    let packages = config.replacen("lifecycle: {", "lifecycle: { eol_target: pkgregistry,", 1);
    let world = World::new().file(
        "imglife.yaml",
        format!("registry: {{ provider: file, path: records }}\n{packages}"),
    );
    at_once(&world, &["eol", "update"]);
    // Duplicates from concurrent writers count once. The next write removes them.
    assert_eq!(
        world
            .imglife(["eol", "list"])
            .succeeds()
            .stdout
            .matches("product-30 ")
            .count(),
        1
    );
    api.product("product-7", &[("1.10", Some("2031-01-31"))]);
    world.imglife(["eol", "update"]).succeeds();
    assert_eq!(count(&world.path("records")), 1);
}

#[test]
fn concurrent_reports_leave_one_page_and_the_text_around_it() {
    let world = small_world().file(
        "README.md",
        "# Ours\n\n<!-- imglife:begin -->\nold\n<!-- imglife:end -->\nfoot\n",
    );
    let arguments = ["status", "--publish", "--output", "README.md"];
    for _ in 0..3 {
        let runs = [(); 3].map(|()| world.start_imglife(arguments).within(RUN_TIMEOUT));
        for run in runs {
            run.wait().succeeds();
        }
    }
    let page = std::fs::read_to_string(world.path("README.md")).expect("a file");
    assert!(
        page.starts_with("# Ours\n\n<!-- imglife:begin -->\n## ")
            && page.ends_with("\n<!-- imglife:end -->\nfoot\n"),
        "{page}"
    );
    assert!(
        world
            .imglife(arguments)
            .succeeds()
            .stdout
            .contains("README.md   unchanged\n")
    );
    assert!(
        world
            .imglife(["latest", "alpine"])
            .succeeds()
            .stdout
            .ends_with("bases/alpine:3.21.3-core1.0.0\n")
    );
}
