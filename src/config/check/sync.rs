//! Check of `sync`.

use std::collections::HashMap;
use std::time::Duration;

use super::hooks::hooks;
use super::lifecycle::products;
use super::reader::{CheckContext, Fields, Located};
use super::retention::{AppliedRetention, GeneralRetention};
use crate::config::table::{ENTRY_HOOKS, SYNC_HOOKS};
use crate::config::{
    CheckDigest, PatternSelection, PinnedTag, SyncConfig, SyncEntry, SyncGroup, TagPattern,
    TagSelection,
};
use crate::model::env;
use crate::model::{Platform, Repository, Tag, VersionRange};

/// Keys that require `tag_regex`.
const PATTERN_KEYS: [&str; 12] = [
    "tag_regex",
    "semver",
    "include",
    "exclude_regex",
    "min_age",
    "prereleases",
    "keep_last",
    "per",
    "keep_groups",
    "count",
    "sort",
    "min_tags",
];

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
    // Reports unknown keys; the others are already part of the entries.
    drop(fields.section("defaults"));
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
    for (one, several) in [("source", "sources"), ("target", "targets")] {
        check_short_form(fields, one, several);
    }
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
    let pinned = fields.optional::<PinnedTag>("tag");
    let digest = pinned
        .as_ref()
        .and_then(|pinned| pinned.value.digest.clone());
    let fixed = pinned.map(|pinned| Located {
        value: pinned.value.tag,
        at: pinned.at,
    });
    let selection = selection(fields, fixed.as_ref());
    let platforms = platforms(fields).or_else(|| inherited.map(<[Platform]>::to_vec));
    let check_digest = fields.value::<CheckDigest>("check_digest");
    let keep_replaced = fields.optional::<bool>("keep_replaced");
    let platform_mode = fields.value("platform_mode");
    let platforms_missing = fields.value("platforms_missing");
    let skip_unsupported = fields.value("skip_unsupported");
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
            digest,
            target_tag: None,
            check_digest: check_digest?,
            keep_replaced: keep_replaced
                .map_or(check_digest == Some(CheckDigest::Auto), |value| value.value),
            platforms,
            platform_mode: platform_mode?,
            platforms_missing: platforms_missing?,
            skip_unsupported: skip_unsupported?,
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

/// Reports a list of sources or targets that could not be written out as entries.
fn check_short_form(fields: &Fields<'_>, one: &str, several: &str) {
    let given = fields.list::<Repository>(several);
    if !fields.has(several) {
        return;
    }
    if fields.has(one) {
        fields.context.error(
            &fields.location(several),
            format!("`{one}` and `{several}` are both set"),
            "remove one of the two",
        );
    } else if given.is_some_and(|given| given.is_empty()) {
        fields.context.error(
            &fields.location(several),
            "the list is empty",
            format!("add a repository, or set `{one}`"),
        );
    }
}

/// Reads the keys that select tags.
fn selection(fields: &Fields<'_>, fixed: Option<&Located<Tag>>) -> Option<TagSelection> {
    let context = fields.context;
    let tag_regex = fields.optional::<TagPattern>("tag_regex");
    let semver = fields.optional::<VersionRange>("semver");
    let include = fields.list::<Tag>("include").unwrap_or_default();
    let exclude_regex = fields.optional::<TagPattern>("exclude_regex");
    let min_age = fields.value::<Duration>("min_age");
    let prereleases = fields.optional::<bool>("prereleases");
    let keep_last = fields.optional::<usize>("keep_last");
    let per = fields.optional::<SyncGroup>("per");
    let keep_groups = fields.optional::<usize>("keep_groups");
    let count = fields.value("count");
    let sort = fields.value("sort");
    let min_tags = fields.value("min_tags");
    if fields.has("tag") {
        for key in PATTERN_KEYS.into_iter().filter(|key| fields.has(key)) {
            if key == "tag_regex" {
                context.error(
                    &fields.location(key),
                    "`tag` and `tag_regex` are both set",
                    "remove one of the two",
                );
                continue;
            }
            let hint = "remove it, or select tags with `tag_regex` instead of `tag`";
            context.error(
                &fields.location(key),
                format!("`{key}` has no effect with `tag`"),
                hint,
            );
        }
        return (!fields.has("tag_regex"))
            .then(|| fixed.map(|fixed| TagSelection::Fixed(fixed.value.clone())))
            .flatten();
    }
    let has_rule = fields.has("tag_regex") || fields.has("semver");
    if !has_rule && !fields.has("include") {
        let is_misspelt = ["tag", "tag_regex", "semver", "include"]
            .into_iter()
            .any(|key| fields.is_set_or_misspelt(key));
        if !is_misspelt {
            context.error(
                &fields.at,
                "neither `tag` nor `tag_regex` is set",
                "add `tag:` for one tag or `tag_regex:` for several tags",
            );
        }
        return None;
    }
    check_groups(fields, has_rule);
    Some(TagSelection::Pattern(Box::new(PatternSelection {
        include: include.into_iter().map(|tag| tag.value).collect(),
        tag_regex: if fields.has("tag_regex") {
            Some(tag_regex?.value)
        } else {
            None
        },
        semver: if fields.has("semver") {
            Some(semver?.value)
        } else {
            None
        },
        exclude_regex: exclude_regex.map(|pattern| pattern.value),
        min_age: min_age.filter(|age| !age.is_zero()),
        prereleases: prereleases.map(|value| value.value),
        sort: sort?,
        per: per.map(|group| group.value),
        keep_groups: keep_groups.map(|number| number.value),
        keep_last: keep_last.map(|number| number.value),
        count: count?,
        min_tags: min_tags?,
    })))
}

/// Reports keys of a cut that have no effect without another key.
fn check_groups(fields: &Fields<'_>, has_rule: bool) {
    let require = |key: &str, others: &[&str], hint: &str| {
        if fields.has(key) && !others.iter().any(|other| fields.has(other)) {
            let others: Vec<String> = others.iter().map(|other| format!("`{other}`")).collect();
            fields.context.error(
                &fields.location(key),
                format!("`{key}` has no effect without {}", others.join(" or ")),
                hint,
            );
        }
    };
    require(
        "per",
        &["keep_last", "keep_groups"],
        "add `keep_last`, the number of newest tags in each group",
    );
    require(
        "keep_groups",
        &["per"],
        "add `per: variant`, `per: minor` or `per: major`",
    );
    require(
        "count",
        &["keep_last"],
        "add `keep_last`, the number of newest versions",
    );
    if !has_rule {
        for key in PATTERN_KEYS
            .into_iter()
            .filter(|key| !matches!(*key, "include" | "min_tags") && fields.has(key))
        {
            fields.context.error(
                &fields.location(key),
                format!("`{key}` has no effect without `tag_regex` or `semver`"),
                "remove it, or add `tag_regex`; the tags in `include` are always copied",
            );
        }
    }
}
