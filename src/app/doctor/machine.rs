//! What is looked at of this machine: engines and emulators, git, the programs of hooks, docker's
//! configuration, the clock.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use super::Task;
use crate::app::Surroundings;
use crate::app::commit_push::access;
use crate::ci::repository::Repository;
use crate::command::{ProgramCommand, ProgramStatus, Runner, SystemRunner};
use crate::config::{BuildConfig, BuildImage, Config};
use crate::engines::{Emulators, EngineName, Programs};
use crate::model::Variables;
use crate::model::env;
use crate::model::text::excerpt;
use crate::probe::{ProbeFinding, ProbeReport};
use crate::process::Process;
use crate::steps::commit_push::RemoteAccess;
use crate::steps::doctor::{DetectedEngine, engines, executes, hook_programs, is_on_path};

/// The group of what is about the machine as a whole.
pub(super) const MACHINE: &str = "This machine";

/// The largest template that is looked into, in bytes.
const LARGEST_TEMPLATE: u64 = 1024 * 1024;

/// How long git may take to answer.
const SHORT: Duration = Duration::from_secs(5);

/// Returns what is looked at.
pub(super) fn tasks<'a>(
    config: Option<&'a Config>,
    surroundings: &'a Surroundings,
) -> Vec<Task<'a>> {
    let process = &surroundings.process;
    let build = config
        .and_then(|config| config.build.as_ref())
        .filter(|build| !build.images.is_empty());
    // Where only mirrors are configured, nothing is built.
    let builds = build.is_some() || config.is_none();
    let mut tasks = Vec::new();
    if builds {
        tasks.push(Task::new(
            "Engines",
            "engine.available",
            look_at_engines(build, process),
        ));
    }
    let programs = config.map(hook_programs).unwrap_or_default();
    tasks.push(Task::new(MACHINE, "git.version", async move {
        let mut findings = git(process).await;
        findings.extend(hooks(&programs, config, process));
        if config.is_none() {
            findings.push(docker_login(&process.variables));
        }
        findings.into()
    }));
    tasks
}

async fn look_at_engines(build: Option<&BuildConfig>, process: &Process) -> ProbeReport {
    let runner: Arc<dyn Runner> = Arc::new(SystemRunner);
    let builder = build.and_then(|build| build.builder.clone());
    let elsewhere = builder.is_some()
        || [env::BUILDKITD_ADDR, env::DOCKER_HOST]
            .iter()
            .any(|name| process.variables.get_filled(name).is_some());
    // Whether an engine is there takes no login.
    let programs = Programs {
        runner,
        variables: process.variables.clone(),
        logins: Vec::new(),
        insecure: BTreeSet::new(),
        builder,
        own_builder: None,
    }
    .engines();
    let mut seen = vec![DetectedEngine {
        name: EngineName::Native,
        version: Ok("part of imglife, needs nothing".to_owned()),
    }];
    let asked = programs.iter().map(|engine| async {
        DetectedEngine {
            name: engine.name(),
            version: engine.available().await,
        }
    });
    seen.extend(futures_util::future::join_all(asked).await);
    let (mut findings, mut executing) = (Vec::new(), BTreeSet::new());
    for (position, image) in build
        .iter()
        .flat_map(|build| build.images.iter().enumerate())
    {
        match template(image) {
            Ok(text) if executes(image, &text) => drop(executing.insert(position)),
            Ok(_) => {}
            Err(finding) => findings.push(finding),
        }
    }
    findings.splice(
        0..0,
        engines(build, &seen, &executing, &Emulators::here(), elsewhere),
    );
    findings.into()
}

fn template(image: &BuildImage) -> Result<String, ProbeFinding> {
    let path = image.folder.join(&image.template);
    let mut text = String::new();
    match File::open(&path).and_then(|file| file.take(LARGEST_TEMPLATE).read_to_string(&mut text)) {
        Ok(_) => Ok(text),
        Err(error) => Err(ProbeFinding::missing(
            "build.template",
            &image.name,
            format!("{}: {error}", path.display()),
        )
        .fix("write it, or correct `folder` or `tmpl` of the image")),
    }
}

