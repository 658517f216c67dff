//! Containment of paths: whether a path leads out of a directory, and through which symbolic link.
//!
//! Paths are followed as the operating system does, component by component. Files that do not exist
//! yet count as if they did.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Entry by which the root of a git checkout is recognised. It is a file in worktrees and
/// submodules.
const GIT_DIRECTORY: &str = ".git";

/// Returns the root of the git checkout that contains `directory`, or `directory` itself if there
/// is none.
pub fn checkout_root(directory: &Path) -> PathBuf {
    let resolved = directory
        .canonicalize()
        .unwrap_or_else(|_| directory.to_owned());
    resolved
        .ancestors()
        .find(|ancestor| ancestor.join(GIT_DIRECTORY).symlink_metadata().is_ok())
        .unwrap_or(&resolved)
        .to_owned()
}

/// Returns true if `path` is outside of `root`, or leads out of it by `..` or a symbolic link.
pub fn leads_out(root: &Path, path: &Path) -> bool {
    !follow(path, |_, _| ()).starts_with(real(root))
}

/// Returns the first symbolic link below `root` through which `path` leaves it; `None` if there is
/// none. A path that is outside from the beginning leaves nothing.
pub fn link_out_of(root: &Path, path: &Path) -> Option<PathBuf> {
    let root = real(root);
    let mut found = None;
    follow(path, |link, target| {
        if found.is_none() && link.starts_with(&root) && !target.starts_with(&root) {
            found = Some(link.to_owned());
        }
    });
    found
}

fn real(root: &Path) -> PathBuf {
    follow(root, |_, _| ())
}

/// Returns the absolute path that `path` leads to. Calls `on_link` with each symbolic link on the
/// way and its target.
fn follow(path: &Path, mut on_link: impl FnMut(&Path, &Path)) -> PathBuf {
    let mut current = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::RootDir | Component::Prefix(_) => current = PathBuf::from("/"),
            Component::CurDir => {}
            Component::ParentDir => {
                current.pop();
            }
            Component::Normal(name) => {
                let next = current.join(name);
                current = match fs::read_link(&next) {
                    Err(_) => next,
                    Ok(link) => {
                        let target = next
                            .canonicalize()
                            .unwrap_or_else(|_| lexical(&current.join(link)));
                        on_link(&next, &target);
                        target
                    }
                };
            }
        }
    }
    current
}

/// Returns a path without `.` and `..`, for links whose target does not exist.
fn lexical(path: &Path) -> PathBuf {
    let mut found = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                found.pop();
            }
            Component::CurDir => {}
            other => found.push(other),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// Returns a checkout with links in a directory with other things.
    fn world() -> (TempDir, PathBuf) {
        let world = tempfile::tempdir().expect("a directory");
        let root = world.path().join("checkout");
        fs::create_dir_all(root.join("images/alpine")).expect("a directory");
        fs::create_dir(root.join(".git")).expect("a directory");
        fs::create_dir(world.path().join("other")).expect("a directory");
        symlink("images", root.join("inner")).expect("a link");
        symlink("../other", root.join("outer")).expect("a link");
        symlink("../none/file", root.join("dangling")).expect("a link");
        symlink("outer", root.join("twice")).expect("a link");
        symlink(&root, world.path().join("entry")).expect("a link");
        (world, root)
    }

    #[test]
    fn paths_lead_out_by_dots_links_and_absolute_names() {
        let (world, root) = world();
        for path in [
            "images",
            "images/../new",
            "inner/alpine/Dockerfile",
            "none/at/all",
            ".",
        ] {
            assert!(!leads_out(&root, &root.join(path)), "{path}");
        }
        for path in [
            "..",
            "images/../../other",
            "outer",
            "outer/x",
            "dangling",
            "twice/x",
            "/etc",
            "inner/../../other",
        ] {
            assert!(leads_out(&root, &root.join(path)), "{path}");
        }
        assert!(!leads_out(&root, &world.path().join("entry/images")));
    }

    #[test]
    fn only_links_of_the_checkout_count() {
        let (world, root) = world();
        for (path, link) in [
            ("outer/x", Some("outer")),
            ("images/../dangling", Some("dangling")),
            ("twice", Some("twice")),
            ("inner/x", None),
            ("../other", None),
            ("/etc/passwd", None),
        ] {
            assert_eq!(
                link_out_of(&root, &root.join(path)),
                link.map(|link| real(&root).join(link)),
                "{path}"
            );
        }
        let through = world.path().join("entry/outer/x");
        assert!(link_out_of(&root, &through).is_some());
    }

    #[test]
    fn the_root_is_the_checkout_or_the_directory_itself() {
        let (world, root) = world();
        assert_eq!(checkout_root(&root.join("images")), real(&root));
        let other = world.path().join("other");
        assert_eq!(checkout_root(&other), real(&other));
    }
}
