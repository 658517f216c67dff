//! Every component by itself: its inputs, its jobs, its documentation.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::site::check_jsonschema;
use super::template::{COMPONENTS, Template, project, read, yaml};
use crate::support::world::World;

const TABLES: (&str, &str) = (
    "<!-- inputs: written by the tests -->\n",
    "<!-- /inputs -->",
);

/// Where an input is seen: component, input, a value that is not the default, the job, a pointer
/// into it, what stands there then.
fn reaches() -> Vec<(
    &'static str,
    &'static str,
    Value,
    &'static str,
    &'static str,
    Value,
)> {
    let mut all = Vec::new();
    // What every component has, and where its main job is.
    for (component, job) in
        COMPONENTS.map(|name| (name, if name == "pipeline" { "sync" } else { name }))
    {
        let name: &'static str = format!("imglife-{job}").leak();
        let renamed: &'static str = format!("other-{job}").leak();
        let one =
            |input, value: Value, pointer, seen| (component, input, value, name, pointer, seen);
        all.push((
            component,
            "job-prefix",
            json!("other-"),
            renamed,
            "/script",
            json!(format!("imglife run {job}")),
        ));
        all.push(one(
            "image",
            json!("r.example/i:2"),
            "/image/name",
            json!("r.example/i:2"),
        ));
        all.push(one(
            "config",
            json!("ci/i.yaml"),
            "/variables/IMGLIFE_CONFIG",
            json!("ci/i.yaml"),
        ));
        all.push(one(
            "tags",
            json!(["big", "arm"]),
            "/tags",
            json!(["big", "arm"]),
        ));
        all.push(one(
            "keep-reports",
            json!("1 week"),
            "/artifacts/expire_in",
            json!("1 week"),
        ));
        if component != "pipeline" {
            all.push(one("stage", json!("first"), "/stage", json!("first")));
        }
    }
    // Of `pipeline` these have the step before their name.
    let steps = [
        ("sync", "parallel", json!(3), "/parallel", json!(3)),
        (
            "sync",
            "only",
            json!("*/alpine"),
            "/variables/IMGLIFE_SYNC_ONLY",
            json!("*/alpine"),
        ),
        ("build", "parallel", json!(3), "/parallel", json!(3)),
        (
            "build",
            "only",
            json!("alpine"),
            "/variables/IMGLIFE_BUILD_ONLY",
            json!("alpine"),
        ),
        ("cleanup", "parallel", json!(3), "/parallel", json!(3)),
        (
            "cleanup",
            "only",
            json!("alpine"),
            "/variables/IMGLIFE_CLEANUP_ONLY",
            json!("alpine"),
        ),
        (
            "cleanup",
            "dry-run",
            json!(true),
            "/variables/IMGLIFE_CLEANUP_DRY_RUN",
            json!("true"),
        ),
        (
            "cleanup",
            "when",
            json!("on_success"),
            "/rules/0/when",
            json!("on_success"),
        ),
    ];
    for (step, input, value, pointer, seen) in steps {
        let job: &'static str = format!("imglife-{step}").leak();
        all.push((step, input, value.clone(), job, pointer, seen.clone()));
        all.push((
            "pipeline",
            format!("{step}-{input}").leak(),
            value,
            job,
            pointer,
            seen,
        ));
    }
    for step in &COMPONENTS[..5] {
        let job: &'static str = format!("imglife-{step}").leak();
        all.push((
            "pipeline",
            format!("{step}-stage").leak(),
            json!("first"),
            job,
            "/stage",
            json!("first"),
        ));
    }
    // Of `pipeline` these have the same name.
    let shared = [
        (
            "sync",
            "verify",
            json!(true),
            "imglife-sync",
            "/variables/IMGLIFE_SYNC_VERIFY",
            json!("true"),
        ),
        (
            "build",
            "mode",
            json!("contexts"),
            "imglife-build",
            "/variables/IMGLIFE_BUILD_OUTPUT_DIR",
            json!("contexts"),
        ),
        (
            "build",
            "dind-image",
            json!("r.example/dind:1"),
            ".imglife-build-dind",
            "/services/0/name",
            json!("r.example/dind:1"),
        ),
        (
            "build",
            "binfmt",
            json!("r.example/b:1"),
            ".imglife-build-dind",
            "/variables/IMGLIFE_RUN_BINFMT",
            json!("r.example/b:1"),
        ),
        (
            "build",
            "builder-nodes",
            json!("linux/arm64=ssh://a@b.example"),
            ".imglife-build-dind",
            "/variables/IMGLIFE_RUN_BUILDER_NODE",
            json!("linux/arm64=ssh://a@b.example"),
        ),
        (
            "build",
            "buildkit-image",
            json!("r.example/k:1"),
            ".imglife-build-buildkit",
            "/services/0/name",
            json!("r.example/k:1"),
        ),
        (
            "build",
            "mode",
            json!("buildah"),
            "imglife-build-plan",
            "/variables/IMGLIFE_CHILD_MODE",
            json!("buildah"),
        ),
        (
            "build",
            "keep-reports",
            json!("1 week"),
            "imglife-build-plan",
            "/variables/IMGLIFE_CHILD_KEEP",
            json!("1 week"),
        ),
        (
            "build",
            "child-pipeline",
            json!(true),
            "imglife-build-plan",
            "/rules/0/if",
            json!("\"true\" != \"true\""),
        ),
        (
            "eol-update",
            "data-file",
            json!("data/e.yaml"),
            "imglife-eol-update",
            "/artifacts/paths/1",
            json!("data/e.yaml"),
        ),
        (
            "eol-update",
            "push",
            json!("never"),
            "imglife-eol-update",
            "/variables/IMGLIFE_RUN_PUSH",
            json!("never"),
        ),
        (
            "status",
            "output",
            json!("docs/s.md"),
            "imglife-status",
            "/variables/IMGLIFE_STATUS_OUTPUT",
            json!("docs/s.md"),
        ),
        (
            "status",
            "fail-on",
            json!("expired"),
            "imglife-status",
            "/variables/IMGLIFE_STATUS_FAIL_ON",
            json!("expired"),
        ),
        (
            "status",
            "push",
            json!("always"),
            "imglife-status",
            "/variables/IMGLIFE_RUN_PUSH",
            json!("always"),
        ),
    ];
    for (component, input, value, job, pointer, seen) in shared {
        all.push((component, input, value.clone(), job, pointer, seen.clone()));
        all.push(("pipeline", input, value, job, pointer, seen));
    }
    let (check, register) = ("imglife-check", "imglife-register");
    all.extend([
        (
            "check",
            "dockerfile",
            json!("d/Dockerfile"),
            check,
            "/variables/IMGLIFE_CHECK_DOCKERFILE",
            json!("d/Dockerfile"),
        ),
        (
            "check",
            "base",
            json!("$CI_REGISTRY/b:1"),
            check,
            "/variables/IMGLIFE_CHECK_BASE",
            json!("$CI_REGISTRY/b:1"),
        ),
        (
            "check",
            "build-arg",
            json!("BASE=b:${V}"),
            check,
            "/variables/IMGLIFE_CHECK_BUILD_ARG",
            json!("BASE=b:${V}"),
        ),
        (
            "check",
            "strict",
            json!(true),
            check,
            "/variables/IMGLIFE_CHECK_STRICT",
            json!("true"),
        ),
        (
            "check",
            "max-days",
            json!(30),
            check,
            "/variables/IMGLIFE_CHECK_MAX_DAYS",
            json!("30"),
        ),
        (
            "check",
            "probe",
            json!(true),
            check,
            "/variables/IMGLIFE_CHECK_PROBE",
            json!("true"),
        ),
        (
            "register",
            "reference",
            json!("$R/a:1"),
            register,
            "/variables/IMGLIFE_REGISTER_IMAGE",
            json!("$R/a:1"),
        ),
        (
            "register",
            "base",
            json!("r.example/b:1"),
            register,
            "/variables/IMGLIFE_REGISTER_BASE",
            json!("r.example/b:1"),
        ),
        (
            "register",
            "platforms",
            json!("linux/amd64 linux/arm64"),
            register,
            "/variables/IMGLIFE_REGISTER_PLATFORM",
            json!("linux/amd64 linux/arm64"),
        ),
        (
            "register",
            "field",
            json!("team=web one"),
            register,
            "/variables/IMGLIFE_REGISTER_FIELD",
            json!("team=web one"),
        ),
    ]);
    all
}

