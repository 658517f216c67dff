//! `check`: is the base of an application current, and alive? Also what `latest` and `base-args`
//! are asked for.
//!
//! `observe` finds out what is known of bases, `compare` says whether there is a newer one,
//! `report` what follows from it. Writes nothing anywhere.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use thiserror::Error;

use crate::error::{ItemError, chain};
use crate::model::{BuildRecord, Digest, ImageReference, Repository};
use crate::packages::Records;

mod arguments;
mod compare;
mod known;
mod observe;
mod report;
#[cfg(test)]
mod tests;

pub use arguments::{BaseArguments, base_arguments};
pub use compare::{Comparison, compare, newest};
pub use known::{Known, KnownBase, KnownTag, Source};
pub use observe::{Branch, CheckError, Sources, digest_now, known};
pub use report::{CheckReport, Location, Policy, Rebuilt};

/// Everything that a check is decided by.
#[derive(Clone, Debug)]
pub struct World {
    pub known: Known,
    /// What the base's tag names now, where that is known.
    pub digest_now: Option<Digest>,
    /// The time of the inventory that says so; `None` when it was the registry.
    pub digest_of: Option<DateTime<Utc>>,
    /// The digest of the base that the project's newest image on it was built from.
    pub built_on: Option<Digest>,
    pub warnings: Vec<String>,
}

/// Looks at what is known of `base`, and at what `project` built on it last.
pub async fn observe(
    base: &ImageReference,
    project: Option<&str>,
    sources: &Sources<'_>,
) -> Result<World, CheckError> {
    let known = known(sources, Some(base)).await?;
    let of_base = known.base(&base.repository);
    let found = of_base.and_then(|of_base| compare(base, of_base).found);
    // The inventory is of its time; the registry knows better where it may be asked.
    let told = match (&base.tag, sources.stores) {
        (Some(tag), Some(images)) => digest_now(images, &base.repository, tag).await,
        _ => None,
    };
    let digest_of = match (&told, &known.source) {
        (None, Source::Inventory { time }) => Some(*time),
        _ => None,
    };
    let digest_now = told.or_else(|| found.and_then(|found| found.digest.clone()));
    let mut world = World {
        known,
        digest_now,
        digest_of,
        built_on: None,
        warnings: Vec::new(),
    };
    // A pinned base is what the reference says, whatever was built before.
    if let (Some(project), Some(records), None, Some(_)) =
        (project, sources.records, &base.digest, &world.digest_now)
    {
        match records_of(records, project, world.known.base(&base.repository)).await {
            Ok(records) => {
                world.built_on = newest_on(&records, project, base)
                    .and_then(|record| record.base_digest.clone());
            }
            Err(error) => world.warnings.push(format!(
                "whether the base was rebuilt since the last build is not known: {}",
                chain(&error)
            )),
        }
    }
    Ok(world)
}

/// Returns the records that those of a project are among. Where the inventory names its images,
/// only their records are read: all of them can be thousands.
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

/// Returns the newest record of a project's images on a base.
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

/// Why there is no base of a name, or no single one.
#[derive(Debug, Error)]
pub enum LatestError {
    #[error("there is no base `{name}`")]
    NoBase { name: String, known: Vec<String> },
    #[error("`{name}` is the name of several bases")]
    Several { name: String, known: Vec<String> },
    #[error("{repository} has no version{}", .line.as_ref().map(|line| format!(" of the line {line}")).unwrap_or_default())]
    NoVersion {
        repository: Repository,
        line: Option<String>,
    },
    #[error("the newest version of {repository} is not known: {reason}")]
    Untold {
        repository: Repository,
        reason: String,
    },
}

impl LatestError {
    /// Returns what the user can do, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            LatestError::NoBase { known, .. } | LatestError::Several { known, .. }
                if !known.is_empty() =>
            {
                Some(format!("name one of {}", known.join(", ")))
            }
            LatestError::Untold { repository, .. } => Some(format!(
                "ask the registry: `imglife latest {repository} --probe`"
            )),
            _ => None,
        }
    }
}

/// Returns the newest image of the base `name`: a repository, or the last part of one.
pub fn latest(
    known: &Known,
    name: &str,
    line: Option<&str>,
) -> Result<ImageReference, LatestError> {
    let whole: Option<Repository> = name.parse().ok();
    let goes_by = |base: &&KnownBase| {
        let text = base.repository.to_string();
        Some(&base.repository) == whole.as_ref() || text.rsplit('/').next() == Some(name)
    };
    let found: Vec<&KnownBase> = known.bases.iter().filter(goes_by).collect();
    let names = |bases: &mut dyn Iterator<Item = &KnownBase>| {
        bases.map(|base| base.repository.to_string()).collect()
    };
    match found.as_slice() {
        [] => Err(LatestError::NoBase {
            name: name.to_owned(),
            known: names(&mut known.bases.iter()),
        }),
        [base] => newest(base, line)
            .map(|tag| ImageReference::tagged(base.repository.clone(), tag.clone()))
            .ok_or_else(|| match base.untold.as_slice() {
                [] => LatestError::NoVersion {
                    repository: base.repository.clone(),
                    line: line.map(str::to_owned),
                },
                reasons => LatestError::Untold {
                    repository: base.repository.clone(),
                    reason: reasons.join("; "),
                },
            }),
        several => Err(LatestError::Several {
            name: name.to_owned(),
            known: names(&mut several.iter().copied()),
        }),
    }
}
