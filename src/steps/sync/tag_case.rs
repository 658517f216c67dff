//! Targets that store tags in lower case, as Gitea does. Reads only.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::ItemError;
use crate::model::{Repository, Tag};
use crate::registry::{ImageStores, TagCase};

/// Returns whether `target` distinguishes upper and lower case in the tags `names`.
///
/// Sends requests only if the answer matters: `listed` has a tag in lower case only, or two of the
/// names differ only in case.
pub(super) async fn tag_case(
    stores: &ImageStores,
    target: &Repository,
    names: &BTreeSet<Tag>,
    listed: &BTreeSet<Tag>,
) -> Result<TagCase, ItemError> {
    let mut lower = BTreeSet::new();
    let differ_in_case = names.iter().any(|name| !lower.insert(name.lower_case()));
    let is_stored = |name: &Tag| {
        name.has_upper_case() && !listed.contains(name) && listed.contains(&name.lower_case())
    };
    if differ_in_case || names.iter().any(is_stored) {
        stores.of(target).tag_case(target, listed).await
    } else {
        Ok(TagCase::Sensitive)
    }
}

/// Returns the names that the target changes, each with its form there.
pub(super) fn stored_names<'a>(
    case: TagCase,
    names: impl Iterator<Item = &'a Tag>,
) -> BTreeMap<Tag, Tag> {
    names
        .map(|name| (name.clone(), case.stored(name)))
        .filter(|(name, stored)| name != stored)
        .collect()
}
