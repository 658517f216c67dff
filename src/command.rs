//! Running child programs: what is run is a value, and who runs it is a [`Runner`], so dry modes
//! can refuse.
//!
//! Owns time limits, process groups and bounded capture of output. Does not know what is run, and
//! never uses a shell by itself. Two ways: [`Runner::run`] keeps the beginning of the output and
//! kills what takes too long; [`Runner::follow`] hands over lines as they come, and asks a program
//! to end before it is killed, so that it can put away what it made.

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

/// The most bytes that are kept of each output stream; what comes after is read and thrown away.
pub const LARGEST_OUTPUT: usize = 1024 * 1024;

/// How long output is still read after the program itself ended, when something it left behind
/// keeps the stream open.
const GRACE: Duration = Duration::from_millis(500);

/// How long a program that was followed may take to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(3);

/// The longest line that is handed over whole, in bytes; a longer one comes in pieces.
const LONGEST_LINE: usize = 8 * 1024;

/// A program to run. Its environment is exactly `environment`; `PATH` in there is what `program` is
/// searched in.
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

/// Takes the lines of a program's output, without their ends.
pub type Lines<'a> = &'a mut (dyn for<'line> FnMut(&'line str) + Send);

/// Runs programs.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Returns what the program did, once it ended. When the future is dropped, the program and its
    /// process group are killed.
    async fn run(&self, command: Command) -> Result<Output, CommandError>;

    /// Runs a program to its end and hands each line that it writes to `lines`, whichever stream it
    /// writes to; carriage returns end lines too. When the future is dropped or the time is over,
    /// the program and its process group are asked to end (SIGTERM), and killed when they take
    /// longer than some seconds. They are gone when the drop returns.
    async fn follow(&self, command: Command, lines: Lines<'_>) -> Result<Ending, CommandError> {
        let output = self.run(command).await?;
        for stream in [output.stdout, output.stderr] {
            for line in stream.text().lines() {
                lines(line);
            }
        }
        Ok(output.ending)
    }

    /// Starts a program whose output and end nobody looks at, and which may outlive this process:
    /// for what must be put away after a future was dropped. It gets neither input nor a time
    /// limit.
    fn leave(&self, command: Command) {
        drop(command);
    }
}

/// Runs programs on this machine.
pub struct System;

/// Refuses to run anything: for the dry modes.
pub struct Refusing;

#[async_trait]
impl Runner for Refusing {
    async fn run(&self, command: Command) -> Result<Output, CommandError> {
        Err(CommandError::Refused {
            program: command.program,
        })
    }
}

#[async_trait]
impl Runner for System {
    async fn run(&self, command: Command) -> Result<Output, CommandError> {
        let deadline = Instant::now() + command.timeout;
        let mut child = start(
            builder(&command, Stdio::piped).kill_on_drop(true),
            &command.program,
        )?;
        let group = Group::of(&child);
        let output = attend(&mut child, command.stdin, deadline)
            .await
            .map_err(|source| CommandError::Wait {
                program: command.program,
                source,
            })?;
        match output.ending {
            Ending::TimedOut => {
                drop(group);
                // Reaps it; it was killed with its group, so this does not wait long, and a failure
                // changes nothing.
                drop(child.wait().await);
            }
            Ending::Exited(_) | Ending::Signalled => group.release(),
        }
        Ok(output)
    }

    async fn follow(&self, command: Command, lines: Lines<'_>) -> Result<Ending, CommandError> {
        let deadline = Instant::now() + command.timeout;
        let mut followed = Followed::new(start(
            &mut builder(&command, Stdio::piped),
            &command.program,
        )?);
        let ending = hand_over(&mut followed, command.stdin, deadline, lines)
            .await
            .map_err(|source| CommandError::Wait {
                program: command.program,
                source,
            })?;
        if ending != Ending::TimedOut {
            followed.group.0 = None;
        }
        Ok(ending)
    }

    fn leave(&self, command: Command) {
        // Where it cannot be started, nobody is left to be told.
        drop(start(&mut builder(&command, Stdio::null), &command.program));
    }
}

