//! Lookup order of credentials.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::io::AsyncReadExt;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

use super::auth_file::AuthFile;
use super::forge::{ForgeCredentials, ForgeKind};
use super::named::ReviewedHosts;
use super::own_variables::OwnVariables;
use super::{Credential, CredentialError, Credentials, Sourced, helper};
use crate::command::Runner;
use crate::model::env;
use crate::model::lock::lock;
use crate::model::{Host, RepositoryPath, Secret, Variables};

/// Maximum size of a credential file, in bytes.
const MAX_FILE_SIZE: u64 = 1024 * 1024;

/// Name of Docker Hub in docker's files and helpers.
const DOCKER_HUB_SERVER: &str = "https://index.docker.io/v1/";

/// Credentials from the environment. The first one found is used, in this order:
///
/// 1. imglife's own variables
/// 2. the GitLab CI job, for the images of its project
/// 3. docker's configuration: variable, file, helpers
/// 4. podman's file
/// 5. the GitLab CI job, for other projects at its registry
/// 6. the token of a Gitea job
///
/// A GitLab job may always read and write the images of its own project, and those of other projects
/// only where these allow it. Credentials for them are therefore preferred there.
///
/// Files are read once. A helper is called once for a server, and again when its answer may have
/// expired or was rejected.
pub struct StandardCredentials {
    variables: Variables,
    runner: Arc<dyn Runner>,
    files: OnceCell<Vec<Sourced<Result<AuthFile, String>>>>,
    helpers: Mutex<HashMap<HelperKey, HelperSlot>>,
    /// True if a file that cannot be used was logged.
    has_warned: AtomicBool,
    reviewed: Option<Arc<dyn ReviewedHosts>>,
}

/// Name of a helper, and the server that a credential is needed for.
type HelperKey = (String, String);
type HelperSlot = Arc<AsyncMutex<Option<HelperAnswer>>>;

/// Answer of a helper.
struct HelperAnswer {
    result: Result<Option<Credential>, String>,
    asked: Instant,
    /// True if the helper returned a rejected credential again.
    is_confirmed: bool,
}

/// Time after which a helper is called again: the credentials of cloud registries expire.
const HELPER_LIFETIME: Duration = Duration::from_mins(15);

/// Minimum time before a helper that returned a rejected credential again is called once more.
const MIN_RENEWAL_INTERVAL: Duration = Duration::from_secs(30);

impl StandardCredentials {
    /// Returns the credentials that `variables` lead to. `runner` calls the helpers. That only
    /// reads, so dry modes need a real runner too.
    pub fn new(variables: Variables, runner: Arc<dyn Runner>) -> StandardCredentials {
        StandardCredentials {
            variables,
            runner,
            files: OnceCell::new(),
            helpers: Mutex::default(),
            has_warned: AtomicBool::default(),
            reviewed: None,
        }
    }

    /// Returns the same credentials for a run with a reviewed configuration, whose hosts an
    /// untrusted job may send credentials to.
    #[must_use]
    pub fn with_reviewed(self, reviewed: Arc<dyn ReviewedHosts>) -> StandardCredentials {
        StandardCredentials {
            reviewed: Some(reviewed),
            ..self
        }
    }

    async fn find(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
    ) -> Result<Option<Sourced<Credential>>, CredentialError> {
        self.find_other(host, path, None).await
    }

