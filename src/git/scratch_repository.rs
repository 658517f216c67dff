//! Temporary bare repository of one run. The tip of a branch is fetched into it, commits are made in
//! it and pushed from it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

use super::checkout::Checkout;
use super::error::GitError;
use super::object::{ObjectId, TreeEntry, tree_entries};
use super::program::{Git, GitCall, MAX_PATHS_PER_CALL};
use super::remote::{CommitIdentity, PushRemote};
use super::stderr::{self, OutputRedaction};
use crate::command::{ProgramOutput, ProgramStatus, Runner};
use crate::model::Variables;
use crate::model::env;

/// Number of commits fetched to find the author of a change.
const HISTORY_DEPTH: &str = "500";

/// Maximum size of a file that is read for a three-way decision, in bytes.
const MAX_FILE_SIZE: u64 = 16 * 1024 * 1024;

/// Trailer of commits made by imglife. Its value is the commit of the checkout.
pub const TRAILER: &str = "Imglife-Checkout";

/// Bare repository below `$TMPDIR`; removed on drop.
pub struct ScratchRepository {
    directory: TempDir,
    git: Git,
    /// Caller for remotes. Runs in the root of the checkout, since a remote address may be relative.
    network: Git,
    remote: PushRemote,
    redaction: OutputRedaction,
}

/// Branches of a remote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteHeads {
    /// Default branch (HEAD of the remote).
    pub default: Option<String>,
    /// Requested branches that exist, with their commits.
    pub found: Vec<(String, ObjectId)>,
}

impl RemoteHeads {
    /// Returns the commit of a branch, if the branch exists.
    pub fn commit(&self, branch: &str) -> Option<&ObjectId> {
        self.found
            .iter()
            .find(|(name, _)| name == branch)
            .map(|(_, commit)| commit)
    }
}

/// Commit to create.
pub struct NewCommit<'a> {
    /// `None` for the first commit of a repository.
    pub parent: Option<&'a ObjectId>,
    pub message: &'a str,
    pub author: &'a CommitIdentity,
    pub committer: &'a CommitIdentity,
}

/// Push of one commit to one branch.
pub struct PushRequest<'a> {
    pub commit: &'a ObjectId,
    pub branch: &'a str,
    /// Expected old commit for a forced update. Only for branches that imglife owns.
    pub replaces: Option<&'a ObjectId>,
}

/// Result of a push that the remote answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushOutcome {
    Done,
    /// Rejected: the branch moved in the meantime.
    Stale,
}

/// Author of a change to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changer {
    /// Imglife, from this commit of the checkout; `None` for an empty checkout.
    Ours(Option<ObjectId>),
    /// Another author, or unknown because the commit is the oldest fetched.
    Other,
}

