//! Running child programs: what is run is a value, and who runs it is a [`Runner`], so dry modes can refuse.
//!
//! Owns time limits, process groups and bounded capture of output. Does not know what is run, and never uses a shell by itself.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::time::{Instant, sleep_until};

use crate::model::{Secret, Variables};

/// The most bytes that are kept of each output stream; what comes after is read and thrown away.
pub const LARGEST_OUTPUT: usize = 1024 * 1024;

/// How long output is still read after the program itself ended, when something it left behind keeps the stream open.
const GRACE: Duration = Duration::from_millis(500);

/// A program to run. Its environment is exactly `environment`; `PATH` in there is what `program` is searched in.
#[derive(Clone, Debug)]
pub struct Command {
    pub program: String,
    pub arguments: Vec<String>,
    pub environment: Variables,
    /// `None`: the working directory of this process.
    pub directory: Option<PathBuf>,
    pub stdin: Option<Secret>,
    /// After this long the program and all of its process group are killed.
    pub timeout: Duration,
}

/// What a program that was started did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub ending: Ending,
    pub stdout: Captured,
    pub stderr: Captured,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Exited(i32),
    /// Ended by a signal that was not ours.
    Signalled,
    /// Killed when its time was over.
    TimedOut,
}

/// The beginning of an output stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    pub bytes: Vec<u8>,
    /// How many bytes came after what was kept.
    pub dropped: u64,
}

impl Captured {
    /// Returns what was kept as text; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Why a program was not run to an end.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("cannot start `{program}`")]
    Start { program: String, source: io::Error },
    #[error("cannot follow `{program}` to its end")]
    Wait { program: String, source: io::Error },
    #[error("`{program}` is not run in a dry mode")]
    Refused { program: String },
}

/// Runs programs.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Returns what the program did, once it ended. When the future is dropped, the program and its process group are killed.
    async fn run(&self, command: Command) -> Result<Output, CommandError>;
}

/// Runs programs on this machine.
pub struct System;

/// Refuses to run anything: for the dry modes.
pub struct Refusing;

#[async_trait]
impl Runner for Refusing {
    async fn run(&self, command: Command) -> Result<Output, CommandError> {
        Err(CommandError::Refused { program: command.program })
    }
}

#[async_trait]
impl Runner for System {
    async fn run(&self, command: Command) -> Result<Output, CommandError> {
        let deadline = Instant::now() + command.timeout;
        let program = command.program;
        let mut builder = tokio::process::Command::new(&program);
        builder
            .args(&command.arguments)
            .env_clear()
            .envs(command.environment.iter())
            .stdin(if command.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(directory) = &command.directory {
            builder.current_dir(directory);
        }
        let mut child = builder.spawn().map_err(|source| CommandError::Start { program: program.clone(), source })?;
        let group = Group::of(&child);
        let output = follow(&mut child, command.stdin, deadline).await.map_err(|source| CommandError::Wait { program, source })?;
        match output.ending {
            Ending::TimedOut => {
                drop(group);
                // Reaps it; it was killed with its group, so this does not wait long, and a failure changes nothing.
                drop(child.wait().await);
            }
            Ending::Exited(_) | Ending::Signalled => group.release(),
        }
        Ok(output)
    }
}

async fn follow(child: &mut Child, stdin: Option<Secret>, deadline: Instant) -> io::Result<Output> {
    let (input, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut captured_stdout, mut captured_stderr) = (Captured::default(), Captured::default());
    let feed = async {
        if let (Some(mut input), Some(text)) = (input, stdin) {
            // A program need not read its input; whether it did its work is told by how it ends.
            drop(input.write_all(text.expose().as_bytes()).await);
        }
    };
    let streams = async {
        tokio::join!(feed, capture(stdout, &mut captured_stdout), capture(stderr, &mut captured_stderr));
    };
    let mut streams = Box::pin(streams);
    let mut streams_open = true;
    let status = loop {
        tokio::select! {
            status = child.wait() => break Some(status?),
            () = &mut streams, if streams_open => streams_open = false,
            () = sleep_until(deadline) => break None,
        }
    };
    let ending = match status {
        None => Ending::TimedOut,
        Some(status) => {
            if streams_open {
                // What does not end in time is held open by a process that was left behind.
                let _ = tokio::time::timeout(GRACE, &mut streams).await;
            }
            status.code().map_or(Ending::Signalled, Ending::Exited)
        }
    };
    drop(streams);
    Ok(Output { ending, stdout: captured_stdout, stderr: captured_stderr })
}

async fn capture<R: AsyncRead + Unpin>(stream: Option<R>, into: &mut Captured) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; 16 * 1024];
    // An output stream that breaks is one that ended.
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        let kept = read.min(LARGEST_OUTPUT - into.bytes.len());
        into.bytes.extend_from_slice(&buffer[..kept]);
        into.dropped += (read - kept) as u64;
    }
}

