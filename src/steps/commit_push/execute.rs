//! Making the commit and pushing it, again when somebody else was quicker.

use std::time::Duration;

use super::judge::{Meanwhile, Named, Settled, Verdict, settle};
use super::message::Message;
use super::report::{CommitPushError, CommitPushReport, Note, Outcome};
use crate::git::{
    Changer, Checkout, Entry, GitError, Heads, Identity, Kind, NewCommit, ObjectId, Push, Pushed,
    RefusalKind, WorkFile, Workshop,
};
use crate::model::Digest;

/// How often a push is tried.
const TRIES: u32 = 5;

/// The longest wait before the second try; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// What is to be committed, and where to.
pub struct Request {
    pub files: Vec<WorkFile>,
    pub branch: String,
    pub target: Target,
    pub guard: Guard,
    pub message: Message,
    pub author: Identity,
    pub committer: Identity,
    pub signs_off: bool,
    /// The commit that the work tree was checked out from.
    pub base: Option<ObjectId>,
}

/// What is pushed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The branch itself.
    Branch,
    /// A branch of ours beside it, of which a merge request can be made.
    Side(String),
}

/// Whether the default branch of the remote may be pushed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    Free,
    /// No: the pipeline is of something else. Its name, where it is known already.
    NotDefault(Option<String>),
}

/// Returns the branch beside `branch` that changes of `files` are pushed to: the same each time.
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

/// A run on its way.
struct Run<'a> {
    request: &'a Request,
    workshop: &'a Workshop,
    named: Vec<(String, Entry, Option<Entry>)>,
    notes: Vec<Note>,
    /// The last commit that was sent, whatever became of it.
    sent: Option<ObjectId>,
}

/// Commits the files of `request` and pushes them.
pub async fn execute(
    request: &Request,
    checkout: &Checkout,
    workshop: &Workshop,
) -> Result<CommitPushReport, CommitPushError> {
    let paths: Vec<String> = request.files.iter().map(|file| file.path.clone()).collect();
    let ours = checkout.store(&request.files, workshop).await?;
    let base = match &request.base {
        Some(base) => checkout.entries(base, &paths).await?,
        None => Vec::new(),
    };
    let has_permissions = checkout.has_permissions().await?;
    let named = paths.into_iter().zip(ours).map(|(path, mut ours)| {
        let base = at(&base, &path);
        if !has_permissions && ours.is_file() {
            ours.kind = base
                .as_ref()
                .filter(|base| base.is_file())
                .map_or(Kind::File, |base| base.kind);
        }
        (path, ours, base)
    });
    let mut run = Run {
        request,
        workshop,
        named: named.collect(),
        notes: Vec::new(),
        sent: None,
    };
    let mut wait = FIRST_WAIT;
    let mut last = None;
    for number in 1..=TRIES {
        match run.attempt().await {
            Ok(Some(outcome)) => {
                return Ok(CommitPushReport {
                    outcome,
                    notes: run.notes,
                });
            }
            Ok(None) => {
                tracing::info!(attempt = number, "the branch has moved meanwhile");
                last = None;
            }
            Err(CommitPushError::Git(error)) if can_pass(&error) => {
                tracing::warn!(attempt = number, "{error}");
                last = Some(error);
            }
            Err(error) => return Err(error),
        }
        if number < TRIES {
            tokio::time::sleep(wait.mul_f64(0.2 + 0.8 * fastrand::f64())).await;
            wait *= 2;
        }
    }
    Err(last.map_or_else(
        || CommitPushError::Overtaken {
            branch: request.branch.clone(),
            tries: TRIES,
        },
        CommitPushError::Git,
    ))
}

fn can_pass(error: &GitError) -> bool {
    matches!(error, GitError::Remote { refusal, .. } if refusal.kind == RefusalKind::Passing)
}

fn at(entries: &[(String, Entry)], path: &str) -> Option<Entry> {
    entries
        .iter()
        .find(|(known, _)| known == path)
        .map(|(_, entry)| entry.clone())
}

