//! Loading of the configuration, and the commands `imglife config`.

use std::path::PathBuf;

use serde::Serialize;

use super::result::CommandResult;
use super::{CommandContext, GlobalOptions, OutputForm};
use crate::config::{self, Config, DEFAULT_NAME, OpenError};
use crate::error::{Exit, Failure};
use crate::model::env;
use crate::process::Process;
use crate::report::{Block, Cell, Document, Table, Tone};

/// Returns the validated configuration from the file, or from environment variables alone if there
/// is no file. Fails with a usage error when the file is invalid or cannot be read.
pub(super) fn load_configuration(
    global: &GlobalOptions,
    process: &Process,
) -> Result<Config, Failure> {
    let flag = global.configuration.as_deref();
    config::open(flag, &process.variables, &process.directory).map_err(|error| match error {
        OpenError::Invalid(errors) => Failure::usage(errors),
        OpenError::Unreadable { .. } => {
            let origin = if flag.is_some() {
                "--config"
            } else {
                env::IMGLIFE_CONFIG
            };
            let named =
                flag.is_some() || process.variables.get_filled(env::IMGLIFE_CONFIG).is_some();
            let failure = Failure::usage(error);
            if named {
                failure.hint(format!(
                    "`{origin}` refers to this file; relative paths start at {}",
                    process.directory.display()
                ))
            } else {
                failure
            }
        }
    })
}

/// Returns the failure of a command that needs a setting which is not in the configuration.
pub(super) fn missing_setting(setting: &str, config: &Config, process: &Process) -> Failure {
    match &config.file {
        Some(file) => Failure::usage(format!("{} has no `{setting}`", file.display())),
        None => Failure::usage(format!("there is no {DEFAULT_NAME} in {}", process.directory.display()))
            .hint("set the path with `--config PATH` or `IMGLIFE_CONFIG`, or run `imglife init` to create a configuration"),
    }
}

/// Returns true if the configuration of the record store is complete.
pub(super) fn has_record_store(config: &Config) -> bool {
    config::readiness(config)
        .iter()
        .any(|(command, enough)| *command == "register" && enough.is_ok())
}

/// Readiness of the configuration for a command.
#[derive(Debug, Serialize)]
struct CommandReadiness {
    command: &'static str,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    lacks: Option<String>,
}

#[derive(Debug, Serialize)]
struct ConfigCheckReport {
    file: Option<PathBuf>,
    commands: Vec<CommandReadiness>,
}

/// Validates the configuration and reports which commands it is complete enough to run.
pub(super) fn check(
    global: &GlobalOptions,
    output: OutputForm,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let process = &context.process;
    let config = load_configuration(global, process)?;
    if config.file.is_none() && config.registry.is_none() {
        return Err(missing_setting("configuration", &config, process));
    }
    let commands: Vec<CommandReadiness> = config::readiness(&config)
        .into_iter()
        .map(|(command, enough)| CommandReadiness {
            command,
            ready: enough.is_ok(),
            lacks: enough.err(),
        })
        .collect();
    let rows = commands.iter().map(|command| {
        let state = match &command.lacks {
            None => Cell::toned("ready", Tone::Good),
            Some(reason) => Cell::toned(format!("not configured: {reason}"), Tone::Quiet),
        };
        vec![Cell::plain(command.command), state]
    });
    let table = Table {
        title: None,
        columns: vec!["Command".to_owned(), "Configuration".to_owned()],
        rows: rows.collect(),
    };
    let name = config.file.as_ref().map_or_else(
        || "the environment".to_owned(),
        |file| file.display().to_string(),
    );
    let document = Document {
        blocks: vec![
            Block::Lines(vec![format!("{name} is valid")]),
            Block::Table(table),
        ],
    };
    CommandResult::reported(
        Exit::Done,
        output,
        "config-check",
        &ConfigCheckReport {
            file: config.file,
            commands,
        },
        document,
    )
}

/// Prints the JSON Schema of the configuration file.
pub(super) fn schema() -> CommandResult {
    CommandResult::text(config::schema())
}

/// Prints the configuration with variables and defaults filled in.
pub(super) fn show(
    global: &GlobalOptions,
    context: &CommandContext,
) -> Result<CommandResult, Failure> {
    let config = load_configuration(global, &context.process)?;
    if config.file.is_none() && config.registry.is_none() {
        return Err(missing_setting("configuration", &config, &context.process));
    }
    Ok(CommandResult::text(config::show(&config)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::model::{Clock, Variables};
    use crate::process::Stream;

    fn failure(directory: &Path, flag: Option<&str>, variables: &[(&str, &str)]) -> Failure {
        let process = Process {
            variables: variables.iter().copied().collect::<Variables>(),
            clock: Clock::fixed(chrono::DateTime::UNIX_EPOCH),
            directory: directory.to_owned(),
            stdout: Stream::captured().0,
            stderr: Stream::captured().0,
        };
        load_configuration(
            &GlobalOptions {
                configuration: flag.map(PathBuf::from),
            },
            &process,
        )
        .expect_err("no configuration")
    }

    #[test]
    fn the_hint_for_a_missing_file_shows_where_its_path_comes_from() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path();
        for (flag, variables, origin) in [
            (Some("no.yaml"), &[][..], "`--config` refers to"),
            (
                None,
                &[(env::IMGLIFE_CONFIG, "no.yaml")],
                "`IMGLIFE_CONFIG` refers to",
            ),
        ] {
            let failure = failure(at, flag, variables);
            assert_eq!(failure.exit, Exit::Usage);
            assert!(
                failure.error.to_string().ends_with("no.yaml"),
                "{}",
                failure.error
            );
            assert!(failure.hints[0].starts_with(origin), "{:?}", failure.hints);
        }
    }

    #[test]
    fn errors_in_the_file_are_a_usage_error_with_config_errors() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(
            directory.path().join(DEFAULT_NAME),
            "sync: { entries: [{ sorce: a }] }",
        )
        .expect("a file");
        let failure = failure(directory.path(), None, &[]);
        assert_eq!(failure.exit, Exit::Usage);
        assert!(
            failure
                .error
                .downcast_ref::<config::ConfigErrors>()
                .is_some()
        );
    }
}
