//! Looking at places that hold packages: what GitLab, Gitea and S3 tell of a token without it being
//! used.
//!
//! What is relied on: GitLab's API ("Get details on a personal access token": scopes and expiry;
//! "Get a single project": the roles in `permissions`; "Get the job of a job token"); Gitea's
//! refusal of a scope, which names those that the token has.

use serde::Deserialize;

use super::interface::Interface;
use crate::error::{ItemError, ItemErrorKind, chain};
use crate::http::{self, Method, Response, StatusCode};
use crate::probe::{ProbeFinding, ProbeReport};

pub(super) const REACHABLE: &str = "packages.reachable";
pub(super) const TOKEN: &str = "packages.token";
pub(super) const PROJECT: &str = "packages.project";
pub(super) const READ: &str = "packages.read";
pub(super) const WRITE: &str = "packages.write";
pub(super) const DELETE: &str = "packages.delete";

/// How soon before its end a token is told to end, in days.
const SOON: i64 = 14;

/// A personal, group or project access token, as it is told of itself.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct GitlabToken {
    #[serde(default)]
    scopes: Vec<String>,
    expires_at: Option<chrono::NaiveDate>,
}

/// The roles in a project, as numbers that grow with them.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct GitlabProject {
    path_with_namespace: Option<String>,
    permissions: Option<Roles>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Roles {
    project_access: Option<Role>,
    group_access: Option<Role>,
}

#[derive(Clone, Debug, Deserialize)]
struct Role {
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
        if days > SOON {
            return ProbeFinding::ok(TOKEN, "", detail);
        }
        ProbeFinding::wrong(TOKEN, "", format!("{detail}: {days} days left"))
            .fix("make a new token, and set GITLAB_TOKEN to it")
            .optional()
    }
}

impl GitlabProject {
    pub(super) fn name(&self) -> &str {
        self.path_with_namespace.as_deref().unwrap_or("it is there")
    }

    /// Returns the number of the highest role, `None` where none is told.
    fn role(&self) -> Option<u32> {
        let roles = self.permissions.as_ref()?;
        [&roles.project_access, &roles.group_access]
            .into_iter()
            .flatten()
            .map(|role| role.access_level)
            .max()
    }

    /// Returns what a token lets its owner do besides reading.
    pub(super) fn rights(&self, token: Option<&GitlabToken>, project: u64) -> [ProbeFinding; 2] {
        let may = |check: &'static str, what: &str, needed: u32, role: &str| {
            if token.is_some_and(GitlabToken::is_read_only) {
                return ProbeFinding::wrong(check, "", format!("the token has not the scope `api`, which it takes to {what}"))
                    .fix("make a token with the scope `api`, and set GITLAB_TOKEN to it: there is no scope for packages alone");
            }
            match (self.role(), token) {
                (Some(level), _) if level < needed => {
                    ProbeFinding::wrong(check, "", format!("the token's role in project {project} is below {role}, which it takes to {what}"))
                        .fix(format!("give the token's user the role {role} in project {project}, or make the token with that role"))
                }
                (Some(_), Some(_)) => ProbeFinding::ok(check, "", "allowed, by scope and role"),
                _ => ProbeFinding::unknown(check, "", format!("GitLab does not tell what the token may do: the first time to {what} shows it")),
            }
        };
        [
            may(WRITE, "write", DEVELOPER, "Developer"),
            may(DELETE, "delete", MAINTAINER, "Maintainer").optional(),
        ]
    }
}

/// Returns the scopes that Gitea says a token has, in its refusal of another
/// (`required=[read:user], token scope=write:package`).
pub(super) fn gitea_scopes(error: &http::Error) -> Option<Vec<String>> {
    let http::Error::Refused(refusal) = error else {
        return None;
    };
    let (_, told) = refusal.excerpt.split_once("token scope=")?;
    let told = told.split(['"', '\\', '}', ' ']).next()?;
    Some(
        told.split(',')
            .map(|scope| scope.trim().to_owned())
            .filter(|scope| !scope.is_empty())
            .collect(),
    )
}

/// Returns whether scopes allow to write packages.
pub(super) fn gitea_may_write(scopes: &[String]) -> bool {
    scopes
        .iter()
        .any(|scope| scope == "all" || scope == "write:package")
}

/// Returns the finding that something of the place could not be done, as what the error says.
pub(super) fn of_error(check: &'static str, error: &ItemError, has_login: bool) -> ProbeFinding {
    let made = if error.kind == ItemErrorKind::Unauthorized && !has_login {
        ProbeFinding::missing
    } else {
        ProbeFinding::wrong
    };
    ProbeFinding {
        fix: error.hint(),
        ..made(check, "", &chain(error))
    }
}

impl Interface {
    /// Returns whether the interface answers, and the time it has; on failure, the finding that
    /// ends the look.
    pub(super) async fn reach(&self, path: &str) -> Result<ProbeReport, ProbeFinding> {
        match self.look(path).await {
            Ok(answer) => Ok(ProbeReport {
                findings: vec![ProbeFinding::ok(REACHABLE, "", "answers")],
                ahead: self.ahead(&answer),
            }),
            Err(error) => Err(ProbeFinding {
                fix: Some(unreachable_fix(&error)),
                ..ProbeFinding::wrong(REACHABLE, "", chain(&error))
            }),
        }
    }

    /// Returns the document at `path`, asked for once; `None` when it is of another form.
    pub(super) async fn document<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Option<T>, http::Error> {
        let answer: Response = self.send_once(Method::GET, path).await?;
        Ok(serde_json::from_slice(&answer.body).ok())
    }
}

pub(super) fn unreachable_fix(error: &http::Error) -> String {
    let names = "see that `registry.url` and `registry.api_url` are right";
    error
        .hint()
        .map_or_else(|| names.to_owned(), |hint| format!("{names}; {hint}"))
}

/// Returns whether an error is that status.
pub(super) fn is(error: &http::Error, status: StatusCode) -> bool {
    error.status() == Some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_and_role_say_what_a_gitlab_token_may_do() {
        let token = |scopes: &str| GitlabToken {
            scopes: scopes.split(' ').map(str::to_owned).collect(),
            expires_at: None,
        };
        let project = |level: Option<u32>| GitlabProject {
            path_with_namespace: None,
            permissions: level.map(|access_level| Roles {
                project_access: None,
                group_access: Some(Role { access_level }),
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
    fn a_token_that_ends_soon_is_told_of() {
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
}
