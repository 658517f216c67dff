//! `run`: the steps of a pipeline one after the other, each as its own command would do it, and
//! what they come to together.
//!
//! Owns which steps an event calls for, what a failure means for those that follow, and what is
//! told of all of them. What a step does belongs to its own file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::commit_push::{self, CommitPushOptions};
use super::configuration::{lacks, load_configuration, tells_records};
use super::{
    BuildForm, BuildOptions, CheckOptions, CheckOutput, CleanupOptions, EolNotifyOptions,
    EolUpdateOptions, Global, Mode, Output, OwnBuilder, RegisterOptions, StatusForm, StatusOptions,
    Surroundings, SyncOptions, check, cleanup, eol, register, runtime, status, sync,
};
use crate::ci::{self, Event, Sections, Standing};
use crate::config::{self, Config, EolTarget};
use crate::error::{Exit, Failure, chain};
use crate::model::env;
use crate::model::text::excerpt;
use crate::process::{Process, Stream};
use crate::steps::shard::Only;
use part::Part;
use report::{Ending, RunReport, StepReport};
use reports::{Reports, tee};

pub(super) mod part;
mod report;
mod reports;

/// The file that the report on everything goes into, unless it is told otherwise.
const PAGE: &str = "README.md";
/// The same, as JSON.
const JSON_PAGE: &str = "status.json";

/// What a run was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// What could be run: the steps that were named, or all that an event can call for.
    pub steps: Vec<StepOptions>,
    /// Whether the steps were named.
    pub are_named: bool,
    /// `None`: what the CI server says.
    pub event: Option<Event>,
    pub push: Push,
    /// Whether nothing runs after a step that failed.
    pub fail_fast: bool,
    /// Patterns of `--only`, as written; those of a step's own stand with the step.
    pub only: Vec<String>,
    /// The directory that report files go into; relative to the working directory.
    pub reports: Option<PathBuf>,
    pub output: Output,
    pub builder: OwnBuilder,
    /// Variables that look as if they were meant to be options.
    pub unheard_of: Vec<UnheardOf>,
}

/// A variable that is named like an option, and is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnheardOf {
    pub name: String,
    /// The option that it was most likely meant to be.
    pub meant: Option<String>,
}

/// Whether what changed is committed and published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Push {
    /// In CI on the default branch.
    #[default]
    Auto,
    Always,
    Never,
}

/// A step, with what it is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepOptions {
    Sync(SyncOptions),
    Build(BuildOptions),
    EolUpdate(EolUpdateOptions),
    Status(StatusOptions),
    Cleanup(CleanupOptions),
    Check(CheckOptions),
    Register(RegisterOptions),
}

impl StepOptions {
    /// Returns the name of the step on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            StepOptions::Sync(_) => "sync",
            StepOptions::Build(_) => "build",
            StepOptions::EolUpdate(_) => "eol-update",
            StepOptions::Status(_) => "status",
            StepOptions::Cleanup(_) => "cleanup",
            StepOptions::Check(_) => "check",
            StepOptions::Register(_) => "register",
        }
    }

    /// Returns whether the step leaves under an image's name what nobody can take back.
    fn builds(&self) -> bool {
        matches!(self, StepOptions::Build(options) if options.mode == Mode::Apply && !matches!(options.form, BuildForm::Contexts(_)))
    }

    /// Returns whether `event` calls for the step.
    fn is_called_for_by(&self, event: Event) -> bool {
        match (self, event) {
            (_, Event::Proposal) => false,
            (StepOptions::Build(_) | StepOptions::Status(_), _) => true,
            (StepOptions::Sync(_) | StepOptions::EolUpdate(_), event) => event != Event::Push,
            _ => false,
        }
    }

    /// Returns the names by which `--only` knows what the step works on, and the patterns that it
    /// is narrowed to; `None` where that narrows nothing.
    fn narrowed_by(&mut self, config: &Config) -> Option<(Vec<Vec<String>>, &mut Vec<String>)> {
        match self {
            StepOptions::Sync(options) => Some((sync::names(config), &mut options.only)),
            StepOptions::Build(options) => Some((super::build::names(config), &mut options.only)),
            StepOptions::Cleanup(options) => Some((cleanup::names(config), &mut options.only)),
            StepOptions::EolUpdate(_)
            | StepOptions::Status(_)
            | StepOptions::Check(_)
            | StepOptions::Register(_) => None,
        }
    }

    /// Returns what the configuration lacks for the step.
    fn lacking(&self, config: &Config) -> Option<String> {
        let command = match self {
            StepOptions::Sync(_) => "sync",
            StepOptions::Build(_) => "build",
            StepOptions::EolUpdate(_) => "eol update",
            StepOptions::Status(_) => "status",
            StepOptions::Cleanup(_) => "cleanup",
            // They need no file, and say by themselves what is missing.
            StepOptions::Check(_) | StepOptions::Register(_) => return None,
        };
        config::readiness(config)
            .into_iter()
            .find(|(name, _)| *name == command)
            .and_then(|(_, enough)| enough.err())
    }
}

