//! `index.json`: which manifest a tag names, and changing that without touching what others wrote
//! into the file.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::model::labels;
use crate::model::media_type;
use crate::model::{Descriptor, Digest, ImageReference, Repository, Tag};
use crate::registry::{Deletion, TagSeen};

/// The document as it was read: what is not understood is written back.
pub(super) struct Index {
    document: Map<String, Value>,
    entries: Vec<Value>,
}

/// Why the entries of a tag do not say which manifest it names.
#[derive(Debug, Error)]
pub(super) enum EntryError {
    #[error("the entry of the tag cannot be read")]
    Malformed(#[source] serde_json::Error),
    #[error("several entries have the tag, for different manifests")]
    Ambiguous,
}

/// How an entry is named. A tag alone comes before a tag at the end of a reference, which may be of
/// another repository.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum NamedBy {
    Tag,
    Reference,
}

impl Index {
    pub(super) fn empty() -> Index {
        let mut document = Map::new();
        document.insert("schemaVersion".to_owned(), json!(2));
        document.insert("mediaType".to_owned(), json!(media_type::OCI_INDEX));
        document.insert("manifests".to_owned(), json!([]));
        Index {
            document,
            entries: Vec::new(),
        }
    }

    pub(super) fn parse(text: &[u8]) -> Result<Index, serde_json::Error> {
        let mut document: Map<String, Value> = serde_json::from_slice(text)?;
        let entries = match document.get_mut("manifests").map(Value::take) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err(serde_json::Error::custom("`manifests` is no list")),
        };
        Ok(Index { document, entries })
    }

    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        // The key keeps the position that it had.
        self.document
            .insert("manifests".to_owned(), Value::Array(self.entries));
        Value::Object(self.document).to_string().into_bytes()
    }

    /// Returns every tag once, with its digest where that is clear.
    pub(super) fn tags(&self) -> Vec<TagSeen> {
        let mut by_tag: BTreeMap<Tag, Vec<(NamedBy, &Value)>> = BTreeMap::new();
        for entry in &self.entries {
            if let Some((tag, named_by)) = name(entry) {
                by_tag.entry(tag).or_default().push((named_by, entry));
            }
        }
        by_tag
            .into_iter()
            .map(|(tag, entries)| {
                let digest = choose(&entries)
                    .ok()
                    .flatten()
                    .map(|descriptor| descriptor.digest);
                TagSeen {
                    digest,
                    ..TagSeen::named(tag)
                }
            })
            .collect()
    }

    /// Returns the descriptor of the manifest that `tag` names, or `None` when nothing has that
    /// name.
    pub(super) fn find(&self, tag: &Tag) -> Result<Option<Descriptor>, EntryError> {
        let entries: Vec<_> = self
            .entries
            .iter()
            .filter_map(|entry| {
                name(entry)
                    .filter(|(found, _)| found == tag)
                    .map(|(_, named_by)| (named_by, entry))
            })
            .collect();
        choose(&entries)
    }

    /// Makes `tag` name the manifest, and returns whether that changed anything. The entry that had
    /// the tag loses its place to the new one, so that the order of the others stays.
    pub(super) fn set(&mut self, tag: &Tag, manifest: &Descriptor) -> bool {
        let is_tag =
            |entry: &Value| matches!(name(entry), Some((found, NamedBy::Tag)) if found == *tag);
        let is_right = |entry: &Value| {
            Descriptor::deserialize(entry).is_ok_and(|found| {
                found.digest == manifest.digest
                    && found.size == manifest.size
                    && found.media_type == manifest.media_type
            })
        };
        let mut old = self.entries.iter().filter(|entry| is_tag(entry));
        if old.next().is_some_and(is_right) && old.next().is_none() {
            return false;
        }
        let position = self
            .entries
            .iter()
            .position(is_tag)
            .unwrap_or(self.entries.len());
        self.entries.retain(|entry| !is_tag(entry));
        self.entries.insert(
            position,
            json!({
                "mediaType": manifest.media_type,
                "digest": manifest.digest,
                "size": manifest.size,
                "annotations": { labels::REF_NAME: tag },
            }),
        );
        true
    }

    /// Removes the entries that have `tag`. When they are of different manifests, it is not
    /// clear which of them was meant.
    pub(super) fn remove_tag(&mut self, tag: &Tag) -> Result<Deletion, EntryError> {
        let is_named = |entry: &Value| name(entry).is_some_and(|(found, _)| found == *tag);
        let named = self
            .entries
            .iter()
            .filter(|entry| is_named(entry))
            .map(Descriptor::deserialize);
        let named: Vec<Descriptor> = named
            .collect::<Result<_, _>>()
            .map_err(EntryError::Malformed)?;
        if named
            .windows(2)
            .any(|pair| pair[0].digest != pair[1].digest)
        {
            return Err(EntryError::Ambiguous);
        }
        self.entries.retain(|entry| !is_named(entry));
        Ok(if named.is_empty() {
            Deletion::WasAbsent
        } else {
            Deletion::Done
        })
    }

    /// Removes the entries of a manifest that have no name. Names are deleted one by one, also
    /// those that are no tags: somebody gave them.
    pub(super) fn remove_manifest(&mut self, digest: &Digest) -> Deletion {
        let before = self.entries.len();
        let is_meant =
            |entry: &Value| entry.get("digest").and_then(Value::as_str) == Some(digest.as_str());
        let has_name = |entry: &Value| {
            entry
                .get("annotations")
                .is_some_and(|annotations| annotations.get(labels::REF_NAME).is_some())
        };
        self.entries
            .retain(|entry| !is_meant(entry) || has_name(entry));
        match self.entries.iter().any(is_meant) {
            true => Deletion::StillNamed,
            false if self.entries.len() < before => Deletion::Done,
            false => Deletion::WasAbsent,
        }
    }

    /// Returns what the entries refer to. Fails when one of them cannot be read.
    pub(super) fn descriptors(&self) -> Result<Vec<Descriptor>, serde_json::Error> {
        self.entries.iter().map(Descriptor::deserialize).collect()
    }

    /// Returns what the entries that can be read refer to.
    pub(super) fn readable(&self) -> impl Iterator<Item = Descriptor> {
        self.entries
            .iter()
            .filter_map(|entry| Descriptor::deserialize(entry).ok())
    }
}