/// The process group of a child; killed when this is dropped before the child ended.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Group {
        Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    /// Lets the group live: its leader ended, and its number may be given to others.
    fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended by itself just now.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Command {
        Command {
            program: "sh".to_owned(),
            arguments: vec!["-c".to_owned(), line.to_owned()],
            environment: [("PATH", "/usr/bin:/bin"), ("GIVEN", "value")].into_iter().collect(),
            directory: None,
            stdin: None,
            timeout: Duration::from_secs(20),
        }
    }

    #[tokio::test]
    async fn output_status_and_input_are_those_of_the_program() {
        let mut command = shell("cat; echo err >&2; exit 3");
        command.stdin = Some(Secret::new("hello"));
        let output = System.run(command).await.expect("sh runs");
        assert_eq!((output.ending, output.stdout.text(), output.stderr.text()), (Ending::Exited(3), "hello".into(), "err\n".into()));
    }

    #[tokio::test]
    async fn the_environment_is_what_was_given_and_nothing_else() {
        let output = System.run(shell("echo $GIVEN; echo ${CARGO_MANIFEST_DIR-unset}")).await.expect("sh runs");
        assert_eq!(output.stdout.text(), "value\nunset\n");
    }

    #[tokio::test]
    async fn long_output_is_cut_and_the_program_still_ends() {
        let output = System.run(shell("head -c 1500000 /dev/zero")).await.expect("sh runs");
        assert_eq!(output.ending, Ending::Exited(0));
        assert_eq!((output.stdout.bytes.len(), output.stdout.dropped), (LARGEST_OUTPUT, 1_500_000 - LARGEST_OUTPUT as u64));
    }

    #[tokio::test]
    async fn a_timeout_kills_grandchildren_and_keeps_what_was_printed() {
        let mut command = shell("echo started; sleep 60 & echo $!; wait");
        command.timeout = Duration::from_millis(300);
        let output = System.run(command).await.expect("sh runs");
        assert_eq!(output.ending, Ending::TimedOut);
        let text = output.stdout.text();
        assert_is_gone(text.strip_prefix("started\n").expect("what was printed").trim()).await;
    }

    #[tokio::test]
    async fn a_dropped_run_kills_the_group() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = shell("sleep 60 & echo $! > pid.new; mv pid.new pid; wait");
        command.directory = Some(directory.path().to_owned());
        let file = directory.path().join("pid");
        let run = tokio::spawn(async move { System.run(command).await });
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        run.abort();
        assert_is_gone(std::fs::read_to_string(file).expect("the file").trim()).await;
    }

    #[tokio::test]
    async fn a_process_that_was_left_behind_does_not_hold_the_run_up() {
        let started = Instant::now();
        let output = System.run(shell("sleep 8 & echo done")).await.expect("sh runs");
        assert_eq!((output.ending, output.stdout.text()), (Ending::Exited(0), "done\n".to_owned()));
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn programs_that_are_missing_or_refused_are_errors_with_their_name() {
        let mut missing = shell("");
        missing.program = "no-such-program-here".to_owned();
        let error = System.run(missing).await.expect_err("there is no such program");
        assert_eq!(error.to_string(), "cannot start `no-such-program-here`");
        let error = Refusing.run(shell("true")).await.expect_err("nothing is run");
        assert_eq!(error.to_string(), "`sh` is not run in a dry mode");
    }

    /// Waits until the process ended; one that nobody reaped (state Z) has ended too.
    async fn assert_is_gone(id: &str) {
        for _ in 0..200 {
            match std::fs::read_to_string(format!("/proc/{id}/stat")) {
                Err(_) => return,
                Ok(stat) if stat.contains(") Z ") => return,
                Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        panic!("process {id} still runs");
    }
}
