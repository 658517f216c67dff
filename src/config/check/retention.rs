//! Check of `retention`: the general rules and the overrides of entries and images.

use std::collections::HashMap;

use super::keepers;
use super::reader::{CheckContext, Fields, KeyLocation, Located, default_of};
use crate::config::canonical::HostAddresses;
use crate::config::table::{ARCHIVE, RETENTION};
use crate::config::{
    ArchiveConfig, BasePath, GraceMode, KeeperConfig, RetentionConfig, RetentionGroup,
    RetentionMatch, TagExclusion,
};
use crate::model::Repository;

/// A `retention` section without defaults: keys that are not set are `None`.
#[derive(Clone, Debug, Default)]
pub(super) struct PartialRetention {
    keep_last: Option<usize>,
    per: Option<RetentionGroup>,
    max_age_days: Option<u32>,
    match_mode: Option<RetentionMatch>,
    exclude_tags: Option<Vec<TagExclusion>>,
    min_keep: Option<usize>,
    max_delete_percent: Option<u8>,
    require_records: Option<bool>,
    /// `None` in the rules of an image or entry.
    keepers: Option<KeeperConfig>,
    grace_days: Option<u32>,
    grace: Option<GraceMode>,
    archive_enabled: Option<bool>,
    archive_registry: Option<Located<BasePath>>,
    archive_keep_days: Option<u32>,
}

impl PartialRetention {
    /// Reads the section `name`, or returns `None` if it is not set.
    pub(super) fn read(parent: &Fields<'_>, name: &str) -> Option<PartialRetention> {
        let fields = parent.section(name).filter(|_| parent.has(name))?;
        let archive = fields.section_or_empty("archive", &ARCHIVE);
        Some(PartialRetention {
            keep_last: fields.optional("keep_last").map(|value| value.value),
            per: fields.optional("per").map(|value| value.value),
            max_age_days: fields.optional("max_age_days").map(|value| value.value),
            match_mode: fields.optional("match").map(|value| value.value),
            exclude_tags: fields
                .list("exclude_tags")
                .map(|tags| tags.into_iter().map(|tag| tag.value).collect()),
            min_keep: fields.optional("min_keep").map(|value| value.value),
            max_delete_percent: fields
                .optional("max_delete_percent")
                .map(|value| value.value),
            require_records: fields.optional("require_records").map(|value| value.value),
            keepers: if parent.at.path.is_empty() {
                Some(keepers::read(&fields))
            } else {
                keepers::reject(&fields);
                None
            },
            grace_days: fields.optional("grace_days").map(|value| value.value),
            grace: fields.optional("grace").map(|value| value.value),
            archive_enabled: archive.optional("enabled").map(|value| value.value),
            archive_registry: archive_registry(fields.context, &archive),
            archive_keep_days: archive.optional("keep_days").map(|value| value.value),
        })
    }

    /// Returns these rules, with keys that are not set taken from `general`.
    fn or(self, general: &PartialRetention) -> PartialRetention {
        PartialRetention {
            keep_last: self.keep_last.or(general.keep_last),
            per: self.per.or(general.per),
            max_age_days: self.max_age_days.or(general.max_age_days),
            match_mode: self.match_mode.or(general.match_mode),
            exclude_tags: self.exclude_tags.or_else(|| general.exclude_tags.clone()),
            min_keep: self.min_keep.or(general.min_keep),
            max_delete_percent: self.max_delete_percent.or(general.max_delete_percent),
            require_records: self.require_records.or(general.require_records),
            keepers: self.keepers,
            grace_days: self.grace_days.or(general.grace_days),
            grace: self.grace.or(general.grace),
            archive_enabled: self.archive_enabled.or(general.archive_enabled),
            archive_registry: self
                .archive_registry
                .or_else(|| general.archive_registry.clone()),
            archive_keep_days: self.archive_keep_days.or(general.archive_keep_days),
        }
    }

    /// Returns the rules with defaults for keys that are not set.
    fn with_defaults(
        self,
        context: &CheckContext<'_>,
        at: &KeyLocation,
    ) -> Option<RetentionConfig> {
        let archive = if self
            .archive_enabled
            .or_else(|| default_of(&ARCHIVE, "enabled"))?
        {
            let Some(registry) = &self.archive_registry else {
                context.error(
                    at,
                    "the archive is enabled but has no `registry`",
                    "add `archive.registry:` with a base path",
                );
                return None;
            };
            let keep_days = self
                .archive_keep_days
                .or_else(|| default_of(&ARCHIVE, "keep_days"))?;
            Some(ArchiveConfig {
                registry: registry.value.clone(),
                keep_days,
            })
        } else {
            None
        };
        Some(RetentionConfig {
            keep_last: self
                .keep_last
                .or_else(|| default_of(&RETENTION, "keep_last"))?,
            per: self.per.or_else(|| default_of(&RETENTION, "per"))?,
            max_age_days: self.max_age_days,
            match_mode: self
                .match_mode
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
            keepers: self.keepers,
            grace_days: self
                .grace_days
                .or_else(|| default_of(&RETENTION, "grace_days"))?,
            grace: self.grace.or_else(|| default_of(&RETENTION, "grace"))?,
            archive,
        })
    }
}

