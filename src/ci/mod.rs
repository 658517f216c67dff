//! Facts about a CI job, from the variables of the CI server.
//!
//! Owns the names of these variables: `CI_*` of GitLab, and `GITHUB_*` of Gitea and Forgejo, some
//! of which exist as `GITEA_*` too. Contacts no server.

use std::collections::BTreeMap;

use crate::model::Variables;
use crate::model::env;

pub mod annotations;
pub mod event;
pub mod repository;
pub mod sections;
pub mod trust;

pub use event::{PipelineEvent, RefStatus};
pub use sections::{Sections, is_actions};

/// Commit and project of a CI job. Empty outside CI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CiJob {
    /// Commit of the job.
    pub revision: Option<String>,
    /// Path of the project: `group/project` or `owner/repository`.
    pub project: Option<String>,
    /// `ci_ref`, the branch or tag, and `ci_pipeline_url`, the page of the pipeline.
    pub fields: BTreeMap<String, String>,
}

impl CiJob {
    /// Reads the facts from `variables`.
    pub fn of(variables: &Variables) -> CiJob {
        let first = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| variables.get_filled(name))
                .map(str::to_owned)
        };
        let fields = [
            (
                "ci_ref",
                first(&[
                    env::CI_COMMIT_REF_NAME,
                    env::GITEA_REF_NAME,
                    env::GITHUB_REF_NAME,
                ]),
            ),
            (
                "ci_pipeline_url",
                first(&[env::CI_PIPELINE_URL]).or_else(|| run_url(variables)),
            ),
        ];
        CiJob {
            revision: first(&[env::CI_COMMIT_SHA, env::GITEA_SHA, env::GITHUB_SHA]),
            project: project(variables),
            fields: fields
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?)))
                .collect(),
        }
    }
}

/// Returns the path of the project of the job, or `None` outside CI.
pub fn project(variables: &Variables) -> Option<String> {
    let names = [
        env::CI_PROJECT_PATH,
        env::GITEA_REPOSITORY,
        env::GITHUB_REPOSITORY,
    ];
    names
        .iter()
        .find_map(|name| variables.get_filled(name))
        .map(str::to_owned)
}

/// Returns the page of the project of the job, or `None` outside CI.
pub fn source_url(variables: &Variables) -> Option<String> {
    let of_gitlab = variables.get_filled(env::CI_PROJECT_URL).map(str::to_owned);
    of_gitlab.or_else(|| {
        let (server, repository) = (
            variables.get_filled(env::GITHUB_SERVER_URL)?,
            variables.get_filled(env::GITHUB_REPOSITORY)?,
        );
        Some(format!("{}/{repository}", server.trim_end_matches('/')))
    })
}

/// Returns the page of a run of Actions. URLs of Gitea and Forgejo contain the number of the run in
/// its repository, those of GitHub its global ID.
fn run_url(variables: &Variables) -> Option<String> {
    let has_run_numbers = [env::GITEA_ACTIONS, env::FORGEJO_ACTIONS]
        .iter()
        .any(|name| variables.get_filled(name).is_some());
    let run = variables.get_filled(if has_run_numbers {
        env::GITHUB_RUN_NUMBER
    } else {
        env::GITHUB_RUN_ID
    })?;
    let (server, repository) = (
        variables.get_filled(env::GITHUB_SERVER_URL)?,
        variables.get_filled(env::GITHUB_REPOSITORY)?,
    );
    Some(format!(
        "{}/{repository}/actions/runs/{run}",
        server.trim_end_matches('/')
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(variables: &[(&str, &str)]) -> (Option<String>, Option<String>, Vec<String>) {
        let job = CiJob::of(&variables.iter().copied().collect());
        (
            job.revision,
            job.project,
            job.fields
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
        )
    }

    #[test]
    fn facts_are_read_from_variables_of_gitlab_gitea_and_github() {
        let gitlab = [
            ("CI_COMMIT_SHA", "4f2a"),
            ("CI_PROJECT_PATH", "team/web"),
            ("CI_COMMIT_REF_NAME", "v1.2.0"),
            (
                "CI_PIPELINE_URL",
                "https://gitlab.example/team/web/-/pipelines/7",
            ),
        ];
        let fields = vec![
            "ci_pipeline_url=https://gitlab.example/team/web/-/pipelines/7".to_owned(),
            "ci_ref=v1.2.0".to_owned(),
        ];
        assert_eq!(
            build(&gitlab),
            (Some("4f2a".to_owned()), Some("team/web".to_owned()), fields)
        );

        let mut actions = vec![
            ("GITHUB_SHA", "4f2a"),
            ("GITHUB_REPOSITORY", "team/web"),
            ("GITHUB_SERVER_URL", "https://forge.example/"),
            ("GITHUB_RUN_ID", "900"),
            ("GITHUB_RUN_NUMBER", "7"),
        ];
        assert_eq!(
            build(&actions).2,
            ["ci_pipeline_url=https://forge.example/team/web/actions/runs/900"]
        );
        actions.push(("GITEA_ACTIONS", "true"));
        assert_eq!(
            build(&actions).2,
            ["ci_pipeline_url=https://forge.example/team/web/actions/runs/7"]
        );
        assert_eq!(build(&actions).1.as_deref(), Some("team/web"));
    }

    #[test]
    fn facts_are_empty_outside_ci() {
        assert_eq!(build(&[("CI_COMMIT_SHA", "")]), (None, None, Vec::new()));
    }
}
