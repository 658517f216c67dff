//! Merge requests in the repository of a CI job.

use std::sync::Arc;

use super::CommandContext;
use crate::ci::repository::{JobRepository, JobServer};
use crate::credentials::{Credential, ForgeCredentials};
use crate::error::Failure;
use crate::forge::{self, GitLab, Gitea, MergeRequests};
use crate::http::{Client, HostRules, Settings, Tls, Url, host_of};

/// Returns the API for merge requests of the job's repository. Fails with a usage error outside CI
/// jobs, and without a token that can open merge requests. Sends no request.
pub(super) fn merge_requests(
    job: Option<&JobRepository>,
    credentials: ForgeCredentials,
    context: &CommandContext,
) -> Result<Box<dyn MergeRequests>, Failure> {
    let Some(job) = job else {
        return Err(Failure::usage("`--merge-request` only works in jobs of GitLab, Gitea and Forgejo")
            .hint("set the variables that jobs have: CI_SERVER_URL, CI_PROJECT_PATH and CI_PROJECT_ID, or GITHUB_SERVER_URL and GITHUB_REPOSITORY"));
    };
    let invalid_url = || {
        Failure::usage(format!(
            "the URL of the CI server is not a web URL: {}",
            job.url
        ))
    };
    let address = Url::parse(&job.url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or_else(invalid_url)?;
    let host = host_of(&address).ok_or_else(invalid_url)?;
    let credential = credentials.find(&host).map_err(|error| {
        let hint = error.hint.clone();
        hint.into_iter().fold(Failure::usage(error), Failure::hint)
    })?;
    match (job.server, credential) {
        (
            JobServer::Gitlab,
            Credential::Header {
                name: "private-token",
                ..
            },
        )
        | (JobServer::Gitea, Credential::Header { .. }) => {}
        (JobServer::Gitlab, _) => {
            return Err(
                Failure::usage("the token of a CI job cannot open merge requests").hint(
                    "set GITLAB_TOKEN to a token with the scopes `api` and `write_repository`",
                ),
            );
        }
        (JobServer::Gitea, _) => {
            return Err(
                Failure::usage("there is no token to open a pull request with")
                    .hint("set GITEA_TOKEN to a token with the scope `write:repository`"),
            );
        }
    }
    let tls = Tls {
        ca_file: job.ca_file.clone().map(Into::into),
        ..Tls::default()
    };
    let settings = Settings {
        hosts: [(
            host.clone(),
            HostRules {
                tls,
                ..HostRules::default()
            },
        )]
        .into(),
        insecure: (address.scheme() == "http")
            .then(|| host.clone())
            .into_iter()
            .collect(),
        deadline: context.deadline,
        ..Settings::default()
    };
    let http = Arc::new(Client::new(
        settings,
        Arc::new(credentials),
        context.process.clock.clone(),
    ));
    let server = forge::Server {
        http,
        host,
        address,
    };
    Ok(match job.server {
        JobServer::Gitlab => {
            let missing = || {
                Failure::usage("CI_PROJECT_ID is not set")
                    .hint("GitLab sets it in every job; elsewhere set it to the ID of the project")
            };
            Box::new(GitLab {
                server,
                project: job.project.ok_or_else(missing)?,
            })
        }
        JobServer::Gitea => {
            let split = job
                .path
                .split_once('/')
                .filter(|(_, repository)| !repository.contains('/'));
            let (owner, repository) = split.ok_or_else(|| {
                Failure::usage(format!(
                    "GITHUB_REPOSITORY is not a repository: {}",
                    job.path
                ))
            })?;
            Box::new(Gitea {
                server,
                owner: owner.to_owned(),
                repository: repository.to_owned(),
            })
        }
    })
}
