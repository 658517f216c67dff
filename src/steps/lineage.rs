//! What stands on what: how images stand that are referred to by repository and tag, be they
//! current or of an earlier time. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::config::{BuildImage, Config, ImageType, SyncEntry, TagSelection};
use crate::model::eol::{EolAssessment, EolStatus, SupportEnd};
use crate::model::inventory::InventoryProduct;
use crate::model::{ImageReference, Repository, Tag, TagVersion};
use crate::steps::Trouble;
use crate::steps::build::{Identity, identities, mirror, newest_listed};
use crate::steps::eol::{Finding, Judge, Judgement, Part, Versions, parts_of_image};

/// The mirrors and bases of a configuration, found by what refers to them.
#[derive(Debug)]
pub struct Lineage<'a> {
    config: &'a Config,
    /// What each base is called now, by the positions of the images.
    identities: &'a [Result<Identity, Trouble>],
    bases: HashMap<&'a Repository, Vec<usize>>,
    mirrors: HashMap<&'a Repository, Vec<&'a SyncEntry>>,
}

/// How an image stands that somebody refers to.
#[derive(Clone, Debug, PartialEq)]
pub struct Referred {
    pub currency: Currency,
    pub judgement: Judgement,
    /// What the inventory tells of it.
    pub ends: Vec<InventoryProduct>,
}

/// Whether a base is one of those that the configuration builds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Currency {
    Current,
    Outdated,
    /// It is a mirror, or which tags are built now cannot be told.
    Untold,
}

/// Returns what each base of the configuration is called, as far as that is told without asking a
/// registry.
pub fn identities_offline(config: &Config) -> Vec<Result<Identity, Trouble>> {
    let Some(build) = &config.build else {
        return Vec::new();
    };
    let told = |position| {
        let entry = mirror(config, build, position)?;
        let tag = match &entry.selection {
            TagSelection::Fixed(_) => newest_listed(entry, &[]),
            TagSelection::Pattern(_) => Err(Trouble::new(format!(
                "which tag of {} is the newest is not known without asking",
                entry.target
            ))),
        };
        Some((position, tag))
    };
    let mirror_tags: BTreeMap<_, _> = (0..build.images.len()).filter_map(told).collect();
    identities(build, &mirror_tags)
}

impl<'a> Lineage<'a> {
    pub fn new(config: &'a Config, identities: &'a [Result<Identity, Trouble>]) -> Lineage<'a> {
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

    /// Returns the bases of the configuration with what they are called now, in its order.
    pub fn all_bases(
        &self,
    ) -> impl Iterator<Item = (&'a BuildImage, &'a Result<Identity, Trouble>)> {
        images(self.config).iter().zip(self.identities)
    }

    /// Returns the same without development images, which no report shows.
    pub fn bases(&self) -> impl Iterator<Item = (&'a BuildImage, &'a Result<Identity, Trouble>)> {
        self.all_bases()
            .filter(|(image, _)| image.image_type != ImageType::SpecialDevelopment)
    }

    /// Returns the entries that mirror to `repository`.
    pub fn entries(&self, repository: &Repository) -> &[&'a SyncEntry] {
        self.mirrors.get(repository).map_or(&[], Vec::as_slice)
    }

