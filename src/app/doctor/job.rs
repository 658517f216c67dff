//! Checks of the job: its trust, and the credentials that an untrusted job can see.

use crate::ci::trust::is_in_ci;
use crate::model::env;
use crate::model::{JobTrust, UntrustedReason, Variables};
use crate::probe::ProbeFinding;

/// Ends of the names of imglife's variables with a credential.
const CREDENTIAL_ENDS: [&str; 3] = ["_PASSWORD", "_PASSWORD_FILE", "_TOKEN"];

/// Returns the findings about the job; none outside CI.
pub(super) fn findings(variables: &Variables) -> Vec<ProbeFinding> {
    const CHECK: &str = "job.trust";
    let reason = match variables.permissions().trust {
        JobTrust::Trusted if is_in_ci(variables) => {
            let detail = "trusted: it runs for the default branch, a protected branch or a tag";
            return vec![ProbeFinding::ok(CHECK, "", detail)];
        }
        JobTrust::Trusted => return Vec::new(),
        JobTrust::Untrusted(reason) => reason,
    };
    let detail =
        format!("untrusted, because {reason}: credentials, variables and commands are limited");
    let mut finding = ProbeFinding::ok(CHECK, "", detail);
    if reason == UntrustedReason::UnknownBranch {
        finding = finding.fix(format!(
            "set {}=true in the CI settings for jobs of protected branches",
            env::CI_COMMIT_REF_PROTECTED
        ));
    }
    let mut findings = vec![finding];
    findings.extend(lasting(variables).map(|name| {
        ProbeFinding::wrong(
            "job.credential",
            name,
            "an untrusted job can see this credential, which stays valid after the job",
        )
        .fix("make it a protected variable, or a secret that pull requests do not get")
        .optional()
    }));
    findings
}

/// Returns the names of the variables with credentials that stay valid after the job.
fn lasting(variables: &Variables) -> impl Iterator<Item = &str> {
    let is_credential = |name: &str| {
        let own =
            name.starts_with(env::PREFIX) && CREDENTIAL_ENDS.iter().any(|end| name.ends_with(end));
        own || [
            env::GITLAB_TOKEN,
            env::GITLAB_DEPLOY_TOKEN,
            env::GITEA_TOKEN,
            env::AWS_SECRET_ACCESS_KEY,
            env::DOCKER_AUTH_CONFIG,
        ]
        .contains(&name)
    };
    variables
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, _)| name)
        .filter(move |name| is_credential(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Permissions;

    fn details(pairs: &[(&str, &str)], trust: JobTrust) -> Vec<String> {
        let variables = pairs
            .iter()
            .copied()
            .collect::<Variables>()
            .with_permissions(Permissions {
                trust,
                ..Permissions::default()
            });
        findings(&variables)
            .into_iter()
            .map(|finding| format!("{} {} {}", finding.check, finding.about, finding.detail))
            .collect()
    }

    #[test]
    fn lasting_credentials_of_an_untrusted_job_are_reported() {
        let pairs = [
            ("CI", "true"),
            ("CI_JOB_TOKEN", "hunter2"),
            ("GITLAB_TOKEN", "hunter2"),
            ("IMGLIFE_QUAY_IO_TOKEN", "hunter2"),
            ("IMGLIFE_DOCKER_IO_PASSWORD", ""),
        ];
        let untrusted = JobTrust::Untrusted(UntrustedReason::MergeRequest);
        assert_eq!(
            details(&pairs, untrusted),
            [
                "job.trust  untrusted, because it runs for a merge request: credentials, variables and commands are limited",
                "job.credential GITLAB_TOKEN an untrusted job can see this credential, which stays valid after the job",
                "job.credential IMGLIFE_QUAY_IO_TOKEN an untrusted job can see this credential, which stays valid after the job",
            ]
        );
        assert_eq!(details(&pairs, JobTrust::Trusted).len(), 1);
        assert_eq!(details(&[], JobTrust::Trusted), Vec::<String>::new());
    }
}
