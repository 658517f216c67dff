//! `cleanup`: deletes tags that nobody needs any more, and never one that somebody needs.
//!
//! `observe` reads repositories, records and upstreams, `plan` decides without touching anything,
//! `execute` archives and deletes what the plan names, as long as no record has come to name it.
//! Whatever cannot be told keeps a tag. Orphaned repositories are listed and never touched.

use std::collections::BTreeSet;

use crate::config::{Config, Retention};
use crate::model::Repository;
use crate::steps::shard::{Only, Shard};
use crate::steps::{build, sync};

mod execute;
mod foresee;
mod judge;
mod observe;
mod plan;
mod report;
mod tree;
mod watch;

pub use execute::{Execution, execute};
pub use foresee::{Foreseen, Known, foresee};
pub use judge::{Condemned, Kept, Protections, Verdict, judge};
pub use observe::{
    Observer, RecordsSeen, Role, Seen, TagImage, Unseen, Wanted, World, observe, observe_records,
};
pub use plan::{Group, How, Plan, Policy, RepositoryPlan, plan};
pub use report::{CleanupReport, Totals};
pub use tree::Tree;
pub use watch::{RecordsSource, Watch};

/// The part of the configuration that a run is about.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub only: Only,
    pub shard: Option<Shard>,
}

/// A repository of the configuration, with all that the configuration says of it.
#[derive(Clone, Debug)]
pub struct Target {
    /// As it is named first.
    pub repository: Repository,
    /// The positions of the images that are pushed to it.
    pub images: Vec<usize>,
    /// The positions of the sync entries that write to it.
    pub entries: Vec<usize>,
    /// The rules of each of them. A tag goes when it goes by all of them.
    pub rules: Vec<Retention>,
}

/// Returns the repositories of the configuration, bases before mirrors. What has several names is
/// one of them.
pub fn targets(config: &Config) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    let mut places: Vec<Repository> = Vec::new();
    let mut target = |repository: &Repository| {
        let place = config.place(repository);
        places
            .iter()
            .position(|known| *known == place)
            .unwrap_or_else(|| {
                places.push(place);
                targets.push(Target {
                    repository: repository.clone(),
                    images: Vec::new(),
                    entries: Vec::new(),
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
    for (at, position, rules) in images {
        targets[at].images.push(position);
        targets[at].rules.extend(rules);
    }
    for (at, position, rules) in entries {
        targets[at].entries.push(position);
        targets[at].rules.extend(rules);
    }
    targets
}

impl Target {
    /// Returns where its tags are archived, by each of its rules that says so.
    pub fn archives(&self) -> Vec<Repository> {
        observe::archives_of(self)
            .filter_map(|(_, repository)| repository.ok())
            .collect()
    }

    /// Returns all that the configuration calls the repository.
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

    /// Returns the names by which `--only` knows the repository.
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

impl Scope {
    /// Returns the repositories in scope.
    pub fn targets(&self, config: &Config) -> Vec<Target> {
        let is_meant = |(position, target): &(usize, Target)| {
            self.shard.is_none_or(|shard| shard.has(*position))
                && self.only.has(&target.names(config))
        };
        targets(config)
            .into_iter()
            .enumerate()
            .filter(is_meant)
            .map(|(_, target)| target)
            .collect()
    }
}

#[cfg(test)]
mod tests;
