//! The report as a page of Markdown.

use std::collections::BTreeMap;

use serde::Serialize;

use super::diagrams::{Diagram, host, lineage, timeline, without_host};
use super::markers::{BEGIN, END};
use super::plan::{ApplicationRow, ImageRow, State, StatusReport, Verdict};
use super::report::overview;
use crate::config::StatusConfig;
use crate::model::Platform;
use crate::report::markdown::{code, words};
use crate::template::{TemplateError, page as render};

const TEMPLATE: &str = include_str!("../../../templates/status.md");

/// Of a table with more rows those that need no attention are folded up.
const LONG: usize = 60;

const LEGEND: &str = "Grey: mirrors. Green: supported. Yellow: ends soon. Red: expired. Blue: outdated. Dashed: not known, or not there.";

#[derive(Serialize)]
struct Page<'a> {
    title: String,
    overview: String,
    /// Said of names without a host.
    host: Option<String>,
    tables: [Table; 3],
    pictures: Vec<Picture>,
    client_zone: Option<&'a str>,
}

#[derive(Serialize)]
struct Table {
    title: &'static str,
    columns: &'static [&'static str],
    /// What is shown at once: all, or of a long table what needs attention.
    rows: Vec<Vec<String>>,
    folded: Option<Folded>,
    /// What is said instead of a table without rows.
    empty: &'static str,
}

/// Rows that are shown when somebody asks for them.
#[derive(Serialize)]
struct Folded {
    summary: String,
    rows: Vec<Vec<String>>,
}

#[derive(Serialize)]
struct Picture {
    title: &'static str,
    diagrams: Vec<Drawn>,
    note: Option<String>,
}

#[derive(Serialize)]
struct Drawn {
    source: String,
    folded: Option<String>,
}

/// Returns the page between its markers. Of the same report it is always the same.
pub fn page(report: &StatusReport, settings: &StatusConfig) -> Result<String, TemplateError> {
    let names = Names::of(report);
    let page = Page {
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
        pictures: pictures(report, settings),
        client_zone: settings
            .client_zone
            .as_deref()
            .map(str::trim)
            .filter(|zone| !zone.is_empty()),
    };
    let text = render("templates/status.md", TEMPLATE, page)?;
    // A free text could hold markers; then the next run would not find the end.
    let text = text.replace(BEGIN, "").replace(END, "");
    Ok(format!("{BEGIN}\n{}\n{END}\n", text.trim()))
}

/// How images are named in the tables: without the host that most of them have, so that the last
/// columns stay in sight.
struct Names<'a> {
    host: Option<&'a str>,
}

impl<'a> Names<'a> {
    fn of(report: &'a StatusReport) -> Names<'a> {
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
        Names {
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
    names: &Names<'_>,
    empty: &'static str,
) -> Table {
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
    let (rows, folded) = parted(rows, "images", report);
    Table {
        title,
        columns: &["Image", "Version", "Platforms", "EOL", "Status"],
        rows,
        folded,
        empty,
    }
}

fn applications(report: &StatusReport, names: &Names<'_>) -> Table {
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
    let (rows, folded) = parted(rows, "applications", report);
    Table {
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

/// Returns the rows that are shown at once, and those that are folded up. Of a long table those are
/// shown that need attention, unless they are too many as well.
fn parted(
    rows: Vec<(Verdict, Vec<String>)>,
    of: &str,
    report: &StatusReport,
) -> (Vec<Vec<String>>, Option<Folded>) {
    let needs_attention = |verdict: Verdict| !matches!(verdict, Verdict::Ok | Verdict::Accepted);
    let urgent = rows
        .iter()
        .filter(|(verdict, _)| needs_attention(*verdict))
        .count();
    let is_folded =
        |verdict: Verdict| rows.len() > LONG && (urgent > LONG || !needs_attention(verdict));
    let verdicts: Vec<Verdict> = rows
        .iter()
        .map(|(verdict, _)| *verdict)
        .filter(|verdict| is_folded(*verdict))
        .collect();
    let told = super::report::counts(verdicts.iter().copied(), report.warn_days)
        .join(" · ")
        .replace('<', "&lt;");
    let summary = format!("{} {of}: {told}", verdicts.len());
    let is_folded: Vec<bool> = rows
        .iter()
        .map(|(verdict, _)| is_folded(*verdict))
        .collect();
    let (folded, shown): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .zip(is_folded)
        .partition(|(_, is_folded)| *is_folded);
    let cells = |rows: Vec<((Verdict, Vec<String>), bool)>| {
        rows.into_iter()
            .map(|((_, cells), _)| cells)
            .collect::<Vec<_>>()
    };
    let folded = (!folded.is_empty()).then(|| Folded {
        summary,
        rows: cells(folded),
    });
    (cells(shown), folded)
}

fn platforms(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "all".to_owned();
    }
    // Nearly all are Linux's; what is the same everywhere tells nothing.
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

fn eol(state: State) -> String {
    match (state.status, state.eol_date) {
        (Verdict::Expired, _) => "❌ EOL".to_owned(),
        (_, Some(date)) => date.to_string(),
        (Verdict::Ok, None) => "no date".to_owned(),
        (_, None) => "—".to_owned(),
    }
}

fn status(state: State, warn_days: u32) -> String {
    match (state.status, state.accepted_until) {
        (Verdict::Accepted, Some(until)) => {
            format!("{} until {until}", state.status.words(warn_days))
        }
        // A less-than sign before a space begins nothing.
        (status, _) => status.words(warn_days),
    }
}

fn pictures(report: &StatusReport, settings: &StatusConfig) -> Vec<Picture> {
    let mut pictures = Vec::new();
    let lineage = if settings.graph {
        lineage(report)
    } else {
        Vec::new()
    };
    if !lineage.is_empty() {
        pictures.push(Picture {
            title: "Lineage",
            diagrams: drawn(lineage, "bases"),
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
        pictures.push(Picture {
            title: "Timeline",
            diagrams: drawn(timeline.diagrams, "products"),
            note,
        });
    }
    pictures
}

/// Returns one picture as it is, several folded up: a page that draws dozens of them at once is
/// slow.
fn drawn(diagrams: Vec<Diagram>, of: &str) -> Vec<Drawn> {
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
        .map(|diagram| Drawn {
            folded: folded(&diagram.about),
            source: diagram.source,
        })
        .collect()
}

/// Returns text as code where Markdown is not read.
fn code_in_html(text: &str) -> String {
    format!("<code>{}</code>", words(text))
}
