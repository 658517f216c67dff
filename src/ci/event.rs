//! Event and ref of a pipeline. They decide which steps run, and whether changes are published.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::sections::is_actions;
use crate::model::Variables;
use crate::model::env;

/// Event that started a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PipelineEvent {
    Schedule,
    Push,
    /// A user started it in the web interface.
    Web,
    /// Any other event, and outside CI.
    Manual,
    /// A merge request or pull request.
    Proposal,
}

impl PipelineEvent {
    /// Reads the event from the variables of the CI server. Returns `Manual` outside CI.
    pub fn of(variables: &Variables) -> PipelineEvent {
        let name = variables
            .get_filled(env::CI_PIPELINE_SOURCE)
            .or_else(|| variables.get_filled(env::GITHUB_EVENT_NAME));
        match name {
            Some("schedule") => PipelineEvent::Schedule,
            Some("push") => PipelineEvent::Push,
            Some("web" | "workflow_dispatch") => PipelineEvent::Web,
            Some("merge_request_event" | "external_pull_request_event") => PipelineEvent::Proposal,
            Some(name) if name.starts_with("pull_request") => PipelineEvent::Proposal,
            _ => PipelineEvent::Manual,
        }
    }
}

impl fmt::Display for PipelineEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            PipelineEvent::Schedule => "schedule",
            PipelineEvent::Push => "push",
            PipelineEvent::Web => "web",
            PipelineEvent::Manual => "manual",
            PipelineEvent::Proposal => "merge request",
        })
    }
}

/// Ref that a pipeline runs for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefStatus {
    OutsideCi,
    DefaultBranch,
    /// Another branch, a tag, or a merge request.
    OtherRef,
    /// The default branch is unknown.
    Unknown,
}

impl RefStatus {
    /// Reads the ref of a job from its variables. `payload` is the content of the file in
    /// `GITHUB_EVENT_PATH`.
    pub fn of(variables: &Variables, payload: Option<&str>) -> RefStatus {
        // Without `GITLAB_CI`, these variables imitate a GitLab job.
        let has_source =
            variables.get_filled(env::CI_PIPELINE_SOURCE).is_some() && !is_actions(variables);
        if variables.get_filled(env::GITLAB_CI).is_some() || has_source {
            // Not set for tags and merge requests.
            let branch = variables.get_filled(env::CI_COMMIT_BRANCH);
            return match (branch, variables.get_filled(env::CI_DEFAULT_BRANCH)) {
                (Some(branch), Some(default)) if branch == default => RefStatus::DefaultBranch,
                (Some(_), None) => RefStatus::Unknown,
                _ => RefStatus::OtherRef,
            };
        }
        if !is_actions(variables) {
            return RefStatus::OutsideCi;
        }
        if PipelineEvent::of(variables) == PipelineEvent::Schedule {
            // Actions run scheduled workflows on the default branch only.
            return RefStatus::DefaultBranch;
        }
        let branch = variables
            .get_filled(env::GITHUB_REF)
            .and_then(|reference| reference.strip_prefix("refs/heads/"));
        let Some(branch) = branch else {
            return RefStatus::OtherRef;
        };
        match payload.and_then(default_branch) {
            Some(default) if default == branch => RefStatus::DefaultBranch,
            Some(_) => RefStatus::OtherRef,
            None => RefStatus::Unknown,
        }
    }
}

