//! What cleanup looks at: tags with what they name and their age, records, what upstreams and templates want. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};

use super::judge::{Protections, Verdict, judge, subject, undated};
use super::tree::{self, Clue, Tree};
use super::{Scope, Target, targets};
use crate::config::{Archive, Config, Retention, Selection, Sync};
use crate::error::chain;
use crate::model::{BuildRecord, Digest, Reference, Repository, Tag};
use crate::packages::Reading;
use crate::progress::{Event, Progress};
use crate::registry::{Deletions, ImageStore, PlaceError, TagSeen};
use crate::steps::Trouble;
use crate::steps::build::{Identity, identify};
use crate::steps::sync::{self, Naming, ObservedEntry, Places};
use crate::transfer::forgetful;

/// Repositories that are looked at at once.
const REPOSITORIES: usize = 4;

/// Manifests of a repository that are read at once; each host has its own limit besides.
const LOOKS: usize = 16;

/// What was seen.
#[derive(Clone, Debug)]
pub struct World {
    pub repositories: Vec<Seen>,
    pub records: RecordsSeen,
    pub has_bases: bool,
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

impl RecordsSeen {
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
    pub image: Result<Tree, Trouble>,
    /// Of a mirror when it was pushed, of a base when it was made; where that is told and of use.
    pub date: Option<DateTime<Utc>>,
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
        self.is_pinned_known && self.tags().all(|tag| tag.image.is_ok())
    }
}

/// Looks at everything that the repositories in scope need. What cannot be seen is part of the result, not a failure.
pub async fn observe(
    config: &Config,
    scope: &Scope,
    records: RecordsSeen,
    store: &Arc<dyn ImageStore>,
    progress: &dyn Progress,
    now: DateTime<Utc>,
) -> World {
    let targets = scope.targets(config);
    let wanted = wanted(config, &targets, store, progress, now);
    let ((wanted, mut warnings), (orphans, more)) = futures_util::join!(wanted, orphans(config, store, progress));
    warnings.extend(more);
    let protections = Protections::of(records.records());
    let (looks, archives) = looks(&targets, wanted);
    let protections = &protections;
    let looks =
        looks.into_iter().chain(archives).map(|seen| async move { Look { store: &**store, progress, protections, now }.at(seen).await });
    let repositories = stream::iter(looks.collect::<Vec<_>>()).buffered(REPOSITORIES).collect().await;
    let require_records = config.retention.as_ref().is_none_or(|rules| rules.require_records);
    let has_bases = config.build.as_ref().is_some_and(|build| !build.images.is_empty());
    World { repositories, records, has_bases, require_records, orphans, warnings }
}

/// Returns the repositories that are to be looked at, and their archives.
fn looks(targets: &[Target], wanted: Vec<Wanted>) -> (Vec<Seen>, Vec<Seen>) {
    let mut archives: BTreeMap<Repository, u32> = BTreeMap::new();
    let mut looks = Vec::with_capacity(targets.len());
    for (target, wanted) in targets.iter().zip(wanted) {
        let role = if target.images.is_empty() { Role::Mirror } else { Role::Base };
        let mut seen = Seen { rules: target.rules.clone(), wanted, ..unseen(target.repository.clone(), role) };
        for (archive, repository) in archives_of(target) {
            match repository {
                Ok(repository) => {
                    let keep_days = archives.entry(repository.clone()).or_default();
                    *keep_days = archive.keep_days.max(*keep_days);
                    seen.archive.get_or_insert(repository);
                }
                Err(cause) => {
                    seen.trouble = Some(Trouble::new(cause).hint("set `retention.archive.enabled: false` for it"));
                }
            }
        }
        looks.push(seen);
    }
    let archives = archives.into_iter().map(|(repository, keep_days)| unseen(repository, Role::Archive { keep_days }));
    (looks, archives.collect())
}

/// Returns where the tags of a repository are archived, by each of its rules.
pub(super) fn archives_of(target: &Target) -> impl Iterator<Item = (&Archive, Result<Repository, String>)> {
    target.rules.iter().filter_map(|rules| rules.archive.as_ref()).map(|archive| {
        let repository = match &target.repository {
            Repository::Remote { path, .. } => archive.registry.join(path.as_str()).map_err(|error| error.to_string()),
            Repository::Layout { .. } => Err("an OCI layout cannot be archived: it has no path on a registry".to_owned()),
        };
        (archive, repository)
    })
}

