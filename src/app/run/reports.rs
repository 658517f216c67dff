//! What a run writes for others: report files in one directory, and what the runners of Actions
//! read from their jobs.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::report::RunReport;
use crate::app::report_files::ReportFile;
use crate::error::{Failure, chain};
use crate::model::env;
use crate::process::{Process, Stream};
use crate::report::text::{Style, draw};
use crate::report::{dotenv, json, junit};

#[derive(Debug, Error)]
enum ReportsError {
    #[error("the directory {} for reports cannot be made", .path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("the outputs of the job cannot be written to {}", .path.display())]
    Outputs { path: PathBuf, source: io::Error },
    #[error("the report cannot be turned into JSON")]
    Json(#[source] serde_json::Error),
}

/// Where a run's reports go.
pub(super) struct Reports {
    /// Made already.
    directory: Option<PathBuf>,
    /// What later steps of the job read (`GITHUB_OUTPUT`).
    outputs: Option<PathBuf>,
    /// What people see on the page of the job (`GITHUB_STEP_SUMMARY`).
    summary: Option<PathBuf>,
    base: PathBuf,
}

impl Reports {
    /// Returns the places, the directory having been made. Fails when it cannot be.
    pub(super) fn prepare(directory: Option<&Path>, process: &Process) -> Result<Reports, Failure> {
        let directory = directory.map(|directory| process.directory.join(directory));
        if let Some(path) = &directory {
            fs::create_dir_all(path).map_err(|source| {
                Failure::usage(ReportsError::Directory {
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
        Ok(Reports {
            directory,
            outputs: named(env::GITHUB_OUTPUT),
            summary: named(env::GITHUB_STEP_SUMMARY),
            base: process.directory.clone(),
        })
    }

    /// Returns the path of a report, `None` when none are wanted.
    pub(super) fn file(&self, name: &str) -> Option<PathBuf> {
        self.directory
            .as_ref()
            .map(|directory| directory.join(name))
    }

    /// Writes what is told of the whole run.
    pub(super) fn write(&self, report: &RunReport) -> Result<(), Failure> {
        let variables = report.variables();
        let as_json = json::versioned("run", report)
            .map_err(|error| Failure::failed(ReportsError::Json(error)))?;
        let files = [
            ("run.env", dotenv::draw(&variables)),
            ("run.json", as_json),
            ("run.xml", junit::draw(&report.test_suite())),
        ];
        // All are tried: a full disk under one is no reason to lose the others.
        let files = files.into_iter().map(|(name, text)| match self.file(name) {
            Some(path) => ReportFile::prepare(&path, &self.base)?.write(&text),
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
                Failure::failed(ReportsError::Outputs {
                    path: path.clone(),
                    source,
                })
            }));
        }
        if let Some(path) = &self.summary
            && let Err(error) = append(path, &summary(report))
        {
            tracing::warn!("the job gets no summary: {}", chain(&error));
        }
        written.into_iter().collect()
    }
}

/// Returns the name of a job's output for that of a variable.
fn output_name(variable: &str) -> String {
    variable
        .trim_start_matches(env::PREFIX)
        .to_ascii_lowercase()
        .replace('_', "-")
}

/// Returns a run in Markdown. What steps print is shown as it is: lines that are indented are code,
/// whatever stands in them (CommonMark 0.31, 4.4).
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
        // Annotations are shown elsewhere.
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

/// Returns a stream whose text goes to both.
pub(super) fn tee(one: &Stream, other: Stream) -> Stream {
    Stream::new(Tee(one.clone(), other), one.is_terminal)
}

struct Tee(Stream, Stream);

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.write(&text)?;
        self.1.write(&text)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
