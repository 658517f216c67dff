//! The key table: every key of the file with its type, its default and its description.
//!
//! The only source of this information for the check, the JSON Schema and the reference in
//! `docs/configuration.md`. A key that is not in the table cannot be read; a test fails if a key in
//! the table is never read.

use super::keywords::{Keyword, ProviderKind};
use super::settings::{
    EngineChoice, EolProvider, EolTarget, GraceMode, ImageType, OnBaseChange, PlatformMode,
    ProvenanceMode, RetentionGroup, RetentionMatch, SortBy,
};
use crate::model::eol::Phase;

/// Type of a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// A string that is not empty.
    Text,
    /// A string that may be empty.
    AnyText,
    /// `true` or `false`.
    Flag,
    /// A whole number in a range.
    Whole {
        min: u64,
        max: u64,
    },
    /// A number greater than zero, which may have a fraction.
    Rate,
    /// One of several keywords.
    Choice(&'static [&'static str]),
    Duration,
    Date,
    Url,
    /// A path, relative to the directory of the file.
    Path,
    Repository,
    /// A common prefix of repository names: a host, or a host and a path.
    BasePath,
    Host,
    Tag,
    Platform,
    /// A regular expression.
    Pattern,
    /// A reference with a tag or a digest.
    Image,
    /// A repository, with `*` and `?` as wildcards.
    RepositoryPattern,
    /// A name, with `*` and `?` as wildcards.
    NamePattern,
    /// A tag or a `/pattern/`.
    TagExclusion,
    /// A rule that extracts a release cycle from a tag.
    Extract,
    /// The name of an environment variable.
    VariableName,
    /// A shell command line, or a list with a program and its arguments.
    Command,
    /// A mapping with known keys.
    Section(&'static SectionSpec),
    /// A section or a list of sections.
    OneOrMore(&'static SectionSpec),
    List(&'static Shape),
    /// A mapping with keys that the user chooses.
    Map(&'static Shape),
}

/// A mapping with known keys.
#[derive(Debug)]
pub(super) struct SectionSpec {
    /// Path of the section in the file, for hints and the schema; empty for the whole file.
    pub(super) name: &'static str,
    pub(super) keys: &'static [KeySpec],
}

/// A key of a section.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeySpec {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// Description for the documentation and the schema.
    pub(super) description: &'static str,
    /// Default value as it would be written in the file.
    pub(super) default: Option<&'static str>,
    pub(super) required: bool,
    /// If true, references to environment variables are expanded.
    pub(super) expanded: bool,
}

impl SectionSpec {
    /// Returns the key with this name, or `None` if the section has no such key.
    pub(super) fn key(&self, name: &str) -> Option<&'static KeySpec> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl KeySpec {
    const fn default(mut self, text: &'static str) -> KeySpec {
        self.default = Some(text);
        self
    }

    const fn required(mut self) -> KeySpec {
        self.required = true;
        self
    }

    /// Disables the expansion of environment variables.
    const fn literal(mut self) -> KeySpec {
        self.expanded = false;
        self
    }
}

const fn key(name: &'static str, shape: Shape, description: &'static str) -> KeySpec {
    KeySpec {
        name,
        shape,
        description,
        default: None,
        required: false,
        expanded: true,
    }
}

const fn choice<T: Keyword>() -> Shape {
    Shape::Choice(T::KEYWORDS)
}

const fn whole(min: u64, max: u64) -> Shape {
    Shape::Whole { min, max }
}

/// Maximum of numbers that count days or tags.
const MAX_COUNT: u64 = 1_000_000;

const HOOKS_SHAPE: Shape = Shape::List(&Shape::Section(&HOOK));
const PLATFORMS: Shape = Shape::List(&Shape::Platform);

/// All sections, the root first.
pub(super) static SECTIONS: [&SectionSpec; 20] = [
    &ROOT,
    &REGISTRY,
    &HOST,
    &SYNC,
    &SYNC_HOOKS,
    &ENTRY,
    &ENTRY_HOOKS,
    &HOOK,
    &BUILD,
    &BUILD_HOOKS,
    &IMAGE,
    &IMAGE_HOOKS,
    &RETENTION,
    &KEEP_DEPLOYED,
    &ARCHIVE,
    &LIFECYCLE,
    &NOTIFY,
    &IMAGE_LIFECYCLE,
    &ACCEPT,
    &STATUS,
];

pub(super) static ROOT: SectionSpec = SectionSpec {
    name: "",
    keys: &[
        key(
            "registry",
            Shape::Section(&REGISTRY),
            "The package registry that stores build records and data files.",
        ),
        key(
            "hosts",
            Shape::Map(&Shape::Section(&HOST)),
            "Connection settings by registry host, as written in image references (`docker.io`).",
        ),
        key("sync", Shape::Section(&SYNC), "Mirrors of upstream images."),
        key(
            "build",
            Shape::Section(&BUILD),
            "Base images to build from the mirrors.",
        ),
        key(
            "retention",
            Shape::Section(&RETENTION),
            "Rules for the tags that `cleanup` deletes. Without them, `cleanup` deletes nothing.",
        ),
        key(
            "lifecycle",
            Shape::Section(&LIFECYCLE),
            "End-of-life data and notifications.",
        ),
        key(
            "status",
            Shape::Section(&STATUS),
            "Content of the status report.",
        ),
    ],
};

pub(super) static REGISTRY: SectionSpec = SectionSpec {
    name: "registry",
    keys: &[
        key(
            "provider",
            choice::<ProviderKind>(),
            "Kind of the package registry.",
        )
        .default("gitlab"),
        key(
            "url",
            Shape::Url,
            "gitlab, gitea: URL of the instance. s3: URL of an S3-compatible endpoint other than AWS; buckets are then addressed in path style.",
        ),
        key(
            "api_url",
            Shape::Url,
            "gitlab, gitea: URL of the API, if it is not below `url`.",
        ),
        key(
            "project_id",
            whole(1, i64::MAX as u64),
            "gitlab: ID of the project that stores the packages.",
        ),
        key("owner", Shape::Text, "gitea: owner of the packages."),
        key(
            "repo",
            Shape::Text,
            "gitea: repository that files are read from.",
        ),
        key("bucket", Shape::Text, "s3: name of the bucket."),
        key("region", Shape::Text, "s3: region of the bucket.").default("us-east-1"),
        key(
            "prefix",
            Shape::Text,
            "Prefix of all package names, so that two installations can share a package registry. The default is `imglife`; s3 has no default prefix.",
        ),
        key(
            "path",
            Shape::Path,
            "file: directory that stores the packages.",
        )
        .default(".imglife/packages"),
        key(
            "insecure_registries",
            Shape::List(&Shape::Host),
            "Registry hosts to contact over plain HTTP.",
        )
        .default("[]"),
        key(
            "config_ref",
            Shape::Text,
            "gitlab, gitea: Git branch, tag or commit from which `check` reads files.",
        )
        .default("main"),
    ],
};

pub(super) static HOST: SectionSpec = SectionSpec {
    name: "hosts.<host>",
    keys: &[
        key(
            "endpoint",
            Shape::Url,
            "URL to send the requests for this host to, for example a pull-through cache. Image names do not change.",
        ),
        key(
            "ca_file",
            Shape::Path,
            "PEM file with certificate authorities to trust in addition to those of the system.",
        ),
        key(
            "client_cert",
            Shape::Path,
            "PEM file with the client certificate. Requires `client_key`.",
        ),
        key(
            "client_key",
            Shape::Path,
            "PEM file with the key of the client certificate.",
        ),
        key(
            "insecure_skip_verify",
            Shape::Flag,
            "Do not verify the certificate of the host.",
        )
        .default("false"),
        key(
            "max_connections",
            whole(1, 1000),
            "Maximum number of open connections.",
        ),
        key(
            "requests_per_second",
            Shape::Rate,
            "Maximum number of requests started per second.",
        ),
    ],
};

pub(super) static SYNC: SectionSpec = SectionSpec {
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

pub(super) static SYNC_HOOKS: SectionSpec = SectionSpec {
    name: "sync.hooks",
    keys: &[key("post_sync", HOOKS_SHAPE, "Hooks to run after all entries.").default("[]")],
};

pub(super) static ENTRY: SectionSpec = SectionSpec {
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

pub(super) static ENTRY_HOOKS: SectionSpec = SectionSpec {
    name: "sync.entries[].hooks",
    keys: &[key(
        "post_sync",
        HOOKS_SHAPE,
        "Hooks to run after this entry if it changed something.",
    )
    .default("[]")],
};

pub(super) static HOOK: SectionSpec = SectionSpec {
    name: "a hook",
    keys: &[
        key(
            "cmd",
            Shape::Command,
            "Command line for `sh -c`, or a list with a program and its arguments. Placeholders: `{{ image }}`, `{{ digest }}`, `{{ source }}`, `{{ target }}` and `{{ tag }}`.",
        )
        .required()
        .literal(),
        key("timeout", Shape::Duration, "Time after which the command and its child processes are killed.").default("60s"),
        key("continue_on_error", Shape::Flag, "Report a failure of the hook, but do not fail the run.").default("false"),
    ],
};

pub(super) static BUILD: SectionSpec = SectionSpec {
    name: "build",
    keys: &[
        key(
            "core_version",
            Shape::Tag,
            "Version of the templates and build policy. Increase it when they change.",
        )
        .required(),
        key(
            "registry",
            Shape::BasePath,
            "Base path of the repositories that images are pushed to.",
        )
        .required(),
        key(
            "engine",
            choice::<EngineChoice>(),
            "Build engine. `auto` selects the first one that is available.",
        )
        .default("auto"),
        key(
            "builder",
            Shape::AnyText,
            "Name of the buildx builder. Leave it empty for the default builder of docker. `IMGLIFE_BUILDER` overrides it.",
        ),
        key(
            "platforms",
            PLATFORMS,
            "Platforms to build for, unless an image sets its own.",
        )
        .default("[linux/amd64]"),
        key(
            "tag_format",
            Shape::Text,
            "Template of the tags. Variables: `name`, `type`, `version` and `core_version`.",
        )
        .default("{{ version }}-core{{ core_version }}")
        .literal(),
        key(
            "on_base_change",
            choice::<OnBaseChange>(),
            "Action if only the digest of the mirror image changed since the tag was published.",
        )
        .default("skip"),
        key("sbom", Shape::Flag, "Attach an SBOM. Requires buildx.").default("false"),
        key(
            "provenance",
            choice::<ProvenanceMode>(),
            "Attach provenance. Requires buildx.",
        )
        .default("false"),
        key(
            "parallelism",
            whole(1, 256),
            "Maximum number of images built at the same time.",
        )
        .default("2"),
        key(
            "hooks",
            Shape::Section(&BUILD_HOOKS),
            "Hooks: commands to run afterwards.",
        ),
        key(
            "images",
            Shape::List(&Shape::Section(&IMAGE)),
            "The base images.",
        )
        .required(),
    ],
};

pub(super) static BUILD_HOOKS: SectionSpec = SectionSpec {
    name: "build.hooks",
    keys: &[key(
        "post_image_build",
        HOOKS_SHAPE,
        "Hooks to run after each push.",
    )
    .default("[]")],
};

pub(super) static IMAGE: SectionSpec = SectionSpec {
    name: "build.images[]",
    keys: &[
        key(
            "name",
            Shape::Text,
            "Name of the image, which is pushed to `<registry>/<name>`. Several images may have the same name and different versions.",
        )
        .required(),
        key(
            "folder",
            Shape::Path,
            "Directory with the template and all files that it copies.",
        )
        .required(),
        key("tmpl", Shape::Text, "File name of the template in `folder`.").default("Dockerfile.tmpl"),
        key(
            "type",
            choice::<ImageType>(),
            "core: production image. spe: special-purpose image. spe-dev: development image, not included in reports.",
        )
        .required(),
        key(
            "mirror_image",
            Shape::Repository,
            "Repository of the image to build from, without a tag. May be another image in this list.",
        )
        .required(),
        key(
            "mirror_tag",
            Shape::Tag,
            "Tag to build from. The default is the newest tag that the sync entry with this target selects.",
        ),
        key(
            "version",
            Shape::Tag,
            "Upstream version in the tag of the image. The default is the mirror tag.",
        ),
        key("args", Shape::Map(&Shape::AnyText), "Build arguments.").default("{}"),
        key(
            "aliases",
            Shape::List(&Shape::Tag),
            "Floating tags to move to the new image after the push.",
        )
        .default("[]"),
        key("platforms", PLATFORMS, "Platforms to build for. The default is `build.platforms`."),
        key("sbom", Shape::Flag, "Attach an SBOM. The default is `build.sbom`."),
        key(
            "provenance",
            choice::<ProvenanceMode>(),
            "Attach provenance. The default is `build.provenance`.",
        ),
        key(
            "core_version",
            Shape::Tag,
            "Core version of the image. The default is `build.core_version`.",
        ),
        key(
            "hooks",
            Shape::Section(&IMAGE_HOOKS),
            "Hooks: commands to run afterwards.",
        ),
        key(
            "retention",
            Shape::Section(&RETENTION),
            "Overrides of the general `retention` for this image.",
        ),
        key(
            "lifecycle",
            Shape::OneOrMore(&IMAGE_LIFECYCLE),
            "Products in the image. The default is the `lifecycle` of the sync entry with the target `mirror_image`, or of the image that it is built from.",
        ),
    ],
};

pub(super) static IMAGE_HOOKS: SectionSpec = SectionSpec {
    name: "build.images[].hooks",
    keys: &[key(
        "post_image_build",
        HOOKS_SHAPE,
        "Hooks to run after each push. The default is `build.hooks.post_image_build`.",
    )],
};

/// The general rules, and the overrides of an entry or image.
pub(super) static RETENTION: SectionSpec = SectionSpec {
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

pub(super) static KEEP_DEPLOYED: SectionSpec = SectionSpec {
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

pub(super) static ARCHIVE: SectionSpec = SectionSpec {
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

pub(super) static LIFECYCLE: SectionSpec = SectionSpec {
    name: "lifecycle",
    keys: &[
        key(
            "eol_provider",
            choice::<EolProvider>(),
            "endoflife: use the endoflife.date API. local: use only the data file.",
        )
        .default("endoflife"),
        key(
            "eol_target",
            choice::<EolTarget>(),
            "git: write the data file to the working tree. pkgregistry: upload it to the package registry.",
        )
        .default("git"),
        key(
            "eol_data_file",
            Shape::Path,
            "File that stores the end-of-life data.",
        )
        .default("eol-data.yaml"),
        key("api_url", Shape::Url, "URL of the endoflife.date API.")
            .default("https://endoflife.date/api"),
        key(
            "warn_days",
            whole(0, MAX_COUNT),
            "Number of days before an end-of-life date at which warnings start. `IMGLIFE_ALERT_CRITICAL_DAYS` overrides it.",
        )
        .default("30"),
        key(
            "phase",
            choice::<Phase>(),
            "Date that counts as the end of life: eoas (end of active support), eol (end of life) or eoes (end of extended support).",
        )
        .default("eol"),
        key(
            "notify",
            Shape::Section(&NOTIFY),
            "Notifications about end-of-life dates.",
        ),
    ],
};

pub(super) static NOTIFY: SectionSpec = SectionSpec {
    name: "lifecycle.notify",
    keys: &[
        key(
            "slack_webhook_env",
            Shape::VariableName,
            "Name of the environment variable with the URL of a Slack webhook.",
        )
        .literal(),
        key(
            "webhook_env",
            Shape::VariableName,
            "Name of the environment variable with the URL of a generic webhook.",
        )
        .literal(),
        key(
            "at_days",
            Shape::List(&whole(0, MAX_COUNT)),
            "Numbers of days before an end-of-life date at which a notification is sent. After the date, it is sent weekly.",
        )
        .default("[90, 30, 7, 0]"),
    ],
};

pub(super) static IMAGE_LIFECYCLE: SectionSpec = SectionSpec {
    name: "an image's lifecycle",
    keys: &[
        key("product", Shape::Text, "Name or alias of the product on endoflife.date. The default is the product that endoflife.date lists for the source repository."),
        key(
            "extract",
            Shape::Extract,
            "How to find the release cycle in a tag: major, minor, patch, full, or a regular expression with one capture group. The default is the longest release cycle that the tag starts with.",
        )
        .literal(),
        key("track", Shape::Extract, "Alias of `extract`.").literal(),
        key("phase", choice::<Phase>(), "Date that counts as the end of life. The default is `lifecycle.phase`."),
        key("accept", Shape::Section(&ACCEPT), "Paid support or an accepted risk: the end of life is not a violation until a given day."),
    ],
};

pub(super) static ACCEPT: SectionSpec = SectionSpec {
    name: "an accepted end of life",
    keys: &[
        key("until", Shape::Date, "Last day of the acceptance.").required(),
        key("reason", Shape::Text, "Reason, shown in reports.").required(),
    ],
};

pub(super) static STATUS: SectionSpec = SectionSpec {
    name: "status",
    keys: &[
        key("title", Shape::Text, "Title of the report."),
        key(
            "client_zone",
            Shape::AnyText,
            "Markdown to insert below the tables, unchanged.",
        )
        .literal(),
        key(
            "graph",
            Shape::Flag,
            "Include a Mermaid diagram of the image lineage.",
        )
        .default("true"),
        key(
            "timeline",
            Shape::Flag,
            "Include a Mermaid timeline of end-of-life dates.",
        )
        .default("true"),
    ],
};
