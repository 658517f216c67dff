//! Options of `imglife run`.

use std::path::PathBuf;

use crate::app::{
    BuildForm, BuildOptions, CheckOptions, CleanupOptions, EolUpdateOptions, Mode, OutputForm,
    RegisterOptions, StatusOptions, SyncOptions,
};
use crate::ci::PipelineEvent;

/// Options of `imglife run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// The steps that the user named, or all steps that an event can select.
    pub steps: Vec<StepOptions>,
    /// True if the user named the steps.
    pub are_named: bool,
    /// Event of the pipeline; `None`: read it from the variables of the CI server.
    pub event: Option<PipelineEvent>,
    pub push: PushMode,
    /// True if no further step runs after a failed one.
    pub fail_fast: bool,
    /// Patterns of `--only` for all steps. Patterns for one step are in its own options.
    pub only: Vec<String>,
    /// Directory for report files, relative to the working directory.
    pub reports: Option<PathBuf>,
    pub output: OutputForm,
    /// Variables that are probably misspelt options.
    pub unknown_variables: Vec<UnknownVariable>,
}

/// Variable with a name similar to an option, probably a typing error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVariable {
    pub name: String,
    /// Variable of an option with a similar name.
    pub suggestion: Option<String>,
}

/// When `run` commits and publishes changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PushMode {
    /// In CI on the default branch.
    #[default]
    Auto,
    Always,
    Never,
}

/// Step of a run, with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepOptions {
    Sync(SyncOptions),
    Build(BuildOptions),
    EolUpdate(EolUpdateOptions),
    Status(StatusOptions),
    Cleanup(CleanupOptions),
    Check(CheckOptions),
    Register(RegisterOptions),
}

impl StepOptions {
    /// Returns the name of the step on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            StepOptions::Sync(_) => "sync",
            StepOptions::Build(_) => "build",
            StepOptions::EolUpdate(_) => "eol-update",
            StepOptions::Status(_) => "status",
            StepOptions::Cleanup(_) => "cleanup",
            StepOptions::Check(_) => "check",
            StepOptions::Register(_) => "register",
        }
    }

    /// Returns true if the step publishes immutable tags.
    pub(super) fn publishes_tags(&self) -> bool {
        matches!(self, StepOptions::Build(options) if options.mode == Mode::Apply && !matches!(options.form, BuildForm::Contexts(_)))
    }
}
