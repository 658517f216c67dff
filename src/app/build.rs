//! `build`: from its options and the configuration to places, engines, step, report and exit code.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, NaiveDate};
use tokio_util::sync::CancellationToken;

use super::configuration::{lacks, load_configuration};
use super::engines::engines;
use super::eol::end_of_life_table;
use super::places::image_places;
use super::report_files::ReportFile;
use super::{Global, Mode, Output, Shard, Surroundings, runtime};
use crate::ci;
use crate::command::{RefusingRunner, Runner, SystemRunner};
use crate::config::{BuildConfig, Config};
use crate::error::{Exit, Failure};
use crate::hooks::HookRunner;
use crate::model::Variables;
use crate::model::env;
use crate::model::eol::Calendar;
use crate::model::text::excerpt;
use crate::process::Process;
use crate::report::junit;
use crate::steps::build::{self, BuildReport, ChildMode, Execution, Occasion, Scope, World};
use crate::steps::eol::{EolAssessor, products_of_image};
use crate::steps::shard::Only;

/// What a build was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildOptions {
    pub mode: Mode,
    /// Patterns of `--only`, as written.
    pub only: Vec<String>,
    pub shard: Option<Shard>,
    /// Whether images are built again that are published.
    pub force: bool,
    pub form: BuildForm,
    /// Where a JUnit report is written; relative to the working directory.
    pub report_junit: Option<PathBuf>,
}

/// What comes out of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildForm {
    Report(Output),
    /// Images are not built: what they are made of is written into a directory, relative to the
    /// working directory.
    Contexts(PathBuf),
    /// A child pipeline for GitLab, with a job for each image.
    GitlabChild,
}

/// Runs a build.
pub(super) fn run(
    options: &BuildOptions,
    global: &Global,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    let process = &surroundings.process;
    let config = load_configuration(global, process)?;
    let Some(build) = config
        .build
        .as_ref()
        .filter(|build| !build.images.is_empty())
    else {
        return Err(lacks("build.images", &config, process).hint(
            "an image names a `folder` with a template, and the `mirror_image` it is built on",
        ));
    };
    let mut patterns = options.only.clone();
    if options.form == BuildForm::GitlabChild {
        // A component's input, which is in no script.
        patterns.extend(
            process
                .variables
                .get_filled(env::IMGLIFE_BUILD_ONLY)
                .into_iter()
                .flat_map(str::lines)
                .map(str::to_owned),
        );
    }
    let scope = Scope {
        only: only(&patterns, &config.directory, build)?,
        shard: options.shard,
    };
    if options.form == BuildForm::GitlabChild {
        let tags = child_tags(&process.variables)?;
        let child = build::ChildPipeline {
            scope: &scope,
            configuration: config.file.as_deref(),
            directory: &process.directory,
            tags: &tags,
            mode: child_mode(&process.variables)?,
            keep: process.variables.get_filled(env::IMGLIFE_CHILD_KEEP),
        };
        surroundings.print(&build::child_pipeline(build, &child))?;
        return Ok(Exit::Done);
    }
    let junit_file = options
        .report_junit
        .as_ref()
        .map(|path| ReportFile::prepare(path, &process.directory))
        .transpose()?;
    runtime::run(surroundings.deadline, |cancel| async {
        let report = run_step(&config, build, &scope, options, surroundings, cancel).await?;
        surroundings.note(
            options.mode == Mode::Apply && report.totals.built > 0,
            report.outputs(),
        );
        let output = if let BuildForm::Report(output) = options.form {
            output
        } else {
            Output::Text
        };
        // Both are tried: a full disk under one is no reason to lose the other.
        let written = [
            surroundings.report(output, "build", &report, &report.document()),
            junit_file.map_or(Ok(()), |file| {
                file.write(&junit::draw(&report.test_suite()))
            }),
        ];
        written.into_iter().collect::<Result<(), Failure>>()?;
        Ok(report.exit())
    })
}

/// Returns the tags of the runners that a child pipeline is for: a list in JSON, as GitLab puts a
/// component's input into a variable.
fn child_tags(variables: &Variables) -> Result<Vec<String>, Failure> {
    let Some(text) = variables.get_filled(env::IMGLIFE_CHILD_TAGS) else {
        return Ok(Vec::new());
    };
    serde_json::from_str(text).map_err(|error| {
        Failure::usage(format!(
            "IMGLIFE_CHILD_TAGS is no list of texts in JSON: {error}"
        ))
    })
}

/// Returns what the jobs of a child pipeline have to build with. Fails for what would need a
/// service beside each.
fn child_mode(variables: &Variables) -> Result<ChildMode, Failure> {
    let Some(name) = variables.get_filled(env::IMGLIFE_CHILD_MODE) else {
        return Ok(ChildMode::Native);
    };
    ChildMode::named(name).ok_or_else(|| {
        let name = excerpt(name, 80);
        Failure::usage(format!("a child pipeline does not go with the mode `{name}`: its jobs have no services, and build what they push"))
            .hint("take the mode `native` or `buildah`, or the input `parallel` instead of `child-pipeline`")
    })
}

