//! Result of a run, its errors, and hints for a refused push.

use thiserror::Error;

use super::message::CommitMessageError;
use crate::git::{GitError, ObjectId, RemoteRefusalKind};
use crate::model::text::{excerpt, printable};

/// Outcome of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitPushOutcome {
    /// The branch is up to date.
    Nothing,
    /// The branch has newer versions.
    Superseded,
    /// A commit was pushed.
    Pushed { commit: ObjectId, branch: String },
    /// The source branch of the merge request is up to date.
    SideCurrent { branch: String },
}

/// Remark on a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitPushNote {
    /// Unchanged in the work tree; the branch has another version, which stays.
    UnchangedHere(String),
    /// Only the report between the markers was replaced in the version of the branch.
    Merged(String),
    /// The branch has a newer version by imglife.
    Superseded(String),
}

/// Report of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPushReport {
    pub outcome: CommitPushOutcome,
    pub notes: Vec<CommitPushNote>,
}

impl CommitPushReport {
    /// Renders the report; the last line is the outcome.
    pub fn lines(&self) -> Vec<String> {
        let name = |path: &String| excerpt(path, 200);
        let note = |note: &CommitPushNote| match note {
            CommitPushNote::UnchangedHere(path) => format!(
                "{}: not changed here; the branch has a newer version",
                name(path)
            ),
            CommitPushNote::Merged(path) => {
                format!(
                    "{}: changed on the branch in the meantime; only the report between the markers was replaced",
                    name(path)
                )
            }
            CommitPushNote::Superseded(path) => {
                format!("{}: superseded by a newer imglife commit", name(path))
            }
        };
        let end = match &self.outcome {
            CommitPushOutcome::Nothing => "nothing to commit".to_owned(),
            CommitPushOutcome::Superseded => "superseded, nothing to commit".to_owned(),
            CommitPushOutcome::Pushed { commit, branch } => {
                format!("pushed {} to {}", commit.short(), printable(branch))
            }
            CommitPushOutcome::SideCurrent { branch } => {
                format!("{} is up to date", printable(branch))
            }
        };
        self.notes.iter().map(note).chain([end]).collect()
    }
}

/// Credential used for the remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteAccess {
    GitlabToken,
    GitlabJob,
    GiteaToken,
    /// Token of a Gitea job.
    GiteaJob,
    /// No token, in a GitLab job.
    NoGitlab,
    /// No token, in a Gitea job.
    NoGitea,
    /// Git's own configuration.
    Own,
}

/// Reason why nothing was pushed.
#[derive(Debug, Error)]
pub enum CommitPushError {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Message(#[from] CommitMessageError),
    #[error("the remote has no branch `{}`", printable(.branch))]
    NoBranch { branch: String },
    #[error("{} changed on {} since the checkout, so nothing was pushed", listed(.paths), printable(.branch))]
    Conflict { paths: Vec<String>, branch: String },
    #[error("the push to `{}` failed {tries} times because another push came first", printable(.branch))]
    RaceLost { branch: String, tries: u32 },
    #[error("this pipeline does not run for the default branch `{}`, so it must not push to that branch", printable(.branch))]
    OtherPipeline { branch: String },
    #[error("the branch `{}` contains commits by other authors", printable(.branch))]
    ForeignSide { branch: String },
}

fn listed(paths: &[String]) -> String {
    let shown = paths
        .iter()
        .take(5)
        .map(|path| excerpt(path, 200))
        .collect::<Vec<_>>()
        .join(", ");
    let more = paths.len().saturating_sub(5);
    if more > 0 {
        format!("{shown} and {more} more")
    } else {
        shown
    }
}

impl CommitPushError {
    /// Returns true for a usage error, before which nothing was changed.
    pub fn is_usage(&self) -> bool {
        match self {
            CommitPushError::Git(error) => error.is_usage(),
            CommitPushError::Message(_) | CommitPushError::OtherPipeline { .. } => true,
            _ => false,
        }
    }

