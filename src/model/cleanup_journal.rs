//! The cleanup journal: the changes of a cleanup, written before they are made, with everything
//! that is needed to undo them.

use std::collections::BTreeSet;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Digest, ImageReference, Repository, Tag};

/// Changes in one repository that were written to the journal together.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalBatch {
    /// Name of the run, which starts with its time.
    pub run: String,
    /// Number of the batch in its run, from 1.
    pub batch: u32,
    /// Time at which the batch was written.
    pub written_at: DateTime<Utc>,
    pub repository: Repository,
    /// Tags that are deleted or moved.
    #[serde(default)]
    pub changes: Vec<JournalChange>,
    /// Manifests that are deleted by digest.
    #[serde(default)]
    pub manifests: Vec<JournalManifest>,
}

/// A tag that is deleted or moved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalChange {
    pub tag: Tag,
    /// Digest that the tag names.
    pub digest: Digest,
    /// Reason for the deletion, as in the report.
    pub reason: String,
    /// Tag that the image is moved to; `None` if it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_to: Option<Tag>,
    /// Image in the archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ImageReference>,
}

/// A manifest that is deleted by digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalManifest {
    pub digest: Digest,
    /// Media type that the registry reported.
    pub media_type: String,
    /// The exact text of the manifest.
    pub content: String,
}

impl JournalBatch {
    /// Returns the name of the batch's document.
    pub fn name(&self) -> String {
        format!("{}.{}", self.run, self.batch)
    }

    /// Returns the batch with the directories of layouts relative to `base`, where they are below it,
    /// so that it can be read in another checkout.
    #[must_use]
    pub fn relative_to(self, base: &Path) -> JournalBatch {
        self.map_repositories(|repository| relative_to(repository, base))
    }

    /// Returns the batch with the directories of layouts resolved against `base`.
    #[must_use]
    pub fn resolved_below(self, base: &Path) -> JournalBatch {
        self.map_repositories(|repository| repository.resolved_below(base))
    }

    fn map_repositories(mut self, map: impl Fn(&Repository) -> Repository) -> JournalBatch {
        self.repository = map(&self.repository);
        for archive in self
            .changes
            .iter_mut()
            .filter_map(|change| change.archive.as_mut())
        {
            archive.repository = map(&archive.repository);
        }
        self
    }

    /// Adds the content of `other`.
    pub fn merge(&mut self, other: JournalBatch) {
        self.written_at = self.written_at.max(other.written_at);
        merge_sorted(&mut self.changes, other.changes);
        merge_sorted(&mut self.manifests, other.manifests);
    }
}

/// Returns a layout below `base` with its directory relative to it, and any other repository
/// unchanged.
pub fn relative_to(repository: &Repository, base: &Path) -> Repository {
    match repository {
        Repository::Remote { .. } => repository.clone(),
        Repository::Layout { directory } => Repository::Layout {
            directory: directory.strip_prefix(base).unwrap_or(directory).to_owned(),
        },
    }
}

fn merge_sorted<T: Clone + Ord>(own: &mut Vec<T>, other: Vec<T>) {
    let all: BTreeSet<T> = own.drain(..).chain(other).collect();
    own.extend(all);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_can_be_read_in_another_checkout() {
        let batch = |repository: &str, archive: &str| JournalBatch {
            run: "20260301T000000Z-0a1b2c".to_owned(),
            batch: 1,
            written_at: DateTime::from_timestamp(1_790_000_000, 0).expect("a time"),
            repository: repository.parse().expect("a repository"),
            changes: vec![JournalChange {
                tag: "1.0".parse().expect("a tag"),
                digest: Digest::sha256(b""),
                reason: "tooOld".to_owned(),
                retired_to: None,
                archive: Some(archive.parse().expect("an image")),
            }],
            manifests: Vec::new(),
        };
        let written = batch("ocidir:///one/mirrors/a", "ocidir:///one/cold/a:1.0")
            .relative_to(Path::new("/one"));
        assert_eq!(written, batch("ocidir://mirrors/a", "ocidir://cold/a:1.0"));
        let text = serde_json::to_string(&written).expect("JSON");
        let read: JournalBatch = serde_json::from_str(&text).expect("a batch");
        assert_eq!(
            read.resolved_below(Path::new("/other")),
            batch("ocidir:///other/mirrors/a", "ocidir:///other/cold/a:1.0")
        );
        let elsewhere = batch("ocidir:///far/a", "r.example/cold/a:1.0");
        assert_eq!(elsewhere.clone().relative_to(Path::new("/one")), elsewhere);
    }
}
