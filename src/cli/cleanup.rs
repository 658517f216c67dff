//! `imglife cleanup`.

use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::Args;

use super::output::OutputForm;
use super::shard::ShardArgument;
use crate::app::{CleanupOptions, Mode};
use crate::error::Failure;
use crate::model::Variables;

/// Delete tags that nobody needs any more
///
/// Applies the configuration's `retention` to every base of `build.images` and every target of
/// `sync.entries`. Whatever the rules say, kept are: what a build record names, what `build` would
/// produce or `sync` would select now, what is younger than a day, and whatever cannot be told.
/// Signatures and attestations live and die with their image. Nothing is deleted when the records
/// cannot be read, or there is none that names a base.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife cleanup --list
      what would be deleted, one a line
  imglife cleanup --dry-run
      the whole report, with the reason for every tag that stays
  imglife cleanup --dry-run --now 2027-01-01
      the same, as it would be on that day
  imglife cleanup --only alpine --report cleanup.json
      clean up one image, and write down what was deleted
  imglife cleanup --max-delete-percent 90
      for the first time, when there is much to delete

Exit codes:
  0  done
  1  a tag or a repository failed, or the guard stopped everything
  2  wrong usage or configuration, or no `retention`; nothing was done")]
pub(super) struct CleanupArguments {
    /// Print the tags that would be deleted, one a line, and stop
    #[arg(long, conflicts_with = "dry_run")]
    list: bool,

    /// Print the whole report of what would be deleted, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Go on although the records are incomplete; what the readable ones protect stays protected
    #[arg(long)]
    force: bool,

    /// Only images of this name or repository; `*` and `?` are wildcards (can be repeated)
    #[arg(long, value_name = "GLOB")]
    only: Vec<String>,

    /// Only the I-th of N equal parts of the repositories; `auto` takes both from `CI_NODE_INDEX`
    /// and `CI_NODE_TOTAL`
    #[arg(long, value_name = "I/N|auto")]
    shard: Option<ShardArgument>,

    /// Judge at this date (2027-01-01) or time (RFC 3339); with `--list` or `--dry-run` only
    #[arg(long, value_name = "DATE", value_parser = time)]
    now: Option<DateTime<Utc>>,

    /// Delete at most this share of an image's tags, else none of it
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u8).range(0..=100))]
    max_delete_percent: Option<u8>,

    /// The form of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputForm,

    /// Write the report as JSON, also after a failure
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let date = text
        .parse::<NaiveDate>()
        .map(|date| date.and_time(NaiveTime::MIN).and_utc());
    date.or_else(|_| text.parse())
        .map_err(|_| "it is neither a date such as 2027-01-01 nor a time of RFC 3339".to_owned())
}

impl CleanupArguments {
    /// Returns the arguments, narrowed further as the run that this is a step of is.
    pub(super) fn within(mut self, shard: Option<ShardArgument>) -> CleanupArguments {
        self.shard = self.shard.or(shard);
        self
    }

    /// Returns what is asked for. Fails when `--shard auto` cannot tell the part, or when another
    /// time is given to a run that deletes.
    pub(super) fn options(self, variables: &Variables) -> Result<CleanupOptions, Failure> {
        let mode = match (self.list, self.dry_run) {
            (true, _) => Mode::List,
            (false, true) => Mode::DryRun,
            (false, false) => Mode::Apply,
        };
        if self.now.is_some() && mode == Mode::Apply {
            return Err(
                Failure::usage("`--now` is for looking ahead, not for deleting")
                    .hint("add `--list` or `--dry-run`"),
            );
        }
        Ok(CleanupOptions {
            mode,
            only: self.only,
            shard: self.shard.map(|shard| shard.shard(variables)).transpose()?,
            force: self.force,
            now: self.now,
            max_delete_percent: self.max_delete_percent,
            output: self.output.into(),
            report: self.report,
        })
    }
}
