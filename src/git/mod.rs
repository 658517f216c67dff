//! Git, through the git program: reading a checkout, and making and pushing commits beside it.
//!
//! Owns the environment and configuration of every git call, and the interpretation of its output.
//! Only plumbing commands are used. The checkout is never written: neither its files nor its index,
//! references or configuration. New objects go to a [`ScratchRepository`]. The choice of files to
//! commit is left to `steps::commit_push`.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::command::{CommandError, ProgramCommand, ProgramOutput, ProgramStatus, Runner};
use crate::model::env;
use crate::model::text::printable;
use crate::model::{Secret, Variables};

mod checkout;
mod remote;
mod scratch_repository;
mod stderr;

pub use checkout::{Checkout, Discovery, WorkFile};
pub use remote::{CommitIdentity, GitCredential, Remote};
pub use scratch_repository::{
    Changer, NewCommit, Push, Pushed, RemoteHeads, ScratchRepository, TRAILER,
};
pub use stderr::{RemoteRefusal, RemoteRefusalKind};

/// Time limit of a git call without network access.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(120);

/// Time limit of a git call that talks to a remote.
const NETWORK_TIMEOUT: Duration = Duration::from_secs(600);

/// Maximum number of paths in one git call.
const MAX_PATHS_PER_CALL: usize = 500;

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

/// Object id in hexadecimal: 40 digits (SHA-1) or 64 (SHA-256).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectId(String);

impl ObjectId {
    /// Parses a complete object id; `None` for an abbreviated or malformed one.
    pub fn parse(text: &str) -> Option<ObjectId> {
        let is_hexadecimal = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
        (matches!(text.len(), 40 | 64) && is_hexadecimal).then(|| ObjectId(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first eight digits, for display.
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

/// Type of a tree entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    File,
    Executable,
    Symlink,
    /// A directory or a submodule.
    Other,
}

impl FileKind {
    fn of_mode(mode: &str) -> FileKind {
        match mode {
            "100644" | "100664" => FileKind::File,
            "100755" => FileKind::Executable,
            "120000" => FileKind::Symlink,
            _ => FileKind::Other,
        }
    }

    fn mode(self) -> &'static str {
        match self {
            FileKind::File => "100644",
            FileKind::Executable => "100755",
            FileKind::Symlink => "120000",
            FileKind::Other => "040000",
        }
    }
}

/// Entry of a git tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeEntry {
    pub kind: FileKind,
    pub id: ObjectId,
}

impl TreeEntry {
    /// Returns true for a regular file, executable or not.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, FileKind::File | FileKind::Executable)
    }
}

/// Failure of a git call or of a path to commit.
#[derive(Debug, Error)]
pub enum GitError {
    #[error("git cannot be run")]
    Program(#[source] CommandError),
    #[error("git cannot {action}{}", joined(.lines))]
    Failed {
        action: &'static str,
        lines: Vec<String>,
    },
    #[error("git cannot {action}: timed out")]
    TooLong { action: &'static str },
    #[error("git cannot {action}: its output is too large")]
    TooMuch { action: &'static str },
    #[error("git cannot {action}: unexpected output")]
    Answer { action: &'static str },
    #[error("cannot {action} {}{}", printable(.remote), joined(&.refusal.lines))]
    Remote {
        action: &'static str,
        remote: String,
        refusal: RemoteRefusal,
    },
    #[error("cannot use {} for temporary git files", .directory.display())]
    Temporary {
        directory: PathBuf,
        source: io::Error,
    },
    #[error("cannot read {}", printable(.path))]
    Unreadable { path: String, source: io::Error },
    #[error("`{}` {problem}", printable(.path))]
    Path { path: String, problem: PathProblem },
}

/// Reason why a path cannot be committed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PathProblem {
    #[error("does not exist")]
    Missing,
    #[error("is outside the work tree")]
    Outside,
    #[error("is inside the .git directory")]
    Internal,
    #[error("is a symbolic link to a path outside the work tree")]
    LeadsOut,
    #[error("is not a file, directory or symbolic link")]
    Special,
    #[error("has a name that is not printable UTF-8")]
    Name,
    #[error("is another git repository")]
    Repository,
    #[error("uses the filter `{}`, which imglife does not run", printable(.0))]
    Filter(String),
}

impl GitError {
    /// Returns true for a usage error. Nothing was changed then.
    pub fn is_usage(&self) -> bool {
        matches!(self, GitError::Path { .. })
    }

    /// Returns a hint that is the same for every caller.
    pub fn hint(&self) -> Option<String> {
        match self {
            GitError::Program(CommandError::Start { .. }) => Some("install git and put it on PATH".to_owned()),
            GitError::Path { problem: PathProblem::Missing, .. } => Some(
                "check the step that writes the file; `commit-push` never removes files from a branch, use git for that"
                    .to_owned(),
            ),
            GitError::Path { problem: PathProblem::Filter(_), .. } => {
                Some("remove `filter=` for this path from .gitattributes, or commit it with git".to_owned())
            }
            GitError::Failed { lines, .. } if lines.iter().any(|line| line.contains("dubious ownership")) => {
                Some("another user owns the directory; add it to git's `safe.directory` setting".to_owned())
            }
            _ => None,
        }
    }
}

/// Returns the lines joined for an error message, after a colon; empty without lines.
fn joined(lines: &[String]) -> String {
    if lines.is_empty() {
        String::new()
    } else {
        format!(": {}", lines.join("; "))
    }
}

/// Working directory and environment of git calls.
#[derive(Clone)]
struct Git {
    runner: Arc<dyn Runner>,
    environment: Variables,
    directory: PathBuf,
}

/// One git call.
struct GitCall<'a> {
    /// Operation for error messages: "git cannot {action}", or "cannot {action} {remote}".
    action: &'static str,
    arguments: Vec<&'a str>,
    stdin: Option<String>,
    limit: Duration,
}

impl<'a> GitCall<'a> {
    fn new<const N: usize>(action: &'static str, arguments: [&'a str; N]) -> GitCall<'a> {
        GitCall {
            action,
            arguments: arguments.to_vec(),
            stdin: None,
            limit: LOCAL_TIMEOUT,
        }
    }

