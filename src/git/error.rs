//! Errors of git calls.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::stderr::RemoteRefusal;
use crate::command::CommandError;
use crate::model::text::printable;

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
    /// Returns true for a usage error, before which nothing was changed.
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
