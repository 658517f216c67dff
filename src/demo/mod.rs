//! The sample world of `imglife demo`, driven through `app`: no server, no network.

use std::path::PathBuf;

use crate::app::Surroundings;
use crate::error::{Exit, Failure};

/// What a demo was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoOptions {
    /// Where the sample world is written; a temporary directory when absent. Relative to the working directory.
    pub directory: Option<PathBuf>,
    /// Keep the directory afterwards.
    pub keep: bool,
}

/// Runs the demo.
pub fn run(_: DemoOptions, _: &Surroundings) -> Result<Exit, Failure> {
    Err(Failure::failed("the demo is not wired yet"))
}
