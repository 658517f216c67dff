//! The report of a sync in the forms that CI servers and monitoring read.

use super::report::{EntryReport, Outcome, SyncReport};
use crate::error::{Exit, ItemError};
use crate::report::junit::{TestCase, TestSuite};
use crate::report::openmetrics::{MetricFamily, MetricKind, MetricSample};
use crate::steps::junit::{case, failure, hook_case};

impl SyncReport {
    /// Returns a case for each tag, each entry that failed as a whole and each hook.
    pub fn test_suite(&self) -> TestSuite {
        let mut cases = Vec::new();
        for entry in &self.entries {
            let classname = entry.target.to_string();
            if let Some(error) = &entry.error {
                cases.push(TestCase {
                    outcome: Some(failure(error)).into(),
                    ..case(&classname, &entry.selection)
                });
            }
            for item in &entry.items {
                let failure = match &item.outcome {
                    Outcome::Failed(error) => Some(failure(error)),
                    Outcome::Interrupted | Outcome::NotStarted => Some(failure(&ItemError::other(
                        "the run was stopped before it was done",
                    ))),
                    Outcome::UpToDate | Outcome::Planned | Outcome::Copied => None,
                };
                cases.push(TestCase {
                    duration: item.duration,
                    outcome: failure.into(),
                    ..case(&classname, item.tag.as_str())
                });
            }
            cases.extend(entry.hooks.iter().map(|hook| hook_case(&classname, hook)));
        }
        cases.extend(self.hooks.iter().map(|hook| hook_case("sync", hook)));
        TestSuite {
            name: "imglife sync".to_owned(),
            cases,
        }
    }

    /// Returns the numbers of the run, by entry where they differ.
    pub fn metrics(&self) -> Vec<MetricFamily> {
        let gauge = |name, help, samples| MetricFamily {
            name,
            kind: MetricKind::Gauge,
            help,
            samples,
        };
        let whole = |value: f64| {
            vec![MetricSample {
                labels: Vec::new(),
                value,
            }]
        };
        let bytes = &self.totals.bytes;
        let amounts = [
            ("moved", bytes.bytes_moved),
            ("mounted", bytes.bytes_mounted),
            ("present", bytes.bytes_skipped),
        ];
        let amounts = amounts.map(|(kind, bytes)| MetricSample {
            labels: vec![("kind", kind.to_owned())],
            value: as_number(bytes),
        });
        vec![
            gauge(
                "imglife_sync_success",
                "Whether everything selected is at its target.",
                whole(f64::from(u8::from(self.exit() == Exit::Done))),
            ),
            gauge(
                "imglife_sync_duration_seconds",
                "How long the run took.",
                whole(self.duration.as_secs_f64()),
            ),
            gauge(
                "imglife_sync_tags",
                "Tags of each mirror by what became of them.",
                self.entries.iter().flat_map(tag_samples).collect(),
            ),
            gauge(
                "imglife_sync_bytes",
                "Content that was moved, mounted within the target, or present.",
                amounts.to_vec(),
            ),
        ]
    }
}

fn tag_samples(entry: &EntryReport) -> Vec<MetricSample> {
    let count = |outcomes: fn(&Outcome) -> bool| {
        entry
            .items
            .iter()
            .filter(|item| outcomes(&item.outcome))
            .count()
    };
    let counts = [
        ("copied", count(|outcome| *outcome == Outcome::Copied)),
        ("planned", count(|outcome| *outcome == Outcome::Planned)),
        ("up_to_date", count(|outcome| *outcome == Outcome::UpToDate)),
        (
            "failed",
            count(|outcome| matches!(outcome, Outcome::Failed(_)))
                + usize::from(entry.error.is_some()),
        ),
        (
            "not_done",
            count(|outcome| matches!(outcome, Outcome::Interrupted | Outcome::NotStarted)),
        ),
    ];
    let sample = |(outcome, count): (&str, usize)| MetricSample {
        labels: vec![
            ("source", entry.source.to_string()),
            ("target", entry.target.to_string()),
            ("selection", entry.selection.clone()),
            ("outcome", outcome.to_owned()),
        ],
        value: as_number(count as u64),
    };
    counts.into_iter().map(sample).collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "OpenMetrics numbers are floating point; beyond 2^53 the last digits do not matter"
)]
fn as_number(count: u64) -> f64 {
    count as f64
}
