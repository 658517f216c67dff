//! Keys of the section `sync`.

use super::hooks::{ENTRY_HOOKS, SYNC_HOOKS};
use super::lifecycle::IMAGE_LIFECYCLE;
use super::retention::RETENTION;
use super::spec::{MAX_COUNT, PLATFORMS, SectionSpec, Shape, choice, key, whole};
use crate::config::selection::{CountBy, SortBy, SyncGroup};
use crate::config::settings::{CheckDigest, MissingPlatforms, PlatformMode};

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
            "defaults",
            Shape::Section(&ENTRY),
            "Keys of `sync.entries[]` for every entry that does not set them.",
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
        key("source", Shape::Repository, "Repository to copy from, without a tag. May be a directory: `ocidir://directory`. Required, unless `sources` is set."),
        key("sources", Shape::List(&Shape::Repository), "Repositories to copy from; each becomes an entry. The target then has a placeholder."),
        key("target", Shape::Repository, "Repository to copy to, without a tag. May be a directory: `ocidir://directory`. Required, unless `targets` is set. `{{ name }}`, `{{ path }}`, `{{ host }}` and `{{ tag }}` are parts of the source."),
        key("targets", Shape::List(&Shape::Repository), "Repositories to copy to; each becomes an entry."),
        key("tag", Shape::PinnedTag, "The only tag to copy. Set it instead of the keys that select several tags. With a digest (`3.21.3@sha256:…`), this image is copied under the tag."),
        key("tag_regex", Shape::Pattern, "Tags to copy: a regular expression that must match the complete tag.").literal(),
        key("semver", Shape::VersionRange, "Range of the release numbers of the tags to copy, such as `>=3.20, <4`. Beside `tag_regex`, both must match."),
        key("include", Shape::List(&Shape::Tag), "Tags to copy in any case, besides those that the other keys select."),
        key("exclude_regex", Shape::Pattern, "Tags to skip: a regular expression that must match the complete tag. Takes precedence over `tag_regex`.").literal(),
        key("min_age", Shape::Duration, "Minimum time since a tag was pushed to the source. Younger tags are not copied yet. Applied before `keep_last`.").default("0"),
        key("prereleases", Shape::Flag, "Copy pre-releases. By default they are left out if `keep_last` or `keep_groups` is set and `tag_regex` spells no pre-release word."),
        key("keep_last", whole(1, MAX_COUNT), "Number of newest tags to copy, in each group of `per`. The default is all tags."),
        key("per", choice::<SyncGroup>(), "Groups that `keep_last` counts in. variant: tags of the same variant, such as alpine3.20. minor: tags of the same release line, such as 3.20. major: tags with the same first number. The default is one group."),
        key("keep_groups", whole(1, MAX_COUNT), "Number of newest groups of `per` to copy. The default is all groups."),
        key("count", choice::<CountBy>(), "Unit of `keep_last`. versions: all tags of one version count once.").default("tags"),
        key("sort", choice::<SortBy>(), "Order of tags for `keep_last`: by version or by push date.").default("version"),
        key("min_tags", whole(0, MAX_COUNT), "Minimum number of selected tags. The entry fails if fewer are selected.").default("1"),
        key("check_digest", choice::<CheckDigest>(), "Tags to copy again if their digests in the source changed. auto: tags that move, which are those without a version and those that another listed tag refines, such as 3.21 where 3.21.3 is listed. true: all. false: none.").default("auto"),
        key("keep_replaced", Shape::Flag, "Keep the old image of an overwritten tag as `<tag>-replaced.<YYYYMMDD>`. The default is true with `check_digest: auto`, and false otherwise."),
        key("platforms", PLATFORMS, "Platforms to copy. The default is `sync.platforms`."),
        key(
            "platform_mode",
            choice::<PlatformMode>(),
            "rewrite: push a new index with only the copied platforms. sparse: push the index unchanged, with the same digest.",
        )
        .default("rewrite"),
        key("platforms_missing", choice::<MissingPlatforms>(), "Images that lack some of `platforms`. warn: copy the others. skip: do not copy the tag. fail: report an error.").default("warn"),
        key("skip_unsupported", Shape::Flag, "Skip images that cannot be copied, instead of reporting an error: Docker schema 1, and images without any of `platforms`.").default("false"),
        key("referrers", Shape::Flag, "Copy signatures, SBOMs and attestations.").default("true"),
        key("os_normalize", Shape::Flag, "Store a tag that only names an operating system variant under the most specific version tag.").default("false"),
        key("lifecycle", Shape::OneOrMore(&IMAGE_LIFECYCLE), "Products in the image. If there are several, the earliest end-of-life date applies."),
        key("retention", Shape::Section(&RETENTION), "Overrides of the general `retention` for this mirror."),
        key("hooks", Shape::Section(&ENTRY_HOOKS), "Hooks: commands to run afterwards."),
    ],
};
