//! Deployments of projects at GitLab (REST API, "Deployments API" and "Environments API").

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::server::{Server, percent_encoded};
use crate::error::{ItemError, ItemErrorKind};
use crate::model::text::excerpt;

/// Number of environments that are requested at once, the maximum of GitLab.
const ENVIRONMENTS_PER_PAGE: usize = 100;

/// Maximum number of pages of environments in one state.
const MAX_ENVIRONMENT_PAGES: usize = 100;

/// Number of deployments that are requested at once. Each of them is some kilobytes.
const DEPLOYMENTS_PER_PAGE: usize = 20;

/// Maximum number of pages of deployments of one environment.
const MAX_DEPLOYMENT_PAGES: usize = 50;

const PERMISSION_HINT: &str = "set GITLAB_TOKEN to a token with the scope `read_api` that can read every project in the records";

/// The deployments of all projects at a GitLab server.
pub struct GitLabDeployments {
    pub server: Server,
}

/// A commit that was deployed successfully.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    pub environment: String,
    /// Complete hash of the commit.
    pub commit: String,
}

/// An environment in responses, also as a part of a deployment.
#[derive(Deserialize)]
struct Environment {
    name: String,
}

/// A deployment in responses.
#[derive(Deserialize)]
struct ListedDeployment {
    sha: String,
    status: String,
    environment: Environment,
}

impl GitLabDeployments {
    /// Returns the names of a project's environments that are not stopped.
    pub async fn environments(&self, project: &str) -> Result<Vec<String>, ItemError> {
        let operation = format!("list the environments of {}", excerpt(project, 200));
        let mut names = Vec::new();
        for state in ["available", "stopping"] {
            let path = format!(
                "{}/environments?states={state}&per_page={ENVIRONMENTS_PER_PAGE}",
                project_path(project)?
            );
            for page in 1.. {
                if page > MAX_ENVIRONMENT_PAGES {
                    return Err(self.malformed(
                        &operation,
                        format!(
                            "there are more than {} of them",
                            MAX_ENVIRONMENT_PAGES * ENVIRONMENTS_PER_PAGE
                        ),
                    ));
                }
                let (found, is_last): (Vec<Environment>, bool) = self
                    .page(&operation, &path, page, ENVIRONMENTS_PER_PAGE)
                    .await?;
                names.extend(found.into_iter().map(|environment| environment.name));
                if is_last {
                    break;
                }
            }
        }
        Ok(names)
    }

    /// Returns the newest `count` commits that were deployed to an environment successfully.
    ///
    /// A commit that was deployed several times counts once. At most the newest 1,000 deployments
    /// are read. An environment that does not exist has no deployments.
    pub async fn deployments(
        &self,
        project: &str,
        environment: &str,
        count: usize,
    ) -> Result<Vec<Deployment>, ItemError> {
        let operation = format!(
            "list the deployments of {} to {}",
            excerpt(project, 200),
            excerpt(environment, 200)
        );
        // A job that was started late has a higher time than number.
        let path = format!(
            "{}/deployments?environment={}&status=success&order_by=finished_at&sort=desc\
             &per_page={DEPLOYMENTS_PER_PAGE}",
            project_path(project)?,
            percent_encoded(environment)
        );
        let mut deployments: Vec<Deployment> = Vec::new();
        for page in 1..=MAX_DEPLOYMENT_PAGES {
            let (found, is_last): (Vec<ListedDeployment>, bool) = self
                .page(&operation, &path, page, DEPLOYMENTS_PER_PAGE)
                .await?;
            for listed in found {
                if listed.status != "success" || listed.environment.name != environment {
                    return Err(self.malformed(
                        &operation,
                        "the server ignored the filter by environment and status",
                    ));
                }
                if deployments.iter().all(|known| known.commit != listed.sha) {
                    deployments.push(Deployment {
                        environment: environment.to_owned(),
                        commit: listed.sha,
                    });
                }
                if deployments.len() >= count {
                    return Ok(deployments);
                }
            }
            if is_last {
                break;
            }
        }
        Ok(deployments)
    }

    /// Returns the entries of a page, and true if it is the last one.
    async fn page<T: DeserializeOwned>(
        &self,
        operation: &str,
        path: &str,
        page: usize,
        per_page: usize,
    ) -> Result<(Vec<T>, bool), ItemError> {
        let path = format!("{path}&page={page}");
        let response = self
            .server
            .get_response(&path)
            .await
            .map_err(|error| self.server.item_error(operation, PERMISSION_HINT, &error))?;
        let entries: Vec<T> = serde_json::from_slice(&response.body)
            .map_err(|error| self.malformed(operation, error.to_string()))?;
        // A proxy may remove the header.
        let is_last = match response.headers.get("x-next-page") {
            Some(next) => next.is_empty(),
            None => entries.len() < per_page,
        };
        Ok((entries, is_last))
    }

    fn malformed(&self, operation: &str, cause: impl Into<String>) -> ItemError {
        let host = self.server.host.as_str();
        ItemError::new(host, operation, ItemErrorKind::Malformed, cause)
    }
}

/// Returns the path of a project in the API.
fn project_path(project: &str) -> Result<String, ItemError> {
    // A segment of dots would change the path.
    if matches!(project, "" | "." | "..") {
        let name = excerpt(project, 200);
        return Err(ItemError::other(format!("`{name}` is not a project")));
    }
    Ok(format!("/api/v4/projects/{}", percent_encoded(project)))
}
