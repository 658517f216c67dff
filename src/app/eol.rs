//! `eol update`, `eol list` and `eol notify`: from their options and the configuration to the data,
//! step, report and exit code.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::configuration::{lacks, load_configuration, tells_records};
use super::places::service_client;
use super::records::{records, settings};
use super::{Global, Mode, Output, Surroundings, runtime};
use crate::cache::Cache;
use crate::config::{Config, EolProvider, EolTarget};
use crate::credentials::NoCredentials;
use crate::eol::{EndOfLifeDate, EolDataFile, EolDataStore, EolTable, Products};
use crate::error::{Exit, Failure, ItemError};
use crate::http::{self, Client};
use crate::model::eol::Calendar;
use crate::model::{BuildRecord, Secret};
use crate::notify::{Messenger, NotifyError, Webhook, WebhookFormat, address};
use crate::packages::{self, Records};
use crate::process::Process;
use crate::steps::eol::{self, EolAssessor, NotifyReport, ReadError, UpdateReport};

/// What an update of the end-of-life data was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EolUpdateOptions {
    pub mode: Mode,
    /// The file that is written instead of the configured place; relative to the working directory.
    pub data_file: Option<PathBuf>,
    pub output: Output,
}

/// What a list of ends of life was asked to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EolListOptions {
    /// Only what ends within this many days; all when `None`.
    pub within_days: Option<u32>,
    /// Whether the applications are listed that stand on what ends.
    pub applications: bool,
    pub output: Output,
}

/// What a round of messages was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EolNotifyOptions {
    pub mode: Mode,
    pub output: Output,
}

/// Brings the end-of-life data up to date.
pub(super) fn update(
    options: &EolUpdateOptions,
    global: &Global,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    let process = &surroundings.process;
    let config = tracking_configuration(global, process)?;
    let place = data_place(&config, options.data_file.as_deref(), process, options.mode)?;
    runtime::run(surroundings.deadline, |cancel| async {
        let report = updated(&config, place.as_ref(), options.mode, surroundings, cancel).await?;
        surroundings.note(report.file_outcome == eol::FileOutcome::Written, []);
        surroundings.report(options.output, "eol-update", &report, &report.document())?;
        Ok(report.exit())
    })
}

async fn updated(
    config: &Config,
    place: &dyn EolDataStore,
    mode: Mode,
    surroundings: &Surroundings,
    cancel: CancellationToken,
) -> Result<UpdateReport, Failure> {
    let began = Instant::now();
    let products = products(config, surroundings, mode)?;
    let world = tokio::select! {
        world = eol::observe(config, place, products.as_deref(), &surroundings.progress) => world.map_err(|error| unreadable(error, config))?,
        () = cancel.cancelled() => {
            tracing::warn!("stopped while asking for end-of-life data; nothing was changed");
            return Ok(UpdateReport::stopped(mode, place.name(), began.elapsed()));
        }
    };
    let report = eol::execute(eol::plan(&world), mode, place)
        .await
        .map_err(Failure::failed)?;
    Ok(UpdateReport {
        duration: began.elapsed(),
        ..report
    })
}

/// Shows what is looked after, from the data at hand.
pub(super) fn list(
    options: &EolListOptions,
    global: &Global,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    let process = &surroundings.process;
    let config = tracking_configuration(global, process)?;
    let place = data_place(&config, None, process, Mode::DryRun)?;
    let records = options
        .applications
        .then(|| records(&config, process, Mode::DryRun))
        .transpose()?;
    runtime::read(surroundings.deadline, async {
        let table = eol::read(place.as_ref())
            .await
            .map_err(|error| unreadable(error, &config))?;
        let recorded = match &records {
            Some(records) => Some(recorded(records).await?),
            None => None,
        };
        let report = eol::list(
            &config,
            &assessor(&config, &table, process),
            options.within_days,
            recorded.as_deref(),
        );
        surroundings.report(options.output, "eol-list", &report, &report.document())?;
        Ok(Exit::Done)
    })
}

