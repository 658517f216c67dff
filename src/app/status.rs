//! `imglife status`: options, stores, the step, the page and its file, the result.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use thiserror::Error;

use super::configuration::{has_record_store, load_configuration, missing_setting};
use super::digest_cache::UserDigestCache;
use super::eol::{assessor, end_of_life_table_or_empty};
use super::image_stores::image_stores;
use super::records::records;
use super::report_files::ReportFile;
use super::result::CommandResult;
use super::{CommandContext, GlobalOptions, Mode, runtime};
use crate::config::Config;
use crate::error::Failure;
use crate::model::Inventory;
use crate::packages::{DataFileKind, Documents, RecordSet, Records};
use crate::process::Process;
use crate::report::{json, junit, openmetrics};
use crate::steps::cleanup::{Observer, PreviewInput, ReadingLimits, preview};
use crate::steps::status::{
    self, ExpectedDeletions, MarkerError, PageOutcome, StatusReport, World,
};

pub use crate::steps::status::FailOn;

/// Options of `imglife status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusOptions {
    /// File to write the report to, relative to the working directory; `None`: stdout.
    pub file: Option<PathBuf>,
    /// True if the whole file is replaced, not only the text between the markers.
    pub overwrite: bool,
    pub form: StatusForm,
    /// True if no registry is contacted.
    pub offline: bool,
    /// True if the inventory is published.
    pub publish: bool,
    pub fail_on: Option<FailOn>,
    /// File for a JUnit report, relative to the working directory.
    pub report_junit: Option<PathBuf>,
    /// File for metrics in OpenMetrics format, relative to the working directory.
    pub report_metrics: Option<PathBuf>,
}

/// Format of the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatusForm {
    #[default]
    Markdown,
    Json,
}

