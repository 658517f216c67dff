//! The checked configuration as typed values, with defaults filled in.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};

use super::selection::TagSelection;
use crate::model::eol::Phase;
use crate::model::hook::Hook;
use crate::model::lifecycle::{ImageLifecycle, TagPattern};
use crate::model::reference::InvalidName;
use crate::model::{Digest, Host, ImageReference, Platform, Repository, Tag};

/// The complete configuration.
///
/// Sections are optional: each command reports the sections that it needs and that are missing.
#[derive(Clone, Debug)]
pub struct Config {
    /// File that was read, for messages; `None` if the configuration comes from variables only.
    pub file: Option<PathBuf>,
    /// Directory that relative paths are resolved against.
    pub directory: PathBuf,
    /// Package registry for build records and data files.
    pub registry: Option<RegistryConfig>,
    /// Hosts that are contacted over plain HTTP.
    pub insecure_registries: Vec<Host>,
    /// Connection settings by host.
    pub hosts: BTreeMap<Host, HostSettings>,
    /// Mirrors of upstream images.
    pub sync: Option<SyncConfig>,
    /// Base images.
    pub build: Option<BuildConfig>,
    /// General cleanup rules.
    pub retention: Option<RetentionConfig>,
    /// End-of-life data and notifications.
    pub lifecycle: LifecycleConfig,
    /// Status report.
    pub status: StatusConfig,
}

/// The package registry that stores build records and data files (`registry`).
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// Kind of the registry, with its settings.
    pub provider: RegistryProvider,
    /// Prefix of all package names, or `None` for no prefix.
    pub prefix: Option<String>,
}

/// Kind of a package registry, with the settings that only this kind has.
#[derive(Clone, Debug)]
pub enum RegistryProvider {
    /// `url` and `project_id` may be missing; commands that use build records require them.
    Gitlab {
        url: Option<url::Url>,
        api_url: Option<url::Url>,
        project_id: Option<u64>,
        config_ref: String,
    },
    /// `url` may be missing; commands that use build records require it.
    Gitea {
        url: Option<url::Url>,
        api_url: Option<url::Url>,
        owner: String,
        repo: Option<String>,
        config_ref: String,
    },
    /// `endpoint` is `None` for AWS. `path_style` is `None` for the default of the endpoint.
    S3 {
        endpoint: Option<url::Url>,
        bucket: String,
        region: String,
        path_style: Option<bool>,
    },
    /// A directory.
    File { directory: PathBuf },
}

/// Connection settings of one registry host (`hosts.<host>`).
#[derive(Clone, Debug, Default)]
pub struct HostSettings {
    /// URL that requests for the host are sent to instead. Image names do not change.
    pub endpoint: Option<url::Url>,
    /// PEM file with additional certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// Client certificate for mutual TLS.
    pub client_certificate: Option<ClientCertificateFiles>,
    /// If true, the certificate of the host is not verified.
    pub insecure_skip_verify: bool,
    /// Maximum number of open connections; `None` for the default.
    pub max_connections: Option<usize>,
    /// Maximum number of requests started per second; `None` for no limit.
    pub requests_per_second: Option<f64>,
}

/// A client certificate and its key.
#[derive(Clone, Debug)]
pub struct ClientCertificateFiles {
    /// PEM file of the certificate.
    pub certificate: PathBuf,
    /// PEM file of the key.
    pub key: PathBuf,
}

/// Mirrors of upstream images (`sync`).
#[derive(Clone, Debug)]
pub struct SyncConfig {
    /// Maximum number of images that are copied at the same time.
    pub parallelism: usize,
    /// The mirrors.
    pub entries: Vec<SyncEntry>,
    /// Hooks that run after all entries.
    pub post_sync: Vec<Hook>,
}

