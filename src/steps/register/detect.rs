//! Detection of an image's base by its labels and annotations. Pure.
//!
//! Labels are inherited through `FROM`: an image without its own labels has those of its base,
//! which name the image below the base. buildah and older versions of kaniko also inherit
//! annotations. So a label or annotation counts only if it was not inherited. Bases built by
//! imglife name themselves (`imglife.ref`): an inherited `imglife.ref` is the base.

use crate::model::labels;
use crate::model::{Digest, ImageReference, Platform};

use crate::steps::image::ImageFacts;

/// Origin of the base's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseOrigin {
    Flag,
    Annotation(&'static str),
    Label(&'static str),
}

impl std::fmt::Display for BaseOrigin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BaseOrigin::Flag => formatter.write_str("--base"),
            BaseOrigin::Annotation(name) => write!(formatter, "annotation {name}"),
            BaseOrigin::Label(name) => write!(formatter, "label {name}"),
        }
    }
}

impl serde::Serialize for BaseOrigin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A base and the origin of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectedBase {
    pub base: ImageReference,
    pub origin: BaseOrigin,
}

/// The image whose base is detected.
#[derive(Clone, Copy, Debug)]
pub struct RegisteredImage<'a> {
    pub image: &'a ImageReference,
    pub facts: &'a ImageFacts,
    /// Commit that the image was built from, according to the user.
    pub revision: &'a str,
}

impl RegisteredImage<'_> {
    /// Returns the image that labels or annotations were inherited from: a base built by imglife,
    /// whose `imglife.ref` is not this image.
    pub fn inherited_from(&self) -> Option<DetectedBase> {
        let label = self
            .facts
            .label(labels::OWN_REFERENCE)
            .map(|text| (text, BaseOrigin::Label(labels::OWN_REFERENCE)));
        let annotation = self
            .facts
            .annotation(labels::OWN_REFERENCE)
            .map(|text| (text, BaseOrigin::Annotation(labels::OWN_REFERENCE)));
        let named = [label, annotation].into_iter().flatten();
        let parsed = named.filter_map(|(text, origin)| {
            Some(DetectedBase {
                base: reference(text)?,
                origin,
            })
        });
        parsed
            .into_iter()
            .find(|named| !same_image(&named.base, self.image))
    }

    /// Returns the base that the image names. `parent` is the image that labels were inherited
    /// from; `None` if it cannot be read.
    pub fn base(&self, parent: Option<&ImageFacts>) -> Option<DetectedBase> {
        let own = |name, value: Option<&str>| {
            reference(value.filter(|value| !is_inherited(name, value, parent))?)
        };
        let inherited = self.inherited_from();
        // Without the parent, a label may be inherited and name the image below the base.
        let is_plausible = |base: &ImageReference| match (&inherited, parent) {
            (Some(inherited), None) => same_image(base, &inherited.base),
            _ => true,
        };
        let annotation = |name| own(name, self.facts.annotation(name)).filter(is_plausible);
        let label = |name| own(name, self.facts.label(name)).filter(is_plausible);
        annotation(labels::BASE_NAME)
            .map(|base| DetectedBase {
                base,
                origin: BaseOrigin::Annotation(labels::BASE_NAME),
            })
            .or_else(|| {
                Some(DetectedBase {
                    base: label(labels::BASE_IMAGE_REF)?,
                    origin: BaseOrigin::Label(labels::BASE_IMAGE_REF),
                })
            })
            .or_else(|| inherited.clone())
            .or_else(|| {
                let base = label(labels::BASE_NAME).filter(|_| !self.has_inherited_labels())?;
                Some(DetectedBase {
                    base,
                    origin: BaseOrigin::Label(labels::BASE_NAME),
                })
            })
    }

    /// Returns true if the labels were inherited from an image without `imglife.ref`: they are the
    /// labels of a base, or name another commit.
    pub fn has_inherited_labels(&self) -> bool {
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

    /// Returns the platforms of the image: by its own label or annotation, else those of its index,
    /// else that of its configuration.
    pub fn platforms(&self, parent: Option<&ImageFacts>) -> Vec<Platform> {
        // Without the parent, a label may be inherited, so the image itself counts.
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

    /// Returns the digest of the base that the image was built on; `None` if it is unknown.
    ///
    /// `now` is the image that the reference of the base names now. If it is an index, its digest
    /// is returned, even if the builder recorded the digest of one platform.
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

/// Returns true if the parent has the same label or annotation.
fn is_inherited(name: &str, value: &str, parent: Option<&ImageFacts>) -> bool {
    parent
        .is_some_and(|parent| [parent.annotation(name), parent.label(name)].contains(&Some(value)))
}

fn reference(text: &str) -> Option<ImageReference> {
    // Builders use this name for an empty base. As a reference it would be an image of Docker Hub.
    let text = text.trim();
    if text == "scratch" {
        None
    } else {
        text.parse().ok()
    }
}

/// Returns true if both references have the same repository and tag.
pub fn same_image(one: &ImageReference, other: &ImageReference) -> bool {
    one.repository == other.repository && one.tag == other.tag
}

/// Returns true if one commit is a prefix of the other.
fn same_commit(one: &str, other: &str) -> bool {
    let (one, other) = (
        one.trim().to_ascii_lowercase(),
        other.trim().to_ascii_lowercase(),
    );
    one.starts_with(&other) || other.starts_with(&one)
}

/// Returns the platforms in `text`, separated by white space or commas; `None` if there is none or
/// one is invalid.
pub fn parse_platforms(text: &str) -> Option<Vec<Platform>> {
    let parts = text
        .split(|character: char| character.is_whitespace() || character == ',')
        .filter(|part| !part.is_empty());
    parts
        .map(|part| part.parse().ok())
        .collect::<Option<Vec<Platform>>>()
        .filter(|platforms| !platforms.is_empty())
}
