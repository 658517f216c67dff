//! Checking a registry: its reachability, the credentials, and their permissions for the needed
//! repositories.
//!
//! Sends only GET and HEAD requests, each once. Permissions are read from the token; without a
//! token they stay unknown.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};

use super::classify::is_unknown_repository;
use super::registries::RemoteRegistries;
use super::repository::{API_ROOT, RemoteRepository};
use super::tags::TagsPage;
use crate::error::chain;
use crate::http::{
    self, Method, QuotaStatus, Request, RequestAccess, RequestKind, RequestTarget, StatusCode,
    TokenGrants,
};
use crate::model::{Digest, Host, RepositoryPath};
use crate::probe::{ProbeFinding, ProbeReport, RequiredAccess};
use crate::registry::store::Referrers;

const PROBE: RequestKind = RequestKind("look");

/// Number of repositories that are checked concurrently.
const CONCURRENT_REPOSITORIES: usize = 4;

/// Result of checking a repository.
struct RepositoryProbe {
    findings: Vec<ProbeFinding>,
    /// A tag, if the repository may be read.
    tag: Option<String>,
    exists: bool,
}

impl RemoteRegistries {
    /// Checks `host` and the needed repositories on it. `has_credential` is true if a credential is
    /// configured.
    pub async fn probe(
        &self,
        host: &Host,
        wanted: &BTreeMap<RepositoryPath, RequiredAccess>,
        has_credential: bool,
    ) -> ProbeReport {
        let response = match self.http.inspect(host, API_ROOT).await {
            Ok(response) => response,
            Err(error) => return vec![self.unreachable(host, &error).await].into(),
        };
        let mut look = ProbeReport {
            findings: Vec::new(),
            clock_offset: self.http.clock_offset(&response),
        };
        let scheme = self
            .http
            .address(host)
            .map(|url| url.scheme().to_owned())
            .unwrap_or_default();
        match response.status {
            StatusCode::OK | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                look.findings.push(ProbeFinding::ok(
                    "oci.reachable",
                    "",
                    format!("responds over {scheme}"),
                ));
            }
            status => {
                look.findings
                    .push(self.unexpected_status(host, status).await);
                return look;
            }
        }
        let credential = self
            .probe_credential(host, wanted, response.status, has_credential)
            .await;
        let is_rejected = credential.is_problem();
        look.findings.push(credential);
        if is_rejected {
            return look;
        }
        let repositories = wanted.iter().map(|(path, wanted)| {
            let at = RemoteRepository {
                http: &self.http,
                host,
                path,
            };
            async move { (at, *wanted, at.probe(*wanted, has_credential).await) }
        });
        let probes: Vec<_> = stream::iter(repositories)
            .buffered(CONCURRENT_REPOSITORIES)
            .collect()
            .await;
        let readable = probes
            .iter()
            .find_map(|(at, _, probe)| Some((*at, probe.tag.clone()?)));
        let with_referrers = probes
            .iter()
            .find(|(_, wanted, probe)| wanted.referrers && probe.exists)
            .map(|(at, ..)| *at);
        look.findings
            .extend(probes.into_iter().flat_map(|(.., probe)| probe.findings));
        if let Some(at) = with_referrers {
            look.findings.push(at.probe_referrers().await);
        }
        if let Some((at, tag)) = readable {
            look.findings
                .extend(at.probe_quota(&tag, has_credential).await);
        }
        look
    }

    async fn unreachable(&self, host: &Host, error: &http::Error) -> ProbeFinding {
        let other = self.scheme_fix(host).await;
        ProbeFinding {
            fix: other.or_else(|| error.hint()),
            ..ProbeFinding::wrong("oci.reachable", "", chain(error))
        }
    }

    async fn unexpected_status(&self, host: &Host, status: StatusCode) -> ProbeFinding {
        let wrong = ProbeFinding::wrong(
            "oci.reachable",
            "",
            format!("responds to {API_ROOT} with {status}, so it is not a registry"),
        );
        let fix = self.scheme_fix(host).await;
        wrong.fix(
            fix.unwrap_or_else(|| format!("check that {host} is a registry and that it works; the response may come from a proxy in front of it")),
        )
    }

    /// Returns a fix if the host speaks HTTPS and is configured for plain HTTP, or the other way
    /// round.
    async fn scheme_fix(&self, host: &Host) -> Option<String> {
        if !self
            .http
            .answers_on_other_scheme(host, API_ROOT)
            .await
            .unwrap_or(false)
        {
            return None;
        }
        let url = self.http.address(host).ok()?;
        Some(if url.scheme() == "http" {
            format!(
                "the host speaks HTTPS: remove {host} from `registry.insecure_registries` (and `http://` from `hosts.\"{host}\".endpoint`)"
            )
        } else {
            format!(
                "the host speaks plain HTTP: if that is intended, add {host} to `registry.insecure_registries`"
            )
        })
    }

    /// Checks if the host accepts the configured credential.
    async fn probe_credential(
        &self,
        host: &Host,
        wanted: &BTreeMap<RepositoryPath, RequiredAccess>,
        status: StatusCode,
        has_credential: bool,
    ) -> ProbeFinding {
        if status == StatusCode::OK {
            let cause = if has_credential {
                "not required for reading; the configured credential was not tried"
            } else {
                "not required"
            };
            return ProbeFinding::ok("oci.login", "", cause);
        }
        let path = wanted.keys().next().cloned();
        let request = Request::new(
            Method::GET,
            host,
            RequestTarget::Path(API_ROOT.to_owned()),
            PROBE,
            RequestAccess {
                path,
                scopes: Vec::new(),
                challenge_path: None,
            },
        );
        match self.http.send_once(request).await {
            Ok(_) if has_credential => ProbeFinding::ok("oci.login", "", "accepted"),
            Ok(_) => ProbeFinding::ok(
                "oci.login",
                "",
                "none is configured; anonymous access is allowed",
            ),
            // With tokens per repository, anonymous access to some of them may be allowed.
            Err(http::Error::Unauthorized { .. })
                if !has_credential && self.uses_tokens(host).await =>
            {
                ProbeFinding::ok(
                    "oci.login",
                    "",
                    "none is configured; the permissions of anonymous access are shown below",
                )
            }
            Err(error) => {
                let fix = error.hint();
                let cause = chain(&error);
                let finding = if has_credential {
                    ProbeFinding::wrong("oci.login", "", cause)
                } else {
                    ProbeFinding::missing("oci.login", "", cause)
                };
                ProbeFinding { fix, ..finding }
            }
        }
    }

    async fn uses_tokens(&self, host: &Host) -> bool {
        !matches!(
            self.http.grants(host, &RequestAccess::default()).await,
            Ok(TokenGrants::NoChallenge | TokenGrants::Unknown)
        )
    }
}