    fn paths(mut self, paths: &'a [String]) -> GitCall<'a> {
        self.arguments.push("--");
        self.arguments.extend(paths.iter().map(String::as_str));
        self
    }

    fn stdin(mut self, text: String) -> GitCall<'a> {
        self.stdin = Some(text);
        self
    }

    fn over_network(mut self) -> GitCall<'a> {
        self.limit = NETWORK_TIMEOUT;
        self
    }
}

impl Git {
    /// Returns a caller with the user's `variables`, without those that redirect git.
    ///
    /// Git runs no hook, prompts for nothing and writes English messages.
    fn new(runner: Arc<dyn Runner>, variables: &Variables, directory: PathBuf) -> Git {
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
    fn configured<'a>(mut self, settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Git {
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

    fn with(mut self, name: &str, value: impl Into<String>) -> Git {
        self.environment.set(name, value);
        self
    }

    /// Runs git and returns its output, whatever its exit status.
    async fn run(&self, call: GitCall<'_>) -> Result<ProgramOutput, GitError> {
        let GitCall {
            action,
            arguments,
            stdin,
            limit,
        } = call;
        tracing::debug!(arguments = %stderr::OutputRedaction::default().apply(&arguments.join(" ")), "git");
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
    async fn text(&self, call: GitCall<'_>) -> Result<String, GitError> {
        let action = call.action;
        let output = self.run(call).await?;
        if output.status != ProgramStatus::Exited(0) {
            return Err(GitError::Failed {
                action,
                lines: stderr::lines(&output.stderr.text(), &stderr::OutputRedaction::default()),
            });
        }
        String::from_utf8(output.stdout.bytes).map_err(|_| GitError::Answer { action })
    }

    /// Runs git and returns the object id it prints.
    async fn object(&self, call: GitCall<'_>) -> Result<ObjectId, GitError> {
        let action = call.action;
        ObjectId::parse(self.text(call).await?.trim()).ok_or(GitError::Answer { action })
    }
}

/// Parses the output of `git ls-tree -z` into paths and entries.
fn tree_entries(text: &str) -> Option<Vec<(String, TreeEntry)>> {
    let entry = |line: &str| {
        let (meta, path) = line.split_once('\t')?;
        let mut parts = meta.split(' ');
        let (mode, _, id) = (parts.next()?, parts.next()?, parts.next()?);
        Some((
            path.to_owned(),
            TreeEntry {
                kind: FileKind::of_mode(mode),
                id: ObjectId::parse(id)?,
            },
        ))
    };
    text.split('\0')
        .filter(|line| !line.is_empty())
        .map(entry)
        .collect()
}
