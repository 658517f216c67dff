//! `imglife run` by its binary, on directories, a bare repository and an API of end-of-life data.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::endoflife::EndOfLife;
use crate::support::world::{Outcome, World};
use crate::sync::json;

/// A repository of base images, checked out as a job finds it, with its server.
pub(crate) struct Bases {
    pub(crate) world: World,
    pub(crate) api: EndOfLife,
}

impl Bases {
    /// Returns a repository whose configuration ends in `more`, in a world with these variables.
    pub(crate) fn new(more: &str, variables: &[(&str, &str)]) -> Bases {
        let api = EndOfLife::start();
        api.product(
            "alpine",
            &[("3.22", Some("2099-05-01")), ("3.21", Some("2099-01-01"))],
        );
        let configuration = format!(
            "lifecycle: {{ api_url: {:?} }}\nregistry: {{ provider: file, path: ../packages }}\n\
             sync:\n  entries:\n    - {{ source: 'ocidir://../sample/upstream/alpine', target: 'ocidir://../mirrors/alpine', \
             tag_regex: '3\\.2[12]\\.\\d+', keep_last: 2, lifecycle: {{ product: alpine }} }}\n\
             build:\n  core_version: 1.0.0\n  registry: 'ocidir://../bases'\n  images:\n    - {{ name: alpine, folder: images/alpine, type: core, \
             mirror_image: 'ocidir://../mirrors/alpine' }}\n{more}",
            api.address()
        );
        let mut world = World::new().variable("GIT_CONFIG_NOSYSTEM", "1");
        for (name, value) in variables {
            world = world.variable(name, *value);
        }
        let server = format!("file://{}", world.path("server").display());
        // What a job of GitLab is told; whoever is not in CI passes over it.
        let world = world
            .variable("CI_PROJECT_PATH", "team/bases")
            .variable("CI_SERVER_URL", &server)
            .variable("GITLAB_USER_NAME", "Ada Lovelace")
            .variable("GITLAB_USER_EMAIL", "ada@example.com")
            .file("seed/imglife.yaml", configuration)
            .file(
                "seed/images/alpine/Dockerfile.tmpl",
                "FROM {{ base }}\nENV LEVEL=1\n",
            );
        world.imglife(["demo", "--keep", "sample"]).succeeds();
        let script = format!(
            "git init -q --bare -b main server/team/bases.git && git init -q -b main seed && cd seed && git add . &&
             git -c user.name=Grace -c user.email=grace@example.com commit -q -m 'the beginning' && git push -q ../server/team/bases.git main &&
             cd .. && git clone -q --depth 1 {server}/team/bases.git repo && git -C repo checkout -q --detach"
        );
        world.shell(&script).succeeds();
        Bases { world, api }
    }

    /// Runs imglife in the checkout.
    pub(crate) fn run(&self, arguments: &str) -> Outcome {
        self.world.shell(&format!(
            "cd repo && exec {} run {arguments}",
            env!("CARGO_BIN_EXE_imglife")
        ))
    }

    /// Returns the subjects of the commits of the branch, the newest first.
    pub(crate) fn commits(&self) -> Vec<String> {
        let log = self
            .world
            .shell("git -C server/team/bases.git log --format='%an: %s' main")
            .succeeds();
        log.stdout.lines().map(str::to_owned).collect()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.world.path("repo").join(name)
    }

    /// Returns the steps and their results in a report.
    fn results(report: &Value) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let steps = report["steps"].as_array().expect("steps").iter();
        steps
            .map(|step| (text(&step["step"]), text(&step["result"])))
            .collect()
    }
}

pub(crate) const SCHEDULE: &[(&str, &str)] = &[
    ("GITLAB_CI", "true"),
    ("CI_PIPELINE_SOURCE", "schedule"),
    ("CI_COMMIT_BRANCH", "main"),
    ("CI_DEFAULT_BRANCH", "main"),
];

const UPDATE: &str = "Ada Lovelace: chore(lifecycle): update EOL data [skip ci]";
const REPORT: &str = "Ada Lovelace: chore(status): update image status report [skip ci]";

