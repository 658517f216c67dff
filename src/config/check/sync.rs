//! Checking `sync`.

use std::collections::HashMap;
use std::time::Duration;

use super::hooks::hooks;
use super::lifecycle::products;
use super::reader::{Context, Fields, Located};
use super::retention::{Applied, General};
use crate::config::table::{ENTRY_HOOKS, SYNC_HOOKS};
use crate::config::{Entry, PatternSelection, Selection, Sync, TagPattern};
use crate::model::env;
use crate::model::{Platform, Repository, Tag};

/// Keys that only mean something when tags are selected by a pattern.
const FOR_PATTERNS: [&str; 5] = ["exclude_regex", "min_age", "keep_last", "sort", "min_tags"];

/// The most platforms that a list may name.
const MOST_PLATFORMS: usize = 64;

/// The section, and what else is known of its entries, in their order.
pub(super) struct CheckedSync {
    pub(super) sync: Sync,
    pub(super) applied: Vec<Applied>,
}

/// What of the entries other sections refer to, known even when something in them is wrong.
#[derive(Default)]
pub(super) struct Mirrors {
    pub(super) targets: Vec<Located<Repository>>,
}

/// Returns the section, `None` when it is left out or wrong, and the targets of its entries.
pub(super) fn sync(root: &Fields<'_>, general: &General) -> (Option<CheckedSync>, Mirrors) {
    let mut mirrors = Mirrors::default();
    if !root.has("sync") {
        return (None, mirrors);
    }
    let Some(mut fields) = root.section("sync") else {
        return (None, mirrors);
    };
    fields.override_from("parallelism", env::IMGLIFE_SYNC_PARALLELISM, false);
    let parallelism = fields.value("parallelism");
    let inherited = platforms(&fields);
    let post_sync =
        hooks(&fields.section_or_empty("hooks", &SYNC_HOOKS), "post_sync").unwrap_or_default();
    fields.demand("entries");
    let mut entries = Vec::new();
    let mut applied = Vec::new();
    let mut fixed: HashMap<(Repository, Tag), Option<usize>> = HashMap::new();
    for fields in fields.sections("entries").unwrap_or_default() {
        let read = entry(&fields, inherited.as_deref(), general);
        if let Some(target) = &read.target {
            mirrors.targets.push(target.clone());
            if let Some(tag) = &read.fixed {
                check_written_once(root.context, &mut fixed, target, tag);
            }
        }
        if let Some(entry) = read.entry {
            entries.push(entry);
            applied.push(read.applied);
        }
    }
    let sync = parallelism.map(|parallelism| CheckedSync {
        sync: Sync {
            parallelism,
            entries,
            post_sync,
        },
        applied,
    });
    (sync, mirrors)
}

fn check_written_once(
    context: &Context<'_>,
    fixed: &mut HashMap<(Repository, Tag), Option<usize>>,
    target: &Located<Repository>,
    tag: &Located<Tag>,
) {
    let line = tag.at.span.map(|span| span.line);
    match fixed.entry((target.value.clone(), tag.value.clone())) {
        std::collections::hash_map::Entry::Vacant(vacant) => {
            vacant.insert(line);
        }
        std::collections::hash_map::Entry::Occupied(first) => {
            let first = first
                .get()
                .map_or_else(String::new, |line| format!(" (line {line})"));
            let message = format!(
                "`{}:{}` is already written by another entry{first}",
                target.value, tag.value
            );
            context.error(
                &tag.at,
                message,
                "two entries may not write the same tag; change the target or the tag of one",
            );
        }
    }
}

/// Returns the platforms of a section, `None` when they are left out.
pub(super) fn platforms(fields: &Fields<'_>) -> Option<Vec<Platform>> {
    let given = fields.list::<Platform>("platforms")?;
    let context = fields.context;
    if given.len() > MOST_PLATFORMS {
        context.error(
            &fields.place("platforms"),
            format!("more than {MOST_PLATFORMS} platforms"),
            "leave `platforms` out to get the default",
        );
        return None;
    }
    for (index, platform) in given.iter().enumerate() {
        if given[..index]
            .iter()
            .any(|other| other.value.matches(&platform.value))
        {
            context.error(
                &platform.at,
                format!("the platform `{}` is listed twice", platform.value),
                "remove one of the two",
            );
        }
    }
    if given.is_empty() && !fields.has_items("platforms") {
        context.error(
            &fields.place("platforms"),
            "the list names no platform",
            "leave `platforms` out to get the default",
        );
    }
    Some(given.into_iter().map(|platform| platform.value).collect())
}

