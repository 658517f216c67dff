//! When the hooks of a sync run and what they are told.

use tokio_util::sync::CancellationToken;

use super::report::EntryReport;
use crate::hooks::{HookRunner, HookValues};
use crate::model::hook::{Hook, Placeholder};
use crate::steps::hooks::{HookReport, run_hook};

/// What differs from tag to tag. A hook that names one of these runs once for each tag that
/// changed, any other once.
const PER_TAG: [Placeholder; 3] = [Placeholder::Image, Placeholder::Digest, Placeholder::Tag];

/// Runs the hooks of an entry that changed something.
pub(super) async fn entry_hooks(
    runner: &HookRunner,
    hooks: &[Hook],
    entry: &EntryReport,
    cancel: &CancellationToken,
) -> Vec<HookReport> {
    let whole = HookValues::default()
        .with(Placeholder::Source, &entry.source)
        .with(Placeholder::Target, &entry.target);
    let mut reports = Vec::new();
    for hook in hooks {
        let runs: Vec<HookValues> = if hook.command.contains_any(&PER_TAG) {
            entry
                .changed()
                .map(|item| {
                    let values = whole
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
            vec![whole.clone()]
        };
        for values in &runs {
            if !run_hook(runner, hook, values, cancel, &mut reports).await {
                return reports;
            }
        }
    }
    reports
}

/// Runs hooks that belong to no entry.
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
