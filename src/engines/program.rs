//! Calls of external programs, shared by all engines that use them: running, capturing output and
//! interpreting failures.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::emulation::EMULATOR_HINT;
use super::engine::{Attestations, BuildRequest, EngineError, EngineName, HostCredential};
use super::private_config::PrivateConfig;
use crate::command::{CommandError, ProgramCommand, ProgramStatus, Runner};
use crate::credentials::Credential;
use crate::error::chain;
use crate::model::text::{Masker, excerpt};
use crate::model::{Digest, Host, Repository, Variables};

/// Maximum number of lines in the log of an error.
const MAX_LOG_LINES: usize = 40;

/// Maximum length of a line in the log, in characters.
const MAX_LINE_LENGTH: usize = 500;

/// Maximum length of a version, in characters.
pub(super) const MAX_VERSION_LENGTH: usize = 40;

/// Time limit of commands that only query information.
const QUERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Time limit of a build command. A run usually has a shorter limit, as do CI systems.
const BUILD_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Settings that all sessions share.
pub(super) struct ProgramTools {
    runner: Arc<dyn Runner>,
    /// Environment of the run.
    pub(super) variables: Variables,
    credentials: Vec<HostCredential>,
    /// Hosts that are contacted over plain HTTP.
    pub(super) insecure: BTreeSet<Host>,
    /// Maskers for the secrets in the environment and in `credentials`.
    maskers: [Masker; 2],
}

impl ProgramTools {
    pub(super) fn new(
        runner: Arc<dyn Runner>,
        variables: Variables,
        credentials: Vec<HostCredential>,
        insecure: BTreeSet<Host>,
    ) -> ProgramTools {
        let maskers = [
            variables.masker(),
            Masker::new(
                credentials
                    .iter()
                    .flat_map(|credential| secrets(&credential.credential)),
            ),
        ];
        ProgramTools {
            runner,
            variables,
            credentials,
            insecure,
            maskers,
        }
    }

    /// Returns true if the host of `repository` is contacted over plain HTTP.
    pub(super) fn is_insecure(&self, repository: &Repository) -> bool {
        repository
            .host()
            .is_some_and(|host| self.insecure.contains(host))
    }

    /// Returns a host whose credential is a bearer token, which podman does not support.
    pub(super) fn host_with_bearer_token(&self) -> Option<&Host> {
        self.credentials
            .iter()
            .find(|credential| matches!(credential.credential, Credential::Bearer { .. }))
            .map(|credential| &credential.host)
    }

    /// Returns the credentials in order of precedence for a build: of the target repository, of the
    /// repository of the base image, of complete hosts, and all others.
    fn credentials_for(&self, request: Option<&BuildRequest>) -> Vec<HostCredential> {
        let is_for = |credential: &HostCredential, repository: &Repository| match repository {
            Repository::Remote { host, path } => {
                credential.host == *host && credential.path.as_ref() == Some(path)
            }
            Repository::Layout { .. } => false,
        };
        let mut credentials = self.credentials.clone();
        credentials.sort_by_key(|credential| match request {
            Some(request) if is_for(credential, &request.repository) => 0,
            Some(request) if is_for(credential, &request.base.repository) => 1,
            _ if credential.path.is_none() => 2,
            _ => 3,
        });
        credentials
    }

    /// Starts a program without waiting for it to finish.
    pub(super) fn start_detached(&self, program: &str, arguments: &[&str]) {
        self.runner.spawn_detached(ProgramCommand {
            program: program.to_owned(),
            arguments: arguments
                .iter()
                .map(|argument| (*argument).to_owned())
                .collect(),
            environment: self.variables.clone(),
            directory: None,
            stdin: None,
            timeout: QUERY_TIMEOUT,
        });
    }

    /// Masks, escapes and shortens a line of output.
    fn displayed(&self, line: &str) -> String {
        let masked = self
            .maskers
            .iter()
            .fold(line.to_owned(), |line, masker| masker.mask(&line));
        excerpt(masked.trim_end(), MAX_LINE_LENGTH)
    }
}

