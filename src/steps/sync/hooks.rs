//! Hooks of a sync: the events that start them, and the values of their placeholders.

use tokio_util::sync::CancellationToken;

use super::report::SyncEntryReport;
use crate::hooks::{HookRunner, HookValues};
use crate::model::hook::{Hook, Placeholder};
use crate::steps::hooks::{HookReport, run_hook};

/// Placeholders that have a value for each tag. A hook that uses one of them runs once for each
/// copied tag; any other hook runs once for its entry.
const PER_TAG: [Placeholder; 3] = [Placeholder::Image, Placeholder::Digest, Placeholder::Tag];

/// Runs the hooks of an entry that copied at least one tag. Stops after the first failure, except
/// of hooks with `continue_on_error`.
pub(super) async fn entry_hooks(
    runner: &HookRunner,
    hooks: &[Hook],
    entry: &SyncEntryReport,
    cancel: &CancellationToken,
) -> Vec<HookReport> {
    let entry_values = HookValues::default()
        .with(Placeholder::Source, &entry.source)
        .with(Placeholder::Target, &entry.target);
    let mut reports = Vec::new();
    for hook in hooks {
        let runs: Vec<HookValues> = if hook.command.contains_any(&PER_TAG) {
            entry
                .copied()
                .map(|item| {
                    let values = entry_values
                        .clone()
                        .with(
                            Placeholder::Image,
                            &format!("{}:{}", entry.target, item.stored_as()),
                        )
                        .with(Placeholder::Tag, item.stored_as());
                    match &item.digest {
                        Some(digest) => values.with(Placeholder::Digest, digest),
                        None => values,
                    }
                })
                .collect()
        } else {
            vec![entry_values.clone()]
        };
        for values in &runs {
            if !run_hook(runner, hook, values, cancel, &mut reports).await {
                return reports;
            }
        }
    }
    reports
}

/// Runs the hooks that follow all entries.
pub(super) async fn run_hooks(
    runner: &HookRunner,
    hooks: &[Hook],
    cancel: &CancellationToken,
) -> Vec<HookReport> {
    let mut reports = Vec::new();
    for hook in hooks {
        if !run_hook(runner, hook, &HookValues::default(), cancel, &mut reports).await {
            break;
        }
    }
    reports
}
