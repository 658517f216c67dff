//! Text tables of the results.

use std::fmt::Write as _;
use std::time::Duration;

use crate::measure::Cost;
use crate::minimum::MinimumRequests;
use crate::peers::Tool;
use crate::registries::Traffic;

/// Results of one tool for one workload: medians, and the largest of the memory peaks.
pub(crate) struct ResultRow {
    pub(crate) tool: Tool,
    pub(crate) label: &'static str,
    pub(crate) cost: Cost,
    /// CPU time of the registries during the runs.
    pub(crate) registries: Duration,
    /// Wall times of the fastest and the slowest run.
    pub(crate) spread: (Duration, Duration),
    pub(crate) traffic: Traffic,
}

/// Goal for a workload, and the result.
pub(crate) struct Goal {
    pub(crate) workload: String,
    pub(crate) wanted: String,
    pub(crate) found: String,
    verdict: &'static str,
}

impl Goal {
    pub(crate) fn new(
        workload: &str,
        wanted: impl Into<String>,
        found: impl Into<String>,
        is_met: bool,
    ) -> Goal {
        let verdict = if is_met { "reached" } else { "MISSED" };
        Goal {
            workload: workload.to_owned(),
            wanted: wanted.into(),
            found: found.into(),
            verdict,
        }
    }

    /// Returns a goal that was missed and that no client could reach on this machine.
    pub(crate) fn limited(
        workload: &str,
        wanted: impl Into<String>,
        found: impl Into<String>,
    ) -> Goal {
        Goal {
            verdict: "out of reach",
            ..Goal::new(workload, wanted, found, false)
        }
    }
}

/// Returns the rows of a workload as a table; a column has the ratio of the wall time to that of
/// the fastest peer.
pub(crate) fn of_rows(rows: &[ResultRow], minimum: Option<&MinimumRequests>) -> String {
    let mut lines = vec![
        [
            "tool",
            "wall",
            "from - to",
            "vs. fastest peer",
            "CPU",
            "registries' CPU",
            "peak",
            "requests",
            "read",
            "written",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let fastest = fastest_peer(rows);
    for row in rows {
        let ratio = fastest.map_or_else(String::new, |fastest| {
            format!("{:.2}", row.cost.wall.as_secs_f64() / fastest.as_secs_f64())
        });
        lines.push(vec![
            row.label.to_owned(),
            time(row.cost.wall),
            format!("{} - {}", time(row.spread.0), time(row.spread.1)),
            ratio,
            time(row.cost.processor),
            time(row.registries),
            format!("{} MiB", row.cost.peak.div_ceil(1 << 20)),
            row.traffic.requests.to_string(),
            bytes(row.traffic.read),
            bytes(row.traffic.written),
        ]);
    }
    let mut text = aligned(&lines);
    if let Some(minimum) = minimum {
        // Writing to a string cannot fail.
        let _written = writeln!(text, "minimum requests: {minimum}");
    }
    text
}

/// Returns a table of the goals and results.
pub(crate) fn of_goals(goals: &[Goal]) -> String {
    let mut lines = vec![
        ["workload", "goal", "found", ""]
            .map(str::to_owned)
            .to_vec(),
    ];
    for Goal {
        workload,
        wanted,
        found,
        verdict,
    } in goals
    {
        lines.push(vec![
            workload.clone(),
            wanted.clone(),
            found.clone(),
            (*verdict).to_owned(),
        ]);
    }
    aligned(&lines)
}

/// Returns the wall time of the fastest peer.
pub(crate) fn fastest_peer(rows: &[ResultRow]) -> Option<Duration> {
    rows.iter()
        .filter(|row| row.tool != Tool::Imglife)
        .map(|row| row.cost.wall)
        .min()
}

/// Formats a duration with about three significant digits.
pub(crate) fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 0.9995 => format!("{:.0} ms", seconds * 1000.0),
        seconds => format!("{seconds:.2} s"),
    }
}

pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..1_000_000 => format!("{} kB", count.div_ceil(1000)),
        1_000_000..1_000_000_000 => format!("{} MB", count.div_ceil(1_000_000)),
        _ => format!(
            "{}.{:02} GB",
            count / 1_000_000_000,
            count / 10_000_000 % 100
        ),
    }
}

fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|at| {
            lines
                .iter()
                .filter_map(|line| line.get(at))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text += "  ";
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}
