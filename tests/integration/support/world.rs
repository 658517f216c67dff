//! An isolated directory and environment, and programs that run in them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A temporary directory with a home, a directory for temporary files and a working directory, and
/// the environment variables of programs. The environment of the tests themselves is not passed on.
pub(crate) struct World {
    directory: TempDir,
    variables: BTreeMap<OsString, OsString>,
}

impl World {
    pub(crate) fn new() -> World {
        let directory = tempfile::Builder::new()
            .prefix("imglife-test-")
            .tempdir()
            .expect("a temporary directory");
        for name in ["work", "home", "tmp", "bin"] {
            fs::create_dir(directory.path().join(name)).expect("a new directory");
        }
        let mut path = directory.path().join("bin").into_os_string();
        path.push(":/usr/local/bin:/usr/bin:/bin");
        let world = World {
            directory,
            variables: BTreeMap::new(),
        };
        let (home, temporary) = (
            world.directory.path().join("home"),
            world.directory.path().join("tmp"),
        );
        world
            .variable("HOME", home)
            .variable("TMPDIR", temporary)
            .variable("PATH", path)
            .variable("LANG", "C.UTF-8")
            .variable("TZ", "UTC")
            .variable("TERM", "dumb")
            .variable("NO_COLOR", "1")
            .variable("COLUMNS", "100")
    }

    /// Sets an environment variable for the programs that run in the world.
    #[must_use]
    pub(crate) fn variable(mut self, name: &str, value: impl Into<OsString>) -> World {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Adds a file below the working directory, with its parent directories.
    #[must_use]
    pub(crate) fn file(self, path: &str, content: impl AsRef<[u8]>) -> World {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("new directories");
        fs::write(path, content).expect("a written file");
        self
    }

    /// Adds an executable shell script, which comes before all programs in `PATH`.
    #[must_use]
    pub(crate) fn program(self, name: &str, script: &str) -> World {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.directory.path().join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a written script");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("an executable script");
        self
    }

    /// Returns an absolute path below the working directory; the directory itself for an empty
    /// path.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        let work = self.directory.path().join("work");
        if relative.is_empty() {
            work
        } else {
            work.join(relative)
        }
    }

    /// Returns the home directory.
    pub(crate) fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// Runs imglife to its end.
    pub(crate) fn imglife<const N: usize>(&self, arguments: [&str; N]) -> Outcome {
        self.start_imglife(arguments).wait()
    }

    /// Runs imglife with any number of arguments to its end.
    pub(crate) fn imglife_with(&self, arguments: &[&str]) -> Outcome {
        self.start_with(arguments).wait()
    }

    /// Starts imglife with any number of arguments.
    pub(crate) fn start_with(&self, arguments: &[&str]) -> Running {
        self.start(Path::new(env!("CARGO_BIN_EXE_imglife")), arguments)
    }

    /// Starts imglife.
    pub(crate) fn start_imglife<const N: usize>(&self, arguments: [&str; N]) -> Running {
        self.start(Path::new(env!("CARGO_BIN_EXE_imglife")), &arguments)
    }

    /// Runs a shell line to its end.
    pub(crate) fn shell(&self, line: &str) -> Outcome {
        self.start_shell(line).wait()
    }

    /// Starts a shell line.
    pub(crate) fn start_shell(&self, line: &str) -> Running {
        self.start(Path::new("/bin/sh"), &["-c", line])
    }

    fn start(&self, program: &Path, arguments: &[&str]) -> Running {
        let line = format!(
            "{} {}",
            program.file_name().unwrap_or_default().to_string_lossy(),
            arguments.join(" ")
        );
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(&self.variables)
            .current_dir(self.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start `{line}`: {error}"));
        let stdout = reader(child.stdout.take().expect("a pipe"));
        let stderr = reader(child.stderr.take().expect("a pipe"));
        Running {
            line,
            child,
            stdout,
            stderr,
            started: Instant::now(),
            limit: Duration::from_secs(120),
        }
    }
}

fn reader(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes)
            .expect("output that can be read");
        bytes
    })
}

