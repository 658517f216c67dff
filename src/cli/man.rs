//! `imglife man`.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;
use thiserror::Error;

use crate::app::{CommandContext, refuse_link_out};
use crate::error::{Exit, Failure};

/// Print a manual page, or write all manual pages
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  imglife man | man -l -
      show the page of the program
  imglife man config check | man -l -
      show the page of a command
  imglife man --dir /usr/local/share/man/man1
      write a page for each command")]
pub(super) struct ManArguments {
    /// Command to describe [default: the program itself]
    command: Vec<String>,

    /// Write the pages of all commands to this directory, which is created if it does not exist
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Error)]
enum ManError {
    #[error("there is no command `{0}`")]
    NoCommand(String),
    #[error("manual pages could not be written to {directory}")]
    Unwritable {
        directory: PathBuf,
        source: io::Error,
    },
    #[error("the manual page could not be generated")]
    Undrawable(#[source] io::Error),
}

impl ManArguments {
    /// Prints the page of a command of `program`, or writes the pages of all commands.
    pub(super) fn run(
        &self,
        mut program: Command,
        context: &CommandContext,
    ) -> Result<Exit, Failure> {
        // Sets the full names of the commands, which the pages show.
        program.build();
        if let Some(directory) = &self.dir {
            let path = context.process.directory.join(directory);
            let written = refuse_link_out(&context.process.directory, &path)
                .and_then(|()| std::fs::create_dir_all(&path))
                .and_then(|()| write_pages(&program, &path));
            return match written {
                Ok(()) => Ok(Exit::Done),
                Err(source) => Err(Failure::failed(ManError::Unwritable {
                    directory: directory.clone(),
                    source,
                })),
            };
        }
        let mut command = &program;
        for name in &self.command {
            command = command.find_subcommand(name).ok_or_else(|| {
                Failure::usage(ManError::NoCommand(self.command.join(" ")))
                    .hint("`imglife --help` lists the commands")
            })?;
        }
        let mut drawn = Vec::new();
        page(command)
            .render(&mut drawn)
            .map_err(|error| Failure::failed(ManError::Undrawable(error)))?;
        context.print(&String::from_utf8_lossy(&drawn))?;
        Ok(Exit::Done)
    }
}

fn page(command: &Command) -> Man {
    Man::new(command.clone())
        .source(concat!("imglife ", env!("CARGO_PKG_VERSION")))
        .manual("imglife manual")
}

fn write_pages(command: &Command, directory: &Path) -> io::Result<()> {
    page(command).generate_to(directory)?;
    command
        .get_subcommands()
        .filter(|subcommand| subcommand.get_name() != "help")
        .try_for_each(|subcommand| write_pages(subcommand, directory))
}
