//! The composition root: from what was asked for and the configuration to places, a step, its
//! report and an exit code.
//!
//! Owns wiring only. Rules belong to the steps; arguments, drawing of failures and progress belong
//! to `cli`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::error::{Exit, Failure};
use crate::process::Process;
use crate::progress::Progress;

pub use crate::ci::Event;
pub use crate::config::ConfigErrors;
pub use crate::engines::{Node, OwnBuilder};
pub use crate::steps::Mode;
pub use crate::steps::shard::Shard;
pub use apps::{AppListOptions, AppPurgeOptions, ListOutput};
pub use build::{BuildForm, BuildOptions};
pub use check::{
    ArgumentsForm, BaseArgumentsOptions, CheckOptions, CheckOutput, LatestOptions, Policy,
    SourceOptions,
};
pub use cleanup::CleanupOptions;
pub use commit_push::CommitPushOptions;
pub use deadline::deadline;
pub use doctor::DoctorOptions;
pub use eol::{EolListOptions, EolNotifyOptions, EolUpdateOptions};
pub use init::{InitForge, InitOptions};
pub use places::layouts;
pub use records::records;
pub use register::RegisterOptions;
pub use run::part::Part;
pub use run::{Push, RunOptions, StepOptions, UnheardOf};
pub use runtime::run as run_async;
pub use status::{FailOn, StatusForm, StatusOptions};
pub use sync::SyncOptions;

mod apps;
mod build;
mod check;
mod cleanup;
mod commit_push;
mod configuration;
mod deadline;
mod digest_cache;
mod doctor;
mod documents;
mod engines;
mod eol;
mod forge;
mod init;
mod merge_requests;
mod output;
mod places;
mod records;
mod register;
mod report_files;
mod run;
mod runtime;
mod status;
mod sync;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    pub command: Command,
    pub global: Global,
}

/// What every command takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Global {
    /// The configuration file that was named; relative to the working directory.
    pub configuration: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Sync(SyncOptions),
    Build(BuildOptions),
    Register(RegisterOptions),
    Check(CheckOptions),
    Cleanup(CleanupOptions),
    CommitPush(CommitPushOptions),
    Latest(LatestOptions),
    BaseArguments(BaseArgumentsOptions),
    AppList(AppListOptions),
    AppPurge(AppPurgeOptions),
    EolUpdate(EolUpdateOptions),
    EolList(EolListOptions),
    EolNotify(EolNotifyOptions),
    Status(StatusOptions),
    Init(InitOptions),
    Doctor(DoctorOptions),
    Run(Box<RunOptions>),
    /// Validates the configuration and says which commands it suffices for.
    ConfigCheck {
        output: Output,
    },
    /// Prints the JSON Schema of the configuration file.
    ConfigSchema,
    /// Prints the configuration with variables and defaults filled in.
    ConfigShow,
}

/// The form of a report on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    #[default]
    Text,
    Json,
}

/// What a run happens in.
#[derive(Clone)]
pub struct Surroundings {
    pub process: Process,
    pub progress: Arc<dyn Progress>,
    /// How more than one step is shown.
    pub presentation: Arc<dyn Presentation>,
    /// The run of several steps that this is one of.
    pub part_of: Option<Arc<Part>>,
    /// Whether the report on stdout is coloured.
    pub report_color: bool,
    /// When the run must be over, where it is limited.
    pub deadline: Option<Instant>,
}

/// How a run of several steps is shown on stderr.
pub trait Presentation: Send + Sync {
    /// Returns the progress of another step.
    fn progress(&self) -> Arc<dyn Progress>;

    /// Shows why a step failed as a whole.
    fn failure(&self, failure: &Failure);

    /// Writes a line that begins or ends a step. The text is our own.
    fn marker(&self, line: &str);
}

/// Runs a command to its end, its report written to stdout, and returns how it ended.
pub fn run(invocation: Invocation, surroundings: &Surroundings) -> Result<Exit, Failure> {
    let Invocation { command, global } = invocation;
    match command {
        Command::Build(options) => build::run(&options, &global, surroundings),
        Command::Check(options) => check::check(&options, &global, surroundings),
        Command::Cleanup(options) => cleanup::run(&options, &global, surroundings),
        Command::CommitPush(options) => commit_push::run(&options, &global, surroundings),
        Command::Latest(options) => check::latest(&options, &global, surroundings),
        Command::BaseArguments(options) => check::base_arguments(&options, &global, surroundings),
        Command::AppList(options) => apps::list(&options, &global, surroundings),
        Command::AppPurge(options) => apps::purge(&options, &global, surroundings),
        Command::Register(options) => register::run(&options, &global, surroundings),
        Command::Sync(options) => sync::run(&options, &global, surroundings),
        Command::EolUpdate(options) => eol::update(&options, &global, surroundings),
        Command::EolList(options) => eol::list(&options, &global, surroundings),
        Command::EolNotify(options) => eol::notify(&options, &global, surroundings),
        Command::Init(options) => init::run(&options, surroundings),
        Command::Status(options) => status::run(&options, &global, surroundings),
        Command::Doctor(options) => doctor::run(&options, &global, surroundings),
        Command::Run(options) => run::run(&options, &global, surroundings),
        Command::ConfigCheck { output } => configuration::check(&global, output, surroundings),
        Command::ConfigSchema => configuration::schema(surroundings),
        Command::ConfigShow => configuration::show(&global, surroundings),
    }
}
