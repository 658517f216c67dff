//! The examples and the components' own project, run by gitlab-ci-local as GitLab and a runner with
//! the shell executor would: from an empty state, again, and after something changed.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::site::{Site, check_jsonschema, json_of};
use super::template::{Template, read};
use crate::support::gitlab::PROJECT;

const DATA: &str = "chore(lifecycle): update EOL data [skip ci]";
const REPORT: &str = "chore(status): update image status report [skip ci]";
const FIRST: &str = "the first commit";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn base_images_and_an_application_live_from_an_empty_project_on() {
    let site = Site::new().await;
    site.base_images();

    let first = site.pipeline("base-images", "schedule", &[]).succeeds();
    assert_eq!(site.subjects("base-images"), [REPORT, DATA, FIRST]);
    let mirrored = site
        .registry
        .stored_tags("platform/base-images/mirrors/alpine");
    assert_eq!(
        mirrored.keys().collect::<Vec<_>>(),
        ["3.20.6", "3.20.7", "3.21.3"]
    );
    let built = site
        .registry
        .stored_tags("platform/base-images/bases/alpine");
    assert_eq!(
        built.keys().collect::<Vec<_>>(),
        ["3.21.3-core1.0.0", "latest"]
    );
    let report = site.file("base-images", "README.md");
    // The dates are in the report although the status job works on the commit that the pipeline
    // began with.
    assert!(
        report.contains("# Our base images")
            && report.contains("2098-11-01")
            && report.contains("3.21.3-core1.0.0"),
        "{report}"
    );
    assert!(
        site.file("base-images", "eol-data.yaml")
            .contains("2098-11-01")
    );
    assert!(
        !first.ran("imglife-cleanup: [1/1]"),
        "cleanup waits for somebody who starts it"
    );
    for (job, file) in [
        ("imglife-sync: [1/1]", "sync/sync"),
        ("imglife-build: [1/1]", "build/build"),
        ("imglife-status", "status/status"),
    ] {
        let junit = first.artifact(job, &format!("imglife-reports/{file}.xml"));
        assert!(
            junit.contains("<testsuite") && junit.contains("failures=\"0\""),
            "{job}: {junit}"
        );
    }

    site.pipeline("base-images", "schedule", &[]).succeeds();
    assert_eq!(
        site.subjects("base-images").len(),
        3,
        "nothing was new, and something was committed"
    );

    // The application stands on what is current, until something newer is built.
    let (files, registry) = (site.world.path("app-files"), site.registry.host());
    site.world
        .shell(&format!(
            "cp -r '{}' app-files",
            example("app-gitlab").display()
        ))
        .succeeds();
    // The registry of the tests has no certificate.
    fs::write(
        files.join("imglife.yaml"),
        format!("hosts:\n  '{registry}': {{ endpoint: 'http://{registry}' }}\n"),
    )
    .expect("a written file");
    site.project(
        "app",
        &files,
        &[(
            "Dockerfile",
            "registry.example.com/",
            &format!("{registry}/"),
        )],
    );
    let url = site.gitlab.url().to_string();
    let application = |tag: &'static str, source: &'static str| {
        let store = site.world.path("containers");
        fs::create_dir_all(&store).expect("a directory");
        let insecure = format!(
            "[[registry]]\nlocation = \"{}\"\ninsecure = true\n",
            site.registry.host()
        );
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\nrunroot = \"{0}/run\"\ngraphroot = \"{0}/root\"\n",
            store.display()
        );
        fs::create_dir_all(site.world.path("job-home/.config/containers")).expect("a directory");
        fs::write(
            site.world
                .path("job-home/.config/containers/registries.conf"),
            insecure,
        )
        .expect("a written file");
        fs::write(store.join("storage.conf"), storage).expect("a written file");
        let storage = store.join("storage.conf");
        let mut variables = vec![
            ("IMGLIFE_REGISTRY_URL", url.trim_end_matches('/').to_owned()),
            ("IMGLIFE_REGISTRY_PROJECT_ID", PROJECT.to_string()),
            ("CI_PROJECT_ID", "43".to_owned()),
            ("CONTAINERS_STORAGE_CONF", storage.display().to_string()),
            (
                "REGISTRY_AUTH_FILE",
                store.join("auth.json").display().to_string(),
            ),
        ];
        if !tag.is_empty() {
            variables.push(("CI_COMMIT_TAG", tag.to_owned()));
            variables.push(("CI_COMMIT_BRANCH", String::new()));
        }
        let variables: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        site.pipeline("app", source, &variables)
    };
    let current = application("", "merge_request_event").succeeds();
    assert!(
        current.ran("imglife-check") && !current.ran("build") && !current.ran("imglife-register")
    );

    site.release("alpine", "3.21.4").await;
    site.pipeline("base-images", "web", &[]).succeeds();
    assert_eq!(site.subjects("base-images"), [REPORT, REPORT, DATA, FIRST]);

    let outdated = application("1.0.0", "push").exits(1);
    let log = outdated.log("imglife-check");
    assert!(log.contains("3.21.4-core1.0.0"), "{log}");
    assert!(
        !outdated.ran("build") && !outdated.ran("imglife-register"),
        "an outdated base did not stop the pipeline"
    );
    let findings = outdated.artifact(
        "imglife-check",
        "imglife-reports/check/check.codequality.json",
    );
    assert_eq!(
        json_of(&findings)[0]["location"]["path"],
        "Dockerfile",
        "{findings}"
    );
    let variables = outdated.artifact("imglife-check", "imglife-reports/check/run.env");
    assert!(
        variables.contains("IMGLIFE_UP_TO_DATE=false"),
        "{variables}"
    );

    let update = "git clone --quiet app.git update && cd update && sed -i s/3.21.3-core/3.21.4-core/ Dockerfile && \
                  git commit --quiet --all --message 'a newer base' && git push --quiet";
    site.world.shell(update).succeeds();
    let released = application("1.0.0", "push").succeeds();
    let log = released.log("imglife-register");
    assert!(log.contains("/platform/app:1.0.0"), "{log}");
    // Somebody starts the cleanup, which finds nothing that nobody needs.
    let directory = site.checkout("base-images", "schedule", &[]);
    let last = site
        .run(
            &directory,
            "--json-schema-validation=false --manual 'imglife-cleanup: [1/1]'",
        )
        .succeeds();
    let report = site.file("base-images", "README.md");
    assert!(
        report.contains("platform/app") && report.contains("1.0.0"),
        "{report}"
    );
    let cleaned = json_of(&last.artifact(
        "imglife-cleanup: [1/1]",
        "imglife-reports/cleanup/cleanup.json",
    ));
    assert_eq!(cleaned["deleted"], json!([]), "{cleaned:#}");
    assert!(
        last.log("imglife-cleanup: [1/1]").contains("Kept"),
        "{}",
        last.log("imglife-cleanup: [1/1]")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_in_parallel_share_the_work_and_a_child_pipeline_has_a_job_for_each_image() {
    let site = Site::new().await;
    site.base_images();
    let with = |inputs: &str, variables: &[(&str, &str)]| {
        let directory = site.checkout("base-images", "schedule", variables);
        let file = directory.join(".gitlab-ci.yml");
        let text = fs::read_to_string(&file).expect("a pipeline");
        fs::write(&file, format!("{text}    inputs: {inputs}\n")).expect("a written file");
        site.run(&directory, "")
    };
    let bases = |name: &str| {
        site.registry
            .stored_tags(&format!("platform/base-images/bases/{name}"))
            .len()
    };
    let shared = with("{ sync-parallel: 2, build-parallel: 2, push: never }", &[]).succeeds();
    for (first, second) in [
        ("imglife-sync: [1/2]", "imglife-sync: [2/2]"),
        ("imglife-build: [1/2]", "imglife-build: [2/2]"),
    ] {
        let (first, second) = (shared.log(first), shared.log(second));
        assert!(
            first.contains("/alpine") && !first.contains("/golang"),
            "{first}"
        );
        assert!(
            second.contains("/golang") && !second.contains("/alpine:"),
            "{second}"
        );
    }
    assert_eq!((bases("alpine"), bases("golang")), (2, 1));
    assert_eq!(site.subjects("base-images").len(), 1);

    for tag in ["3.21.4", "3.21.5"] {
        site.release("alpine", tag).await;
    }
    let children = with("{ child-pipeline: true, tags: [docker], push: never }", &[]).succeeds();
    assert!(!children.ran("imglife-build: [1/1]"));
    let child = json_of(&children.artifact("imglife-build-plan", "imglife-images.yml"));
    assert_eq!(child[".imglife-build"]["tags"][0], "docker");
    check_jsonschema(
        "vendor.gitlab-ci",
        &[children
            .directory("imglife-build-plan")
            .join("imglife-images.yml")],
    );
    let (alpine, golang) = (children.log("build alpine"), children.log("build golang"));
    assert!(
        alpine.contains("3.21.5-core1.0.0") && !alpine.contains("golang"),
        "{alpine}"
    );
    assert!(golang.contains("golang"), "{golang}");
    assert_eq!((bases("alpine"), bases("golang")), (3, 1));

    // A variable of the whole project narrows the plan, and adds nothing to a job.
    let several = [
        ("IMGLIFE_BUILD_ONLY", "alpine\ngolang"),
        ("IMGLIFE_BUILD_FORCE", "true"),
    ];
    let children = with("{ child-pipeline: true, push: never }", &several).succeeds();
    let alpine = children.log("build alpine");
    assert!(
        alpine.contains("Built ") && !alpine.contains("golang"),
        "{alpine}"
    );

    // The jobs of a child pipeline have what those of the component have, or there is none.
    let buildah = with(
        "{ child-pipeline: true, mode: buildah, keep-reports: 3 days, push: never }",
        &[],
    )
    .succeeds();
    let child = json_of(&buildah.artifact("imglife-build-plan", "imglife-images.yml"));
    let of_mode =
        Template::of("build").job(".imglife-build-buildah", &json!({}))["variables"].clone();
    for (name, value) in of_mode.as_object().expect("variables") {
        assert_eq!(&child[".imglife-build"]["variables"][name], value, "{name}");
    }
    assert_eq!(child[".imglife-build"]["artifacts"]["expire_in"], "3 days");
    let services = with("{ child-pipeline: true, mode: dind, push: never }", &[]).exits(1);
    let log = services.log("imglife-build-plan");
    assert!(
        log.contains("does not support the mode `dind`") && !services.ran("build alpine"),
        "{log}"
    );

    // What is built elsewhere is built from what the job keeps: here the lines of the README, with
    // a program that only tells.
    let contexts = with("{ mode: contexts, push: never }", &[]).succeeds();
    let readme = read("README.md");
    let lines: Vec<&str> = readme
        .lines()
        .skip_while(|line| !line.contains("for context in"))
        .take_while(|line| !line.contains("```"))
        .collect();
    let builds = lines
        .join("\n")
        .replace("/kaniko/executor", "echo")
        .replace("/kaniko/.docker/config.json", "/dev/null");
    let place = contexts.directory("imglife-build: [1/1]");
    let told = site
        .world
        .shell(&format!("cd '{}' && {builds}", place.display()))
        .succeeds()
        .stdout;
    let (host, place) = (site.registry.host(), place.display());
    let expected = format!(
        "--cleanup --context dir://{place}/contexts/alpine/ --destination {host}/platform/base-images/bases/alpine:3.21.5-core1.0.0"
    );
    assert!(
        told.lines().any(|line| line == expected) && told.lines().count() == 2,
        "{told}"
    );

    // The data are where the inputs say, and the status job has them although nothing was pushed.
    let moved = site.checkout("base-images", "schedule", &[]);
    for (file, from, to) in [
        (
            "imglife.yaml",
            "eol_data_file: eol-data.yaml",
            "eol_data_file: ends.yaml",
        ),
        (
            ".gitlab-ci.yml",
            "@0.1.0\n",
            "@0.1.0\n    inputs: { data-file: ends.yaml, output: REPORT.md, push: never }\n",
        ),
    ] {
        let text = fs::read_to_string(moved.join(file)).expect("a file");
        assert!(text.contains(from), "{file} lacks {from}");
        fs::write(moved.join(file), text.replace(from, to)).expect("a written file");
    }
    let moved = site.run(&moved, "").succeeds();
    assert!(
        moved
            .artifact("imglife-status", "REPORT.md")
            .contains("2098-11-01"),
        "{}",
        moved.log("imglife-status")
    );

    // What is known is reported although something could not be built.
    let failed = with("{ push: never }", &[("IMGLIFE_BUILD_ONLY", "unheard-of")]).exits(1);
    assert!(
        failed
            .log("imglife-build: [1/1]")
            .contains("matches nothing"),
        "{}",
        failed.log("imglife-build: [1/1]")
    );
    assert!(
        failed.log("imglife-status").contains("Bases"),
        "{}",
        failed.log("imglife-status")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_components_project_tests_and_releases_itself() {
    let site = Site::new().await;
    let version = env!("CARGO_PKG_VERSION");
    // The release of the tool pushed its image here.
    site.release("imglife", version).await;
    let image = format!("{}/library/imglife", site.upstream.host());
    let hosts = format!(
        "hosts:\n  '{0}': {{ endpoint: 'http://{0}' }}\n",
        site.registry.host()
    );
    let upstream = format!(
        "{hosts}  '{0}': {{ endpoint: 'http://{0}' }}\n",
        site.upstream.host()
    );
    let prepare = |directory: &Path| {
        for (file, text) in [("tests/imglife.yaml", &hosts), ("release.yaml", &upstream)] {
            let path = directory.join(file);
            let read = fs::read_to_string(&path).expect("a file");
            fs::write(path, format!("{read}\n{text}")).expect("a written file");
        }
    };
    let directory = site.checkout("imglife-components", "push", &[]);
    prepare(&directory);
    let pushed = site
        .run(&directory, "--json-schema-validation=false")
        .succeeds();
    let of_components = [
        "test-sync: [1/2]",
        "test-build: [1/1]",
        "test-eol-update",
        "test-status",
        "test-check",
        "test-register",
        "test-cleanup: [1/1]",
    ];
    let of_pipeline = [
        "pipeline-sync: [1/1]",
        "pipeline-build: [1/1]",
        "pipeline-eol-update",
        "pipeline-status",
        "pipeline-cleanup: [1/1]",
    ];
    for job in of_components.iter().chain(&of_pipeline) {
        assert!(pushed.ran(job), "{job} did not run");
    }
    assert!(!pushed.ran("release") && !pushed.ran("publish-sync: [1/1]") && !pushed.ran("version"));
    assert!(
        pushed.log("test-cleanup: [1/1]").contains("[dry-run]")
            && pushed.log("pipeline-cleanup: [1/1]").contains("[dry-run]")
    );

    let directory = site.checkout(
        "imglife-components",
        "push",
        &[
            ("CI_COMMIT_TAG", version),
            ("CI_COMMIT_BRANCH", ""),
            ("IMGLIFE_RELEASE_IMAGE", &image),
        ],
    );
    prepare(&directory);
    let tagged = site
        .run(&directory, "--json-schema-validation=false")
        .succeeds();
    assert!(tagged.ran("version") && tagged.ran("release"));
    assert!(
        of_components
            .iter()
            .chain(&of_pipeline)
            .all(|job| tagged.ran(job)),
        "{}",
        tagged.outcome.stdout
    );
    let published = site.registry.stored_tags("platform/imglife-components");
    assert_eq!(published.keys().collect::<Vec<_>>(), [version]);
    // Another version than that of the templates is not released.
    let directory = site.checkout(
        "imglife-components",
        "push",
        &[
            ("CI_COMMIT_TAG", "7.8.9"),
            ("CI_COMMIT_BRANCH", ""),
            ("IMGLIFE_RELEASE_IMAGE", &image),
        ],
    );
    prepare(&directory);
    let refused = site
        .run(&directory, "--json-schema-validation=false")
        .exits(1);
    assert!(
        refused
            .log("version")
            .contains("is not platform/imglife-components:7.8.9")
            && !refused.ran("release")
    );
}

/// Gitlab-ci-local does not look at the `regex` of inputs, so here is seen what happens where it
/// would not hold.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_run_that_stands_in_an_input_or_in_the_name_of_a_tag() {
    let site = Site::new().await;
    let hostile = [
        "$(touch pwned)",
        "`touch pwned`",
        "\"; touch pwned; \"",
        "'; touch pwned; '",
        "a\ntouch pwned\n",
        "-x; touch pwned",
        "a & touch pwned",
    ];
    let (mut include, mut pipeline) = (Vec::new(), json!({ "stages": ["sync", "test", "deploy"] }));
    for (number, text) in hostile.into_iter().enumerate() {
        for (component, inputs) in [
            ("sync", json!({ "config": text, "only": text })),
            ("check", json!({ "dockerfile": text, "build-arg": text })),
            (
                "register",
                json!({ "base": text, "field": text, "platforms": text }),
            ),
        ] {
            let mut inputs = inputs;
            inputs["job-prefix"] = json!(format!("try-{number}-"));
            let version = env!("CARGO_PKG_VERSION");
            // Both ways to include.
            include.push(if number % 2 == 0 {
                json!({ "component": format!("$CI_SERVER_FQDN/platform/imglife-components/{component}@{version}"), "inputs": inputs })
            } else {
                json!({ "project": "platform/imglife-components", "ref": version, "file": format!("templates/{component}/template.yml"), "inputs": inputs })
            });
            let variables = json!({ "CI_COMMIT_TAG": text, "CI_COMMIT_REF_NAME": text });
            pipeline[format!("try-{number}-{component}")] =
                json!({ "rules": [{ "when": "always" }], "variables": variables });
        }
    }
    pipeline["include"] = json!(include);
    let files = site.world.path("files");
    fs::create_dir(&files).expect("a new directory");
    fs::write(files.join(".gitlab-ci.yml"), pipeline.to_string()).expect("a written file");
    site.project("hostile", &files, &[]);
    let ran = site.pipeline("hostile", "push", &[]).exits(1);
    for (number, text) in hostile.into_iter().enumerate() {
        for job in ["sync: [1/1]", "check", "register"] {
            let log = ran.log(&format!("try-{number}-{job}"));
            assert!(
                log.contains("imglife run ") && log.contains("error"),
                "{job} with {text}: {log}"
            );
        }
    }
    assert_eq!(
        site.world.shell("find . -name pwned").succeeds().stdout,
        "",
        "something was run"
    );
}
