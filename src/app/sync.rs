//! `imglife sync`: options, stores, the step, its result.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::configuration::{load_configuration, missing_setting};
use super::digest_cache::UserDigestCache;
use super::hooks::hook_runner;
use super::image_stores::image_stores;
use super::only::checked_only;
use super::report_files::ReportFile;
use super::result::CommandResult;
use super::{CommandContext, GlobalOptions, Mode, OutputForm, Shard, runtime};
use crate::config::{Config, SyncConfig};
use crate::error::Failure;
use crate::report::{junit, openmetrics};
use crate::steps::sync::{self, SyncExecution, SyncReport, SyncScope, SyncStores};

/// Options of `imglife sync`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncOptions {
    pub mode: Mode,
    /// Patterns of `--only`.
    pub only: Vec<String>,
    pub shard: Option<Shard>,
    /// True if images at the target are checked for missing parts.
    pub verify: bool,
    /// True if a tag that a target refuses to move is a failure.
    pub fail_on_drift: bool,
    pub output: OutputForm,
    /// File for a JUnit report, relative to the working directory.
    pub report_junit: Option<PathBuf>,
    /// File for metrics in OpenMetrics format, relative to the working directory.
    pub report_metrics: Option<PathBuf>,
}

/// Runs a sync.
pub(super) fn run(
    options: &SyncOptions,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let process = &context.process;
    let config = load_configuration(global, process)?;
    let Some(entries) = config.sync.as_ref().filter(|sync| !sync.entries.is_empty()) else {
        return Err(missing_setting("sync.entries", &config, process)
            .hint("add an entry with a source, a target, and a `tag` or a `tag_regex`"));
    };
    let scope = SyncScope {
        only: checked_only(
            &options.only,
            &config.directory,
            &names(&config),
            "`--only` matches the target or source of an entry, in full or by its last path component",
        )?,
        shard: options.shard,
        verify: options.verify,
    };
    let prepare =
        |path: &Option<PathBuf>| ReportFile::prepare_if_set(path.as_deref(), &process.directory);
    let (junit_file, metrics_file) = (
        prepare(&options.report_junit)?,
        prepare(&options.report_metrics)?,
    );
    runtime::run(context.deadline, |cancel| async {
        let mut report = sync(&config, entries, &scope, options.mode, context, cancel).await?;
        report.fails_on_drift = options.fail_on_drift;
        let changed =
            options.mode == Mode::Apply && report.totals.copied + report.totals.attachments > 0;
        let result = CommandResult::reported(
            report.exit(),
            options.output,
            "sync",
            &report,
            report.document(),
        )?;
        Ok(result
            .changed(changed)
            .and_file(junit_file, || junit::draw(&report.test_suite()))
            .and_file(metrics_file, || openmetrics::draw(&report.metrics())))
    })
}

/// Returns the names that `--only` can match, for each entry.
pub(super) fn names(config: &Config) -> Vec<Vec<String>> {
    config
        .sync
        .iter()
        .flat_map(|sync| &sync.entries)
        .map(sync::names)
        .collect()
}

pub(super) async fn sync(
    config: &Config,
    entries: &SyncConfig,
    scope: &SyncScope,
    mode: Mode,
    context: &CommandContext,
    cancel: CancellationToken,
) -> Result<SyncReport, Failure> {
    let began = Instant::now();
    let process = &context.process;
    let repositories = entries
        .entries
        .iter()
        .flat_map(|entry| [&entry.source, &entry.target]);
    let stores = image_stores(config, repositories, context, mode)?;
    let digest_cache = Arc::new(UserDigestCache::of("sync", process, mode));
    let stores = SyncStores {
        source: stores.clone(),
        target: stores,
        digest_cache,
    };
    let now = process.clock.now();
    let world = tokio::select! {
        world = sync::observe(entries, scope, &stores, &*context.progress, now) => world,
        () = cancel.cancelled() => {
            tracing::warn!("stopped while reading the registries; nothing was changed");
            return Ok(SyncReport::stopped(mode, began.elapsed()));
        }
    };
    let plan = sync::plan(entries, &world);
    let execution = SyncExecution {
        mode,
        stores,
        progress: context.progress.clone(),
        hooks: hook_runner(config, process, mode),
        cancel,
        now,
    };
    let mut report = sync::execute(entries, &plan, &execution).await;
    report.duration = began.elapsed();
    Ok(report)
}
