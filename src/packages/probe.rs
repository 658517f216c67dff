//! Probing of record stores: what GitLab, Gitea and S3 report about a token without a write.
//!
//! Relies on GitLab's API ("Get details on a personal access token": scopes and expiry date; "Get a
//! single project": the roles in `permissions`; "Get the job of a job token"), and on Gitea's error
//! for a missing scope, which lists the scopes of the token.

use serde::Deserialize;

use super::forge_api::ForgeApi;
use crate::error::{ItemError, ItemErrorKind, chain};
use crate::http::{self, Method, Response, StatusCode};
use crate::probe::{ProbeFinding, ProbeReport};

pub(super) const REACHABLE: &str = "packages.reachable";
pub(super) const TOKEN: &str = "packages.token";
pub(super) const PRIVILEGES: &str = "packages.privileges";
pub(super) const PROJECT: &str = "packages.project";
pub(super) const READ: &str = "packages.read";
pub(super) const WRITE: &str = "packages.write";
pub(super) const DELETE: &str = "packages.delete";

/// Number of days before its expiry date from which a token is reported as expiring.
const EXPIRY_WARNING_DAYS: i64 = 14;

/// Scopes of GitLab's tokens that a command of imglife can need.
const GITLAB_SCOPES: [&str; 7] = [
    "api",
    "read_api",
    "read_repository",
    "write_repository",
    "read_registry",
    "write_registry",
    "self_rotate",
];

/// Scopes of Gitea's tokens that a command of imglife can need.
const GITEA_SCOPES: [&str; 5] = [
    "read:package",
    "write:package",
    "read:repository",
    "write:repository",
    "read:user",
];

/// Details of a personal, group or project access token.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct GitlabToken {
    #[serde(default)]
    scopes: Vec<String>,
    expires_at: Option<chrono::NaiveDate>,
}

/// A project, with the roles of the token's user in it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct GitlabProject {
    path_with_namespace: Option<String>,
    permissions: Option<GitlabRoles>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct GitlabRoles {
    project_access: Option<GitlabRole>,
    group_access: Option<GitlabRole>,
}

#[derive(Clone, Debug, Deserialize)]
struct GitlabRole {
    access_level: u32,
}

const DEVELOPER: u32 = 30;
const MAINTAINER: u32 = 40;

impl GitlabToken {
    fn may_write(&self) -> bool {
        self.scopes.iter().any(|scope| scope == "api")
    }

    fn is_read_only(&self) -> bool {
        !self.may_write()
    }

    /// Returns the finding that the token may do more than any command needs; `None` if it may not.
    pub(super) fn excess(&self) -> Option<ProbeFinding> {
        excess(
            &self.scopes,
            &GITLAB_SCOPES,
            "create a token with the scope `api`, or `read_api` for jobs that only read (docs/security.md)",
        )
    }

    /// Returns the finding about the validity of the token.
    pub(super) fn finding(&self, today: chrono::NaiveDate) -> ProbeFinding {
        let scopes = if self.scopes.is_empty() {
            "no scope".to_owned()
        } else {
            self.scopes.join(", ")
        };
        let Some(end) = self.expires_at else {
            return ProbeFinding::ok(TOKEN, "", format!("valid; {scopes}"));
        };
        let days = (end - today).num_days();
        let detail = format!("valid until {end}; {scopes}");
        if days > EXPIRY_WARNING_DAYS {
            return ProbeFinding::ok(TOKEN, "", detail);
        }
        ProbeFinding::wrong(TOKEN, "", format!("{detail}: {days} days left"))
            .fix("create a new token and set GITLAB_TOKEN to it")
            .optional()
    }
}

impl GitlabProject {
    /// Returns the path of the project for a finding.
    pub(super) fn name(&self) -> &str {
        self.path_with_namespace.as_deref().unwrap_or("exists")
    }

    /// Returns the number of the highest role; `None` if GitLab reports no role.
    fn role(&self) -> Option<u32> {
        let roles = self.permissions.as_ref()?;
        [&roles.project_access, &roles.group_access]
            .into_iter()
            .flatten()
            .map(|role| role.access_level)
            .max()
    }

    /// Returns the findings about writing and deleting with a token.
    pub(super) fn rights(&self, token: Option<&GitlabToken>, project: u64) -> [ProbeFinding; 2] {
        let check_right = |check: &'static str, verb: &str, needed: u32, role: &str| {
            if token.is_some_and(GitlabToken::is_read_only) {
                return ProbeFinding::wrong(check, "", format!("the token lacks the scope `api`, which is needed to {verb}"))
                    .fix("create a token with the scope `api` and set GITLAB_TOKEN to it; there is no scope for packages only");
            }
            match (self.role(), token) {
                (Some(level), _) if level < needed => {
                    ProbeFinding::wrong(check, "", format!("the role of the token in project {project} is below {role}, which is needed to {verb}"))
                        .fix(format!("give the user of the token the role {role} in project {project}, or create the token with that role"))
                }
                (Some(_), Some(_)) => ProbeFinding::ok(check, "", "allowed by scope and role"),
                _ => ProbeFinding::unknown(check, "", format!("GitLab does not report if the token may {verb}")),
            }
        };
        [
            check_right(WRITE, "write", DEVELOPER, "Developer"),
            check_right(DELETE, "delete", MAINTAINER, "Maintainer").optional(),
        ]
    }
}

