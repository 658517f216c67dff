//! Which records are no longer of use, and their removal.
//!
//! A record may be all that keeps a base from being cleaned up, so it goes only when it is surely
//! of no use: whatever cannot be told keeps it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::list::NoRecord;
use crate::error::{Exit, chain};
use crate::model::{BuildRecord, ImageReference, Reference, Repository, TagVersion};
use crate::packages::{Deletion, Reading, Records, Unreadable};
use crate::registry::{ImageSource, ImageStores};
use crate::report::{Block, Cell, Document, Summary, SummaryRow, Table, Tone};
use crate::steps::Mode;

/// Repositories that are looked at, and records that are removed, at once.
const AT_ONCE: usize = 8;

/// Whether an image is at its registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Existence {
    There,
    /// The registry lists the repository, and says that it has no such image.
    Gone,
    /// The registry has no such repository, or not for this login: nobody can tell.
    NotListed,
    /// Asking failed, for this reason.
    Unknown(String),
}

/// The records, and what became of their images.
#[derive(Debug, Default)]
pub struct World {
    pub reading: Reading,
    /// Empty when it was not asked for.
    pub existence: BTreeMap<ImageReference, Existence>,
}

/// Reads the records, and with `images` looks whether the images of those that `project` names are
/// there.
pub async fn observe(
    reading: Reading,
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
    let looked_at = stream::iter(
        repositories
            .into_iter()
            .map(|(repository, images)| look(stores.of(repository), repository, images)),
    );
    let found: Vec<Vec<(ImageReference, Existence)>> =
        looked_at.buffer_unordered(AT_ONCE).collect().await;
    let existence = found.into_iter().flatten().collect();
    World { reading, existence }
}

async fn look(
    source: &dyn ImageSource,
    repository: &Repository,
    images: Vec<&ImageReference>,
) -> Vec<(ImageReference, Existence)> {
    let listing = source.tags(repository).await;
    let mut found = Vec::new();
    for image in images {
        let existence = match (&listing, &image.tag) {
            (Err(error), _) => {
                Existence::Unknown(format!("its repository cannot be listed: {}", chain(error)))
            }
            (Ok(None), _) | (_, None) => Existence::NotListed,
            (Ok(Some(tags)), Some(tag)) if tags.iter().any(|seen| seen.tag == *tag) => {
                Existence::There
            }
            (Ok(Some(_)), Some(tag)) => match source
                .resolve(repository, &Reference::from(tag.clone()))
                .await
            {
                Ok(None) => Existence::Gone,
                Ok(Some(_)) => Existence::There,
                Err(error) => Existence::Unknown(chain(&error)),
            },
        };
        found.push((image.clone(), existence));
    }
    found
}

fn is_of(record: &BuildRecord, project: Option<&str>) -> bool {
    project.is_none_or(|project| record.project == project)
}

/// Why a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Others of its repository are newer, as many as are kept.
    Older,
    /// Its image is gone.
    Orphan,
}

/// Which records go, and which could not be looked after.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub examined: usize,
    pub removals: Vec<(BuildRecord, Reason)>,
    /// Images of which it could not be found out whether they are there.
    pub unknown: Vec<(ImageReference, String)>,
    pub unreadable: Vec<Unreadable>,
}

/// Returns which records go: of each repository all but the `keep` newest, and those of images that
/// are gone.
pub fn plan(world: &World, keep: Option<usize>, project: Option<&str>) -> Plan {
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
    let mut removals: BTreeMap<&ImageReference, (&BuildRecord, Reason)> = BTreeMap::new();
    for record in &examined {
        if world.existence.get(&record.image) == Some(&Existence::Gone) {
            removals.insert(&record.image, (record, Reason::Orphan));
        }
    }
    for records in repositories.values_mut() {
        // What goes anyway takes no place among the newest.
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
                .map(|record| (&record.image, (*record, Reason::Older))),
        );
    }
    let unknown = world
        .existence
        .iter()
        .filter_map(|(image, existence)| match existence {
            Existence::Unknown(reason) => Some((image.clone(), reason.clone())),
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

/// What became of the records.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PurgeReport {
    pub dry_run: bool,
    #[serde(rename = "durationSeconds", serialize_with = "crate::steps::seconds")]
    pub duration: Duration,
    pub examined: usize,
    /// Or in the dry mode those that would be.
    pub removed: Vec<Removal>,
    pub failed: Vec<Failed>,
    /// Records that stay since it is not known whether their image is there.
    pub unknown: Vec<Failed>,
    pub unreadable: Vec<NoRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Removal {
    pub image: ImageReference,
    pub reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    pub image: ImageReference,
    pub cause: String,
}

/// How and with what a plan is carried out.
pub struct Purge<'a> {
    pub records: &'a Records,
    /// Where images are looked for once more before the record of one that was gone is removed.
    pub stores: &'a ImageStores,
    pub mode: Mode,
    /// Once it is set, nothing new is removed.
    pub cancel: &'a CancellationToken,
}

impl Purge<'_> {
    /// Removes a record. Returns `None` when it stays: the run is stopped, or it is of use again
    /// since it was looked at.
    async fn remove(&self, record: BuildRecord, reason: Reason) -> Option<Result<Removal, Failed>> {
        if self.mode == Mode::Apply {
            if self.cancel.is_cancelled() {
                return None;
            }
            let failed = |cause| {
                Some(Err(Failed {
                    image: record.image.clone(),
                    cause,
                }))
            };
            if let (Reason::Orphan, Some(tag)) = (reason, &record.image.tag) {
                match self
                    .stores
                    .of(&record.image.repository)
                    .resolve(&record.image.repository, &Reference::from(tag.clone()))
                    .await
                {
                    Ok(None) => {}
                    Ok(Some(_)) => {
                        tracing::info!("{} was pushed meanwhile; its record stays", record.image);
                        return None;
                    }
                    Err(error) => return failed(chain(&error)),
                }
            }
            match self.records.delete(&record).await {
                Ok(Deletion::Done | Deletion::Absent) => {}
                Ok(Deletion::Replaced) => {
                    tracing::info!(
                        "{} was registered meanwhile; its record stays",
                        record.image
                    );
                    return None;
                }
                Err(error) => return failed(chain(&error)),
            }
        }
        Some(Ok(Removal {
            image: record.image,
            reason,
        }))
    }
}

/// Removes what the plan names; in the dry mode nothing.
pub async fn execute(plan: Plan, purge: &Purge<'_>) -> PurgeReport {
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
        .buffered(AT_ONCE)
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
            .map(|(image, cause)| Failed { image, cause })
            .collect(),
        unreadable: unreadable.into_iter().map(NoRecord::from).collect(),
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
    /// Returns the exit code that follows.
    pub fn exit(&self) -> Exit {
        if self.failed.is_empty() && self.unknown.is_empty() {
            Exit::Done
        } else {
            Exit::Failed
        }
    }

    /// Returns the report for people.
    pub fn document(&self) -> Document {
        let mut rows = Vec::new();
        for removal in &self.removed {
            let reason = match removal.reason {
                Reason::Older => "older than those that are kept",
                Reason::Orphan => "the image is gone",
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
