//! Checks of this machine: engines and emulators, git, programs of hooks, the docker configuration.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use super::task::DoctorTask;
use crate::app::CommandContext;
use crate::app::commit_push::access;
use crate::ci::repository::JobRepository;
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

/// Name of the group of findings about the machine as a whole.
pub(super) const MACHINE: &str = "This machine";

/// Maximum size of a template to read, in bytes.
const MAX_TEMPLATE: u64 = 1024 * 1024;

/// Time limit of a git command.
const GIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the checks.
pub(super) fn tasks<'a>(
    config: Option<&'a Config>,
    context: &'a CommandContext,
) -> Vec<DoctorTask<'a>> {
    let process = &context.process;
    let build = config
        .and_then(|config| config.build.as_ref())
        .filter(|build| !build.images.is_empty());
    // A configuration with mirrors only builds nothing.
    let builds = build.is_some() || config.is_none();
    let mut tasks = Vec::new();
    if builds {
        tasks.push(DoctorTask::new(
            "Engines",
            "engine.available",
            check_engines(build, process),
        ));
    }
    let programs = config.map(hook_programs).unwrap_or_default();
    tasks.push(DoctorTask::new(MACHINE, "git.version", async move {
        let mut findings = git(process).await;
        findings.extend(hooks(&programs, config, process));
        if config.is_none() {
            findings.push(docker_configuration(&process.variables));
        }
        findings.into()
    }));
    tasks
}

async fn check_engines(build: Option<&BuildConfig>, process: &Process) -> ProbeReport {
    let runner: Arc<dyn Runner> = Arc::new(SystemRunner);
    let builder = build.and_then(|build| build.builder.clone());
    let has_remote_builder = builder.is_some()
        || [env::BUILDKITD_ADDR, env::DOCKER_HOST]
            .iter()
            .any(|name| process.variables.get_filled(name).is_some());
    // The version of an engine needs no credentials.
    let programs = Programs {
        runner,
        variables: process.variables.clone(),
        credentials: Vec::new(),
        insecure: BTreeSet::new(),
        builder,
        own_builder: None,
    }
    .engines();
    let mut found = vec![DetectedEngine {
        name: EngineName::Native,
        version: Ok("part of imglife, needs nothing".to_owned()),
    }];
    let versions = programs.iter().map(|engine| async {
        DetectedEngine {
            name: engine.name(),
            version: engine.available().await,
        }
    });
    found.extend(futures_util::future::join_all(versions).await);
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
        engines(
            build,
            &found,
            &executing,
            &Emulators::detect(),
            has_remote_builder,
        ),
    );
    findings.into()
}

/// Reads the template of an image, or returns the finding that it cannot be read.
fn template(image: &BuildImage) -> Result<String, ProbeFinding> {
    let path = image.folder.join(&image.template);
    let mut text = String::new();
    match File::open(&path).and_then(|file| file.take(MAX_TEMPLATE).read_to_string(&mut text)) {
        Ok(_) => Ok(text),
        Err(error) => Err(ProbeFinding::missing(
            "build.template",
            &image.name,
            format!("{}: {error}", path.display()),
        )
        .fix("create it, or correct `folder` or `tmpl` of the image")),
    }
}

