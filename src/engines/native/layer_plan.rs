//! The plan of a layer: paths with their type, content, owner and mode.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use super::file_tree::{Attributes, FileTree, LinkHandling, TreeError, TreeNode, parent};
use crate::model::text::excerpt;

/// The content of a layer before it is written. Equal plans give equal layers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct LayerPlan {
    /// Entries by path.
    pub(super) entries: BTreeMap<String, LayerEntry>,
}

/// An entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LayerEntry {
    pub(super) kind: EntryKind,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// Modification time in seconds since 1970.
    pub(super) modified: u64,
}

/// Type of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum EntryKind {
    Directory,
    File(LayerFileContent),
    /// A symbolic link with its target.
    Link(String),
}

/// Content of a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum LayerFileContent {
    /// A file in the build context.
    Disk { path: PathBuf, size: u64 },
    /// Text of a here-document.
    Text(Arc<str>),
    /// A file of an archive. Entries with the same number are hard links to one file.
    Spooled {
        spool: Spool,
        number: usize,
        offset: u64,
        size: u64,
    },
}

/// Temporary file with the unpacked files of one archive. Equal only to itself.
#[derive(Clone, Debug)]
pub(super) struct Spool(pub(super) Arc<File>);

impl PartialEq for Spool {
    fn eq(&self, other: &Spool) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Spool {}

impl std::hash::Hash for Spool {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// Owner of new files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u64,
    pub(super) gid: u64,
}

/// Error for an entry that cannot be added to a plan.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum PlanError {
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error("`{}` has a name that marks a deleted file in layers", excerpt(.0, 120))]
    Whiteout(String),
}

/// A plan under construction, on top of the files of the image.
pub(super) struct LayerDraft<'a> {
    /// Files of the image, including those of the plan.
    pub(super) tree: &'a mut FileTree,
    pub(super) plan: LayerPlan,
    /// Modification time of directories that are created implicitly, in seconds since 1970.
    pub(super) modified: u64,
}

impl LayerDraft<'_> {
    /// Adds the directory `path` and its parents to the plan. `path` must be resolved.
    ///
    /// Returns true if at least one of them did not exist.
    pub(super) fn ensure_directory(&mut self, path: &str, owner: Owner) -> Result<bool, PlanError> {
        let ends = path
            .match_indices('/')
            .map(|(end, _)| end)
            .chain((!path.is_empty()).then_some(path.len()));
        let mut created = false;
        for directory in ends.map(|end| &path[..end]).collect::<Vec<_>>() {
            let attributes = match self.tree.get(directory) {
                Some(TreeNode::Directory(attributes)) => *attributes,
                Some(TreeNode::File | TreeNode::Link(_)) => {
                    return Err(TreeError::NotADirectory(directory.to_owned()).into());
                }
                None => {
                    created = true;
                    let attributes = Attributes {
                        mode: 0o755,
                        uid: owner.uid,
                        gid: owner.gid,
                    };
                    self.tree.put(directory, TreeNode::Directory(attributes));
                    attributes
                }
            };
            // Existing directories are repeated with their attributes. A tool that unpacks only
            // this layer would otherwise create them with default attributes.
            let Attributes { mode, uid, gid } = attributes;
            let modified = self.modified;
            self.plan
                .entries
                .entry(directory.to_owned())
                .or_insert(LayerEntry {
                    kind: EntryKind::Directory,
                    mode,
                    uid,
                    gid,
                    modified,
                });
        }
        Ok(created)
    }

    /// Adds an entry at `path` and returns its final path.
    ///
    /// The parent directory of `path` must be resolved. The final path differs from `path` if a
    /// directory is added at an existing link: the target of the link is used.
    pub(super) fn add(&mut self, path: &str, entry: LayerEntry) -> Result<String, PlanError> {
        let name = path.rsplit('/').next().unwrap_or(path);
        if name.starts_with(".wh.") {
            return Err(PlanError::Whiteout(path.to_owned()));
        }
        match (self.tree.get(path), &entry.kind) {
            (Some(TreeNode::Directory(_)), EntryKind::File(_) | EntryKind::Link(_)) => {
                return Err(TreeError::IsDirectory(path.to_owned()).into());
            }
            (Some(TreeNode::File), EntryKind::Directory) => {
                return Err(TreeError::NotADirectory(path.to_owned()).into());
            }
            (Some(TreeNode::Link(_)), EntryKind::Directory) => {
                let target = self.tree.resolve(path, LinkHandling::Follow)?;
                self.ensure_directory(
                    &target,
                    Owner {
                        uid: entry.uid,
                        gid: entry.gid,
                    },
                )?;
                return Ok(target);
            }
            _ => {}
        }
        self.ensure_directory(parent(path), Owner::default())?;
        let node = match &entry.kind {
            EntryKind::Directory => TreeNode::Directory(Attributes {
                mode: entry.mode,
                uid: entry.uid,
                gid: entry.gid,
            }),
            EntryKind::File(_) => TreeNode::File,
            EntryKind::Link(target) => TreeNode::Link(target.clone()),
        };
        self.tree.put(path, node);
        self.plan.entries.insert(path.to_owned(), entry);
        Ok(path.to_owned())
    }
}
