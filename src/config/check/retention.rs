//! Checking `retention`: the general rules and what entries and images change of them.

use std::collections::HashMap;

use super::reader::{At, Context, Fields, Located, default_of};
use crate::config::place::Addresses;
use crate::config::table::{ARCHIVE, RETENTION};
use crate::config::{Archive, BasePath, CondemnedBy, Retention, TagExclusion};
use crate::model::Repository;

/// What a section says, and nothing on what it leaves out.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    keep_last: Option<usize>,
    max_age_days: Option<u32>,
    condemned_by: Option<CondemnedBy>,
    exclude_tags: Option<Vec<TagExclusion>>,
    min_keep: Option<usize>,
    max_delete_percent: Option<u8>,
    require_records: Option<bool>,
    archive_enabled: Option<bool>,
    archive_registry: Option<Located<BasePath>>,
    archive_keep_days: Option<u32>,
}

impl Rules {
    /// Returns what the section below `name` says; `None` when it is left out.
    pub(super) fn read(parent: &Fields<'_>, name: &str) -> Option<Rules> {
        let fields = parent.section(name).filter(|_| parent.has(name))?;
        let archive = fields.section_or_empty("archive", &ARCHIVE);
        Some(Rules {
            keep_last: fields.optional("keep_last").map(|value| value.value),
            max_age_days: fields.optional("max_age_days").map(|value| value.value),
            condemned_by: fields.optional("match").map(|value| value.value),
            exclude_tags: fields
                .list("exclude_tags")
                .map(|tags| tags.into_iter().map(|tag| tag.value).collect()),
            min_keep: fields.optional("min_keep").map(|value| value.value),
            max_delete_percent: fields
                .optional("max_delete_percent")
                .map(|value| value.value),
            require_records: fields.optional("require_records").map(|value| value.value),
            archive_enabled: archive.optional("enabled").map(|value| value.value),
            archive_registry: archive.optional("registry"),
            archive_keep_days: archive.optional("keep_days").map(|value| value.value),
        })
    }

    fn over(self, general: &Rules) -> Rules {
        Rules {
            keep_last: self.keep_last.or(general.keep_last),
            max_age_days: self.max_age_days.or(general.max_age_days),
            condemned_by: self.condemned_by.or(general.condemned_by),
            exclude_tags: self.exclude_tags.or_else(|| general.exclude_tags.clone()),
            min_keep: self.min_keep.or(general.min_keep),
            max_delete_percent: self.max_delete_percent.or(general.max_delete_percent),
            require_records: self.require_records.or(general.require_records),
            archive_enabled: self.archive_enabled.or(general.archive_enabled),
            archive_registry: self
                .archive_registry
                .or_else(|| general.archive_registry.clone()),
            archive_keep_days: self.archive_keep_days.or(general.archive_keep_days),
        }
    }

    fn filled(self, context: &Context<'_>, at: &At) -> Option<Retention> {
        let archive = if self
            .archive_enabled
            .or_else(|| default_of(&ARCHIVE, "enabled"))?
        {
            let Some(registry) = &self.archive_registry else {
                context.error(
                    at,
                    "the archive is enabled and has no `registry`",
                    "add `archive.registry:` with a base path",
                );
                return None;
            };
            let keep_days = self
                .archive_keep_days
                .or_else(|| default_of(&ARCHIVE, "keep_days"))?;
            Some(Archive {
                registry: registry.value.clone(),
                keep_days,
            })
        } else {
            None
        };
        Some(Retention {
            keep_last: self
                .keep_last
                .or_else(|| default_of(&RETENTION, "keep_last"))?,
            max_age_days: self.max_age_days,
            condemned_by: self
                .condemned_by
                .or_else(|| default_of(&RETENTION, "match"))?,
            exclude_tags: self.exclude_tags.unwrap_or_default(),
            min_keep: self
                .min_keep
                .or_else(|| default_of(&RETENTION, "min_keep"))?,
            max_delete_percent: self
                .max_delete_percent
                .or_else(|| default_of(&RETENTION, "max_delete_percent"))?,
            require_records: self
                .require_records
                .or_else(|| default_of(&RETENTION, "require_records"))?,
            archive,
        })
    }
}

/// The general rules, and where archives were asked for.
pub(super) struct General {
    rules: Option<Rules>,
    pub(super) retention: Option<Retention>,
}

/// Returns the general rules.
pub(super) fn general(root: &Fields<'_>) -> General {
    let rules = Rules::read(root, "retention");
    let retention = rules
        .clone()
        .and_then(|rules| rules.filled(root.context, &root.place("retention")));
    General { rules, retention }
}

/// What holds for one mirror or image, and where its archive is named.
#[derive(Clone, Default)]
pub(super) struct Applied {
    pub(super) retention: Option<Retention>,
    archive: Option<At>,
}

impl General {
    /// Returns the rules for a mirror or an image: the general ones with what `fields` changes of
    /// them.
    pub(super) fn applied(&self, fields: &Fields<'_>) -> Applied {
        let own = Rules::read(fields, "retention");
        let at = |rules: &Rules| {
            rules
                .archive_registry
                .as_ref()
                .map(|registry| registry.at.clone())
        };
        match (own, &self.rules) {
            (Some(own), general) => {
                let rules = own.over(general.as_ref().unwrap_or(&Rules::default()));
                Applied {
                    archive: at(&rules),
                    retention: rules.filled(fields.context, &fields.place("retention")),
                }
            }
            (None, Some(general)) => Applied {
                archive: at(general),
                retention: self.retention.clone(),
            },
            (None, None) => Applied::default(),
        }
    }
}

/// Reports archives that would lie in a configured repository, where cleanup would take their tags
/// for the repository's own, and those that two repositories share, where the tags of one would
/// meet those of the other.
pub(super) fn check_archives<'a>(
    context: &Context<'_>,
    addresses: Addresses<'_>,
    kept: impl Iterator<Item = (&'a Repository, &'a Applied)>,
    configured: &[&Repository],
) {
    let mut reported: Vec<(At, Repository)> = Vec::new();
    let configured: Vec<(&Repository, Repository)> = configured
        .iter()
        .map(|repository| (*repository, addresses.place(repository)))
        .collect();
    let mut archived: HashMap<Repository, &Repository> = HashMap::new();
    for (repository, applied) in kept {
        let Some((archive, at)) = applied
            .retention
            .as_ref()
            .and_then(|rules| rules.archive.as_ref())
            .zip(applied.archive.as_ref())
        else {
            continue;
        };
        let below = match repository {
            Repository::Remote { path, .. } => archive.registry.join(path.as_str()).ok(),
            Repository::Layout { .. } => None,
        };
        let below = below.map(|place| place.resolved_below(context.directory));
        if let Some(place) = &below {
            let first = *archived.entry(addresses.place(place)).or_insert(repository);
            if addresses.place(first) != addresses.place(repository) {
                let problem =
                    format!("`{first}` and `{repository}` would share the archive `{place}`");
                context.error(
                    at,
                    problem,
                    "give one of them a `retention.archive.registry` of its own",
                );
            }
        }
        let itself = archive.registry.to_string().parse().ok();
        for place in [below, itself]
            .into_iter()
            .flatten()
            .map(|place: Repository| place.resolved_below(context.directory))
        {
            let place = addresses.place(&place);
            let Some((named, _)) = configured.iter().find(|(_, known)| *known == place) else {
                continue;
            };
            let seen = (at.clone(), place);
            if !reported.contains(&seen) {
                context.error(
                    at,
                    format!("the archive would lie in the configured repository `{named}`"),
                    "choose another base path",
                );
                reported.push(seen);
            }
        }
    }
}
