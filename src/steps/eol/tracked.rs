//! The images of a configuration, the products that they are of, and the tags that name their
//! cycles.

use std::collections::BTreeSet;
use std::fmt;

use crate::config::{
    BuildImage, Config, ImageLifecycle, ImageType, PatternSelection, SyncEntry, TagSelection,
};
use crate::model::lifecycle::Product;
use crate::model::{Repository, Tag};

/// An image whose end of life is looked after.
#[derive(Clone, Debug)]
pub struct Tracked<'a> {
    pub tier: Tier,
    pub repository: &'a Repository,
    /// What is known of its tag: the mirror's, or the version that a base is built of.
    pub tag: Option<&'a str>,
    /// What it consists of; all of it must be supported. Empty when nothing is known.
    pub parts: Vec<Part<'a>>,
}

/// Where in its life an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    Mirror,
    Base,
}

impl fmt::Display for Tracked<'_> {
    /// Writes a mirror's reference, with `*` for tags that are selected; a base's repository and
    /// the version that it is built of.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.tier, self.tag) {
            (Tier::Mirror, tag) => write!(formatter, "{}:{}", self.repository, tag.unwrap_or("*")),
            (Tier::Base, Some(version)) => write!(formatter, "{} {version}", self.repository),
            (Tier::Base, None) => self.repository.fmt(formatter),
        }
    }
}

/// A product within an image.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    pub lifecycle: &'a ImageLifecycle,
    pub versions: Versions<'a>,
}

/// What names the cycle.
#[derive(Clone, Debug)]
pub enum Versions<'a> {
    /// Tags of the same image; the first that names a known cycle counts.
    Tags(Vec<&'a str>),
    /// Whatever tags are selected: they are not known without asking a registry.
    Selected(&'a PatternSelection),
}

/// Returns the mirrors, in the order of the configuration.
pub fn mirrors(config: &Config) -> Vec<Tracked<'_>> {
    entries(config)
        .iter()
        .map(|entry| Tracked {
            tier: Tier::Mirror,
            repository: &entry.target,
            tag: fixed_tag(entry),
            parts: parts_of_entry(entry, None),
        })
        .collect()
}

/// Returns the bases, in the order of the configuration. Development images are not looked after.
pub fn bases(config: &Config) -> Vec<Tracked<'_>> {
    let looked_after = images(config)
        .iter()
        .filter(|image| image.image_type != ImageType::SpecialDevelopment);
    looked_after
        .map(|image| Tracked {
            tier: Tier::Base,
            repository: &image.repository,
            tag: version(image, config),
            parts: parts_of_image(image, config),
        })
        .collect()
}

/// Returns the products of everything that is looked after.
pub fn products(config: &Config) -> BTreeSet<&Product> {
    let all = mirrors(config).into_iter().chain(bases(config));
    all.flat_map(|tracked| tracked.parts)
        .map(|part| &part.lifecycle.product)
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

/// Returns what a mirror consists of, of the tag that an image names or of those that are selected.
fn parts_of_entry<'a>(entry: &'a SyncEntry, tag: Option<&'a Tag>) -> Vec<Part<'a>> {
    let versions = match (tag, &entry.selection) {
        (Some(tag), _) | (None, TagSelection::Fixed(tag)) => Versions::Tags(vec![tag.as_str()]),
        (None, TagSelection::Pattern(pattern)) => Versions::Selected(pattern),
    };
    entry
        .lifecycle
        .iter()
        .map(|lifecycle| Part {
            lifecycle,
            versions: versions.clone(),
        })
        .collect()
}

/// Returns what a base consists of: what it says itself, else what the next below it does that says
/// anything, down to the mirror.
pub fn parts_of_image<'a>(image: &'a BuildImage, config: &'a Config) -> Vec<Part<'a>> {
    let mut image = image;
    // Images that are built on one another in a circle are refused with the configuration.
    for _ in images(config) {
        let mirror = mirror(image, config);
        if let Some(own) = &image.lifecycle {
            let versions = versions_of_image(image, mirror);
            return own
                .iter()
                .map(|lifecycle| Part {
                    lifecycle,
                    versions: versions.clone(),
                })
                .collect();
        }
        // What it inherits counts by the mirror's tag: the version of a base can be any text.
        if let Some(mirror) = mirror {
            return parts_of_entry(mirror, image.mirror_tag.as_ref());
        }
        let Some(below) = below(image, config) else {
            break;
        };
        image = below;
    }
    Vec::new()
}

/// Returns the entry that the image is built on, of several one that says what it consists of.
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

/// Returns what names the cycles of what a base says of itself.
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

/// Returns the image that another is built on, of several versions the one that its tag is of.
fn below<'a>(image: &BuildImage, config: &'a Config) -> Option<&'a BuildImage> {
    let candidates = || {
        images(config)
            .iter()
            .filter(|other| other.repository == image.mirror_image)
    };
    let is_of_tag = |other: &&BuildImage| {
        let version = version(other, config);
        image
            .mirror_tag
            .as_ref()
            .zip(version)
            .is_some_and(|(tag, version)| tag.as_str().starts_with(version))
    };
    candidates().find(is_of_tag).or_else(|| candidates().next())
}

/// Returns the version that a base is built of, where the configuration tells it.
pub fn version<'a>(image: &'a BuildImage, config: &'a Config) -> Option<&'a str> {
    let of_mirror = || {
        entries(config)
            .iter()
            .find(|entry| entry.target == image.mirror_image)
            .and_then(fixed_tag)
    };
    image
        .version
        .as_deref()
        .or_else(|| image.mirror_tag.as_ref().map(Tag::as_str))
        .or_else(of_mirror)
}
