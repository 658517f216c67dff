//! The report of `doctor`.

use std::time::Duration;

use serde::Serialize;

use crate::error::Exit;
use crate::probe::{ProbeFinding, ProbeState};
use crate::report::{Block, Cell, Document, Summary, SummaryRow, Table, Tone};

/// Maximum number of subjects with the same finding that are named.
const MAX_NAMED: usize = 3;

/// Findings about a host, the machine or the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DoctorGroup {
    pub name: String,
    pub checks: Vec<ProbeFinding>,
}

/// Report of `doctor`.
#[derive(Clone, Debug, Serialize)]
pub struct DoctorReport {
    /// Number of findings about something that is needed and is missing or wrong.
    pub problems: usize,
    pub groups: Vec<DoctorGroup>,
    #[serde(skip)]
    pub duration: Duration,
}

impl DoctorReport {
    /// Returns the report on `groups`, without empty ones.
    pub fn new(groups: Vec<DoctorGroup>, duration: Duration) -> DoctorReport {
        let groups: Vec<DoctorGroup> = groups
            .into_iter()
            .filter(|group| !group.checks.is_empty())
            .collect();
        let problems = groups
            .iter()
            .flat_map(|group| &group.checks)
            .filter(|finding| finding.is_problem())
            .count();
        DoctorReport {
            problems,
            groups,
            duration,
        }
    }

    /// Returns the exit code.
    pub fn exit(&self) -> Exit {
        if self.problems == 0 {
            Exit::Done
        } else {
            Exit::Failed
        }
    }

    /// Returns the report as text: a table for each group, with suggestions below findings that
    /// need one, and the totals.
    pub fn document(&self) -> Document {
        let mut blocks: Vec<Block> = self
            .groups
            .iter()
            .map(|group| Block::Table(table(group)))
            .collect();
        blocks.push(Block::Summary(self.summary()));
        Document { blocks }
    }

    fn summary(&self) -> Summary {
        let all = || self.groups.iter().flat_map(|group| &group.checks);
        let row = |word: &str, tone| {
            let count = all().filter(|finding| state(finding).0 == word).count();
            let mut label = word.to_owned();
            label[..1].make_ascii_uppercase();
            SummaryRow {
                tone: if count > 0 { tone } else { Tone::Plain },
                ..SummaryRow::new(label, count)
            }
        };
        let mut checks = SummaryRow::new("Checks", all().count());
        checks.children = vec![
            row("ok", Tone::Good),
            row("note", Tone::Warning),
            row("unknown", Tone::Quiet),
            row("missing", Tone::Bad),
            row("wrong", Tone::Bad),
        ];
        Summary {
            title: "Doctor".to_owned(),
            dry_run: false,
            duration: Some(self.duration),
            rows: vec![checks],
        }
    }
}

/// Returns the state of a finding as a word, with its colour. A missing or wrong thing that is not
/// needed is a note.
fn state(finding: &ProbeFinding) -> (&'static str, Tone) {
    match finding.state {
        ProbeState::Ok => ("ok", Tone::Good),
        ProbeState::Unknown => ("unknown", Tone::Quiet),
        ProbeState::Missing | ProbeState::Wrong if !finding.needed => ("note", Tone::Warning),
        ProbeState::Missing => ("missing", Tone::Bad),
        ProbeState::Wrong => ("wrong", Tone::Bad),
    }
}

fn table(group: &DoctorGroup) -> Table {
    let mut rows = Vec::new();
    let mut shown: Vec<&ProbeFinding> = Vec::new();
    for finding in &group.checks {
        let is_same = |other: &ProbeFinding| {
            ProbeFinding {
                about: String::new(),
                ..finding.clone()
            } == ProbeFinding {
                about: String::new(),
                ..other.clone()
            }
        };
        if shown.iter().any(|other| is_same(other)) {
            continue;
        }
        shown.push(finding);
        let subjects: Vec<&str> = group
            .checks
            .iter()
            .filter(|other| is_same(other))
            .map(|other| other.about.as_str())
            .collect();
        let (word, tone) = state(finding);
        rows.push(vec![
            Cell::toned(format!("  {word}"), tone),
            Cell::plain(label(finding.check, &subjects)),
            Cell::plain(&finding.detail),
        ]);
        if let Some(fix) = finding
            .fix
            .as_ref()
            .filter(|_| finding.state != ProbeState::Ok)
        {
            rows.push(vec![
                Cell::plain(""),
                Cell::plain(""),
                Cell::plain(format!("→ {fix}")),
            ]);
        }
    }
    Table {
        title: Some(group.name.clone()),
        columns: Vec::new(),
        rows,
    }
}

/// Returns the label of a row: the name of the check and its subjects.
fn label(check: &str, about: &[&str]) -> String {
    let (room, word) = check.split_once('.').unwrap_or(("", check));
    let word = match (room, word) {
        // The name of the engine is enough.
        ("engine", "available") => String::new(),
        ("git" | "docker" | "hook", word) => format!("{room} {word}"),
        (_, word) => word.to_owned(),
    };
    let named: Vec<&str> = about
        .iter()
        .copied()
        .filter(|about| !about.is_empty())
        .collect();
    match named.len() {
        0 => word,
        count if count <= MAX_NAMED => format!("{word} {}", named.join(", "))
            .trim_start()
            .to_owned(),
        count => format!(
            "{word} {} and {} more",
            named[..MAX_NAMED].join(", "),
            count - MAX_NAMED
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text::{Style, draw};

    #[test]
    fn equal_findings_share_a_line_and_suggestions_follow() {
        let pull = |path: &str| ProbeFinding::ok("oci.pull", path, "allowed");
        let checks = vec![
            ProbeFinding::ok("oci.reachable", "", "answers by https"),
            pull("a"),
            pull("b"),
            pull("c"),
            pull("d"),
            ProbeFinding::wrong(
                "oci.push",
                "a",
                "the credentials are accepted, but may not push",
            )
            .fix("another login"),
            ProbeFinding::missing("engine.available", "podman", "not installed\u{1b}[2J")
                .optional(),
        ];
        let report = DoctorReport::new(
            vec![
                DoctorGroup {
                    name: "registry.example".to_owned(),
                    checks,
                },
                DoctorGroup {
                    name: "empty".to_owned(),
                    checks: Vec::new(),
                },
            ],
            Duration::from_millis(400),
        );
        assert_eq!((report.problems, report.exit()), (1, Exit::Failed));
        insta::assert_snapshot!(draw(&report.document(), Style::default()), @r"
        registry.example
          ok     reachable                answers by https
          ok     pull a, b, c and 1 more  allowed
          wrong  push a                   the credentials are accepted, but may not push
                                          → another login
          note   podman                   not installed\u{1b}[2J

        Doctor · 0.4s
        ───────────────────────────────────
        Checks       7
        ├─ Ok        5
        ├─ Note      1
        ├─ Unknown   0
        ├─ Missing   0
        └─ Wrong     1
        ");
    }
}
