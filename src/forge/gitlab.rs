//! Projects at GitLab (its REST API, "Repository files" and "Projects").

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

/// A project at GitLab.
pub struct GitLab {
    pub server: Server,
    pub project: u64,
}

#[derive(Deserialize)]
struct Request {
    web_url: String,
}

#[derive(Deserialize)]
struct Project {
    path_with_namespace: String,
    #[serde(default)]
    default_branch: Option<String>,
    /// Missing where the registry is switched off.
    #[serde(default)]
    container_registry_image_prefix: Option<String>,
}

impl GitLab {
    fn failed(&self, operation: &str, error: &Error) -> ItemError {
        let operation = format!("{operation} of project {}", self.project);
        let hint = "set GITLAB_TOKEN to a token with the scope `read_api`: the token of a job can often not read the files of another project";
        self.server.failed(operation, hint, error)
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
        let address = format!(
            "/api/v4/projects/{}/repository/files/{}/raw?ref={}",
            self.project,
            escaped(path),
            escaped(reference)
        );
        self.server
            .get(&address)
            .await
            .map_err(|error| self.failed(&format!("read {path} at {reference}"), &error))
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
        let address = format!("/api/v4/projects/{}", self.project);
        let answer = self
            .server
            .get(&address)
            .await
            .map_err(|error| self.failed("read the path", &error))?;
        // What cannot be read leaves its variables unknown, and what needs them says so.
        let Some(project) =
            answer.and_then(|answer| serde_json::from_slice::<Project>(&answer).ok())
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

/// "Merge requests" of the API. The token of a job may not use it.
#[async_trait]
impl MergeRequests for GitLab {
    async fn open(&self, wanted: &MergeRequest) -> Result<Opened, ItemError> {
        let failed = |error: Error| {
            let hint = "set GITLAB_TOKEN to a token with the scope `api` and at least the role Developer: the token of a job cannot open \
                        merge requests";
            let operation = format!(
                "open a merge request to {} of project {}",
                wanted.target, self.project
            );
            self.server.failed(operation, hint, &error)
        };
        let address = format!("/api/v4/projects/{}/merge_requests", self.project);
        let body = json!({
            "source_branch": wanted.source,
            "target_branch": wanted.target,
            "title": wanted.title,
            "description": wanted.description,
            "remove_source_branch": true,
        });
        if let Some(answer) = self.server.post(&address, &body).await.map_err(failed)? {
            let url = serde_json::from_slice::<Request>(&answer)
                .ok()
                .map(|request| request.web_url);
            return Ok(Opened {
                url,
                was_open: false,
            });
        }
        let (source, target) = (escaped(&wanted.source), escaped(&wanted.target));
        let query = format!("{address}?state=opened&source_branch={source}&target_branch={target}");
        let answer = self
            .server
            .get(&query)
            .await
            .map_err(failed)?
            .unwrap_or_default();
        let open: Vec<Request> = serde_json::from_slice(&answer).unwrap_or_default();
        Ok(Opened {
            url: open.into_iter().next().map(|request| request.web_url),
            was_open: true,
        })
    }
}
