//! How everything stands: the rows of the three tables, and what the diagrams show. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Serialize, Serializer};

use super::observe::World;
use crate::config::{BuildImage, Config, SyncEntry, TagSelection};
use crate::model::eol::{EolAssessment, EolStatus};
use crate::model::{BuildRecord, Digest, ImageReference, Platform, Repository, Tag, TagVersion};
use crate::registry::TagSeen;
use crate::steps::Trouble;
use crate::steps::build::Identity;
use crate::steps::eol::{Finding, Judge, mirrors, parts_of_image};
use crate::steps::lineage::{Currency, Lineage, Referred};
use crate::steps::sync::newest;

/// The images that `cleanup` would remove.
pub type Condemned = BTreeSet<(Repository, Tag)>;

/// How everything stands on a day.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReport {
    #[serde(skip)]
    pub today: NaiveDate,
    pub warn_days: u32,
    pub mirrors: Vec<ImageRow>,
    pub bases: Vec<ImageRow>,
    pub applications: Vec<ApplicationRow>,
    /// What is built on what, by base.
    #[serde(skip)]
    pub families: BTreeMap<String, Family>,
    /// The release cycles that anything is of.
    #[serde(skip)]
    pub cycles: BTreeMap<CycleKey, Users>,
}

/// An image of the platform team.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRow {
    pub image: String,
    /// A tag; or which tags are selected, when nobody was asked.
    pub version: String,
    /// Floating tags that name the same image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Tag>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Empty: all that upstream has.
    #[serde(serialize_with = "as_texts")]
    pub platforms: Vec<Platform>,
    #[serde(flatten)]
    pub state: State,
}

/// An application, as its record has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationRow {
    pub application: String,
    pub version: String,
    pub project: String,
    pub base: Option<String>,
    pub built_at: DateTime<Utc>,
    #[serde(flatten)]
    pub state: State,
}

/// How an image stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub status: Verdict,
    /// The last day before its end.
    pub eol_date: Option<NaiveDate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_until: Option<NaiveDate>,
}

/// What it comes down to; of several, the first of these that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// A record whose base is not configured.
    Orphan,
    /// Configured, and not there.
    Missing,
    Expired,
    /// It ends soon.
    Warning,
    /// An application whose base is not among those that are built now.
    Outdated,
    /// Cleanup would remove it.
    Expiring,
    /// Nothing is known of its end.
    Untracked,
    Accepted,
    Ok,
}

/// A base, or a mirror that applications are built on directly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    /// By version.
    pub members: BTreeMap<String, Member>,
}

/// An image that others are built on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub verdict: Verdict,
    /// The image that it is built on itself.
    pub built_on: Option<String>,
    /// The applications on it, with how many of their versions, and the worst of these.
    pub applications: BTreeMap<String, (usize, Verdict)>,
}

/// A release cycle of a product, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CycleKey {
    pub product: String,
    pub date: NaiveDate,
    pub cycle: String,
    pub verdict: Verdict,
}

/// What is of a cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Users {
    pub images: usize,
    pub applications: usize,
}

fn as_texts<S: Serializer>(platforms: &[Platform], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(platforms.iter().map(ToString::to_string))
}

