//! What the inputs of components and actions change: each is given to the job as GitLab and Gitea
//! give it, and the job's own line is run.
//!
//! Only those are left to other tests that CI servers read themselves, or that need an engine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde::Deserialize;
use serde_json::{Value, json};

use super::gitlab::template::Template;
use crate::run::{Bases, SCHEDULE};
use crate::support::kit::project;
use crate::support::world::{Outcome, World};

const STEPS: [&str; 7] = [
    "sync",
    "build",
    "eol-update",
    "status",
    "cleanup",
    "check",
    "register",
];

/// A repository with what an application and the steps need, after a first run that pushed nothing.
struct Setting {
    bases: Bases,
}

impl Setting {
    fn new() -> Setting {
        let more = "    - { name: extra, folder: images/alpine, type: core, mirror_image: 'ocidir://../mirrors/alpine' }\n\
                    retention: { keep_last: 1, grace_days: 0, min_keep: 1, require_records: true }\n";
        let bases = Bases::new(more, &[SCHEDULE, &[("CI_COMMIT_SHA", "0123abcd")]].concat());
        bases.api.product(
            "alpine",
            &[("3.22", Some("2099-05-01")), ("3.21", Some("2020-01-01"))],
        );
        bases
            .world
            .shell(&format!(
                "ln -s {} ../bin/imglife",
                env!("CARGO_BIN_EXE_imglife")
            ))
            .succeeds();
        bases.run("sync build eol-update --push never").succeeds();
        bases.run("status --push never -- --publish").succeeds();
        let digest = "$(jq --raw-output '.manifests[] | select(.annotations[\"org.opencontainers.image.ref.name\"] == \"3.22.1-core1.0.0\").digest' \
                      ../bases/alpine/index.json)";
        let first = format!(
            "register -- --image r.example/first:1 --project team/web --platform linux/amd64 --base \"{BASE}@{digest}\""
        );
        bases.run(&first).succeeds();
        let dockerfile = format!(
            "ARG WHICH=3.22.1-core1.0.0\nFROM ocidir://{}:$WHICH\n",
            bases.world.path("bases/alpine").display()
        );
        for (path, text) in [
            ("Dockerfile", dockerfile.as_str()),
            ("docker/Dockerfile", "FROM r.example/strange:1\n"),
            ("README.md", "# By hand\n"),
        ] {
            let path = bases.file(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a new directory");
            fs::write(path, text).expect("a written file");
        }
        bases.world.shell("cp -a . ../kept").succeeds();
        Setting { bases }
    }

    /// Runs a job where everything is as it was at first, after a line of shell.
    fn run(&self, before: &str, job: &Job) -> Outcome {
        let world = &self.bases.world;
        world
            .shell("cd .. && find work -mindepth 1 -delete && cp -a kept/. work/")
            .succeeds();
        world.shell(before).succeeds();
        job.run(&self.bases)
    }
}

/// What a CI server makes of a job: its variables and its line.
struct Job {
    variables: BTreeMap<String, String>,
    directory: String,
    line: String,
}

/// Returns the job that a component makes of inputs; numbers and flags are written as text.
fn of_component(step: &'static str, inputs: &BTreeMap<&str, String>) -> Job {
    let template = Template::of(step);
    let given: serde_json::Map<String, Value> = inputs
        .iter()
        .map(|(name, text)| {
            let value = match template.inputs()[*name]["type"].as_str() {
                Some("string") => json!(text),
                _ => serde_json::from_str(text).expect("a number or a flag"),
            };
            ((*name).to_owned(), value)
        })
        .collect();
    let job = template.job(&format!("imglife-{step}"), &Value::Object(given));
    let variables = job["variables"].as_object().expect("variables").iter();
    let variables =
        variables.map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned()));
    // Those of a job of which there is one.
    let of_server =
        ["CI_NODE_INDEX", "CI_NODE_TOTAL"].map(|name| (name.to_owned(), "1".to_owned()));
    let variables = variables.chain(of_server).collect();
    Job {
        variables,
        directory: ".".to_owned(),
        line: job["script"].as_str().expect("a line").to_owned(),
    }
}

#[derive(Deserialize)]
struct Action {
    inputs: BTreeMap<String, Input>,
    runs: Runs,
}

