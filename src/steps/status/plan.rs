//! The report: the rows of the three tables, and the data of the diagrams. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Serialize, Serializer};

use super::observe::World;
use crate::config::{BuildImage, Config, SyncEntry, TagSelection};
use crate::error::ItemError;
use crate::model::eol::{EolAssessment, EolStatus};
use crate::model::{BuildRecord, Digest, ImageReference, Platform, Repository, Tag, TagVersion};
use crate::registry::ListedTag;
use crate::steps::build::Identity;
use crate::steps::eol::{EolAssessor, ProductAssessment, mirrors, products_of_image};
use crate::steps::lineage::{Currency, Lineage, ReferencedImage};
use crate::steps::sync::newest;

/// Images that the rules of `cleanup` select, each with the day on which it is deleted; `None` for
/// the next cleanup.
pub type ExpectedDeletions = BTreeMap<(Repository, Tag), Option<NaiveDate>>;

/// Status of everything on a day.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReport {
    #[serde(skip)]
    pub today: NaiveDate,
    pub warn_days: u32,
    pub mirrors: Vec<ImageRow>,
    pub bases: Vec<ImageRow>,
    pub applications: Vec<ApplicationRow>,
    /// Lineage of the images, by base.
    #[serde(skip)]
    pub families: BTreeMap<String, BaseFamily>,
    /// Release cycles in use.
    #[serde(skip)]
    pub cycles: BTreeMap<CycleKey, CycleUsers>,
}

/// A mirror or a base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRow {
    pub image: String,
    /// Tag; if no registry was read, the configured selection.
    pub version: String,
    /// Aliases that name the same image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Tag>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Platforms; empty for all platforms of the upstream image.
    #[serde(serialize_with = "as_texts")]
    pub platforms: Vec<Platform>,
    #[serde(flatten)]
    pub state: RowState,
}

/// An application, from its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationRow {
    pub application: String,
    pub version: String,
    pub project: String,
    pub base: Option<String>,
    pub built_at: DateTime<Utc>,
    #[serde(flatten)]
    pub state: RowState,
}

/// Status of a row with its dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RowState {
    pub status: RowStatus,
    /// Last day of support.
    pub eol_date: Option<NaiveDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_until: Option<NaiveDate>,
    /// Day on which `cleanup` deletes the image, if it waits for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_on: Option<NaiveDate>,
}

/// Status of a row. If several apply, the first of these counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RowStatus {
    /// Application whose base is not configured.
    Orphan,
    /// Configured, but not found.
    Missing,
    Expired,
    /// Support ends soon.
    Warning,
    /// Application whose base is not one of the current images.
    Outdated,
    /// `cleanup` would delete it.
    Expiring,
    /// The end-of-life date is unknown.
    Untracked,
    Accepted,
    Ok,
}

/// A base, or a mirror that applications are directly built on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseFamily {
    /// Images by version.
    pub members: BTreeMap<String, FamilyMember>,
}

/// An image that applications are built on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyMember {
    pub status: RowStatus,
    /// Image that it is built on.
    pub built_on: Option<String>,
    /// Applications built on it, each with the number of versions and their worst status.
    pub applications: BTreeMap<String, (usize, RowStatus)>,
}

/// A release cycle of a product and its status.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CycleKey {
    pub product: String,
    pub date: NaiveDate,
    pub cycle: String,
    pub status: RowStatus,
}

/// Numbers of images and applications in a cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CycleUsers {
    pub images: usize,
    pub applications: usize,
}

fn as_texts<S: Serializer>(platforms: &[Platform], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(platforms.iter().map(ToString::to_string))
}

