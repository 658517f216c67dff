//! `imglife check`, `latest` and `base-args`: options, sources, the step, its result.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Serialize;

use super::configuration::{has_record_store, load_configuration};
use super::documents;
use super::forge::{BaseRepository, base_repository};
use super::image_stores::image_stores;
use super::records::{records, token_variable};
use super::report_files::ReportFile;
use super::result::{CommandResult, warn_of};
use super::{CommandContext, GlobalOptions, Mode, OutputForm, runtime};
use crate::ci;
use crate::config::{Config, SourceText};
use crate::dockerfile::{self, ArgumentValues, DockerfileBase, FinalStageBase};
use crate::error::{Exit, Failure, chain};
use crate::model::env;
use crate::model::text::excerpt;
use crate::model::{ImageReference, Repository};
use crate::packages::Records;
use crate::process::Process;
use crate::registry::ImageStores;
use crate::report::{Document, codequality, dotenv};
use crate::steps::check::{
    self, BaseCheckReport, CheckError, CheckSources, ForgeBranch, KnownBases, LatestError,
    LatestImage, LatestRequest, Location,
};

pub use crate::steps::check::Policy;

/// Sources of data about bases, besides the Package Registry and the base repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceOptions {
    /// Configuration of the base repository: a URL or a path.
    pub config_url: Option<String>,
    /// End-of-life data: a URL or a path.
    pub eol_data_url: Option<String>,
    /// True if tags may be read from the image registry.
    pub probe: bool,
}

/// Options of `imglife check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckOptions {
    pub base: Option<ImageReference>,
    /// Dockerfile. Relative to the working directory, like the report files.
    pub dockerfile: Option<PathBuf>,
    /// Build arguments, each as `NAME=VALUE`.
    pub build_arguments: Vec<String>,
    pub project: Option<String>,
    pub policy: Policy,
    pub sources: SourceOptions,
    pub output: CheckOutput,
    pub report_codequality: Option<PathBuf>,
    pub report_dotenv: Option<PathBuf>,
}

/// Format of the report of `imglife check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOutput {
    Text,
    Json,
    /// Code quality report.
    Gitlab,
    /// Text and annotations.
    Github,
}

/// Options of `imglife latest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatestOptions {
    pub name: String,
    pub line: Option<String>,
    /// Variant, such as `slim`.
    pub variant: Option<String>,
    pub sources: SourceOptions,
    pub output: OutputForm,
}

/// Options of `imglife base-args`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseArgumentsOptions {
    pub base: ImageReference,
    pub form: ArgumentsForm,
    pub sources: SourceOptions,
}

/// Format of the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentsForm {
    Flags,
    Json,
}

/// Checks a base. With `--warn`, a failure is only a warning.
pub(super) fn check(
    options: &CheckOptions,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    // An invalid command line is an error even with `--warn`.
    let given = build_arguments(&options.build_arguments)?;
    match check_base(options, &given, global, context) {
        Err(failure)
            if options.policy.warn_only && matches!(failure.exit, Exit::Failed | Exit::Usage) =>
        {
            warn_of(&failure);
            Ok(CommandResult::new(Exit::Done))
        }
        result => result,
    }
}

fn check_base(
    options: &CheckOptions,
    given: &BTreeMap<String, String>,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let process = &context.process;
    let (base, location) = base_and_location(options, given, process)?;
    let config = load_configuration(global, process)?;
    let prepare =
        |path: &Option<PathBuf>| ReportFile::prepare_if_set(path.as_deref(), &process.directory);
    let (codequality_file, dotenv_file) = (
        prepare(&options.report_codequality)?,
        prepare(&options.report_dotenv)?,
    );
    let project = options
        .project
        .clone()
        .or_else(|| ci::project(&process.variables));
    runtime::run(context.deadline, |cancel| async move {
        let report = match base {
            DockerfileBase::Scratch => BaseCheckReport::of_scratch(location, options.policy),
            DockerfileBase::Image(base) => {
                let work = async {
                    let sources = OpenedSources::open(
                        &config,
                        &options.sources,
                        Some(&base.repository),
                        context,
                    )
                    .await?;
                    check::observe(&base, project.as_deref(), &sources.step_sources(process))
                        .await
                        .map_err(failure)
                };
                let world = tokio::select! {
                    world = work => world?,
                    () = cancel.cancelled() => return Err(Failure::failed("stopped before the check was complete")),
                };
                BaseCheckReport::new(base, location, &world, options.policy)
            }
        };
        let issues = codequality::draw(&report.issues()).map_err(Failure::failed)?;
        let mut result = CommandResult::new(report.exit()).with_report("check", &report)?;
        result.is_advisory = options.policy.warn_only;
        result.outputs.extend(report.variables());
        result.violations = report.violations();
        let result = match options.output {
            CheckOutput::Text => result.and_document(report.document()),
            CheckOutput::Json => result.and_json(),
            CheckOutput::Gitlab => result.and_text(issues.clone()),
            CheckOutput::Github => {
                let commands: String = report
                    .annotations()
                    .iter()
                    .map(ci::annotations::Annotation::command)
                    .collect();
                result.and_document(report.document()).and_text(commands)
            }
        };
        Ok(result
            .and_file(codequality_file, || issues)
            .and_file(dotenv_file, || dotenv::draw(&report.variables())))
    })
}

