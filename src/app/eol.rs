//! `imglife eol update`, `eol list` and `eol notify`: options, data, the step, its result.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::configuration::{has_record_store, load_configuration, missing_setting};
use super::image_stores::service_client;
use super::records::{records, settings};
use super::result::CommandResult;
use super::{CommandContext, GlobalOptions, Mode, OutputForm, runtime};
use crate::cache::Cache;
use crate::config::{Config, EolProvider, EolTarget};
use crate::credentials::NoCredentials;
use crate::eol::{EndOfLifeDate, EolDataFile, EolDataStore, EolTable, Products};
use crate::error::{Exit, Failure, ItemError};
use crate::files::{checkout_root, leads_out, refuse_link_out};
use crate::http::{self, Client};
use crate::model::env;
use crate::model::eol::Calendar;
use crate::model::{BuildRecord, Secret};
use crate::notify::{Messenger, NotifyError, Webhook, WebhookFormat, address};
use crate::packages::{self, Records};
use crate::process::Process;
use crate::steps::eol::{self, EolAssessor, NotifyReport, ReadError, UpdateReport};

/// Options of `imglife eol update`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EolUpdateOptions {
    pub mode: Mode,
    /// File to write instead of the configured one, relative to the working directory.
    pub data_file: Option<PathBuf>,
    pub output: OutputForm,
}

/// Options of `imglife eol list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EolListOptions {
    /// Only cycles that end within this many days; `None`: all.
    pub within_days: Option<u32>,
    /// True if affected applications are listed.
    pub applications: bool,
    pub output: OutputForm,
}

/// Options of `imglife eol notify`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EolNotifyOptions {
    pub mode: Mode,
    pub output: OutputForm,
}

/// Updates the end-of-life data.
pub(super) fn update(
    options: &EolUpdateOptions,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let process = &context.process;
    let config = tracking_configuration(global, process)?;
    let store = data_store(&config, options.data_file.as_deref(), process, options.mode)?;
    runtime::run(context.deadline, |cancel| async {
        let report = update_data(&config, store.as_ref(), options.mode, context, cancel).await?;
        let result = CommandResult::reported(
            report.exit(),
            options.output,
            "eol-update",
            &report,
            report.document(),
        )?;
        Ok(result.changed(report.file_outcome == eol::FileOutcome::Written))
    })
}

async fn update_data(
    config: &Config,
    store: &dyn EolDataStore,
    mode: Mode,
    context: &CommandContext,
    cancel: CancellationToken,
) -> Result<UpdateReport, Failure> {
    let began = Instant::now();
    let products = products(config, context, mode)?;
    let world = tokio::select! {
        world = eol::observe(config, store, products.as_deref(), &context.progress) => world.map_err(|error| unreadable(error, config))?,
        () = cancel.cancelled() => {
            tracing::warn!("stopped while downloading end-of-life data; nothing was changed");
            return Ok(UpdateReport::stopped(mode, store.name(), began.elapsed()));
        }
    };
    let report = eol::execute(eol::plan(&world), mode, store)
        .await
        .map_err(Failure::failed)?;
    Ok(UpdateReport {
        duration: began.elapsed(),
        ..report
    })
}

/// Lists the tracked release cycles, from the local data.
pub(super) fn list(
    options: &EolListOptions,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let process = &context.process;
    let config = tracking_configuration(global, process)?;
    let store = data_store(&config, None, process, Mode::DryRun)?;
    let records = options
        .applications
        .then(|| records(&config, process, Mode::DryRun))
        .transpose()?;
    runtime::read(context.deadline, async {
        let table = eol::read(store.as_ref())
            .await
            .map_err(|error| unreadable(error, &config))?;
        let recorded = match &records {
            Some(records) => Some(read_records(records).await?),
            None => None,
        };
        let report = eol::list(
            &config,
            &assessor(&config, &table, process),
            options.within_days,
            recorded.as_deref(),
        );
        CommandResult::reported(
            Exit::Done,
            options.output,
            "eol-list",
            &report,
            report.document(),
        )
    })
}

/// Sends today's notifications.
pub(super) fn notify(
    options: &EolNotifyOptions,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let process = &context.process;
    let config = tracking_configuration(global, process)?;
    let messengers = messengers(&config, process)?;
    let store = data_store(&config, None, process, Mode::DryRun)?;
    // Without records, messages list no affected applications.
    let records = has_record_store(&config)
        .then(|| records(&config, process, Mode::DryRun))
        .transpose()?;
    runtime::run(context.deadline, |cancel| async move {
        let began = Instant::now();
        let read = async {
            let table = eol::read(store.as_ref())
                .await
                .map_err(|error| unreadable(error, &config))?;
            let recorded = match &records {
                Some(records) => read_records(records).await?,
                None => Vec::new(),
            };
            Ok::<_, Failure>((table, recorded))
        };
        let (table, recorded) = tokio::select! {
            read = read => read?,
            () = cancel.cancelled() => return Err(Failure::failed("stopped before all data were read; no message was sent")),
        };
        let messages = eol::notices(
            &config,
            &assessor(&config, &table, process),
            &recorded,
            &config.lifecycle.notify_at_days,
        );
        let report = eol::notify(messages, &messengers, options.mode, &cancel).await;
        let report = NotifyReport {
            duration: began.elapsed(),
            ..report
        };
        CommandResult::reported(
            report.exit(),
            options.output,
            "eol-notify",
            &report,
            report.document(),
        )
    })
}

