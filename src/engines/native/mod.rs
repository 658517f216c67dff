//! The native engine, which builds images without running commands: it writes layers and pushes
//! them with those of the base image.
//!
//! Owns the interpretation of a Dockerfile with one stage and without `RUN`: the paths of the
//! copied files in the image of each platform, and the image configuration. The same inputs always
//! give the same digest. Images are read and written through the traits of `registry`.

mod archive;
mod base;
mod context_folder;
mod copy;
mod engine;
mod error;
mod file_tree;
mod image_config;
mod layer;
mod layer_plan;
mod listing;
mod push;
mod tar_reader;
mod users;

pub use engine::Native;
