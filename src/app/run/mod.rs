//! `run`: several steps of a pipeline, one after another. Each behaves exactly like its own
//! command.
//!
//! Owns the sequence of the steps and the report on all of them. `selection` decides which steps
//! run, `step` runs one of them, `outputs` writes files for the CI server. The work of a step
//! belongs to the module of its command.

use std::time::Instant;

use super::configuration::load_configuration;
use super::result::CommandResult;
use super::{CommandContext, GlobalOptions, OutputForm, runtime};
use crate::ci::PipelineEvent;
use crate::config::Config;
use crate::error::{Exit, Failure};
use crate::model::text::excerpt;
use options::{RunOptions, StepOptions, UnknownVariable};
use outputs::RunOutputs;
use report::{RunReport, StepEnding, StepReport};
use step::StepRunner;

pub(super) mod options;
mod outputs;
mod report;
mod selection;
mod step;

/// Runs the steps. Prints the report of each step when the step ends; the returned result is the
/// report on all of them.
pub(super) fn run(
    options: &RunOptions,
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let began = Instant::now();
    let process = &context.process;
    let config = load_configuration(global, process)?;
    let event = options
        .event
        .unwrap_or_else(|| PipelineEvent::of(&process.variables));
    let steps = selection::select(options, event, &config, process)?;
    warn_of(&options.unknown_variables, &config);
    let outputs = RunOutputs::prepare(options.reports.as_deref(), process)?;
    // Only these two steps write files to commit or data to publish.
    let can_publish = steps.iter().any(|selected| {
        matches!(
            selected.step,
            StepOptions::EolUpdate(_) | StepOptions::Status(_)
        )
    });
    let runner = StepRunner {
        options,
        global,
        context,
        config: &config,
        outputs: &outputs,
        publishes: can_publish && selection::publishes(options.push, process),
    };
    let signals = runtime::SignalWatch::start()?;
    let mut reports: Vec<StepReport> = Vec::new();
    for selected in steps {
        let not_run = match selected.skip_reason {
            Some(reason) => Some(StepEnding::Skipped(reason)),
            None => reason_not_to_run(
                &selected.step,
                &reports,
                options.fail_fast,
                signals.received(),
                context,
            ),
        };
        let report = match not_run {
            Some(ending) => StepReport::not_run(selected.step.name(), ending),
            None => runner.run(selected.step, &reports)?,
        };
        reports.push(report);
    }
    let report = RunReport::new(event, reports, signals.received(), began.elapsed());
    result(options.output, &report, &outputs)
}

/// Returns the result of the run. Its report is not printed when it would only repeat that of the
/// single step.
fn result(
    output: OutputForm,
    report: &RunReport,
    outputs: &RunOutputs,
) -> Result<CommandResult, Failure> {
    let mut result = CommandResult::new(report.exit()).with_report("run", report)?;
    result.failure = outputs.write(report).err();
    Ok(match output {
        OutputForm::Json => result.and_json(),
        OutputForm::Text if !report.adds_to_the_step_report() => result,
        OutputForm::Text if report.steps.iter().any(StepReport::was_run) => {
            result.and_text("\n").and_document(report.document())
        }
        OutputForm::Text => result.and_document(report.document()),
    })
}

/// Warns about variables that are named like options, except those that the configuration uses.
fn warn_of(variables: &[UnknownVariable], config: &Config) {
    let text = config
        .file
        .as_ref()
        .filter(|_| !variables.is_empty())
        .and_then(|file| std::fs::read_to_string(file).ok());
    let text = text.unwrap_or_default();
    for UnknownVariable { name, suggestion } in variables
        .iter()
        .filter(|variable| !text.contains(&variable.name))
    {
        let name = excerpt(name, 80);
        match suggestion {
            Some(suggestion) => tracing::warn!(
                "the variable {name} is not an option of `imglife run` or its steps: did you mean {suggestion}?"
            ),
            None => {
                tracing::warn!(
                    "the variable {name} is not an option of `imglife run` or its steps"
                );
            }
        }
    }
}

/// Returns the reason not to run a step after the results of the earlier steps; `None` if it can
/// run.
fn reason_not_to_run(
    step: &StepOptions,
    reports: &[StepReport],
    fail_fast: bool,
    signal: Option<Exit>,
    context: &CommandContext,
) -> Option<StepEnding> {
    let failed = reports.iter().find(|report| report.has_failed());
    let has_sync_failed = reports
        .iter()
        .any(|report| report.step == "sync" && report.has_failed());
    // A step may have received the signal before the watch did.
    if signal.is_some() || reports.iter().any(StepReport::was_stopped) {
        Some(StepEnding::NotRun("the run was stopped".to_owned()))
    } else if context
        .deadline
        .is_some_and(|deadline| Instant::now() >= deadline)
    {
        Some(StepEnding::NotRun("the run's time is up".to_owned()))
    } else if let (true, Some(failed)) = (fail_fast, failed) {
        Some(StepEnding::NotRun(format!("{} failed", failed.step)))
    } else if matches!(step, StepOptions::Cleanup(_)) && has_sync_failed {
        Some(StepEnding::Skipped(
            "sync failed, so it is not known what it would select".to_owned(),
        ))
    } else {
        None
    }
}
