//! `check`, `latest` and `base-args`: from their options and the configuration to sources, step,
//! report and exit code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Serialize;

use super::configuration::{load_configuration, tells_records};
use super::documents;
use super::forge::{BaseRepository, base_repository};
use super::places::image_places;
use super::records::records;
use super::report_files::ReportFile;
use super::{Global, Mode, Output, Surroundings, runtime};
use crate::ci;
use crate::config::{Config, SourceText};
use crate::dockerfile::{self, Base, Foundation, Values};
use crate::error::{Exit, Failure, chain};
use crate::model::text::excerpt;
use crate::model::{ImageReference, Repository};
use crate::packages::Records;
use crate::process::Process;
use crate::registry::ImageStores;
use crate::report::{codequality, dotenv};
use crate::steps::check::{
    self, BaseCheckReport, CheckError, CheckSources, ForgeBranch, KnownBases, LatestError, Location,
};

pub use crate::steps::check::Policy;

/// Where to look for what is known of bases, besides the Package Registry and the base repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceOptions {
    /// The configuration of the base repository: an address or a path.
    pub config_url: Option<String>,
    /// End-of-life data: an address or a path.
    pub eol_data_url: Option<String>,
    /// Whether the registry may be asked.
    pub probe: bool,
}

/// What a check was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckOptions {
    pub base: Option<ImageReference>,
    /// Relative to the working directory, as are the report files.
    pub dockerfile: Option<PathBuf>,
    /// `NAME=VALUE` each.
    pub build_arguments: Vec<String>,
    pub project: Option<String>,
    pub policy: Policy,
    pub sources: SourceOptions,
    pub output: CheckOutput,
    pub report_codequality: Option<PathBuf>,
    pub report_dotenv: Option<PathBuf>,
}

/// The form of a check's report on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOutput {
    Text,
    Json,
    /// A code quality report.
    Gitlab,
    /// Text, and annotations.
    Github,
}

/// What `latest` was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatestOptions {
    pub name: String,
    pub line: Option<String>,
    pub sources: SourceOptions,
    pub output: Output,
}

/// What `base-args` was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseArgumentsOptions {
    pub base: ImageReference,
    pub form: ArgumentsForm,
    pub sources: SourceOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentsForm {
    Flags,
    Json,
}

/// Checks a base.
pub(super) fn check(
    options: &CheckOptions,
    global: &Global,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    // What is wrong with the command line itself is told in any case.
    let given = build_arguments(&options.build_arguments)?;
    match checked(options, &given, global, surroundings) {
        Err(failure)
            if options.policy.warn_only && matches!(failure.exit, Exit::Failed | Exit::Usage) =>
        {
            tracing::warn!(
                "the check could not be made: {}",
                chain(failure.error.as_ref())
            );
            failure
                .hints
                .iter()
                .for_each(|hint| tracing::warn!("{hint}"));
            Ok(Exit::Done)
        }
        result => result,
    }
}

fn checked(
    options: &CheckOptions,
    given: &BTreeMap<String, String>,
    global: &Global,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    let process = &surroundings.process;
    let (base, location) = wanted(options, given, process)?;
    let config = load_configuration(global, process)?;
    let prepare = |path: &Option<PathBuf>| {
        path.as_ref()
            .map(|path| ReportFile::prepare(path, &process.directory))
            .transpose()
    };
    let (codequality_file, dotenv_file) = (
        prepare(&options.report_codequality)?,
        prepare(&options.report_dotenv)?,
    );
    let project = options
        .project
        .clone()
        .or_else(|| ci::project(&process.variables));
    runtime::run(surroundings.deadline, |cancel| async move {
        let report = match base {
            Base::Scratch => BaseCheckReport::of_scratch(location, options.policy),
            Base::Image(base) => {
                let work = async {
                    let found = Found::find(
                        &config,
                        &options.sources,
                        Some(&base.repository),
                        surroundings,
                    )
                    .await?;
                    check::observe(&base, project.as_deref(), &found.sources(process))
                        .await
                        .map_err(failure)
                };
                let world = tokio::select! {
                    world = work => world?,
                    () = cancel.cancelled() => return Err(Failure::failed("stopped before anything was known")),
                };
                BaseCheckReport::new(base, location, &world, options.policy)
            }
        };
        surroundings.note(false, report.variables());
        let issues = codequality::draw(&report.issues()).map_err(Failure::failed)?;
        let shown = match options.output {
            CheckOutput::Text => {
                surroundings.report(Output::Text, "check", &report, &report.document())
            }
            CheckOutput::Json => {
                surroundings.report(Output::Json, "check", &report, &report.document())
            }
            CheckOutput::Gitlab => surroundings.print(&issues),
            CheckOutput::Github => surroundings
                .report(Output::Text, "check", &report, &report.document())
                .and_then(|()| {
                    let commands: String = report
                        .annotations()
                        .iter()
                        .map(ci::annotations::Annotation::command)
                        .collect();
                    surroundings.print(&commands)
                }),
        };
        let written = [
            shown,
            codequality_file.map_or(Ok(()), |file| file.write(&issues)),
            dotenv_file.map_or(Ok(()), |file| {
                file.write(&dotenv::draw(&report.variables()))
            }),
        ];
        written.into_iter().collect::<Result<(), Failure>>()?;
        surroundings.violated(&report.violations());
        Ok(report.exit())
    })
}

