//! Check of the keys of `retention` that name images which others need. They apply to the whole
//! cleanup and are set in the general rules only.

use super::reader::{Fields, Located};
use crate::config::{KeeperConfig, RepositoryPattern};

/// Keys that overrides of an image or entry must not have.
const GENERAL_KEYS: [&str; 1] = ["foreign_bases"];

/// Reads the keys of the general rules.
pub(super) fn read(fields: &Fields<'_>) -> KeeperConfig {
    KeeperConfig {
        foreign_bases: patterns(fields, "foreign_bases"),
    }
}

/// Reports keys of the general rules in the rules of an image or entry.
pub(super) fn reject(fields: &Fields<'_>) {
    for key in GENERAL_KEYS.into_iter().filter(|key| fields.has(key)) {
        fields.context.error(
            &fields.location(key),
            format!("`{key}` applies to the whole cleanup"),
            "move it to the `retention` at the top level of the file",
        );
    }
}

/// Returns the patterns of a list, with directories resolved against the directory of the file.
fn patterns(fields: &Fields<'_>, name: &str) -> Vec<RepositoryPattern> {
    let items: Vec<Located<RepositoryPattern>> = fields.list(name).unwrap_or_default();
    let resolved = items.into_iter().map(|item| {
        let directory = fields.context.directory.to_string_lossy();
        match item.value.text.strip_prefix("ocidir://") {
            Some(path) if !path.starts_with('/') => {
                let text = format!(
                    "ocidir://{}/{}",
                    globset::escape(directory.trim_end_matches('/')),
                    path.trim_start_matches("./")
                );
                RepositoryPattern::new(&text).unwrap_or(item.value)
            }
            _ => item.value,
        }
    });
    resolved.collect()
}