#[test]
fn every_input_reaches_its_job() {
    let mut seen = BTreeSet::new();
    for (component, input, value, job, pointer, expected) in reaches() {
        let template = Template::of(component);
        assert_ne!(
            template.inputs()[input]["default"],
            value,
            "{component}: {input} is tried with its default"
        );
        let rendered = template.job(job, &json!({ input: value }));
        assert_eq!(
            rendered.pointer(pointer),
            Some(&expected),
            "{component}: {input} in {rendered:#}"
        );
        seen.insert((component, input.to_owned()));
    }
    for component in COMPONENTS {
        for input in Template::of(component).inputs().keys() {
            assert!(
                seen.contains(&(component, input.clone())),
                "{component}: nobody looks where {input} goes"
            );
        }
    }
}

#[test]
fn every_input_says_what_it_is() {
    for component in COMPONENTS {
        let template = Template::of(component);
        template
            .render(&json!({}))
            .unwrap_or_else(|problem| panic!("{component}: {problem}"));
        for (name, input) in template.inputs() {
            let described = input["description"]
                .as_str()
                .is_some_and(|text| text.ends_with('.'));
            assert!(
                described && input.get("default").is_some(),
                "{component}: {name} lacks a description or a default"
            );
            let is_bounded = input.get("regex").is_some() || input.get("options").is_some();
            assert!(
                is_bounded || input["type"] != "string",
                "{component}: {name} takes any text"
            );
        }
    }
}

