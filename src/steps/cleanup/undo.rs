//! `cleanup --undo`: restores tags that a cleanup deleted or moved, from its journal.
//!
//! A tag comes back from its retired tag, from the manifest if that is still there, from the
//! manifest in the journal if the registry still has its blobs, or from the archive. Referrers that
//! were deleted with it come back too. A restored tag is held for [`HOLD_DAYS`] days.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::applications::Applications;
use super::histories::history_name;
use super::targets::{CleanupTarget, targets};
use crate::config::Config;
use crate::error::{Exit, ItemError};
use crate::model::manifest::MAX_INDEX_NESTING;
use crate::model::reference::LAYOUT_PREFIX;
use crate::model::{
    Digest, ImageReference, JournalBatch, JournalChange, JournalManifest, Manifest, Reference,
    Repository, Tag, TagHistory, TagHold, TagSighting,
};
use crate::packages::Documents;
use crate::progress::Progress;
use crate::registry::ImageStores;
use crate::report::{Block, Cell, Document, Summary, SummaryRow, Table, Tone};
use crate::steps::Mode;
use crate::transfer::{Attachments, CopyRequest, ExpectedTag, PlatformFilter, Transfer};

/// Number of days for which a restored tag is not deleted.
pub const HOLD_DAYS: i64 = 30;

/// Tags to restore or to release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UndoSelection {
    /// Run to undo; `None` for the latest one, or for any if `tags` is not empty.
    pub run: Option<String>,
    /// Images with a tag, or plain tags of any repository. Empty for all of the run.
    pub tags: Vec<String>,
}

impl UndoSelection {
    /// Returns the selection of the arguments of `--undo`. A run is named as in the report of a
    /// cleanup; everything else is a tag. Layouts are named relative to `directory`, as in reports.
    pub fn of(arguments: &[String], directory: &Path) -> UndoSelection {
        let (runs, tags): (Vec<String>, Vec<String>) =
            arguments.iter().cloned().partition(|text| is_run(text));
        let resolved = |text: String| match text.parse::<ImageReference>() {
            Ok(image) if text.starts_with(LAYOUT_PREFIX) => {
                image.resolved_below(directory).to_string()
            }
            _ => text,
        };
        UndoSelection {
            run: runs.into_iter().next_back(),
            tags: tags.into_iter().map(resolved).collect(),
        }
    }

    /// Returns true if a tag is selected by its name.
    fn has(&self, repository: &Repository, tag: &Tag) -> bool {
        let full = format!("{repository}:{tag}");
        self.tags.is_empty()
            || self
                .tags
                .iter()
                .any(|text| *text == full || text == tag.as_str())
    }
}

/// Returns true for `<time>-<six hexadecimal digits>`.
fn is_run(text: &str) -> bool {
    text.len() == 23
        && text.split_once('-').is_some_and(|(time, random)| {
            chrono::NaiveDateTime::parse_from_str(time, "%Y%m%dT%H%M%SZ").is_ok()
                && random.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
}

/// Resources of an undo.
pub struct Undo<'a> {
    pub config: &'a Config,
    pub mode: Mode,
    pub stores: ImageStores,
    pub progress: Arc<dyn Progress>,
    /// Store of the holds; `None` without a record store, so that restored tags are not held.
    pub documents: Option<&'a Documents>,
    pub now: DateTime<Utc>,
}

/// Report of an undo.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UndoReport {
    pub dry_run: bool,
    pub restored: Vec<RestoredTag>,
    pub failed: Vec<UnrestoredTag>,
    /// Selected tags that no journal has.
    pub unknown: Vec<String>,
    pub warnings: Vec<String>,
}

/// A tag that was restored.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoredTag {
    pub image: Repository,
    pub tag: Tag,
    pub digest: Digest,
    pub run: String,
    /// Origin of the image; `None` in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<RestoredFrom>,
}

/// Origin of a restored image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RestoredFrom {
    /// The tag exists already.
    Present,
    RetiredTag,
    /// The manifest was still in the repository.
    Manifest,
    Journal,
    Archive,
}

impl RestoredFrom {
    fn words(self) -> &'static str {
        match self {
            RestoredFrom::Present => "it was there",
            RestoredFrom::RetiredTag => "from its retired tag",
            RestoredFrom::Manifest => "from the manifest, which was still there",
            RestoredFrom::Journal => "from the journal",
            RestoredFrom::Archive => "from the archive",
        }
    }
}

