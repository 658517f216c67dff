//! One repository on a registry: its requests and errors.

use std::sync::Arc;

use crate::error::{ErrorScope, ItemError, ItemErrorKind};
use crate::http::{self, Client, Method, Request, RequestAccess, RequestKind, RequestTarget};
use crate::model::{Digest, Host, Reference, RepositoryPath};

/// Header with the digest of the content that a registry sends or stored.
pub(super) const CONTENT_DIGEST: &str = "docker-content-digest";

/// Path that answers with the challenge of a registry (OCI distribution specification, end-1).
pub(super) const API_ROOT: &str = "/v2/";

/// One repository on a registry.
#[derive(Clone, Copy)]
pub(super) struct RemoteRepository<'a> {
    pub(super) http: &'a Arc<Client>,
    pub(super) host: &'a Host,
    pub(super) path: &'a RepositoryPath,
}

impl RemoteRepository<'_> {
    /// Returns a request for the path `rest` below the repository.
    pub(super) fn request(
        &self,
        method: Method,
        rest: &str,
        kind: RequestKind,
        actions: &str,
    ) -> Request {
        let target = RequestTarget::Path(format!("/v2/{}/{rest}", self.path));
        Request::new(method, self.host, target, kind, self.access(actions))
    }

    /// Returns the access of a request to this repository.
    pub(super) fn access(&self, actions: &str) -> RequestAccess {
        RequestAccess {
            path: Some(self.path.clone()),
            scopes: vec![scope(self.path, actions)],
            challenge_path: Some(API_ROOT),
        }
    }

    /// Returns the repository with `reference`. Leaves out the host, since errors name it.
    pub(super) fn name(&self, reference: &Reference) -> String {
        format!("{}{}", self.path, reference.suffix())
    }

    /// Returns the error of an operation that failed with an HTTP error.
    pub(super) fn http_error(&self, operation: impl Into<String>, error: http::Error) -> ItemError {
        self.http_error_with(operation, error, "")
    }

    /// Like [`http_error`](RemoteRepository::http_error), with a cause.
    pub(super) fn http_error_with(
        &self,
        operation: impl Into<String>,
        error: http::Error,
        cause: &str,
    ) -> ItemError {
        let mut failed = error.into_item(self.host.as_str(), operation);
        if failed.kind == ItemErrorKind::Forbidden {
            failed.scope = ErrorScope::Repository(self.path.to_string());
        }
        if !cause.is_empty() {
            failed.cause = format!("{cause}: {}", failed.cause);
        }
        failed
    }

    /// Returns the error of an operation that got an unusable response.
    pub(super) fn error(
        &self,
        operation: impl Into<String>,
        kind: ItemErrorKind,
        cause: impl Into<String>,
    ) -> ItemError {
        ItemError::new(self.host.as_str(), operation, kind, cause)
    }

    /// Fails if the response states another digest for the stored content.
    pub(super) fn check_stored(
        &self,
        operation: &str,
        response: &http::Response,
        digest: &Digest,
    ) -> Result<(), ItemError> {
        match stated_digest(response) {
            Some(stated) if stated.algorithm() == digest.algorithm() && stated != *digest => {
                Err(self.error(
                    operation,
                    ItemErrorKind::Corrupt,
                    format!("the registry stored {stated} instead of {digest}"),
                ))
            }
            _ => Ok(()),
        }
    }
}

/// Returns the token scope for `actions` on a repository.
pub(super) fn scope(path: &RepositoryPath, actions: &str) -> String {
    format!("repository:{path}:{actions}")
}

/// Returns the digest that a response states, or `None` if there is no valid one.
pub(super) fn stated_digest(response: &http::Response) -> Option<Digest> {
    response.header(CONTENT_DIGEST)?.trim().parse().ok()
}
