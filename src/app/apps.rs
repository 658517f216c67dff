//! `app list` and `app purge`: from their options and the configuration to places, step, report and
//! exit code.

use std::path::Path;
use std::time::Instant;

use super::configuration::load_configuration;
use super::places::image_places;
use super::records::records;
use super::{Global, Mode, Output, Surroundings, runtime};
use crate::error::{Exit, Failure};
use crate::model::reference::LAYOUT_PREFIX;
use crate::packages::RecordSet;
use crate::steps::apps::{self, AppListReport, ListFilter, PurgeExecution};
use crate::steps::shard::Only;

/// What a list of records was asked to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppListOptions {
    pub project: Option<String>,
    /// A reference or a pattern.
    pub base: Option<String>,
    pub detailed: bool,
    pub output: ListOutput,
}

/// The form of a list of records on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListOutput {
    Text,
    Json,
    Csv,
}

/// What a removal of records was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppPurgeOptions {
    pub mode: Mode,
    /// How many records of a repository stay; all when `None`.
    pub keep: Option<usize>,
    pub project: Option<String>,
    /// Whether records of images that are gone are removed.
    pub orphans: bool,
    pub output: Output,
}

/// Lists records.
pub(super) fn list(
    options: &AppListOptions,
    global: &Global,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    let process = &surroundings.process;
    let base = Only::new(
        options
            .base
            .as_deref()
            .map(|base| from_root(base, &process.directory))
            .as_slice(),
    )
    .map_err(|_| {
        Failure::usage(format!(
            "`--base {}` is no pattern",
            options.base.as_deref().unwrap_or_default()
        ))
    })?;
    let filter = ListFilter {
        project: options.project.clone(),
        base,
    };
    let config = load_configuration(global, process)?;
    let records = records(&config, process, Mode::DryRun)?;
    runtime::read(surroundings.deadline, async move {
        let reading = records.all().await?;
        warn_of_unreadable(&reading);
        let report: AppListReport = apps::list(reading, &filter);
        match options.output {
            ListOutput::Text => surroundings.report(
                Output::Text,
                "app-list",
                &report,
                &report.document(options.detailed),
            )?,
            ListOutput::Json => surroundings.report(
                Output::Json,
                "app-list",
                &report,
                &report.document(options.detailed),
            )?,
            ListOutput::Csv => surroundings.print(&report.csv(options.detailed))?,
        }
        Ok(Exit::Done)
    })
}

/// Returns a pattern of bases; one of layouts begins at the root, as records have them.
fn from_root(pattern: &str, directory: &Path) -> String {
    let path = pattern
        .strip_prefix(LAYOUT_PREFIX)
        .map(|path| directory.join(path));
    path.map_or_else(
        || pattern.to_owned(),
        |path| format!("{LAYOUT_PREFIX}{}", path.display()),
    )
}

/// Removes records that are no longer of use.
pub(super) fn purge(
    options: &AppPurgeOptions,
    global: &Global,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    let process = &surroundings.process;
    let config = load_configuration(global, process)?;
    let records = records(&config, process, options.mode)?;
    runtime::run(surroundings.deadline, |cancel| async move {
        let began = Instant::now();
        let observe = async {
            let reading = records.all().await?;
            warn_of_unreadable(&reading);
            let stores = image_places(
                &config,
                reading
                    .records
                    .iter()
                    .map(|record| &record.image.repository),
                surroundings,
                Mode::DryRun,
            )?;
            let images = options.orphans.then_some(&stores);
            let world = apps::observe(reading.clone(), options.project.as_deref(), images).await;
            Ok::<_, Failure>((world, stores))
        };
        let (world, stores) = tokio::select! {
            world = observe => world?,
            () = cancel.cancelled() => return Err(Failure::failed("stopped while looking at the records; none was removed")),
        };
        let plan = apps::plan(&world, options.keep, options.project.as_deref());
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
        surroundings.report(options.output, "app-purge", &report, &report.document())?;
        Ok(report.exit())
    })
}

fn warn_of_unreadable(reading: &RecordSet) {
    for file in &reading.unreadable {
        tracing::warn!(
            "{} is no record and is passed over: {}",
            file.file,
            file.problem
        );
    }
}
