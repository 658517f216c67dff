//! Dockerfiles: the base image of the last stage, typed instructions, and the files that they read.
//!
//! Owns the expansion of arguments and variables, and the resolution of stages that are built on
//! each other. Parses text only and runs nothing. The text is untrusted, so the size of everything
//! that it expands to is limited.

mod arguments;
mod base;
pub mod context;
mod error;
pub mod instructions;
mod lexer;
pub mod patterns;
mod preprocess;
#[cfg(test)]
mod tests;
mod unsupported;

pub use arguments::ArgumentValues;
pub use base::{DockerfileBase, FinalStageBase, final_stage_base};
pub use context::{BuildParameters, ContextFile, ContextFileKind, ContextSelection, context_files};
pub use error::{DockerfileError, DockerfileProblem, MAX_FILE_BYTES};
pub(crate) use unsupported::first_unsupported_step;
pub use unsupported::{UnsupportedInstruction, different_base, first_unsupported};
