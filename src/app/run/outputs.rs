//! Output of a run for the CI server: report files in one directory, and the files that runners of
//! GitHub, Gitea and Forgejo Actions read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::report::RunReport;
use crate::app::report_files::ReportFile;
use crate::error::{Failure, chain};
use crate::files::refuse_link_out;
use crate::model::env;
use crate::process::Process;
use crate::report::text::{Style, draw};
use crate::report::{dotenv, json, junit};

#[derive(Debug, Error)]
enum RunOutputsError {
    #[error("cannot create the report directory {}", .path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot write the job outputs to {}", .path.display())]
    Outputs { path: PathBuf, source: io::Error },
    #[error("cannot convert the report to JSON")]
    Json(#[source] serde_json::Error),
}

/// Files that a run writes for the CI server.
pub(super) struct RunOutputs {
    /// Existing directory for report files; `None` if the user wants none.
    directory: Option<PathBuf>,
    /// File with outputs for later steps of the job (`GITHUB_OUTPUT`).
    outputs: Option<PathBuf>,
    /// File with the summary on the page of the job (`GITHUB_STEP_SUMMARY`).
    summary: Option<PathBuf>,
    working_directory: PathBuf,
}

impl RunOutputs {
    /// Creates the directory for report files and returns the files. Fails when the directory
    /// cannot be created.
    pub(super) fn prepare(
        directory: Option<&Path>,
        process: &Process,
    ) -> Result<RunOutputs, Failure> {
        let directory = directory.map(|directory| process.directory.join(directory));
        if let Some(path) = &directory {
            let created =
                refuse_link_out(&process.directory, path).and_then(|()| fs::create_dir_all(path));
            created.map_err(|source| {
                Failure::usage(RunOutputsError::Directory {
                    path: path.clone(),
                    source,
                })
            })?;
        }
        let named = |name| {
            process
                .variables
                .get_filled(name)
                .map(|path| process.directory.join(path))
        };
        Ok(RunOutputs {
            directory,
            outputs: named(env::GITHUB_OUTPUT),
            summary: named(env::GITHUB_STEP_SUMMARY),
            working_directory: process.directory.clone(),
        })
    }

    /// Returns the path of a report file, or `None` if the user wants none.
    pub(super) fn file(&self, name: &str) -> Option<PathBuf> {
        self.directory
            .as_ref()
            .map(|directory| directory.join(name))
    }

    /// Writes the report on the whole run to all files. A missing summary is only logged.
    pub(super) fn write(&self, report: &RunReport) -> Result<(), Failure> {
        let variables = report.variables();
        let as_json = json::versioned("run", report)
            .map_err(|error| Failure::failed(RunOutputsError::Json(error)))?;
        let files = [
            ("run.env", dotenv::draw(&variables)),
            ("run.json", as_json),
            ("run.xml", junit::draw(&report.test_suite())),
        ];
        // All are tried, because a full disk may affect only one of them.
        let files = files.into_iter().map(|(name, text)| match self.file(name) {
            Some(path) => ReportFile::prepare(&path, &self.working_directory)?.write(&text),
            None => Ok(()),
        });
        let mut written: Vec<Result<(), Failure>> = files.collect();
        if let Some(path) = &self.outputs {
            let outputs = variables
                .iter()
                .map(|(name, value)| (output_name(name), value.clone()));
            let text: String = outputs
                .map(|(name, value)| format!("{name}={}\n", crate::model::text::printable(&value)))
                .collect();
            written.push(append(path, &text).map_err(|source| {
                Failure::failed(RunOutputsError::Outputs {
                    path: path.clone(),
                    source,
                })
            }));
        }
        if let Some(path) = &self.summary
            && let Err(error) = append(path, &summary(report))
        {
            tracing::warn!("cannot write the job summary: {}", chain(&error));
        }
        written.into_iter().collect()
    }
}

/// Returns the name of a job output for the name of a variable.
fn output_name(variable: &str) -> String {
    variable
        .trim_start_matches(env::PREFIX)
        .to_ascii_lowercase()
        .replace('_', "-")
}

/// Returns the report on a run in Markdown. Output of the steps is shown literally: indented lines
/// are always a code block (CommonMark 0.31, 4.4).
fn summary(report: &RunReport) -> String {
    let plain = |text: &str| {
        text.lines()
            .map(|line| format!("    {line}\n"))
            .collect::<String>()
    };
    let mut page = format!(
        "## imglife\n\n{}\n",
        plain(&draw(&report.document(), Style { color: false }))
    );
    for step in &report.steps {
        // The server shows annotations elsewhere.
        let text: String = step
            .text
            .lines()
            .filter(|line| !line.starts_with("::"))
            .map(|line| format!("{line}\n"))
            .collect();
        if !text.trim().is_empty() {
            page += &format!("### {}\n\n{}\n", step.step, plain(&text));
        }
    }
    page
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)?
        .write_all(text.as_bytes())
}
