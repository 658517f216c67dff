//! A private copy of docker's configuration, for programs that pull and push images.
//!
//! Owns the files from which docker, buildx, podman and buildah read credentials. The user's own
//! configuration is only read. Programs receive secrets only in these files, never in arguments.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use thiserror::Error;

use super::engine::HostCredential;
use crate::credentials::Credential;
use crate::model::env;
use crate::model::{Host, Variables};

/// Maximum size of a configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Name of Docker Hub in docker's configuration.
const DOCKER_HUB_SERVER: &str = "https://index.docker.io/v1/";

/// User name that marks an identity token.
const IDENTITY_TOKEN_USER: &str = "<token>";

/// Error of the private configuration.
#[derive(Debug, Error)]
pub enum PrivateConfigError {
    #[error("cannot write the private configuration in {}", directory.display())]
    Write {
        directory: PathBuf,
        source: io::Error,
    },
    #[error("cannot read {}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{} is not a docker configuration file (JSON)", file.display())]
    Malformed { file: PathBuf },
}

/// A directory that only the current user can read, with credentials in the formats of docker and
/// of podman. Removed on drop.
#[derive(Debug)]
pub struct PrivateConfig {
    directory: TempDir,
    /// Directory of the user's docker configuration.
    original: Option<PathBuf>,
}

impl PrivateConfig {
    /// Creates a copy of the user's configuration in which `credentials` replace the credentials.
    ///
    /// Plugins, contexts and credential helpers for other hosts are kept. Docker supports one
    /// credential per host; it gets the first one.
    pub fn create(
        variables: &Variables,
        credentials: &[HostCredential],
    ) -> Result<PrivateConfig, PrivateConfigError> {
        let original = original(variables);
        let file = original
            .as_ref()
            .map(|directory| directory.join("config.json"));
        let own = file.map_or(Ok(Map::new()), |file| read(&file))?;
        let parent = variables
            .get_filled(env::TMPDIR)
            .map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        let directory = tempfile::Builder::new()
            .prefix("imglife-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .map_err(|source| PrivateConfigError::Write {
                directory: parent,
                source,
            })?;
        let config = PrivateConfig {
            directory,
            original,
        };
        config
            .write_all(own, credentials)
            .map_err(|source| PrivateConfigError::Write {
                directory: config.path().to_owned(),
                source,
            })?;
        Ok(config)
    }

    /// Returns the directory. Callers may create files in it whose names do not start with `docker`
    /// or `containers`.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the environment for programs that use the private configuration.
    ///
    /// It lacks the variables from which imglife reads credentials.
    pub fn environment(&self, variables: &Variables) -> Variables {
        // `DOCKER_AUTH_CONFIG` would take precedence over the file. Its credentials are already
        // part of the private configuration.
        let mut environment: Variables = variables
            .iter()
            .filter(|(name, _)| *name != env::DOCKER_AUTH_CONFIG && !is_imglife_secret(name))
            .collect();
        let mut set_path =
            |name: &str, path: PathBuf| environment.set(name, path.to_string_lossy());
        set_path(env::DOCKER_CONFIG, self.docker());
        set_path(
            env::REGISTRY_AUTH_FILE,
            self.path().join("containers-auth.json"),
        );
        if let Some(original) = &self.original {
            if variables.get_filled(env::BUILDX_CONFIG).is_none() {
                set_path(env::BUILDX_CONFIG, original.join("buildx"));
            }
            if variables.get_filled(env::DOCKER_CERT_PATH).is_none()
                && variables.get_filled(env::DOCKER_TLS_VERIFY).is_some()
            {
                set_path(env::DOCKER_CERT_PATH, original.clone());
            }
        }
        // As the entry point of the docker image does, if a docker service creates certificates.
        if let (Some(directory), Some(host), None, None) = (
            variables.get_filled(env::DOCKER_TLS_CERTDIR),
            variables.get_filled(env::DOCKER_HOST),
            variables.get_filled(env::DOCKER_CERT_PATH),
            variables.get_filled(env::DOCKER_TLS_VERIFY),
        ) {
            let client = Path::new(directory).join("client");
            if host.starts_with("tcp:")
                && ["ca.pem", "cert.pem", "key.pem"]
                    .iter()
                    .all(|file| client.join(file).is_file())
            {
                environment.set(env::DOCKER_CERT_PATH, client.to_string_lossy());
                environment.set(env::DOCKER_TLS_VERIFY, "1");
            }
        }
        environment
    }

    /// Returns the directory of docker's configuration.
    fn docker(&self) -> PathBuf {
        self.path().join("docker")
    }

    /// Writes all files.
    fn write_all(
        &self,
        mut own: Map<String, Value>,
        credentials: &[HostCredential],
    ) -> io::Result<()> {
        fs::create_dir(self.docker())?;
        if let Some(original) = &self.original {
            let original = std::path::absolute(original)?;
            link(
                &original.join("cli-plugins"),
                &self.docker().join("cli-plugins"),
            )?;
            // New contexts may be created here, so only the existing ones are links.
            for part in ["contexts/meta", "contexts/tls"] {
                let own = self.docker().join(part);
                fs::create_dir_all(&own)?;
                for context in fs::read_dir(original.join(part)).into_iter().flatten() {
                    let context = context?;
                    link(&context.path(), &own.join(context.file_name()))?;
                }
            }
        }
        let entries: Vec<(&HostCredential, Value)> = credentials
            .iter()
            .filter_map(|credential| Some((credential, entry(&credential.credential)?)))
            .collect();
        let key = |host: &Host, hub: &str| {
            if host.is_docker_hub() {
                hub.to_owned()
            } else {
                host.to_string()
            }
        };
        let podman_auths: Map<String, Value> = entries
            .iter()
            .map(|(credential, entry)| {
                let host = key(&credential.host, "docker.io");
                let key = credential
                    .path
                    .as_ref()
                    .map_or_else(|| host.clone(), |path| format!("{host}/{path}"));
                (key, entry.clone())
            })
            .collect();
        let mut docker_auths = Map::new();
        for (credential, entry) in &entries {
            docker_auths
                .entry(key(&credential.host, DOCKER_HUB_SERVER))
                .or_insert_with(|| entry.clone());
        }
        let mut helpers = match own.remove("credHelpers") {
            Some(Value::Object(helpers)) => helpers,
            _ => Map::new(),
        };
        helpers.retain(|key, _| {
            !host_of(key).is_some_and(|host| {
                entries
                    .iter()
                    .any(|(credential, _)| credential.host == host)
            })
        });
        let containers = json!({ "auths": podman_auths, "credHelpers": helpers });
        write(&self.path().join("containers-auth.json"), &containers)?;
        if own.contains_key("credsStore") {
            // With a credential store, docker ignores `auths`, except for hosts with a helper. An
            // empty helper name makes it read `auths`.
            helpers.extend(
                docker_auths
                    .keys()
                    .map(|key| (key.clone(), Value::String(String::new()))),
            );
        }
        own.insert("credHelpers".to_owned(), Value::Object(helpers));
        own.insert("auths".to_owned(), Value::Object(docker_auths));
        write(&self.docker().join("config.json"), &Value::Object(own))
    }
}

