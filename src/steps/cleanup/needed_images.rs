//! Images that are needed by something other than records: by `retention.hold` and by the lists of
//! `retention.keep_from`. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::keep_list::{KeepList, KeptName};
use crate::config::Config;
use crate::error::ItemError;
use crate::model::{Digest, ImageReference, Repository, Tag};

/// Reason why an image is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageNeed {
    /// `retention.hold` names it.
    Held,
    /// This source of `retention.keep_from` names it.
    InUse(String),
}

/// Facts from outside of the registries and the record store.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutsideFacts<'a> {
    /// Images that are in use elsewhere.
    pub lists: &'a [KeepList],
    /// Address of the project of this configuration; `None` outside CI.
    pub source: Option<&'a str>,
}

/// Returns the address of a project without parts that do not distinguish projects.
fn normalized(source: &str) -> String {
    let source = source.trim().to_ascii_lowercase();
    let source = source.split_once("://").map_or(&*source, |(_, rest)| rest);
    let source = source.trim_end_matches('/');
    source.strip_suffix(".git").unwrap_or(source).to_owned()
}

/// Tags and digests that are needed, with the reason.
///
/// A digest is needed in every repository, a tag only in its own.
#[derive(Clone, Debug, Default)]
pub struct NeededImages {
    tags: HashMap<Repository, HashMap<Tag, ImageNeed>>,
    digests: HashMap<Digest, ImageNeed>,
    /// Digests by the repository that they were named with.
    pub(super) digests_in: BTreeMap<Repository, BTreeSet<Digest>>,
    /// Addresses of the project of this configuration, in normal form; empty if they are unknown.
    own_sources: BTreeSet<String>,
    /// Reason why it is unknown what is needed, so that nothing may be deleted.
    pub(super) error: Option<ItemError>,
}

impl NeededImages {
    /// Returns the images that `retention.hold` and the lists name.
    pub(super) fn new(config: &Config, outside: OutsideFacts<'_>) -> NeededImages {
        let mut needed = NeededImages::default();
        let keepers = config
            .retention
            .as_ref()
            .and_then(|rules| rules.keepers.as_ref());
        for image in keepers.iter().flat_map(|keepers| &keepers.hold) {
            needed.add(config, image, &ImageNeed::Held);
        }
        let sources = keepers.iter().flat_map(|keepers| &keepers.sources);
        needed.own_sources = sources
            .map(String::as_str)
            .chain(outside.source)
            .map(normalized)
            .collect();
        for list in outside.lists {
            let reason = ImageNeed::InUse(list.source.clone());
            match &list.images {
                Ok(names) => {
                    for name in names {
                        match name {
                            KeptName::Image(image) => needed.add(config, image, &reason),
                            KeptName::Digest(digest) => needed.add_digest(digest, &reason),
                        }
                    }
                }
                Err(error) => {
                    let error = ItemError::other(format!(
                        "the list of images in use cannot be read from {}: {error}",
                        list.source
                    ))
                    .with_hint(
                        "repair the source or remove it from `retention.keep_from`; `--force` does \
                         not replace it",
                    );
                    needed.error.get_or_insert(error);
                }
            }
        }
        needed
    }

    fn add(&mut self, config: &Config, image: &ImageReference, reason: &ImageNeed) {
        let repository = config.canonical(&image.repository.resolved_below(&config.directory));
        if let Some(digest) = &image.digest {
            self.add_digest(digest, reason);
            let digests = self.digests_in.entry(repository.clone()).or_default();
            digests.insert(digest.clone());
        }
        if let Some(tag) = &image.tag {
            let tags = self.tags.entry(repository).or_default();
            tags.entry(tag.clone()).or_insert_with(|| reason.clone());
        }
    }

    fn add_digest(&mut self, digest: &Digest, reason: &ImageNeed) {
        self.digests
            .entry(digest.clone())
            .or_insert_with(|| reason.clone());
    }

    /// Returns the reason why a tag is needed whose image consists of `digests`.
    pub(super) fn need<'d>(
        &self,
        repository: &Repository,
        tag: &Tag,
        mut digests: impl Iterator<Item = &'d Digest>,
    ) -> Option<&ImageNeed> {
        let by_tag = || self.tags.get(repository)?.get(tag);
        let by_digest = || {
            (!self.digests.is_empty())
                .then(|| digests.find_map(|digest| self.digests.get(digest)))
                .flatten()
        };
        by_tag().or_else(by_digest)
    }

    /// Returns true if the address of the project of this configuration is known.
    pub(super) fn is_own_source_known(&self) -> bool {
        !self.own_sources.is_empty()
    }

    /// Returns true if another project built a base with this origin. If the project of this
    /// configuration is unknown, that is so where the origins of a repository disagree.
    pub(super) fn is_of_another_project(&self, origin: &str, do_origins_disagree: bool) -> bool {
        if self.is_own_source_known() {
            !self.own_sources.contains(&normalized(origin))
        } else {
            do_origins_disagree
        }
    }

    /// Returns the digests that are needed in every repository.
    pub(super) fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.digests.keys()
    }
}