    /// Returns the credential for `path` on `host`. Calls helpers again that returned `rejected`.
    async fn find_other(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
        rejected: Option<&Credential>,
    ) -> Result<Option<Sourced<Credential>>, CredentialError> {
        let own = OwnVariables {
            variables: &self.variables,
            reviewed: self.reviewed.as_deref(),
        };
        if let Some(found) = own.find(host, path).await? {
            return Ok(Some(found));
        }
        let job = self.in_gitlab_job(host);
        if job.is_some() && path.is_some_and(|path| self.is_of_job_project(host, path)) {
            return Ok(job);
        }
        match (self.in_files(host, path, rejected).await, job) {
            // The job's own credential needs no file, so a file that cannot be used does no harm.
            (Err(error), Some(job)) => {
                if !self.has_warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "using the credential of the job instead");
                }
                Ok(Some(job))
            }
            (found, job) => Ok(found?.or(job).or_else(|| self.gitea_token(host))),
        }
    }

    /// Returns true if a repository on `host` belongs to the project of the GitLab job
    /// (`CI_REGISTRY_IMAGE`).
    fn is_of_job_project(&self, host: &Host, path: &RepositoryPath) -> bool {
        let project = self.variables.get_filled(env::CI_REGISTRY_IMAGE);
        project
            .and_then(|image| image.split_once('/'))
            .filter(|(registry, project)| {
                registry
                    .parse::<Host>()
                    .is_ok_and(|registry| registry == *host)
                    && !project.is_empty()
            })
            .and_then(|(_, project)| path.as_str().strip_prefix(project.trim_end_matches('/')))
            .is_some_and(|below| below.is_empty() || below.starts_with('/'))
    }

    /// Returns the credential of a GitLab job. It is sent only to the registry of the job's server.
    fn in_gitlab_job(&self, host: &Host) -> Option<Sourced<Credential>> {
        let get = |name| self.variables.get_filled(name);
        if get(env::GITLAB_CI) != Some("true")
            || get(env::CI_REGISTRY)?.parse::<Host>().ok()? != *host
        {
            return None;
        }
        let (username, password, source) =
            match (get(env::CI_REGISTRY_USER), get(env::CI_REGISTRY_PASSWORD)) {
                (Some(username), Some(password)) => (
                    username,
                    password,
                    "CI_REGISTRY_USER and CI_REGISTRY_PASSWORD",
                ),
                _ => (
                    "gitlab-ci-token",
                    get(env::CI_JOB_TOKEN)?,
                    env::CI_JOB_TOKEN,
                ),
            };
        let value = Credential::Basic {
            username: username.to_owned(),
            password: Secret::new(password),
        };
        Some(Sourced {
            source: source.to_owned(),
            value,
        })
    }

    /// Returns Gitea's token as a credential, in a job or where `IMGLIFE_TOKEN_HOST` names the host.
    ///
    /// At Gitea the registry is the server itself, and accepts a token as a password. It comes last:
    /// a credential that was set for the registry takes precedence over a token that may be meant
    /// for packages only.
    fn gitea_token(&self, host: &Host) -> Option<Sourced<Credential>> {
        let is_for_host = [
            env::GITEA_ACTIONS,
            env::FORGEJO_ACTIONS,
            env::IMGLIFE_TOKEN_HOST,
        ]
        .iter()
        .any(|name| self.variables.get_filled(name).is_some());
        if !is_for_host {
            return None;
        }
        let credentials = ForgeCredentials::new(ForgeKind::Gitea, self.variables.clone());
        let (variable, value) = credentials.registry_credential(host)?;
        Some(Sourced {
            source: variable.to_owned(),
            value,
        })
    }

    async fn in_files(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
        rejected: Option<&Credential>,
    ) -> Result<Option<Sourced<Credential>>, CredentialError> {
        for Sourced {
            source,
            value: file,
        } in self.files.get_or_init(|| self.read_files()).await
        {
            let invalid =
                |what: &String| CredentialError::new(host, format!("{source}: {what}"), None);
            let file = file.as_ref().map_err(invalid)?;
            if let Some(name) = file.helper(host, path) {
                if let Some(value) = self
                    .in_helper(name, host, rejected)
                    .await
                    .map_err(|what| invalid(&what))?
                {
                    return Ok(Some(Sourced {
                        source: helper_source(name, source),
                        value,
                    }));
                }
                continue;
            }
            if let Some(value) = file.credential(host, path).map_err(|what| invalid(&what))? {
                return Ok(Some(Sourced {
                    source: source.clone(),
                    value,
                }));
            }
            if let Some(name) = file.store()
                && let Some(value) = self
                    .in_helper(name, host, rejected)
                    .await
                    .map_err(|what| invalid(&what))?
            {
                return Ok(Some(Sourced {
                    source: helper_source(name, source),
                    value,
                }));
            }
        }
        Ok(None)
    }

    /// Returns the credential of the helper `name` for `host`; calls it if there is no recent answer,
    /// or if the answer was `rejected`.
    async fn in_helper(
        &self,
        name: &str,
        host: &Host,
        rejected: Option<&Credential>,
    ) -> Result<Option<Credential>, String> {
        let server = if host.is_docker_hub() {
            DOCKER_HUB_SERVER
        } else {
            host.as_str()
        };
        let slot = {
            let mut helpers = lock(&self.helpers);
            helpers
                .entry((name.to_owned(), server.to_owned()))
                .or_default()
                .clone()
        };
        let mut slot = slot.lock().await;
        let is_rejected = |answer: &HelperAnswer| {
            rejected.is_some_and(|rejected| {
                answer.result.as_ref().ok() == Some(&Some(rejected.clone()))
            })
        };
        if let Some(answer) = &*slot {
            let is_renewable =
                !answer.is_confirmed || answer.asked.elapsed() >= MIN_RENEWAL_INTERVAL;
            if answer.asked.elapsed() < HELPER_LIFETIME && !(is_rejected(answer) && is_renewable) {
                return answer.result.clone();
            }
        }
        let mut answer = HelperAnswer {
            result: helper::credential(&*self.runner, &self.variables, name, server).await,
            asked: Instant::now(),
            is_confirmed: false,
        };
        answer.is_confirmed = is_rejected(&answer);
        let result = answer.result.clone();
        *slot = Some(answer);
        result
    }

    async fn read_files(&self) -> Vec<Sourced<Result<AuthFile, String>>> {
        let mut files = Vec::new();
        if let Some(text) = self.variables.get_filled(env::DOCKER_AUTH_CONFIG) {
            files.push(Sourced {
                source: "$DOCKER_AUTH_CONFIG".to_owned(),
                value: AuthFile::parse(text.as_bytes()),
            });
        }
        for path in self.file_paths() {
            match read(&path).await {
                Ok(bytes) => files.push(Sourced {
                    source: path.display().to_string(),
                    value: AuthFile::parse(&bytes),
                }),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) => {}
                Err(error) => {
                    files.push(Sourced {
                        source: path.display().to_string(),
                        value: Err(format!("cannot be read: {error}")),
                    });
                }
            }
        }
        files
    }

    fn file_paths(&self) -> Vec<PathBuf> {
        let directory = |name| self.variables.get_filled(name).map(PathBuf::from);
        let docker = directory(env::DOCKER_CONFIG)
            .or_else(|| directory(env::HOME).map(|home| home.join(".docker")));
        let podman = match directory(env::REGISTRY_AUTH_FILE) {
            Some(file) => vec![file],
            None => [
                directory(env::XDG_RUNTIME_DIR),
                directory(env::HOME).map(|home| home.join(".config")),
            ]
            .into_iter()
            .flatten()
            .map(|directory| directory.join("containers/auth.json"))
            .collect(),
        };
        docker
            .map(|directory| directory.join("config.json"))
            .into_iter()
            .chain(podman)
            .collect()
    }
}

#[async_trait]
impl Credentials for StandardCredentials {
    async fn credential(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
    ) -> Result<Credential, CredentialError> {
        Ok(self
            .find(host, path)
            .await?
            .map_or(Credential::Anonymous, |found| found.value))
    }

    async fn source(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
    ) -> Result<Option<String>, CredentialError> {
        Ok(self.find(host, path).await?.map(|found| found.source))
    }

    async fn renew(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
        rejected: &Credential,
    ) -> Result<bool, CredentialError> {
        let found = self.find_other(host, path, Some(rejected)).await?;
        Ok(found.is_some_and(|found| found.value != *rejected))
    }
}

/// Returns the source of a credential that a helper returned.
fn helper_source(name: &str, file: &str) -> String {
    format!("docker-credential-{name} (set in {file})")
}

async fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    tokio::fs::File::open(path)
        .await?
        .take(MAX_FILE_SIZE + 1)
        .read_to_end(&mut bytes)
        .await?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {MAX_FILE_SIZE} bytes"),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
