//! The tokens of GitLab and Gitea, for their package registries and repository files.
//!
//! What a configuration names is decided by who may edit it, which in CI is everybody who may open
//! a merge request. There a token goes only where the CI system itself says that it belongs.

use std::fmt;

use async_trait::async_trait;
use url::Url;

use super::{Credential, CredentialError, Credentials};
use crate::model::env;
use crate::model::{Host, RepositoryPath, Secret, Variables};

/// What kind of server a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forge {
    Gitlab,
    /// Gitea or Forgejo.
    Gitea,
}

/// The token for a server: `GITLAB_TOKEN`, else `CI_JOB_TOKEN`; `GITEA_TOKEN`. One that may not go
/// to a server is not sent to it.
pub struct ForgeCredentials {
    forge: Forge,
    variables: Variables,
}

/// A host of the CI system's own.
#[derive(Clone, PartialEq, Eq)]
enum Own {
    /// The host with its port.
    Host(Host),
    /// The host on whatever port: its port is not told.
    Name(Host),
}

impl Own {
    fn of(text: &str) -> Option<Own> {
        let host: Host = text.parse().ok()?;
        Some(if has_port(&host) {
            Own::Host(host)
        } else {
            Own::Name(host)
        })
    }

    fn is(&self, host: &Host) -> bool {
        match self {
            Own::Host(own) => own == host,
            Own::Name(own) => own.name() == host.name(),
        }
    }
}

impl fmt::Display for Own {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Own::Host(host) | Own::Name(host) => host.fmt(formatter),
        }
    }
}

fn has_port(host: &Host) -> bool {
    host.as_str().len() > host.name().len() && !host.as_str().ends_with(']')
}

impl ForgeCredentials {
    pub fn new(forge: Forge, variables: Variables) -> ForgeCredentials {
        ForgeCredentials { forge, variables }
    }

