//! Where merge requests are opened: at the server that a job runs for.

use std::sync::Arc;

use super::Surroundings;
use crate::ci::repository::{Repository, Server};
use crate::credentials::{Credential, ForgeCredentials};
use crate::error::Failure;
use crate::forge::{self, GitLab, Gitea, MergeRequests};
use crate::http::{Client, HostRules, Settings, Tls, Url, host_of};

/// Returns the repository of a job, where merge requests can be opened. Fails when it is clear that
/// none can; nothing was done by then.
pub(super) fn merge_requests(
    job: Option<&Repository>,
    credentials: ForgeCredentials,
    surroundings: &Surroundings,
) -> Result<Box<dyn MergeRequests>, Failure> {
    let Some(job) = job else {
        return Err(Failure::usage("`--merge-request` works in jobs of GitLab, Gitea and Forgejo only")
            .hint("name the repository by the variables that jobs have: CI_SERVER_URL, CI_PROJECT_PATH and CI_PROJECT_ID, or GITHUB_SERVER_URL and GITHUB_REPOSITORY"));
    };
    let unusable = || {
        Failure::usage(format!(
            "the address of the server is no web address: {}",
            job.url
        ))
    };
    let address = Url::parse(&job.url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
        .ok_or_else(unusable)?;
    let host = host_of(&address).ok_or_else(unusable)?;
    let credential = credentials.find(&host).map_err(|error| {
        let hint = error.hint.clone();
        hint.into_iter().fold(Failure::usage(error), Failure::hint)
    })?;
    match (job.server, credential) {
        (
            Server::Gitlab,
            Credential::Header {
                name: "private-token",
                ..
            },
        )
        | (Server::Gitea, Credential::Header { .. }) => {}
        (Server::Gitlab, _) => {
            return Err(
                Failure::usage("a job's own token cannot open merge requests").hint(
                    "set GITLAB_TOKEN to a token with the scopes `api` and `write_repository`",
                ),
            );
        }
        (Server::Gitea, _) => {
            return Err(
                Failure::usage("no token is set to open a pull request with")
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
        deadline: surroundings.deadline,
        ..Settings::default()
    };
    let http = Arc::new(Client::new(
        settings,
        Arc::new(credentials),
        surroundings.process.clock.clone(),
    ));
    let server = forge::Server {
        http,
        host,
        address,
    };
    Ok(match job.server {
        Server::Gitlab => {
            let missing = || {
                Failure::usage("CI_PROJECT_ID is not set").hint("in jobs of GitLab it always is")
            };
            Box::new(GitLab {
                server,
                project: job.project.ok_or_else(missing)?,
            })
        }
        Server::Gitea => {
            let split = job
                .path
                .split_once('/')
                .filter(|(_, repository)| !repository.contains('/'));
            let (owner, repository) = split.ok_or_else(|| {
                Failure::usage(format!("GITHUB_REPOSITORY is no repository: {}", job.path))
            })?;
            Box::new(Gitea {
                server,
                owner: owner.to_owned(),
                repository: repository.to_owned(),
            })
        }
    })
}
