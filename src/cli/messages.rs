//! What a run says on stderr: one writer for failures, logs and progress lines, which masks
//! secrets, makes text safe to show and never tears the progress bars.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde_json::{Map, Value, json};
use tracing::Level;

use super::failure::Told;
use super::global::LogFormat;
use crate::app::ConfigErrors;
use crate::error::Failure;
use crate::model::Clock;
use crate::model::text::{Masker, printable};
use crate::process::{Process, Stream};

/// The stderr of a run.
#[derive(Clone)]
pub(super) struct Messages {
    stream: Stream,
    clock: Clock,
    masker: Masker,
    pub(super) format: LogFormat,
    color: bool,
    /// Draws nothing until it is given a terminal.
    pub(super) bars: MultiProgress,
}

/// Something that happened, for the log.
pub(super) struct Record<'a> {
    pub(super) level: Level,
    /// The module it comes from; in text shown of other crates only.
    pub(super) target: &'a str,
    pub(super) message: String,
    pub(super) fields: Vec<(&'a str, Value)>,
}

impl Messages {
    pub(super) fn new(process: &Process, format: LogFormat, color: bool) -> Messages {
        Messages {
            stream: process.stderr.clone(),
            clock: process.clock.clone(),
            masker: process.variables.masker(),
            format,
            color,
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
        }
    }

    /// Writes a failure.
    pub(super) fn failure(&self, failure: &Failure) {
        match (self.format, failure.error.downcast_ref::<ConfigErrors>()) {
            // These draw themselves into the lines of the file.
            (LogFormat::Text, Some(errors)) => {
                self.write(&self.masker.mask(&errors.render(self.color)));
            }
            (LogFormat::Text, None) => {
                self.write(&Told::new(failure, &self.masker).draw(self.color));
            }
            (LogFormat::Json, Some(errors)) => self.findings(errors),
            (LogFormat::Json, None) => {
                let told = Told::new(failure, &self.masker);
                let fields = vec![("causes", json!(told.causes)), ("hints", json!(told.hints))];
                self.record(&Record {
                    level: Level::ERROR,
                    target: "imglife",
                    message: told.error,
                    fields,
                });
            }
        }
    }

    /// Writes a record for each thing that is wrong with the configuration.
    fn findings(&self, errors: &ConfigErrors) {
        for finding in &errors.findings {
            let mut fields = vec![("file", json!(errors.name)), ("path", json!(finding.path))];
            fields.extend(
                finding
                    .span
                    .into_iter()
                    .flat_map(|span| [("line", json!(span.line)), ("column", json!(span.column))]),
            );
            fields.extend(finding.hint.iter().map(|hint| ("hint", json!(hint))));
            self.record(&Record {
                level: Level::ERROR,
                target: "imglife",
                message: finding.message.clone(),
                fields,
            });
        }
        if errors.omitted > 0 {
            let message = format!("{} more errors in {}", errors.omitted, errors.name);
            self.record(&Record {
                level: Level::ERROR,
                target: "imglife",
                message,
                fields: Vec::new(),
            });
        }
    }

    /// Writes a log record as one line.
    pub(super) fn record(&self, record: &Record<'_>) {
        let line = match self.format {
            LogFormat::Text => self.text(record),
            LogFormat::Json => self.json(record),
        };
        self.write(&(line + "\n"));
    }

    /// Writes a line for people.
    pub(super) fn line(&self, text: &str) {
        self.write(&(self.shown(text) + "\n"));
    }

    /// Writes a line of our own as it is: it may mean something to whoever shows the log.
    pub(super) fn marker(&self, line: &str) {
        self.write(line);
    }

    /// Returns `text` without secrets and safe to show.
    pub(super) fn shown(&self, text: &str) -> String {
        printable(&self.masker.mask(text)).into_owned()
    }

    fn text(&self, record: &Record<'_>) -> String {
        let (word, style) = match record.level {
            Level::ERROR => ("error", AnsiColor::Red.on_default().bold()),
            Level::WARN => ("warn", AnsiColor::Yellow.on_default().bold()),
            Level::INFO => ("info", Style::new().bold()),
            Level::DEBUG => ("debug", Style::new().dimmed()),
            Level::TRACE => ("trace", Style::new().dimmed()),
        };
        let mut line = if self.color {
            format!("{style}{word}:{style:#} ")
        } else {
            format!("{word}: ")
        };
        if !is_ours(record.target) {
            line += &format!("{}: ", record.target);
        }
        line += &self.shown(&record.message);
        for (name, value) in &record.fields {
            let value = match value {
                Value::String(text) => self.shown(text),
                other => self.shown(&other.to_string()),
            };
            if value.is_empty() || value.contains([' ', '=', '"']) {
                line += &format!(" {name}=\"{}\"", value.replace('"', "\\\""));
            } else {
                line += &format!(" {name}={value}");
            }
        }
        line
    }

    fn json(&self, record: &Record<'_>) -> String {
        let mut object = Map::new();
        object.insert(
            "time".to_owned(),
            json!(
                self.clock
                    .now()
                    .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
            ),
        );
        object.insert(
            "level".to_owned(),
            json!(record.level.as_str().to_ascii_lowercase()),
        );
        object.insert("target".to_owned(), json!(record.target));
        object.insert("message".to_owned(), json!(self.shown(&record.message)));
        for (name, value) in &record.fields {
            let value = match value {
                Value::String(text) => json!(self.shown(text)),
                other => other.clone(),
            };
            // The four above are what readers rely on.
            object.entry(*name).or_insert(value);
        }
        Value::Object(object).to_string()
    }

    /// Writes to stderr, above the bars. There is nowhere to tell that stderr is gone.
    fn write(&self, text: &str) {
        let _ = self.bars.suspend(|| self.stream.write(text));
    }

    /// Takes the bars off the terminal for good.
    pub(super) fn end_bars(&self) {
        let _ = self.bars.clear();
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Returns `stdout`, where the first thing that is written ends the bars: what follows is the
    /// report.
    pub(super) fn bars_end_at(&self, stdout: &Stream) -> Stream {
        Stream::new(
            EndsBars {
                messages: self.clone(),
                stdout: stdout.clone(),
            },
            stdout.is_terminal,
        )
    }
}

/// Returns whether a record comes from this program and not from a library.
pub(super) fn is_ours(target: &str) -> bool {
    target.split("::").next() == Some("imglife")
}

struct EndsBars {
    messages: Messages,
    stdout: Stream,
}

impl Write for EndsBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.messages.end_bars();
        self.stdout.write(&String::from_utf8_lossy(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