/// Returns the base to check, and its location in a Dockerfile.
fn base_and_location(
    options: &CheckOptions,
    given: &BTreeMap<String, String>,
    process: &Process,
) -> Result<(DockerfileBase, Option<Location>), Failure> {
    let base = options
        .base
        .as_ref()
        .map(|base| base.resolved_below(&process.directory));
    let path = match (&options.dockerfile, &base) {
        (Some(path), _) => path.clone(),
        (None, None) => PathBuf::from("Dockerfile"),
        (None, Some(base)) => return Ok((DockerfileBase::Image(base.clone()), None)),
    };
    let foundation = foundation(&path, given, process);
    let location = |line| {
        Some(Location {
            path: path.to_string_lossy().into_owned(),
            line,
        })
    };
    match (base, foundation) {
        (None, foundation) => {
            foundation.map(|foundation| (foundation.base, location(foundation.line)))
        }
        // The file only provides the location.
        (Some(base), foundation) => Ok((
            DockerfileBase::Image(base),
            location(foundation.map_or(1, |foundation| foundation.line)),
        )),
    }
}

/// Reads the base of the last stage of a Dockerfile.
fn foundation(
    path: &Path,
    given: &BTreeMap<String, String>,
    process: &Process,
) -> Result<FinalStageBase, Failure> {
    let name = path.display();
    let text = std::fs::File::open(process.directory.join(path)).and_then(|file| {
        let mut bytes = Vec::new();
        let limit = u64::try_from(dockerfile::MAX_FILE_BYTES).unwrap_or(u64::MAX);
        std::io::Read::read_to_end(
            &mut std::io::Read::take(file, limit.saturating_add(1)),
            &mut bytes,
        )?;
        Ok(bytes)
    });
    let text = text.map_err(|error| {
        Failure::usage(format!("cannot read {name}: {error}"))
            .hint("set the path with `--dockerfile`, or the base with `--base`")
    })?;
    let values = ArgumentValues {
        given,
        environment: &process.variables,
    };
    dockerfile::final_stage_base(&String::from_utf8_lossy(&text), values).map_err(|error| {
        let location = error
            .line
            .map_or_else(|| name.to_string(), |line| format!("{name}:{line}"));
        let hint = error.hint();
        hint.into_iter().fold(
            Failure::failed(format!("{location}: {}", error.problem)),
            Failure::hint,
        )
    })
}

/// Parses build arguments. Fails with a usage error when one is not `NAME=VALUE`.
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
                    "`--build-arg {}` is not a build argument",
                    excerpt(text, 80)
                ))
                .hint("use the form `--build-arg NAME=VALUE`")
            })
        })
        .collect()
}