/// Runs steps.
pub(super) fn run(
    options: &RunOptions,
    global: &Global,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    let began = Instant::now();
    let process = &surroundings.process;
    let config = load_configuration(global, process)?;
    let event = options
        .event
        .unwrap_or_else(|| Event::of(&process.variables));
    let steps = narrowed(
        chosen(options, event, &config, process)?,
        &options.only,
        &config,
    )?;
    warn_of(&options.unheard_of, &config);
    let reports = Reports::prepare(options.reports.as_deref(), process)?;
    // Only these two have anything to commit or to publish.
    let can_publish = steps
        .iter()
        .any(|(step, _)| matches!(step, StepOptions::EolUpdate(_) | StepOptions::Status(_)));
    let publishes = can_publish && publishes(options.push, process);
    let watch = runtime::Watch::start()?;
    let mut run = Run {
        options,
        global,
        surroundings,
        config: &config,
        reports: &reports,
        publishes,
        steps: Vec::new(),
    };
    for (step, lacking) in steps {
        let name = step.name();
        let report = match lacking
            .map(Ending::Skipped)
            .or_else(|| run.obstacle(&step, watch.received()))
        {
            Some(ending) => StepReport::without(name, ending),
            None => run.step(&step)?,
        };
        run.steps.push(report);
    }
    let report = RunReport::new(event, run.steps, watch.received(), began.elapsed());
    let written = [
        reports.write(&report),
        report_to_stdout(options.output, &report, surroundings),
    ];
    written.into_iter().collect::<Result<(), Failure>>()?;
    Ok(report.exit())
}

/// Warns of variables that are named like options, unless the configuration names them.
fn warn_of(unheard_of: &[UnheardOf], config: &Config) {
    let text = config
        .file
        .as_ref()
        .filter(|_| !unheard_of.is_empty())
        .and_then(|file| std::fs::read_to_string(file).ok());
    let text = text.unwrap_or_default();
    for UnheardOf { name, meant } in unheard_of
        .iter()
        .filter(|variable| !text.contains(&variable.name))
    {
        let name = excerpt(name, 80);
        match meant {
            Some(meant) => tracing::warn!(
                "the variable {name} is no option of `imglife run` or its steps: did you mean {meant}?"
            ),
            None => {
                tracing::warn!("the variable {name} is no option of `imglife run` or its steps");
            }
        }
    }
}

fn report_to_stdout(
    output: Output,
    report: &RunReport,
    surroundings: &Surroundings,
) -> Result<(), Failure> {
    if output == Output::Text && !report.has_more_to_say() {
        return Ok(());
    }
    if report.steps.iter().any(StepReport::was_run) {
        part_from_before(output, surroundings)?;
    }
    surroundings.report(output, "run", report, &report.document())
}

/// Leaves a line blank between reports for people.
fn part_from_before(output: Output, surroundings: &Surroundings) -> Result<(), Failure> {
    if output == Output::Text {
        surroundings.print("\n")
    } else {
        Ok(())
    }
}

/// A step, and why it is skipped.
type Choice = (StepOptions, Option<String>);

