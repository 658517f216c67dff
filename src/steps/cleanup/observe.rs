//! What cleanup looks at: tags with what they name and their age, records, what upstreams and
//! templates want. Reads only.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};

use super::judge::{Ages, Protections, Verdict, judge, subject, undecided};
use super::tree::{self, Clue, Tree};
use super::{Scope, Target, targets};
use crate::config::{Archive, Config, Entry, Retention};
use crate::error::chain;
use crate::model::{BuildRecord, Digest, Reference, Repository, Tag};
use crate::packages::Reading;
use crate::progress::{Event, Progress};
use crate::registry::{Deletions, ImageStore, PlaceError};
use crate::steps::Trouble;
use crate::steps::build::{Identity, identify};
use crate::steps::sync;
use crate::transfer::Memory;

/// Repositories that are looked at at once.
pub(super) const REPOSITORIES: usize = 4;

/// Manifests of a repository that are read at once; each host has its own limit besides.
pub(super) const LOOKS: usize = 16;

/// What was seen.
#[derive(Clone, Debug)]
pub struct World {
    pub repositories: Vec<Seen>,
    /// As often as they were read. What any reading has counts.
    pub records: Vec<RecordsSeen>,
    pub has_bases: bool,
    /// What records may name as a base: bases and mirrors, in scope or not, as [`Config::place`]
    /// has them.
    pub configured: BTreeSet<Repository>,
    /// Whether no record at all stops cleanup.
    pub require_records: bool,
    /// Repositories beside the bases that the configuration does not name.
    pub orphans: Vec<Repository>,
    pub warnings: Vec<String>,
}

/// What was read of the records.
#[derive(Clone, Debug)]
pub enum RecordsSeen {
    Read(Reading),
    Failed(Trouble),
    /// The configuration does not say where they are.
    NotConfigured,
}

impl World {
    /// Returns a world of which only the records are known.
    pub(super) fn new(config: &Config, records: RecordsSeen) -> World {
        let require_records = config
            .retention
            .as_ref()
            .is_none_or(|rules| rules.require_records);
        let has_bases = config
            .build
            .as_ref()
            .is_some_and(|build| !build.images.is_empty());
        let configured = targets(config)
            .iter()
            .map(|target| config.place(&target.repository))
            .collect();
        World {
            repositories: Vec::new(),
            records: vec![records],
            has_bases,
            configured,
            require_records,
            orphans: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

impl RecordsSeen {
    /// Returns the records with the places that they name as [`Config::place`] has them, layouts
    /// resolved below the configuration's directory.
    pub(super) fn resolved(mut self, config: &Config) -> RecordsSeen {
        if let RecordsSeen::Read(reading) = &mut self {
            for record in &mut reading.records {
                for image in record.base.iter_mut().chain([&mut record.image]) {
                    image.repository =
                        config.place(&image.repository.resolved_below(&config.directory));
                }
            }
        }
        self
    }

    pub fn records(&self) -> &[BuildRecord] {
        match self {
            RecordsSeen::Read(reading) => &reading.records,
            RecordsSeen::Failed(_) | RecordsSeen::NotConfigured => &[],
        }
    }
}

/// What a repository is to cleanup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Base,
    Mirror,
    /// What cleanup archived.
    Archive {
        keep_days: u32,
    },
}

/// One repository.
#[derive(Clone, Debug)]
pub struct Seen {
    pub repository: Repository,
    /// The one name of it by which records are compared.
    pub place: Repository,
    pub role: Role,
    /// A tag goes when it goes by all of them.
    pub rules: Vec<Retention>,
    /// Where images go before they are deleted.
    pub archive: Option<Repository>,
    /// Its tags; none when there is no such repository.
    pub listing: Result<Vec<TagImage>, Trouble>,
    /// What is wrong with the repository, so that nothing of it may be deleted.
    pub trouble: Option<Trouble>,
    /// Images that records name by digest and that no tag names.
    pub pinned: Vec<Tree>,
    /// Whether all those images could be looked at.
    pub is_pinned_known: bool,
    /// Tags of attachments, without their ends, whose subject is not there.
    pub gone: BTreeSet<Tag>,
    pub deletions: Deletions,
    pub wanted: Wanted,
}

/// A tag with what it names.
#[derive(Clone, Debug)]
pub struct TagImage {
    pub tag: Tag,
    pub image: Result<Tree, Unseen>,
    /// Of a mirror when it was pushed, of a base when it was made; where that is told and of use.
    pub date: Option<DateTime<Utc>>,
}

/// Why it is not known what a tag names.
#[derive(Clone, Debug)]
pub enum Unseen {
    /// It is listed, and names nothing. Some registries leave such tags behind.
    Absent,
    Unread(Trouble),
}

impl TagImage {
    /// Returns whether it is listed, and names nothing.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self.image, Err(Unseen::Absent))
    }
}

/// What the configuration wants of a repository.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// What `build` would produce.
    pub built: BTreeSet<Tag>,
    pub aliases: BTreeSet<Tag>,
    /// Tags that configured images are built on.
    pub used: BTreeSet<Tag>,
    /// What `sync` would select.
    pub selected: BTreeSet<Tag>,
    pub upstream_unknown: Option<String>,
    pub build_unknown: Option<String>,
}

