//! Data that a cleanup decides on: tags with their images and dates, build records, and the tags
//! that the configuration wants. Data only: nothing here reads or decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Datelike, Utc};

use super::applications::Applications;
use super::manifest_tree::ManifestTree;
use super::needed_images::{NeededImages, OutsideFacts};
use super::targets::{CleanupTarget, targets};
use crate::config::{Config, PatternSelection, RepositoryPattern, RetentionConfig};
use crate::error::ItemError;
use crate::model::{BuildRecord, Digest, Repository, RetiredTag, Tag, TagHistory};
use crate::packages::{RecordSet, StoredDocument};
use crate::registry::{DeletionSupport, ListedTag, TagCase};

/// Year of the first Docker release. An image with an earlier date has no usable date.
pub(super) const FIRST_YEAR: i32 = 2013;

/// Everything that was read.
#[derive(Clone, Debug)]
pub struct World {
    pub repositories: Vec<ObservedRepository>,
    /// Each reading of the records, unless it equals the one before. A record of any reading
    /// counts.
    pub records: Vec<Arc<ObservedRecords>>,
    pub has_bases: bool,
    /// True if the configuration has bases or names a record store, so that there should be records.
    pub expects_records: bool,
    /// Repositories that records may name as a base: all bases and mirrors, in scope or not, under
    /// their canonical names ([`Config::canonical`]).
    pub configured: BTreeSet<Repository>,
    /// Repositories of applications that are cleaned up.
    pub applications: Arc<Applications>,
    /// Bases of other configurations, which records may name.
    pub foreign_bases: Vec<RepositoryPattern>,
    /// Images that something other than records needs.
    pub needed: Arc<NeededImages>,
    /// True if the safety check stops the run when there is no record at all.
    pub require_records: bool,
    /// Repositories next to the bases that the configuration does not name.
    pub orphans: Vec<Repository>,
    /// Repositories that were not read completely before the run reached its limit. They are not
    /// in `repositories`.
    pub unread: Vec<UnreadRepository>,
    pub warnings: Vec<String>,
}

/// A repository that was not read completely.
#[derive(Clone, Debug)]
pub struct UnreadRepository {
    pub repository: Repository,
    /// Number of tags that were read, in this run and earlier ones; `None` if they were not listed.
    pub progress: Option<ReadingProgress>,
}

impl UnreadRepository {
    /// Returns the warning for the report.
    pub(super) fn warning(&self) -> String {
        let progress = match self.progress {
            Some(ReadingProgress { read, listed }) => {
                format!("{read} of its {listed} tags are read")
            }
            None => "none of its tags is read".to_owned(),
        };
        format!(
            "{}: nothing was deleted, because the run reached its limit while it read the \
             repository; {progress}, and the next run goes on with the others",
            self.repository
        )
    }
}

/// Tags that were read of a repository.
#[derive(Clone, Copy, Debug)]
pub struct ReadingProgress {
    pub read: usize,
    pub listed: usize,
}

