//! `app purge`: deletes obsolete records.
//!
//! A record may be all that protects a base from `cleanup`, so it is deleted only if it is
//! certainly obsolete. If anything about it is unknown, it is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::list::InvalidRecordFile;
use crate::error::{Exit, chain};
use crate::model::{BuildRecord, ImageReference, Reference, Repository, TagVersion};
use crate::packages::{RecordDeletion, RecordSet, Records, UnreadableFile};
use crate::registry::{ImageSource, ImageStores};
use crate::report::{Block, Cell, Document, Summary, SummaryRow, Table, Tone};
use crate::steps::Mode;

/// Maximum number of repositories that are listed concurrently, and of records that are deleted
/// concurrently.
const MAX_CONCURRENT: usize = 8;

/// Existence of an image at its registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageExistence {
    Exists,
    /// The registry lists the repository, and the image does not exist.
    Missing,
    /// The repository does not exist, or these credentials may not see it.
    NotListed,
    /// The lookup failed, for this reason.
    Unknown(String),
}

/// Records and the existence of their images.
#[derive(Debug, Default)]
pub struct World {
    pub reading: RecordSet,
    /// Existence of the images; empty if it was not read.
    pub existence: BTreeMap<ImageReference, ImageExistence>,
}

/// Returns the records. With `stores`, also looks up if the images in the records of `project`
/// exist.
pub async fn observe(
    reading: RecordSet,
    project: Option<&str>,
    stores: Option<&ImageStores>,
) -> World {
    let Some(stores) = stores else {
        return World {
            reading,
            existence: BTreeMap::new(),
        };
    };
    let mut repositories: BTreeMap<&Repository, Vec<&ImageReference>> = BTreeMap::new();
    for record in reading
        .records
        .iter()
        .filter(|record| is_of(record, project))
    {
        repositories
            .entry(&record.image.repository)
            .or_default()
            .push(&record.image);
    }
    let lookups = stream::iter(
        repositories
            .into_iter()
            .map(|(repository, images)| read_existence(stores.of(repository), repository, images)),
    );
    let found: Vec<Vec<(ImageReference, ImageExistence)>> =
        lookups.buffer_unordered(MAX_CONCURRENT).collect().await;
    let existence = found.into_iter().flatten().collect();
    World { reading, existence }
}

async fn read_existence(
    source: &dyn ImageSource,
    repository: &Repository,
    images: Vec<&ImageReference>,
) -> Vec<(ImageReference, ImageExistence)> {
    let listing = source.tags(repository).await;
    let mut found = Vec::new();
    for image in images {
        let existence = match (&listing, &image.tag) {
            (Err(error), _) => ImageExistence::Unknown(format!(
                "its repository cannot be listed: {}",
                chain(error)
            )),
            (Ok(None), _) | (_, None) => ImageExistence::NotListed,
            (Ok(Some(tags)), Some(tag)) if tags.iter().any(|listed| listed.tag == *tag) => {
                ImageExistence::Exists
            }
            (Ok(Some(_)), Some(tag)) => match source
                .resolve(repository, &Reference::from(tag.clone()))
                .await
            {
                Ok(None) => ImageExistence::Missing,
                Ok(Some(_)) => ImageExistence::Exists,
                Err(error) => ImageExistence::Unknown(chain(&error)),
            },
        };
        found.push((image.clone(), existence));
    }
    found
}

fn is_of(record: &BuildRecord, project: Option<&str>) -> bool {
    project.is_none_or(|project| record.project == project)
}

/// Reason why a record is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PurgeReason {
    /// The repository has enough newer records.
    Older,
    /// Its image does not exist.
    Orphan,
}

/// Records to delete, and records that are kept because something is unknown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub examined: usize,
    pub removals: Vec<(BuildRecord, PurgeReason)>,
    /// Images whose existence is unknown, with the reason.
    pub unknown: Vec<(ImageReference, String)>,
    pub unreadable: Vec<UnreadableFile>,
}

