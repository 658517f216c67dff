//! Options of `imglife run` and its steps as environment variables, for CI jobs with a fixed
//! script: their values pass through no shell.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args, Command};

use crate::error::Failure;
use crate::model::Variables;
use crate::model::env;
use crate::model::text::excerpt;

/// Returns the options of `T` that environment variables set, as arguments.
///
/// The variable of an option is `IMGLIFE_<STEP>_<OPTION>`, in upper case with underscores. Empty
/// variables are ignored. The value of a flag is `true` or `false`; an option that can be repeated
/// has one value per line.
pub(super) fn arguments_of<T: Args>(
    step: &'static str,
    variables: &Variables,
) -> Result<Vec<String>, Failure> {
    let mut arguments = Vec::new();
    for argument in command::<T>(step).get_arguments() {
        let Some(long) = argument.get_long() else {
            continue;
        };
        let variable = env::option(step, long);
        let Some(value) = variables.get_filled(&variable) else {
            continue;
        };
        match argument.get_action() {
            ArgAction::SetTrue => {
                if is_set(&variable, value)? {
                    arguments.push(format!("--{long}"));
                }
            }
            ArgAction::Append => {
                let lines = value.lines().map(str::trim).filter(|line| !line.is_empty());
                arguments.extend(lines.map(|line| format!("--{long}={line}")));
            }
            _ => arguments.push(format!("--{long}={}", value.trim())),
        }
    }
    Ok(arguments)
}

/// Returns the names of the variables for the options of `T`.
pub(super) fn option_names<T: Args>(step: &'static str) -> Vec<String> {
    command::<T>(step)
        .get_arguments()
        .filter_map(|argument| Some(env::option(step, argument.get_long()?)))
        .collect()
}

/// Parses the value of a flag. Fails when it is neither true nor false.
fn is_set(variable: &str, value: &str) -> Result<bool, Failure> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        other => Err(
            Failure::usage(format!("{variable} is `{}`", excerpt(other, 40)))
                .hint("set it to `true` or `false`"),
        ),
    }
}

/// Parses the options of a step. Of an option that is given twice, the last value counts.
pub(super) fn parse<T: Args>(
    step: &'static str,
    arguments: impl IntoIterator<Item = String>,
) -> Result<T, Failure> {
    let command_line = std::iter::once(format!("imglife {step}")).chain(arguments);
    let matches = command::<T>(step).try_get_matches_from(command_line);
    matches.and_then(|matches| T::from_arg_matches(&matches)).map_err(|error| {
        let text = error.to_string();
        let problem: Vec<&str> =
            text.lines().take_while(|line| !line.starts_with("Usage:")).map(str::trim).filter(|line| !line.is_empty()).collect();
        let problem = problem.join(" ");
        let problem = problem.strip_prefix("error: ").unwrap_or(&problem);
        let failure = Failure::usage(format!("the options of {step}: {}", excerpt(problem, 300)));
        match missing_option(&error) {
            Some(long) => failure.hint(format!("pass it after `--`, or set the variable {}", env::option(step, &long))),
            None => failure.hint("pass options after `--` or as variables such as IMGLIFE_CHECK_STRICT; `imglife help COMMAND` lists them"),
        }
    })
}

/// Returns the first required option that is missing, without its dashes.
fn missing_option(error: &clap::Error) -> Option<String> {
    let is_missing = error.kind() == ErrorKind::MissingRequiredArgument;
    let Some(ContextValue::Strings(arguments)) =
        error.get(ContextKind::InvalidArg).filter(|_| is_missing)
    else {
        return None;
    };
    let long = arguments.first()?.strip_prefix("--")?;
    long.split([' ', '=']).next().map(str::to_owned)
}

fn command<T: Args>(step: &'static str) -> Command {
    T::augment_args(Command::new(step))
        .disable_help_flag(true)
        .args_override_self(true)
}