impl World {
    /// Returns a world with only the records.
    pub(super) fn new(
        config: &Config,
        records: Arc<ObservedRecords>,
        outside: OutsideFacts<'_>,
        now: DateTime<Utc>,
    ) -> World {
        let require_records = config
            .retention
            .as_ref()
            .is_none_or(|rules| rules.require_records);
        let has_bases = config
            .build
            .as_ref()
            .is_some_and(|build| !build.images.is_empty());
        let foreign_bases = config
            .retention
            .as_ref()
            .and_then(|rules| rules.keepers.as_ref())
            .map(|keepers| keepers.foreign_bases.clone());
        let configured = targets(config)
            .iter()
            .map(|target| config.canonical(&target.repository))
            .collect();
        let applications = Arc::new(Applications::of(config));
        let records = ObservedRecords::resolved(records, config, now);
        let read = match &*records {
            ObservedRecords::Read(reading) => Some(&*reading.records),
            ObservedRecords::Failed(_) | ObservedRecords::NotConfigured => None,
        };
        let needed = Arc::new(NeededImages::new(config, outside, read));
        World {
            repositories: Vec::new(),
            records: vec![records],
            has_bases,
            expects_records: has_bases || config.registry.is_some() || !applications.is_empty(),
            applications,
            configured,
            needed,
            foreign_bases: foreign_bases.unwrap_or_default(),
            require_records,
            orphans: Vec::new(),
            unread: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Returns the records of all readings.
    pub(super) fn all_records(&self) -> impl Iterator<Item = &BuildRecord> + Clone {
        self.records.iter().flat_map(|records| records.records())
    }

    /// Adds a reading of the records, unless it equals the last one. Returns true if it was added.
    pub(super) fn add_records(
        &mut self,
        config: &Config,
        records: Arc<ObservedRecords>,
        now: DateTime<Utc>,
    ) -> bool {
        let records = ObservedRecords::resolved(records, config, now);
        let is_known = self
            .records
            .last()
            .is_some_and(|last| Arc::ptr_eq(last, &records) || **last == *records);
        if !is_known {
            self.records.push(records);
        }
        !is_known
    }
}

/// Result of reading the build records.
#[derive(Clone, Debug, PartialEq)]
pub enum ObservedRecords {
    Read(RecordSet),
    Failed(ItemError),
    /// The configuration names no record store.
    NotConfigured,
}

impl ObservedRecords {
    /// Returns the records with canonical repository names ([`Config::canonical`]), and without
    /// replaced records that protect nothing at `now` any more. Paths of layouts are relative to
    /// the directory of the configuration.
    ///
    /// Records that need no change are returned as they are.
    pub(super) fn resolved(
        records: Arc<ObservedRecords>,
        config: &Config,
        now: DateTime<Utc>,
    ) -> Arc<ObservedRecords> {
        let canonical = |repository: &Repository| {
            config.canonical(&repository.resolved_below(&config.directory))
        };
        let is_resolved = records.records().iter().all(|record| {
            let mut images = record.base.iter().chain([&record.image]);
            record.replaced.is_empty()
                && images.all(|image| canonical(&image.repository) == image.repository)
        });
        if is_resolved {
            return records;
        }
        let mut records = Arc::unwrap_or_clone(records);
        if let ObservedRecords::Read(reading) = &mut records {
            for record in &mut reading.records {
                record
                    .replaced
                    .retain(|replaced| replaced.protects_until() > now);
                let bases = record
                    .replaced
                    .iter_mut()
                    .filter_map(|replaced| replaced.base.as_mut());
                for image in bases.chain(&mut record.base).chain([&mut record.image]) {
                    image.repository = canonical(&image.repository);
                }
            }
        }
        Arc::new(records)
    }

    /// Returns the records that could be read.
    pub fn records(&self) -> &[BuildRecord] {
        match self {
            ObservedRecords::Read(reading) => &reading.records,
            ObservedRecords::Failed(_) | ObservedRecords::NotConfigured => &[],
        }
    }

    /// Returns the time of the first record that was read: when its file was written, or, if that
    /// is unknown, when its image was built.
    ///
    /// A build time can be much older than its record, for example when old images are registered.
    pub(super) fn first_record(&self) -> Option<DateTime<Utc>> {
        let ObservedRecords::Read(reading) = self else {
            return None;
        };
        let built = reading.records.iter().map(|record| record.built_at).min();
        built.and_then(|built| reading.first_written.or(Some(built)))
    }
}

/// Role of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepositoryRole {
    Base,
    Mirror,
    /// Repository of an application (`retention.repositories`).
    Application,
    /// Target of earlier archiving; its tags expire after `keep_days`.
    Archive {
        keep_days: u32,
    },
}

impl RepositoryRole {
    /// Returns true if an image is as old as its build, unless it was pushed or recorded later.
    ///
    /// A mirror has the images of other builders, whose dates are not its age.
    pub(super) fn has_build_dates(self) -> bool {
        matches!(self, RepositoryRole::Base | RepositoryRole::Application)
    }
}

/// A manifest without a tag that no tag leads to.
#[derive(Clone, Debug)]
pub struct UntaggedImage {
    pub tree: ManifestTree,
    /// Time of its last push; `None` if it is unknown.
    pub pushed_at: Option<DateTime<Utc>>,
}

/// A repository as it was read.
#[derive(Clone, Debug)]
pub struct ObservedRepository {
    pub repository: Repository,
    /// Canonical name, by which records are compared.
    pub canonical: Repository,
    pub role: RepositoryRole,
    /// A tag is deleted only if all of these rules delete it.
    pub rules: Vec<RetentionConfig>,
    /// Repository that images are copied to before they are deleted.
    pub archive: Option<Repository>,
    /// Tags; empty if the repository does not exist.
    pub listing: Result<Vec<ObservedTag>, ItemError>,
    /// Reason why there may be tags that were not listed. Nothing is deleted by digest then.
    pub listing_doubt: Option<String>,
    /// Error that applies to the whole repository, so that nothing in it may be deleted.
    pub error: Option<ItemError>,
    /// Images that records name by digest and that have no tag.
    pub pinned: Vec<ManifestTree>,
    /// True if all of these images could be read.
    pub is_pinned_known: bool,
    /// Treatment of upper and lower case by the store; `None` if it makes no difference for the
    /// tags that are needed.
    pub tag_case: Option<TagCase>,
    /// True if every entry of its indexes was read, where manifests may be deleted by digest.
    pub are_entries_known: bool,
    /// Tags of the form `sha256-<hex>` that name an index, and whether its entries are referrers
    /// of that image. Tags whose entries were not read are absent.
    pub referrers_lists: BTreeMap<Tag, bool>,
    /// Images that earlier cleanups deleted, by their journals.
    pub deleted_subjects: BTreeSet<Digest>,
    /// The part of `deleted_subjects` that is still missing, each as the tag of its referrers list
    /// ([`Tag::of_referrers`]).
    pub missing_subjects: BTreeSet<Tag>,
    /// True if several projects built the bases in it.
    pub do_origins_disagree: bool,
    pub deletions: DeletionSupport,
    pub desired: DesiredTags,
    /// Manifests without a tag that no tag leads to, where the registry lists them.
    pub untagged: Vec<UntaggedImage>,
    /// State that earlier cleanups left; `None` without a record store, so that no tag waits.
    pub history: Option<StoredDocument<TagHistory>>,
    /// Tags that were read until the run reached its limit; `None` if it did not.
    pub(super) cut: Option<ReadingProgress>,
}

impl ObservedRepository {
    /// Returns a repository without any observed facts.
    pub(super) fn unread(
        config: &Config,
        repository: Repository,
        role: RepositoryRole,
    ) -> ObservedRepository {
        ObservedRepository {
            canonical: config.canonical(&repository),
            repository,
            role,
            rules: Vec::new(),
            archive: None,
            listing: Ok(Vec::new()),
            listing_doubt: None,
            error: None,
            pinned: Vec::new(),
            is_pinned_known: true,
            tag_case: None,
            are_entries_known: true,
            referrers_lists: BTreeMap::new(),
            deleted_subjects: BTreeSet::new(),
            missing_subjects: BTreeSet::new(),
            do_origins_disagree: false,
            deletions: DeletionSupport::UNKNOWN,
            desired: DesiredTags::default(),
            untagged: Vec::new(),
            history: None,
            cut: None,
        }
    }