impl Seen {
    pub fn tags(&self) -> impl Iterator<Item = &TagImage> {
        self.listing.iter().flatten()
    }

    /// Returns whether all that its tags and its records lead to is known.
    pub fn is_known(&self) -> bool {
        self.is_pinned_known && self.tags().all(|tag| tag.image.is_ok() || tag.is_absent())
    }
}

/// What a clean-up looks with, and when.
#[derive(Clone, Copy)]
pub struct Observer<'a> {
    pub store: &'a dyn ImageStore,
    /// What earlier runs found out.
    pub memory: &'a dyn Memory,
    pub progress: &'a dyn Progress,
    pub now: DateTime<Utc>,
}

/// Looks at everything that the repositories in scope need. What cannot be seen is part of the
/// result, not a failure.
pub async fn observe(
    config: &Config,
    scope: &Scope,
    records: RecordsSeen,
    observer: Observer<'_>,
) -> World {
    let records = records.resolved(config);
    let targets = scope.targets(config);
    let wanted = async {
        let positions = targets
            .iter()
            .flat_map(|target| target.entries.iter().copied())
            .collect();
        let (identities, selections) = futures_util::join!(
            identities(config, observer),
            selections(config, positions, observer)
        );
        wanted(config, &targets, &identities, &selections)
    };
    let ((wanted, mut warnings), (orphans, more)) =
        futures_util::join!(wanted, orphans(config, observer));
    warnings.extend(more);
    let protections = Protections::of(records.records());
    let (looks, archives) = looks(config, &targets, wanted);
    let look = &Look {
        observer,
        protections: &protections,
    };
    let looks = looks
        .into_iter()
        .chain(archives)
        .map(|seen| async move { look.at(seen).await });
    let repositories = stream::iter(looks.collect::<Vec<_>>())
        .buffered(REPOSITORIES)
        .collect()
        .await;
    World {
        repositories,
        orphans,
        warnings,
        ..World::new(config, records)
    }
}

/// Returns `world` with what the records name by now: others register images while a clean-up
/// looks, which can take minutes.
pub async fn observe_records(
    mut world: World,
    config: &Config,
    records: RecordsSeen,
    observer: Observer<'_>,
) -> World {
    world.records.push(records.resolved(config));
    let protections = Protections::of(all(&world.records));
    let look = &Look {
        observer,
        protections: &protections,
    };
    let looks = std::mem::take(&mut world.repositories)
        .into_iter()
        .map(|mut seen| async move {
            look.look_at_pinned(&mut seen).await;
            seen
        });
    world.repositories = stream::iter(looks.collect::<Vec<_>>())
        .buffered(REPOSITORIES)
        .collect()
        .await;
    world
}

/// Returns the records of all readings.
pub(super) fn all(readings: &[RecordsSeen]) -> impl Iterator<Item = &BuildRecord> + Clone {
    readings.iter().flat_map(RecordsSeen::records)
}

/// Returns the repositories that are to be looked at, and their archives.
fn looks(config: &Config, targets: &[Target], wanted: Vec<Wanted>) -> (Vec<Seen>, Vec<Seen>) {
    let mut archives: BTreeMap<Repository, (Repository, u32)> = BTreeMap::new();
    let mut looks = Vec::with_capacity(targets.len());
    for (target, wanted) in targets.iter().zip(wanted) {
        let role = if target.images.is_empty() {
            Role::Mirror
        } else {
            Role::Base
        };
        let mut seen = Seen {
            rules: target.rules.clone(),
            wanted,
            ..unseen(config, target.repository.clone(), role)
        };
        for (archive, repository) in archives_of(target) {
            match repository {
                Ok(repository) => {
                    let (_, keep_days) = archives
                        .entry(config.place(&repository))
                        .or_insert_with(|| (repository.clone(), 0));
                    *keep_days = archive.keep_days.max(*keep_days);
                    seen.archive.get_or_insert(repository);
                }
                Err(cause) => {
                    seen.trouble = Some(
                        Trouble::new(cause).hint("set `retention.archive.enabled: false` for it"),
                    );
                }
            }
        }
        looks.push(seen);
    }
    let archives = archives
        .into_values()
        .map(|(repository, keep_days)| unseen(config, repository, Role::Archive { keep_days }));
    (looks, archives.collect())
}

