//! Conversion of the files of other mirroring tools to `imglife.yaml`.
//!
//! `regsync`, `skopeo`, `dregsy` and `image_syncer` read one format each; `output` writes the file.
//! What has no equivalent becomes a comment beside the entry that it belongs to.

mod dregsy;
mod image_syncer;
mod output;
mod regsync;
mod skopeo;
mod tree;

use thiserror::Error;

use super::errors::ConfigErrors;
use super::raw;
use super::source_text::SourceText;
use tree::Tree;

/// Prefix of targets in files that do not contain their targets.
pub const DEFAULT_TARGET_PREFIX: &str = "registry.example.com/mirrors";

/// Tool that a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportedTool {
    Regsync,
    Skopeo,
    Dregsy,
    ImageSyncer,
}

impl ImportedTool {
    /// Returns the name of the tool.
    pub fn name(self) -> &'static str {
        match self {
            ImportedTool::Regsync => "regsync",
            ImportedTool::Skopeo => "skopeo sync",
            ImportedTool::Dregsy => "dregsy",
            ImportedTool::ImageSyncer => "image-syncer",
        }
    }
}

/// A converted file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedFile {
    pub tool: ImportedTool,
    /// The text of an `imglife.yaml`.
    pub text: String,
    pub entries: usize,
    /// Settings without an equivalent, which the text has as comments.
    pub remarks: Vec<String>,
}

/// Reason why a file cannot be converted.
#[derive(Debug, Error)]
pub enum ImportError {
    #[error(transparent)]
    Yaml(#[from] ConfigErrors),
    #[error("{name} is not a file of regsync, skopeo sync, dregsy or image-syncer")]
    UnknownFormat { name: String },
    #[error("{name} contains no image that can be mirrored")]
    Empty { name: String },
}

/// Converts a file. `target_prefix` is the start of the targets if the file does not contain any.
pub fn import(source: &SourceText, target_prefix: &str) -> Result<ImportedFile, ImportError> {
    let node = raw::read(&source.text)
        .map_err(|finding| ConfigErrors::new(&source.name, &source.text, vec![finding], 0))?;
    let root = Tree::of(&node);
    let Some(tool) = detect(&root) else {
        return Err(ImportError::UnknownFormat {
            name: source.name.clone(),
        });
    };
    let file = match tool {
        ImportedTool::Regsync => regsync::convert(&root),
        ImportedTool::Skopeo => skopeo::convert(&root, target_prefix),
        ImportedTool::Dregsy => dregsy::convert(&root),
        ImportedTool::ImageSyncer => image_syncer::convert(&root),
    };
    if file.entries.is_empty() && file.remarks.is_empty() {
        return Err(ImportError::Empty {
            name: source.name.clone(),
        });
    }
    Ok(ImportedFile {
        tool,
        text: file.text(tool.name()),
        entries: file.entries.len(),
        remarks: file.all_remarks(),
    })
}

/// Returns the tool that a file is for.
fn detect(root: &Tree<'_>) -> Option<ImportedTool> {
    let is_skopeo = |tree: &Tree<'_>| {
        ["images", "images-by-tag-regex", "images-by-semver"]
            .into_iter()
            .any(|key| !tree.get(key).pairs().is_empty())
    };
    if !root.get("sync").items().is_empty() {
        Some(ImportedTool::Regsync)
    } else if !root.get("tasks").items().is_empty() {
        Some(ImportedTool::Dregsy)
    } else if root.pairs().iter().any(|(_, value)| is_skopeo(value)) {
        Some(ImportedTool::Skopeo)
    } else if root.pairs().iter().any(|(key, value)| {
        key.contains('/') && (value.text().is_some() || !value.items().is_empty())
    }) {
        Some(ImportedTool::ImageSyncer)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
