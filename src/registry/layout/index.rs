//! `index.json`: the manifests that tags name. Changes keep everything that other tools wrote into
//! the file.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::model::labels;
use crate::model::media_type;
use crate::model::{Descriptor, Digest, ImageReference, Repository, Tag};
use crate::registry::store::{Deletion, ListedTag};

/// The document. Unknown content is kept and written back.
pub(super) struct LayoutIndex {
    document: Map<String, Value>,
    entries: Vec<Value>,
}

/// Reason why the entries of a tag do not name one manifest.
#[derive(Debug, Error)]
pub(super) enum IndexEntryError {
    #[error("the entry of the tag cannot be read")]
    Malformed(#[source] serde_json::Error),
    #[error("several entries have the tag, for different manifests")]
    Ambiguous,
}

/// Form of the name of an entry. A plain tag takes precedence over a full reference, which may name
/// another repository.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum NameForm {
    Tag,
    Reference,
}

impl LayoutIndex {
    pub(super) fn empty() -> LayoutIndex {
        let mut document = Map::new();
        document.insert("schemaVersion".to_owned(), json!(2));
        document.insert("mediaType".to_owned(), json!(media_type::OCI_INDEX));
        document.insert("manifests".to_owned(), json!([]));
        LayoutIndex {
            document,
            entries: Vec::new(),
        }
    }

    pub(super) fn parse(text: &[u8]) -> Result<LayoutIndex, serde_json::Error> {
        let mut document: Map<String, Value> = serde_json::from_slice(text)?;
        let entries = match document.get_mut("manifests").map(Value::take) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err(serde_json::Error::custom("`manifests` is not a list")),
        };
        Ok(LayoutIndex { document, entries })
    }

    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        // The key keeps its position.
        self.document
            .insert("manifests".to_owned(), Value::Array(self.entries));
        Value::Object(self.document).to_string().into_bytes()
    }

    /// Returns every tag once, with its digest if that is unambiguous.
    pub(super) fn tags(&self) -> Vec<ListedTag> {
        let mut by_tag: BTreeMap<Tag, Vec<(NameForm, &Value)>> = BTreeMap::new();
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
                let is_reference = entries
                    .iter()
                    .all(|(named_by, _)| *named_by == NameForm::Reference);
                ListedTag {
                    digest,
                    is_reference,
                    ..ListedTag::named(tag)
                }
            })
            .collect()
    }

    /// Returns the descriptor of the manifest that `tag` names, or `None` if no entry has that
    /// name.
    pub(super) fn find(&self, tag: &Tag) -> Result<Option<Descriptor>, IndexEntryError> {
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

    /// Makes `tag` name the manifest. Returns true if that changed the index.
    ///
    /// The new entry replaces the old one at its position, so that the order of the others stays.
    pub(super) fn set(&mut self, tag: &Tag, manifest: &Descriptor) -> bool {
        let is_tag =
            |entry: &Value| matches!(name(entry), Some((found, NameForm::Tag)) if found == *tag);
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

    /// Removes the entries that have `tag`. Fails if they name different manifests.
    ///
    /// Entries that are named by a full reference stay: the tag in it belongs to another
    /// repository.
    pub(super) fn remove_tag(&mut self, tag: &Tag) -> Result<Deletion, IndexEntryError> {
        let is_named =
            |entry: &Value| matches!(name(entry), Some((found, NameForm::Tag)) if found == *tag);
        let named = self
            .entries
            .iter()
            .filter(|entry| is_named(entry))
            .map(Descriptor::deserialize);
        let named: Vec<Descriptor> = named
            .collect::<Result<_, _>>()
            .map_err(IndexEntryError::Malformed)?;
        if named
            .windows(2)
            .any(|pair| pair[0].digest != pair[1].digest)
        {
            return Err(IndexEntryError::Ambiguous);
        }
        self.entries.retain(|entry| !is_named(entry));
        Ok(if named.is_empty() {
            Deletion::NotFound
        } else {
            Deletion::Deleted
        })
    }

    /// Removes the entries of a manifest that have no name.
    ///
    /// Named entries stay, even if the name is not a valid tag, because another tool set it.
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
            false if self.entries.len() < before => Deletion::Deleted,
            false => Deletion::NotFound,
        }
    }

    /// Returns the descriptors of all entries. Fails if one of them is invalid.
    pub(super) fn descriptors(&self) -> Result<Vec<Descriptor>, serde_json::Error> {
        self.entries.iter().map(Descriptor::deserialize).collect()
    }

    /// Returns the descriptors of all valid entries.
    pub(super) fn readable(&self) -> impl Iterator<Item = Descriptor> {
        self.entries
            .iter()
            .filter_map(|entry| Descriptor::deserialize(entry).ok())
    }
}

fn name(entry: &Value) -> Option<(Tag, NameForm)> {
    let name = entry.get("annotations")?.get(labels::REF_NAME)?.as_str()?;
    if let Ok(tag) = name.parse() {
        return Some((tag, NameForm::Tag));
    }
    match name.parse() {
        Ok(ImageReference {
            repository: Repository::Remote { .. },
            tag: Some(tag),
            ..
        }) => Some((tag, NameForm::Reference)),
        _ => None,
    }
}

fn choose(entries: &[(NameForm, &Value)]) -> Result<Option<Descriptor>, IndexEntryError> {
    let Some(best) = entries.iter().map(|(named_by, _)| *named_by).min() else {
        return Ok(None);
    };
    let mut chosen: Option<Descriptor> = None;
    for (_, entry) in entries.iter().filter(|(named_by, _)| *named_by == best) {
        let descriptor = Descriptor::deserialize(*entry).map_err(IndexEntryError::Malformed)?;
        if chosen
            .as_ref()
            .is_some_and(|chosen| chosen.digest != descriptor.digest)
        {
            return Err(IndexEntryError::Ambiguous);
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
    fn fuzzing_layout_indexes() {
        let digest = Digest::sha256(b"content");
        let seed = format!(
            r#"{{"schemaVersion":2,"other":1,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":7,"annotations":{{"org.opencontainers.image.ref.name":"1.0"}}}},{{"digest":null}},7]}}"#
        );
        let (tag, one): (Tag, _) = (
            "1.0".parse().expect("a tag"),
            Descriptor::new("application/vnd.oci.image.index.v1+json", digest, 9),
        );
        fuzz("indexes of layouts", &[&seed], |input| {
            let Ok(mut index) = LayoutIndex::parse(input) else {
                return;
            };
            drop((
                index.tags(),
                index.find(&tag),
                index.descriptors(),
                index.readable().count(),
            ));
            index.set(&tag, &one);
            let mut again = LayoutIndex::parse(&index.into_bytes()).expect("the written index");
            assert_eq!(
                again.find(&tag).ok().flatten().map(|found| found.digest),
                Some(one.digest.clone())
            );
            drop((again.remove_tag(&tag), again.remove_manifest(&one.digest)));
        });
    }
}
