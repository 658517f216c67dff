//! `imglife man`.

use std::io;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use thiserror::Error;

use super::{Cli, to_stdout};
use crate::error::{Exit, Failure};
use crate::process::Process;

/// Print a manual page, or write all of them
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife man | man -l -
      read the page of the program
  imglife man config check | man -l -
      read the page of a command
  imglife man --dir /usr/local/share/man/man1
      write a page for each command")]
pub(super) struct ManArguments {
    /// The command to describe [default: the program itself]
    command: Vec<String>,

    /// Write the pages of all commands to this directory, which is made where it is missing
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Error)]
enum ManError {
    #[error("there is no command `{0}`")]
    NoCommand(String),
    #[error("manual pages could not be written to {directory}")]
    Unwritable { directory: PathBuf, source: io::Error },
    #[error("the manual page could not be drawn")]
    Undrawable(#[source] io::Error),
}

impl ManArguments {
    pub(super) fn run(&self, process: &Process) -> Result<Exit, Failure> {
        let mut program = Cli::command();
        if let Some(directory) = &self.dir {
            let written = std::fs::create_dir_all(process.directory.join(directory))
                .and_then(|()| clap_mangen::generate_to(program, process.directory.join(directory)));
            return match written {
                Ok(()) => Ok(Exit::Done),
                Err(source) => Err(Failure::failed(ManError::Unwritable { directory: directory.clone(), source })),
            };
        }
        // Gives every command its full name, which its page shows.
        program.build();
        let mut command = &program;
        for name in &self.command {
            command = command
                .find_subcommand(name)
                .ok_or_else(|| Failure::usage(ManError::NoCommand(self.command.join(" "))).hint("`imglife --help` lists the commands"))?;
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).render(&mut page).map_err(|error| Failure::failed(ManError::Undrawable(error)))?;
        to_stdout(&page, process)
    }
}
