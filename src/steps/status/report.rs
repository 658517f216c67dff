//! The report in a few words, and for machines: JUnit, OpenMetrics, the exit code.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::plan::{State, StatusReport, Verdict};
use crate::error::Exit;
use crate::report::junit::{CaseFailure, CaseOutcome, TestCase, TestSuite};
use crate::report::openmetrics::{MetricFamily, MetricKind, MetricSample};
use crate::report::{Block, Document, Summary, SummaryRow, Tone};

/// How many images are named that violate a policy; the report itself has all.
const NAMED: usize = 5;

/// What ends a run with another exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailOn {
    /// Something ends soon, or is over.
    Warning,
    /// Something is over.
    Expired,
}

/// What became of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Written,
    /// It was the same already.
    Unchanged,
}

impl Verdict {
    /// Returns what is said of it in a table.
    pub fn words(self, warn_days: u32) -> String {
        match self {
            Verdict::Ok => "✅ OK".to_owned(),
            Verdict::Warning => format!("⚠️ < {warn_days} days"),
            Verdict::Expired => "❌ Expired".to_owned(),
            Verdict::Outdated => "⬆️ Outdated".to_owned(),
            Verdict::Expiring => "🧹 Expiring".to_owned(),
            Verdict::Accepted => "🤝 Accepted".to_owned(),
            Verdict::Untracked => "❔ Untracked".to_owned(),
            Verdict::Orphan => "👻 Orphan".to_owned(),
            Verdict::Missing => "🚫 Missing".to_owned(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Expired => "expired",
            Verdict::Outdated => "outdated",
            Verdict::Expiring => "expiring",
            Verdict::Accepted => "accepted",
            Verdict::Untracked => "untracked",
            Verdict::Orphan => "orphan",
            Verdict::Missing => "missing",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Verdict::Ok | Verdict::Accepted => Tone::Good,
            Verdict::Expired | Verdict::Missing => Tone::Bad,
            _ => Tone::Warning,
        }
    }
}

/// Returns how often there is what, the best first.
fn counted(states: impl Iterator<Item = Verdict>) -> Vec<(Verdict, usize)> {
    let mut counts: BTreeMap<Verdict, usize> = BTreeMap::new();
    for verdict in states {
        *counts.entry(verdict).or_default() += 1;
    }
    counts.into_iter().rev().collect()
}

/// Returns how often there is what, in words.
pub(super) fn counts(states: impl Iterator<Item = Verdict>, warn_days: u32) -> Vec<String> {
    counted(states)
        .into_iter()
        .map(|(verdict, count)| format!("{} {count}", verdict.words(warn_days)))
        .collect()
}

/// Returns the report in one line of Markdown.
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
        .map(|(verdict, count)| format!("{} **{count}**", verdict.words(report.warn_days)))
        .collect();
    if states.is_empty() {
        tables.join(" · ")
    } else {
        format!("{}\n\n{}", tables.join(" · "), states.join(" · "))
    }
}

impl StatusReport {
    /// Returns everything that is shown, by its name.
    fn states(&self) -> impl Iterator<Item = (&str, &str, State)> {
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

    /// Returns what violates the policy that was asked for.
    pub fn violations(&self, fail_on: Option<FailOn>) -> Vec<String> {
        let of = |verdict: Verdict| -> Vec<String> {
            self.states()
                .filter(|(_, _, state)| state.status == verdict)
                .map(|(name, version, _)| format!("{name}:{version}"))
                .collect()
        };
        let told = |names: Vec<String>, words: &str| {
            let rest = names.len().saturating_sub(NAMED);
            let more = if rest > 0 {
                format!(" and {rest} more")
            } else {
                String::new()
            };
            (!names.is_empty())
                .then(|| format!("{words}: {}{more}", names[..names.len() - rest].join(", ")))
        };
        let expired = fail_on.and_then(|_| told(of(Verdict::Expired), "support has ended"));
        let ending = fail_on.filter(|fail_on| *fail_on == FailOn::Warning);
        let ending = ending.and_then(|_| {
            told(
                of(Verdict::Warning),
                &format!("support ends in less than {} days", self.warn_days),
            )
        });
        expired.into_iter().chain(ending).collect()
    }

    /// Returns what is said on a terminal of a report that went into a file.
    pub fn summary(&self, file: &Path, written: Written, duration: Duration) -> Document {
        let row = |label: &str, states: Vec<Verdict>| {
            let mut row = SummaryRow::new(label, states.len());
            row.children = counted(states.into_iter())
                .into_iter()
                .map(|(verdict, count)| {
                    let words = verdict.words(self.warn_days);
                    let label = words
                        .split_once(' ')
                        .map_or(words.as_str(), |(_, label)| label);
                    SummaryRow {
                        tone: verdict.tone(),
                        ..SummaryRow::new(label, count)
                    }
                })
                .collect();
            row
        };
        let images = |rows: &[super::plan::ImageRow]| {
            rows.iter().map(|row| row.state.status).collect::<Vec<_>>()
        };
        let applications = self
            .applications
            .iter()
            .map(|row| row.state.status)
            .collect();
        let mut file = SummaryRow::new("File", file.display());
        file.extra = Some(match written {
            Written::Written => "written".to_owned(),
            Written::Unchanged => "unchanged".to_owned(),
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

    /// Returns a case for each row. What `fail_on` names has failed; without, what is over. What
    /// nothing is known of is skipped.
    pub fn test_suite(&self, fail_on: Option<FailOn>) -> TestSuite {
        let case = |name: String, classname: &str, state: State| {
            let words = state.status.words(self.warn_days);
            let fails = match fail_on {
                Some(FailOn::Warning) => {
                    matches!(state.status, Verdict::Expired | Verdict::Warning)
                }
                Some(FailOn::Expired) | None => state.status == Verdict::Expired,
            };
            let outcome = match state.status {
                _ if fails => {
                    let date = state
                        .eol_date
                        .map(|date| format!("its support ends on {date}"));
                    CaseOutcome::Failed(CaseFailure {
                        message: words,
                        text: date.unwrap_or_else(|| "its support has ended".to_owned()),
                    })
                }
                Verdict::Untracked | Verdict::Orphan | Verdict::Missing => {
                    CaseOutcome::Skipped(words)
                }
                Verdict::Ok
                | Verdict::Accepted
                | Verdict::Expiring
                | Verdict::Outdated
                | Verdict::Warning
                | Verdict::Expired => CaseOutcome::Passed,
            };
            TestCase {
                name,
                classname: classname.to_owned(),
                duration: Duration::ZERO,
                outcome,
            }
        };
        let images = |rows: &[super::plan::ImageRow], class: &str| {
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

    /// Returns the numbers of the report.
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
                .map(move |(verdict, count)| MetricSample {
                    labels: vec![
                        ("table", table.to_owned()),
                        ("status", verdict.name().to_owned()),
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
                // Days of this and the next centuries are exact.
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