/// One mirror: a source repository, a target repository and the tags to copy (`sync.entries[]`).
#[derive(Clone, Debug)]
pub struct SyncEntry {
    /// Repository to copy from.
    pub source: Repository,
    /// Repository to copy to.
    pub target: Repository,
    /// Tags to copy.
    pub selection: TagSelection,
    /// Digest to copy under a fixed tag, whatever the tag points to upstream.
    pub digest: Option<Digest>,
    /// Tag at the target of a fixed tag; `None` for the same tag. Not a key of the file.
    pub target_tag: Option<Tag>,
    /// Tags that are copied again when their source digests change.
    pub check_digest: CheckDigest,
    /// If true, the old digest of an overwritten tag is kept under another tag.
    pub keep_replaced: bool,
    /// Platforms to copy; `None` for all.
    pub platforms: Option<Vec<Platform>>,
    /// Handling of an index of which only some platforms are copied.
    pub platform_mode: PlatformMode,
    /// Handling of an image that lacks some of `platforms`.
    pub platforms_missing: MissingPlatforms,
    /// If true, images that cannot be copied are skipped: Docker schema 1, and images without any
    /// of `platforms`.
    pub skip_unsupported: bool,
    /// If true, signatures, SBOMs and attestations are copied too.
    pub referrers: bool,
    /// If true, a tag that only names an operating system variant is stored under the most specific
    /// version tag.
    pub os_normalize: bool,
    /// Products whose end of life applies to the images.
    pub lifecycle: Vec<ImageLifecycle>,
    /// Cleanup rules of this mirror: the general rules with the overrides of this entry. `None` if
    /// neither is configured.
    pub retention: Option<RetentionConfig>,
    /// Hooks that run after this entry if it changed something.
    pub post_sync: Vec<Hook>,
}

/// Tags of a mirror that exist at the target and follow the source (`sync.entries[].check_digest`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckDigest {
    /// Tags that move: those without a version, and those that another listed tag refines.
    Auto,
    /// All tags.
    Always,
    /// No tags.
    Never,
}

/// Handling of an image that lacks some of the platforms to copy
/// (`sync.entries[].platforms_missing`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingPlatforms {
    /// Copy the others, with a warning.
    Warn,
    /// Do not copy the tag.
    Skip,
    /// Report an error.
    Fail,
}

/// A tag with an optional digest: `3.21.3` or `3.21.3@sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedTag {
    pub tag: Tag,
    pub digest: Option<Digest>,
}

/// Handling of an index of which only some platforms are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlatformMode {
    /// Write a new index that contains only the copied images and their attestations.
    Rewrite,
    /// Copy the index unchanged. The target lacks the images of the other platforms.
    Sparse,
}

/// Common prefix of repository names: `registry:5000`, `registry.example.com/bases` or
/// `ocidir://directory`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasePath(String);

impl BasePath {
    /// Returns the repository with this prefix and `path`.
    pub fn join(&self, path: &str) -> Result<Repository, InvalidName> {
        format!("{}/{path}", self.0).parse()
    }
}

impl FromStr for BasePath {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<BasePath, InvalidName> {
        let base = BasePath(text.trim_end_matches('/').to_owned());
        if base.0.is_empty() {
            return Err(InvalidName {
                text: text.to_owned(),
                expected: "a base path",
                reason: "it is empty".to_owned(),
            });
        }
        match base.join("name") {
            Ok(_) => Ok(base),
            Err(error) => Err(InvalidName {
                text: text.to_owned(),
                expected: "a base path",
                reason: error.reason,
            }),
        }
    }
}

impl fmt::Display for BasePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Base images and how to build them (`build`).
#[derive(Clone, Debug)]
pub struct BuildConfig {
    /// Default core version of the images.
    pub core_version: String,
    /// Base path of the repositories that the images are pushed to.
    pub registry: BasePath,
    /// Build engine.
    pub engine: EngineChoice,
    /// Name of the buildx builder; `None` for docker's default builder.
    pub builder: Option<String>,
    /// Template of the tags.
    pub tag_format: String,
    /// Handling of a base image whose digest changed under an unchanged tag.
    pub on_base_change: OnBaseChange,
    /// Maximum number of images that are built at the same time.
    pub parallelism: usize,
    /// Hooks that run after each image.
    pub post_image_build: Vec<Hook>,
    /// The base images.
    pub images: Vec<BuildImage>,
}

/// Build engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    /// The first engine that is available and supports the build.
    Auto,
    Buildx,
    Docker,
    Buildah,
    Podman,
    Native,
}

/// Action if the base image of a published tag has a new digest and all other inputs are unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBaseChange {
    /// Keep the published image.
    Skip,
    /// Build the image again and overwrite the tag.
    Rebuild,
    /// Fail the image.
    Fail,
}

/// Amount of provenance that the engine attaches to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProvenanceMode {
    Off,
    Min,
    Max,
}

