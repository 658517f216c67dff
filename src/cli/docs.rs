//! `docs/cli.md`, generated from the same definitions as `--help`. `UPDATE_DOCS=1 cargo test
//! cli::docs` updates it.

use clap::{Arg, Command, CommandFactory};

use super::program::{Cli, HELP_WIDTH};
use crate::process::Process;

/// Returns the text of the page.
fn reference() -> String {
    let mut program = Cli::command().term_width(HELP_WIDTH);
    program.build();
    let mut text =
        "# Command line reference\n\nGenerated from the help of the program.\n".to_owned();
    command(&mut text, &mut program, true);
    text
}

/// Appends the section of a command and of its subcommands.
fn command(text: &mut String, described: &mut Command, is_program: bool) {
    let name = described
        .get_bin_name()
        .unwrap_or(described.get_name())
        .to_owned();
    let about = described
        .get_long_about()
        .or(described.get_about())
        .map(ToString::to_string)
        .unwrap_or_default();
    let usage = described.render_usage().to_string();
    *text += &format!(
        "\n## `{name}`\n\n{}\n\n```text\n{}\n```\n",
        about.trim(),
        usage.trim_start_matches("Usage: ")
    );
    let subcommands: Vec<&Command> = described
        .get_subcommands()
        .filter(|subcommand| subcommand.get_name() != "help")
        .collect();
    if !subcommands.is_empty() {
        *text += "\n| command | description |\n|---|---|\n";
        for subcommand in subcommands {
            let about = subcommand
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default();
            *text += &format!(
                "| `{}` | {} |\n",
                subcommand.get_bin_name().unwrap_or(subcommand.get_name()),
                cell(&about)
            );
        }
    }
    // Global options are listed once, with the program.
    let arguments: Vec<&Arg> = described
        .get_arguments()
        .filter(|argument| {
            !argument.is_hide_set()
                && (is_program || !argument.is_global_set())
                && argument.get_id() != "help"
        })
        .collect();
    if !arguments.is_empty() {
        *text += "\n| argument | description |\n|---|---|\n";
        for argument in arguments {
            *text += &format!(
                "| `{}` | {} |\n",
                cell(&spelling(argument)),
                cell(&description(argument))
            );
        }
    }
    if let Some(after) = described.get_after_long_help() {
        *text += &format!("\n```text\n{}\n```\n", after.to_string().trim());
    }
    for subcommand in described
        .get_subcommands_mut()
        .filter(|subcommand| subcommand.get_name() != "help")
    {
        command(text, subcommand, false);
    }
}

fn spelling(argument: &Arg) -> String {
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let takes_value = argument.get_action().takes_values();
    let value = argument
        .get_value_names()
        .filter(|_| takes_value)
        .map(|names| names.join(" "));
    let flags: Vec<String> = short.into_iter().chain(long).collect();
    match (flags.is_empty(), value) {
        (true, value) => {
            let name = value.unwrap_or_else(|| argument.get_id().to_string());
            if argument.is_required_set() {
                format!("<{name}>")
            } else {
                format!("[{name}]")
            }
        }
        (false, None) => flags.join(", "),
        (false, Some(value)) => format!("{} {value}", flags.join(", ")),
    }
}

fn description(argument: &Arg) -> String {
    let mut description = argument
        .get_long_help()
        .or(argument.get_help())
        .map(ToString::to_string)
        .unwrap_or_default();
    if argument.get_action().takes_values() {
        let possible: Vec<String> = argument
            .get_possible_values()
            .iter()
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if !possible.is_empty() {
            description += &format!(": {}", possible.join(", "));
        }
        if let [default] = argument.get_default_values() {
            description += &format!(" (default `{}`)", default.display());
        }
    }
    description
}

fn cell(text: &str) -> String {
    text.replace('|', r"\|").replace('\n', " ")
}

#[test]
fn cli_reference_matches_the_help_texts() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md");
    let reference = reference();
    if Process::current()
        .variables
        .get_filled("UPDATE_DOCS")
        .is_some()
    {
        std::fs::write(path, &reference).expect("docs/cli.md is writable");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == reference,
        "docs/cli.md differs from the program; run `UPDATE_DOCS=1 cargo test cli::docs` and review the change"
    );
}