/// Returns the steps to run in their order, each with the reason when it has nothing to do. Fails
/// when one was named that cannot be done.
fn chosen(
    options: &RunOptions,
    event: Event,
    config: &Config,
    process: &Process,
) -> Result<Vec<Choice>, Failure> {
    if options.are_named {
        for step in &options.steps {
            if let Some(reason) = step.lacking(config) {
                return Err(match &config.file {
                    Some(file) => {
                        Failure::usage(format!("nothing to do for {}: {reason}", step.name()))
                            .hint(format!("see {}", file.display()))
                    }
                    None => lacks(step.name(), config, process),
                });
            }
        }
        return Ok(options
            .steps
            .iter()
            .map(|step| (step.clone(), None))
            .collect());
    }
    if event == Event::Proposal {
        return Err(Failure::usage(
            "a merge request calls for no step by itself: what it proposes is not to be mirrored, built or committed",
        )
        .hint("name the steps, as in `imglife run check`, or say by `--event` what to take it for"));
    }
    let steps = options
        .steps
        .iter()
        .filter(|step| step.is_called_for_by(event));
    let elsewhere = match standing(process) {
        Standing::Elsewhere => Some("not the default branch"),
        Standing::Unknown => Some("it is not known which branch is the default one"),
        Standing::OutsideCi | Standing::DefaultBranch => None,
    };
    let mut steps: Vec<_> = steps
        .map(|step| (step.clone(), step.lacking(config)))
        .collect();
    if steps.iter().all(|(_, lacking)| lacking.is_some()) {
        return Err(lacks("sync.entries", config, process)
            .hint("a run works on mirrors (`sync.entries`) and base images (`build.images`)"));
    }
    if let Some(reason) = elsewhere {
        // Tags are never given away twice: what is not merged must not take one.
        steps
            .iter_mut()
            .filter(|(step, _)| step.builds())
            .for_each(|(_, skipped)| *skipped = skipped.take().or(Some(reason.to_owned())));
    }
    Ok(steps)
}

/// Returns the steps, each narrowed to the patterns that name something of it, and skipped where
/// there is none: an image is rarely called as its mirror is. Fails when a pattern names nothing of
/// any step.
fn narrowed(
    mut steps: Vec<Choice>,
    patterns: &[String],
    config: &Config,
) -> Result<Vec<Choice>, Failure> {
    let (mut known, mut narrowing): (Vec<Vec<String>>, Vec<_>) = (Vec::new(), Vec::new());
    for (step, skipped) in &mut steps {
        if let Some((names, only)) = step.narrowed_by(config) {
            known.extend(names.iter().cloned());
            narrowing.push((names, only, skipped));
        }
    }
    if narrowing.is_empty() {
        return Ok(steps);
    }
    Only::below(patterns, &config.directory)
        .and_then(|only| only.check(&known))
        .map_err(|error| {
            let mut known: Vec<&str> = known
                .iter()
                .filter_map(|names| names.first())
                .map(String::as_str)
                .collect();
            known.sort_unstable();
            known.dedup();
            Failure::usage(error).hint(format!(
                "mirrors and images are known by their names: {}",
                known.join(", ")
            ))
        })?;
    for (names, only, skipped) in narrowing {
        let fits = |pattern: &&String| {
            Only::below(std::slice::from_ref(*pattern), &config.directory)
                .is_ok_and(|only| only.check(&names).is_ok())
        };
        let fitting: Vec<String> = patterns.iter().filter(fits).cloned().collect();
        if fitting.is_empty() && !patterns.is_empty() {
            *skipped = skipped
                .take()
                .or_else(|| Some("nothing of that name".to_owned()));
        }
        only.extend(fitting);
    }
    Ok(steps)
}

/// Returns what the run stands on.
fn standing(process: &Process) -> Standing {
    let payload = process
        .variables
        .get_filled(env::GITHUB_EVENT_PATH)
        .and_then(|path| std::fs::read_to_string(path).ok());
    Standing::of(&process.variables, payload.as_deref())
}

/// Returns whether what changes is committed and published.
fn publishes(push: Push, process: &Process) -> bool {
    match push {
        Push::Always => true,
        Push::Never => false,
        Push::Auto => {
            let standing = standing(process);
            match standing {
                Standing::Unknown => tracing::warn!(
                    "nothing is committed or published: the CI server does not say which branch is the default one; `--push always` does it all the same"
                ),
                Standing::Elsewhere => tracing::info!(
                    "nothing is committed or published: this is not the default branch"
                ),
                Standing::OutsideCi | Standing::DefaultBranch => {}
            }
            standing == Standing::DefaultBranch
        }
    }
}

/// A run under way.
struct Run<'a> {
    options: &'a RunOptions,
    global: &'a Global,
    surroundings: &'a Surroundings,
    config: &'a Config,
    reports: &'a Reports,
    publishes: bool,
    /// What became of the steps so far.
    steps: Vec<StepReport>,
}

