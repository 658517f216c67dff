//! Lineage: the configured mirror or base that a reference belongs to, current or older, with its
//! end-of-life assessment. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::config::{BuildImage, Config, ImageType, SyncEntry, TagSelection};
use crate::error::ItemError;
use crate::model::eol::{EolAssessment, EolStatus, SupportEnd};
use crate::model::inventory::InventoryProduct;
use crate::model::{ImageReference, Repository, Tag, TagVersion};
use crate::steps::build::{Identity, identities, mirror, newest_listed};
use crate::steps::eol::{
    EolAssessor, ImageAssessment, ImageProduct, ProductAssessment, Versions, products_of_image,
};

/// Mirrors and bases of a configuration, by repository.
#[derive(Debug)]
pub struct Lineage<'a> {
    config: &'a Config,
    /// Current identity of each base, by the position of the image.
    identities: &'a [Result<Identity, ItemError>],
    bases: HashMap<&'a Repository, Vec<usize>>,
    mirrors: HashMap<&'a Repository, Vec<&'a SyncEntry>>,
}

/// End-of-life status of an image that something refers to.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferencedImage {
    pub currency: Currency,
    pub assessment: ImageAssessment,
    /// Products for the inventory.
    pub ends: Vec<InventoryProduct>,
}

/// Comparison of a base with those that the configuration builds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Currency {
    Current,
    Outdated,
    /// The image is a mirror, or the current tags are unknown.
    Unknown,
}

/// Returns the current identity of each base, as far as it is known without a request.
pub fn identities_offline(config: &Config) -> Vec<Result<Identity, ItemError>> {
    let Some(build) = &config.build else {
        return Vec::new();
    };
    let mirror_tag = |position| {
        let entry = mirror(config, build, position)?;
        let tag = match &entry.selection {
            TagSelection::Fixed(_) => newest_listed(entry, &[]),
            TagSelection::Pattern(_) => Err(ItemError::other(format!(
                "the newest tag of {} is unknown without a request",
                entry.target
            ))),
        };
        Some((position, tag))
    };
    let mirror_tags: BTreeMap<_, _> = (0..build.images.len()).filter_map(mirror_tag).collect();
    identities(build, &mirror_tags)
}

