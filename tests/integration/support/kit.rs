//! Tools for tests of the CI components and actions, installed by `tests/setup.sh`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::servers::installed;

/// Returns the path of a tool that is installed as a Python package.
pub(crate) fn tool(name: &str) -> PathBuf {
    let tool = installed("../python/bin").join(name);
    assert!(
        tool.is_file(),
        "`{name}` is not installed: run `make setup`"
    );
    tool
}

/// Fails the test if a file does not match a built-in schema of `check-jsonschema`.
pub(crate) fn follows_schema(schema: &[&str], files: &[PathBuf]) {
    assert!(!files.is_empty());
    let output = Command::new(tool("check-jsonschema"))
        .arg("--builtin-schema")
        .args(schema)
        .args(files)
        .output()
        .expect("check-jsonschema runs");
    assert!(
        output.status.success(),
        "{files:?}\n{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// Returns the absolute path of a file of the project.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Returns all files below a directory, sorted by path.
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