/// A tag that was not restored.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnrestoredTag {
    pub image: Repository,
    pub tag: Tag,
    pub digest: Digest,
    pub run: String,
    pub error: ItemError,
}

/// A change to undo.
struct Restoration<'a> {
    run: &'a str,
    change: &'a JournalChange,
}

/// Restores the selected tags of the journals `batches`.
pub async fn undo(
    batches: &[JournalBatch],
    selection: &UndoSelection,
    undo: &Undo<'_>,
) -> UndoReport {
    let latest = batches.iter().map(|batch| &batch.run).max();
    let run = match (&selection.run, selection.tags.is_empty()) {
        (Some(run), _) => Some(run),
        (None, true) => latest,
        (None, false) => None,
    };
    let mut report = UndoReport {
        dry_run: undo.mode != Mode::Apply,
        ..UndoReport::default()
    };
    // The latest change of a tag counts.
    let mut changes: BTreeMap<(&Repository, &Tag), Restoration<'_>> = BTreeMap::new();
    for batch in batches
        .iter()
        .filter(|batch| run.is_none_or(|run| batch.run == *run))
    {
        for change in &batch.changes {
            let restoration = Restoration {
                run: &batch.run,
                change,
            };
            if selection.has(&batch.repository, &change.tag) {
                let found = changes.get(&(&batch.repository, &change.tag));
                if found.is_none_or(|found| found.run <= restoration.run) {
                    changes.insert((&batch.repository, &change.tag), restoration);
                }
            }
        }
    }
    let named = |text: &&String| {
        !changes.keys().any(|(repository, tag)| {
            **text == format!("{repository}:{tag}") || text.as_str() == tag.as_str()
        })
    };
    report.unknown = selection.tags.iter().filter(named).cloned().collect();
    if selection.run.is_some() && !batches.iter().any(|batch| Some(&batch.run) == run) {
        report.unknown.extend(selection.run.clone());
    }
    let mut by_repository: BTreeMap<&Repository, Vec<Restoration<'_>>> = BTreeMap::new();
    for ((repository, _), restoration) in changes {
        by_repository
            .entry(repository)
            .or_default()
            .push(restoration);
    }
    for (repository, restorations) in by_repository {
        let manifests = batches
            .iter()
            .filter(|batch| batch.repository == *repository)
            .flat_map(|batch| &batch.manifests)
            .map(|manifest| (&manifest.digest, manifest))
            .collect();
        let restorer = RepositoryUndo {
            undo,
            repository,
            manifests,
        };
        restorer.restore(restorations, &mut report).await;
    }
    report
}

struct RepositoryUndo<'a> {
    undo: &'a Undo<'a>,
    repository: &'a Repository,
    /// Manifests of all journals about the repository.
    manifests: BTreeMap<&'a Digest, &'a JournalManifest>,
}

