//! From the configuration to the place that records are in.

use std::sync::Arc;

use super::Mode;
use super::configuration::lacks;
use super::places::rules;
use crate::cache::Cache;
use crate::config::{Config, DEFAULT_NAME, RegistryConfig, RegistryProvider};
use crate::credentials::{Credentials, Forge, ForgeCredentials};
use crate::error::{Failure, ItemError};
use crate::http::{Client, Settings, Url, host_of};
use crate::model::Host;
use crate::model::env;
use crate::packages::directory::DirectoryFiles;
use crate::packages::gitea::{GiteaLocation, GiteaPackages};
use crate::packages::gitlab::GitlabPackages;
use crate::packages::{Prefix, ReadOnlyFiles, RecordStore, Records};
use crate::process::Process;

/// Requests for records in flight to one host, unless its settings say otherwise.
const CONNECTIONS: usize = 16;

/// Returns the records at the place that the configuration names. In a mode that changes nothing it
/// refuses every write. Fails with a usage error when the configuration does not suffice, or names
/// a host that the token which is set may not go to; nothing was sent by then.
pub fn records(config: &Config, process: &Process, mode: Mode) -> Result<Records, Failure> {
    let Some(RegistryConfig { provider, prefix }) = &config.registry else {
        return Err(lacks("registry", config, process).hint(
            "or say where records are by IMGLIFE_REGISTRY_PROVIDER, IMGLIFE_REGISTRY_URL and so on",
        ));
    };
    let prefix = match prefix {
        Some(text) => text
            .parse::<Prefix>()
            .map_err(|error| Failure::usage(error).hint("it is `registry.prefix`"))?,
        None => Prefix::none(),
    };
    let missing = |key: &str| {
        let variable = key.to_ascii_uppercase();
        Failure::usage(format!("`registry.{key}` is missing")).hint(format!(
            "set it in {DEFAULT_NAME}, or by IMGLIFE_REGISTRY_{variable}"
        ))
    };
    let files: Arc<dyn RecordStore> = match provider {
        RegistryProvider::Gitlab {
            url,
            api_url,
            project_id,
            ..
        } => {
            let url = api_url
                .as_ref()
                .or(url.as_ref())
                .ok_or_else(|| missing("url"))?;
            let project = project_id.ok_or_else(|| missing("project_id"))?;
            let http = forge_client(Forge::Gitlab, &[url], config, process)?;
            Arc::new(
                GitlabPackages::new(http, url, project, token_variable(config, process)?)
                    .map_err(unusable)?,
            )
        }
        RegistryProvider::Gitea {
            url,
            api_url,
            owner,
            repo,
            ..
        } => {
            let url = url.as_ref().ok_or_else(|| missing("url"))?;
            let api_url = api_url.as_ref().unwrap_or(url);
            if let Some(name) = repo
                .iter()
                .chain([owner])
                .find(|name| matches!(name.as_str(), "." | ".."))
            {
                return Err(Failure::usage(format!(
                    "`{name}` is neither an owner nor a repository"
                ))
                .hint("correct `registry.owner` or `registry.repo`"));
            }
            let http = forge_client(Forge::Gitea, &[url, api_url], config, process)?;
            let place = GiteaLocation {
                url: url.clone(),
                api_url: api_url.clone(),
                owner: owner.clone(),
                repository: repo.clone(),
            };
            Arc::new(GiteaPackages::new(http, &place).map_err(unusable)?)
        }
        RegistryProvider::S3 {
            endpoint,
            bucket,
            region,
        } => s3(endpoint.as_ref(), bucket, region, config, process)?,
        RegistryProvider::File { directory } => Arc::new(DirectoryFiles::new(directory.clone())),
    };
    let files = if mode == Mode::Apply {
        files
    } else {
        Arc::new(ReadOnlyFiles::new(files))
    };
    Ok(Records::new(
        files,
        prefix,
        Cache::user(&process.variables, mode == Mode::Apply),
        process.clock.clone(),
    ))
}

/// Returns the variable that holds the credential for the place that records are in, `None` when
/// there is none or none is needed. Fails when what is set may not go there.
pub(super) fn token_variable(
    config: &Config,
    process: &Process,
) -> Result<Option<&'static str>, Failure> {
    let (forge, url) = match config.registry.as_ref().map(|registry| &registry.provider) {
        Some(RegistryProvider::Gitlab { url, api_url, .. }) => {
            (Forge::Gitlab, api_url.as_ref().or(url.as_ref()))
        }
        Some(RegistryProvider::Gitea { url, api_url, .. }) => {
            (Forge::Gitea, api_url.as_ref().or(url.as_ref()))
        }
        Some(RegistryProvider::S3 { .. }) => {
            return Ok(process
                .variables
                .get_filled(env::AWS_ACCESS_KEY_ID)
                .map(|_| env::AWS_ACCESS_KEY_ID));
        }
        Some(RegistryProvider::File { .. }) | None => return Ok(None),
    };
    let Some(url) = url else { return Ok(None) };
    let host = host(url)?;
    let goes_to = config.hosts.get(&host).map_or_else(
        || host.clone(),
        |settings| rules(settings).credential_host(&host),
    );
    ForgeCredentials::new(forge, process.variables.clone())
        .variable(&goes_to)
        .map_err(|error| {
            let hint = error.hint.clone();
            hint.into_iter().fold(Failure::usage(error), Failure::hint)
        })
}

