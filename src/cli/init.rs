//! `imglife init`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::app::{InitForge, InitOptions};

/// Write the files of a new repository of base images
///
/// A configuration with one mirror and one base image, the template of its Dockerfile, a pipeline
/// for GitLab or a workflow for Gitea and Forgejo, and a preset for Renovate. Addresses follow from
/// git's remote `origin`. Nothing is overwritten: where one of the files is there already, none is
/// written, except that a `.gitignore` is kept as it is.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife init
      in a clone: for the forge that it was cloned from
  imglife init --forge gitea --dir base-images
      into a new directory
  imglife init --registry registry.example.com/platform
      with mirrors and base images in a registry of its own

Exit codes:
  0  written
  1  a file could not be written; none is left
  2  a file is there already, or it cannot be told which forge it is for; nothing was written")]
pub(super) struct InitArguments {
    /// Whose CI runs the pipeline [default: that of the remote `origin`, by its name]
    #[arg(long, value_name = "FORGE", value_enum)]
    forge: Option<Forge>,

    /// The directory to write to; it is made when it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,

    /// What the names of mirrors and base images begin with [default: the registry of the forge]
    #[arg(long, value_name = "HOST/PATH")]
    registry: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Forge {
    Gitlab,
    /// Gitea or Forgejo
    Gitea,
}

impl InitArguments {
    pub(super) fn options(self) -> InitOptions {
        let forge = self.forge.map(|forge| match forge {
            Forge::Gitlab => InitForge::Gitlab,
            Forge::Gitea => InitForge::Gitea,
        });
        InitOptions {
            forge,
            directory: self.dir,
            registry: self.registry,
        }
    }
}
