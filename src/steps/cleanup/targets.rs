//! Repositories of the configuration that a cleanup covers.

use std::collections::BTreeSet;

use crate::config::{ArchiveConfig, Config, RetentionConfig};
use crate::model::Repository;
use crate::steps::shard::{Only, Shard};
use crate::steps::{build, sync};

/// Part of the configuration that a run is restricted to.
#[derive(Clone, Debug, Default)]
pub struct CleanupScope {
    pub only: Only,
    pub shard: Option<Shard>,
}

/// A repository of the configuration, with everything that is configured for it.
///
/// A repository that the configuration spells in several ways is one target.
#[derive(Clone, Debug)]
pub struct CleanupTarget {
    /// The first spelling in the configuration.
    pub repository: Repository,
    /// Positions of the images that are pushed to it.
    pub images: Vec<usize>,
    /// Positions of the sync entries that write to it.
    pub entries: Vec<usize>,
    /// True for the repository of an application, which has no images or entries here.
    pub is_application: bool,
    /// Rules of each image and entry. A tag is deleted only if all of them delete it.
    pub rules: Vec<RetentionConfig>,
}

/// Returns the repositories of the configuration, bases before mirrors.
pub fn targets(config: &Config) -> Vec<CleanupTarget> {
    let mut targets: Vec<CleanupTarget> = Vec::new();
    let mut canonical: Vec<Repository> = Vec::new();
    let mut target = |repository: &Repository| {
        let name = config.canonical(repository);
        canonical
            .iter()
            .position(|known| *known == name)
            .unwrap_or_else(|| {
                canonical.push(name);
                targets.push(CleanupTarget {
                    repository: repository.clone(),
                    images: Vec::new(),
                    entries: Vec::new(),
                    is_application: false,
                    rules: Vec::new(),
                });
                targets.len() - 1
            })
    };
    let images = config
        .build
        .iter()
        .flat_map(|build| build.images.iter().enumerate());
    let images: Vec<_> = images
        .map(|(position, image)| (target(&image.repository), position, image.retention.clone()))
        .collect();
    let entries = config
        .sync
        .iter()
        .flat_map(|sync| sync.entries.iter().enumerate());
    let entries: Vec<_> = entries
        .map(|(position, entry)| (target(&entry.target), position, entry.retention.clone()))
        .collect();
    for (target, position, rules) in images {
        targets[target].images.push(position);
        targets[target].rules.extend(rules);
    }
    for (target, position, rules) in entries {
        targets[target].entries.push(position);
        targets[target].rules.extend(rules);
    }
    targets
}

impl CleanupTarget {
    /// Returns the archive repository of each rule that archives, without those that are invalid.
    pub fn archives(&self) -> Vec<Repository> {
        self.archive_settings()
            .filter_map(|(_, repository)| repository.ok())
            .collect()
    }

    /// Returns each archive setting with the repository that it archives to, or the reason why the
    /// target cannot be archived.
    pub(super) fn archive_settings(
        &self,
    ) -> impl Iterator<Item = (&ArchiveConfig, Result<Repository, String>)> {
        self.rules
            .iter()
            .filter_map(|rules| rules.archive.as_ref())
            .map(|archive| {
                let repository = match &self.repository {
                    Repository::Remote { path, .. } => archive
                        .registry
                        .join(path.as_str())
                        .map_err(|error| error.to_string()),
                    Repository::Layout { .. } => Err(
                        "an OCI layout cannot be archived: it has no path on a registry".to_owned(),
                    ),
                };
                (archive, repository)
            })
    }

    /// Returns every spelling of the repository in the configuration.
    pub fn repositories(&self, config: &Config) -> BTreeSet<Repository> {
        let images = config.build.iter().flat_map(|build| {
            self.images
                .iter()
                .map(|&position| &build.images[position].repository)
        });
        let entries = config.sync.iter().flat_map(|sync| {
            self.entries
                .iter()
                .map(|&position| &sync.entries[position].target)
        });
        images.chain(entries).cloned().collect()
    }

    /// Returns the names that `--only` matches.
    pub fn names(&self, config: &Config) -> Vec<String> {
        let images = config.build.iter().flat_map(|build| {
            self.images
                .iter()
                .map(|&position| build::names(&build.images[position]))
        });
        let entries = config.sync.iter().flat_map(|sync| {
            self.entries
                .iter()
                .map(|&position| sync::names(&sync.entries[position]))
        });
        images.chain(entries).flatten().collect()
    }
}

impl CleanupScope {
    /// Returns the repositories in scope.
    pub fn targets(&self, config: &Config) -> Vec<CleanupTarget> {
        let is_in_scope = |(position, target): &(usize, CleanupTarget)| {
            self.shard.is_none_or(|shard| shard.contains(*position))
                && self.only.selects(&target.names(config))
        };
        targets(config)
            .into_iter()
            .enumerate()
            .filter(is_in_scope)
            .map(|(_, target)| target)
            .collect()
    }
}
