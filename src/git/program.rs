//! Calls of the git program: environment, settings, limits and output.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::error::GitError;
use super::object::ObjectId;
use super::stderr::{self, OutputRedaction};
use crate::command::{ProgramCommand, ProgramOutput, ProgramStatus, Runner};
use crate::model::env;
use crate::model::{Secret, Variables};

/// Time limit of a git call without network access.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(120);

/// Time limit of a git call that talks to a remote.
const NETWORK_TIMEOUT: Duration = Duration::from_secs(600);

/// Maximum number of paths in one git call.
pub(super) const MAX_PATHS_PER_CALL: usize = 500;

/// Variables removed from git's environment: they redirect git to other files or print its input.
const REMOVED_VARIABLES: [&str; 17] = [
    env::GIT_DIR,
    env::GIT_WORK_TREE,
    env::GIT_COMMON_DIR,
    env::GIT_INDEX_FILE,
    env::GIT_INDEX_VERSION,
    env::GIT_OBJECT_DIRECTORY,
    env::GIT_ALTERNATE_OBJECT_DIRECTORIES,
    env::GIT_QUARANTINE_PATH,
    env::GIT_NAMESPACE,
    env::GIT_PREFIX,
    env::GIT_SHALLOW_FILE,
    env::GIT_GRAFT_FILE,
    env::GIT_REPLACE_REF_BASE,
    env::GIT_CONFIG,
    env::GIT_CURL_VERBOSE,
    env::GIT_REDACT_COOKIES,
    env::LANGUAGE,
];

/// Working directory and environment of git calls.
#[derive(Clone)]
pub(super) struct Git {
    pub(super) runner: Arc<dyn Runner>,
    pub(super) environment: Variables,
    pub(super) directory: PathBuf,
}

/// One git call.
pub(super) struct GitCall<'a> {
    /// Operation for error messages: "git cannot {action}", or "cannot {action} {remote}".
    pub(super) action: &'static str,
    pub(super) arguments: Vec<&'a str>,
    pub(super) stdin: Option<String>,
    pub(super) limit: Duration,
}

impl<'a> GitCall<'a> {
    pub(super) fn new<const N: usize>(
        action: &'static str,
        arguments: [&'a str; N],
    ) -> GitCall<'a> {
        GitCall {
            action,
            arguments: arguments.to_vec(),
            stdin: None,
            limit: LOCAL_TIMEOUT,
        }
    }

    pub(super) fn paths(mut self, paths: &'a [String]) -> GitCall<'a> {
        self.arguments.push("--");
        self.arguments.extend(paths.iter().map(String::as_str));
        self
    }

    pub(super) fn stdin(mut self, text: String) -> GitCall<'a> {
        self.stdin = Some(text);
        self
    }

    pub(super) fn over_network(mut self) -> GitCall<'a> {
        self.limit = NETWORK_TIMEOUT;
        self
    }
}

impl Git {
    /// Returns a caller with the user's `variables`, without those that redirect git.
    ///
    /// Git runs no hook, prompts for nothing and writes English messages.
    pub(super) fn new(runner: Arc<dyn Runner>, variables: &Variables, directory: PathBuf) -> Git {
        let kept = |name: &str| {
            !REMOVED_VARIABLES.contains(&name)
                && !name.starts_with(env::GIT_TRACE)
                && !name.starts_with("LC_")
        };
        let mut environment: Variables = variables.iter().filter(|(name, _)| kept(name)).collect();
        for (name, value) in [
            (env::LC_ALL, "C"),
            (env::GIT_TERMINAL_PROMPT, "0"),
            (env::GIT_OPTIONAL_LOCKS, "0"),
            (env::GIT_LITERAL_PATHSPECS, "1"),
        ] {
            environment.set(name, value);
        }
        Git {
            runner,
            environment,
            directory,
        }
        .configured([
            ("core.hooksPath", "/dev/null"),
            ("core.fsmonitor", "false"),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
            ("advice.pushUpdateRejected", "false"),
        ])
    }

    /// Adds settings that override all configuration files. They are passed in the environment
    /// only.
    pub(super) fn configured<'a>(
        mut self,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Git {
        let mut count: usize = self
            .environment
            .get(env::GIT_CONFIG_COUNT)
            .and_then(|count| count.parse().ok())
            .unwrap_or(0);
        for (key, value) in settings {
            self.environment.set(format!("GIT_CONFIG_KEY_{count}"), key);
            self.environment
                .set(format!("GIT_CONFIG_VALUE_{count}"), value);
            count += 1;
        }
        self.environment
            .set(env::GIT_CONFIG_COUNT, count.to_string());
        self
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Git {
        self.environment.set(name, value);
        self
    }

    /// Runs git and returns its output, whatever its exit status.
    pub(super) async fn run(&self, call: GitCall<'_>) -> Result<ProgramOutput, GitError> {
        let GitCall {
            action,
            arguments,
            stdin,
            limit,
        } = call;
        tracing::debug!(arguments = %OutputRedaction::default().apply(&arguments.join(" ")), "git");
        let command = ProgramCommand {
            program: "git".to_owned(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            environment: self.environment.clone(),
            directory: Some(self.directory.clone()),
            stdin: stdin.map(Secret::new),
            timeout: limit,
        };
        let output = self.runner.run(command).await.map_err(GitError::Program)?;
        match output.status {
            ProgramStatus::TimedOut => Err(GitError::TooLong { action }),
            ProgramStatus::Exited(_) | ProgramStatus::Signalled if output.stdout.omitted > 0 => {
                Err(GitError::TooMuch { action })
            }
            ProgramStatus::Exited(_) | ProgramStatus::Signalled => Ok(output),
        }
    }

    /// Runs git and returns its stdout. Fails unless git exits with 0.
    pub(super) async fn text(&self, call: GitCall<'_>) -> Result<String, GitError> {
        let action = call.action;
        let output = self.run(call).await?;
        if output.status != ProgramStatus::Exited(0) {
            return Err(GitError::Failed {
                action,
                lines: stderr::lines(&output.stderr.text(), &OutputRedaction::default()),
            });
        }
        String::from_utf8(output.stdout.bytes).map_err(|_| GitError::Answer { action })
    }

    /// Runs git and returns the object id it prints.
    pub(super) async fn object(&self, call: GitCall<'_>) -> Result<ObjectId, GitError> {
        let action = call.action;
        ObjectId::parse(self.text(call).await?.trim()).ok_or(GitError::Answer { action })
    }
}
