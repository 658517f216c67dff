//! `sync`: from its options and the configuration to places, step, report and exit code.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::configuration::{lacks, load_configuration};
use super::digest_cache::UserDigestCache;
use super::places::image_places;
use super::report_files::ReportFile;
use super::{Global, Mode, Output, Shard, Surroundings, runtime};
use crate::command::{RefusingRunner, Runner, SystemRunner};
use crate::config::{Config, SyncConfig};
use crate::error::{Exit, Failure};
use crate::hooks::HookRunner;
use crate::report::{junit, openmetrics};
use crate::steps::shard::Only;
use crate::steps::sync::{self, Execution, Places, Scope, SyncReport};

/// What a sync was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncOptions {
    pub mode: Mode,
    /// Patterns of `--only`, as written.
    pub only: Vec<String>,
    pub shard: Option<Shard>,
    /// Whether images that are at the target are looked into for missing parts.
    pub verify: bool,
    pub output: Output,
    /// Where a JUnit report is written; relative to the working directory.
    pub report_junit: Option<PathBuf>,
    /// Where an OpenMetrics report is written; relative to the working directory.
    pub report_metrics: Option<PathBuf>,
}

/// Runs a sync.
pub(super) fn run(
    options: &SyncOptions,
    global: &Global,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    let process = &surroundings.process;
    let config = load_configuration(global, process)?;
    let Some(entries) = config.sync.as_ref().filter(|sync| !sync.entries.is_empty()) else {
        return Err(lacks("sync.entries", &config, process)
            .hint("an entry names a source, a target, and a `tag` or a `tag_regex`"));
    };
    let scope = Scope {
        only: only(&options.only, &config.directory, entries)?,
        shard: options.shard,
        verify: options.verify,
    };
    let prepare = |path: &Option<PathBuf>| {
        path.as_ref()
            .map(|path| ReportFile::prepare(path, &process.directory))
            .transpose()
    };
    let (junit_file, metrics_file) = (
        prepare(&options.report_junit)?,
        prepare(&options.report_metrics)?,
    );
    runtime::run(surroundings.deadline, |cancel| async {
        let report = sync(&config, entries, &scope, options.mode, surroundings, cancel).await?;
        surroundings.note(
            options.mode == Mode::Apply && report.totals.copied + report.totals.attachments > 0,
            [],
        );
        // All are tried: a full disk under one is no reason to lose what was done from the others.
        let written = [
            surroundings.report(options.output, "sync", &report, &report.document()),
            junit_file.map_or(Ok(()), |file| {
                file.write(&junit::draw(&report.test_suite()))
            }),
            metrics_file.map_or(Ok(()), |file| {
                file.write(&openmetrics::draw(&report.metrics()))
            }),
        ];
        written.into_iter().collect::<Result<(), Failure>>()?;
        Ok(report.exit())
    })
}

/// Returns the names by which `--only` knows each entry.
pub(super) fn names(config: &Config) -> Vec<Vec<String>> {
    config
        .sync
        .iter()
        .flat_map(|sync| &sync.entries)
        .map(sync::names)
        .collect()
}

fn only(patterns: &[String], directory: &Path, entries: &SyncConfig) -> Result<Only, Failure> {
    let only = Only::below(patterns, directory).map_err(Failure::usage)?;
    let names: Vec<Vec<String>> = entries.entries.iter().map(sync::names).collect();
    only.check(&names).map_err(|error| {
        let mut known: Vec<&str> = names
            .iter()
            .filter_map(|names| names.first())
            .map(String::as_str)
            .collect();
        known.sort_unstable();
        known.dedup();
        Failure::usage(error).hint(format!(
            "entries are known by their target or source, whole or by the last part: {}",
            known.join(", ")
        ))
    })?;
    Ok(only)
}

async fn sync(
    config: &Config,
    entries: &SyncConfig,
    scope: &Scope,
    mode: Mode,
    surroundings: &Surroundings,
    cancel: CancellationToken,
) -> Result<SyncReport, Failure> {
    let began = Instant::now();
    let process = &surroundings.process;
    let repositories = entries
        .entries
        .iter()
        .flat_map(|entry| [&entry.source, &entry.target]);
    let stores = image_places(config, repositories, surroundings, mode)?;
    let memory = Arc::new(UserDigestCache::of("sync", process, mode));
    let places = Places {
        source: stores.clone(),
        target: stores,
        memory,
    };
    let now = process.clock.now();
    let world = tokio::select! {
        world = sync::observe(entries, scope, &places, &*surroundings.progress, now) => world,
        () = cancel.cancelled() => {
            tracing::warn!("stopped while looking at the registries; nothing was changed");
            return Ok(SyncReport::stopped(mode, began.elapsed()));
        }
    };
    let plan = sync::plan(entries, &world);
    let runner: Arc<dyn Runner> = if mode == Mode::Apply {
        Arc::new(SystemRunner)
    } else {
        Arc::new(RefusingRunner)
    };
    let hooks = HookRunner::new(runner, process.variables.clone(), config.directory.clone());
    let execution = Execution {
        mode,
        places,
        progress: surroundings.progress.clone(),
        hooks,
        cancel,
        now,
    };
    let mut report = sync::execute(entries, &plan, &execution).await;
    report.duration = began.elapsed();
    Ok(report)
}
