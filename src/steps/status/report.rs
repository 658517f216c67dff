//! Summary, `JUnit` report, `OpenMetrics` and exit code of the report.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::plan::{ImageRow, RowState, RowStatus, StatusReport};
use crate::error::Exit;
use crate::report::junit::{CaseFailure, CaseOutcome, TestCase, TestSuite};
use crate::report::openmetrics::{MetricFamily, MetricKind, MetricSample};
use crate::report::{Block, Document, Summary, SummaryRow, Tone};

/// Maximum number of images in a message about a violated policy; the report has all.
const MAX_NAMED: usize = 5;

/// Policy that changes the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailOn {
    /// Fails if support of an image ends soon or has ended.
    Warning,
    /// Fails if support of an image has ended.
    Expired,
}

/// Outcome of writing the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageOutcome {
    Written,
    /// The file already had the same content.
    Unchanged,
}

impl RowStatus {
    /// Returns the text for tables.
    pub fn words(self, warn_days: u32) -> String {
        match self {
            RowStatus::Ok => "✅ OK".to_owned(),
            RowStatus::Warning => format!("⚠️ < {warn_days} days"),
            RowStatus::Expired => "❌ Expired".to_owned(),
            RowStatus::Outdated => "⬆️ Outdated".to_owned(),
            RowStatus::Expiring => "🧹 Expiring".to_owned(),
            RowStatus::Accepted => "🤝 Accepted".to_owned(),
            RowStatus::Untracked => "❔ Untracked".to_owned(),
            RowStatus::Orphan => "👻 Orphan".to_owned(),
            RowStatus::Missing => "🚫 Missing".to_owned(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            RowStatus::Ok => "ok",
            RowStatus::Warning => "warning",
            RowStatus::Expired => "expired",
            RowStatus::Outdated => "outdated",
            RowStatus::Expiring => "expiring",
            RowStatus::Accepted => "accepted",
            RowStatus::Untracked => "untracked",
            RowStatus::Orphan => "orphan",
            RowStatus::Missing => "missing",
        }
    }

    fn tone(self) -> Tone {
        match self {
            RowStatus::Ok | RowStatus::Accepted => Tone::Good,
            RowStatus::Expired | RowStatus::Missing => Tone::Bad,
            _ => Tone::Warning,
        }
    }
}

/// Returns the number of rows with each status, best first.
fn counted(states: impl Iterator<Item = RowStatus>) -> Vec<(RowStatus, usize)> {
    let mut counts: BTreeMap<RowStatus, usize> = BTreeMap::new();
    for status in states {
        *counts.entry(status).or_default() += 1;
    }
    counts.into_iter().rev().collect()
}

/// Returns the number of rows with each status as text.
pub(super) fn counts(states: impl Iterator<Item = RowStatus>, warn_days: u32) -> Vec<String> {
    counted(states)
        .into_iter()
        .map(|(status, count)| format!("{} {count}", status.words(warn_days)))
        .collect()
}

/// Returns a summary in one or two lines of Markdown.
pub(super) fn overview(report: &StatusReport) -> String {
    let count = |count: usize, one: &str, many: &str| {
        format!("**{count}** {}", if count == 1 { one } else { many })
    };
    let tables = [
        count(report.mirrors.len(), "mirrored image", "mirrored images"),
        count(report.bases.len(), "base image", "base images"),
        count(report.applications.len(), "application", "applications"),
    ];
    let states = counted(report.states().map(|(_, _, state)| state.status));
    let states: Vec<String> = states
        .into_iter()
        .map(|(status, count)| format!("{} **{count}**", status.words(report.warn_days)))
        .collect();
    if states.is_empty() {
        tables.join(" · ")
    } else {
        format!("{}\n\n{}", tables.join(" · "), states.join(" · "))
    }
}

impl StatusReport {
    /// Returns name, version and state of each row.
    fn states(&self) -> impl Iterator<Item = (&str, &str, RowState)> {
        let images = self
            .mirrors
            .iter()
            .chain(&self.bases)
            .map(|row| (row.image.as_str(), row.version.as_str(), row.state));
        images.chain(
            self.applications
                .iter()
                .map(|row| (row.application.as_str(), row.version.as_str(), row.state)),
        )
    }

    /// Returns the exit code.
    pub fn exit(&self, fail_on: Option<FailOn>) -> Exit {
        if self.violations(fail_on).is_empty() {
            Exit::Done
        } else {
            Exit::PolicyViolated
        }
    }

    /// Returns the violations of the policy as messages.
    pub fn violations(&self, fail_on: Option<FailOn>) -> Vec<String> {
        let of = |status: RowStatus| -> Vec<String> {
            self.states()
                .filter(|(_, _, state)| state.status == status)
                .map(|(name, version, _)| format!("{name}:{version}"))
                .collect()
        };
        let message = |names: Vec<String>, text: &str| {
            let rest = names.len().saturating_sub(MAX_NAMED);
            let more = if rest > 0 {
                format!(" and {rest} more")
            } else {
                String::new()
            };
            (!names.is_empty())
                .then(|| format!("{text}: {}{more}", names[..names.len() - rest].join(", ")))
        };
        let expired = fail_on.and_then(|_| message(of(RowStatus::Expired), "support has ended"));
        let ending = fail_on.filter(|fail_on| *fail_on == FailOn::Warning);
        let ending = ending.and_then(|_| {
            message(
                of(RowStatus::Warning),
                &format!("support ends in less than {} days", self.warn_days),
            )
        });
        expired.into_iter().chain(ending).collect()
    }

