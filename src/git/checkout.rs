//! The work tree that files are committed from. Read only.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::error::{GitError, PathProblem};
use super::object::{FileKind, ObjectId, TreeEntry, tree_entries};
use super::program::{Git, GitCall, MAX_PATHS_PER_CALL};
use super::remote::CommitIdentity;
use crate::command::{ProgramStatus, Runner};
use crate::model::Variables;
use crate::model::env;

/// Maximum number of files in one directory to commit.
const MAX_FILES: usize = 10_000;

/// Ownership rule for finding the repository of a work tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Git's rule: refuse directories owned by another user.
    CheckOwner,
    /// Accept any owner: CI jobs often run as another user than the one that made the checkout.
    AnyOwner,
}

/// Work tree with its repository.
pub struct Checkout {
    git: Git,
    /// Root of the work tree, with symbolic links resolved.
    root: PathBuf,
    object_format: String,
}

/// File or symbolic link of the work tree to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkFile {
    /// Path relative to the root, with slashes.
    pub path: String,
    pub kind: FileKind,
}

impl Checkout {
    /// Opens the work tree that contains `directory`.
    pub async fn open(
        runner: Arc<dyn Runner>,
        variables: &Variables,
        directory: &Path,
        discovery: Discovery,
    ) -> Result<Checkout, GitError> {
        let mut git = Git::new(runner, variables, directory.to_owned());
        if discovery == Discovery::AnyOwner
            && let Some(root) = directory
                .ancestors()
                .find(|parent| fs::symlink_metadata(parent.join(".git")).is_ok())
        {
            git = git
                .with(env::GIT_DIR, root.join(".git").to_string_lossy())
                .with(env::GIT_WORK_TREE, root.to_string_lossy());
        }
        let action = "find the work tree";
        let output = git
            .text(GitCall::new(
                action,
                ["rev-parse", "--show-object-format", "--show-toplevel"],
            ))
            .await?;
        let (format, root) = output
            .trim_end_matches('\n')
            .split_once('\n')
            .ok_or(GitError::Answer { action })?;
        let temporary = |source| GitError::Temporary {
            directory: PathBuf::from(root),
            source,
        };
        let root = fs::canonicalize(root).map_err(temporary)?;
        git.directory.clone_from(&root);
        Ok(Checkout {
            git,
            object_format: format.to_owned(),
            root,
        })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn object_format(&self) -> &str {
        &self.object_format
    }

    /// Returns the files at `paths` (relative to `directory`), sorted and without duplicates. A
    /// directory means all files below it that git does not ignore.
    pub async fn files(
        &self,
        directory: &Path,
        paths: &[PathBuf],
    ) -> Result<Vec<WorkFile>, GitError> {
        let mut files: Vec<WorkFile> = Vec::new();
        for path in paths {
            let named = self.relative(&directory.join(path), path)?;
            let kind = self.kind(&named)?;
            if kind == FileKind::Other {
                files.extend(self.below(&named).await?);
            } else {
                files.push(WorkFile { path: named, kind });
            }
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        files.dedup();
        self.check_filters(&files).await?;
        Ok(files)
    }

    /// Returns the path of `whole` relative to the root. Symbolic links in parent directories are
    /// resolved, the last component is not.
    fn relative(&self, whole: &Path, named: &Path) -> Result<String, GitError> {
        let problem = |problem| GitError::Path {
            path: named.to_string_lossy().into_owned(),
            problem,
        };
        let resolved = match (whole.parent(), whole.file_name()) {
            (Some(parent), Some(name)) => fs::canonicalize(parent).map(|parent| parent.join(name)),
            _ => fs::canonicalize(whole),
        };
        let resolved = match resolved {
            Ok(resolved) => resolved,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Err(problem(PathProblem::Missing));
            }
            Err(source) => {
                return Err(GitError::Unreadable {
                    path: named.to_string_lossy().into_owned(),
                    source,
                });
            }
        };
        let relative = resolved
            .strip_prefix(&self.root)
            .map_err(|_| problem(PathProblem::Outside))?;
        if relative
            .components()
            .any(|part| part.as_os_str().as_bytes().eq_ignore_ascii_case(b".git"))
        {
            return Err(problem(PathProblem::Internal));
        }
        match relative.to_str() {
            Some(text) if !text.chars().any(char::is_control) => Ok(text.to_owned()),
            _ => Err(problem(PathProblem::Name)),
        }
    }

    /// Returns the kind of a path in the work tree; a directory is `Other`.
    fn kind(&self, path: &str) -> Result<FileKind, GitError> {
        let problem = |problem| GitError::Path {
            path: path.to_owned(),
            problem,
        };
        let whole = self.root.join(path);
        let metadata = match fs::symlink_metadata(&whole) {
            Ok(metadata) => metadata,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Err(problem(PathProblem::Missing));
            }
            Err(source) => {
                return Err(GitError::Unreadable {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        if metadata.is_dir() {
            return if path.is_empty() || fs::symlink_metadata(whole.join(".git")).is_err() {
                Ok(FileKind::Other)
            } else {
                Err(problem(PathProblem::Repository))
            };
        }
        if metadata.is_symlink() {
            let target = self.link_target(path)?;
            return if stays_within(path, &target) {
                Ok(FileKind::Symlink)
            } else {
                Err(problem(PathProblem::LeadsOut))
            };
        }
        match metadata.is_file() {
            true if metadata.permissions().mode() & 0o100 != 0 => Ok(FileKind::Executable),
            true => Ok(FileKind::File),
            false => Err(problem(PathProblem::Special)),
        }
    }

    fn link_target(&self, path: &str) -> Result<String, GitError> {
        let target =
            fs::read_link(self.root.join(path)).map_err(|source| GitError::Unreadable {
                path: path.to_owned(),
                source,
            })?;
        target
            .into_os_string()
            .into_string()
            .map_err(|_| GitError::Path {
                path: path.to_owned(),
                problem: PathProblem::Name,
            })
    }

    /// Returns the files below a directory that git does not ignore.
    async fn below(&self, directory: &str) -> Result<Vec<WorkFile>, GitError> {
        let action = "list the files of a directory";
        let call = GitCall::new(
            action,
            [
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
                "--",
            ],
        );
        let call = GitCall {
            arguments: [
                call.arguments.as_slice(),
                &[if directory.is_empty() { "." } else { directory }],
            ]
            .concat(),
            ..call
        };
        let listing = self.git.text(call).await?;
        let mut files = Vec::new();
        for path in listing.split('\0').filter(|path| !path.is_empty()) {
            if path.chars().any(char::is_control) {
                return Err(GitError::Path {
                    path: path.to_owned(),
                    problem: PathProblem::Name,
                });
            }
            // A trailing slash marks a nested repository.
            let kind = match self.kind(path.trim_end_matches('/')) {
                // A file deleted from the work tree stays on the branch.
                Err(GitError::Path {
                    problem: PathProblem::Missing,
                    ..
                }) => continue,
                Ok(FileKind::Other) => {
                    return Err(GitError::Path {
                        path: path.to_owned(),
                        problem: PathProblem::Repository,
                    });
                }
                kind => kind?,
            };
            files.push(WorkFile {
                path: path.to_owned(),
                kind,
            });
            if files.len() > MAX_FILES {
                return Err(GitError::TooMuch { action });
            }
        }
        Ok(files)
    }

    /// Fails for files with a `filter` attribute, since filters are not run.
    async fn check_filters(&self, files: &[WorkFile]) -> Result<(), GitError> {
        let action = "read the attributes of files";
        let paths: Vec<String> = files
            .iter()
            .filter(|file| file.kind != FileKind::Symlink)
            .map(|file| file.path.clone())
            .collect();
        for paths in paths.chunks(MAX_PATHS_PER_CALL) {
            let output = self
                .git
                .text(GitCall::new(action, ["check-attr", "-z", "filter"]).paths(paths))
                .await?;
            let parts: Vec<&str> = output.split('\0').collect();
            for part in parts.chunks_exact(3) {
                if !matches!(part[2], "unspecified" | "unset") {
                    let problem = PathProblem::Filter(part[2].to_owned());
                    return Err(GitError::Path {
                        path: part[0].to_owned(),
                        problem,
                    });
                }
            }
        }
        Ok(())
    }

    /// Stores `files` in an object directory and returns their entries in the same order. Line
    /// endings are converted by the attributes.
    pub async fn store(
        &self,
        files: &[WorkFile],
        object_directory: &Path,
    ) -> Result<Vec<TreeEntry>, GitError> {
        let action = "read the files to commit";
        let git = self.git.clone().with(
            env::GIT_OBJECT_DIRECTORY,
            object_directory.to_string_lossy(),
        );
        let mut ids = Vec::new();
        let regular: Vec<String> = files
            .iter()
            .filter(|file| file.kind != FileKind::Symlink)
            .map(|file| file.path.clone())
            .collect();
        for paths in regular.chunks(MAX_PATHS_PER_CALL) {
            let output = git
                .text(GitCall::new(action, ["hash-object", "-w"]).paths(paths))
                .await?;
            let found: Vec<ObjectId> = output.lines().filter_map(ObjectId::parse).collect();
            if found.len() != paths.len() {
                return Err(GitError::Answer { action });
            }
            ids.extend(found);
        }
        let mut ids = ids.into_iter();
        let mut entries = Vec::with_capacity(files.len());
        for file in files {
            let id = match file.kind {
                FileKind::Symlink => {
                    git.object(
                        GitCall::new(action, ["hash-object", "-w", "--stdin"])
                            .stdin(self.link_target(&file.path)?),
                    )
                    .await?
                }
                _ => ids.next().ok_or(GitError::Answer { action })?,
            };
            entries.push(TreeEntry {
                kind: file.kind,
                id,
            });
        }
        Ok(entries)
    }

    /// Returns true if git tracks the executable bit here (`core.fileMode`).
    pub async fn has_permissions(&self) -> Result<bool, GitError> {
        Ok(self.configured("core.fileMode").await? != "false")
    }

    /// Returns the commit that is checked out; `None` before the first commit.
    ///
    /// If `origin/{branch}` is known, returns the merge base with it, so that local commits that
    /// were not pushed are ignored.
    pub async fn base(&self, branch: Option<&str>) -> Result<Option<ObjectId>, GitError> {
        let action = "read HEAD";
        let head = self
            .git
            .run(GitCall::new(
                action,
                ["rev-parse", "--verify", "--quiet", "HEAD^{commit}"],
            ))
            .await?;
        let Some(head) = ObjectId::parse(head.stdout.text().trim()) else {
            return Ok(None);
        };
        if let Some(branch) = branch {
            let tracked = format!("refs/remotes/origin/{branch}");
            let common = self
                .git
                .run(GitCall::new(action, ["merge-base", "HEAD", &tracked]))
                .await?;
            if let Some(common) = ObjectId::parse(common.stdout.text().trim()) {
                return Ok(Some(common));
            }
        }
        Ok(Some(head))
    }

    /// Returns the entries at `paths` in a commit of the checkout.
    pub async fn entries(
        &self,
        commit: &ObjectId,
        paths: &[String],
    ) -> Result<Vec<(String, TreeEntry)>, GitError> {
        let action = "read the checked-out commit";
        let mut entries = Vec::new();
        for paths in paths.chunks(MAX_PATHS_PER_CALL) {
            let output = self
                .git
                .text(
                    GitCall::new(action, ["ls-tree", "-z", "--full-tree", commit.as_str()])
                        .paths(paths),
                )
                .await?;
            entries.extend(tree_entries(&output).ok_or(GitError::Answer { action })?);
        }
        Ok(entries)
    }

    /// Returns the current branch; `None` if HEAD is detached.
    pub async fn branch(&self) -> Result<Option<String>, GitError> {
        let output = self
            .git
            .run(GitCall::new(
                "read HEAD",
                ["symbolic-ref", "--quiet", "HEAD"],
            ))
            .await?;
        Ok(output
            .stdout
            .text()
            .trim()
            .strip_prefix("refs/heads/")
            .map(str::to_owned))
    }

    /// Returns the name of the branch `local` at the remote `origin`.
    pub async fn remote_branch(&self, local: &str) -> Result<String, GitError> {
        let upstream = match self
            .configured(&format!("branch.{local}.remote"))
            .await?
            .as_str()
        {
            "origin" => self.configured(&format!("branch.{local}.merge")).await?,
            _ => String::new(),
        };
        Ok(upstream
            .strip_prefix("refs/heads/")
            .unwrap_or(local)
            .to_owned())
    }

    /// Returns the push address of the remote `origin`, if that remote exists.
    pub async fn origin(&self) -> Result<Option<String>, GitError> {
        let output = self
            .git
            .run(GitCall::new(
                "read the remote",
                ["remote", "get-url", "--push", "origin"],
            ))
            .await?;
        let address = output.stdout.text().trim().to_owned();
        Ok((output.status == ProgramStatus::Exited(0) && !address.is_empty()).then_some(address))
    }

    /// Returns the committer identity from git's configuration, if there is one.
    pub async fn identity(&self) -> Result<Option<CommitIdentity>, GitError> {
        let output = self
            .git
            .run(GitCall::new(
                "read the user's name",
                ["var", "GIT_COMMITTER_IDENT"],
            ))
            .await?;
        let text = output.stdout.text();
        Ok(text
            .rsplit_once('>')
            .and_then(|(identity, _)| CommitIdentity::parse(&format!("{identity}>"))))
    }

    /// Returns the repository's own settings that affect calls to remotes.
    pub async fn settings(&self) -> Result<Vec<(String, String)>, GitError> {
        let sections = ["http.", "credential.", "url.", "ssh.", "protocol."];
        let keys = ["core.sshcommand", "core.askpass", "core.gitproxy"];
        let output = self
            .git
            .run(GitCall::new(
                "read the settings",
                ["config", "--local", "--includes", "-z", "--list"],
            ))
            .await?;
        let text = output.stdout.text();
        let pairs = text.split('\0').filter_map(|pair| pair.split_once('\n'));
        let wanted = pairs.filter(|(key, _)| {
            keys.contains(key) || sections.iter().any(|section| key.starts_with(section))
        });
        Ok(wanted
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect())
    }

    /// Returns the value of a setting; empty if it is not set.
    async fn configured(&self, key: &str) -> Result<String, GitError> {
        let output = self
            .git
            .run(GitCall::new("read the settings", ["config", "--get", key]))
            .await?;
        Ok(output.stdout.text().trim().to_owned())
    }
}

/// Returns true if the symbolic link at `path` with the text `target` stays inside the work tree.
/// The file system is not consulted.
fn stays_within(path: &str, target: &str) -> bool {
    let mut depth = path.split('/').count() - 1;
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir if depth == 0 => return false,
            Component::ParentDir => depth -= 1,
            Component::Normal(name) if name.as_bytes().eq_ignore_ascii_case(b".git") => {
                return false;
            }
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_follows_link_text() {
        for (path, target, stays) in [
            ("a", "b/c", true),
            ("d/a", "../b", true),
            ("a", "../b", false),
            ("d/a", "../../b", false),
            ("d/a", "x/../../b", true),
            ("a", "/etc/passwd", false),
            ("a", ".git/config", false),
        ] {
            assert_eq!(stays_within(path, target), stays, "{path} -> {target}");
        }
    }
}