/// One base image (`build.images[]`), with all inherited settings filled in.
#[derive(Clone, Debug)]
pub struct BuildImage {
    /// Name of the image below `build.registry`.
    pub name: String,
    /// Repository that the image is pushed to: `<build.registry>/<name>`.
    pub repository: Repository,
    /// Directory with the template and the files that it copies.
    pub folder: PathBuf,
    /// File name of the template, relative to `folder`.
    pub template: String,
    /// Type of the image.
    pub image_type: ImageType,
    /// Repository of the base image.
    pub mirror_image: Repository,
    /// Tag of the base image; `None` for the newest tag that the sync entry with the target
    /// `mirror_image` selects.
    pub mirror_tag: Option<Tag>,
    /// Upstream version in the tag; `None` for the tag of the base image.
    pub version: Option<String>,
    /// Core version in the tag.
    pub core_version: String,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Floating tags that point to the newest build.
    pub aliases: Vec<Tag>,
    /// Platforms to build for.
    pub platforms: Vec<Platform>,
    /// If true, an SBOM is attached.
    pub sbom: bool,
    /// Provenance to attach.
    pub provenance: ProvenanceMode,
    /// Hooks that run after the image is pushed.
    pub post_image_build: Vec<Hook>,
    /// Cleanup rules of this image: the general rules with the overrides of this image. `None` if
    /// neither is configured.
    pub retention: Option<RetentionConfig>,
    /// Products in the image, which replace the inherited ones; `None` if the key is not set.
    pub lifecycle: Option<Vec<ImageLifecycle>>,
}

/// Type of a base image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageType {
    /// A core production image.
    Core,
    /// A special-purpose image.
    Special,
    /// A special-purpose image for development, without end-of-life checks and not in reports.
    SpecialDevelopment,
}

/// Rules that select the tags that `cleanup` deletes (`retention`).
#[derive(Clone, Debug)]
pub struct RetentionConfig {
    /// Number of newest tags to keep of each group.
    pub keep_last: usize,
    /// Groups in which `keep_last` counts.
    pub per: RetentionGroup,
    /// Age in days above which tags expire; `None` for no limit.
    pub max_age_days: Option<u32>,
    /// Combination of `keep_last` and `max_age_days`.
    pub match_mode: RetentionMatch,
    /// Tags that are never deleted.
    pub exclude_tags: Vec<TagExclusion>,
    /// Minimum number of tags that remain in a repository.
    pub min_keep: usize,
    /// Maximum share of the tags of a repository that one run may delete, in percent.
    pub max_delete_percent: u8,
    /// If true, cleanup stops if build records are expected and there is none at all.
    pub require_records: bool,
    /// Images that others need; `None` in the rules of an entry or image.
    pub keepers: Option<KeeperConfig>,
    /// Archive for tags before they are deleted; `None` if disabled.
    pub archive: Option<ArchiveConfig>,
    /// Number of days that a selected tag waits before it is deleted.
    pub grace_days: u32,
    /// State of a tag while it waits.
    pub grace: GraceMode,
}

/// Tags among which `keep_last` counts (`retention.per`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetentionGroup {
    /// All tags of the repository.
    Repository,
    /// Tags with the same first two numbers of the version.
    Minor,
    /// Tags with the same text after the version, without its numbers.
    Variant,
}

/// State of a tag while it waits for its deletion (`retention.grace`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraceMode {
    /// The tag stays as it is.
    Wait,
    /// The image is moved to another tag, so that users of the old one notice.
    Retire,
}

/// Images that others need and `cleanup` keeps (keys of the general `retention`).
#[derive(Clone, Debug, Default)]
pub struct KeeperConfig {
    /// Repositories of applications that are cleaned up as well.
    pub repositories: Vec<RepositoryPattern>,
    /// Bases of other configurations, which records may name.
    pub foreign_bases: Vec<RepositoryPattern>,
    /// Images that are never deleted. Each has a tag or a digest.
    pub hold: Vec<ImageReference>,
    /// Lists of images that are in use elsewhere.
    pub keep_from: Vec<KeepSource>,
    /// Deployed images to keep; `None` if the key is not set.
    pub keep_deployed: Option<DeployedConfig>,
    /// Addresses of the project of this configuration, also former ones.
    pub sources: Vec<String>,
}

/// Deployments whose images `cleanup` keeps (`retention.keep_deployed`).
#[derive(Clone, Debug)]
pub struct DeployedConfig {
    /// Environments of each project. Not empty.
    pub environments: Vec<NamePattern>,
    /// Number of newest deployed commits of each environment.
    pub per_environment: usize,
}

