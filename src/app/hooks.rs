//! The runner of hooks.

use std::sync::Arc;

use super::Mode;
use crate::command::{RefusingRunner, Runner, SystemRunner, UntrustedRunner};
use crate::config::Config;
use crate::hooks::HookRunner;
use crate::process::Process;

/// Returns the runner for the hooks of a step. It starts no program in a mode that changes nothing,
/// nor in an untrusted job without permission. With it, hooks get no secrets.
pub(super) fn hook_runner(config: &Config, process: &Process, mode: Mode) -> HookRunner {
    let permissions = process.variables.permissions();
    let runner: Arc<dyn Runner> = match mode {
        Mode::Apply if !permissions.may_run_commands() => Arc::new(UntrustedRunner),
        Mode::Apply => Arc::new(SystemRunner),
        Mode::List | Mode::DryRun => Arc::new(RefusingRunner),
    };
    HookRunner::new(
        runner,
        process.variables.for_commands(),
        config.directory.clone(),
    )
}