/// What would run, or break the YAML, where it is put into text.
const HOSTILE: [&str; 9] = [
    "$(touch x)",
    "`touch x`",
    "a\"b",
    "a'b",
    "a\nb: c",
    "a; touch x",
    "a&touch x",
    "a|touch x",
    "a\\nb",
];

#[test]
fn what_is_of_another_type_or_could_be_more_than_a_value_is_refused() {
    for component in COMPONENTS {
        let template = Template::of(component);
        let refused = |input: &str, value: Value| {
            let rendered = template.render(&json!({ input: value.clone() }));
            assert!(rendered.is_err(), "{component}: {input} may be {value}");
        };
        for (name, input) in template.inputs() {
            match input["type"].as_str().expect("a type") {
                "string" => {
                    HOSTILE.iter().for_each(|text| refused(name, json!(text)));
                    refused(name, json!(1));
                }
                "number" => HOSTILE
                    .iter()
                    .chain(&["1"])
                    .for_each(|text| refused(name, json!(text))),
                "boolean" => [json!("true"), json!(1)]
                    .into_iter()
                    .for_each(|value| refused(name, value)),
                _ => refused(name, json!("docker")),
            }
        }
        assert_eq!(
            template.render(&json!({ "unheard-of": 1 })),
            Err("unheard-of: unknown input".to_owned())
        );
    }
}

#[test]
fn jobs_have_one_line_that_no_input_is_in_and_nothing_is_global() {
    for component in COMPONENTS {
        let template = Template::of(component);
        let script = template
            .body
            .lines()
            .filter(|line| line.trim_start().starts_with("script:"));
        assert!(
            script.clone().count() > 0 && script.clone().all(|line| !line.contains("$[[")),
            "{component}: an input is in a script"
        );
        for (name, job) in template.render(&json!({})).expect("the defaults") {
            assert!(
                name.trim_start_matches('.').starts_with("imglife-"),
                "{component}: {name} is not below the prefix"
            );
            let Some(script) = job.get("script") else {
                continue;
            };
            let script = script.as_str().expect("one line");
            let step = name.strip_prefix("imglife-").expect("the prefix");
            let expected = match step {
                "build-plan" => {
                    "imglife build --list --format gitlab-child > imglife-images.yml".to_owned()
                }
                _ => format!("imglife run {step}"),
            };
            assert_eq!(script, expected, "{component}");
            if step != "build-plan" {
                // Jobs get the artifacts of those before them: reports in one place would be told
                // again by each.
                let directory = format!("imglife-reports/{step}");
                assert_eq!(
                    job["variables"]["IMGLIFE_RUN_REPORTS"],
                    json!(directory),
                    "{component}"
                );
                assert_eq!(
                    job["artifacts"]["reports"]["junit"],
                    json!(format!("{directory}/*.xml")),
                    "{component}"
                );
            }
            assert!(
                job["rules"]
                    .as_array()
                    .is_some_and(|rules| !rules.is_empty()),
                "{component}: {name} has no rules"
            );
        }
    }
}

