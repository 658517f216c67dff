//! Looking at a registry: whether it answers, takes the login, and what it lets that do with the
//! repositories that are needed.
//!
//! Only GET and HEAD are sent, each once. What a token allows is read from the token; what nothing
//! tells stays unknown.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use serde::Deserialize;

use super::{RemoteRegistries, RemoteRepository, is_not_found};
use crate::error::chain;
use crate::http::{
    self, Method, QuotaStatus, Request, RequestAccess, RequestKind, RequestTarget, StatusCode,
    TokenGrants,
};
use crate::model::{Digest, Host, RepositoryPath};
use crate::probe::{ProbeFinding, ProbeReport, RequiredAccess};
use crate::registry::Referrers;

const LOOK: RequestKind = RequestKind("look");

/// The way in of the distribution API, where registries say whether they want a login.
const ENTRANCE: &str = "/v2/";

/// Repositories that are looked at side by side.
const IN_FLIGHT: usize = 4;

/// A first page of tags, of which one is enough.
#[derive(Deserialize)]
struct Page {
    tags: Option<Vec<String>>,
}

/// What looking at a repository tells the others.
struct Seen {
    findings: Vec<ProbeFinding>,
    /// A tag of it, where it may be read.
    tag: Option<String>,
    is_there: bool,
}

impl RemoteRegistries {
    /// Returns what a look at `host` and the repositories that are needed there finds. `has_login`
    /// says whether a credential is set.
    pub async fn probe(
        &self,
        host: &Host,
        wanted: &BTreeMap<RepositoryPath, RequiredAccess>,
        has_login: bool,
    ) -> ProbeReport {
        let answer = match self.http.inspect(host, ENTRANCE).await {
            Ok(answer) => answer,
            Err(error) => return vec![self.unreachable(host, &error).await].into(),
        };
        let mut look = ProbeReport {
            findings: Vec::new(),
            ahead: self.http.clock_offset(&answer),
        };
        let scheme = self
            .http
            .address(host)
            .map(|url| url.scheme().to_owned())
            .unwrap_or_default();
        match answer.status {
            StatusCode::OK | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                look.findings.push(ProbeFinding::ok(
                    "oci.reachable",
                    "",
                    format!("answers by {scheme}"),
                ));
            }
            status => {
                look.findings.push(self.odd(host, status).await);
                return look;
            }
        }
        let login = self.login(host, wanted, answer.status, has_login).await;
        let is_refused = login.is_problem();
        look.findings.push(login);
        if is_refused {
            return look;
        }
        let repositories = wanted.iter().map(|(path, wanted)| {
            let at = RemoteRepository {
                http: &self.http,
                host,
                path,
            };
            async move { (at, *wanted, at.probe(*wanted, has_login).await) }
        });
        let seen: Vec<_> = stream::iter(repositories)
            .buffered(IN_FLIGHT)
            .collect()
            .await;
        let readable = seen
            .iter()
            .find_map(|(at, _, seen)| Some((*at, seen.tag.clone()?)));
        let referring = seen
            .iter()
            .find(|(_, wanted, seen)| wanted.referrers && seen.is_there)
            .map(|(at, ..)| *at);
        look.findings
            .extend(seen.into_iter().flat_map(|(.., seen)| seen.findings));
        if let Some(at) = referring {
            look.findings.push(at.referring().await);
        }
        if let Some((at, tag)) = readable {
            look.findings.extend(at.quota(&tag, has_login).await);
        }
        look
    }

    async fn unreachable(&self, host: &Host, error: &http::Error) -> ProbeFinding {
        let other = self.speaks_otherwise(host).await;
        ProbeFinding {
            fix: other.or_else(|| error.hint()),
            ..ProbeFinding::wrong("oci.reachable", "", chain(error))
        }
    }

    async fn odd(&self, host: &Host, status: StatusCode) -> ProbeFinding {
        let wrong = ProbeFinding::wrong(
            "oci.reachable",
            "",
            format!("answers {ENTRANCE} with {status}, as no registry does"),
        );
        let fix = self.speaks_otherwise(host).await;
        wrong.fix(
            fix.unwrap_or_else(|| format!("see that {host} is a registry and that it works; a proxy in front of it may answer instead")),
        )
    }

    /// Returns what to set where the host speaks HTTPS and is set up for plain HTTP, or the other
    /// way round.
    async fn speaks_otherwise(&self, host: &Host) -> Option<String> {
        if !self
            .http
            .answers_on_other_scheme(host, ENTRANCE)
            .await
            .unwrap_or(false)
        {
            return None;
        }
        let url = self.http.address(host).ok()?;
        Some(if url.scheme() == "http" {
            format!(
                "it speaks HTTPS: take {host} out of `registry.insecure_registries` (and `http://` out of `hosts.\"{host}\".endpoint`)"
            )
        } else {
            format!(
                "it speaks plain HTTP: if that is meant to be, name {host} in `registry.insecure_registries`"
            )
        })
    }

    /// Returns whether the host takes the login that is set.
    async fn login(
        &self,
        host: &Host,
        wanted: &BTreeMap<RepositoryPath, RequiredAccess>,
        status: StatusCode,
        has_login: bool,
    ) -> ProbeFinding {
        if status == StatusCode::OK {
            let detail = if has_login {
                "not asked for when reading; the one that is set was not tried"
            } else {
                "not asked for"
            };
            return ProbeFinding::ok("oci.login", "", detail);
        }
        let path = wanted.keys().next().cloned();
        let request = Request::new(
            Method::GET,
            host,
            RequestTarget::Path(ENTRANCE.to_owned()),
            LOOK,
            RequestAccess {
                path,
                scopes: Vec::new(),
            },
        );
        match self.http.send_once(request).await {
            Ok(_) if has_login => ProbeFinding::ok("oci.login", "", "accepted"),
            Ok(_) => ProbeFinding::ok("oci.login", "", "none is set; strangers are let in"),
            // Where tokens are given per repository, strangers may read some.
            Err(http::Error::Unauthorized { .. })
                if !has_login && self.gives_tokens(host).await =>
            {
                ProbeFinding::ok(
                    "oci.login",
                    "",
                    "none is set; what strangers may do is shown below",
                )
            }
            Err(error) => {
                let fix = error.hint();
                let detail = chain(&error);
                let finding = if has_login {
                    ProbeFinding::wrong("oci.login", "", detail)
                } else {
                    ProbeFinding::missing("oci.login", "", detail)
                };
                ProbeFinding { fix, ..finding }
            }
        }
    }

    async fn gives_tokens(&self, host: &Host) -> bool {
        !matches!(
            self.http.grants(host, &RequestAccess::default()).await,
            Ok(TokenGrants::NoChallenge | TokenGrants::Unknown)
        )
    }
}