    /// Returns a base or mirror of the configuration of which nothing has been read yet.
    pub(super) fn of_target(
        config: &Config,
        target: &CleanupTarget,
        desired: DesiredTags,
    ) -> ObservedRepository {
        let role = if target.is_application {
            RepositoryRole::Application
        } else if target.images.is_empty() {
            RepositoryRole::Mirror
        } else {
            RepositoryRole::Base
        };
        ObservedRepository {
            rules: target.rules.clone(),
            desired,
            ..ObservedRepository::unread(config, target.repository.clone(), role)
        }
    }

    /// Compares the projects that built the bases in it.
    pub(super) fn compare_origins(&mut self) {
        let origins: BTreeSet<&String> = self
            .tags()
            .filter_map(|tag| tag.image.as_ref().ok()?.origin.as_ref())
            .collect();
        self.do_origins_disagree = origins.len() > 1;
    }

    /// Returns the tags; none if the listing failed.
    pub fn tags(&self) -> impl Iterator<Item = &ObservedTag> {
        self.listing.iter().flatten()
    }

    /// Returns the state that earlier cleanups left, if there is any.
    pub(super) fn known_history(&self) -> Option<&TagHistory> {
        self.history.as_ref()?.content.as_ref()
    }

    /// Returns the retirement that created the tag.
    pub(super) fn retirement(&self, tag: &ObservedTag) -> Option<&RetiredTag> {
        let digest = &tag.image.as_ref().ok()?.digest;
        self.known_history()?.retirement(&tag.tag, digest)
    }

