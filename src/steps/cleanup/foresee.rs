//! What a clean-up would delete now, by as few requests as it takes: only what names, rules and
//! records do not keep already is looked at. For who shows it; a clean-up itself looks at
//! everything.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};

use super::judge::{Ages, Protections, doubtful, undecided};
use super::observe::{
    LOOKS, Look, Observer, REPOSITORIES, RecordsSeen, Role, Seen, Selected, TagImage, Unseen,
    World, all, selections, trouble, unseen, wanted,
};
use super::plan::{Policy, guard, plan};
use super::targets;
use super::tree::Clue;
use crate::config::Config;
use crate::model::{Repository, Tag};
use crate::packages::Reading;
use crate::registry::TagSeen;
use crate::steps::Trouble;
use crate::steps::build::Identity;

/// What is known before anything is asked.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The tags of each repository, attachments included.
    pub listings: &'a BTreeMap<Repository, Vec<TagSeen>>,
    /// What each base is called now, by the positions of the images.
    pub identities: &'a [Result<Identity, Trouble>],
    /// `None`: the configuration does not say where records are.
    pub records: Option<&'a Reading>,
}

/// What a clean-up would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreseen {
    pub condemned: BTreeSet<(Repository, Tag)>,
    pub warnings: Vec<String>,
}

/// Returns the tags that a clean-up would delete, as far as can be told without deleting: a
/// registry that does not delete tags by their names may keep more of them. None without
/// `retention`. What cannot be seen keeps tags, as it does in a clean-up.
pub async fn foresee(config: &Config, known: Known<'_>, observer: Observer<'_>) -> Foreseen {
    let records = known.records.map_or(RecordsSeen::NotConfigured, |reading| {
        RecordsSeen::Read(reading.clone())
    });
    let mut world = World::new(config, records.resolved(config));
    if config.retention.is_none() || guard(&world).is_some() {
        return Foreseen::default();
    }
    let records = world.records.clone();
    let protections = Protections::of(all(&records));
    let targets = targets(config);
    let seen = |selections: &[Selected]| {
        let (wanted, warnings) = wanted(config, &targets, known.identities, selections);
        let seen = targets.iter().zip(wanted).map(|(target, wanted)| {
            let role = if target.images.is_empty() {
                Role::Mirror
            } else {
                Role::Base
            };
            let listing = known
                .listings
                .get(&target.repository)
                .map_or(&[][..], Vec::as_slice);
            Seen {
                rules: target.rules.clone(),
                wanted,
                listing: Ok(listing.iter().map(|tag| unread(role, tag)).collect()),
                ..unseen(config, target.repository.clone(), role)
            }
        });
        (seen.collect::<Vec<_>>(), warnings)
    };
    // What upstreams have matters only where something may go.
    let may_go = |seen: &Seen| !undecided(seen, &protections, Ages::Open, observer.now).is_empty();
    let (named, _) = seen(&[]);
    let of_matter = targets.iter().zip(&named).filter(|(_, seen)| may_go(seen));
    let positions: BTreeSet<usize> = of_matter
        .flat_map(|(target, _)| target.entries.iter().copied())
        .collect();
    let (selected, warnings) = seen(&selections(config, positions, observer).await);
    world.warnings = warnings;
    let look = &Look {
        observer,
        protections: &protections,
    };
    let looks = selected
        .into_iter()
        .map(|seen| async move { look.at_undecided(seen).await });
    world.repositories = stream::iter(looks.collect::<Vec<_>>())
        .buffered(REPOSITORIES)
        .collect()
        .await;
    let policy = Policy {
        now: observer.now,
        max_delete_percent: None,
        is_forced: false,
    };
    let plan = plan(&world, &policy);
    // Whoever shows them may know the place by any of its names.
    let names: BTreeMap<&Repository, BTreeSet<Repository>> = targets
        .iter()
        .map(|target| (&target.repository, target.repositories(config)))
        .collect();
    let named = |(repository, tag, _)| {
        names
            .get(repository)
            .into_iter()
            .flatten()
            .map(move |name| (name.clone(), Tag::clone(tag)))
    };
    let condemned = plan.condemned().flat_map(named).collect();
    Foreseen {
        condemned,
        warnings: plan.warnings,
    }
}