/// Returns the report on `world`.
pub fn plan(
    config: &Config,
    world: &World,
    assessor: &EolAssessor<'_>,
    deletions: &ExpectedDeletions,
) -> StatusReport {
    let lineage = Lineage::new(config, &world.identities);
    let report = StatusReport {
        today: assessor.calendar.today,
        warn_days: assessor.calendar.warn_days,
        mirrors: Vec::new(),
        bases: Vec::new(),
        applications: Vec::new(),
        families: BTreeMap::new(),
        cycles: BTreeMap::new(),
    };
    let mut planner = StatusPlanner {
        config,
        world,
        assessor,
        deletions,
        lineage,
        report,
    };
    match &world.tags {
        Some(tags) => {
            planner.mirrors(tags);
            planner.bases(tags);
        }
        None => planner.offline(),
    }
    planner.families();
    planner.applications();
    planner.report
}

/// A base of the configuration and its current identity.
type CurrentBase<'a> = (&'a BuildImage, &'a Result<Identity, ItemError>);

/// Base in a record: its reference, and its digest if the record has one.
type RecordedBase<'a> = (&'a ImageReference, Option<&'a Digest>);

struct StatusPlanner<'a> {
    config: &'a Config,
    world: &'a World,
    assessor: &'a EolAssessor<'a>,
    deletions: &'a ExpectedDeletions,
    lineage: Lineage<'a>,
    report: StatusReport,
}