fn builder(command: &Command, output: fn() -> Stdio) -> tokio::process::Command {
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

async fn attend(child: &mut Child, stdin: Option<Secret>, deadline: Instant) -> io::Result<Output> {
    let (input, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut captured_stdout, mut captured_stderr) = (Captured::default(), Captured::default());
    let streams = async {
        tokio::join!(
            feed(input, stdin),
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
    Ok(Output {
        ending,
        stdout: captured_stdout,
        stderr: captured_stderr,
    })
}

async fn feed(input: Option<ChildStdin>, stdin: Option<Secret>) {
    if let (Some(mut input), Some(text)) = (input, stdin) {
        // A program need not read its input; whether it did its work is told by how it ends.
        drop(input.write_all(text.expose().as_bytes()).await);
    }
}

async fn hand_over(
    followed: &mut Followed,
    stdin: Option<Secret>,
    deadline: Instant,
    lines: Lines<'_>,
) -> io::Result<Ending> {
    let Followed {
        child,
        stdout,
        stderr,
        ..
    } = followed;
    let mut input = Box::pin(feed(child.stdin.take(), stdin));
    let mut input_open = true;
    let mut status = None;
    let mut until = deadline;
    while status.is_none() || stdout.is_open() || stderr.is_open() {
        tokio::select! {
            ended = child.wait(), if status.is_none() => {
                status = Some(ended?);
                // What does not end in time is held open by a process that was left behind.
                until = Instant::now() + GRACE;
            }
            () = &mut input, if input_open => input_open = false,
            read = stdout.read(), if stdout.is_open() => stdout.cut(read, lines),
            read = stderr.read(), if stderr.is_open() => stderr.cut(read, lines),
            () = sleep_until(until) => break,
        }
    }
    stdout.finish(lines);
    stderr.finish(lines);
    Ok(status.map_or(Ending::TimedOut, |status| {
        status.code().map_or(Ending::Signalled, Ending::Exited)
    }))
}

/// Cuts a stream into lines.
struct Reader<R> {
    stream: Option<R>,
    buffer: Box<[u8]>,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    fn of(stream: Option<R>) -> Reader<R> {
        Reader {
            stream,
            buffer: vec![0; 16 * 1024].into(),
            line: Vec::new(),
        }
    }

    fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Returns how many bytes of the buffer were read; none when the stream ended. Can be dropped
    /// at any time without a loss.
    async fn read(&mut self) -> usize {
        match &mut self.stream {
            // An output stream that breaks is one that ended.
            Some(stream) => stream.read(&mut self.buffer).await.unwrap_or(0),
            None => 0,
        }
    }

    fn cut(&mut self, read: usize, lines: Lines<'_>) {
        if read == 0 {
            self.stream = None;
        }
        for index in 0..read {
            let byte = self.buffer[index];
            if !matches!(byte, b'\n' | b'\r') {
                self.line.push(byte);
                if self.line.len() < LONGEST_LINE {
                    continue;
                }
            }
            self.finish(lines);
        }
    }

    fn finish(&mut self, lines: Lines<'_>) {
        if !self.line.is_empty() {
            lines(&String::from_utf8_lossy(&self.line));
            self.line.clear();
        }
    }
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
        Group(
            child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .and_then(Pid::from_raw),
        )
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

/// A program that is asked to end, and then killed with its group, when this is dropped before it
/// ended.
struct Followed {
    child: Child,
    group: Group,
    /// Open until the program is gone: its last words would kill it otherwise, by a broken pipe.
    stdout: Reader<ChildStdout>,
    stderr: Reader<ChildStderr>,
}

impl Followed {
    fn new(mut child: Child) -> Followed {
        let (stdout, stderr) = (
            Reader::of(child.stdout.take()),
            Reader::of(child.stderr.take()),
        );
        Followed {
            group: Group::of(&child),
            child,
            stdout,
            stderr,
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let Some(group) = self.group.0 else { return };
        let _ = kill_process_group(group, Signal::TERM);
        // Waited for here, in a blocking way: only so it is gone whichever way the run ends, also
        // with the runtime itself.
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && asked.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        // The group is killed when its own drop follows; what is left in it did not listen.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Command {
        Command {
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
    async fn output_status_and_input_are_those_of_the_program() {
        let mut command = shell("cat; echo err >&2; exit 3");
        command.stdin = Some(Secret::new("hello"));
        let output = System.run(command).await.expect("sh runs");
        assert_eq!(
            (output.ending, output.stdout.text(), output.stderr.text()),
            (Ending::Exited(3), "hello".into(), "err\n".into())
        );
    }

    #[tokio::test]
    async fn the_environment_is_what_was_given_and_nothing_else() {
        let output = System
            .run(shell("echo $GIVEN; echo ${CARGO_MANIFEST_DIR-unset}"))
            .await
            .expect("sh runs");
        assert_eq!(output.stdout.text(), "value\nunset\n");
    }

    #[tokio::test]
    async fn long_output_is_cut_and_the_program_still_ends() {
        let output = System
            .run(shell("head -c 1500000 /dev/zero"))
            .await
            .expect("sh runs");
        assert_eq!(output.ending, Ending::Exited(0));
        assert_eq!(
            (output.stdout.bytes.len(), output.stdout.dropped),
            (LARGEST_OUTPUT, 1_500_000 - LARGEST_OUTPUT as u64)
        );
    }

    #[tokio::test]
    async fn a_timeout_kills_grandchildren_and_keeps_what_was_printed() {
        let mut command = shell("echo started; sleep 60 & echo $!; wait");
        command.timeout = Duration::from_millis(300);
        let output = System.run(command).await.expect("sh runs");
        assert_eq!(output.ending, Ending::TimedOut);
        let text = output.stdout.text();
        assert_is_gone(
            text.strip_prefix("started\n")
                .expect("what was printed")
                .trim(),
        )
        .await;
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
        let output = System
            .run(shell("sleep 8 & echo done"))
            .await
            .expect("sh runs");
        assert_eq!(
            (output.ending, output.stdout.text()),
            (Ending::Exited(0), "done\n".to_owned())
        );
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    async fn followed(line: &str, timeout: Duration) -> (Ending, Vec<String>) {
        let mut lines = Vec::new();
        let command = Command {
            timeout,
            ..shell(line)
        };
        let ending = System
            .follow(command, &mut |line| lines.push(line.to_owned()))
            .await
            .expect("sh runs");
        (ending, lines)
    }

    #[tokio::test]
    async fn lines_of_both_streams_are_handed_over_as_they_come() {
        let (ending, lines) = followed(
            "echo one; sleep 0.1; printf 'two\\rthree\\n\\n' >&2; sleep 0.1; printf four; exit 3",
            PATIENCE,
        )
        .await;
        assert_eq!(
            (ending, lines.join(" ")),
            (Ending::Exited(3), "one two three four".to_owned())
        );
    }

    #[tokio::test]
    async fn a_line_without_an_end_comes_in_pieces() {
        let (_, lines) = followed("head -c 20000 /dev/zero | tr '\\0' x", PATIENCE).await;
        assert_eq!(
            lines.iter().map(String::len).collect::<Vec<_>>(),
            [LONGEST_LINE, LONGEST_LINE, 20_000 - 2 * LONGEST_LINE]
        );
    }

    #[tokio::test]
    async fn a_program_that_is_followed_may_put_its_things_away() {
        let script = "trap 'echo > away; exit' TERM; echo > begun; while :; do sleep 0.05; done";
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = shell(script);
        command.directory = Some(directory.path().to_owned());
        let run = tokio::spawn(async move { System.follow(command, &mut |_| ()).await });
        while !directory.path().join("begun").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        run.abort();
        assert!(run.await.expect_err("it was dropped").is_cancelled());
        assert!(directory.path().join("away").exists());
    }

    #[tokio::test]
    async fn what_does_not_listen_is_killed() {
        let (ending, lines) = followed(
            "trap '' TERM; sleep 60 & echo $!; wait; wait",
            Duration::from_millis(300),
        )
        .await;
        assert_eq!(ending, Ending::TimedOut);
        assert_is_gone(&lines[0]).await;
    }

    #[tokio::test]
    async fn what_is_left_runs_without_anybody() {
        let directory = tempfile::tempdir().expect("a directory");
        System.leave(Command {
            directory: Some(directory.path().to_owned()),
            ..shell("echo > done.new; mv done.new done")
        });
        while !directory.path().join("done").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn programs_that_are_missing_or_refused_are_errors_with_their_name() {
        let mut missing = shell("");
        missing.program = "no-such-program-here".to_owned();
        let error = System
            .run(missing)
            .await
            .expect_err("there is no such program");
        assert_eq!(error.to_string(), "cannot start `no-such-program-here`");
        let error = Refusing
            .run(shell("true"))
            .await
            .expect_err("nothing is run");
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
