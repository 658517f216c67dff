//! Results of commands, and the one function that prints them.

use std::io;

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use super::report_files::ReportFile;
use super::{CommandContext, OutputForm};
use crate::error::{Exit, Failure, chain};
use crate::model::reference::LAYOUT_PREFIX;
use crate::report::text::{Style, draw};
use crate::report::{Document, json};

#[derive(Debug, Error)]
enum PrintError {
    #[error("cannot write to stdout")]
    Stdout(#[source] io::Error),
    #[error("cannot convert the report to JSON")]
    Json(#[source] serde_json::Error),
}

/// Result of a command: how it ended, its report, and the output that has not been printed yet.
///
/// A command returns it and prints nothing itself; `print` does that. `imglife run` reads
/// `report`, `changed`, `outputs` and `violations` of its steps from it.
pub(super) struct CommandResult {
    pub(super) exit: Exit,
    /// Report for programs; `None` for commands that only print text.
    pub(super) report: Option<CommandReport>,
    /// Parts of the text on stdout, in their order.
    pub(super) stdout: Vec<Printed>,
    /// Report files and their content.
    files: Vec<(ReportFile, String)>,
    /// True if the command changed anything: images, records or files.
    pub(super) changed: bool,
    /// Values for later CI jobs, by the name of a variable.
    pub(super) outputs: Vec<(&'static str, String)>,
    /// Violations of a policy that the user set, one message each.
    pub(super) violations: Vec<String>,
    /// Failure after the report was complete, for example while publishing it. The report is
    /// printed nevertheless.
    pub(super) failure: Option<Failure>,
    /// True if a failure to print the result is only a warning (`imglife check --warn`).
    pub(super) is_advisory: bool,
}

/// Report for programs.
pub(super) struct CommandReport {
    /// The name in its schema, `imglife/<name>/v1`.
    pub(super) name: &'static str,
    pub(super) value: Value,
}

/// Part of a command's output on stdout.
pub(super) enum Printed {
    /// Text that is printed unchanged.
    Text(String),
    /// Document that is drawn as text.
    Document(Document),
    /// The report of the result, as versioned JSON.
    Json,
}

impl CommandResult {
    /// Returns a result that prints nothing.
    pub(super) fn new(exit: Exit) -> CommandResult {
        CommandResult {
            exit,
            report: None,
            stdout: Vec::new(),
            files: Vec::new(),
            changed: false,
            outputs: Vec::new(),
            violations: Vec::new(),
            failure: None,
            is_advisory: false,
        }
    }

    /// Returns a successful result that prints `text` unchanged.
    pub(super) fn text(text: impl Into<String>) -> CommandResult {
        CommandResult::new(Exit::Done).and_text(text)
    }

    /// Returns a result with a report in the form that the user chose: `document` as text, or
    /// `report` as `imglife/<name>/v1`.
    pub(super) fn reported<T: Serialize>(
        exit: Exit,
        output: OutputForm,
        name: &'static str,
        report: &T,
        document: Document,
    ) -> Result<CommandResult, Failure> {
        let result = CommandResult::new(exit).with_report(name, report)?;
        Ok(match output {
            OutputForm::Text => result.and_document(document),
            OutputForm::Json => result.and_json(),
        })
    }

    /// Adds a report for programs, which is not printed by itself.
    pub(super) fn with_report<T: Serialize>(
        mut self,
        name: &'static str,
        report: &T,
    ) -> Result<CommandResult, Failure> {
        let value = serde_json::to_value(report)
            .map_err(|error| Failure::failed(PrintError::Json(error)))?;
        self.report = Some(CommandReport { name, value });
        Ok(self)
    }

    /// Adds text to stdout.
    pub(super) fn and_text(mut self, text: impl Into<String>) -> CommandResult {
        self.stdout.push(Printed::Text(text.into()));
        self
    }

    /// Adds a document to stdout.
    pub(super) fn and_document(mut self, document: Document) -> CommandResult {
        self.stdout.push(Printed::Document(document));
        self
    }

    /// Adds the report to stdout, as versioned JSON.
    pub(super) fn and_json(mut self) -> CommandResult {
        self.stdout.push(Printed::Json);
        self
    }

    /// Adds the content of a report file, if the user asked for that file.
    pub(super) fn and_file(
        mut self,
        file: Option<ReportFile>,
        content: impl FnOnce() -> String,
    ) -> CommandResult {
        self.files.extend(file.map(|file| (file, content())));
        self
    }

    /// Sets whether the command changed anything.
    pub(super) fn changed(mut self, changed: bool) -> CommandResult {
        self.changed = changed;
        self
    }

    /// Adds a failure that happened after the report was complete.
    pub(super) fn failed(mut self, failure: Failure) -> CommandResult {
        self.failure = Some(failure);
        self
    }

    /// Returns the text that the result prints on stdout. Image layouts below the working
    /// directory are shown relative to it, so that they can be passed to another command.
    pub(super) fn stdout_text(&self, context: &CommandContext) -> Result<String, Failure> {
        let here = format!("{LAYOUT_PREFIX}{}/", context.process.directory.display());
        let style = Style {
            color: context.report_color,
        };
        let mut text = String::new();
        for part in &self.stdout {
            match part {
                Printed::Text(part) => text += part,
                Printed::Document(document) => {
                    let document = document
                        .clone()
                        .map_texts(|text| text.replace(&here, LAYOUT_PREFIX));
                    text += &draw(&document, style);
                }
                Printed::Json => {
                    if let Some(CommandReport { name, value }) = &self.report {
                        text += &json::versioned(name, value)
                            .map_err(|error| Failure::failed(PrintError::Json(error)))?;
                    }
                }
            }
        }
        Ok(text)
    }
}

/// Prints the result of a command and returns how the command ended.
///
/// Writes stdout and all report files; after a failure the remaining ones are still tried, because
/// a full disk may affect only one of them. Logs policy violations last. Fails with the
/// first failure; after a signal with the exit of the signal.
pub(super) fn print(result: &mut CommandResult, context: &CommandContext) -> Result<Exit, Failure> {
    let mut results = vec![result.failure.take().map_or(Ok(()), Err)];
    results.push(
        result
            .stdout_text(context)
            .and_then(|text| context.print(&text)),
    );
    results.extend(
        std::mem::take(&mut result.files)
            .into_iter()
            .map(|(file, content)| file.write(&content)),
    );
    match results.into_iter().collect::<Result<(), Failure>>() {
        Ok(()) => {
            for violation in &result.violations {
                tracing::error!("{violation}");
            }
            Ok(result.exit)
        }
        Err(failure) if is_signal(result.exit) => Err(Failure {
            exit: result.exit,
            ..failure
        }),
        Err(failure) if result.is_advisory => {
            warn_of(&failure);
            Ok(Exit::Done)
        }
        Err(failure) => Err(failure),
    }
}

/// Returns true if the command was stopped by a signal.
pub(super) fn is_signal(exit: Exit) -> bool {
    matches!(exit, Exit::Interrupted | Exit::Terminated)
}

/// Logs the reason why a check could not be made, as a warning.
pub(super) fn warn_of(failure: &Failure) {
    tracing::warn!(
        "the check could not be made: {}",
        chain(failure.error.as_ref())
    );
    for hint in &failure.hints {
        tracing::warn!("{hint}");
    }
}

impl CommandContext {
    /// Writes `text` to stdout.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        self.process
            .stdout
            .write(text)
            .map_err(|error| Failure::failed(PrintError::Stdout(error)))
    }
}