impl<'a> Lineage<'a> {
    /// Returns the index of `config`. `identities` has the current tag of each base, in the order
    /// of the configuration.
    pub fn new(config: &'a Config, identities: &'a [Result<Identity, ItemError>]) -> Lineage<'a> {
        let mut bases: HashMap<&Repository, Vec<usize>> = HashMap::new();
        for (position, image) in images(config).iter().enumerate() {
            bases.entry(&image.repository).or_default().push(position);
        }
        let mut mirrors: HashMap<&Repository, Vec<&SyncEntry>> = HashMap::new();
        for entry in config.sync.iter().flat_map(|sync| &sync.entries) {
            mirrors.entry(&entry.target).or_default().push(entry);
        }
        Lineage {
            config,
            identities,
            bases,
            mirrors,
        }
    }

    /// Returns the bases with their current identities, in the order of the configuration.
    pub fn all_bases(
        &self,
    ) -> impl Iterator<Item = (&'a BuildImage, &'a Result<Identity, ItemError>)> {
        images(self.config).iter().zip(self.identities)
    }

    /// Returns the bases without development images, which no report shows.
    pub fn bases(&self) -> impl Iterator<Item = (&'a BuildImage, &'a Result<Identity, ItemError>)> {
        self.all_bases()
            .filter(|(image, _)| image.image_type != ImageType::SpecialDevelopment)
    }

    /// Returns the entries whose target is `repository`.
    pub fn entries(&self, repository: &Repository) -> &[&'a SyncEntry] {
        self.mirrors.get(repository).map_or(&[], Vec::as_slice)
    }

    /// Returns the entry that a tag of a mirror belongs to: the one that selects it, otherwise the
    /// first.
    pub fn entry(&self, repository: &Repository, tag: &Tag) -> Option<&'a SyncEntry> {
        let entries = self.entries(repository);
        let selects = |entry: &&&SyncEntry| match &entry.selection {
            TagSelection::Fixed(fixed) => fixed == tag,
            TagSelection::Pattern(pattern) => pattern.matches(tag.as_str()),
        };
        entries
            .iter()
            .find(selects)
            .or_else(|| entries.first())
            .copied()
    }

    /// Returns the status of the image `repository:tag`; `None` if the repository is not
    /// configured.
    pub fn image(
        &self,
        repository: &Repository,
        tag: &Tag,
        assessor: &EolAssessor<'_>,
    ) -> Option<ReferencedImage> {
        if let Some(positions) = self.bases.get(repository) {
            return Some(self.base(positions, tag, assessor));
        }
        let entry = self.entry(repository, tag)?;
        let versions = Versions::Tags(vec![tag.as_str()]);
        let products: Vec<ImageProduct<'_>> = entry
            .lifecycle
            .iter()
            .map(|lifecycle| ImageProduct {
                lifecycle,
                versions: versions.clone(),
            })
            .collect();
        Some(ReferencedImage::of(Currency::Unknown, &products, assessor))
    }

    /// Returns the status of the image that a record names, which is unknown without a tag; `None`
    /// if the repository is not configured.
    pub fn reference(
        &self,
        reference: &ImageReference,
        assessor: &EolAssessor<'_>,
    ) -> Option<ReferencedImage> {
        match &reference.tag {
            Some(tag) => self.image(&reference.repository, tag, assessor),
            None if self.bases.contains_key(&reference.repository) => {
                Some(ReferencedImage::unknown(Currency::Outdated))
            }
            None if self.mirrors.contains_key(&reference.repository) => {
                Some(ReferencedImage::unknown(Currency::Unknown))
            }
            None => None,
        }
    }

    fn base(&self, positions: &[usize], tag: &Tag, assessor: &EolAssessor<'_>) -> ReferencedImage {
        let all = images(self.config);
        let current = positions.iter().copied().find_map(|position| {
            let identity = self.identities.get(position)?.as_ref().ok()?;
            (identity.tag == *tag || all[position].aliases.contains(tag))
                .then_some((position, identity))
        });
        if let Some((position, identity)) = current {
            let image = BuildImage {
                mirror_tag: Some(identity.base_tag.clone()),
                ..all[position].clone()
            };
            let products = products_of(&image, self.config);
            return ReferencedImage::of(Currency::Current, &products, assessor);
        }
        let is_known = positions
            .iter()
            .all(|&position| self.identities.get(position).is_some_and(Result::is_ok));
        let currency = if is_known {
            Currency::Outdated
        } else {
            Currency::Unknown
        };
        let version = TagVersion::of(tag.as_str());
        let shared_numbers = |position: &usize| {
            let identity = self
                .identities
                .get(*position)
                .and_then(|identity| identity.as_ref().ok());
            identity.map_or(0, |identity| {
                TagVersion::of(identity.tag.as_str()).shared_numbers(&version)
            })
        };
        let Some(closest) = positions.iter().copied().rev().max_by_key(shared_numbers) else {
            return ReferencedImage::unknown(currency);
        };
        let mut products = products_of(&all[closest], self.config);
        for product in &mut products {
            product.versions = Versions::Tags(vec![tag.as_str()]);
        }
        ReferencedImage::of(currency, &products, assessor)
    }
}

impl ReferencedImage {
    fn of(
        currency: Currency,
        products: &[ImageProduct<'_>],
        assessor: &EolAssessor<'_>,
    ) -> ReferencedImage {
        let assessment = assessor.image(products);
        let accepted = |assessed: &ProductAssessment| {
            products
                .iter()
                .find(|product| product.lifecycle.product == assessed.product)?
                .lifecycle
                .accept
                .as_ref()
                .map(|accept| accept.until)
        };
        let ends = assessment.products.iter().map(|assessed| InventoryProduct {
            product: assessed.product.to_string(),
            cycle: assessed.cycle.clone(),
            ends: end(&assessed.assessment),
            accepted_until: accepted(assessed),
        });
        ReferencedImage {
            currency,
            ends: ends.collect(),
            assessment,
        }
    }

    fn unknown(currency: Currency) -> ReferencedImage {
        let assessment = ImageAssessment {
            overall: EolAssessment::UNKNOWN,
            products: Vec::new(),
        };
        ReferencedImage {
            currency,
            assessment,
            ends: Vec::new(),
        }
    }
}

fn end(assessment: &EolAssessment) -> Option<SupportEnd> {
    match (assessment.date, assessment.status) {
        (Some(date), _) => Some(SupportEnd::On(date)),
        (None, EolStatus::Expired | EolStatus::Accepted) => Some(SupportEnd::Ended),
        (None, EolStatus::Supported | EolStatus::Warning) => Some(SupportEnd::NotEnded),
        (None, EolStatus::Unknown) => None,
    }
}

/// Returns the products of a base. Development images are not tracked.
fn products_of<'a>(image: &'a BuildImage, config: &'a Config) -> Vec<ImageProduct<'a>> {
    if image.image_type == ImageType::SpecialDevelopment {
        Vec::new()
    } else {
        products_of_image(image, config)
    }
}

fn images(config: &Config) -> &[BuildImage] {
    config.build.as_ref().map_or(&[], |build| &build.images)
}