/// Returns the texts that reveal a credential: the secret, and its encoded form in files.
fn secrets(credential: &Credential) -> Vec<String> {
    match credential {
        Credential::Anonymous => Vec::new(),
        Credential::Basic {
            username,
            password: secret,
        }
        | Credential::RefreshTokenOrPassword {
            username,
            token: secret,
        } => {
            vec![
                secret.expose().to_owned(),
                STANDARD.encode(format!("{username}:{}", secret.expose())),
            ]
        }
        Credential::RefreshToken { token }
        | Credential::Bearer { token }
        | Credential::Header { value: token, .. } => {
            vec![token.expose().to_owned()]
        }
    }
}

/// One use of an engine: a private directory, and an environment that refers to it.
pub(super) struct EngineSession<'a> {
    pub(super) engine: EngineName,
    tools: &'a ProgramTools,
    private: PrivateConfig,
    pub(super) environment: Variables,
}

/// Commands that remove temporary resources of programs at the end of a session. On drop, they are
/// started without waiting for them.
pub(super) struct Disposals<'a> {
    tools: &'a ProgramTools,
    commands: Vec<ProgramCommand>,
}

impl<'a> EngineSession<'a> {
    /// Opens a session with the credentials for a build, or with all credentials if `request` is
    /// `None`.
    pub(super) fn open(
        engine: EngineName,
        tools: &'a ProgramTools,
        request: Option<&BuildRequest>,
    ) -> Result<EngineSession<'a>, EngineError> {
        let private = PrivateConfig::create(&tools.variables, &tools.credentials_for(request))
            .map_err(|error| {
                EngineError::new(
                    engine,
                    "cannot create a temporary directory for credentials",
                )
                .caused_by(error)
            })?;
        let environment = private.environment(&tools.variables);
        Ok(EngineSession {
            engine,
            tools,
            private,
            environment,
        })
    }

    /// Returns the path of a file in the session directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.private.path().join(name)
    }

    /// Writes a file in the session directory and returns its path.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, EngineError> {
        let path = self.path(name);
        fs::write(&path, text).map_err(|error| {
            self.error(format!("cannot write {}", path.display()))
                .caused_by(error)
        })?;
        Ok(path)
    }

    /// Reads a file that the program wrote to the session directory. Empty if there is no such
    /// file.
    pub(super) fn read(&self, name: &str) -> Result<String, EngineError> {
        match fs::read_to_string(self.path(name)) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(self
                .error(format!("cannot read the file {name} that the engine wrote"))
                .caused_by(error)),
        }
    }

    /// Returns an error of this engine.
    pub(super) fn error(&self, problem: impl Into<String>) -> EngineError {
        EngineError::new(self.engine, problem)
    }

    fn command(
        &self,
        program: &str,
        arguments: &[impl AsRef<str>],
        timeout: Duration,
    ) -> ProgramCommand {
        ProgramCommand {
            program: program.to_owned(),
            arguments: arguments
                .iter()
                .map(|argument| argument.as_ref().to_owned())
                .collect(),
            environment: self.environment.clone(),
            directory: None,
            stdin: None,
            timeout,
        }
    }

    /// Runs a command that only queries information, and returns its standard output.
    pub(super) async fn query(
        &self,
        program: &str,
        arguments: &[impl AsRef<str> + Sync],
    ) -> Result<String, EngineError> {
        let name = command_name(program, arguments);
        let output = self
            .tools
            .runner
            .run(self.command(program, arguments, QUERY_TIMEOUT))
            .await
            .map_err(|error| self.not_run(program, &error))?;
        let stderr = output.stderr.text();
        let ending = match output.status {
            ProgramStatus::Exited(0) => return Ok(output.stdout.text()),
            ending => describe(ending, QUERY_TIMEOUT),
        };
        let lines: Vec<String> = stderr
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| self.tools.displayed(line))
            .collect();
        Err(self.failed(&name, &ending, &lines))
    }

    /// Runs a command, logs its output at the level debug, and returns the last lines.
    pub(super) async fn run(
        &self,
        program: &str,
        arguments: &[impl AsRef<str> + Sync],
    ) -> Result<Vec<String>, EngineError> {
        let name = command_name(program, arguments);
        let mut last = VecDeque::with_capacity(MAX_LOG_LINES);
        let mut on_line = |line: &str| {
            let line = self.tools.displayed(line);
            if line.is_empty() {
                return;
            }
            tracing::debug!(engine = %self.engine, "{line}");
            if last.len() == MAX_LOG_LINES {
                last.pop_front();
            }
            last.push_back(line);
        };
        let command = self.command(program, arguments, BUILD_TIMEOUT);
        let ending = self
            .tools
            .runner
            .run_streaming(command, &mut on_line)
            .await
            .map_err(|error| self.not_run(program, &error))?;
        let last = Vec::from(last);
        match ending {
            ProgramStatus::Exited(0) => Ok(last),
            ending => Err(self.failed(&name, &describe(ending, BUILD_TIMEOUT), &last)),
        }
    }

    /// Returns the error for a program that could not be run.
    fn not_run(&self, program: &str, error: &CommandError) -> EngineError {
        match error {
            CommandError::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                self.error(format!("`{program}` is not installed or not on PATH"))
            }
            _ => self.error(chain(error)),
        }
    }

    /// Returns the error for a command that failed. Its last line is the cause.
    fn failed(&self, name: &str, ending: &str, lines: &[String]) -> EngineError {
        let cause = lines
            .last()
            .map_or_else(String::new, |line| format!(": {line}"));
        let error = EngineError {
            log: lines.join("\n"),
            ..self.error(format!("`{name}` {ending}{cause}"))
        };
        match hint(lines, self) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// Returns an empty list of commands to run at the end of the session.
    pub(super) fn disposals(&self) -> Disposals<'a> {
        Disposals {
            tools: self.tools,
            commands: Vec::new(),
        }
    }

    /// Returns the absolute path of the build context, which no program confuses with a URL.
    pub(super) fn context(&self, request: &BuildRequest) -> Result<String, EngineError> {
        let shown = request.context.display();
        let path = std::path::absolute(&request.context)
            .map_err(|error| self.error(format!("cannot find {shown}")).caused_by(error))?;
        text(&path)
            .map(ToOwned::to_owned)
            .ok_or_else(|| self.error(format!("the path {shown} is not UTF-8")))
    }

    /// Returns a path in the session directory as an argument.
    pub(super) fn argument(&self, path: &Path) -> Result<String, EngineError> {
        text(path)
            .map(ToOwned::to_owned)
            .ok_or_else(|| self.error("the path of the temporary directory is not UTF-8"))
    }

    /// Fails if attestations are requested.
    pub(super) fn reject_attestations(
        &self,
        attestations: Attestations,
    ) -> Result<(), EngineError> {
        if !attestations.any() {
            return Ok(());
        }
        let error = self.error("the engine supports neither `sbom` nor `provenance`");
        Err(error.hint("set `engine: buildx`, or `sbom: false` and `provenance: false`"))
    }

    /// Parses the digest that the engine reports for the pushed image.
    pub(super) fn digest(&self, text: &str) -> Result<Digest, EngineError> {
        text.trim().parse().map_err(|_| {
            self.error("the engine succeeded but did not report the pushed digest")
                .hint("run with `--log-level debug` to see its output")
        })
    }
}