/// Returns how git stands. Only `git commit-push` needs it, so that it is needed in CI alone.
async fn git(process: &Process) -> Vec<ProbeFinding> {
    let version = match ask(process, &["--version"]).await {
        Ok(text) => ProbeFinding::ok("git.version", "", text.trim_start_matches("git version ")),
        Err(problem) => {
            let finding = ProbeFinding::missing("git.version", "", problem);
            return vec![finding.fix("install git: `imglife git commit-push` commits the report and end-of-life data with it").optional()];
        }
    };
    let mut findings = vec![version];
    if ask(process, &["rev-parse", "--is-inside-work-tree"])
        .await
        .is_err()
    {
        let finding = ProbeFinding::missing(
            "git.repository",
            "",
            format!(
                "{} is in no git repository, or in one that git does not trust",
                process.directory.display()
            ),
        );
        findings.push(
            finding
                .fix("`imglife git commit-push` runs in a checkout; in a container `git config --global --add safe.directory DIR`")
                .optional(),
        );
        return findings;
    }
    let is_shallow = ask(process, &["rev-parse", "--is-shallow-repository"])
        .await
        .is_ok_and(|text| text == "true");
    findings.push(ProbeFinding::ok(
        "git.repository",
        "",
        if is_shallow {
            "a shallow checkout, which is enough"
        } else {
            "a checkout"
        },
    ));
    let job = Repository::of(&process.variables);
    let of_job = job.as_ref().and_then(|job| job.user.as_ref());
    findings.push(match (of_job, ask(process, &["var", "GIT_COMMITTER_IDENT"]).await.ok().and_then(|told| identity(&told))) {
        (Some((name, email)), _) => {
            ProbeFinding::ok("git.identity", "", format!("{} <{}>, of the job", excerpt(name, 100), excerpt(email, 100)))
        }
        (None, Some(told)) => ProbeFinding::ok("git.identity", "", told),
        (None, None) => ProbeFinding::missing("git.identity", "", "git knows neither your name nor your address; commits are made as imglife")
            .fix("`git config user.name` and `git config user.email`, or `--author` of `imglife git commit-push`; jobs take the CI's")
            .optional(),
    });
    findings.push(
        match (
            &job,
            ask(process, &["remote", "get-url", "--push", "origin"]).await,
        ) {
            (Some(job), _) => ProbeFinding::ok(
                "git.remote",
                "",
                format!(
                    "{}, of the job",
                    excerpt(&without_login(&job.git_address()), 200)
                ),
            ),
            (None, Ok(url)) => ProbeFinding::ok(
                "git.remote",
                "",
                format!("origin is {}", without_login(&url)),
            ),
            (None, Err(_)) => {
                ProbeFinding::missing("git.remote", "", "there is no remote `origin`")
                    .fix("`git remote add origin URL`, or `--remote`")
                    .optional()
            }
        },
    );
    findings.push(token(
        job.as_ref()
            .map_or(RemoteAccess::Own, |job| access(job, &process.variables)),
        job.is_some(),
    ));
    findings
}

/// Returns name and address of what git says of a committer, without the time.
fn identity(told: &str) -> Option<String> {
    told.rsplit_once('>')
        .map(|(identity, _)| format!("{identity}>"))
}

/// Returns what is known of the login that a push is made with. Nothing is pushed to try it.
fn token(access: RemoteAccess, is_job: bool) -> ProbeFinding {
    const CHECK: &str = "git.token";
    match access {
        RemoteAccess::GitlabToken => ProbeFinding::unknown(CHECK, "", "GITLAB_TOKEN, which was not tried")
            .fix("it needs the scope `write_repository` or `api`, and a role that may push to the branch"),
        RemoteAccess::GitlabJob => ProbeFinding::unknown(CHECK, "", "CI_JOB_TOKEN; whether it may push is the project's setting")
            .fix("in GitLab: Settings, CI/CD, Job token permissions, \"Allow Git push requests to the repository\"; or set GITLAB_TOKEN with the scope `write_repository`"),
        RemoteAccess::GiteaToken => ProbeFinding::unknown(CHECK, "", "GITEA_TOKEN, which was not tried")
            .fix("it needs the scope `write:repository`, of a user who may push to the branch"),
        RemoteAccess::GiteaJob => ProbeFinding::unknown(CHECK, "", "GITHUB_TOKEN, the job's own, which was not tried")
            .fix("where it may not push, give the job GITEA_TOKEN with the scope `write:repository`"),
        RemoteAccess::NoGitlab => ProbeFinding::missing(CHECK, "", "the job has no token to push with")
            .fix("set GITLAB_TOKEN (scope `write_repository`) in the project's settings (CI/CD > Variables)")
            .optional(),
        RemoteAccess::NoGitea => ProbeFinding::missing(CHECK, "", "the job has no token to push with")
            .fix("give the job GITEA_TOKEN (scope `write:repository`) from a secret, such as IMGLIFE_GITEA_TOKEN")
            .optional(),
        RemoteAccess::Own if is_job => ProbeFinding::unknown(CHECK, "", "none goes to this server; git's own login is used, which was not tried"),
        RemoteAccess::Own => ProbeFinding::ok(CHECK, "", "none is used outside of CI; git's own login is, which was not tried"),
    }
}

