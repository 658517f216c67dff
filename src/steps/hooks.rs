//! Running the hooks of a step in order, and their results in reports.

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::hooks::{HookRunner, HookValues};
use crate::model::hook::Hook;

/// Result of a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HookReport {
    pub command: String,
    /// True if a failure of the hook does not fail the run.
    pub tolerated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl HookReport {
    /// Returns true if the hook failed and its failure is not tolerated.
    pub fn failed(&self) -> bool {
        self.error.is_some() && !self.tolerated
    }

    /// Returns the line of a report about the failure, or `None` if the hook succeeded.
    pub fn problem(&self) -> Option<String> {
        let severity = if self.tolerated { "warning" } else { "error" };
        self.error
            .as_ref()
            .map(|error| format!("{severity}: hook `{}`: {error}", self.command))
    }
}

/// Runs a hook and adds its result to `reports`. Returns true if the next hook may run.
pub async fn run_hook(
    runner: &HookRunner,
    hook: &Hook,
    values: &HookValues,
    cancel: &CancellationToken,
    reports: &mut Vec<HookReport>,
) -> bool {
    if cancel.is_cancelled() {
        return false;
    }
    let result = tokio::select! {
        result = runner.run(hook, values) => result.map_err(|error| crate::error::chain(&error)),
        () = cancel.cancelled() => Err("interrupted".to_owned()),
    };
    let report = HookReport {
        command: runner.shown(&hook.command),
        tolerated: hook.continue_on_error,
        error: result.err(),
    };
    let go_on = !report.failed();
    reports.push(report);
    go_on
}
