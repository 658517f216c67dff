//! The record store, from the configuration.

use std::sync::Arc;

use super::Mode;
use super::configuration::missing_setting;
use super::host_rules::rules;
use super::job_limits::{check_scheme, limit, limited};
use crate::cache::Cache;
use crate::config::{Config, DEFAULT_NAME, RegistryConfig, RegistryProvider};
use crate::credentials::{Credentials, ForgeCredentials, ForgeKind, TokenPurpose};
use crate::error::{Failure, ItemError};
use crate::http::{Client, Settings, Url, host_of};
use crate::model::env;
use crate::model::{Host, Variables};
use crate::packages::directory::DirectoryFiles;
use crate::packages::gitea::{GiteaLocation, GiteaPackages};
use crate::packages::gitlab::{GitlabPackages, PackageClients};
use crate::packages::{Prefix, ReadOnlyFiles, RecordStore, Records};
use crate::process::Process;

/// Default number of parallel requests to the host of the record store.
const DEFAULT_CONNECTIONS: usize = 16;

/// Returns the record store. In a mode that changes nothing it rejects writes.
///
/// Fails with a usage error when the configuration is incomplete, or when the token may not be sent
/// to the configured host. Sends no request.
pub fn records(config: &Config, process: &Process, mode: Mode) -> Result<Records, Failure> {
    let Some(RegistryConfig { provider, prefix }) = &config.registry else {
        return Err(missing_setting("registry", config, process)
            .hint("or set IMGLIFE_REGISTRY_PROVIDER, IMGLIFE_REGISTRY_URL and so on"));
    };
    let prefix = match prefix {
        Some(text) => text
            .parse::<Prefix>()
            .map_err(|error| Failure::usage(error).hint("correct `registry.prefix`"))?,
        None => Prefix::none(),
    };
    let missing = |key: &str| {
        let variable = key.to_ascii_uppercase();
        Failure::usage(format!("`registry.{key}` is missing")).hint(format!(
            "set it in {DEFAULT_NAME} or with IMGLIFE_REGISTRY_{variable}"
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
            let client = |purpose| api_client(ForgeKind::Gitlab, purpose, &[url], config, process);
            let files = client(TokenPurpose::PackageFiles)?;
            let has_deploy_token = process
                .variables
                .get_filled(env::GITLAB_DEPLOY_TOKEN)
                .is_some();
            let clients = PackageClients {
                // One client has one limit of connections to the server.
                listings: if has_deploy_token {
                    client(TokenPurpose::Packages)?
                } else {
                    Arc::clone(&files)
                },
                files,
            };
            Arc::new(
                GitlabPackages::new(clients, url, project, token_variable(config, process)?)
                    .map_err(usage_failure)?,
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
                    "`{name}` is not the name of an owner or a repository"
                ))
                .hint("correct `registry.owner` or `registry.repo`"));
            }
            let http = forge_client(ForgeKind::Gitea, &[url, api_url], config, process)?;
            let location = GiteaLocation {
                url: url.clone(),
                api_url: api_url.clone(),
                owner: owner.clone(),
                repository: repo.clone(),
            };
            Arc::new(GiteaPackages::new(http, &location).map_err(usage_failure)?)
        }
        RegistryProvider::S3 {
            endpoint,
            bucket,
            region,
            path_style,
        } => {
            let location = BucketLocation {
                endpoint: endpoint.as_ref(),
                bucket,
                region,
                path_style: *path_style,
            };
            s3(&location, config, process)?
        }
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

