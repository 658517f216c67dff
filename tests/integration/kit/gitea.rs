//! The actions and the example repositories for Gitea.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::runner::{Event, Stage, steps};
use crate::support::gitea::TOKEN;
use crate::support::kit::{files_below, follows_schema, project};
use crate::support::servers::installed;
use crate::support::site::{DOWNLOAD, Site};
use crate::support::world::World;

const BASES: &str = "platform/base-images";

#[derive(Deserialize)]
struct Action {
    description: String,
    #[serde(default)]
    inputs: BTreeMap<String, Input>,
    outputs: BTreeMap<String, Output>,
    runs: Runs,
}

#[derive(Deserialize)]
struct Input {
    description: String,
    #[serde(default)]
    default: Option<String>,
    #[serde(default)]
    required: bool,
}

#[derive(Deserialize)]
struct Output {
    description: String,
}

#[derive(Deserialize)]
struct Runs {
    using: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    shell: Option<String>,
    run: Option<String>,
    uses: Option<String>,
}

fn action_files() -> Vec<PathBuf> {
    let files = files_below(&project("gitea-actions"));
    files
        .into_iter()
        .filter(|file| file.ends_with("action.yml"))
        .collect()
}

fn workflows() -> Vec<PathBuf> {
    let examples = files_below(&project("examples"));
    let own = files_below(&project(".gitea/workflows"));
    examples
        .into_iter()
        .filter(|file| file.to_string_lossy().contains("/.gitea/workflows/"))
        .chain(own)
        .collect()
}

fn name(file: &Path) -> String {
    file.parent()
        .and_then(Path::file_name)
        .expect("a directory")
        .to_string_lossy()
        .into_owned()
}

