//! Running one step: its commands in a section of the log, their results printed as they arrive.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::options::{RunOptions, StepOptions};
use super::outputs::RunOutputs;
use super::report::{StepEnding, StepReport, worst};
use crate::app::commit_push::{self, CommitPushOptions};
use crate::app::configuration::has_record_store;
use crate::app::result::{CommandResult, is_signal, print};
use crate::app::{
    CheckOutput, CommandContext, EolNotifyOptions, EolUpdateOptions, GlobalOptions, Mode,
    OutputForm, StatusForm, StatusOptions, build, check, cleanup, eol, register, status, sync,
};
use crate::ci::{self, Sections};
use crate::config::{Config, EolTarget};
use crate::error::{Exit, Failure, chain};
use crate::model::env;
use crate::model::text::excerpt;
use crate::process::{Process, Stream};

/// File for the report of `status` in Markdown, unless its options name another one.
const STATUS_PAGE: &str = "README.md";
/// File for the report of `status` in JSON.
const STATUS_JSON: &str = "status.json";

/// Runs the steps of a run.
pub(super) struct StepRunner<'a> {
    pub(super) options: &'a RunOptions,
    pub(super) global: &'a GlobalOptions,
    pub(super) context: &'a CommandContext,
    pub(super) config: &'a Config,
    pub(super) outputs: &'a RunOutputs,
    /// True if changed files are committed and pushed.
    pub(super) publishes: bool,
}

impl StepRunner<'_> {
    /// Runs a step in its own section of the log. `before` are the reports of the steps before it.
    /// A failure of the step is part of the report.
    pub(super) fn run(
        &self,
        step: StepOptions,
        before: &[StepReport],
    ) -> Result<StepReport, Failure> {
        let (name, presentation) = (step.name(), &self.context.presentation);
        let process = &self.context.process;
        let sections = Sections::of(&process.variables);
        presentation.marker(&match sections {
            Some(sections) => sections.begin(name, process.clock.now()),
            None => format!("== {name} ==\n"),
        });
        if self.options.output == OutputForm::Text && before.iter().any(StepReport::was_run) {
            self.context.print("\n")?;
        }
        let began = Instant::now();
        let mut commands = StepCommands {
            runner: self,
            context: self.step_context(),
            results: Vec::new(),
            text: String::new(),
        };
        let ended = commands.run(step);
        if let Err(failure) = &ended {
            presentation.failure(failure);
        }
        let masker = process.variables.masker();
        let ending = StepEnding::of(
            ended.map_err(|failure| (failure.exit, masker.mask(&chain(failure.error.as_ref())))),
        );
        if let Some(sections) = sections {
            presentation.marker(&sections.end(name, process.clock.now()));
        }
        let StepCommands { results, text, .. } = commands;
        Ok(StepReport::new(
            name,
            ending,
            began.elapsed(),
            results,
            text,
        ))
    }

    /// Returns the context of a step: with its own progress, and without stdout when only the JSON
    /// report of the whole run is printed.
    fn step_context(&self) -> CommandContext {
        let process = &self.context.process;
        let stdout = match self.options.output {
            OutputForm::Text => process.stdout.clone(),
            OutputForm::Json => Stream::captured().0,
        };
        CommandContext {
            process: Process {
                stdout,
                ..process.clone()
            },
            progress: self.context.presentation.progress(),
            ..self.context.clone()
        }
    }
}

/// Commands of one step, and their results so far.
struct StepCommands<'a> {
    runner: &'a StepRunner<'a>,
    context: CommandContext,
    results: Vec<CommandResult>,
    /// Text that the commands printed.
    text: String,
}