#[derive(Debug, Error)]
enum StatusError {
    #[error("cannot read {}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot insert the report into {}", .path.display())]
    Markers { path: PathBuf, source: MarkerError },
    #[error("cannot convert the report to JSON")]
    Json(#[source] serde_json::Error),
}

/// File of the report, and its previous content.
struct StatusFile {
    file: ReportFile,
    name: PathBuf,
    before: Option<String>,
}

/// Creates the report.
pub(super) fn run(
    options: &StatusOptions,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let process = &context.process;
    let config = load_configuration(global, process)?;
    let has_entries = config
        .sync
        .as_ref()
        .is_some_and(|sync| !sync.entries.is_empty());
    let has_images = config
        .build
        .as_ref()
        .is_some_and(|build| !build.images.is_empty());
    if !has_entries && !has_images {
        return Err(missing_setting("sync.entries", &config, process)
            .hint("add mirrors (`sync.entries`) or base images (`build.images`)"));
    }
    let needs_records = options.publish || has_record_store(&config);
    if !needs_records {
        tracing::warn!(
            "the report has no applications: the configuration has no record store (`registry`)"
        );
    }
    // `Mode::Apply`, so that the records are cached for the next run.
    let records = needs_records
        .then(|| records(&config, process, Mode::Apply))
        .transpose()?;
    let target = options
        .file
        .as_deref()
        .map(|path| StatusFile::open(path, options, process))
        .transpose()?;
    let prepare =
        |path: &Option<PathBuf>| ReportFile::prepare_if_set(path.as_deref(), &process.directory);
    let (junit_file, metrics_file) = (
        prepare(&options.report_junit)?,
        prepare(&options.report_metrics)?,
    );
    runtime::run(context.deadline, |cancel| async move {
        let began = Instant::now();
        let (world, deletions) = tokio::select! {
            observed = observe(&config, options, records.as_ref(), context) => observed?,
            () = cancel.cancelled() => return Err(Failure::failed("stopped while reading the registries; nothing was written")),
        };
        let table = end_of_life_table_or_empty(&config, context).await?;
        let now = process.clock.now();
        let assessor = assessor(&config, &table, process);
        let listed = status::lowered(&config, &world.lowered);
        let report = status::plan(&listed, &world, &assessor, &deletions);
        let text = page(&report, &config, options.form)?;
        let mut result =
            CommandResult::new(report.exit(options.fail_on)).with_report("status", &report)?;
        result.violations = report.violations(options.fail_on);
        result = match target {
            None => result.and_text(text),
            Some(target) => {
                let name = target.name.clone();
                match target.write(&text, options) {
                    Ok(written) => result
                        .changed(written == PageOutcome::Written)
                        .and_document(report.summary(&name, written, began.elapsed())),
                    Err(failure) => return Ok(result.failed(failure)),
                }
            }
        };
        result = result
            .and_file(junit_file, || {
                junit::draw(&report.test_suite(options.fail_on))
            })
            .and_file(metrics_file, || openmetrics::draw(&report.metrics()));
        let Some(records) = records.as_ref().filter(|_| options.publish) else {
            return Ok(result);
        };
        let inventory = status::inventory(&listed, &world, &assessor, now);
        Ok(match publish(records, &inventory).await {
            Ok(()) => result,
            Err(failure) => result.failed(failure),
        })
    })
}

/// Uploads the inventory to the record store.
async fn publish(records: &Records, inventory: &Inventory) -> Result<(), Failure> {
    let inventory = inventory.to_bytes().map_err(Failure::failed)?;
    records
        .write_data(DataFileKind::Inventory, inventory.into())
        .await?;
    Ok(())
}

/// Returns the state of all images, and the tags that a cleanup would delete.
async fn observe(
    config: &Config,
    options: &StatusOptions,
    records: Option<&Records>,
    context: &CommandContext,
) -> Result<(World, ExpectedDeletions), Failure> {
    let entries = config.sync.iter().flat_map(|sync| &sync.entries);
    let mirrors = entries.flat_map(|entry| [&entry.source, &entry.target]);
    let bases = config
        .build
        .iter()
        .flat_map(|build| &build.images)
        .map(|image| &image.repository);
    let stores = (!options.offline)
        .then(|| image_stores(config, mirrors.chain(bases), context, Mode::DryRun))
        .transpose()?;
    let world = status::observe(config, stores.as_ref(), records, &*context.progress)
        .await
        .map_err(|error| {
            let hint = error.hint();
            hint.into_iter().fold(Failure::failed(error), Failure::hint)
        })?;
    for file in &world.unreadable {
        tracing::warn!(
            "ignoring {}, which is not a valid record: {}",
            file.file,
            file.problem
        );
    }
    let Some(stores) = &stores else {
        return Ok((world, ExpectedDeletions::new()));
    };
    let process = &context.process;
    let cache = UserDigestCache::of("cleanup", process, Mode::Apply);
    let observer = Observer {
        limits: ReadingLimits::default(),
        stores,
        cache: &cache,
        progress: &*context.progress,
        now: process.clock.now(),
    };
    let reading = records.map(|_| RecordSet {
        records: world.records.clone(),
        reduced: Vec::new(),
        unreadable: world.unreadable.clone(),
        first_written: world.first_written,
    });
    let documents = records.map(|records| Documents::new(records.clone()));
    let input = PreviewInput {
        listings: &world.listings,
        identities: &world.identities,
        records: reading.as_ref(),
        documents: documents.as_ref(),
    };
    let preview = preview(config, input, observer).await;
    for warning in &preview.warnings {
        tracing::warn!("some tags that `cleanup` would delete are not marked: {warning}");
    }
    let deletions = preview.deletions.into_iter().map(|image| (image, None));
    let waiting = preview.waiting.into_iter();
    let waiting = waiting.map(|(image, day)| (image, Some(day)));
    Ok((world, deletions.chain(waiting).collect()))
}

fn page(report: &StatusReport, config: &Config, form: StatusForm) -> Result<String, Failure> {
    match form {
        StatusForm::Markdown => status::page(report, &config.status).map_err(Failure::failed),
        StatusForm::Json => json::versioned("status", report)
            .map_err(|error| Failure::failed(StatusError::Json(error))),
    }
}

impl StatusOptions {
    /// Returns true if the whole file is replaced.
    fn replaces_all(&self) -> bool {
        self.overwrite || self.form == StatusForm::Json
    }
}

impl StatusFile {
    /// Reads the file at `path`, if it exists. Fails when it cannot be written, or when its markers
    /// are invalid.
    fn open(
        path: &Path,
        options: &StatusOptions,
        process: &Process,
    ) -> Result<StatusFile, Failure> {
        let before = match fs::read_to_string(process.directory.join(path)) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // A file that is not text can still be replaced as a whole.
            Err(_) if options.replaces_all() => None,
            Err(source) => {
                return Err(Failure::failed(StatusError::Unreadable {
                    path: path.to_owned(),
                    source,
                }));
            }
        };
        let file = StatusFile {
            file: ReportFile::prepare(path, &process.directory)?,
            name: path.to_owned(),
            before,
        };
        // Finds invalid markers before any registry is contacted.
        file.content("", options)?;
        Ok(file)
    }

    /// Returns the new content of the file. Fails when its markers are invalid.
    fn content(&self, report: &str, options: &StatusOptions) -> Result<String, Failure> {
        match &self.before {
            Some(before) if !options.replaces_all() => {
                status::replaced(before, report).map_err(|source| {
                    let path = self.name.clone();
                    Failure::failed(StatusError::Markers { path, source }).hint(format!(
                        "correct the markers, each on its own line: `{}`, then `{}`",
                        status::BEGIN,
                        status::END
                    ))
                })
            }
            _ => Ok(report.to_owned()),
        }
    }

    /// Writes the file completely or not at all. Writes nothing if the content is unchanged.
    fn write(self, report: &str, options: &StatusOptions) -> Result<PageOutcome, Failure> {
        let content = self.content(report, options)?;
        if self.before.as_ref() == Some(&content) {
            return Ok(PageOutcome::Unchanged);
        }
        self.file.write(&content)?;
        Ok(PageOutcome::Written)
    }
}
