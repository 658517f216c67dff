//! Reading of the deployments of projects that have records (`retention.keep_deployed`).

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, stream};

use super::CommandContext;
use super::configuration::missing_setting;
use super::records::forge_client;
use crate::config::{Config, DeployedConfig, RegistryProvider};
use crate::credentials::ForgeKind;
use crate::error::{Failure, ItemError};
use crate::forge::{Deployment, GitLabDeployments, Server};
use crate::http::host_of;
use crate::model::BuildRecord;
use crate::progress::Event;
use crate::steps::cleanup::ProjectDeployments;

/// Maximum number of projects that are read concurrently.
const CONCURRENT_PROJECTS: usize = 4;

/// Reads the deployments that `retention.keep_deployed` selects.
pub(super) struct DeploymentReader<'a> {
    deployed: &'a DeployedConfig,
    api: GitLabDeployments,
}

/// Returns the reader of deployments, or `None` if `keep_deployed` is not set. Fails when the token
/// may not be sent to the server. Sends no request.
pub(super) fn deployment_reader<'a>(
    config: &'a Config,
    context: &CommandContext,
) -> Result<Option<DeploymentReader<'a>>, Failure> {
    let keepers = config
        .retention
        .as_ref()
        .and_then(|rules| rules.keepers.as_ref());
    let Some(deployed) = keepers.and_then(|keepers| keepers.keep_deployed.as_ref()) else {
        return Ok(None);
    };
    let provider = config.registry.as_ref().map(|registry| &registry.provider);
    let Some(RegistryProvider::Gitlab {
        url: Some(url),
        api_url,
        ..
    }) = provider
    else {
        return Err(missing_setting("registry.url", config, &context.process)
            .hint("`retention.keep_deployed` reads the deployments at GitLab"));
    };
    let address = api_url.as_ref().unwrap_or(url);
    let host = host_of(address)
        .ok_or_else(|| Failure::usage(format!("the URL in `registry` has no host: {address}")))?;
    let http = forge_client(ForgeKind::Gitlab, &[address], config, &context.process)?;
    let server = Server {
        http,
        host,
        address: address.clone(),
    };
    let api = GitLabDeployments { server };
    Ok(Some(DeploymentReader { deployed, api }))
}

impl DeploymentReader<'_> {
    /// Returns the deployments of each project in `records`. Errors are part of the result.
    pub(super) async fn read(
        &self,
        records: &[BuildRecord],
        context: &CommandContext,
    ) -> Vec<ProjectDeployments> {
        let projects: BTreeSet<&str> = records.iter().map(|record| &*record.project).collect();
        context.progress.event(Event::Observing {
            what: &format!("deployments of {} projects", projects.len()),
        });
        let reads = projects.into_iter().map(|project| async move {
            ProjectDeployments {
                project: project.to_owned(),
                deployed: self.deployed(project).await,
            }
        });
        stream::iter(reads.collect::<Vec<_>>())
            .buffered(CONCURRENT_PROJECTS)
            .collect()
            .await
    }

    async fn deployed(&self, project: &str) -> Result<Vec<Deployment>, ItemError> {
        let patterns = &self.deployed.environments;
        let names = patterns.iter().filter(|pattern| pattern.is_name());
        let mut environments: BTreeSet<String> = names.map(|name| name.text.clone()).collect();
        if patterns.iter().any(|pattern| !pattern.is_name()) {
            let listed = self.api.environments(project).await?;
            let is_selected = |name: &String| patterns.iter().any(|pattern| pattern.matches(name));
            environments.extend(listed.into_iter().filter(is_selected));
        }
        let mut deployed = Vec::new();
        for environment in environments {
            let count = self.deployed.per_environment;
            deployed.extend(self.api.deployments(project, &environment, count).await?);
        }
        Ok(deployed)
    }
}
