//! Manifests that deletions in a repository left behind, and manifests that must stay. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{DeletionGroup, DeletionMethod};
use super::recheck::CurrentState;
use crate::model::Digest;

/// State of the deletions in one repository.
#[derive(Default)]
pub(super) struct DeletionProgress {
    /// Digests of manifests below deleted images.
    pub(super) parts: BTreeSet<Digest>,
    /// Referrers of deleted images and their parts, each with its subject.
    pub(super) referrers: BTreeMap<Digest, Digest>,
    /// Digests that must stay: below images that could not be deleted, or of images that are now
    /// referenced.
    pub(super) needed: BTreeSet<Digest>,
    /// Subset of `needed` that a record now refers to.
    pub(super) recorded: BTreeSet<Digest>,
    pub(super) has_begun: bool,
}

/// Reason why a digest must stay.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NeededBy {
    /// The digest can be deleted.
    Nothing,
    /// A tag that is new or was moved, or an image that could not be deleted.
    Image,
    /// An image that a record now refers to.
    Record,
}

impl DeletionProgress {
    /// Adds the digests that must stay by the current state.
    pub(super) fn add_state(&mut self, state: &CurrentState) {
        self.needed
            .extend(state.claimed.iter().chain(&state.recorded).cloned());
        self.recorded.extend(state.recorded.iter().cloned());
    }

    pub(super) fn needed_by(&self, digest: &Digest) -> NeededBy {
        if self.recorded.contains(digest) {
            NeededBy::Record
        } else if self.needed.contains(digest) {
            NeededBy::Image
        } else {
            NeededBy::Nothing
        }
    }

    /// Returns the unneeded parts and referrers to delete now, without those that are deleted
    /// `later`.
    pub(super) fn leftovers(
        &self,
        live: &BTreeSet<Digest>,
        later: &BTreeSet<&Digest>,
    ) -> BTreeSet<Digest> {
        let mut stays: BTreeSet<&Digest> = self.needed.iter().chain(live).collect();
        // Referrers of a manifest that stays also stay, and their own referrers.
        while self
            .referrers
            .iter()
            .filter(|(referrer, subject)| stays.contains(subject) && stays.insert(referrer))
            .count()
            > 0
        {}
        let is_leftover = |digest: &&Digest| !stays.contains(digest) && !later.contains(digest);
        self.parts
            .iter()
            .chain(self.referrers.keys())
            .filter(is_leftover)
            .cloned()
            .collect()
    }
}

/// Returns true if the manifest of an image is deleted, not only its tags.
pub(super) fn deletes_manifest(
    group: &DeletionGroup,
    needed_by: NeededBy,
    state: &CurrentState,
) -> bool {
    match group.method {
        DeletionMethod::Tags => false,
        DeletionMethod::Manifest => true,
        DeletionMethod::TagsThenManifest => {
            needed_by == NeededBy::Nothing && state.listing_doubt.is_none()
        }
    }
}

/// Returns true if the manifest of one of the images may be deleted.
pub(super) fn deletes_manifests<'g>(
    groups: impl IntoIterator<Item = &'g &'g DeletionGroup>,
) -> bool {
    groups
        .into_iter()
        .any(|group| group.method != DeletionMethod::Tags)
}
