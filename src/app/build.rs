//! `imglife build`: options, stores, engines, the step, its result.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use chrono::{DateTime, NaiveDate};
use tokio_util::sync::CancellationToken;

use super::configuration::{load_configuration, missing_setting};
use super::engines::engines;
use super::eol::end_of_life_table;
use super::hooks::hook_runner;
use super::image_stores::image_stores;
use super::only::checked_only;
use super::report_files::ReportFile;
use super::result::CommandResult;
use super::{CommandContext, GlobalOptions, Mode, OutputForm, Shard, runtime};
use crate::ci;
use crate::config::{BuildConfig, Config};
use crate::engines::BuildxBuilder;
use crate::error::Failure;
use crate::files::refuse_link_out;
use crate::model::Variables;
use crate::model::env;
use crate::model::eol::Calendar;
use crate::model::text::excerpt;
use crate::process::Process;
use crate::report::junit;
use crate::steps::build::{
    self, BuildExecution, BuildReport, BuildScope, ChildMode, RunMetadata, World,
};
use crate::steps::eol::{EolAssessor, products_of_image};

/// Options of `imglife build`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildOptions {
    pub mode: Mode,
    /// Patterns of `--only`.
    pub only: Vec<String>,
    pub shard: Option<Shard>,
    /// True if published images are rebuilt.
    pub force: bool,
    pub form: BuildForm,
    /// File for a JUnit report, relative to the working directory.
    pub report_junit: Option<PathBuf>,
    /// Settings of the buildx builder that is created if docker has only its default one; `None`:
    /// create none.
    pub own_builder: Option<BuildxBuilder>,
}

/// Output of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildForm {
    Report(OutputForm),
    /// Build contexts in a directory, relative to the working directory. No image is built.
    Contexts(PathBuf),
    /// Child pipeline for GitLab with a job for each image. No image is built.
    GitlabChild,
}

/// Runs a build.
pub(super) fn run(
    options: &BuildOptions,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let process = &context.process;
    let config = load_configuration(global, process)?;
    let Some(build) = config
        .build
        .as_ref()
        .filter(|build| !build.images.is_empty())
    else {
        return Err(missing_setting("build.images", &config, process)
            .hint("add an image with a `folder` that has a template, and its `mirror_image`"));
    };
    let mut patterns = options.only.clone();
    if options.form == BuildForm::GitlabChild {
        // An input of the component, which the script does not pass as an argument.
        patterns.extend(
            process
                .variables
                .get_filled(env::IMGLIFE_BUILD_ONLY)
                .into_iter()
                .flat_map(str::lines)
                .map(str::to_owned),
        );
    }
    let scope = BuildScope {
        only: checked_only(
            &patterns,
            &config.directory,
            &names(&config),
            "`--only` matches the name or repository of an image",
        )?,
        shard: options.shard,
    };
    if options.form == BuildForm::GitlabChild {
        let tags = child_tags(&process.variables)?;
        let child = build::ChildPipeline {
            scope: &scope,
            permissions: process.variables.permissions(),
            configuration: config.file.as_deref(),
            directory: &process.directory,
            tags: &tags,
            mode: child_mode(&process.variables)?,
            expire_in: process.variables.get_filled(env::IMGLIFE_CHILD_KEEP),
        };
        return Ok(CommandResult::text(build::child_pipeline(build, &child)));
    }
    let junit_file =
        ReportFile::prepare_if_set(options.report_junit.as_deref(), &process.directory)?;
    runtime::run(context.deadline, |cancel| async {
        let report = run_step(&config, build, &scope, options, context, cancel).await?;
        let output = if let BuildForm::Report(output) = options.form {
            output
        } else {
            OutputForm::Text
        };
        let mut result =
            CommandResult::reported(report.exit(), output, "build", &report, report.document())?;
        result.outputs.extend(report.outputs());
        Ok(result
            .changed(options.mode == Mode::Apply && report.totals.built > 0)
            .and_file(junit_file, || junit::draw(&report.test_suite())))
    })
}

/// Returns the runner tags of a child pipeline. GitLab passes the component's input as a JSON list.
fn child_tags(variables: &Variables) -> Result<Vec<String>, Failure> {
    let Some(text) = variables.get_filled(env::IMGLIFE_CHILD_TAGS) else {
        return Ok(Vec::new());
    };
    serde_json::from_str(text).map_err(|error| {
        Failure::usage(format!(
            "IMGLIFE_CHILD_TAGS is not a JSON list of strings: {error}"
        ))
    })
}

