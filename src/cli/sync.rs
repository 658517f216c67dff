//! `imglife sync`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::output::{OutputFormArgument, mode};
use super::shard::ShardArgument;
use crate::app::SyncOptions;
use crate::error::Failure;
use crate::model::Variables;

/// Mirror upstream tags
///
/// For each entry in the `sync` section of the configuration: lists the tags of the source, selects
/// the configured ones, and copies those that are missing or outdated at the target. Images are
/// copied bit for bit, and the tag is written last. (An index that is limited to some `platforms`
/// is rewritten, unless `platform_mode` is `sparse`.) Sync never deletes anything. A failed item
/// does not stop the others; the report shows its cause, and whether the source or the target
/// failed.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife sync
      mirror all entries
  imglife sync --list
      list the selected tags and what would be done with them
  imglife sync --dry-run --only '*/alpine' --only golang
      show the full report for some entries, without changing anything
  imglife sync --verify
      find and repair images of which the target registry lost data
  imglife sync --shard 2/3
      mirror the second of three parts, to share the work between three runners
  imglife sync --output json --report-junit sync.xml
      print the report as JSON, and write a JUnit report for the CI server

Exit codes:
  0  every selected tag is at the target
  1  an entry or a tag failed; the others are done
  2  invalid usage or configuration; nothing was changed")]
pub(super) struct SyncArguments {
    /// List the selected tags and the planned action for each, and how many tags each rule excluded
    #[arg(long, conflicts_with = "dry_run")]
    list: bool,

    /// Print the full report of what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Only entries whose source or target matches, in full or by its last path component; `*` and
    /// `?` are wildcards (can be repeated)
    #[arg(long, value_name = "GLOB")]
    only: Vec<String>,

    /// Process only part I of N equal parts of the entries; `auto` reads both from `CI_NODE_INDEX`
    /// and `CI_NODE_TOTAL`
    #[arg(long, value_name = "I/N|auto")]
    shard: Option<ShardArgument>,

    /// Check that every image at the target is complete, and copy missing parts
    #[arg(long)]
    verify: bool,

    /// Fail if a tag moved upstream and the target refuses to move it; otherwise this is a warning
    #[arg(long, value_name = "CONDITION", value_enum)]
    fail_on: Option<SyncFailOnArgument>,

    /// Format of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputFormArgument,

    /// Write a JUnit report with a test case for each tag
    #[arg(long, value_name = "FILE")]
    report_junit: Option<PathBuf>,

    /// Write metrics of the run in OpenMetrics format
    #[arg(long, value_name = "FILE")]
    report_metrics: Option<PathBuf>,
}

/// Values of `--fail-on`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SyncFailOnArgument {
    /// A tag moved upstream and the target refuses to move it
    Drift,
}

impl SyncArguments {
    /// Returns the arguments with the shard of the run, unless they have their own.
    pub(super) fn within(mut self, shard: Option<ShardArgument>) -> SyncArguments {
        self.shard = self.shard.or(shard);
        self
    }

    /// Returns the options. Fails when `--shard auto` is used without the variables of a CI job.
    pub(super) fn options(self, variables: &Variables) -> Result<SyncOptions, Failure> {
        Ok(SyncOptions {
            mode: mode(self.list, self.dry_run),
            only: self.only,
            shard: self.shard.map(|shard| shard.shard(variables)).transpose()?,
            verify: self.verify,
            fail_on_drift: self.fail_on.is_some(),
            output: self.output.into(),
            report_junit: self.report_junit,
            report_metrics: self.report_metrics,
        })
    }
}
