//! Context of a command: everything that it gets besides its options.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::error::Failure;
use crate::process::Process;
use crate::progress::Progress;

/// Context of a command.
#[derive(Clone)]
pub struct CommandContext {
    pub process: Process,
    pub progress: Arc<dyn Progress>,
    /// Output on stderr around the steps of `imglife run`.
    pub presentation: Arc<dyn Presentation>,
    /// True if the report on stdout is coloured.
    pub report_color: bool,
    /// Time at which the command must stop; `None`: no limit.
    pub deadline: Option<Instant>,
}

/// Output on stderr around the steps of `imglife run`.
pub trait Presentation: Send + Sync {
    /// Returns the progress display for the next step.
    fn progress(&self) -> Arc<dyn Progress>;

    /// Prints the failure of a step.
    fn failure(&self, failure: &Failure);

    /// Prints a line that begins or ends a step. Contains no untrusted text.
    fn marker(&self, line: &str);
}

/// Options that every command has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GlobalOptions {
    /// Configuration file that the user named, relative to the working directory.
    pub configuration: Option<PathBuf>,
}

/// Form of a report on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputForm {
    #[default]
    Text,
    Json,
}
