//! Tokens of GitLab and Gitea, for their package registries and repository files.
//!
//! In CI, everybody who can open a merge request can edit the configuration. A token is therefore
//! sent only to hosts that the CI system itself names, not to any host in the configuration.

use std::fmt;

use async_trait::async_trait;
use url::Url;

use super::{Credential, CredentialError, Credentials};
use crate::model::env;
use crate::model::{Host, RepositoryPath, Secret, Variables};

/// Kind of server that a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForgeKind {
    Gitlab,
    /// Gitea or Forgejo.
    Gitea,
}

/// API of a server that a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenPurpose {
    /// Repositories and merge requests.
    Repositories,
    /// Listings and deletions of packages. GitLab does not accept deploy tokens for them, except
    /// where no token is needed.
    Packages,
    /// Files of packages.
    PackageFiles,
}

/// Token for a server. The first one that is set is used:
///
/// - GitLab: `GITLAB_TOKEN`; the token of the job, `CI_JOB_TOKEN`. For packages also
///   `GITLAB_DEPLOY_TOKEN`: before the token of the job for files, after it for listings.
/// - Gitea: `GITEA_TOKEN`; the token of the job, `GITHUB_TOKEN`
///
/// A token is not sent to a server that it is not allowed for.
pub struct ForgeCredentials {
    kind: ForgeKind,
    purpose: TokenPurpose,
    variables: Variables,
}

/// Header with the token of a variable.
struct ForgeToken {
    variable: &'static str,
    header: &'static str,
    value: String,
}

/// Host of the CI system.
#[derive(Clone, PartialEq, Eq)]
enum CiHost {
    /// Host with its port.
    Host(Host),
    /// Host on any port: the CI system does not report the port.
    Name(Host),
}

impl CiHost {
    fn of(text: &str) -> Option<CiHost> {
        let host: Host = text.parse().ok()?;
        Some(if has_port(&host) {
            CiHost::Host(host)
        } else {
            CiHost::Name(host)
        })
    }

    /// Returns the host of a URL, with its port.
    fn at(url: &str) -> Option<CiHost> {
        let url = Url::parse(url).ok()?;
        let name = url.host_str()?;
        url.port()
            .map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
            .parse()
            .ok()
            .map(CiHost::Host)
    }

    fn is(&self, host: &Host) -> bool {
        match self {
            CiHost::Host(own) => own == host,
            CiHost::Name(own) => own.name() == host.name(),
        }
    }
}

impl fmt::Display for CiHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CiHost::Host(host) | CiHost::Name(host) => host.fmt(formatter),
        }
    }
}

fn has_port(host: &Host) -> bool {
    host.as_str().len() > host.name().len() && !host.as_str().ends_with(']')
}

impl ForgeCredentials {
    pub fn new(kind: ForgeKind, variables: Variables) -> ForgeCredentials {
        ForgeCredentials {
            kind,
            purpose: TokenPurpose::Repositories,
            variables,
        }
    }

    /// Returns the credentials for another API of the server.
    #[must_use]
    pub fn for_purpose(self, purpose: TokenPurpose) -> ForgeCredentials {
        ForgeCredentials { purpose, ..self }
    }