#[derive(Deserialize)]
struct Input {
    #[serde(default)]
    default: String,
}

#[derive(Deserialize)]
struct Runs {
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    run: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default, rename = "working-directory")]
    working_directory: String,
}

fn action(step: &str) -> Action {
    let text = fs::read_to_string(project(&format!("gitea-actions/{step}/action.yml")))
        .expect("an action");
    serde_saphyr::from_str(&text).expect("an action")
}

/// Returns what a runner makes of an action: expressions are an input, or a variable of the job
/// where that is empty.
fn of_action(step: &str, inputs: &BTreeMap<&str, String>) -> Job {
    let action = action(step);
    let value = |expression: &str| {
        let name = expression
            .strip_prefix("${{ inputs.")
            .expect("an input")
            .split([' ', '}'])
            .next()
            .expect("a name");
        inputs
            .get(name)
            .cloned()
            .unwrap_or_else(|| action.inputs[name].default.clone())
    };
    let [step] = action.runs.steps.as_slice() else {
        panic!("{step}: one step")
    };
    let variables = step
        .env
        .iter()
        .map(|(name, expression)| (name.clone(), value(expression)))
        .collect();
    Job {
        variables,
        directory: value(&step.working_directory),
        line: step.run.clone(),
    }
}

impl Job {
    fn run(&self, bases: &Bases) -> Outcome {
        let variables: Vec<String> = self
            .variables
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let words =
            variables
                .iter()
                .map(String::as_str)
                .chain(["sh", "-e", "-c", self.line.as_str()]);
        let line = shlex::try_join(words).expect("no zero bytes");
        bases
            .world
            .shell(&format!("cd repo/{} && exec env {line}", self.directory))
    }
}

type Seen = fn(&Bases, &Outcome) -> bool;

