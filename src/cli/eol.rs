//! `imglife eol`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::output::{OutputForm, mode};
use crate::app::{Command, EolListOptions, EolNotifyOptions, EolUpdateOptions};

/// Know what ends when
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife eol update
      bring the data file up to date
  imglife eol list --within 90d
      what is over, or will be within three months")]
pub(super) struct EolArguments {
    #[command(subcommand)]
    command: EolCommand,
}

#[derive(Debug, Subcommand)]
enum EolCommand {
    /// Bring the end-of-life data up to date
    ///
    /// Asks endoflife.date, or the copy of it that `lifecycle.api_url` names, for every product
    /// that a `lifecycle` of the configuration names, and writes the data file: sorted, and only
    /// when the data have changed. Every other command reads that file and asks nobody. A product
    /// that cannot be had keeps its old data and is named. With `eol_provider: local` nobody is
    /// asked: the file is checked.
    #[command(after_long_help = "\
Examples:
  imglife eol update
      ask for every configured product and write `eol-data.yaml`
  imglife eol update --dry-run
      what would change, without writing anything
  imglife eol update --data-file /tmp/eol.yaml --output json
      into another file, with a report for programs

Exit codes:
  0  all products are up to date
  1  a product failed and keeps its old data, or the file cannot be read or written
  2  wrong usage or configuration; nothing was done")]
    Update(UpdateArguments),
    /// List what is looked after, and when it ends
    ///
    /// Each release cycle of a configured image, the soonest end first, with the images that are of
    /// it. Reads the configuration and the data file and asks nobody: of an entry with a
    /// `tag_regex` the cycles are listed that its tags may be of. Images of which nothing is known
    /// are named.
    #[command(after_long_help = "\
Examples:
  imglife eol list
      everything that has a `lifecycle`
  imglife eol list --within 90d
      what is over, or will be within 90 days, and what nothing is known of
  imglife eol list --apps
      with the applications that are affected
  imglife eol list --output json
      for programs

Exit codes:
  0  listed, whatever is over
  1  the data file cannot be read
  2  wrong usage or configuration")]
    List {
        /// Only what ends within this time, in days (`90d`) or weeks (`12w`)
        #[arg(long, value_name = "TIME", value_parser = days)]
        within: Option<u32>,

        /// Also list the applications that stand on it, by their records
        #[arg(long)]
        apps: bool,

        /// The form of the report on stdout
        #[arg(long, value_name = "FORM", value_enum, default_value_t)]
        output: OutputForm,
    },
    /// Tell people what ends
    ///
    /// Sends a message for each image on the days of `lifecycle.notify.at_days` before an end, and
    /// every week after it, with the applications that stand on the image: to Slack, and to any
    /// webhook as JSON. The addresses are in the variables that `lifecycle.notify` names. Run it
    /// once a day. What is accepted (`accept`) is not told of.
    #[command(after_long_help = "\
Examples:
  imglife eol notify
      send the messages of today
  imglife eol notify --dry-run
      what would be sent

Exit codes:
  0  sent, or there was nothing to send
  1  a message could not be sent, or the data or records not be read
  2  wrong usage or configuration; nothing was sent")]
    Notify {
        /// Print the whole report of what would be sent, and send nothing
        #[arg(long)]
        dry_run: bool,

        /// The form of the report on stdout
        #[arg(long, value_name = "FORM", value_enum, default_value_t)]
        output: OutputForm,
    },
}

#[derive(Debug, Args)]
pub(super) struct UpdateArguments {
    /// Print the whole report of what would change, and write nothing
    #[arg(long)]
    dry_run: bool,

    /// The file to bring up to date, instead of `lifecycle.eol_data_file`
    #[arg(long, value_name = "PATH")]
    data_file: Option<PathBuf>,

    /// The form of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputForm,
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
    pub(super) fn command(self) -> Command {
        match self.command {
            EolCommand::Update(arguments) => Command::EolUpdate(arguments.options()),
            EolCommand::List {
                within,
                apps,
                output,
            } => Command::EolList(EolListOptions {
                within_days: within,
                applications: apps,
                output: output.into(),
            }),
            EolCommand::Notify { dry_run, output } => Command::EolNotify(EolNotifyOptions {
                mode: mode(false, dry_run),
                output: output.into(),
            }),
        }
    }
}

/// Returns a time in days.
fn days(text: &str) -> Result<u32, String> {
    let (number, unit) = match text.strip_suffix('w') {
        Some(weeks) => (weeks, 7),
        None => (text.strip_suffix('d').unwrap_or(text), 1),
    };
    // `u32::from_str` takes a plus sign.
    let number = Some(number)
        .filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|number| number.parse::<u32>().ok());
    number
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| "give days or weeks, as in `90d` or `12w`".to_owned())
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
