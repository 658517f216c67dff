//! Images that are needed by something other than records: by `retention.hold`, by the lists of
//! `retention.keep_from` and by deployments. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::keep_list::{KeepList, KeptName};
use crate::config::Config;
use crate::error::ItemError;
use crate::forge::Deployment;
use crate::model::text::excerpt;
use crate::model::{BuildRecord, Digest, ImageReference, Repository, Tag};

/// Minimum length of an abbreviated commit hash, which is that of git.
const MIN_REVISION_LENGTH: usize = 7;

/// Reason why an image is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageNeed {
    /// `retention.hold` names it.
    Held,
    /// This source of `retention.keep_from` names it.
    InUse(String),
    /// A record names it, and its project deployed the commit of the record.
    Deployed {
        project: String,
        environment: String,
    },
    /// It is an image of a project that deployed a commit without a record.
    DeployedWithoutRecord {
        project: String,
        environment: String,
    },
}

/// Commits that a project deployed, or the reason why they are unknown.
#[derive(Clone, Debug)]
pub struct ProjectDeployments {
    /// Project as in records.
    pub project: String,
    pub deployed: Result<Vec<Deployment>, ItemError>,
}

/// Facts from outside of the registries and the record store.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutsideFacts<'a> {
    /// Images that are in use elsewhere.
    pub lists: &'a [KeepList],
    /// Deployments of the projects in the records; `None` if they were not read.
    pub deployments: Option<&'a [ProjectDeployments]>,
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

/// Returns the canonical name of the repository of an image.
fn canonical(config: &Config, image: &ImageReference) -> Repository {
    config.canonical(&image.repository.resolved_below(&config.directory))
}

/// Returns true if a record names a commit, completely or by at least the first
/// [`MIN_REVISION_LENGTH`] characters of its hash.
fn is_commit(revision: &str, commit: &str) -> bool {
    revision.len() >= MIN_REVISION_LENGTH
        && commit
            .get(..revision.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(revision))
}

fn unreadable_deployments(project: &str, error: &ItemError) -> ItemError {
    let hint = error.hint().unwrap_or_else(|| {
        "repair the connection or remove `retention.keep_deployed`; `--force` does not replace it"
            .to_owned()
    });
    ItemError::other(format!(
        "the deployments of {} cannot be read: {error}",
        excerpt(project, 200)
    ))
    .with_hint(hint)
}

/// Tags and digests that are needed, with the reason.
///
/// A digest is needed in every repository, a tag only in its own.
#[derive(Clone, Debug, Default)]
pub struct NeededImages {
    tags: HashMap<Repository, HashMap<Tag, ImageNeed>>,
    digests: HashMap<Digest, ImageNeed>,
    /// Repositories in which every image is needed.
    repositories: HashMap<Repository, ImageNeed>,
    /// Digests by the repository that they were named with.
    pub(super) digests_in: BTreeMap<Repository, BTreeSet<Digest>>,
    /// Addresses of the project of this configuration, in normal form; empty if they are unknown.
    own_sources: BTreeSet<String>,
    /// Reason why it is unknown what is needed, so that nothing may be deleted.
    pub(super) error: Option<ItemError>,
}

impl NeededImages {
    /// Returns the images that `retention.hold`, the lists and the deployments name. `records` joins
    /// commits and images; `None` if they could not be read.
    pub(super) fn new(
        config: &Config,
        outside: OutsideFacts<'_>,
        records: Option<&[BuildRecord]>,
    ) -> NeededImages {
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
        if keepers.is_some_and(|keepers| keepers.keep_deployed.is_some()) {
            needed.add_deployments(config, outside.deployments, records);
        }
        needed
    }

    /// Adds the images of deployed commits and their bases. Of a project with a deployed commit
    /// that no record names, everything is added.
    fn add_deployments(
        &mut self,
        config: &Config,
        deployments: Option<&[ProjectDeployments]>,
        records: Option<&[BuildRecord]>,
    ) {
        let (Some(deployments), Some(records)) = (deployments, records) else {
            let error = ItemError::other(
                "the deployed images are unknown, because the records cannot be read",
            )
            .with_hint("`--force` does not replace them; `retention.keep_deployed` needs them");
            self.error.get_or_insert(error);
            return;
        };
        let mut of_project: HashMap<&str, Vec<&BuildRecord>> = HashMap::new();
        for record in records {
            of_project.entry(&record.project).or_default().push(record);
        }
        for ProjectDeployments { project, deployed } in deployments {
            let records = of_project.get(&**project).map_or(&[][..], Vec::as_slice);
            let deployed = match deployed {
                Ok(deployed) => deployed,
                Err(error) => {
                    self.error
                        .get_or_insert_with(|| unreadable_deployments(project, error));
                    continue;
                }
            };
            for Deployment {
                environment,
                commit,
            } in deployed
            {
                let (project, environment) = (project.clone(), environment.clone());
                let mut built = records
                    .iter()
                    .filter(|record| is_commit(&record.revision, commit))
                    .peekable();
                if built.peek().is_none() {
                    let reason = ImageNeed::DeployedWithoutRecord {
                        project,
                        environment,
                    };
                    for record in records {
                        self.add_record(config, record, &reason);
                        let repository = canonical(config, &record.image);
                        let reason = || reason.clone();
                        self.repositories.entry(repository).or_insert_with(reason);
                    }
                } else {
                    let reason = ImageNeed::Deployed {
                        project,
                        environment,
                    };
                    built.for_each(|record| self.add_record(config, record, &reason));
                }
            }
        }
    }

    /// Adds the image of a record and its base.
    fn add_record(&mut self, config: &Config, record: &BuildRecord, reason: &ImageNeed) {
        let base = record.base.iter().map(|base| (base, &record.base_digest));
        for (image, digest) in base.chain([(&record.image, &record.digest)]) {
            self.add(config, image, reason);
            if let Some(digest) = digest {
                self.add_digest(digest, reason);
                let repository = canonical(config, image);
                let digests = self.digests_in.entry(repository).or_default();
                digests.insert(digest.clone());
            }
        }
        if let Some(digest) = &record.base_digest {
            self.add_digest(digest, reason);
        }
    }

    fn add(&mut self, config: &Config, image: &ImageReference, reason: &ImageNeed) {
        let repository = canonical(config, image);
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

    /// Returns the reason why a manifest without a tag is needed that consists of `digests`.
    pub(super) fn need_of_digests<'d>(
        &self,
        repository: &Repository,
        mut digests: impl Iterator<Item = &'d Digest>,
    ) -> Option<&ImageNeed> {
        digests
            .find_map(|digest| self.digests.get(digest))
            .or_else(|| self.repositories.get(repository))
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
        by_tag()
            .or_else(by_digest)
            .or_else(|| self.repositories.get(repository))
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
