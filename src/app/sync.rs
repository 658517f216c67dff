//! `sync`: from its options and the configuration to places, step, report and exit code.

use std::path::PathBuf;

use super::configuration::load_configuration;
use super::{Global, Mode, Output, Shard, Surroundings, runtime};
use crate::error::{Exit, Failure};

/// What a sync was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncOptions {
    pub mode: Mode,
    /// Patterns of `--only`, as written.
    pub only: Vec<String>,
    pub shard: Option<Shard>,
    pub output: Output,
    /// Where a JUnit report is written; relative to the working directory.
    pub report_junit: Option<PathBuf>,
    /// Where an OpenMetrics report is written; relative to the working directory.
    pub report_metrics: Option<PathBuf>,
}

/// Runs a sync.
pub(super) fn run(_: SyncOptions, global: &Global, surroundings: &Surroundings) -> Result<Exit, Failure> {
    let _config = load_configuration(global, &surroundings.process)?;
    runtime::run(|_stop| async { Err(Failure::failed("sync is not wired yet")) })
}
