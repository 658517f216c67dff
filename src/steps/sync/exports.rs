//! JUnit test cases and OpenMetrics samples of a sync report.

use super::report::{SyncEntryReport, SyncOutcome, SyncReport};
use crate::error::{Exit, ItemError};
use crate::report::junit::{TestCase, TestSuite};
use crate::report::openmetrics::{MetricFamily, MetricKind, MetricSample};
use crate::steps::junit::{case, failure, hook_case};

impl SyncReport {
    /// Returns a test case for each tag, for each entry that failed as a whole, and for each hook.
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
                    SyncOutcome::Failed(error) => Some(failure(error)),
                    SyncOutcome::Interrupted | SyncOutcome::NotStarted => Some(failure(
                        &ItemError::other("the run was interrupted before the tag was copied"),
                    )),
                    SyncOutcome::Drifted(error) if self.fails_on_drift => Some(failure(error)),
                    SyncOutcome::UpToDate
                    | SyncOutcome::Planned
                    | SyncOutcome::Copied
                    | SyncOutcome::Skipped(_)
                    | SyncOutcome::Drifted(_) => None,
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

    /// Returns the metrics of the run. Tags are counted for each entry and outcome.
    pub fn metrics(&self) -> Vec<MetricFamily> {
        let gauge = |name, help, samples| MetricFamily {
            name,
            kind: MetricKind::Gauge,
            help,
            samples,
        };
        let unlabeled = |value: f64| {
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
                "1 if all selected tags are at their targets, otherwise 0.",
                unlabeled(f64::from(u8::from(self.exit() == Exit::Done))),
            ),
            gauge(
                "imglife_sync_duration_seconds",
                "Duration of the run.",
                unlabeled(self.duration.as_secs_f64()),
            ),
            gauge(
                "imglife_sync_tags",
                "Tags of each mirror, by outcome.",
                self.entries.iter().flat_map(tag_samples).collect(),
            ),
            gauge(
                "imglife_sync_bytes",
                "Content that was transferred, mounted within the target, or already present.",
                amounts.to_vec(),
            ),
        ]
    }
}

/// Returns the number of tags with each outcome.
fn tag_samples(entry: &SyncEntryReport) -> Vec<MetricSample> {
    let count = |outcomes: fn(&SyncOutcome) -> bool| {
        entry
            .items
            .iter()
            .filter(|item| outcomes(&item.outcome))
            .count()
    };
    let counts = [
        ("copied", count(|outcome| *outcome == SyncOutcome::Copied)),
        ("planned", count(|outcome| *outcome == SyncOutcome::Planned)),
        (
            "up_to_date",
            count(|outcome| *outcome == SyncOutcome::UpToDate),
        ),
        (
            "failed",
            count(|outcome| matches!(outcome, SyncOutcome::Failed(_)))
                + usize::from(entry.error.is_some()),
        ),
        (
            "not_done",
            count(|outcome| matches!(outcome, SyncOutcome::Interrupted | SyncOutcome::NotStarted)),
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
