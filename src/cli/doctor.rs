//! `imglife doctor`.

use clap::Args;

use super::output::OutputFormArgument;
use crate::app::DoctorOptions;

/// Check everything that the configuration needs, and suggest fixes
///
/// Checks hosts, credentials and permissions, the Package Registry, the source of end-of-life data,
/// build engines, emulators, git, programs of hooks, directories and the clock. Doctor changes
/// nothing: it sends only GET and HEAD requests, and permissions that cannot be read are reported
/// as `unknown`. Without a configuration, only this machine is checked.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife doctor
      list problems, and the variable, scope or setting that fixes each
  imglife doctor --output json
      print the report as JSON (`imglife/doctor/v1`)
  imglife --config other.yaml --time-limit 20s doctor
      check another configuration, for at most 20 seconds

Exit codes:
  0  everything that is needed works
  1  a check failed, or doctor was stopped before it finished
  2  invalid usage, or the configuration file cannot be read")]
pub(super) struct DoctorArguments {
    /// Format of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputFormArgument,
}

impl DoctorArguments {
    pub(super) fn options(&self) -> DoctorOptions {
        DoctorOptions {
            output: self.output.into(),
        }
    }
}