/// Returns the configured webhooks. Fails with a usage error when there is none, or when a variable
/// that should hold a webhook URL is not set or invalid.
fn messengers(config: &Config, process: &Process) -> Result<Vec<Box<dyn Messenger>>, Failure> {
    let lifecycle = &config.lifecycle;
    let configured = [
        (WebhookFormat::Slack, &lifecycle.slack_webhook_variable),
        (WebhookFormat::Json, &lifecycle.webhook_variable),
    ];
    let mut messengers: Vec<Box<dyn Messenger>> = Vec::new();
    for (service, variable) in configured {
        let Some(variable) = variable else { continue };
        let url = webhook(variable, config, process)?;
        let client = Client::new(
            settings(&[&url], config, &process.variables)?,
            Arc::new(NoCredentials),
            process.clock.clone(),
        );
        let webhook = Webhook::new(service, &url, Arc::new(client))
            .map_err(|error| invalid_webhook(variable, &error))?;
        messengers.push(Box::new(webhook));
    }
    if messengers.is_empty() {
        return Err(missing_setting("lifecycle.notify.slack_webhook_env", config, process)
            .hint("set it, or `lifecycle.notify.webhook_env`, to the name of the variable with the webhook URL"));
    }
    Ok(messengers)
}

/// Returns the webhook URL in a variable. The whole URL is a secret.
pub(super) fn webhook(
    variable: &str,
    config: &Config,
    process: &Process,
) -> Result<http::Url, Failure> {
    let permissions = process.variables.permissions();
    if !permissions.may_run_commands()
        || permissions.is_untrusted() && !process.variables.lists(variable)
    {
        return Err(Failure::usage(format!(
            "{variable}: webhooks are not called in an untrusted job"
        ))
        .hint(format!(
            "pass `--allow-commands`, and add {variable} to {} in the settings of the CI server",
            env::IMGLIFE_VARIABLES
        )));
    }
    let text = process.variables.get_filled(variable).ok_or_else(|| {
        Failure::usage(format!(
            "the variable {variable} of `lifecycle.notify` is not set"
        ))
        .hint("set it to the webhook URL, as a masked variable of the CI server")
    })?;
    let url = address(&Secret::new(text)).map_err(|error| invalid_webhook(variable, &error))?;
    if url.scheme() == "http"
        && !http::host_of(&url).is_some_and(|host| config.insecure_registries.contains(&host))
    {
        return Err(
            Failure::usage(format!("the webhook URL in {variable} uses plain HTTP"))
                .hint("use https, or add the host to `registry.insecure_registries`"),
        );
    }
    Ok(url)
}

fn invalid_webhook(variable: &str, error: &NotifyError) -> Failure {
    Failure::usage(format!("{variable} is not a valid webhook URL: {error}"))
}

/// Returns all build records, and warns about files that are not valid records.
async fn read_records(records: &Records) -> Result<Vec<BuildRecord>, Failure> {
    let reading = records.all().await.map_err(|error| {
        let hint = error.hint();
        hint.into_iter().fold(Failure::failed(error), Failure::hint)
    })?;
    for file in &reading.unreadable {
        tracing::warn!(
            "ignoring {}, which is not a valid record: {}",
            file.file,
            file.problem
        );
    }
    Ok(reading.records)
}

/// Returns the assessor of images as of today.
pub(super) fn assessor<'a>(
    config: &Config,
    table: &'a EolTable,
    process: &Process,
) -> EolAssessor<'a> {
    let calendar = Calendar {
        today: process.clock.now().date_naive(),
        warn_days: config.lifecycle.warn_days,
    };
    EolAssessor {
        table,
        phase: config.lifecycle.phase,
        calendar,
    }
}

/// Returns the local end-of-life data. Fails when there are none.
pub(super) async fn end_of_life_table(
    config: &Config,
    context: &CommandContext,
) -> Result<EolTable, Failure> {
    let store = data_store(config, None, &context.process, Mode::DryRun)?;
    eol::read(store.as_ref())
        .await
        .map_err(|error| unreadable(error, config))
}

