//! `eol notify`: the messages of a day, and their delivery.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::assess::{EolAssessor, ProductAssessment};
use super::tracked_images::{bases, mirrors};
use crate::config::Config;
use crate::error::Exit;
use crate::model::eol::EolStatus;
use crate::model::{BuildRecord, Repository};
use crate::notify::{AffectedApplication, EolNotice, Messenger, ProductEnd};
use crate::report::{Block, Cell, Document, Summary, SummaryRow, Table, Tone};
use crate::steps::Mode;
use crate::steps::lineage::{Lineage, identities_offline};

/// Returns the messages of the day, one for each image with a product that ends in exactly one of
/// `at_days` days, or that ended a whole number of weeks ago. Accepted ends are left out.
pub fn notices(
    config: &Config,
    assessor: &EolAssessor<'_>,
    records: &[BuildRecord],
    at_days: &[u32],
) -> Vec<EolNotice> {
    let mut messages: BTreeMap<String, EolNotice> = BTreeMap::new();
    let mut of_repository: HashMap<&Repository, Vec<String>> = HashMap::new();
    let tracked: Vec<_> = mirrors(config).into_iter().chain(bases(config)).collect();
    for image in &tracked {
        let ends = due(&assessor.image(&image.products).products, at_days);
        if !ends.is_empty() {
            let name = image.to_string();
            of_repository
                .entry(image.repository)
                .or_default()
                .push(name.clone());
            messages.insert(
                name.clone(),
                EolNotice {
                    image: name,
                    ends,
                    applications: Vec::new(),
                },
            );
        }
    }
    let identities = identities_offline(config);
    let lineage = Lineage::new(config, &identities);
    for record in records {
        let Some(base) = &record.base else { continue };
        let repository = base.repository.resolved_below(&config.directory);
        let Some(tag) = &base.tag else { continue };
        let Some(referenced) = lineage.image(&repository, tag, assessor) else {
            continue;
        };
        let ends = due(&referenced.assessment.products, at_days);
        if ends.is_empty() {
            continue;
        }
        let application = AffectedApplication {
            image: record.image.to_string(),
            project: record.project.clone(),
        };
        let same = of_repository.get(&repository).into_iter().flatten();
        let same: Vec<String> = same
            .filter(|name| {
                messages
                    .get(*name)
                    .is_some_and(|message| message.ends == ends)
            })
            .cloned()
            .collect();
        // An image that is older than the configured ones gets its own message.
        let names = if same.is_empty() {
            vec![format!("{repository}:{tag}")]
        } else {
            same
        };
        for name in names {
            let message = messages.entry(name.clone());
            let message = message.or_insert_with(|| EolNotice {
                image: name,
                ends: ends.clone(),
                applications: Vec::new(),
            });
            message.applications.push(application.clone());
        }
    }
    let mut messages: Vec<EolNotice> = messages.into_values().collect();
    messages
        .iter_mut()
        .for_each(|message| message.applications.sort());
    messages.sort_by(|one, other| (&one.ends, &one.image).cmp(&(&other.ends, &other.image)));
    messages
}

/// Returns the end-of-life dates that today's message reports, earliest first.
fn due(products: &[ProductAssessment], at_days: &[u32]) -> Vec<ProductEnd> {
    let is_day = |left: i64| {
        if left < 0 {
            left % 7 == 0
        } else {
            at_days.iter().any(|days| i64::from(*days) == left)
        }
    };
    let mut ends: Vec<ProductEnd> = products
        .iter()
        .filter(|product| product.assessment.status != EolStatus::Accepted)
        .filter_map(|product| {
            let assessment = &product.assessment;
            let (date, days_left) = assessment.date.zip(assessment.days_left)?;
            let cycle = product.cycle.clone()?;
            is_day(days_left).then(|| ProductEnd {
                date,
                days_left,
                product: product.product.to_string(),
                cycle,
            })
        })
        .collect();
    ends.sort();
    ends
}

/// Report of `eol notify`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NotifyReport {
    pub dry_run: bool,
    #[serde(rename = "durationSeconds", serialize_with = "crate::steps::seconds")]
    pub duration: Duration,
    pub messages: Vec<MessageReport>,
}

