//! Global options, and the environment variables that set them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;

use crate::app::PermissionOptions;
use crate::error::Failure;
use crate::model::Variables;
use crate::model::duration::parse_duration;
use crate::model::env;
use crate::model::text::excerpt;
use crate::process::Stream;

const HEADING: &str = "Global options";

#[derive(Debug, Args)]
pub(super) struct GlobalArguments {
    /// Configuration file [environment: `IMGLIFE_CONFIG`; default: ./imglife.yaml]
    #[arg(short, long, value_name = env::PATH, global = true, help_heading = HEADING)]
    pub(super) config: Option<PathBuf>,

    /// Validate the configuration, then exit
    #[arg(long, global = true, help_heading = HEADING)]
    pub(super) check: bool,

    /// Stop after this time, such as `45m` or `1h30m`, and report what was done [default: the
    /// remaining time of the CI job]
    #[arg(long, value_name = "DURATION", value_parser = time_limit, global = true, help_heading = HEADING)]
    pub(super) time_limit: Option<Duration>,

    /// Treat the job as untrusted, as those of merge requests are: limit credentials, variables and
    /// commands
    #[arg(long, global = true, help_heading = HEADING)]
    pub(super) untrusted: bool,

    /// In an untrusted job, run hooks and build programs, without secrets in their environment
    #[arg(long, global = true, help_heading = HEADING)]
    pub(super) allow_commands: bool,

    /// Accept paths in the configuration that lead out of its repository
    #[arg(long, global = true, help_heading = HEADING)]
    pub(super) allow_outside: bool,

    /// Print only errors and the report, no other logs and no progress
    #[arg(short, long, global = true, help_heading = HEADING)]
    pub(super) quiet: bool,

    /// Hide the progress display
    #[arg(long, global = true, help_heading = HEADING)]
    pub(super) no_progress: bool,

    /// When to use colours; `auto` respects `NO_COLOR` and TERM=dumb
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, hide_possible_values = false, global = true, help_heading = HEADING)]
    pub(super) color: ColorChoice,

    /// Format of logs, progress and errors [environment: `IMGLIFE_LOG_FORMAT`; default: text]
    #[arg(long, value_name = "FORMAT", value_enum, global = true, help_heading = HEADING)]
    log_format: Option<LogFormat>,

    /// Minimum level of logs to print [environment: `IMGLIFE_LOG_LEVEL`; default: info]
    #[arg(long, value_name = "LEVEL", value_enum, global = true, help_heading = HEADING)]
    log_level: Option<LogLevel>,
}

fn time_limit(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err("the time limit must be longer than zero".to_owned()),
        Ok(limit) => Ok(limit),
        Err(error) => Err(error
            .hint()
            .map_or_else(|| error.to_string(), |hint| format!("{error}; {hint}"))),
    }
}

/// Format and level of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogSettings {
    pub(super) format: LogFormat,
    pub(super) level: LevelFilter,
}

impl GlobalArguments {
    /// Returns the options about the permissions of the run.
    pub(super) fn permissions(&self) -> PermissionOptions {
        PermissionOptions {
            untrusted: self.untrusted,
            allow_commands: self.allow_commands,
            allow_outside: self.allow_outside,
        }
    }

    /// Returns the settings of the log: a flag takes precedence over the environment variable, and
    /// that over the default. `--quiet` leaves errors only.
    pub(super) fn log_settings(&self, variables: &Variables) -> Result<LogSettings, Failure> {
        let format = or_variable(self.log_format, env::IMGLIFE_LOG_FORMAT, variables)?
            .unwrap_or(LogFormat::Text);
        let level = or_variable(self.log_level, env::IMGLIFE_LOG_LEVEL, variables)?
            .unwrap_or(LogLevel::Info);
        Ok(LogSettings {
            format,
            level: if self.quiet {
                LevelFilter::ERROR
            } else {
                level.filter()
            },
        })
    }
}

/// Returns the value of a flag, or of an environment variable if the flag is not set. Fails with a
/// usage error when the variable has an invalid value.
fn or_variable<T: ValueEnum>(
    flag: Option<T>,
    name: &str,
    variables: &Variables,
) -> Result<Option<T>, Failure> {
    let (None, Some(value)) = (&flag, variables.get_filled(name)) else {
        return Ok(flag);
    };
    T::from_str(value, true).map(Some).map_err(|_| {
        let possible = T::value_variants()
            .iter()
            .filter_map(ValueEnum::to_possible_value);
        let possible: Vec<String> = possible.map(|value| value.get_name().to_owned()).collect();
        Failure::usage(format!("{name} is `{}`", excerpt(value, 40)))
            .hint(format!("set it to one of {}", possible.join(", ")))
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    fn filter(self) -> LevelFilter {
        match self {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorChoice {
    #[default]
    Auto,
    Always,
    Never,
}

impl ColorChoice {
    /// Returns true if output to `stream` is coloured.
    pub(super) fn colors(self, variables: &Variables, stream: &Stream) -> bool {
        match self {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                stream.is_terminal
                    && variables.get_filled(env::NO_COLOR).is_none()
                    && variables.get(env::TERM) != Some("dumb")
            }
        }
    }

    /// Returns the value of the last `--color` in arguments that clap rejected.
    pub(super) fn in_arguments(arguments: &[OsString]) -> ColorChoice {
        let arguments: Vec<&str> = arguments
            .iter()
            .take_while(|argument| *argument != "--")
            .filter_map(|argument| argument.to_str())
            .collect();
        let values = arguments
            .iter()
            .enumerate()
            .filter_map(
                |(position, argument)| match argument.strip_prefix("--color")? {
                    "" => arguments.get(position + 1).copied(),
                    value => value.strip_prefix('='),
                },
            );
        values
            .rev()
            .find_map(|value| ColorChoice::from_str(value, false).ok())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_follow_the_flag_then_the_environment_then_the_terminal() {
        use ColorChoice::{Always, Auto, Never};
        let none: &[(&str, &str)] = &[];
        let cases = [
            (Auto, none, true, true),
            (Auto, none, false, false),
            (Auto, &[("NO_COLOR", "1")], true, false),
            (Auto, &[("NO_COLOR", "")], true, true),
            (Auto, &[("TERM", "dumb")], true, false),
            (Auto, &[("TERM", "xterm-256color")], true, true),
            (
                Auto,
                &[("GITLAB_CI", "true"), ("TERM", "xterm")],
                false,
                false,
            ),
            (Always, &[("NO_COLOR", "1"), ("TERM", "dumb")], false, true),
            (Never, none, true, false),
        ];
        for (choice, variables, is_terminal, expected) in cases {
            let stream = Stream::new(std::io::sink(), is_terminal);
            let colors = choice.colors(&variables.iter().copied().collect(), &stream);
            assert_eq!(
                colors, expected,
                "{choice:?} with {variables:?}, terminal: {is_terminal}"
            );
        }
    }

    #[test]
    fn the_colour_choice_is_found_in_rejected_arguments() {
        let choice = |line: &str| {
            ColorChoice::in_arguments(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
        };
        assert_eq!(choice("imglife --color never --wrong"), ColorChoice::Never);
        assert_eq!(
            choice("imglife --color never --color=always"),
            ColorChoice::Always
        );
        assert_eq!(choice("imglife --color"), ColorChoice::Auto);
        assert_eq!(
            choice("imglife --colorful -- --color=always"),
            ColorChoice::Auto
        );
    }
}