/// Returns where the tags of a repository are archived, by each of its rules.
pub(super) fn archives_of(
    target: &Target,
) -> impl Iterator<Item = (&Archive, Result<Repository, String>)> {
    target
        .rules
        .iter()
        .filter_map(|rules| rules.archive.as_ref())
        .map(|archive| {
            let repository = match &target.repository {
                Repository::Remote { path, .. } => archive
                    .registry
                    .join(path.as_str())
                    .map_err(|error| error.to_string()),
                Repository::Layout { .. } => {
                    Err("an OCI layout cannot be archived: it has no path on a registry".to_owned())
                }
            };
            (archive, repository)
        })
}

pub(super) fn unseen(config: &Config, repository: Repository, role: Role) -> Seen {
    Seen {
        place: config.place(&repository),
        repository,
        role,
        rules: Vec::new(),
        archive: None,
        listing: Ok(Vec::new()),
        trouble: None,
        pinned: Vec::new(),
        is_pinned_known: true,
        gone: BTreeSet::new(),
        deletions: Deletions::UNKNOWN,
        wanted: Wanted::default(),
    }
}

pub(super) struct Look<'a> {
    pub(super) observer: Observer<'a>,
    pub(super) protections: &'a Protections<'a>,
}

impl Look<'_> {
    async fn at(&self, mut seen: Seen) -> Seen {
        let repository = seen.repository.clone();
        self.observer.progress.event(Event::Observing {
            what: &format!("tags of {repository}"),
        });
        // The age of a base is in its images; an archive's is in its tags.
        let listing = if seen.role == Role::Mirror {
            self.observer.store.dated_tags(&repository).await
        } else {
            self.observer.store.tags(&repository).await
        };
        let listing = match listing {
            Ok(listing) => listing.unwrap_or_default(),
            Err(error) => {
                seen.listing = Err(trouble(&error));
                return seen;
            }
        };
        self.observer.progress.event(Event::Observing {
            what: &format!("images of {repository}"),
        });
        let reads = listing.into_iter().map(|tag| {
            let date = tag.pushed_at.filter(|_| seen.role == Role::Mirror);
            self.read(&repository, tag.tag, date)
        });
        let read: Vec<(TagImage, Clue)> = stream::iter(reads).buffered(LOOKS).collect().await;
        let (tags, clues): (Vec<TagImage>, Vec<(Tag, Clue)>) = read
            .into_iter()
            .map(|(tag, clue)| (tag.clone(), (tag.tag, clue)))
            .unzip();
        seen.listing = Ok(tags);
        self.look_at_pinned(&mut seen).await;
        self.look_for_subjects(&mut seen).await;
        if seen.role == Role::Base {
            self.date(&mut seen, clues.into_iter().collect()).await;
        }
        let goes = judge(&seen, self.protections, self.observer.now)
            .values()
            .any(|verdict| matches!(verdict, Verdict::Condemn(_)));
        if goes && seen.trouble.is_none() {
            match self.observer.store.deletions(&repository).await {
                Ok(deletions) => seen.deletions = deletions,
                Err(error) => seen.trouble = Some(trouble(&error)),
            }
        }
        seen
    }

    pub(super) async fn read(
        &self,
        repository: &Repository,
        tag: Tag,
        date: Option<DateTime<Utc>>,
    ) -> (TagImage, Clue) {
        let read = tree::read(
            self.observer.store,
            repository,
            &Reference::Tag(tag.clone()),
        )
        .await;
        let (image, clue) = match read {
            Ok(Some((tree, clue))) => (Ok(tree), clue),
            Ok(None) => (Err(Unseen::Absent), Clue::Nowhere),
            Err(error) => (Err(Unseen::Unread(trouble(&error))), Clue::Nowhere),
        };
        (TagImage { tag, image, date }, clue)
    }

    /// Looks at images that records name by digest and that no tag leads to.
    async fn look_at_pinned(&self, seen: &mut Seen) {
        let Some(named) = self.protections.digests_in.get(&seen.place) else {
            return;
        };
        let trees = seen.tags().flat_map(|tag| &tag.image).chain(&seen.pinned);
        let known: BTreeSet<&Digest> = trees.flat_map(Tree::digests).collect();
        let unknown: Vec<Digest> = named
            .iter()
            .filter(|digest| !known.contains(*digest))
            .map(|digest| (*digest).clone())
            .collect();
        let repository = &seen.repository;
        let reads = unknown.into_iter().map(|digest| async move {
            tree::read(self.observer.store, repository, &digest.into()).await
        });
        let read: Vec<_> = stream::iter(reads.collect::<Vec<_>>())
            .buffer_unordered(LOOKS)
            .collect()
            .await;
        for result in read {
            match result {
                Ok(found) => seen.pinned.extend(found.map(|(tree, _)| tree)),
                Err(_) => seen.is_pinned_known = false,
            }
        }
    }

    /// Looks whether what attachments are attached to is there, where no tag leads to it.
    async fn look_for_subjects(&self, seen: &mut Seen) {
        let known: BTreeSet<Tag> = seen
            .tags()
            .flat_map(|tag| &tag.image)
            .flat_map(|tree| tree.digests())
            .map(Tag::of_referrers)
            .collect();
        let unknown: BTreeSet<Tag> = seen
            .tags()
            .filter_map(|tag| subject(&tag.tag))
            .filter(|tag| !known.contains(tag))
            .collect();
        let repository = &seen.repository;
        let looks = unknown.into_iter().filter_map(|tag| {
            // Of longer digests a tag holds only the beginning.
            let digest: Digest = format!("sha256:{}", tag.as_str().strip_prefix("sha256-")?)
                .parse()
                .ok()?;
            Some(async move {
                (
                    tag,
                    self.observer
                        .store
                        .resolve(repository, &digest.into())
                        .await,
                )
            })
        });
        let found: Vec<_> = stream::iter(looks.collect::<Vec<_>>())
            .buffer_unordered(LOOKS)
            .collect()
            .await;
        seen.gone = found
            .into_iter()
            .filter(|(_, found)| matches!(found, Ok(None)))
            .map(|(tag, _)| tag)
            .collect();
    }

    /// Finds out how old the images of a base are, where that matters. Images that are made of the
    /// same are looked at once.
    pub(super) async fn date(&self, seen: &mut Seen, clues: BTreeMap<Tag, Clue>) {
        let undecided = undecided(seen, self.protections, Ages::Open, self.observer.now);
        let clues: BTreeMap<Tag, Clue> = clues
            .into_iter()
            .filter(|(tag, _)| undecided.contains(tag))
            .collect();
        let distinct: BTreeMap<&Digest, &Clue> = clues
            .values()
            .filter_map(|clue| Some((clue.digest()?, clue)))
            .collect();
        let repository = &seen.repository;
        let looks = distinct.into_iter().map(|(digest, clue)| async move {
            // What cannot be read has no age, which keeps it as far as its age goes.
            let created =
                tree::created(self.observer.store, repository, clue, self.observer.memory).await;
            (digest, created.ok().flatten())
        });
        let told: BTreeMap<&Digest, Option<DateTime<Utc>>> =
            stream::iter(looks.collect::<Vec<_>>())
                .buffer_unordered(LOOKS)
                .collect()
                .await;
        for tag in seen
            .listing
            .iter_mut()
            .flatten()
            .filter(|tag| tag.date.is_none())
        {
            tag.date = match clues.get(&tag.tag) {
                Some(Clue::Told(created)) => Some(*created),
                Some(clue) => clue
                    .digest()
                    .and_then(|digest| told.get(digest).copied().flatten()),
                None => None,
            };
        }
    }
}

