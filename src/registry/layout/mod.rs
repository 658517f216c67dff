//! OCI image layout directories as stores (`ocidir://`).
//!
//! One directory is one repository. Its tags are the entries of `index.json` that have a name.
//!
//! Owns reading; writing that never leaves a partial file; and removing unreferenced content.
//! Content gets its name when it is complete. `index.json` is replaced in one step, by one writer at
//! a time.
//!
//! Files, each of which imports only files above it:
//!
//! - `index`: the document `index.json`
//! - `operation`: one operation on one layout directory
//! - `writer`: the right to write into a layout directory
//! - `content`: manifests, blobs and tags, read and written
//! - `referrers`: manifests that refer to another manifest
//! - `siblings`: other layouts next to a layout
//! - `sweep`: removing unreferenced content
//! - `layouts`: the store
//! - `probe`: checking a layout directory without changing it

mod content;
mod index;
mod layouts;
mod operation;
mod probe;
mod referrers;
mod siblings;
mod sweep;
#[cfg(test)]
mod tests;
mod writer;

pub use layouts::Layouts;
#[cfg(test)]
pub(crate) use sweep::aged_files;
