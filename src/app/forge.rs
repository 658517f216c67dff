//! The repository that the bases are configured in, where it is at a forge.

use std::sync::Arc;

use super::places::service_client;
use crate::config::{Config, Provider};
use crate::error::Failure;
use crate::forge::{Forge, Gitea, GitLab, Server, Token};
use crate::http::{self, Url};
use crate::model::{Host, Secret};
use crate::process::Process;

/// A repository, and the branch that its files are read at.
pub(super) struct BaseRepository {
    pub(super) forge: Box<dyn Forge>,
    pub(super) reference: String,
}

/// Returns the repository that the configuration tells, or `None` when it tells none.
pub(super) fn base_repository(config: &Config, process: &Process) -> Result<Option<BaseRepository>, Failure> {
    let server = |address: &Url, token: &dyn Fn(&Host) -> Option<Token>| {
        let host = http::host_of(address).ok_or_else(|| Failure::usage(format!("`registry.url` names no host: {address}")))?;
        let http = Arc::new(service_client(config, process, &host, address));
        Ok::<Server, Failure>(Server { token: token(&host), http, host, address: address.clone() })
    };
    let forge: (Box<dyn Forge>, &String) = match config.registry.as_ref().map(|registry| &registry.provider) {
        Some(Provider::Gitlab { url: Some(url), api_url, project_id: Some(project), config_ref }) => {
            let server = server(api_url.as_ref().unwrap_or(url), &|host| gitlab_token(host, process))?;
            (Box::new(GitLab { server, project: *project }), config_ref)
        }
        Some(Provider::Gitea { url: Some(url), api_url, owner, repo: Some(repository), config_ref }) => {
            let server = server(api_url.as_ref().unwrap_or(url), &|_| gitea_token(process))?;
            (Box::new(Gitea { server, owner: owner.clone(), repository: repository.clone() }), config_ref)
        }
        _ => return Ok(None),
    };
    Ok(Some(BaseRepository { forge: forge.0, reference: forge.1.clone() }))
}

fn gitlab_token(_host: &Host, process: &Process) -> Option<Token> {
    let get = |name| process.variables.get_filled(name).map(Secret::new);
    get("GITLAB_TOKEN").map(Token::GitLab).or_else(|| get("CI_JOB_TOKEN").map(Token::GitLabJob))
}

fn gitea_token(process: &Process) -> Option<Token> {
    process.variables.get_filled("GITEA_TOKEN").map(|token| Token::Gitea(Secret::new(token)))
}
