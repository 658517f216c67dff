//! Running external programs.
//!
//! A [`ProgramCommand`] describes a program; a [`Runner`] runs it. Dry modes use a runner that
//! refuses. This module owns time limits, process groups and the limits of captured output. It
//! never starts a shell by itself.
//!
//! [`Runner::run`] captures the start of the output and kills a program at its time limit.
//! [`Runner::run_streaming`] passes on each line as it is written, and sends SIGTERM before it
//! kills a program, so that the program can clean up.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::time::{Instant, sleep_until};

use crate::model::{Secret, Variables};

/// Maximum number of bytes that are captured of each output stream. The rest is read and discarded.
pub const MAX_OUTPUT: usize = 1024 * 1024;

/// Time for which output is still read after the program exited, if a process that it left behind
/// keeps the stream open.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Time between SIGTERM and SIGKILL.
const TERM_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum length of a line that is passed on, in bytes. A longer one is split.
const MAX_LINE_LENGTH: usize = 8 * 1024;

/// A program to run, with its arguments and environment.
///
/// The program gets the variables of `environment` and no others. It is searched in the `PATH` of
/// `environment`.
#[derive(Clone, Debug)]
pub struct ProgramCommand {
    pub program: String,
    pub arguments: Vec<String>,
    pub environment: Variables,
    /// Working directory; `None` for that of this process.
    pub directory: Option<PathBuf>,
    pub stdin: Option<Secret>,
    /// Time limit, after which the program's process group is killed.
    pub timeout: Duration,
}

/// Exit status and output of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramOutput {
    pub status: ProgramStatus,
    pub stdout: CapturedOutput,
    pub stderr: CapturedOutput,
}

/// Exit status of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramStatus {
    Exited(i32),
    /// Ended by a signal that imglife did not send.
    Signalled,
    /// Killed after its time limit.
    TimedOut,
}

/// Start of an output stream, at most [`MAX_OUTPUT`] bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapturedOutput {
    pub bytes: Vec<u8>,
    /// Number of bytes that followed and were discarded.
    pub omitted: u64,
}

impl CapturedOutput {
    /// Returns the captured bytes as text. Invalid UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Failure to run a program to its end.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("cannot start `{program}`")]
    Start { program: String, source: io::Error },
    #[error("cannot wait for `{program}`")]
    Wait { program: String, source: io::Error },
    #[error("`{program}` is not run in a dry mode")]
    Refused { program: String },
    #[error("`{program}` is not run in an untrusted job without `--allow-commands`")]
    Untrusted { program: String },
}

/// Callback for the lines of a program's output, without their line breaks.
pub type LineHandler<'a> = &'a mut (dyn for<'line> FnMut(&'line str) + Send);

/// Runs programs.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Runs a program and returns its exit status and output.
    ///
    /// If the future is dropped, the program's process group is killed.
    async fn run(&self, command: ProgramCommand) -> Result<ProgramOutput, CommandError>;

    /// Runs a program and calls `lines` for each line that it writes to either stream. Carriage
    /// returns end lines too.
    ///
    /// If the future is dropped or the time limit passes, the program's process group gets SIGTERM,
    /// and SIGKILL a few seconds later. The processes are gone when the drop returns.
    async fn run_streaming(
        &self,
        command: ProgramCommand,
        lines: LineHandler<'_>,
    ) -> Result<ProgramStatus, CommandError> {
        let output = self.run(command).await?;
        for stream in [output.stdout, output.stderr] {
            for line in stream.text().lines() {
                lines(line);
            }
        }
        Ok(output.status)
    }

    /// Starts a program without waiting for it. It may outlive this process.
    ///
    /// For cleaning up after a future was dropped. The program gets no input and no time limit, and
    /// its output is discarded.
    fn spawn_detached(&self, command: ProgramCommand) {
        drop(command);
    }
}

/// Runner that starts programs on this machine.
pub struct SystemRunner;

/// Runner of the dry modes, which refuses every program.
pub struct RefusingRunner;

#[async_trait]
impl Runner for RefusingRunner {
    async fn run(&self, command: ProgramCommand) -> Result<ProgramOutput, CommandError> {
        Err(CommandError::Refused {
            program: command.program,
        })
    }
}

/// Runner of untrusted jobs, which refuses every program.
pub struct UntrustedRunner;

#[async_trait]
impl Runner for UntrustedRunner {
    async fn run(&self, command: ProgramCommand) -> Result<ProgramOutput, CommandError> {
        Err(CommandError::Untrusted {
            program: command.program,
        })
    }
}

