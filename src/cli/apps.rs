//! `imglife app`.

use clap::{Args, Subcommand, ValueEnum};

use super::output::OutputForm;
use crate::app::{AppListOptions, AppPurgeOptions, Command, ListOutput, Mode};

/// Query and prune the records of application images
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife app list --base 'alpine:3.19*'
      who stands on an old base
  imglife app purge --keep 5 --orphans --dry-run
      which records would go")]
pub(super) struct AppArguments {
    #[command(subcommand)]
    command: AppCommand,
}

#[derive(Debug, Subcommand)]
enum AppCommand {
    List(ListArguments),
    Purge(PurgeArguments),
}

/// List the records of application images
///
/// Files that stand among the records and are none are named in a warning.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife app list
      all records, by image
  imglife app list --base registry.example.com/bases/alpine:3.21.3-core1.0.0
      who uses a base
  imglife app list --base 'alpine:3.19*' --project team/web --detailed
      with wildcards; a base is known by its whole reference, its repository, or the last part of either
  imglife app list --output csv > applications.csv
      for a spreadsheet

Exit codes:
  0  listed, even when nothing fits
  1  the records cannot be read
  2  wrong usage or configuration")]
struct ListArguments {
    /// Only records of this project
    #[arg(long, value_name = "PATH")]
    project: Option<String>,

    /// Only records that name this base; `*` and `?` are wildcards
    #[arg(long, value_name = "REF|GLOB")]
    base: Option<String>,

    /// Also show revision, platforms, digests and fields
    #[arg(long)]
    detailed: bool,

    /// The form of the list on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: ListForm,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ListForm {
    #[default]
    Text,
    Json,
    Csv,
}

/// Remove records that are no longer of use
///
/// With `--keep N` the newest N records of each image repository stay, by the time they were built.
/// With `--orphans` records go whose image the registry does not have any more: only where the
/// repository can be listed and the registry says that there is no such image; whatever else it
/// answers, the record stays. A base that no record names is no longer kept by `cleanup`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife app purge --keep 5 --dry-run
      which records would go
  imglife app purge --keep 5 --project team/web
      of one project only
  imglife app purge --orphans
      records of images that were deleted

Exit codes:
  0  done
  1  records cannot be read, or one could not be removed or looked after
  2  wrong usage or configuration; nothing was done")]
struct PurgeArguments {
    /// How many records of each image repository stay
    #[arg(long, value_name = "N", required_unless_present = "orphans")]
    keep: Option<usize>,

    /// Only records of this project
    #[arg(long, value_name = "PATH")]
    project: Option<String>,

    /// Also remove records of images that no longer exist
    #[arg(long)]
    orphans: bool,

    /// Print the whole report of what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// The form of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputForm,
}

impl AppArguments {
    pub(super) fn command(self) -> Command {
        match self.command {
            AppCommand::List(ListArguments {
                project,
                base,
                detailed,
                output,
            }) => {
                let output = match output {
                    ListForm::Text => ListOutput::Text,
                    ListForm::Json => ListOutput::Json,
                    ListForm::Csv => ListOutput::Csv,
                };
                Command::AppList(AppListOptions {
                    project,
                    base,
                    detailed,
                    output,
                })
            }
            AppCommand::Purge(PurgeArguments {
                keep,
                project,
                orphans,
                dry_run,
                output,
            }) => {
                let mode = if dry_run { Mode::DryRun } else { Mode::Apply };
                Command::AppPurge(AppPurgeOptions {
                    mode,
                    keep,
                    project,
                    orphans,
                    output: output.into(),
                })
            }
        }
    }
}
