//! Keys of the section `sync`.

use super::hooks::{ENTRY_HOOKS, SYNC_HOOKS};
use super::lifecycle::IMAGE_LIFECYCLE;
use super::retention::RETENTION;
use super::spec::{MAX_COUNT, PLATFORMS, SectionSpec, Shape, choice, key, whole};
use crate::config::settings::{PlatformMode, SortBy};

pub(in crate::config) static SYNC: SectionSpec = SectionSpec {
    name: "sync",
    keys: &[
        key(
            "platforms",
            PLATFORMS,
            "Platforms to copy, unless an entry sets its own. The default is all platforms.",
        ),
        key(
            "parallelism",
            whole(1, 256),
            "Maximum number of images copied at the same time. `IMGLIFE_SYNC_PARALLELISM` overrides it.",
        )
        .default("4"),
        key(
            "hooks",
            Shape::Section(&SYNC_HOOKS),
            "Hooks: commands to run afterwards.",
        ),
        key(
            "entries",
            Shape::List(&Shape::Section(&ENTRY)),
            "The mirrors.",
        )
        .required(),
    ],
};

pub(in crate::config) static ENTRY: SectionSpec = SectionSpec {
    name: "sync.entries[]",
    keys: &[
        key("source", Shape::Repository, "Repository to copy from, without a tag. May be a directory: `ocidir://directory`.").required(),
        key("target", Shape::Repository, "Repository to copy to, without a tag. May be a directory: `ocidir://directory`.").required(),
        key("tag", Shape::Tag, "The only tag to copy. Set either `tag` or `tag_regex`."),
        key("tag_regex", Shape::Pattern, "Tags to copy: a regular expression that must match the complete tag.").literal(),
        key("exclude_regex", Shape::Pattern, "Tags to skip: a regular expression that must match the complete tag. Takes precedence over `tag_regex`.").literal(),
        key("min_age", Shape::Duration, "Minimum time since a tag was pushed to the source. Younger tags are not copied yet. Applied before `keep_last`.").default("0"),
        key("keep_last", whole(1, MAX_COUNT), "Number of newest tags to copy. The default is all tags."),
        key("sort", choice::<SortBy>(), "Order of tags for `keep_last`: by version or by push date.").default("version"),
        key("min_tags", whole(0, MAX_COUNT), "Minimum number of selected tags. The entry fails if fewer are selected.").default("1"),
        key("check_digest", Shape::Flag, "Copy an existing tag again if its digest in the source changed.").default("false"),
        key("keep_replaced", Shape::Flag, "Keep the old image of an overwritten tag as `<tag>-replaced.<YYYYMMDD>`.").default("false"),
        key("platforms", PLATFORMS, "Platforms to copy. The default is `sync.platforms`."),
        key(
            "platform_mode",
            choice::<PlatformMode>(),
            "rewrite: push a new index with only the copied platforms. sparse: push the index unchanged, with the same digest.",
        )
        .default("rewrite"),
        key("referrers", Shape::Flag, "Copy signatures, SBOMs and attestations.").default("true"),
        key("os_normalize", Shape::Flag, "Store a tag that only names an operating system variant under the most specific version tag.").default("false"),
        key("lifecycle", Shape::OneOrMore(&IMAGE_LIFECYCLE), "Products in the image. If there are several, the earliest end-of-life date applies."),
        key("retention", Shape::Section(&RETENTION), "Overrides of the general `retention` for this mirror."),
        key("hooks", Shape::Section(&ENTRY_HOOKS), "Hooks: commands to run afterwards."),
    ],
};
