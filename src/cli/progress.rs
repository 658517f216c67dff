//! Progress display: bars on a terminal, otherwise a line for each finished item.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tracing::Level;

use super::global::{GlobalArguments, LogFormat};
use super::messages::{LogRecord, Messages};
use crate::app::Presentation;
use crate::error::Failure;
use crate::model::env;
use crate::model::lock::lock;
use crate::process::Process;
use crate::progress::{Event, ItemOutcome, Progress, silent};

/// Maximum number of bars for items. Further items only count in the overall bar.
const MAX_ITEM_BARS: usize = 8;
/// Interval between redraws of the spinner.
const TICK: Duration = Duration::from_millis(120);

const WAITING: &str = "{spinner} {msg}";
const OVERALL: &str =
    "{prefix} {bar:25} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left";
const ITEM: &str = "  {wide_msg} {decimal_bytes:>10}/{decimal_total_bytes:10}";

fn progress_display(messages: &Messages, process: &Process) -> Arc<dyn Progress> {
    let variables = &process.variables;
    // Some CI runners give jobs a terminal and log everything that is drawn on it.
    let is_interactive = process.stderr.is_terminal
        && variables.get(env::TERM) != Some("dumb")
        && variables.get_filled(env::CI).is_none();
    if is_interactive && messages.format == LogFormat::Text {
        messages.bars.set_draw_target(ProgressDrawTarget::stderr());
        Arc::new(BarProgress::new(messages.clone()))
    } else {
        Arc::new(LineProgress {
            messages: messages.clone(),
            planned: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
        })
    }
}

/// Output around the steps of a run.
pub(super) struct StepPresentation {
    messages: Messages,
    process: Process,
    is_quiet: bool,
    hides_progress: bool,
}

impl StepPresentation {
    pub(super) fn new(
        global: &GlobalArguments,
        messages: &Messages,
        process: &Process,
    ) -> StepPresentation {
        let hides_progress = global.quiet || global.no_progress;
        StepPresentation {
            messages: messages.clone(),
            process: process.clone(),
            is_quiet: global.quiet,
            hides_progress,
        }
    }
}

impl Presentation for StepPresentation {
    fn progress(&self) -> Arc<dyn Progress> {
        if self.hides_progress {
            silent()
        } else {
            progress_display(&self.messages, &self.process)
        }
    }

    fn failure(&self, failure: &Failure) {
        self.messages.end_bars();
        self.messages.failure(failure);
    }

    fn marker(&self, line: &str) {
        if !self.is_quiet && self.messages.format == LogFormat::Text {
            self.messages.marker(line);
        }
    }
}

/// Progress as a line for each finished item.
struct LineProgress {
    messages: Messages,
    planned: AtomicUsize,
    finished: AtomicUsize,
}

impl Progress for LineProgress {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Planned { items } => {
                self.planned.fetch_add(items, Ordering::Relaxed);
            }
            Event::Finished { item, outcome } => self.finished(item, outcome),
            Event::Observing { .. }
            | Event::Started { .. }
            | Event::Expected { .. }
            | Event::Moved { .. } => {}
        }
    }
}

impl LineProgress {
    fn finished(&self, item: &str, outcome: ItemOutcome<'_>) {
        let finished = self.finished.fetch_add(1, Ordering::Relaxed) + 1;
        let planned = self.planned.load(Ordering::Relaxed).max(finished);
        if self.messages.format == LogFormat::Json {
            let (level, message, detail) = match outcome {
                ItemOutcome::Done { detail } => {
                    (Level::INFO, "finished", ("detail", json!(detail)))
                }
                ItemOutcome::Failed { cause } => (Level::ERROR, "failed", ("cause", json!(cause))),
            };
            let fields = vec![
                ("item", json!(item)),
                detail,
                ("finished", json!(finished)),
                ("planned", json!(planned)),
            ];
            return self.messages.record(&LogRecord {
                level,
                target: "imglife::progress",
                message: message.to_owned(),
                fields,
            });
        }
        self.messages.line(&match outcome {
            ItemOutcome::Done { detail: "" } => format!("[{finished}/{planned}] {item}"),
            ItemOutcome::Done { detail } => format!("[{finished}/{planned}] {item}  {detail}"),
            ItemOutcome::Failed { cause } => {
                format!("[{finished}/{planned}] {item}  failed: {cause}")
            }
        });
    }
}