/// The general rules, without and with defaults.
pub(super) struct GeneralRetention {
    rules: Option<PartialRetention>,
    pub(super) retention: Option<RetentionConfig>,
}

/// Reads the general rules.
pub(super) fn general(root: &Fields<'_>) -> GeneralRetention {
    let rules = PartialRetention::read(root, "retention");
    let retention = rules
        .clone()
        .and_then(|rules| rules.with_defaults(root.context, &root.location("retention")));
    GeneralRetention { rules, retention }
}

/// The rules of one mirror or image.
#[derive(Clone, Default)]
pub(super) struct AppliedRetention {
    pub(super) retention: Option<RetentionConfig>,
    /// Location of the key `archive.registry` that applies.
    archive: Option<KeyLocation>,
}

impl GeneralRetention {
    /// Returns the rules of a mirror or image: the general rules with the overrides in `fields`.
    pub(super) fn applied(&self, fields: &Fields<'_>) -> AppliedRetention {
        let own = PartialRetention::read(fields, "retention");
        let at = |rules: &PartialRetention| {
            rules
                .archive_registry
                .as_ref()
                .map(|registry| registry.at.clone())
        };
        match (own, &self.rules) {
            (Some(own), general) => {
                let rules = own.or(general.as_ref().unwrap_or(&PartialRetention::default()));
                AppliedRetention {
                    archive: at(&rules),
                    retention: rules.with_defaults(fields.context, &fields.location("retention")),
                }
            }
            (None, Some(general)) => AppliedRetention {
                archive: at(general),
                retention: self.retention.clone().map(|rules| RetentionConfig {
                    keepers: None,
                    ..rules
                }),
            },
            (None, None) => AppliedRetention::default(),
        }
    }
}

/// Reads the base path of an archive.
fn archive_registry(context: &CheckContext<'_>, archive: &Fields<'_>) -> Option<Located<BasePath>> {
    let registry = archive.optional::<BasePath>("registry")?;
    // Any name will do: the archive must not be outside.
    if let Ok(repository) = registry.value.join("name") {
        let repository = repository.resolved_below(context.directory);
        context.check_layout(&repository, &registry.at);
    }
    Some(registry)
}

/// Reports archives that conflict with another repository.
///
/// An archive must not be in a configured repository, because cleanup would treat archived tags as
/// tags of that repository. Two repositories must not share an archive, because tags of one could
/// overwrite tags of the other.
pub(super) fn check_archives<'a>(
    context: &CheckContext<'_>,
    addresses: HostAddresses<'_>,
    repositories: impl Iterator<Item = (&'a Repository, &'a AppliedRetention)>,
    configured: &[&Repository],
) {
    let mut reported: Vec<(KeyLocation, Repository)> = Vec::new();
    let configured: Vec<(&Repository, Repository)> = configured
        .iter()
        .map(|repository| (*repository, addresses.canonical(repository)))
        .collect();
    let mut archived: HashMap<Repository, &Repository> = HashMap::new();
    for (repository, applied) in repositories {
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
        let below = below.map(|archive| archive.resolved_below(context.directory));
        if let Some(archive) = &below {
            let first = *archived
                .entry(addresses.canonical(archive))
                .or_insert(repository);
            if addresses.canonical(first) != addresses.canonical(repository) {
                let problem =
                    format!("`{first}` and `{repository}` would share the archive `{archive}`");
                context.error(
                    at,
                    problem,
                    "set a different `retention.archive.registry` for one of them",
                );
            }
        }
        let itself = archive.registry.to_string().parse().ok();
        for archive in [below, itself]
            .into_iter()
            .flatten()
            .map(|archive: Repository| archive.resolved_below(context.directory))
        {
            let archive = addresses.canonical(&archive);
            let Some((named, _)) = configured
                .iter()
                .find(|(_, canonical)| *canonical == archive)
            else {
                continue;
            };
            let finding = (at.clone(), archive);
            if !reported.contains(&finding) {
                context.error(
                    at,
                    format!("the archive would be in the configured repository `{named}`"),
                    "set a different base path",
                );
                reported.push(finding);
            }
        }
    }
}
