//! The configuration file `imglife.yaml`: reading, expanding, checking and describing it.
//!
//! Owns the file format and the checked [`Config`], in which defaults are filled in and invalid
//! combinations cannot occur. Reads only the file that the caller names; of other
//! paths it follows symbolic links, to check that they stay in the repository. Imports nothing of
//! credentials or of the commands that use the configuration.
//!
//! - `source` finds and reads the file.
//! - `raw` parses YAML into a tree with positions.
//! - `expand` replaces references to environment variables.
//! - `table` defines every key: its type, its default and its description.
//! - `check` turns the tree into a [`Config`], or reports everything that is wrong with it.
//! - `settings` defines [`Config`] and the types in it; `keywords` defines the values of its enums.
//! - `canonical` maps different names of a repository to one name.
//! - `foreign` reads the configuration of another repository.
//! - `schema` writes the JSON Schema; `show` writes a configuration back as YAML.

mod canonical;
mod check;
#[cfg(test)]
mod docs_tests;
mod entries;
mod errors;
mod expand;
mod foreign;
pub mod import;
mod keywords;
mod raw;
mod readiness;
mod schema;
mod selection;
mod settings;
mod show;
mod source;
mod source_text;
mod table;

pub use check::load;
pub use errors::{ConfigErrors, ConfigFinding, Span};
pub use foreign::{ForeignConfig, load_foreign};
pub use readiness::readiness;
pub use schema::schema;
pub use selection::{CountBy, PatternSelection, SortBy, SyncGroup, TagSelection};
pub use settings::{
    ArchiveConfig, BasePath, BuildConfig, BuildImage, CheckDigest, ClientCertificateFiles, Config,
    DeployedConfig, EngineChoice, EolProvider, EolTarget, GraceMode, HostSettings, ImageType,
    KeepSource, KeeperConfig, LifecycleConfig, MissingPlatforms, NamePattern, OnBaseChange,
    PinnedTag, PlatformMode, ProvenanceMode, RegistryConfig, RegistryProvider, RepositoryPattern,
    RetentionConfig, RetentionGroup, RetentionMatch, StatusConfig, SyncConfig, SyncEntry,
    TagExclusion,
};
pub use show::show;
pub use source::{DEFAULT_NAME, OpenError, find, open, read};
pub use source_text::SourceText;

pub use crate::model::eol::{Acceptance, Phase};
pub use crate::model::hook::{Hook, HookCommand};
pub use crate::model::lifecycle::{Extract, ImageLifecycle, TagPattern};