    /// Returns the summary on the terminal when the page was written to a file.
    pub fn summary(&self, file: &Path, outcome: PageOutcome, duration: Duration) -> Document {
        let row = |label: &str, states: Vec<RowStatus>| {
            let mut row = SummaryRow::new(label, states.len());
            row.children = counted(states.into_iter())
                .into_iter()
                .map(|(status, count)| {
                    let words = status.words(self.warn_days);
                    let label = words
                        .split_once(' ')
                        .map_or(words.as_str(), |(_, label)| label);
                    SummaryRow {
                        tone: status.tone(),
                        ..SummaryRow::new(label, count)
                    }
                })
                .collect();
            row
        };
        let images =
            |rows: &[ImageRow]| rows.iter().map(|row| row.state.status).collect::<Vec<_>>();
        let applications = self
            .applications
            .iter()
            .map(|row| row.state.status)
            .collect();
        let mut file = SummaryRow::new("File", file.display());
        file.extra = Some(match outcome {
            PageOutcome::Written => "written".to_owned(),
            PageOutcome::Unchanged => "unchanged".to_owned(),
        });
        let rows = vec![
            row("Mirrors", images(&self.mirrors)),
            row("Bases", images(&self.bases)),
            row("Applications", applications),
            file,
        ];
        Document {
            blocks: vec![Block::Summary(Summary {
                title: "Status".to_owned(),
                dry_run: false,
                duration: Some(duration),
                rows,
            })],
        }
    }

    /// Returns a test case for each row. Rows fail by `fail_on`, or without it if support has
    /// ended. Rows with an unknown status are skipped.
    pub fn test_suite(&self, fail_on: Option<FailOn>) -> TestSuite {
        let case = |name: String, classname: &str, state: RowState| {
            let words = state.status.words(self.warn_days);
            let fails = match fail_on {
                Some(FailOn::Warning) => {
                    matches!(state.status, RowStatus::Expired | RowStatus::Warning)
                }
                Some(FailOn::Expired) | None => state.status == RowStatus::Expired,
            };
            let outcome = match state.status {
                _ if fails => {
                    let date = state.eol_date.map(|date| format!("support ends on {date}"));
                    CaseOutcome::Failed(CaseFailure {
                        message: words,
                        text: date.unwrap_or_else(|| "support has ended".to_owned()),
                    })
                }
                RowStatus::Untracked | RowStatus::Orphan | RowStatus::Missing => {
                    CaseOutcome::Skipped(words)
                }
                RowStatus::Ok
                | RowStatus::Accepted
                | RowStatus::Expiring
                | RowStatus::Outdated
                | RowStatus::Warning
                | RowStatus::Expired => CaseOutcome::Passed,
            };
            TestCase {
                name,
                classname: classname.to_owned(),
                duration: Duration::ZERO,
                outcome,
            }
        };
        let images = |rows: &[ImageRow], class: &str| {
            rows.iter()
                .map(|row| case(format!("{}:{}", row.image, row.version), class, row.state))
                .collect::<Vec<_>>()
        };
        let mut cases = images(&self.mirrors, "mirrors");
        cases.extend(images(&self.bases, "bases"));
        let applications = self.applications.iter();
        cases.extend(applications.map(|row| {
            case(
                format!("{}:{}", row.application, row.version),
                "applications",
                row.state,
            )
        }));
        TestSuite {
            name: "status".to_owned(),
            cases,
        }
    }

    /// Returns the metrics of the report.
    pub fn metrics(&self) -> Vec<MetricFamily> {
        let tables = [
            (
                "mirrors",
                self.mirrors
                    .iter()
                    .map(|row| row.state.status)
                    .collect::<Vec<_>>(),
            ),
            (
                "bases",
                self.bases.iter().map(|row| row.state.status).collect(),
            ),
            (
                "applications",
                self.applications
                    .iter()
                    .map(|row| row.state.status)
                    .collect(),
            ),
        ];
        let counts = tables.into_iter().flat_map(|(table, states)| {
            counted(states.into_iter())
                .into_iter()
                .map(move |(status, count)| MetricSample {
                    labels: vec![
                        ("table", table.to_owned()),
                        ("status", status.name().to_owned()),
                    ],
                    value: f64::from(u32::try_from(count).unwrap_or(u32::MAX)),
                })
        });
        let ends = self.mirrors.iter().chain(&self.bases).filter_map(|row| {
            let day = row
                .state
                .eol_date?
                .and_hms_opt(0, 0, 0)?
                .and_utc()
                .timestamp();
            Some(MetricSample {
                labels: vec![
                    ("image", row.image.clone()),
                    ("version", row.version.clone()),
                ],
                // `f64` represents these seconds exactly.
                value: day as f64,
            })
        });
        vec![
            MetricFamily {
                name: "imglife_status_images",
                kind: MetricKind::Gauge,
                help: "Images by table and status",
                samples: counts.collect(),
            },
            MetricFamily {
                name: "imglife_status_end_of_life_seconds",
                kind: MetricKind::Gauge,
                help: "The last day before an image's end of life, in seconds since 1970",
                samples: ends.collect(),
            },
        ]
    }
}
