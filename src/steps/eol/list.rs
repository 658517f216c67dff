//! `eol list`: tracked images with their end-of-life dates.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::Serialize;

use super::assess::{EolAssessor, ProductAssessment};
use super::tracked_images::{bases, mirrors};
use crate::config::Config;
use crate::model::eol::{EolAssessment, EolStatus};
use crate::model::{BuildRecord, ImageReference};
use crate::report::{Block, Cell, Document, Table, Tone};
use crate::steps::lineage::{Lineage, identities_offline};

/// Report of `eol list`, earliest end first.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EolListReport {
    pub today: NaiveDate,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_days: Option<u32>,
    #[serde(skip)]
    pub warn_days: u32,
    pub cycles: Vec<EolListRow>,
    /// Images without `lifecycle`.
    pub without_lifecycle: Vec<String>,
}

/// A release cycle and its images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EolListRow {
    pub product: String,
    /// `None` if it is unknown.
    pub cycle: Option<String>,
    /// Last day of support.
    pub date: Option<NaiveDate>,
    pub days_left: Option<i64>,
    pub status: EolStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_until: Option<NaiveDate>,
    /// Reason why the status is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    pub images: Vec<String>,
    /// Applications built on these images; `None` if they were not requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applications: Option<Vec<String>>,
}

/// Returns the tracked images, with `within_days` only those that end within that many days.
///
/// Images with an unknown status are always listed, because they may end at any time. With
/// `records`, the list also has applications, and the older bases that they are built on.
pub fn list(
    config: &Config,
    assessor: &EolAssessor<'_>,
    within_days: Option<u32>,
    records: Option<&[BuildRecord]>,
) -> EolListReport {
    let mut rows: Vec<EolListRow> = Vec::new();
    let mut without_lifecycle = Vec::new();
    for tracked in mirrors(config).into_iter().chain(bases(config)) {
        let name = tracked.to_string();
        if tracked.products.is_empty() {
            without_lifecycle.push(name);
            continue;
        }
        for product in assessor.image(&tracked.products).products {
            let row = EolListRow::of(product);
            match rows.iter_mut().find(|known| known.is_like(&row)) {
                Some(known) if known.images.contains(&name) => {}
                Some(known) => known.images.push(name.clone()),
                None => rows.push(EolListRow {
                    images: vec![name.clone()],
                    ..row
                }),
            }
        }
    }
    if let Some(records) = records {
        add_applications(&mut rows, config, assessor, records);
    }
    if let Some(days) = within_days {
        rows.retain(|row| match row.status {
            EolStatus::Unknown => true,
            EolStatus::Expired | EolStatus::Accepted if row.date.is_none() => true,
            _ => row.days_left.is_some_and(|left| left <= i64::from(days)),
        });
    }
    rows.sort_by(EolListRow::order);
    let calendar = assessor.calendar;
    EolListReport {
        today: calendar.today,
        within_days,
        warn_days: calendar.warn_days,
        cycles: rows,
        without_lifecycle,
    }
}

fn add_applications(
    rows: &mut Vec<EolListRow>,
    config: &Config,
    assessor: &EolAssessor<'_>,
    records: &[BuildRecord],
) {
    rows.iter_mut()
        .for_each(|row| row.applications = Some(Vec::new()));
    let identities = identities_offline(config);
    let lineage = Lineage::new(config, &identities);
    // Many applications have the same base.
    let mut of_base: BTreeMap<&ImageReference, Vec<String>> = BTreeMap::new();
    for record in records {
        if let Some(base) = &record.base {
            of_base
                .entry(base)
                .or_default()
                .push(record.image.to_string());
        }
    }
    for (base, applications) in of_base {
        let Some(tag) = &base.tag else { continue };
        let repository = base.repository.resolved_below(&config.directory);
        let Some(referenced) = lineage.image(&repository, tag, assessor) else {
            continue;
        };
        for product in referenced.assessment.products {
            let row = EolListRow::of(product);
            let known = rows
                .iter()
                .position(|known| known.is_like(&row))
                .unwrap_or_else(|| {
                    rows.push(EolListRow {
                        images: vec![format!("{repository}:{tag}")],
                        ..row
                    });
                    rows.len() - 1
                });
            rows[known]
                .applications
                .get_or_insert_default()
                .extend(applications.iter().cloned());
        }
    }
    rows.iter_mut().for_each(|row| {
        row.applications
            .iter_mut()
            .for_each(|applications| applications.sort());
    });
}

