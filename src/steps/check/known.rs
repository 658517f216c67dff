//! The bases that are known, wherever from: an inventory, a configuration, or a registry's listing.
//! Pure.

use chrono::{DateTime, Utc};

use crate::config::{BuildImage, Config, ImageType};
use crate::eol::Table;
use crate::model::eol::{Calendar, EolAssessment};
use crate::model::inventory::InventoryUser;
use crate::model::{Digest, ImageReference, Inventory, Repository, Tag, TagVersion};
use crate::registry::TagSeen;
use crate::steps::eol::{EolAssessor, Versions, products_of_image, version};

/// Where it is known from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Inventory {
        time: DateTime<Utc>,
    },
    /// The configuration of the base repository, by its name.
    Configuration {
        name: String,
    },
    /// The tags of the registry.
    Registry,
}

/// Bases, and what was left out of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub source: Source,
    pub bases: Vec<KnownBase>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownBase {
    pub repository: Repository,
    pub tags: Vec<KnownTag>,
    /// Why it is not known what some of its images are called now, of each.
    pub untold: Vec<String>,
    /// How the tag stands that was asked for, where it is known without being one of `tags`.
    pub asked: Option<EolAssessment>,
    /// Who is known to stand on it; not all who do.
    pub users: Vec<InventoryUser>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTag {
    pub tag: Tag,
    pub aliases: Vec<Tag>,
    /// Whether it is built now.
    pub current: bool,
    pub digest: Option<Digest>,
    pub standing: EolAssessment,
}

impl KnownTag {
    /// Returns whether the image goes by `tag`.
    pub fn has_name(&self, tag: &Tag) -> bool {
        self.tag == *tag || self.aliases.contains(tag)
    }

    pub fn version(&self) -> TagVersion {
        TagVersion::of(self.tag.as_str())
    }
}

impl Known {
    /// Returns the bases of an inventory. `today` decides on how they stand.
    pub fn of_inventory(inventory: &Inventory, now: DateTime<Utc>) -> Known {
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
                    standing: tag.assess(calendar),
                })
                .collect(),
            untold: Vec::new(),
            asked: None,
            users: base
                .tags
                .iter()
                .flat_map(|tag| &tag.users)
                .cloned()
                .collect(),
        });
        Known {
            source: Source::Inventory {
                time: inventory.time,
            },
            bases: bases.collect(),
            warnings: Vec::new(),
        }
    }

    /// Returns the base that lives at `repository`.
    pub fn base(&self, repository: &Repository) -> Option<&KnownBase> {
        self.bases
            .iter()
            .find(|base| base.repository == *repository)
    }
}

/// A configuration as the source of what is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Configured<'a> {
    pub name: &'a str,
    pub config: &'a Config,
    /// `None`: there are no end-of-life data.
    pub table: Option<&'a Table>,
    pub now: DateTime<Utc>,
}

impl Configured<'_> {
    /// Returns the bases of the configuration. How `asked` stands, which may be an older image, is
    /// found out as well.
    pub(super) fn known(&self, asked: Option<&ImageReference>) -> Known {
        let mut known = Known {
            source: Source::Configuration {
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
                    standing: self.standing(image, None),
                }),
                Err(reason) => known.bases[position]
                    .untold
                    .push(format!("{}: {}: {reason}", self.name, image.name)),
            }
        }
        if let Some((repository, tag)) =
            asked.and_then(|asked| Some((&asked.repository, asked.tag.as_ref()?)))
            && let Some(base) = known
                .bases
                .iter_mut()
                .find(|base| base.repository == *repository)
            && !base.tags.iter().any(|known| known.has_name(tag))
        {
            let version = TagVersion::of(tag.as_str());
            let likest = self
                .images()
                .iter()
                .filter(|image| image.repository == *repository)
                .max_by_key(|image| {
                    self.tag(image).map_or(0, |other| {
                        TagVersion::of(other.as_str()).shared_numbers(&version)
                    })
                });
            base.asked = likest.map(|image| self.standing(image, Some(tag)));
        }
        known
    }

    fn images(&self) -> &[BuildImage] {
        self.config
            .build
            .as_ref()
            .map_or(&[], |build| &build.images)
    }

    /// Returns the tag that an image is published under, or why it is not known.
    fn tag(&self, image: &BuildImage) -> Result<Tag, String> {
        let format = self
            .config
            .build
            .as_ref()
            .map_or("", |build| &build.tag_format);
        let version = version(image, self.config)
            .ok_or("its version is not known without asking a registry, which `--probe` does")?;
        let tag = rendered(
            format,
            &[
                ("version", version),
                ("core_version", &image.core_version),
                ("name", &image.name),
            ],
        );
        let tag = tag.ok_or_else(|| format!("`tag_format: {format}` is not understood here"))?;
        tag.parse().map_err(|error| format!("{error}"))
    }

    /// Returns how an image stands, or how another tag of it does.
    fn standing(&self, image: &BuildImage, tag: Option<&Tag>) -> EolAssessment {
        // Development images are not looked after.
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

/// Returns `format` with its placeholders replaced, or `None` when there is more in it than
/// placeholders.
fn rendered(format: &str, values: &[(&str, &str)]) -> Option<String> {
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
    /// Returns what a registry's listing tells: every tag that is a version, none of them known to
    /// be current.
    pub fn of_listing(repository: &Repository, tags: &[TagSeen]) -> KnownBase {
        let tags = tags
            .iter()
            .filter(|seen| !seen.tag.is_attachment())
            .map(|seen| KnownTag {
                tag: seen.tag.clone(),
                aliases: Vec::new(),
                current: false,
                digest: seen.digest.clone(),
                standing: EolAssessment::UNKNOWN,
            });
        KnownBase {
            tags: tags.collect(),
            ..KnownBase::empty(repository)
        }
    }

    /// Returns whether what is built now is known as far as it matters to `asked`: all of it, or
    /// that `asked` is among it.
    pub fn is_told(&self, asked: &ImageReference) -> bool {
        let is_asked =
            |known: &&KnownTag| asked.tag.as_ref().is_some_and(|tag| known.has_name(tag));
        self.untold.is_empty()
            || self
                .tags
                .iter()
                .find(is_asked)
                .is_some_and(|known| known.current)
    }

    fn empty(repository: &Repository) -> KnownBase {
        KnownBase {
            repository: repository.clone(),
            tags: Vec::new(),
            untold: Vec::new(),
            asked: None,
            users: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_of_a_tag_format_are_replaced_and_nothing_else_is_tried() {
        let values = [
            ("version", "3.21.3"),
            ("core_version", "1.0.0"),
            ("name", "alpine"),
        ];
        let of = |format: &str| rendered(format, &values);
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