#[derive(Default)]
struct ReadEntry {
    entry: Option<Entry>,
    applied: Applied,
    target: Option<Located<Repository>>,
    fixed: Option<Located<Tag>>,
}

fn entry(fields: &Fields<'_>, inherited: Option<&[Platform]>, general: &General) -> ReadEntry {
    let context = fields.context;
    let source = fields
        .required::<Repository>("source")
        .map(|repository| context.resolve(&repository));
    let target = fields
        .required::<Repository>("target")
        .map(|repository| context.resolve(&repository));
    if let (Some(source), Some(target)) = (&source, &target)
        && source.value == target.value
    {
        context.error(
            &target.at,
            format!(
                "source and target are the same repository, `{}`",
                target.value
            ),
            "mirror it to another place",
        );
    }
    let fixed = fields.optional::<Tag>("tag");
    let selection = selection(fields, fixed.as_ref());
    let platforms = platforms(fields).or_else(|| inherited.map(<[Platform]>::to_vec));
    let check_digest = fields.value("check_digest");
    let keep_replaced = fields.value("keep_replaced");
    let platform_mode = fields.value("platform_mode");
    let referrers = fields.value("referrers");
    let os_normalize = fields.value("os_normalize");
    let lifecycle =
        products(fields, source.as_ref().map(|source| &source.value)).unwrap_or_default();
    let applied = general.applied(fields);
    let post_sync =
        hooks(&fields.section_or_empty("hooks", &ENTRY_HOOKS), "post_sync").unwrap_or_default();
    let build = || {
        Some(Entry {
            source: source?.value,
            target: target.clone()?.value,
            selection: selection?,
            check_digest: check_digest?,
            keep_replaced: keep_replaced?,
            platforms,
            platform_mode: platform_mode?,
            referrers: referrers?,
            os_normalize: os_normalize?,
            lifecycle,
            retention: applied.retention.clone(),
            post_sync,
        })
    };
    ReadEntry {
        entry: build(),
        applied,
        target,
        fixed,
    }
}

fn selection(fields: &Fields<'_>, fixed: Option<&Located<Tag>>) -> Option<Selection> {
    let context = fields.context;
    let tag_regex = fields.optional::<TagPattern>("tag_regex");
    let exclude_regex = fields.optional::<TagPattern>("exclude_regex");
    let min_age = fields.value::<Duration>("min_age");
    let keep_last = fields.optional::<usize>("keep_last");
    let sort = fields.value("sort");
    let min_tags = fields.value("min_tags");
    match (fields.has("tag"), fields.has("tag_regex")) {
        (true, true) => {
            context.error(
                &fields.place("tag_regex"),
                "`tag` and `tag_regex` are both given",
                "keep the one that says which tags are wanted",
            );
            None
        }
        (false, false) if fields.is_meant("tag") || fields.is_meant("tag_regex") => None,
        (false, false) => {
            context.error(
                &fields.at,
                "neither `tag` nor `tag_regex` is given",
                "add `tag:` for one tag or `tag_regex:` for many",
            );
            None
        }
        (true, false) => {
            for key in FOR_PATTERNS.into_iter().filter(|key| fields.has(key)) {
                let hint = "remove it, or select tags by `tag_regex` instead of `tag`";
                context.error(
                    &fields.place(key),
                    format!("`{key}` means nothing for one fixed tag"),
                    hint,
                );
            }
            Some(Selection::Fixed(fixed?.value.clone()))
        }
        (false, true) => Some(Selection::Pattern(Box::new(PatternSelection {
            tag_regex: tag_regex?.value,
            exclude_regex: exclude_regex.map(|pattern| pattern.value),
            min_age: min_age.filter(|age| !age.is_zero()),
            sort: sort?,
            keep_last: keep_last.map(|number| number.value),
            min_tags: min_tags?,
        }))),
    }
}