impl Run<'_> {
    /// Returns why a step is not run.
    fn obstacle(&self, step: &StepOptions, signal: Option<Exit>) -> Option<Ending> {
        let failed = self.steps.iter().find(|report| report.has_failed());
        let has_sync_failed = self
            .steps
            .iter()
            .any(|report| report.step == "sync" && report.has_failed());
        // A step may have heard of the signal first.
        if signal.is_some() || self.steps.iter().any(StepReport::was_stopped) {
            Some(Ending::NotRun("the run was stopped".to_owned()))
        } else if self
            .surroundings
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
        {
            Some(Ending::NotRun("the run's time is up".to_owned()))
        } else if let (true, Some(failed)) = (self.options.fail_fast, failed) {
            Some(Ending::NotRun(format!("{} failed", failed.step)))
        } else if matches!(step, StepOptions::Cleanup(_)) && has_sync_failed {
            Some(Ending::Skipped(
                "sync failed, so it is not known what it would select".to_owned(),
            ))
        } else {
            None
        }
    }

    /// Runs a step in a section of its own.
    fn step(&self, step: &StepOptions) -> Result<StepReport, Failure> {
        let (name, presentation) = (step.name(), &self.surroundings.presentation);
        let process = &self.surroundings.process;
        let sections = Sections::of(&process.variables);
        presentation.marker(&match sections {
            Some(sections) => sections.begin(name, process.clock.now()),
            None => format!("== {name} ==\n"),
        });
        if self.steps.iter().any(StepReport::was_run) {
            part_from_before(self.options.output, self.surroundings)?;
        }
        let began = Instant::now();
        let part = Arc::new(Part::new(self.options.builder.clone()));
        let (captured, text) = Stream::captured();
        let stdout = if self.options.output == Output::Json {
            captured
        } else {
            tee(&process.stdout, captured)
        };
        let surroundings = Surroundings {
            process: Process {
                stdout,
                ..process.clone()
            },
            progress: presentation.progress(),
            part_of: Some(Arc::clone(&part)),
            ..self.surroundings.clone()
        };
        let ended = self.run(step, &surroundings);
        if let Err(failure) = &ended {
            presentation.failure(failure);
        }
        let masker = process.variables.masker();
        let ending = Ending::of(
            ended.map_err(|failure| (failure.exit, masker.mask(&chain(failure.error.as_ref())))),
        );
        if let Some(sections) = sections {
            presentation.marker(&sections.end(name, process.clock.now()));
        }
        Ok(StepReport::new(
            name,
            ending,
            began.elapsed(),
            part.told(),
            text.text(),
        ))
    }

    fn run(&self, step: &StepOptions, surroundings: &Surroundings) -> Result<Exit, Failure> {
        let (global, reports) = (self.global, self.reports);
        match step.clone() {
            StepOptions::Sync(mut options) => {
                options.report_junit = options.report_junit.or_else(|| reports.file("sync.xml"));
                options.report_metrics = options
                    .report_metrics
                    .or_else(|| reports.file("sync.openmetrics.txt"));
                sync::run(&options, global, surroundings)
            }
            StepOptions::Build(mut options) => {
                options.report_junit = options.report_junit.or_else(|| reports.file("build.xml"));
                super::build::run(&options, global, surroundings)
            }
            StepOptions::EolUpdate(options) => self.eol_update(&options, surroundings),
            StepOptions::Status(mut options) => {
                options.report_junit = options.report_junit.or_else(|| reports.file("status.xml"));
                options.report_metrics = options
                    .report_metrics
                    .or_else(|| reports.file("status.openmetrics.txt"));
                self.status(options, surroundings)
            }
            StepOptions::Cleanup(mut options) => {
                options.report = options.report.or_else(|| reports.file("cleanup.json"));
                cleanup::run(&options, global, surroundings)
            }
            StepOptions::Check(mut options) => {
                options.report_codequality = options
                    .report_codequality
                    .or_else(|| reports.file("check.codequality.json"));
                if options.output == CheckOutput::Text
                    && ci::is_actions(&surroundings.process.variables)
                {
                    options.output = CheckOutput::Github;
                }
                check::check(&options, global, surroundings)
            }
            StepOptions::Register(options) => register::run(&options, global, surroundings),
        }
    }

    /// Brings the end-of-life data up to date, and tells people what ends.
    fn eol_update(
        &self,
        options: &EolUpdateOptions,
        surroundings: &Surroundings,
    ) -> Result<Exit, Failure> {
        let file = match (&options.data_file, self.config.lifecycle.target) {
            (Some(file), _) => Some(file.clone()),
            (None, EolTarget::Git) => Some(self.config.lifecycle.data_file.clone()),
            (None, EolTarget::PackageRegistry) => None,
        };
        if let Some(file) = &file {
            is_handed_on(file, &surroundings.process)?;
        }
        let mut exit = eol::update(options, self.global, surroundings)?;
        if !self.publishes || options.mode != Mode::Apply || is_signal(exit) {
            return Ok(exit);
        }
        if let Some(file) = file {
            exit = worst(
                exit,
                self.commit("chore(lifecycle): update EOL data", &file, surroundings)?,
            );
        }
        let lifecycle = &self.config.lifecycle;
        if (lifecycle.slack_webhook_variable.is_some() || lifecycle.webhook_variable.is_some())
            && !is_signal(exit)
        {
            let options = EolNotifyOptions {
                mode: Mode::Apply,
                output: options.output,
            };
            exit = worst(exit, eol::notify(&options, self.global, surroundings)?);
        }
        Ok(exit)
    }

    /// Brings the report up to date.
    fn status(
        &self,
        mut options: StatusOptions,
        surroundings: &Surroundings,
    ) -> Result<Exit, Failure> {
        let page = if options.form == StatusForm::Json {
            JSON_PAGE
        } else {
            PAGE
        };
        let file = options.file.get_or_insert_with(|| page.into()).clone();
        options.publish |= self.publishes && tells_records(self.config) && !options.offline;
        let exit = status::run(&options, self.global, surroundings)?;
        if !self.publishes || is_signal(exit) {
            return Ok(exit);
        }
        Ok(worst(
            exit,
            self.commit(
                "chore(status): update image status report",
                &file,
                surroundings,
            )?,
        ))
    }

    fn commit(
        &self,
        message: &str,
        file: &Path,
        surroundings: &Surroundings,
    ) -> Result<Exit, Failure> {
        let job = ci::repository::Repository::of(&surroundings.process.variables);
        if job.is_some_and(|job| job.branch.is_none()) {
            // Somebody asked for it: on its own `run` publishes on the default branch.
            return Err(Failure::failed(format!(
                "{} cannot be pushed: this pipeline is of no branch",
                file.display()
            ))
            .hint(
                "say `--push never` (the input `push`) here, or run it in a pipeline of a branch",
            ));
        }
        let options = CommitPushOptions {
            message: message.to_owned(),
            paths: vec![file.to_owned()],
            branch: None,
            remote: None,
            author: None,
            sign_off: false,
            skip_ci: true,
            merge_request: false,
        };
        // What was done before is done: there is no way back to "nothing was done".
        commit_push::run(&options, self.global, surroundings).map_err(|failure| {
            match failure.exit {
                Exit::Usage => Failure {
                    exit: Exit::Failed,
                    ..failure
                },
                _ => failure,
            }
        })
    }
}

