//! Repositories at Gitea and Forgejo (their API, "repoGetRawFile").

use async_trait::async_trait;
use bytes::Bytes;

use super::server::{Server, escaped};
use super::{Forge, ForgeError};
use crate::model::Variables;

/// A repository at Gitea or Forgejo.
pub struct Gitea {
    pub server: Server,
    pub owner: String,
    pub repository: String,
}

#[async_trait]
impl Forge for Gitea {
    fn name(&self) -> String {
        format!("{}/{} at {}", self.owner, self.repository, self.server.host)
    }

    fn scope(&self) -> &'static str {
        "read:repository"
    }

    async fn file(&self, path: &str, reference: &str) -> Result<Option<Bytes>, ForgeError> {
        let path_parts: Vec<String> = path.split('/').map(escaped).collect();
        let (owner, repository) = (escaped(&self.owner), escaped(&self.repository));
        let address = format!("/api/v1/repos/{owner}/{repository}/raw/{}?ref={}", path_parts.join("/"), escaped(reference));
        self.server.get(&address).await.map_err(|source| {
            let hint = "set GITEA_TOKEN to a token with the scope `read:repository`".to_owned();
            ForgeError { repository: self.name(), action: format!("read {path} at {reference}"), hint: Some(hint), source }
        })
    }

    async fn variables(&self) -> Result<Variables, ForgeError> {
        let url = self.server.address.as_str().trim_end_matches('/');
        let path = format!("{}/{}", self.owner, self.repository);
        let known = [("REPOSITORY", path.as_str()), ("REPOSITORY_OWNER", &self.owner), ("SERVER_URL", url)];
        let named = known.into_iter().flat_map(|(name, value)| ["GITHUB", "GITEA"].map(|prefix| (format!("{prefix}_{name}"), value)));
        Ok(named.collect())
    }
}
