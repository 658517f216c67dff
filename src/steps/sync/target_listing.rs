//! Tags of the target of an entry.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::SyncStores;
use crate::error::{ItemError, ItemErrorKind, Side};
use crate::model::{Repository, Tag};
use crate::progress::{Event, Progress};

/// Tags of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetListing {
    /// The repository does not exist at the store, so it has no tags.
    NoRepository,
    /// Tags of the repository. Entries with the same target share the listing.
    Tags(Arc<BTreeSet<Tag>>),
    /// The store denied the listing. Each selected tag has to be resolved.
    Denied(ItemError),
}

impl TargetListing {
    /// Returns true if the listing contains `tag`.
    pub fn has(&self, tag: &Tag) -> bool {
        matches!(self, TargetListing::Tags(tags) if tags.contains(tag))
    }
}

/// Lists the tags of a target.
pub(super) async fn list_target_tags(
    stores: &SyncStores,
    progress: &dyn Progress,
    repository: &Repository,
) -> Result<TargetListing, ItemError> {
    progress.event(Event::Observing {
        what: &format!("tags of {repository}"),
    });
    match stores.target.of(repository).tags(repository).await {
        Ok(Some(tags)) => {
            let tags = tags.into_iter().map(|listed| listed.tag).collect();
            Ok(TargetListing::Tags(Arc::new(tags)))
        }
        Ok(None) => Ok(TargetListing::NoRepository),
        // The credentials may be allowed to push but not to list. Some registries also deny
        // listing a repository before the first push.
        Err(error)
            if matches!(
                error.kind,
                ItemErrorKind::Unauthorized | ItemErrorKind::Forbidden
            ) =>
        {
            Ok(TargetListing::Denied(error.on(Side::Target)))
        }
        Err(error) => Err(error.on(Side::Target)),
    }
}