impl StatusPlanner<'_> {
    fn mirrors(&mut self, tags: &BTreeMap<Repository, Vec<Tag>>) {
        let entries = self
            .config
            .sync
            .as_ref()
            .map_or(&[][..], |sync| &sync.entries);
        let targets: BTreeSet<&Repository> = entries.iter().map(|entry| &entry.target).collect();
        for repository in targets {
            let found = tags.get(repository).map_or(&[][..], Vec::as_slice);
            for entry in self.lineage.entries(repository) {
                if let Some(version) = missing_selection(entry, found) {
                    let row = self.row(
                        repository,
                        version,
                        entry.platforms.clone().unwrap_or_default(),
                        RowState::of(RowStatus::Missing),
                    );
                    self.report.mirrors.push(row);
                }
            }
            for tag in newest_first(found.iter()) {
                let Some(referenced) = self.lineage.image(repository, tag, self.assessor) else {
                    continue;
                };
                let platforms = self
                    .lineage
                    .entry(repository, tag)
                    .and_then(|entry| entry.platforms.clone())
                    .unwrap_or_default();
                let state = self.state(repository, tag, &referenced);
                self.count(
                    &referenced.assessment.products,
                    CycleUsers {
                        images: 1,
                        applications: 0,
                    },
                );
                let row = self.row(repository, tag.to_string(), platforms, state);
                self.report.mirrors.push(row);
            }
        }
    }

    fn bases(&mut self, tags: &BTreeMap<Repository, Vec<Tag>>) {
        let mut current: BTreeMap<&Repository, Vec<CurrentBase<'_>>> = BTreeMap::new();
        for (image, identity) in self.lineage.bases() {
            current
                .entry(&image.repository)
                .or_default()
                .push((image, identity));
        }
        for (repository, images) in current {
            let listed = tags.get(repository).map_or(&[][..], Vec::as_slice);
            for (image, identity) in &images {
                let version = match identity {
                    Ok(identity) if listed.contains(&identity.tag) => continue,
                    Ok(identity) => identity.tag.to_string(),
                    Err(_) => image.version.clone().unwrap_or_else(|| "?".to_owned()),
                };
                let row = self.row(
                    repository,
                    version,
                    image.platforms.clone(),
                    RowState::of(RowStatus::Missing),
                );
                self.report.bases.push(row);
            }
            let built = |tag: &Tag| {
                images.iter().find(|(_, identity)| {
                    identity.as_ref().is_ok_and(|identity| identity.tag == *tag)
                })
            };
            let is_alias = |tag: &Tag| {
                images.iter().any(|(image, _)| image.aliases.contains(tag)) && built(tag).is_none()
            };
            for tag in newest_first(listed.iter().filter(|tag| !is_alias(tag))) {
                let Some(referenced) = self.lineage.image(repository, tag, self.assessor) else {
                    continue;
                };
                let image = built(tag).map(|(image, _)| image);
                let platforms = image
                    .or(images.first().map(|(image, _)| image))
                    .map(|image| image.platforms.clone());
                let aliases = image
                    .iter()
                    .flat_map(|image| &image.aliases)
                    .filter(|alias| listed.contains(alias));
                let state = self.state(repository, tag, &referenced);
                self.count(
                    &referenced.assessment.products,
                    CycleUsers {
                        images: 1,
                        applications: 0,
                    },
                );
                let row = self.row(
                    repository,
                    tag.to_string(),
                    platforms.unwrap_or_default(),
                    state,
                );
                let digest = self
                    .world
                    .digests
                    .get(&ImageReference::tagged(repository.clone(), tag.clone()))
                    .cloned();
                self.report.bases.push(ImageRow {
                    aliases: aliases.cloned().collect(),
                    digest,
                    ..row
                });
            }
        }
    }

    /// Adds the configured images as rows.
    fn offline(&mut self) {
        let entries = self
            .config
            .sync
            .as_ref()
            .map_or(&[][..], |sync| &sync.entries);
        for (entry, tracked) in entries.iter().zip(mirrors(self.config)) {
            let assessment = self.assessor.image(&tracked.products);
            self.count(
                &assessment.products,
                CycleUsers {
                    images: 1,
                    applications: 0,
                },
            );
            let platforms = entry.platforms.clone().unwrap_or_default();
            let row = self.row(
                &entry.target,
                selection(entry),
                platforms,
                RowState::by(&assessment.overall),
            );
            self.report.mirrors.push(row);
        }
        let bases: Vec<CurrentBase<'_>> = self.lineage.bases().collect();
        for (image, identity) in bases {
            let assessment = self.assessor.image(&products_of_image(image, self.config));
            self.count(
                &assessment.products,
                CycleUsers {
                    images: 1,
                    applications: 0,
                },
            );
            let version = match identity {
                Ok(identity) => identity.tag.to_string(),
                Err(_) => image.version.clone().unwrap_or_else(|| "newest".to_owned()),
            };
            let row = self.row(
                &image.repository,
                version,
                image.platforms.clone(),
                RowState::by(&assessment.overall),
            );
            self.report.bases.push(ImageRow {
                aliases: image.aliases.clone(),
                ..row
            });
        }
        self.report
            .mirrors
            .sort_by(|one, other| (&one.image, &one.version).cmp(&(&other.image, &other.version)));
        self.report.bases.sort_by_cached_key(|row| {
            (
                row.image.clone(),
                std::cmp::Reverse(TagVersion::of(&row.version)),
            )
        });
    }

    /// Adds the current bases to their families.
    fn families(&mut self) {
        let bases: Vec<CurrentBase<'_>> = self.lineage.bases().collect();
        for (image, identity) in bases {
            let Ok(identity) = identity else { continue };
            let Some(referenced) =
                self.lineage
                    .image(&image.repository, &identity.tag, self.assessor)
            else {
                continue;
            };
            let built_on = Some(format!(
                "{}:{}",
                self.display_name(&identity.base),
                identity.base_tag
            ));
            let is_missing = self.world.tags.as_ref().is_some_and(|tags| {
                let listed = tags.get(&image.repository);
                listed.is_none_or(|listed| !listed.contains(&identity.tag))
            });
            let status = if is_missing {
                RowStatus::Missing
            } else {
                RowState::by(&referenced.assessment.overall).status
            };
            let member = FamilyMember {
                status,
                built_on,
                applications: BTreeMap::new(),
            };
            let family = self
                .report
                .families
                .entry(self.display_name(&image.repository))
                .or_default();
            family.members.insert(identity.tag.to_string(), member);
        }
    }

    fn applications(&mut self) {
        let mut resolved: HashMap<RecordedBase<'_>, Option<(ImageReference, ReferencedImage)>> =
            HashMap::new();
        let mut current: HashMap<(&Repository, &Digest), &ImageReference> = HashMap::new();
        for (image, digest) in &self.world.digests {
            current.insert((&image.repository, digest), image);
        }
        let mut records: Vec<&BuildRecord> = self.world.records.iter().collect();
        records.sort_by_cached_key(|record| {
            let version = record
                .image
                .tag
                .as_ref()
                .map(|tag| TagVersion::of(tag.as_str()));
            (record.image.repository.clone(), std::cmp::Reverse(version))
        });
        for record in records {
            let found = record.base.as_ref().and_then(|base| {
                let digest = base.digest.as_ref().or(record.base_digest.as_ref());
                let found = resolved.entry((base, digest)).or_insert_with(|| {
                    let mut referenced = self.lineage.reference(base, self.assessor)?;
                    // The digests of the current tags were not read.
                    if self.world.tags.is_none() && base.tag.is_none() {
                        referenced.currency = Currency::Unknown;
                    }
                    // An image with another tag, or without one, can still be a current image.
                    let same = digest.and_then(|digest| current.get(&(&base.repository, digest)));
                    match same.filter(|_| referenced.currency == Currency::Outdated) {
                        Some(same) => Some((
                            (*same).clone(),
                            self.lineage.reference(same, self.assessor)?,
                        )),
                        None => Some((base.clone(), referenced)),
                    }
                });
                found.clone()
            });
            let state = match &found {
                None => RowState::of(RowStatus::Orphan),
                Some((_, referenced)) => {
                    let state = RowState::by(&referenced.assessment.overall);
                    let outdated = if referenced.currency == Currency::Outdated {
                        RowStatus::Outdated
                    } else {
                        RowStatus::Ok
                    };
                    RowState {
                        status: state.status.min(outdated),
                        ..state
                    }
                }
            };
            let application = self.display_name(&record.image.repository);
            if let Some((base, referenced)) = &found {
                self.count(
                    &referenced.assessment.products,
                    CycleUsers {
                        images: 0,
                        applications: 1,
                    },
                );
                self.add_to_family(base, referenced, &application, state.status);
            }
            self.report.applications.push(ApplicationRow {
                application,
                version: record
                    .image
                    .tag
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                project: record.project.clone(),
                base: record.base.as_ref().map(|base| self.reference(base)),
                built_at: record.built_at,
                state,
            });
        }
    }

    /// Adds an application to the image that it is built on.
    fn add_to_family(
        &mut self,
        base: &ImageReference,
        referenced: &ReferencedImage,
        application: &str,
        status: RowStatus,
    ) {
        let version = base.tag.as_ref().map_or_else(
            || "?".to_owned(),
            |tag| self.current_tag(&base.repository, tag),
        );
        let family = self
            .report
            .families
            .entry(display_name(&base.repository, &self.config.directory))
            .or_default();
        let base_status = RowState::by(&referenced.assessment.overall).status;
        let member = family
            .members
            .entry(version)
            .or_insert_with(|| FamilyMember {
                status: base_status,
                built_on: None,
                applications: BTreeMap::new(),
            });
        let users = member
            .applications
            .entry(application.to_owned())
            .or_insert((0, status));
        *users = (users.0 + 1, users.1.min(status));
    }

    /// Returns the tag of the image that `tag` names, which can be an alias.
    fn current_tag(&self, repository: &Repository, tag: &Tag) -> String {
        let mut bases = self
            .lineage
            .bases()
            .filter(|(image, _)| image.repository == *repository && image.aliases.contains(tag));
        let identity = bases.find_map(|(_, identity)| identity.as_ref().ok());
        identity.map_or_else(|| tag.to_string(), |identity| identity.tag.to_string())
    }

    fn state(&self, repository: &Repository, tag: &Tag, referenced: &ReferencedImage) -> RowState {
        let state = RowState::by(&referenced.assessment.overall);
        let deletion = self.deletions.get(&(repository.clone(), tag.clone()));
        RowState {
            deleted_on: deletion.copied().flatten(),
            status: if deletion.is_some() {
                state.status.min(RowStatus::Expiring)
            } else {
                state.status
            },
            ..state
        }
    }

    /// Counts the cycles that are in use and have a date.
    fn count(&mut self, products: &[ProductAssessment], users: CycleUsers) {
        for product in products {
            let (Some(cycle), Some(date)) = (&product.cycle, product.assessment.date) else {
                continue;
            };
            let status = RowState::by(&product.assessment).status;
            let key = CycleKey {
                product: product.product.to_string(),
                date,
                cycle: cycle.clone(),
                status,
            };
            let counted = self.report.cycles.entry(key).or_default();
            counted.images += users.images;
            counted.applications += users.applications;
        }
    }

    fn row(
        &self,
        repository: &Repository,
        version: String,
        platforms: Vec<Platform>,
        state: RowState,
    ) -> ImageRow {
        ImageRow {
            image: self.display_name(repository),
            version,
            aliases: Vec::new(),
            digest: None,
            platforms,
            state,
        }
    }

    fn display_name(&self, repository: &Repository) -> String {
        display_name(repository, &self.config.directory)
    }

    fn reference(&self, reference: &ImageReference) -> String {
        let tag = reference
            .tag
            .as_ref()
            .map(|tag| format!(":{tag}"))
            .unwrap_or_default();
        let digest = reference
            .digest
            .as_ref()
            .map(|digest| format!("@{}", digest.short()))
            .unwrap_or_default();
        format!("{}{tag}{digest}", self.display_name(&reference.repository))
    }
}