/// Returns what the configuration wants of each target, with warnings.
pub(super) fn wanted(
    config: &Config,
    targets: &[Target],
    identities: &[Result<Identity, Trouble>],
    selections: &[Selected],
) -> (Vec<Wanted>, Vec<String>) {
    let mut warnings = Vec::new();
    let mut all = Vec::with_capacity(targets.len());
    let is_at = |repository: &Repository, at: &Repository| config.place(repository) == *at;
    for target in targets {
        let mut wanted = Wanted::default();
        let at = config.place(&target.repository);
        for (position, image) in config
            .build
            .iter()
            .flat_map(|build| build.images.iter().enumerate())
        {
            let identity = identities.get(position);
            if target.images.contains(&position) {
                wanted.aliases.extend(image.aliases.iter().cloned());
                match identity {
                    Some(Ok(identity)) => drop(wanted.built.insert(identity.tag.clone())),
                    Some(Err(trouble)) => wanted.build_unknown = Some(trouble.cause.clone()),
                    None => wanted.build_unknown = Some("the image was not looked at".to_owned()),
                }
            }
            match identity {
                Some(Ok(identity)) if is_at(&identity.base, &at) => {
                    wanted.used.insert(identity.base_tag.clone());
                }
                Some(Err(trouble)) if is_at(&image.mirror_image, &at) => match &image.mirror_tag {
                    Some(tag) => drop(wanted.used.insert(tag.clone())),
                    None => wanted.build_unknown = Some(trouble.cause.clone()),
                },
                _ => {}
            }
        }
        for (entry, selected) in selections
            .iter()
            .filter(|(position, _)| target.entries.contains(position))
        {
            match selected {
                Ok(tags) => wanted.selected.extend(tags.iter().cloned()),
                Err(cause) => {
                    warnings.push(format!(
                        "all tags of {} are kept: sync.entries[{entry}]: {cause}",
                        target.repository
                    ));
                    wanted.upstream_unknown = Some(cause.clone());
                }
            }
        }
        if let Some(cause) = &wanted.build_unknown {
            warnings.push(format!(
                "all tags of {} are kept: {cause}",
                target.repository
            ));
        }
        all.push(wanted);
    }
    (all, warnings)
}

