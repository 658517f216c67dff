//! Access to registries and layouts that a configuration needs.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Config, SortBy, TagSelection};
use crate::model::{Host, Repository, RepositoryPath};
use crate::probe::RequiredAccess;
use crate::steps::cleanup;

/// Required access, by store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub hosts: BTreeMap<Host, BTreeMap<RepositoryPath, RequiredAccess>>,
    /// Image layout directories.
    pub layouts: Vec<(Repository, RequiredAccess)>,
    /// Repositories on Docker Hub whose push dates are needed.
    pub dated: BTreeSet<RepositoryPath>,
}

impl Needs {
    fn add(&mut self, repository: &Repository, access: RequiredAccess) {
        match repository {
            Repository::Remote { host, path } => {
                let known = self
                    .hosts
                    .entry(host.clone())
                    .or_default()
                    .entry(path.clone())
                    .or_default();
                *known = known.and(access);
            }
            Repository::Layout { .. } => match self
                .layouts
                .iter_mut()
                .find(|(known, _)| known == repository)
            {
                Some((_, known)) => *known = known.and(access),
                None => self.layouts.push((repository.clone(), access)),
            },
        }
    }
}

/// Returns the access that a configuration needs.
pub fn needs(config: &Config) -> Needs {
    let mut needs = Needs::default();
    let entries = config.sync.as_ref().map_or(&[][..], |sync| &sync.entries);
    let images = config.build.as_ref().map_or(&[][..], |build| &build.images);
    for entry in entries {
        needs.add(
            &entry.source,
            RequiredAccess {
                source: true,
                referrers: entry.referrers,
                ..RequiredAccess::default()
            },
        );
        needs.add(
            &entry.target,
            RequiredAccess {
                referrers: entry.referrers,
                ..RequiredAccess::default()
            },
        );
        if let (TagSelection::Pattern(pattern), Repository::Remote { host, path }) =
            (&entry.selection, &entry.source)
            && host.is_docker_hub()
            && (pattern.sort == SortBy::Date || pattern.min_age.is_some_and(|age| !age.is_zero()))
        {
            needs.dated.insert(path.clone());
        }
    }
    let deletes = config.retention.is_some();
    for target in cleanup::targets(config) {
        needs.add(
            &target.repository,
            RequiredAccess {
                push: true,
                delete: deletes && !target.rules.is_empty(),
                ..RequiredAccess::default()
            },
        );
        for archive in target.archives().iter().filter(|_| deletes) {
            needs.add(
                archive,
                RequiredAccess {
                    push: true,
                    delete: true,
                    ..RequiredAccess::default()
                },
            );
        }
    }
    for image in images {
        // Images that this configuration creates need not exist before the first run.
        let mut created = entries
            .iter()
            .map(|entry| &entry.target)
            .chain(images.iter().map(|image| &image.repository));
        let is_created = created.any(|repository| *repository == image.mirror_image);
        needs.add(
            &image.mirror_image,
            RequiredAccess {
                source: !is_created,
                ..RequiredAccess::default()
            },
        );
    }
    needs
}
