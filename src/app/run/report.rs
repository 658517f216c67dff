//! What a run came to: a table at its end, JSON for programs, the exit code.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::part::Told;
use super::worst;
use crate::ci::Event;
use crate::error::Exit;
use crate::model::env;
use crate::model::text::excerpt;
use crate::report::junit::{CaseFailure, CaseOutcome, TestCase, TestSuite};
use crate::report::text::human_duration;
use crate::report::{Block, Cell, Document, Table, Tone};

/// How many characters of a reason the table shows.
const REASON_WIDTH: usize = 120;

/// How a step ended, or why it was not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Done,
    /// An item of it failed; its report says which.
    ItemsFailed,
    /// It failed as a whole, with this exit and for this reason.
    Failed(Exit, String),
    /// A policy that was asked for is violated.
    Violated,
    /// Stopped by a signal.
    Stopped(Exit),
    /// There was nothing to do, or it would have been wrong to.
    Skipped(String),
    /// The run was over before its turn.
    NotRun(String),
}

impl Ending {
    pub(super) fn of(ended: Result<Exit, (Exit, String)>) -> Ending {
        match ended {
            Ok(Exit::Done) => Ending::Done,
            Ok(Exit::PolicyViolated) => Ending::Violated,
            Ok(Exit::Failed | Exit::Usage) => Ending::ItemsFailed,
            Ok(exit @ (Exit::Interrupted | Exit::Terminated))
            | Err((exit @ (Exit::Interrupted | Exit::Terminated), _)) => Ending::Stopped(exit),
            Err((exit, reason)) => Ending::Failed(exit, reason),
        }
    }

    /// Returns the result in one word, and how it is shown.
    fn word(&self) -> (&'static str, Tone) {
        match self {
            Ending::Done => ("done", Tone::Good),
            Ending::ItemsFailed | Ending::Failed(..) => ("failed", Tone::Bad),
            Ending::Violated => ("violated", Tone::Bad),
            Ending::Stopped(_) => ("stopped", Tone::Bad),
            Ending::Skipped(_) => ("skipped", Tone::Quiet),
            Ending::NotRun(_) => ("not run", Tone::Warning),
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Ending::Failed(_, reason) | Ending::Skipped(reason) | Ending::NotRun(reason) => {
                Some(reason)
            }
            Ending::ItemsFailed => Some("see its report above"),
            Ending::Done | Ending::Violated | Ending::Stopped(_) => None,
        }
    }

    /// Returns the exit that the ending leads to. What is wrong with the configuration of one step
    /// is a failure of the run.
    fn exit(&self) -> Exit {
        match self {
            Ending::Done | Ending::Skipped(_) => Exit::Done,
            Ending::ItemsFailed | Ending::Failed(..) | Ending::NotRun(_) => Exit::Failed,
            Ending::Violated => Exit::PolicyViolated,
            Ending::Stopped(exit) => *exit,
        }
    }
}

impl Serialize for Ending {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.word().0.replace(' ', "-"))
    }
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StepReport {
    pub(super) step: &'static str,
    #[serde(rename = "result")]
    ending: Ending,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(rename = "durationSeconds", serialize_with = "crate::steps::seconds")]
    duration: Duration,
    /// Whether it changed anything anywhere.
    changed: bool,
    /// Its own reports, by their names.
    reports: BTreeMap<String, Value>,
    #[serde(skip)]
    pub(super) outputs: Vec<(&'static str, String)>,
    /// What it printed.
    #[serde(skip)]
    pub(super) text: String,
}

impl StepReport {
    pub(super) fn new(
        step: &'static str,
        ending: Ending,
        duration: Duration,
        told: Told,
        text: String,
    ) -> StepReport {
        let reason = match ending {
            Ending::Violated => Some(told.violations.join("; ")),
            _ => ending.reason().map(str::to_owned),
        };
        let reason = reason.filter(|reason| !reason.is_empty());
        let reports = told.reports.into_iter().collect();
        StepReport {
            step,
            ending,
            reason,
            duration,
            changed: told.changed,
            reports,
            outputs: told.outputs,
            text,
        }
    }

    /// Returns the report of a step that was not run.
    pub(super) fn without(step: &'static str, ending: Ending) -> StepReport {
        StepReport::new(step, ending, Duration::ZERO, Told::default(), String::new())
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.ending, Ending::ItemsFailed | Ending::Failed(..))
    }

    pub(super) fn was_stopped(&self) -> bool {
        matches!(self.ending, Ending::Stopped(_))
    }

    pub(super) fn was_run(&self) -> bool {
        !matches!(self.ending, Ending::Skipped(_) | Ending::NotRun(_))
    }
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunReport {
    event: Event,
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
        event: Event,
        steps: Vec<StepReport>,
        signal: Option<Exit>,
        duration: Duration,
    ) -> RunReport {
        let exit = match steps.as_slice() {
            // A single step ends as its own command does.
            [
                StepReport {
                    ending: Ending::Failed(exit, _),
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

    /// Returns whether the table says more than the report of the one step that was run.
    pub(super) fn has_more_to_say(&self) -> bool {
        !matches!(self.steps.as_slice(), [step] if step.was_run())
    }

    /// Returns the table for people.
    pub(super) fn document(&self) -> Document {
        let rows = self.steps.iter().map(|step| {
            let (word, tone) = step.ending.word();
            let time = if step.was_run() {
                human_duration(step.duration)
            } else {
                String::new()
            };
            let reason = step
                .reason
                .as_deref()
                .map(|reason| excerpt(reason, REASON_WIDTH))
                .unwrap_or_default();
            vec![
                Cell::plain(step.step),
                Cell::toned(word, tone),
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

    /// Returns the run as a list of cases, one for each step.
    pub(super) fn test_suite(&self) -> TestSuite {
        let cases = self.steps.iter().map(|step| {
            let message = step
                .reason
                .clone()
                .unwrap_or_else(|| step.ending.word().0.to_owned());
            let outcome = match step.ending {
                _ if !step.was_run() => CaseOutcome::Skipped(message),
                Ending::Done => CaseOutcome::Passed,
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

    /// Returns what later jobs may want to know, by the names of variables.
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