#[test]
fn a_schedule_goes_from_nothing_to_a_committed_report_and_the_next_one_changes_nothing() {
    let bases = Bases::new("", SCHEDULE);
    let first = bases.run("--reports ../reports").succeeds();
    assert_eq!(bases.commits(), [REPORT, UPDATE, "Grace: the beginning"]);
    let committed = bases
        .world
        .shell("git -C server/team/bases.git show main:README.md main:eol-data.yaml")
        .succeeds()
        .stdout;
    assert!(
        committed.contains("3.22.1-core1.0.0") && committed.contains("\nalpine:\n"),
        "{committed}"
    );
    let (_, table) = first
        .stdout
        .split_once("\n\nRun (schedule) · ")
        .expect("a table at the end");
    let results: Vec<Vec<&str>> = table
        .lines()
        .skip(2)
        .map(|line| line.split_whitespace().take(2).collect())
        .collect();
    assert_eq!(
        results,
        [
            ["sync", "done"],
            ["build", "done"],
            ["eol-update", "done"],
            ["status", "done"]
        ]
    );
    for name in [
        "sync.xml",
        "build.xml",
        "status.xml",
        "run.xml",
        "sync.openmetrics.txt",
        "status.openmetrics.txt",
        "run.json",
    ] {
        assert!(bases.world.path("reports").join(name).is_file(), "{name}");
    }
    let outputs = fs::read_to_string(bases.world.path("reports/run.env")).expect("variables");
    assert!(
        outputs.starts_with("IMGLIFE_RESULT=done\nIMGLIFE_CHANGED=true\nIMGLIFE_IMAGE=ocidir://"),
        "{outputs}"
    );
    assert!(outputs.contains("\nIMGLIFE_DIGEST=sha256:"), "{outputs}");
    // The inventory is for those who check.
    let image = outputs
        .lines()
        .find_map(|line| line.strip_prefix("IMGLIFE_IMAGE="))
        .expect("an image");
    let checked = bases
        .run(&format!("check -- --base {image} --output json"))
        .succeeds()
        .stdout;
    assert!(checked.contains("\"up_to_date\": true"), "{checked}");

    bases
        .world
        .shell("rm -rf repo && git clone -q --depth 1 file://$PWD/server/team/bases.git repo")
        .succeeds();
    let second = bases.run("--output json").succeeds();
    let report = json(&second.stdout);
    assert_eq!(
        (&report["schema"], &report["changed"]),
        (&Value::from("imglife/run/v1"), &Value::from(false))
    );
    assert_eq!(
        report["steps"][0]["reports"]["sync"]["totals"]["upToDate"],
        2
    );
    assert_eq!(bases.commits().len(), 3);
}

#[test]
fn sections_are_those_of_the_server_and_outside_of_ci_nothing_is_published() {
    let bases = Bases::new("", SCHEDULE);
    let log = bases.run("sync status --push never").succeeds().stderr;
    let marks: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("section_"))
        .collect();
    assert_eq!(marks.len(), 4, "{log}");
    let begins = marks[0]
        .strip_prefix("\x1b[0Ksection_start:")
        .and_then(|rest| rest.split_once(':'))
        .expect("a marker");
    assert!(
        begins
            .0
            .parse::<u64>()
            .is_ok_and(|seconds| seconds > 1_700_000_000),
        "{log}"
    );
    assert_eq!(begins.1, "imglife_sync\r\x1b[0Kimglife sync");
    assert!(
        marks[3].starts_with("\x1b[0Ksection_end:")
            && marks[3].ends_with(":imglife_status\r\x1b[0K"),
        "{log}"
    );

    let actions = [
        ("GITEA_ACTIONS", "true"),
        ("GITHUB_EVENT_NAME", "push"),
        ("GITHUB_REF", "refs/heads/main"),
        ("GITHUB_EVENT_PATH", "../payload.json"),
        ("GITHUB_OUTPUT", "../out"),
        ("GITHUB_STEP_SUMMARY", "../summary"),
    ];
    let bases = Bases::new("", &actions);
    fs::write(
        bases.world.path("payload.json"),
        r#"{"repository": {"default_branch": "main"}}"#,
    )
    .expect("a written file");
    bases.run("sync").succeeds();
    let run = bases.run("--push never").succeeds();
    let marks: Vec<&str> = run
        .stderr
        .lines()
        .filter(|line| line.starts_with("::"))
        .collect();
    assert_eq!(
        marks,
        [
            "::group::imglife build",
            "::endgroup::",
            "::group::imglife status",
            "::endgroup::"
        ]
    );
    let outputs = fs::read_to_string(bases.world.path("out")).expect("outputs");
    assert!(
        outputs.contains("result=done\nchanged=true\nimage=ocidir://"),
        "{outputs}"
    );
    let summary = fs::read_to_string(bases.world.path("summary")).expect("a summary");
    assert!(
        summary.contains("\n    build   done") && summary.contains("\n### status\n\n    Status · "),
        "{summary}"
    );

    let bases = Bases::new("", &[]);
    let run = bases.run("").succeeds();
    assert_eq!(
        run.stderr
            .lines()
            .filter(|line| line.starts_with("== "))
            .count(),
        4,
        "{}",
        run.stderr
    );
    assert!(bases.file("README.md").is_file() && bases.commits().len() == 1);
    assert!(
        !bases
            .world
            .shell("find packages -name '*inventory*' | grep .")
            .stdout
            .contains("inventory")
    );
}