/// Sends the messages of the day.
pub(super) fn notify(
    options: &EolNotifyOptions,
    global: &Global,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    let process = &surroundings.process;
    let config = tracking_configuration(global, process)?;
    let messengers = messengers(&config, process)?;
    let place = data_place(&config, None, process, Mode::DryRun)?;
    // Who is affected is not known where there are no records.
    let records = tells_records(&config)
        .then(|| records(&config, process, Mode::DryRun))
        .transpose()?;
    runtime::run(surroundings.deadline, |cancel| async move {
        let began = Instant::now();
        let read = async {
            let table = eol::read(place.as_ref())
                .await
                .map_err(|error| unreadable(error, &config))?;
            let recorded = match &records {
                Some(records) => recorded(records).await?,
                None => Vec::new(),
            };
            Ok::<_, Failure>((table, recorded))
        };
        let (table, recorded) = tokio::select! {
            read = read => read?,
            () = cancel.cancelled() => return Err(Failure::failed("stopped before everything was read; no message was sent")),
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
        surroundings.report(options.output, "eol-notify", &report, &report.document())?;
        Ok(report.exit())
    })
}

/// Returns the webhooks whose addresses the variables hold that the configuration names.
fn messengers(config: &Config, process: &Process) -> Result<Vec<Box<dyn Messenger>>, Failure> {
    let lifecycle = &config.lifecycle;
    let named = [
        (WebhookFormat::Slack, &lifecycle.slack_webhook_variable),
        (WebhookFormat::Json, &lifecycle.webhook_variable),
    ];
    let mut messengers: Vec<Box<dyn Messenger>> = Vec::new();
    for (service, variable) in named {
        let Some(variable) = variable else { continue };
        let url = webhook(variable, config, process)?;
        let client = Client::new(
            settings(&[&url], config)?,
            Arc::new(NoCredentials),
            process.clock.clone(),
        );
        let webhook = Webhook::new(service, &url, Arc::new(client))
            .map_err(|error| unusable_webhook(variable, &error))?;
        messengers.push(Box::new(webhook));
    }
    if messengers.is_empty() {
        return Err(lacks("lifecycle.notify.slack_webhook_env", config, process)
            .hint("or `lifecycle.notify.webhook_env`: the name of the variable that holds a webhook's address"));
    }
    Ok(messengers)
}

/// Returns the address of the webhook that a variable holds, which is a secret as a whole.
pub(super) fn webhook(
    variable: &str,
    config: &Config,
    process: &Process,
) -> Result<http::Url, Failure> {
    let text = process.variables.get_filled(variable).ok_or_else(|| {
        Failure::usage(format!(
            "{variable}, which `lifecycle.notify` names, is not set"
        ))
        .hint("set it to the webhook's address, as a masked variable of the CI")
    })?;
    let url = address(&Secret::new(text)).map_err(|error| unusable_webhook(variable, &error))?;
    if url.scheme() == "http"
        && !http::host_of(&url).is_some_and(|host| config.insecure_registries.contains(&host))
    {
        return Err(
            Failure::usage(format!("the address in {variable} is plain HTTP"))
                .hint("take its https address, or name its host in `registry.insecure_registries`"),
        );
    }
    Ok(url)
}

fn unusable_webhook(variable: &str, error: &NotifyError) -> Failure {
    Failure::usage(format!("{variable} is no address of a webhook: {error}"))
}

async fn recorded(records: &Records) -> Result<Vec<BuildRecord>, Failure> {
    let reading = records.all().await.map_err(|error| {
        let hint = error.hint();
        hint.into_iter().fold(Failure::failed(error), Failure::hint)
    })?;
    for file in &reading.unreadable {
        tracing::warn!(
            "{} is no record and is passed over: {}",
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

/// Returns the end-of-life data at hand.
pub(super) async fn end_of_life_table(
    config: &Config,
    surroundings: &Surroundings,
) -> Result<EolTable, Failure> {
    let place = data_place(config, None, &surroundings.process, Mode::DryRun)?;
    eol::read(place.as_ref())
        .await
        .map_err(|error| unreadable(error, config))
}

/// Returns the end-of-life data at hand, none when there are none yet: nothing is then known of any
/// image.
pub(super) async fn table_at_hand(
    config: &Config,
    surroundings: &Surroundings,
) -> Result<EolTable, Failure> {
    if eol::products(config).is_empty() {
        return Ok(EolTable::default());
    }
    let place = data_place(config, None, &surroundings.process, Mode::DryRun)?;
    match eol::read(place.as_ref()).await {
        Err(error @ ReadError::Missing { .. }) => {
            tracing::warn!(
                "{error}, so nothing is known of any end; `imglife eol update` writes it"
            );
            Ok(EolTable::default())
        }
        result => result.map_err(|error| unreadable(error, config)),
    }
}

/// Returns the configuration of a run that has something to look after.
fn tracking_configuration(global: &Global, process: &Process) -> Result<Config, Failure> {
    let config = load_configuration(global, process)?;
    if !eol::products(&config).is_empty() {
        return Ok(config);
    }
    Err(match &config.file {
        None => lacks("lifecycle", &config, process),
        Some(file) => Failure::usage(format!("no image in {} has a `lifecycle`", file.display()))
            .hint(
                "add `lifecycle: { product: alpine }` to an entry of `sync` or an image of `build`",
            ),
    })
}

/// Returns where the data are: in the file that was named, else where the configuration says.
pub(super) fn data_place(
    config: &Config,
    named: Option<&Path>,
    process: &Process,
    mode: Mode,
) -> Result<Box<dyn EolDataStore>, Failure> {
    let file = |path: PathBuf| {
        let name = path
            .strip_prefix(&process.directory)
            .unwrap_or(&path)
            .display()
            .to_string();
        Box::new(EolDataFile { name, path }) as Box<dyn EolDataStore>
    };
    match (named, config.lifecycle.target) {
        (Some(path), _) => Ok(file(process.directory.join(path))),
        (None, EolTarget::Git) => Ok(file(config.lifecycle.data_file.clone())),
        (None, EolTarget::PackageRegistry) => {
            Ok(Box::new(DataPackage(records(config, process, mode)?)))
        }
    }
}

/// The data in the Package Registry.
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

/// Returns who is asked, `None` when nobody is.
pub(super) fn products(
    config: &Config,
    surroundings: &Surroundings,
    mode: Mode,
) -> Result<Option<Box<dyn Products>>, Failure> {
    if config.lifecycle.provider == EolProvider::Local {
        return Ok(None);
    }
    let address = config.lifecycle.api_url.clone();
    let host = http::host_of(&address).ok_or_else(|| {
        Failure::usage(format!(
            "`lifecycle.api_url` names no host that can be asked: {address}"
        ))
    })?;
    let client = Arc::new(service_client(config, surroundings, &host, &address));
    let cache = Cache::user(&surroundings.process.variables, mode == Mode::Apply);
    Ok(Some(Box::new(EndOfLifeDate::new(
        client, host, address, cache,
    ))))
}

fn unreadable(error: ReadError, config: &Config) -> Failure {
    let hint = match (&error, config.lifecycle.provider) {
        (ReadError::Missing { .. }, EolProvider::Endoflife) => {
            Some("`imglife eol update` writes it")
        }
        (ReadError::Missing { .. }, EolProvider::Local) => Some(
            "`lifecycle.eol_provider` is `local`: the file is yours to write; or leave that out, and `imglife eol update` writes it",
        ),
        (ReadError::Data { .. }, EolProvider::Endoflife) => {
            Some("repair it, or remove it and run `imglife eol update`")
        }
        (ReadError::Data { .. }, EolProvider::Local) => {
            Some("repair it: it has the form of endoflife.date's own data")
        }
        (ReadError::Item(error), _) => return error.clone().into(),
    };
    let failure = Failure::failed(error);
    hint.into_iter().fold(failure, Failure::hint)
}
