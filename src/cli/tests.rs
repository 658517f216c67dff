//! The command line as a whole, on a process of our own.

use std::ffi::OsString;
use std::path::Path;

use chrono::DateTime;
use clap::CommandFactory;

use super::{Cli, main};
use crate::error::Exit;
use crate::model::Clock;
use crate::process::{Process, Stream};

struct Ended {
    exit: Exit,
    stdout: String,
    stderr: String,
}

fn run_in(directory: &Path, line: &str, variables: &[(&str, &str)]) -> Ended {
    let (stdout, written) = Stream::captured();
    let (stderr, said) = Stream::captured();
    let process = Process {
        variables: variables.iter().copied().collect(),
        clock: Clock::fixed(DateTime::UNIX_EPOCH),
        directory: directory.to_owned(),
        stdout,
        stderr,
    };
    let exit = main(line.split_whitespace().map(OsString::from), &process);
    Ended { exit, stdout: written.text(), stderr: said.text() }
}

fn run(line: &str) -> Ended {
    run_in(Path::new("/nonexistent"), line, &[])
}

#[test]
fn the_definitions_are_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_version_is_one_line_on_stdout() {
    let ended = run("imglife --version");
    assert_eq!((ended.exit, ended.stdout.as_str(), ended.stderr.as_str()), (Exit::Done, "imglife 0.1.0\n", ""));
}

#[test]
fn the_program_describes_itself() {
    let ended = run("imglife --help");
    assert_eq!((ended.exit, ended.stderr.as_str()), (Exit::Done, ""));
    insta::assert_snapshot!(ended.stdout, @"");
}

#[test]
fn a_command_describes_itself() {
    let ended = run("imglife sync --help");
    assert_eq!((ended.exit, ended.stderr.as_str()), (Exit::Done, ""));
    insta::assert_snapshot!(ended.stdout, @"");
}

#[test]
fn every_command_has_an_example_for_each_way_to_ask_for_help() {
    fn visit(command: &clap::Command, line: &str) {
        let shown = run(&format!("{line} --help"));
        assert_eq!(shown.exit, Exit::Done, "{line}");
        assert!(shown.stdout.contains("Example"), "{line}");
        assert!(shown.stdout.contains(&format!("  {line}")), "no example of {line}");
        for subcommand in command.get_subcommands() {
            visit(subcommand, &format!("{line} {}", subcommand.get_name()));
        }
    }
    visit(&Cli::command(), "imglife");
}

#[test]
fn wrong_usage_is_told_on_stderr_and_exits_2() {
    let ended = run("imglife sync --dry-rum");
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Usage, ""));
    insta::assert_snapshot!(ended.stderr, @"");
    for line in [
        "imglife",
        "imglife -q",
        "imglife sync --list --dry-run",
        "imglife sync --shard 4/3",
        "imglife sync --output yaml",
        "imglife config",
    ] {
        let ended = run(line);
        assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Usage, ""), "{line}");
        assert!(ended.stderr.contains("Usage: imglife"), "{line}: {}", ended.stderr);
    }
}

#[test]
fn usage_errors_are_coloured_only_when_asked_for() {
    assert!(!run("imglife --wrong").stderr.contains('\u{1b}'));
    assert!(run("imglife --color always --wrong").stderr.contains('\u{1b}'));
    assert!(run("imglife --color=always --help").stdout.contains('\u{1b}'));
}

#[test]
fn global_flags_are_taken_before_and_after_the_command() {
    for line in
        ["imglife --config no.yaml sync", "imglife sync -c no.yaml", "imglife config check --config no.yaml", "imglife -c no.yaml --check"]
    {
        let ended = run(line);
        assert_eq!(ended.exit, Exit::Usage, "{line}");
        assert_eq!(ended.stderr, "error: there is no configuration file no.yaml, which --config names\n", "{line}");
    }
}

#[test]
fn check_stops_before_the_command() {
    let ended = run("imglife --check man");
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Usage, ""));
    assert!(ended.stderr.starts_with("error: there is no imglife.yaml in /nonexistent\n  hint: "), "{}", ended.stderr);
}

#[test]
fn a_variable_with_a_wrong_value_is_a_usage_error_and_a_flag_wins_over_it() {
    let ended = run_in(Path::new("/"), "imglife man", &[("IMGLIFE_LOG_LEVEL", "loud\u{1b}")]);
    assert_eq!(ended.exit, Exit::Usage);
    insta::assert_snapshot!(ended.stderr, @"");
    let ended = run_in(Path::new("/"), "imglife man --log-level warn", &[("IMGLIFE_LOG_LEVEL", "loud")]);
    assert_eq!(ended.exit, Exit::Done);
}

#[test]
fn with_json_logs_a_failure_is_an_object_and_secrets_are_masked() {
    let variables = [("IMGLIFE_LOG_FORMAT", "json"), ("SOME_TOKEN", "hunter2")];
    let ended = run_in(Path::new("/"), "imglife --check -c hunter2.yaml", &variables);
    assert_eq!(ended.exit, Exit::Usage);
    insta::assert_snapshot!(ended.stderr, @"");
}

#[test]
fn completions_and_manual_pages_name_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run(&format!("imglife completions {shell}"));
        assert_eq!((ended.exit, ended.stderr.as_str()), (Exit::Done, ""));
        assert!(ended.stdout.contains("dry-run"), "{shell}");
    }
    assert!(run("imglife man").stdout.contains("imglife\\-sync(1)"));
    assert!(run("imglife man config check").stdout.contains("imglife\\-config\\-check"));
    let ended = run("imglife man snyc");
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Usage, ""));
    assert_eq!(ended.stderr, "error: there is no command `snyc`\n  hint: `imglife --help` lists the commands\n");
}

#[test]
fn manual_pages_are_written_below_the_working_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let ended = run_in(directory.path(), "imglife man --dir share/man1", &[]);
    assert_eq!((ended.exit, ended.stdout.as_str(), ended.stderr.as_str()), (Exit::Done, "", ""));
    for page in ["imglife.1", "imglife-sync.1", "imglife-config-check.1"] {
        assert!(directory.path().join("share/man1").join(page).is_file(), "{page}");
    }
    std::fs::write(directory.path().join("file"), "").expect("a file");
    let ended = run_in(directory.path(), "imglife man --dir file/man1", &[]);
    assert_eq!(ended.exit, Exit::Failed);
    assert!(ended.stderr.starts_with("error: manual pages could not be written to file/man1\n  caused by: "), "{}", ended.stderr);
}
