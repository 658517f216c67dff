//! `imglife cleanup`.

use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::Args;

use super::output::{OutputFormArgument, mode};
use super::shard::ShardArgument;
use crate::app::{CleanupOptions, Mode};
use crate::error::Failure;
use crate::model::Variables;

/// Delete old tags that are no longer used
///
/// Applies the `retention` rules of the configuration to every base in `build.images` and every
/// target in `sync.entries`. Some tags are always kept: tags that a build record refers to, tags
/// that `build` would produce or `sync` would select now, tags younger than a day, and tags about
/// which anything is unknown. Signatures and attestations are deleted together with their image.
/// If the build records cannot be read, or none of them refers to a base, nothing is deleted.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife cleanup --list
      list the tags that would be deleted
  imglife cleanup --dry-run
      show the full report, with the reason why each tag is kept
  imglife cleanup --dry-run --now 2027-01-01
      show the report as of that date
  imglife cleanup --only alpine --report cleanup.json
      clean up one image, and write the report to a file
  imglife cleanup --max-delete-percent 90
      allow the first cleanup to delete most tags
  imglife cleanup --undo 20270101T020000Z-3f9a1c
      restore the tags that this run deleted

Exit codes:
  0  success
  1  a tag or a repository failed, or a safety check stopped the cleanup
  2  invalid usage or configuration, or no `retention`; nothing was changed")]
pub(super) struct CleanupArguments {
    /// List the tags that would be deleted
    #[arg(long, conflicts_with = "dry_run")]
    list: bool,

    /// Print the full report of what would be deleted, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Continue although some build records cannot be read; tags of readable records stay protected
    #[arg(long)]
    force: bool,

    /// Only images with this name or repository; `*` and `?` are wildcards (can be repeated)
    #[arg(long, value_name = "GLOB")]
    only: Vec<String>,

    /// Process only part I of N equal parts of the repositories; `auto` reads both from
    /// `CI_NODE_INDEX` and `CI_NODE_TOTAL`
    #[arg(long, value_name = "I/N|auto")]
    shard: Option<ShardArgument>,

    /// Apply the rules as of this date (2027-01-01) or time (RFC 3339); requires `--list` or
    /// `--dry-run`
    #[arg(long, value_name = "DATE", value_parser = time)]
    now: Option<DateTime<Utc>>,

    /// Delete nothing of an image if more than this percentage of its tags would be deleted
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u8).range(0..=100))]
    max_delete_percent: Option<u8>,

    /// Start nothing new after this number of requests to registries; the next run goes on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_requests: Option<u64>,

    /// Restore the tags that a run deleted (all tags of the latest run, unless a RUN or TAG is
    /// named) and hold them for 30 days
    #[arg(long, value_name = "RUN|TAG", num_args = 0.., conflicts_with_all = ["force", "only", "shard", "now", "max_delete_percent", "max_requests"])]
    undo: Option<Vec<String>>,

    /// End the hold on restored tags (all, unless a TAG is named)
    #[arg(long, value_name = "TAG", num_args = 0.., conflicts_with_all = ["undo", "list", "dry_run", "force", "only", "shard", "now", "max_delete_percent", "max_requests", "report"])]
    release: Option<Vec<String>>,

    /// Format of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputFormArgument,

    /// Write the report as JSON, even after a failure
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let date = text
        .parse::<NaiveDate>()
        .map(|date| date.and_time(NaiveTime::MIN).and_utc());
    date.or_else(|_| text.parse())
        .map_err(|_| "expected a date such as 2027-01-01 or a time in RFC 3339 format".to_owned())
}

impl CleanupArguments {
    /// Returns the arguments with the shard of the run, unless they have their own.
    pub(super) fn within(mut self, shard: Option<ShardArgument>) -> CleanupArguments {
        self.shard = self.shard.or(shard);
        self
    }

    /// Returns the options. Fails when `--shard auto` is used without the variables of a CI job, or
    /// when `--now` is used without `--list` or `--dry-run`.
    pub(super) fn options(self, variables: &Variables) -> Result<CleanupOptions, Failure> {
        let mode = mode(self.list, self.dry_run);
        if self.now.is_some() && mode == Mode::Apply {
            return Err(Failure::usage("`--now` cannot be used to delete tags")
                .hint("add `--list` or `--dry-run`"));
        }
        Ok(CleanupOptions {
            mode,
            only: self.only,
            shard: self.shard.map(|shard| shard.shard(variables)).transpose()?,
            force: self.force,
            now: self.now,
            max_delete_percent: self.max_delete_percent,
            max_requests: self.max_requests,
            undo: self.undo,
            release: self.release,
            output: self.output.into(),
            report: self.report,
        })
    }
}
