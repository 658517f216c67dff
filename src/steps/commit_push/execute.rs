//! Makes the commit and pushes it; starts over if another push came first.

use std::time::Duration;

use super::merge::{BranchChanges, CommitFile, FileState, Resolution, resolve};
use super::message::CommitMessage;
use super::report::{CommitPushError, CommitPushNote, CommitPushOutcome, CommitPushReport};
use crate::git::{
    Changer, Checkout, CommitIdentity, FileKind, GitError, NewCommit, ObjectId, PushOutcome,
    PushRequest, RemoteHeads, RemoteRefusalKind, ScratchRepository, TreeEntry, WorkFile,
};
use crate::model::Digest;

/// Maximum number of pushes.
const MAX_TRIES: u32 = 5;

/// Maximum wait before the second try; doubles with each try.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Files to commit, and the branch to push to.
pub struct CommitPushRequest {
    pub files: Vec<WorkFile>,
    pub branch: String,
    pub target: PushTarget,
    pub branch_check: BranchCheck,
    pub message: CommitMessage,
    pub author: CommitIdentity,
    pub committer: CommitIdentity,
    pub signs_off: bool,
    /// Commit that the work tree was checked out from.
    pub base: Option<ObjectId>,
}

/// Branch that receives the push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushTarget {
    /// The branch itself.
    Branch,
    /// A separate branch owned by imglife, as the source of a merge request.
    Side(String),
}

/// Safety check for pushes to the default branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BranchCheck {
    /// No restriction.
    Unrestricted,
    /// The pipeline does not run for the default branch, so a push to that branch is refused. Holds
    /// the name of the default branch if the CI server reports it.
    NotDefault(Option<String>),
}

/// Returns the source branch for merge requests that change `files` on `branch`. The name is
/// deterministic.
pub fn side_branch(branch: &str, files: &[WorkFile]) -> String {
    let paths = files
        .iter()
        .map(|file| file.path.as_str())
        .collect::<Vec<_>>()
        .join("\n");
    let word = |text: &str| {
        let kept = text.chars().map(|character| {
            if character.is_ascii_alphanumeric() {
                character.to_ascii_lowercase()
            } else {
                '-'
            }
        });
        kept.take(40)
            .collect::<String>()
            .trim_matches('-')
            .to_owned()
    };
    let digest = Digest::sha256(format!("{branch}\n{paths}").as_bytes()).to_string();
    let first = files.first().map_or("", |file| file.path.as_str());
    let hash: String = digest
        .rsplit(':')
        .next()
        .unwrap_or_default()
        .chars()
        .take(8)
        .collect();
    format!("imglife/{}-{}-{hash}", word(branch), word(first))
}

/// State of a run.
struct CommitPushRun<'a> {
    request: &'a CommitPushRequest,
    scratch: &'a ScratchRepository,
    files: Vec<(String, TreeEntry, Option<TreeEntry>)>,
    notes: Vec<CommitPushNote>,
    /// Last commit sent, whether or not the remote accepted it.
    sent: Option<ObjectId>,
}

/// Commits the files of `request` and pushes them.
pub async fn execute(
    request: &CommitPushRequest,
    checkout: &Checkout,
    scratch: &ScratchRepository,
) -> Result<CommitPushReport, CommitPushError> {
    let paths: Vec<String> = request.files.iter().map(|file| file.path.clone()).collect();
    let ours = checkout.store(&request.files, &scratch.objects()).await?;
    let base = match &request.base {
        Some(base) => checkout.entries(base, &paths).await?,
        None => Vec::new(),
    };
    let has_permissions = checkout.has_permissions().await?;
    let files = paths.into_iter().zip(ours).map(|(path, mut ours)| {
        let base = at(&base, &path);
        if !has_permissions && ours.is_file() {
            ours.kind = base
                .as_ref()
                .filter(|base| base.is_file())
                .map_or(FileKind::File, |base| base.kind);
        }
        (path, ours, base)
    });
    let mut run = CommitPushRun {
        request,
        scratch,
        files: files.collect(),
        notes: Vec::new(),
        sent: None,
    };
    let mut wait = FIRST_WAIT;
    let mut last = None;
    for number in 1..=MAX_TRIES {
        match run.attempt().await {
            Ok(Some(outcome)) => {
                return Ok(CommitPushReport {
                    outcome,
                    notes: run.notes,
                });
            }
            Ok(None) => {
                tracing::info!(attempt = number, "the branch moved in the meantime");
                last = None;
            }
            Err(CommitPushError::Git(error)) if is_transient(&error) => {
                tracing::warn!(attempt = number, "{error}");
                last = Some(error);
            }
            Err(error) => return Err(error),
        }
        if number < MAX_TRIES {
            tokio::time::sleep(wait.mul_f64(0.2 + 0.8 * fastrand::f64())).await;
            wait *= 2;
        }
    }
    Err(last.map_or_else(
        || CommitPushError::RaceLost {
            branch: request.branch.clone(),
            tries: MAX_TRIES,
        },
        CommitPushError::Git,
    ))
}

