//! Which credential goes to which host.
//!
//! Owns the order in which variables, docker's and podman's files and credential helpers are asked,
//! the tokens of GitLab and Gitea, and the rule that a credential goes only to the host it was set
//! for. Knows neither configuration nor HTTP.

use async_trait::async_trait;

mod auth_file;
mod forge;
mod helper;
mod lookup;

pub use forge::{Forge, ForgeCredentials};
pub use lookup::{StandardCredentials, check_collisions, variable_prefix};

use crate::model::{Host, RepositoryPath, Secret};

/// What to present to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    Anonymous,
    /// A user name and a password (or access token), for Basic or to get a bearer token with.
    Basic {
        username: String,
        password: Secret,
    },
    /// An identity token, exchanged by `OAuth2` for a bearer token.
    RefreshToken {
        token: Secret,
    },
    /// A token of `IMGLIFE_<HOST>_TOKEN` whose kind is not known: tried as a refresh token where
    /// the token server answers to that, else as the password of a Basic login with `username`.
    RefreshTokenOrPassword {
        username: String,
        token: Secret,
    },
    /// A ready bearer token.
    Bearer {
        token: Secret,
    },
    /// A header that is sent as it is, for interfaces with a login of their own.
    Header {
        name: &'static str,
        value: Secret,
    },
}

/// Finds the credential for a host. Answers are cached by the implementation.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// Returns the credential for `path` on `host`. An error means that one was set but cannot be
    /// used (half a pair, an unreadable file, a helper that fails); no credential at all is
    /// `Anonymous`.
    async fn credential(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
    ) -> Result<Credential, CredentialError>;

    /// Returns where that credential comes from, in words that show nothing of it: variables, a
    /// file, a helper. `None` when there is none.
    async fn source(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
    ) -> Result<Option<String>, CredentialError>;
}

/// No credential for any host.
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

/// Why a credential that was set cannot be used. Names the variable, file or helper; never shows a
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
