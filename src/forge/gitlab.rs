//! Projects at GitLab (REST API, "Repository files API" and "Projects API").

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

/// A project at GitLab.
pub struct GitLab {
    pub server: Server,
    pub project: u64,
}

/// A merge request in responses.
#[derive(Deserialize)]
struct GitLabMergeRequest {
    web_url: String,
}

#[derive(Deserialize)]
struct Project {
    path_with_namespace: String,
    #[serde(default)]
    default_branch: Option<String>,
    /// Absent if the container registry is disabled.
    #[serde(default)]
    container_registry_image_prefix: Option<String>,
}

impl GitLab {
    fn item_error(&self, operation: &str, error: &Error) -> ItemError {
        let operation = format!("{operation} of project {}", self.project);
        let hint = "set GITLAB_TOKEN to a token with the scope `read_api`: a job token often cannot read the files of another project";
        self.server.item_error(operation, hint, error)
    }
}

#[async_trait]
impl Forge for GitLab {
    fn name(&self) -> String {
        format!("project {} at {}", self.project, self.server.host)
    }

    fn scope(&self) -> &'static str {
        "read_api"
    }

    async fn file(&self, path: &str, reference: &str) -> Result<Option<Bytes>, ItemError> {
        let url_path = format!(
            "/api/v4/projects/{}/repository/files/{}/raw?ref={}",
            self.project,
            percent_encoded(path),
            percent_encoded(reference)
        );
        self.server
            .get(&url_path)
            .await
            .map_err(|error| self.item_error(&format!("read {path} at {reference}"), &error))
    }

    async fn variables(&self) -> Result<Variables, ItemError> {
        let url = self
            .server
            .address
            .as_str()
            .trim_end_matches('/')
            .to_owned();
        let mut variables = Variables::default();
        variables.set(env::CI_PROJECT_ID, self.project.to_string());
        variables.set(env::CI_API_V4_URL, format!("{url}/api/v4"));
        variables.set(env::CI_SERVER_HOST, self.server.host.name());
        let url_path = format!("/api/v4/projects/{}", self.project);
        let response = self
            .server
            .get(&url_path)
            .await
            .map_err(|error| self.item_error("read the settings", &error))?;
        // If the project cannot be read, its variables are absent; a value that
        // refers to one of them is then an error.
        let Some(project) =
            response.and_then(|response| serde_json::from_slice::<Project>(&response).ok())
        else {
            return Ok(variables);
        };
        let (namespace, name) = project
            .path_with_namespace
            .rsplit_once('/')
            .unwrap_or(("", &project.path_with_namespace));
        variables.set(env::CI_PROJECT_NAMESPACE, namespace);
        variables.set(
            env::CI_PROJECT_ROOT_NAMESPACE,
            namespace.split('/').next().unwrap_or_default(),
        );
        variables.set(env::CI_PROJECT_NAME, name);
        variables.set(
            env::CI_PROJECT_URL,
            format!("{url}/{}", project.path_with_namespace),
        );
        variables.set(env::CI_SERVER_URL, url);
        if let Some(branch) = project.default_branch {
            variables.set(env::CI_DEFAULT_BRANCH, branch);
        }
        if let Some(image) = project.container_registry_image_prefix {
            variables.set(
                env::CI_REGISTRY,
                image.split('/').next().unwrap_or_default(),
            );
            variables.set(env::CI_REGISTRY_IMAGE, image);
        }
        variables.set(env::CI_PROJECT_PATH, project.path_with_namespace);
        Ok(variables)
    }
}

/// Uses the "Merge requests API", which rejects job tokens.
#[async_trait]
impl MergeRequests for GitLab {
    async fn open(&self, request: &MergeRequest) -> Result<OpenedMergeRequest, ItemError> {
        let failed = |error: Error| {
            let hint = "set GITLAB_TOKEN to a token with the scope `api` and at least the role Developer: a job token cannot open \
                        merge requests";
            let operation = format!(
                "open a merge request to {} of project {}",
                request.target, self.project
            );
            self.server.item_error(operation, hint, &error)
        };
        let url_path = format!("/api/v4/projects/{}/merge_requests", self.project);
        let body = json!({
            "source_branch": request.source,
            "target_branch": request.target,
            "title": request.title,
            "description": request.description,
            "remove_source_branch": true,
        });
        if let Some(response) = self.server.post(&url_path, &body).await.map_err(failed)? {
            let url = serde_json::from_slice::<GitLabMergeRequest>(&response)
                .ok()
                .map(|opened| opened.web_url);
            return Ok(OpenedMergeRequest {
                url,
                was_open: false,
            });
        }
        let (source, target) = (
            percent_encoded(&request.source),
            percent_encoded(&request.target),
        );
        let query =
            format!("{url_path}?state=opened&source_branch={source}&target_branch={target}");
        let response = self
            .server
            .get(&query)
            .await
            .map_err(failed)?
            .unwrap_or_default();
        let open: Vec<GitLabMergeRequest> = serde_json::from_slice(&response).unwrap_or_default();
        Ok(OpenedMergeRequest {
            url: open.into_iter().next().map(|opened| opened.web_url),
            was_open: true,
        })
    }
}
