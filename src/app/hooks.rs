//! The runner of hooks.

use std::sync::Arc;

use super::Mode;
use crate::command::{RefusingRunner, Runner, SystemRunner};
use crate::config::Config;
use crate::hooks::HookRunner;
use crate::process::Process;

/// Returns the runner for the hooks of a step. It starts no program in a mode that changes nothing.
pub(super) fn hook_runner(config: &Config, process: &Process, mode: Mode) -> HookRunner {
    let runner: Arc<dyn Runner> = match mode {
        Mode::Apply => Arc::new(SystemRunner),
        Mode::List | Mode::DryRun => Arc::new(RefusingRunner),
    };
    HookRunner::new(runner, process.variables.clone(), config.directory.clone())
}