    /// Returns the variable that holds what is presented to `host`, `None` when no token is set.
    /// Fails as [`find`](Self::find) does.
    pub fn variable(&self, host: &Host) -> Result<Option<&'static str>, CredentialError> {
        Ok(match self.find(host)? {
            Credential::Header {
                name: "job-token", ..
            } => Some(env::CI_JOB_TOKEN),
            Credential::Header { .. } => Some(if self.forge == Forge::Gitlab {
                env::GITLAB_TOKEN
            } else {
                env::GITEA_TOKEN
            }),
            _ => None,
        })
    }

    /// Returns what is presented to `host`: `Anonymous` when no token is set. Fails when none of
    /// those that are set may go there.
    pub fn find(&self, host: &Host) -> Result<Credential, CredentialError> {
        let (variable, header) = match self.forge {
            Forge::Gitlab => (env::GITLAB_TOKEN, "private-token"),
            Forge::Gitea => (env::GITEA_TOKEN, "authorization"),
        };
        let mut problem = None;
        if let Some(token) = self.get(variable) {
            match self.refusal(variable, host) {
                None => {
                    let value = if self.forge == Forge::Gitea {
                        format!("token {token}")
                    } else {
                        token.to_owned()
                    };
                    return Ok(Credential::Header {
                        name: header,
                        value: Secret::new(value),
                    });
                }
                Some(error) => problem = Some(error),
            }
        }
        if let Some(token) = self
            .get(env::CI_JOB_TOKEN)
            .filter(|_| self.forge == Forge::Gitlab)
        {
            if self.job_hosts().iter().any(|own| own.is(host)) {
                return Ok(Credential::Header {
                    name: "job-token",
                    value: Secret::new(token),
                });
            }
            problem = problem.or_else(|| Some(self.job_token_refusal(host)));
        }
        problem.map_or(Ok(Credential::Anonymous), Err)
    }

    /// Returns Gitea's token as a login at the container registry of `host`, where it may go there.
    /// Gitea looks at the password only.
    pub(super) fn login(&self, host: &Host) -> Option<Credential> {
        let token = self
            .get(env::GITEA_TOKEN)
            .filter(|_| self.refusal(env::GITEA_TOKEN, host).is_none())?;
        Some(Credential::Basic {
            username: "token".to_owned(),
            password: Secret::new(token),
        })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.variables.get_filled(name)
    }

    /// Returns why the token that somebody set may not go to `host`; `None` when it may.
    fn refusal(&self, variable: &str, host: &Host) -> Option<CredentialError> {
        let refused = |problem: String| {
            let hint = format!(
                "if {host} is to have the token, set IMGLIFE_TOKEN_HOST={host} in the settings of the CI system, where a merge request cannot \
                 change it; if not, look at who changed `registry.url`, `registry.api_url` or `hosts`"
            );
            Some(CredentialError {
                host: host.clone(),
                problem,
                hint: Some(hint),
                source: None,
            })
        };
        if let Some(named) = self.get(env::IMGLIFE_TOKEN_HOST) {
            return match Own::of(named) {
                Some(own) if own.is(host) => None,
                Some(own) => refused(format!(
                    "{variable} is not sent there: IMGLIFE_TOKEN_HOST says that it is for {own}"
                )),
                None => refused(format!(
                    "{variable} is not sent there: IMGLIFE_TOKEN_HOST is no host"
                )),
            };
        }
        if !self.is_in_ci() {
            return None;
        }
        match self.server() {
            Some(own) if own.is(host) => None,
            Some(own) => refused(format!(
                "{variable} is not sent there: in CI it goes only to the server that the job runs for, {own}"
            )),
            None => refused(format!(
                "{variable} is not sent there: in CI it goes only to the server that the job runs for, which neither CI_SERVER_HOST nor \
                 GITHUB_SERVER_URL names"
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
            problem: format!("CI_JOB_TOKEN is not sent there: a job's token goes only to {own}"),
            hint: Some(format!(
                "if the records are to be at {host}, set GITLAB_TOKEN to a token of that server and IMGLIFE_TOKEN_HOST={host}, both in the settings \
                 of the CI system; if not, look at who changed `registry.url`, `registry.api_url` or `hosts`"
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

    /// Returns the server that a job runs for.
    fn server(&self) -> Option<Own> {
        if let Some(name) = self.get(env::CI_SERVER_HOST) {
            return match self.get(env::CI_SERVER_PORT) {
                // Addresses do not name these.
                Some("443" | "80") => name.parse().ok().map(Own::Host),
                Some(port) if Own::of(name).is_some_and(|own| matches!(own, Own::Name(_))) => {
                    format!("{name}:{port}").parse().ok().map(Own::Host)
                }
                _ => Own::of(name),
            };
        }
        let url = Url::parse(self.get(env::GITHUB_SERVER_URL)?).ok()?;
        let name = url.host_str()?;
        url.port()
            .map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
            .parse()
            .ok()
            .map(Own::Host)
    }

    /// Returns where a GitLab job's own token may go.
    fn job_hosts(&self) -> Vec<Own> {
        let server = self.get(env::CI_SERVER_HOST).and_then(|_| self.server());
        let registry = self
            .get(env::CI_REGISTRY)
            .and_then(|registry| registry.parse().ok())
            .map(Own::Host);
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

    /// Returns the header that is sent, or why there is none.
    fn sent(forge: Forge, variables: &[&[(&str, &str)]], host: &str) -> String {
        let variables: Variables = variables
            .iter()
            .flat_map(|part| part.iter().copied())
            .collect();
        match ForgeCredentials::new(forge, variables).find(&host.parse().expect("a host")) {
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
    fn outside_ci_a_token_goes_where_the_configuration_says() {
        let tokens = [("GITLAB_TOKEN", "hunter2"), ("GITEA_TOKEN", "hunter22")];
        assert_eq!(
            sent(Forge::Gitlab, &[&tokens], "any.example"),
            "private-token: hunter2"
        );
        assert_eq!(
            sent(Forge::Gitlab, &[&tokens, &[("CI", "false")]], "any.example"),
            "private-token: hunter2"
        );
        assert_eq!(
            sent(Forge::Gitea, &[&tokens], "any.example:3000"),
            "authorization: token hunter22"
        );
        assert_eq!(sent(Forge::Gitlab, &[], "any.example"), "nothing");
        assert_eq!(
            sent(Forge::Gitlab, &[&[("GITLAB_TOKEN", "")]], "any.example"),
            "nothing"
        );
    }

    #[test]
    fn a_merge_request_that_edits_the_address_carries_no_token_away() {
        let token = [("GITLAB_TOKEN", "hunter2")];
        assert_eq!(
            sent(Forge::Gitlab, &[&GITLAB_JOB, &token], "gitlab.example"),
            "private-token: hunter2"
        );
        assert_eq!(
            sent(Forge::Gitlab, &[&GITLAB_JOB, &token], "evil.example"),
            "credentials for evil.example: GITLAB_TOKEN is not sent there: in CI it goes only to the server that the job runs for, \
             gitlab.example (if evil.example is to have the token, set IMGLIFE_TOKEN_HOST=evil.example in the settings of the CI system, \
             where a merge request cannot change it; if not, look at who changed `registry.url`, `registry.api_url` or `hosts`)"
        );
        for host in [
            "gitlab.example:8443",
            "gitlab.example.evil.example",
            "registry.gitlab.example:5050",
        ] {
            assert!(
                sent(Forge::Gitlab, &[&GITLAB_JOB, &token], host)
                    .contains("GITLAB_TOKEN is not sent there"),
                "{host}"
            );
        }
        let token = [("GITEA_TOKEN", "hunter2")];
        assert_eq!(
            sent(Forge::Gitea, &[&GITEA_JOB, &token], "gitea.example:3000"),
            "authorization: token hunter2"
        );
        for host in ["evil.example", "gitea.example", "gitea.example:3001"] {
            assert!(
                sent(Forge::Gitea, &[&GITEA_JOB, &token], host)
                    .contains("runs for, gitea.example:3000"),
                "{host}"
            );
        }
    }

    #[test]
    fn a_jobs_token_goes_to_its_own_server_and_registry_only() {
        let token = [("CI_JOB_TOKEN", "hunter2")];
        for host in ["gitlab.example", "registry.gitlab.example:5050"] {
            assert_eq!(
                sent(Forge::Gitlab, &[&GITLAB_JOB, &token], host),
                "job-token: hunter2"
            );
        }
        let refused = sent(Forge::Gitlab, &[&GITLAB_JOB, &token], "evil.example");
        assert!(
            refused.contains("CI_JOB_TOKEN is not sent there: a job's token goes only to gitlab.example and registry.gitlab.example:5050"),
            "{refused}"
        );
        assert!(
            refused.contains(
                "set GITLAB_TOKEN to a token of that server and IMGLIFE_TOKEN_HOST=evil.example"
            ),
            "{refused}"
        );
        // Naming the host is not enough: the token is of no use elsewhere.
        let named = [("IMGLIFE_TOKEN_HOST", "evil.example")];
        assert!(
            sent(
                Forge::Gitlab,
                &[&GITLAB_JOB, &token, &named],
                "evil.example"
            )
            .contains("CI_JOB_TOKEN is not sent there")
        );
        assert!(
            sent(Forge::Gitlab, &[&token], "gitlab.example")
                .contains("CI_SERVER_HOST, which is not set")
        );
        assert_eq!(
            sent(Forge::Gitea, &[&GITLAB_JOB, &token], "gitlab.example"),
            "nothing"
        );
    }

    #[test]
    fn a_token_that_was_set_wins_over_the_jobs_where_it_may_go() {
        let tokens = [("GITLAB_TOKEN", "hunter2"), ("CI_JOB_TOKEN", "hunter22")];
        assert_eq!(
            sent(Forge::Gitlab, &[&GITLAB_JOB, &tokens], "gitlab.example"),
            "private-token: hunter2"
        );
        let named = [("IMGLIFE_TOKEN_HOST", "other.example")];
        assert_eq!(
            sent(
                Forge::Gitlab,
                &[&GITLAB_JOB, &tokens, &named],
                "other.example"
            ),
            "private-token: hunter2"
        );
        assert_eq!(
            sent(
                Forge::Gitlab,
                &[&GITLAB_JOB, &tokens, &named],
                "gitlab.example"
            ),
            "job-token: hunter22"
        );
        assert!(
            sent(
                Forge::Gitlab,
                &[&GITLAB_JOB, &tokens, &named],
                "evil.example"
            )
            .contains("GITLAB_TOKEN is not sent there")
        );
    }

    #[test]
    fn a_host_that_is_named_takes_the_place_of_the_jobs_server() {
        let token = [("GITEA_TOKEN", "hunter2")];
        let at = |named: &'static str, host: &str| {
            sent(
                Forge::Gitea,
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
        assert!(at("forge.example:3000", "forge.example").contains("it is for forge.example:3000"));
        assert!(
            at("forge.example", "gitea.example:3000")
                .contains("IMGLIFE_TOKEN_HOST says that it is for forge.example")
        );
        assert!(
            at("https://forge.example", "forge.example").contains("IMGLIFE_TOKEN_HOST is no host")
        );
        // Outside CI as well: whoever sets it wants it.
        let named = [("IMGLIFE_TOKEN_HOST", "forge.example")];
        assert!(
            sent(Forge::Gitea, &[&token, &named], "other.example")
                .contains("it is for forge.example")
        );
    }

    #[test]
    fn where_no_server_is_known_the_host_must_be_named() {
        let token = [("GITLAB_TOKEN", "hunter2")];
        assert!(
            sent(
                Forge::Gitlab,
                &[&[("CI", "true")], &token],
                "gitlab.example"
            )
            .contains("which neither CI_SERVER_HOST nor")
        );
        let job = [("GITLAB_CI", "true"), ("CI_SERVER_HOST", "gitlab.example")];
        assert_eq!(
            sent(Forge::Gitlab, &[&job, &token], "gitlab.example:8443"),
            "private-token: hunter2"
        );
        let port = [("CI_SERVER_PORT", "8443")];
        assert_eq!(
            sent(Forge::Gitlab, &[&job, &port, &token], "gitlab.example:8443"),
            "private-token: hunter2"
        );
        assert!(sent(Forge::Gitlab, &[&job, &port, &token], "gitlab.example").contains("not sent"));
    }
}
