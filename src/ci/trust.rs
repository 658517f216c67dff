//! Trust in the job: decided from the event and the branch of its pipeline.

use super::event::{PipelineEvent, RefStatus};
use super::sections::is_actions;
use crate::model::env;
use crate::model::{JobTrust, UntrustedReason, Variables};

/// Returns the trust in a job. `payload` is the content of the file in `GITHUB_EVENT_PATH`.
///
/// A merge request or pull request is untrusted, and so is a branch that is neither the default
/// branch nor protected. A job whose branch is unknown is untrusted too. Tags are trusted; whoever
/// may create them is a setting of the forge. Outside CI, everything is trusted.
pub fn trust(variables: &Variables, payload: Option<&str>) -> JobTrust {
    let get = |name| variables.get_filled(name);
    if PipelineEvent::of(variables) == PipelineEvent::Proposal
        || get(env::CI_MERGE_REQUEST_IID).is_some()
    {
        return JobTrust::Untrusted(UntrustedReason::MergeRequest);
    }
    if !is_in_ci(variables) {
        return JobTrust::Trusted;
    }
    let is_true = |name| get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let actions = is_actions(variables);
    let is_protected = is_true(env::GITHUB_REF_PROTECTED) || is_true(env::CI_COMMIT_REF_PROTECTED);
    let is_tag = if actions {
        get(env::GITHUB_REF).is_some_and(|reference| reference.starts_with("refs/tags/"))
    } else {
        get(env::CI_COMMIT_TAG).is_some()
    };
    if is_protected || is_tag {
        return JobTrust::Trusted;
    }
    let reason = match RefStatus::of(variables, payload) {
        RefStatus::DefaultBranch => return JobTrust::Trusted,
        RefStatus::OtherRef if has_ref(variables) => UntrustedReason::UnprotectedBranch,
        RefStatus::OtherRef | RefStatus::Unknown | RefStatus::OutsideCi => {
            UntrustedReason::UnknownBranch
        }
    };
    JobTrust::Untrusted(reason)
}

/// Returns true in a job of any CI server.
pub fn is_in_ci(variables: &Variables) -> bool {
    [
        env::CI,
        env::GITLAB_CI,
        env::GITHUB_ACTIONS,
        env::GITEA_ACTIONS,
        env::FORGEJO_ACTIONS,
    ]
    .iter()
    .any(|name| {
        variables
            .get_filled(name)
            .is_some_and(|value| !matches!(value, "false" | "0"))
    })
}

/// Returns true if the CI server states the ref of the job.
fn has_ref(variables: &Variables) -> bool {
    [
        env::CI_COMMIT_BRANCH,
        env::CI_COMMIT_REF_NAME,
        env::GITHUB_REF,
    ]
    .iter()
    .any(|name| variables.get_filled(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[&[(&str, &str)]]) -> JobTrust {
        let payload = r#"{"repository": {"default_branch": "main"}}"#;
        let variables = pairs.iter().flat_map(|part| part.iter().copied()).collect();
        trust(&variables, Some(payload))
    }

    const GITLAB: &[(&str, &str)] = &[
        ("CI", "true"),
        ("GITLAB_CI", "true"),
        ("CI_DEFAULT_BRANCH", "main"),
        ("CI_COMMIT_REF_PROTECTED", "false"),
    ];
    const ACTIONS: &[(&str, &str)] = &[("CI", "true"), ("GITEA_ACTIONS", "true")];

    #[test]
    fn default_and_protected_branches_tags_and_workstations_are_trusted() {
        for pairs in [
            &[&[("HOME", "/root")][..]][..],
            &[&[("CI", "false")]],
            &[
                GITLAB,
                &[("CI_PIPELINE_SOURCE", "push"), ("CI_COMMIT_BRANCH", "main")],
            ],
            &[
                GITLAB,
                &[
                    ("CI_COMMIT_BRANCH", "release"),
                    ("CI_COMMIT_REF_PROTECTED", "true"),
                ],
            ],
            &[GITLAB, &[("CI_COMMIT_TAG", "v1")]],
            &[&[("CI", "true"), ("CI_COMMIT_REF_PROTECTED", "true")]],
            &[ACTIONS, &[("GITHUB_REF", "refs/heads/main")]],
            &[ACTIONS, &[("GITHUB_REF", "refs/tags/v1")]],
            &[
                ACTIONS,
                &[
                    ("GITHUB_REF", "refs/heads/x"),
                    ("GITHUB_REF_PROTECTED", "true"),
                ],
            ],
            &[ACTIONS, &[("GITHUB_EVENT_NAME", "schedule")]],
        ] {
            assert_eq!(of(pairs), JobTrust::Trusted, "{pairs:?}");
        }
    }

    #[test]
    fn merge_requests_unprotected_and_unknown_branches_are_untrusted() {
        use UntrustedReason::{MergeRequest, UnknownBranch, UnprotectedBranch};
        for (pairs, reason) in [
            (
                &[
                    GITLAB,
                    &[
                        ("CI_PIPELINE_SOURCE", "merge_request_event"),
                        ("CI_COMMIT_REF_PROTECTED", "true"),
                    ],
                ][..],
                MergeRequest,
            ),
            (
                &[
                    GITLAB,
                    &[
                        ("CI_PIPELINE_SOURCE", "parent_pipeline"),
                        ("CI_MERGE_REQUEST_IID", "7"),
                    ],
                ],
                MergeRequest,
            ),
            (
                &[
                    ACTIONS,
                    &[
                        ("GITHUB_EVENT_NAME", "pull_request_target"),
                        ("GITHUB_REF", "refs/heads/main"),
                    ],
                ],
                MergeRequest,
            ),
            (
                &[GITLAB, &[("CI_COMMIT_BRANCH", "topic")]],
                UnprotectedBranch,
            ),
            (
                &[ACTIONS, &[("GITHUB_REF", "refs/heads/topic")]],
                UnprotectedBranch,
            ),
            (
                &[&[("CI_PIPELINE_SOURCE", "merge_request_event")]],
                MergeRequest,
            ),
            (&[GITLAB], UnknownBranch),
            (&[&[("CI", "true")]], UnknownBranch),
            (&[ACTIONS], UnknownBranch),
        ] {
            assert_eq!(of(pairs), JobTrust::Untrusted(reason), "{pairs:?}");
        }
    }
}
