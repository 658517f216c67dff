//! The check of `--only`, for all commands with that option.

use std::path::Path;

use crate::error::Failure;
use crate::steps::shard::Only;

/// Returns the patterns of `--only`, relative to `directory`, after checking them.
///
/// `names` are the names that each item can be selected by, the most common one first. Fails with
/// a usage error when a pattern is malformed or matches no item. The hint is `hint`, then the first
/// name of each item.
pub(super) fn checked_only(
    patterns: &[String],
    directory: &Path,
    names: &[Vec<String>],
    hint: &str,
) -> Result<Only, Failure> {
    let only = Only::below(patterns, directory).map_err(Failure::usage)?;
    only.check(names).map_err(|error| {
        let mut first_names: Vec<&str> = names
            .iter()
            .filter_map(|names| names.first())
            .map(String::as_str)
            .collect();
        first_names.sort_unstable();
        first_names.dedup();
        Failure::usage(error).hint(format!("{hint}: {}", first_names.join(", ")))
    })?;
    Ok(only)
}
