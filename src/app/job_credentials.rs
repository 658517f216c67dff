//! Credentials of a run for registries.

use std::sync::Arc;

use super::target_branch::TargetBranch;
use crate::command::SystemRunner;
use crate::config::Config;
use crate::credentials::StandardCredentials;
use crate::process::Process;

/// Returns the credentials that `process` has for registries.
pub(super) fn standard_credentials(config: &Config, process: &Process) -> StandardCredentials {
    // A credential helper only reads, so programs may run in every mode.
    let credentials = StandardCredentials::new(process.variables.clone(), Arc::new(SystemRunner));
    if process.variables.permissions().is_untrusted() {
        let reviewed = TargetBranch::new(config.file.as_deref(), process);
        credentials.with_reviewed(Arc::new(reviewed))
    } else {
        credentials
    }
}
