//! The command line: arguments, help, completions and manual pages; how failures, logs and progress
//! are drawn on stderr.
//!
//! Nothing of clap leaves this module: `app` is handed plain values.

use std::ffi::OsString;
use std::sync::Arc;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::app::{self, Invocation, Surroundings};
use crate::error::{Exit, Failure};
use crate::process::Process;

mod apps;
mod build;
mod check;
mod cleanup;
mod completions;
mod config;
mod demo;
#[cfg(test)]
mod docs;
mod doctor;
mod eol;
mod failure;
mod git;
mod global;
mod init;
mod logging;
mod man;
mod messages;
mod misspelt;
mod output;
mod progress;
mod register;
mod run;
mod shard;
mod status;
mod sync;
#[cfg(test)]
mod tests;
mod written;

use global::{ColorChoice, GlobalArguments, LogFormat};
use messages::Messages;

/// How wide help is at most, and where no terminal tells its width, in characters.
const HELP_WIDTH: usize = 100;

/// Keep an organisation's container images alive
///
/// Mirrors public images and keeps the mirrors current, builds base images on them, knows when they
/// reach their end of life, and records which applications stand on what. Configured by one file:
/// `imglife.yaml`, or the one that `--config` or `IMGLIFE_CONFIG` names. Reports and data go to
/// stdout; logs, progress and errors to stderr.
#[derive(Debug, Parser)]
#[command(
    name = "imglife",
    bin_name = "imglife",
    version,
    long_version = env!("IMGLIFE_VERSION"),
    arg_required_else_help = true,
    subcommand_value_name = "COMMAND",
    after_long_help = "\
Examples:
  imglife demo              see it work on a sample world, without a server
  imglife doctor            whether every login, host and program that it needs is there
  imglife --check           validate ./imglife.yaml and say what it suffices for
  imglife sync --dry-run    what a sync would copy
  imglife eol list          what ends when
  imglife status            what there is, who uses it, and when it ends
  imglife run               all of it in order, as a nightly pipeline does
  imglife help sync         everything about a command

Exit codes:
  0    done
  1    it failed, or an item of it failed
  2    wrong usage or configuration; nothing was done
  3    done, and a policy that was asked for is violated
  130  stopped by Ctrl-C
  143  stopped by SIGTERM"
)]
struct Cli {
    #[command(flatten)]
    global: GlobalArguments,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Sync(sync::SyncArguments),
    Build(build::BuildArguments),
    Cleanup(cleanup::CleanupArguments),
    Eol(eol::EolArguments),
    Status(status::StatusArguments),
    Run(Box<run::RunArguments>),
    Register(register::RegisterArguments),
    Check(check::CheckArguments),
    Latest(check::LatestArguments),
    #[command(name = "base-args")]
    BaseArgs(check::BaseArgsArguments),
    App(apps::AppArguments),
    Init(init::InitArguments),
    Doctor(doctor::DoctorArguments),
    Git(git::GitArguments),
    Config(config::ConfigArguments),
    Demo(demo::DemoArguments),
    Completions(completions::CompletionsArguments),
    Man(man::ManArguments),
}

/// Runs the program with `arguments`, the first of which is its own name, and returns how it ended.
pub fn main(arguments: impl IntoIterator<Item = OsString>, process: &Process) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match parse(&arguments, process) {
        Ok(cli) => cli,
        Err(error) => return answer(&error, &arguments, process),
    };
    let settings = cli.global.log_settings(&process.variables);
    let format = settings
        .as_ref()
        .map_or(LogFormat::Text, |settings| settings.format);
    let messages = Messages::new(
        process,
        format,
        cli.global.color.colors(&process.variables, &process.stderr),
    );
    let ended = settings.and_then(|settings| {
        let _logs =
            tracing::dispatcher::set_default(&logging::dispatch(messages.clone(), settings.level));
        run(cli, &messages, process)
    });
    messages.end_bars();
    ended.unwrap_or_else(|failure| {
        messages.failure(&failure);
        failure.exit
    })
}

