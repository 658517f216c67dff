//! What was done, in few words, and what to allow where a remote refused.

use thiserror::Error;

use super::message::MessageError;
use crate::git::{GitError, ObjectId, RefusalKind};
use crate::model::text::{excerpt, printable};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The branch has everything.
    Nothing,
    /// What the branch has is newer.
    Superseded,
    Pushed {
        commit: ObjectId,
        branch: String,
    },
    /// The branch beside it has everything already.
    SideCurrent {
        branch: String,
    },
}

/// What became of a file, where that is not plain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// It is as it was checked out; the branch has another.
    Untouched(String),
    /// Only the report in it was replaced: the rest is that of the branch.
    Merged(String),
    Superseded(String),
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPushReport {
    pub outcome: Outcome,
    pub notes: Vec<Note>,
}

impl CommitPushReport {
    /// Returns the report in lines; the last one says how it ended.
    pub fn lines(&self) -> Vec<String> {
        let name = |path: &String| excerpt(path, 200);
        let note = |note: &Note| match note {
            Note::Untouched(path) => format!(
                "{}: not changed here; the branch has a newer one",
                name(path)
            ),
            Note::Merged(path) => {
                format!(
                    "{}: changed on the branch meanwhile; only the report between the markers was replaced",
                    name(path)
                )
            }
            Note::Superseded(path) => {
                format!("{}: superseded by a newer commit of imglife", name(path))
            }
        };
        let end = match &self.outcome {
            Outcome::Nothing => "nothing to commit".to_owned(),
            Outcome::Superseded => "superseded, nothing to commit".to_owned(),
            Outcome::Pushed { commit, branch } => {
                format!("pushed {} to {}", commit.short(), printable(branch))
            }
            Outcome::SideCurrent { branch } => format!("nothing new for {}", printable(branch)),
        };
        self.notes.iter().map(note).chain([end]).collect()
    }
}

/// With what a remote is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    GitlabToken,
    GitlabJob,
    GiteaToken,
    /// The token of a job at Gitea.
    GiteaJob,
    /// No token is set, in a job of GitLab's.
    NoGitlab,
    /// No token is set, in a job of Gitea's.
    NoGitea,
    /// Whatever git itself is configured to.
    Own,
}

/// Why nothing was pushed.
#[derive(Debug, Error)]
pub enum CommitPushError {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("the remote has no branch `{}`", printable(.branch))]
    NoBranch { branch: String },
    #[error("{} changed on {} since the checkout, so nothing was pushed", listed(.paths), printable(.branch))]
    Conflict { paths: Vec<String>, branch: String },
    #[error("{} was changed by others {tries} times in a row while it was pushed to", printable(.branch))]
    Overtaken { branch: String, tries: u32 },
    #[error("`{}` is the default branch, and this pipeline is of another", printable(.branch))]
    OtherPipeline { branch: String },
    #[error("the branch `{}` has commits that are not imglife's", printable(.branch))]
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
    /// Returns whether it was clear from the start that this cannot be done.
    pub fn is_usage(&self) -> bool {
        match self {
            CommitPushError::Git(error) => error.is_usage(),
            CommitPushError::Message(_) | CommitPushError::OtherPipeline { .. } => true,
            _ => false,
        }
    }

    /// Returns what the user can do, who speaks to the remote by `access`.
    pub fn hint(&self, access: Access) -> Option<String> {
        Some(match self {
            CommitPushError::Git(GitError::Remote { refusal, .. }) => return refused(refusal.kind, access).map(str::to_owned),
            CommitPushError::Git(error) => return error.hint(),
            CommitPushError::Message(_) => return None,
            CommitPushError::NoBranch { .. } => "name one that is there with `--branch`".to_owned(),
            CommitPushError::Conflict { .. } => {
                "somebody else's change would be lost: run the step that writes the file again, on the newest commit of the branch"
                    .to_owned()
            }
            CommitPushError::Overtaken { .. } => "run it again; in GitLab, give the jobs that push a common `resource_group`".to_owned(),
            CommitPushError::OtherPipeline { .. } => "run it in a pipeline of the default branch, or use `--merge-request`".to_owned(),
            CommitPushError::ForeignSide { branch } => {
                format!("merge `{}` or delete it: it is imglife's own, and would be replaced", printable(branch))
            }
        })
    }
}

