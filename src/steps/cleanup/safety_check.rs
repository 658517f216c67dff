//! The safety check: without reliable records it is unknown which images are in use, and nothing
//! is deleted. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{ObservedRecords, ObservedRepository, World};
use crate::error::ItemError;
use crate::model::{BuildRecord, Digest, ImageReference, Repository};

/// Maximum share of projects, in percent, whose newest record may name a base of another
/// configuration.
const MAX_FOREIGN_PERCENT: usize = 10;

/// Maximum number of repositories that a hint names one by one.
const MAX_FOREIGN_NAMES: usize = 10;

const FORCE_HINT: &str = "pass `--force` to go on with the records that could be read";

/// Returns the reason why nothing may be deleted, from the first reading that has one.
pub(super) fn safety_check(world: &World) -> Option<ItemError> {
    world
        .records
        .iter()
        .find_map(|records| records_error(records).or_else(|| implausible(world, records)))
}

/// Returns the reason why some of the records are missing from a reading.
pub(super) fn records_error(records: &ObservedRecords) -> Option<ItemError> {
    match records {
        ObservedRecords::Failed(error) => Some(
            ItemError::other(format!("the records cannot be read: {error}")).with_hint(FORCE_HINT),
        ),
        ObservedRecords::Read(reading) => reading.unreadable.first().map(|first| {
            let (count, file, problem) = (reading.unreadable.len(), &first.file, &first.problem);
            ItemError::other(format!(
                "{count} of the records cannot be read, the first is {file}: {problem}"
            ))
            .with_hint(FORCE_HINT)
        }),
        ObservedRecords::NotConfigured => None,
    }
}

/// Returns the reason why a complete reading is probably not the right one: it is empty, or too few
/// records belong to this configuration.
fn implausible(world: &World, records: &ObservedRecords) -> Option<ItemError> {
    match records.records() {
        _ if !world.expects_records => None,
        [] => world.require_records.then(|| {
            let where_to_look = if world.has_bases {
                ""
            } else {
                "check `prefix` and the other keys of `registry`, or "
            };
            ItemError::other("there is no record of any application").with_hint(format!(
                "{where_to_look}run `imglife register` in the pipelines of applications; set \
                 `require_records: false` or pass `--force` to go on without records"
            ))
        }),
        records if world.has_bases && !name_a_base(records, world) => Some(
            ItemError::other(
                "no record names a base of this configuration: the registry may have been \
                 renamed, or the records belong to another configuration",
            )
            .with_hint(format!(
                "run `imglife app list` to see the bases that records name; {FORCE_HINT}"
            )),
        ),
        records => too_many_foreign(records, world),
    }
}

/// Returns the error if the newest records of too many projects name bases that neither this
/// configuration nor `foreign_bases` has.
fn too_many_foreign(records: &[BuildRecord], world: &World) -> Option<ItemError> {
    let mut newest: BTreeMap<&str, Vec<&BuildRecord>> = BTreeMap::new();
    for record in records {
        let known = newest.entry(&record.project).or_default();
        match known.first().map(|first| first.built_at) {
            Some(time) if time > record.built_at => {}
            Some(time) if time == record.built_at => known.push(record),
            _ => *known = vec![record],
        }
    }
    let own = OwnBases::new(newest.values().flatten().copied(), world);
    let foreign: Vec<(&BuildRecord, &ImageReference)> = newest
        .values()
        .filter_map(|records| {
            records
                .iter()
                .find_map(|record| Some((*record, own.foreign(record)?)))
        })
        .collect();
    let (count, total) = (foreign.len(), newest.len());
    if count * 100 <= total * MAX_FOREIGN_PERCENT {
        return None;
    }
    let (record, base) = foreign.first()?;
    let bases = foreign.iter().map(|(_, base)| &base.repository);
    Some(
        ItemError::other(format!(
            "the newest records of {count} of {total} projects name bases that are not in this \
             configuration, for example {base} in the record of {}",
            record.image
        ))
        .with_hint(format!(
            "if a registry was renamed, register these applications again; if the bases belong to \
             another configuration, add to `retention`: `foreign_bases: [{}]`",
            foreign_line(&bases.collect())
        )),
    )
}

/// Returns patterns that match the repositories: their names, or, if there are many, their parents.
fn foreign_line(repositories: &BTreeSet<&Repository>) -> String {
    let names: BTreeSet<String> = repositories.iter().map(ToString::to_string).collect();
    let patterns = if names.len() <= MAX_FOREIGN_NAMES {
        names
    } else {
        let parent = |name: &String| {
            name.rsplit_once('/')
                .map_or_else(|| name.clone(), |(parent, _)| format!("{parent}/*"))
        };
        names.iter().map(parent).collect()
    };
    let quoted: Vec<String> = patterns
        .iter()
        .map(|pattern| format!("\"{pattern}\""))
        .collect();
    quoted.join(", ")
}

/// Bases that belong to a configuration.
struct OwnBases<'a> {
    world: &'a World,
    /// Digests that records name and that a repository of the configuration has.
    present: BTreeSet<&'a Digest>,
}

impl<'a> OwnBases<'a> {
    fn new(records: impl Iterator<Item = &'a BuildRecord>, world: &'a World) -> OwnBases<'a> {
        let named: BTreeSet<&Digest> = records.flat_map(base_digests).collect();
        let present = world
            .repositories
            .iter()
            .flat_map(ObservedRepository::tags)
            .filter_map(|tag| tag.image.as_ref().ok())
            .flat_map(|tree| tree.digests())
            .filter(|digest| named.contains(digest))
            .collect();
        OwnBases { world, present }
    }

    /// Returns the base of a record if it belongs to no configuration that is known.
    fn foreign(&self, record: &'a BuildRecord) -> Option<&'a ImageReference> {
        let base = record.base.as_ref()?;
        let is_known = self.world.configured.contains(&base.repository)
            || self.world.applications.contains(&base.repository)
            || self
                .world
                .foreign_bases
                .iter()
                .any(|pattern| pattern.matches(&base.repository))
            || base_digests(record).any(|digest| self.present.contains(digest));
        (!is_known).then_some(base)
    }
}

fn base_digests(record: &BuildRecord) -> impl Iterator<Item = &Digest> {
    let base = record.base.iter().filter_map(|base| base.digest.as_ref());
    base.chain(&record.base_digest)
}

/// Returns true if any record names a configured repository as its base, or an image that was read
/// in one.
fn name_a_base(records: &[BuildRecord], world: &World) -> bool {
    let is_configured = |record: &BuildRecord| {
        record
            .base
            .as_ref()
            .is_some_and(|base| world.configured.contains(&base.repository))
    };
    let named: BTreeSet<&Digest> = records.iter().flat_map(base_digests).collect();
    let mut images = world
        .repositories
        .iter()
        .flat_map(ObservedRepository::tags)
        .filter_map(|tag| tag.image.as_ref().ok());
    let is_named = |digest: &Digest| named.contains(digest);
    records.iter().any(is_configured)
        || images.any(|tree| is_named(&tree.digest) || tree.below.iter().any(is_named))
}
