//! Reports on their way to stdout.

use std::io;

use serde::Serialize;
use thiserror::Error;

use super::{Output, Surroundings};
use crate::error::Failure;
use crate::model::reference::LAYOUT_PREFIX;
use crate::report::text::{Style, draw};
use crate::report::{Document, json};

#[derive(Debug, Error)]
enum OutputError {
    #[error("cannot write to stdout")]
    Stdout(#[source] io::Error),
    #[error("cannot turn the report into JSON")]
    Json(#[source] serde_json::Error),
}

impl Surroundings {
    /// Writes `text` to stdout.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        self.process
            .stdout
            .write(text)
            .map_err(|error| Failure::failed(OutputError::Stdout(error)))
    }

    /// Writes a report to stdout in the form that was asked for: `document` for people, in which
    /// layouts below the working directory are named from there, as they can be given to a command;
    /// or `value` as `imglife/<name>/v1`.
    pub(super) fn report<T: Serialize>(
        &self,
        output: Output,
        name: &str,
        value: &T,
        document: &Document,
    ) -> Result<(), Failure> {
        self.record(name, value)?;
        let text = match output {
            Output::Text => {
                let here = format!("{LAYOUT_PREFIX}{}/", self.process.directory.display());
                let document = document
                    .clone()
                    .map_texts(|text| text.replace(&here, LAYOUT_PREFIX));
                draw(
                    &document,
                    Style {
                        color: self.report_color,
                    },
                )
            }
            Output::Json => json::versioned(name, value)
                .map_err(|error| Failure::failed(OutputError::Json(error)))?,
        };
        self.print(&text)
    }

    /// Hands a report to the run that this is a part of.
    pub(super) fn record<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Failure> {
        let Some(part) = &self.part_of else {
            return Ok(());
        };
        part.report(name, value)
            .map_err(|error| Failure::failed(OutputError::Json(error)))
    }

    /// Tells the run that this is a part of whether anything was changed, and what later jobs may
    /// want to know.
    pub(super) fn note(
        &self,
        changed: bool,
        outputs: impl IntoIterator<Item = (&'static str, String)>,
    ) {
        if let Some(part) = &self.part_of {
            part.changed(changed);
            part.outputs(outputs);
        }
    }

    /// Says what violates a policy that was asked for.
    pub(super) fn violated(&self, violations: &[String]) {
        violations
            .iter()
            .for_each(|violation| tracing::error!("{violation}"));
        if let Some(part) = &self.part_of {
            part.violated(violations);
        }
    }
}
