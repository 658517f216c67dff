//! `imglife cleanup`: options, stores, the step, its result.

use std::path::PathBuf;
use std::time::Instant;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::configuration::{load_configuration, missing_setting};
use super::digest_cache::UserDigestCache;
use super::image_stores::image_stores;
use super::only::checked_only;
use super::records::records;
use super::report_files::ReportFile;
use super::result::CommandResult;
use super::{CommandContext, GlobalOptions, Mode, OutputForm, Shard, runtime};
use crate::config::Config;
use crate::error::Failure;
use crate::model::Repository;
use crate::packages::Records;
use crate::report::json;
use crate::steps::cleanup::{
    self, CleanupExecution, CleanupPolicy, CleanupReport, CleanupScope, ObservedRecords, Observer,
    RecordWatch, RecordsSource, targets,
};

/// Options of `imglife cleanup`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanupOptions {
    pub mode: Mode,
    /// Patterns of `--only`.
    pub only: Vec<String>,
    pub shard: Option<Shard>,
    /// True if a failed safety check does not stop the run.
    pub force: bool,
    /// Time at which the rules are applied; `None`: now.
    pub now: Option<DateTime<Utc>>,
    pub max_delete_percent: Option<u8>,
    pub output: OutputForm,
    /// File for the report as JSON, relative to the working directory.
    pub report: Option<PathBuf>,
}

/// Runs a cleanup.
pub(super) fn run(
    options: &CleanupOptions,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let process = &context.process;
    let config = load_configuration(global, process)?;
    if config.retention.is_none() {
        return Err(missing_setting("retention", &config, process)
            .hint("add retention rules, for example `retention: { keep_last: 5 }`"));
    }
    if targets(&config).is_empty() {
        return Err(missing_setting("build.images", &config, process)
            .hint("add images or `sync.entries`: cleanup applies to both"));
    }
    let scope = CleanupScope {
        only: checked_only(
            &options.only,
            &config.directory,
            &names(&config),
            "`--only` matches the name or repository of an image",
        )?,
        shard: options.shard,
    };
    let report_file = ReportFile::prepare_if_set(options.report.as_deref(), &process.directory)?;
    runtime::run(context.deadline, |cancel| async {
        let report = cleanup(&config, &scope, options, context, cancel).await?;
        let json = json::versioned("cleanup", &report).map_err(Failure::failed)?;
        let result = CommandResult::reported(
            report.exit(),
            options.output,
            "cleanup",
            &report,
            report.document(),
        )?;
        Ok(result
            .changed(options.mode == Mode::Apply && report.totals.deleted > 0)
            .and_file(report_file, || json))
    })
}

/// Returns the names that `--only` can match, for each image.
pub(super) fn names(config: &Config) -> Vec<Vec<String>> {
    targets(config)
        .iter()
        .map(|target| target.names(config))
        .collect()
}

async fn cleanup(
    config: &Config,
    scope: &CleanupScope,
    options: &CleanupOptions,
    context: &CommandContext,
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
    let stores = image_stores(config, repositories.iter(), context, options.mode)?;
    let now = options.now.unwrap_or_else(|| context.process.clock.now());
    let source = ConfiguredRecords(
        config
            .registry
            .is_some()
            .then(|| records(config, &context.process, Mode::DryRun))
            .transpose()?,
    );
    let watch = RecordWatch::new(config, &source, options.force, now);
    let world = async {
        let cache = UserDigestCache::of("cleanup", &context.process, options.mode);
        let observer = Observer {
            stores: &stores,
            cache: &cache,
            progress: &*context.progress,
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
            tracing::warn!("stopped while reading the registries; nothing was changed");
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
        progress: context.progress.clone(),
        cancel,
    };
    let report = CleanupReport::new(&plan, cleanup::execute(&plan, &execution).await);
    Ok(CleanupReport {
        duration: began.elapsed(),
        ..report
    })
}

/// Configured record store, if there is one.
struct ConfiguredRecords(Option<Records>);

#[async_trait]
impl RecordsSource for ConfiguredRecords {
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