/// Returns a client for the interfaces at `urls`, after checking that the token may go there.
pub(super) fn forge_client(
    forge: Forge,
    urls: &[&Url],
    config: &Config,
    process: &Process,
) -> Result<Arc<Client>, Failure> {
    let credentials = ForgeCredentials::new(forge, process.variables.clone());
    let settings = settings(urls, config)?;
    for url in urls {
        let host = host(url)?;
        let goes_to = settings
            .hosts
            .get(&host)
            .map_or_else(|| host.clone(), |rules| rules.credential_host(&host));
        credentials.find(&goes_to).map_err(|error| {
            let hint = error.hint.clone();
            hint.into_iter().fold(Failure::usage(error), Failure::hint)
        })?;
    }
    Ok(client(settings, Arc::new(credentials), process))
}

fn client(settings: Settings, credentials: Arc<dyn Credentials>, process: &Process) -> Arc<Client> {
    Arc::new(Client::new(settings, credentials, process.clock.clone()))
}

/// Returns how hosts are spoken to. Those of `urls` are spoken to as their schemes say.
pub(super) fn settings(urls: &[&Url], config: &Config) -> Result<Settings, Failure> {
    let mut settings = Settings {
        hosts: config
            .hosts
            .iter()
            .map(|(host, settings)| (host.clone(), rules(settings)))
            .collect(),
        insecure: config.insecure_registries.iter().cloned().collect(),
        connections: CONNECTIONS,
        ..Settings::default()
    };
    for url in urls {
        let host = host(url)?;
        if url.scheme() == "http" {
            settings.insecure.insert(host);
        } else {
            settings.insecure.remove(&host);
        }
    }
    Ok(settings)
}

/// Returns the host of an address of the configuration, which has made sure that it is a web
/// address without a login.
fn host(url: &Url) -> Result<Host, Failure> {
    host_of(url)
        .ok_or_else(|| Failure::usage(format!("the address in `registry` names no host: {url}")))
}

#[cfg(feature = "s3")]
fn s3(
    endpoint: Option<&Url>,
    bucket: &str,
    region: &str,
    config: &Config,
    process: &Process,
) -> Result<Arc<dyn RecordStore>, Failure> {
    use crate::credentials::NoCredentials;
    use crate::model::Secret;
    use crate::packages::s3::{S3Bucket, S3Files, S3Keys};

    let urls: Vec<&Url> = endpoint.into_iter().collect();
    let settings = settings(&urls, config)?;
    let endpoint = match endpoint {
        Some(url) => settings
            .hosts
            .get(&host(url)?)
            .and_then(|rules| rules.endpoint.clone())
            .or_else(|| Some(url.clone())),
        None => None,
    };
    let get = |name| process.variables.get_filled(name);
    let keys = get(env::AWS_ACCESS_KEY_ID)
        .zip(get(env::AWS_SECRET_ACCESS_KEY))
        .map(|(id, secret)| S3Keys {
            id: id.to_owned(),
            secret: Secret::new(secret),
            session_token: get(env::AWS_SESSION_TOKEN).map(Secret::new),
        });
    let bucket = S3Bucket {
        endpoint,
        name: bucket.to_owned(),
        region: region.to_owned(),
        keys,
    };
    // What is sent is signed; no other credential goes along.
    Ok(Arc::new(S3Files::new(
        client(settings, Arc::new(NoCredentials), process),
        bucket,
    )))
}

#[cfg(not(feature = "s3"))]
fn s3(
    _: Option<&Url>,
    _: &str,
    _: &str,
    _: &Config,
    _: &Process,
) -> Result<Arc<dyn RecordStore>, Failure> {
    Err(Failure::usage(
        "this program was built without S3 (cargo feature `s3`)",
    ))
}

