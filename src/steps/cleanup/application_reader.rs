//! Finds the application repositories that match `retention.repositories`.

use std::collections::BTreeSet;

use super::observer::Observer;
use super::targets::{CleanupScope, CleanupTarget};
use super::world::World;
use crate::config::{Config, RepositoryPattern};
use crate::error::chain;
use crate::model::Repository;
use crate::progress::Event;

/// Characters with a meaning in a pattern.
const WILDCARDS: [char; 6] = ['*', '?', '[', '{', '!', '\\'];

/// Application repositories that were found.
#[derive(Default)]
pub(super) struct FoundApplications {
    pub(super) targets: Vec<CleanupTarget>,
    pub(super) warnings: Vec<String>,
}

/// Returns the application repositories in scope: those that are listed, and those that records
/// name.
pub(super) async fn applications(
    config: &Config,
    scope: &CleanupScope,
    world: &World,
    observer: Observer<'_>,
) -> FoundApplications {
    let applications = &world.applications;
    let mut result = FoundApplications::default();
    let Some(rules) = config
        .retention
        .as_ref()
        .filter(|_| !applications.is_empty())
    else {
        return result;
    };
    let mut found: BTreeSet<Repository> = world
        .all_records()
        .map(|record| record.image.repository.clone())
        .collect();
    let mut listed = BTreeSet::new();
    for pattern in applications.patterns() {
        match parent(pattern) {
            PatternStart::Complete(repository) => drop(found.insert(repository)),
            PatternStart::Below(sibling) if listed.insert(sibling.to_string()) => {
                observer.progress.event(Event::Observing {
                    what: &format!("repositories like {}", pattern.text),
                });
                let store = observer.stores.of(&sibling);
                let unlisted = match store.sibling_repositories(&sibling).await {
                    Ok(Some(repositories)) => {
                        found.extend(repositories);
                        continue;
                    }
                    Ok(None) => "the registry does not list its repositories".to_owned(),
                    Err(error) => format!("the repositories cannot be listed: {}", chain(&error)),
                };
                result.warnings.push(format!(
                    "{}: {unlisted}; only repositories that build records name are cleaned up",
                    pattern.text
                ));
            }
            PatternStart::Below(_) => {}
            PatternStart::Unknown => result.warnings.push(format!(
                "{}: the pattern names no host; only repositories that build records name are \
                 cleaned up",
                pattern.text
            )),
        }
    }
    // Records and listings may spell a repository differently.
    let mut known = BTreeSet::new();
    let repositories = found.into_iter().filter(|repository| {
        let canonical = config.canonical(repository);
        applications.contains(&canonical) && known.insert(canonical)
    });
    for (position, repository) in repositories.enumerate() {
        let mut names = vec![repository.to_string()];
        names.extend(applications.patterns_of(&config.canonical(&repository)));
        if scope.shard.is_none_or(|shard| shard.contains(position)) && scope.only.selects(&names) {
            result.targets.push(CleanupTarget {
                repository,
                images: Vec::new(),
                entries: Vec::new(),
                is_application: true,
                rules: vec![rules.clone()],
            });
        }
    }
    result
}

/// The part of a pattern before its first wildcard.
enum PatternStart {
    /// The pattern has no wildcard.
    Complete(Repository),
    /// A name in the directory that has all matches.
    Below(Repository),
    /// The host has a wildcard.
    Unknown,
}

fn parent(pattern: &RepositoryPattern) -> PatternStart {
    let text = &pattern.text;
    let Some(position) = text.find(WILDCARDS) else {
        return text
            .parse()
            .map_or(PatternStart::Unknown, PatternStart::Complete);
    };
    text[..position]
        .rsplit_once('/')
        .and_then(|(parent, _)| format!("{parent}/any").parse().ok())
        .map_or(PatternStart::Unknown, PatternStart::Below)
}
