//! Other layouts next to a layout.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::operation::{LayoutOperation, WORK_DIRECTORY};
use crate::error::{ItemError, ItemErrorKind};
use crate::model::Repository;

/// Maximum depth below the parent directory.
const MAX_DEPTH: usize = 16;

/// Maximum number of directories that are searched.
const MAX_DIRECTORIES: usize = 100_000;

/// Returns the layouts below the parent directory of a layout, sorted. Does not follow symbolic
/// links.
pub(super) fn list(operation: &LayoutOperation) -> Result<Vec<Repository>, ItemError> {
    let Some(parent) = operation.directory.parent() else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    let mut pending = vec![(parent.to_path_buf(), 0)];
    let mut count = 0;
    while let Some((directory, depth)) = pending.pop() {
        let here = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &directory
        };
        let entries = match fs::read_dir(here) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(|error| operation.storage(&directory, error))?,
        };
        let is_layout = is_layout(here);
        if is_layout && depth > 0 {
            found.push(Repository::Layout {
                directory: directory.clone(),
            });
        }
        for entry in entries {
            let entry = entry.map_err(|error| operation.storage(&directory, error))?;
            let is_inside =
                is_layout && (entry.file_name() == "blobs" || entry.file_name() == WORK_DIRECTORY);
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_directory && !is_inside && depth < MAX_DEPTH {
                count += 1;
                pending.push((directory.join(entry.file_name()), depth + 1));
            }
        }
        if count > MAX_DIRECTORIES {
            let detail = format!(
                "there are more than {MAX_DIRECTORIES} directories below {}",
                parent.display()
            );
            return Err(operation.error(ItemErrorKind::Refused, detail));
        }
    }
    found.sort();
    Ok(found)
}

fn is_layout(directory: &Path) -> bool {
    fs::symlink_metadata(directory.join("oci-layout")).is_ok_and(|found| found.is_file())
}