impl Run<'_> {
    /// Returns how it ended, or `None` when somebody else was quicker.
    async fn attempt(&mut self) -> Result<Option<Outcome>, CommitPushError> {
        let Request { branch, target, .. } = self.request;
        self.notes.clear();
        let asked: Vec<&str> = match target {
            Target::Branch => vec![branch],
            Target::Side(side) => vec![branch, side],
        };
        let heads = self.workshop.heads(&asked).await?;
        let tip = match &heads {
            Some(heads) => {
                self.check_default(heads)?;
                if heads.commit(branch).is_none() {
                    return Err(CommitPushError::NoBranch {
                        branch: branch.clone(),
                    });
                }
                Some(self.workshop.fetch(branch).await?)
            }
            None if *target == Target::Branch => None,
            None => {
                return Err(CommitPushError::NoBranch {
                    branch: branch.clone(),
                });
            }
        };
        if let Some(sent) = self.sent.clone().filter(|sent| tip.as_ref() == Some(sent)) {
            // It had arrived, though that was not heard.
            return Ok(Some(Outcome::Pushed {
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
                .any(|note| matches!(note, Note::Superseded(_)));
            return Ok(Some(if superseded {
                Outcome::Superseded
            } else {
                Outcome::Nothing
            }));
        }
        let Some(tree) = self.workshop.tree(tip.as_ref(), &changes).await? else {
            return Err(CommitPushError::Conflict {
                paths: changes.into_iter().map(|(path, _)| path).collect(),
                branch: branch.clone(),
            });
        };
        let side = match target {
            Target::Branch => None,
            Target::Side(side) => Some((
                side,
                heads.as_ref().and_then(|heads| heads.commit(side)).cloned(),
            )),
        };
        if let Some((side, Some(_))) = &side {
            let old = self.workshop.fetch(side).await?;
            if !self.workshop.is_ours(&old).await? {
                return Err(CommitPushError::ForeignSide {
                    branch: (*side).clone(),
                });
            }
            if self.workshop.tree_of(&old).await? == tree {
                return Ok(Some(Outcome::SideCurrent {
                    branch: (*side).clone(),
                }));
            }
        }
        let Request {
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
        let commit = self.workshop.commit(&tree, &commit).await?;
        self.sent = Some(commit.clone());
        let (onto, old) = side.map_or((branch, None), |(side, old)| (side, old));
        let push = Push {
            commit: &commit,
            branch: onto,
            replaces: old.as_ref(),
        };
        Ok(match self.workshop.push(&push).await? {
            Pushed::Done => Some(Outcome::Pushed {
                commit,
                branch: onto.clone(),
            }),
            Pushed::Overtaken => None,
        })
    }

    fn check_default(&self, heads: &Heads) -> Result<(), CommitPushError> {
        let Guard::NotDefault(known) = &self.request.guard else {
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

    /// Returns what must be changed on the tip; `None` when the branch has moved meanwhile.
    async fn changes(
        &mut self,
        tip: Option<&ObjectId>,
    ) -> Result<Option<Vec<(String, Entry)>>, CommitPushError> {
        let paths: Vec<String> = self.named.iter().map(|(path, ..)| path.clone()).collect();
        let there = match tip {
            Some(tip) => self.workshop.entries(tip, &paths).await?,
            None => Vec::new(),
        };
        let mut changes = Vec::new();
        let mut disputed = Vec::new();
        for (path, ours, base) in &self.named {
            let named = Named {
                path: path.clone(),
                ours: ours.clone(),
                base: base.clone(),
                tip: at(&there, path),
            };
            match named.verdict() {
                Verdict::Same => {}
                Verdict::Untouched => self.notes.push(Note::Untouched(path.clone())),
                Verdict::Ours => changes.push((path.clone(), ours.clone())),
                Verdict::Disputed => disputed.push(named),
            }
        }
        if disputed.is_empty() {
            return Ok(Some(changes));
        }
        if let Some(tip) = tip
            && self.workshop.fetch_history(&self.request.branch).await? != *tip
        {
            return Ok(None);
        }
        let mut conflicts = Vec::new();
        for named in disputed {
            let ours = self.text(Some(&named.ours)).await?;
            let theirs = self.text(named.tip.as_ref()).await?;
            match settle(
                ours.as_deref(),
                theirs.as_deref(),
                self.meanwhile(tip, &named.path).await?,
            ) {
                Settled::Same => {}
                Settled::Ours => changes.push((named.path, named.ours)),
                Settled::Superseded => self.notes.push(Note::Superseded(named.path)),
                Settled::Conflict => conflicts.push(named.path),
                Settled::Merged(text) => {
                    let id = self.workshop.put(text).await?;
                    let kind = named.tip.as_ref().map_or(named.ours.kind, |tip| tip.kind);
                    self.notes.push(Note::Merged(named.path.clone()));
                    changes.push((named.path, Entry { kind, id }));
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

    async fn text(&self, entry: Option<&Entry>) -> Result<Option<String>, CommitPushError> {
        match entry.filter(|entry| entry.is_file()) {
            Some(entry) => Ok(self.workshop.content(&entry.id).await?),
            None => Ok(None),
        }
    }

    /// Returns who changed `path` on the way to the tip.
    async fn meanwhile(
        &self,
        tip: Option<&ObjectId>,
        path: &str,
    ) -> Result<Meanwhile, CommitPushError> {
        let Some(tip) = tip else {
            return Ok(Meanwhile::default());
        };
        let changers = self.workshop.changers(tip, path).await?;
        let made_from = changers.iter().find_map(|changer| match changer {
            Changer::Ours(from) => Some(from.as_ref()),
            Changer::Other => None,
        });
        let (newer, older) = match (made_from.flatten(), &self.request.base) {
            (Some(from), Some(base)) => (
                self.workshop.stands_on(from, base).await?,
                from == base || self.workshop.stands_on(base, from).await?,
            ),
            _ => (false, false),
        };
        Ok(Meanwhile {
            ours: matches!(changers.first(), Some(Changer::Ours(_))),
            newer,
            older,
        })
    }
}