impl Disposals<'_> {
    /// Adds a command.
    pub(super) fn add(
        &mut self,
        session: &EngineSession<'_>,
        program: &str,
        arguments: &[impl AsRef<str>],
    ) {
        // The session directory may not exist any more, and no credentials are needed.
        let environment = session.tools.variables.clone();
        self.commands.push(ProgramCommand {
            environment,
            ..session.command(program, arguments, QUERY_TIMEOUT)
        });
    }

    /// Runs all commands in reverse order and waits for them. Failures are only logged.
    pub(super) async fn run(mut self) {
        while let Some(command) = self.commands.last().cloned() {
            let name = command_name(&command.program, &command.arguments);
            match self.tools.runner.run(command).await {
                Ok(output) if output.status == ProgramStatus::Exited(0) => {}
                Ok(output) => tracing::debug!(
                    "`{name}` failed, temporary resources remain: {}",
                    self.tools.displayed(&output.stderr.text())
                ),
                Err(error) => tracing::debug!(
                    "`{name}` failed, temporary resources remain: {}",
                    chain(&error)
                ),
            }
            self.commands.pop();
        }
    }
}

impl Drop for Disposals<'_> {
    fn drop(&mut self) {
        while let Some(command) = self.commands.pop() {
            self.tools.runner.spawn_detached(command);
        }
    }
}