#[test]
fn the_pipeline_is_the_five_components() {
    let own = |step: &str, name: &str| match name {
        "stage" | "parallel" | "only" | "when" | "dry-run" => format!("{step}-{name}"),
        _ => name.to_owned(),
    };
    let given = json!({
        "tags": ["big"], "build-parallel": 4, "sync-only": "*/alpine", "cleanup-when": "on_success", "mode": "dind", "push": "never", "sync-stage": "one",
    });
    let pipeline = Template::of("pipeline");
    for inputs in [json!({}), given] {
        let mut jobs = serde_json::Map::new();
        for step in &COMPONENTS[..5] {
            let template = Template::of(step);
            let values = template
                .inputs()
                .keys()
                .filter_map(|name| Some((name.clone(), inputs.get(own(step, name))?.clone())))
                .collect();
            jobs.extend(
                template
                    .render(&Value::Object(values))
                    .expect("the same inputs"),
            );
        }
        assert_eq!(pipeline.render(&inputs).expect("the pipeline"), jobs);
    }
    for step in &COMPONENTS[..5] {
        for (name, input) in Template::of(step).inputs() {
            let same = &pipeline.inputs()[&own(step, name)];
            let parts = ["type", "default", "options", "regex"];
            parts.iter().for_each(|part| {
                assert_eq!(same.get(part), input.get(part), "{step}: {part} of {name}");
            });
        }
    }
}

#[test]
fn rules_let_each_job_run_when_it_should() {
    let rules = |component, given: Value| {
        let job = Template::of(component).job(&format!("imglife-{component}"), &given);
        let rules = job["rules"].as_array().expect("rules").iter().map(|rule| {
            let text = |key: &str| {
                rule.get(key)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            format!("{} {}", text("if"), text("when")).trim().to_owned()
        });
        rules.collect::<Vec<_>>()
    };
    let (scheduled, web, default, tag) = (
        "$CI_PIPELINE_SOURCE == \"schedule\"",
        "$CI_PIPELINE_SOURCE == \"web\"",
        "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH",
        "$CI_COMMIT_TAG",
    );
    assert_eq!(rules("sync", json!({})), [scheduled, web]);
    assert_eq!(
        rules("build", json!({})),
        ["\"false\" == \"true\" never", default]
    );
    // What is known is reported also where mirrors or bases failed.
    assert_eq!(
        rules("eol-update", json!({})),
        [format!("{scheduled} always"), format!("{web} always")]
    );
    assert_eq!(
        rules("status", json!({})),
        [format!("{scheduled} always"), format!("{default} always")]
    );
    assert_eq!(rules("cleanup", json!({})), [format!("{scheduled} manual")]);
    assert_eq!(
        rules("check", json!({})),
        [tag, "$CI_PIPELINE_SOURCE == \"merge_request_event\""]
    );
    assert_eq!(rules("register", json!({})), [tag]);
}

#[test]
fn every_file_is_as_gitlabs_schema_says() {
    let world = World::new();
    let mut files = Vec::new();
    let mut keep = |name: String, value: &Value| {
        let path = world.path(&name);
        fs::write(&path, value.to_string()).expect("a written file");
        files.push(path);
    };
    for component in COMPONENTS {
        let template = Template::of(component);
        keep(format!("{component}-header.yml"), &template.header);
        let modes: &[&str] = if template.inputs().contains_key("mode") {
            &["native", "dind", "buildkit", "buildah", "contexts"]
        } else {
            &[""]
        };
        for mode in modes {
            // The schema wants at least one tag; GitLab itself takes an empty list for "any
            // runner".
            let mut given = json!({ "tags": ["docker"] });
            if !mode.is_empty() {
                given["mode"] = json!(mode);
            }
            let jobs = template
                .render(&given)
                .unwrap_or_else(|problem| panic!("{component}: {problem}"));
            keep(format!("{component}-{mode}.yml"), &Value::Object(jobs));
        }
    }
    for path in [
        "ci-components",
        "examples/base-images-gitlab",
        "examples/app-gitlab",
    ] {
        let text = fs::read_to_string(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(path)
                .join(".gitlab-ci.yml"),
        )
        .expect("a pipeline");
        keep(
            format!("{}.yml", path.replace('/', "-")),
            &yaml(path, &text),
        );
    }
    check_jsonschema("vendor.gitlab-ci", &files);
    // What finds nothing wrong at all would find nothing wrong here either.
    let wrong = world.path("wrong.yml");
    fs::write(
        &wrong,
        json!({ "job": { "script": 1, "parallel": 0 } }).to_string(),
    )
    .expect("a written file");
    assert!(std::panic::catch_unwind(|| check_jsonschema("vendor.gitlab-ci", &[wrong])).is_err());
}

#[test]
fn the_components_are_of_the_tools_version_and_release_only_what_says_so() {
    let world = World::new();
    world
        .shell(&format!("cp -r '{}' components", project().display()))
        .succeeds();
    let version = env!("CARGO_PKG_VERSION");
    world
        .shell(&format!("sh components/set-version.sh --check {version}"))
        .succeeds();
    let other = world
        .shell("sh components/set-version.sh --check 7.8.9")
        .exits(1);
    assert_eq!(
        other.stderr.lines().count(),
        COMPONENTS.len(),
        "{}",
        other.stderr
    );
    world.shell("sh components/set-version.sh --check 7.8.9 && exit 9; sh components/set-version.sh 7.8.9 group/sub/components").succeeds();
    world
        .shell("sh components/set-version.sh --check 7.8.9 group/sub/components")
        .succeeds();
    let changed = world
        .shell("cat components/.gitlab-ci.yml components/templates/*/template.yml")
        .succeeds()
        .stdout;
    assert!(!changed.contains(&format!(":{version}'")), "{changed}");
    assert_eq!(
        changed
            .matches("default: '$CI_REGISTRY/group/sub/components:7.8.9'")
            .count(),
        COMPONENTS.len()
    );
    for wrong in ["''", "'$(id)'", "'1.0.0 a'", "1.0.0 'a|b'", "1.0.0 A/B"] {
        world
            .shell(&format!("sh components/set-version.sh {wrong}"))
            .exits(2);
    }
    // Examples and documentation name the version too.
    for path in [
        "examples/base-images-gitlab/.gitlab-ci.yml",
        "examples/app-gitlab/.gitlab-ci.yml",
        "docs/gitlab.md",
        "ci-components/README.md",
    ] {
        let text =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a file");
        let named: Vec<&str> = text
            .split("imglife-components/")
            .skip(1)
            .filter_map(|rest| rest.split_once('@'))
            .map(|(_, rest)| rest)
            .collect();
        assert!(!named.is_empty(), "{path} names no component");
        for rest in named {
            assert!(
                rest.starts_with(version),
                "{path} names another version: {}",
                rest.lines().next().unwrap_or_default()
            );
        }
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "who runs the tests says by a variable that the tables are to be written anew"
)]
fn the_tables_of_inputs_are_those_of_the_templates() {
    let text = read("README.md");
    let (before, rest) = text
        .split_once(TABLES.0)
        .expect("the beginning of the tables");
    let (_, after) = rest.split_once(TABLES.1).expect("the end of the tables");
    let expected = format!("{before}{}{}{}{after}", TABLES.0, tables(), TABLES.1);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(project().join("README.md"), &expected).expect("a written file");
    } else {
        assert!(
            text == expected,
            "the tables are out of date; UPDATE_DOCS=1 writes them anew"
        );
    }
}

