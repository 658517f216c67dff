//! Repositories at Gitea and Forgejo (API operation `repoGetRawFile`).

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::server::{Server, percent_encoded};
use super::{Forge, MergeRequest, MergeRequests, OpenedMergeRequest};
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

/// Response of both operations on pull requests.
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
        let segments: Vec<String> = path.split('/').map(percent_encoded).collect();
        let (owner, repository) = (
            percent_encoded(&self.owner),
            percent_encoded(&self.repository),
        );
        let url_path = format!(
            "/api/v1/repos/{owner}/{repository}/raw/{}?ref={}",
            segments.join("/"),
            percent_encoded(reference)
        );
        self.server.get(&url_path).await.map_err(|error| {
            let operation = format!(
                "read {path} at {reference} of {}/{}",
                self.owner, self.repository
            );
            let hint = "set GITEA_TOKEN to a token with the scope `read:repository`";
            self.server.item_error(operation, hint, &error)
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

/// Uses the API operations `repoCreatePullRequest` and `repoListPullRequests`.
#[async_trait]
impl MergeRequests for Gitea {
    async fn open(&self, request: &MergeRequest) -> Result<OpenedMergeRequest, ItemError> {
        let failed = |error: Error| {
            let operation = format!(
                "open a pull request to {} of {}/{}",
                request.target, self.owner, self.repository
            );
            let hint = "set GITEA_TOKEN to a token with the scope `write:repository`";
            self.server.item_error(operation, hint, &error)
        };
        let url_path = format!(
            "/api/v1/repos/{}/{}/pulls",
            percent_encoded(&self.owner),
            percent_encoded(&self.repository)
        );
        let body = json!({ "head": request.source, "base": request.target, "title": request.title, "body": request.description });
        if let Some(response) = self.server.post(&url_path, &body).await.map_err(failed)? {
            let url = serde_json::from_slice::<PullRequest>(&response)
                .ok()
                .map(|opened| opened.html_url);
            return Ok(OpenedMergeRequest {
                url,
                was_open: false,
            });
        }
        // The branch was just pushed, so its pull request is among the most recently updated ones.
        let response = self
            .server
            .get(&format!("{url_path}?state=open&sort=recentupdate&limit=50"))
            .await
            .map_err(failed)?;
        let open: Vec<PullRequest> =
            serde_json::from_slice(&response.unwrap_or_default()).unwrap_or_default();
        let has_same_branches = |pull: &PullRequest| {
            pull.head.name == request.source && pull.base.name == request.target
        };
        Ok(OpenedMergeRequest {
            url: open
                .into_iter()
                .find(has_same_branches)
                .map(|opened| opened.html_url),
            was_open: true,
        })
    }
}