/// Returns the base that is asked for, and where it is named.
fn wanted(
    options: &CheckOptions,
    given: &BTreeMap<String, String>,
    process: &Process,
) -> Result<(Base, Option<Location>), Failure> {
    let base = options
        .base
        .as_ref()
        .map(|base| base.resolved_below(&process.directory));
    let path = match (&options.dockerfile, &base) {
        (Some(path), _) => path.clone(),
        (None, None) => PathBuf::from("Dockerfile"),
        (None, Some(base)) => return Ok((Base::Image(base.clone()), None)),
    };
    let foundation = foundation(&path, given, process);
    let place = |line| {
        Some(Location {
            path: path.to_string_lossy().into_owned(),
            line,
        })
    };
    match (base, foundation) {
        (None, foundation) => {
            foundation.map(|foundation| (foundation.base, place(foundation.line)))
        }
        // What the file says is only where to point at.
        (Some(base), foundation) => Ok((
            Base::Image(base),
            place(foundation.map_or(1, |foundation| foundation.line)),
        )),
    }
}

fn foundation(
    path: &Path,
    given: &BTreeMap<String, String>,
    process: &Process,
) -> Result<Foundation, Failure> {
    let name = path.display();
    let text = std::fs::File::open(process.directory.join(path)).and_then(|file| {
        let mut bytes = Vec::new();
        let limit = u64::try_from(dockerfile::LONGEST_FILE).unwrap_or(u64::MAX);
        std::io::Read::read_to_end(
            &mut std::io::Read::take(file, limit.saturating_add(1)),
            &mut bytes,
        )?;
        Ok(bytes)
    });
    let text = text.map_err(|error| {
        Failure::usage(format!("cannot read {name}: {error}"))
            .hint("name the file with `--dockerfile`, or the base itself with `--base`")
    })?;
    let values = Values {
        given,
        environment: &process.variables,
    };
    dockerfile::foundation(&String::from_utf8_lossy(&text), values).map_err(|error| {
        let place = error
            .line
            .map_or_else(|| name.to_string(), |line| format!("{name}:{line}"));
        let hint = error.hint();
        hint.into_iter().fold(
            Failure::failed(format!("{place}: {}", error.problem)),
            Failure::hint,
        )
    })
}