fn unusable(error: ItemError) -> Failure {
    let hint = error.hint();
    hint.into_iter().fold(Failure::usage(error), Failure::hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Exit, chain};
    use crate::model::{Clock, Variables};
    use crate::process::Stream;

    /// Returns the name of the place, or the failure in words.
    fn place(yaml: &str, variables: &[(&str, &str)]) -> String {
        let directory = tempfile::tempdir().expect("a directory");
        let process = Process {
            variables: variables.iter().copied().collect::<Variables>(),
            clock: Clock::fixed(chrono::DateTime::UNIX_EPOCH),
            directory: directory.path().to_owned(),
            stdout: Stream::captured().0,
            stderr: Stream::captured().0,
        };
        std::fs::write(directory.path().join("imglife.yaml"), yaml).expect("a file");
        let config =
            crate::app::configuration::load_configuration(&crate::app::Global::default(), &process)
                .expect("a configuration");
        match records(&config, &process, Mode::Apply) {
            Ok(records) => records.store_name(),
            Err(failure) => {
                assert_eq!(failure.exit, Exit::Usage);
                format!("{}; {}", chain(&*failure.error), failure.hints.join("; "))
            }
        }
    }

    const GITLAB: &str = "registry: { url: https://gitlab.example, project_id: 42 }";

    #[test]
    fn every_provider_has_its_place() {
        for (yaml, expected) in [
            (GITLAB, "https://gitlab.example, project 42"),
            (
                "registry: { url: 'https://registry.gitlab.com', api_url: 'https://gitlab.com/', project_id: 1 }",
                "https://gitlab.com, project 1",
            ),
            (
                "registry: { provider: gitea, url: 'http://gitea:3000/git', owner: team }",
                "http://gitea:3000/git, owner team",
            ),
            (
                "registry: { provider: s3, bucket: b, region: eu-central-1 }",
                "s3://b in eu-central-1",
            ),
            (
                "registry: { provider: s3, url: 'http://127.0.0.1:9000', bucket: b }",
                "http://127.0.0.1:9000/b",
            ),
        ] {
            assert_eq!(place(yaml, &[]), expected);
        }
        assert!(place("registry: { provider: file }", &[]).ends_with("/.imglife/packages"));
    }

    #[test]
    fn variables_alone_are_enough_and_what_is_missing_is_named() {
        let variables = [
            ("IMGLIFE_REGISTRY_URL", "https://gitlab.example"),
            ("IMGLIFE_REGISTRY_PROJECT_ID", "7"),
        ];
        assert_eq!(
            place("status: {}", &variables),
            "https://gitlab.example, project 7"
        );
        assert_eq!(
            place(GITLAB, &[("IMGLIFE_REGISTRY_PROJECT_ID", "7")]),
            "https://gitlab.example, project 7"
        );
        assert!(
            place("status: {}", &[]).contains(
                "has no `registry`; or say where records are by IMGLIFE_REGISTRY_PROVIDER"
            )
        );
        assert_eq!(
            place("status: {}", &variables[..1]),
            "`registry.project_id` is missing; set it in imglife.yaml, or by IMGLIFE_REGISTRY_PROJECT_ID"
        );
        assert!(
            place("registry: { provider: gitea, owner: a }", &[])
                .contains("`registry.url` is missing")
        );
        assert!(
            place(
                "registry: { provider: gitea, url: 'https://g.example', owner: '..' }",
                &[]
            )
            .contains("neither an owner nor")
        );
    }

    #[test]
    fn nothing_is_sent_where_the_token_may_not_go() {
        let job = [
            ("GITLAB_CI", "true"),
            ("CI_SERVER_HOST", "gitlab.example"),
            ("CI_JOB_TOKEN", "hunter2"),
            ("GITLAB_TOKEN", "hunter22"),
        ];
        assert_eq!(place(GITLAB, &job), "https://gitlab.example, project 42");
        // What a merge request could change to lead the token elsewhere.
        for yaml in [
            "registry: { url: 'https://evil.example', project_id: 42 }",
            "registry: { url: 'https://gitlab.example', api_url: 'https://evil.example', project_id: 42 }",
            "{ registry: { url: 'https://gitlab.example', project_id: 42 }, hosts: { gitlab.example: { endpoint: 'https://evil.example' } } }",
        ] {
            for variables in [&job[..], &job[..3]] {
                let refused = place(yaml, variables);
                assert!(
                    refused.contains("credentials for evil.example: ")
                        && refused.contains("is not sent there"),
                    "{refused}"
                );
                assert!(
                    refused.contains("IMGLIFE_TOKEN_HOST=evil.example")
                        && !refused.contains("hunter2"),
                    "{refused}"
                );
            }
        }
        let allowed = [&job[..], &[("IMGLIFE_TOKEN_HOST", "other.example")]].concat();
        assert_eq!(
            place(
                "registry: { url: 'https://other.example', project_id: 1 }",
                &allowed
            ),
            "https://other.example, project 1"
        );
        let gitea = [
            ("GITEA_ACTIONS", "true"),
            ("GITHUB_SERVER_URL", "https://gitea.example"),
            ("GITEA_TOKEN", "hunter2"),
        ];
        for yaml in [
            "registry: { provider: gitea, url: 'https://evil.example', owner: a }",
            "registry: { provider: gitea, url: 'https://gitea.example', api_url: 'https://evil.example', owner: a }",
        ] {
            assert!(
                place(yaml, &gitea).contains("GITEA_TOKEN is not sent there"),
                "{yaml}"
            );
        }
    }
}
