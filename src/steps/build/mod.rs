//! `build`: base images from templates.
//!
//! `observe` reads templates, bases and what is published, `plan` decides without touching
//! anything, `execute` has engines build what the plan names and moves aliases. A tag that is
//! published is never overwritten with something else.

use std::collections::BTreeSet;

use crate::config::{BuildConfig, BuildImage};
use crate::steps::shard::{Only, Shard};

mod child;
mod context;
mod contexts;
mod ends;
mod execute;
mod identity;
mod labels;
mod observe;
mod plan;
mod render;
mod report;
mod size;

pub use child::{ChildMode, ChildPipeline, child_pipeline};
pub use contexts::{Contexts, write_contexts};
pub use ends::ends;
pub use execute::{Execution, execute};
pub use identity::{Identity, identities, order};
pub use labels::Occasion;
pub use observe::{
    Draft, DraftError, Published, Seen, World, identify, mirror, newest_listed, observe,
    ranks_by_push,
};
pub use plan::{Action, BaseDigest, Engine, Item, Plan, Reason, plan};
pub use report::{BuildReport, ImageReport, Outcome, Totals};

/// The part of the configuration that a run is about.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub only: Only,
    pub shard: Option<Shard>,
}

impl Scope {
    /// Returns the positions of the images in scope. Images that build on one another stay in one
    /// shard.
    pub fn images(&self, build: &BuildConfig) -> BTreeSet<usize> {
        let groups = groups(build);
        let is_meant = |position: &usize| {
            self.shard
                .is_none_or(|shard| shard.contains(groups[*position]))
                && self.only.selects(&names(&build.images[*position]))
        };
        (0..build.images.len()).filter(is_meant).collect()
    }
}

/// Returns the number of the group that each image belongs to: those that build on one another, or
/// share a repository.
fn groups(build: &BuildConfig) -> Vec<usize> {
    let mut group: Vec<usize> = (0..build.images.len()).collect();
    for (position, image) in build.images.iter().enumerate() {
        let related = |other: &BuildImage| {
            other.repository == image.mirror_image || other.repository == image.repository
        };
        for other in (0..build.images.len()).filter(|&other| related(&build.images[other])) {
            let (one, two) = (
                group[position].min(group[other]),
                group[position].max(group[other]),
            );
            group
                .iter_mut()
                .filter(|group| **group == two)
                .for_each(|group| *group = one);
        }
    }
    // Numbered without gaps, so that shards are of equal size.
    let numbers: BTreeSet<usize> = group.iter().copied().collect();
    group
        .iter()
        .map(|group| {
            numbers
                .iter()
                .position(|number| number == group)
                .unwrap_or_default()
        })
        .collect()
}

/// Returns the names by which `--only` knows an image: its own, and its repository.
pub fn names(image: &BuildImage) -> Vec<String> {
    vec![image.name.clone(), image.repository.to_string()]
}

#[cfg(test)]
mod tests;
