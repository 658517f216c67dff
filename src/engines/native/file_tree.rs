//! The file system of an image, with the information that is needed to add files: directories with
//! their attributes, symbolic links, and the paths of files.
//!
//! Paths are relative to the root of the image, without a leading slash, `.` and `..`. The root is
//! the empty path.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Maximum number of symbolic links in the resolution of one path, as in Linux.
const MAX_LINKS: usize = 40;

/// A node of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum TreeNode {
    #[serde(rename = "d")]
    Directory(Attributes),
    /// Anything else: a regular file, a device and so on.
    #[serde(rename = "f")]
    File,
    /// A symbolic link with its target.
    #[serde(rename = "l")]
    Link(String),
}

/// Mode and owner of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
}

/// Change of one path by a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum LayerChange {
    /// Adds or replaces a node.
    #[serde(rename = "p")]
    Put(TreeNode),
    /// Deletes the node of lower layers (whiteout).
    #[serde(rename = "g")]
    Delete,
    /// Deletes the content of a directory of lower layers (opaque whiteout).
    #[serde(rename = "o")]
    Clear,
}

/// All changes of a layer to the layers below it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerListing {
    /// Changes with their paths, in the order of the layer.
    pub(super) changes: Vec<(String, LayerChange)>,
    /// Content of `/etc/passwd`, if the layer has it.
    pub(super) passwd: Option<String>,
    /// Content of `/etc/group`, if the layer has it.
    pub(super) group: Option<String>,
}

/// Error for a path that cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum TreeError {
    #[error("the symbolic links at `/{0}` in the image form a loop")]
    LinkLoop(String),
    #[error("`/{0}` is not a directory in the image")]
    NotADirectory(String),
    #[error("`/{0}` is a directory in the image")]
    IsDirectory(String),
}

/// The file system of an image.
#[derive(Clone, Debug, Default)]
pub(super) struct FileTree {
    nodes: BTreeMap<String, TreeNode>,
    /// Content of `/etc/passwd`.
    pub(super) passwd: Option<String>,
    /// Content of `/etc/group`.
    pub(super) group: Option<String>,
}

impl FileTree {
    /// Applies a layer.
    pub(super) fn apply(&mut self, listing: &LayerListing) {
        // Whiteouts affect only lower layers, wherever they are in the layer.
        for (path, change) in &listing.changes {
            match change {
                LayerChange::Put(_) => {}
                LayerChange::Delete => self.remove(path),
                LayerChange::Clear => self.empty(path),
            }
        }
        for (path, change) in &listing.changes {
            if let LayerChange::Put(node) = change {
                // A path in a loop of links is unreachable, so it is skipped.
                if let Ok(path) = self.resolve(path, LinkHandling::Keep) {
                    self.put_with_parents(&path, node);
                }
            }
        }
        for (path, known, new) in [
            ("etc/passwd", &mut self.passwd, &listing.passwd),
            ("etc/group", &mut self.group, &listing.group),
        ] {
            if new.is_some() || !self.nodes.contains_key(path) {
                known.clone_from(new);
            }
        }
    }

    /// Adds a node and the missing parent directories.
    fn put_with_parents(&mut self, path: &str, node: &TreeNode) {
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            if !matches!(self.nodes.get(parent), Some(TreeNode::Directory(_))) {
                self.nodes.insert(
                    parent.to_owned(),
                    TreeNode::Directory(Attributes {
                        mode: 0o755,
                        uid: 0,
                        gid: 0,
                    }),
                );
            }
        }
        if !path.is_empty() {
            self.put(path, node.clone());
        }
    }

    /// Returns the node at a path, or `None` if there is none.
    pub(super) fn get(&self, path: &str) -> Option<&TreeNode> {
        const ROOT: &TreeNode = &TreeNode::Directory(Attributes {
            mode: 0o755,
            uid: 0,
            gid: 0,
        });
        if path.is_empty() {
            Some(ROOT)
        } else {
            self.nodes.get(path)
        }
    }

    /// Adds `node` at `path`. Replaces an existing node and, if that was a directory, its content.
    pub(super) fn put(&mut self, path: &str, node: TreeNode) {
        let before = self.nodes.insert(path.to_owned(), node);
        if matches!(before, Some(TreeNode::Directory(_)))
            && !matches!(self.nodes.get(path), Some(TreeNode::Directory(_)))
        {
            self.empty(path);
        }
    }

    /// Removes a node and its content.
    fn remove(&mut self, path: &str) {
        self.empty(path);
        self.nodes.remove(path);
    }

    /// Removes the content of a directory.
    fn empty(&mut self, path: &str) {
        if path.is_empty() {
            self.nodes.clear();
            return;
        }
        let first = format!("{path}/");
        let inside: Vec<String> = self
            .nodes
            .range(first.clone()..)
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&first))
            .cloned()
            .collect();
        for path in inside {
            self.nodes.remove(&path);
        }
    }

    /// Resolves the symbolic links in `path`. Missing components count as directories.
    ///
    /// `last` decides if a link at the end of the path is followed.
    pub(super) fn resolve(&self, path: &str, last: LinkHandling) -> Result<String, TreeError> {
        let mut rest: Vec<&str> = path.split('/').rev().collect();
        let mut resolved = String::new();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            match part {
                "" | "." => continue,
                ".." => {
                    resolved.truncate(resolved.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let parent = resolved.len();
            resolved = join(&resolved, part);
            let is_last = rest.iter().all(|part| matches!(*part, "" | "."));
            match self.nodes.get(&resolved) {
                Some(TreeNode::Link(target)) if !is_last || last == LinkHandling::Follow => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(TreeError::LinkLoop(path.trim_matches('/').to_owned()));
                    }
                    resolved.truncate(if target.starts_with('/') { 0 } else { parent });
                    rest.extend(target.split('/').rev());
                }
                Some(TreeNode::File) if !is_last => return Err(TreeError::NotADirectory(resolved)),
                _ => {}
            }
        }
        Ok(resolved)
    }
}

