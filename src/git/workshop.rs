//! A repository of our own, for one run: the tip of a branch is fetched into it, commits are made
//! on it and pushed from it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

use super::words::{self, Redaction};
use super::{
    Call, Checkout, Entry, Git, GitError, Identity, ObjectId, PATHS_AT_ONCE, Remote, tree_entries,
};
use crate::command::{ProgramOutput, ProgramStatus, Runner};
use crate::model::Variables;
use crate::model::env;

/// How many commits are looked back at, where it must be known who changed a file.
const HISTORY: &str = "500";

/// The largest file that is looked into, in bytes.
const LARGEST_FILE: u64 = 16 * 1024 * 1024;

/// The trailer that tells a commit of ours, and the commit of the checkout that it was made from.
pub const TRAILER: &str = "Imglife-Checkout";

/// A repository below the directory for temporary files, removed when this is dropped.
pub struct Workshop {
    directory: TempDir,
    git: Git,
    /// How remotes are spoken to: within the root of the checkout, which their addresses may be
    /// relative to.
    network: Git,
    remote: Remote,
    redaction: Redaction,
}

/// The branches of a remote that matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    /// The branch that HEAD names there.
    pub default: Option<String>,
    /// The branches that were asked for and are there, with their commits.
    pub found: Vec<(String, ObjectId)>,
}

impl Heads {
    /// Returns the commit of a branch.
    pub fn commit(&self, branch: &str) -> Option<&ObjectId> {
        self.found
            .iter()
            .find(|(name, _)| name == branch)
            .map(|(_, commit)| commit)
    }
}

/// A commit to make.
pub struct NewCommit<'a> {
    /// `None`: the first one of a repository.
    pub parent: Option<&'a ObjectId>,
    pub message: &'a str,
    pub author: &'a Identity,
    pub committer: &'a Identity,
}

/// A push of one commit to one branch.
pub struct Push<'a> {
    pub commit: &'a ObjectId,
    pub branch: &'a str,
    /// What is replaced, where the branch is one of ours and may lose commits.
    pub replaces: Option<&'a ObjectId>,
}

/// What became of a push that the remote answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    Done,
    /// The branch has moved meanwhile.
    Overtaken,
}

/// Who changed a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changer {
    /// A commit of ours, made from this commit of a checkout; `None` when there was none yet.
    Ours(Option<ObjectId>),
    /// Somebody else, or it is not known: the commit is the oldest that was fetched.
    Other,
}