impl RepositoryUndo<'_> {
    async fn restore(&self, restorations: Vec<Restoration<'_>>, report: &mut UndoReport) {
        let mut restored: Vec<RestoredTag> = Vec::new();
        for restoration in restorations {
            let change = restoration.change;
            let result = match self.check_configured(change) {
                Ok(()) if self.undo.mode == Mode::Apply => self.restore_tag(change).await.map(Some),
                checked => checked.map(|()| None),
            };
            let from = match result {
                Ok(from) => from,
                Err(error) => {
                    report.failed.push(UnrestoredTag {
                        image: self.repository.clone(),
                        tag: change.tag.clone(),
                        digest: change.digest.clone(),
                        run: restoration.run.to_owned(),
                        error,
                    });
                    continue;
                }
            };
            restored.push(RestoredTag {
                image: self.repository.clone(),
                tag: change.tag.clone(),
                digest: change.digest.clone(),
                run: restoration.run.to_owned(),
                from,
            });
        }
        if self.undo.mode == Mode::Apply && !restored.is_empty() {
            let digests = restored.iter().map(|tag| tag.digest.clone()).collect();
            let warnings = self.restore_referrers(digests).await;
            report.warnings.extend(warnings);
            let tags: Vec<(Tag, Digest)> = restored
                .iter()
                .map(|tag| (tag.tag.clone(), tag.digest.clone()))
                .collect();
            let until = self.undo.now + TimeDelta::days(HOLD_DAYS);
            if let Err(error) = self.hold(&tags, Some(until)).await {
                report.warnings.push(format!(
                    "{}: the restored tags are not held: {error}",
                    self.repository
                ));
            }
        }
        report.restored.extend(restored);
    }

    /// Fails if the journal names a repository or an archive that is not configured. Everybody who
    /// may write records can write a journal, and it must not choose where images are written.
    fn check_configured(&self, change: &JournalChange) -> Result<(), ItemError> {
        let config = self.undo.config;
        let targets = targets(config);
        let all_canonical = |repositories: Vec<Repository>| -> BTreeSet<Repository> {
            repositories
                .iter()
                .map(|repository| config.canonical(repository))
                .collect()
        };
        let archives = all_canonical(targets.iter().flat_map(CleanupTarget::archives).collect());
        let mut known = all_canonical(
            targets
                .into_iter()
                .map(|target| target.repository)
                .collect(),
        );
        known.extend(archives.iter().cloned());
        let canonical = config.canonical(self.repository);
        let is_known = known.contains(&canonical) || Applications::of(config).contains(&canonical);
        let is_archive_known = change
            .archive
            .as_ref()
            .is_none_or(|archive| archives.contains(&config.canonical(&archive.repository)));
        if is_known && is_archive_known {
            return Ok(());
        }
        Err(
            ItemError::other("the repository or its archive is not in this configuration")
                .with_hint("undo with the configuration of the cleanup"),
        )
    }

    async fn restore_tag(&self, change: &JournalChange) -> Result<RestoredFrom, ItemError> {
        let stores = &self.undo.stores;
        let source = stores.of(self.repository);
        let tag = Reference::Tag(change.tag.clone());
        match source.resolve(self.repository, &tag).await? {
            Some(found) if found.digest == change.digest => return Ok(RestoredFrom::Present),
            Some(found) => {
                return Err(ItemError::other(format!(
                    "the tag names another image by now, {}",
                    found.digest
                ))
                .with_hint("delete or rename that tag, then undo again"));
            }
            None => {}
        }
        let was_there = source
            .resolve(self.repository, &Reference::Digest(change.digest.clone()))
            .await?
            .is_some();
        let from = match self.restore_manifest(&change.digest).await {
            Ok(()) if change.retired_to.is_some() => RestoredFrom::RetiredTag,
            Ok(()) if was_there => RestoredFrom::Manifest,
            Ok(()) => RestoredFrom::Journal,
            Err(error) => match &change.archive {
                Some(archive) => {
                    self.copy_from_archive(change, archive).await?;
                    return Ok(RestoredFrom::Archive);
                }
                None => return Err(error),
            },
        };
        let digest = Reference::Digest(change.digest.clone());
        let Some(manifest) = source.manifest(self.repository, &digest).await? else {
            return Err(missing(&change.digest));
        };
        let store = stores.writable(self.repository)?;
        store.put_manifest(self.repository, &tag, &manifest).await?;
        let found = source.resolve(self.repository, &tag).await?;
        if found.is_none_or(|found| found.digest != change.digest) {
            return Err(ItemError::other(
                "the registry accepted the tag, but does not list the image under it",
            ));
        }
        if let Some(retired) = &change.retired_to {
            let reference = Reference::Tag(retired.clone());
            let found = source.resolve(self.repository, &reference).await?;
            if found.is_some_and(|found| found.digest == change.digest) {
                // A retired tag that stays is harmless, and cleanup deletes it later.
                let _deleted = store.delete_tag(self.repository, retired).await?;
            }
        }
        Ok(from)
    }

    /// Makes sure that a manifest is in the repository with everything below it.
    async fn restore_manifest(&self, digest: &Digest) -> Result<(), ItemError> {
        // Children come before the indexes that list them.
        let mut order: Vec<(Digest, Manifest)> = Vec::new();
        let mut open = vec![digest.clone()];
        let mut seen: BTreeSet<Digest> = BTreeSet::new();
        for _ in 0..=MAX_INDEX_NESTING {
            let mut next = Vec::new();
            for digest in open {
                if !seen.insert(digest.clone()) {
                    continue;
                }
                let Some(manifest) = self.lost_manifest(&digest).await? else {
                    continue;
                };
                for child in manifest.children().into_iter().flatten() {
                    next.push(child.digest.clone());
                }
                order.push((digest, manifest));
            }
            open = next;
        }
        let stores = &self.undo.stores;
        let source = stores.of(self.repository);
        for (_, manifest) in &order {
            for blob in manifest.blobs() {
                if !source.has_blob(self.repository, blob).await? {
                    return Err(ItemError::other(format!(
                        "its content {} is gone from the registry",
                        blob.digest.short()
                    )));
                }
            }
        }
        let store = stores.writable(self.repository)?;
        for (digest, manifest) in order.into_iter().rev() {
            store
                .put_manifest(self.repository, &Reference::Digest(digest), &manifest)
                .await?;
        }
        Ok(())
    }

    /// Returns the manifest in the journal; `None` if it is still in the repository.
    async fn lost_manifest(&self, digest: &Digest) -> Result<Option<Manifest>, ItemError> {
        let source = self.undo.stores.of(self.repository);
        let reference = Reference::Digest(digest.clone());
        if source.resolve(self.repository, &reference).await?.is_some() {
            return Ok(None);
        }
        let journalled = self.manifests.get(digest).ok_or_else(|| missing(digest))?;
        let bytes = Bytes::from(journalled.content.clone());
        let manifest = Manifest::parse(bytes, Some(&journalled.media_type), digest.algorithm())
            .map_err(|error| ItemError::other(format!("the journal is damaged: {error}")))?;
        if manifest.digest != *digest {
            return Err(ItemError::other(format!(
                "the journal is damaged: it has another content for {digest}"
            )));
        }
        Ok(Some(manifest))
    }

    /// Restores the journalled manifests that refer to one of `subjects`, to a manifest below them,
    /// or to another referrer. Returns warnings.
    async fn restore_referrers(&self, subjects: Vec<Digest>) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut restored: BTreeSet<Digest> = subjects.into_iter().collect();
        let parsed: Vec<(&Digest, Manifest)> = self
            .manifests
            .iter()
            .filter_map(|(digest, journalled)| {
                let bytes = Bytes::from(journalled.content.clone());
                let media_type = Some(journalled.media_type.as_str());
                let manifest = Manifest::parse(bytes, media_type, digest.algorithm()).ok()?;
                Some((*digest, manifest))
            })
            .collect();
        loop {
            let next: Vec<(&Digest, &Manifest)> = parsed
                .iter()
                .filter(|(digest, manifest)| {
                    let subject = manifest.subject.as_ref();
                    !restored.contains(*digest)
                        && (subject.is_some_and(|subject| restored.contains(&subject.digest))
                            || is_below(digest, &restored, &parsed))
                })
                .map(|(digest, manifest)| (*digest, manifest))
                .collect();
            if next.is_empty() {
                return warnings;
            }
            for (digest, manifest) in next {
                restored.insert(digest.clone());
                if manifest.subject.is_none() {
                    continue;
                }
                if let Err(error) = self.restore_manifest(digest).await {
                    warnings.push(format!(
                        "{}: the attachment {} was not restored: {error}",
                        self.repository,
                        digest.short()
                    ));
                }
            }
        }
    }

    async fn copy_from_archive(
        &self,
        change: &JournalChange,
        archive: &ImageReference,
    ) -> Result<(), ItemError> {
        let stores = &self.undo.stores;
        let source_tags: BTreeSet<Tag> = stores
            .of(&archive.repository)
            .tags(&archive.repository)
            .await?
            .unwrap_or_default()
            .into_iter()
            .map(|listed| listed.tag)
            .filter(Tag::is_attachment)
            .collect();
        let transfer = Transfer::new(stores.clone(), stores.clone(), self.undo.progress.clone());
        let request = CopyRequest {
            item: &format!("{archive} -> {}:{}", self.repository, change.tag),
            from: &archive.repository,
            reference: Reference::Digest(change.digest.clone()),
            to: self.repository,
            tag: &change.tag,
            expected: ExpectedTag::Absent,
            filter: &PlatformFilter::All,
            attachments: Attachments::Copy {
                source_tags: &source_tags,
            },
        };
        transfer.copy(request).await.map(drop)
    }

    /// Holds or releases tags.
    async fn hold(
        &self,
        tags: &[(Tag, Digest)],
        until: Option<DateTime<Utc>>,
    ) -> Result<(), ItemError> {
        let Some(documents) = self.undo.documents else {
            return Ok(());
        };
        let canonical = self.undo.config.canonical(self.repository);
        let name = history_name(self.undo.config, &canonical);
        let stored = documents.read::<TagHistory>(&name).await?;
        let mut history = stored.content.clone().unwrap_or_default();
        for (tag, digest) in tags {
            let hold = TagHold {
                changed_at: self.undo.now,
                until,
            };
            history.holds.insert(tag.clone(), hold);
            // A restored tag waits again before it is deleted. Its image is not new.
            let sighting = TagSighting {
                digest: digest.clone(),
                first_seen: None,
                waiting_since: None,
            };
            history.tags.insert(tag.clone(), sighting);
        }
        documents.write(&name, &stored, &history).await
    }
}

