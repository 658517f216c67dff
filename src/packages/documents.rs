//! Documents: small files in the record store that outlive a run, such as the state of tags between
//! cleanups and the cleanup journal.
//!
//! Two writers at once lose nothing: each writes a new file, and readers merge all existing files.
//! A file names the files that it replaces, which are then deleted, or ignored if the store forbids
//! deletions. The loss of a document may delay a deletion, but must never cause one.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::records::{Records, log_leftover_files};
use super::{EncodedName, FileKey, FileName, ListedFile, MAX_FILE_SIZE, PackageScope};
use crate::error::{ItemError, ItemErrorKind};
use crate::model::{JournalBatch, TagHistory};

/// Maximum number of files of one document. A document that is too large for one file is
/// divided by [`StateDocument::parts`].
const MAX_PARTS: usize = 64;

/// Maximum number of tags in one file of a tag history. A tag has about 250 bytes, and at most 400.
const MAX_TAGS_IN_A_PART: usize = 40_000;

/// Maximum number of times that a document is read again because its files were replaced during the
/// read.
const MAX_READS: usize = 8;

/// Content of a document.
///
/// [`merge`](StateDocument::merge) is commutative, associative and idempotent, so that the order in
/// which files are read does not matter.
pub trait StateDocument: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync {
    /// Kind of the document, the first word of its file names.
    const KIND: &'static str;
    /// Version of the format. A file with a higher version is an error.
    const SCHEMA: u32;

    /// Adds the content of `other`.
    fn merge(&mut self, other: Self);

    /// Returns the content as parts that each fit into one file, at most 64. Merging them gives the
    /// content again.
    fn parts(&self) -> Vec<Self> {
        vec![self.clone()]
    }
}

/// A document as it was read.
#[derive(Clone, Debug)]
pub struct StoredDocument<D> {
    /// Merged content; `None` if there is no file.
    pub content: Option<D>,
    /// Files that the content was merged from, or that it replaces.
    files: Vec<ListedFile>,
}

impl<D> StoredDocument<D> {
    /// Returns a document that does not exist yet.
    pub fn absent() -> StoredDocument<D> {
        StoredDocument {
            content: None,
            files: Vec::new(),
        }
    }

    /// Returns a document with this content.
    #[cfg(test)]
    pub(crate) fn of(content: D) -> StoredDocument<D> {
        StoredDocument {
            content: Some(content),
            files: Vec::new(),
        }
    }
}

/// Content of a file.
#[derive(Deserialize, Serialize)]
struct DocumentFile<D> {
    schema: u32,
    kind: String,
    name: String,
    /// Files that are replaced by this file and the other files of the same time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replaces: Vec<String>,
    content: D,
}

/// Fields of a file that every version has.
#[derive(Deserialize)]
struct DocumentFileHead {
    schema: u32,
    kind: String,
    name: String,
}

/// The documents of one installation. The record store is listed once.
pub struct Documents {
    records: Records,
    listing: OnceCell<Vec<ListedFile>>,
}

impl Documents {
    /// Returns the documents in the store of `records`.
    pub fn new(records: Records) -> Documents {
        Documents {
            records,
            listing: OnceCell::new(),
        }
    }

    /// Reads a document.
    ///
    /// Fails if one of its files cannot be read, is damaged, or was written by a newer version.
    pub async fn read<D: StateDocument>(&self, name: &str) -> Result<StoredDocument<D>, ItemError> {
        let mut files = files_of::<D>(name, self.listing().await?);
        for _ in 0..MAX_READS {
            if let Some(stored) = self.merged::<D>(name, files).await? {
                return Ok(stored);
            }
            files = files_of::<D>(name, &self.list().await?);
        }
        Err(self.records.error(
            format!("read the document {} {name}", D::KIND),
            ItemErrorKind::Unsettled,
            "its files change faster than they can be read",
        ))
    }

    /// Writes a document that was read as `previous`, then deletes the files that it replaces.
    ///
    /// If the content is the same, no file is written.
    pub async fn write<D: StateDocument>(
        &self,
        name: &str,
        previous: &StoredDocument<D>,
        content: &D,
    ) -> Result<(), ItemError> {
        let parts = content.parts();
        if previous.content.as_ref() == Some(content) && previous.files.len() <= parts.len() {
            return Ok(());
        }
        let action = || format!("write the document {} {name}", D::KIND);
        if parts.len() > MAX_PARTS {
            return Err(self.records.error(
                action(),
                ItemErrorKind::Malformed,
                "it has too many parts",
            ));
        }
        let newest = previous
            .files
            .iter()
            .map(|file| file.name.file.time())
            .max();
        for (number, part) in parts.iter().enumerate() {
            // Only the last file replaces the earlier ones: until it is written they still count.
            let is_last = number + 1 == parts.len();
            let replaces = previous
                .files
                .iter()
                .filter(|_| is_last)
                .map(|file| file.name.file.to_string())
                .collect();
            let envelope = DocumentFile {
                schema: D::SCHEMA,
                kind: D::KIND.to_owned(),
                name: name.to_owned(),
                replaces,
                content: part,
            };
            let bytes = serde_json::to_vec(&envelope).map_err(|error| {
                self.records
                    .error(action(), ItemErrorKind::Malformed, "")
                    .caused_by(error)
            })?;
            if bytes.len() > MAX_FILE_SIZE {
                let detail = format!("it would have more than {MAX_FILE_SIZE} bytes");
                return Err(self
                    .records
                    .error(action(), ItemErrorKind::Malformed, &detail));
            }
            self.records
                .put_file(subject::<D>(name, number), newest, Bytes::from(bytes))
                .await?;
        }
        let mut cleanup_error = None;
        for file in &previous.files {
            cleanup_error = self.records.delete_file(file).await.err().or(cleanup_error);
        }
        if let Some(error) = cleanup_error {
            log_leftover_files(&format!("the document {} {name}", D::KIND), &error);
        }
        Ok(())
    }

