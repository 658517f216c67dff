//! `build`: base images from templates.
//!
//! `observe` reads templates, base images and published images. `plan` decides what to build,
//! without requests. `execute` builds the planned images with an engine and moves their aliases. A
//! published tag is never overwritten with an image of different inputs unless the run is forced.

use std::collections::BTreeSet;

use crate::config::{BuildConfig, BuildImage};
use crate::steps::shard::{Only, Shard};

mod child;
mod context;
mod contexts;
mod eol_dates;
mod execute;
mod identity;
mod labels;
mod observe;
mod plan;
mod render;
mod report;
mod size;

pub use child::{ChildMode, ChildPipeline, child_pipeline};
pub use contexts::{ContextOptions, write_contexts};
pub use eol_dates::eol_dates;
pub use execute::{BuildExecution, execute};
pub use identity::{Identity, identities, order};
pub use labels::RunMetadata;
pub use observe::{
    ImageInputs, InputsError, ObservedImage, PublishedImage, World, identify, mirror,
    newest_listed, observe, ranks_by_push,
};
pub use plan::{BaseDigest, BuildAction, BuildItem, BuildReason, Plan, PlannedEngine, plan};
pub use report::{BuildReport, BuildTotals, ImageOutcome, ImageReport};

/// Images of the configuration that a run is restricted to.
#[derive(Clone, Debug, Default)]
pub struct BuildScope {
    pub only: Only,
    pub shard: Option<Shard>,
}

impl BuildScope {
    /// Returns the positions of the images in scope. An image and its base are in the same shard.
    pub fn images(&self, build: &BuildConfig) -> BTreeSet<usize> {
        let groups = groups(build);
        let is_selected = |position: &usize| {
            self.shard
                .is_none_or(|shard| shard.contains(groups[*position]))
                && self.only.selects(&names(&build.images[*position]))
        };
        (0..build.images.len()).filter(is_selected).collect()
    }
}

/// Returns the group number of each image. Images that build on one another or share a repository
/// are in one group.
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
    // Numbers without gaps, so that shards have similar sizes.
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

/// Returns the names of an image that `--only` can match: its name and its repository.
pub fn names(image: &BuildImage) -> Vec<String> {
    vec![image.name.clone(), image.repository.to_string()]
}

#[cfg(test)]
mod tests;