#[test]
fn only_the_default_branch_builds_by_itself() {
    let gitlab = [
        ("CI_PIPELINE_SOURCE", "push"),
        ("CI_DEFAULT_BRANCH", "main"),
    ];
    let actions = [
        ("GITEA_ACTIONS", "true"),
        ("GITHUB_EVENT_NAME", "push"),
        ("GITHUB_EVENT_PATH", "../payload.json"),
    ];
    let elsewhere = [
        [&gitlab[..], &[("CI_COMMIT_BRANCH", "topic")]].concat(),
        [
            &gitlab[..],
            &[("GITLAB_CI", "true"), ("CI_COMMIT_TAG", "v1.0.0")],
        ]
        .concat(),
        [
            ("CI_PIPELINE_SOURCE", "web"),
            ("CI_COMMIT_BRANCH", "topic"),
            ("CI_DEFAULT_BRANCH", "main"),
        ]
        .to_vec(),
        [&actions[..], &[("GITHUB_REF", "refs/heads/topic")]].concat(),
        [&actions[..], &[("GITHUB_REF", "refs/tags/v1.0.0")]].concat(),
    ];
    for variables in elsewhere {
        let bases = Bases::new("", &variables);
        fs::write(
            bases.world.path("payload.json"),
            r#"{"repository": {"default_branch": "main"}}"#,
        )
        .expect("a written file");
        // The branch is untrusted, and the records are outside of the repository.
        bases.run("sync --allow-outside").succeeds();
        let report = json(&bases.run("--output json --allow-outside").succeeds().stdout);
        let build = report["steps"]
            .as_array()
            .expect("steps")
            .iter()
            .find(|step| step["step"] == "build")
            .expect("a build");
        assert_eq!(
            (&build["result"], &build["reason"]),
            (&"skipped".into(), &"not the default branch".into()),
            "{variables:?}"
        );
        assert!(!bases.world.path("bases").exists(), "{variables:?}");
        // Whoever names it means it.
        bases.run("build --allow-outside").succeeds();
        assert!(bases.world.path("bases").exists(), "{variables:?}");
    }
}

