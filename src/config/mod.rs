//! The configuration, checked: what `imglife.yaml` says, with defaults filled in and impossible
//! states gone.
//!
//! `raw` is the file as written, with positions; `expand` inserts variables; `table` says which
//! keys there are; `check` collects every finding and builds [`Config`] only when there is none;
//! `schema` describes the file to editors, `show` writes it back. Reads the file that it is told;
//! knows nothing of credentials and of what commands do.

mod check;
#[cfg(test)]
mod docs_tests;
mod errors;
mod expand;
mod foreign;
mod place;
mod raw;
mod schema;
mod show;
mod source;
mod table;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use check::load;
pub use errors::{ConfigErrors, Finding, Span};
pub use foreign::{Foreign, load_foreign};
pub use schema::schema;
pub use show::{show, suffices};
pub use source::{DEFAULT_NAME, OpenError, SourceText, find, open, read};

pub use crate::model::eol::{Acceptance, Phase};
pub use crate::model::hook::{Hook, HookCommand};
pub use crate::model::lifecycle::{Extract, ImageLifecycle, TagPattern};
use crate::model::reference::InvalidName;
use crate::model::{Host, Platform, Repository, Tag};

/// The whole configuration. Sections that a command needs and the file lacks are reported by the
/// command.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from, for messages; `None` when it came from variables alone.
    pub file: Option<PathBuf>,
    /// The directory that relative paths were resolved against.
    pub directory: PathBuf,
    pub registry: Option<Registry>,
    /// OCI hosts spoken to over plain HTTP.
    pub insecure_registries: Vec<Host>,
    pub hosts: BTreeMap<Host, HostSettings>,
    pub sync: Option<Sync>,
    pub build: Option<Build>,
    pub retention: Option<Retention>,
    pub lifecycle: Lifecycle,
    pub status: Status,
}

/// Where build records and package files live.
#[derive(Clone, Debug)]
pub struct Registry {
    pub provider: Provider,
    pub prefix: Option<String>,
}

#[derive(Clone, Debug)]
pub enum Provider {
    /// `url` and `project_id` are required by commands that use records, not by the file.
    Gitlab {
        url: Option<url::Url>,
        api_url: Option<url::Url>,
        project_id: Option<u64>,
        config_ref: String,
    },
    Gitea {
        url: Option<url::Url>,
        api_url: Option<url::Url>,
        owner: String,
        repo: Option<String>,
        config_ref: String,
    },
    S3 {
        endpoint: Option<url::Url>,
        bucket: String,
        region: String,
    },
    File {
        directory: PathBuf,
    },
}

/// How to speak to one OCI host.
#[derive(Clone, Debug, Default)]
pub struct HostSettings {
    /// Where the host's traffic is sent instead; names stay as written.
    pub endpoint: Option<url::Url>,
    pub ca_file: Option<PathBuf>,
    pub client_certificate: Option<ClientCertificate>,
    pub insecure_skip_verify: bool,
    pub max_connections: Option<usize>,
    pub requests_per_second: Option<f64>,
}

/// A client certificate and its key, both PEM files.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Sync {
    /// Images in flight at once.
    pub parallelism: usize,
    pub entries: Vec<Entry>,
    /// Run after all entries.
    pub post_sync: Vec<Hook>,
}

/// One mirror: which tags of a source are kept at a target.
#[derive(Clone, Debug)]
pub struct Entry {
    pub source: Repository,
    pub target: Repository,
    pub selection: Selection,
    /// Re-sync a tag that exists when the upstream digest changed.
    pub check_digest: bool,
    /// Keep the digest of an overwritten tag under another tag.
    pub keep_replaced: bool,
    /// The platforms to keep; `None` keeps all.
    pub platforms: Option<Vec<Platform>>,
    pub platform_mode: PlatformMode,
    /// Copy signatures, SBOMs and attestations.
    pub referrers: bool,
    pub os_normalize: bool,
    pub lifecycle: Vec<ImageLifecycle>,
    /// What cleanup applies to this mirror: the general retention with this entry's overrides.
    /// `None` without either.
    pub retention: Option<Retention>,
    /// Run after this entry when it changed something.
    pub post_sync: Vec<Hook>,
}