/// Creates a symbolic link `to` to the directory `from`, if that exists.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_dir() {
        std::os::unix::fs::symlink(from, to)
    } else {
        Ok(())
    }
}

/// Returns the directory of the user's docker configuration.
fn original(variables: &Variables) -> Option<PathBuf> {
    let directory = |name| variables.get_filled(name).map(PathBuf::from);
    directory(env::DOCKER_CONFIG).or_else(|| directory(env::HOME).map(|home| home.join(".docker")))
}

/// Returns true if imglife reads a credential from the variable.
fn is_imglife_secret(name: &str) -> bool {
    name.starts_with(env::PREFIX) && (name.ends_with("_PASSWORD") || name.ends_with("_TOKEN"))
}

/// Reads a configuration file. Empty if the file does not exist.
fn read(file: &Path) -> Result<Map<String, Value>, PrivateConfigError> {
    let mut bytes = Vec::new();
    let read = fs::File::open(file)
        .and_then(|opened| opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > MAX_FILE_BYTES => Err(PrivateConfigError::Read {
            file: file.to_owned(),
            source: io::ErrorKind::FileTooLarge.into(),
        }),
        Ok(_) if bytes.trim_ascii().is_empty() => Ok(Map::new()),
        Ok(_) => serde_json::from_slice(&bytes).map_err(|_| PrivateConfigError::Malformed {
            file: file.to_owned(),
        }),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Map::new())
        }
        Err(source) => Err(PrivateConfigError::Read {
            file: file.to_owned(),
            source,
        }),
    }
}

/// Writes a JSON file that only the current user can read.
fn write(file: &Path, value: &Value) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?
        .write_all(value.to_string().as_bytes())
}

/// Returns a credential in the format of docker's configuration. `None` if it cannot be expressed.
fn entry(credential: &Credential) -> Option<Value> {
    let pair = |username: &str, password: &str| STANDARD.encode(format!("{username}:{password}"));
    Some(match credential {
        // Docker has no equivalent of a custom header.
        Credential::Anonymous | Credential::Header { .. } => return None,
        // Programs do not try a second method. Most tokens work as a password.
        Credential::Basic {
            username,
            password: secret,
        }
        | Credential::RefreshTokenOrPassword {
            username,
            token: secret,
        } => {
            json!({ "auth": pair(username, secret.expose()) })
        }
        // Podman ignores an entry without `auth`.
        Credential::RefreshToken { token } => {
            json!({ "auth": pair(IDENTITY_TOKEN_USER, ""), "identitytoken": token.expose() })
        }
        Credential::Bearer { token } => json!({ "registrytoken": token.expose() }),
    })
}

/// Returns the host in a key of docker's configuration, or `None` if it has none.
fn host_of(key: &str) -> Option<Host> {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    key.split('/').next()?.parse().ok()
}
