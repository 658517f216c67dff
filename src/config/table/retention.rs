//! Keys of every `retention` section.

use super::spec::{MAX_COUNT, SectionSpec, Shape, choice, key, whole};
use crate::config::settings::{GraceMode, RetentionGroup, RetentionMatch};

/// The general rules, and the overrides of an entry or image.
pub(in crate::config) static RETENTION: SectionSpec = SectionSpec {
    name: "retention",
    keys: &[
        key(
            "keep_last",
            whole(0, MAX_COUNT),
            "Number of newest tags to keep per image. Aliases do not count.",
        )
        .default("5"),
        key(
            "per",
            choice::<RetentionGroup>(),
            "Tags among which `keep_last` counts. repository: all. minor: those of the same release line, such as 3.20. variant: those with the same text after the version, such as alpine. Tags without a version are one group.",
        )
        .default("repository"),
        key("max_age_days", whole(0, MAX_COUNT), "Age in days above which tags expire."),
        key(
            "match",
            choice::<RetentionMatch>(),
            "all: delete a tag if all configured rules (`keep_last`, `max_age_days`) select it. any: delete a tag if at least one rule selects it.",
        )
        .default("all"),
        key(
            "exclude_tags",
            Shape::List(&Shape::TagExclusion),
            "Tags that are never deleted: exact names, or a `/regex/` that must match the complete tag.",
        )
        .default("[]")
        .literal(),
        key(
            "min_keep",
            whole(0, MAX_COUNT),
            "Minimum number of tags that remain per image.",
        )
        .default("1"),
        key(
            "max_delete_percent",
            whole(0, 100),
            "Maximum percentage of the tags of an image that one run may delete. If more are selected, none is deleted.",
        )
        .default("50"),
        key(
            "require_records",
            Shape::Flag,
            "Stop cleanup if there is no build record at all although base images or a package registry are configured.",
        )
        .default("true"),
        key(
            "repositories",
            Shape::List(&Shape::RepositoryPattern),
            "Repositories of applications to clean up by these rules; `*` and `?` are wildcards. There a build record protects its own image only while it is among the newest `keep_last` of its project. Only in the general `retention`.",
        )
        .default("[]"),
        key(
            "foreign_bases",
            Shape::List(&Shape::RepositoryPattern),
            "Base repositories of other configurations, which records may name; `*` and `?` are wildcards. Cleanup stops if more than 10 percent of the projects use bases that are neither configured nor in this list. Only in the general `retention`.",
        )
        .default("[]"),
        key(
            "grace_days",
            whole(0, MAX_COUNT),
            "Number of days that a selected tag waits before it is deleted. 0: no wait. Without a record store there is no wait.",
        )
        .default("7"),
        key(
            "grace",
            choice::<GraceMode>(),
            "wait: a waiting tag stays as it is. retire: the image moves to `<tag>-retired.<YYYYMMDD>`, where the registry can delete tags.",
        )
        .default("wait"),
        key(
            "hold",
            Shape::List(&Shape::Image),
            "Images that are never deleted, by tag or digest. Only in the general `retention`.",
        )
        .default("[]"),
        key(
            "keep_from",
            Shape::List(&Shape::Text),
            "Lists of images that are in use elsewhere: a file, `-` for standard input, or a URL. Each is a list of references, one a line, the output of `kubectl get … -o json`, or a compose file. Nothing is deleted if one cannot be read or names no image. Only in the general `retention`.",
        )
        .default("[]"),
        key("keep_deployed", Shape::Section(&KEEP_DEPLOYED), "Keep the images of deployed commits, and their bases, by the deployments of each project in the records. Nothing is deleted if they cannot be read. Requires GitLab (`registry.provider`). Only in the general `retention`."),
        key(
            "sources",
            Shape::List(&Shape::Text),
            "Addresses of the project of this configuration, also former ones, as in the label `org.opencontainers.image.source`. In CI, the address of the job's project is one of them. Bases that another project built are kept. Only in the general `retention`.",
        )
        .default("[]"),
        key(
            "archive",
            Shape::Section(&ARCHIVE),
            "Archive for tags before they are deleted.",
        ),
    ],
};

pub(in crate::config) static KEEP_DEPLOYED: SectionSpec = SectionSpec {
    name: "retention.keep_deployed",
    keys: &[
        key(
            "environments",
            Shape::List(&Shape::NamePattern),
            "Names of environments; `*` and `?` are wildcards.",
        )
        .required(),
        key(
            "per_environment",
            whole(1, 100),
            "Number of newest deployed commits of each environment.",
        )
        .default("3"),
    ],
};

pub(in crate::config) static ARCHIVE: SectionSpec = SectionSpec {
    name: "retention.archive",
    keys: &[
        key(
            "enabled",
            Shape::Flag,
            "Copy tags to the archive before they are deleted.",
        )
        .default("false"),
        key("registry", Shape::BasePath, "Base path of the archive."),
        key(
            "keep_days",
            whole(0, MAX_COUNT),
            "Number of days to keep archived tags.",
        )
        .default("90"),
    ],
};
