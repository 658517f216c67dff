//! Git, by its program: what a checkout is and holds, and commits that are made and pushed without
//! touching it.
//!
//! Owns how git is called: with which environment and configuration, and what its words mean. Only
//! plumbing is used. The checkout is read and never written, neither its files nor its index,
//! references or configuration; what is made is made in a [`Workshop`]. Which files are committed,
//! and what becomes of them, is decided elsewhere.

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
mod words;
mod workshop;

pub use checkout::{Checkout, Discovery, WorkFile};
pub use remote::{Identity, Login, Remote};
pub use words::{Refusal, RefusalKind};
pub use workshop::{Changer, Heads, NewCommit, Push, Pushed, TRAILER, Workshop};

/// How long what needs no network may take.
const LOCAL: Duration = Duration::from_secs(120);

/// How long a conversation with a remote may take.
const NETWORK: Duration = Duration::from_secs(600);

/// The most paths that are given to one call.
const PATHS_AT_ONCE: usize = 500;

/// Variables that would lead git elsewhere, or make it print what it was given.
const DROPPED: [&str; 17] = [
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

/// The name of an object, as git writes it: hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectId(String);

impl ObjectId {
    /// Returns the object that `text` names whole.
    pub fn parse(text: &str) -> Option<ObjectId> {
        let is_hexadecimal = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
        (matches!(text.len(), 40 | 64) && is_hexadecimal).then(|| ObjectId(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the beginning that people are shown.
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

/// What a path of a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Executable,
    Symlink,
    /// A directory, or another repository.
    Other,
}

impl Kind {
    fn of_mode(mode: &str) -> Kind {
        match mode {
            "100644" | "100664" => Kind::File,
            "100755" => Kind::Executable,
            "120000" => Kind::Symlink,
            _ => Kind::Other,
        }
    }

    fn mode(self) -> &'static str {
        match self {
            Kind::File => "100644",
            Kind::Executable => "100755",
            Kind::Symlink => "120000",
            Kind::Other => "040000",
        }
    }
}

/// What stands at a path of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    pub id: ObjectId,
}

impl Entry {
    /// Returns whether it has content that can be looked into.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File | Kind::Executable)
    }
}

/// Why git did not do what it was to do.
#[derive(Debug, Error)]
pub enum GitError {
    #[error("git cannot be run")]
    Program(#[source] CommandError),
    #[error("git cannot {action}{}", said(.words))]
    Failed {
        action: &'static str,
        words: Vec<String>,
    },
    #[error("git cannot {action}: it took too long")]
    TooLong { action: &'static str },
    #[error("git cannot {action}: it says too much")]
    TooMuch { action: &'static str },
    #[error("git cannot {action}: its answer is not understood")]
    Answer { action: &'static str },
    #[error("cannot {action} {}{}", printable(.remote), said(&.refusal.words))]
    Remote {
        action: &'static str,
        remote: String,
        refusal: Refusal,
    },
    #[error("{} cannot be used for git's files", .directory.display())]
    Temporary {
        directory: PathBuf,
        source: io::Error,
    },
    #[error("{} cannot be read", printable(.path))]
    Unreadable { path: String, source: io::Error },
    #[error("`{}` {problem}", printable(.path))]
    Path { path: String, problem: PathProblem },
}

/// Why a path cannot be committed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PathProblem {
    #[error("does not exist")]
    Missing,
    #[error("is outside of the work tree")]
    Outside,
    #[error("is within git's own directory")]
    Internal,
    #[error("is a link that leads out of the work tree")]
    LeadsOut,
    #[error("is neither a file, a directory nor a link")]
    Special,
    #[error("has a name that cannot be committed: only printable UTF-8 can")]
    Name,
    #[error("is a repository of its own")]
    Repository,
    #[error("goes through the filter `{}`, which is not run", printable(.0))]
    Filter(String),
}

impl GitError {
    /// Returns whether what was asked for cannot be: nothing was done then.
    pub fn is_usage(&self) -> bool {
        matches!(self, GitError::Path { .. })
    }

    /// Returns what the user can do, where it does not depend on who asks.
    pub fn hint(&self) -> Option<String> {
        match self {
            GitError::Program(CommandError::Start { .. }) => Some("install git, so that it is on PATH".to_owned()),
            GitError::Path { problem: PathProblem::Missing, .. } => Some(
                "files are removed from a branch by git itself, never by `commit-push`; if the file should be there, look at the step \
                 that writes it"
                    .to_owned(),
            ),
            GitError::Path { problem: PathProblem::Filter(_), .. } => {
                Some("take the path out of `filter=` in .gitattributes, or commit it by git itself".to_owned())
            }
            GitError::Failed { words, .. } if words.iter().any(|line| line.contains("dubious ownership")) => {
                Some("the directory belongs to somebody else: see `safe.directory` in `git help config`".to_owned())
            }
            _ => None,
        }
    }
}

fn said(words: &[String]) -> String {
    if words.is_empty() {
        String::new()
    } else {
        format!(": {}", words.join("; "))
    }
}

/// How git is called: where, and with which environment.
#[derive(Clone)]
struct Git {
    runner: Arc<dyn Runner>,
    environment: Variables,
    directory: PathBuf,
}

/// A call of git.
struct Call<'a> {
    /// What it is for, as in "git cannot read HEAD"; of a remote as in "cannot push to
    /// <https://git.example>".
    action: &'static str,
    arguments: Vec<&'a str>,
    stdin: Option<String>,
    limit: Duration,
}

impl<'a> Call<'a> {
    fn new<const N: usize>(action: &'static str, arguments: [&'a str; N]) -> Call<'a> {
        Call {
            action,
            arguments: arguments.to_vec(),
            stdin: None,
            limit: LOCAL,
        }
    }

    fn paths(mut self, paths: &'a [String]) -> Call<'a> {
        self.arguments.push("--");
        self.arguments.extend(paths.iter().map(String::as_str));
        self
    }

    fn stdin(mut self, text: String) -> Call<'a> {
        self.stdin = Some(text);
        self
    }

    fn over_network(mut self) -> Call<'a> {
        self.limit = NETWORK;
        self
    }
}

