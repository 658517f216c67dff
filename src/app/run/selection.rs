//! Selection of the steps of a run: by name or by the event, narrowed by `--only`; and the decision
//! whether the run publishes.

use super::options::{PushMode, RunOptions, StepOptions};
use crate::app::configuration::missing_setting;
use crate::app::only::checked_only;
use crate::app::permissions::event_payload;
use crate::app::{build, cleanup, sync};
use crate::ci::{PipelineEvent, RefStatus};
use crate::config::{self, Config};
use crate::error::Failure;
use crate::process::Process;
use crate::steps::shard::Only;

/// Step that was selected for a run.
pub(super) struct SelectedStep {
    pub(super) step: StepOptions,
    /// Reason to skip the step; `None` if it runs.
    pub(super) skip_reason: Option<String>,
}

/// Returns the selected steps in the order in which they run. Fails if the user named a step
/// that the configuration does not use, or if a pattern of `--only` matches nothing in any step.
pub(super) fn select(
    options: &RunOptions,
    event: PipelineEvent,
    config: &Config,
    process: &Process,
) -> Result<Vec<SelectedStep>, Failure> {
    let mut steps = if options.are_named {
        named_steps(options, config, process)?
    } else {
        steps_of_event(options, event, config, process)?
    };
    narrow(&mut steps, &options.only, config)?;
    Ok(steps)
}

fn named_steps(
    options: &RunOptions,
    config: &Config,
    process: &Process,
) -> Result<Vec<SelectedStep>, Failure> {
    for step in &options.steps {
        if let Some(reason) = step.missing_configuration(config) {
            return Err(match &config.file {
                Some(file) => {
                    Failure::usage(format!("nothing to do for {}: {reason}", step.name()))
                        .hint(format!("see {}", file.display()))
                }
                None => missing_setting(step.name(), config, process),
            });
        }
    }
    let selected = options.steps.iter().map(|step| SelectedStep {
        step: step.clone(),
        skip_reason: None,
    });
    Ok(selected.collect())
}

fn steps_of_event(
    options: &RunOptions,
    event: PipelineEvent,
    config: &Config,
    process: &Process,
) -> Result<Vec<SelectedStep>, Failure> {
    if event == PipelineEvent::Proposal {
        return Err(Failure::usage(
            "a merge request selects no steps: its changes must not be mirrored, built or committed",
        )
        .hint("name the steps, as in `imglife run check`, or set another event with `--event`"));
    }
    let steps = options.steps.iter().filter(|step| step.runs_on(event));
    let mut steps: Vec<SelectedStep> = steps
        .map(|step| SelectedStep {
            step: step.clone(),
            skip_reason: step.missing_configuration(config),
        })
        .collect();
    if steps.iter().all(|selected| selected.skip_reason.is_some()) {
        return Err(missing_setting("sync.entries", config, process)
            .hint("add mirrors (`sync.entries`) or base images (`build.images`)"));
    }
    let not_default = match ref_status(process) {
        RefStatus::OtherRef => "not the default branch",
        RefStatus::Unknown => "it is not known which branch is the default one",
        RefStatus::OutsideCi | RefStatus::DefaultBranch => return Ok(steps),
    };
    // A tag is published only once, so an unmerged change must not publish it.
    for selected in steps
        .iter_mut()
        .filter(|selected| selected.step.publishes_tags())
    {
        selected.skip_reason.get_or_insert(not_default.to_owned());
    }
    Ok(steps)
}

/// Passes each pattern to the steps that have an item of that name, and skips steps that have none:
/// a base image and its mirror rarely have the same name.
fn narrow(steps: &mut [SelectedStep], patterns: &[String], config: &Config) -> Result<(), Failure> {
    let mut all_names: Vec<Vec<String>> = Vec::new();
    let mut narrowed = Vec::new();
    for SelectedStep { step, skip_reason } in steps {
        if let Some((names, only)) = step.names_and_only(config) {
            all_names.extend(names.iter().cloned());
            narrowed.push((names, only, skip_reason));
        }
    }
    if narrowed.is_empty() {
        return Ok(());
    }
    checked_only(
        patterns,
        &config.directory,
        &all_names,
        "`--only` matches the names of mirrors and images",
    )?;
    for (names, only, skip_reason) in narrowed {
        let matches = |pattern: &&String| {
            Only::below(std::slice::from_ref(*pattern), &config.directory)
                .is_ok_and(|only| only.check(&names).is_ok())
        };
        let matching: Vec<String> = patterns.iter().filter(matches).cloned().collect();
        if matching.is_empty() && !patterns.is_empty() {
            skip_reason.get_or_insert("nothing of that name".to_owned());
        }
        only.extend(matching);
    }
    Ok(())
}

impl StepOptions {
    /// Returns true if the step runs on `event` without being named.
    fn runs_on(&self, event: PipelineEvent) -> bool {
        match (self, event) {
            (_, PipelineEvent::Proposal) => false,
            (StepOptions::Build(_) | StepOptions::Status(_), _) => true,
            (StepOptions::Sync(_) | StepOptions::EolUpdate(_), event) => {
                event != PipelineEvent::Push
            }
            _ => false,
        }
    }

    /// Returns the names of the step's items and its `--only` patterns, or `None` for a step that
    /// has no `--only`.
    fn names_and_only(&mut self, config: &Config) -> Option<(Vec<Vec<String>>, &mut Vec<String>)> {
        match self {
            StepOptions::Sync(options) => Some((sync::names(config), &mut options.only)),
            StepOptions::Build(options) => Some((build::names(config), &mut options.only)),
            StepOptions::Cleanup(options) => Some((cleanup::names(config), &mut options.only)),
            StepOptions::EolUpdate(_)
            | StepOptions::Status(_)
            | StepOptions::Check(_)
            | StepOptions::Register(_) => None,
        }
    }

    /// Returns the setting that the configuration lacks for the step, or `None` when it is
    /// complete.
    fn missing_configuration(&self, config: &Config) -> Option<String> {
        let command = match self {
            StepOptions::Sync(_) => "sync",
            StepOptions::Build(_) => "build",
            StepOptions::EolUpdate(_) => "eol update",
            StepOptions::Status(_) => "status",
            StepOptions::Cleanup(_) => "cleanup",
            // These need no file and report missing settings themselves.
            StepOptions::Check(_) | StepOptions::Register(_) => return None,
        };
        config::readiness(config)
            .into_iter()
            .find(|(name, _)| *name == command)
            .and_then(|(_, enough)| enough.err())
    }
}

/// Returns true if the run commits and publishes changes. Logs why it does not.
pub(super) fn publishes(push: PushMode, process: &Process) -> bool {
    match push {
        PushMode::Always => true,
        PushMode::Never => false,
        PushMode::Auto => {
            let status = ref_status(process);
            match status {
                RefStatus::Unknown => tracing::warn!(
                    "nothing is committed or published: the default branch is unknown; use `--push always` to publish anyway"
                ),
                RefStatus::OtherRef => tracing::info!(
                    "nothing is committed or published: this is not the default branch"
                ),
                RefStatus::OutsideCi | RefStatus::DefaultBranch => {}
            }
            status == RefStatus::DefaultBranch
        }
    }
}

fn ref_status(process: &Process) -> RefStatus {
    RefStatus::of(&process.variables, event_payload(process).as_deref())
}
