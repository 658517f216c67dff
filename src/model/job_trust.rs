//! Trust in the job of a run, and the permissions that follow from it.

use std::fmt;

/// Trust in the configuration and the files of a job.
///
/// An untrusted job runs for changes that nobody has reviewed yet: of a merge request, or of a
/// branch that anybody with access to the project can push to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JobTrust {
    #[default]
    Trusted,
    Untrusted(UntrustedReason),
}

/// Reason why a job is untrusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UntrustedReason {
    /// The option `--untrusted`.
    Option,
    /// A merge request or pull request.
    MergeRequest,
    /// A branch that is neither the default branch nor protected.
    UnprotectedBranch,
    /// A job that does not state its branch.
    UnknownBranch,
}

impl fmt::Display for UntrustedReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            UntrustedReason::Option => "--untrusted is set",
            UntrustedReason::MergeRequest => "it runs for a merge request",
            UntrustedReason::UnprotectedBranch => {
                "its branch is neither the default branch nor protected"
            }
            UntrustedReason::UnknownBranch => "the CI server does not state its branch",
        })
    }
}

/// Permissions of a run. They are decided once, when the program starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    pub trust: JobTrust,
    /// If true, an untrusted job runs the commands of the configuration and build programs.
    pub commands: bool,
    /// If true, paths in the configuration may lead out of its repository.
    pub outside: bool,
}

impl Permissions {
    /// Returns true in an untrusted job.
    pub fn is_untrusted(&self) -> bool {
        self.trust != JobTrust::Trusted
    }

    /// Returns true if hooks and build programs may run.
    pub fn may_run_commands(&self) -> bool {
        self.commands || !self.is_untrusted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_untrusted_job_needs_the_permission_to_run_commands() {
        let untrusted = Permissions {
            trust: JobTrust::Untrusted(UntrustedReason::MergeRequest),
            ..Permissions::default()
        };
        let allowed = Permissions {
            commands: true,
            ..untrusted
        };
        assert_eq!(
            [Permissions::default(), untrusted, allowed].map(|given| given.may_run_commands()),
            [true, false, true]
        );
    }
}