impl Git {
    /// Returns how git is called with a user's `variables`, cleared of what would lead it
    /// elsewhere: no hook is run, nobody is asked for anything, and it speaks English.
    fn new(runner: Arc<dyn Runner>, variables: &Variables, directory: PathBuf) -> Git {
        let kept = |name: &str| {
            !DROPPED.contains(&name)
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

    /// Returns the same with further settings, which stand above those of all files. They are in
    /// the environment only.
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

    /// Returns what git did, however it ended.
    async fn run(&self, call: Call<'_>) -> Result<ProgramOutput, GitError> {
        let Call {
            action,
            arguments,
            stdin,
            limit,
        } = call;
        tracing::debug!(arguments = %words::Redaction::default().apply(&arguments.join(" ")), "git");
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

    /// Returns what git wrote to stdout, when it succeeded.
    async fn text(&self, call: Call<'_>) -> Result<String, GitError> {
        let action = call.action;
        let output = self.run(call).await?;
        if output.status != ProgramStatus::Exited(0) {
            return Err(GitError::Failed {
                action,
                words: words::of(&output.stderr.text(), &words::Redaction::default()),
            });
        }
        String::from_utf8(output.stdout.bytes).map_err(|_| GitError::Answer { action })
    }

    /// Returns the one object that git named.
    async fn object(&self, call: Call<'_>) -> Result<ObjectId, GitError> {
        let action = call.action;
        ObjectId::parse(self.text(call).await?.trim()).ok_or(GitError::Answer { action })
    }
}

/// Returns the entries of `git ls-tree -z` by path.
fn tree_entries(text: &str) -> Option<Vec<(String, Entry)>> {
    let entry = |line: &str| {
        let (meta, path) = line.split_once('\t')?;
        let mut parts = meta.split(' ');
        let (mode, _, id) = (parts.next()?, parts.next()?, parts.next()?);
        Some((
            path.to_owned(),
            Entry {
                kind: Kind::of_mode(mode),
                id: ObjectId::parse(id)?,
            },
        ))
    };
    text.split('\0')
        .filter(|line| !line.is_empty())
        .map(entry)
        .collect()
}