fn build_arguments(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| {
        text.split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    texts
        .iter()
        .map(|text| {
            pair(text).ok_or_else(|| {
                Failure::usage(format!(
                    "`--build-arg {}` is no argument",
                    excerpt(text, 80)
                ))
                .hint("write it as `--build-arg NAME=VALUE`")
            })
        })
        .collect()
}

/// Prints the newest image of a base.
pub(super) fn latest(
    options: &LatestOptions,
    global: &Global,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    #[derive(Serialize)]
    struct Latest {
        name: String,
        latest: ImageReference,
    }
    let process = &surroundings.process;
    let config = load_configuration(global, process)?;
    // A bare name is that of a base, and of no image of Docker Hub.
    let asked = options
        .name
        .contains('/')
        .then(|| options.name.parse::<ImageReference>().ok())
        .flatten();
    let asked = asked.map(|asked| asked.resolved_below(&process.directory));
    let name = asked
        .as_ref()
        .map_or(options.name.clone(), ToString::to_string);
    runtime::read(surroundings.deadline, async move {
        let found = Found::find(
            &config,
            &options.sources,
            asked.as_ref().map(|asked| &asked.repository),
            surroundings,
        )
        .await?;
        let known: KnownBases = check::known(&found.sources(process), asked.as_ref())
            .await
            .map_err(failure)?;
        known
            .warnings
            .iter()
            .for_each(|warning| tracing::warn!("{warning}"));
        let latest = check::latest(&known, &name, options.line.as_deref()).map_err(
            |error: LatestError| {
                let hint = error.hint();
                hint.into_iter().fold(Failure::failed(error), Failure::hint)
            },
        )?;
        known
            .base(&latest.repository)
            .into_iter()
            .flat_map(|base| &base.unknown_tags)
            .for_each(|warning| tracing::warn!("{warning}"));
        match options.output {
            Output::Text => surroundings.print(&format!("{latest}\n"))?,
            Output::Json => {
                surroundings.report(
                    Output::Json,
                    "latest",
                    &Latest {
                        name: options.name.clone(),
                        latest,
                    },
                    &Default::default(),
                )?;
            }
        }
        Ok(Exit::Done)
    })
}

/// Prints the flags that tell a build which base it stands on.
pub(super) fn base_arguments(
    options: &BaseArgumentsOptions,
    global: &Global,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    let process = &surroundings.process;
    let config = load_configuration(global, process)?;
    runtime::read(surroundings.deadline, async move {
        let mut base = options.base.resolved_below(&process.directory);
        let can_ask = options.sources != SourceOptions::default() || tells_records(&config);
        if base.digest.is_none() && can_ask {
            let found = Found::find(
                &config,
                &options.sources,
                Some(&base.repository),
                surroundings,
            )
            .await?;
            base.digest = match check::observe(&base, None, &found.sources(process)).await {
                Ok(world) => world.digest_now,
                Err(error) => {
                    tracing::warn!("the digest of {base} is not known: {}", chain(&error));
                    None
                }
            };
        }
        let arguments = check::base_arguments(&base);
        match options.form {
            ArgumentsForm::Json => {
                surroundings.report(Output::Json, "base-args", &arguments, &Default::default())?;
            }
            ArgumentsForm::Flags => {
                let flags = arguments.flags().ok_or_else(|| {
                    Failure::failed(format!(
                        "{base} has characters that a shell would not leave alone"
                    ))
                    .hint("take `--format json`")
                })?;
                surroundings.print(&format!("{flags}\n"))?;
            }
        }
        Ok(Exit::Done)
    })
}

/// The sources of a run, which the step borrows.
struct Found {
    records: Option<Records>,
    repository: Option<BaseRepository>,
    configuration: Option<SourceText>,
    eol_data: Option<(String, Bytes)>,
    stores: Option<ImageStores>,
}

impl Found {
    /// Returns the sources that the options and the configuration lead to. Fails when these are
    /// none.
    async fn find(
        config: &Config,
        options: &SourceOptions,
        repository: Option<&Repository>,
        surroundings: &Surroundings,
    ) -> Result<Found, Failure> {
        let process = &surroundings.process;
        let needs_none = options.config_url.is_some() || options.probe;
        let records = if needs_none && !tells_records(config) {
            None
        } else {
            let hint = "or name the configuration of the bases with `--config-url`, or ask the registry with `--probe`";
            Some(records(config, process, Mode::DryRun).map_err(|failure| {
                if needs_none {
                    failure
                } else {
                    failure.hint(hint)
                }
            })?)
        };
        let mut configuration = None;
        if let Some(location) = &options.config_url {
            let text = String::from_utf8_lossy(&documents::read(location, config, process).await?)
                .into_owned();
            configuration = Some(SourceText {
                name: excerpt(location, 200),
                text,
            });
        }
        let mut eol_data = None;
        if let Some(location) = &options.eol_data_url {
            eol_data = Some((
                excerpt(location, 200),
                documents::read(location, config, process).await?,
            ));
        }
        let stores = if options.probe {
            Some(image_places(
                config,
                repository.into_iter(),
                surroundings,
                Mode::DryRun,
            )?)
        } else {
            None
        };
        Ok(Found {
            records,
            repository: base_repository(config, process)?,
            configuration,
            eol_data,
            stores,
        })
    }

    fn sources(&self, process: &Process) -> CheckSources<'_> {
        CheckSources {
            records: self.records.as_ref(),
            forge: self.repository.as_ref().map(|repository| ForgeBranch {
                forge: &*repository.forge,
                reference: &repository.reference,
            }),
            configuration: self.configuration.as_ref(),
            eol_data: self
                .eol_data
                .as_ref()
                .map(|(name, bytes)| (name.as_str(), bytes.as_ref())),
            stores: self.stores.as_ref(),
            now: process.clock.now(),
        }
    }
}

fn failure(error: CheckError) -> Failure {
    let hint = error.hint();
    hint.into_iter().fold(Failure::failed(error), Failure::hint)
}
