//! Application repositories (`retention.repositories`) and the build records that protect images in
//! them. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use super::targets::{CleanupTarget, targets};
use crate::config::{Config, RepositoryPattern};
use crate::model::{BuildRecord, ImageReference, Repository};

/// The application repositories of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Applications {
    patterns: Vec<RepositoryPattern>,
    /// Repositories that are bases, mirrors or archives, under their canonical names.
    others: BTreeSet<Repository>,
    /// Number of newest records of a project that protect their images.
    keep_last: usize,
}

impl Applications {
    /// Returns the application repositories of a configuration.
    pub fn of(config: &Config) -> Applications {
        let rules = config.retention.as_ref();
        let patterns = rules
            .and_then(|rules| rules.keepers.as_ref())
            .map(|keepers| keepers.repositories.clone())
            .unwrap_or_default();
        if patterns.is_empty() {
            return Applications::default();
        }
        let targets = targets(config);
        let archives = targets.iter().flat_map(CleanupTarget::archives);
        let configured = targets.iter().map(|target| target.repository.clone());
        Applications {
            patterns,
            others: archives
                .chain(configured)
                .map(|repository| config.canonical(&repository))
                .collect(),
            keep_last: rules.map_or(0, |rules| rules.keep_last),
        }
    }

    /// Returns true if the configuration names none.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Returns true if a repository, under its canonical name, is one.
    pub fn contains(&self, canonical: &Repository) -> bool {
        self.patterns
            .iter()
            .any(|pattern| pattern.matches(canonical))
            && !self.others.contains(canonical)
    }

    /// Returns the patterns that match a repository.
    pub(super) fn patterns_of(&self, canonical: &Repository) -> Vec<String> {
        self.patterns
            .iter()
            .filter(|pattern| pattern.matches(canonical))
            .map(|pattern| pattern.text.clone())
            .collect()
    }

    /// Returns the patterns, by which `--only` selects.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().map(|pattern| pattern.text.as_str())
    }

    pub(super) fn patterns(&self) -> &[RepositoryPattern] {
        &self.patterns
    }

    /// Returns which of the records protect their own images in application repositories.
    ///
    /// These are the newest `keep_last` of each project and repository, by the time of the build. A
    /// record of an image in another repository always counts, since its image has no other
    /// protection there.
    pub(super) fn protecting(&self, records: &[BuildRecord]) -> Vec<bool> {
        let mut protects = vec![true; records.len()];
        if self.is_empty() {
            return protects;
        }
        let mut own: HashMap<(&str, &Repository), Vec<usize>> = HashMap::new();
        for (position, record) in records.iter().enumerate() {
            let ImageReference { repository, .. } = &record.image;
            if self.contains(repository) {
                let key = (record.project.as_str(), repository);
                own.entry(key).or_default().push(position);
            }
        }
        for mut positions in own.into_values() {
            positions.sort_by_key(|&position| Reverse(records[position].built_at));
            let Some(last) = self.keep_last.checked_sub(1).map(|last| {
                positions
                    .get(last)
                    .map(|&position| records[position].built_at)
            }) else {
                positions
                    .iter()
                    .for_each(|&position| protects[position] = false);
                continue;
            };
            // Builds of the same time as the last one count as well: their order is unknown.
            let Some(last) = last else { continue };
            for position in positions {
                protects[position] = records[position].built_at >= last;
            }
        }
        protects
    }
}
