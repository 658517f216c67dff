//! Repository and branch of a CI job.

use crate::model::Variables;
use crate::model::env;

/// Kind of CI server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobServer {
    Gitlab,
    /// Gitea or Forgejo, or any other server that sets the variables of GitHub Actions.
    Gitea,
}

/// Repository of a CI job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRepository {
    pub server: JobServer,
    /// URL of the server, without a trailing slash.
    pub url: String,
    /// Path: `group/project` or `owner/repository`.
    pub path: String,
    /// ID of the project on GitLab.
    pub project: Option<u64>,
    /// Branch of the pipeline; `None` for tags, merge requests and pull requests.
    pub branch: Option<String>,
    /// Default branch; `None` if the server does not provide it.
    pub default_branch: Option<String>,
    /// Name and email address of the user of the pipeline.
    pub user: Option<(String, String)>,
    /// File with the CA certificates of the server, if it uses a private CA.
    pub ca_file: Option<String>,
}

impl JobRepository {
    /// Reads the repository from `variables`. Returns `None` outside CI.
    pub fn of(variables: &Variables) -> Option<JobRepository> {
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
            return Some(JobRepository {
                server: JobServer::Gitlab,
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
        Some(JobRepository {
            server: JobServer::Gitea,
            path: get(env::GITHUB_REPOSITORY)?,
            project: None,
            // `GITHUB_REF_NAME` of a pull request is `7/merge`.
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

    /// Returns the URL of the repository for git.
    pub fn git_address(&self) -> String {
        format!("{}/{}.git", self.url, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Option<JobRepository> {
        JobRepository::of(&variables.iter().copied().collect())
    }

    #[test]
    fn a_gitlab_job_has_a_project_and_a_branch() {
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
                JobServer::Gitlab,
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
    fn a_gitea_job_has_a_repository_and_a_pull_request_has_no_branch() {
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
    fn there_is_no_repository_outside_ci() {
        assert_eq!(of(&[("CI_PROJECT_PATH", "a/b")]), None);
        assert_eq!(of(&[("GITHUB_REPOSITORY", "a/b")]), None);
    }
}