/// Prints the newest image of a base.
pub(super) fn latest(
    options: &LatestOptions,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    #[derive(Serialize)]
    struct Latest {
        name: String,
        latest: ImageReference,
    }
    let process = &context.process;
    let config = load_configuration(global, process)?;
    // A name without a slash is the name of a base, not of an image on Docker Hub.
    let reference = options
        .name
        .contains('/')
        .then(|| options.name.parse::<ImageReference>().ok())
        .flatten();
    let reference = reference.map(|reference| reference.resolved_below(&process.directory));
    let name = reference
        .as_ref()
        .map_or(options.name.clone(), ToString::to_string);
    runtime::read(context.deadline, async move {
        let sources = OpenedSources::open(
            &config,
            &options.sources,
            reference.as_ref().map(|reference| &reference.repository),
            context,
        )
        .await?;
        let known: KnownBases = check::known(&sources.step_sources(process), reference.as_ref())
            .await
            .map_err(failure)?;
        known
            .warnings
            .iter()
            .for_each(|warning| tracing::warn!("{warning}"));
        let request = LatestRequest {
            name: &name,
            line: options.line.as_deref(),
            variant: options.variant.as_deref(),
            now: process.clock.now(),
        };
        let LatestImage {
            image: latest,
            warnings,
        } = check::latest(&known, &request).map_err(|error: LatestError| {
            let hint = error.hint();
            hint.into_iter().fold(Failure::failed(error), Failure::hint)
        })?;
        warnings
            .iter()
            .for_each(|warning| tracing::warn!("{warning}"));
        known
            .base(&latest.repository)
            .into_iter()
            .flat_map(|base| &base.unknown_tags)
            .for_each(|warning| tracing::warn!("{warning}"));
        match options.output {
            OutputForm::Text => Ok(CommandResult::text(format!("{latest}\n"))),
            OutputForm::Json => {
                let report = Latest {
                    name: options.name.clone(),
                    latest,
                };
                CommandResult::reported(
                    Exit::Done,
                    OutputForm::Json,
                    "latest",
                    &report,
                    Document::default(),
                )
            }
        }
    })
}

/// Prints build flags that record the base of an image.
pub(super) fn base_arguments(
    options: &BaseArgumentsOptions,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let process = &context.process;
    let config = load_configuration(global, process)?;
    runtime::read(context.deadline, async move {
        let mut base = options.base.resolved_below(&process.directory);
        let has_sources = options.sources != SourceOptions::default() || has_record_store(&config);
        if base.digest.is_none() && has_sources {
            let sources =
                OpenedSources::open(&config, &options.sources, Some(&base.repository), context)
                    .await?;
            base.digest = match check::observe(&base, None, &sources.step_sources(process)).await {
                Ok(world) => world.digest_now,
                Err(error) => {
                    tracing::warn!("cannot determine the digest of {base}: {}", chain(&error));
                    None
                }
            };
        }
        let arguments = check::base_arguments(&base);
        match options.form {
            ArgumentsForm::Json => CommandResult::reported(
                Exit::Done,
                OutputForm::Json,
                "base-args",
                &arguments,
                Document::default(),
            ),
            ArgumentsForm::Flags => {
                let flags = arguments.flags().ok_or_else(|| {
                    Failure::failed(format!(
                        "{base} contains characters that a shell interprets"
                    ))
                    .hint("use `--format json`")
                })?;
                Ok(CommandResult::text(format!("{flags}\n")))
            }
        }
    })
}

/// Sources of a check, which the step borrows.
struct OpenedSources {
    records: Option<Records>,
    /// True if a token is set that not every job has.
    has_token: bool,
    repository: Option<BaseRepository>,
    configuration: Option<SourceText>,
    eol_data: Option<(String, Bytes)>,
    stores: Option<ImageStores>,
}

impl OpenedSources {
    /// Returns the sources of the options and the configuration. Fails when there are none.
    async fn open(
        config: &Config,
        options: &SourceOptions,
        repository: Option<&Repository>,
        context: &CommandContext,
    ) -> Result<OpenedSources, Failure> {
        let process = &context.process;
        let has_other_source = options.config_url.is_some() || options.probe;
        let records = if has_other_source && !has_record_store(config) {
            None
        } else {
            let hint = "or set the configuration of the base repository with `--config-url`, or read the tags in the registry with `--probe`";
            Some(records(config, process, Mode::DryRun).map_err(|failure| {
                if has_other_source {
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
            Some(image_stores(
                config,
                repository.into_iter(),
                context,
                Mode::DryRun,
            )?)
        } else {
            None
        };
        Ok(OpenedSources {
            records,
            has_token: token_variable(config, process)?
                .is_some_and(|variable| !matches!(variable, env::CI_JOB_TOKEN | env::GITHUB_TOKEN)),
            repository: base_repository(config, process)?,
            configuration,
            eol_data,
            stores,
        })
    }

    fn step_sources(&self, process: &Process) -> CheckSources<'_> {
        CheckSources {
            records: self.records.as_ref(),
            has_token: self.has_token,
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