fn unseen(repository: Repository, role: Role) -> Seen {
    Seen {
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

struct Look<'a> {
    store: &'a dyn ImageStore,
    progress: &'a dyn Progress,
    protections: &'a Protections<'a>,
    now: DateTime<Utc>,
}

impl Look<'_> {
    async fn at(&self, mut seen: Seen) -> Seen {
        let repository = seen.repository.clone();
        self.progress.event(Event::Observing { what: &format!("tags of {repository}") });
        // The age of a base is in its images; an archive's is in its tags.
        let listing = if seen.role == Role::Mirror { self.store.dated_tags(&repository).await } else { self.store.tags(&repository).await };
        let listing = match listing {
            Ok(listing) => listing.unwrap_or_default(),
            Err(error) => {
                seen.listing = Err(trouble(&error));
                return seen;
            }
        };
        self.progress.event(Event::Observing { what: &format!("images of {repository}") });
        let reads = listing.into_iter().map(|tag| self.read(&repository, tag));
        let read: Vec<(TagImage, Clue)> = stream::iter(reads).buffered(LOOKS).collect().await;
        let (tags, clues): (Vec<TagImage>, Vec<(Tag, Clue)>) = read.into_iter().map(|(tag, clue)| (tag.clone(), (tag.tag, clue))).unzip();
        seen.listing = Ok(tags);
        self.look_at_pinned(&mut seen).await;
        self.look_for_subjects(&mut seen).await;
        if seen.role == Role::Base {
            self.date(&mut seen, clues.into_iter().collect()).await;
        }
        let goes = judge(&seen, self.protections, self.now).values().any(|verdict| matches!(verdict, Verdict::Condemn(_)));
        if goes && seen.trouble.is_none() {
            match self.store.deletions(&repository).await {
                Ok(deletions) => seen.deletions = deletions,
                Err(error) => seen.trouble = Some(trouble(&error)),
            }
        }
        seen
    }

    async fn read(&self, repository: &Repository, tag: TagSeen) -> (TagImage, Clue) {
        let read = tree::read(self.store, repository, &Reference::Tag(tag.tag.clone())).await;
        let (image, clue) = match read {
            Ok(Some((tree, clue))) => (Ok(tree), clue),
            Ok(None) => (Err(Trouble::new("it is listed, and not there")), Clue::Nowhere),
            Err(error) => (Err(trouble(&error)), Clue::Nowhere),
        };
        (TagImage { tag: tag.tag, image, date: tag.pushed_at }, clue)
    }

    /// Looks at images that records name by digest and that no tag leads to.
    async fn look_at_pinned(&self, seen: &mut Seen) {
        let Some(named) = self.protections.digests_in.get(&seen.repository) else { return };
        let known: BTreeSet<&Digest> = seen.tags().flat_map(|tag| &tag.image).flat_map(|tree| tree.digests()).collect();
        let unknown: Vec<Digest> = named.iter().filter(|digest| !known.contains(*digest)).map(|digest| (*digest).clone()).collect();
        let repository = &seen.repository;
        let reads = unknown.into_iter().map(|digest| async move { tree::read(self.store, repository, &digest.into()).await });
        let read: Vec<_> = stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(LOOKS).collect().await;
        for result in read {
            match result {
                Ok(found) => seen.pinned.extend(found.map(|(tree, _)| tree)),
                Err(_) => seen.is_pinned_known = false,
            }
        }
    }

    /// Looks whether what attachments are attached to is there, where no tag leads to it.
    async fn look_for_subjects(&self, seen: &mut Seen) {
        let known: BTreeSet<Tag> = seen.tags().flat_map(|tag| &tag.image).flat_map(|tree| tree.digests()).map(Tag::of_referrers).collect();
        let unknown: BTreeSet<Tag> = seen.tags().filter_map(|tag| subject(&tag.tag)).filter(|tag| !known.contains(tag)).collect();
        let repository = &seen.repository;
        let looks = unknown.into_iter().filter_map(|tag| {
            // Of longer digests a tag holds only the beginning.
            let digest: Digest = format!("sha256:{}", tag.as_str().strip_prefix("sha256-")?).parse().ok()?;
            Some(async move { (tag, self.store.resolve(repository, &digest.into()).await) })
        });
        let found: Vec<_> = stream::iter(looks.collect::<Vec<_>>()).buffer_unordered(LOOKS).collect().await;
        seen.gone = found.into_iter().filter(|(_, found)| matches!(found, Ok(None))).map(|(tag, _)| tag).collect();
    }

    /// Finds out how old the images of a base are, where that matters.
    async fn date(&self, seen: &mut Seen, mut clues: BTreeMap<Tag, Clue>) {
        let repository = &seen.repository;
        let undated: Vec<(Tag, Clue)> = undated(seen, self.protections).into_iter().filter_map(|tag| clues.remove_entry(tag)).collect();
        let looks = undated.into_iter().map(|(tag, clue)| async move {
            // What cannot be read has no age, which keeps it as far as its age goes.
            (tag, tree::created(self.store, repository, clue).await.ok().flatten())
        });
        let dates: BTreeMap<Tag, Option<DateTime<Utc>>> = stream::iter(looks.collect::<Vec<_>>()).buffer_unordered(LOOKS).collect().await;
        for tag in seen.listing.iter_mut().flatten() {
            tag.date = tag.date.or_else(|| dates.get(&tag.tag).copied().flatten());
        }
    }
}