impl RemoteRepository<'_> {
    async fn probe(&self, wanted: RequiredAccess, has_login: bool) -> Seen {
        let mut findings = Vec::new();
        let push = if wanted.push {
            Some(self.grants("pull,push").await)
        } else {
            None
        };
        let may_push = matches!(&push, Some(Ok(grants)) if grants.allow("push") == Some(true));
        let mut request = self.request(Method::GET, "tags/list?n=1", LOOK, "pull");
        request.limit = 8 * 1024 * 1024;
        let listed = self.http.send_once(request).await;
        let mut seen = Seen {
            findings: Vec::new(),
            tag: None,
            is_there: listed.is_ok(),
        };
        findings.push(match &listed {
            Ok(answer) => {
                let page = serde_json::from_slice::<Page>(&answer.body);
                match page {
                    Ok(page) => {
                        seen.tag = page
                            .tags
                            .unwrap_or_default()
                            .into_iter()
                            .next()
                            .filter(|tag| tag.parse::<crate::model::Tag>().is_ok());
                        let detail = if seen.tag.is_none() {
                            "allowed; there is no tag"
                        } else {
                            "allowed"
                        };
                        self.finding(ProbeFinding::ok, "oci.pull", detail)
                    }
                    Err(_) => self.finding(
                        ProbeFinding::wrong,
                        "oci.pull",
                        "the answer is no list of tags",
                    ),
                }
            }
            Err(error) if is_unknown(error) && wanted.source => {
                self.finding(
                    ProbeFinding::missing,
                    "oci.pull",
                    "there is no such repository",
                )
                .fix("correct its name; a registry may say so, too, of what the login must not see")
            }
            Err(error) if is_unknown(error) || (may_push && is_refusal(error)) => self.finding(
                ProbeFinding::ok,
                "oci.pull",
                "not there yet; the first push makes it",
            ),
            Err(error) => self.refused("oci.pull", error, has_login, "to read this repository"),
        });
        if let Some(granted) = push {
            findings.push(self.allowed("oci.push", "push", granted, has_login));
        }
        if wanted.delete {
            let granted = self.grants("pull,delete").await;
            findings.push(self.allowed("oci.delete", "delete", granted, has_login));
        }
        seen.findings = findings;
        seen
    }

    async fn grants(&self, actions: &str) -> Result<TokenGrants, http::Error> {
        self.http.grants(self.host, &self.access(actions)).await
    }

    fn allowed(
        &self,
        check: &'static str,
        action: &str,
        granted: Result<TokenGrants, http::Error>,
        has_login: bool,
    ) -> ProbeFinding {
        let granted = match granted {
            Ok(granted) => granted,
            Err(error) => return self.refused(check, &error, has_login, &format!("to {action}")),
        };
        let scopes = match action {
            "push" => {
                "GitLab: scope `write_registry`, role Developer; Gitea: scope `write:package`; Docker Hub: an access token to read and write"
            }
            _ => {
                "GitLab: scope `api`, role Developer or more; Gitea: scope `write:package`; Docker Hub: an access token to delete as well"
            }
        };
        match (granted.allow(action), action) {
            (Some(true), "push") => self.finding(ProbeFinding::ok, check, "allowed, by the token that the registry gives"),
            (Some(true), _) => self.finding(
                ProbeFinding::ok,
                check,
                "allowed, by the token that the registry gives; whether it deletes at all shows with the first",
            ),
            (Some(false), _) if !has_login => {
                let prefix = http::variable_prefix(self.host);
                self.finding(ProbeFinding::missing, check, format!("strangers may not {action} here, and no login is set"))
                    .fix(format!("set {prefix}_USERNAME and {prefix}_PASSWORD (or {prefix}_TOKEN) to a login that may {action} ({scopes})"))
            }
            (Some(false), _) => self
                .finding(ProbeFinding::wrong, check, format!("the login is taken, and not allowed to {action}"))
                .fix(format!("give it the right to {action} to {} ({scopes}), or set another login", self.path)),
            (None, _) => {
                self.finding(ProbeFinding::unknown, check, format!("the registry tells nothing beforehand: the first {action} shows it"))
            }
        }
    }

    fn refused(
        &self,
        check: &'static str,
        error: &http::Error,
        has_login: bool,
        what: &str,
    ) -> ProbeFinding {
        let detail = chain(error);
        match error {
            http::Error::Unauthorized { .. } if !has_login => ProbeFinding {
                fix: error.hint(),
                ..self.finding(ProbeFinding::missing, check, detail)
            },
            error if is_refusal(error) => {
                self.finding(ProbeFinding::wrong, check, detail)
                    .fix(format!(
                        "give the login the right {what}, or set another login"
                    ))
            }
            error => ProbeFinding {
                fix: error.hint(),
                ..self.finding(ProbeFinding::wrong, check, detail)
            },
        }
    }

    fn finding<D: AsRef<str>>(
        &self,
        make: fn(&'static str, String, D) -> ProbeFinding,
        check: &'static str,
        detail: D,
    ) -> ProbeFinding {
        make(check, self.path.to_string(), detail)
    }

    /// Returns whether the registry lists what refers to an image.
    async fn referring(&self) -> ProbeFinding {
        match self.referrers(&Digest::sha256(b"")).await {
            Ok(Referrers::Listed(_)) => {
                ProbeFinding::ok("oci.referrers", "", "the registry lists them")
            }
            Ok(_) => ProbeFinding::ok(
                "oci.referrers",
                "",
                "the registry does not list them; a tag for each image does, as the specification has it",
            ),
            Err(error) => ProbeFinding::unknown("oci.referrers", "", chain(&error)),
        }
    }

    /// Returns how many pulls the registry still allows, where it tells. A HEAD does not count as a
    /// pull.
    async fn quota(&self, tag: &str, has_login: bool) -> Option<ProbeFinding> {
        let answer = self
            .http
            .send_once(self.request(Method::HEAD, &format!("manifests/{tag}"), LOOK, "pull"))
            .await;
        let headers = match &answer {
            Ok(answer) => &answer.headers,
            Err(error) if error.status() == Some(StatusCode::TOO_MANY_REQUESTS) => {
                let finding = ProbeFinding::wrong("oci.quota", "", "no pull is left for now");
                return Some(finding.fix(self.more_pulls(has_login)).optional());
            }
            Err(_) => return None,
        };
        let standing = QuotaStatus::read(headers)?;
        let detail = format!("{} of {} pulls left", standing.remaining, standing.limit);
        Some(if standing.is_low() {
            ProbeFinding::wrong("oci.quota", "", detail)
                .fix(self.more_pulls(has_login))
                .optional()
        } else {
            ProbeFinding::ok("oci.quota", "", detail)
        })
    }

    fn more_pulls(&self, has_login: bool) -> String {
        let prefix = http::variable_prefix(self.host);
        if has_login {
            "run less often, or mirror with fewer tags".to_owned()
        } else {
            format!("log in ({prefix}_USERNAME, {prefix}_PASSWORD) for a higher limit")
        }
    }
}

fn is_unknown(error: &http::Error) -> bool {
    is_not_found(error) || error.has_code("NAME_UNKNOWN")
}

fn is_refusal(error: &http::Error) -> bool {
    matches!(error, http::Error::Unauthorized { .. })
        || matches!(
            error.status(),
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        )
}
