//! Output on stderr: one writer for failures, logs and progress lines, which masks secrets, escapes
//! control characters and does not disturb the progress bars.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde_json::{Map, Value, json};
use tracing::Level;

use super::failure::FailureText;
use super::global::LogFormat;
use crate::app::ConfigErrors;
use crate::error::Failure;
use crate::model::Clock;
use crate::model::text::{Masker, printable};
use crate::process::{Process, Stream};

/// Writer for stderr.
#[derive(Clone)]
pub(super) struct Messages {
    stream: Stream,
    clock: Clock,
    masker: Masker,
    pub(super) format: LogFormat,
    color: bool,
    /// Progress bars, hidden until a terminal is set as their target.
    pub(super) bars: MultiProgress,
}

/// Record of the log.
pub(super) struct LogRecord<'a> {
    pub(super) level: Level,
    /// Module that logged the record. Text logs show it only for other crates.
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
            // These are drawn with the lines of the file.
            (LogFormat::Text, Some(errors)) => {
                self.write(&self.masker.mask(&errors.render(self.color)));
            }
            (LogFormat::Text, None) => {
                self.write(&FailureText::new(failure, &self.masker).draw(self.color));
            }
            (LogFormat::Json, Some(errors)) => self.config_errors(errors),
            (LogFormat::Json, None) => {
                let text = FailureText::new(failure, &self.masker);
                let fields = vec![("causes", json!(text.causes)), ("hints", json!(text.hints))];
                self.record(&LogRecord {
                    level: Level::ERROR,
                    target: "imglife",
                    message: text.error,
                    fields,
                });
            }
        }
    }

    /// Writes a record for each error in the configuration.
    fn config_errors(&self, errors: &ConfigErrors) {
        for finding in &errors.findings {
            let mut fields = vec![("file", json!(errors.name)), ("path", json!(finding.path))];
            fields.extend(
                finding
                    .span
                    .into_iter()
                    .flat_map(|span| [("line", json!(span.line)), ("column", json!(span.column))]),
            );
            fields.extend(finding.hint.iter().map(|hint| ("hint", json!(hint))));
            self.record(&LogRecord {
                level: Level::ERROR,
                target: "imglife",
                message: finding.message.clone(),
                fields,
            });
        }
        if errors.omitted > 0 {
            let message = format!("{} more errors in {}", errors.omitted, errors.name);
            self.record(&LogRecord {
                level: Level::ERROR,
                target: "imglife",
                message,
                fields: Vec::new(),
            });
        }
    }

    /// Writes a log record as one line.
    pub(super) fn record(&self, record: &LogRecord<'_>) {
        let line = match self.format {
            LogFormat::Text => self.text(record),
            LogFormat::Json => self.json(record),
        };
        self.write(&(line + "\n"));
    }

    /// Writes a line of text.
    pub(super) fn line(&self, text: &str) {
        self.write(&(self.sanitized(text) + "\n"));
    }

    /// Writes a line unchanged, since it may be a command to the CI server that shows the log.
    pub(super) fn marker(&self, line: &str) {
        self.write(line);
    }

    /// Returns `text` with secrets masked and control characters escaped.
    pub(super) fn sanitized(&self, text: &str) -> String {
        printable(&self.masker.mask(text)).into_owned()
    }

    fn text(&self, record: &LogRecord<'_>) -> String {
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
        line += &self.sanitized(&record.message);
        for (name, value) in &record.fields {
            let value = match value {
                Value::String(text) => self.sanitized(text),
                other => self.sanitized(&other.to_string()),
            };
            if value.is_empty() || value.contains([' ', '=', '"']) {
                line += &format!(" {name}=\"{}\"", value.replace('"', "\\\""));
            } else {
                line += &format!(" {name}={value}");
            }
        }
        line
    }

    fn json(&self, record: &LogRecord<'_>) -> String {
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
        object.insert("message".to_owned(), json!(self.sanitized(&record.message)));
        for (name, value) in &record.fields {
            let value = match value {
                Value::String(text) => json!(self.sanitized(text)),
                other => other.clone(),
            };
            // The four keys above cannot be replaced by fields.
            object.entry(*name).or_insert(value);
        }
        Value::Object(object).to_string()
    }

    /// Writes to stderr, above the bars. Ignores errors: there is nowhere to report them.
    fn write(&self, text: &str) {
        let _ = self.bars.suspend(|| self.stream.write(text));
    }

    /// Removes the bars from the terminal.
    pub(super) fn end_bars(&self) {
        let _ = self.bars.clear();
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Returns `stdout`, wrapped so that the first write removes the progress bars.
    pub(super) fn bars_end_at(&self, stdout: &Stream) -> Stream {
        Stream::new(
            BarRemover {
                messages: self.clone(),
                stdout: stdout.clone(),
            },
            stdout.is_terminal,
        )
    }
}

/// Returns true if a record comes from this program and not from a library.
pub(super) fn is_ours(target: &str) -> bool {
    target.split("::").next() == Some("imglife")
}

/// Writer to stdout that removes the progress bars first.
struct BarRemover {
    messages: Messages,
    stdout: Stream,
}

impl Write for BarRemover {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.messages.end_bars();
        self.stdout.write(&String::from_utf8_lossy(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