/// Returns the local end-of-life data. Returns an empty table and logs a warning when there are
/// none yet.
pub(super) async fn end_of_life_table_or_empty(
    config: &Config,
    context: &CommandContext,
) -> Result<EolTable, Failure> {
    if eol::products(config).is_empty() {
        return Ok(EolTable::default());
    }
    let store = data_store(config, None, &context.process, Mode::DryRun)?;
    match eol::read(store.as_ref()).await {
        Err(error @ ReadError::Missing { .. }) => {
            tracing::warn!(
                "{error}, so end-of-life dates are unknown; run `imglife eol update` to create it"
            );
            Ok(EolTable::default())
        }
        result => result.map_err(|error| unreadable(error, config)),
    }
}

/// Returns the configuration of a command that needs tracked products. Fails with a usage error
/// when there are none.
fn tracking_configuration(global: &GlobalOptions, process: &Process) -> Result<Config, Failure> {
    let config = load_configuration(global, process)?;
    if !eol::products(&config).is_empty() {
        return Ok(config);
    }
    Err(match &config.file {
        None => missing_setting("lifecycle", &config, process),
        Some(file) => Failure::usage(format!("no image in {} has a `lifecycle`", file.display()))
            .hint(
                "add `lifecycle: { product: alpine }` to an entry of `sync` or an image of `build`",
            ),
    })
}

/// Returns the store of the end-of-life data: `file` if set, otherwise the configured one.
pub(super) fn data_store(
    config: &Config,
    file: Option<&Path>,
    process: &Process,
    mode: Mode,
) -> Result<Box<dyn EolDataStore>, Failure> {
    let local = |path: PathBuf| {
        let name = path
            .strip_prefix(&process.directory)
            .unwrap_or(&path)
            .display()
            .to_string();
        Box::new(EolDataFile { name, path }) as Box<dyn EolDataStore>
    };
    let path = match (file, config.lifecycle.target) {
        (Some(path), _) => Some(process.directory.join(path)),
        (None, EolTarget::Git) => Some(config.lifecycle.data_file.clone()),
        (None, EolTarget::PackageRegistry) => None,
    };
    if file.is_none()
        && !process.variables.permissions().outside
        && let Some(path) = &path
        && leads_out(&checkout_root(&config.directory), path)
    {
        return Err(Failure::usage(format!(
            "{} leads out of the repository of the configuration",
            path.display()
        ))
        .hint(
            "set `lifecycle.eol_data_file` to a file in the repository, or pass `--allow-outside`",
        ));
    }
    if let Some(path) = path.as_ref().filter(|_| mode == Mode::Apply) {
        refuse_link_out(&process.directory, path)
            .and_then(|()| refuse_link_out(&config.directory, path))
            .map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))?;
    }
    match path {
        Some(path) => Ok(local(path)),
        None => Ok(Box::new(DataPackage(records(config, process, mode)?))),
    }
}

/// End-of-life data in the Package Registry.
struct DataPackage(Records);

#[async_trait]
impl EolDataStore for DataPackage {
    fn name(&self) -> String {
        format!("the end-of-life data in {}", self.0.store_name())
    }

    async fn read(&self) -> Result<Option<Vec<u8>>, ItemError> {
        let data = self.0.read_data(packages::DataFileKind::EndOfLife).await?;
        Ok(data.map(|data| data.bytes.into()))
    }

    async fn write(&self, bytes: &[u8]) -> Result<(), ItemError> {
        self.0
            .write_data(packages::DataFileKind::EndOfLife, bytes.to_vec().into())
            .await
    }
}

/// Returns the client of the end-of-life API, or `None` if the data are maintained by hand. Fails
/// with a usage error when `lifecycle.api_url` has no host.
pub(super) fn products(
    config: &Config,
    context: &CommandContext,
    mode: Mode,
) -> Result<Option<Box<dyn Products>>, Failure> {
    if config.lifecycle.provider == EolProvider::Local {
        return Ok(None);
    }
    let address = config.lifecycle.api_url.clone();
    let host = http::host_of(&address)
        .ok_or_else(|| Failure::usage(format!("`lifecycle.api_url` has no host: {address}")))?;
    let client = Arc::new(service_client(config, context, &host, &address));
    let cache = Cache::user(&context.process.variables, mode == Mode::Apply);
    Ok(Some(Box::new(EndOfLifeDate::new(
        client, host, address, cache,
    ))))
}

fn unreadable(error: ReadError, config: &Config) -> Failure {
    let hint = match (&error, config.lifecycle.provider) {
        (ReadError::Missing { .. }, EolProvider::Endoflife) => {
            Some("run `imglife eol update` to create it")
        }
        (ReadError::Missing { .. }, EolProvider::Local) => Some(
            "create it by hand, since `lifecycle.eol_provider` is `local`; or remove that setting and run `imglife eol update`",
        ),
        (ReadError::Data { .. }, EolProvider::Endoflife) => {
            Some("repair it, or delete it and run `imglife eol update`")
        }
        (ReadError::Data { .. }, EolProvider::Local) => {
            Some("repair it: it has the format of the data of endoflife.date")
        }
        (ReadError::Item(error), _) => return error.clone().into(),
    };
    let failure = Failure::failed(error);
    hint.into_iter().fold(failure, Failure::hint)
}
