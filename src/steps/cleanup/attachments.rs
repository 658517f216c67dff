//! Attachments: tags whose manifest belongs to another image, such as signatures, SBOMs and lists
//! of referrers. Pure.
//!
//! A name alone is not enough. A tag is an attachment if
//!
//! - its manifest has a `subject`, whatever the tag is called,
//! - cosign named it: `sha256-<hex>.sig`, `.att` or `.sbom`, or
//! - it is called `sha256-<hex>` and its manifest is a list of referrers.
//!
//! A tag that names its own digest is an image. Subjects are compared as the tag that
//! [`Tag::of_referrers`] returns, because a name holds only the beginning of a long digest.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::manifest_tree::ManifestTree;
use super::world::{ObservedRepository, ObservedTag};
use crate::model::{Digest, Tag};

/// Returns the subjects that a tag is attached to, of which there are none for an image.
///
/// A tag that was not read is judged by its name.
pub(super) fn subjects(repository: &ObservedRepository, tag: &ObservedTag) -> BTreeSet<Tag> {
    let named = tag.tag.named_subject();
    let Ok(tree) = &tag.image else {
        return named.into_iter().collect();
    };
    if named.is_none() && tree.subject.is_none() {
        return BTreeSet::new();
    }
    let is_list = tree.list.is_some() && repository.referrers_lists.get(&tag.tag) != Some(&false);
    let own = Tag::of_referrers(&tree.digest);
    named
        .filter(|subject| is_list || *subject != tag.tag)
        .into_iter()
        .chain(tree.subject.as_ref().map(Tag::of_referrers))
        .filter(|subject| *subject != own)
        .collect()
}

/// Returns true if a tag is attached to another image.
pub(super) fn is_attached(repository: &ObservedRepository, tag: &ObservedTag) -> bool {
    !subjects(repository, tag).is_empty()
}

/// Returns true if the name of a tag says that it is attached, and its manifest agrees.
pub(super) fn is_attached_by_name(repository: &ObservedRepository, tag: &ObservedTag) -> bool {
    tag.tag.is_attachment() && is_attached(repository, tag)
}

/// Returns true if a tag may be a list of referrers, but its entries were not read.
pub(super) fn is_unchecked_list(repository: &ObservedRepository, tag: &ObservedTag) -> bool {
    tag.image.as_ref().is_ok_and(|tree| tree.list.is_some())
        && !repository.referrers_lists.contains_key(&tag.tag)
        && is_attached(repository, tag)
}

/// Returns true if cleanup is known to have deleted the subject of an attachment.
pub(super) fn lost_its_subject(repository: &ObservedRepository, tag: &ObservedTag) -> bool {
    !repository.missing_subjects.is_empty()
        && subjects(repository, tag)
            .iter()
            .any(|subject| repository.missing_subjects.contains(subject))
}

/// Attachments of a repository.
pub(super) struct AttachmentIndex<'a> {
    /// Subjects of each attachment.
    pub(super) subjects: HashMap<&'a Tag, BTreeSet<Tag>>,
    /// Subjects that belong to an image in this repository.
    ///
    /// Two manifests can each be attached to a part of the other. Nothing but themselves leads to
    /// them, so neither is a subject.
    pub(super) known: HashSet<Tag>,
}

impl<'a> AttachmentIndex<'a> {
    pub(super) fn of(repository: &'a ObservedRepository) -> AttachmentIndex<'a> {
        let subjects: HashMap<&Tag, BTreeSet<Tag>> = repository
            .tags()
            .map(|tag| (&tag.tag, subjects(repository, tag)))
            .filter(|(_, subjects)| !subjects.is_empty())
            .collect();
        if subjects.is_empty() {
            return AttachmentIndex {
                subjects,
                known: HashSet::new(),
            };
        }
        let images = repository
            .tags()
            .filter(|tag| !subjects.contains_key(&tag.tag))
            .flat_map(|tag| &tag.image)
            .chain(&repository.pinned);
        let mut known: HashSet<Tag> = images.flat_map(keys).collect();
        // An attachment that leads to a known image is a subject itself.
        let mut open: Vec<&ObservedTag> = repository
            .tags()
            .filter(|tag| subjects.contains_key(&tag.tag))
            .collect();
        let mut waiting: HashMap<&Tag, Vec<&ObservedTag>> = HashMap::new();
        while let Some(tag) = open.pop() {
            let unknown = subjects
                .get(&tag.tag)
                .into_iter()
                .flatten()
                .find(|subject| !known.contains(*subject));
            if let Some(unknown) = unknown {
                waiting.entry(unknown).or_default().push(tag);
                continue;
            }
            for key in tag.image.iter().flat_map(keys) {
                open.extend(waiting.remove(&key).unwrap_or_default());
                known.insert(key);
            }
        }
        AttachmentIndex { subjects, known }
    }

    /// Returns true if something is attached to an image.
    pub(super) fn exist(&self) -> bool {
        !self.subjects.is_empty()
    }
}

/// Returns the manifests of an image as subjects.
fn keys(tree: &ManifestTree) -> impl Iterator<Item = Tag> {
    tree.digests()
        .map(|digest: &Digest| Tag::of_referrers(digest))
}