/// Progress as bars on a terminal: one for the whole run, and above it one for each item in
/// progress.
struct BarProgress {
    messages: Messages,
    overall: ProgressBar,
    state: Mutex<BarsState>,
}

#[derive(Default)]
struct BarsState {
    planned: usize,
    finished: usize,
    items: HashMap<String, BarItem>,
}

#[derive(Default)]
struct BarItem {
    bar: Option<ProgressBar>,
    expected: u64,
    moved: u64,
}

impl BarProgress {
    fn new(messages: Messages) -> BarProgress {
        let overall = messages
            .bars
            .add(ProgressBar::no_length().with_style(style(WAITING)));
        overall.enable_steady_tick(TICK);
        BarProgress {
            messages,
            overall,
            state: Mutex::default(),
        }
    }

    fn started(&self, state: &mut BarsState, item: &str) {
        let shown = state
            .items
            .values()
            .filter(|item| item.bar.is_some())
            .count();
        let bar = (shown < MAX_ITEM_BARS).then(|| {
            let bar = ProgressBar::new(0)
                .with_style(style(ITEM))
                .with_message(self.messages.sanitized(item));
            self.messages.bars.insert_before(&self.overall, bar)
        });
        state.items.insert(
            item.to_owned(),
            BarItem {
                bar,
                ..BarItem::default()
            },
        );
    }

    fn finished(&self, state: &mut BarsState, item: &str) {
        if let Some(item) = state.items.remove(item) {
            if let Some(bar) = item.bar {
                bar.finish_and_clear();
                self.messages.bars.remove(&bar);
            }
            // The rest of a failed item will not be transferred.
            self.overall
                .dec_length(item.expected.saturating_sub(item.moved));
        }
        state.finished += 1;
        self.overall.set_prefix(format!(
            "{}/{}",
            state.finished,
            state.planned.max(state.finished)
        ));
        if state.finished >= state.planned {
            self.overall.finish_and_clear();
        }
    }
}