/// Returns what the configuration wants of each target, with warnings.
async fn wanted(
    config: &Config,
    targets: &[Target],
    store: &Arc<dyn ImageStore>,
    progress: &dyn Progress,
    now: DateTime<Utc>,
) -> (Vec<Wanted>, Vec<String>) {
    let (identities, entries) =
        futures_util::join!(identities(config, &**store, progress), selected(config, targets, store, progress, now));
    let mut warnings = Vec::new();
    let mut all = Vec::with_capacity(targets.len());
    for target in targets {
        let mut wanted = Wanted::default();
        for (position, image) in config.build.iter().flat_map(|build| build.images.iter().enumerate()) {
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
                Some(Ok(identity)) if identity.base == target.repository => drop(wanted.used.insert(identity.base_tag.clone())),
                Some(Err(trouble)) if image.mirror_image == target.repository => match &image.mirror_tag {
                    Some(tag) => drop(wanted.used.insert(tag.clone())),
                    None => wanted.build_unknown = Some(trouble.cause.clone()),
                },
                _ => {}
            }
        }
        for (entry, selected) in entries.iter().filter(|(position, _)| target.entries.contains(position)) {
            match selected {
                Ok(tags) => wanted.selected.extend(tags.iter().cloned()),
                Err(cause) => {
                    warnings.push(format!("all tags of {} are kept: sync.entries[{entry}]: {cause}", target.repository));
                    wanted.upstream_unknown = Some(cause.clone());
                }
            }
        }
        if let Some(cause) = &wanted.build_unknown {
            warnings.push(format!("all tags of {} are kept: {cause}", target.repository));
        }
        all.push(wanted);
    }
    (all, warnings)
}

async fn identities(config: &Config, store: &dyn ImageStore, progress: &dyn Progress) -> Vec<Result<Identity, Trouble>> {
    match &config.build {
        Some(build) => identify(config, build, &(0..build.images.len()).collect(), store, progress).await,
        None => Vec::new(),
    }
}

/// Returns the tags that the entries which write to `targets` select, or why that cannot be told, by their positions.
async fn selected(
    config: &Config,
    targets: &[Target],
    store: &Arc<dyn ImageStore>,
    progress: &dyn Progress,
    now: DateTime<Utc>,
) -> Vec<(usize, Result<BTreeSet<Tag>, String>)> {
    let Some(sync) = &config.sync else { return Vec::new() };
    let mut selected = Vec::new();
    let (mut positions, mut entries) = (Vec::new(), Vec::new());
    for position in targets.iter().flat_map(|target| target.entries.iter().copied()) {
        let mut entry = sync.entries[position].clone();
        match &entry.selection {
            Selection::Fixed(tag) if !entry.os_normalize => selected.push((position, Ok(BTreeSet::from([tag.clone()])))),
            _ => {
                // Only what is selected is of use, not what would be copied.
                (entry.check_digest, entry.referrers) = (false, false);
                positions.push(position);
                entries.push(entry);
            }
        }
    }
    let selecting = Sync { entries, ..sync.clone() };
    let places = Places { source: store.clone(), target: store.clone(), memory: forgetful() };
    let world = sync::observe(&selecting, &sync::Scope::default(), &places, progress, now).await;
    selected.extend(world.entries.iter().map(|seen| (positions[seen.position], selection(seen))));
    selected
}

/// Returns the tags at the target that an entry selects, or why that cannot be told.
fn selection(seen: &ObservedEntry) -> Result<BTreeSet<Tag>, String> {
    let selected = seen.selected.as_ref().map_err(|rejected| rejected.trouble.cause.clone())?;
    if let Some(trouble) = seen.namings.values().find_map(|naming: &Result<Naming, Trouble>| naming.as_ref().err()) {
        return Err(trouble.cause.clone());
    }
    Ok(selected.tags.iter().map(|tag| seen.target_tag(tag).clone()).collect())
}

/// Returns the repositories beside the bases that the configuration does not name, with warnings.
async fn orphans(config: &Config, store: &Arc<dyn ImageStore>, progress: &dyn Progress) -> (Vec<Repository>, Vec<String>) {
    let (mut orphans, mut warnings) = (BTreeSet::new(), Vec::new());
    let Some(build) = &config.build else { return (Vec::new(), warnings) };
    let targets = targets(config);
    let mut known: BTreeSet<Repository> = targets.iter().flat_map(Target::archives).collect();
    known.extend(targets.iter().map(|target| target.repository.clone()));
    known.extend(build.images.iter().map(|image| image.mirror_image.clone()));
    let mut asked: BTreeSet<String> = BTreeSet::new();
    for image in &build.images {
        let repository = &image.repository;
        let whole = repository.to_string();
        let parent = whole.rsplit_once('/').map_or_else(String::new, |(parent, _)| parent.to_owned());
        if !asked.insert(parent) {
            continue;
        }
        progress.event(Event::Observing { what: &format!("repositories beside {repository}") });
        match store.repositories_beside(repository).await {
            Ok(found) => orphans.extend(found.into_iter().flatten().filter(|found| !known.contains(found))),
            Err(error) => warnings.push(format!("whether there are orphans is not known: {}", chain(&error))),
        }
    }
    (orphans.into_iter().collect(), warnings)
}

pub(super) fn trouble(error: &PlaceError) -> Trouble {
    Trouble { side: None, cause: chain(error), hint: error.hint() }
}
