//! The report as a Markdown page.

use std::collections::BTreeMap;

use serde::Serialize;

use super::diagrams::{Diagram, host, lineage, timeline, without_host};
use super::markers::{BEGIN, END};
use super::plan::{ApplicationRow, ImageRow, RowState, RowStatus, StatusReport};
use super::report::{counts, overview};
use crate::config::StatusConfig;
use crate::model::Platform;
use crate::report::markdown::{code, words};
use crate::template::{TemplateError, page as render};

const TEMPLATE: &str = include_str!("../../../templates/status.md");

/// Maximum number of visible rows. In a longer table, rows that need no attention are folded.
const MAX_VISIBLE_ROWS: usize = 60;

const LEGEND: &str = "Grey: mirrors. Green: supported. Yellow: ends soon. Red: expired. Blue: outdated. Dashed: unknown, or not found.";

#[derive(Serialize)]
struct StatusPage<'a> {
    title: String,
    overview: String,
    /// Host of names that are shown without one.
    host: Option<String>,
    tables: [PageTable; 3],
    sections: Vec<DiagramSection>,
    client_zone: Option<&'a str>,
}

#[derive(Serialize)]
struct PageTable {
    title: &'static str,
    columns: &'static [&'static str],
    /// Visible rows.
    rows: Vec<Vec<String>>,
    folded: Option<FoldedRows>,
    /// Text instead of a table without rows.
    empty: &'static str,
}

/// Rows that are hidden until the reader expands them.
#[derive(Serialize)]
struct FoldedRows {
    summary: String,
    rows: Vec<Vec<String>>,
}

#[derive(Serialize)]
struct DiagramSection {
    title: &'static str,
    diagrams: Vec<PageDiagram>,
    note: Option<String>,
}

#[derive(Serialize)]
struct PageDiagram {
    source: String,
    folded: Option<String>,
}

/// Returns the page between its markers. The same report always gives the same page.
pub fn page(report: &StatusReport, settings: &StatusConfig) -> Result<String, TemplateError> {
    let names = TableNames::of(report);
    let page = StatusPage {
        title: words(settings.title.as_deref().unwrap_or("Container images")),
        overview: overview(report),
        host: names.host.map(code),
        tables: [
            images(
                "Mirrors",
                &report.mirrors,
                report,
                &names,
                "No mirrors are configured.",
            ),
            images(
                "Base images",
                &report.bases,
                report,
                &names,
                "No base images are configured.",
            ),
            applications(report, &names),
        ],
        sections: diagram_sections(report, settings),
        client_zone: settings
            .client_zone
            .as_deref()
            .map(str::trim)
            .filter(|zone| !zone.is_empty()),
    };
    let text = render("templates/status.md", TEMPLATE, page)?;
    // The configured text could contain markers, and the next run would find the wrong end.
    let text = text.replace(BEGIN, "").replace(END, "");
    Ok(format!("{BEGIN}\n{}\n{END}\n", text.trim()))
}

/// Shortens names in the tables by the host that most of them have, so that the last columns stay
/// visible.
struct TableNames<'a> {
    host: Option<&'a str>,
}