/// Handling of a symbolic link at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkHandling {
    Follow,
    Keep,
}

/// Returns the path of `name` in `directory`.
pub(super) fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() {
        name.to_owned()
    } else {
        format!("{directory}/{name}")
    }
}

/// Returns the parent directory of `path`.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> TreeNode {
        TreeNode::Directory(Attributes {
            mode: 0o755,
            uid: 0,
            gid: 0,
        })
    }

    fn listing<const N: usize>(changes: [(&str, LayerChange); N]) -> LayerListing {
        LayerListing {
            changes: changes
                .map(|(path, change)| (path.to_owned(), change))
                .to_vec(),
            ..LayerListing::default()
        }
    }

    fn link(target: &str) -> LayerChange {
        LayerChange::Put(TreeNode::Link(target.to_owned()))
    }

    #[test]
    fn resolve_follows_symbolic_links() {
        let mut tree = FileTree::default();
        tree.apply(&listing([
            ("usr/bin", LayerChange::Put(directory())),
            ("bin", link("usr/bin")),
            ("abs", link("/usr")),
            ("usr/up", link("../../../bin")),
            ("a", link("b")),
            ("b", link("a")),
            ("file", LayerChange::Put(TreeNode::File)),
        ]));
        for (path, expected) in [
            ("/bin/x", "usr/bin/x"),
            ("abs/bin/../up/x", "usr/bin/x"),
            ("bin", "usr/bin"),
            ("bin/", "usr/bin"),
            ("new/way", "new/way"),
            ("../../x", "x"),
            ("", ""),
        ] {
            assert_eq!(
                tree.resolve(path, LinkHandling::Follow).as_deref(),
                Ok(expected),
                "{path}"
            );
        }
        assert_eq!(
            tree.resolve("bin", LinkHandling::Keep).as_deref(),
            Ok("bin")
        );
        assert_eq!(
            tree.resolve("a/x", LinkHandling::Follow),
            Err(TreeError::LinkLoop("a/x".to_owned()))
        );
        assert_eq!(
            tree.resolve("file/x", LinkHandling::Follow),
            Err(TreeError::NotADirectory("file".to_owned()))
        );
    }

    #[test]
    fn apply_deletes_only_from_lower_layers() {
        let mut tree = FileTree::default();
        tree.apply(&listing([
            ("d/a", LayerChange::Put(directory())),
            ("d/b", LayerChange::Put(TreeNode::File)),
            ("gone/x", LayerChange::Put(TreeNode::File)),
            ("gone-not", LayerChange::Put(TreeNode::File)),
            ("lib", link("usr/lib")),
        ]));
        tree.apply(&listing([
            ("d/new", LayerChange::Put(TreeNode::File)),
            ("d", LayerChange::Clear),
            ("gone", LayerChange::Delete),
            ("lib/x", LayerChange::Put(TreeNode::File)),
        ]));
        for (path, there) in [
            ("d", true),
            ("d/a", false),
            ("d/new", true),
            ("gone", false),
            ("gone/x", false),
            ("gone-not", true),
            ("usr/lib/x", true),
        ] {
            assert_eq!(tree.get(path).is_some(), there, "{path}");
        }
        tree.put("d", TreeNode::File);
        assert!(tree.get("d/new").is_none());
    }
}