impl RowState {
    fn of(status: RowStatus) -> RowState {
        RowState {
            status,
            eol_date: None,
            accepted_until: None,
            deleted_on: None,
        }
    }

    fn by(assessment: &EolAssessment) -> RowState {
        let status = match assessment.status {
            EolStatus::Supported => RowStatus::Ok,
            EolStatus::Warning => RowStatus::Warning,
            EolStatus::Expired => RowStatus::Expired,
            EolStatus::Accepted => RowStatus::Accepted,
            EolStatus::Unknown => RowStatus::Untracked,
        };
        RowState {
            status,
            eol_date: assessment.date,
            accepted_until: assessment.accepted_until,
            deleted_on: None,
        }
    }
}

/// Returns the selection of an entry if no listed tag matches it.
fn missing_selection(entry: &SyncEntry, listed: &[Tag]) -> Option<String> {
    let is_there = match &entry.selection {
        TagSelection::Fixed(tag) => listed.contains(tag),
        TagSelection::Pattern(pattern) => {
            let listing: Vec<ListedTag> = listed.iter().cloned().map(ListedTag::named).collect();
            newest(pattern, entry.os_normalize, &listing).is_some()
        }
    };
    (!is_there).then(|| selection(entry))
}

/// Returns the tag or the pattern of an entry.
fn selection(entry: &SyncEntry) -> String {
    match &entry.selection {
        TagSelection::Fixed(tag) => tag.to_string(),
        TagSelection::Pattern(pattern) => match &pattern.tag_regex {
            Some(regex) => regex.text.clone(),
            None => pattern.describe(),
        },
    }
}

fn newest_first<'a>(tags: impl Iterator<Item = &'a Tag>) -> Vec<&'a Tag> {
    let mut tags: Vec<&Tag> = tags.collect();
    tags.sort_by_cached_key(|tag| std::cmp::Reverse(TagVersion::of(tag.as_str())));
    tags
}

/// Returns the name of a repository. A layout is named relative to the configuration, so that the
/// report is the same on every machine.
fn display_name(repository: &Repository, directory: &Path) -> String {
    match repository {
        Repository::Layout { directory: path } => {
            let relative = path.strip_prefix(directory).unwrap_or(path).to_path_buf();
            Repository::Layout {
                directory: relative,
            }
            .to_string()
        }
        remote => remote.to_string(),
    }
}
