//! Repositories at GitLab and Gitea: their files, the variables of their CI jobs, merge requests,
//! deployments.
//!
//! Contains the URLs and response types of both APIs. The caller selects the credential; it is sent
//! to the host of the forge only.

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::ItemError;
use crate::model::Variables;

mod deployments;
#[cfg(test)]
mod deployments_tests;
mod gitea;
mod gitlab;
mod server;
#[cfg(test)]
mod tests;

pub use deployments::{Deployment, GitLabDeployments};
pub use gitea::Gitea;
pub use gitlab::GitLab;
pub use server::Server;

/// Maximum size of a file or response, in bytes.
pub const MAX_FILE_SIZE: usize = 8 * 1024 * 1024;

/// A repository at a forge.
#[async_trait]
pub trait Forge: Send + Sync {
    /// Returns the name of the repository for messages.
    fn name(&self) -> String;

    /// Returns the token scope that is required to read files.
    fn scope(&self) -> &'static str;

    /// Returns a file at a branch, tag or commit. `None` if the file does not exist or the token
    /// may not read it: servers answer both with 404.
    async fn file(&self, path: &str, reference: &str) -> Result<Option<Bytes>, ItemError>;

    /// Returns the predefined variables of the repository's CI jobs that depend on the repository
    /// only.
    async fn variables(&self) -> Result<Variables, ItemError>;
}

/// A merge request to open. Gitea calls it a pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeRequest {
    /// Branch with the changes.
    pub source: String,
    /// Branch to merge into.
    pub target: String,
    pub title: String,
    pub description: String,
}

/// Result of opening a merge request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedMergeRequest {
    /// URL of its page; `None` if the response has none.
    pub url: Option<String>,
    /// True if it was open before.
    pub was_open: bool,
}

/// A repository in which merge requests can be opened.
#[async_trait]
pub trait MergeRequests: Send + Sync {
    /// Opens a merge request, or returns the open one between the same branches.
    async fn open(&self, request: &MergeRequest) -> Result<OpenedMergeRequest, ItemError>;
}
