//! Limits of an untrusted job: its credentials travel only to the servers, and over the schemes,
//! that its environment states, whatever the configuration says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::credentials::{Credential, CredentialError, Credentials, plain_hosts};
use crate::error::Failure;
use crate::http::{HostRules, Settings, Tls, Url, host_of};
use crate::model::env;
use crate::model::{Host, RepositoryPath, Variables};

/// Server of the CI system, as the environment of the job states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JobServerOrigin {
    pub(super) host: Host,
    /// `https` or `http`.
    pub(super) scheme: &'static str,
    /// File with the CA certificates of the server.
    pub(super) ca_file: Option<PathBuf>,
    /// Variable that states the server.
    pub(super) variable: &'static str,
}

/// Returns the servers that the tokens of the job are for.
pub(super) fn job_servers(variables: &Variables) -> Vec<JobServerOrigin> {
    let get = |name| variables.get_filled(name);
    let ca_file = get(env::CI_SERVER_TLS_CA_FILE).map(PathBuf::from);
    let of_url = |variable: &'static str| {
        let url = Url::parse(get(variable)?).ok()?;
        let scheme = match url.scheme() {
            "https" => "https",
            "http" => "http",
            _ => return None,
        };
        Some(JobServerOrigin {
            host: host_of(&url)?,
            scheme,
            ca_file: ca_file.clone(),
            variable,
        })
    };
    let registry = get(env::CI_REGISTRY)
        .and_then(|registry| registry.parse().ok())
        .map(|host| JobServerOrigin {
            host,
            scheme: "https",
            ca_file: ca_file.clone(),
            variable: env::CI_REGISTRY,
        });
    [
        of_url(env::CI_SERVER_URL),
        of_url(env::GITHUB_SERVER_URL),
        registry,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Replaces the settings of the servers of an untrusted job by those that its environment states.
pub(super) fn limit(settings: &mut Settings, variables: &Variables) {
    if !variables.permissions().is_untrusted() {
        return;
    }
    for server in job_servers(variables) {
        let tls = Tls {
            ca_file: server.ca_file.clone(),
            ..Tls::default()
        };
        for (name, rules) in &mut settings.hosts {
            let endpoint = rules
                .endpoint
                .take_if(|endpoint| host_of(endpoint).as_ref() == Some(&server.host));
            if let Some(mut endpoint) = endpoint {
                // The schemes are those of web URLs, between which a URL can be changed.
                let _changed = endpoint.set_scheme(server.scheme);
                rules.endpoint = Some(endpoint);
                rules.tls = tls.clone();
            } else if *name == server.host {
                *rules = HostRules {
                    endpoint: None,
                    tls: tls.clone(),
                    ..rules.clone()
                };
            }
        }
        settings
            .hosts
            .entry(server.host.clone())
            .or_insert_with(|| HostRules {
                tls,
                ..HostRules::default()
            });
        if server.scheme == "http" {
            settings.insecure.insert(server.host);
        } else {
            settings.insecure.remove(&server.host);
        }
    }
}

/// Fails if the URL of a server of an untrusted job has another scheme than its environment states.
pub(super) fn check_scheme(url: &Url, variables: &Variables) -> Result<(), Failure> {
    if !variables.permissions().is_untrusted() {
        return Ok(());
    }
    let Some(host) = host_of(url) else {
        return Ok(());
    };
    let servers = job_servers(variables);
    match servers.iter().find(|server| server.host == host) {
        Some(server) if server.scheme != url.scheme() => Err(Failure::usage(format!(
            "{host}: the token of an untrusted job is not sent over {}: {} states {}",
            url.scheme(),
            server.variable,
            server.scheme
        ))
        .hint(format!(
            "write `{}://{host}`, or check who changed the URL",
            server.scheme
        ))),
        _ => Ok(()),
    }
}

/// Returns `inner`, limited in an untrusted job: no credential for a host that the settings reach
/// over plain HTTP or without a check of its certificate.
pub(super) fn limited(
    inner: Arc<dyn Credentials>,
    settings: &Settings,
    variables: &Variables,
) -> Arc<dyn Credentials> {
    if !variables.permissions().is_untrusted() {
        return inner;
    }
    let mut exposed = exposed_hosts(settings);
    for host in plain_hosts(variables) {
        exposed.remove(&host);
    }
    for server in job_servers(variables) {
        exposed.remove(&server.host);
    }
    exposed.retain(|host, _| !is_loopback(host));
    Arc::new(LimitedCredentials { inner, exposed })
}

/// Returns the hosts whose connections others can read, with the settings that are the cause.
fn exposed_hosts(settings: &Settings) -> BTreeMap<Host, &'static str> {
    let mut exposed = BTreeMap::new();
    let named = settings.insecure.iter().filter(|name| {
        settings
            .hosts
            .get(name)
            .is_none_or(|rules| rules.endpoint.is_none())
    });
    exposed.extend(named.map(|name| (name.clone(), "plain HTTP")));
    for (name, rules) in &settings.hosts {
        let host = rules.credential_host(name);
        if rules
            .endpoint
            .as_ref()
            .is_some_and(|endpoint| endpoint.scheme() == "http")
        {
            exposed.insert(host, "plain HTTP");
        } else if rules.tls.insecure_skip_verify {
            exposed.insert(host, "`insecure_skip_verify`");
        }
    }
    exposed
}

