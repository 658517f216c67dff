//! `imglife sync`.

use std::path::PathBuf;

use clap::Args;

use super::output::{OutputForm, mode};
use super::shard::ShardArgument;
use crate::app::SyncOptions;
use crate::error::Failure;
use crate::model::Variables;

/// Mirror upstream tags
///
/// For each entry of the configuration's `sync` section: lists the tags of the source, selects
/// those that are wanted, and copies what the target lacks, every image bit for bit with its tag
/// written last (an index of which only some `platforms` are kept is written anew, unless
/// `platform_mode` is `sparse`). Nothing is ever deleted. An item that fails does not stop the
/// others: the report names it, its cause and whether the source or the target is at fault.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife sync
      mirror everything
  imglife sync --list
      which tags are selected and would be copied, and how many each rule left out
  imglife sync --dry-run --only '*/alpine' --only golang
      the whole report for some of the entries, without changing anything
  imglife sync --verify
      after a registry lost data: check that what its tags point at is really there, and repair it
  imglife sync --shard 2/3
      the second of three parts, so that three runners share the work
  imglife sync --output json --report-junit sync.xml
      the report for programs on stdout, and one for the CI server in a file

Exit codes:
  0  every selected tag is at the target
  1  an entry or a tag failed; the others are done
  2  wrong usage or configuration; nothing was done")]
pub(super) struct SyncArguments {
    /// Print the selected tags and what would become of them, one a line, and how many each rule
    /// left out, and stop
    #[arg(long, conflicts_with = "dry_run")]
    list: bool,

    /// Print the whole report of what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Only entries whose source or target matches, as a whole or in its last part; `*` and `?` are
    /// wildcards (can be repeated)
    #[arg(long, value_name = "GLOB")]
    only: Vec<String>,

    /// Only the I-th of N equal parts of the entries; `auto` takes both from `CI_NODE_INDEX` and
    /// `CI_NODE_TOTAL`
    #[arg(long, value_name = "I/N|auto")]
    shard: Option<ShardArgument>,

    /// Look into every image at the target and bring parts of it that are missing there
    #[arg(long)]
    verify: bool,

    /// The form of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputForm,

    /// Write a JUnit report, a case for each tag
    #[arg(long, value_name = "FILE")]
    report_junit: Option<PathBuf>,

    /// Write the numbers of the run in the OpenMetrics format
    #[arg(long, value_name = "FILE")]
    report_metrics: Option<PathBuf>,
}

impl SyncArguments {
    /// Returns the arguments, narrowed further as the run that this is a step of is.
    pub(super) fn within(mut self, shard: Option<ShardArgument>) -> SyncArguments {
        self.shard = self.shard.or(shard);
        self
    }

    /// Returns what is asked for. Fails when `--shard auto` cannot tell the part.
    pub(super) fn options(self, variables: &Variables) -> Result<SyncOptions, Failure> {
        Ok(SyncOptions {
            mode: mode(self.list, self.dry_run),
            only: self.only,
            shard: self.shard.map(|shard| shard.shard(variables)).transpose()?,
            verify: self.verify,
            output: self.output.into(),
            report_junit: self.report_junit,
            report_metrics: self.report_metrics,
        })
    }
}
