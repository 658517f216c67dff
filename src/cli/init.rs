//! `imglife init`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::app::{InitForge, InitOptions};

/// Create the files of a new base image repository
///
/// Writes a configuration with one mirror and one base image, the template of its Dockerfile, a
/// pipeline for GitLab or a workflow for Gitea and Forgejo, and a preset for Renovate. Server and
/// registry addresses are derived from the git remote `origin`. No file is overwritten: if one of
/// the files exists, nothing is written. An existing `.gitignore` is left unchanged.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife init
      create the files in a clone, for the server that it was cloned from
  imglife init --forge gitea --dir base-images
      create the files in a new directory
  imglife init --registry registry.example.com/platform
      use another registry for mirrors and base images

Exit codes:
  0  success
  1  a file could not be written; all files were removed again
  2  a file exists already, or the forge cannot be detected; nothing was written")]
pub(super) struct InitArguments {
    /// Forge that runs the pipeline [default: detected from the host name of the remote `origin`]
    #[arg(long, value_name = "FORGE", value_enum)]
    forge: Option<ForgeArgument>,

    /// Directory to write to; it is created if it does not exist
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,

    /// Prefix of the names of mirrors and base images [default: the registry of the forge]
    #[arg(long, value_name = "HOST/PATH")]
    registry: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ForgeArgument {
    Gitlab,
    /// Gitea or Forgejo
    Gitea,
}

impl InitArguments {
    pub(super) fn options(self) -> InitOptions {
        let forge = self.forge.map(|forge| match forge {
            ForgeArgument::Gitlab => InitForge::Gitlab,
            ForgeArgument::Gitea => InitForge::Gitea,
        });
        InitOptions {
            forge,
            directory: self.dir,
            registry: self.registry,
        }
    }
}
