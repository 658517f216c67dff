//! Image stores: the traits that all other rooms use, and their implementations.
//!
//! Owns the rules for every store: absent content is `None`, and content is verified before it is
//! kept. It does not depend on configuration, selection or copying.
//!
//! Files, each of which imports only files above it:
//!
//! - `blob`: blob content on its way between stores
//! - `store`: the traits and their values
//! - `verify`: verification of content while it streams
//! - `listing`: limits of listings that are read page by page
//! - `stores`: the stores of a run
//! - `layout`, `memory`, `remote`: the implementations

mod blob;
pub mod layout;
mod listing;
pub mod memory;
pub mod remote;
mod store;
mod stores;
mod verify;

pub use blob::{BlobContent, BlobPut, BlobStream, InMemory};
pub use store::{
    Deletion, DeletionSupport, ImageSource, ImageStore, ListedTag, ProvedTags, Referrers, Resolved,
    Support, SweepKeep, SweepResult, TagCase, UntaggedManifest,
};
pub use stores::ImageStores;
pub use verify::{read_config, verified};
