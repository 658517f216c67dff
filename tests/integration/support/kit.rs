//! The tools that the kits for CI servers are tested with, where `tests/setup.sh` puts them.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::servers::installed;

/// Returns a tool that is written in Python, or packed as if it were.
pub(crate) fn tool(name: &str) -> PathBuf {
    let tool = installed("../python/bin").join(name);
    assert!(
        tool.is_file(),
        "`{name}` is not installed: run `make setup`"
    );
    tool
}

/// Fails the test where a file does not follow a schema that `check-jsonschema` brings.
pub(crate) fn follows_schema(schema: &[&str], files: &[PathBuf]) {
    assert!(!files.is_empty());
    let output = Command::new(tool("check-jsonschema"))
        .arg("--builtin-schema")
        .args(schema)
        .args(files)
        .output()
        .expect("to run it");
    assert!(
        output.status.success(),
        "{files:?}\n{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// Returns something of the project itself.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Returns the files below a directory of the project, by their path from there.
pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}