/// Returns true if a restored index lists the manifest.
fn is_below(digest: &Digest, restored: &BTreeSet<Digest>, parsed: &[(&Digest, Manifest)]) -> bool {
    parsed
        .iter()
        .filter(|(parent, _)| restored.contains(*parent))
        .filter_map(|(_, manifest)| manifest.children())
        .flatten()
        .any(|child| child.digest == *digest)
}

fn missing(digest: &Digest) -> ItemError {
    ItemError::other(format!(
        "the manifest {} is gone, and no journal has it",
        digest.short()
    ))
}

/// Ends the holds on tags of the repositories of the configuration. Returns the released tags.
///
/// Without tags in `selection` all of them are released.
pub async fn release(
    selection: &UndoSelection,
    config: &Config,
    documents: &Documents,
    now: DateTime<Utc>,
) -> Result<Vec<ImageReference>, ItemError> {
    let mut released = Vec::new();
    for target in targets(config) {
        let name = history_name(config, &config.canonical(&target.repository));
        let stored = documents.read::<TagHistory>(&name).await?;
        let Some(mut history) = stored.content.clone() else {
            continue;
        };
        let held: Vec<Tag> = history
            .holds
            .keys()
            .filter(|tag| history.held_until(tag, now).is_some())
            .filter(|tag| selection.has(&target.repository, tag))
            .cloned()
            .collect();
        for tag in held {
            let hold = TagHold {
                changed_at: now,
                until: None,
            };
            history.holds.insert(tag.clone(), hold);
            released.push(ImageReference {
                repository: target.repository.clone(),
                tag: Some(tag),
                digest: None,
            });
        }
        documents.write(&name, &stored, &history).await?;
    }
    Ok(released)
}

