//! `status`: from its options and the configuration to places, step, page, files and exit code.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use thiserror::Error;

use super::configuration::{lacks, load_configuration, tells_records};
use super::digest_cache::UserDigestCache;
use super::eol::{assessor, table_at_hand};
use super::places::image_places;
use super::records::records;
use super::report_files::ReportFile;
use super::{Global, Mode, Surroundings, runtime};
use crate::config::Config;
use crate::error::{Exit, Failure};
use crate::packages::{DataFileKind, RecordSet, Records};
use crate::process::Process;
use crate::report::text::{Style, draw};
use crate::report::{json, junit, openmetrics};
use crate::steps::cleanup::{Observer, PreviewInput, preview};
use crate::steps::status::{
    self, ExpectedDeletions, MarkerError, PageOutcome, StatusReport, World,
};

pub use crate::steps::status::FailOn;

/// What a report was asked to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusOptions {
    /// The file that it goes into, relative to the working directory; stdout when `None`.
    pub file: Option<PathBuf>,
    /// Whether the whole file is replaced, and not what is between the markers.
    pub overwrite: bool,
    pub form: StatusForm,
    /// Whether registries are left alone.
    pub offline: bool,
    /// Whether the inventory is published.
    pub publish: bool,
    pub fail_on: Option<FailOn>,
    /// Where a JUnit report is written; relative to the working directory.
    pub report_junit: Option<PathBuf>,
    /// Where metrics are written; relative to the working directory.
    pub report_metrics: Option<PathBuf>,
}

/// The form of the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatusForm {
    #[default]
    Markdown,
    Json,
}

#[derive(Debug, Error)]
enum StatusError {
    #[error("{} cannot be read", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the report has no place in {}", .path.display())]
    Markers { path: PathBuf, source: MarkerError },
    #[error("the report cannot be turned into JSON")]
    Json(#[source] serde_json::Error),
}

/// A file, and what stands in it.
struct Target {
    file: ReportFile,
    name: PathBuf,
    before: Option<String>,
}

/// Makes the report.
pub(super) fn run(
    options: &StatusOptions,
    global: &Global,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    let process = &surroundings.process;
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
        return Err(lacks("sync.entries", &config, process)
            .hint("the report is of mirrors (`sync.entries`) and base images (`build.images`)"));
    }
    // What is read there is kept for the next run, as in other runs that write.
    let needs_records = options.publish || tells_records(&config);
    if !needs_records {
        tracing::warn!(
            "the configuration does not say where records are, so no applications are shown"
        );
    }
    let records = needs_records
        .then(|| records(&config, process, Mode::Apply))
        .transpose()?;
    let target = options
        .file
        .as_deref()
        .map(|path| target(path, options, process))
        .transpose()?;
    let prepare = |path: &Option<PathBuf>| {
        path.as_ref()
            .map(|path| ReportFile::prepare(path, &process.directory))
            .transpose()
    };
    let (junit_file, metrics_file) = (
        prepare(&options.report_junit)?,
        prepare(&options.report_metrics)?,
    );
    runtime::run(surroundings.deadline, |cancel| async move {
        let began = Instant::now();
        let (world, deletions) = tokio::select! {
            observed = observe(&config, options, records.as_ref(), surroundings) => observed?,
            () = cancel.cancelled() => return Err(Failure::failed("stopped while looking at the registries; nothing was written")),
        };
        let table = table_at_hand(&config, surroundings).await?;
        let now = process.clock.now();
        let assessor = assessor(&config, &table, process);
        let report = status::plan(&config, &world, &assessor, &deletions);
        let text = drawn(&report, &config, options.form)?;
        surroundings.record("status", &report)?;
        match target {
            None => surroundings.print(&text)?,
            Some(target) => {
                let name = target.name.clone();
                let written = target.write(&text, options)?;
                surroundings.note(written == PageOutcome::Written, []);
                let summary = report.summary(&name, written, began.elapsed());
                surroundings.print(&draw(
                    &summary,
                    Style {
                        color: surroundings.report_color,
                    },
                ))?;
            }
        }
        // All are tried: a full disk under one is no reason to lose the others.
        let written = [
            junit_file.map_or(Ok(()), |file| {
                file.write(&junit::draw(&report.test_suite(options.fail_on)))
            }),
            metrics_file.map_or(Ok(()), |file| {
                file.write(&openmetrics::draw(&report.metrics()))
            }),
        ];
        if let Some(records) = records.as_ref().filter(|_| options.publish) {
            let inventory = status::inventory(&config, &world, &assessor, now)
                .to_bytes()
                .map_err(Failure::failed)?;
            records
                .write_data(DataFileKind::Inventory, inventory.into())
                .await?;
        }
        written.into_iter().collect::<Result<(), Failure>>()?;
        surroundings.violated(&report.violations(options.fail_on));
        Ok(report.exit(options.fail_on))
    })
}

