//! Observation: the tags of mirrors and bases, the digests of current bases, and all records. Reads
//! only.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::spellings::{self, lower_identities, lower_records, lowered_repositories};
use crate::config::{Config, SyncEntry};
use crate::error::ItemError;
use crate::model::{BuildRecord, Digest, ImageReference, Reference, Repository, Tag};
use crate::packages::{Records, UnreadableFile};
use crate::progress::{Event, Progress};
use crate::registry::{ImageStores, ListedTag};
use crate::steps::build::{Identity, identities, mirror, newest_listed, ranks_by_push};
use crate::steps::lineage::identities_offline;

/// Maximum number of concurrent requests to all hosts; each host has its own limit as well.
const MAX_CONCURRENT_REQUESTS: usize = 16;

/// Everything that was read.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Tags of each mirror and base, without attachments; `None` if no registry was read.
    pub tags: Option<BTreeMap<Repository, Vec<Tag>>>,
    /// Complete listings of the same repositories, with attachments.
    pub listings: BTreeMap<Repository, Vec<ListedTag>>,
    /// Repositories whose registry stores tags in lower case, where that matters. Identities and
    /// records have the tags in lower case there.
    pub lowered: BTreeSet<Repository>,
    /// Current identity of each base, by the position of the image.
    pub identities: Vec<Result<Identity, ItemError>>,
    /// Digests of the current bases.
    pub digests: BTreeMap<ImageReference, Digest>,
    pub records: Vec<BuildRecord>,
    /// Files in the record store that are not valid records.
    pub unreadable: Vec<UnreadableFile>,
    /// Time at which the earliest record was written.
    pub first_written: Option<DateTime<Utc>>,
}

/// Reads everything. Without `stores` no registry is read, and without `records` no record.
///
/// Fails if anything cannot be read, because an incomplete report would be wrong.
pub async fn observe(
    config: &Config,
    stores: Option<&ImageStores>,
    records: Option<&Records>,
    progress: &dyn Progress,
) -> Result<World, ItemError> {
    let observed = async {
        match stores {
            Some(stores) => read_images(config, stores, progress).await,
            None => Ok(World {
                identities: identities_offline(config),
                ..World::default()
            }),
        }
    };
    let recorded = async {
        match records {
            Some(records) => {
                progress.event(Event::Observing {
                    what: &format!("records in {}", records.store_name()),
                });
                Ok(records.all().await?)
            }
            None => Ok::<_, ItemError>(Default::default()),
        }
    };
    let (mut world, reading) = futures_util::try_join!(observed, recorded)?;
    world.records = reading.records;
    world.unreadable = reading.unreadable;
    world.first_written = reading.first_written;
    for record in &mut world.records {
        // Records name layouts by paths relative to the configuration, as the configuration does.
        if let Some(base) = &mut record.base {
            base.repository = base.repository.resolved_below(&config.directory);
        }
    }
    lower_records(&world.lowered, &mut world.records);
    Ok(world)
}

async fn read_images(
    config: &Config,
    stores: &ImageStores,
    progress: &dyn Progress,
) -> Result<World, ItemError> {
    let entries = config.sync.as_ref().map_or(&[][..], |sync| &sync.entries);
    let bases = config.build.iter().flat_map(|build| &build.images);
    let repositories: BTreeSet<&Repository> = entries
        .iter()
        .map(|entry| &entry.target)
        .chain(bases.map(|image| &image.repository))
        .collect();
    let listings = stream::iter(repositories).map(|repository| async move {
        progress.event(Event::Observing {
            what: &format!("tags of {repository}"),
        });
        let by_push = entries
            .iter()
            .any(|entry: &SyncEntry| entry.target == *repository && ranks_by_push(entry));
        let listing = if by_push {
            stores.of(repository).dated_tags(repository).await
        } else {
            stores.of(repository).tags(repository).await
        };
        Ok::<_, ItemError>((repository.clone(), listing?.unwrap_or_default()))
    });
    let listings: BTreeMap<Repository, Vec<ListedTag>> = listings
        .buffer_unordered(MAX_CONCURRENT_REQUESTS)
        .try_collect()
        .await?;
    let identities = identities_of(config, &listings);
    let lowered = lowered_repositories(config, &listings, &identities, stores).await?;
    let config = &*spellings::lowered(config, &lowered);
    let mut identities = identities_of(config, &listings);
    lower_identities(config, &lowered, &mut identities);
    let current = config
        .build
        .iter()
        .flat_map(|build| &build.images)
        .zip(&identities)
        .filter_map(|(image, identity)| {
            let tag = &identity.as_ref().ok()?.tag;
            // A tag that is not listed needs no request.
            let is_listed = listings
                .get(&image.repository)
                .is_some_and(|listing| listing.iter().any(|listed| listed.tag == *tag));
            is_listed.then(|| ImageReference::tagged(image.repository.clone(), tag.clone()))
        });
    let digests = stream::iter(current.collect::<BTreeSet<_>>()).map(|image| async move {
        let Some(tag) = image.tag.clone() else {
            return Ok(None);
        };
        let found = stores
            .of(&image.repository)
            .resolve(&image.repository, &Reference::Tag(tag))
            .await?;
        Ok::<_, ItemError>(found.map(|found| (image, found.digest)))
    });
    let digests: Vec<Option<(ImageReference, Digest)>> = digests
        .buffer_unordered(MAX_CONCURRENT_REQUESTS)
        .try_collect()
        .await?;
    let tags = |listing: &[ListedTag]| {
        listing
            .iter()
            .map(|listed| listed.tag.clone())
            .filter(|tag| !tag.is_attachment())
            .collect()
    };
    Ok(World {
        tags: Some(
            listings
                .iter()
                .map(|(repository, listing)| (repository.clone(), tags(listing)))
                .collect(),
        ),
        listings,
        lowered,
        identities,
        digests: digests.into_iter().flatten().collect(),
        ..World::default()
    })
}

/// Returns the current identity of each base, by the tags of its mirror.
fn identities_of(
    config: &Config,
    listings: &BTreeMap<Repository, Vec<ListedTag>>,
) -> Vec<Result<Identity, ItemError>> {
    let Some(build) = &config.build else {
        return Vec::new();
    };
    let mirror_tags = (0..build.images.len()).filter_map(|position| {
        let entry = mirror(config, build, position)?;
        let listing = listings.get(&entry.target).map_or(&[][..], Vec::as_slice);
        Some((position, newest_listed(entry, listing)))
    });
    identities(build, &mirror_tags.collect())
}
