//! The base repository: the repository with the configuration of the bases, on GitLab or Gitea.

use super::records::forge_client;
use crate::config::{Config, RegistryProvider};
use crate::credentials;
use crate::error::Failure;
use crate::forge::{Forge, GitLab, Gitea, Server};
use crate::http::{Url, host_of};
use crate::process::Process;

/// Base repository and the ref to read.
pub(super) struct BaseRepository {
    pub(super) forge: Box<dyn Forge>,
    pub(super) reference: String,
}

/// Returns the configured base repository, or `None` if the configuration has none. Fails when the
/// token may not be sent to its server.
pub(super) fn base_repository(
    config: &Config,
    process: &Process,
) -> Result<Option<BaseRepository>, Failure> {
    let server = |kind, address: &Url| {
        let host = host_of(address).ok_or_else(|| {
            Failure::usage(format!("the URL in `registry` has no host: {address}"))
        })?;
        let http = forge_client(kind, &[address], config, process)?;
        Ok::<Server, Failure>(Server {
            http,
            host,
            address: address.clone(),
        })
    };
    let (forge, reference): (Box<dyn Forge>, &String) =
        match config.registry.as_ref().map(|registry| &registry.provider) {
            Some(RegistryProvider::Gitlab {
                url: Some(url),
                api_url,
                project_id: Some(project),
                config_ref,
            }) => {
                let server = server(
                    credentials::ForgeKind::Gitlab,
                    api_url.as_ref().unwrap_or(url),
                )?;
                (
                    Box::new(GitLab {
                        server,
                        project: *project,
                    }),
                    config_ref,
                )
            }
            Some(RegistryProvider::Gitea {
                url: Some(url),
                api_url,
                owner,
                repo: Some(repository),
                config_ref,
            }) => {
                let server = server(
                    credentials::ForgeKind::Gitea,
                    api_url.as_ref().unwrap_or(url),
                )?;
                (
                    Box::new(Gitea {
                        server,
                        owner: owner.clone(),
                        repository: repository.clone(),
                    }),
                    config_ref,
                )
            }
            _ => return Ok(None),
        };
    Ok(Some(BaseRepository {
        forge,
        reference: reference.clone(),
    }))
}