impl<'a> TableNames<'a> {
    fn of(report: &'a StatusReport) -> TableNames<'a> {
        let images = report
            .mirrors
            .iter()
            .chain(&report.bases)
            .map(|row| &row.image);
        let applications = report
            .applications
            .iter()
            .flat_map(|row| row.base.iter().chain([&row.application]));
        let names: Vec<&String> = images.chain(applications).collect();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for host in names.iter().filter_map(|name| host(name)) {
            *counts.entry(host).or_default() += 1;
        }
        TableNames {
            host: counts
                .into_iter()
                .find(|(_, count)| 2 * count > names.len())
                .map(|(host, _)| host),
        }
    }

    fn cell(&self, name: &str) -> String {
        let short = self
            .host
            .and_then(|host| name.strip_prefix(host)?.strip_prefix('/'));
        code(short.unwrap_or(name))
    }
}

fn images(
    title: &'static str,
    rows: &[ImageRow],
    report: &StatusReport,
    names: &TableNames<'_>,
    empty: &'static str,
) -> PageTable {
    let cells = |row: &ImageRow| {
        let aliases: Vec<String> = row
            .aliases
            .iter()
            .map(|alias| code(alias.as_str()))
            .collect();
        let aliases = if aliases.is_empty() {
            String::new()
        } else {
            format!(" ({})", aliases.join(", "))
        };
        vec![
            names.cell(&row.image),
            format!("{}{aliases}", code(&row.version)),
            platforms(&row.platforms),
            eol(row.state),
            status(row.state, report.warn_days),
        ]
    };
    let rows = rows
        .iter()
        .map(|row| (row.state.status, cells(row)))
        .collect();
    let (rows, folded) = split_rows(rows, "images", report);
    PageTable {
        title,
        columns: &["Image", "Version", "Platforms", "EOL", "Status"],
        rows,
        folded,
        empty,
    }
}

fn applications(report: &StatusReport, names: &TableNames<'_>) -> PageTable {
    let cells = |row: &ApplicationRow| {
        vec![
            names.cell(&row.application),
            code(&row.version),
            code(&row.project),
            row.base
                .as_deref()
                .map_or_else(|| "—".to_owned(), |base| names.cell(base)),
            row.built_at.format("%Y-%m-%d").to_string(),
            eol(row.state),
            status(row.state, report.warn_days),
        ]
    };
    let rows = report
        .applications
        .iter()
        .map(|row| (row.state.status, cells(row)))
        .collect();
    let (rows, folded) = split_rows(rows, "applications", report);
    PageTable {
        title: "Applications",
        columns: &[
            "Application",
            "Version",
            "Project",
            "Base",
            "Built",
            "EOL",
            "Status",
        ],
        rows,
        folded,
        empty: "No applications are registered.",
    }
}

/// Splits rows into visible and folded ones. In a long table, rows that need attention are visible,
/// unless there are too many of them as well.
fn split_rows(
    rows: Vec<(RowStatus, Vec<String>)>,
    of: &str,
    report: &StatusReport,
) -> (Vec<Vec<String>>, Option<FoldedRows>) {
    let needs_attention =
        |status: RowStatus| !matches!(status, RowStatus::Ok | RowStatus::Accepted);
    let urgent = rows
        .iter()
        .filter(|(status, _)| needs_attention(*status))
        .count();
    let is_folded = |status: RowStatus| {
        rows.len() > MAX_VISIBLE_ROWS && (urgent > MAX_VISIBLE_ROWS || !needs_attention(status))
    };
    let statuses: Vec<RowStatus> = rows
        .iter()
        .map(|(status, _)| *status)
        .filter(|status| is_folded(*status))
        .collect();
    let counted = counts(statuses.iter().copied(), report.warn_days)
        .join(" · ")
        .replace('<', "&lt;");
    let summary = format!("{} {of}: {counted}", statuses.len());
    let is_folded: Vec<bool> = rows.iter().map(|(status, _)| is_folded(*status)).collect();
    let (folded, shown): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .zip(is_folded)
        .partition(|(_, is_folded)| *is_folded);
    let cells = |rows: Vec<((RowStatus, Vec<String>), bool)>| {
        rows.into_iter()
            .map(|((_, cells), _)| cells)
            .collect::<Vec<_>>()
    };
    let folded = (!folded.is_empty()).then(|| FoldedRows {
        summary,
        rows: cells(folded),
    });
    (cells(shown), folded)
}

fn platforms(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "all".to_owned();
    }
    // Almost all platforms are Linux, so the prefix `linux/` is left out if all are.
    let is_linux = platforms.iter().all(|platform| platform.os == "linux");
    let name = |platform: &Platform| {
        let name = platform.to_string();
        let short = name
            .strip_prefix("linux/")
            .filter(|_| is_linux)
            .map(str::to_owned);
        code(&short.unwrap_or(name))
    };
    platforms.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn eol(state: RowState) -> String {
    match (state.status, state.eol_date) {
        (RowStatus::Expired, _) => "❌ EOL".to_owned(),
        (_, Some(date)) => date.to_string(),
        (RowStatus::Ok, None) => "no date".to_owned(),
        (_, None) => "—".to_owned(),
    }
}

fn status(state: RowState, warn_days: u32) -> String {
    match (state.status, state.accepted_until) {
        (RowStatus::Accepted, Some(until)) => {
            format!("{} until {until}", state.status.words(warn_days))
        }
        (RowStatus::Expiring, _) => match state.deleted_on {
            Some(day) => format!("{} on {day}", state.status.words(warn_days)),
            None => state.status.words(warn_days),
        },
        // `<` before a space does not start a tag, so it needs no escape.
        (status, _) => status.words(warn_days),
    }
}

fn diagram_sections(report: &StatusReport, settings: &StatusConfig) -> Vec<DiagramSection> {
    let mut sections = Vec::new();
    let lineage = if settings.graph {
        lineage(report)
    } else {
        Vec::new()
    };
    if !lineage.is_empty() {
        sections.push(DiagramSection {
            title: "Lineage",
            diagrams: page_diagrams(lineage, "bases"),
            note: Some(LEGEND.to_owned()),
        });
    }
    let timeline = if settings.timeline {
        timeline(report)
    } else {
        Default::default()
    };
    if !timeline.diagrams.is_empty() || !timeline.earlier.is_empty() {
        let earlier: Vec<String> = timeline.earlier.iter().map(|name| code(name)).collect();
        let note = (!earlier.is_empty()).then(|| {
            format!(
                "Ended before {}: {}.",
                timeline.from_year,
                earlier.join(", ")
            )
        });
        sections.push(DiagramSection {
            title: "Timeline",
            diagrams: page_diagrams(timeline.diagrams, "products"),
            note,
        });
    }
    sections
}

/// Returns a single diagram visible, and several folded, because a page that draws dozens of
/// diagrams at once is slow.
fn page_diagrams(diagrams: Vec<Diagram>, of: &str) -> Vec<PageDiagram> {
    let is_single = diagrams.len() == 1;
    let summary = |about: &[String]| match about {
        [] => String::new(),
        [only] => code_in_html(without_host(only)),
        [first, .., last] => {
            format!(
                "{} … {} ({} {of})",
                code_in_html(without_host(first)),
                code_in_html(without_host(last)),
                about.len()
            )
        }
    };
    let folded = |about: &[String]| (!is_single).then(|| summary(about));
    diagrams
        .into_iter()
        .map(|diagram| PageDiagram {
            folded: folded(&diagram.about),
            source: diagram.source,
        })
        .collect()
}

/// Returns text as code in HTML, where Markdown does not apply.
fn code_in_html(text: &str) -> String {
    format!("<code>{}</code>", words(text))
}