    /// Returns the names of all documents of this kind, sorted. Names whose encoding was shortened
    /// are missing.
    pub async fn names<D: StateDocument>(&self) -> Result<Vec<String>, ItemError> {
        let start = format!("{} ", D::KIND);
        let names: BTreeSet<String> = self
            .listing()
            .await?
            .iter()
            .filter_map(|file| file.name.file.subject.decode())
            .filter_map(|subject| {
                let (name, number) = subject.strip_prefix(&start)?.rsplit_once(' ')?;
                number.parse::<usize>().ok()?;
                Some(name.to_owned())
            })
            .collect();
        Ok(names.into_iter().collect())
    }

    /// Deletes a document. Does nothing if it does not exist.
    pub async fn delete<D: StateDocument>(&self, name: &str) -> Result<(), ItemError> {
        for file in files_of::<D>(name, self.listing().await?) {
            self.records.delete_file(&file).await?;
        }
        Ok(())
    }

    async fn listing(&self) -> Result<&Vec<ListedFile>, ItemError> {
        self.listing.get_or_try_init(|| self.list()).await
    }

    async fn list(&self) -> Result<Vec<ListedFile>, ItemError> {
        let scope = PackageScope::Package(self.records.data_package());
        Ok(self.records.list(&scope).await?.files)
    }

    /// Returns the content of `files`, the newest first; `None` if one was deleted in the meantime.
    async fn merged<D: StateDocument>(
        &self,
        name: &str,
        files: Vec<ListedFile>,
    ) -> Result<Option<StoredDocument<D>>, ItemError> {
        let mut replaced: BTreeSet<String> = BTreeSet::new();
        let mut content: Option<D> = None;
        let mut envelopes: Vec<(String, DocumentFile<D>)> = Vec::new();
        for file in &files {
            if replaced.contains(&file.name.file.to_string()) {
                continue;
            }
            let Some(bytes) = self.records.get_file(&file.name).await? else {
                return Ok(None);
            };
            let envelope = parse::<D>(name, &file.name, &bytes).map_err(|detail| {
                let action = format!("read {}", file.name);
                self.records
                    .error(action, ItemErrorKind::Malformed, &detail)
            })?;
            replaced.extend(envelope.replaces.iter().cloned());
            envelopes.push((file.name.file.to_string(), envelope));
        }
        for (_, envelope) in envelopes
            .into_iter()
            .filter(|(file, _)| !replaced.contains(file))
        {
            match &mut content {
                Some(content) => content.merge(envelope.content),
                None => content = Some(envelope.content),
            }
        }
        Ok(Some(StoredDocument { content, files }))
    }
}

/// Returns the files of a document among `files`, the newest first.
fn files_of<D: StateDocument>(name: &str, files: &[ListedFile]) -> Vec<ListedFile> {
    let subjects: BTreeSet<EncodedName> = (0..MAX_PARTS)
        .map(|number| subject::<D>(name, number))
        .collect();
    let mut files: Vec<ListedFile> = files
        .iter()
        .filter(|file| subjects.contains(&file.name.file.subject))
        .cloned()
        .collect();
    files.sort_by_key(|file| std::cmp::Reverse(file.name.file.time()));
    files
}

fn subject<D: StateDocument>(name: &str, number: usize) -> EncodedName {
    EncodedName::of(&format!("{} {name} {number}", D::KIND))
}

/// Parses a file of a document. The error describes the problem.
fn parse<D: StateDocument>(
    name: &str,
    file: &FileName,
    bytes: &[u8],
) -> Result<DocumentFile<D>, String> {
    if !FileKey::matches(&file.file, bytes) {
        return Err("its content does not match the hash in its name".to_owned());
    }
    let head: DocumentFileHead =
        serde_json::from_slice(bytes).map_err(|error| format!("it is not a document: {error}"))?;
    if head.kind != D::KIND || head.name != name {
        return Err(format!("it is the document {} {}", head.kind, head.name));
    }
    if head.schema > D::SCHEMA {
        return Err(format!(
            "it has the format {}, and this version of imglife reads up to {}; install a newer one",
            head.schema,
            D::SCHEMA
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| format!("its content is not valid: {error}"))
}

impl StateDocument for TagHistory {
    const KIND: &'static str = "cleanup-tags";
    const SCHEMA: u32 = 1;

    fn merge(&mut self, other: TagHistory) {
        TagHistory::merge(self, other);
    }

    /// Divides the tags by their names, so that a part stays below the maximum size of a file.
    fn parts(&self) -> Vec<TagHistory> {
        let mut parts = vec![TagHistory::default(); self.tags.len().div_ceil(MAX_TAGS_IN_A_PART)];
        for (position, (tag, sighting)) in self.tags.iter().enumerate() {
            parts[position / MAX_TAGS_IN_A_PART]
                .tags
                .insert(tag.clone(), sighting.clone());
        }
        if parts.is_empty() {
            parts.push(TagHistory::default());
        }
        parts[0].holds.clone_from(&self.holds);
        parts[0].retired.clone_from(&self.retired);
        parts
    }
}

impl StateDocument for JournalBatch {
    const KIND: &'static str = "cleanup-journal";
    const SCHEMA: u32 = 1;

    fn merge(&mut self, other: JournalBatch) {
        JournalBatch::merge(self, other);
    }
}
