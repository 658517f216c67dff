//! Finding and reading the configuration, and the commands about it.

use std::path::PathBuf;

use serde::Serialize;

use super::{Global, Output, Surroundings};
use crate::config::Config;
use crate::error::{Exit, Failure};
use crate::process::Process;
use crate::report::{Block, Cell, Document, Table, Tone};

const FILE: &str = "imglife.yaml";
const VARIABLE: &str = "IMGLIFE_CONFIG";

/// Returns the configuration of a run, checked.
pub(super) fn load_configuration(global: &Global, process: &Process) -> Result<Config, Failure> {
    let path = find(global, process)?;
    Err(Failure::usage(format!("reading {} is not wired yet", path.display())))
}

/// Returns the path of the configuration file: `--config`, else `IMGLIFE_CONFIG`, else `imglife.yaml` in the working directory.
fn find(global: &Global, process: &Process) -> Result<PathBuf, Failure> {
    let (named, origin) = match (&global.configuration, process.variables.get_filled(VARIABLE)) {
        (Some(path), _) => (path.clone(), Some("--config")),
        (None, Some(path)) => (PathBuf::from(path), Some(VARIABLE)),
        (None, None) => (PathBuf::from(FILE), None),
    };
    let path = process.directory.join(&named);
    // Not `is_file`: `--config <(generate)` and `/dev/stdin` are no plain files.
    if path.exists() && !path.is_dir() {
        return Ok(path);
    }
    Err(match origin {
        Some(origin) => Failure::usage(format!("there is no configuration file {}, which {origin} names", named.display())),
        None => Failure::usage(format!("there is no {FILE} in {}", process.directory.display()))
            .hint(format!("give the path with `--config PATH` or `{VARIABLE}`")),
    })
}

/// What a command still needs from the configuration.
#[derive(Debug, Serialize)]
struct Readiness {
    command: &'static str,
    ready: bool,
    /// The keys that are missing.
    missing: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct CheckReport {
    file: Option<PathBuf>,
    commands: Vec<Readiness>,
}

/// Validates the configuration and reports which commands it suffices for.
pub(super) fn check(global: &Global, output: Output, surroundings: &Surroundings) -> Result<Exit, Failure> {
    let config = load_configuration(global, &surroundings.process)?;
    let commands = readiness(&config);
    let rows = commands.iter().map(|command| {
        let state = match command.missing.as_slice() {
            [] => Cell::toned("ready", Tone::Good),
            missing => Cell::toned(format!("needs {}", missing.join(", ")), Tone::Quiet),
        };
        vec![Cell::plain(command.command), state]
    });
    let table = Table { title: None, columns: vec!["Command".to_owned(), "Configuration".to_owned()], rows: rows.collect() };
    let name = config.file.as_ref().map_or_else(|| "the configuration".to_owned(), |file| file.display().to_string());
    let document = Document { blocks: vec![Block::Lines(vec![format!("{name} is valid")]), Block::Table(table)] };
    surroundings.report(output, "config-check", &CheckReport { file: config.file, commands }, &document)?;
    Ok(Exit::Done)
}

fn readiness(config: &Config) -> Vec<Readiness> {
    let missing: Vec<&'static str> = if config.sync.is_none() { vec!["sync"] } else { Vec::new() };
    vec![Readiness { command: "sync", ready: missing.is_empty(), missing }]
}

/// Prints the JSON Schema of the configuration file.
pub(super) fn schema(_: &Surroundings) -> Result<Exit, Failure> {
    Err(Failure::failed("the schema is not wired yet"))
}

/// Prints the configuration with variables and defaults filled in.
pub(super) fn show(global: &Global, surroundings: &Surroundings) -> Result<Exit, Failure> {
    load_configuration(global, &surroundings.process)?;
    Err(Failure::failed("the effective configuration is not wired yet"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, Variables};
    use crate::process::Stream;

    fn process(directory: &std::path::Path, variables: &[(&str, &str)]) -> Process {
        Process {
            variables: variables.iter().copied().collect::<Variables>(),
            clock: Clock::fixed(chrono::DateTime::UNIX_EPOCH),
            directory: directory.to_owned(),
            stdout: Stream::captured().0,
            stderr: Stream::captured().0,
        }
    }

    #[test]
    fn the_flag_wins_over_the_variable_over_the_file_here() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["flag.yaml", "variable.yaml", FILE] {
            std::fs::write(directory.path().join(name), "").expect("a file");
        }
        let flag = Global { configuration: Some("flag.yaml".into()) };
        let with_variable = process(directory.path(), &[(VARIABLE, "variable.yaml")]);
        let found =
            |global: &Global, process: &Process| find(global, process).expect("a file").strip_prefix(directory.path()).map(PathBuf::from);
        assert_eq!(found(&flag, &with_variable), Ok("flag.yaml".into()));
        assert_eq!(found(&Global::default(), &with_variable), Ok("variable.yaml".into()));
        assert_eq!(found(&Global::default(), &process(directory.path(), &[(VARIABLE, "")])), Ok(FILE.into()));
    }

    #[test]
    fn a_missing_file_is_a_usage_error_that_says_who_named_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let failure =
            |global: &Global, variables: &[(&str, &str)]| find(global, &process(directory.path(), variables)).expect_err("no file");
        let flag = failure(&Global { configuration: Some("no.yaml".into()) }, &[]);
        assert_eq!(
            (flag.exit, flag.error.to_string()),
            (Exit::Usage, "there is no configuration file no.yaml, which --config names".to_owned())
        );
        let variable = failure(&Global::default(), &[(VARIABLE, "no.yaml")]);
        assert_eq!(variable.error.to_string(), "there is no configuration file no.yaml, which IMGLIFE_CONFIG names");
        assert_eq!(failure(&Global::default(), &[]).hints, ["give the path with `--config PATH` or `IMGLIFE_CONFIG`"]);
    }
}