/// Returns a tag of which only the listing is known.
fn unread(role: Role, seen: &TagSeen) -> TagImage {
    // The age of a base is in its image.
    let date = seen.pushed_at.filter(|_| role == Role::Mirror);
    TagImage {
        tag: seen.tag.clone(),
        image: Err(Unseen::Unread(Trouble::new("it was not looked at"))),
        date,
    }
}

impl Look<'_> {
    /// Looks at the tags that may go, and at no other.
    async fn at_undecided(&self, mut seen: Seen) -> Seen {
        let now = self.observer.now;
        if undecided(&seen, self.protections, Ages::Open, now).is_empty() {
            return seen;
        }
        let repository = seen.repository.clone();
        let ages = match seen.role {
            Role::Base | Role::Archive { .. } => Ages::Open,
            Role::Mirror => {
                match self.observer.store.push_dates(&repository).await {
                    Ok(dates) => {
                        let dates: BTreeMap<Tag, _> = dates
                            .into_iter()
                            .flatten()
                            .map(|tag| (tag.tag, tag.pushed_at))
                            .collect();
                        for tag in seen
                            .listing
                            .iter_mut()
                            .flatten()
                            .filter(|tag| tag.date.is_none())
                        {
                            tag.date = dates.get(&tag.tag).copied().flatten();
                        }
                    }
                    Err(error) => {
                        seen.trouble = Some(trouble(&error));
                        return seen;
                    }
                }
                Ages::Told
            }
        };
        let names: BTreeSet<Tag> = undecided(&seen, self.protections, ages, now)
            .into_iter()
            .cloned()
            .collect();
        let reads = names
            .into_iter()
            .map(|tag| self.read(&repository, tag, None));
        let read: Vec<(TagImage, Clue)> =
            stream::iter(reads).buffer_unordered(LOOKS).collect().await;
        let (mut images, mut clues) = (BTreeMap::new(), BTreeMap::new());
        for (tag, clue) in read {
            clues.insert(tag.tag.clone(), clue);
            images.insert(tag.tag, tag.image);
        }
        for tag in seen.listing.iter_mut().flatten() {
            if let Some(image) = images.remove(&tag.tag) {
                tag.image = image;
            }
        }
        let mut looked_at: BTreeSet<Tag> = clues.keys().cloned().collect();
        if seen.role == Role::Base {
            self.date(&mut seen, clues).await;
        }
        loop {
            let doubtful = doubtful(&seen, self.protections, &looked_at, now);
            if doubtful.is_empty() {
                return seen;
            }
            let absent = self.absent(&repository, &doubtful).await;
            for tag in seen
                .listing
                .iter_mut()
                .flatten()
                .filter(|tag| absent.contains(&tag.tag))
            {
                tag.image = Err(Unseen::Absent);
            }
            looked_at.extend(doubtful);
        }
    }

    /// Returns those of the tags that name nothing.
    async fn absent(&self, repository: &Repository, tags: &BTreeSet<Tag>) -> BTreeSet<Tag> {
        let looks = tags.iter().map(|tag| async move {
            (
                tag,
                self.observer
                    .store
                    .resolve(repository, &tag.clone().into())
                    .await,
            )
        });
        let found: Vec<_> = stream::iter(looks.collect::<Vec<_>>())
            .buffer_unordered(LOOKS)
            .collect()
            .await;
        found
            .into_iter()
            .filter(|(_, found)| matches!(found, Ok(None)))
            .map(|(tag, _)| tag.clone())
            .collect()
    }
}
