//! Errors: the failure of a command with its exit code, and the error of one item of a run.
//!
//! Owns the table of exit codes, the message of an item's error, and the hint of each kind of
//! error. `cli` prints failures, `steps` renders the errors of items.

use std::error::Error;
use std::fmt;

mod item;

pub use item::{ErrorScope, ItemError, ItemErrorKind};

/// Result of a command, which determines its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Success.
    Done,
    /// The command or one of its items failed. Takes precedence over `PolicyViolated`.
    Failed,
    /// The arguments or the configuration are invalid; nothing was done.
    Usage,
    /// Success, but a policy that the user requested is violated.
    PolicyViolated,
    /// Stopped by Ctrl-C (SIGINT).
    Interrupted,
    /// Stopped by SIGTERM.
    Terminated,
}

impl Exit {
    /// Returns the exit code of the process.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::PolicyViolated => 3,
            Exit::Interrupted => 130,
            Exit::Terminated => 143,
        }
    }
}

/// Failure of a command as a whole: the error with its causes, and hints for the user.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub error: Box<dyn Error + Send + Sync>,
    pub hints: Vec<String>,
}

impl Failure {
    /// Returns a failure with exit code 1.
    pub fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure {
            exit: Exit::Failed,
            error: error.into(),
            hints: Vec::new(),
        }
    }

    /// Returns a failure with exit code 2, before anything was done.
    pub fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure {
            exit: Exit::Usage,
            error: error.into(),
            hints: Vec::new(),
        }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hints.push(hint.into());
        self
    }
}

impl From<ItemError> for Failure {
    /// Returns the failure of a command that could not go on after the error of one item.
    fn from(error: ItemError) -> Failure {
        let hint = error.hint();
        hint.into_iter().fold(Failure::failed(error), Failure::hint)
    }
}

/// Returns the messages of the causes of `error`, the direct cause first.
pub fn causes(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut messages = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        messages.push(cause.to_string());
        next = cause.source();
    }
    messages
}

/// Returns the messages of `error` and its causes in one line, separated by colons, for reports and
/// logs.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    std::iter::once(error.to_string())
        .chain(causes(error))
        .collect::<Vec<_>>()
        .join(": ")
}

/// Side of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Source,
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Side::Source => "source",
            Side::Target => "target",
        })
    }
}
