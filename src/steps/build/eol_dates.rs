//! End-of-life dates of images, from the resolved tags of their bases.

use std::collections::HashMap;

use chrono::NaiveDate;

use super::observe::World;
use crate::config::{BuildConfig, BuildImage, Config};
use crate::steps::eol::{EolAssessor, products_of_image};

/// Returns the end-of-life dates of the images, by their positions. An image without a known date
/// is absent.
pub fn eol_dates(
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
