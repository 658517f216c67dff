//! What all engines that call programs share: how a program is run, listened to, and understood
//! when it fails.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::emulation::NO_EMULATOR;
use super::private::PrivateConfig;
use super::{Attestations, BuildRequest, EngineError, EngineName, Login};
use crate::command::{CommandError, ProgramCommand, ProgramStatus, Runner};
use crate::credentials::Credential;
use crate::error::chain;
use crate::model::text::{Masker, excerpt};
use crate::model::{Digest, Host, Repository, Variables};

/// How many lines of an engine's output an error shows.
const SHOWN_LINES: usize = 40;

/// How many characters of a line are shown.
const SHOWN_WIDTH: usize = 500;

/// How much of a version is shown, in characters.
pub(super) const LONGEST_VERSION: usize = 40;

/// How long a program may take to answer a question that needs no work.
const SHORT: Duration = Duration::from_secs(60);

/// After this a build is taken for one that never ends. Runs have limits of their own, and CI
/// systems theirs.
const LONGEST_BUILD: Duration = Duration::from_secs(24 * 60 * 60);

/// What programs are run with.
pub(super) struct Tools {
    runner: Arc<dyn Runner>,
    pub(super) variables: Variables,
    logins: Vec<Login>,
    pub(super) insecure: BTreeSet<Host>,
    maskers: [Masker; 2],
}

impl Tools {
    pub(super) fn new(
        runner: Arc<dyn Runner>,
        variables: Variables,
        logins: Vec<Login>,
        insecure: BTreeSet<Host>,
    ) -> Tools {
        let maskers = [
            variables.masker(),
            Masker::new(logins.iter().flat_map(|login| secrets(&login.credential))),
        ];
        Tools {
            runner,
            variables,
            logins,
            insecure,
            maskers,
        }
    }

    /// Returns whether the host of `repository` is spoken to over plain HTTP.
    pub(super) fn is_insecure(&self, repository: &Repository) -> bool {
        repository
            .host()
            .is_some_and(|host| self.insecure.contains(host))
    }

    /// Returns a host whose login is a ready bearer token, which the files of podman have no place
    /// for.
    pub(super) fn host_with_bearer_token(&self) -> Option<&Host> {
        self.logins
            .iter()
            .find(|login| matches!(login.credential, Credential::Bearer { .. }))
            .map(|login| &login.host)
    }

    /// Returns the logins with those first that a build needs: of the repository that it pushes to,
    /// of that of its base, of whole hosts.
    fn logins_for(&self, request: Option<&BuildRequest>) -> Vec<Login> {
        let is_of = |login: &Login, repository: &Repository| match repository {
            Repository::Remote { host, path } => {
                login.host == *host && login.path.as_ref() == Some(path)
            }
            Repository::Layout { .. } => false,
        };
        let mut logins = self.logins.clone();
        logins.sort_by_key(|login| match request {
            Some(request) if is_of(login, &request.repository) => 0,
            Some(request) if is_of(login, &request.base.repository) => 1,
            _ if login.path.is_none() => 2,
            _ => 3,
        });
        logins
    }

    /// Starts a program that puts something away and that nobody waits for.
    pub(super) fn leave(&self, program: &str, arguments: &[&str]) {
        self.runner.spawn_detached(ProgramCommand {
            program: program.to_owned(),
            arguments: arguments
                .iter()
                .map(|argument| (*argument).to_owned())
                .collect(),
            environment: self.variables.clone(),
            directory: None,
            stdin: None,
            timeout: SHORT,
        });
    }

    fn shown(&self, line: &str) -> String {
        let masked = self
            .maskers
            .iter()
            .fold(line.to_owned(), |line, masker| masker.mask(&line));
        excerpt(masked.trim_end(), SHOWN_WIDTH)
    }
}

/// Returns what a login must not be shown by: the secret, and the form that it has in files.
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

/// One use of an engine: its private directory, and the environment that leads there.
pub(super) struct Session<'a> {
    pub(super) engine: EngineName,
    tools: &'a Tools,
    private: PrivateConfig,
    pub(super) environment: Variables,
}

/// What is to be put away by a program when a session ends, however it ends.
pub(super) struct Leftovers<'a> {
    tools: &'a Tools,
    commands: Vec<ProgramCommand>,
}