/// Returns the plan: deletes the records of missing images, and in each repository all but the
/// `keep` newest.
///
/// A record that still protects the base of a record that it replaced is kept.
pub fn plan(world: &World, keep: Option<usize>, project: Option<&str>, now: DateTime<Utc>) -> Plan {
    let mut repositories: BTreeMap<&Repository, Vec<&BuildRecord>> = BTreeMap::new();
    let examined: Vec<&BuildRecord> = world
        .reading
        .records
        .iter()
        .filter(|record| is_of(record, project))
        .collect();
    for record in &examined {
        repositories
            .entry(&record.image.repository)
            .or_default()
            .push(record);
    }
    let mut removals: BTreeMap<&ImageReference, (&BuildRecord, PurgeReason)> = BTreeMap::new();
    for record in &examined {
        if world.existence.get(&record.image) == Some(&ImageExistence::Missing) {
            removals.insert(&record.image, (record, PurgeReason::Orphan));
        }
    }
    for records in repositories.values_mut() {
        // Records of missing images do not count among the newest.
        records.retain(|record| !removals.contains_key(&record.image));
        records.sort_by_cached_key(|record| {
            let version = record
                .image
                .tag
                .as_ref()
                .map(|tag| TagVersion::of(tag.as_str()));
            std::cmp::Reverse((record.built_at, version))
        });
        let older = keep.map_or(&[][..], |keep| records.get(keep..).unwrap_or_default());
        removals.extend(
            older
                .iter()
                .map(|record| (&record.image, (*record, PurgeReason::Older))),
        );
    }
    let protects = |record: &BuildRecord| {
        record
            .replaced
            .iter()
            .any(|replaced| replaced.protects_until() > now)
    };
    removals.retain(|_, (record, _)| !protects(record));
    let unknown = world
        .existence
        .iter()
        .filter_map(|(image, existence)| match existence {
            ImageExistence::Unknown(reason) => Some((image.clone(), reason.clone())),
            _ => None,
        });
    Plan {
        examined: examined.len(),
        removals: removals
            .into_values()
            .map(|(record, reason)| (record.clone(), reason))
            .collect(),
        unknown: unknown.collect(),
        unreadable: world.reading.unreadable.clone(),
    }
}

/// Report of `app purge`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PurgeReport {
    pub dry_run: bool,
    #[serde(rename = "durationSeconds", serialize_with = "crate::steps::seconds")]
    pub duration: Duration,
    pub examined: usize,
    /// Deleted records; in a dry run, records to delete.
    pub removed: Vec<RecordRemoval>,
    pub failed: Vec<FailedRecord>,
    /// Records that are kept because the existence of their image is unknown.
    pub unknown: Vec<FailedRecord>,
    pub unreadable: Vec<InvalidRecordFile>,
}

/// A deleted record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordRemoval {
    pub image: ImageReference,
    pub reason: PurgeReason,
}

/// A record that was not deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedRecord {
    pub image: ImageReference,
    pub cause: String,
}

/// Mode and resources of an execution.
pub struct PurgeExecution<'a> {
    pub records: &'a Records,
    /// Registries in which a missing image is looked up again before its record is deleted.
    pub stores: &'a ImageStores,
    pub mode: Mode,
    /// After cancellation, no further record is deleted.
    pub cancel: &'a CancellationToken,
}

