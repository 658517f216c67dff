//! Value types shared by all rooms: names, digests, descriptors, manifests, platforms, versions,
//! release cycles.
//!
//! Owns parsing, ordering and display of these values. Does no input or output and imports no other
//! room.

pub mod cleanup_journal;
pub mod clock;
pub mod descriptor;
pub mod digest;
pub mod duration;
pub mod env;
pub mod eol;
#[cfg(test)]
pub(crate) mod fuzz_tests;
pub mod hook;
pub mod image_config;
pub mod inventory;
pub mod job_trust;
pub mod labels;
pub mod lifecycle;
pub mod lock;
pub mod manifest;
pub mod media_type;
pub mod platform;
pub mod record;
pub mod reference;
pub mod secret;
pub mod tag;
pub mod tag_history;
pub mod text;
pub mod variable_rules;
pub mod variables;

pub use cleanup_journal::{JournalBatch, JournalChange, JournalManifest};
pub use clock::Clock;
pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, Hasher};
pub use image_config::ImageConfig;
pub use inventory::Inventory;
pub use job_trust::{JobTrust, Permissions, UntrustedReason};
pub use manifest::{Manifest, ManifestContent};
pub use platform::Platform;
pub use record::BuildRecord;
pub use reference::{Host, ImageReference, Reference, Repository, RepositoryPath, Tag};
pub use secret::Secret;
pub use tag::{TagList, TagVersion, VersionRange};
pub use tag_history::{RetiredTag, TagHistory, TagHold, TagSighting};
pub use variables::{ExpansionRefusal, Variables};