#[test]
fn only_the_default_branch_publishes_unless_it_is_told_to() {
    let topic = [
        ("GITLAB_CI", "true"),
        ("CI_PIPELINE_SOURCE", "web"),
        ("CI_COMMIT_BRANCH", "topic"),
        ("CI_DEFAULT_BRANCH", "main"),
    ];
    let bases = Bases::new("", &topic);
    let run = bases.run("eol-update --allow-outside").succeeds();
    assert!(
        run.stderr
            .contains("nothing is committed or published: this is not the default branch"),
        "{}",
        run.stderr
    );
    assert_eq!(bases.commits().len(), 1);
    let bases = Bases::new("", SCHEDULE);
    bases.run("eol-update --push always").succeeds();
    assert_eq!(bases.commits().len(), 2);
    assert!(!bases.api.requests().is_empty());
    // What is hinted at is an option that `run` has.
    let tag = [
        ("GITLAB_CI", "true"),
        ("CI_PIPELINE_SOURCE", "push"),
        ("CI_COMMIT_TAG", "v1"),
        ("CI_DEFAULT_BRANCH", "main"),
    ];
    let bases = Bases::new("", &tag);
    let run = bases.run("status --push always").exits(1);
    assert!(
        run.stderr
            .contains("cannot push README.md: this pipeline does not run for a branch"),
        "{}",
        run.stderr
    );
    assert!(
        run.stderr.contains("set `--push never`") && !run.stderr.contains("--branch"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_step_that_fails_does_not_stop_those_that_make_sense_without_it() {
    let broken = "    - { name: broken, folder: images/none, type: core, mirror_image: 'ocidir://../mirrors/alpine' }\n\
                  retention: { keep_last: 5 }\n";
    let bases = Bases::new(broken, SCHEDULE);
    // What was there to copy from is gone.
    bases
        .world
        .shell("mv sample/upstream sample/gone")
        .succeeds();
    let run = bases
        .run("sync build eol-update cleanup --output json")
        .exits(1);
    let report = json(&run.stdout);
    let results = Bases::results(&report);
    let expected = [
        ("sync", "failed"),
        ("build", "failed"),
        ("eol-update", "done"),
        ("cleanup", "skipped"),
    ];
    assert_eq!(
        results,
        expected.map(|(step, result)| (step.to_owned(), result.to_owned()))
    );
    assert_eq!(
        report["steps"][3]["reason"],
        "sync failed, so it is not known what it would select"
    );
    assert_eq!(bases.commits().len(), 2);

    let report = json(
        &bases
            .run("sync build eol-update --fail-fast --output json")
            .exits(1)
            .stdout,
    );
    assert_eq!(
        Bases::results(&report)[1..],
        [("build", "not-run"), ("eol-update", "not-run")]
            .map(|(step, result)| (step.to_owned(), result.to_owned()))
    );
    assert_eq!(report["steps"][1]["reason"], "sync failed");
}

#[test]
fn a_step_without_anything_to_do_is_skipped_or_an_error_when_it_was_named() {
    let world = World::new()
        .file(
            "imglife.yaml",
            "sync: { entries: [{ source: 'ocidir://a', target: 'ocidir://b', tag: '1' }] }",
        )
        .variable("IMGLIFE_CHECK_STRICT", "perhaps");
    let run = world.imglife(["run", "--output", "json"]).exits(1);
    let results = Bases::results(&json(&run.stdout));
    assert_eq!(results[1], ("build".to_owned(), "skipped".to_owned()));
    for (arguments, told) in [
        (
            &["run", "build"][..],
            "nothing to do for build: `build.images` lists no image",
        ),
        (
            &["run", "cleanup"],
            "nothing to do for cleanup: there is no `retention`",
        ),
        (
            &["run", "sync", "--", "--no-such"],
            "the options of sync: unexpected argument '--no-such' found",
        ),
        (
            &["run", "sync", "status", "--", "--verify"],
            "options after `--` need exactly one named step",
        ),
        (&["run", "check"], "IMGLIFE_CHECK_STRICT is `perhaps`"),
        (&["run", "register"], "--image <REF>"),
        (
            &["run", "register"],
            "pass it after `--`, or set the variable IMGLIFE_REGISTER_IMAGE",
        ),
        (
            &["run", "sync", "--builder-node", "arm64"],
            "write it as `linux/arm64=ssh://user@host`",
        ),
    ] {
        let run = world.imglife_with(arguments).exits(2);
        assert!(
            run.stderr.contains(told) && run.stdout.is_empty(),
            "{arguments:?}: {}",
            run.stderr
        );
    }
    let proposal = World::new()
        .file("imglife.yaml", "status: {}")
        .variable("CI_PIPELINE_SOURCE", "merge_request_event");
    assert!(
        proposal
            .imglife(["run"])
            .exits(2)
            .stderr
            .contains("a merge request selects no steps")
    );
}

#[test]
fn a_name_that_only_one_step_has_skips_the_others_and_one_that_none_has_is_an_error() {
    let bases = Bases::new(
        "    - { name: motd, folder: images/alpine, type: core, mirror_image: 'ocidir://../mirrors/alpine' }\n",
        &[],
    );
    let results = |run: Outcome| {
        Bases::results(&json(&run.succeeds().stdout))
            .into_iter()
            .map(|(_, result)| result)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        results(bases.run("sync --only alpine --output json")),
        ["done"]
    );
    let run = bases.run("sync build --only motd --output json");
    assert_eq!(
        json(&run.stdout)["steps"][0]["reason"],
        "nothing of that name"
    );
    assert_eq!(
        json(&run.stdout)["steps"][1]["reports"]["build"]["totals"]["built"],
        1
    );
    assert_eq!(results(run), ["skipped", "done"]);
    // Each step is narrowed to what it knows of them.
    assert_eq!(
        results(bases.run("sync build --only motd --only *mirrors/alpine --output json")),
        ["done", "done"]
    );
    let run = bases.run("sync build --only motd --only alpin").exits(2);
    assert!(
        run.stderr.contains("`--only alpin` matches nothing") && run.stderr.contains("motd"),
        "{}",
        run.stderr
    );
    assert!(run.stdout.is_empty(), "{}", run.stdout);
}

#[test]
fn an_update_of_a_file_that_the_job_does_not_hand_on_fails() {
    let bases = Bases::new("", &[("IMGLIFE_EOL_ARTIFACT", "eol-data.yaml")]);
    bases.run("eol-update").succeeds();
    bases
        .world
        .shell("cd repo && rm eol-data.yaml && mkdir life && mv imglife.yaml images life/ && sed -i 's|\\.\\./|../../|g' life/imglife.yaml")
        .succeeds();
    let run = bases.run("eol-update -c life/imglife.yaml").exits(2);
    let told = "the end-of-life data are written to life/eol-data.yaml, but the job passes eol-data.yaml to later jobs";
    assert!(
        run.stderr.contains(told)
            && run
                .stderr
                .contains("`data-file` of the component to `life/eol-data.yaml`"),
        "{}",
        run.stderr
    );
    assert!(!bases.file("life/eol-data.yaml").exists());
    bases
        .world
        .shell(&format!(
            "cd repo && IMGLIFE_EOL_ARTIFACT=life/eol-data.yaml {} -c life/imglife.yaml run eol-update",
            env!("CARGO_BIN_EXE_imglife")
        ))
        .succeeds();
    assert!(bases.file("life/eol-data.yaml").exists());
}

#[test]
fn variables_are_options_and_arguments_go_before_them() {
    let bases = Bases::new(
        "",
        &[
            ("IMGLIFE_STATUS_OUTPUT", "docs.md"),
            ("IMGLIFE_STATUS_FAIL_ON", "warning"),
            ("IMGLIFE_SYNC_ONLY", "alp*\n\n*/alpine"),
            ("IMGLIFE_SYNC_DRY_RUN", "TRUE"),
            ("IMGLIFE_RUN_OUTPUT", "json"),
            ("IMGLIFE_RUN_REPORTS", ""),
            ("IMGLIFE_BUILD_DRY_RUN", "false"),
        ],
    );
    let dry = json(&bases.run("sync").succeeds().stdout);
    assert_eq!(
        (
            &dry["steps"][0]["reports"]["sync"]["dryRun"],
            &dry["changed"]
        ),
        (&Value::from(true), &Value::from(false))
    );
    bases.run("status").succeeds();
    assert!(bases.file("docs.md").is_file() && !bases.file("README.md").exists());
    bases.run("status -- --output other.md").succeeds();
    assert!(bases.file("other.md").is_file());
    let text = bases.run("status --output text").succeeds().stdout;
    assert!(text.starts_with("Status · "), "{text}");
}

#[test]
fn a_policy_that_is_violated_is_told_by_the_exit_code_and_still_committed() {
    let bases = Bases::new("", SCHEDULE);
    bases.api.product(
        "alpine",
        &[("3.22", Some("2020-05-01")), ("3.21", Some("2020-01-01"))],
    );
    bases.run("sync build eol-update").succeeds();
    let report = json(
        &bases
            .run("status --output json -- --fail-on expired")
            .exits(3)
            .stdout,
    );
    assert_eq!(
        (&report["result"], &report["steps"][0]["result"]),
        (&Value::from("violated"), &Value::from("violated"))
    );
    let reason = report["steps"][0]["reason"].as_str().expect("a reason");
    assert!(
        reason.starts_with("support has ended: ") && reason.contains(":3.22.1"),
        "{reason}"
    );
    assert_eq!(bases.commits()[0], REPORT);

    // Of one step the log says it, below its report, which no table repeats.
    let base = bases
        .world
        .shell("echo ocidir://$PWD/bases/alpine:3.22.1-core1.0.0")
        .stdout;
    let strict = bases
        .run(&format!("check -- --strict --base {}", base.trim()))
        .exits(3);
    let ended = "support ended on 2020-05-01; use a base version with longer support";
    assert!(
        strict.stderr.contains(ended) && strict.stdout.starts_with("Check\n"),
        "{strict:?}"
    );
    assert!(
        !strict.stdout.contains("Run (") && !strict.stdout.contains("violated"),
        "{}",
        strict.stdout
    );
}

#[test]
fn of_several_steps_the_table_says_what_violates_the_policy() {
    let bases = Bases::new("", &[("IMGLIFE_STATUS_FAIL_ON", "expired")]);
    bases.api.product(
        "alpine",
        &[("3.22", Some("2020-05-01")), ("3.21", Some("2099-01-01"))],
    );
    let run = bases.run("sync eol-update status").exits(3);
    let row = run
        .stdout
        .lines()
        .find(|line| line.starts_with("status "))
        .expect("a row");
    assert!(
        row.contains("violated") && row.contains("support has ended: "),
        "{row}"
    );
}

#[test]
fn variables_that_are_almost_options_are_told_and_others_are_not() {
    let bases = Bases::new(
        "status: { title: $IMGLIFE_STATUS_HEADING }\n",
        &[
            ("IMGLIFE_CHECK_STRCT", "true"),
            ("IMGLIFE_STATUS_HEADING", "of the configuration"),
            ("IMGLIFE_REGISTRY_EXAMPLE_COM_PASSWORD", "hunter2"),
            ("IMGLIFE_RELEASE_IMAGE", "r.example/i:1"),
        ],
    );
    let run = bases.run("sync").succeeds();
    let warnings: Vec<&str> = run
        .stderr
        .lines()
        .filter(|line| line.contains("is not an option"))
        .collect();
    assert_eq!(warnings.len(), 1, "{}", run.stderr);
    let told = "the variable IMGLIFE_CHECK_STRCT is not an option of `imglife run` or its steps: did you mean IMGLIFE_CHECK_STRICT?";
    assert!(warnings[0].ends_with(told), "{}", warnings[0]);
}

#[test]
fn a_signal_ends_the_whole_run_and_the_table_says_what_was_not_run() {
    let hook = "    - { source: 'ocidir://../sample/upstream/alpine', target: 'ocidir://../mirrors/other', tag: '3.22.1', \
                hooks: { post_sync: [{ cmd: 'touch ../hooked; sleep 60' }] } }\n";
    let bases = Bases::new("", SCHEDULE);
    let path = bases.file("imglife.yaml");
    let text = fs::read_to_string(&path)
        .expect("the configuration")
        .replace("build:\n", &format!("{hook}build:\n"));
    fs::write(&path, text).expect("a written file");
    let directory = bases.file("imglife.yaml").display().to_string();
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        bases.world.shell("rm -rf hooked mirrors").succeeds();
        let running = bases.world.start_imglife(["-c", directory.as_str(), "run"]);
        for _ in 0..1000 {
            if bases.world.path("hooked").exists() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        running.signal(signal);
        let run = running.wait().exits(code);
        let (_, table) = run.stdout.split_once("Run (schedule) · ").expect("a table");
        let rows: Vec<String> = table
            .lines()
            .skip(2)
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert!(rows[0].starts_with("sync stopped "), "{table}");
        assert_eq!(
            rows[1..],
            [
                "build not run the run was stopped",
                "eol-update not run the run was stopped",
                "status not run the run was stopped"
            ]
        );
    }
}
