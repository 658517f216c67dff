//! `imglife app`.

use clap::{Args, Subcommand, ValueEnum};

use super::output::OutputFormArgument;
use crate::app::{AppListOptions, AppPurgeOptions, CommandOptions, ListOutput, Mode};
use crate::model::env;

/// List and delete build records of applications
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife app list --base 'alpine:3.19*'
      list the applications that use an old base
  imglife app purge --keep 5 --orphans --dry-run
      show which records would be deleted")]
pub(super) struct AppArguments {
    #[command(subcommand)]
    command: AppSubcommand,
}

#[derive(Debug, Subcommand)]
enum AppSubcommand {
    List(ListArguments),
    Purge(PurgeArguments),
}

/// List build records
///
/// Files in the record store that are not valid records are reported as a warning.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife app list
      list all records, sorted by image
  imglife app list --base registry.example.com/bases/alpine:3.21.3-core1.0.0
      list the applications that use a base
  imglife app list --base 'alpine:3.19*' --project team/web --detailed
      use wildcards, which match a reference or a repository, in full or by its last path component
  imglife app list --output csv > applications.csv
      export for a spreadsheet

Exit codes:
  0  success, even if no record matches
  1  the records cannot be read
  2  invalid usage or configuration")]
struct ListArguments {
    /// Only records of this project
    #[arg(long, value_name = env::PATH)]
    project: Option<String>,

    /// Only records with this base; `*` and `?` are wildcards
    #[arg(long, value_name = "REF|GLOB")]
    base: Option<String>,

    /// Also show revision, platforms, digests and fields
    #[arg(long)]
    detailed: bool,

    /// Format of the list on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: RecordListForm,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum RecordListForm {
    #[default]
    Text,
    Json,
    Csv,
}

/// Delete build records that are no longer needed
///
/// With `--keep N`, the newest N records of each image repository are kept, by build time. With
/// `--orphans`, records of deleted images are deleted: only if the repository can be listed and the
/// registry answers that the image does not exist. After any other answer the record is kept.
/// `cleanup` no longer keeps a base that no record refers to. A record that replaced a record of
/// another project in the last 30 days is kept, because it still protects the base of the replaced
/// record.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife app purge --keep 5 --dry-run
      show which records would be deleted
  imglife app purge --keep 5 --project team/web
      delete old records of one project
  imglife app purge --orphans
      delete records of images that no longer exist

Exit codes:
  0  success
  1  the records cannot be read, or one of them could not be checked or deleted
  2  invalid usage or configuration; nothing was changed")]
struct PurgeArguments {
    /// Number of newest records to keep for each image repository, at least 1
    #[arg(long, value_name = "N", required_unless_present = "orphans")]
    keep: Option<usize>,

    /// Only records of this project
    #[arg(long, value_name = env::PATH)]
    project: Option<String>,

    /// Also delete records of images that no longer exist
    #[arg(long)]
    orphans: bool,

    /// Print the full report of what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Format of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputFormArgument,
}

impl AppArguments {
    pub(super) fn command(self) -> CommandOptions {
        match self.command {
            AppSubcommand::List(ListArguments {
                project,
                base,
                detailed,
                output,
            }) => {
                let output = match output {
                    RecordListForm::Text => ListOutput::Text,
                    RecordListForm::Json => ListOutput::Json,
                    RecordListForm::Csv => ListOutput::Csv,
                };
                CommandOptions::AppList(AppListOptions {
                    project,
                    base,
                    detailed,
                    output,
                })
            }
            AppSubcommand::Purge(PurgeArguments {
                keep,
                project,
                orphans,
                dry_run,
                output,
            }) => {
                let mode = if dry_run { Mode::DryRun } else { Mode::Apply };
                CommandOptions::AppPurge(AppPurgeOptions {
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