fn name(entry: &Value) -> Option<(Tag, NamedBy)> {
    let name = entry.get("annotations")?.get(labels::REF_NAME)?.as_str()?;
    if let Ok(tag) = name.parse() {
        return Some((tag, NamedBy::Tag));
    }
    match name.parse() {
        Ok(ImageReference {
            repository: Repository::Remote { .. },
            tag: Some(tag),
            ..
        }) => Some((tag, NamedBy::Reference)),
        _ => None,
    }
}

fn choose(entries: &[(NamedBy, &Value)]) -> Result<Option<Descriptor>, EntryError> {
    let Some(best) = entries.iter().map(|(named_by, _)| *named_by).min() else {
        return Ok(None);
    };
    let mut chosen: Option<Descriptor> = None;
    for (_, entry) in entries.iter().filter(|(named_by, _)| *named_by == best) {
        let descriptor = Descriptor::deserialize(*entry).map_err(EntryError::Malformed)?;
        if chosen
            .as_ref()
            .is_some_and(|chosen| chosen.digest != descriptor.digest)
        {
            return Err(EntryError::Ambiguous);
        }
        chosen = Some(descriptor);
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fuzz_tests::fuzz;

    #[test]
    fn fuzzing_indexes_of_layouts() {
        let digest = Digest::sha256(b"content");
        let seed = format!(
            r#"{{"schemaVersion":2,"other":1,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":7,"annotations":{{"org.opencontainers.image.ref.name":"1.0"}}}},{{"digest":null}},7]}}"#
        );
        let (tag, one): (Tag, _) = (
            "1.0".parse().expect("a tag"),
            Descriptor::new("application/vnd.oci.image.index.v1+json", digest, 9),
        );
        fuzz("indexes of layouts", &[&seed], |input| {
            let Ok(mut index) = Index::parse(input) else {
                return;
            };
            drop((
                index.tags(),
                index.find(&tag),
                index.descriptors(),
                index.readable().count(),
            ));
            index.set(&tag, &one);
            let mut again = Index::parse(&index.into_bytes()).expect("what was written");
            assert_eq!(
                again.find(&tag).ok().flatten().map(|found| found.digest),
                Some(one.digest.clone())
            );
            drop((again.remove_tag(&tag), again.remove_manifest(&one.digest)));
        });
    }
}