/// A running program. It is killed after its time limit, by default two minutes.
pub(crate) struct Running {
    line: String,
    child: Child,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
    started: Instant,
    limit: Duration,
}

impl Running {
    /// Sets the time limit.
    #[must_use]
    pub(crate) fn within(mut self, limit: Duration) -> Running {
        self.limit = limit;
        self
    }

    /// Returns the process ID.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `INT`, `TERM` or `KILL`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("/bin/kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(
            status.expect("kill runs").success(),
            "`{}` could not be sent {name}",
            self.line
        );
    }

    /// Waits until the program exits.
    pub(crate) fn wait(mut self) -> Outcome {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child to wait for") {
                break Some(status);
            }
            if self.started.elapsed() > self.limit {
                self.child
                    .kill()
                    .and_then(|()| self.child.wait())
                    .expect("a child that can be killed");
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let text = |handle: JoinHandle<Vec<u8>>| {
            String::from_utf8_lossy(&handle.join().expect("a reader")).into_owned()
        };
        let elapsed = self.started.elapsed();
        let (stdout, stderr) = (text(self.stdout), text(self.stderr));
        let line = self.line;
        let Some(status) = status else {
            panic!(
                "`{line}` was killed after {elapsed:.0?}\n--- stdout\n{stdout}--- stderr\n{stderr}"
            );
        };
        Outcome {
            line,
            status,
            stdout,
            stderr,
            elapsed,
        }
    }
}

/// Exit status and output of a program.
#[derive(Debug)]
pub(crate) struct Outcome {
    line: String,
    status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) elapsed: Duration,
}

impl Outcome {
    /// Returns the exit code; `None` if a signal ended the program.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Fails the test unless the exit code is 0.
    pub(crate) fn succeeds(self) -> Outcome {
        self.exits(0)
    }

    /// Fails the test unless the exit code is `code`.
    pub(crate) fn exits(self, code: i32) -> Outcome {
        let Outcome {
            line,
            status,
            stdout,
            stderr,
            ..
        } = &self;
        assert_eq!(
            status.code(),
            Some(code),
            "`{line}`: {status}\n--- stdout\n{stdout}--- stderr\n{stderr}"
        );
        self
    }
}

#[test]
fn program_gets_only_the_variables_of_its_world() {
    let seen = World::new()
        .variable("IMGLIFE_X", "1")
        .shell("env | cut -d= -f1 | sort")
        .succeeds()
        .stdout;
    let expected = [
        "COLUMNS",
        "HOME",
        "IMGLIFE_X",
        "LANG",
        "NO_COLOR",
        "PATH",
        "PWD",
        "TERM",
        "TMPDIR",
        "TZ",
    ];
    let seen: Vec<&str> = seen
        .lines()
        .filter(|name| !matches!(*name, "_" | "SHLVL" | "OLDPWD"))
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn program_finds_files_and_programs_of_its_world() {
    let world = World::new()
        .file("a/b.txt", "hello")
        .program("docker-credential-fake", "cat a/b.txt; exit 3");
    let outcome = world.shell("docker-credential-fake").exits(3);
    assert_eq!(
        (outcome.stdout.as_str(), outcome.code()),
        ("hello", Some(3))
    );
    assert!(outcome.elapsed < Duration::from_secs(60) && world.home().is_dir());
}

#[test]
fn running_program_can_be_signalled() {
    let running = World::new().start(Path::new("/bin/sleep"), &["100"]);
    assert!(Path::new(&format!("/proc/{}", running.id())).exists());
    running.signal("TERM");
    assert_eq!(running.wait().code(), None);
}

#[test]
#[should_panic(expected = "`sleep 100` was killed after")]
fn program_is_killed_after_its_time_limit() {
    World::new()
        .start(Path::new("/bin/sleep"), &["100"])
        .within(Duration::from_millis(50))
        .wait();
}

#[test]
fn the_binary_starts() {
    World::new().start_imglife(["--version"]).wait().succeeds();
    World::new().imglife(["--version"]).succeeds();
}