impl<'a> Session<'a> {
    /// Returns a session, with the logins for a build where it is about one.
    pub(super) fn open(
        engine: EngineName,
        tools: &'a Tools,
        request: Option<&BuildRequest>,
    ) -> Result<Session<'a>, EngineError> {
        let private = PrivateConfig::create(&tools.variables, &tools.logins_for(request)).map_err(
            |error| EngineError::new(engine, "there is no place for its logins").caused_by(error),
        )?;
        let environment = private.environment(&tools.variables);
        Ok(Session {
            engine,
            tools,
            private,
            environment,
        })
    }

    /// Returns the path of a file of the session.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.private.path().join(name)
    }

    /// Writes a file of the session and returns its path.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, EngineError> {
        let path = self.path(name);
        fs::write(&path, text).map_err(|error| {
            self.error(format!("cannot write {}", path.display()))
                .caused_by(error)
        })?;
        Ok(path)
    }

    /// Reads a file that the engine wrote for the session.
    pub(super) fn read(&self, name: &str) -> Result<String, EngineError> {
        match fs::read_to_string(self.path(name)) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(self
                .error(format!("cannot read what it wrote to {name}"))
                .caused_by(error)),
        }
    }

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

    /// Asks a program something that it answers at once, and returns what it wrote to its standard
    /// output.
    pub(super) async fn ask(
        &self,
        program: &str,
        arguments: &[impl AsRef<str> + Sync],
    ) -> Result<String, EngineError> {
        let what = spoken(program, arguments);
        let output = self
            .tools
            .runner
            .run(self.command(program, arguments, SHORT))
            .await
            .map_err(|error| self.not_run(program, &error))?;
        let stderr = output.stderr.text();
        let ending = match output.status {
            ProgramStatus::Exited(0) => return Ok(output.stdout.text()),
            ending => told(ending, SHORT),
        };
        let lines: Vec<String> = stderr
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| self.tools.shown(line))
            .collect();
        Err(self.failed(&what, &ending, &lines))
    }

    /// Runs a program to its end, telling what it writes to the log, and returns the last lines of
    /// that.
    pub(super) async fn run(
        &self,
        program: &str,
        arguments: &[impl AsRef<str> + Sync],
    ) -> Result<Vec<String>, EngineError> {
        let what = spoken(program, arguments);
        let mut last = VecDeque::with_capacity(SHOWN_LINES);
        let mut take = |line: &str| {
            let line = self.tools.shown(line);
            if line.is_empty() {
                return;
            }
            tracing::debug!(engine = %self.engine, "{line}");
            if last.len() == SHOWN_LINES {
                last.pop_front();
            }
            last.push_back(line);
        };
        let command = self.command(program, arguments, LONGEST_BUILD);
        let ending = self
            .tools
            .runner
            .run_streaming(command, &mut take)
            .await
            .map_err(|error| self.not_run(program, &error))?;
        let last = Vec::from(last);
        match ending {
            ProgramStatus::Exited(0) => Ok(last),
            ending => Err(self.failed(&what, &told(ending, LONGEST_BUILD), &last)),
        }
    }

    fn not_run(&self, program: &str, error: &CommandError) -> EngineError {
        match error {
            CommandError::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                self.error(format!("`{program}` is not installed, or not on PATH"))
            }
            _ => self.error(chain(error)),
        }
    }

    fn failed(&self, what: &str, ending: &str, lines: &[String]) -> EngineError {
        let why = lines
            .last()
            .map_or_else(String::new, |line| format!(": {line}"));
        let error = EngineError {
            log: lines.join("\n"),
            ..self.error(format!("`{what}` {ending}{why}"))
        };
        match advice(lines, self) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// Returns the list of what is to be put away after the session, still empty.
    pub(super) fn leftovers(&self) -> Leftovers<'a> {
        Leftovers {
            tools: self.tools,
            commands: Vec::new(),
        }
    }

    /// Returns the folder of a request as an argument that no program takes for anything but a
    /// folder.
    pub(super) fn folder(&self, request: &BuildRequest) -> Result<String, EngineError> {
        let shown = request.context.display();
        let path = std::path::absolute(&request.context)
            .map_err(|error| self.error(format!("cannot find {shown}")).caused_by(error))?;
        text(&path)
            .map(ToOwned::to_owned)
            .ok_or_else(|| self.error(format!("the name of the folder {shown} is not UTF-8")))
    }

    /// Returns a path below the private directory as an argument.
    pub(super) fn argument(&self, path: &Path) -> Result<String, EngineError> {
        text(path)
            .map(ToOwned::to_owned)
            .ok_or_else(|| self.error("the name of the temporary directory is not UTF-8"))
    }

    /// Refuses a request for attestations.
    pub(super) fn attests_nothing(&self, attestations: Attestations) -> Result<(), EngineError> {
        if !attestations.any() {
            return Ok(());
        }
        let error = self.error("writes neither SBOM nor provenance");
        Err(error.hint("set `engine: buildx`, or `sbom: false` and `provenance: false`"))
    }

    /// Returns the digest in what the engine wrote about the image that it pushed.
    pub(super) fn digest(&self, text: &str) -> Result<Digest, EngineError> {
        text.trim().parse().map_err(|_| {
            self.error("it ended well, but does not tell which digest it pushed")
                .hint("`--log-level debug` shows all it wrote")
        })
    }
}