/// Returns the findings about git. Only `imglife git commit-push` needs it, so it is optional
/// outside CI.
async fn git(process: &Process) -> Vec<ProbeFinding> {
    let version = match git_output(process, &["--version"]).await {
        Ok(text) => ProbeFinding::ok("git.version", "", text.trim_start_matches("git version ")),
        Err(problem) => {
            let finding = ProbeFinding::missing("git.version", "", problem);
            return vec![
                finding
                    .fix("install git: `imglife git commit-push` needs it")
                    .optional(),
            ];
        }
    };
    let mut findings = vec![version];
    if git_output(process, &["rev-parse", "--is-inside-work-tree"])
        .await
        .is_err()
    {
        let finding = ProbeFinding::missing(
            "git.repository",
            "",
            format!(
                "{} is not in a git repository, or git does not trust its owner",
                process.directory.display()
            ),
        );
        findings.push(
            finding
                .fix("run `imglife git commit-push` in a checkout; in a container run `git config --global --add safe.directory DIR`")
                .optional(),
        );
        return findings;
    }
    let is_shallow = git_output(process, &["rev-parse", "--is-shallow-repository"])
        .await
        .is_ok_and(|text| text == "true");
    findings.push(ProbeFinding::ok(
        "git.repository",
        "",
        if is_shallow {
            "a shallow checkout, which is sufficient"
        } else {
            "a checkout"
        },
    ));
    let job = JobRepository::of(&process.variables);
    let of_job = job.as_ref().and_then(|job| job.user.as_ref());
    findings.push(match (of_job, git_output(process, &["var", "GIT_COMMITTER_IDENT"]).await.ok().and_then(|text| identity(&text))) {
        (Some((name, email)), _) => {
            ProbeFinding::ok("git.identity", "", format!("{} <{}>, of the job", excerpt(name, 100), excerpt(email, 100)))
        }
        (None, Some(identity)) => ProbeFinding::ok("git.identity", "", identity),
        (None, None) => ProbeFinding::missing("git.identity", "", "git has no user name and email address; commits are made as imglife")
            .fix("set `git config user.name` and `git config user.email`, or use `--author` of `imglife git commit-push`; CI jobs use the user of the pipeline")
            .optional(),
    });
    findings.push(
        match (
            &job,
            git_output(process, &["remote", "get-url", "--push", "origin"]).await,
        ) {
            (Some(job), _) => ProbeFinding::ok(
                "git.remote",
                "",
                format!(
                    "{}, of the job",
                    excerpt(&without_credentials(&job.git_address()), 200)
                ),
            ),
            (None, Ok(url)) => ProbeFinding::ok(
                "git.remote",
                "",
                format!("origin is {}", without_credentials(&url)),
            ),
            (None, Err(_)) => {
                ProbeFinding::missing("git.remote", "", "there is no remote `origin`")
                    .fix("run `git remote add origin URL`, or use `--remote`")
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

/// Returns the name and email address of a committer in the output of git, without the time.
fn identity(text: &str) -> Option<String> {
    text.rsplit_once('>')
        .map(|(identity, _)| format!("{identity}>"))
}

/// Returns the finding about the credentials for a push. They are not tried.
fn token(access: RemoteAccess, is_job: bool) -> ProbeFinding {
    const CHECK: &str = "git.token";
    match access {
        RemoteAccess::GitlabToken => ProbeFinding::unknown(CHECK, "", "GITLAB_TOKEN, which was not tried")
            .fix("the token needs the scope `write_repository` or `api`, and a role that may push to the branch"),
        RemoteAccess::GitlabJob => ProbeFinding::unknown(CHECK, "", "CI_JOB_TOKEN; the settings of the project decide whether it may push")
            .fix("in GitLab: Settings, CI/CD, Job token permissions, \"Allow Git push requests to the repository\"; or set GITLAB_TOKEN with the scope `write_repository`"),
        RemoteAccess::GiteaToken => ProbeFinding::unknown(CHECK, "", "GITEA_TOKEN, which was not tried")
            .fix("the token needs the scope `write:repository` and a user who may push to the branch"),
        RemoteAccess::GiteaJob => ProbeFinding::unknown(CHECK, "", "GITHUB_TOKEN, the token of the job, which was not tried")
            .fix("if the token may not push, set GITEA_TOKEN with the scope `write:repository` for the job"),
        RemoteAccess::NoGitlab => ProbeFinding::missing(CHECK, "", "the job has no token to push with")
            .fix("set GITLAB_TOKEN (scope `write_repository`) in the project's settings (CI/CD > Variables)")
            .optional(),
        RemoteAccess::NoGitea => ProbeFinding::missing(CHECK, "", "the job has no token to push with")
            .fix("set GITEA_TOKEN (scope `write:repository`) for the job from a secret, such as IMGLIFE_GITEA_TOKEN")
            .optional(),
        RemoteAccess::Own if is_job => ProbeFinding::unknown(CHECK, "", "no token is sent to this server; git uses its own credentials, which were not tried"),
        RemoteAccess::Own => ProbeFinding::ok(CHECK, "", "no token is used outside CI; git uses its own credentials, which were not tried"),
    }
}

/// Runs git and returns the first line of its output, or the reason why there is none.
async fn git_output(process: &Process, arguments: &[&str]) -> Result<String, String> {
    let command = ProgramCommand {
        program: "git".to_owned(),
        arguments: arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect(),
        environment: process.variables.clone(),
        directory: Some(process.directory.clone()),
        stdin: None,
        timeout: GIT_TIMEOUT,
    };
    match SystemRunner.run(command).await {
        Ok(output) if output.status == ProgramStatus::Exited(0) => {
            let text = output.stdout.text();
            let line = text.lines().next().unwrap_or_default().trim();
            if line.is_empty() {
                Err("git printed nothing".to_owned())
            } else {
                Ok(excerpt(&process.variables.masker().mask(line), 200))
            }
        }
        Ok(_) => Err("git failed".to_owned()),
        Err(error) => Err(
            match std::error::Error::source(&error)
                .and_then(|cause| cause.downcast_ref::<std::io::Error>())
            {
                Some(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                    "`git` is not installed or not on PATH".to_owned()
                }
                _ => crate::error::chain(&error),
            },
        ),
    }
}

/// Returns a URL without user name and password, which remotes in CI checkouts contain.
fn without_credentials(url: &str) -> String {
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

/// Returns the findings about the programs of hooks.
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
            ProbeFinding::missing("hook.program", program, "needed by a hook, but not on PATH")
                .fix("install it, or correct the hook's `cmd`")
        }
    });
    found.collect()
}

/// Returns the finding about the docker configuration. Shown only without a configuration of
/// imglife.
fn docker_configuration(variables: &Variables) -> ProbeFinding {
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
            format!("{}: its credentials are used", file.display()),
        ),
        Err(_) => ProbeFinding::ok(
            CHECK,
            "",
            format!("no {}; credentials can be set as variables", file.display()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_credentials_removes_user_and_password() {
        for (url, expected) in [
            (
                "https://gitlab-ci-token:hunter2@gitlab.example/a/b.git",
                "https://gitlab.example/a/b.git",
            ),
            ("https://x:a@b@gitlab.example", "https://gitlab.example"),
            ("https://gitlab.example/a@b", "https://gitlab.example/a@b"),
            ("git@gitlab.example:a/b.git", "git@gitlab.example:a/b.git"),
        ] {
            assert_eq!(without_credentials(url), expected);
        }
    }
}