#[async_trait]
impl Runner for SystemRunner {
    async fn run(&self, command: ProgramCommand) -> Result<ProgramOutput, CommandError> {
        let deadline = Instant::now() + command.timeout;
        let mut child = start(
            builder(&command, Stdio::piped).kill_on_drop(true),
            &command.program,
        )?;
        let group = ProcessGroup::of(&child);
        let output = capture_output(&mut child, command.stdin, deadline)
            .await
            .map_err(|source| CommandError::Wait {
                program: command.program,
                source,
            })?;
        match output.status {
            ProgramStatus::TimedOut => {
                drop(group);
                // Reaps the process. It was killed with its group, so this returns soon; a failure
                // does not matter.
                drop(child.wait().await);
            }
            ProgramStatus::Exited(_) | ProgramStatus::Signalled => group.release(),
        }
        Ok(output)
    }

    async fn run_streaming(
        &self,
        command: ProgramCommand,
        lines: LineHandler<'_>,
    ) -> Result<ProgramStatus, CommandError> {
        let deadline = Instant::now() + command.timeout;
        let mut program = StreamedProgram::new(start(
            &mut builder(&command, Stdio::piped),
            &command.program,
        )?);
        let status = forward_lines(&mut program, command.stdin, deadline, lines)
            .await
            .map_err(|source| CommandError::Wait {
                program: command.program,
                source,
            })?;
        if status != ProgramStatus::TimedOut {
            program.group.0 = None;
        }
        Ok(status)
    }

    fn spawn_detached(&self, command: ProgramCommand) {
        // The caller is gone, so a failure cannot be reported.
        drop(start(&mut builder(&command, Stdio::null), &command.program));
    }
}

fn builder(command: &ProgramCommand, output: fn() -> Stdio) -> tokio::process::Command {
    let mut builder = tokio::process::Command::new(&command.program);
    builder
        .args(&command.arguments)
        .env_clear()
        .envs(command.environment.iter())
        .stdin(if command.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(output())
        .stderr(output())
        .process_group(0);
    if let Some(directory) = &command.directory {
        builder.current_dir(directory);
    }
    builder
}

fn start(builder: &mut tokio::process::Command, program: &str) -> Result<Child, CommandError> {
    builder.spawn().map_err(|source| CommandError::Start {
        program: program.to_owned(),
        source,
    })
}

async fn capture_output(
    child: &mut Child,
    stdin: Option<Secret>,
    deadline: Instant,
) -> io::Result<ProgramOutput> {
    let (input, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut captured_stdout, mut captured_stderr) =
        (CapturedOutput::default(), CapturedOutput::default());
    let streams = async {
        tokio::join!(
            write_stdin(input, stdin),
            capture(stdout, &mut captured_stdout),
            capture(stderr, &mut captured_stderr)
        );
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
    let status = match status {
        None => ProgramStatus::TimedOut,
        Some(status) => {
            if streams_open {
                // A stream that stays open is held by a process that the program left behind.
                let _ = tokio::time::timeout(DRAIN_TIMEOUT, &mut streams).await;
            }
            status
                .code()
                .map_or(ProgramStatus::Signalled, ProgramStatus::Exited)
        }
    };
    drop(streams);
    Ok(ProgramOutput {
        status,
        stdout: captured_stdout,
        stderr: captured_stderr,
    })
}

async fn write_stdin(input: Option<ChildStdin>, stdin: Option<Secret>) {
    if let (Some(mut input), Some(text)) = (input, stdin) {
        // A program need not read its input. Its exit status shows if it succeeded.
        drop(input.write_all(text.expose().as_bytes()).await);
    }
}

async fn forward_lines(
    program: &mut StreamedProgram,
    stdin: Option<Secret>,
    deadline: Instant,
    lines: LineHandler<'_>,
) -> io::Result<ProgramStatus> {
    let StreamedProgram {
        child,
        stdout,
        stderr,
        ..
    } = program;
    let mut input = Box::pin(write_stdin(child.stdin.take(), stdin));
    let mut input_open = true;
    let mut status = None;
    let mut until = deadline;
    while status.is_none() || stdout.is_open() || stderr.is_open() {
        tokio::select! {
            ended = child.wait(), if status.is_none() => {
                status = Some(ended?);
                // A stream that stays open is held by a process that the program left behind.
                until = Instant::now() + DRAIN_TIMEOUT;
            }
            () = &mut input, if input_open => input_open = false,
            read = stdout.read(), if stdout.is_open() => stdout.split(read, lines),
            read = stderr.read(), if stderr.is_open() => stderr.split(read, lines),
            () = sleep_until(until) => break,
        }
    }
    stdout.finish(lines);
    stderr.finish(lines);
    Ok(status.map_or(ProgramStatus::TimedOut, |status| {
        status
            .code()
            .map_or(ProgramStatus::Signalled, ProgramStatus::Exited)
    }))
}

/// Splits a stream into lines.
struct LineSplitter<R> {
    stream: Option<R>,
    buffer: Box<[u8]>,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> LineSplitter<R> {
    fn new(stream: Option<R>) -> LineSplitter<R> {
        LineSplitter {
            stream,
            buffer: vec![0; 16 * 1024].into(),
            line: Vec::new(),
        }
    }

    fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Reads into the buffer and returns the number of bytes, 0 at the end of the stream.
    ///
    /// Cancel safe: dropping the future loses no bytes.
    async fn read(&mut self) -> usize {
        match &mut self.stream {
            // A broken output stream counts as ended.
            Some(stream) => stream.read(&mut self.buffer).await.unwrap_or(0),
            None => 0,
        }
    }

    fn split(&mut self, read: usize, lines: LineHandler<'_>) {
        if read == 0 {
            self.stream = None;
        }
        for index in 0..read {
            let byte = self.buffer[index];
            if !matches!(byte, b'\n' | b'\r') {
                self.line.push(byte);
                if self.line.len() < MAX_LINE_LENGTH {
                    continue;
                }
            }
            self.finish(lines);
        }
    }

    fn finish(&mut self, lines: LineHandler<'_>) {
        if !self.line.is_empty() {
            lines(&String::from_utf8_lossy(&self.line));
            self.line.clear();
        }
    }
}

async fn capture<R: AsyncRead + Unpin>(stream: Option<R>, into: &mut CapturedOutput) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; 16 * 1024];
    // A broken output stream counts as ended.
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        let kept = read.min(MAX_OUTPUT - into.bytes.len());
        into.bytes.extend_from_slice(&buffer[..kept]);
        into.omitted += (read - kept) as u64;
    }
}