/// Returns the build mode of the jobs of a child pipeline. Fails for a mode that needs a service in
/// each job.
fn child_mode(variables: &Variables) -> Result<ChildMode, Failure> {
    let Some(name) = variables.get_filled(env::IMGLIFE_CHILD_MODE) else {
        return Ok(ChildMode::Native);
    };
    ChildMode::named(name).ok_or_else(|| {
        let name = excerpt(name, 80);
        Failure::usage(format!("a child pipeline does not support the mode `{name}`: its jobs have no services"))
            .hint("use the mode `native` or `buildah`, or the input `parallel` instead of `child-pipeline`")
    })
}

/// Returns the names that `--only` can match, for each image.
pub(super) fn names(config: &Config) -> Vec<Vec<String>> {
    config
        .build
        .iter()
        .flat_map(|build| &build.images)
        .map(build::names)
        .collect()
}

async fn run_step(
    config: &Config,
    build: &BuildConfig,
    scope: &BuildScope,
    options: &BuildOptions,
    context: &CommandContext,
    cancel: CancellationToken,
) -> Result<BuildReport, Failure> {
    let began = Instant::now();
    let process = &context.process;
    // A run that only writes contexts pushes nothing.
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
    let stores = image_stores(config, repositories(), context, mode)?;
    let world = tokio::select! {
        world = build::observe(config, build, scope, &stores, &*context.progress) => world,
        () = cancel.cancelled() => {
            tracing::warn!("stopped while reading the registries; nothing was changed");
            return Ok(BuildReport::stopped(options.mode, began.elapsed()));
        }
    };
    let run_metadata = run_metadata(process)?;
    let eol_dates = eol_dates(config, build, &world, context).await?;
    let plan = build::plan(build, &world, options.force);
    if let BuildForm::Contexts(directory) = &options.form {
        refuse_link_out(&process.directory, directory).map_err(|error| {
            Failure::usage(format!("cannot write to {}: {error}", directory.display()))
                .hint("choose another `--output-dir`")
        })?;
        let contexts = build::ContextOptions {
            directory: process.directory.join(directory),
            run_metadata,
            eol_dates,
        };
        let report = build::write_contexts(build, &plan, &world, &contexts);
        return Ok(BuildReport {
            duration: began.elapsed(),
            ..report
        });
    }
    let execution = BuildExecution {
        mode,
        engines: engines(
            config,
            build,
            options.own_builder.as_ref(),
            &stores,
            context,
        )
        .await?,
        stores,
        progress: context.progress.clone(),
        hooks: hook_runner(config, process, mode),
        cancel,
        run_metadata,
        eol_dates,
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

/// Returns the build time, the commit and the source URL for labels. `SOURCE_DATE_EPOCH`
/// (reproducible-builds.org) takes precedence over the clock.
fn run_metadata(process: &Process) -> Result<RunMetadata, Failure> {
    let created = match process.variables.get_filled(env::SOURCE_DATE_EPOCH) {
        None => process.clock.now(),
        Some(text) => text
            .parse()
            .ok()
            .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
            .ok_or_else(|| {
                Failure::usage("SOURCE_DATE_EPOCH is not a number of seconds since 1970")
                    .hint("set it to the output of `git log -1 --format=%ct`")
            })?,
    };
    let job = ci::CiJob::of(&process.variables);
    Ok(RunMetadata {
        created,
        revision: job.revision,
        source: ci::source_url(&process.variables),
    })
}

/// Returns the end-of-life dates of the images, from the local data. If the data cannot be read,
/// logs a warning and returns none: images are then built without that label.
async fn eol_dates(
    config: &Config,
    build: &BuildConfig,
    world: &World,
    context: &CommandContext,
) -> Result<HashMap<usize, NaiveDate>, Failure> {
    if build
        .images
        .iter()
        .all(|image| products_of_image(image, config).is_empty())
    {
        return Ok(HashMap::new());
    }
    let table = match end_of_life_table(config, context).await {
        Ok(table) => table,
        Err(failure) => {
            let cause = crate::error::chain(&*failure.error);
            tracing::warn!(
                "images get no label `imglife.eol`: {cause}; run `imglife eol update` before the build"
            );
            return Ok(HashMap::new());
        }
    };
    let calendar = Calendar {
        today: context.process.clock.now().date_naive(),
        warn_days: config.lifecycle.warn_days,
    };
    let assessor = EolAssessor {
        table: &table,
        phase: config.lifecycle.phase,
        calendar,
    };
    Ok(build::eol_dates(config, build, world, &assessor))
}
