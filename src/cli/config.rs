//! `imglife config`.

use clap::{Args, Subcommand};

use super::output::OutputForm;
use crate::app::Command;

/// Validate, describe or show the configuration
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife config check
      validate ./imglife.yaml and say which commands it suffices for
  imglife --config other.yaml config check --output json
      the same for another file, for programs
  imglife config schema > imglife.schema.json
      a JSON Schema, for editors that complete and check YAML
  imglife config show
      the configuration with variables and defaults filled in")]
pub(super) struct ConfigArguments {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Validate the configuration and say which commands it suffices for
    ///
    /// All errors are reported in one run, each with its line and what is probably meant. Nothing
    /// outside the file is looked at: `imglife sync --dry-run` shows whether registries answer.
    #[command(after_long_help = "\
Example:
  imglife config check --output json

Exit codes:
  0  the configuration is valid
  2  it is not, or there is none")]
    Check {
        /// The form of the report on stdout
        #[arg(long, value_name = "FORM", value_enum, default_value_t)]
        output: OutputForm,
    },
    /// Print the JSON Schema of the configuration file
    #[command(after_long_help = "\
Example:
  imglife config schema > imglife.schema.json")]
    Schema,
    /// Print the configuration with variables and defaults filled in
    ///
    /// Secrets are never part of the configuration, so none are shown.
    #[command(after_long_help = "\
Example:
  imglife config show")]
    Show,
}

impl ConfigArguments {
    /// Returns whether this validates the configuration and stops, as `--check` does.
    pub(super) fn is_check(&self) -> bool {
        matches!(self.command, ConfigCommand::Check { .. })
    }

    pub(super) fn command(self) -> Command {
        match self.command {
            ConfigCommand::Check { output } => Command::ConfigCheck {
                output: output.into(),
            },
            ConfigCommand::Schema => Command::ConfigSchema,
            ConfigCommand::Show => Command::ConfigShow,
        }
    }
}
