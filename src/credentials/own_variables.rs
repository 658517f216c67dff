//! Credentials in imglife's own variables: `IMGLIFE_LOGIN_<NAME>_*` and `IMGLIFE_<HOST>_*`.

use std::collections::HashMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::io::AsyncReadExt as _;

use super::named::{self, HostClaim, NamedLogin, ReviewedHosts, variable_prefix};
use super::{Credential, CredentialError, Sourced};
use crate::model::env;
use crate::model::{Host, RepositoryPath, Secret, Variables};

/// Maximum size of a file with a password, in bytes.
const MAX_PASSWORD_FILE_SIZE: u64 = 64 * 1024;

/// Credentials in imglife's own variables.
///
/// A login with a name comes first: its variables state the host. `IMGLIFE_<HOST>_*` can apply to
/// several hosts, because different names have the same variables. In an untrusted job, they are
/// used only for a host that `IMGLIFE_<HOST>_HOST` names, for the registry of the CI server, and for
/// a host that the reviewed configuration names.
pub(super) struct OwnVariables<'a> {
    pub(super) variables: &'a Variables,
    pub(super) reviewed: Option<&'a dyn ReviewedHosts>,
}

impl OwnVariables<'_> {
    /// Returns the credential for `path` on `host`; `None` if no variable has one.
    pub(super) async fn find(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
    ) -> Result<Option<Sourced<Credential>>, CredentialError> {
        let (logins, _) = named::logins(self.variables);
        let login = logins
            .iter()
            .filter(|login| login.applies_to(host, path))
            .max_by_key(|login| login.path_length());
        if let Some(login) = login
            && let Some(found) = self.of_login(host, login).await?
        {
            return Ok(Some(found));
        }
        let prefix = variable_prefix(host);
        let is_untrusted = self.variables.permissions().is_untrusted();
        let is_set = ["PASSWORD", "TOKEN"]
            .iter()
            .any(|name| self.get(&prefix, name).is_some());
        if !is_set && is_untrusted {
            // A protected variable is empty in such a job, and a user name alone is no credential.
            return Ok(None);
        }
        if is_set && !self.may_receive(host, &prefix).await? {
            return Ok(None);
        }
        self.of_prefix(host, &prefix)
    }

    fn get(&self, prefix: &str, name: &str) -> Option<&str> {
        self.variables.get_filled(&format!("{prefix}_{name}"))
    }

    /// Returns true if the variables with `prefix` are for `host`. Fails if that is unknown and a
    /// variable has to state it.
    async fn may_receive(&self, host: &Host, prefix: &str) -> Result<bool, CredentialError> {
        match named::claim(host, self.variables) {
            Ok(HostClaim::Named) => return Ok(true),
            Ok(HostClaim::OfAnother) => return Ok(false),
            Ok(HostClaim::Unnamed) => {}
            Err(name) => return Err(invalid_host(host, &name)),
        }
        let is_untrusted = self.variables.permissions().is_untrusted();
        if !is_untrusted && !named::is_look_alike(host) {
            return Ok(true);
        }
        let is_job_registry = self
            .variables
            .get_filled(env::CI_REGISTRY)
            .and_then(|registry| registry.parse::<Host>().ok())
            .is_some_and(|registry| registry == *host);
        if is_job_registry {
            return Ok(true);
        }
        if is_untrusted
            && let Some(reviewed) = self.reviewed
            && reviewed.contain(host).await
        {
            return Ok(true);
        }
        let reason = if is_untrusted {
            "in an untrusted job it is sent only to a host that a variable names"
        } else {
            "its name has `-` where another host has `.`, and both have the same variables"
        };
        Err(CredentialError::new(
            host,
            format!("the credential in {prefix}_* is not sent to this host: {reason}"),
            Some(format!(
                "if the credential is for {host}, set {prefix}_HOST={host} where the credential is set; otherwise check who changed the configuration"
            )),
        ))
    }

    /// Returns the credential of a login with a name; `None` if its variables are not set in an
    /// untrusted job.
    async fn of_login(
        &self,
        host: &Host,
        login: &NamedLogin,
    ) -> Result<Option<Sourced<Credential>>, CredentialError> {
        let prefix = &login.prefix;
        let Some(file) = self.get(prefix, "PASSWORD_FILE") else {
            let is_untrusted = self.variables.permissions().is_untrusted();
            let is_set = ["PASSWORD", "TOKEN"]
                .iter()
                .any(|name| self.get(prefix, name).is_some());
            if !is_set && is_untrusted {
                return Ok(None);
            }
            return match self.of_prefix(host, prefix)? {
                None => Err(CredentialError::new(
                    host,
                    format!(
                        "{prefix}_HOST is set, {prefix}_USERNAME and {prefix}_PASSWORD are not"
                    ),
                    Some(format!(
                        "set {prefix}_USERNAME, and {prefix}_PASSWORD or {prefix}_PASSWORD_FILE"
                    )),
                )),
                found => Ok(found),
            };
        };
        let Some(username) = self.get(prefix, "USERNAME") else {
            return Err(CredentialError::new(
                host,
                format!("{prefix}_PASSWORD_FILE is set, {prefix}_USERNAME is not"),
                None,
            ));
        };
        let password = password_in(file).await.map_err(|problem| {
            CredentialError::new(
                host,
                format!("{prefix}_PASSWORD_FILE: {problem}"),
                Some("set it to the path of a file that contains only the password".to_owned()),
            )
        })?;
        Ok(Some(Sourced {
            source: format!("{prefix}_USERNAME and {prefix}_PASSWORD_FILE"),
            value: Credential::Basic {
                username: username.to_owned(),
                password,
            },
        }))
    }

    /// Returns the credential in the variables with `prefix`.
    fn of_prefix(
        &self,
        host: &Host,
        prefix: &str,
    ) -> Result<Option<Sourced<Credential>>, CredentialError> {
        let pair = |second: &str| format!("{prefix}_USERNAME and {prefix}_{second}");
        let get = |name: &str| self.get(prefix, name);
        match (get("USERNAME"), get("PASSWORD"), get("TOKEN")) {
            (Some(username), Some(password), _) => {
                let value = Credential::Basic {
                    username: username.to_owned(),
                    password: Secret::new(password),
                };
                Ok(Some(Sourced {
                    source: pair("PASSWORD"),
                    value,
                }))
            }
            (None, Some(_), _) => Err(CredentialError::new(
                host,
                format!("{prefix}_PASSWORD is set, {prefix}_USERNAME is not"),
                None,
            )),
            (_, None, Some(token)) if is_access_token(token) => Ok(Some(Sourced {
                source: format!("{prefix}_TOKEN"),
                value: Credential::Bearer {
                    token: Secret::new(token),
                },
            })),
            (username, None, Some(token)) => {
                let source = if username.is_some() {
                    pair("TOKEN")
                } else {
                    format!("{prefix}_TOKEN")
                };
                let username = username.unwrap_or("token").to_owned();
                Ok(Some(Sourced {
                    source,
                    value: Credential::RefreshTokenOrPassword {
                        username,
                        token: Secret::new(token),
                    },
                }))
            }
            (Some(_), None, None) => Err(CredentialError::new(
                host,
                format!("{prefix}_USERNAME is set, {prefix}_PASSWORD is not"),
                Some(
                    "a protected or masked CI variable is empty in jobs without access to it"
                        .to_owned(),
                ),
            )),
            (None, None, None) => Ok(None),
        }
    }
}

