//! The safety check: without reliable records it is unknown which images are in use, and nothing
//! is deleted. Pure.

use std::collections::BTreeSet;

use super::world::{ObservedRecords, ObservedRepository, World};
use crate::error::ItemError;
use crate::model::{BuildRecord, Digest};

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

/// Returns the reason why a complete reading is probably not the right one: it is empty, or no
/// record belongs to this configuration.
fn implausible(world: &World, records: &ObservedRecords) -> Option<ItemError> {
    match records.records() {
        _ if !world.has_bases => None,
        [] => world.require_records.then(|| {
            ItemError::other("there is no record of any application").with_hint(
                "run `imglife register` in the pipelines of applications; set \
                 `require_records: false` or pass `--force` to go on without records",
            )
        }),
        records if !name_a_base(records, world) => Some(
            ItemError::other(
                "no record names a base of this configuration: the registry may have been \
                 renamed, or the records belong to another configuration",
            )
            .with_hint(format!(
                "run `imglife app list` to see the bases that records name; {FORCE_HINT}"
            )),
        ),
        _ => None,
    }
}

/// Returns true if any record names a configured repository as its base, or an image that was read
/// in one.
fn name_a_base<'a>(records: &'a [BuildRecord], world: &World) -> bool {
    let is_configured = |record: &BuildRecord| {
        record
            .base
            .as_ref()
            .is_some_and(|base| world.configured.contains(&base.repository))
    };
    let digests = |record: &'a BuildRecord| {
        record
            .base
            .iter()
            .filter_map(|base| base.digest.as_ref())
            .chain(&record.base_digest)
    };
    let named: BTreeSet<&Digest> = records.iter().flat_map(digests).collect();
    let mut images = world
        .repositories
        .iter()
        .flat_map(ObservedRepository::tags)
        .filter_map(|tag| tag.image.as_ref().ok());
    let is_named = |digest: &Digest| named.contains(digest);
    records.iter().any(is_configured)
        || images.any(|tree| is_named(&tree.digest) || tree.below.iter().any(is_named))
}
