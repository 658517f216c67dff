//! Which other layouts there are.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::operation::{Operation, WORKSHOP};
use crate::error::{ItemError, ItemErrorKind};
use crate::model::Repository;

/// How far below a directory layouts are looked for.
const DEEPEST: usize = 16;

const MOST_DIRECTORIES: usize = 100_000;

/// Returns the layouts below the directory that the one of `operation` is in, in order. Symbolic
/// links are not followed.
pub(super) fn beside(operation: &Operation) -> Result<Vec<Repository>, ItemError> {
    let Some(parent) = operation.directory.parent() else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    let mut ahead = vec![(parent.to_path_buf(), 0)];
    let mut count = 0;
    while let Some((directory, depth)) = ahead.pop() {
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
                is_layout && (entry.file_name() == "blobs" || entry.file_name() == WORKSHOP);
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_directory && !is_inside && depth < DEEPEST {
                count += 1;
                ahead.push((directory.join(entry.file_name()), depth + 1));
            }
        }
        if count > MOST_DIRECTORIES {
            let detail = format!(
                "there are more than {MOST_DIRECTORIES} directories below {}",
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
