//! The repository that a job runs for, and the branch that it may change.

use crate::model::Variables;
use crate::model::env;

/// What kind of server runs the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Gitlab,
    /// Gitea or Forgejo, or what else sets the variables of GitHub's actions.
    Gitea,
}

/// The repository that a job runs for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    pub server: Server,
    /// The address of the server, without a slash at its end.
    pub url: String,
    /// `group/project` or `owner/repository`.
    pub path: String,
    /// The number of the project, in GitLab.
    pub project: Option<u64>,
    /// The branch that the pipeline runs for; `None` for tags, merge requests and pull requests.
    pub branch: Option<String>,
    /// Where the server tells.
    pub default_branch: Option<String>,
    /// Name and address of whose pipeline it is.
    pub user: Option<(String, String)>,
    /// Certificates that the server's is checked by, where it is not one that everybody trusts.
    pub ca_file: Option<String>,
}

impl Repository {
    /// Returns the repository that `variables` tell; `None` outside CI.
    pub fn of(variables: &Variables) -> Option<Repository> {
        let get = |name: &str| variables.get_filled(name).map(str::to_owned);
        let is_actions = [
            env::GITEA_ACTIONS,
            env::FORGEJO_ACTIONS,
            env::GITHUB_ACTIONS,
        ]
        .iter()
        .any(|name| get(name).is_some());
        if !is_actions && let Some(path) = get(env::CI_PROJECT_PATH) {
            let url = get(env::CI_SERVER_URL).or_else(|| {
                let port = get(env::CI_SERVER_PORT)
                    .filter(|port| port != "443")
                    .map_or_else(String::new, |port| format!(":{port}"));
                Some(format!("https://{}{port}", get(env::CI_SERVER_HOST)?))
            })?;
            return Some(Repository {
                server: Server::Gitlab,
                url: url.trim_end_matches('/').to_owned(),
                path,
                project: get(env::CI_PROJECT_ID).and_then(|id| id.parse().ok()),
                branch: get(env::CI_COMMIT_BRANCH),
                default_branch: get(env::CI_DEFAULT_BRANCH),
                user: get(env::GITLAB_USER_NAME).zip(get(env::GITLAB_USER_EMAIL)),
                ca_file: get(env::CI_SERVER_TLS_CA_FILE),
            });
        }
        let url = get(env::GITHUB_SERVER_URL)?
            .trim_end_matches('/')
            .to_owned();
        let host = url
            .split_once("://")
            .map_or(url.as_str(), |(_, rest)| rest)
            .split(['/', ':'])
            .next()
            .unwrap_or_default()
            .to_owned();
        Some(Repository {
            server: Server::Gitea,
            path: get(env::GITHUB_REPOSITORY)?,
            project: None,
            // The name alone says `7/merge` for a pull request.
            branch: get(env::GITHUB_REF)
                .and_then(|reference| reference.strip_prefix("refs/heads/").map(str::to_owned))
                .or_else(|| {
                    get(env::GITHUB_REF_NAME).filter(|_| {
                        get(env::GITHUB_REF).is_none()
                            && get(env::GITHUB_REF_TYPE).is_some_and(|kind| kind == "branch")
                    })
                }),
            default_branch: None,
            user: get(env::GITHUB_ACTOR)
                .map(|actor| (actor.clone(), format!("{actor}@noreply.{host}"))),
            ca_file: None,
            url,
        })
    }

    /// Returns where git finds it.
    pub fn git_address(&self) -> String {
        format!("{}/{}.git", self.url, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Option<Repository> {
        Repository::of(&variables.iter().copied().collect())
    }

    #[test]
    fn a_gitlab_job_knows_its_project_and_branch() {
        let job = [
            ("CI_SERVER_HOST", "gitlab.example"),
            ("CI_SERVER_PORT", "8443"),
            ("CI_PROJECT_PATH", "team/base"),
            ("CI_PROJECT_ID", "42"),
            ("CI_COMMIT_BRANCH", "main"),
            ("CI_DEFAULT_BRANCH", "main"),
            ("GITLAB_USER_NAME", "Ada"),
            ("GITLAB_USER_EMAIL", "ada@example.org"),
        ];
        let found = of(&job).expect("a repository");
        assert_eq!(
            (found.server, found.git_address().as_str(), found.project),
            (
                Server::Gitlab,
                "https://gitlab.example:8443/team/base.git",
                Some(42)
            )
        );
        assert_eq!(
            found.user,
            Some(("Ada".to_owned(), "ada@example.org".to_owned()))
        );
        let below = of(&[
            &job[..],
            &[
                ("CI_SERVER_URL", "https://example.org/gitlab/"),
                ("CI_COMMIT_BRANCH", ""),
            ],
        ]
        .concat())
        .expect("a repository");
        assert_eq!(
            (below.git_address().as_str(), below.branch),
            ("https://example.org/gitlab/team/base.git", None)
        );
    }

    #[test]
    fn a_job_of_gitea_knows_its_repository_and_a_pull_request_is_no_branch() {
        let job = [
            ("GITHUB_SERVER_URL", "https://gitea.example:3000/"),
            ("GITHUB_REPOSITORY", "team/base"),
            ("GITHUB_ACTOR", "ada"),
        ];
        let at = |more: &[(&str, &str)]| of(&[&job[..], more].concat()).expect("a repository");
        let found = at(&[
            ("GITHUB_REF", "refs/heads/main"),
            ("GITHUB_REF_NAME", "main"),
        ]);
        assert_eq!(
            (found.git_address().as_str(), found.branch.as_deref()),
            ("https://gitea.example:3000/team/base.git", Some("main"))
        );
        assert_eq!(
            found.user,
            Some(("ada".to_owned(), "ada@noreply.gitea.example".to_owned()))
        );
        assert_eq!(
            at(&[
                ("GITHUB_REF", "refs/pull/7/merge"),
                ("GITHUB_REF_NAME", "7/merge")
            ])
            .branch,
            None
        );
        assert_eq!(
            at(&[("GITHUB_REF_NAME", "main"), ("GITHUB_REF_TYPE", "branch")])
                .branch
                .as_deref(),
            Some("main")
        );
        assert_eq!(
            at(&[("GITHUB_REF_NAME", "v1"), ("GITHUB_REF_TYPE", "tag")]).branch,
            None
        );
    }

    #[test]
    fn outside_ci_there_is_none() {
        assert_eq!(of(&[("CI_PROJECT_PATH", "a/b")]), None);
        assert_eq!(of(&[("GITHUB_REPOSITORY", "a/b")]), None);
    }
}
