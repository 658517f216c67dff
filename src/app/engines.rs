//! From the configuration to the engines that build images.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Surroundings;
use crate::cache::Cache;
use crate::command::{Runner, SystemRunner};
use crate::config::{BuildConfig, Config, HostSettings};
use crate::credentials::{Credential, Credentials, StandardCredentials, check_collisions};
use crate::engines::native::Native;
use crate::engines::{Engine, Login, OwnBuilder, Programs};
use crate::error::Failure;
use crate::model::{Host, Repository, RepositoryPath};
use crate::registry::ImageStores;

/// Returns the engines: the native one, then programs in the order in which they are chosen.
/// Programs get the logins of the hosts that the images of the configuration are on, and no others.
pub(super) async fn engines(
    config: &Config,
    build: &BuildConfig,
    stores: &ImageStores,
    surroundings: &Surroundings,
) -> Result<Vec<Arc<dyn Engine>>, Failure> {
    let variables = &surroundings.process.variables;
    let native: Arc<dyn Engine> =
        Arc::new(Native::new(stores.clone(), Cache::user(variables, true)));
    let credentials = StandardCredentials::new(variables.clone(), Arc::new(SystemRunner));
    let repositories = build
        .images
        .iter()
        .flat_map(|image| [&image.repository, &image.mirror_image]);
    check_collisions(
        repositories
            .clone()
            .filter_map(Repository::host)
            .collect::<BTreeSet<_>>(),
        variables,
    )
    .map_err(|error| {
        let hint = error.hint.clone();
        hint.into_iter().fold(Failure::usage(error), Failure::hint)
    })?;
    let logins = logins(&credentials, repositories).await?;
    let runner: Arc<dyn Runner> = Arc::new(SystemRunner);
    let insecure = config.insecure_registries.iter().cloned().collect();
    let own_builder = surroundings.part_of.as_ref().map(|part| {
        let authority = |(host, settings): (&Host, &HostSettings)| {
            settings.ca_file.clone().map(|file| (host.clone(), file))
        };
        OwnBuilder {
            authorities: config.hosts.iter().filter_map(authority).collect(),
            ..part.builder.clone()
        }
    });
    let programs = Programs {
        runner,
        variables: variables.clone(),
        logins,
        insecure,
        builder: build.builder.clone(),
        own_builder,
    };
    Ok(std::iter::once(native).chain(programs.engines()).collect())
}

/// Returns the logins of the hosts of `repositories`: one for the whole host, and one for each
/// repository whose is another.
///
/// Programs speak to the hosts themselves and know nothing of `endpoint`: what is meant for another
/// address does not go to them.
async fn logins(
    credentials: &dyn Credentials,
    repositories: impl Iterator<Item = &Repository>,
) -> Result<Vec<Login>, Failure> {
    let mut paths: BTreeMap<&Host, BTreeSet<&RepositoryPath>> = BTreeMap::new();
    for repository in repositories {
        if let Repository::Remote { host, path } = repository {
            paths.entry(host).or_default().insert(path);
        }
    }
    let mut logins = Vec::new();
    for (host, paths) in paths {
        let find = async |path: Option<&RepositoryPath>| {
            credentials.credential(host, path).await.map_err(|error| {
                let hint = error.hint.clone();
                hint.into_iter().fold(Failure::failed(error), Failure::hint)
            })
        };
        let of_host = find(None).await?;
        for path in paths {
            let credential = find(Some(path)).await?;
            if credential != of_host && credential != Credential::Anonymous {
                logins.push(Login {
                    host: host.clone(),
                    path: Some(path.clone()),
                    credential,
                });
            }
        }
        if of_host != Credential::Anonymous {
            logins.push(Login {
                host: host.clone(),
                path: None,
                credential: of_host,
            });
        }
    }
    Ok(logins)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::RefusingRunner;
    use crate::model::Variables;

    /// Returns where logins are for, with their users.
    async fn found(variables: &[(&str, &str)], repositories: &[&str]) -> Vec<String> {
        let variables: Variables = variables.iter().copied().collect();
        let credentials = StandardCredentials::new(variables, Arc::new(RefusingRunner));
        let repositories: Vec<Repository> = repositories
            .iter()
            .map(|text| text.parse().expect("a repository"))
            .collect();
        let logins = logins(&credentials, repositories.iter())
            .await
            .expect("logins");
        let user = |credential: &Credential| match credential {
            Credential::Basic { username, .. } => username.clone(),
            other => format!("{other:?}"),
        };
        let place = |login: &Login| {
            login.path.as_ref().map_or(login.host.to_string(), |path| {
                format!("{}/{path}", login.host)
            })
        };
        logins
            .iter()
            .map(|login| format!("{} {}", place(login), user(&login.credential)))
            .collect()
    }

    #[tokio::test]
    async fn logins_of_paths_are_kept_apart_from_those_of_the_host() {
        // Users `b`, `m` and `h` with the password `p`.
        let file = r#"{"auths":{"r.example/bases":{"auth":"Yjpw"},"r.example/mirrors":{"auth":"bTpw"},"s.example":{"auth":"aDpw"}}}"#;
        let found = found(
            &[("DOCKER_AUTH_CONFIG", file)],
            &[
                "r.example/bases/a",
                "r.example/mirrors/b",
                "r.example/c",
                "s.example/x",
            ],
        )
        .await;
        assert_eq!(
            found,
            [
                "r.example/bases/a b",
                "r.example/mirrors/b m",
                "s.example h"
            ]
        );
    }

    #[tokio::test]
    async fn what_is_meant_for_the_endpoint_of_a_host_goes_to_no_program() {
        let variables = [
            ("IMGLIFE_127_0_0_1_17742_USERNAME", "endpoint"),
            ("IMGLIFE_127_0_0_1_17742_PASSWORD", "p"),
        ];
        assert_eq!(
            found(&variables, &["registry.example/bases/a"]).await,
            Vec::<String>::new()
        );
    }
}
