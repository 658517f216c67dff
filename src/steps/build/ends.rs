//! End-of-life dates of images, by the tags that they are actually built on.

use std::collections::HashMap;

use chrono::NaiveDate;

use super::observe::World;
use crate::config::{BuildConfig, BuildImage, Config};
use crate::steps::eol::{EolAssessor, products_of_image};

/// Returns the end-of-life date of each image that has one, by its position.
pub fn ends(
    config: &Config,
    build: &BuildConfig,
    world: &World,
    assessor: &EolAssessor<'_>,
) -> HashMap<usize, NaiveDate> {
    let end = |position: &usize| {
        let identity = world.identities[*position].as_ref().ok()?;
        let image = BuildImage {
            mirror_tag: Some(identity.base_tag.clone()),
            ..build.images[*position].clone()
        };
        let date = assessor.image(&products_of_image(&image, config)).date()?;
        Some((*position, date))
    };
    world.images.keys().filter_map(end).collect()
}
