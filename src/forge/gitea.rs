//! Repositories at Gitea and Forgejo (their API, "repoGetRawFile").

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::server::{Server, escaped};
use super::{Forge, MergeRequest, MergeRequests, Opened};
use crate::error::ItemError;
use crate::http::Error;
use crate::model::Variables;
use crate::model::env;

/// A repository at Gitea or Forgejo.
pub struct Gitea {
    pub server: Server,
    pub owner: String,
    pub repository: String,
}

#[derive(Deserialize)]
struct PullRequest {
    html_url: String,
    head: Branch,
    base: Branch,
}

#[derive(Deserialize)]
struct Branch {
    #[serde(rename = "ref")]
    name: String,
}

#[async_trait]
impl Forge for Gitea {
    fn name(&self) -> String {
        format!("{}/{} at {}", self.owner, self.repository, self.server.host)
    }

    fn scope(&self) -> &'static str {
        "read:repository"
    }

    async fn file(&self, path: &str, reference: &str) -> Result<Option<Bytes>, ItemError> {
        let path_parts: Vec<String> = path.split('/').map(escaped).collect();
        let (owner, repository) = (escaped(&self.owner), escaped(&self.repository));
        let address = format!(
            "/api/v1/repos/{owner}/{repository}/raw/{}?ref={}",
            path_parts.join("/"),
            escaped(reference)
        );
        self.server.get(&address).await.map_err(|error| {
            let operation = format!(
                "read {path} at {reference} of {}/{}",
                self.owner, self.repository
            );
            let hint = "set GITEA_TOKEN to a token with the scope `read:repository`";
            self.server.failed(operation, hint, &error)
        })
    }

    async fn variables(&self) -> Result<Variables, ItemError> {
        let url = self.server.address.as_str().trim_end_matches('/');
        let path = format!("{}/{}", self.owner, self.repository);
        let variables = [
            (env::GITHUB_REPOSITORY, path.as_str()),
            (env::GITEA_REPOSITORY, path.as_str()),
            (env::GITHUB_REPOSITORY_OWNER, &self.owner),
            (env::GITEA_REPOSITORY_OWNER, &self.owner),
            (env::GITHUB_SERVER_URL, url),
            (env::GITEA_SERVER_URL, url),
        ];
        Ok(variables.into_iter().collect())
    }
}

/// `repoCreatePullRequest` and `repoListPullRequests` of the API.
#[async_trait]
impl MergeRequests for Gitea {
    async fn open(&self, wanted: &MergeRequest) -> Result<Opened, ItemError> {
        let failed = |error: Error| {
            let operation = format!(
                "open a pull request to {} of {}/{}",
                wanted.target, self.owner, self.repository
            );
            let hint = "set GITEA_TOKEN to a token with the scope `write:repository`";
            self.server.failed(operation, hint, &error)
        };
        let address = format!(
            "/api/v1/repos/{}/{}/pulls",
            escaped(&self.owner),
            escaped(&self.repository)
        );
        let body = json!({ "head": wanted.source, "base": wanted.target, "title": wanted.title, "body": wanted.description });
        if let Some(answer) = self.server.post(&address, &body).await.map_err(failed)? {
            let url = serde_json::from_slice::<PullRequest>(&answer)
                .ok()
                .map(|request| request.html_url);
            return Ok(Opened {
                url,
                was_open: false,
            });
        }
        // What was pushed just now is among those that were changed last.
        let answer = self
            .server
            .get(&format!("{address}?state=open&sort=recentupdate&limit=50"))
            .await
            .map_err(failed)?;
        let open: Vec<PullRequest> =
            serde_json::from_slice(&answer.unwrap_or_default()).unwrap_or_default();
        let same = |request: &PullRequest| {
            request.head.name == wanted.source && request.base.name == wanted.target
        };
        Ok(Opened {
            url: open.into_iter().find(same).map(|request| request.html_url),
            was_open: true,
        })
    }
}
