//! Every key of the file, once: its shape, its default and what it means.
//!
//! The one source for the checker (which keys are known, their defaults, which are expanded) and
//! for the JSON Schema. A key that is not here cannot be read, and a test fails for a key that is
//! here and is never read.

use super::words::{ProviderName, Words};
use super::{
    CondemnedBy, EngineChoice, EolProvider, EolTarget, ImageType, OnBaseChange, Phase,
    PlatformMode, Provenance, SortBy,
};

/// What a value looks like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// Text that is not empty.
    Text,
    /// Text that may be empty.
    AnyText,
    Flag,
    Whole {
        least: u64,
        most: u64,
    },
    /// A number above zero, with a fraction if need be.
    Rate,
    Choice(&'static [&'static str]),
    Duration,
    Date,
    Url,
    /// Relative to the directory of the file.
    Path,
    Repository,
    /// The start of repository names: a host, or a host and a path.
    BasePath,
    Host,
    Tag,
    Platform,
    /// A regular expression.
    Pattern,
    /// A tag, or a `/pattern/`.
    TagExclusion,
    /// How a tag names a release cycle.
    Extract,
    VariableName,
    /// A shell line, or a list of a program and its arguments.
    Command,
    Section(&'static Section),
    /// One section or a list of them.
    OneOrMore(&'static Section),
    List(&'static Shape),
    /// Keys that the user chooses.
    Map(&'static Shape),
}

/// A mapping with known keys.
#[derive(Debug)]
pub(super) struct Section {
    /// Where it stands in the file, for hints and the schema.
    pub(super) name: &'static str,
    pub(super) keys: &'static [Key],
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) about: &'static str,
    /// As it would be written in the file.
    pub(super) default: Option<&'static str>,
    pub(super) required: bool,
    /// Whether references to variables are replaced.
    pub(super) expanded: bool,
}

impl Section {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Key {
    const fn default(mut self, text: &'static str) -> Key {
        self.default = Some(text);
        self
    }

    const fn required(mut self) -> Key {
        self.required = true;
        self
    }

    const fn literal(mut self) -> Key {
        self.expanded = false;
        self
    }
}

const fn key(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key {
        name,
        shape,
        about,
        default: None,
        required: false,
        expanded: true,
    }
}

const fn choice<T: Words>() -> Shape {
    Shape::Choice(T::WORDS)
}

const fn whole(least: u64, most: u64) -> Shape {
    Shape::Whole { least, most }
}

/// What counts something: days, tags.
const COUNT: u64 = 1_000_000;

const HOOKS_SHAPE: Shape = Shape::List(&Shape::Section(&HOOK));
const PLATFORMS: Shape = Shape::List(&Shape::Platform);

/// All sections, the root first.
pub(super) static SECTIONS: [&Section; 19] = [
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
    &ARCHIVE,
    &LIFECYCLE,
    &NOTIFY,
    &IMAGE_LIFECYCLE,
    &ACCEPT,
    &STATUS,
];

pub(super) static ROOT: Section = Section {
    name: "",
    keys: &[
        key(
            "registry",
            Shape::Section(&REGISTRY),
            "The Package Registry: where build records and package files live.",
        ),
        key(
            "hosts",
            Shape::Map(&Shape::Section(&HOST)),
            "How to speak to OCI hosts, by host as references name it (`docker.io`).",
        ),
        key("sync", Shape::Section(&SYNC), "Mirrors of upstream images."),
        key(
            "build",
            Shape::Section(&BUILD),
            "Base images built on the mirrors.",
        ),
        key(
            "retention",
            Shape::Section(&RETENTION),
            "Which tags `cleanup` removes. Without it, `cleanup` deletes nothing.",
        ),
        key(
            "lifecycle",
            Shape::Section(&LIFECYCLE),
            "How end-of-life data is kept and told.",
        ),
        key(
            "status",
            Shape::Section(&STATUS),
            "What the status report shows.",
        ),
    ],
};

pub(super) static REGISTRY: Section = Section {
    name: "registry",
    keys: &[
        key("provider", choice::<ProviderName>(), "The kind of place.").default("gitlab"),
        key(
            "url",
            Shape::Url,
            "The instance's URL; for s3 another endpoint, which is then spoken to in path style.",
        ),
        key(
            "api_url",
            Shape::Url,
            "gitlab, gitea: where the API is when it is not at `url`.",
        ),
        key(
            "project_id",
            whole(1, i64::MAX as u64),
            "gitlab: the project that holds the packages.",
        ),
        key("owner", Shape::Text, "gitea: the owner of the packages."),
        key(
            "repo",
            Shape::Text,
            "gitea: the repository whose files are read.",
        ),
        key("bucket", Shape::Text, "s3: the bucket."),
        key(
            "region",
            Shape::Text,
            "s3: the region, as the server calls it.",
        )
        .default("us-east-1"),
        key(
            "prefix",
            Shape::Text,
            "Set before all names, so that two installations can share a place. `imglife`; none for s3.",
        ),
        key("path", Shape::Path, "file: the directory.").default(".imglife/packages"),
        key(
            "insecure_registries",
            Shape::List(&Shape::Host),
            "OCI hosts spoken to over plain HTTP.",
        )
        .default("[]"),
        key(
            "config_ref",
            Shape::Text,
            "gitlab, gitea: the git ref that `check` reads files at.",
        )
        .default("main"),
    ],
};

pub(super) static HOST: Section = Section {
    name: "hosts.<host>",
    keys: &[
        key(
            "endpoint",
            Shape::Url,
            "Where the host's traffic is sent instead, as to a pull-through cache. Names stay as written.",
        ),
        key(
            "ca_file",
            Shape::Path,
            "Certificates to trust besides those of the system, PEM.",
        ),
        key(
            "client_cert",
            Shape::Path,
            "The client's certificate, PEM. Needs `client_key`.",
        ),
        key(
            "client_key",
            Shape::Path,
            "The key of the client's certificate, PEM.",
        ),
        key(
            "insecure_skip_verify",
            Shape::Flag,
            "Accept any certificate.",
        )
        .default("false"),
        key(
            "max_connections",
            whole(1, 1000),
            "Connections open at once.",
        ),
        key(
            "requests_per_second",
            Shape::Rate,
            "Requests started per second.",
        ),
    ],
};

pub(super) static SYNC: Section = Section {
    name: "sync",
    keys: &[
        key(
            "platforms",
            PLATFORMS,
            "The platforms that entries keep. All when left out.",
        ),
        key(
            "parallelism",
            whole(1, 256),
            "Images in flight at once. `IMGLIFE_SYNC_PARALLELISM` overrides it.",
        )
        .default("4"),
        key(
            "hooks",
            Shape::Section(&SYNC_HOOKS),
            "Commands run after something was done.",
        ),
        key(
            "entries",
            Shape::List(&Shape::Section(&ENTRY)),
            "The mirrors.",
        )
        .required(),
    ],
};

pub(super) static SYNC_HOOKS: Section = Section {
    name: "sync.hooks",
    keys: &[key("post_sync", HOOKS_SHAPE, "Run after all entries.").default("[]")],
};

pub(super) static ENTRY: Section = Section {
    name: "sync.entries[]",
    keys: &[
        key("source", Shape::Repository, "The repository to copy from, without a tag; `ocidir://directory` too.").required(),
        key("target", Shape::Repository, "The repository to copy to, without a tag.").required(),
        key("tag", Shape::Tag, "One fixed tag. Either this or `tag_regex`."),
        key("tag_regex", Shape::Pattern, "The tags wanted: a regular expression over whole tags.").literal(),
        key("exclude_regex", Shape::Pattern, "The tags not wanted: a regular expression over whole tags. Wins over `tag_regex`.").literal(),
        key("min_age", Shape::Duration, "Tags pushed upstream less than this ago wait. Applied before `keep_last`.").default("0"),
        key("keep_last", whole(1, COUNT), "Only the newest so many of the tags that are left. All when left out."),
        key("sort", choice::<SortBy>(), "What makes a tag newer.").default("version"),
        key("min_tags", whole(0, COUNT), "Fewer selected tags than this fail the entry.").default("1"),
        key("check_digest", Shape::Flag, "Copy a tag that exists again when its upstream digest changed.").default("false"),
        key("keep_replaced", Shape::Flag, "Keep the old digest of a moved tag as `<tag>-replaced.<YYYYMMDD>`.").default("false"),
        key("platforms", PLATFORMS, "The platforms to keep. `sync.platforms` when left out."),
        key(
            "platform_mode",
            choice::<PlatformMode>(),
            "rewrite: a new index with only the kept platforms. sparse: the index as it is, digest kept.",
        )
        .default("rewrite"),
        key("referrers", Shape::Flag, "Copy signatures, SBOMs and attestations.").default("true"),
        key("os_normalize", Shape::Flag, "Store a tag that only names an OS variant under the most specific version tag.").default("false"),
        key("lifecycle", Shape::OneOrMore(&IMAGE_LIFECYCLE), "The products whose end of life counts; of several, the earliest date."),
        key("retention", Shape::Section(&RETENTION), "What differs from the general `retention` for this mirror."),
        key("hooks", Shape::Section(&ENTRY_HOOKS), "Commands run after something was done."),
    ],
};

pub(super) static ENTRY_HOOKS: Section = Section {
    name: "sync.entries[].hooks",
    keys: &[key(
        "post_sync",
        HOOKS_SHAPE,
        "Run after this entry, only when it changed something.",
    )
    .default("[]")],
};

pub(super) static HOOK: Section = Section {
    name: "a hook",
    keys: &[
        key(
            "cmd",
            Shape::Command,
            "A line for `sh -c`, or a list of a program and its arguments. `{{ image }}`, `{{ digest }}`, `{{ source }}`, `{{ target }}` and `{{ tag }}` stand for values.",
        )
        .required()
        .literal(),
        key("timeout", Shape::Duration, "After this the command and its children are ended.").default("60s"),
        key("continue_on_error", Shape::Flag, "Whether a failure is only told.").default("false"),
    ],
};

pub(super) static BUILD: Section = Section {
    name: "build",
    keys: &[
        key(
            "core_version",
            Shape::Tag,
            "Bumped when templates or policy change.",
        )
        .required(),
        key(
            "registry",
            Shape::BasePath,
            "The base path that images are pushed below.",
        )
        .required(),
        key("engine", choice::<EngineChoice>(), "What builds.").default("auto"),
        key(
            "builder",
            Shape::AnyText,
            "The buildx builder's name. `IMGLIFE_BUILDER` overrides it; empty: docker's default.",
        ),
        key("platforms", PLATFORMS, "The platforms built for.").default("[linux/amd64]"),
        key("tag_format", Shape::Text, "The template of an image's tag.")
            .default("{{ version }}-core{{ core_version }}")
            .literal(),
        key(
            "on_base_change",
            choice::<OnBaseChange>(),
            "What to do when only the mirror's digest moved under a published tag.",
        )
        .default("skip"),
        key("sbom", Shape::Flag, "Attach an SBOM (buildx).").default("false"),
        key(
            "provenance",
            choice::<Provenance>(),
            "Attach provenance (buildx).",
        )
        .default("false"),
        key("parallelism", whole(1, 256), "Images built at once.").default("2"),
        key(
            "hooks",
            Shape::Section(&BUILD_HOOKS),
            "Commands run after something was done.",
        ),
        key(
            "images",
            Shape::List(&Shape::Section(&IMAGE)),
            "The base images.",
        )
        .required(),
    ],
};

pub(super) static BUILD_HOOKS: Section = Section {
    name: "build.hooks",
    keys: &[key("post_image_build", HOOKS_SHAPE, "Run after each push.").default("[]")],
};

pub(super) static IMAGE: Section = Section {
    name: "build.images[]",
    keys: &[
        key(
            "name",
            Shape::Text,
            "Pushed to `<registry>/<name>`. May repeat with other versions.",
        )
        .required(),
        key(
            "folder",
            Shape::Path,
            "The directory with the template and every file it copies.",
        )
        .required(),
        key("tmpl", Shape::Text, "The template's file name.").default("Dockerfile.tmpl"),
        key(
            "type",
            choice::<ImageType>(),
            "core: production; spe: special purpose; spe-dev: development, not in reports.",
        )
        .required(),
        key(
            "mirror_image",
            Shape::Repository,
            "The repository built on, without a tag; may be another image of this list.",
        )
        .required(),
        key(
            "mirror_tag",
            Shape::Tag,
            "The tag built on. The newest one selected by the sync entry with this target when left out.",
        ),
        key(
            "version",
            Shape::Tag,
            "The upstream version in the tag. The mirror tag when left out.",
        ),
        key("args", Shape::Map(&Shape::AnyText), "Build arguments.").default("{}"),
        key(
            "aliases",
            Shape::List(&Shape::Tag),
            "Floating tags moved to the new digest after the push.",
        )
        .default("[]"),
        key("platforms", PLATFORMS, "`build.platforms` when left out."),
        key("sbom", Shape::Flag, "`build.sbom` when left out."),
        key(
            "provenance",
            choice::<Provenance>(),
            "`build.provenance` when left out.",
        ),
        key(
            "core_version",
            Shape::Tag,
            "`build.core_version` when left out.",
        ),
        key(
            "hooks",
            Shape::Section(&IMAGE_HOOKS),
            "Commands run after something was done.",
        ),
        key(
            "retention",
            Shape::Section(&RETENTION),
            "What differs from the general `retention` for this image.",
        ),
        key(
            "lifecycle",
            Shape::OneOrMore(&IMAGE_LIFECYCLE),
            "Replaces what is inherited: that of the sync entry whose target is `mirror_image`, or of the image it is built on.",
        ),
    ],
};

pub(super) static IMAGE_HOOKS: Section = Section {
    name: "build.images[].hooks",
    keys: &[key(
        "post_image_build",
        HOOKS_SHAPE,
        "Run after each push. `build.hooks.post_image_build` when left out.",
    )],
};

/// The general rules; as part of an entry or image, what differs from them there.
pub(super) static RETENTION: Section = Section {
    name: "retention",
    keys: &[
        key(
            "keep_last",
            whole(0, COUNT),
            "The newest tags kept per image. Aliases take no place.",
        )
        .default("5"),
        key("max_age_days", whole(0, COUNT), "Older tags expire."),
        key(
            "match",
            choice::<CondemnedBy>(),
            "all: a tag is condemned when every rule that is set condemns it. any: when one does.",
        )
        .default("all"),
        key(
            "exclude_tags",
            Shape::List(&Shape::TagExclusion),
            "Tags never deleted: exact names, or `/regex/` over whole tags.",
        )
        .default("[]")
        .literal(),
        key(
            "min_keep",
            whole(0, COUNT),
            "Never fewer tags than this per image.",
        )
        .default("1"),
        key(
            "max_delete_percent",
            whole(0, 100),
            "Stop before more than this share of an image's tags is deleted.",
        )
        .default("50"),
        key(
            "require_records",
            Shape::Flag,
            "With bases configured, no build record at all stops cleanup.",
        )
        .default("true"),
        key(
            "archive",
            Shape::Section(&ARCHIVE),
            "A copy kept before deletion.",
        ),
    ],
};

pub(super) static ARCHIVE: Section = Section {
    name: "retention.archive",
    keys: &[
        key(
            "enabled",
            Shape::Flag,
            "Whether tags are copied to the archive before they are deleted.",
        )
        .default("false"),
        key("registry", Shape::BasePath, "The base path of the archive."),
        key(
            "keep_days",
            whole(0, COUNT),
            "How long archived tags are kept.",
        )
        .default("90"),
    ],
};

pub(super) static LIFECYCLE: Section = Section {
    name: "lifecycle",
    keys: &[
        key(
            "eol_provider",
            choice::<EolProvider>(),
            "endoflife: the endoflife.date API. local: the data file only.",
        )
        .default("endoflife"),
        key(
            "eol_target",
            choice::<EolTarget>(),
            "git: write the data file. pkgregistry: upload it.",
        )
        .default("git"),
        key(
            "eol_data_file",
            Shape::Path,
            "The file that end-of-life data is kept in.",
        )
        .default("eol-data.yaml"),
        key("api_url", Shape::Url, "Where the endoflife.date API is.")
            .default("https://endoflife.date/api"),
        key(
            "warn_days",
            whole(0, COUNT),
            "An end nearer than this is warned about. `IMGLIFE_ALERT_CRITICAL_DAYS` overrides it.",
        )
        .default("30"),
        key(
            "phase",
            choice::<Phase>(),
            "Which date counts: eoas (active support), eol, or eoes (extended support).",
        )
        .default("eol"),
        key(
            "notify",
            Shape::Section(&NOTIFY),
            "Where messages about ends go.",
        ),
    ],
};

pub(super) static NOTIFY: Section = Section {
    name: "lifecycle.notify",
    keys: &[
        key(
            "slack_webhook_env",
            Shape::VariableName,
            "The name of the variable that holds the Slack webhook's URL.",
        )
        .literal(),
        key(
            "webhook_env",
            Shape::VariableName,
            "The name of the variable that holds a webhook's URL.",
        )
        .literal(),
        key(
            "at_days",
            Shape::List(&whole(0, COUNT)),
            "Messages are sent this many days before the date, then weekly after it.",
        )
        .default("[90, 30, 7, 0]"),
    ],
};

pub(super) static IMAGE_LIFECYCLE: Section = Section {
    name: "an image's lifecycle",
    keys: &[
        key("product", Shape::Text, "The product's name or alias on endoflife.date. The one that images of the mirrored repository are of when left out."),
        key(
            "extract",
            Shape::Extract,
            "How the tag names the release cycle: major, minor, patch, full, or a regular expression with one capture group. The longest known cycle when left out.",
        )
        .literal(),
        key("track", Shape::Extract, "Another name of `extract`.").literal(),
        key("phase", choice::<Phase>(), "`lifecycle.phase` when left out."),
        key("accept", Shape::Section(&ACCEPT), "Paid or accepted support: no violation until then."),
    ],
};

pub(super) static ACCEPT: Section = Section {
    name: "an accepted end of life",
    keys: &[
        key("until", Shape::Date, "The last day on which it counts.").required(),
        key("reason", Shape::Text, "Why, for the report.").required(),
    ],
};

pub(super) static STATUS: Section = Section {
    name: "status",
    keys: &[
        key("title", Shape::Text, "The report's title."),
        key(
            "client_zone",
            Shape::AnyText,
            "Markdown put below the tables as it is.",
        )
        .literal(),
        key(
            "graph",
            Shape::Flag,
            "Draw the lineage of images (Mermaid).",
        )
        .default("true"),
        key(
            "timeline",
            Shape::Flag,
            "Draw the ends of life on a time line (Mermaid).",
        )
        .default("true"),
    ],
};
