//! Conversion of `tracing` events to log records.
//!
//! Owns the selection of events and their conversion; `messages` owns the format of records. There
//! is no global subscriber: each run has its own dispatcher, so that the logs of several runs in
//! one process do not mix.

use std::error::Error;
use std::fmt::Debug;

use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, SubscriberExt};

use super::messages::{LogRecord, Messages, is_ours};
use crate::error::chain;

/// Returns a dispatcher that writes records down to `level` to `messages`. From other crates it
/// writes only warnings and errors.
pub(super) fn dispatch(messages: Messages, level: LevelFilter) -> Dispatch {
    let others = level.min(LevelFilter::WARN);
    let filter = filter_fn(move |metadata| {
        *metadata.level()
            <= if is_ours(metadata.target()) {
                level
            } else {
                others
            }
    });
    let filter = filter.with_max_level_hint(level);
    Dispatch::new(tracing_subscriber::registry().with(LogLayer { messages }.with_filter(filter)))
}

struct LogLayer {
    messages: Messages,
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut record = LogRecord {
            level: *metadata.level(),
            target: metadata.target(),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut FieldVisitor(&mut record));
        self.messages.record(&record);
    }
}

struct FieldVisitor<'a, 'b>(&'a mut LogRecord<'b>);

impl FieldVisitor<'_, '_> {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.0.message = text,
            (name, value) => self.0.fields.push((name, value)),
        }
    }
}

impl Visit for FieldVisitor<'_, '_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, json!(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, json!(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, json!(chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, json!(format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::cli::global::LogFormat;
    use crate::model::Clock;
    use crate::process::{Process, Stream};

    /// Returns the text that `work` logs on stderr.
    fn logged(format: LogFormat, color: bool, level: LevelFilter, work: impl FnOnce()) -> String {
        let (stderr, captured) = Stream::captured();
        let process = Process {
            variables: [("REGISTRY_PASSWORD", "hunter\"2")].into_iter().collect(),
            clock: Clock::fixed(DateTime::UNIX_EPOCH),
            directory: "/".into(),
            stdout: Stream::captured().0,
            stderr,
        };
        let messages = Messages::new(&process, format, color);
        tracing::dispatcher::with_default(&dispatch(messages, level), work);
        captured.text()
    }

    fn records() {
        let error = std::io::Error::other("refused\u{1b}[31m");
        tracing::warn!(
            attempt = 2,
            host = "quay.io",
            error = &error as &(dyn Error + 'static),
            "trying again with hunter\"2"
        );
        tracing::info!(
            hook = "sh -c 'echo hunter\"2' \"b\"",
            "{}",
            "one\n::set-output::two"
        );
        tracing::debug!(empty = "", "done");
        tracing::warn!(target: "hyper::client", message = "closed", time = "never");
        tracing::info!(target: "hyper::client", "not wanted");
        tracing::info!(target: "imglife_of_somebody_else", "not wanted");
    }

    #[test]
    fn records_are_lines_without_secrets_and_control_characters() {
        insta::assert_snapshot!(logged(LogFormat::Text, false, LevelFilter::DEBUG, records), @r#"
        warn: trying again with *** attempt=2 host=quay.io error=refused\u{1b}[31m
        info: one\u{a}::set-output::two hook="sh -c 'echo ***' \"b\""
        debug: done empty=""
        warn: hyper::client: closed time=never
        "#);
    }

    #[test]
    fn records_are_objects_with_the_time_of_the_clock() {
        insta::assert_snapshot!(logged(LogFormat::Json, true, LevelFilter::INFO, records), @r#"
        {"time":"1970-01-01T00:00:00.000Z","level":"warn","target":"imglife::cli::logging::tests","message":"trying again with ***","attempt":2,"host":"quay.io","error":"refused\\u{1b}[31m"}
        {"time":"1970-01-01T00:00:00.000Z","level":"info","target":"imglife::cli::logging::tests","message":"one\\u{a}::set-output::two","hook":"sh -c 'echo ***' \"b\""}
        {"time":"1970-01-01T00:00:00.000Z","level":"warn","target":"hyper::client","message":"closed"}
        "#);
    }

    #[test]
    fn the_level_applies_to_all_crates() {
        assert_eq!(
            logged(LogFormat::Text, false, LevelFilter::ERROR, records),
            ""
        );
        let warnings = logged(LogFormat::Text, true, LevelFilter::WARN, records);
        assert_eq!(warnings.lines().count(), 2);
        assert!(
            warnings.starts_with("\u{1b}[1m\u{1b}[33mwarn:\u{1b}[0m trying"),
            "{warnings:?}"
        );
    }
}
