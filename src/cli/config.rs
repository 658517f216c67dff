//! `imglife config`.

use clap::{Args, Subcommand};

use super::output::OutputFormArgument;
use crate::app::CommandOptions;

/// Validate, describe or show the configuration
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife config check
      validate ./imglife.yaml, and list the commands that it is complete enough to run
  imglife --config other.yaml config check --output json
      validate another file, and print the result as JSON
  imglife config schema > imglife.schema.json
      write a JSON Schema, for completion and validation in editors
  imglife config show
      print the configuration with variables and defaults filled in")]
pub(super) struct ConfigArguments {
    #[command(subcommand)]
    command: ConfigSubcommand,
}

#[derive(Debug, Subcommand)]
enum ConfigSubcommand {
    /// Validate the configuration, and list the commands that it is complete enough to run
    ///
    /// Reports all errors at once, each with its line and a suggestion. Only the file is checked;
    /// run `imglife doctor` to check hosts and credentials.
    #[command(after_long_help = "\
Example:
  imglife config check --output json

Exit codes:
  0  the configuration is valid
  2  the configuration is invalid or missing")]
    Check {
        /// Format of the report on stdout
        #[arg(long, value_name = "FORM", value_enum, default_value_t)]
        output: OutputFormArgument,
    },
    /// Print the JSON Schema of the configuration file
    #[command(after_long_help = "\
Example:
  imglife config schema > imglife.schema.json")]
    Schema,
    /// Print the configuration with variables and defaults filled in
    ///
    /// The configuration contains no secrets, so none are printed.
    #[command(after_long_help = "\
Example:
  imglife config show")]
    Show,
}

impl ConfigArguments {
    /// Returns true if the command only validates the configuration, like `--check`.
    pub(super) fn is_check(&self) -> bool {
        matches!(self.command, ConfigSubcommand::Check { .. })
    }

    pub(super) fn command(self) -> CommandOptions {
        match self.command {
            ConfigSubcommand::Check { output } => CommandOptions::ConfigCheck {
                output: output.into(),
            },
            ConfigSubcommand::Schema => CommandOptions::ConfigSchema,
            ConfigSubcommand::Show => CommandOptions::ConfigShow,
        }
    }
}
