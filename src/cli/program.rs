//! Definition of the command line as a whole.

use clap::{Parser, Subcommand};

use super::global::GlobalArguments;
use super::{
    apps, build, check, cleanup, completions, config, demo, doctor, eol, git, import, init, man,
    register, run, single_image, status, sync,
};

/// Maximum width of help texts, in characters. Also their width if the width of the terminal is
/// unknown.
pub(super) const HELP_WIDTH: usize = 100;

/// Keep an organisation's container images alive
///
/// Mirrors public images, builds base images on the mirrors, tracks when they reach their end of
/// life, records which applications use which base, and cleans up old tags. Configured by one file:
/// `./imglife.yaml`, or the file set by `--config` or `IMGLIFE_CONFIG`. Reports and data go to
/// stdout; logs, progress and errors go to stderr.
#[derive(Debug, Parser)]
#[command(
    name = "imglife",
    bin_name = "imglife",
    version,
    long_version = env!("IMGLIFE_VERSION"),
    arg_required_else_help = true,
    subcommand_value_name = "COMMAND",
    after_long_help = "\
Examples:
  imglife demo              try it on sample data, without a server
  imglife doctor            check hosts, credentials and programs
  imglife --check           validate ./imglife.yaml
  imglife sync --dry-run    show which tags a sync would copy
  imglife eol list          list end-of-life dates
  imglife status            report on mirrors, base images and applications
  imglife run               run all steps in order, as in a nightly pipeline
  imglife help sync         show the help of a command

Exit codes:
  0    success
  1    the command failed, or one of its items failed
  2    invalid usage or configuration; nothing was changed
  3    success, but a policy that you set is violated
  130  stopped by Ctrl-C
  143  stopped by SIGTERM"
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: GlobalArguments,

    #[command(subcommand)]
    pub(super) command: Option<CommandArguments>,
}

#[derive(Debug, Subcommand)]
pub(super) enum CommandArguments {
    Sync(sync::SyncArguments),
    Copy(Box<single_image::CopyArguments>),
    Tags(Box<single_image::TagsArguments>),
    Import(import::ImportArguments),
    Build(build::BuildArguments),
    Cleanup(cleanup::CleanupArguments),
    Eol(eol::EolArguments),
    Status(status::StatusArguments),
    Run(Box<run::RunArguments>),
    Register(register::RegisterArguments),
    Check(check::CheckArguments),
    Latest(check::LatestArguments),
    #[command(name = "base-args")]
    BaseArgs(check::BaseArgsArguments),
    App(apps::AppArguments),
    Init(init::InitArguments),
    Doctor(doctor::DoctorArguments),
    Git(git::GitArguments),
    Config(config::ConfigArguments),
    Demo(demo::DemoArguments),
    Completions(completions::CompletionsArguments),
    Man(man::ManArguments),
}
