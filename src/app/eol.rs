//! `eol update` and `eol list`: from their options and the configuration to the data, step, report and exit code.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::configuration::{lacks, load_configuration};
use super::places::service_client;
use super::records::records;
use super::{Global, Mode, Output, Surroundings, runtime};
use crate::cache::Cache;
use crate::config::{Config, EolProvider, EolTarget};
use crate::eol::{DataFile, DataPlace, EndOfLifeDate, PlaceError, Products, Table};
use crate::error::{Exit, Failure};
use crate::http;
use crate::model::eol::Calendar;
use crate::packages::{self, PackageError, Records};
use crate::process::Process;
use crate::steps::eol::{self, Judge, ReadError, UpdateReport};

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
    pub output: Output,
}

/// Brings the end-of-life data up to date.
pub(super) fn update(options: &EolUpdateOptions, global: &Global, surroundings: &Surroundings) -> Result<Exit, Failure> {
    let process = &surroundings.process;
    let config = tracking_configuration(global, process)?;
    let place = data_place(&config, options.data_file.as_deref(), process, options.mode)?;
    runtime::run(surroundings.deadline, |cancel| async {
        let report = updated(&config, place.as_ref(), options.mode, surroundings, cancel).await?;
        surroundings.report(options.output, "eol-update", &report, &report.document())?;
        Ok(report.exit())
    })
}

async fn updated(
    config: &Config,
    place: &dyn DataPlace,
    mode: Mode,
    surroundings: &Surroundings,
    cancel: CancellationToken,
) -> Result<UpdateReport, Failure> {
    let began = Instant::now();
    let products = products(config, surroundings, mode)?;
    let world = tokio::select! {
        world = eol::observe(config, place, products.as_deref(), &surroundings.progress) => world.map_err(unreadable)?,
        () = cancel.cancelled() => {
            tracing::warn!("stopped while asking for end-of-life data; nothing was changed");
            return Ok(UpdateReport::stopped(mode, place.name(), began.elapsed()));
        }
    };
    let report = eol::execute(eol::plan(&world), mode, place).await.map_err(Failure::failed)?;
    Ok(UpdateReport { duration: began.elapsed(), ..report })
}

/// Shows what is looked after, from the data at hand.
pub(super) fn list(options: &EolListOptions, global: &Global, surroundings: &Surroundings) -> Result<Exit, Failure> {
    let process = &surroundings.process;
    let config = tracking_configuration(global, process)?;
    let place = data_place(&config, None, process, Mode::DryRun)?;
    runtime::run(surroundings.deadline, |_| async {
        let table = eol::read(place.as_ref()).await.map_err(unreadable)?;
        let calendar = Calendar { today: process.clock.now().date_naive(), warn_days: config.lifecycle.warn_days };
        let judge = Judge { table: &table, phase: config.lifecycle.phase, calendar };
        let report = eol::list(&config, &judge, options.within_days);
        surroundings.report(options.output, "eol-list", &report, &report.document())?;
        Ok(Exit::Done)
    })
}

/// Returns the end-of-life data at hand.
pub(super) async fn end_of_life_table(config: &Config, surroundings: &Surroundings) -> Result<Table, Failure> {
    let place = data_place(config, None, &surroundings.process, Mode::DryRun)?;
    eol::read(place.as_ref()).await.map_err(unreadable)
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
            .hint("add `lifecycle: { product: alpine }` to an entry of `sync` or an image of `build`"),
    })
}

/// Returns where the data are: in the file that was named, else where the configuration says.
fn data_place(config: &Config, named: Option<&Path>, process: &Process, mode: Mode) -> Result<Box<dyn DataPlace>, Failure> {
    let file = |path: PathBuf| {
        let name = path.strip_prefix(&process.directory).unwrap_or(&path).display().to_string();
        Box::new(DataFile { name, path }) as Box<dyn DataPlace>
    };
    match (named, config.lifecycle.target) {
        (Some(path), _) => Ok(file(process.directory.join(path))),
        (None, EolTarget::Git) => Ok(file(config.lifecycle.data_file.clone())),
        (None, EolTarget::PackageRegistry) => Ok(Box::new(DataPackage(records(config, process, mode)?))),
    }
}

/// The data in the Package Registry.
struct DataPackage(Records);

impl DataPackage {
    fn error(&self, action: &'static str, source: PackageError) -> PlaceError {
        PlaceError { place: self.name(), action, source: source.into() }
    }
}

#[async_trait]
impl DataPlace for DataPackage {
    fn name(&self) -> String {
        format!("the end-of-life data in {}", self.0.place())
    }

    async fn read(&self) -> Result<Option<Vec<u8>>, PlaceError> {
        let data = self.0.read_data(packages::DataFile::EndOfLife).await.map_err(|error| self.error("read", error))?;
        Ok(data.map(|data| data.bytes.into()))
    }

    async fn write(&self, bytes: &[u8]) -> Result<(), PlaceError> {
        self.0.write_data(packages::DataFile::EndOfLife, bytes.to_vec().into()).await.map_err(|error| self.error("write", error))
    }
}

/// Returns who is asked, `None` when nobody is.
fn products(config: &Config, surroundings: &Surroundings, mode: Mode) -> Result<Option<Box<dyn Products>>, Failure> {
    if config.lifecycle.provider == EolProvider::Local {
        return Ok(None);
    }
    let address = config.lifecycle.api_url.clone();
    let host =
        http::host_of(&address).ok_or_else(|| Failure::usage(format!("`lifecycle.api_url` names no host that can be asked: {address}")))?;
    let client = Arc::new(service_client(config, surroundings, &host, &address));
    let cache = Cache::of_user(&surroundings.process.variables, mode == Mode::Apply);
    Ok(Some(Box::new(EndOfLifeDate::new(client, host, address, cache))))
}

fn unreadable(error: ReadError) -> Failure {
    let hint = match &error {
        ReadError::Missing { .. } => Some("`imglife eol update` writes it"),
        ReadError::Data { .. } => Some("repair it, or remove it and run `imglife eol update`"),
        ReadError::Place(_) => None,
    };
    let failure = Failure::failed(error);
    hint.into_iter().fold(failure, Failure::hint)
}