/// Returns what to allow.
fn refused(kind: RefusalKind, access: Access) -> Option<&'static str> {
    Some(match (kind, access) {
        (RefusalKind::Protected, Access::GitlabToken | Access::GitlabJob | Access::NoGitlab) => {
            "allow the user of the token or job to push: Settings > Repository > Protected branches > Allowed to push and merge; or use \
             `--merge-request`"
        }
        (RefusalKind::Protected, _) => {
            "allow the user of the token to push: Settings > Branches, the rule of this branch; or use `--merge-request`"
        }
        (
            RefusalKind::Forbidden | RefusalKind::Absent | RefusalKind::Unknown,
            Access::GitlabJob,
        ) => {
            "jobs may push when the project allows it: Settings > CI/CD > Job token permissions > Allow Git push requests to the \
             repository (GitLab 18.4 and later); otherwise set GITLAB_TOKEN to a token with the scope `write_repository` and the role \
             that the branch asks for"
        }
        (RefusalKind::Forbidden | RefusalKind::Absent, Access::GitlabToken) => {
            "GITLAB_TOKEN needs the scope `write_repository` and at least the role Developer in this project"
        }
        (RefusalKind::Unknown, Access::GitlabToken) => {
            "GITLAB_TOKEN is not taken: it is mistyped, expired or revoked, or lacks the scope `write_repository`"
        }
        (RefusalKind::Forbidden | RefusalKind::Absent, Access::GiteaToken) => {
            "GITEA_TOKEN needs the scope `write:repository`, and its user must be allowed to write to this repository"
        }
        (RefusalKind::Unknown, Access::GiteaToken) => {
            "GITEA_TOKEN is not taken: it is mistyped or was deleted"
        }
        (RefusalKind::Forbidden | RefusalKind::Absent | RefusalKind::Unknown, Access::GiteaJob) => {
            "give the job `permissions: contents: write`, or set GITEA_TOKEN to a token with the scope `write:repository`"
        }
        (RefusalKind::Forbidden | RefusalKind::Absent | RefusalKind::Unknown, Access::NoGitlab) => {
            "set GITLAB_TOKEN to a token with the scope `write_repository`"
        }
        (RefusalKind::Forbidden | RefusalKind::Absent | RefusalKind::Unknown, Access::NoGitea) => {
            "set GITEA_TOKEN to a token with the scope `write:repository`"
        }
        (RefusalKind::Forbidden | RefusalKind::Absent | RefusalKind::Unknown, Access::Own) => {
            "see that `git push` works here without asking for anything"
        }
        (RefusalKind::Moved, _) => "a token follows no redirect: set the address that it leads to",
        (RefusalKind::Rule, _) => {
            "the server's own rules refused it: look at its push rules, hooks and branch protection"
        }
        (RefusalKind::Passing | RefusalKind::Other, _) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_says_how_it_ended() {
        let commit = ObjectId::parse(&"4f2a91c0".repeat(5)).expect("a name");
        let pushed = Outcome::Pushed {
            commit,
            branch: "main".to_owned(),
        };
        let report = CommitPushReport {
            outcome: pushed,
            notes: vec![Note::Merged("README.md".to_owned())],
        };
        assert_eq!(
            report.lines(),
            [
                "README.md: changed on the branch meanwhile; only the report between the markers was replaced",
                "pushed 4f2a91c0 to main"
            ]
        );
        let nothing = CommitPushReport {
            outcome: Outcome::Nothing,
            notes: Vec::new(),
        };
        assert_eq!(nothing.lines(), ["nothing to commit"]);
    }

    #[test]
    fn a_refusal_says_what_to_allow() {
        let hint = |kind, access| refused(kind, access).unwrap_or_default();
        assert!(hint(RefusalKind::Protected, Access::GitlabJob).contains("Protected branches"));
        assert!(
            hint(RefusalKind::Forbidden, Access::GitlabJob).contains("Allow Git push requests")
        );
        assert!(hint(RefusalKind::Forbidden, Access::GitlabToken).contains("write_repository"));
        assert!(hint(RefusalKind::Unknown, Access::NoGitea).contains("set GITEA_TOKEN"));
        assert_eq!(hint(RefusalKind::Passing, Access::Own), "");
    }
}
