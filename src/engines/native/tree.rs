//! The file system of an image, as far as placing files in it needs it: directories with their
//! modes, links, and where files are.
//!
//! Paths are absolute within the image, without a slash in front, and without `.` and `..`; the top
//! is the empty path.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How many links are followed on one way, as in Linux.
const MOST_LINKS: usize = 40;

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Node {
    #[serde(rename = "d")]
    Directory(Attributes),
    /// Anything that has no place for others in it.
    #[serde(rename = "f")]
    File,
    #[serde(rename = "l")]
    Link(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
}

/// What a layer does at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Change {
    #[serde(rename = "p")]
    Put(Node),
    /// What the layers below have there is gone.
    #[serde(rename = "g")]
    Gone,
    /// What the layers below have in the directory is gone.
    #[serde(rename = "o")]
    Emptied,
}

/// What a layer does to what is below it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listing {
    pub(super) changes: Vec<(String, Change)>,
    pub(super) passwd: Option<String>,
    pub(super) group: Option<String>,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum TreeError {
    #[error("the image's links at `/{0}` lead in a circle")]
    Circle(String),
    #[error("`/{0}` is no directory in the image")]
    NoDirectory(String),
    #[error("`/{0}` is a directory in the image")]
    IsDirectory(String),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    nodes: BTreeMap<String, Node>,
    pub(super) passwd: Option<String>,
    pub(super) group: Option<String>,
}

impl Tree {
    /// Puts a layer on top.
    pub(super) fn apply(&mut self, listing: &Listing) {
        // What a layer takes away is what is below it, wherever in the layer that is written.
        for (path, change) in &listing.changes {
            match change {
                Change::Put(_) => {}
                Change::Gone => self.remove(path),
                Change::Emptied => self.empty(path),
            }
        }
        for (path, change) in &listing.changes {
            if let Change::Put(node) = change {
                // A way that leads in a circle cannot be gone; what is there cannot be reached.
                if let Ok(path) = self.resolve(path, Last::Kept) {
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

    fn put_with_parents(&mut self, path: &str, node: &Node) {
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            if !matches!(self.nodes.get(parent), Some(Node::Directory(_))) {
                self.nodes.insert(
                    parent.to_owned(),
                    Node::Directory(Attributes {
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

    pub(super) fn get(&self, path: &str) -> Option<&Node> {
        const TOP: &Node = &Node::Directory(Attributes {
            mode: 0o755,
            uid: 0,
            gid: 0,
        });
        if path.is_empty() {
            Some(TOP)
        } else {
            self.nodes.get(path)
        }
    }

    /// Puts `node` at `path`, in place of what was there and in it.
    pub(super) fn put(&mut self, path: &str, node: Node) {
        let before = self.nodes.insert(path.to_owned(), node);
        if matches!(before, Some(Node::Directory(_)))
            && !matches!(self.nodes.get(path), Some(Node::Directory(_)))
        {
            self.empty(path);
        }
    }

    fn remove(&mut self, path: &str) {
        self.empty(path);
        self.nodes.remove(path);
    }

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

    /// Returns where `path` is once the links on its way are followed. What is not there is taken
    /// for directories to be made.
    pub(super) fn resolve(&self, path: &str, last: Last) -> Result<String, TreeError> {
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
                Some(Node::Link(target)) if !is_last || last == Last::Followed => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(TreeError::Circle(path.trim_matches('/').to_owned()));
                    }
                    resolved.truncate(if target.starts_with('/') { 0 } else { parent });
                    rest.extend(target.split('/').rev());
                }
                Some(Node::File) if !is_last => return Err(TreeError::NoDirectory(resolved)),
                _ => {}
            }
        }
        Ok(resolved)
    }
}

/// Whether a link at the end of a way is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    Followed,
    Kept,
}

pub(super) fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() {
        name.to_owned()
    } else {
        format!("{directory}/{name}")
    }
}

/// Returns the directory that `path` is in.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> Node {
        Node::Directory(Attributes {
            mode: 0o755,
            uid: 0,
            gid: 0,
        })
    }

    fn listing<const N: usize>(changes: [(&str, Change); N]) -> Listing {
        Listing {
            changes: changes
                .map(|(path, change)| (path.to_owned(), change))
                .to_vec(),
            ..Listing::default()
        }
    }

    fn link(target: &str) -> Change {
        Change::Put(Node::Link(target.to_owned()))
    }

    #[test]
    fn ways_lead_through_the_links_of_the_image() {
        let mut tree = Tree::default();
        tree.apply(&listing([
            ("usr/bin", Change::Put(directory())),
            ("bin", link("usr/bin")),
            ("abs", link("/usr")),
            ("usr/up", link("../../../bin")),
            ("a", link("b")),
            ("b", link("a")),
            ("file", Change::Put(Node::File)),
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
                tree.resolve(path, Last::Followed).as_deref(),
                Ok(expected),
                "{path}"
            );
        }
        assert_eq!(tree.resolve("bin", Last::Kept).as_deref(), Ok("bin"));
        assert_eq!(
            tree.resolve("a/x", Last::Followed),
            Err(TreeError::Circle("a/x".to_owned()))
        );
        assert_eq!(
            tree.resolve("file/x", Last::Followed),
            Err(TreeError::NoDirectory("file".to_owned()))
        );
    }

    #[test]
    fn layers_take_away_what_is_below_them_only() {
        let mut tree = Tree::default();
        tree.apply(&listing([
            ("d/a", Change::Put(directory())),
            ("d/b", Change::Put(Node::File)),
            ("gone/x", Change::Put(Node::File)),
            ("gone-not", Change::Put(Node::File)),
            ("lib", link("usr/lib")),
        ]));
        tree.apply(&listing([
            ("d/new", Change::Put(Node::File)),
            ("d", Change::Emptied),
            ("gone", Change::Gone),
            ("lib/x", Change::Put(Node::File)),
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
        tree.put("d", Node::File);
        assert!(tree.get("d/new").is_none());
    }
}
