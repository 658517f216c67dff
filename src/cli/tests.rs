//! Tests of the command line as a whole, with a test process.

use std::ffi::OsString;
use std::path::Path;

use chrono::DateTime;
use clap::CommandFactory;

use super::main;
use super::program::Cli;
use crate::error::Exit;
use crate::model::{Clock, Variables};
use crate::process::{Process, Stream};

struct RunOutcome {
    exit: Exit,
    stdout: String,
    stderr: String,
}

fn run_in(directory: &Path, line: &str, variables: &[(&str, &str)]) -> RunOutcome {
    let (stdout, stdout_text) = Stream::captured();
    let (stderr, stderr_text) = Stream::captured();
    let process = Process {
        variables: variables.iter().copied().collect(),
        clock: Clock::fixed(DateTime::UNIX_EPOCH),
        directory: directory.to_owned(),
        stdout,
        stderr,
    };
    let exit = main(line.split_whitespace().map(OsString::from), &process);
    RunOutcome {
        exit,
        stdout: stdout_text.text(),
        stderr: stderr_text.text(),
    }
}

fn run(line: &str) -> RunOutcome {
    run_in(Path::new("/nonexistent"), line, &[])
}

#[test]
fn the_argument_definitions_are_valid() {
    Cli::command().debug_assert();
}

#[test]
fn the_version_is_one_line_on_stdout() {
    let ended = run("imglife --version");
    assert_eq!(
        (ended.exit, ended.stdout.as_str(), ended.stderr.as_str()),
        (Exit::Done, "imglife 0.1.0\n", "")
    );
}

#[test]
fn help_describes_the_program() {
    let ended = run("imglife --help");
    assert_eq!((ended.exit, ended.stderr.as_str()), (Exit::Done, ""));
    // clap indents blank lines of a description.
    let help: Vec<&str> = ended.stdout.lines().map(str::trim_end).collect();
    insta::assert_snapshot!(help.join("\n"), @"
    Keep an organisation's container images alive

    Mirrors public images, builds base images on the mirrors, tracks when they reach their end of life,
    records which applications use which base, and cleans up old tags. Configured by one file:
    `./imglife.yaml`, or the file set by `--config` or `IMGLIFE_CONFIG`. Reports and data go to stdout;
    logs, progress and errors go to stderr.

    Usage: imglife [OPTIONS] [COMMAND]

    Commands:
      sync         Mirror upstream tags
      copy         Copy one image
      tags         List the tags that the rules of a `sync` entry would select
      import       Convert the file of another mirroring tool to `imglife.yaml`
      build        Build base images from templates
      cleanup      Delete old tags that are no longer used
      eol          Track end-of-life dates
      status       Report on mirrors, base images and applications
      run          Run the steps of a pipeline
      register     Record which base an application image uses
      check        Check that the base of an application is current and supported
      latest       Print the newest reference of a base
      base-args    Print build flags that record the base of an image
      app          List and delete build records of applications
      init         Create the files of a new base image repository
      doctor       Check everything that the configuration needs, and suggest fixes
      git          Commit and push files from a pipeline
      config       Validate, describe or show the configuration
      demo         Try imglife on sample data, without a server or network
      completions  Print a completion script for a shell
      man          Print a manual page, or write all manual pages
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Global options:
      -c, --config <PATH>
              Configuration file [environment: `IMGLIFE_CONFIG`; default: ./imglife.yaml]

          --check
              Validate the configuration, then exit

          --time-limit <DURATION>
              Stop after this time, such as `45m` or `1h30m`, and report what was done [default: the
              remaining time of the CI job]

          --untrusted
              Treat the job as untrusted, as those of merge requests are: limit credentials, variables
              and commands

          --allow-commands
              In an untrusted job, run hooks and build programs, without secrets in their environment

          --allow-outside
              Accept paths in the configuration that lead out of its repository

      -q, --quiet
              Print only errors and the report, no other logs and no progress

          --no-progress
              Hide the progress display

          --color <WHEN>
              When to use colours; `auto` respects `NO_COLOR` and TERM=dumb

              [default: auto]
              [possible values: auto, always, never]

          --log-format <FORMAT>
              Format of logs, progress and errors [environment: `IMGLIFE_LOG_FORMAT`; default: text]

              [possible values: text, json]

          --log-level <LEVEL>
              Minimum level of logs to print [environment: `IMGLIFE_LOG_LEVEL`; default: info]

              [possible values: error, warn, info, debug, trace]

    Examples:
      imglife demo              try it on sample data, without a server
      imglife doctor            check hosts, credentials and programs
      imglife --check           validate ./imglife.yaml
      imglife sync --dry-run    show which tags a sync would copy
      imglife eol list          list end-of-life dates
      imglife status            report on mirrors, base images and applications
      imglife run               run all steps in order, as in a nightly pipeline
      imglife help sync         show the help of a command

    Exit codes:
      0    success
      1    the command failed, or one of its items failed
      2    invalid usage or configuration; nothing was changed
      3    success, but a policy that you set is violated
      130  stopped by Ctrl-C
      143  stopped by SIGTERM
    ");
}

#[test]
fn help_of_every_command_has_examples() {
    fn visit(command: &clap::Command, line: &str) {
        let shown = run(&format!("{line} --help"));
        assert_eq!(shown.exit, Exit::Done, "{line}");
        assert!(shown.stdout.contains("Example"), "{line}");
        assert!(
            shown.stdout.contains(&format!("  {line}")),
            "no example of {line}"
        );
        for subcommand in command.get_subcommands() {
            visit(subcommand, &format!("{line} {}", subcommand.get_name()));
        }
    }
    visit(&Cli::command(), "imglife");
}

#[test]
fn usage_errors_go_to_stderr_and_exit_with_2() {
    let ended = run("imglife sync --dry-rum");
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Usage, ""));
    insta::assert_snapshot!(ended.stderr, @"
    error: unexpected argument '--dry-rum' found

      tip: a similar argument exists: '--dry-run'

    Usage: imglife sync --dry-run

    For more information, try '--help'.
    ");
    for line in [
        "imglife",
        "imglife -q",
        "imglife sync --list --dry-run",
        "imglife sync --shard 4/3",
        "imglife sync --output yaml",
        "imglife config",
    ] {
        let ended = run(line);
        assert_eq!(
            (ended.exit, ended.stdout.as_str()),
            (Exit::Usage, ""),
            "{line}"
        );
        assert!(
            ended.stderr.contains("Usage: imglife") || ended.stderr.contains("try '--help'"),
            "{line}: {}",
            ended.stderr
        );
    }
    let ended = run("imglife sync --shard 4/3");
    assert_eq!(ended.exit, Exit::Usage);
    assert!(
        ended
            .stderr
            .contains("expected `I/N` with 1 <= I <= N <= 1000, such as `1/3`, or `auto`"),
        "{}",
        ended.stderr
    );
}