/// Returns what there is, and what a clean-up would remove of it.
async fn observe(
    config: &Config,
    options: &StatusOptions,
    records: Option<&Records>,
    surroundings: &Surroundings,
) -> Result<(World, ExpectedDeletions), Failure> {
    let entries = config.sync.iter().flat_map(|sync| &sync.entries);
    let mirrors = entries.flat_map(|entry| [&entry.source, &entry.target]);
    let bases = config
        .build
        .iter()
        .flat_map(|build| &build.images)
        .map(|image| &image.repository);
    let stores = (!options.offline)
        .then(|| image_places(config, mirrors.chain(bases), surroundings, Mode::DryRun))
        .transpose()?;
    let world = status::observe(config, stores.as_ref(), records, &*surroundings.progress)
        .await
        .map_err(|error| {
            let hint = error.hint();
            hint.into_iter().fold(Failure::failed(error), Failure::hint)
        })?;
    for file in &world.unreadable {
        tracing::warn!(
            "{} is no record and is passed over: {}",
            file.file,
            file.problem
        );
    }
    let Some(stores) = &stores else {
        return Ok((world, ExpectedDeletions::new()));
    };
    let process = &surroundings.process;
    let cache = UserDigestCache::of("cleanup", process, Mode::Apply);
    let observer = Observer {
        stores,
        cache: &cache,
        progress: &*surroundings.progress,
        now: process.clock.now(),
    };
    let reading = records.map(|_| RecordSet {
        records: world.records.clone(),
        unreadable: world.unreadable.clone(),
    });
    let input = PreviewInput {
        listings: &world.listings,
        identities: &world.identities,
        records: reading.as_ref(),
    };
    let preview = preview(config, input, observer).await;
    for warning in &preview.warnings {
        tracing::warn!("what `cleanup` would remove is not known of all: {warning}");
    }
    Ok((world, preview.deletions))
}

fn drawn(report: &StatusReport, config: &Config, form: StatusForm) -> Result<String, Failure> {
    match form {
        StatusForm::Markdown => status::page(report, &config.status).map_err(Failure::failed),
        StatusForm::Json => json::versioned("status", report)
            .map_err(|error| Failure::failed(StatusError::Json(error))),
    }
}

/// Returns the file that the report goes into, which can be written and has a place for it.
fn target(path: &Path, options: &StatusOptions, process: &Process) -> Result<Target, Failure> {
    let whole = process.directory.join(path);
    let before = match fs::read_to_string(&whole) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        // What is no text is replaced when that was asked for.
        Err(_) if options.replaces_all() => None,
        Err(source) => {
            return Err(Failure::failed(StatusError::Unreadable {
                path: path.to_owned(),
                source,
            }));
        }
    };
    let target = Target {
        file: ReportFile::prepare(path, &process.directory)?,
        name: path.to_owned(),
        before,
    };
    // A file without a place is told of before anybody is asked anything.
    target.content("", options)?;
    Ok(target)
}

impl StatusOptions {
    fn replaces_all(&self) -> bool {
        self.overwrite || self.form == StatusForm::Json
    }
}

impl Target {
    fn content(&self, report: &str, options: &StatusOptions) -> Result<String, Failure> {
        match &self.before {
            Some(before) if !options.replaces_all() => {
                status::replaced(before, report).map_err(|source| {
                    let path = self.name.clone();
                    Failure::failed(StatusError::Markers { path, source }).hint(format!(
                        "correct the markers, each alone in its line: `{}`, then `{}`",
                        status::BEGIN,
                        status::END
                    ))
                })
            }
            _ => Ok(report.to_owned()),
        }
    }

    /// Writes the file whole or not at all; not when it is the same already.
    fn write(self, report: &str, options: &StatusOptions) -> Result<PageOutcome, Failure> {
        let content = self.content(report, options)?;
        if self.before.as_ref() == Some(&content) {
            return Ok(PageOutcome::Unchanged);
        }
        self.file.write(&content)?;
        Ok(PageOutcome::Written)
    }
}
