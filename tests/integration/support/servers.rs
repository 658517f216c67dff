//! Registry programs for tests: where they are installed, how they are started, and how to detect
//! that they listen.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Time limit for the start of a registry.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A registry program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// Version 2.8 of the registry of the distribution project, from Debian. Supports neither
    /// referrers nor tag deletion. It is always installed; the others only if Go was available to
    /// `tests/setup.sh`.
    DockerRegistry,
    /// Version 3 of the same registry, which deletes tags.
    Distribution,
    /// Supports all of version 1.1 of the distribution specification.
    Olareg,
    /// `crane registry serve`, without optional features.
    Crane,
}

impl Server {
    /// Returns the installed servers and writes their names to the terminal.
    pub(crate) fn found(why: &str) -> Vec<Server> {
        let all = [
            Server::DockerRegistry,
            Server::Distribution,
            Server::Olareg,
            Server::Crane,
        ];
        let (found, missing): (Vec<Server>, Vec<Server>) =
            all.into_iter().partition(|server| server.is_installed());
        let names = |servers: &[Server]| {
            servers
                .iter()
                .map(|server| server.name())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let missing = if missing.is_empty() {
            String::new()
        } else {
            format!("; not installed: {}", names(&missing))
        };
        // The print macros are captured and only shown for tests that fail.
        writeln!(std::io::stderr(), "{why}: with {}{missing}", names(&found))
            .expect("standard error");
        found
    }

    /// Returns the name of the project and of its program in the cache directory.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Server::DockerRegistry => "docker-registry",
            Server::Distribution => "distribution",
            Server::Olareg => "olareg",
            Server::Crane => "crane",
        }
    }

    /// Returns true if it supports the referrers API.
    pub(crate) fn lists_referrers(self) -> bool {
        self == Server::Olareg
    }

    /// Returns true for registries of the distribution project, which have the same configuration
    /// file, storage layout and access log.
    pub(crate) fn is_distribution(self) -> bool {
        matches!(self, Server::DockerRegistry | Server::Distribution)
    }

    fn is_installed(self) -> bool {
        self == Server::DockerRegistry || self.program().is_file()
    }

    fn program(self) -> PathBuf {
        match self {
            Server::DockerRegistry => self.name().into(),
            _ => installed(self.name()),
        }
    }

    fn arguments(self, directory: &Path, address: SocketAddr) -> Vec<String> {
        let storage = directory.join("storage").display().to_string();
        let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        match self {
            Server::DockerRegistry | Server::Distribution => vec![
                "serve".to_owned(),
                directory.join("config.yml").display().to_string(),
            ],
            Server::Olareg => {
                let (host, port) = (address.ip().to_string(), address.port().to_string());
                let location = ["serve", "--addr", &host, "--port", &port, "--dir", &storage];
                owned(
                    &[
                        &location[..],
                        &["--api-delete", "--api-blob-delete", "--gc-frequency", "-1s"],
                    ]
                    .concat(),
                )
            }
            Server::Crane => owned(&[
                "registry",
                "serve",
                "--address",
                &address.to_string(),
                "--disk",
                &storage,
            ]),
        }
    }

    /// Starts the registry in `directory` and waits until it listens. Returns `None` if the address
    /// is in use.
    pub(crate) fn start(self, directory: &Path, address: SocketAddr) -> Option<Child> {
        let log = directory.join("registry.log");
        let file = |path: &Path| File::create(path).expect("a new file");
        fs::create_dir_all(directory.join("storage")).expect("a new directory");
        let started = Command::new(self.program())
            .args(self.arguments(directory, address))
            // Otherwise version 3 of distribution sends traces to a default port.
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(file(&directory.join("access.log")))
            .stderr(file(&log))
            .spawn();
        let name = self.name();
        let mut process = match started {
            Ok(process) => process,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!(
                    "`{name}` is not installed: run `make setup`, or install the Debian package docker-registry"
                )
            }
            Err(error) => panic!("`{name}` cannot be started: {error}"),
        };
        let since = Instant::now();
        loop {
            let log_text = fs::read_to_string(&log).expect("a log");
            let listens = match self {
                Server::DockerRegistry | Server::Distribution => {
                    log_text.contains("\"msg\":\"listening on ")
                }
                Server::Crane => log_text.contains("serving on port "),
                Server::Olareg => TcpStream::connect(address).is_ok(),
            };
            // If the address is in use, the process exits and another server listens there.
            let has_ended = process.try_wait().expect("a child to wait for").is_some();
            if listens && !has_ended {
                return Some(process);
            }
            if has_ended && log_text.contains("address already in use") {
                return None;
            }
            if has_ended || since.elapsed() > START_TIMEOUT {
                stop(&mut process);
                panic!("{name} did not start:\n{log_text}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Stops a registry.
pub(crate) fn stop(process: &mut Child) {
    // The process may have exited by itself.
    drop(process.kill());
    process.wait().expect("a child to wait for");
}

/// Returns the path of a program that `tests/setup.sh` installed.
#[expect(
    clippy::disallowed_methods,
    reason = "uses the same variables as the script that installs the programs"
)]
pub(crate) fn installed(name: &str) -> PathBuf {
    let set = |variable| {
        std::env::var_os(variable)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = set("XDG_CACHE_HOME")
        .or_else(|| Some(set("HOME")?.join(".cache")))
        .unwrap_or_default();
    cache.join("imglife/bin").join(name)
}