impl EolListRow {
    fn of(assessed: ProductAssessment) -> EolListRow {
        let EolAssessment {
            status,
            date,
            days_left,
            accepted_until,
        } = assessed.assessment;
        EolListRow {
            product: assessed.product.to_string(),
            cycle: assessed.cycle,
            date,
            days_left,
            status,
            accepted_until,
            problem: assessed.problem,
            images: Vec::new(),
            applications: None,
        }
    }

    /// Returns true if two rows differ only in their images and applications.
    fn is_like(&self, other: &EolListRow) -> bool {
        let key = |row: &EolListRow| {
            (
                row.product.clone(),
                row.cycle.clone(),
                row.status,
                row.date,
                row.accepted_until,
                row.problem.clone(),
            )
        };
        key(self) == key(other)
    }

    /// Orders by urgency: by date, then without a date, then unknown.
    fn order(&self, other: &EolListRow) -> Ordering {
        let rank = |row: &EolListRow| match (row.status, row.date) {
            (EolStatus::Unknown, _) => (2, None),
            (_, Some(date)) => (0, Some(date)),
            (EolStatus::Expired, None) => (0, None),
            _ => (1, None),
        };
        rank(self)
            .cmp(&rank(other))
            .then_with(|| (&self.product, &self.cycle).cmp(&(&other.product, &other.cycle)))
    }
}

impl EolListReport {
    /// Returns the report as text.
    pub fn document(&self) -> Document {
        let mut columns = ["Product", "Cycle", "Ends", "Days left", "Status", "Images"]
            .map(str::to_owned)
            .to_vec();
        let has_applications = self.cycles.iter().any(|row| row.applications.is_some());
        columns.extend(has_applications.then(|| "Applications".to_owned()));
        let rows: Vec<Vec<Cell>> = self.cycles.iter().flat_map(|row| self.cells(row)).collect();
        let mut lines: Vec<String> = Vec::new();
        for row in self
            .cycles
            .iter()
            .filter(|row| row.status == EolStatus::Unknown)
        {
            let problem = row.problem.as_deref().unwrap_or("the status is unknown");
            lines.extend(
                row.images
                    .iter()
                    .map(|image| format!("warning: {image}: {}: {problem}", row.product)),
            );
        }
        if !self.without_lifecycle.is_empty() {
            lines.push(format!(
                "without `lifecycle`, so not tracked: {}",
                self.without_lifecycle.join(", ")
            ));
        }
        if rows.is_empty() {
            let when = self
                .within_days
                .map_or_else(String::new, |days| format!(" within {days} days"));
            lines.insert(0, format!("no tracked product reaches end of life{when}"));
            return Document {
                blocks: vec![Block::Lines(lines)],
            };
        }
        let mut blocks = vec![Block::Table(Table {
            title: None,
            columns,
            rows,
        })];
        if !lines.is_empty() {
            blocks.push(Block::Lines(lines));
        }
        Document { blocks }
    }

    /// Returns a line for each image and application. Common cells are in the first line only.
    fn cells(&self, row: &EolListRow) -> Vec<Vec<Cell>> {
        let ends = match (row.date, row.status) {
            (Some(date), _) => date.to_string(),
            (None, EolStatus::Unknown) => "?".to_owned(),
            (None, EolStatus::Expired | EolStatus::Accepted) => "ended".to_owned(),
            (None, _) => "no date".to_owned(),
        };
        let (status, tone) = match row.status {
            EolStatus::Supported => ("ok".to_owned(), Tone::Good),
            EolStatus::Warning => (format!("< {} days", self.warn_days), Tone::Warning),
            EolStatus::Expired => ("expired".to_owned(), Tone::Bad),
            EolStatus::Accepted => {
                let until = row
                    .accepted_until
                    .map(|date| format!(" until {date}"))
                    .unwrap_or_default();
                (format!("accepted{until}"), Tone::Warning)
            }
            EolStatus::Unknown => ("unknown".to_owned(), Tone::Warning),
        };
        let mut common = vec![
            Cell::plain(&row.product),
            Cell::plain(row.cycle.as_deref().unwrap_or("?")),
            Cell::plain(ends),
            Cell::plain(
                row.days_left
                    .map(|days| days.to_string())
                    .unwrap_or_default(),
            ),
            Cell::toned(status, tone),
        ];
        let mut lines = Vec::new();
        let applications = row.applications.as_deref().unwrap_or_default();
        for position in 0..row.images.len().max(applications.len()) {
            let blank = vec![Cell::plain(""); common.len()];
            let mut line = std::mem::replace(&mut common, blank);
            let cell = |texts: &[String]| {
                Cell::plain(texts.get(position).map(String::as_str).unwrap_or_default())
            };
            line.push(cell(&row.images));
            line.extend(row.applications.as_deref().map(cell));
            lines.push(line);
        }
        lines
    }
}