/// Process group of a child. Kills the group when dropped, unless it was released.
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    fn of(child: &Child) -> ProcessGroup {
        ProcessGroup(
            child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .and_then(Pid::from_raw),
        )
    }

    /// Forgets the group without killing it: its leader exited, so the system may reuse its ID.
    fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // The group may just have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// A program whose lines are passed on. When dropped before the program exited, sends SIGTERM and
/// then kills its group.
struct StreamedProgram {
    child: Child,
    group: ProcessGroup,
    /// Stays open until the program is gone. Otherwise a program that writes while it cleans up
    /// would be killed by a broken pipe.
    stdout: LineSplitter<ChildStdout>,
    stderr: LineSplitter<ChildStderr>,
}

impl StreamedProgram {
    fn new(mut child: Child) -> StreamedProgram {
        let (stdout, stderr) = (
            LineSplitter::new(child.stdout.take()),
            LineSplitter::new(child.stderr.take()),
        );
        StreamedProgram {
            group: ProcessGroup::of(&child),
            child,
            stdout,
            stderr,
        }
    }
}

impl Drop for StreamedProgram {
    fn drop(&mut self) {
        let Some(group) = self.group.0 else { return };
        let _ = kill_process_group(group, Signal::TERM);
        // Blocks on purpose: this way the program is gone however the run ends, even if the runtime
        // shuts down.
        let terminated_at = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && terminated_at.elapsed() < TERM_TIMEOUT {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Dropping `group` kills what is left of it.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> ProgramCommand {
        ProgramCommand {
            program: "sh".to_owned(),
            arguments: vec!["-c".to_owned(), line.to_owned()],
            environment: [("PATH", "/usr/bin:/bin"), ("GIVEN", "value")]
                .into_iter()
                .collect(),
            directory: None,
            stdin: None,
            timeout: Duration::from_secs(20),
        }
    }

    #[tokio::test]
    async fn run_passes_input_and_returns_output_and_status() {
        let mut command = shell("cat; echo err >&2; exit 3");
        command.stdin = Some(Secret::new("hello"));
        let output = SystemRunner.run(command).await.expect("sh runs");
        assert_eq!(
            (output.status, output.stdout.text(), output.stderr.text()),
            (ProgramStatus::Exited(3), "hello".into(), "err\n".into())
        );
    }

    #[tokio::test]
    async fn run_passes_only_the_given_environment() {
        let output = SystemRunner
            .run(shell("echo $GIVEN; echo ${CARGO_MANIFEST_DIR-unset}"))
            .await
            .expect("sh runs");
        assert_eq!(output.stdout.text(), "value\nunset\n");
    }

    #[tokio::test]
    async fn run_cuts_long_output_without_blocking_the_program() {
        let output = SystemRunner
            .run(shell("head -c 1500000 /dev/zero"))
            .await
            .expect("sh runs");
        assert_eq!(output.status, ProgramStatus::Exited(0));
        assert_eq!(
            (output.stdout.bytes.len(), output.stdout.omitted),
            (MAX_OUTPUT, 1_500_000 - MAX_OUTPUT as u64)
        );
    }

    #[tokio::test]
    async fn run_kills_grandchildren_at_the_timeout_and_keeps_the_output() {
        let mut command = shell("echo started; sleep 60 & echo $!; wait");
        command.timeout = Duration::from_millis(300);
        let output = SystemRunner.run(command).await.expect("sh runs");
        assert_eq!(output.status, ProgramStatus::TimedOut);
        let text = output.stdout.text();
        assert_is_gone(
            text.strip_prefix("started\n")
                .expect("the output before the timeout")
                .trim(),
        )
        .await;
    }

    #[tokio::test]
    async fn dropping_a_run_kills_the_process_group() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = shell("sleep 60 & echo $! > pid.new; mv pid.new pid; wait");
        command.directory = Some(directory.path().to_owned());
        let file = directory.path().join("pid");
        let run = tokio::spawn(async move { SystemRunner.run(command).await });
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        run.abort();
        assert_is_gone(std::fs::read_to_string(file).expect("the file").trim()).await;
    }

    #[tokio::test]
    async fn run_does_not_wait_for_a_background_process() {
        let started = Instant::now();
        let output = SystemRunner
            .run(shell("sleep 8 & echo done"))
            .await
            .expect("sh runs");
        assert_eq!(
            (output.status, output.stdout.text()),
            (ProgramStatus::Exited(0), "done\n".to_owned())
        );
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    async fn streamed(line: &str, timeout: Duration) -> (ProgramStatus, Vec<String>) {
        let mut lines = Vec::new();
        let command = ProgramCommand {
            timeout,
            ..shell(line)
        };
        let status = SystemRunner
            .run_streaming(command, &mut |line| lines.push(line.to_owned()))
            .await
            .expect("sh runs");
        (status, lines)
    }

    #[tokio::test]
    async fn run_streaming_passes_on_lines_of_both_streams() {
        let (status, lines) = streamed(
            "echo one; sleep 0.1; printf 'two\\rthree\\n\\n' >&2; sleep 0.1; printf four; exit 3",
            TERM_TIMEOUT,
        )
        .await;
        assert_eq!(
            (status, lines.join(" ")),
            (ProgramStatus::Exited(3), "one two three four".to_owned())
        );
    }

    #[tokio::test]
    async fn run_streaming_splits_very_long_lines() {
        let (_, lines) = streamed("head -c 20000 /dev/zero | tr '\\0' x", TERM_TIMEOUT).await;
        assert_eq!(
            lines.iter().map(String::len).collect::<Vec<_>>(),
            [
                MAX_LINE_LENGTH,
                MAX_LINE_LENGTH,
                20_000 - 2 * MAX_LINE_LENGTH
            ]
        );
    }

    #[tokio::test]
    async fn dropping_a_streamed_run_lets_the_program_clean_up() {
        let script = "trap 'echo > away; exit' TERM; echo > begun; while :; do sleep 0.05; done";
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = shell(script);
        command.directory = Some(directory.path().to_owned());
        let run =
            tokio::spawn(async move { SystemRunner.run_streaming(command, &mut |_| ()).await });
        while !directory.path().join("begun").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        run.abort();
        assert!(run.await.expect_err("it was dropped").is_cancelled());
        assert!(directory.path().join("away").exists());
    }

    #[tokio::test]
    async fn run_streaming_kills_a_program_that_ignores_sigterm() {
        let (status, lines) = streamed(
            "trap '' TERM; sleep 60 & echo $!; wait; wait",
            Duration::from_millis(300),
        )
        .await;
        assert_eq!(status, ProgramStatus::TimedOut);
        assert_is_gone(&lines[0]).await;
    }

    #[tokio::test]
    async fn spawn_detached_runs_without_being_awaited() {
        let directory = tempfile::tempdir().expect("a directory");
        SystemRunner.spawn_detached(ProgramCommand {
            directory: Some(directory.path().to_owned()),
            ..shell("echo > done.new; mv done.new done")
        });
        while !directory.path().join("done").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn errors_name_the_missing_or_refused_program() {
        let mut missing = shell("");
        missing.program = "no-such-program-here".to_owned();
        let error = SystemRunner
            .run(missing)
            .await
            .expect_err("there is no such program");
        assert_eq!(error.to_string(), "cannot start `no-such-program-here`");
        let error = RefusingRunner
            .run(shell("true"))
            .await
            .expect_err("nothing is run");
        assert_eq!(error.to_string(), "`sh` is not run in a dry mode");
    }

    /// Waits until the process is gone or a zombie (state Z).
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
