//! `imglife completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, to_stdout};
use crate::app::Surroundings;
use crate::error::{Exit, Failure};

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife completions bash > /etc/bash_completion.d/imglife
  imglife completions zsh > \"${fpath[1]}/_imglife\"
  imglife completions fish > ~/.config/fish/completions/imglife.fish")]
pub(super) struct CompletionsArguments {
    /// The shell to complete in
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsArguments {
    pub(super) fn run(&self, surroundings: &Surroundings) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "imglife", &mut script);
        to_stdout(&script, surroundings)
    }
}
