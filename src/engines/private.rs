//! A private copy of docker's configuration, for one run of programs that push images.
//!
//! Owns which files docker, buildx, podman and buildah read their logins from. The user's own
//! directory is read, never written. Secrets reach programs by these files only, never by
//! arguments.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use thiserror::Error;

use super::Login;
use crate::credentials::Credential;
use crate::model::env;
use crate::model::{Host, Variables};

/// The largest configuration file that is read, in bytes.
const LARGEST_FILE: u64 = 1024 * 1024;

/// The name that docker's files know Docker Hub by.
const DOCKER_HUB_SERVER: &str = "https://index.docker.io/v1/";

/// The user name that stands before an identity token.
const IDENTITY_TOKEN: &str = "<token>";

/// Why there is no private configuration.
#[derive(Debug, Error)]
pub enum PrivateConfigError {
    #[error("cannot write the private configuration in {}", directory.display())]
    Write {
        directory: PathBuf,
        source: io::Error,
    },
    #[error("cannot read {}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{} is not of docker's form (JSON)", file.display())]
    Form { file: PathBuf },
}

/// A directory that only this user can look into, with the logins of some hosts in the forms of
/// docker and of podman. It is removed when this is dropped.
#[derive(Debug)]
pub struct PrivateConfig {
    directory: TempDir,
    original: Option<PathBuf>,
}

impl PrivateConfig {
    /// Writes the configuration: the user's own without its logins, with those of `logins` instead.
    /// Command line plugins, contexts and credential helpers for other hosts are kept. Docker knows
    /// one login of a host: the first.
    pub fn create(
        variables: &Variables,
        logins: &[Login],
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
            .write_all(own, logins)
            .map_err(|source| PrivateConfigError::Write {
                directory: config.path().to_owned(),
                source,
            })?;
        Ok(config)
    }

    /// Returns the directory; others may put files of their own there, as long as their names do
    /// not begin with `docker` or `containers`.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Returns `variables` as programs need them that are to use the private configuration, and not
    /// see credentials that are not meant for them.
    pub fn environment(&self, variables: &Variables) -> Variables {
        // This one would win over the file, and has been read already where its logins count.
        let mut environment: Variables = variables
            .iter()
            .filter(|(name, _)| *name != env::DOCKER_AUTH_CONFIG && !is_own_secret(name))
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
        // As the images of docker do it, beside a service that makes certificates there.
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

    fn docker(&self) -> PathBuf {
        self.path().join("docker")
    }

    fn write_all(&self, mut own: Map<String, Value>, logins: &[Login]) -> io::Result<()> {
        fs::create_dir(self.docker())?;
        if let Some(original) = &self.original {
            let original = std::path::absolute(original)?;
            link(
                &original.join("cli-plugins"),
                &self.docker().join("cli-plugins"),
            )?;
            // Contexts may be added here, so only those of the user are links.
            for part in ["contexts/meta", "contexts/tls"] {
                let own = self.docker().join(part);
                fs::create_dir_all(&own)?;
                for context in fs::read_dir(original.join(part)).into_iter().flatten() {
                    let context = context?;
                    link(&context.path(), &own.join(context.file_name()))?;
                }
            }
        }
        let logins: Vec<(&Login, Value)> = logins
            .iter()
            .filter_map(|login| Some((login, entry(&login.credential)?)))
            .collect();
        let key = |host: &Host, hub: &str| {
            if host.is_docker_hub() {
                hub.to_owned()
            } else {
                host.to_string()
            }
        };
        let of_containers: Map<String, Value> = logins
            .iter()
            .map(|(login, entry)| {
                let host = key(&login.host, "docker.io");
                let key = login
                    .path
                    .as_ref()
                    .map_or_else(|| host.clone(), |path| format!("{host}/{path}"));
                (key, entry.clone())
            })
            .collect();
        let mut of_docker = Map::new();
        for (login, entry) in &logins {
            of_docker
                .entry(key(&login.host, DOCKER_HUB_SERVER))
                .or_insert_with(|| entry.clone());
        }
        let mut helpers = match own.remove("credHelpers") {
            Some(Value::Object(helpers)) => helpers,
            _ => Map::new(),
        };
        helpers.retain(|key, _| {
            !host_of(key).is_some_and(|host| logins.iter().any(|(login, _)| login.host == host))
        });
        let containers = json!({ "auths": of_containers, "credHelpers": helpers });
        write(&self.path().join("containers-auth.json"), &containers)?;
        if own.contains_key("credsStore") {
            // Docker asks the store and never looks at `auths`, unless the host has a helper: an
            // empty one means the file.
            helpers.extend(
                of_docker
                    .keys()
                    .map(|key| (key.clone(), Value::String(String::new()))),
            );
        }
        own.insert("credHelpers".to_owned(), Value::Object(helpers));
        own.insert("auths".to_owned(), Value::Object(of_docker));
        write(&self.docker().join("config.json"), &Value::Object(own))
    }
}

/// Makes `to` a link to the directory `from`, where there is one.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_dir() {
        std::os::unix::fs::symlink(from, to)
    } else {
        Ok(())
    }
}

/// Returns the directory that the user's docker has its configuration in.
fn original(variables: &Variables) -> Option<PathBuf> {
    let directory = |name| variables.get_filled(name).map(PathBuf::from);
    directory(env::DOCKER_CONFIG).or_else(|| directory(env::HOME).map(|home| home.join(".docker")))
}

/// Returns whether a variable is one that imglife itself takes a credential from.
fn is_own_secret(name: &str) -> bool {
    name.starts_with(env::PREFIX) && (name.ends_with("_PASSWORD") || name.ends_with("_TOKEN"))
}

fn read(file: &Path) -> Result<Map<String, Value>, PrivateConfigError> {
    let mut bytes = Vec::new();
    let read = fs::File::open(file)
        .and_then(|opened| opened.take(LARGEST_FILE + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > LARGEST_FILE => Err(PrivateConfigError::Read {
            file: file.to_owned(),
            source: io::ErrorKind::FileTooLarge.into(),
        }),
        Ok(_) if bytes.trim_ascii().is_empty() => Ok(Map::new()),
        Ok(_) => serde_json::from_slice(&bytes).map_err(|_| PrivateConfigError::Form {
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

fn write(file: &Path, value: &Value) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?
        .write_all(value.to_string().as_bytes())
}

/// Returns a login as docker's file has it.
fn entry(credential: &Credential) -> Option<Value> {
    let pair = |username: &str, password: &str| STANDARD.encode(format!("{username}:{password}"));
    Some(match credential {
        // A header is no login of a registry.
        Credential::Anonymous | Credential::Header { .. } => return None,
        // Programs try no second way to log in; a password is what most tokens are good for.
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
        // Podman passes over an entry without `auth`.
        Credential::RefreshToken { token } => {
            json!({ "auth": pair(IDENTITY_TOKEN, ""), "identitytoken": token.expose() })
        }
        Credential::Bearer { token } => json!({ "registrytoken": token.expose() }),
    })
}

/// Returns the host that a key of a credential file stands for.
fn host_of(key: &str) -> Option<Host> {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    key.split('/').next()?.parse().ok()
}