impl Progress for BarProgress {
    fn event(&self, event: Event<'_>) {
        let mut state = lock(&self.state);
        match event {
            Event::Observing { what } => self.overall.set_message(self.messages.sanitized(what)),
            Event::Planned { items } => {
                state.planned += items;
                self.overall.set_style(style(OVERALL));
                if self.overall.length().is_none() {
                    self.overall.set_length(0);
                }
                self.overall
                    .set_prefix(format!("{}/{}", state.finished, state.planned));
            }
            Event::Started { item } => self.started(&mut state, item),
            Event::Expected { item, bytes } => {
                self.overall.inc_length(bytes);
                if let Some(item) = state.items.get_mut(item) {
                    item.expected += bytes;
                    item.bar.iter().for_each(|bar| bar.inc_length(bytes));
                }
            }
            Event::Moved { item, bytes } => {
                self.overall.inc(bytes);
                if let Some(item) = state.items.get_mut(item) {
                    item.moved += bytes;
                    item.bar.iter().for_each(|bar| bar.inc(bytes));
                }
            }
            Event::Finished { item, .. } => self.finished(&mut state, item),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Clock;
    use crate::process::{Captured, Stream};

    fn process() -> (Process, Captured) {
        let (stderr, captured) = Stream::captured();
        let process = Process {
            variables: [("API_TOKEN", "hunter2")].into_iter().collect(),
            clock: Clock::fixed(chrono::DateTime::UNIX_EPOCH),
            directory: "/".into(),
            stdout: Stream::captured().0,
            stderr,
        };
        (process, captured)
    }

    fn lines(format: LogFormat) -> String {
        let (process, captured) = process();
        let lines = LineProgress {
            messages: Messages::new(&process, format, false),
            planned: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
        };
        let (one, two) = (
            "docker.io/library/alpine:3.21 -> reg/mirrors/alpine:3.21",
            "b\n::error::\u{1b}[2J",
        );
        lines.event(Event::Observing {
            what: "docker.io/library/alpine",
        });
        lines.event(Event::Planned { items: 3 });
        lines.event(Event::Started { item: one });
        lines.event(Event::Moved {
            item: one,
            bytes: 12,
        });
        lines.event(Event::Finished {
            item: one,
            outcome: ItemOutcome::Done { detail: "12.3 MB" },
        });
        lines.event(Event::Finished {
            item: two,
            outcome: ItemOutcome::Failed {
                cause: "refused hunter2",
            },
        });
        lines.event(Event::Finished {
            item: "c",
            outcome: ItemOutcome::Done { detail: "" },
        });
        captured.text()
    }

    #[test]
    fn without_a_terminal_each_finished_item_is_a_line() {
        insta::assert_snapshot!(lines(LogFormat::Text), @r"
        [1/3] docker.io/library/alpine:3.21 -> reg/mirrors/alpine:3.21  12.3 MB
        [2/3] b\u{a}::error::\u{1b}[2J  failed: refused ***
        [3/3] c
        ");
    }

    #[test]
    fn with_json_logs_each_finished_item_is_an_object() {
        insta::assert_snapshot!(lines(LogFormat::Json), @r#"
        {"time":"1970-01-01T00:00:00.000Z","level":"info","target":"imglife::progress","message":"finished","item":"docker.io/library/alpine:3.21 -> reg/mirrors/alpine:3.21","detail":"12.3 MB","finished":1,"planned":3}
        {"time":"1970-01-01T00:00:00.000Z","level":"error","target":"imglife::progress","message":"failed","item":"b\\u{a}::error::\\u{1b}[2J","cause":"refused ***","finished":2,"planned":3}
        {"time":"1970-01-01T00:00:00.000Z","level":"info","target":"imglife::progress","message":"finished","item":"c","detail":"","finished":3,"planned":3}
        "#);
    }

    #[test]
    fn quiet_and_no_progress_show_nothing() {
        use clap::Parser;
        for (line, expected) in [
            ("imglife sync", "[1/1] a\n"),
            ("imglife sync -q", ""),
            ("imglife --no-progress sync", ""),
        ] {
            let (process, captured) = process();
            let messages = Messages::new(&process, LogFormat::Text, false);
            let global = crate::cli::program::Cli::parse_from(line.split(' ')).global;
            let presentation = StepPresentation::new(&global, &messages, &process);
            presentation.progress().event(Event::Finished {
                item: "a",
                outcome: ItemOutcome::Done { detail: "" },
            });
            assert_eq!(captured.text(), expected, "{line}");
        }
    }

    #[test]
    fn bars_add_up_and_end_with_the_last_item() {
        let bars = BarProgress::new(Messages::new(&process().0, LogFormat::Text, false));
        let names: Vec<String> = (0..20).map(|number| format!("item {number}")).collect();
        bars.event(Event::Planned { items: names.len() });
        for item in &names {
            bars.event(Event::Started { item });
            bars.event(Event::Expected { item, bytes: 100 });
            bars.event(Event::Moved { item, bytes: 40 });
        }
        let with_bar = |bars: &BarProgress| {
            bars.state
                .lock()
                .expect("no panic")
                .items
                .values()
                .filter(|item| item.bar.is_some())
                .count()
        };
        assert_eq!(
            (
                with_bar(&bars),
                bars.overall.length(),
                bars.overall.position()
            ),
            (MAX_ITEM_BARS, Some(2000), 800)
        );
        bars.event(Event::Finished {
            item: &names[0],
            outcome: ItemOutcome::Failed { cause: "refused" },
        });
        assert_eq!(
            (bars.overall.length(), bars.overall.position()),
            (Some(1940), 800)
        );
        for item in &names[1..] {
            assert!(!bars.overall.is_finished());
            bars.event(Event::Moved { item, bytes: 60 });
            bars.event(Event::Finished {
                item,
                outcome: ItemOutcome::Done { detail: "" },
            });
        }
        assert_eq!((with_bar(&bars), bars.overall.is_finished()), (0, true));
    }
}