/// Fails where the job hands another file on to later ones than the one that is written: those
/// would go on with the data of yesterday, and nobody would see why.
fn is_handed_on(file: &Path, process: &Process) -> Result<(), Failure> {
    let Some(handed_on) = process.variables.get_filled(env::IMGLIFE_EOL_ARTIFACT) else {
        return Ok(());
    };
    let whole = |path: &Path| {
        let path = process.directory.join(path);
        let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
        parent
            .zip(path.file_name())
            .map_or_else(|| path.clone(), |(parent, name)| parent.join(name))
    };
    let (written, handed_on) = (whole(file), whole(Path::new(handed_on)));
    if written == handed_on {
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
    let (written, handed_on) = (shown(&written), shown(&handed_on));
    Err(Failure::usage(format!("the end-of-life data are in {written}, and the job hands on {handed_on}: status would not see them"))
        .hint(format!("give the component's input `data-file` as `{written}`")))
}

fn is_signal(exit: Exit) -> bool {
    matches!(exit, Exit::Interrupted | Exit::Terminated)
}

/// Returns what two parts of a step come to.
fn worst(one: Exit, other: Exit) -> Exit {
    let rank = |exit| match exit {
        Exit::Done => 0,
        Exit::PolicyViolated => 1,
        Exit::Usage => 2,
        Exit::Failed => 3,
        Exit::Interrupted | Exit::Terminated => 4,
    };
    if rank(other) > rank(one) { other } else { one }
}
