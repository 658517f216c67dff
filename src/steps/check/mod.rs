//! `check`: compares the base of an application with the current bases and their end-of-life dates.
//! Also implements `latest` and `base-args`.
//!
//! `observe` reads the published bases, `compare` finds a newer one, and `report` lists the
//! findings. This step writes no data.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::error::{ItemError, chain};
use crate::model::{BuildRecord, Digest, ImageReference, Repository};
use crate::packages::Records;

mod arguments;
mod compare;
mod known_bases;
mod newest;
mod observe;
mod report;
#[cfg(test)]
mod tests;

pub use arguments::{BaseArguments, base_arguments};
pub use compare::{Comparison, compare};
pub use known_bases::{BaseSource, KnownBase, KnownBases, KnownTag};
pub use newest::{LatestError, LatestImage, LatestRequest, latest};
pub use observe::{CheckError, CheckSources, ForgeBranch, digest_now, known};
pub use report::{BaseCheckReport, Location, Policy, Rebuilt};

/// Data that a check is based on.
#[derive(Clone, Debug)]
pub struct World {
    pub known: KnownBases,
    /// Current digest of the base's tag; `None` if it is unknown.
    pub digest_now: Option<Digest>,
    /// Time of the inventory that `digest_now` comes from; `None` if it comes from the registry.
    pub digest_as_of: Option<DateTime<Utc>>,
    /// Digest of the base that the newest image of the project was built on.
    pub built_on: Option<Digest>,
    pub warnings: Vec<String>,
}

/// Reads the data about `base`, and the last build of `project` on it.
pub async fn observe(
    base: &ImageReference,
    project: Option<&str>,
    sources: &CheckSources<'_>,
) -> Result<World, CheckError> {
    let known = known(sources, Some(base)).await?;
    let known_base = known.base(&base.repository);
    let found = known_base.and_then(|known_base| compare(base, known_base).found);
    // The registry is more up to date than the inventory.
    let resolved = match (&base.tag, sources.stores) {
        (Some(tag), Some(images)) => digest_now(images, &base.repository, tag).await,
        _ => None,
    };
    let digest_as_of = match (&resolved, &known.source) {
        (None, BaseSource::Inventory { time }) => Some(*time),
        _ => None,
    };
    let digest_now = resolved.or_else(|| found.and_then(|found| found.digest.clone()));
    let mut world = World {
        known,
        digest_now,
        digest_as_of,
        built_on: None,
        warnings: Vec::new(),
    };
    // A pinned base does not depend on earlier builds.
    if let (Some(project), Some(records), None, Some(_)) =
        (project, sources.records, &base.digest, &world.digest_now)
    {
        match records_of(records, project, world.known.base(&base.repository)).await {
            Ok(records) => {
                world.built_on = newest_on(&records, project, base)
                    .and_then(|record| record.base_digest.clone());
            }
            Err(error) => world.warnings.push(format!(
                "cannot check if the base was rebuilt since the last build: {}",
                chain(&error)
            )),
        }
    }
    Ok(world)
}

/// Returns records, at least all records of `project`.
///
/// If the inventory lists images of the project, only their records are read, because there can be
/// thousands of records.
async fn records_of(
    records: &Records,
    project: &str,
    base: Option<&KnownBase>,
) -> Result<Vec<BuildRecord>, ItemError> {
    let users = base
        .iter()
        .flat_map(|base| &base.users)
        .filter(|user| user.project == project);
    let repositories: BTreeSet<&Repository> = users.map(|user| &user.image.repository).collect();
    if repositories.is_empty() {
        return Ok(records.all().await?.records);
    }
    let mut found = Vec::new();
    for repository in repositories {
        found.extend(records.of(repository).await?.records);
    }
    Ok(found)
}

/// Returns the newest record of a project with this base.
fn newest_on<'a>(
    records: &'a [BuildRecord],
    project: &str,
    base: &ImageReference,
) -> Option<&'a BuildRecord> {
    let is_on_base = |record: &&BuildRecord| {
        record
            .base
            .as_ref()
            .is_some_and(|other| other.repository == base.repository && other.tag == base.tag)
    };
    records
        .iter()
        .filter(|record| record.project == project)
        .filter(is_on_base)
        .max_by_key(|record| record.built_at)
}
