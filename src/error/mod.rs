//! How a command fails: what kind of failure, the chain of causes, what to do, and the exit code.
//!
//! Owns the table of exit codes. Does not print; `cli` draws a failure.

use std::error::Error;
use std::fmt;

mod item;

pub use item::{ItemError, ItemErrorKind};

/// The exit codes of every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// It failed, or an item of it failed. Wins over `PolicyViolated`.
    Failed,
    /// Wrong usage or configuration; nothing was done.
    Usage,
    /// Done, and a policy that was asked for is violated.
    PolicyViolated,
    /// Stopped by Ctrl-C (SIGINT).
    Interrupted,
    /// Stopped by SIGTERM.
    Terminated,
}

impl Exit {
    /// Returns the number that the process ends with.
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

/// The failure of a command as a whole: what failed with its causes, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub error: Box<dyn Error + Send + Sync>,
    pub hints: Vec<String>,
}

impl Failure {
    /// Returns a failure that ends with exit code 1.
    pub fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure {
            exit: Exit::Failed,
            error: error.into(),
            hints: Vec::new(),
        }
    }

    /// Returns a failure that ends with exit code 2: nothing was done.
    pub fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure {
            exit: Exit::Usage,
            error: error.into(),
            hints: Vec::new(),
        }
    }

    /// Returns the failure with another hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hints.push(hint.into());
        self
    }
}

/// Returns the messages of the causes of `error`, from the nearest on.
pub fn causes(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut messages = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        messages.push(cause.to_string());
        next = cause.source();
    }
    messages
}

/// Returns the message of `error` and of its causes in one line, parted by colons, for reports and
/// logs.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    std::iter::once(error.to_string())
        .chain(causes(error))
        .collect::<Vec<_>>()
        .join(": ")
}

/// The side of a copy that something happened on.
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
