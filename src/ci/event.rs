//! Why a pipeline runs, and on what: which steps it calls for, and whether it may change what
//! others see.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::sections::is_actions;
use crate::model::Variables;
use crate::model::env;

/// Why a pipeline runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    Schedule,
    Push,
    /// Somebody started it on the server's pages.
    Web,
    /// Outside of CI, and whatever else starts pipelines.
    Manual,
    /// What it runs on is only proposed: a merge request or pull request.
    Proposal,
}

impl Event {
    /// Returns what the CI server says, `Manual` outside of CI.
    pub fn of(variables: &Variables) -> Event {
        let told = variables
            .get_filled(env::CI_PIPELINE_SOURCE)
            .or_else(|| variables.get_filled(env::GITHUB_EVENT_NAME));
        match told {
            Some("schedule") => Event::Schedule,
            Some("push") => Event::Push,
            Some("web" | "workflow_dispatch") => Event::Web,
            Some("merge_request_event" | "external_pull_request_event") => Event::Proposal,
            Some(name) if name.starts_with("pull_request") => Event::Proposal,
            _ => Event::Manual,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Event::Schedule => "schedule",
            Event::Push => "push",
            Event::Web => "web",
            Event::Manual => "manual",
            Event::Proposal => "merge request",
        })
    }
}

/// What a run stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    OutsideCi,
    DefaultBranch,
    /// Another branch, a tag, or a merge request.
    Elsewhere,
    /// The server does not tell which branch is the default one.
    Unknown,
}

impl Standing {
    /// Returns what the variables tell of a job. `payload` is the text of the file that
    /// `GITHUB_EVENT_PATH` names.
    pub fn of(variables: &Variables, payload: Option<&str>) -> Standing {
        // Told by whoever makes a job look like one of GitLab's, as the event is.
        let has_source =
            variables.get_filled(env::CI_PIPELINE_SOURCE).is_some() && !is_actions(variables);
        if variables.get_filled(env::GITLAB_CI).is_some() || has_source {
            // Not set for tags and merge requests.
            let branch = variables.get_filled(env::CI_COMMIT_BRANCH);
            return match (branch, variables.get_filled(env::CI_DEFAULT_BRANCH)) {
                (Some(branch), Some(default)) if branch == default => Standing::DefaultBranch,
                (Some(_), None) => Standing::Unknown,
                _ => Standing::Elsewhere,
            };
        }
        if !is_actions(variables) {
            return Standing::OutsideCi;
        }
        if Event::of(variables) == Event::Schedule {
            // Schedules are those of the workflows of the default branch.
            return Standing::DefaultBranch;
        }
        let branch = variables
            .get_filled(env::GITHUB_REF)
            .and_then(|reference| reference.strip_prefix("refs/heads/"));
        let Some(branch) = branch else {
            return Standing::Elsewhere;
        };
        match payload.and_then(default_branch) {
            Some(default) if default == branch => Standing::DefaultBranch,
            Some(_) => Standing::Elsewhere,
            None => Standing::Unknown,
        }
    }
}

/// Returns the default branch, as the payload of an event names it.
fn default_branch(payload: &str) -> Option<String> {
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
    fn the_event_is_what_the_server_says() {
        for (name, value, event) in [
            ("CI_PIPELINE_SOURCE", "schedule", Event::Schedule),
            ("CI_PIPELINE_SOURCE", "push", Event::Push),
            ("CI_PIPELINE_SOURCE", "web", Event::Web),
            ("CI_PIPELINE_SOURCE", "api", Event::Manual),
            ("CI_PIPELINE_SOURCE", "merge_request_event", Event::Proposal),
            ("GITHUB_EVENT_NAME", "schedule", Event::Schedule),
            ("GITHUB_EVENT_NAME", "push", Event::Push),
            ("GITHUB_EVENT_NAME", "workflow_dispatch", Event::Web),
            ("GITHUB_EVENT_NAME", "pull_request_target", Event::Proposal),
            ("HOME", "/", Event::Manual),
        ] {
            assert_eq!(
                Event::of(&variables(&[(name, value)])),
                event,
                "{name}={value}"
            );
        }
    }

    #[test]
    fn only_the_default_branch_counts_as_such() {
        let gitlab = |pairs: &[(&str, &str)]| {
            Standing::of(
                &variables(&[&[("GITLAB_CI", "true")], pairs].concat()),
                None,
            )
        };
        assert_eq!(
            gitlab(&[("CI_COMMIT_BRANCH", "main"), ("CI_DEFAULT_BRANCH", "main")]),
            Standing::DefaultBranch
        );
        assert_eq!(
            gitlab(&[("CI_COMMIT_BRANCH", "topic"), ("CI_DEFAULT_BRANCH", "main")]),
            Standing::Elsewhere
        );
        assert_eq!(
            gitlab(&[("CI_COMMIT_TAG", "main"), ("CI_DEFAULT_BRANCH", "main")]),
            Standing::Elsewhere
        );
        assert_eq!(gitlab(&[("CI_COMMIT_BRANCH", "main")]), Standing::Unknown);
        let told = variables(&[
            ("CI_PIPELINE_SOURCE", "push"),
            ("CI_COMMIT_BRANCH", "topic"),
            ("CI_DEFAULT_BRANCH", "main"),
        ]);
        assert_eq!(Standing::of(&told, None), Standing::Elsewhere);

        let payload = Some(r#"{"repository": {"default_branch": "trunk", "id": 1}}"#);
        let actions = |pairs: &[(&str, &str)], payload| {
            Standing::of(
                &variables(&[&[("GITEA_ACTIONS", "true")], pairs].concat()),
                payload,
            )
        };
        assert_eq!(
            actions(&[("GITHUB_REF", "refs/heads/trunk")], payload),
            Standing::DefaultBranch
        );
        assert_eq!(
            actions(&[("GITHUB_REF", "refs/heads/main")], payload),
            Standing::Elsewhere
        );
        assert_eq!(
            actions(&[("GITHUB_REF", "refs/tags/trunk")], payload),
            Standing::Elsewhere
        );
        assert_eq!(
            actions(&[("GITHUB_REF", "refs/heads/main")], Some("{")),
            Standing::Unknown
        );
        assert_eq!(
            actions(
                &[
                    ("GITHUB_REF", "refs/heads/main"),
                    ("GITHUB_EVENT_NAME", "schedule")
                ],
                None
            ),
            Standing::DefaultBranch
        );
        assert_eq!(
            Standing::of(&variables(&[("CI_COMMIT_BRANCH", "main")]), payload),
            Standing::OutsideCi
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
                let mut told = variables(&[(server, "true")]);
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
                    told.set(name, text.clone());
                }
                drop((
                    Event::of(&told).to_string(),
                    Standing::of(&told, Some(&text)),
                    crate::ci::Build::of(&told),
                ));
                drop((
                    crate::ci::project(&told),
                    crate::ci::source_url(&told),
                    crate::ci::repository::Repository::of(&told).map(|found| found.git_address()),
                ));
            }
        });
    }
}