fn tables() -> String {
    let mut text = String::new();
    let common = ["job-prefix", "image", "config", "tags", "keep-reports"];
    let row = |text: &mut String, name: &str, input: &Value| {
        let kind = match input["options"].as_array() {
            Some(options) => options
                .iter()
                .map(|option| format!("`{}`", option.as_str().unwrap_or_default()))
                .collect::<Vec<_>>()
                .join(", "),
            None => input["type"].as_str().unwrap_or_default().to_owned(),
        };
        let kind = kind.replace("``", "empty");
        let default = match &input["default"] {
            Value::String(default) if default.is_empty() => "empty".to_owned(),
            Value::String(default) => format!("`{default}`"),
            other => format!("`{other}`"),
        };
        let description = input["description"].as_str().unwrap_or_default();
        writeln!(text, "| `{name}` | {kind} | {default} | {description} |").expect("a string");
    };
    let head = "| input | type or values | default | meaning |\n|---|---|---|---|\n";
    write!(
        text,
        "\nAll components, where nothing else is said below:\n\n{head}"
    )
    .expect("a string");
    let sync = Template::of("sync");
    common
        .iter()
        .for_each(|name| row(&mut text, name, &sync.inputs()[*name]));
    for component in COMPONENTS {
        write!(text, "\n`{component}`:\n\n{head}").expect("a string");
        let template = Template::of(component);
        let own = template.inputs().iter().filter(|(name, input)| {
            !common.contains(&name.as_str()) || sync.inputs()[*name] != **input
        });
        own.for_each(|(name, input)| row(&mut text, name, input));
    }
    text + "\n"
}