/// Returns the names by which `--only` knows each image.
pub(super) fn names(config: &Config) -> Vec<Vec<String>> {
    config
        .build
        .iter()
        .flat_map(|build| &build.images)
        .map(build::names)
        .collect()
}

fn only(patterns: &[String], directory: &Path, build: &BuildConfig) -> Result<Only, Failure> {
    let only = Only::below(patterns, directory).map_err(Failure::usage)?;
    let names: Vec<Vec<String>> = build.images.iter().map(build::names).collect();
    only.check(&names).map_err(|error| {
        let mut known: Vec<&str> = build
            .images
            .iter()
            .map(|image| image.name.as_str())
            .collect();
        known.sort_unstable();
        known.dedup();
        Failure::usage(error).hint(format!(
            "images are known by their name: {}",
            known.join(", ")
        ))
    })?;
    Ok(only)
}

async fn run_step(
    config: &Config,
    build: &BuildConfig,
    scope: &Scope,
    options: &BuildOptions,
    surroundings: &Surroundings,
    cancel: CancellationToken,
) -> Result<BuildReport, Failure> {
    let began = Instant::now();
    let process = &surroundings.process;
    // Nothing is pushed where only contexts are written.
    let mode = if matches!(options.form, BuildForm::Contexts(_)) {
        Mode::DryRun
    } else {
        options.mode
    };
    let repositories = || {
        build
            .images
            .iter()
            .flat_map(|image| [&image.repository, &image.mirror_image])
    };
    let stores = image_places(config, repositories(), surroundings, mode)?;
    let world = tokio::select! {
        world = build::observe(config, build, scope, &stores, &*surroundings.progress) => world,
        () = cancel.cancelled() => {
            tracing::warn!("stopped while looking at the registries; nothing was changed");
            return Ok(BuildReport::stopped(options.mode, began.elapsed()));
        }
    };
    let occasion = occasion(process)?;
    let ends = ends(config, build, &world, surroundings).await?;
    let plan = build::plan(build, &world, options.force);
    if let BuildForm::Contexts(directory) = &options.form {
        let contexts = build::Contexts {
            directory: process.directory.join(directory),
            occasion,
            ends,
        };
        let report = build::write_contexts(build, &plan, &world, &contexts);
        return Ok(BuildReport {
            duration: began.elapsed(),
            ..report
        });
    }
    let runner: Arc<dyn Runner> = if mode == Mode::Apply {
        Arc::new(SystemRunner)
    } else {
        Arc::new(RefusingRunner)
    };
    let execution = Execution {
        mode,
        engines: engines(config, build, &stores, surroundings).await?,
        stores,
        progress: surroundings.progress.clone(),
        hooks: HookRunner::new(runner, process.variables.clone(), config.directory.clone()),
        cancel,
        occasion,
        ends,
    };
    let report = build::execute(build, &plan, &execution).await;
    for engine in &execution.engines {
        engine.close().await;
    }
    Ok(BuildReport {
        duration: began.elapsed(),
        ..report
    })
}

/// Returns the time, the commit and the place of what is built: `SOURCE_DATE_EPOCH`
/// (reproducible-builds.org) before the clock.
fn occasion(process: &Process) -> Result<Occasion, Failure> {
    let created = match process.variables.get_filled(env::SOURCE_DATE_EPOCH) {
        None => process.clock.now(),
        Some(text) => text
            .parse()
            .ok()
            .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
            .ok_or_else(|| {
                Failure::usage("SOURCE_DATE_EPOCH is no time in seconds since 1970")
                    .hint("set it as `git log -1 --format=%ct` prints it")
            })?,
    };
    let job = ci::Build::of(&process.variables);
    Ok(Occasion {
        created,
        revision: job.revision,
        source: ci::source_url(&process.variables),
    })
}

/// Returns when the images end, by the data at hand. Data that cannot be read stop nothing: the
/// label is then left out.
async fn ends(
    config: &Config,
    build: &BuildConfig,
    world: &World,
    surroundings: &Surroundings,
) -> Result<HashMap<usize, NaiveDate>, Failure> {
    if build
        .images
        .iter()
        .all(|image| products_of_image(image, config).is_empty())
    {
        return Ok(HashMap::new());
    }
    let table = match end_of_life_table(config, surroundings).await {
        Ok(table) => table,
        Err(failure) => {
            let cause = crate::error::chain(&*failure.error);
            tracing::warn!(
                "images get no label `imglife.eol`: {cause}; `imglife eol update` before a build brings the dates"
            );
            return Ok(HashMap::new());
        }
    };
    let calendar = Calendar {
        today: surroundings.process.clock.now().date_naive(),
        warn_days: config.lifecycle.warn_days,
    };
    let assessor = EolAssessor {
        table: &table,
        phase: config.lifecycle.phase,
        calendar,
    };
    Ok(build::ends(config, build, world, &assessor))
}