/// Returns the scopes of a token from Gitea's error for a missing scope
/// (`required=[read:user], token scope=write:package`); `None` for other errors.
pub(super) fn gitea_scopes(error: &http::Error) -> Option<Vec<String>> {
    let http::Error::Refused(refusal) = error else {
        return None;
    };
    let (_, scopes) = refusal.excerpt.split_once("token scope=")?;
    let scopes = scopes.split(['"', '\\', '}', ' ']).next()?;
    Some(
        scopes
            .split(',')
            .map(|scope| scope.trim().to_owned())
            .filter(|scope| !scope.is_empty())
            .collect(),
    )
}

/// Returns the finding that a token has scopes that no command needs; `None` if it has none.
fn excess(scopes: &[String], needed: &[&str], fix: &str) -> Option<ProbeFinding> {
    let more: Vec<&str> = scopes
        .iter()
        .map(String::as_str)
        .filter(|scope| !needed.contains(scope))
        .collect();
    (!more.is_empty()).then(|| {
        let detail = format!(
            "the token may do more than imglife needs: {}",
            more.join(", ")
        );
        ProbeFinding::wrong(PRIVILEGES, "", detail)
            .fix(fix)
            .optional()
    })
}

/// Returns the finding that a token for Gitea may do more than any command needs.
pub(super) fn gitea_excess(scopes: &[String]) -> Option<ProbeFinding> {
    excess(
        scopes,
        &GITEA_SCOPES,
        "create a token with the scope `write:package`, or `read:package` for jobs that only read (docs/security.md)",
    )
}

/// Returns true if the scopes allow writing packages.
pub(super) fn gitea_may_write(scopes: &[String]) -> bool {
    scopes
        .iter()
        .any(|scope| scope == "all" || scope == "write:package")
}

/// Returns the finding about a failed operation on the store.
pub(super) fn of_error(
    check: &'static str,
    error: &ItemError,
    has_credential: bool,
) -> ProbeFinding {
    let finding = if error.kind == ItemErrorKind::Unauthorized && !has_credential {
        ProbeFinding::missing
    } else {
        ProbeFinding::wrong
    };
    ProbeFinding {
        fix: error.hint(),
        ..finding(check, "", &chain(error))
    }
}

impl ForgeApi {
    /// Checks that the server responds, and compares its clock. The error is the finding that ends
    /// the probe.
    pub(super) async fn reach(&self, path: &str) -> Result<ProbeReport, ProbeFinding> {
        match self.inspect(path).await {
            Ok(answer) => Ok(ProbeReport {
                findings: vec![ProbeFinding::ok(REACHABLE, "", "responds")],
                clock_offset: self.clock_offset(&answer),
            }),
            Err(error) => Err(ProbeFinding {
                fix: Some(unreachable_fix(&error)),
                ..ProbeFinding::wrong(REACHABLE, "", chain(&error))
            }),
        }
    }

    /// Reads the document at `path` without retries; `None` if it is malformed.
    pub(super) async fn document<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Option<T>, http::Error> {
        let answer: Response = self.send_once(Method::GET, path).await?;
        Ok(serde_json::from_slice(&answer.body).ok())
    }
}

/// Returns advice for a server that does not respond.
pub(super) fn unreachable_fix(error: &http::Error) -> String {
    let names = "check `registry.url` and `registry.api_url`";
    error
        .hint()
        .map_or_else(|| names.to_owned(), |hint| format!("{names}; {hint}"))
}

/// Returns true if the server responded with `status`.
pub(super) fn is(error: &http::Error, status: StatusCode) -> bool {
    error.status() == Some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_follow_from_scope_and_role() {
        let token = |scopes: &str| GitlabToken {
            scopes: scopes.split(' ').map(str::to_owned).collect(),
            expires_at: None,
        };
        let project = |level: Option<u32>| GitlabProject {
            path_with_namespace: None,
            permissions: level.map(|access_level| GitlabRoles {
                project_access: None,
                group_access: Some(GitlabRole { access_level }),
            }),
        };
        let states = |level, scopes: &str| {
            project(level)
                .rights(Some(&token(scopes)), 7)
                .map(|finding| finding.state)
        };
        use crate::probe::ProbeState::{Ok, Unknown, Wrong};
        assert_eq!(states(Some(40), "api"), [Ok, Ok]);
        assert_eq!(states(Some(30), "api"), [Ok, Wrong]);
        assert_eq!(states(Some(20), "api"), [Wrong, Wrong]);
        assert_eq!(states(Some(50), "read_api write_registry"), [Wrong, Wrong]);
        assert_eq!(states(None, "api"), [Unknown, Unknown]);
    }

    #[test]
    fn finding_warns_of_a_token_that_expires_soon() {
        let day = |text: &str| text.parse::<chrono::NaiveDate>().expect("a date");
        let token = GitlabToken {
            scopes: vec!["api".to_owned()],
            expires_at: Some(day("2026-12-10")),
        };
        assert_eq!(
            token.finding(day("2026-11-20")).state,
            crate::probe::ProbeState::Ok
        );
        let soon = token.finding(day("2026-12-01"));
        assert!(
            !soon.is_problem() && soon.detail.ends_with("9 days left"),
            "{soon:?}"
        );
    }

    #[test]
    fn scopes_that_no_command_needs_are_reported() {
        let excess = |scopes: &[&str]| {
            let token = GitlabToken {
                scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
                expires_at: None,
            };
            token.excess().map(|finding| finding.detail)
        };
        assert_eq!(excess(&["api", "write_repository"]), None);
        assert_eq!(
            excess(&["api", "sudo", "admin_mode"]).as_deref(),
            Some("the token may do more than imglife needs: sudo, admin_mode")
        );
        let gitea = |scope: &str| gitea_excess(&[scope.to_owned()]).is_some();
        assert!(gitea("all") && gitea("write:admin") && !gitea("write:package"));
    }
}
