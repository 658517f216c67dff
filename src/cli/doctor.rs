//! `imglife doctor`.

use clap::Args;

use super::output::OutputForm;
use crate::app::DoctorOptions;

/// Test everything that the configuration needs, and say what to do
///
/// Looks at each host, credential and permission, the Package Registry, the source of end-of-life
/// data, engines, emulators, git, the programs of hooks, directories and the clock. Nothing is
/// written anywhere: hosts get GET and HEAD only, and what nobody tells beforehand is `unknown`
/// until the first time. Without a configuration, the machine alone is looked at.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife doctor
      what is missing or wrong, and which variable, scope or setting mends it
  imglife doctor --output json
      the same for programs (`imglife/doctor/v1`)
  imglife --config other.yaml --time-limit 20s doctor
      for another configuration, in at most 20 seconds

Exit codes:
  0  nothing that is needed is missing or wrong
  1  something is; or it was stopped before all was looked at
  2  wrong usage, or the file that was named cannot be read")]
pub(super) struct DoctorArguments {
    /// The form of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputForm,
}

impl DoctorArguments {
    pub(super) fn options(&self) -> DoctorOptions {
        DoctorOptions {
            output: self.output.into(),
        }
    }
}
