//! Base, version and tag of each image of the configuration. Pure: the caller passes the newest
//! tags of the mirrors.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::config::{BuildConfig, BuildImage, ImageType};
use crate::error::ItemError;
use crate::model::{ImageReference, Repository, Tag};
use crate::template;

/// Base, version and tag of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub base: Repository,
    pub base_tag: Tag,
    /// Position of the base in the configuration; `None` if the base is not built there.
    pub built_on: Option<usize>,
    pub version: String,
    pub tag: Tag,
}

impl Identity {
    /// Returns the reference of the base, by tag.
    pub fn base_reference(&self) -> ImageReference {
        ImageReference::tagged(self.base.clone(), self.base_tag.clone())
    }
}

/// Returns the positions of the images in build order: each comes after its bases. The
/// configuration check rejects cycles.
pub fn order(build: &BuildConfig) -> Vec<usize> {
    let mut positions: HashMap<&Repository, Vec<usize>> = HashMap::new();
    for (position, image) in build.images.iter().enumerate() {
        positions
            .entry(&image.repository)
            .or_default()
            .push(position);
    }
    let mut ordered = Vec::with_capacity(build.images.len());
    let mut visited = vec![false; build.images.len()];
    for start in 0..build.images.len() {
        // Depth-first search with an explicit stack; `true` once all bases of the image are done.
        let mut stack = vec![(start, false)];
        while let Some((position, is_done)) = stack.pop() {
            if is_done {
                ordered.push(position);
            } else if !std::mem::replace(&mut visited[position], true) {
                stack.push((position, true));
                let bases = positions
                    .get(&build.images[position].mirror_image)
                    .into_iter()
                    .flatten();
                stack.extend(bases.map(|&base| (base, false)));
            }
        }
    }
    ordered
}

/// Returns the identity of each image. `mirror_tags` has the newest tag of the mirror for each
/// image without `mirror_tag`, by position.
pub fn identities(
    build: &BuildConfig,
    mirror_tags: &BTreeMap<usize, Result<Tag, ItemError>>,
) -> Vec<Result<Identity, ItemError>> {
    let mut found: Vec<Option<Result<Identity, ItemError>>> = vec![None; build.images.len()];
    for position in order(build) {
        let image = &build.images[position];
        let bases: Vec<usize> = (0..build.images.len())
            .filter(|&other| build.images[other].repository == image.mirror_image)
            .collect();
        let identity = if bases.is_empty() {
            on_mirror(build, image, mirror_tags.get(&position))
        } else {
            let bases: Vec<(usize, &Result<Identity, ItemError>)> = bases
                .into_iter()
                .filter_map(|base| Some((base, found[base].as_ref()?)))
                .collect();
            on_image(build, image, &bases)
        };
        found[position] = Some(identity);
    }
    let mut identities: Vec<Result<Identity, ItemError>> = found.into_iter().flatten().collect();
    reject_shared_tags(build, &mut identities);
    identities
}

fn on_mirror(
    build: &BuildConfig,
    image: &BuildImage,
    newest: Option<&Result<Tag, ItemError>>,
) -> Result<Identity, ItemError> {
    let base_tag = match (&image.mirror_tag, newest) {
        (Some(tag), _) => tag.clone(),
        (None, Some(newest)) => newest.clone()?,
        (None, None) => {
            return Err(ItemError::other(format!(
                "the newest tag of {} is unknown",
                image.mirror_image
            ))
            .with_hint("set `mirror_tag`"));
        }
    };
    let version = image
        .version
        .clone()
        .unwrap_or_else(|| base_tag.to_string());
    let tag = tag(build, image, &version)?;
    Ok(Identity {
        base: image.mirror_image.clone(),
        base_tag,
        built_on: None,
        version,
        tag,
    })
}

/// Returns the identity of an image whose base is built from the configuration. Of several bases it
/// is the one with the tag `mirror_tag`.
fn on_image(
    build: &BuildConfig,
    image: &BuildImage,
    bases: &[(usize, &Result<Identity, ItemError>)],
) -> Result<Identity, ItemError> {
    let named = image.mirror_tag.as_ref();
    let of_tag = bases
        .iter()
        .find(|(_, base)| base.as_ref().is_ok_and(|base| Some(&base.tag) == named));
    let (built_on, base_tag, version) = match (named, of_tag, bases) {
        (_, Some((position, Ok(base))), _) => {
            (Some(*position), base.tag.clone(), base.version.clone())
        }
        // A published tag that the configuration does not build any more.
        (Some(tag), _, _) => (None, tag.clone(), tag.to_string()),
        (None, _, [(position, Ok(base))]) => {
            (Some(*position), base.tag.clone(), base.version.clone())
        }
        (None, _, [(_, Err(error))]) => {
            return Err(ItemError::other(format!(
                "the tag of its base {} is unknown: {error}",
                image.mirror_image
            )));
        }
        (None, _, several) => {
            let tags: Vec<String> = several
                .iter()
                .filter_map(|(_, base)| base.as_ref().ok())
                .map(|base| base.tag.to_string())
                .collect();
            return Err(ItemError::other(format!(
                "{} is built in several versions",
                image.mirror_image
            ))
            .with_hint(format!("set `mirror_tag` to one of: {}", tags.join(", "))));
        }
    };
    let version = image.version.clone().unwrap_or(version);
    let tag = tag(build, image, &version)?;
    Ok(Identity {
        base: image.mirror_image.clone(),
        base_tag,
        built_on,
        version,
        tag,
    })
}

fn tag(build: &BuildConfig, image: &BuildImage, version: &str) -> Result<Tag, ItemError> {
    #[derive(Serialize)]
    struct TagVariables<'a> {
        name: &'a str,
        r#type: &'static str,
        version: &'a str,
        core_version: &'a str,
    }
    let variables = TagVariables {
        name: &image.name,
        r#type: type_name(image.image_type),
        version,
        core_version: &image.core_version,
    };
    let text =
        template::render("build.tag_format", &build.tag_format, variables).map_err(|error| {
            ItemError::other(error.to_string()).with_optional_hint(error.hint.clone())
        })?;
    text.parse().map_err(|error| {
        ItemError::other(format!(
            "`build.tag_format` renders an invalid tag: {error}"
        ))
    })
}

/// Returns the value of `type` in the configuration.
pub(super) fn type_name(image_type: ImageType) -> &'static str {
    match image_type {
        ImageType::Core => "core",
        ImageType::Special => "spe",
        ImageType::SpecialDevelopment => "spe-dev",
    }
}

/// Replaces the identities of images that would publish the same tag or alias by an error.
fn reject_shared_tags(build: &BuildConfig, identities: &mut [Result<Identity, ItemError>]) {
    let mut writers: BTreeMap<(&Repository, Tag), Vec<usize>> = BTreeMap::new();
    for (position, identity) in identities.iter().enumerate() {
        let Ok(identity) = identity else { continue };
        let image = &build.images[position];
        for tag in image.aliases.iter().chain([&identity.tag]) {
            let writers = writers.entry((&image.repository, tag.clone())).or_default();
            if !writers.contains(&position) {
                writers.push(position);
            }
        }
    }
    for ((repository, tag), positions) in writers
        .into_iter()
        .filter(|(_, positions)| positions.len() > 1)
    {
        let images: Vec<String> = positions
            .iter()
            .map(|position| format!("build.images[{position}]"))
            .collect();
        for position in positions {
            identities[position] = Err(ItemError::other(format!(
                "{} would all be published as {repository}:{tag}",
                images.join(" and ")
            ))
            .with_hint("set a different `version` for each, or keep the alias on one of them"));
        }
    }
}
