//! Credentials for hosts.
//!
//! Owns the lookup order of variables, docker's and podman's files and credential helpers, the
//! tokens of GitLab and Gitea, and the rule that a credential is sent only to the host that it was
//! set for. Depends on neither configuration nor HTTP.

use async_trait::async_trait;

mod auth_file;
mod forge;
mod helper;
mod lookup;
mod named;
mod own_variables;

pub use forge::{ForgeCredentials, ForgeKind, TokenPurpose};
pub use lookup::StandardCredentials;
pub use named::{ReviewedHosts, plain_hosts, variable_prefix};
pub use own_variables::check_collisions;

use crate::model::{Host, RepositoryPath, Secret};

/// Credential for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    Anonymous,
    /// User name and password (or access token), for Basic authentication or to request a bearer
    /// token.
    Basic {
        username: String,
        password: Secret,
    },
    /// Identity token, exchanged by `OAuth2` for a bearer token.
    RefreshToken {
        token: Secret,
    },
    /// Token of unknown kind from `IMGLIFE_<HOST>_TOKEN`: tried as a refresh token if the token
    /// server accepts it, otherwise as the password of `username`.
    RefreshTokenOrPassword {
        username: String,
        token: Secret,
    },
    /// Bearer token, sent unchanged.
    Bearer {
        token: Secret,
    },
    /// Header that is sent unchanged, for APIs with their own authentication.
    Header {
        name: &'static str,
        value: Secret,
    },
}

/// Finds the credential for a host. Implementations cache their results.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// Returns the credential for `path` on `host`; `Anonymous` if none is set. Fails if one is set
    /// but cannot be used: a user name without a password, an unreadable file, a failing helper.
    async fn credential(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
    ) -> Result<Credential, CredentialError>;

    /// Returns where that credential comes from (variables, a file, a helper), without showing it.
    /// `None` if there is none.
    async fn source(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
    ) -> Result<Option<String>, CredentialError>;

    /// Looks for a credential that replaces `rejected`, which the host did not accept. Returns true
    /// if [`credential`](Credentials::credential) returns another one from now on.
    async fn renew(
        &self,
        _host: &Host,
        _path: Option<&RepositoryPath>,
        _rejected: &Credential,
    ) -> Result<bool, CredentialError> {
        Ok(false)
    }
}

/// Credentials without an entry for any host.
pub struct NoCredentials;

#[async_trait]
impl Credentials for NoCredentials {
    async fn credential(
        &self,
        _: &Host,
        _: Option<&RepositoryPath>,
    ) -> Result<Credential, CredentialError> {
        Ok(Credential::Anonymous)
    }

    async fn source(
        &self,
        _: &Host,
        _: Option<&RepositoryPath>,
    ) -> Result<Option<String>, CredentialError> {
        Ok(None)
    }
}

/// Failure to use a credential that is set. Names the variable, file or helper; never shows a
/// secret.
#[derive(Debug, thiserror::Error)]
#[error("credentials for {host}: {problem}")]
pub struct CredentialError {
    pub host: Host,
    pub problem: String,
    pub hint: Option<String>,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl CredentialError {
    /// Returns the error for a credential of `host`.
    pub fn new(host: &Host, problem: impl Into<String>, hint: Option<String>) -> CredentialError {
        CredentialError {
            host: host.clone(),
            problem: problem.into(),
            hint,
            source: None,
        }
    }
}

/// Value with its source: variables, a file or a helper.
struct Sourced<T> {
    source: String,
    value: T,
}
