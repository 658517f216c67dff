//! The process of a run: environment variables, clock, working directory, streams.
//!
//! The only module that reads the environment and the wall clock. All other code gets a [`Process`]
//! or parts of it.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use chrono::Utc;

use crate::model::lock::lock;
use crate::model::{Clock, Variables};

/// Process of a run.
#[derive(Clone, Debug)]
pub struct Process {
    pub variables: Variables,
    pub clock: Clock,
    /// Working directory. Paths on the command line are relative to it.
    pub directory: PathBuf,
    pub stdout: Stream,
    pub stderr: Stream,
}

impl Process {
    /// Returns the current process. If the working directory was deleted, relative paths do not
    /// work, but commands without such paths do.
    #[expect(
        clippy::disallowed_methods,
        reason = "only this function reads the environment and the clock"
    )]
    pub fn current() -> Process {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Process {
            variables,
            clock: Clock::new(Utc::now),
            directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            stdout: Stream::new(io::stdout(), io::stdout().is_terminal()),
            stderr: Stream::new(io::stderr(), io::stderr().is_terminal()),
        }
    }
}

/// Output stream that several tasks can share. Each write is atomic.
#[derive(Clone)]
pub struct Stream {
    target: Arc<Mutex<dyn Write + Send>>,
    /// True if the stream is a terminal. Decides on colours and progress bars.
    pub is_terminal: bool,
}

impl Stream {
    /// Returns a stream that writes to `target`.
    pub fn new(target: impl Write + Send + 'static, is_terminal: bool) -> Stream {
        Stream {
            target: Arc::new(Mutex::new(target)),
            is_terminal,
        }
    }

    /// Returns a stream into memory, and access to its text.
    pub fn captured() -> (Stream, Captured) {
        let captured = Captured::default();
        (Stream::new(captured.clone(), false), captured)
    }

    /// Writes `text` and flushes. A closed pipe (`imglife ... | head`) is not an error.
    pub fn write(&self, text: &str) -> io::Result<()> {
        let mut target = lock(&self.target);
        match target
            .write_all(text.as_bytes())
            .and_then(|()| target.flush())
        {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Stream")
            .field("is_terminal", &self.is_terminal)
            .finish_non_exhaustive()
    }
}

/// Text of a stream into memory.
#[derive(Clone, Debug, Default)]
pub struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// Returns the text written so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.0)).into_owned()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
