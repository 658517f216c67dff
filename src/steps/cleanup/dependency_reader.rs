//! Reads what kept images depend on and listings do not show: subjects of attachments, entries of
//! lists of referrers, and indexes that are listed as images.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};

use super::attachments::{AttachmentIndex, subjects};
use super::grace::waiting_tags;
use super::manifest_tree::{
    CONCURRENT_MANIFESTS, DisguisedIndexes, ManifestTree, disguised_indexes,
};
use super::observer::Observer;
use super::policy::{unchecked_lists, verdicts};
use super::protections::RecordProtections;
use super::world::ObservedRepository;
use crate::error::ItemError;
use crate::model::{Digest, Repository, Tag};
use crate::registry::Support;

/// Finds out which of the images in `deleted_subjects` are still missing, so that their attachments
/// can be deleted.
///
/// Every other image that no tag leads to keeps its attachments, and needs no request.
pub(super) async fn read_missing_subjects(
    observer: Observer<'_>,
    repository: &mut ObservedRepository,
) {
    if repository.deleted_subjects.is_empty() {
        return;
    }
    let known = AttachmentIndex::of(repository).known;
    let named: BTreeSet<Tag> = repository
        .tags()
        .flat_map(|tag| subjects(repository, tag))
        .collect();
    let unknown = repository
        .deleted_subjects
        .iter()
        .map(|digest| (digest.clone(), Tag::of_referrers(digest)))
        .filter(|(_, subject)| named.contains(subject) && !known.contains(subject));
    let name = &repository.repository;
    let store = observer.stores.of(name);
    let lookups = unknown.map(|(digest, subject)| async move {
        let found = store.resolve(name, &digest.into()).await;
        (subject, found)
    });
    let found: Vec<_> = stream::iter(lookups.collect::<Vec<_>>())
        .buffer_unordered(CONCURRENT_MANIFESTS)
        .collect()
        .await;
    repository.missing_subjects = found
        .into_iter()
        .filter(|(_, found)| matches!(found, Ok(None)))
        .map(|(subject, _)| subject)
        .collect();
}

/// Reads the entries of those lists of referrers that may be deleted with their subject. Returns
/// the tags that are no such list.
///
/// A list whose entries cannot be read stays unchecked, which keeps it.
pub(super) async fn check_lists(
    observer: Observer<'_>,
    protections: &RecordProtections,
    repository: &mut ObservedRepository,
) -> BTreeSet<Tag> {
    let mut tried: BTreeSet<Tag> = BTreeSet::new();
    let mut images = BTreeSet::new();
    loop {
        let open: BTreeMap<Tag, BTreeSet<Digest>> =
            unchecked_lists(repository, protections, observer.now)
                .into_iter()
                .filter(|(tag, _)| !tried.contains(tag))
                .collect();
        if open.is_empty() {
            return images;
        }
        let name = &repository.repository;
        let checks = open.iter().map(|(tag, entries)| async move {
            let is_list = is_list(observer, name, tag, entries).await;
            (tag.clone(), is_list)
        });
        let checked: Vec<(Tag, Result<bool, ItemError>)> = stream::iter(checks.collect::<Vec<_>>())
            .buffer_unordered(CONCURRENT_MANIFESTS)
            .collect()
            .await;
        tried.extend(open.into_keys());
        for (tag, is_list) in checked {
            let Ok(is_list) = is_list else {
                continue;
            };
            if !is_list {
                images.insert(tag.clone());
            }
            repository.referrers_lists.insert(tag, is_list);
        }
    }
}

/// Returns true if every entry that exists is a referrer of the image that `tag` names.
async fn is_list(
    observer: Observer<'_>,
    repository: &Repository,
    tag: &Tag,
    entries: &BTreeSet<Digest>,
) -> Result<bool, ItemError> {
    let store = observer.stores.of(repository);
    for entry in entries {
        let Some(manifest) = store.manifest(repository, &entry.clone().into()).await? else {
            continue;
        };
        let subject = manifest
            .subject
            .map(|subject| Tag::of_referrers(&subject.digest));
        if subject.as_ref() != Some(tag) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns true if a tag is deleted now and does not have to wait.
fn deletes_now(
    observer: Observer<'_>,
    protections: &RecordProtections,
    repository: &ObservedRepository,
) -> bool {
    let verdicts = verdicts(repository, protections, observer.now);
    let waiting: BTreeSet<Tag> = waiting_tags(repository, &verdicts, observer.now)
        .into_iter()
        .map(|(tag, _)| tag)
        .collect();
    let mut deleted = verdicts
        .iter()
        .filter(|(_, verdict)| verdict.is_delete())
        .map(|(tag, _)| tag);
    deleted.any(|tag| !waiting.contains(tag))
}

/// Completes the trees of all images where manifests may be deleted by digest: an index can list
/// another index as an image or a layer, and whatever that lists is needed as well.
///
/// An image that is selected may have to stay for another reason, so its tree is completed too.
pub(super) async fn complete_trees(
    observer: Observer<'_>,
    protections: &RecordProtections,
    repository: &mut ObservedRepository,
) {
    // A layout deletes no content by digest. Its sweep reads every entry.
    if matches!(repository.repository, Repository::Layout { .. })
        || repository.deletions.manifests == Support::Unsupported
        || !deletes_now(observer, protections, repository)
    {
        return;
    }
    let trees = || {
        repository
            .tags()
            .flat_map(|tag| &tag.image)
            .chain(&repository.pinned)
    };
    let unread: BTreeSet<&Digest> = trees().flat_map(ManifestTree::unread).collect();
    let mut indexes: DisguisedIndexes = trees()
        .filter(|tree| unread.contains(&tree.digest))
        .map(|tree| (tree.digest.clone(), tree.below.clone()))
        .collect();
    let others = unread
        .into_iter()
        .filter(|digest| !indexes.contains_key(*digest))
        .cloned()
        .collect();
    let name = repository.repository.clone();
    let store = observer.stores.of(&name);
    let Ok(found) = disguised_indexes(store, &name, others, observer.cache).await else {
        repository.are_entries_known = false;
        return;
    };
    indexes.extend(found);
    let tags = repository.listing.iter_mut().flatten();
    for tree in tags
        .flat_map(|tag| &mut tag.image)
        .chain(&mut repository.pinned)
    {
        tree.complete(&indexes);
    }
}
