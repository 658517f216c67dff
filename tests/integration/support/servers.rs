//! The registries that tests start: which there are, where they are found, how each is started and
//! known to listen.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a registry may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program that is a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// Version 2.8 of the distribution project's registry, as Debian has it: neither referrers nor
    /// tag deletion. Every machine that runs the tests has it; the others are there when Go was, as
    /// `tests/setup.sh` was run.
    DockerRegistry,
    /// Version 3 of the same: it deletes tags.
    Distribution,
    /// All of version 1.1 of the distribution specification.
    Olareg,
    /// `crane registry serve`: everything in memory, nothing optional.
    Crane,
}

impl Server {
    /// Returns the servers that this machine has, and writes their names where a run of the tests
    /// shows them.
    pub(crate) fn found(why: &str) -> Vec<Server> {
        let all = [
            Server::DockerRegistry,
            Server::Distribution,
            Server::Olareg,
            Server::Crane,
        ];
        let (found, missing): (Vec<Server>, Vec<Server>) =
            all.into_iter().partition(|server| server.is_here());
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
            format!("; this machine lacks {}", names(&missing))
        };
        // Not by a macro: what those print is only shown of tests that fail.
        writeln!(std::io::stderr(), "{why}: with {}{missing}", names(&found))
            .expect("standard error");
        found
    }

    /// Returns how the project calls it, which is the name of its program below the cache directory
    /// too.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Server::DockerRegistry => "docker-registry",
            Server::Distribution => "distribution",
            Server::Olareg => "olareg",
            Server::Crane => "crane",
        }
    }

    /// Returns whether it lists what refers to a manifest.
    pub(crate) fn lists_referrers(self) -> bool {
        self == Server::Olareg
    }

    /// Returns whether it reads the configuration file of the distribution project's registry,
    /// stores as that does, and writes its access log.
    pub(crate) fn is_distribution(self) -> bool {
        matches!(self, Server::DockerRegistry | Server::Distribution)
    }

    fn is_here(self) -> bool {
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
                let place = ["serve", "--addr", &host, "--port", &port, "--dir", &storage];
                owned(
                    &[
                        &place[..],
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

    /// Starts it in `directory` and waits until it listens; `None` when its address is taken.
    pub(crate) fn start(self, directory: &Path, address: SocketAddr) -> Option<Child> {
        let log = directory.join("registry.log");
        let file = |path: &Path| File::create(path).expect("a new file");
        fs::create_dir_all(directory.join("storage")).expect("a new directory");
        let started = Command::new(self.program())
            .args(self.arguments(directory, address))
            // Version 3 of distribution sends traces to a port of its own choice otherwise.
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
            let said = fs::read_to_string(&log).expect("a log");
            let listens = match self {
                Server::DockerRegistry | Server::Distribution => {
                    said.contains("\"msg\":\"listening on ")
                }
                Server::Crane => said.contains("serving on port "),
                Server::Olareg => TcpStream::connect(address).is_ok(),
            };
            // One that found its address taken ends; who answers there is another then.
            let has_ended = process.try_wait().expect("a child to wait for").is_some();
            if listens && !has_ended {
                return Some(process);
            }
            if has_ended && said.contains("address already in use") {
                return None;
            }
            if has_ended || since.elapsed() > PATIENCE {
                stop(&mut process);
                panic!("{name} did not start:\n{said}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Ends a registry.
pub(crate) fn stop(process: &mut Child) {
    // It may have ended by itself.
    drop(process.kill());
    process.wait().expect("a child to wait for");
}

/// Returns where `tests/setup.sh` puts programs that no package has.
#[expect(
    clippy::disallowed_methods,
    reason = "the tests find what was installed for them as the script that did it"
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
