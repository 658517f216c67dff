//! A Gitea as the jobs of its runners see it: packages, container registry and git repositories at
//! one address.
//!
//! Packages are those of [`Gitea`], images are kept by a real registry behind it, and repositories
//! are real ones, served by git.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use super::git::http_backend;
use super::gitea::{Gitea, JOB, Rules, TOKEN};
use super::gitlab::text;
use super::liar::Asked;
use super::registry::Registry;

/// Where the program can be downloaded from, by who has a token.
pub(crate) const DOWNLOAD: &str = "/platform/imglife/releases/download/v0.1.0/imglife-linux-amd64";

/// A server at work. What it keeps goes when it is dropped.
pub(crate) struct Site {
    pub(crate) gitea: Gitea,
    pub(crate) registry: Registry,
    repositories: TempDir,
}

/// What a request may do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Login {
    Nobody,
    Reader,
    Writer,
}

impl Login {
    /// A token is a password, whatever the user's name.
    fn of(asked: &Asked) -> Login {
        let given = text(&asked.headers, "authorization").unwrap_or_default();
        let token = match given.split_once(' ') {
            Some(("token", token)) => Some(token.to_owned()),
            Some(("Basic", pair)) => STANDARD
                .decode(pair)
                .ok()
                .and_then(|pair| String::from_utf8(pair).ok())
                .and_then(|pair| Some(pair.split_once(':')?.1.to_owned())),
            _ => None,
        };
        match token.as_deref() {
            Some(TOKEN) => Login::Writer,
            Some(JOB) => Login::Reader,
            _ => Login::Nobody,
        }
    }
}

impl Site {
    /// Starts a server with a program to download.
    pub(crate) fn start(program: PathBuf) -> Site {
        let registry = Registry::plain();
        let repositories = tempfile::Builder::new()
            .prefix("imglife-repositories-")
            .tempdir()
            .expect("a temporary directory");
        let (images, root) = (registry.host(), repositories.path().to_owned());
        let gitea = Gitea::start_with(Rules::default(), move |asked| {
            let path = asked.path.split('?').next().unwrap_or_default();
            let login = Login::of(asked);
            if path == DOWNLOAD {
                return Some(match login {
                    Login::Nobody => refused(),
                    _ => std::fs::read(&program).expect("a program").into_response(),
                });
            }
            if path.starts_with("/v2/") {
                return Some(if login == Login::Writer {
                    forwarded(asked, &images)
                } else {
                    refused()
                });
            }
            if path.contains(".git/") {
                let writes = asked.path.contains("git-receive-pack");
                return Some(match login {
                    Login::Writer => http_backend(&root, asked),
                    Login::Reader if !writes => http_backend(&root, asked),
                    _ => refused(),
                });
            }
            None
        });
        Site {
            gitea,
            registry,
            repositories,
        }
    }

    /// Returns host and port.
    pub(crate) fn host(&self) -> String {
        self.gitea.server.host()
    }

    /// Returns the address, without a slash at its end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// Returns the directory of a repository, which is made when it is not there.
    pub(crate) fn repository(&self, path: &str) -> PathBuf {
        let directory = self.repositories.path().join(format!("{path}.git"));
        if !directory.exists() {
            let made = Command::new("git")
                .args(["init", "--quiet", "--bare", "--initial-branch=main"])
                .arg(&directory)
                .status();
            assert!(made.expect("git runs").success());
        }
        directory
    }

    /// Returns what git says of a repository.
    pub(crate) fn git(&self, path: &str, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .arg("-C")
            .arg(self.repository(path))
            .args(arguments)
            .output()
            .expect("git runs");
        assert!(
            output.status.success(),
            "git {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn refused() -> Response {
    (
        StatusCode::UNAUTHORIZED,
        [(header::WWW_AUTHENTICATE, "Basic realm=\"Gitea\"")],
        "log in",
    )
        .into_response()
}

/// Hands a request to the registry, and returns its answer.
fn forwarded(asked: &Asked, to: &str) -> Response {
    // Version 1.0 of HTTP: the answer ends with the connection, and comes in one piece.
    let mut request = format!(
        "{} {} HTTP/1.0\r\ncontent-length: {}\r\n",
        asked.method,
        asked.path,
        asked.body.len()
    );
    for (name, value) in &asked.headers {
        if !matches!(
            name.as_str(),
            "connection" | "content-length" | "transfer-encoding" | "authorization"
        ) {
            request += &format!("{name}: {}\r\n", value.to_str().expect("text"));
        }
    }
    let mut answer = Vec::new();
    TcpStream::connect(to)
        .and_then(|mut registry| {
            registry.write_all(format!("{request}\r\n").as_bytes())?;
            registry.write_all(&asked.body)?;
            registry.read_to_end(&mut answer)
        })
        .expect("a registry that answers");
    let end = answer
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .expect("the end of a head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let (first, rest) = head.split_once("\r\n").unwrap_or((&head, ""));
    let mut response = Response::builder().status(first.split(' ').nth(1).expect("a status"));
    for (name, value) in rest.lines().filter_map(|line| line.split_once(": ")) {
        if !name.eq_ignore_ascii_case("connection") {
            response = response.header(name, value);
        }
    }
    response
        .body(Body::from(answer.split_off(end + 4)))
        .expect("an answer")
}
