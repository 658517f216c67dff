//! `imglife eol`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::output::{OutputFormArgument, mode};
use crate::app::{CommandOptions, EolListOptions, EolNotifyOptions, EolUpdateOptions};
use crate::model::env;

/// Track end-of-life dates
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife eol update
      update the data file
  imglife eol list --within 90d
      list products that are past their end of life or reach it within 90 days")]
pub(super) struct EolArguments {
    #[command(subcommand)]
    command: EolSubcommand,
}

#[derive(Debug, Subcommand)]
enum EolSubcommand {
    /// Update the end-of-life data
    ///
    /// Downloads the data of every product in a `lifecycle` of the configuration from
    /// endoflife.date, or from the server set by `lifecycle.api_url`, and writes the data file:
    /// sorted, and only if the data changed. All other commands only read that file. If the
    /// download of a product fails, its old data are kept, and the report lists it. With
    /// `eol_provider: local` nothing is downloaded, and the file is only validated.
    #[command(after_long_help = "\
Examples:
  imglife eol update
      download the data of all configured products and write `eol-data.yaml`
  imglife eol update --dry-run
      show what would change, without writing anything
  imglife eol update --data-file /tmp/eol.yaml --output json
      write another file, and print the report as JSON

Exit codes:
  0  all products are up to date
  1  a product failed and keeps its old data, or the file cannot be read or written
  2  invalid usage or configuration; nothing was changed")]
    Update(UpdateArguments),
    /// List tracked products and their end-of-life dates
    ///
    /// Lists each release cycle of the configured images, sorted by end-of-life date, with its
    /// images. Reads only the configuration and the data file, no registry: for an entry with a
    /// `tag_regex`, all cycles that its tags may belong to are listed. Images without end-of-life
    /// data are listed separately.
    #[command(after_long_help = "\
Examples:
  imglife eol list
      list all images with a `lifecycle`
  imglife eol list --within 90d
      list cycles that ended or end within 90 days, and images without data
  imglife eol list --apps
      also list the affected applications
  imglife eol list --output json
      print the list as JSON

Exit codes:
  0  success, even if cycles have ended
  1  the data file cannot be read
  2  invalid usage or configuration")]
    List {
        /// Only cycles that end within this time, in days (`90d`) or weeks (`12w`)
        #[arg(long, value_name = "TIME", value_parser = days)]
        within: Option<u32>,

        /// Also list the applications that use the images, from their build records
        #[arg(long)]
        apps: bool,

        /// Format of the report on stdout
        #[arg(long, value_name = "FORM", value_enum, default_value_t)]
        output: OutputFormArgument,
    },
    /// Send end-of-life notifications
    ///
    /// Sends a message for each image on the configured days before its end-of-life date
    /// (`lifecycle.notify.at_days`), and every week after it, with the applications that use the
    /// image: to Slack, or as JSON to any webhook. The webhook URLs are read from the environment
    /// variables set in `lifecycle.notify`. Run this command once a day. No message is sent for an
    /// end of life that the configuration accepts (`accept`).
    #[command(after_long_help = "\
Examples:
  imglife eol notify
      send today's messages
  imglife eol notify --dry-run
      show which messages would be sent

Exit codes:
  0  all messages were sent, or there were none to send
  1  a message could not be sent, or the data or records could not be read
  2  invalid usage or configuration; nothing was sent")]
    Notify {
        /// Print the full report of what would be sent, and send nothing
        #[arg(long)]
        dry_run: bool,

        /// Format of the report on stdout
        #[arg(long, value_name = "FORM", value_enum, default_value_t)]
        output: OutputFormArgument,
    },
}

#[derive(Debug, Args)]
pub(super) struct UpdateArguments {
    /// Print the full report of what would change, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// File to update instead of `lifecycle.eol_data_file`
    #[arg(long, value_name = env::PATH)]
    data_file: Option<PathBuf>,

    /// Format of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputFormArgument,
}

impl UpdateArguments {
    pub(super) fn options(self) -> EolUpdateOptions {
        EolUpdateOptions {
            mode: mode(false, self.dry_run),
            data_file: self.data_file,
            output: self.output.into(),
        }
    }
}

impl EolArguments {
    pub(super) fn command(self) -> CommandOptions {
        match self.command {
            EolSubcommand::Update(arguments) => CommandOptions::EolUpdate(arguments.options()),
            EolSubcommand::List {
                within,
                apps,
                output,
            } => CommandOptions::EolList(EolListOptions {
                within_days: within,
                applications: apps,
                output: output.into(),
            }),
            EolSubcommand::Notify { dry_run, output } => {
                CommandOptions::EolNotify(EolNotifyOptions {
                    mode: mode(false, dry_run),
                    output: output.into(),
                })
            }
        }
    }
}

/// Parses a number of days or weeks and returns days.
fn days(text: &str) -> Result<u32, String> {
    let (number, unit) = match text.strip_suffix('w') {
        Some(weeks) => (weeks, 7),
        None => (text.strip_suffix('d').unwrap_or(text), 1),
    };
    // `u32::from_str` accepts a plus sign.
    let number = Some(number)
        .filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|number| number.parse::<u32>().ok());
    number
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| "expected days or weeks, such as `90d` or `12w`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_days_or_weeks() {
        assert_eq!(
            ["90d", "90", "12w", "0d"].map(days),
            [Ok(90), Ok(90), Ok(84), Ok(0)]
        );
        for text in [
            "",
            "d",
            "-1d",
            "+1d",
            "1.5w",
            "3m",
            "99999999999d",
            "4294967295w",
            "1 d",
        ] {
            assert!(days(text).is_err(), "{text}");
        }
    }
}