impl PurgeExecution<'_> {
    /// Deletes a record. Returns `None` if it is kept: the run was stopped, or the image or record
    /// was written again after the plan was made.
    async fn remove(
        &self,
        record: BuildRecord,
        reason: PurgeReason,
    ) -> Option<Result<RecordRemoval, FailedRecord>> {
        if self.mode == Mode::Apply {
            if self.cancel.is_cancelled() {
                return None;
            }
            let failed = |cause| {
                Some(Err(FailedRecord {
                    image: record.image.clone(),
                    cause,
                }))
            };
            if let (PurgeReason::Orphan, Some(tag)) = (reason, &record.image.tag) {
                match self
                    .stores
                    .of(&record.image.repository)
                    .resolve(&record.image.repository, &Reference::from(tag.clone()))
                    .await
                {
                    Ok(None) => {}
                    Ok(Some(_)) => {
                        tracing::info!(
                            "{} was pushed in the meantime; its record is kept",
                            record.image
                        );
                        return None;
                    }
                    Err(error) => return failed(chain(&error)),
                }
            }
            match self.records.delete(&record).await {
                Ok(RecordDeletion::Done | RecordDeletion::Absent) => {}
                Ok(RecordDeletion::Replaced) => {
                    tracing::info!(
                        "{} was registered in the meantime; its record is kept",
                        record.image
                    );
                    return None;
                }
                Err(error) => return failed(chain(&error)),
            }
        }
        Some(Ok(RecordRemoval {
            image: record.image,
            reason,
        }))
    }
}

/// Deletes the records of the plan; in a dry run none.
pub async fn execute(plan: Plan, purge: &PurgeExecution<'_>) -> PurgeReport {
    let Plan {
        examined,
        removals,
        unknown,
        unreadable,
    } = plan;
    let mode = purge.mode;
    let remove = |(record, reason)| purge.remove(record, reason);
    let results: Vec<_> = stream::iter(removals)
        .map(remove)
        .buffered(MAX_CONCURRENT)
        .collect()
        .await;
    let mut report = PurgeReport {
        dry_run: mode != Mode::Apply,
        duration: Duration::ZERO,
        examined,
        removed: Vec::new(),
        failed: Vec::new(),
        unknown: unknown
            .into_iter()
            .map(|(image, cause)| FailedRecord { image, cause })
            .collect(),
        unreadable: unreadable
            .into_iter()
            .map(InvalidRecordFile::from)
            .collect(),
    };
    for result in results.into_iter().flatten() {
        match result {
            Ok(removal) => report.removed.push(removal),
            Err(failed) => report.failed.push(failed),
        }
    }
    report
}

impl PurgeReport {
    /// Returns the exit code.
    pub fn exit(&self) -> Exit {
        if self.failed.is_empty() && self.unknown.is_empty() {
            Exit::Done
        } else {
            Exit::Failed
        }
    }

    /// Returns the report as text.
    pub fn document(&self) -> Document {
        let mut rows = Vec::new();
        for removal in &self.removed {
            let reason = match removal.reason {
                PurgeReason::Older => "older than the kept records",
                PurgeReason::Orphan => "the image does not exist",
            };
            let word = if self.dry_run {
                "to be removed"
            } else {
                "removed"
            };
            rows.push(vec![
                Cell::plain(removal.image.to_string()),
                Cell::plain(word),
                Cell::plain(reason),
            ]);
        }
        for (failed, word, tone) in self
            .failed
            .iter()
            .map(|failed| (failed, "failed", Tone::Bad))
            .chain(
                self.unknown
                    .iter()
                    .map(|unknown| (unknown, "kept", Tone::Warning)),
            )
        {
            rows.push(vec![
                Cell::plain(failed.image.to_string()),
                Cell::toned(word, tone),
                Cell::plain(failed.cause.clone()),
            ]);
        }
        let kept = self.examined - self.removed.len();
        let mut examined = SummaryRow::new("Records", self.examined);
        examined.children = vec![
            SummaryRow::new("Removed", self.removed.len()),
            SummaryRow::new("Kept", kept),
            SummaryRow::new("Failed", self.failed.len() + self.unknown.len()),
        ];
        let summary = Summary {
            title: "App purge".to_owned(),
            dry_run: self.dry_run,
            duration: Some(self.duration),
            rows: vec![examined],
        };
        let table = Table {
            title: None,
            columns: Vec::new(),
            rows,
        };
        Document {
            blocks: vec![Block::Table(table), Block::Summary(summary)],
        }
    }
}