/// Reads a password from a file, without the line break at its end. The error has no part of it.
async fn password_in(file: &str) -> Result<Secret, String> {
    let path = PathBuf::from(file);
    let mut bytes = Vec::new();
    let read = async {
        tokio::fs::File::open(&path)
            .await?
            .take(MAX_PASSWORD_FILE_SIZE + 1)
            .read_to_end(&mut bytes)
            .await
    };
    read.await
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let text = String::from_utf8(bytes)
        .ok()
        .filter(|text| text.len() as u64 <= MAX_PASSWORD_FILE_SIZE)
        .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
        .filter(|text| !text.is_empty());
    text.map(Secret::new)
        .ok_or_else(|| format!("{} does not contain a password", path.display()))
}

fn invalid_host(host: &Host, name: &str) -> CredentialError {
    CredentialError::new(
        host,
        format!("{name} is not a host"),
        Some("write a host as in image references, optionally with a path: `registry.example.com/team`".to_owned()),
    )
}

/// Checks that no variable that is set applies to two of `hosts`: its secret would be sent to a
/// host that it was not meant for. In an untrusted job, such a host gets no credential, and the
/// others are not affected.
pub fn check_collisions<'a>(
    hosts: impl IntoIterator<Item = &'a Host>,
    variables: &Variables,
) -> Result<(), CredentialError> {
    let (_, invalid) = named::logins(variables);
    let mut prefixes: HashMap<String, &Host> = HashMap::new();
    for host in hosts {
        let prefix = variable_prefix(host);
        let other = *prefixes.entry(prefix.clone()).or_insert(host);
        if let Some(name) = invalid.first() {
            return Err(invalid_host(host, name));
        }
        // A variable that names its host applies to that host only.
        let is_untrusted = variables.permissions().is_untrusted();
        if is_untrusted || other == host || named::claim(host, variables) != Ok(HostClaim::Unnamed)
        {
            continue;
        }
        let set = ["USERNAME", "PASSWORD", "TOKEN"].map(|name| format!("{prefix}_{name}"));
        if let Some(variable) = set.iter().find(|name| variables.get_filled(name).is_some()) {
            return Err(CredentialError::new(
                host,
                format!("{variable} also applies to {other}"),
                Some(format!("name the host that it is for in {prefix}_HOST")),
            ));
        }
    }
    Ok(())
}

/// Returns true if `token` is an access token of a registry's token server: a JSON Web Token with
/// the claim `access` (token authentication specification of CNCF distribution). Refresh tokens can
/// be JSON Web Tokens too (Azure's are), without that claim.
pub(super) fn is_access_token(token: &str) -> bool {
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let object = |part: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes).ok()
    };
    object(header).is_some() && object(claims).is_some_and(|claims| claims.contains_key("access"))
}