    /// Returns the end of the hold on a tag that was restored.
    pub(super) fn held_until(&self, tag: &Tag, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.known_history()?.held_until(tag, now)
    }

    /// Returns the time since which a tag has its age; `None` if it is unknown.
    ///
    /// This is the push date of a mirror's tag: the creation date is that of the upstream's image.
    /// For a base it is the latest of all dates, since `SOURCE_DATE_EPOCH` and a tag that is put on
    /// an older image make images look old that were pushed a moment ago.
    ///
    /// A date before the first release of Docker in 2013 is not one.
    pub(super) fn date(&self, tag: &ObservedTag) -> Option<DateTime<Utc>> {
        let usable = |date: Option<DateTime<Utc>>| date.filter(|date| date.year() >= FIRST_YEAR);
        let pushed_at = usable(tag.pushed_at);
        match self.role {
            RepositoryRole::Base | RepositoryRole::Application => {
                pushed_at.max(usable(tag.created)).max(tag.recorded_at)
            }
            RepositoryRole::Mirror => pushed_at,
            RepositoryRole::Archive { .. } => None,
        }
    }

    /// Returns true if every manifest that a tag or a record leads to was read.
    pub fn is_known(&self) -> bool {
        self.is_pinned_known
            && self.are_entries_known
            && self.tags().all(|tag| tag.image.is_ok() || tag.is_absent())
    }
}

/// A tag and the image that it names.
#[derive(Clone, Debug)]
pub struct ObservedTag {
    pub tag: Tag,
    pub image: Result<ManifestTree, TagReadError>,
    /// Push date of the tag, if the store reports it. For a base in an OCI layout it is the time at
    /// which its manifest was stored.
    pub pushed_at: Option<DateTime<Utc>>,
    /// Creation date of a base's image. `None` if it is unknown or was not needed.
    pub created: Option<DateTime<Utc>>,
    /// Time of the newest build that has the tag as its base or its image, by the records.
    pub recorded_at: Option<DateTime<Utc>>,
}

/// Reason why the image of a tag is unknown.
#[derive(Clone, Debug)]
pub enum TagReadError {
    /// The tag is listed but there is no manifest. Some registries leave such tags behind.
    NotFound,
    Failed(ItemError),
}

impl ObservedTag {
    /// Returns a tag of a listing, of which nothing else has been read yet.
    pub(super) fn listed(
        listed: ListedTag,
        role: RepositoryRole,
        image: Result<ManifestTree, TagReadError>,
    ) -> ObservedTag {
        let has_age = !matches!(role, RepositoryRole::Archive { .. });
        ObservedTag {
            tag: listed.tag,
            image,
            pushed_at: listed.pushed_at.filter(|_| has_age),
            created: None,
            recorded_at: None,
        }
    }

    /// Returns true if the tag is listed but there is no manifest.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self.image, Err(TagReadError::NotFound))
    }
}

/// Tags of an upstream that a sync entry selects from.
#[derive(Clone, Debug)]
pub struct UpstreamTags {
    /// Position of the entry.
    pub entry: usize,
    pub source: Repository,
    pub pattern: PatternSelection,
    /// Number of listed tags that match the pattern.
    pub matching: usize,
}

/// Tags of a repository that the configuration wants.
#[derive(Clone, Debug, Default)]
pub struct DesiredTags {
    /// Tags that `build` would produce.
    pub built: BTreeSet<Tag>,
    pub aliases: BTreeSet<Tag>,
    /// Tags that configured images are built on.
    pub used: BTreeSet<Tag>,
    /// Tags that `sync` would select.
    pub selected: BTreeSet<Tag>,
    /// Upstreams that `sync` selects from by a pattern.
    pub upstreams: Vec<UpstreamTags>,
    /// Warning about an upstream that lists less than the mirror has.
    pub upstream_warning: Option<String>,
    /// Reason why `selected` is incomplete.
    pub upstream_unknown: Option<String>,
    /// Reason why `built` or `used` is incomplete.
    pub build_unknown: Option<String>,
}
