//! The build engines, from the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;

use super::CommandContext;
use super::job_credentials::standard_credentials;
use crate::cache::Cache;
use crate::command::{Runner, SystemRunner};
use crate::config::{BuildConfig, Config, HostSettings};
use crate::credentials::{Credential, Credentials, check_collisions};
use crate::engines::native::Native;
use crate::engines::{
    BuildOutcome, BuildRequest, BuildxBuilder, Engine, EngineError, EngineName, HostCredential,
    Programs,
};
use crate::error::Failure;
use crate::model::{Host, Repository, RepositoryPath};
use crate::registry::ImageStores;

/// Returns the build engines: the native one, then programs in order of preference. Programs get
/// only the credentials of hosts with configured images. `own_builder` has the settings of the
/// buildx builder that may be created; `None` if none may be created.
pub(super) async fn engines(
    config: &Config,
    build: &BuildConfig,
    own_builder: Option<&BuildxBuilder>,
    stores: &ImageStores,
    context: &CommandContext,
) -> Result<Vec<Arc<dyn Engine>>, Failure> {
    let variables = &context.process.variables;
    let native: Arc<dyn Engine> =
        Arc::new(Native::new(stores.clone(), Cache::user(variables, true)));
    if !variables.permissions().may_run_commands() {
        return Ok(std::iter::once(native).chain(forbidden()).collect());
    }
    let credentials = standard_credentials(config, &context.process);
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
    let is_limited = variables.permissions().is_untrusted();
    let logins = logins(&credentials, repositories, is_limited).await?;
    let runner: Arc<dyn Runner> = Arc::new(SystemRunner);
    let insecure = config.insecure_registries.iter().cloned().collect();
    let own_builder = own_builder.map(|builder| {
        let authority = |(host, settings): (&Host, &HostSettings)| {
            settings.ca_file.clone().map(|file| (host.clone(), file))
        };
        BuildxBuilder {
            authorities: config.hosts.iter().filter_map(authority).collect(),
            ..builder.clone()
        }
    });
    let programs = Programs {
        runner,
        variables: variables.for_commands(),
        credentials: logins,
        insecure,
        builder: build.builder.clone(),
        own_builder,
    };
    Ok(std::iter::once(native).chain(programs.engines()).collect())
}

/// Returns the credentials for the hosts of `repositories`: one for the host, and one for each
/// repository with different credentials.
///
/// Programs contact the hosts themselves and ignore `endpoint`, so the credentials of an endpoint
/// are not passed to them. If `is_limited`, a credential that may not be used is left out, so that
/// the images that do not need it are built.
async fn logins(
    credentials: &dyn Credentials,
    repositories: impl Iterator<Item = &Repository>,
    is_limited: bool,
) -> Result<Vec<HostCredential>, Failure> {
    let mut paths: BTreeMap<&Host, BTreeSet<&RepositoryPath>> = BTreeMap::new();
    for repository in repositories {
        if let Repository::Remote { host, path } = repository {
            paths.entry(host).or_default().insert(path);
        }
    }
    let mut logins = Vec::new();
    for (host, paths) in paths {
        let find =
            async |path: Option<&RepositoryPath>| match credentials.credential(host, path).await {
                Err(error) if is_limited => {
                    tracing::warn!("{error}");
                    Ok(Credential::Anonymous)
                }
                found => found.map_err(|error| {
                    let hint = error.hint.clone();
                    hint.into_iter().fold(Failure::failed(error), Failure::hint)
                }),
            };
        let of_host = find(None).await?;
        for path in paths {
            let credential = find(Some(path)).await?;
            if credential != of_host && credential != Credential::Anonymous {
                logins.push(HostCredential {
                    host: host.clone(),
                    path: Some(path.clone()),
                    credential,
                });
            }
        }
        if of_host != Credential::Anonymous {
            logins.push(HostCredential {
                host: host.clone(),
                path: None,
                credential: of_host,
            });
        }
    }
    Ok(logins)
}

/// A build program that an untrusted job does not run.
struct ForbiddenEngine(EngineName);

/// Returns all build programs, none of which can be used.
fn forbidden() -> impl Iterator<Item = Arc<dyn Engine>> {
    EngineName::PROGRAMS
        .into_iter()
        .map(|name| Arc::new(ForbiddenEngine(name)) as Arc<dyn Engine>)
}

impl ForbiddenEngine {
    fn error(&self) -> EngineError {
        EngineError::new(
            self.0,
            "build programs are not run in an untrusted job",
        )
        .hint("pass `--allow-commands` to run them, without secrets in their environment; a template without RUN is built by the engine `native`")
    }
}

#[async_trait]
impl Engine for ForbiddenEngine {
    fn name(&self) -> EngineName {
        self.0
    }

    async fn available(&self) -> Result<String, EngineError> {
        Err(self.error())
    }

    async fn build(&self, _: &BuildRequest) -> Result<BuildOutcome, EngineError> {
        Err(self.error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::RefusingRunner;
    use crate::credentials::StandardCredentials;
    use crate::model::Variables;

    /// Returns the registries or repositories of the credentials, each with its user.
    async fn found(variables: &[(&str, &str)], repositories: &[&str]) -> Vec<String> {
        let variables: Variables = variables.iter().copied().collect();
        let credentials = StandardCredentials::new(variables, Arc::new(RefusingRunner));
        let repositories: Vec<Repository> = repositories
            .iter()
            .map(|text| text.parse().expect("a repository"))
            .collect();
        let logins = logins(&credentials, repositories.iter(), false)
            .await
            .expect("logins");
        let user = |credential: &Credential| match credential {
            Credential::Basic { username, .. } => username.clone(),
            other => format!("{other:?}"),
        };
        let target = |login: &HostCredential| {
            login.path.as_ref().map_or(login.host.to_string(), |path| {
                format!("{}/{path}", login.host)
            })
        };
        logins
            .iter()
            .map(|login| format!("{} {}", target(login), user(&login.credential)))
            .collect()
    }

    #[tokio::test]
    async fn credentials_of_repositories_are_separate_from_those_of_the_host() {
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
    async fn credentials_of_an_endpoint_are_not_passed_to_programs() {
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
