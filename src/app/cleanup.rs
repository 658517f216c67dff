//! `imglife cleanup`: options, stores, the step, its result.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::cleanup_journal::{
    DocumentJournal, FileJournal, check_arguments, delete_old_journals, read_file_journal,
    read_journal,
};
use super::configuration::{load_configuration, missing_setting};
use super::deployments::deployment_reader;
use super::digest_cache::UserDigestCache;
use super::image_stores::image_stores;
use super::keep_lists::keep_lists;
use super::only::checked_only;
use super::records::records;
use super::report_files::ReportFile;
use super::result::CommandResult;
use super::{CommandContext, GlobalOptions, Mode, OutputForm, Shard, runtime};
use crate::ci::source_url;
use crate::config::Config;
use crate::error::{Exit, Failure, ItemError};
use crate::model::{JournalBatch, Repository};
use crate::packages::{Documents, Records};
use crate::report::{Block, Document, json};
use crate::steps::cleanup::{
    self, Applications, CleanupExecution, CleanupPolicy, CleanupReport, CleanupScope, Journal,
    JournalStore, ObservedRecords, Observer, OutsideFacts, ReadingLimits, RecordWatch,
    RecordsSource, Undo, UndoSelection, targets,
};

/// Time that requests in flight have after a run was cancelled while it read the registries.
const READING_STOP_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// Number of requests to registries after which nothing new is started.
    pub max_requests: Option<u64>,
    /// Runs and tags to restore instead of deleting; empty for the latest run.
    pub undo: Option<Vec<String>>,
    /// Tags whose holds end, instead of deleting; empty for all.
    pub release: Option<Vec<String>>,
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
    if targets(&config).is_empty() && Applications::of(&config).is_empty() {
        return Err(missing_setting("build.images", &config, process).hint(
            "add images, `sync.entries` or `retention.repositories`: cleanup applies to all of them",
        ));
    }
    if let Some(tags) = &options.release {
        return release(&config, tags, options, context);
    }
    if let Some(arguments) = &options.undo {
        return undo(&config, arguments, options, context);
    }
    let scope = CleanupScope {
        only: checked_only(
            &options.only,
            &config.directory,
            &names_with_applications(&config, &options.only),
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

/// Like [`names`], with the application repositories: their patterns, and each name of `only` that is
/// one.
fn names_with_applications(config: &Config, only: &[String]) -> Vec<Vec<String>> {
    let applications = Applications::of(config);
    let named = only.iter().filter(|name| {
        let repository = name.parse::<Repository>();
        repository.is_ok_and(|repository| applications.contains(&config.canonical(&repository)))
    });
    let mut names = names(config);
    names.extend(applications.names().map(|name| vec![name.to_owned()]));
    names.extend(named.map(|name| vec![name.clone()]));
    names
}

/// Restores tags from the journal.
fn undo(
    config: &Config,
    arguments: &[String],
    options: &CleanupOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    check_arguments(arguments)?;
    let process = &context.process;
    let selection = UndoSelection::of(arguments, &process.directory);
    let documents = documents(config, options.mode, context)?;
    let report_path = options
        .report
        .as_ref()
        .map(|path| process.directory.join(path));
    let file_batches = match (&documents, &report_path) {
        (Some(_), _) => Vec::new(),
        (None, Some(path)) => read_file_journal(path, &config.directory)?,
        (None, None) => {
            return Err(Failure::usage("there is no journal to undo from")
                .hint("configure `registry`, or pass the `--report` of the cleanup to undo"));
        }
    };
    let report_file = ReportFile::prepare_if_set(options.report.as_deref(), &process.directory)?;
    let repositories = repositories(config);
    let stores = image_stores(config, repositories.iter(), context, options.mode)?;
    runtime::run(context.deadline, |_| async {
        let batches = match &documents {
            Some(documents) => read_journal(documents, &selection, &config.directory)
                .await
                .map_err(Failure::failed)?,
            None => file_batches,
        };
        let work = Undo {
            config,
            mode: options.mode,
            stores,
            progress: context.progress.clone(),
            documents: documents.as_deref(),
            now: process.clock.now(),
        };
        let report = cleanup::undo(&batches, &selection, &work).await;
        let json = json::versioned("cleanup-undo", &report).map_err(Failure::failed)?;
        let result = CommandResult::reported(
            report.exit(),
            options.output,
            "cleanup-undo",
            &report,
            report.document(),
        )?;
        Ok(result
            .changed(options.mode == Mode::Apply && !report.restored.is_empty())
            .and_file(report_file, || json))
    })
}

/// Ends the holds on restored tags.
fn release(
    config: &Config,
    tags: &[String],
    options: &CleanupOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    check_arguments(tags)?;
    let Some(documents) = documents(config, Mode::Apply, context)? else {
        return Err(missing_setting("registry", config, &context.process)
            .hint("tags are held only where a record store is configured"));
    };
    if options.mode != Mode::Apply {
        return Err(Failure::usage(
            "`--release` cannot be combined with `--list` or `--dry-run`",
        ));
    }
    let selection = UndoSelection::of(tags, &context.process.directory);
    runtime::run(context.deadline, |_| async {
        let now = context.process.clock.now();
        let released = cleanup::release(&selection, config, &documents, now)
            .await
            .map_err(Failure::failed)?;
        let lines = if released.is_empty() {
            vec!["no tag is held".to_owned()]
        } else {
            released
                .iter()
                .map(|image| format!("{image}: released"))
                .collect()
        };
        let document = Document {
            blocks: vec![Block::Lines(lines)],
        };
        Ok(CommandResult::new(Exit::Done)
            .changed(!released.is_empty())
            .and_document(document))
    })
}

/// Returns the documents in the record store, if one is configured.
fn documents(
    config: &Config,
    mode: Mode,
    context: &CommandContext,
) -> Result<Option<Arc<Documents>>, Failure> {
    let records = config
        .registry
        .is_some()
        .then(|| records(config, &context.process, mode))
        .transpose()?;
    Ok(records.map(|records| Arc::new(Documents::new(records))))
}

/// Returns the store of the journal: the record store, or the file next to the report. `None` if
/// there is neither, so that nothing may be deleted.
fn journal_store(
    config: &Config,
    documents: Option<&Arc<Documents>>,
    options: &CleanupOptions,
    context: &CommandContext,
) -> Result<Option<Arc<dyn JournalStore>>, Failure> {
    if let Some(documents) = documents {
        return Ok(Some(Arc::new(DocumentJournal {
            documents: documents.clone(),
            directory: config.directory.clone(),
        })));
    }
    let Some(report) = options
        .report
        .as_ref()
        .filter(|_| options.mode == Mode::Apply)
    else {
        return Ok(None);
    };
    let report = context.process.directory.join(report);
    let journal = FileJournal::open(&report, &config.directory)?;
    Ok(Some(Arc::new(journal)))
}

/// Returns all repositories that a cleanup reads or writes.
fn repositories(config: &Config) -> Vec<Repository> {
    let sources = config
        .sync
        .iter()
        .flat_map(|sync| sync.entries.iter().map(|entry| entry.source.clone()));
    let targets = targets(config);
    let archives: Vec<Repository> = targets
        .iter()
        .flat_map(|target| target.archives())
        .collect();
    targets
        .into_iter()
        .map(|target| target.repository)
        .chain(sources)
        .chain(archives)
        .collect()
}

/// Stores nothing: for runs that change nothing.
struct NoJournal;

#[async_trait]
impl JournalStore for NoJournal {
    async fn write(&self, _: &JournalBatch) -> Result<(), ItemError> {
        Err(ItemError::other("this run keeps no journal"))
    }
}

async fn cleanup(
    config: &Config,
    scope: &CleanupScope,
    options: &CleanupOptions,
    context: &CommandContext,
    cancel: CancellationToken,
) -> Result<CleanupReport, Failure> {
    let began = Instant::now();
    let repositories = repositories(config);
    let documents = documents(config, options.mode, context)?;
    let journal_store = journal_store(config, documents.as_ref(), options, context)?;
    let deployment_reader = deployment_reader(config, context)?;
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
            limits: ReadingLimits {
                max_requests: options.max_requests,
                cancel: Some(&cancel),
            },
        };
        let lists = keep_lists(config, context).await;
        let source = source_url(&context.process.variables);
        let records = watch.read().await;
        let deployments = match &deployment_reader {
            Some(reader) => Some(reader.read(records.records(), context).await),
            None => None,
        };
        let outside = OutsideFacts {
            lists: &lists,
            deployments: deployments.as_deref(),
            source: source.as_deref(),
        };
        let mut world = cleanup::observe_with(config, scope, records, outside, observer).await;
        if let Some(documents) = &documents {
            cleanup::read_histories(&mut world, config, documents).await;
        }
        if let Some(journal) = &journal_store {
            cleanup::read_deleted_subjects(&mut world, &**journal, observer).await;
        }
        match options.mode {
            Mode::List | Mode::DryRun => world,
            Mode::Apply => {
                let records = watch.read().await;
                let world = cleanup::observe_records(world, config, records, observer).await;
                cleanup::observe_entries(world, observer).await
            }
        }
    };
    // Reading stops by itself soon after it is cancelled, and keeps what it has for the next run.
    let stopped = async {
        cancel.cancelled().await;
        tokio::time::sleep(READING_STOP_TIMEOUT).await;
    };
    let world = tokio::select! {
        world = world => Some(world),
        () = stopped => None,
    };
    let Some(world) = world.filter(|_| !cancel.is_cancelled()) else {
        tracing::warn!("stopped while reading the registries; nothing was changed");
        return Ok(CleanupReport::stopped(options.mode, began.elapsed()));
    };
    let policy = CleanupPolicy {
        now,
        max_delete_percent: options.max_delete_percent,
        is_forced: options.force,
        is_journal_missing: journal_store.is_none() && options.mode == Mode::Apply,
    };
    let plan = cleanup::plan(&world, &policy);
    let journal = Journal::new(
        journal_store.unwrap_or_else(|| Arc::new(NoJournal)),
        context.process.clock.clone(),
    );
    // The state is stored first: if the run is stopped, the next one finds what this one selected.
    let mut unstored = Vec::new();
    if let Some(documents) = documents.as_ref().filter(|_| options.mode == Mode::Apply) {
        unstored = cleanup::store_histories(&plan, config, documents).await;
        if let Err(error) = delete_old_journals(documents, now).await {
            tracing::warn!("old journals were not deleted: {error}");
        }
    }
    let execution = CleanupExecution {
        mode: options.mode,
        stores,
        records: &watch,
        journal: &journal,
        progress: context.progress.clone(),
        max_requests: options.max_requests,
        cancel,
    };
    let mut report = CleanupReport::new(&plan, cleanup::execute(&plan, &execution).await);
    report.run = journal.is_used().then(|| journal.run().to_owned());
    report.add_unstored(unstored);
    if documents.is_none() && report.selects_tags() {
        report.notes.push(
            "no record store is configured (`registry`), so tags do not wait for `grace_days`"
                .to_owned(),
        );
    }
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