/// Returns the variable with the credential of the record store, or `None` if it is not set or not
/// needed. Fails when the credential may not be sent to the configured host.
pub(super) fn token_variable(
    config: &Config,
    process: &Process,
) -> Result<Option<&'static str>, Failure> {
    let (forge, url) = match config.registry.as_ref().map(|registry| &registry.provider) {
        Some(RegistryProvider::Gitlab { url, api_url, .. }) => {
            (ForgeKind::Gitlab, api_url.as_ref().or(url.as_ref()))
        }
        Some(RegistryProvider::Gitea { url, api_url, .. }) => {
            (ForgeKind::Gitea, api_url.as_ref().or(url.as_ref()))
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
    let credential_host = config.hosts.get(&host).map_or_else(
        || host.clone(),
        |settings| rules(settings).credential_host(&host),
    );
    ForgeCredentials::new(forge, process.variables.clone())
        .for_purpose(TokenPurpose::PackageFiles)
        .variable(&credential_host)
        .map_err(|error| {
            let hint = error.hint.clone();
            hint.into_iter().fold(Failure::usage(error), Failure::hint)
        })
}

/// Returns a client for the repositories of the server at `urls`. Fails when the token may not be
/// sent there.
pub(super) fn forge_client(
    forge: ForgeKind,
    urls: &[&Url],
    config: &Config,
    process: &Process,
) -> Result<Arc<Client>, Failure> {
    api_client(forge, TokenPurpose::Repositories, urls, config, process)
}

fn api_client(
    forge: ForgeKind,
    purpose: TokenPurpose,
    urls: &[&Url],
    config: &Config,
    process: &Process,
) -> Result<Arc<Client>, Failure> {
    let credentials = ForgeCredentials::new(forge, process.variables.clone()).for_purpose(purpose);
    let settings = settings(urls, config, &process.variables)?;
    for url in urls {
        check_scheme(url, &process.variables)?;
        let host = host(url)?;
        let credential_host = settings
            .hosts
            .get(&host)
            .map_or_else(|| host.clone(), |rules| rules.credential_host(&host));
        credentials.find(&credential_host).map_err(|error| {
            let hint = error.hint.clone();
            hint.into_iter().fold(Failure::usage(error), Failure::hint)
        })?;
    }
    Ok(client(settings, Arc::new(credentials), process))
}

fn client(settings: Settings, credentials: Arc<dyn Credentials>, process: &Process) -> Arc<Client> {
    let credentials = limited(credentials, &settings, &process.variables);
    Arc::new(Client::new(settings, credentials, process.clock.clone()))
}

/// Returns the settings of the HTTP client. The scheme of `urls` decides whether their hosts use
/// plain HTTP.
pub(super) fn settings(
    urls: &[&Url],
    config: &Config,
    variables: &Variables,
) -> Result<Settings, Failure> {
    let mut settings = Settings {
        hosts: config
            .hosts
            .iter()
            .map(|(host, settings)| (host.clone(), rules(settings)))
            .collect(),
        insecure: config.insecure_registries.iter().cloned().collect(),
        connections: DEFAULT_CONNECTIONS,
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
    limit(&mut settings, variables);
    Ok(settings)
}

/// Returns the host of a URL in the configuration, which accepts only web URLs without credentials.
fn host(url: &Url) -> Result<Host, Failure> {
    host_of(url).ok_or_else(|| Failure::usage(format!("the URL in `registry` has no host: {url}")))
}

/// Location of a bucket in the configuration.
#[cfg_attr(
    not(feature = "s3"),
    expect(dead_code, reason = "the program was built without S3")
)]
struct BucketLocation<'a> {
    endpoint: Option<&'a Url>,
    bucket: &'a str,
    region: &'a str,
    path_style: Option<bool>,
}

#[cfg(feature = "s3")]
fn s3(
    location: &BucketLocation<'_>,
    config: &Config,
    process: &Process,
) -> Result<Arc<dyn RecordStore>, Failure> {
    use crate::credentials::NoCredentials;
    use crate::model::Secret;
    use crate::packages::s3::{S3Bucket, S3Files, S3Keys};

    let urls: Vec<&Url> = location.endpoint.into_iter().collect();
    let mut settings = settings(&urls, config, &process.variables)?;
    let endpoint = match location.endpoint {
        Some(url) => settings
            .hosts
            .get(&host(url)?)
            .and_then(|rules| rules.endpoint.clone())
            .or_else(|| Some(url.clone())),
        None => None,
    };
    if let Some(server) = &endpoint {
        super::job_limits::check_bucket_server(server, &process.variables)?;
    }
    if process.variables.permissions().is_untrusted() {
        // The file decides neither about the server nor about its certificate.
        settings.hosts.clear();
    }
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
        name: location.bucket.to_owned(),
        region: location.region.to_owned(),
        keys,
    };
    // Requests are signed; they carry no other credential.
    let client = client(settings, Arc::new(NoCredentials), process);
    Ok(Arc::new(
        S3Files::new(client, bucket).with_path_style(location.path_style),
    ))
}

