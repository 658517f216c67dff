//! Report on a run: a table at its end, JSON for programs, the exit code.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::app::result::CommandResult;
use crate::ci::PipelineEvent;
use crate::error::Exit;
use crate::model::env;
use crate::model::text::excerpt;
use crate::report::junit::{CaseFailure, CaseOutcome, TestCase, TestSuite};
use crate::report::text::human_duration;
use crate::report::{Block, Cell, Document, Table, Tone};

/// Width to which the table shortens reasons, in characters.
const MAX_REASON_WIDTH: usize = 120;

/// Result of a step, or the reason why it did not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StepEnding {
    Done,
    /// An item failed; the report of the step has the details.
    ItemsFailed,
    /// The step failed as a whole, with this exit and for this reason.
    Failed(Exit, String),
    /// A policy that the user set is violated.
    Violated,
    /// Stopped by a signal.
    Stopped(Exit),
    /// The step had nothing to do, or must not run here; with the reason.
    Skipped(String),
    /// The run ended before the step; with the reason.
    NotRun(String),
}

impl StepEnding {
    pub(super) fn of(ended: Result<Exit, (Exit, String)>) -> StepEnding {
        match ended {
            Ok(Exit::Done) => StepEnding::Done,
            Ok(Exit::PolicyViolated) => StepEnding::Violated,
            Ok(Exit::Failed | Exit::Usage) => StepEnding::ItemsFailed,
            Ok(exit @ (Exit::Interrupted | Exit::Terminated))
            | Err((exit @ (Exit::Interrupted | Exit::Terminated), _)) => StepEnding::Stopped(exit),
            Err((exit, reason)) => StepEnding::Failed(exit, reason),
        }
    }

    /// Returns the name of the ending, and its tone in the table.
    fn label(&self) -> (&'static str, Tone) {
        match self {
            StepEnding::Done => ("done", Tone::Good),
            StepEnding::ItemsFailed | StepEnding::Failed(..) => ("failed", Tone::Bad),
            StepEnding::Violated => ("violated", Tone::Bad),
            StepEnding::Stopped(_) => ("stopped", Tone::Bad),
            StepEnding::Skipped(_) => ("skipped", Tone::Quiet),
            StepEnding::NotRun(_) => ("not run", Tone::Warning),
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            StepEnding::Failed(_, reason)
            | StepEnding::Skipped(reason)
            | StepEnding::NotRun(reason) => Some(reason),
            StepEnding::ItemsFailed => Some("see its report above"),
            StepEnding::Done | StepEnding::Violated | StepEnding::Stopped(_) => None,
        }
    }

    /// Returns the exit of a run with this ending. An error in the usage of one step is a failure
    /// of the run.
    fn exit(&self) -> Exit {
        match self {
            StepEnding::Done | StepEnding::Skipped(_) => Exit::Done,
            StepEnding::ItemsFailed | StepEnding::Failed(..) | StepEnding::NotRun(_) => {
                Exit::Failed
            }
            StepEnding::Violated => Exit::PolicyViolated,
            StepEnding::Stopped(exit) => *exit,
        }
    }
}

impl Serialize for StepEnding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.label().0.replace(' ', "-"))
    }
}

/// Returns the more severe of two exits.
pub(super) fn worst(one: Exit, other: Exit) -> Exit {
    let rank = |exit| match exit {
        Exit::Done => 0,
        Exit::PolicyViolated => 1,
        Exit::Usage => 2,
        Exit::Failed => 3,
        Exit::Interrupted | Exit::Terminated => 4,
    };
    if rank(other) > rank(one) { other } else { one }
}

/// Report on a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StepReport {
    pub(super) step: &'static str,
    #[serde(rename = "result")]
    ending: StepEnding,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(rename = "durationSeconds", serialize_with = "crate::steps::seconds")]
    duration: Duration,
    /// True if the step changed anything: images, records or files.
    changed: bool,
    /// Reports of the commands of the step, by name.
    reports: BTreeMap<String, Value>,
    /// Values for later CI jobs, by the name of a variable.
    #[serde(skip)]
    pub(super) outputs: Vec<(&'static str, String)>,
    /// Text that the step printed.
    #[serde(skip)]
    pub(super) text: String,
}

impl StepReport {
    pub(super) fn new(
        step: &'static str,
        ending: StepEnding,
        duration: Duration,
        results: Vec<CommandResult>,
        text: String,
    ) -> StepReport {
        let changed = results.iter().any(|result| result.changed);
        let mut violations = Vec::new();
        let mut outputs = Vec::new();
        let mut reports = BTreeMap::new();
        for result in results {
            violations.extend(result.violations);
            outputs.extend(result.outputs);
            reports.extend(
                result
                    .report
                    .map(|report| (report.name.to_owned(), report.value)),
            );
        }
        let reason = match ending {
            StepEnding::Violated => Some(violations.join("; ")),
            _ => ending.reason().map(str::to_owned),
        };
        StepReport {
            step,
            ending,
            reason: reason.filter(|reason| !reason.is_empty()),
            duration,
            changed,
            reports,
            outputs,
            text,
        }
    }

