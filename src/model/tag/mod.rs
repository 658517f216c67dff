//! Tags as their publishers spell them: version, pre-release, date, revision and variant.
//!
//! A tag consists of words and numbers in an order that each publisher chooses: `3.21.3`,
//! `v1.2.3-rc.1`, `8u502-b07-jdk-alpine-3.24`, `slim-2.10.2rc1-python3.12`, `bookworm-20260803-slim`.
//! [`TagVersion`] is the one model of it:
//!
//! - `parse` reads a tag,
//! - `order` defines the newer one of two tags,
//! - `variant` defines which tags can replace each other,
//! - `list` answers questions that need the other tags of a repository,
//! - `pattern` finds pre-release words in regular expressions,
//! - `range` defines ranges of versions,
//! - `words` contains the tables of words, each with its source.

pub mod list;
pub mod number;
pub mod order;
pub mod parse;
pub mod pattern;
pub mod range;
#[cfg(test)]
mod tests;
pub mod variant;
pub mod version;
pub mod words;

pub use list::TagList;
pub use number::VersionNumber;
pub use order::OrderBasis;
pub use pattern::spells_pre_release;
pub use range::{InvalidRange, VersionRange};
pub use variant::{Variant, VariantWord};
pub use version::{PreReleasePart, TagDate, TagVersion};
pub use words::PreReleaseKind;
