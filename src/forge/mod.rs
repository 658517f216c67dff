//! Repositories at GitLab and Gitea: their files, and what CI jobs of theirs know of themselves.
//!
//! Owns the addresses and answers of both interfaces. Whose token is sent is decided by who makes a
//! forge; it goes to the forge's own host only.

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::ItemError;
use crate::model::Variables;

mod gitea;
mod gitlab;
mod server;
#[cfg(test)]
mod tests;

pub use gitea::Gitea;
pub use gitlab::GitLab;
pub use server::Server;

/// The largest file that is read, in bytes.
pub const MAX_FILE_SIZE: usize = 8 * 1024 * 1024;

/// A repository at a forge.
#[async_trait]
pub trait Forge: Send + Sync {
    /// Returns what the repository is called in messages.
    fn name(&self) -> String;

    /// Returns the scope that a token needs to read files.
    fn scope(&self) -> &'static str;

    /// Returns a file at a branch, tag or commit, or `None` when there is no such file, or none
    /// that the token may read: servers do not tell these apart.
    async fn file(&self, path: &str, reference: &str) -> Result<Option<Bytes>, ItemError>;

    /// Returns the variables that CI jobs of the repository see, as far as they follow from the
    /// repository itself.
    async fn variables(&self) -> Result<Variables, ItemError>;
}

/// A merge request to open; at Gitea it is called pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeRequest {
    /// The branch with the changes.
    pub source: String,
    pub target: String,
    pub title: String,
    pub description: String,
}

/// The merge request that there is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its page, where the forge tells.
    pub url: Option<String>,
    /// Whether it was open already.
    pub was_open: bool,
}

/// A repository that merge requests can be opened in.
#[async_trait]
pub trait MergeRequests: Send + Sync {
    /// Opens a merge request, unless one of the same branches is open.
    async fn open(&self, wanted: &MergeRequest) -> Result<Opened, ItemError>;
}
