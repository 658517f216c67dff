//! Size of an image.

use std::collections::BTreeMap;

use crate::model::{Digest, Manifest, Reference, Repository};
use crate::registry::ImageSource;

/// Returns the stored size of an image with all its platforms, in bytes; each blob counts once.
/// `None` if one of its manifests cannot be read.
pub(super) async fn of_image(
    source: &dyn ImageSource,
    repository: &Repository,
    digest: &Digest,
) -> Option<u64> {
    let mut blobs: BTreeMap<Digest, u64> = BTreeMap::new();
    let root = read(source, repository, digest).await?;
    match root.children() {
        None => blobs.extend(
            root.blobs()
                .into_iter()
                .map(|blob| (blob.digest.clone(), blob.size)),
        ),
        Some(children) => {
            for child in children {
                let image = read(source, repository, &child.digest).await?;
                blobs.extend(
                    image
                        .blobs()
                        .into_iter()
                        .map(|blob| (blob.digest.clone(), blob.size)),
                );
            }
        }
    }
    Some(blobs.values().sum())
}

async fn read(
    source: &dyn ImageSource,
    repository: &Repository,
    digest: &Digest,
) -> Option<Manifest> {
    source
        .manifest(repository, &Reference::Digest(digest.clone()))
        .await
        .ok()
        .flatten()
}