/// An input of a step that is tried.
struct Trial {
    /// What the component calls it, and the action; empty where it has no such input.
    names: [&'static str; 2],
    value: &'static str,
    /// What else is given, by the names of the action.
    beside: &'static [(&'static str, &'static str)],
    /// Done first, with the input and without.
    before: &'static str,
    /// What is so with the input, and not without.
    seen: Seen,
}

const BASE: &str = "ocidir://../bases/alpine:3.22.1-core1.0.0";
const OLD: &str = "ocidir://../bases/alpine:3.21.3-core1.0.0";
const REGISTERED: &[(&str, &str)] = &[
    ("image", "r.example/web:1"),
    ("base", BASE),
    ("platform", "linux/amd64"),
];

/// What actions call otherwise than components do.
const OTHER_NAMES: [(&str, &str); 4] = [
    ("image", "reference"),
    ("build-args", "build-arg"),
    ("fields", "field"),
    ("platform", "platforms"),
];

/// Inputs that other tests try.
const ELSEWHERE: [(&str, &str); 16] = [
    (
        "data-file",
        "jobs_in_parallel_share_the_work_and_a_child_pipeline_has_a_job_for_each_image",
    ),
    ("stage", "read by GitLab: every_input_reaches_its_job"),
    (
        "job-prefix",
        "nothing_is_run_that_stands_in_an_input_or_in_the_name_of_a_tag",
    ),
    ("image", "read by GitLab: every_input_reaches_its_job"),
    (
        "tags",
        "jobs_in_parallel_share_the_work_and_a_child_pipeline_has_a_job_for_each_image",
    ),
    (
        "keep-reports",
        "read by GitLab: every_input_reaches_its_job",
    ),
    (
        "parallel",
        "jobs_in_parallel_share_the_work_and_a_child_pipeline_has_a_job_for_each_image",
    ),
    (
        "when",
        "base_images_and_an_application_live_from_an_empty_project_on; rules_let_each_job_run_when_it_should",
    ),
    (
        "child-pipeline",
        "jobs_in_parallel_share_the_work_and_a_child_pipeline_has_a_job_for_each_image",
    ),
    ("mode", "kit::gitlab::modes"),
    ("dind-image", "read by GitLab: every_input_reaches_its_job"),
    (
        "buildkit-image",
        "read by GitLab: every_input_reaches_its_job",
    ),
    (
        "binfmt",
        "with_docker_in_docker_a_builder_is_made_with_emulators_and_machines_and_removed_or_kept",
    ),
    (
        "builder-nodes",
        "with_docker_in_docker_a_builder_is_made_with_emulators_and_machines_and_removed_or_kept",
    ),
    (
        "shard",
        "a_repository_of_base_images_goes_from_nothing_to_a_report_and_then_stays_as_it_is",
    ),
    ("token", "a_token_that_is_an_input_reaches_the_program"),
];

fn records(bases: &Bases) -> String {
    bases
        .world
        .shell("find packages -type f -exec cat {} +")
        .stdout
}

fn is_there(bases: &Bases, path: &str) -> bool {
    bases.world.path(path).exists()
}

fn trials(step: &'static str) -> Vec<Trial> {
    let beside = if step == "register" { REGISTERED } else { &[] };
    let own = |name, value, seen: Seen| Trial {
        names: [name, name],
        value,
        beside,
        before: "",
        seen,
    };
    let of_action = |name, value, seen: Seen| Trial {
        names: ["", name],
        ..own(name, value, seen)
    };
    let mut all = vec![
        own("config", "missing.yaml", |_, run| {
            run.code() == Some(2) && run.stderr.contains("missing.yaml")
        }),
        of_action("reports", "kept", |bases, _| {
            is_there(bases, "repo/kept/run.json")
        }),
        // No configuration is there.
        of_action("working-directory", "docker", |_, run| {
            run.code() != Some(0)
        }),
    ];
    all.extend(match step {
        "sync" => vec![
            own("only", "nothing", |_, run| run.stderr.contains("matches nothing")),
            Trial {
                before: "ls -S mirrors/alpine/blobs/sha256/* | head -n 1 > gone && rm \"$(cat gone)\"",
                ..own("verify", "true", |bases, _| bases.world.shell("test -s \"$(cat gone)\"").code() == Some(0))
            },
        ],
        "build" => vec![
            Trial {
                before: "rm -r bases",
                ..own("only", "extra", |bases, _| is_there(bases, "bases/extra") && !is_there(bases, "bases/alpine"))
            },
            of_action("output-dir", "contexts", |bases, _| is_there(bases, "repo/contexts/alpine/build.json")),
        ],
        "eol-update" => vec![
            of_action("data-file", "elsewhere.yaml", |bases, _| is_there(bases, "repo/elsewhere.yaml")),
            own("push", "never", |bases, _| bases.commits().len() == 1),
        ],
        "status" => vec![
            own("output", "REPORT.md", |bases, _| is_there(bases, "repo/REPORT.md")),
            of_action("overwrite", "true", |bases, _| !fs::read_to_string(bases.file("README.md")).expect("a page").contains("# By hand")),
            Trial {
                before: "sed -i s/2099-05-01/2020-05-01/ repo/eol-data.yaml",
                ..own("fail-on", "expired", |_, run| run.code() == Some(3))
            },
            own("push", "never", |bases, _| bases.commits().len() == 1),
        ],
        "cleanup" => vec![
            own("dry-run", "true", |_, run| run.stdout.contains("[dry-run]")),
            own("only", "nothing", |_, run| run.stderr.contains("matches nothing")),
            of_action("max-delete-percent", "many", |_, run| run.stderr.contains("'many' for '--max-delete-percent")),
            Trial { before: "find packages -type f -delete", ..of_action("force", "true", |_, run| run.code() == Some(0)) },
        ],
        "check" => vec![
            own("dockerfile", "docker/Dockerfile", |_, run| run.stdout.contains("r.example/strange:1")),
            own("base", OLD, |_, run| run.stdout.contains("outdated: use ")),
            Trial {
                names: ["build-arg", "build-args"],
                ..own("", "WHICH=3.21.3-core1.0.0", |_, run| run.stdout.contains("outdated: use "))
            },
            Trial { beside: &[("base", OLD)], ..own("strict", "true", |_, run| run.code() == Some(3)) },
            Trial { beside: &[("strict", "true")], ..own("max-days", "99999", |_, run| run.code() == Some(3)) },
            Trial {
                beside: &[("base", "ocidir://../mirrors/alpine:3.22.1")],
                ..own("probe", "true", |_, run| run.stdout.contains("the tags of the registry"))
            },
            Trial { beside: &[("base", OLD), ("strict", "true")], ..of_action("warn", "true", |_, run| run.code() == Some(0)) },
            of_action("project", "team/web", |_, run| run.stdout.contains("Rebuilt      no\n")),
        ],
        "register" => vec![
            Trial {
                names: ["reference", "image"],
                ..own("", "r.example/other:2", |bases, _| records(bases).contains("r.example/other:2"))
            },
            own("base", "ocidir://../bases/extra:3.22.1-core1.0.0", |bases, _| records(bases).contains("bases/extra:3.22.1-core1.0.0")),
            Trial {
                names: ["platforms", "platform"],
                ..own("", "linux/s390x linux/arm64", |bases, _| records(bases).contains("linux/s390x"))
            },
            of_action("revision", "feedbeef", |bases, _| records(bases).contains("feedbeef")),
            of_action("project", "team/other", |bases, _| records(bases).contains("team/other")),
            Trial { names: ["field", "fields"], ..own("", "colour=green", |bases, _| records(bases).contains("green")) },
        ],
        other => panic!("{other} is no step"),
    });
    all
}

/// Tries every input of a step, of the component and of the action.
fn every_input_of(step: &'static str) {
    let setting = Setting::new();
    let mut tried: [BTreeSet<&str>; 2] = Default::default();
    for trial in trials(step) {
        for (kit, name) in trial
            .names
            .into_iter()
            .enumerate()
            .filter(|(_, name)| !name.is_empty())
        {
            let named = |name: &'static str| match OTHER_NAMES
                .iter()
                .find(|(action, _)| kit == 0 && *action == name)
            {
                Some((_, component)) => *component,
                None => name,
            };
            let made = |inputs: &BTreeMap<&str, String>| {
                if kit == 0 {
                    of_component(step, inputs)
                } else {
                    of_action(step, inputs)
                }
            };
            let mut inputs: BTreeMap<&str, String> = trial
                .beside
                .iter()
                .map(|(name, value)| (named(name), (*value).to_owned()))
                .collect();
            let without = setting.run(trial.before, &made(&inputs));
            assert!(
                !(trial.seen)(&setting.bases, &without),
                "{step}: {name} is seen without being given: {without:?}"
            );
            inputs.insert(name, trial.value.to_owned());
            let with = setting.run(trial.before, &made(&inputs));
            assert!(
                (trial.seen)(&setting.bases, &with),
                "{} {step}: nothing is seen of {name}: {with:?}",
                ["component", "action"][kit]
            );
            tried[kit].insert(name);
        }
    }
    let template = Template::of(step);
    let actions = action(step);
    for (kit, names) in [
        template.inputs().keys().collect::<Vec<_>>(),
        actions.inputs.keys().collect(),
    ]
    .into_iter()
    .enumerate()
    {
        for name in names {
            let is_elsewhere = ELSEWHERE.iter().any(|(other, _)| other == name);
            assert!(
                tried[kit].contains(name.as_str()) || is_elsewhere,
                "{step}: nobody tries {name}"
            );
        }
    }
}

#[test]
fn every_input_of_sync_changes_something() {
    every_input_of("sync");
}

#[test]
fn every_input_of_build_changes_something() {
    every_input_of("build");
}

#[test]
fn every_input_of_eol_update_changes_something() {
    every_input_of("eol-update");
}

#[test]
fn every_input_of_status_changes_something() {
    every_input_of("status");
}

#[test]
fn every_input_of_cleanup_changes_something() {
    every_input_of("cleanup");
}

#[test]
fn every_input_of_check_changes_something() {
    every_input_of("check");
}

#[test]
fn every_input_of_register_changes_something() {
    every_input_of("register");
}

#[test]
fn a_token_that_is_an_input_reaches_the_program() {
    let world = World::new().program("imglife", "echo \"$GITEA_TOKEN\"");
    for step in STEPS {
        let job = of_action(step, &BTreeMap::from([("token", "t0ken".to_owned())]));
        let said = world
            .shell(&format!(
                "GITEA_TOKEN='{}' {}",
                job.variables["GITEA_TOKEN"], job.line
            ))
            .succeeds()
            .stdout;
        assert_eq!(said, "t0ken\n", "{step}");
    }
}
