//! `imglife app list` and `imglife app purge`: options, record store, the step, its result.

use std::path::Path;
use std::time::Instant;

use super::configuration::load_configuration;
use super::image_stores::image_stores;
use super::records::records;
use super::result::CommandResult;
use super::{CommandContext, GlobalOptions, Mode, OutputForm, runtime};
use crate::error::{Exit, Failure};
use crate::model::reference::LAYOUT_PREFIX;
use crate::packages::RecordSet;
use crate::steps::apps::{self, AppListReport, ListFilter, PurgeExecution};
use crate::steps::shard::Only;

/// Options of `imglife app list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppListOptions {
    pub project: Option<String>,
    /// Reference or pattern of a base.
    pub base: Option<String>,
    pub detailed: bool,
    pub output: ListOutput,
}

/// Format of the list of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListOutput {
    Text,
    Json,
    Csv,
}

/// Options of `imglife app purge`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppPurgeOptions {
    pub mode: Mode,
    /// Number of records to keep for each repository; `None`: all.
    pub keep: Option<usize>,
    pub project: Option<String>,
    /// True if records of deleted images are deleted.
    pub orphans: bool,
    pub output: OutputForm,
}

/// Lists records.
pub(super) fn list(
    options: &AppListOptions,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let process = &context.process;
    let base = Only::new(
        options
            .base
            .as_deref()
            .map(|base| from_root(base, &process.directory))
            .as_slice(),
    )
    .map_err(|_| {
        Failure::usage(format!(
            "`--base {}` is not a valid pattern",
            options.base.as_deref().unwrap_or_default()
        ))
    })?;
    let filter = ListFilter {
        project: options.project.clone(),
        base,
    };
    let config = load_configuration(global, process)?;
    let records = records(&config, process, Mode::DryRun)?;
    runtime::read(context.deadline, async move {
        let shows_fields = options.detailed || options.output == ListOutput::Json;
        let reading = if shows_fields {
            records.all_with_custom_fields().await?
        } else {
            records.all().await?
        };
        warn_of_unreadable(&reading);
        let report: AppListReport = apps::list(reading, &filter);
        let output = match options.output {
            ListOutput::Text => OutputForm::Text,
            ListOutput::Json => OutputForm::Json,
            ListOutput::Csv => return Ok(CommandResult::text(report.csv(options.detailed))),
        };
        CommandResult::reported(
            Exit::Done,
            output,
            "app-list",
            &report,
            report.document(options.detailed),
        )
    })
}

/// Returns the pattern of a base. For an OCI layout it is absolute, as in records.
fn from_root(pattern: &str, directory: &Path) -> String {
    let path = pattern
        .strip_prefix(LAYOUT_PREFIX)
        .map(|path| directory.join(path));
    path.map_or_else(
        || pattern.to_owned(),
        |path| format!("{LAYOUT_PREFIX}{}", path.display()),
    )
}

/// Deletes records that are no longer needed.
pub(super) fn purge(
    options: &AppPurgeOptions,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let process = &context.process;
    if options.keep == Some(0) {
        return Err(Failure::usage(
            "`--keep 0` would delete every record, and with them the protection of all bases \
             from `cleanup`; nothing was deleted",
        )
        .hint(
            "pass `--keep 1` to keep the newest record of each repository; delete the images that \
             are no longer used, then run `imglife app purge --orphans`",
        ));
    }
    let config = load_configuration(global, process)?;
    let records = records(&config, process, options.mode)?;
    let now = process.clock.now();
    runtime::run(context.deadline, |cancel| async move {
        let began = Instant::now();
        let observe = async {
            // A record is deleted only if it is the one that was read, with all fields.
            let reading = records.all_with_custom_fields().await?;
            warn_of_unreadable(&reading);
            let stores = image_stores(
                &config,
                reading
                    .records
                    .iter()
                    .map(|record| &record.image.repository),
                context,
                Mode::DryRun,
            )?;
            let images = options.orphans.then_some(&stores);
            let world = apps::observe(reading.clone(), options.project.as_deref(), images).await;
            Ok::<_, Failure>((world, stores))
        };
        let (world, stores) = tokio::select! {
            world = observe => world?,
            () = cancel.cancelled() => return Err(Failure::failed("stopped while reading the records; none was deleted")),
        };
        let plan = apps::plan(&world, options.keep, options.project.as_deref(), now);
        let mut report = apps::execute(
            plan,
            &PurgeExecution {
                records: &records,
                stores: &stores,
                mode: options.mode,
                cancel: &cancel,
            },
        )
        .await;
        report.duration = began.elapsed();
        CommandResult::reported(
            report.exit(),
            options.output,
            "app-purge",
            &report,
            report.document(),
        )
    })
}

fn warn_of_unreadable(reading: &RecordSet) {
    for file in &reading.unreadable {
        tracing::warn!(
            "{} is not a record and is ignored: {}",
            file.file,
            file.problem
        );
    }
}
