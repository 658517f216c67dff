//! A Gitea server as jobs see it: packages, container registry and git repositories on one host.
//!
//! Packages are served by the fake [`Gitea`], images by a real registry behind it, and repositories
//! by git.

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

use super::fake_server::ReceivedRequest;
use super::git::http_backend;
use super::gitea::{Gitea, JOB, Rules, TOKEN};
use super::gitlab::text;
use super::registry::Registry;

/// Path of the program for download. Requires a token.
pub(crate) const DOWNLOAD: &str = "/platform/imglife/releases/download/v0.1.0/imglife-linux-amd64";

/// A running server. Its content is deleted when it is dropped.
pub(crate) struct Site {
    pub(crate) gitea: Gitea,
    pub(crate) registry: Registry,
    repositories: TempDir,
}

/// Permission of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Permission {
    Denied,
    Read,
    Write,
}

impl Permission {
    /// Returns the permission of the credentials. A token counts as password of any user.
    fn of(received: &ReceivedRequest) -> Permission {
        let given = text(&received.headers, "authorization").unwrap_or_default();
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
            Some(TOKEN) => Permission::Write,
            Some(JOB) => Permission::Read,
            _ => Permission::Denied,
        }
    }
}

impl Site {
    /// Starts a server that offers `program` for download.
    pub(crate) fn start(program: PathBuf) -> Site {
        let registry = Registry::plain();
        let repositories = tempfile::Builder::new()
            .prefix("imglife-repositories-")
            .tempdir()
            .expect("a temporary directory");
        let (images, root) = (registry.host(), repositories.path().to_owned());
        let gitea = Gitea::start_with(Rules::default(), move |received| {
            let path = received.path.split('?').next().unwrap_or_default();
            let permission = Permission::of(received);
            if path == DOWNLOAD {
                return Some(match permission {
                    Permission::Denied => refused(),
                    _ => std::fs::read(&program).expect("a program").into_response(),
                });
            }
            if path.starts_with("/v2/") {
                return Some(if permission == Permission::Write {
                    forwarded(received, &images)
                } else {
                    refused()
                });
            }
            if path.contains(".git/") {
                let writes = received.path.contains("git-receive-pack");
                return Some(match permission {
                    Permission::Write => http_backend(&root, received),
                    Permission::Read if !writes => http_backend(&root, received),
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

    /// Returns the URL without a trailing slash.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// Returns the directory of a repository, which is created if it does not exist.
    pub(crate) fn repository(&self, path: &str) -> PathBuf {
        let directory = self.repositories.path().join(format!("{path}.git"));
        if !directory.exists() {
            let created = Command::new("git")
                .args(["init", "--quiet", "--bare", "--initial-branch=main"])
                .arg(&directory)
                .status();
            assert!(created.expect("git runs").success());
        }
        directory
    }

    /// Runs git in a repository and returns its output.
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
        "credentials required",
    )
        .into_response()
}

/// Forwards a request to the registry and returns its response.
fn forwarded(received: &ReceivedRequest, to: &str) -> Response {
    // In HTTP 1.0 the response is not chunked and ends with the connection.
    let mut request = format!(
        "{} {} HTTP/1.0\r\ncontent-length: {}\r\n",
        received.method,
        received.path,
        received.body.len()
    );
    for (name, value) in &received.headers {
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
            registry.write_all(&received.body)?;
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