    /// Returns a hint for a user who accesses the remote with `access`.
    pub fn hint(&self, access: RemoteAccess) -> Option<String> {
        Some(match self {
            CommitPushError::Git(GitError::Remote { refusal, .. }) => return refused(refusal.kind, access).map(str::to_owned),
            CommitPushError::Git(error) => return error.hint(),
            CommitPushError::Message(_) => return None,
            CommitPushError::NoBranch { .. } => "set `--branch` to an existing branch".to_owned(),
            CommitPushError::Conflict { .. } => {
                "check out the newest commit of the branch and run the step that writes the file again"
                    .to_owned()
            }
            CommitPushError::RaceLost { .. } => "run the job again; in GitLab, set the same `resource_group` for all jobs that push".to_owned(),
            CommitPushError::OtherPipeline { .. } => "run the job in a pipeline of the default branch, or pass `--merge-request`".to_owned(),
            CommitPushError::ForeignSide { branch } => {
                format!("merge or delete `{}`; imglife owns this branch and replaces its content", printable(branch))
            }
        })
    }
}

/// Returns the permission or setting that is missing.
fn refused(kind: RemoteRefusalKind, access: RemoteAccess) -> Option<&'static str> {
    Some(match (kind, access) {
        (
            RemoteRefusalKind::Protected,
            RemoteAccess::GitlabToken | RemoteAccess::GitlabJob | RemoteAccess::NoGitlab,
        ) => {
            "allow the user of the token or job to push: Settings > Repository > Protected branches > Allowed to push and merge; or use \
             `--merge-request`"
        }
        (RemoteRefusalKind::Protected, _) => {
            "allow the user of the token to push: Settings > Branches, the rule of this branch; or use `--merge-request`"
        }
        (
            RemoteRefusalKind::Forbidden
            | RemoteRefusalKind::Absent
            | RemoteRefusalKind::Unauthenticated,
            RemoteAccess::GitlabJob,
        ) => {
            "allow job tokens to push: Settings > CI/CD > Job token permissions > Allow Git push requests to the \
             repository (GitLab 18.4 and later); or set GITLAB_TOKEN to a token with the scope `write_repository` and the role \
             that the branch requires"
        }
        (RemoteRefusalKind::Forbidden | RemoteRefusalKind::Absent, RemoteAccess::GitlabToken) => {
            "GITLAB_TOKEN needs the scope `write_repository` and at least the role Developer in this project"
        }
        (RemoteRefusalKind::Unauthenticated, RemoteAccess::GitlabToken) => {
            "GITLAB_TOKEN was rejected: it is mistyped, expired or revoked, or lacks the scope `write_repository`"
        }
        (RemoteRefusalKind::Forbidden | RemoteRefusalKind::Absent, RemoteAccess::GiteaToken) => {
            "GITEA_TOKEN needs the scope `write:repository`, and its user must be allowed to write to this repository"
        }
        (RemoteRefusalKind::Unauthenticated, RemoteAccess::GiteaToken) => {
            "GITEA_TOKEN was rejected: it is mistyped or deleted"
        }
        (
            RemoteRefusalKind::Forbidden
            | RemoteRefusalKind::Absent
            | RemoteRefusalKind::Unauthenticated,
            RemoteAccess::GiteaJob,
        ) => {
            "give the job `permissions: contents: write`, or set GITEA_TOKEN to a token with the scope `write:repository`"
        }
        (
            RemoteRefusalKind::Forbidden
            | RemoteRefusalKind::Absent
            | RemoteRefusalKind::Unauthenticated,
            RemoteAccess::NoGitlab,
        ) => "set GITLAB_TOKEN to a token with the scope `write_repository`",
        (
            RemoteRefusalKind::Forbidden
            | RemoteRefusalKind::Absent
            | RemoteRefusalKind::Unauthenticated,
            RemoteAccess::NoGitea,
        ) => "set GITEA_TOKEN to a token with the scope `write:repository`",
        (
            RemoteRefusalKind::Forbidden
            | RemoteRefusalKind::Absent
            | RemoteRefusalKind::Unauthenticated,
            RemoteAccess::Own,
        ) => "make sure that `git push` works here without a prompt",
        (RemoteRefusalKind::Moved, _) => {
            "set the remote to the address that it redirects to; tokens are not sent to another address"
        }
        (RemoteRefusalKind::Rule, _) => {
            "check the push rules, hooks and branch protection of the server"
        }
        (RemoteRefusalKind::Transient | RemoteRefusalKind::Other, _) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_line_is_the_outcome() {
        let commit = ObjectId::parse(&"4f2a91c0".repeat(5)).expect("a name");
        let pushed = CommitPushOutcome::Pushed {
            commit,
            branch: "main".to_owned(),
        };
        let report = CommitPushReport {
            outcome: pushed,
            notes: vec![CommitPushNote::Merged("README.md".to_owned())],
        };
        assert_eq!(
            report.lines(),
            [
                "README.md: changed on the branch in the meantime; only the report between the markers was replaced",
                "pushed 4f2a91c0 to main"
            ]
        );
        let nothing = CommitPushReport {
            outcome: CommitPushOutcome::Nothing,
            notes: Vec::new(),
        };
        assert_eq!(nothing.lines(), ["nothing to commit"]);
    }

    #[test]
    fn hint_names_the_missing_permission() {
        let hint = |kind, access| refused(kind, access).unwrap_or_default();
        assert!(
            hint(RemoteRefusalKind::Protected, RemoteAccess::GitlabJob)
                .contains("Protected branches")
        );
        assert!(
            hint(RemoteRefusalKind::Forbidden, RemoteAccess::GitlabJob)
                .contains("Allow Git push requests")
        );
        assert!(
            hint(RemoteRefusalKind::Forbidden, RemoteAccess::GitlabToken)
                .contains("write_repository")
        );
        assert!(
            hint(RemoteRefusalKind::Unauthenticated, RemoteAccess::NoGitea)
                .contains("set GITEA_TOKEN")
        );
        assert_eq!(hint(RemoteRefusalKind::Transient, RemoteAccess::Own), "");
    }
}