#[test]
fn usage_errors_are_coloured_only_with_color_always() {
    assert!(!run("imglife --wrong").stderr.contains('\u{1b}'));
    assert!(
        run("imglife --color always --wrong")
            .stderr
            .contains('\u{1b}')
    );
    assert!(
        run("imglife --color=always --help")
            .stdout
            .contains('\u{1b}')
    );
    for line in [
        "imglife --color always sync",
        "imglife sync --color always",
        "imglife sync --color=always",
    ] {
        assert!(
            run(line)
                .stderr
                .starts_with("\u{1b}[1m\u{1b}[31merror:\u{1b}[0m there is no imglife.yaml"),
            "{line}"
        );
    }
}

#[test]
fn global_flags_work_before_and_after_the_command() {
    for line in [
        "imglife --config no.yaml sync",
        "imglife sync -c no.yaml",
        "imglife config check --config no.yaml",
        "imglife -c no.yaml --check",
    ] {
        let ended = run(line);
        assert_eq!(ended.exit, Exit::Usage, "{line}");
        assert!(
            ended
                .stderr
                .starts_with("error: cannot read the configuration file /nonexistent/no.yaml\n"),
            "{line}: {}",
            ended.stderr
        );
    }
}

#[test]
fn check_flag_replaces_the_command() {
    let ended = run("imglife --check man");
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Usage, ""));
    assert!(
        ended
            .stderr
            .starts_with("error: there is no imglife.yaml in /nonexistent\n  hint: "),
        "{}",
        ended.stderr
    );
}

