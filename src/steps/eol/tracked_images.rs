//! Images of the configuration whose end of life is tracked, with their products and the tags that
//! name the release cycles.

use std::collections::BTreeSet;
use std::fmt;

use crate::config::{
    BuildImage, Config, ImageLifecycle, ImageType, PatternSelection, SyncEntry, TagSelection,
};
use crate::model::lifecycle::Product;
use crate::model::{Repository, Tag};

/// An image whose end of life is tracked.
#[derive(Clone, Debug)]
pub struct TrackedImage<'a> {
    pub tier: Tier,
    pub repository: &'a Repository,
    /// Tag of a mirror, or version of a base; `None` if it is unknown.
    pub tag: Option<&'a str>,
    /// Products in the image, all of which must be supported. Empty if the products are unknown.
    pub products: Vec<ImageProduct<'a>>,
}

/// Kind of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    Mirror,
    Base,
}

impl fmt::Display for TrackedImage<'_> {
    /// Writes the reference of a mirror, with `*` for tags selected by a pattern, or the repository
    /// and version of a base.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.tier, self.tag) {
            (Tier::Mirror, tag) => write!(formatter, "{}:{}", self.repository, tag.unwrap_or("*")),
            (Tier::Base, Some(version)) => write!(formatter, "{} {version}", self.repository),
            (Tier::Base, None) => self.repository.fmt(formatter),
        }
    }
}

/// A product in an image.
#[derive(Clone, Debug)]
pub struct ImageProduct<'a> {
    pub lifecycle: &'a ImageLifecycle,
    pub versions: Versions<'a>,
}

/// Tags that name the release cycle.
#[derive(Clone, Debug)]
pub enum Versions<'a> {
    /// Tags of the same image; the first that matches a release cycle is used.
    Tags(Vec<&'a str>),
    /// Tags that a pattern selects, which are unknown without a listing.
    Selected(&'a PatternSelection),
}

/// Returns the mirrors, in the order of the configuration.
pub fn mirrors(config: &Config) -> Vec<TrackedImage<'_>> {
    entries(config)
        .iter()
        .map(|entry| TrackedImage {
            tier: Tier::Mirror,
            repository: &entry.target,
            tag: fixed_tag(entry),
            products: products_of_entry(entry, None),
        })
        .collect()
}

/// Returns the bases, in the order of the configuration. Development images are not tracked.
pub fn bases(config: &Config) -> Vec<TrackedImage<'_>> {
    images(config)
        .iter()
        .filter(|image| image.image_type != ImageType::SpecialDevelopment)
        .map(|image| TrackedImage {
            tier: Tier::Base,
            repository: &image.repository,
            tag: version(image, config),
            products: products_of_image(image, config),
        })
        .collect()
}

/// Returns the products of all tracked images.
pub fn products(config: &Config) -> BTreeSet<&Product> {
    let all = mirrors(config).into_iter().chain(bases(config));
    all.flat_map(|tracked| tracked.products)
        .map(|product| &product.lifecycle.product)
        .collect()
}

fn entries(config: &Config) -> &[SyncEntry] {
    config.sync.as_ref().map_or(&[], |sync| &sync.entries)
}

fn images(config: &Config) -> &[BuildImage] {
    config.build.as_ref().map_or(&[], |build| &build.images)
}

fn fixed_tag(entry: &SyncEntry) -> Option<&str> {
    match &entry.selection {
        TagSelection::Fixed(tag) => Some(tag.as_str()),
        TagSelection::Pattern(_) => None,
    }
}

/// Returns the products of a mirror, by `tag` or by the tags that the entry selects.
fn products_of_entry<'a>(entry: &'a SyncEntry, tag: Option<&'a Tag>) -> Vec<ImageProduct<'a>> {
    let versions = match (tag, &entry.selection) {
        (Some(tag), _) | (None, TagSelection::Fixed(tag)) => Versions::Tags(vec![tag.as_str()]),
        (None, TagSelection::Pattern(pattern)) => Versions::Selected(pattern),
    };
    entry
        .lifecycle
        .iter()
        .map(|lifecycle| ImageProduct {
            lifecycle,
            versions: versions.clone(),
        })
        .collect()
}

/// Returns the products of a base: its own `lifecycle`, or that of the nearest image below it that
/// has one, down to the mirror.
pub fn products_of_image<'a>(image: &'a BuildImage, config: &'a Config) -> Vec<ImageProduct<'a>> {
    let mut image = image;
    // The configuration is rejected if images are built on each other in a cycle.
    for _ in images(config) {
        let mirror = mirror(image, config);
        if let Some(own) = &image.lifecycle {
            let versions = versions_of_image(image, mirror);
            return own
                .iter()
                .map(|lifecycle| ImageProduct {
                    lifecycle,
                    versions: versions.clone(),
                })
                .collect();
        }
        // Inherited products use the mirror's tag, because the version of a base can be any text.
        if let Some(mirror) = mirror {
            return products_of_entry(mirror, image.mirror_tag.as_ref());
        }
        let Some(below) = below(image, config) else {
            break;
        };
        image = below;
    }
    Vec::new()
}

/// Returns the sync entry that the image is built on, preferably one with `lifecycle`.
fn mirror<'a>(image: &BuildImage, config: &'a Config) -> Option<&'a SyncEntry> {
    let candidates = || {
        entries(config)
            .iter()
            .filter(|entry| entry.target == image.mirror_image)
    };
    candidates()
        .find(|entry| !entry.lifecycle.is_empty())
        .or_else(|| candidates().next())
}

/// Returns the tags for the products of a base's own `lifecycle`.
fn versions_of_image<'a>(image: &'a BuildImage, mirror: Option<&'a SyncEntry>) -> Versions<'a> {
    let own = image
        .version
        .as_deref()
        .into_iter()
        .chain(image.mirror_tag.as_ref().map(Tag::as_str));
    let tags: Vec<&str> = own.chain(mirror.and_then(fixed_tag)).collect();
    match mirror.map(|mirror| &mirror.selection) {
        Some(TagSelection::Pattern(pattern)) if tags.is_empty() => Versions::Selected(pattern),
        _ => Versions::Tags(tags),
    }
}

/// Returns the configured image that `image` is built on, preferably the version that its tag
/// starts with.
fn below<'a>(image: &BuildImage, config: &'a Config) -> Option<&'a BuildImage> {
    let candidates = || {
        images(config)
            .iter()
            .filter(|other| other.repository == image.mirror_image)
    };
    let has_version_of_tag = |other: &&BuildImage| {
        let version = version(other, config);
        image
            .mirror_tag
            .as_ref()
            .zip(version)
            .is_some_and(|(tag, version)| tag.as_str().starts_with(version))
    };
    candidates()
        .find(has_version_of_tag)
        .or_else(|| candidates().next())
}

/// Returns the version of a base; `None` if the configuration does not set it.
pub fn version<'a>(image: &'a BuildImage, config: &'a Config) -> Option<&'a str> {
    let mirror_tag = || {
        entries(config)
            .iter()
            .find(|entry| entry.target == image.mirror_image)
            .and_then(fixed_tag)
    };
    image
        .version
        .as_deref()
        .or_else(|| image.mirror_tag.as_ref().map(Tag::as_str))
        .or_else(mirror_tag)
}
