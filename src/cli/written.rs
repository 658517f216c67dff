//! Options that are written as variables, for jobs whose script is one line: no value of theirs
//! goes through a shell.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args, Command};

use crate::error::Failure;
use crate::model::Variables;
use crate::model::env;
use crate::model::text::excerpt;

/// Returns the options of `T` that variables stand for: `IMGLIFE_<NAME>_<OPTION>`, both in upper
/// case, with underscores. An empty variable is none. A flag is `true` or `false`; what can be
/// repeated has one value a line.
pub(super) fn written<T: Args>(
    name: &'static str,
    variables: &Variables,
) -> Result<Vec<String>, Failure> {
    let mut arguments = Vec::new();
    for argument in command::<T>(name).get_arguments() {
        let Some(long) = argument.get_long() else {
            continue;
        };
        let variable = env::option(name, long);
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

/// Returns the names of the variables that stand for the options of `T`.
pub(super) fn names<T: Args>(name: &'static str) -> Vec<String> {
    command::<T>(name)
        .get_arguments()
        .filter_map(|argument| Some(env::option(name, argument.get_long()?)))
        .collect()
}

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

/// Returns the options of the step `name` that `arguments` give. A later one goes before an earlier
/// one.
pub(super) fn parsed<T: Args>(
    name: &'static str,
    arguments: impl IntoIterator<Item = String>,
) -> Result<T, Failure> {
    let whole = std::iter::once(format!("imglife {name}")).chain(arguments);
    let matches = command::<T>(name).try_get_matches_from(whole);
    matches.and_then(|matches| T::from_arg_matches(&matches)).map_err(|error| {
        let told = error.to_string();
        let problem: Vec<&str> =
            told.lines().take_while(|line| !line.starts_with("Usage:")).map(str::trim).filter(|line| !line.is_empty()).collect();
        let problem = problem.join(" ");
        let problem = problem.strip_prefix("error: ").unwrap_or(&problem);
        let failure = Failure::usage(format!("the options of {name}: {}", excerpt(problem, 300)));
        match lacking(&error) {
            Some(long) => failure.hint(format!("give it after `--`, or as the variable {}", env::option(name, &long))),
            None => failure.hint("they follow `--`, or are variables such as IMGLIFE_CHECK_STRICT; each command's `--help` lists its own"),
        }
    })
}

/// Returns the first option that is needed and was not given, without its dashes.
fn lacking(error: &clap::Error) -> Option<String> {
    let is_lacking = error.kind() == ErrorKind::MissingRequiredArgument;
    let Some(ContextValue::Strings(arguments)) =
        error.get(ContextKind::InvalidArg).filter(|_| is_lacking)
    else {
        return None;
    };
    let long = arguments.first()?.strip_prefix("--")?;
    long.split([' ', '=']).next().map(str::to_owned)
}

fn command<T: Args>(name: &'static str) -> Command {
    T::augment_args(Command::new(name))
        .disable_help_flag(true)
        .args_override_self(true)
}
