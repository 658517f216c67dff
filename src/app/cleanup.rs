//! `cleanup`: from its options and the configuration to places, step, report and exit code.

use std::path::PathBuf;
use std::time::Instant;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::configuration::{lacks, load_configuration};
use super::digest_cache::UserDigestCache;
use super::places::image_places;
use super::records::records;
use super::report_files::ReportFile;
use super::{Global, Mode, Output, Shard, Surroundings, runtime};
use crate::config::Config;
use crate::error::{Exit, Failure};
use crate::model::Repository;
use crate::packages::Records;
use crate::report::json;
use crate::steps::cleanup::{
    self, CleanupExecution, CleanupPolicy, CleanupReport, CleanupScope, ObservedRecords, Observer,
    RecordWatch, RecordsSource, targets,
};
use crate::steps::shard::Only;

/// What a clean-up was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanupOptions {
    pub mode: Mode,
    /// Patterns of `--only`, as written.
    pub only: Vec<String>,
    pub shard: Option<Shard>,
    /// True if a failed safety check does not stop the run.
    pub force: bool,
    /// The time that the rules are judged at, instead of now.
    pub now: Option<DateTime<Utc>>,
    pub max_delete_percent: Option<u8>,
    pub output: Output,
    /// Where the report is written as JSON; relative to the working directory.
    pub report: Option<PathBuf>,
}

/// Runs a clean-up.
pub(super) fn run(
    options: &CleanupOptions,
    global: &Global,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    let process = &surroundings.process;
    let config = load_configuration(global, process)?;
    if config.retention.is_none() {
        return Err(lacks("retention", &config, process).hint(
            "without rules nothing is deleted; `retention: { keep_last: 5 }` is a beginning",
        ));
    }
    if targets(&config).is_empty() {
        return Err(lacks("build.images", &config, process)
            .hint("there are no `sync.entries` either, so there is nothing to clean up"));
    }
    let scope = CleanupScope {
        only: only(&options.only, &config)?,
        shard: options.shard,
    };
    let report_file = options
        .report
        .as_ref()
        .map(|path| ReportFile::prepare(path, &process.directory))
        .transpose()?;
    runtime::run(surroundings.deadline, |cancel| async {
        let report = cleanup(&config, &scope, options, surroundings, cancel).await?;
        surroundings.note(options.mode == Mode::Apply && report.totals.deleted > 0, []);
        // Both are tried: what was deleted should be told somewhere.
        let file = report_file.map(|file| {
            let text = json::versioned("cleanup", &report).map_err(Failure::failed)?;
            file.write(&text)
        });
        let written = [
            surroundings.report(options.output, "cleanup", &report, &report.document()),
            file.unwrap_or(Ok(())),
        ];
        written.into_iter().collect::<Result<(), Failure>>()?;
        Ok(report.exit())
    })
}

/// Returns the names by which `--only` knows each image.
pub(super) fn names(config: &Config) -> Vec<Vec<String>> {
    targets(config)
        .iter()
        .map(|target| target.names(config))
        .collect()
}

fn only(patterns: &[String], config: &Config) -> Result<Only, Failure> {
    let only = Only::below(patterns, &config.directory).map_err(Failure::usage)?;
    let names = names(config);
    only.check(&names).map_err(|error| {
        let mut known: Vec<&str> = names
            .iter()
            .filter_map(|names| names.first())
            .map(String::as_str)
            .collect();
        known.sort_unstable();
        known.dedup();
        Failure::usage(error).hint(format!(
            "images are known by their name or repository: {}",
            known.join(", ")
        ))
    })?;
    Ok(only)
}

async fn cleanup(
    config: &Config,
    scope: &CleanupScope,
    options: &CleanupOptions,
    surroundings: &Surroundings,
    cancel: CancellationToken,
) -> Result<CleanupReport, Failure> {
    let began = Instant::now();
    let sources = config
        .sync
        .iter()
        .flat_map(|sync| sync.entries.iter().map(|entry| entry.source.clone()));
    let targets = targets(config);
    let archives: Vec<Repository> = targets
        .iter()
        .flat_map(|target| target.archives())
        .collect();
    let repositories: Vec<Repository> = targets
        .into_iter()
        .map(|target| target.repository)
        .chain(sources)
        .chain(archives)
        .collect();
    let stores = image_places(config, repositories.iter(), surroundings, options.mode)?;
    let now = options
        .now
        .unwrap_or_else(|| surroundings.process.clock.now());
    let source = Source(
        config
            .registry
            .is_some()
            .then(|| records(config, &surroundings.process, Mode::DryRun))
            .transpose()?,
    );
    let watch = RecordWatch::new(config, &source, options.force);
    let world = async {
        let cache = UserDigestCache::of("cleanup", &surroundings.process, options.mode);
        let observer = Observer {
            stores: &stores,
            cache: &cache,
            progress: &*surroundings.progress,
            now,
        };
        let world = cleanup::observe(config, scope, watch.read().await, observer).await;
        match options.mode {
            Mode::List | Mode::DryRun => world,
            Mode::Apply => {
                cleanup::observe_records(world, config, watch.read().await, observer).await
            }
        }
    };
    let world = tokio::select! {
        world = world => world,
        () = cancel.cancelled() => {
            tracing::warn!("stopped while looking at the registries; nothing was changed");
            return Ok(CleanupReport::stopped(options.mode, began.elapsed()));
        }
    };
    let policy = CleanupPolicy {
        now,
        max_delete_percent: options.max_delete_percent,
        is_forced: options.force,
    };
    let plan = cleanup::plan(&world, &policy);
    let execution = CleanupExecution {
        mode: options.mode,
        stores,
        records: &watch,
        progress: surroundings.progress.clone(),
        cancel,
    };
    let report = CleanupReport::new(&plan, cleanup::execute(&plan, &execution).await);
    Ok(CleanupReport {
        duration: began.elapsed(),
        ..report
    })
}

/// The place that the configuration names for records, where it names one.
struct Source(Option<Records>);

#[async_trait]
impl RecordsSource for Source {
    async fn read(&self) -> ObservedRecords {
        let Some(records) = &self.0 else {
            return ObservedRecords::NotConfigured;
        };
        match records.all().await {
            Ok(reading) => ObservedRecords::Read(reading),
            Err(error) => ObservedRecords::Failed(error),
        }
    }
}
