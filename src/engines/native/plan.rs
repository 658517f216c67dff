//! What is in a layer before it is written: paths with their content, kind, owner and mode.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use super::tree::{Attributes, Last, Node, Tree, TreeError, parent};
use crate::model::text::excerpt;

/// A layer to write. Equal plans give equal layers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    pub(super) entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// In seconds since 1970.
    pub(super) modified: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Directory,
    File(Content),
    Link(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Content {
    Disk {
        path: PathBuf,
        size: u64,
    },
    Text(Arc<str>),
    /// Out of an archive. Entries of one number are names of one file.
    Spooled {
        spool: Spool,
        number: usize,
        offset: u64,
        size: u64,
    },
}

/// The unpacked files of one archive; the same as no other.
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

/// Whom new files belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u64,
    pub(super) gid: u64,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum PlanError {
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error("`{}` is a name that means a removed file in a layer", excerpt(.0, 120))]
    Whiteout(String),
}

/// A plan that grows, on top of the files that are there already.
pub(super) struct Drafting<'a> {
    pub(super) tree: &'a mut Tree,
    pub(super) plan: Plan,
    /// The time that directories are of which are made on the way, in seconds since 1970.
    pub(super) modified: u64,
}

impl Drafting<'_> {
    /// Makes `path`, which is resolved, a directory with those around it, and returns whether it
    /// had to be made.
    pub(super) fn ensure_directory(&mut self, path: &str, owner: Owner) -> Result<bool, PlanError> {
        let ends = path
            .match_indices('/')
            .map(|(end, _)| end)
            .chain((!path.is_empty()).then_some(path.len()));
        let mut made = false;
        for directory in ends.map(|end| &path[..end]).collect::<Vec<_>>() {
            let attributes = match self.tree.get(directory) {
                Some(Node::Directory(attributes)) => *attributes,
                Some(Node::File | Node::Link(_)) => {
                    return Err(TreeError::NoDirectory(directory.to_owned()).into());
                }
                None => {
                    made = true;
                    let attributes = Attributes {
                        mode: 0o755,
                        uid: owner.uid,
                        gid: owner.gid,
                    };
                    self.tree.put(directory, Node::Directory(attributes));
                    attributes
                }
            };
            // Those that are there already are repeated as they are: who unpacks the layer alone
            // would make them up otherwise.
            let Attributes { mode, uid, gid } = attributes;
            let modified = self.modified;
            self.plan
                .entries
                .entry(directory.to_owned())
                .or_insert(Entry {
                    kind: Kind::Directory,
                    mode,
                    uid,
                    gid,
                    modified,
                });
        }
        Ok(made)
    }

    /// Puts something at `path`, of which all but the last part is resolved and there, and returns
    /// where it came to be: a directory goes to where a link leads that is there.
    pub(super) fn place(&mut self, path: &str, entry: Entry) -> Result<String, PlanError> {
        let name = path.rsplit('/').next().unwrap_or(path);
        if name.starts_with(".wh.") {
            return Err(PlanError::Whiteout(path.to_owned()));
        }
        match (self.tree.get(path), &entry.kind) {
            (Some(Node::Directory(_)), Kind::File(_) | Kind::Link(_)) => {
                return Err(TreeError::IsDirectory(path.to_owned()).into());
            }
            (Some(Node::File), Kind::Directory) => {
                return Err(TreeError::NoDirectory(path.to_owned()).into());
            }
            (Some(Node::Link(_)), Kind::Directory) => {
                let target = self.tree.resolve(path, Last::Followed)?;
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
            Kind::Directory => Node::Directory(Attributes {
                mode: entry.mode,
                uid: entry.uid,
                gid: entry.gid,
            }),
            Kind::File(_) => Node::File,
            Kind::Link(target) => Node::Link(target.clone()),
        };
        self.tree.put(path, node);
        self.plan.entries.insert(path.to_owned(), entry);
        Ok(path.to_owned())
    }
}
