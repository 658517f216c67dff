//! `imglife demo`.

use std::path::PathBuf;

use clap::Args;

use crate::demo::DemoOptions;

/// See it work on a sample world, without a server or network
///
/// Writes a sample repository with small upstream images into a directory, runs the real commands
/// on it, and says what to look at next.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife demo
      run it in a temporary directory
  imglife demo world --keep
      run it in ./world and keep that directory to look around")]
pub(super) struct DemoArguments {
    /// The directory to work in [default: a temporary one]
    directory: Option<PathBuf>,

    /// Keep the directory afterwards
    #[arg(long)]
    keep: bool,
}

impl DemoArguments {
    pub(super) fn options(self) -> DemoOptions {
        DemoOptions {
            directory: self.directory,
            keep: self.keep,
        }
    }
}
