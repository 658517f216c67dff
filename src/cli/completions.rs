//! `imglife completions`.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::app::CommandContext;
use crate::error::{Exit, Failure};

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife completions bash > /etc/bash_completion.d/imglife
  imglife completions zsh > \"${fpath[1]}/_imglife\"
  imglife completions fish > ~/.config/fish/completions/imglife.fish")]
pub(super) struct CompletionsArguments {
    /// Shell to print the script for
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsArguments {
    /// Prints the script that completes the command line of `program`.
    pub(super) fn run(
        &self,
        mut program: Command,
        context: &CommandContext,
    ) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, "imglife", &mut script);
        context.print(&String::from_utf8_lossy(&script))?;
        Ok(Exit::Done)
    }
}