#[cfg(not(feature = "s3"))]
fn s3(_: &BucketLocation<'_>, _: &Config, _: &Process) -> Result<Arc<dyn RecordStore>, Failure> {
    Err(Failure::usage(
        "this program was built without S3 (cargo feature `s3`)",
    ))
}

fn usage_failure(error: ItemError) -> Failure {
    let hint = error.hint();
    hint.into_iter().fold(Failure::usage(error), Failure::hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Exit, chain};
    use crate::model::Clock;
    use crate::process::Stream;

    /// Returns the name of the record store, or the text of the failure.
    fn store_name(yaml: &str, variables: &[(&str, &str)]) -> String {
        let directory = tempfile::tempdir().expect("a directory");
        let process = Process {
            variables: variables.iter().copied().collect::<Variables>(),
            clock: Clock::fixed(chrono::DateTime::UNIX_EPOCH),
            directory: directory.path().to_owned(),
            stdout: Stream::captured().0,
            stderr: Stream::captured().0,
        };
        std::fs::write(directory.path().join("imglife.yaml"), yaml).expect("a file");
        let config = crate::app::configuration::load_configuration(
            &crate::app::GlobalOptions::default(),
            &process,
        )
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
    fn every_provider_has_a_record_store() {
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
            assert_eq!(store_name(yaml, &[]), expected);
        }
        assert!(store_name("registry: { provider: file }", &[]).ends_with("/.imglife/packages"));
    }

    #[test]
    fn variables_replace_the_configuration_and_missing_settings_are_reported() {
        let variables = [
            ("IMGLIFE_REGISTRY_URL", "https://gitlab.example"),
            ("IMGLIFE_REGISTRY_PROJECT_ID", "7"),
        ];
        assert_eq!(
            store_name("status: {}", &variables),
            "https://gitlab.example, project 7"
        );
        assert_eq!(
            store_name(GITLAB, &[("IMGLIFE_REGISTRY_PROJECT_ID", "7")]),
            "https://gitlab.example, project 7"
        );
        assert!(
            store_name("status: {}", &[])
                .contains("has no `registry`; or set IMGLIFE_REGISTRY_PROVIDER")
        );
        assert_eq!(
            store_name("status: {}", &variables[..1]),
            "`registry.project_id` is missing; set it in imglife.yaml or with IMGLIFE_REGISTRY_PROJECT_ID"
        );
        assert!(
            store_name("registry: { provider: gitea, owner: a }", &[])
                .contains("`registry.url` is missing")
        );
        assert!(
            store_name(
                "registry: { provider: gitea, url: 'https://g.example', owner: '..' }",
                &[]
            )
            .contains("is not the name of an owner or a repository")
        );
    }

    #[test]
    fn the_token_is_not_sent_to_other_hosts() {
        let job = [
            ("GITLAB_CI", "true"),
            ("CI_SERVER_HOST", "gitlab.example"),
            ("CI_JOB_TOKEN", "hunter2"),
            ("GITLAB_TOKEN", "hunter22"),
        ];
        assert_eq!(
            store_name(GITLAB, &job),
            "https://gitlab.example, project 42"
        );
        // Changes by which a merge request could redirect the token.
        for yaml in [
            "registry: { url: 'https://evil.example', project_id: 42 }",
            "registry: { url: 'https://gitlab.example', api_url: 'https://evil.example', project_id: 42 }",
            "{ registry: { url: 'https://gitlab.example', project_id: 42 }, hosts: { gitlab.example: { endpoint: 'https://evil.example' } } }",
        ] {
            for variables in [&job[..], &job[..3]] {
                let refused = store_name(yaml, variables);
                assert!(
                    refused.contains("credentials for evil.example: ")
                        && refused.contains("is not sent to this host"),
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
            store_name(
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
                store_name(yaml, &gitea).contains("GITEA_TOKEN is not sent to this host"),
                "{yaml}"
            );
        }
    }
}