/// A name, in which `*` and `?` match any characters.
#[derive(Clone, Debug)]
pub struct NamePattern {
    pub text: String,
    glob: GlobMatcher,
}

impl NamePattern {
    /// Returns the pattern, or the reason why `text` is none.
    pub fn new(text: &str) -> Result<NamePattern, String> {
        let glob = GlobBuilder::new(text)
            .build()
            .map_err(|error| error.kind().to_string())?;
        Ok(NamePattern {
            text: text.to_owned(),
            glob: glob.compile_matcher(),
        })
    }

    /// Returns true if the pattern matches the whole name.
    pub fn matches(&self, name: &str) -> bool {
        self.glob.is_match(name)
    }

    /// Returns true if the pattern has no wildcard, so that it matches only itself.
    pub fn is_name(&self) -> bool {
        !self.text.contains(['*', '?', '[', ']', '{', '}', '\\'])
    }
}

/// Source of a list of images that are in use (`retention.keep_from`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeepSource {
    StandardInput,
    File(PathBuf),
    Url(url::Url),
}

impl fmt::Display for KeepSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeepSource::StandardInput => formatter.write_str("-"),
            KeepSource::File(path) => write!(formatter, "{}", path.display()),
            KeepSource::Url(url) => write!(formatter, "{url}"),
        }
    }
}

/// A repository, in which `*` and `?` match any characters.
#[derive(Clone, Debug)]
pub struct RepositoryPattern {
    pub text: String,
    glob: GlobMatcher,
}

impl RepositoryPattern {
    /// Returns the pattern, or the reason why `text` is none.
    pub fn new(text: &str) -> Result<RepositoryPattern, String> {
        let glob = GlobBuilder::new(text)
            .build()
            .map_err(|error| error.kind().to_string())?;
        Ok(RepositoryPattern {
            text: text.to_owned(),
            glob: glob.compile_matcher(),
        })
    }

    /// Returns true if the pattern matches the whole name.
    pub fn matches(&self, repository: &Repository) -> bool {
        self.glob.is_match(repository.to_string())
    }
}

/// Number of rules that must select a tag for deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetentionMatch {
    /// Every rule that is set.
    All,
    /// At least one rule.
    Any,
}

/// Tags that are never deleted.
#[derive(Clone, Debug)]
pub enum TagExclusion {
    /// The tag with this name.
    Exact(String),
    /// All tags that match completely.
    Pattern(TagPattern),
}

/// Archive of deleted tags (`retention.archive`).
#[derive(Clone, Debug)]
pub struct ArchiveConfig {
    /// Base path of the archive.
    pub registry: BasePath,
    /// Number of days after which archived tags are deleted.
    pub keep_days: u32,
}

/// End-of-life data and notifications (`lifecycle`).
#[derive(Clone, Debug)]
pub struct LifecycleConfig {
    /// Source of the data.
    pub provider: EolProvider,
    /// Destination of the data.
    pub target: EolTarget,
    /// File with the data.
    pub data_file: PathBuf,
    /// URL of the endoflife.date API.
    pub api_url: url::Url,
    /// Number of days before an end-of-life date at which warnings start.
    pub warn_days: u32,
    /// Support phase whose end counts, unless an image sets another one.
    pub phase: Phase,
    /// Name of the environment variable with the URL of the Slack webhook.
    pub slack_webhook_variable: Option<String>,
    /// Name of the environment variable with the URL of a generic webhook.
    pub webhook_variable: Option<String>,
    /// Numbers of days before an end-of-life date at which notifications are sent.
    pub notify_at_days: Vec<u32>,
}

/// Source of end-of-life data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EolProvider {
    /// The endoflife.date API.
    Endoflife,
    /// Only the data file.
    Local,
}

/// Destination of end-of-life data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EolTarget {
    /// The data file in the working tree.
    Git,
    /// The package registry.
    PackageRegistry,
}

/// Content of the status report (`status`).
#[derive(Clone, Debug)]
pub struct StatusConfig {
    /// Title of the report; `None` for the default.
    pub title: Option<String>,
    /// Markdown that is inserted below the tables.
    pub client_zone: Option<String>,
    /// If true, the report has a diagram of the image lineage.
    pub graph: bool,
    /// If true, the report has a timeline of end-of-life dates.
    pub timeline: bool,
}
