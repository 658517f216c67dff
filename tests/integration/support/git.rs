//! Bare repositories to push to, by path and over HTTP, and checkouts of them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use super::fake_server::ReceivedRequest;
use super::world::World;

/// git command for commits of a person.
const PERSON: &str = "git -c user.name=Person -c user.email=person@example.org";

/// A bare repository `team/base.git` in its own directory.
pub(crate) struct Bare {
    directory: TempDir,
}

impl Bare {
    /// Returns a repository without commits.
    pub(crate) fn empty() -> Bare {
        let bare = Bare {
            directory: tempfile::tempdir().expect("a directory"),
        };
        std::fs::create_dir(bare.root().join("team")).expect("a directory");
        bare.run(&["init", "--quiet", "--bare", "--initial-branch=main", "."]);
        bare
    }

    /// Returns a repository with `files` on the branch `main`.
    pub(crate) fn with(files: &[(&str, &str)]) -> Bare {
        let bare = Bare::empty();
        bare.edit(files);
        bare
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.root().join("team/base.git")
    }

    /// Runs `git` in the repository and returns its output.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        std::fs::create_dir_all(self.path()).expect("a directory");
        let output = Command::new("git")
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .output();
        let output = output.expect("git runs");
        assert!(
            output.status.success(),
            "git {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("text")
    }

    /// Returns the content of a file on `main`.
    pub(crate) fn file(&self, path: &str) -> String {
        self.run(&["show", &format!("main:{path}")])
    }

    /// Returns the number of commits on `main`.
    pub(crate) fn commits(&self) -> usize {
        self.run(&["rev-list", "--count", "main"])
            .trim()
            .parse()
            .expect("a number")
    }

    /// Commits `files` to `main` as a person.
    pub(crate) fn edit(&self, files: &[(&str, &str)]) {
        let person = World::new();
        person
            .shell(&format!(
                "git clone --quiet {} . 2>&1; git checkout -q -B main",
                self.path().display()
            ))
            .succeeds();
        let person = files
            .iter()
            .fold(person, |person, (path, content)| person.file(path, content));
        person
            .shell(&format!(
                "git add -A && {PERSON} commit --quiet -m 'by hand' && git push --quiet origin main"
            ))
            .succeeds();
    }

    /// Installs a hook, which runs for every push.
    pub(crate) fn hook(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path().join("hooks").join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a hook");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a hook");
    }

    /// Returns a world whose working directory is a clone of the repository, made by `git clone`
    /// with `options`.
    pub(crate) fn checkout(&self, options: &str) -> World {
        self.checkout_in(World::new(), options)
    }

    pub(crate) fn checkout_in(&self, world: World, options: &str) -> World {
        world
            .shell(&format!(
                "git clone --quiet {options} file://{} . 2>&1",
                self.path().display()
            ))
            .succeeds();
        world
    }

    /// Responds like `git http-backend` to requests with exactly one of the credentials
    /// `user:password`, and with 401 to others.
    pub(crate) fn answer(
        root: &Path,
        credentials: &[String],
        received: &ReceivedRequest,
    ) -> Response {
        let presented: Vec<&[u8]> = received
            .headers
            .get_all(header::AUTHORIZATION)
            .iter()
            .map(|value| value.as_bytes())
            .collect();
        let is_known = credentials
            .iter()
            .any(|pair| presented == [format!("Basic {}", STANDARD.encode(pair)).as_bytes()]);
        if !is_known {
            return (
                StatusCode::UNAUTHORIZED,
                [(header::WWW_AUTHENTICATE, "Basic realm=\"git\"")],
                "HTTP Basic: Access denied",
            )
                .into_response();
        }
        http_backend(root, received)
    }
}

/// Responds to a request for a repository below `root` with git's CGI program (`git help
/// http-backend`).
pub(crate) fn http_backend(root: &Path, received: &ReceivedRequest) -> Response {
    let (path, query) = received
        .path
        .split_once('?')
        .unwrap_or((&received.path, ""));
    let text = |name: &str| {
        received
            .headers
            .get(name)
            .map_or("", |value| value.to_str().expect("text"))
    };
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", root)
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "somebody")
        .env("REQUEST_METHOD", &received.method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", text("content-type"))
        .env("CONTENT_LENGTH", received.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", text("content-encoding"))
        .env("HTTP_GIT_PROTOCOL", text("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("git http-backend");
    let (mut stdin, body) = (backend.stdin.take().expect("a pipe"), received.body.clone());
    // The program need not read the whole body.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&body)));
    let output = backend.wait_with_output().expect("an answer").stdout;
    writer.join().expect("a writer");
    let end = output
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .expect("a head");
    let mut response = Response::new(Body::from(output[end + 4..].to_vec()));
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").expect("a header");
        if name.eq_ignore_ascii_case("status") {
            *response.status_mut() =
                StatusCode::from_bytes(&value.as_bytes()[..3]).expect("a status");
        } else {
            response.headers_mut().insert(
                header::HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                value.parse().expect("a value"),
            );
        }
    }
    response
}