impl ScratchRepository {
    /// Creates an empty repository that talks to `remote`. Only `settings` are taken over from the
    /// configuration of the checkout.
    pub async fn create(
        runner: Arc<dyn Runner>,
        variables: &Variables,
        checkout: &Checkout,
        remote: PushRemote,
        settings: &[(String, String)],
    ) -> Result<ScratchRepository, GitError> {
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
        git.text(GitCall::new(
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
        // `url.<base>.insteadOf` may add a credential to the address, which would then be visible in
        // the process list.
        let is_kept = |key: &str| {
            !key.starts_with("url.") || (!remote.has_credential() && !key.contains('@'))
        };
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
            // No terminal to prompt on.
            network = network.with(env::GIT_SSH_COMMAND, "ssh -oBatchMode=yes");
        }
        if remote.has_credential() {
            // Do not prompt after a rejected credential.
            network = network
                .with(env::GIT_ASKPASS, "")
                .with(env::SSH_ASKPASS, "");
        }
        Ok(ScratchRepository {
            redaction: remote.redaction(),
            directory,
            git,
            network,
            remote,
        })
    }

    pub fn objects(&self) -> PathBuf {
        self.directory.path().join("objects")
    }

    pub fn remote(&self) -> &PushRemote {
        &self.remote
    }

    /// Lists `branches` at the remote; `None` if the remote is empty.
    pub async fn heads(&self, branches: &[&str]) -> Result<Option<RemoteHeads>, GitError> {
        let action = "list the branches of";
        let references: Vec<String> = branches
            .iter()
            .map(|branch| format!("refs/heads/{branch}"))
            .collect();
        let mut call = GitCall::new(
            action,
            ["ls-remote", "--symref", "--", self.remote.address(), "HEAD"],
        )
        .over_network();
        call.arguments.extend(references.iter().map(String::as_str));
        let mut heads = RemoteHeads::default();
        for line in self.call_remote(call).await?.lines() {
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
            let call = GitCall::new(
                action,
                ["ls-remote", "--heads", "--", self.remote.address()],
            )
            .over_network();
            if self.call_remote(call).await?.trim().is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(heads))
    }

    /// Fetches the tip of a branch with its content (depth 1) and returns the commit.
    pub async fn fetch(&self, branch: &str) -> Result<ObjectId, GitError> {
        self.fetch_to(branch, "1").await
    }

    /// Fetches the history of a branch, up to `HISTORY_DEPTH` commits, and returns the tip.
    pub async fn fetch_history(&self, branch: &str) -> Result<ObjectId, GitError> {
        self.fetch_to(branch, HISTORY_DEPTH).await
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
        let mut call = GitCall::new("fetch from", options).over_network();
        call.arguments
            .extend([&depth, "--", self.remote.address(), &specification]);
        self.call_remote(call).await?;
        self.git
            .object(GitCall::new(
                "read the fetched commit",
                ["rev-parse", "--verify", "--quiet", &reference],
            ))
            .await
    }

    /// Returns the entries at `paths` in a commit. Missing paths are left out.
    pub async fn entries(
        &self,
        commit: &ObjectId,
        paths: &[String],
    ) -> Result<Vec<(String, TreeEntry)>, GitError> {
        let action = "read the fetched commit";
        let mut entries = Vec::new();
        for paths in paths.chunks(MAX_PATHS_PER_CALL) {
            let output = self
                .git
                .text(GitCall::new(action, ["ls-tree", "-z", commit.as_str()]).paths(paths))
                .await?;
            entries.extend(tree_entries(&output).ok_or(GitError::Answer { action })?);
        }
        Ok(entries)
    }

    /// Returns the content of a blob; `None` if it is not UTF-8 or larger than `MAX_FILE_SIZE`.
    pub async fn content(&self, id: &ObjectId) -> Result<Option<String>, GitError> {
        let output = self
            .git
            .text(GitCall::new("read a file", ["unpack-file", id.as_str()]))
            .await?;
        let file = self.directory.path().join(output.trim());
        let unreadable = |source| GitError::Temporary {
            directory: file.clone(),
            source,
        };
        let length = fs::metadata(&file).map_err(unreadable)?.len();
        let content = if length > MAX_FILE_SIZE {
            None
        } else {
            String::from_utf8(fs::read(&file).map_err(unreadable)?).ok()
        };
        fs::remove_file(&file).map_err(unreadable)?;
        Ok(content)
    }

    /// Stores `content` as a blob, without filters.
    pub async fn put(&self, content: String) -> Result<ObjectId, GitError> {
        self.git
            .object(
                GitCall::new(
                    "store a file",
                    ["hash-object", "-w", "--no-filters", "--stdin"],
                )
                .stdin(content),
            )
            .await
    }

    /// Returns the authors of changes to `path` in the fetched history, newest first.
    pub async fn changers(&self, tip: &ObjectId, path: &str) -> Result<Vec<Changer>, GitError> {
        let action = "read the history of a file";
        let format = format!("--format=%(trailers:key={TRAILER},valueonly,separator=%x2C)");
        let paths = [path.to_owned()];
        let output = self
            .git
            .text(
                GitCall::new(
                    action,
                    ["rev-list", "--max-count=100", &format, tip.as_str()],
                )
                .paths(&paths),
            )
            .await?;
        let oldest = fs::read_to_string(self.directory.path().join("shallow")).unwrap_or_default();
        let mut changers = Vec::new();
        let mut lines = output.lines().peekable();
        while let Some(commit) = lines.next() {
            let commit = commit
                .strip_prefix("commit ")
                .ok_or(GitError::Answer { action })?;
            // Without a trailer git prints no line at all.
            let trailer = lines
                .next_if(|line| !line.starts_with("commit "))
                .unwrap_or_default();
            let is_whole = !oldest.lines().any(|line| line == commit);
            // Imglife's trailer is the last one.
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

    /// Returns true if imglife made the commit.
    pub async fn is_own(&self, commit: &ObjectId) -> Result<bool, GitError> {
        let format = format!("--format=%(trailers:key={TRAILER},valueonly,separator=%x2C)");
        let output = self
            .git
            .text(GitCall::new(
                "read a commit",
                ["rev-list", "--max-count=1", &format, commit.as_str()],
            ))
            .await?;
        Ok(output
            .lines()
            .nth(1)
            .is_some_and(|trailer| !trailer.trim().is_empty()))
    }

    /// Returns true if `newer` is a descendant of `older`; false if either was not fetched.
    pub async fn is_descendant(
        &self,
        newer: &ObjectId,
        older: &ObjectId,
    ) -> Result<bool, GitError> {
        let call = GitCall::new(
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

    /// Returns the tree of `parent` with `changes` applied; `None` if that would delete a path
    /// because a file replaces a directory or the other way round.
    pub async fn tree(
        &self,
        parent: Option<&ObjectId>,
        changes: &[(String, TreeEntry)],
    ) -> Result<Option<ObjectId>, GitError> {
        let action = "make a tree";
        match parent {
            Some(parent) => {
                self.git
                    .text(GitCall::new(action, ["read-tree", parent.as_str()]))
                    .await?
            }
            None => {
                self.git
                    .text(GitCall::new(action, ["read-tree", "--empty"]))
                    .await?
            }
        };
        let lines: String = changes
            .iter()
            .map(|(path, entry)| format!("{} {} 0\t{path}\0", entry.kind.mode(), entry.id.as_str()))
            .collect();
        self.git
            .text(GitCall::new(action, ["update-index", "-z", "--index-info"]).stdin(lines))
            .await?;
        let tree = self
            .git
            .object(GitCall::new(action, ["write-tree"]))
            .await?;
        let Some(parent) = parent else {
            return Ok(Some(tree));
        };
        let call = GitCall::new(
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

    /// Returns the tree id of a commit.
    pub async fn tree_of(&self, commit: &ObjectId) -> Result<ObjectId, GitError> {
        let tree = format!("{}^{{tree}}", commit.as_str());
        self.git
            .object(GitCall::new(
                "read a commit",
                ["rev-parse", "--verify", "--quiet", &tree],
            ))
            .await
    }

    /// Creates a commit of a tree and returns its id.
    pub async fn commit(
        &self,
        tree: &ObjectId,
        commit: &NewCommit<'_>,
    ) -> Result<ObjectId, GitError> {
        let mut call = GitCall::new("make a commit", ["commit-tree", tree.as_str(), "-F", "-"])
            .stdin(commit.message.to_owned());
        if let Some(parent) = commit.parent {
            call.arguments.extend(["-p", parent.as_str()]);
        }
        let identified = |git: Git, role: &str, identity: &CommitIdentity| {
            git.with(&format!("GIT_{role}_NAME"), identity.name())
                .with(&format!("GIT_{role}_EMAIL"), identity.email())
        };
        let git = identified(self.git.clone(), "AUTHOR", commit.author);
        identified(git, "COMMITTER", commit.committer)
            .object(call)
            .await
    }

    /// Pushes without running local hooks.
    pub async fn push(&self, push: &PushRequest<'_>) -> Result<PushOutcome, GitError> {
        let specification = format!("{}:refs/heads/{}", push.commit.as_str(), push.branch);
        let lease = push.replaces.map(|old| {
            format!(
                "--force-with-lease=refs/heads/{}:{}",
                push.branch,
                old.as_str()
            )
        });
        let mut call = GitCall::new(
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
            return Ok(PushOutcome::Done);
        }
        let stdout = output.stdout.text();
        let reason = stdout.lines().find_map(|line| {
            line.strip_prefix("!\t")?
                .split_once('\t')
                .map(|(_, reason)| reason)
        });
        match reason {
            Some(reason) if stderr::is_stale(reason) => Ok(PushOutcome::Stale),
            reason => Err(self.refused(action, &output, reason)),
        }
    }

    /// Runs a call to the remote and returns its stdout; fails unless it exits with 0.
    async fn call_remote(&self, call: GitCall<'_>) -> Result<String, GitError> {
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
        let refusal = stderr::refusal(&output.stderr.text(), reason, &self.redaction);
        GitError::Remote {
            action,
            remote: self.remote.to_string(),
            refusal,
        }
    }
}
