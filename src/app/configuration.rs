//! Finding and reading the configuration, and the commands about it.

use std::path::PathBuf;

use serde::Serialize;

use super::{Global, Output, Surroundings};
use crate::config::{self, Config, DEFAULT_NAME, OpenError};
use crate::error::{Exit, Failure};
use crate::model::env;
use crate::process::Process;
use crate::report::{Block, Cell, Document, Table, Tone};

/// Returns the configuration of a run, checked: that of the file, or where there is none that of
/// variables alone.
pub(super) fn load_configuration(global: &Global, process: &Process) -> Result<Config, Failure> {
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
                    "`{origin}` names this file; relative paths start at {}",
                    process.directory.display()
                ))
            } else {
                failure
            }
        }
    })
}

/// Returns the failure of a command that needs something the configuration does not have.
pub(super) fn lacks(what: &str, config: &Config, process: &Process) -> Failure {
    match &config.file {
        Some(file) => Failure::usage(format!("{} has no `{what}`", file.display())),
        None => Failure::usage(format!("there is no {DEFAULT_NAME} in {}", process.directory.display()))
            .hint(format!("give the path with `--config PATH` or `IMGLIFE_CONFIG`, or let `imglife init` write a first one")),
    }
}

/// Returns whether the configuration says where the build records are.
pub(super) fn tells_records(config: &Config) -> bool {
    config::readiness(config)
        .iter()
        .any(|(command, enough)| *command == "register" && enough.is_ok())
}

/// Whether a configuration is enough for a command.
#[derive(Debug, Serialize)]
struct Readiness {
    command: &'static str,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    lacks: Option<String>,
}

#[derive(Debug, Serialize)]
struct CheckReport {
    file: Option<PathBuf>,
    commands: Vec<Readiness>,
}

/// Validates the configuration and reports which commands it suffices for.
pub(super) fn check(
    global: &Global,
    output: Output,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    let process = &surroundings.process;
    let config = load_configuration(global, process)?;
    if config.file.is_none() && config.registry.is_none() {
        return Err(lacks("configuration", &config, process));
    }
    let commands: Vec<Readiness> = config::readiness(&config)
        .into_iter()
        .map(|(command, enough)| Readiness {
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
    surroundings.report(
        output,
        "config-check",
        &CheckReport {
            file: config.file,
            commands,
        },
        &document,
    )?;
    Ok(Exit::Done)
}

/// Prints the JSON Schema of the configuration file.
pub(super) fn schema(surroundings: &Surroundings) -> Result<Exit, Failure> {
    surroundings.print(&config::schema())?;
    Ok(Exit::Done)
}

/// Prints the configuration with variables and defaults filled in.
pub(super) fn show(global: &Global, surroundings: &Surroundings) -> Result<Exit, Failure> {
    let config = load_configuration(global, &surroundings.process)?;
    if config.file.is_none() && config.registry.is_none() {
        return Err(lacks("configuration", &config, &surroundings.process));
    }
    surroundings.print(&config::show(&config))?;
    Ok(Exit::Done)
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
            &Global {
                configuration: flag.map(PathBuf::from),
            },
            &process,
        )
        .expect_err("no configuration")
    }

    #[test]
    fn a_missing_file_is_a_usage_error_that_says_who_named_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path();
        for (flag, variables, origin) in [
            (Some("no.yaml"), &[][..], "`--config` names"),
            (
                None,
                &[(env::IMGLIFE_CONFIG, "no.yaml")],
                "`IMGLIFE_CONFIG` names",
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
    fn what_is_wrong_with_the_file_is_a_usage_error_that_can_be_drawn() {
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
