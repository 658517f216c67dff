//! Check at the end of a run that every tag that is reported as kept still exists.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};

use super::journal::Journal;
use super::outcome::{DeletionResult, LostTag, RepositoryOutcome, RetirementResult};
use super::reasons::KeepReason;
use super::tag_deletions::restore;
use crate::error::{ItemError, chain};
use crate::model::{Digest, Manifest, Reference, Repository, Tag};
use crate::registry::ImageStores;

/// Maximum number of tags that are looked up concurrently. Each host has its own limit as well.
const CONCURRENT_LOOKUPS: usize = 8;

/// Compares repositories with the result of a run.
pub(super) struct FinalCheck<'a> {
    pub(super) stores: &'a ImageStores,
    pub(super) journal: &'a Journal,
}

impl FinalCheck<'_> {
    /// Lists a repository in which something was deleted, and adds kept tags that are gone to
    /// `outcome`. A tag is restored if this run deleted its image.
    pub(super) async fn check(&self, outcome: &mut RepositoryOutcome) {
        let deleted = deleted_digests(outcome);
        if deleted.is_empty() {
            return;
        }
        let repository = outcome.repository.clone();
        let listed: BTreeSet<Tag> =
            match self.stores.of(&repository).proved_tags(&repository).await {
                Ok(listing) => listing.unwrap_or_default().tags,
                Err(error) => {
                    outcome.error.get_or_insert(ItemError::other(format!(
                        "after the deletions, it is unknown if the kept tags still exist: {}",
                        chain(&error)
                    )));
                    return;
                }
            }
            .into_iter()
            .map(|listed| listed.tag)
            .collect();
        let kept = kept_tags(outcome);
        let lookups = kept
            .into_iter()
            .filter(|(tag, _)| !listed.contains(tag))
            .map(|(tag, digest)| {
                let repository = &repository;
                async move {
                    let reference = Reference::Tag(tag.clone());
                    let found = self.stores.of(repository).resolve(repository, &reference);
                    (tag, digest, found.await)
                }
            });
        let missing: Vec<_> = stream::iter(lookups.collect::<Vec<_>>())
            .buffered(CONCURRENT_LOOKUPS)
            .collect()
            .await;
        for (tag, digest, found) in missing {
            match found {
                Ok(Some(_)) => {}
                Ok(None) => {
                    let error = self
                        .restored(&repository, &tag, digest.as_ref(), &deleted)
                        .await;
                    outcome.lost.push(LostTag { tag, digest, error });
                }
                Err(error) => outcome.warnings.push(format!(
                    "the kept tag {tag} is not listed any more, and cannot be looked up: {}",
                    chain(&error)
                )),
            }
        }
    }

    /// Restores a tag that is gone if this run deleted its image. Returns the error to report.
    async fn restored(
        &self,
        repository: &Repository,
        tag: &Tag,
        digest: Option<&Digest>,
        deleted: &BTreeSet<Digest>,
    ) -> ItemError {
        let Some(digest) = digest.filter(|digest| deleted.contains(*digest)) else {
            return ItemError::other(
                "it was kept, and is gone after the run, which did not delete its image",
            )
            .with_hint("find out who else deletes tags in this repository");
        };
        let work = async {
            let manifest = match self.journal.retained(repository, digest) {
                Some(manifest) => Some(manifest),
                None => self.manifest(repository, digest).await?,
            };
            restore(self.stores, repository, tag, manifest.as_ref()).await
        };
        match work.await {
            Ok(_) => ItemError::other(
                "the registry deleted this kept tag together with other tags of its image; the tag was \
                 restored",
            ),
            Err(error) => ItemError::other(format!(
                "the registry deleted this kept tag together with other tags of its image; the tag could \
                 not be restored: {}",
                chain(&error)
            ))
            .with_hint(format!(
                "run `imglife cleanup --undo {}`",
                self.journal.run()
            )),
        }
    }

    async fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Manifest>, ItemError> {
        let reference = Reference::Digest(digest.clone());
        self.stores
            .of(repository)
            .manifest(repository, &reference)
            .await
    }
}

/// Returns the digests of images of which anything was deleted.
fn deleted_digests(outcome: &RepositoryOutcome) -> BTreeSet<Digest> {
    let groups = outcome
        .groups
        .iter()
        .filter(|group| group.result == DeletionResult::Deleted || !group.deleted_tags.is_empty());
    let retired = outcome.retirements.iter().filter(|retired| {
        matches!(
            retired.result,
            RetirementResult::Retired | RetirementResult::Failed(_)
        )
    });
    groups
        .flat_map(|group| group.parts.iter().chain([&group.digest]))
        .chain(retired.map(|retired| &retired.retirement.group.digest))
        .cloned()
        .collect()
}

/// Returns the tags that are reported as kept, or that images were moved to.
fn kept_tags(outcome: &RepositoryOutcome) -> BTreeMap<Tag, Option<Digest>> {
    let mut kept = BTreeMap::new();
    for (tag, digest, reason) in &outcome.kept {
        if *reason != KeepReason::Absent {
            kept.insert(tag.clone(), digest.clone());
        }
    }
    for group in &outcome.groups {
        if matches!(&group.result, DeletionResult::Kept(reason) if *reason != KeepReason::Absent) {
            let tags = group.tags.iter().map(|(tag, _)| tag.clone());
            kept.extend(tags.map(|tag| (tag, Some(group.digest.clone()))));
        }
    }
    for retired in &outcome.retirements {
        if matches!(retired.result, RetirementResult::Retired) {
            let retirement = &retired.retirement;
            let digest = retirement.group.digest.clone();
            kept.insert(retirement.pending.to.clone(), Some(digest));
        }
    }
    kept
}
