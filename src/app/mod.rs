//! The composition root: reads the configuration, creates the stores and clients that a command
//! needs, runs its step, and prints the result.
//!
//! Owns wiring only. Rules belong to `steps`; arguments, the display of failures and progress
//! belong to `cli`.

use crate::error::{Exit, Failure};
use result::print;

pub use crate::ci::PipelineEvent;
pub use crate::config::ConfigErrors;
pub use crate::engines::{BuilderNode, BuildxBuilder};
pub use crate::files::refuse_link_out;
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
pub use context::{CommandContext, GlobalOptions, OutputForm, Presentation};
pub use deadline::deadline;
pub use doctor::DoctorOptions;
pub use eol::{EolListOptions, EolNotifyOptions, EolUpdateOptions};
pub use image_stores::layouts;
pub use import::ImportOptions;
pub use init::{InitForge, InitOptions};
pub use permissions::{PermissionOptions, permissions};
pub use records::records;
pub use register::RegisterOptions;
pub use run::options::{PushMode, RunOptions, StepOptions, UnknownVariable};
pub use runtime::run as run_async;
pub use single_image::{CopyOptions, TagsOptions};
pub use status::{FailOn, StatusForm, StatusOptions};
pub use sync::SyncOptions;

mod apps;
mod build;
mod check;
mod cleanup;
mod cleanup_journal;
mod commit_push;
mod configuration;
mod context;
mod deadline;
mod deployments;
mod digest_cache;
mod doctor;
mod documents;
mod engines;
mod eol;
mod forge;
mod hooks;
mod host_rules;
mod image_stores;
mod import;
mod init;
mod job_credentials;
mod job_limits;
mod keep_lists;
mod merge_requests;
mod only;
mod permissions;
mod records;
mod register;
mod report_files;
mod result;
mod run;
mod runtime;
mod single_image;
mod status;
mod sync;
mod target_branch;

/// Command line: a command and the options that every command has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    pub command: CommandOptions,
    pub global: GlobalOptions,
}

/// Command with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandOptions {
    Sync(SyncOptions),
    Copy(Box<CopyOptions>),
    Tags(TagsOptions),
    Import(ImportOptions),
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
    /// Validates the configuration and reports which commands it is complete enough to run.
    ConfigCheck {
        output: OutputForm,
    },
    /// Prints the JSON Schema of the configuration file.
    ConfigSchema,
    /// Prints the configuration with variables and defaults filled in.
    ConfigShow,
}

/// Runs a command, prints its result, and returns how it ended.
pub fn run(invocation: Invocation, context: &CommandContext) -> Result<Exit, Failure> {
    let Invocation { command, global } = invocation;
    let result = match command {
        CommandOptions::Build(options) => build::run(&options, &global, context),
        CommandOptions::Check(options) => check::check(&options, &global, context),
        CommandOptions::Cleanup(options) => cleanup::run(&options, &global, context),
        CommandOptions::CommitPush(options) => commit_push::run(&options, &global, context),
        CommandOptions::Latest(options) => check::latest(&options, &global, context),
        CommandOptions::BaseArguments(options) => check::base_arguments(&options, &global, context),
        CommandOptions::AppList(options) => apps::list(&options, &global, context),
        CommandOptions::AppPurge(options) => apps::purge(&options, &global, context),
        CommandOptions::Register(options) => register::run(&options, &global, context),
        CommandOptions::Sync(options) => sync::run(&options, &global, context),
        CommandOptions::Copy(options) => single_image::copy(&options, &global, context),
        CommandOptions::Tags(options) => single_image::tags(&options, &global, context),
        CommandOptions::Import(options) => import::run(&options, context),
        CommandOptions::EolUpdate(options) => eol::update(&options, &global, context),
        CommandOptions::EolList(options) => eol::list(&options, &global, context),
        CommandOptions::EolNotify(options) => eol::notify(&options, &global, context),
        CommandOptions::Init(options) => init::run(&options, context),
        CommandOptions::Status(options) => status::run(&options, &global, context),
        CommandOptions::Doctor(options) => doctor::run(&options, &global, context),
        CommandOptions::Run(options) => run::run(&options, &global, context),
        CommandOptions::ConfigCheck { output } => configuration::check(&global, output, context),
        CommandOptions::ConfigSchema => Ok(configuration::schema()),
        CommandOptions::ConfigShow => configuration::show(&global, context),
    };
    print(&mut result?, context)
}