/// A message and its deliveries.
#[derive(Clone, Debug, Serialize)]
pub struct MessageReport {
    #[serde(flatten)]
    pub message: EolNotice,
    pub deliveries: Vec<Delivery>,
}

/// Delivery of a message by one messenger.
#[derive(Clone, Debug, Serialize)]
pub struct Delivery {
    pub to: &'static str,
    pub outcome: DeliveryOutcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum DeliveryOutcome {
    Sent,
    Failed,
    /// The run is a dry run or was stopped.
    NotSent,
}

/// Sends each message with each messenger, one after another because chat services have low rate
/// limits.
pub async fn notify(
    messages: Vec<EolNotice>,
    messengers: &[Box<dyn Messenger>],
    mode: Mode,
    cancel: &CancellationToken,
) -> NotifyReport {
    let mut notified = Vec::with_capacity(messages.len());
    for message in messages {
        let mut deliveries = Vec::with_capacity(messengers.len());
        for messenger in messengers {
            let result = match mode {
                Mode::Apply => tokio::select! {
                    result = messenger.send(&message) => Some(result),
                    () = cancel.cancelled() => None,
                },
                Mode::List | Mode::DryRun => None,
            };
            let (outcome, cause) = match result {
                None => (DeliveryOutcome::NotSent, None),
                Some(Ok(())) => (DeliveryOutcome::Sent, None),
                Some(Err(error)) => (DeliveryOutcome::Failed, Some(error.to_string())),
            };
            deliveries.push(Delivery {
                to: messenger.name(),
                outcome,
                cause,
            });
        }
        notified.push(MessageReport {
            message,
            deliveries,
        });
    }
    NotifyReport {
        dry_run: mode != Mode::Apply,
        duration: Duration::ZERO,
        messages: notified,
    }
}

impl NotifyReport {
    fn count(&self, outcome: DeliveryOutcome) -> usize {
        self.messages
            .iter()
            .flat_map(|message| &message.deliveries)
            .filter(|delivery| delivery.outcome == outcome)
            .count()
    }

    /// Returns the exit code.
    pub fn exit(&self) -> Exit {
        if self.count(DeliveryOutcome::Failed) > 0 {
            Exit::Failed
        } else {
            Exit::Done
        }
    }

    /// Returns the report as text.
    pub fn document(&self) -> Document {
        let columns = ["Image", "Ends", "Applications", "To", "Outcome"]
            .map(str::to_owned)
            .to_vec();
        let rows = self.messages.iter().flat_map(|notified| {
            let ends: Vec<String> = notified
                .message
                .ends
                .iter()
                .map(|end| format!("{} {} {}", end.product, end.cycle, end.when()))
                .collect();
            notified.deliveries.iter().map(move |delivery| {
                let outcome = match (delivery.outcome, &delivery.cause) {
                    (DeliveryOutcome::Sent, _) => Cell::toned("sent", Tone::Good),
                    (DeliveryOutcome::NotSent, _) => Cell::toned("not sent", Tone::Quiet),
                    (DeliveryOutcome::Failed, cause) => Cell::toned(
                        format!("failed: {}", cause.as_deref().unwrap_or_default()),
                        Tone::Bad,
                    ),
                };
                vec![
                    Cell::plain(&notified.message.image),
                    Cell::plain(ends.join("; ")),
                    Cell::plain(notified.message.applications.len().to_string()),
                    Cell::plain(delivery.to),
                    outcome,
                ]
            })
        });
        let rows: Vec<Vec<Cell>> = rows.collect();
        let mut total = SummaryRow::new("Images", self.messages.len());
        let kinds = [
            ("Sent", DeliveryOutcome::Sent),
            ("Not sent", DeliveryOutcome::NotSent),
            ("Failed", DeliveryOutcome::Failed),
        ];
        total.children = kinds
            .into_iter()
            .map(|(label, outcome)| SummaryRow::new(label, self.count(outcome)))
            .collect();
        let duration = Some(self.duration);
        let summary = Block::Summary(Summary {
            title: "End-of-life notices".to_owned(),
            dry_run: self.dry_run,
            duration,
            rows: vec![total],
        });
        let table = (!rows.is_empty()).then_some(Block::Table(Table {
            title: None,
            columns,
            rows,
        }));
        Document {
            blocks: table.into_iter().chain([summary]).collect(),
        }
    }
}
