//! Spellings of tags at registries that store tags in lower case: a tag is also needed under its
//! other spelling.

use std::collections::BTreeSet;

use super::observer::Observer;
use super::protections::RecordProtections;
use super::world::{DesiredTags, ObservedRepository};
use crate::config::TagExclusion;
use crate::model::Tag;
use crate::registry::TagCase;

/// Reads how the store compares tags, if the answer matters for a listed tag, and adds the stored
/// spellings to the tags that the configuration needs.
///
/// If the answer cannot be read, tags are compared without case, which keeps more of them.
pub(super) async fn read_tag_case(
    observer: Observer<'_>,
    protections: &RecordProtections,
    repository: &mut ObservedRepository,
    listed: BTreeSet<Tag>,
) {
    if repository.tag_case.is_some()
        || listed.iter().any(Tag::has_upper_case)
        || !may_matter(repository, protections, &listed)
    {
        return;
    }
    let name = &repository.repository;
    let case = observer.stores.of(name).tag_case(name, &listed).await;
    let case = case.unwrap_or(TagCase::Insensitive);
    repository.tag_case = Some(case);
    if case == TagCase::Insensitive {
        add_stored_spellings(repository);
    }
}

/// Returns true if a listed tag is another spelling of a needed one.
fn may_matter(
    repository: &ObservedRepository,
    protections: &RecordProtections,
    listed: &BTreeSet<Tag>,
) -> bool {
    let desired = &repository.desired;
    let exclusions = || {
        repository
            .rules
            .iter()
            .flat_map(|rules| &rules.exclude_tags)
    };
    let excluded = exclusions().filter_map(|exclusion| match exclusion {
        TagExclusion::Exact(text) => text.parse::<Tag>().ok(),
        TagExclusion::Pattern(_) => None,
    });
    let needed = [
        &desired.built,
        &desired.aliases,
        &desired.used,
        &desired.selected,
    ];
    let is_listed = |tag: &Tag| tag.has_upper_case() && listed.contains(&tag.lower_case());
    needed.into_iter().flatten().any(is_listed)
        || excluded.into_iter().any(|tag: Tag| is_listed(&tag))
        || protections
            .tags_in(&repository.canonical)
            .into_iter()
            .any(is_listed)
        || exclusions().any(|exclusion| match exclusion {
            TagExclusion::Exact(_) => false,
            TagExclusion::Pattern(pattern) => pattern.without_case().is_some_and(|other| {
                listed.iter().any(|tag| {
                    other.regex.is_match(tag.as_str()) && !pattern.regex.is_match(tag.as_str())
                })
            }),
        })
}

fn add_stored_spellings(repository: &mut ObservedRepository) {
    let DesiredTags {
        built,
        aliases,
        used,
        selected,
        ..
    } = &mut repository.desired;
    for tags in [built, aliases, used, selected] {
        let stored: Vec<Tag> = tags.iter().map(Tag::lower_case).collect();
        tags.extend(stored);
    }
    for rules in &mut repository.rules {
        let stored = rules.exclude_tags.iter().filter_map(|exclusion| {
            Some(match exclusion {
                TagExclusion::Exact(text) => TagExclusion::Exact(text.to_ascii_lowercase()),
                TagExclusion::Pattern(pattern) => TagExclusion::Pattern(pattern.without_case()?),
            })
        });
        let stored: Vec<TagExclusion> = stored.collect();
        rules.exclude_tags.extend(stored);
    }
}