impl RemoteRepository<'_> {
    async fn probe(&self, wanted: RequiredAccess, has_credential: bool) -> RepositoryProbe {
        let mut findings = Vec::new();
        let push = if wanted.push {
            Some(self.grants("pull,push").await)
        } else {
            None
        };
        let may_push = matches!(&push, Some(Ok(grants)) if grants.allow("push") == Some(true));
        let mut request = self.request(Method::GET, "tags/list?n=1", PROBE, "pull");
        request.limit = 8 * 1024 * 1024;
        let listed = self.http.send_once(request).await;
        let mut probe = RepositoryProbe {
            findings: Vec::new(),
            tag: None,
            exists: listed.is_ok(),
        };
        findings.push(match &listed {
            Ok(response) => {
                let page = TagsPage::names(&response.body);
                match page {
                    Ok(tags) => {
                        probe.tag = tags
                            .into_iter()
                            .next()
                            .filter(|tag| tag.parse::<crate::model::Tag>().is_ok());
                        let cause = if probe.tag.is_none() {
                            "allowed; the repository has no tags"
                        } else {
                            "allowed"
                        };
                        self.finding(ProbeFinding::ok, "oci.pull", cause)
                    }
                    Err(_) => self.finding(
                        ProbeFinding::wrong,
                        "oci.pull",
                        "the response is not a list of tags",
                    ),
                }
            }
            Err(error) if is_unknown_repository(error) && wanted.source => {
                self.finding(
                    ProbeFinding::missing,
                    "oci.pull",
                    "the repository does not exist",
                )
                .fix("correct its name, or check the permissions of the credential: some registries respond the same if a permission is missing")
            }
            Err(error) if is_unknown_repository(error) || (may_push && is_denied(error)) => self.finding(
                ProbeFinding::ok,
                "oci.pull",
                "does not exist yet; the first push creates it",
            ),
            Err(error) => self.denied("oci.pull", error, has_credential, "to read this repository"),
        });
        if let Some(granted) = push {
            findings.push(self.allowed("oci.push", "push", granted, has_credential));
        }
        if wanted.delete {
            let granted = self.grants("pull,delete").await;
            findings.push(self.allowed("oci.delete", "delete", granted, has_credential));
        }
        probe.findings = findings;
        probe
    }

    async fn grants(&self, actions: &str) -> Result<TokenGrants, http::Error> {
        self.http.grants(self.host, &self.access(actions)).await
    }

    fn allowed(
        &self,
        check: &'static str,
        operation: &str,
        granted: Result<TokenGrants, http::Error>,
        has_credential: bool,
    ) -> ProbeFinding {
        let granted = match granted {
            Ok(granted) => granted,
            Err(error) => {
                return self.denied(check, &error, has_credential, &format!("to {operation}"));
            }
        };
        let scopes = match operation {
            "push" => {
                "GitLab: scope `write_registry`, role Developer; Gitea: scope `write:package`; Docker Hub: an access token to read and write"
            }
            _ => {
                "GitLab: scope `api`, role Developer or more; Gitea: scope `write:package`; Docker Hub: an access token to delete as well"
            }
        };
        match (granted.allow(operation), operation) {
            (Some(true), "push") => self.finding(ProbeFinding::ok, check, "allowed by the token of the registry"),
            (Some(true), _) => self.finding(
                ProbeFinding::ok,
                check,
                "allowed by the token of the registry; the first deletion shows if the registry supports deletions",
            ),
            (Some(false), _) if !has_credential => {
                let prefix = http::variable_prefix(self.host);
                self.finding(ProbeFinding::missing, check, format!("anonymous access does not allow to {operation}, and no credential is configured"))
                    .fix(format!("set {prefix}_USERNAME and {prefix}_PASSWORD (or {prefix}_TOKEN) to a credential that may {operation} ({scopes})"))
            }
            (Some(false), _) => self
                .finding(ProbeFinding::wrong, check, format!("the credential is accepted but lacks permission to {operation}"))
                .fix(format!("grant it the permission to {operation} to {} ({scopes}), or configure another credential", self.path)),
            (None, _) => {
                self.finding(ProbeFinding::unknown, check, format!("the registry does not report this permission in advance; the first {operation} shows if it is granted"))
            }
        }
    }

    fn denied(
        &self,
        check: &'static str,
        error: &http::Error,
        has_credential: bool,
        what: &str,
    ) -> ProbeFinding {
        let cause = chain(error);
        match error {
            http::Error::Unauthorized { .. } if !has_credential => ProbeFinding {
                fix: error.hint(),
                ..self.finding(ProbeFinding::missing, check, cause)
            },
            error if is_denied(error) => {
                self.finding(ProbeFinding::wrong, check, cause).fix(format!(
                    "grant the credential the permission {what}, or configure another credential"
                ))
            }
            error => ProbeFinding {
                fix: error.hint(),
                ..self.finding(ProbeFinding::wrong, check, cause)
            },
        }
    }

    fn finding<D: AsRef<str>>(
        &self,
        make: fn(&'static str, String, D) -> ProbeFinding,
        check: &'static str,
        cause: D,
    ) -> ProbeFinding {
        make(check, self.path.to_string(), cause)
    }

    /// Checks if the registry lists referrers.
    async fn probe_referrers(&self) -> ProbeFinding {
        match self.referrers(&Digest::sha256(b"")).await {
            Ok(Referrers::Listed(_)) => {
                ProbeFinding::ok("oci.referrers", "", "the registry lists referrers")
            }
            Ok(_) => ProbeFinding::ok(
                "oci.referrers",
                "",
                "the registry does not list referrers; a tag for each image is used instead, according to the specification",
            ),
            Err(error) => ProbeFinding::unknown("oci.referrers", "", chain(&error)),
        }
    }

    /// Returns the number of pulls that are left, if the registry reports it. A HEAD does not count
    /// as a pull.
    async fn probe_quota(&self, tag: &str, has_credential: bool) -> Option<ProbeFinding> {
        let response = self
            .http
            .send_once(self.request(Method::HEAD, &format!("manifests/{tag}"), PROBE, "pull"))
            .await;
        let headers = match &response {
            Ok(response) => &response.headers,
            Err(error) if error.status() == Some(StatusCode::TOO_MANY_REQUESTS) => {
                let finding = ProbeFinding::wrong("oci.quota", "", "no pulls left at the moment");
                return Some(finding.fix(self.more_pulls(has_credential)).optional());
            }
            Err(_) => return None,
        };
        let quota = QuotaStatus::read(headers)?;
        let cause = format!("{} of {} pulls left", quota.remaining, quota.limit);
        Some(if quota.is_low() {
            ProbeFinding::wrong("oci.quota", "", cause)
                .fix(self.more_pulls(has_credential))
                .optional()
        } else {
            ProbeFinding::ok("oci.quota", "", cause)
        })
    }

    fn more_pulls(&self, has_credential: bool) -> String {
        let prefix = http::variable_prefix(self.host);
        if has_credential {
            "run less often, or mirror with fewer tags".to_owned()
        } else {
            format!("log in ({prefix}_USERNAME, {prefix}_PASSWORD) for a higher limit")
        }
    }
}

fn is_denied(error: &http::Error) -> bool {
    matches!(error, http::Error::Unauthorized { .. })
        || matches!(
            error.status(),
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        )
}