fn parse(arguments: &[OsString], process: &Process) -> Result<Cli, clap::Error> {
    let mut command = Cli::command().max_term_width(HELP_WIDTH);
    if !process.stdout.is_terminal {
        command = command.term_width(HELP_WIDTH);
    }
    let cli = Cli::from_arg_matches(&command.try_get_matches_from_mut(arguments)?)?;
    if cli.command.is_none() && !cli.global.check {
        return Err(command.error(ErrorKind::MissingSubcommand, "a command is required"));
    }
    Ok(cli)
}

/// Prints what clap answers instead of a command: help and the version on stdout, wrong usage on
/// stderr.
fn answer(error: &clap::Error, arguments: &[OsString], process: &Process) -> Exit {
    let (stream, exit) = if error.use_stderr() {
        (&process.stderr, Exit::Usage)
    } else {
        (&process.stdout, Exit::Done)
    };
    let text = error.render();
    // The arguments were not accepted as a whole, but what they say about colour still counts.
    let colored = ColorChoice::in_arguments(arguments).colors(&process.variables, stream);
    let text = if colored {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    match stream.write(&text) {
        Ok(()) => exit,
        Err(_) => Exit::Failed,
    }
}

fn run(cli: Cli, messages: &Messages, process: &Process) -> Result<Exit, Failure> {
    let surroundings = Surroundings {
        process: Process {
            stdout: messages.bars_end_at(&process.stdout),
            ..process.clone()
        },
        progress: progress::choose(&cli.global, messages, process),
        presentation: Arc::new(progress::Stages::new(&cli.global, messages, process)),
        part_of: None,
        report_color: cli.global.color.colors(&process.variables, &process.stdout),
        deadline: app::deadline(cli.global.time_limit, process),
    };
    let global = app::Global {
        configuration: cli.global.config,
    };
    // `--check` stands for `config check`, whatever the command; only that command itself says how
    // to report.
    let checks =
        |command: &Command| matches!(command, Command::Config(arguments) if arguments.is_check());
    let command = match cli
        .command
        .filter(|command| !cli.global.check || checks(command))
    {
        None => app::Command::ConfigCheck {
            output: app::Output::Text,
        },
        Some(Command::Config(arguments)) => arguments.command(),
        Some(Command::Run(arguments)) => {
            app::Command::Run(Box::new(arguments.options(&process.variables)?))
        }
        Some(Command::Sync(arguments)) => {
            app::Command::Sync(arguments.options(&process.variables)?)
        }
        Some(Command::Eol(arguments)) => arguments.command(),
        Some(Command::Status(arguments)) => app::Command::Status(arguments.options()),
        Some(Command::Build(arguments)) => {
            app::Command::Build(arguments.options(&process.variables)?)
        }
        Some(Command::Check(arguments)) => app::Command::Check(arguments.options()),
        Some(Command::Cleanup(arguments)) => {
            app::Command::Cleanup(arguments.options(&process.variables)?)
        }
        Some(Command::Latest(arguments)) => app::Command::Latest(arguments.options()),
        Some(Command::BaseArgs(arguments)) => app::Command::BaseArguments(arguments.options()),
        Some(Command::App(arguments)) => arguments.command(),
        Some(Command::Init(arguments)) => app::Command::Init(arguments.options()),
        Some(Command::Register(arguments)) => app::Command::Register(arguments.options()),
        Some(Command::Doctor(arguments)) => app::Command::Doctor(arguments.options()),
        Some(Command::Git(arguments)) => arguments.command(),
        Some(Command::Demo(arguments)) => {
            return crate::demo::run(&arguments.options(), &surroundings);
        }
        Some(Command::Completions(arguments)) => return arguments.run(&surroundings),
        Some(Command::Man(arguments)) => return arguments.run(&surroundings),
    };
    app::run(Invocation { command, global }, &surroundings)
}

/// Writes what clap generated to stdout.
fn to_stdout(text: &[u8], surroundings: &Surroundings) -> Result<Exit, Failure> {
    surroundings.print(&String::from_utf8_lossy(text))?;
    Ok(Exit::Done)
}
