//! When images end, with the tags that they are really built on.

use std::collections::HashMap;

use chrono::NaiveDate;

use super::observe::World;
use crate::config::{BuildConfig, BuildImage, Config};
use crate::steps::eol::{Judge, parts_of_image};

/// Returns the days on which images end, by their positions, where that is known.
pub fn ends(
    config: &Config,
    build: &BuildConfig,
    world: &World,
    judge: &Judge<'_>,
) -> HashMap<usize, NaiveDate> {
    let end = |position: &usize| {
        let identity = world.identities[*position].as_ref().ok()?;
        let image = BuildImage {
            mirror_tag: Some(identity.base_tag.clone()),
            ..build.images[*position].clone()
        };
        let date = judge.image(&parts_of_image(&image, config)).date()?;
        Some((*position, date))
    };
    world.images.keys().filter_map(end).collect()
}