    /// Returns the report on a step that did not run.
    pub(super) fn not_run(step: &'static str, ending: StepEnding) -> StepReport {
        StepReport::new(step, ending, Duration::ZERO, Vec::new(), String::new())
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(
            self.ending,
            StepEnding::ItemsFailed | StepEnding::Failed(..)
        )
    }

    pub(super) fn was_stopped(&self) -> bool {
        matches!(self.ending, StepEnding::Stopped(_))
    }

    pub(super) fn was_run(&self) -> bool {
        !matches!(self.ending, StepEnding::Skipped(_) | StepEnding::NotRun(_))
    }
}

/// Report on a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunReport {
    event: PipelineEvent,
    result: &'static str,
    changed: bool,
    #[serde(rename = "durationSeconds", serialize_with = "crate::steps::seconds")]
    duration: Duration,
    pub(super) steps: Vec<StepReport>,
    #[serde(skip)]
    exit: Exit,
}

impl RunReport {
    pub(super) fn new(
        event: PipelineEvent,
        steps: Vec<StepReport>,
        signal: Option<Exit>,
        duration: Duration,
    ) -> RunReport {
        let exit = match steps.as_slice() {
            // A run of a single step has the exit of its command.
            [
                StepReport {
                    ending: StepEnding::Failed(exit, _),
                    ..
                },
            ] => *exit,
            steps => steps
                .iter()
                .map(|step| step.ending.exit())
                .chain(signal)
                .fold(Exit::Done, worst),
        };
        let result = match exit {
            Exit::Done => "done",
            Exit::PolicyViolated => "violated",
            Exit::Failed | Exit::Usage => "failed",
            Exit::Interrupted | Exit::Terminated => "stopped",
        };
        RunReport {
            event,
            result,
            changed: steps.iter().any(|step| step.changed),
            duration,
            steps,
            exit,
        }
    }

    pub(super) fn exit(&self) -> Exit {
        self.exit
    }

    /// Returns true if the table adds anything to the report of a single step that ran.
    pub(super) fn adds_to_the_step_report(&self) -> bool {
        !matches!(self.steps.as_slice(), [step] if step.was_run())
    }

    /// Returns the table for people.
    pub(super) fn document(&self) -> Document {
        let rows = self.steps.iter().map(|step| {
            let (label, tone) = step.ending.label();
            let time = if step.was_run() {
                human_duration(step.duration)
            } else {
                String::new()
            };
            let reason = step
                .reason
                .as_deref()
                .map(|reason| excerpt(reason, MAX_REASON_WIDTH))
                .unwrap_or_default();
            vec![
                Cell::plain(step.step),
                Cell::toned(label, tone),
                Cell::plain(time),
                Cell::toned(reason, Tone::Quiet),
            ]
        });
        let rows: Vec<Vec<Cell>> = rows.collect();
        let mut columns = vec!["Step", "Result", "Time"];
        if self.steps.iter().any(|step| step.reason.is_some()) {
            columns.push("Reason");
        }
        let title = format!("Run ({}) · {}", self.event, human_duration(self.duration));
        let columns = columns.into_iter().map(str::to_owned).collect();
        Document {
            blocks: vec![Block::Table(Table {
                title: Some(title),
                columns,
                rows,
            })],
        }
    }

    /// Returns the run as JUnit test cases, one for each step.
    pub(super) fn test_suite(&self) -> TestSuite {
        let cases = self.steps.iter().map(|step| {
            let message = step
                .reason
                .clone()
                .unwrap_or_else(|| step.ending.label().0.to_owned());
            let outcome = match step.ending {
                _ if !step.was_run() => CaseOutcome::Skipped(message),
                StepEnding::Done => CaseOutcome::Passed,
                _ => CaseOutcome::Failed(CaseFailure {
                    text: message.clone(),
                    message,
                }),
            };
            TestCase {
                name: step.step.to_owned(),
                classname: "imglife run".to_owned(),
                duration: step.duration,
                outcome,
            }
        });
        TestSuite {
            name: "run".to_owned(),
            cases: cases.collect(),
        }
    }

    /// Returns the values for later CI jobs, by the names of variables.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        let own = [
            (env::IMGLIFE_RESULT, self.result.to_owned()),
            (env::IMGLIFE_CHANGED, self.changed.to_string()),
        ];
        own.into_iter()
            .chain(self.steps.iter().flat_map(|step| step.outputs.clone()))
            .collect()
    }
}