/// Returns how everything stands by `judge`.
pub fn plan(
    config: &Config,
    world: &World,
    judge: &Judge<'_>,
    condemned: &Condemned,
) -> StatusReport {
    let lineage = Lineage::new(config, &world.identities);
    let report = StatusReport {
        today: judge.calendar.today,
        warn_days: judge.calendar.warn_days,
        mirrors: Vec::new(),
        bases: Vec::new(),
        applications: Vec::new(),
        families: BTreeMap::new(),
        cycles: BTreeMap::new(),
    };
    let mut planner = Planner {
        config,
        world,
        judge,
        condemned,
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

/// A base of the configuration, and what it is called now.
type Current<'a> = (&'a BuildImage, &'a Result<Identity, Trouble>);

/// What a record says of its base: a reference, and a digest when it has one.
type Named<'a> = (&'a ImageReference, Option<&'a Digest>);

struct Planner<'a> {
    config: &'a Config,
    world: &'a World,
    judge: &'a Judge<'a>,
    condemned: &'a Condemned,
    lineage: Lineage<'a>,
    report: StatusReport,
}

impl Planner<'_> {
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
                if let Some(version) = lacking(entry, found) {
                    let row = self.row(
                        repository,
                        version,
                        entry.platforms.clone().unwrap_or_default(),
                        State::of(Verdict::Missing),
                    );
                    self.report.mirrors.push(row);
                }
            }
            for tag in newest_first(found.iter()) {
                let Some(referred) = self.lineage.image(repository, tag, self.judge) else {
                    continue;
                };
                let platforms = self
                    .lineage
                    .entry(repository, tag)
                    .and_then(|entry| entry.platforms.clone())
                    .unwrap_or_default();
                let state = self.state(repository, tag, &referred);
                self.count(
                    &referred.judgement.findings,
                    Users {
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
        let mut current: BTreeMap<&Repository, Vec<Current<'_>>> = BTreeMap::new();
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
                    State::of(Verdict::Missing),
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
                let Some(referred) = self.lineage.image(repository, tag, self.judge) else {
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
                let state = self.state(repository, tag, &referred);
                self.count(
                    &referred.judgement.findings,
                    Users {
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

    /// Makes the rows of what is configured.
    fn offline(&mut self) {
        let entries = self
            .config
            .sync
            .as_ref()
            .map_or(&[][..], |sync| &sync.entries);
        for (entry, tracked) in entries.iter().zip(mirrors(self.config)) {
            let judgement = self.judge.image(&tracked.parts);
            self.count(
                &judgement.findings,
                Users {
                    images: 1,
                    applications: 0,
                },
            );
            let platforms = entry.platforms.clone().unwrap_or_default();
            let row = self.row(
                &entry.target,
                selection(entry),
                platforms,
                State::by(&judgement.standing),
            );
            self.report.mirrors.push(row);
        }
        let bases: Vec<Current<'_>> = self.lineage.bases().collect();
        for (image, identity) in bases {
            let judgement = self.judge.image(&parts_of_image(image, self.config));
            self.count(
                &judgement.findings,
                Users {
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
                State::by(&judgement.standing),
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

    /// Makes the members of the families that are built now.
    fn families(&mut self) {
        let bases: Vec<Current<'_>> = self.lineage.bases().collect();
        for (image, identity) in bases {
            let Ok(identity) = identity else { continue };
            let Some(referred) = self
                .lineage
                .image(&image.repository, &identity.tag, self.judge)
            else {
                continue;
            };
            let built_on = Some(format!(
                "{}:{}",
                self.shown(&identity.base),
                identity.base_tag
            ));
            let is_missing = self.world.tags.as_ref().is_some_and(|tags| {
                let listed = tags.get(&image.repository);
                listed.is_none_or(|listed| !listed.contains(&identity.tag))
            });
            let verdict = if is_missing {
                Verdict::Missing
            } else {
                State::by(&referred.judgement.standing).status
            };
            let member = Member {
                verdict,
                built_on,
                applications: BTreeMap::new(),
            };
            let family = self
                .report
                .families
                .entry(self.shown(&image.repository))
                .or_default();
            family.members.insert(identity.tag.to_string(), member);
        }
    }

    fn applications(&mut self) {
        let mut known: HashMap<Named<'_>, Option<(ImageReference, Referred)>> = HashMap::new();
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
                let found = known.entry((base, digest)).or_insert_with(|| {
                    let mut referred = self.lineage.reference(base, self.judge)?;
                    // What the current tags name was not asked.
                    if self.world.tags.is_none() && base.tag.is_none() {
                        referred.currency = Currency::Untold;
                    }
                    // What goes by another tag, or by none, can be one of the current images all
                    // the same.
                    let same = digest.and_then(|digest| current.get(&(&base.repository, digest)));
                    match same.filter(|_| referred.currency == Currency::Outdated) {
                        Some(same) => {
                            Some(((*same).clone(), self.lineage.reference(same, self.judge)?))
                        }
                        None => Some((base.clone(), referred)),
                    }
                });
                found.clone()
            });
            let state = match &found {
                None => State::of(Verdict::Orphan),
                Some((_, referred)) => {
                    let state = State::by(&referred.judgement.standing);
                    let outdated = if referred.currency == Currency::Outdated {
                        Verdict::Outdated
                    } else {
                        Verdict::Ok
                    };
                    State {
                        status: state.status.min(outdated),
                        ..state
                    }
                }
            };
            let application = self.shown(&record.image.repository);
            if let Some((base, referred)) = &found {
                self.count(
                    &referred.judgement.findings,
                    Users {
                        images: 0,
                        applications: 1,
                    },
                );
                self.descend(base, referred, &application, state.status);
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

    /// Puts an application below the image that it stands on.
    fn descend(
        &mut self,
        base: &ImageReference,
        referred: &Referred,
        application: &str,
        verdict: Verdict,
    ) {
        let version = base
            .tag
            .as_ref()
            .map_or_else(|| "?".to_owned(), |tag| self.called(&base.repository, tag));
        let family = self
            .report
            .families
            .entry(shown(&base.repository, &self.config.directory))
            .or_default();
        let of_base = State::by(&referred.judgement.standing).status;
        let member = family.members.entry(version).or_insert_with(|| Member {
            verdict: of_base,
            built_on: None,
            applications: BTreeMap::new(),
        });
        let users = member
            .applications
            .entry(application.to_owned())
            .or_insert((0, verdict));
        *users = (users.0 + 1, users.1.min(verdict));
    }

    /// Returns the tag of the image that goes by `tag`, which can be an alias.
    fn called(&self, repository: &Repository, tag: &Tag) -> String {
        let mut bases = self
            .lineage
            .bases()
            .filter(|(image, _)| image.repository == *repository && image.aliases.contains(tag));
        let identity = bases.find_map(|(_, identity)| identity.as_ref().ok());
        identity.map_or_else(|| tag.to_string(), |identity| identity.tag.to_string())
    }

    fn state(&self, repository: &Repository, tag: &Tag, referred: &Referred) -> State {
        let state = State::by(&referred.judgement.standing);
        let is_condemned = self.condemned.contains(&(repository.clone(), tag.clone()));
        State {
            status: if is_condemned {
                state.status.min(Verdict::Expiring)
            } else {
                state.status
            },
            ..state
        }
    }

    /// Remembers which cycles are in use; those without a date have no place in time.
    fn count(&mut self, findings: &[Finding], users: Users) {
        for finding in findings {
            let (Some(cycle), Some(date)) = (&finding.cycle, finding.standing.date) else {
                continue;
            };
            let verdict = State::by(&finding.standing).status;
            let key = CycleKey {
                product: finding.product.to_string(),
                date,
                cycle: cycle.clone(),
                verdict,
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
        state: State,
    ) -> ImageRow {
        ImageRow {
            image: self.shown(repository),
            version,
            aliases: Vec::new(),
            digest: None,
            platforms,
            state,
        }
    }

    fn shown(&self, repository: &Repository) -> String {
        shown(repository, &self.config.directory)
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
        format!("{}{tag}{digest}", self.shown(&reference.repository))
    }
}

impl State {
    fn of(status: Verdict) -> State {
        State {
            status,
            eol_date: None,
            accepted_until: None,
        }
    }

    fn by(standing: &EolAssessment) -> State {
        let status = match standing.status {
            EolStatus::Supported => Verdict::Ok,
            EolStatus::Warning => Verdict::Warning,
            EolStatus::Expired => Verdict::Expired,
            EolStatus::Accepted => Verdict::Accepted,
            EolStatus::Unknown => Verdict::Untracked,
        };
        State {
            status,
            eol_date: standing.date,
            accepted_until: standing.accepted_until,
        }
    }
}

/// Returns what an entry mirrors, when none of it is there.
fn lacking(entry: &SyncEntry, listed: &[Tag]) -> Option<String> {
    let is_there = match &entry.selection {
        TagSelection::Fixed(tag) => listed.contains(tag),
        TagSelection::Pattern(pattern) => {
            let listing: Vec<TagSeen> = listed.iter().cloned().map(TagSeen::named).collect();
            newest(pattern, entry.os_normalize, &listing).is_some()
        }
    };
    (!is_there).then(|| selection(entry))
}

/// Returns what an entry mirrors.
fn selection(entry: &SyncEntry) -> String {
    match &entry.selection {
        TagSelection::Fixed(tag) => tag.to_string(),
        TagSelection::Pattern(pattern) => pattern.tag_regex.text.clone(),
    }
}

fn newest_first<'a>(tags: impl Iterator<Item = &'a Tag>) -> Vec<&'a Tag> {
    let mut tags: Vec<&Tag> = tags.collect();
    tags.sort_by_cached_key(|tag| std::cmp::Reverse(TagVersion::of(tag.as_str())));
    tags
}

/// Returns the name of a repository; that of a layout relative to the configuration, so that the
/// report is the same on all machines.
fn shown(repository: &Repository, directory: &Path) -> String {
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