/// Which tags of a source are wanted.
#[derive(Clone, Debug)]
pub enum Selection {
    Fixed(Tag),
    Pattern(Box<PatternSelection>),
}

#[derive(Clone, Debug)]
pub struct PatternSelection {
    /// Matches whole tags.
    pub tag_regex: TagPattern,
    pub exclude_regex: Option<TagPattern>,
    /// Tags pushed upstream less than this ago wait. Applied before `keep_last`.
    pub min_age: Option<Duration>,
    pub sort: SortBy,
    /// The newest so many of what is left; `None` keeps all.
    pub keep_last: Option<usize>,
    /// Fewer selected tags than this fail the entry.
    pub min_tags: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    Version,
    Date,
}

/// What becomes of an index when only some platforms are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlatformMode {
    /// A new index with only the kept children and their attestations.
    Rewrite,
    /// The index bytes untouched; children that are left out are missing.
    Sparse,
}

/// The start of repository names: `registry:5000`, `registry.example.com/bases` or
/// `ocidir://directory`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasePath(String);

impl BasePath {
    /// Returns the repository at `path` below this one.
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

#[derive(Clone, Debug)]
pub struct Build {
    /// What images without one of their own have.
    pub core_version: String,
    pub registry: BasePath,
    pub engine: EngineChoice,
    pub builder: Option<String>,
    pub tag_format: String,
    pub on_base_change: OnBaseChange,
    pub parallelism: usize,
    pub post_image_build: Vec<Hook>,
    pub images: Vec<BuildImage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    Auto,
    Buildx,
    Docker,
    Buildah,
    Podman,
    Native,
}

/// What to do when only the base's digest moved under a published tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBaseChange {
    Skip,
    Rebuild,
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    Off,
    Min,
    Max,
}

/// One base image; what is inherited is filled in.
#[derive(Clone, Debug)]
pub struct BuildImage {
    pub name: String,
    /// The repository it is pushed to: `<build.registry>/<name>`.
    pub repository: Repository,
    pub folder: PathBuf,
    pub template: String,
    pub image_type: ImageType,
    pub mirror_image: Repository,
    /// `None`: the newest tag selected by the one sync entry with this target.
    pub mirror_tag: Option<Tag>,
    /// `None`: the mirror tag.
    pub version: Option<String>,
    pub core_version: String,
    pub args: BTreeMap<String, String>,
    pub aliases: Vec<Tag>,
    pub platforms: Vec<Platform>,
    pub sbom: bool,
    pub provenance: Provenance,
    pub post_image_build: Vec<Hook>,
    pub retention: Option<Retention>,
    /// The products that it says itself, which replace all that it would inherit; `None` when the
    /// key is left out.
    pub lifecycle: Option<Vec<ImageLifecycle>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageType {
    /// Core production image.
    Core,
    /// Special purpose.
    Special,
    /// Development: not end-of-life checked, not in the report.
    SpecialDevelopment,
}

/// Which tags cleanup removes.
#[derive(Clone, Debug)]
pub struct Retention {
    pub keep_last: usize,
    pub max_age_days: Option<u32>,
    pub condemned_by: CondemnedBy,
    pub exclude_tags: Vec<TagExclusion>,
    pub min_keep: usize,
    pub max_delete_percent: u8,
    pub require_records: bool,
    pub archive: Option<Archive>,
}

/// How many of the rules that are set must condemn a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CondemnedBy {
    All,
    Any,
}

#[derive(Clone, Debug)]
pub enum TagExclusion {
    Exact(String),
    Pattern(TagPattern),
}

#[derive(Clone, Debug)]
pub struct Archive {
    pub registry: BasePath,
    pub keep_days: u32,
}

/// How end-of-life data is kept.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    pub provider: EolProvider,
    pub target: EolTarget,
    pub data_file: PathBuf,
    pub api_url: url::Url,
    pub warn_days: u32,
    pub phase: Phase,
    /// Names of the variables that hold the URLs.
    pub slack_webhook_variable: Option<String>,
    pub webhook_variable: Option<String>,
    pub notify_at_days: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EolProvider {
    Endoflife,
    Local,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EolTarget {
    Git,
    PackageRegistry,
}

#[derive(Clone, Debug)]
pub struct Status {
    pub title: Option<String>,
    pub client_zone: Option<String>,
    pub graph: bool,
    pub timeline: bool,
}
