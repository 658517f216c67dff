//! Which base an image stands on, by what it says of itself. Pure.
//!
//! Labels are inherited through `FROM`: an image without labels of its own carries those of its
//! base, and with them the name of what the base was built from, which is one tier too low.
//! Annotations are inherited by buildah and by older kaniko. So whatever names a base counts only
//! unless it was inherited, and that imglife's own bases name themselves (`imglife.ref`) tells
//! both: what was inherited from, and that it is the base.

use crate::model::labels;
use crate::model::{Digest, ImageReference, Platform};

use crate::steps::image::ImageFacts;

/// What named the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Flag,
    Annotation(&'static str),
    Label(&'static str),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Flag => formatter.write_str("--base"),
            Origin::Annotation(name) => write!(formatter, "annotation {name}"),
            Origin::Label(name) => write!(formatter, "label {name}"),
        }
    }
}

impl serde::Serialize for Origin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A base, and what named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    pub base: ImageReference,
    pub origin: Origin,
}

/// The image that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub image: &'a ImageReference,
    pub facts: &'a ImageFacts,
    /// The commit that the image is said to be built from.
    pub revision: &'a str,
}

impl Subject<'_> {
    /// Returns the image that annotations or labels were inherited from: an imglife base that names
    /// itself, and is not this image.
    pub fn inherited_from(&self) -> Option<Detected> {
        let label = self
            .facts
            .label(labels::OWN_REFERENCE)
            .map(|text| (text, Origin::Label(labels::OWN_REFERENCE)));
        let annotation = self
            .facts
            .annotation(labels::OWN_REFERENCE)
            .map(|text| (text, Origin::Annotation(labels::OWN_REFERENCE)));
        let named = [label, annotation].into_iter().flatten();
        let parsed = named.filter_map(|(text, origin)| {
            Some(Detected {
                base: reference(text)?,
                origin,
            })
        });
        parsed
            .into_iter()
            .find(|named| !same_image(&named.base, self.image))
    }

    /// Returns the base that the image names. `parent` is what the image that was inherited from
    /// says of itself, where it can be read.
    pub fn base(&self, parent: Option<&ImageFacts>) -> Option<Detected> {
        let own = |name, value: Option<&str>| {
            reference(value.filter(|value| !is_inherited(name, value, parent))?)
        };
        let inherited = self.inherited_from();
        // What cannot be compared may be the base's, and name what that stands on.
        let is_told = |base: &ImageReference| match (&inherited, parent) {
            (Some(inherited), None) => same_image(base, &inherited.base),
            _ => true,
        };
        let annotation = |name| own(name, self.facts.annotation(name)).filter(is_told);
        let label = |name| own(name, self.facts.label(name)).filter(is_told);
        annotation(labels::BASE_NAME)
            .map(|base| Detected {
                base,
                origin: Origin::Annotation(labels::BASE_NAME),
            })
            .or_else(|| {
                Some(Detected {
                    base: label(labels::BASE_IMAGE_REF)?,
                    origin: Origin::Label(labels::BASE_IMAGE_REF),
                })
            })
            .or_else(|| inherited.clone())
            .or_else(|| {
                let base = label(labels::BASE_NAME).filter(|_| !self.labels_are_of_another())?;
                Some(Detected {
                    base,
                    origin: Origin::Label(labels::BASE_NAME),
                })
            })
    }

    /// Returns whether the labels were inherited from an image that does not name itself: they say
    /// that they are a base's, or that they were written for another commit.
    pub fn labels_are_of_another(&self) -> bool {
        let names_itself = self
            .facts
            .label(labels::OWN_REFERENCE)
            .and_then(reference)
            .is_some_and(|own| same_image(&own, self.image));
        if names_itself {
            return false;
        }
        let other_commit = self
            .facts
            .label(labels::REVISION)
            .is_some_and(|label| !same_commit(label, self.revision));
        other_commit || self.facts.label(labels::TIER) == Some(labels::TIER_BASE)
    }

    /// Returns the platforms that the image says it has: in its own words, else those of its index,
    /// else that of its configuration.
    pub fn platforms(&self, parent: Option<&ImageFacts>) -> Vec<Platform> {
        // What cannot be compared may be the base's, so what the image is made of counts.
        let comparable = self.inherited_from().is_none() || parent.is_some();
        let own =
            |value: Option<&str>| {
                parse_platforms(value.filter(|value| {
                    comparable && !is_inherited(labels::PLATFORMS, value, parent)
                })?)
            };
        let annotation = || own(self.facts.annotation(labels::PLATFORMS));
        let label = || own(self.facts.label(labels::PLATFORMS));
        annotation()
            .or_else(label)
            .unwrap_or_else(|| match self.facts.platforms() {
                platforms if !platforms.is_empty() => platforms,
                _ => self.facts.config.platform.iter().cloned().collect(),
            })
    }

    /// Returns the digest of the base that the image was built on, where that is known. `now` is
    /// what the base's reference names today: of an index that is the index, whichever digest the
    /// builder wrote down.
    pub fn base_digest(&self, base: &ImageReference, now: Option<&ImageFacts>) -> Option<Digest> {
        if base.digest.is_some() {
            return base.digest.clone();
        }
        let written = [
            (
                self.facts.annotation(labels::BASE_NAME),
                self.facts.annotation(labels::BASE_DIGEST),
            ),
            (
                self.facts.label(labels::BASE_NAME),
                self.facts.label(labels::BASE_DIGEST),
            ),
        ];
        let written = written.into_iter().find_map(|(name, digest)| {
            name.and_then(reference)
                .filter(|name| same_image(name, base))?;
            digest?.trim().parse::<Digest>().ok()
        });
        match (written, now) {
            (Some(written), Some(now)) if now.has(&written) => Some(now.digest.clone()),
            (_, Some(now)) if self.facts.config.is_based_on(&now.config) => {
                Some(now.digest.clone())
            }
            (written, _) => written,
        }
    }
}

/// Returns whether the image that was inherited from says the same.
fn is_inherited(name: &str, value: &str, parent: Option<&ImageFacts>) -> bool {
    parent
        .is_some_and(|parent| [parent.annotation(name), parent.label(name)].contains(&Some(value)))
}

fn reference(text: &str) -> Option<ImageReference> {
    // Builders name an empty base so; as a reference it would be an image of Docker Hub.
    let text = text.trim();
    if text == "scratch" {
        None
    } else {
        text.parse().ok()
    }
}

/// Returns whether both name the same image, digests aside.
pub fn same_image(one: &ImageReference, other: &ImageReference) -> bool {
    one.repository == other.repository && one.tag == other.tag
}

/// Returns whether both name a commit that may be the same: one may be the beginning of the other.
fn same_commit(one: &str, other: &str) -> bool {
    let (one, other) = (
        one.trim().to_ascii_lowercase(),
        other.trim().to_ascii_lowercase(),
    );
    one.starts_with(&other) || other.starts_with(&one)
}

/// Returns the platforms in `text`, parted by blanks or commas, or `None` when it holds none or
/// something else.
pub fn parse_platforms(text: &str) -> Option<Vec<Platform>> {
    let parts = text
        .split(|character: char| character.is_whitespace() || character == ',')
        .filter(|part| !part.is_empty());
    parts
        .map(|part| part.parse().ok())
        .collect::<Option<Vec<Platform>>>()
        .filter(|platforms| !platforms.is_empty())
}
