//! `imglife status`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::app::{FailOn, StatusForm, StatusOptions};

/// Report what there is, who uses it, and when it ends
///
/// Three tables: mirrors, base images, and the applications that were registered, each with its end
/// of life and how it stands; below them who stands on what, and what ends when. Nothing is in it
/// that changes by itself, so a commit of it says that something has changed. In a file that is
/// there already only what is between `<!-- imglife:begin -->` and `<!-- imglife:end -->` is
/// replaced; a file without these lines gets the report at its end. A registry that cannot be
/// listed fails the whole, and no file is written.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife status
      print the report as Markdown
  imglife status --output README.md --publish
      in a pipeline: bring the README up to date, and tell `imglife check` what the newest bases are
  imglife status --offline --fail-on warning
      by configuration and records alone; exit code 3 when something ends soon
  imglife status --format json --output status.json
      for programs

Exit codes:
  0  reported
  1  a registry or the records could not be read, or a file not be written; no report was written
  2  wrong usage or configuration; nothing was done
  3  reported, and something is as `--fail-on` says")]
pub(super) struct StatusArguments {
    /// The file that the report is put into, instead of stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace the whole file, not only what is between the markers
    #[arg(long, requires = "output")]
    overwrite: bool,

    /// The form of the report
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    format: Form,

    /// Show what is configured and recorded, without asking any OCI registry
    #[arg(long, conflicts_with = "publish")]
    offline: bool,

    /// Store the inventory in the Package Registry, where `imglife check` looks for the newest
    /// bases
    #[arg(long)]
    publish: bool,

    /// End with exit code 3 when something is like this
    #[arg(long, value_name = "WHAT", value_enum)]
    fail_on: Option<Violation>,

    /// Write a JUnit report, a case for each image and application
    #[arg(long, value_name = "FILE")]
    report_junit: Option<PathBuf>,

    /// Write OpenMetrics: images by status, and when they end
    #[arg(long, value_name = "FILE")]
    report_metrics: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A page with tables and Mermaid diagrams
    #[default]
    Markdown,
    /// The tables for programs (`imglife/status/v1`)
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Violation {
    /// It ends within `lifecycle.warn_days`, or has ended
    Warning,
    /// It has ended
    Expired,
}

impl StatusArguments {
    pub(super) fn options(self) -> StatusOptions {
        StatusOptions {
            file: self.output,
            overwrite: self.overwrite,
            form: match self.format {
                Form::Markdown => StatusForm::Markdown,
                Form::Json => StatusForm::Json,
            },
            offline: self.offline,
            publish: self.publish,
            fail_on: self.fail_on.map(|violation| match violation {
                Violation::Warning => FailOn::Warning,
                Violation::Expired => FailOn::Expired,
            }),
            report_junit: self.report_junit,
            report_metrics: self.report_metrics,
        }
    }
}
