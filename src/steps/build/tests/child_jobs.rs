//! Tests of child pipelines and of the distribution of images to jobs and shards.

use super::*;

fn child_of(scope: &BuildScope) -> ChildPipeline<'_> {
    ChildPipeline {
        scope,
        permissions: crate::model::Permissions::default(),
        configuration: None,
        directory: Path::new("/"),
        tags: &[],
        mode: ChildMode::Native,
        expire_in: None,
    }
}

fn child_jobs(build: &BuildConfig, child: &ChildPipeline<'_>) -> serde_json::Value {
    serde_json::from_str(&child_pipeline(build, child)).expect("JSON")
}

#[tokio::test]
async fn a_child_pipeline_has_a_job_for_each_image_after_its_base() {
    let world = World::new().await;
    world.write("images/app/Dockerfile.tmpl", "FROM {{ base }}\n");
    let config = world.config(CHAIN);
    let build = config.build.as_ref().expect("the section");
    let read = |scope: &BuildScope, tags: &[String]| -> serde_json::Value {
        child_jobs(
            build,
            &ChildPipeline {
                tags,
                ..child_of(scope)
            },
        )
    };
    let pipeline = read(&BuildScope::default(), &["large".to_owned()]);
    assert_eq!(pipeline["build app"]["needs"], json!(["build alpine"]));
    assert_eq!(
        pipeline["build alpine"]["script"],
        json!(["imglife run build -- --only alpine"])
    );
    assert_eq!(pipeline[".imglife-build"]["tags"], json!(["large"]));
    // GitLab rejects a child pipeline without jobs.
    let nothing = read(
        &BuildScope {
            shard: Shard::new(2, 2),
            ..BuildScope::default()
        },
        &[],
    );
    assert_eq!(
        (
            nothing["nothing to build"]["script"].clone(),
            nothing[".imglife-build"].get("tags")
        ),
        (json!(["true"]), None)
    );
}

#[test]
fn child_pipeline_shards_if_there_are_more_images_than_jobs() {
    let image = |number| {
        format!(
            "    - {{ name: app-{number}, folder: a, type: core, mirror_image: r.example/m, mirror_tag: '1' }}\n"
        )
    };
    let images: String = (0..501).map(image).collect();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("imglife.yaml");
    fs::write(
        &path,
        format!("build:\n  core_version: '1'\n  registry: r.example/bases\n  images:\n{images}"),
    )
    .expect("a file");
    let config = crate::config::open(Some(&path), &Variables::default(), directory.path())
        .expect("a configuration");
    let scope = BuildScope {
        only: Only::new(&["app-*".to_owned()]).expect("a pattern"),
        ..BuildScope::default()
    };
    let child = ChildPipeline {
        configuration: Some(&path),
        directory: directory.path(),
        ..child_of(&scope)
    };
    let pipeline = child_jobs(config.build.as_ref().expect("the section"), &child);
    assert_eq!(pipeline.as_object().expect("jobs").len(), 502);
    assert_eq!(
        pipeline["build 500/500"]["script"],
        json!(["imglife --config imglife.yaml run build -- --shard 500/500 --only 'app-*'"])
    );
}

#[tokio::test]
async fn a_job_needs_the_base_of_every_version_of_its_image() {
    let world = World::new().await;
    let images = "  images:
    - { name: x, folder: images/alpine, type: core, mirror_image: r.example/mirrors/alpine }
    - { name: x, folder: images/alpine, type: core, mirror_image: r.example/bases/b, version: on-b }
    - { name: b, folder: images/alpine, type: core, mirror_image: r.example/mirrors/alpine }
";
    let config = world.config(images);
    let build = config.build.as_ref().expect("the section");
    let pipeline = child_jobs(build, &child_of(&BuildScope::default()));
    assert_eq!(
        (&pipeline["build x"]["needs"], &pipeline["build b"]["needs"]),
        (&json!(["build b"]), &json!([]))
    );
}

/// GitLab rejects a pipeline in which a job has more than 50 `needs`.
#[test]
fn a_job_with_too_many_bases_runs_in_a_later_stage() {
    let image = |name: &str, on: &str| {
        format!(
            "    - {{ name: {name}, folder: a, type: core, mirror_image: r.example/{on}, mirror_tag: '1' }}\n"
        )
    };
    let bases: String = (0..60)
        .map(|number| image(&format!("base-{number}"), "mirrors/alpine"))
        .collect();
    let versions = |name: &str, count: usize| -> String {
        let version = |number| {
            image(name, &format!("bases/base-{number}"))
                .replace(" }\n", &format!(", version: on-{number} }}\n"))
        };
        (0..count).map(version).collect()
    };
    let top = image("top", "bases/all");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("imglife.yaml");
    let images = format!(
        "{top}{}{}{bases}",
        versions("all", 60),
        versions("most", 50)
    );
    fs::write(
        &path,
        format!("build:\n  core_version: '1'\n  registry: r.example/bases\n  images:\n{images}"),
    )
    .expect("a file");
    let config = crate::config::open(Some(&path), &Variables::default(), directory.path())
        .expect("a configuration");
    let pipeline = child_jobs(
        config.build.as_ref().expect("the section"),
        &child_of(&BuildScope::default()),
    );
    assert_eq!(pipeline["stages"], json!(["build", "build-2"]));
    let job = |name: &str| {
        (
            pipeline[name]["stage"].as_str(),
            pipeline[name]["needs"].as_array().map(Vec::len),
        )
    };
    assert_eq!(
        (job("build base-59"), job("build most")),
        ((None, Some(0)), (None, Some(50)))
    );
    assert_eq!(job("build all"), (Some("build-2"), None));
    // A job may only need jobs of its own stage and earlier ones.
    assert_eq!(job("build top"), (Some("build-2"), Some(1)));
}

#[test]
fn related_images_stay_in_one_shard() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = "build:
  core_version: '1'
  registry: r.example/bases
  images:
    - { name: a, folder: a, type: core, mirror_image: r.example/mirrors/x, mirror_tag: '1' }
    - { name: b, folder: b, type: core, mirror_image: r.example/bases/a }
    - { name: c, folder: c, type: core, mirror_image: r.example/mirrors/y, mirror_tag: '1' }
    - { name: d, folder: d, type: core, mirror_image: r.example/bases/b }
";
    let path = directory.path().join("imglife.yaml");
    fs::write(&path, text).expect("a file");
    let config = crate::config::open(Some(&path), &Variables::default(), directory.path())
        .expect("a configuration");
    let build = config.build.expect("the section");
    let shard = |index| {
        BuildScope {
            shard: Shard::new(index, 2),
            ..BuildScope::default()
        }
        .images(&build)
        .into_iter()
        .collect::<Vec<_>>()
    };
    assert_eq!((shard(1), shard(2)), (vec![0, 1, 3], vec![2]));
}
