//! `imglife status`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::app::{FailOn, StatusForm, StatusOptions};

/// Report on mirrors, base images and applications
///
/// Prints three tables: mirrors, base images and registered applications, each with its status and
/// end-of-life date; below them a diagram of which image is built on which, and a timeline of
/// end-of-life dates. The report contains no timestamps, so it only changes when the state of an
/// image changes. In an existing file, only the text between `<!-- imglife:begin -->` and `<!--
/// imglife:end -->` is replaced; a file without these markers gets the report at its end. If a
/// registry cannot be listed, the command fails and writes no file.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife status
      print the report as Markdown
  imglife status --output README.md --publish
      in a pipeline: update the README, and publish the newest bases for `imglife check`
  imglife status --offline --fail-on warning
      use only the configuration and the records; exit with 3 if an image reaches its end of life soon
  imglife status --format json --output status.json
      write the report as JSON

Exit codes:
  0  success
  1  a registry or the records could not be read, or a file could not be written; no report was written
  2  invalid usage or configuration; nothing was changed
  3  success, but an image or application fails the condition of `--fail-on`")]
pub(super) struct StatusArguments {
    /// File to write the report to, instead of stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace the whole file, not only the text between the markers
    #[arg(long, requires = "output")]
    overwrite: bool,

    /// Format of the report
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    format: StatusFormArgument,

    /// Use only the configuration and the records, no OCI registry
    #[arg(long, conflicts_with = "publish")]
    offline: bool,

    /// Upload the inventory to the Package Registry, where `imglife check` reads the newest bases
    #[arg(long)]
    publish: bool,

    /// Exit with 3 if an image or application has this status
    #[arg(long, value_name = "WHAT", value_enum)]
    fail_on: Option<FailOnArgument>,

    /// Write a JUnit report with a test case for each image and application
    #[arg(long, value_name = "FILE")]
    report_junit: Option<PathBuf>,

    /// Write metrics in OpenMetrics format: images by status, and their end-of-life dates
    #[arg(long, value_name = "FILE")]
    report_metrics: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum StatusFormArgument {
    /// Page with tables and Mermaid diagrams
    #[default]
    Markdown,
    /// Tables as JSON (`imglife/status/v1`)
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOnArgument {
    /// End of life within `lifecycle.warn_days`, or in the past
    Warning,
    /// End of life in the past
    Expired,
}

impl StatusArguments {
    pub(super) fn options(self) -> StatusOptions {
        StatusOptions {
            file: self.output,
            overwrite: self.overwrite,
            form: match self.format {
                StatusFormArgument::Markdown => StatusForm::Markdown,
                StatusFormArgument::Json => StatusForm::Json,
            },
            offline: self.offline,
            publish: self.publish,
            fail_on: self.fail_on.map(|violation| match violation {
                FailOnArgument::Warning => FailOn::Warning,
                FailOnArgument::Expired => FailOn::Expired,
            }),
            report_junit: self.report_junit,
            report_metrics: self.report_metrics,
        }
    }
}
