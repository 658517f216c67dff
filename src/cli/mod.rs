//! The command line: arguments, help, completions and manual pages; the display of failures, logs
//! and progress on stderr.
//!
//! No type of clap leaves this room: `app` gets plain values.

use std::ffi::OsString;
use std::sync::Arc;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};

use crate::app::{self, CommandContext, CommandOptions, Invocation, Presentation};
use crate::error::{Exit, Failure};
use crate::model::JobTrust;
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
mod env_options;
mod env_typos;
mod eol;
mod failure;
mod git;
mod global;
mod import;
mod init;
mod logging;
mod man;
mod messages;

mod output;
mod program;
mod progress;
mod register;
mod run;
mod shard;
mod single_image;
mod status;
mod sync;
#[cfg(test)]
mod tests;

use global::{ColorChoice, LogFormat};
use messages::Messages;
use program::{Cli, CommandArguments, HELP_WIDTH};
use progress::StepPresentation;

/// Runs the program and returns how it ended. The first of `arguments` is the name of the program.
pub fn main(arguments: impl IntoIterator<Item = OsString>, process: &Process) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match parse(&arguments, process) {
        Ok(cli) => cli,
        Err(error) => return print_clap_message(&error, &arguments, process),
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

/// Prints a message of clap: help and the version on stdout, usage errors on stderr.
fn print_clap_message(error: &clap::Error, arguments: &[OsString], process: &Process) -> Exit {
    let (stream, exit) = if error.use_stderr() {
        (&process.stderr, Exit::Usage)
    } else {
        (&process.stdout, Exit::Done)
    };
    let text = error.render();
    // `--color` counts although the arguments as a whole were rejected.
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
    let permissions = app::permissions(cli.global.permissions(), process);
    if let JobTrust::Untrusted(reason) = permissions.trust {
        tracing::info!(
            "this job is untrusted, because {reason}: credentials, variables and commands are limited"
        );
    }
    let process = &Process {
        variables: process.variables.clone().with_permissions(permissions),
        ..process.clone()
    };
    let presentation: Arc<dyn Presentation> =
        Arc::new(StepPresentation::new(&cli.global, messages, process));
    let context = CommandContext {
        process: Process {
            stdout: messages.bars_end_at(&process.stdout),
            ..process.clone()
        },
        progress: presentation.progress(),
        presentation,
        report_color: cli.global.color.colors(&process.variables, &process.stdout),
        deadline: app::deadline(cli.global.time_limit, process),
    };
    let global = app::GlobalOptions {
        configuration: cli.global.config,
    };
    // `--check` means `config check` for every command. Only `config check` itself can set the
    // format of the report.
    let is_config_check = |command: &CommandArguments| matches!(command, CommandArguments::Config(arguments) if arguments.is_check());
    let command = match cli
        .command
        .filter(|command| !cli.global.check || is_config_check(command))
    {
        None => CommandOptions::ConfigCheck {
            output: app::OutputForm::Text,
        },
        Some(CommandArguments::Config(arguments)) => arguments.command(),
        Some(CommandArguments::Run(arguments)) => {
            CommandOptions::Run(Box::new(arguments.options(&process.variables)?))
        }
        Some(CommandArguments::Sync(arguments)) => {
            CommandOptions::Sync(arguments.options(&process.variables)?)
        }
        Some(CommandArguments::Copy(arguments)) => {
            CommandOptions::Copy(Box::new(arguments.options()))
        }
        Some(CommandArguments::Import(arguments)) => CommandOptions::Import(arguments.options()),
        Some(CommandArguments::Tags(arguments)) => CommandOptions::Tags(arguments.options()),
        Some(CommandArguments::Eol(arguments)) => arguments.command(),
        Some(CommandArguments::Status(arguments)) => CommandOptions::Status(arguments.options()),
        Some(CommandArguments::Build(arguments)) => {
            CommandOptions::Build(arguments.options(&process.variables)?)
        }
        Some(CommandArguments::Check(arguments)) => CommandOptions::Check(arguments.options()),
        Some(CommandArguments::Cleanup(arguments)) => {
            CommandOptions::Cleanup(arguments.options(&process.variables)?)
        }
        Some(CommandArguments::Latest(arguments)) => CommandOptions::Latest(arguments.options()),
        Some(CommandArguments::BaseArgs(arguments)) => {
            CommandOptions::BaseArguments(arguments.options())
        }
        Some(CommandArguments::App(arguments)) => arguments.command(),
        Some(CommandArguments::Init(arguments)) => CommandOptions::Init(arguments.options()),
        Some(CommandArguments::Register(arguments)) => {
            CommandOptions::Register(arguments.options())
        }
        Some(CommandArguments::Doctor(arguments)) => CommandOptions::Doctor(arguments.options()),
        Some(CommandArguments::Git(arguments)) => arguments.command(),
        Some(CommandArguments::Demo(arguments)) => {
            return crate::demo::run(&arguments.options(), &context);
        }
        Some(CommandArguments::Completions(arguments)) => {
            return arguments.run(Cli::command(), &context);
        }
        Some(CommandArguments::Man(arguments)) => return arguments.run(Cli::command(), &context),
    };
    app::run(Invocation { command, global }, &context)
}
