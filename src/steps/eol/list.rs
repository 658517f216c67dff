//! `eol list`: what is looked after, and when it ends.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::Serialize;

use super::judge::{Finding, Judge};
use super::{bases, mirrors};
use crate::config::Config;
use crate::model::eol::{EolAssessment, EolStatus};
use crate::model::{BuildRecord, ImageReference};
use crate::report::{Block, Cell, Document, Table, Tone};
use crate::steps::lineage::{Lineage, identities_offline};

/// What is looked after, the soonest end first.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListReport {
    pub today: NaiveDate,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_days: Option<u32>,
    #[serde(skip)]
    pub warn_days: u32,
    pub cycles: Vec<Row>,
    /// Images of which the configuration says no product.
    pub without_lifecycle: Vec<String>,
}

/// A cycle, and the images that are of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub product: String,
    /// `None` when it is not known.
    pub cycle: Option<String>,
    /// The last day before it is over.
    pub date: Option<NaiveDate>,
    pub days_left: Option<i64>,
    pub status: EolStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_until: Option<NaiveDate>,
    /// Why nothing is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    pub images: Vec<String>,
    /// The applications that stand on these; `None` when they were not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applications: Option<Vec<String>>,
}

/// Returns what the configuration looks after, of that only what ends `within_days` when given.
/// What is not known is always listed: it could end any day. With `records` the applications are
/// listed too, and the older bases that they stand on.
pub fn list(
    config: &Config,
    judge: &Judge<'_>,
    within_days: Option<u32>,
    records: Option<&[BuildRecord]>,
) -> ListReport {
    let mut rows: Vec<Row> = Vec::new();
    let mut without_lifecycle = Vec::new();
    for tracked in mirrors(config).into_iter().chain(bases(config)) {
        let name = tracked.to_string();
        if tracked.parts.is_empty() {
            without_lifecycle.push(name);
            continue;
        }
        for finding in judge.image(&tracked.parts).findings {
            let row = Row::of(finding);
            match rows.iter_mut().find(|known| known.is_like(&row)) {
                Some(known) if known.images.contains(&name) => {}
                Some(known) => known.images.push(name.clone()),
                None => rows.push(Row {
                    images: vec![name.clone()],
                    ..row
                }),
            }
        }
    }
    if let Some(records) = records {
        add_applications(&mut rows, config, judge, records);
    }
    if let Some(days) = within_days {
        rows.retain(|row| match row.status {
            EolStatus::Unknown => true,
            EolStatus::Expired | EolStatus::Accepted if row.date.is_none() => true,
            _ => row.days_left.is_some_and(|left| left <= i64::from(days)),
        });
    }
    rows.sort_by(Row::order);
    let judged = judge.calendar;
    ListReport {
        today: judged.today,
        within_days,
        warn_days: judged.warn_days,
        cycles: rows,
        without_lifecycle,
    }
}

fn add_applications(
    rows: &mut Vec<Row>,
    config: &Config,
    judge: &Judge<'_>,
    records: &[BuildRecord],
) {
    rows.iter_mut()
        .for_each(|row| row.applications = Some(Vec::new()));
    let identities = identities_offline(config);
    let lineage = Lineage::new(config, &identities);
    // Many stand on the same base.
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
        let Some(referred) = lineage.image(&repository, tag, judge) else {
            continue;
        };
        for finding in referred.judgement.findings {
            let row = Row::of(finding);
            let known = rows
                .iter()
                .position(|known| known.is_like(&row))
                .unwrap_or_else(|| {
                    rows.push(Row {
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

impl Row {
    fn of(finding: Finding) -> Row {
        let EolAssessment {
            status,
            date,
            days_left,
            accepted_until,
        } = finding.standing;
        let product = finding.product.to_string();
        Row {
            product,
            cycle: finding.cycle,
            date,
            days_left,
            status,
            accepted_until,
            problem: finding.problem,
            images: Vec::new(),
            applications: None,
        }
    }

    /// Returns whether two rows say the same of their images.
    fn is_like(&self, other: &Row) -> bool {
        let of = |row: &Row| {
            (
                row.product.clone(),
                row.cycle.clone(),
                row.status,
                row.date,
                row.accepted_until,
                row.problem.clone(),
            )
        };
        of(self) == of(other)
    }

    /// Orders by urgency: what is over, by date; what has none; what nothing is known of.
    fn order(&self, other: &Row) -> Ordering {
        let rank = |row: &Row| match (row.status, row.date) {
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

impl ListReport {
    /// Returns the report for people.
    pub fn document(&self) -> Document {
        let mut columns = ["Product", "Cycle", "Ends", "Days left", "Status", "Images"]
            .map(str::to_owned)
            .to_vec();
        let has_applications = self.cycles.iter().any(|row| row.applications.is_some());
        columns.extend(has_applications.then(|| "Applications".to_owned()));
        let rows: Vec<Vec<Cell>> = self.cycles.iter().flat_map(|row| self.drawn(row)).collect();
        let mut lines: Vec<String> = Vec::new();
        for row in self
            .cycles
            .iter()
            .filter(|row| row.status == EolStatus::Unknown)
        {
            let problem = row.problem.as_deref().unwrap_or("nothing is known");
            lines.extend(
                row.images
                    .iter()
                    .map(|image| format!("warning: {image}: {}: {problem}", row.product)),
            );
        }
        if !self.without_lifecycle.is_empty() {
            lines.push(format!(
                "without `lifecycle`, so nothing is known of: {}",
                self.without_lifecycle.join(", ")
            ));
        }
        if rows.is_empty() {
            let when = self
                .within_days
                .map_or_else(String::new, |days| format!(" within {days} days"));
            lines.insert(0, format!("nothing that is looked after ends{when}"));
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

    /// Returns a line for each image and application; what they have in common stands in the first.
    fn drawn(&self, row: &Row) -> Vec<Vec<Cell>> {
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