impl StepCommands<'_> {
    fn run(&mut self, step: StepOptions) -> Result<Exit, Failure> {
        let (global, outputs) = (self.runner.global, self.runner.outputs);
        let result = match step {
            StepOptions::Sync(mut options) => {
                options.report_junit = options.report_junit.or_else(|| outputs.file("sync.xml"));
                options.report_metrics = options
                    .report_metrics
                    .or_else(|| outputs.file("sync.openmetrics.txt"));
                sync::run(&options, global, &self.context)
            }
            StepOptions::Build(mut options) => {
                options.report_junit = options.report_junit.or_else(|| outputs.file("build.xml"));
                build::run(&options, global, &self.context)
            }
            StepOptions::EolUpdate(options) => return self.eol_update(&options),
            StepOptions::Status(mut options) => {
                options.report_junit = options.report_junit.or_else(|| outputs.file("status.xml"));
                options.report_metrics = options
                    .report_metrics
                    .or_else(|| outputs.file("status.openmetrics.txt"));
                return self.status(options);
            }
            StepOptions::Cleanup(mut options) => {
                options.report = options.report.or_else(|| outputs.file("cleanup.json"));
                cleanup::run(&options, global, &self.context)
            }
            StepOptions::Check(mut options) => {
                options.report_codequality = options
                    .report_codequality
                    .or_else(|| outputs.file("check.codequality.json"));
                if options.output == CheckOutput::Text
                    && ci::is_actions(&self.context.process.variables)
                {
                    options.output = CheckOutput::Github;
                }
                check::check(&options, global, &self.context)
            }
            StepOptions::Register(options) => register::run(&options, global, &self.context),
        };
        self.print(result?)
    }

    /// Prints the result of a command and keeps it for the report on the step.
    fn print(&mut self, mut result: CommandResult) -> Result<Exit, Failure> {
        self.text += &result.stdout_text(&self.context)?;
        let ended = print(&mut result, &self.context);
        self.results.push(result);
        ended
    }

    /// Updates the end-of-life data, commits them, and sends notifications.
    fn eol_update(&mut self, options: &EolUpdateOptions) -> Result<Exit, Failure> {
        let StepRunner {
            config,
            global,
            publishes,
            ..
        } = *self.runner;
        let file = match (&options.data_file, config.lifecycle.target) {
            (Some(file), _) => Some(file.clone()),
            (None, EolTarget::Git) => Some(config.lifecycle.data_file.clone()),
            (None, EolTarget::PackageRegistry) => None,
        };
        if let Some(file) = &file {
            check_artifact(file, &self.context.process)?;
        }
        let updated = eol::update(options, global, &self.context)?;
        let mut exit = self.print(updated)?;
        if !publishes || options.mode != Mode::Apply || is_signal(exit) {
            return Ok(exit);
        }
        if let Some(file) = file {
            let committed = self.commit("chore(lifecycle): update EOL data", file)?;
            exit = worst(exit, committed);
        }
        let lifecycle = &config.lifecycle;
        if (lifecycle.slack_webhook_variable.is_some() || lifecycle.webhook_variable.is_some())
            && !is_signal(exit)
        {
            let options = EolNotifyOptions {
                mode: Mode::Apply,
                output: options.output,
            };
            let notified = eol::notify(&options, global, &self.context)?;
            exit = worst(exit, self.print(notified)?);
        }
        Ok(exit)
    }

    /// Updates the report on all images, and commits it.
    fn status(&mut self, mut options: StatusOptions) -> Result<Exit, Failure> {
        let StepRunner {
            config,
            global,
            publishes,
            ..
        } = *self.runner;
        let page = match options.form {
            StatusForm::Json => STATUS_JSON,
            StatusForm::Markdown => STATUS_PAGE,
        };
        let file = options.file.get_or_insert_with(|| page.into()).clone();
        options.publish |= publishes && has_record_store(config) && !options.offline;
        let reported = status::run(&options, global, &self.context)?;
        let exit = self.print(reported)?;
        if !publishes || is_signal(exit) {
            return Ok(exit);
        }
        let committed = self.commit("chore(status): update image status report", file)?;
        Ok(worst(exit, committed))
    }

    /// Commits and pushes a file that the step wrote.
    fn commit(&mut self, message: &str, file: PathBuf) -> Result<Exit, Failure> {
        let job = ci::repository::JobRepository::of(&self.context.process.variables);
        if job.is_some_and(|job| job.branch.is_none()) {
            // Only with `--push always`: by default `run` publishes on the default branch only.
            return Err(Failure::failed(format!(
                "cannot push {}: this pipeline does not run for a branch",
                file.display()
            ))
            .hint("set `--push never` (the input `push`), or run it in a pipeline for a branch"));
        }
        let options = CommitPushOptions {
            message: message.to_owned(),
            paths: vec![file],
            branch: None,
            remote: None,
            author: None,
            sign_off: false,
            skip_ci: true,
            merge_request: false,
        };
        let pushed = commit_push::run(&options, self.runner.global, &self.context);
        // The exit of a usage error means that nothing was done, but the file is written already.
        let pushed = pushed.map_err(|failure| match failure.exit {
            Exit::Usage => Failure {
                exit: Exit::Failed,
                ..failure
            },
            _ => failure,
        })?;
        self.print(pushed)
    }
}

/// Fails when the job passes another file of end-of-life data to later jobs than the one that is
/// written: those jobs would silently use old data.
fn check_artifact(file: &Path, process: &Process) -> Result<(), Failure> {
    let Some(artifact) = process.variables.get_filled(env::IMGLIFE_EOL_ARTIFACT) else {
        return Ok(());
    };
    let absolute = |path: &Path| {
        let path = process.directory.join(path);
        let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
        parent
            .zip(path.file_name())
            .map_or_else(|| path.clone(), |(parent, name)| parent.join(name))
    };
    let (written, artifact) = (absolute(file), absolute(Path::new(artifact)));
    if written == artifact {
        return Ok(());
    }
    let shown = |path: &Path| {
        let top = process
            .directory
            .canonicalize()
            .unwrap_or_else(|_| process.directory.clone());
        excerpt(
            &path.strip_prefix(top).unwrap_or(path).display().to_string(),
            200,
        )
    };
    let (written, artifact) = (shown(&written), shown(&artifact));
    Err(Failure::usage(format!(
        "the end-of-life data are written to {written}, but the job passes {artifact} to later jobs"
    ))
    .hint(format!(
        "set the input `data-file` of the component to `{written}`"
    )))
}
