//! Projects at GitLab (its REST API, "Repository files" and "Projects").

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;

use super::server::{Server, escaped};
use super::{Forge, ForgeError};
use crate::http::Error;
use crate::model::Variables;

/// A project at GitLab.
pub struct GitLab {
    pub server: Server,
    pub project: u64,
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
    fn failed(&self, action: String, source: Error) -> ForgeError {
        let hint =
            "set GITLAB_TOKEN to a token with the scope `read_api`: the token of a job can often not read the files of another project";
        ForgeError { repository: self.name(), action, hint: Some(hint.to_owned()), source }
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

    async fn file(&self, path: &str, reference: &str) -> Result<Option<Bytes>, ForgeError> {
        let address = format!("/api/v4/projects/{}/repository/files/{}/raw?ref={}", self.project, escaped(path), escaped(reference));
        self.server.get(&address).await.map_err(|error| self.failed(format!("read {path} at {reference}"), error))
    }

    async fn variables(&self) -> Result<Variables, ForgeError> {
        let url = self.server.address.as_str().trim_end_matches('/').to_owned();
        let mut variables = Variables::default();
        variables.set("CI_PROJECT_ID", self.project.to_string());
        variables.set("CI_API_V4_URL", format!("{url}/api/v4"));
        variables.set("CI_SERVER_HOST", self.server.host.name());
        let address = format!("/api/v4/projects/{}", self.project);
        let answer = self.server.get(&address).await.map_err(|error| self.failed("read the path".to_owned(), error))?;
        // What cannot be read leaves its variables unknown, and what needs them says so.
        let Some(project) = answer.and_then(|answer| serde_json::from_slice::<Project>(&answer).ok()) else { return Ok(variables) };
        let (namespace, name) = project.path_with_namespace.rsplit_once('/').unwrap_or(("", &project.path_with_namespace));
        variables.set("CI_PROJECT_NAMESPACE", namespace);
        variables.set("CI_PROJECT_ROOT_NAMESPACE", namespace.split('/').next().unwrap_or_default());
        variables.set("CI_PROJECT_NAME", name);
        variables.set("CI_PROJECT_URL", format!("{url}/{}", project.path_with_namespace));
        variables.set("CI_SERVER_URL", url);
        if let Some(branch) = project.default_branch {
            variables.set("CI_DEFAULT_BRANCH", branch);
        }
        if let Some(image) = project.container_registry_image_prefix {
            variables.set("CI_REGISTRY", image.split('/').next().unwrap_or_default());
            variables.set("CI_REGISTRY_IMAGE", image);
        }
        variables.set("CI_PROJECT_PATH", project.path_with_namespace);
        Ok(variables)
    }
}
