//! Build engines: build an image from a Dockerfile and its build context, and push it.
//!
//! Owns how each engine is found and called, and how its output is interpreted. The caller decides
//! which images to build, in which order, and whether to build them at all.

mod buildah;
mod buildx;
mod buildx_builder;
mod docker;
mod emulation;
mod emulators;
mod engine;
pub mod native;
mod private_config;
mod program;
mod programs;
#[cfg(test)]
mod tests;

pub use buildx_builder::{BuilderNode, BuilderNodeError, BuildxBuilder};
pub use emulators::Emulators;
pub use engine::{
    Attestations, BuildOutcome, BuildRequest, Engine, EngineError, EngineName, HostCredential,
    Provenance,
};
pub use private_config::{PrivateConfig, PrivateConfigError};
pub use programs::Programs;
