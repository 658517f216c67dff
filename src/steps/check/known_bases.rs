//! Bases that an inventory, a configuration or the listing of a registry names. Pure.

use chrono::{DateTime, Utc};

use crate::config::{BuildImage, Config, ImageType};
use crate::eol::EolTable;
use crate::model::eol::{Calendar, EolAssessment};
use crate::model::inventory::InventoryUser;
use crate::model::{Digest, ImageReference, Inventory, Repository, Tag, TagVersion};
use crate::registry::ListedTag;
use crate::steps::eol::{EolAssessor, Versions, products_of_image, version};

/// Source of the list of bases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BaseSource {
    Inventory {
        time: DateTime<Utc>,
    },
    /// Configuration of the base repository.
    Configuration {
        name: String,
    },
    /// Listing of the registry.
    Registry,
}

/// Bases from one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownBases {
    pub source: BaseSource,
    pub bases: Vec<KnownBase>,
    pub warnings: Vec<String>,
}

/// A base with the tags that its source lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownBase {
    pub repository: Repository,
    pub tags: Vec<KnownTag>,
    /// Reasons why current tags are unknown, one for each such image.
    pub unknown_tags: Vec<String>,
    /// Assessment of the requested tag, if it is not one of `tags`.
    pub requested: Option<EolAssessment>,
    /// Applications that use the base, according to the source; there may be more.
    pub users: Vec<InventoryUser>,
}

/// A tag of a base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTag {
    pub tag: Tag,
    pub aliases: Vec<Tag>,
    /// True if the image is one of the current builds.
    pub current: bool,
    pub digest: Option<Digest>,
    pub assessment: EolAssessment,
}

impl KnownTag {
    /// Returns true if `tag` is the tag or an alias of the image.
    pub fn has_name(&self, tag: &Tag) -> bool {
        self.tag == *tag || self.aliases.contains(tag)
    }

    pub fn version(&self) -> TagVersion {
        TagVersion::of(self.tag.as_str())
    }
}

impl KnownBases {
    /// Returns the bases of an inventory, assessed as of `now`.
    pub fn of_inventory(inventory: &Inventory, now: DateTime<Utc>) -> KnownBases {
        let calendar = Calendar {
            today: now.date_naive(),
            warn_days: inventory.warn_days,
        };
        let bases = inventory.bases.iter().map(|base| KnownBase {
            repository: base.image.clone(),
            tags: base
                .tags
                .iter()
                .map(|tag| KnownTag {
                    tag: tag.tag.clone(),
                    aliases: tag.aliases.clone(),
                    current: tag.current,
                    digest: tag.digest.clone(),
                    assessment: tag.assess(calendar),
                })
                .collect(),
            unknown_tags: Vec::new(),
            requested: None,
            users: base
                .tags
                .iter()
                .flat_map(|tag| &tag.users)
                .cloned()
                .collect(),
        });
        KnownBases {
            source: BaseSource::Inventory {
                time: inventory.time,
            },
            bases: bases.collect(),
            warnings: Vec::new(),
        }
    }

    /// Returns the base in `repository`.
    pub fn base(&self, repository: &Repository) -> Option<&KnownBase> {
        self.bases
            .iter()
            .find(|base| base.repository == *repository)
    }
}

/// A configuration as the source of bases.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConfiguredBases<'a> {
    pub name: &'a str,
    pub config: &'a Config,
    /// End-of-life data; `None` if there is none.
    pub table: Option<&'a EolTable>,
    pub now: DateTime<Utc>,
}