fn actions() -> BTreeMap<String, Action> {
    let read = |file: &PathBuf| {
        let text = fs::read_to_string(file).expect("an action");
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    action_files()
        .iter()
        .map(|file| (name(file), read(file)))
        .collect()
}

#[test]
fn actions_and_workflows_follow_the_published_schemas() {
    follows_schema(&["vendor.github-actions"], &action_files());
    follows_schema(&["vendor.github-workflows"], &workflows());
    // It knows more than the schema: contexts, expressions, the inputs of actions.
    let linter = installed("actionlint");
    if linter.is_file() {
        let addresses = "invalid runner name|specifying action .* in invalid format";
        let output = std::process::Command::new(linter)
            .args(["-no-color", "-shellcheck=", "-ignore", addresses])
            .args(workflows())
            .output();
        let output = output.expect("to run it");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
}

#[test]
fn actions_are_lines_of_shell_in_which_no_input_stands() {
    let actions = actions();
    assert_eq!(
        actions.keys().map(String::as_str).collect::<Vec<_>>(),
        [
            "build",
            "check",
            "checkout",
            "cleanup",
            "eol-update",
            "register",
            "setup",
            "status",
            "sync"
        ]
    );
    for (name, action) in &actions {
        assert_eq!(action.runs.using, "composite", "{name}");
        for step in &action.runs.steps {
            assert_eq!(
                (step.shell.as_deref(), &step.uses),
                (Some("sh"), &None),
                "{name}"
            );
            let run = step.run.as_deref().expect("a script");
            assert!(!run.contains("${{"), "{name}: {run}");
            if !["setup", "checkout"].contains(&name.as_str()) {
                assert_eq!(run, format!("imglife run {name}"), "{name}");
            }
        }
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "who runs the tests says by a variable that the page is to be written anew"
)]
fn the_readme_of_the_actions_tells_their_inputs_and_outputs() {
    let mut tables = String::new();
    for (name, action) in actions() {
        tables += &format!(
            "\n### `{name}`\n\n{}.\n\n| input | default | meaning |\n|---|---|---|\n",
            action.description
        );
        for (input, told) in &action.inputs {
            let default = match told.default.as_deref() {
                _ if told.required => "required".to_owned(),
                None | Some("") => String::new(),
                Some(text) => format!("`{text}`"),
            };
            tables += &format!("| `{input}` | {default} | {} |\n", told.description);
        }
        tables += "\n| output | meaning |\n|---|---|\n";
        for (output, told) in &action.outputs {
            tables += &format!("| `{output}` | {} |\n", told.description);
        }
    }
    let path = project("gitea-actions/README.md");
    let readme = fs::read_to_string(&path).expect("a page");
    let (before, committed) = readme
        .split_once("\n<!-- inputs and outputs -->\n")
        .expect("a mark above the tables");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(
            &path,
            format!("{before}\n<!-- inputs and outputs -->\n{tables}"),
        )
        .expect("a written page");
        return;
    }
    assert!(
        committed == tables,
        "gitea-actions/README.md differs from the actions; run `UPDATE_DOCS=1 cargo test kit::gitea`"
    );
}

#[test]
fn examples_and_pages_name_the_actions_of_this_version() {
    let mut found = 0;
    let pages = ["gitea-actions/README.md", "docs/gitea.md"].map(project);
    for file in workflows().into_iter().chain(pages) {
        let text = fs::read_to_string(&file).expect("a file");
        for reference in text
            .split("/gitea-actions/")
            .skip(1)
            .filter_map(|rest| rest.split_whitespace().next())
        {
            if let Some((_, version)) = reference.split_once('@') {
                assert_eq!(
                    version.trim_end_matches('`'),
                    concat!("v", env!("CARGO_PKG_VERSION")),
                    "{}",
                    file.display()
                );
                found += 1;
            }
        }
    }
    assert!(found > 10, "{found}");
}

#[test]
fn workflows_give_actions_inputs_that_they_have() {
    let actions = actions();
    let template = World::new();
    template.imglife(["init", "--forge", "gitea"]).succeeds();
    let mut found = 0;
    for file in workflows()
        .into_iter()
        .chain([template.path(".gitea/workflows/lifecycle.yml")])
    {
        let text = fs::read_to_string(&file).expect("a workflow");
        let workflow: Value = serde_saphyr::from_str(&text).expect("YAML");
        let jobs = workflow["jobs"].as_object().expect("jobs");
        for step in jobs
            .values()
            .flat_map(|job| job["steps"].as_array().expect("steps"))
        {
            let Some(name) = step["uses"]
                .as_str()
                .and_then(|uses| uses.split_once("/gitea-actions/")?.1.split('@').next())
            else {
                continue;
            };
            let inputs = &actions
                .get(name)
                .unwrap_or_else(|| panic!("{}: no action {name}", file.display()))
                .inputs;
            let given = step["with"]
                .as_object()
                .into_iter()
                .flat_map(|with| with.keys());
            for input in given {
                assert!(
                    inputs.contains_key(input),
                    "{}: {name} has no input {input}",
                    file.display()
                );
                found += 1;
            }
            for (input, _) in inputs.iter().filter(|(_, input)| input.required) {
                assert!(
                    !step["with"][input].is_null(),
                    "{}: {name} needs {input}",
                    file.display()
                );
            }
        }
    }
    assert!(found > 15, "{found}");
}

#[test]
fn a_repository_of_base_images_goes_from_nothing_to_a_report_and_then_stays_as_it_is() {
    let stage = Stage::new();
    stage.create_from_example(BASES, "base-images-gitea");

    let first = stage
        .run(BASES, "lifecycle.yml", &Event::schedule())
        .succeeds();
    // The runner gives its jobs a terminal; nothing moves on it.
    assert!(!first.stdout.contains("\u{1b}[2K"), "{}", first.stdout);
    assert!(
        first.stdout.contains("❓  ::group::imglife sync"),
        "{}",
        first.stdout
    );
    // Two parts of sync and of build each, the data, the report.
    assert_eq!(
        steps(&first),
        ["build", "build", "eol-update", "status", "sync", "sync"]
    );
    // Each part has its own mirror, as the summaries tell.
    for selected in ["    Tags selected   3\n", "    Tags selected   2\n"] {
        assert!(first.stdout.contains(selected), "{}", first.stdout);
    }
    assert_eq!(
        stage.subjects(BASES),
        [
            "chore(status): update image status report [skip ci]",
            "chore(lifecycle): update EOL data [skip ci]",
            "first"
        ]
    );
    let readme = stage.file(BASES, "README.md");
    assert!(
        readme.starts_with("# Base images\n") && readme.contains("`3.22.1-core1.0.0`"),
        "{readme}"
    );
    assert!(
        readme.contains("2099-05-01") && readme.contains("✅ OK"),
        "{readme}"
    );
    assert!(stage.file(BASES, "eol-data.yaml").contains("\ngo:\n"));
    let tags = stage.site.registry.stored_tags("platform/bases/alpine");
    assert_eq!(
        tags.keys().map(String::as_str).collect::<Vec<_>>(),
        ["3.22.1-core1.0.0", "latest"]
    );
    assert!(
        stage
            .site
            .gitea
            .files()
            .iter()
            .any(|file| file.contains("inventory")),
        "{:?}",
        stage.site.gitea.files()
    );

    let tip = stage.site.git(BASES, &["rev-parse", "main"]);
    let second = stage
        .run(BASES, "lifecycle.yml", &Event::schedule())
        .succeeds();
    assert_eq!(
        stage.site.git(BASES, &["rev-parse", "main"]),
        tip,
        "{}",
        second.stdout
    );
    assert!(
        !second.stdout.contains("::set-output:: changed=true"),
        "{}",
        second.stdout
    );
    assert_eq!(steps(&second), steps(&first));

    // A change is built without asking upstream; the report follows.
    stage.change(BASES, "sed -i 's/core_version: 1.0.0/core_version: 1.1.0/' imglife.yaml && echo more >> images/alpine/motd");
    let pushed = stage.run(BASES, "lifecycle.yml", &Event::push()).succeeds();
    assert_eq!(
        steps(&pushed),
        ["build", "build", "status"],
        "{}",
        pushed.stdout
    );
    assert!(
        stage
            .file(BASES, "README.md")
            .contains("`3.22.1-core1.1.0`")
    );

    an_application_is_checked_built_and_recorded(&stage);

    // By default it is only shown what would go. Now that there is a record, it can be told.
    let cleanup = stage
        .run(BASES, "cleanup.yml", &Event::schedule())
        .succeeds();
    assert!(cleanup.stdout.contains("[dry-run]"), "{}", cleanup.stdout);

    // An entry that fails fails its part, and the report is made all the same.
    stage.change(
        BASES,
        "sed -i 's#library/golang#library/no-such-image#' imglife.yaml",
    );
    let failed = stage
        .run(BASES, "lifecycle.yml", &Event::dispatch(json!({})))
        .exits(1);
    assert!(failed.stdout.contains("no-such-image"), "{}", failed.stdout);
    assert_eq!(steps(&failed), steps(&first));
}

fn an_application_is_checked_built_and_recorded(stage: &Stage) {
    const WEB: &str = "platform/web";
    let host = stage.site.host();
    stage.create_from_example(WEB, "app-gitea");

    // Its base was never one of ours, and there is a newer one.
    let outdated = stage.run(WEB, "image.yml", &Event::push()).exits(1);
    let latest = format!("::set-output:: latest={host}/platform/bases/alpine:3.22.1-core1.1.0\n");
    let outputs = [
        "::set-output:: up-to-date=false",
        "::set-output:: result=violated",
        &latest,
    ];
    assert!(
        outputs
            .iter()
            .all(|output| outdated.stdout.contains(output)),
        "{}",
        outdated.stdout
    );

    stage.change(
        WEB,
        "sed -i 's/3.21.3-core1.0.0/3.22.1-core1.1.0/' Dockerfile",
    );
    let current = stage.run(WEB, "image.yml", &Event::push()).succeeds();
    assert!(
        current.stdout.contains("::set-output:: up-to-date=true"),
        "{}",
        current.stdout
    );
    assert!(
        stage.site.registry.stored_tags(WEB).is_empty(),
        "only tags are built"
    );

    stage.site.git(WEB, &["tag", "v1.0.0", "main"]);
    let tagged = stage
        .run(WEB, "image.yml", &Event::tag("v1.0.0"))
        .succeeds();
    assert!(
        stage.site.registry.stored_tags(WEB).contains_key("v1.0.0"),
        "{}",
        tagged.stdout
    );

    // The platform team's report knows it now.
    stage
        .run(BASES, "lifecycle.yml", &Event::schedule())
        .succeeds();
    let readme = stage.file(BASES, "README.md");
    let row = readme
        .lines()
        .find(|line| line.contains("platform/web") && line.contains("`v1.0.0`"));
    assert!(
        row.is_some_and(|row| row.contains("3.22.1-core1.1.0") && row.contains("✅ OK")),
        "{readme}"
    );
}

/// A workflow of one job that calls actions.
fn workflow(steps: &str) -> String {
    format!("on: push\njobs:\n  one:\n    runs-on: ubuntu-latest\n    steps:\n{steps}")
}

#[test]
fn inputs_run_nothing_and_programs_that_are_not_what_was_named_are_not_run() {
    let stage = Stage::new();
    let action = |name: &str, with: &str| {
        format!(
            "      - if: always()\n        uses: platform/imglife/gitea-actions/{name}@v{}\n        with:\n{with}",
            env!("CARGO_PKG_VERSION")
        )
    };
    // Each input of each action is text that would run in a shell, an expression, or a line of the
    // runner's files.
    let trap = stage.world.path("an-input-has-run");
    let touch = format!("touch {}", trap.display());
    let hostile = format!(
        "|\n            x\"'$({touch})`{touch}`; {touch} #\n            changed=true\n            --config=/etc/passwd\n"
    );
    let mut steps = String::new();
    for (name, action_file) in actions() {
        for input in action_file
            .inputs
            .keys()
            .filter(|input| *input != "working-directory")
        {
            steps += &action(&name, &format!("          {input}: {hostile}"));
        }
    }
    let files = stage.world.path("hostile");
    fs::create_dir_all(files.join(".gitea/workflows")).expect("a directory");
    fs::write(files.join(".gitea/workflows/hostile.yml"), workflow(&steps)).expect("a file");
    let url = format!("{}{DOWNLOAD}", stage.site.url());
    let sum = stage
        .world
        .shell(&format!("sha256sum < {}", env!("CARGO_BIN_EXE_imglife")))
        .succeeds()
        .stdout;
    let token = "${{ secrets.IMGLIFE_GITEA_TOKEN }}";
    let sum = sum.split(' ').next().expect("a sum");
    let download = action(
        "setup",
        &format!("          url: {url}\n          sha256: '{sum}'\n          token: {token}\n"),
    );
    let seen = "      - run: imglife --version && command -v imglife > where && echo \"where=$(cat where)\" >> \"$GITHUB_OUTPUT\"\n";
    fs::write(
        files.join(".gitea/workflows/setup.yml"),
        workflow(&format!("{download}{seen}")),
    )
    .expect("a file");
    stage.create("platform/hostile", &files);

    let log = stage
        .run("platform/hostile", "hostile.yml", &Event::push())
        .exits(1)
        .stdout;
    assert!(!log.contains("::set-output:: changed=true"), "{log}");
    assert!(!trap.exists(), "{log}");

    let log = stage
        .run("platform/hostile", "setup.yml", &Event::push())
        .succeeds()
        .stdout;
    assert!(
        log.contains(&format!(
            "::set-output:: version={}",
            env!("CARGO_PKG_VERSION")
        )),
        "{log}"
    );
    let place = log
        .lines()
        .find_map(|line| line.split_once("::set-output:: where="))
        .expect("a place")
        .1;
    assert!(
        place.contains("/tmp/imglife.") && place.ends_with("/imglife"),
        "{log}"
    );
}

#[test]
fn a_program_that_is_not_what_was_named_is_not_put_on_the_path() {
    let site = Site::start(project("Cargo.toml"));
    let actions = actions();
    let script = actions["setup"].runs.steps[0]
        .run
        .as_deref()
        .expect("a script");
    let world = World::new()
        .file("setup.sh", script)
        .file("path", "")
        .file("output", "");
    let setup = |url: &str, sum: &str, token: &str| {
        let files = "GITHUB_PATH=path GITHUB_OUTPUT=output RUNNER_TEMP=$TMPDIR";
        world.shell(&format!("{files} GITHUB_SERVER_URL={} URL='{url}' SHA256='{sum}' TOKEN='{token}' sh -e setup.sh", site.url()))
    };
    let url = format!("{}{DOWNLOAD}", site.url());
    let other = "0".repeat(64);
    for (outcome, said) in [
        (
            setup(&url, &other, TOKEN),
            "the download has another checksum: ",
        ),
        (
            setup(&url, "", TOKEN),
            "the sha256 is not made of 64 hexadecimal digits",
        ),
        (
            setup(&url, &"g".repeat(64), TOKEN),
            "the sha256 is not made of 64 hexadecimal digits",
        ),
        (
            setup(&url, &other, ""),
            "The requested URL returned error: 401",
        ),
        (
            setup("http://127.0.0.1:1/imglife", &other, TOKEN),
            "but the url leads to another server",
        ),
        (
            setup(&url, &other, "a\" --output /x"),
            "the token contains invalid characters",
        ),
        (
            setup("--config=/etc/passwd", &other, ""),
            "the url does not start with https:// or http://",
        ),
        (setup("", &other, ""), "sha256 is set, but url is not"),
        (setup("", "", ""), "imglife is not on the path"),
    ] {
        assert!(
            outcome.code() != Some(0) && outcome.stderr.contains(said),
            "{said}: {outcome:?}"
        );
    }
    for file in ["path", "output"] {
        assert_eq!(
            fs::read_to_string(world.path(file)).expect("a file"),
            "",
            "{file}"
        );
    }
}