impl Leftovers<'_> {
    /// Remembers what puts something away.
    pub(super) fn add(
        &mut self,
        session: &Session<'_>,
        program: &str,
        arguments: &[impl AsRef<str>],
    ) {
        // The private directory may be gone by then, and no login is needed.
        let environment = session.tools.variables.clone();
        self.commands.push(ProgramCommand {
            environment,
            ..session.command(program, arguments, SHORT)
        });
    }

    /// Puts everything away, the latest first, and waits for it. What cannot be put away is told to
    /// the log.
    pub(super) async fn put_away(mut self) {
        while let Some(command) = self.commands.last().cloned() {
            let what = spoken(&command.program, &command.arguments);
            match self.tools.runner.run(command).await {
                Ok(output) if output.status == ProgramStatus::Exited(0) => {}
                Ok(output) => tracing::debug!(
                    "`{what}` left something behind: {}",
                    self.tools.shown(&output.stderr.text())
                ),
                Err(error) => tracing::debug!("`{what}` left something behind: {}", chain(&error)),
            }
            self.commands.pop();
        }
    }
}

impl Drop for Leftovers<'_> {
    fn drop(&mut self) {
        while let Some(command) = self.commands.pop() {
            self.tools.runner.spawn_detached(command);
        }
    }
}

fn text(path: &Path) -> Option<&str> {
    path.to_str()
}

/// Returns a program with its subcommands, as messages name it.
fn spoken(program: &str, arguments: &[impl AsRef<str>]) -> String {
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

fn told(ending: ProgramStatus, limit: Duration) -> String {
    match ending {
        ProgramStatus::Exited(code) => format!("ended with exit code {code}"),
        ProgramStatus::Signalled => "was killed".to_owned(),
        ProgramStatus::TimedOut => format!("took longer than {} s and was ended", limit.as_secs()),
    }
}

/// Returns `flag` before each pair, as `name=value`.
pub(super) fn pairs(flag: &str, pairs: &BTreeMap<String, String>) -> Vec<String> {
    pairs
        .iter()
        .flat_map(|(name, value)| [flag.to_owned(), format!("{name}={value}")])
        .collect()
}

/// Returns what to do about a failure that the last lines of an engine tell of.
fn advice(lines: &[String], session: &Session<'_>) -> Option<String> {
    let lines: Vec<String> = lines.iter().map(|line| line.to_lowercase()).collect();
    let says = |words: &[&str]| {
        lines
            .iter()
            .any(|line| words.iter().any(|word| line.contains(word)))
    };
    if says(&["exec format error"]) {
        return Some(NO_EMULATOR.to_owned());
    }
    if says(&[
        "supported for docker driver",
        "supported for the docker driver",
    ]) {
        let text = "docker's own builder makes neither images for several platforms nor attestations: make another \
                    (`docker buildx create --name imglife`) and name it by `builder` or IMGLIFE_BUILDER, or turn on the containerd \
                    image store of the docker engine";
        return Some(text.to_owned());
    }
    if says(&["http response to https client"]) {
        let text = match session.engine {
            EngineName::Buildx | EngineName::Docker => {
                "the registry speaks plain HTTP: name it in `insecure-registries` of the docker engine, or in the configuration of the \
                 builder (`http = true`)"
            }
            EngineName::Native | EngineName::Buildah | EngineName::Podman => {
                "the registry speaks plain HTTP: name it in `registry.insecure_registries`"
            }
        };
        return Some(text.to_owned());
    }
    if says(&[
        "unauthorized",
        "authentication required",
        "no basic auth credentials",
        "access denied",
        "403 forbidden",
    ]) {
        let hosts: BTreeSet<&str> = session
            .tools
            .logins
            .iter()
            .map(|login| login.host.as_str())
            .collect();
        let hosts = Vec::from_iter(hosts);
        return Some(match hosts.as_slice() {
            [] => "it was given no login: set IMGLIFE_<HOST>_USERNAME and IMGLIFE_<HOST>_PASSWORD, or log in by docker".to_owned(),
            hosts => format!("it was given logins for {}: see whether they may read the base and push the image", hosts.join(", ")),
        });
    }
    if says(&[
        "cannot connect to the docker daemon",
        "is the docker daemon running",
    ]) {
        return Some("start the docker engine, or set DOCKER_HOST to where one listens".to_owned());
    }
    let is_containers = matches!(session.engine, EngineName::Buildah | EngineName::Podman);
    if is_containers
        && says(&[
            "operation not permitted",
            "cannot clone",
            "permission denied",
        ])
    {
        let text = "in a container without privileges: set BUILDAH_ISOLATION=chroot and STORAGE_DRIVER=vfs, or give it user namespaces";
        return Some(text.to_owned());
    }
    None
}
