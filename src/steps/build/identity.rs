//! What each image of the configuration is built on and called. Pure: the tags of mirrors are
//! handed in.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::config::{BuildConfig, BuildImage, ImageType};
use crate::error::ItemError;
use crate::model::{ImageReference, Repository, Tag};
use crate::template;

/// What an image is built on and called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub base: Repository,
    pub base_tag: Tag,
    /// The position of the image that it is built on, when that is one of the configuration.
    pub built_on: Option<usize>,
    pub version: String,
    pub tag: Tag,
}

impl Identity {
    /// Returns the reference of the base by tag.
    pub fn base_reference(&self) -> ImageReference {
        ImageReference::tagged(self.base.clone(), self.base_tag.clone())
    }
}

/// Returns the positions of the images such that each comes after what it is built on. The
/// configuration has no circles.
pub fn order(build: &BuildConfig) -> Vec<usize> {
    let mut below: HashMap<&Repository, Vec<usize>> = HashMap::new();
    for (position, image) in build.images.iter().enumerate() {
        below.entry(&image.repository).or_default().push(position);
    }
    let mut ordered = Vec::with_capacity(build.images.len());
    let mut entered = vec![false; build.images.len()];
    for start in 0..build.images.len() {
        // A walk in depth with its own stack: `true` when all below it has come.
        let mut stack = vec![(start, false)];
        while let Some((position, is_done)) = stack.pop() {
            if is_done {
                ordered.push(position);
            } else if !std::mem::replace(&mut entered[position], true) {
                stack.push((position, true));
                let bases = below
                    .get(&build.images[position].mirror_image)
                    .into_iter()
                    .flatten();
                stack.extend(bases.map(|&base| (base, false)));
            }
        }
    }
    ordered
}

/// Returns what each image is built on and called. `mirror_tags` are the newest tags of mirrors, by
/// the positions of the images that leave `mirror_tag` to them.
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
    refuse_shared_tags(build, &mut identities);
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
            return Err(
                ItemError::other(format!("no tag of {} is known", image.mirror_image))
                    .with_hint("give `mirror_tag`"),
            );
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

/// An image that is built on others of the configuration: on the one whose tag it names, or on the
/// only one.
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
        // A tag of an earlier configuration, which is published and not built any more.
        (Some(tag), _, _) => (None, tag.clone(), tag.to_string()),
        (None, _, [(position, Ok(base))]) => {
            (Some(*position), base.tag.clone(), base.version.clone())
        }
        (None, _, [(_, Err(error))]) => {
            return Err(ItemError::other(format!(
                "what it is built on cannot be told: {error}"
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
            .with_hint(format!("name one with `mirror_tag`: {}", tags.join(", "))));
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
    struct Variables<'a> {
        name: &'a str,
        r#type: &'static str,
        version: &'a str,
        core_version: &'a str,
    }
    let variables = Variables {
        name: &image.name,
        r#type: type_name(image.image_type),
        version,
        core_version: &image.core_version,
    };
    let text =
        template::render("build.tag_format", &build.tag_format, variables).map_err(|error| {
            ItemError::other(error.to_string()).with_optional_hint(error.hint.clone())
        })?;
    text.parse()
        .map_err(|error| ItemError::other(format!("`build.tag_format` makes no tag: {error}")))
}

/// Returns the name of a type as the configuration has it.
pub(super) fn type_name(image_type: ImageType) -> &'static str {
    match image_type {
        ImageType::Core => "core",
        ImageType::Special => "spe",
        ImageType::SpecialDevelopment => "spe-dev",
    }
}

/// Makes images fail that would publish the same tag, be it their own or an alias.
fn refuse_shared_tags(build: &BuildConfig, identities: &mut [Result<Identity, ItemError>]) {
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
            .with_hint("give them different values of `version`, or the alias to one of them"));
        }
    }
}