impl Workshop {
    /// Makes an empty repository that speaks to `remote`. Of the settings of the checkout itself
    /// only `settings` hold in it.
    pub async fn create(
        runner: Arc<dyn Runner>,
        variables: &Variables,
        checkout: &Checkout,
        remote: Remote,
        settings: &[(String, String)],
    ) -> Result<Workshop, GitError> {
        let parent = variables
            .get_filled(env::TMPDIR)
            .map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        let directory = tempfile::Builder::new()
            .prefix("imglife-git-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .map_err(|source| GitError::Temporary {
                directory: parent,
                source,
            })?;
        let path = directory.path().to_owned();
        let git = Git::new(runner, variables, path.clone());
        let format = format!("--object-format={}", checkout.object_format());
        git.text(Call::new(
            "make a repository",
            ["init", "--quiet", "--bare", "--template=", &format, "."],
        ))
        .await?;
        let git = git
            .with(env::GIT_DIR, path.to_string_lossy())
            .with(
                env::GIT_INDEX_FILE,
                path.join("imglife-index").to_string_lossy(),
            )
            .configured([
                ("log.showSignature", "false"),
                ("i18n.commitEncoding", "UTF-8"),
                ("i18n.logOutputEncoding", "UTF-8"),
            ]);
        // Rewritten, an address could hold somebody's login, which would then be seen in the list
        // of processes.
        let is_kept =
            |key: &str| !key.starts_with("url.") || (!remote.has_login() && !key.contains('@'));
        let kept: Vec<(String, String)> = settings
            .iter()
            .filter(|(key, _)| is_kept(key))
            .cloned()
            .collect();
        let all = [kept, remote.settings()].concat();
        let mut network = git.clone().configured(
            all.iter()
                .map(|(key, value)| (key.as_str(), value.as_str())),
        );
        network.directory = checkout.root().to_owned();
        let has_command = [env::GIT_SSH_COMMAND, env::GIT_SSH]
            .iter()
            .any(|name| variables.get_filled(name).is_some());
        if !has_command && !settings.iter().any(|(key, _)| key == "core.sshcommand") {
            // Nobody is there to answer.
            network = network.with(env::GIT_SSH_COMMAND, "ssh -oBatchMode=yes");
        }
        if remote.has_login() {
            // A login that is refused is not asked for anew.
            network = network
                .with(env::GIT_ASKPASS, "")
                .with(env::SSH_ASKPASS, "");
        }
        Ok(Workshop {
            redaction: remote.redaction(),
            directory,
            git,
            network,
            remote,
        })
    }

    pub(super) fn objects(&self) -> PathBuf {
        self.directory.path().join("objects")
    }

    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Returns what the remote has of `branches`; `None` when it has no branch at all.
    pub async fn heads(&self, branches: &[&str]) -> Result<Option<Heads>, GitError> {
        let action = "list the branches of";
        let references: Vec<String> = branches
            .iter()
            .map(|branch| format!("refs/heads/{branch}"))
            .collect();
        let mut call = Call::new(
            action,
            ["ls-remote", "--symref", "--", self.remote.address(), "HEAD"],
        )
        .over_network();
        call.arguments.extend(references.iter().map(String::as_str));
        let mut heads = Heads::default();
        for line in self.converse(call).await?.lines() {
            let Some((left, name)) = line.split_once('\t') else {
                continue;
            };
            if let (Some(default), "HEAD") = (left.strip_prefix("ref: refs/heads/"), name) {
                heads.default = Some(default.to_owned());
            } else if let (Some(branch), Some(commit)) =
                (name.strip_prefix("refs/heads/"), ObjectId::parse(left))
                && branches.contains(&branch)
            {
                heads.found.push((branch.to_owned(), commit));
            }
        }
        if heads.found.is_empty() {
            let call = Call::new(
                action,
                ["ls-remote", "--heads", "--", self.remote.address()],
            )
            .over_network();
            if self.converse(call).await?.trim().is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(heads))
    }

    /// Fetches the newest commit of a branch, with what is in it, and returns it.
    pub async fn fetch(&self, branch: &str) -> Result<ObjectId, GitError> {
        self.fetch_to(branch, "1").await
    }

    /// Fetches the commits that led to the newest one of a branch, as many as are looked back at.
    pub async fn fetch_history(&self, branch: &str) -> Result<ObjectId, GitError> {
        self.fetch_to(branch, HISTORY).await
    }

    async fn fetch_to(&self, branch: &str, depth: &str) -> Result<ObjectId, GitError> {
        let depth = format!("--depth={depth}");
        let reference = format!("refs/imglife/{branch}");
        let specification = format!("+refs/heads/{branch}:{reference}");
        let options = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--no-auto-maintenance",
        ];
        let mut call = Call::new("fetch from", options).over_network();
        call.arguments
            .extend([&depth, "--", self.remote.address(), &specification]);
        self.converse(call).await?;
        self.git
            .object(Call::new(
                "read what was fetched",
                ["rev-parse", "--verify", "--quiet", &reference],
            ))
            .await
    }

    /// Returns what stands at `paths` in a commit, those that are there.
    pub async fn entries(
        &self,
        commit: &ObjectId,
        paths: &[String],
    ) -> Result<Vec<(String, Entry)>, GitError> {
        let action = "read what was fetched";
        let mut entries = Vec::new();
        for paths in paths.chunks(PATHS_AT_ONCE) {
            let said = self
                .git
                .text(Call::new(action, ["ls-tree", "-z", commit.as_str()]).paths(paths))
                .await?;
            entries.extend(tree_entries(&said).ok_or(GitError::Answer { action })?);
        }
        Ok(entries)
    }

    /// Returns the content of a file; `None` when it is no text, or too long to be looked into.
    pub async fn content(&self, id: &ObjectId) -> Result<Option<String>, GitError> {
        let said = self
            .git
            .text(Call::new("read a file", ["unpack-file", id.as_str()]))
            .await?;
        let file = self.directory.path().join(said.trim());
        let unreadable = |source| GitError::Temporary {
            directory: file.clone(),
            source,
        };
        let length = fs::metadata(&file).map_err(unreadable)?.len();
        let content = if length > LARGEST_FILE {
            None
        } else {
            String::from_utf8(fs::read(&file).map_err(unreadable)?).ok()
        };
        fs::remove_file(&file).map_err(unreadable)?;
        Ok(content)
    }

    /// Returns the file that `content` is, as it is.
    pub async fn put(&self, content: String) -> Result<ObjectId, GitError> {
        self.git
            .object(
                Call::new(
                    "store a file",
                    ["hash-object", "-w", "--no-filters", "--stdin"],
                )
                .stdin(content),
            )
            .await
    }

    /// Returns who changed `path` in the commits that were fetched, from `tip` on back.
    pub async fn changers(&self, tip: &ObjectId, path: &str) -> Result<Vec<Changer>, GitError> {
        let action = "read the history of a file";
        let format = format!("--format=%(trailers:key={TRAILER},valueonly,separator=%x2C)");
        let paths = [path.to_owned()];
        let said = self
            .git
            .text(
                Call::new(
                    action,
                    ["rev-list", "--max-count=100", &format, tip.as_str()],
                )
                .paths(&paths),
            )
            .await?;
        let oldest = fs::read_to_string(self.directory.path().join("shallow")).unwrap_or_default();
        let mut changers = Vec::new();
        let mut lines = said.lines().peekable();
        while let Some(commit) = lines.next() {
            let commit = commit
                .strip_prefix("commit ")
                .ok_or(GitError::Answer { action })?;
            // Nothing, not even an empty line, stands for no trailer.
            let trailer = lines
                .next_if(|line| !line.starts_with("commit "))
                .unwrap_or_default();
            let is_whole = !oldest.lines().any(|line| line == commit);
            // Ours comes last.
            let from = trailer.rsplit(',').next().unwrap_or_default();
            changers.push(match (is_whole, from.trim()) {
                (true, "none") => Changer::Ours(None),
                (true, id) => {
                    ObjectId::parse(id).map_or(Changer::Other, |id| Changer::Ours(Some(id)))
                }
                (false, _) => Changer::Other,
            });
        }
        Ok(changers)
    }

    /// Returns whether a commit is ours.
    pub async fn is_ours(&self, commit: &ObjectId) -> Result<bool, GitError> {
        let format = format!("--format=%(trailers:key={TRAILER},valueonly,separator=%x2C)");
        let said = self
            .git
            .text(Call::new(
                "read a commit",
                ["rev-list", "--max-count=1", &format, commit.as_str()],
            ))
            .await?;
        Ok(said
            .lines()
            .nth(1)
            .is_some_and(|trailer| !trailer.trim().is_empty()))
    }

    /// Returns whether `newer` stands on `older`; `false` when one of them was not fetched.
    pub async fn stands_on(&self, newer: &ObjectId, older: &ObjectId) -> Result<bool, GitError> {
        let call = Call::new(
            "compare commits",
            [
                "merge-base",
                "--is-ancestor",
                older.as_str(),
                newer.as_str(),
            ],
        );
        Ok(newer != older && self.git.run(call).await?.status == ProgramStatus::Exited(0))
    }

    /// Returns the tree of `parent` with `changes` made to it. `None` when that would remove
    /// something: a file stands where a directory is to be, or the other way round.
    pub async fn tree(
        &self,
        parent: Option<&ObjectId>,
        changes: &[(String, Entry)],
    ) -> Result<Option<ObjectId>, GitError> {
        let action = "make a tree";
        match parent {
            Some(parent) => {
                self.git
                    .text(Call::new(action, ["read-tree", parent.as_str()]))
                    .await?
            }
            None => {
                self.git
                    .text(Call::new(action, ["read-tree", "--empty"]))
                    .await?
            }
        };
        let lines: String = changes
            .iter()
            .map(|(path, entry)| format!("{} {} 0\t{path}\0", entry.kind.mode(), entry.id.as_str()))
            .collect();
        self.git
            .text(Call::new(action, ["update-index", "-z", "--index-info"]).stdin(lines))
            .await?;
        let tree = self.git.object(Call::new(action, ["write-tree"])).await?;
        let Some(parent) = parent else {
            return Ok(Some(tree));
        };
        let call = Call::new(
            action,
            [
                "diff-tree",
                "-r",
                "--no-renames",
                "--name-only",
                "-z",
                "--diff-filter=D",
                parent.as_str(),
                tree.as_str(),
            ],
        );
        Ok(self.git.text(call).await?.is_empty().then_some(tree))
    }

    /// Returns the tree of a commit.
    pub async fn tree_of(&self, commit: &ObjectId) -> Result<ObjectId, GitError> {
        let tree = format!("{}^{{tree}}", commit.as_str());
        self.git
            .object(Call::new(
                "read a commit",
                ["rev-parse", "--verify", "--quiet", &tree],
            ))
            .await
    }

    /// Makes a commit of a tree and returns it.
    pub async fn commit(
        &self,
        tree: &ObjectId,
        commit: &NewCommit<'_>,
    ) -> Result<ObjectId, GitError> {
        let mut call = Call::new("make a commit", ["commit-tree", tree.as_str(), "-F", "-"])
            .stdin(commit.message.to_owned());
        if let Some(parent) = commit.parent {
            call.arguments.extend(["-p", parent.as_str()]);
        }
        let identified = |git: Git, role: &str, identity: &Identity| {
            git.with(&format!("GIT_{role}_NAME"), identity.name())
                .with(&format!("GIT_{role}_EMAIL"), identity.email())
        };
        let git = identified(self.git.clone(), "AUTHOR", commit.author);
        identified(git, "COMMITTER", commit.committer)
            .object(call)
            .await
    }

    /// Pushes, without running any hook of this machine.
    pub async fn push(&self, push: &Push<'_>) -> Result<Pushed, GitError> {
        let specification = format!("{}:refs/heads/{}", push.commit.as_str(), push.branch);
        let lease = push.replaces.map(|old| {
            format!(
                "--force-with-lease=refs/heads/{}:{}",
                push.branch,
                old.as_str()
            )
        });
        let mut call = Call::new(
            "push to",
            [
                "push",
                "--porcelain",
                "--no-verify",
                "--recurse-submodules=no",
            ],
        )
        .over_network();
        call.arguments.extend(lease.as_deref());
        call.arguments
            .extend(["--", self.remote.address(), &specification]);
        let action = call.action;
        let output = self.network.run(call).await?;
        if output.status == ProgramStatus::Exited(0) {
            return Ok(Pushed::Done);
        }
        let said = output.stdout.text();
        let reason = said.lines().find_map(|line| {
            line.strip_prefix("!\t")?
                .split_once('\t')
                .map(|(_, reason)| reason)
        });
        match reason {
            Some(reason) if words::is_overtaken(reason) => Ok(Pushed::Overtaken),
            reason => Err(self.refused(action, &output, reason)),
        }
    }

    /// Returns what a remote said, when it did what it was asked for.
    async fn converse(&self, call: Call<'_>) -> Result<String, GitError> {
        let action = call.action;
        let output = self.network.run(call).await?;
        match output.status {
            ProgramStatus::Exited(0) => Ok(output.stdout.text()),
            _ => Err(self.refused(action, &output, None)),
        }
    }

    fn refused(
        &self,
        action: &'static str,
        output: &ProgramOutput,
        reason: Option<&str>,
    ) -> GitError {
        let refusal = words::refusal(&output.stderr.text(), reason, &self.redaction);
        GitError::Remote {
            action,
            remote: self.remote.to_string(),
            refusal,
        }
    }
}