    /// Returns the variable with the token that is sent to `host`; `None` if no token is set. Fails
    /// like [`find`](Self::find).
    pub fn variable(&self, host: &Host) -> Result<Option<&'static str>, CredentialError> {
        Ok(self.token(host)?.map(|token| token.variable))
    }

    /// Returns the credential for `host`; `Anonymous` if no token is set. Fails if none of the
    /// tokens that are set is allowed for the host.
    pub fn find(&self, host: &Host) -> Result<Credential, CredentialError> {
        Ok(self
            .token(host)?
            .map_or(Credential::Anonymous, |token| Credential::Header {
                name: token.header,
                value: Secret::new(token.value),
            }))
    }

    fn token(&self, host: &Host) -> Result<Option<ForgeToken>, CredentialError> {
        let private = (env::GITLAB_TOKEN, "private-token");
        let deploy = (env::GITLAB_DEPLOY_TOKEN, "deploy-token");
        let job = (env::CI_JOB_TOKEN, "job-token");
        let gitea = (env::GITEA_TOKEN, "authorization");
        let gitea_job = (env::GITHUB_TOKEN, "authorization");
        let candidates = match (self.kind, self.purpose) {
            (ForgeKind::Gitlab, TokenPurpose::Repositories) => vec![private, job],
            (ForgeKind::Gitlab, TokenPurpose::Packages) => vec![private, job, deploy],
            (ForgeKind::Gitlab, TokenPurpose::PackageFiles) => vec![private, deploy, job],
            (ForgeKind::Gitea, _) if self.is_gitea_job() => vec![gitea, gitea_job],
            (ForgeKind::Gitea, _) => vec![gitea],
        };
        let mut problem = None;
        for (variable, header) in candidates {
            let Some(token) = self.get(variable) else {
                continue;
            };
            let refusal = match variable {
                env::CI_JOB_TOKEN if !self.is_of_job(host) => Some(self.job_token_refusal(host)),
                // Every job of Gitea has this token, so another host is no mistake.
                env::GITHUB_TOKEN if !self.is_of_job(host) => continue,
                env::CI_JOB_TOKEN | env::GITHUB_TOKEN => None,
                _ => self.refusal(variable, host),
            };
            if refusal.is_none() {
                return Ok(Some(ForgeToken {
                    variable,
                    header,
                    value: self.header_value(token),
                }));
            }
            problem = problem.or(refusal);
        }
        problem.map_or(Ok(None), Err)
    }

    /// Returns true if a job's own token may be sent to `host`.
    fn is_of_job(&self, host: &Host) -> bool {
        self.job_hosts().iter().any(|own| own.is(host))
    }

    /// Returns the value of the header that sends a token.
    fn header_value(&self, token: &str) -> String {
        match self.kind {
            ForgeKind::Gitlab => token.to_owned(),
            ForgeKind::Gitea => format!("token {token}"),
        }
    }

    /// Returns Gitea's token as a credential for the container registry of `host`, with its
    /// variable; `None` if it is not allowed for the host. Gitea checks only the password.
    pub(super) fn registry_credential(&self, host: &Host) -> Option<(&'static str, Credential)> {
        let variable = self.variable(host).ok().flatten()?;
        let credential = Credential::Basic {
            username: "token".to_owned(),
            password: Secret::new(self.get(variable)?),
        };
        Some((variable, credential))
    }

    /// Returns true in a job of Gitea or Forgejo Actions. The token of a job of GitHub has another
    /// server.
    fn is_gitea_job(&self) -> bool {
        [env::GITEA_ACTIONS, env::FORGEJO_ACTIONS]
            .iter()
            .any(|name| self.get(name).is_some())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.variables.get_filled(name)
    }

    /// Returns the reason why the token in `variable` is not allowed for `host`; `None` if it is.
    fn refusal(&self, variable: &str, host: &Host) -> Option<CredentialError> {
        let refused = |problem: String| {
            let hint = format!(
                "to send the token to {host}, set IMGLIFE_TOKEN_HOST={host} in the CI settings, where a merge request cannot change it; otherwise \
                 check who changed `registry.url`, `registry.api_url` or `hosts`"
            );
            Some(CredentialError {
                host: host.clone(),
                problem,
                hint: Some(hint),
                source: None,
            })
        };
        if let Some(named) = self.get(env::IMGLIFE_TOKEN_HOST) {
            let named = CiHost::of(named).map(|own| match own {
                CiHost::Name(own) if self.variables.permissions().is_untrusted() => {
                    CiHost::Host(own)
                }
                own => own,
            });
            return match named {
                Some(own) if own.is(host) => None,
                Some(own) => refused(format!(
                    "{variable} is not sent to this host: IMGLIFE_TOKEN_HOST allows only {own}"
                )),
                None => refused(format!(
                    "{variable} is not sent to this host: IMGLIFE_TOKEN_HOST is not a valid host"
                )),
            };
        }
        if !self.is_in_ci() && !self.variables.permissions().is_untrusted() {
            return None;
        }
        match self.server() {
            Some(own) if own.is(host) => None,
            Some(own) => refused(format!(
                "{variable} is not sent to this host: in CI it is sent only to the job's server, {own}"
            )),
            None => refused(format!(
                "{variable} is not sent to this host: in CI it is sent only to the job's server, and neither CI_SERVER_HOST nor \
                 GITHUB_SERVER_URL is set"
            )),
        }
    }

    fn job_token_refusal(&self, host: &Host) -> CredentialError {
        let own = self
            .job_hosts()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" and ");
        let own = if own.is_empty() {
            "CI_SERVER_HOST, which is not set".to_owned()
        } else {
            own
        };
        CredentialError {
            host: host.clone(),
            problem: format!(
                "CI_JOB_TOKEN is not sent to this host: a job token is sent only to {own}"
            ),
            hint: Some(format!(
                "to keep the records on {host}, set GITLAB_TOKEN to a token of that server and IMGLIFE_TOKEN_HOST={host}, both in the CI settings; \
                 otherwise check who changed `registry.url`, `registry.api_url` or `hosts`"
            )),
            source: None,
        }
    }

    fn is_in_ci(&self) -> bool {
        [
            env::CI,
            env::GITLAB_CI,
            env::GITHUB_ACTIONS,
            env::GITEA_ACTIONS,
            env::FORGEJO_ACTIONS,
        ]
        .iter()
        .any(|name| {
            self.get(name)
                .is_some_and(|value| !matches!(value, "false" | "0"))
        })
    }

    /// Returns the server of the job.
    fn server(&self) -> Option<CiHost> {
        // The URL has the port also where it is the default one.
        if self.variables.permissions().is_untrusted()
            && let Some(url) = self.get(env::CI_SERVER_URL)
        {
            return CiHost::at(url);
        }
        if let Some(name) = self.get(env::CI_SERVER_HOST) {
            return match self.get(env::CI_SERVER_PORT) {
                // URLs omit these default ports.
                Some("443" | "80") => name.parse().ok().map(CiHost::Host),
                Some(port)
                    if CiHost::of(name).is_some_and(|own| matches!(own, CiHost::Name(_))) =>
                {
                    format!("{name}:{port}").parse().ok().map(CiHost::Host)
                }
                _ => CiHost::of(name),
            };
        }
        CiHost::at(self.get(env::GITHUB_SERVER_URL)?)
    }

    /// Returns the hosts that a job's own token may be sent to.
    fn job_hosts(&self) -> Vec<CiHost> {
        let own: &[&str] = match self.kind {
            ForgeKind::Gitlab => &[env::CI_SERVER_HOST, env::CI_SERVER_URL],
            ForgeKind::Gitea => &[env::GITHUB_SERVER_URL],
        };
        let server = own
            .iter()
            .find_map(|name| self.get(name))
            .and_then(|_| self.server());
        let registry = self
            .get(env::CI_REGISTRY)
            .filter(|_| self.kind == ForgeKind::Gitlab)
            .and_then(|registry| registry.parse().ok())
            .map(CiHost::Host);
        server.into_iter().chain(registry).collect()
    }
}