impl ConfiguredBases<'_> {
    /// Returns the bases of the configuration, and the assessment of the `requested` image, even if
    /// it is an older one.
    pub(super) fn known(&self, requested: Option<&ImageReference>) -> KnownBases {
        let mut known = KnownBases {
            source: BaseSource::Configuration {
                name: self.name.to_owned(),
            },
            bases: Vec::new(),
            warnings: Vec::new(),
        };
        for image in self.images() {
            let position = known
                .bases
                .iter()
                .position(|base| base.repository == image.repository)
                .unwrap_or_else(|| {
                    known.bases.push(KnownBase::empty(&image.repository));
                    known.bases.len() - 1
                });
            match self.tag(image) {
                Ok(tag) => known.bases[position].tags.push(KnownTag {
                    tag,
                    aliases: image.aliases.clone(),
                    current: true,
                    digest: None,
                    assessment: self.assessment(image, None),
                }),
                Err(reason) => known.bases[position]
                    .unknown_tags
                    .push(format!("{}: {}: {reason}", self.name, image.name)),
            }
        }
        if let Some((repository, tag)) =
            requested.and_then(|image| Some((&image.repository, image.tag.as_ref()?)))
            && let Some(base) = known
                .bases
                .iter_mut()
                .find(|base| base.repository == *repository)
            && !base.tags.iter().any(|known| known.has_name(tag))
        {
            let version = TagVersion::of(tag.as_str());
            let closest = self
                .images()
                .iter()
                .filter(|image| image.repository == *repository)
                .max_by_key(|image| {
                    self.tag(image).map_or(0, |other| {
                        TagVersion::of(other.as_str()).shared_numbers(&version)
                    })
                });
            base.requested = closest.map(|image| self.assessment(image, Some(tag)));
        }
        known
    }

    fn images(&self) -> &[BuildImage] {
        self.config
            .build
            .as_ref()
            .map_or(&[], |build| &build.images)
    }

    /// Returns the tag of an image, or the reason why it is unknown.
    fn tag(&self, image: &BuildImage) -> Result<Tag, String> {
        let format = self
            .config
            .build
            .as_ref()
            .map_or("", |build| &build.tag_format);
        let version = version(image, self.config).ok_or(
            "its version is unknown without `--probe`, which lists the tags at the registry",
        )?;
        let tag = render(
            format,
            &[
                ("version", version),
                ("core_version", &image.core_version),
                ("name", &image.name),
            ],
        );
        let tag = tag.ok_or_else(|| format!("`tag_format: {format}` is not supported here"))?;
        tag.parse().map_err(|error| format!("{error}"))
    }

    /// Returns the assessment of an image, or of another tag of it.
    fn assessment(&self, image: &BuildImage, tag: Option<&Tag>) -> EolAssessment {
        // Development images are not tracked.
        let Some(table) = self
            .table
            .filter(|_| image.image_type != ImageType::SpecialDevelopment)
        else {
            return EolAssessment::UNKNOWN;
        };
        let lifecycle = &self.config.lifecycle;
        let calendar = Calendar {
            today: self.now.date_naive(),
            warn_days: lifecycle.warn_days,
        };
        let assessor = EolAssessor {
            table,
            phase: lifecycle.phase,
            calendar,
        };
        let mut products = products_of_image(image, self.config);
        if let Some(tag) = tag {
            for product in &mut products {
                product.versions = Versions::Tags(vec![tag.as_str()]);
            }
        }
        assessor.image(&products).overall
    }
}

/// Returns `format` with its placeholders replaced; `None` if it has other template syntax.
fn render(format: &str, values: &[(&str, &str)]) -> Option<String> {
    let mut text = String::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}")?;
        text += before;
        text += values
            .iter()
            .find(|(known, _)| *known == name.trim())
            .map(|(_, value)| *value)?;
        rest = after;
    }
    Some(text + rest)
}

impl KnownBase {
    /// Returns a base with the tags of a listing. A listing does not show which tags are current,
    /// so none is marked as current.
    pub fn from_listing(repository: &Repository, tags: &[ListedTag]) -> KnownBase {
        let tags = tags
            .iter()
            .filter(|listed| !listed.tag.is_attachment())
            .map(|listed| KnownTag {
                tag: listed.tag.clone(),
                aliases: Vec::new(),
                current: false,
                digest: listed.digest.clone(),
                assessment: EolAssessment::UNKNOWN,
            });
        KnownBase {
            tags: tags.collect(),
            ..KnownBase::empty(repository)
        }
    }

    /// Returns true if the tags are sufficient to check `image`: no current tag is unknown, or
    /// `image` is one of the tags.
    pub fn covers(&self, image: &ImageReference) -> bool {
        let has_tag = |known: &&KnownTag| image.tag.as_ref().is_some_and(|tag| known.has_name(tag));
        self.unknown_tags.is_empty()
            || self
                .tags
                .iter()
                .find(has_tag)
                .is_some_and(|known| known.current)
    }

    fn empty(repository: &Repository) -> KnownBase {
        KnownBase {
            repository: repository.clone(),
            tags: Vec::new(),
            unknown_tags: Vec::new(),
            requested: None,
            users: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn render_replaces_placeholders_and_rejects_other_syntax() {
        let values = [
            ("version", "3.21.3"),
            ("core_version", "1.0.0"),
            ("name", "alpine"),
        ];
        let of = |format: &str| render(format, &values);
        assert_eq!(
            of("{{ version }}-core{{ core_version }}").as_deref(),
            Some("3.21.3-core1.0.0")
        );
        assert_eq!(of("{{version}}-{{name}}").as_deref(), Some("3.21.3-alpine"));
        assert_eq!(of("fixed").as_deref(), Some("fixed"));
        for format in ["{{ version | upper }}", "{{ version", "{{ revision }}"] {
            assert_eq!(of(format), None, "{format}");
        }
    }
}
