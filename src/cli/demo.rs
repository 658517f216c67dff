//! `imglife demo`.

use std::path::PathBuf;

use clap::Args;

use crate::demo::DemoOptions;

/// Try imglife on sample data, without a server or network
///
/// Writes a sample repository with small upstream images into a directory, runs the real commands
/// on it, and suggests what to try next.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife demo
      run in a temporary directory
  imglife demo world --keep
      run in ./world, and keep that directory")]
pub(super) struct DemoArguments {
    /// Directory for the sample data [default: a temporary directory]
    directory: Option<PathBuf>,

    /// Keep the temporary directory
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
