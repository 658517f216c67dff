//! The key table: every key of the file with its type, its default and its description.
//!
//! The only source of this information for the check, the JSON Schema and the reference in
//! `docs/configuration.md`. A key that is not in the table cannot be read; a test fails if a key in
//! the table is never read. One file for each section.

mod build;
mod hooks;
mod lifecycle;
mod registry;
mod retention;
mod spec;
mod status;
mod sync;

pub(in crate::config) use build::{BUILD, IMAGE};
pub(in crate::config) use hooks::{BUILD_HOOKS, ENTRY_HOOKS, HOOK, IMAGE_HOOKS, SYNC_HOOKS};
pub(in crate::config) use lifecycle::{ACCEPT, IMAGE_LIFECYCLE, LIFECYCLE, NOTIFY};
pub(in crate::config) use registry::{HOST, REGISTRY};
pub(in crate::config) use retention::{ARCHIVE, KEEP_DEPLOYED, RETENTION};
use spec::key;
pub(in crate::config) use spec::{KeySpec, SectionSpec, Shape};
pub(in crate::config) use status::STATUS;
pub(in crate::config) use sync::{ENTRY, SYNC};

/// All sections, the root first.
pub(in crate::config) static SECTIONS: [&SectionSpec; 20] = [
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

pub(in crate::config) static ROOT: SectionSpec = SectionSpec {
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
