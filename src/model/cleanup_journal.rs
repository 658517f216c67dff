//! The cleanup journal: the changes of a cleanup, written before they are made, with everything
//! that is needed to undo them.

use std::collections::BTreeSet;

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

    /// Adds the content of `other`.
    pub fn merge(&mut self, other: JournalBatch) {
        self.written_at = self.written_at.max(other.written_at);
        merge_sorted(&mut self.changes, other.changes);
        merge_sorted(&mut self.manifests, other.manifests);
    }
}

fn merge_sorted<T: Clone + Ord>(own: &mut Vec<T>, other: Vec<T>) {
    let all: BTreeSet<T> = own.drain(..).chain(other).collect();
    own.extend(all);
}