fn is_transient(error: &GitError) -> bool {
    matches!(error, GitError::Remote { refusal, .. } if refusal.kind == RemoteRefusalKind::Transient)
}

fn at(entries: &[(String, TreeEntry)], path: &str) -> Option<TreeEntry> {
    entries
        .iter()
        .find(|(known, _)| known == path)
        .map(|(_, entry)| entry.clone())
}

impl CommitPushRun<'_> {
    /// Returns the outcome, or `None` if the branch moved in the meantime.
    async fn attempt(&mut self) -> Result<Option<CommitPushOutcome>, CommitPushError> {
        let CommitPushRequest { branch, target, .. } = self.request;
        self.notes.clear();
        let branches: Vec<&str> = match target {
            PushTarget::Branch => vec![branch],
            PushTarget::Side(side) => vec![branch, side],
        };
        let heads = self.scratch.heads(&branches).await?;
        let tip = match &heads {
            Some(heads) => {
                self.check_default(heads)?;
                if heads.commit(branch).is_none() {
                    return Err(CommitPushError::NoBranch {
                        branch: branch.clone(),
                    });
                }
                Some(self.scratch.fetch(branch).await?)
            }
            None if *target == PushTarget::Branch => None,
            None => {
                return Err(CommitPushError::NoBranch {
                    branch: branch.clone(),
                });
            }
        };
        if let Some(sent) = self.sent.clone().filter(|sent| tip.as_ref() == Some(sent)) {
            // The previous push arrived, but its response was lost.
            return Ok(Some(CommitPushOutcome::Pushed {
                commit: sent,
                branch: branch.clone(),
            }));
        }
        let Some(changes) = self.changes(tip.as_ref()).await? else {
            return Ok(None);
        };
        if changes.is_empty() {
            let superseded = self
                .notes
                .iter()
                .any(|note| matches!(note, CommitPushNote::Superseded(_)));
            return Ok(Some(if superseded {
                CommitPushOutcome::Superseded
            } else {
                CommitPushOutcome::Nothing
            }));
        }
        let Some(tree) = self.scratch.tree(tip.as_ref(), &changes).await? else {
            return Err(CommitPushError::Conflict {
                paths: changes.into_iter().map(|(path, _)| path).collect(),
                branch: branch.clone(),
            });
        };
        let side = match target {
            PushTarget::Branch => None,
            PushTarget::Side(side) => Some((
                side,
                heads.as_ref().and_then(|heads| heads.commit(side)).cloned(),
            )),
        };
        if let Some((side, Some(_))) = &side {
            let old = self.scratch.fetch(side).await?;
            if !self.scratch.is_own(&old).await? {
                return Err(CommitPushError::ForeignSide {
                    branch: (*side).clone(),
                });
            }
            if self.scratch.tree_of(&old).await? == tree {
                return Ok(Some(CommitPushOutcome::SideCurrent {
                    branch: (*side).clone(),
                }));
            }
        }
        let CommitPushRequest {
            author,
            committer,
            signs_off,
            base,
            message,
            ..
        } = self.request;
        let message = message.with_trailers(signs_off.then_some(committer), base.as_ref());
        let commit = NewCommit {
            parent: tip.as_ref(),
            message: &message,
            author,
            committer,
        };
        let commit = self.scratch.commit(&tree, &commit).await?;
        self.sent = Some(commit.clone());
        let (onto, old) = side.map_or((branch, None), |(side, old)| (side, old));
        let push = PushRequest {
            commit: &commit,
            branch: onto,
            replaces: old.as_ref(),
        };
        Ok(match self.scratch.push(&push).await? {
            PushOutcome::Done => Some(CommitPushOutcome::Pushed {
                commit,
                branch: onto.clone(),
            }),
            PushOutcome::Stale => None,
        })
    }

    fn check_default(&self, heads: &RemoteHeads) -> Result<(), CommitPushError> {
        let BranchCheck::NotDefault(known) = &self.request.branch_check else {
            return Ok(());
        };
        match known.as_ref().or(heads.default.as_ref()) {
            Some(default) if *default == self.request.branch => {
                Err(CommitPushError::OtherPipeline {
                    branch: default.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Returns the changes to make on the tip; `None` if the branch moved in the meantime.
    async fn changes(
        &mut self,
        tip: Option<&ObjectId>,
    ) -> Result<Option<Vec<(String, TreeEntry)>>, CommitPushError> {
        let paths: Vec<String> = self.files.iter().map(|(path, ..)| path.clone()).collect();
        let at_tip = match tip {
            Some(tip) => self.scratch.entries(tip, &paths).await?,
            None => Vec::new(),
        };
        let mut changes = Vec::new();
        let mut both_changed = Vec::new();
        for (path, ours, base) in &self.files {
            let named = CommitFile {
                path: path.clone(),
                ours: ours.clone(),
                base: base.clone(),
                tip: at(&at_tip, path),
            };
            match named.state() {
                FileState::Same => {}
                FileState::UnchangedHere => {
                    self.notes.push(CommitPushNote::UnchangedHere(path.clone()));
                }
                FileState::ChangedHere => changes.push((path.clone(), ours.clone())),
                FileState::ChangedBoth => both_changed.push(named),
            }
        }
        if both_changed.is_empty() {
            return Ok(Some(changes));
        }
        if let Some(tip) = tip
            && self.scratch.fetch_history(&self.request.branch).await? != *tip
        {
            return Ok(None);
        }
        let mut conflicts = Vec::new();
        for named in both_changed {
            let ours = self.text(Some(&named.ours)).await?;
            let theirs = self.text(named.tip.as_ref()).await?;
            match resolve(
                ours.as_deref(),
                theirs.as_deref(),
                self.branch_changes(tip, &named.path).await?,
            ) {
                Resolution::Same => {}
                Resolution::Ours => changes.push((named.path, named.ours)),
                Resolution::Superseded => self.notes.push(CommitPushNote::Superseded(named.path)),
                Resolution::Conflict => conflicts.push(named.path),
                Resolution::Merged(text) => {
                    let id = self.scratch.put(text).await?;
                    let kind = named.tip.as_ref().map_or(named.ours.kind, |tip| tip.kind);
                    self.notes.push(CommitPushNote::Merged(named.path.clone()));
                    changes.push((named.path, TreeEntry { kind, id }));
                }
            }
        }
        if conflicts.is_empty() {
            return Ok(Some(changes));
        }
        Err(CommitPushError::Conflict {
            paths: conflicts,
            branch: self.request.branch.clone(),
        })
    }

    async fn text(&self, entry: Option<&TreeEntry>) -> Result<Option<String>, CommitPushError> {
        match entry.filter(|entry| entry.is_file()) {
            Some(entry) => Ok(self.scratch.content(&entry.id).await?),
            None => Ok(None),
        }
    }

    /// Returns the authors of changes to `path` in the history of the tip.
    async fn branch_changes(
        &self,
        tip: Option<&ObjectId>,
        path: &str,
    ) -> Result<BranchChanges, CommitPushError> {
        let Some(tip) = tip else {
            return Ok(BranchChanges::default());
        };
        let changers = self.scratch.changers(tip, path).await?;
        let made_from = changers.iter().find_map(|changer| match changer {
            Changer::Ours(from) => Some(from.as_ref()),
            Changer::Other => None,
        });
        let (newer, older) = match (made_from.flatten(), &self.request.base) {
            (Some(from), Some(base)) => (
                self.scratch.is_descendant(from, base).await?,
                from == base || self.scratch.is_descendant(base, from).await?,
            ),
            _ => (false, false),
        };
        Ok(BranchChanges {
            ours: matches!(changers.first(), Some(Changer::Ours(_))),
            newer,
            older,
        })
    }
}
