//! The inventory, which `check` reads in the pipelines of applications.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::observe::World;
use crate::config::Config;
use crate::model::inventory::{InventoryBase, InventoryTag, InventoryUser};
use crate::model::{ImageReference, Inventory, Repository, Tag, TagVersion};
use crate::steps::eol::EolAssessor;
use crate::steps::lineage::{Currency, Lineage};

/// Returns the inventory: all bases with the tags that are published or that records name, newest
/// first.
pub fn inventory(
    config: &Config,
    world: &World,
    assessor: &EolAssessor<'_>,
    time: DateTime<Utc>,
) -> Inventory {
    let lineage = Lineage::new(config, &world.identities);
    let mut users: BTreeMap<(&Repository, &Tag), Vec<InventoryUser>> = BTreeMap::new();
    for record in &world.records {
        let Some((repository, tag)) = record
            .base
            .as_ref()
            .and_then(|base| Some((&base.repository, base.tag.as_ref()?)))
        else {
            continue;
        };
        users
            .entry((repository, tag))
            .or_default()
            .push(InventoryUser {
                image: record.image.clone(),
                project: record.project.clone(),
            });
    }
    let mut bases: BTreeMap<&Repository, BTreeSet<&Tag>> = BTreeMap::new();
    let mut aliases: BTreeMap<(&Repository, &Tag), Vec<&Tag>> = BTreeMap::new();
    for (image, identity) in lineage.all_bases() {
        let tags = bases.entry(&image.repository).or_default();
        tags.extend(
            world
                .tags
                .iter()
                .filter_map(|tags| tags.get(&image.repository))
                .flatten(),
        );
        if let Ok(identity) = identity {
            aliases
                .entry((&image.repository, &identity.tag))
                .or_default()
                .extend(&image.aliases);
        }
    }
    for (repository, tag) in users.keys() {
        bases.entry(repository).and_modify(|tags| {
            tags.insert(tag);
        });
    }
    for ((repository, tag), aliases) in &aliases {
        if let Some(tags) = bases.get_mut(repository) {
            tags.retain(|other| other == tag || !aliases.contains(other));
        }
    }
    let base_tag = |repository: &Repository, tag: &Tag| {
        let referenced = lineage.image(repository, tag, assessor)?;
        let aliases = aliases
            .get(&(repository, tag))
            .into_iter()
            .flatten()
            .copied();
        let names = std::iter::once(tag).chain(aliases.clone());
        Some(InventoryTag {
            tag: tag.clone(),
            current: referenced.currency == Currency::Current,
            aliases: aliases.cloned().collect(),
            digest: world
                .digests
                .get(&ImageReference::tagged(repository.clone(), tag.clone()))
                .cloned(),
            eol: referenced.ends,
            users: names
                .filter_map(|name| users.get(&(repository, name)))
                .flatten()
                .cloned()
                .collect(),
        })
    };
    let bases = bases.into_iter().map(|(repository, tags)| {
        let mut tags: Vec<&Tag> = tags.into_iter().collect();
        tags.sort_by_cached_key(|tag| std::cmp::Reverse(TagVersion::of(tag.as_str())));
        InventoryBase {
            image: repository.clone(),
            tags: tags
                .into_iter()
                .filter_map(|tag| base_tag(repository, tag))
                .collect(),
        }
    });
    Inventory::new(time, assessor.calendar.warn_days, bases.collect())
}