async fn identities(config: &Config, observer: Observer<'_>) -> Vec<Result<Identity, Trouble>> {
    match &config.build {
        Some(build) => {
            identify(
                config,
                build,
                &(0..build.images.len()).collect(),
                observer.store,
                observer.progress,
            )
            .await
        }
        None => Vec::new(),
    }
}

/// The tags that the entry at a position selects, or why that cannot be told.
pub(super) type Selected = (usize, Result<BTreeSet<Tag>, String>);

/// Returns the tags that the entries at `positions` select.
pub(super) async fn selections(
    config: &Config,
    positions: BTreeSet<usize>,
    observer: Observer<'_>,
) -> Vec<Selected> {
    let Some(sync) = &config.sync else {
        return Vec::new();
    };
    let entries: Vec<&Entry> = positions
        .iter()
        .map(|&position| &sync.entries[position])
        .collect();
    let selected =
        sync::selections(&entries, observer.store, observer.progress, observer.now).await;
    positions
        .into_iter()
        .zip(
            selected
                .into_iter()
                .map(|tags| tags.map_err(|trouble| trouble.cause)),
        )
        .collect()
}

/// Returns the repositories beside the bases that the configuration does not name, with warnings.
async fn orphans(config: &Config, observer: Observer<'_>) -> (Vec<Repository>, Vec<String>) {
    let (mut orphans, mut warnings) = (BTreeSet::new(), Vec::new());
    let Some(build) = &config.build else {
        return (Vec::new(), warnings);
    };
    let targets = targets(config);
    let mut known: BTreeSet<Repository> = targets.iter().flat_map(Target::archives).collect();
    known.extend(targets.iter().map(|target| target.repository.clone()));
    known.extend(build.images.iter().map(|image| image.mirror_image.clone()));
    let known: BTreeSet<Repository> = known
        .iter()
        .map(|repository| config.place(repository))
        .collect();
    let mut asked: BTreeSet<String> = BTreeSet::new();
    for image in &build.images {
        let repository = &image.repository;
        let whole = repository.to_string();
        let parent = whole
            .rsplit_once('/')
            .map_or_else(String::new, |(parent, _)| parent.to_owned());
        if !asked.insert(parent) {
            continue;
        }
        observer.progress.event(Event::Observing {
            what: &format!("repositories beside {repository}"),
        });
        match observer.store.repositories_beside(repository).await {
            Ok(found) => orphans.extend(
                found
                    .into_iter()
                    .flatten()
                    .filter(|found| !known.contains(&config.place(found))),
            ),
            Err(error) => warnings.push(format!(
                "whether there are orphans is not known: {}",
                chain(&error)
            )),
        }
    }
    (orphans.into_iter().collect(), warnings)
}

pub(super) fn trouble(error: &PlaceError) -> Trouble {
    Trouble::of(error, error.hint()).shared(error.of_place())
}
