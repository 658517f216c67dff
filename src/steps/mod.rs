//! The rules of each command, divided into observe, plan, execute and report.
//!
//! `app` creates the stores and clients that the steps use.

use std::time::Duration;

use serde::Serializer;

pub mod apps;
pub mod build;
pub mod check;
pub mod cleanup;
pub mod commit_push;
mod diagnostics;
pub mod doctor;
pub mod eol;
pub mod hooks;
pub mod image;
pub mod junit;
pub mod lineage;
pub mod register;
pub mod shard;
pub mod status;
pub mod sync;

/// Extent of a run. All modes observe, plan and report in the same way; only `execute` differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Print the affected items, one per line.
    List,
    /// Print the complete report without changing anything.
    DryRun,
    /// Apply the plan.
    Apply,
}

/// Serialises a duration in seconds, rounded to milliseconds.
pub(crate) fn seconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1000.0).round() / 1000.0)
}