#[async_trait]
impl Credentials for ForgeCredentials {
    async fn credential(
        &self,
        host: &Host,
        _: Option<&RepositoryPath>,
    ) -> Result<Credential, CredentialError> {
        self.find(host)
    }

    async fn source(
        &self,
        host: &Host,
        _: Option<&RepositoryPath>,
    ) -> Result<Option<String>, CredentialError> {
        Ok(self.variable(host)?.map(str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GITLAB_JOB: [(&str, &str); 5] = [
        ("CI", "true"),
        ("GITLAB_CI", "true"),
        ("CI_SERVER_HOST", "gitlab.example"),
        ("CI_SERVER_PORT", "443"),
        ("CI_REGISTRY", "registry.gitlab.example:5050"),
    ];
    const GITEA_JOB: [(&str, &str); 3] = [
        ("CI", "true"),
        ("GITEA_ACTIONS", "true"),
        ("GITHUB_SERVER_URL", "https://gitea.example:3000/git"),
    ];

    /// Returns the header that is sent, or the error.
    fn sent(kind: ForgeKind, variables: &[&[(&str, &str)]], host: &str) -> String {
        let variables: Variables = variables
            .iter()
            .flat_map(|part| part.iter().copied())
            .collect();
        match ForgeCredentials::new(kind, variables).find(&host.parse().expect("a host")) {
            Ok(Credential::Header { name, value }) => format!("{name}: {}", value.expose()),
            Ok(Credential::Anonymous) => "nothing".to_owned(),
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                let text = format!("{error} ({})", error.hint.clone().unwrap_or_default());
                assert!(
                    !text.contains("hunter2") && !format!("{error:?}").contains("hunter2"),
                    "{text}"
                );
                text
            }
        }
    }

    #[test]
    fn token_outside_ci_is_sent_to_any_configured_host() {
        let tokens = [("GITLAB_TOKEN", "hunter2"), ("GITEA_TOKEN", "hunter22")];
        assert_eq!(
            sent(ForgeKind::Gitlab, &[&tokens], "any.example"),
            "private-token: hunter2"
        );
        assert_eq!(
            sent(
                ForgeKind::Gitlab,
                &[&tokens, &[("CI", "false")]],
                "any.example"
            ),
            "private-token: hunter2"
        );
        assert_eq!(
            sent(ForgeKind::Gitea, &[&tokens], "any.example:3000"),
            "authorization: token hunter22"
        );
        assert_eq!(sent(ForgeKind::Gitlab, &[], "any.example"), "nothing");
        assert_eq!(
            sent(ForgeKind::Gitlab, &[&[("GITLAB_TOKEN", "")]], "any.example"),
            "nothing"
        );
    }

    #[test]
    fn token_in_ci_is_sent_only_to_the_jobs_server() {
        let token = [("GITLAB_TOKEN", "hunter2")];
        assert_eq!(
            sent(ForgeKind::Gitlab, &[&GITLAB_JOB, &token], "gitlab.example"),
            "private-token: hunter2"
        );
        assert_eq!(
            sent(ForgeKind::Gitlab, &[&GITLAB_JOB, &token], "evil.example"),
            "credentials for evil.example: GITLAB_TOKEN is not sent to this host: in CI it is sent only to the job's server, gitlab.example \
             (to send the token to evil.example, set IMGLIFE_TOKEN_HOST=evil.example in the CI settings, where a merge request cannot \
             change it; otherwise check who changed `registry.url`, `registry.api_url` or `hosts`)"
        );
        for host in [
            "gitlab.example:8443",
            "gitlab.example.evil.example",
            "registry.gitlab.example:5050",
        ] {
            assert!(
                sent(ForgeKind::Gitlab, &[&GITLAB_JOB, &token], host)
                    .contains("GITLAB_TOKEN is not sent to this host"),
                "{host}"
            );
        }
        let token = [("GITEA_TOKEN", "hunter2")];
        assert_eq!(
            sent(
                ForgeKind::Gitea,
                &[&GITEA_JOB, &token],
                "gitea.example:3000"
            ),
            "authorization: token hunter2"
        );
        for host in ["evil.example", "gitea.example", "gitea.example:3001"] {
            assert!(
                sent(ForgeKind::Gitea, &[&GITEA_JOB, &token], host)
                    .contains("the job's server, gitea.example:3000"),
                "{host}"
            );
        }
    }

    #[test]
    fn job_token_is_sent_only_to_its_server_and_registry() {
        let token = [("CI_JOB_TOKEN", "hunter2")];
        for host in ["gitlab.example", "registry.gitlab.example:5050"] {
            assert_eq!(
                sent(ForgeKind::Gitlab, &[&GITLAB_JOB, &token], host),
                "job-token: hunter2"
            );
        }
        let refused = sent(ForgeKind::Gitlab, &[&GITLAB_JOB, &token], "evil.example");
        assert!(
            refused.contains("CI_JOB_TOKEN is not sent to this host: a job token is sent only to gitlab.example and registry.gitlab.example:5050"),
            "{refused}"
        );
        assert!(
            refused.contains(
                "set GITLAB_TOKEN to a token of that server and IMGLIFE_TOKEN_HOST=evil.example"
            ),
            "{refused}"
        );
        // Allowing the host is not enough: the job token is not valid elsewhere.
        let named = [("IMGLIFE_TOKEN_HOST", "evil.example")];
        assert!(
            sent(
                ForgeKind::Gitlab,
                &[&GITLAB_JOB, &token, &named],
                "evil.example"
            )
            .contains("CI_JOB_TOKEN is not sent to this host")
        );
        assert!(
            sent(ForgeKind::Gitlab, &[&token], "gitlab.example")
                .contains("CI_SERVER_HOST, which is not set")
        );
        assert_eq!(
            sent(ForgeKind::Gitea, &[&GITLAB_JOB, &token], "gitlab.example"),
            "nothing"
        );
    }

    #[test]
    fn deploy_token_is_for_packages_of_the_jobs_server() {
        let sent = |variables: &[&[(&str, &str)]], host: &str, purpose: TokenPurpose| {
            let variables: Variables = variables
                .iter()
                .flat_map(|part| part.iter().copied())
                .collect();
            let host = host.parse().expect("a host");
            let credentials =
                ForgeCredentials::new(ForgeKind::Gitlab, variables).for_purpose(purpose);
            let variable = credentials.variable(&host).ok().flatten();
            match credentials.find(&host) {
                Ok(Credential::Header { name, value }) => {
                    format!("{name}: {} ({})", value.expose(), variable.expect("a name"))
                }
                Ok(_) => "nothing".to_owned(),
                Err(error) => error.to_string(),
            }
        };
        let deploy = [("GITLAB_DEPLOY_TOKEN", "hunter2")];
        let job = [("CI_JOB_TOKEN", "hunter22")];
        let personal = [("GITLAB_TOKEN", "hunter23")];
        let deploy_token = "deploy-token: hunter2 (GITLAB_DEPLOY_TOKEN)";
        let job_token = "job-token: hunter22 (CI_JOB_TOKEN)";
        let all = [
            TokenPurpose::Repositories,
            TokenPurpose::Packages,
            TokenPurpose::PackageFiles,
        ];
        for (variables, expected) in [
            (
                vec![&GITLAB_JOB[..], &deploy, &job],
                [job_token, job_token, deploy_token],
            ),
            (
                vec![&GITLAB_JOB[..], &deploy],
                ["nothing", deploy_token, deploy_token],
            ),
            (
                vec![&GITLAB_JOB[..], &deploy, &job, &personal],
                ["private-token: hunter23 (GITLAB_TOKEN)"; 3],
            ),
        ] {
            let found = all.map(|purpose| sent(&variables, "gitlab.example", purpose));
            assert_eq!(found, expected);
        }
        let refused = sent(
            &[&GITLAB_JOB, &deploy],
            "evil.example",
            TokenPurpose::Packages,
        );
        assert!(
            refused.contains("GITLAB_DEPLOY_TOKEN is not sent to this host"),
            "{refused}"
        );
    }

    #[test]
    fn token_of_a_gitea_job_is_sent_only_to_its_server() {
        let own = [("GITHUB_TOKEN", "hunter2")];
        let token = [("GITEA_TOKEN", "hunter22")];
        let at =
            |variables: &[&[(&str, &str)]], host: &str| sent(ForgeKind::Gitea, variables, host);
        assert_eq!(
            at(&[&GITEA_JOB, &own], "gitea.example:3000"),
            "authorization: token hunter2"
        );
        assert_eq!(
            at(&[&GITEA_JOB, &own, &token], "gitea.example:3000"),
            "authorization: token hunter22"
        );
        let empty = [("GITEA_TOKEN", "")];
        assert_eq!(
            at(&[&GITEA_JOB, &own, &empty], "gitea.example:3000"),
            "authorization: token hunter2"
        );
        for host in ["gitea.example", "evil.example:3000"] {
            assert_eq!(at(&[&GITEA_JOB, &own], host), "nothing", "{host}");
        }
        // The variable belongs to GitHub elsewhere.
        let github = [("CI", "true"), ("GITHUB_ACTIONS", "true"), GITEA_JOB[2]];
        assert_eq!(at(&[&github, &own], "gitea.example:3000"), "nothing");
        assert_eq!(at(&[&own], "gitea.example:3000"), "nothing");
        // A host that IMGLIFE_TOKEN_HOST names is for other tokens.
        let named = [("IMGLIFE_TOKEN_HOST", "other.example")];
        assert_eq!(at(&[&GITEA_JOB, &own, &named], "other.example"), "nothing");
    }

    #[test]
    fn configured_token_takes_precedence_over_the_job_token() {
        let tokens = [("GITLAB_TOKEN", "hunter2"), ("CI_JOB_TOKEN", "hunter22")];
        assert_eq!(
            sent(ForgeKind::Gitlab, &[&GITLAB_JOB, &tokens], "gitlab.example"),
            "private-token: hunter2"
        );
        let named = [("IMGLIFE_TOKEN_HOST", "other.example")];
        assert_eq!(
            sent(
                ForgeKind::Gitlab,
                &[&GITLAB_JOB, &tokens, &named],
                "other.example"
            ),
            "private-token: hunter2"
        );
        assert_eq!(
            sent(
                ForgeKind::Gitlab,
                &[&GITLAB_JOB, &tokens, &named],
                "gitlab.example"
            ),
            "job-token: hunter22"
        );
        assert!(
            sent(
                ForgeKind::Gitlab,
                &[&GITLAB_JOB, &tokens, &named],
                "evil.example"
            )
            .contains("GITLAB_TOKEN is not sent to this host")
        );
    }

    #[test]
    fn token_host_replaces_the_jobs_server() {
        let token = [("GITEA_TOKEN", "hunter2")];
        let at = |named: &'static str, host: &str| {
            sent(
                ForgeKind::Gitea,
                &[&GITEA_JOB, &token, &[("IMGLIFE_TOKEN_HOST", named)]],
                host,
            )
        };
        assert_eq!(
            at("forge.example", "forge.example"),
            "authorization: token hunter2"
        );
        assert_eq!(
            at("forge.example", "forge.example:3000"),
            "authorization: token hunter2"
        );
        assert!(
            at("forge.example:3000", "forge.example").contains("allows only forge.example:3000")
        );
        assert!(
            at("forge.example", "gitea.example:3000")
                .contains("IMGLIFE_TOKEN_HOST allows only forge.example")
        );
        assert!(
            at("https://forge.example", "forge.example")
                .contains("IMGLIFE_TOKEN_HOST is not a valid host")
        );
        // Also outside CI.
        let named = [("IMGLIFE_TOKEN_HOST", "forge.example")];
        assert!(
            sent(ForgeKind::Gitea, &[&token, &named], "other.example")
                .contains("allows only forge.example")
        );
    }

    #[test]
    fn unknown_server_requires_the_token_host() {
        let token = [("GITLAB_TOKEN", "hunter2")];
        assert!(
            sent(
                ForgeKind::Gitlab,
                &[&[("CI", "true")], &token],
                "gitlab.example"
            )
            .contains("neither CI_SERVER_HOST nor")
        );
        let job = [("GITLAB_CI", "true"), ("CI_SERVER_HOST", "gitlab.example")];
        assert_eq!(
            sent(ForgeKind::Gitlab, &[&job, &token], "gitlab.example:8443"),
            "private-token: hunter2"
        );
        let port = [("CI_SERVER_PORT", "8443")];
        assert_eq!(
            sent(
                ForgeKind::Gitlab,
                &[&job, &port, &token],
                "gitlab.example:8443"
            ),
            "private-token: hunter2"
        );
        assert!(
            sent(ForgeKind::Gitlab, &[&job, &port, &token], "gitlab.example").contains("not sent")
        );
    }
}