    /// Returns the entry that a tag of a mirror is of. One that no entry selects any more is of the
    /// first.
    pub fn entry(&self, repository: &Repository, tag: &Tag) -> Option<&'a SyncEntry> {
        let entries = self.entries(repository);
        let selects = |entry: &&&SyncEntry| match &entry.selection {
            TagSelection::Fixed(fixed) => fixed == tag,
            TagSelection::Pattern(pattern) => pattern.tag_regex.regex.is_match(tag.as_str()),
        };
        entries
            .iter()
            .find(selects)
            .or_else(|| entries.first())
            .copied()
    }

    /// Returns how the image `repository:tag` stands; `None` when the configuration has no such
    /// repository.
    pub fn image(&self, repository: &Repository, tag: &Tag, judge: &Judge<'_>) -> Option<Referred> {
        if let Some(positions) = self.bases.get(repository) {
            return Some(self.base(positions, tag, judge));
        }
        let entry = self.entry(repository, tag)?;
        let versions = Versions::Tags(vec![tag.as_str()]);
        let parts: Vec<Part<'_>> = entry
            .lifecycle
            .iter()
            .map(|lifecycle| Part {
                lifecycle,
                versions: versions.clone(),
            })
            .collect();
        Some(Referred::of(Currency::Untold, &parts, judge))
    }

    /// Returns how the image stands that a record names; without a tag it is not known.
    pub fn reference(&self, reference: &ImageReference, judge: &Judge<'_>) -> Option<Referred> {
        match &reference.tag {
            Some(tag) => self.image(&reference.repository, tag, judge),
            None if self.bases.contains_key(&reference.repository) => {
                Some(Referred::unknown(Currency::Outdated))
            }
            None if self.mirrors.contains_key(&reference.repository) => {
                Some(Referred::unknown(Currency::Untold))
            }
            None => None,
        }
    }

    fn base(&self, positions: &[usize], tag: &Tag, judge: &Judge<'_>) -> Referred {
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
            return Referred::of(Currency::Current, &parts_of(&image, self.config), judge);
        }
        let is_told = positions
            .iter()
            .all(|&position| self.identities.get(position).is_some_and(Result::is_ok));
        let currency = if is_told {
            Currency::Outdated
        } else {
            Currency::Untold
        };
        let version = TagVersion::of(tag.as_str());
        let likeness = |position: &usize| {
            let identity = self
                .identities
                .get(*position)
                .and_then(|identity| identity.as_ref().ok());
            identity.map_or(0, |identity| {
                TagVersion::of(identity.tag.as_str()).shared_numbers(&version)
            })
        };
        let Some(likest) = positions.iter().copied().rev().max_by_key(likeness) else {
            return Referred::unknown(currency);
        };
        let mut parts = parts_of(&all[likest], self.config);
        for part in &mut parts {
            part.versions = Versions::Tags(vec![tag.as_str()]);
        }
        Referred::of(currency, &parts, judge)
    }
}

impl Referred {
    fn of(currency: Currency, parts: &[Part<'_>], judge: &Judge<'_>) -> Referred {
        let judgement = judge.image(parts);
        let accepted = |finding: &Finding| {
            let of_product = parts
                .iter()
                .find(|part| part.lifecycle.product == finding.product)?;
            of_product
                .lifecycle
                .accept
                .as_ref()
                .map(|accept| accept.until)
        };
        let ends = judgement.findings.iter().map(|finding| InventoryProduct {
            product: finding.product.to_string(),
            cycle: finding.cycle.clone(),
            ends: ends(&finding.standing),
            accepted_until: accepted(finding),
        });
        Referred {
            currency,
            ends: ends.collect(),
            judgement,
        }
    }

    fn unknown(currency: Currency) -> Referred {
        let judgement = Judgement {
            standing: EolAssessment::UNKNOWN,
            findings: Vec::new(),
        };
        Referred {
            currency,
            judgement,
            ends: Vec::new(),
        }
    }
}

fn ends(standing: &EolAssessment) -> Option<SupportEnd> {
    match (standing.date, standing.status) {
        (Some(date), _) => Some(SupportEnd::On(date)),
        (None, EolStatus::Expired | EolStatus::Accepted) => Some(SupportEnd::Ended),
        (None, EolStatus::Supported | EolStatus::Warning) => Some(SupportEnd::NotEnded),
        (None, EolStatus::Unknown) => None,
    }
}

/// Returns what a base consists of. Development images are not looked after.
fn parts_of<'a>(image: &'a BuildImage, config: &'a Config) -> Vec<Part<'a>> {
    if image.image_type == ImageType::SpecialDevelopment {
        Vec::new()
    } else {
        parts_of_image(image, config)
    }
}

fn images(config: &Config) -> &[BuildImage] {
    config.build.as_ref().map_or(&[], |build| &build.images)
}