/// Returns what git answers, without the line's end.
async fn ask(process: &Process, arguments: &[&str]) -> Result<String, String> {
    let command = ProgramCommand {
        program: "git".to_owned(),
        arguments: arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect(),
        environment: process.variables.clone(),
        directory: Some(process.directory.clone()),
        stdin: None,
        timeout: SHORT,
    };
    match SystemRunner.run(command).await {
        Ok(output) if output.status == ProgramStatus::Exited(0) => {
            let text = output.stdout.text();
            let line = text.lines().next().unwrap_or_default().trim();
            if line.is_empty() {
                Err("git answers nothing".to_owned())
            } else {
                Ok(excerpt(&process.variables.masker().mask(line), 200))
            }
        }
        Ok(_) => Err("git does not answer".to_owned()),
        Err(error) => Err(
            match std::error::Error::source(&error)
                .and_then(|cause| cause.downcast_ref::<std::io::Error>())
            {
                Some(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                    "`git` is not installed, or not on PATH".to_owned()
                }
                _ => crate::error::chain(&error),
            },
        ),
    }
}

/// Returns an address without user name and password, which checkouts of CI systems have in it.
fn without_login(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest
                .split_once('/')
                .map_or((rest, None), |(authority, path)| (authority, Some(path)));
            let host = authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host);
            path.map_or_else(
                || format!("{scheme}://{host}"),
                |path| format!("{scheme}://{host}/{path}"),
            )
        }
        None => url.to_owned(),
    }
}

fn hooks(
    programs: &BTreeSet<String>,
    config: Option<&Config>,
    process: &Process,
) -> Vec<ProbeFinding> {
    let directory = config.map_or(&process.directory, |config| &config.directory);
    let found = programs.iter().map(|program| {
        if is_on_path(program, &process.variables, directory) {
            ProbeFinding::ok("hook.program", program, "found")
        } else {
            ProbeFinding::missing(
                "hook.program",
                program,
                "a hook begins with it, and it is not on PATH",
            )
            .fix("install it, or correct the hook's `cmd`")
        }
    });
    found.collect()
}

/// Returns whether docker's configuration is there, for who has not written one of imglife's own.
fn docker_login(variables: &Variables) -> ProbeFinding {
    const CHECK: &str = "docker.configuration";
    let directory = variables
        .get_filled(env::DOCKER_CONFIG)
        .map(std::path::PathBuf::from);
    let directory = directory.or_else(|| {
        variables
            .get_filled(env::HOME)
            .map(|home| std::path::Path::new(home).join(".docker"))
    });
    let Some(file) = directory.map(|directory| directory.join("config.json")) else {
        return ProbeFinding::unknown(CHECK, "", "neither DOCKER_CONFIG nor HOME is set");
    };
    match std::fs::metadata(&file) {
        Ok(_) => ProbeFinding::ok(
            CHECK,
            "",
            format!("{}: the logins in it are used", file.display()),
        ),
        Err(_) => ProbeFinding::ok(
            CHECK,
            "",
            format!("no {}; logins can be given by variables", file.display()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_login() {
        for (url, expected) in [
            (
                "https://gitlab-ci-token:hunter2@gitlab.example/a/b.git",
                "https://gitlab.example/a/b.git",
            ),
            ("https://x:a@b@gitlab.example", "https://gitlab.example"),
            ("https://gitlab.example/a@b", "https://gitlab.example/a@b"),
            ("git@gitlab.example:a/b.git", "git@gitlab.example:a/b.git"),
        ] {
            assert_eq!(without_login(url), expected);
        }
    }
}