impl UndoReport {
    /// Returns the exit code: failed if a tag could not be restored.
    pub fn exit(&self) -> Exit {
        if self.failed.is_empty() && self.unknown.is_empty() && self.warnings.is_empty() {
            Exit::Done
        } else {
            Exit::Failed
        }
    }

    /// Returns the report as text.
    pub fn document(&self) -> Document {
        let word = if self.dry_run {
            "to restore"
        } else {
            "restored"
        };
        let restored = self.restored.iter().map(|tag| {
            vec![
                Cell::plain(format!("{}:{}", tag.image, tag.tag)),
                Cell::toned(word, Tone::Good),
                Cell::plain(tag.from.map_or("", RestoredFrom::words)),
            ]
        });
        let failed = self.failed.iter().map(|tag| {
            vec![
                Cell::plain(format!("{}:{}", tag.image, tag.tag)),
                Cell::toned("not restored", Tone::Bad),
                Cell::plain(tag.error.to_string()),
            ]
        });
        let rows: Vec<Vec<Cell>> = restored.chain(failed).collect();
        let mut blocks = Vec::new();
        if !rows.is_empty() {
            blocks.push(Block::Table(Table {
                title: None,
                columns: ["Image", "Result", "Detail"].map(str::to_owned).to_vec(),
                rows,
            }));
        }
        let unknown = self.unknown.iter().map(|text| {
            format!("error: no journal has `{text}`; name a run or a tag of an earlier cleanup")
        });
        let warnings = self.warnings.iter().map(|text| format!("warning: {text}"));
        let lines: Vec<String> = unknown.chain(warnings).collect();
        if !lines.is_empty() {
            blocks.push(Block::Lines(lines));
        }
        blocks.push(Block::Summary(Summary {
            title: "Undo".to_owned(),
            dry_run: self.dry_run,
            duration: None,
            rows: vec![
                SummaryRow::new(
                    if self.dry_run {
                        "To restore"
                    } else {
                        "Restored"
                    },
                    self.restored.len(),
                ),
                SummaryRow::new("Not restored", self.failed.len() + self.unknown.len()),
            ],
        }));
        Document { blocks }
    }
}
