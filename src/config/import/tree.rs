//! Reading of a YAML tree without a table of keys.

use crate::config::raw::{YamlContent, YamlNode};

/// A value of a file, or nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree<'a>(Option<&'a YamlNode>);

impl<'a> Tree<'a> {
    pub(super) fn of(node: &'a YamlNode) -> Tree<'a> {
        Tree(Some(node))
    }

    /// Returns the value of a key; nothing if there is none.
    pub(super) fn get(self, key: &str) -> Tree<'a> {
        let found = self.pairs().into_iter().find(|(name, _)| *name == key);
        found.map_or(Tree(None), |(_, value)| value)
    }

    /// Returns the keys and values of a mapping.
    pub(super) fn pairs(self) -> Vec<(&'a str, Tree<'a>)> {
        match self.0.map(|node| &node.content) {
            Some(YamlContent::Mapping(pairs)) => pairs
                .iter()
                .map(|pair| (&*pair.key.text, Tree(Some(&pair.value))))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Returns the items of a list.
    pub(super) fn items(self) -> Vec<Tree<'a>> {
        match self.0.map(|node| &node.content) {
            Some(YamlContent::Sequence(items)) => {
                items.iter().map(|item| Tree(Some(item))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns the text of a scalar.
    pub(super) fn text(self) -> Option<&'a str> {
        match self.0.map(|node| &node.content) {
            Some(YamlContent::Scalar(text)) => Some(text),
            _ => None,
        }
    }

    /// Returns the texts of a list, or of a single scalar.
    pub(super) fn texts(self) -> Vec<&'a str> {
        match self.text() {
            Some(text) => vec![text],
            None => self.items().into_iter().filter_map(Tree::text).collect(),
        }
    }

    pub(super) fn is_true(self) -> bool {
        self.text() == Some("true")
    }
}
