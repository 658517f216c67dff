//! Check of `sync`.

use std::collections::HashMap;
use std::time::Duration;

use super::hooks::hooks;
use super::lifecycle::products;
use super::reader::{CheckContext, Fields, Located};
use super::retention::{AppliedRetention, GeneralRetention};
use crate::config::table::{ENTRY_HOOKS, SYNC_HOOKS};
use crate::config::{PatternSelection, SyncConfig, SyncEntry, TagPattern, TagSelection};
use crate::model::env;
use crate::model::{Platform, Repository, Tag};

/// Keys that require `tag_regex`.
const PATTERN_KEYS: [&str; 5] = ["exclude_regex", "min_age", "keep_last", "sort", "min_tags"];

/// Maximum number of platforms in a list.
const MAX_PLATFORMS: usize = 64;

/// The section `sync`.
pub(super) struct CheckedSync {
    pub(super) sync: SyncConfig,
    /// Retention of each entry, in the order of the entries.
    pub(super) applied: Vec<AppliedRetention>,
}

/// The targets of the entries, including entries with errors.
#[derive(Default)]
pub(super) struct MirrorTargets {
    pub(super) targets: Vec<Located<Repository>>,
}

/// Reads the section and the targets of its entries. The section is `None` if it is not set or has
/// an error.
pub(super) fn sync(
    root: &Fields<'_>,
    general: &GeneralRetention,
) -> (Option<CheckedSync>, MirrorTargets) {
    let mut mirrors = MirrorTargets::default();
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
    fields.require("entries");
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
        sync: SyncConfig {
            parallelism,
            entries,
            post_sync,
        },
        applied,
    });
    (sync, mirrors)
}

/// Reports a fixed tag that another entry also writes.
fn check_written_once(
    context: &CheckContext<'_>,
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
                "another entry already writes `{}:{}`{first}",
                target.value, tag.value
            );
            context.error(
                &tag.at,
                message,
                "change the target or the tag of one of the entries",
            );
        }
    }
}

/// Reads the platforms of a section, or returns `None` if they are not set.
pub(super) fn platforms(fields: &Fields<'_>) -> Option<Vec<Platform>> {
    let given = fields.list::<Platform>("platforms")?;
    let context = fields.context;
    if given.len() > MAX_PLATFORMS {
        context.error(
            &fields.location("platforms"),
            format!("the list has more than {MAX_PLATFORMS} platforms"),
            "remove `platforms` to use the default",
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
            &fields.location("platforms"),
            "the list contains no platform",
            "remove `platforms` to use the default",
        );
    }
    Some(given.into_iter().map(|platform| platform.value).collect())
}

/// The parts of an entry that could be read.
#[derive(Default)]
struct PartialEntry {
    /// The complete entry; `None` if it has an error.
    entry: Option<SyncEntry>,
    applied: AppliedRetention,
    target: Option<Located<Repository>>,
    fixed: Option<Located<Tag>>,
}

fn entry(
    fields: &Fields<'_>,
    inherited: Option<&[Platform]>,
    general: &GeneralRetention,
) -> PartialEntry {
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
                "the source and the target are the same repository, `{}`",
                target.value
            ),
            "set a different target",
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
        Some(SyncEntry {
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
    PartialEntry {
        entry: build(),
        applied,
        target,
        fixed,
    }
}

/// Reads the keys that select tags.
fn selection(fields: &Fields<'_>, fixed: Option<&Located<Tag>>) -> Option<TagSelection> {
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
                &fields.location("tag_regex"),
                "`tag` and `tag_regex` are both set",
                "remove one of the two",
            );
            None
        }
        (false, false)
            if fields.is_set_or_misspelt("tag") || fields.is_set_or_misspelt("tag_regex") =>
        {
            None
        }
        (false, false) => {
            context.error(
                &fields.at,
                "neither `tag` nor `tag_regex` is set",
                "add `tag:` for one tag or `tag_regex:` for several tags",
            );
            None
        }
        (true, false) => {
            for key in PATTERN_KEYS.into_iter().filter(|key| fields.has(key)) {
                let hint = "remove it, or select tags with `tag_regex` instead of `tag`";
                context.error(
                    &fields.location(key),
                    format!("`{key}` has no effect with `tag`"),
                    hint,
                );
            }
            Some(TagSelection::Fixed(fixed?.value.clone()))
        }
        (false, true) => Some(TagSelection::Pattern(Box::new(PatternSelection {
            tag_regex: tag_regex?.value,
            exclude_regex: exclude_regex.map(|pattern| pattern.value),
            min_age: min_age.filter(|age| !age.is_zero()),
            sort: sort?,
            keep_last: keep_last.map(|number| number.value),
            min_tags: min_tags?,
        }))),
    }
}
