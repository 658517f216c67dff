//! Registries, by the OCI distribution API.
//!
//! Owns its paths, headers and errors, and hashes content instead of trusting headers. Connections,
//! authentication and retries of single requests are in `http`.
//!
//! Files, each of which imports only files above it:
//!
//! - `classify`: mapping of HTTP errors to error kinds
//! - `repository`: one repository, its requests and errors
//! - `tags`, `catalog`, `manifest`, `blob`, `referrers`: reading
//! - `tag_case`: whether a registry distinguishes upper and lower case in tags
//! - `dates`: push dates, by the interfaces of some registries
//! - `delete`: deleting tags and manifests
//! - `content`, `session`, `upload`: writing blobs
//! - `registries`: all registries as one store
//! - `probe`: checking a registry without changing it

mod blob;
#[cfg(test)]
mod blob_tests;
mod catalog;
mod classify;
mod content;
mod dates;
mod delete;
#[cfg(test)]
mod delete_tests;
mod manifest;
mod probe;
mod referrers;
mod registries;
mod repository;
mod session;
mod tag_case;
mod tags;
#[cfg(test)]
mod tests;
mod upload;
#[cfg(test)]
mod upload_tests;

pub use registries::RemoteRegistries;