#[test]
fn an_invalid_variable_is_a_usage_error_and_a_flag_wins_over_it() {
    let ended = run_in(
        Path::new("/"),
        "imglife man",
        &[("IMGLIFE_LOG_LEVEL", "loud\u{1b}")],
    );
    assert_eq!(ended.exit, Exit::Usage);
    insta::assert_snapshot!(ended.stderr, @r"
    error: IMGLIFE_LOG_LEVEL is `loud\u{1b}`
      hint: set it to one of error, warn, info, debug, trace
    ");
    let ended = run_in(
        Path::new("/"),
        "imglife man --log-level warn",
        &[("IMGLIFE_LOG_LEVEL", "loud")],
    );
    assert_eq!(ended.exit, Exit::Done);
}

#[test]
fn with_json_logs_a_failure_is_an_object_and_secrets_are_masked() {
    let variables = [("IMGLIFE_LOG_FORMAT", "json"), ("SOME_TOKEN", "hunter2")];
    let ended = run_in(
        Path::new("/"),
        "imglife --check -c hunter2.yaml",
        &variables,
    );
    assert_eq!(ended.exit, Exit::Usage);
    insta::assert_snapshot!(ended.stderr, @r#"
    {"time":"1970-01-01T00:00:00.000Z","level":"error","target":"imglife","message":"cannot read the configuration file /***.yaml","causes":["No such file or directory (os error 2)"],"hints":["`--config` refers to this file; relative paths start at /"]}
    "#);
}

#[test]
fn with_json_logs_each_finding_in_the_configuration_is_an_object() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = "sync:\n  paralellism: 4\n  entries:\n    - source: alpine\n      target: registry.example.com/alpine\n      tag: hunter2 x\n";
    std::fs::write(directory.path().join("imglife.yaml"), text).expect("a file");
    let ended = run_in(
        directory.path(),
        "imglife --check --log-format json",
        &[("SOME_TOKEN", "hunter2")],
    );
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Usage, ""));
    insta::assert_snapshot!(ended.stderr, @r#"
    {"time":"1970-01-01T00:00:00.000Z","level":"error","target":"imglife","message":"unknown key","file":"imglife.yaml","path":"sync.paralellism","line":2,"column":3,"hint":"did you mean `parallelism`?"}
    {"time":"1970-01-01T00:00:00.000Z","level":"error","target":"imglife","message":"`*** x` is not a tag: a tag consists of letters, digits, `_`, `.` and `-`, and does not start with `.` or `-`","file":"imglife.yaml","path":"sync.entries[0].tag","line":6,"column":12}
    "#);
}

#[test]
fn completions_and_manual_pages_contain_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run(&format!("imglife completions {shell}"));
        assert_eq!((ended.exit, ended.stderr.as_str()), (Exit::Done, ""));
        assert!(ended.stdout.contains("dry-run"), "{shell}");
    }
    assert!(run("imglife man").stdout.contains("imglife\\-sync(1)"));
    assert!(
        run("imglife man config check")
            .stdout
            .contains("imglife\\-config\\-check")
    );
    let ended = run("imglife man snyc");
    assert_eq!((ended.exit, ended.stdout.as_str()), (Exit::Usage, ""));
    assert_eq!(
        ended.stderr,
        "error: there is no command `snyc`\n  hint: `imglife --help` lists the commands\n"
    );
}

/// Writer to a full disk.
struct FullDisk;

impl std::io::Write for FullDisk {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn report_files_are_written_although_stdout_fails() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = "sync: { entries: [{ source: 'ocidir://no', target: 'ocidir://where', tag: a }] }";
    std::fs::write(directory.path().join("imglife.yaml"), config).expect("a file");
    for line in [
        "imglife sync --report-junit junit.xml --report-metrics metrics.txt",
        "imglife man",
        "imglife config schema",
    ] {
        let (stderr, stderr_text) = Stream::captured();
        let process = Process {
            variables: Variables::default(),
            clock: Clock::fixed(DateTime::UNIX_EPOCH),
            directory: directory.path().to_owned(),
            stdout: Stream::new(FullDisk, false),
            stderr,
        };
        assert_eq!(
            main(line.split(' ').map(OsString::from), &process),
            Exit::Failed,
            "{line}"
        );
        assert!(
            stderr_text
                .text()
                .contains("error: cannot write to stdout\n  caused by: "),
            "{line}: {}",
            stderr_text.text()
        );
    }
    for file in ["junit.xml", "metrics.txt"] {
        assert!(directory.path().join(file).is_file(), "{file}");
    }
}

#[test]
fn man_dir_is_relative_to_the_working_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let ended = run_in(directory.path(), "imglife man --dir share/man1", &[]);
    assert_eq!(
        (ended.exit, ended.stdout.as_str(), ended.stderr.as_str()),
        (Exit::Done, "", "")
    );
    for page in ["imglife.1", "imglife-sync.1", "imglife-config-check.1"] {
        assert!(
            directory.path().join("share/man1").join(page).is_file(),
            "{page}"
        );
    }
    std::fs::write(directory.path().join("file"), "").expect("a file");
    let ended = run_in(directory.path(), "imglife man --dir file/man1", &[]);
    assert_eq!(ended.exit, Exit::Failed);
    assert!(
        ended
            .stderr
            .starts_with("error: manual pages could not be written to file/man1\n  caused by: "),
        "{}",
        ended.stderr
    );
}