/// Returns the default branch in the payload of an event.
pub fn default_branch(payload: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Payload {
        repository: Repository,
    }
    #[derive(Deserialize)]
    struct Repository {
        default_branch: String,
    }
    serde_json::from_str::<Payload>(payload)
        .ok()
        .map(|payload| payload.repository.default_branch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().copied().collect()
    }

    #[test]
    fn the_event_is_read_from_variables() {
        for (name, value, event) in [
            ("CI_PIPELINE_SOURCE", "schedule", PipelineEvent::Schedule),
            ("CI_PIPELINE_SOURCE", "push", PipelineEvent::Push),
            ("CI_PIPELINE_SOURCE", "web", PipelineEvent::Web),
            ("CI_PIPELINE_SOURCE", "api", PipelineEvent::Manual),
            (
                "CI_PIPELINE_SOURCE",
                "merge_request_event",
                PipelineEvent::Proposal,
            ),
            ("GITHUB_EVENT_NAME", "schedule", PipelineEvent::Schedule),
            ("GITHUB_EVENT_NAME", "push", PipelineEvent::Push),
            ("GITHUB_EVENT_NAME", "workflow_dispatch", PipelineEvent::Web),
            (
                "GITHUB_EVENT_NAME",
                "pull_request_target",
                PipelineEvent::Proposal,
            ),
            ("HOME", "/", PipelineEvent::Manual),
        ] {
            assert_eq!(
                PipelineEvent::of(&variables(&[(name, value)])),
                event,
                "{name}={value}"
            );
        }
    }

    #[test]
    fn only_the_default_branch_has_that_status() {
        let gitlab = |pairs: &[(&str, &str)]| {
            RefStatus::of(
                &variables(&[&[("GITLAB_CI", "true")], pairs].concat()),
                None,
            )
        };
        assert_eq!(
            gitlab(&[("CI_COMMIT_BRANCH", "main"), ("CI_DEFAULT_BRANCH", "main")]),
            RefStatus::DefaultBranch
        );
        assert_eq!(
            gitlab(&[("CI_COMMIT_BRANCH", "topic"), ("CI_DEFAULT_BRANCH", "main")]),
            RefStatus::OtherRef
        );
        assert_eq!(
            gitlab(&[("CI_COMMIT_TAG", "main"), ("CI_DEFAULT_BRANCH", "main")]),
            RefStatus::OtherRef
        );
        assert_eq!(gitlab(&[("CI_COMMIT_BRANCH", "main")]), RefStatus::Unknown);
        let job = variables(&[
            ("CI_PIPELINE_SOURCE", "push"),
            ("CI_COMMIT_BRANCH", "topic"),
            ("CI_DEFAULT_BRANCH", "main"),
        ]);
        assert_eq!(RefStatus::of(&job, None), RefStatus::OtherRef);

        let payload = Some(r#"{"repository": {"default_branch": "trunk", "id": 1}}"#);
        let actions = |pairs: &[(&str, &str)], payload| {
            RefStatus::of(
                &variables(&[&[("GITEA_ACTIONS", "true")], pairs].concat()),
                payload,
            )
        };
        assert_eq!(
            actions(&[("GITHUB_REF", "refs/heads/trunk")], payload),
            RefStatus::DefaultBranch
        );
        assert_eq!(
            actions(&[("GITHUB_REF", "refs/heads/main")], payload),
            RefStatus::OtherRef
        );
        assert_eq!(
            actions(&[("GITHUB_REF", "refs/tags/trunk")], payload),
            RefStatus::OtherRef
        );
        assert_eq!(
            actions(&[("GITHUB_REF", "refs/heads/main")], Some("{")),
            RefStatus::Unknown
        );
        assert_eq!(
            actions(
                &[
                    ("GITHUB_REF", "refs/heads/main"),
                    ("GITHUB_EVENT_NAME", "schedule")
                ],
                None
            ),
            RefStatus::DefaultBranch
        );
        assert_eq!(
            RefStatus::of(&variables(&[("CI_COMMIT_BRANCH", "main")]), payload),
            RefStatus::OutsideCi
        );
    }

    #[test]
    fn fuzzing_payloads_and_variables() {
        let seeds = [
            r#"{"repository":{"default_branch":"main","name":"a"},"ref":"refs/heads/main"}"#,
            "schedule",
            "refs/heads/main",
            "https://gitlab.example/team/a",
        ];
        crate::model::fuzz_tests::fuzz("payloads and variables", &seeds, |input| {
            let text = crate::model::fuzz_tests::text(input);
            for server in ["GITLAB_CI", "GITEA_ACTIONS", "GITHUB_ACTIONS"] {
                let mut job = variables(&[(server, "true")]);
                for name in [
                    "CI_PIPELINE_SOURCE",
                    "CI_COMMIT_BRANCH",
                    "CI_DEFAULT_BRANCH",
                    "CI_SERVER_URL",
                    "CI_PROJECT_PATH",
                    "CI_PROJECT_URL",
                    "CI_COMMIT_SHA",
                    "GITHUB_EVENT_NAME",
                    "GITHUB_REF",
                    "GITHUB_REF_NAME",
                    "GITHUB_SERVER_URL",
                    "GITHUB_REPOSITORY",
                    "GITHUB_SHA",
                ] {
                    job.set(name, text.clone());
                }
                drop((
                    PipelineEvent::of(&job).to_string(),
                    RefStatus::of(&job, Some(&text)),
                    crate::ci::CiJob::of(&job),
                ));
                drop((
                    crate::ci::project(&job),
                    crate::ci::source_url(&job),
                    crate::ci::repository::JobRepository::of(&job).map(|found| found.git_address()),
                ));
            }
        });
    }
}