/// Returns a path as text, or `None` if it is not UTF-8.
fn text(path: &Path) -> Option<&str> {
    path.to_str()
}

/// Returns a program with its subcommands, for messages.
fn command_name(program: &str, arguments: &[impl AsRef<str>]) -> String {
    let words = arguments
        .iter()
        .map(AsRef::as_ref)
        .take_while(|word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase()))
        .take(2);
    std::iter::once(program)
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Describes how a command ended.
fn describe(ending: ProgramStatus, timeout: Duration) -> String {
    match ending {
        ProgramStatus::Exited(code) => format!("failed with exit code {code}"),
        ProgramStatus::Signalled => "was killed".to_owned(),
        ProgramStatus::TimedOut => format!("timed out after {} s", timeout.as_secs()),
    }
}

/// Returns `flag name=value` for each pair.
pub(super) fn pairs(flag: &str, pairs: &BTreeMap<String, String>) -> Vec<String> {
    pairs
        .iter()
        .flat_map(|(name, value)| [flag.to_owned(), format!("{name}={value}")])
        .collect()
}

/// Returns a hint for a failure, derived from the last lines of output.
fn hint(lines: &[String], session: &EngineSession<'_>) -> Option<String> {
    let lines: Vec<String> = lines.iter().map(|line| line.to_lowercase()).collect();
    let contains = |phrases: &[&str]| {
        lines
            .iter()
            .any(|line| phrases.iter().any(|phrase| line.contains(phrase)))
    };
    if contains(&["exec format error"]) {
        return Some(EMULATOR_HINT.to_owned());
    }
    if contains(&[
        "supported for docker driver",
        "supported for the docker driver",
    ]) {
        let text = "the built-in builder of docker supports neither several platforms nor attestations: create another one \
                    (`docker buildx create --name imglife`) and set it with `builder` or IMGLIFE_BUILDER, or enable the containerd \
                    image store of the docker engine";
        return Some(text.to_owned());
    }
    if contains(&["http response to https client"]) {
        let text = match session.engine {
            EngineName::Buildx | EngineName::Docker => {
                "the registry uses plain HTTP: add it to `insecure-registries` of the docker engine, or to the configuration of the \
                 builder (`http = true`)"
            }
            EngineName::Native | EngineName::Buildah | EngineName::Podman => {
                "the registry uses plain HTTP: add it to `registry.insecure_registries`"
            }
        };
        return Some(text.to_owned());
    }
    if contains(&[
        "unauthorized",
        "authentication required",
        "no basic auth credentials",
        "access denied",
        "403 forbidden",
    ]) {
        let hosts: BTreeSet<&str> = session
            .tools
            .credentials
            .iter()
            .map(|credential| credential.host.as_str())
            .collect();
        let hosts = Vec::from_iter(hosts);
        return Some(match hosts.as_slice() {
            [] => "no credentials are configured: set IMGLIFE_<HOST>_USERNAME and IMGLIFE_<HOST>_PASSWORD, or run `docker login`".to_owned(),
            hosts => format!("check that the credentials for {} permit pulling the base image and pushing the image", hosts.join(", ")),
        });
    }
    if contains(&[
        "cannot connect to the docker daemon",
        "is the docker daemon running",
    ]) {
        return Some("start the docker engine, or set DOCKER_HOST to its address".to_owned());
    }
    let is_containers = matches!(session.engine, EngineName::Buildah | EngineName::Podman);
    if is_containers
        && contains(&[
            "operation not permitted",
            "cannot clone",
            "permission denied",
        ])
    {
        let text = "in an unprivileged container, set BUILDAH_ISOLATION=chroot and STORAGE_DRIVER=vfs, or enable user namespaces";
        return Some(text.to_owned());
    }
    None
}
