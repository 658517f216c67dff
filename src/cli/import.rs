//! `imglife import`.

use std::path::PathBuf;

use clap::Args;

use super::output::OutputFormArgument;
use crate::app::ImportOptions;

/// Convert the file of another mirroring tool to `imglife.yaml`
///
/// Reads the YAML of regsync, skopeo sync, dregsy or image-syncer. What has no equivalent is a
/// comment in the file and a note in the report. Credentials are never written to the file.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife import regsync.yml
      write imglife.yaml
  imglife import skopeo.yaml --target registry.example.com/mirrors --to -
      print the configuration, with these targets

Exit codes:
  0  the file is written
  2  the file cannot be read, is of no known tool, or the output exists")]
pub(super) struct ImportArguments {
    /// File of the other tool
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// File to write; `-` for stdout [default: imglife.yaml]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,

    /// Start of the targets, for skopeo sync, whose files do not contain them
    #[arg(long, value_name = "PREFIX")]
    target: Option<String>,

    /// Replace an existing file
    #[arg(long)]
    force: bool,

    /// Format of the report on stdout
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: OutputFormArgument,
}

impl ImportArguments {
    pub(super) fn options(self) -> ImportOptions {
        ImportOptions {
            file: self.file,
            to: self.to,
            target: self.target,
            force: self.force,
            output: self.output.into(),
        }
    }
}
