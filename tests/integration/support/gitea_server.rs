//! A real Gitea on the loopback interface, which `tests/setup.sh all` builds
//! (`tests/tools/gitea/README.md`).

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::servers::{installed, stop};

/// The only user, an administrator.
pub(crate) const OWNER: &str = "ada";

/// Limit for the first start, which creates the database.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// A Gitea server with one user. It stops when it is dropped.
pub(crate) struct GiteaServer {
    process: Child,
    port: u16,
    token: String,
    directory: TempDir,
}

impl GiteaServer {
    /// Returns true if the program is installed.
    pub(crate) fn is_installed() -> bool {
        program().is_file()
    }

    /// Starts a server, waits until it responds and creates the user with a token.
    pub(crate) fn start() -> GiteaServer {
        let directory = tempfile::Builder::new()
            .prefix("imglife-gitea-")
            .tempdir()
            .expect("a temporary directory");
        let port = free_port();
        fs::create_dir(directory.path().join("home")).expect("a new directory");
        fs::write(
            directory.path().join("app.ini"),
            configuration(&directory, port),
        )
        .expect("a written file");
        let log = File::create(directory.path().join("log")).expect("a new file");
        let process = command(&directory)
            .arg("web")
            .stdout(log.try_clone().expect("another handle"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("gitea cannot be started: {error}"));
        let mut server = GiteaServer {
            process,
            port,
            token: String::new(),
            directory,
        };
        server.wait_until_it_responds();
        server.create_user();
        server
    }

    /// Returns host and port, as in image references.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// Returns a token with every scope.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Creates a repository of `OWNER` with a first commit.
    pub(crate) fn create_repository(&self, name: &str) {
        let body = serde_json::json!({ "name": name, "auto_init": true }).to_string();
        let output = self.api(&["--data", &body], "/api/v1/user/repos");
        assert_succeeded("create a repository", &output);
    }

    /// Returns type, name and version of each package of `OWNER`, sorted.
    pub(crate) fn packages(&self) -> Vec<String> {
        let output = self.api(&[], &format!("/api/v1/packages/{OWNER}?limit=50"));
        assert_succeeded("list packages", &output);
        let listed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let mut packages: Vec<String> = listed
            .as_array()
            .expect("a list")
            .iter()
            .map(|package| {
                ["type", "name", "version"]
                    .map(|key| package[key].as_str().expect("text"))
                    .join(" ")
            })
            .collect();
        packages.sort();
        packages
    }

    fn api(&self, arguments: &[&str], path: &str) -> Output {
        Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--fail-with-body",
                "--noproxy",
                "*",
            ])
            .args(["--header", &format!("Authorization: token {}", self.token)])
            .args(["--header", "Content-Type: application/json"])
            .args(arguments)
            .arg(format!("{}{path}", self.url()))
            .output()
            .expect("curl runs")
    }

    fn wait_until_it_responds(&mut self) {
        let since = Instant::now();
        while !self.api(&[], "/api/v1/version").status.success() {
            let has_ended = self
                .process
                .try_wait()
                .expect("a child to wait for")
                .is_some();
            assert!(
                !has_ended && since.elapsed() < START_TIMEOUT,
                "gitea did not start:\n{}",
                fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn create_user(&mut self) {
        self.admin(&[
            "create",
            "--admin",
            "--username",
            OWNER,
            "--password",
            "s3cret-s3cret",
            "--email",
            "ada@example.org",
            "--must-change-password=false",
        ]);
        self.token = self.admin(&[
            "generate-access-token",
            "--username",
            OWNER,
            "--token-name",
            "tests",
            "--scopes",
            "all",
            "--raw",
        ]);
    }

    /// Runs `gitea admin user` and returns the last line that it prints.
    fn admin(&self, arguments: &[&str]) -> String {
        let output = command(&self.directory)
            .args(["admin", "user"])
            .args(arguments)
            .output()
            .expect("gitea runs");
        assert_succeeded("gitea admin user", &output);
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().last().unwrap_or_default().trim().to_owned()
    }
}

impl Drop for GiteaServer {
    fn drop(&mut self) {
        stop(&mut self.process);
    }
}

fn program() -> PathBuf {
    installed("gitea")
}

/// Returns a command that runs the program on the configuration in `directory`.
fn command(directory: &TempDir) -> Command {
    let mut command = Command::new(program());
    command
        .arg("--config")
        .arg(directory.path().join("app.ini"))
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", directory.path().join("home"))
        .stdin(Stdio::null());
    command
}

fn configuration(directory: &TempDir, port: u16) -> String {
    let id = Command::new("id").arg("-un").output().expect("id runs");
    format!(
        "RUN_USER = {user}\n\
         WORK_PATH = {work}\n\
         I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true\n\
         [server]\n\
         HTTP_ADDR = 127.0.0.1\n\
         HTTP_PORT = {port}\n\
         ROOT_URL = http://127.0.0.1:{port}/\n\
         STATIC_ROOT_PATH = {files}\n\
         DISABLE_SSH = true\n\
         OFFLINE_MODE = true\n\
         [database]\n\
         DB_TYPE = sqlite3\n\
         [security]\n\
         INSTALL_LOCK = true\n\
         [actions]\n\
         ENABLED = false\n\
         [indexer]\n\
         ISSUE_INDEXER_TYPE = db\n\
         [cron.update_checker]\n\
         ENABLED = false\n",
        user = String::from_utf8_lossy(&id.stdout).trim(),
        work = directory.path().join("work").display(),
        files = installed("../gitea").display(),
    )
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

fn assert_succeeded(action: &str, output: &Output) {
    assert!(
        output.status.success(),
        "{action}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