/// Returns true if requests to the host do not leave this machine.
fn is_loopback(host: &Host) -> bool {
    let name = host.name().trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Credentials that are not used for some hosts.
struct LimitedCredentials {
    inner: Arc<dyn Credentials>,
    /// Hosts without a secure connection, with the reason.
    exposed: BTreeMap<Host, &'static str>,
}

impl LimitedCredentials {
    fn refusal(&self, host: &Host) -> Option<CredentialError> {
        let reason = self.exposed.get(host)?;
        Some(CredentialError::new(
            host,
            format!("an untrusted job sends no credential over a connection with {reason}"),
            Some(format!(
                "if that is intended, set IMGLIFE_LOGIN_<NAME>_HOST=http://{host} in the settings of the CI server; otherwise check who changed the configuration"
            )),
        ))
    }
}

#[async_trait]
impl Credentials for LimitedCredentials {
    async fn credential(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
    ) -> Result<Credential, CredentialError> {
        match self.inner.credential(host, path).await? {
            Credential::Anonymous => Ok(Credential::Anonymous),
            credential => self.refusal(host).map_or(Ok(credential), Err),
        }
    }

    async fn source(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
    ) -> Result<Option<String>, CredentialError> {
        match self.inner.source(host, path).await? {
            None => Ok(None),
            source => self.refusal(host).map_or(Ok(source), Err),
        }
    }

    async fn renew(
        &self,
        host: &Host,
        path: Option<&RepositoryPath>,
        rejected: &Credential,
    ) -> Result<bool, CredentialError> {
        self.inner.renew(host, path, rejected).await
    }
}

/// Fails if an untrusted job would send an S3 credential to a server that its environment does not
/// name.
#[cfg(any(feature = "s3", test))]
pub(super) fn check_bucket_server(url: &Url, variables: &Variables) -> Result<(), Failure> {
    let named = [
        env::AWS_ENDPOINT_URL_S3,
        env::AWS_ENDPOINT_URL,
        env::IMGLIFE_REGISTRY_URL,
    ];
    let is_named = named
        .iter()
        .filter_map(|name| Url::parse(variables.get_filled(name)?).ok())
        .any(|named| named.origin() == url.origin());
    if is_named || !variables.permissions().is_untrusted() {
        return Ok(());
    }
    let origin = url.origin().ascii_serialization();
    Err(Failure::usage(format!(
        "the S3 credential of an untrusted job is not sent to {origin}, which only the configuration names"
    ))
    .hint(format!(
        "set {}={origin} in the settings of the CI server, or check who changed `registry.url` or `hosts`",
        env::AWS_ENDPOINT_URL
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{JobTrust, Permissions, UntrustedReason};

    const JOB: [(&str, &str); 3] = [
        ("CI_SERVER_URL", "https://gitlab.example"),
        ("CI_REGISTRY", "registry.gitlab.example:5050"),
        ("CI_SERVER_TLS_CA_FILE", "/ca.pem"),
    ];

    fn untrusted(pairs: &[(&str, &str)]) -> Variables {
        pairs
            .iter()
            .copied()
            .collect::<Variables>()
            .with_permissions(Permissions {
                trust: JobTrust::Untrusted(UntrustedReason::MergeRequest),
                ..Permissions::default()
            })
    }

    fn host(text: &str) -> Host {
        text.parse().expect("a host")
    }

    fn url(text: &str) -> Url {
        text.parse().expect("a URL")
    }

    fn hostile() -> Settings {
        let tls = Tls {
            ca_file: Some("mine.pem".into()),
            insecure_skip_verify: true,
            ..Tls::default()
        };
        let rules = |endpoint: Option<&str>| HostRules {
            endpoint: endpoint.map(url),
            tls: tls.clone(),
            ..HostRules::default()
        };
        Settings {
            hosts: [
                (
                    host("gitlab.example"),
                    rules(Some("http://evil.example:5050")),
                ),
                (
                    host("docker.io"),
                    rules(Some("http://registry.gitlab.example:5050/x")),
                ),
            ]
            .into(),
            insecure: [host("gitlab.example"), host("registry.gitlab.example:5050")].into(),
            ..Settings::default()
        }
    }

    #[test]
    fn settings_of_the_job_servers_come_from_the_environment() {
        let mut settings = hostile();
        limit(&mut settings, &untrusted(&JOB));
        let safe = Tls {
            ca_file: Some("/ca.pem".into()),
            ..Tls::default()
        };
        let of = |name: &str| {
            let rules = &settings.hosts[&host(name)];
            (
                rules.endpoint.as_ref().map(ToString::to_string),
                rules.tls == safe,
            )
        };
        assert_eq!(of("gitlab.example"), (None, true));
        assert_eq!(of("registry.gitlab.example:5050"), (None, true));
        assert_eq!(
            of("docker.io"),
            (
                Some("https://registry.gitlab.example:5050/x".to_owned()),
                true
            )
        );
        assert!(settings.insecure.is_empty());
    }

    #[test]
    fn settings_of_a_trusted_job_are_not_changed() {
        let mut settings = hostile();
        limit(&mut settings, &JOB.into_iter().collect());
        assert_eq!(settings.insecure.len(), 2);
        assert!(settings.hosts[&host("docker.io")].tls.insecure_skip_verify);
    }

    #[test]
    fn exposed_hosts_are_those_of_plain_or_unverified_connections() {
        let settings = hostile();
        let exposed: Vec<String> = exposed_hosts(&settings)
            .keys()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            exposed,
            ["evil.example:5050", "registry.gitlab.example:5050"]
        );
    }

    #[test]
    fn the_scheme_of_the_server_is_the_one_that_the_job_states() {
        let variables = untrusted(&JOB);
        assert!(check_scheme(&url("https://gitlab.example/x"), &variables).is_ok());
        assert!(check_scheme(&url("http://other.example"), &variables).is_ok());
        let failure = check_scheme(&url("http://gitlab.example"), &variables).expect_err("plain");
        assert_eq!(
            failure.error.to_string(),
            "gitlab.example: the token of an untrusted job is not sent over http: CI_SERVER_URL states https"
        );
        assert!(check_scheme(&url("http://gitlab.example"), &JOB.into_iter().collect()).is_ok());
    }

    #[test]
    fn a_bucket_server_is_named_by_the_environment() {
        let named = [("AWS_ENDPOINT_URL", "http://garage.internal:3900/")];
        let server = url("http://garage.internal:3900");
        assert!(check_bucket_server(&server, &untrusted(&named)).is_ok());
        assert!(check_bucket_server(&server, &Variables::default()).is_ok());
        for other in [
            "http://garage.internal:3901",
            "https://garage.internal:3900",
        ] {
            assert!(
                check_bucket_server(&url(other), &untrusted(&named)).is_err(),
                "{other}"
            );
        }
        assert!(check_bucket_server(&server, &untrusted(&[])).is_err());
    }
}
